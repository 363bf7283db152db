//! Frames between clients' nodes and queues' servers ([`super::PeerPayload::Queue`]), as bytes.
//!
//! Numbers are big-endian. Names are a length (u8) and their bytes, texts and tables a length
//! (u32) and theirs, lists a count (u32) and their items, flags 0 or 1.
//!
//! ```text
//! frame    u8 version = 5 | u8 kind | u64 how much of the catalog the sender has | body
//! PUBLISH  u64 queue | u64 base | u64 follows | list of (u64 number | meta 16 B | u32 | stored)
//! HEARD    u64 queue | u64 upto | u64 doubtful | list of u64 refused
//! SERVES   list of (u64 queue | u64 term)
//! REQUESTS u64 connection | name vhost | u8 has queue | u64 queue | u64 term | list of requests
//!          (`requests`); queue and term are left out where it has none
//! EVENTS   u64 connection | list of events (`events`)
//! BARRIER  u64 number
//! PASSED   u64 number | list of (u64 queue | u64 term)
//! CLAIM    u64 connection | u16 channel | u64 queue | u64 term | u64 token | u8 has spec | spec
//!          | runs
//! CLAIMED  u64 token | u8 is there | u32 consumer if it is
//! CLAIMED_ALL  list of (u64 queue | u64 term)
//! ROOM     u64 queue
//! ALARM    u8 memory | u8 disk
//! FORGET, FORGOTTEN  u64 connection
//! SETTLED  u64 queue | u64 term | list of (u64 first | u32 count | u8 outcome)
//! ```
//!
//! Messages are slices of the frame that was read, not copies. Reading is total: every sequence of
//! bytes is a frame or a [`WireError`].

mod bytes_io;
mod events;
mod requests;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use staunch_replica::EntryMessage;
use staunch_types::{
    ChannelNumber, ConnectionId, ConsumerKey, Event, MessageIndex, Name, Outcome, QueueId, Request,
    Term,
};

pub(crate) use bytes_io::WireError;
use bytes_io::{Segments, Taker};
pub(super) use events::travels;
pub(crate) use requests::count;

/// The layout above.
const VERSION: u8 = 5;

/// Bytes after which a frame of publishes is full. One message is always taken.
pub(crate) const FRAME_SIZE_BYTES_TARGET: usize = 1 << 20;

const KIND_PUBLISH: u8 = 1;
const KIND_HEARD: u8 = 2;
const KIND_SERVES: u8 = 3;
const KIND_REQUESTS: u8 = 4;
const KIND_EVENTS: u8 = 5;
const KIND_BARRIER: u8 = 6;
const KIND_PASSED: u8 = 7;
const KIND_CLAIM: u8 = 8;
const KIND_CLAIMED: u8 = 9;
const KIND_CLAIMED_ALL: u8 = 10;
const KIND_SETTLED: u8 = 11;
const KIND_ROOM: u8 = 12;
const KIND_ALARM: u8 = 13;
const KIND_FORGET: u8 = 14;
const KIND_FORGOTTEN: u8 = 15;

