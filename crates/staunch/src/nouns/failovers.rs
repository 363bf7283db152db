//! `staunch failovers`: which nodes were lost, how others took over, and what took so long.

use std::{fmt::Write as _, process::ExitCode};

use clap::Args;
use serde_json::Value;
use staunch_server::logging::rfc3339;

use crate::cli::{options::Options, output, table::visible};

/// What may have happened, in the order in which it does.
const MOMENTS: [(&str, &str); 7] = [
    ("disconnected_ms", "its connection broke"),
    ("suspected_ms", "it was given up"),
    ("campaigned_ms", "another node asked for votes"),
    ("first_led_ms", "the first of its queues had another leader"),
    ("all_led_ms", "all of them had one"),
    ("confirmed_ms", "a message to them was confirmed again"),
    ("back_ms", "it was back"),
];

#[derive(Args)]
pub(crate) struct FailoverArgs {
    #[command(flatten)]
    options: Options,
    /// The last so many.
    #[arg(long, short = 'n', default_value_t = 10)]
    count: usize,
}

pub(crate) fn run(args: &FailoverArgs) -> anyhow::Result<ExitCode> {
    let target = args.options.target()?;
    let mut answer = target.get("staunch/v1/failovers")?;
    if let Some(failovers) = answer["failovers"].as_array_mut() {
        failovers.truncate(args.count);
    }
    if args.options.json {
        output::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let failovers = answer["failovers"].as_array().into_iter().flatten();
    let told: Vec<_> = failovers.map(timeline).collect();
    if told.is_empty() {
        output::text("no node has been lost since the nodes that answer were started\n")?;
    }
    output::text(&told.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// A failover as lines, from the last that was heard of the node.
fn timeline(failover: &Value) -> String {
    let number = |key: &str| failover[key].as_u64().unwrap_or_default();
    let at = number("last_heard_at");
    let node = visible(failover["node"].as_str().unwrap_or_default());
    let millis = u32::try_from(at % 1_000).unwrap_or_default();
    let mut lines = format!("{}  {node} was last heard\n", rfc3339(at / 1_000, millis));
    let moments = MOMENTS.iter();
    let moments = moments.filter_map(|(key, what)| Some((failover[*key].as_f64()?, *what)));
    let mut moments: Vec<_> = moments.collect();
    moments.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    for (after, what) in moments {
        let line = writeln!(lines, "{:>13} ms  {what}", format!("+{after:.1}"));
        line.expect("a text takes everything");
    }
    let led_by = failover["led_by"].as_array().into_iter().flatten();
    let led_by = led_by.map(|it| {
        let node = visible(it["node"].as_str().unwrap_or_default());
        format!("; {} by {node}", it["queues"])
    });
    let (queues, led, resent) = (number("queues"), number("led"), number("resent"));
    let explained = failover["explained"].as_str().unwrap_or_default();
    let catalog = if failover["led_catalog"] == true {
        " and the catalog"
    } else {
        ""
    };
    let summary = writeln!(
        lines,
        "  it led {queues} queues{catalog}; {led} are led by others{}; {resent} messages were sent \
         again\n  {}",
        led_by.collect::<String>(),
        visible(explained),
    );
    summary.expect("a text takes everything");
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_timeline_is_in_the_order_of_time() {
        let failover = json!({
            "node": "n1", "last_heard_at": 1_000_007, "queues": 5, "led": 5, "resent": 2,
            "led_catalog": true, "led_by": [{"node": "n2", "queues": 5}],
            "suspected_ms": 41.5, "disconnected_ms": 20.0, "campaigned_ms": null,
            "all_led_ms": 60.25, "explained": "It is so.",
        });
        let expected = "\
1970-01-01T00:16:40.007Z  n1 was last heard
        +20.0 ms  its connection broke
        +41.5 ms  it was given up
        +60.2 ms  all of them had one
  it led 5 queues and the catalog; 5 are led by others; 5 by n2; 2 messages were sent again
  It is so.
";
        assert_eq!(timeline(&failover), expected);
    }
}
