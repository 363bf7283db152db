//! Checks of nodes and their room.

use super::{
    Finding,
    facts::{Facts, named, text},
};

/// Share of the file descriptors above which there are too few left, in percent.
const FILES_PERCENT_MAX: u64 = 80;

/// An alarm is on: publishers are blocked.
pub(super) fn alarms(facts: &Facts) -> Vec<Finding> {
    let alarms = facts.alarms.iter();
    let alarms = alarms.flat_map(|it| it["alarms"].as_array().into_iter().flatten());
    alarms
        .map(|alarm| {
            let resource = text(alarm, "resource");
            Finding::new(
                format!(
                    "alarm of {} on {}: publishers are blocked",
                    resource,
                    text(alarm, "node")
                ),
                "consume, purge or move messages; staunch node ls shows memory and disk",
            )
        })
        .collect()
}

/// A node of the cluster is away.
pub(super) fn nodes_down(facts: &Facts) -> Vec<Finding> {
    let down = facts.nodes.iter().filter(|node| node["running"] == false);
    down.map(|node| {
        Finding::new(
            format!("node {} is down", text(node, "name")),
            format!(
                "start it, or staunch node remove {} --force",
                text(node, "name")
            ),
        )
    })
    .collect()
}

/// A replicated queue stands still.
pub(super) fn leaderless(facts: &Facts) -> Vec<Finding> {
    let queues = facts.cluster["groups"]["leaderless_queues"].as_array();
    let queues = queues.into_iter().flatten();
    queues
        .map(|queue| {
            Finding::new(
                format!("queue {} has no leader", named(queue)),
                "a majority of the nodes that keep it must be up: staunch queue replicas",
            )
        })
        .collect()
}

/// Few file descriptors are left.
pub(super) fn files(facts: &Facts) -> Vec<Finding> {
    let short = facts.nodes.iter().filter(|node| {
        let used = node["fd_used"].as_u64().unwrap_or(0);
        let total = node["fd_total"].as_u64().unwrap_or(0);
        used.saturating_mul(100) > total.saturating_mul(FILES_PERCENT_MAX)
    });
    short
        .map(|node| {
            Finding::new(
                format!(
                    "node {} uses {} of {} files",
                    text(node, "name"),
                    node["fd_used"],
                    node["fd_total"]
                ),
                "raise the limit of open files (LimitNOFILE)",
            )
        })
        .collect()
}

/// A queue does not hold out as long as its policy asks for.
pub(super) fn horizon(facts: &Facts) -> Vec<Finding> {
    let short = facts.short_of_slo.iter();
    short
        .map(|queue| {
            Finding::new(
                format!(
                    "queue {} may be full sooner than its horizon-slo",
                    named(queue)
                ),
                format!("staunch horizon {}", text(queue, "name")),
            )
        })
        .collect()
}
