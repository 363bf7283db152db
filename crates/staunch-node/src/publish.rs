//! Stage 3 and 4 of the road: route a message, put it in its queues, and say what its confirm
//! waits for.

use bytes::Bytes;
use staunch_broker::{Arrival, Envelope, Overflow, QueueSettings, Route};
use staunch_log::{RecordMeta, StreamId};
use staunch_replica::EntryMessage;
use staunch_types::{
    BodyRef, ChannelNumber, Message, Operation, QueueId, Refusal, UnixMillis,
    properties::Properties, request::Publish,
};

use crate::{
    access::Examined,
    cluster::{Place, Publisher, Purpose},
    counts::ExchangeTally,
    expiry::message_ttl,
    node::Node,
    queues::QueueSlot,
    session::{SessionSlot, Sessions},
    tx::HeldPublish,
};

/// Copies that one request may always make, in bytes.
const FAN_OUT_SIZE_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// The last route found: publishers send runs of messages the same way.
#[derive(Debug)]
pub(crate) struct RouteCache {
    catalog_version: u64,
    vhost: Vec<u8>,
    exchange: Vec<u8>,
    routing_key: Vec<u8>,
    route: Route,
    /// Where the last of the broker's own messages went.
    pub(crate) onward: Route,
    /// What exchanges have passed on.
    pub(crate) tally: ExchangeTally,
    is_valid: bool,
}

/// What putting a message into its queues amounted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// All of it is in memory only, or there was no queue: confirmed at once.
    Nowhere,
    /// Some queue keeps it in the log: confirmed when that is on disk.
    InLog,
    /// It is on its way to queues that several nodes keep, or others: confirmed when they have it.
    Sent,
    /// Both.
    SentAndInLog,
    /// Some queue was full and refused it: not confirmed, whatever the others did.
    Refused,
}

impl Kept {
    /// What it amounts to with one more queue.
    fn with(self, enqueued: Enqueued) -> Self {
        match enqueued {
            Enqueued::InLog if self == Self::Nowhere => Self::InLog,
            Enqueued::InLog if self == Self::Sent => Self::SentAndInLog,
            Enqueued::InLog | Enqueued::InMemory | Enqueued::Gone => self,
            Enqueued::Refused => Self::Refused,
            Enqueued::Sent => self.and_sent(),
        }
    }
}

impl Kept {
    #[cold]
    fn and_sent(self) -> Self {
        match self {
            Self::Nowhere | Self::Sent => Self::Sent,
            Self::InLog | Self::SentAndInLog => Self::SentAndInLog,
            Self::Refused => Self::Refused,
        }
    }

    /// Whether what is on its way must be waited for.
    pub(crate) fn is_sent(self) -> bool {
        matches!(self, Self::Sent | Self::SentAndInLog)
    }
}

/// What putting a message into one queue amounted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enqueued {
    /// The queue keeps it in the log.
    InLog,
    /// The queue keeps it in memory.
    InMemory,
    /// The queue is full.
    Refused,
    /// There is no such queue any more.
    Gone,
    /// It is on its way to whoever serves the queue.
    Sent,
}

/// A message on its way into queues, with what each of them has to know of it.
pub(crate) struct Arriving<'a> {
    message: &'a Message,
    size_bytes: u32,
    body_size_bytes: u32,
    priority: u8,
    now: UnixMillis,
    /// Its own time to live.
    ttl_millis: Option<u64>,
    /// The stored form in memory, shared by all transient queues of the route.
    in_memory: Option<Bytes>,
    /// A queue that has it and whose consumers lag behind.
    lagging: Option<QueueId>,
    /// It is a copy that may have been handed out before (contract C8).
    pub(crate) redelivered: bool,
    /// How long the next queue holds it back, whatever it says itself.
    pub(crate) delay_millis: Option<u64>,
    /// Queues that are to hold out for a time.
    watched: Vec<QueueId>,
    /// Queues that it is on its way to.
    pub(crate) sent: Vec<QueueId>,
}

