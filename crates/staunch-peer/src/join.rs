//! How a node without a certificate gets one: from a running node that has the authority's
//! directory, for a token.
//!
//! The joining node dials the peer port with a protocol of its own (ALPN), for which no certificate
//! is asked of it and on which nothing else can be done. It accepts only whom the authority vouches
//! for that the token names. Then one frame each way: the request is the token, the node's name, a
//! certificate request and addresses, each with its length (u16, little-endian) before it; the
//! answer is the certificate and the authority's, in PEM, in the same form.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::{Buf as _, Bytes, BytesMut};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::verify_tls13_signature,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    version::TLS13,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task, time};
use tokio_rustls::{TlsConnector, TlsStream};

use crate::{
    Authority,
    authority::{self, AuthorityError, Fingerprint, NODE_VALID, NodeRequest, check_name},
    frame::FrameKind,
    handshake::{self, HandshakeError, read_frame},
    hello::{self, Refused, refusal_text},
    stream::Stream,
    tls::{self, PROTOCOL_JOIN},
    token::{Token, TokenError},
};

/// Longest request or answer, in bytes.
const JOIN_SIZE_BYTES_MAX: usize = 32 << 10;
/// Time for all of it.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What a node got.
#[derive(Clone, PartialEq, Eq)]
pub struct Joined {
    /// Its certificate, in PEM.
    pub certificate: String,
    /// The authority's, in PEM.
    pub authority: String,
    /// Its key, in PEM, which nobody else has seen.
    pub key: String,
}

/// Why a node has not joined.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum JoinError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Request(#[from] AuthorityError),
    #[error("cannot connect to {address}: {error}")]
    Connect { address: String, error: io::Error },
    #[error("TLS with {address}: {error}")]
    Tls { address: String, error: String },
    #[error("{0}")]
    Refused(String),
    #[error("the connection failed: {0}")]
    Broken(String),
    #[error("the answer is no good: {0}")]
    Answer(String),
    #[error("there was no answer within {JOIN_TIMEOUT:?}")]
    TooSlow,
    #[error("no key can be made: {0}")]
    Key(#[from] rcgen::Error),
}

/// Joins from a program that has no tokio runtime; see [`join`].
///
/// # Errors
/// As [`join`].
pub fn join_blocking(
    token: &str,
    address: &str,
    name: &str,
    addresses: &[String],
) -> Result<Joined, JoinError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| JoinError::Broken(error.to_string()))?;
    runtime.block_on(join(token, address, name, addresses))
}

/// Asks the node at `address` (HOST:PORT of its peer port) for a certificate for the node `name`.
///
/// # Errors
/// When the token is unreadable, nobody is there whom the token's authority vouches for, or the
/// request is refused.
pub async fn join(
    token: &str,
    address: &str,
    name: &str,
    addresses: &[String],
) -> Result<Joined, JoinError> {
    check_name(name)?;
    let fingerprint = Token::read(token)?.fingerprint();
    let key = KeyPair::generate()?;
    let signing_request = CertificateParams::default().serialize_request(&key)?;
    let mut request = Vec::new();
    put(&mut request, token.trim().as_bytes());
    put(&mut request, name.as_bytes());
    put(&mut request, signing_request.der());
    for address in addresses {
        put(&mut request, address.as_bytes());
    }
    let asked = time::timeout(JOIN_TIMEOUT, ask(address, fingerprint, request));
    let (certificate, authority) = asked.await.map_err(|_| JoinError::TooSlow)??;
    check_answer(&certificate, &authority, fingerprint, name).map_err(JoinError::Answer)?;
    Ok(Joined {
        certificate,
        authority,
        key: key.serialize_pem(),
    })
}

async fn ask(
    address: &str,
    fingerprint: Fingerprint,
    request: Vec<u8>,
) -> Result<(String, String), JoinError> {
    let connect = |error| JoinError::Connect {
        address: address.to_owned(),
        error,
    };
    let socket = TcpStream::connect(address).await.map_err(connect)?;
    let host = ServerName::from(socket.peer_addr().map_err(connect)?.ip());
    let config = client_config(fingerprint).map_err(|error| JoinError::Tls {
        address: address.to_owned(),
        error: error.to_string(),
    })?;
    let stream = TlsConnector::from(Arc::new(config)).connect(host, socket);
    let stream = stream.await.map_err(|error| JoinError::Tls {
        address: address.to_owned(),
        error: tls::describe_handshake(&error),
    })?;
    let mut stream = Stream::Tls(Box::new(TlsStream::from(stream)));
    let request = hello::small(FrameKind::JOIN_REQUEST, request).to_bytes();
    let broken = |error: HandshakeError| JoinError::Broken(error.to_string());
    let sent = async {
        stream.write_all(&request).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| broken(error.into()))?;
    let mut buffer = BytesMut::new();
    let answer = read_frame(&mut stream, &mut buffer, JOIN_SIZE_BYTES_MAX).await;
    let (kind, mut payload) = answer.map_err(broken)?;
    if kind == FrameKind::REFUSED {
        return Err(JoinError::Refused(refusal_text(&payload)));
    }
    let field = |payload: &mut Bytes| String::from_utf8(take(payload)?.to_vec()).ok();
    match (kind, field(&mut payload), field(&mut payload)) {
        (FrameKind::JOIN_ANSWER, Some(certificate), Some(authority)) => {
            Ok((certificate, authority))
        }
        _ => Err(JoinError::Answer("it cannot be read".to_owned())),
    }
}

