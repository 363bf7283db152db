//! `staunch bench`: measures any AMQP 0-9-1 broker.
//!
//! Producers and consumers are threads with one connection each, built on `staunch-client`, whose
//! own cost is far below any broker's. Rates are steady-state rates: counters are read after a
//! warm-up and again at the end. Latency is from publish to deliver; when a rate is set, the
//! clock of a message starts when it was due and not when it was sent, so a broker that stalls
//! is charged for every message that had to wait (no coordinated omission).

use std::process::ExitCode;

use clap::{Args, Subcommand};

mod backlog;
mod body;
mod compare;
mod connections;
mod consumer;
mod disk;
mod latency;
mod load;
mod process;
mod producer;
mod queues;
mod report;
mod throughput;

#[derive(Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// Producers and consumers at full speed or at a rate.
    Throughput(throughput::ThroughputArgs),
    /// The scripted cases against one broker, or two in turn.
    Compare(compare::CompareArgs),
    /// Publishes without a consumer, then drains.
    Backlog(backlog::BacklogArgs),
    /// Opens idle connections.
    Connections(connections::ConnectionsArgs),
    /// Declares durable queues.
    Queues(queues::QueuesArgs),
    /// The physical limits: sequential fdatasync of a directory, and a bare TCP sink.
    Disk(disk::DiskArgs),
}

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    match &args.scenario {
        Scenario::Throughput(args) => throughput::run(args)?,
        Scenario::Compare(args) => compare::run(args)?,
        Scenario::Backlog(args) => backlog::run(args)?,
        Scenario::Connections(args) => connections::run(args)?,
        Scenario::Queues(args) => queues::run(args)?,
        Scenario::Disk(args) => disk::run(args)?,
    }
    Ok(ExitCode::SUCCESS)
}
