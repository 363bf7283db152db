//! A queue of several partitions, some of which lose their majority while the others go on.
//!
//! Five nodes keep a queue of six partitions, each on three of them. Producers have a routing key
//! each, consumers take from the queue as a whole. Then two nodes are killed at once that were most
//! of some partition's nodes, and not of all: what is published with keys of those partitions
//! waits, and the rest is confirmed as before. When the nodes are back everything is confirmed.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::Value;
use staunch_client::proof::{
    cluster::{ClusterProcess, Site, wait},
    guard::Guard,
    history::Violation,
    workload::{SHARED_QUEUE, Workload, WorkloadSpec},
};

use super::{DRAIN_IDLE_MAX, DemoArgs, described, exit, per_second, show::Show};

/// Time for nodes to meet, for clients to move, and for partitions to go on.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time in which those confirm that can.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(5);
/// Longest time without a majority: a publish that waits for 30 s is refused.
const AWAY_MAX: Duration = Duration::from_secs(15);
const PARTITIONS: u8 = 6;
/// As many as it takes for every partition to have one: their keys are always the same.
const PRODUCERS: u32 = 10;
/// Messages a second of each.
const RATE_PER_PRODUCER: u32 = 500;

#[derive(Serialize)]
struct Report {
    mode: &'static str,
    nodes: usize,
    partitions: u8,
    /// Seconds since the load began.
    killed_at_seconds: f64,
    killed: Vec<String>,
    stood_still: Vec<String>,
    /// When the cluster said so, in milliseconds since the kill.
    named_ms: Option<f64>,
    producers_going_on: usize,
    producers_waiting: usize,
    /// When all that went on had the next confirm.
    confirmed_ms: Option<f64>,
    /// Confirmed while the others waited.
    confirmed_meanwhile: u64,
    restarted_at_seconds: f64,
    /// When all producers had the next confirm, in milliseconds since the restart.
    resumed_ms: Option<f64>,
    published: u64,
    confirmed: u64,
    consumed: u64,
    lost: u64,
    reordered: u64,
    redelivered: u64,
    confirmed_per_second: f64,
    problems: Vec<String>,
}

/// What happened while two nodes were gone.
struct Outage {
    killed_at: Instant,
    named: Option<Instant>,
    confirmed: Option<Instant>,
    going_on: usize,
    confirmed_meanwhile: u64,
    restarted_at: Instant,
    resumed: Option<Instant>,
}

pub(super) fn run(args: &DemoArgs, node_count: usize) -> anyhow::Result<ExitCode> {
    // Whatever happens from here on, Ctrl-C included, the guard ends the nodes and removes the
    // directory.
    let guard = Guard::new("demo").context("cannot make a temporary directory")?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut site = Site::loopback(node_count);
    site.arguments = ["--log-level", "warn"].map(str::to_owned).to_vec();
    let mut nodes = ClusterProcess::new(&program, guard.directory(), &site)?;
    let show = Show::new();
    show.say(&format!("starting {node_count} nodes"));
    nodes.start()?;
    guard.watch(&nodes.pids())?;
    ensure!(nodes.view().wait_whole(PATIENCE), "the nodes do not meet");
    show.pages(nodes.http_addresses());
    let spec = WorkloadSpec {
        consumed_producers: PRODUCERS,
        backlog_producers: 0,
        body_size_bytes: args.size,
        rate_per_producer: Some(RATE_PER_PRODUCER),
        partitions: Some(PARTITIONS),
        ..WorkloadSpec::default()
    };
    let workload = Workload::start_on(&nodes.connect_options(), &spec)?;
    let started = Instant::now();
    let share = Duration::try_from_secs_f64(args.duration / 3.0)?;
    show.load(
        &workload,
        share,
        "publishing with confirms, consuming with acks",
    );
    let victims = victims(&nodes).context("no two nodes are most of a partition's")?;
    let outage = strike(&mut nodes, &workload, &victims, (&guard, &show), share)?;
    show.load(&workload, share, "all partitions go on");
    let mut report = settle(workload, started, &show);
    report.nodes = node_count;
    report.tell(&victims, &outage, started);
    show.finish();
    report.print(args.json)?;
    Ok(exit(&report.problems, report.confirmed))
}

