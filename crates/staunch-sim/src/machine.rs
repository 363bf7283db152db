//! A machine: its disk, its clock, and the process on it while there is one.

use staunch_types::Timestamp;

use crate::{disk::SimDisk, process::Process};

/// One life of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The machine's number.
    pub node: usize,
    /// Counts the processes on it, from 1.
    pub number: u64,
}

/// The machine.
pub struct Machine {
    /// Its disk.
    pub disk: SimDisk,
    /// Its process, while it runs.
    pub process: Option<Process>,
    /// How many processes there have been.
    pub lives: u64,
    /// What peers are told of its process.
    pub incarnation: u64,
    /// Power goes after so many events.
    pub crash_in: Option<u64>,
    /// Its process stands still before this virtual time, in nanoseconds.
    pub paused_until: u64,
    /// Its clocks.
    pub clock: Clock,
}

/// How a machine's clocks differ from virtual time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// How much faster it runs, in millionths.
    pub drift_ppm: u32,
    /// How far its wall clock is ahead, in milliseconds.
    pub ahead_millis: u64,
}

impl Machine {
    /// A machine that is off.
    pub fn new(disk: SimDisk, clock: Clock) -> Self {
        Self {
            disk,
            process: None,
            lives: 0,
            incarnation: 0,
            crash_in: None,
            paused_until: 0,
            clock,
        }
    }
}

impl Clock {
    /// What the clock shows at a virtual time, in nanoseconds.
    pub fn at(self, nanos: u64) -> Timestamp {
        let more = u128::from(nanos) * u128::from(self.drift_ppm) / 1_000_000;
        Timestamp(nanos + u64::try_from(more).unwrap_or(0))
    }

    /// The first virtual time, in nanoseconds, at which the clock shows `local` or more.
    pub fn when(self, local: Timestamp) -> u64 {
        let estimate = u128::from(local.0) * 1_000_000 / (1_000_000 + u128::from(self.drift_ppm));
        let mut nanos = u64::try_from(estimate)
            .unwrap_or(u64::MAX)
            .saturating_sub(2);
        while self.at(nanos) < local {
            nanos += 1;
        }
        nanos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_drifts_is_read_in_both_directions() {
        for drift_ppm in [0, 1, 50_000] {
            let clock = Clock {
                drift_ppm,
                ahead_millis: 0,
            };
            for nanos in [0, 1, 999_999, 1_000_000, 7_777_777_777] {
                let local = clock.at(nanos);
                let when = clock.when(local);
                assert!(
                    clock.at(when) >= local && when <= nanos,
                    "{drift_ppm} {nanos}"
                );
            }
        }
    }
}
