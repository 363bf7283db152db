//! `/api/staunch/v1/dead-letters`: where dead letters go, and why and where they died.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};
use staunch_broker::Catalog;
use staunch_types::{Name, QueueId, Reply, Request, request::Destination};

use super::{messages, queues};
use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Json, Number},
    deaths::Origin,
    error::ApiError,
    json::name,
    session::{CHANNEL, Session},
};

/// Queues that are listed.
const QUEUES_MAX: usize = 500;
/// Messages that are looked at unless another number is asked for.
const COUNT: u64 = 1_000;
/// Messages that are looked at.
const COUNT_MAX: u64 = 10_000;
/// Bytes of a sample's payload that are shown.
const SAMPLE_SIZE_BYTES_MAX: usize = 1_024;

/// How much is looked at.
#[derive(Deserialize)]
pub(crate) struct LookBody {
    count: Option<Number>,
}

impl Content for LookBody {}

/// Dead letters that died first in the same place for the same reason.
struct Group {
    count: u64,
    first_at: Option<u64>,
    last_at: Option<u64>,
    deaths: i64,
    replays: i64,
    sample: Value,
}

/// The queues that dead letters of others go to, by what is bound to their dead-letter exchanges.
pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Answer {
    let vhosts = caller.vhosts(&api).await?;
    let found = api.node.read(move |catalog| destinations(catalog, &vhosts));
    let found = found.await?;
    let ids: Vec<_> = found.iter().map(|found| found.id).collect();
    let (rows, unknown) = queues::depths(&api, &ids).await?;
    let rows = rows.iter().filter_map(|row| {
        let is_it = |it: &&Found| row["vhost"] == it.vhost && row["name"] == it.name;
        let of = &found.iter().find(is_it)?.of;
        Some(json!({
            "vhost": row["vhost"],
            "name": row["name"],
            "messages": row["messages"],
            "consumers": row["consumers"],
            "of": of,
        }))
    });
    Ok(unknown.mark(body::ok(&rows.collect())?))
}

/// Looks at the first messages of a queue, which return to their places, but are redelivered from then
/// on: so this is no GET.
pub(crate) async fn look(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, queue)): Path<(String, String)>,
    Json(body): Json<LookBody>,
) -> Answer {
    let (vhost, queue) = (name(&vhost)?, name(&queue)?);
    caller.enter(&api, &vhost).await?;
    let count = body.count.map_or(COUNT, |count| count.0).min(COUNT_MAX);
    let mut session = Session::open(&api, &caller, vhost).await?;
    let mut groups: BTreeMap<[String; 4], Group> = BTreeMap::new();
    let (mut looked_at, mut never_died, mut left) = (0, 0_u64, 0);
    while looked_at < count {
        let request = Request::Get {
            channel: CHANNEL,
            queue: queue.clone(),
            no_ack: false,
        };
        let reply = session.ask(request).await.map_err(|error| match error {
            // The path names it.
            ApiError::Missing(_) => ApiError::NotFound,
            other => other,
        })?;
        let Reply::Got {
            delivery,
            ready_count,
        } = reply
        else {
            left = 0;
            break;
        };
        (looked_at, left) = (looked_at + 1, ready_count);
        let Some(origin) = Origin::of(delivery.message.properties()) else {
            never_died += 1;
            continue;
        };
        let sample = || messages::sample(&delivery, SAMPLE_SIZE_BYTES_MAX);
        let (deaths, replays, at) = (origin.deaths, origin.replays, origin.at);
        let key = [
            origin.reason,
            origin.queue,
            origin.exchange,
            origin.routing_key,
        ];
        let group = groups.entry(key).or_insert_with(|| Group {
            count: 0,
            first_at: at,
            last_at: at,
            deaths: 0,
            replays: 0,
            sample: sample(),
        });
        group.count += 1;
        group.first_at = [group.first_at, at].into_iter().flatten().min();
        group.last_at = group.last_at.max(at);
        group.deaths = group.deaths.max(deaths);
        group.replays = group.replays.max(replays);
    }
    session.close().await;
    let groups = groups.into_iter().map(shown);
    body::ok(&json!({
        "looked_at": looked_at,
        "left": left,
        "never_died": never_died,
        "groups": groups.collect::<Vec<_>>(),
    }))
}

fn shown(([reason, queue, exchange, routing_key], group): ([String; 4], Group)) -> Value {
    json!({
        "reason": reason,
        "queue": queue,
        "exchange": exchange,
        "routing_key": routing_key,
        "messages": group.count,
        "first_at": group.first_at,
        "last_at": group.last_at,
        "deaths": group.deaths,
        "replays": group.replays,
        "sample": group.sample,
    })
}

/// A queue that dead letters go to.
struct Found {
    id: QueueId,
    vhost: String,
    name: String,
    /// Of these queues.
    of: BTreeSet<String>,
}

/// Queues that dead letters are led to, and whose.
fn destinations(catalog: &Catalog, vhosts: &[Name]) -> Vec<Found> {
    let mut found: BTreeMap<QueueId, Found> = BTreeMap::new();
    for queue in catalog.queues().filter(|it| vhosts.contains(&it.vhost)) {
        let Some(dead) = &queue.settings.dead_lettering else {
            continue;
        };
        let mut lead_to = |name: &Name| {
            let Some(to) = catalog.queue(&queue.vhost, name) else {
                return;
            };
            if found.len() == QUEUES_MAX && !found.contains_key(&to.id) {
                return;
            }
            let found = found.entry(to.id).or_insert_with(|| Found {
                id: to.id,
                vhost: to.vhost.to_string(),
                name: to.name.to_string(),
                of: BTreeSet::new(),
            });
            found.of.insert(queue.name.to_string());
        };
        if dead.exchange.is_empty() {
            // Without a key of their own they would return to where they came from.
            dead.routing_key.as_ref().into_iter().for_each(&mut lead_to);
            continue;
        }
        let bindings = catalog.bindings(&queue.vhost);
        for binding in bindings.filter(|it| it.source == dead.exchange) {
            if let Destination::Queue(name) = &binding.destination {
                lead_to(name);
            }
        }
    }
    found.into_values().collect()
}
