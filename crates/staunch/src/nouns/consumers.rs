//! `staunch consumer`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::{
    options::Options,
    output::{self, Listing},
    target::path,
};

const COLUMNS: &[(&str, &str)] = &[
    ("VHOST", "queue.vhost"),
    ("QUEUE", "queue.name"),
    ("TAG", "consumer_tag"),
    ("CHANNEL", "channel_details.name"),
    ("ACKS", "ack_required"),
    ("EXCLUSIVE", "exclusive"),
    ("PREFETCH", "prefetch_count"),
    ("STATUS", "activity_status"),
];

#[derive(Args)]
pub(crate) struct ConsumerArgs {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: ConsumerCommand,
}

#[derive(Subcommand)]
enum ConsumerCommand {
    /// Lists consumers.
    #[command(visible_alias = "list")]
    Ls {
        /// Only those of this queue.
        #[arg(long, value_name = "NAME")]
        queue: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
}

pub(crate) fn run(args: &ConsumerArgs) -> anyhow::Result<ExitCode> {
    let options = &args.options;
    let target = options.target()?;
    let ConsumerCommand::Ls { queue, listing } = &args.command;
    let path = match &target.resolved.vhost {
        Some(vhost) => path(&["consumers", vhost]),
        None => "consumers".to_owned(),
    };
    let mut rows = target.get_list(&path)?;
    rows.retain(|row| queue.as_ref().is_none_or(|it| row["queue"]["name"] == **it));
    output::list(options, listing, rows, COLUMNS)?;
    Ok(ExitCode::SUCCESS)
}
