//! Who drives the node machine: whoever brings it work.
//!
//! The machine sits behind one lock. A connection task or a disk worker that has something for it
//! puts that into an inbox and tries the lock; if it gets it, it runs one drain itself, on the
//! spot, and no other thread has to be woken. If somebody else holds the lock, that one looks at
//! the inboxes again after letting go and calls the *node thread* if anything is left; the node
//! thread also keeps the time. So under little load a message costs few wake-ups, and under much
//! load drains take whole batches from everybody, as they would in a thread of their own (see
//! `docs/decisions/2026-11-22-whoever-brings-work.md`).

use std::{
    collections::HashMap,
    process,
    sync::{
        Arc, Mutex, MutexGuard, TryLockError,
        atomic::{AtomicIsize, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use staunch_log::{Background, Disk, Reader, Writer};
use staunch_node::{Input, MembershipNews, Node, Output};
use staunch_peer::{PeerEvent, Peers};
use staunch_types::{ConnectionId, Name, Request, Timestamp};
use tokio::{
    runtime,
    sync::{Notify, mpsc, oneshot, watch},
    time,
};

use crate::{
    clock::Clock,
    fatal,
    runtime::{
        Mailbox,
        admin::Questions,
        links::{Links, PeerInbox},
        news,
        worker::Workers,
    },
};

/// Batches of requests that may wait for the node; a connection with more waits itself.
const INBOX_BATCHES_MAX: usize = 16;
/// Batches of what other nodes have sent that may wait; a link with more waits itself. A batch is
/// what one read of a socket brought.
const PEER_BATCHES_MAX: usize = 64;
/// Such batches in one drain, so that other nodes cannot keep this one's clients waiting.
const DRAIN_PEER_BATCHES_MAX: usize = 16;
/// Connections that a process may count before the number's random part is touched.
const CONNECTIONS_COUNTED: u64 = 1 << 24;
/// Inputs handled before the node seals, dispatches and emits.
const DRAIN_INPUTS_MAX: usize = 128;
/// Requests after which a drain ends, so that a flood of publishes does not keep deliveries
/// waiting: one to two milliseconds of work.
const DRAIN_REQUESTS_MAX: usize = 8192;
/// How often the node hears that time passes.
const TICK: Duration = Duration::from_millis(200);

/// What connection tasks send to the node.
pub(crate) enum FromConnection {
    /// A new connection and where its events go.
    Connected(ConnectionId, Arc<Mailbox>),
    /// Requests, in order.
    Requests(ConnectionId, Vec<Request>),
}

/// How the rest of the process talks to the node.
#[derive(Clone)]
pub(crate) struct NodeHandle {
    requests: mpsc::Sender<FromConnection>,
    peers: mpsc::Sender<Vec<PeerEvent>>,
    facts: mpsc::UnboundedSender<Input>,
    shared: Arc<Shared>,
    questions: Arc<Questions>,
    addresses: watch::Receiver<Vec<(Name, Name)>>,
}

/// The node has written everything and stopped, when this resolves.
pub(crate) struct Stopped(oneshot::Receiver<()>);

struct Shared {
    /// None only while the node is being set up.
    driver: Mutex<Option<Driver>>,
    /// Messages in all inboxes; may be below the truth by those being sent, never above.
    queued: AtomicIsize,
    /// Calls the node thread.
    bell: Notify,
    /// When the node thread will look by itself, in nanoseconds of the clock.
    wakes_at: AtomicU64,
    /// The id of the next connection; none is used twice.
    connection_next: AtomicU64,
}

struct Driver {
    node: Node,
    workers: Workers,
    clock: Clock,
    requests: mpsc::Receiver<FromConnection>,
    peers: mpsc::Receiver<Vec<PeerEvent>>,
    facts: mpsc::UnboundedReceiver<Input>,
    /// Of a node in a cluster.
    links: Option<Links>,
    mailboxes: HashMap<ConnectionId, Arc<Mailbox>>,
    questions: Arc<Questions>,
    /// Of the cluster's other nodes.
    addresses: watch::Sender<Vec<(Name, Name)>>,
    stopped: Option<oneshot::Sender<()>>,
}

/// Starts the node, its disk workers and the node thread. `random` makes the ids of this process's
/// connections differ from those of all other processes of a cluster.
///
/// # Errors
/// When a thread cannot be started.
pub(crate) fn start<D>(
    node: Node,
    writer: Writer<D>,
    background: Background<D>,
    reader: Reader<D>,
    clock: Clock,
    random: u64,
) -> anyhow::Result<(NodeHandle, Stopped)>
where
    D: Disk,
    Writer<D>: Send + 'static,
    Background<D>: Send + 'static,
    Reader<D>: Send + 'static,
{
    let (requests, request_inbox) = mpsc::channel(INBOX_BATCHES_MAX);
    let (peers, peer_inbox) = mpsc::channel(PEER_BATCHES_MAX);
    let (facts, fact_inbox) = mpsc::unbounded_channel();
    let (stopped_sender, stopped) = oneshot::channel();
    let (addresses_sender, addresses) = watch::channel(Vec::new());
    let shared = Arc::new(Shared {
        driver: Mutex::new(None),
        queued: AtomicIsize::new(0),
        bell: Notify::new(),
        wakes_at: AtomicU64::new(0),
        connection_next: AtomicU64::new((random & !(CONNECTIONS_COUNTED - 1)) + 1),
    });
    let handle = NodeHandle {
        requests,
        peers,
        facts,
        shared,
        questions: Arc::default(),
        addresses,
    };
    let workers = Workers::start(writer, background, reader, &handle)?;
    *handle.shared.lock() = Some(Driver {
        node,
        workers,
        clock,
        requests: request_inbox,
        peers: peer_inbox,
        facts: fact_inbox,
        links: None,
        mailboxes: HashMap::new(),
        questions: handle.questions.clone(),
        addresses: addresses_sender,
        stopped: Some(stopped_sender),
    });
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let shared = handle.shared.clone();
    thread::Builder::new()
        .name("node".into())
        .spawn(move || runtime.block_on(keep_time(&shared, clock)))
        .context("start node thread")?;
    Ok((handle, Stopped(stopped)))
}

/// The node thread: ticks, deadlines, and whatever others left behind.
async fn keep_time(shared: &Shared, clock: Clock) {
    let mut ticker = time::interval(TICK);
    ticker.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
    let mut deadline: Option<Timestamp> = None;
    loop {
        let is_tick = tokio::select! {
            biased;
            _ = ticker.tick() => true,
            () = shared.bell.notified() => false,
            () = sleep_until(deadline, clock), if deadline.is_some() => false,
        };
        let mut locked = shared.lock();
        let driver = locked
            .as_mut()
            .expect("the node is set up before its thread starts");
        if is_tick {
            driver.node.handle(Input::Tick, clock.now());
        }
        driver.drain(&shared.queued);
        let mut left = shared.queued.load(Ordering::SeqCst);
        while left > 0 && (!driver.node.is_saturated() || driver.must_listen()) {
            driver.drain(&shared.queued);
            left = shared.queued.load(Ordering::SeqCst);
        }
        deadline = driver.node.poll_timeout();
        let wakes_at = deadline.map_or(u64::MAX, |at| at.0);
        shared.wakes_at.store(wakes_at, Ordering::SeqCst);
        drop(locked);
        // As in `try_drive`: what came since the last look found the lock taken.
        if shared.queued.load(Ordering::SeqCst) > left {
            shared.bell.notify_one();
        }
    }
}

async fn sleep_until(deadline: Option<Timestamp>, clock: Clock) {
    if let Some(deadline) = deadline {
        time::sleep_until(clock.instant(deadline).into()).await;
    }
}

impl NodeHandle {
    /// Hands requests to the node, waiting for room; false if the node is gone.
    pub(crate) async fn send(&self, message: FromConnection) -> bool {
        if self.requests.send(message).await.is_err() {
            return false;
        }
        self.shared.queued.fetch_add(1, Ordering::SeqCst);
        self.shared.try_drive();
        true
    }

    /// Hands on what links have to tell, waiting for room; false if the node is gone.
    pub(crate) async fn hear(&self, events: Vec<PeerEvent>) -> bool {
        if self.peers.send(events).await.is_err() {
            return false;
        }
        self.shared.queued.fetch_add(1, Ordering::SeqCst);
        self.shared.try_drive();
        true
    }

    /// Connects the node with others. Nothing that `start`'s links tell is heard before the node
    /// can answer on them.
    ///
    /// # Errors
    /// Those of `start`.
    pub(crate) fn connect(
        &self,
        start: impl FnOnce(PeerInbox) -> anyhow::Result<Peers<PeerInbox>>,
    ) -> anyhow::Result<Peers<PeerInbox>> {
        let mut locked = self.shared.lock();
        let driver = locked.as_mut().expect("a handle is of a node that runs");
        let peers = start(PeerInbox(self.clone()))?;
        driver.links = Some(Links::new(peers.clone()));
        Ok(peers)
    }

    pub(crate) fn next_connection_id(&self) -> ConnectionId {
        ConnectionId(self.shared.connection_next.fetch_add(1, Ordering::Relaxed))
    }

    /// Names and addresses of the cluster's other nodes, as they come and go.
    pub(crate) fn addresses(&self) -> watch::Receiver<Vec<(Name, Name)>> {
        self.addresses.clone()
    }

    pub(super) fn questions(&self) -> &Questions {
        &self.questions
    }

    /// Tells the node a fact: that work is done, how the machine is, or to stop.
    pub(crate) fn tell(&self, fact: Input) {
        if self.facts.send(fact).is_ok() {
            self.shared.queued.fetch_add(1, Ordering::SeqCst);
            self.shared.try_drive();
        }
    }
}

impl Stopped {
    pub(crate) async fn wait(self) {
        // A dropped sender means the node is gone: stopped as well.
        drop(self.0.await);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Driver>> {
        // Whoever panicked in a drain left the node half changed: nothing may follow.
        self.driver.lock().unwrap_or_else(|_| process::abort())
    }

    /// Runs one drain, unless somebody is at it, who will then see that there is more.
    fn try_drive(&self) {
        let deadline = match self.driver.try_lock() {
            Ok(mut locked) => {
                let Some(driver) = locked.as_mut() else {
                    return;
                };
                driver.drain(&self.queued);
                driver.node.poll_timeout()
            }
            Err(TryLockError::WouldBlock) => return,
            Err(TryLockError::Poisoned(_)) => process::abort(),
        };
        let is_earlier = deadline.is_some_and(|at| at.0 < self.wakes_at.load(Ordering::SeqCst));
        // What came while the lock was held found it taken and relies on this look.
        if self.queued.load(Ordering::SeqCst) > 0 || is_earlier {
            self.bell.notify_one();
        }
    }
}

impl Driver {
    /// Takes what has arrived, so that one seal and one sync serve all of it, and performs what
    /// the node asks for.
    fn drain(&mut self, queued: &AtomicIsize) {
        let mut taken = 0;
        let mut peer_batches = 0;
        for _ in 0..DRAIN_INPUTS_MAX {
            if let Ok(fact) = self.facts.try_recv() {
                queued.fetch_sub(1, Ordering::SeqCst);
                self.node.handle(fact, self.clock.now());
                continue;
            }
            if peer_batches < DRAIN_PEER_BATCHES_MAX
                && let Ok(events) = self.peers.try_recv()
            {
                queued.fetch_sub(1, Ordering::SeqCst);
                peer_batches += 1;
                self.hear(events);
                continue;
            }
            if taken > DRAIN_REQUESTS_MAX || self.node.is_saturated() {
                break;
            }
            let Ok(message) = self.requests.try_recv() else {
                break;
            };
            queued.fetch_sub(1, Ordering::SeqCst);
            taken += self.receive(message);
        }
        self.node.finish_drain(self.clock.now());
        while let Some(output) = self.node.poll_output() {
            self.perform(output);
        }
    }

    /// Whether something waits that the node must hear however much it has to do.
    fn must_listen(&self) -> bool {
        !self.facts.is_empty() || !self.peers.is_empty()
    }

    fn hear(&mut self, events: Vec<PeerEvent>) {
        let Some(links) = &mut self.links else {
            return;
        };
        let now = self.clock.now();
        for input in events.into_iter().filter_map(|event| links.hear(event)) {
            self.node.handle(Input::Peer(input), now);
        }
    }

    /// Returns how many requests it was.
    fn receive(&mut self, message: FromConnection) -> usize {
        let now = self.clock.now();
        match message {
            FromConnection::Connected(id, mailbox) => {
                self.mailboxes.insert(id, mailbox);
                self.node.handle(Input::Connected(id), now);
                1
            }
            FromConnection::Requests(id, requests) => {
                let count = requests.len();
                self.node.handle(Input::Requests(id, requests), now);
                count
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Events(id, events) => {
                let is_last = matches!(events.last(), Some(staunch_types::Event::ConnectionClosed));
                if let Some(mailbox) = self.mailboxes.get(&id) {
                    mailbox.post(events);
                }
                if is_last {
                    self.mailboxes.remove(&id);
                }
            }
            Output::Proceed(id) => {
                if let Some(mailbox) = self.mailboxes.get(&id) {
                    mailbox.let_proceed();
                }
            }
            Output::Write(job) => {
                let sent = self.workers.writer.try_send(job);
                assert!(sent.is_ok(), "the node has one write outstanding");
            }
            Output::Background(job) => {
                let sent = self.workers.background.try_send(job);
                assert!(sent.is_ok(), "the node has few background jobs outstanding");
            }
            Output::Fetch(queue, job) => {
                let sent = self.workers.reader.send((queue, job));
                assert!(sent.is_ok(), "the reader lives as long as the node");
            }
            Output::Verify(id, job) => {
                let sent = self.workers.verifiers.send((id, job));
                assert!(sent.is_ok(), "verifiers live as long as the node");
            }
            Output::Peer(output) => {
                if let Some(links) = &mut self.links {
                    links.send(output);
                }
            }
            Output::EndLink(peer) => {
                if let Some(links) = &mut self.links {
                    links.give_up(&peer, "too much that it sent waits for the catalog");
                }
            }
            Output::Membership(news) => self.follow(news),
            Output::News(news) => news::tell(news),
            Output::Admin(id, answer) => self.questions.answer(id, answer),
            Output::Stopped => {
                if let Some(stopped) = self.stopped.take()
                    && stopped.send(()).is_err()
                {
                    tracing::debug!(event = "node.stopped", "nobody waited for the end");
                }
            }
            Output::Unreadable(failed) => fatal::damaged(&failed),
            Output::Damaged(queue, damage) => {
                let queue = queue.0;
                tracing::error!(
                    event = "queue.damaged",
                    queue,
                    %damage,
                    "stored data of a queue is damaged: another node takes over and repairs it"
                );
            }
            Output::Lost(vhost, queue) => fatal::lost(&vhost, &queue),
        }
    }

    /// Something has changed about the cluster.
    fn follow(&mut self, news: MembershipNews) {
        match news {
            MembershipNews::Founded => tracing::info!(
                event = "cluster.founded",
                "all nodes of seed are new: this one has founded their cluster"
            ),
            MembershipNews::Joined { node } => {
                tracing::info!(event = "cluster.joined", id = node.0, "joined the cluster");
            }
            MembershipNews::Removed => tracing::error!(
                event = "cluster.removed",
                "this node was removed from its cluster and serves nobody: stop it"
            ),
            MembershipNews::Foreign { peer } => tracing::error!(
                event = "cluster.foreign",
                %peer,
                "a peer is of another cluster that has the same name: nothing is taken from it"
            ),
            MembershipNews::Links(addresses) => {
                self.addresses.send_replace(addresses);
            }
        }
    }
}
