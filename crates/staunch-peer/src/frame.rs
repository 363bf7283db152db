//! What travels on a link: frames.
//!
//! ```text
//! offset  size
//!      0     4  length of the payload, little-endian
//!      4     1  kind
//!      5     4  CRC-32C of the five bytes above and the payload, little-endian
//!      9     …  payload
//! ```
//!
//! The checksum is for links without TLS and for what goes wrong between the socket and the
//! decoder; TLS brings a better one. A payload is written from the segments it is made of and read
//! as a slice of the socket's buffer: no body is copied here. A slice keeps the whole buffer
//! alive, so what is kept for long should be copied by whoever keeps it.

use bytes::{Buf as _, Bytes, BytesMut};

/// Largest payload in bytes: the largest message that a node may accept (63 MiB) and what goes
/// with it.
pub const PAYLOAD_SIZE_BYTES_MAX: usize = 64 << 20;
/// Size of what precedes a payload, in bytes.
pub const HEADER_SIZE_BYTES: usize = 9;
/// The part of a header that its checksum covers, in bytes.
const CHECKED_SIZE_BYTES: usize = 5;

/// What a payload is. Kinds below [`FrameKind::OWNERS_FIRST`] are the link's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameKind(pub u8);

impl FrameKind {
    /// The first kind that the owner of a link may use.
    pub const OWNERS_FIRST: Self = Self(16);

    pub(crate) const HELLO: Self = Self(1);
    pub(crate) const REFUSED: Self = Self(2);
    pub(crate) const GOODBYE: Self = Self(3);
    pub(crate) const JOIN_REQUEST: Self = Self(4);
    pub(crate) const JOIN_ANSWER: Self = Self(5);
    pub(crate) const QUESTION: Self = Self(6);
    pub(crate) const ANSWER: Self = Self(7);
}

/// A frame to be sent.
#[derive(Clone, Debug)]
pub struct Frame {
    kind: FrameKind,
    segments: Vec<Bytes>,
    payload_size_bytes: u32,
}

/// A payload was longer than [`PAYLOAD_SIZE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {size_bytes} bytes is longer than {PAYLOAD_SIZE_BYTES_MAX}")]
pub struct FrameTooLarge {
    /// Size that was refused.
    pub size_bytes: usize,
}

/// What was read is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Larger than is allowed here.
    #[error("a frame of {size_bytes} bytes is longer than {size_bytes_max}")]
    TooLarge {
        /// What the header says.
        size_bytes: usize,
        /// What is allowed here.
        size_bytes_max: usize,
    },
    /// The checksum does not fit.
    #[error("a frame of kind {} and {size_bytes} bytes was damaged on its way", kind.0)]
    Damaged {
        /// What the header says.
        kind: FrameKind,
        /// What the header says.
        size_bytes: usize,
    },
}

impl Frame {
    /// A frame of one of the owner's kinds whose payload is the segments one after another.
    ///
    /// # Errors
    /// [`FrameTooLarge`].
    ///
    /// # Panics
    /// If the kind is one of the link's own.
    pub fn new(kind: FrameKind, segments: Vec<Bytes>) -> Result<Self, FrameTooLarge> {
        assert!(kind >= FrameKind::OWNERS_FIRST, "the kind is the owner's");
        Self::of_any_kind(kind, segments)
    }

    pub(crate) fn of_any_kind(
        kind: FrameKind,
        segments: Vec<Bytes>,
    ) -> Result<Self, FrameTooLarge> {
        let size_bytes = segments.iter().map(Bytes::len).sum();
        match u32::try_from(size_bytes) {
            Ok(payload_size_bytes) if size_bytes <= PAYLOAD_SIZE_BYTES_MAX => Ok(Self {
                kind,
                segments,
                payload_size_bytes,
            }),
            Ok(_) | Err(_) => Err(FrameTooLarge { size_bytes }),
        }
    }

    /// What the frame takes on the wire, in bytes.
    pub fn size_bytes(&self) -> usize {
        HEADER_SIZE_BYTES + self.segments.iter().map(Bytes::len).sum::<usize>()
    }

    /// Adds header and payload to what is to be written.
    pub(crate) fn encode(self, out: &mut impl Extend<Bytes>) {
        let mut header = [0; HEADER_SIZE_BYTES];
        header[..4].copy_from_slice(&self.payload_size_bytes.to_le_bytes());
        header[4] = self.kind.0;
        let seed = crc32c::crc32c(&header[..CHECKED_SIZE_BYTES]);
        let append = |crc, segment: &Bytes| crc32c::crc32c_append(crc, segment);
        let crc = self.segments.iter().fold(seed, append);
        header[CHECKED_SIZE_BYTES..].copy_from_slice(&crc.to_le_bytes());
        out.extend([Bytes::copy_from_slice(&header)]);
        out.extend(self.segments.into_iter().filter(|s| !s.is_empty()));
    }

