//! The model against known futures: a smaller share of what `examples/evaluate.rs` prints.

mod world;

use world::load::Kind;
use world::score::Score;
use world::{KINDS, QUESTIONS};

/// 504 runs: 14 for each load, limit and question.
const SEEDS: std::ops::Range<u64> = 50_000..50_014;

#[test]
fn foretold_times_keep_their_promises() {
    let runs = world::all(SEEDS);
    let all = Score::of(runs.iter());
    assert!(all.runs >= 500, "{all:?}");
    assert!((0.75..=0.85).contains(&all.inside), "{all:?}");
    for kind in KINDS {
        let score = Score::of(runs.iter().filter(|run| run.kind == kind));
        let [model, hour, quarter] = score.errors;
        let error_max = match kind {
            Kind::Constant => 0.05,
            Kind::Ramping | Kind::Bursty | Kind::Daily => 0.10,
        };
        assert!(model < error_max, "{kind:?}: {score:?}");
        assert!(model < hour && model < quarter, "{kind:?}: {score:?}");
        // Of one load alone there are too few runs for narrow bounds.
        assert!((0.65..=0.95).contains(&score.inside), "{kind:?}: {score:?}");
    }
    for question in QUESTIONS {
        let score = Score::of(runs.iter().filter(|run| run.question == question));
        let [model, hour, quarter] = score.errors;
        assert!(model < hour && model < quarter, "{question:?}: {score:?}");
    }
}

#[test]
fn a_seed_is_a_run() {
    let [one, other] = [(); 2].map(|()| format!("{:?}", world::all(7..8)));
    assert_eq!(one, other);
}
