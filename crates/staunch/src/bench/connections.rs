//! `staunch bench connections`: what an idle connection costs.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use staunch_client::{ConnectOptions, Connection};

use super::{
    load::float,
    process::ServerProcess,
    report::{self, thousands},
};

#[derive(Args)]
pub(crate) struct ConnectionsArgs {
    /// The broker.
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/")]
    url: String,
    /// Connections, each with one channel.
    #[arg(long, default_value_t = 10_000)]
    count: u64,
    /// Threads that open them.
    #[arg(long, default_value_t = 8)]
    threads: u64,
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
    opened_per_second: f64,
    server_bytes_per_connection: Option<f64>,
}

pub(super) fn run(args: &ConnectionsArgs) -> anyhow::Result<()> {
    let options = ConnectOptions::from_url(&args.url)?;
    let server = args.server_pid.map(ServerProcess::one);
    // One before, so that what the first connection of all brings is not counted.
    Connection::open(&options)?.close()?;
    let before = server.map(ServerProcess::resident_size_bytes);
    let start = Instant::now();
    let threads = args.threads.max(1);
    let share = |i: u64| args.count / threads + u64::from(i < args.count % threads);
    let open = |count: u64| -> anyhow::Result<Vec<Connection>> {
        let one = |_| {
            let mut connection = Connection::open(&options)?;
            connection.open_channel()?;
            Ok(connection)
        };
        (0..count).map(one).collect()
    };
    let opened: Vec<Connection> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|i| scope.spawn(move || open(share(i))))
            .collect();
        let mut all = Vec::new();
        for handle in handles {
            all.extend(
                handle
                    .join()
                    .map_err(|_| anyhow::anyhow!("a thread panicked"))??,
            );
        }
        anyhow::Ok(all)
    })?;
    let opened_per_second = float(args.count) / start.elapsed().as_secs_f64();
    // Idle is what is measured: buffers of the opening may go.
    std::thread::sleep(Duration::from_secs(3));
    let after = server.map(ServerProcess::resident_size_bytes);
    let count = opened.len() as u64;
    drop(opened);
    let per_connection = after
        .zip(before)
        .map(|(after, before)| float(after.saturating_sub(before)) / float(count.max(1)));
    let report = Report {
        count,
        opened_per_second,
        server_bytes_per_connection: per_connection,
    };
    let text = format!(
        "opened      {count}, {} a second\nserver RSS  {} KiB a connection\n",
        thousands(opened_per_second),
        per_connection.map_or("–".to_owned(), |bytes| format!("{:.1}", bytes / 1024.0)),
    );
    report::print(args.json, &report, &text)
}
