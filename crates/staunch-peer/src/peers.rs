//! All links of a node.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicU64},
    time::Duration,
};

use staunch_types::Name;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    Inbox, LinkCounters, Patience, Question, QueueLimits, SendError, Session, Unanswered,
    authority::Authority,
    frame::Frame,
    handshake::Established,
    hello::Refused,
    link::{self, Link},
    listener::{self, HalfOpen},
    outgoing::Outgoing,
    question,
    tls::Identity,
};

/// A node of the cluster and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: Name,
    /// HOST:PORT of its peer port; the host is looked up before each attempt to connect.
    pub address: String,
}

/// Who this node is and how it talks to others.
#[derive(Clone, Debug)]
pub struct PeersConfig {
    /// Name of the cluster; all members have the same.
    pub cluster: Name,
    /// Name of this node.
    pub name: Name,
    /// A random number, new with every start of the process.
    pub incarnation: u64,
    /// Feature bits that the others are told; the highest is the links' own.
    pub features: u64,
    /// The members; this node may be among them.
    pub members: Vec<Member>,
    /// The others may not know of this node: it dials also those whose part that is.
    pub introduces: bool,
    /// How links are protected.
    pub security: Security,
    /// Where links without protection may go.
    pub plaintext: PlaintextScope,
    /// The authority, on a node that lets others join by token.
    pub authority: Option<Arc<Authority>>,
    /// Bounds.
    pub limits: PeerLimits,
    /// Where questions of peers go; none: nobody answers them. One that finds it full is refused.
    pub questions: Option<mpsc::Sender<Question>>,
    /// What waits between attempts to connect are drawn from.
    pub seed: u64,
}

/// How links are protected.
#[derive(Clone, Debug)]
pub enum Security {
    /// Mutual TLS.
    Tls(Identity),
    /// Not at all.
    Plaintext,
}

/// Where links may go that are not protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaintextScope {
    /// Nowhere but to this machine.
    Loopback,
    /// Anywhere: the operator has asked for it by name.
    Anywhere,
}

/// Bounds of links.
#[derive(Clone, Copy, Debug)]
pub struct PeerLimits {
    /// Frames that are dropped when there are more.
    pub lossy: QueueLimits,
    /// Frames that are refused when there are more.
    pub reliable: QueueLimits,
    /// Questions and answers, which wait when there are more.
    pub idle: QueueLimits,
    /// Connections that have not yet shown who they are; a new one displaces the oldest.
    pub half_open_max: usize,
    /// Time they have to show it.
    pub handshake_timeout: Duration,
}

impl Default for PeerLimits {
    fn default() -> Self {
        let queue = QueueLimits {
            frames_max: 8192,
            size_bytes_max: 64 << 20,
        };
        Self {
            lossy: queue,
            reliable: queue,
            idle: QueueLimits {
                frames_max: 256,
                size_bytes_max: 512 << 10,
            },
            half_open_max: 64,
            handshake_timeout: Duration::from_secs(5),
        }
    }
}

/// Why there are no links.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// An unprotected port would be open to the network.
    #[error(
        "peers at {0} would talk without protection: make certificates with `staunch certs`, \
         or use --insecure-peers if the network is yours alone"
    )]
    Unprotected(String),
    /// The certificate is another node's.
    #[error("the certificate is that of {certificate:?}, this node is called {node:?}")]
    NotOurCertificate {
        /// Who the certificate names.
        certificate: Name,
        /// Who this node is.
        node: Name,
    },
    /// A listener is none any more.
    #[error("a listener cannot be used: {0}")]
    Listener(String),
}

/// Who this node is.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    pub(crate) cluster: Name,
    pub(crate) name: Name,
    pub(crate) incarnation: u64,
    pub(crate) features: u64,
}

pub(crate) struct Shared<I> {
    pub(crate) local: Local,
    security: RwLock<Security>,
    pub(crate) plaintext: PlaintextScope,
    pub(crate) authority: Option<Arc<Authority>>,
    pub(crate) limits: PeerLimits,
    pub(crate) inbox: I,
    pub(crate) half_open: HalfOpen,
    pub(crate) questions: Option<mpsc::Sender<Question>>,
    pub(crate) session_next: AtomicU64,
    introduces: bool,
    seed: u64,
    links: RwLock<BTreeMap<Name, RunningLink>>,
    listeners: Mutex<Vec<JoinHandle<()>>>,
}

struct RunningLink {
    link: Arc<Link>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    /// Where connections go that the peer has dialled; none if only we dial.
    arrivals: Option<mpsc::Sender<Established>>,
    /// Nobody has named it to us: it has come by itself.
    is_stranger: bool,
}

/// Peers that may be connected without having been named: nodes that want to join.
const STRANGERS_MAX: usize = 16;

/// All links of a node; the links run until [`Peers::stop`].
pub struct Peers<I> {
    shared: Arc<Shared<I>>,
}

impl<I> Clone for Peers<I> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

