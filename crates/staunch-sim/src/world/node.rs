//! The node's life: drains, jobs, crashes and starts.

use std::collections::BTreeSet;

use staunch_broker::{CatalogLimits, HashAlgorithm, PermissionPatterns};
use staunch_log::{Config as LogConfig, Note, RecoverError};
use staunch_node::{ClusterConfig, FirstUser, Input, NodeConfig, NodeLimits, Output, StartError};
use staunch_raft::LivenessConfig;
use staunch_types::{Name, Secret, UnixMillis};

use crate::{
    consensus::Looked,
    history::Fact,
    knobs::Mode,
    machine::{Life, Machine},
    planted::Planted,
    process::Process,
    scenario::Scenario,
    schedule::{MICROS, MILLIS, SECONDS},
    world::{
        Happening, Job, Stage, World,
        peers::{Ending, peer_name},
        place::home_of,
    },
};

/// How often the node hears that time passes, in nanoseconds.
const TICK: u64 = 200 * MILLIS;
/// Inputs of one drain, as the runtime has it.
const DRAIN_INPUTS_MAX: usize = 128;
/// Free space below which publishers wait.
const DISK_FREE_LIMIT: u64 = 256 * 1024;
/// The right time when virtual time began; it goes on through every crash.
const EPOCH: UnixMillis = UnixMillis(1_700_000_000_000);

impl World {
    pub(super) fn restart(&mut self, node: usize) {
        if self.machines[node].process.is_some() || self.stage == Stage::Done {
            return;
        }
        self.look_at_disk(node);
        self.machines[node].lives += 1;
        let number = self.machines[node].lives;
        let life = Life { node, number };
        let disk = self.machines[node].disk.clone();
        if self.faults.chance(self.knobs.crash_in_job * 2) {
            let operations = self.faults.below(60);
            disk.state().power_off_in = u32::try_from(operations).ok();
        }
        let random = self.node_random.split();
        if self.is_cluster() {
            self.machines[node].incarnation = self.node_random.next_u64();
        }
        let now = self.schedule.now_nanos();
        let started_at = self.machines[node].clock.start(now, EPOCH);
        let config = self.node_config(node, started_at);
        let disks: Vec<_> = self.machines.iter().map(|it| it.disk.clone()).collect();
        match Process::start(disks, config, life, self.planted, random) {
            Ok((mut process, notes)) => {
                process.has_many_queues = self.scenario == Some(Scenario::ElectionStorm);
                let name = self.name(node);
                self.witness
                    .line(format_args!("{name} starts, life {number}: {notes:?}"));
                self.witness.coverage.hit("node started");
                for note in &notes {
                    self.witness.coverage.hit(match note {
                        Note::TailCut { .. } => "torn tail cut",
                        Note::LogGivenUp(_) => "damaged log given up",
                        Note::SegmentLost(_) => "damaged segment lost",
                        Note::OrphanRemoved { .. } => "orphan file removed",
                        Note::ForeignFile { .. } => "foreign file left alone",
                    });
                }
                self.machines[node].process = Some(process);
                self.open_links(node);
                disk.state().power_off_in = None;
                self.schedule.after(0, Happening::Tick(life));
            }
            Err(_) if disk.state().is_power_lost() => {
                self.witness.coverage.hit("crash during recovery");
                self.crash(node, "power lost at start");
            }
            Err(error) if disk.state().has_failed => {
                self.witness
                    .line(format_args!("node does not start: {error}"));
                self.witness.coverage.hit("stopped on a disk error");
                self.crash(node, "after a disk error at start");
            }
            // Whoever runs it gives it another disk.
            Err(StartError::Removed) if self.is_cluster() => {
                self.witness.coverage.hit("removed node does not start");
                self.lose_disk(node);
                self.schedule.after(0, Happening::Restart(node));
            }
            // Whoever supervises the process tries again; that ends when there is room.
            Err(StartError::Log(RecoverError::Disk(error))) if error.is_no_space() => {
                self.witness.coverage.hit("no start on a full disk");
                self.schedule.after(SECONDS, Happening::Restart(node));
            }
            Err(error) => {
                self.witness
                    .line(format_args!("node refuses to start: {error}"));
                self.refuse(format!("node refuses to start: {error}"));
            }
        }
    }

