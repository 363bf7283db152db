//! `staunch horizon`: how long queues hold out (`docs/horizon.md`).

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Args;
use serde_json::{Map, Value, json};

use crate::{
    cli::{
        arguments::pair,
        durations,
        failure::{About as _, Exit, Failure},
        options::Options,
        output::{self, Listing},
        target::{Target, path, segment},
    },
    nouns::queues,
};

/// Rows of a list unless something else is asked for.
const LIMIT: u16 = 100;
/// Clears a terminal and goes to its beginning.
pub(crate) const CLEAR: &str = "\x1b[2J\x1b[H";

const COLUMNS: &[(&str, &str)] = &[
    ("VHOST", "vhost"),
    ("QUEUE", "name"),
    ("T NOW", "shown.now"),
    ("T STRESS", "shown.stress"),
    ("AT LEAST", "shown.stress_low"),
    ("T PEAK", "shown.peak"),
    ("LIMIT", "shown.limit"),
    ("OUTCOME", "shown.outcome"),
    ("IN/s", "rates.messages_in_per_second"),
    ("OUT/s", "rates.messages_out_per_second"),
    ("MESSAGES", "messages"),
    ("SLO", "shown.slo"),
];

const DETAILS: &[(&str, &str)] = &[
    ("VHOST", "vhost"),
    ("QUEUE", "name"),
    ("MESSAGES", "messages"),
    ("BYTES", "message_bytes"),
    ("CONSUMERS", "consumers"),
    ("IN/s", "rates.messages_in_per_second"),
    ("OUT/s", "rates.messages_out_per_second"),
    ("T NOW", "shown.now"),
    ("T STRESS", "shown.stress"),
    ("BETWEEN", "shown.stress_low"),
    ("AND", "shown.stress_high"),
    ("T PEAK", "shown.peak"),
    ("EMPTY IN", "shown.to_empty"),
    ("LIMIT", "shown.limit"),
    ("OUTCOME", "shown.outcome"),
    ("SLO", "shown.slo"),
    ("HISTORY SECONDS", "history_seconds"),
];

const WHAT_IF: &[(&str, &str)] = &[
    ("QUEUE", "name"),
    ("T STRESS NOW", "shown.as_is"),
    ("FULL IN", "shown.full"),
    ("LIMIT", "full.limit"),
    ("OUTCOME", "full.outcome"),
    ("MESSAGES AT RETURN", "messages_at_return.messages"),
    ("EMPTY IN", "shown.to_empty"),
];

#[derive(Args)]
pub(crate) struct HorizonArgs {
    #[command(flatten)]
    options: Options,
    /// A queue; without one, the queues that hold out the shortest.
    queue: Option<String>,
    /// Only queues whose time may be shorter: `30m`, or `policy` for those that miss their own
    /// `horizon-slo`. Ends with 10 if there are any.
    #[arg(long, value_name = "TIME", conflicts_with = "queue")]
    slo: Option<String>,
    /// Which time counts: `stress` if every consumer stopped, `now`, `peak` at the peak rate.
    #[arg(long, value_name = "TIME", default_value = "stress")]
    basis: String,
    /// Only those whose name matches this regular expression.
    #[arg(long, value_name = "PATTERN", conflicts_with = "queue")]
    name: Option<String>,
    /// At most so many queues.
    #[arg(long, default_value_t = LIMIT, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    /// What would be if: `rate_factor=2`, `consumers_gone=30m`, `consumers_per_second=100`,
    /// `one_node_fewer=true`, `limit=max_length` with `capacity=100000`; may be repeated. Without a
    /// queue, of the node's memory and disk.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    what_if: Vec<(String, Value)>,
    /// Looks again every so many seconds.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "5",
        value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
    #[command(flatten)]
    listing: Listing,
}

pub(crate) fn run(args: &HorizonArgs) -> anyhow::Result<ExitCode> {
    let target = args.options.target()?;
    let Some(seconds) = args.watch else {
        return look(args, &target);
    };
    loop {
        if io::stdout().is_terminal() {
            output::text(CLEAR)?;
        }
        look(args, &target)?;
        thread::sleep(Duration::from_secs(seconds));
    }
}

