//! Mutual TLS 1.3 between the nodes of a cluster.
//!
//! A node is who its certificate says it is: the subject's alternative names have the URI
//! `staunch-node:NAME`, signed by the cluster's own authority. Host names and addresses do not
//! matter, so nodes can move. A certificate of the same authority without such a name opens
//! nothing.
//!
//! Sessions are never resumed: a resumed one would not look at certificates again, and one that
//! has expired must not get in.

use std::{
    fmt,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    AlertDescription as Alert, CertificateError, ClientConfig, DigitallySignedStruct,
    RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject as _},
    },
    server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier},
    version::TLS13,
};
use staunch_types::Name;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

/// What peers agree on during the handshake (RFC 7301).
pub(crate) const PROTOCOL_PEER: &[u8] = b"staunch-peer/1";
/// The same for a node that has no certificate yet.
pub(crate) const PROTOCOL_JOIN: &[u8] = b"staunch-join/1";
/// Scheme of the URI that carries a node's name.
pub(crate) const NODE_URI_SCHEME: &str = "staunch-node:";

/// The first bytes of a TLS record that carries a handshake (RFC 8446, section 5.1).
pub(crate) const RECORD_HANDSHAKE: [u8; 2] = [0x16, 0x03];

/// Where a node's certificate, its key and the authority's certificate are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The node's certificate and those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority's certificate.
    pub authority: PathBuf,
}

/// Why there is no identity in these files.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum IdentityError {
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
    #[error("{}: names no node: make one with `staunch certs node`", path.display())]
    Nameless { path: PathBuf },
    #[error("{}: {}", path.display(), certificate_problem(error))]
    Untrusted { path: PathBuf, error: rustls::Error },
    #[error("certificate {} and key {} are refused: {error}", certificate.display(), key.display())]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        error: rustls::Error,
    },
    #[error("TLS 1.3 cannot be set up: {0}")]
    Setup(String),
}

/// Who a node is, and how it recognises the others.
#[derive(Clone)]
pub struct Identity {
    name: Name,
    expires_at: UnixTime,
    dialler: Arc<ClientConfig>,
    acceptor: Arc<ServerConfig>,
    /// For nodes that have no certificate yet; its chain includes the authority.
    joins: Arc<ServerConfig>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.name)
    }
}

impl Identity {
    /// Reads and checks the three files.
    ///
    /// # Errors
    /// When one is missing or damaged, when they do not fit together, when the certificate is
    /// outside its time or names no node.
    pub fn load(files: &IdentityFiles) -> Result<Self, IdentityError> {
        let chain = certificates(&files.certificate)?;
        let authorities = certificates(&files.authority)?;
        let roots = Arc::new(
            trust(&authorities).map_err(|error| IdentityError::Authority {
                path: files.authority.clone(),
                error,
            })?,
        );
        let certificate = &chain[0];
        verify(certificate, &chain[1..], &roots).map_err(|error| IdentityError::Untrusted {
            path: files.certificate.clone(),
            error,
        })?;
        let facts = facts(certificate).ok_or_else(|| IdentityError::Nameless {
            path: files.certificate.clone(),
        })?;
        let key = private_key(&files.key)?;
        let pair = |error| match error {
            SetupError::Pair(error) => IdentityError::Pair {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
                error,
            },
            SetupError::Other(error) => IdentityError::Setup(error),
        };
        let with_authority = [&chain[..], &authorities[..]].concat();
        Ok(Self {
            name: facts.name,
            expires_at: facts.expires_at,
            dialler: Arc::new(dialler(chain.clone(), &key, &roots).map_err(pair)?),
            acceptor: Arc::new(acceptor(chain, &key, roots).map_err(pair)?),
            joins: Arc::new(joins(with_authority, &key).map_err(pair)?),
        })
    }

    /// The node's name in its certificate.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// When the certificate ends.
    pub fn expires_at(&self) -> UnixTime {
        self.expires_at
    }

    pub(crate) fn dialler(&self) -> Arc<ClientConfig> {
        self.dialler.clone()
    }

    pub(crate) fn acceptor(&self) -> Arc<ServerConfig> {
        self.acceptor.clone()
    }

    pub(crate) fn joins(&self) -> Arc<ServerConfig> {
        self.joins.clone()
    }
}

