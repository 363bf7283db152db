//! `staunch dlq`: dead letters, and how they get back to where they died.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use staunch_client::GotMessage;
use staunch_definitions::to_json;
use staunch_types::{
    FieldTable,
    field_table::{TableBuilder, TableRef, Value as Field},
    properties::Properties,
};

use crate::{
    cli::{
        options::Options,
        output::{self, Listing},
        target::Target,
    },
    messages::{
        peek,
        progress::Progress,
        properties,
        shift::{Pace, report},
        transfer::{Fate, transfer},
    },
    nouns::queues::{self, Named},
};

/// What tells of deaths; a replayed message begins anew.
const DEATH_HEADERS: [&str; 7] = [
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
];
/// What would send copies of a message elsewhere.
const COPY_HEADERS: [&str; 2] = ["CC", "BCC"];
/// How often a message has been replayed.
const REPLAYS_HEADER: &str = "x-staunch-replays";
/// Messages that are looked at to group them, unless something else is asked for.
const LOOK_COUNT: u64 = 1_000;

const COLUMNS: &[(&str, &str)] = &[
    ("VHOST", "vhost"),
    ("NAME", "name"),
    ("MESSAGES", "messages"),
    ("CONSUMERS", "consumers"),
    ("OF", "of"),
];

const GROUP_COLUMNS: &[(&str, &str)] = &[
    ("REASON", "reason"),
    ("QUEUE", "queue"),
    ("EXCHANGE", "exchange"),
    ("ROUTING KEY", "routing_key"),
    ("MESSAGES", "messages"),
    ("DEATHS", "deaths"),
    ("REPLAYS", "replays"),
];

#[derive(Args)]
pub(crate) struct DlqArgs {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Subcommand)]
enum DlqCommand {
    /// Lists the queues that dead letters of other queues go to.
    #[command(visible_alias = "list")]
    Ls(Listing),
    /// Shows why and where the messages of a queue have died. They return to their places, but are
    /// redelivered from then on.
    Show {
        #[command(flatten)]
        named: Named,
        /// Looks at so many from the front.
        #[arg(long, short = 'n', default_value_t = LOOK_COUNT)]
        count: u64,
        #[command(flatten)]
        listing: Listing,
    },
    /// Publishes dead letters to the queue where they died first, and takes those away that have
    /// arrived there. What cannot be delivered, or never died, stays. To be run again if it was
    /// interrupted: a message may then arrive twice, but is not lost.
    Replay {
        #[command(flatten)]
        named: Named,
        /// To the exchange and with the routing key that they came with, for all its queues.
        #[arg(long)]
        to_exchange: bool,
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        pace: Pace,
    },
    /// Throws dead letters away.
    Drop {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        pace: Pace,
    },
}

/// Which dead letters.
#[derive(Args)]
struct Chosen {
    /// Only those that died for this reason: `rejected`, `expired`, `maxlen`, `delivery_limit`.
    #[arg(long)]
    reason: Option<String>,
    /// Only those that died first in this queue.
    #[arg(long, value_name = "QUEUE")]
    from: Option<String>,
    /// Only those that have been replayed less often.
    #[arg(long, value_name = "COUNT")]
    replays_below: Option<i64>,
}

/// Where and why a message died first.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    reason: String,
    queue: String,
    exchange: String,
    routing_key: String,
    /// Deaths in all queues.
    deaths: i64,
    replays: i64,
}

