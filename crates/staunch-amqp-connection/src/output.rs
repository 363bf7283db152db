//! Bytes on their way to the peer, and what the node may be told has left.
//!
//! Frames are appended to one buffer that the runtime swaps out. Deliveries are counted twice:
//! in the node's currency (`credit`), to give it back once they are written, and in bytes, to
//! tell them from replies. Only replies count against the limit that stops reading: deliveries
//! are bounded by the node, and if they stopped the reading of acks, a client that writes before
//! it reads could block both sides for ever.

use staunch_amqp_codec::{
    content::{CONTENT_CLASS_ID, encode_body, encode_content},
    frame::{FRAME_END, FRAME_HEADER_BYTES, FrameKind, frame_header},
    methods::{BasicGetOk, BasicReturn, Method},
    wire::ShortStr,
};
use staunch_types::{Delivery, Message, Name};

use crate::error::ReplyCode;

/// Bytes of replies and confirms that may wait for the socket before reading stops.
pub const REPLIES_SIZE_BYTES_MAX: usize = 4 << 20;

/// Written deliveries are reported in portions of at least this, unless nothing is left to write.
const DRAINED_SIZE_BYTES_MIN: u64 = 64 << 10;

/// Output buffer and the accounts that go with it.
#[derive(Debug, Default)]
pub(crate) struct Output {
    buffer: Vec<u8>,
    /// Bytes of deliveries in `buffer`.
    delivery_size_bytes: usize,
    /// Bytes of replies the runtime took and has not reported written.
    replies_taken_size_bytes: usize,
    /// Credit of deliveries in `buffer`.
    credit_buffered: u64,
    /// Credit of deliveries the runtime took and has not reported written.
    credit_taken: u64,
    /// Credit to be given back to the node.
    credit_drained: u64,
    is_taken: bool,
    /// How much was taken the last time.
    size_last: usize,
}

/// Bytes for which room is made at once, if as many were taken the last time.
const ROOM_SIZE_BYTES_MAX: usize = 2 << 20;