/// What nodes say to each other for their clients.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    /// Messages for a queue that the receiver serves.
    Publish(Published),
    /// What became of them.
    Heard(Heard),
    /// The sender serves these queues, in these terms.
    Serves(Vec<(QueueId, Term)>),
    /// A queue that has refused something of the receiver has room.
    Room(QueueId),
    /// Which resources of the sender run low, when that has changed.
    Alarm { memory: bool, disk: bool },
    /// What a client asks.
    Requests {
        connection: ConnectionId,
        vhost: Name,
        /// All of it is about a queue that the receiver serves, in that term; 0 if it keeps the
        /// queue alone.
        about: Option<(QueueId, Term)>,
        requests: Vec<Request>,
    },
    /// What it is told.
    Events {
        connection: ConnectionId,
        events: Vec<Event>,
    },
    /// What was asked for this connection is not to be answered any more.
    Forget(ConnectionId),
    /// The answer: whatever is answered from now on was asked behind that.
    Forgotten(ConnectionId),
    /// Answered by [`Frame::Passed`] when everything asked before is safe.
    Barrier(u64),
    /// The answer.
    Passed {
        number: u64,
        /// What was asked of these is not, up to these terms.
        lost: Vec<(QueueId, Term)>,
    },
    /// A client holds deliveries of a queue that the receiver serves from now on.
    Claim(Claim),
    /// The key of the claim's consumer here; none if it was refused.
    Claimed {
        token: u64,
        consumer: Option<ConsumerKey>,
    },
    /// The sender's clients hold no more of these than it has said, in these terms.
    ClaimedAll(Vec<(QueueId, Term)>),
    /// Deliveries that clients have settled with a server before this one, which may not have
    /// committed it.
    Settled {
        queue: QueueId,
        /// In which the receiver serves it; 0 if it keeps it alone.
        term: Term,
        runs: Vec<SettledRun>,
    },
}

/// Messages of the sender's clients for a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) queue: QueueId,
    /// Everything below it has been answered.
    pub(crate) base: u64,
    /// The number sent before the first of these; `base - 1` if they are the first.
    pub(crate) follows: u64,
    /// Numbers ascend.
    pub(crate) messages: Vec<(u64, EntryMessage)>,
}

/// What became of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) queue: QueueId,
    /// Everything up to this number is safe, but for what is refused.
    pub(crate) upto: u64,
    /// Of everything up to this number it is not known whether the queue took or refused it.
    pub(crate) doubtful: u64,
    /// Refused, because the queue is full; ascending.
    pub(crate) refused: Vec<u64>,
}

/// Someone who holds deliveries of a queue, or consumes from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) connection: ConnectionId,
    pub(crate) channel: ChannelNumber,
    pub(crate) queue: QueueId,
    /// In which the receiver serves the queue; 0 if it keeps it alone.
    pub(crate) term: Term,
    /// What the sender knows it by.
    pub(crate) token: u64,
    /// None if it only holds.
    pub(crate) spec: Option<ClaimSpec>,
    /// Runs of indexes: first, and how many.
    pub(crate) held: Vec<(MessageIndex, u32)>,
}

/// What is known of a consumer ([`staunch_broker::ConsumerSpec`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClaimSpec {
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) prefetch: u16,
    pub(crate) priority: i32,
    pub(crate) identity: u64,
    /// Shared limit of its channel; 0 is none.
    pub(crate) channel_prefetch: u16,
}

/// Deliveries with consecutive indexes that were settled alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SettledRun {
    pub(crate) first: MessageIndex,
    pub(crate) count: u32,
    pub(crate) outcome: Outcome,
}

/// The frame's bytes, one after the other. `at` is how much of the catalog the sender has applied:
/// who receives the frame waits with it until it has as much.
pub(crate) fn encode(at: u64, frame: &Frame) -> Vec<Bytes> {
    let mut out = Segments::default();
    out.u8(VERSION);
    out.u8(kind(frame));
    out.u64(at);
    match frame {
        Frame::Publish(published) => put_published(&mut out, published),
        Frame::Heard(heard) => {
            out.u64(heard.queue.0);
            out.u64(heard.upto);
            out.u64(heard.doubtful);
            out.list(&heard.refused, |out, number| out.u64(*number));
        }
        Frame::Serves(queues) | Frame::ClaimedAll(queues) => {
            out.list(queues, put_queue_and_term);
        }
        Frame::Requests {
            connection,
            vhost,
            about,
            requests,
        } => {
            out.u64(connection.0);
            out.name(vhost);
            out.bool(about.is_some());
            if let Some(about) = about {
                put_queue_and_term(&mut out, about);
            }
            out.list(requests, requests::put);
        }
        Frame::Events { connection, events } => {
            out.u64(connection.0);
            out.list(events, events::put);
        }
        Frame::Forget(connection) | Frame::Forgotten(connection) => out.u64(connection.0),
        Frame::Barrier(number) => out.u64(*number),
        Frame::Room(queue) => out.u64(queue.0),
        Frame::Alarm { memory, disk } => {
            out.bool(*memory);
            out.bool(*disk);
        }
        Frame::Passed { number, lost } => {
            out.u64(*number);
            out.list(lost, put_queue_and_term);
        }
        Frame::Claim(claim) => put_claim(&mut out, claim),
        Frame::Claimed { token, consumer } => {
            out.u64(*token);
            out.bool(consumer.is_some());
            if let Some(consumer) = consumer {
                out.u32(consumer.0);
            }
        }
        Frame::Settled { queue, term, runs } => {
            out.u64(queue.0);
            out.u64(term.0);
            out.list(runs, |out, run| {
                out.u64(run.first.0);
                out.u32(run.count);
                out.u8(requests::outcome_code(run.outcome));
            });
        }
    }
    out.finish()
}

