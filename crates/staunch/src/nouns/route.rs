//! `staunch route`: where a message would go, and why not elsewhere.
//!
//! Bindings are read and followed here, as the node follows them; nothing is published. What an
//! exchange decides by chance or by hash is said, not guessed.

use std::{collections::BTreeSet, process::ExitCode};

use clap::Args;
use serde_json::{Map, Value, json};

use crate::{
    cli::{
        arguments::pair,
        failure::{About as _, Exit},
        options::Options,
        output::{self, Listing},
        target::{Target, path},
    },
    nouns::exchanges,
};

const COLUMNS: &[(&str, &str)] = &[
    ("EXCHANGE", "exchange"),
    ("TYPE", "type"),
    ("DESTINATION", "destination"),
    ("KIND", "kind"),
    ("GOES", "goes"),
    ("WHY", "why"),
];

#[derive(Args)]
pub(crate) struct RouteArgs {
    #[command(flatten)]
    options: Options,
    /// The exchange; without one, the queue that the key names.
    #[arg(long, short = 'e', default_value = "")]
    exchange: String,
    /// The routing key.
    #[arg(long, short = 'k', value_name = "KEY", default_value = "")]
    key: String,
    /// A header; may be repeated.
    #[arg(long = "header", short = 'H', value_name = "KEY=VALUE", value_parser = pair)]
    headers: Vec<(String, Value)>,
    /// Also shows the bindings that do not match.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    listing: Listing,
}

/// What a message is routed by.
struct Message {
    key: String,
    headers: Map<String, Value>,
}

/// A virtual host's exchanges and bindings, and what has been found in them.
struct Atlas<'a> {
    exchanges: &'a [Value],
    bindings: &'a [Value],
    message: Message,
    rows: Vec<Value>,
    queues: BTreeSet<String>,
    seen: BTreeSet<String>,
}

/// Whether a binding leads a message on, and why.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Goes(String),
    Stays(String),
    Perhaps(String),
}

/// Ends with 4 if the message would go nowhere.
pub(crate) fn run(args: &RouteArgs) -> anyhow::Result<ExitCode> {
    let target = args.options.target()?;
    let (exchanges, bindings) = known(&target, &args.exchange)?;
    let mut map = Atlas {
        exchanges: &exchanges,
        bindings: &bindings,
        message: Message {
            key: args.key.clone(),
            headers: args.headers.iter().cloned().collect(),
        },
        rows: Vec::new(),
        queues: BTreeSet::new(),
        seen: BTreeSet::new(),
    };
    map.follow(&args.exchange);
    let (queues, mut rows) = (map.queues, map.rows);
    if !args.all {
        rows.retain(|row| row["goes"] != false);
    }
    if rows.is_empty() && !args.options.json {
        output::text("the message would go nowhere; --all shows the bindings that do not match\n")?;
    } else {
        output::list(&args.options, &args.listing, rows, COLUMNS)?;
    }
    Ok(if queues.is_empty() {
        Exit::NotFound.code()
    } else {
        ExitCode::SUCCESS
    })
}

fn known(target: &Target, exchange: &str) -> anyhow::Result<(Vec<Value>, Vec<Value>)> {
    let exchanges = target.get_list(&path(&["exchanges", target.vhost()]));
    let exchanges = exchanges.about(|| format!("virtual host '{}'", target.vhost()))?;
    if !exchanges.iter().any(|it| it["name"] == exchange) {
        let none = target.get(&path(&["exchanges", target.vhost(), exchange]));
        none.about(|| exchanges::named(target, exchange))?;
    }
    let bindings = target.get_list(&path(&["bindings", target.vhost()]))?;
    Ok((exchanges, bindings))
}

impl Atlas<'_> {
    fn follow(&mut self, exchange: &str) {
        if !self.seen.insert(exchange.to_owned()) {
            return;
        }
        let Some(found) = self.exchanges.iter().find(|it| it["name"] == exchange) else {
            return;
        };
        let kind = found["type"].as_str().unwrap_or_default();
        let mut next = Vec::new();
        let mut goes_on = false;
        let all = self.bindings.iter();
        for binding in all.filter(|it| it["source"] == exchange) {
            let (goes, why) = match verdict(kind, binding, &self.message) {
                Verdict::Goes(why) => (json!(true), why),
                Verdict::Stays(why) => (json!(false), why),
                Verdict::Perhaps(why) => (json!("perhaps"), why),
            };
            let destination = binding["destination"].as_str().unwrap_or_default();
            let is_queue = binding["destination_type"] == "queue";
            if goes != false {
                goes_on = true;
                if is_queue {
                    self.queues.insert(destination.to_owned());
                } else {
                    next.push(destination.to_owned());
                }
            }
            self.rows.push(json!({
                "exchange": exchange,
                "type": kind,
                "destination": destination,
                "kind": binding["destination_type"],
                "goes": goes,
                "why": why,
            }));
        }
        let alternate = found["arguments"]["alternate-exchange"].as_str();
        if let Some(alternate) = alternate.filter(|_| !goes_on) {
            self.rows.push(json!({
                "exchange": exchange,
                "type": kind,
                "destination": alternate,
                "kind": "exchange",
                "goes": true,
                "why": "alternate exchange: no binding leads it on",
            }));
            next.push(alternate.to_owned());
        }
        for exchange in next {
            self.follow(&exchange);
        }
    }
}

