//! A node with its disk, its workers and a clock, all driven by hand.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use staunch_broker::{CatalogLimits, HashAlgorithm, PermissionPatterns};
use staunch_log::{
    Background, BackgroundJob, Config, FetchJob, MemoryDisk, Reader, WriteDone, WriteJob, Writer,
};
use staunch_node::{
    AdminAnswer, AdminId, FirstUser, Input, Node, NodeConfig, NodeLimits, Output, Recovered,
    VerifyJob,
};
use staunch_types::{ConnectionId, Event, Name, QueueId, Request, Secret, Timestamp, UnixMillis};

/// Jobs after which a test that waits for quiet has found an endless loop.
const JOBS_MAX: usize = 100_000;

/// How far ahead lies what a test waits for without saying so: writes that gather, publishers
/// that are paced.
const AWAITED_MAX: Duration = Duration::from_millis(10);

/// A node and everything around it.
pub(crate) struct World {
    pub(crate) disk: MemoryDisk,
    pub(crate) config: NodeConfig,
    pub(crate) node: Node,
    pub(crate) now: Timestamp,
    pub(crate) writes: VecDeque<WriteJob>,
    pub(crate) backgrounds: VecDeque<BackgroundJob>,
    pub(crate) fetches: VecDeque<(QueueId, FetchJob)>,
    /// What the connections were told and nobody has looked at yet.
    pub(crate) events: Vec<(ConnectionId, Event)>,
    pub(crate) proceeds: Vec<ConnectionId>,
    /// Passwords to be checked.
    pub(crate) verifications: VecDeque<(ConnectionId, VerifyJob)>,
    /// What operators were told.
    pub(crate) answers: Vec<(AdminId, AdminAnswer)>,
    pub(crate) is_stopped: bool,
    workers: Workers,
}

struct Workers {
    writer: Writer<MemoryDisk>,
    background: Background<MemoryDisk>,
    reader: Reader<MemoryDisk>,
}

/// A configuration in which every limit of the log is near.
pub(crate) fn tiny() -> NodeConfig {
    NodeConfig {
        log: Config::tiny(),
        cluster: None,
        ..roomy()
    }
}

/// The log as it is shipped, but with files that a test can fill.
pub(crate) fn roomy() -> NodeConfig {
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
        node_name: "staunch@test".to_owned(),
        first_user: Some(first_user),
        loopback_users: BTreeSet::from([Name::from_static("guest")]),
        anonymous_user: None,
        password_hashing: HashAlgorithm::default(),
        limits: NodeLimits::default(),
        catalog_limits: CatalogLimits::default(),
        accept_loss: false,
        seed: 7,
        started_at: UnixMillis(1_000_000),
        log: Config {
            file_size_bytes: 4 * 1024 * 1024,
            ballast_size_bytes: 0,
            ..Config::default()
        },
        cluster: None,
    }
}

impl World {
    pub(crate) fn new(config: NodeConfig) -> Self {
        Self::on(MemoryDisk::new(), config)
    }

    /// A node on whatever the disk holds.
    pub(crate) fn on(disk: MemoryDisk, config: NodeConfig) -> Self {
        let recovered = staunch_node::recover(disk.clone(), config.clone());
        let recovered = recovered.unwrap_or_else(|error| panic!("the node refuses: {error}"));
        let Recovered {
            node,
            writer,
            background,
            reader,
            ..
        } = recovered;
        node.check_invariants();
        Self {
            disk,
            config,
            node,
            now: Timestamp(1),
            writes: VecDeque::new(),
            backgrounds: VecDeque::new(),
            fetches: VecDeque::new(),
            events: Vec::new(),
            proceeds: Vec::new(),
            verifications: VecDeque::new(),
            answers: Vec::new(),
            is_stopped: false,
            workers: Workers {
                writer,
                background,
                reader,
            },
        }
    }

    /// Power fails, and the node starts again.
    pub(crate) fn crash(self, seed: u64) -> Self {
        self.disk.crash(seed);
        self.kill()
    }

