//! The cluster's own certificate authority: a directory on one machine.
//!
//! ```text
//! ca.crt           the authority's certificate: every node has a copy
//! ca.key           its key, mode 0600: never leaves this directory
//! nodes/NAME/      what node NAME needs: ca.crt, node.crt, node.key (of a node that has joined by
//!                  token, node.crt alone: its key never left it)
//! tokens/ID        a join token that has been used, until it would have expired
//! ```
//!
//! Nothing is ever overwritten. A name that has a certificate gets no second one: whoever holds
//! either would be that node. To give a node a new certificate, move its directory away first.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use staunch_types::Name;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::{IdentityFiles, tls::NODE_URI_SCHEME};

/// SHA-256 of a certificate.
pub type Fingerprint = [u8; 32];

/// How long an authority lasts.
pub const AUTHORITY_VALID: Duration = Duration::from_hours(20 * 365 * 24);
/// How long a node's certificate lasts unless said otherwise.
pub const NODE_VALID: Duration = Duration::from_hours(2 * 365 * 24);
/// Longest name of a node or cluster here, in bytes.
pub const CERTIFIED_NAME_SIZE_BYTES_MAX: usize = 200;
/// Most addresses in one certificate.
pub const ADDRESSES_MAX: usize = 16;

/// Certificates begin so much earlier, for machines whose clocks are behind.
const CLOCK_SKEW: Duration = Duration::from_hours(1);

const AUTHORITY_CERTIFICATE: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
const NODE_CERTIFICATE: &str = "node.crt";
const NODE_KEY: &str = "node.key";
const NODES: &str = "nodes";
const TOKENS: &str = "tokens";

/// An authority whose directory is open.
pub struct Authority {
    directory: PathBuf,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Why the authority does not do it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum AuthorityError {
    #[error("{}: exists already and is not overwritten", .0.display())]
    Exists(PathBuf),
    #[error("{}: no authority is there: make one with `staunch certs init`", .0.display())]
    Missing(PathBuf),
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: is no authority: {error}", path.display())]
    Damaged { path: PathBuf, error: String },
    #[error(
        "{0:?} is no name: up to {CERTIFIED_NAME_SIZE_BYTES_MAX} letters, digits, '@', '.', '_', '-', \
         the first a letter or digit"
    )]
    Name(String),
    #[error("{0:?} is neither a host name nor an IP address")]
    Address(String),
    #[error("more than {ADDRESSES_MAX} addresses")]
    ManyAddresses,
    #[error("node {0:?} has a certificate already")]
    NameTaken(String),
    #[error("the token has been used already")]
    TokenSpent,
    #[error("the certificate request is refused: {0}")]
    Request(rcgen::Error),
    #[error("no certificate can be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// What goes into a node's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRequest {
    /// Its name, as in the list of seeds.
    pub name: String,
    /// Host names and IP addresses, for tools that look at them; nodes do not.
    pub addresses: Vec<String>,
    /// How long it lasts.
    pub valid: Duration,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.directory.display())
    }
}

impl Authority {
    /// Makes a new authority in `directory`, which may exist but must hold none.
    ///
    /// # Errors
    /// If there is one already, or the directory cannot be written.
    pub fn create(directory: &Path, cluster: &str) -> Result<Self, AuthorityError> {
        check_name(cluster)?;
        let (certificate, key) = (
            directory.join(AUTHORITY_CERTIFICATE),
            directory.join(AUTHORITY_KEY),
        );
        must_not_exist([&certificate, &key])?;
        let key_pair = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(cluster, "Staunch cluster authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        lasts(&mut params, AUTHORITY_VALID);
        let made = params.self_signed(&key_pair)?;
        make_directory(directory)?;
        write_new(&key, key_pair.serialize_pem().as_bytes(), Mode::Secret)?;
        write_new(&certificate, made.pem().as_bytes(), Mode::Public)?;
        sync_directory(directory)?;
        Self::open(directory)
    }

    /// Opens the authority in `directory`.
    ///
    /// # Errors
    /// If there is none, or what is there does not fit together.
    pub fn open(directory: &Path) -> Result<Self, AuthorityError> {
        let path = directory.join(AUTHORITY_CERTIFICATE);
        let certificate_pem = read(&path)?;
        let damaged = |error: String| AuthorityError::Damaged {
            path: path.clone(),
            error,
        };
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| damaged(error.to_string()))?;
        let key_path = directory.join(AUTHORITY_KEY);
        let key =
            KeyPair::from_pem(&read(&key_path)?).map_err(|error| AuthorityError::Damaged {
                path: key_path,
                error: error.to_string(),
            })?;
        let public_key = X509Certificate::from_der(&certificate)
            .map_err(|error| damaged(error.to_string()))?
            .1
            .public_key()
            .raw
            .to_vec();
        if public_key != key.subject_public_key_info() {
            return Err(damaged(format!("{AUTHORITY_KEY} is not its key")));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| damaged(error.to_string()))?;
        Ok(Self {
            directory: directory.to_owned(),
            certificate,
            certificate_pem,
            issuer,
        })
    }

