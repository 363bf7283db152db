//! What the world knows and no client or node does: the history, the model of the definitions,
//! every payload ever published, and which delivery on a channel is which emission.

use std::collections::{BTreeMap, VecDeque};

use staunch_types::{ChannelNumber, ConnectionId, MessageIndex, QueueId};

use crate::{
    coverage::Coverage,
    definitions::{Change, Definitions},
    history::{
        ChannelKey, Commit, Emission, Fact, History, MessageId, QueueRef, Removal, RemovalKind,
        Stamp,
    },
    payload::Payload,
    register::Operation,
    schedule::MILLIS,
    topology::Topology,
    trace::Trace,
};

/// A publish and the interval in which it was under way.
#[derive(Clone, Debug)]
pub struct Published {
    /// What was sent.
    pub payload: Payload,
    /// Over which connection.
    pub connection: ConnectionId,
    /// When.
    pub sent: Stamp,
    /// The node knew all that was defined before.
    pub known: Stamp,
    /// When it could not reach a queue any more: its confirm, or the end of its connection.
    pub over: Option<Stamp>,
}

/// When a queue's server handed out a message.
#[derive(Clone, Copy, Debug)]
struct HandedOut {
    at: Stamp,
    /// It knew all that was defined before.
    known: Stamp,
}

/// Something that waits for an answer, to be given up when the node forgets the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orphan {
    /// A change of the definitions.
    Operation(Operation),
    /// A purge or delete.
    Removal(Removal),
}

/// The witness.
#[derive(Debug)]
pub struct Witness {
    /// What clients saw.
    pub history: History,
    /// What may exist.
    pub definitions: Definitions,
    /// Counters.
    pub coverage: Coverage,
    /// Lines.
    pub trace: Trace,
    /// Everything published; the place is the id.
    pub published: Vec<Published>,
    /// Declarations under way, and when they were sent.
    declaring: BTreeMap<Operation, (QueueRef, u64)>,
    /// Declarations that were answered: when they were sent, and when that was heard.
    declared: BTreeMap<QueueRef, Vec<(u64, Stamp)>>,
    emitted: BTreeMap<(ConnectionId, ChannelNumber), Vec<Emission>>,
    /// What is on its way to clients of other nodes than the one that handed it out.
    under_way: BTreeMap<(ConnectionId, QueueId, MessageIndex), VecDeque<HandedOut>>,
    orphans: BTreeMap<ConnectionId, Vec<Orphan>>,
    /// What is under way in a cluster although its connection is gone.
    lingering: Vec<Orphan>,
    /// How much of what was defined each node knows; one that stands alone knows all.
    knowledge: Vec<Option<Stamp>>,
    open_publishes: BTreeMap<ConnectionId, Vec<MessageId>>,
    next_emission: u64,
    next_channel: u64,
    next_removal: u64,
    next_commit: u64,
}

impl Witness {
    /// Nothing happened yet.
    pub fn new(topology: Topology, trace: Trace, nodes: usize) -> Self {
        let mut history = History::new(topology.queue_facts());
        history.is_cluster = nodes > 1;
        Self {
            history,
            definitions: Definitions::new(topology),
            coverage: Coverage::default(),
            trace,
            published: Vec::new(),
            declaring: BTreeMap::new(),
            declared: BTreeMap::new(),
            emitted: BTreeMap::new(),
            under_way: BTreeMap::new(),
            orphans: BTreeMap::new(),
            lingering: Vec::new(),
            knowledge: vec![None; nodes],
            open_publishes: BTreeMap::new(),
            next_emission: 0,
            next_channel: 0,
            next_removal: 0,
            next_commit: 0,
        }
    }

    /// A trace line at the current time.
    pub fn line(&mut self, text: std::fmt::Arguments<'_>) {
        self.trace.line(self.history.now_nanos, text);
    }

    /// A line for verbose replays only.
    pub fn detail(&mut self, text: std::fmt::Arguments<'_>) {
        self.trace.detail(self.history.now_nanos, text);
    }

    /// The protocol was broken in a way that needs no history.
    pub fn protocol_broken(&mut self, what: String) {
        self.line(format_args!("PROTOCOL BROKEN {what}"));
        self.history.push(Fact::ProtocolBroken { what });
    }

    /// A key for a channel's new life.
    pub fn new_channel(&mut self) -> ChannelKey {
        self.next_channel += 1;
        ChannelKey(self.next_channel)
    }

    /// Registers a publish that is about to be sent.
    ///
    /// # Panics
    /// If `payload.id` is not [`Self::next_message`].
    pub fn publish(&mut self, payload: Payload, connection: ConnectionId, fact: Fact) {
        assert_eq!(payload.id, self.next_message(), "ids are places");
        let sent = self.history.push(fact);
        let known = self
            .known_at(connection)
            .map_or(sent, |known| known.min(sent));
        self.open_publishes
            .entry(connection)
            .or_default()
            .push(payload.id);
        self.published.push(Published {
            payload,
            connection,
            sent,
            known,
            over: None,
        });
    }

