//! The events that travel between nodes: what a queue's server tells a client.
//!
//! ```text
//! event      u8 kind | u16 channel | fields
//! CONSUMING  u32 consumer | u8 has a timeout | u64 milliseconds if it has
//! CANCELLED, CONSUMER_CANCELLED  u32 consumer
//! GOT        delivery | u64 ready         GOT_NOTHING
//! PURGED, MAY_DELETE  u64 count
//! COUNTS     u64 ready | u32 consumers
//! REFUSED    u8 operation | u8 class | text
//! DELIVERY   delivery
//! CLOSED
//! delivery   u32 consumer | u64 queue | u64 index | u8 redelivered | u8 settled | u32 | stored
//! ```
//!
//! A refusal travels as its text and what kind of mistake it is: the client is told no more.

use std::time::Duration;

use staunch_types::{
    ChannelNumber, ConsumerKey, Delivery, Event, MessageIndex, Operation, QueueId, Refusal, Reply,
};

use super::bytes_io::{Segments, Taker, WireError};

const CONSUMING: u8 = 1;
const CANCELLED: u8 = 2;
const GOT: u8 = 3;
const GOT_NOTHING: u8 = 4;
const PURGED: u8 = 5;
const COUNTS: u8 = 6;
const MAY_DELETE: u8 = 7;
const REFUSED: u8 = 8;
const DELIVERY: u8 = 9;
const CONSUMER_CANCELLED: u8 = 10;
const CLOSED: u8 = 11;

/// Whether the event is one that a client on another node is told by a queue's server.
pub(crate) fn travels(event: &Event) -> bool {
    match event {
        Event::Reply { reply, .. } => match reply {
            Reply::Consuming { .. }
            | Reply::Cancelled { .. }
            | Reply::Got { .. }
            | Reply::GotNothing
            | Reply::QueuePurged { .. }
            | Reply::QueueDeclared { .. }
            | Reply::QueueDeleted { .. } => true,
            Reply::ExchangeDeclared
            | Reply::ExchangeDeleted
            | Reply::Bound
            | Reply::Unbound
            | Reply::ConsumingSplit { .. }
            | Reply::Committed
            | Reply::Synced => false,
        },
        Event::Refused { .. }
        | Event::Delivery(_)
        | Event::ConsumerCancelled { .. }
        | Event::ChannelClosed { .. } => true,
        _ => false,
    }
}

/// # Panics
/// If the event is none that [`travels`].
pub(super) fn put(out: &mut Segments, event: &Event) {
    let mut head = |kind: u8, channel: ChannelNumber| {
        out.u8(kind);
        out.u16(channel.0);
    };
    match event {
        Event::Reply { channel, reply } => put_reply(out, *channel, reply),
        Event::Refused {
            channel,
            operation,
            refusal,
        } => {
            head(REFUSED, *channel);
            out.u8(operation_code(*operation));
            out.u8(class(refusal));
            out.text(&refusal.to_string());
        }
        Event::Delivery(delivery) => {
            head(DELIVERY, delivery.channel);
            put_delivery(out, delivery);
        }
        Event::ConsumerCancelled { channel, consumer } => {
            head(CONSUMER_CANCELLED, *channel);
            out.u32(consumer.0);
        }
        Event::ChannelClosed { channel } => head(CLOSED, *channel),
        event => unreachable!("the client's own node says {event:?}"),
    }
}

