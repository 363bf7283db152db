//! Queues with an objective (`horizon-slo`): whether they hold out for so long is judged in each
//! round, told to the node, which slows their publishers, and to the log when it changes.

use std::collections::BTreeSet;

use staunch_horizon::TimeLeft;
use staunch_node::{AdminRequest, Condition};
use staunch_stats::Statistics;
use staunch_types::QueueId;

use crate::{NodePort, SharedStatistics, horizons::Row, nouns::horizon::resource_name};

/// Queues that are judged in a round; if there are more, they take turns.
const JUDGED_MAX: usize = 256;

/// A queue holds out again when its time is this much longer than its objective, as so many parts
/// of ten.
const AGAIN_TENTHS: u64 = 12;

/// What is known of such queues since the last round.
#[derive(Debug, Default)]
pub(crate) struct Objectives {
    /// Behind this one the next turn begins.
    last: QueueId,
    missed: BTreeSet<QueueId>,
    slowed: BTreeSet<QueueId>,
}

impl Objectives {
    /// Judges those whose turn it is. False if the node is gone.
    pub(crate) async fn judge(&mut self, statistics: &SharedStatistics, node: &NodePort) -> bool {
        let ids = self.turn(&statistics.read());
        if ids.is_empty() {
            return true;
        }
        let Ok(condition) = node.condition().await else {
            return false;
        };
        let statistics = statistics.clone();
        let judging = tokio::task::spawn_blocking(move || rows(&statistics, condition, &ids));
        let Ok(rows) = judging.await else {
            return false;
        };
        for row in &rows {
            self.note(row);
        }
        let times = rows.iter().map(|row| {
            let stress = row.report.horizon.stress.estimate;
            (row.queue.id, stress.low)
        });
        node.ask(AdminRequest::Horizons(times.collect()))
            .await
            .is_some()
    }

    /// Forgets queues that have no objective any more, and chooses the next ones that have.
    fn turn(&mut self, statistics: &Statistics) -> Vec<QueueId> {
        let all = statistics.queues().filter(|(_, queue)| {
            queue.is_served_here && queue.settings.horizon_slo_millis.is_some()
        });
        let all: BTreeSet<QueueId> = all.map(|(id, _)| id).collect();
        self.missed.retain(|id| all.contains(id));
        self.slowed.retain(|id| all.contains(id));
        let (before, behind): (Vec<QueueId>, Vec<QueueId>) =
            all.into_iter().partition(|id| *id <= self.last);
        let ids: Vec<_> = behind.into_iter().chain(before).take(JUDGED_MAX).collect();
        self.last = ids.last().copied().unwrap_or_default();
        ids
    }

    fn note(&mut self, row: &Row) {
        let queue = &row.queue;
        let Some(objective_millis) = queue.settings.horizon_slo_millis else {
            return;
        };
        let stress = &row.report.horizon.stress;
        let (vhost, name) = (queue.vhost.to_string(), queue.name.to_string());
        let (left, objective) = (stress.estimate.low.millis(), objective_millis / 1_000);
        let seconds = left.map(|left| left / 1_000);
        let again = TimeLeft::Millis(objective_millis.saturating_mul(AGAIN_TENTHS) / 10);
        if row.is_slo_met() == Some(false) && self.missed.insert(queue.id) {
            let limit = stress.limit.map(|(resource, _)| resource_name(resource));
            tracing::warn!(
                event = "horizon.short",
                vhost,
                queue = name,
                seconds,
                objective,
                limit,
                "without consumers the queue may be full sooner than its policy asks for: add \
                 consumers, raise its limit or publish less"
            );
        } else if stress.estimate.low >= again && self.missed.remove(&queue.id) {
            tracing::info!(
                event = "horizon.met",
                vhost,
                queue = name,
                seconds,
                objective,
                "the queue holds out as long as its policy asks for"
            );
        }
        if queue.is_slowed && self.slowed.insert(queue.id) {
            tracing::warn!(
                event = "queue.slowed",
                vhost,
                queue = name,
                objective,
                "publishers of the queue are slowed so that it holds out"
            );
        } else if !queue.is_slowed && self.slowed.remove(&queue.id) {
            tracing::info!(
                event = "queue.released",
                vhost,
                queue = name,
                "publishers of the queue are not slowed any more"
            );
        }
    }
}

/// Horizons of these queues, as many as there are.
fn rows(statistics: &SharedStatistics, condition: Condition, ids: &[QueueId]) -> Vec<Row> {
    let rows = ids.iter().filter_map(|id| {
        let snapshot = statistics.read().snapshot_with(condition, Some(*id));
        let view = snapshot.queues().first()?;
        Some(Row::of(&snapshot, view))
    });
    rows.collect()
}
