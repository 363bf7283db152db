//! `staunch binding`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::{
    arguments::{object, pair},
    failure::{About as _, Exit, Failure},
    options::Options,
    output::{self, Listing},
    target::{Target, path},
};

const COLUMNS: &[(&str, &str)] = &[
    ("VHOST", "vhost"),
    ("SOURCE", "source"),
    ("DESTINATION", "destination"),
    ("KIND", "destination_type"),
    ("ROUTING KEY", "routing_key"),
    ("ARGUMENTS", "arguments"),
];

/// What the exchange without a name is called in paths.
const DEFAULT_EXCHANGE: &str = "amq.default";

#[derive(Args)]
pub(crate) struct BindingArgs {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: BindingCommand,
}

#[derive(Subcommand)]
enum BindingCommand {
    /// Lists bindings.
    #[command(visible_alias = "list")]
    Ls {
        /// Only those out of this exchange.
        #[arg(long)]
        source: Option<String>,
        /// Only those into this queue or exchange.
        #[arg(long)]
        destination: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Binds a queue, or an exchange, to an exchange.
    Create(Ends),
    /// Takes a binding away: the one with this key and these arguments.
    Delete(Ends),
}

#[derive(Args)]
struct Ends {
    /// The exchange that messages come from.
    source: String,
    /// The queue that they go to.
    destination: String,
    /// The destination is an exchange.
    #[arg(long)]
    to_exchange: bool,
    /// The routing key, or the pattern of a topic exchange.
    #[arg(long, short = 'k', value_name = "KEY", default_value = "")]
    key: String,
    /// Such as `x-match=any`; may be repeated.
    #[arg(long = "argument", short = 'a', value_name = "KEY=VALUE", value_parser = pair)]
    arguments: Vec<(String, Value)>,
}

pub(crate) fn run(args: &BindingArgs) -> anyhow::Result<ExitCode> {
    let options = &args.options;
    let target = options.target()?;
    match &args.command {
        BindingCommand::Ls {
            source,
            destination,
            listing,
        } => {
            let path = match &target.resolved.vhost {
                Some(vhost) => path(&["bindings", vhost]),
                None => "bindings".to_owned(),
            };
            let mut rows = target.get_list(&path)?;
            let is = |value: &Value, wanted: &Option<String>| {
                wanted.as_ref().is_none_or(|wanted| value == wanted)
            };
            rows.retain(|row| is(&row["source"], source) && is(&row["destination"], destination));
            output::list(options, listing, rows, COLUMNS)?;
        }
        BindingCommand::Create(ends) => {
            let body = json!({"routing_key": ends.key, "arguments": object(&ends.arguments)});
            let sent = target.post(&ends.path(&target), body.to_string().as_bytes());
            sent.about(|| ends.both(&target))?;
            output::done(options, "binding", &ends.name(), "is there")?;
        }
        BindingCommand::Delete(ends) => {
            let all = target.get_list(&ends.path(&target));
            let all = all.about(|| ends.both(&target))?;
            let key = all.iter().find(|it| ends.are_of(it));
            let key = key.and_then(|it| it["properties_key"].as_str());
            let key = key.ok_or_else(|| {
                let what = format!("there is no binding '{}'", ends.name());
                Failure::new(Exit::NotFound, what).with_hint("staunch binding ls")
            })?;
            target.delete(&format!("{}/{}", ends.path(&target), path(&[key])))?;
            output::done(options, "binding", &ends.name(), "deleted")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Ends {
    fn path(&self, target: &Target) -> String {
        let source = if self.source.is_empty() {
            DEFAULT_EXCHANGE
        } else {
            &self.source
        };
        let kind = if self.to_exchange { "e" } else { "q" };
        let vhost = target.vhost();
        path(&["bindings", vhost, "e", source, kind, &self.destination])
    }

    /// `exchange 'logs' or queue 'orders' in virtual host '/'`.
    fn both(&self, target: &Target) -> String {
        let kind = if self.to_exchange {
            "exchange"
        } else {
            "queue"
        };
        let (source, destination) = (&self.source, &self.destination);
        let vhost = target.vhost();
        format!("exchange '{source}' or {kind} '{destination}' in virtual host '{vhost}'")
    }

    fn name(&self) -> String {
        let Self {
            source,
            destination,
            key,
            ..
        } = self;
        format!("{source} -> {destination} ({key})")
    }

    fn are_of(&self, binding: &Value) -> bool {
        binding["routing_key"] == self.key.as_str()
            && binding["arguments"] == object(&self.arguments)
    }
}
