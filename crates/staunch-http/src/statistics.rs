//! Who owns the statistics: takes samples of the node and lends what came of them.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use staunch_node::{AdminAnswer, AdminRequest};
use staunch_stats::{KeptHistories, Statistics, Traffic};
use staunch_types::{ConnectionId, Name};
use tokio::time;

use crate::{
    NodePort,
    error::ApiError,
    horizons::{Horizons, Table},
    objectives::Objectives,
};

/// Rounds after which exchanges and virtual hosts that are gone are forgotten.
const ROUNDS_PER_CLEANING: u64 = 12;

/// Statistics of a node, for all who show them.
#[derive(Clone, Debug, Default)]
pub struct SharedStatistics {
    statistics: Arc<Mutex<Statistics>>,
    horizons: Horizons,
}

impl SharedStatistics {
    /// What there is of the last round. Copy out what is needed; a round waits meanwhile.
    pub(crate) fn read(&self) -> MutexGuard<'_, Statistics> {
        self.statistics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How long everything holds out, computed for who asks first.
    pub(crate) async fn horizons(&self, node: &NodePort) -> Result<Arc<Table>, ApiError> {
        self.horizons.table(self, node).await
    }

    /// The same, or a little older, for who must not wait long.
    pub(crate) async fn recent_horizons(&self, node: &NodePort) -> Result<Arc<Table>, ApiError> {
        self.horizons.recent(self, node).await
    }

    /// Histories of an earlier life of the process; to be given before samples are taken.
    pub fn restore(&self, kept: KeptHistories) {
        self.read().restore(kept);
    }

    /// Histories of all queues and of the node, to be kept over a restart.
    #[must_use]
    pub fn histories(&self) -> KeptHistories {
        self.read().histories()
    }

    /// Takes samples until the node is gone. `traffic` is what went over the sockets of
    /// connections.
    pub async fn keep(
        self,
        node: NodePort,
        interval: Duration,
        traffic: impl Fn() -> Vec<(ConnectionId, Traffic)> + Send,
    ) {
        let mut ticker = time::interval(interval);
        ticker.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut objectives = Objectives::default();
        for round in 0_u64.. {
            ticker.tick().await;
            if !self.round(&node).await {
                return;
            }
            {
                let mut statistics = self.read();
                statistics.take_traffic(traffic());
                statistics.end();
            }
            if !objectives.judge(&self, &node).await {
                return;
            }
            if round % ROUNDS_PER_CLEANING == 0 && !self.forget(&node).await {
                return;
            }
        }
    }

    /// False if the node is gone.
    async fn round(&self, node: &NodePort) -> bool {
        self.read().begin(wall_millis());
        loop {
            let Some(AdminAnswer::Sample(sample)) = node.ask(AdminRequest::Sample).await else {
                return false;
            };
            let has_more = sample.has_more;
            self.read().take(*sample);
            if !has_more {
                return true;
            }
        }
    }

    /// Forgets what is gone from the catalog. False if the node is gone.
    async fn forget(&self, node: &NodePort) -> bool {
        let there = node.read(|catalog| {
            let vhosts: BTreeSet<Name> = catalog.vhost_names().cloned().collect();
            let exchanges = vhosts.iter().flat_map(|vhost| {
                let exchanges = catalog.exchanges(vhost);
                exchanges.map(|(name, _)| (vhost.clone(), name.clone()))
            });
            (exchanges.collect::<BTreeSet<_>>(), vhosts)
        });
        let Ok((exchanges, vhosts)) = there.await else {
            return false;
        };
        self.read().forget(|vhost, exchange| match exchange {
            None => vhosts.contains(vhost),
            Some(exchange) => exchanges.contains(&(vhost.clone(), exchange.clone())),
        });
        true
    }
}

/// Milliseconds of the wall clock.
pub(crate) fn wall_millis() -> u64 {
    wall_micros() / 1_000
}

/// Microseconds of the wall clock.
pub(crate) fn wall_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}
