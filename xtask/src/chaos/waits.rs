//! How long clients waited: percentiles and a histogram.

use std::{fmt, time::Duration};

/// Upper ends of the histogram's classes, in milliseconds.
const CLASSES: [u64; 11] = [25, 50, 75, 100, 150, 200, 300, 500, 1_000, 2_000, 5_000];

/// Width of the longest bar, in characters.
const BAR_MAX: u64 = 50;

/// Times that were measured.
#[derive(Debug, Default)]
pub(super) struct Waits(Vec<Duration>);

impl Waits {
    pub(super) fn add(&mut self, waited: Duration) {
        self.0.push(waited);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The shortest time that so many of a thousand did not exceed.
    fn per_mille(&self, wanted: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * wanted).div_ceil(1_000).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// The time that 99 % did not exceed.
    pub(super) fn p99(&self) -> Duration {
        self.per_mille(990)
    }

    /// (class, how many), and those above all classes under the last.
    fn classes(&self) -> Vec<(String, u64)> {
        let mut counts = [0; CLASSES.len() + 1];
        for waited in &self.0 {
            let class = CLASSES.partition_point(|end| Duration::from_millis(*end) <= *waited);
            counts[class] += 1;
        }
        let names = CLASSES.iter().map(|end| format!("< {end} ms"));
        let names = names.chain(["more".to_owned()]);
        names.zip(counts).collect()
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |per_mille| self.per_mille(per_mille).as_secs_f64() * 1_000.0;
        writeln!(
            f,
            "{} waits: p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            self.0.len(),
            millis(500),
            millis(900),
            millis(990),
            millis(1_000)
        )?;
        let classes = self.classes();
        let most = classes.iter().map(|(_, count)| *count).max().unwrap_or(0);
        for (class, count) in classes.into_iter().filter(|(_, count)| *count > 0) {
            let width = (count * BAR_MAX).div_ceil(most.max(1));
            let bar = "#".repeat(usize::try_from(width).unwrap_or(0));
            writeln!(f, "{class:>10} {count:>6} {bar}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let mut waits = Waits::default();
        (1..=200).for_each(|millis| waits.add(Duration::from_millis(millis)));
        let text = waits.to_string();
        let first = text.lines().next();
        let expected = "200 waits: p50 100.0 ms, p90 180.0 ms, p99 198.0 ms, max 200.0 ms";
        assert_eq!(first, Some(expected));
        // 24 are below 25 ms, 100 from 100 to 200, one is 200 ms.
        assert!(text.contains("   < 25 ms     24 "), "{text}");
        assert!(text.contains("  < 300 ms      1 #\n"), "{text}");
    }
}
