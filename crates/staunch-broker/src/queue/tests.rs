use std::collections::BTreeMap;

use proptest::prelude::*;
use staunch_types::Outcome;

use super::*;

const A: ConsumerKey = ConsumerKey(1);
const B: ConsumerKey = ConsumerKey(2);

fn consumer(key: ConsumerKey, prefetch: u16) -> ConsumerSpec {
    ConsumerSpec {
        key,
        no_ack: false,
        exclusive: false,
        prefetch,
        priority: 0,
    }
}

fn arrival(body: BodyRef, size_bytes: u32) -> Arrival {
    Arrival {
        body,
        size_bytes,
        body_size_bytes: size_bytes / 2,
        expires_at: None,
        priority: 0,
    }
}

fn filled(count: u64) -> Queue {
    let mut queue = Queue::new(Durability::Transient, &QueueSettings::default());
    for n in 0..count {
        assert_eq!(
            queue.enqueue(arrival(BodyRef(n + 100), 10)),
            MessageIndex(n)
        );
    }
    queue
}

fn assigned(queue: &mut Queue) -> Vec<(u32, u64, bool)> {
    std::iter::from_fn(|| queue.assign_next())
        .map(|a| (a.consumer.0, a.index.0, a.redelivered))
        .collect()
}

#[test]
fn turns_go_round_within_prefetch_and_highest_priority_first() {
    let mut queue = filled(6);
    queue.add_consumer(consumer(A, 2)).unwrap();
    queue.add_consumer(consumer(B, 1)).unwrap();
    let high = ConsumerSpec {
        priority: 5,
        ..consumer(ConsumerKey(3), 1)
    };
    queue.add_consumer(high).unwrap();
    assert!(queue.can_dispatch());
    let expected = [(3, 0, false), (1, 1, false), (2, 2, false), (1, 3, false)];
    assert_eq!(assigned(&mut queue), expected);
    assert!(!queue.can_dispatch());
    let mut departed = Departed::default();
    queue
        .settle(
            ConsumerKey(3),
            MessageIndex(0),
            1,
            Outcome::Ack,
            &mut departed,
        )
        .unwrap();
    assert_eq!(departed.released, [(MessageIndex(0), BodyRef(100), 10)]);
    assert_eq!(assigned(&mut queue), [(3, 4, false)]);
    queue.check_invariants();
}

#[test]
fn returned_messages_keep_their_place() {
    let mut queue = filled(4);
    queue.add_consumer(consumer(A, 0)).unwrap();
    assert_eq!(assigned(&mut queue).len(), 4);
    let mut departed = Departed::default();
    queue
        .settle(A, MessageIndex(2), 1, Outcome::Requeue, &mut departed)
        .unwrap();
    queue
        .settle(A, MessageIndex(0), 1, Outcome::Requeue, &mut departed)
        .unwrap();
    queue.enqueue(arrival(BodyRef(9), 10));
    assert_eq!(queue.peek_next().unwrap().0, MessageIndex(0));
    assert_eq!(
        assigned(&mut queue),
        [(1, 0, true), (1, 2, true), (1, 4, false)]
    );
    assert!(queue.remove_consumer(A));
    assert_eq!(queue.requeue_all(A, &mut Departed::default()), 5);
    assert_eq!((queue.ready_count(), queue.unacked_count()), (5, 0));
    assert!(queue.consumers.is_none());
    queue.check_invariants();
}

#[test]
fn settling_what_is_not_held_changes_nothing() {
    let mut queue = filled(200);
    queue.add_consumer(consumer(A, 100)).unwrap();
    assigned(&mut queue);
    let mut departed = Departed::default();
    let error = queue.settle(A, MessageIndex(50), 51, Outcome::Ack, &mut departed);
    assert_eq!(
        error,
        Err(UnknownDelivery {
            consumer: A,
            index: MessageIndex(100)
        })
    );
    let error = queue.settle(B, MessageIndex(50), 1, Outcome::Ack, &mut departed);
    assert_eq!(
        error,
        Err(UnknownDelivery {
            consumer: B,
            index: MessageIndex(50)
        })
    );
    let error = queue.settle(A, MessageIndex(u64::MAX), 1, Outcome::Ack, &mut departed);
    assert!(error.is_err());
    assert!(departed.is_empty());
    assert_eq!(
        queue.settle(A, MessageIndex(0), 100, Outcome::Ack, &mut departed),
        Ok(100)
    );
    assert_eq!(departed.released.len(), 100);
    queue.check_invariants();
}

