//! One node's process: the machine, its workers, and what it has asked for and not got yet.

use std::collections::{BTreeSet, VecDeque};

use staunch_broker::{CatalogLimits, HashAlgorithm, PermissionPatterns, QueueKind};
use staunch_log::{
    Background, BackgroundJob, Config, Damage, FetchJob, MemoryDisk, Note, Reader, WriteJob, Writer,
};
use staunch_node::{
    AdminAnswer, AdminId, ClusterConfig, FirstUser, Input, MembershipNews, Node, NodeConfig,
    NodeLimits, Output, PeerOutput, Recovered, VerifyJob,
};
use staunch_raft::LivenessConfig;
use staunch_types::{ConnectionId, Event, Name, QueueId, Secret, Timestamp, UnixMillis};

/// How often a node is told that time passes.
const TICK_MILLIS: u64 = 200;

/// A process that runs.
pub(crate) struct Machine {
    pub(crate) node: Node,
    pub(crate) incarnation: u64,
    /// What the connections were told and nobody has looked at yet.
    pub(crate) events: Vec<(ConnectionId, Event)>,
    /// What operators were told.
    pub(crate) answers: Vec<(AdminId, AdminAnswer)>,
    /// What it has found out about its cluster.
    pub(crate) news: Vec<MembershipNews>,
    /// Frames for peers, in order.
    pub(crate) sent: VecDeque<PeerOutput>,
    /// Peers whose links it wants ended.
    pub(crate) ended: Vec<Name>,
    pub(crate) is_stopped: bool,
    /// What turned out damaged, and what was lost with damage.
    pub(crate) damage: Vec<(QueueId, Damage)>,
    pub(crate) lost: Option<Name>,
    /// What recovery had to say.
    pub(crate) notes: Vec<Note>,
    pub(crate) repairs: usize,
    writes: VecDeque<WriteJob>,
    backgrounds: VecDeque<BackgroundJob>,
    fetches: VecDeque<(QueueId, FetchJob)>,
    verifications: VecDeque<(ConnectionId, VerifyJob)>,
    /// Something was handled since the last drain.
    is_touched: bool,
    next_tick: Timestamp,
    workers: Workers,
}

struct Workers {
    writer: Writer<MemoryDisk>,
    background: Background<MemoryDisk>,
    reader: Reader<MemoryDisk>,
}

/// Name of the node with that number.
pub(crate) fn node_name(number: usize) -> Name {
    Name::new(format!("n{number}").as_bytes()).unwrap()
}

fn seed(number: usize) -> (Name, Name) {
    let address = format!("host{number}:1");
    (node_name(number), Name::new(address.as_bytes()).unwrap())
}

/// Configuration of node `number` of `count`.
pub(crate) fn config(number: usize, count: usize) -> NodeConfig {
    let first_user = FirstUser {
        name: Name::from_static("guest"),
        password: Secret(b"guest".to_vec()),
        tags: vec![Name::from_static("administrator")],
        vhost: Name::from_static("/"),
        permissions: PermissionPatterns {
            configure: ".*".to_owned(),
            write: ".*".to_owned(),
            read: ".*".to_owned(),
        },
    };
    NodeConfig {
        memory_limit_size_bytes: 64 * 1024 * 1024,
        disk_free_limit_size_bytes: 0,
        node_name: format!("staunch@n{number}"),
        first_user: Some(first_user),
        loopback_users: BTreeSet::new(),
        anonymous_user: None,
        password_hashing: HashAlgorithm::Sha256,
        limits: NodeLimits::default(),
        catalog_limits: CatalogLimits {
            default_queue_type: QueueKind::Quorum,
            ..CatalogLimits::default()
        },
        accept_loss: false,
        seed: 7 + number as u64,
        started_at: UnixMillis(1_000_000),
        log: Config {
            file_size_bytes: 1024 * 1024,
            ballast_size_bytes: 0,
            ..Config::default()
        },
        cluster: Some(ClusterConfig {
            me: node_name(number),
            seeds: (1..=count).map(seed).collect(),
            replica_repair_after: None,
            primary: None,
            is_witness: false,
            incarnation: 0,
            liveness: LivenessConfig::default(),
        }),
    }
}

