//! What every group must keep at all times: one leader in a term, one entry at a place of the
//! committed log, one state after it (election safety, log matching, state-machine safety).

use std::collections::{BTreeMap, BTreeSet};

use staunch_node::Node;
use staunch_raft::Role;
use staunch_types::{GroupId, LogIndex, Term};

use crate::history::Stamp;

/// All that was seen of all groups.
#[derive(Debug, Default)]
pub struct Consensus {
    leaders: BTreeMap<(GroupId, Term), usize>,
    committed: BTreeMap<(GroupId, LogIndex), Term>,
    states: BTreeMap<(GroupId, LogIndex), (u64, usize)>,
    /// Up to where each node's state was looked at.
    looked: BTreeMap<(usize, GroupId), LogIndex>,
    /// Groups that have told of a fault: one is enough.
    broken: BTreeSet<GroupId>,
    /// When the catalog's last applied entry rose on the node that was ahead.
    catalog_heads: Vec<(LogIndex, Stamp)>,
    /// Each node's last applied entry of the catalog.
    catalog_applied: BTreeMap<usize, LogIndex>,
    /// States of two nodes that were compared.
    pub compared: u64,
}

impl Consensus {
    /// Looks at a node after a drain; what is wrong.
    pub fn look(&mut self, number: usize, node: &Node) -> Vec<String> {
        let mut wrong = Vec::new();
        for facts in node.group_facts() {
            let group = facts.group;
            let term = facts.role.term;
            if facts.role.role == Role::Leader {
                let leader = *self.leaders.entry((group, term)).or_insert(number);
                if leader != number {
                    wrong.push((
                        group,
                        format!("nodes {leader} and {number} both lead in {term}"),
                    ));
                }
            }
            if let Some(position) = facts.committed {
                let place = (group, position.index);
                let known = *self.committed.entry(place).or_insert(position.term);
                if known != position.term {
                    let (index, term) = (position.index, position.term);
                    wrong.push((
                        group,
                        format!("entry {index} was committed in {known} and is of {term} on node {number}"),
                    ));
                }
            }
            if group == GroupId::CATALOG {
                self.catalog_applied.insert(number, facts.applied);
            }
            let looked = self.looked.insert((number, group), facts.applied);
            if looked != Some(facts.applied)
                && let Some(state) = node.group_state(group)
            {
                let hash = hash_of(&state);
                let place = (group, facts.applied);
                let (known, other) = *self.states.entry(place).or_insert((hash, number));
                self.compared += u64::from(other != number);
                if known != hash {
                    let applied = facts.applied;
                    wrong.push((
                        group,
                        format!("nodes {other} and {number} differ after entry {applied}"),
                    ));
                }
            }
        }
        wrong.retain(|(group, _)| self.broken.insert(*group));
        let tell = |(group, what): (GroupId, String)| format!("group {group}: {what}");
        wrong.into_iter().map(tell).collect()
    }

    /// Up to when each node knows all that was defined; none: up to now.
    ///
    /// Whoever was told of a definition was told by a node that had applied it, so that a node
    /// which has applied entries up to some index knows all that was answered before any node was
    /// ahead of that.
    pub fn catalog_known(&mut self, now: Stamp) -> Vec<(usize, Option<Stamp>)> {
        let head = self.catalog_applied.values().max().copied();
        let head = head.unwrap_or_default();
        if self
            .catalog_heads
            .last()
            .is_none_or(|(last, _)| *last < head)
        {
            self.catalog_heads.push((head, now));
        }
        let known = |applied: LogIndex| {
            let after = self
                .catalog_heads
                .partition_point(|(head, _)| *head <= applied);
            self.catalog_heads.get(after).map(|(_, stamp)| *stamp)
        };
        let all = self.catalog_applied.iter();
        all.map(|(node, applied)| (*node, known(*applied)))
            .collect()
    }

    /// Forgets how far a node's states were looked at: it may have lost some.
    pub fn forget(&mut self, number: usize) {
        self.looked.retain(|(node, _), _| *node != number);
    }
}

/// FNV-1a; nobody attacks it.
fn hash_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