#[test]
fn exclusive_consumers_stand_alone() {
    let mut queue = filled(0);
    let exclusive = ConsumerSpec {
        exclusive: true,
        ..consumer(A, 0)
    };
    queue.add_consumer(consumer(B, 0)).unwrap();
    assert_eq!(queue.add_consumer(exclusive), Err(Refused::ExclusiveUse));
    queue.remove_consumer(B);
    queue.add_consumer(exclusive).unwrap();
    assert_eq!(
        queue.add_consumer(consumer(B, 0)),
        Err(Refused::ExclusiveUse)
    );
    queue.remove_consumer(A);
    queue.add_consumer(consumer(B, 0)).unwrap();
    queue.check_invariants();
}

#[test]
fn consumers_are_bounded() {
    let mut queue = filled(0);
    for key in 0..u32::try_from(CONSUMERS_PER_QUEUE_MAX).unwrap() {
        queue.add_consumer(consumer(ConsumerKey(key), 0)).unwrap();
    }
    let one_more = consumer(ConsumerKey(u32::MAX), 0);
    assert_eq!(queue.add_consumer(one_more), Err(Refused::TooManyConsumers));
    queue.check_invariants();
}

#[test]
fn durable_queues_wait_for_their_reservation() {
    let mut queue = Queue::new(Durability::Durable, &QueueSettings::default());
    queue.enqueue(arrival(BodyRef(1), 10));
    assert_eq!(queue.needs_reservation(), None, "nobody asks");
    assert_eq!(queue.get(A, true), Got::AwaitsReservation);
    let upto = queue.needs_reservation().unwrap();
    assert_eq!(upto, MessageIndex(1_024));
    assert_eq!(queue.needs_reservation(), None, "it is pending");
    assert_eq!(queue.get(A, true), Got::AwaitsReservation);
    queue.reserve(upto);
    assert!(matches!(queue.get(A, true), Got::Message(message) if message.settled));
    assert_eq!(queue.get(A, true), Got::Empty);
    assert_eq!(queue.release_reservation(), MessageIndex(1));
    queue.check_invariants();
}

#[test]
fn the_window_grows_while_deliveries_outrun_it() {
    let mut queue = Queue::new(Durability::Durable, &QueueSettings::default());
    queue
        .add_consumer(ConsumerSpec {
            no_ack: true,
            ..consumer(A, 0)
        })
        .unwrap();
    for n in 0..300_000 {
        queue.enqueue(arrival(BodyRef(n), 1));
    }
    let mut reservations = 0;
    while queue.ready_count() > 0 {
        assigned(&mut queue);
        if let Some(upto) = queue.needs_reservation() {
            assert!(
                upto.0 - queue.fresh <= watermark::WINDOW_MAX,
                "the window is bounded"
            );
            queue.reserve(upto);
            reservations += 1;
        }
    }
    assert!(reservations < 16, "{reservations} reservations");
}

#[test]
fn one_stuck_message_costs_one_chunk() {
    let mut queue = filled(1);
    queue.add_consumer(consumer(A, 0)).unwrap();
    let (mut departed, mut n) = (Departed::default(), 0);
    assigned(&mut queue);
    for _ in 0..10_000 {
        for _ in 0..100 {
            queue.enqueue(arrival(BodyRef(n), 1));
            n += 1;
        }
        assigned(&mut queue);
        queue
            .settle(A, MessageIndex(n - 99), 100, Outcome::Ack, &mut departed)
            .unwrap();
        departed.released.clear();
    }
    assert_eq!(queue.unacked_count(), 1);
    assert!(
        queue.memory_bytes() < 16_384,
        "{} bytes",
        queue.memory_bytes()
    );
    queue.check_invariants();
}

#[test]
fn an_idle_queue_is_small() {
    assert!(size_of::<Queue>() <= 250, "{} bytes", size_of::<Queue>());
}

#[test]
fn moved_bodies_are_found_at_their_new_place() {
    let mut queue = filled(2);
    assert!(queue.relocate(MessageIndex(1), BodyRef(101), BodyRef(7)));
    assert!(
        !queue.relocate(MessageIndex(1), BodyRef(101), BodyRef(8)),
        "it is not there any more"
    );
    assert!(
        !queue.relocate(MessageIndex(2), BodyRef(102), BodyRef(8)),
        "no such message"
    );
    let live: Vec<_> = queue.live_from(MessageIndex(1)).collect();
    assert_eq!(live, [(MessageIndex(1), BodyRef(7), 10)]);
}

