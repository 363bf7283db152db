//! The PROXY protocol.

use std::io::{Read, Write};

use crate::{
    node::{Node, connect, log, until},
    wire::{CLOSE, HEADER, TUNE, login_guest},
};

/// Version 2, from 203.0.113.9 or 127.0.0.1 to this machine.
fn v2(source: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(source);
    header.extend([127, 0, 0, 1, 0x30, 0x39, 0x16, 0x28]);
    header
}

#[test]
fn the_client_is_who_the_header_says() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &["--proxy-protocol", "amqp"]);
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
    for (header, answer) in [
        // guest may log in from this machine only, whatever the balancer's own address is.
        (
            b"PROXY TCP4 203.0.113.9 127.0.0.1 12345 5672\r\n".to_vec(),
            CLOSE,
        ),
        (
            b"PROXY TCP4 127.0.0.1 127.0.0.1 12345 5672\r\n".to_vec(),
            TUNE,
        ),
        (b"PROXY TCP6 ::1 ::1 12345 5672\r\n".to_vec(), TUNE),
        (b"PROXY UNKNOWN\r\n".to_vec(), TUNE),
        (v2([203, 0, 113, 9]), CLOSE),
        (v2([127, 0, 0, 1]), TUNE),
        (local, TUNE),
    ] {
        let mut socket = connect(node.amqp);
        socket.write_all(&header).unwrap();
        let shown = String::from_utf8_lossy(&header);
        assert_eq!(login_guest(&mut socket).unwrap(), answer, "{shown:?}");
    }
}

#[test]
fn a_connection_without_its_header_is_closed_and_logged() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &["--proxy-protocol", "amqp"]);
    let mut socket = connect(node.amqp);
    socket.write_all(HEADER).unwrap();
    let mut answer = Vec::new();
    // The end of the stream, or a reset: the node does not read what it does not want.
    drop(socket.read_to_end(&mut answer));
    assert!(answer.is_empty(), "{answer:?}");
    until("it is logged", || {
        log(directory.path()).contains("does not begin with a PROXY header")
    });
}
