//! `staunch plan`: what a load needs, by arithmetic alone; no node is asked.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::{
    durations::{bytes, seconds, shown, shown_bytes},
    failure::Failure,
    options::Options,
    output,
};

/// What a message takes in the log beside its body: its record, routing key and properties
/// (`docs/format.md`).
const RECORD_SIZE_BYTES: f64 = 64.0;
/// What a message that waits takes in memory: its place in its queue (`docs/benchmarks.md`).
const INDEX_SIZE_BYTES: f64 = 18.0;
/// Share of the disk that stays free: publishers are blocked before it is full.
const FREE_SHARE: f64 = 0.2;

const COLUMNS: &[(&str, &str)] = &[
    ("MESSAGES", "shown.messages"),
    ("MESSAGE BYTES", "shown.body"),
    ("MAX-LENGTH", "shown.max_length"),
    ("DISK OF EACH NODE", "shown.disk"),
    ("DISK WRITES OF EACH NODE", "shown.writes"),
    ("MEMORY OF EACH NODE", "shown.memory"),
    ("NETWORK OUT OF A LEADER", "shown.network"),
    ("NODES THAT MAY FAIL", "shown.failures"),
    ("CATCHING UP TAKES", "shown.catch_up"),
];

#[derive(Args)]
pub(crate) struct PlanArgs {
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Messages a second that are published.
    #[arg(long)]
    rate: f64,
    /// Size of a message, such as `512`, `2KiB`.
    #[arg(long, value_name = "BYTES")]
    size: String,
    /// How long consumers may be gone, such as `4h`.
    #[arg(long, value_name = "TIME")]
    outage: String,
    /// Nodes that keep each message.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    replicas: u8,
    /// Nodes of the cluster, over which queues are spread.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    nodes: u8,
    /// Messages a second that consumers can take when they are back.
    #[arg(long, value_name = "RATE")]
    consumers: Option<f64>,
}

pub(crate) fn run(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let size = bytes(&args.size)
        .ok_or_else(|| Failure::usage(format!("'{}' is no size such as 2KiB", args.size)))?;
    let outage = seconds(&args.outage)
        .ok_or_else(|| Failure::usage(format!("'{}' is no time such as 4h", args.outage)))?;
    if !(args.rate.is_finite() && args.rate > 0.0) {
        return Err(Failure::usage("a plan needs a rate above 0").into());
    }
    if args.replicas > args.nodes {
        return Err(Failure::usage("there are more replicas than nodes").into());
    }
    let share = f64::from(args.replicas) / f64::from(args.nodes);
    let messages = args.rate * outage;
    let stored = size + RECORD_SIZE_BYTES;
    let disk = messages * stored * share / (1.0 - FREE_SHARE);
    let writes = args.rate * stored * share;
    let memory = messages * INDEX_SIZE_BYTES * share;
    let network = args.rate * stored * f64::from(args.replicas - 1) / f64::from(args.nodes);
    let failures = (args.replicas - 1) / 2;
    let surplus = args.consumers.map(|consumers| consumers - args.rate);
    let catch_up = match surplus {
        None => "unknown: --consumers RATE".to_owned(),
        Some(surplus) if surplus <= 0.0 => {
            "for ever: consumers are no quicker than publishers".to_owned()
        }
        Some(surplus) => shown(messages / surplus),
    };
    let plan = json!({
        "messages": messages.round(),
        "message_bytes": (messages * size).round(),
        "disk_bytes_per_node": disk.round(),
        "write_bytes_per_second_per_node": writes.round(),
        "memory_bytes_per_node": memory.round(),
        "network_bytes_per_second_per_node": network.round(),
        "nodes_that_may_fail": failures,
        "catch_up_seconds": surplus.filter(|it| *it > 0.0).map(|it| (messages / it).round()),
    });
    let mut shown_plan = plan.clone();
    if !args.json {
        shown_plan["shown"] = json!({
            "messages": format!("{messages:.0}"),
            "body": shown_bytes(messages * size),
            "max_length": format!("{messages:.0} or more, or none"),
            "disk": format!("{}, a fifth of it free", shown_bytes(disk)),
            "writes": format!("{}/s", shown_bytes(writes)),
            "memory": format!("{} for what waits", shown_bytes(memory)),
            "network": format!("{}/s to its followers", shown_bytes(network)),
            "failures": failures.to_string(),
            "catch_up": catch_up,
        });
    }
    output::one(&Options::printing(args.json), &shown_plan, COLUMNS)?;
    Ok(ExitCode::SUCCESS)
}
