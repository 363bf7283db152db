//! What happens on a socket before AMQP: the balancer's header, the TLS handshake, who it is.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{ProtocolVersion, ServerConfig};
use staunch_types::Name;
use tokio::{net::TcpStream, sync::watch, time};

use crate::{
    proxy::{self, Header, HeaderError},
    stream::Stream,
    tls::{
        self,
        login::{self, LoginFrom},
    },
};

/// Time a load balancer has for its header, which it sends as soon as it has connected.
const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How connections come in through one listener.
#[derive(Clone)]
pub(crate) struct Door {
    /// Every connection begins with a PROXY header.
    pub(crate) proxy_protocol: bool,
    /// Connections are encrypted.
    pub(crate) tls: Option<TlsDoor>,
}

/// How encrypted connections come in.
#[derive(Clone)]
pub(crate) struct TlsDoor {
    pub(crate) config: watch::Receiver<Arc<ServerConfig>>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) login_from: LoginFrom,
}

/// A connection that may speak AMQP now.
pub(crate) struct Arrival {
    pub(crate) stream: Stream,
    /// The client, as far as is known.
    pub(crate) peer: SocketAddr,
    /// Where it connected to.
    pub(crate) local: Option<SocketAddr>,
    /// The client is on this machine.
    pub(crate) is_loopback: bool,
    /// TLS version, as `TLSv1.3`.
    pub(crate) tls: Option<&'static str>,
    /// The user that a verified client certificate names.
    pub(crate) certificate_user: Option<Name>,
}

/// Why a connection does not get in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArrivalError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("no PROXY header within {} s", PROXY_HEADER_TIMEOUT.as_secs())]
    HeaderTimeout,
    #[error("the client does not speak TLS but {0}")]
    NotTls(&'static str),
    #[error("TLS handshake: {0}")]
    Handshake(#[from] io::Error),
    #[error("no TLS handshake within {} ms", .0.as_millis())]
    HandshakeTimeout(Duration),
}

impl Door {
    /// Takes a fresh socket of `peer` through everything that comes before AMQP.
    pub(crate) async fn enter(
        &self,
        mut socket: TcpStream,
        peer: SocketAddr,
    ) -> Result<Arrival, ArrivalError> {
        let header = self.header(&mut socket).await?;
        let is_near = is_loopback(peer);
        let local = socket.local_addr().ok();
        let stream = match &self.tls {
            None => Stream::Plain(socket),
            Some(tls) => tls.accept(socket).await?,
        };
        let (peer, local, is_loopback) = match header {
            Header::Local => (peer, local, is_near),
            // A balancer on this machine brings strangers; a stranger may claim to be one.
            Header::Proxied {
                source,
                destination,
            } => (source, Some(destination), is_near && is_loopback(source)),
        };
        let session = stream.session();
        let certificates = session.and_then(|session| session.peer_certificates());
        let tls = session.and_then(|session| session.protocol_version().map(version_name));
        let certificate_user = certificates
            .and_then(|chain| chain.first())
            .zip(self.tls.as_ref())
            .and_then(|(certificate, door)| login::user_name(certificate, door.login_from))
            .and_then(|name| Name::new(name.as_bytes()).ok());
        Ok(Arrival {
            stream,
            peer,
            local,
            is_loopback,
            tls,
            certificate_user,
        })
    }

    async fn header(&self, socket: &mut TcpStream) -> Result<Header, ArrivalError> {
        if !self.proxy_protocol {
            return Ok(Header::Local);
        }
        match time::timeout(PROXY_HEADER_TIMEOUT, proxy::read(socket)).await {
            Ok(header) => Ok(header?),
            Err(_) => Err(ArrivalError::HeaderTimeout),
        }
    }
}

impl TlsDoor {
    async fn accept(&self, socket: TcpStream) -> Result<Stream, ArrivalError> {
        let handshake = async {
            if let Some(protocol) = tls::foreign_protocol(&socket).await? {
                return Err(ArrivalError::NotTls(protocol));
            }
            Ok(tls::accept(socket, &self.config).await?)
        };
        match time::timeout(self.handshake_timeout, handshake).await {
            Ok(stream) => stream,
            Err(_) => Err(ArrivalError::HandshakeTimeout(self.handshake_timeout)),
        }
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        _ => "TLS",
    }
}
