//! `/api/queues`.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use staunch_broker::{Access, Catalog, CatalogCommand, Partitioning, PolicyScope, QueueEntry};
use staunch_node::QueueInfo;
use staunch_stats::{DEPTH_NAMES, QueueStats, Round};
use staunch_types::{FieldTable, Name, QueueId, QueueOptions, Resource};

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Json},
    error::ApiError,
    json::{name, object, table},
    listing::{Listing, Windows, framed},
    nouns::{channels::shown_consumer, horizon},
    rates::{extend, moving, queue_stats},
};

/// The body of PUT.
#[derive(Deserialize)]
pub(crate) struct QueueBody {
    #[serde(default)]
    durable: bool,
    #[serde(default)]
    auto_delete: bool,
    #[serde(default)]
    arguments: Map<String, Value>,
}

impl Content for QueueBody {}

/// Conditions of DELETE.
#[derive(Deserialize)]
pub(crate) struct Conditions {
    #[serde(default, rename = "if-empty")]
    if_empty: bool,
    #[serde(default, rename = "if-unused")]
    if_unused: bool,
}

/// What the catalog knows of a queue, copied out of it.
struct Declared {
    entry: QueueEntry,
    policy: Option<Name>,
    operator_policy: Option<Name>,
    effective: FieldTable,
    /// Names of its partitions.
    partitions: Vec<Name>,
    /// The queue whose partition it is.
    whole: Option<Name>,
}

pub(crate) async fn list(State(api): State<Api>, caller: Caller, listing: Listing) -> Answer {
    let vhosts = caller.vhosts(&api).await?;
    list_in(&api, vhosts, &listing).await
}

pub(crate) async fn list_vhost(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path(vhost): Path<String>,
) -> Answer {
    let vhost = name(&vhost)?;
    caller.enter(&api, &vhost).await?;
    list_in(&api, vec![vhost], &listing).await
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    listing: Listing,
    Path((vhost, queue)): Path<(String, String)>,
) -> Answer {
    let vhost = name(&vhost)?;
    caller.enter(&api, &vhost).await?;
    let found = find(&api, &vhost, &name(&queue)?).await?;
    let (queue, id) = (found.name.clone(), found.id);
    let shown = shown(&api, vec![found], &listing).await?;
    let mut row = shown.into_iter().next().ok_or(ApiError::NotFound)?;
    let consumers = api.node.consumers().await?;
    let own = consumers
        .iter()
        .filter(|consumer| consumer.vhost == vhost && consumer.queue == queue);
    row["consumer_details"] = own.map(|it| shown_consumer(&api, it)).collect();
    for what in ["incoming", "deliveries"] {
        // What goes between a queue and one exchange or channel is not counted.
        row[what] = json!([]);
    }
    if !listing.has_no_stats {
        row["horizon"] = horizon::of_queue(&api, id).await?;
    }
    if let Some(owner) = owner(&api, id).await? {
        row["owner_pid_details"] = owner;
    }
    body::ok(&listing.only_columns(row))
}

pub(crate) async fn put(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, queue)): Path<(String, String)>,
    Json(body): Json<QueueBody>,
) -> Answer {
    let (vhost, queue) = (name(&vhost)?, name(&queue)?);
    let mut wanted = vec![(Access::Configure, Resource::Queue, queue.clone())];
    if let Some(Value::String(exchange)) = body.arguments.get("x-dead-letter-exchange") {
        wanted.push((Access::Read, Resource::Queue, queue.clone()));
        wanted.push((Access::Write, Resource::Exchange, name(exchange)?));
    }
    let may = caller.may(&api, &vhost, wanted).await;
    may.map_err(ApiError::of_vhost)?;
    let options = QueueOptions {
        durable: body.durable,
        exclusive: false,
        auto_delete: body.auto_delete,
        arguments: table(&body.arguments)?,
    };
    let asked = vhost.clone();
    let options = api
        .node
        .read(move |catalog| catalog.complete_queue_options(&asked, options, false));
    let command = CatalogCommand::DeclareQueue {
        vhost,
        name: queue,
        // The node chooses it.
        id: QueueId(0),
        server_named: false,
        options: options.await?,
        owner: None,
        placement: staunch_broker::Placement::HERE,
        partitions: Vec::new(),
    };
    body::put(api.node.apply(command).await?)
}

