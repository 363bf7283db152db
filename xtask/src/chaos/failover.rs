//! `cargo xtask chaos failover`: how long clients wait when the node goes that leads their queues.
//!
//! Real processes, 2,000 confirmed publishes a second to quorum queues. Before each strike the
//! clients of the victim move to other nodes, so that everybody measured is connected to a node that
//! lives. What is measured, for each producer whose queue the victim led, is the time from just
//! before the strike to the first confirm of something that was published after it: confirms that
//! were on their way do not count, and the time that the strike itself takes does.
//!
//! Every few cycles all queues are drained and the history is judged: nothing confirmed may be
//! lost, nothing may come twice without the flag, nothing out of order, no client of a living node
//! may lose its connection and no publish may be refused.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail, ensure};
use staunch_client::proof::{
    cluster::wait,
    guard::Guard,
    workload::{Workload, WorkloadSpec},
};

use super::{
    FORGIVEN_OTHERS, USAGE,
    broker::Kind,
    flock::{Flock, How},
    random::Random,
    waits::Waits,
};

/// Cycles between two drains.
const CYCLES_PER_ROUND: u32 = 20;
/// Load before each strike, in milliseconds.
const LOAD_MILLISECONDS: std::ops::Range<u64> = 300..1_000;
/// Time that a struck node stays so after the others have gone on, in milliseconds.
const AWAY_MILLISECONDS: std::ops::Range<u64> = 50..500;
/// Longest wait for a confirm.
const CONFIRM_PATIENCE: Duration = Duration::from_mins(1);
/// No delivery for so long ends a drain.
const DRAIN_IDLE_MAX: Duration = Duration::from_secs(20);
/// Time for clients to move.
const MOVE_PATIENCE: Duration = Duration::from_secs(20);
/// Producers whose queues are consumed, and those whose are not.
const PRODUCERS: (u32, u32) = (3, 1);

/// A run.
#[derive(Debug)]
struct Plan {
    how: How,
    cycles: u32,
    nodes: usize,
    rate: u32,
    seed: u64,
    kind: Kind,
    binary: PathBuf,
    /// Where logs and history of a failed run go.
    keep: PathBuf,
}

/// What all cycles gave.
#[derive(Debug, Default)]
struct Totals {
    waits: Waits,
    confirmed: u64,
    consumed: u64,
    redelivered: u64,
    failures: Vec<String>,
    /// What happened when, for the history that is kept.
    timeline: String,
}

