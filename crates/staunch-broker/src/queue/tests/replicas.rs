//! Several queues that do what is committed must be the same at the same index, whoever leads.

use std::collections::{BTreeSet, VecDeque};

use staunch_types::Name;

use super::*;
use crate::settings::{DeadLettering, Overflow, Priorities};

const REPLICAS: usize = 3;
const ORIGIN: Origin = Origin(7);

/// An entry that was proposed.
#[derive(Clone, Debug)]
struct Entry {
    head: EntryHead,
    messages: Vec<Arrival>,
}

/// A leader, followers, and entries that are not committed yet.
struct Replicas {
    queues: Vec<Queue>,
    leader: usize,
    uncommitted: VecDeque<Entry>,
    next_number: u64,
    now: UnixMillis,
    held: Vec<(ConsumerKey, MessageIndex)>,
    /// Bodies of messages that the log still has to keep, in each replica.
    bodies: Vec<BTreeSet<u64>>,
}

impl Replicas {
    fn new(settings: &QueueSettings) -> Self {
        let mut queues: Vec<Queue> = (0..REPLICAS).map(|_| Queue::following(settings)).collect();
        assert_eq!(queues[0].lead(), 0);
        let mut all = Self {
            queues,
            leader: 0,
            uncommitted: VecDeque::new(),
            next_number: 1,
            now: UnixMillis(1),
            held: Vec::new(),
            bodies: vec![BTreeSet::new(); REPLICAS],
        };
        all.add_consumers();
        all
    }

    fn add_consumers(&mut self) {
        let leader = &mut self.queues[self.leader];
        leader.add_consumer(consumer(A, 3)).unwrap();
        let greedy = ConsumerSpec {
            no_ack: true,
            ..consumer(B, 0)
        };
        leader.add_consumer(greedy).unwrap();
        leader.set_consumer_blocked(B, true);
    }

    fn propose(&mut self, commands: Vec<QueueCommand>, messages: Vec<Arrival>) {
        let head = EntryHead {
            message_count: u32::try_from(messages.len()).unwrap(),
            origins: messages.iter().map(|it| (ORIGIN, it.body.0)).collect(),
            commands,
        };
        if head.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        assert_eq!(
            EntryHead::decode(&bytes).unwrap(),
            (head.clone(), bytes.len())
        );
        self.uncommitted.push_back(Entry { head, messages });
    }

    fn publish(&mut self, arrival: Arrival) {
        let body = BodyRef(self.next_number);
        self.next_number += 1;
        self.propose(Vec::new(), vec![Arrival { body, ..arrival }]);
    }

    fn propose_departed(&mut self, departed: Departed) {
        let leader = &mut self.queues[self.leader];
        let mut gone = departed.released;
        gone.extend(departed.dying.iter().map(|dying| leader.bury(dying.index)));
        self.propose_settled(&gone);
    }

    fn propose_settled(&mut self, gone: &[Released]) {
        if !gone.is_empty() {
            self.propose(vec![QueueCommand::settled(gone)], Vec::new());
        }
    }

    fn hand_out(&mut self) {
        let leader = &mut self.queues[self.leader];
        let mut gone = Vec::new();
        while let Some(assignment) = leader.assign_next() {
            if assignment.settled {
                gone.push((assignment.index, assignment.body, assignment.size_bytes));
            } else {
                self.held.push((assignment.consumer, assignment.index));
            }
        }
        let upto = leader.needs_reservation();
        self.propose_settled(&gone);
        if let Some(upto) = upto {
            self.propose(vec![QueueCommand::Reserved { upto }], Vec::new());
        }
    }

    fn settle(&mut self, pick: usize, outcome: Outcome) {
        if self.held.is_empty() {
            return;
        }
        let (consumer, index) = self.held.swap_remove(pick % self.held.len());
        let mut departed = Departed::default();
        let leader = &mut self.queues[self.leader];
        leader
            .settle(consumer, (index, 1), outcome, self.now, &mut departed)
            .expect("it is held");
        let counts = leader.take_returned();
        self.propose_departed(departed);
        if !counts.is_empty() {
            self.propose(vec![QueueCommand::Returned { counts }], Vec::new());
        }
    }

