//! Who belongs to a group, and how that changes.

use bytes::{BufMut, Bytes, BytesMut};
use staunch_types::NodeId;

/// Members of a group, voters and learners.
pub const MEMBERS_MAX: usize = 31;

/// The members of a group at one point of its log. Lists are sorted and free of repeats.
///
/// While several members change at once the group is *joint*: decisions need a majority of
/// `voters` and one of `outgoing` (Raft thesis, section 4.3). It leaves that state by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Who votes.
    pub voters: Vec<NodeId>,
    /// Who gets everything and does not vote.
    pub learners: Vec<NodeId>,
    /// Who voted before the change under way; empty when there is none.
    pub outgoing: Vec<NodeId>,
    /// Voters in `outgoing` who become learners when the change is complete.
    pub learners_next: Vec<NodeId>,
}

impl Members {
    /// A group of these voters.
    ///
    /// # Errors
    /// [`InvalidMembers`] if there are none, too many, repeats, or the id 0.
    pub fn of(voters: impl IntoIterator<Item = NodeId>) -> Result<Self, InvalidMembers> {
        let mut members = Self {
            voters: voters.into_iter().collect(),
            ..Self::default()
        };
        members.voters.sort_unstable();
        members.check()?;
        Ok(members)
    }

    /// Whether a change of several members is under way.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `node` votes, now or until the change under way is complete.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Whether `node` is a voter or a learner.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(&node)
    }

    /// Whether the voters for which `is_there` holds can decide.
    #[must_use]
    pub fn has_quorum(&self, mut is_there: impl FnMut(NodeId) -> bool) -> bool {
        let mut majority = |of: &[NodeId]| {
            let there = of.iter().filter(|node| is_there(**node)).count();
            of.is_empty() || 2 * there > of.len()
        };
        majority(&self.voters) && majority(&self.outgoing)
    }

    /// Checks what cannot be in force.
    ///
    /// # Errors
    /// [`InvalidMembers`].
    pub fn check(&self) -> Result<(), InvalidMembers> {
        let lists = [
            &self.voters,
            &self.learners,
            &self.outgoing,
            &self.learners_next,
        ];
        let is_sorted = |list: &Vec<NodeId>| list.windows(2).all(|pair| pair[0] < pair[1]);
        if lists.iter().any(|list| list.len() > MEMBERS_MAX) {
            return Err(InvalidMembers::TooMany);
        }
        if !lists.iter().all(|list| is_sorted(list)) {
            return Err(InvalidMembers::Repeated);
        }
        if lists.iter().any(|list| list.first() == Some(&NodeId(0))) {
            return Err(InvalidMembers::NodeZero);
        }
        if self.voters.is_empty() {
            return Err(InvalidMembers::NoVoters);
        }
        let learns = |node| self.learners.contains(node);
        let overlaps = self.voters.iter().any(learns) || self.outgoing.iter().any(learns);
        let will_learn =
            |node: &NodeId| self.outgoing.contains(node) && !self.voters.contains(node);
        if overlaps || !self.learners_next.iter().all(will_learn) {
            return Err(InvalidMembers::TwoRoles);
        }
        Ok(())
    }

    /// Writes the four lists, each as a count and ids (`docs/format.md`).
    ///
    /// # Panics
    /// If a list has more than [`MEMBERS_MAX`] nodes, which [`Members::check`] refuses.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let lists = [
            &self.voters,
            &self.learners,
            &self.outgoing,
            &self.learners_next,
        ];
        let nodes: usize = lists.iter().map(|list| list.len()).sum();
        let mut bytes = BytesMut::with_capacity(lists.len() + 8 * nodes);
        for list in lists {
            assert!(list.len() <= MEMBERS_MAX);
            bytes.put_u8(u8::try_from(list.len()).unwrap_or(u8::MAX));
            for node in list {
                bytes.put_u64(node.0);
            }
        }
        bytes.freeze()
    }

    /// Reads what [`Members::encode`] has written.
    ///
    /// # Errors
    /// [`InvalidMembers`].
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidMembers> {
        let mut rest = bytes;
        let mut list = || -> Result<Vec<NodeId>, InvalidMembers> {
            let (&count, after) = rest.split_first().ok_or(InvalidMembers::Malformed)?;
            rest = after;
            if usize::from(count) > MEMBERS_MAX {
                return Err(InvalidMembers::TooMany);
            }
            (0..count).map(|_| take_node(&mut rest)).collect()
        };
        let members = Self {
            voters: list()?,
            learners: list()?,
            outgoing: list()?,
            learners_next: list()?,
        };
        if !rest.is_empty() {
            return Err(InvalidMembers::Malformed);
        }
        members.check()?;
        Ok(members)
    }
}

