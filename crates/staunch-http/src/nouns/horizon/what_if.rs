//! What if: publishers faster, consumers gone, another limit, a node fewer.

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use staunch_horizon::{Horizon, Outlook, Resource, WhatIf, WhatIfError};
use staunch_types::{Name, QueueId};

use super::{
    compute, find, is_served_here, look,
    shown::{RESOURCES, resource_name, shown_bound, shown_estimate, shown_horizon},
};
use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Asked, Content, Json},
    error::ApiError,
    json::name,
};

/// The question, from a query or a body.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    rate_factor: Option<f64>,
    consumers_gone_seconds: Option<f64>,
    consumers_per_second: Option<f64>,
    #[serde(default)]
    one_node_fewer: bool,
    limit: Option<String>,
    capacity: Option<u64>,
}

impl Content for Question {}

pub(crate) async fn asked_of_queue(
    api: State<Api>,
    caller: Caller,
    path: Path<(String, String)>,
    Asked(question): Asked<Question>,
) -> Answer {
    of_queue(api.0, caller, path.0, question).await
}

pub(crate) async fn told_of_queue(
    api: State<Api>,
    caller: Caller,
    path: Path<(String, String)>,
    Json(question): Json<Question>,
) -> Answer {
    of_queue(api.0, caller, path.0, question).await
}

pub(crate) async fn asked_of_node(
    api: State<Api>,
    caller: Caller,
    Asked(question): Asked<Question>,
) -> Answer {
    of_node(api.0, caller, question).await
}

pub(crate) async fn told_of_node(
    api: State<Api>,
    caller: Caller,
    Json(question): Json<Question>,
) -> Answer {
    of_node(api.0, caller, question).await
}

async fn of_queue(
    api: Api,
    caller: Caller,
    (vhost, queue): (String, String),
    question: Question,
) -> Answer {
    let (vhost, queue) = (name(&vhost)?, name(&queue)?);
    caller.enter(&api, &vhost).await?;
    // What makes no sense is refused here.
    question.what_if(&api).await?;
    let id = find(&api, &vhost, &queue).await?;
    if let Some(answer) = answer_for(&api, id, &question).await? {
        return body::ok(&answer.map_err(ApiError::BadRequest)?);
    }
    let question = crate::question::Question::WhatIf { id: id.0, question };
    let heard = api.ask_others::<Option<Told>>(&question).await?;
    let mut told = heard.answers.into_iter().filter_map(|(_, told)| told);
    let told = told.next().ok_or(ApiError::Unavailable)?;
    body::ok(&told.map_err(ApiError::BadRequest)?)
}

/// What would be, or why the question makes no sense.
type Told = Result<Value, String>;

/// What would come of it for a queue; none if this node does not serve it.
pub(crate) async fn answer_for(
    api: &Api,
    id: QueueId,
    question: &Question,
) -> Result<Option<Told>, ApiError> {
    if !is_served_here(api, id).await? {
        return Ok(None);
    }
    let what = question.what_if(api).await?;
    let (snapshot, view) = look(api, id).await?;
    let (vhost, queue) = (view.facts.vhost.clone(), view.facts.name.to_string());
    let answered = compute(move || {
        let as_is = snapshot.queue(&view).horizon;
        snapshot
            .queue_if(&view, &what)
            .map(|outlook| (as_is, outlook))
    });
    match question.answer((Some(&vhost), &queue), &answered.await?) {
        Ok(answer) => Ok(Some(Ok(answer))),
        Err(ApiError::BadRequest(reason)) => Ok(Some(Err(reason))),
        Err(other) => Err(other),
    }
}

async fn of_node(api: Api, caller: Caller, question: Question) -> Answer {
    if !caller.is_monitor() {
        return Err(ApiError::NotAuthorized("Not monitor user".to_owned()));
    }
    let what = question.what_if(&api).await?;
    let condition = api.node.condition().await?;
    let snapshot = api.statistics.read().snapshot_with(condition, None);
    let answered = compute(move || {
        let as_is = snapshot.node().horizon;
        snapshot.node_if(&what).map(|outlook| (as_is, outlook))
    });
    body::ok(&question.answer((None, &api.settings.node_name), &answered.await?)?)
}

