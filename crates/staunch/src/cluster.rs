//! `staunch cluster`: who is there, and who leads how much.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use crate::{
    cli::{failure::Exit, options::Options, output, table::left_aligned},
    membership,
};

#[derive(Args)]
pub(crate) struct ClusterArgs {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Subcommand)]
enum ClusterCommand {
    /// Shows all nodes and how many queues each leads. Ends with 1 unless all is well.
    Status,
    /// Moves replicas from nodes that keep many queues to nodes that keep few, until there is nothing
    /// to be gained.
    Rebalance,
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

#[expect(clippy::struct_excessive_bools, reason = "as the interface has it")]
#[derive(Deserialize, Serialize)]
struct Node {
    id: u64,
    name: String,
    up: bool,
    suspected: bool,
    #[serde(default)]
    drained: bool,
    #[serde(default)]
    witness: bool,
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
    /// Beside a witness, and with one whole copy.
    #[serde(default)]
    single_copy: u64,
}

#[derive(Deserialize, Serialize)]
struct Queue {
    vhost: String,
    name: String,
}

pub(crate) fn run(args: &ClusterArgs) -> anyhow::Result<ExitCode> {
    let target = args.options.target()?;
    match args.command {
        ClusterCommand::Rebalance => membership::rebalance(&target),
        ClusterCommand::Status => {
            let status: Status = serde_json::from_value(target.get("staunch/v1/cluster")?)?;
            if args.options.json {
                output::json(&serde_json::to_value(&status)?)?;
            } else {
                output::text(&status.table())?;
            }
            Ok(exit(status.is_well()))
        }
    }
}

/// What is not well ends with 1, for scripts.
pub(crate) fn exit(is_well: bool) -> ExitCode {
    if is_well {
        ExitCode::SUCCESS
    } else {
        Exit::Failed.code()
    }
}

impl Status {
    fn is_well(&self) -> bool {
        let is_well = |node: &Node| node.up && !node.suspected && node.repairing == 0;
        let all_there = self.nodes.iter().all(is_well);
        all_there && self.catalog_leader.is_some() && self.groups.leaderless == 0
    }

    fn table(&self) -> String {
        let mut rows = vec![["NODE", "ID", "STATE", "LEADS"].map(str::to_owned).to_vec()];
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
            let leaders = if node.witness {
                "witness".to_owned()
            } else {
                node.leaders.to_string()
            };
            rows.push(vec![name, node.id.to_string(), state, leaders]);
        }
        let mut text = left_aligned(&rows);
        if !self.clustered {
            text.push_str("this node stands alone\n");
            return text;
        }
        let Groups {
            count,
            leaderless,
            single_copy,
            ..
        } = &self.groups;
        let leader = self.catalog_leader.as_deref().unwrap_or("nobody");
        let sum = format!(
            "catalog led by {leader}, {count} replicated queues here, {leaderless} without a leader\n"
        );
        let named = self.groups.leaderless_queues.iter();
        let named = named.map(|queue| format!("no leader: {} in {}\n", queue.name, queue.vhost));
        text.extend(std::iter::once(sum).chain(named));
        if *single_copy > 0 {
            text.extend([format!(
                "{single_copy} of the queues led here have one whole copy: the other node with messages \
                 is away or behind\n"
            )]);
        }
        text
    }
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
                {"id": 3, "name": "n3", "up": true, "suspected": true, "incarnation": "2f", "leaders": 3},
                {"id": 4, "name": "w1", "up": true, "suspected": false, "witness": true, "incarnation": "3f", "leaders": 0}],
              "catalog_leader": null, "groups": {"count": 16, "leaderless": 1, "leaderless_queues": [{"vhost": "/", "name": "q"}], "single_copy": 2}}"#,
        );
        assert!(!status.is_well());
        let expected = "\
NODE  ID  STATE   LEADS
n1 *  1   up      12
n2    2   down    0
n3    3   silent  3
w1    4   up      witness
catalog led by nobody, 16 replicated queues here, 1 without a leader
no leader: q in /
2 of the queues led here have one whole copy: the other node with messages is away or behind
";
        assert_eq!(status.table(), expected);
    }
}
