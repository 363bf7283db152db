//! Who takes messages from a queue, and whose turn it is.
//!
//! Consumers that can take a message stand in a ring, one ring per priority. Whoever is served
//! goes to the back; whoever cannot take more is dropped when met, and stands at the back again
//! when it can. So a turn costs the same for one consumer and for ten thousand, of which most
//! wait for acks. A full one that no message has met keeps its place (RabbitMQ, classic queues);
//! in a quorum queue it loses it at once.
//!
//! Where only one consumer at a time is served (`x-single-active-consumer`) the others stand in
//! no ring: they cannot take anything. When the active one goes, the first of those with the
//! highest priority becomes active at once; what its predecessor holds stays with its channel. In
//! a quorum queue one with a higher priority also displaces an active one, which gets no more
//! messages and makes way when it has settled what it has; and so does one that its partition
//! does not prefer ([`spread`](super::spread)).

use std::cmp::Reverse;
use std::collections::VecDeque;

use staunch_types::ConsumerKey;

use super::indexes::Indexes;
use super::unacked::Unacked;
use super::{ConsumerSpec, Refused, spread};
use crate::settings::{PartitionPlace, Priorities, QueueSettings};

/// Most consumers on one queue.
pub const CONSUMERS_PER_QUEUE_MAX: usize = 65_536;

/// What someone who holds or takes messages is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// A consumer.
    Consumer(ConsumerSpec),
    /// Only holds what it has not settled: the side of a channel that gets, or a consumer that
    /// was removed.
    Holder,
}

/// Who is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Turns {
    /// Every consumer in turn.
    #[default]
    All,
    /// One, until it goes.
    One,
    /// One, until it goes or one with a higher priority comes.
    Highest,
    /// As `Highest`; of those with the highest priority the one that this partition prefers.
    Spread(PartitionPlace),
}

impl Turns {
    pub(super) fn of(settings: &QueueSettings) -> Self {
        if let Some(place) = settings.partition {
            return Self::Spread(place);
        }
        match (settings.single_active_consumer, settings.priorities) {
            (false, _) => Self::All,
            (true, Priorities::None | Priorities::Strict(_)) => Self::One,
            (true, Priorities::TwoToOne) => Self::Highest,
        }
    }
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) key: ConsumerKey,
    /// Place in the order of registration.
    serial: u64,
    role: Role,
    blocked: bool,
    /// It can take a message now.
    eligible: bool,
    /// It stands in the ring of its priority.
    in_ring: bool,
    pub(super) unacked: Unacked,
    /// What its client has and this queue has given to others or let go since: it counts until
    /// the client has settled it.
    pub(super) astray: Indexes,
    /// What it held when its prefetch was changed: it may hold that many on.
    held_max: u32,
}

impl Consumer {
    fn new(key: ConsumerKey, serial: u64, role: Role) -> Self {
        Self {
            key,
            serial,
            role,
            blocked: false,
            eligible: false,
            in_ring: false,
            unacked: Unacked::default(),
            astray: Indexes::default(),
            held_max: 0,
        }
    }

    /// None if it only holds.
    pub(super) fn spec(&self) -> Option<ConsumerSpec> {
        match self.role {
            Role::Consumer(spec) => Some(spec),
            Role::Holder => None,
        }
    }

    /// Deliveries that its client has not settled.
    pub(super) fn unsettled_count(&self) -> u32 {
        self.unacked.count() + self.astray.len()
    }

    fn is_no_ack(&self) -> bool {
        matches!(self.role, Role::Consumer(spec) if spec.no_ack)
    }

    /// Whether it would take a message if it were served.
    fn can_take(&self) -> bool {
        match self.role {
            Role::Consumer(spec) => {
                let limited = !spec.no_ack && spec.prefetch > 0;
                let full = limited && self.unsettled_count() >= u32::from(spec.prefetch);
                !self.blocked && !full
            }
            Role::Holder => false,
        }
    }

    /// Messages it could take at once.
    fn room(&self) -> u64 {
        match self.role {
            Role::Consumer(spec) if spec.no_ack || spec.prefetch == 0 => u64::MAX,
            Role::Consumer(spec) => {
                u64::from(u32::from(spec.prefetch).saturating_sub(self.unsettled_count()))
            }
            Role::Holder => 0,
        }
    }
}

