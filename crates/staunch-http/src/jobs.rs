//! What goes on for longer than a request: messages that are replayed, moved or thrown away.
//!
//! A job runs in the process that was asked for it, as a session of whoever asked, and is gone with that
//! process: what it has not done then stays as it was. It is asked for again, and goes on with what is
//! left.

mod transfer;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use staunch_types::Name;
use tokio::sync::watch;

use crate::{
    Api,
    auth::Caller,
    error::ApiError,
    statistics::{wall_micros, wall_millis},
};

/// Jobs that run at once; more are refused with 503.
const RUNNING_MAX: usize = 8;
/// Jobs that are remembered; of those that are over the oldest are forgotten first.
const KEPT_MAX: usize = 256;

/// What is to be done.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Task {
    pub(crate) kind: Kind,
    pub(crate) vhost: String,
    /// Where the messages are.
    pub(crate) queue: String,
    #[serde(default)]
    pub(crate) filter: Filter,
    /// The queue that they go to; of a move.
    pub(crate) to: Option<String>,
    /// The exchange that they go to, each with its own routing key; of a move.
    pub(crate) to_exchange: Option<String>,
    /// To the exchange and with the routing key that they came with, for all its queues; of a replay,
    /// which else goes to the queue where they died first.
    #[serde(default)]
    pub(crate) republish: bool,
    /// At most so many a second.
    pub(crate) rate: Option<u32>,
    /// At most so many.
    pub(crate) count: Option<u64>,
    /// Nothing is done; what would be is counted.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Dead letters go back to where they died.
    Replay,
    /// Messages go elsewhere.
    Move,
    /// Messages are thrown away.
    Drop,
}

/// Which messages. Whoever asks for a cause of death means dead letters only.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    /// They died first for this reason.
    pub(crate) reason: Option<String>,
    /// They died first in this queue.
    pub(crate) origin: Option<String>,
    /// They have been replayed less often.
    pub(crate) replays_below: Option<i64>,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Moved {
    /// In the queue when it began, which is as far as it goes.
    pub(crate) total: u64,
    /// Looked at.
    pub(crate) seen: u64,
    /// Moved or dropped, or what would be.
    pub(crate) done: u64,
    /// Passed over.
    pub(crate) stayed: u64,
    /// Refused or led to no queue: they stay.
    pub(crate) refused: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Running,
    Done,
    Cancelled,
    Failed,
}

/// A job as it is shown.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Shown {
    pub(crate) id: String,
    pub(crate) node: String,
    pub(crate) user: String,
    pub(crate) task: Task,
    pub(crate) state: State,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// Milliseconds since 1970.
    pub(crate) started_at: u64,
    pub(crate) ended_at: Option<u64>,
    pub(crate) progress: Moved,
    /// Until it ends, as it went so far.
    pub(crate) eta_seconds: Option<f64>,
}

/// The jobs of this process.
#[derive(Clone, Default)]
pub(crate) struct Jobs(Arc<Mutex<BTreeMap<u64, Job>>>);

struct Job {
    shown: Shown,
    cancel: watch::Sender<bool>,
}

/// A job's own way to its entry.
struct Report {
    jobs: Jobs,
    id: u64,
}

impl Jobs {
    /// Begins a job of the caller; its id.
    pub(crate) fn begin(&self, api: &Api, caller: Caller, task: Task) -> Result<Shown, ApiError> {
        task.check()?;
        let (cancel, cancelled) = watch::channel(false);
        let mut jobs = self.all();
        let is_running = |job: &&Job| job.shown.state == State::Running;
        if jobs.values().filter(is_running).count() >= RUNNING_MAX {
            return Err(ApiError::Busy);
        }
        while jobs.len() >= KEPT_MAX {
            let oldest = jobs.iter().find(|(_, job)| !is_running(job));
            let oldest = oldest.map(|(id, _)| *id).ok_or(ApiError::Busy)?;
            jobs.remove(&oldest);
        }
        let last = jobs.keys().next_back().copied().unwrap_or_default();
        let id = wall_micros().max(last + 1);
        let shown = Shown {
            id: id.to_string(),
            node: api.settings.node_name.clone(),
            user: caller.name.to_string(),
            task: task.clone(),
            state: State::Running,
            error: None,
            started_at: wall_millis(),
            ended_at: None,
            progress: Moved::default(),
            eta_seconds: None,
        };
        let job = Job {
            shown: shown.clone(),
            cancel,
        };
        jobs.insert(id, job);
        drop(jobs);
        let report = Report {
            jobs: self.clone(),
            id,
        };
        let api = api.clone();
        tokio::spawn(async move {
            let ended = transfer::run(&api, &caller, &task, &report, cancelled).await;
            report.end(ended);
        });
        Ok(shown)
    }

