//! From a fresh TCP connection to a peer that is known: TLS, then a hello in either direction.

use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use rustls::{ServerConfig, pki_types::ServerName, server::Acceptor};
use staunch_types::Name;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, TlsStream};

use crate::{
    frame::{self, FrameError, FrameKind},
    hello::{HELLO_SIZE_BYTES_MAX, Hello, Refused, VERSION, refusal_text},
    peers::{Local, Security},
    stream::{self, Stream},
    tls::{self, Identity, PROTOCOL_JOIN, PROTOCOL_PEER, RECORD_HANDSHAKE},
};

/// A connection with a peer that is known.
pub(crate) struct Established {
    pub(crate) stream: Stream,
    /// What was read behind the hello.
    pub(crate) buffer: BytesMut,
    /// What the peer says about itself, checked.
    pub(crate) hello: Hello,
}

/// What has come in.
pub(crate) enum Arrival {
    /// A peer; it waits for our hello.
    Peer(Greeted),
    /// Somebody who wants to become one, with TLS but without a certificate.
    Join(Stream),
}

/// A peer whose hello is good and has not been answered.
pub(crate) struct Greeted {
    connection: Established,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("{}", tls::describe(.0))]
    Io(#[from] io::Error),
    #[error("{0}")]
    Tls(String),
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// By us.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// By the peer.
    #[error("the peer refuses: {0}")]
    RefusedByPeer(String),
    #[error("the peer closed the connection during the handshake")]
    Closed,
    #[error("the handshake took longer than {0:?}")]
    TooSlow(Duration),
    #[error("{0}: without TLS only loopback addresses are dialled")]
    NotLoopback(std::net::SocketAddr),
    #[error("the node is stopping")]
    Stopping,
}

impl Local {
    fn hello(&self, to: &Name) -> Hello {
        Hello {
            version_min: VERSION,
            version_max: VERSION,
            incarnation: self.incarnation,
            features: self.features,
            cluster: self.cluster.clone(),
            node: self.name.clone(),
            to: to.clone(),
        }
    }
}

/// The dialler's side, on a connection to where `expected` should be.
pub(crate) async fn dial(
    local: &Local,
    security: &Security,
    expected: &Name,
    socket: TcpStream,
) -> Result<Established, HandshakeError> {
    stream::tune(&socket)?;
    let (mut stream, certificate) = match security {
        Security::Plaintext => (Stream::Plain(socket), None),
        Security::Tls(identity) => connect_tls(identity, expected, socket).await?,
    };
    let ours = local.hello(expected);
    let sent = send(&mut stream, &ours.frame().to_bytes()).await;
    let mut buffer = BytesMut::with_capacity(HELLO_SIZE_BYTES_MAX);
    // A peer that does not want us may say why before it closes, and that is worth more than the
    // error of writing to it.
    let answer = read_frame(&mut stream, &mut buffer, HELLO_SIZE_BYTES_MAX).await;
    let (kind, payload) = match (sent, answer) {
        (_, Ok(frame)) => frame,
        (Err(error), Err(HandshakeError::Closed)) => return Err(error.into()),
        (Ok(()) | Err(_), Err(error)) => return Err(error),
    };
    if kind == FrameKind::REFUSED {
        return Err(HandshakeError::RefusedByPeer(refusal_text(&payload)));
    }
    let hello = hello_of(kind, payload)?;
    hello.check(&ours, certificate.as_ref())?;
    if hello.node != *expected {
        return Err(HandshakeError::Refused(Refused::NotExpected {
            is: hello.node,
            expected: expected.clone(),
        }));
    }
    Ok(Established {
        stream,
        buffer,
        hello,
    })
}

/// Speaks TLS, and makes sure who is there before anything is said.
async fn connect_tls(
    identity: &Identity,
    expected: &Name,
    socket: TcpStream,
) -> Result<(Stream, Option<Name>), HandshakeError> {
    // The host's name does not matter and is not sent; rustls wants to have one.
    let address = ServerName::from(socket.peer_addr()?.ip());
    let connector = TlsConnector::from(identity.dialler());
    let connected = connector.connect(address, socket).await;
    let stream =
        TlsStream::from(connected.map_err(|e| HandshakeError::Tls(tls::describe_handshake(&e)))?);
    if stream.get_ref().1.alpn_protocol() != Some(PROTOCOL_PEER) {
        return Err(HandshakeError::Tls("the peer is no node".to_owned()));
    }
    let certificate = certificate_name(&stream)?;
    if certificate != *expected {
        return Err(HandshakeError::Refused(Refused::NotExpected {
            is: certificate,
            expected: expected.clone(),
        }));
    }
    Ok((Stream::Tls(Box::new(stream)), Some(certificate)))
}

