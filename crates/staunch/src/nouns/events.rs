//! `staunch events`: what has happened in the cluster, and what happens.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Args;
use serde_json::Value;
use staunch_server::logging::rfc3339;

use crate::cli::{
    failure::{Exit, Failure},
    options::Options,
    output,
    table::visible,
    target::{Target, segment},
};

/// Between two attempts to go on.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How far each node's list has been shown: the number of the last event.
type Seen = BTreeMap<String, u64>;

#[derive(Args)]
pub(crate) struct EventArgs {
    #[command(flatten)]
    options: Options,
    /// Only those whose names begin so, such as `node.` or `queue.led`.
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = "",
        hide_default_value = true
    )]
    name: String,
    /// So many, at most 1000; with `--follow`, before those that come.
    #[arg(long, short = 'n', default_value_t = 100)]
    count: usize,
    /// Shows what happens until it is stopped; goes on when the node is back.
    #[arg(long, short)]
    follow: bool,
}

pub(crate) fn run(args: &EventArgs) -> anyhow::Result<ExitCode> {
    let target = args.options.target()?;
    let name = segment(&args.name);
    let path = format!("staunch/v1/events?count={}&name={name}", args.count);
    let answer = target.get(&path)?;
    if args.options.json && !args.follow {
        output::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut seen = Seen::new();
    for event in answer["events"].as_array().into_iter().flatten() {
        show(args, event, &mut seen)?;
    }
    let unknown: Vec<_> = answer["unknown_nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    if !unknown.is_empty() {
        let failure = "what has happened on nodes that do not answer is missing";
        let names = unknown.iter().filter_map(|name| name.as_str());
        let names = names.map(visible).collect::<Vec<_>>().join(", ");
        return Err(Failure::new(Exit::Partial, format!("{failure}: {names}")).into());
    }
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        follow(args, &target, &mut seen)?;
        thread::sleep(AGAIN_AFTER);
    }
}

/// Shows events until the stream ends.
fn follow(args: &EventArgs, target: &Target, seen: &mut Seen) -> anyhow::Result<()> {
    let path = format!("staunch/v1/events?name={}", segment(&args.name));
    let last = seen.iter().map(|(node, number)| format!("{node}={number}"));
    let last = last.collect::<Vec<_>>().join(",");
    let stream = match target.stream(&path, &last) {
        Ok(stream) => stream,
        // It was there a moment ago, and may be again.
        Err(failure) if failure.exit == Exit::Unreachable => return Ok(()),
        Err(failure) => return Err(failure.into()),
    };
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        let event: Value = serde_json::from_str(data)?;
        if event["event"].is_string() {
            show(args, &event, seen)?;
        }
    }
    Ok(())
}

fn show(args: &EventArgs, event: &Value, seen: &mut Seen) -> anyhow::Result<()> {
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    let number = event["number"].as_u64().unwrap_or_default();
    seen.insert(text("node").to_owned(), number);
    if args.options.json {
        return output::text(&format!("{event}\n"));
    }
    let at = event["at"].as_u64().unwrap_or_default();
    let millis = u32::try_from(at % 1_000).unwrap_or_default();
    let fields = event["fields"].as_object().into_iter().flatten();
    let fields = fields.map(|(name, value)| match value {
        Value::String(text) => format!(" {name}={}", visible(text)),
        other => format!(" {name}={other}"),
    });
    output::text(&format!(
        "{} {} {:<5} {}: {};{}\n",
        rfc3339(at / 1_000, millis),
        visible(text("node")),
        text("level"),
        visible(text("event")),
        visible(text("text")),
        fields.collect::<String>(),
    ))
}
