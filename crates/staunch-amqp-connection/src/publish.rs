//! `basic.publish` and its content (AMQP 0-9-1, section 4.2.6).
//!
//! A publish is a method, a header and body frames. Nearly always all of them are small and lie
//! complete in the read buffer; [`WholePublish::parse`] takes those in one step and the message
//! borrows the buffer. Whatever it does not recognise as perfect it leaves alone, and the frames
//! go one by one through [`Assembly`], which collects exchange, routing key, properties and body
//! in one buffer. The buffer grows as bytes arrive: the announced size is checked, but never
//! trusted for an allocation.

use bytes::Bytes;
use staunch_amqp_codec::{
    content::{CONTENT_CLASS_ID, ContentHeader, ContentHeaderError},
    frame::{FRAME_END, FRAME_HEADER_BYTES, Frame, FrameKind, PAYLOAD_BYTES_MAX},
    methods::BasicPublish,
};
use staunch_types::{Message, properties::Properties};

use crate::error::PeerError;

/// The three frames of a small publish, borrowed from the read buffer.
pub(crate) struct WholePublish<'a> {
    pub(crate) channel: u16,
    pub(crate) mandatory: bool,
    exchange: &'a [u8],
    routing_key: &'a [u8],
    properties: &'a [u8],
    body: &'a [u8],
    /// Bytes the frames take together.
    pub(crate) size: usize,
}

impl<'a> WholePublish<'a> {
    /// Recognises a complete, correct publish with at most one body frame. `None` is no error:
    /// the frames are then read one by one.
    #[inline]
    pub(crate) fn parse(
        input: &'a [u8],
        frame_max: u32,
        body_size_bytes_max: usize,
    ) -> Option<Self> {
        let (channel, method, rest) = frame_of(FrameKind::Method, input, frame_max)?;
        let [0, 60, 0, 40, _, _, method @ ..] = method else {
            return None;
        };
        let (exchange, method) = short_str(method)?;
        let (routing_key, method) = short_str(method)?;
        // Bit 1 is `immediate`, which is refused; unknown bits are left to the codec.
        let &[bits @ 0..=1] = method else { return None };

        let (header_channel, header, mut rest) = frame_of(FrameKind::Header, rest, frame_max)?;
        let (fixed, properties) = header.split_first_chunk::<12>()?;
        let [0, 60, _, _, b7, b6, b5, b4, b3, b2, b1, b0] = *fixed else {
            return None;
        };
        let body_size = u64::from_be_bytes([b7, b6, b5, b4, b3, b2, b1, b0]);
        if header_channel != channel || Properties::parse(properties).is_err() {
            return None;
        }
        let mut body: &[u8] = &[];
        if body_size > 0 {
            let (body_channel, payload, after) = frame_of(FrameKind::Body, rest, frame_max)?;
            if body_channel != channel || payload.len() as u64 != body_size {
                return None;
            }
            (body, rest) = (payload, after);
        }
        if body.len() > body_size_bytes_max {
            return None;
        }
        let size = input.len() - rest.len();
        let mandatory = bits == 1;
        Some(Self {
            channel,
            mandatory,
            exchange,
            routing_key,
            properties,
            body,
            size,
        })
    }

    /// The message; it holds on to `buffer`, of which this publish is a part.
    #[inline]
    pub(crate) fn message(&self, buffer: &Bytes) -> Message {
        let (exchange, routing_key) = (self.exchange, self.routing_key);
        Message::from_parts(
            buffer.clone(),
            exchange,
            routing_key,
            self.properties,
            self.body,
        )
    }
}

#[inline]
fn frame_of(kind: FrameKind, input: &[u8], frame_max: u32) -> Option<(u16, &[u8], &[u8])> {
    let (&[octet, c1, c0, s3, s2, s1, s0], rest) =
        input.split_first_chunk::<FRAME_HEADER_BYTES>()?;
    let size = u32::from_be_bytes([s3, s2, s1, s0]);
    let limit = if frame_max == 0 {
        PAYLOAD_BYTES_MAX
    } else {
        frame_max
    };
    if octet != kind as u8 || size > limit {
        return None;
    }
    let (payload, rest) = rest.split_at_checked(size as usize)?;
    let (&end, rest) = rest.split_first()?;
    (end == FRAME_END).then_some((u16::from_be_bytes([c1, c0]), payload, rest))
}