/// Two nodes, and the partitions that lose their majority with them.
struct Victims {
    nodes: [usize; 2],
    lost: BTreeSet<String>,
}

/// Those with which the fewest partitions lose their majority, but some do.
fn victims(nodes: &ClusterProcess) -> Option<Victims> {
    let answer = nodes.view().replicas(0, SHARED_QUEUE).ok()?;
    let partitions = answer["partitions"].as_array()?;
    let pairs = (0..nodes.len()).flat_map(|a| (0..a).map(move |b| [b, a]));
    let lost = |pair: [usize; 2]| {
        let names = pair.map(|node| format!("n{}", node + 1));
        let is_lost = |partition: &&Value| {
            let replicas = partition["replicas"].as_array();
            let is_victim = |replica: &&Value| names.iter().any(|name| replica["node"] == **name);
            replicas.is_some_and(|all| 2 * all.iter().filter(is_victim).count() > all.len())
        };
        let lost = partitions.iter().filter(is_lost);
        let names = lost.filter_map(|partition| Some(partition["name"].as_str()?.to_owned()));
        Victims {
            nodes: pair,
            lost: names.collect(),
        }
    };
    let all = pairs.map(lost);
    let some = all.filter(|it| !it.lost.is_empty() && it.lost.len() < partitions.len());
    some.min_by_key(|victims| victims.lost.len())
}

/// The partitions that a surviving node names as having no leader.
fn standing_still(nodes: &ClusterProcess, at: usize) -> BTreeSet<String> {
    let answer = nodes.view().replicas(at, SHARED_QUEUE).unwrap_or_default();
    let partitions = answer["partitions"].as_array();
    let still = partitions.into_iter().flatten();
    let still = still.filter(|partition| partition["leader"].is_null());
    still
        .filter_map(|partition| Some(partition["name"].as_str()?.to_owned()))
        .collect()
}

fn strike(
    nodes: &mut ClusterProcess,
    workload: &Workload,
    victims: &Victims,
    (guard, show): (&Guard, &Show),
    away: Duration,
) -> anyhow::Result<Outage> {
    workload.leave_all(&victims.nodes);
    ensure!(workload.wait_home(PATIENCE), "clients did not move");
    let both = victims.nodes.map(|node| format!("n{}", node + 1));
    show.say(&format!("kill -9 {} and {}", both[0], both[1]));
    let survivor = (0..nodes.len())
        .find(|at| !victims.nodes.contains(at))
        .unwrap_or(0);
    let killed_at = Instant::now();
    for node in victims.nodes {
        nodes.node(node).kill();
    }
    workload.probe();
    let is_named = || standing_still(nodes, survivor) == victims.lost;
    let named = wait(PATIENCE, is_named).then(Instant::now);
    let before = workload.progress().confirmed;
    let quiet = CONFIRM_PATIENCE.saturating_sub(killed_at.elapsed());
    show.load(workload, quiet, "some partitions stand still");
    let probed = workload.probed();
    let going_on = probed.iter().flatten().count();
    show.load(workload, away.min(AWAY_MAX), "some partitions stand still");
    let confirmed_meanwhile = workload.progress().confirmed - before;
    show.say(&format!("starting {} and {} again", both[0], both[1]));
    let restarted_at = Instant::now();
    for node in victims.nodes {
        nodes.node(node).start()?;
    }
    guard.watch(&nodes.pids())?;
    workload.probe();
    let all_confirm = || workload.probed().iter().all(Option::is_some);
    let resumed = wait(PATIENCE, all_confirm);
    let resumed = workload
        .probed()
        .into_iter()
        .flatten()
        .max()
        .filter(|_| resumed);
    ensure!(nodes.view().wait_whole(PATIENCE), "they do not come back");
    workload.spread();
    Ok(Outage {
        killed_at,
        named,
        confirmed: probed.into_iter().flatten().max(),
        going_on,
        confirmed_meanwhile,
        restarted_at,
        resumed,
    })
}

