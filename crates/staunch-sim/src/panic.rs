//! A panic in a shipping crate is a finding: it must name its seed.
//!
//! Where panics unwind, the run of that seed ends and the others go on; in a binary that is built
//! with `panic = "abort"` it ends with the first.

use std::{
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
};

use crate::world::Setup;

thread_local! {
    static SEED: Cell<Option<(u64, Setup)>> = const { Cell::new(None) };
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Remembers which seed this thread runs.
pub fn set_seed(seed: u64, setup: Setup) {
    SEED.set(Some((seed, setup)));
}

/// Has every later panic name the seed of its thread and how to replay it.
pub fn report_seed_of_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        before(info);
        LAST.set(Some(info.to_string()));
        if let Some((seed, setup)) = SEED.get() {
            let more = setup.arguments();
            eprintln!("VIOLATION panic in seed {seed}");
            eprintln!("replay: cargo run --release -p staunch-sim -- --seed {seed}{more}");
        }
    }));
}

/// Does `work`, and says what a panic in it said.
///
/// # Errors
/// The panic's words.
pub fn contain(work: impl FnOnce()) -> Result<(), String> {
    LAST.set(None);
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let said = LAST.take();
        let words = || payload.downcast_ref::<String>().cloned();
        said.or_else(words).unwrap_or_else(|| "a panic".to_owned())
    })
}
