//! `/api/queues`.

use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use staunch_broker::{Access, Catalog, CatalogCommand, Partitioning, PolicyScope, QueueEntry};
use staunch_types::{FieldTable, Name, QueueId, QueueOptions, Resource};

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Flag, Json},
    directory::Entry,
    error::ApiError,
    json::{name, object, table},
    listing::{Listing, framed},
    nouns::{channels::consumers_of, horizon},
    others::Unknown,
    rates::extend,
};

mod live;
mod order;

pub(crate) use live::{Depth, answer};
pub(crate) use order::answer as answer_column;

use live::LiveQueues;

/// The body of PUT.
#[derive(Deserialize)]
pub(crate) struct QueueBody {
    #[serde(default)]
    durable: Flag,
    #[serde(default)]
    auto_delete: Flag,
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
    /// Where it is at home; none: wherever it is asked for.
    home: Option<Name>,
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
    let queue = name(&queue)?;
    let id = find(&api, &vhost, &queue).await?;
    let (shown, unknown) = shown(&api, &[id], Depth::All, &listing).await?;
    let mut row = shown.into_iter().next().ok_or(ApiError::NotFound)?;
    row["consumer_details"] = consumers_of(&api, &vhost, &queue).await?.into();
    for what in ["incoming", "deliveries"] {
        // What goes between a queue and one exchange or channel is not counted.
        row[what] = json!([]);
    }
    if !listing.has_no_stats {
        row["horizon"] = horizon::of_queue(&api, id).await?;
    }
    Ok(unknown.mark(body::ok(&listing.only_columns(row))?))
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
        durable: body.durable.0,
        exclusive: false,
        auto_delete: body.auto_delete.0,
        arguments: table(&body.arguments)?,
    };
    let command = CatalogCommand::DeclareQueue {
        vhost,
        name: queue,
        // The node chooses it.
        id: QueueId(0),
        server_named: false,
        options,
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
    let id = find(&api, &vhost, &queue).await?;
    if conditions.if_empty || conditions.if_unused {
        let asked = LiveQueues::of(&api, &[id], Depth::Held, &Listing::default()).await?;
        let (_, found) = asked.get(id).ok_or(ApiError::Unavailable)?;
        let in_use =
            |what: &str| ApiError::BadRequest(format!("queue '{queue}' in vhost '{vhost}' {what}"));
        if conditions.if_empty && found.ready_count() > 0 {
            return Err(in_use("not empty"));
        }
        if conditions.if_unused && found.consumer_count() > 0 {
            return Err(in_use("in use"));
        }
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

async fn find(api: &Api, vhost: &Name, queue: &Name) -> Result<QueueId, ApiError> {
    let (inside, asked) = (vhost.clone(), queue.clone());
    let id = api
        .node
        .read(move |catalog| catalog.queue(&inside, &asked).map(|entry| entry.id));
    id.await?.ok_or(ApiError::NotFound)
}

/// The queues of these virtual hosts. Of a page only its own are looked at.
async fn list_in(api: &Api, vhosts: Vec<Name>, listing: &Listing) -> Answer {
    let all = api.directory.queues(&api.node).await?;
    let of_vhosts = all.iter().filter(|(vhost, _, _)| vhosts.contains(vhost));
    let mut known: Vec<_> = of_vhosts.collect();
    let total = known.len();
    let ids = |known: &[&Entry]| -> Vec<QueueId> { known.iter().map(|(_, _, id)| *id).collect() };
    if !listing.is_paged() {
        let (rows, unknown) = shown(api, &ids(&known), Depth::All, listing).await?;
        return Ok(unknown.mark(listing.answer(rows)?));
    }
    if listing.is_filtered() {
        known.retain(|(_, name, _)| listing.wants(&name.to_string()));
    }
    let is_by_name = match &listing.sort {
        None => true,
        Some(column) => matches!(&column[..], [name] if name == "name") && is_one_vhost(&known),
    };
    let mut silent = Unknown::default();
    let mut ids = ids(&known);
    if !is_by_name || !listing.only().is_empty() {
        let (places, unknown) = order::arranged(api, &ids, listing).await?;
        ids = places.into_iter().map(|place| ids[place]).collect();
        silent = unknown;
    } else if listing.is_reversed {
        ids.reverse();
    }
    let (range, frame) = listing.cut(total, ids.len())?;
    let (rows, unknown) = shown(api, &ids[range], Depth::All, listing).await?;
    let rows = rows.into_iter().map(|row| listing.only_columns(row));
    // Who was silent once may have spoken later: the order is without it all the same.
    let answer = silent.mark(framed(rows.collect(), frame)?);
    Ok(unknown.mark(answer))
}

fn is_one_vhost(known: &[&Entry]) -> bool {
    let ends = known.first().zip(known.last());
    ends.is_none_or(|(first, last)| first.0 == last.0)
}

/// Those of the queues that are there, in the same order, as they are at this moment.
pub(super) async fn depths(api: &Api, ids: &[QueueId]) -> Result<(Vec<Value>, Unknown), ApiError> {
    shown(api, ids, Depth::All, &Listing::default()).await
}

/// Those of the queues that are there, in the same order.
async fn shown(
    api: &Api,
    ids: &[QueueId],
    depth: Depth,
    listing: &Listing,
) -> Result<(Vec<Value>, Unknown), ApiError> {
    let mut declared = Vec::with_capacity(ids.len());
    for some in ids.chunks(order::ASKED_MAX) {
        let some = some.to_vec();
        let found = api.node.read(move |catalog| {
            let known = some.into_iter().filter_map(|id| {
                let entry = catalog.queue_by_id(id)?;
                Some((id, Declared::of(catalog, entry)))
            });
            known.collect::<Vec<_>>()
        });
        declared.extend(found.await?);
    }
    let is_asked = !listing.has_no_stats || listing.has_totals;
    let live = if is_asked {
        LiveQueues::of(api, ids, depth, listing).await?
    } else {
        LiveQueues::default()
    };
    let shown = |(id, declared): &(QueueId, Declared)| {
        let mut row = declared.shown(&api.settings.node_name);
        match live.get(*id) {
            None if !is_asked => row["state"] = "live".into(),
            None if live.unknown.is_empty() => row["state"] = "down".into(),
            None => row["state"] = "unknown".into(),
            Some((node, live)) => {
                row["node"] = node.to_string().into();
                extend(&mut row, live.totals());
                if !listing.has_no_stats {
                    extend(&mut row, live.details());
                    extend(&mut row, live.moving());
                }
            }
        }
        row
    };
    Ok((declared.iter().map(shown).collect(), live.unknown.clone()))
}

impl Declared {
    fn of(catalog: &Catalog, entry: &QueueEntry) -> Self {
        let policy = |scope| catalog.policy_of_queue(entry, scope).cloned();
        let name_of = |id| Some(catalog.queue_by_id(id)?.name.clone());
        let home = entry.placement.members.first();
        let home = home.and_then(|id| catalog.node(*id));
        Self {
            partitions: entry.partitions().filter_map(name_of).collect(),
            whole: match entry.partitioning {
                Partitioning::Part { of, .. } => name_of(of),
                Partitioning::Whole | Partitioning::Split { .. } => None,
            },
            policy: policy(PolicyScope::User),
            operator_policy: policy(PolicyScope::Operator),
            effective: catalog.effective_policy_of_queue(entry),
            home: home.map(|node| node.name.clone()),
            entry: entry.clone(),
        }
    }

    fn shown(&self, node_name: &str) -> Value {
        let options = &self.entry.options;
        let text = |name: &Option<Name>| name.as_ref().map(Name::to_string);
        json!({
            "name": self.entry.name.to_string(),
            "vhost": self.entry.vhost.to_string(),
            "type": self.entry.kind().name(),
            "durable": options.durable,
            "auto_delete": options.auto_delete,
            "exclusive": options.exclusive,
            "arguments": object(options.arguments.as_table_ref()),
            "node": self.home.as_ref().map_or_else(|| node_name.to_owned(), Name::to_string),
            "state": "running",
            "policy": text(&self.policy),
            "operator_policy": text(&self.operator_policy),
            "effective_policy_definition": object(self.effective.as_table_ref()),
            "partitions": self.partitions.iter().map(Name::to_string).collect::<Vec<_>>(),
            "partition_of": text(&self.whole),
        })
    }
}
