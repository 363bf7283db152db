//! Connections that break, and peers that send what is no frame.

use std::{net::SocketAddr, sync::Arc};

use staunch_peer::{DownReason, PeerEvent, Security, SendError, frame::PAYLOAD_SIZE_BYTES_MAX};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::node::{Node, Plan, frame, identity, name, until};

/// Passes connections on to `to`: of the first, so many bytes in the dialler's direction; then it
/// breaks. Those after it pass whole, once they are allowed.
async fn fragile(to: SocketAddr, first_size_bytes: u64, next: Arc<Semaphore>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut limit = first_size_bytes;
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(to).await.unwrap();
            let (near_reader, mut near_writer) = near.split();
            let (mut far_reader, mut far_writer) = far.split();
            let mut limited = near_reader.take(limit);
            tokio::select! {
                _ = tokio::io::copy(&mut limited, &mut far_writer) => {}
                _ = tokio::io::copy(&mut far_reader, &mut near_writer) => {}
            }
            limit = u64::MAX;
            drop((near, far));
            next.acquire().await.unwrap().forget();
        }
    });
    address
}

async fn check_mid_frame(secure: bool) {
    let directory = tempfile::tempdir().unwrap();
    let security = |text| {
        if secure {
            identity(directory.path(), text)
        } else {
            Security::Plaintext
        }
    };
    let one = Plan::new("n1", security("n1")).await;
    let two = Plan::new("n2", security("n2")).await;
    let next = Arc::new(Semaphore::new(0));
    // Far behind the handshake and in the middle of a frame of a mebibyte.
    let way = fragile(two.address(), 512 << 10, next.clone()).await;
    let first = one.address();
    let (mut one, mut two) = (one.knows("n2", way).start(), two.knows("n1", first).start());
    let (_, session) = one.up().await;
    let (_, session_of_two) = two.up().await;
    let peer = one.peer("n2");
    peer.send(session, frame(b"small")).unwrap();
    peer.send(session, frame(&vec![1; 1 << 20])).unwrap();
    assert_eq!(two.payload().await, b"small".as_slice());
    for node in [&mut one, &mut two] {
        let reason = node.down().await;
        assert!(matches!(reason, DownReason::Broken(_)), "{reason:?}");
    }
    // What was meant for the session before is not sent in the next.
    let late = peer.send(session, frame(b"late"));
    assert!(matches!(late, Err(SendError::Down)), "{late:?}");
    next.add_permits(1);
    let (_, again) = one.up().await;
    let (_, again_of_two) = two.up().await;
    assert!(again > session && again_of_two > session_of_two);
    let late = peer.send(session, frame(b"late"));
    assert!(matches!(late, Err(SendError::Down)), "{late:?}");
    peer.send(again, frame(b"again")).unwrap();
    assert_eq!(two.payload().await, b"again".as_slice());
}

#[tokio::test]
async fn a_connection_that_breaks_mid_frame_is_down_and_up_again() {
    check_mid_frame(false).await;
    check_mid_frame(true).await;
}

/// The hello of `n1` to `n2`, as `hello.rs` draws it.
fn hello_of_one() -> Vec<u8> {
    let mut payload = b"STPL\x01\0\x01\0".to_vec();
    payload.extend([9; 8]);
    payload.extend([0; 8]);
    payload.extend(b"\x01c\x02n1\x02n2");
    raw(1, &payload)
}

/// A frame by hand.
fn raw(kind: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap();
    let mut bytes = size.to_le_bytes().to_vec();
    bytes.push(kind);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), payload);
    bytes.extend(crc.to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// A connection to `two` that has said and heard hello.
async fn connect_by_hand(two: &mut Node) -> TcpStream {
    let mut socket = TcpStream::connect(two.address).await.unwrap();
    socket.write_all(&hello_of_one()).await.unwrap();
    let (peer, _) = two.up().await;
    assert_eq!(peer, name("n1"));
    let mut answer = [0; 8];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[4], 1, "a hello");
    socket
}

async fn two_alone() -> Node {
    let two = Plan::new("n2", Security::Plaintext).await;
    let nobody = "127.0.0.1:1".parse().unwrap();
    two.knows("n1", nobody).start()
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection() {
    let mut two = two_alone().await;
    let mut header = raw(77, b"");
    header[..4]
        .copy_from_slice(&(u32::try_from(PAYLOAD_SIZE_BYTES_MAX).unwrap() + 1).to_le_bytes());
    let mut damaged = raw(77, b"payload");
    *damaged.last_mut().unwrap() ^= 1;
    for (bytes, expected) in [
        (header, "is longer than 67108864"),
        (damaged, "was damaged"),
        (raw(1, b"hello again"), "kind 1 has no place here"),
        (raw(15, b""), "kind 15 has no place here"),
    ] {
        let mut socket = connect_by_hand(&mut two).await;
        let good_and_bad = [raw(77, b"good"), bytes].concat();
        socket.write_all(&good_and_bad).await.unwrap();
        assert_eq!(two.payload().await, b"good".as_slice());
        match two.down().await {
            DownReason::Nonsense(error) => assert!(error.contains(expected), "{error}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_peer_that_comes_back_replaces_its_old_connection() {
    let mut two = two_alone().await;
    let mut old = connect_by_hand(&mut two).await;
    old.write_all(&raw(77, b"old")).await.unwrap();
    assert_eq!(two.payload().await, b"old".as_slice());
    // Its machine lost power; nobody has told us.
    let mut new = TcpStream::connect(two.address).await.unwrap();
    new.write_all(&[hello_of_one(), raw(77, b"new")].concat())
        .await
        .unwrap();
    assert_eq!(two.down().await, DownReason::Replaced);
    two.up().await;
    assert_eq!(two.payload().await, b"new".as_slice());
    let mut rest = Vec::new();
    // What is there is our hello; then the end, one way or another.
    drop(old.read_to_end(&mut rest).await);
    let status = two.peer("n1").status();
    assert_eq!(status.incarnation, Some(u64::from_le_bytes([9; 8])));
}

#[tokio::test]
async fn a_broken_connection_is_noticed_without_any_traffic() {
    let mut two = two_alone().await;
    let socket = connect_by_hand(&mut two).await;
    socket.set_zero_linger().unwrap();
    drop(socket);
    let event = two.event().await;
    assert!(matches!(event, PeerEvent::Down { .. }), "{event:?}");
    until("the link is down", || {
        two.peer("n1").status().trouble.is_some()
    })
    .await;
}
