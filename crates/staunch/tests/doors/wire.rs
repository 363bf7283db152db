//! As much AMQP as it takes to log in, by hand.

use std::io::{self, Read, Write};

/// AMQP 0-9-1's protocol header.
pub(crate) const HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";

/// Class and method ids.
pub(crate) const START: (u16, u16) = (10, 10);
pub(crate) const TUNE: (u16, u16) = (10, 30);
pub(crate) const OPEN_OK: (u16, u16) = (10, 41);
pub(crate) const CLOSE: (u16, u16) = (10, 50);

/// Reads one frame of a method: its ids.
pub(crate) fn method(stream: &mut impl Read) -> io::Result<(u16, u16)> {
    let mut head = [0; 7];
    stream.read_exact(&mut head)?;
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    let mut rest = vec![0; usize::try_from(size).unwrap() + 1];
    stream.read_exact(&mut rest)?;
    assert_eq!(
        (head[0], rest.last()),
        (1, Some(&0xce)),
        "a frame of a method"
    );
    let id = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    Ok((id(0), id(2)))
}

/// Greets and logs in; the method that the node answers with.
pub(crate) fn login(
    stream: &mut (impl Read + Write),
    mechanism: &str,
    response: &[u8],
) -> io::Result<(u16, u16)> {
    stream.write_all(HEADER)?;
    assert_eq!(method(stream)?, START);
    // The client wants to be told when its login is refused.
    let inner = [b"\x1cauthentication_failure_close".as_slice(), b"t\x01"].concat();
    let table = [b"\x0ccapabilities".as_slice(), b"F", &long(&inner)].concat();
    let fields = [
        &long(&table)[..],
        &short(mechanism),
        &long(response),
        &short("en_US"),
    ]
    .concat();
    send(stream, (10, 11), &fields)?;
    method(stream)
}

/// PLAIN as guest.
pub(crate) fn login_guest(stream: &mut (impl Read + Write)) -> io::Result<(u16, u16)> {
    login(stream, "PLAIN", b"\0guest\0guest")
}

/// From `connection.tune` to the answer to `connection.open`.
pub(crate) fn open(stream: &mut (impl Read + Write)) -> io::Result<(u16, u16)> {
    send(stream, (10, 31), &[0x07, 0xff, 0, 2, 0, 0, 0, 60])?;
    send(
        stream,
        (10, 40),
        &[&short("/")[..], &short(""), &[0]].concat(),
    )?;
    method(stream)
}

fn send(stream: &mut impl Write, (class, method): (u16, u16), fields: &[u8]) -> io::Result<()> {
    let ids = [class.to_be_bytes(), method.to_be_bytes()].concat();
    let payload = long(&[&ids, fields].concat());
    stream.write_all(&[b"\x01\0\0".as_slice(), &payload, &[0xce]].concat())?;
    stream.flush()
}

fn short(text: &str) -> Vec<u8> {
    let size = u8::try_from(text.len()).unwrap();
    [&[size], text.as_bytes()].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let size = u32::try_from(bytes.len()).unwrap();
    [&size.to_be_bytes(), bytes].concat()
}

/// Publishes one message of `size` bytes to a queue of its own and gets it back.
pub(crate) fn echo(stream: &mut (impl Read + Write), size: usize) {
    const FRAME_BODY_SIZE_BYTES: usize = 131_072 - 8;
    let body: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
    send_on(stream, 1, (20, 10), &[0]);
    assert_eq!(frame(stream).1[..4], [0, 20, 0, 11]);
    let declare = [&[0, 0][..], &short("echo"), &[0], &[0, 0, 0, 0]].concat();
    send_on(stream, 1, (50, 10), &declare);
    assert_eq!(frame(stream).1[..4], [0, 50, 0, 11]);
    send_on(
        stream,
        1,
        (60, 40),
        &[&[0, 0][..], &short(""), &short("echo"), &[0]].concat(),
    );
    let header = [&[0, 60, 0, 0][..], &(size as u64).to_be_bytes(), &[0, 0]].concat();
    write_frame(stream, 2, 1, &header);
    for part in body.chunks(FRAME_BODY_SIZE_BYTES) {
        write_frame(stream, 3, 1, part);
    }
    send_on(
        stream,
        1,
        (60, 70),
        &[&[0, 0][..], &short("echo"), &[1]].concat(),
    );
    assert_eq!(frame(stream).1[..4], [0, 60, 0, 71]);
    assert_eq!(frame(stream).0, 2);
    let mut got = Vec::new();
    while got.len() < size {
        got.extend(frame(stream).1);
    }
    assert!(got == body, "the message came back as another");
}

fn send_on(stream: &mut impl Write, channel: u16, (class, method): (u16, u16), fields: &[u8]) {
    let ids = [class.to_be_bytes(), method.to_be_bytes()].concat();
    write_frame(stream, 1, channel, &[&ids, fields].concat());
}

fn write_frame(stream: &mut impl Write, kind: u8, channel: u16, payload: &[u8]) {
    let head = [&[kind][..], &channel.to_be_bytes()].concat();
    stream
        .write_all(&[&head[..], &long(payload), &[0xce]].concat())
        .unwrap();
    stream.flush().unwrap();
}

/// Kind and payload of the next frame that is no heartbeat.
fn frame(stream: &mut impl Read) -> (u8, Vec<u8>) {
    loop {
        let mut head = [0; 7];
        stream.read_exact(&mut head).unwrap();
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = vec![0; usize::try_from(size).unwrap() + 1];
        stream.read_exact(&mut payload).unwrap();
        assert_eq!(payload.pop(), Some(0xce));
        if head[0] != 8 {
            return (head[0], payload);
        }
    }
}
