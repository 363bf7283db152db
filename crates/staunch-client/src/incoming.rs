//! What a server sends by itself: deliveries, confirms, returns.
//!
//! A message is method, header and body frames. Nearly always they lie one after the other in
//! the read buffer with a single body frame; then the message is handed out as slices of the
//! buffer. Anything else (several body frames, frames of other channels between) is put together
//! in [`Assembly`], which owns its bytes.

use std::ops::Range;

use staunch_amqp_codec::{
    content::ContentHeader,
    frame::{Frame, FrameKind, decode_frame},
    methods::{BasicDeliver, BasicGetOk, BasicReturn, Method},
};
use staunch_types::ChannelNumber;

use crate::{error::ClientError, transport::Transport};

/// Something the server sent by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A message for a consumer.
    Delivery(Delivery<'a>),
    /// Publishes were confirmed or refused.
    Confirm(Confirm),
    /// A mandatory message could not be routed.
    Returned(Returned<'a>),
    /// The server ended a consumer, for example because its queue was deleted.
    ConsumerCancelled {
        /// The consumer's channel.
        channel: ChannelNumber,
    },
    /// The server takes no more publishes for now; the reason is in
    /// [`crate::Connection::blocked_reason`].
    Blocked,
    /// It takes publishes again.
    Unblocked,
}

/// A message for a consumer (AMQP 0-9-1, basic.deliver).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// The consumer's channel.
    pub channel: ChannelNumber,
    /// The consumer.
    pub consumer_tag: &'a [u8],
    /// What an ack names.
    pub delivery_tag: u64,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Exchange it was published to.
    pub exchange: &'a [u8],
    /// Routing key it was published with.
    pub routing_key: &'a [u8],
    /// Encoded properties; see `staunch_types::properties`.
    pub properties: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

/// An answer to publishes (`basic.ack` and `basic.nack` from the server).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// The channel published on.
    pub channel: ChannelNumber,
    /// The publish, or with `multiple` the last of them.
    pub tag: u64,
    /// Whether all up to `tag` are meant.
    pub multiple: bool,
    /// Whether the server has taken them; otherwise they are refused.
    pub is_ack: bool,
}

/// A message that could not be routed (AMQP 0-9-1, basic.return).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned<'a> {
    /// The channel published on.
    pub channel: ChannelNumber,
    /// Why, as a code: 312 is no route.
    pub reply_code: u16,
    /// The exchange.
    pub exchange: &'a [u8],
    /// The routing key.
    pub routing_key: &'a [u8],
    /// Encoded properties.
    pub properties: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

/// A message with its method, as bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content<'a> {
    pub(crate) channel: u16,
    pub(crate) method: &'a [u8],
    pub(crate) properties: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl<'a> Content<'a> {
    /// The delivery or return this is; `None` for the answer to a get.
    #[inline]
    pub(crate) fn incoming(self) -> Result<Option<Incoming<'a>>, ClientError> {
        let Self {
            channel,
            method,
            properties,
            body,
        } = self;
        let channel = ChannelNumber(channel);
        if let [0, 60, 0, 60, arguments @ ..] = method {
            let deliver = BasicDeliver::decode(arguments)?;
            return Ok(Some(Incoming::Delivery(Delivery {
                channel,
                consumer_tag: deliver.consumer_tag.as_bytes(),
                delivery_tag: deliver.delivery_tag,
                redelivered: deliver.redelivered,
                exchange: deliver.exchange.as_bytes(),
                routing_key: deliver.routing_key.as_bytes(),
                properties,
                body,
            })));
        }
        if let [0, 60, 0, 50, arguments @ ..] = method {
            let returned = BasicReturn::decode(arguments)?;
            return Ok(Some(Incoming::Returned(Returned {
                channel,
                reply_code: returned.reply_code,
                exchange: returned.exchange.as_bytes(),
                routing_key: returned.routing_key.as_bytes(),
                properties,
                body,
            })));
        }
        Ok(None)
    }

    /// The answer to a get, if it is one.
    pub(crate) fn get_ok(self) -> Result<Option<BasicGetOk<'a>>, ClientError> {
        let [0, 60, 0, 71, arguments @ ..] = self.method else {
            return Ok(None);
        };
        Ok(Some(BasicGetOk::decode(arguments)?))
    }

    pub(crate) fn to_owned(self) -> Assembly {
        Assembly {
            method: self.method.to_vec(),
            properties: self.properties.to_vec(),
            body: self.body.to_vec(),
            body_size_bytes: Some(self.body.len()),
        }
    }
}

/// A message that is being put together, or that had to be kept.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    method: Vec<u8>,
    properties: Vec<u8>,
    body: Vec<u8>,
    /// Unknown until the header has come.
    body_size_bytes: Option<usize>,
}

