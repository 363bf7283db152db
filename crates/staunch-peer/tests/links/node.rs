//! Nodes that do nothing but have links.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use staunch_peer::{
    Authority, DownReason, Frame, FrameKind, Identity, IdentityFiles, Member, PeerEvent,
    PeerHandle, PeerLimits, Peers, PeersConfig, PlaintextScope, Security, Session,
    authority::{NODE_VALID, NodeRequest, identity_files},
};
use staunch_types::Name;
use tokio::{net::TcpListener, sync::mpsc, time};

/// Longest wait for anything that a test expects.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A kind of the owner's.
pub(crate) const KIND: FrameKind = FrameKind(77);

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

pub(crate) fn frame(payload: &[u8]) -> Frame {
    Frame::new(KIND, vec![Bytes::copy_from_slice(payload)]).unwrap()
}

pub(crate) struct Node {
    pub(crate) peers: Peers<mpsc::Sender<PeerEvent>>,
    pub(crate) events: mpsc::Receiver<PeerEvent>,
    pub(crate) address: SocketAddr,
}

/// What a node of a test is made from.
pub(crate) struct Plan {
    pub(crate) config: PeersConfig,
    listener: TcpListener,
    /// Events that the inbox holds.
    pub(crate) inbox_len: usize,
}

impl Plan {
    /// A node on a free port that knows nobody.
    pub(crate) async fn new(text: &str, security: Security) -> Self {
        let config = PeersConfig {
            cluster: name("c"),
            name: name(text),
            incarnation: 7,
            features: 0,
            members: Vec::new(),
            introduces: false,
            security,
            plaintext: PlaintextScope::Loopback,
            authority: None,
            limits: PeerLimits::default(),
            questions: None,
            seed: 1,
        };
        Self {
            config,
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            inbox_len: 1024,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(crate) fn knows(mut self, text: &str, address: SocketAddr) -> Self {
        self.config.members.push(member(text, address));
        self
    }

    pub(crate) fn start(self) -> Node {
        let address = self.address();
        let (inbox, events) = mpsc::channel(self.inbox_len);
        let peers = Peers::start(self.config, vec![self.listener], inbox).unwrap();
        Node {
            peers,
            events,
            address,
        }
    }
}

pub(crate) fn member(text: &str, address: SocketAddr) -> Member {
    Member {
        name: name(text),
        address: address.to_string(),
    }
}

/// `n1` and `n2` without TLS, which know each other.
pub(crate) async fn pair(change: impl Fn(&mut Plan)) -> (Node, Node) {
    let mut one = Plan::new("n1", Security::Plaintext).await;
    let mut two = Plan::new("n2", Security::Plaintext).await;
    change(&mut one);
    change(&mut two);
    let (first, second) = (one.address(), two.address());
    (
        one.knows("n2", second).start(),
        two.knows("n1", first).start(),
    )
}

impl Node {
    pub(crate) fn peer(&self, text: &str) -> PeerHandle {
        self.peers.peer(&name(text)).unwrap()
    }

    pub(crate) async fn event(&mut self) -> PeerEvent {
        let event = time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("something happens").unwrap()
    }

    /// The next event is that a peer is up.
    pub(crate) async fn up(&mut self) -> (Name, Session) {
        match self.event().await {
            PeerEvent::Up { peer, session, .. } => (peer, session),
            other => panic!("{other:?}"),
        }
    }

    /// The next event is that a peer is down.
    pub(crate) async fn down(&mut self) -> DownReason {
        match self.event().await {
            PeerEvent::Down { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    /// The next event is a frame.
    pub(crate) async fn payload(&mut self) -> Bytes {
        match self.event().await {
            PeerEvent::Frame { kind, payload, .. } => {
                assert_eq!(kind, KIND);
                payload
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the reason why there is no connection with a peer is as expected.
    pub(crate) async fn trouble(&self, text: &str, expected: &str) {
        let peer = self.peer(text);
        let start = Instant::now();
        let is_expected = |trouble: &Option<String>| {
            let trouble = trouble.as_ref();
            trouble.is_some_and(|trouble| trouble.contains(expected))
        };
        let mut trouble = None;
        while !is_expected(&trouble) {
            assert!(start.elapsed() < PATIENCE, "{trouble:?} is not: {expected}");
            time::sleep(Duration::from_millis(5)).await;
            trouble = peer.status().trouble.or(trouble);
        }
        assert_eq!(peer.status().session, None);
    }
}

/// Looks until it holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        time::sleep(Duration::from_millis(5)).await;
    }
}

/// An authority in `directory`, which is made if it is not there.
pub(crate) fn authority(directory: &Path) -> Authority {
    Authority::open(directory)
        .or_else(|_| Authority::create(directory, "c"))
        .unwrap()
}

/// The files of a node's certificate.
pub(crate) fn issue(directory: &Path, text: &str) -> IdentityFiles {
    let request = NodeRequest {
        name: text.to_owned(),
        addresses: vec!["localhost".to_owned()],
        valid: NODE_VALID,
    };
    let issued = authority(directory).issue(&request, None).unwrap();
    identity_files(&issued)
}

/// A certificate for a node.
pub(crate) fn identity(directory: &Path, text: &str) -> Security {
    Security::Tls(Identity::load(&issue(directory, text)).unwrap())
}
