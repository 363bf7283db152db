//! A cluster in one thread: nodes with disks, a network, and a clock that jumps from event to
//! event. Everything is decided by the seed.

mod leaving;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use bytes::Bytes;
use staunch_raft::{
    Body, Config, Entry, Group, LogPosition, Members, Message, Payload, Ready, Restored,
    SnapshotMeta, wire,
};
use staunch_types::{GroupId, LogIndex, NodeId, Term};

use crate::{
    checks::Checks,
    counts::Counts,
    disk::{Disk, State, Write},
    random::Random,
};

pub(crate) const GROUP: GroupId = GroupId(5);

/// Milliseconds between two ticks of a node.
const TICK_MILLIS: u64 = 50;

/// Applied entries after which a node writes a checkpoint and compacts.
const CHECKPOINT_EVERY: u64 = 20;

/// How late a message may be that comes when nobody expects it any more.
const LATE_MILLIS_MAX: u64 = 5_000;

/// A mistake that a driver could make; each must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    None,
    /// Says that something is persisted while the sync runs.
    PersistedEarly,
    /// Does not write down whom it voted for.
    VoteForgotten,
    /// Reports a checkpoint further than it is applied.
    CheckpointAhead,
    /// A member that has lost its disk goes on as a new one.
    LossIgnored,
    /// It votes before it has got a state.
    VotesAtOnce,
    /// Nobody knows that a witness is one, but itself.
    WitnessUnknown,
    /// A member that comes back to a group which it has left knows nothing of that.
    ReturnsAsNew,
}

/// How rough the world is, in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) drop: u64,
    pub(crate) repeat: u64,
    pub(crate) delay_millis: u64,
    pub(crate) sync_millis: u64,
}

pub(crate) const CALM: Weather = Weather {
    drop: 0,
    repeat: 0,
    delay_millis: 3,
    sync_millis: 3,
};

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Tick(NodeId, u64),
    Deliver(NodeId, Vec<u8>),
    Synced(NodeId, u64),
    Fetched(NodeId, u64, LogIndex, LogIndex),
    Transferred {
        from: NodeId,
        to: NodeId,
        life: u64,
        index: LogIndex,
    },
    Withdrawn {
        from: NodeId,
        to: NodeId,
    },
    Suspect(NodeId, NodeId),
    /// A member that has forgotten says so.
    Forgot {
        to: NodeId,
        from: NodeId,
        life: u64,
    },
    /// The group has let a member go.
    Left(NodeId, LogIndex, Term),
}

pub(crate) struct Node {
    pub(crate) group: Option<Group>,
    pub(crate) disk: Disk,
    pub(crate) state: State,
    /// Committed and not yet applied.
    waiting: Vec<Entry>,
    /// Counts restarts, so that events of a former life find nobody.
    life: u64,
    pub(crate) paused_until: u64,
    /// What arrived during a pause.
    backlog: Vec<Vec<u8>>,
    /// Snapshots on their way, by receiver.
    transfers: BTreeMap<NodeId, (SnapshotMeta, State)>,
    /// Its disk is lost, and it has not been offered a state since.
    pub(crate) has_forgotten: bool,
    /// Barriers of members that have forgotten, with the lives in which they did.
    barriers: BTreeMap<NodeId, (u64, LogPosition)>,
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) weather: Weather,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    /// Directed: from, to.
    pub(crate) blocked: BTreeSet<(NodeId, NodeId)>,
    pub(crate) checks: Checks,
    pub(crate) plant: Plant,
    pub(crate) counts: Counts,
    /// Keeps no data, if there is one.
    pub(crate) witness: Option<NodeId>,
    seed: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    proposals: u64,
}

impl World {
    pub(crate) fn new(seed: u64, size: u64, plant: Plant) -> Self {
        Self::of(seed, (size, None), plant)
    }

    /// Two nodes with data and a witness.
    pub(crate) fn with_witness(seed: u64, plant: Plant) -> Self {
        let witness = NodeId(1 + seed % 3);
        Self::of(seed, (3, Some(witness)), plant)
    }