/// Runs `options`, what follows `chaos failover` on the command line.
pub(super) fn run(root: &Path, options: &[&str]) -> anyhow::Result<ExitCode> {
    let plan = Plan::parse(root, options)?;
    eprintln!(
        "chaos failover, {:?}, {} cycles, {} nodes of {:?}, --seed {}",
        plan.how, plan.cycles, plan.nodes, plan.kind, plan.seed
    );
    let totals = plan.run(root)?;
    eprintln!(
        "{:?}: {} cycles, {} confirmed, {} consumed, {} redelivered",
        plan.how, plan.cycles, totals.confirmed, totals.consumed, totals.redelivered
    );
    eprint!("{}", totals.waits);
    for failure in &totals.failures {
        eprintln!("FAILED: {failure}");
    }
    ensure!(!totals.waits.is_empty(), "nothing was measured");
    let holds = totals.failures.is_empty();
    eprintln!("{}", if holds { "ok" } else { "NOT OK" });
    Ok(if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Plan {
    fn parse(root: &Path, options: &[&str]) -> anyhow::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let mut plan = Self {
            how: How::Kill,
            cycles: 10,
            nodes: 3,
            rate: 2_000,
            seed: u64::from(now.subsec_nanos()) ^ now.as_secs(),
            kind: Kind::Staunch,
            binary: root.join("target/release/staunch"),
            keep: root.join("target/chaos"),
        };
        let mut rest = options.iter();
        while let Some(&option) = rest.next() {
            let value = *rest
                .next()
                .with_context(|| format!("{option} needs a value"))?;
            match option {
                "--how" => plan.how = How::named(value)?,
                "--cycles" => plan.cycles = value.parse()?,
                "--nodes" => plan.nodes = value.parse()?,
                "--rate" => plan.rate = value.parse()?,
                "--seed" => plan.seed = value.parse()?,
                "--binary" => plan.binary = value.into(),
                "--broker" => plan.kind = Kind::named(value)?,
                _ => bail!("unknown option {option}\n{USAGE}"),
            }
        }
        ensure!((3..=9).contains(&plan.nodes), "--nodes is 3 to 9");
        if plan.kind == Kind::Staunch {
            let binary = plan.binary.display();
            ensure!(
                plan.binary.exists(),
                "{binary} is missing: cargo build --release -p staunch"
            );
        }
        Ok(plan)
    }

    fn run(&self, root: &Path) -> anyhow::Result<Totals> {
        let guard = Guard::new("failover")?;
        let directory = guard.directory();
        let (kind, binary) = (self.kind, &self.binary);
        let mut flock = Flock::new(kind, root, binary, directory, self.nodes, self.how)?;
        let mut totals = Totals::default();
        let result = self.rounds(&mut flock, &guard, &mut totals);
        if let Err(error) = result {
            totals.failures.push(format!("{error:#}"));
        }
        if !totals.failures.is_empty() {
            let kept = self.keep(directory, &totals)?;
            totals.failures.push(format!("kept in {}", kept.display()));
        }
        Ok(totals)
    }

    fn rounds(&self, flock: &mut Flock, guard: &Guard, totals: &mut Totals) -> anyhow::Result<()> {
        flock.start()?;
        guard.watch(&flock.pids())?;
        let mut random = Random::new(self.seed);
        let mut cycle = 0;
        while cycle < self.cycles && totals.failures.is_empty() {
            let count = CYCLES_PER_ROUND.min(self.cycles - cycle);
            let mut workload = Workload::start_on(&flock.connect_options(), &self.workload())?;
            let struck = (0..count).try_for_each(|i| {
                self.cycle(cycle + i, flock, &workload, &mut random, totals)?;
                guard.watch(&flock.pids())?;
                anyhow::Ok(())
            });
            cycle += count;
            if let Err(error) = struck {
                let error = format!("by cycle {cycle}: {error:#}");
                totals.failures.push(error);
            }
            self.judge(&mut workload, cycle, totals);
            eprintln!(
                "cycle {cycle}/{}: {} confirmed",
                self.cycles, totals.confirmed
            );
        }
        Ok(())
    }

    fn workload(&self) -> WorkloadSpec {
        let (consumed_producers, backlog_producers) = PRODUCERS;
        WorkloadSpec {
            consumed_producers,
            backlog_producers,
            confirm_window: 2_000,
            body_size_bytes: 512,
            prefetch: 200,
            rate_per_producer: Some(self.rate / (consumed_producers + backlog_producers)),
            queue_type: Some("quorum".to_owned()),
            partitions: None,
        }
    }

    fn cycle(
        &self,
        number: u32,
        flock: &mut Flock,
        workload: &Workload,
        random: &mut Random,
        totals: &mut Totals,
    ) -> anyhow::Result<()> {
        let queues = queues();
        flock.wait_whole(&queues)?;
        let victim = most_frequent(&leaders(flock, &queues)).context("no queue has a leader")?;
        workload.leave(victim);
        ensure!(workload.wait_home(MOVE_PATIENCE), "clients did not move");
        std::thread::sleep(Duration::from_millis(random.below(LOAD_MILLISECONDS)));
        // Leaders go home when their node is well, so some may have moved meanwhile.
        let leaders = leaders(flock, &queues);
        let interruptions = workload.interruptions();
        let mut struck = Instant::now();
        flock.strike(victim, self.how)?;
        if self.how == How::Stop {
            // Clients were served while the node stopped; what counts is that they still are.
            struck = Instant::now();
        }
        workload.probe();
        let led = |producer: usize| leaders[producer] == Some(victim);
        let is_over = || {
            let confirmed = workload.probed();
            (0..leaders.len()).all(|producer| !led(producer) || confirmed[producer].is_some())
        };
        wait(CONFIRM_PATIENCE, is_over);
        let mut told = format!("cycle {number}: n{}", victim + 1);
        for (producer, at) in workload
            .probed()
            .into_iter()
            .enumerate()
            .filter(|it| led(it.0))
        {
            let Some(at) = at else {
                totals.failures.push(format!(
                    "cycle {number}: no confirm within {CONFIRM_PATIENCE:?} from {}",
                    queues[producer]
                ));
                continue;
            };
            let waited = at.duration_since(struck);
            totals.waits.add(waited);
            write!(told, " {:.1} ms", waited.as_secs_f64() * 1_000.0)?;
        }
        std::thread::sleep(Duration::from_millis(random.below(AWAY_MILLISECONDS)));
        let broken = workload.interruptions() - interruptions;
        if broken > 0 {
            let failure = format!("cycle {number}: {broken} clients of living nodes were cut off");
            self.blame(totals, failure);
        }
        flock.heal(victim, self.how)?;
        eprintln!("{told}");
        writeln!(totals.timeline, "{told}")?;
        workload.spread();
        Ok(())
    }

    /// Drains everything and looks what is wrong with the history.
    fn judge(&self, workload: &mut Workload, cycle: u32, totals: &mut Totals) {
        let verdict = workload.settle(DRAIN_IDLE_MAX, drop);
        totals.confirmed += verdict.confirmed;
        totals.consumed += verdict.consumed;
        totals.redelivered += verdict.redelivered;
        for (violation, found) in &verdict.violations {
            let examples: Vec<_> = found.examples.iter().map(ToString::to_string).collect();
            let (count, examples) = (found.count, examples.join(" "));
            let failure = format!("by cycle {cycle}: {count} {violation}, first {examples}");
            if FORGIVEN_OTHERS.contains(violation) {
                self.blame(totals, failure);
            } else {
                totals.failures.push(failure);
            }
        }
        if verdict.refused > 0 {
            let failure = format!("by cycle {cycle}: {} publishes refused", verdict.refused);
            self.blame(totals, failure);
        }
        for refusal in workload.refusals() {
            self.blame(totals, format!("by cycle {cycle}: {refusal}"));
        }
        if !totals.failures.is_empty() {
            totals.timeline.push_str(&workload.unsettled());
        }
    }

    /// What we promise and others do not fails only us.
    fn blame(&self, totals: &mut Totals, failure: String) {
        match self.kind {
            Kind::Staunch => totals.failures.push(failure),
            Kind::RabbitMq => eprintln!("note: {failure}"),
        }
    }

    /// Keeps the logs and the history of a failed run.
    fn keep(&self, directory: &Path, totals: &Totals) -> anyhow::Result<PathBuf> {
        let kept = self.keep.join(format!("failover-{}", self.seed));
        std::fs::create_dir_all(&kept)?;
        std::fs::write(kept.join("history"), &totals.timeline)?;
        std::fs::write(kept.join("failures"), totals.failures.join("\n"))?;
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.extension().is_some()) {
                std::fs::copy(&path, kept.join(name))?;
            }
        }
        Ok(kept)
    }
}

/// By producer.
fn queues() -> Vec<String> {
    let (consumed, backlog) = PRODUCERS;
    (0..consumed + backlog).map(Workload::queue_name).collect()
}

/// Who leads each of them.
fn leaders(flock: &Flock, queues: &[String]) -> Vec<Option<usize>> {
    let leader = |queue: &String| flock.leader(queue, &[]);
    queues.iter().map(leader).collect()
}

fn most_frequent(leaders: &[Option<usize>]) -> Option<usize> {
    let count = |node: usize| leaders.iter().filter(|it| **it == Some(node)).count();
    let known = leaders.iter().flatten().copied();
    known.max_by_key(|node| (count(*node), *node))
}
