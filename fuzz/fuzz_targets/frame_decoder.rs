//! Frames and methods: whatever the bytes, the decoder does not panic, and what it accepts is
//! written again as it was read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use staunch_amqp_codec::{
    content::ContentHeader,
    frame::{FrameKind, ProtocolHeader, decode_frame, encode_frame},
    methods::Method,
};
use staunch_types::properties::{Properties, PropertiesBuilder};

const FRAME_MAX: u32 = 8_192;

fuzz_target!(|input: &[u8]| {
    if let Some(header) = ProtocolHeader::decode(input) {
        assert_eq!(&header.refusal()[..4], b"AMQP");
    }
    let mut rest = input;
    while let Ok(Some((frame, size))) = decode_frame(rest, FRAME_MAX) {
        assert!(size <= rest.len() && frame.payload.len() <= FRAME_MAX as usize);
        let mut again = Vec::new();
        encode_frame(frame, &mut again);
        assert_eq!(again, rest[..size]);
        match frame.kind {
            FrameKind::Method => check_method(frame.payload),
            FrameKind::Header => check_header(frame.payload),
            FrameKind::Body | FrameKind::Heartbeat => {}
        }
        rest = &rest[size..];
    }
    // Most inputs are no frame at all.
    check_method(input);
    check_header(input);
});

fn check_method(payload: &[u8]) {
    let Ok(method) = Method::decode(payload) else {
        return;
    };
    let mut again = Vec::new();
    method.encode(&mut again);
    // Reserved arguments and unknown bits are read and not kept, so bytes may differ, once.
    let second = Method::decode(&again).expect("what was written can be read");
    assert_eq!(format!("{second:?}"), format!("{method:?}"));
    let mut third = Vec::new();
    second.encode(&mut third);
    assert_eq!(third, again);
}

fn check_header(payload: &[u8]) {
    let Ok(header) = ContentHeader::decode(payload) else {
        return;
    };
    let Ok(properties) = Properties::parse(header.properties_raw) else {
        return;
    };
    let again = PropertiesBuilder::from_properties(properties).build();
    let again = again.expect("what was read can be written");
    assert_eq!(&again.as_bytes()[..], header.properties_raw);
    assert!(!format!("{properties:?}").is_empty());
}
