//! Any history of a queue with any settings, against a model that is a map of messages and looks
//! at all of them for every answer.

use std::collections::BTreeMap;

use proptest::prelude::*;
use staunch_types::{Outcome, UnixMillis};

use super::steps::{Step, settings, step};
use super::*;
use crate::settings::{Overflow, Priorities};

mod claims;
mod crash;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Held(u32),
    Dying,
}

/// A message of the model.
#[derive(Debug)]
struct Known {
    arrival: Arrival,
    state: State,
    /// It was handed out.
    sent: bool,
    /// It lay below the watermark of a crash.
    suspect: bool,
    /// When it was handed out last, in the order of deliveries.
    handed_out_at: u64,
    /// When this process gave it back last, in the order of returns.
    returned_at: Option<u64>,
    /// How often it was given back, and the same as last taken to be logged.
    returns: u32,
    returns_taken: u32,
}

#[derive(Clone, Copy, Debug)]
struct Consuming {
    spec: ConsumerSpec,
    is_blocked: bool,
    serial: usize,
}

/// A snapshot, with what it must bring back that the log need not hold.
struct Saved {
    bytes: Vec<u8>,
    /// Commands that it contains.
    command_count: usize,
    returns: BTreeMap<u64, u32>,
}

/// The queue and what it must be equal to: a map of messages and the whole log.
struct World {
    queue: Queue,
    settings: QueueSettings,
    durability: Durability,
    now: UnixMillis,
    live: BTreeMap<u64, Known>,
    consumers: BTreeMap<u32, Consuming>,
    /// What their clients have and others hold, or nobody any more.
    astray: BTreeMap<u32, Indexes>,
    active: Option<u32>,
    /// Every message that ever came.
    arrivals: Vec<(MessageIndex, Arrival)>,
    commands: Vec<QueueCommand>,
    /// State at the last clean stop.
    base: Option<Saved>,
    snapshots: Vec<Saved>,
    reserved: u64,
    /// Turn between normal and high messages.
    turn: u8,
    enqueued: u64,
    removed: u64,
    /// Number of the next delivery.
    delivery_next: u64,
    /// Number of the next return.
    return_next: u64,
    serial: usize,
}

impl World {
    fn new(durability: Durability, settings: QueueSettings) -> Self {
        let is_durable = durability == Durability::Durable;
        Self {
            queue: Queue::new(durability, &settings),
            settings,
            durability,
            now: UnixMillis(1_000),
            live: BTreeMap::new(),
            consumers: BTreeMap::new(),
            astray: BTreeMap::new(),
            active: None,
            arrivals: Vec::new(),
            commands: Vec::new(),
            base: None,
            snapshots: Vec::new(),
            reserved: if is_durable { 0 } else { u64::MAX },
            turn: 0,
            enqueued: 0,
            removed: 0,
            delivery_next: 0,
            return_next: 0,
            serial: 0,
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Enqueue {
                count,
                priority,
                ttl,
            } => (0..count).for_each(|_| self.enqueue(priority, ttl)),
            Step::AddConsumer {
                key,
                prefetch,
                no_ack,
                priority,
            } => self.add_consumer(ConsumerSpec {
                key: ConsumerKey(key),
                no_ack,
                exclusive: false,
                prefetch,
                priority,
                identity: 0,
            }),
            Step::RemoveConsumer(key) => self.remove_consumer(key),
            Step::Block(key, is_blocked) => {
                self.queue
                    .set_consumer_blocked(ConsumerKey(key), is_blocked);
                if let Some(consumer) = self.consumers.get_mut(&key) {
                    consumer.is_blocked = is_blocked;
                }
            }
            Step::SetPrefetch(key, prefetch) => {
                self.queue.set_consumer_prefetch(ConsumerKey(key), prefetch);
                if let Some(consumer) = self.consumers.get_mut(&key) {
                    consumer.spec.prefetch = prefetch;
                }
            }
            Step::Assign(count) => (0..count).for_each(|_| self.assign()),
            Step::Get { key, no_ack } => self.get(key, no_ack),
            Step::Claim { key, skip, count } => self.claim(key, skip, count),
            Step::SettleClaimed { key, skip } => self.settle_claimed(key, skip),
            Step::Settle {
                key,
                skip,
                count,
                outcome,
            } => self.settle(key, skip, count, outcome),
            Step::RequeueAll(key) => self.requeue_all(key),
            Step::Purge => self.purge(),
            Step::Reserve => self.reserve(),
            Step::Expire(millis, limit) => self.expire(millis, limit),
            Step::DropHead => self.drop_head(),
            Step::Bury(which) => self.bury(which),
            Step::TakeReturned => self.take_returned(),
            Step::Relocate(which) => self.relocate(which),
            Step::Configure(limited) => {
                limited.apply(&mut self.settings);
                self.queue.configure(&self.settings);
            }
            Step::Snapshot => {
                let saved = self.save();
                self.snapshots.push(saved);
            }
            Step::Trim => self.queue.trim(),
            Step::Crash {
                snapshot,
                start,
                commands_at,
                is_reversed,
            } => self.crash(snapshot, start, commands_at, is_reversed),
            Step::CleanStop => self.clean_stop(),
        }
    }