    /// What a token binds those to who join.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.certificate)
    }

    /// The authority's certificate in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Makes a key and a certificate for a node, and writes what it needs to a directory, which is
    /// returned: `nodes/NAME` here, unless another is given.
    ///
    /// # Errors
    /// If the node has a certificate already, or something cannot be written.
    pub fn issue(
        &self,
        request: &NodeRequest,
        directory: Option<&Path>,
    ) -> Result<PathBuf, AuthorityError> {
        let params = params(request)?;
        let own = self.node_directory(&request.name);
        if own.join(NODE_CERTIFICATE).exists() {
            return Err(AuthorityError::NameTaken(request.name.clone()));
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let directory = directory.unwrap_or(&own);
        write_identity(
            directory,
            &certificate,
            &self.certificate_pem,
            &key.serialize_pem(),
        )?;
        if directory != own {
            self.note_certificate(&request.name, &certificate)?;
        }
        Ok(directory.to_owned())
    }

    /// Signs for a node that has made its own key. `id` and `expires_at` are those of the token by
    /// which it joins, which is of no use afterwards.
    ///
    /// # Errors
    /// If the token has been used or the node has a certificate already.
    pub(crate) fn admit(
        &self,
        request: &NodeRequest,
        signing_request: &[u8],
        id: &[u8],
        expires_at: SystemTime,
    ) -> Result<String, AuthorityError> {
        let params = params(request)?;
        let signing_request = CertificateSigningRequestDer::from(signing_request);
        let theirs = CertificateSigningRequestParams::from_der(&signing_request)
            .map_err(AuthorityError::Request)?;
        if self.node_directory(&request.name).exists() {
            return Err(AuthorityError::NameTaken(request.name.clone()));
        }
        self.spend(id, expires_at)?;
        let certificate = params.signed_by(&theirs.public_key, &self.issuer)?.pem();
        self.note_certificate(&request.name, &certificate)?;
        Ok(certificate)
    }

    pub(crate) fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    fn node_directory(&self, name: &str) -> PathBuf {
        self.directory.join(NODES).join(name)
    }

    /// Keeps a certificate whose key is elsewhere.
    fn note_certificate(&self, name: &str, certificate: &str) -> Result<(), AuthorityError> {
        let directory = self.node_directory(name);
        make_directory(&directory)?;
        let path = directory.join(NODE_CERTIFICATE);
        write_new(&path, certificate.as_bytes(), Mode::Public)?;
        sync_directory(&directory)
    }

    /// Marks a token as used; of two at the same time, one succeeds.
    fn spend(&self, id: &[u8], expires_at: SystemTime) -> Result<(), AuthorityError> {
        let directory = self.directory.join(TOKENS);
        make_directory(&directory)?;
        forget_expired(&directory)?;
        let expires_at = unix_seconds(expires_at);
        let path = directory.join(hexadecimal(id));
        match write_new(&path, expires_at.to_string().as_bytes(), Mode::Secret) {
            Err(AuthorityError::Exists(_)) => Err(AuthorityError::TokenSpent),
            Err(error) => Err(error),
            Ok(()) => sync_directory(&directory),
        }
    }
}

/// Where [`write_identity`] puts things.
pub fn identity_files(directory: &Path) -> IdentityFiles {
    IdentityFiles {
        certificate: directory.join(NODE_CERTIFICATE),
        key: directory.join(NODE_KEY),
        authority: directory.join(AUTHORITY_CERTIFICATE),
    }
}

/// That [`write_identity`] would overwrite nothing.
///
/// # Errors
/// [`AuthorityError::Exists`].
pub fn check_identity_absent(directory: &Path) -> Result<(), AuthorityError> {
    let files = identity_files(directory);
    must_not_exist([&files.certificate, &files.key, &files.authority])
}

