//! A group lives: it elects, commits, hands over, sleeps and comes back.

use bytes::Bytes;
use staunch_raft::{
    Body, Config, Entry, Group, HardState, LogPosition, Members, Message, Payload, Restored,
    RestoredEntry, Role,
};
use staunch_types::{GroupId, LogIndex, NodeId};

/// A member and its disk, which never fails.
struct Member {
    group: Group,
    hard_state: HardState,
    log: Vec<Entry>,
    applied: Vec<Bytes>,
}

struct Trio {
    members: Vec<Member>,
}

const GROUP: GroupId = GroupId(7);

impl Trio {
    fn new(count: u64) -> Self {
        let nodes = (1..=count).map(NodeId);
        let restored = Restored::founding(Members::of(nodes.clone()).expect("valid members"));
        let members = nodes
            .map(|me| Member {
                group: Group::new(Config::new(GROUP, me, 1), restored.clone())
                    .expect("a new group"),
                hard_state: restored.hard_state,
                log: Vec::new(),
                applied: Vec::new(),
            })
            .collect();
        Self { members }
    }

    fn of(&mut self, node: u64) -> &mut Member {
        &mut self.members[usize::try_from(node).expect("small") - 1]
    }

    /// Does everything that the groups want until they want nothing.
    fn run(&mut self) {
        loop {
            let mut messages: Vec<Message> = Vec::new();
            for member in &mut self.members {
                while let Some(ready) = member.group.poll() {
                    messages.extend(ready.send);
                    for entry in ready.committed {
                        if let Payload::Data(data) = entry.payload {
                            member.applied.push(data);
                        }
                        member.group.applied(entry.index);
                    }
                    if let Some(persist) = ready.persist {
                        member.hard_state = persist.hard_state.unwrap_or(member.hard_state);
                        if let Some(first) = persist.append.first() {
                            member.log.retain(|entry| entry.index < first.index);
                        }
                        member.log.extend(persist.append);
                        member.group.persisted(persist.number);
                    }
                }
            }
            if messages.is_empty() {
                return;
            }
            for message in messages {
                let group = &mut self.of(message.to.0).group;
                group.step(message).expect("consistent");
            }
        }
    }

    fn tick(&mut self, ticks: u32) {
        for _ in 0..ticks {
            for member in &mut self.members {
                member.group.tick();
            }
            self.run();
        }
    }

    fn leader(&self) -> NodeId {
        let leaders: Vec<_> = (self.members.iter())
            .filter(|member| member.group.is_serving())
            .map(|member| member.group.me())
            .collect();
        assert_eq!(leaders.len(), 1, "{leaders:?}");
        leaders[0]
    }
}

#[test]
fn a_group_elects_commits_hands_over_and_sleeps() {
    let mut trio = Trio::new(3);
    trio.tick(40);
    let first = trio.leader();
    trio.of(first.0)
        .group
        .propose(Bytes::from_static(b"a"))
        .unwrap();
    trio.run();
    assert!(trio.members.iter().all(|member| member.applied == ["a"]));

    let second = trio.of(first.0).group.successor(|_| true).unwrap();
    trio.of(first.0).group.transfer_to(second).unwrap();
    trio.run();
    assert_eq!(trio.leader(), second);
    assert!(
        trio.of(first.0)
            .group
            .propose(Bytes::from_static(b"x"))
            .is_err()
    );

    trio.tick(40);
    assert!(trio.members.iter().all(|member| member.group.is_asleep()));
    trio.of(second.0)
        .group
        .propose(Bytes::from_static(b"b"))
        .unwrap();
    trio.run();
    assert!(
        trio.members
            .iter()
            .all(|member| member.applied == ["a", "b"])
    );
    assert!(!trio.members.iter().any(|member| member.group.is_asleep()));
}

#[test]
fn a_suspected_leader_is_replaced_without_a_tick() {
    let mut trio = Trio::new(3);
    trio.tick(80);
    let dead = trio.leader();
    assert!(trio.of(dead.0).group.is_asleep());
    for member in &mut trio.members {
        if member.group.me() != dead {
            member.group.suspect(dead);
        }
    }
    // What goes to the dead node is lost.
    loop {
        let mut messages = Vec::new();
        for member in &mut trio.members {
            while let Some(ready) = member.group.poll() {
                messages.extend(ready.send);
                if let Some(persist) = ready.persist {
                    member.group.persisted(persist.number);
                }
                if let Some(last) = ready.committed.last() {
                    member.group.applied(last.index);
                }
            }
        }
        if messages.is_empty() {
            break;
        }
        for message in messages {
            if message.to != dead && message.from != dead {
                trio.of(message.to.0).group.step(message).unwrap();
            }
        }
    }
    let leaders: Vec<_> = (trio.members.iter())
        .filter(|member| member.group.is_serving() && member.group.me() != dead)
        .collect();
    assert_eq!(leaders.len(), 1);
}

#[test]
fn a_group_goes_on_after_a_restart() {
    let mut trio = Trio::new(1);
    trio.tick(40);
    trio.of(1).group.propose(Bytes::from_static(b"a")).unwrap();
    trio.run();
    let member = trio.of(1);
    let compacted = LogPosition {
        index: LogIndex(1),
        ..member.group.compacted()
    };
    let restored = Restored {
        hard_state: member.hard_state,
        members: member.group.members(),
        compacted,
        entries: (member.log.iter())
            .map(|entry| RestoredEntry {
                term: entry.term,
                payload: Some(entry.payload.clone()),
            })
            .collect(),
        applied: LogIndex(1),
    };
    member.group = Group::new(Config::new(GROUP, NodeId(1), 1), restored).unwrap();
    member.applied.clear();
    trio.tick(40);
    assert_eq!(trio.of(1).applied, ["a"]);
    assert_eq!(trio.of(1).group.role_now().role, Role::Leader);
}

#[test]
fn a_member_that_lost_its_log_is_put_out_of_service() {
    let mut trio = Trio::new(3);
    trio.tick(40);
    let leader = trio.leader();
    let term = trio.of(leader.0).group.role_now().term;
    let other = if leader == NodeId(1) { 2 } else { 1 };
    let message = Message {
        group: GROUP,
        from: leader,
        to: NodeId(other),
        term,
        body: Body::Heartbeat {
            commit: LogIndex(1000),
        },
    };
    let member = trio.of(other);
    assert!(member.group.step(message.clone()).is_err());
    assert!(member.group.is_quarantined());
    assert!(member.group.step(message).is_err());
    assert!(member.group.poll().is_none());
}
