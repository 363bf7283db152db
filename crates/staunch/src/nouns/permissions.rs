//! `staunch permission`: what users may do in virtual hosts.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::{
    failure::About as _,
    options::Options,
    output::{self, Listing},
    target::path,
};

const COLUMNS: &[(&str, &str)] = &[
    ("VHOST", "vhost"),
    ("USER", "user"),
    ("CONFIGURE", "configure"),
    ("WRITE", "write"),
    ("READ", "read"),
];

const TOPIC_COLUMNS: &[(&str, &str)] = &[
    ("VHOST", "vhost"),
    ("USER", "user"),
    ("EXCHANGE", "exchange"),
    ("WRITE", "write"),
    ("READ", "read"),
];

#[derive(Args)]
pub(crate) struct PermissionArgs {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: PermissionCommand,
}

#[derive(Subcommand)]
enum PermissionCommand {
    /// Lists permissions.
    #[command(visible_alias = "list")]
    Ls {
        /// Permissions on routing keys at topic exchanges.
        #[arg(long)]
        topic: bool,
        #[command(flatten)]
        listing: Listing,
    },
    /// Says what a user may do in a virtual host: regular expressions of names, empty for nothing.
    Set {
        /// The user.
        of: String,
        /// What it may declare and delete.
        #[arg(long, value_name = "PATTERN", default_value = ".*")]
        configure: String,
        /// What it may publish to; with --exchange, with which routing keys.
        #[arg(long, value_name = "PATTERN", default_value = ".*")]
        write: String,
        /// What it may consume from; with --exchange, with which routing keys it may bind.
        #[arg(long, value_name = "PATTERN", default_value = ".*")]
        read: String,
        /// A topic exchange whose routing keys are meant.
        #[arg(long, conflicts_with = "configure")]
        exchange: Option<String>,
    },
    /// Takes them away: the user may not enter the virtual host any more.
    Delete {
        /// The user.
        of: String,
        /// Only those on the routing keys of topic exchanges.
        #[arg(long)]
        topic: bool,
    },
}

pub(crate) fn run(args: &PermissionArgs) -> anyhow::Result<ExitCode> {
    let options = &args.options;
    let target = options.target()?;
    let vhost = target.vhost();
    match &args.command {
        PermissionCommand::Ls { topic, listing } => {
            let (kind, columns) = if *topic {
                ("topic-permissions", TOPIC_COLUMNS)
            } else {
                ("permissions", COLUMNS)
            };
            let path = match &target.resolved.vhost {
                Some(vhost) => path(&["vhosts", vhost, kind]),
                None => kind.to_owned(),
            };
            output::list(options, listing, target.get_list(&path)?, columns)?;
        }
        PermissionCommand::Set {
            of,
            configure,
            write,
            read,
            exchange,
        } => {
            let (kind, body) = match exchange {
                Some(exchange) => (
                    "topic-permissions",
                    json!({"exchange": exchange, "write": write, "read": read}),
                ),
                None => (
                    "permissions",
                    json!({"configure": configure, "write": write, "read": read}),
                ),
            };
            let put = target.put(&path(&[kind, vhost, of]), &body);
            put.about(|| named(of, vhost))?;
            output::done(options, "permission", of, "set")?;
        }
        PermissionCommand::Delete { of, topic } => {
            let kind = if *topic {
                "topic-permissions"
            } else {
                "permissions"
            };
            let deleted = target.delete(&path(&[kind, vhost, of]));
            deleted.about(|| named(of, vhost))?;
            output::done(options, "permission", of, "deleted")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn named(user: &str, vhost: &str) -> String {
    format!("user '{user}' with permissions in virtual host '{vhost}'")
}