impl Question {
    async fn what_if(&self, api: &Api) -> Result<WhatIf, ApiError> {
        let wrong = |reason: String| Err(ApiError::BadRequest(reason));
        let is_empty = self.rate_factor.is_none()
            && self.consumers_gone_seconds.is_none()
            && self.consumers_per_second.is_none()
            && !self.one_node_fewer
            && self.limit.is_none()
            && self.capacity.is_none();
        if is_empty {
            return wrong(
                "nothing is asked: rate_factor, consumers_gone_seconds, consumers_per_second, \
                 one_node_fewer, or limit with capacity"
                    .to_owned(),
            );
        }
        let capacity = match (&self.limit, self.capacity) {
            (None, None) => None,
            (Some(limit), Some(capacity)) => Some((resource(limit)?, capacity)),
            (Some(_), None) | (None, Some(_)) => {
                return wrong("limit and capacity belong together".to_owned());
            }
        };
        let mut nodes = None;
        if self.one_node_fewer {
            let status = api.node.cluster_status().await?;
            let count = status.map_or(1, |status| status.nodes.len());
            nodes = Some(u32::try_from(count).unwrap_or(u32::MAX));
        }
        let gone = self.consumers_gone_seconds;
        let consumers_gone_millis = gone.map(|seconds| {
            let asked = std::time::Duration::try_from_secs_f64(seconds);
            let millis = asked.map(|gone| u64::try_from(gone.as_millis()).unwrap_or(u64::MAX));
            millis.map_err(|_| {
                ApiError::BadRequest(format!("consumers cannot be gone for {seconds} seconds"))
            })
        });
        Ok(WhatIf {
            rate_factor: self.rate_factor.unwrap_or(1.0),
            consumers_gone_millis: consumers_gone_millis.transpose()?,
            consumers_per_second: self.consumers_per_second,
            one_fewer_of_nodes: nodes,
            capacity,
        })
    }

    fn answer(
        &self,
        (vhost, name): (Option<&Name>, &str),
        answered: &Result<(Horizon, Outlook), WhatIfError>,
    ) -> Result<Value, ApiError> {
        let (as_is, outlook) = answered.as_ref().map_err(|error| match error {
            WhatIfError::NoSuchLimit(resource) => {
                let resource = resource_name(*resource);
                ApiError::BadRequest(format!("{name} has no limit '{resource}'"))
            }
            other => ApiError::BadRequest(other.to_string()),
        })?;
        let at_return = outlook.messages_at_return.map(|[messages, low, high]| {
            json!({"messages": messages, "low_messages": low, "high_messages": high})
        });
        Ok(json!({
            "vhost": vhost.map(Name::to_string),
            "name": name,
            "what_if": self.shown(),
            "as_is": shown_horizon(as_is),
            "full": shown_bound(&outlook.full),
            "messages_at_return": at_return,
            "to_empty": shown_estimate(&outlook.to_empty),
        }))
    }

    fn shown(&self) -> Value {
        json!({
            "rate_factor": self.rate_factor,
            "consumers_gone_seconds": self.consumers_gone_seconds,
            "consumers_per_second": self.consumers_per_second,
            "one_node_fewer": self.one_node_fewer,
            "limit": self.limit,
            "capacity": self.capacity,
        })
    }
}

fn resource(text: &str) -> Result<Resource, ApiError> {
    let found = RESOURCES
        .into_iter()
        .find(|resource| resource_name(*resource) == text);
    found.ok_or_else(|| {
        let names = RESOURCES.map(resource_name).join(", ");
        ApiError::BadRequest(format!("'{text}' is no limit: there are {names}"))
    })
}
