//! `KEY=VALUE` on the command line: arguments of queues, definitions of policies, headers.

use serde_json::{Map, Value};

/// Reads `KEY=VALUE`: what is a number, a boolean, a list or an object in JSON is that, anything
/// else is a string.
pub(crate) fn pair(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("'{text}' is not KEY=VALUE"))?;
    if key.is_empty() {
        return Err("the key is empty".to_owned());
    }
    let value = match serde_json::from_str(value) {
        Ok(Value::Null) | Err(_) => Value::String(value.to_owned()),
        Ok(value) => value,
    };
    Ok((key.to_owned(), value))
}

/// Pairs as an object; the last of a key counts.
pub(crate) fn object(pairs: &[(String, Value)]) -> Value {
    Value::Object(pairs.iter().cloned().collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_what_json_says_or_strings() {
        for (text, expected) in [
            ("x-max-length=10", json!({"x-max-length": 10})),
            ("x-queue-type=quorum", json!({"x-queue-type": "quorum"})),
            ("a=b=c", json!({"a": "b=c"})),
            ("a=", json!({"a": ""})),
            ("a=\"7\"", json!({"a": "7"})),
            ("a=[1,true]", json!({"a": [1, true]})),
            ("a=null", json!({"a": "null"})),
        ] {
            assert_eq!(object(&[pair(text).expect("a pair")]), expected);
        }
        assert!(pair("a").is_err() && pair("=b").is_err());
    }
}
