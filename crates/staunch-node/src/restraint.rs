//! Slows the publishers of queues that would not hold out for as long as their policy asks for
//! (`horizon-slo`, `docs/horizon.md`).
//!
//! Of a queue with an objective it is counted what each session publishes to it. About once a
//! second a [`Controller`] for each of its limits says how much may come in altogether; who sends
//! least is served first, and the others share the rest evenly (max-min fairness). Each session has
//! a credit for the queue, which its messages use up: when it is gone, its connection is not read
//! until there is some again. A batch may use more than there is; the next credit pays for it. So
//! nobody is refused anything, nothing is lost, and who publishes elsewhere notices nothing.
//!
//! What comes in from other nodes and as dead letters is counted and not slowed. Queues without an
//! objective cost a publish one comparison.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use staunch_horizon::{Controller, Pressure, TimeLeft};
use staunch_types::{ConnectionId, Event, QueueId, Timestamp};

use crate::{node::Node, queues::QueueSlot, session::SessionSlot};

/// How often rates are measured and allowances set.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often credit is given.
const CREDIT_EVERY: Duration = Duration::from_millis(50);

/// Credit that may gather, as a share of what is given in a second.
const CREDIT_SHARE_MAX: f64 = 0.25;

/// Sessions of a queue that are told apart; what others publish is not slowed.
const PUBLISHERS_MAX: usize = 10_000;

/// Who sends less than this share of what everybody may is not at the limit.
const AT_EASE_SHARE: f64 = 0.9;

/// What is slowed by: messages and bytes of their bodies.
const UNITS: usize = 2;

/// Queues with an objective to which somebody has published.
#[derive(Debug, Default)]
pub(crate) struct Restraints {
    queues: BTreeMap<QueueId, Restraint>,
    /// When somebody gets credit next.
    next_at: Timestamp,
    /// Publishers that wait for credit.
    held_count: usize,
}

/// A queue with an objective.
#[derive(Debug)]
struct Restraint {
    objective_millis: u64,
    /// For its limits on messages and bytes.
    controllers: [Controller; UNITS],
    /// What had come in when it was looked at last.
    arrived: [u64; UNITS],
    looked_at: Timestamp,
    credited_at: Timestamp,
    /// What its horizon says: the lower bound of the time without consumers.
    foreseen: TimeLeft,
    /// The shortest time without consumers, as it was looked at last.
    time_left: TimeLeft,
    /// What each session may send in a second, while that is limited.
    fair: [Option<f64>; UNITS],
    publishers: BTreeMap<SessionSlot, Publisher>,
}

/// A session that publishes to the queue.
#[derive(Debug)]
struct Publisher {
    connection: ConnectionId,
    /// Since the queue was looked at last.
    sent: [f64; UNITS],
    credit: [f64; UNITS],
    /// It waits for credit.
    is_held: bool,
    /// Its client knows.
    is_told: bool,
}

impl Restraint {
    fn new(objective_millis: u64, slot: &QueueSlot, now: Timestamp) -> Self {
        let controller = Controller::new(objective_millis, millis(now));
        Self {
            objective_millis,
            controllers: [controller.clone(), controller],
            arrived: arrived(slot),
            looked_at: now,
            credited_at: now,
            foreseen: TimeLeft::Never,
            time_left: TimeLeft::Never,
            fair: [None; UNITS],
            publishers: BTreeMap::new(),
        }
    }

    /// Measures what came in since it was last looked at, and sets what may come in from now on.
    fn look(&mut self, slot: &QueueSlot, now: Timestamp) {
        let seconds = now.since(self.looked_at).as_secs_f64();
        let arrived = arrived(slot);
        self.time_left = self.foreseen;
        for (unit, left) in left(slot).into_iter().enumerate() {
            let Some(left) = left else {
                self.fair[unit] = None;
                continue;
            };
            let rate = real(arrived[unit].saturating_sub(self.arrived[unit])) / seconds;
            let sent = self.publishers.values().map(|it| it.sent[unit]);
            let contributed = sent.sum::<f64>() / seconds;
            let stress_low = self.foreseen.min(TimeLeft::at_rate(left, rate));
            self.time_left = self.time_left.min(stress_low);
            let pressure = Pressure {
                left,
                stress_low,
                rate,
                contributed,
            };
            let allowance = self.controllers[unit].update(millis(now), pressure);
            self.fair[unit] =
                allowance.map(|allowance| self.fair_share(allowance.per_second, unit, seconds));
        }
        for publisher in self.publishers.values_mut() {
            publisher.sent = [0.0; UNITS];
        }
        (self.arrived, self.looked_at) = (arrived, now);
    }

