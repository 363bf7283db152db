//! `staunch bench compare`: the scripted cases, medians of several rounds.
//!
//! With two brokers every case of a round runs on one and then on the other, so that whatever
//! else the machine does meets both alike.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use staunch_client::ConnectOptions;

use super::{
    consumer::Acks,
    load::{Load, Outcome, Until},
    process::ServerProcess,
    report::{self, Table, median, microseconds, thousands},
};

#[derive(Args)]
pub(crate) struct CompareArgs {
    /// A broker; once or twice.
    #[arg(long = "url", required = true)]
    urls: Vec<String>,
    /// The brokers' processes in the same order, for their CPU time and memory; those of a cluster's
    /// nodes are joined by `+`.
    #[arg(long = "server-pid", value_name = "PID+PID", value_parser = pids)]
    server_pids: Vec<Pids>,
    /// Queue types of case (b), for every broker.
    #[arg(
        long = "queue-type",
        value_delimiter = ',',
        default_value = "classic,quorum"
    )]
    queue_types: Vec<String>,
    /// Only the cases whose name starts so: a16, a1024, b-classic, b-quorum, c.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of measurement for each case.
    #[arg(short = 'z', long, default_value_t = 8.0)]
    duration: f64,
    /// Seconds before measurement.
    #[arg(long, default_value_t = 3.0)]
    warm_up: f64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Processes of one broker.
#[derive(Clone, Debug)]
struct Pids(Vec<u32>);

fn pids(text: &str) -> Result<Pids, std::num::ParseIntError> {
    text.split('+')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map(Pids)
}

/// A case with its name.
struct Case {
    name: String,
    load: Load,
}

/// A broker.
struct Target {
    url: String,
    options: ConnectOptions,
    server: Option<ServerProcess>,
}

/// Medians of one case on one broker, and what they are medians of.
#[derive(Serialize)]
struct Measured {
    case: String,
    url: String,
    published_per_second: Option<f64>,
    consumed_per_second: Option<f64>,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
    server_cpu_per_million: Option<f64>,
    runs: Vec<Outcome>,
    errors: Vec<String>,
}

pub(super) fn run(args: &CompareArgs) -> anyhow::Result<()> {
    ensure!(args.urls.len() <= 2, "compare takes one or two brokers");
    let target = |(i, url): (usize, &String)| {
        let server = args.server_pids.get(i).cloned();
        let server = server.map(|Pids(pids)| ServerProcess::all(pids));
        Ok(Target {
            url: url.clone(),
            options: ConnectOptions::from_url(url)?,
            server,
        })
    };
    let targets: Vec<Target> = args
        .urls
        .iter()
        .enumerate()
        .map(target)
        .collect::<anyhow::Result<_>>()?;
    let cases = cases(args)?;
    let mut measured: Vec<Measured> = Vec::new();
    for case in &cases {
        measured.extend(
            targets
                .iter()
                .map(|target| Measured::new(&case.name, &target.url)),
        );
    }
    for round in 0..args.rounds {
        for (i, case) in cases.iter().enumerate() {
            for (j, target) in targets.iter().enumerate() {
                eprintln!(
                    "round {}/{}  {}  {}",
                    round + 1,
                    args.rounds,
                    case.name,
                    target.url
                );
                let slot = &mut measured[i * targets.len() + j];
                match case.load.run(&target.options, target.server) {
                    Ok(outcome) => slot.runs.push(outcome),
                    Err(error) => slot.errors.push(format!("{error:#}")),
                }
            }
        }
    }
    measured.iter_mut().for_each(Measured::take_medians);
    report::print(args.json, &measured, &text(&measured, targets.len()))
}

