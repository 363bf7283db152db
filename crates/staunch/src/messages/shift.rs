//! `staunch queue move`: messages from one queue to another, or to an exchange.

use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use serde_json::json;
use staunch_types::properties::PropertyList;

use crate::{
    cli::{
        failure::{Exit, Failure},
        options::Options,
        output,
    },
    messages::{
        progress::Progress,
        transfer::{Bounds, Fate, Moved, transfer},
    },
    nouns::queues::{self, Named},
};

#[derive(Args)]
pub(crate) struct Shift {
    #[command(flatten)]
    named: Named,
    /// The queue that they go to.
    #[arg(long, value_name = "QUEUE", required_unless_present = "to_exchange")]
    to: Option<String>,
    /// The exchange that they go to, each with its routing key.
    #[arg(long, value_name = "EXCHANGE", conflicts_with = "to")]
    to_exchange: Option<String>,
    #[command(flatten)]
    pace: Pace,
}

/// How much of it, and how quickly.
#[derive(Args)]
pub(crate) struct Pace {
    /// At most so many messages, from the front.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// At most so many messages a second.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Only says what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl Pace {
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            limit: self.limit,
            rate: self.rate,
            is_dry: self.dry_run,
        }
    }
}

pub(crate) fn run(options: &Options, shift: &Shift) -> anyhow::Result<ExitCode> {
    let target = options.target()?;
    let from = &shift.named.name;
    if let Some(to) = &shift.to {
        if to == from {
            return Err(Failure::usage("a queue cannot be moved to itself").into());
        }
        queues::find(&target, to)?;
    }
    let progress = Progress::new("moved");
    let moved = transfer(
        &target,
        from,
        shift.pace.bounds(),
        |got| {
            let properties = PropertyList::from_validated(Bytes::copy_from_slice(&got.properties));
            let key = || String::from_utf8(got.routing_key.clone());
            let (exchange, routing_key) = match (&shift.to, &shift.to_exchange) {
                (Some(queue), _) => (String::new(), queue.clone()),
                (None, exchange) => (
                    exchange.clone().unwrap_or_default(),
                    key().map_err(|_| Failure::new(Exit::Failed, "a routing key is no UTF-8"))?,
                ),
            };
            Ok(Fate::To {
                exchange,
                routing_key,
                properties,
            })
        },
        |moved| progress.show(moved),
    );
    let moved = moved?;
    progress.end();
    let verb = if shift.pace.dry_run {
        "would be moved"
    } else {
        "moved"
    };
    report(options, moved, verb)
}

/// Prints what has become of the messages.
pub(crate) fn report(options: &Options, moved: Moved, verb: &str) -> anyhow::Result<ExitCode> {
    if options.json {
        output::json(&json!({
            "seen": moved.seen,
            "done": moved.done,
            "stayed": moved.stayed,
            "refused": moved.refused,
            "result": verb,
        }))?;
    } else {
        output::text(&format!("{} {verb}", moved.done))?;
        if moved.stayed > 0 {
            output::text(&format!(", {} passed over", moved.stayed))?;
        }
        output::text("\n")?;
    }
    if moved.refused == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let what = format!(
        "{} could not be delivered and stay where they are",
        moved.refused
    );
    let hint = "is the queue there, and not full? staunch route explains where a message goes";
    Err(Failure::new(Exit::Partial, what).with_hint(hint).into())
}