    fn enqueue(&mut self, priority: u8, ttl: Option<u64>) {
        let size_bytes = 1 + u32::try_from(self.enqueued % 50).unwrap();
        let arrival = Arrival {
            body: BodyRef(self.enqueued * 7),
            size_bytes: size_bytes + 20,
            body_size_bytes: size_bytes,
            expires_at: ttl.map(|ttl| self.now.after_millis(ttl + self.enqueued % 5)),
            priority,
            redelivered: self.enqueued % 7 == 3,
        };
        let index = self.queue.enqueue(arrival);
        let known = Known {
            arrival,
            state: State::Ready,
            sent: false,
            suspect: false,
            handed_out_at: 0,
            returned_at: None,
            returns: 0,
            returns_taken: 0,
        };
        let replaced = self.live.insert(index.0, known);
        assert!(replaced.is_none(), "an index is never used twice");
        let last = self.arrivals.last();
        assert!(last.is_none_or(|last| last.0 < index), "indexes rise");
        self.arrivals.push((index, arrival));
        self.enqueued += 1;
    }

    // Who may take what.

    fn add_consumer(&mut self, spec: ConsumerSpec) {
        let key = spec.key.0;
        if self.consumers.contains_key(&key) || self.unsettled_count(key) > 0 {
            return;
        }
        self.queue.add_consumer(spec).unwrap();
        self.serial += 1;
        let consumer = Consuming {
            spec,
            is_blocked: false,
            serial: self.serial,
        };
        self.consumers.insert(key, consumer);
    }

    fn remove_consumer(&mut self, key: u32) {
        let expected = self.consumers.remove(&key).is_some();
        assert_eq!(self.queue.remove_consumer(ConsumerKey(key)), expected);
    }

    /// The first of those with the highest priority.
    fn highest(&self) -> Option<Consuming> {
        let all = self.consumers.values().copied();
        all.max_by_key(|it| (it.spec.priority, std::cmp::Reverse(it.serial)))
    }

    /// Puts the active consumer right after anything that bears on it.
    fn elect(&mut self) {
        if !self.settings.single_active_consumer {
            return;
        }
        let highest = self.highest().map(|highest| highest.spec);
        let active = self.active.and_then(|active| self.consumers.get(&active));
        let stays = active.is_some_and(|active| {
            let is_outranked = highest.is_some_and(|it| it.priority > active.spec.priority);
            let is_idle = self.unsettled_count(active.spec.key.0) == 0;
            self.settings.priorities != Priorities::TwoToOne || !is_outranked || !is_idle
        });
        if !stays {
            self.active = highest.map(|spec| spec.key.0);
        }
    }

    fn room(&self, consumer: &Consuming) -> usize {
        let Consuming {
            spec, is_blocked, ..
        } = consumer;
        let is_displaced = self.settings.priorities == Priorities::TwoToOne
            && self
                .highest()
                .is_some_and(|it| it.spec.priority > spec.priority);
        let is_active = self.active == Some(spec.key.0) && !is_displaced;
        if *is_blocked || (self.settings.single_active_consumer && !is_active) {
            0
        } else if spec.no_ack || spec.prefetch == 0 {
            usize::MAX
        } else {
            usize::from(spec.prefetch).saturating_sub(self.unsettled_count(spec.key.0))
        }
    }

