//! `/api/staunch/v1/horizon`: how long queues, virtual hosts and nodes hold out
//! (`docs/horizon.md`).

use axum::{
    extract::{Path, Query, RawQuery, State},
    http::Uri,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use staunch_broker::duration_millis;
use staunch_horizon::{Horizon, TimeLeft};
use staunch_stats::{QueueFacts, QueueView, Report, Snapshot};
use staunch_types::{Name, QueueId};

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Asked},
    error::ApiError,
    horizons::{Basis, Row, Table},
    json::name,
    listing::{Listing, PageAsked},
    question,
};

mod shown;
pub(crate) mod what_if;

pub(crate) use shown::{RESOURCES, resource_name, seconds};

use shown::{shown_horizon, shown_limit, shown_rates, whole_seconds};

/// Which queues, and which of their times counts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    basis: Option<String>,
    slo: Option<String>,
    vhost: Option<String>,
    page: Option<String>,
    page_size: Option<String>,
    name: Option<String>,
    use_regex: Option<String>,
}

/// Which queues hold out too short a time.
#[derive(Clone, Copy)]
enum Slo {
    /// They do not meet what their policy asks for.
    Policy,
    /// Less than this.
    Below(TimeLeft),
}

/// What one node tells of what it keeps.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Part {
    at_millis: u64,
    total: usize,
    filtered: usize,
    /// Queues, the soonest first, without those behind the page.
    queues: Vec<Value>,
    /// Every virtual host.
    vhosts: Vec<Value>,
    node: Value,
}

/// Nodes, virtual hosts and queues, the soonest first.
pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    RawQuery(query): RawQuery,
    Asked(asked): Asked<Question>,
) -> Answer {
    let looked = Look::read(&asked)?;
    let mut vhosts = caller.vhosts(&api).await?;
    if let Some(vhost) = &asked.vhost {
        let vhost = name(vhost)?;
        caller.enter(&api, &vhost).await?;
        vhosts.retain(|it| *it == vhost);
    }
    let own = part(&api, &looked, &vhosts).await?;
    let question = question::Question::Horizons {
        vhosts: vhosts.iter().map(Name::to_string).collect(),
        query: query.unwrap_or_default(),
    };
    let heard = api.ask_others::<Part>(&question).await?;
    let mut all = own;
    let node = all.node.clone();
    let mut nodes = vec![node.clone()];
    for (_, other) in heard.answers {
        nodes.push(other.node.clone());
        all.add(other, looked.basis);
    }
    nodes.sort_by_key(|node| node["name"].as_str().map(str::to_owned));
    all.queues
        .sort_by(|one, other| shown::compare(looked.basis, one, other));
    all.vhosts
        .sort_by(|one, other| shown::compare(looked.basis, one, other));
    let (range, frame) = looked.listing.cut(all.total, all.filtered)?;
    let queues = all.queues.drain(range).collect::<Vec<_>>();
    let mut answer = json!({
        "computed_at_millis": all.at_millis,
        "node": caller.is_monitor().then_some(node),
        "nodes": caller.is_monitor().then_some(nodes),
        "vhosts": all.vhosts,
        "queues": queues,
        "unknown_nodes": heard.unknown.shown(),
    });
    for (key, value) in frame.into_iter().flatten() {
        answer[key] = value;
    }
    Ok(heard.unknown.mark(body::ok(&answer)?))
}

/// What this node keeps in these virtual hosts, for another that was asked this.
pub(crate) async fn part_for(api: &Api, vhosts: &[String], query: &str) -> Result<Part, ApiError> {
    let uri = format!("/?{query}").parse();
    let uri: Uri = uri.map_err(|_| ApiError::BadRequest("no query".to_owned()))?;
    let asked = Query::<Question>::try_from_uri(&uri);
    let Query(asked) = asked.map_err(|error| ApiError::BadRequest(error.to_string()))?;
    let vhosts: Vec<_> = vhosts.iter().map(|it| name(it)).collect::<Result<_, _>>()?;
    part(api, &Look::read(&asked)?, &vhosts).await
}

