//! How far a demo has come.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use staunch_client::proof::workload::{Progress, Workload};

/// How often the progress is shown.
const TICK: Duration = Duration::from_millis(100);

/// Progress on a terminal, and one line for each stage otherwise.
pub(super) struct Show {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Show {
    pub(super) fn new() -> Self {
        let is_terminal = io::stderr().is_terminal();
        let target = if is_terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{spinner} [{elapsed}] {prefix}: {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self { bar, is_terminal }
    }

    pub(super) fn say(&self, stage: &str) {
        if self.is_terminal {
            self.bar.set_prefix(stage.to_owned());
        } else {
            eprintln!("{stage}");
        }
    }

    /// Where the nodes' pages are.
    pub(super) fn pages(&self, addresses: &[String]) {
        let pages: Vec<_> = addresses.iter().map(|at| format!("http://{at}/")).collect();
        let line = format!("to watch (guest, guest): {}", pages.join(" "));
        if self.is_terminal {
            self.bar.println(line);
        } else {
            eprintln!("{line}");
        }
    }

    pub(super) fn progress(&self, progress: Progress) {
        let Progress {
            published,
            confirmed,
            delivered,
            missing,
        } = progress;
        self.bar.set_message(format!(
            "{published} published, {confirmed} confirmed, {delivered} delivered, {missing} to come"
        ));
        self.bar.tick();
    }

    /// Lets the workload run for a while.
    pub(super) fn load(&self, workload: &Workload, duration: Duration, stage: &str) {
        self.say(stage);
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.progress(workload.progress());
            std::thread::sleep(TICK);
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
