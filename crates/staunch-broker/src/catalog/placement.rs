//! Where a queue is kept.

use staunch_types::NodeId;

use crate::encoding::{DecodeError, Reader, Writer};

/// Most nodes that keep one queue.
pub const MEMBERS_MAX: usize = 9;

/// The nodes that are to keep a queue. Who does is up to its group, which follows.
///
/// A node that stands alone has no id: its queues are kept [`Placement::HERE`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The queue is a Raft group of these nodes; the first is to lead it, if it can. Otherwise
    /// there is one node, the queue's home, or none.
    pub is_replicated: bool,
    /// The nodes, at most [`MEMBERS_MAX`].
    pub members: Vec<NodeId>,
    /// How often it was changed since the queue was declared. A node that finds itself among the
    /// members of a placement that was changed has the queue from the others; of one that was not,
    /// it founds the group with them.
    pub changes: u32,
}

impl Placement {
    /// On the node that knows of it, which stands alone.
    pub const HERE: Self = Self {
        is_replicated: false,
        members: Vec::new(),
        changes: 0,
    };

    /// On one node.
    pub fn at(home: NodeId) -> Self {
        Self {
            is_replicated: false,
            members: vec![home],
            changes: 0,
        }
    }

    /// On several.
    pub fn replicated(members: Vec<NodeId>) -> Self {
        Self {
            is_replicated: true,
            members,
            changes: 0,
        }
    }

    /// The same kind of placement on other nodes.
    #[must_use]
    pub fn changed_to(&self, members: Vec<NodeId>) -> Self {
        Self {
            is_replicated: self.is_replicated,
            members,
            changes: self.changes.saturating_add(1),
        }
    }

    /// The node that keeps it, if that is one; none for a node that stands alone.
    pub fn home(&self) -> Option<NodeId> {
        self.members
            .first()
            .copied()
            .filter(|_| !self.is_replicated)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_bool(self.is_replicated);
        out.put_u8(u8::try_from(self.members.len()).expect("members are few"));
        for member in &self.members {
            out.put_u64(member.0);
        }
        out.put_u32(self.changes);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let is_replicated = reader.bool()?;
        let count = usize::from(reader.u8()?);
        if count > MEMBERS_MAX {
            return Err(DecodeError::OutOfRange);
        }
        let members = (0..count).map(|_| reader.u64().map(NodeId));
        let members: Vec<NodeId> = members.collect::<Result<_, _>>()?;
        let repeats = (1..members.len()).any(|at| members[..at].contains(&members[at]));
        let fits = match members.len() {
            0 | 1 => !is_replicated || !members.is_empty(),
            _ => is_replicated,
        };
        if repeats || !fits || members.contains(&NodeId(0)) {
            return Err(DecodeError::OutOfRange);
        }
        Ok(Self {
            is_replicated,
            members,
            changes: reader.u32()?,
        })
    }
}
