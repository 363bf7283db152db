//! `staunch bench queues`: what a durable queue costs.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use staunch_client::{ConnectOptions, Connection, QueueSpec};
use staunch_types::field_table::TableBuilder;

use super::{
    load::float,
    process::ServerProcess,
    report::{self, thousands},
};

/// Declares that are sent before an answer is awaited.
const PIPELINE_COUNT: usize = 64;

#[derive(Args)]
pub(crate) struct QueuesArgs {
    /// The broker.
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/")]
    url: String,
    /// Queues.
    #[arg(long, default_value_t = 100_000)]
    count: u64,
    /// Connections that declare them.
    #[arg(long, default_value_t = 64)]
    connections: u64,
    /// `classic` or `quorum`.
    #[arg(long)]
    queue_type: Option<String>,
    /// Asks for every queue instead of declaring it: after a restart.
    #[arg(long)]
    check: bool,
    /// Deletes every queue instead.
    #[arg(long, conflicts_with = "check")]
    delete: bool,
    /// The server's process, for its memory.
    #[arg(long)]
    server_pid: Option<u32>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    count: u64,
    seconds: f64,
    per_second: f64,
    server_bytes_per_queue: Option<f64>,
}

pub(super) fn run(args: &QueuesArgs) -> anyhow::Result<()> {
    let options = ConnectOptions::from_url(&args.url)?;
    let server = args.server_pid.map(ServerProcess::one);
    let connect = |_| Ok(Connection::open(&options)?);
    let connections = args.connections.max(1);
    let opened: Vec<Connection> = (0..connections)
        .map(connect)
        .collect::<anyhow::Result<_>>()?;
    let before = server.map(ServerProcess::resident_size_bytes);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let mut handles = Vec::new();
        for (i, connection) in (0..).zip(opened) {
            let numbers = (i..args.count).step_by(usize::try_from(connections)?);
            handles.push(scope.spawn(move || work(args, connection, numbers)));
        }
        for handle in handles {
            handle
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        anyhow::Ok(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_secs(1));
    let after = server.map(ServerProcess::resident_size_bytes);
    let is_declaring = !args.check && !args.delete;
    let per_queue = after
        .zip(before)
        .filter(|_| is_declaring)
        .map(|(after, before)| float(after.saturating_sub(before)) / float(args.count.max(1)));
    let per_second = float(args.count) / seconds;
    let report = Report {
        count: args.count,
        seconds,
        per_second,
        server_bytes_per_queue: per_queue,
    };
    let done = if args.check {
        "found"
    } else if args.delete {
        "deleted"
    } else {
        "declared"
    };
    let text = format!(
        "{done:<10}  {} in {seconds:.2} s, {} a second\nserver RSS  {} KiB a queue\n",
        args.count,
        thousands(per_second),
        per_queue.map_or("–".to_owned(), |bytes| format!("{:.2}", bytes / 1024.0)),
    );
    report::print(args.json, &report, &text)
}

fn work(
    args: &QueuesArgs,
    mut connection: Connection,
    numbers: impl Iterator<Item = u64>,
) -> anyhow::Result<()> {
    let channel = connection.open_channel()?;
    let arguments = match &args.queue_type {
        Some(kind) => TableBuilder::new().longstr("x-queue-type", kind).build(),
        None => TableBuilder::new().build(),
    };
    let spec = |number: u64| {
        let name = format!("staunch-bench-queue-{number}");
        let arguments = arguments.clone();
        QueueSpec {
            passive: args.check,
            arguments,
            ..QueueSpec::durable(&name)
        }
    };
    let specs: Vec<QueueSpec> = numbers.map(spec).collect();
    for batch in specs.chunks(PIPELINE_COUNT) {
        if args.delete {
            for queue in batch {
                connection.queue_delete(channel, &queue.name)?;
            }
        } else {
            connection.queue_declare_all(channel, batch)?;
        }
    }
    connection.close()?;
    Ok(())
}