fn kind(frame: &Frame) -> u8 {
    match frame {
        Frame::Publish(_) => KIND_PUBLISH,
        Frame::Heard(_) => KIND_HEARD,
        Frame::Serves(_) => KIND_SERVES,
        Frame::Requests { .. } => KIND_REQUESTS,
        Frame::Events { .. } => KIND_EVENTS,
        Frame::Barrier(_) => KIND_BARRIER,
        Frame::Passed { .. } => KIND_PASSED,
        Frame::Claim(_) => KIND_CLAIM,
        Frame::Claimed { .. } => KIND_CLAIMED,
        Frame::ClaimedAll(_) => KIND_CLAIMED_ALL,
        Frame::Settled { .. } => KIND_SETTLED,
        Frame::Room(_) => KIND_ROOM,
        Frame::Alarm { .. } => KIND_ALARM,
        Frame::Forget(_) => KIND_FORGET,
        Frame::Forgotten(_) => KIND_FORGOTTEN,
    }
}

fn put_queue_and_term(out: &mut Segments, (queue, term): &(QueueId, Term)) {
    out.u64(queue.0);
    out.u64(term.0);
}

fn take_queue_and_term(taker: &mut Taker) -> Result<(QueueId, Term), WireError> {
    Ok((QueueId(taker.u64()?), Term(taker.u64()?)))
}

fn put_published(out: &mut Segments, published: &Published) {
    out.u64(published.queue.0);
    out.u64(published.base);
    out.u64(published.follows);
    out.list(&published.messages, |out, (number, message)| {
        out.u64(*number);
        out.raw(&message.meta);
        out.body(&message.stored);
    });
}

