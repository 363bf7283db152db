//! A machine: its disk, its clock, and the process on it while there is one.

use staunch_types::{Timestamp, UnixMillis};

use crate::{disk::SimDisk, process::Process, schedule::MILLIS};

/// One life of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The machine's number.
    pub node: usize,
    /// Counts the processes on it, from 1.
    pub number: u64,
}

/// With which disk a machine comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NextDisk {
    /// That which it had.
    #[default]
    Same,
    /// That, with a file that is damaged.
    Damaged,
    /// An empty one.
    Another,
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
    /// Its node was removed from the cluster: it comes back on another disk.
    pub is_removed: bool,
    /// With which disk it comes back the next time.
    pub next_disk: NextDisk,
    /// A planted bug: without its data it asks who it was, and goes on as that.
    pub keeps_id: bool,
    /// Its clocks.
    pub clock: Clock,
}

/// How a machine's clocks differ from virtual time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drift {
    /// How much faster they run, in millionths.
    pub ppm: i64,
    /// How far the wall clock is ahead, in milliseconds.
    pub off_millis: i64,
}

/// The clocks of a machine: one that shows how long its process has run, and goes by its own speed;
/// and the wall clock, which is read when a process starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// How wrong they are.
    pub drift: Drift,
    /// When the process started, in virtual nanoseconds.
    started: u64,
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
            is_removed: false,
            next_disk: NextDisk::default(),
            keeps_id: false,
            clock,
        }
    }
}

impl Clock {
    /// Clocks that are so wrong.
    pub fn new(drift: Drift) -> Self {
        Self { drift, started: 0 }
    }

    /// A process starts at a virtual time, in nanoseconds; what the wall clock shows, which showed
    /// `epoch` at virtual time 0.
    pub fn start(&mut self, nanos: u64, epoch: UnixMillis) -> UnixMillis {
        // The wall clock shows whole milliseconds.
        self.started = nanos - nanos % MILLIS;
        let millis = epoch.0 + self.started / MILLIS;
        UnixMillis(millis.saturating_add_signed(self.drift.off_millis))
    }

    /// What the clock shows at a virtual time, in nanoseconds.
    pub fn at(self, nanos: u64) -> Timestamp {
        let since = i128::from(nanos.saturating_sub(self.started));
        let shown = since + since * i128::from(self.drift.ppm) / 1_000_000;
        Timestamp(u64::try_from(shown).unwrap_or(0))
    }

    /// The first virtual time, in nanoseconds, at which the clock shows `local` or more.
    pub fn when(self, local: Timestamp) -> u64 {
        let speed = u128::try_from(1_000_000 + self.drift.ppm).unwrap_or(1_000_000);
        let estimate = u128::from(local.0) * 1_000_000 / speed;
        let since = u64::try_from(estimate).unwrap_or(u64::MAX / 2);
        let mut nanos = (self.started + since).saturating_sub(2);
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
    fn a_clock_that_is_wrong_is_read_in_both_directions() {
        for ppm in [0, 1, 50_000, -1, -100_000] {
            let mut clock = Clock::new(Drift { ppm, off_millis: 0 });
            clock.start(5_000_000_123, UnixMillis(0));
            for nanos in [0, 1, 999_999, 1_000_000, 7_777_777_777] {
                let nanos = 5_000_000_123 + nanos;
                let local = clock.at(nanos);
                let when = clock.when(local);
                assert!(clock.at(when) >= local && when <= nanos, "{ppm} {nanos}");
            }
        }
    }

    #[test]
    fn a_wall_clock_is_read_at_the_start_of_a_process() {
        let mut clock = Clock::new(Drift {
            ppm: 0,
            off_millis: -30,
        });
        assert_eq!(
            clock.start(70 * MILLIS + 5, UnixMillis(1_000)),
            UnixMillis(1_040)
        );
        assert_eq!(clock.at(70 * MILLIS + 5), Timestamp(5));
    }
}
