//! Confirmed publishing and consuming on a broker that comes and goes.
//!
//! Each producer has its own queue; the queues without a consumer are the backlog, because what
//! has been consumed cannot be lost any more and would hide a loss. Every thread connects again
//! when its connection goes, and takes up a new session. What was not confirmed by then stays
//! unknown: it may come or not.
//!
//! The queues that are consumed can be one queue with partitions instead, to which each producer
//! publishes with a routing key of its own.
//!
//! With several nodes every thread has a *home*, the node it connects to. A fault is announced by
//! moving the clients of the node that will suffer it ([`Workload::leave`]); so a connection that
//! breaks all the same was not to break ([`Workload::interruptions`]). A *probe* says how long the
//! producers waited for the first confirm of something they published after it was set.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use staunch_types::{FieldTable, properties::PropertiesBuilder};

use super::{
    history::{History, MessageId, Seen, Verdict},
    payload,
};
use crate::{
    confirms::Unconfirmed, connection::Connection, declare::QueueSpec, error::ClientError,
    incoming::Incoming, options::ConnectOptions, publish::PublishTemplate,
};

/// How often a thread without a broker tries to connect.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(20);

/// How often an idle thread looks whether it should stop.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Deliveries that are recorded together.
const SEEN_BATCH_COUNT: usize = 256;

/// What to do to the broker.
#[derive(Clone, Debug)]
pub struct WorkloadSpec {
    /// Producers whose queues are consumed.
    pub consumed_producers: u32,
    /// Producers whose queues are not, until the drain.
    pub backlog_producers: u32,
    /// Unconfirmed publishes that each producer may have.
    pub confirm_window: usize,
    /// Bytes of a body.
    pub body_size_bytes: usize,
    /// Deliveries that a consumer may hold.
    pub prefetch: u16,
    /// Most messages a second of each producer; `None` for as many as possible.
    pub rate_per_producer: Option<u32>,
    /// `x-queue-type`, if it matters.
    pub queue_type: Option<String>,
    /// [`SHARED_QUEUE`] has so many partitions and takes the place of the queues that are consumed.
    pub partitions: Option<u8>,
}

/// The queue with partitions.
pub const SHARED_QUEUE: &str = "staunch-proof";

/// Leads every routing key to the queue with partitions.
const SHARED_EXCHANGE: &str = "amq.topic";

impl Default for WorkloadSpec {
    fn default() -> Self {
        Self {
            consumed_producers: 3,
            backlog_producers: 1,
            confirm_window: 500,
            body_size_bytes: 512,
            prefetch: 200,
            rate_per_producer: None,
            queue_type: None,
            partitions: None,
        }
    }
}

/// What threads and their owner share.
#[derive(Debug)]
struct Shared {
    /// The nodes.
    nodes: Vec<ConnectOptions>,
    spec: WorkloadSpec,
    /// By producer, and behind them by consumed queue.
    clients: Vec<Client>,
    history: Mutex<History>,
    probe: Mutex<Probe>,
    /// Connections that went although nobody meant them to.
    interruptions: AtomicU64,
    stop_producers: AtomicBool,
    stop_consumers: AtomicBool,
    sessions: AtomicU64,
    /// What the threads found wrong besides a lost connection.
    refusals: Mutex<Vec<String>>,
}

/// Where a thread is.
#[derive(Debug)]
struct Client {
    /// The node it is to connect to.
    home: AtomicUsize,
    /// The node it is connected to, or [`NOWHERE`].
    at: AtomicUsize,
}

/// The place of a client without a connection.
const NOWHERE: usize = usize::MAX;

/// Which publishes came after a moment, and when the first of them was confirmed.
#[derive(Debug, Default)]
struct Probe {
    /// By producer, the number of its first publish after that moment.
    from: Vec<u64>,
    confirmed_at: Vec<Option<Instant>>,
}

