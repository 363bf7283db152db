//! One link: dialling or being dialled, and the life of each connection.
//!
//! Of two nodes the one whose name is lower dials, so there is one connection for a pair and both
//! always agree whether they are connected. Two connections, one for each direction of dialling,
//! were rejected: an address that is wrong on one side would make a link that works in one
//! direction only.
//!
//! A node that is new to its cluster is the exception: those whose names are lower may not know of it.
//! It dials them too, after a pause in which they may come; a node that knows it refuses that, and
//! dials itself.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use staunch_types::Name;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf},
    net::{self, TcpStream},
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    time,
};

use crate::{
    DownReason, Inbox, PeerEvent, Session,
    backoff::Backoff,
    event::InboxClosed,
    frame::{self, FrameKind, PAYLOAD_SIZE_BYTES_MAX},
    handshake::{self, Established, HandshakeError},
    hello,
    outgoing::Outgoing,
    peers::{PlaintextScope, Security, Shared},
    question::{self, Question, Questions},
};

/// Room made for each read, in bytes.
const READ_SIZE_BYTES: usize = 64 << 10;
/// Frames of about so many bytes go into one write.
const WRITE_SIZE_BYTES: usize = 256 << 10;
/// Time for a TCP connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that lived so long was a good one: the next attempt comes soon.
const STABLE_AFTER: Duration = Duration::from_secs(1);
/// How long a new node waits for those to dial whose part that is.
const INTRODUCE_AFTER: Duration = Duration::from_secs(1);
/// Time to send what is queued and to say goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the handles and the task of a link share.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) name: Name,
    /// HOST:PORT.
    pub(crate) address: Mutex<String>,
    pub(crate) outgoing: Outgoing,
    pub(crate) questions: Questions,
    /// The peer's process, while it is connected.
    incarnation: Mutex<Option<u64>>,
    /// Why there is no connection, if that is known.
    trouble: Mutex<Option<String>>,
}

impl Link {
    pub(crate) fn new(name: Name, address: String, outgoing: Outgoing) -> Self {
        Self {
            name,
            address: Mutex::new(address),
            outgoing,
            questions: Questions::default(),
            incarnation: Mutex::new(None),
            trouble: Mutex::new(None),
        }
    }

    pub(crate) fn address(&self) -> String {
        let address = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        address.clone()
    }

