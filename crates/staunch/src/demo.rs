//! `staunch demo`: kills loaded nodes and shows that nothing confirmed is lost.
//!
//! The nodes are real processes of this very program, on free ports, in a temporary directory:
//! three that form a cluster ([`cluster`]), five with a queue of several partitions
//! ([`partitioned`]), or one alone ([`single`]).

use std::{process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};
use staunch_client::proof::history::Verdict;

mod cluster;
mod partitioned;
mod show;
mod single;

/// No delivery for so long ends the drain.
const DRAIN_IDLE_MAX: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// How several nodes fail over.
    #[arg(long, value_enum, default_value_t = Mode::Cluster)]
    mode: Mode,
    /// Nodes: 1, or 3 to 9 as a cluster; 5 to 9 with partitions. [default: 3, with partitions 5]
    #[arg(short, long)]
    nodes: Option<usize>,
    /// The last of three nodes is a witness (mode standby).
    #[arg(long)]
    witness: bool,
    /// Seconds of load in all.
    #[arg(short = 'z', long, default_value_t = 10.0)]
    duration: f64,
    /// Times a node is killed; in a cluster one is paused as often.
    #[arg(long, default_value_t = 1)]
    kills: u32,
    /// Bytes of a body.
    #[arg(short, long, default_value_t = 512)]
    size: usize,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// See `docs/failover-modes.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// The first node leads everything while it is well.
    Standby,
    /// All nodes lead their share.
    Cluster,
    /// One queue has several partitions.
    Partitioned,
}

pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    if args.witness && (args.mode != Mode::Standby || args.nodes.is_some_and(|it| it != 3)) {
        anyhow::bail!("--witness goes with --mode standby and three nodes");
    }
    match (args.mode, args.nodes) {
        (Mode::Cluster, Some(1)) => single::run(args),
        (Mode::Cluster | Mode::Standby, None) => cluster::run(args, 3),
        (Mode::Cluster | Mode::Standby, Some(count @ 3..=9)) => cluster::run(args, count),
        (Mode::Partitioned, None) => partitioned::run(args, 5),
        (Mode::Partitioned, Some(count @ 5..=9)) => partitioned::run(args, count),
        (Mode::Partitioned, Some(other)) => anyhow::bail!("{other} nodes: it is 5 to 9"),
        (Mode::Cluster, Some(other)) => anyhow::bail!("{other} nodes: it is 1, or 3 to 9"),
        (Mode::Standby, Some(other)) => anyhow::bail!("{other} nodes: it is 3 to 9"),
    }
}

/// A demo in which nothing was confirmed shows nothing.
fn exit(problems: &[String], confirmed: u64) -> ExitCode {
    if problems.is_empty() && confirmed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// One line for each kind of violation.
fn described(verdict: &Verdict) -> impl Iterator<Item = String> {
    verdict.violations.iter().map(|(violation, found)| {
        let examples: Vec<_> = found.examples.iter().map(ToString::to_string).collect();
        format!(
            "{} messages {violation}, first {}",
            found.count,
            examples.join(" ")
        )
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the rate is shown to a few digits"
)]
fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}
