//! From the configuration to links with the other nodes.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use staunch_peer::{
    Authority, Identity, IdentityFiles, Inbox, Member, PeerLimits, Peers, PeersConfig,
    PlaintextScope, Question, Security, authority::identity_files,
};
use staunch_types::Name;
use tokio::{
    sync::{mpsc, watch},
    time,
};

use crate::{
    config::{Config, Listen},
    server::bind,
    tls::reload::Hangups,
};

/// Where a node's certificate is unless the configuration says otherwise, in the data directory.
pub const IDENTITY_DIRECTORY: &str = "peer-tls";

/// Certificates that end sooner are warned of.
const EXPIRY_WARNING: Duration = Duration::from_hours(30 * 24);

/// Opens the peer port and keeps this node connected with all seeds; `is_new`: the others may not
/// know of it. Must be called inside a tokio runtime.
///
/// # Errors
/// When certificates are missing or no good, when the port would be open to the network without
/// them, when it cannot be bound. All of it is the configuration's: exit code 78.
pub fn start_peers<I: Inbox>(
    config: &Config,
    (incarnation, is_new): (u64, bool),
    inbox: I,
    questions: Option<mpsc::Sender<Question>>,
) -> anyhow::Result<Peers<I>> {
    let name = |text: &str| Name::new(text.as_bytes()).context("a name is too long");
    let members = config.seed.0.iter().map(|(node, address)| {
        Ok(Member {
            name: name(node.as_str())?,
            address: address.to_string(),
        })
    });
    let open = |directory: &PathBuf| Authority::open(directory).map(Arc::new);
    let peers = PeersConfig {
        cluster: name(&config.cluster_name)?,
        name: name(config.node_name.as_str())?,
        incarnation,
        features: 0,
        members: members.collect::<anyhow::Result<_>>()?,
        introduces: is_new,
        security: security(config)?,
        plaintext: if config.insecure_peers {
            PlaintextScope::Anywhere
        } else {
            PlaintextScope::Loopback
        },
        authority: config.peer_authority.as_ref().map(open).transpose()?,
        limits: PeerLimits::default(),
        questions,
        seed: incarnation,
    };
    let listeners = bind(&Listen::At(config.peer.clone()), "peers")?;
    Ok(Peers::start(peers, listeners, inbox)?)
}

/// Keeps links with the nodes of the cluster as they come and go, beside those of the list of seeds,
/// until the process ends.
pub(crate) async fn keep_links<I: Inbox>(
    peers: Peers<I>,
    mut addresses: watch::Receiver<Vec<(Name, Name)>>,
    seeds: BTreeSet<String>,
) {
    let mut kept: BTreeSet<Name> = BTreeSet::new();
    loop {
        let known = addresses.borrow_and_update().clone();
        let names: BTreeSet<Name> = known.iter().map(|(name, _)| name.clone()).collect();
        for (name, address) in known {
            let address = address.to_string();
            if !address.is_empty() {
                peers.add(Member { name, address });
            }
        }
        for gone in kept.difference(&names) {
            if !seeds.contains(&gone.to_string()) {
                peers.remove(gone).await;
            }
        }
        kept = names;
        if addresses.changed().await.is_err() {
            return;
        }
    }
}

/// Where this node's certificate is, unless it has none.
pub(crate) fn identity_in_use(config: &Config) -> Option<IdentityFiles> {
    let given = || {
        Some(IdentityFiles {
            certificate: config.peer_certificate.clone()?,
            key: config.peer_key.clone()?,
            authority: config.peer_ca.clone()?,
        })
    };
    let beside_data = || {
        let files = identity_files(&config.data_dir.join(IDENTITY_DIRECTORY));
        files.certificate.exists().then_some(files)
    };
    if config.insecure_peers {
        return None;
    }
    given().or_else(beside_data)
}

fn security(config: &Config) -> anyhow::Result<Security> {
    let Some(files) = identity_in_use(config) else {
        return Ok(Security::Plaintext);
    };
    let identity = Identity::load(&files).context("certificate of this node")?;
    warn_of_end(&identity);
    Ok(Security::Tls(identity))
}

fn warn_of_end(identity: &Identity) {
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(identity.expires_at().as_secs());
    if let Ok(left) = end.duration_since(SystemTime::now())
        && left < EXPIRY_WARNING
    {
        tracing::warn!(
            event = "peer.certificate_ends",
            days = left.as_secs() / 86_400,
            "the certificate of this node ends soon: see `staunch certs node`"
        );
    }
}

/// Takes a new certificate when its files have changed, looked at every `interval` and at once on
/// SIGHUP, until the process ends. Links that are up stay up.
pub(crate) async fn watch_identity<I: Inbox>(
    peers: Peers<I>,
    files: IdentityFiles,
    interval: Duration,
    mut hangups: Hangups,
) {
    let mut in_force = read(&files);
    let mut ticker = time::interval(interval);
    ticker.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            biased;
            () = hangups.next() => true,
            _ = ticker.tick() => false,
        };
        let now = read(&files);
        if now == in_force && !asked {
            continue;
        }
        // Certificate and key are two files: between the two writes they do not fit, and the next
        // look finds them changed again.
        match take_identity(&peers, &files) {
            Ok(()) => tracing::info!(event = "peer.reloaded", "the certificate was read again"),
            Err(error) => tracing::error!(
                event = "peer.certificate_refused",
                error = format!("{error:#}"),
                "the new certificate is refused: the old one stays in force"
            ),
        }
        in_force = now;
    }
}

