//! Input that is cut anywhere, and input that is nonsense.

use proptest::prelude::*;
use staunch_amqp_codec::methods::{
    BasicAck, BasicGet, BasicNack, ChannelClose, ChannelCloseOk, ConfirmSelect, ConnectionClose,
    ConnectionUpdateSecret, TxCommit, TxRollback, TxSelect,
};
use staunch_types::PublishSeq;

use super::*;

/// Answers what is answered and delivers three messages to a consumer. It confirms nothing,
/// because how acks are gathered does depend on how input is cut.
fn answer(request: &Request, events: &mut Vec<Event>) {
    if let Some((channel, reply)) = reply_to(request) {
        events.push(Event::Reply { channel, reply });
    }
    match request {
        Request::Login(login) => {
            let user = login.user.clone();
            events.push(Event::LoginAccepted { user });
        }
        Request::OpenVhost { .. } => events.push(Event::VhostOpened),
        Request::UpdateSecret { .. } => events.push(Event::SecretUpdated),
        &Request::OpenChannel { channel } => events.push(Event::ChannelOpened { channel }),
        &Request::CloseChannel { channel } => events.push(Event::ChannelClosed { channel }),
        Request::CloseConnection => events.push(Event::ConnectionClosed),
        Request::Consume(consume) => events.extend((0..3).map(|index| {
            Event::Delivery(Delivery {
                channel: consume.channel,
                ..delivery(index)
            })
        })),
        _ => {}
    }
}

/// The reply to a request on a channel that gets one.
fn reply_to(request: &Request) -> Option<(ChannelNumber, Reply)> {
    let consuming = |key| Reply::Consuming {
        consumer: ConsumerKey(key),
        consumer_timeout: None,
    };
    Some(match request {
        Request::DeclareExchange(declare) => (declare.channel, Reply::ExchangeDeclared),
        &Request::DeleteExchange { channel, .. } => (channel, Reply::ExchangeDeleted),
        Request::Bind(binding) => (binding.channel, Reply::Bound),
        Request::Unbind(binding) => (binding.channel, Reply::Unbound),
        Request::DeclareQueue(declare) => {
            let (ready_count, consumer_count) = (1, 0);
            let declared = Reply::QueueDeclared {
                ready_count,
                consumer_count,
            };
            (declare.channel, declared)
        }
        &Request::PurgeQueue { channel, .. } => (channel, Reply::QueuePurged { count: 1 }),
        &Request::DeleteQueue { channel, .. } => (channel, Reply::QueueDeleted { count: 1 }),
        Request::Consume(consume) => (consume.channel, consuming(7)),
        &Request::ConsumeReplies { channel } => (channel, consuming(8)),
        &Request::Cancel { channel, consumer } => (channel, Reply::Cancelled { consumer }),
        &Request::Commit { channel, .. } => (channel, Reply::Committed),
        &Request::Sync { channel } => (channel, Reply::Synced),
        &Request::Get { channel, .. } => {
            let delivery = Delivery {
                channel,
                consumer: ConsumerKey(9),
                ..delivery(50)
            };
            let got = Reply::Got {
                delivery: delivery.into(),
                ready_count: 0,
            };
            (channel, got)
        }
        _ => return None,
    })
}

const GET: BasicGet<'_> = BasicGet {
    ticket: 0,
    queue: ShortStr::from_static("q"),
    no_ack: false,
};

/// A session with a little of everything.
fn script() -> Vec<u8> {
    let mut out = b"AMQP\0\0\x09\x01".to_vec();
    let open = OPEN;
    let (reply_code, reply_text, class_id, method_id) = (200, text("bye"), 0, 0);
    let ack = |delivery_tag| BasicAck {
        delivery_tag,
        multiple: false,
    };
    let update_secret = ConnectionUpdateSecret {
        new_secret: b"new",
        reason: text("expired"),
    };
    put_handshake(&mut out);
    put(&mut out, 1, open);
    put(&mut out, 1, declare(""));
    put(&mut out, 1, ConfirmSelect { nowait: false });
    put(&mut out, 2, open);
    put(&mut out, 2, consume("tag"));
    for size in [0, 1, 16, 9_000, 16] {
        put_publish(&mut out, 1, "key", &vec![1; size]);
    }
    put(&mut out, 2, ack(1));
    put(&mut out, 2, ack(2));
    put(&mut out, 1, GET);
    put(
        &mut out,
        1,
        BasicNack {
            delivery_tag: 0,
            multiple: true,
            requeue: true,
        },
    );
    put_transaction(&mut out);
    put(&mut out, 0, update_secret);
    put(&mut out, 2, ack(99));
    put_publish(&mut out, 2, "skipped", b"skipped");
    put(&mut out, 2, ChannelCloseOk);
    put(&mut out, 2, open);
    put(
        &mut out,
        2,
        ChannelClose {
            reply_code,
            reply_text,
            class_id,
            method_id,
        },
    );
    put_publish(&mut out, 1, "last", b"last");
    put(
        &mut out,
        0,
        ConnectionClose {
            reply_code,
            reply_text,
            class_id,
            method_id,
        },
    );
    out
}

