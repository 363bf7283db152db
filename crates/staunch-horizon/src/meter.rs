//! Rates as exponentially weighted averages on several time scales.
//!
//! The caller samples counters when it likes; a sample that comes `dt` after the last one counts
//! with weight `1 - exp(-dt / scale)`, so the average does not depend on how regular the samples
//! are. A young meter divides by the weight it has gathered, so it does not start from zero: after
//! one sample all scales show that sample's rate.
//!
//! A queue at rest costs nothing. Whoever skips its samples says [`Meter::rest`] when it wakes.

use crate::flow::{Counters, FLOWS, Rates};
use crate::number::{finite, real, seconds};

/// Time scales of the averages, milliseconds.
pub const SCALES_MILLIS: [u64; SCALES] = [10_000, 60_000, 600_000, 3_600_000];

/// How many time scales there are.
const SCALES: usize = 4;

/// One of [`SCALES_MILLIS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// What happens this moment.
    TenSeconds,
    /// What tools show as "the rate".
    Minute,
    /// Smooth enough to plan with.
    TenMinutes,
    /// The long run.
    Hour,
}

/// Averages of one queue (virtual host, node). 200 bytes.
#[derive(Clone, Debug)]
pub struct Meter {
    at_millis: u64,
    seen: Counters,
    sums: [[f64; FLOWS]; SCALES],
    weights: [f64; SCALES],
}

impl Meter {
    /// A meter that has seen nothing yet; `counters` is where counting starts.
    #[must_use]
    pub fn new(now_millis: u64, counters: Counters) -> Self {
        Self {
            at_millis: now_millis,
            seen: counters,
            sums: [[0.0; FLOWS]; SCALES],
            weights: [0.0; SCALES],
        }
    }

    /// Takes a sample. Returns what has flowed since the last one and when that was, if the two can
    /// be compared. They cannot when no time has passed (then the sample is left for later), or
    /// when the clock or a counter went backwards (then counting starts anew from here, and the
    /// averages stay).
    pub fn sample(&mut self, now_millis: u64, counters: Counters) -> Option<(u64, Counters)> {
        if now_millis == self.at_millis {
            return None;
        }
        let since_millis = self.at_millis;
        let flowed = counters.since(self.seen);
        self.at_millis = now_millis;
        self.seen = counters;
        let flowed = flowed.filter(|_| now_millis > since_millis)?;
        self.average(now_millis - since_millis, flowed);
        Some((since_millis, flowed))
    }

    /// Nothing has flowed until now.
    pub fn rest(&mut self, now_millis: u64) {
        self.sample(now_millis, self.seen);
    }

    /// When the last sample was taken, milliseconds.
    #[must_use]
    pub fn at_millis(&self) -> u64 {
        self.at_millis
    }

    /// The averages as they are if the counters stand at `counters` now; nothing is changed.
    #[must_use]
    pub fn rates(&self, scale: Scale, now_millis: u64, counters: Counters) -> Rates {
        let mut peek = self.clone();
        peek.sample(now_millis, counters);
        let index = scale as usize;
        let weight = peek.weights[index];
        if weight <= 0.0 {
            return Rates::default();
        }
        Rates::from_array(peek.sums[index].map(|sum| finite(sum / weight)))
    }

    fn average(&mut self, span_millis: u64, flowed: Counters) {
        let rates = flowed.to_reals().map(|count| count / seconds(span_millis));
        for ((sums, weight), scale) in self
            .sums
            .iter_mut()
            .zip(&mut self.weights)
            .zip(SCALES_MILLIS)
        {
            // exp_m1, or a millisecond on the scale of an hour would lose half its digits.
            let gain = -(-real(span_millis) / real(scale)).exp_m1();
            for (sum, rate) in sums.iter_mut().zip(rates) {
                *sum += gain * (rate - *sum);
            }
            *weight += gain * (1.0 - *weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counters(messages_in: u64) -> Counters {
        Counters {
            messages_in,
            bytes_in: messages_in * 100,
            ..Counters::default()
        }
    }

    #[test]
    fn a_first_sample_is_the_rate_on_all_scales() {
        let mut meter = Meter::new(1_000, counters(50));
        meter.sample(3_000, counters(250));
        for scale in [Scale::TenSeconds, Scale::Minute, Scale::Hour] {
            let rates = meter.rates(scale, 3_000, counters(250));
            assert!((rates.messages_in - 100.0).abs() < 1e-9);
            assert!((rates.bytes_in - 10_000.0).abs() < 1e-6);
        }
    }

    #[test]
    fn rest_decays_when_asked() {
        let mut meter = Meter::new(0, counters(0));
        for second in 1..=600 {
            meter.sample(second * 1_000, counters(second * 100));
        }
        let before = meter.rates(Scale::Minute, 600_000, counters(60_000));
        let after = meter.rates(Scale::Minute, 660_000, counters(60_000));
        let decay = (-1.0_f64).exp();
        assert!((after.messages_in / before.messages_in - decay).abs() < 1e-3);
    }

    #[test]
    fn what_comes_after_a_rest_is_not_spread_over_it() {
        let mut meter = Meter::new(0, counters(0));
        meter.sample(1_000, counters(0));
        meter.rest(3_600_000);
        meter.sample(3_610_000, counters(1_000));
        let rates = meter.rates(Scale::TenSeconds, 3_610_000, counters(1_000));
        assert!(rates.messages_in > 60.0, "{rates:?}");
    }

    #[test]
    fn a_clock_or_counter_that_goes_back_starts_anew() {
        let mut meter = Meter::new(10_000, counters(0));
        assert_eq!(
            meter.sample(11_000, counters(100)),
            Some((10_000, counters(100)))
        );
        assert_eq!(meter.sample(5_000, counters(200)), None);
        assert_eq!(
            meter.sample(6_000, counters(300)),
            Some((5_000, counters(100)))
        );
        assert_eq!(meter.sample(7_000, counters(0)), None);
        let rates = meter.rates(Scale::Minute, 7_000, counters(0));
        assert!((rates.messages_in - 100.0).abs() < 1e-6, "{rates:?}");
    }

    proptest! {
        /// However a span is cut into samples, a steady flow has the same averages.
        #[test]
        fn irregular_samples_average_alike(cuts in prop::collection::vec(1_u64..120_000, 1..50)) {
            let mut meter = Meter::new(0, counters(0));
            let mut now = 0;
            for cut in cuts {
                now += cut;
                meter.sample(now, counters(now * 7));
            }
            for scale in [Scale::TenSeconds, Scale::Minute, Scale::TenMinutes, Scale::Hour] {
                let rates = meter.rates(scale, now, counters(now * 7));
                prop_assert!((rates.messages_in - 7_000.0).abs() < 1e-6);
            }
        }

        /// No order of times and counters makes a rate that is not a number, or negative.
        #[test]
        fn rates_are_always_sane(samples in prop::collection::vec((any::<u64>(), any::<u64>()), 0..30)) {
            let mut meter = Meter::new(0, Counters::default());
            for (now, count) in samples {
                let counters = Counters { messages_in: count, ..Counters::default() };
                meter.sample(now, counters);
                let rates = meter.rates(Scale::TenSeconds, now.wrapping_add(1), counters);
                prop_assert!(rates.messages_in.is_finite() && rates.messages_in >= 0.0);
            }
        }
    }
}
