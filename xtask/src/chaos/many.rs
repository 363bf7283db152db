//! `cargo xtask chaos queues`: what many replicated queues cost three real nodes that have nothing
//! to do, and how soon all confirm again when one of the nodes is killed.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use staunch_client::{
    ChannelNumber, Connection, QueueSpec,
    proof::{
        cluster::{ClusterProcess, Site},
        guard::Guard,
    },
};

use super::USAGE;

const NODES: usize = 3;
/// Queues that are declared before the answers are awaited.
const BATCH: usize = 500;
/// Nothing happens for so long before it is measured what that costs.
const REST: Duration = Duration::from_secs(10);
/// How long that is measured: a tick of a process's times is 0.05 % of a core then.
const IDLE_MEASURED: Duration = Duration::from_secs(20);
/// Longest wait for confirms.
const CONFIRM_PATIENCE: Duration = Duration::from_mins(1);
/// Time for a node to start and to be like the others again.
const WHOLE_PATIENCE: Duration = Duration::from_mins(2);
/// Clock ticks of a process's times in a second (`sysconf(_SC_CLK_TCK)`, always so on Linux).
const TICKS_PER_SECOND: f64 = 100.0;

/// A run.
#[derive(Debug)]
struct Plan {
    queues: usize,
    binary: PathBuf,
}