    /// A client sends a commit.
    pub fn begin_commit(&mut self, messages: Vec<MessageId>) -> Commit {
        self.next_commit += 1;
        let commit = Commit(self.next_commit);
        self.history.push(Fact::Committing { commit, messages });
        commit
    }

    /// The id of the next publish.
    pub fn next_message(&self) -> MessageId {
        MessageId(self.published.len() as u64)
    }

    /// The publish of that id.
    pub fn published(&self, id: MessageId) -> Option<&Published> {
        self.published.get(usize::try_from(id.0).ok()?)
    }

    /// A publish was confirmed or refused.
    pub fn publish_over(&mut self, id: MessageId) {
        let now = self.history.next_stamp();
        if let Some(published) = self.published.get_mut(index(id)) {
            published.over.get_or_insert(now);
        }
    }

    /// A client sends a change of the definitions.
    pub fn begin_change(&mut self, change: Change) -> Operation {
        let now = self.history.next_stamp();
        let operation = self.definitions.begin(change, now);
        if let Change::DeclareQueue(queue) = change {
            let sent = self.history.now_nanos;
            self.declaring.insert(operation, (queue, sent));
        }
        self.history.push(Fact::Defined {
            operation: operation.0,
            success: None,
        });
        self.detail(format_args!("{operation:?} {change:?}"));
        operation
    }

    /// It was answered.
    pub fn finish_change(&mut self, operation: Operation, success: bool) {
        let now = self.history.push(Fact::Defined {
            operation: operation.0,
            success: Some(success),
        });
        self.definitions.finish(operation, success, now);
        let declaring = self.declaring.remove(&operation);
        if let Some((queue, sent)) = declaring.filter(|_| success) {
            self.declared.entry(queue).or_default().push((sent, now));
        }
    }

    /// Whether a queue that was seen to be gone, by a question asked at `from`, had been declared
    /// so shortly before that it cannot have expired.
    pub fn is_gone_early(&self, queue: QueueRef, from: Stamp) -> bool {
        let facts = &self.definitions.topology().queues[queue.0];
        // A declaration of a quorum queue that is there does not count as use (RabbitMQ).
        let Some(lives_millis) = facts.expires_millis.filter(|_| !facts.is_quorum) else {
            return false;
        };
        let now = self.history.now_nanos + self.history.clock_slack_nanos;
        let mut declared = self.declared.get(&queue).into_iter().flatten();
        declared.any(|(sent, heard)| *heard < from && now < sent + lives_millis * MILLIS)
    }

    /// A client sends a purge or delete.
    pub fn begin_removal(&mut self, queue: QueueRef, kind: RemovalKind) -> Removal {
        self.next_removal += 1;
        let removal = Removal(self.next_removal);
        self.history.push(Fact::Removing {
            removal,
            queue,
            kind,
        });
        removal
    }

    /// A connection's client is gone with something unanswered.
    pub fn orphan(&mut self, connection: ConnectionId, orphan: Orphan) {
        self.orphans.entry(connection).or_default().push(orphan);
    }

    /// The node has forgotten the connection: nothing sent over it has an effect from now on.
    pub fn connection_over(&mut self, connection: ConnectionId) {
        let now = self.history.next_stamp();
        let orphans = self.orphans.remove(&connection).unwrap_or_default();
        if self.is_cluster() {
            // Other nodes may have heard of it and not done it yet.
            self.lingering.extend(orphans);
        } else {
            for orphan in orphans {
                self.abandon(orphan, now);
            }
        }
        for id in self.open_publishes.remove(&connection).unwrap_or_default() {
            self.published[index(id)].over.get_or_insert(now);
        }
    }

    fn abandon(&mut self, orphan: Orphan, now: Stamp) {
        match orphan {
            Orphan::Operation(operation) => {
                self.declaring.remove(&operation);
                self.definitions.abandon(operation, now);
            }
            Orphan::Removal(removal) => {
                self.history.push(Fact::RemovalOver {
                    removal,
                    done: false,
                });
            }
        }
    }

    fn is_cluster(&self) -> bool {
        self.knowledge.len() > 1
    }

    /// A node knows what was defined before.
    pub fn node_knows(&mut self, node: usize, before: Option<Stamp>) {
        self.knowledge[node] = before;
    }

    /// What the node of a connection knows, if that is not all.
    fn known_at(&self, connection: ConnectionId) -> Option<Stamp> {
        self.knowledge[self.node_of(connection)]
    }

    fn node_of(&self, connection: ConnectionId) -> usize {
        let node = connection.0 % self.knowledge.len() as u64;
        usize::try_from(node).expect("there are few nodes")
    }

