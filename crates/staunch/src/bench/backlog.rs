//! `staunch bench backlog`: publishes without a consumer, then drains.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde::Serialize;
use staunch_client::{ConnectOptions, Connection, Incoming};
use staunch_types::properties::PropertiesBuilder;

use super::{
    body,
    load::float,
    process::ServerProcess,
    report::{self, thousands},
};

/// No delivery for so long ends a drain.
const DRAIN_IDLE_MAX: Duration = Duration::from_mins(1);

#[derive(Args)]
pub(crate) struct BacklogArgs {
    /// The broker.
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/")]
    url: String,
    /// Messages.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// Bytes of a body.
    #[arg(short, long, default_value_t = 1024)]
    size: usize,
    /// Unconfirmed publishes in flight.
    #[arg(short = 'c', long, default_value_t = 2000)]
    confirms: usize,
    /// Deliveries held without acks.
    #[arg(short = 'q', long, default_value_t = 2000)]
    prefetch: u16,
    /// `classic` or `quorum`.
    #[arg(long)]
    queue_type: Option<String>,
    /// The queue.
    #[arg(long, default_value = "staunch-bench-backlog")]
    queue: String,
    /// The server's process, for its memory.
    #[arg(long)]
    server_pid: Option<u32>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Only one half: a restart of the broker fits between.
    #[command(subcommand)]
    phase: Option<Phase>,
}

#[derive(Clone, Copy, Subcommand)]
enum Phase {
    /// Publishes and leaves the messages there.
    Fill,
    /// Waits until the queue answers with `count` messages, then drains it.
    Drain,
}

#[derive(Default, Serialize)]
struct Report {
    count: u64,
    size_bytes: usize,
    published_per_second: Option<f64>,
    /// Seconds from the start of this command until the queue answered with every message.
    answered_after_seconds: Option<f64>,
    drained_per_second: Option<f64>,
    drained: u64,
    server_resident_bytes_max: Option<u64>,
}

pub(super) fn run(args: &BacklogArgs) -> anyhow::Result<()> {
    let options = ConnectOptions::from_url(&args.url)?;
    let mut memory = MemoryPeak::new(args.server_pid.map(ServerProcess::one));
    let mut report = Report {
        count: args.count,
        size_bytes: args.size,
        ..Report::default()
    };
    if !matches!(args.phase, Some(Phase::Drain)) {
        report.published_per_second = Some(fill(args, &options, &mut memory)?);
    }
    if !matches!(args.phase, Some(Phase::Fill)) {
        let start = Instant::now();
        let mut connection = await_count(args, &options)?;
        report.answered_after_seconds = Some(start.elapsed().as_secs_f64());
        let (drained, rate) = drain(args, &mut connection, &mut memory)?;
        (report.drained, report.drained_per_second) = (drained, Some(rate));
        let channel = connection.open_channel()?;
        connection.queue_delete(channel, &args.queue)?;
    }
    report.server_resident_bytes_max = memory.size_bytes_max();
    let rate = |rate: Option<f64>| rate.map_or("–".to_owned(), thousands);
    let text = format!(
        "published   {} msg/s\ndrained     {} msg/s ({} messages)\nserver RSS  {} MiB at most\n",
        rate(report.published_per_second),
        rate(report.drained_per_second),
        report.drained,
        report
            .server_resident_bytes_max
            .map_or("–".to_owned(), |size| (size >> 20).to_string()),
    );
    report::print(args.json, &report, &text)
}

fn queue_spec(args: &BacklogArgs) -> staunch_client::QueueSpec {
    let mut spec = staunch_client::QueueSpec::durable(&args.queue);
    if let Some(kind) = &args.queue_type {
        let table = staunch_types::field_table::TableBuilder::new();
        spec.arguments = table.longstr("x-queue-type", kind).build();
    }
    spec
}

fn fill(
    args: &BacklogArgs,
    options: &ConnectOptions,
    memory: &mut MemoryPeak,
) -> anyhow::Result<f64> {
    let mut connection = Connection::open(options)?;
    let channel = connection.open_channel()?;
    connection.queue_delete(channel, &args.queue)?;
    connection.queue_declare(channel, &queue_spec(args))?;
    connection.confirm_select(channel)?;
    let properties = PropertiesBuilder::new().delivery_mode(2).build()?;
    let template = connection.publish_template(channel, "", &args.queue, false, &properties)?;
    let mut body = body::unstamped(args.size);
    let start = Instant::now();
    for seq in 0..args.count {
        while connection.unconfirmed_count(channel) >= args.confirms {
            memory.look();
            connection.next(Some(Duration::from_millis(100)))?;
            while connection.next_received()?.is_some() {}
        }
        body::stamp(&mut body, 0, seq);
        connection.publish_with(&template, &body)?;
    }
    connection.wait_for_confirms(channel, Duration::from_mins(10))?;
    let elapsed = start.elapsed();
    memory.look();
    connection.close()?;
    Ok(float(args.count) / elapsed.as_secs_f64())
}

/// Connects as soon as it can and waits until the queue has all messages.
fn await_count(args: &BacklogArgs, options: &ConnectOptions) -> anyhow::Result<Connection> {
    let spec = staunch_client::QueueSpec {
        passive: true,
        ..queue_spec(args)
    };
    let deadline = Instant::now() + Duration::from_mins(10);
    loop {
        let attempt = Connection::open(options).and_then(|mut connection| {
            let channel = connection.open_channel()?;
            let declared = connection.queue_declare(channel, &spec)?;
            Ok((connection, declared.message_count))
        });
        match attempt {
            Ok((connection, count)) if u64::from(count) >= args.count => return Ok(connection),
            Ok((_, count)) if Instant::now() > deadline => {
                anyhow::bail!("the queue answers with {count} of {} messages", args.count)
            }
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Ok(_) | Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn drain(
    args: &BacklogArgs,
    connection: &mut Connection,
    memory: &mut MemoryPeak,
) -> anyhow::Result<(u64, f64)> {
    let channel = connection.open_channel()?;
    connection.qos(channel, args.prefetch)?;
    let start = Instant::now();
    connection.consume(channel, &args.queue, false)?;
    let batch = u64::from((args.prefetch / 4).max(1));
    let mut drained = 0;
    while drained < args.count {
        let Some(incoming) = connection.next(Some(DRAIN_IDLE_MAX))? else {
            break;
        };
        if let Incoming::Delivery(delivery) = incoming {
            let tag = delivery.delivery_tag;
            drained += 1;
            if drained % batch == 0 || drained == args.count {
                connection.ack(channel, tag, true)?;
                memory.look();
            }
        }
    }
    connection.flush()?;
    let rate = float(drained) / start.elapsed().as_secs_f64();
    connection.close_channel(channel)?;
    Ok((drained, rate))
}

/// The most memory a server was seen to take.
struct MemoryPeak {
    server: Option<ServerProcess>,
    looked_at: Instant,
    size_bytes_max: u64,
}

impl MemoryPeak {
    fn new(server: Option<ServerProcess>) -> Self {
        Self {
            server,
            looked_at: Instant::now(),
            size_bytes_max: 0,
        }
    }

    /// Looks again, at most four times a second.
    fn look(&mut self) {
        if self.looked_at.elapsed() < Duration::from_millis(250) && self.size_bytes_max > 0 {
            return;
        }
        self.looked_at = Instant::now();
        let size = self.server.map_or(0, ServerProcess::resident_size_bytes);
        self.size_bytes_max = self.size_bytes_max.max(size);
    }

    fn size_bytes_max(&self) -> Option<u64> {
        self.server.map(|_| self.size_bytes_max)
    }
}
