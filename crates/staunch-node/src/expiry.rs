//! What time does to messages and queues: `expiration`, `x-message-ttl`, `x-expires`.
//!
//! Each queue knows the next of its messages to expire; the node keeps one ordered set of those
//! times, an entry per queue that has one, and wakes the queue when its turn comes. Times are on
//! the wall clock and are kept with the message in the log, so a restart changes nothing but what
//! it takes. Queues that expire are in a second set, looked at when their time has come: who was
//! used in the meantime gets a later one. Rejected: a timer per message or per use of a queue.

use std::{collections::BTreeSet, time::Duration};

use staunch_broker::{Departed, LIFE_MILLIS_MAX, QueueKind};
use staunch_types::{QueueId, Refusal, Timestamp, UnixMillis, properties::Properties};

use crate::{node::Node, queues::QueueSlot};

/// Messages that expire in one drain, all queues together. What is left waits for the next one,
/// and nothing that is over time is delivered meanwhile.
const EXPIRED_PER_DRAIN_MAX: usize = 16 * 1024;

/// Deadlines further away than this are left to the ticks that come in between.
const WAKE_WITHIN: Duration = Duration::from_secs(1);

/// Queues by the next time at which something in them, or they themselves, expires.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    messages: BTreeSet<(UnixMillis, QueueId)>,
    queues: BTreeSet<(UnixMillis, QueueId)>,
    /// Messages that may still expire in this drain.
    budget: usize,
}

/// The message's own time to live in milliseconds, if it has one (`expiration`).
///
/// # Errors
/// A refusal with RabbitMQ's text if the property is no number, negative, or more than ten years.
pub(crate) fn message_ttl(properties: Properties<'_>) -> Result<Option<u64>, Refusal> {
    let Some(text) = properties.expiration() else {
        return Ok(None);
    };
    parse_ttl(text).map(Some).map_err(|reason| {
        let text = String::from_utf8_lossy(text);
        Refusal::Precondition(format!("invalid expiration '{text}': {reason}"))
    })
}

