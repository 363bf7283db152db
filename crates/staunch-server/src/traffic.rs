//! What goes over the sockets of connections, told by their tasks.
//!
//! A task writes its own numbers once a round, and nobody else writes them: a plain store each.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use staunch_stats::Traffic;
use staunch_types::ConnectionId;

/// The numbers of one connection.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    received_bytes: AtomicU64,
    received_count: AtomicU64,
    sent_bytes: AtomicU64,
    sent_count: AtomicU64,
    waiting_bytes: AtomicU64,
}

/// The connections that there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges(Arc<Mutex<BTreeMap<ConnectionId, Weak<Gauge>>>>);

impl Gauge {
    pub(crate) fn show(&self, traffic: &Traffic) {
        let store = |at: &AtomicU64, number| at.store(number, Ordering::Relaxed);
        store(&self.received_bytes, traffic.received_bytes);
        store(&self.received_count, traffic.received_count);
        store(&self.sent_bytes, traffic.sent_bytes);
        store(&self.sent_count, traffic.sent_count);
        store(&self.waiting_bytes, traffic.waiting_bytes);
    }

    fn read(&self) -> Traffic {
        let load = |at: &AtomicU64| at.load(Ordering::Relaxed);
        Traffic {
            received_bytes: load(&self.received_bytes),
            received_count: load(&self.received_count),
            sent_bytes: load(&self.sent_bytes),
            sent_count: load(&self.sent_count),
            waiting_bytes: load(&self.waiting_bytes),
        }
    }
}

impl Gauges {
    /// The numbers of a new connection; they are read as long as the connection keeps them.
    pub(crate) fn open(&self, id: ConnectionId) -> Arc<Gauge> {
        let gauge = Arc::new(Gauge::default());
        let mut gauges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.insert(id, Arc::downgrade(&gauge));
        gauge
    }

    /// What all connections show now; those that are over are forgotten.
    pub(crate) fn read(&self) -> Vec<(ConnectionId, Traffic)> {
        let mut gauges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = Vec::with_capacity(gauges.len());
        gauges.retain(|id, gauge| {
            let gauge = gauge.upgrade();
            read.extend(gauge.iter().map(|gauge| (*id, gauge.read())));
            gauge.is_some()
        });
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_over_is_forgotten() {
        let gauges = Gauges::default();
        let (one, two) = (gauges.open(ConnectionId(1)), gauges.open(ConnectionId(2)));
        let traffic = Traffic {
            received_bytes: 5,
            ..Traffic::default()
        };
        two.show(&traffic);
        drop(one);
        assert_eq!(gauges.read(), [(ConnectionId(2), traffic)]);
    }
}
