//! The horizons of all queues, computed when somebody asks and kept for a while.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use staunch_horizon::{Bound, Horizon, TimeLeft};
use staunch_stats::{QueueFacts, QueueView, Report, Snapshot};
use staunch_types::Name;

use crate::{NodePort, SharedStatistics, error::ApiError};

/// A table is kept for so many times as long as it took to make it, so that asking for it all the
/// time costs a twentieth of a processor.
const KEPT_PER_TAKEN: u32 = 20;

/// A scrape waits for a table that takes no longer than this to make.
const WAITED_FOR_MAX: Duration = Duration::from_millis(50);

/// How long everything holds out, as of one round.
#[derive(Debug)]
pub(crate) struct Table {
    /// When that round was, milliseconds of the wall clock.
    pub(crate) at_millis: u64,
    /// The node: its memory and its disk.
    pub(crate) node: Report,
    /// Queues that have a history, and how many may.
    pub(crate) histories: (usize, usize),
    /// Queues, in no order.
    pub(crate) queues: Vec<Row>,
    made_at: Instant,
    taken: Duration,
}

/// A queue.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) queue: QueueFacts,
    pub(crate) report: Report,
}

/// Which of its times a horizon is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Basis {
    Now,
    #[default]
    Stress,
    Peak,
}

/// The last table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Horizons {
    last: Arc<Mutex<Option<Arc<Table>>>>,
    /// Held by who makes the next one.
    making: Arc<tokio::sync::Mutex<()>>,
}

impl Horizons {
    /// The table of the last round; an older one if that was made only just now. Who comes while
    /// it is being made waits for it.
    pub(crate) async fn table(
        &self,
        statistics: &SharedStatistics,
        node: &NodePort,
    ) -> Result<Arc<Table>, ApiError> {
        let _turn = self.making.lock().await;
        let round_millis = statistics.read().round().at_millis();
        if let Some(table) = self.last().filter(|table| table.is_good(round_millis)) {
            return Ok(table);
        }
        let condition = node.condition().await?;
        let statistics = statistics.clone();
        let made = tokio::task::spawn_blocking(move || {
            let snapshot = statistics.read().snapshot(condition);
            Table::of(&snapshot)
        });
        let table = Arc::new(made.await.map_err(|_| ApiError::Unavailable)?);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&table));
        Ok(table)
    }

    /// The table of the last round; the last one there is, if a new one takes long to make: then
    /// that is made for who asks next.
    pub(crate) async fn recent(
        &self,
        statistics: &SharedStatistics,
        node: &NodePort,
    ) -> Result<Arc<Table>, ApiError> {
        let slow = self.last().filter(|table| table.taken > WAITED_FOR_MAX);
        let Some(table) = slow else {
            return self.table(statistics, node).await;
        };
        let (horizons, statistics, node) = (self.clone(), statistics.clone(), node.clone());
        tokio::spawn(async move {
            if horizons.table(&statistics, &node).await.is_err() {
                tracing::debug!(event = "horizon.gone", "the node has gone meanwhile");
            }
        });
        Ok(table)
    }

    fn last(&self) -> Option<Arc<Table>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }
}

impl Table {
    fn of(snapshot: &Snapshot) -> Self {
        let made_at = Instant::now();
        Self {
            at_millis: snapshot.at_millis(),
            node: snapshot.node(),
            histories: snapshot.histories(),
            queues: snapshot
                .queues()
                .iter()
                .map(|view| Row::of(snapshot, view))
                .collect(),
            made_at,
            taken: made_at.elapsed(),
        }
    }

    fn is_good(&self, round_millis: u64) -> bool {
        self.at_millis == round_millis || self.made_at.elapsed() < self.taken * KEPT_PER_TAKEN
    }

    /// Of each virtual host: the queue whose time ends first, and its horizon, which is the first
    /// of its queues' in every respect.
    pub(crate) fn vhosts(&self, basis: Basis) -> BTreeMap<&Name, (&Name, Horizon)> {
        let mut vhosts: BTreeMap<&Name, (&Row, Horizon)> = BTreeMap::new();
        for row in &self.queues {
            let horizon = row.report.horizon;
            vhosts
                .entry(&row.queue.vhost)
                .and_modify(|(first, all)| {
                    if basis.compare(row, first) == Ordering::Less {
                        *first = row;
                    }
                    *all = all.earlier(horizon);
                })
                .or_insert((row, horizon));
        }
        let named = vhosts.into_iter();
        named
            .map(|(vhost, (row, all))| (vhost, (&row.queue.name, all)))
            .collect()
    }
}

impl Row {
    /// Computes it.
    pub(crate) fn of(snapshot: &Snapshot, view: &QueueView) -> Self {
        Self {
            queue: view.facts.clone(),
            report: snapshot.queue(view),
        }
    }

    /// Whether it holds out as long as its policy asks for; none if that asks for nothing.
    pub(crate) fn is_slo_met(&self) -> Option<bool> {
        let slo = self.queue.settings.horizon_slo_millis?;
        Some(self.report.horizon.stress.estimate.low >= TimeLeft::Millis(slo))
    }
}

impl Basis {
    /// From `basis=…`.
    pub(crate) fn read(text: &str) -> Result<Self, ApiError> {
        match text {
            "now" => Ok(Self::Now),
            "stress" => Ok(Self::Stress),
            "peak" => Ok(Self::Peak),
            other => Err(ApiError::BadRequest(format!(
                "basis is now, stress or peak, not '{other}'"
            ))),
        }
    }

    /// As it is called in a query and in a horizon.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::Stress => "stress",
            Self::Peak => "peak",
        }
    }

    pub(crate) fn of(self, horizon: &Horizon) -> &Bound {
        match self {
            Self::Now => &horizon.now,
            Self::Stress => &horizon.stress,
            Self::Peak => &horizon.peak,
        }
    }

    /// The soonest first; of those that are alike by name.
    pub(crate) fn compare(self, one: &Row, other: &Row) -> Ordering {
        let key = |row: &Row| {
            let estimate = self.of(&row.report.horizon).estimate;
            (estimate.at, estimate.low)
        };
        let name = |row: &Row| (row.queue.vhost.clone(), row.queue.name.clone());
        key(one)
            .cmp(&key(other))
            .then_with(|| name(one).cmp(&name(other)))
    }
}
