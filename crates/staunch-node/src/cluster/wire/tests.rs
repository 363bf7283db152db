//! Frames read back as they were written, and nothing else is a frame.

use std::time::Duration;

use proptest::{collection::vec, prelude::*};
use staunch_types::{
    Delivery, FieldTable, Message, Operation, Refusal, Reply, Resource,
    request::{Consume, Settle},
};

use super::*;

fn joined(segments: &[Bytes]) -> Bytes {
    segments.concat().into()
}

fn channel() -> impl Strategy<Value = ChannelNumber> {
    any::<u16>().prop_map(ChannelNumber)
}

fn key() -> impl Strategy<Value = ConsumerKey> {
    any::<u32>().prop_map(ConsumerKey)
}

fn name() -> impl Strategy<Value = Name> {
    vec(any::<u8>(), 0..40).prop_map(|bytes| Name::new(&bytes).unwrap())
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Ack),
        Just(Outcome::Discard),
        Just(Outcome::Requeue)
    ]
}

fn run() -> impl Strategy<Value = (MessageIndex, u32)> {
    (0..u64::MAX / 2, 1..u32::MAX).prop_map(|(first, count)| (MessageIndex(first), count))
}

fn message() -> impl Strategy<Value = Message> {
    (vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..2000))
        .prop_map(|(routing_key, body)| Message::copied(b"x", &routing_key, b"\0\0", &body))
}

fn settle() -> impl Strategy<Value = Settle> {
    (channel(), key(), any::<u64>(), run(), outcome()).prop_map(
        |(channel, consumer, queue, (first, count), outcome)| Settle {
            channel,
            consumer,
            queue: QueueId(queue),
            first,
            count,
            outcome,
        },
    )
}