impl<'a> Arriving<'a> {
    pub(crate) fn new(message: &'a Message, now: UnixMillis) -> Self {
        let narrow = |size: usize| u32::try_from(size).expect("messages are below 4 GiB");
        let properties = Properties::from_validated(message.properties());
        let (priority, ttl_millis) = if properties.concerns_queues() {
            // Whether the expiration is a number was asked when it was published.
            let ttl_millis = message_ttl(properties).unwrap_or_default();
            (properties.priority().unwrap_or_default(), ttl_millis)
        } else {
            (0, None)
        };
        Self {
            message,
            size_bytes: narrow(message.stored_size_bytes()),
            body_size_bytes: narrow(message.body().len()),
            priority,
            now,
            ttl_millis,
            in_memory: None,
            lagging: None,
            redelivered: false,
            delay_millis: None,
            watched: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// What travels to the server of the queue in `slot`.
    pub(crate) fn entry_message(&mut self, slot: &mut QueueSlot) -> EntryMessage {
        let meta = self.arrival(&slot.settings).meta();
        let message = self.message;
        let stored = self
            .in_memory
            .get_or_insert_with(|| slot.arena.get_or_insert_default().store(message));
        EntryMessage {
            meta,
            stored: stored.clone(),
        }
    }

    fn arrival(&self, settings: &QueueSettings) -> Arrival {
        let ttl_millis = match (self.ttl_millis, settings.message_ttl_millis) {
            _ if self.delay_millis.is_some() => self.delay_millis,
            (Some(own), Some(of_queue)) => Some(own.min(of_queue)),
            (either, other) => either.or(other),
        };
        Arrival {
            body: BodyRef(0),
            size_bytes: self.size_bytes,
            body_size_bytes: self.body_size_bytes,
            expires_at: ttl_millis.map(|millis| self.now.after_millis(millis)),
            priority: self.priority,
            redelivered: self.redelivered,
        }
    }
}

impl Node {
    /// `basic.publish`.
    pub(crate) fn publish(&mut self, slot: SessionSlot, publish: Publish) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let channel = publish.channel;
        let Some(open) = session.channels.get_mut(&channel) else {
            return;
        };
        if open.is_refused {
            return;
        }
        open.counts.publish += 1;
        open.counts.numbered += u64::from(publish.seq.is_some());
        let (connection, opening) = (session.id, open.opening);
        let properties = Properties::from_validated(publish.message.properties());
        let is_usual =
            session.free_pass == self.epoch && open.tx.is_none() && properties.is_plain();
        let (seq, mandatory) = (publish.seq, publish.mandatory);
        let kept = if is_usual {
            self.publish_usual(slot, (channel, mandatory), &publish.message)
                .map(Some)
        } else {
            self.publish_examined(slot, publish)
        };
        match (seq, kept) {
            (_, Err(refusal)) => self.refuse(slot, channel, Operation::Publish, refusal),
            (None, _) | (_, Ok(None)) => {}
            (Some(seq), Ok(Some(Kept::Nowhere))) => {
                self.sessions.push_confirm(slot, channel, seq, seq);
            }
            (Some(seq), Ok(Some(Kept::InLog))) => {
                self.pending.push_confirm(slot, connection, channel, seq);
            }
            (Some(seq), Ok(Some(Kept::Refused))) => self.sessions.push_nack(slot, channel, seq),
            (Some(seq), Ok(Some(kept @ (Kept::Sent | Kept::SentAndInLog)))) => {
                let publisher = Publisher {
                    session: slot,
                    connection,
                    channel,
                    opening,
                    seq,
                };
                self.await_answers(Purpose::Publish(publisher), kept == Kept::SentAndInLog);
            }
        }
    }

    /// A publish about which there is nothing to ask.
    #[inline]
    fn publish_usual(
        &mut self,
        slot: SessionSlot,
        to: (ChannelNumber, bool),
        message: &Message,
    ) -> Result<Kept, Refusal> {
        self.check_size(message)?;
        self.route(slot, message, &[])?;
        self.check_fan_out(message)?;
        Ok(self.keep(slot, to, message, &[]))
    }

    /// A publish whose sender may not do everything, that is traced or part of a transaction, or
    /// whose properties bear on its way. None if the transaction holds it back.
    #[inline(never)]
    fn publish_examined(
        &mut self,
        slot: SessionSlot,
        publish: Publish,
    ) -> Result<Option<Kept>, Refusal> {
        let Publish {
            channel,
            mandatory,
            message,
            ..
        } = publish;
        let Examined { message, more_keys } = self.examine(slot, channel, message)?;
        self.check_size(&message)?;
        self.route(slot, &message, &more_keys)?;
        self.trace_publish(slot, channel, &message, &more_keys);
        self.check_fan_out(&message)?;
        let session = self.sessions.get(slot);
        let open = session.and_then(|session| session.channels.get(&channel));
        if open.is_none_or(|open| open.tx.is_none()) {
            let to = (channel, mandatory);
            return Ok(Some(self.keep(slot, to, &message, &more_keys)));
        }
        let Route {
            queues, delayed, ..
        } = &self.routes.route;
        let held = HeldPublish {
            message,
            mandatory,
            more_keys: more_keys.into(),
            queues: queues.as_slice().into(),
            delayed: delayed.as_slice().into(),
        };
        self.hold_publish(slot, channel, held);
        Ok(None)
    }

    /// Puts the message where its route leads, or gives it to whom else it is for.
    #[inline]
    pub(crate) fn keep(
        &mut self,
        slot: SessionSlot,
        (channel, mandatory): (ChannelNumber, bool),
        message: &Message,
        more_keys: &[Vec<u8>],
    ) -> Kept {
        let is_replied = !more_keys.is_empty() && self.deliver_replies(message, more_keys);
        if !self.routes.route.is_nowhere() {
            return self.enqueue_routed(slot, message);
        }
        if !is_replied {
            self.give_unroutable(slot, channel, mandatory, message.clone());
        }
        Kept::Nowhere
    }

    /// Refuses a message that fits in no file of the log, or whose dead letters might not.
    #[inline]
    fn check_size(&self, message: &Message) -> Result<(), Refusal> {
        let size_bytes = message.stored_size_bytes();
        if size_bytes <= self.message_size_bytes_max() {
            return Ok(());
        }
        let text = format!("message of {size_bytes} bytes does not fit in a file of the log");
        Err(Refusal::Precondition(text))
    }

    /// Finds the message's queues, which often are those of the message before.
    fn route(
        &mut self,
        slot: SessionSlot,
        message: &Message,
        more_keys: &[Vec<u8>],
    ) -> Result<(), Refusal> {
        let vhost = session_vhost(&self.sessions, slot);
        let version = self.catalog.version();
        if more_keys.is_empty() && self.routes.matches(version, vhost, message) {
            self.routes.count();
            return Ok(());
        }
        self.routes.is_valid = false;
        let more_keys: Vec<&[u8]> = more_keys.iter().map(Vec::as_slice).collect();
        let envelope = Envelope {
            more_keys: &more_keys,
            ..Envelope::of(message)
        };
        self.catalog
            .route(vhost, &envelope, &mut self.routes.route)?;
        self.routes.tally.turn_to(vhost, message.exchange());
        self.routes.count();
        // Headers can change the way a message takes, so those messages are routed one by one.
        if self.routes.route.is_cacheable && more_keys.is_empty() && !has_headers(message) {
            self.routes.remember(version, vhost, message);
        }
        Ok(())
    }

    /// Refuses a message that would take half the memory budget at once: every durable queue it
    /// is routed to gets its own copy in the log.
    #[inline]
    fn check_fan_out(&self, message: &Message) -> Result<(), Refusal> {
        let count = self.routes.route.queues.len();
        if count < 2 {
            return Ok(());
        }
        let size_bytes = message.stored_size_bytes();
        let limit = self.fan_out_size_bytes_max();
        if (size_bytes as u64).saturating_mul(count as u64) <= limit {
            return Ok(());
        }
        let text = format!("message of {size_bytes} bytes to {count} queues exceeds {limit} bytes");
        Err(Refusal::Precondition(text))
    }

    /// Bytes of copies that one request may make.
    pub(crate) fn fan_out_size_bytes_max(&self) -> u64 {
        FAN_OUT_SIZE_BYTES_MIN.max(self.config.memory_limit_size_bytes / 2)
    }

    /// Puts the message into every queue of the route cache.
    pub(crate) fn enqueue_routed(&mut self, session: SessionSlot, message: &Message) -> Kept {
        let mut kept = Kept::Nowhere;
        let mut arriving = Arriving::new(message, self.wall_now());
        for position in 0..self.routes.route.queues.len() {
            let id = self.routes.route.queues[position];
            kept = kept.with(self.enqueue(id, &mut arriving));
        }
        for position in 0..self.routes.route.delayed.len() {
            let (id, millis) = self.routes.route.delayed[position];
            kept = kept.with(self.hold_back(id, millis, &mut arriving));
        }
        if arriving.lagging.is_some()
            && let Some(session) = self.sessions.get_mut(session)
        {
            session.lagging = arriving.lagging;
        }
        if !arriving.watched.is_empty() {
            self.charge(session, &arriving.watched, arriving.body_size_bytes);
        }
        if self.dead_letters.has_refused() {
            self.publish_refused();
        }
        if kept.is_sent() {
            self.hold_publisher(session, &arriving.sent);
            if let Some(cluster) = &mut self.cluster {
                cluster.outboxes.last = arriving.sent;
            }
        }
        kept
    }

    /// Puts a message into one queue, unless that is full and refuses it.
    pub(crate) fn enqueue(&mut self, id: QueueId, arriving: &mut Arriving<'_>) -> Enqueued {
        let Some(slot) = self.queues.get_mut(id) else {
            return Enqueued::Gone;
        };
        if slot.is_watched {
            arriving.watched.push(id);
        }
        if !matches!(slot.place, Place::Here) {
            return self.send_off(id, arriving);
        }
        let overflow = slot.settings.overflow;
        if overflow != Overflow::DropHead && slot.queue.is_full_for(arriving.body_size_bytes) {
            if overflow == Overflow::RejectPublishDlx {
                self.dead_letters
                    .refuse(id, arriving.message, arriving.redelivered);
            }
            return Enqueued::Refused;
        }
        let mut arrival = arriving.arrival(&slot.settings);
        let message = arriving.message;
        let enqueued = if slot.is_durable {
            let index = slot.queue.next_index();
            let meta = RecordMeta(arrival.meta());
            arrival.body = self
                .store
                .append_message(StreamId(id.0), index.0, meta, message);
            let enqueued = slot.queue.enqueue(arrival);
            assert_eq!(enqueued, index, "the log and the queue agree on the index");
            self.has_open_messages = true;
            Enqueued::InLog
        } else {
            let stored = arriving
                .in_memory
                .get_or_insert_with(|| slot.arena.get_or_insert_default().store(message))
                .clone();
            arrival.body = self.bodies.insert(stored);
            slot.queue.enqueue(arrival);
            Enqueued::InMemory
        };
        if slot.lags() {
            arriving.lagging = Some(id);
        }
        if !slot.is_dirty {
            slot.is_dirty = true;
            self.dirty.push(id);
        }
        enqueued
    }
}

impl QueueSlot {
    /// Gives back memory that is kept for speed, if the queue is empty; bodies on their way to
    /// other nodes have an arena that nobody waits for.
    pub(crate) fn rest(&mut self) {
        if self.is_empty() || !matches!(self.place, Place::Here) {
            self.arena = None;
        }
        if self.is_empty() {
            self.queue.trim();
        }
    }

