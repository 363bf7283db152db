//! Runs of seeds: one, or many on several threads.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::{
    check::{Kind, Violation, check},
    coverage::Coverage,
    world::{Setup, World},
};

/// Every so many seeds one runs twice.
const TWICE_EVERY: u64 = 100;

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was wrong.
    pub violations: Vec<Violation>,
    /// Last lines of the trace.
    pub tail: Vec<String>,
    /// What happened to the messages the violations name.
    pub stories: Vec<String>,
    /// Hash of the trace.
    pub hash: u64,
    /// Counters.
    pub coverage: Coverage,
    /// Events handled.
    pub event_count: u64,
    /// Facts in the history.
    pub fact_count: u64,
    /// Virtual time, in nanoseconds.
    pub elapsed_nanos: u64,
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// First seed.
    pub start: u64,
    /// How many.
    pub count: u64,
    /// Threads.
    pub jobs: usize,
    /// What their worlds are like.
    pub setup: Setup,
    /// Stop at the first failure.
    pub fail_fast: bool,
}

/// Runs one seed.
pub fn run_seed(seed: u64, setup: Setup, verbose: bool) -> Outcome {
    crate::panic::set_seed(seed, setup);
    let mut world = World::new(seed, setup, verbose);
    let violations = match crate::panic::contain(|| world.run()) {
        Ok(()) => check(&world.witness.history),
        Err(text) => {
            let kind = Kind::Panic;
            vec![Violation { kind, text }]
        }
    };
    let stories = violations
        .iter()
        .take(3)
        .flat_map(|one| world.witness.story(&one.text))
        .collect();
    Outcome {
        seed,
        tail: if violations.is_empty() {
            Vec::new()
        } else {
            world.witness.trace.tail()
        },
        stories,
        violations,
        hash: world.witness.trace.hash(),
        event_count: world.event_count,
        fact_count: world.witness.history.len() as u64,
        elapsed_nanos: world.elapsed_nanos(),
        coverage: world.witness.coverage,
    }
}

/// Runs the seeds of a plan and gives each outcome to `take`, in no particular order.
///
/// # Panics
/// If `take` does.
pub fn run_plan(plan: &Plan, take: impl FnMut(Outcome) + Send) {
    let next = AtomicU64::new(plan.start);
    let end = plan.start.saturating_add(plan.count);
    let take = Mutex::new(take);
    thread::scope(|scope| {
        for _ in 0..plan.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let outcome = run_checked(seed, plan.setup);
                    if plan.fail_fast && !outcome.violations.is_empty() {
                        next.store(end, Ordering::Relaxed);
                    }
                    let mut take = take
                        .lock()
                        .expect("the receiver of outcomes does not panic");
                    take(outcome);
                }
            });
        }
    });
}

/// One seed, and some of them twice: two runs must be one.
fn run_checked(seed: u64, setup: Setup) -> Outcome {
    let mut outcome = run_seed(seed, setup, false);
    if seed.is_multiple_of(TWICE_EVERY) {
        let again = run_seed(seed, setup, false);
        outcome.coverage.hit("run twice");
        if again.hash != outcome.hash {
            outcome.violations.push(Violation {
                kind: Kind::Nondeterminism,
                text: format!(
                    "two runs differ: {:016x} and {:016x}",
                    outcome.hash, again.hash
                ),
            });
        }
    }
    outcome
}
