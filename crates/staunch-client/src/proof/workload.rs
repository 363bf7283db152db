//! Confirmed publishing and consuming on a broker that comes and goes.
//!
//! Each producer has its own queue; the queues without a consumer are the backlog, because what
//! has been consumed cannot be lost any more and would hide a loss. Every thread connects again
//! when its connection goes, and takes up a new session. What was not confirmed by then stays
//! unknown: it may come or not.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use staunch_types::properties::PropertiesBuilder;

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
}

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
        }
    }
}

/// What threads and their owner share.
#[derive(Debug)]
struct Shared {
    options: ConnectOptions,
    spec: WorkloadSpec,
    history: Mutex<History>,
    stop_producers: AtomicBool,
    stop_consumers: AtomicBool,
    sessions: AtomicU64,
    /// What the threads found wrong besides a lost connection.
    refusals: Mutex<Vec<String>>,
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
        let mut history = History::default();
        let queue_count = spec.consumed_producers + spec.backlog_producers;
        let mut control = Connection::open(options)?;
        let channel = control.open_channel()?;
        for queue in 0..queue_count {
            control.queue_delete(channel, &queue_name(queue))?;
            control.queue_declare(channel, &queue_spec(spec, queue))?;
            history.add_producer(queue as usize);
        }
        control.close()?;
        let shared = Arc::new(Shared {
            options: options.clone(),
            spec: spec.clone(),
            history: Mutex::new(history),
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
    pub fn drain(mut self, idle_max: Duration, mut each: impl FnMut(Progress)) -> Verdict {
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
            let mut connection = Connection::open(&self.shared.options)?;
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

impl Shared {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("recording does not panic")
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

fn queue_name(queue: u32) -> String {
    format!("staunch-proof-{queue}")
}

fn queue_spec(spec: &WorkloadSpec, queue: u32) -> QueueSpec {
    let mut declared = QueueSpec::durable(&queue_name(queue));
    if let Some(kind) = &spec.queue_type {
        let table = staunch_types::field_table::TableBuilder::new();
        declared.arguments = table.longstr("x-queue-type", kind).build();
    }
    declared
}

fn produce(shared: &Shared, producer: u32) {
    while !shared.stop_producers.load(Ordering::SeqCst) {
        if let Err(error) = produce_session(shared, producer) {
            shared.note(&error);
            std::thread::sleep(RECONNECT_INTERVAL);
        }
    }
}

/// Publishes on one connection until it goes or the producer is told to stop.
fn produce_session(shared: &Shared, producer: u32) -> Result<(), ClientError> {
    let mut connection = Connection::open(&shared.options)?;
    let channel = connection.open_channel()?;
    connection.confirm_select(channel)?;
    let properties = PropertiesBuilder::new()
        .delivery_mode(2)
        .build()
        .expect("a mode alone is never too long");
    let template =
        connection.publish_template(channel, "", &queue_name(producer), false, &properties)?;
    let mut session = PublishSession {
        shared,
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
    session.connection.close()
}

/// A producer on one connection.
struct PublishSession<'a> {
    shared: &'a Shared,
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
        while !self.shared.stop_producers.load(Ordering::SeqCst) {
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
        let result = consume_session(shared, queue, &mut seen);
        record(shared, &mut seen);
        if let Err(error) = result {
            shared.note(&error);
            std::thread::sleep(RECONNECT_INTERVAL);
        }
    }
}

/// Consumes on one connection until it goes or the consumer is told to stop.
fn consume_session(shared: &Shared, queue: u32, seen: &mut Vec<Seen>) -> Result<(), ClientError> {
    let session = shared.sessions.fetch_add(1, Ordering::SeqCst);
    let mut connection = Connection::open(&shared.options)?;
    let channel = connection.open_channel()?;
    connection.qos(channel, shared.spec.prefetch)?;
    connection.consume(channel, &queue_name(queue), false)?;
    while !shared.stop_consumers.load(Ordering::SeqCst) {
        let mut last_tag = None;
        let mut incoming = connection.next(Some(STOP_CHECK_INTERVAL))?;
        while let Some(one) = incoming {
            if let Incoming::Delivery(delivery) = one {
                last_tag = Some(delivery.delivery_tag);
                let id = payload::decode(delivery.body);
                let redelivered = delivery.redelivered;
                seen.push(Seen {
                    id,
                    queue: queue as usize,
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
    connection.flush()?;
    connection.close()
}

fn record(shared: &Shared, seen: &mut Vec<Seen>) {
    if !seen.is_empty() {
        let mut history = shared.history();
        seen.drain(..).for_each(|one| history.see(one));
    }
}