    /// Whether it holds no message.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.message_count() == 0
    }
}

impl RouteCache {
    /// `seed` decides random choices of exchanges.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            catalog_version: 0,
            vhost: Vec::new(),
            exchange: Vec::new(),
            routing_key: Vec::new(),
            route: Route::new(seed),
            onward: Route::new(seed),
            tally: ExchangeTally::default(),
            is_valid: false,
        }
    }

    fn matches(&self, version: u64, vhost: &[u8], message: &Message) -> bool {
        self.is_valid
            && self.catalog_version == version
            && self.routing_key == message.routing_key()
            && self.exchange == message.exchange()
            && self.vhost == vhost
            && !has_headers(message)
    }

    /// One more message goes this way.
    #[inline]
    fn count(&mut self) {
        self.tally.count(self.route.queues.len());
    }

    /// Takes another answer's queues in place of the last one's.
    pub(crate) fn replace(&mut self, queues: Vec<QueueId>, delayed: &[(QueueId, u64)]) {
        self.is_valid = false;
        self.route.queues = queues;
        self.route.delayed.clear();
        self.route.delayed.extend_from_slice(delayed);
    }

    /// The queues it leads to at once.
    pub(crate) fn queues(&self) -> &[QueueId] {
        &self.route.queues
    }

    fn remember(&mut self, version: u64, vhost: &[u8], message: &Message) {
        self.catalog_version = version;
        self.vhost.clear();
        self.vhost.extend_from_slice(vhost);
        self.exchange.clear();
        self.exchange.extend_from_slice(message.exchange());
        self.routing_key.clear();
        self.routing_key.extend_from_slice(message.routing_key());
        self.is_valid = true;
    }
}

fn session_vhost(sessions: &Sessions, slot: SessionSlot) -> &[u8] {
    sessions
        .get(slot)
        .map_or(&[], |session| session.vhost.as_bytes())
}

#[inline]
fn has_headers(message: &Message) -> bool {
    Properties::from_validated(message.properties()).has_headers()
}