fn look(args: &HorizonArgs, target: &Target) -> anyhow::Result<ExitCode> {
    if !args.what_if.is_empty() {
        return what_if(args, target);
    }
    if let Some(queue) = &args.queue {
        let path = path(&["staunch", "v1", "horizon", "queues", target.vhost(), queue]);
        let found = target.get(&path).about(|| queues::named(target, queue))?;
        output::one(&args.options, &for_people(&args.options, found), DETAILS)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut asked = format!(
        "staunch/v1/horizon?basis={}&page_size={}",
        segment(&args.basis),
        args.limit
    );
    if let Some(vhost) = &target.resolved.vhost {
        write!(asked, "&vhost={}", segment(vhost))?;
    }
    if let Some(name) = &args.name {
        write!(asked, "&use_regex=true&name={}", segment(name))?;
    }
    if let Some(slo) = &args.slo {
        write!(asked, "&slo={}", segment(slo))?;
    }
    let mut answer = target.get(&asked)?;
    let rows = match answer["queues"].take() {
        Value::Array(rows) => rows,
        _ => Vec::new(),
    };
    let is_missed = args.slo.is_some() && !rows.is_empty();
    let rows = rows.into_iter().map(|row| for_people(&args.options, row));
    output::list(&args.options, &args.listing, rows.collect(), COLUMNS)?;
    Ok(if is_missed {
        Exit::Findings.code()
    } else {
        ExitCode::SUCCESS
    })
}

fn what_if(args: &HorizonArgs, target: &Target) -> anyhow::Result<ExitCode> {
    let mut question = Map::new();
    for (key, value) in &args.what_if {
        if key == "consumers_gone" {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let seconds = durations::seconds(&text).ok_or_else(|| {
                Failure::usage(format!(
                    "consumers_gone is a time such as 90s or 30m, not '{text}'"
                ))
            })?;
            question.insert("consumers_gone_seconds".to_owned(), seconds.into());
        } else {
            question.insert(key.clone(), value.clone());
        }
    }
    let place = match &args.queue {
        Some(queue) => {
            let vhost = target.vhost();
            path(&[
                "staunch", "v1", "horizon", "queues", vhost, queue, "what-if",
            ])
        }
        None => "staunch/v1/horizon/what-if".to_owned(),
    };
    let answer = target.post(&place, Value::Object(question).to_string().as_bytes());
    let answer =
        answer.about(|| queues::named(target, args.queue.as_deref().unwrap_or_default()))?;
    let mut answer: Value = serde_json::from_slice(&answer)?;
    if !args.options.json {
        answer["shown"] = json!({
            "as_is": time(&answer["as_is"]["stress"]["seconds"]),
            "full": time(&answer["full"]["seconds"]),
            "to_empty": time(&answer["to_empty"]["seconds"]),
        });
    }
    output::one(&args.options, &answer, WHAT_IF)?;
    Ok(ExitCode::SUCCESS)
}

/// With times as people read them; JSON stays as it is.
pub(crate) fn for_people(options: &Options, mut row: Value) -> Value {
    if options.json {
        return row;
    }
    let horizon = &row["horizon"];
    let stress = &horizon["stress"];
    let slo = match (&row["slo_seconds"], row["is_slo_met"].as_bool()) {
        (Value::Null, _) => Value::Null,
        (seconds, Some(false)) => format!("{} missed", time(seconds)).into(),
        (seconds, _) => time(seconds).into(),
    };
    row["shown"] = json!({
        "now": time(&horizon["now"]["seconds"]),
        "stress": time(&stress["seconds"]),
        "stress_low": time(&stress["low_seconds"]),
        "stress_high": time(&stress["high_seconds"]),
        "peak": time(&horizon["peak"]["seconds"]),
        "to_empty": time(&horizon["to_empty"]["seconds"]),
        "limit": stress["limit"],
        "outcome": stress["outcome"],
        "slo": slo,
    });
    row
}

/// A time; none is never.
fn time(seconds: &Value) -> String {
    seconds
        .as_f64()
        .map_or_else(|| "never".to_owned(), durations::shown)
}