/// The order in which consumers become active: highest priority, then preferred. Who ranks higher
/// displaces the active one, where that is done.
type Rank = (i32, bool);

/// Place of a consumer in the table.
pub(super) type Slot = u32;

#[derive(Debug, Default)]
pub(super) struct Consumers {
    slots: Vec<Option<Consumer>>,
    free: Vec<Slot>,
    /// Sorted by key.
    by_key: Vec<(ConsumerKey, Slot)>,
    /// By priority, highest first.
    rings: Vec<(i32, VecDeque<Slot>)>,
    consumer_count: u32,
    eligible_count: u32,
    exclusive: bool,
    turns: Turns,
    /// Who has become full keeps its place until a message meets it.
    full_keep_places: bool,
    /// The one that is served, unless all are.
    active: Option<Slot>,
    /// The active one gets no more: one with a higher rank waits for it to settle.
    is_displaced: bool,
    /// The one that is to be active, where consumers are spread over partitions.
    preferred: Option<Slot>,
    next_serial: u64,
}

impl Consumers {
    pub(super) fn boxed(turns: Turns, full_keep_places: bool) -> Box<Self> {
        Box::new(Self {
            turns,
            full_keep_places,
            ..Self::default()
        })
    }

    pub(super) fn add(&mut self, spec: ConsumerSpec) -> Result<(), Refused> {
        // A single active consumer has others behind it (RabbitMQ refuses this the same way).
        let is_contrary = spec.exclusive && self.turns != Turns::All;
        if self.exclusive || is_contrary || (spec.exclusive && self.consumer_count > 0) {
            return Err(Refused::ExclusiveUse);
        }
        if self.consumer_count as usize >= CONSUMERS_PER_QUEUE_MAX {
            return Err(Refused::TooManyConsumers);
        }
        assert!(
            self.find(spec.key).is_none(),
            "a key is reused only after its last settlement"
        );
        let slot = self.insert(spec.key, Role::Consumer(spec));
        self.consumer_count += 1;
        self.exclusive = spec.exclusive;
        self.spread();
        self.elect();
        self.refresh(slot);
        Ok(())
    }

    /// Ends a consumer; it stays as a holder while it holds something. False if there is none.
    pub(super) fn remove(&mut self, key: ConsumerKey) -> bool {
        let Some(slot) = self.find(key) else {
            return false;
        };
        let consumer = self.get_mut(slot);
        let Role::Consumer(spec) = consumer.role else {
            return false;
        };
        consumer.role = Role::Holder;
        consumer.in_ring = false;
        self.refresh(slot);
        if let Ok(at) = self.ring_place(spec.priority) {
            self.rings[at].1.retain(|&other| other != slot);
            let still_used = self.slots.iter().flatten().any(|consumer| {
                matches!(consumer.role, Role::Consumer(other) if other.priority == spec.priority)
            });
            if !still_used {
                self.rings.remove(at);
            }
        }
        self.consumer_count -= 1;
        self.exclusive = false;
        if self.active == Some(slot) {
            self.active = None;
        }
        self.spread();
        self.elect();
        self.drop_if_idle(slot);
        true
    }

    /// Someone who gets without consuming holds the message at `index`.
    pub(super) fn hold(&mut self, key: ConsumerKey, index: u64) {
        let slot = match self.find(key) {
            Some(slot) => slot,
            None => self.insert(key, Role::Holder),
        };
        self.get_mut(slot).unacked.push(index);
        self.refresh(slot);
    }

    /// As [`Consumers::hold`], for what it has held before, even if that is more than it may now.
    pub(super) fn claim(&mut self, key: ConsumerKey, index: u64) {
        self.hold(key, index);
        self.raise_held_max(key);
        self.reinstate(key);
    }

    /// As [`Consumers::claim`], for what the queue cannot let it have.
    pub(super) fn claim_astray(&mut self, key: ConsumerKey, index: u64) {
        let slot = match self.find(key) {
            Some(slot) => slot,
            None => self.insert(key, Role::Holder),
        };
        self.get_mut(slot).astray.insert(index);
        self.raise_held_max(key);
        self.refresh(slot);
    }

