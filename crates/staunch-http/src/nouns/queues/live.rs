//! What queues hold and how they move, as the nodes say that serve them.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use staunch_node::QueueInfo;
use staunch_stats::{DEPTH_NAMES, QueueStats, Round};
use staunch_types::{Name, QueueId};

use crate::{
    Api,
    error::ApiError,
    listing::{Listing, Windows},
    others::Unknown,
    question::Question,
    rates::{add, moving, queue_stats},
};

use super::order::ASKED_MAX;

/// More queues than that are not named: all are asked for.
const NAMED_MAX: usize = 5_000;

/// A queue as the node knows it that serves it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Live {
    id: u64,
    ready: u64,
    unacked: u64,
    consumers: u32,
    memory: u64,
    ready_bytes: u64,
    unacked_bytes: u64,
    /// It has partitions, and this is the sum over some of them.
    is_split: bool,
    /// Rates and what comes of them.
    moving: Map<String, Value>,
}

/// What there is to be known of queues.
#[derive(Debug, Default)]
pub(super) struct LiveQueues {
    known: HashMap<QueueId, (Name, Live)>,
    pub(super) unknown: Unknown,
}

/// How much is to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Depth {
    /// What they hold.
    Held,
    /// Rates as well.
    All,
}

impl LiveQueues {
    /// Asks this node and the others.
    pub(super) async fn of(
        api: &Api,
        ids: &[QueueId],
        depth: Depth,
        listing: &Listing,
    ) -> Result<Self, ApiError> {
        let mut all = Self::default();
        let me = api.name();
        for live in own(api, ids, depth, &listing.windows).await? {
            all.take(&me, live);
        }
        let question = Question::Queues {
            ids: (ids.len() <= NAMED_MAX).then(|| ids.iter().map(|id| id.0).collect()),
            depth,
            query: listing.query.clone(),
        };
        let heard = api.ask_others::<Vec<Live>>(&question).await?;
        let wanted: BTreeSet<_> = ids.iter().copied().collect();
        for (node, queues) in heard.answers {
            let queues = queues.into_iter();
            for live in queues.filter(|live| wanted.contains(&QueueId(live.id))) {
                all.take(&node, live);
            }
        }
        all.unknown = heard.unknown;
        Ok(all)
    }

    /// The node that serves a queue, and what it says.
    pub(super) fn get(&self, id: QueueId) -> Option<(&Name, &Live)> {
        self.known.get(&id).map(|(node, live)| (node, live))
    }

    fn take(&mut self, node: &Name, live: Live) {
        let Some((_, known)) = self.known.get_mut(&QueueId(live.id)) else {
            self.known.insert(QueueId(live.id), (node.clone(), live));
            return;
        };
        if known.is_split {
            known.add(live);
        }
    }
}

impl Live {
    pub(super) fn new(info: &QueueInfo) -> Self {
        Self {
            id: info.id.0,
            ready: info.ready_count,
            unacked: info.unacked_count,
            consumers: info.consumer_count,
            memory: info.memory_size_bytes,
            ready_bytes: info.held.ready_body_bytes,
            unacked_bytes: info.held.unacked_body_bytes,
            is_split: info.is_split,
            moving: Map::new(),
        }
    }

    /// Adds what another node says of its partitions.
    fn add(&mut self, other: Self) {
        self.ready += other.ready;
        self.unacked += other.unacked;
        // A consumer is one of all partitions.
        self.consumers = self.consumers.max(other.consumers);
        self.memory += other.memory;
        self.ready_bytes += other.ready_bytes;
        self.unacked_bytes += other.unacked_bytes;
        add(&mut self.moving, other.moving);
    }

    pub(super) fn ready_count(&self) -> u64 {
        self.ready
    }

    pub(super) fn consumer_count(&self) -> u32 {
        self.consumers
    }

    pub(super) fn moving(&self) -> Map<String, Value> {
        self.moving.clone()
    }

    /// One of [`Live::totals`] and [`Live::details`] that queues are told apart by.
    pub(super) fn held(&self, column: &str) -> Option<Value> {
        let value = match column {
            "messages" | "messages_persistent" => self.ready + self.unacked,
            "messages_ready" => self.ready,
            "messages_unacknowledged" => self.unacked,
            "consumers" | "active_consumers" => self.consumers.into(),
            "consumer_utilisation" | "consumer_capacity" => self.capacity().into(),
            "memory" => self.memory,
            "message_bytes" | "message_bytes_persistent" => self.ready_bytes + self.unacked_bytes,
            "message_bytes_ready" => self.ready_bytes,
            "message_bytes_unacknowledged" => self.unacked_bytes,
            _ => return None,
        };
        Some(value.into())
    }

    /// Consumers can take more if nothing waits for them.
    fn capacity(&self) -> u8 {
        u8::from(self.consumers > 0 && self.ready == 0)
    }

    pub(super) fn totals(&self) -> Map<String, Value> {
        of([
            ("messages", (self.ready + self.unacked).into()),
            ("messages_ready", self.ready.into()),
            ("messages_unacknowledged", self.unacked.into()),
        ])
    }

