//! What has flowed lately: finely kept for the last minutes, coarsely for the last two weeks.
//!
//! Four rings of buckets, ten seconds to an hour. Only the finest is fed; a bucket that closes
//! adds to the open one of the next ring. Amounts take two bytes each (`compact.rs`), so a queue
//! that has been busy for two weeks takes [`HISTORY_BYTES_MAX`], and one that never was, nothing.
//! The rings of ten minutes also remember the busiest minute of each bucket, from which
//! [`History::peak`] finds the 99th percentile of a day's one-minute rates without its 1,440
//! minutes.
//!
//! Rejected: averages that fade (they forget what time of day it was), and raw samples (a day of
//! one queue would take a megabyte).

use std::collections::VecDeque;

use crate::compact::{UNKNOWN, pack, unpack};
use crate::flow::{Counters, FLOWS, Rates};
use crate::number::{real, seconds};

mod encoding;
mod peak;

pub use encoding::HistoryError;
pub use peak::{PEAK_WINDOW_MILLIS, Peak};

/// Length of a bucket in each ring, milliseconds. Each is a multiple of the one before it.
pub const STEPS_MILLIS: [u64; TIERS] = [10_000, 60_000, 600_000, 3_600_000];

/// How many buckets each ring keeps: 10 minutes, 3 hours, 2 days, 2 weeks.
pub const BUCKETS_MAX: [usize; TIERS] = [60, 180, 288, 336];

/// How many rings there are.
pub(crate) const TIERS: usize = 4;

/// The ring whose buckets know their busiest minute.
const PEAK_TIER: usize = 2;

/// The ring of one-minute buckets.
const MINUTE_TIER: usize = 1;

/// What a full history takes in memory, its own fields aside, and at most when encoded.
pub const HISTORY_BYTES_MAX: usize = encoding::ENCODED_BYTES_MAX;

/// Later than any clock shows; times beyond it are taken for it.
const TIME_MAX_MILLIS: u64 = u64::MAX / 4;

/// Amounts of one bucket, or [`UNKNOWN`] in each.
type Bucket = [u16; FLOWS];

/// A bucket that is still being filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Open {
    amounts: Counters,
    /// How many buckets of the ring below it are in it.
    parts: u16,
    /// How many of those nobody counted.
    parts_unknown: u16,
    /// The most messages and bytes in, in one minute.
    busiest: [u64; 2],
}

/// One resolution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ring {
    buckets: VecDeque<Bucket>,
    /// Beside `buckets`, in the ring [`PEAK_TIER`] only.
    busiest: VecDeque<[u16; 2]>,
    open: Open,
}

/// The flow of one queue (virtual host, node) over the last two weeks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Where the open bucket of the finest ring begins: a multiple of its step. 0: nothing yet.
    end_millis: u64,
    rings: [Ring; TIERS],
}

/// A stretch of time and what flowed in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Piece {
    pub(crate) start_millis: u64,
    pub(crate) end_millis: u64,
    /// In the order of `Flow`; `None` when nobody counted.
    pub(crate) amounts: Option<[f64; FLOWS]>,
}

impl History {
    /// A history in which nothing has happened.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what flowed between two moments, as if evenly. What lies before the end of the history
    /// is added to its open bucket; a hole before `from_millis` is time that nobody counted.
    pub fn record(&mut self, from_millis: u64, to_millis: u64, flowed: Counters) {
        let step = STEPS_MILLIS[0];
        let (from_millis, to_millis) = (
            from_millis.min(TIME_MAX_MILLIS),
            to_millis.min(TIME_MAX_MILLIS),
        );
        if self.end_millis == 0 {
            self.end_millis = from_millis - from_millis % step;
        }
        let to_millis = to_millis.max(from_millis);
        let kept_millis =
            STEPS_MILLIS[TIERS - 1] * u64::try_from(BUCKETS_MAX[TIERS - 1]).unwrap_or(0);
        if to_millis.saturating_sub(self.end_millis) > 2 * kept_millis {
            // Older than all that is kept: begin again rather than close every bucket on the way.
            *self = Self {
                end_millis: to_millis - to_millis % step,
                ..Self::default()
            };
            self.rings[0].open.amounts = flowed;
            return;
        }
        while from_millis >= self.end_millis + step {
            // A bucket that a hole cuts off would look like a load that goes down.
            self.rings[0].open.amounts = Counters::default();
            self.close_finest(false);
        }
        let (mut from_millis, mut rest) = (from_millis.max(self.end_millis), flowed);
        while to_millis >= self.end_millis + step {
            let bucket_end = self.end_millis + step;
            let part = if to_millis == bucket_end {
                rest
            } else {
                rest.first_part(bucket_end - from_millis, to_millis - from_millis)
            };
            rest = rest.since(part).unwrap_or_default();
            let open = &mut self.rings[0].open;
            open.amounts = open.amounts + part;
            self.close_finest(true);
            from_millis = bucket_end;
        }
        let open = &mut self.rings[0].open;
        open.amounts = open.amounts + rest;
    }

    /// Up to when buckets are closed, milliseconds; what came later is not in
    /// [`History::recent`] yet. At most ten seconds before the last record.
    #[must_use]
    pub fn end_millis(&self) -> u64 {
        self.end_millis
    }

