//! Where and why dead letters died, as their headers tell, and what they are without that.

use serde_json::Value;
use staunch_definitions::to_json;
use staunch_types::{
    field_table::{TableBuilder, Value as Field},
    properties::{Properties, PropertiesBuilder},
};

use crate::error::ApiError;

/// What tells of deaths; a replayed message begins anew.
const DEATH_HEADERS: [&str; 7] = [
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
];
/// What would send copies of a message elsewhere.
const COPY_HEADERS: [&str; 2] = ["CC", "BCC"];
/// How often a message has been replayed.
const REPLAYS_HEADER: &str = "x-staunch-replays";

/// Where and why a message died first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) reason: String,
    pub(crate) queue: String,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    /// When, in seconds since 1970.
    pub(crate) at: Option<u64>,
    /// Deaths in all queues.
    pub(crate) deaths: i64,
    pub(crate) replays: i64,
}

impl Origin {
    /// None if the message never died.
    pub(crate) fn of(properties: &[u8]) -> Option<Self> {
        let headers = Properties::from_validated(properties).headers()?;
        Self::told(&Value::Object(to_json(headers)))
    }

    /// `x-death` tells of the last death first; the first of all is its last entry, unless
    /// `x-first-death-queue` names another.
    fn told(headers: &Value) -> Option<Self> {
        let deaths = headers["x-death"].as_array()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let first_queue = &headers["x-first-death-queue"];
        let first_reason = &headers["x-first-death-reason"];
        let is_first =
            |death: &&Value| death["queue"] == *first_queue && death["reason"] == *first_reason;
        let first = deaths.iter().find(is_first).or_else(|| deaths.last())?;
        let counts = deaths.iter();
        let counts = counts.map(|death| death["count"].as_i64().unwrap_or(1));
        Some(Self {
            reason: text(&first["reason"])?,
            queue: text(&first["queue"])?,
            exchange: text(&first["exchange"])?,
            routing_key: text(&first["routing-keys"][0]).unwrap_or_default(),
            at: first["time"].as_u64(),
            deaths: counts.sum(),
            replays: headers[REPLAYS_HEADER].as_i64().unwrap_or(0),
        })
    }
}

/// The properties with which a dead letter is published once more: without its deaths, and with the
/// count of its replays. To one queue alone it goes without what would send copies elsewhere.
pub(crate) fn replayed(
    properties: &[u8],
    origin: &Origin,
    is_for_one_queue: bool,
) -> Result<Vec<u8>, ApiError> {
    let properties = Properties::from_validated(properties);
    let mut dropped = DEATH_HEADERS.to_vec();
    dropped.push(REPLAYS_HEADER);
    if is_for_one_queue {
        dropped.extend(COPY_HEADERS);
    }
    let headers = properties.headers().unwrap_or_default();
    let headers = TableBuilder::new().copy_except(headers, &dropped);
    let headers = headers.value(REPLAYS_HEADER, Field::I64(origin.replays + 1));
    let headers = headers.build();
    let mut encoded = Vec::new();
    PropertiesBuilder::from_properties(properties)
        .headers(headers.as_table_ref())
        .encode(&mut encoded)
        .map_err(|error| ApiError::BadRequest(error.to_string()))?;
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_death_is_the_origin() {
        let headers = json!({
            "x-death": [
                {"queue": "dlq", "reason": "expired", "exchange": "", "routing-keys": ["dlq"], "count": 2},
                {"queue": "orders", "reason": "rejected", "exchange": "shop", "routing-keys": ["o.1", "o.2"],
                 "count": 1, "time": 1_700_000_000},
            ],
            "x-first-death-queue": "orders", "x-first-death-reason": "rejected",
            "x-staunch-replays": 3,
        });
        let expected = Origin {
            reason: "rejected".to_owned(),
            queue: "orders".to_owned(),
            exchange: "shop".to_owned(),
            routing_key: "o.1".to_owned(),
            at: Some(1_700_000_000),
            deaths: 3,
            replays: 3,
        };
        assert_eq!(Origin::told(&headers), Some(expected));
        assert_eq!(Origin::told(&json!({"a": 1})), None);
        assert_eq!(Origin::told(&json!({"x-death": []})), None);
    }
}