    /// A node is gone, and with it its connections.
    pub fn connections_over(&mut self, of_node: impl Fn(ConnectionId) -> bool) {
        let mut connections: Vec<ConnectionId> = self.orphans.keys().copied().collect();
        connections.extend(self.open_publishes.keys());
        connections.retain(|connection| of_node(*connection));
        for connection in connections {
            self.connection_over(connection);
        }
    }

    /// The node starts a channel: its delivery tags begin anew.
    pub fn channel_opened(&mut self, connection: ConnectionId, channel: ChannelNumber) {
        self.emitted.insert((connection, channel), Vec::new());
    }

    /// The node emitted a delivery.
    pub fn emit(&mut self, connection: ConnectionId, delivery: &staunch_types::Delivery) {
        self.next_emission += 1;
        let emission = Emission(self.next_emission);
        self.emitted
            .entry((connection, delivery.channel))
            .or_default()
            .push(emission);
        let Some(id) = crate::payload::id_of(delivery.message.properties()) else {
            let what = format!(
                "queue id {} emitted a message without a mark",
                delivery.queue
            );
            return self.protocol_broken(what);
        };
        let way = (connection, delivery.queue, delivery.index);
        let handed_out = self.under_way.get_mut(&way);
        let handed_out = handed_out.and_then(VecDeque::pop_front);
        let HandedOut { at, known } = handed_out.unwrap_or_else(|| {
            let at = self.history.next_stamp();
            let known = self.known_at(connection).map_or(at, |known| known.min(at));
            HandedOut { at, known }
        });
        let node = self.node_of(connection);
        self.history.push(Fact::Emitted {
            emission,
            node,
            queue_id: delivery.queue.0,
            index: delivery.index.0,
            id,
            redelivered: delivery.redelivered,
            handed_out: at,
            known,
        });
    }

    /// A node hands out a message to a client of another one.
    pub fn hand_out(
        &mut self,
        node: usize,
        connection: ConnectionId,
        delivery: &staunch_types::Delivery,
    ) {
        let at = self.history.next_stamp();
        let known = self.knowledge[node].map_or(at, |known| known.min(at));
        let way = (connection, delivery.queue, delivery.index);
        let under_way = self.under_way.entry(way).or_default();
        under_way.push_back(HandedOut { at, known });
    }

    /// The emission behind a delivery tag.
    pub fn emission(&self, connection: ConnectionId, channel: u16, tag: u64) -> Option<Emission> {
        let emitted = self.emitted.get(&(connection, ChannelNumber(channel)))?;
        emitted
            .get(usize::try_from(tag.checked_sub(1)?).ok()?)
            .copied()
    }

    /// Says where every message had to go, now that everything is known.
    pub fn settle_routes(&mut self) {
        for published in &self.published {
            let Payload {
                id,
                exchange,
                key,
                delay_millis,
                ..
            } = &published.payload;
            // What is delayed is routed when that is over, whenever the node comes to it.
            let over = published.over.filter(|_| delay_millis.is_none());
            let route = self.definitions.route(exchange, key, published.known, over);
            let must = route.must.iter().copied().collect();
            let may = route.may.difference(&route.must).copied().collect();
            self.history.push(Fact::Routed { id: *id, must, may });
        }
    }

    /// Every fact about the message that `text` names.
    pub fn story(&self, text: &str) -> Vec<String> {
        let number = text
            .split("message")
            .nth(1)
            .and_then(|rest| {
                rest.split(|c: char| !c.is_ascii_digit())
                    .find(|part| !part.is_empty())
            })
            .and_then(|digits| digits.parse().ok());
        let Some(id) = number.map(MessageId) else {
            return Vec::new();
        };
        let Some(published) = self.published(id) else {
            return Vec::new();
        };
        let mut lines = vec![format!("{published:?}")];
        let mut emissions = std::collections::BTreeSet::new();
        for (stamp, fact) in self.history.iter() {
            let tells = match fact {
                Fact::Published { id: other, .. }
                | Fact::Routed { id: other, .. }
                | Fact::ConfirmSent { id: other, .. }
                | Fact::Returned { id: other }
                | Fact::Received { id: other, .. } => *other == id,
                Fact::Emitted {
                    id: other,
                    emission,
                    ..
                } if *other == id => emissions.insert(*emission),
                Fact::Settled { emission, .. } => emissions.contains(emission),
                Fact::Crash | Fact::Removing { .. } | Fact::RemovalOver { .. } => true,
                _ => false,
            };
            if tells {
                lines.push(format!("  {:>6} {fact:?}", stamp.0));
            }
        }
        lines
    }
}

fn index(id: MessageId) -> usize {
    usize::try_from(id.0).expect("ids are places in a list")
}
