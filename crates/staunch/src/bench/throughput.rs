//! `staunch bench throughput`.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use staunch_client::ConnectOptions;

use super::{
    consumer::Acks,
    load::{Load, Outcome, Until},
    process::ServerProcess,
    report::{self, microseconds, thousands},
};

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags")]
pub(crate) struct ThroughputArgs {
    /// The broker.
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/")]
    url: String,
    /// Producers, each with a connection.
    #[arg(short = 'x', long, default_value_t = 1)]
    producers: u32,
    /// Consumers, each with a connection.
    #[arg(short = 'y', long, default_value_t = 1)]
    consumers: u32,
    /// Bytes of a body; from 16 on latency is measured.
    #[arg(short, long, default_value_t = 1024)]
    size: usize,
    /// Declares a durable queue.
    #[arg(long)]
    durable: bool,
    /// Publishes persistent messages (delivery mode 2).
    #[arg(long)]
    persistent: bool,
    /// Confirms, with at most so many publishes in flight for each producer.
    #[arg(short = 'c', long, value_name = "IN_FLIGHT")]
    confirms: Option<usize>,
    /// The broker expects no acks.
    #[arg(long)]
    auto_ack: bool,
    /// Deliveries for one ack.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    ack_batch: u64,
    /// Deliveries that a consumer may hold without acks.
    #[arg(short = 'q', long, default_value_t = 1000)]
    prefetch: u16,
    /// `classic` or `quorum`.
    #[arg(long)]
    queue_type: Option<String>,
    /// The queue.
    #[arg(long, default_value = "staunch-bench")]
    queue: String,
    /// Messages a second by all producers together.
    #[arg(short, long)]
    rate: Option<f64>,
    /// Seconds of measurement.
    #[arg(short = 'z', long, default_value_t = 10.0)]
    duration: f64,
    /// Seconds before measurement.
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Messages of each producer, instead of a duration.
    #[arg(long)]
    count: Option<u64>,
    /// The server's process, for its CPU time and memory.
    #[arg(long)]
    server_pid: Option<u32>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    url: &'a str,
    size_bytes: usize,
    #[serde(flatten)]
    outcome: Outcome,
}

pub(super) fn run(args: &ThroughputArgs) -> anyhow::Result<()> {
    let options = ConnectOptions::from_url(&args.url)?;
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds);
    let until = match args.count {
        Some(count) => Until::Count(count),
        None => Until::Elapsed {
            warm_up: seconds(args.warm_up)?,
            measured: seconds(args.duration)?,
        },
    };
    let load = Load {
        queue: args.queue.clone(),
        queue_type: args.queue_type.clone(),
        durable: args.durable,
        persistent: args.persistent,
        producers: args.producers,
        consumers: args.consumers,
        size_bytes: args.size,
        confirm_window: args.confirms.map(|window| window.max(1)),
        acks: if args.auto_ack {
            Acks::Automatic
        } else {
            Acks::Each(args.ack_batch)
        },
        prefetch: args.prefetch,
        rate: args.rate,
        until,
    };
    let outcome = load.run(&options, args.server_pid.map(ServerProcess::one))?;
    let text = text(&outcome, args.rate.is_some());
    report::print(
        args.json,
        &Report {
            url: &args.url,
            size_bytes: args.size,
            outcome,
        },
        &text,
    )
}

fn text(outcome: &Outcome, has_rate: bool) -> String {
    let latency = &outcome.latency;
    let mut lines = vec![
        format!(
            "published   {} msg/s",
            thousands(outcome.published_per_second)
        ),
        format!(
            "consumed    {} msg/s, {:.1} MB/s",
            thousands(outcome.consumed_per_second),
            outcome.consumed_mb_per_second
        ),
    ];
    if latency.count > 0 {
        lines.push(format!(
            "latency     p50 {}  p99 {}  p99.9 {}  max {}  ({}, {} samples)",
            microseconds(latency.p50_us),
            microseconds(latency.p99_us),
            microseconds(latency.p999_us),
            microseconds(latency.max_us),
            if has_rate {
                "from when due"
            } else {
                "at full speed, from when sent"
            },
            latency.count,
        ));
    }
    if let Some(cpu) = outcome.server_cpu_per_million {
        lines.push(format!("server CPU  {cpu:.2} s a million messages"));
    }
    if let Some(resident) = outcome.server_resident_bytes {
        lines.push(format!("server RSS  {} MiB", resident >> 20));
    }
    lines.join("\n") + "\n"
}
