//! What a peer must not do: each gets the right code, and costs no more memory than a limit says.

use staunch_amqp_codec::{
    content::{encode_body, encode_content_header},
    methods::{ConnectionStartOk, ConnectionTune, QueueDeclareOk},
    wire::SHORT_STR_BYTES_MAX,
};
use staunch_types::field_table::{TABLE_FIELDS_MAX, TABLE_NESTING_MAX};

use super::*;
use crate::CloseReason;

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let [c1, c0] = channel.to_be_bytes();
    [&[kind, c1, c0][..], &size, payload, &[0xce]].concat()
}

#[track_caller]
fn check_closes(bytes: &[u8], text: &str) {
    let mut bench = Bench::open();
    bench.bytes(bytes);
    bench.check(&format!("0 connection.close {text}"), "CloseConnection");
    assert!(bench.unread.is_empty(), "the rest is not kept");
}

#[test]
fn frames_are_judged_by_their_announced_size() {
    // Before tuning, in every state.
    let too_large = |limit: u32| {
        let size = limit + 1;
        let strict = limit - 8;
        format!(
            "501 FRAME_ERROR - type 2, all octets = <<>>: {{frame_too_large,{size},{strict}}} (0.0)"
        )
    };
    let config = Config {
        initial_frame_max: 20_000,
        ..Config::default()
    };
    let mut bench = Bench::new(config);
    bench.bytes(b"AMQP\0\0\x09\x01\x02\0\0\0\0\x4e\x21");
    bench.check(
        &format!(
            "0 connection.start\n0 connection.close {}",
            too_large(20_000)
        ),
        "CloseConnection",
    );
    // After tuning to 8192: the payload may be as large as the frame, and not larger.
    check_closes(b"\x02\0\x01\0\0\x20\x01", &too_large(8192));
    check_closes(
        b"\x01\0\0\xff\xff\xff\xff",
        "501 FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,4294967295,8184} (0.0)",
    );
    let mut bench = Bench::open();
    bench.method(1, publish_method("k"));
    let mut bytes = Vec::new();
    encode_content_header(&mut bytes, 1, b"\0\0", 8192);
    bytes.extend(frame(3, 1, &[0; 8192]));
    bench.bytes(&bytes);
    assert!(bench.requests().contains("8192"), "RabbitMQ's tolerance");
}

#[test]
fn a_content_header_is_a_frame_like_others() {
    let headers = vec![b'x'; 9_000];
    let mut bytes = Vec::new();
    Method::from(publish_method("k")).encode_frame(1, &mut bytes);
    encode_content_header(&mut bytes, 1, &headers, 0);
    check_closes(
        &bytes,
        "501 FRAME_ERROR - type 2, all octets = <<>>: {frame_too_large,9012,8184} (0.0)",
    );
}

#[test]
fn payloads_that_are_too_short_or_not_empty() {
    check_closes(
        &frame(1, 1, b"\0\x3c"),
        "501 FRAME_ERROR - type 1, all octets = <<0,60>>: unknown_frame (0.0)",
    );
    check_closes(
        &frame(2, 1, b"\0\x3c\0\0\0\0\0\0\0\0\0"),
        "501 FRAME_ERROR - type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0>>: unknown_frame (0.0)",
    );
    check_closes(
        &frame(8, 0, b"I am alive, really"),
        "501 FRAME_ERROR - type 8, first 16 octets = <<\"I am alive, real\">>: unknown_frame (0.0)",
    );
    check_closes(
        &frame(8, 1, b""),
        "505 UNEXPECTED_FRAME - type 8, all octets = <<>> (0.0)",
    );
    check_closes(
        &frame(7, 0, b""),
        "501 FRAME_ERROR - type 7, all octets = <<>>: unknown_frame (0.0)",
    );
    let mut wrong_end = frame(1, 1, b"\0\x3c\0\x0a\0\0\0\0\0\0\0");
    *wrong_end.last_mut().unwrap() = 0;
    check_closes(
        &wrong_end,
        "501 FRAME_ERROR - type 1, all octets = <<0,60,0,10,0,0,0,0,0,0,0>>: \
         {invalid_frame_end_marker,0} (0.0)",
    );
}

