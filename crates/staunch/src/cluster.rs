//! `staunch cluster` and `staunch queue`: who is there, and who keeps and leads what.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    membership,
    target::{DEFAULT_URL, Target, segment},
};

/// A cluster with a node down or suspected, or a queue without a leader, is not well: an exit code
/// for scripts.
const EXIT_NOT_WELL: u8 = 1;

#[derive(Args)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Subcommand)]
enum ClusterCommand {
    /// Shows all nodes and how many queues each leads. Ends with 1 unless all is well.
    Status(Asked),
    /// Moves replicas from nodes that keep many queues to nodes that keep few, until there is nothing
    /// to be gained.
    Rebalance(membership::Rebalance),
}

#[derive(Args)]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Subcommand)]
enum NodeCommand {
    /// Has a node lead nothing, before it is stopped or worked on: other nodes take over at once.
    Drain(NamedNode),
    /// Lets a drained node lead again.
    Revive(NamedNode),
    /// Says what would stand still if a node stopped now. Ends with 1 unless that is nothing.
    SafeToStop(NamedNode),
    /// Has a node leave the cluster: its replicas are moved to others first.
    Remove(membership::Removal),
}

#[derive(Args)]
pub(crate) struct NamedNode {
    /// The node.
    pub(crate) name: String,
    /// Where any node's HTTP interface is, and who asks.
    #[arg(long, default_value = DEFAULT_URL)]
    pub(crate) url: String,
}

#[derive(Args)]
pub(crate) struct QueueArgs {
    #[command(subcommand)]
    command: QueueCommand,
}

#[derive(Subcommand)]
enum QueueCommand {
    /// Shows the nodes that keep a queue, or changes them.
    Replicas(membership::Replicas),
    /// Prints the node that leads a queue. Ends with 1 if none is known.
    Leader(Named),
}

#[derive(Args)]
pub(crate) struct Asked {
    /// Where a node's HTTP interface is, and who asks.
    #[arg(long, default_value = DEFAULT_URL)]
    pub(crate) url: String,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct Named {
    /// The queue.
    name: String,
    /// Its virtual host.
    #[arg(long, default_value = "/")]
    vhost: String,
    #[command(flatten)]
    pub(crate) asked: Asked,
}

/// The answer of `/api/staunch/v1/cluster`.
#[derive(Deserialize, Serialize)]
struct Status {
    clustered: bool,
    node: String,
    nodes: Vec<Node>,
    catalog_leader: Option<String>,
    groups: Groups,
}

#[derive(Deserialize, Serialize)]
struct Node {
    id: u64,
    name: String,
    up: bool,
    suspected: bool,
    #[serde(default)]
    drained: bool,
    incarnation: Option<String>,
    leaders: u64,
    /// Damaged replicas that get everything anew.
    #[serde(default)]
    repairing: u64,
    #[serde(default)]
    state: String,
    #[serde(default)]
    away_seconds: Option<u64>,
    #[serde(default)]
    queues: u64,
}

#[derive(Deserialize, Serialize)]
struct Groups {
    count: u64,
    leaderless: u64,
    leaderless_queues: Vec<Queue>,
}

#[derive(Deserialize, Serialize)]
struct Queue {
    vhost: String,
    name: String,
}

/// The answer of `/api/staunch/v1/queues/VHOST/NAME/replicas`.
#[derive(Deserialize, Serialize)]
struct Kept {
    vhost: String,
    name: String,
    replicated: bool,
    leader: Option<String>,
    term: Option<u64>,
    replicas: Vec<Replica>,
    /// Of a queue that has some.
    #[serde(default)]
    partitions: Vec<Kept>,
}

#[expect(clippy::struct_excessive_bools, reason = "as the interface has it")]
#[derive(Deserialize, Serialize)]
struct Replica {
    node: String,
    up: bool,
    voter: bool,
    behind: Option<u64>,
    needs_snapshot: bool,
    #[serde(default)]
    repairing: bool,
}

pub(crate) fn run(args: &ClusterArgs) -> anyhow::Result<ExitCode> {
    let asked = match &args.command {
        ClusterCommand::Status(asked) => asked,
        ClusterCommand::Rebalance(rebalance) => return membership::rebalance(rebalance),
    };
    let status: Status = ask(asked, "staunch/v1/cluster")?;
    show(asked, &status, || status.table())?;
    Ok(exit(status.is_well()))
}

pub(crate) fn run_node(args: &NodeArgs) -> anyhow::Result<ExitCode> {
    let (named, is_drained) = match &args.command {
        NodeCommand::Drain(named) => (named, true),
        NodeCommand::Revive(named) => (named, false),
        NodeCommand::SafeToStop(named) => return membership::safe_to_stop(named),
        NodeCommand::Remove(removal) => return membership::remove(removal),
    };
    let target = Target::parse(&named.url)?;
    let path = format!("staunch/v1/nodes/{}/drain", segment(&named.name));
    let answer = if is_drained {
        target.put(&path)
    } else {
        target.delete(&path)
    };
    answer.with_context(|| format!("ask the node at {}", without_user(&named.url)))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn run_queue(args: &QueueArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        QueueCommand::Replicas(replicas) => {
            membership::change_replicas(replicas)?;
            let named = &replicas.named;
            let kept: Kept = ask(&named.asked, &named.path())?;
            show(&named.asked, &kept, || kept.table())?;
            Ok(ExitCode::SUCCESS)
        }
        QueueCommand::Leader(named) => {
            let kept: Kept = ask(&named.asked, &named.path())?;
            show(&named.asked, &kept.leaders(), || kept.leaders_text())?;
            Ok(exit(kept.is_led()))
        }
    }
}

impl Named {
    /// Of the nodes that keep it, below `/api`.
    pub(crate) fn path(&self) -> String {
        format!(
            "staunch/v1/queues/{}/{}/replicas",
            segment(&self.vhost),
            segment(&self.name)
        )
    }
}

fn ask<T: DeserializeOwned>(asked: &Asked, path: &str) -> anyhow::Result<T> {
    let answer = Target::parse(&asked.url)?.get(path);
    let answer = answer.with_context(|| format!("ask the node at {}", without_user(&asked.url)))?;
    serde_json::from_slice(&answer).context("the node's answer is not what was asked for")
}

/// A password has no place in an error.
pub(crate) fn without_user(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, host)| host)
}

