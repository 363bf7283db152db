//! Headers exchange: binding arguments compared with a message's headers.
//!
//! Every binding is tried; the exchange is for a few bindings with many fields, and RabbitMQ
//! does the same. A binding value of type void asks only that the header is there. Numbers
//! compare by value within integers and within floats.

use staunch_types::FieldTable;
use staunch_types::field_table::Value;
use staunch_types::properties::Properties;

use super::targets::{Matches, Target};

/// How a binding matches: its argument `x-match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MatchKind {
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
    pub(crate) fn of(arguments: &FieldTable) -> Result<Self, Value<'_>> {
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
            at.is_ok_and(|at| matches!(wanted, Value::Void) || headers[at].1 == wanted)
        };
        if self.any {
            fields.any(&mut equal)
        } else {
            fields.all(equal)
        }
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