impl Machine {
    /// A process on whatever the disk holds. The clock goes on over its end and its start.
    pub(crate) fn start(disk: MemoryDisk, config: NodeConfig) -> Self {
        let incarnation = config.cluster.as_ref().unwrap().incarnation;
        let recovered = staunch_node::recover(disk, config);
        let recovered = recovered.unwrap_or_else(|error| panic!("the node refuses: {error}"));
        let Recovered {
            node,
            writer,
            background,
            reader,
            notes,
            repairs,
            ..
        } = recovered;
        node.check_invariants();
        Self {
            node,
            incarnation,
            events: Vec::new(),
            answers: Vec::new(),
            news: Vec::new(),
            sent: VecDeque::new(),
            ended: Vec::new(),
            is_stopped: false,
            damage: Vec::new(),
            lost: None,
            notes,
            repairs: repairs.len(),
            writes: VecDeque::new(),
            backgrounds: VecDeque::new(),
            fetches: VecDeque::new(),
            verifications: VecDeque::new(),
            is_touched: true,
            next_tick: Timestamp::default(),
            workers: Workers {
                writer,
                background,
                reader,
            },
        }
    }

    /// Tells the node something; it drains at the end of the step.
    pub(crate) fn handle(&mut self, input: Input, now: Timestamp) {
        self.is_touched = true;
        self.node.handle(input, now);
    }

    /// Ends the jobs that were begun in earlier steps, lets time pass and drains, if there is
    /// cause.
    pub(crate) fn step(&mut self, now: Timestamp) {
        self.run_jobs(now);
        if now >= self.next_tick {
            self.next_tick = now + std::time::Duration::from_millis(TICK_MILLIS);
            self.handle(Input::Tick, now);
        }
        let is_due = self.node.poll_timeout().is_some_and(|at| at <= now);
        if self.is_touched || is_due {
            self.is_touched = false;
            self.node.finish_drain(now);
            self.take_outputs();
        }
    }

    fn run_jobs(&mut self, now: Timestamp) {
        for job in std::mem::take(&mut self.writes) {
            let done = self.workers.writer.run(job).unwrap();
            self.handle(Input::Written(done), now);
        }
        for (queue, job) in std::mem::take(&mut self.fetches) {
            let done = self.workers.reader.run(job);
            self.handle(Input::Fetched(queue, done), now);
        }
        for job in std::mem::take(&mut self.backgrounds) {
            let done = self.workers.background.run(job).unwrap();
            self.handle(Input::Background(done), now);
        }
        for (id, job) in std::mem::take(&mut self.verifications) {
            self.handle(Input::Verified(id, job.run()), now);
        }
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Events(id, events) => {
                    let events = events.into_iter().map(|event| (id, event));
                    self.events.extend(events);
                }
                Output::Proceed(_) | Output::News(_) => {}
                Output::Write(job) => self.writes.push_back(job),
                Output::Background(job) => self.backgrounds.push_back(job),
                Output::Fetch(queue, job) => self.fetches.push_back((queue, job)),
                Output::Verify(id, job) => self.verifications.push_back((id, job)),
                Output::Admin(id, answer) => self.answers.push((id, answer)),
                Output::Membership(news) => self.news.push(news),
                Output::Peer(frame) => self.sent.push_back(frame),
                Output::EndLink(peer) => self.ended.push(peer),
                Output::Stopped => self.is_stopped = true,
                Output::Unreadable(failed) => panic!("unreadable: {failed:?}"),
                Output::Damaged(queue, damage) => self.damage.push((queue, damage)),
                Output::Lost(_, queue) => self.lost = Some(queue),
            }
        }
    }
}
