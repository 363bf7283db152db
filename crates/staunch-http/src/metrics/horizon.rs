//! How long queues and the node hold out (`docs/horizon.md`). `+Inf` is never.

use std::collections::BTreeMap;

use staunch_horizon::{Bound, Estimate, Horizon, Resource, TimeLeft};

use super::{objects::Selection, text::Text};
use crate::{
    horizons::{Row, Table},
    nouns::horizon::{RESOURCES, resource_name, seconds},
};

/// A time of a horizon, with the end of its name and what it is.
type Time = (
    &'static str,
    &'static str,
    fn(&Horizon) -> (&Bound, TimeLeft),
);

/// What is told of queues; in the aggregate, the least of them.
const TIMES: [Time; 4] = [
    ("now", "Time to the first limit if all goes on", |it| {
        (&it.now, it.now.estimate.at)
    }),
    (
        "stress",
        "Time to the first limit if consumers stopped this moment",
        |it| (&it.stress, it.stress.estimate.at),
    ),
    (
        "stress_low",
        "The same, one time in ten sooner than this",
        |it| (&it.stress, it.stress.estimate.low),
    ),
    (
        "peak",
        "Time to the first limit without consumers at the peak rate of the last day",
        |it| (&it.peak, it.peak.estimate.at),
    ),
];

/// The least over all queues, by the limit that is reached, and the node's own.
pub(super) fn aggregated(table: &Table, text: &mut Text) {
    for (name, help, time) in TIMES {
        let mut least: BTreeMap<Resource, TimeLeft> = BTreeMap::new();
        for row in &table.queues {
            let (bound, time) = time(&row.report.horizon);
            if let Some((resource, _)) = bound.limit {
                let known = least.entry(resource).or_insert(TimeLeft::Never);
                *known = time.min(*known);
            }
        }
        let name = format!("staunch_horizon_{name}_seconds");
        text.family(&name, "gauge", &format!("{help}: the least of all queues"));
        for resource in RESOURCES {
            let time = least.get(&resource).copied().unwrap_or(TimeLeft::Never);
            text.sample(&[("limit", resource_name(resource))], shown(time));
        }
    }
    for (name, help, time) in TIMES {
        let (bound, time) = time(&table.node.horizon);
        let name = format!("staunch_node_horizon_{name}_seconds");
        text.family(
            &name,
            "gauge",
            &format!("{help}: the node's memory and disk"),
        );
        text.sample(&[("limit", limit_of(bound))], shown(time));
    }
    let empty = |row: &Row| row.report.horizon.to_empty.at;
    let last = table.queues.iter().map(empty).max();
    text.single(
        "staunch_horizon_to_empty_seconds",
        "gauge",
        "Time until the last queue is empty if all goes on",
        shown(last.unwrap_or(TimeLeft::NONE)),
    );
    let missed = table
        .queues
        .iter()
        .filter(|row| row.is_slo_met() == Some(false));
    text.single(
        "staunch_horizon_slo_missed",
        "gauge",
        "Queues that may hold out a shorter time than their policy's horizon-slo",
        missed.count(),
    );
    let slowed = table.queues.iter().filter(|row| row.queue.is_slowed);
    text.single(
        "staunch_horizon_slowed",
        "gauge",
        "Queues whose publishers are slowed so that they hold out",
        slowed.count(),
    );
    let (count, max) = table.histories;
    text.single(
        "staunch_horizon_histories",
        "gauge",
        "Queues whose flow is remembered",
        count,
    );
    text.single(
        "staunch_horizon_histories_limit",
        "gauge",
        "How many there may be",
        max,
    );
}

/// Of each queue.
pub(super) fn queues(table: &Table, wanted: &Selection, text: &mut Text) {
    let rows: Vec<(&Row, String, String)> = table
        .queues
        .iter()
        .filter(|row| wanted.has_vhost(&row.queue.vhost) && wanted.has_queue(&row.queue.name))
        .map(|row| (row, row.queue.vhost.to_string(), row.queue.name.to_string()))
        .collect();
    for (name, help, time) in TIMES {
        text.family(
            &format!("staunch_queue_horizon_{name}_seconds"),
            "gauge",
            help,
        );
        for (row, vhost, queue) in &rows {
            let (bound, time) = time(&row.report.horizon);
            let limit = limit_of(bound);
            let labels = [
                ("vhost", vhost.as_str()),
                ("queue", queue),
                ("limit", limit),
            ];
            text.sample(&labels, shown(time));
        }
    }
    let to_empty = |estimate: &Estimate| shown(estimate.at);
    text.family(
        "staunch_queue_horizon_to_empty_seconds",
        "gauge",
        "Time until it is empty if all goes on",
    );
    for (row, vhost, queue) in &rows {
        let labels = [("vhost", vhost.as_str()), ("queue", queue)];
        text.sample(&labels, to_empty(&row.report.horizon.to_empty));
    }
    text.family(
        "staunch_queue_horizon_slo_seconds",
        "gauge",
        "What its policy asks for (horizon-slo)",
    );
    for (row, vhost, queue) in &rows {
        if let Some(millis) = row.queue.settings.horizon_slo_millis {
            let labels = [("vhost", vhost.as_str()), ("queue", queue)];
            text.sample(&labels, shown(TimeLeft::Millis(millis)));
        }
    }
}

fn limit_of(bound: &Bound) -> &'static str {
    bound
        .limit
        .map_or("none", |(resource, _)| resource_name(resource))
}

fn shown(time: TimeLeft) -> String {
    seconds(time).map_or_else(|| "+Inf".to_owned(), |seconds| seconds.to_string())
}
