use staunch_amqp_codec::content::{encode_body, encode_content_header};

use super::*;

#[test]
fn a_body_of_many_frames_is_put_together() {
    let mut bench = Bench::open();
    bench.publish("a", &vec![7; 20_000]);
    bench.check("", "publish 1 0 x/a \\x10\\x00\\x02 20000");
}

#[test]
fn a_message_too_large_closes_the_channel_and_is_skipped() {
    for size in [20_001, 8_000_000] {
        let mut bench = Bench::open();
        bench.publish("a", &vec![7; size]);
        bench.check(
            &format!(
                "1 channel.close 406 PRECONDITION_FAILED - message size {size} is larger than \
                 configured max size 20000 (60.40)"
            ),
            "CloseChannel { channel: ChannelNumber(1) }",
        );
        bench.event(Event::ChannelClosed { channel: CHANNEL });
        assert!(bench.unread.is_empty());
        bench.check("", "");
    }
}

#[test]
fn one_whole_frame_above_the_limit_is_refused_too() {
    let config = Config {
        body_size_bytes_max: 3,
        ..small_config()
    };
    let mut bench = Bench::open_with(config);
    bench.open_channel(1);
    bench.publish("a", b"four");
    let output = bench.output();
    assert!(
        output.contains("message size 4 is larger than configured max size 3"),
        "{output}"
    );
}

#[test]
fn contents_on_two_channels_may_interleave() {
    let mut bench = Bench::open();
    bench.open_channel(2);
    bench.output();
    bench.requests();
    let mut bytes = Vec::new();
    for channel in [1, 2] {
        Method::from(publish_method("k")).encode_frame(channel, &mut bytes);
    }
    for channel in [2, 1] {
        encode_content_header(&mut bytes, channel, b"\0\0", 3);
    }
    for channel in [1, 2] {
        encode_body(&mut bytes, channel, b"abc", 8192);
    }
    bench.bytes(&bytes);
    bench.check(
        "",
        "publish 1 0 x/k \\x00\\x00 3\npublish 2 0 x/k \\x00\\x00 3",
    );
}

#[track_caller]
fn check_content(put: impl Fn(&mut Vec<u8>), text: &str) {
    let mut bench = Bench::open();
    let mut bytes = Vec::new();
    Method::from(publish_method("k")).encode_frame(1, &mut bytes);
    put(&mut bytes);
    bench.bytes(&bytes);
    bench.check(
        &format!("0 connection.close {text} (60.40)"),
        "CloseConnection",
    );
}

#[test]
fn frames_out_of_place() {
    let header = "505 UNEXPECTED_FRAME - expected content header for class 60, got";
    check_content(
        |out| encode_body(out, 1, b"x", 8192),
        &format!("{header} non content header frame instead"),
    );
    check_content(
        |out| out.extend_from_slice(b"\x02\0\x01\0\0\0\x0e\0\x32\0\0\0\0\0\0\0\0\0\0\0\0\xce"),
        &format!("{header} one for class 50 instead"),
    );
    check_content(
        |out| {
            encode_content_header(out, 1, b"\0\0", 1);
            encode_content_header(out, 1, b"\0\0", 1);
        },
        "505 UNEXPECTED_FRAME - expected content body, got non content body frame instead",
    );
    check_content(
        |out| {
            encode_content_header(out, 1, b"\0\0", 1);
            encode_body(out, 1, b"xyz", 8192);
        },
        "501 FRAME_ERROR - content body frame exceeds remaining content size",
    );
    check_content(
        |out| encode_content_header(out, 1, b"\0\x01", 0),
        "502 SYNTAX_ERROR - content header: property flags 0x0001 have unassigned bits",
    );
}

#[test]
fn unfinished_messages_are_bounded_together() {
    let mut bench = Bench::open();
    for channel in 1..=5 {
        if channel > 1 {
            bench.open_channel(channel);
        }
        bench.method(channel, publish_method("k"));
        let mut bytes = Vec::new();
        encode_content_header(&mut bytes, channel, b"\0\0", 20_000);
        for _ in 0..4 {
            encode_body(&mut bytes, channel, &[0; 4_900], 8192);
        }
        bench.bytes(&bytes);
    }
    let output = bench.output();
    assert!(
        output.contains("506 RESOURCE_ERROR - unfinished messages"),
        "{output}"
    );
}
