//! Where a queue is kept: `staunch queue replicas` and `leader`.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::{
    cli::{
        failure::{About as _, Failure},
        options::Options,
        output,
        table::left_aligned,
        target::{Target, path},
    },
    cluster::exit,
    membership::{self, Replicas},
    nouns::queues,
};

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
    #[serde(default)]
    witness: bool,
    behind: Option<u64>,
    needs_snapshot: bool,
    #[serde(default)]
    repairing: bool,
}

pub(crate) fn show(options: &Options, replicas: &Replicas) -> anyhow::Result<ExitCode> {
    let target = options.target()?;
    let name = &replicas.named.name;
    membership::change_replicas(&target, replicas)?;
    let kept = Kept::ask(&target, name)?;
    if options.json {
        output::json(&serde_json::to_value(&kept)?)?;
    } else {
        output::text(&kept.table())?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn leader(options: &Options, name: &str) -> anyhow::Result<ExitCode> {
    let kept = Kept::ask(&options.target()?, name)?;
    if options.json {
        output::json(&kept.leaders())?;
    } else {
        output::text(&kept.leaders_text())?;
    }
    Ok(exit(kept.is_led()))
}

/// Of the nodes that keep a queue, below `/api`.
pub(crate) fn path_of(target: &Target, name: &str) -> String {
    path(&["staunch", "v1", "queues", target.vhost(), name, "replicas"])
}

impl Kept {
    fn ask(target: &Target, name: &str) -> anyhow::Result<Self> {
        let found: Result<_, Failure> = target.get(&path_of(target, name));
        let found = found.about(|| queues::named(target, name))?;
        Ok(serde_json::from_value(found)?)
    }

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
        let mut rows = vec![
            ["PARTITION", "STATE", "LEADER", "REPLICAS"]
                .map(str::to_owned)
                .to_vec(),
        ];
        for part in &self.partitions {
            let state = if part.is_led() {
                "works"
            } else {
                "stands still"
            };
            let replica = |replica: &Replica| {
                let kind = if replica.witness { " (witness)" } else { "" };
                let down = if replica.up { "" } else { " (down)" };
                format!("{}{kind}{down}", replica.node)
            };
            let replicas: Vec<_> = part.replicas.iter().map(replica).collect();
            rows.push(vec![
                part.name.clone(),
                state.to_owned(),
                part.leader.clone().unwrap_or_else(|| "nobody".to_owned()),
                replicas.join(", "),
            ]);
        }
        left_aligned(&rows)
    }

    fn table(&self) -> String {
        if !self.partitions.is_empty() {
            return self.partition_table();
        }
        let mut rows = vec![
            ["NODE", "ROLE", "STATE", "BEHIND"]
                .map(str::to_owned)
                .to_vec(),
        ];
        for replica in &self.replicas {
            let leads = self.leader.as_ref() == Some(&replica.node);
            let role = match (leads, self.replicated, replica.voter) {
                (false, true, true) if replica.witness => "witness",
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
            rows.push(vec![
                replica.node.clone(),
                role.to_owned(),
                state.to_owned(),
                behind,
            ]);
        }
        left_aligned(&rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                {"node": "w1", "up": true, "voter": true, "witness": true, "behind": 0, "needs_snapshot": false},
                {"node": "n2", "up": true, "voter": true, "behind": null, "needs_snapshot": false},
                {"node": "n3", "up": false, "voter": false, "behind": 9, "needs_snapshot": true}]}"#,
        )
        .expect("they are replicas");
        let expected = "\
NODE  ROLE      STATE  BEHIND
n1    follower  up     0
w1    witness   up     0
n2    leader    up     -
n3    learner   down   needs the whole queue
";
        assert_eq!(kept.table(), expected);
    }
}
