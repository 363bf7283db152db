//! The machine itself: its parts, and the order of work in a drain.

use std::{collections::BTreeSet, time::Duration};

use staunch_broker::{Catalog, PasswordHash};
use staunch_log::{ChunkId, Store};
use staunch_types::{ConnectionId, Event, Name, QueueId, Request, Timestamp};

use crate::{
    access::Epoch,
    alarm::Alarms,
    cluster::Cluster,
    config::NodeConfig,
    consumers::Consumers,
    dead_letter::DeadLetters,
    deliver::Fetches,
    expiry::Deadlines,
    input::{Input, Output},
    limits::Census,
    login::decoy,
    notices::OwnMessages,
    pace::Pace,
    pending::{CountsDue, Pending, PendingList},
    publish::RouteCache,
    queues::Queues,
    restraint::Restraints,
    retire::Housekeeping,
    room::Rooms,
    sample::Ledger,
    session::{SessionSlot, Sessions},
    transient::TransientBodies,
};

/// Bytes on their way to disk above which no more requests should be handled.
const UNWRITTEN_SIZE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long records that nobody waits for may gather before they are written.
const GATHER_MAX: Duration = Duration::from_millis(5);
/// How many bytes of them.
const GATHER_SIZE_BYTES_MAX: usize = 256 * 1024;

/// How often a drain serves queues that got dead letters of others.
const DEAD_LETTER_ROUNDS_MAX: usize = 8;

/// A node: catalog, queues, store and sessions behind one closed set of inputs and outputs.
///
/// Use: any number of [`Node::handle`], one [`Node::finish_drain`], then [`Node::poll_output`]
/// until there is none.
pub struct Node {
    pub(crate) config: NodeConfig,
    /// The time of the last input or drain.
    pub(crate) now: Timestamp,
    pub(crate) catalog: Catalog,
    pub(crate) queues: Queues,
    pub(crate) consumers: Consumers,
    pub(crate) sessions: Sessions,
    pub(crate) store: Store,
    pub(crate) bodies: TransientBodies,
    pub(crate) pending: PendingList,
    /// Declarations to be answered when this drain has handed out what it can.
    pub(crate) counts_due: Vec<CountsDue>,
    /// Messages have been appended since the last seal: their bodies cannot be read yet.
    pub(crate) has_open_messages: bool,
    /// Since when something is unwritten that nobody waits for.
    pub(crate) unwritten_since: Option<Timestamp>,
    /// Last chunk sealed: what this drain waits for if it wrote nothing itself.
    pub(crate) last_sealed: ChunkId,
    /// Queues with something to hand out or to reserve.
    pub(crate) dirty: Vec<QueueId>,
    /// Sessions that can take more again, whose queues are served in turn.
    pub(crate) relieved: Vec<SessionSlot>,
    /// Queues with settlements that are not in the log yet.
    pub(crate) unlogged: Vec<QueueId>,
    /// Queues used since the last tick, to be looked at when they may be idle.
    pub(crate) active: Vec<QueueId>,
    pub(crate) routes: RouteCache,
    pub(crate) fetches: Fetches,
    pub(crate) deadlines: Deadlines,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) rooms: Rooms,
    pub(crate) pace: Pace,
    /// Queues with an objective, and who has to wait for them.
    pub(crate) restraints: Restraints,
    pub(crate) alarms: Alarms,
    pub(crate) housekeeping: Housekeeping,
    /// Counts changes of what users may do and of what is traced.
    pub(crate) epoch: Epoch,
    /// Virtual hosts whose messages are traced.
    pub(crate) traced: BTreeSet<Name>,
    pub(crate) census: Census,
    /// What has changed since the last sample.
    pub(crate) ledger: Ledger,
    /// What a login as somebody unknown is checked against.
    pub(crate) decoy: PasswordHash,
    /// Passwords that are being checked, or wait for it.
    pub(crate) verifications_waiting: usize,
    /// Whose request is being handled, if it is not a publish or a settlement.
    pub(crate) acting: Option<SessionSlot>,
    /// A request is handled that has waited for what was published before it.
    pub(crate) is_asked_again: bool,
    /// Events and copies that are to be put into queues.
    pub(crate) own_messages: OwnMessages,
    /// Bytes that transactions hold back.
    pub(crate) tx_size_bytes: u64,
    /// Gets from queues with partitions so far: each begins with another one.
    pub(crate) gets_of_partitions: usize,
    /// Secrets made so far.
    pub(crate) secret_count: u64,
    pub(crate) outputs: std::collections::VecDeque<Output>,
    pub(crate) stopping: Option<Stopping>,
    /// The other nodes; none: this one stands alone.
    pub(crate) cluster: Option<Box<Cluster>>,
}

