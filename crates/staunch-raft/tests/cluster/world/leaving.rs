//! Members that leave the group, and may come back.

use staunch_raft::{LogPosition, Restored, StepError};
use staunch_types::NodeId;

use super::{Event, Plant, World};

impl World {
    /// A leader has heard late what a member had before it left, and counts on it: the member has
    /// forgotten that.
    pub(super) fn returns_without(&mut self, id: NodeId, refused: &StepError) {
        let node = self.node(id);
        assert!(node.disk.has_left(), "{refused}");
        node.waiting.clear();
        node.disk.lose();
        node.life += 1;
        node.group = None;
        self.checks.forgets(id);
        self.start(id);
    }

    /// A leader is asked whether the group has done without a member.
    pub(crate) fn ask_to_leave(&mut self, id: NodeId, leader: NodeId) {
        let mut farewell = None;
        self.with(leader, |group| farewell = group.farewell());
        if let Some(farewell) = farewell {
            let at = self.now + self.random.between(1, 4 * self.weather.delay_millis + 2);
            self.at(at, Event::Left(id, farewell.index, farewell.term));
        }
    }

    /// A member drops what it has, and waits for being added again.
    pub(super) fn leave(&mut self, id: NodeId, farewell: LogPosition) {
        let plant = self.plant;
        let node = self.node(id);
        let may_leave = node.group.as_ref().is_some_and(|it| it.may_leave(farewell));
        if !may_leave || node.has_forgotten {
            return;
        }
        let after = if plant == Plant::ReturnsAsNew {
            Restored::joining()
        } else {
            Restored::rejoining(farewell)
        };
        node.disk.leave(&after);
        node.waiting.clear();
        node.transfers.clear();
        node.barriers.clear();
        node.life += 1;
        node.group = None;
        self.checks.forgets(id);
        self.start(id);
    }
}