#[inline]
fn short_str(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&size, rest) = input.split_first()?;
    rest.split_at_checked(usize::from(size))
}

/// A publish whose frames come one by one.
#[derive(Debug)]
pub(crate) struct Assembly {
    pub(crate) mandatory: bool,
    exchange_size: usize,
    routing_key_size: usize,
    /// Set by the content header.
    header: Option<Header>,
    /// Exchange, routing key, properties and as much of the body as has come.
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Header {
    properties_size: usize,
    body_left: u64,
}

impl Assembly {
    pub(crate) fn new(method: &BasicPublish<'_>) -> Self {
        let buffer = [method.exchange.as_bytes(), method.routing_key.as_bytes()].concat();
        Self {
            mandatory: method.mandatory,
            exchange_size: method.exchange.len(),
            routing_key_size: method.routing_key.len(),
            header: None,
            buffer,
        }
    }

    /// Bytes held.
    pub(crate) fn size_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Takes the next frame of the content. True when it was the last.
    ///
    /// # Errors
    /// A frame out of place (505), a body longer than announced (501), malformed properties
    /// (502), a body above the limit (406).
    pub(crate) fn push(
        &mut self,
        frame: Frame<'_>,
        body_size_bytes_max: usize,
    ) -> Result<bool, PeerError> {
        match (&mut self.header, frame.kind) {
            (None, FrameKind::Header) => self.push_header(frame.payload, body_size_bytes_max),
            (None, FrameKind::Method | FrameKind::Body | FrameKind::Heartbeat) => {
                Err(PeerError::HeaderExpected)
            }
            (Some(header), FrameKind::Body) => {
                let (size, left) = (frame.payload.len() as u64, header.body_left);
                header.body_left = left.checked_sub(size).ok_or(PeerError::BodyTooLong)?;
                self.buffer.extend_from_slice(frame.payload);
                Ok(header.body_left == 0)
            }
            (Some(_), FrameKind::Method | FrameKind::Header | FrameKind::Heartbeat) => {
                Err(PeerError::BodyExpected)
            }
        }
    }

    /// The message, once [`Assembly::push`] has said that it is complete.
    pub(crate) fn into_message(self) -> Message {
        let header = self.header.expect("a complete content has had its header");
        assert_eq!(header.body_left, 0, "a complete content has had its body");
        let buffer = Bytes::from(self.buffer);
        let (exchange, rest) = buffer.split_at(self.exchange_size);
        let (routing_key, rest) = rest.split_at(self.routing_key_size);
        let (properties, body) = rest.split_at(header.properties_size);
        Message::from_parts(buffer.clone(), exchange, routing_key, properties, body)
    }

    fn push_header(
        &mut self,
        payload: &[u8],
        body_size_bytes_max: usize,
    ) -> Result<bool, PeerError> {
        let header = ContentHeader::decode(payload).map_err(|error| match error {
            ContentHeaderError::WrongClass { class_id } => PeerError::HeaderOfClass { class_id },
            ContentHeaderError::Truncated { .. } => PeerError::HeaderExpected,
        })?;
        let (size_bytes, size_bytes_max) = (header.body_size_bytes, body_size_bytes_max as u64);
        if size_bytes > size_bytes_max {
            return Err(PeerError::MessageTooLarge {
                size_bytes,
                size_bytes_max,
            });
        }
        Properties::parse(header.properties_raw).map_err(PeerError::Properties)?;
        self.buffer.extend_from_slice(header.properties_raw);
        let properties_size = header.properties_raw.len();
        self.header = Some(Header {
            properties_size,
            body_left: size_bytes,
        });
        Ok(size_bytes == 0)
    }
}

const _: () = assert!(CONTENT_CLASS_ID == 60, "the class the patterns above match");
