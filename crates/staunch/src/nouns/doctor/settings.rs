//! Checks of policies, queues and consumers.

use serde_json::Value;

use super::{
    Finding,
    facts::{Facts, inside, named, setting, text},
};

/// Settings that bound what a queue holds.
const BOUNDS: [&str; 4] = ["max-length", "max-length-bytes", "message-ttl", "expires"];

/// A policy is in force nowhere.
pub(super) fn policy_matches_nothing(facts: &Facts) -> Vec<Finding> {
    let idle = facts.policies.iter().filter(|policy| {
        let (vhost, name) = (&policy["vhost"], &policy["name"]);
        let mut all = facts.queues.iter().chain(&facts.exchanges);
        !all.any(|it| it["vhost"] == *vhost && it["policy"] == *name)
    });
    idle.map(|policy| {
        let name = text(policy, "name");
        Finding::new(
            format!(
                "policy {} is in force nowhere (pattern '{}')",
                named(policy),
                text(policy, "pattern")
            ),
            format!("staunch policy show {name}{}", inside(policy)),
        )
    })
    .collect()
}

/// Of two policies with the same pattern and priority one applies, and nobody can say which.
pub(super) fn policies_of_equal_rank(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, one) in facts.policies.iter().enumerate() {
        let is_same = |other: &&Value| {
            let same = |key: &str| one[key] == other[key];
            same("vhost") && same("pattern") && same("priority") && same("apply-to")
        };
        if let Some(other) = facts.policies[at + 1..].iter().find(is_same) {
            findings.push(Finding::new(
                format!(
                    "policies {} and {} have the same pattern and priority: one of them never applies",
                    named(one),
                    named(other)
                ),
                "give one a higher --priority, or make one of both",
            ));
        }
    }
    findings
}

/// A queue holds messages, nobody consumes them, and nothing bounds it.
pub(super) fn unbounded(facts: &Facts) -> Vec<Finding> {
    let unbounded = facts.queues.iter().filter(|queue| {
        let is_bounded = BOUNDS.iter().any(|key| setting(queue, key).is_some());
        let messages = queue["messages"].as_u64().unwrap_or(0);
        !is_bounded && messages > 0 && queue["consumers"] == 0
    });
    unbounded
        .map(|queue| {
            Finding::new(
                format!(
                    "queue {} holds {} messages, has no consumer and no limit",
                    named(queue),
                    queue["messages"]
                ),
                format!(
                    "staunch policy set NAME '^{}$' max-length=… overflow=reject-publish{}",
                    text(queue, "name"),
                    inside(queue)
                ),
            )
        })
        .collect()
}

/// A consumer takes as much as there is, before it has acked any of it.
pub(super) fn unlimited_prefetch(facts: &Facts) -> Vec<Finding> {
    let greedy = facts
        .consumers
        .iter()
        .filter(|it| it["ack_required"] == true && it["prefetch_count"] == 0);
    greedy
        .map(|consumer| {
            Finding::new(
                format!(
                    "consumer '{}' of queue {} has no prefetch limit",
                    text(consumer, "consumer_tag"),
                    named(&consumer["queue"])
                ),
                "basic.qos before basic.consume",
            )
        })
        .collect()
}
