//! `staunch top`: the busiest queues, again and again.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{
        options::Options,
        output,
        table::{self, Column},
        target::Target,
    },
    nouns::horizon::CLEAR,
};

const COLUMNS: &[(&str, &str)] = &[
    ("VHOST", "vhost"),
    ("QUEUE", "name"),
    ("READY", "messages_ready"),
    ("UNACKED", "messages_unacknowledged"),
    ("CONSUMERS", "consumers"),
    ("IN/s", "message_stats.publish_details.rate"),
    ("OUT/s", "message_stats.deliver_get_details.rate"),
    ("ACKS/s", "message_stats.ack_details.rate"),
    ("BYTES", "message_bytes"),
    ("MEMORY", "memory"),
];

#[derive(Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    options: Options,
    /// What decides: a column of `staunch queue ls --columns`.
    #[arg(long, value_name = "NAME", default_value = "messages_ready")]
    sort: String,
    /// So many queues.
    #[arg(long, short = 'n', default_value_t = 20)]
    count: usize,
    /// Between two looks, in seconds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// Looks once and ends.
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let target = args.options.target()?;
    loop {
        look(args, &target)?;
        if args.once {
            return Ok(ExitCode::SUCCESS);
        }
        thread::sleep(Duration::from_secs(args.interval));
    }
}

fn look(args: &TopArgs, target: &Target) -> anyhow::Result<()> {
    let overview = target.get("overview")?;
    let mut queues = match &target.resolved.vhost {
        Some(vhost) => target.get_list(&crate::cli::target::path(&["queues", vhost]))?,
        None => target.get_list("queues")?,
    };
    table::sort(&mut queues, &Column::named(&args.sort));
    queues.reverse();
    queues.truncate(args.count);
    if args.options.json {
        return output::json(&json!({
            "object_totals": overview["object_totals"],
            "queue_totals": overview["queue_totals"],
            "queues": queues,
        }));
    }
    let rate = |name: &str| {
        let rate = &overview["message_stats"][format!("{name}_details")]["rate"];
        rate.as_f64().unwrap_or(0.0)
    };
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let (objects, totals) = (&overview["object_totals"], &overview["queue_totals"]);
    let mut text = format!(
        "{}: {} queues, {} connections, {} ready, {} unacked; {:.1} in/s, {:.1} out/s, {:.1} acks/s\n\n",
        overview["node"].as_str().unwrap_or_default(),
        number(&objects["queues"]),
        number(&objects["connections"]),
        number(&totals["messages_ready"]),
        number(&totals["messages_unacknowledged"]),
        rate("publish"),
        rate("deliver_get"),
        rate("ack"),
    );
    text.push_str(&table::table(&queues, &table::columns(COLUMNS)));
    if io::stdout().is_terminal() && !args.once {
        text.insert_str(0, CLEAR);
    }
    output::text(&text)
}
