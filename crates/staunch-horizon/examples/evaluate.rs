//! How good the foretold times are: simulated queues with known futures, against a straight line
//! through the depth (`predict_linear`). Prints the tables of `docs/horizon.md`.
//!
//! `cargo run --release -p staunch-horizon --example evaluate [RUNS_PER_CELL] [FIRST_SEED]`

use std::env;

#[path = "../tests/world/mod.rs"]
mod world;

use world::score::Score;
use world::{BINDINGS, KINDS, QUESTIONS};

/// Runs of each load, limit and question.
const RUNS_PER_CELL: u64 = 80;

/// Not a seed that the model was developed with.
const FIRST_SEED: u64 = 50_000;

fn row(name: &str, score: &Score) -> String {
    let percent = |share: f64| {
        if share.is_finite() {
            format!("{:.1}", share * 100.0)
        } else {
            "none".to_owned()
        }
    };
    let [model, hour, quarter] = score.errors.map(percent);
    let [inside, before, after] = [score.inside, score.before, score.after].map(percent);
    let (runs, width) = (score.runs, percent(score.width));
    format!(
        "| {name} | {runs} | {model} | {hour} | {quarter} | {inside} | {before} / {after} | {width} |"
    )
}

#[expect(clippy::print_stdout, reason = "its output is what it is for")]
fn main() {
    let mut arguments = env::args().skip(1).filter_map(|word| word.parse().ok());
    let per_cell = arguments.next().unwrap_or(RUNS_PER_CELL);
    let first_seed = arguments.next().unwrap_or(FIRST_SEED);
    let runs = world::all(first_seed..first_seed + per_cell);
    println!(
        "| Load, question | Runs | Error % | Line 1 h | Line 15 min | In interval % | \
         Before / after | Width % |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for kind in KINDS {
        for question in QUESTIONS {
            let part = runs
                .iter()
                .filter(|run| run.kind == kind && run.question == question);
            println!(
                "{}",
                row(&format!("{kind:?}, {question:?}"), &Score::of(part))
            );
        }
    }
    for kind in KINDS {
        let part = runs.iter().filter(|run| run.kind == kind);
        println!("{}", row(&format!("{kind:?}"), &Score::of(part)));
    }
    for binding in BINDINGS {
        let part = runs.iter().filter(|run| run.binding == binding);
        println!("{}", row(&format!("Limit: {binding:?}"), &Score::of(part)));
    }
    println!("{}", row("All", &Score::of(runs.iter())));
    let unfinished = runs.iter().filter(|run| run.measured.is_none()).count();
    println!(
        "\n{unfinished} of {} runs were given up before the limit was reached.",
        runs.len()
    );
}