/// A running workload. Dropping it stops the threads.
#[derive(Debug)]
pub struct Workload {
    shared: Arc<Shared>,
    producers: Vec<JoinHandle<()>>,
    consumers: Vec<JoinHandle<()>>,
}

/// How far a workload has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Messages sent.
    pub published: u64,
    /// Messages confirmed.
    pub confirmed: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Confirmed messages that have not been delivered.
    pub missing: u64,
}

impl Workload {
    /// Declares the queues and starts the threads.
    ///
    /// # Errors
    /// When the broker cannot be reached or refuses.
    pub fn start(options: &ConnectOptions, spec: &WorkloadSpec) -> Result<Self, ClientError> {
        Self::start_on(std::slice::from_ref(options), spec)
    }

    /// As [`Self::start`], with clients spread over the nodes of a cluster.
    ///
    /// # Errors
    /// When a node cannot be reached or refuses.
    ///
    /// # Panics
    /// If there is no node.
    pub fn start_on(nodes: &[ConnectOptions], spec: &WorkloadSpec) -> Result<Self, ClientError> {
        let mut history = History::default();
        let queue_count = spec.consumed_producers + spec.backlog_producers;
        let mut control = Connection::open(&nodes[0])?;
        let channel = control.open_channel()?;
        for queue in 0..queue_count {
            history.add_producer(queue as usize);
            if !spec.is_shared(queue) {
                control.queue_delete(channel, &queue_name(queue))?;
                control.queue_declare(channel, &queue_spec(spec, queue))?;
            }
        }
        if spec.is_shared(0) {
            control.queue_delete(channel, SHARED_QUEUE)?;
            control.queue_declare(channel, &queue_spec(spec, 0))?;
            let none = FieldTable::default();
            control.queue_bind(channel, SHARED_QUEUE, SHARED_EXCHANGE, "#", &none)?;
        }
        control.close()?;
        let shared = Arc::new(Shared {
            nodes: nodes.to_vec(),
            spec: spec.clone(),
            clients: clients(queue_count as usize, nodes.len()),
            history: Mutex::new(history),
            probe: Mutex::default(),
            interruptions: AtomicU64::new(0),
            stop_producers: AtomicBool::new(false),
            stop_consumers: AtomicBool::new(false),
            sessions: AtomicU64::new(0),
            refusals: Mutex::new(Vec::new()),
        });
        let start = |run: fn(&Shared, u32), number: u32| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || run(&shared, number))
        };
        let producers = (0..queue_count).map(|i| start(produce, i)).collect();
        let consumers = (0..spec.consumed_producers)
            .map(|i| start(consume, i))
            .collect();
        Ok(Self {
            shared,
            producers,
            consumers,
        })
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        let history = self.shared.history();
        Progress {
            published: history.published_count(),
            confirmed: history.confirmed_count(),
            delivered: history.delivery_count(),
            missing: history.missing_count(),
        }
    }

    /// Moves the clients of a node to others. What they have published is confirmed first, if the
    /// node still does that.
    ///
    /// # Panics
    /// If there is no other node.
    pub fn leave(&self, node: usize) {
        self.leave_all(&[node]);
    }

    /// As [`Self::leave`] for several nodes at once.
    ///
    /// # Panics
    /// If there is no other node.
    pub fn leave_all(&self, nodes: &[usize]) {
        let others: Vec<_> = (0..self.shared.nodes.len())
            .filter(|it| !nodes.contains(it))
            .collect();
        for (number, client) in self.shared.clients.iter().enumerate() {
            if nodes.contains(&client.home.load(Ordering::SeqCst)) {
                client
                    .home
                    .store(others[number % others.len()], Ordering::SeqCst);
            }
        }
    }

    /// Spreads the clients over all nodes again.
    pub fn spread(&self) {
        for (number, client) in self.shared.clients.iter().enumerate() {
            client
                .home
                .store(number % self.shared.nodes.len(), Ordering::SeqCst);
        }
    }

    /// Waits until every client that runs is at home; false if that takes longer than `patience`.
    pub fn wait_home(&self, patience: Duration) -> bool {
        // The queues of the backlog have no consumer yet.
        let running = self.producers.len() + self.consumers.len();
        super::cluster::wait(patience, || {
            let running = self.shared.clients.iter().take(running);
            running.into_iter().all(|client| {
                client.home.load(Ordering::SeqCst) == client.at.load(Ordering::SeqCst)
            })
        })
    }

    /// From now on [`Self::probed`] tells of what is published from now on.
    pub fn probe(&self) {
        let from = self.shared.history().published_counts();
        let confirmed_at = vec![None; from.len()];
        *self.shared.probe() = Probe { from, confirmed_at };
    }

    /// By producer, when the first was confirmed of what it has published since the last probe.
    pub fn probed(&self) -> Vec<Option<Instant>> {
        self.shared.probe().confirmed_at.clone()
    }

    /// Connections that went although nobody meant them to.
    pub fn interruptions(&self) -> u64 {
        self.shared.interruptions.load(Ordering::SeqCst)
    }

    /// The queue of a producer.
    pub fn queue_name(producer: u32) -> String {
        queue_name(producer)
    }

    /// Writes down every message that was not confirmed and seen, one a line.
    pub fn unsettled(&self) -> String {
        self.shared.history().unsettled()
    }

    /// Stops publishing; what is in flight is confirmed first if the broker is there.
    pub fn stop_producers(&mut self) {
        self.shared.stop_producers.store(true, Ordering::SeqCst);
        for producer in self.producers.drain(..) {
            // A panic has been printed; what it left unconfirmed is unknown, not wrong.
            drop(producer.join());
        }
    }

    /// Consumes every queue, the backlog too, until no confirmed message is missing and the
    /// queues are empty, or until nothing has come for `idle_max`. `each` hears how far it has
    /// come. Then stops everything and gives the verdict.
    pub fn drain(mut self, idle_max: Duration, each: impl FnMut(Progress)) -> Verdict {
        self.settle(idle_max, each)
    }

    /// As [`Self::drain`], for who has questions afterwards.
    pub fn settle(&mut self, idle_max: Duration, mut each: impl FnMut(Progress)) -> Verdict {
        self.stop_producers();
        let consumed = self.shared.spec.consumed_producers;
        for queue in consumed..consumed + self.shared.spec.backlog_producers {
            let shared = Arc::clone(&self.shared);
            self.consumers
                .push(std::thread::spawn(move || consume(&shared, queue)));
        }
        let mut last = self.progress();
        let mut changed_at = Instant::now();
        // Messages that nobody is missing may still come; a short silence shows that they do not.
        let settled = Duration::from_millis(500).min(idle_max);
        loop {
            std::thread::sleep(STOP_CHECK_INTERVAL);
            let now = self.progress();
            each(now);
            if now != last {
                (last, changed_at) = (now, Instant::now());
            }
            let idle = changed_at.elapsed();
            if idle > idle_max || idle > settled && now.missing == 0 && self.queues_are_empty() {
                break;
            }
        }
        self.stop();
        self.shared.history().verdict()
    }

    /// What brokers refused that they should not have; empty if all is well.
    pub fn refusals(&self) -> Vec<String> {
        self.shared
            .refusals
            .lock()
            .map(|refusals| refusals.clone())
            .unwrap_or_default()
    }

    fn queues_are_empty(&self) -> bool {
        let spec = &self.shared.spec;
        let empty = || -> Result<bool, ClientError> {
            let mut connection = Connection::open(&self.shared.nodes[0])?;
            let channel = connection.open_channel()?;
            let mut ready = 0;
            for queue in 0..spec.consumed_producers + spec.backlog_producers {
                let spec = QueueSpec {
                    passive: true,
                    ..queue_spec(spec, queue)
                };
                ready += connection.queue_declare(channel, &spec)?.message_count;
            }
            connection.close()?;
            Ok(ready == 0)
        };
        empty().unwrap_or(false)
    }

    fn stop(&mut self) {
        self.stop_producers();
        self.shared.stop_consumers.store(true, Ordering::SeqCst);
        for consumer in self.consumers.drain(..) {
            drop(consumer.join());
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.stop();
    }
}

