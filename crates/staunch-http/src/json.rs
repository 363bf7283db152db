//! Field tables as JSON, as RabbitMQ's management plugin writes them.

use axum::extract::rejection::PathRejection;
use serde_json::{Map, Number, Value as Json};
use staunch_types::{
    FieldTable, Name,
    field_table::{ArrayBuilder, TableBuilder, TableRef, Value},
};

use crate::error::ApiError;

/// How deep objects and lists may lie in each other.
const DEPTH_MAX: usize = 32;

/// A table as an object.
pub(crate) fn object(table: TableRef<'_>) -> Json {
    Json::Object(staunch_definitions::to_json(table))
}

/// An object as a table: integers become 64 bits wide, as RabbitMQ makes them.
pub(crate) fn table(object: &Map<String, Json>) -> Result<FieldTable, ApiError> {
    table_within(object, 0)
}

/// Calls `with` with the value that JSON stands for.
pub(crate) fn with_value<T>(json: &Json, with: impl FnOnce(Value<'_>) -> T) -> Result<T, ApiError> {
    let mut with = Some(with);
    let mut result = None;
    visit(json, 0, &mut |value| {
        result = with.take().map(|with| with(value));
    })?;
    Ok(result.expect("a visit calls back once"))
}

/// A value as RabbitMQ prints it in what is wrong with it.
pub(crate) fn printed(json: &Json) -> String {
    match json {
        Json::String(text) => format!("<<\"{text}\">>"),
        other => other.to_string(),
    }
}

/// A name out of a path or body.
pub(crate) fn name(text: &str) -> Result<Name, ApiError> {
    Name::new(text.as_bytes()).map_err(|error| ApiError::BadRequest(error.to_string()))
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::BadRequest(rejection.to_string())
    }
}

fn table_within(object: &Map<String, Json>, depth: usize) -> Result<FieldTable, ApiError> {
    let mut table = TableBuilder::new();
    for (key, value) in object {
        let mut added = Ok(());
        visit(value, depth, &mut |value| {
            added = table.try_value(key.as_bytes(), value);
        })?;
        added.map_err(|error| ApiError::BadRequest(error.to_string()))?;
    }
    Ok(table.build())
}

/// Calls `with` once, unless this fails.
fn visit(json: &Json, depth: usize, with: &mut dyn FnMut(Value<'_>)) -> Result<(), ApiError> {
    if depth > DEPTH_MAX {
        let reason = format!("objects lie more than {DEPTH_MAX} deep in each other");
        return Err(ApiError::BadRequest(reason));
    }
    match json {
        Json::Null => with(Value::Void),
        Json::Bool(value) => with(Value::Bool(*value)),
        Json::Number(number) => with(number_value(number)?),
        Json::String(text) => with(Value::LongStr(text.as_bytes())),
        Json::Array(items) => {
            let mut array = ArrayBuilder::new();
            for item in items {
                visit(item, depth + 1, &mut |value| {
                    array = std::mem::take(&mut array).value(value);
                })?;
            }
            with(Value::Array(array.as_array_ref()));
        }
        Json::Object(object) => {
            let table = table_within(object, depth + 1)?;
            with(Value::Table(table.as_table_ref()));
        }
    }
    Ok(())
}

fn number_value(number: &Number) -> Result<Value<'static>, ApiError> {
    if let Some(value) = number.as_i64() {
        return Ok(Value::I64(value));
    }
    match number.as_f64() {
        Some(value) if number.is_f64() => Ok(Value::F64(value)),
        _ => Err(ApiError::BadRequest(format!("{number} is too large"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_json_value_comes_back_as_it_was() {
        let value = json!({
            "text": "ü", "number": -5, "large": i64::MAX, "float": 1.5, "yes": true, "none": null,
            "list": [1, "two", [3], {"four": 4}], "object": {"inner": {}},
        });
        let table = table(value.as_object().expect("an object")).expect("a table");
        assert_eq!(object(table.as_table_ref()), value);
    }

    #[test]
    fn what_no_table_can_hold_is_refused() {
        let mut deep = json!(1);
        for _ in 0..=DEPTH_MAX {
            deep = json!([deep]);
        }
        for (wrong, message) in [
            (json!({ "a": deep }), "deep"),
            (json!({"a": u64::MAX}), "too large"),
            (json!({"k".repeat(256): 1}), "255"),
        ] {
            let error = table(wrong.as_object().expect("an object")).expect_err("refused");
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