impl Output {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Whether so many replies wait for the socket that reading must stop.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        let buffered = self.buffer.len() - self.delivery_size_bytes;
        buffered + self.replies_taken_size_bytes > REPLIES_SIZE_BYTES_MAX
    }

    /// The buffer, for encoders of replies.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Appends bytes that are no frame: a protocol header.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Appends a method frame.
    pub(crate) fn method<'a>(&mut self, channel: u16, method: impl Into<Method<'a>>) {
        method.into().encode_frame(channel, &mut self.buffer);
    }

    /// Appends a method with a message after it.
    fn method_with_message<'a>(
        &mut self,
        channel: u16,
        method: impl Into<Method<'a>>,
        message: &Message,
        frame_max: u32,
    ) {
        self.method(channel, method);
        let (properties, body) = (message.properties(), message.body());
        encode_content(&mut self.buffer, channel, properties, body, frame_max);
    }

    /// Appends `basic.return` (AMQP 0-9-1, basic.return).
    pub(crate) fn returned(&mut self, channel: u16, message: &Message, frame_max: u32) {
        let method = BasicReturn {
            reply_code: ReplyCode::NoRoute.code(),
            reply_text: ShortStr::from_static(ReplyCode::NoRoute.name()),
            exchange: short(message.exchange()),
            routing_key: short(message.routing_key()),
        };
        self.method_with_message(channel, method, message, frame_max);
    }

    /// Appends `basic.deliver` and its message.
    #[inline]
    pub(crate) fn deliver(
        &mut self,
        consumer: &DeliverFrame,
        tag: u64,
        delivery: &Delivery,
        frame_max: u32,
    ) {
        if self.buffer.is_empty() {
            self.buffer.reserve(self.size_last);
        }
        let before = self.buffer.len();
        consumer.write(&mut self.buffer, tag, delivery, frame_max);
        self.delivery_size_bytes += self.buffer.len() - before;
        self.credit_buffered += delivery.outbound_size_bytes();
    }

    /// Appends `basic.get-ok` and its message, which counts as a delivery.
    pub(crate) fn got(&mut self, get_ok: BasicGetOk<'_>, delivery: &Delivery, frame_max: u32) {
        let before = self.buffer.len();
        self.method_with_message(delivery.channel.0, get_ok, &delivery.message, frame_max);
        self.delivery_size_bytes += self.buffer.len() - before;
        self.credit_buffered += delivery.outbound_size_bytes();
    }

    /// A delivery that is not written counts as written at once.
    pub(crate) fn drop_delivery(&mut self, delivery: &Delivery) {
        self.credit_drained += delivery.outbound_size_bytes();
    }

    /// Moves everything to `into`.
    pub(crate) fn take(&mut self, into: &mut Vec<u8>) {
        if self.buffer.is_empty() {
            return;
        }
        self.is_taken = true;
        self.size_last = self.buffer.len().min(ROOM_SIZE_BYTES_MAX);
        self.replies_taken_size_bytes += self.buffer.len() - self.delivery_size_bytes;
        self.credit_taken += std::mem::take(&mut self.credit_buffered);
        self.delivery_size_bytes = 0;
        if into.is_empty() {
            std::mem::swap(&mut self.buffer, into);
        } else {
            into.append(&mut self.buffer);
        }
    }

    /// Everything taken so far is with the socket.
    pub(crate) fn written(&mut self) {
        self.is_taken = false;
        self.replies_taken_size_bytes = 0;
        self.credit_drained += std::mem::take(&mut self.credit_taken);
    }

    /// Credit for the node: when it is worth waking the node for, or when the node is to be
    /// woken anyway. Less than the minimum never keeps deliveries back, so it may wait for ever.
    pub(crate) fn take_drained(&mut self, rides_along: bool) -> Option<u64> {
        let is_due = self.credit_drained >= DRAINED_SIZE_BYTES_MIN;
        if is_due || (self.credit_drained > 0 && rides_along) {
            return Some(std::mem::take(&mut self.credit_drained));
        }
        None
    }

    pub(crate) fn check_invariants(&self) {
        assert!(
            self.delivery_size_bytes <= self.buffer.len(),
            "deliveries are part of the buffer"
        );
        assert!(
            !self.buffer.is_empty() || self.credit_buffered == 0,
            "credit waits only for bytes that are there"
        );
        assert!(
            self.is_taken || self.credit_taken == 0,
            "credit follows the bytes it is for"
        );
    }
}

/// What is the same in every `basic.deliver` of one consumer.
#[derive(Debug)]
pub(crate) struct DeliverFrame {
    channel: u16,
    /// Frame header with the size still open, method id, consumer tag.
    start: Box<[u8]>,
}

impl DeliverFrame {
    pub(crate) fn new(channel: u16, consumer_tag: &Name) -> Self {
        let mut start = frame_header(FrameKind::Method, channel, 0).to_vec();
        start.extend_from_slice(&[0, 60, 0, 60]);
        start.push(u8::try_from(consumer_tag.len()).expect("a name is a short string"));
        start.extend_from_slice(consumer_tag);
        Self {
            channel,
            start: start.into(),
        }
    }

    /// Bytes that hold the tag, the flag and the lengths of exchange and routing key.
    const FIXED_SIZE: usize = 8 + 1 + 1 + 1;