#[test]
fn purge_takes_only_what_is_ready() {
    let mut queue = filled(130);
    queue.add_consumer(consumer(A, 1)).unwrap();
    assigned(&mut queue);
    let mut departed = Departed::default();
    assert_eq!(queue.purge(&mut departed.released), 129);
    let command = QueueCommand::purged(&departed.released);
    assert_eq!(
        command,
        QueueCommand::Purged {
            ranges: vec![(MessageIndex(1), 129)]
        }
    );
    assert_eq!((queue.ready_count(), queue.unacked_count()), (0, 1));
    queue.check_invariants();
}

#[test]
fn a_prefetch_may_change_while_a_consumer_holds_messages() {
    let mut queue = filled(20);
    queue.add_consumer(consumer(A, 2)).unwrap();
    let mut departed = Departed::default();
    let taken = |queue: &mut Queue| {
        let count = assigned(queue).len();
        queue.check_invariants();
        count
    };
    assert_eq!(taken(&mut queue), 2);
    queue.set_consumer_prefetch(A, 5);
    assert_eq!(taken(&mut queue), 3);
    queue.set_consumer_prefetch(A, 1);
    assert_eq!(taken(&mut queue), 0);
    let ack = Outcome::Ack;
    queue
        .settle(A, MessageIndex(0), 4, ack, &mut departed)
        .unwrap();
    assert_eq!(taken(&mut queue), 0);
    queue
        .settle(A, MessageIndex(4), 1, ack, &mut departed)
        .unwrap();
    assert_eq!(taken(&mut queue), 1);
    queue.set_consumer_prefetch(A, 0);
    assert_eq!(taken(&mut queue), 14);
}