    /// Those of a user, or all.
    pub(crate) fn list(&self, of: Option<&str>) -> Vec<Shown> {
        let jobs = self.all();
        let seen = jobs.values().map(|job| &job.shown);
        let seen = seen.filter(|job| of.is_none_or(|user| job.user == user));
        seen.cloned().collect()
    }

    /// One of a user's, or any.
    pub(crate) fn find(&self, id: &str, of: Option<&str>) -> Option<Shown> {
        let jobs = self.all();
        let job = jobs.get(&id.parse().ok()?)?;
        of.is_none_or(|user| job.shown.user == user)
            .then(|| job.shown.clone())
    }

    /// Has it end behind the batch that it is at; false if there is none of a user's, or any.
    pub(crate) fn cancel(&self, id: &str, of: Option<&str>) -> bool {
        let jobs = self.all();
        let id = id.parse().ok();
        let job = id.and_then(|id: u64| jobs.get(&id));
        let Some(job) = job.filter(|job| of.is_none_or(|user| job.shown.user == user)) else {
            return false;
        };
        job.cancel.send_replace(true);
        true
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    fn tell(&self, progress: Moved) {
        self.change(|shown| {
            shown.progress = progress;
            shown.eta_seconds = shown.eta();
        });
    }

    fn end(&self, ended: Result<State, ApiError>) {
        self.change(|shown| {
            shown.ended_at = Some(wall_millis());
            shown.eta_seconds = None;
            match ended {
                Ok(state) => shown.state = state,
                Err(error) => {
                    shown.state = State::Failed;
                    shown.error = Some(error.to_string());
                }
            }
            let Shown { id, user, .. } = &*shown;
            let Task { vhost, queue, .. } = &shown.task;
            let (done, state) = (shown.progress.done, shown.state.name());
            let (kind, error) = (shown.task.kind.name(), shown.error.as_ref());
            tracing::info!(
                event = "job.ended",
                id,
                kind,
                state,
                user,
                vhost,
                queue,
                done,
                error,
                "a job has ended"
            );
        });
    }

    fn change(&self, change: impl FnOnce(&mut Shown)) {
        if let Some(job) = self.jobs.all().get_mut(&self.id) {
            change(&mut job.shown);
        }
    }
}

impl Shown {
    fn eta(&self) -> Option<f64> {
        let Moved {
            total, seen, done, ..
        } = self.progress;
        let gone_millis = wall_millis().saturating_sub(self.started_at);
        let until = |left: u64, count: u64| {
            let millis = left.saturating_mul(gone_millis).checked_div(count);
            millis.map(|millis| Duration::from_millis(millis).as_secs_f64())
        };
        let all = until(total.saturating_sub(seen), seen);
        let wanted = self.task.count.map(|count| count.saturating_sub(done));
        let enough = wanted.and_then(|wanted| until(wanted, done));
        [all, enough].into_iter().flatten().min_by(f64::total_cmp)
    }
}

impl Task {
    /// Whether it makes sense.
    fn check(&self) -> Result<(), ApiError> {
        let wrong = |reason: &str| Err(ApiError::BadRequest(reason.to_owned()));
        let has_target = self.to.is_some() || self.to_exchange.is_some();
        match self.kind {
            Kind::Move if self.to.is_some() == self.to_exchange.is_some() => {
                wrong("a move needs either to or to_exchange")
            }
            Kind::Move if self.to.as_ref() == Some(&self.queue) => {
                wrong("a queue cannot be moved to itself")
            }
            Kind::Replay | Kind::Drop if has_target => {
                wrong("only a move goes to a queue or exchange of choice")
            }
            Kind::Move | Kind::Drop if self.republish => wrong("only a replay can republish"),
            Kind::Move | Kind::Replay | Kind::Drop if self.rate == Some(0) => {
                wrong("rate is at least 1")
            }
            Kind::Move | Kind::Replay | Kind::Drop => Ok(()),
        }
    }

    pub(crate) fn vhost(&self) -> Result<Name, ApiError> {
        crate::json::name(&self.vhost)
    }
}

impl Filter {
    /// Whether it leaves out what never died.
    fn is_of_deaths(&self) -> bool {
        self.reason.is_some() || self.origin.is_some() || self.replays_below.is_some()
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Move => "move",
            Self::Drop => "drop",
        }
    }
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}
