//! A panic in a shipping crate is a finding: it must name its seed.

use std::{cell::Cell, panic};

use crate::world::Scale;

thread_local! {
    static SEED: Cell<Option<(u64, Scale)>> = const { Cell::new(None) };
}

/// Remembers which seed this thread runs.
pub fn set_seed(seed: u64, scale: Scale) {
    SEED.set(Some((seed, scale)));
}

/// Has every later panic name the seed of its thread and how to replay it.
pub fn report_seed_of_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        before(info);
        if let Some((seed, scale)) = SEED.get() {
            let cluster = scale.argument();
            eprintln!("VIOLATION panic in seed {seed}");
            eprintln!("replay: cargo run --release -p staunch-sim -- --seed {seed}{cluster}");
        }
    }));
}
