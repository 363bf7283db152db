//! Those who do not belong together are kept apart, and told why.

use std::{fs, net::SocketAddr, time::Duration};

use staunch_peer::{
    Identity, IdentityError, Member, Peers, PlaintextScope, Security, StartError,
    authority::{NODE_VALID, NodeRequest, identity_files},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};

use crate::node::{Node, Plan, authority, identity, issue, name};

/// Starts `n1`, which dials, and another; the first has to hear `trouble`, and neither sees the
/// other up.
async fn check_apart(one: Plan, two: Plan, trouble: &str) {
    let (first, second) = (one.address(), two.address());
    let two = two.knows("n1", first).start();
    let one = one.knows("n2", second).start();
    one.trouble("n2", trouble).await;
    nothing_happened(one);
    nothing_happened(two);
}

fn nothing_happened(mut node: Node) {
    let event = node.events.try_recv();
    assert!(event.is_err(), "{event:?}");
}

#[tokio::test]
async fn the_certificate_of_another_authority_is_refused_on_either_side() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = Plan::new("n1", identity(ours.path(), "n1")).await;
    let two = Plan::new("n2", identity(theirs.path(), "n2")).await;
    check_apart(one, two, "was not issued by this cluster's authority").await;
    // One that trusts both and is trusted by one: only the acceptor can refuse.
    let mut files = issue(ours.path(), "n7");
    let both = ours.path().join("both.crt");
    let pems =
        [ours.path(), theirs.path()].map(|path| authority(path).certificate_pem().to_owned());
    fs::write(&both, pems.concat()).unwrap();
    files.authority = both;
    let mut one = Plan::new("n7", Security::Tls(Identity::load(&files).unwrap())).await;
    one.config.name = name("n7");
    let two = Plan::new("n8", identity(theirs.path(), "n8")).await;
    let (first, second) = (one.address(), two.address());
    let two = two.knows("n7", first).start();
    let one = one.knows("n8", second).start();
    one.trouble(
        "n8",
        "our certificate was not issued by its cluster's authority",
    )
    .await;
    nothing_happened(one);
    nothing_happened(two);
}

#[tokio::test]
async fn the_certificate_of_another_node_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    // It is n3 that listens where n2 should be.
    let one = Plan::new("n1", identity(directory.path(), "n1")).await;
    let three = Plan::new("n3", identity(directory.path(), "n3")).await;
    check_apart(one, three, "\"n3\" was reached instead of \"n2\"").await;
    let one = Plan::new("n1", Security::Plaintext).await;
    let three = Plan::new("n3", Security::Plaintext).await;
    check_apart(one, three, "\"n3\" was reached instead of \"n2\"").await;
    // A node cannot be started with it either.
    let mut plan = Plan::new("n4", identity(directory.path(), "n5")).await;
    plan.config.name = name("n4");
    let (inbox, _events) = mpsc::channel(1);
    let refused = Peers::start(plan.config, Vec::new(), inbox).err();
    let expected = StartError::NotOurCertificate {
        certificate: name("n5"),
        node: name("n4"),
    };
    assert_eq!(refused, Some(expected));
}

