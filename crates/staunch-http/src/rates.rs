//! Numbers that move, as RabbitMQ shows them: `name` and `name_details`.

use serde_json::{Map, Value, json};
use staunch_stats::{MESSAGE_NAMES, Points, Round, Series, Window};

/// Every number and how fast it moves; with its past if that is asked for and known.
pub(crate) fn moving<const N: usize>(
    names: &[&str; N],
    series: &Series<N>,
    round: &Round,
    window: Option<Window>,
) -> Map<String, Value> {
    let mut shown = Map::new();
    for (place, name) in names.iter().enumerate() {
        let mut details = json!({"rate": series.rate(place, round)});
        if let Some(points) = window.and_then(|it| series.points(place, it, round)) {
            add_points(&mut details, &points);
        }
        shown.insert((*name).to_owned(), series.now()[place].into());
        shown.insert(format!("{name}_details"), details);
    }
    shown
}

/// What queues do not count.
const NOT_OF_QUEUES: [&str; 3] = ["confirm", "return_unroutable", "drop_unroutable"];

/// `message_stats` of a queue; none if nothing ever happened in it.
pub(crate) fn queue_stats(
    series: &Series<{ MESSAGE_NAMES.len() }>,
    round: &Round,
    window: Option<Window>,
) -> Option<Value> {
    let mut shown = series
        .has_moved()
        .then(|| moving(&MESSAGE_NAMES, series, round, window))?;
    for name in NOT_OF_QUEUES {
        shown.remove(name);
        shown.remove(&format!("{name}_details"));
    }
    Some(Value::Object(shown))
}

/// `message_stats`; empty for what never moved.
pub(crate) fn message_stats(
    series: Option<&Series<{ MESSAGE_NAMES.len() }>>,
    round: &Round,
    window: Option<Window>,
) -> Value {
    match series.filter(|series| series.has_moved()) {
        None => json!({}),
        Some(series) => Value::Object(moving(&MESSAGE_NAMES, series, round, window)),
    }
}

/// Adds `more` to a row.
pub(crate) fn extend(row: &mut Value, more: Map<String, Value>) {
    if let Value::Object(row) = row {
        row.extend(more);
    }
}

fn add_points(details: &mut Value, points: &Points) {
    let samples = points.samples.iter();
    let samples = samples.map(|it| json!({"sample": it.sample, "timestamp": it.timestamp}));
    details["samples"] = samples.collect();
    details["avg"] = points.average.into();
    details["avg_rate"] = points.average_rate.into();
}
