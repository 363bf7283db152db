//! Horizons as JSON. Times are seconds, and null is never.

use serde_json::{Value, json};
use staunch_horizon::{Bound, Estimate, Horizon, Limit, Model, Outcome, Rates, Resource, TimeLeft};

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