    fn commit(&mut self, count: usize) {
        for _ in 0..count.min(self.uncommitted.len()) {
            let entry = self.uncommitted.pop_front().unwrap();
            for (queue, bodies) in self.queues.iter_mut().zip(&mut self.bodies) {
                bodies.extend(entry.messages.iter().map(|arrival| arrival.body.0));
                let mut released = Vec::new();
                queue.apply_entry(&entry.head, &entry.messages, &mut released);
                for (_, body, _) in released {
                    assert!(bodies.remove(&body.0), "a body is released once");
                }
            }
        }
        self.check();
    }

    /// Another replica leads. What was not committed is lost, or, since some of it may be on the
    /// new leader's disk, is committed before.
    fn depose(&mut self, to: usize, survive: usize) {
        self.queues[self.leader].follow();
        self.held.clear();
        self.commit(survive);
        self.uncommitted.clear();
        self.leader = to % REPLICAS;
        assert_eq!(self.queues[self.leader].lead(), 0, "no body is missing");
        self.add_consumers();
        self.check();
    }

    /// A follower goes down and comes back with its state and bodies.
    fn restart(&mut self, which: usize, settings: &QueueSettings) {
        let which = which % REPLICAS;
        if which == self.leader {
            return;
        }
        let mut bytes = Vec::new();
        let old = &self.queues[which];
        old.encode_snapshot(&mut bytes);
        let mut queue = Queue::decode_snapshot(&bytes, settings).unwrap();
        for (index, body, size_bytes) in old.live_from(MessageIndex(0)) {
            let arrival = Arrival::from_meta(body, size_bytes, old.meta_of(index)).unwrap();
            assert_eq!(queue.restore_message(index, arrival), Restored::Live);
        }
        assert_eq!(queue.missing(), []);
        self.queues[which] = queue;
        self.check();
    }

    fn check(&self) {
        let states: Vec<Vec<u8>> = self
            .queues
            .iter()
            .map(|queue| {
                queue.check_invariants();
                let mut state = Vec::new();
                queue.encode_snapshot(&mut state);
                state
            })
            .collect();
        assert!(
            states.windows(2).all(|pair| pair[0] == pair[1]),
            "replicas at the same index are the same: {states:?}"
        );
        assert!(
            self.bodies.windows(2).all(|pair| pair[0] == pair[1]),
            "and keep the same messages"
        );
        let leader = &self.queues[self.leader];
        let live = leader.live_from(MessageIndex(0)).count();
        assert_eq!(live, self.bodies[self.leader].len(), "no body leaks");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish {
        priority: u8,
        expires_in: Option<u64>,
    },
    HandOut,
    Settle {
        pick: usize,
        outcome: Outcome,
    },
    Commit(usize),
    Depose {
        to: usize,
        survive: usize,
    },
    Restart(usize),
    Purge,
    Pass(u64),
    BlockGreedy(bool),
    LoseConsumer,
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        Just(Outcome::Ack),
        Just(Outcome::Discard),
        Just(Outcome::Requeue)
    ];
    prop_oneof![
        8 => (0..8u8, prop::option::weighted(0.2, 1..20u64))
            .prop_map(|(priority, expires_in)| Step::Publish { priority, expires_in }),
        6 => Just(Step::HandOut),
        6 => (0..64usize, outcome).prop_map(|(pick, outcome)| Step::Settle { pick, outcome }),
        8 => (1..6usize).prop_map(Step::Commit),
        2 => (0..REPLICAS, 0..6usize).prop_map(|(to, survive)| Step::Depose { to, survive }),
        1 => (0..REPLICAS).prop_map(Step::Restart),
        1 => Just(Step::Purge),
        2 => (1..10u64).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::BlockGreedy),
        1 => Just(Step::LoseConsumer),
    ]
}

