//! What has happened on this node: a bounded list that operators read.
//!
//! It is fed from the log (`staunch-server/src/logging`), so that whatever is worth a line there can be
//! looked up and followed here. Each node has its own; who shows the events of a cluster asks the others.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::statistics::{wall_micros, wall_millis};

/// Events that are kept.
pub const EVENTS_MAX: usize = 4096;
/// Longer texts are cut, in bytes: some of them come from clients.
const TEXT_SIZE_BYTES_MAX: usize = 512;
/// Fields of an event.
const FIELDS_MAX: usize = 16;

/// The events of a process.
#[derive(Clone, Debug)]
pub struct EventLog(Arc<Mutex<Ring>>);

/// Something that has happened.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Event {
    /// When, in microseconds, or more than the number before: greater than those of all events before,
    /// also of earlier lives of the node if its clock was not set back in between.
    pub number: u64,
    /// Milliseconds of the wall clock.
    pub at: u64,
    /// Where; empty in a node's own list.
    #[serde(default)]
    pub node: String,
    /// Such as `node.suspected`.
    pub event: String,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// What it means.
    pub text: String,
    /// To what or whom.
    pub fields: Map<String, Value>,
}

#[derive(Debug)]
struct Ring {
    last: u64,
    events: VecDeque<Event>,
}

impl Default for EventLog {
    fn default() -> Self {
        let ring = Ring {
            last: 0,
            events: VecDeque::new(),
        };
        Self(Arc::new(Mutex::new(ring)))
    }
}

impl EventLog {
    /// Something happens now.
    pub fn push(&self, event: &str, level: &str, text: &str, fields: Map<String, Value>) {
        let fields = fields.into_iter().take(FIELDS_MAX);
        let fields = fields.map(|(name, value)| match value {
            Value::String(text) => (name, cut(&text).into()),
            other => (name, other),
        });
        let fields = fields.collect();
        let mut ring = self.ring();
        let number = wall_micros().max(ring.last + 1);
        ring.last = number;
        if ring.events.len() == EVENTS_MAX {
            ring.events.pop_front();
        }
        ring.events.push_back(Event {
            number,
            at: wall_millis(),
            node: String::new(),
            event: event.to_owned(),
            level: level.to_owned(),
            text: cut(text),
            fields,
        });
    }

    /// The last of those whose names begin so, in order.
    pub(crate) fn last(&self, name: &str, count_max: usize) -> Vec<Event> {
        let ring = self.ring();
        let found = ring.events.iter().rev();
        let found = found.filter(|event| event.event.starts_with(name));
        let mut found: Vec<_> = found.take(count_max).cloned().collect();
        found.reverse();
        found
    }

    /// The first that are kept of those behind a number.
    pub(crate) fn behind(&self, number: u64, count_max: usize) -> Vec<Event> {
        let ring = self.ring();
        let at = ring.events.partition_point(|event| event.number <= number);
        ring.events.range(at..).take(count_max).cloned().collect()
    }

    /// The number behind which nothing has happened yet.
    pub(crate) fn now(&self) -> u64 {
        let mut ring = self.ring();
        ring.last = wall_micros().max(ring.last);
        ring.last
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_SIZE_BYTES_MAX);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(log: &EventLog, name: &str) {
        log.push(name, "info", "it has happened", Map::new());
    }

    #[test]
    fn the_last_events_are_kept_and_read_from_anywhere() {
        let log = EventLog::default();
        let before = log.now();
        assert_eq!(log.behind(before, 9), []);
        for _ in 0..EVENTS_MAX {
            push(&log, "node.suspected");
        }
        push(&log, "node.trusted");
        push(&log, "alarm.on");
        let all = log.last("", EVENTS_MAX + 1);
        assert_eq!(all.len(), EVENTS_MAX);
        assert!(all.is_sorted_by(|one, other| before < one.number && one.number < other.number));
        assert_eq!(log.behind(before, 2), all[..2]);
        assert_eq!(log.behind(all[1].number, 1), all[2..3]);
        assert_eq!(log.behind(log.now(), 9), []);
        let of_nodes = &all[EVENTS_MAX - 3..EVENTS_MAX - 1];
        assert_eq!(log.last("node.", 2), of_nodes);
    }

    #[test]
    fn what_clients_say_is_cut() {
        let log = EventLog::default();
        let much = "ü".repeat(TEXT_SIZE_BYTES_MAX);
        let fields = (0..=FIELDS_MAX).map(|at| (format!("field-{at}"), much.clone().into()));
        log.push("queue.led", "info", &much, fields.collect());
        let event = &log.last("", 1)[0];
        assert_eq!(event.text.len(), TEXT_SIZE_BYTES_MAX);
        assert_eq!(event.fields.len(), FIELDS_MAX);
        let text = event.fields["field-0"].as_str().unwrap_or_default();
        assert_eq!(text.len(), TEXT_SIZE_BYTES_MAX);
    }
}
