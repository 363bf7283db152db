//! Events on their way from the node thread to one connection task.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use staunch_types::Event;
use tokio::sync::Notify;

/// A mailbox with one writer (the node thread) and one reader (the connection task).
///
/// It is bounded by the node's own accounting: deliveries by the outbound limit of a connection,
/// confirms by the unconfirmed publishes it may have, answers by one outstanding request.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    events: Mutex<Vec<Event>>,
    arrived: Notify,
    may_proceed: AtomicBool,
}

impl Mailbox {
    /// Adds events in order and wakes the reader.
    pub(crate) fn post(&self, events: Vec<Event>) {
        let mut waiting = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() {
            *waiting = events;
        } else {
            waiting.extend(events);
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// The node has taken the last publishes: the reader may send more.
    pub(crate) fn let_proceed(&self) {
        self.may_proceed.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// Whether [`Self::let_proceed`] was called since the last time this said so.
    pub(crate) fn take_proceed(&self) -> bool {
        self.may_proceed.swap(false, Ordering::Acquire)
    }

    /// Takes everything that arrived.
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Resolves when something was posted since it last resolved.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}