    /// Consumers that can take a message, and how many all of them can take.
    fn takers(&self) -> (Vec<Consuming>, usize) {
        let (mut takers, mut room) = (Vec::new(), 0usize);
        for consumer in self.consumers.values() {
            let its_room = self.room(consumer);
            if its_room > 0 {
                takers.push(*consumer);
                room = room.saturating_add(its_room);
            }
        }
        (takers, room)
    }

    fn unsettled_count(&self, key: u32) -> usize {
        let astray = self
            .astray
            .get(&key)
            .map_or(0, |astray| astray.len() as usize);
        self.held(key).len() + astray
    }

    fn held(&self, key: u32) -> Vec<u64> {
        let all = self.live.iter();
        let held = all.filter(|(_, known)| known.state == State::Held(key));
        held.map(|(index, _)| *index).collect()
    }

    // What comes next.

    fn level(&self, known: &Known) -> u8 {
        match self.settings.priorities {
            Priorities::None => 0,
            Priorities::Strict(max) => known.arrival.priority.min(max),
            Priorities::TwoToOne if known.returned_at.is_some() => 2,
            Priorities::TwoToOne => u8::from(known.arrival.priority >= 5),
        }
    }

    fn turn_after(&self, turn: u8, level: u8) -> u8 {
        let is_weighted = self.settings.priorities == Priorities::TwoToOne && level < 2;
        if is_weighted { (turn + 1) % 3 } else { turn }
    }

    /// All ready messages in the order of delivery.
    fn order(&self) -> Vec<u64> {
        let mut by_level: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
        for (index, known) in self.live.iter().rev() {
            if known.state == State::Ready {
                by_level.entry(self.level(known)).or_default().push(*index);
            }
        }
        if self.settings.priorities == Priorities::TwoToOne
            && let Some(returned) = by_level.get_mut(&2)
        {
            returned.sort_by_key(|index| std::cmp::Reverse(self.live[index].returned_at));
        }
        let (mut order, mut turn) = (Vec::new(), self.turn);
        while let Some((&highest, messages)) = by_level.iter().next_back() {
            let normal = by_level.get(&0).and_then(|normal| normal.last());
            let is_weighted = self.settings.priorities == Priorities::TwoToOne && highest == 1;
            let is_due = is_weighted && turn == 2 && normal < messages.last();
            let level = if is_due && normal.is_some() {
                0
            } else {
                highest
            };
            let messages = by_level.get_mut(&level).unwrap();
            order.push(messages.pop().unwrap());
            if messages.is_empty() {
                by_level.remove(&level);
            }
            turn = self.turn_after(turn, level);
        }
        order
    }

    fn first_in_order(&self) -> Option<u64> {
        let ready = self
            .live
            .iter()
            .filter(|(_, known)| known.state == State::Ready);
        match self.settings.priorities {
            Priorities::None => ready.map(|(index, _)| *index).next(),
            Priorities::Strict(_) => ready
                .max_by_key(|(index, known)| (self.level(known), std::cmp::Reverse(**index)))
                .map(|(index, _)| *index),
            Priorities::TwoToOne => self.order().first().copied(),
        }
    }

    fn assign(&mut self) {
        let (takers, _) = self.takers();
        let next = self.first_in_order();
        let expected = !takers.is_empty() && next.is_some_and(|next| next < self.reserved);
        assert_eq!(self.queue.next_delivery().is_some(), expected);
        let assignment = self.queue.assign_next();
        assert_eq!(assignment.is_some(), expected);
        let Some(assignment) = assignment else { return };
        let taker = takers
            .iter()
            .find(|it| it.spec.key == assignment.consumer)
            .expect("it can take one");
        let highest = takers.iter().map(|it| it.spec.priority).max();
        assert_eq!(Some(taker.spec.priority), highest, "higher ones first");
        assert_eq!(assignment.settled, taker.spec.no_ack);
        self.handed_out(assignment);
    }

