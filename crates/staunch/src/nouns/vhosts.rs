//! `staunch vhost`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use crate::cli::{
    failure::About as _,
    options::Options,
    output::{self, Listing},
    target::path,
};

const COLUMNS: &[(&str, &str)] = &[
    ("NAME", "name"),
    ("DESCRIPTION", "description"),
    ("TAGS", "tags"),
    ("QUEUE TYPE", "default_queue_type"),
    ("PROTECTED", "protected_from_deletion"),
    ("TRACING", "tracing"),
    ("MESSAGES", "messages"),
];

#[derive(Args)]
pub(crate) struct VhostArgs {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: VhostCommand,
}

#[derive(Subcommand)]
enum VhostCommand {
    /// Lists virtual hosts.
    #[command(visible_alias = "list")]
    Ls(Listing),
    /// Shows one.
    Show(Named),
    /// Makes one, or changes what is given of one that is there.
    #[command(visible_alias = "set")]
    Create {
        #[command(flatten)]
        named: Named,
        /// What it is for.
        #[arg(long)]
        description: Option<String>,
        /// Separated by commas.
        #[arg(long, value_delimiter = ',')]
        tags: Option<Vec<String>>,
        /// `classic` or `quorum`, for queues that do not say it.
        #[arg(long, value_name = "TYPE")]
        default_queue_type: Option<String>,
        /// Whether it cannot be deleted.
        #[arg(long, value_name = "BOOL")]
        protected: Option<bool>,
        /// Whether the firehose is on.
        #[arg(long, value_name = "BOOL")]
        tracing: Option<bool>,
    },
    /// Deletes one with everything in it.
    Delete(Named),
}

#[derive(Args)]
struct Named {
    /// The virtual host.
    name: String,
}

pub(crate) fn run(args: &VhostArgs) -> anyhow::Result<ExitCode> {
    let options = &args.options;
    let target = options.target()?;
    match &args.command {
        VhostCommand::Ls(listing) => {
            output::list(options, listing, target.get_list("vhosts")?, COLUMNS)?;
        }
        VhostCommand::Show(Named { name }) => {
            let found = target.get(&path(&["vhosts", name]));
            output::one(options, &found.about(|| named(name))?, COLUMNS)?;
        }
        VhostCommand::Create {
            named: Named { name },
            description,
            tags,
            default_queue_type,
            protected,
            tracing,
        } => {
            let mut body = Map::new();
            let mut set = |key: &str, value: Option<Value>| {
                body.extend(value.map(|value| (key.to_owned(), value)));
            };
            set("description", description.clone().map(Value::from));
            set("tags", tags.clone().map(Value::from));
            let kind = default_queue_type.clone();
            set("default_queue_type", kind.map(Value::from));
            set("protected_from_deletion", protected.map(Value::from));
            set("tracing", tracing.map(Value::from));
            let put = target.put(&path(&["vhosts", name]), &Value::Object(body))?;
            output::put(options, "vhost", name, put)?;
        }
        VhostCommand::Delete(Named { name }) => {
            let deleted = target.delete(&path(&["vhosts", name]));
            deleted.about(|| named(name))?;
            output::done(options, "vhost", name, "deleted")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn named(name: &str) -> String {
    format!("virtual host '{name}'")
}