    /// What each session may send so that all of them together send no more than `total`: those
    /// that send less than that leave the rest to the others.
    fn fair_share(&self, total: f64, unit: usize, seconds: f64) -> f64 {
        let before = self.fair[unit].unwrap_or(f64::INFINITY);
        let demand = |publisher: &Publisher| {
            let rate = publisher.sent[unit] / seconds;
            if publisher.is_held || rate > before * AT_EASE_SHARE {
                f64::INFINITY
            } else {
                rate
            }
        };
        let mut demands: Vec<f64> = self.publishers.values().map(demand).collect();
        demands.sort_by(f64::total_cmp);
        let mut left = total;
        for (served, demand) in demands.iter().enumerate() {
            let share = left / real((demands.len() - served) as u64);
            if *demand >= share {
                return share;
            }
            left -= demand;
        }
        // All are served: none of them may take more than there is beside the others.
        left + demands.last().copied().unwrap_or(0.0)
    }

    fn is_active(&self) -> bool {
        self.fair.iter().any(Option::is_some)
    }

    /// Gives credit for the time since it was given last. Returns who need not wait any more.
    fn give_credit(&mut self, now: Timestamp) -> Vec<(SessionSlot, ConnectionId)> {
        let seconds = now.since(self.credited_at).as_secs_f64();
        self.credited_at = now;
        let fair = self.fair;
        let mut relieved = Vec::new();
        for (slot, publisher) in &mut self.publishers {
            for (credit, fair) in publisher.credit.iter_mut().zip(fair) {
                // Nothing is owed for what was not limited.
                *credit = fair.map_or(0.0, |fair| {
                    (*credit + fair * seconds).min((fair * CREDIT_SHARE_MAX).max(1.0))
                });
            }
            if publisher.is_held && publisher.has_credit(&fair) {
                publisher.is_held = false;
                relieved.push((*slot, publisher.connection));
            }
        }
        relieved
    }

    /// Why publishers are slowed, and what can be done about it.
    fn reason(&self, slot: &QueueSlot) -> String {
        let objective = self.objective_millis.div_ceil(1_000);
        let time = match self.time_left {
            TimeLeft::Millis(left) => format!("in {} s", left / 1_000),
            TimeLeft::Never => "some time".to_owned(),
        };
        format!(
            "slowed: queue '{}' is full {time} without consumers, horizon-slo asks for {objective} s; \
             add consumers, raise its limit or publish less",
            slot.name
        )
    }
}

impl Publisher {
    fn has_credit(&self, fair: &[Option<f64>; UNITS]) -> bool {
        let mut units = self.credit.iter().zip(fair);
        units.all(|(credit, fair)| fair.is_none() || *credit > 0.0)
    }
}

impl Node {
    /// What horizons say of queues with an objective: the lower bound of the time without
    /// consumers.
    pub(crate) fn hear_horizons(&mut self, horizons: Vec<(QueueId, TimeLeft)>) {
        for (id, foreseen) in horizons {
            if let Some(restraint) = self.restraints.queues.get_mut(&id) {
                restraint.foreseen = foreseen;
            }
        }
    }

    /// A session has published a message to queues with an objective.
    #[cold]
    pub(crate) fn charge(&mut self, session: SessionSlot, queues: &[QueueId], body_bytes: u32) {
        let known = self.sessions.get(session);
        let known = known.filter(|known| known.shadow_of.is_none());
        let Some(connection) = known.map(|known| known.id) else {
            return;
        };
        for id in queues {
            self.charge_for(session, connection, *id, body_bytes);
        }
    }

