//! Latencies as a histogram.

use hdrhistogram::Histogram;
use serde::Serialize;

/// What takes longer is recorded as this: ten minutes.
const NANOSECONDS_MAX: u64 = 600_000_000_000;

/// Publish-to-deliver latencies in nanoseconds, to three significant digits.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

/// The figures of a [`Latencies`], in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct LatencyFigures {
    pub(super) count: u64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, NANOSECONDS_MAX, 3).expect("the bounds are allowed"))
    }

    #[inline]
    pub(super) fn record(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the bounds are the same");
    }

    pub(super) fn figures(&self) -> LatencyFigures {
        let microseconds =
            |nanoseconds: u64| std::time::Duration::from_nanos(nanoseconds).as_secs_f64() * 1e6;
        let at = |quantile| microseconds(self.0.value_at_quantile(quantile));
        LatencyFigures {
            count: self.0.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: microseconds(self.0.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_microseconds() {
        let (mut latencies, mut other) = (Latencies::new(), Latencies::new());
        (1..=99).for_each(|_| latencies.record(1_000_000));
        other.record(5_000_000_000);
        latencies.add(&other);
        let figures = latencies.figures();
        assert_eq!(figures.count, 100);
        assert!((figures.p50_us - 1_000.0).abs() < 2.0, "{figures:?}");
        assert!((figures.p999_us - 5e6).abs() < 5e3, "{figures:?}");
    }
}
