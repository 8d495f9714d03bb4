//! Columns that are filled row by row, and become an Arrow array when the batch is full.
//!
//! A column is told of values only; the rows that it was not told of are null. So a row costs what
//! it holds, not what its table could hold.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BooleanBuilder, Float64Builder, Int32Builder, Int64Builder, ListBuilder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::types::Float64Type;
use arrow_array::{ArrayRef, PrimitiveArray};
use arrow_schema::{DataType, Field, TimeUnit};

use crate::model::{Kind, KindName, Value};
use crate::time::is_writable;

/// A column of some type.
#[derive(Debug)]
pub(super) enum Column {
    Double(Float64Builder),
    Integer(Int64Builder),
    Number(Int32Builder),
    Boolean(BooleanBuilder),
    Text(StringBuilder),
    Time(TimestampMicrosecondBuilder),
    Doubles(ListBuilder<Float64Builder>),
    Integers(ListBuilder<Int64Builder>),
    Booleans(ListBuilder<BooleanBuilder>),
    Texts(ListBuilder<StringBuilder>),
}

impl Column {
    /// The column of a property's values.
    pub(super) fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Double => Self::Double(Default::default()),
            Kind::Integer => Self::Integer(Default::default()),
            Kind::Boolean => Self::Boolean(Default::default()),
            Kind::String | Kind::Enum(_) | Kind::Object => Self::text(),
            Kind::Array { items, .. } => match items {
                KindName::Double => Self::Doubles(ListBuilder::new(Default::default())),
                KindName::Integer => Self::Integers(ListBuilder::new(Default::default())),
                KindName::Boolean => Self::Booleans(ListBuilder::new(Default::default())),
                _ => Self::texts(),
            },
        }
    }

    pub(super) fn text() -> Self {
        Self::Text(StringBuilder::new())
    }

    pub(super) fn texts() -> Self {
        Self::Texts(ListBuilder::new(StringBuilder::new()))
    }

    pub(super) fn time() -> Self {
        Self::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC"))
    }

    /// The field of a schema.
    pub(super) fn field(&self, name: &str) -> Field {
        let list = |item| DataType::List(Arc::new(Field::new("item", item, true)));
        let data_type = match self {
            Self::Double(_) => DataType::Float64,
            Self::Integer(_) => DataType::Int64,
            Self::Number(_) => DataType::Int32,
            Self::Boolean(_) => DataType::Boolean,
            Self::Text(_) => DataType::Utf8,
            Self::Time(_) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Doubles(_) => list(DataType::Float64),
            Self::Integers(_) => list(DataType::Int64),
            Self::Booleans(_) => list(DataType::Boolean),
            Self::Texts(_) => list(DataType::Utf8),
        };
        Field::new(name, data_type, true)
    }

    fn len(&self) -> usize {
        match self {
            Self::Double(builder) => builder.len(),
            Self::Integer(builder) => builder.len(),
            Self::Number(builder) => builder.len(),
            Self::Boolean(builder) => builder.len(),
            Self::Text(builder) => builder.len(),
            Self::Time(builder) => builder.len(),
            Self::Doubles(builder) => builder.len(),
            Self::Integers(builder) => builder.len(),
            Self::Booleans(builder) => builder.len(),
            Self::Texts(builder) => builder.len(),
        }
    }

    /// Rows up to `row` that the column was not told of are null.
    fn pad(&mut self, row: usize) {
        let missing = row.saturating_sub(self.len());
        if missing == 0 {
            return;
        }
        match self {
            Self::Double(builder) => builder.append_nulls(missing),
            Self::Integer(builder) => builder.append_nulls(missing),
            Self::Number(builder) => builder.append_nulls(missing),
            Self::Boolean(builder) => builder.append_nulls(missing),
            Self::Text(builder) => builder.append_nulls(missing),
            Self::Time(builder) => builder.append_nulls(missing),
            Self::Doubles(builder) => (0..missing).for_each(|_| builder.append_null()),
            Self::Integers(builder) => (0..missing).for_each(|_| builder.append_null()),
            Self::Booleans(builder) => (0..missing).for_each(|_| builder.append_null()),
            Self::Texts(builder) => (0..missing).for_each(|_| builder.append_null()),
        }
    }

    pub(super) fn put_text(&mut self, row: usize, text: &str) {
        self.pad(row);
        if let Self::Text(builder) = self {
            builder.append_value(text);
        }
    }

    pub(super) fn put_texts<'t>(&mut self, row: usize, texts: impl Iterator<Item = &'t str>) {
        self.pad(row);
        if let Self::Texts(builder) = self {
            for text in texts {
                builder.values().append_value(text);
            }
            builder.append(true);
        }
    }

    pub(super) fn put_integer(&mut self, row: usize, number: i64) {
        self.pad(row);
        match self {
            Self::Integer(builder) => builder.append_value(number),
            Self::Number(builder) => builder.append_value(number as i32),
            _ => {}
        }
    }

    /// A number that is not finite is null.
    pub(super) fn put_double(&mut self, row: usize, number: f64) {
        self.pad(row);
        if let (Self::Double(builder), true) = (self, number.is_finite()) {
            builder.append_value(number);
        }
    }

    pub(super) fn put_boolean(&mut self, row: usize, flag: bool) {
        self.pad(row);
        if let Self::Boolean(builder) = self {
            builder.append_value(flag);
        }
    }

    /// A time that cannot be written is null (rule 3.3).
    pub(super) fn put_time(&mut self, row: usize, at_us: i64) {
        self.pad(row);
        if let (Self::Time(builder), true) = (self, is_writable(at_us)) {
            builder.append_value(at_us);
        }
    }

    /// A property's value.
    pub(super) fn put_value(&mut self, row: usize, kind: &Kind, value: Value<'_>) {
        match value {
            Value::Double(number) => self.put_double(row, number),
            Value::Integer(number) => self.put_integer(row, number),
            Value::Boolean(flag) => self.put_boolean(row, flag),
            Value::Text(text) => self.put_text(row, text),
            Value::Enum(word) => {
                if let Kind::Enum(words) = kind {
                    let word = words.get(usize::from(word));
                    self.put_text(row, word.map_or("", String::as_str));
                }
            }
            Value::Json(json) if matches!(kind, Kind::Object) => self.put_text(row, json),
            Value::Json(json) => self.put_array(row, json),
        }
    }

    /// An array, from its JSON, which the decoder has checked.
    fn put_array(&mut self, row: usize, json: &str) {
        self.pad(row);
        match self {
            Self::Doubles(builder) => {
                let numbers: Vec<f64> = serde_json::from_str(json).unwrap_or_default();
                let numbers: PrimitiveArray<Float64Type> = numbers.into();
                builder.values().append_array(&numbers);
                builder.append(true);
            }
            Self::Integers(builder) => {
                let numbers: Vec<i64> = serde_json::from_str(json).unwrap_or_default();
                builder.values().append_slice(&numbers);
                builder.append(true);
            }
            Self::Booleans(builder) => {
                let flags: Vec<bool> = serde_json::from_str(json).unwrap_or_default();
                builder.values().append_slice(&flags);
                builder.append(true);
            }
            Self::Texts(_) => {
                let texts: Vec<String> = serde_json::from_str(json).unwrap_or_default();
                self.put_texts(row, texts.iter().map(String::as_str));
            }
            _ => {}
        }
    }

    /// The array of all rows; the column is empty again.
    pub(super) fn finish(&mut self, rows: usize) -> ArrayRef {
        self.pad(rows);
        match self {
            Self::Double(builder) => Arc::new(builder.finish()),
            Self::Integer(builder) => Arc::new(builder.finish()),
            Self::Number(builder) => Arc::new(builder.finish()),
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish()),
            Self::Doubles(builder) => Arc::new(builder.finish()),
            Self::Integers(builder) => Arc::new(builder.finish()),
            Self::Booleans(builder) => Arc::new(builder.finish()),
            Self::Texts(builder) => Arc::new(builder.finish()),
        }
    }
}