fn show<T: Serialize>(
    asked: &Asked,
    value: &T,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if asked.json {
        serde_json::to_writer_pretty(&mut out, value)?;
        writeln!(out)?;
        return Ok(());
    }
    Ok(out.write_all(text().as_bytes())?)
}

pub(crate) fn exit(is_well: bool) -> ExitCode {
    if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_NOT_WELL)
    }
}

impl Status {
    fn is_well(&self) -> bool {
        let is_well = |node: &Node| node.up && !node.suspected && node.repairing == 0;
        let all_there = self.nodes.iter().all(is_well);
        all_there && self.catalog_leader.is_some() && self.groups.leaderless == 0
    }

    fn table(&self) -> String {
        let mut rows = vec![["NODE", "ID", "STATE", "LEADS"].map(str::to_owned)];
        for node in &self.nodes {
            let name = if node.name == self.node {
                format!("{} *", node.name)
            } else {
                node.name.clone()
            };
            let away = node.away_seconds;
            let state = match (node.up, node.suspected) {
                _ if node.state == "invited" => "invited".to_owned(),
                (true, false) if node.state == "leaving" => "leaving".to_owned(),
                (true, false) if node.drained => "drained".to_owned(),
                (true, false) if node.repairing > 0 => "repairing".to_owned(),
                (true, false) => "up".to_owned(),
                (true, true) => "silent".to_owned(),
                (false, _) => away.map_or("down".to_owned(), |it| format!("down for {it} s")),
            };
            rows.push([name, node.id.to_string(), state, node.leaders.to_string()]);
        }
        let mut text = aligned(&rows);
        if !self.clustered {
            text.push_str("this node stands alone\n");
            return text;
        }
        let Groups {
            count, leaderless, ..
        } = &self.groups;
        let leader = self.catalog_leader.as_deref().unwrap_or("nobody");
        let sum = format!(
            "catalog led by {leader}, {count} replicated queues here, {leaderless} without a leader\n"
        );
        let named = self.groups.leaderless_queues.iter();
        let named = named.map(|queue| format!("no leader: {} in {}\n", queue.name, queue.vhost));
        text.extend(std::iter::once(sum).chain(named));
        text
    }
}

impl Kept {
    fn is_led(&self) -> bool {
        let mut partitions = self.partitions.iter();
        if self.partitions.is_empty() {
            return self.leader.is_some();
        }
        partitions.all(Self::is_led)
    }

    /// The leader, or the leader of each partition.
    fn leaders(&self) -> serde_json::Value {
        if self.partitions.is_empty() {
            return serde_json::json!(self.leader);
        }
        let partitions = self.partitions.iter();
        let leaders = partitions.map(|part| (part.name.clone(), part.leaders()));
        serde_json::Value::Object(leaders.collect())
    }

    fn leaders_text(&self) -> String {
        let line = |leader: &str| format!("{leader}\n");
        if self.partitions.is_empty() {
            return self.leader.as_deref().map_or(String::new(), line);
        }
        let partitions = self.partitions.iter();
        let lines = partitions.map(|part| {
            let leader = part.leader.as_deref().unwrap_or("nobody");
            format!("{} {leader}\n", part.name)
        });
        lines.collect()
    }