#[test]
fn methods_with_wrong_arguments() {
    check_closes(
        &frame(1, 1, b"\0\x3c\0\x50\0"),
        "501 FRAME_ERROR - cannot decode basic.ack: truncated (60.80)",
    );
    check_closes(
        &frame(1, 1, b"\0\x3c\0\x50\0\0\0\0\0\0\0\x01\0more"),
        "501 FRAME_ERROR - cannot decode basic.ack: 4 bytes follow the last argument (60.80)",
    );
    check_closes(
        &frame(1, 1, b"\0\x2c\0\x01"),
        "503 COMMAND_INVALID - unknown method 44.1 (44.1)",
    );
}

/// `queue.declare` with these bytes as arguments.
fn declare_with(table: &[u8]) -> Vec<u8> {
    let size = u32::try_from(table.len()).unwrap().to_be_bytes();
    let payload = [b"\0\x32\0\x0a\0\0\x01q\0", &size[..], table].concat();
    frame(1, 1, &payload)
}

fn nested(depth: usize) -> Vec<u8> {
    let mut table = Vec::new();
    for _ in 1..depth {
        let size = u32::try_from(table.len()).unwrap().to_be_bytes();
        table = [b"\x01kF", &size[..], &table].concat();
    }
    table
}

#[test]
fn tables_have_a_depth_and_a_size() {
    for table in [
        nested(TABLE_NESTING_MAX),
        b"\x01kV".repeat(TABLE_FIELDS_MAX),
    ] {
        let mut bench = Bench::open();
        bench.bytes(&declare_with(&table));
        assert!(bench.requests().starts_with("DeclareQueue"));
    }
    let check = |table: &[u8], text: &str| {
        let text = format!("502 SYNTAX_ERROR - cannot decode queue.declare: {text} (50.10)");
        check_closes(&declare_with(table), &text);
    };
    check(
        &nested(TABLE_NESTING_MAX + 1),
        "field table is nested deeper than 32",
    );
    check(&nested(500), "field table is nested deeper than 32");
    check(
        &b"\x01kV".repeat(TABLE_FIELDS_MAX + 1),
        "field table has more than 1024 fields",
    );
    check(b"\x01kQ", "field table has a value of unknown type 81");
    check(b"\x09k", "field table is truncated");
    check(b"\x01kS\xff\xff\xff\xff", "field table is truncated");
}

#[test]
fn headers_of_a_message_are_tables_too() {
    let table = nested(TABLE_NESTING_MAX + 1);
    let size = u32::try_from(table.len()).unwrap().to_be_bytes();
    let properties = [b"\x20\0", &size[..], &table].concat();
    let mut bytes = Vec::new();
    Method::from(publish_method("k")).encode_frame(1, &mut bytes);
    encode_content_header(&mut bytes, 1, &properties, 0);
    check_closes(
        &bytes,
        "502 SYNTAX_ERROR - content header: headers: field table is nested deeper than 32 (60.40)",
    );
}

#[test]
fn bodies_that_do_not_fit_their_header() {
    let mut publish = Vec::new();
    Method::from(publish_method("k")).encode_frame(1, &mut publish);
    let with = |body_size, rest: &[u8]| {
        let mut bytes = publish.clone();
        encode_content_header(&mut bytes, 1, b"\0\0", body_size);
        [bytes, rest.to_vec()].concat()
    };
    check_closes(
        &with(3, &frame(3, 1, b"four")),
        "501 FRAME_ERROR - content body frame exceeds remaining content size (60.40)",
    );
    check_closes(
        &with(3, &[frame(3, 1, b"ab"), publish.clone()].concat()),
        "505 UNEXPECTED_FRAME - expected content body, got non content body frame instead (60.40)",
    );
    check_closes(
        &[&publish[..], &publish].concat(),
        "505 UNEXPECTED_FRAME - expected content header for class 60, got non content header frame \
         instead (60.40)",
    );
    // An empty body has no frame at all: the next one stands alone.
    let mut bench = Bench::open();
    bench.bytes(&with(0, &frame(3, 1, b"")));
    bench.check(
        "0 connection.close 505 UNEXPECTED_FRAME - expected method frame, got non method frame \
         instead (0.0)",
        "publish 1 0 x/k \\x00\\x00 0\nCloseConnection",
    );
    // Whatever is announced, memory is taken for what has come.
    let mut bench = Bench::open();
    bench.bytes(&with(u64::MAX, b""));
    let output = bench.output();
    assert!(
        output.contains("message size 18446744073709551615 is larger than configured max size"),
        "{output}"
    );
}