/// How far a clean stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopping {
    /// Clients have been told; connections close until the given time.
    Closing(Timestamp),
    /// The last records are on their way to disk.
    Flushing(Timestamp),
    /// So is the last checkpoint.
    Checkpointing(Timestamp),
    /// [`Output::Stopped`] is out.
    Done,
}

impl Node {
    pub(crate) fn with_parts(config: NodeConfig, catalog: Catalog, store: Store) -> Self {
        let decoy = decoy(config.password_hashing, config.seed);
        Self {
            routes: RouteCache::new(config.seed),
            ledger: Ledger::default(),
            config,
            now: Timestamp::default(),
            catalog,
            queues: Queues::default(),
            consumers: Consumers::default(),
            sessions: Sessions::default(),
            store,
            bodies: TransientBodies::default(),
            pending: PendingList::default(),
            counts_due: Vec::new(),
            has_open_messages: false,
            unwritten_since: None,
            last_sealed: ChunkId::default(),
            dirty: Vec::new(),
            relieved: Vec::new(),
            unlogged: Vec::new(),
            active: Vec::new(),
            fetches: Fetches::default(),
            deadlines: Deadlines::default(),
            dead_letters: DeadLetters::default(),
            rooms: Rooms::default(),
            pace: Pace::default(),
            restraints: Restraints::default(),
            alarms: Alarms::default(),
            housekeeping: Housekeeping::default(),
            epoch: Epoch::FIRST,
            traced: BTreeSet::new(),
            census: Census::default(),
            decoy,
            verifications_waiting: 0,
            acting: None,
            is_asked_again: false,
            own_messages: OwnMessages::default(),
            tx_size_bytes: 0,
            gets_of_partitions: 0,
            secret_count: 0,
            outputs: std::collections::VecDeque::new(),
            stopping: None,
            cluster: None,
        }
    }

    /// Takes one input. Nothing leaves the node before [`Node::finish_drain`].
    pub fn handle(&mut self, input: Input, now: Timestamp) {
        self.now = now;
        match input {
            Input::Connected(id) => self.connect(id),
            Input::Requests(id, requests) => self.handle_requests(id, requests, now),
            Input::Written(done) => self.store.handle_written(&done),
            Input::Background(done) => self.handle_background(done),
            Input::Fetched(queue, Ok(done)) => self.handle_fetched(queue, done),
            Input::Fetched(queue, Err(failed)) => self.handle_fetch_failed(queue, failed),
            Input::Peer(input) => self.handle_peer(input),
            Input::Verified(id, is_good) => self.handle_verified(id, is_good),
            Input::Admin(id, request) => self.handle_admin(id, request),
            Input::Resources {
                disk_free_size_bytes,
            } => {
                self.alarms.disk_free_size_bytes = Some(disk_free_size_bytes);
            }
            Input::Tick => self.tick(now),
            Input::Stop => self.begin_stop(now),
        }
    }

    /// Ends a drain: logs and seals what was decided, hands out messages, lets out what has been
    /// persisted, and asks for the work that is due.
    pub fn finish_drain(&mut self, now: Timestamp) {
        self.now = now;
        self.advance_cluster(now);
        self.go_on_declaring();
        self.release_persisted();
        if self.takes_requests() {
            self.begin_dead_letters();
            self.wake_expired();
        }
        self.serve_queues();
        self.log_settlements();
        self.flush_outboxes();
        self.propose_all();
        self.advance_catalog();
        self.seal_for_use();
        self.release_persisted();
        self.give_counts();
        while self.cluster.is_none() && self.sessions.has_declared() {
            self.go_on_declaring();
            self.give_counts();
        }
        self.update_alarms();
        self.advance_housekeeping();
        self.advance_stop(now);
        self.let_proceed(now);
        self.let_publishers_go_on();
        self.advance_restraints(now);
        self.emit(now);
        self.flush_edge();
        self.flush_peers();
        self.consumers.reuse_freed();
    }