    fn charge_for(
        &mut self,
        session: SessionSlot,
        connection: ConnectionId,
        id: QueueId,
        body_bytes: u32,
    ) {
        let now = self.now;
        let Some(slot) = self.queues.get_mut(id) else {
            return;
        };
        let Some(objective) = slot.settings.horizon_slo_millis else {
            return;
        };
        let queues = &mut self.restraints.queues;
        let restraint = queues
            .entry(id)
            .or_insert_with(|| Restraint::new(objective, slot, now));
        let has_room = restraint.publishers.len() < PUBLISHERS_MAX;
        let fresh = Publisher {
            connection,
            sent: [0.0; UNITS],
            credit: restraint
                .fair
                .map(|fair| fair.unwrap_or(0.0) * CREDIT_SHARE_MAX),
            is_held: false,
            is_told: false,
        };
        let publisher = match restraint.publishers.entry(session) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) if has_room => free.insert(fresh),
            Entry::Vacant(_) => return,
        };
        for (unit, cost) in [1.0, f64::from(body_bytes)].into_iter().enumerate() {
            publisher.sent[unit] += cost;
            publisher.credit[unit] -= cost;
        }
        if publisher.is_held || publisher.has_credit(&restraint.fair) {
            return;
        }
        publisher.is_held = true;
        let is_told = std::mem::replace(&mut publisher.is_told, true);
        let reason = (!is_told).then(|| restraint.reason(slot).into_boxed_str());
        self.restraints.held_count += 1;
        self.hold_session(session);
        if reason.is_some() {
            self.sessions.push(session, Event::Slowed { reason });
        }
    }

    /// Looks at queues with an objective when it is time, and gives credit.
    pub(crate) fn advance_restraints(&mut self, now: Timestamp) {
        if self.restraints.queues.is_empty() || now < self.restraints.next_at {
            return;
        }
        self.restraints.next_at = now + CREDIT_EVERY;
        let ids: Vec<QueueId> = self.restraints.queues.keys().copied().collect();
        for id in ids {
            self.advance_restraint(id, now);
        }
    }

    fn advance_restraint(&mut self, id: QueueId, now: Timestamp) {
        let Some(mut restraint) = self.restraints.queues.remove(&id) else {
            return;
        };
        let slot = self.queues.get(id).filter(|slot| slot.is_served_here());
        let objective = slot.and_then(|slot| slot.settings.horizon_slo_millis);
        let is_wanted = objective == Some(restraint.objective_millis);
        if is_wanted && now.since(restraint.looked_at) >= LOOK_EVERY {
            self.forget_gone(&mut restraint);
            if let Some(slot) = self.queues.get(id) {
                restraint.look(slot, now);
            }
        }
        let is_active = is_wanted && restraint.is_active();
        if let Some(slot) = self.queues.get_mut(id)
            && slot.is_slowed != is_active
        {
            slot.is_slowed = is_active;
            self.ledger.queue_moves(slot);
        }
        let is_quiet = restraint.publishers.is_empty();
        if !is_active && restraint.looked_at == now || !is_wanted {
            self.let_all_go(&mut restraint);
        }
        let relieved = restraint.give_credit(now);
        self.restraints.held_count -= relieved.len();
        for (session, connection) in relieved {
            self.relieve_publisher(session, connection);
        }
        // Of a queue to which nobody publishes there is nothing to remember.
        if is_active || is_wanted && !is_quiet {
            self.restraints.queues.insert(id, restraint);
        }
    }

    /// When somebody who waits for credit gets some.
    pub(crate) fn restraint_timeout(&self) -> Option<Timestamp> {
        (self.restraints.held_count > 0).then_some(self.restraints.next_at)
    }

    /// Forgets sessions that are over.
    fn forget_gone(&mut self, restraint: &mut Restraint) {
        restraint.publishers.retain(|slot, publisher| {
            let session = self.sessions.get(*slot);
            let is_there = session.is_some_and(|session| session.id == publisher.connection);
            self.restraints.held_count -= usize::from(!is_there && publisher.is_held);
            is_there
        });
    }

    /// From now on everybody may send what he likes.
    fn let_all_go(&mut self, restraint: &mut Restraint) {
        for (slot, publisher) in std::mem::take(&mut restraint.publishers) {
            if publisher.is_held {
                self.restraints.held_count -= 1;
                self.relieve_publisher(slot, publisher.connection);
            }
            let session = self.sessions.get(slot);
            let is_there = session.is_some_and(|session| session.id == publisher.connection);
            if publisher.is_told && is_there {
                self.sessions.push(slot, Event::Slowed { reason: None });
            }
        }
    }
}

/// Messages and bytes of bodies that have come in.
fn arrived(slot: &QueueSlot) -> [u64; UNITS] {
    [slot.queue.arrived_count(), slot.queue.arrived_body_bytes()]
}

/// What is left of its limits on both; none where there is none.
fn left(slot: &QueueSlot) -> [Option<u64>; UNITS] {
    let settings = &slot.settings;
    let held = [slot.queue.ready_count(), slot.queue.ready_body_bytes()];
    let limits = [settings.max_length, settings.max_length_bytes];
    std::array::from_fn(|unit| Some(limits[unit]?.saturating_sub(held[unit])))
}

fn millis(now: Timestamp) -> u64 {
    now.0 / 1_000_000
}

#[expect(
    clippy::cast_precision_loss,
    reason = "beyond 2^53 the last digits of a count do not matter"
)]
fn real(count: u64) -> f64 {
    count as f64
}