#[test]
fn layouts_are_those_of_version_2() {
    let check = |command: QueueCommand, expected: &[u8]| {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        assert_eq!(bytes, expected);
        assert_eq!(QueueCommand::decode(&bytes), Ok(command));
        for size in 0..bytes.len() {
            assert!(QueueCommand::decode(&bytes[..size]).is_err());
        }
    };
    let ranges = vec![(MessageIndex(3), 2), (MessageIndex(300), 1)];
    check(
        QueueCommand::Settled {
            ranges: ranges.clone(),
        },
        &[2, 1, 2, 3, 2, 167, 2, 1],
    );
    check(QueueCommand::Purged { ranges }, &[2, 2, 2, 3, 2, 167, 2, 1]);
    check(
        QueueCommand::Reserved {
            upto: MessageIndex(1_024),
        },
        &[2, 3, 128, 8],
    );

    let mut queue = filled(200);
    queue.get(A, true);
    queue.enqueue(arrival(BodyRef(1), 1));
    let mut bytes = Vec::new();
    queue.encode_snapshot(&mut bytes);
    assert_eq!(bytes, [2, 201, 1, 0, 1, 1, 200, 1, 0]);
    let decoded = Queue::decode_snapshot(&bytes, &QueueSettings::default()).unwrap();
    assert_eq!(decoded.missing(), [(MessageIndex(1), 200)]);
    for size in 0..bytes.len() {
        assert!(Queue::decode_snapshot(&bytes[..size], &QueueSettings::default()).is_err());
    }
    let huge = [
        2, 255, 255, 255, 255, 255, 255, 127, 0, 1, 0, 255, 255, 255, 255, 255, 255, 127, 0,
    ];
    assert!(Queue::decode_snapshot(&huge, &QueueSettings::default()).is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Enqueue(u8),
    AddConsumer {
        key: u32,
        prefetch: u16,
        no_ack: bool,
        priority: i32,
    },
    RemoveConsumer(u32),
    Block(u32, bool),
    Assign(u8),
    Get {
        key: u32,
        no_ack: bool,
    },
    Settle {
        key: u32,
        skip: usize,
        count: u32,
        outcome: Outcome,
    },
    RequeueAll(u32),
    Purge,
    Reserve,
    Snapshot,
    Trim,
    Crash {
        snapshot: usize,
        start: usize,
        commands_first: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        Just(Outcome::Ack),
        Just(Outcome::Discard),
        Just(Outcome::Requeue)
    ];
    let key = 0..4u32;
    prop_oneof![
        8 => (1..200u8).prop_map(Step::Enqueue),
        3 => (key.clone(), 0..5u16, any::<bool>(), 0..2i32).prop_map(
            |(key, prefetch, no_ack, priority)| Step::AddConsumer { key, prefetch, no_ack, priority }
        ),
        1 => key.clone().prop_map(Step::RemoveConsumer),
        1 => (key.clone(), any::<bool>()).prop_map(|(key, blocked)| Step::Block(key, blocked)),
        8 => (1..200u8).prop_map(Step::Assign),
        3 => (10..12u32, any::<bool>()).prop_map(|(key, no_ack)| Step::Get { key, no_ack }),
        8 => (prop_oneof![0..4u32, 10..12u32], 0..40usize, 1..70u32, outcome).prop_map(
            |(key, skip, count, outcome)| Step::Settle { key, skip, count, outcome }
        ),
        1 => key.prop_map(Step::RequeueAll),
        1 => Just(Step::Purge),
        6 => Just(Step::Reserve),
        2 => Just(Step::Snapshot),
        1 => Just(Step::Trim),
        1 => (any::<usize>(), any::<usize>(), any::<bool>()).prop_map(
            |(snapshot, start, commands_first)| Step::Crash { snapshot, start, commands_first }
        ),
    ]
}

/// A message of the model.
struct Known {
    body: BodyRef,
    size_bytes: u32,
    holder: Option<u32>,
    /// It was handed out.
    sent: bool,
    /// It lay below the watermark of a crash.
    suspect: bool,
}

/// The queue and what it must be equal to: a map of messages and the whole log.
struct World {
    queue: Queue,
    live: BTreeMap<u64, Known>,
    consumers: BTreeMap<u32, ConsumerSpec>,
    bodies: Vec<Released>,
    commands: Vec<QueueCommand>,
    /// Bytes, and how many commands they contain.
    snapshots: Vec<(Vec<u8>, usize)>,
    reserved: u64,
    enqueued: u64,
    removed: u64,
}

impl World {
    fn new() -> Self {
        Self {
            queue: Queue::new(Durability::Durable, &QueueSettings::default()),
            live: BTreeMap::new(),
            consumers: BTreeMap::new(),
            bodies: Vec::new(),
            commands: Vec::new(),
            snapshots: Vec::new(),
            reserved: 0,
            enqueued: 0,
            removed: 0,
        }
    }

    fn held(&self, key: u32) -> Vec<u64> {
        let held = self
            .live
            .iter()
            .filter(|(_, known)| known.holder == Some(key));
        held.map(|(index, _)| *index).collect()
    }

    fn log(&mut self, command: &QueueCommand) {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        self.commands.push(QueueCommand::decode(&bytes).unwrap());
    }

    fn forget(&mut self, released: &[Released]) {
        for (index, body, size_bytes) in released {
            let known = self
                .live
                .remove(&index.0)
                .expect("only live messages are released");
            assert_eq!((known.body, known.size_bytes), (*body, *size_bytes));
            self.removed += 1;
        }
    }

    fn handed_out(&mut self, assignment: Assignment) {
        let expected = self.live.iter().find(|(_, known)| known.holder.is_none());
        let expected = *expected.expect("something was ready").0;
        assert_eq!(assignment.index.0, expected, "messages go in order");
        assert!(expected < self.reserved, "only below the watermark");
        let known = self.live.get_mut(&expected).unwrap();
        assert_eq!(
            (assignment.body, assignment.size_bytes),
            (known.body, known.size_bytes)
        );
        assert_eq!(
            assignment.redelivered,
            known.sent || known.suspect,
            "contract C8"
        );
        known.sent = true;
        known.holder = Some(assignment.consumer.0);
        if assignment.settled {
            let released = [(assignment.index, assignment.body, assignment.size_bytes)];
            self.forget(&released);
            self.log(&QueueCommand::settled(&released));
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Enqueue(count) => (0..count).for_each(|_| self.enqueue()),
            Step::AddConsumer {
                key,
                prefetch,
                no_ack,
                priority,
            } => {
                let exclusive = false;
                let key = ConsumerKey(key);
                let spec = ConsumerSpec {
                    key,
                    no_ack,
                    exclusive,
                    prefetch,
                    priority,
                };
                if !self.consumers.contains_key(&key.0) && self.held(key.0).is_empty() {
                    self.queue.add_consumer(spec).unwrap();
                    self.consumers.insert(key.0, spec);
                }
            }
            Step::RemoveConsumer(key) => {
                let expected = self.consumers.remove(&key).is_some();
                assert_eq!(self.queue.remove_consumer(ConsumerKey(key)), expected);
            }
            Step::Block(key, blocked) => {
                self.queue.set_consumer_blocked(ConsumerKey(key), blocked);
            }
            Step::Assign(count) => (0..count).for_each(|_| self.assign()),
            Step::Get { key, no_ack } => self.get(key, no_ack),
            Step::Settle {
                key,
                skip,
                count,
                outcome,
            } => self.settle(key, skip, count, outcome),
            Step::RequeueAll(key) => {
                let held = self.held(key);
                let count = self
                    .queue
                    .requeue_all(ConsumerKey(key), &mut Departed::default());
                assert_eq!(count as usize, held.len());
                for index in &held {
                    self.live.get_mut(index).unwrap().holder = None;
                }
            }
            Step::Purge => self.purge(),
            Step::Reserve => {
                if let Some(upto) = self.queue.needs_reservation() {
                    self.log(&QueueCommand::Reserved { upto });
                    self.queue.reserve(upto);
                    self.reserved = upto.0;
                }
            }
            Step::Snapshot => {
                let mut bytes = Vec::new();
                self.queue.encode_snapshot(&mut bytes);
                self.snapshots.push((bytes, self.commands.len()));
            }
            Step::Trim => self.queue.trim(),
            Step::Crash {
                snapshot,
                start,
                commands_first,
            } => {
                self.crash(snapshot, start, commands_first);
            }
        }
    }

    fn purge(&mut self) {
        let mut departed = Departed::default();
        let count = self.queue.purge(&mut departed.released);
        assert_eq!(count, departed.released.len() as u64);
        self.forget(&departed.released);
        assert!(self.live.values().all(|known| known.holder.is_some()));
        self.log(&QueueCommand::purged(&departed.released));
    }

    fn enqueue(&mut self) {
        let (body, size_bytes) = (BodyRef(self.enqueued * 7), 1 + (self.enqueued % 50) as u32);
        let index = self.queue.enqueue(arrival(body, size_bytes));
        let (holder, sent, suspect) = (None, false, false);
        let known = Known {
            body,
            size_bytes,
            holder,
            sent,
            suspect,
        };
        assert!(
            self.live.insert(index.0, known).is_none(),
            "an index is never used twice"
        );
        assert!(
            self.bodies.iter().all(|body| body.0 < index),
            "indexes rise"
        );
        self.bodies.push((index, body, size_bytes));
        self.enqueued += 1;
    }

    fn assign(&mut self) {
        let can = self.queue.can_dispatch();
        let assignment = self.queue.assign_next();
        assert_eq!(assignment.is_some(), can);
        let Some(assignment) = assignment else { return };
        self.handed_out(assignment);
        let key = assignment.consumer.0;
        let spec = self.consumers[&key];
        assert_eq!(assignment.settled, spec.no_ack);
        let within =
            spec.no_ack || spec.prefetch == 0 || self.held(key).len() <= usize::from(spec.prefetch);
        assert!(within, "prefetch is never exceeded");
    }

    fn get(&mut self, key: u32, no_ack: bool) {
        let ready = self.live.iter().find(|(_, known)| known.holder.is_none());
        let ready = ready.map(|(index, _)| *index);
        match self.queue.get(ConsumerKey(key), no_ack) {
            Got::Message(assignment) => {
                assert_eq!((assignment.consumer.0, assignment.settled), (key, no_ack));
                self.handed_out(assignment);
            }
            Got::Empty => assert_eq!(ready, None),
            Got::AwaitsReservation => assert!(ready.unwrap() >= self.reserved),
        }
    }

    fn settle(&mut self, key: u32, skip: usize, count: u32, outcome: Outcome) {
        let held = self.held(key);
        let first = held.get(skip % held.len().max(1)).copied().unwrap_or(0);
        let range = first..first + u64::from(count);
        let all_held = range.clone().all(|index| held.contains(&index));
        let mut departed = Departed::default();
        let (consumer, first) = (ConsumerKey(key), MessageIndex(first));
        let settled = self
            .queue
            .settle(consumer, first, count, outcome, &mut departed);
        assert_eq!(settled.is_ok(), all_held);
        if !all_held {
            return assert!(departed.is_empty());
        }
        if outcome == Outcome::Requeue {
            assert!(departed.is_empty());
            range.for_each(|index| self.live.get_mut(&index).unwrap().holder = None);
        } else {
            assert_eq!(departed.released.len(), count as usize);
            self.forget(&departed.released);
            self.log(&QueueCommand::settled(&departed.released));
        }
    }

    fn crash(&mut self, snapshot: usize, start: usize, commands_first: bool) {
        let chosen = snapshot % (self.snapshots.len() + 1);
        let (mut queue, contained) = match self.snapshots.get(chosen) {
            Some((bytes, contained)) => (
                Queue::decode_snapshot(bytes, &QueueSettings::default()).unwrap(),
                *contained,
            ),
            None => (Queue::recovering(&QueueSettings::default()), 0),
        };
        let start = start % (contained + 1);
        let mut garbage = Vec::new();
        if commands_first {
            self.commands[start..]
                .iter()
                .for_each(|c| queue.apply_recovered(c, &mut garbage));
        }
        for &(index, body, size_bytes) in &self.bodies {
            queue.restore_message(index, arrival(body, size_bytes));
            assert_ne!(
                queue.restore_message(index, arrival(body, size_bytes)),
                Restored::Live
            );
        }
        if !commands_first {
            self.commands[start..]
                .iter()
                .for_each(|c| queue.apply_recovered(c, &mut garbage));
        }
        queue.check_invariants();
        assert_eq!(queue.missing(), []);
        assert_eq!(queue.finish_recovery(), 0);
        for (index, known) in &mut self.live {
            known.holder = None;
            known.suspect |= *index < self.reserved;
        }
        self.consumers.clear();
        self.queue = queue;
    }

    fn check(&self) {
        self.queue.check_invariants();
        let ready = self.live.values().filter(|known| known.holder.is_none());
        let sizes: Vec<u64> = ready.map(|known| u64::from(known.size_bytes)).collect();
        assert_eq!(self.queue.ready_count(), sizes.len() as u64);
        assert_eq!(self.queue.ready_bytes(), sizes.iter().sum::<u64>());
        let depth = self.queue.ready_count() + self.queue.unacked_count();
        assert_eq!(
            depth,
            self.enqueued - self.removed,
            "depth is enqueued less removed"
        );
        let live: Vec<u64> = self
            .queue
            .live_from(MessageIndex(0))
            .map(|m| m.0.0)
            .collect();
        assert!(live.iter().eq(self.live.keys()), "the same messages live");
        assert!(
            self.queue
                .consumer_keys()
                .map(|key| key.0)
                .eq(self.consumers.keys().copied())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_history_equals_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
            world.check();
        }
    }

    #[test]
    fn decoders_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let command = QueueCommand::decode(&bytes);
        if let (Ok(mut queue), Ok(command)) = (Queue::decode_snapshot(&bytes, &QueueSettings::default()), command) {
            queue.apply_recovered(&command, &mut Vec::new());
        }
    }
}

