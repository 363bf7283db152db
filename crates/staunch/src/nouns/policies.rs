//! `staunch policy`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::{
    arguments::{object, pair},
    failure::About as _,
    options::Options,
    output::{self, Listing},
    target::path,
};

const COLUMNS: &[(&str, &str)] = &[
    ("VHOST", "vhost"),
    ("NAME", "name"),
    ("PATTERN", "pattern"),
    ("APPLIES TO", "apply-to"),
    ("PRIORITY", "priority"),
    ("DEFINITION", "definition"),
];

#[derive(Args)]
pub(crate) struct PolicyArgs {
    #[command(flatten)]
    options: Options,
    /// Operators' policies, which cap what users' policies say.
    #[arg(long, global = true)]
    operator: bool,
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Lists policies.
    #[command(visible_alias = "list")]
    Ls(Listing),
    /// Shows one.
    Show {
        /// The policy.
        name: String,
    },
    /// Makes or replaces one: `staunch policy set short '^tmp\.' message-ttl=60000`.
    Set {
        /// The policy.
        name: String,
        /// A regular expression of the names of queues or exchanges.
        pattern: String,
        /// What it says, such as `max-length=1000`.
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = pair)]
        definition: Vec<(String, Value)>,
        /// `queues`, `classic_queues`, `quorum_queues`, `exchanges` or `all`.
        #[arg(long, value_name = "WHAT", default_value = "queues")]
        apply_to: String,
        /// Of several that match, the one with the highest priority applies.
        #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
        priority: i64,
    },
    /// Deletes one.
    Delete {
        /// The policy.
        name: String,
    },
}

pub(crate) fn run(args: &PolicyArgs) -> anyhow::Result<ExitCode> {
    let options = &args.options;
    let target = options.target()?;
    let kind = if args.operator {
        "operator-policies"
    } else {
        "policies"
    };
    let vhost = target.vhost();
    let named = |name: &str| format!("policy '{name}' in virtual host '{vhost}'");
    match &args.command {
        PolicyCommand::Ls(listing) => {
            let path = match &target.resolved.vhost {
                Some(vhost) => path(&[kind, vhost]),
                None => kind.to_owned(),
            };
            output::list(options, listing, target.get_list(&path)?, COLUMNS)?;
        }
        PolicyCommand::Show { name } => {
            let found = target.get(&path(&[kind, vhost, name]));
            output::one(options, &found.about(|| named(name))?, COLUMNS)?;
        }
        PolicyCommand::Set {
            name,
            pattern,
            definition,
            apply_to,
            priority,
        } => {
            let body = json!({
                "pattern": pattern,
                "definition": object(definition),
                "apply-to": apply_to,
                "priority": priority,
            });
            let put = target.put(&path(&[kind, vhost, name]), &body);
            put.about(|| format!("virtual host '{vhost}'"))?;
            output::done(options, "policy", name, "set")?;
        }
        PolicyCommand::Delete { name } => {
            let deleted = target.delete(&path(&[kind, vhost, name]));
            deleted.about(|| named(name))?;
            output::done(options, "policy", name, "deleted")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