/// The acceptor's side, until the dialler has shown who it is. `may_join` lets those in who have
/// no certificate, to a protocol of their own.
pub(crate) async fn accept(
    local: &Local,
    security: &Security,
    may_join: bool,
    socket: TcpStream,
) -> Result<Arrival, HandshakeError> {
    stream::tune(&socket)?;
    let speaks_tls = speaks_tls(&socket).await?;
    let (stream, certificate) = match (security, speaks_tls) {
        (Security::Plaintext, false) => (Stream::Plain(socket), None),
        (Security::Plaintext, true) => return Err(Refused::Tls.into()),
        (Security::Tls(_), false) => {
            return Err(refuse(Stream::Plain(socket), Refused::Plaintext).await);
        }
        (Security::Tls(identity), true) => {
            let stream = accept_tls(identity, may_join, socket).await?;
            match stream.get_ref().1.alpn_protocol() {
                Some(PROTOCOL_JOIN) => return Ok(Arrival::Join(Stream::Tls(Box::new(stream)))),
                Some(PROTOCOL_PEER) => {}
                Some(_) | None => return Err(Refused::NoHello.into()),
            }
            let name = certificate_name(&stream);
            let stream = Stream::Tls(Box::new(stream));
            match name {
                Ok(name) => (stream, Some(name)),
                Err(refused) => return Err(refuse(stream, refused).await),
            }
        }
    };
    greet(local, stream, certificate).await.map(Arrival::Peer)
}

/// Chooses by what the client asks for: there is no way to the frames of peers without a
/// certificate.
async fn accept_tls(
    identity: &Identity,
    may_join: bool,
    socket: TcpStream,
) -> Result<TlsStream<TcpStream>, HandshakeError> {
    let failed = |error: io::Error| HandshakeError::Tls(tls::describe_handshake(&error));
    let start = LazyConfigAcceptor::new(Acceptor::default(), socket);
    let start = start.await.map_err(failed)?;
    let wants_to_join = start
        .client_hello()
        .alpn()
        .is_some_and(|mut protocols| protocols.any(|protocol| protocol == PROTOCOL_JOIN));
    let config: Arc<ServerConfig> = if wants_to_join && may_join {
        identity.joins()
    } else {
        identity.acceptor()
    };
    Ok(TlsStream::from(
        start.into_stream(config).await.map_err(failed)?,
    ))
}

async fn greet(
    local: &Local,
    mut stream: Stream,
    certificate: Option<Name>,
) -> Result<Greeted, HandshakeError> {
    let mut buffer = BytesMut::with_capacity(HELLO_SIZE_BYTES_MAX);
    let (kind, payload) = read_frame(&mut stream, &mut buffer, HELLO_SIZE_BYTES_MAX).await?;
    let checked = hello_of(kind, payload).and_then(|hello| {
        hello.check(&local.hello(&hello.node), certificate.as_ref())?;
        Ok(hello)
    });
    match checked {
        Err(refused) => Err(refuse(stream, refused).await),
        Ok(hello) => Ok(Greeted {
            connection: Established {
                stream,
                buffer,
                hello,
            },
        }),
    }
}

impl Greeted {
    pub(crate) fn name(&self) -> &Name {
        &self.connection.hello.node
    }

    /// Lets the peer in.
    pub(crate) async fn welcome(mut self, local: &Local) -> Result<Established, HandshakeError> {
        let hello = local.hello(self.name()).frame().to_bytes();
        send(&mut self.connection.stream, &hello).await?;
        Ok(self.connection)
    }

    /// Sends it away.
    pub(crate) async fn refuse(self, refused: Refused) -> HandshakeError {
        refuse(self.connection.stream, refused).await
    }
}

/// Tells the peer why, if it listens.
pub(crate) async fn refuse(mut stream: Stream, refused: Refused) -> HandshakeError {
    let told = async {
        stream.write_all(&refused.frame().to_bytes()).await?;
        stream.shutdown().await
    };
    if let Err(error) = told.await {
        tracing::debug!(event = "peer.deaf", %error, "a refused peer did not hear why");
    }
    HandshakeError::Refused(refused)
}

async fn send(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

fn hello_of(kind: FrameKind, payload: Bytes) -> Result<Hello, Refused> {
    if kind != FrameKind::HELLO {
        return Err(Refused::NoHello);
    }
    Hello::decode(payload)
}

/// Reads one frame of at most so many bytes.
pub(crate) async fn read_frame(
    stream: &mut Stream,
    buffer: &mut BytesMut,
    size_bytes_max: usize,
) -> Result<(FrameKind, Bytes), HandshakeError> {
    loop {
        if let Some(frame) = frame::decode(buffer, size_bytes_max)? {
            return Ok(frame);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(HandshakeError::Closed);
        }
    }
}

fn certificate_name(stream: &TlsStream<TcpStream>) -> Result<Name, Refused> {
    let certificates = stream.get_ref().1.peer_certificates();
    let facts = certificates.and_then(|chain| tls::facts(chain.first()?));
    facts
        .map(|facts| facts.name)
        .ok_or(Refused::NamelessCertificate)
}

/// Looks at the first bytes without taking them. A TLS record begins with its type, then its
/// version, whose minor part is not 0; the third byte of a hello is, because hellos are short.
async fn speaks_tls(socket: &TcpStream) -> io::Result<bool> {
    let mut first = [0; RECORD_HANDSHAKE.len() + 1];
    let size = socket.peek(&mut first).await?;
    if size == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (version, minor) = (size.min(RECORD_HANDSHAKE.len()), first.last());
    let is_record = RECORD_HANDSHAKE.starts_with(&first[..version]);
    Ok(is_record && (size < first.len() || minor != Some(&0)))
}

const _: () = assert!(HELLO_SIZE_BYTES_MAX < 1 << 16, "see `speaks_tls`");
