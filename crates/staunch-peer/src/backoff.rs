//! How long to wait before the next attempt.

use std::time::Duration;

/// Longest first wait.
const WAIT_FIRST: Duration = Duration::from_millis(50);
/// Longest wait of all.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Waits that double up to [`WAIT_MAX`], each shortened by up to a half at random, so that nodes
/// that lost the same peer do not come back in step.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            next: WAIT_FIRST,
            random: seed,
        }
    }

    /// The next attempt is a first one again.
    pub(crate) fn reset(&mut self) {
        self.next = WAIT_FIRST;
    }

    pub(crate) fn next(&mut self) -> Duration {
        let longest = self.next;
        self.next = (self.next * 2).min(WAIT_MAX);
        let half_nanos = u64::try_from(longest.as_nanos() / 2).unwrap_or(u64::MAX);
        longest.saturating_sub(Duration::from_nanos(self.draw() % half_nanos))
    }

    /// splitmix64 (Steele, Lea, Flood 2014).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_second_and_depend_on_the_seed_alone() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            let mut waits: Vec<_> = (0..8).map(|_| backoff.next()).collect();
            backoff.reset();
            waits.push(backoff.next());
            waits
        };
        let longest = [50, 100, 200, 400, 800, 1000, 1000, 1000, 50].map(Duration::from_millis);
        for seed in 0..100 {
            for (wait, longest) in waits(seed).into_iter().zip(longest) {
                assert!(
                    wait <= longest && wait > longest / 2,
                    "{wait:?} {longest:?}"
                );
            }
            assert_eq!(waits(seed), waits(seed));
        }
        assert_ne!(waits(1), waits(2));
    }
}
