//! The one source of chance: xoshiro256++ seeded through splitmix64.
//!
//! A run is a function of its seed alone. Every purpose (network, disk, workload, faults, node)
//! draws from a stream of its own, so that one more draw for one purpose leaves the others
//! where they were: a seed stays comparable while a fault is switched off. A crate was not
//! taken because twenty lines that never change beat a version that might change the stream
//! under every recorded seed.

/// A stream of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

/// What a stream is for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// Knobs of the run.
    Swarm,
    /// Delays, chunking, resets.
    Network,
    /// Latencies and what a crash keeps.
    Disk,
    /// What clients do.
    Workload,
    /// When faults strike.
    Faults,
    /// Seeds handed to the node and its connections.
    Node,
    /// Nodes and faults of a cluster.
    Cluster,
    /// Who joins and leaves it, and what is lost or damaged on disks.
    Members,
}

impl Random {
    /// The stream for `purpose` under `seed`.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let salt = (purpose as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95);
        let mut mix = SplitMix(seed ^ salt);
        Self {
            state: [mix.next(), mix.next(), mix.next(), mix.next()],
        }
    }

    /// A stream of its own, drawn from this one.
    #[must_use]
    pub fn split(&mut self) -> Self {
        let mut mix = SplitMix(self.next_u64());
        Self {
            state: [mix.next(), mix.next(), mix.next(), mix.next()],
        }
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let result = s0.wrapping_add(*s3).rotate_left(23).wrapping_add(*s0);
        let t = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= t;
        *s3 = s3.rotate_left(45);
        result
    }

    /// A number in `0..bound`.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range has no member");
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the product of two u64 shifted by 64 is a u64")
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// An index into something of `len` elements.
    ///
    /// # Panics
    /// If `len` is 0.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("an index below a usize is a usize")
    }

    /// True `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1_000) < u64::from(per_mille)
    }

    /// One of `choices`.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.index(choices.len())]
    }

    /// An index weighted by `weights`.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut left = self.below(total);
        for (index, weight) in weights.iter().enumerate() {
            let weight = u64::from(*weight);
            if left < weight {
                return index;
            }
            left -= weight;
        }
        unreachable!("the draw is below the sum of the weights")
    }

    /// A time around `mean`, in nanoseconds, long-tailed: mostly below twice the mean, now and
    /// then ten times it.
    pub fn latency(&mut self, mean: u64) -> u64 {
        if mean == 0 {
            return 0;
        }
        if self.chance(20) {
            self.below(mean * 10)
        } else {
            self.between(mean / 4, mean * 7 / 4)
        }
    }
}

struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_by_purpose() {
        let draw = |purpose| {
            let mut random = Random::new(7, purpose);
            [random.next_u64(), random.next_u64()]
        };
        assert_eq!(draw(Purpose::Disk), draw(Purpose::Disk));
        assert_ne!(draw(Purpose::Disk), draw(Purpose::Network));
    }

    #[test]
    fn bounds_are_kept_and_reached() {
        let mut random = Random::new(1, Purpose::Swarm);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[random.index(5)] = true;
            assert!((3..=4).contains(&random.between(3, 4)));
            assert_ne!(random.weighted(&[1, 0, 2]), 1);
        }
        assert_eq!(seen, [true; 5]);
    }
}
