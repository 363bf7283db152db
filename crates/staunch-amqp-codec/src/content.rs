//! Content: the header and the body frames that follow publish, deliver, return and get-ok.
//!
//! ```text
//! header payload: class: u16 | weight: u16 | body size: u64 | properties   (AMQP 0-9-1, 2.3.5.2)
//! ```
//!
//! The properties stay as they arrived; `staunch_types::properties` reads them. The encoders of
//! this file append to a buffer that the connection keeps, and are what a message costs on its
//! way out, so they reserve once and write whole frames.

use crate::frame::{FRAME_END, FRAME_OVERHEAD_BYTES, FrameKind, PAYLOAD_BYTES_MAX, frame_header};
use crate::methods::{BasicAck, BasicDeliver, BasicNack, BasicPublish};

/// The class of all content (AMQP 0-9-1, basic).
pub const CONTENT_CLASS_ID: u16 = 60;

/// Bytes of a content header before the properties.
const FIXED_BYTES: usize = 12;

/// Why a content header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentHeaderError {
    /// The payload is shorter than the fixed fields.
    #[error("content header has {size_bytes} bytes, fewer than {FIXED_BYTES}")]
    Truncated {
        /// Its size.
        size_bytes: usize,
    },
    /// The header belongs to another class than basic.
    #[error("content header is of class {class_id}")]
    WrongClass {
        /// The class found.
        class_id: u16,
    },
}

/// A content header, borrowed from its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// How many bytes the body frames carry together.
    pub body_size_bytes: u64,
    /// Flags and properties, not checked yet: see `staunch_types::properties::Properties`.
    pub properties_raw: &'a [u8],
}

impl<'a> ContentHeader<'a> {
    /// Reads the payload of a header frame. The weight, reserved by AMQP, is ignored.
    ///
    /// # Errors
    /// [`ContentHeaderError`].
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, ContentHeaderError> {
        let Some((fixed, properties_raw)) = payload.split_first_chunk::<FIXED_BYTES>() else {
            return Err(ContentHeaderError::Truncated {
                size_bytes: payload.len(),
            });
        };
        let [k1, k0, _, _, b7, b6, b5, b4, b3, b2, b1, b0] = *fixed;
        let class_id = u16::from_be_bytes([k1, k0]);
        if class_id != CONTENT_CLASS_ID {
            return Err(ContentHeaderError::WrongClass { class_id });
        }
        let body_size_bytes = u64::from_be_bytes([b7, b6, b5, b4, b3, b2, b1, b0]);
        Ok(Self {
            body_size_bytes,
            properties_raw,
        })
    }
}

/// Appends a header frame to `out`.
#[inline]
pub fn encode_content_header(
    out: &mut Vec<u8>,
    channel: u16,
    properties_raw: &[u8],
    body_size_bytes: u64,
) {
    let header = frame_header(
        FrameKind::Header,
        channel,
        FIXED_BYTES + properties_raw.len(),
    );
    let mut start = [0; 7 + FIXED_BYTES];
    start[..7].copy_from_slice(&header);
    start[7..9].copy_from_slice(&CONTENT_CLASS_ID.to_be_bytes());
    start[11..].copy_from_slice(&body_size_bytes.to_be_bytes());
    out.extend_from_slice(&start);
    out.extend_from_slice(properties_raw);
    out.push(FRAME_END);
}

/// How many bytes of a body one frame may carry; at least one.
#[must_use]
pub fn body_bytes_per_frame(frame_max: u32) -> usize {
    let frame_max = if frame_max == 0 {
        PAYLOAD_BYTES_MAX
    } else {
        frame_max
    };
    frame_max.saturating_sub(FRAME_OVERHEAD_BYTES).max(1) as usize
}

/// Appends a body to `out`, in as few frames as `frame_max` allows; an empty body has none.
#[inline]
pub fn encode_body(out: &mut Vec<u8>, channel: u16, body: &[u8], frame_max: u32) {
    for part in body.chunks(body_bytes_per_frame(frame_max)) {
        out.extend_from_slice(&frame_header(FrameKind::Body, channel, part.len()));
        out.extend_from_slice(part);
        out.push(FRAME_END);
    }
}

/// Appends header and body frames to `out`.
#[inline]
pub fn encode_content(
    out: &mut Vec<u8>,
    channel: u16,
    properties_raw: &[u8],
    body: &[u8],
    frame_max: u32,
) {
    // Exact but for bodies of several frames, which are large enough to grow the buffer anyway.
    out.reserve(7 + FIXED_BYTES + properties_raw.len() + 1 + 8 + body.len());
    encode_content_header(out, channel, properties_raw, body.len() as u64);
    encode_body(out, channel, body, frame_max);
}

/// Appends a `basic.deliver` frame to `out`; the content follows.
#[inline]
pub fn encode_deliver(out: &mut Vec<u8>, channel: u16, deliver: &BasicDeliver<'_>) {
    deliver.encode_frame(channel, out);
}

/// Appends a `basic.publish` frame to `out`; the content follows.
#[inline]
pub fn encode_publish(out: &mut Vec<u8>, channel: u16, publish: &BasicPublish<'_>) {
    publish.encode_frame(channel, out);
}

/// Appends a `basic.ack` frame to `out`.
#[inline]
pub fn encode_ack(out: &mut Vec<u8>, channel: u16, ack: BasicAck) {
    ack.encode_frame(channel, out);
}

/// Appends a `basic.nack` frame to `out`.
#[inline]
pub fn encode_nack(out: &mut Vec<u8>, channel: u16, nack: BasicNack) {
    nack.encode_frame(channel, out);
}
