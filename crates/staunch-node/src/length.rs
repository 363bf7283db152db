//! Limits on the length of a queue that drop its oldest messages (`x-max-length`,
//! `x-max-length-bytes`, `x-overflow`). Those that refuse publishes instead do so in `publish`.

use staunch_broker::{Departed, Overflow};

use crate::{node::Node, queues::QueueSlot};

impl Node {
    /// Drops what is too much for the queue, once the consumers have taken what they can.
    pub(crate) fn drop_head(&mut self, slot: &mut QueueSlot) {
        let settings = &slot.settings;
        let is_limited = settings.max_length.is_some() || settings.max_length_bytes.is_some();
        if !is_limited || settings.overflow != Overflow::DropHead {
            return;
        }
        let mut departed = Departed::default();
        if slot.queue.drop_head(&mut departed) > 0 {
            self.depart(slot, departed);
        }
    }
}