    fn of(seed: u64, (size, witness): (u64, Option<NodeId>), plant: Plant) -> Self {
        let mut world = Self {
            now: 0,
            random: Random::new(seed),
            weather: CALM,
            nodes: BTreeMap::new(),
            blocked: BTreeSet::new(),
            checks: Checks::default(),
            plant,
            counts: Counts::default(),
            witness,
            seed,
            events: BinaryHeap::new(),
            order: 0,
            proposals: 0,
        };
        let members = Members::of((1..=size).map(NodeId)).expect("valid");
        for id in 1..=size {
            world.add(NodeId(id), &Restored::founding(members.clone()));
        }
        world
    }

    pub(crate) fn add(&mut self, id: NodeId, restored: &Restored) {
        let disk = Disk::new(restored);
        let node = Node {
            group: None,
            state: disk.durable.checkpoint.clone(),
            disk,
            waiting: Vec::new(),
            life: 0,
            paused_until: 0,
            backlog: Vec::new(),
            transfers: BTreeMap::new(),
            has_forgotten: false,
            barriers: BTreeMap::new(),
        };
        self.nodes.insert(id, node);
        self.start(id);
    }

    pub(crate) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node")
    }

    /// Starts from what is on disk.
    pub(crate) fn start(&mut self, id: NodeId) {
        let (seed, now, plant) = (self.seed, self.now, self.plant);
        let witness = self.witness;
        let random = &mut self.random;
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.group.is_some() {
            return;
        }
        let restored = node.disk.durable.restored(random);
        let mut config = Config::new(GROUP, id, seed);
        config.entry_cache_bytes_max = random.below(600);
        config.is_witness = witness == Some(id);
        node.state = node.disk.durable.checkpoint.clone();
        let mut group = Group::new(config, restored).expect("written by a group");
        if plant != Plant::WitnessUnknown {
            group.know_witnesses(witness.as_slice());
        }
        node.has_forgotten = node.disk.is_lost() && plant != Plant::VotesAtOnce;
        if node.has_forgotten {
            group.forget();
        }
        node.group = Some(group);
        let tick = now + random.between(1, TICK_MILLIS);
        let life = node.life;
        self.at(tick, Event::Tick(id, life));
        self.drain(id);
    }

    /// Power is lost, and the others may notice.
    pub(crate) fn crash(&mut self, id: NodeId) {
        if self.kill(id) {
            self.accuse(id, 400);
        }
    }

    /// Power is lost. Whether the node ran.
    pub(crate) fn kill(&mut self, id: NodeId) -> bool {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.group.take().is_none() {
            return false;
        }
        self.counts.crashes += 1;
        node.life += 1;
        node.disk.crash(&mut self.random);
        node.waiting.clear();
        node.backlog.clear();
        node.transfers.clear();
        node.barriers.clear();
        node.paused_until = 0;
        true
    }

    /// The others' detectors find the node silent, each in its time, or not.
    pub(crate) fn accuse(&mut self, id: NodeId, within_millis: u64) {
        let others: Vec<_> = self
            .nodes
            .keys()
            .copied()
            .filter(|other| *other != id)
            .collect();
        for other in others {
            if self.random.percent(70) {
                let at = self.now + self.random.between(50, 50 + within_millis);
                self.at(at, Event::Suspect(other, id));
            }
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((time, self.order, event)));
    }

    /// Runs until the clock says `until`.
    pub(crate) fn run(&mut self, until: u64) {
        while let Some(Reverse((time, _, _))) = self.events.peek() {
            if *time > until {
                break;
            }
            let Some(Reverse((time, _, event))) = self.events.pop() else {
                break;
            };
            self.now = time;
            self.handle(event);
        }
        self.now = until;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Tick(id, life) => self.tick(id, life),
            Event::Deliver(id, batch) => self.deliver(id, batch),
            Event::Synced(id, life) => self.synced(id, life),
            Event::Fetched(id, life, first, last) => self.fetched(id, life, first, last),
            Event::Transferred {
                from,
                to,
                life,
                index,
            } => self.transferred(from, to, life, index),
            Event::Withdrawn { from, to } => self.with(from, |group| group.withdraw_snapshot(to)),
            Event::Forgot { to, from, life } => self.hear_forgetful(to, from, life),
            Event::Left(id, index, term) => self.leave(id, LogPosition { index, term }),
            Event::Suspect(by, whom) => {
                let is_down = self
                    .nodes
                    .get(&whom)
                    .is_none_or(|node| node.group.is_none());
                if is_down || self.random.percent(30) {
                    self.with(by, |group| group.suspect(whom));
                }
            }
        }
    }

    /// Does something with a running group and everything it wants afterwards.
    pub(crate) fn with(&mut self, id: NodeId, work: impl FnOnce(&mut Group)) {
        let Some(group) = self.nodes.get_mut(&id).and_then(|node| node.group.as_mut()) else {
            return;
        };
        work(group);
        self.check(id);
        self.drain(id);
    }

    fn check(&mut self, id: NodeId) {
        let nodes = &self.nodes;
        if let Some(group) = &nodes[&id].group {
            self.checks
                .commits(group, self.witness, |node| Some(&nodes.get(&node)?.disk));
        }
    }

    fn tick(&mut self, id: NodeId, life: u64) {
        let now = self.now;
        let jitter = self.random.below(4);
        let node = self.node(id);
        if node.life != life || node.group.is_none() {
            return;
        }
        if node.paused_until > now {
            let later = node.paused_until;
            self.at(later, Event::Tick(id, life));
            return;
        }
        let backlog = std::mem::take(&mut node.backlog);
        for batch in backlog {
            self.deliver(id, batch);
        }
        self.with(id, Group::tick);
        self.apply(id);
        self.drain(id);
        self.tell_forgotten(id);
        self.help_forgetful(id);
        self.at(now + TICK_MILLIS - 2 + jitter, Event::Tick(id, life));
    }

    fn deliver(&mut self, id: NodeId, batch: Vec<u8>) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        if node.group.is_none() {
            return;
        }
        if node.paused_until > now {
            node.backlog.push(batch);
            return;
        }
        let messages = wire::decode(&Bytes::from(batch)).expect("written by the same version");
        for message in messages {
            let from = message.from;
            self.with(id, |group| group.trust(from));
            if self.nodes[&id].has_forgotten {
                self.relearn(id, message);
                continue;
            }
            if !self.can_step(id, &message) {
                continue;
            }
            let mut stepped = Ok(());
            self.with(id, |group| stepped = group.step(message));
            if let Err(refused) = stepped {
                self.returns_without(id, &refused);
            }
        }
    }

    /// A snapshot is only for those who have its state.
    fn can_step(&mut self, id: NodeId, message: &Message) -> bool {
        let Body::Snapshot(meta) = &message.body else {
            return true;
        };
        let node = &self.nodes[&id];
        let has = node
            .disk
            .staged
            .as_ref()
            .is_some_and(|(staged, _)| staged == meta);
        // What it has got already it confirms.
        let is_old = node
            .group
            .as_ref()
            .is_some_and(|group| group.committed_index() >= meta.last.index);
        if !has && !is_old {
            let at = self.now + 1 + self.random.below(20);
            let (from, to) = (message.from, id);
            self.at(at, Event::Withdrawn { from, to });
        }
        has || is_old
    }

    fn synced(&mut self, id: NodeId, life: u64) {
        let node = self.node(id);
        if node.life != life || node.group.is_none() {
            return;
        }
        let number = node.disk.synced();
        if let Some(number) = number {
            self.with(id, |group| group.persisted(number));
        }
        let durable = &self.node(id).disk.durable;
        let applied = durable.checkpoint.applied;
        if applied > durable.compacted.index && self.random.percent(60) {
            let back = self.random.below(8);
            let to = LogIndex(applied.0.saturating_sub(back));
            self.compact(id, to);
        }
        self.drain(id);
    }

    fn compact(&mut self, id: NodeId, to: LogIndex) {
        let node = self.node(id);
        let Some(term) = node.disk.current.term_at(to) else {
            return;
        };
        if to > node.disk.current.compacted.index {
            node.disk
                .write(Write::Compact(LogPosition { index: to, term }));
            self.with(id, |group| group.compact(to));
        }
    }

    /// Does what the group wants until it wants nothing.
    fn drain(&mut self, id: NodeId) {
        while let Some(ready) = self.poll(id) {
            self.do_ready(id, ready);
        }
        self.sync(id);
    }

    fn poll(&mut self, id: NodeId) -> Option<Ready> {
        self.nodes.get_mut(&id)?.group.as_mut()?.poll()
    }

    fn do_ready(&mut self, id: NodeId, ready: Ready) {
        if ready.role.is_some() {
            let group = self.nodes[&id].group.as_ref().expect("polled");
            if group.is_leader() {
                self.counts.leaders += 1;
                assert_ne!(self.witness, Some(id), "a witness leads");
                self.checks.leads(group);
            }
        }
        if let Some(persist) = &ready.persist {
            self.persist(id, persist);
        }
        self.send(ready.send);
        self.node(id).waiting.extend(ready.committed);
        if self.random.percent(80) {
            self.apply(id);
        }
        if let Some(fetch) = ready.fetch {
            let life = self.node(id).life;
            let at = self.now + self.random.between(1, 40);
            self.at(at, Event::Fetched(id, life, fetch.first, fetch.last));
        }
        if let Some(to) = ready.needs_snapshot {
            self.transfer(id, to);
        }
    }

    fn persist(&mut self, id: NodeId, persist: &staunch_raft::Persist) {
        let plant = self.plant;
        let node = self.nodes.get_mut(&id).expect("a node");
        self.counts.installs += u64::from(persist.install.is_some());
        if let Some(first) = persist.append.first()
            && persist.install.is_none()
        {
            let replaces = node.disk.current.term_at(first.index).is_some();
            self.counts.truncations += u64::from(replaces);
            let mut before = node.disk.current.term_at(LogIndex(first.index.0 - 1));
            let keeps_data = self.witness != Some(id);
            for entry in &persist.append {
                let is_data = matches!(entry.payload, Payload::Data(_));
                assert!(keeps_data || !is_data, "data on a witness");
                self.checks.appended(entry, before, keeps_data);
                before = Some(entry.term);
            }
        }
        node.disk.persist(persist, plant == Plant::VoteForgotten);
        if persist.install.is_some()
            && let Some((_, state)) = node.disk.staged.clone()
        {
            node.state = state;
            node.waiting.clear();
        }
        if plant == Plant::PersistedEarly {
            let number = persist.number;
            self.node(id)
                .group
                .as_mut()
                .expect("polled")
                .persisted(number);
            self.check(id);
        }
    }

    /// Begins a sync if there is something and none runs.
    fn sync(&mut self, id: NodeId) {
        let end = self.weather.sync_millis + 1;
        let at = self.now + self.random.between(1, end + 1);
        let node = self.node(id);
        if node.group.is_some() && node.disk.syncing.is_none() && !node.disk.unsynced.is_empty() {
            node.disk.syncing = Some(node.disk.unsynced.len());
            let life = node.life;
            self.at(at, Event::Synced(id, life));
        }
    }

    fn send(&mut self, messages: Vec<Message>) {
        let mut by_receiver: BTreeMap<NodeId, Vec<Message>> = BTreeMap::new();
        for message in messages {
            self.checks.sent(&message);
            match message.body {
                Body::TimeoutNow => self.counts.hand_overs += 1,
                Body::Sleep { .. } => self.counts.naps += 1,
                _ => {}
            }
            by_receiver.entry(message.to).or_default().push(message);
        }
        for (to, messages) in by_receiver {
            let from = messages[0].from;
            for segments in wire::encode(&messages) {
                self.carry(from, to, &segments.concat());
            }
        }
    }

    fn carry(&mut self, from: NodeId, to: NodeId, batch: &[u8]) {
        if self.blocked.contains(&(from, to)) || self.random.percent(self.weather.drop) {
            return;
        }
        let copies = 1 + u64::from(self.random.percent(self.weather.repeat));
        for _ in 0..copies {
            let mut delay = self.random.between(1, self.weather.delay_millis + 2);
            if self.weather.drop > 0 && self.random.percent(2) {
                delay += self.random.below(LATE_MILLIS_MAX);
            }
            self.at(self.now + delay, Event::Deliver(to, batch.to_vec()));
        }
    }

    /// Applies what is committed.
    fn apply(&mut self, id: NodeId) {
        let waiting = std::mem::take(&mut self.node(id).waiting);
        for entry in waiting {
            let node = self.nodes.get_mut(&id).expect("a node");
            let Some(group) = node.group.as_mut() else {
                return;
            };
            node.state.hash = hash(node.state.hash, &entry);
            node.state.applied = entry.index;
            self.counts.applied += 1;
            if let Payload::Change(change) = &entry.payload {
                node.state.members = group.apply_change(entry.index, change);
                self.counts.joint_changes += u64::from(node.state.members.is_joint());
            } else {
                group.applied(entry.index);
            }
            if self.witness != Some(id) {
                let state_hash = node.state.hash;
                self.checks.applied(&entry, state_hash);
            }
            self.check(id);
            self.greet(id);
            self.checkpoint(id);
        }
    }

    /// Whoever becomes a member is started, as the catalog would have it.
    fn greet(&mut self, id: NodeId) {
        for learner in self.nodes[&id].state.members.learners.clone() {
            if !self.nodes.contains_key(&learner) {
                self.add(learner, &Restored::joining());
            }
        }
    }

    fn checkpoint(&mut self, id: NodeId) {
        let plant = self.plant;
        let node = self.node(id);
        if node.state.applied.0 >= node.disk.current.checkpoint.applied.0 + CHECKPOINT_EVERY {
            let mut state = node.state.clone();
            if plant == Plant::CheckpointAhead {
                state.hash ^= 1;
            }
            node.disk.write(Write::Checkpoint(state));
        }
    }

    fn fetched(&mut self, id: NodeId, life: u64, first: LogIndex, last: LogIndex) {
        let fails = self.random.percent(10);
        let node = self.node(id);
        if node.life != life {
            return;
        }
        self.counts.fetches += 1;
        let node = self.nodes.get_mut(&id).expect("a node");
        let entries = if fails {
            Vec::new()
        } else {
            node.disk.read(first, last)
        };
        self.with(id, |group| group.fetched(first, entries));
    }

    /// The leader's state goes to a member that needs it.
    fn transfer(&mut self, from: NodeId, to: NodeId) {
        let node = self.node(from);
        if node.transfers.contains_key(&to) || !node.waiting.is_empty() {
            return;
        }
        if let Some((_, barrier)) = node.barriers.get(&to)
            && node.state.applied < barrier.index
        {
            return;
        }
        let meta = node.group.as_ref().expect("polled").snapshot_meta();
        let life = node.life;
        assert_eq!(meta.last.index, node.state.applied);
        assert_eq!(meta.members, node.state.members);
        let index = meta.last.index;
        node.transfers.insert(to, (meta, node.state.clone()));
        let at = self.now + self.random.between(5, 300);
        self.at(
            at,
            Event::Transferred {
                from,
                to,
                life,
                index,
            },
        );
    }

    fn transferred(&mut self, from: NodeId, to: NodeId, life: u64, index: LogIndex) {
        if self.nodes[&from].life != life {
            return;
        }
        let transfers = &mut self.node(from).transfers;
        // It may have begun anew.
        let is_this = |(meta, _): &(SnapshotMeta, State)| meta.last.index == index;
        if !transfers.get(&to).is_some_and(is_this) {
            return;
        }
        let Some((meta, state)) = transfers.remove(&to) else {
            return;
        };
        let is_cut = self.blocked.contains(&(from, to)) || self.blocked.contains(&(to, from));
        let is_up = self.nodes.get(&to).is_some_and(|node| node.group.is_some());
        if is_cut || !is_up {
            return;
        }
        self.node(to).disk.staged = Some((meta.clone(), state));
        self.with(from, |group| group.offer_snapshot(to, meta));
    }

    /// A node's disk is lost, and its power before that, if nobody else's is at present.
    pub(crate) fn lose_disk(&mut self, id: NodeId) {
        let is_alone = self.nodes.values().all(|node| !node.disk.is_lost());
        let knows_all = (self.nodes.values()).all(|node| node.state.members.voters.len() >= 3);
        if !is_alone || !knows_all {
            return;
        }
        self.crash(id);
        self.checks.forgets(id);
        let plant = self.plant;
        let node = self.node(id);
        if plant == Plant::LossIgnored {
            let members = node.state.members.clone();
            node.disk = Disk::new(&Restored::founding(members));
        } else {
            node.disk.lose();
        }
    }

    /// A node that has forgotten says so to all, again and again.
    fn tell_forgotten(&mut self, from: NodeId) {
        let node = &self.nodes[&from];
        if !node.has_forgotten || self.random.percent(80) {
            return;
        }
        let life = node.life;
        let others: Vec<_> = self.nodes.keys().copied().collect();
        for to in others.into_iter().filter(|to| *to != from) {
            if !self.blocked.contains(&(from, to)) && !self.random.percent(self.weather.drop) {
                let at = self.now + self.random.between(1, self.weather.delay_millis + 2);
                self.at(at, Event::Forgot { to, from, life });
            }
        }
    }

    fn hear_forgetful(&mut self, id: NodeId, from: NodeId, life: u64) {
        let node = self.node(id);
        let known = node.barriers.get(&from).copied();
        let Some(group) = &node.group else { return };
        let term = group.role_now().term;
        let is_known = known.is_some_and(|(of, barrier)| of == life && barrier.term == term);
        let is_member = group.members().contains(from);
        if is_known || !is_member || node.paused_until > self.now {
            return;
        }
        let mut barrier = None;
        self.with(id, |group| barrier = group.member_forgot(from).ok());
        if let Some(barrier) = barrier {
            self.node(id).transfers.remove(&from);
            self.node(id).barriers.insert(from, (life, barrier));
        }
    }

    /// A leader sends its state to members that have forgotten.
    fn help_forgetful(&mut self, id: NodeId) {
        let node = &self.nodes[&id];
        let Some(group) = &node.group else { return };
        let to: Vec<_> = (node.barriers.keys().copied())
            .filter(|to| group.is_forgetful(*to))
            .collect();
        for to in to {
            self.transfer(id, to);
        }
    }

    /// A message for a member that has forgotten: it waits for an offer of what it has got.
    fn relearn(&mut self, id: NodeId, message: Message) {
        let node = self.node(id);
        let is_here = match &message.body {
            Body::Snapshot(meta) => {
                let staged = node.disk.staged.as_ref();
                staged.is_some_and(|(staged, _)| staged == meta)
            }
            _ => false,
        };
        if is_here {
            node.has_forgotten = false;
            self.counts.relearned += 1;
            self.with(id, |group| group.relearn(message).expect("consistent"));
        }
    }

    /// A client proposes something new to a node. Whether it was taken.
    pub(crate) fn propose(&mut self, id: NodeId) -> bool {
        self.proposals += 1;
        let mut data = vec![0; usize::try_from(8 + self.random.below(80)).expect("small")];
        data[..8].copy_from_slice(&self.proposals.to_be_bytes());
        let mut taken = false;
        self.with(id, |group| taken = group.propose(Bytes::from(data)).is_ok());
        taken
    }

    /// Running nodes that say they lead.
    pub(crate) fn leaders(&self) -> Vec<NodeId> {
        let leads = |node: &&Node| node.group.as_ref().is_some_and(Group::is_serving);
        (self.nodes.values().filter(leads))
            .filter_map(|node| Some(node.group.as_ref()?.me()))
            .collect()
    }

    pub(crate) fn group(&self, id: NodeId) -> Option<&Group> {
        self.nodes.get(&id)?.group.as_ref()
    }
}

/// A state is the hash of everything that made it.
fn hash(state: u64, entry: &Entry) -> u64 {
    let (kind, bytes) = entry.payload.encode();
    let mut hash = state ^ entry.index.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ entry.term.0;
    for byte in std::iter::once(kind).chain(bytes) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}
