//! Made-up names: `amq.gen-…` for queues and `amq.ctag-…` for consumers.

use staunch_types::Name;

/// Characters of a made-up name after its prefix: 16 bytes in base64url without padding.
const TOKEN_CHARS: usize = 22;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Makes up names from a seed (`SplitMix64`), so that a simulated run repeats exactly. The names
/// need to be distinct, not secret.
#[derive(Debug)]
pub(crate) struct Tokens {
    state: u64,
}

impl Tokens {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// `prefix` and 22 characters.
    pub(crate) fn name(&mut self, prefix: &'static str) -> Name {
        let bits = (u128::from(self.next()) << 64) | u128::from(self.next());
        let mut name = Vec::with_capacity(prefix.len() + TOKEN_CHARS);
        name.extend_from_slice(prefix.as_bytes());
        // 21 characters of six bits and a last one of two, as base64 does with 16 bytes.
        for place in 0..TOKEN_CHARS {
            let bits = bits.rotate_left(u32::try_from(6 * place + 6).unwrap_or(0)) & 0x3f;
            let kept = if place == TOKEN_CHARS - 1 {
                bits & 0x30
            } else {
                bits
            };
            name.push(ALPHABET[usize::try_from(kept).unwrap_or(0)]);
        }
        Name::new(&name).expect("a prefix and 22 characters are a short string")
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_repeat_with_the_seed() {
        let mut tokens = Tokens::new(7);
        let names: std::collections::BTreeSet<_> =
            (0..1000).map(|_| tokens.name("amq.gen-")).collect();
        assert_eq!(names.len(), 1000);
        assert!(names.iter().all(|name| name.len() == 30));
        assert_eq!(
            Tokens::new(7).name("amq.ctag-"),
            Tokens::new(7).name("amq.ctag-")
        );
    }
}
