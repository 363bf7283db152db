//! `cargo xtask chaos queues`: what many replicated queues cost three real nodes that have nothing
//! to do, and how soon all confirm again when one of the nodes is killed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
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
/// Nothing happens for so long before it is measured what that costs, and while it is.
const REST: Duration = Duration::from_secs(10);
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
    plan.run(&guard)?;
    Ok(ExitCode::SUCCESS)
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

    fn run(&self, guard: &Guard) -> anyhow::Result<()> {
        let site = Site::loopback(NODES);
        let mut nodes = ClusterProcess::new(&self.binary, guard.directory(), &site)?;
        nodes.start()?;
        guard.watch(&nodes.pids())?;
        ensure!(
            nodes.view().wait_whole(WHOLE_PATIENCE),
            "the nodes do not meet"
        );
        let empty: Vec<u64> = memory(&nodes)?;
        let mut client = Client::connect(&nodes, self.queues)?;
        let started = Instant::now();
        client.declare()?;
        eprintln!(
            "{} queues declared in {:.2} s",
            self.queues,
            started.elapsed().as_secs_f64()
        );
        ensure!(
            nodes.view().wait_whole(WHOLE_PATIENCE),
            "queues without leaders"
        );
        std::thread::sleep(REST);
        report_idle(&nodes)?;
        let full = memory(&nodes)?;
        for (at, (full, empty)) in full.iter().zip(&empty).enumerate() {
            let grown = full.saturating_sub(*empty) / self.queues.max(1) as u64;
            eprintln!(
                "n{}: {} MiB before, {} MiB after, {grown} bytes a queue",
                at + 1,
                empty >> 20,
                full >> 20,
            );
        }
        eprintln!("one message to each queue: {}", client.publish_to_all()?);
        eprintln!("again: {}", client.publish_to_all()?);
        std::thread::sleep(REST);
        report_idle(&nodes)?;
        let started = Instant::now();
        nodes.node(NODES - 1).kill();
        eprintln!("after kill -9 of n{NODES}: {}", client.publish_to_all()?);
        eprintln!("in all {:.2} s", started.elapsed().as_secs_f64());
        let started = Instant::now();
        nodes.node(NODES - 1).start()?;
        guard.watch(&nodes.pids())?;
        ensure!(
            nodes.view().wait_whole(WHOLE_PATIENCE),
            "n{NODES} is not back"
        );
        eprintln!("back after {:.2} s", started.elapsed().as_secs_f64());
        Ok(())
    }
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

    fn declare(&mut self) -> anyhow::Result<()> {
        for names in self.names.chunks(BATCH) {
            let specs: Vec<_> = names.iter().map(|name| QueueSpec::durable(name)).collect();
            self.connection.queue_declare_all(self.channel, &specs)?;
        }
        Ok(())
    }

    /// Publishes to each queue and waits for all confirms: how long that took, in words.
    fn publish_to_all(&mut self) -> anyhow::Result<String> {
        let started = Instant::now();
        for name in &self.names {
            (self.connection).publish(self.channel, "", name, &<_>::default(), b"body")?;
        }
        self.connection.flush()?;
        let refused = (self.connection).wait_for_confirms(self.channel, CONFIRM_PATIENCE)?;
        ensure!(refused.is_empty(), "{} were refused", refused.len());
        Ok(format!(
            "{} confirms in {:.2} s",
            self.names.len(),
            started.elapsed().as_secs_f64()
        ))
    }
}

/// What the nodes need while nothing happens.
fn report_idle(nodes: &ClusterProcess) -> anyhow::Result<()> {
    let before: Vec<f64> = cpu_seconds(nodes)?;
    std::thread::sleep(REST);
    for (at, (after, before)) in cpu_seconds(nodes)?.iter().zip(&before).enumerate() {
        let share = 100.0 * (after - before) / REST.as_secs_f64();
        eprintln!("n{}: idle at {share:.1} % of a core", at + 1);
    }
    Ok(())
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

/// Resident memory of each node's process, in bytes.
fn memory(nodes: &ClusterProcess) -> anyhow::Result<Vec<u64>> {
    let of = |pid: u32| -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(kib.context("VmRSS")?.parse::<u64>()? << 10)
    };
    nodes.pids().into_iter().map(of).collect()
}
