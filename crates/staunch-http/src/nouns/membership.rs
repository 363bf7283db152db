//! Nodes that leave, and nodes that are to keep a queue.

use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::json;
use staunch_broker::{Catalog, CatalogCommand, Change, NodeCommand, Placement};
use staunch_node::AdminRequest;
use staunch_types::{Name, NodeId};

use crate::{
    Api,
    auth::Caller,
    body::{self, Answer, Content, Json},
    error::ApiError,
    json::name,
};

/// How a node is to be removed.
#[derive(Deserialize)]
pub(crate) struct Removal {
    /// It is gone for good.
    #[serde(default)]
    force: bool,
}

/// A change of the nodes that keep a queue.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplicaChange {
    action: Action,
    /// Which is to keep it, is to keep it no longer, or is to lead it.
    node: String,
    /// Which is to keep it instead.
    to: Option<String>,
}

impl Content for ReplicaChange {
    const REQUIRED: &'static [&'static str] = &["action", "node"];
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Action {
    Add,
    Remove,
    Move,
    Lead,
}

/// What would stand still if the node stopped now.
pub(crate) async fn safe_to_stop(
    State(api): State<Api>,
    caller: Caller,
    Path(node): Path<String>,
) -> Answer {
    if !caller.is_monitor() {
        return Err(ApiError::NotAuthorized("Not monitor user".to_owned()));
    }
    let check = api.node.stops_with(name(&node)?).await?;
    let check = check.ok_or(ApiError::NotFound)?;
    let queues = check.queues.iter();
    let queues =
        queues.map(|(vhost, name)| json!({"vhost": vhost.to_string(), "name": name.to_string()}));
    body::ok(&json!({
        "node": node,
        "safe": check.is_safe(),
        "catalog": check.catalog,
        "queues": check.queue_count,
        "named_queues": queues.collect::<Vec<_>>(),
    }))
}

/// A node leaves the cluster, or is given up.
pub(crate) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    Path(node): Path<String>,
    Query(removal): Query<Removal>,
) -> Answer {
    caller.administrator()?;
    let wanted = name(&node)?;
    let known = wanted.clone();
    let found = api
        .node
        .read(move |catalog| kept_alone(catalog, &known))
        .await?;
    let lost = found.ok_or(ApiError::NotFound)?;
    let request = AdminRequest::RemoveNode {
        node: wanted,
        is_dead: removal.force,
    };
    for result in api.node.change_cluster(request).await? {
        result?;
    }
    body::ok(&json!({
        "node": node,
        "state": if removal.force { "removed" } else { "leaving" },
        "lost_queues": if removal.force { lost } else { Vec::new() },
    }))
}

/// Durable queues that nobody else keeps; none if there is no such node.
fn kept_alone(catalog: &Catalog, node: &Name) -> Option<Vec<String>> {
    let (id, _) = catalog.node_named(node)?;
    let queues = catalog.queues();
    let alone = queues.filter(|queue| queue.is_durable() && queue.placement.members == [id]);
    Some(
        alone
            .map(|queue| format!("{} in {}", queue.name, queue.vhost))
            .collect(),
    )
}

/// Moves a few replicas to nodes that keep fewer; says how many.
pub(crate) async fn rebalance(State(api): State<Api>, caller: Caller) -> Answer {
    caller.administrator()?;
    let results = api.node.change_cluster(AdminRequest::Rebalance).await?;
    let moved_count = results.iter().filter(|result| result.is_ok()).count();
    body::ok(&json!({"moved": moved_count}))
}

/// The same, as RabbitMQ's tools ask for it.
pub(crate) async fn rebalance_queues(api: State<Api>, caller: Caller) -> Answer {
    rebalance(api, caller).await?;
    body::put(Change::Updated)
}

