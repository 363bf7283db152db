//! `/api/staunch/v1/cluster` and where queues are kept: what RabbitMQ's API has no words for.

use axum::extract::{Path, State};
use serde_json::{Value, json};
use staunch_broker::{CatalogCommand, Change, NodeCommand, NodeState};
use staunch_node::{ClusterStatus, NodeStatus, QueueReplicas, ReplicaStatus};
use staunch_types::Name;

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer},
    error::ApiError,
    json::name,
};

/// The cluster as the node sees it that is asked.
pub(crate) async fn status(State(api): State<Api>, caller: Caller) -> Answer {
    if !caller.is_monitor() {
        return Err(ApiError::NotAuthorized("Not monitor user".to_owned()));
    }
    match api.node.cluster_status().await? {
        Some(status) => body::ok(&shown(&status)),
        None => body::ok(&alone(&api.settings.node_name)),
    }
}

/// The members of a queue's group, and who leads.
pub(crate) async fn replicas(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, queue)): Path<(String, String)>,
) -> Answer {
    let (vhost, queue) = (name(&vhost)?, name(&queue)?);
    caller.enter(&api, &vhost).await?;
    let replicas = api
        .node
        .queue_replicas(vhost.clone(), queue.clone())
        .await?;
    let replicas = replicas.ok_or(ApiError::NotFound)?;
    body::ok(&shown_replicas(&vhost, &queue, &replicas))
}

/// A node is to lead nothing from now on: what it leads goes to others.
pub(crate) async fn drain(
    State(api): State<Api>,
    caller: Caller,
    Path(node): Path<String>,
) -> Answer {
    set_drained(&api, &caller, &node, true).await
}

/// A node may lead again.
pub(crate) async fn revive(
    State(api): State<Api>,
    caller: Caller,
    Path(node): Path<String>,
) -> Answer {
    set_drained(&api, &caller, &node, false).await
}

async fn set_drained(api: &Api, caller: &Caller, node: &str, is_drained: bool) -> Answer {
    caller.administrator()?;
    let wanted = name(node)?;
    let status = api.node.cluster_status().await?;
    let nodes = status.map_or_else(Vec::new, |status| status.nodes);
    let found = nodes.iter().find(|node| node.name == wanted);
    let node = found.ok_or(ApiError::NotFound)?.id;
    let command = CatalogCommand::Node(NodeCommand::Drain { node, is_drained });
    api.node.apply(command).await?;
    body::put(Change::Updated)
}

fn shown(status: &ClusterStatus) -> Value {
    let leaderless = status.leaderless.iter();
    let leaderless = leaderless
        .map(|(vhost, queue)| json!({"vhost": vhost.to_string(), "name": queue.to_string()}));
    json!({
        "clustered": true,
        "node": status.me.to_string(),
        "nodes": status.nodes.iter().map(shown_node).collect::<Vec<_>>(),
        "catalog_leader": status.catalog_leader.as_ref().map(Name::to_string),
        "groups": {
            "count": status.group_count,
            "leaderless": status.leaderless_count,
            "leaderless_queues": leaderless.collect::<Vec<_>>(),
            // Of those that this node leads.
            "single_copy": status.single_copy_count,
        },
    })
}

/// A node that stands alone looks like a cluster of one.
fn alone(node_name: &str) -> Value {
    json!({
        "clustered": false,
        "node": node_name,
        "nodes": [{
            "id": 0,
            "name": node_name,
            "up": true,
            "suspected": false,
            "drained": false,
            "witness": false,
            "incarnation": null,
            "leaders": 0,
            "repairing": 0,
            "state": "member",
            "away_seconds": null,
            "queues": 0,
        }],
        "catalog_leader": node_name,
        "groups": {"count": 0, "leaderless": 0, "leaderless_queues": [], "single_copy": 0},
    })
}

fn shown_node(node: &NodeStatus) -> Value {
    json!({
        "id": node.id.0,
        "name": node.name.to_string(),
        "up": node.is_up,
        "suspected": node.is_suspected,
        "drained": node.is_drained,
        "witness": node.is_witness,
        // As text: a number of 64 bits is more than most readers of JSON can hold.
        "incarnation": node.incarnation.map(|it| format!("{it:016x}")),
        "leaders": node.led_count,
        "repairing": node.repairing_count,
        "state": match node.state {
            NodeState::Invited => "invited",
            NodeState::Member => "member",
            NodeState::Leaving => "leaving",
        },
        "away_seconds": node.away.map(|away| away.as_secs()),
        "queues": node.kept_count,
    })
}

fn shown_replicas(vhost: &Name, queue: &Name, replicas: &QueueReplicas) -> Value {
    let partitions = replicas.partitions.iter();
    let partitions = partitions.map(|(name, part)| shown_replicas(vhost, name, part));
    json!({
        "vhost": vhost.to_string(),
        "name": queue.to_string(),
        "replicated": replicas.is_replicated,
        "leader": replicas.leader.as_ref().map(Name::to_string),
        "term": replicas.term.map(|term| term.0),
        "replicas": replicas.replicas.iter().map(shown_replica).collect::<Vec<_>>(),
        "partitions": partitions.collect::<Vec<_>>(),
    })
}

fn shown_replica(replica: &ReplicaStatus) -> Value {
    json!({
        "node": replica.node.to_string(),
        "up": replica.is_up,
        "voter": replica.is_voter,
        "witness": replica.is_witness,
        "behind": replica.behind,
        "needs_snapshot": replica.needs_snapshot,
        "repairing": replica.is_repairing,
    })
}
