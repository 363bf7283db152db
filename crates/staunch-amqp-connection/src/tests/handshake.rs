use staunch_amqp_codec::{
    frame::ProtocolHeader,
    methods::{ConnectionClose, ConnectionCloseOk, ConnectionUpdateSecret},
};
use staunch_types::{Operation, Refusal};

use super::*;
use crate::{CLOSE_TIMEOUT, CloseReason, LOGIN_REFUSED_DELAY};

const LOGIN: &str = "login \"guest\" PLAIN Password(Secret(..))";

/// A machine that waits for `connection.start-ok`.
fn started() -> Bench {
    let mut bench = Bench::new(Config::default());
    bench.bytes(b"AMQP\0\0\x09\x01");
    bench.check("0 connection.start", "");
    bench
}

/// A machine that waits for `connection.tune-ok`.
fn tuning() -> Bench {
    let mut bench = started();
    bench.method(
        0,
        start_ok(&client_properties(), "PLAIN", b"\0guest\0guest"),
    );
    assert!(bench.connection.is_stalled());
    bench.check("", LOGIN);
    bench.event(Event::LoginAccepted {
        user: Name::from_static("guest"),
    });
    bench.check("0 connection.tune 2047 131072 60", "");
    bench
}

#[test]
fn opens_and_closes() {
    let mut bench = tuning();
    bench.method(
        0,
        ConnectionTuneOk {
            channel_max: 10,
            frame_max: 8192,
            heartbeat: 0,
        },
    );
    bench.method(0, open_vhost());
    bench.check("", "OpenVhost { vhost: \"/\" }");
    assert!(
        bench.connection.poll_timeout().is_some(),
        "the handshake is not over"
    );
    bench.event(Event::VhostOpened);
    bench.check("0 connection.open-ok", "");
    assert_eq!(bench.connection.poll_timeout(), None);
    assert_eq!(bench.connection.user().unwrap().as_bytes(), b"guest");
    let new_secret = ConnectionUpdateSecret {
        new_secret: b"s",
        reason: text("r"),
    };
    bench.method(0, new_secret);
    bench.check("", "UpdateSecret { secret: Secret(..) }");
    bench.event(Event::SecretUpdated);
    bench.check("0 connection.update-secret-ok", "");
    let close = ConnectionClose {
        reply_code: 200,
        reply_text: text("bye"),
        class_id: 0,
        method_id: 0,
    };
    bench.method(0, close);
    bench.check("", "CloseConnection");
    assert!(!bench.connection.is_closed());
    bench.event(Event::ConnectionClosed);
    bench.check("0 connection.close-ok", "");
    assert!(bench.connection.is_closed() && bench.connection.is_node_done());
}

#[test]
fn who_is_forced_out_while_closing_is_not_told_that_all_is_well() {
    let mut bench = Bench::open();
    let close = ConnectionClose {
        reply_code: 200,
        reply_text: text("bye"),
        class_id: 0,
        method_id: 0,
    };
    bench.method(0, close);
    bench.check("", "CloseConnection");
    let reason = "settlements could not be committed".to_owned();
    bench.event(Event::Forced { reason });
    bench.check("", "");
    assert!(bench.connection.is_closed());
    bench.event(Event::ConnectionClosed);
    bench.check("", "");
    assert!(bench.connection.is_node_done());
}

#[test]
fn a_foreign_header_is_answered_and_closed() {
    for (header, known_as) in [
        (b"AMQP\x03\x01\0\0", ProtocolHeader::Amqp10 { sasl: true }),
        (b"AMQP\0\x01\0\0", ProtocolHeader::Amqp10 { sasl: false }),
        (b"AMQP\x01\x01\x08\0", ProtocolHeader::Amqp08),
        (b"GET / HT", ProtocolHeader::Http),
        (
            b"\x16\x03\x01\x02\0\x01\0\x01",
            ProtocolHeader::TlsClientHello,
        ),
        (b"\0\0\0\0\0\0\0\0", ProtocolHeader::NotAmqp([0; 8])),
    ] {
        let mut bench = Bench::new(Config::default());
        bench.bytes(header);
        bench.check("AMQP\\x00\\x00\\t\\x01", "CloseConnection");
        assert!(bench.connection.is_closed());
        let reason = bench.connection.close_reason();
        assert_eq!(reason, Some(&CloseReason::ForeignProtocol(known_as)));
    }
}

#[test]
fn the_header_of_0_9_is_served() {
    let mut bench = Bench::new(Config::default());
    bench.bytes(b"AMQP\x01\x01\0\x09");
    bench.check("0 connection.start", "");
}