async fn part(api: &Api, looked: &Look, vhosts: &[Name]) -> Result<Part, ApiError> {
    let table = api.statistics.horizons(&api.node).await?;
    let seen = |row: &&Row| vhosts.contains(&row.queue.vhost);
    let mut rows: Vec<&Row> = table.queues.iter().filter(seen).collect();
    let total = rows.len();
    let Look {
        basis,
        slo,
        listing,
    } = looked;
    rows.retain(|row| {
        listing.wants(&row.queue.name.to_string())
            && slo.is_none_or(|slo| slo.is_missed(row, *basis))
    });
    rows.sort_by(|one, other| basis.compare(one, other));
    let shown = rows.iter().take(listing.rows_max());
    Ok(Part {
        at_millis: table.at_millis,
        total,
        filtered: rows.len(),
        queues: shown
            .map(|row| shown_row(api, row, table.at_millis))
            .collect(),
        vhosts: shown_vhosts(&table, *basis, vhosts),
        node: shown_node(api, &table),
    })
}

/// One queue.
pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, queue)): Path<(String, String)>,
) -> Answer {
    let (vhost, queue) = (name(&vhost)?, name(&queue)?);
    caller.enter(&api, &vhost).await?;
    let id = find(&api, &vhost, &queue).await?;
    if is_served_here(&api, id).await? {
        return body::ok(&own_row(&api, id).await?);
    }
    let heard = api
        .ask_others::<Option<Value>>(&question::Question::Horizon { id: id.0 })
        .await?;
    let mut found = heard.answers.into_iter().filter_map(|(_, row)| row);
    body::ok(&found.next().ok_or(ApiError::Unavailable)?)
}

/// A queue, for another node; none if this one does not serve it.
pub(crate) async fn row_for(api: &Api, id: QueueId) -> Result<Option<Value>, ApiError> {
    if !is_served_here(api, id).await? {
        return Ok(None);
    }
    own_row(api, id).await.map(Some)
}

async fn own_row(api: &Api, id: QueueId) -> Result<Value, ApiError> {
    let (snapshot, view) = look(api, id).await?;
    let at_millis = snapshot.at_millis();
    let row = compute(move || Row::of(&snapshot, &view)).await?;
    Ok(shown_row(api, &row, at_millis))
}

/// The horizon of a queue as a part of what else is said of it; null if nothing is known of it yet,
/// or now.
pub(super) async fn of_queue(api: &Api, id: QueueId) -> Result<Value, ApiError> {
    if !is_served_here(api, id).await? {
        let question = question::Question::Horizon { id: id.0 };
        let heard = api.ask_others::<Option<Value>>(&question).await?;
        let mut found = heard.answers.into_iter().filter_map(|(_, row)| row);
        return Ok(found
            .next()
            .map_or(Value::Null, |row| row["horizon"].clone()));
    }
    let condition = api.node.condition().await?;
    let snapshot = api.statistics.read().snapshot_with(condition, Some(id));
    let row = compute(move || {
        let view = snapshot.queues().first()?;
        Some(Row::of(&snapshot, view))
    });
    let row = row.await?;
    Ok(row.map_or(Value::Null, |row| shown_horizon(&row.report.horizon)))
}

async fn find(api: &Api, vhost: &Name, queue: &Name) -> Result<QueueId, ApiError> {
    let (inside, asked) = (vhost.clone(), queue.clone());
    let id = api
        .node
        .read(move |catalog| catalog.queue(&inside, &asked).map(|entry| entry.id));
    id.await?.ok_or(ApiError::NotFound)
}

/// Whether its numbers are this node's to tell.
async fn is_served_here(api: &Api, id: QueueId) -> Result<bool, ApiError> {
    let found = api.node.find_queues(vec![id]).await?;
    Ok(found.first().is_some_and(|queue| queue.is_served_here))
}

/// A queue as of the last round. One that has not moved since it was declared is looked at as it is.
async fn look(api: &Api, id: QueueId) -> Result<(Snapshot, QueueView), ApiError> {
    let entry = api
        .node
        .read(move |catalog| catalog.queue_by_id(id).cloned());
    let entry = entry.await?.ok_or(ApiError::NotFound)?;
    let condition = api.node.condition().await?;
    let held = api.node.find_queues(vec![entry.id]).await?;
    let held = held.first().ok_or(ApiError::NotFound)?.held;
    let snapshot = api
        .statistics
        .read()
        .snapshot_with(condition, Some(entry.id));
    let facts = QueueFacts {
        id: entry.id,
        vhost: entry.vhost.clone(),
        name: entry.name.clone(),
        held,
        settings: entry.settings.clone(),
        is_slowed: false,
    };
    let fresh = QueueView::fresh(facts, entry.is_durable());
    Ok(snapshot.take_one(fresh))
}

/// Computes on a thread that may take its time.
async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ApiError::Unavailable)
}