fn settings() -> impl Strategy<Value = QueueSettings> {
    let priorities = prop_oneof![
        Just(Priorities::None),
        Just(Priorities::Strict(5)),
        Just(Priorities::TwoToOne)
    ];
    (
        priorities,
        prop::option::of(1..3u32),
        prop::option::of(2..6u64),
        any::<bool>(),
    )
        .prop_map(
            |(priorities, delivery_limit, max_length, dead_letters)| QueueSettings {
                priorities,
                delivery_limit,
                counts_deliveries: delivery_limit.is_some(),
                max_length,
                overflow: Overflow::DropHead,
                dead_lettering: dead_letters.then(|| DeadLettering {
                    exchange: Name::from_static("dead"),
                    routing_key: None,
                    at_least_once: false,
                }),
                ..QueueSettings::default()
            },
        )
}

fn play(settings: &QueueSettings, steps: Vec<Step>) {
    let mut all = Replicas::new(settings);
    for step in steps {
        match step {
            Step::Publish {
                priority,
                expires_in,
            } => {
                let expires_at = expires_in.map(|millis| UnixMillis(all.now.0 + millis));
                all.publish(Arrival {
                    expires_at,
                    priority,
                    ..arrival(BodyRef(0), 10)
                });
            }
            Step::HandOut => all.hand_out(),
            Step::Settle { pick, outcome } => all.settle(pick, outcome),
            Step::Commit(count) => all.commit(count),
            Step::Depose { to, survive } => all.depose(to, survive),
            Step::Restart(which) => all.restart(which, settings),
            Step::Purge => {
                let mut released = Vec::new();
                all.queues[all.leader].purge(&mut released);
                if !released.is_empty() {
                    all.propose(vec![QueueCommand::purged(&released)], Vec::new());
                }
            }
            Step::Pass(millis) => {
                all.now = UnixMillis(all.now.0 + millis);
                let mut departed = Departed::default();
                let leader = &mut all.queues[all.leader];
                leader.expire(all.now, 64, &mut departed);
                leader.drop_head(64, &mut departed);
                all.propose_departed(departed);
            }
            Step::BlockGreedy(blocked) => {
                all.queues[all.leader].set_consumer_blocked(B, blocked);
            }
            Step::LoseConsumer => {
                let mut departed = Departed::default();
                let leader = &mut all.queues[all.leader];
                leader.remove_consumer(A);
                leader.requeue_all(A, all.now, &mut departed);
                leader.add_consumer(consumer(A, 3)).unwrap();
                let counts = leader.take_returned();
                all.held.clear();
                all.propose_departed(departed);
                if !counts.is_empty() {
                    all.propose(vec![QueueCommand::Returned { counts }], Vec::new());
                }
            }
        }
        all.check();
    }
    all.depose(1, usize::MAX);
    assert_eq!(all.queues[1].number_of(ORIGIN), all.bodies_heard());
}

impl Replicas {
    /// The highest number that was committed, as every replica has it.
    fn bodies_heard(&self) -> u64 {
        let heard: Vec<u64> = self.queues.iter().map(|it| it.number_of(ORIGIN)).collect();
        assert!(heard.iter().all(|number| *number == heard[0]));
        assert!(heard[0] < self.next_number);
        heard[0]
    }
}

proptest! {
    #[test]
    fn replicas_agree(settings in settings(), steps in prop::collection::vec(step(), 1..120)) {
        play(&settings, steps);
    }
}

#[test]
fn layouts_do_not_change_unnoticed() {
    let mut queue = Queue::following(&QueueSettings::default());
    queue.apply_entry(
        &EntryHead {
            message_count: 1,
            origins: vec![(ORIGIN, 300)],
            commands: Vec::new(),
        },
        &[arrival(BodyRef(1), 10)],
        &mut Vec::new(),
    );
    let mut bytes = Vec::new();
    queue.encode_snapshot(&mut bytes);
    let origins = [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 7, 172, 2, 1];
    assert_eq!(bytes, [&[3, 1, 0, 1, 0, 1, 0][..], &origins].concat());
    for size in 0..bytes.len() {
        assert!(Queue::decode_snapshot(&bytes[..size], &QueueSettings::default()).is_err());
    }
    let head = EntryHead {
        message_count: 2,
        origins: vec![(ORIGIN, 300)],
        commands: vec![QueueCommand::Reserved {
            upto: MessageIndex(5),
        }],
    };
    bytes.clear();
    head.encode(&mut bytes);
    assert_eq!(
        bytes,
        [1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 7, 172, 2, 1, 3, 2, 3, 5]
    );
    for size in 0..bytes.len() {
        assert!(EntryHead::decode(&bytes[..size]).is_err());
    }
}