pub(crate) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, queue)): Path<(String, String)>,
    Query(conditions): Query<Conditions>,
) -> Answer {
    let (vhost, queue) = (name(&vhost)?, name(&queue)?);
    let wanted = vec![(Access::Configure, Resource::Queue, queue.clone())];
    caller.may(&api, &vhost, wanted).await?;
    let found = find(&api, &vhost, &queue).await?;
    let in_use =
        |what: &str| ApiError::BadRequest(format!("queue '{queue}' in vhost '{vhost}' {what}"));
    if conditions.if_empty && found.ready_count > 0 {
        return Err(in_use("not empty"));
    }
    if conditions.if_unused && found.consumer_count > 0 {
        return Err(in_use("in use"));
    }
    check_free(&api, &vhost, &queue).await?;
    body::delete(
        api.node
            .apply(CatalogCommand::DeleteQueue { vhost, name: queue })
            .await?,
    )
}

/// Refuses what only a queue's owner may do, if it is exclusive to a connection.
pub(crate) async fn check_free(api: &Api, vhost: &Name, queue: &Name) -> Result<(), ApiError> {
    let (inside, asked) = (vhost.clone(), queue.clone());
    let is_owned = api.node.read(move |catalog| {
        let entry = catalog.queue(&inside, &asked);
        entry.is_some_and(|entry| entry.owner.is_some())
    });
    if is_owned.await? {
        return Err(ApiError::BadRequest(format!(
            "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'"
        )));
    }
    Ok(())
}

async fn find(api: &Api, vhost: &Name, queue: &Name) -> Result<QueueInfo, ApiError> {
    let (inside, asked) = (vhost.clone(), queue.clone());
    let id = api
        .node
        .read(move |catalog| catalog.queue(&inside, &asked).map(|entry| entry.id));
    let id = id.await?.ok_or(ApiError::NotFound)?;
    let found = api.node.find_queues(vec![id]).await?;
    found.into_iter().next().ok_or(ApiError::NotFound)
}

/// The connection that a queue goes with.
async fn owner(api: &Api, id: QueueId) -> Result<Option<Value>, ApiError> {
    let owner = api
        .node
        .read(move |catalog| catalog.queue_by_id(id).and_then(|entry| entry.owner));
    let Some(owner) = owner.await? else {
        return Ok(None);
    };
    let connections = api.node.connections().await?;
    let found = connections.iter().find(|connection| connection.id == owner);
    Ok(found.map(|connection| {
        let peer = connection.peer.address;
        json!({
            "name": connection.name,
            "peer_host": peer.map(|peer| peer.ip().to_string()),
            "peer_port": peer.map(|peer| peer.port()),
        })
    }))
}

/// The queues of these virtual hosts. Of a page in the order of names only its own are looked at.
async fn list_in(api: &Api, vhosts: Vec<Name>, listing: &Listing) -> Answer {
    let mut known = api
        .node
        .read(move |catalog| {
            let queues = catalog.queues();
            let inside = queues.filter(|entry| vhosts.contains(&entry.vhost));
            inside
                .map(|entry| (entry.vhost.clone(), entry.name.clone(), entry.id))
                .collect::<Vec<_>>()
        })
        .await?;
    known.sort();
    let ids = |known: &[(Name, Name, QueueId)]| known.iter().map(|(_, _, id)| *id).collect();
    let is_by_name = match &listing.sort {
        None => true,
        Some(column) => matches!(&column[..], [name] if name == "name") && is_one_vhost(&known),
    };
    if !(listing.is_paged() && is_by_name) {
        let queues = api.node.find_queues(ids(&known)).await?;
        return listing.answer(shown(api, queues, listing).await?);
    }
    let total = known.len();
    known.retain(|(_, name, _)| listing.wants(&name.to_string()));
    if listing.is_reversed {
        known.reverse();
    }
    let (range, frame) = listing.cut(total, known.len())?;
    let queues = api.node.find_queues(ids(&known[range])).await?;
    let rows = shown(api, queues, listing).await?.into_iter();
    framed(rows.map(|row| listing.only_columns(row)).collect(), frame)
}

fn is_one_vhost(known: &[(Name, Name, QueueId)]) -> bool {
    let ends = known.first().zip(known.last());
    ends.is_none_or(|(first, last)| first.0 == last.0)
}

async fn shown(
    api: &Api,
    queues: Vec<QueueInfo>,
    listing: &Listing,
) -> Result<Vec<Value>, ApiError> {
    let ids: Vec<_> = queues.iter().map(|queue| queue.id).collect();
    let declared = api.node.read(move |catalog| {
        let known = ids.into_iter().filter_map(|id| {
            let entry = catalog.queue_by_id(id)?;
            Some((id, Declared::of(catalog, entry)))
        });
        known.collect::<HashMap<_, _>>()
    });
    let declared = declared.await?;
    let node_name = &api.settings.node_name;
    let statistics = api.statistics.read();
    let shown = |info: &QueueInfo| {
        let declared = declared.get(&info.id)?;
        let mut row = declared.shown(info, node_name);
        if listing.has_no_stats {
            if listing.has_totals {
                extend(&mut row, totals(info));
            } else {
                row["state"] = "live".into();
            }
            return Some(row);
        }
        extend(&mut row, totals(info));
        extend(&mut row, details(info));
        if let Some(known) = statistics.queue(info.id) {
            add_rates(&mut row, known, statistics.round(), &listing.windows);
        }
        Some(row)
    };
    Ok(queues.iter().filter_map(shown).collect())
}

