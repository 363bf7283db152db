//! What happened, line by line: a hash of all of it and the end of it in words.
//!
//! The hash is what two runs of one seed are compared by; the lines are what a reader of a
//! failure gets. FNV-1a is enough: nobody attacks a simulator's trace.

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
};

/// Lines kept for the report of a failure.
pub const TRACE_LINES_MAX: usize = 50;

/// The trace of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    line_count: u64,
    verbose: bool,
}

impl Trace {
    /// An empty trace; a verbose one also prints each line as it comes.
    pub fn new(verbose: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: VecDeque::new(),
            line_count: 0,
            verbose,
        }
    }

    /// Adds a line.
    pub fn line(&mut self, at: u64, text: fmt::Arguments<'_>) {
        let mut line = if self.lines.len() >= TRACE_LINES_MAX {
            self.lines.pop_front().unwrap_or_default()
        } else {
            String::with_capacity(96)
        };
        line.clear();
        let micros = at / 1_000;
        write!(
            line,
            "{:>6}.{:06} {text}",
            micros / 1_000_000,
            micros % 1_000_000
        )
        .expect("writing to a string cannot fail");
        self.absorb(line.as_bytes());
        if self.verbose {
            eprintln!("{line}");
        }
        self.lines.push_back(line);
        self.line_count += 1;
    }

    /// Prints a line if the trace is verbose: what a replay shows and nobody else pays for.
    pub fn detail(&self, at: u64, text: fmt::Arguments<'_>) {
        if self.verbose {
            let micros = at / 1_000;
            eprintln!(
                "{:>6}.{:06}   {text}",
                micros / 1_000_000,
                micros % 1_000_000
            );
        }
    }

    /// Adds bytes to the hash alone: too many to print, too telling to leave out.
    ///
    /// # Panics
    /// Never: the chunks have eight bytes.
    pub fn absorb(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let word = u64::from_le_bytes(chunk.try_into().expect("the chunk has eight bytes"));
            self.mix(word);
        }
        for byte in chunks.remainder() {
            self.mix(u64::from(*byte));
        }
    }

    /// Hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Lines so far.
    pub fn line_count(&self) -> u64 {
        self.line_count
    }

    /// The last lines, oldest first.
    pub fn tail(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word)
            .wrapping_mul(0x0100_0000_01b3)
            .rotate_left(5);
    }
}
