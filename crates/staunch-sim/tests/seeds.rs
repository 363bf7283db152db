//! A few seeds in every test run; `.ci/run` and the binary run many.

use staunch_sim::{
    run::{Plan, run_plan, run_seed},
    scenario::Scenario,
    world::Setup,
};

#[test]
fn twenty_seeds_pass() {
    let plan = Plan {
        start: 0,
        count: 20,
        jobs: 2,
        setup: Setup::default(),
        fail_fast: false,
    };
    let mut failures = Vec::new();
    run_plan(&plan, |outcome| {
        if !outcome.violations.is_empty() {
            failures.push((outcome.seed, outcome.violations));
        }
    });
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_seed_runs_the_same_twice() {
    for seed in 100..104 {
        let (one, other) = (
            run_seed(seed, Setup::default(), false),
            run_seed(seed, Setup::default(), false),
        );
        assert_eq!(one.hash, other.hash, "seed {seed}");
        assert_eq!(one.event_count, other.event_count, "seed {seed}");
    }
}

/// A node that had taken over the catalog from another lost power before that was on its disk, and
/// with it what it had promised in groups that it found there.
#[test]
fn what_came_with_a_catalog_promises_nothing_before_that_is_on_disk() {
    for seed in [7125, 7203, 7471] {
        let outcome = run_seed(seed, Setup::CLUSTER, false);
        assert!(outcome.violations.is_empty(), "seed {seed}");
    }
}

/// Each of these has found something: dead letters that a leader had not on its own disk, a successor
/// that was known before the leader had stepped down, transient queues of a node that has restarted,
/// deliveries that a client has twice, queues that are deleted before they are counted.
#[test]
fn scenarios_pass() {
    let seeds = [
        (Scenario::KillEach, 615),
        (Scenario::PowerLossAndPause, 204),
        (Scenario::LastReplica, 269),
        (Scenario::Flapping, 151),
        (Scenario::SlowDisk, 34),
    ];
    for (scenario, seed) in seeds {
        let setup = Setup {
            scenario: Some(scenario),
            ..Setup::CLUSTER
        };
        let violations = run_seed(seed, setup, false).violations;
        assert!(violations.is_empty(), "{scenario:?} {seed}: {violations:?}");
    }
}
