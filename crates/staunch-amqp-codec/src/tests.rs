//! Properties of the codec as a whole, and the comparison with the crate `amq-protocol`.

use std::hint::black_box;

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use proptest::prelude::*;
use staunch_types::field_table::{ArrayBuilder, FieldTable, TableBuilder, TableRef, Value};
use staunch_types::properties::{Properties, PropertiesBuilder, PropertyList};

use crate::content::{ContentHeader, encode_content, encode_content_header};
use crate::frame::{Frame, FrameError, FrameKind, ProtocolHeader, decode_frame, encode_frame};
use crate::methods::{
    BasicAck, BasicDeliver, BasicNack, BasicPublish, ConnectionStart, DecodeError, LAYOUTS, Method,
};
use crate::wire::{ArgumentError, ShortStr};

mod same;

use same::Same;

const FRAME_MAX: u32 = 131_072;

// Generators.

fn short_string() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z0-9.#*é-]{0,12}", 1 => "[a-z]{255}"]
}

#[derive(Clone, Debug)]
enum Tree {
    Bool(bool),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    F32(f32),
    F64(f64),
    Decimal(u8, u32),
    Text(Vec<u8>),
    Timestamp(u64),
    Void,
    Binary(Vec<u8>),
    Array(Vec<Tree>),
    Table(Vec<(String, Tree)>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Tree::Bool),
        any::<i8>().prop_map(Tree::I8),
        any::<u8>().prop_map(Tree::U8),
        any::<i16>().prop_map(Tree::I16),
        any::<u16>().prop_map(Tree::U16),
        any::<i32>().prop_map(Tree::I32),
        any::<u32>().prop_map(Tree::U32),
        any::<i64>().prop_map(Tree::I64),
        any::<f32>().prop_map(Tree::F32),
        any::<f64>().prop_map(Tree::F64),
        (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| Tree::Decimal(scale, value)),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Tree::Text),
        any::<u64>().prop_map(Tree::Timestamp),
        Just(Tree::Void),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Tree::Binary),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Tree::Array),
            fields(inner).prop_map(Tree::Table),
        ]
    })
}

/// Fields with distinct keys: of repeated ones we keep the first and `amq-protocol` the last.
fn fields(value: impl Strategy<Value = Tree>) -> impl Strategy<Value = Vec<(String, Tree)>> {
    prop::collection::btree_map(short_string(), value, 0..5)
        .prop_map(|map| map.into_iter().rev().collect())
}

fn table() -> impl Strategy<Value = FieldTable> {
    fields(tree()).prop_map(|fields| build_table(&fields))
}

fn build_table(fields: &[(String, Tree)]) -> FieldTable {
    fields
        .iter()
        .fold(TableBuilder::new(), |builder, (key, tree)| {
            with_value(tree, |value| builder.value(key, value))
        })
        .build()
}

fn build_array(items: &[Tree]) -> ArrayBuilder {
    items.iter().fold(ArrayBuilder::new(), |builder, tree| {
        with_value(tree, |value| builder.value(value))
    })
}