fn consume() -> impl Strategy<Value = Consume> {
    (channel(), name(), name(), any::<(bool, bool, u16)>()).prop_map(
        |(channel, queue, tag, (no_ack, exclusive, prefetch))| Consume {
            channel,
            queue,
            tag,
            no_ack,
            exclusive,
            prefetch,
            arguments: FieldTable::default(),
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        consume().prop_map(Request::Consume),
        settle().prop_map(Request::Settle),
        (channel(), key()).prop_map(|(channel, consumer)| Request::Cancel { channel, consumer }),
        (channel(), name(), any::<bool>()).prop_map(|(channel, queue, no_ack)| Request::Get {
            channel,
            queue,
            no_ack
        }),
        (channel(), name()).prop_map(|(channel, queue)| Request::PurgeQueue { channel, queue }),
        (channel(), name()).prop_map(|(channel, queue)| requests::count(channel, queue)),
        (channel(), name(), any::<(bool, bool)>()).prop_map(
            |(channel, queue, (if_unused, if_empty))| Request::DeleteQueue {
                channel,
                queue,
                if_unused,
                if_empty,
            }
        ),
        (channel(), any::<u16>())
            .prop_map(|(channel, prefetch)| Request::LimitChannel { channel, prefetch }),
        (channel(), any::<u16>())
            .prop_map(|(channel, prefetch)| Request::LimitConsumers { channel, prefetch }),
        any::<u64>().prop_map(|size_bytes| Request::Drained { size_bytes }),
        channel().prop_map(|channel| Request::CloseChannel { channel }),
        Just(Request::CloseConnection),
    ]
}

fn delivery() -> impl Strategy<Value = Delivery> {
    (channel(), key(), any::<(u64, u64, bool, bool)>(), message()).prop_map(
        |(channel, consumer, (queue, index, redelivered, settled), message)| Delivery {
            channel,
            consumer,
            queue: QueueId(queue),
            index: MessageIndex(index),
            redelivered,
            settled,
            message,
        },
    )
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        (key(), any::<Option<u32>>()).prop_map(|(consumer, millis)| Reply::Consuming {
            consumer,
            consumer_timeout: millis.map(|millis| Duration::from_millis(u64::from(millis))),
        }),
        key().prop_map(|consumer| Reply::Cancelled { consumer }),
        (delivery(), any::<u64>()).prop_map(|(delivery, ready_count)| Reply::Got {
            delivery: Box::new(delivery),
            ready_count
        }),
        Just(Reply::GotNothing),
        any::<u64>().prop_map(|count| Reply::QueuePurged { count }),
        any::<u64>().prop_map(|count| Reply::QueueDeleted { count }),
        any::<(u64, u32)>().prop_map(|(ready_count, consumer_count)| Reply::QueueDeclared {
            ready_count,
            consumer_count,
        }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (channel(), reply()).prop_map(|(channel, reply)| Event::Reply { channel, reply }),
        delivery().prop_map(Event::Delivery),
        (channel(), key())
            .prop_map(|(channel, consumer)| Event::ConsumerCancelled { channel, consumer }),
        channel().prop_map(|channel| Event::ChannelClosed { channel }),
        (channel(), "[a-zé ]{0,30}").prop_map(|(channel, text)| Event::Refused {
            channel,
            operation: Operation::Get,
            refusal: Box::new(Refusal::NotImplemented(text)),
        }),
    ]
}

fn spec() -> impl Strategy<Value = ClaimSpec> {
    any::<(bool, bool, u16, i32, u64, u16)>().prop_map(
        |(no_ack, exclusive, prefetch, priority, identity, channel_prefetch)| ClaimSpec {
            no_ack,
            exclusive,
            prefetch,
            priority,
            identity,
            channel_prefetch,
        },
    )
}

fn published() -> impl Strategy<Value = Published> {
    let bodies = vec((1_u64..5, any::<[u8; 16]>(), message()), 0..6);
    (any::<u64>(), 1..u64::MAX, any::<u64>(), bodies).prop_map(|(queue, base, follows, bodies)| {
        let mut number = 0;
        let messages = bodies.into_iter().map(|(distance, meta, message)| {
            number += distance;
            let mut stored = Vec::new();
            message.put_stored(&mut stored);
            let stored = stored.into();
            (number, EntryMessage { meta, stored })
        });
        Published {
            queue: QueueId(queue),
            base,
            follows,
            messages: messages.collect(),
        }
    })
}

fn queue_and_term() -> impl Strategy<Value = (QueueId, Term)> {
    any::<(u64, u64)>().prop_map(|(queue, term)| (QueueId(queue), Term(term)))
}

fn terms() -> impl Strategy<Value = Vec<(QueueId, Term)>> {
    vec(queue_and_term(), 0..5)
}

fn claim() -> impl Strategy<Value = Claim> {
    let (spec, held) = (proptest::option::of(spec()), vec(run(), 0..5));
    let names = (any::<(u64, u64)>(), queue_and_term(), channel());
    (names, spec, held).prop_map(
        |(((connection, token), (queue, term), channel), spec, held)| Claim {
            connection: ConnectionId(connection),
            channel,
            queue,
            term,
            token,
            spec,
            held,
        },
    )
}

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        published().prop_map(Frame::Publish),
        (any::<(u64, u64, u64)>(), vec(any::<u64>(), 0..5)).prop_map(
            |((queue, upto, doubtful), refused)| {
                let queue = QueueId(queue);
                Frame::Heard(Heard {
                    queue,
                    upto,
                    doubtful,
                    refused,
                })
            }
        ),
        terms().prop_map(Frame::Serves),
        terms().prop_map(Frame::ClaimedAll),
        (
            any::<u64>(),
            name(),
            proptest::option::of(queue_and_term()),
            vec(request(), 0..5)
        )
            .prop_map(|(id, vhost, about, requests)| {
                Frame::Requests {
                    connection: ConnectionId(id),
                    vhost,
                    about,
                    requests,
                }
            }),
        (any::<u64>(), vec(event(), 0..5)).prop_map(|(id, events)| Frame::Events {
            connection: ConnectionId(id),
            events,
        }),
        any::<u64>().prop_map(Frame::Barrier),
        any::<u64>().prop_map(|id| Frame::Forget(ConnectionId(id))),
        any::<u64>().prop_map(|id| Frame::Forgotten(ConnectionId(id))),
        any::<u64>().prop_map(|queue| Frame::Room(QueueId(queue))),
        any::<(bool, bool)>().prop_map(|(memory, disk)| Frame::Alarm { memory, disk }),
        (any::<u64>(), terms()).prop_map(|(number, lost)| Frame::Passed { number, lost }),
        claim().prop_map(Frame::Claim),
        (any::<u64>(), proptest::option::of(key()))
            .prop_map(|(token, consumer)| Frame::Claimed { token, consumer }),
        (queue_and_term(), vec((run(), outcome()), 0..5)).prop_map(|((queue, term), runs)| {
            Frame::Settled {
                queue,
                term,
                runs: runs
                    .into_iter()
                    .map(|((first, count), outcome)| SettledRun {
                        first,
                        count,
                        outcome,
                    })
                    .collect(),
            }
        }),
    ]
}