impl WorkloadSpec {
    /// Whether a producer publishes to the queue with partitions.
    fn is_shared(&self, producer: u32) -> bool {
        self.partitions.is_some() && producer < self.consumed_producers
    }

    /// The queue that a producer publishes to.
    fn queue_of(&self, producer: u32) -> String {
        if self.is_shared(producer) {
            SHARED_QUEUE.to_owned()
        } else {
            queue_name(producer)
        }
    }
}

impl Shared {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("recording does not panic")
    }

    fn probe(&self) -> MutexGuard<'_, Probe> {
        self.probe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of a queue's consumer among the clients.
    fn consumer(&self, queue: u32) -> &Client {
        &self.clients[self.clients.len() / 2 + queue as usize]
    }

    fn options(&self, node: usize) -> &ConnectOptions {
        &self.nodes[node]
    }

    /// A session has ended by an error.
    fn broken(&self, client: &Client, error: &ClientError) {
        let at = client.at.swap(NOWHERE, Ordering::SeqCst);
        if at != NOWHERE {
            self.interruptions.fetch_add(1, Ordering::SeqCst);
        }
        self.note(error);
    }

    /// Remembers what is more than a lost connection.
    fn note(&self, error: &ClientError) {
        // 320 is how a broker says that it is stopping.
        let is_refusal = error.reply_code().is_some_and(|code| code != 320);
        if let (true, Ok(mut refusals)) = (is_refusal, self.refusals.lock())
            && refusals.len() < 100
        {
            refusals.push(error.to_string());
        }
    }
}

