//! Connections of the HTTP interface, bounded in number and in silence: whoever opens many, or
//! begins a request and leaves it at that, must not use up the descriptors that AMQP needs.

use std::{
    future::Future as _,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{self, Instant, Sleep},
};

/// Connections at once; more wait until one of them ends.
const CONNECTIONS_MAX: usize = 512;

/// A connection ends when nothing went in or out for this long. Longer than
/// [`staunch_http::REQUEST_TIMEOUT`], while which there may be silence.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// Accepts while there is room.
pub(super) struct Bounded {
    listener: TcpListener,
    turns: Arc<Semaphore>,
    silence_max: Duration,
}

/// A connection that has a place, and loses it by being silent.
pub(super) struct Connection {
    socket: TcpStream,
    silence: Pin<Box<Sleep>>,
    silence_max: Duration,
    /// None once nobody counts any more.
    _turn: Option<OwnedSemaphorePermit>,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener) -> Self {
        let turns = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self {
            listener,
            turns,
            silence_max: SILENCE_MAX,
        }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let turn = self.turns.clone().acquire_owned().await.ok();
        let (socket, peer) = Listener::accept(&mut self.listener).await;
        let silence_max = self.silence_max;
        let connection = Connection {
            socket,
            silence: Box::pin(time::sleep(silence_max)),
            silence_max,
            _turn: turn,
        };
        (connection, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connection {
    /// What came of an attempt to read or write, unless there was silence for too long.
    fn heard<T>(
        &mut self,
        context: &mut Context<'_>,
        attempt: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if attempt.is_ready() {
            let until = Instant::now() + self.silence_max;
            self.silence.as_mut().reset(until);
            return attempt;
        }
        self.silence
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let attempt = Pin::new(&mut self.socket).poll_read(context, buffer);
        self.heard(context, attempt)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.heard(context, attempt)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.heard(context, attempt)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn bounded() -> (Bounded, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Bounded::new(listener), address)
    }

    #[tokio::test]
    async fn who_says_nothing_loses_the_connection() {
        let (mut bounded, address) = bounded().await;
        bounded.silence_max = Duration::from_millis(1);
        let _silent = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = bounded.accept().await;
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_connection_more_waits_until_another_ends() {
        let (mut bounded, address) = bounded().await;
        bounded.turns.forget_permits(CONNECTIONS_MAX - 1);
        let _clients = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        let (first, _) = bounded.accept().await;
        assert_eq!(bounded.turns.available_permits(), 0);
        drop(first);
        let (_second, _) = bounded.accept().await;
    }
}
