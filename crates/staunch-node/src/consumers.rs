//! Consumers of the node by key, and the channel each belongs to.

use std::collections::BTreeMap;

use staunch_types::{ChannelNumber, ConsumerKey, FieldTable, Name, QueueId, request::Consume};

use crate::session::SessionSlot;

/// Someone deliveries go to: a consumer, or the `basic.get` side of a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consumer {
    pub(crate) session: SessionSlot,
    pub(crate) channel: ChannelNumber,
    pub(crate) queue: QueueId,
    pub(crate) kind: ConsumerKind,
    /// Deliveries not yet settled.
    pub(crate) unsettled_count: u32,
}

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConsumerKind {
    /// `basic.consume`.
    Active,
    /// Cancelled, with deliveries still to be settled.
    Cancelled,
    /// `basic.get`.
    Getter,
    /// `basic.consume` of direct replies.
    Replies,
}

/// Table of consumers; keys are reused once nothing refers to them, and what the node has said in
/// the drain in which they were freed is on its way: its clients and other nodes hear of a key's
/// deliveries only when the drain ends.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    slots: Vec<Option<Consumer>>,
    free: Vec<u32>,
    /// Free when the drain ends.
    freed: Vec<u32>,
    /// Of active consumers.
    labels: BTreeMap<ConsumerKey, Label>,
}

/// What others know a consumer by.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    pub(crate) tag: Name,
    pub(crate) queue: Name,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) prefetch: u16,
    pub(crate) arguments: FieldTable,
}

impl From<&Consume> for Label {
    fn from(consume: &Consume) -> Self {
        Self {
            tag: consume.tag.clone(),
            queue: consume.queue.clone(),
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            prefetch: consume.prefetch,
            arguments: consume.arguments.clone(),
        }
    }
}

impl Consumers {
    pub(crate) fn insert(&mut self, consumer: Consumer) -> ConsumerKey {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(consumer);
            return ConsumerKey(slot);
        }
        let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 consumers");
        self.slots.push(Some(consumer));
        ConsumerKey(slot)
    }

    pub(crate) fn get(&self, key: ConsumerKey) -> Option<&Consumer> {
        self.slots.get(key.0 as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: ConsumerKey) -> Option<&mut Consumer> {
        self.slots.get_mut(key.0 as usize)?.as_mut()
    }

    pub(crate) fn remove(&mut self, key: ConsumerKey) -> Option<Consumer> {
        let consumer = self.slots.get_mut(key.0 as usize)?.take()?;
        self.freed.push(key.0);
        Some(consumer)
    }

    /// A drain has ended: keys that were freed in it may be used again.
    pub(crate) fn reuse_freed(&mut self) {
        self.free.append(&mut self.freed);
    }

    pub(crate) fn label(&mut self, key: ConsumerKey, label: Label) {
        self.labels.insert(key, label);
    }

    /// The label of a consumer that ends; none if that is known already.
    pub(crate) fn take_label(&mut self, key: ConsumerKey) -> Option<Label> {
        self.labels.remove(&key)
    }

    /// Active consumers, by key.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (ConsumerKey, &Label)> {
        self.labels.iter().map(|(key, label)| (*key, label))
    }

    /// Keys in use.
    pub(crate) fn count(&self) -> usize {
        self.slots.len() - self.free.len() - self.freed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GETTER: Consumer = Consumer {
        session: SessionSlot(1),
        channel: ChannelNumber(1),
        queue: QueueId(1),
        kind: ConsumerKind::Getter,
        unsettled_count: 0,
    };

    #[test]
    fn a_key_is_not_used_twice_in_a_drain() {
        let mut consumers = Consumers::default();
        let first = consumers.insert(GETTER);
        consumers.remove(first);
        assert_eq!(consumers.count(), 0);
        let second = consumers.insert(GETTER);
        assert_ne!(first, second);
        consumers.reuse_freed();
        assert_eq!(consumers.insert(GETTER), first);
        assert_eq!(consumers.count(), 2);
    }
}
