//! Writes payloads of Sparkplug B for tests and benches, byte by byte after the schema: what reads them must not be
//! what has written them. It stands by itself, as the tests of several crates have it.

/// A metric, field by field.
#[derive(Clone, Debug, Default)]
pub struct Metric(Vec<u8>);

/// Datatypes, by their numbers.
pub const INT32: u64 = 3;
pub const DOUBLE: u64 = 10;
pub const BOOLEAN: u64 = 11;
pub const STRING: u64 = 12;

impl Metric {
    pub fn named(name: &str) -> Self {
        Self::default().bytes(1, name.as_bytes())
    }

    pub fn with_alias(alias: u64) -> Self {
        Self::default().alias(alias)
    }

    pub fn alias(self, alias: u64) -> Self {
        self.varint(2, alias)
    }

    pub fn at(self, at_ms: u64) -> Self {
        self.varint(3, at_ms)
    }

    pub fn of(self, datatype: u64) -> Self {
        self.varint(4, datatype)
    }

    pub fn historical(self) -> Self {
        self.varint(5, 1)
    }

    pub fn null(self) -> Self {
        self.varint(7, 1)
    }

    pub fn int(self, number: i32) -> Self {
        self.varint(10, u64::from(number as u32))
    }

    pub fn long(self, number: u64) -> Self {
        self.varint(11, number)
    }

    pub fn double(mut self, number: f64) -> Self {
        varint(13 << 3 | 1, &mut self.0);
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    pub fn boolean(self, flag: bool) -> Self {
        self.varint(14, flag.into())
    }

    pub fn text(self, text: &str) -> Self {
        self.bytes(15, text.as_bytes())
    }

    pub fn template(self) -> Self {
        self.bytes(18, &[])
    }

    fn varint(mut self, field: u64, value: u64) -> Self {
        varint(field << 3, &mut self.0);
        varint(value, &mut self.0);
        self
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        length_delimited(field, bytes, &mut self.0);
        self
    }
}

/// A payload that was sent at a time, with its sequence number, if it has one.
pub fn payload(seq: Option<u64>, at_ms: u64, metrics: &[Metric]) -> Vec<u8> {
    let mut payload = Vec::new();
    varint(1 << 3, &mut payload);
    varint(at_ms, &mut payload);
    for metric in metrics {
        length_delimited(2, &metric.0, &mut payload);
    }
    if let Some(seq) = seq {
        varint(3 << 3, &mut payload);
        varint(seq, &mut payload);
    }
    payload
}

/// The metric that numbers the connection of an edge node.
pub fn bd_seq(number: u64) -> Metric {
    Metric::named("bdSeq").of(8).long(number)
}

fn length_delimited(field: u64, bytes: &[u8], out: &mut Vec<u8>) {
    varint(field << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