fn shown_node(api: &Api, table: &Table) -> Value {
    let Report {
        limits,
        rates,
        horizon,
        history_millis,
        ..
    } = &table.node;
    let (count, max) = table.histories;
    json!({
        "name": api.settings.node_name,
        "rates": shown_rates(rates),
        "limits": limits.iter().map(shown_limit).collect::<Vec<_>>(),
        "horizon": shown_horizon(horizon),
        "history_seconds": whole_seconds(*history_millis),
        "histories": {"count": count, "max": max},
    })
}

fn shown_vhosts(table: &Table, basis: Basis, vhosts: &[Name]) -> Vec<Value> {
    let known = table.vhosts(basis);
    let time = |horizon: &Horizon| {
        let estimate = basis.of(horizon).estimate;
        (estimate.at, estimate.low)
    };
    let mut shown: Vec<_> = vhosts
        .iter()
        .map(|vhost| {
            let found = known.get(vhost);
            let horizon = found.map_or(Horizon::NEVER, |(_, horizon)| *horizon);
            let queue = found.map(|(queue, _)| queue.to_string());
            let row = json!({
                "name": vhost.to_string(),
                "queue": queue,
                "horizon": shown_horizon(&horizon),
            });
            (time(&horizon), row)
        })
        .collect();
    shown.sort_by_key(|(time, _)| *time);
    shown.into_iter().map(|(_, row)| row).collect()
}

fn shown_row(api: &Api, row: &Row, at_millis: u64) -> Value {
    let Row { queue, report } = row;
    let held = &queue.held;
    let slo_millis = queue.settings.horizon_slo_millis;
    json!({
        "vhost": queue.vhost.to_string(),
        "name": queue.name.to_string(),
        "node": api.settings.node_name,
        "messages": held.message_count,
        "messages_ready": held.ready_count,
        "message_bytes": held.ready_body_bytes + held.unacked_body_bytes,
        "consumers": held.consumer_count,
        "rates": shown_rates(&report.rates),
        "limits": report.limits.iter().map(shown_limit).collect::<Vec<_>>(),
        "horizon": shown_horizon(&report.horizon),
        "slo_seconds": slo_millis.map(whole_seconds),
        "is_slo_met": row.is_slo_met(),
        "is_slowed": queue.is_slowed,
        "has_history": report.has_history,
        "history_seconds": whole_seconds(report.history_millis),
        "computed_at_millis": at_millis,
    })
}

impl Part {
    /// Adds what another node tells.
    fn add(&mut self, other: Self, basis: Basis) {
        self.at_millis = self.at_millis.max(other.at_millis);
        self.total += other.total;
        self.filtered += other.filtered;
        self.queues.extend(other.queues);
        for vhost in other.vhosts {
            let known = self
                .vhosts
                .iter_mut()
                .find(|it| it["name"] == vhost["name"]);
            if let Some(known) = known {
                shown::take_earlier(basis, known, &vhost);
            }
        }
    }
}

/// What is asked for, read.
struct Look {
    basis: Basis,
    slo: Option<Slo>,
    listing: Listing,
}

impl Look {
    fn read(asked: &Question) -> Result<Self, ApiError> {
        let basis = asked.basis.as_deref();
        Ok(Self {
            basis: basis.map_or(Ok(Basis::default()), Basis::read)?,
            slo: asked.slo.as_deref().map(Slo::read).transpose()?,
            listing: Listing::paged(PageAsked {
                page: asked.page.clone(),
                page_size: asked.page_size.clone(),
                name: asked.name.clone(),
                use_regex: asked.use_regex.clone(),
            })?,
        })
    }
}

impl Slo {
    /// From `slo=…`: `policy`, seconds, or a number and one of the units `s`, `m`, `h`, `d`.
    fn read(text: &str) -> Result<Self, ApiError> {
        if text == "policy" {
            return Ok(Self::Policy);
        }
        let day = text.strip_suffix('d').map(|number| format!("{number}D"));
        let millis = duration_millis(day.as_deref().unwrap_or(text))
            .or_else(|| duration_millis(&format!("{text}s")));
        millis.map_or_else(
            || {
                let reason = format!(
                    "slo is 'policy', or a time such as 90, 90s, 30m, 2h or 1d, not '{text}'"
                );
                Err(ApiError::BadRequest(reason))
            },
            |millis| Ok(Self::Below(TimeLeft::Millis(millis))),
        )
    }

    fn is_missed(self, row: &Row, basis: Basis) -> bool {
        match self {
            Self::Policy => row.is_slo_met() == Some(false),
            Self::Below(time) => basis.of(&row.report.horizon).estimate.low < time,
        }
    }
}
