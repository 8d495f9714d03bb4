//! The value of a metric by its datatype: what was sent as a number of some width is what the birth certificate says.

use std::borrow::Cow;

use super::super::scalar::Scalar;
use super::payload::{Metric, Raw};

const INT8: u32 = 1;
const INT16: u32 = 2;
const INT32: u32 = 3;
const INT64: u32 = 4;
const UINT8: u32 = 5;
const UINT16: u32 = 6;
const UINT32: u32 = 7;
const UINT64: u32 = 8;
const FLOAT: u32 = 9;
const DOUBLE: u32 = 10;
pub(super) const BOOLEAN: u32 = 11;
const STRING: u32 = 12;
const DATE_TIME: u32 = 13;
const TEXT: u32 = 14;
const UUID: u32 = 15;

/// What the specification calls the datatypes, by their numbers.
const NAMES: [&str; 35] = [
    "unknown",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "Float",
    "Double",
    "Boolean",
    "String",
    "DateTime",
    "Text",
    "UUID",
    "DataSet",
    "Bytes",
    "File",
    "Template",
    "PropertySet",
    "PropertySetList",
    "Int8Array",
    "Int16Array",
    "Int32Array",
    "Int64Array",
    "UInt8Array",
    "UInt16Array",
    "UInt32Array",
    "UInt64Array",
    "FloatArray",
    "DoubleArray",
    "BooleanArray",
    "StringArray",
    "DateTimeArray",
];

/// The value of a metric of this datatype: none of one that is null, or the reason why it is not taken.
pub(super) fn scalar<'p>(
    metric: &Metric,
    datatype: u32,
    payload: &'p [u8],
) -> Result<Option<Scalar<'p>>, Cow<'static, str>> {
    if metric.is_null {
        return Ok(None);
    }
    let number = match metric.value {
        Raw::Int(number) => Some(u64::from(number)),
        Raw::Long(number) => Some(number),
        _ => None,
    };
    let scalar = match (datatype, metric.value) {
        (_, Raw::None) => return Err("the metric has no value, and is not said to be null".into()),
        (_, Raw::Structure(reason)) => return Err(reason.into()),
        (0, Raw::Int(_) | Raw::Long(_)) => {
            return Err("neither the metric nor its birth says its datatype".into());
        }
        (INT8 | INT16 | INT32 | INT64, _) => {
            number.and_then(|number| signed(datatype, number)).map(Scalar::Signed)
        }
        (UINT8 | UINT16 | UINT32 | UINT64 | DATE_TIME, _) => {
            number.and_then(|number| unsigned(datatype, number)).map(Scalar::Unsigned)
        }
        (0 | FLOAT | DOUBLE, Raw::Float(number)) => Some(Scalar::Float(number.into())),
        (0 | FLOAT | DOUBLE, Raw::Double(number)) => Some(Scalar::Float(number)),
        (0 | BOOLEAN, Raw::Boolean(flag)) => Some(Scalar::Bool(flag)),
        (0 | STRING | TEXT | UUID, Raw::Text(part)) => Some(Scalar::Text(part.text(payload))),
        _ => None,
    };
    match scalar {
        Some(scalar) => Ok(Some(scalar)),
        None => Err(format!("the value is no {}", name(datatype)).into()),
    }
}

/// What the specification calls a datatype.
fn name(datatype: u32) -> Cow<'static, str> {
    match NAMES.get(datatype as usize) {
        Some(name) => (*name).into(),
        None => format!("datatype {datatype}").into(),
    }
}

/// A number of a signed datatype, which stands in unsigned fields: in the two's complement of its own width, or, as
/// most encoders write it, in that of 32 bits.
fn signed(datatype: u32, number: u64) -> Option<i64> {
    let narrow = u32::try_from(number).ok();
    match datatype {
        INT8 => narrow.and_then(|number| match u8::try_from(number) {
            Ok(number) => Some(i64::from(number as i8)),
            Err(_) => i8::try_from(number as i32).ok().map(i64::from),
        }),
        INT16 => narrow.and_then(|number| match u16::try_from(number) {
            Ok(number) => Some(i64::from(number as i16)),
            Err(_) => i16::try_from(number as i32).ok().map(i64::from),
        }),
        INT32 => match narrow {
            Some(number) => Some(i64::from(number as i32)),
            None => i32::try_from(number as i64).ok().map(i64::from),
        },
        _ => Some(number as i64),
    }
}

fn unsigned(datatype: u32, number: u64) -> Option<u64> {
    let most = match datatype {
        UINT8 => u64::from(u8::MAX),
        UINT16 => u64::from(u16::MAX),
        UINT32 => u64::from(u32::MAX),
        _ => u64::MAX,
    };
    (number <= most).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(datatype: u32, value: Raw) -> String {
        let metric = Metric { value, ..Metric::default() };
        match scalar(&metric, datatype, b"text") {
            Ok(Some(scalar)) => format!("{scalar:?}"),
            Ok(None) => "null".into(),
            Err(reason) => format!("no: {reason}"),
        }
    }

    #[test]
    fn numbers_are_those_of_their_datatype() {
        for (datatype, value, expected) in [
            (INT8, Raw::Int(0xff), "Signed(-1)"),
            (INT8, Raw::Int(0xffff_ffff), "Signed(-1)"),
            (INT8, Raw::Int(127), "Signed(127)"),
            (INT8, Raw::Int(300), "no: the value is no Int8"),
            (INT16, Raw::Int(0x8000), "Signed(-32768)"),
            (INT16, Raw::Int(0xffff_8000), "Signed(-32768)"),
            (INT16, Raw::Int(0x1_0000), "no: the value is no Int16"),
            (INT32, Raw::Int(0xffff_fffe), "Signed(-2)"),
            (INT32, Raw::Long(u64::MAX), "Signed(-1)"),
            (INT32, Raw::Long(1 << 40), "no: the value is no Int32"),
            (INT64, Raw::Long(u64::MAX), "Signed(-1)"),
            (INT64, Raw::Int(7), "Signed(7)"),
            (UINT8, Raw::Int(255), "Unsigned(255)"),
            (UINT8, Raw::Int(256), "no: the value is no UInt8"),
            (UINT32, Raw::Long(u64::from(u32::MAX)), "Unsigned(4294967295)"),
            (UINT32, Raw::Long(1 << 32), "no: the value is no UInt32"),
            (UINT64, Raw::Long(u64::MAX), "Unsigned(18446744073709551615)"),
            (DATE_TIME, Raw::Long(1_767_225_600_000), "Unsigned(1767225600000)"),
            (FLOAT, Raw::Float(0.5), "Float(0.5)"),
            (DOUBLE, Raw::Double(24.28), "Float(24.28)"),
            (DOUBLE, Raw::Int(1), "no: the value is no Double"),
            (BOOLEAN, Raw::Boolean(true), "Bool(true)"),
            (BOOLEAN, Raw::Int(1), "no: the value is no Boolean"),
            (0, Raw::Double(1.5), "Float(1.5)"),
            (0, Raw::Int(1), "no: neither the metric nor its birth says its datatype"),
            (19, Raw::Structure("a template is not carried"), "no: a template is not carried"),
            (31, Raw::Structure("bytes are not carried"), "no: bytes are not carried"),
            (99, Raw::Int(1), "no: the value is no datatype 99"),
            (INT8, Raw::None, "no: the metric has no value, and is not said to be null"),
        ] {
            assert_eq!(read(datatype, value), expected, "{datatype} {value:?}");
        }
        let null = Metric { is_null: true, ..Metric::default() };
        assert!(matches!(scalar(&null, INT8, b""), Ok(None)));
    }
}
