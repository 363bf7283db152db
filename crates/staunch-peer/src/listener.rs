//! The peer port: whoever connects has a moment to show who it is.
//!
//! Connections that have not shown it yet are bounded in number and time. When there are too many
//! the oldest makes way, not the newest: a peer needs milliseconds, so a flood must fill all
//! places within those to keep it out.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time,
};

use crate::{
    Inbox,
    handshake::{self, Arrival, Greeted, HandshakeError},
    join,
    peers::Shared,
};

/// Pause after an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Lines logged about those who were refused, in each [`LOG_PERIOD`].
const LOG_LINES_MAX: u32 = 20;
/// See [`LOG_LINES_MAX`].
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Connections in their handshake, oldest first.
#[derive(Debug, Default)]
pub(crate) struct HalfOpen {
    state: Mutex<HalfOpenState>,
}

#[derive(Debug, Default)]
struct HalfOpenState {
    number_next: u64,
    tasks: VecDeque<(u64, AbortHandle)>,
    /// Those that had to make way.
    displaced: u64,
    logged: Option<(Instant, u32)>,
}

/// Serves one listener until its task is aborted.
pub(crate) async fn accept<I: Inbox>(shared: Arc<Shared<I>>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((socket, address)) => shared.half_open.begin(shared.clone(), socket, address),
            Err(error) => {
                tracing::warn!(event = "peer.accept_failed", %error, "cannot accept a peer");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl HalfOpen {
    fn begin<I: Inbox>(&self, shared: Arc<Shared<I>>, socket: TcpStream, address: SocketAddr) {
        // The task cannot look for itself before it has been noted: that needs the same lock.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.tasks.len() >= shared.limits.half_open_max
            && let Some((_, oldest)) = state.tasks.pop_front()
        {
            oldest.abort();
            state.displaced += 1;
        }
        let number = state.number_next;
        state.number_next += 1;
        let task = tokio::spawn(async move {
            let limit = shared.limits.handshake_timeout;
            let done = time::timeout(limit, let_in(&shared, socket)).await;
            shared.half_open.end(number);
            if let Err(error) = done.unwrap_or(Err(HandshakeError::TooSlow(limit))) {
                shared.half_open.report(address, &error);
            }
        });
        state.tasks.push_back((number, task.abort_handle()));
    }

    fn end(&self, number: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tasks.retain(|(other, _)| *other != number);
    }

    /// Logs a refusal, unless there are very many.
    fn report(&self, address: SocketAddr, error: &HandshakeError) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, lines) = state
            .logged
            .filter(|(since, _)| since.elapsed() < LOG_PERIOD)
            .unwrap_or((Instant::now(), 0));
        state.logged = Some((since, lines.saturating_add(1)));
        drop(state);
        if lines < LOG_LINES_MAX {
            tracing::warn!(
                event = "peer.refused",
                %address,
                %error,
                "a connection to the peer port was refused"
            );
        }
    }

    /// How many there are now, and how many have had to make way.
    pub(crate) fn counts(&self) -> (usize, u64) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.tasks.len(), state.displaced)
    }
}

async fn let_in<I: Inbox>(
    shared: &Arc<Shared<I>>,
    socket: TcpStream,
) -> Result<(), HandshakeError> {
    let security = shared.security();
    let may_join = shared.authority.is_some();
    match handshake::accept(&shared.local, &security, may_join, socket).await? {
        Arrival::Peer(greeted) => welcome(shared, greeted).await,
        Arrival::Join(stream) => match &shared.authority {
            Some(authority) => join::answer(stream, authority.clone()).await,
            None => Err(HandshakeError::Stopping),
        },
    }
}

async fn welcome<I: Inbox>(
    shared: &Arc<Shared<I>>,
    greeted: Greeted,
) -> Result<(), HandshakeError> {
    match shared.arrivals(greeted.name()) {
        Err(refused) => Err(greeted.refuse(refused).await),
        Ok(arrivals) => {
            let connection = greeted.welcome(&shared.local).await?;
            let sent = arrivals.send(connection).await;
            sent.map_err(|_| HandshakeError::Stopping)
        }
    }
}