    fn raise_held_max(&mut self, key: ConsumerKey) {
        if let Some(slot) = self.find(key) {
            let consumer = self.get_mut(slot);
            consumer.held_max = consumer.held_max.max(consumer.unsettled_count());
        }
    }

    /// A consumer holds what it got from the leader before this one. So it was active there, and is
    /// so again, unless another has made the same claim: order is kept only if the next one waits
    /// until it has settled.
    fn reinstate(&mut self, key: ConsumerKey) {
        let Some(slot) = self.find(key) else {
            return;
        };
        let is_consumer = matches!(self.get(slot).role, Role::Consumer(_));
        let Some(active) = self.active.filter(|active| *active != slot && is_consumer) else {
            return;
        };
        if self.get(active).unsettled_count() == 0 {
            self.active = Some(slot);
            self.is_displaced = false;
            self.refresh(active);
            self.refresh(slot);
            self.elect();
        }
    }

    /// Its client has settled what was astray. False if that was not.
    pub(super) fn forget_astray(&mut self, key: ConsumerKey, index: u64) -> bool {
        let Some(slot) = self.find(key) else {
            return false;
        };
        let was_astray = self.get_mut(slot).astray.remove(index);
        if was_astray {
            self.settled(slot);
            self.drop_if_idle(slot);
        }
        was_astray
    }

    pub(super) fn set_blocked(&mut self, key: ConsumerKey, blocked: bool) {
        if let Some(slot) = self.find(key) {
            self.get_mut(slot).blocked = blocked;
            self.refresh(slot);
        }
    }

    /// Changes how much a consumer may hold from now on; what it holds stays with it.
    pub(super) fn set_prefetch(&mut self, key: ConsumerKey, prefetch: u16) {
        let Some(slot) = self.find(key) else {
            return;
        };
        let consumer = self.get_mut(slot);
        if let Role::Consumer(spec) = &mut consumer.role {
            spec.prefetch = prefetch;
            consumer.held_max = consumer.unsettled_count();
        }
        self.refresh(slot);
    }

    /// The message at `index` goes to the consumer whose turn it is: its key, and whether it
    /// takes without acks. None if nobody can take one.
    #[inline]
    pub(super) fn serve(&mut self, index: u64) -> Option<(ConsumerKey, bool)> {
        if self.eligible_count == 0 {
            return None;
        }
        for (_, ring) in &mut self.rings {
            while let Some(&slot) = ring.front() {
                let consumer = self.slots[slot as usize]
                    .as_mut()
                    .expect("the ring holds no ghosts");
                if !consumer.eligible {
                    consumer.in_ring = false;
                    ring.pop_front();
                    continue;
                }
                let no_ack = consumer.is_no_ack();
                if !no_ack {
                    consumer.unacked.push(index);
                }
                let is_full = !consumer.can_take();
                if is_full {
                    consumer.eligible = false;
                    self.eligible_count -= 1;
                }
                if is_full && !self.full_keep_places {
                    consumer.in_ring = false;
                    ring.pop_front();
                } else if ring.len() > 1 {
                    ring.rotate_left(1);
                }
                return Some((consumer.key, no_ack));
            }
        }
        unreachable!("an eligible consumer stands in its ring")
    }

    /// A message waits and nobody can take it: it has met all, and none keeps its place.
    pub(super) fn all_met(&mut self) {
        debug_assert_eq!(self.eligible_count, 0, "nobody can take one");
        for (_, ring) in &mut self.rings {
            for slot in ring.drain(..) {
                let consumer = self.slots[slot as usize].as_mut();
                consumer.expect("the ring holds no ghosts").in_ring = false;
            }
        }
    }

    /// Recomputes whether a consumer can take a message, after anything that bears on it.
    fn refresh(&mut self, slot: Slot) {
        let is_served = self.turns == Turns::All || self.serves(slot);
        let consumer = self.slots[slot as usize].as_mut().expect("a slot in use");
        let can_take = is_served && consumer.can_take();
        if can_take == consumer.eligible {
            return;
        }
        consumer.eligible = can_take;
        if !can_take {
            self.eligible_count -= 1;
            return;
        }
        self.eligible_count += 1;
        if !consumer.in_ring {
            consumer.in_ring = true;
            if let Role::Consumer(spec) = consumer.role {
                self.ring(spec.priority).push_back(slot);
            }
        }
    }

