//! How much a queue takes in, and what happens then.
//!
//! Only ready messages count, and of their sizes only the bodies (as in RabbitMQ). RabbitMQ hands
//! a message to a consumer before it counts it; here one that comes is handed out a little later,
//! so what consumers could take at once does not count either.

use super::Queue;
use super::chunk::Totals;
use super::departed::{Death, Departed};
use crate::settings::{Overflow, QueueSettings};

/// Limits of a queue that has any.
#[derive(Debug)]
pub(super) struct Limits {
    count_max: u64,
    body_bytes_max: u64,
    overflow: Overflow,
    /// Dying messages may have to wait for long, and count like ready ones (RabbitMQ, quorum
    /// queues with at-least-once dead lettering).
    counts_dying: bool,
    /// Deliveries were given back since messages were last handed out, and nothing else has come:
    /// the index that the next message will get.
    returning_at: Option<u64>,
}

impl Limits {
    /// None for a queue without limits.
    pub(super) fn new(settings: &QueueSettings) -> Option<Box<Self>> {
        let (count_max, body_bytes_max) = (settings.max_length, settings.max_length_bytes);
        (count_max.is_some() || body_bytes_max.is_some()).then(|| {
            Box::new(Self {
                count_max: count_max.unwrap_or(u64::MAX),
                body_bytes_max: body_bytes_max.unwrap_or(u64::MAX),
                overflow: settings.overflow,
                counts_dying: settings
                    .dead_lettering
                    .as_ref()
                    .is_some_and(|dead_lettering| dead_lettering.at_least_once),
                returning_at: None,
            })
        })
    }

    fn are_exceeded(&self, count: u64, body_bytes: u64) -> bool {
        count > self.count_max || body_bytes > self.body_bytes_max
    }

    fn are_exceeded_by(&self, ready: &Totals) -> bool {
        self.are_exceeded(ready.count, ready.body_bytes)
    }
}

impl Queue {
    /// Whether a queue that refuses publishes when it is full (`x-overflow`) would refuse one
    /// with a body of this size now. Ready messages that consumers could take at once do not
    /// count; what there is of those is only looked at when the queue is over its limit.
    ///
    /// # Panics
    /// On a bug in this module only.
    pub fn is_full_for(&self, body_size_bytes: u32) -> bool {
        self.is_full_with((0, 0), body_size_bytes)
    }

    /// As [`Queue::is_full_for`], with so many messages and bytes of bodies on their way into it.
    ///
    /// # Panics
    /// On a bug in this module only.
    pub fn is_full_with(&self, coming: (u64, u64), body_size_bytes: u32) -> bool {
        let Some(limits) = &self.limits else {
            return false;
        };
        if limits.overflow == Overflow::DropHead {
            return false;
        }
        let mut count = self.ready.count + coming.0 + 1;
        let mut body_bytes = self.ready.body_bytes + coming.1 + u64::from(body_size_bytes);
        if limits.counts_dying {
            count += self.dying_count;
            body_bytes += self.dying_body_bytes;
        }
        if !limits.are_exceeded(count, body_bytes) {
            return false;
        }
        let room = self.consumers.as_ref().map_or(0, |all| all.room());
        let kept_count = count - room.min(self.ready.count);
        if kept_count > limits.count_max || limits.body_bytes_max == u64::MAX {
            return kept_count > limits.count_max;
        }
        for (index, _, _) in self
            .upcoming()
            .take(usize::try_from(room).unwrap_or(usize::MAX))
        {
            let position = self.entries.position(index.0);
            let position = position.expect("a ready message is live");
            count -= 1;
            body_bytes -= u64::from(self.entries.chunk(position).sizes(position.bit()).body);
            if !limits.are_exceeded(count, body_bytes) {
                return false;
            }
        }
        true
    }

    /// Whether messages have to die because the queue is over a limit.
    pub fn is_over_limit(&self) -> bool {
        self.limits.as_ref().is_some_and(|limits| {
            limits.overflow == Overflow::DropHead && limits.are_exceeded_by(&self.ready)
        })
    }

    /// At most `limit` ready messages die, in the order of delivery, until the queue is within its
    /// limits, if that is what it does when it is full (`x-overflow`). Returns how many did.
    ///
    /// To be called after messages were handed out. While some consumer could take one, and so
    /// only waits for the disk (for a reservation, or for a body to be read), nothing dies: it
    /// would be the message that the consumer is about to get.
    ///
    /// # Panics
    /// On a bug in this module only.
    pub fn drop_head(&mut self, limit: usize, departed: &mut Departed) -> usize {
        let is_served = self.consumers.as_ref().is_some_and(|all| all.can_take());
        if is_served {
            return 0;
        }
        self.drop_excess(limit, departed)
    }

    /// To be called before deliveries are given back, for [`Queue::drop_returned`] after it.
    pub fn begin_return(&mut self) {
        let is_served = self.consumers.as_ref().is_some_and(|all| all.can_take());
        // A consumer would have these by now, if they did not wait for the disk or their turn.
        let is_waiting = is_served && self.ready.count > 0;
        let next = self.entries.next_index();
        if let Some(limits) = &mut self.limits
            && limits.returning_at != Some(next)
        {
            limits.returning_at = (!is_waiting).then_some(next);
        }
    }

    /// `count` deliveries were given back. What they make too much for a classic queue dies before
    /// anything is handed out again (RabbitMQ, `requeue_and_run`); a quorum queue hands out first.
    ///
    /// # Panics
    /// On a bug in this module only.
    pub fn drop_returned(&mut self, count: u32, departed: &mut Departed) {
        let next = self.entries.next_index();
        let limits = self.limits.as_ref();
        let is_alone = limits.is_some_and(|limits| limits.returning_at == Some(next));
        if is_alone && !self.is_quorum() {
            self.drop_excess(count as usize, departed);
        }
    }

    /// Messages were handed out: what is given back from now on meets others.
    pub(super) fn end_returns(&mut self) {
        if let Some(limits) = &mut self.limits {
            limits.returning_at = None;
        }
    }

    fn drop_excess(&mut self, limit: usize, departed: &mut Departed) -> usize {
        let mut count = 0;
        while count < limit && self.is_over_limit() {
            let head = self.next_ready();
            let head = head.expect("a queue over its limit has a ready message");
            self.pass(head);
            self.die(head, Death::MaxLength, departed);
            count += 1;
        }
        count
    }
}