/// A change of the members. One step takes effect at once, several of them together through a
/// joint state. Empty: the end of a joint state, proposed by the leader itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// At most [`MEMBERS_MAX`].
    pub steps: Vec<ChangeStep>,
}

/// What happens to one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeStep {
    /// A node that is no member gets everything from now on.
    AddLearner(NodeId),
    /// A learner votes.
    Promote(NodeId),
    /// A voter votes no longer.
    Demote(NodeId),
    /// A member leaves.
    Remove(NodeId),
}

const STEP_ADD_LEARNER: u8 = 1;
const STEP_PROMOTE: u8 = 2;
const STEP_DEMOTE: u8 = 3;
const STEP_REMOVE: u8 = 4;
const STEP_SIZE_BYTES: usize = 9;

impl ChangeStep {
    /// Whom it is about.
    #[must_use]
    pub fn node(self) -> NodeId {
        match self {
            Self::AddLearner(node)
            | Self::Promote(node)
            | Self::Demote(node)
            | Self::Remove(node) => node,
        }
    }
}

impl Change {
    /// A change of these steps.
    #[must_use]
    pub fn of(steps: impl IntoIterator<Item = ChangeStep>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
        }
    }

    /// Bytes of its written form.
    #[must_use]
    pub fn encoded_size_bytes(&self) -> usize {
        1 + self.steps.len() * STEP_SIZE_BYTES
    }

    /// Writes count and steps.
    ///
    /// # Panics
    /// If there are more than [`MEMBERS_MAX`] steps, which no proposal lets through.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        assert!(self.steps.len() <= MEMBERS_MAX);
        let mut bytes = BytesMut::with_capacity(self.encoded_size_bytes());
        bytes.put_u8(u8::try_from(self.steps.len()).unwrap_or(u8::MAX));
        for step in &self.steps {
            bytes.put_u8(match step {
                ChangeStep::AddLearner(_) => STEP_ADD_LEARNER,
                ChangeStep::Promote(_) => STEP_PROMOTE,
                ChangeStep::Demote(_) => STEP_DEMOTE,
                ChangeStep::Remove(_) => STEP_REMOVE,
            });
            bytes.put_u64(step.node().0);
        }
        bytes.freeze()
    }

    /// Reads what [`Change::encode`] has written.
    ///
    /// # Errors
    /// [`InvalidMembers`].
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidMembers> {
        let (&count, mut rest) = bytes.split_first().ok_or(InvalidMembers::Malformed)?;
        if usize::from(count) > MEMBERS_MAX {
            return Err(InvalidMembers::TooMany);
        }
        let mut steps = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let (&kind, after) = rest.split_first().ok_or(InvalidMembers::Malformed)?;
            rest = after;
            let node = take_node(&mut rest)?;
            if node == NodeId(0) {
                return Err(InvalidMembers::NodeZero);
            }
            steps.push(match kind {
                STEP_ADD_LEARNER => ChangeStep::AddLearner(node),
                STEP_PROMOTE => ChangeStep::Promote(node),
                STEP_DEMOTE => ChangeStep::Demote(node),
                STEP_REMOVE => ChangeStep::Remove(node),
                _ => return Err(InvalidMembers::Malformed),
            });
        }
        if rest.is_empty() {
            Ok(Self { steps })
        } else {
            Err(InvalidMembers::Malformed)
        }
    }
}

fn take_node(rest: &mut &[u8]) -> Result<NodeId, InvalidMembers> {
    let (id, after) = rest.split_first_chunk().ok_or(InvalidMembers::Malformed)?;
    *rest = after;
    Ok(NodeId(u64::from_be_bytes(*id)))
}

/// Why members or a change of them make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMembers {
    /// A group needs at least one.
    #[error("a group without voters")]
    NoVoters,
    /// More than [`MEMBERS_MAX`].
    #[error("more than {MEMBERS_MAX} members")]
    TooMany,
    /// A list is not in order or names a node twice.
    #[error("a member is listed twice or out of order")]
    Repeated,
    /// 0 is no node.
    #[error("node 0 cannot be a member")]
    NodeZero,
    /// A node both votes and learns.
    #[error("a member both votes and learns")]
    TwoRoles,
    /// Not written by this version.
    #[error("malformed list of members")]
    Malformed,
}