    /// After settlements of a consumer: it may have room, or make way for another.
    #[inline]
    pub(super) fn settled(&mut self, slot: Slot) {
        if self.is_displaced {
            self.elect();
        }
        self.refresh(slot);
    }

    /// The one consumer that is served, where not all are.
    pub(super) fn active(&self) -> Option<ConsumerKey> {
        self.active.map(|slot| self.get(slot).key)
    }

    /// Messages that consumers could take at once.
    pub(super) fn room(&self) -> u64 {
        if self.eligible_count == 0 {
            return 0;
        }
        let eligible = self.iter().filter(|consumer| consumer.eligible);
        eligible.fold(0, |room: u64, consumer| {
            room.saturating_add(consumer.room())
        })
    }

    fn serves(&self, slot: Slot) -> bool {
        match self.turns {
            Turns::All => true,
            Turns::One | Turns::Highest | Turns::Spread(_) => {
                self.active == Some(slot) && !self.is_displaced
            }
        }
    }

    /// None if it only holds.
    fn rank(&self, slot: Slot) -> Option<Rank> {
        let spec = self.get(slot).spec()?;
        Some((spec.priority, self.preferred == Some(slot)))
    }

    /// Decides whom a partition prefers, after somebody has come or gone.
    fn spread(&mut self) {
        let Turns::Spread(place) = self.turns else {
            return;
        };
        let specs = || self.iter().filter_map(Consumer::spec);
        let highest = specs().map(|spec| spec.priority).max();
        let is_highest = |spec: &ConsumerSpec| Some(spec.priority) == highest;
        let identities: Vec<_> = specs().filter(is_highest).map(|it| it.identity).collect();
        let chosen = spread::preferred(&identities, place);
        let is_chosen = |spec: ConsumerSpec| is_highest(&spec) && Some(spec.identity) == chosen;
        let slots = self.by_key.iter().map(|(_, slot)| *slot);
        let mut slots = slots.filter(|slot| self.get(*slot).spec().is_some_and(is_chosen));
        self.preferred = slots.next();
    }

    /// Decides who is active, where only one is.
    fn elect(&mut self) {
        let can_displace = match self.turns {
            Turns::All => return,
            Turns::One => false,
            Turns::Highest | Turns::Spread(_) => true,
        };
        if self.active.is_some() && !can_displace {
            return;
        }
        let waiting = self.by_key.iter().map(|(_, slot)| *slot);
        let highest = waiting
            .filter_map(|slot| Some((self.rank(slot)?, Reverse(self.get(slot).serial), slot)))
            .max()
            .map(|(rank, _, slot)| (rank, slot));
        let previous = self.active;
        let is_outranked = |(rank, _): (Rank, Slot)| {
            let active = previous.and_then(|active| self.rank(active));
            active.is_some_and(|active| active < rank)
        };
        self.is_displaced = highest.is_some_and(is_outranked);
        let is_idle = previous.is_none_or(|active| self.get(active).unsettled_count() == 0);
        if previous.is_none() || (self.is_displaced && is_idle) {
            self.active = highest.map(|(_, slot)| slot);
            self.is_displaced = false;
        }
        for slot in previous.into_iter().chain(self.active) {
            self.refresh(slot);
        }
    }

    /// Forgets a holder that holds nothing.
    pub(super) fn drop_if_idle(&mut self, slot: Slot) {
        let consumer = self.get(slot);
        if consumer.role != Role::Holder || consumer.unsettled_count() > 0 {
            return;
        }
        let place = self
            .by_key
            .binary_search_by_key(&consumer.key, |entry| entry.0);
        self.by_key
            .remove(place.expect("every consumer is found by its key"));
        self.slots[slot as usize] = None;
        self.free.push(slot);
    }

    pub(super) fn find(&self, key: ConsumerKey) -> Option<Slot> {
        let place = self
            .by_key
            .binary_search_by_key(&key, |entry| entry.0)
            .ok()?;
        Some(self.by_key[place].1)
    }