impl Assembly {
    pub(crate) fn new(method: &[u8]) -> Self {
        Self {
            method: method.to_vec(),
            ..Self::default()
        }
    }

    /// Takes the next frame; gives whether the message is complete.
    pub(crate) fn push(&mut self, frame: Frame<'_>) -> Result<bool, ClientError> {
        let out_of_order = ClientError::ContentOutOfOrder {
            channel: frame.channel,
        };
        match (frame.kind, self.body_size_bytes) {
            (FrameKind::Header, None) => {
                let header = ContentHeader::decode(frame.payload)?;
                let size = usize::try_from(header.body_size_bytes).map_err(|_| out_of_order)?;
                self.properties.extend_from_slice(header.properties_raw);
                self.body_size_bytes = Some(size);
                Ok(size == 0)
            }
            (FrameKind::Body, Some(size)) => {
                self.body.extend_from_slice(frame.payload);
                if self.body.len() > size {
                    return Err(out_of_order);
                }
                Ok(self.body.len() == size)
            }
            _ => Err(out_of_order),
        }
    }

    pub(crate) fn content(&self, channel: u16) -> Content<'_> {
        let Self {
            method,
            properties,
            body,
            ..
        } = self;
        Content {
            channel,
            method,
            properties,
            body,
        }
    }
}

/// Where in the read buffer something lies.
#[derive(Clone, Debug)]
pub(crate) enum Scanned {
    /// A whole message in consecutive frames.
    Content {
        channel: u16,
        method: Range<usize>,
        properties: Range<usize>,
        body: Range<usize>,
    },
    /// Any other frame.
    Frame {
        kind: FrameKind,
        channel: u16,
        payload: Range<usize>,
    },
}

/// Takes the next message or frame from the buffer; `None` when it is not there completely.
#[inline]
pub(crate) fn scan(
    transport: &mut Transport,
    frame_max: u32,
) -> Result<Option<Scanned>, ClientError> {
    let unread = transport.unread();
    let base = transport.position();
    let Some((first, size)) = decode_frame(unread, frame_max)? else {
        return Ok(None);
    };
    let range_of = |part: &[u8]| {
        let start = base + (part.as_ptr() as usize - unread.as_ptr() as usize);
        start..start + part.len()
    };
    if first.kind == FrameKind::Method && starts_content(first.payload) {
        if let Some((header, header_size)) = decode_frame(&unread[size..], frame_max)? {
            let is_header = header.kind == FrameKind::Header && header.channel == first.channel;
            let content = if is_header {
                Some(ContentHeader::decode(header.payload)?)
            } else {
                None
            };
            let end = size + header_size;
            let body = match content {
                Some(ContentHeader {
                    body_size_bytes: 0, ..
                }) => Some((&unread[end..end], 0)),
                Some(ContentHeader {
                    body_size_bytes, ..
                }) => match decode_frame(&unread[end..], frame_max)? {
                    Some((body, body_size)) => {
                        let is_whole = body.kind == FrameKind::Body
                            && body.channel == first.channel
                            && body.payload.len() as u64 == body_size_bytes;
                        is_whole.then_some((body.payload, body_size))
                    }
                    None => return Ok(None),
                },
                None => None,
            };
            if let (Some(content), Some((body, body_size))) = (content, body) {
                let scanned = Scanned::Content {
                    channel: first.channel,
                    method: range_of(first.payload),
                    properties: range_of(content.properties_raw),
                    body: range_of(body),
                };
                transport.consume(end + body_size);
                return Ok(Some(scanned));
            }
        } else {
            return Ok(None);
        }
    }
    let Frame {
        kind,
        channel,
        payload,
    } = first;
    let scanned = Scanned::Frame {
        kind,
        channel,
        payload: range_of(payload),
    };
    transport.consume(size);
    Ok(Some(scanned))
}

/// Whether a method from a server is followed by a message.
#[inline]
pub(crate) fn starts_content(method: &[u8]) -> bool {
    matches!(method, [0, 60, 0, 50 | 60 | 71, ..])
}

/// The confirm, if the method is one.
#[inline]
pub(crate) fn confirm(channel: u16, method: &Method<'_>) -> Option<Confirm> {
    let channel = ChannelNumber(channel);
    match method {
        Method::BasicAck(ack) => {
            let (tag, multiple) = (ack.delivery_tag, ack.multiple);
            Some(Confirm {
                channel,
                tag,
                multiple,
                is_ack: true,
            })
        }
        Method::BasicNack(nack) => {
            let (tag, multiple) = (nack.delivery_tag, nack.multiple);
            Some(Confirm {
                channel,
                tag,
                multiple,
                is_ack: false,
            })
        }
        _ => None,
    }
}
