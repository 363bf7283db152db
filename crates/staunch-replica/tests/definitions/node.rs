//! One node: its catalog, the group, its store and its disk.

use std::collections::VecDeque;

use staunch_broker::{Catalog, CatalogCommand, Change, NodeCommand, Origin};
use staunch_log::{
    BackgroundJob, ChunkId, Config, MemoryDisk, Opened, Recovered, StreamId, recover,
};
use staunch_raft::{Change as MemberChange, Config as GroupConfig, Members, Message, SnapshotMeta};
use staunch_replica::{
    Batch, CatalogEffects, CatalogEvent, CatalogRebuild, CatalogReplica, CatalogState, OnRefusal,
    TakeError,
};
use staunch_types::{GroupId, LogIndex, Name, NodeId};

/// What the node writes of its own when it has applied something: its index.
const CONSEQUENCES: StreamId = StreamId(1);

pub(crate) struct Node {
    id: NodeId,
    seed: u64,
    lives: u64,
    disk: MemoryDisk,
    log: Opened<MemoryDisk>,
    replica: CatalogReplica,
    catalog: Catalog,
    /// Numbers and what they make, not heard of.
    wishes: VecDeque<(u64, CatalogCommand)>,
    last_number: u64,
    /// A checkpoint that waits for its chunk, and the index it is of.
    checkpoint: Option<(BackgroundJob, ChunkId, LogIndex)>,
    checkpointing: Option<LogIndex>,
    wants_checkpoint: bool,
    last_sealed: ChunkId,
}

fn members(count: u64) -> Members {
    Members::of((1..=count).map(NodeId)).expect("ids are good")
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("it is short")
}

/// Applies a batch if it counts; what it has made.
fn apply(catalog: &mut Catalog, batch: &Batch) -> Vec<String> {
    if !batch.is_admitted(catalog) {
        return Vec::new();
    }
    let mut made = Vec::new();
    for command in &batch.commands {
        let applied = catalog.apply_replicated(command).expect("it is sound");
        if let CatalogCommand::CreateVhost { vhost } = command {
            assert_eq!(applied.change, Change::Created, "{vhost} is made once");
            made.push(vhost.to_string());
        }
    }
    made
}

impl Node {
    pub(crate) fn founded(id: NodeId, count: u64, seed: u64) -> Self {
        Self::open(id, MemoryDisk::new(), (count, seed, 1))
    }

    fn open(id: NodeId, disk: MemoryDisk, (count, seed, lives): (u64, u64, u64)) -> Self {
        let mut recovery = recover(disk.clone(), Config::tiny()).expect("nothing is damaged");
        let mut rebuild = CatalogRebuild::founding(members(count));
        let mut catalog = Catalog::new(seed);
        while let Some(item) = recovery.next().expect("nothing is damaged") {
            match item {
                Recovered::State(bytes) => {
                    let state = CatalogState::decode(bytes).expect("it was written so");
                    let (from, whole) = CatalogRebuild::from_state(state);
                    rebuild = from;
                    catalog = Catalog::decode_whole(&whole, seed).expect("it was written so");
                }
                Recovered::Control {
                    stream: StreamId::CATALOG,
                    payload,
                    in_state,
                } => {
                    let batches = rebuild.control(payload, in_state).expect("as written");
                    for batch in batches {
                        apply(&mut catalog, &batch);
                    }
                }
                Recovered::Control { payload, .. } => {
                    let index = u64::from_be_bytes(payload[..].try_into().expect("eight bytes"));
                    assert!(
                        rebuild.applied() >= LogIndex(index),
                        "the log speaks of what entry {index} made, and only {} are known",
                        rebuild.applied()
                    );
                }
                Recovered::Message { .. } => panic!("there are no messages"),
            }
        }
        let log = recovery.finish().expect("the disk takes it");
        let config = GroupConfig::new(GroupId::CATALOG, id, seed ^ lives);
        let replica = rebuild.finish(config).expect("nothing is lost");
        Self {
            id,
            seed,
            lives,
            disk,
            log,
            replica,
            catalog,
            wishes: VecDeque::new(),
            last_number: 0,
            checkpoint: None,
            checkpointing: None,
            wants_checkpoint: false,
            last_sealed: ChunkId(0),
        }
    }

    /// The power fails, and comes back.
    pub(crate) fn crash(&mut self, seed: u64) {
        self.disk.crash(seed);
        let disk = self.disk.clone();
        *self = Self::open(self.id, disk, (3, self.seed, self.lives + 1));
    }

    fn life(&self) -> Origin {
        Origin(self.id.0 * 1000 + self.lives)
    }

    pub(crate) fn tick(&mut self) {
        self.replica.group_mut().tick();
    }

    /// Takes a message; false if it offers a state that is not here.
    pub(crate) fn take(&mut self, message: Message) -> bool {
        match self.replica.take(message) {
            Ok(()) => true,
            Err(TakeError::NotStaged) => false,
            Err(error) => panic!("peers make sense: {error}"),
        }
    }

    pub(crate) fn withdraw(&mut self, from: NodeId) {
        self.replica.group_mut().withdraw_snapshot(from);
    }