/// Has a queue kept by other nodes. It is agreed on when this is answered, and done when the new
/// members have caught up.
pub(crate) async fn change_replicas(
    State(api): State<Api>,
    caller: Caller,
    Path((vhost, queue)): Path<(String, String)>,
    Json(change): Json<ReplicaChange>,
) -> Answer {
    caller.administrator()?;
    let (vhost, queue) = (name(&vhost)?, name(&queue)?);
    let (node, to) = (
        name(&change.node)?,
        change.to.as_deref().map(name).transpose()?,
    );
    let action = change.action;
    let found = api.node.read(move |catalog| {
        let entry = catalog.queue(&vhost, &queue)?;
        let id = |name: &Name| catalog.node_named(name).map(|(id, _)| id);
        Some((
            entry.id,
            entry.placement.clone(),
            id(&node),
            to.as_ref().map(id),
        ))
    });
    let (queue, placement, node, to) = found.await?.ok_or(ApiError::NotFound)?;
    let missing = || ApiError::Missing("there is no such node in the cluster".to_owned());
    let node = node.ok_or_else(missing)?;
    let to = to.map(|to| to.ok_or_else(missing)).transpose()?;
    let members = changed(&placement, action, node, to)?;
    let command = NodeCommand::Place {
        queue,
        changes: placement.changes,
        members,
    };
    let change = api.node.apply(CatalogCommand::Node(command)).await?;
    body::put(change)
}

/// The members after a change.
fn changed(
    placement: &Placement,
    action: Action,
    node: NodeId,
    to: Option<NodeId>,
) -> Result<Vec<NodeId>, ApiError> {
    let refuse = |text: &str| Err(ApiError::Precondition(text.to_owned()));
    let mut members = placement.members.clone();
    let at = members.iter().position(|member| *member == node);
    if !placement.is_replicated {
        return refuse("the queue is not replicated: it stays where it is");
    }
    match (action, at, to) {
        (Action::Add, None, None) => members.push(node),
        (Action::Remove, Some(_), None) if members.len() == 1 => {
            return refuse("the last replica of a queue cannot be removed: delete the queue");
        }
        (Action::Remove, Some(at), None) => {
            members.remove(at);
        }
        // Leaders go home to the first of the members.
        (Action::Lead, Some(at), None) => members[..=at].rotate_right(1),
        (Action::Move, Some(at), Some(to)) => members[at] = to,
        (Action::Move, _, None) => return refuse("move needs the node to move to"),
        (Action::Add | Action::Remove | Action::Lead, _, Some(_)) => {
            return refuse("only move has a second node");
        }
        (Action::Add, Some(_), None) => return refuse("the node keeps the queue already"),
        (Action::Remove | Action::Move | Action::Lead, None, _) => {
            return refuse("the node does not keep the queue");
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(action: Action, node: u64, to: Option<u64>, expected: Option<&[u64]>) {
        let placement = Placement::replicated([1, 2, 3].map(NodeId).to_vec());
        let members = changed(&placement, action, NodeId(node), to.map(NodeId));
        let members = members.ok();
        let ids = members.map(|members| members.iter().map(|node| node.0).collect::<Vec<_>>());
        assert_eq!(ids.as_deref(), expected);
    }

    #[test]
    fn members_are_added_removed_and_moved() {
        check(Action::Add, 4, None, Some(&[1, 2, 3, 4]));
        check(Action::Remove, 2, None, Some(&[1, 3]));
        check(Action::Move, 1, Some(4), Some(&[4, 2, 3]));
        check(Action::Lead, 3, None, Some(&[3, 1, 2]));
        check(Action::Lead, 1, None, Some(&[1, 2, 3]));
        check(Action::Lead, 4, None, None);
        check(Action::Add, 1, None, None);
        check(Action::Remove, 4, None, None);
        check(Action::Move, 1, None, None);
        check(Action::Move, 4, Some(1), None);
        check(Action::Add, 4, Some(5), None);
    }

    #[test]
    fn the_last_member_and_a_queue_on_one_node_stay() {
        let one = Placement::replicated(vec![NodeId(1)]);
        assert!(changed(&one, Action::Remove, NodeId(1), None).is_err());
        let home = Placement::at(NodeId(1));
        assert!(changed(&home, Action::Move, NodeId(1), Some(NodeId(2))).is_err());
    }
}
