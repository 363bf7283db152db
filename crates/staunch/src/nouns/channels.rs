//! `staunch channel`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::{
    options::Options,
    output::{self, Listing},
    target::path,
};

const COLUMNS: &[(&str, &str)] = &[
    ("NAME", "name"),
    ("USER", "user"),
    ("VHOST", "vhost"),
    ("CONFIRMS", "confirm"),
    ("PREFETCH", "global_prefetch_count"),
    ("CONSUMERS", "consumer_count"),
    ("UNACKED", "messages_unacknowledged"),
    ("UNCONFIRMED", "messages_unconfirmed"),
    ("IN/s", "message_stats.publish_details.rate"),
    ("OUT/s", "message_stats.deliver_get_details.rate"),
];

#[derive(Args)]
pub(crate) struct ChannelArgs {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: ChannelCommand,
}

#[derive(Subcommand)]
enum ChannelCommand {
    /// Lists channels.
    #[command(visible_alias = "list")]
    Ls {
        /// Only those of this connection.
        #[arg(long, value_name = "NAME")]
        connection: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
}

pub(crate) fn run(args: &ChannelArgs) -> anyhow::Result<ExitCode> {
    let options = &args.options;
    let target = options.target()?;
    let ChannelCommand::Ls {
        connection,
        listing,
    } = &args.command;
    let path = match (connection, &target.resolved.vhost) {
        (Some(connection), _) => path(&["connections", connection, "channels"]),
        (None, Some(vhost)) => path(&["vhosts", vhost, "channels"]),
        (None, None) => "channels".to_owned(),
    };
    output::list(options, listing, target.get_list(&path)?, COLUMNS)?;
    Ok(ExitCode::SUCCESS)
}
