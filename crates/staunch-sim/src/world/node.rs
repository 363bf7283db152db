//! The node's life: drains, jobs, crashes and starts.

use std::collections::BTreeSet;

use staunch_broker::{CatalogLimits, HashAlgorithm, PermissionPatterns};
use staunch_log::{Config as LogConfig, Note, RecoverError};
use staunch_node::{FirstUser, Input, NodeConfig, NodeLimits, Output, StartError};
use staunch_types::{Name, Secret, UnixMillis};

use crate::{
    history::Fact,
    process::Process,
    schedule::{MICROS, MILLIS, SECONDS},
    world::{Happening, Job, Stage, World},
};

/// How often the node hears that time passes, in nanoseconds.
const TICK: u64 = 200 * MILLIS;
/// Inputs of one drain, as the runtime has it.
const DRAIN_INPUTS_MAX: usize = 128;
/// Free space below which publishers wait.
const DISK_FREE_LIMIT: u64 = 256 * 1024;
/// The wall clock when virtual time began; it goes on through every crash.
const STARTED_AT: UnixMillis = UnixMillis(1_700_000_000_000);

impl World {
    pub(super) fn restart(&mut self) {
        if self.process.is_some() || self.stage == Stage::Done {
            return;
        }
        self.incarnation += 1;
        let (incarnation, planted) = (self.incarnation, self.planted);
        if self.faults.chance(self.knobs.crash_in_job * 2) {
            let operations = self.faults.below(60);
            self.disk.state().power_off_in = u32::try_from(operations).ok();
        }
        let random = self.node_random.split();
        let config = self.node_config();
        match Process::start(self.disk.clone(), config, incarnation, planted, random) {
            Ok((process, notes)) => {
                self.witness
                    .line(format_args!("node starts, life {incarnation}: {notes:?}"));
                self.witness.coverage.hit("node started");
                for note in &notes {
                    self.witness.coverage.hit(match note {
                        Note::TailCut { .. } => "torn tail cut",
                        Note::OrphanRemoved { .. } => "orphan file removed",
                        Note::ForeignFile { .. } => "foreign file left alone",
                    });
                }
                self.process = Some(process);
                self.disk.state().power_off_in = None;
                self.schedule.after(0, Happening::Tick(incarnation));
            }
            Err(_) if self.disk.state().is_power_lost() => {
                self.witness.coverage.hit("crash during recovery");
                self.crash("power lost at start");
            }
            Err(error) if self.disk.state().has_failed => {
                self.witness
                    .line(format_args!("node does not start: {error}"));
                self.witness.coverage.hit("stopped on a disk error");
                self.crash("after a disk error at start");
            }
            // Whoever supervises the process tries again; that ends when there is room.
            Err(StartError::Log(RecoverError::Disk(error))) if error.is_no_space() => {
                self.witness.coverage.hit("no start on a full disk");
                self.schedule.after(SECONDS, Happening::Restart);
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
    pub(super) fn crash(&mut self, why: &str) {
        self.witness.line(format_args!("CRASH: {why}"));
        self.witness.coverage.hit("crash");
        if self
            .process
            .as_ref()
            .is_some_and(|process| process.writes_pending > 0)
        {
            self.witness.coverage.hit("crash with a write pending");
        }
        self.disk.state().lose_power();
        self.process_over();
    }

    /// The process is gone, with or without power.
    pub(super) fn process_over(&mut self) {
        self.process = None;
        self.crash_in = None;
        self.operator.forget();
        let at = self.witness.history.push(Fact::Crash);
        self.witness.definitions.crash(at);
        let connections: Vec<_> = self.lines.keys().copied().collect();
        for connection in connections {
            self.reset(connection);
        }
        self.witness.all_connections_over();
        let delay = if self.stage == Stage::Safety && self.faults.chance(150) {
            self.faults.below(60 * SECONDS)
        } else {
            self.faults.below(500 * MILLIS)
        };
        self.schedule.after(delay, Happening::Restart);
    }

    pub(super) fn plan_drain(&mut self) {
        let Some(process) = &mut self.process else {
            return;
        };
        if !process.inbox.is_empty() && !process.is_drain_planned {
            process.is_drain_planned = true;
            let delay = self.node_random.below(200 * MICROS);
            self.schedule
                .after(delay, Happening::Drain(process.incarnation));
        }
    }

    /// Has the node drained when its timer goes off, unless that is planned.
    fn plan_wake(&mut self) {
        let now = self.schedule.now_nanos();
        let Some(process) = &mut self.process else {
            return;
        };
        process.wake_at = process.wake_at.filter(|at| *at > now);
        if let Some(due) = process.node.poll_timeout()
            && process.wake_at.is_none_or(|at| due.0 < at)
        {
            process.wake_at = Some(due.0);
            let wake = Happening::Drain(process.incarnation);
            self.schedule.at(due.0, wake);
        }
    }

    pub(super) fn drain(&mut self, incarnation: u64) {
        let now = self.schedule.now();
        let input_count_max = if self.knobs.drain_of_one {
            1
        } else {
            DRAIN_INPUTS_MAX
        };
        let Some(process) = self
            .process
            .as_mut()
            .filter(|p| p.incarnation == incarnation)
        else {
            return;
        };
        let outputs = process.drain(input_count_max, now, &mut self.witness);
        for output in outputs {
            self.handle_output(output);
        }
        self.plan_wake();
        self.plan_drain();
    }

    fn handle_output(&mut self, output: Output) {
        let (now, mean) = (self.schedule.now(), self.knobs.disk_latency_nanos);
        let wait = self.disk_random.latency(mean) / 2;
        let Some(process) = &mut self.process else {
            return;
        };
        let incarnation = process.incarnation;
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
                let at = process.writer_free_at.max(now.0) + wait;
                process.writer_free_at = at;
                self.schedule
                    .at(at, Happening::JobStart(incarnation, Job::Write(job)));
            }
            Output::Background(job) => {
                self.witness.coverage.hit(background_kind(&job));
                let at = process.background_free_at.max(now.0) + wait;
                process.background_free_at = at;
                self.schedule
                    .at(at, Happening::JobStart(incarnation, Job::Background(job)));
            }
            Output::Fetch(queue, job) => {
                self.witness.coverage.hit("cold read");
                self.schedule.after(
                    wait,
                    Happening::JobStart(incarnation, Job::Fetch(queue, job)),
                );
            }
            Output::Verify(id, job) => {
                let verified = Input::Verified(id, job.run());
                process.inbox.push_back(verified);
            }
            Output::Peer(sent) => panic!("it stands alone: {sent:?}"),
            Output::Admin(_, answer) => self.operator_answered(answer),
            Output::Stopped => {
                self.witness.line(format_args!("node has stopped"));
                self.witness.coverage.hit("clean stop");
                self.process_over();
            }
            Output::Unreadable(failed) => {
                self.witness.line(format_args!("node stops: {failed}"));
                if self.disk.state().is_power_lost() {
                    self.crash("power lost in a read");
                } else {
                    self.refuse(format!("node cannot read its data: {failed}"));
                }
            }
        }
    }

    pub(super) fn start_job(&mut self, incarnation: u64, job: Job) {
        let wait = self.disk_random.latency(self.knobs.disk_latency_nanos) / 2;
        let now = self.schedule.now_nanos();
        let Some(process) = self
            .process
            .as_mut()
            .filter(|p| p.incarnation == incarnation)
        else {
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
            let mut state = self.disk.state();
            state.power_off_in = None;
            (state.is_power_lost(), std::mem::take(&mut state.has_failed))
        };
        match result {
            _ if power_lost => self.crash("power lost in a job"),
            Ok(input) => {
                if let Input::Background(done) = &input
                    && done.is_no_space()
                {
                    self.witness.coverage.hit("no space for a background job");
                }
                let end = Happening::JobEnd(incarnation, Box::new(input), is_write);
                self.schedule.after(wait, end);
            }
            Err(error) => {
                self.witness
                    .line(format_args!("node stops on a disk error: {error}"));
                self.witness.coverage.hit("stopped on a disk error");
                if failing {
                    self.crash("after a disk error");
                } else {
                    self.refuse(format!("node stops on an error no fault explains: {error}"));
                }
            }
        }
    }

    pub(super) fn end_job(&mut self, incarnation: u64, input: Input, is_write: bool) {
        let Some(process) = self
            .process
            .as_mut()
            .filter(|p| p.incarnation == incarnation)
        else {
            return;
        };
        if is_write {
            process.writes_pending -= 1;
        }
        // Done work goes first, as the runtime has it: it makes room.
        process.inbox.push_front(input);
        self.plan_drain();
    }

    pub(super) fn tick(&mut self, incarnation: u64) {
        let disk_free_size_bytes = self.disk.state().free_bytes();
        let Some(process) = self
            .process
            .as_mut()
            .filter(|p| p.incarnation == incarnation)
        else {
            return;
        };
        process.inbox.push_back(Input::Tick);
        process.inbox.push_back(Input::Resources {
            disk_free_size_bytes,
        });
        self.schedule.after(TICK, Happening::Tick(incarnation));
        self.plan_drain();
    }

    fn node_config(&mut self) -> NodeConfig {
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
            seed: self.node_random.next_u64(),
            started_at: STARTED_AT,
            log,
            cluster: None,
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
