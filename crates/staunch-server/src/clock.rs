//! The one place that reads the monotonic clock.

use std::time::Instant;

use staunch_types::Timestamp;

/// Gives machines their `now`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Time since the start.
    pub(crate) fn now(&self) -> Timestamp {
        let nanos = self.start.elapsed().as_nanos();
        Timestamp(u64::try_from(nanos).expect("the process runs for less than 584 years"))
    }

    /// The instant at which this clock shows `at`.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        self.start + std::time::Duration::from_nanos(at.0)
    }
}