proptest! {
    #[test]
    fn a_frame_reads_back(at: u64, frame in frame()) {
        let bytes = joined(&encode(at, &frame));
        let (read_at, read) = decode(bytes.clone()).unwrap();
        prop_assert_eq!(read_at, at);
        // Written again it is the same: all that a frame says is in its bytes.
        prop_assert_eq!(joined(&encode(at, &read)), bytes);
        prop_assert_eq!(std::mem::discriminant(&read), std::mem::discriminant(&frame));
    }

    #[test]
    fn a_frame_that_is_cut_or_goes_on_is_none(frame in frame(), at: prop::sample::Index) {
        let bytes = joined(&encode(1, &frame));
        prop_assert!(decode(bytes.slice(..at.index(bytes.len()))).is_err());
        let mut longer = bytes.to_vec();
        longer.push(0);
        prop_assert!(decode(longer.into()).is_err());
    }

    #[test]
    fn a_damaged_frame_is_read_or_refused(
        frame in frame(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = joined(&encode(1, &frame)).to_vec();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok((at, read)) = decode(bytes.clone().into()) {
            prop_assert_eq!(joined(&encode(at, &read)), bytes);
        }
    }

    #[test]
    fn noise_is_read_or_refused(kind in 0_u8..14, noise in vec(any::<u8>(), 0..200)) {
        let head = [3, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        let bytes: Bytes = [&head, noise.as_slice()].concat().into();
        if let Ok((at, read)) = decode(bytes.clone()) {
            prop_assert_eq!(joined(&encode(at, &read)), bytes);
        }
    }
}

#[test]
fn a_message_is_a_slice_of_the_frame() {
    let mut stored = Vec::new();
    Message::copied(b"", b"q", b"\0\0", &[7; 4000]).put_stored(&mut stored);
    let message = EntryMessage {
        meta: [0; 16],
        stored: stored.into(),
    };
    let published = Published {
        queue: QueueId(1),
        base: 1,
        follows: 0,
        messages: vec![(1, message)],
    };
    let segments = encode(0, &Frame::Publish(published));
    assert_eq!(segments.len(), 2, "the body is not copied when written");
    let bytes = joined(&segments);
    let (_, Frame::Publish(read)) = decode(bytes.clone()).unwrap() else {
        panic!("it was a publish");
    };
    let body = &read.messages[0].1.stored;
    assert!(bytes.as_ptr_range().contains(&body.as_ptr()));
}

#[test]
fn a_refusal_keeps_its_kind_and_text() {
    let refusal = Refusal::NotFound {
        resource: Resource::Queue,
        name: Name::from_static("q"),
        vhost: Name::from_static("/"),
    };
    let event = Event::Refused {
        channel: ChannelNumber(1),
        operation: Operation::Consume,
        refusal: Box::new(refusal),
    };
    let frame = Frame::Events {
        connection: ConnectionId(1),
        events: vec![event],
    };
    let (_, Frame::Events { events, .. }) = decode(joined(&encode(0, &frame))).unwrap() else {
        panic!("they were events");
    };
    let [Event::Refused { refusal, .. }] = events.as_slice() else {
        panic!("it was a refusal: {events:?}");
    };
    let wanted = Refusal::Unavailable("no queue 'q' in vhost '/'".to_owned());
    assert_eq!(**refusal, wanted);
}

#[test]
fn another_version_is_refused() {
    let error = decode(Bytes::from_static(&[2, 6])).unwrap_err();
    assert_eq!(error.to_string(), "queue frame of version 2");
}
