//! The peak: the 99th percentile of the one-minute rates of the last day.

use super::{BUCKETS_MAX, History, MINUTE_TIER, PEAK_TIER, STEPS_MILLIS};
use crate::compact::{UNKNOWN, unpack};
use crate::number::{real, seconds};

/// The window of the peak, milliseconds: a day, so that every hour of it counts.
pub const PEAK_WINDOW_MILLIS: u64 = 24 * 3_600_000;

/// The share of minutes that may be above the peak.
const PEAK_ABOVE: f64 = 0.01;

/// The shares that stand for a higher and a lower peak that might as well have been seen.
const PEAK_ABOVE_RANGE: [f64; 2] = [0.002, 0.05];

/// A peak rate, per second, and the range it might as well be in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Peak {
    /// 99 % of the minutes of the last day were no busier.
    pub at: f64,
    /// 95 % of them were no busier.
    pub low: f64,
    /// 99.8 % of them were no busier.
    pub high: f64,
}

impl History {
    /// Peak rates of messages and bytes that came in, over the last day or what is known of it.
    ///
    /// A bucket of ten minutes knows its busiest minute; its other nine are taken to be alike.
    /// `None` before the first minute is over.
    #[must_use]
    pub fn peak(&self) -> Option<[Peak; 2]> {
        let tens = &self.rings[PEAK_TIER];
        let days = usize::try_from(PEAK_WINDOW_MILLIS / STEPS_MILLIS[PEAK_TIER]).unwrap_or(0);
        // Rates and for how many minutes they lasted.
        let mut minutes: [Vec<(f64, f64)>; 2] = [Vec::new(), Vec::new()];
        for (bucket, busiest) in tens.buckets.iter().zip(&tens.busiest).rev().take(days) {
            if bucket[0] == UNKNOWN {
                continue;
            }
            for (kind, minutes) in minutes.iter_mut().enumerate() {
                let all = real(unpack(bucket[2 * kind]));
                let top = real(unpack(busiest[kind])).max(all / PARTS);
                minutes.push((top, 1.0));
                minutes.push((((all - top) / (PARTS - 1.0)).max(0.0), PARTS - 1.0));
            }
        }
        // The minutes since the last bucket of ten was closed.
        let ring = &self.rings[MINUTE_TIER].buckets;
        let open = usize::from(tens.open.parts).min(BUCKETS_MAX[MINUTE_TIER]);
        for bucket in ring.iter().rev().take(open) {
            if bucket[0] != UNKNOWN {
                for (kind, minutes) in minutes.iter_mut().enumerate() {
                    minutes.push((real(unpack(bucket[2 * kind])), 1.0));
                }
            }
        }
        let [messages, bytes] = minutes.map(peak_of);
        Some([messages?, bytes?])
    }
}

/// Minutes in a bucket that knows its busiest.
const PARTS: f64 = 10.0;

/// The peak of rates per minute, each with how many minutes it lasted.
fn peak_of(mut minutes: Vec<(f64, f64)>) -> Option<Peak> {
    if minutes.is_empty() {
        return None;
    }
    minutes.sort_by(|a, b| b.0.total_cmp(&a.0));
    let total: f64 = minutes.iter().map(|&(_, lasted)| lasted).sum();
    let exceeded = |share: f64| {
        let mut above = 0.0;
        let found = minutes.iter().find(|&&(_, lasted)| {
            above += lasted;
            above > share * total
        });
        found.map_or(0.0, |&(rate, _)| rate / seconds(STEPS_MILLIS[MINUTE_TIER]))
    };
    Some(Peak {
        at: exceeded(PEAK_ABOVE),
        low: exceeded(PEAK_ABOVE_RANGE[1]),
        high: exceeded(PEAK_ABOVE_RANGE[0]),
    })
}