    /// Hands out what can be handed out. Dead letters of one queue may be what another waits for,
    /// so this is done again until they have come to rest, or the next drain's share begins.
    fn serve_queues(&mut self) {
        for _ in 0..DEAD_LETTER_ROUNDS_MAX {
            self.publish_own();
            self.log_settlements();
            self.seal_for_use();
            self.dispatch_dirty();
            if self.takes_requests() {
                self.publish_dead_letters();
            }
            if self.dirty.is_empty() && self.own_messages.is_empty() {
                return;
            }
        }
    }

    /// The next thing the runtime is asked to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether the disk is so far behind that the runtime should hold requests back.
    pub fn is_saturated(&self) -> bool {
        let cluster = self.cluster.as_ref();
        self.store.unwritten_size_bytes() > UNWRITTEN_SIZE_BYTES_MAX
            || cluster.is_some_and(|cluster| cluster.outboxes.is_full())
    }

    /// Whether the disk is so far behind that what nobody waits for should not add to it: the
    /// other half is for what clients ask.
    pub(crate) fn is_half_saturated(&self) -> bool {
        self.store.unwritten_size_bytes() > UNWRITTEN_SIZE_BYTES_MAX / 2
    }

    fn connect(&mut self, id: ConnectionId) {
        let slot = self.sessions.insert(id);
        if self.stopping.is_some() {
            self.sessions.push(slot, Event::Shutdown);
        }
    }

    pub(crate) fn handle_requests(
        &mut self,
        id: ConnectionId,
        requests: Vec<Request>,
        now: Timestamp,
    ) {
        if !self.takes_requests() {
            return;
        }
        let Some(requests) = self.hold_early(id, requests) else {
            return;
        };
        self.expect_pace(id, &requests, now);
        if let Some(slot) = self.sessions.find(id)
            && let Some(session) = self.sessions.get_mut(slot)
        {
            self.ledger.connection_moves(session);
        }
        for request in requests {
            // Looked up each time: `CloseConnection` ends the session, and the rest is dropped.
            let Some(slot) = self.sessions.find(id) else {
                return;
            };
            self.handle_request(slot, request);
        }
    }

    /// Whether what is unwritten should go to disk now. Records nobody waits for, such as
    /// settlements, may gather for a while: each write and sync saved is a wake-up saved.
    fn is_write_due(&mut self, now: Timestamp) -> bool {
        let size_bytes = self.store.unwritten_size_bytes();
        if size_bytes == 0 {
            self.unwritten_since = None;
            return false;
        }
        let since = *self.unwritten_since.get_or_insert(now);
        let has_groups = self
            .cluster
            .as_ref()
            .is_some_and(|it| it.groups.is_writing() || it.catalog.is_writing());
        let is_due = !self.pending.is_empty()
            || has_groups
            || self.stopping.is_some()
            || size_bytes >= GATHER_SIZE_BYTES_MAX
            || now.since(since) >= GATHER_MAX;
        if is_due {
            self.unwritten_since = None;
        }
        is_due
    }