    pub(super) fn get(&self, slot: Slot) -> &Consumer {
        self.slots[slot as usize].as_ref().expect("a slot in use")
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut Consumer {
        self.slots[slot as usize].as_mut().expect("a slot in use")
    }

    pub(super) fn count(&self) -> u32 {
        self.consumer_count
    }

    pub(super) fn can_take(&self) -> bool {
        self.eligible_count > 0
    }

    /// Nobody consumes and nobody holds anything.
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Keys of consumers, ascending.
    pub(super) fn keys(&self) -> impl Iterator<Item = ConsumerKey> {
        self.by_key
            .iter()
            .filter(|(_, slot)| self.get(*slot).role != Role::Holder)
            .map(|(key, _)| *key)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let rings = self
            .rings
            .iter()
            .map(|ring| ring.1.capacity() * size_of::<Slot>());
        let unacked = self
            .slots
            .iter()
            .flatten()
            .map(|consumer| consumer.unacked.memory_bytes() + consumer.astray.memory_bytes());
        size_of::<Self>()
            + self.slots.capacity() * size_of::<Option<Consumer>>()
            + self.by_key.capacity() * size_of::<(ConsumerKey, Slot)>()
            + rings.sum::<usize>()
            + unacked.sum::<usize>()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.slots.iter().flatten()
    }

    pub(super) fn check_invariants(&self) {
        assert!(
            self.by_key.is_sorted_by(|a, b| a.0 < b.0),
            "keys are sorted and unique"
        );
        assert_eq!(self.by_key.len(), self.iter().count());
        let consuming = self.iter().filter(|consumer| consumer.role != Role::Holder);
        assert_eq!(consuming.count(), self.consumer_count as usize);
        let eligible = self.iter().filter(|consumer| consumer.eligible);
        assert_eq!(eligible.count(), self.eligible_count as usize);
        for consumer in self.iter() {
            let slot = self.find(consumer.key).expect("found by its key");
            assert_eq!(
                consumer.eligible,
                self.serves(slot) && consumer.can_take(),
                "eligibility is current"
            );
            assert!(
                !consumer.eligible || consumer.in_ring,
                "who can take stands in a ring"
            );
            if let Role::Consumer(spec) = consumer.role {
                let most = consumer.held_max.max(u32::from(spec.prefetch));
                let over = consumer.unsettled_count() > most;
                assert!(
                    spec.no_ack || spec.prefetch == 0 || !over,
                    "prefetch is never exceeded"
                );
            }
        }
        let standing: usize = self.rings.iter().map(|ring| ring.1.len()).sum();
        assert_eq!(
            standing,
            self.iter().filter(|consumer| consumer.in_ring).count()
        );
        assert!(
            self.rings.is_sorted_by(|a, b| a.0 > b.0),
            "rings go from the highest priority"
        );
        self.check_active();
    }

    fn check_active(&self) {
        let is_single = self.turns != Turns::All;
        assert_eq!(
            self.active.is_some(),
            is_single && self.consumer_count > 0,
            "where one is served there is one"
        );
        let Some(active) = self.active.map(|slot| self.get(slot)) else {
            return assert!(!self.is_displaced, "nobody to displace");
        };
        let slots = self.by_key.iter().map(|(_, slot)| *slot);
        let highest = slots.filter_map(|slot| self.rank(slot)).max();
        let is_outranked = highest > self.active.and_then(|active| self.rank(active));
        assert_eq!(
            self.is_displaced,
            is_outranked && self.turns != Turns::One,
            "it makes way only for a higher one"
        );
        assert!(
            !self.is_displaced || active.unsettled_count() > 0,
            "it makes way when it has settled all"
        );
    }

    fn insert(&mut self, key: ConsumerKey, role: Role) -> Slot {
        let consumer = Consumer::new(key, self.next_serial, role);
        self.next_serial += 1;
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(consumer);
            slot
        } else {
            self.slots.push(Some(consumer));
            Slot::try_from(self.slots.len() - 1).expect("the number of consumers is bounded")
        };
        let place = self.by_key.partition_point(|entry| entry.0 < key);
        self.by_key.insert(place, (key, slot));
        slot
    }

    fn ring(&mut self, priority: i32) -> &mut VecDeque<Slot> {
        let at = self.ring_place(priority).unwrap_or_else(|at| {
            self.rings.insert(at, (priority, VecDeque::new()));
            at
        });
        &mut self.rings[at].1
    }

    fn ring_place(&self, priority: i32) -> Result<usize, usize> {
        self.rings.binary_search_by(|ring| priority.cmp(&ring.0))
    }
}