    pub(crate) fn set_address(&self, address: String) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    pub(crate) fn incarnation(&self) -> Option<u64> {
        *lock(&self.incarnation)
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Notes why there is no connection; the same reason is logged once.
    pub(crate) fn fail(&self, trouble: String) {
        let mut known = lock(&self.trouble);
        if known.as_ref() != Some(&trouble) {
            tracing::warn!(
                event = "peer.unreachable",
                peer = %self.name,
                address = self.address(),
                error = trouble,
                "no connection to a peer"
            );
            *known = Some(trouble);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True once the link is to end.
pub(crate) type Stopping = watch::Receiver<bool>;

/// Keeps a peer connected whose name is higher, or one that may not know of this node and whose
/// own connections come by `arrivals`.
pub(crate) async fn dial<I: Inbox>(
    shared: Arc<Shared<I>>,
    link: Arc<Link>,
    mut arrivals: mpsc::Receiver<Established>,
    mut stopping: Stopping,
) {
    let mut backoff = Backoff::new(shared.backoff_seed(&link.name));
    let is_introduction = link.name < shared.local.name;
    let mut wait = is_introduction.then_some(INTRODUCE_AFTER);
    loop {
        let mut next = None;
        if let Some(wait) = wait.take() {
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => return,
                Some(connection) = arrivals.recv() => next = Some(connection),
                () = time::sleep(wait) => {}
            }
        }
        let attempt = if let Some(connection) = next.take() {
            Ok(connection)
        } else {
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => return,
                Some(connection) = arrivals.recv() => Ok(connection),
                attempt = connect(&shared, &link) => attempt,
            }
        };
        match attempt {
            Ok(connection) => {
                let since = Instant::now();
                next = Some(connection);
                while let Some(connection) = next.take() {
                    next = serve(&shared, &link, connection, &mut arrivals, &stopping).await;
                }
                if since.elapsed() >= STABLE_AFTER {
                    backoff.reset();
                }
            }
            Err(error) => link.fail(error.to_string()),
        }
        if *stopping.borrow() {
            return;
        }
        wait = Some(backoff.next());
    }
}

/// Takes the connections of a peer whose name is lower, the newest.
pub(crate) async fn await_dialler<I: Inbox>(
    shared: Arc<Shared<I>>,
    link: Arc<Link>,
    mut arrivals: mpsc::Receiver<Established>,
    mut stopping: Stopping,
) {
    let mut next = None;
    loop {
        let connection = if let Some(connection) = next.take() {
            connection
        } else {
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => return,
                connection = arrivals.recv() => match connection {
                    Some(connection) => connection,
                    None => return,
                },
            }
        };
        next = serve(&shared, &link, connection, &mut arrivals, &stopping).await;
        if *stopping.borrow() {
            return;
        }
    }
}

/// Tries every address that the host's name stands for.
async fn connect<I: Inbox>(shared: &Shared<I>, link: &Link) -> Result<Established, HandshakeError> {
    let security = shared.security();
    let addresses = time::timeout(CONNECT_TIMEOUT, net::lookup_host(link.address())).await;
    let mut failed = HandshakeError::TooSlow(CONNECT_TIMEOUT);
    for address in addresses.map_err(|_| HandshakeError::TooSlow(CONNECT_TIMEOUT))?? {
        match connect_to(shared, link, &security, address).await {
            Ok(connection) => return Ok(connection),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn connect_to<I: Inbox>(
    shared: &Shared<I>,
    link: &Link,
    security: &Security,
    address: SocketAddr,
) -> Result<Established, HandshakeError> {
    let is_plain = matches!(security, Security::Plaintext);
    let only_loopback = shared.plaintext == PlaintextScope::Loopback;
    if is_plain && only_loopback && !address.ip().is_loopback() {
        return Err(HandshakeError::NotLoopback(address));
    }
    let socket = time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let socket = socket.map_err(|_| HandshakeError::TooSlow(CONNECT_TIMEOUT))??;
    let limit = shared.limits.handshake_timeout;
    time::timeout(
        limit,
        handshake::dial(&shared.local, security, &link.name, socket),
    )
    .await
    .map_err(|_| HandshakeError::TooSlow(limit))?
}

/// One session, from `Up` to `Down`; returns the connection that replaces it, if one does.
async fn serve<I: Inbox>(
    shared: &Shared<I>,
    link: &Arc<Link>,
    connection: Established,
    arrivals: &mut mpsc::Receiver<Established>,
    stopping: &Stopping,
) -> Option<Established> {
    let session = Session(shared.session_next.fetch_add(1, Ordering::Relaxed));
    let Established {
        stream,
        buffer,
        hello,
    } = connection;
    let up = PeerEvent::Up {
        peer: link.name.clone(),
        session,
        incarnation: hello.incarnation,
        features: hello.features & !question::FEATURE,
    };
    *lock(&link.trouble) = None;
    *lock(&link.incarnation) = Some(hello.incarnation);
    tracing::info!(event = "peer.up", peer = %link.name, session = session.0, "peer connected");
    link.questions.open(hello.features);
    link.outgoing.open(session);
    let mut next = None;
    let reason = if let Err(InboxClosed) = shared.inbox.deliver(vec![up]).await {
        DownReason::Stopped
    } else {
        let (reader, writer) = tokio::io::split(stream);
        let mut incoming = Incoming {
            link,
            session,
            inbox: &shared.inbox,
            asked: shared.questions.as_ref(),
            reader,
            buffer,
        };
        tokio::select! {
            biased;
            reason = incoming.read() => reason,
            reason = write(link, writer, stopping.clone()) => reason,
            InboxClosed = announce_room(link, session, &shared.inbox) => DownReason::Stopped,
            () = link.outgoing.ended(session) => DownReason::Ended,
            Some(connection) = arrivals.recv() => {
                next = Some(connection);
                DownReason::Replaced
            }
            () = patience_ends(stopping.clone()) => DownReason::Stopped,
        }
    };
    let reason = if *stopping.borrow() {
        DownReason::Stopped
    } else {
        reason
    };
    close(shared, link, session, reason).await;
    next
}

async fn close<I: Inbox>(shared: &Shared<I>, link: &Link, session: Session, reason: DownReason) {
    link.outgoing.close();
    link.questions.close();
    *lock(&link.incarnation) = None;
    *lock(&link.trouble) = Some(reason.to_string());
    tracing::info!(
        event = "peer.down",
        peer = %link.name,
        session = session.0,
        reason = %reason,
        "peer disconnected"
    );
    let down = PeerEvent::Down {
        peer: link.name.clone(),
        session,
        reason,
    };
    if let Err(InboxClosed) = shared.inbox.deliver(vec![down]).await {
        tracing::debug!(event = "peer.unheard", peer = %link.name, "nobody hears of it");
    }
}

/// The reading side of a connection.
struct Incoming<'a, I, S> {
    link: &'a Arc<Link>,
    session: Session,
    inbox: &'a I,
    /// Where questions go.
    asked: Option<&'a mpsc::Sender<Question>>,
    reader: ReadHalf<S>,
    buffer: BytesMut,
}

impl<I: Inbox, S: AsyncRead + AsyncWrite> Incoming<'_, I, S> {
    /// Reads until the connection ends, and says why it did.
    async fn read(&mut self) -> DownReason {
        loop {
            let mut events = Vec::new();
            let end = self.decode(&mut events);
            if !events.is_empty() && self.inbox.deliver(events).await.is_err() {
                return DownReason::Stopped;
            }
            if let Some(reason) = end {
                return reason;
            }
            let missing = frame::missing_size_bytes(&self.buffer);
            self.buffer.reserve(missing.max(READ_SIZE_BYTES));
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(0) => return DownReason::Broken("it was closed".to_owned()),
                Ok(_) => {}
                Err(error) => return DownReason::Broken(error.to_string()),
            }
        }
    }

    /// Takes all whole frames out of the buffer; a reason if they end the connection.
    fn decode(&mut self, events: &mut Vec<PeerEvent>) -> Option<DownReason> {
        let mut size_bytes = 0;
        let end = loop {
            match frame::decode(&mut self.buffer, PAYLOAD_SIZE_BYTES_MAX) {
                Ok(None) => break None,
                Ok(Some((FrameKind::GOODBYE, _))) => break Some(DownReason::Goodbye),
                Ok(Some((kind @ (FrameKind::QUESTION | FrameKind::ANSWER), payload))) => {
                    if !self.take_aside(kind, payload) {
                        let error = "that is no question, and no answer".to_owned();
                        break Some(DownReason::Nonsense(error));
                    }
                }
                Ok(Some((kind, _))) if kind < FrameKind::OWNERS_FIRST => {
                    let error = format!("a frame of kind {} has no place here", kind.0);
                    break Some(DownReason::Nonsense(error));
                }
                Ok(Some((kind, payload))) => {
                    size_bytes += payload.len();
                    events.push(PeerEvent::Frame {
                        peer: self.link.name.clone(),
                        session: self.session,
                        kind,
                        payload,
                    });
                }
                Err(error) => break Some(DownReason::Nonsense(error.to_string())),
            }
        };
        self.link.outgoing.received(events.len(), size_bytes);
        end
    }

    /// Takes what the links' owner does not hear of; false if it is nothing that can be read.
    fn take_aside(&self, kind: FrameKind, payload: Bytes) -> bool {
        if kind == FrameKind::ANSWER {
            return self.link.questions.hear(payload);
        }
        let Some(question) = Question::read(self.link, self.session, payload) else {
            return false;
        };
        match self.asked.map(|asked| asked.try_send(question)) {
            // Who asks those who take no questions gets no answer.
            Some(Ok(())) | None => {}
            Some(Err(TrySendError::Full(question) | TrySendError::Closed(question))) => {
                question.reply.refuse();
            }
        }
        true
    }
}

/// Writes until the connection breaks. When the link stops, writes what is left and says goodbye;
/// then it is the peer's turn to close.
async fn write<S>(link: &Link, writer: WriteHalf<S>, stopping: Stopping) -> DownReason
where
    S: AsyncRead + AsyncWrite,
{
    match write_all(link, writer, stopping).await {
        Ok(never) => match never {},
        Err(error) => DownReason::Broken(error.to_string()),
    }
}

async fn write_all<S>(
    link: &Link,
    mut writer: WriteHalf<S>,
    mut stopping: Stopping,
) -> io::Result<Infallible>
where
    S: AsyncRead + AsyncWrite,
{
    let mut segments = Segments::default();
    loop {
        let frames = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => break,
            frames = link.outgoing.take(WRITE_SIZE_BYTES) => frames,
        };
        for frame in frames {
            frame.encode(&mut segments);
        }
        writer.write_all_buf(&mut segments).await?;
        writer.flush().await?;
    }
    loop {
        let frames = link.outgoing.try_take(WRITE_SIZE_BYTES);
        if frames.is_empty() {
            break;
        }
        for frame in frames {
            frame.encode(&mut segments);
        }
        writer.write_all_buf(&mut segments).await?;
    }
    hello::small(FrameKind::GOODBYE, Vec::new()).encode(&mut segments);
    writer.write_all_buf(&mut segments).await?;
    writer.shutdown().await?;
    Ok(std::future::pending().await)
}

