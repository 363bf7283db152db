//! `/api/staunch/v1/horizon`: how long queues, virtual hosts and this node hold out
//! (`docs/horizon.md`).

use axum::extract::{Path, State};
use serde::Deserialize;
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
};

mod shown;
pub(super) mod what_if;

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

/// Node, virtual hosts and queues, the soonest first.
pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Asked(asked): Asked<Question>,
) -> Answer {
    let basis = asked
        .basis
        .as_deref()
        .map_or(Ok(Basis::default()), Basis::read)?;
    let slo = asked.slo.as_deref().map(Slo::read).transpose()?;
    let listing = Listing::paged(PageAsked {
        page: asked.page,
        page_size: asked.page_size,
        name: asked.name,
        use_regex: asked.use_regex,
    })?;
    let mut vhosts = caller.vhosts(&api).await?;
    if let Some(vhost) = &asked.vhost {
        let vhost = name(vhost)?;
        caller.enter(&api, &vhost).await?;
        vhosts.retain(|it| *it == vhost);
    }
    let table = api.statistics.horizons(&api.node).await?;
    let seen = |row: &&Row| vhosts.contains(&row.queue.vhost);
    let mut rows: Vec<&Row> = table.queues.iter().filter(seen).collect();
    let total = rows.len();
    rows.retain(|row| {
        listing.wants(&row.queue.name.to_string())
            && slo.is_none_or(|slo| slo.is_missed(row, basis))
    });
    rows.sort_by(|one, other| basis.compare(one, other));
    let (range, frame) = listing.cut(total, rows.len())?;
    let shown = rows[range]
        .iter()
        .map(|row| shown_row(&api, row, table.at_millis));
    let mut answer = json!({
        "computed_at_millis": table.at_millis,
        "node": caller.is_monitor().then(|| shown_node(&api, &table)),
        "vhosts": shown_vhosts(&table, basis, &vhosts),
        "queues": shown.collect::<Vec<_>>(),
    });
    for (key, value) in frame.into_iter().flatten() {
        answer[key] = value;
    }
    body::ok(&answer)
}

/// One queue.
pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, queue)): Path<(String, String)>,
) -> Answer {
    let (vhost, queue) = (name(&vhost)?, name(&queue)?);
    caller.enter(&api, &vhost).await?;
    let (snapshot, view) = look(&api, &vhost, &queue).await?;
    let at_millis = snapshot.at_millis();
    let row = compute(move || Row::of(&snapshot, &view)).await?;
    body::ok(&shown_row(&api, &row, at_millis))
}

/// The horizon of a queue as a part of what else is said of it; null if nothing is known of it yet.
pub(super) async fn of_queue(api: &Api, id: QueueId) -> Result<Value, ApiError> {
    let condition = api.node.condition().await?;
    let snapshot = api.statistics.read().snapshot_with(condition, Some(id));
    let row = compute(move || {
        let view = snapshot.queues().first()?;
        Some(Row::of(&snapshot, view))
    });
    let row = row.await?;
    Ok(row.map_or(Value::Null, |row| shown_horizon(&row.report.horizon)))
}

/// A queue as of the last round. One that has not moved since it was declared is looked at as it is.
async fn look(api: &Api, vhost: &Name, queue: &Name) -> Result<(Snapshot, QueueView), ApiError> {
    let (inside, asked) = (vhost.clone(), queue.clone());
    let entry = api
        .node
        .read(move |catalog| catalog.queue(&inside, &asked).cloned());
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
