//! Accepts AMQP connections and gives each a task.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustix::io::Errno;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time,
};

use crate::{arrival::Door, clock::Clock, runtime::NodeHandle, socket, traffic::Gauges};

/// How long to wait when the process has no file descriptors left before accepting again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every connection task shares.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) node: NodeHandle,
    pub(crate) clock: Clock,
    pub(crate) connection_config: Arc<staunch_amqp_connection::Config>,
    pub(crate) seed: u64,
    /// What goes over the sockets.
    pub(crate) gauges: Gauges,
    /// Turns true when the listener shall close.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Accepts until `stopping`; connection tasks go on by themselves.
pub(crate) async fn accept(listener: TcpListener, door: Door, shared: Shared) {
    let door = Arc::new(door);
    let mut stopping = shared.stopping.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => start(stream, peer, &door, &shared),
            Err(error) => recover_from(&error).await,
        }
    }
}

fn start(stream: TcpStream, peer: SocketAddr, door: &Arc<Door>, shared: &Shared) {
    let id = shared.node.next_connection_id();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::warn!(event = "connection.nodelay", connection = id.0, %error, "no TCP_NODELAY");
    }
    let (door, shared) = (door.clone(), shared.clone());
    tokio::spawn(async move {
        // The handshakes' own state is large; it must not stay with every open connection.
        match Box::pin(door.enter(stream, peer)).await {
            Ok(arrival) => socket::serve(id, arrival, shared).await,
            Err(error) => {
                tracing::warn!(event = "connection.refused", connection = id.0, %peer, %error,
                    "connection refused before AMQP");
            }
        }
    });
}

async fn recover_from(error: &io::Error) {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    if matches!(errno, Some(Errno::MFILE | Errno::NFILE)) {
        tracing::warn!(event = "listener.full", %error, "no file descriptors left: waiting");
        time::sleep(ACCEPT_PAUSE).await;
    } else {
        // The peer gave up between its SYN and our accept; nothing is lost.
        tracing::debug!(event = "listener.accept", %error, "accept failed");
    }
}
