//! What every group must keep at all times: one leader in a term, one entry at a place of the
//! committed log, one state after it (election safety, log matching, state-machine safety).

use std::collections::{BTreeMap, BTreeSet};

use staunch_node::Node;
use staunch_raft::Role;
use staunch_types::{GroupId, LogIndex, Term};

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
