//! Headers exchange: binding arguments compared with a message's headers.
//!
//! Every binding is tried; the exchange is for a few bindings with many fields, and RabbitMQ
//! does the same. A binding value of type void asks only that the header is there. Values compare
//! as in RabbitMQ, without regard to how they were encoded: integers of any width and timestamps
//! by their number, floats by theirs, texts and byte arrays by their bytes.

use staunch_types::FieldTable;
use staunch_types::field_table::Value;
use staunch_types::properties::Properties;

use super::targets::{Matches, Target};

/// Checks the arguments of a binding to be made.
///
/// # Errors
/// RabbitMQ's text.
pub(super) fn check_arguments(arguments: &FieldTable) -> Result<(), String> {
    MatchKind::of(arguments).map(drop).map_err(|value| {
        let found = erlang_term(value);
        if matches!(value, Value::LongStr(_)) {
            format!(
                "Invalid x-match field value {found}; expected all, any, all-with-x, or any-with-x"
            )
        } else {
            let kind = value.amqp_type_name();
            format!("Invalid x-match field type {kind} (value {found}); expected longstr")
        }
    })
}

/// How a binding matches: its argument `x-match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MatchKind {
    /// One equal field is enough; else all are needed.
    any: bool,
    /// Fields whose names begin with `x-` take part.
    with_x: bool,
}

impl MatchKind {
    /// What the arguments of a binding ask for.
    ///
    /// # Errors
    /// The value of `x-match`, if it is none that RabbitMQ knows.
    fn of(arguments: &FieldTable) -> Result<Self, Value<'_>> {
        let Some(value) = arguments.get("x-match") else {
            return Ok(Self {
                any: false,
                with_x: false,
            });
        };
        match value.as_str() {
            Some("all") => Ok(Self {
                any: false,
                with_x: false,
            }),
            Some("any") => Ok(Self {
                any: true,
                with_x: false,
            }),
            Some("all-with-x") => Ok(Self {
                any: false,
                with_x: true,
            }),
            Some("any-with-x") => Ok(Self {
                any: true,
                with_x: true,
            }),
            Some(_) | None => Err(value),
        }
    }

    fn matches(self, pattern: &FieldTable, headers: &[(&[u8], Value<'_>)]) -> bool {
        let mut fields = pattern
            .iter()
            .filter(|(key, _)| *key != b"x-match" && (self.with_x || !key.starts_with(b"x-")));
        let mut equal = |(key, wanted): (&[u8], Value<'_>)| {
            let at = headers.binary_search_by_key(&key, |header| header.0);
            at.is_ok_and(|at| matches!(wanted, Value::Void) || is_same(headers[at].1, wanted))
        };
        if self.any {
            fields.any(&mut equal)
        } else {
            fields.all(equal)
        }
    }
}

fn is_same(a: Value<'_>, b: Value<'_>) -> bool {
    match (bytes_of(a), bytes_of(b)) {
        (Some(a), Some(b)) => return a == b,
        (Some(_), None) | (None, Some(_)) => return false,
        (None, None) => {}
    }
    match (number_of(a), number_of(b)) {
        (Some(a), Some(b)) => a == b,
        (Some(_), None) | (None, Some(_)) => false,
        (None, None) => a == b,
    }
}

fn bytes_of(value: Value<'_>) -> Option<&[u8]> {
    if let Value::LongStr(bytes) | Value::Binary(bytes) = value {
        Some(bytes)
    } else {
        None
    }
}

fn number_of(value: Value<'_>) -> Option<i128> {
    if let Value::Timestamp(seconds) = value {
        return Some(i128::from(seconds));
    }
    value.as_i64().map(i128::from)
}

/// A value as Erlang prints it.
fn erlang_term(value: Value<'_>) -> String {
    if let Some(bytes) = bytes_of(value) {
        return format!("<<\"{}\">>", String::from_utf8_lossy(bytes));
    }
    if let Some(number) = number_of(value) {
        return number.to_string();
    }
    match value.as_bool() {
        Some(truth) => truth.to_string(),
        None => format!("{value:?}"),
    }
}

#[derive(Debug)]
struct Entry {
    kind: MatchKind,
    arguments: FieldTable,
    target: Target,
}

#[derive(Debug, Default)]
pub(crate) struct Headers {
    entries: Vec<Entry>,
}

impl Headers {
    pub(super) fn add(&mut self, arguments: &FieldTable, target: Target) {
        // An unknown `x-match` is refused where the binding is made; replay is total.
        let kind = MatchKind::of(arguments).unwrap_or(MatchKind {
            any: false,
            with_x: false,
        });
        let arguments = arguments.as_table_ref().without_repeats();
        self.entries.push(Entry {
            kind,
            arguments,
            target,
        });
    }

    pub(super) fn remove(&mut self, arguments: &FieldTable, target: &Target) {
        let same = |entry: &Entry| entry.target == *target && entry.arguments == *arguments;
        let at = self
            .entries
            .iter()
            .position(same)
            .expect("the binding was added");
        self.entries.swap_remove(at);
    }

    pub(super) fn route(&self, properties: &[u8], matches: &mut Matches<'_>) {
        if self.entries.is_empty() {
            return;
        }
        matches.is_cacheable = false;
        let headers = Properties::from_validated(properties).headers();
        let mut headers: Vec<_> = headers.unwrap_or_default().iter().collect();
        // Stable, so of a repeated header the first counts.
        headers.sort_by_key(|header| header.0);
        headers.dedup_by_key(|header| header.0);
        for entry in &self.entries {
            if entry.kind.matches(&entry.arguments, &headers) {
                matches.push(&entry.target);
            }
        }
    }
}
