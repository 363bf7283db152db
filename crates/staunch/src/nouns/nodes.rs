//! `staunch node`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::{
    cli::{
        failure::{About as _, OrElse as _},
        options::Options,
        output::{self, Listing},
        target::path,
    },
    membership::{self, MEMBERS_HINT},
};

const COLUMNS: &[(&str, &str)] = &[
    ("NAME", "name"),
    ("RUNNING", "running"),
    ("DRAINED", "being_drained"),
    ("MEMORY BYTES", "mem_used"),
    ("LIMIT", "mem_limit"),
    ("ALARM", "mem_alarm"),
    ("DISK FREE BYTES", "disk_free"),
    ("LIMIT", "disk_free_limit"),
    ("ALARM", "disk_free_alarm"),
    ("FILES", "fd_used"),
    ("OF", "fd_total"),
];

#[derive(Args)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Subcommand)]
enum NodeCommand {
    /// Lists the nodes. A node knows its own memory and disk only.
    #[command(visible_alias = "list")]
    Ls(Listing),
    /// Shows one.
    Show(Named),
    /// Has a node lead nothing, before it is stopped or worked on: other nodes take over at once.
    Drain(Named),
    /// Lets a drained node lead again.
    Revive(Named),
    /// Says what would stand still if a node stopped now. Ends with 1 unless that is nothing.
    SafeToStop(Named),
    /// Has a node leave the cluster: its replicas are moved to others first.
    Remove(membership::Removal),
}

#[derive(Args)]
struct Named {
    /// The node.
    name: String,
}

pub(crate) fn run(args: &NodeArgs) -> anyhow::Result<ExitCode> {
    let options = &args.options;
    let target = options.target()?;
    let about = |name: &str| format!("node '{name}'");
    let drain = |name: &str| path(&["staunch", "v1", "nodes", name, "drain"]);
    match &args.command {
        NodeCommand::Ls(listing) => {
            output::list(options, listing, target.get_list("nodes")?, COLUMNS)?;
        }
        NodeCommand::Show(Named { name }) => {
            let found = target.get(&path(&["nodes", name]));
            output::one(options, &found.about(|| about(name))?, COLUMNS)?;
        }
        NodeCommand::Drain(Named { name }) => {
            let put = target.put(&drain(name), &Value::Object(serde_json::Map::new()));
            put.about(|| about(name)).or_see(MEMBERS_HINT)?;
        }
        NodeCommand::Revive(Named { name }) => {
            let deleted = target.delete(&drain(name));
            deleted.about(|| about(name)).or_see(MEMBERS_HINT)?;
        }
        NodeCommand::SafeToStop(Named { name }) => return membership::safe_to_stop(&target, name),
        NodeCommand::Remove(removal) => return membership::remove(&target, removal),
    }
    Ok(ExitCode::SUCCESS)
}
