//! More than a peer takes.

use std::time::Duration;

use staunch_peer::{DownReason, PeerEvent, QueueLimits, Security, SendError};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time,
};

use crate::node::{Plan, frame, pair, until};

/// Payload of each frame, in bytes.
const SIZE: usize = 64 << 10;
/// Silence after which a writer is taken to be stuck. If it is not, the test is weaker, not wrong.
const STUCK_AFTER: Duration = Duration::from_millis(200);

fn small_queues(plan: &mut Plan) {
    let queue = QueueLimits {
        frames_max: 16,
        size_bytes_max: 16 * SIZE,
    };
    plan.config.limits.lossy = queue;
    plan.config.limits.reliable = queue;
    plan.inbox_len = 1;
}

#[tokio::test]
async fn a_slow_reader_loses_lossy_frames_and_holds_reliable_ones_back() {
    let (mut one, mut two) = pair(small_queues).await;
    let (_, session) = one.up().await;
    two.up().await;
    let peer = one.peer("n2");
    let numbered = |number: u32| {
        let mut payload = vec![0; SIZE];
        payload[..4].copy_from_slice(&number.to_le_bytes());
        frame(&payload)
    };
    // Its inbox holds one event and nobody takes it: sockets and queues fill.
    let mut sent = 0_u32;
    let refused = loop {
        match peer.send(session, numbered(sent)) {
            Ok(()) => sent += 1,
            Err(SendError::Full(frame)) => match time::timeout(STUCK_AFTER, one.event()).await {
                Ok(PeerEvent::Room { .. }) => {}
                Ok(other) => panic!("{other:?}"),
                Err(_) => break frame,
            },
            Err(SendError::Down) => panic!("the session has ended"),
        }
    };
    assert_eq!(refused.size_bytes(), numbered(0).size_bytes());
    let dropped = |peer: &staunch_peer::PeerHandle| peer.status().counters.lossy_dropped;
    assert_eq!(dropped(&peer), 0);
    while peer.send_lossy(frame(&[1])) {}
    assert_eq!(dropped(&peer), 1);
    assert!(!peer.send_lossy(frame(&[1])));
    assert_eq!(dropped(&peer), 2);
    // The reader wakes up: everything that was taken arrives, in order, and there is room.
    let mut next = 0;
    while next < sent {
        let payload = two.payload().await;
        if payload.len() == SIZE {
            assert_eq!(payload[..4], next.to_le_bytes());
            next += 1;
        }
    }
    let event = one.event().await;
    assert!(matches!(event, PeerEvent::Room { session: s, .. } if s == session));
    peer.send(session, refused).unwrap();
}

#[tokio::test]
async fn a_session_that_its_owner_ends_is_followed_by_a_new_one_without_what_waited() {
    let (mut one, mut two) = pair(small_queues).await;
    let (_, first) = one.up().await;
    two.up().await;
    let peer = one.peer("n2");
    while peer.send(first, frame(&vec![0; SIZE])).is_ok() {}
    assert!(peer.end(first));
    assert!(!peer.end(first));
    let refused = peer.send(first, frame(&[1]));
    assert!(matches!(refused, Err(SendError::Down)), "{refused:?}");
    assert_eq!(one.down().await, DownReason::Ended);
    let (_, second) = one.up().await;
    assert_ne!(first, second);
    peer.send(second, frame(&[2])).unwrap();
    // Some of the first session's frames may have been on their way.
    while !matches!(two.event().await, PeerEvent::Down { .. }) {}
    two.up().await;
    assert_eq!(two.payload().await, [2].as_slice());
}

#[tokio::test]
async fn a_full_inbox_stops_reading_and_does_not_stop_writing() {
    let (mut one, mut two) = pair(small_queues).await;
    one.up().await;
    let (_, session) = two.up().await;
    // The inbox of the first is full and stays full.
    let peer_of_two = two.peer("n1");
    for _ in 0..3 {
        peer_of_two.send(session, frame(&[0])).unwrap();
    }
    until("the inbox is full", || one.events.len() == 1).await;
    let peer = one.peer("n2");
    let session = peer.status().session.unwrap();
    for i in 0..10_u8 {
        peer.send(session, frame(&[i])).unwrap();
        assert_eq!(two.payload().await, [i].as_slice());
    }
    for _ in 0..3 {
        assert_eq!(one.payload().await, [0].as_slice());
    }
}

#[tokio::test]
async fn a_flood_of_half_open_connections_is_bounded_and_keeps_nobody_out() {
    let mut two = Plan::new("n2", Security::Plaintext).await;
    two.config.limits.half_open_max = 8;
    two.config.limits.handshake_timeout = std::time::Duration::from_hours(1);
    let one = Plan::new("n1", Security::Plaintext).await;
    let (first, second) = (one.address(), two.address());
    let mut two = two.knows("n1", first).start();
    let mut flood = Vec::new();
    for _ in 0..50 {
        let mut socket = TcpStream::connect(second).await.unwrap();
        socket.write_all(b"\x22").await.unwrap();
        flood.push(socket);
    }
    until("most had to make way", || two.peers.half_open() == (8, 42)).await;
    for socket in flood.iter_mut().take(42) {
        let mut end = Vec::new();
        // Closed, politely or not.
        drop(socket.read_to_end(&mut end).await);
        assert!(end.is_empty());
    }
    let mut one = one.knows("n2", second).start();
    one.up().await;
    two.up().await;
    until("it is not half open any more", || {
        two.peers.half_open() == (7, 43)
    })
    .await;
}

#[tokio::test]
async fn who_says_nothing_is_sent_away() {
    let mut two = Plan::new("n2", Security::Plaintext).await;
    two.config.limits.handshake_timeout = std::time::Duration::from_millis(50);
    let two = two.start();
    let mut socket = TcpStream::connect(two.address).await.unwrap();
    let mut end = Vec::new();
    assert_eq!(socket.read_to_end(&mut end).await.unwrap(), 0);
    until("it is forgotten", || two.peers.half_open().0 == 0).await;
}