fn with_value<T>(tree: &Tree, use_value: impl FnOnce(Value<'_>) -> T) -> T {
    match tree {
        Tree::Bool(v) => use_value(Value::Bool(*v)),
        Tree::I8(v) => use_value(Value::I8(*v)),
        Tree::U8(v) => use_value(Value::U8(*v)),
        Tree::I16(v) => use_value(Value::I16(*v)),
        Tree::U16(v) => use_value(Value::U16(*v)),
        Tree::I32(v) => use_value(Value::I32(*v)),
        Tree::U32(v) => use_value(Value::U32(*v)),
        Tree::I64(v) => use_value(Value::I64(*v)),
        Tree::F32(v) => use_value(Value::F32(*v)),
        Tree::F64(v) => use_value(Value::F64(*v)),
        Tree::Decimal(scale, value) => use_value(Value::Decimal {
            scale: *scale,
            value: *value,
        }),
        Tree::Text(v) => use_value(Value::LongStr(v)),
        Tree::Timestamp(v) => use_value(Value::Timestamp(*v)),
        Tree::Void => use_value(Value::Void),
        Tree::Binary(v) => use_value(Value::Binary(v)),
        Tree::Array(items) => use_value(Value::Array(build_array(items).as_array_ref())),
        Tree::Table(fields) => use_value(Value::Table(build_table(fields).as_table_ref())),
    }
}

/// One argument of a method, encoded.
fn argument(layout: &'static str) -> BoxedStrategy<Vec<u8>> {
    match layout {
        "octet" => any::<u8>().prop_map(|v| vec![v]).boxed(),
        "short" => any::<u16>().prop_map(|v| v.to_be_bytes().to_vec()).boxed(),
        "long" => any::<u32>().prop_map(|v| v.to_be_bytes().to_vec()).boxed(),
        "longlong" => any::<u64>().prop_map(|v| v.to_be_bytes().to_vec()).boxed(),
        "shortstr" => short_string()
            .prop_filter("at most 255 bytes", |text| text.len() <= 255)
            .prop_map(|text| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat())
            .boxed(),
        "longstr" => prop::collection::vec(any::<u8>(), 0..300)
            .prop_map(|bytes| long_string(&bytes))
            .boxed(),
        "table" => table()
            .prop_map(|table| long_string(table.as_bytes()))
            .boxed(),
        other => match other.split_once(':') {
            Some(("reserved", hex)) => Just(
                (0..hex.len() / 2)
                    .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
                    .collect(),
            )
            .boxed(),
            Some(("bits", mask)) => {
                let mask: u8 = mask.parse().unwrap();
                any::<u8>().prop_map(move |bits| vec![bits & mask]).boxed()
            }
            _ => panic!("unknown layout {other}"),
        },
    }
}

fn long_string(bytes: &[u8]) -> Vec<u8> {
    [
        &u32::try_from(bytes.len()).unwrap().to_be_bytes()[..],
        bytes,
    ]
    .concat()
}

/// The payload of some method.
fn method_payload() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(LAYOUTS).prop_flat_map(|(_, class_id, method_id, arguments)| {
        let arguments: Vec<_> = arguments.iter().copied().map(argument).collect();
        arguments.prop_map(move |arguments| {
            let ids = [class_id.to_be_bytes(), method_id.to_be_bytes()].concat();
            [ids, arguments.concat()].concat()
        })
    })
}

fn properties() -> impl Strategy<Value = PropertyList> {
    let text = || proptest::option::of("[a-z/]{0,20}");
    let strings = (
        (text(), text(), text(), text(), text()),
        (text(), text(), text(), text(), text()),
    );
    let numbers = (
        any::<Option<u8>>(),
        any::<Option<u8>>(),
        any::<Option<u64>>(),
    );
    (strings, numbers, proptest::option::of(table())).prop_map(
        |(((a, b, c, d, e), (f, g, h, i, j)), (mode, priority, time), headers)| {
            let mut builder = PropertiesBuilder::new();
            macro_rules! set {
                ($($name:ident = $value:expr),*) => {
                    $(if let Some(value) = $value { builder = builder.$name(value); })*
                };
            }
            set!(
                content_type = &a,
                content_encoding = &b,
                correlation_id = &c,
                reply_to = &d
            );
            set!(
                expiration = &e,
                message_id = &f,
                message_type = &g,
                user_id = &h,
                app_id = &i
            );
            set!(
                cluster_id = &j,
                delivery_mode = mode,
                priority = priority,
                timestamp = time
            );
            set!(headers = headers.as_ref().map(FieldTable::as_table_ref));
            builder.build().unwrap()
        },
    )
}

fn method_frame(channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_frame(
        Frame {
            kind: FrameKind::Method,
            channel,
            payload,
        },
        &mut out,
    );
    out
}

/// What `amq-protocol` makes of a frame when it reads it and writes it again.
fn through_amq_protocol(frame: &[u8]) -> Vec<u8> {
    let (rest, parsed) = parse_frame(frame).expect("amq-protocol reads the frame");
    assert!(rest.is_empty());
    let context = gen_frame(&parsed)(WriteContext::from(Vec::new())).expect("and writes it");
    context.into_inner().0
}

fn payload(frame: &[u8]) -> &[u8] {
    let (decoded, consumed) = decode_frame(frame, FRAME_MAX).unwrap().unwrap();
    assert_eq!(consumed, frame.len());
    decoded.payload
}

/// Frames, and the error that ended the stream.
type Decoded = (Vec<(FrameKind, u16, Vec<u8>)>, Option<FrameError>);

