//! Limits on the length of a queue that drop its oldest messages (`x-max-length`,
//! `x-max-length-bytes`, `x-overflow`). Those that refuse publishes instead do so in `publish`.

use staunch_broker::Departed;

use crate::{node::Node, queues::QueueSlot};

/// Messages that one queue drops in one drain, after a policy lowered its limit; the next drain
/// goes on.
const DROPPED_PER_DRAIN_MAX: usize = 16 * 1024;

impl Node {
    /// Drops what is too much for the queue, once the consumers have taken what they can.
    pub(crate) fn drop_head(&mut self, slot: &mut QueueSlot) {
        if !slot.queue.is_over_limit() {
            return;
        }
        let mut departed = Departed::default();
        let count = slot.queue.drop_head(DROPPED_PER_DRAIN_MAX, &mut departed);
        slot.counts.overflowed += count as u64;
        if count > 0 {
            self.depart(slot, departed);
        }
        if count == DROPPED_PER_DRAIN_MAX && slot.queue.is_over_limit() && !slot.is_dirty {
            slot.is_dirty = true;
            self.dirty.push(slot.id);
        }
    }
}
