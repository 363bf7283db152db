//! TLS for listeners: from files to a rustls configuration, and the handshake.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::TlsAcceptor;

use crate::stream::Stream;

pub(crate) mod login;
pub(crate) mod reload;

/// The first byte of a TLS record that carries a handshake (RFC 8446, section 5.1).
const RECORD_HANDSHAKE: u8 = 0x16;
/// The major version in every TLS record.
const RECORD_MAJOR: u8 = 0x03;

/// Which clients have to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientCertificates {
    /// None is asked for.
    Ignored,
    /// One that is shown is verified.
    Optional,
    /// Nobody gets in without.
    Required,
}

/// Where certificates come from and what is asked of clients.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Needed unless client certificates are ignored.
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) clients: ClientCertificates,
    pub(crate) versions: Vec<Version>,
}

/// A protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl Version {
    fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::V1_2 => &TLS12,
            Self::V1_3 => &TLS13,
        }
    }
}

/// Why there is no TLS with these files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{}: cannot be read: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{}: is not PEM: {error}", path.display())]
    Pem { path: PathBuf, error: pem::Error },
    #[error("{}: holds no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{}: holds no private key", path.display())]
    NoKey { path: PathBuf },
    #[error("{}: holds an authority that is none: {error}", path.display())]
    Authority { path: PathBuf, error: rustls::Error },
    #[error("client certificates cannot be verified: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("certificate {} and key {} are refused: {error}", certificate.display(), key.display())]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        error: rustls::Error,
    },
    #[error("the protocol versions are refused: {0}")]
    Versions(rustls::Error),
}

/// The contents of the files, to see whether they have changed.
#[derive(PartialEq, Eq)]
struct Material {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Option<Vec<u8>>,
}

impl Material {
    fn read(options: &Options) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read(&options.certificate)?,
            key: read(&options.key)?,
            authorities: options.authorities.as_deref().map(read).transpose()?,
        })
    }

    fn server_config(&self, options: &Options) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions: Vec<_> = options.versions.iter().map(|v| v.supported()).collect();
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(TlsError::Versions)?;
        let builder = match (options.clients, &options.authorities, &self.authorities) {
            (ClientCertificates::Ignored, _, _) | (_, None, _) | (_, _, None) => {
                builder.with_no_client_auth()
            }
            (clients, Some(path), Some(pem)) => {
                let roots = Arc::new(authorities(path, pem)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match clients {
                    ClientCertificates::Required => verifier,
                    _ => verifier.allow_unauthenticated(),
                };
                builder.with_client_cert_verifier(verifier.build()?)
            }
        };
        let chain = certificates(&options.certificate, &self.certificate)?;
        let key = private_key(&options.key, &self.key)?;
        builder
            .with_single_cert(chain, key)
            .map_err(|error| TlsError::Pair {
                certificate: options.certificate.clone(),
                key: options.key.clone(),
                error,
            })
    }
}

/// Takes the place of the plain stream once the handshake is done. What the handshake may cost in
/// time is the caller's to say.
pub(crate) async fn accept(
    stream: TcpStream,
    config: &watch::Receiver<Arc<ServerConfig>>,
) -> io::Result<Stream> {
    let acceptor = TlsAcceptor::from(config.borrow().clone());
    let (socket, session) = acceptor.accept(stream).await?.into_inner();
    Ok(Stream::encrypted(socket, session))
}

/// Whether these first bytes of a connection are those of a TLS client.
pub(crate) fn is_client_hello(bytes: &[u8]) -> bool {
    bytes.starts_with(&[RECORD_HANDSHAKE, RECORD_MAJOR])
}

/// Looks at the first byte without taking it: what a client speaks that does not speak TLS.
pub(crate) async fn foreign_protocol(stream: &TcpStream) -> io::Result<Option<&'static str>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(match first[0] {
        RECORD_HANDSHAKE => None,
        b'A' => Some("AMQP without TLS"),
        b'P' => Some("the PROXY protocol, which is not enabled here, or HTTP"),
        b'G' | b'H' => Some("HTTP"),
        _ => Some("something unknown"),
    })
}

fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, TlsError> {
    let path = path.as_ref();
    std::fs::read(path).map_err(|error| TlsError::Read {
        path: path.to_owned(),
        error,
    })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| TlsError::Pem {
        path: path.to_owned(),
        error,
    })?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(found)
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey {
            path: path.to_owned(),
        },
        error => TlsError::Pem {
            path: path.to_owned(),
            error,
        },
    })
}

fn authorities(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::Authority {
                path: path.to_owned(),
                error,
            })?;
    }
    Ok(roots)
}