    fn get(&mut self, key: u32, no_ack: bool) {
        let next = self.first_in_order();
        match self.queue.get(ConsumerKey(key), no_ack) {
            Got::Message(assignment) => {
                assert_eq!((assignment.consumer.0, assignment.settled), (key, no_ack));
                self.handed_out(assignment);
            }
            Got::Empty => assert_eq!(next, None),
            Got::AwaitsReservation => assert!(next.unwrap() >= self.reserved),
        }
    }

    fn handed_out(&mut self, assignment: Assignment) {
        let expected = self.first_in_order().expect("something was ready");
        assert_eq!(assignment.index.0, expected, "messages go in order");
        assert!(expected < self.reserved, "only below the watermark");
        self.turn = self.turn_after(self.turn, self.level(&self.live[&expected]));
        let known = self.live.get_mut(&expected).unwrap();
        let Arrival {
            body, size_bytes, ..
        } = known.arrival;
        assert_eq!((assignment.body, assignment.size_bytes), (body, size_bytes));
        assert_eq!(assignment.delivery_count, known.returns);
        assert_eq!(
            assignment.redelivered,
            known.sent || known.suspect || known.arrival.redelivered,
            "contract C8"
        );
        known.sent = true;
        known.state = State::Held(assignment.consumer.0);
        known.handed_out_at = self.delivery_next;
        self.delivery_next += 1;
        if assignment.settled {
            self.leave(&[(assignment.index, body, size_bytes)]);
        }
    }

    // How messages go.

    /// Messages left for good; that is logged.
    fn leave(&mut self, released: &[Released]) {
        for (index, body, size_bytes) in released {
            let known = self.live.remove(&index.0).expect("only the live leave");
            let Arrival {
                body: expected,
                size_bytes: size,
                ..
            } = known.arrival;
            assert_eq!((expected, size), (*body, *size_bytes));
            self.removed += 1;
        }
        self.log(&QueueCommand::settled(released));
    }

    fn log(&mut self, command: &QueueCommand) {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        self.commands.push(QueueCommand::decode(&bytes).unwrap());
    }

    /// Exactly these died, in this order.
    fn died(&mut self, expected: &[u64], reason: Death, departed: &Departed) {
        let expected: Vec<_> = expected.iter().map(|index| (*index, reason)).collect();
        self.died_each(&expected, departed);
    }