/// One link. A handle of a link that was removed is of no use, and harmless.
#[derive(Clone, Debug)]
pub struct PeerHandle {
    link: Arc<Link>,
}

/// How a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub name: Name,
    /// Where it is expected.
    pub address: String,
    /// The session, while it is connected.
    pub session: Option<Session>,
    /// The peer's process, while it is connected.
    pub incarnation: Option<u64>,
    /// Why it is not, if that is known.
    pub trouble: Option<String>,
    /// What has gone over the link.
    pub counters: LinkCounters,
}

impl PeerHandle {
    /// Sends a frame that may get lost; false if it was dropped here, because there is no
    /// connection or too much waits already.
    pub fn send_lossy(&self, frame: Frame) -> bool {
        self.link.outgoing.send_lossy(frame)
    }

    /// Sends a frame that arrives, after all that were sent so in this session, or else the
    /// session ends.
    ///
    /// # Errors
    /// [`SendError::Full`], after which [`crate::PeerEvent::Room`] comes; [`SendError::Down`].
    pub fn send(&self, session: Session, frame: Frame) -> Result<(), SendError> {
        self.link.outgoing.send(session, frame)
    }

    /// Asks the peer something and waits for its answer ([`Question`]).
    ///
    /// # Errors
    /// [`Unanswered`]; the session goes on.
    pub async fn ask(&self, question: &[u8], patience: Patience) -> Result<Vec<u8>, Unanswered> {
        let session = self.link.outgoing.session().ok_or(Unanswered::Down)?;
        let outgoing = (&self.link.outgoing, session);
        self.link.questions.ask(outgoing, question, patience).await
    }

    /// Ends a session whose conversation cannot go on: what waits is forgotten, the connection is
    /// closed, and when the peer is connected again both sides begin anew. Frames that have arrived
    /// before may still be reported, then `Down`. False if the session is over already.
    pub fn end(&self, session: Session) -> bool {
        self.link.outgoing.end(session)
    }

    /// How the link is now.
    pub fn status(&self) -> PeerStatus {
        let session = self.link.outgoing.session();
        PeerStatus {
            name: self.link.name.clone(),
            address: self.link.address(),
            session,
            incarnation: self.link.incarnation(),
            trouble: self.link.trouble().filter(|_| session.is_none()),
            counters: self.link.outgoing.counters(),
        }
    }
}

impl<I: Inbox> Peers<I> {
    /// Serves `listeners`, which the caller has bound, and keeps the members connected. Must be
    /// called inside a tokio runtime. All events go to `inbox`.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start(
        config: PeersConfig,
        listeners: Vec<TcpListener>,
        inbox: I,
    ) -> Result<Self, StartError> {
        check_protection(&config, &listeners)?;
        let taken = config.questions.as_ref().map_or(0, |_| question::FEATURE);
        let shared = Arc::new(Shared {
            local: Local {
                cluster: config.cluster,
                name: config.name,
                incarnation: config.incarnation,
                features: config.features | taken,
            },
            security: RwLock::new(config.security),
            plaintext: config.plaintext,
            authority: config.authority,
            limits: config.limits,
            inbox,
            half_open: HalfOpen::default(),
            questions: config.questions,
            session_next: AtomicU64::new(1),
            introduces: config.introduces,
            seed: config.seed,
            links: RwLock::default(),
            listeners: Mutex::default(),
        });
        let peers = Self { shared };
        for member in config.members {
            peers.add(member);
        }
        let accept = |listener| tokio::spawn(listener::accept(peers.shared.clone(), listener));
        let tasks = listeners.into_iter().map(accept).collect();
        *lock(&peers.shared.listeners) = tasks;
        Ok(peers)
    }

    /// Adds a member or changes its address; this node itself is passed over. An address is used
    /// by the next attempt to connect; connections that are up stay up.
    pub fn add(&self, member: Member) {
        let Member { name, address } = member;
        if name == self.shared.local.name {
            return;
        }
        let mut links = self.shared.write_links();
        if let Some(running) = links.get_mut(&name) {
            running.is_stranger = false;
            running.link.set_address(address);
            return;
        }
        let running = self.shared.clone().run_link(name.clone(), address, false);
        links.insert(name, running);
    }

    /// Ends the link with a member, after what is queued has been sent, and waits for that.
    pub async fn remove(&self, name: &Name) {
        let removed = self.shared.write_links().remove(name);
        if let Some(running) = removed {
            running.end().await;
        }
    }

    /// The link with a member.
    pub fn peer(&self, name: &Name) -> Option<PeerHandle> {
        let links = self.shared.read_links();
        let link = links.get(name)?.link.clone();
        Some(PeerHandle { link })
    }

    /// All links, by name.
    pub fn status(&self) -> Vec<PeerStatus> {
        let links = self.shared.read_links();
        let handle = |running: &RunningLink| PeerHandle {
            link: running.link.clone(),
        };
        links.values().map(|link| handle(link).status()).collect()
    }

    /// Connections that have not yet shown who they are, and how many such had to make way.
    pub fn half_open(&self) -> (usize, u64) {
        self.shared.half_open.counts()
    }

    /// Takes a new certificate for the connections that come; those that are up stay up.
    ///
    /// # Errors
    /// [`StartError::NotOurCertificate`].
    pub fn set_identity(&self, identity: Identity) -> Result<(), StartError> {
        check_name(&identity, &self.shared.local.name)?;
        let security = &self.shared.security;
        *security.write().unwrap_or_else(PoisonError::into_inner) = Security::Tls(identity);
        Ok(())
    }

    /// Sends what is queued, says goodbye to everybody and closes the port.
    pub async fn stop(&self) {
        for listener in lock(&self.shared.listeners).drain(..) {
            listener.abort();
        }
        let links = std::mem::take(&mut *self.shared.write_links());
        for running in links.values() {
            running.stop.send_replace(true);
        }
        for running in links.into_values() {
            running.end().await;
        }
    }
}