    /// The node will not go on with its data: right if they were damaged, else a finding.
    fn refuse(&mut self, what: String) {
        if self.is_damaged {
            self.is_refused = true;
            self.witness.coverage.hit("refused damaged data");
            self.stage = Stage::Done;
        } else {
            self.stuck(what);
        }
    }

    /// Power goes.
    pub(super) fn crash(&mut self, node: usize, why: &str) {
        let of = self.of(node);
        self.witness.line(format_args!("CRASH{of}: {why}"));
        self.witness.coverage.hit("crash");
        let process = self.machines[node].process.as_ref();
        if process.is_some_and(|process| process.writes_pending > 0) {
            self.witness.coverage.hit("crash with a write pending");
        }
        self.machines[node].disk.state().lose_power();
        if self.planted == Some(Planted::ForgetDisk) && self.is_cluster() {
            self.witness.coverage.hit("planted bug struck");
            self.machines[node].disk.state().wipe();
            self.machines[node].keeps_id = true;
        }
        self.process_over(node, Ending::Crashed);
    }

    /// The process is gone, with or without power.
    pub(super) fn process_over(&mut self, node: usize, ending: Ending) {
        self.machines[node].process = None;
        self.machines[node].crash_in = None;
        self.machines[node].paused_until = 0;
        self.close_links(node, ending);
        self.consensus.forget(node);
        self.operator.forget(node);
        let at = self.witness.history.push(Fact::Crash);
        if self.is_cluster() {
            self.witness.definitions.doubt(at);
        } else {
            self.witness.definitions.crash(at);
        }
        let connections: Vec<_> = self.lines.keys().copied().collect();
        for connection in connections {
            if self.home(connection) == node {
                self.reset(connection);
            }
        }
        let nodes = self.machines.len();
        self.witness
            .connections_over(|connection| home_of(connection, nodes) == node);
        let is_soon = self.scenario.is_some_and(Scenario::restarts_soon);
        let delay = if self.stage == Stage::Safety && !is_soon && self.faults.chance(150) {
            self.faults.below(60 * SECONDS)
        } else {
            self.faults.below(500 * MILLIS)
        };
        self.schedule.after(delay, Happening::Restart(node));
    }

    pub(super) fn plan_drain(&mut self, node: usize) {
        let Some(process) = &mut self.machines[node].process else {
            return;
        };
        if !process.inbox.is_empty() && !process.is_drain_planned {
            process.is_drain_planned = true;
            let delay = self.node_random.below(200 * MICROS);
            self.schedule.after(delay, Happening::Drain(process.life));
        }
    }

    /// Has the node drained when its timer goes off, unless that is planned.
    fn plan_wake(&mut self, node: usize) {
        let now = self.schedule.now_nanos();
        let Machine { process, clock, .. } = &mut self.machines[node];
        let Some(process) = process else {
            return;
        };
        process.wake_at = process.wake_at.filter(|at| *at > now);
        if let Some(due) = process.node.poll_timeout()
            && let due = clock.when(due)
            && process.wake_at.is_none_or(|at| due < at)
        {
            process.wake_at = Some(due);
            let wake = Happening::Drain(process.life);
            self.schedule.at(due, wake);
        }
    }

    pub(super) fn drain(&mut self, life: Life) {
        let node = life.node;
        let now = self.now_at(node);
        let input_count_max = if self.knobs.drain_of_one {
            1
        } else {
            DRAIN_INPUTS_MAX
        };
        let machine = &mut self.machines[node];
        let Some(process) = machine.process.as_mut().filter(|it| it.life == life) else {
            return;
        };
        let outputs = process.drain(input_count_max, now, &mut self.witness);
        self.look_at_groups(node);
        for output in outputs {
            self.handle_output(node, output);
        }
        self.plan_wake(node);
        self.plan_drain(node);
    }

    /// What must hold of the groups after every drain.
    fn look_at_groups(&mut self, node: usize) {
        if !self.is_cluster() {
            return;
        }
        let Some(process) = &self.machines[node].process else {
            return;
        };
        let looked = if process.has_many_queues {
            Looked::AtCatalog
        } else {
            Looked::AtAll
        };
        let wrong = self.consensus.look(node, &process.node, looked);
        self.witness.history.now_nanos = self.schedule.now_nanos();
        let stamp = self.witness.history.next_stamp();
        for (node, known) in self.consensus.catalog_known(stamp) {
            self.witness.node_knows(node, known);
        }
        self.consensus_broken(wrong);
    }

