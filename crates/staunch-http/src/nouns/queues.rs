//! `/api/queues`.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use staunch_broker::{Access, Catalog, CatalogCommand, Partitioning, PolicyScope, QueueEntry};
use staunch_node::QueueInfo;
use staunch_types::{FieldTable, Name, QueueId, QueueOptions, Resource};

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Json},
    error::ApiError,
    json::{name, object, table},
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

pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> Answer {
    let vhosts = caller.vhosts(&api).await?;
    let queues = api.node.queues(None).await?;
    let seen = queues
        .into_iter()
        .filter(|queue| vhosts.contains(&queue.vhost));
    body::ok(&Value::Array(shown(&api, seen.collect()).await?))
}

pub(crate) async fn list_vhost(
    State(api): State<Api>,
    caller: Caller,
    Path(vhost): Path<String>,
) -> Answer {
    let vhost = name(&vhost)?;
    caller.enter(&api, &vhost).await?;
    let queues = api.node.queues(Some(vhost)).await?;
    body::ok(&Value::Array(shown(&api, queues).await?))
}

pub(crate) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, queue)): Path<(String, String)>,
) -> Answer {
    let vhost = name(&vhost)?;
    caller.enter(&api, &vhost).await?;
    let found = find(&api, &vhost, &name(&queue)?).await?;
    let shown = shown(&api, vec![found]).await?;
    body::ok(shown.first().ok_or(ApiError::NotFound)?)
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
        .read(move |catalog| catalog.complete_queue_options(&asked, options));
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
    let queues = api.node.queues(Some(vhost.clone())).await?;
    let found = queues.into_iter().find(|info| info.name == *queue);
    found.ok_or(ApiError::NotFound)
}

async fn shown(api: &Api, queues: Vec<QueueInfo>) -> Result<Vec<Value>, ApiError> {
    let ids: Vec<_> = queues.iter().map(|queue| queue.id).collect();
    let declared = api.node.read(move |catalog| {
        let known = ids.into_iter().filter_map(|id| {
            let entry = catalog.queue_by_id(id)?;
            Some((id, Declared::of(catalog, entry)))
        });
        known.collect::<HashMap<_, _>>()
    });
    let declared = declared.await?;
    let shown = |info: &QueueInfo| {
        let declared = declared.get(&info.id)?;
        Some(declared.shown(info, &api.settings.node_name))
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
            "messages": info.ready_count + info.unacked_count,
            "messages_ready": info.ready_count,
            "messages_unacknowledged": info.unacked_count,
            "consumers": info.consumer_count,
            "memory": info.memory_size_bytes,
            "partitions": self.partitions.iter().map(Name::to_string).collect::<Vec<_>>(),
            "partition_of": text(&self.whole),
        })
    }
}