    /// The process ends, and the node starts again; the wall clock goes on.
    pub(crate) fn kill(self) -> Self {
        let mut config = self.config;
        config.started_at = config.started_at.after_millis(self.now.0 / 1_000_000);
        Self::on(self.disk, config)
    }

    /// One input, one drain.
    pub(crate) fn give(&mut self, input: Input) {
        self.node.handle(input, self.now);
        self.drain();
    }

    pub(crate) fn requests(&mut self, id: u64, requests: Vec<Request>) {
        self.give(Input::Requests(ConnectionId(id), requests));
    }

    /// Ends a drain and takes what comes of it.
    pub(crate) fn drain(&mut self) {
        self.node.finish_drain(self.now);
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Events(id, events) => {
                    self.events
                        .extend(events.into_iter().map(|event| (id, event)));
                }
                Output::Proceed(id) => self.proceeds.push(id),
                Output::Write(job) => self.writes.push_back(job),
                Output::Background(job) => self.backgrounds.push_back(job),
                Output::Fetch(queue, job) => self.fetches.push_back((queue, job)),
                Output::Verify(id, job) => self.verifications.push_back((id, job)),
                Output::Admin(id, answer) => self.answers.push((id, answer)),
                Output::Peer(sent) => panic!("it stands alone: {sent:?}"),
                Output::Membership(news) => panic!("it stands alone: {news:?}"),
                Output::News(_) => {}
                Output::Stopped => self.is_stopped = true,
                Output::Unreadable(failed) => panic!("unreadable: {failed:?}"),
                Output::Damaged(..) | Output::Lost(..) | Output::EndLink(_) => {
                    panic!("it stands alone")
                }
            }
        }
    }

    /// Runs the write under way, if there is one.
    pub(crate) fn write(&mut self) -> bool {
        let Some(job) = self.writes.pop_front() else {
            return false;
        };
        let done = self.run_write(job);
        self.give(Input::Written(done));
        true
    }

    /// Runs a write; the node is told by the caller.
    pub(crate) fn run_write(&mut self, job: WriteJob) -> WriteDone {
        self.workers.writer.run(job).unwrap()
    }

    /// Runs the oldest background job, if there is one.
    pub(crate) fn background(&mut self) -> bool {
        let Some(job) = self.backgrounds.pop_front() else {
            return false;
        };
        let done = self.workers.background.run(job).unwrap();
        self.give(Input::Background(done));
        true
    }

    /// Runs the oldest fetch, if there is one.
    pub(crate) fn fetch(&mut self) -> bool {
        let Some((queue, job)) = self.fetches.pop_front() else {
            return false;
        };
        let done = self.workers.reader.run(job);
        self.give(Input::Fetched(queue, done));
        true
    }

    /// Checks the oldest password, if there is one.
    pub(crate) fn verify(&mut self) -> bool {
        let Some((id, job)) = self.verifications.pop_front() else {
            return false;
        };
        self.give(Input::Verified(id, job.run()));
        true
    }

    /// Runs jobs, and lets time pass as the node asks, until there is nothing to wait for soon.
    pub(crate) fn run_jobs(&mut self) {
        for _ in 0..JOBS_MAX {
            if self.write() || self.fetch() || self.background() || self.verify() {
                continue;
            }
            let soon = self.now + AWAITED_MAX;
            let Some(at) = self.node.poll_timeout().filter(|at| *at <= soon) else {
                return;
            };
            self.now = self.now.max(at);
            self.drain();
        }
        panic!("jobs lead to jobs for ever");
    }

    pub(crate) fn tick(&mut self) {
        self.now = self.now + Duration::from_millis(200);
        self.give(Input::Tick);
    }

    /// Lets `count` ticks pass with all the work they bring.
    pub(crate) fn rest(&mut self, count: usize) {
        for _ in 0..count {
            self.tick();
            self.run_jobs();
        }
    }

    pub(crate) fn take_events(&mut self) -> Vec<(ConnectionId, Event)> {
        std::mem::take(&mut self.events)
    }
}