fn cases(args: &CompareArgs) -> anyhow::Result<Vec<Case>> {
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds);
    let until = Until::Elapsed {
        warm_up: seconds(args.warm_up)?,
        measured: seconds(args.duration)?,
    };
    let transient = Load {
        queue: "staunch-bench-compare".to_owned(),
        queue_type: None,
        durable: false,
        persistent: false,
        producers: 1,
        consumers: 1,
        size_bytes: 16,
        confirm_window: None,
        acks: Acks::Automatic,
        prefetch: 1000,
        rate: None,
        until,
    };
    let durable = Load {
        durable: true,
        persistent: true,
        size_bytes: 1024,
        confirm_window: Some(1000),
        acks: Acks::Each(1),
        ..transient.clone()
    };
    let mut cases = vec![
        Case {
            name: "a16".to_owned(),
            load: transient.clone(),
        },
        Case {
            name: "a1024".to_owned(),
            load: Load {
                size_bytes: 1024,
                ..transient
            },
        },
    ];
    cases.extend(args.queue_types.iter().map(|kind| Case {
        name: format!("b-{kind}"),
        load: Load {
            queue_type: Some(kind.clone()),
            ..durable.clone()
        },
    }));
    cases.push(Case {
        name: "c".to_owned(),
        load: Load {
            rate: Some(5000.0),
            ..durable
        },
    });
    let is_wanted = |name: &str| {
        args.only
            .iter()
            .any(|start| name.starts_with(start.as_str()))
    };
    cases.retain(|case| args.only.is_empty() || is_wanted(&case.name));
    ensure!(!cases.is_empty(), "no case has such a name");
    Ok(cases)
}

impl Measured {
    fn new(case: &str, url: &str) -> Self {
        Self {
            case: case.to_owned(),
            url: url.to_owned(),
            published_per_second: None,
            consumed_per_second: None,
            p50_us: None,
            p99_us: None,
            p999_us: None,
            server_cpu_per_million: None,
            runs: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn take_medians(&mut self) {
        let of = |figure: fn(&Outcome) -> Option<f64>| {
            median(self.runs.iter().filter_map(figure).collect())
        };
        self.published_per_second = of(|run| Some(run.published_per_second));
        self.consumed_per_second = of(|run| Some(run.consumed_per_second));
        self.p50_us = of(|run| Some(run.latency.p50_us));
        self.p99_us = of(|run| Some(run.latency.p99_us));
        self.p999_us = of(|run| Some(run.latency.p999_us));
        self.server_cpu_per_million = of(|run| run.server_cpu_per_million);
    }
}

fn text(measured: &[Measured], target_count: usize) -> String {
    let shown =
        |value: Option<f64>, format: fn(f64) -> String| value.map_or("–".to_owned(), format);
    let headings = [
        "case",
        "broker",
        "published/s",
        "consumed/s",
        "p50",
        "p99",
        "p99.9",
        "CPU s/M",
    ];
    let mut table = Table::new(&headings);
    for one in measured {
        table.row(vec![
            one.case.clone(),
            one.url.rsplit('@').next().unwrap_or(&one.url).to_owned(),
            shown(one.published_per_second, thousands),
            shown(one.consumed_per_second, thousands),
            shown(one.p50_us, microseconds),
            shown(one.p99_us, microseconds),
            shown(one.p999_us, microseconds),
            shown(one.server_cpu_per_million, |cpu| format!("{cpu:.2}")),
        ]);
    }
    let mut out = table.render();
    if target_count == 2 {
        out.push('\n');
        out.push_str(&ratios(measured).render());
    }
    let failures = measured.iter().filter_map(|one| {
        let (error, count) = (one.errors.first()?, one.errors.len());
        Some(format!(
            "{} {}: {count} runs failed: {error}\n",
            one.case, one.url
        ))
    });
    out.extend(failures);
    out
}

/// The first broker against the second: how many times as fast, and what share of the time.
fn ratios(measured: &[Measured]) -> Table {
    let mut table = Table::new(&["first / second", "consumed/s", "p99", "CPU s/M"]);
    for pair in measured.chunks_exact(2) {
        let ratio = |figure: fn(&Measured) -> Option<f64>| {
            let (first, second) = (figure(&pair[0]), figure(&pair[1]));
            first
                .zip(second)
                .map_or("–".to_owned(), |(a, b)| format!("{:.2}", a / b))
        };
        table.row(vec![
            pair[0].case.clone(),
            ratio(|one| one.consumed_per_second),
            ratio(|one| one.p99_us),
            ratio(|one| one.server_cpu_per_million),
        ]);
    }
    table
}