/// On channel 3: one rolled back, one committed.
fn put_transaction(out: &mut Vec<u8>) {
    let ack = |delivery_tag| BasicAck {
        delivery_tag,
        multiple: false,
    };
    put(out, 3, OPEN);
    put(out, 3, TxSelect);
    put_publish(out, 3, "key", b"in a transaction");
    put(out, 3, GET);
    put(out, 3, ack(1));
    put(out, 3, TxRollback);
    put(out, 3, ack(1));
    put(out, 3, TxCommit);
}

fn put_handshake(out: &mut Vec<u8>) {
    let properties = client_properties();
    put(out, 0, start_ok(&properties, "PLAIN", b"\0guest\0guest"));
    put(
        out,
        0,
        ConnectionTuneOk {
            channel_max: 5,
            frame_max: 8192,
            heartbeat: 0,
        },
    );
    put(out, 0, open_vhost());
}

fn put<'a>(out: &mut Vec<u8>, channel: u16, method: impl Into<Method<'a>>) {
    method.into().encode_frame(channel, out);
}

/// What was written and asked, settlements one by one, in a form that does not depend on how the
/// input was cut.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    output: Vec<u8>,
    requests: String,
}

/// Feeds `input` in pieces of the given sizes, repeated, and plays the node.
fn run(input: &[u8], sizes: &[usize]) -> Seen {
    let mut connection = Connection::new(small_config(), Transport::loopback(), 42, Timestamp(0));
    let mut seen = Seen::default();
    let mut unread = Vec::new();
    let mut left = input;
    let mut sizes = sizes.iter().cycle();
    loop {
        let size = sizes
            .next()
            .map_or(left.len(), |size| (*size).min(left.len()));
        let (piece, later) = left.split_at(size);
        left = later;
        unread.extend_from_slice(piece);
        let before = unread.len();
        loop {
            let taken = connection.handle_input(&Bytes::copy_from_slice(&unread), Timestamp(0));
            unread.drain(..taken);
            connection.check_invariants();
            connection.take_output(&mut seen.output);
            connection.handle_written();
            let mut requests = Vec::new();
            connection.take_requests(&mut requests);
            let mut events = Vec::new();
            for request in &requests {
                record(request, &mut seen.requests);
                answer(request, &mut events);
            }
            if taken == 0 && events.is_empty() {
                break;
            }
            for event in events {
                connection.handle_event(event, Timestamp(0));
                connection.check_invariants();
            }
        }
        assert!(unread.len() <= before, "input is consumed, never made");
        if left.is_empty() {
            return seen;
        }
    }
}

fn record(request: &Request, all: &mut String) {
    match request {
        Request::Settle(settle) => {
            for place in 0..u64::from(settle.count) {
                let first = MessageIndex(settle.first.0 + place);
                let one = staunch_types::request::Settle {
                    first,
                    count: 1,
                    ..*settle
                };
                all.push_str(&print_request(&Request::Settle(one)));
            }
        }
        // Depends on when output is taken.
        Request::Drained { .. } => {}
        other => all.push_str(&print_request(other)),
    }
}

#[test]
fn the_script_runs_to_its_end() {
    let seen = run(&script(), &[usize::MAX]);
    let output = print_frames(&seen.output);
    assert!(output.ends_with("0 connection.close-ok\n"), "{output}");
    assert!(output.contains("2 channel.close 406"), "{output}");
    assert_eq!(
        seen.requests.matches("publish 1").count(),
        6,
        "{}",
        seen.requests
    );
    assert!(!seen.requests.contains("skipped"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn cutting_input_changes_nothing(sizes in prop::collection::vec(1..200_usize, 1..20)) {
        let whole = run(&script(), &[usize::MAX]);
        prop_assert_eq!(run(&script(), &sizes), whole);
    }

    #[test]
    fn nonsense_never_panics(
        at in 0..10_000_usize,
        garbage in prop::collection::vec(any::<u8>(), 0..400),
        size in 1..5_000_usize,
    ) {
        let mut input = script();
        let at = at % input.len();
        input.truncate(at);
        input.extend_from_slice(&garbage);
        let seen = run(&input, &[size]);
        prop_assert!(seen.output.len() < 64 << 10);
    }

    #[test]
    fn flipped_bits_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..6),
    ) {
        let mut input = script();
        for (place, bit) in flips {
            let place = place.index(input.len());
            input[place] ^= 1 << bit;
        }
        run(&input, &[1000]);
    }
}

#[test]
fn one_byte_at_a_time() {
    assert_eq!(run(&script(), &[1]), run(&script(), &[usize::MAX]));
}

#[test]
fn a_node_that_confirms_late_finds_the_connection_gone() {
    let mut bench = Bench::open();
    bench.method(1, ConfirmSelect { nowait: true });
    bench.publish("a", b"");
    bench.connection.handle_peer_gone(bench.now);
    let seq = PublishSeq(1);
    bench.event(Event::Confirmed {
        channel: CHANNEL,
        first: seq,
        last: seq,
    });
    bench.event(Event::ConnectionClosed);
    assert!(bench.connection.is_node_done());
}
