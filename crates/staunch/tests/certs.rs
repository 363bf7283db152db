//! `staunch certs` from outside, and the server that wants its certificates.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use staunch_peer::{
    Authority, Identity, PeerEvent, PeerLimits, Peers, PeersConfig, PlaintextScope, Security,
    authority::identity_files,
};
use staunch_types::Name;
use tokio::{net::TcpListener, sync::mpsc};

fn staunch(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_staunch"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[track_caller]
fn good(arguments: &[&str]) -> String {
    let output = staunch(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with the exit code of a command and says why.
#[track_caller]
fn bad(arguments: &[&str], expected: &str) {
    let output = staunch(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains(expected), "{errors}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_authority_issues_certificates_and_overwrites_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca");
    good(&["certs", "init", text(&ca), "--cluster", "prod"]);
    assert_eq!(mode(&ca), 0o700);
    assert_eq!(mode(&ca.join("ca.key")), 0o600);
    let key = fs::read(ca.join("ca.key")).unwrap();
    bad(
        &["certs", "init", text(&ca)],
        "exists already and is not overwritten",
    );
    assert_eq!(fs::read(ca.join("ca.key")).unwrap(), key);

    let node = ["certs", "node", text(&ca), "--name", "n1@host_1"];
    good(&[&node[..], &["--address", "host1", "192.0.2.7"]].concat());
    let own = ca.join("nodes/n1@host_1");
    assert_eq!(mode(&own.join("node.key")), 0o600);
    let identity = Identity::load(&identity_files(&own)).unwrap();
    assert_eq!(identity.name().as_bytes(), b"n1@host_1");
    bad(&node, "has a certificate already");

    let out = directory.path().join("elsewhere");
    let elsewhere = ["--name", "n2", "--out", text(&out), "--valid", "30d"];
    good(&[&["certs", "node", text(&ca)], &elsewhere[..]].concat());
    Identity::load(&identity_files(&out)).unwrap();
    bad(
        &["certs", "node", text(&ca), "--name", "n2"],
        "has a certificate already",
    );
    let taken = [
        "certs",
        "node",
        text(&ca),
        "--name",
        "n3",
        "--out",
        text(&out),
    ];
    bad(&taken, "exists already and is not overwritten");
    bad(
        &["certs", "node", text(&ca), "--name", "../n4"],
        "is no name",
    );
    bad(
        &["certs", "node", text(directory.path()), "--name", "n4"],
        "staunch certs init",
    );
    let address = [
        "certs",
        "node",
        text(&ca),
        "--name",
        "n4",
        "--address",
        "a b",
    ];
    bad(&address, "neither a host name nor an IP address");
}

#[test]
fn openssl_agrees() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: there is no openssl");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path();
    good(&["certs", "init", text(ca)]);
    good(&[
        "certs",
        "node",
        text(ca),
        "--name",
        "n1",
        "--address",
        "host1",
        "192.0.2.7",
    ]);
    let own = ca.join("nodes/n1");
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        let (out, errors) = (output.stdout, output.stderr);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&errors)
        );
        String::from_utf8(out).unwrap()
    };
    let (authority, certificate, key) = (
        own.join("ca.crt"),
        own.join("node.crt"),
        own.join("node.key"),
    );
    for purpose in ["sslserver", "sslclient"] {
        openssl(&[
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-CAfile",
            text(&authority),
            text(&certificate),
        ]);
    }
    openssl(&[
        "verify",
        "-verify_hostname",
        "host1",
        "-CAfile",
        text(&authority),
        text(&certificate),
    ]);
    let names = openssl(&[
        "x509",
        "-in",
        text(&certificate),
        "-noout",
        "-ext",
        "subjectAltName",
    ]);
    for name in ["URI:staunch-node:n1", "DNS:host1", "IP Address:192.0.2.7"] {
        assert!(names.contains(name), "{names}");
    }
    let of_certificate = openssl(&["x509", "-in", text(&certificate), "-noout", "-pubkey"]);
    assert_eq!(
        openssl(&["pkey", "-in", text(&key), "-pubout"]),
        of_certificate
    );
}

/// A node with links and nothing else, which lets others join.
fn host(runtime: &tokio::runtime::Runtime, ca: &Path) -> (Peers<mpsc::Sender<PeerEvent>>, String) {
    let identity = Identity::load(&identity_files(&ca.join("nodes/n1"))).unwrap();
    let config = PeersConfig {
        cluster: Name::from_static("staunch"),
        name: Name::from_static("n1"),
        incarnation: 1,
        features: 0,
        members: Vec::new(),
        introduces: false,
        security: Security::Tls(identity),
        plaintext: PlaintextScope::Loopback,
        authority: Some(Arc::new(Authority::open(ca).unwrap())),
        limits: PeerLimits::default(),
        questions: None,
        seed: 1,
    };
    let (inbox, _events) = mpsc::channel(1);
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (
            Peers::start(config, vec![listener], inbox).unwrap(),
            address,
        )
    })
}

#[test]
fn a_node_joins_with_a_token_once() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca");
    good(&["certs", "init", text(&ca)]);
    good(&["certs", "node", text(&ca), "--name", "n1"]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (_peers, address) = host(&runtime, &ca);
    let token = good(&["certs", "token", text(&ca), "--valid", "10m"]);
    let token = token.trim();
    assert!(token.starts_with("stj_"), "{token}");
    let (data, other) = (directory.path().join("two"), directory.path().join("three"));
    let join = |name, data_dir: &Path| {
        let data_dir = data_dir.to_owned();
        let arguments = [
            "certs",
            "join",
            "--token",
            token,
            "--peer",
            &address,
            "--name",
            name,
            "--data-dir",
        ];
        let arguments: Vec<_> = arguments.iter().map(|a| (*a).to_owned()).collect();
        (arguments, data_dir)
    };
    let run = |(arguments, data_dir): (Vec<String>, std::path::PathBuf)| {
        let mut arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        arguments.push(text(&data_dir));
        staunch(&arguments)
    };
    let joined = run(join("n2", &data));
    assert!(
        joined.status.success(),
        "{}",
        String::from_utf8_lossy(&joined.stderr)
    );
    let own = data.join("peer-tls");
    assert_eq!(mode(&own.join("node.key")), 0o600);
    assert_eq!(
        Identity::load(&identity_files(&own))
            .unwrap()
            .name()
            .as_bytes(),
        b"n2"
    );
    for (name, data, expected) in [
        ("n2", &data, "exists already and is not overwritten"),
        ("n3", &other, "the token has been used already"),
    ] {
        let refused = run(join(name, data));
        let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1));
        assert!(errors.contains(expected), "{errors}");
    }
    assert!(!other.exists());
}

#[test]
fn a_member_whose_peer_port_would_be_open_to_anybody_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let output = staunch(&[
        "server",
        "--data-dir",
        text(&directory.path().join("data")),
        "--node-name",
        "n1",
        "--seed",
        "n1=127.0.0.1:1",
        "--seed",
        "n2=127.0.0.1:2",
        "--peer",
        "0.0.0.0:0",
    ]);
    assert_eq!(output.status.code(), Some(78));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("make certificates with"), "{errors}");
}
