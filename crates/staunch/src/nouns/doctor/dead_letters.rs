//! Checks of where dead letters go.

use serde_json::Value;

use super::{
    Finding,
    facts::{Facts, inside, named, setting, text},
};

/// Queues with the exchange that their dead letters go to.
fn dying(facts: &Facts) -> impl Iterator<Item = (&Value, &str)> {
    let queues = facts.queues.iter();
    queues.filter_map(|queue| Some((queue, setting(queue, "dead-letter-exchange")?.as_str()?)))
}

/// The exchange is not there: dead letters are gone.
pub(super) fn exchange_missing(facts: &Facts) -> Vec<Finding> {
    let missing = dying(facts)
        .filter(|(queue, exchange)| facts.exchange(&queue["vhost"], exchange).is_none());
    missing
        .map(|(queue, exchange)| {
            Finding::new(
                format!(
                    "dead letters of queue {} are lost: there is no exchange '{exchange}'",
                    named(queue)
                ),
                format!("staunch exchange create {exchange}{}", inside(queue)),
            )
        })
        .collect()
}

/// The exchange leads them to no queue: dead letters are gone.
pub(super) fn lead_nowhere(facts: &Facts) -> Vec<Finding> {
    let nowhere = dying(facts).filter(|(queue, exchange)| {
        let vhost = &queue["vhost"];
        if exchange.is_empty() {
            let key = setting(queue, "dead-letter-routing-key");
            let key = key
                .and_then(Value::as_str)
                .unwrap_or_else(|| text(queue, "name"));
            let mut queues = facts.queues.iter();
            return !queues.any(|it| it["vhost"] == *vhost && it["name"] == key);
        }
        facts.exchange(vhost, exchange).is_some() && facts.out_of(vhost, exchange).next().is_none()
    });
    nowhere
        .map(|(queue, exchange)| {
            Finding::new(
                format!(
                    "dead letters of queue {} are lost: exchange '{exchange}' leads to no queue",
                    named(queue)
                ),
                format!("staunch binding create {exchange} QUEUE{}", inside(queue)),
            )
        })
        .collect()
}

/// Dead letters wait, and nobody consumes them.
pub(super) fn nobody_looks(facts: &Facts) -> Vec<Finding> {
    let waiting = facts.queues.iter().filter(|queue| {
        let vhost = &queue["vhost"];
        let mut deaths = dying(facts).filter(|(dying, _)| dying["vhost"] == *vhost);
        let has_some = queue["messages"].as_u64().unwrap_or(0) > 0;
        has_some
            && queue["consumers"] == 0
            && deaths.any(|(_, exchange)| {
                let mut bindings = facts.out_of(vhost, exchange);
                !exchange.is_empty() && bindings.any(|it| it["destination"] == queue["name"])
            })
    });
    waiting
        .map(|queue| {
            Finding::new(
                format!(
                    "{} dead letters wait in queue {}, and nobody consumes them",
                    queue["messages"],
                    named(queue)
                ),
                format!("staunch dlq show {}{}", text(queue, "name"), inside(queue)),
            )
        })
        .collect()
}

/// A full queue drops messages, and nobody ever sees them again.
pub(super) fn dropped(facts: &Facts) -> Vec<Finding> {
    let dropping = facts.queues.iter().filter(|queue| {
        let is_bounded = ["max-length", "max-length-bytes"]
            .iter()
            .any(|key| setting(queue, key).is_some());
        let overflow = setting(queue, "overflow").and_then(Value::as_str);
        is_bounded
            && overflow.is_none_or(|it| it == "drop-head")
            && setting(queue, "dead-letter-exchange").is_none()
    });
    dropping
        .map(|queue| {
            Finding::new(
                format!(
                    "queue {} drops its oldest messages when it is full",
                    named(queue)
                ),
                "overflow=reject-publish, or a dead-letter-exchange",
            )
        })
        .collect()
}
