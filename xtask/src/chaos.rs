//! `cargo xtask chaos`: kills a real broker, or takes the power away from its disk, and checks
//! that nothing confirmed is lost.
//!
//! `kill` sends `kill -9` at random moments. That cannot show a missing fsync, because the page
//! cache survives the process. `power` can: the data directory lies on a loop-mounted ext4 that
//! is shut down without its journal being flushed, and what was not synced is gone after the
//! next mount. `power --prove` turns the question round: fsync does nothing, so the check must
//! find losses, or it could not find any. `failover` does it to the leader of a cluster.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail, ensure};
use staunch_client::proof::{
    guard::Guard,
    history::{Verdict, Violation},
    workload::{Workload, WorkloadSpec},
};

use self::broker::{Broker, Kind};

mod broker;
mod catch_up;
mod failover;
mod flock;
mod many;
mod network;
mod no_fsync;
mod random;
mod volume;
mod waits;

use self::{random::Random, volume::Volume};

/// How to call this.
pub(crate) const USAGE: &str = "\
  chaos kill|power [--cycles N] [--seed S] [--broker staunch|rabbitmq] [--binary FILE]
                   [--queue-type TYPE] [--prove]
                      kill -9 or power loss under load; nothing confirmed may be lost
  chaos failover [--cycles N] [--how kill|pause|cut|stop] [--nodes N] [--rate N] [--seed S]
                 [--broker staunch|rabbitmq] [--binary FILE]
                      strikes the node that leads, and measures how long clients of others wait
  chaos queues [--queues N] [--binary FILE]
                      what N replicated queues cost three nodes, and a kill -9 of one of them
  chaos catch-up [--mib N] [--size BYTES] [--consumed true|false] [--binary FILE]
                      what it costs clients that a follower gets what it has missed";

/// Cycles between two drains: the backlog must be deep, but not without bound.
const CYCLES_PER_ROUND: u32 = 5;

/// No delivery for so long ends a drain.
const DRAIN_IDLE_MAX: Duration = Duration::from_secs(20);

/// Load before each fault, in milliseconds.
const LOAD_MILLISECONDS: std::ops::Range<u64> = 300..2_000;

/// Repeats without the flag are reported, but fail only our own broker: contract C8 promises
/// what others do not.
const FORGIVEN_OTHERS: [Violation; 2] = [Violation::UnflaggedRepeat, Violation::Reordered];

/// What happens to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Power,
}

/// A run of chaos.
#[derive(Debug)]
struct Plan {
    fault: Fault,
    cycles: u32,
    seed: u64,
    kind: Kind,
    binary: PathBuf,
    queue_type: Option<String>,
    prove: bool,
}

/// What all rounds together gave.
#[derive(Debug, Default)]
struct Totals {
    confirmed: u64,
    consumed: u64,
    redelivered: u64,
    lost: u64,
    failures: Vec<String>,
    restart_max: Duration,
}