    /// One line for each partition.
    fn partition_table(&self) -> String {
        let mut rows = vec![["PARTITION", "STATE", "LEADER", "REPLICAS"].map(str::to_owned)];
        for part in &self.partitions {
            let state = if part.is_led() {
                "works"
            } else {
                "stands still"
            };
            let replica = |replica: &Replica| {
                let down = if replica.up { "" } else { " (down)" };
                format!("{}{down}", replica.node)
            };
            let replicas: Vec<_> = part.replicas.iter().map(replica).collect();
            rows.push([
                part.name.clone(),
                state.to_owned(),
                part.leader.clone().unwrap_or_else(|| "nobody".to_owned()),
                replicas.join(", "),
            ]);
        }
        aligned(&rows)
    }

    fn table(&self) -> String {
        if !self.partitions.is_empty() {
            return self.partition_table();
        }
        let mut rows = vec![["NODE", "ROLE", "STATE", "BEHIND"].map(str::to_owned)];
        for replica in &self.replicas {
            let leads = self.leader.as_ref() == Some(&replica.node);
            let role = match (leads, self.replicated, replica.voter) {
                (true, true, _) => "leader",
                (false, true, true) => "follower",
                (false, true, false) => "learner",
                (_, false, _) => "home",
            };
            let behind = match (replica.needs_snapshot, replica.behind) {
                _ if replica.repairing => "damaged, is repaired".to_owned(),
                (true, _) => "needs the whole queue".to_owned(),
                (false, Some(entries)) => entries.to_string(),
                (false, None) => "-".to_owned(),
            };
            let state = if replica.up { "up" } else { "down" };
            rows.push([
                replica.node.clone(),
                role.to_owned(),
                state.to_owned(),
                behind,
            ]);
        }
        aligned(&rows)
    }
}

/// Columns of equal width, two spaces between them.
fn aligned(rows: &[[String; 4]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths = [0, 1, 2, 3].map(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> Status {
        serde_json::from_str(text).expect("it is a status")
    }

    #[test]
    fn a_table_names_what_is_down_and_what_has_no_leader() {
        let status = status(
            r#"{"clustered": true, "node": "n1", "nodes": [
                {"id": 1, "name": "n1", "up": true, "suspected": false, "incarnation": "1f", "leaders": 12},
                {"id": 2, "name": "n2", "up": false, "suspected": true, "incarnation": null, "leaders": 0},
                {"id": 3, "name": "n3", "up": true, "suspected": true, "incarnation": "2f", "leaders": 3}],
              "catalog_leader": null, "groups": {"count": 16, "leaderless": 1, "leaderless_queues": [{"vhost": "/", "name": "q"}]}}"#,
        );
        assert!(!status.is_well());
        let expected = "\
NODE  ID  STATE   LEADS
n1 *  1   up      12
n2    2   down    0
n3    3   silent  3
catalog led by nobody, 16 replicated queues here, 1 without a leader
no leader: q in /
";
        assert_eq!(status.table(), expected);
    }

    #[test]
    fn partitions_that_stand_still_are_named() {
        let kept: Kept = serde_json::from_str(
            r#"{"vhost": "/", "name": "q", "replicated": false, "leader": null, "term": null, "replicas": [],
              "partitions": [
                {"vhost": "/", "name": "q#0", "replicated": true, "leader": "n2", "term": 3, "replicas": [
                    {"node": "n2", "up": true, "voter": true, "behind": null, "needs_snapshot": false}]},
                {"vhost": "/", "name": "q#1", "replicated": true, "leader": null, "term": 3, "replicas": [
                    {"node": "n1", "up": true, "voter": true, "behind": null, "needs_snapshot": false},
                    {"node": "n3", "up": false, "voter": true, "behind": null, "needs_snapshot": false}]}]}"#,
        )
        .expect("they are replicas");
        let expected = "\
PARTITION  STATE         LEADER  REPLICAS
q#0        works         n2      n2
q#1        stands still  nobody  n1, n3 (down)
";
        assert_eq!(kept.table(), expected);
        assert_eq!(kept.leaders_text(), "q#0 n2\nq#1 nobody\n");
        assert!(!kept.is_led());
    }

    #[test]
    fn replicas_have_roles() {
        let kept: Kept = serde_json::from_str(
            r#"{"vhost": "/", "name": "q", "replicated": true, "leader": "n2", "term": 3, "replicas": [
                {"node": "n1", "up": true, "voter": true, "behind": 0, "needs_snapshot": false},
                {"node": "n2", "up": true, "voter": true, "behind": null, "needs_snapshot": false},
                {"node": "n3", "up": false, "voter": false, "behind": 9, "needs_snapshot": true}]}"#,
        )
        .expect("they are replicas");
        let expected = "\
NODE  ROLE      STATE  BEHIND
n1    follower  up     0
n2    leader    up     -
n3    learner   down   needs the whole queue
";
        assert_eq!(kept.table(), expected);
    }
}
