//! Frames and the protocol header.
//!
//! ```text
//! frame: type: u8 | channel: u16 | payload size: u32 | payload | 0xCE      (AMQP 0-9-1, 2.3.5)
//! ```
//!
//! A frame is returned when all of it is there; until then nothing is judged but the size, so
//! the result does not depend on how the bytes were cut into reads.

use crate::wire::size_u32;

/// The octet after each payload.
pub const FRAME_END: u8 = 0xCE;

/// Bytes before a payload.
pub const FRAME_HEADER_BYTES: usize = 7;

/// Bytes around a payload: what `frame_max` includes and the payload size does not.
pub const FRAME_OVERHEAD_BYTES: u32 = 8;

/// The least `frame_max` that may be negotiated (AMQP 0-9-1, frame-min-size).
pub const FRAME_MIN_SIZE_BYTES: u32 = 4_096;

/// The limit on payloads when `frame_max` is 0, "no limit": no message is larger.
pub const PAYLOAD_BYTES_MAX: u32 = 512 << 20;

/// The protocol header of AMQP 0-9-1: what a client sends first, and a server's refusal.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// A whole heartbeat frame.
pub const HEARTBEAT_FRAME: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, FRAME_END];

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A method; see [`crate::methods::Method::decode`].
    Method = 1,
    /// A content header; see [`crate::content::ContentHeader::decode`].
    Header = 2,
    /// A part of a body.
    Body = 3,
    /// A sign of life, on channel 0 and empty.
    Heartbeat = 8,
}

impl FrameKind {
    #[inline]
    fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(Self::Method),
            2 => Some(Self::Header),
            3 => Some(Self::Body),
            8 => Some(Self::Heartbeat),
            _ => None,
        }
    }
}

/// One frame, borrowed from the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload is.
    pub kind: FrameKind,
    /// The channel, 0 for the connection itself.
    pub channel: u16,
    /// The bytes between header and end octet.
    pub payload: &'a [u8],
}

/// Why a frame cannot be read. Each closes the connection with 501 `FRAME_ERROR`; the fields
/// are what RabbitMQ's text shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The type octet is not 1, 2, 3 or 8.
    #[error("frame on channel {channel} has unknown type {type_octet}")]
    UnknownType {
        /// The type found.
        type_octet: u8,
        /// The channel.
        channel: u16,
        /// How the payload begins.
        start: PayloadStart,
    },
    /// The octet after the payload is not [`FRAME_END`].
    #[error("frame of type {type_octet} on channel {channel} ends with {end_octet}")]
    BadEnd {
        /// The type of the frame.
        type_octet: u8,
        /// The channel.
        channel: u16,
        /// The octet found.
        end_octet: u8,
        /// How the payload begins.
        start: PayloadStart,
    },
    /// The payload is larger than the negotiated `frame_max` allows.
    #[error(
        "frame of type {type_octet} on channel {channel} has a payload of {payload_size_bytes} \
         bytes, more than {payload_size_bytes_max}"
    )]
    TooLarge {
        /// The type of the frame.
        type_octet: u8,
        /// The channel.
        channel: u16,
        /// The size announced.
        payload_size_bytes: u32,
        /// The strict limit, without the tolerance of 8 bytes.
        payload_size_bytes_max: u32,
    },
}

/// The first bytes of a payload, for an error text: RabbitMQ prints `all octets = …` or
/// `first 16 octets = …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadStart {
    octets: [u8; 16],
    payload_size: usize,
}

impl PayloadStart {
    fn new(payload: &[u8]) -> Self {
        let mut octets = [0; 16];
        let size = payload.len().min(octets.len());
        octets[..size].copy_from_slice(&payload[..size]);
        Self {
            octets,
            payload_size: payload.len(),
        }
    }

    /// At most the first 16 octets.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets[..self.payload_size.min(self.octets.len())]
    }

    /// Whether [`PayloadStart::octets`] is the whole payload.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.payload_size <= self.octets.len()
    }
}

