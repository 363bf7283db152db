//! `staunch connection`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::{
    failure::{About as _, Exit, Failure},
    options::Options,
    output::{self, Listing},
    target::{Target, path},
};

const COLUMNS: &[(&str, &str)] = &[
    ("NAME", "name"),
    ("USER", "user"),
    ("VHOST", "vhost"),
    ("STATE", "state"),
    ("PROTOCOL", "protocol"),
    ("TLS", "ssl"),
    ("CHANNELS", "channels"),
    ("CLIENT", "client_properties.connection_name"),
];

/// What a client is told that is closed.
const REASON: &str = "closed by an operator";

#[derive(Args)]
pub(crate) struct ConnectionArgs {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: ConnectionCommand,
}

#[derive(Subcommand)]
enum ConnectionCommand {
    /// Lists connections.
    #[command(visible_alias = "list")]
    Ls(Listing),
    /// Shows one.
    Show {
        /// The connection, as `ls` names it.
        name: String,
    },
    /// Closes one, or all of a user.
    Close {
        /// The connection, as `ls` names it.
        #[arg(required_unless_present = "of")]
        name: Option<String>,
        /// All connections of this user.
        #[arg(long, value_name = "USER", conflicts_with = "name")]
        of: Option<String>,
        /// What the client is told.
        #[arg(long, default_value = REASON)]
        reason: String,
    },
}

pub(crate) fn run(args: &ConnectionArgs) -> anyhow::Result<ExitCode> {
    let options = &args.options;
    let target = options.target()?;
    match &args.command {
        ConnectionCommand::Ls(listing) => {
            let path = match &target.resolved.vhost {
                Some(vhost) => path(&["vhosts", vhost, "connections"]),
                None => "connections".to_owned(),
            };
            output::list(options, listing, target.get_list(&path)?, COLUMNS)?;
        }
        ConnectionCommand::Show { name } => {
            let found = target.get(&path(&["connections", name]));
            output::one(options, &found.about(|| named(name))?, COLUMNS)?;
        }
        ConnectionCommand::Close { name, of, reason } => {
            let names = match (name, of) {
                (Some(name), _) => vec![name.clone()],
                (None, Some(user)) => of_user(&target, user)?,
                (None, None) => Vec::new(),
            };
            return close(options, &target, &names, reason);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn of_user(target: &Target, user: &str) -> Result<Vec<String>, Failure> {
    let found = target.get_list(&path(&["connections", "username", user]))?;
    let names = found.iter().filter_map(|it| it["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// Goes on after one that cannot be closed: others may have gone by themselves.
fn close(
    options: &Options,
    target: &Target,
    names: &[String],
    reason: &str,
) -> anyhow::Result<ExitCode> {
    let mut failures = Vec::new();
    for name in names {
        let closed = target.delete_saying(&path(&["connections", name]), Some(reason));
        match closed.about(|| named(name)) {
            Ok(_) => output::done(options, "connection", name, "closed")?,
            Err(failure) => failures.push(failure),
        }
    }
    let failed_count = failures.len();
    match failures.into_iter().next() {
        None => Ok(ExitCode::SUCCESS),
        Some(failure) if failed_count == names.len() => Err(failure.into()),
        Some(failure) => {
            let what = format!(
                "{failed_count} of {} are not closed: {failure}",
                names.len()
            );
            Err(Failure::new(Exit::Partial, what).into())
        }
    }
}

fn named(name: &str) -> String {
    format!("connection '{name}'")
}
