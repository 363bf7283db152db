//! `staunch queue`.

use std::{fmt::Write as _, process::ExitCode};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    cli::{
        arguments::{object, pair},
        failure::{About as _, Failure},
        options::Options,
        output::{self, Listing},
        target::{Target, path, segment},
    },
    membership,
    messages::{peek, shift, tail},
    nouns::replicas,
};

/// What a list shows.
const COLUMNS: &[(&str, &str)] = &[
    ("VHOST", "vhost"),
    ("NAME", "name"),
    ("TYPE", "type"),
    ("READY", "messages_ready"),
    ("UNACKED", "messages_unacknowledged"),
    ("CONSUMERS", "consumers"),
    ("IN/s", "message_stats.publish_details.rate"),
    ("OUT/s", "message_stats.deliver_get_details.rate"),
];

/// What is shown of one.
const DETAILS: &[(&str, &str)] = &[
    ("NAME", "name"),
    ("VHOST", "vhost"),
    ("TYPE", "type"),
    ("STATE", "state"),
    ("DURABLE", "durable"),
    ("AUTO-DELETE", "auto_delete"),
    ("EXCLUSIVE", "exclusive"),
    ("ARGUMENTS", "arguments"),
    ("POLICY", "policy"),
    ("OPERATOR POLICY", "operator_policy"),
    ("SETTINGS OF POLICIES", "effective_policy_definition"),
    ("NODE", "node"),
    ("PARTITIONS", "partitions"),
    ("READY", "messages_ready"),
    ("UNACKED", "messages_unacknowledged"),
    ("BYTES", "message_bytes"),
    ("MEMORY BYTES", "memory"),
    ("CONSUMERS", "consumers"),
    ("IN/s", "message_stats.publish_details.rate"),
    ("OUT/s", "message_stats.deliver_get_details.rate"),
    ("ACKS/s", "message_stats.ack_details.rate"),
    ("RETURNS/s", "message_stats.redeliver_details.rate"),
];

#[derive(Args)]
pub(crate) struct QueueArgs {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: QueueCommand,
}

#[derive(Subcommand)]
enum QueueCommand {
    /// Lists queues.
    #[command(visible_alias = "list")]
    Ls {
        /// Only those whose name matches this regular expression.
        #[arg(long, value_name = "PATTERN")]
        name: Option<String>,
        /// At most so many, in the order of their names.
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=500))]
        limit: Option<u16>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Shows one.
    Show(Named),
    /// Declares one; it may be there already, if it is the same.
    #[command(visible_alias = "declare")]
    Create(Declared),
    /// Deletes one with what it holds.
    Delete {
        #[command(flatten)]
        named: Named,
        /// Unless messages are ready.
        #[arg(long)]
        if_empty: bool,
        /// Unless somebody consumes from it.
        #[arg(long)]
        if_unused: bool,
        /// Only says what would be deleted.
        #[arg(long)]
        dry_run: bool,
    },
    /// Throws away what is ready in one.
    Purge {
        #[command(flatten)]
        named: Named,
        /// Only says how much that would be.
        #[arg(long)]
        dry_run: bool,
    },
    /// Shows the messages at the front. They return to their places, but are redelivered from then
    /// on, and that counts where deliveries are limited.
    Peek(peek::Peek),
    /// Shows what exchanges send to a queue from now on, without touching it.
    Tail(tail::Tail),
    /// Moves messages to another queue or exchange. What cannot be delivered there stays.
    Move(shift::Shift),
    /// Shows the nodes that keep a queue, or changes them.
    Replicas(membership::Replicas),
    /// Prints the node that leads a queue. Ends with 1 if none is known.
    Leader(Named),
}

#[derive(Args)]
pub(crate) struct Named {
    /// The queue.
    pub(crate) name: String,
}

#[derive(Args)]
struct Declared {
    #[command(flatten)]
    named: Named,
    /// `classic`, `quorum`; without it what the virtual host or the node says.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// It does not survive a restart.
    #[arg(long)]
    transient: bool,
    /// It goes with its last consumer.
    #[arg(long)]
    auto_delete: bool,
    /// Such as `x-max-length=1000`; may be repeated.
    #[arg(long = "argument", short = 'a', value_name = "KEY=VALUE", value_parser = pair)]
    arguments: Vec<(String, Value)>,
}

