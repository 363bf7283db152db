//! The HTTP interface on its listener, with the node behind it.

use std::{
    future::IntoFuture as _,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use axum::{Router, serve::ListenerExt as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::crypto::{SecureRandom, aws_lc_rs};
use staunch_broker::{HashAlgorithm, PasswordHash, password::SALT_SIZE_BYTES};
use staunch_http::{
    Answering, Asked, EventLog, Interface, Listener, Machine, MachineFn, NodePort, PeerPort,
    Settings, SharedStatistics,
};
use staunch_peer::{Patience, Peers};
use staunch_types::Name;
use tokio::{net::TcpListener, sync::watch};

use crate::{
    banner::Bound,
    config::{Config, access::PasswordHashing},
    listener::Shared,
    machine,
    runtime::{NodeHandle, PeerInbox},
};

mod listener;

/// How long another node's answer is waited for.
const PATIENCE: Patience = Patience {
    silence: Duration::from_secs(1),
    all: Duration::from_secs(5),
};

/// Serves until `stopping`, and then what has been begun.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let stop = async move {
        if stopping.wait_for(|stopping| *stopping).await.is_err() {
            tracing::debug!(
                event = "http.stopping",
                "nobody is left to say when to stop"
            );
        }
    };
    // Only a listener with a tap tells the handlers who is at the other end.
    let listener = listener::Bounded::new(listener).tap_io(|_| ());
    let server = axum::serve(listener, service).with_graceful_shutdown(stop);
    if let Err(error) = server.into_future().await {
        tracing::error!(event = "http.failed", %error, "the HTTP interface has ended");
    }
}

/// The interface of this node, and its metrics.
pub(crate) fn interface(
    config: &Config,
    bound: &Bound,
    shared: &Shared,
    statistics: SharedStatistics,
    peers: Option<Peers<PeerInbox>>,
    events: EventLog,
) -> anyhow::Result<(Interface, Router)> {
    let names = config.loopback_users.0.iter();
    let names = names.map(|name| Name::new(name.as_bytes()));
    let listener = |protocol| {
        move |address: &SocketAddr| Listener {
            protocol,
            address: *address,
        }
    };
    let plain = bound.amqp.iter().map(listener("amqp"));
    let encrypted = bound.amqps.iter().map(listener("amqp/ssl"));
    let http = bound.http.iter().map(listener("http"));
    let metrics = bound.metrics.iter().map(listener("http/prometheus"));
    let settings = Settings {
        node_name: config.node_name.as_str().to_owned(),
        product: config.product.clone(),
        product_version: config.product_version.clone(),
        version: env!("CARGO_PKG_VERSION"),
        loopback_users: names.collect::<Result<_, _>>().context("loopback_users")?,
        password_hashing: hashing(config.password_hashing),
        salt: random,
        token: random,
        machine: MachineFn(Arc::new(machine_of(config))),
        listeners: plain.chain(encrypted).chain(http).chain(metrics).collect(),
    };
    let node = &shared.node;
    let metrics = staunch_http::metrics_router(port(node), settings.clone(), statistics.clone());
    let peers = peer_port(peers);
    let stopping = shared.stopping.clone();
    let interface = Interface::new(port(node), settings, statistics, peers, events, stopping);
    Ok((interface, metrics))
}

fn machine_of(config: &Config) -> impl Fn() -> Machine + Send + Sync + use<> {
    let started = Instant::now();
    let limit = config.memory_limit.size_bytes();
    let data_dir = config.data_dir.display().to_string();
    move || machine::look(started, limit, &data_dir)
}

/// How the interface asks the node.
pub(crate) fn port(node: &NodeHandle) -> NodePort {
    let (asked, dialled) = (node.clone(), node.clone());
    let ask = move |request| {
        let node = asked.clone();
        Box::pin(async move { node.ask(request).await }) as Asked
    };
    NodePort::new(ask, move || dialled.dial())
}

/// How the interface asks those of other nodes.
fn peer_port(peers: Option<Peers<PeerInbox>>) -> PeerPort {
    PeerPort::new(move |node, question| {
        let peer = peers.as_ref().and_then(|peers| peers.peer(&node));
        Box::pin(async move {
            match peer?.ask(&question, PATIENCE).await {
                Ok(answer) => Some(answer),
                Err(error) => {
                    tracing::debug!(event = "peer.unanswered", %node, %error, "no answer of a peer");
                    None
                }
            }
        }) as Answering
    })
}

/// A password as `password_hash` of a user in definitions: base64, or a PHC string.
pub fn hash_password(algorithm: PasswordHashing, password: &[u8]) -> String {
    let hash = PasswordHash::hash(hashing(algorithm), password, &salt());
    match algorithm {
        PasswordHashing::Argon2id => String::from_utf8_lossy(hash.as_bytes()).into_owned(),
        PasswordHashing::Sha256 | PasswordHashing::Sha512 => STANDARD.encode(hash.as_bytes()),
    }
}

/// How the catalog calls a way to keep passwords.
pub(crate) fn hashing(setting: PasswordHashing) -> HashAlgorithm {
    match setting {
        PasswordHashing::Sha256 => HashAlgorithm::Sha256,
        PasswordHashing::Sha512 => HashAlgorithm::Sha512,
        PasswordHashing::Argon2id => HashAlgorithm::Argon2id,
    }
}

/// Random bytes for a new password.
pub(crate) fn salt() -> [u8; SALT_SIZE_BYTES] {
    random()
}

/// Random bytes that nobody can guess.
///
/// # Panics
/// When the system has no random numbers: no secret could be kept then.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let random: &dyn SecureRandom = aws_lc_rs::default_provider().secure_random;
    random
        .fill(&mut bytes)
        .expect("the system has random numbers");
    bytes
}
