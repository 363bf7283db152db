//! `staunch-sim`: runs seeds and reports.

#![allow(clippy::print_stdout, reason = "printing is what this binary is for")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use staunch_sim::{
    coverage::Coverage,
    planted::Planted,
    run::{Outcome, Plan, run_plan, run_seed},
    scenario::Scenario,
    world::{Scale, Setup},
};

const USAGE: &str = "usage: staunch-sim [--seeds N] [--start S] [--jobs N] [--planted NAME] \
                     [--fail-fast] [--cluster] [--scenario NAME]\n       \
                     staunch-sim --seed X [--cluster] [--planted NAME] [--scenario NAME]   \
                     (verbose replay)\n";

/// What the command line asked for.
struct Arguments {
    plan: Plan,
    replay: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!(
                "{message}\n{USAGE}planted bugs: {:?}\nscenarios: {:?}",
                Planted::ALL.map(Planted::name),
                Scenario::ALL.map(Scenario::name)
            );
            return ExitCode::from(64);
        }
    };
    staunch_sim::panic::report_seed_of_panics();
    match arguments.replay {
        Some(seed) => replay(seed, &arguments.plan),
        None => run(&arguments.plan),
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut plan = Plan {
        start: 0,
        count: 1_000,
        jobs,
        setup: Setup::default(),
        fail_fast: false,
    };
    let mut replay = None;
    while let Some(word) = words.next() {
        if word == "--fail-fast" {
            plan.fail_fast = true;
            continue;
        }
        if word == "--cluster" {
            plan.setup.scale = Scale::Cluster;
            continue;
        }
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        let number = value
            .parse()
            .map_err(|_| format!("{word} needs a number, not '{value}'"));
        match word.as_str() {
            "--seeds" => plan.count = number?,
            "--start" => plan.start = number?,
            "--seed" => replay = Some(number?),
            "--jobs" => plan.jobs = usize::try_from(number?).unwrap_or(1).max(1),
            "--planted" => {
                let planted = Planted::from_name(&value);
                plan.setup.planted = Some(planted.ok_or(format!("no planted bug '{value}'"))?);
            }
            "--scenario" => {
                let scenario = Scenario::from_name(&value);
                plan.setup.scenario = Some(scenario.ok_or(format!("no scenario '{value}'"))?);
                plan.setup.scale = Scale::Cluster;
            }
            _ => return Err(format!("unknown argument '{word}'")),
        }
    }
    Ok(Arguments { plan, replay })
}

fn replay(seed: u64, plan: &Plan) -> ExitCode {
    let outcome = run_seed(seed, plan.setup, true);
    println!("{}", outcome.coverage);
    println!(
        "trace hash {:016x}, {} events",
        outcome.hash, outcome.event_count
    );
    report_failure(&outcome, plan);
    let failed = u64::from(!outcome.violations.is_empty());
    println!("{} passed, {failed} failed", 1 - failed);
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Sums over a plan.
#[derive(Default)]
struct Totals {
    passed: u64,
    failed: u64,
    events: u64,
    facts: u64,
    elapsed_nanos: u64,
    coverage: Coverage,
}

fn run(plan: &Plan) -> ExitCode {
    let begun = Instant::now();
    let mut totals = Totals::default();
    run_plan(plan, |outcome| {
        totals.events += outcome.event_count;
        totals.facts += outcome.fact_count;
        totals.elapsed_nanos += outcome.elapsed_nanos;
        totals.coverage.merge(&outcome.coverage);
        if outcome.violations.is_empty() {
            totals.passed += 1;
        } else {
            totals.failed += 1;
            report_failure(&outcome, plan);
        }
    });
    report_totals(&totals, begun.elapsed());
    if totals.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "rates are printed with one digit"
)]
fn report_totals(totals: &Totals, taken: Duration) {
    let seeds = (totals.passed + totals.failed) as f64;
    println!("what happened, over all seeds:\n{}", totals.coverage);
    println!(
        "{:.1} seeds/s, {:.2} simulated hours, {} events, {} facts, {:.1} s",
        seeds / taken.as_secs_f64(),
        totals.elapsed_nanos as f64 / 3.6e12,
        totals.events,
        totals.facts,
        taken.as_secs_f64(),
    );
    println!("{} passed, {} failed", totals.passed, totals.failed);
}

fn report_failure(outcome: &Outcome, plan: &Plan) {
    if outcome.violations.is_empty() {
        return;
    }
    println!("--- seed {} ---", outcome.seed);
    for line in &outcome.tail {
        println!("{line}");
    }
    for line in &outcome.stories {
        println!("{line}");
    }
    for violation in outcome.violations.iter().take(10) {
        println!("VIOLATION {violation}");
    }
    if outcome.violations.len() > 10 {
        println!("and {} more", outcome.violations.len() - 10);
    }
    println!(
        "replay: cargo run --release -p staunch-sim -- --seed {}{}",
        outcome.seed,
        plan.setup.arguments()
    );
}
