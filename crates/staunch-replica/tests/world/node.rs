//! One node with one replica, its store and its disk.

use std::collections::BTreeSet;

use bytes::Bytes;
use staunch_broker::{
    Arrival, ConsumerSpec, Departed, EntryHead, META_SIZE_BYTES, Origin, Queue, QueueCommand,
    QueueSettings, Released,
};
use staunch_log::{
    BackgroundJob, ChunkId, Config, Live, MemoryDisk, Opened, RecordMeta, Recovered, StreamId,
    recover,
};
use staunch_raft::{Config as GroupConfig, Members, Message as PeerMessage, SnapshotMeta};
use staunch_replica::{
    Effects, EntryData, EntryMessage, Kept, Rebuild, Replica, ReplicaState, TakeError,
};
use staunch_types::{
    BodyRef, ConsumerKey, GroupId, LogIndex, Message, MessageIndex, NodeId, Outcome, UnixMillis,
};

use super::random::Random;

const STREAM: StreamId = StreamId(1);
const NOW: UnixMillis = UnixMillis(1);
const CONSUMER: ConsumerKey = ConsumerKey(1);

/// A whole queue on its way to another member.
pub(crate) struct Transfer {
    state: ReplicaState,
    messages: Vec<(MessageIndex, [u8; META_SIZE_BYTES], Bytes)>,
}

pub(crate) struct Node {
    id: NodeId,
    witness: Option<NodeId>,
    seed: u64,
    lives: u64,
    disk: MemoryDisk,
    log: Opened<MemoryDisk>,
    replica: Replica,
    queue: Queue,
    held: Vec<MessageIndex>,
    effects: Effects,
    /// A checkpoint that waits for its chunk, and the index it is of.
    checkpoint: Option<(BackgroundJob, ChunkId, LogIndex)>,
    checkpointing: Option<LogIndex>,
    last_sealed: ChunkId,
}

fn settings() -> QueueSettings {
    QueueSettings {
        delivery_limit: Some(3),
        counts_deliveries: true,
        ..QueueSettings::default()
    }
}

fn members() -> Members {
    Members::of((1..=super::NODES).map(NodeId)).expect("ids are good")
}

impl Node {
    pub(crate) fn founded(id: NodeId, witness: Option<NodeId>, seed: u64) -> Self {
        Self::open((id, witness), MemoryDisk::new(), (seed, 0))
    }

    fn open(
        (id, witness): (NodeId, Option<NodeId>),
        disk: MemoryDisk,
        (seed, lives): (u64, u64),
    ) -> Self {
        let mut recovery = recover(disk.clone(), Config::tiny()).expect("nothing is damaged");
        let mut rebuild = Rebuild::founding(STREAM, members(), &settings());
        while let Some(item) = recovery.next().expect("nothing is damaged") {
            match item {
                Recovered::State(bytes) => {
                    let state = ReplicaState::decode(bytes).expect("it was written so");
                    rebuild = Rebuild::from_state(STREAM, state, &settings()).expect("as written");
                }
                Recovered::Control {
                    payload, in_state, ..
                } => {
                    let kept = rebuild.control(payload, in_state);
                    assert_eq!(kept.expect("it was written so"), Kept::Yes);
                }
                Recovered::Message {
                    index,
                    body,
                    size_bytes,
                    meta,
                    ..
                } => {
                    let stored = recovery.payload();
                    let place = (body, size_bytes);
                    rebuild
                        .message(MessageIndex(index), place, meta.0, stored)
                        .expect("it was written so");
                }
            }
        }
        let mut log = recovery.finish().expect("the disk takes it");
        let mut config = GroupConfig::new(GroupId(1), id, seed ^ lives);
        config.is_witness = witness == Some(id);
        let mut found = rebuild.finish(config, &settings());
        assert_eq!(found.damage, None, "nothing is lost");
        found.replica.group_mut().know_witnesses(witness.as_slice());
        for (body, size_bytes) in found.dead {
            log.store.release(body, size_bytes);
        }
        Self {
            id,
            witness,
            seed,
            lives,
            disk,
            log,
            replica: found.replica,
            queue: found.queue,
            held: Vec::new(),
            effects: Effects::default(),
            checkpoint: None,
            checkpointing: None,
            last_sealed: ChunkId(0),
        }
    }

    /// The power fails, and comes back.
    pub(crate) fn crash(&mut self, seed: u64) {
        self.disk.crash(seed);
        *self = Self::open(
            (self.id, self.witness),
            self.disk.clone(),
            (self.seed, self.lives + 1),
        );
    }

    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    pub(crate) fn tick(&mut self) {
        self.replica.group_mut().tick();
    }

    /// Takes a message; false if it offers a state that is not here.
    pub(crate) fn take(&mut self, message: PeerMessage) -> bool {
        match self.replica.take(message) {
            Ok(()) => true,
            Err(TakeError::NotStaged) => false,
            Err(error) => panic!("peers make sense: {error}"),
        }
    }

    pub(crate) fn withdraw(&mut self, from: NodeId) {
        self.replica.group_mut().withdraw_snapshot(from);
    }