    /// How far back anything is known, milliseconds.
    #[must_use]
    pub fn span_millis(&self) -> u64 {
        self.pieces()
            .first()
            .map_or(0, |piece| self.end_millis - piece.start_millis)
    }

    /// Average rates over the last `span_millis`, or over as much of them as is known.
    #[must_use]
    pub fn recent(&self, span_millis: u64) -> Rates {
        let from_millis = self.end_millis.saturating_sub(span_millis);
        let (mut total, mut known) = ([0.0; FLOWS], 0.0);
        for piece in self.pieces() {
            let start = piece.start_millis.max(from_millis);
            let Some(amounts) = piece.amounts.filter(|_| start < piece.end_millis) else {
                continue;
            };
            let inside = seconds(piece.end_millis - start);
            let share = inside / seconds(piece.end_millis - piece.start_millis);
            known += inside;
            for (total, amount) in total.iter_mut().zip(amounts) {
                *total += amount * share;
            }
        }
        if known <= 0.0 {
            return Rates::default();
        }
        Rates::from_array(total.map(|total| total / known))
    }

    /// All that is known, oldest first, without gaps or overlaps, each stretch as finely as kept.
    pub(crate) fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(self.rings.iter().map(|ring| ring.buckets.len()).sum());
        // Newest first while collecting: a coarser ring adds only what is older than the finer.
        let mut oldest_millis = self.end_millis;
        for (tier, ring) in self.rings.iter().enumerate() {
            let step = STEPS_MILLIS[tier];
            let until_millis = self.handed_over_at(tier);
            let mut bucket_end = self.end_millis - self.end_millis % step;
            for bucket in ring.buckets.iter().rev() {
                let start = bucket_end.saturating_sub(step);
                if start < bucket_end && bucket_end <= oldest_millis && start >= until_millis {
                    pieces.push(Piece {
                        start_millis: start,
                        end_millis: bucket_end,
                        amounts: (bucket[0] != UNKNOWN)
                            .then(|| bucket.map(|packed| real(unpack(packed)))),
                    });
                    oldest_millis = start;
                }
                bucket_end = start;
            }
        }
        pieces.reverse();
        pieces
    }

    /// Where the ring of this tier leaves off and the next one, with longer buckets, goes on: a
    /// border of those, so that no bucket has to be divided. 0 if the next one has nothing older.
    fn handed_over_at(&self, tier: usize) -> u64 {
        let Some(coarser) = self.rings.get(tier + 1) else {
            return 0;
        };
        let oldest = |tier: usize, ring: &Ring| {
            let newest_end = self.end_millis - self.end_millis % STEPS_MILLIS[tier];
            let kept = u64::try_from(ring.buckets.len()).unwrap_or(0) * STEPS_MILLIS[tier];
            newest_end.saturating_sub(kept)
        };
        let border = oldest(tier, &self.rings[tier]).next_multiple_of(STEPS_MILLIS[tier + 1]);
        if oldest(tier + 1, coarser) < border {
            border
        } else {
            0
        }
    }

    fn close_finest(&mut self, known: bool) {
        self.end_millis += STEPS_MILLIS[0];
        let open = &mut self.rings[0].open;
        open.parts = 1;
        open.parts_unknown = u16::from(!known);
        for tier in 0..TIERS {
            let closed = std::mem::take(&mut self.rings[tier].open);
            self.rings[tier].push(tier, closed);
            let Some(above) = self.rings.get_mut(tier + 1) else {
                return;
            };
            above.open.take_in(tier, closed);
            if !self.end_millis.is_multiple_of(STEPS_MILLIS[tier + 1]) {
                return;
            }
        }
    }
}

impl Open {
    fn take_in(&mut self, tier: usize, part: Self) {
        self.amounts = self.amounts + part.amounts;
        self.parts += 1;
        // Half a bucket that somebody counted stands for the whole.
        self.parts_unknown += u16::from(part.parts_unknown * 2 > part.parts);
        if tier == MINUTE_TIER {
            self.busiest[0] = self.busiest[0].max(part.amounts.messages_in);
            self.busiest[1] = self.busiest[1].max(part.amounts.bytes_in);
        }
    }

    /// The amounts of a whole bucket, if at least half of it was counted.
    fn bucket(self, parts_whole: u64) -> Bucket {
        let known = u64::from(self.parts.saturating_sub(self.parts_unknown));
        if known * 2 < parts_whole {
            return [UNKNOWN; FLOWS];
        }
        self.amounts
            .to_array()
            .map(|amount| pack(amount.saturating_mul(parts_whole) / known.max(1)))
    }
}

impl Ring {
    fn push(&mut self, tier: usize, closed: Open) {
        let parts_whole = match tier {
            0 => 1,
            _ => STEPS_MILLIS[tier] / STEPS_MILLIS[tier - 1],
        };
        if self.buckets.len() == BUCKETS_MAX[tier] {
            self.buckets.pop_front();
            self.busiest.pop_front();
        }
        self.buckets.push_back(closed.bucket(parts_whole));
        if tier == PEAK_TIER {
            self.busiest.push_back(closed.busiest.map(pack));
        }
    }
}

#[cfg(test)]
mod tests;
