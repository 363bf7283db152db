//! JSON values as AMQP values, and back (RabbitMQ, `rabbit_misc:to_amqp_table`).

use serde_json::{Map, Number, Value as Json};
use staunch_types::FieldTable;
use staunch_types::field_table::{
    ArrayBuilder, ArrayRef, TableBuilder, TableError, TableRef, Value,
};

/// Why a JSON value cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// A number beyond 64 bits.
    #[error("number {0} does not fit in 64 bits")]
    Number(String),
    /// Too deep, too many fields, or a key that is too long.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// An object as a field table: integers are 64 bits wide, null is void.
///
/// # Errors
/// [`InvalidValue`].
pub fn from_json(object: &Map<String, Json>) -> Result<FieldTable, InvalidValue> {
    let table = table(object)?;
    TableRef::parse(table.as_bytes())?;
    Ok(table)
}

fn table(object: &Map<String, Json>) -> Result<FieldTable, InvalidValue> {
    let mut builder = TableBuilder::new();
    for (key, value) in object {
        let mut put = Ok(());
        with_value(value, &mut |value| {
            put = builder.try_value(key.as_bytes(), value);
        })?;
        put?;
    }
    Ok(builder.build())
}

/// Lends the value to `take`, once.
pub(crate) fn with_value(json: &Json, take: &mut dyn FnMut(Value<'_>)) -> Result<(), InvalidValue> {
    match json {
        Json::Null => take(Value::Void),
        Json::Bool(truth) => take(Value::Bool(*truth)),
        Json::String(text) => take(Value::LongStr(text.as_bytes())),
        Json::Number(number) => take(number_value(number)?),
        Json::Array(values) => {
            let mut array = ArrayBuilder::new();
            for value in values {
                with_value(value, &mut |value| {
                    array = std::mem::take(&mut array).value(value);
                })?;
            }
            take(Value::Array(array.as_array_ref()));
        }
        Json::Object(object) => take(Value::Table(table(object)?.as_table_ref())),
    }
    Ok(())
}

fn number_value(number: &Number) -> Result<Value<'static>, InvalidValue> {
    let is_integer = number.is_i64() || number.is_u64();
    match (number.as_i64(), number.as_f64()) {
        (Some(integer), _) => Ok(Value::I64(integer)),
        (None, Some(float)) if !is_integer => Ok(Value::F64(float)),
        (None, _) => Err(InvalidValue::Number(number.to_string())),
    }
}

/// A field table as an object, sorted by key. What JSON cannot say is said as a string.
pub fn to_json(table: TableRef<'_>) -> Map<String, Json> {
    let mut object = Map::new();
    for (key, value) in table {
        let key = String::from_utf8_lossy(key).into_owned();
        object.entry(key).or_insert_with(|| value_to_json(value));
    }
    object
}

/// A value as JSON; bytes that are no UTF-8 are replaced.
pub fn value_to_json(value: Value<'_>) -> Json {
    match value {
        Value::Void => Json::Null,
        Value::Bool(truth) => Json::Bool(truth),
        Value::I8(_)
        | Value::U8(_)
        | Value::I16(_)
        | Value::U16(_)
        | Value::I32(_)
        | Value::U32(_)
        | Value::I64(_) => value.as_i64().map_or(Json::Null, Json::from),
        Value::F32(number) => Json::from(number),
        Value::F64(number) => Json::from(number),
        Value::Timestamp(seconds) => Json::from(seconds),
        Value::Decimal { scale, value } => {
            Json::from(f64::from(value) / 10f64.powi(i32::from(scale)))
        }
        Value::LongStr(bytes) | Value::Binary(bytes) => {
            Json::String(String::from_utf8_lossy(bytes).into_owned())
        }
        Value::Array(values) => array_to_json(values),
        Value::Table(table) => Json::Object(to_json(table)),
    }
}

fn array_to_json(values: ArrayRef<'_>) -> Json {
    values.iter().map(value_to_json).collect()
}