    /// The whole frame as one piece, for small ones.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut pieces = Vec::new();
        self.clone().encode(&mut pieces);
        pieces.concat()
    }
}

/// Takes one frame off the front of `buffer`, or nothing if it is not complete.
///
/// # Errors
/// The buffer is of no use any more then.
pub(crate) fn decode(
    buffer: &mut BytesMut,
    payload_size_bytes_max: usize,
) -> Result<Option<(FrameKind, Bytes)>, FrameError> {
    let Some((size_bytes, kind)) = header(buffer) else {
        return Ok(None);
    };
    if size_bytes > payload_size_bytes_max {
        return Err(FrameError::TooLarge {
            size_bytes,
            size_bytes_max: payload_size_bytes_max,
        });
    }
    if buffer.len() < HEADER_SIZE_BYTES + size_bytes {
        return Ok(None);
    }
    let crc_is = crc32c::crc32c(&buffer[..CHECKED_SIZE_BYTES]);
    buffer.advance(CHECKED_SIZE_BYTES);
    let crc = buffer.get_u32_le();
    let payload = buffer.split_to(size_bytes).freeze();
    if crc32c::crc32c_append(crc_is, &payload) != crc {
        return Err(FrameError::Damaged { kind, size_bytes });
    }
    Ok(Some((kind, payload)))
}

/// Bytes that the frame at the front of `buffer` still needs, if its header is there.
pub(crate) fn missing_size_bytes(buffer: &BytesMut) -> usize {
    let whole = header(buffer).map_or(HEADER_SIZE_BYTES, |(size, _)| HEADER_SIZE_BYTES + size);
    whole.saturating_sub(buffer.len())
}

/// Length of the payload and kind.
fn header(buffer: &BytesMut) -> Option<(usize, FrameKind)> {
    let (length, rest) = buffer.split_first_chunk()?;
    let kind = *rest.first()?;
    if buffer.len() < HEADER_SIZE_BYTES {
        return None;
    }
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    Some((length, FrameKind(kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: FrameKind = FrameKind(200);

    fn frame(segments: &[&'static [u8]]) -> Frame {
        let segments = segments.iter().map(|s| Bytes::from_static(s)).collect();
        Frame::new(KIND, segments).expect("it is small")
    }

    #[test]
    fn a_frame_reads_back_however_it_arrives() {
        let bytes = [
            frame(&[b"ab", b"", b"c"]).to_bytes(),
            frame(&[]).to_bytes(),
            frame(&[b"last"]).to_bytes(),
        ]
        .concat();
        for step in 1..=bytes.len() {
            let mut buffer = BytesMut::new();
            let mut read = Vec::new();
            for piece in bytes.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = decode(&mut buffer, 4).expect("they are good") {
                    read.push(frame);
                }
            }
            let payloads = ["abc", "", "last"].map(|p| (KIND, Bytes::from_static(p.as_bytes())));
            assert_eq!(read, payloads, "in pieces of {step}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = frame(&[b"payload"]).to_bytes();
        for bit in 0..good.len() * 8 {
            let mut bytes = BytesMut::from(&good[..]);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = decode(&mut bytes, 1 << 10);
            assert!(!matches!(read, Ok(Some(_))), "bit {bit}: {read:?}");
        }
    }

    #[test]
    fn a_frame_that_is_too_large_is_refused_by_its_header_alone() {
        let bytes = frame(&[b"12345"]).to_bytes();
        let mut buffer = BytesMut::from(&bytes[..HEADER_SIZE_BYTES]);
        let refused = FrameError::TooLarge {
            size_bytes: 5,
            size_bytes_max: 4,
        };
        assert_eq!(decode(&mut buffer, 4), Err(refused));
        let mebibyte = Bytes::from(vec![0; 1 << 20]);
        assert!(Frame::new(KIND, vec![mebibyte.clone(); 64]).is_ok());
        let refused = Frame::new(KIND, vec![mebibyte; 65]).expect_err("it is too large");
        assert_eq!(refused.size_bytes, 65 << 20);
    }

    #[test]
    fn what_is_missing_is_known() {
        let bytes = frame(&[b"12345"]).to_bytes();
        for (have, missing) in [(0, 9), (8, 1), (9, 5), (13, 1), (14, 0)] {
            let buffer = BytesMut::from(&bytes[..have]);
            assert_eq!(missing_size_bytes(&buffer), missing, "of {have}");
        }
    }
}
