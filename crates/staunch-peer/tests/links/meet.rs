//! Those who belong together find each other and stay together.

use staunch_peer::{DownReason, Frame, PeerEvent, Security};
use tokio::net::TcpListener;

use crate::node::{KIND, Plan, authority, frame, identity, member, name, pair};

#[tokio::test]
async fn three_peers_meet_over_tls_and_hear_each_other() {
    let directory = tempfile::tempdir().unwrap();
    authority(directory.path());
    let names = ["n1", "n2", "n3"];
    let mut plans = Vec::new();
    for text in names {
        plans.push(Plan::new(text, identity(directory.path(), text)).await);
    }
    let members: Vec<_> = names
        .iter()
        .zip(&plans)
        .map(|(text, plan)| member(text, plan.address()))
        .collect();
    let mut nodes = Vec::new();
    for (i, mut plan) in plans.into_iter().enumerate() {
        plan.config.members.clone_from(&members);
        plan.config.incarnation = 100 + u64::try_from(i).unwrap();
        nodes.push(plan.start());
    }
    let mut seen = Vec::new();
    for node in &mut nodes {
        let mut peers = Vec::new();
        for _ in 0..2 {
            let PeerEvent::Up {
                peer, incarnation, ..
            } = node.event().await
            else {
                panic!("the first events are that peers are up");
            };
            peers.push((peer.to_string(), incarnation));
        }
        peers.sort();
        seen.push(peers);
    }
    let who = |i: u64| (format!("n{i}"), 99 + i);
    assert_eq!(seen[0], [who(2), who(3)]);
    assert_eq!(seen[1], [who(1), who(3)]);
    assert_eq!(seen[2], [who(1), who(2)]);
    // Each tells each of the others, in both ways that there are.
    for (from, node) in names.iter().zip(&nodes) {
        for to in names.iter().filter(|to| *to != from) {
            let peer = node.peer(to);
            let session = peer.status().session.unwrap();
            let payload = format!("{from} to {to}");
            peer.send(session, frame(payload.as_bytes())).unwrap();
            assert!(peer.send_lossy(frame(payload.as_bytes())));
        }
    }
    for (to, node) in names.iter().zip(&mut nodes) {
        let mut heard = Vec::new();
        for _ in 0..4 {
            heard.push(String::from_utf8(node.payload().await.to_vec()).unwrap());
        }
        heard.sort();
        let others = names.iter().filter(|from| *from != to);
        let expected: Vec<_> = others
            .flat_map(|from| vec![format!("{from} to {to}"); 2])
            .collect();
        assert_eq!(heard, expected);
    }
}

#[tokio::test]
async fn large_and_small_frames_arrive_whole_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let one = Plan::new("n1", identity(directory.path(), "n1")).await;
    let two = Plan::new("n2", identity(directory.path(), "n2")).await;
    let (first, second) = (one.address(), two.address());
    let (mut one, mut two) = (
        one.knows("n2", second).start(),
        two.knows("n1", first).start(),
    );
    let (_, session) = one.up().await;
    two.up().await;
    let sizes = [0, 1, 100, 16 << 10, 20 << 20, 3, 1 << 20, 0];
    let pattern = |size: usize| -> Vec<u8> {
        let byte = |i: usize| u8::try_from((i ^ (i >> 8)) % 251).unwrap();
        (0..size).map(byte).collect()
    };
    for size in sizes {
        // As many segments as there are, none is put together with another.
        let payload = bytes::Bytes::from(pattern(size));
        let cut = size / 3;
        let segments = vec![payload.slice(..cut), payload.slice(cut..)];
        let frame = Frame::new(KIND, segments).unwrap();
        one.peer("n2").send(session, frame).unwrap();
    }
    for size in sizes {
        assert_eq!(two.payload().await, pattern(size));
    }
    let counters = two.peer("n1").status().counters;
    assert_eq!(counters.frames_received, 8);
    let total: usize = sizes.iter().sum();
    assert_eq!(counters.size_bytes_received, u64::try_from(total).unwrap());
}

#[tokio::test]
async fn a_peer_that_stops_says_goodbye_after_what_it_had_to_say() {
    let (mut one, mut two) = pair(|_| ()).await;
    let (_, session) = one.up().await;
    two.up().await;
    for i in 0..100_u8 {
        one.peer("n2").send(session, frame(&[i])).unwrap();
    }
    one.peers.stop().await;
    for i in 0..100_u8 {
        assert_eq!(two.payload().await, [i].as_slice());
    }
    assert_eq!(two.down().await, DownReason::Goodbye);
    assert_eq!(one.down().await, DownReason::Stopped);
}

#[tokio::test]
async fn members_come_go_and_move_while_the_node_runs() {
    let one = Plan::new("n1", Security::Plaintext).await;
    let two = Plan::new("n2", Security::Plaintext).await;
    let (first, second) = (one.address(), two.address());
    let (mut one, mut two) = (one.start(), two.knows("n1", first).start());
    // A wrong address first: somebody is there who never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    one.peers.add(member("n2", silent.local_addr().unwrap()));
    drop(silent.accept().await.unwrap());
    one.peers.add(member("n2", second));
    one.up().await;
    two.up().await;
    one.peers.remove(&name("n2")).await;
    assert_eq!(one.down().await, DownReason::Stopped);
    assert_eq!(two.down().await, DownReason::Goodbye);
    assert!(one.peers.peer(&name("n2")).is_none());
    one.peers.add(member("n2", second));
    one.up().await;
    two.up().await;
}

#[tokio::test]
async fn a_new_node_meets_one_that_has_not_heard_of_it_whoever_has_the_lower_name() {
    for (known, new) in [("n1", "n2"), ("n2", "n1")] {
        let host = Plan::new(known, Security::Plaintext).await;
        let address = host.address();
        let mut host = host.start();
        let mut newcomer = Plan::new(new, Security::Plaintext).await;
        newcomer.config.introduces = true;
        let its_address = newcomer.address();
        let mut newcomer = newcomer.knows(known, address).start();
        assert_eq!(host.up().await.0, name(new));
        assert_eq!(newcomer.up().await.0, name(known));
        // It is told where the other is, and the link stays as it is.
        host.peers.add(member(new, its_address));
        let status = host.peer(new).status();
        assert!(status.session.is_some(), "{known} and {new} are connected");
        assert_eq!(status.address, its_address.to_string());
        host.peers.stop().await;
        assert_eq!(newcomer.down().await, DownReason::Goodbye);
        newcomer.peers.stop().await;
    }
}