    #[inline]
    fn write(&self, out: &mut Vec<u8>, tag: u64, delivery: &Delivery, frame_max: u32) {
        let message = &delivery.message;
        let (exchange, routing_key) = (message.exchange(), message.routing_key());
        let (properties, body) = (message.properties(), message.body());
        let names_size = exchange.len() + routing_key.len();
        let method_size = self.start.len() + Self::FIXED_SIZE + names_size + 1;
        // Exact for a body of one frame; several are large enough to pay for growing.
        out.reserve(method_size + 20 + properties.len() + 8 + body.len());

        let begin = out.len();
        out.extend_from_slice(&self.start);
        let payload_size = u32::try_from(method_size - FRAME_HEADER_BYTES - 1)
            .expect("three short strings fit in a frame");
        out[begin + 3..begin + 7].copy_from_slice(&payload_size.to_be_bytes());
        let mut fixed = [0; 10];
        fixed[..8].copy_from_slice(&tag.to_be_bytes());
        fixed[8] = u8::from(delivery.redelivered);
        fixed[9] = length_octet(exchange);
        out.extend_from_slice(&fixed);
        out.extend_from_slice(exchange);
        out.push(length_octet(routing_key));
        out.extend_from_slice(routing_key);
        out.push(FRAME_END);

        let mut header = [0; 19];
        header[..7].copy_from_slice(&frame_header(
            FrameKind::Header,
            self.channel,
            12 + properties.len(),
        ));
        header[7..9].copy_from_slice(&CONTENT_CLASS_ID.to_be_bytes());
        header[11..].copy_from_slice(&(body.len() as u64).to_be_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(properties);
        out.push(FRAME_END);
        encode_body(out, self.channel, body, frame_max);
    }
}

/// A name from a message, which is never longer than a short string.
pub(crate) fn short(name: &[u8]) -> ShortStr<'_> {
    ShortStr::new(name).expect("a message's names are short strings")
}

#[inline]
fn length_octet(name: &[u8]) -> u8 {
    u8::try_from(name.len()).expect("a message's names are short strings")
}

#[cfg(test)]
mod tests {
    use staunch_amqp_codec::{content::encode_deliver, methods::BasicDeliver};
    use staunch_types::{ChannelNumber, ConsumerKey, MessageIndex, QueueId};

    use super::*;

    fn delivery(body: &[u8]) -> Delivery {
        Delivery {
            channel: ChannelNumber(3),
            consumer: ConsumerKey(1),
            queue: QueueId(1),
            index: MessageIndex(0),
            redelivered: true,
            settled: false,
            message: Message::copied(b"logs", b"a.b", b"\x10\x00\x02", body),
        }
    }

    #[test]
    fn the_cached_frame_is_what_the_codec_writes() {
        for size in [0, 5, 9000] {
            let delivery = delivery(&vec![7; size]);
            let mut ours = Vec::new();
            DeliverFrame::new(3, &Name::from_static("tag")).write(&mut ours, 9, &delivery, 8192);
            let mut codecs = Vec::new();
            let method = BasicDeliver {
                consumer_tag: ShortStr::from_static("tag"),
                delivery_tag: 9,
                redelivered: true,
                exchange: short(b"logs"),
                routing_key: short(b"a.b"),
            };
            encode_deliver(&mut codecs, 3, &method);
            let message = &delivery.message;
            encode_content(&mut codecs, 3, message.properties(), message.body(), 8192);
            assert_eq!(ours, codecs);
        }
    }

    #[test]
    fn credit_returns_when_written_in_portions() {
        let mut output = Output::default();
        let frame = DeliverFrame::new(3, &Name::from_static("tag"));
        let delivery = delivery(&[0; 1000]);
        output.deliver(&frame, 1, &delivery, 8192);
        assert_eq!(output.take_drained(true), None);
        let mut taken = Vec::new();
        output.take(&mut taken);
        assert_eq!(output.take_drained(true), None);
        output.written();
        assert_eq!(
            output.take_drained(false),
            None,
            "not worth a request of its own"
        );
        let size_bytes = delivery.outbound_size_bytes();
        assert_eq!(output.take_drained(true), Some(size_bytes));
        let many = DRAINED_SIZE_BYTES_MIN / size_bytes + 1;
        for tag in 0..many {
            output.deliver(&frame, tag, &delivery, 8192);
        }
        output.take(&mut taken);
        output.written();
        assert_eq!(output.take_drained(false), Some(many * size_bytes));
        output.check_invariants();
    }
}
