//! Messages as people and programs read them.

use std::io::{self, IsTerminal as _, Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    cli::{options::Options, table},
    messages::properties,
};

/// A message that came out of a queue.
pub(crate) struct Shown<'a> {
    pub(crate) exchange: &'a [u8],
    pub(crate) routing_key: &'a [u8],
    pub(crate) redelivered: bool,
    /// Encoded.
    pub(crate) properties: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl Shown<'_> {
    /// In the words of the HTTP interface.
    pub(crate) fn json(&self) -> Value {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (payload, encoding) = match std::str::from_utf8(self.body) {
            Ok(body) => (body.to_owned(), "string"),
            Err(_) => (STANDARD.encode(self.body), "base64"),
        };
        json!({
            "exchange": text(self.exchange),
            "routing_key": text(self.routing_key),
            "redelivered": self.redelivered,
            "properties": properties::shown(self.properties),
            "payload_bytes": self.body.len(),
            "payload": payload,
            "payload_encoding": encoding,
        })
    }
}

/// Prints a message in the words of the HTTP interface: as one line of JSON, or as a line about it
/// and its body.
pub(crate) fn print(options: &Options, message: &Value) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if options.json {
        writeln!(out, "{message}")?;
        return Ok(out.flush()?);
    }
    let properties = match &message["properties"] {
        Value::Object(properties) => properties.clone(),
        _ => serde_json::Map::new(),
    };
    let mut about = vec![
        format!("exchange={}", quoted(&message["exchange"])),
        format!("key={}", quoted(&message["routing_key"])),
    ];
    if message["redelivered"] == true {
        about.push("redelivered".to_owned());
    }
    let properties = properties.iter().filter(|(key, _)| *key != "delivery_mode");
    about.extend(properties.map(|(key, value)| format!("{key}={}", quoted(value))));
    if message["payload_encoding"] == "base64" {
        about.push("base64".to_owned());
    }
    writeln!(out, "--- {}", about.join(" "))?;
    let payload = message["payload"].as_str().unwrap_or_default();
    if out.is_terminal() {
        let lines: Vec<_> = payload.split('\n').map(table::visible).collect();
        writeln!(out, "{}", lines.join("\n"))?;
    } else {
        writeln!(out, "{payload}")?;
    }
    Ok(out.flush()?)
}

/// A value within a line.
fn quoted(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains(char::is_whitespace) => {
            table::visible(text)
        }
        other => other.to_string(),
    }
}