#[test]
fn the_largest_message_there_can_be() {
    let config = Config {
        body_size_bytes_max: 512 << 20,
        ..small_config()
    };
    let mut bench = Bench::open_with(config);
    bench.open_channel(1);
    bench.output();
    bench.method(1, publish_method("k"));
    let mut bytes = Vec::new();
    encode_content_header(&mut bytes, 1, b"\0\0", (512 << 20) + 1);
    bench.bytes(&bytes);
    let output = bench.output();
    assert_eq!(
        output,
        "1 channel.close 406 PRECONDITION_FAILED - message size 536870913 is larger than max size \
         536870912 (60.40)\n"
    );
}

#[test]
fn what_only_a_server_says() {
    let declared = QueueDeclareOk {
        queue: text("q"),
        message_count: 0,
        consumer_count: 0,
    };
    let mut bytes = Vec::new();
    Method::from(declared).encode_frame(1, &mut bytes);
    check_closes(&bytes, "503 COMMAND_INVALID - unimplemented method (50.11)");
    bytes.clear();
    let tune = ConnectionTune {
        channel_max: 1,
        frame_max: 8192,
        heartbeat: 0,
    };
    Method::from(tune).encode_frame(0, &mut bytes);
    check_closes(
        &bytes,
        "504 CHANNEL_ERROR - unexpected method in connection state running (10.30)",
    );
    bytes.clear();
    let properties = client_properties();
    let again: ConnectionStartOk<'_> = start_ok(&properties, "PLAIN", b"\0guest\0guest");
    Method::from(again).encode_frame(0, &mut bytes);
    check_closes(
        &bytes,
        "504 CHANNEL_ERROR - unexpected method in connection state running (10.11)",
    );
}

#[test]
fn content_on_a_channel_that_is_not_open() {
    let mut bytes = Vec::new();
    encode_body(&mut bytes, 3, b"x", 8192);
    check_closes(
        &bytes,
        "505 UNEXPECTED_FRAME - expected method frame, got non method frame instead (0.0)",
    );
    bytes.clear();
    put_publish(&mut bytes, 3, "k", b"x");
    check_closes(
        &bytes,
        "504 CHANNEL_ERROR - expected 'channel.open' (60.40)",
    );
}

#[test]
fn a_flood_of_channels() {
    let mut bench = Bench::open();
    let mut bytes = Vec::new();
    for number in 2..=u16::MAX {
        Method::from(OPEN).encode_frame(number, &mut bytes);
    }
    bench.bytes(&bytes);
    for number in 2..=5 {
        assert_eq!(
            bench.requests().lines().count(),
            1,
            "one question at a time"
        );
        let channel = ChannelNumber(number);
        bench.event(Event::ChannelOpened { channel });
    }
    let output = bench.output();
    assert!(
        output.ends_with(
            "0 connection.close 530 NOT_ALLOWED - number of channels opened (5) has reached the \
             negotiated channel_max (5) (0.0)\n"
        ),
        "{output}"
    );
    assert!(bench.unread.is_empty() && bench.connection.channel_count() == 0);
}

#[test]
fn channels_opened_and_closed_for_ever_leave_nothing() {
    let mut bench = Bench::open_with(small_config());
    for number in 1..=2_000 {
        bench.open_channel(number);
        let close = staunch_amqp_codec::methods::ChannelClose {
            reply_code: 200,
            reply_text: ShortStr::EMPTY,
            class_id: 0,
            method_id: 0,
        };
        bench.method(number, close);
        let channel = ChannelNumber(number);
        bench.event(Event::ChannelClosed { channel });
        assert_eq!(bench.connection.channel_count(), 0);
        bench.output();
        bench.requests();
    }
}

#[test]
fn names_are_any_bytes_and_texts_are_utf8() {
    let mut bench = Bench::open();
    let name = ShortStr::new(b"\xff\xfe\0").unwrap();
    bench.method(
        1,
        QueueDeclare {
            queue: name,
            ..declare("")
        },
    );
    let requests = bench.requests();
    assert!(
        requests.starts_with("DeclareQueue"),
        "the node judges names: {requests}"
    );
    bench.reply(Reply::QueueDeclared {
        ready_count: 0,
        consumer_count: 0,
    });
    bench.output();
    bench.method(
        1,
        BasicConsume {
            consumer_tag: name,
            ..consume("")
        },
    );
    bench.reply(Reply::Consuming {
        consumer: ConsumerKey(7),
        consumer_timeout: None,
    });
    bench.method(
        1,
        BasicConsume {
            consumer_tag: name,
            ..consume("")
        },
    );
    let output = bench.output();
    assert!(
        output.contains("attempt to reuse consumer tag '\u{fffd}\u{fffd}\0'"),
        "{output}"
    );
}