#[test]
fn a_refused_login_is_told_to_those_who_understand() {
    let mut bench = started();
    bench.method(
        0,
        start_ok(&client_properties(), "PLAIN", b"\0guest\0wrong"),
    );
    bench.event(Event::LoginRefused);
    bench.check(
        "0 connection.close 403 ACCESS_REFUSED - Login was refused using authentication mechanism \
         PLAIN. For details see the broker logfile. (0.0)",
        &format!("{LOGIN}\nCloseConnection"),
    );
    bench.method(0, ConnectionCloseOk);
    assert!(bench.connection.is_closed());

    let mut bench = started();
    bench.method(
        0,
        start_ok(&FieldTable::default(), "PLAIN", b"\0guest\0wrong"),
    );
    bench.event(Event::LoginRefused);
    bench.check("", &format!("{LOGIN}\nCloseConnection"));
    assert!(!bench.connection.is_closed());
    bench.pass(LOGIN_REFUSED_DELAY.as_secs());
    assert!(bench.connection.is_closed());
    assert_eq!(
        bench.connection.close_reason(),
        Some(&CloseReason::LoginRefused)
    );
}

#[test]
fn tuning_stays_within_the_limits() {
    let check = |channel_max, frame_max, text: &str| {
        let mut bench = tuning();
        bench.method(
            0,
            ConnectionTuneOk {
                channel_max,
                frame_max,
                heartbeat: 0,
            },
        );
        bench.check(
            &format!("0 connection.close 530 NOT_ALLOWED - negotiated {text} (10.30)"),
            "CloseConnection",
        );
    };
    check(
        1,
        4095,
        "frame_max = 4095 is lower than the minimum allowed value (4096)",
    );
    check(
        1,
        0,
        "frame_max = 0 is higher than the maximum allowed value (131072)",
    );
    check(
        0,
        8192,
        "channel_max = 0 (no limit) is higher than the maximum allowed value (2047)",
    );
    check(
        2048,
        8192,
        "channel_max = 2048 is higher than the maximum allowed value (2047)",
    );
}

/// amqplib before 0.10.6 asks for it, and nothing else of it is old.
#[test]
fn the_smallest_frames_of_the_specification_are_enough() {
    let mut bench = tuning();
    bench.method(
        0,
        ConnectionTuneOk {
            channel_max: 1,
            frame_max: 4096,
            heartbeat: 0,
        },
    );
    bench.method(0, open_vhost());
    bench.event(Event::VhostOpened);
    bench.open_channel(1);
    bench.method(1, consume("tag"));
    bench.reply(Reply::Consuming {
        consumer: ConsumerKey(7),
        consumer_timeout: None,
    });
    bench.output();
    bench.event(Event::Delivery(Delivery {
        channel: ChannelNumber(1),
        message: Message::copied(b"x", b"key", b"\0\0", &[b'b'; 4_089]),
        ..delivery(0)
    }));
    let output = bench.output();
    assert!(
        output.ends_with("1 header 4089\n1 body 4088\n1 body 1\n"),
        "{output}"
    );
}

#[test]
fn an_unknown_vhost_is_530() {
    let mut bench = tuning();
    bench.method(
        0,
        ConnectionTuneOk {
            channel_max: 1,
            frame_max: 8192,
            heartbeat: 0,
        },
    );
    bench.method(0, open_vhost());
    let vhost = Name::from_static("/");
    bench.event(Event::VhostRefused(Refusal::VhostNotFound { vhost }.into()));
    bench.check(
        "0 connection.close 530 NOT_ALLOWED - vhost / not found (10.40)",
        "OpenVhost { vhost: \"/\" }\nCloseConnection",
    );
    assert!(!bench.connection.is_closed());
    bench.pass(CLOSE_TIMEOUT.as_secs());
    assert!(
        bench.connection.is_closed(),
        "a peer may not keep the socket for ever"
    );
}

#[test]
fn methods_out_of_turn_are_504_and_channels_505() {
    let mut bench = started();
    bench.method(0, open_vhost());
    bench.check(
        "0 connection.close 504 CHANNEL_ERROR - unexpected method in connection state starting \
         (10.40)",
        "CloseConnection",
    );
    let mut bench = started();
    bench.method(1, OPEN);
    bench.check(
        "0 connection.close 505 UNEXPECTED_FRAME - type 1, all octets = <<0,20,0,10,0>> (0.0)",
        "CloseConnection",
    );
}