    /// Proposes a message; false if this is not the leader.
    pub(crate) fn publish(&mut self, number: u64, size: usize) -> bool {
        if !self.queue.leads() {
            return false;
        }
        let mut body = number.to_be_bytes().to_vec();
        body.resize(8 + size, 7);
        let message = Message::copied(b"", b"q", b"\0\0", &body);
        let mut stored = Vec::new();
        message.put_stored(&mut stored);
        let arrival = Arrival {
            body: BodyRef(0),
            size_bytes: u32::try_from(stored.len()).expect("it is small"),
            body_size_bytes: u32::try_from(body.len()).expect("it is small"),
            expires_at: None,
            priority: 0,
            redelivered: false,
        };
        let data = EntryData {
            head: EntryHead {
                message_count: 1,
                origins: vec![(Origin(self.id.0), number)],
                commands: Vec::new(),
            },
            messages: vec![EntryMessage {
                meta: arrival.meta(),
                stored: stored.into(),
            }],
        };
        self.replica.propose(&data).is_ok()
    }

    fn propose(&mut self, commands: Vec<QueueCommand>) {
        let data = EntryData {
            head: EntryHead {
                commands,
                ..EntryHead::default()
            },
            messages: Vec::new(),
        };
        // A leader that is being deposed does not get it through; then nothing is lost.
        self.replica.propose(&data).ok();
    }

    /// Hands out, and settles some of it; numbers of messages that were acked.
    pub(crate) fn consume(&mut self, random: &mut Random) -> Vec<u64> {
        if !self.queue.leads() {
            return Vec::new();
        }
        let mut commands = Vec::new();
        while let Some(assignment) = self.queue.assign_next() {
            self.held.push(assignment.index);
        }
        if let Some(upto) = self.queue.needs_reservation() {
            commands.push(QueueCommand::Reserved { upto });
        }
        let mut acked = Vec::new();
        let mut departed = Departed::default();
        for _ in 0..random.below(4) {
            if self.held.is_empty() {
                break;
            }
            let pick = random.below(self.held.len() as u64);
            let index = self
                .held
                .swap_remove(usize::try_from(pick).expect("it is small"));
            let outcome = [Outcome::Ack, Outcome::Discard, Outcome::Requeue]
                [usize::try_from(random.below(3)).expect("it is small")];
            self.queue
                .settle(CONSUMER, (index, 1), outcome, NOW, &mut departed)
                .expect("it is held");
        }
        let released = departed.released;
        acked.extend(released.iter().map(|message| self.number_of(message)));
        let counts = self.queue.take_returned();
        if !counts.is_empty() {
            commands.push(QueueCommand::Returned { counts });
        }
        if !released.is_empty() {
            commands.push(QueueCommand::settled(&released));
        }
        if !commands.is_empty() {
            self.propose(commands);
        }
        acked
    }

    fn number_of(&mut self, (index, body, size_bytes): &Released) -> u64 {
        let stored = self.stored(*index, *body, *size_bytes);
        let message = Message::from_stored(stored).expect("it was stored");
        let body = message.body();
        u64::from_be_bytes(body[..8].try_into().expect("eight bytes"))
    }

    fn stored(&mut self, index: MessageIndex, body: BodyRef, size_bytes: u32) -> Bytes {
        self.seal();
        if let Some(stored) = self.log.store.body(body, size_bytes) {
            return stored;
        }
        let job = self.log.store.fetch(&[(index.0, body, size_bytes)]);
        let done = self.log.reader.run(job).expect("it is on disk");
        self.log.store.handle_fetched(&done);
        done.records[0].stored.clone()
    }

    /// Writes what is there, and what waited for it goes on.
    pub(crate) fn write(&mut self) {
        self.seal();
        if let Some(job) = self.log.store.poll_write() {
            let done = self.log.writer.run(job).expect("the disk takes it");
            self.log.store.handle_written(&done);
            self.replica.persisted(self.log.store.persisted());
        }
        if let Some((_, chunk, _)) = &self.checkpoint
            && *chunk <= self.log.store.persisted()
        {
            let (job, _, applied) = self.checkpoint.take().expect("it is there");
            self.checkpointing = Some(applied);
            self.run(job);
        }
    }

    fn seal(&mut self) {
        self.last_sealed = self.log.store.seal().unwrap_or(self.last_sealed);
        if self.replica.has_unsealed() {
            self.replica.sealed(self.last_sealed);
        }
    }

    pub(crate) fn checkpoint(&mut self) -> bool {
        if self.checkpoint.is_some() || self.log.store.is_checkpoint_under_way() {
            return false;
        }
        let state = self.replica.checkpoint(&self.queue);
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        self.seal();
        let job = self.log.store.checkpoint(bytes);
        self.checkpoint = Some((job, self.last_sealed, state.meta.last.index));
        true
    }