    /// Looks at the states of all groups.
    pub(super) fn compare_states(&mut self) {
        for node in 0..self.machines.len() {
            let Some(process) = &self.machines[node].process else {
                continue;
            };
            let wrong = self.consensus.compare(&process.node);
            self.consensus_broken(wrong);
        }
    }

    pub(super) fn consensus_broken(&mut self, wrong: Vec<String>) {
        for what in wrong {
            self.witness.line(format_args!("CONSENSUS BROKEN {what}"));
            self.witness.history.push(Fact::ConsensusBroken { what });
        }
    }

    fn handle_output(&mut self, node: usize, output: Output) {
        let mean = self.knobs.disk_latency_nanos;
        let (now, now_nanos) = (self.now_at(node), self.schedule.now_nanos());
        let wait = self.disk_random.latency(mean) / 2;
        let Some(process) = &mut self.machines[node].process else {
            return;
        };
        let life = process.life;
        match output {
            Output::Events(id, events) => {
                process.deliver(id, events, now, &mut self.witness);
                self.after_peer(id);
            }
            Output::Proceed(id) => {
                process.proceed(id, now, &mut self.witness);
                self.after_peer(id);
            }
            Output::Write(job) => {
                process.writes_pending += 1;
                let at = process.writer_free_at.max(now_nanos) + wait;
                process.writer_free_at = at;
                self.schedule
                    .at(at, Happening::JobStart(life, Job::Write(job)));
            }
            Output::Background(job) => {
                self.witness.coverage.hit(background_kind(&job));
                let at = process.background_free_at.max(now_nanos) + wait;
                process.background_free_at = at;
                self.schedule
                    .at(at, Happening::JobStart(life, Job::Background(job)));
            }
            Output::Fetch(queue, job) => {
                self.witness.coverage.hit("cold read");
                self.schedule
                    .after(wait, Happening::JobStart(life, Job::Fetch(queue, job)));
            }
            Output::Verify(id, job) => {
                let verified = Input::Verified(id, job.run());
                process.inbox.push_back(verified);
            }
            Output::Peer(sent) => self.send_to_peer(node, sent),
            Output::EndLink(peer) => self.end_link(node, &peer),
            Output::Membership(news) => self.note_membership(node, &news),
            Output::News(_) => {}
            Output::Admin(_, answer) if self.is_cluster() => self.members_changed(&answer),
            Output::Admin(_, answer) => self.operator_answered(answer),
            Output::Stopped => {
                let name = self.name(node);
                self.witness.line(format_args!("{name} has stopped"));
                self.witness.coverage.hit("clean stop");
                self.process_over(node, Ending::Stopped);
            }
            Output::Damaged(queue, damage) => {
                self.witness
                    .line(format_args!("{queue} is damaged: {damage}"));
                self.witness.coverage.hit("damaged body found");
            }
            Output::Lost(_, queue) => self.refuse(format!("queue {queue} is lost")),
            Output::Unreadable(failed) => {
                self.witness.line(format_args!("node stops: {failed}"));
                if self.machines[node].disk.state().is_power_lost() {
                    self.crash(node, "power lost in a read");
                } else {
                    self.refuse(format!("node cannot read its data: {failed}"));
                }
            }
        }
    }

    pub(super) fn start_job(&mut self, life: Life, job: Job) {
        let wait = self.disk_random.latency(self.knobs.disk_latency_nanos) / 2;
        let now = self.schedule.now_nanos();
        let disk = self.machines[life.node].disk.clone();
        let Some(process) = self.process_of(life) else {
            return;
        };
        let is_write = matches!(job, Job::Write(_));
        let result = match job {
            Job::Write(job) => {
                process.writer_free_at = process.writer_free_at.max(now + wait);
                process
                    .writer
                    .run(job)
                    .map(Input::Written)
                    .map_err(|error| error.to_string())
            }
            Job::Background(job) => {
                process.background_free_at = process.background_free_at.max(now + wait);
                let done = process.background.run(job);
                done.map(Input::Background)
                    .map_err(|error| error.to_string())
            }
            Job::Fetch(queue, job) => Ok(Input::Fetched(queue, process.reader.run(job))),
        };
        let (power_lost, failing) = {
            let mut state = disk.state();
            state.power_off_in = None;
            (state.is_power_lost(), std::mem::take(&mut state.has_failed))
        };
        match result {
            _ if power_lost => self.crash(life.node, "power lost in a job"),
            Ok(input) => {
                if let Input::Background(done) = &input
                    && done.is_no_space()
                {
                    self.witness.coverage.hit("no space for a background job");
                }
                let end = Happening::JobEnd(life, Box::new(input), is_write);
                self.schedule.after(wait, end);
            }
            Err(error) => {
                self.witness
                    .line(format_args!("node stops on a disk error: {error}"));
                self.witness.coverage.hit("stopped on a disk error");
                if failing {
                    self.crash(life.node, "after a disk error");
                } else {
                    self.refuse(format!("node stops on an error no fault explains: {error}"));
                }
            }
        }
    }