impl RunningLink {
    async fn end(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            let peer = &self.link.name;
            tracing::error!(event = "peer.failed", %peer, %error, "the task of a link failed");
        }
    }
}

impl<I> Shared<I> {
    pub(crate) fn security(&self) -> Security {
        let security = self.security.read();
        security.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where the connection of a peer goes that has dialled. One that nobody has named to us may be
    /// a node that wants to join: the cluster's authority vouches for it as for any other.
    pub(crate) fn arrivals(
        self: &Arc<Self>,
        name: &Name,
    ) -> Result<mpsc::Sender<Established>, Refused>
    where
        I: Inbox,
    {
        let mut links = self.write_links();
        if !links.contains_key(name) {
            let strangers = links.values().filter(|running| running.is_stranger);
            if strangers.count() >= STRANGERS_MAX {
                return Err(Refused::NotAMember(name.clone()));
            }
            let running = self.clone().run_link(name.clone(), String::new(), true);
            links.insert(name.clone(), running);
        }
        let arrivals = links.get(name).and_then(|running| running.arrivals.clone());
        arrivals.ok_or_else(|| Refused::WrongDirection(name.clone()))
    }

    /// Begins to keep a peer connected, or to wait for it.
    fn run_link(self: Arc<Self>, name: Name, address: String, is_stranger: bool) -> RunningLink
    where
        I: Inbox,
    {
        let limits = self.limits;
        let outgoing = Outgoing::new([limits.lossy, limits.reliable, limits.idle]);
        let is_lower = self.local.name < name;
        let dials = !is_stranger && (is_lower || self.introduces);
        let accepts = is_stranger || !is_lower;
        let link = Arc::new(Link::new(name, address, outgoing));
        let (stop, stopping) = watch::channel(false);
        let (arrivals, inbox) = mpsc::channel(1);
        let its_link = link.clone();
        let task = if dials {
            tokio::spawn(link::dial(self, its_link, inbox, stopping))
        } else {
            tokio::spawn(link::await_dialler(self, its_link, inbox, stopping))
        };
        RunningLink {
            link,
            stop,
            task,
            arrivals: accepts.then_some(arrivals),
            is_stranger,
        }
    }

    /// Differs between the pairs of a cluster and with every start.
    pub(crate) fn backoff_seed(&self, peer: &Name) -> u64 {
        let mix = |seed: u64, byte: &u8| (seed ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        peer.iter().fold(self.seed, mix)
    }

    fn read_links(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<Name, RunningLink>> {
        self.links.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_links(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<Name, RunningLink>> {
        self.links.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_protection(config: &PeersConfig, listeners: &[TcpListener]) -> Result<(), StartError> {
    match (&config.security, config.plaintext) {
        (Security::Tls(identity), _) => return check_name(identity, &config.name),
        (Security::Plaintext, PlaintextScope::Anywhere) => {}
        (Security::Plaintext, PlaintextScope::Loopback) => {
            for listener in listeners {
                let address: SocketAddr = listener
                    .local_addr()
                    .map_err(|error| StartError::Listener(error.to_string()))?;
                if !address.ip().is_loopback() {
                    return Err(StartError::Unprotected(address.to_string()));
                }
            }
            if let Some(far) = config.members.iter().find(|m| !is_loopback(&m.address)) {
                return Err(StartError::Unprotected(far.address.clone()));
            }
        }
    }
    tracing::warn!(
        event = "peer.insecure",
        "links between nodes are NOT protected: whoever reaches the peer port can read and \
         write every message"
    );
    Ok(())
}

fn check_name(identity: &Identity, name: &Name) -> Result<(), StartError> {
    if identity.name() == name {
        return Ok(());
    }
    Err(StartError::NotOurCertificate {
        certificate: identity.name().clone(),
        node: name.clone(),
    })
}

/// Whether HOST:PORT is on this machine whatever a name server says.
pub fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let ip = host.parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_what_no_name_server_can_change() {
        for (address, expected) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("localhost:1", true),
            ("[::1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.0.2.1:1", false),
            ("localhost.example:1", false),
        ] {
            assert_eq!(is_loopback(address), expected, "{address}");
        }
    }
}