/// What a node's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) name: Name,
    pub(crate) expires_at: UnixTime,
}

/// Reads the name of the node out of its certificate, which has been verified. None if there is
/// not exactly one.
pub(crate) fn facts(certificate: &CertificateDer<'_>) -> Option<Facts> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let node_name = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => uri.strip_prefix(NODE_URI_SCHEME).map(str::to_owned),
        _ => None,
    };
    let mut names = names.value.general_names.iter().filter_map(node_name);
    let (Some(name), None) = (names.next(), names.next()) else {
        return None;
    };
    let expires_at = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    Some(Facts {
        name: Name::new(name.as_bytes()).ok().filter(|n| !n.is_empty())?,
        expires_at: UnixTime::since_unix_epoch(std::time::Duration::from_secs(expires_at)),
    })
}

/// Checks signatures, times and purpose now.
pub(crate) fn verify(
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
) -> Result<(), rustls::Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    let algorithms = algorithms().all;
    verify_server_cert_signed_by_trust_anchor(
        &parsed,
        roots,
        intermediates,
        UnixTime::now(),
        algorithms,
    )
}

/// Those who vouch for others.
pub(crate) fn trust(
    authorities: &[CertificateDer<'static>],
) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots.add(certificate.clone())?;
    }
    Ok(roots)
}

/// The error of a TLS handshake in words that help.
pub(crate) fn describe_handshake(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => {
            "the peer closed the connection during the TLS handshake: does it want TLS?".to_owned()
        }
        _ => describe(error),
    }
}

/// An error of a stream, which may be one of TLS: alerts arrive when something is read.
pub(crate) fn describe(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|e| e.downcast_ref());
    tls.map_or_else(|| error.to_string(), certificate_problem)
}

fn certificate_problem(error: &rustls::Error) -> String {
    let text = match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the certificate is not valid yet: are the clocks right?"
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the certificate was not issued by this cluster's authority"
            }
            _ => return format!("the certificate is refused: {error}"),
        },
        rustls::Error::NoCertificatesPresented => "the peer shows no certificate",
        rustls::Error::InvalidMessage(_) => "the peer does not speak TLS",
        rustls::Error::AlertReceived(alert) => match alert {
            Alert::CertificateExpired => "the peer says that our certificate has expired",
            Alert::UnknownCA | Alert::DecryptError | Alert::BadCertificate => {
                "the peer says that our certificate was not issued by its cluster's authority"
            }
            Alert::CertificateRequired => "the peer wants a certificate",
            Alert::NoApplicationProtocol => "the peer does not do that",
            _ => return error.to_string(),
        },
        _ => return error.to_string(),
    };
    text.to_owned()
}

enum SetupError {
    Pair(rustls::Error),
    Other(String),
}

impl SetupError {
    fn other(error: impl fmt::Display) -> Self {
        Self::Other(error.to_string())
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

pub(crate) fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms
}

fn dialler(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
    roots: &Arc<RootCertStore>,
) -> Result<ClientConfig, SetupError> {
    let verifier = NodeVerifier {
        roots: roots.clone(),
        algorithms: algorithms(),
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(SetupError::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key.clone_key())
        .map_err(SetupError::Pair)?;
    config.alpn_protocols = vec![PROTOCOL_PEER.to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn acceptor(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
) -> Result<ServerConfig, SetupError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(SetupError::other)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(SetupError::other)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key.clone_key())
        .map_err(SetupError::Pair)?;
    config.alpn_protocols = vec![PROTOCOL_PEER.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn joins(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> Result<ServerConfig, SetupError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(SetupError::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key.clone_key())
        .map_err(SetupError::Pair)?;
    config.alpn_protocols = vec![PROTOCOL_JOIN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Accepts what the cluster's authority has issued, whatever the host is called: the name of the
/// node is looked at right after the handshake.
#[derive(Debug)]
struct NodeVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
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
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| IdentityError::Pem {
        path: path.to_owned(),
        error,
    })?;
    if found.is_empty() {
        return Err(IdentityError::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let pem = read(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        pem::Error::NoItemsFound => IdentityError::NoKey {
            path: path.to_owned(),
        },
        error => IdentityError::Pem {
            path: path.to_owned(),
            error,
        },
    })
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    std::fs::read(path).map_err(|error| IdentityError::Read {
        path: path.to_owned(),
        error,
    })
}