impl Client {
    /// The node to connect to.
    fn home(&self) -> usize {
        self.home.load(Ordering::SeqCst)
    }

    fn arrived(&self, node: usize) {
        self.at.store(node, Ordering::SeqCst);
    }

    fn left(&self) {
        self.at.store(NOWHERE, Ordering::SeqCst);
    }

    fn is_at_home(&self) -> bool {
        self.at.load(Ordering::SeqCst) == self.home()
    }
}

/// Producers, then as many consumers.
fn clients(queue_count: usize, node_count: usize) -> Vec<Client> {
    let client = |number| Client {
        home: AtomicUsize::new(number % node_count),
        at: AtomicUsize::new(NOWHERE),
    };
    (0..2 * queue_count).map(client).collect()
}

fn queue_name(queue: u32) -> String {
    format!("staunch-proof-{queue}")
}

fn queue_spec(spec: &WorkloadSpec, queue: u32) -> QueueSpec {
    let mut declared = QueueSpec::durable(&spec.queue_of(queue));
    if let Some(count) = spec.partitions.filter(|_| spec.is_shared(queue)) {
        let table = staunch_types::field_table::TableBuilder::new();
        let table = table.longstr("x-queue-type", "quorum");
        declared.arguments = table.int("x-partitions", i32::from(count)).build();
    } else if let Some(kind) = &spec.queue_type {
        let table = staunch_types::field_table::TableBuilder::new();
        declared.arguments = table.longstr("x-queue-type", kind).build();
    }
    declared
}

fn produce(shared: &Shared, producer: u32) {
    while !shared.stop_producers.load(Ordering::SeqCst) {
        let client = &shared.clients[producer as usize];
        if let Err(error) = produce_session(shared, client, producer) {
            shared.broken(client, &error);
            std::thread::sleep(RECONNECT_INTERVAL);
        }
    }
}

