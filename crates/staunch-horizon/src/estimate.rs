//! Times that may never come, and how sure we are of them.

use crate::number::{SECOND_MILLIS, real, whole};

/// Later than this is never: ten years, milliseconds.
pub const NEVER_AFTER_MILLIS: u64 = 10 * 365 * 86_400_000;

/// How long until something happens. Ordered: never is last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimeLeft {
    /// In so many milliseconds; 0: it has happened already.
    Millis(u64),
    /// Not within ten years if all goes on as foreseen.
    Never,
}

impl TimeLeft {
    /// It has happened already.
    pub const NONE: Self = Self::Millis(0);

    /// Until so much is used up, at so much in a second.
    #[must_use]
    pub fn at_rate(left: u64, per_second: f64) -> Self {
        if left == 0 {
            return Self::NONE;
        }
        Self::from_seconds((per_second > 0.0).then(|| real(left) / per_second))
    }

    /// Milliseconds; `None` for never.
    #[must_use]
    pub fn millis(self) -> Option<u64> {
        match self {
            Self::Millis(millis) => Some(millis),
            Self::Never => None,
        }
    }

    /// From seconds, `None` for never; what is no time at all is never as well.
    pub(crate) fn from_seconds(seconds: Option<f64>) -> Self {
        match seconds.map(|seconds| whole(seconds * SECOND_MILLIS)) {
            Some(millis) if millis < NEVER_AFTER_MILLIS => Self::Millis(millis),
            Some(_) | None => Self::Never,
        }
    }
}

/// A time and the 80 % interval around it: one time in ten it comes before `low`, one time in ten
/// after `high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The best guess.
    pub at: TimeLeft,
    /// Not after `at`.
    pub low: TimeLeft,
    /// Not before `at`.
    pub high: TimeLeft,
}

impl Estimate {
    /// Never, and nothing says otherwise.
    pub const NEVER: Self = Self::exactly(TimeLeft::Never);

    /// It has happened already.
    pub const NOW: Self = Self::exactly(TimeLeft::NONE);

    const fn exactly(at: TimeLeft) -> Self {
        Self {
            at,
            low: at,
            high: at,
        }
    }

    /// Puts the three in order.
    pub(crate) fn new(at: TimeLeft, one: TimeLeft, other: TimeLeft) -> Self {
        Self {
            at,
            low: at.min(one).min(other),
            high: at.max(one).max(other),
        }
    }

    /// When the first of two things happens.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        Self {
            at: self.at.min(other.at),
            low: self.low.min(other.low),
            high: self.high.min(other.high),
        }
    }
}
