//! Time as the machines see it: an argument, never a call.

use std::{ops::Add, time::Duration};

/// Nanoseconds on a monotonic clock with an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Time passed since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// Milliseconds since 1970 on the wall clock: what must mean the same after a restart, such as
/// when a message expires. A node derives it from its monotonic clock and the wall clock at its
/// start, so it never runs backwards while a process lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// This many milliseconds later; the end of time if that is beyond it.
    #[must_use]
    pub fn after_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Whole seconds since 1970, as AMQP timestamps count.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0 / 1_000
    }
}