/// Publishes on one connection until it goes, the home changes or the producer is told to stop.
fn produce_session(shared: &Shared, client: &Client, producer: u32) -> Result<(), ClientError> {
    let node = client.home();
    let mut connection = Connection::open(shared.options(node))?;
    let channel = connection.open_channel()?;
    connection.confirm_select(channel)?;
    let properties = PropertiesBuilder::new()
        .delivery_mode(2)
        .build()
        .expect("a mode alone is never too long");
    let is_shared = shared.spec.is_shared(producer);
    let exchange = if is_shared { SHARED_EXCHANGE } else { "" };
    let key = queue_name(producer);
    let template = connection.publish_template(channel, exchange, &key, false, &properties)?;
    client.arrived(node);
    let mut session = PublishSession {
        shared,
        client,
        producer,
        connection,
        template,
        unconfirmed: Unconfirmed::new(),
        ids: Vec::new(),
    };
    if let Err(error) = session.run() {
        session.salvage();
        return Err(error);
    }
    client.left();
    session.connection.close()
}

/// A producer on one connection.
struct PublishSession<'a> {
    shared: &'a Shared,
    client: &'a Client,
    producer: u32,
    connection: Connection,
    template: PublishTemplate,
    unconfirmed: Unconfirmed,
    /// Names by sequence number, the first for number 1.
    ids: Vec<MessageId>,
}