/// Runs `options`, what follows `chaos queues` on the command line.
pub(super) fn run(root: &Path, options: &[&str]) -> anyhow::Result<ExitCode> {
    let plan = Plan::parse(root, options)?;
    let guard = Guard::new("queues")?;
    Ok(if plan.run(&guard)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Plan {
    fn parse(root: &Path, options: &[&str]) -> anyhow::Result<Self> {
        let mut plan = Self {
            queues: 10_000,
            binary: root.join("target/release/staunch"),
        };
        for pair in options.chunks(2) {
            match pair {
                ["--queues", count] => plan.queues = count.parse().context("--queues")?,
                ["--binary", file] => plan.binary = fs::canonicalize(file)?,
                _ => bail!("usage:\n{USAGE}"),
            }
        }
        Ok(plan)
    }

    fn run(&self, guard: &Guard) -> anyhow::Result<bool> {
        let site = Site::loopback(NODES);
        let mut nodes = ClusterProcess::new(&self.binary, guard.directory(), &site)?;
        nodes.start()?;
        guard.watch(&nodes.pids())?;
        ensure!(
            nodes.view().wait_whole(WHOLE_PATIENCE),
            "the nodes do not meet"
        );
        let empty = memory(&nodes)?;
        let mut client = Client::connect(&nodes, self.queues)?;
        let before = cpu_seconds(&nodes)?;
        let declared = client.declare()?;
        ensure!(
            nodes.view().wait_whole(WHOLE_PATIENCE),
            "queues without leaders"
        );
        thread::sleep(REST);
        let spent = sum(&cpu_seconds(&nodes)?) - sum(&before);
        let spent = 1_000.0 * spent / self.count();
        eprintln!("{spent:.2} ms of CPU a queue on all nodes together");
        let idle = idle_percent(&nodes)?;
        let kept = self.bytes_per_queue(&memory(&nodes)?, &empty);
        eprintln!("idle: {idle:.2} %, {kept} bytes a queue");
        let published = client.publish_to_all()?;
        let again = client.publish_to_all()?;
        eprintln!("one message to each queue: {published:.2} s, again {again:.2} s");
        thread::sleep(REST);
        let idle = idle.max(idle_percent(&nodes)?);
        let kept_used = self.bytes_per_queue(&memory(&nodes)?, &empty);
        let started = Instant::now();
        nodes.node(NODES - 1).kill();
        client.publish_to_all()?;
        let failover = started.elapsed().as_secs_f64();
        let started = Instant::now();
        nodes.node(NODES - 1).start()?;
        guard.watch(&nodes.pids())?;
        ensure!(
            nodes.view().wait_whole(WHOLE_PATIENCE),
            "n{NODES} is not back"
        );
        eprintln!("back after {:.2} s", started.elapsed().as_secs_f64());
        let targets = [
            Target::new("idle CPU, % of a core, worst node", idle, 1.0),
            Target::new("kill -9 to the last confirm, s", failover, 2.0),
            Target::new("KiB a queue and node, declared", kib(kept), 10.0),
            Target::new("KiB a queue and node, 2 messages", kib(kept_used), 10.0),
            Target::new("ms a declaration", declared.millis, 2.8),
            Target::new("last fifth's share of that", declared.last_by_first, 1.5),
        ];
        for target in &targets {
            eprintln!("{target}");
        }
        Ok(targets.iter().all(Target::is_met))
    }

    fn count(&self) -> f64 {
        count(self.queues)
    }

    /// What the worst node has come to use, by queue.
    fn bytes_per_queue(&self, full: &[u64], empty: &[u64]) -> u64 {
        let grown = full.iter().zip(empty);
        let grown = grown.map(|(full, empty)| full.saturating_sub(*empty));
        grown.max().unwrap_or(0) / self.queues.max(1) as u64
    }
}

/// A figure and what it should be at most.
struct Target {
    name: &'static str,
    measured: f64,
    most: f64,
}

impl Target {
    fn new(name: &'static str, measured: f64, most: f64) -> Self {
        Self {
            name,
            measured,
            most,
        }
    }

    fn is_met(&self) -> bool {
        self.measured <= self.most
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_met() { "met" } else { "MISSED" };
        let (name, measured, most) = (self.name, self.measured, self.most);
        write!(f, "{name:<40} {measured:>8.2}  of {most:>5.1}  {verdict}")
    }
}

/// A number of queues to divide by.
fn count(queues: usize) -> f64 {
    f64::from(u32::try_from(queues).unwrap_or(u32::MAX).max(1))
}

fn sum(of: &[f64]) -> f64 {
    of.iter().sum()
}

fn kib(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / 1024.0
}

/// What declaring took.
struct Declared {
    /// For each queue.
    millis: f64,
    /// The last fifth's time by the first's: whether it takes longer the more there are.
    last_by_first: f64,
}

/// A client that uses all queues.
struct Client {
    connection: Connection,
    channel: ChannelNumber,
    names: Vec<String>,
}

impl Client {
    fn connect(nodes: &ClusterProcess, count: usize) -> anyhow::Result<Self> {
        let options = nodes.connect_options();
        let mut connection = Connection::open(&options[0])?;
        let channel = connection.open_channel()?;
        connection.confirm_select(channel)?;
        Ok(Self {
            connection,
            channel,
            names: (0..count).map(|at| format!("q{at}")).collect(),
        })
    }

    fn declare(&mut self) -> anyhow::Result<Declared> {
        let mut fifths = Vec::new();
        for names in self.names.chunks(self.names.len().div_ceil(5).max(1)) {
            let started = Instant::now();
            for names in names.chunks(BATCH) {
                let specs: Vec<_> = names.iter().map(|name| QueueSpec::durable(name)).collect();
                self.connection.queue_declare_all(self.channel, &specs)?;
            }
            fifths.push(started.elapsed().as_secs_f64());
            eprintln!(
                "{} queues declared in {:.2} s",
                names.len(),
                fifths[fifths.len() - 1]
            );
        }
        let all: f64 = fifths.iter().sum();
        let ends = fifths.first().zip(fifths.last());
        Ok(Declared {
            millis: 1_000.0 * all / count(self.names.len()),
            last_by_first: ends.map_or(1.0, |(first, last)| last / first),
        })
    }

    /// Publishes to each queue and waits for all confirms: how many seconds that took.
    fn publish_to_all(&mut self) -> anyhow::Result<f64> {
        let started = Instant::now();
        for name in &self.names {
            (self.connection).publish(self.channel, "", name, &<_>::default(), b"body")?;
        }
        self.connection.flush()?;
        let refused = (self.connection).wait_for_confirms(self.channel, CONFIRM_PATIENCE)?;
        ensure!(refused.is_empty(), "{} were refused", refused.len());
        Ok(started.elapsed().as_secs_f64())
    }
}

/// What the busiest node needs while nothing happens, in percent of a core.
fn idle_percent(nodes: &ClusterProcess) -> anyhow::Result<f64> {
    let before = cpu_seconds(nodes)?;
    thread::sleep(IDLE_MEASURED);
    let after = cpu_seconds(nodes)?;
    let shares = after
        .iter()
        .zip(&before)
        .map(|(after, before)| after - before);
    Ok(100.0 * shares.fold(0.0, f64::max) / IDLE_MEASURED.as_secs_f64())
}

/// User and system time of each node's process.
fn cpu_seconds(nodes: &ClusterProcess) -> anyhow::Result<Vec<f64>> {
    let of = |pid: u32| -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(')').context("a process's stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(ticks / TICKS_PER_SECOND)
    };
    nodes.pids().into_iter().map(of).collect()
}

/// Memory of each node's process that is its own (no code, no files), in bytes.
fn memory(nodes: &ClusterProcess) -> anyhow::Result<Vec<u64>> {
    let of = |pid: u32| -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(kib.context("RssAnon")?.parse::<u64>()? << 10)
    };
    nodes.pids().into_iter().map(of).collect()
}
