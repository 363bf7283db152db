//! Stage 3 and 4 of the road: route a message, put it in its queues, and say what its confirm
//! waits for.

use staunch_broker::{Arrival, Routed};
use staunch_log::{RecordMeta, StreamId};
use staunch_types::{
    BodyRef, Message, Operation, QueueId, Refusal, properties::Properties, request::Publish,
};

use crate::{
    node::Node,
    queues::QueueSlot,
    session::{SessionSlot, Sessions},
    tx::HeldPublish,
};

/// Copies of one message that are always allowed, in bytes.
const FAN_OUT_SIZE_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// The last route found: publishers send runs of messages the same way.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    catalog_version: u64,
    vhost: Vec<u8>,
    exchange: Vec<u8>,
    routing_key: Vec<u8>,
    queues: Vec<QueueId>,
    is_valid: bool,
}

/// What putting a message into its queues amounted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// All of it is in memory only, or there was no queue: confirmed at once.
    Nowhere,
    /// Some queue keeps it in the log: confirmed when that is on disk.
    InLog,
}

impl Node {
    /// `basic.publish`.
    pub(crate) fn publish(&mut self, slot: SessionSlot, publish: Publish) {
        let Publish {
            channel,
            seq,
            mandatory,
            mut message,
        } = publish;
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let Some(open) = session.channels.get(&channel) else {
            return;
        };
        if open.is_refused {
            return;
        }
        let (connection, is_in_tx) = (session.id, open.tx.is_some());
        if !Properties::from_validated(message.properties()).is_plain() {
            match self.examine(slot, channel, message) {
                Ok(examined) => message = examined,
                Err(refusal) => return self.refuse(slot, channel, Operation::Publish, refusal),
            }
        }
        let size_bytes = message.stored_size_bytes();
        if size_bytes > self.store.config().payload_size_bytes_max() {
            let text = format!("message of {size_bytes} bytes does not fit in a file of the log");
            let refusal = Refusal::Precondition(text);
            return self.refuse(slot, channel, Operation::Publish, refusal);
        }
        let mut queues = std::mem::take(&mut self.routes.queues);
        let routed = self.route(slot, &message, &mut queues);
        self.routes.queues = queues;
        let routed = routed.and_then(|routed| self.check_fan_out(size_bytes).map(|()| routed));
        let kept = match routed {
            Err(refusal) => {
                return self.refuse(slot, channel, Operation::Publish, refusal);
            }
            Ok(_) if is_in_tx => {
                let queues = self.routes.queues.as_slice().into();
                let held = HeldPublish {
                    message,
                    mandatory,
                    queues,
                };
                return self.hold_publish(slot, channel, held);
            }
            Ok(Routed::Nowhere) => {
                self.give_unroutable(slot, channel, mandatory, message);
                Kept::Nowhere
            }
            Ok(Routed::Queues) => self.enqueue_routed(slot, &message),
        };
        match (seq, kept) {
            (None, _) => {}
            (Some(seq), Kept::Nowhere) => self.sessions.push_confirm(slot, channel, seq, seq),
            (Some(seq), Kept::InLog) => {
                self.pending.push_confirm(slot, connection, channel, seq);
            }
        }
    }

    /// Finds the message's queues; `queues` holds the last answer, which often is this one.
    fn route(
        &mut self,
        slot: SessionSlot,
        message: &Message,
        queues: &mut Vec<QueueId>,
    ) -> Result<Routed, Refusal> {
        let vhost = session_vhost(&self.sessions, slot);
        let version = self.catalog.version();
        if self.routes.matches(version, vhost, message) {
            return Ok(if queues.is_empty() {
                Routed::Nowhere
            } else {
                Routed::Queues
            });
        }
        queues.clear();
        self.routes.is_valid = false;
        let routed = self.catalog.route(vhost, message, queues)?;
        // Headers can change the way a message takes, so those messages are routed one by one.
        if !has_headers(message) {
            self.routes.remember(version, vhost, message);
        }
        Ok(routed)
    }

    /// Refuses a message that would take half the memory budget at once: every durable queue it
    /// is routed to gets its own copy in the log.
    fn check_fan_out(&self, size_bytes: usize) -> Result<(), Refusal> {
        let count = self.routes.queues.len();
        let limit = FAN_OUT_SIZE_BYTES_MIN.max(self.config.memory_limit_size_bytes / 2);
        if count < 2 || (size_bytes as u64).saturating_mul(count as u64) <= limit {
            return Ok(());
        }
        let text = format!("message of {size_bytes} bytes to {count} queues exceeds {limit} bytes");
        Err(Refusal::Precondition(text))
    }

    /// Puts the message into every queue of the route cache.
    pub(crate) fn enqueue_routed(&mut self, session: SessionSlot, message: &Message) -> Kept {
        let mut kept = Kept::Nowhere;
        // The stored form in memory, shared by all transient queues of the route.
        let mut in_memory = None;
        let size = u32::try_from(message.stored_size_bytes()).expect("messages are below 4 GiB");
        let body_size_bytes =
            u32::try_from(message.body().len()).expect("messages are below 4 GiB");
        for position in 0..self.routes.queues.len() {
            let id = self.routes.queues[position];
            let Some(slot) = self.queues.get_mut(id) else {
                continue;
            };
            let mut arrival = Arrival {
                body: BodyRef(0),
                size_bytes: size,
                body_size_bytes,
                expires_at: None,
                priority: 0,
            };
            if slot.is_durable {
                let stream = StreamId(id.0);
                let index = slot.queue.next_index();
                let meta = RecordMeta(arrival.meta());
                arrival.body = self.store.append_message(stream, index.0, meta, message);
                let enqueued = slot.queue.enqueue(arrival);
                assert_eq!(enqueued, index, "the log and the queue agree on the index");
                self.has_open_messages = true;
                kept = Kept::InLog;
            } else {
                let stored = in_memory
                    .get_or_insert_with(|| slot.arena.get_or_insert_default().store(message))
                    .clone();
                arrival.body = self.bodies.insert(stored);
                slot.queue.enqueue(arrival);
            }
            if slot.lags()
                && let Some(session) = self.sessions.get_mut(session)
            {
                session.lagging = Some(id);
            }
            if !slot.is_dirty {
                slot.is_dirty = true;
                self.dirty.push(id);
            }
        }
        kept
    }
}

impl QueueSlot {
    /// Gives back memory that an idle queue keeps for speed.
    pub(crate) fn rest(&mut self) {
        self.arena = None;
        self.queue.trim();
    }

    /// Whether it holds no message.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.message_count() == 0
    }
}

impl RouteCache {
    fn matches(&self, version: u64, vhost: &[u8], message: &Message) -> bool {
        self.is_valid
            && self.catalog_version == version
            && self.routing_key == message.routing_key()
            && self.exchange == message.exchange()
            && self.vhost == vhost
            && !has_headers(message)
    }

    /// Takes another answer's queues in place of the last one's.
    pub(crate) fn replace(&mut self, queues: Vec<QueueId>) {
        self.is_valid = false;
        self.queues = queues;
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

fn has_headers(message: &Message) -> bool {
    Properties::from_validated(message.properties())
        .headers()
        .is_some()
}
