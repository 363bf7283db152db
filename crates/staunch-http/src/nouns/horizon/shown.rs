//! Horizons as JSON. Times are seconds, and null is never.

use std::cmp::Ordering;

use serde_json::{Value, json};
use staunch_horizon::{Bound, Estimate, Horizon, Limit, Model, Outcome, Rates, Resource, TimeLeft};

use crate::horizons::Basis;

/// All that can run out.
pub(crate) const RESOURCES: [Resource; 4] = [
    Resource::MaxLength,
    Resource::MaxLengthBytes,
    Resource::Memory,
    Resource::Disk,
];

pub(crate) fn shown_horizon(horizon: &Horizon) -> Value {
    json!({
        "now": shown_bound(&horizon.now),
        "stress": shown_bound(&horizon.stress),
        "peak": shown_bound(&horizon.peak),
        "to_empty": shown_estimate(&horizon.to_empty),
        "model": horizon.model.map(|model| match model {
            Model::Level { .. } => "level",
            Model::Trend { .. } => "trend",
            Model::Season { .. } => "season",
            Model::Swing { .. } => "swing",
        }),
    })
}

/// A time and what ends it.
pub(super) fn shown_bound(bound: &Bound) -> Value {
    let mut shown = shown_estimate(&bound.estimate);
    shown["limit"] = bound
        .limit
        .map(|(resource, _)| resource_name(resource))
        .into();
    shown["outcome"] = bound.limit.map(|(_, outcome)| outcome_name(outcome)).into();
    shown
}

pub(super) fn shown_estimate(estimate: &Estimate) -> Value {
    json!({
        "seconds": seconds(estimate.at),
        "low_seconds": seconds(estimate.low),
        "high_seconds": seconds(estimate.high),
    })
}

pub(super) fn shown_limit(limit: &Limit) -> Value {
    let unit = match limit.resource {
        Resource::MaxLength => "messages",
        Resource::MaxLengthBytes | Resource::Memory | Resource::Disk => "bytes",
    };
    json!({
        "limit": resource_name(limit.resource),
        "outcome": outcome_name(limit.outcome),
        "unit": unit,
        "capacity": limit.capacity,
        "used": limit.used,
        "left": limit.left(),
        "is_shared": limit.resource.is_shared(),
    })
}

pub(super) fn shown_rates(rates: &Rates) -> Value {
    json!({
        "messages_in_per_second": rates.messages_in,
        "messages_out_per_second": rates.messages_out,
        "bytes_in_per_second": rates.bytes_in,
        "bytes_out_per_second": rates.bytes_out,
    })
}

/// What runs out, as limits and labels call it.
pub(crate) fn resource_name(resource: Resource) -> &'static str {
    match resource {
        Resource::MaxLength => "max_length",
        Resource::MaxLengthBytes => "max_length_bytes",
        Resource::Memory => "memory",
        Resource::Disk => "disk",
    }
}

pub(super) fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Block => "block",
        Outcome::Refuse => "refuse",
        Outcome::DropOldest => "drop",
        Outcome::DeadLetter => "dead_letter",
    }
}

/// None: never.
pub(crate) fn seconds(time: TimeLeft) -> Option<f64> {
    time.millis().map(whole_seconds)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "beyond 2^53 milliseconds nobody counts them"
)]
pub(crate) fn whole_seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

/// The soonest first; of those that are alike by name.
pub(super) fn compare(basis: Basis, one: &Value, other: &Value) -> Ordering {
    let time = |row: &Value| times(&row["horizon"][basis.name()]);
    let name = |row: &Value| {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        (text("vhost"), text("name"))
    };
    let ((at, low), (other_at, other_low)) = (time(one), time(other));
    at.total_cmp(&other_at)
        .then(low.total_cmp(&other_low))
        .then_with(|| name(one).cmp(&name(other)))
}

/// Of what two nodes know of a virtual host: what comes first, and the queue that it is of.
pub(super) fn take_earlier(basis: Basis, known: &mut Value, other: &Value) {
    let is_sooner = |name: &str| {
        let time = |row: &Value| times(&row["horizon"][name]);
        time(other) < time(known)
    };
    let sooner = ["now", "stress", "peak"].map(|name| (name, is_sooner(name)));
    if is_sooner(basis.name()) || known["queue"].is_null() {
        known["queue"] = other["queue"].clone();
    }
    let (known, other) = (&mut known["horizon"], &other["horizon"]);
    for (name, is_sooner) in sooner {
        let (known, other) = (&mut known[name], &other[name]);
        if is_sooner {
            known["limit"] = other["limit"].clone();
            known["outcome"] = other["outcome"].clone();
        }
        for time in ESTIMATE {
            if real(&other[time]) < real(&known[time]) {
                known[time] = other[time].clone();
            }
        }
    }
    // Everything is empty when the last queue is.
    for time in ESTIMATE {
        let (known, other) = (&mut known["to_empty"][time], &other["to_empty"][time]);
        if real(other) > real(known) {
            *known = other.clone();
        }
    }
    if sooner[1].1 {
        known["model"] = other["model"].clone();
    }
}

const ESTIMATE: [&str; 3] = ["seconds", "low_seconds", "high_seconds"];

fn times(bound: &Value) -> (f64, f64) {
    (real(&bound["seconds"]), real(&bound["low_seconds"]))
}

/// Null: never.
fn real(seconds: &Value) -> f64 {
    seconds.as_f64().unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(seconds: Option<u32>, limit: &str) -> Value {
        let limit = seconds.map(|_| limit);
        json!({
            "seconds": seconds, "low_seconds": seconds, "high_seconds": seconds, "limit": limit,
            "outcome": limit.map(|_| "block"),
        })
    }

    fn vhost(queue: Option<&str>, now: Option<u32>, stress: Option<u32>, limit: &str) -> Value {
        let time = bound(Some(7), "");
        json!({
            "name": "/",
            "queue": queue,
            "horizon": {
                "now": bound(now, limit),
                "stress": bound(stress, limit),
                "peak": bound(None, limit),
                "to_empty": time,
                "model": "level",
            },
        })
    }

    #[test]
    fn a_virtual_host_of_two_nodes_is_as_good_as_the_first_of_its_queues() {
        let mut all = vhost(Some("a"), Some(90), Some(60), "disk");
        take_earlier(Basis::Stress, &mut all, &vhost(None, None, None, ""));
        assert_eq!(all, vhost(Some("a"), Some(90), Some(60), "disk"));
        take_earlier(
            Basis::Stress,
            &mut all,
            &vhost(Some("b"), Some(120), Some(30), "memory"),
        );
        assert_eq!(all["queue"], "b");
        assert_eq!(all["horizon"]["now"], bound(Some(90), "disk"));
        assert_eq!(all["horizon"]["stress"], bound(Some(30), "memory"));
        assert_eq!(all["horizon"]["peak"], bound(None, ""));
        let never = vhost(Some("c"), None, None, "");
        assert_eq!(compare(Basis::Now, &all, &never), Ordering::Less);
        assert_eq!(compare(Basis::Peak, &all, &never), Ordering::Equal);
    }
}