    /// What RabbitMQ tells of a queue beside its totals, as far as there is such a thing here.
    pub(super) fn details(&self) -> Map<String, Value> {
        let body_bytes = self.ready_bytes + self.unacked_bytes;
        let capacity = self.capacity();
        of([
            ("consumers", self.consumers.into()),
            ("active_consumers", self.consumers.into()),
            ("consumer_utilisation", capacity.into()),
            ("consumer_capacity", capacity.into()),
            ("memory", self.memory.into()),
            ("message_bytes", body_bytes.into()),
            ("message_bytes_ready", self.ready_bytes.into()),
            ("message_bytes_unacknowledged", self.unacked_bytes.into()),
            ("message_bytes_ram", 0.into()),
            ("message_bytes_paged_out", 0.into()),
            ("message_bytes_persistent", body_bytes.into()),
            ("messages_ram", 0.into()),
            ("messages_paged_out", 0.into()),
            ("messages_persistent", (self.ready + self.unacked).into()),
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
}

/// Answers for another node: of these queues, or of all, those that this one serves.
pub(crate) async fn answer(
    api: &Api,
    ids: Option<Vec<u64>>,
    depth: Depth,
    query: &str,
) -> Result<Value, ApiError> {
    let ids = if let Some(ids) = ids {
        ids.into_iter().map(QueueId).collect()
    } else {
        let ids = api
            .node
            .read(|catalog| catalog.queues().map(|entry| entry.id).collect::<Vec<_>>());
        ids.await?
    };
    let windows = Listing::of(query)?.windows;
    let live = own(api, &ids, depth, &windows).await?;
    serde_json::to_value(live).map_err(|_| ApiError::Unavailable)
}

/// Those of the queues that this node serves.
async fn own(
    api: &Api,
    ids: &[QueueId],
    depth: Depth,
    windows: &Windows,
) -> Result<Vec<Live>, ApiError> {
    let mut found = Vec::with_capacity(ids.len());
    for some in ids.chunks(ASKED_MAX) {
        found.extend(api.node.find_queues(some.to_vec()).await?);
    }
    let mut owners = match depth {
        Depth::Held => HashMap::new(),
        Depth::All => owners(api, ids.to_vec()).await?,
    };
    let statistics = api.statistics.read();
    let served = found.iter().filter(|info| info.is_served_here);
    let live = served.map(|info| {
        let mut live = Live::new(info);
        let known = statistics.queue(info.id).filter(|_| depth == Depth::All);
        if let Some(known) = known {
            live.moving = rates(known, statistics.round(), windows);
        }
        if let Some(owner) = owners.remove(&info.id) {
            live.moving.insert("owner_pid_details".to_owned(), owner);
        }
        live
    });
    Ok(live.collect())
}

/// Connections of this node's clients with which queues go.
async fn owners(api: &Api, ids: Vec<QueueId>) -> Result<HashMap<QueueId, Value>, ApiError> {
    let owned = api.node.read(move |catalog| {
        let owned = ids.into_iter().filter_map(|id| {
            let owner = catalog.queue_by_id(id)?.owner?;
            Some((id, owner))
        });
        owned.collect::<Vec<_>>()
    });
    let owned = owned.await?;
    if owned.is_empty() {
        return Ok(HashMap::new());
    }
    let connections = api.node.connections().await?;
    let shown = owned.into_iter().filter_map(|(id, owner)| {
        let connection = connections.iter().find(|it| it.id == owner)?;
        let peer = connection.peer.address;
        let shown = json!({
            "name": connection.name,
            "peer_host": peer.map(|peer| peer.ip().to_string()),
            "peer_port": peer.map(|peer| peer.port()),
        });
        Some((id, shown))
    });
    Ok(shown.collect())
}

fn rates(known: &QueueStats, round: &Round, windows: &Windows) -> Map<String, Value> {
    let depth = moving(&DEPTH_NAMES, &known.depth, round, windows.lengths);
    // The numbers themselves are newer.
    let depth = depth
        .into_iter()
        .filter(|(name, _)| name.ends_with("_details"));
    let mut rates: Map<_, _> = depth.collect();
    if let Some(stats) = queue_stats(&known.messages, round, windows.messages) {
        rates.insert("message_stats".to_owned(), stats);
    }
    rates
}

fn of<const N: usize>(columns: [(&str, Value); N]) -> Map<String, Value> {
    let columns = columns.into_iter();
    columns
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_alone_is_as_it_is_in_the_row() {
        let live = Live {
            id: 1,
            ready: 0,
            unacked: 2,
            consumers: 3,
            memory: 5,
            ready_bytes: 7,
            unacked_bytes: 11,
            is_split: false,
            moving: Map::new(),
        };
        let mut row = live.totals();
        row.extend(live.details());
        let alone = |name: &str| live.held(name).is_some();
        assert_eq!(row.keys().filter(|name| alone(name)).count(), 13);
        for (name, value) in &row {
            let held = live.held(name);
            assert!(held.is_none_or(|held| held == *value), "{name}");
        }
    }
}