fn settle(mut workload: Workload, started: Instant, show: &Show) -> Report {
    workload.stop_producers();
    let elapsed = started.elapsed();
    let confirmed = workload.progress().confirmed;
    show.say("draining the queue");
    let mut problems = workload.refusals();
    let interruptions = workload.interruptions();
    if interruptions > 0 {
        problems.push(format!("{interruptions} connections to living nodes broke"));
    }
    let verdict = workload.settle(DRAIN_IDLE_MAX, |progress| show.progress(progress));
    problems.extend(described(&verdict));
    Report {
        mode: "partitioned",
        nodes: 0,
        partitions: PARTITIONS,
        killed_at_seconds: 0.0,
        killed: Vec::new(),
        stood_still: Vec::new(),
        named_ms: None,
        producers_going_on: 0,
        producers_waiting: 0,
        confirmed_ms: None,
        confirmed_meanwhile: 0,
        restarted_at_seconds: 0.0,
        resumed_ms: None,
        published: verdict.published,
        confirmed: verdict.confirmed,
        consumed: verdict.consumed,
        lost: verdict.count(Violation::Lost),
        reordered: verdict.count(Violation::Reordered),
        redelivered: verdict.redelivered,
        confirmed_per_second: per_second(confirmed, elapsed),
        problems,
    }
}

impl Report {
    /// Adds the story of the outage.
    fn tell(&mut self, victims: &Victims, outage: &Outage, started: Instant) {
        let millis = |since: Instant| {
            move |at: Instant| at.saturating_duration_since(since).as_secs_f64() * 1_000.0
        };
        let seconds = |at: Instant| at.duration_since(started).as_secs_f64();
        self.killed_at_seconds = seconds(outage.killed_at);
        self.killed = victims.nodes.map(|node| format!("n{}", node + 1)).to_vec();
        self.stood_still = victims.lost.iter().cloned().collect();
        self.named_ms = outage.named.map(millis(outage.killed_at));
        self.producers_going_on = outage.going_on;
        self.producers_waiting = PRODUCERS as usize - outage.going_on;
        self.confirmed_ms = outage.confirmed.map(millis(outage.killed_at));
        self.confirmed_meanwhile = outage.confirmed_meanwhile;
        self.restarted_at_seconds = seconds(outage.restarted_at);
        self.resumed_ms = outage.resumed.map(millis(outage.restarted_at));
        if outage.named.is_none() {
            self.problems
                .push("the cluster did not name the partitions that stand still".to_owned());
        }
        if outage.going_on == 0 {
            self.problems.push("nobody went on".to_owned());
        }
        if outage.resumed.is_none() {
            self.problems
                .push("not all producers went on after the restart".to_owned());
        }
    }

    fn print(&self, as_json: bool) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        if as_json {
            serde_json::to_writer_pretty(&mut out, self)?;
            writeln!(out)?;
            return Ok(());
        }
        let moment = |after: Option<f64>, what: &str| match after {
            Some(after) => format!("     +{after:>7.1} ms  {what}"),
            None => format!("              -  not seen: {what}"),
        };
        let (at, killed) = (self.killed_at_seconds, self.killed.join(" and "));
        writeln!(out, "{at:>8.3} s  kill -9 of {killed}")?;
        let still = self.stood_still.join(", ");
        let named = format!("the cluster names what stands still: {still}");
        writeln!(out, "{}", moment(self.named_ms, &named))?;
        let (going_on, waiting) = (self.producers_going_on, self.producers_waiting);
        let confirmed = format!(
            "{going_on} producers have their next confirm, {waiting} have keys of those partitions and wait"
        );
        writeln!(out, "{}", moment(self.confirmed_ms, &confirmed))?;
        let meanwhile = self.confirmed_meanwhile;
        writeln!(
            out,
            "              {meanwhile} messages are confirmed meanwhile"
        )?;
        let at = self.restarted_at_seconds;
        writeln!(out, "{at:>8.3} s  {killed} are started again")?;
        writeln!(
            out,
            "{}",
            moment(self.resumed_ms, "all producers have their next confirm")
        )?;
        writeln!(out)?;
        let lines = [
            ("published", self.published),
            ("confirmed", self.confirmed),
            ("consumed", self.consumed),
            ("lost", self.lost),
            ("reordered", self.reordered),
            ("redelivered", self.redelivered),
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
