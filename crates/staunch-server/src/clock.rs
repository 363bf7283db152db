//! The one place that reads clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use staunch_types::{Timestamp, UnixMillis};

/// Gives machines their `now`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    started_at: UnixMillis,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub(crate) fn start() -> Self {
        // A clock before 1970 has not been set: then everything happens in 1970.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = wall.map_or(0, |since| since.as_millis());
        Self {
            start: Instant::now(),
            started_at: UnixMillis(u64::try_from(millis).unwrap_or(u64::MAX)),
        }
    }

    /// The wall clock when this one showed 0.
    pub(crate) fn started_at(&self) -> UnixMillis {
        self.started_at
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
