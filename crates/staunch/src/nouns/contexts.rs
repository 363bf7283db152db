//! `staunch context`: nodes by name.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::{
    contexts::{Context, Contexts},
    failure::{Exit, Failure},
    options::Options,
    output::{self, Listing},
    target::Credentials,
};

const COLUMNS: &[(&str, &str)] = &[
    ("NAME", "name"),
    ("CURRENT", "current"),
    ("NODE", "node"),
    ("USER", "user"),
    ("VHOST", "vhost"),
];

#[derive(Args)]
pub(crate) struct ContextArgs {
    /// Prints JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: ContextCommand,
}

#[derive(Subcommand)]
enum ContextCommand {
    /// Lists contexts, without passwords.
    #[command(visible_alias = "list")]
    Ls(Listing),
    /// Adds one, or replaces it. The first is the one in force.
    Add {
        /// What it is called.
        name: String,
        /// The HTTP interface of a node: http://host:port.
        url: String,
        /// Who asks.
        #[arg(long)]
        user: Option<String>,
        /// A file with the password, read whenever it is needed.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// The virtual host.
        #[arg(short = 'p', long)]
        vhost: Option<String>,
        /// Authorities that may vouch for the node, as PEM.
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// Where it speaks AMQP, unless its HTTP interface says it.
        #[arg(long, value_name = "URL")]
        amqp: Option<String>,
    },
    /// Has one be in force where none is named.
    Use {
        /// The context.
        name: String,
    },
    /// Removes one.
    Rm {
        /// The context.
        name: String,
    },
}

pub(crate) fn run(args: &ContextArgs) -> anyhow::Result<ExitCode> {
    let options = Options::printing(args.json);
    let mut contexts = Contexts::load()?;
    match &args.command {
        ContextCommand::Ls(listing) => {
            let rows = contexts.contexts.iter();
            let rows = rows.map(|(name, it)| row(name, it, contexts.current.as_ref()));
            output::list(&options, listing, rows.collect(), COLUMNS)?;
        }
        ContextCommand::Add {
            name,
            url,
            user,
            password_file,
            vhost,
            ca,
            amqp,
        } => {
            let (node, in_url) = Credentials::split(url)?;
            let password = in_url.as_ref().map(|it| it.password.clone());
            let context = Context {
                node,
                user: user.clone().or_else(|| in_url.map(|it| it.user)),
                password: password.filter(|it| !it.is_empty() && password_file.is_none()),
                password_file: password_file.clone(),
                vhost: vhost.clone(),
                ca: ca.clone(),
                amqp: amqp.clone(),
            };
            contexts.contexts.insert(name.clone(), context);
            contexts.current.get_or_insert_with(|| name.clone());
            contexts.save()?;
            output::done(&options, "context", name, "added")?;
        }
        ContextCommand::Use { name } => {
            contexts.named(name)?;
            contexts.current = Some(name.clone());
            contexts.save()?;
            output::done(&options, "context", name, "is in force")?;
        }
        ContextCommand::Rm { name } => {
            if contexts.contexts.remove(name).is_none() {
                let what = format!("there is no context '{name}'");
                return Err(Failure::new(Exit::NotFound, what).into());
            }
            contexts.current = contexts.current.take().filter(|it| it != name);
            contexts.save()?;
            output::done(&options, "context", name, "removed")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(name: &str, context: &Context, current: Option<&String>) -> Value {
    // A file that was written by hand may hold a password in the address.
    let (node, _) = Credentials::split(&context.node).unwrap_or_default();
    json!({
        "name": name,
        "current": current.is_some_and(|it| it == name),
        "node": node,
        "user": context.user,
        "vhost": context.vhost,
    })
}