/// Runs `words`, what follows `chaos` on the command line.
pub(crate) fn run(root: &Path, words: &[&str]) -> anyhow::Result<ExitCode> {
    if let ["failover", options @ ..] = words {
        return failover::run(root, options);
    }
    if let ["catch-up", options @ ..] = words {
        return catch_up::run(root, options);
    }
    if let ["queues", options @ ..] = words {
        return many::run(root, options);
    }
    let plan = Plan::parse(root, words)?;
    eprintln!(
        "chaos {:?}, {} cycles, {:?}, --seed {}",
        plan.fault, plan.cycles, plan.kind, plan.seed
    );
    let started = Instant::now();
    let totals = plan.run(root)?;
    eprintln!(
        "{} cycles in {:.0} s: {} confirmed, {} consumed, {} redelivered, {} lost; \
         slowest restart {:.2} s",
        plan.cycles,
        started.elapsed().as_secs_f64(),
        totals.confirmed,
        totals.consumed,
        totals.redelivered,
        totals.lost,
        totals.restart_max.as_secs_f64(),
    );
    for failure in &totals.failures {
        eprintln!("FAILED: {failure}");
    }
    ensure!(
        totals.confirmed > 0,
        "nothing was confirmed, so nothing is shown"
    );
    let holds = if plan.prove {
        eprintln!("fsync did nothing: losses must be found");
        totals.lost > 0
    } else {
        totals.failures.is_empty()
    };
    eprintln!("{}", if holds { "ok" } else { "NOT OK" });
    Ok(if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Plan {
    fn parse(root: &Path, words: &[&str]) -> anyhow::Result<Self> {
        let (fault, options) = match words {
            ["kill", options @ ..] => (Fault::Kill, options),
            ["power", options @ ..] => (Fault::Power, options),
            _ => bail!("usage:\n{USAGE}"),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let mut plan = Self {
            fault,
            cycles: 10,
            seed: u64::from(now.subsec_nanos()) ^ now.as_secs(),
            kind: Kind::Staunch,
            binary: root.join("target/release/staunch"),
            queue_type: None,
            prove: false,
        };
        let mut rest = options.iter();
        while let Some(&option) = rest.next() {
            if option == "--prove" {
                plan.prove = true;
                continue;
            }
            let value = *rest
                .next()
                .with_context(|| format!("{option} needs a value"))?;
            match option {
                "--cycles" => plan.cycles = value.parse()?,
                "--seed" => plan.seed = value.parse()?,
                "--binary" => plan.binary = value.into(),
                "--queue-type" => plan.queue_type = Some(value.to_owned()),
                "--broker" => plan.kind = Kind::named(value)?,
                _ => bail!("unknown option {option}\n{USAGE}"),
            }
        }
        ensure!(!plan.prove || fault == Fault::Power, "--prove is for power");
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
        let guard = Guard::new("chaos")?;
        let volume = match self.fault {
            Fault::Kill => None,
            Fault::Power => Some(Volume::create(guard.directory())?),
        };
        let data_dir = volume
            .as_ref()
            .map_or(guard.directory(), Volume::mount_point)
            .join("data");
        let launcher = if self.prove {
            Some(no_fsync::compile(guard.directory())?)
        } else {
            None
        };
        let log_file = guard.directory().join("log");
        let mut broker = Broker::new(
            self.kind,
            root,
            &self.binary,
            &data_dir,
            &log_file,
            launcher.as_deref(),
        )?;
        guard.watch(&broker.start()?)?;
        if let Some(volume) = &volume {
            volume.sync()?;
        }
        let mut random = Random::new(self.seed);
        let mut totals = Totals::default();
        let mut cycle = 0;
        while cycle < self.cycles && (self.prove || totals.failures.is_empty()) {
            let count = CYCLES_PER_ROUND.min(self.cycles - cycle);
            let workload = Workload::start(&broker.connect_options(), &self.workload(&mut random))?;
            for _ in 0..count {
                let load = Duration::from_millis(random.below(LOAD_MILLISECONDS));
                std::thread::sleep(load);
                self.strike(&mut broker, volume.as_ref())?;
                let started = Instant::now();
                if let Err(error) = broker.start().and_then(|pids| Ok(guard.watch(&pids)?)) {
                    totals
                        .failures
                        .push(format!("cycle {cycle}: restart: {error:#}"));
                    return Ok(totals);
                }
                totals.restart_max = totals.restart_max.max(started.elapsed());
                cycle += 1;
            }
            let refusals = workload.refusals();
            let verdict = workload.drain(DRAIN_IDLE_MAX, drop);
            eprintln!(
                "cycle {cycle}/{}: {} confirmed, {} consumed, {} lost",
                self.cycles,
                verdict.confirmed,
                verdict.consumed,
                verdict.count(Violation::Lost)
            );
            self.add(&mut totals, &verdict, refusals, cycle);
        }
        broker.kill();
        Ok(totals)
    }

    /// Four connections publish; how much is in flight differs from round to round.
    fn workload(&self, random: &mut Random) -> WorkloadSpec {
        WorkloadSpec {
            consumed_producers: 3,
            backlog_producers: 1,
            confirm_window: usize::try_from(random.below(20..1_000)).unwrap_or(100),
            body_size_bytes: usize::try_from(random.below(20..4_000)).unwrap_or(512),
            prefetch: 200,
            rate_per_producer: Some(5_000),
            queue_type: self.queue_type.clone(),
            partitions: None,
        }
    }

    fn strike(&self, broker: &mut Broker, volume: Option<&Volume>) -> anyhow::Result<()> {
        match (self.fault, volume) {
            (Fault::Power, Some(volume)) => {
                volume.lose_power()?;
                broker.kill();
                volume.mount_again()
            }
            (Fault::Power | Fault::Kill, _) => {
                broker.kill();
                Ok(())
            }
        }
    }

    fn add(&self, totals: &mut Totals, verdict: &Verdict, refusals: Vec<String>, cycle: u32) {
        totals.confirmed += verdict.confirmed;
        totals.consumed += verdict.consumed;
        totals.redelivered += verdict.redelivered;
        totals.lost += verdict.count(Violation::Lost);
        for (violation, found) in &verdict.violations {
            let examples: Vec<_> = found.examples.iter().map(ToString::to_string).collect();
            let text = format!(
                "by cycle {cycle}: {} {violation}, first {}",
                found.count,
                examples.join(" ")
            );
            if self.kind == Kind::RabbitMq && FORGIVEN_OTHERS.contains(violation) {
                eprintln!("note: {text}");
            } else {
                totals.failures.push(text);
            }
        }
        if !self.prove {
            totals.failures.extend(
                refusals
                    .into_iter()
                    .map(|r| format!("by cycle {cycle}: {r}")),
            );
        }
    }
}
