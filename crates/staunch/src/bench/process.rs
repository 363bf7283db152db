//! What a server takes: CPU time and memory of its processes and all their descendants.

use std::{fs, time::Duration};

/// A server by the ids of its first processes: one, or one for each node of a cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerProcess(&'static [u32]);

impl ServerProcess {
    /// A server that is one process.
    pub(super) fn one(pid: u32) -> Self {
        Self::all(vec![pid])
    }

    /// A server that is several. What is measured is few and lives as long as this program.
    pub(super) fn all(pids: Vec<u32>) -> Self {
        Self(pids.leak())
    }

    /// CPU time used so far, user and system.
    pub(super) fn cpu(self) -> Duration {
        let ticks: u64 = self.tree().into_iter().filter_map(cpu_ticks).sum();
        let per_second = rustix::param::clock_ticks_per_second();
        Duration::from_millis(ticks * 1000 / per_second)
    }

    /// Resident memory in bytes.
    pub(super) fn resident_size_bytes(self) -> u64 {
        self.tree()
            .into_iter()
            .filter_map(resident_size_bytes)
            .sum()
    }

    fn tree(self) -> Vec<u32> {
        let mut tree = self.0.to_vec();
        let mut next = 0;
        while let Some(&pid) = tree.get(next) {
            next += 1;
            let tasks = fs::read_dir(format!("/proc/{pid}/task"))
                .into_iter()
                .flatten();
            for task in tasks.flatten() {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                tree.extend(
                    children
                        .split_whitespace()
                        .filter_map(|pid| pid.parse::<u32>().ok()),
                );
            }
        }
        tree
    }
}

fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name that may contain anything; the others follow its last bracket,
    // the state being the third of proc(5).
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(field(14)? + field(15)?)
}

fn resident_size_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_memory_and_has_children_counted() {
        let this = ServerProcess::one(std::process::id());
        let alone = this.resident_size_bytes();
        assert!(alone > 1 << 20, "{alone}");
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        assert!(this.tree().contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
