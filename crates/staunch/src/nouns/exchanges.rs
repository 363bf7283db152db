//! `staunch exchange`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::{
    arguments::{object, pair},
    failure::About as _,
    options::Options,
    output::{self, Listing},
    target::{Target, path},
};

const COLUMNS: &[(&str, &str)] = &[
    ("VHOST", "vhost"),
    ("NAME", "name"),
    ("TYPE", "type"),
    ("DURABLE", "durable"),
    ("AUTO-DELETE", "auto_delete"),
    ("INTERNAL", "internal"),
    ("POLICY", "policy"),
    ("ARGUMENTS", "arguments"),
];

#[derive(Args)]
pub(crate) struct ExchangeArgs {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: ExchangeCommand,
}

#[derive(Subcommand)]
enum ExchangeCommand {
    /// Lists exchanges. The one without a name leads to every queue by its name.
    #[command(visible_alias = "list")]
    Ls(Listing),
    /// Shows one.
    Show {
        /// The exchange; `amq.default` is the one without a name.
        name: String,
    },
    /// Declares one; it may be there already, if it is the same.
    #[command(visible_alias = "declare")]
    Create(Declared),
    /// Deletes one.
    Delete {
        /// The exchange.
        name: String,
        /// Unless something is bound to it.
        #[arg(long)]
        if_unused: bool,
    },
}

#[derive(Args)]
struct Declared {
    /// The exchange.
    name: String,
    /// `direct`, `fanout`, `topic`, `headers`, or another that the node knows.
    #[arg(long = "type", value_name = "TYPE", default_value = "direct")]
    kind: String,
    /// It does not survive a restart.
    #[arg(long)]
    transient: bool,
    /// It goes with its last binding.
    #[arg(long)]
    auto_delete: bool,
    /// Clients may not publish to it; other exchanges may lead to it.
    #[arg(long)]
    internal: bool,
    /// Such as `alternate-exchange=unrouted`; may be repeated.
    #[arg(long = "argument", short = 'a', value_name = "KEY=VALUE", value_parser = pair)]
    arguments: Vec<(String, Value)>,
}

pub(crate) fn run(args: &ExchangeArgs) -> anyhow::Result<ExitCode> {
    let options = &args.options;
    let target = options.target()?;
    match &args.command {
        ExchangeCommand::Ls(listing) => {
            let path = match &target.resolved.vhost {
                Some(vhost) => path(&["exchanges", vhost]),
                None => "exchanges".to_owned(),
            };
            output::list(options, listing, target.get_list(&path)?, COLUMNS)?;
        }
        ExchangeCommand::Show { name } => {
            let found = target.get(&path(&["exchanges", target.vhost(), name]));
            output::one(options, &found.about(|| named(&target, name))?, COLUMNS)?;
        }
        ExchangeCommand::Create(declared) => create(options, &target, declared)?,
        ExchangeCommand::Delete { name, if_unused } => {
            let path = path(&["exchanges", target.vhost(), name]);
            let deleted = target.delete(&format!("{path}?if-unused={if_unused}"));
            deleted.about(|| named(&target, name))?;
            output::done(options, "exchange", name, "deleted")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn create(options: &Options, target: &Target, declared: &Declared) -> anyhow::Result<()> {
    let body = json!({
        "type": declared.kind,
        "durable": !declared.transient,
        "auto_delete": declared.auto_delete,
        "internal": declared.internal,
        "arguments": object(&declared.arguments),
    });
    let put = target.put(&path(&["exchanges", target.vhost(), &declared.name]), &body);
    let put = put.about(|| format!("virtual host '{}'", target.vhost()))?;
    output::put(options, "exchange", &declared.name, put)
}

/// `exchange 'logs' in virtual host '/'`.
pub(crate) fn named(target: &Target, name: &str) -> String {
    format!("exchange '{name}' in virtual host '{}'", target.vhost())
}
