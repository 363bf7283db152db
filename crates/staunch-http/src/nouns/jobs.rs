//! `/api/staunch/v1/jobs`: messages that are replayed, moved or thrown away, for as long as it takes.
//!
//! A job runs on the node that was asked for it; all nodes show it, and let it be cancelled.

use std::cmp::Reverse;

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse as _,
};
use serde_json::json;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Json},
    error::ApiError,
    jobs::{Shown, Task},
    json::name,
    question::Question,
};

impl Content for Task {
    const REQUIRED: &'static [&'static str] = &["kind", "vhost", "queue"];
}

/// Begins a job.
pub(crate) async fn begin(
    State(api): State<Api>,
    caller: Caller,
    Json(task): Json<Task>,
) -> Answer {
    let vhost = name(&task.vhost)?;
    caller
        .enter(&api, &vhost)
        .await
        .map_err(ApiError::of_vhost)?;
    let job = api.jobs.begin(&api, caller, task)?;
    body::ok(&json!(job))
}

/// All that run, and the last that have ended; of others only for monitors.
pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Answer {
    let of = seen_by(&caller);
    let question = Question::Jobs { of: of.clone() };
    let heard = api.ask_others::<Vec<Shown>>(&question).await?;
    let mut jobs = api.jobs.list(of.as_deref());
    jobs.extend(heard.answers.into_iter().flat_map(|(_, jobs)| jobs));
    jobs.sort_by_key(|job| Reverse(job.started_at));
    Ok(heard.unknown.mark(body::ok(&json!(jobs))?))
}

pub(crate) async fn get(State(api): State<Api>, caller: Caller, Path(job): Path<String>) -> Answer {
    let of = seen_by(&caller);
    if let Some(job) = api.jobs.find(&job, of.as_deref()) {
        return body::ok(&json!(job));
    }
    let heard = api.ask_others::<Vec<Shown>>(&Question::Jobs { of }).await?;
    let mut jobs = heard.answers.into_iter().flat_map(|(_, jobs)| jobs);
    let found = jobs.find(|it| it.id == job).ok_or(ApiError::NotFound)?;
    body::ok(&json!(found))
}

/// Has a job end; of others only for administrators.
pub(crate) async fn cancel(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer {
    let of = (!caller.is_anybody(&["administrator"])).then(|| caller.name.to_string());
    let mut is_found = api.jobs.cancel(&id, of.as_deref());
    if !is_found {
        let question = Question::CancelJob { id, of };
        let heard = api.ask_others::<bool>(&question).await?;
        is_found = heard.answers.into_iter().any(|(_, is_found)| is_found);
    }
    if is_found {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Err(ApiError::NotFound)
}

/// Whose jobs the caller sees; none: everybody's.
fn seen_by(caller: &Caller) -> Option<String> {
    (!caller.is_monitor()).then(|| caller.name.to_string())
}