pub(crate) fn run(args: &DlqArgs) -> anyhow::Result<ExitCode> {
    let options = &args.options;
    let target = options.target()?;
    match &args.command {
        DlqCommand::Ls(listing) => {
            output::list(options, listing, dead_letter_queues(&target)?, COLUMNS)?;
            Ok(ExitCode::SUCCESS)
        }
        DlqCommand::Show {
            named,
            count,
            listing,
        } => {
            let messages = peek::look(&target, &named.name, *count, Some(0))?;
            output::list(options, listing, groups(&messages), GROUP_COLUMNS)?;
            Ok(ExitCode::SUCCESS)
        }
        DlqCommand::Replay {
            named,
            to_exchange,
            chosen,
            pace,
        } => {
            let fate = |got: &GotMessage, origin: Origin| {
                let mut dropped = DEATH_HEADERS.to_vec();
                let is_here = origin.queue == named.name;
                let (exchange, routing_key) = if *to_exchange {
                    (origin.exchange, origin.routing_key)
                } else if is_here {
                    return Ok(Fate::Stay);
                } else {
                    dropped.extend(COPY_HEADERS);
                    (String::new(), origin.queue)
                };
                let headers = headers_without(got, &dropped, origin.replays + 1);
                Ok(Fate::To {
                    exchange,
                    routing_key,
                    properties: properties::with_headers(&got.properties, &headers)?,
                })
            };
            let verb = if pace.dry_run {
                "would be replayed"
            } else {
                "replayed"
            };
            go_through(options, &target, (named, chosen, pace), verb, fate)
        }
        DlqCommand::Drop {
            named,
            chosen,
            pace,
        } => {
            let verb = if pace.dry_run {
                "would be dropped"
            } else {
                "dropped"
            };
            let fate = |_: &GotMessage, _| Ok(Fate::Drop);
            go_through(options, &target, (named, chosen, pace), verb, fate)
        }
    }
}

/// Does with every dead letter that is chosen what `fate` says.
fn go_through(
    options: &Options,
    target: &Target,
    (named, chosen, pace): (&Named, &Chosen, &Pace),
    verb: &'static str,
    fate: impl Fn(&GotMessage, Origin) -> Result<Fate, crate::cli::failure::Failure>,
) -> anyhow::Result<ExitCode> {
    queues::find(target, &named.name)?;
    let progress = Progress::new(verb);
    let moved = transfer(
        target,
        &named.name,
        pace.bounds(),
        |got| match origin(got) {
            Some(origin) if chosen.wants(&origin) => fate(got, origin),
            Some(_) | None => Ok(Fate::Stay),
        },
        |moved| progress.show(moved),
    );
    progress.end();
    report(options, moved?, verb)
}

impl Chosen {
    fn wants(&self, origin: &Origin) -> bool {
        let is =
            |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|it| it == found);
        let below = self.replays_below;
        is(&self.reason, &origin.reason)
            && is(&self.from, &origin.queue)
            && below.is_none_or(|below| origin.replays < below)
    }
}

/// The queues that dead letters of others are routed to, as bindings say it.
fn dead_letter_queues(target: &Target) -> anyhow::Result<Vec<Value>> {
    let queues = target.get_list("queues")?;
    let bindings = target.get_list("bindings")?;
    let mut of: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for queue in &queues {
        let text = |key: &str| queue[key].as_str().unwrap_or_default();
        let (vhost, name) = (text("vhost"), text("name"));
        let Some(exchange) = setting(queue, "dead-letter-exchange") else {
            continue;
        };
        let key = setting(queue, "dead-letter-routing-key");
        let from_exchange = bindings.iter().filter(|it| {
            it["vhost"] == vhost && it["source"] == exchange && it["destination_type"] == "queue"
        });
        for binding in from_exchange {
            // The exchange without a name, and direct ones, lead to one key only.
            let is_meant =
                key.is_none_or(|key| !exchange.is_empty() || binding["routing_key"] == key);
            let by_name = exchange.is_empty() && key.is_none();
            if let Some(destination) = binding["destination"].as_str()
                && is_meant
                && !by_name
            {
                of.entry((vhost, destination)).or_default().insert(name);
            }
        }
    }
    let rows = queues.iter().filter_map(|queue| {
        let place = (queue["vhost"].as_str()?, queue["name"].as_str()?);
        let of = of.get(&place)?;
        Some(json!({
            "vhost": place.0,
            "name": place.1,
            "messages": queue["messages"],
            "consumers": queue["consumers"],
            "of": of,
        }))
    });
    Ok(rows.collect())
}