#[test]
fn frames_before_tuning_are_small() {
    let mut bench = started();
    bench.bytes(&[1, 0, 0, 0, 0, 0x20, 1]);
    bench.check(
        "0 connection.close 501 FRAME_ERROR - type 1, all octets = <<>>: \
         {frame_too_large,8193,8184} (0.0)",
        "CloseConnection",
    );
    bench.bytes(&[0; 10_000]);
    assert!(
        bench.unread.is_empty(),
        "after lost framing everything is discarded"
    );
}

#[test]
fn a_slow_handshake_and_a_lost_peer_end_it() {
    let mut bench = started();
    bench.pass(9);
    assert!(!bench.connection.is_closed());
    bench.pass(1);
    bench.check("", "CloseConnection");
    assert_eq!(
        bench.connection.close_reason(),
        Some(&CloseReason::HandshakeTimeout)
    );

    let mut bench = tuning();
    bench.connection.handle_peer_gone(bench.now);
    bench.connection.handle_peer_gone(bench.now);
    bench.check("", "CloseConnection");
    bench.event(Event::ConnectionClosed);
    assert!(bench.connection.is_closed() && bench.connection.is_node_done());
}

#[test]
fn heartbeats_go_both_ways() {
    let mut bench = tuning();
    bench.method(
        0,
        ConnectionTuneOk {
            channel_max: 1,
            frame_max: 8192,
            heartbeat: 10,
        },
    );
    bench.method(0, open_vhost());
    bench.event(Event::VhostOpened);
    bench.check("0 connection.open-ok", "OpenVhost { vhost: \"/\" }");
    bench.pass(5);
    bench.pass(5);
    bench.check("heartbeat", "");
    bench.bytes(&[8, 0, 0, 0, 0, 0, 0, 0xce]);
    for _ in 0..4 {
        bench.pass(5);
        assert!(!bench.connection.is_closed());
    }
    bench.pass(5);
    bench.check("heartbeat", "CloseConnection");
    assert_eq!(
        bench.connection.close_reason(),
        Some(&CloseReason::HeartbeatTimeout)
    );
}

#[test]
fn a_refused_secret_closes_the_connection() {
    let mut bench = Bench::open();
    let new_secret = ConnectionUpdateSecret {
        new_secret: b"hunter2",
        reason: text("expired"),
    };
    bench.method(0, new_secret);
    bench.method(1, declare("q"));
    bench.check("", "UpdateSecret { secret: Secret(..) }");
    assert!(!format!("{:?}", bench.connection).contains("hunter2"));
    bench.event(Event::SecretRefused);
    bench.check(
        "0 connection.close 530 NOT_ALLOWED - New secret was refused by one of the backends \
         (10.70)",
        "CloseConnection",
    );
}

#[test]
fn a_limit_on_connections_or_channels_closes_the_connection() {
    let reached = "number of channels opened for user 'u' has reached the maximum allowed user \
                   limit of 3";
    let mut bench = Bench::open();
    bench.method(2, OPEN);
    bench.event(Event::ConnectionRefused {
        operation: Operation::OpenChannel,
        refusal: Refusal::NotAllowed(reached.to_owned()).into(),
    });
    bench.check(
        &format!("0 connection.close 530 NOT_ALLOWED - {reached} (0.0)"),
        "OpenChannel { channel: ChannelNumber(2) }\nCloseConnection",
    );
    // The code is the refusal's, even one that closes a channel elsewhere.
    let mut bench = Bench::open();
    bench.event(Event::ConnectionRefused {
        operation: Operation::OpenVhost,
        refusal: Refusal::Precondition("so it is".to_owned()).into(),
    });
    bench.check(
        "0 connection.close 406 PRECONDITION_FAILED - so it is (10.40)",
        "CloseConnection",
    );
}

#[test]
fn somebody_may_end_a_connection() {
    let mut bench = Bench::open();
    let reason = "Closed via management plugin".to_owned();
    bench.event(Event::Forced { reason });
    bench.check(
        "0 connection.close 320 CONNECTION_FORCED - Closed via management plugin (0.0)",
        "CloseConnection",
    );
    let reason = bench.connection.close_reason();
    assert_eq!(
        reason.map(ToString::to_string).as_deref(),
        Some("closed by the broker: 320 Closed via management plugin")
    );
}

#[test]
fn a_stopping_node_says_so() {
    let mut bench = Bench::open();
    bench.event(Event::Shutdown);
    bench.check(
        "0 connection.close 320 CONNECTION_FORCED - broker forced connection closure with reason \
         'shutdown' (0.0)",
        "CloseConnection",
    );
    bench.event(Event::Shutdown);
    bench.deliver(0);
    bench.check("", "");
}
