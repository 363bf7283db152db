//! `/api/staunch/v1/events`: what has happened in the cluster, as a list or as it happens.
//!
//! Each node keeps its own list. Whoever is asked asks the others for theirs: once, or every second for
//! those who follow. The id of an event in a stream tells how far each node's list had been read, so that
//! a client which comes back goes on there, whichever node it comes to.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Extension,
    extract::{FromRequestParts as _, State},
    http::{header, request::Parts},
    response::sse,
};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{self, MissedTickBehavior},
};

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Asked},
    error::ApiError,
    events::Event,
    nouns::stream::{Gone, Streams, credentials},
    others::Unknown,
    question::Question,
    statistics::wall_millis,
};

/// Events of an answer unless another number is asked for.
const COUNT: usize = 100;
/// Events of an answer.
const COUNT_MAX: usize = 1_000;
/// Events that each node tells at once to those who follow; what is more comes next.
const FOLLOWED_AT_ONCE_MAX: usize = 100;
/// Nodes of which an id tells; there are no more in a cluster.
const NODES_MAX: usize = 64;
/// How often the lists are looked at for those who follow.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// How far the lists have been read: the number of the last event, by node.
type Read = BTreeMap<String, u64>;

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Wanted {
    #[serde(default)]
    name: String,
    count: Option<usize>,
}

/// The last events; for who accepts `text/event-stream`, all from now on or behind `Last-Event-ID`.
pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    streams: Option<Extension<Streams>>,
    parts: Parts,
    Asked(wanted): Asked<Wanted>,
) -> Answer {
    caller.monitor()?;
    let accepted = parts.headers.get(header::ACCEPT);
    let accepted = accepted.and_then(|accepted| accepted.to_str().ok());
    let follows = accepted.is_some_and(|accepted| accepted.contains("text/event-stream"));
    if let Some(Extension(streams)) = streams.filter(|_| follows) {
        return follow(api, streams, wanted, &parts).await;
    }
    let count = wanted.count.unwrap_or(COUNT).min(COUNT_MAX);
    let question = Question::Events {
        name: wanted.name.clone(),
        count,
        behind: None,
    };
    let own = own(&api, &wanted.name, count, None);
    let (mut events, unknown) = gather(&api, own, &question).await?;
    let events = events.split_off(events.len().saturating_sub(count));
    let shown = json!({
        "node": api.settings.node_name,
        "events": events,
        "unknown_nodes": unknown.shown(),
    });
    Ok(unknown.mark(body::ok(&shown)?))
}

/// What this node says to a list: its last events, or the first behind those that have been read.
pub(crate) fn own(api: &Api, name: &str, count: usize, behind: Option<&Read>) -> Vec<Event> {
    let node = &api.settings.node_name;
    let mut events = match behind {
        None => api.events.last(name, count.min(COUNT_MAX)),
        Some(read) => {
            // Numbers are times: whose list could not be read so far begins where the others did.
            let number = read.get(node).or_else(|| read.values().min());
            let number = number.copied().unwrap_or(0);
            api.events.behind(number, FOLLOWED_AT_ONCE_MAX)
        }
    };
    for event in &mut events {
        event.node.clone_from(node);
    }
    events
}

/// This node's events and those of the others, in the order of their times.
async fn gather(
    api: &Api,
    own: Vec<Event>,
    question: &Question,
) -> Result<(Vec<Event>, Unknown), ApiError> {
    let heard = api.ask_others::<Vec<Event>>(question).await?;
    let others = heard.answers.into_iter().flat_map(|(_, events)| events);
    let mut events: Vec<_> = own.into_iter().chain(others).collect();
    // Stable, so that a node's events stay in their order if its clock was set back.
    events.sort_by_key(|event| event.at);
    Ok((events, heard.unknown))
}

async fn follow(api: Api, streams: Streams, wanted: Wanted, parts: &Parts) -> Answer {
    let read = match parts.headers.get("last-event-id") {
        Some(id) => {
            let id = id.to_str().ok().and_then(parsed);
            id.ok_or_else(|| ApiError::BadRequest("Last-Event-ID is no event's".to_owned()))?
        }
        None => newest(&api).await?,
    };
    let following = Following {
        credentials: credentials(parts),
        api,
        name: wanted.name,
        read,
    };
    streams.begin(move |sender| async move { following.rounds(&sender).await })
}

/// Somebody who follows.
struct Following {
    api: Api,
    credentials: Parts,
    /// Only events whose names begin so.
    name: String,
    read: Read,
}

impl Following {
    /// Round after round; why there is no other.
    async fn rounds(mut self, sender: &mpsc::Sender<sse::Event>) -> Result<ApiError, Gone> {
        let mut rounds = time::interval(FOLLOW_EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let caller = Caller::from_request_parts(&mut self.credentials.clone(), &self.api).await;
            if let Err(refusal) = caller.and_then(|caller| caller.monitor()) {
                return Ok(refusal);
            }
            let own = own(&self.api, "", 0, Some(&self.read));
            let question = Question::Events {
                name: String::new(),
                count: 0,
                behind: Some(self.read.clone()),
            };
            let (events, unknown) = match gather(&self.api, own, &question).await {
                Ok(gathered) => gathered,
                Err(refusal) => return Ok(refusal),
            };
            for event in events {
                self.read.insert(event.node.clone(), event.number);
                if event.event.starts_with(&self.name) {
                    let shown = json!(event).to_string();
                    let told = sse::Event::default().event("event").data(shown);
                    let told = told.id(id(&self.read));
                    sender.send(told).await.map_err(|_| Gone)?;
                }
            }
            let tick = json!({
                "at": wall_millis(),
                "node": self.api.settings.node_name,
                "unknown_nodes": unknown.shown(),
            });
            let tick = sse::Event::default().event("tick").data(tick.to_string());
            sender.send(tick).await.map_err(|_| Gone)?;
        }
    }
}

/// As if all that has happened so far had been read.
async fn newest(api: &Api) -> Result<Read, ApiError> {
    let question = Question::Events {
        name: String::new(),
        count: 1,
        behind: None,
    };
    let (last, _) = gather(api, Vec::new(), &question).await?;
    let last = last.into_iter().map(|event| (event.node, event.number));
    let own = (api.settings.node_name.clone(), api.events.now());
    Ok(last.chain([own]).collect())
}

/// Such as `n1@a=12,n2@b=7`: names of nodes have neither of these signs.
fn id(read: &Read) -> String {
    let read = read.iter().map(|(node, number)| format!("{node}={number}"));
    read.collect::<Vec<_>>().join(",")
}

fn parsed(id: &str) -> Option<Read> {
    let parts = id.split(',').filter(|part| !part.is_empty());
    let parts = parts.map(|part| {
        let (node, number) = part.rsplit_once('=')?;
        Some((node.to_owned(), number.parse().ok()?))
    });
    parts.take(NODES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_how_far_each_list_was_read() {
        let far = Read::from([("n1@a".to_owned(), 12), ("n2@b".to_owned(), 7)]);
        assert_eq!(id(&far), "n1@a=12,n2@b=7");
        assert_eq!(parsed(&id(&far)), Some(far));
        assert_eq!(parsed(""), Some(Read::new()));
        for wrong in ["12", "n1=", "n1=x", "n1=1,2"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