/// After a restart all between the last message handed out and the next may be gone; what is left
/// of the reservation must be judged by the next.
#[test]
fn a_reservation_is_asked_for_behind_a_gap() {
    let mut queue = Queue::new(Durability::Durable, &QueueSettings::default());
    for n in 0..2001 {
        queue.enqueue(arrival(BodyRef(n + 100), 10));
    }
    queue.add_consumer(consumer(A, 0)).unwrap();
    for _ in 0..2000 {
        while queue.assign_next().is_none() {
            let upto = queue.needs_reservation().unwrap();
            queue.reserve(upto);
        }
    }
    let mut departed = Departed::default();
    queue
        .settle(A, MessageIndex(1), 1999, Outcome::Ack, &mut departed)
        .unwrap();
    queue.requeue_all(A, &mut Departed::default());
    queue.remove_consumer(A);
    queue.release_reservation();
    let mut bytes = Vec::new();
    queue.encode_snapshot(&mut bytes);
    let mut queue = Queue::decode_snapshot(&bytes, &QueueSettings::default()).unwrap();
    queue.restore_message(MessageIndex(0), arrival(BodyRef(1), 10));
    queue.restore_message(MessageIndex(2000), arrival(BodyRef(2), 10));
    queue.finish_recovery();
    queue.add_consumer(consumer(B, 0)).unwrap();
    assert_eq!(queue.assign_next().unwrap().index, MessageIndex(0));
    assert!(queue.assign_next().is_none(), "above the watermark");
    let upto = queue
        .needs_reservation()
        .expect("a ready message waits for it");
    queue.reserve(upto);
    assert_eq!(queue.assign_next().unwrap().index, MessageIndex(2000));
    queue.check_invariants();
}
