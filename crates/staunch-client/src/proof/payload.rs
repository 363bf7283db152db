//! Bodies that say which message they are and whether they are intact.
//!
//! ```text
//! producer: u32 | seq: u64 | checksum: u64 over all else | filler from (producer, seq)
//! ```

use super::history::MessageId;

/// Bytes of the smallest body.
pub const PAYLOAD_SIZE_BYTES_MIN: usize = 20;

/// The body of a message.
#[must_use]
pub fn encode(id: MessageId, size_bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(size_bytes.max(PAYLOAD_SIZE_BYTES_MIN));
    body.extend_from_slice(&id.producer.to_be_bytes());
    body.extend_from_slice(&id.seq.to_be_bytes());
    body.extend_from_slice(&[0; 8]);
    let mut state = mixed(u64::from(id.producer) << 40 ^ id.seq);
    while body.len() < size_bytes {
        state = mixed(state);
        let left = (size_bytes - body.len()).min(8);
        body.extend_from_slice(&state.to_be_bytes()[..left]);
    }
    let sum = checksum(&body);
    body[12..20].copy_from_slice(&sum.to_be_bytes());
    body
}

/// The message that a body belongs to, or `None` if it is damaged.
#[must_use]
pub fn decode(body: &[u8]) -> Option<MessageId> {
    let (producer, rest) = body.split_first_chunk()?;
    let (seq, rest) = rest.split_first_chunk()?;
    let (sum, _) = rest.split_first_chunk()?;
    let id = MessageId {
        producer: u32::from_be_bytes(*producer),
        seq: u64::from_be_bytes(*seq),
    };
    (checksum(body) == u64::from_be_bytes(*sum)).then_some(id)
}

/// Over everything but the checksum's own place, and the length.
fn checksum(body: &[u8]) -> u64 {
    let mut state = mixed(body.len() as u64);
    for part in [&body[..12], &body[20..]] {
        for chunk in part.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            state = mixed(state ^ u64::from_le_bytes(word));
        }
    }
    state
}

/// A bijection that spreads every bit (the finalizer of `SplitMix64`).
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changed_byte_is_seen() {
        let id = MessageId {
            producer: 3,
            seq: 12_345,
        };
        for size in [0, 20, 21, 100] {
            let body = encode(id, size);
            assert_eq!(decode(&body), Some(id));
            for at in 0..body.len() {
                let mut damaged = body.clone();
                damaged[at] ^= 0x10;
                assert_eq!(decode(&damaged), None, "byte {at} of {size}");
            }
            assert_eq!(decode(&body[..body.len() - 1]), None);
        }
    }
}
