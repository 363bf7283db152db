//! `staunch limit`: how much virtual hosts and users may have.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::cli::{
    failure::About as _,
    options::Options,
    output::{self, Listing},
    target::path,
};

const COLUMNS: &[(&str, &str)] = &[
    ("OF", "of"),
    ("NAME", "name"),
    ("CONNECTIONS", "value.max-connections"),
    ("CHANNELS", "value.max-channels"),
    ("QUEUES", "value.max-queues"),
];

#[derive(Args)]
pub(crate) struct LimitArgs {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: LimitCommand,
}

#[derive(Subcommand)]
enum LimitCommand {
    /// Lists limits.
    #[command(visible_alias = "list")]
    Ls(Listing),
    /// Sets one: `staunch limit set vhost shop max-queues 100`.
    Set {
        #[command(flatten)]
        limit: Limit,
        /// So many.
        value: u32,
    },
    /// Takes one away.
    Delete(Limit),
}

#[derive(Args)]
struct Limit {
    /// Of what.
    of: Of,
    /// Its name.
    name: String,
    /// `max-connections`; of virtual hosts also `max-queues`, of users `max-channels`.
    #[arg(value_name = "LIMIT")]
    what: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Of {
    Vhost,
    User,
}

pub(crate) fn run(args: &LimitArgs) -> anyhow::Result<ExitCode> {
    let options = &args.options;
    let target = options.target()?;
    match &args.command {
        LimitCommand::Ls(listing) => {
            let mut rows = Vec::new();
            for (of, key) in [(Of::Vhost, "vhost"), (Of::User, "user")] {
                let found = target.get_list(of.path())?;
                rows.extend(found.into_iter().map(|mut row| {
                    let name = row.get_mut(key).map(Value::take);
                    json!({"of": key, "name": name, "value": row["value"].take()})
                }));
            }
            output::list(options, listing, rows, COLUMNS)?;
        }
        LimitCommand::Set { limit, value } => {
            let put = target.put(&limit.path(), &json!({ "value": value }));
            put.about(|| limit.named())?;
            output::done(options, "limit", &limit.named(), "set")?;
        }
        LimitCommand::Delete(limit) => {
            target.delete(&limit.path()).about(|| limit.named())?;
            output::done(options, "limit", &limit.named(), "deleted")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Of {
    fn path(self) -> &'static str {
        match self {
            Self::Vhost => "vhost-limits",
            Self::User => "user-limits",
        }
    }
}

impl Limit {
    fn path(&self) -> String {
        path(&[self.of.path(), &self.name, &self.what])
    }

    fn named(&self) -> String {
        let of = match self.of {
            Of::Vhost => "virtual host",
            Of::User => "user",
        };
        format!("{} of {of} {}", self.what, self.name)
    }
}