/// All frames of `input`, read in pieces of the given sizes.
fn decode_in_pieces(input: &[u8], sizes: &[usize]) -> Decoded {
    let mut frames = Vec::new();
    let mut buffer = Vec::new();
    let mut rest = input;
    let mut sizes = sizes.iter().copied();
    loop {
        let mut start = 0;
        loop {
            match decode_frame(&buffer[start..], FRAME_MAX) {
                Ok(Some((frame, consumed))) => {
                    frames.push((frame.kind, frame.channel, frame.payload.to_vec()));
                    start += consumed;
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        buffer.drain(..start);
        if rest.is_empty() {
            return (frames, None);
        }
        let (piece, after) = rest.split_at(sizes.next().unwrap_or(rest.len()).min(rest.len()));
        buffer.extend_from_slice(piece);
        rest = after;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn method_roundtrips(bytes in method_payload(), channel: u16) {
        let method = Method::decode(&bytes).unwrap();
        let mut encoded = Vec::new();
        method.encode(&mut encoded);
        prop_assert_eq!(&encoded, &bytes, "{}", method.name());
        encoded.clear();
        method.encode_frame(channel, &mut encoded);
        prop_assert_eq!(encoded, method_frame(channel, &bytes));
    }

    #[test]
    fn method_agrees_with_amq_protocol(bytes in method_payload(), channel: u16) {
        let frame = method_frame(channel, &bytes);
        let method = Method::decode(&bytes).unwrap();
        let (_, theirs) = parse_frame(&frame[..]).unwrap();
        let same = matches!(&theirs, AMQPFrame::Method(_, theirs) if theirs.same(&method));
        prop_assert!(same, "{theirs:?} is not {method:?}");
        let written = through_amq_protocol(&frame);
        // Compared as methods: amq-protocol sorts the fields of tables.
        prop_assert_eq!(Method::decode(payload(&written)), Ok(method));
    }

    #[test]
    fn truncated_and_extended_methods_are_refused(bytes in method_payload(), cut: prop::sample::Index) {
        let short = &bytes[..cut.index(bytes.len())];
        prop_assert!(Method::decode(short).is_err());
        let long = [&bytes[..], &[0]].concat();
        let refused_for_length = matches!(
            Method::decode(&long),
            Err(DecodeError::Arguments { source: ArgumentError::TrailingBytes { count: 1 }, .. })
        );
        prop_assert!(refused_for_length);
    }

    #[test]
    fn content_header_agrees_with_amq_protocol(list in properties(), body_size: u64) {
        let mut ours = Vec::new();
        encode_content_header(&mut ours, 7, list.as_bytes(), body_size);
        let theirs = through_amq_protocol(&ours);
        let header = ContentHeader::decode(payload(&theirs)).unwrap();
        prop_assert_eq!(header.body_size_bytes, body_size);
        let read = Properties::parse(header.properties_raw).unwrap();
        let (_, parsed) = parse_frame(&ours[..]).unwrap();
        let same = matches!(&parsed, AMQPFrame::Header(7, theirs) if theirs.properties.same(&read));
        prop_assert!(same, "{:?} is not {:?}", parsed, read);
        prop_assert_eq!(read.headers(), list.view().headers());
        let same_headers = match list.view().headers() {
            Some(headers) => PropertiesBuilder::from_properties(read).headers(headers),
            None => PropertiesBuilder::from_properties(read),
        };
        prop_assert_eq!(same_headers.build().unwrap(), list);
    }

    #[test]
    fn what_amq_protocol_makes_is_read_here(
        headers in fields(tree()),
        texts in prop::collection::vec(proptest::option::of("[a-z/]{0,20}"), 10),
        (mode, priority, timestamp) in any::<(Option<u8>, Option<u8>, Option<u64>)>(),
        body_size: u64,
    ) {
        let table = same::theirs(&headers);
        prop_assert!(table.same(&build_table(&headers).as_table_ref()));
        let properties = same::their_properties(table, &texts, (mode, priority, timestamp));
        let class_id = 60;
        let frame = AMQPFrame::Header(
            7,
            AMQPContentHeader { class_id, body_size, properties: properties.clone() },
        );
        let written = gen_frame(&frame)(WriteContext::from(Vec::new())).unwrap().into_inner().0;
        let header = ContentHeader::decode(payload(&written)).unwrap();
        prop_assert_eq!(header.body_size_bytes, body_size);
        let read = Properties::parse(header.properties_raw).unwrap();
        prop_assert!(properties.same(&read), "{:?} is not {:?}", properties, read);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        touch_everything(&bytes);
    }

    #[test]
    fn damaged_methods_never_panic(
        mut bytes in method_payload(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (at, octet) in damage {
            let at = at.index(bytes.len());
            bytes[at] = octet;
        }
        touch_everything(&bytes);
    }

    #[test]
    fn damaged_properties_never_panic(
        list in properties(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = list.as_bytes().to_vec();
        for (at, octet) in damage {
            let at = at.index(bytes.len());
            bytes[at] = octet;
        }
        touch_everything(&bytes);
    }

    #[test]
    fn chunking_makes_no_difference(
        payloads in prop::collection::vec(method_payload(), 1..6),
        sizes in prop::collection::vec(1_usize..40, 0..200),
        damage: Option<(prop::sample::Index, u8)>,
    ) {
        let mut stream: Vec<u8> = payloads.iter().flat_map(|p| method_frame(1, p)).collect();
        if let Some((at, octet)) = damage {
            let at = at.index(stream.len());
            stream[at] = octet;
        } else {
            prop_assert_eq!(decode_in_pieces(&stream, &[]).0.len(), payloads.len());
        }
        prop_assert_eq!(decode_in_pieces(&stream, &sizes), decode_in_pieces(&stream, &[]));
    }

    #[test]
    fn content_roundtrips(
        list in properties(),
        body in prop::collection::vec(any::<u8>(), 0..400),
        frame_max in 9_u32..300,
    ) {
        let mut out = Vec::new();
        encode_content(&mut out, 3, list.as_bytes(), &body, frame_max);
        let (header, mut at) = decode_frame(&out, FRAME_MAX).unwrap().unwrap();
        let header = ContentHeader::decode(header.payload).unwrap();
        prop_assert_eq!(header.properties_raw, &list.as_bytes()[..]);
        prop_assert_eq!(header.body_size_bytes, body.len() as u64);
        let mut read = Vec::new();
        while at < out.len() {
            let (frame, consumed) = decode_frame(&out[at..], frame_max).unwrap().unwrap();
            prop_assert_eq!((frame.kind, frame.channel), (FrameKind::Body, 3));
            prop_assert!(consumed <= frame_max as usize && !frame.payload.is_empty());
            read.extend_from_slice(frame.payload);
            at += consumed;
        }
        prop_assert_eq!(read, body);
    }

    #[test]
    fn tables_roundtrip_and_compare(table in table()) {
        let parsed = FieldTable::parse(table.as_bytes().clone()).unwrap();
        let copy = TableBuilder::new().copy_except(parsed.as_table_ref(), &[]).build();
        prop_assert_eq!(copy.as_bytes(), table.as_bytes());
        let mut fields: Vec<_> = parsed.iter().collect();
        fields.reverse();
        let mut reversed = TableBuilder::new();
        for (key, value) in fields {
            reversed.try_value(key, value).unwrap();
        }
        prop_assert_eq!(reversed.build(), table);
    }
}

/// Calls every decoder, and everything that walks what a decoder accepted.
fn touch_everything(bytes: &[u8]) {
    let mut out = Vec::new();
    black_box(decode_frame(bytes, 100)).ok();
    black_box(ProtocolHeader::decode(bytes));
    black_box(ContentHeader::decode(bytes)).ok();
    if let Ok(method) = Method::decode(bytes) {
        method.encode(&mut out);
        assert_eq!(method.ids().0.to_be_bytes()[..], bytes[..2]);
        assert!(!format!("{method:?}").is_empty());
    }
    if let Ok(properties) = Properties::parse(bytes) {
        let rebuilt = PropertiesBuilder::from_properties(properties)
            .build()
            .unwrap();
        assert_eq!(rebuilt.as_bytes(), bytes);
        assert!(!format!("{properties:?}").is_empty());
    }
    if let Ok(table) = TableRef::parse(bytes) {
        let copy = TableBuilder::new().copy_except(table, &[]).build();
        assert_eq!(copy.as_bytes(), bytes);
        assert_eq!(copy.as_table_ref(), table);
    }
    // Views of bytes that nobody checked are wrong, but must not panic either.
    let view = Properties::from_validated(bytes);
    assert!(
        view.headers()
            .is_none_or(|table| table.iter().count() <= bytes.len())
    );
    assert!(format!("{view:?}").len() >= 2);
}

#[test]
fn every_method_of_amqp_is_there() {
    assert_eq!(LAYOUTS.len(), 66);
    let has = |ids| {
        LAYOUTS
            .iter()
            .any(|(_, class_id, method_id, _)| (*class_id, *method_id) == ids)
    };
    for ids in [(10, 71), (30, 10), (40, 51), (60, 120), (85, 11), (90, 31)] {
        assert!(has(ids), "{ids:?}");
    }
}

#[test]
fn publish_on_the_wire() {
    let publish = BasicPublish {
        exchange: ShortStr::from_static("e"),
        routing_key: ShortStr::from_static("rk"),
        mandatory: true,
        ..BasicPublish::default()
    };
    let mut out = Vec::new();
    publish.encode_frame(1, &mut out);
    assert_eq!(
        out,
        b"\x01\0\x01\0\0\0\x0c\0\x3c\0\x28\0\0\x01e\x02rk\x01\xce"
    );
    assert_eq!(
        Method::decode(payload(&out)),
        Ok(Method::BasicPublish(publish))
    );
}

#[test]
fn deliver_ack_and_nack_on_the_wire() {
    let mut out = Vec::new();
    let deliver = BasicDeliver {
        consumer_tag: ShortStr::from_static("c"),
        delivery_tag: 258,
        redelivered: true,
        exchange: ShortStr::EMPTY,
        routing_key: ShortStr::from_static("q"),
    };
    deliver.encode_frame(1, &mut out);
    assert_eq!(
        out[7..],
        *b"\0\x3c\0\x3c\x01c\0\0\0\0\0\0\x01\x02\x01\0\x01q\xce"
    );
    out.clear();
    BasicAck {
        delivery_tag: 1,
        multiple: true,
    }
    .encode_frame(1, &mut out);
    assert_eq!(out[7..], *b"\0\x3c\0\x50\0\0\0\0\0\0\0\x01\x01\xce");
    out.clear();
    BasicNack {
        delivery_tag: 1,
        multiple: false,
        requeue: true,
    }
    .encode_frame(1, &mut out);
    assert_eq!(out[7..], *b"\0\x3c\0\x78\0\0\0\0\0\0\0\x01\x02\xce");
}

#[test]
fn malformed_methods_are_named() {
    assert_eq!(
        Method::decode(b"\0\x3c"),
        Err(DecodeError::NoId { size_bytes: 2 })
    );
    assert_eq!(
        Method::decode(b"\0\x3c\0\x01"),
        Err(DecodeError::UnknownMethod {
            class_id: 60,
            method_id: 1
        })
    );
    let error = Method::decode(b"\0\x3c\0\x28\0\0\x05abc").unwrap_err();
    assert_eq!(error.to_string(), "cannot decode basic.publish: truncated");
    let start = ConnectionStart::default();
    assert_eq!(start.server_properties, TableRef::default());
}

#[test]
fn malformed_frames_carry_their_facts() {
    assert_eq!(decode_frame(b"\x01\0\0\0\0\0", 100), Ok(None));
    assert_eq!(decode_frame(b"\x03\0\x01\0\0\0\x02ab", 100), Ok(None));
    let tolerated = [&b"\x03\0\x01\0\0\0\x64"[..], &[b'x'; 100], b"\xce"].concat();
    assert!(decode_frame(&tolerated, 100).unwrap().is_some());
    assert_eq!(
        decode_frame(&tolerated, 99),
        Err(FrameError::TooLarge {
            type_octet: 3,
            channel: 1,
            payload_size_bytes: 100,
            payload_size_bytes_max: 91,
        })
    );
    let error = decode_frame(b"\x01\0\x01\0\0\0\x02ab\0", 100).unwrap_err();
    let FrameError::BadEnd {
        end_octet: 0,
        type_octet: 1,
        channel: 1,
        start,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((start.octets(), start.is_whole()), (&b"ab"[..], true));
    let error = decode_frame(b"\x07\0\x01\0\0\0\0\xce", 100).unwrap_err();
    assert_eq!(error.to_string(), "frame on channel 1 has unknown type 7");
}

#[test]
fn protocol_headers_are_told_apart() {
    for (input, header) in [
        (b"AMQP\0\0\x09\x01", ProtocolHeader::Amqp091),
        (b"AMQP\x01\x01\0\x09", ProtocolHeader::Amqp09),
        (b"AMQP\x01\x01\x08\0", ProtocolHeader::Amqp08),
        (b"AMQP\x01\x01\x09\x01", ProtocolHeader::Amqp08),
        (b"AMQP\x03\x01\0\0", ProtocolHeader::Amqp10 { sasl: true }),
        (b"AMQP\0\x01\0\0", ProtocolHeader::Amqp10 { sasl: false }),
        (
            b"AMQP\0\0\x09\x02",
            ProtocolHeader::UnknownVersion([0, 0, 9, 2]),
        ),
        (b"GET / HT", ProtocolHeader::Http),
        (
            b"\x16\x03\x01\x02\0\x01\0\x01",
            ProtocolHeader::TlsClientHello,
        ),
        (b"EHLO mx1", ProtocolHeader::NotAmqp(*b"EHLO mx1")),
    ] {
        assert_eq!(ProtocolHeader::decode(input), Some(header));
        assert_eq!(ProtocolHeader::decode(&input[..7]), None);
    }
}

#[test]
fn short_strings_are_cut_between_characters() {
    assert_eq!(ShortStr::new(&[b'a'; 256]), None);
    let text = "é".repeat(200);
    assert_eq!(ShortStr::truncated(&text).len(), 254);
    assert_eq!(ShortStr::truncated("abc"), "abc");
}