/// What a queue's arguments, or else its policies, say.
pub(crate) fn setting<'a>(queue: &'a Value, key: &str) -> Option<&'a str> {
    let argument = queue["arguments"][format!("x-{key}")].as_str();
    argument.or_else(|| queue["effective_policy_definition"][key].as_str())
}

/// How many messages died where and why.
fn groups(messages: &[Value]) -> Vec<Value> {
    let mut groups: BTreeMap<[String; 4], (u64, i64, i64)> = BTreeMap::new();
    for message in messages {
        let headers = &message["properties"]["headers"];
        let (key, deaths, replays) = match origin_of(headers) {
            Some(origin) => (
                [
                    origin.reason,
                    origin.queue,
                    origin.exchange,
                    origin.routing_key,
                ],
                origin.deaths,
                origin.replays,
            ),
            None => (
                ["never died", "", "", ""].map(str::to_owned),
                0,
                headers[REPLAYS_HEADER].as_i64().unwrap_or(0),
            ),
        };
        let group = groups.entry(key).or_default();
        *group = (group.0 + 1, group.1.max(deaths), group.2.max(replays));
    }
    let rows = groups.into_iter();
    let rows = rows.map(
        |([reason, queue, exchange, key], (count, deaths, replays))| {
            json!({
                "reason": reason,
                "queue": queue,
                "exchange": exchange,
                "routing_key": key,
                "messages": count,
                "deaths": deaths,
                "replays": replays,
            })
        },
    );
    rows.collect()
}

fn origin(got: &GotMessage) -> Option<Origin> {
    let headers = Properties::from_validated(&got.properties).headers()?;
    origin_of(&Value::Object(to_json(headers)))
}

/// `x-death` tells of the last death first; the first of all is its last entry, unless
/// `x-first-death-queue` names another. None if the message never died.
fn origin_of(headers: &Value) -> Option<Origin> {
    let deaths = headers["x-death"].as_array()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let first_queue = &headers["x-first-death-queue"];
    let first_reason = &headers["x-first-death-reason"];
    let is_first =
        |death: &&Value| death["queue"] == *first_queue && death["reason"] == *first_reason;
    let first = deaths.iter().find(is_first).or_else(|| deaths.last())?;
    let counts = deaths
        .iter()
        .map(|death| death["count"].as_i64().unwrap_or(1));
    Some(Origin {
        reason: text(&first["reason"])?,
        queue: text(&first["queue"])?,
        exchange: text(&first["exchange"])?,
        routing_key: text(&first["routing-keys"][0]).unwrap_or_default(),
        deaths: counts.sum(),
        replays: headers[REPLAYS_HEADER].as_i64().unwrap_or(0),
    })
}

/// The headers of a message without those, and with the count of its replays.
fn headers_without(got: &GotMessage, dropped: &[&str], replays: i64) -> FieldTable {
    let headers = Properties::from_validated(&got.properties).headers();
    let mut dropped = dropped.to_vec();
    dropped.push(REPLAYS_HEADER);
    let kept = match headers {
        Some(headers) => TableBuilder::new().copy_except(headers, &dropped),
        None => TableBuilder::new().copy_except(TableRef::default(), &dropped),
    };
    kept.value(REPLAYS_HEADER, Field::I64(replays)).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_death_is_the_origin() {
        let headers = json!({
            "x-death": [
                {"queue": "dlq", "reason": "expired", "exchange": "", "routing-keys": ["dlq"], "count": 2},
                {"queue": "orders", "reason": "rejected", "exchange": "shop", "routing-keys": ["o.1", "o.2"], "count": 1},
            ],
            "x-first-death-queue": "orders", "x-first-death-reason": "rejected",
            "x-staunch-replays": 3,
        });
        let expected = Origin {
            reason: "rejected".to_owned(),
            queue: "orders".to_owned(),
            exchange: "shop".to_owned(),
            routing_key: "o.1".to_owned(),
            deaths: 3,
            replays: 3,
        };
        assert_eq!(origin_of(&headers), Some(expected));
        assert_eq!(origin_of(&json!({"a": 1})), None);
        assert_eq!(origin_of(&json!({"x-death": []})), None);
    }
}