/// Decimal digits, perhaps with a sign.
fn parse_ttl(text: &[u8]) -> Result<u64, String> {
    let (is_negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] | rest => (false, rest),
    };
    let count = digits.iter().take_while(|c| c.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at(count);
    if digits.is_empty() {
        return Err("no_integer".to_owned());
    }
    if !rest.is_empty() {
        let rest = String::from_utf8_lossy(rest);
        return Err(format!("{{leftover_string,\"{rest}\"}}"));
    }
    let value = digits.iter().fold(0_u64, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    if is_negative && value > 0 {
        return Err(format!("{{value_negative,-{value}}}"));
    }
    if value > LIFE_MILLIS_MAX {
        let digits = String::from_utf8_lossy(digits);
        return Err(format!(
            "{{value_too_large,{}}}",
            digits.trim_start_matches('0')
        ));
    }
    Ok(value)
}

impl Node {
    /// The wall clock at this input.
    pub(crate) fn wall_now(&self) -> UnixMillis {
        self.wall_at(self.now)
    }

    fn wall_at(&self, at: Timestamp) -> UnixMillis {
        self.config.started_at.after_millis(at.0 / 1_000_000)
    }

    /// Has every queue looked at in which a message's time is up, and ends the queues whose own
    /// is.
    pub(crate) fn wake_expired(&mut self) {
        self.deadlines.budget = EXPIRED_PER_DRAIN_MAX;
        let now = self.wall_now();
        let due = |set: &BTreeSet<(UnixMillis, QueueId)>| {
            let due = set.iter().take_while(|(at, _)| *at <= now);
            due.map(|(_, id)| *id).collect::<Vec<_>>()
        };
        if self
            .deadlines
            .messages
            .first()
            .is_some_and(|(at, _)| *at <= now)
        {
            for id in due(&self.deadlines.messages) {
                self.mark_dirty(id);
            }
        }
        if self
            .deadlines
            .queues
            .first()
            .is_some_and(|(at, _)| *at <= now)
        {
            for id in due(&self.deadlines.queues) {
                self.expire_queue(id, now);
            }
        }
    }

    /// Lets messages die whose time was up at `upto`. False if more are left than may die in one
    /// drain: then the queue hands out nothing.
    pub(crate) fn expire(&mut self, slot: &mut QueueSlot, upto: UnixMillis) -> bool {
        if slot.queue.next_expiry().is_none_or(|at| at > upto) {
            return true;
        }
        let mut departed = Departed::default();
        let (queue, budget) = (&mut slot.queue, self.deadlines.budget);
        let count = if slot.holds_delayed {
            queue.expire_in_turn(upto, budget, &mut departed)
        } else {
            queue.expire(upto, budget, &mut departed)
        };
        self.deadlines.budget -= count;
        slot.counts.expired += count as u64;
        self.depart(slot, departed);
        slot.queue.next_expiry().is_none_or(|at| at > upto)
    }

    /// Remembers when the queue's next message expires.
    pub(crate) fn note_expiry(&mut self, slot: &mut QueueSlot) {
        let next = slot.queue.next_expiry();
        if next == slot.expires_next {
            return;
        }
        if let Some(before) = slot.expires_next {
            self.deadlines.messages.remove(&(before, slot.id));
        }
        slot.expires_next = next;
        if let Some(next) = next {
            self.deadlines.messages.insert((next, slot.id));
        }
    }

    /// The queue is of use to somebody: `x-expires` counts from now.
    pub(crate) fn renew(&mut self, id: QueueId) {
        let now = self.wall_now();
        if let Some(slot) = self.queues.get_mut(id) {
            slot.used_at = now;
        }
    }

    /// As [`Node::renew`] by a declaration, which quorum queues do not count as use.
    pub(crate) fn renew_by_declaration(&mut self, id: QueueId) {
        let renews = |slot: &QueueSlot| slot.kind == QueueKind::Classic;
        if self.queues.get(id).is_some_and(renews) {
            self.renew(id);
        }
    }

    /// Watches a queue that expires when it is not used: a new one, one that was recovered, or
    /// whose settings have changed. What another node serves is for that one to watch.
    pub(crate) fn watch_use(&mut self, id: QueueId) {
        let Some(slot) = self.queues.get_mut(id) else {
            return;
        };
        if let Some(before) = slot.watched_at.take() {
            self.deadlines.queues.remove(&(before, id));
        }
        if let Some(millis) = slot.settings.expires_millis
            && slot.is_served_here()
        {
            let at = slot.used_at.after_millis(millis);
            slot.watched_at = Some(at);
            self.deadlines.queues.insert((at, id));
        }
    }

    /// A queue may have expired: if so it goes, with its messages, else it is looked at later.
    fn expire_queue(&mut self, id: QueueId, now: UnixMillis) {
        let Some(slot) = self.queues.get_mut(id) else {
            return;
        };
        if slot.queue.consumer_count() > 0 {
            slot.used_at = now;
        }
        let millis = slot.settings.expires_millis;
        if millis.is_some_and(|millis| slot.used_at.after_millis(millis) <= now) {
            if let Some(at) = slot.watched_at.take() {
                self.deadlines.queues.remove(&(at, id));
            }
            self.delete_by_node(id);
        } else {
            self.watch_use(id);
        }
    }

    /// Forgets the deadlines of a queue that is gone.
    pub(crate) fn forget_expiry(&mut self, slot: &QueueSlot) {
        if let Some(at) = slot.expires_next {
            self.deadlines.messages.remove(&(at, slot.id));
        }
        if let Some(at) = slot.watched_at {
            self.deadlines.queues.remove(&(at, slot.id));
        }
    }

    /// When something expires, if that is soon.
    pub(crate) fn expiry_timeout(&self) -> Option<Timestamp> {
        let messages = self.deadlines.messages.first();
        let queues = self.deadlines.queues.first();
        let first = match (messages, queues) {
            (Some((one, _)), Some((other, _))) => *one.min(other),
            (Some((at, _)), None) | (None, Some((at, _))) => *at,
            (None, None) => return None,
        };
        if first > self.wall_at(self.now + WAKE_WITHIN) {
            return None;
        }
        let millis = first.0.saturating_sub(self.config.started_at.0);
        Some(Timestamp(millis.saturating_mul(1_000_000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiration_is_a_number_of_milliseconds() {
        for (text, wanted) in [
            ("0", Ok(0)),
            ("60000", Ok(60_000)),
            ("+5", Ok(5)),
            ("-0", Ok(0)),
            ("315360000000", Ok(315_360_000_000)),
            ("315360000001", Err("{value_too_large,315360000001}")),
            (
                "0099999999999999999999999",
                Err("{value_too_large,99999999999999999999999}"),
            ),
            ("", Err("no_integer")),
            ("abc", Err("no_integer")),
            (" 5", Err("no_integer")),
            ("5 ms", Err("{leftover_string,\" ms\"}")),
            ("1.5", Err("{leftover_string,\".5\"}")),
            ("-1", Err("{value_negative,-1}")),
        ] {
            let parsed = parse_ttl(text.as_bytes());
            assert_eq!(parsed, wanted.map_err(str::to_owned), "{text:?}");
        }
    }
}