    /// Everything that a member needs which lacks entries, as it is now.
    pub(crate) fn transfer(&mut self, to: NodeId) -> Transfer {
        if self.witness == Some(to) {
            return Transfer {
                state: self.replica.witness_state_now(&settings()),
                messages: Vec::new(),
            };
        }
        let bodies: Vec<_> = Replica::bodies_from(&self.queue, MessageIndex(0)).collect();
        let mut messages = Vec::new();
        for ((index, body, size_bytes), meta) in bodies {
            messages.push((index, meta, self.stored(index, body, size_bytes)));
        }
        let state = self.replica.state_now(&self.queue);
        Transfer { state, messages }
    }

    /// Takes it; the name of the state, for the leader to offer.
    pub(crate) fn stage(&mut self, transfer: &Transfer) -> SnapshotMeta {
        let first = (self.replica).begin_staging(&mut self.log.store, &self.queue);
        let wanted = transfer
            .messages
            .iter()
            .filter(|(index, ..)| *index >= first);
        for (index, meta, stored) in wanted {
            let next = self
                .replica
                .stage(&mut self.log.store, *index, *meta, stored)
                .expect("it was sent by a member");
            assert_eq!(next, Some(index.next()));
        }
        self.replica
            .stage_state(&mut self.log.store, &transfer.state, &settings())
            .expect("all bodies were sent")
    }

    pub(crate) fn offer(&mut self, to: NodeId, meta: SnapshotMeta) {
        self.replica.group_mut().offer_snapshot(to, meta);
    }

    pub(crate) fn keep_house(&mut self) {
        if let Some(retiring) = self.log.store.retire_due() {
            self.replica.vacate(&retiring, &mut self.log.store);
            let live: Vec<Live> = self
                .queue
                .live_from(MessageIndex(0))
                .filter(|(_, body, _)| retiring.contains(*body))
                .map(|(index, body, size_bytes)| Live {
                    index: index.0,
                    body,
                    size_bytes,
                    meta: RecordMeta(self.queue.meta_of(index)),
                })
                .collect();
            let staged = self.replica.staged_in(&retiring);
            let live = [live, staged].into_iter();
            let live = live.filter(|live| !live.is_empty());
            let live = live.map(|live| (STREAM, live)).collect();
            let job = self.log.store.tenure(retiring, live);
            self.run(job);
        }
        if self.log.store.needs_checkpoint() || self.replica.awaits_checkpoint() {
            self.checkpoint();
        }
        while let Some(job) = self.log.store.poll_background() {
            self.run(job);
        }
    }

    fn run(&mut self, job: BackgroundJob) {
        let done = self.log.background.run(job).expect("the disk takes it");
        if done.is_checkpoint()
            && let Some(applied) = self.checkpointing.take()
        {
            self.replica.compact(applied);
            self.replica.checkpointed();
        }
        for moved in self.log.store.handle_background(done) {
            let index = MessageIndex(moved.index);
            let (from, to) = (moved.from, moved.to);
            let lives = self.queue.relocate(index, from, to)
                || self.replica.relocate_staged(index, from, to);
            if !lives {
                self.log.store.release(moved.to, moved.size_bytes);
            }
        }
    }

    pub(crate) fn advance(&mut self) -> Effects {
        let mut effects = std::mem::take(&mut self.effects);
        loop {
            if self.replica.is_deposed() {
                self.replica.depose(&mut self.queue);
                self.held.clear();
                effects.began_to_lead = false;
            }
            self.replica
                .advance(&mut self.log.store, &mut self.queue, &mut effects);
            if !self.replica.is_deposed() {
                break;
            }
        }
        if effects.began_to_lead {
            self.held.clear();
            self.queue
                .add_consumer(ConsumerSpec {
                    key: CONSUMER,
                    no_ack: false,
                    exclusive: false,
                    prefetch: 5,
                    priority: 0,
                    identity: 0,
                })
                .expect("it is the only one");
        }
        self.queue.check_invariants();
        self.log.store.check_invariants();
        effects
    }

    pub(crate) fn serves(&self) -> bool {
        self.queue.leads() && self.replica.group().is_serving()
    }

    pub(crate) fn applied(&self) -> LogIndex {
        self.replica.group().applied_index()
    }

    pub(crate) fn is_idle(&self) -> bool {
        let group = self.replica.group();
        group.applied_index() == group.last_index() && self.replica.awaits().is_none()
    }

    pub(crate) fn state(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.queue.encode_snapshot(&mut bytes);
        bytes
    }

    pub(crate) fn summary(&self) -> String {
        let group = self.replica.group();
        format!(
            "node {}: waits for checkpoint {} (waiting {}, under way {}), for chunk {:?}, persisted {:?}, {:?} applied {} last {} compacted {}",
            self.id,
            self.replica.awaits_checkpoint(),
            self.checkpoint.is_some(),
            self.log.store.is_checkpoint_under_way(),
            self.replica.awaits(),
            self.log.store.persisted(),
            group.role_now(),
            group.applied_index(),
            group.last_index(),
            group.compacted()
        )
    }

    pub(crate) fn live_numbers(&mut self) -> BTreeSet<u64> {
        let live: Vec<Released> = self.queue.live_from(MessageIndex(0)).collect();
        live.iter().map(|message| self.number_of(message)).collect()
    }
}
