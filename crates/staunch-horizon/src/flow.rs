//! What flows through a queue, a virtual host or a node: counters that only grow, and rates.

use std::ops::Add;

use crate::number::real;

/// Kinds of flow, in the order in which arrays keep them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Messages that were enqueued; a message that is returned to its queue is not counted again.
    MessagesIn,
    /// Messages that left for good: settled, expired, dropped, purged.
    MessagesOut,
    /// Bytes of what was enqueued, as the limit on a queue's length in bytes counts them.
    BytesIn,
    /// Bytes of what left.
    BytesOut,
}

/// How many kinds of flow there are.
pub const FLOWS: usize = 4;

/// How much has gone in and out since counting began. Or, as a difference, in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// [`Flow::MessagesIn`].
    pub messages_in: u64,
    /// [`Flow::MessagesOut`].
    pub messages_out: u64,
    /// [`Flow::BytesIn`].
    pub bytes_in: u64,
    /// [`Flow::BytesOut`].
    pub bytes_out: u64,
}

impl Counters {
    /// What was counted since `earlier`; `None` if a counter went backwards, so that the two do
    /// not belong together (the queue was restored, the process restarted).
    #[must_use]
    pub fn since(self, earlier: Self) -> Option<Self> {
        Some(Self {
            messages_in: self.messages_in.checked_sub(earlier.messages_in)?,
            messages_out: self.messages_out.checked_sub(earlier.messages_out)?,
            bytes_in: self.bytes_in.checked_sub(earlier.bytes_in)?,
            bytes_out: self.bytes_out.checked_sub(earlier.bytes_out)?,
        })
    }

    /// In the order of [`Flow`].
    #[must_use]
    pub fn to_array(self) -> [u64; FLOWS] {
        [
            self.messages_in,
            self.messages_out,
            self.bytes_in,
            self.bytes_out,
        ]
    }

    /// From the order of [`Flow`].
    #[must_use]
    pub fn from_array([messages_in, messages_out, bytes_in, bytes_out]: [u64; FLOWS]) -> Self {
        Self {
            messages_in,
            messages_out,
            bytes_in,
            bytes_out,
        }
    }

    /// The share of it that falls into the first `part` of a span `whole` milliseconds long.
    pub(crate) fn first_part(self, part: u64, whole: u64) -> Self {
        let share = |count: u64| {
            let scaled = u128::from(count) * u128::from(part) / u128::from(whole.max(1));
            u64::try_from(scaled).unwrap_or(u64::MAX)
        };
        Self::from_array(self.to_array().map(share))
    }

    pub(crate) fn to_reals(self) -> [f64; FLOWS] {
        self.to_array().map(real)
    }
}

impl Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (mut sum, more) = (self.to_array(), other.to_array());
        for (total, count) in sum.iter_mut().zip(more) {
            *total = total.saturating_add(count);
        }
        Self::from_array(sum)
    }
}

/// Flow per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Messages per second, [`Flow::MessagesIn`].
    pub messages_in: f64,
    /// Messages per second, [`Flow::MessagesOut`].
    pub messages_out: f64,
    /// Bytes per second, [`Flow::BytesIn`].
    pub bytes_in: f64,
    /// Bytes per second, [`Flow::BytesOut`].
    pub bytes_out: f64,
}

impl Rates {
    /// In the order of [`Flow`].
    #[must_use]
    pub fn to_array(self) -> [f64; FLOWS] {
        [
            self.messages_in,
            self.messages_out,
            self.bytes_in,
            self.bytes_out,
        ]
    }

    pub(crate) fn from_array(
        [messages_in, messages_out, bytes_in, bytes_out]: [f64; FLOWS],
    ) -> Self {
        Self {
            messages_in,
            messages_out,
            bytes_in,
            bytes_out,
        }
    }
}