impl Declared {
    fn of(catalog: &Catalog, entry: &QueueEntry) -> Self {
        let policy = |scope| catalog.policy_of_queue(entry, scope).cloned();
        let name_of = |id| Some(catalog.queue_by_id(id)?.name.clone());
        Self {
            partitions: entry.partitions().filter_map(name_of).collect(),
            whole: match entry.partitioning {
                Partitioning::Part { of, .. } => name_of(of),
                Partitioning::Whole | Partitioning::Split { .. } => None,
            },
            policy: policy(PolicyScope::User),
            operator_policy: policy(PolicyScope::Operator),
            effective: catalog.effective_policy_of_queue(entry),
            entry: entry.clone(),
        }
    }

    fn shown(&self, info: &QueueInfo, node_name: &str) -> Value {
        let options = &self.entry.options;
        let text = |name: &Option<Name>| name.as_ref().map(Name::to_string);
        json!({
            "name": info.name.to_string(),
            "vhost": info.vhost.to_string(),
            "type": self.entry.kind().name(),
            "durable": options.durable,
            "auto_delete": options.auto_delete,
            "exclusive": options.exclusive,
            "arguments": object(options.arguments.as_table_ref()),
            "node": node_name,
            "state": "running",
            "policy": text(&self.policy),
            "operator_policy": text(&self.operator_policy),
            "effective_policy_definition": object(self.effective.as_table_ref()),
            "partitions": self.partitions.iter().map(Name::to_string).collect::<Vec<_>>(),
            "partition_of": text(&self.whole),
        })
    }
}

fn totals(info: &QueueInfo) -> Map<String, Value> {
    of([
        ("messages", (info.ready_count + info.unacked_count).into()),
        ("messages_ready", info.ready_count.into()),
        ("messages_unacknowledged", info.unacked_count.into()),
    ])
}

/// What RabbitMQ tells of a queue beside its totals, as far as there is such a thing here.
fn details(info: &QueueInfo) -> Map<String, Value> {
    let held = &info.held;
    let body_bytes = held.ready_body_bytes + held.unacked_body_bytes;
    let (messages, has_consumers) = (
        info.ready_count + info.unacked_count,
        info.consumer_count > 0,
    );
    // Consumers can take more if nothing waits for them.
    let capacity = u8::from(has_consumers && info.ready_count == 0);
    of([
        ("consumers", info.consumer_count.into()),
        ("active_consumers", info.consumer_count.into()),
        ("consumer_utilisation", capacity.into()),
        ("consumer_capacity", capacity.into()),
        ("memory", info.memory_size_bytes.into()),
        ("message_bytes", body_bytes.into()),
        ("message_bytes_ready", held.ready_body_bytes.into()),
        (
            "message_bytes_unacknowledged",
            held.unacked_body_bytes.into(),
        ),
        ("message_bytes_ram", 0.into()),
        ("message_bytes_paged_out", 0.into()),
        ("message_bytes_persistent", body_bytes.into()),
        ("messages_ram", 0.into()),
        ("messages_paged_out", 0.into()),
        ("messages_persistent", messages.into()),
        ("messages_ready_ram", 0.into()),
        ("messages_unacknowledged_ram", 0.into()),
        ("head_message_timestamp", Value::Null),
        ("exclusive_consumer_tag", Value::Null),
        ("single_active_consumer_tag", Value::Null),
        ("recoverable_slaves", Value::Null),
        ("reductions", 0.into()),
        ("reductions_details", json!({"rate": 0.0})),
        ("garbage_collection", json!({})),
    ])
}

fn add_rates(row: &mut Value, known: &QueueStats, round: &Round, windows: &Windows) {
    for (name, value) in moving(&DEPTH_NAMES, &known.depth, round, windows.lengths) {
        // The numbers themselves are newer.
        if name.ends_with("_details") {
            row[name] = value;
        }
    }
    if let Some(stats) = queue_stats(&known.messages, round, windows.messages) {
        row["message_stats"] = stats;
    }
}

fn of<const N: usize>(columns: [(&str, Value); N]) -> Map<String, Value> {
    let columns = columns.into_iter();
    columns
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