fn take_identity<I: Inbox>(peers: &Peers<I>, files: &IdentityFiles) -> anyhow::Result<()> {
    let identity = Identity::load(files)?;
    warn_of_end(&identity);
    Ok(peers.set_identity(identity)?)
}

/// What is in the files; nothing where one cannot be read.
fn read(files: &IdentityFiles) -> [Option<Vec<u8>>; 3] {
    [&files.certificate, &files.key, &files.authority].map(|path| std::fs::read(path).ok())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use staunch_peer::{
        PeerEvent,
        authority::{NODE_VALID, NodeRequest},
    };

    use super::*;
    use crate::config::{Address, Seeds, Sources, resolve};

    fn config(
        node: &str,
        data_dir: &Path,
        seeds: &[(&str, u16)],
        flags: &[(&'static str, &str)],
    ) -> Config {
        let own = [
            ("node_name", node),
            ("data_dir", data_dir.to_str().unwrap()),
            ("peer", "127.0.0.1:0"),
        ];
        let flags = [&own, flags].concat();
        let flags = flags.iter().map(|(key, text)| (*key, (*text).to_owned()));
        let sources = Sources {
            flags: flags.collect(),
            ..Sources::default()
        };
        let mut config = resolve(&sources).unwrap().config;
        let name = |node: &str| {
            let sources = Sources {
                flags: vec![("node_name", node.to_owned())],
                ..Sources::default()
            };
            resolve(&sources).unwrap().config.node_name
        };
        let seed = |(node, port): &(&str, u16)| {
            let address = Address {
                host: "127.0.0.1".to_owned(),
                port: *port,
            };
            (name(node), address)
        };
        config.seed = Seeds(seeds.iter().map(seed).collect());
        config
    }

    fn issue(authority: &Authority, node: &str, data_dir: &Path) {
        let request = NodeRequest {
            name: node.to_owned(),
            addresses: Vec::new(),
            valid: NODE_VALID,
        };
        let directory = data_dir.join(IDENTITY_DIRECTORY);
        authority.issue(&request, Some(&directory)).unwrap();
    }

    fn refusal(config: &Config) -> String {
        let (inbox, _events) = mpsc::channel(1);
        let refused = start_peers(config, (1, false), inbox, None)
            .err()
            .expect("it is refused");
        format!("{refused:#}")
    }

    #[tokio::test]
    async fn nodes_with_certificates_beside_their_data_meet() {
        let (ca, one, two) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        let authority = Authority::create(ca.path(), "c").unwrap();
        issue(&authority, "n1", one.path());
        issue(&authority, "n2", two.path());
        // A port that is free, or was a moment ago.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let seeds = [("n1", 1), ("n2", port)];
        let mut second = config("n2", two.path(), &seeds, &[]);
        second.peer.port = port;
        let (inbox, mut events) = mpsc::channel(1);
        let second = start_peers(&second, (2, false), inbox, None).unwrap();
        let (inbox, _events) = mpsc::channel(1);
        let first = start_peers(
            &config("n1", one.path(), &seeds, &[]),
            (1, false),
            inbox,
            None,
        )
        .unwrap();
        let up = events.recv().await.unwrap();
        assert!(matches!(up, PeerEvent::Up { incarnation: 1, .. }), "{up:?}");
        first.stop().await;
        second.stop().await;
    }

    #[tokio::test]
    async fn without_certificates_the_port_stays_on_this_machine() {
        let data = tempfile::tempdir().unwrap();
        let seeds = [("n1", 1), ("n2", 2)];
        let mut open = config("n1", data.path(), &seeds, &[]);
        open.peer.host = "0.0.0.0".to_owned();
        let refused = refusal(&open);
        assert!(refused.contains("staunch certs"), "{refused}");
        open.insecure_peers = true;
        let (inbox, _events) = mpsc::channel(1);
        let peers = start_peers(&open, (1, false), inbox, None).unwrap();
        peers.stop().await;
        let (inbox, _events) = mpsc::channel(1);
        let on_loopback = config("n1", data.path(), &seeds, &[]);
        start_peers(&on_loopback, (1, false), inbox, None)
            .unwrap()
            .stop()
            .await;
    }

    #[tokio::test]
    async fn a_certificate_that_is_no_good_is_refused_and_not_done_without() {
        let (ca, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let authority = Authority::create(ca.path(), "c").unwrap();
        issue(&authority, "n2", data.path());
        let seeds = [("n1", 1), ("n2", 2)];
        let refused = refusal(&config("n1", data.path(), &seeds, &[]));
        assert!(
            refused.contains("the certificate is that of \"n2\""),
            "{refused}"
        );
        let missing = [
            ("peer_certificate", "/missing/node.crt"),
            ("peer_key", "/missing/node.key"),
            ("peer_ca", "/missing/ca.crt"),
        ];
        let refused = refusal(&config("n1", data.path(), &seeds, &missing));
        assert!(
            refused.contains("/missing/node.crt: cannot be read"),
            "{refused}"
        );
    }
}