/// Writes what a node needs, all in PEM, to `directory`, which is made if it is not there.
///
/// # Errors
/// If one of the files exists or cannot be written.
pub fn write_identity(
    directory: &Path,
    certificate: &str,
    authority: &str,
    key: &str,
) -> Result<(), AuthorityError> {
    check_identity_absent(directory)?;
    make_directory(directory)?;
    let files = identity_files(directory);
    write_new(&files.key, key.as_bytes(), Mode::Secret)?;
    write_new(&files.authority, authority.as_bytes(), Mode::Public)?;
    write_new(&files.certificate, certificate.as_bytes(), Mode::Public)?;
    sync_directory(directory)
}

/// A name that can stand in a certificate and a path.
///
/// # Errors
/// [`AuthorityError::Name`].
pub fn check_name(name: &str) -> Result<Name, AuthorityError> {
    let wrong = || AuthorityError::Name(name.to_owned());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@._-".contains(c);
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let is_short = name.len() <= CERTIFIED_NAME_SIZE_BYTES_MAX;
    if !begins_well || !is_short || !name.chars().all(is_plain) {
        return Err(wrong());
    }
    Name::new(name.as_bytes()).map_err(|_| wrong())
}

pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Sha256::digest(certificate).into()
}

/// Seconds since 1970; 0 for times before.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn params(request: &NodeRequest) -> Result<CertificateParams, AuthorityError> {
    check_name(&request.name)?;
    if request.addresses.len() > ADDRESSES_MAX {
        return Err(AuthorityError::ManyAddresses);
    }
    if let Some(wrong) = request.addresses.iter().find(|a| !is_address(a)) {
        return Err(AuthorityError::Address(wrong.clone()));
    }
    let mut params = CertificateParams::new(request.addresses.clone())?;
    let uri = format!("{NODE_URI_SCHEME}{}", request.name);
    params.subject_alt_names.push(SanType::URI(uri.try_into()?));
    params.distinguished_name = subject(&request.name, "Staunch node");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    lasts(&mut params, request.valid);
    Ok(params)
}

fn is_address(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let is_host = !text.is_empty() && text.len() <= 253 && text.chars().all(is_plain);
    is_host || text.parse::<std::net::IpAddr>().is_ok()
}

fn subject(common_name: &str, organization: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, organization);
    subject.push(DnType::CommonName, common_name);
    subject
}

fn lasts(params: &mut CertificateParams, valid: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + valid).into();
}

/// Who may read a file.
#[derive(Clone, Copy)]
enum Mode {
    Secret,
    Public,
}

fn write_new(path: &Path, bytes: &[u8], mode: Mode) -> Result<(), AuthorityError> {
    let mode = match mode {
        Mode::Secret => 0o600,
        Mode::Public => 0o644,
    };
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => AuthorityError::Exists(path.to_owned()),
        _ => failed(path)(error),
    })
}

fn read(path: &Path) -> Result<String, AuthorityError> {
    fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => AuthorityError::Missing(path.to_owned()),
        _ => failed(path)(error),
    })
}

fn must_not_exist<const N: usize>(paths: [&PathBuf; N]) -> Result<(), AuthorityError> {
    match paths.into_iter().find(|path| path.exists()) {
        Some(path) => Err(AuthorityError::Exists(path.clone())),
        None => Ok(()),
    }
}

fn make_directory(path: &Path) -> Result<(), AuthorityError> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(failed(path))
}

fn sync_directory(path: &Path) -> Result<(), AuthorityError> {
    let synced = fs::File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(failed(path))
}

/// Removes the marks of tokens that nobody could use any more.
fn forget_expired(directory: &Path) -> Result<(), AuthorityError> {
    let now = unix_seconds(SystemTime::now());
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        let expires_at = read(&path)?.trim().parse::<u64>();
        if expires_at.is_ok_and(|expires_at| expires_at < now) {
            fs::remove_file(&path).map_err(failed(&path))?;
        }
    }
    Ok(())
}

fn failed(path: &Path) -> impl Fn(io::Error) -> AuthorityError + '_ {
    |error| AuthorityError::Io {
        path: path.to_owned(),
        error,
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    let digits = |byte: &u8| [digit(byte >> 4), digit(byte & 0xf)];
    bytes.iter().flat_map(digits).collect()
}