    /// When [`Node::finish_drain`] is to be called even if nothing happens.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let write = self.unwritten_since.map(|since| since + GATHER_MAX);
        let has_leftover = !self.dirty.is_empty() || self.sessions.has_declared();
        let leftover = has_leftover.then_some(self.now);
        let timeouts = [
            write,
            leftover,
            self.pace_timeout(),
            self.restraint_timeout(),
            self.cluster_timeout(),
        ];
        let mut first = timeouts.into_iter().flatten().min();
        if self.takes_requests() {
            let others = [self.expiry_timeout(), self.dead_letter_timeout()];
            first = first.into_iter().chain(others.into_iter().flatten()).min();
        }
        first
    }

    /// Seals what the drain has appended if somebody waits for it or needs its bodies.
    pub(crate) fn seal_for_use(&mut self) {
        let has_groups = self
            .cluster
            .as_ref()
            .is_some_and(|it| it.groups.has_unsealed() || it.catalog.has_unsealed());
        if self.has_open_messages || self.pending.has_open() || has_groups {
            self.seal();
        }
    }

    /// Seals what the drain has appended and ties to it whatever waits for the disk.
    pub(crate) fn seal(&mut self) {
        self.has_open_messages = false;
        if let Some(chunk) = self.store.seal() {
            self.last_sealed = chunk;
        }
        self.pending.tie(self.last_sealed);
        self.seal_groups(self.last_sealed);
    }

    /// Lets out what waited for chunks that are now persisted.
    pub(crate) fn release_persisted(&mut self) {
        while let Some(released) = self.pending.release(self.store.persisted()) {
            for pending in released {
                self.let_out(pending);
            }
        }
    }

    fn let_out(&mut self, pending: Pending) {
        match pending {
            Pending::Confirm {
                session,
                connection,
                channel,
                first,
                last,
            } => {
                if self.is_still(session, connection) {
                    self.sessions.push_confirm(session, channel, first, last);
                }
            }
            Pending::Answer {
                session,
                connection,
                event,
            } => {
                if self.is_still(session, connection) {
                    self.sessions.push(session, *event);
                }
            }
            Pending::Admin { id, answer } => self.outputs.push_back(Output::Admin(id, *answer)),
            Pending::Reserve { queue, upto } => {
                if let Some(slot) = self.queues.get_mut(queue) {
                    slot.queue.reserve(upto);
                    self.mark_dirty(queue);
                }
            }
            Pending::Counts(counts) => self.counts_due.push(counts),
            Pending::Again(again) => self.look_again(*again),
            Pending::Ticket(ticket) => self.close_ticket(ticket),
            Pending::Frame(frame) => self.send_later(frame.0, frame.1),
            Pending::Checkpoint(job) => self.outputs.push_back(Output::Background(*job)),
            Pending::EndSession {
                session,
                connection,
            } => {
                if self.is_still(session, connection) {
                    self.end_session(session);
                }
            }
        }
    }

    pub(crate) fn is_still(&self, session: SessionSlot, connection: ConnectionId) -> bool {
        self.sessions
            .get(session)
            .is_some_and(|session| session.id == connection)
    }

    /// Has the queue looked at when the drain ends.
    pub(crate) fn mark_dirty(&mut self, id: QueueId) {
        if let Some(slot) = self.queues.get_mut(id)
            && !slot.is_dirty
        {
            slot.is_dirty = true;
            self.dirty.push(id);
        }
    }

    /// Has the queue's settlements logged when the drain ends.
    pub(crate) fn mark_unlogged(&mut self, id: QueueId) {
        if let Some(slot) = self.queues.get_mut(id)
            && !slot.has_unlogged
        {
            slot.has_unlogged = true;
            self.unlogged.push(id);
        }
    }

    /// Gives `event` as soon as everything decided so far is on disk: at once if it is.
    pub(crate) fn answer_when_persisted(&mut self, session: SessionSlot, event: Event) {
        let Some(connection) = self.sessions.get(session).map(|session| session.id) else {
            return;
        };
        if self.is_all_persisted() {
            self.sessions.push(session, event);
        } else {
            let event = Box::new(event);
            self.push_pending(Pending::Answer {
                session,
                connection,
                event,
            });
        }
    }

    /// Whether nothing decided so far waits for the disk.
    pub(crate) fn is_all_persisted(&self) -> bool {
        self.pending.is_empty()
            && self.unlogged.is_empty()
            && self.store.open_size_bytes() == 0
            && self.store.persisted() >= self.last_sealed
            && self.is_all_committed()
    }

    fn emit(&mut self, now: Timestamp) {
        if self.is_write_due(now) {
            self.seal();
            if let Some(job) = self.store.poll_write() {
                self.outputs.push_back(Output::Write(job));
            }
        }
        self.send_events();
    }

    /// Hands on what sessions have been told so far.
    pub(crate) fn send_events(&mut self) {
        for (id, shadow_of, events) in self.sessions.take_events() {
            match (shadow_of, &mut self.cluster) {
                (Some(node), Some(cluster)) => cluster.edge.push_events(node, id, events),
                _ => self.outputs.push_back(Output::Events(id, events)),
            }
        }
    }

    fn tick(&mut self, now: Timestamp) {
        for id in std::mem::take(&mut self.active) {
            let Some(slot) = self.queues.get_mut(id) else {
                continue;
            };
            slot.is_active = false;
            self.ledger.queue_moves(slot);
            slot.rest();
            if !slot.wants_window() {
                self.fetches.forget(slot);
            }
            self.queues.count_memory(id);
        }
        self.queues.count_memory_in_turn();
        self.bodies.trim();
        self.tick_housekeeping();
        self.tick_failovers();
        self.advance_stop(now);
    }
}