#[test]
fn the_longest_names_fit_into_replies() {
    let mut bench = Bench::open();
    let name = "q".repeat(SHORT_STR_BYTES_MAX);
    bench.method(1, consume(&name));
    bench.reply(Reply::Consuming {
        consumer: ConsumerKey(7),
        consumer_timeout: None,
    });
    bench.check(
        &format!("1 basic.consume-ok {name}"),
        &format!(
            "{:?}",
            Request::Consume(staunch_types::request::Consume {
                channel: CHANNEL,
                queue: Name::from_static("q"),
                tag: Name::new(name.as_bytes()).unwrap(),
                no_ack: false,
                exclusive: false,
                prefetch: 0,
                arguments: FieldTable::default(),
            })
        ),
    );
}

/// Steps of a handshake a peer may stop at.
fn half_open() -> Vec<Bench> {
    let started = || {
        let mut bench = Bench::new(Config::default());
        bench.bytes(b"AMQP\0\0\x09\x01");
        bench
    };
    let tuning = || {
        let mut bench = started();
        bench.method(
            0,
            start_ok(&client_properties(), "PLAIN", b"\0guest\0guest"),
        );
        bench.event(Event::LoginAccepted {
            user: Name::from_static("guest"),
        });
        bench
    };
    let opening = || {
        let mut bench = tuning();
        let tune_ok = ConnectionTuneOk {
            channel_max: 5,
            frame_max: 8192,
            heartbeat: 0,
        };
        bench.method(0, tune_ok);
        bench
    };
    let mut within_a_frame = started();
    within_a_frame.bytes(&[1, 0, 0, 0, 0, 0x20, 0, 0, 10]);
    let mut within_the_header = Bench::new(Config::default());
    within_the_header.bytes(b"AMQP");
    let mut unheard_by_the_node = started();
    unheard_by_the_node.method(
        0,
        start_ok(&client_properties(), "PLAIN", b"\0guest\0guest"),
    );
    vec![
        Bench::new(Config::default()),
        within_the_header,
        started(),
        within_a_frame,
        unheard_by_the_node,
        tuning(),
        opening(),
    ]
}

#[test]
fn a_handshake_that_stops_anywhere_ends_in_time() {
    for mut bench in half_open() {
        bench.output();
        bench.requests();
        assert!(bench.connection.poll_timeout().is_some());
        bench.pass(9);
        assert!(!bench.connection.is_closed());
        bench.pass(1);
        bench.check("", "CloseConnection");
        assert!(bench.connection.is_closed());
        assert_eq!(
            bench.connection.close_reason(),
            Some(&CloseReason::HandshakeTimeout)
        );
        assert_eq!(bench.connection.poll_timeout(), None);
    }
}

#[test]
fn drops_of_input_do_not_prolong_a_handshake() {
    let mut bench = Bench::new(Config::default());
    bench.bytes(b"AMQP\0\0\x09\x01");
    bench.output();
    let payload = vec![0; 8_000];
    for byte in frame(1, 0, &payload) {
        bench.bytes(&[byte]);
        if bench.connection.is_closed() {
            return;
        }
        bench.pass(1);
    }
    panic!("a slow peer is cut off");
}

#[test]
fn a_client_that_reads_nothing_is_bounded_whatever_it_asks() {
    // Questions to the node, answered at once, and never read.
    let mut bench = Bench::open();
    let mut answered = 0;
    let name = "q".repeat(SHORT_STR_BYTES_MAX);
    while !bench.connection.is_stalled() {
        bench.method(1, declare(&name));
        bench.connection.take_requests(&mut Vec::new());
        bench.reply(Reply::QueueDeclared {
            ready_count: 0,
            consumer_count: 0,
        });
        answered += 1;
        assert!(answered < 100_000, "reading never stopped");
    }
    let mut out = Vec::new();
    bench.connection.take_output(&mut out);
    assert!(out.len() <= crate::REPLIES_SIZE_BYTES_MAX + 1024);
}