fn verdict(kind: &str, binding: &Value, message: &Message) -> Verdict {
    let bound = binding["routing_key"].as_str().unwrap_or_default();
    let key = message.key.as_str();
    match kind {
        "fanout" => Verdict::Goes("a fanout exchange leads everything on".to_owned()),
        "direct" if bound == key => Verdict::Goes(format!("the key is '{key}'")),
        "direct" => Verdict::Stays(format!("the key is not '{bound}'")),
        "topic" if topic_matches(bound, key) => Verdict::Goes(format!("'{bound}' matches '{key}'")),
        "topic" => Verdict::Stays(format!("'{bound}' does not match '{key}'")),
        "headers" => headers_match(&binding["arguments"], &message.headers),
        "x-delayed-message" => {
            Verdict::Perhaps("after the delay, by the type behind it".to_owned())
        }
        other => Verdict::Perhaps(format!("{other} chooses one of its bindings")),
    }
}

/// `*` stands for a word, `#` for any number of words.
fn topic_matches(pattern: &str, key: &str) -> bool {
    fn matches(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern, key) {
            ([], []) => true,
            (["#", rest @ ..], _) => {
                let mut ends = (0..=key.len()).rev();
                ends.any(|at| matches(rest, &key[at..]))
            }
            (["*", rest @ ..], [_, key @ ..]) => matches(rest, key),
            ([word, rest @ ..], [first, key @ ..]) if word == first => matches(rest, key),
            _ => false,
        }
    }
    matches(&words(pattern), &words(key))
}

fn words(text: &str) -> Vec<&str> {
    if text.is_empty() {
        return Vec::new();
    }
    text.split('.').collect()
}

/// RabbitMQ's headers exchange: `x-match` is `all`, `any`, or one of both with `-with-x`, which
/// counts headers that begin with `x-`, too.
fn headers_match(arguments: &Value, headers: &Map<String, Value>) -> Verdict {
    let mode = arguments["x-match"].as_str().unwrap_or("all");
    let counts_x = mode.ends_with("-with-x");
    let wanted = arguments.as_object().into_iter().flatten();
    let wanted: Vec<_> = wanted
        .filter(|(key, _)| *key != "x-match" && (counts_x || !key.starts_with("x-")))
        .collect();
    // A header that is wanted without a value need only be there.
    let fits = |(key, value): &&(&String, &Value)| {
        let found = headers.get(*key);
        found.is_some_and(|found| value.is_null() || found == *value)
    };
    let shown = |(key, value): &(&String, &Value)| format!("{key}={value}");
    if mode.starts_with("any") {
        return match wanted.iter().find(fits) {
            Some(found) => Verdict::Goes(format!("{} is there", shown(found))),
            None => Verdict::Stays("none of its headers is there".to_owned()),
        };
    }
    match wanted.iter().find(|pair| !fits(pair)) {
        None => Verdict::Goes("all of its headers are there".to_owned()),
        Some(missing) => Verdict::Stays(format!("{} is not there", shown(missing))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_match_word_by_word() {
        for (pattern, key, expected) in [
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.#", "a", true),
            ("#.c", "a.b.c", true),
            ("#", "", true),
            ("*", "", false),
            ("a.#.d.*", "a.b.c.d.e", true),
            ("a", "b", false),
        ] {
            assert_eq!(topic_matches(pattern, key), expected, "{pattern} {key}");
        }
    }

    #[test]
    fn headers_match_all_or_any() {
        let headers = json!({"a": 1, "x-b": "2"});
        let headers = headers.as_object().expect("an object");
        for (arguments, goes) in [
            (json!({"a": 1}), true),
            (json!({"a": 2}), false),
            (json!({"a": 1, "x-b": "3"}), true),
            (json!({"x-match": "all-with-x", "a": 1, "x-b": "3"}), false),
            (json!({"x-match": "any", "a": 2, "c": 1}), false),
            (json!({"x-match": "any-with-x", "x-b": "2"}), true),
        ] {
            let verdict = headers_match(&arguments, headers);
            assert_eq!(
                matches!(verdict, Verdict::Goes(_)),
                goes,
                "{arguments} {verdict:?}"
            );
        }
    }
}