#[test]
fn of_too_many_origins_the_longest_silent_is_forgotten() {
    let mut queue = Queue::following(&QueueSettings::default());
    for number in 1..=300 {
        queue.heard_from(Origin(number), 5);
        queue.heard_from(Origin(1), number);
    }
    assert_eq!(queue.number_of(Origin(1)), 300);
    assert_eq!(queue.number_of(Origin(2)), 0);
    assert_eq!(queue.number_of(Origin(300)), 5);
    queue.heard_from(Origin(1), 7);
    assert_eq!(queue.number_of(Origin(1)), 300, "it never falls");
}

#[test]
fn what_was_not_committed_is_back_in_its_place() {
    let mut all = Replicas::new(&QueueSettings::default());
    for _ in 0..3 {
        all.publish(arrival(BodyRef(0), 10));
    }
    all.commit(3);
    all.hand_out();
    all.commit(1);
    all.hand_out();
    assert_eq!(all.held.len(), 3);
    all.settle(0, Outcome::Ack);
    assert_eq!(all.queues[0].unacked_count(), 2);
    assert_eq!(all.queues[0].dying_count(), 1, "it waits for the commit");
    all.depose(1, 0);
    let leader = &mut all.queues[1];
    assert_eq!((leader.ready_count(), leader.unacked_count()), (3, 0));
    assert_eq!(
        assigned(leader),
        [(A.0, 0, true), (A.0, 1, true), (A.0, 2, true)],
        "below the watermark they count as handed out"
    );
}

#[test]
fn a_new_leader_hands_nothing_out_again_that_is_claimed() {
    let mut all = Replicas::new(&QueueSettings::default());
    for _ in 0..4 {
        all.publish(arrival(BodyRef(0), 10));
    }
    all.commit(4);
    all.hand_out();
    all.commit(1);
    all.hand_out();
    all.settle(0, Outcome::Ack);
    let holdings = all.queues[0].holdings();
    let held: Vec<_> = holdings
        .iter()
        .map(|it| (it.key, it.held.clone()))
        .collect();
    assert_eq!(
        held,
        [(A, vec![(MessageIndex(1), 2)]), (B, Vec::new())],
        "three were handed out, and one of them settled"
    );
    assert_eq!(holdings[0].spec, Some(consumer(A, 3)));
    assert_eq!(all.queues[0].leaving(), [(MessageIndex(0), 1)]);
    all.depose(1, 0);
    let leader = &mut all.queues[1];
    let other = ConsumerKey(9);
    assert_eq!(leader.claim(other, MessageIndex(1), 2), 2);
    assert_eq!(leader.claim(A, MessageIndex(1), 2), 0, "they are held");
    assert_eq!(leader.claim(A, MessageIndex(900), 7), 0, "they never were");
    leader.check_invariants();
    assert_eq!((leader.ready_count(), leader.unacked_count()), (2, 2));
    let (message, outcome) = ((MessageIndex(1), 2), Outcome::Requeue);
    let of_three = "it may have three, and two of them are astray";
    assert_eq!(assigned(leader), [(A.0, 0, true)], "{of_three}");
    let mut departed = Departed::default();
    let settled = leader.settle(other, message, outcome, NOW, &mut departed);
    assert_eq!(settled, Ok(2));
    assert_eq!(assigned(leader), [], "{of_three}");
    let run = message;
    let settled = leader.settle_claimed(A, run, Outcome::Ack, NOW, &mut departed);
    assert_eq!(
        (settled.count, departed.released.len()),
        (2, 2),
        "wherever they are"
    );
    assert_eq!(assigned(leader), [(A.0, 3, true)]);
}
