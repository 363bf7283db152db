//! Properties of messages as `KEY=VALUE` and as JSON.

use serde_json::{Map, Value};
use staunch_definitions::{from_json, to_json};
use staunch_types::{
    FieldTable,
    properties::{Properties, PropertiesBuilder, PropertyList},
};

use crate::cli::failure::Failure;

/// `delivery_mode` of what survives a restart.
const PERSISTENT: u8 = 2;
/// And of what does not.
const TRANSIENT: u8 = 1;

/// Properties that are strings.
const TEXTS: [&str; 10] = [
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
];

/// Properties out of what the command line says.
pub(crate) fn build(
    given: &[(String, Value)],
    headers: &[(String, Value)],
    is_transient: bool,
) -> Result<PropertyList, Failure> {
    let wrong = |what: &dyn std::fmt::Display| Failure::usage(format!("properties: {what}"));
    let headers: Map<_, _> = headers.iter().cloned().collect();
    let table = from_json(&headers).map_err(|error| wrong(&error))?;
    let texts: Vec<(String, String)> = given
        .iter()
        .map(|(key, value)| (key.replace('-', "_"), text(value)))
        .collect();
    let mut builder = PropertiesBuilder::new();
    builder = builder.delivery_mode(if is_transient { TRANSIENT } else { PERSISTENT });
    if !table.is_empty() {
        builder = builder.headers(table.as_table_ref());
    }
    for (key, value) in &texts {
        let not_a_number = |_| wrong(&format!("{key} is not a number"));
        builder = match key.as_str() {
            "content_type" => builder.content_type(value),
            "content_encoding" => builder.content_encoding(value),
            "correlation_id" => builder.correlation_id(value),
            "reply_to" => builder.reply_to(value),
            "expiration" => builder.expiration(value),
            "message_id" => builder.message_id(value),
            "type" => builder.message_type(value),
            "user_id" => builder.user_id(value),
            "app_id" => builder.app_id(value),
            "cluster_id" => builder.cluster_id(value),
            "priority" => builder.priority(value.parse().map_err(not_a_number)?),
            "timestamp" => builder.timestamp(value.parse().map_err(not_a_number)?),
            _ => {
                let names = TEXTS.join(", ");
                return Err(wrong(&format!("there is no '{key}'"))
                    .with_hint(format!("priority, timestamp, {names}")));
            }
        };
    }
    builder.build().map_err(|error| wrong(&error))
}

/// The properties that are there.
pub(crate) fn shown(encoded: &[u8]) -> Value {
    let properties = Properties::from_validated(encoded);
    let texts = [
        properties.content_type(),
        properties.content_encoding(),
        properties.correlation_id(),
        properties.reply_to(),
        properties.expiration(),
        properties.message_id(),
        properties.message_type(),
        properties.user_id(),
        properties.app_id(),
        properties.cluster_id(),
    ];
    let mut shown = Map::new();
    for (key, value) in TEXTS.into_iter().zip(texts) {
        let value = value.map(|it| String::from_utf8_lossy(it).into_owned().into());
        shown.extend(value.map(|value: Value| (key.to_owned(), value)));
    }
    let numbers = [
        ("delivery_mode", properties.delivery_mode().map(u64::from)),
        ("priority", properties.priority().map(u64::from)),
        ("timestamp", properties.timestamp()),
    ];
    for (key, value) in numbers {
        shown.extend(value.map(|value| (key.to_owned(), value.into())));
    }
    if let Some(headers) = properties.headers() {
        shown.insert("headers".to_owned(), Value::Object(to_json(headers)));
    }
    Value::Object(shown)
}

/// The same properties with other headers.
pub(crate) fn with_headers(encoded: &[u8], headers: &FieldTable) -> Result<PropertyList, Failure> {
    let properties = Properties::from_validated(encoded);
    let builder = PropertiesBuilder::from_properties(properties);
    let builder = if headers.is_empty() {
        builder.without_headers()
    } else {
        builder.headers(headers.as_table_ref())
    };
    builder
        .build()
        .map_err(|error| Failure::usage(error.to_string()))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_given_is_shown() {
        let pairs = |pairs: &[(&str, Value)]| -> Vec<(String, Value)> {
            let pairs = pairs.iter().cloned();
            pairs.map(|(key, value)| (key.to_owned(), value)).collect()
        };
        let given = pairs(&[
            ("content-type", json!("text/plain")),
            ("expiration", json!(60_000)),
            ("type", json!("t")),
            ("priority", json!(5)),
            ("timestamp", json!(7)),
        ]);
        let headers = pairs(&[("n", json!(1)), ("deep", json!({"list": [true, "a"]}))]);
        let built = build(&given, &headers, false).expect("properties");
        let expected = json!({
            "content_type": "text/plain", "expiration": "60000", "type": "t", "priority": 5,
            "timestamp": 7, "delivery_mode": 2, "headers": {"n": 1, "deep": {"list": [true, "a"]}},
        });
        assert_eq!(shown(built.as_bytes()), expected);
        let transient = build(&[], &[], true).expect("properties");
        assert_eq!(shown(transient.as_bytes()), json!({"delivery_mode": 1}));
        for wrong in [("priority", json!("high")), ("colour", json!("red"))] {
            assert!(build(&pairs(&[wrong]), &[], false).is_err());
        }
    }
}
