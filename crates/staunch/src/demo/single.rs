//! One node that is killed while it is loaded, and started again.
//!
//! Three producers publish persistent messages with confirms to queues that are consumed, a
//! fourth to one that nobody reads, because what is consumed already can no longer be lost. In
//! the middle the node gets `kill -9`; it is started again, the load goes on, and in the end
//! every queue is drained and every confirmed message must have been seen.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Serialize;
use staunch_client::proof::{
    guard::Guard,
    history::Violation,
    node::NodeProcess,
    workload::{Workload, WorkloadSpec},
};

use super::{DRAIN_IDLE_MAX, DemoArgs, described, exit, per_second, show::Show};

#[derive(Serialize)]
struct Report {
    published: u64,
    confirmed: u64,
    consumed: u64,
    lost: u64,
    redelivered: u64,
    duplicates: u64,
    kills: u32,
    confirmed_per_second: f64,
    restart_seconds_max: f64,
    problems: Vec<String>,
}

pub(super) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    // Whatever happens from here on, Ctrl-C included, the guard ends the node and removes the
    // directory.
    let guard = Guard::new("demo").context("cannot make a temporary directory")?;
    let directory = guard.directory();
    let program = std::env::current_exe().context("cannot find this program")?;
    let data_dir = directory.join("data");
    let mut node = NodeProcess::new(&program, &data_dir, &directory.join("log"))?
        .with_arguments(&["--log-level", "warn"]);
    let show = Show::new();
    show.say("starting a node");
    node.start()?;
    guard.watch(node.pid().as_slice())?;
    show.pages(&[node.http_address()]);
    let spec = WorkloadSpec {
        body_size_bytes: args.size,
        ..WorkloadSpec::default()
    };
    let mut workload = Workload::start(&node.connect_options(), &spec)?;
    let started = Instant::now();
    let share = Duration::try_from_secs_f64(args.duration / f64::from(args.kills + 1))?;
    let mut restart_max = Duration::ZERO;
    show.load(
        &workload,
        share,
        "publishing with confirms, consuming with acks",
    );
    for _ in 0..args.kills {
        show.say("kill -9");
        node.kill();
        restart_max = restart_max.max(node.start()?);
        guard.watch(node.pid().as_slice())?;
        show.load(&workload, share, "started again, going on");
    }
    workload.stop_producers();
    let elapsed = started.elapsed();
    let confirmed = workload.progress().confirmed;
    show.say("draining every queue");
    let mut problems = workload.refusals();
    let verdict = workload.drain(DRAIN_IDLE_MAX, |progress| show.progress(progress));
    problems.extend(described(&verdict));
    let report = Report {
        published: verdict.published,
        confirmed: verdict.confirmed,
        consumed: verdict.consumed,
        lost: verdict.count(Violation::Lost),
        redelivered: verdict.redelivered,
        duplicates: verdict.repeated,
        kills: args.kills,
        confirmed_per_second: per_second(confirmed, elapsed),
        restart_seconds_max: restart_max.as_secs_f64(),
        problems,
    };
    show.finish();
    report.print(args.json)?;
    Ok(exit(&report.problems, report.confirmed))
}

impl Report {
    fn print(&self, as_json: bool) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        if as_json {
            serde_json::to_writer_pretty(&mut out, self)?;
            writeln!(out)?;
            return Ok(());
        }
        let lines = [
            ("published", self.published.to_string()),
            ("confirmed", self.confirmed.to_string()),
            ("consumed", self.consumed.to_string()),
            ("lost", self.lost.to_string()),
            ("redelivered", self.redelivered.to_string()),
            (
                "duplicates",
                format!("{} (all flagged unless named below)", self.duplicates),
            ),
            (
                "throughput",
                format!("{:.0} confirmed msg/s", self.confirmed_per_second),
            ),
            (
                "restart",
                format!("{:.3} s after kill -9", self.restart_seconds_max),
            ),
        ];
        for (name, value) in lines {
            writeln!(out, "{name:<12} {value:>12}")?;
        }
        for problem in &self.problems {
            writeln!(out, "PROBLEM      {problem}")?;
        }
        Ok(())
    }
}