pub(crate) fn run(args: &QueueArgs) -> anyhow::Result<ExitCode> {
    let options = &args.options;
    match &args.command {
        QueueCommand::Ls {
            name,
            limit,
            listing,
        } => ls(options, name.as_deref(), *limit, listing)?,
        QueueCommand::Show(named) => {
            output::one(options, &find(&options.target()?, &named.name)?, DETAILS)?;
        }
        QueueCommand::Create(declared) => create(options, declared)?,
        QueueCommand::Delete {
            named,
            if_empty,
            if_unused,
            dry_run,
        } => {
            let conditions = format!("?if-empty={if_empty}&if-unused={if_unused}");
            delete(options, &named.name, &conditions, *dry_run)?;
        }
        QueueCommand::Purge { named, dry_run } => purge(options, &named.name, *dry_run)?,
        QueueCommand::Peek(peek) => return peek::run(options, peek),
        QueueCommand::Tail(tail) => return tail::run(options, tail),
        QueueCommand::Move(shift) => return shift::run(options, shift),
        QueueCommand::Replicas(replicas) => return replicas::show(options, replicas),
        QueueCommand::Leader(named) => return replicas::leader(options, &named.name),
    }
    Ok(ExitCode::SUCCESS)
}

fn ls(
    options: &Options,
    name: Option<&str>,
    limit: Option<u16>,
    listing: &Listing,
) -> anyhow::Result<()> {
    let target = options.target()?;
    let mut path = match options.vhost_named()? {
        Some(vhost) => path(&["queues", &vhost]),
        None => "queues".to_owned(),
    };
    if let Some(limit) = limit {
        write!(path, "?page=1&page_size={limit}")?;
        if let Some(name) = name {
            write!(path, "&use_regex=true&name={}", segment(name))?;
        }
        return output::list(options, listing, target.get_list(&path)?, COLUMNS);
    }
    let rows = match name {
        None => target.get_list(&path)?,
        Some(name) => matching(&target, &path, name)?,
    };
    output::list(options, listing, rows, COLUMNS)
}

/// All pages of the queues whose name matches.
fn matching(target: &Target, path: &str, name: &str) -> Result<Vec<Value>, Failure> {
    let mut rows = Vec::new();
    for page in 1_u64.. {
        let asked = format!(
            "{path}?page={page}&page_size=500&use_regex=true&name={}",
            segment(name)
        );
        let mut answer = target.get(&asked)?;
        let page_count = answer["page_count"].as_u64().unwrap_or(0);
        if let Value::Array(items) = answer["items"].take() {
            rows.extend(items);
        }
        if page >= page_count {
            break;
        }
    }
    Ok(rows)
}

/// The queue of that name; an error that says where else there is one, or what is spelled like it.
pub(crate) fn find(target: &Target, name: &str) -> Result<Value, Failure> {
    let found = target.get(&path(&["queues", target.vhost(), name]));
    let found = found.about(|| named(target, name));
    found.map_err(|failure| match failure.exit {
        crate::cli::failure::Exit::NotFound => with_neighbours(target, name, failure),
        _ => failure,
    })
}

/// `queue 'orders' in virtual host '/'`.
pub(crate) fn named(target: &Target, name: &str) -> String {
    format!("queue '{name}' in virtual host '{}'", target.vhost())
}

fn with_neighbours(target: &Target, name: &str, failure: Failure) -> Failure {
    let everywhere = target.get_list("queues?disable_stats=true&columns=name,vhost");
    let elsewhere = everywhere.unwrap_or_default();
    let elsewhere = elsewhere.iter().filter(|it| it["name"] == name);
    let vhosts: Vec<_> = elsewhere.filter_map(|it| it["vhost"].as_str()).collect();
    match vhosts[..] {
        [] => failure.with_hint("staunch queue ls"),
        _ => failure.with_hint(format!("there is one with --vhost {}", vhosts.join(" or "))),
    }
}

fn create(options: &Options, declared: &Declared) -> anyhow::Result<()> {
    let target = options.target()?;
    let mut arguments = declared.arguments.clone();
    if let Some(kind) = &declared.kind {
        arguments.push(("x-queue-type".to_owned(), kind.as_str().into()));
    }
    let body = json!({
        "durable": !declared.transient,
        "auto_delete": declared.auto_delete,
        "arguments": object(&arguments),
    });
    let name = &declared.named.name;
    let put = target.put(&path(&["queues", target.vhost(), name]), &body);
    let put = put.about(|| format!("virtual host '{}'", target.vhost()))?;
    output::put(options, "queue", name, put)
}

fn delete(options: &Options, name: &str, conditions: &str, is_dry: bool) -> anyhow::Result<()> {
    let target = options.target()?;
    if is_dry {
        let queue = find(&target, name)?;
        let result = format!("would be deleted, with {} messages", queue["messages"]);
        return output::done(options, "queue", name, &result);
    }
    let path = path(&["queues", target.vhost(), name]) + conditions;
    target.delete(&path).about(|| named(&target, name))?;
    output::done(options, "queue", name, "deleted")
}

fn purge(options: &Options, name: &str, is_dry: bool) -> anyhow::Result<()> {
    let target = options.target()?;
    if is_dry {
        let queue = find(&target, name)?;
        let result = format!("would lose {} messages", queue["messages_ready"]);
        return output::done(options, "queue", name, &result);
    }
    let path = path(&["queues", target.vhost(), name, "contents"]);
    target.delete(&path).about(|| named(&target, name))?;
    output::done(options, "queue", name, "purged")
}