    pub(super) fn end_job(&mut self, life: Life, input: Input, is_write: bool) {
        let Some(process) = self.process_of(life) else {
            return;
        };
        if is_write {
            process.writes_pending -= 1;
        }
        // Done work goes first, as the runtime has it: it makes room.
        process.inbox.push_front(input);
        self.plan_drain(life.node);
    }

    pub(super) fn tick(&mut self, life: Life) {
        let disk_free_size_bytes = self.machines[life.node].disk.state().free_bytes();
        let Some(process) = self.process_of(life) else {
            return;
        };
        process.inbox.push_back(Input::Tick);
        process.inbox.push_back(Input::Resources {
            disk_free_size_bytes,
        });
        self.schedule.after(TICK, Happening::Tick(life));
        self.plan_drain(life.node);
    }

    fn node_config(&mut self, node: usize, started_at: UnixMillis) -> NodeConfig {
        let mut log = LogConfig::tiny();
        if !self.knobs.tiny_files {
            log.file_size_bytes = 1024 * 1024;
            log.segment_size_bytes_max = 512 * 1024;
            log.own_segment_size_bytes_min = 64 * 1024;
            log.ballast_size_bytes = 256 * 1024;
        }
        if self.knobs.tiny_chunks {
            log.chunk_size_bytes_max = 512;
        }
        if self.knobs.no_cache {
            log.cache_size_bytes = 0;
        }
        let memory = if self.knobs.tiny_memory {
            256 * 1024
        } else {
            64 * 1024 * 1024
        };
        let cluster = self.is_cluster().then(|| ClusterConfig {
            me: peer_name(node),
            seeds: self.seeds_of(node),
            replica_repair_after: self.cluster_knobs.members.repair_after,
            primary: match self.cluster_knobs.mode {
                Mode::Standby(primary) => Some(peer_name(primary)),
                Mode::Cluster | Mode::Partitioned => None,
            },
            is_witness: false,
            incarnation: self.machines[node].incarnation,
            liveness: LivenessConfig::default(),
        });
        NodeConfig {
            memory_limit_size_bytes: memory,
            disk_free_limit_size_bytes: DISK_FREE_LIMIT,
            node_name: "staunch@sim".to_owned(),
            first_user: Some(FirstUser {
                name: guest(),
                password: Secret(b"guest".to_vec()),
                tags: vec![Name::from_static("administrator")],
                vhost: Name::from_static("/"),
                permissions: PermissionPatterns {
                    configure: ".*".to_owned(),
                    write: ".*".to_owned(),
                    read: ".*".to_owned(),
                },
            }),
            loopback_users: BTreeSet::from([guest()]),
            anonymous_user: None,
            password_hashing: HashAlgorithm::default(),
            limits: NodeLimits::default(),
            catalog_limits: CatalogLimits::default(),
            accept_loss: false,
            seed: self.node_random.next_u64(),
            started_at,
            log,
            cluster,
        }
    }
}

fn guest() -> Name {
    Name::from_static("guest")
}

/// Which background job it is, by what it prints: the log keeps the kinds to itself.
fn background_kind(job: &staunch_log::BackgroundJob) -> &'static str {
    let text = format!("{job:?}");
    let kinds = [
        ("Prepare", "background: prepare"),
        ("Tenure", "background: tenure"),
        ("Checkpoint", "background: checkpoint"),
        ("Clean", "background: clean"),
        ("MakeBallast", "background: ballast"),
    ];
    let head = text.strip_prefix("BackgroundJob(").unwrap_or(&text);
    kinds
        .iter()
        .find(|(name, _)| head.starts_with(name))
        .map_or("background: other", |kind| kind.1)
}