#[tokio::test]
async fn a_certificate_that_names_no_node_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let files = issue(directory.path(), "n1");
    let key = rcgen::KeyPair::generate().unwrap();
    let ca_key = fs::read_to_string(directory.path().join("ca.key")).unwrap();
    let ca = authority(directory.path());
    let ca_key = rcgen::KeyPair::from_pem(&ca_key).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(ca.certificate_pem(), ca_key).unwrap();
    let client = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
    let client = client.signed_by(&key, &issuer).unwrap();
    fs::write(&files.certificate, client.pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    let refused = Identity::load(&files).unwrap_err();
    assert!(
        matches!(refused, IdentityError::Nameless { .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("staunch certs node"));
}

#[tokio::test]
async fn plaintext_and_tls_do_not_mix() {
    let directory = tempfile::tempdir().unwrap();
    let one = Plan::new("n1", Security::Plaintext).await;
    let two = Plan::new("n2", identity(directory.path(), "n2")).await;
    check_apart(one, two, "it does not speak TLS, which this node wants").await;
    let one = Plan::new("n1", identity(directory.path(), "n1")).await;
    let two = Plan::new("n2", Security::Plaintext).await;
    check_apart(one, two, "TLS handshake").await;
}

#[tokio::test]
async fn expired_certificates_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let ca = authority(directory.path());
    let request = |text: &str, valid| NodeRequest {
        name: text.to_owned(),
        addresses: Vec::new(),
        valid,
    };
    // Certificates count whole seconds, so this one ends within the next.
    let short = ca
        .issue(&request("n1", Duration::from_secs(1)), None)
        .unwrap();
    let long = ca.issue(&request("n2", NODE_VALID), None).unwrap();
    let load = |path: &std::path::Path| Identity::load(&identity_files(path));
    let identity = load(&short).expect("it is good for a moment");
    crate::node::until("it has expired", || load(&short).is_err()).await;
    let refused = load(&short).unwrap_err();
    assert!(
        refused.to_string().contains("the certificate has expired"),
        "{refused}"
    );
    // A node that was started in time does not get in afterwards.
    let one = Plan::new("n1", Security::Tls(identity)).await;
    let two = Plan::new("n2", Security::Tls(load(&long).unwrap())).await;
    check_apart(one, two, "our certificate has expired").await;
}

#[tokio::test]
async fn a_new_certificate_is_taken_while_running() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = Plan::new("n1", identity(old.path(), "n1")).await;
    let two = Plan::new("n2", identity(new.path(), "n2")).await;
    let (first, second) = (one.address(), two.address());
    let mut two = two.knows("n1", first).start();
    let mut one = one.knows("n2", second).start();
    one.trouble("n2", "was not issued by this cluster's authority")
        .await;
    let wrong = Identity::load(&issue(new.path(), "n9")).unwrap();
    assert!(one.peers.set_identity(wrong).is_err());
    let right = Identity::load(&issue(new.path(), "n1")).unwrap();
    one.peers.set_identity(right).unwrap();
    one.up().await;
    two.up().await;
}

#[tokio::test]
async fn another_cluster_is_refused() {
    let one = Plan::new("n1", Security::Plaintext).await;
    let mut two = Plan::new("n2", Security::Plaintext).await;
    two.config.cluster = name("d");
    check_apart(
        one,
        two,
        "the peer refuses: it belongs to the cluster \"c\", this node to \"d\"",
    )
    .await;
}

#[tokio::test]
async fn a_node_that_dials_itself_or_its_double_is_told_so() {
    // Where n2 should be it is n1 that listens, itself or another of that name.
    let one = Plan::new("n1", Security::Plaintext).await;
    let address = one.address();
    let one = one.knows("n2", address).start();
    one.trouble("n2", "it is called \"n1\" as this node is")
        .await;
    nothing_happened(one);
}

#[tokio::test]
async fn who_has_to_be_dialled_must_not_dial() {
    let two = Plan::new("n2", Security::Plaintext).await;
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let two = two.knows("n3", nobody).start();
    // A node of a version that has another order.
    let hello = b"\x25\0\0\0\x01";
    let payload = [&b"STPL\x01\0\x01\0"[..], &[0; 16], b"\x01c\x02n3\x02n2"].concat();
    let size = u8::try_from(payload.len()).unwrap();
    let mut bytes = hello.to_vec();
    bytes[0] = size;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), &payload);
    bytes.extend(crc.to_le_bytes());
    bytes.extend(payload);
    let mut socket = tokio::net::TcpStream::connect(two.address).await.unwrap();
    let mut answer = Vec::new();
    socket.write_all(&bytes).await.unwrap();
    socket.read_to_end(&mut answer).await.unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(text.contains("\"n3\" has to be dialled"), "{text}");
    nothing_happened(two);
}

#[tokio::test]
async fn a_port_without_protection_is_not_opened_to_the_network() {
    let start = |members: Vec<Member>, listener: TcpListener, plaintext| async move {
        let mut config = Plan::new("n1", Security::Plaintext).await.config;
        config.members = members;
        config.plaintext = plaintext;
        let (inbox, _events) = mpsc::channel(1);
        Peers::start(config, vec![listener], inbox).err()
    };
    let bind = |address: &'static str| async move { TcpListener::bind(address).await.unwrap() };
    let far = Member {
        name: name("n2"),
        address: "192.0.2.1:25672".to_owned(),
    };
    for (members, address) in [
        (vec![far.clone()], "127.0.0.1:0"),
        (Vec::new(), "0.0.0.0:0"),
    ] {
        let refused = start(members, bind(address).await, PlaintextScope::Loopback).await;
        let refused = refused.expect("it is not protected").to_string();
        assert!(refused.contains("staunch certs"), "{refused}");
    }
    let allowed = start(vec![far], bind("0.0.0.0:0").await, PlaintextScope::Anywhere).await;
    assert_eq!(allowed, None);
}
