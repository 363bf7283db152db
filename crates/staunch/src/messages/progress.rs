//! How far a long command is, on a terminal.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::messages::transfer::Moved;

/// Between two pictures.
const TICK: Duration = Duration::from_millis(100);

pub(crate) struct Progress {
    bar: ProgressBar,
    verb: &'static str,
}

impl Progress {
    pub(crate) fn new(verb: &'static str) -> Self {
        let is_seen = io::stderr().is_terminal();
        let place = if is_seen {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, place);
        if is_seen {
            bar.enable_steady_tick(TICK);
        }
        Self { bar, verb }
    }

    pub(crate) fn show(&self, moved: Moved) {
        let Moved { seen, done, .. } = moved;
        let verb = self.verb;
        self.bar.set_message(format!("{done} of {seen} {verb}"));
    }

    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
