//! `staunch status`: a node at a glance.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::{failure::Exit, options::Options, output, target::Target};

const COLUMNS: &[(&str, &str)] = &[
    ("NODE", "node"),
    ("CLUSTER", "cluster_name"),
    ("VERSION", "staunch_version"),
    ("COMPATIBLE WITH", "product"),
    ("HEALTH", "health"),
    ("LISTENERS", "listening"),
    ("QUEUES", "object_totals.queues"),
    ("EXCHANGES", "object_totals.exchanges"),
    ("CONNECTIONS", "object_totals.connections"),
    ("CHANNELS", "object_totals.channels"),
    ("CONSUMERS", "object_totals.consumers"),
    ("READY", "queue_totals.messages_ready"),
    ("UNACKED", "queue_totals.messages_unacknowledged"),
    ("IN/s", "message_stats.publish_details.rate"),
    ("CONFIRMS/s", "message_stats.confirm_details.rate"),
    ("OUT/s", "message_stats.deliver_get_details.rate"),
    ("ACKS/s", "message_stats.ack_details.rate"),
];

#[derive(Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    options: Options,
}

/// Ends with 1 if an alarm is on.
pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let target = args.options.target()?;
    let mut overview = target.get("overview")?;
    let (is_well, health) = health(&target)?;
    overview["health"] = health;
    let product = &overview["product_name"];
    overview["product"] = format!(
        "{} {}",
        product.as_str().unwrap_or_default(),
        overview["product_version"].as_str().unwrap_or_default()
    )
    .into();
    overview["listening"] = listening(&overview["listeners"]);
    output::one(&args.options, &overview, COLUMNS)?;
    Ok(if is_well {
        ExitCode::SUCCESS
    } else {
        Exit::Failed.code()
    })
}

fn health(target: &Target) -> anyhow::Result<(bool, Value)> {
    let (passed, said) = target.check("health/checks/alarms")?;
    if passed {
        return Ok((true, json!("no alarms")));
    }
    let alarms = said["alarms"].as_array().cloned().unwrap_or_default();
    let resources = alarms.iter().filter_map(|alarm| alarm["resource"].as_str());
    let resources: Vec<_> = resources.collect();
    let text = format!("alarm: {}; publishers are blocked", resources.join(", "));
    Ok((false, text.into()))
}

fn listening(listeners: &Value) -> Value {
    let all = listeners.as_array().cloned().unwrap_or_default();
    let shown = all.iter().map(|it| {
        let address = it["ip_address"].as_str().unwrap_or_default();
        let protocol = it["protocol"].as_str().unwrap_or_default();
        format!("{protocol} {address}:{}", it["port"])
    });
    shown.collect::<Vec<_>>().into()
}