    pub(crate) fn members(&self) -> Members {
        self.replica.group().members()
    }

    pub(crate) fn change(&mut self, change: &MemberChange) -> bool {
        self.replica.group_mut().propose_change(change).is_ok()
    }

    /// Wants something that nobody else wants.
    pub(crate) fn wish(&mut self) {
        self.last_number += 1;
        let vhost = name(&format!("v{}-{}", self.life().0, self.last_number));
        let wish = CatalogCommand::CreateVhost { vhost };
        self.wishes.push_back((self.last_number, wish));
    }

    /// What it has not heard of; that it lives, as long as that is unknown.
    pub(crate) fn wishes(&self) -> Vec<Batch> {
        let life = self.life();
        let batch = |base, number, command: &CatalogCommand| Batch {
            origin: life,
            base,
            number,
            on_refusal: OnRefusal::GoOn,
            commands: vec![command.clone()],
        };
        let known = self.catalog.node(self.id);
        if known.is_none_or(|known| known.life != life) {
            let command = CatalogCommand::Node(NodeCommand::Started {
                node: self.id,
                name: name("n"),
                address: name(""),
                previous: known.map(|known| known.life),
                life,
            });
            return vec![batch(0, 0, &command)];
        }
        let first = self.wishes.front().map_or(0, |(number, _)| *number);
        let wishes = self.wishes.iter();
        wishes
            .map(|(number, command)| batch(first, *number, command))
            .collect()
    }

    /// Proposes a batch if it leads.
    pub(crate) fn propose(&mut self, batch: &Batch) {
        self.replica.propose(batch).ok();
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

    pub(crate) fn state(&self) -> CatalogState {
        self.replica.state_now(self.image().into())
    }

    pub(crate) fn stage(&mut self, state: CatalogState) {
        self.replica.stage(state);
    }

    pub(crate) fn offer(&mut self, to: NodeId, meta: SnapshotMeta) {
        self.replica.group_mut().offer_snapshot(to, meta);
    }

    pub(crate) fn checkpoint(&mut self) {
        if self.checkpoint.is_some() || self.log.store.is_checkpoint_under_way() {
            return;
        }
        self.wants_checkpoint = false;
        self.replica.checkpoint(&mut self.log.store);
        let state = self.state();
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        self.seal();
        let job = self.log.store.checkpoint(bytes);
        self.checkpoint = Some((job, self.last_sealed, state.meta.last.index));
    }

    pub(crate) fn keep_house(&mut self) {
        if let Some(retiring) = self.log.store.retire_due() {
            let job = self.log.store.tenure(retiring, Vec::new());
            self.run(job);
        }
        if self.log.store.needs_checkpoint() || self.wants_checkpoint {
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
        self.log.store.handle_background(done);
    }

    /// Does what is due; what is to be sent, and what was made.
    pub(crate) fn advance(&mut self) -> (CatalogEffects, Vec<String>) {
        let mut effects = CatalogEffects::default();
        self.replica.advance(&mut self.log.store, &mut effects);
        let mut made = Vec::new();
        for event in std::mem::take(&mut effects.events) {
            match event {
                CatalogEvent::Apply(batch) => made.extend(apply(&mut self.catalog, &batch)),
                CatalogEvent::Adopt(whole) => {
                    let catalog = Catalog::decode_whole(&whole, self.seed);
                    self.catalog = catalog.expect("it was sent by a node");
                    self.wants_checkpoint = true;
                }
            }
        }
        if !made.is_empty() {
            let applied = self.replica.group().applied_index();
            let payload = applied.0.to_be_bytes();
            self.log.store.append_control(CONSEQUENCES, &payload);
        }
        let life = self.life();
        let known = self
            .catalog
            .node(self.id)
            .filter(|known| known.life == life);
        let heard = known.map_or(0, |known| known.heard);
        while let Some((number, wish)) = self.wishes.pop_front_if(|(number, _)| *number <= heard) {
            if let CatalogCommand::CreateVhost { vhost } = wish {
                assert!(
                    self.has_name(&vhost),
                    "{number} counts, and {vhost} is not there"
                );
            }
        }
        (effects, made)
    }

    pub(crate) fn serves(&self) -> bool {
        self.replica.group().is_serving()
    }

    pub(crate) fn applied(&self) -> LogIndex {
        self.replica.group().applied_index()
    }

    pub(crate) fn is_idle(&self) -> bool {
        let group = self.replica.group();
        group.applied_index() == group.last_index() && !self.replica.is_writing()
    }

    pub(crate) fn image(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.catalog.encode_whole(&mut bytes);
        bytes
    }

    pub(crate) fn has(&self, vhost: &str) -> bool {
        self.has_name(&name(vhost))
    }

    fn has_name(&self, vhost: &Name) -> bool {
        self.catalog.check_vhost(vhost).is_ok()
    }

    pub(crate) fn summary(&self) -> String {
        let group = self.replica.group();
        format!(
            "node {}: {:?} applied {} last {} compacted {} wishes {}",
            self.id,
            group.role_now(),
            group.applied_index(),
            group.last_index(),
            group.compacted(),
            self.wishes.len()
        )
    }
}