/// Takes one frame from the start of `input`.
///
/// Returns the frame and how many bytes it takes, or `None` when it is not complete. A payload
/// may be as large as `frame_max` itself, 8 bytes more than AMQP allows: RabbitMQ tolerates
/// clients that forget the overhead. `frame_max` 0 means [`PAYLOAD_BYTES_MAX`].
///
/// # Errors
/// [`FrameError`]; nothing after it in the stream can be trusted.
#[inline]
pub fn decode_frame(
    input: &[u8],
    frame_max: u32,
) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((&[type_octet, c1, c0, s3, s2, s1, s0], rest)) = input.split_first_chunk() else {
        return Ok(None);
    };
    let channel = u16::from_be_bytes([c1, c0]);
    let payload_size_bytes = u32::from_be_bytes([s3, s2, s1, s0]);
    let limit = if frame_max == 0 {
        PAYLOAD_BYTES_MAX
    } else {
        frame_max
    };
    if payload_size_bytes > limit {
        return Err(FrameError::TooLarge {
            type_octet,
            channel,
            payload_size_bytes,
            payload_size_bytes_max: limit.saturating_sub(FRAME_OVERHEAD_BYTES),
        });
    }
    let payload_size = payload_size_bytes as usize;
    let (Some(payload), Some(&end_octet)) = (rest.get(..payload_size), rest.get(payload_size))
    else {
        return Ok(None);
    };
    let kind = FrameKind::from_octet(type_octet);
    match kind {
        Some(kind) if end_octet == FRAME_END => {
            let frame = Frame {
                kind,
                channel,
                payload,
            };
            Ok(Some((frame, FRAME_HEADER_BYTES + payload_size + 1)))
        }
        _ => Err(malformed(type_octet, channel, end_octet, payload)),
    }
}

/// Appends a whole frame to `out`.
pub fn encode_frame(frame: Frame<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&frame_header(
        frame.kind,
        frame.channel,
        frame.payload.len(),
    ));
    out.extend_from_slice(frame.payload);
    out.push(FRAME_END);
}

/// The bytes before a payload, for a caller that writes a large payload from where it lies;
/// [`FRAME_END`] goes after it.
#[inline]
#[must_use]
pub fn frame_header(kind: FrameKind, channel: u16, payload_size: usize) -> [u8; 7] {
    let [c1, c0] = channel.to_be_bytes();
    let [s3, s2, s1, s0] = size_u32(payload_size).to_be_bytes();
    [kind as u8, c1, c0, s3, s2, s1, s0]
}

#[cold]
fn malformed(type_octet: u8, channel: u16, end_octet: u8, payload: &[u8]) -> FrameError {
    let start = PayloadStart::new(payload);
    // The end octet is judged first, as RabbitMQ does.
    if end_octet == FRAME_END {
        FrameError::UnknownType {
            type_octet,
            channel,
            start,
        }
    } else {
        FrameError::BadEnd {
            type_octet,
            channel,
            end_octet,
            start,
        }
    }
}

/// What the first eight bytes of a connection announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolHeader {
    /// `AMQP 0 0 9 1`
    Amqp091,
    /// `AMQP 1 1 0 9`: 0-9, which may be served as 0-9-1.
    Amqp09,
    /// `AMQP 1 1 8 0` and `AMQP 1 1 9 1`: two spellings of 0-8.
    Amqp08,
    /// `AMQP 3 1 0 0` (SASL) and `AMQP 0 1 0 0`.
    Amqp10 {
        /// Whether the SASL layer is asked for.
        sasl: bool,
    },
    /// `AMQP` and some other version.
    UnknownVersion([u8; 4]),
    /// A TLS handshake on the plain port.
    TlsClientHello,
    /// An HTTP request.
    Http,
    /// Anything else.
    NotAmqp([u8; 8]),
}

impl ProtocolHeader {
    /// Reads the first eight bytes of a connection; `None` while there are fewer.
    #[must_use]
    pub fn decode(input: &[u8]) -> Option<Self> {
        let (first, _) = input.split_first_chunk::<8>()?;
        let [b'A', b'M', b'Q', b'P', version @ ..] = *first else {
            return Some(Self::foreign(*first));
        };
        Some(match version {
            [0, 0, 9, 1] => Self::Amqp091,
            [1, 1, 0, 9] => Self::Amqp09,
            [1, 1, 8, 0] | [1, 1, 9, 1] => Self::Amqp08,
            [3, 1, 0, 0] => Self::Amqp10 { sasl: true },
            [0, 1, 0, 0] => Self::Amqp10 { sasl: false },
            other => Self::UnknownVersion(other),
        })
    }

    /// The header a server that speaks only 0-9-1 answers with before it closes.
    #[must_use]
    pub fn refusal(self) -> [u8; 8] {
        PROTOCOL_HEADER
    }

    fn foreign(first: [u8; 8]) -> Self {
        const HTTP_METHODS: [&[u8]; 5] = [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE "];
        if HTTP_METHODS.iter().any(|method| first.starts_with(method)) {
            Self::Http
        } else if first.starts_with(&[0x16, 0x03]) {
            Self::TlsClientHello
        } else {
            Self::NotAmqp(first)
        }
    }
}