    fn died_each(&mut self, expected: &[(u64, Death)], departed: &Departed) {
        if self.settings.dead_lettering.is_none() {
            assert!(departed.dying.is_empty());
            let released = departed.released.iter().map(|message| message.0.0);
            assert!(released.eq(expected.iter().map(|(index, _)| *index)));
            return self.leave(&departed.released);
        }
        assert!(departed.released.is_empty());
        assert_eq!(departed.dying.len(), expected.len());
        for (dying, (index, reason)) in departed.dying.iter().zip(expected) {
            let known = self.live.get_mut(index).unwrap();
            known.state = State::Dying;
            let Arrival {
                body, size_bytes, ..
            } = known.arrival;
            let index = MessageIndex(*index);
            let expected = Dying {
                index,
                body,
                size_bytes,
                reason: *reason,
            };
            assert_eq!(*dying, expected);
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
            .settle(consumer, (first, count), outcome, self.now, &mut departed);
        assert_eq!(settled.is_ok(), all_held);
        if !all_held {
            return assert!(departed.is_empty());
        }
        let indexes: Vec<u64> = range.collect();
        match outcome {
            Outcome::Ack => {
                let released = departed.released.iter().map(|message| message.0.0);
                assert!(released.eq(indexes) && departed.dying.is_empty());
                self.leave(&departed.released);
            }
            Outcome::Discard => self.died(&indexes, Death::Rejected, &departed),
            Outcome::Requeue => self.given_back(&indexes, &departed),
        }
    }

    fn given_back(&mut self, indexes: &[u64], departed: &Departed) {
        let (limit, counts) = (
            self.settings.delivery_limit,
            self.settings.counts_deliveries,
        );
        let now = self.now;
        let mut dead = Vec::new();
        for index in indexes {
            let known = self.live.get_mut(index).unwrap();
            if limit.is_some_and(|limit| known.returns + 1 > limit) {
                dead.push((*index, Death::DeliveryLimit));
                continue;
            }
            // Once a limit made them count, they go on.
            if counts || limit.is_some() || self.queue.returns.is_some() {
                known.returns += 1;
            }
            if known.arrival.expires_at.is_some_and(|at| at <= now) {
                dead.push((*index, Death::Expired));
                continue;
            }
            known.state = State::Ready;
            known.returned_at = Some(self.return_next);
            self.return_next += 1;
        }
        self.died_each(&dead, departed);
    }

    fn requeue_all(&mut self, key: u32) {
        let mut held = self.held(key);
        if self.settings.priorities == Priorities::TwoToOne {
            held.sort_unstable_by_key(|index| self.live[index].handed_out_at);
        }
        let mut departed = Departed::default();
        let count = self
            .queue
            .requeue_all(ConsumerKey(key), self.now, &mut departed);
        assert_eq!(count as usize, held.len());
        self.astray.remove(&key);
        self.given_back(&held, &departed);
    }

    fn purge(&mut self) {
        let mut released = Vec::new();
        let count = self.queue.purge(&mut released);
        assert_eq!(count, released.len() as u64);
        self.leave(&released);
        let is_ready = |known: &Known| known.state == State::Ready;
        assert!(!self.live.values().any(is_ready));
    }

    fn expire(&mut self, millis: u64, limit: usize) {
        self.now = self.now.after_millis(millis);
        let now = self.now;
        let is_due = |known: &Known| {
            let is_over = known.arrival.expires_at.is_some_and(|at| at <= now);
            known.state == State::Ready && is_over
        };
        let due: Vec<u64> = self
            .live
            .iter()
            .filter(|(_, known)| is_due(known))
            .map(|(index, _)| *index)
            .collect();
        let mut departed = Departed::default();
        let count = self.queue.expire(now, limit, &mut departed);
        assert_eq!(count, due.len().min(limit), "as many as may and must");
        let dying = departed.dying.iter().map(|dying| dying.index.0);
        let released = departed.released.iter().map(|message| message.0.0);
        let gone: Vec<u64> = dying.chain(released).collect();
        assert!(gone.is_sorted(), "in the order of their places");
        assert!(gone.iter().all(|index| due.contains(index)));
        self.died(&gone, Death::Expired, &departed);
    }

    fn is_over(&self, count: usize, body_bytes: u64) -> bool {
        let (count_max, bytes_max) = (self.settings.max_length, self.settings.max_length_bytes);
        count_max.is_some_and(|max| count as u64 > max)
            || bytes_max.is_some_and(|max| body_bytes > max)
    }

    fn body_bytes(&self, indexes: &[u64]) -> u64 {
        let sizes = indexes
            .iter()
            .map(|index| self.live[index].arrival.body_size_bytes);
        sizes.map(u64::from).sum()
    }

    fn drop_head(&mut self) {
        let (takers, _) = self.takers();
        let mut departed = Departed::default();
        let count = self.queue.drop_head(usize::MAX, &mut departed);
        let mut dead = Vec::new();
        if self.settings.overflow == Overflow::DropHead && takers.is_empty() {
            let order = self.order();
            let mut kept = order.as_slice();
            while self.is_over(kept.len(), self.body_bytes(kept)) {
                dead.push(kept[0]);
                self.turn = self.turn_after(self.turn, self.level(&self.live[&kept[0]]));
                kept = &kept[1..];
            }
        }
        assert_eq!(count, dead.len());
        self.died(&dead, Death::MaxLength, &departed);
    }

    fn check_full(&self, order: &[u64]) {
        let (_, room) = self.takers();
        let kept = &order[room.min(order.len())..];
        for size_bytes in [0, 30] {
            let body_bytes = self.body_bytes(kept) + u64::from(size_bytes);
            let is_full = self.settings.overflow != Overflow::DropHead
                && self.is_over(kept.len() + 1, body_bytes);
            assert_eq!(self.queue.is_full_for(size_bytes), is_full);
        }
    }

    fn bury(&mut self, which: usize) {
        let dying = self
            .live
            .iter()
            .filter(|(_, known)| known.state == State::Dying);
        let dying: Vec<u64> = dying.map(|(index, _)| *index).collect();
        if dying.is_empty() {
            return;
        }
        let from = which % dying.len();
        for index in &dying[from..(from + 10).min(dying.len())] {
            let released = self.queue.bury(MessageIndex(*index));
            assert_eq!(released.0.0, *index);
            self.leave(&[released]);
        }
    }

    fn relocate(&mut self, which: usize) {
        let count = self.arrivals.len().max(1);
        let Some((index, arrival)) = self.arrivals.get_mut(which % count) else {
            return;
        };
        let (from, to) = (arrival.body, BodyRef(arrival.body.0 + 1));
        let known = self.live.get_mut(&index.0);
        assert_eq!(self.queue.relocate(*index, from, to), known.is_some());
        if let Some(known) = known {
            (known.arrival.body, arrival.body) = (to, to);
        }
    }

    // What survives.

    fn reserve(&mut self) {
        if let Some(upto) = self.queue.needs_reservation() {
            self.log(&QueueCommand::Reserved { upto });
            self.queue.reserve(upto);
            self.reserved = upto.0;
        }
        let next = self.first_in_order();
        assert!(
            self.consumers.is_empty() || next.is_none_or(|next| next < self.reserved),
            "who has consumers never waits for long"
        );
    }

    fn take_returned(&mut self) {
        let taken = self.queue.take_returned();
        let mut expected = Vec::new();
        for (index, known) in &mut self.live {
            if known.returns > known.returns_taken && self.durability == Durability::Durable {
                known.returns_taken = known.returns;
                expected.push((MessageIndex(*index), known.returns));
            }
        }
        assert_eq!(taken, expected);
        self.log(&QueueCommand::Returned { counts: taken });
    }

    // What must hold after every step.

    fn check(&mut self) {
        self.elect();
        self.queue.check_invariants();
        let order = self.order();
        let all_with = |state: fn(&State) -> bool| -> Vec<u64> {
            let all = self.live.iter();
            let some = all.filter(|(_, known)| state(&known.state));
            some.map(|(index, _)| *index).collect()
        };
        let held = all_with(|state| matches!(state, State::Held(_)));
        let dying = all_with(|state| matches!(state, State::Dying));
        let queue = &self.queue;
        assert_eq!(queue.ready_count(), order.len() as u64);
        assert_eq!(queue.unacked_count(), held.len() as u64);
        assert_eq!(queue.dying_count(), dying.len() as u64);
        assert_eq!(queue.message_count(), self.enqueued - self.removed);
        assert_eq!(queue.ready_body_bytes(), self.body_bytes(&order));
        assert_eq!(queue.unacked_body_bytes(), self.body_bytes(&held));
        let upcoming: Vec<u64> = queue.upcoming().map(|message| message.0.0).collect();
        assert_eq!(upcoming, order, "read-ahead knows the order of delivery");
        assert_eq!(queue.peek_next(), queue.upcoming().next());
        let live = queue.live_from(MessageIndex(0)).map(|message| message.0.0);
        assert!(live.eq(self.live.keys().copied()), "the same messages live");
        let keys = queue.consumer_keys().map(|key| key.0);
        assert!(keys.eq(self.consumers.keys().copied()));
        assert_eq!(queue.active_consumer().map(|key| key.0), self.active);
        self.check_full(&order);
        self.check_metas();
        let expiries = order
            .iter()
            .filter_map(|index| self.live[index].arrival.expires_at);
        assert_eq!(expiries.min(), self.queue.next_expiry());
    }

    fn check_metas(&self) {
        for (index, known) in &self.live {
            let is_raised = self.level(known) > 0;
            let was_raised = match self.settings.priorities {
                Priorities::None => false,
                Priorities::Strict(_) => is_raised,
                Priorities::TwoToOne => known.arrival.priority >= 5,
            };
            let expected = Arrival {
                priority: if was_raised {
                    known.arrival.priority
                } else {
                    0
                },
                ..known.arrival
            };
            let index = MessageIndex(*index);
            assert_eq!(self.queue.meta_of(index), expected.meta());
            let (body, size_bytes) = (expected.body, expected.size_bytes);
            assert_eq!(self.queue.message(index), Some((index, body, size_bytes)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_history_equals_the_model(
        (durability, settings) in settings(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(durability, settings);
        for step in &steps {
            world.run(step);
            world.check();
        }
    }
}