fn put_claim(out: &mut Segments, claim: &Claim) {
    out.u64(claim.connection.0);
    out.u16(claim.channel.0);
    out.u64(claim.queue.0);
    out.u64(claim.term.0);
    out.u64(claim.token);
    out.bool(claim.spec.is_some());
    if let Some(spec) = &claim.spec {
        out.bool(spec.no_ack);
        out.bool(spec.exclusive);
        out.u16(spec.prefetch);
        out.i32(spec.priority);
        out.u64(spec.identity);
        out.u16(spec.channel_prefetch);
    }
    out.list(&claim.held, |out, (first, count)| {
        out.u64(first.0);
        out.u32(*count);
    });
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// [`WireError`] on any other bytes.
pub(crate) fn decode(bytes: Bytes) -> Result<(u64, Frame), WireError> {
    let mut taker = Taker::new(bytes);
    let version = taker.u8()?;
    if version != VERSION {
        return Err(WireError::Version { version });
    }
    let kind = taker.u8()?;
    let at = taker.u64()?;
    let frame = take_frame(kind, &mut taker)?;
    taker.finish()?;
    Ok((at, frame))
}

fn take_frame(kind: u8, taker: &mut Taker) -> Result<Frame, WireError> {
    Ok(match kind {
        KIND_PUBLISH => Frame::Publish(take_published(taker)?),
        KIND_HEARD => Frame::Heard(Heard {
            queue: QueueId(taker.u64()?),
            upto: taker.u64()?,
            doubtful: taker.u64()?,
            refused: taker.list(Taker::u64)?,
        }),
        KIND_SERVES => Frame::Serves(taker.list(take_queue_and_term)?),
        KIND_CLAIMED_ALL => Frame::ClaimedAll(taker.list(take_queue_and_term)?),
        KIND_REQUESTS => Frame::Requests {
            connection: ConnectionId(taker.u64()?),
            vhost: taker.name()?,
            about: if taker.bool()? {
                Some(take_queue_and_term(taker)?)
            } else {
                None
            },
            requests: taker.list(requests::take)?,
        },
        KIND_EVENTS => Frame::Events {
            connection: ConnectionId(taker.u64()?),
            events: taker.list(events::take)?,
        },
        KIND_BARRIER => Frame::Barrier(taker.u64()?),
        KIND_FORGET => Frame::Forget(ConnectionId(taker.u64()?)),
        KIND_FORGOTTEN => Frame::Forgotten(ConnectionId(taker.u64()?)),
        KIND_ROOM => Frame::Room(QueueId(taker.u64()?)),
        KIND_ALARM => Frame::Alarm {
            memory: taker.bool()?,
            disk: taker.bool()?,
        },
        KIND_PASSED => Frame::Passed {
            number: taker.u64()?,
            lost: taker.list(take_queue_and_term)?,
        },
        KIND_CLAIM => Frame::Claim(take_claim(taker)?),
        KIND_CLAIMED => {
            let token = taker.u64()?;
            let is_there = taker.bool()?;
            let consumer = is_there.then(|| taker.u32().map(ConsumerKey)).transpose()?;
            Frame::Claimed { token, consumer }
        }
        KIND_SETTLED => Frame::Settled {
            queue: QueueId(taker.u64()?),
            term: Term(taker.u64()?),
            runs: taker.list(|taker| {
                let (first, count) = taker.run()?;
                let outcome = requests::outcome(taker.u8()?)?;
                Ok(SettledRun {
                    first,
                    count,
                    outcome,
                })
            })?,
        },
        value => return Err(WireError::Unknown { value }),
    })
}

fn take_published(taker: &mut Taker) -> Result<Published, WireError> {
    let queue = QueueId(taker.u64()?);
    let (base, follows) = (taker.u64()?, taker.u64()?);
    if base == 0 {
        return Err(WireError::OutOfRange);
    }
    let mut last = 0;
    let messages = taker.list(|taker| {
        let number = taker.u64()?;
        if number <= last {
            return Err(WireError::OutOfRange);
        }
        last = number;
        let meta = taker.array()?;
        let stored = taker.body()?;
        Ok((number, EntryMessage { meta, stored }))
    })?;
    Ok(Published {
        queue,
        base,
        follows,
        messages,
    })
}

fn take_claim(taker: &mut Taker) -> Result<Claim, WireError> {
    let connection = ConnectionId(taker.u64()?);
    let channel = ChannelNumber(taker.u16()?);
    let queue = QueueId(taker.u64()?);
    let term = Term(taker.u64()?);
    let token = taker.u64()?;
    let spec = if taker.bool()? {
        Some(ClaimSpec {
            no_ack: taker.bool()?,
            exclusive: taker.bool()?,
            prefetch: taker.u16()?,
            priority: taker.i32()?,
            identity: taker.u64()?,
            channel_prefetch: taker.u16()?,
        })
    } else {
        None
    };
    let held = taker.list(Taker::run)?;
    Ok(Claim {
        connection,
        channel,
        queue,
        term,
        token,
        spec,
        held,
    })
}
