//! What a checkpoint keeps of an edge node, as bytes. Without it, every edge node would have to be born again after a
//! restart before its aliases mean something.
//!
//! ```text
//!   version u8 | postcard: key, state, numbers, names, metrics of the node, devices with their metrics
//! ```
//! Each name stands once in a record; metrics say it by its number.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::certificate::{Certificate, Known, Names};
use super::node::{Births, Device, EdgeNode, State};
use crate::time::ArrivalTime;

/// Version of the record. It grows when the bytes of a record change their meaning.
const VERSION: u8 = 1;

/// Why the bytes are not the record of an edge node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// It is of a version that this program does not know.
    #[error(
        "the record of an edge node is of version {0}; this program reads up to version {VERSION}: use a newer one, or \
         let the edge node be born again"
    )]
    Newer(u8),
    /// It is cut off, or not one that was written.
    #[error("the record of an edge node is damaged: {0}; the edge node must be born again")]
    Damaged(String),
}

#[derive(Serialize, Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    key: &'a str,
    state: State,
    seq: u8,
    bd_seq: Option<u64>,
    asked_at: Option<ArrivalTime>,
    awaited_until: Option<ArrivalTime>,
    names: Vec<&'a str>,
    node: Vec<MetricRecord>,
    devices: Vec<DeviceRecord<'a>>,
}

/// Number of the name, datatype, alias.
type MetricRecord = (u32, u8, Option<u64>);

#[derive(Serialize, Deserialize)]
struct DeviceRecord<'a> {
    name: &'a str,
    is_current: bool,
    metrics: Vec<MetricRecord>,
}

/// The record of an edge node.
pub(super) fn write(key: &str, node: &EdgeNode) -> Vec<u8> {
    let mut numbers = Numbers::default();
    let births = &node.births;
    let node_metrics = numbers.metrics(&births.node);
    let devices = births.devices.iter().map(|(name, device)| DeviceRecord {
        name,
        is_current: device.is_current,
        metrics: numbers.metrics(&device.certificate),
    });
    let devices = devices.collect();
    let record = Record {
        key,
        state: node.state,
        seq: node.seq,
        bd_seq: node.bd_seq,
        asked_at: node.asked_at,
        awaited_until: node.awaited_until,
        names: numbers.names.iter().map(|name| &**name).collect(),
        node: node_metrics,
        devices,
    };
    postcard::to_extend(&record, vec![VERSION]).expect("a record has only parts of known length")
}

/// The edge node of a record, and its key.
pub(super) fn read(bytes: &[u8], names: &mut Names) -> Result<(Box<str>, EdgeNode), MemoryError> {
    let damaged = |error: &dyn std::fmt::Display| MemoryError::Damaged(error.to_string());
    let (version, bytes) = bytes.split_first().ok_or_else(|| damaged(&"it is empty"))?;
    if *version != VERSION {
        return Err(MemoryError::Newer(*version));
    }
    let (record, rest) = postcard::take_from_bytes::<Record<'_>>(bytes).map_err(|error| damaged(&error))?;
    if !rest.is_empty() {
        return Err(damaged(&"something follows it"));
    }
    let known: Vec<Arc<str>> = record.names.iter().map(|name| names.one(name)).collect();
    let certificate = |metrics: Vec<MetricRecord>| {
        let metric = |(name, datatype, alias): MetricRecord| {
            let name = known.get(name as usize).ok_or("it has a metric without a name")?.clone();
            Ok((Known { name, datatype }, alias))
        };
        let metrics: Result<Vec<_>, String> = metrics.into_iter().map(metric).collect();
        metrics.and_then(Certificate::from_metrics).map(Arc::new).map_err(|error| damaged(&error))
    };
    let mut devices = BTreeMap::new();
    let node = certificate(record.node)?;
    for DeviceRecord { name, is_current, metrics } in record.devices {
        devices.insert(names.one(name), Device { certificate: certificate(metrics)?, is_current });
    }
    let node = EdgeNode {
        state: record.state,
        seq: record.seq,
        bd_seq: record.bd_seq,
        asked_at: record.asked_at,
        awaited_until: record.awaited_until,
        births: Arc::new(Births { node, devices }),
    };
    Ok((record.key.into(), node))
}

/// Gives each name a number.
#[derive(Default)]
struct Numbers {
    numbers: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
}

impl Numbers {
    fn metrics(&mut self, certificate: &Certificate) -> Vec<MetricRecord> {
        let metric = |(known, alias): (&Known, Option<u64>)| {
            let number = *self.numbers.entry(known.name.clone()).or_insert_with(|| {
                self.names.push(known.name.clone());
                self.names.len() as u32 - 1
            });
            (number, known.datatype, alias)
        };
        certificate.metrics().map(metric).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> EdgeNode {
        let known = |name: &str| Known { name: name.into(), datatype: 10 };
        let of = |metrics: Vec<(Known, Option<u64>)>| {
            Arc::new(Certificate::from_metrics(metrics).expect("a certificate"))
        };
        let device = |alias, is_current| Device {
            certificate: of(vec![(known("Power"), Some(alias)), (known("Name"), None)]),
            is_current,
        };
        EdgeNode {
            state: State::Born,
            seq: 17,
            bd_seq: Some(3),
            asked_at: Some(ArrivalTime(5)),
            awaited_until: None,
            births: Arc::new(Births {
                node: of(vec![(known("bdSeq"), None), (known("Power"), Some(1))]),
                devices: BTreeMap::from([("m-1".into(), device(7, true)), ("m-2".into(), device(8, false))]),
            }),
        }
    }

    #[test]
    fn a_record_is_read_back() {
        let bytes = write("plant7/gateway", &node());
        let (key, read) = read(&bytes, &mut Names::default()).expect("a record");
        assert_eq!((&*key, read), ("plant7/gateway", node()));
    }

    /// It must be read for ever.
    #[test]
    fn the_form_of_version_1_is_kept() {
        let golden = b"\x01\x0eplant7/gateway\x01\x11\x01\x03\x01\x0a\x00\x03\x05Power\x05bdSeq\x04Name\x02\x00\x0a\x01\
                       \x01\x01\x0a\x00\x02\x03m-1\x01\x02\x02\x0a\x00\x00\x0a\x01\x07\x03m-2\x00\x02\x02\x0a\x00\x00\x0a\
                       \x01\x08";
        assert_eq!(
            write("plant7/gateway", &node()).escape_ascii().to_string(),
            golden.escape_ascii().to_string()
        );
    }

    #[test]
    fn what_is_damaged_is_an_error() {
        let whole = write("plant7/gateway", &node());
        for length in 0..whole.len() {
            assert!(read(&whole[..length], &mut Names::default()).is_err(), "cut to {length}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // It may be another good record; the object that it stands in has a checksum.
            let _ = read(&bytes, &mut Names::default());
        }
        assert_eq!(read(&[2, 0], &mut Names::default()), Err(MemoryError::Newer(2)));
    }
}
