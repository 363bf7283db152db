//! TLS: logins by certificate, new certificates, and clients at the wrong door.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
    version::TLS12,
};

use crate::{
    node::{Node, connect, log, until},
    wire::{CLOSE, HEADER, OPEN_OK, TUNE, login, login_guest, open},
};

type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// An authority and what it has signed.
struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

struct Pair {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, common_name: &str) -> Pair {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair { certificate, key }
    }

    /// Connects as the node wants it, with a certificate of its own if one is given.
    fn connect(&self, address: SocketAddr, client: Option<&Pair>) -> Encrypted {
        self.connect_with(address, client, rustls::DEFAULT_VERSIONS)
    }

    fn connect_with(
        &self,
        address: SocketAddr,
        client: Option<&Pair>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Encrypted {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => config.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::try_from(pair.key.serialize_der()).unwrap();
                let chain = vec![pair.certificate.der().clone()];
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let name = "localhost".try_into().unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(session, connect(address))
    }
}

/// Writes the pair where [`flags`] point to.
fn install(directory: &Path, authority: &Authority, pair: &Pair) {
    fs::write(directory.join("ca.pem"), &authority.pem).unwrap();
    fs::write(directory.join("key.pem"), pair.key.serialize_pem()).unwrap();
    fs::write(directory.join("certificate.pem"), pair.certificate.pem()).unwrap();
}

fn start(directory: &Path, more: &[&str]) -> Node {
    let path = |name: &str| directory.join(name).display().to_string();
    let (certificate, key, ca) = (path("certificate.pem"), path("key.pem"), path("ca.pem"));
    let files = [
        "--tls-certificate",
        &certificate,
        "--tls-key",
        &key,
        "--tls-ca",
        &ca,
    ];
    Node::start(directory, &[&files, more].concat())
}

/// The certificate that a new connection is shown.
fn shown(authority: &Authority, node: &Node) -> CertificateDer<'static> {
    let mut stream = authority.connect(node.amqps, None);
    assert_eq!(login_guest(&mut stream).unwrap(), TUNE);
    stream.conn.peer_certificates().unwrap()[0].clone()
}

#[test]
fn a_certificate_names_the_user() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    install(directory.path(), &authority, &authority.sign("node"));
    let node = start(
        directory.path(),
        &[
            ("--tls-verify"),
            "peer",
            "--tls-login-from",
            "common_name",
            "--auth-mechanisms",
            "PLAIN,EXTERNAL",
        ],
    );
    for versions in [&[&TLS12][..], rustls::DEFAULT_VERSIONS] {
        let guest = authority.sign("guest");
        let mut stream = authority.connect_with(node.amqps, Some(&guest), versions);
        assert_eq!(login(&mut stream, "EXTERNAL", b"").unwrap(), TUNE);
        assert_eq!(open(&mut stream).unwrap(), OPEN_OK);
    }
    let mut stranger = authority.connect(node.amqps, Some(&authority.sign("nobody")));
    assert_eq!(login(&mut stranger, "EXTERNAL", b"").unwrap(), CLOSE);
    // A password is good without a certificate; a certificate of somebody else's is not.
    let mut plain = authority.connect(node.amqps, None);
    assert_eq!(login_guest(&mut plain).unwrap(), TUNE);
    let forged = Authority::new().sign("guest");
    let mut impostor = authority.connect(node.amqps, Some(&forged));
    assert!(login(&mut impostor, "EXTERNAL", b"").is_err());
}

#[test]
fn nobody_gets_in_without_a_certificate_where_one_is_required() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    install(directory.path(), &authority, &authority.sign("node"));
    let node = start(
        directory.path(),
        &["--tls-verify", "peer", "--tls-fail-if-no-peer-cert", "true"],
    );
    let mut stream = authority.connect(node.amqps, None);
    assert!(login_guest(&mut stream).is_err());
    let mut stream = authority.connect(node.amqps, Some(&authority.sign("guest")));
    assert_eq!(login_guest(&mut stream).unwrap(), TUNE);
}

#[test]
fn new_certificates_reach_new_connections_and_leave_old_ones_alone() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (first, second, third) = (
        authority.sign("1"),
        authority.sign("2"),
        authority.sign("3"),
    );
    install(directory.path(), &authority, &first);
    let node = start(directory.path(), &["--tls-reload-interval", "50ms"]);
    assert_eq!(shown(&authority, &node), *first.certificate.der());
    let mut old = authority.connect(node.amqps, None);
    assert_eq!(login_guest(&mut old).unwrap(), TUNE);

    install(directory.path(), &authority, &second);
    until("the second certificate is shown", || {
        shown(&authority, &node) == *second.certificate.der()
    });
    assert_eq!(open(&mut old).unwrap(), OPEN_OK);

    fs::write(directory.path().join("certificate.pem"), "no certificate").unwrap();
    until("the broken file is logged", || {
        log(directory.path()).contains("new certificates are refused")
    });
    assert_eq!(shown(&authority, &node), *second.certificate.der());

    install(directory.path(), &authority, &third);
    until("the third certificate is shown", || {
        shown(&authority, &node) == *third.certificate.der()
    });
}

#[test]
fn sighup_reads_certificates_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (first, second) = (authority.sign("1"), authority.sign("2"));
    install(directory.path(), &authority, &first);
    let node = start(directory.path(), &["--tls-reload-interval", "24h"]);
    assert_eq!(shown(&authority, &node), *first.certificate.der());
    install(directory.path(), &authority, &second);
    let killed = Command::new("kill")
        .args(["-HUP", &node.pid().to_string()])
        .status();
    assert!(killed.unwrap().success());
    until("the second certificate is shown", || {
        shown(&authority, &node) == *second.certificate.der()
    });
}

#[test]
fn clients_at_the_wrong_door_are_answered_and_logged() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    install(directory.path(), &authority, &authority.sign("node"));
    let node = start(directory.path(), &[]);
    let mut plain = connect(node.amqps);
    plain.write_all(HEADER).unwrap();
    let mut answer = Vec::new();
    drop(plain.read_to_end(&mut answer));
    assert!(answer.is_empty(), "{answer:?}");
    let mut encrypted = authority.connect(node.amqp, None);
    assert!(
        encrypted.write_all(HEADER).is_err(),
        "no TLS on the plain port"
    );
    until("both are logged", || {
        let log = log(directory.path());
        log.contains("does not speak TLS but AMQP without TLS")
            && log.contains("the client speaks TLS, this listener does not")
    });
}

#[test]
fn much_goes_through_tls_in_both_directions() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    install(directory.path(), &authority, &authority.sign("node"));
    let node = start(directory.path(), &[]);
    let mut stream = authority.connect(node.amqps, None);
    assert_eq!(login_guest(&mut stream).unwrap(), TUNE);
    assert_eq!(open(&mut stream).unwrap(), OPEN_OK);
    crate::wire::echo(&mut stream, 8 << 20);
}
