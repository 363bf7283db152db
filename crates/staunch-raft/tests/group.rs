//! A group lives: it elects, commits, hands over, sleeps and comes back.

use bytes::Bytes;
use staunch_raft::{
    Body, Change, ChangeError, ChangeStep, Config, Entry, Group, HardState, LogPosition, Members,
    Message, Payload, ProposeError, Ready, Restored, RestoredEntry, Role,
    config::{APPEND_SIZE_BYTES_MAX, ENTRY_SIZE_BYTES_MAX, UNCOMMITTED_SIZE_BYTES_MAX},
    message::{Append, AppendAnswer, Candidacy, VoteAnswer},
    state::RestoreError,
};
use staunch_types::{GroupId, LogIndex, NodeId, Term};

/// A member and its disk, which never fails.
struct Member {
    group: Group,
    hard_state: HardState,
    log: Vec<Entry>,
    applied: Vec<Bytes>,
}

struct Trio {
    members: Vec<Member>,
    /// Two that do not hear each other.
    cut: Option<(NodeId, NodeId)>,
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
        let cut = None;
        Self { members, cut }
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
                let (from, to) = (message.from, message.to);
                if self.cut == Some((from, to)) || self.cut == Some((to, from)) {
                    continue;
                }
                let group = &mut self.of(to.0).group;
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

/// One member is cut off from the leader and nobody else: the third is asked for its vote, and hears from
/// the leader that it is there as long as that does not know that it is to speak.
#[test]
fn a_sleeping_leader_keeps_those_that_hear_it() {
    let mut trio = Trio::new(3);
    trio.tick(80);
    let leader = trio.leader();
    assert!(trio.members.iter().all(|member| member.group.is_asleep()));
    let other = NodeId(1 + leader.0 % 3);
    trio.cut = Some((leader, other));
    trio.of(other.0).group.suspect(leader);
    for _ in 0..100 {
        trio.tick(1);
        assert_eq!(trio.leader(), leader);
    }
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
        pledged: LogPosition::default(),
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

fn group_of(me: u64, restored: Restored) -> Group {
    Group::new(Config::new(GROUP, NodeId(me), 1), restored).expect("valid")
}

fn position(index: u64, term: u64) -> LogPosition {
    LogPosition {
        index: LogIndex(index),
        term: Term(term),
    }
}

fn data(index: u64, term: u64) -> Entry {
    Entry {
        index: LogIndex(index),
        term: Term(term),
        payload: Payload::Data(Bytes::from_static(b"x")),
    }
}

fn message(from: u64, to: u64, term: u64, body: Body) -> Message {
    Message {
        group: GROUP,
        from: NodeId(from),
        to: NodeId(to),
        term: Term(term),
        body,
    }
}

fn polled(group: &mut Group) -> Vec<Ready> {
    std::iter::from_fn(|| group.poll()).collect()
}

/// All that several readies want sent.
fn sent(readies: &[Ready]) -> Vec<&Message> {
    readies.iter().flat_map(|ready| &ready.send).collect()
}

fn three() -> Members {
    Members::of([1, 2, 3].map(NodeId)).expect("valid")
}

#[test]
fn nothing_that_depends_on_a_vote_leaves_before_it_is_persisted() {
    let mut group = group_of(1, Restored::founding(three()));
    let candidacy = staunch_raft::message::Candidacy {
        last: position(1, 1),
        commit: position(1, 1),
        is_transfer: true,
    };
    let vote = message(2, 1, 2, Body::Vote(candidacy));
    group.step(vote).unwrap();
    let readies = polled(&mut group);
    assert!(sent(&readies).is_empty());
    let persist = readies[0].persist.as_ref().unwrap();
    assert_eq!(persist.hard_state.unwrap().vote, Some(NodeId(2)));
    group.persisted(persist.number);
    let readies = polled(&mut group);
    let answers = sent(&readies);
    assert!(matches!(
        answers[0].body,
        Body::VoteAnswer(VoteAnswer {
            is_granted: true,
            ..
        })
    ));
}

/// The library would send them: it takes a leader's vote for itself for persisted.
#[test]
fn the_only_voter_sends_nothing_to_learners_before_its_vote_is_persisted() {
    let members = Members {
        voters: vec![NodeId(1)],
        learners: vec![NodeId(2)],
        ..Members::default()
    };
    let mut group = group_of(1, Restored::founding(members));
    group.campaign();
    assert!(group.is_leader());
    group.propose(Bytes::from_static(b"a")).unwrap();
    let readies = polled(&mut group);
    assert!(sent(&readies).is_empty());
    assert!(readies.iter().all(|ready| ready.committed.is_empty()));
    for ready in readies {
        group.persisted(ready.persist.unwrap().number);
    }
    assert!(!sent(&polled(&mut group)).is_empty());
}

/// Entries 2 and 3 of term 2 were never committed; the leader of term 3 replaces them and says
/// that its own are. A crash that keeps the hard state and loses the entries must not make the
/// old ones count.
#[test]
fn a_commit_index_does_not_count_on_entries_written_with_it() {
    let restored = Restored {
        hard_state: HardState {
            term: Term(2),
            ..Restored::founding(three()).hard_state
        },
        entries: [2, 2]
            .map(|term| RestoredEntry {
                term: Term(term),
                payload: Some(Payload::Data(Bytes::from_static(b"old"))),
            })
            .to_vec(),
        ..Restored::founding(three())
    };
    let mut group = group_of(1, restored.clone());
    let append = Append {
        previous: position(1, 1),
        commit: LogIndex(3),
        entries: vec![data(2, 3), data(3, 3)],
    };
    group.step(message(2, 1, 3, Body::Append(append))).unwrap();
    let readies = polled(&mut group);
    let persist = readies[0].persist.as_ref().unwrap();
    assert_eq!(persist.append.len(), 2);
    let torn = Restored {
        hard_state: persist.hard_state.unwrap(),
        ..restored
    };
    let mut group = group_of(1, torn);
    assert_eq!(group.committed_index(), LogIndex(1));
    assert!(
        polled(&mut group)
            .iter()
            .all(|ready| ready.committed.is_empty())
    );
}

#[test]
fn the_change_before_the_last_one_is_known_to_be_committed() {
    let change = |node| Payload::Change(Change::of([ChangeStep::AddLearner(NodeId(node))]));
    let entry = |payload| RestoredEntry {
        term: Term(1),
        payload: Some(payload),
    };
    let mut restored = Restored::founding(three());
    restored.entries.push(entry(Payload::Blank));
    restored.entries.push(entry(change(4)));
    assert_eq!(restored.committed(), LogIndex(1));
    restored.entries.push(entry(change(5)));
    assert_eq!(restored.committed(), LogIndex(3));
    let mut group = group_of(1, restored);
    // Until that is applied it does not stand for election: it does not know among whom.
    group.campaign();
    assert_eq!(group.role_now().role, Role::Follower);
}

#[test]
fn what_no_group_has_written_is_refused() {
    let refused = |change: fn(&mut Restored)| {
        let mut restored = Restored::founding(three());
        restored.hard_state.term = Term(9);
        change(&mut restored);
        Group::new(Config::new(GROUP, NodeId(1), 1), restored).err()
    };
    assert!(refused(|_| ()).is_none());
    let lost = refused(|restored| restored.hard_state.commit = LogIndex(5));
    assert!(matches!(lost, Some(RestoreError::CommittedLost { .. })));
    let ahead = refused(|restored| restored.applied = LogIndex(2));
    assert!(matches!(
        ahead,
        Some(RestoreError::AppliedOutsideLog { .. })
    ));
    let cold = refused(|restored| {
        restored.entries.push(RestoredEntry {
            term: Term(2),
            payload: None,
        });
    });
    assert!(matches!(cold, Some(RestoreError::NoPayload { .. })));
    let newer = refused(|restored| {
        restored.entries.push(RestoredEntry {
            term: Term(10),
            payload: Some(Payload::Blank),
        });
    });
    assert!(matches!(
        newer,
        Some(RestoreError::HardStateBehindLog { .. })
    ));
    let voters = refused(|restored| restored.members.voters.clear());
    assert!(matches!(voters, Some(RestoreError::Members(_))));
}

#[test]
fn proposals_have_limits() {
    let mut trio = Trio::new(3);
    trio.tick(40);
    let leader = trio.leader().0;
    let group = &mut trio.of(leader).group;
    let large = Bytes::from(vec![0; ENTRY_SIZE_BYTES_MAX + 1]);
    assert!(matches!(
        group.propose(large),
        Err(ProposeError::TooLarge { .. })
    ));
    let piece = Bytes::from(vec![0; 1 << 20]);
    let fit = UNCOMMITTED_SIZE_BYTES_MAX >> 20;
    for _ in 0..fit {
        group.propose(piece.clone()).unwrap();
    }
    assert_eq!(
        group.propose(piece.clone()),
        Err(ProposeError::TooMuchUncommitted)
    );
    // However much is proposed between two polls, messages stay small.
    for message in sent(&polled(group)) {
        if let Body::Append(append) = &message.body {
            let sizes = append
                .entries
                .iter()
                .map(|entry| entry.payload.size_bytes() as u64);
            assert!(sizes.sum::<u64>() <= APPEND_SIZE_BYTES_MAX);
        }
    }
    assert_eq!(
        trio.of(leader % 3 + 1).group.propose(piece),
        Err(ProposeError::NotLeader {
            leader: Some(NodeId(leader))
        })
    );
}

#[test]
fn changes_of_members_are_checked() {
    let mut trio = Trio::new(3);
    trio.tick(40);
    let leader = trio.leader();
    let other = NodeId(leader.0 % 3 + 1);
    let group = &mut trio.of(leader.0).group;
    let mut refused = |steps: &[ChangeStep]| {
        let change = Change::of(steps.iter().copied());
        group.propose_change(&change).expect_err("refused")
    };
    assert_eq!(refused(&[]), ChangeError::Empty);
    assert_eq!(
        refused(&[ChangeStep::Remove(leader)]),
        ChangeError::Leads(leader)
    );
    assert_eq!(
        refused(&[ChangeStep::AddLearner(other)]),
        ChangeError::IsMember(other)
    );
    assert_eq!(
        refused(&[ChangeStep::Promote(NodeId(4))]),
        ChangeError::NotInRole(NodeId(4))
    );
    assert_eq!(
        refused(&[ChangeStep::Demote(other), ChangeStep::Remove(other)]),
        ChangeError::Repeated(other)
    );
    let change = Change::of([ChangeStep::Demote(other)]);
    group.propose_change(&change).unwrap();
    assert_eq!(group.propose_change(&change), Err(ChangeError::UnderWay));
}

/// A member that misses the last entry answers a heartbeat, and then refuses what came behind that
/// entry: the leader has something to send it twice, first without entries and then with some.
#[test]
fn entries_name_the_one_before_them_also_when_an_empty_append_waits() {
    let mut trio = Trio::new(3);
    trio.tick(40);
    let leader = trio.leader();
    let other = NodeId(leader.0 % 3 + 1);
    let propose = |trio: &mut Trio| {
        let group = &mut trio.of(leader.0).group;
        group.propose(Bytes::from_static(b"a")).unwrap();
        trio.run();
    };
    propose(&mut trio);
    trio.cut = Some((leader, other));
    propose(&mut trio);
    let group = &mut trio.of(leader.0).group;
    let last = group.last_index();
    let term = group.role_now().term;
    let commit = LogIndex(last.0 - 1);
    let hint = LogPosition {
        index: commit,
        term,
    };
    for body in [
        Body::HeartbeatAnswer { commit },
        Body::AppendAnswer(AppendAnswer::Rejected {
            previous: last,
            hint,
            commit,
        }),
    ] {
        let answer = message(other.0, leader.0, term.0, body);
        group.step(answer).expect("consistent");
    }
    let readies = polled(group);
    let appends: Vec<&Append> = sent(&readies)
        .into_iter()
        .filter_map(|message| match &message.body {
            Body::Append(append) if message.to == other => Some(append),
            _ => None,
        })
        .collect();
    assert!(appends.iter().any(|append| !append.entries.is_empty()));
    for append in appends {
        let first = append.entries.first();
        assert!(first.is_none_or(|first| first.index == append.previous.index.next()));
    }
}

#[test]
fn a_leader_without_a_majority_of_trusted_nodes_steps_down() {
    let mut trio = Trio::new(3);
    trio.tick(40);
    let leader = trio.leader().0;
    let group = &mut trio.of(leader).group;
    group.suspect(NodeId(leader % 3 + 1));
    assert!(group.is_leader());
    group.suspect(NodeId((leader + 1) % 3 + 1));
    assert!(!group.is_leader());
}

#[test]
fn messages_that_no_member_sends_are_refused() {
    let mut group = group_of(1, Restored::founding(three()));
    let heartbeat = Body::Heartbeat {
        commit: LogIndex(1),
    };
    for bad in [
        message(1, 1, 1, heartbeat.clone()),
        message(2, 3, 1, heartbeat.clone()),
        message(2, 1, 0, heartbeat.clone()),
        message(2, 1, u64::MAX, heartbeat),
        message(
            2,
            1,
            2,
            Body::Append(Append {
                previous: position(1, 1),
                commit: LogIndex(1),
                entries: vec![data(3, 1)],
            }),
        ),
        message(
            2,
            1,
            2,
            Body::Append(Append {
                previous: position(1, 1),
                commit: LogIndex(1),
                entries: vec![data(2, 3)],
            }),
        ),
    ] {
        assert!(group.step(bad.clone()).is_err(), "{bad:?}");
        assert!(!group.is_quarantined());
    }
}

#[test]
fn a_leader_that_was_restarted_is_given_votes_at_once() {
    let mut trio = Trio::new(3);
    trio.tick(80);
    let leader = trio.leader().0;
    let other = leader % 3 + 1;
    let member = trio.of(leader);
    let restored = Restored {
        hard_state: member.hard_state,
        entries: (member.log.iter())
            .map(|entry| RestoredEntry {
                term: entry.term,
                payload: Some(entry.payload.clone()),
            })
            .collect(),
        ..Restored::founding(three())
    };
    let mut restarted = group_of(leader, restored);
    restarted.campaign();
    let readies = polled(&mut restarted);
    let request = sent(&readies)
        .into_iter()
        .find(|message| message.to == NodeId(other));
    let group = &mut trio.of(other).group;
    assert!(group.is_asleep());
    group.step(request.unwrap().clone()).unwrap();
    let readies = polled(group);
    assert!(sent(&readies).iter().any(|message| matches!(
        message.body,
        Body::PreVoteAnswer(VoteAnswer {
            is_granted: true,
            ..
        })
    )));
}

/// Whether a member that joins again after `left` gives its vote to a candidate of that term.
fn votes_again(left: LogPosition, term: u64, last: LogPosition) -> bool {
    let mut group = group_of(1, Restored::rejoining(left));
    let commit = LogPosition::default();
    let candidacy = Candidacy {
        last,
        commit,
        is_transfer: false,
    };
    group
        .step(message(2, 1, term, Body::Vote(candidacy)))
        .expect("consistent");
    let mut readies = polled(&mut group);
    let persists: Vec<_> = readies
        .iter()
        .filter_map(|it| it.persist.as_ref())
        .collect();
    if let Some(last) = persists.last() {
        let number = last.number;
        group.persisted(number);
        readies.extend(polled(&mut group));
    }
    sent(&readies)
        .iter()
        .any(|message| matches!(&message.body, Body::VoteAnswer(answer) if answer.is_granted))
}

/// It had entries that others count on, and may have voted in that term.
#[test]
fn who_joins_again_votes_as_if_it_had_what_it_had() {
    let left = position(9, 3);
    assert!(!votes_again(left, 3, position(9, 2)), "in the same term");
    assert!(!votes_again(left, 4, position(9, 2)), "for an older log");
    assert!(!votes_again(left, 4, position(8, 3)), "for a shorter log");
    assert!(votes_again(left, 4, position(9, 3)));
    assert!(votes_again(left, 5, position(7, 4)));
}