fn put_reply(out: &mut Segments, channel: ChannelNumber, reply: &Reply) {
    let mut head = |kind: u8| {
        out.u8(kind);
        out.u16(channel.0);
    };
    match reply {
        Reply::Consuming {
            consumer,
            consumer_timeout,
        } => {
            head(CONSUMING);
            out.u32(consumer.0);
            out.bool(consumer_timeout.is_some());
            if let Some(timeout) = consumer_timeout {
                out.u64(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
            }
        }
        Reply::Cancelled { consumer } => {
            head(CANCELLED);
            out.u32(consumer.0);
        }
        Reply::Got {
            delivery,
            ready_count,
        } => {
            head(GOT);
            put_delivery(out, delivery);
            out.u64(*ready_count);
        }
        Reply::GotNothing => head(GOT_NOTHING),
        Reply::QueuePurged { count } => {
            head(PURGED);
            out.u64(*count);
        }
        Reply::QueueDeclared {
            ready_count,
            consumer_count,
        } => {
            head(COUNTS);
            out.u64(*ready_count);
            out.u32(*consumer_count);
        }
        Reply::QueueDeleted { count } => {
            head(MAY_DELETE);
            out.u64(*count);
        }
        reply => unreachable!("the client's own node says {reply:?}"),
    }
}

fn put_delivery(out: &mut Segments, delivery: &Delivery) {
    out.u32(delivery.consumer.0);
    out.u64(delivery.queue.0);
    out.u64(delivery.index.0);
    out.bool(delivery.redelivered);
    out.bool(delivery.settled);
    out.message(&delivery.message);
}

pub(super) fn take(taker: &mut Taker) -> Result<Event, WireError> {
    let kind = taker.u8()?;
    let channel = ChannelNumber(taker.u16()?);
    let reply = match kind {
        CONSUMING => {
            let consumer = ConsumerKey(taker.u32()?);
            let has_timeout = taker.bool()?;
            let millis = has_timeout.then(|| taker.u64()).transpose()?;
            Reply::Consuming {
                consumer,
                consumer_timeout: millis.map(Duration::from_millis),
            }
        }
        CANCELLED => Reply::Cancelled {
            consumer: ConsumerKey(taker.u32()?),
        },
        GOT => Reply::Got {
            delivery: Box::new(take_delivery(channel, taker)?),
            ready_count: taker.u64()?,
        },
        GOT_NOTHING => Reply::GotNothing,
        PURGED => Reply::QueuePurged {
            count: taker.u64()?,
        },
        COUNTS => Reply::QueueDeclared {
            ready_count: taker.u64()?,
            consumer_count: taker.u32()?,
        },
        MAY_DELETE => Reply::QueueDeleted {
            count: taker.u64()?,
        },
        REFUSED => {
            return Ok(Event::Refused {
                channel,
                operation: operation(taker.u8()?)?,
                refusal: Box::new(take_refusal(taker)?),
            });
        }
        DELIVERY => return Ok(Event::Delivery(take_delivery(channel, taker)?)),
        CONSUMER_CANCELLED => {
            let consumer = ConsumerKey(taker.u32()?);
            return Ok(Event::ConsumerCancelled { channel, consumer });
        }
        CLOSED => return Ok(Event::ChannelClosed { channel }),
        value => return Err(WireError::Unknown { value }),
    };
    Ok(Event::Reply { channel, reply })
}

fn take_delivery(channel: ChannelNumber, taker: &mut Taker) -> Result<Delivery, WireError> {
    Ok(Delivery {
        channel,
        consumer: ConsumerKey(taker.u32()?),
        queue: QueueId(taker.u64()?),
        index: MessageIndex(taker.u64()?),
        redelivered: taker.bool()?,
        settled: taker.bool()?,
        message: taker.message()?,
    })
}

/// The operations that a queue's server refuses.
const OPERATIONS: [Operation; 7] = [
    Operation::Consume,
    Operation::Cancel,
    Operation::Get,
    Operation::PurgeQueue,
    Operation::DeclareQueue,
    Operation::DeleteQueue,
    Operation::LimitChannel,
];

fn operation_code(operation: Operation) -> u8 {
    let place = OPERATIONS.iter().position(|other| *other == operation);
    let place = place.expect("a queue's server refuses nothing else");
    u8::try_from(place).expect("they are few")
}

fn operation(code: u8) -> Result<Operation, WireError> {
    let found = OPERATIONS.get(usize::from(code)).copied();
    found.ok_or(WireError::Unknown { value: code })
}

const ABSENT: u8 = 1;
const PRECONDITION: u8 = 2;
const ACCESS_REFUSED: u8 = 3;
const LOCKED: u8 = 4;
const NOT_ALLOWED: u8 = 5;
const NOT_IMPLEMENTED: u8 = 6;
const RESOURCE_ERROR: u8 = 7;

/// Which mistake it is to the client, as the protocol crate has it.
fn class(refusal: &Refusal) -> u8 {
    match refusal {
        Refusal::NotFound { .. } | Refusal::Unavailable(_) => ABSENT,
        Refusal::Inequivalent { .. }
        | Refusal::InvalidArgument { .. }
        | Refusal::UnknownExchangeType { .. }
        | Refusal::InUse { .. }
        | Refusal::NotEmpty { .. }
        | Refusal::InvalidName { .. }
        | Refusal::Precondition(_)
        | Refusal::LimitReached(_) => PRECONDITION,
        Refusal::QueueLocked { .. } | Refusal::ResourceLocked(_) => LOCKED,
        Refusal::VhostNotFound { .. } | Refusal::NotAllowed(_) => NOT_ALLOWED,
        Refusal::NotImplemented(_) => NOT_IMPLEMENTED,
        Refusal::ResourceError(_) => RESOURCE_ERROR,
        Refusal::AccessRefused(_)
        | Refusal::QueueInExclusiveUse { .. }
        | Refusal::ReservedName { .. }
        | Refusal::DefaultExchange
        | Refusal::SystemResource { .. }
        | Refusal::InternalExchange { .. } => ACCESS_REFUSED,
    }
}

fn take_refusal(taker: &mut Taker) -> Result<Refusal, WireError> {
    let class = taker.u8()?;
    let text = taker.text()?;
    Ok(match class {
        ABSENT => Refusal::Unavailable(text),
        PRECONDITION => Refusal::Precondition(text),
        ACCESS_REFUSED => Refusal::AccessRefused(text),
        LOCKED => Refusal::ResourceLocked(text),
        NOT_ALLOWED => Refusal::NotAllowed(text),
        NOT_IMPLEMENTED => Refusal::NotImplemented(text),
        RESOURCE_ERROR => Refusal::ResourceError(text),
        value => return Err(WireError::Unknown { value }),
    })
}