/// That the certificate is ours to use and the authority the token's.
fn check_answer(
    certificate: &str,
    authority: &str,
    fingerprint: Fingerprint,
    name: &str,
) -> Result<(), String> {
    let read = |pem: &str| {
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string())
    };
    let (certificate, authority) = (read(certificate)?, read(authority)?);
    if authority::fingerprint(&authority) != fingerprint {
        return Err("the authority is not the token's".to_owned());
    }
    let roots = tls::trust(&[authority]).map_err(|error| error.to_string())?;
    tls::verify(&certificate, &[], &roots).map_err(|error| error.to_string())?;
    match tls::facts(&certificate) {
        Some(facts) if facts.name.as_bytes() == name.as_bytes() => Ok(()),
        Some(_) | None => Err("the certificate is for somebody else".to_owned()),
    }
}

/// Answers one who wants to join, on a node that has the authority's directory.
pub(crate) async fn answer(
    mut stream: Stream,
    authority: Arc<Authority>,
) -> Result<(), HandshakeError> {
    let mut buffer = BytesMut::new();
    let (kind, payload) = read_frame(&mut stream, &mut buffer, JOIN_SIZE_BYTES_MAX).await?;
    if kind != FrameKind::JOIN_REQUEST {
        return Err(handshake::refuse(stream, Refused::NoHello).await);
    }
    let admitted = task::spawn_blocking(move || {
        let admitted = admit(&authority, payload);
        admitted.map(|certificate| (certificate, authority.certificate_pem().to_owned()))
    });
    match admitted
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
    {
        Err(text) => Err(handshake::refuse(stream, Refused::Token(text)).await),
        Ok((certificate, authority)) => {
            let mut answer = Vec::new();
            put(&mut answer, certificate.as_bytes());
            put(&mut answer, authority.as_bytes());
            let answer = hello::small(FrameKind::JOIN_ANSWER, answer).to_bytes();
            stream.write_all(&answer).await?;
            stream.shutdown().await?;
            Ok(())
        }
    }
}

/// The certificate, or why there is none.
fn admit(authority: &Authority, mut payload: Bytes) -> Result<String, String> {
    let unreadable = || "the request cannot be read".to_owned();
    let mut text = || String::from_utf8(take(&mut payload)?.to_vec()).ok();
    let token = text().ok_or_else(unreadable)?;
    let name = text().ok_or_else(unreadable)?;
    let signing_request = take(&mut payload).ok_or_else(unreadable)?;
    let mut addresses = Vec::new();
    while payload.has_remaining() {
        let address = take(&mut payload).ok_or_else(unreadable)?;
        addresses.push(String::from_utf8(address.to_vec()).map_err(|_| unreadable())?);
    }
    let checked = check_name(&name).map_err(|error| error.to_string())?;
    let token = Token::read(&token).map_err(|error| error.to_string())?;
    token
        .check(authority, &checked, SystemTime::now())
        .map_err(|error| error.to_string())?;
    let request = NodeRequest {
        name,
        addresses,
        valid: NODE_VALID,
    };
    let certificate = authority
        .admit(&request, &signing_request, token.id(), token.expires_at())
        .map_err(|error| error.to_string())?;
    tracing::info!(
        event = "peer.joined",
        node = request.name,
        "a node has got its certificate"
    );
    Ok(certificate)
}

fn put(out: &mut Vec<u8>, field: &[u8]) {
    let size = u16::try_from(field.len()).unwrap_or(u16::MAX);
    out.extend(size.to_le_bytes());
    out.extend(&field[..usize::from(size)]);
}

fn take(payload: &mut Bytes) -> Option<Bytes> {
    let size = usize::from(payload.try_get_u16_le().ok()?);
    (size <= payload.len()).then(|| payload.split_to(size))
}

fn client_config(fingerprint: Fingerprint) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedVerifier { fingerprint }))
        .with_no_client_auth();
    config.alpn_protocols = vec![PROTOCOL_JOIN.to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Accepts the nodes of the one authority that has this fingerprint, which they show with their
/// own certificates.
#[derive(Debug)]
struct PinnedVerifier {
    fingerprint: Fingerprint,
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let pinned = intermediates
            .iter()
            .find(|certificate| authority::fingerprint(certificate) == self.fingerprint)
            .ok_or(unknown.clone())?;
        let roots = tls::trust(&[pinned.clone().into_owned()])?;
        tls::verify(end_entity, intermediates, &roots)?;
        tls::facts(end_entity).ok_or(unknown)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("peers speak TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &tls::algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::algorithms().supported_schemes()
    }
}
