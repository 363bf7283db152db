//! The requests that travel between nodes: those that a queue's server answers.
//!
//! ```text
//! request  u8 kind | fields
//! CONSUME  u16 channel | name queue | name tag | u8 no ack | u8 exclusive | u16 prefetch | table
//! CANCEL   u16 channel | u32 consumer
//! GET      u16 channel | name queue | u8 no ack
//! PURGE    u16 channel | name queue
//! COUNT    u16 channel | name queue                      (a passive declaration)
//! CHECK    u16 channel | name queue | u8 if unused | u8 if empty     (before a deletion)
//! SETTLE   u16 channel | u32 consumer | u64 queue | u64 first | u32 count | u8 outcome
//! LIMIT_CHANNEL, LIMIT_CONSUMERS  u16 channel | u16 prefetch
//! DRAINED  u64 bytes
//! CLOSE_CHANNEL  u16 channel
//! CLOSE_CONNECTION
//! ```

use staunch_types::{
    ChannelNumber, ConsumerKey, FieldTable, Outcome, QueueId, QueueOptions, Request,
    request::{Consume, DeclareQueue, Settle},
};

use super::bytes_io::{Segments, Taker, WireError};

const CONSUME: u8 = 1;
const CANCEL: u8 = 2;
const GET: u8 = 3;
const PURGE: u8 = 4;
const COUNT: u8 = 5;
const CHECK: u8 = 6;
const SETTLE: u8 = 7;
const LIMIT_CHANNEL: u8 = 8;
const LIMIT_CONSUMERS: u8 = 9;
const DRAINED: u8 = 10;
const CLOSE_CHANNEL: u8 = 11;
const CLOSE_CONNECTION: u8 = 12;

/// # Panics
/// If the request is none that travels.
pub(super) fn put(out: &mut Segments, request: &Request) {
    let mut head = |kind: u8, channel: ChannelNumber| {
        out.u8(kind);
        out.u16(channel.0);
    };
    match request {
        Request::Consume(consume) => {
            head(CONSUME, consume.channel);
            put_consume(out, consume);
        }
        Request::Cancel { channel, consumer } => {
            head(CANCEL, *channel);
            out.u32(consumer.0);
        }
        Request::Get {
            channel,
            queue,
            no_ack,
        } => {
            head(GET, *channel);
            out.name(queue);
            out.bool(*no_ack);
        }
        Request::PurgeQueue { channel, queue } => {
            head(PURGE, *channel);
            out.name(queue);
        }
        Request::DeclareQueue(declare) => {
            head(COUNT, declare.channel);
            out.name(&declare.queue);
        }
        Request::DeleteQueue {
            channel,
            queue,
            if_unused,
            if_empty,
        } => {
            head(CHECK, *channel);
            out.name(queue);
            out.bool(*if_unused);
            out.bool(*if_empty);
        }
        Request::Settle(settle) => {
            head(SETTLE, settle.channel);
            put_settle(out, settle);
        }
        Request::LimitChannel { channel, prefetch } => {
            head(LIMIT_CHANNEL, *channel);
            out.u16(*prefetch);
        }
        Request::LimitConsumers { channel, prefetch } => {
            head(LIMIT_CONSUMERS, *channel);
            out.u16(*prefetch);
        }
        Request::Drained { size_bytes } => {
            out.u8(DRAINED);
            out.u64(*size_bytes);
        }
        Request::CloseChannel { channel } => head(CLOSE_CHANNEL, *channel),
        Request::CloseConnection => out.u8(CLOSE_CONNECTION),
        request => unreachable!("the client's own node answers {request:?}"),
    }
}

fn put_consume(out: &mut Segments, consume: &Consume) {
    out.name(&consume.queue);
    out.name(&consume.tag);
    out.bool(consume.no_ack);
    out.bool(consume.exclusive);
    out.u16(consume.prefetch);
    out.table(&consume.arguments);
}

fn put_settle(out: &mut Segments, settle: &Settle) {
    out.u32(settle.consumer.0);
    out.u64(settle.queue.0);
    out.u64(settle.first.0);
    out.u32(settle.count);
    out.u8(outcome_code(settle.outcome));
}

pub(super) fn take(taker: &mut Taker) -> Result<Request, WireError> {
    let kind = taker.u8()?;
    if kind == DRAINED {
        let size_bytes = taker.u64()?;
        return Ok(Request::Drained { size_bytes });
    }
    if kind == CLOSE_CONNECTION {
        return Ok(Request::CloseConnection);
    }
    let channel = ChannelNumber(taker.u16()?);
    Ok(match kind {
        CONSUME => Request::Consume(take_consume(channel, taker)?),
        CANCEL => Request::Cancel {
            channel,
            consumer: ConsumerKey(taker.u32()?),
        },
        GET => Request::Get {
            channel,
            queue: taker.name()?,
            no_ack: taker.bool()?,
        },
        PURGE => Request::PurgeQueue {
            channel,
            queue: taker.name()?,
        },
        COUNT => count(channel, taker.name()?),
        CHECK => Request::DeleteQueue {
            channel,
            queue: taker.name()?,
            if_unused: taker.bool()?,
            if_empty: taker.bool()?,
        },
        SETTLE => Request::Settle(take_settle(channel, taker)?),
        LIMIT_CHANNEL => Request::LimitChannel {
            channel,
            prefetch: taker.u16()?,
        },
        LIMIT_CONSUMERS => Request::LimitConsumers {
            channel,
            prefetch: taker.u16()?,
        },
        CLOSE_CHANNEL => Request::CloseChannel { channel },
        value => return Err(WireError::Unknown { value }),
    })
}

/// Asks for the counts of a queue.
pub(crate) fn count(channel: ChannelNumber, queue: staunch_types::Name) -> Request {
    Request::DeclareQueue(DeclareQueue {
        channel,
        queue,
        server_named: false,
        passive: true,
        options: QueueOptions {
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::default(),
        },
    })
}

fn take_consume(channel: ChannelNumber, taker: &mut Taker) -> Result<Consume, WireError> {
    Ok(Consume {
        channel,
        queue: taker.name()?,
        tag: taker.name()?,
        no_ack: taker.bool()?,
        exclusive: taker.bool()?,
        prefetch: taker.u16()?,
        arguments: taker.table()?,
    })
}

fn take_settle(channel: ChannelNumber, taker: &mut Taker) -> Result<Settle, WireError> {
    let consumer = ConsumerKey(taker.u32()?);
    let queue = QueueId(taker.u64()?);
    let (first, count) = taker.run()?;
    let outcome = outcome(taker.u8()?)?;
    Ok(Settle {
        channel,
        consumer,
        queue,
        first,
        count,
        outcome,
    })
}

pub(super) fn outcome_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Ack => 1,
        Outcome::Discard => 2,
        Outcome::Requeue => 3,
    }
}

pub(super) fn outcome(code: u8) -> Result<Outcome, WireError> {
    match code {
        1 => Ok(Outcome::Ack),
        2 => Ok(Outcome::Discard),
        3 => Ok(Outcome::Requeue),
        value => Err(WireError::Unknown { value }),
    }
}
