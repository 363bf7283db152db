//! Consumers of the node by key, and the channel each belongs to.

use std::collections::BTreeMap;

use staunch_types::{ChannelNumber, ConsumerKey, Name, QueueId};

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

/// Table of consumers; keys are reused once nothing refers to them.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    slots: Vec<Option<Consumer>>,
    free: Vec<u32>,
    /// Of active consumers.
    labels: BTreeMap<ConsumerKey, Label>,
}

/// What others know a consumer by.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    pub(crate) tag: Name,
    pub(crate) queue: Name,
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
        self.free.push(key.0);
        Some(consumer)
    }

    pub(crate) fn label(&mut self, key: ConsumerKey, label: Label) {
        self.labels.insert(key, label);
    }

    /// The label of a consumer that ends; none if that is known already.
    pub(crate) fn take_label(&mut self, key: ConsumerKey) -> Option<Label> {
        self.labels.remove(&key)
    }

    /// Keys in use.
    pub(crate) fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