/// Tells those who were refused that there is room. Not the writer's task: it must go on while the
/// inbox is full.
async fn announce_room<I: Inbox>(link: &Link, session: Session, inbox: &I) -> InboxClosed {
    loop {
        link.outgoing.room().await;
        let room = PeerEvent::Room {
            peer: link.name.clone(),
            session,
        };
        if let Err(closed) = inbox.deliver(vec![room]).await {
            return closed;
        }
    }
}

/// Resolves when the link has been stopping for too long.
async fn patience_ends(mut stopping: Stopping) {
    if stopping.wait_for(|stop| *stop).await.is_ok() {
        time::sleep(GOODBYE_TIMEOUT).await;
    }
}

/// Pieces that are written one after another without being put together.
#[derive(Debug, Default)]
struct Segments {
    pieces: VecDeque<Bytes>,
    size_bytes: usize,
}

impl Extend<Bytes> for Segments {
    fn extend<T: IntoIterator<Item = Bytes>>(&mut self, pieces: T) {
        for piece in pieces {
            self.size_bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }
}

impl Buf for Segments {
    fn remaining(&self) -> usize {
        self.size_bytes
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, mut size_bytes: usize) {
        self.size_bytes -= size_bytes;
        while let Some(piece) = self.pieces.front_mut() {
            if size_bytes < piece.len() {
                piece.advance(size_bytes);
                return;
            }
            size_bytes -= piece.len();
            self.pieces.pop_front();
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [io::IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = io::IoSlice::new(piece);
            count += 1;
        }
        count
    }
}
