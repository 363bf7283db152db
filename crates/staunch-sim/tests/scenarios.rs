//! Scenarios that must not only pass but happen: known failures of other systems, played again.

use staunch_sim::{
    coverage::Coverage,
    run::{Plan, run_plan},
    scenario::Scenario,
    world::Setup,
};

/// Plays a scenario in so many worlds, the first of that seed; all of them pass. What happened.
fn play(scenario: Scenario, start: u64, count: u64) -> Coverage {
    let plan = Plan {
        start,
        count,
        jobs: 2,
        setup: Setup {
            scenario: Some(scenario),
            ..Setup::CLUSTER
        },
        fail_fast: false,
    };
    let mut coverage = Coverage::default();
    let mut failures = Vec::new();
    run_plan(&plan, |outcome| {
        coverage.merge(&outcome.coverage);
        if !outcome.violations.is_empty() {
            failures.push((outcome.seed, outcome.violations));
        }
    });
    assert!(failures.is_empty(), "{failures:#?}");
    coverage
}

#[track_caller]
fn assert_happened(coverage: &Coverage, what: &str, at_least: u64) {
    let count = coverage.count(what);
    assert!(count >= at_least, "{what}: {count}\n{coverage}");
}

#[test]
fn bit_flip_minority() {
    let coverage = play(Scenario::BitFlipMinority, 1, 4);
    assert_happened(&coverage, "fault: damage", 4);
    assert_happened(&coverage, "cluster whole again", 4);
}

#[test]
fn clock_jump() {
    let coverage = play(Scenario::ClockJump, 1, 3);
    assert_happened(&coverage, "fault: clock jumps forward", 20);
    assert_happened(&coverage, "fault: clock jumps back", 20);
    assert_happened(&coverage, "crash", 20);
}

#[test]
fn rolling_restart() {
    let coverage = play(Scenario::RollingRestart, 1, 4);
    assert_happened(&coverage, "scene: node restarted in turn", 12);
    assert_happened(&coverage, "publish confirmed", 1_000);
}

#[test]
fn lost_disks() {
    let coverage = play(Scenario::LostDisks, 3, 4);
    assert_happened(&coverage, "fault: lost disk", 8);
    assert_happened(&coverage, "cluster whole again", 8);
}

/// Two thousand groups.
#[test]
fn election_storm() {
    let coverage = play(Scenario::ElectionStorm, 1, 1);
    assert_happened(&coverage, "storm: all stand still", 1);
    assert_happened(&coverage, "storm: nobody hears anybody", 1);
    assert_happened(&coverage, "storm over", 2);
}
