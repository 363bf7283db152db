//! Numbers that move, as RabbitMQ shows them: `name` and `name_details`.

use serde_json::{Map, Number, Value, json};
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

/// One number of `message_stats` of a queue, or how fast it moves.
pub(crate) fn queue_value(
    path: &[String],
    series: &Series<{ MESSAGE_NAMES.len() }>,
    round: &Round,
) -> Option<Value> {
    let name = path.first()?;
    let name = name.strip_suffix("_details").unwrap_or(name);
    if !series.has_moved() || NOT_OF_QUEUES.contains(&name) {
        return None;
    }
    value_at(path, &MESSAGE_NAMES, series, round)
}

/// What [`moving`] has at a path: a number, or a rate.
pub(crate) fn value_at<const N: usize>(
    path: &[String],
    names: &[&str; N],
    series: &Series<N>,
    round: &Round,
) -> Option<Value> {
    let place = |wanted: &str| names.iter().position(|name| *name == wanted);
    match path {
        [name] => Some(series.now()[place(name)?].into()),
        [details, rate] if rate == "rate" => {
            let place = place(details.strip_suffix("_details")?)?;
            Some(series.rate(place, round).into())
        }
        _ => None,
    }
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

/// Adds the numbers of another node to these. Samples are added by their place, newest first; where one
/// node has no past, as it was started later, it counted nothing. Everything else stays as it is.
pub(crate) fn add(sum: &mut Map<String, Value>, other: Map<String, Value>) {
    for (name, other) in other {
        match sum.get_mut(&name) {
            Some(value) => add_value(value, other),
            None => {
                sum.insert(name, other);
            }
        }
    }
}

/// Adds another node's value to one.
pub(crate) fn add_value(sum: &mut Value, other: Value) {
    match (sum, other) {
        (Value::Object(sum), Value::Object(other)) => add(sum, other),
        (Value::Array(sum), Value::Array(other)) => {
            let mut other = other.into_iter();
            for (point, other) in sum.iter_mut().zip(&mut other) {
                let sample = point["sample"].as_u64().zip(other["sample"].as_u64());
                if let Some((one, other)) = sample {
                    point["sample"] = (one + other).into();
                }
            }
            sum.extend(other);
        }
        (Value::Number(sum), Value::Number(other)) => {
            if let Some((one, other)) = sum.as_u64().zip(other.as_u64()) {
                *sum = one.saturating_add(other).into();
            } else if let Some((one, other)) = sum.as_f64().zip(other.as_f64()) {
                *sum = Number::from_f64(one + other).unwrap_or_else(|| 0.into());
            }
        }
        _ => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rates_and_samples_of_two_nodes_are_added() {
        let of = |value: Value| match value {
            Value::Object(map) => map,
            other => panic!("{other}"),
        };
        let mut sum = of(json!({
            "publish": 3,
            "publish_details": {
                "rate": 1.5,
                "samples": [{"sample": 3, "timestamp": 20}, {"sample": 1, "timestamp": 10}],
            },
            "node": "n1",
        }));
        add(
            &mut sum,
            of(json!({
                "publish": 4,
                "publish_details": {"rate": 0.5, "samples": [{"sample": 4, "timestamp": 18}]},
                "ack": 2,
                "node": "n2",
            })),
        );
        let expected = json!({
            "publish": 7,
            "publish_details": {
                "rate": 2.0,
                "samples": [{"sample": 7, "timestamp": 20}, {"sample": 1, "timestamp": 10}],
            },
            "ack": 2,
            "node": "n1",
        });
        assert_eq!(Value::Object(sum), expected);
        // The other way round the longer past is the other's.
        let mut short = of(json!({"samples": [{"sample": 4, "timestamp": 18}]}));
        add(&mut short, of(expected["publish_details"].clone()));
        assert_eq!(
            short["samples"],
            json!([{"sample": 11, "timestamp": 18}, {"sample": 1, "timestamp": 10}])
        );
    }
}