impl PublishSession<'_> {
    fn run(&mut self) -> Result<(), ClientError> {
        let spec = &self.shared.spec;
        let mut pace = Pace::new(spec.rate_per_producer);
        while !self.shared.stop_producers.load(Ordering::SeqCst) && self.client.is_at_home() {
            let batch = pace.allowed(spec.confirm_window - self.unconfirmed.len());
            let ids: Vec<MessageId> = {
                let mut history = self.shared.history();
                (0..batch).map(|_| history.publish(self.producer)).collect()
            };
            for id in ids {
                let body = payload::encode(id, spec.body_size_bytes);
                self.unconfirmed.publish();
                self.ids.push(id);
                self.connection.publish_with(&self.template, &body)?;
            }
            self.connection.flush()?;
            self.collect(pace.wait())?;
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.unconfirmed.is_empty() && Instant::now() < deadline {
            self.collect(STOP_CHECK_INTERVAL)?;
        }
        Ok(())
    }

    /// Takes the confirms that had arrived when the connection broke: the last ones before a
    /// crash are those that a broker is most likely to break.
    fn salvage(&mut self) {
        self.connection.abandon_output();
        loop {
            match self.collect(STOP_CHECK_INTERVAL) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Waits for a confirm, takes all that have come, and records them; gives how many.
    fn collect(&mut self, timeout: Duration) -> Result<usize, ClientError> {
        let (mut confirmed, mut refused) = (Vec::new(), Vec::new());
        let result = loop {
            let is_first = confirmed.is_empty() && refused.is_empty();
            let next = if is_first {
                self.connection.next(Some(timeout))
            } else {
                self.connection.next_received()
            };
            match next {
                Ok(Some(Incoming::Confirm(confirm))) => {
                    let into = if confirm.is_ack {
                        &mut confirmed
                    } else {
                        &mut refused
                    };
                    self.unconfirmed
                        .settle(confirm.tag, confirm.multiple, |seq| into.push(seq));
                }
                Ok(Some(_)) => {}
                Ok(None) => break Ok(confirmed.len() + refused.len()),
                Err(error) => break Err(error),
            }
        };
        let id = |seq: u64| {
            usize::try_from(seq - 1)
                .ok()
                .and_then(|at| self.ids.get(at).copied())
        };
        if let Some(seq) = confirmed
            .iter()
            .max()
            .copied()
            .and_then(id)
            .map(|id| id.seq)
        {
            self.shared.probe().confirmed(self.producer, seq);
        }
        let mut history = self.shared.history();
        confirmed
            .into_iter()
            .filter_map(id)
            .for_each(|id| history.confirm(id));
        refused
            .into_iter()
            .filter_map(id)
            .for_each(|id| history.refuse(id));
        result
    }
}

impl Probe {
    /// Confirms came, the last of them for this publish.
    fn confirmed(&mut self, producer: u32, seq: u64) {
        let producer = producer as usize;
        if self.from.get(producer).is_some_and(|from| seq >= *from) {
            self.confirmed_at[producer].get_or_insert_with(Instant::now);
        }
    }
}

/// Holds a producer to its rate.
#[derive(Debug)]
struct Pace {
    started: Instant,
    interval: Option<Duration>,
    sent: u32,
}

impl Pace {
    fn new(rate: Option<u32>) -> Self {
        let interval = rate.map(|rate| Duration::from_secs(1) / rate.max(1));
        Self {
            started: Instant::now(),
            interval,
            sent: 0,
        }
    }

    /// How many of `room` may be sent now.
    fn allowed(&mut self, room: usize) -> usize {
        let Some(interval) = self.interval else {
            return room;
        };
        let due = self.started.elapsed().as_nanos() / interval.as_nanos().max(1);
        let allowed = due.saturating_sub(self.sent.into()).min(room as u128);
        let allowed = u32::try_from(allowed).unwrap_or(u32::MAX);
        self.sent += allowed;
        allowed as usize
    }

    fn wait(&self) -> Duration {
        self.interval.map_or(STOP_CHECK_INTERVAL, |interval| {
            interval.min(STOP_CHECK_INTERVAL)
        })
    }
}

fn consume(shared: &Shared, queue: u32) {
    while !shared.stop_consumers.load(Ordering::SeqCst) {
        let mut seen = Vec::with_capacity(SEEN_BATCH_COUNT);
        let client = shared.consumer(queue);
        let result = consume_session(shared, client, queue, &mut seen);
        record(shared, &mut seen);
        if let Err(error) = result {
            shared.broken(client, &error);
            std::thread::sleep(RECONNECT_INTERVAL);
        }
    }
}

/// Consumes on one connection until it goes, the home changes or the consumer is told to stop.
fn consume_session(
    shared: &Shared,
    client: &Client,
    queue: u32,
    seen: &mut Vec<Seen>,
) -> Result<(), ClientError> {
    let session = shared.sessions.fetch_add(1, Ordering::SeqCst);
    let node = client.home();
    let mut connection = Connection::open(shared.options(node))?;
    let channel = connection.open_channel()?;
    connection.qos(channel, shared.spec.prefetch)?;
    let is_shared = shared.spec.is_shared(queue);
    connection.consume(channel, &shared.spec.queue_of(queue), false)?;
    client.arrived(node);
    while !shared.stop_consumers.load(Ordering::SeqCst) && client.is_at_home() {
        let mut last_tag = None;
        let mut incoming = connection.next(Some(STOP_CHECK_INTERVAL))?;
        while let Some(one) = incoming {
            if let Incoming::Delivery(delivery) = one {
                last_tag = Some(delivery.delivery_tag);
                let id = payload::decode(delivery.body);
                let redelivered = delivery.redelivered;
                // What is shared is as good as the producer's own.
                let of = id.filter(|_| is_shared).map_or(queue, |id| id.producer);
                seen.push(Seen {
                    id,
                    queue: of as usize,
                    session,
                    redelivered,
                });
            }
            incoming = if seen.len() < SEEN_BATCH_COUNT {
                connection.next_received()?
            } else {
                None
            };
        }
        // Recorded before it is acked, as a careful consumer works.
        record(shared, seen);
        if let Some(tag) = last_tag {
            connection.ack(channel, tag, true)?;
        }
    }
    client.left();
    connection.flush()?;
    connection.close()
}

fn record(shared: &Shared, seen: &mut Vec<Seen>) {
    if !seen.is_empty() {
        let mut history = shared.history();
        seen.drain(..).for_each(|one| history.see(one));
    }
}
