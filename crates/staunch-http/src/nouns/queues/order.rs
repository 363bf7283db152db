//! Which queues are on a page, and in what order, where that follows from more than their names: one
//! value of each is looked up and not the whole row, so that 100,000 queues are sorted while somebody
//! waits.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use staunch_broker::{Catalog, QueueEntry};
use staunch_stats::DEPTH_NAMES;
use staunch_types::{Name, QueueId};

use super::{Declared, live::Live};
use crate::{
    Api,
    error::ApiError,
    listing::{Listing, at, compare},
    others::Unknown,
    question::Question,
    rates::{add_value, queue_value, value_at},
};

/// Queues that the node is asked about at once; it serves clients in between.
pub(super) const ASKED_MAX: usize = 2_000;

/// What is declared, or follows from that.
const DECLARED: [&str; 12] = [
    "name",
    "vhost",
    "type",
    "durable",
    "auto_delete",
    "exclusive",
    "arguments",
    "policy",
    "operator_policy",
    "effective_policy_definition",
    "partitions",
    "partition_of",
];

/// One value of a queue, as the node knows it that serves the queue.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Cell {
    id: u64,
    is_split: bool,
    value: Option<Value>,
}

/// Those of the queues that are wanted, as places among them and in order.
pub(super) async fn arranged(
    api: &Api,
    ids: &[QueueId],
    listing: &Listing,
) -> Result<(Vec<usize>, Unknown), ApiError> {
    let mut places: Vec<_> = (0..ids.len()).collect();
    let mut unknown = Unknown::default();
    for (name, wanted) in listing.only() {
        let (values, silent) = column(api, ids, &[(*name).to_owned()], listing).await?;
        let text = |place: &usize| values[*place].as_ref().and_then(Value::as_str);
        places.retain(|place| text(place).is_none_or(|is| is == wanted));
        unknown = silent;
    }
    if let Some(path) = &listing.sort {
        let (values, silent) = column(api, ids, path, listing).await?;
        places.sort_by(|one, other| compare(values[*one].as_ref(), values[*other].as_ref()));
        unknown = silent;
    }
    if listing.is_reversed {
        places.reverse();
    }
    Ok((places, unknown))
}

/// A column of these queues.
async fn column(
    api: &Api,
    ids: &[QueueId],
    path: &[String],
    listing: &Listing,
) -> Result<(Vec<Option<Value>>, Unknown), ApiError> {
    let first = path.first().map_or("", String::as_str);
    if DECLARED.contains(&first) {
        return Ok((declared(api, ids, path).await?, Unknown::default()));
    }
    if listing.has_no_stats && !listing.has_totals {
        return Ok((vec![None; ids.len()], Unknown::default()));
    }
    let (mut cells, unknown) = served(api, ids, path).await?;
    let values = ids.iter().map(|id| match (first, cells.remove(id)) {
        ("state", Some(_)) => Some("running".into()),
        ("state", None) if unknown.is_empty() => Some("down".into()),
        ("state", None) => Some("unknown".into()),
        ("node", found) => found.map(|(node, _)| node.to_string().into()),
        (_, found) => found.and_then(|(_, cell)| cell.value),
    });
    Ok((values.collect(), unknown))
}

/// A column that the catalog knows.
async fn declared(
    api: &Api,
    ids: &[QueueId],
    path: &[String],
) -> Result<Vec<Option<Value>>, ApiError> {
    let mut values = Vec::with_capacity(ids.len());
    for some in ids.chunks(ASKED_MAX) {
        let (some, asked) = (some.to_vec(), path.to_vec());
        let found = api.node.read(move |catalog| {
            let find = |id| Some(Found::of(catalog, catalog.queue_by_id(id)?, &asked));
            some.into_iter().map(find).collect::<Vec<_>>()
        });
        let shown = found.await?.into_iter().map(|found| match found? {
            Found::Value(value) => Some(value),
            Found::Whole(declared) => at(&declared.shown(&api.settings.node_name), path).cloned(),
        });
        values.extend(shown);
    }
    Ok(values)
}

/// What is copied out of the catalog.
enum Found {
    Value(Value),
    Whole(Box<Declared>),
}

impl Found {
    fn of(catalog: &Catalog, entry: &QueueEntry, path: &[String]) -> Self {
        match path.first().map(String::as_str) {
            Some("name") => Self::Value(entry.name.to_string().into()),
            Some("vhost") => Self::Value(entry.vhost.to_string().into()),
            Some("type") => Self::Value(entry.kind().name().into()),
            Some("durable") => Self::Value(entry.options.durable.into()),
            Some("auto_delete") => Self::Value(entry.options.auto_delete.into()),
            Some("exclusive") => Self::Value(entry.options.exclusive.into()),
            _ => Self::Whole(Box::new(Declared::of(catalog, entry))),
        }
    }
}

/// A column that the nodes know which serve the queues, and who serves each.
async fn served(
    api: &Api,
    ids: &[QueueId],
    path: &[String],
) -> Result<(HashMap<QueueId, (Name, Cell)>, Unknown), ApiError> {
    let mut all = HashMap::new();
    let me = api.name();
    for cell in own(api, ids, path).await? {
        take(&mut all, &me, cell, path);
    }
    let path_asked = path.to_vec();
    let heard = api
        .ask_others::<Vec<Cell>>(&Question::QueueColumn { path: path_asked })
        .await?;
    for (node, cells) in heard.answers {
        for cell in cells {
            take(&mut all, &node, cell, path);
        }
    }
    Ok((all, heard.unknown))
}

fn take(all: &mut HashMap<QueueId, (Name, Cell)>, node: &Name, cell: Cell, path: &[String]) {
    let Some((_, known)) = all.get_mut(&QueueId(cell.id)) else {
        all.insert(QueueId(cell.id), (node.clone(), cell));
        return;
    };
    // A consumer is one of all partitions.
    let is_count = path.first().is_some_and(|name| name.contains("consumer"));
    if let (true, false, Some(sum), Some(other)) =
        (known.is_split, is_count, &mut known.value, cell.value)
    {
        add_value(sum, other);
    }
}

/// Answers for another node: of all queues, those that this one serves.
pub(crate) async fn answer(api: &Api, path: &[String]) -> Result<Vec<Cell>, ApiError> {
    let all = api.directory.queues(&api.node).await?;
    let ids: Vec<_> = all.iter().map(|(_, _, id)| *id).collect();
    own(api, &ids, path).await
}

/// Of those of the queues that this node serves.
async fn own(api: &Api, ids: &[QueueId], path: &[String]) -> Result<Vec<Cell>, ApiError> {
    let mut cells = Vec::new();
    for some in ids.chunks(ASKED_MAX) {
        let found = api.node.find_queues(some.to_vec()).await?;
        let statistics = api.statistics.read();
        for info in found.iter().filter(|info| info.is_served_here) {
            let held = match path {
                [name] => Live::new(info).held(name),
                _ => None,
            };
            let moved = || {
                let known = statistics.queue(info.id)?;
                let round = statistics.round();
                match path {
                    [first, rest @ ..] if first == "message_stats" => {
                        queue_value(rest, &known.messages, round)
                    }
                    _ => value_at(path, &DEPTH_NAMES, &known.depth, round),
                }
            };
            cells.push(Cell {
                id: info.id.0,
                is_split: info.is_split,
                value: held.or_else(moved),
            });
        }
    }
    Ok(cells)
}
