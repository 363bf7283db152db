//! Which nodes are alive, watched once for all groups.
//!
//! Every node sends every other a heartbeat each [`LivenessConfig::heartbeat`], whatever else goes
//! there, and listens. How long a silence may be is learned for each peer from how
//! its words have arrived so far: the mean of the gaps and [`DEVIATIONS`] standard deviations, the
//! accrual detector of Hayashibara et al. with a fixed threshold (their φ of about 8 for
//! gaps that are normally distributed). The result is kept between a floor and a ceiling.
//!
//! Three things are added to it:
//! * **Time is counted in own life.** A tick that comes late means that this node stood still (a
//!   pause, a stopped disk, an overloaded machine), not that the others were silent. Of the time
//!   between two ticks no more than [`LivenessConfig::tick_gap_max`] counts. After a pause of any
//!   length nobody is accused before there was a chance to hear them.
//! * **A broken connection leaves an eighth of the patience**, down to a floor of its own.
//! * **A goodbye** ends it at once, until there is a connection again.
//!
//! What this cannot see is a peer that hears nobody, or a path that is broken in one direction:
//! that is for each group's own check of its majority.

use std::{collections::BTreeMap, collections::VecDeque, time::Duration};

use staunch_types::{NodeId, Timestamp};

/// Gaps that are remembered of each peer.
pub const GAPS_MAX: usize = 64;

/// Standard deviations beyond the mean that a silence may last.
pub const DEVIATIONS: u64 = 6;

/// By how much a broken connection shortens the silence that is held against a peer: it may have
/// been reset on the way, but mostly its process is gone.
const BROKEN_DIVISOR: u64 = 8;

/// A longer gap is remembered as one of this length.
const GAP_MICROS_MAX: u64 = 10_000_000;

/// Peers that are watched.
pub const PEERS_MAX: usize = 64;

/// Times of the detector.
#[derive(Clone, Copy, Debug)]
pub struct LivenessConfig {
    /// Between two heartbeats to a peer.
    pub heartbeat: Duration,
    /// The shortest silence that is held against a peer.
    pub silence_min: Duration,
    /// The same where the connection broke.
    pub silence_min_broken: Duration,
    /// The longest silence that is not.
    pub silence_max: Duration,
    /// How much of the time between two ticks counts.
    pub tick_gap_max: Duration,
}

impl Default for LivenessConfig {
    /// The figures of `docs/replication.md`.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(50),
            silence_min: Duration::from_millis(150),
            silence_min_broken: Duration::from_millis(20),
            silence_max: Duration::from_millis(600),
            tick_gap_max: Duration::from_millis(60),
        }
    }
}

/// What the detector wants done or has found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LivenessEvent {
    /// Tell this peer that we live.
    SendHeartbeat(NodeId),
    /// It was silent for too long, or said goodbye.
    Suspected(NodeId),
    /// It speaks again.
    Alive(NodeId),
}

/// See the module's description. Time is monotonic.
#[derive(Debug)]
pub struct Liveness {
    config: LivenessConfig,
    peers: BTreeMap<NodeId, Peer>,
    /// When the last tick was.
    ticked: Timestamp,
    /// How much time has counted, in microseconds.
    lived_micros: u64,
}

#[derive(Debug)]
struct Peer {
    /// In own life, microseconds.
    heard_micros: u64,
    /// The last arrival that ended a gap; arrivals in quick succession count as one.
    sampled_micros: u64,
    /// In own life, microseconds; heartbeats are due from it on.
    sent_micros: Option<u64>,
    gaps: VecDeque<u64>,
    gaps_sum: u64,
    gaps_squares_sum: u64,
    link: Link,
    is_suspected: bool,
    /// What the owner was told.
    reported_suspected: bool,
}

/// The connection with a peer, as far as it says something about the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// Up, or nothing is known.
    Up,
    /// It broke.
    Broken,
    /// The peer said that it stops; what still arrives was under way.
    Left,
}

impl Liveness {
    /// Watches `peers` from `now` on; a node that never speaks is suspected in time.
    ///
    /// # Panics
    /// With more than [`PEERS_MAX`] peers.
    #[must_use]
    pub fn new(
        peers: impl IntoIterator<Item = NodeId>,
        config: LivenessConfig,
        now: Timestamp,
    ) -> Self {
        let mut liveness = Self {
            config,
            peers: BTreeMap::new(),
            ticked: now,
            lived_micros: 0,
        };
        for peer in peers {
            liveness.watch(peer);
        }
        liveness
    }

    /// Watches one more peer.
    ///
    /// # Panics
    /// With more than [`PEERS_MAX`] peers.
    pub fn watch(&mut self, peer: NodeId) {
        let lived = self.lived_micros;
        self.peers.entry(peer).or_insert_with(|| Peer::new(lived));
        assert!(self.peers.len() <= PEERS_MAX, "too many peers");
    }

    /// Watches a peer no longer.
    pub fn forget(&mut self, peer: NodeId) {
        self.peers.remove(&peer);
    }

    /// Whether the peer is watched and not suspected.
    #[must_use]
    pub fn is_alive(&self, peer: NodeId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| !peer.is_suspected)
    }

    /// The silence after which the peer is suspected, as things are.
    #[must_use]
    pub fn patience(&self, peer: NodeId) -> Option<Duration> {
        let peer = self.peers.get(&peer)?;
        Some(Duration::from_micros(peer.patience_micros(&self.config)))
    }

    /// Anything arrived from the peer.
    pub fn heard(&mut self, peer: NodeId, now: Timestamp) {
        let lived = self.lived_at(now);
        let gap_min = micros(self.config.heartbeat) / 2;
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.heard(lived, gap_min);
        }
    }

    /// The connection with the peer broke.
    pub fn link_broken(&mut self, peer: NodeId) {
        let peer = self.peers.get_mut(&peer);
        if let Some(peer) = peer.filter(|peer| peer.link == Link::Up) {
            peer.link = Link::Broken;
        }
    }

    /// There is a connection with the peer.
    pub fn link_up(&mut self, peer: NodeId, now: Timestamp) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.link = Link::Up;
        }
        self.heard(peer, now);
    }

    /// The peer says that it stops.
    pub fn said_goodbye(&mut self, peer: NodeId) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.link = Link::Left;
            peer.is_suspected = true;
        }
    }

    /// Time passes; to be called at least every [`LivenessConfig::tick_gap_max`]. Each event is
    /// reported once.
    pub fn tick(&mut self, now: Timestamp) -> Vec<LivenessEvent> {
        self.lived_micros = self.lived_at(now);
        self.ticked = self.ticked.max(now);
        let lived = self.lived_micros;
        let heartbeat = micros(self.config.heartbeat);
        let mut events = Vec::new();
        for (&node, peer) in &mut self.peers {
            let silence = lived.saturating_sub(peer.heard_micros);
            if silence > peer.patience_micros(&self.config) {
                peer.is_suspected = true;
            }
            if peer.is_suspected != peer.reported_suspected {
                peer.reported_suspected = peer.is_suspected;
                events.push(if peer.is_suspected {
                    LivenessEvent::Suspected(node)
                } else {
                    LivenessEvent::Alive(node)
                });
            }
            let is_due = |sent: u64| lived.saturating_sub(sent) >= heartbeat;
            if peer.sent_micros.is_none_or(is_due) {
                peer.sent_micros = Some(lived);
                events.push(LivenessEvent::SendHeartbeat(node));
            }
        }
        events
    }

    /// When the next tick is due, if nothing happens before: a heartbeat is to be sent then, or a
    /// silence has become too long.
    #[must_use]
    pub fn next_tick(&self, now: Timestamp) -> Timestamp {
        let heartbeat = micros(self.config.heartbeat);
        let lived = self.lived_micros;
        let of_peer = |peer: &Peer| {
            let send = peer.sent_micros.map_or(lived, |sent| sent + heartbeat);
            let patience = peer.patience_micros(&self.config);
            let suspect = peer.heard_micros.saturating_add(patience).saturating_add(1);
            if peer.is_suspected {
                send
            } else {
                send.min(suspect)
            }
        };
        let due = self.peers.values().map(of_peer).min();
        let wait = due.map_or(heartbeat, |due| due.saturating_sub(lived));
        now + Duration::from_micros(wait.min(heartbeat))
    }

    /// Own life at `now`, without counting more than a tick may bring.
    fn lived_at(&self, now: Timestamp) -> u64 {
        let passed = now.since(self.ticked).min(self.config.tick_gap_max);
        self.lived_micros + micros(passed)
    }
}

impl Peer {
    fn new(lived: u64) -> Self {
        Self {
            heard_micros: lived,
            sampled_micros: lived,
            sent_micros: None,
            gaps: VecDeque::new(),
            gaps_sum: 0,
            gaps_squares_sum: 0,
            link: Link::Up,
            is_suspected: false,
            reported_suspected: false,
        }
    }

    fn heard(&mut self, lived: u64, gap_min: u64) {
        if self.link == Link::Left {
            return;
        }
        self.heard_micros = self.heard_micros.max(lived);
        let gap = lived.saturating_sub(self.sampled_micros);
        if self.is_suspected {
            // A silence that was held against the peer says nothing of how it speaks.
            self.is_suspected = false;
            self.sampled_micros = lived;
        } else if gap >= gap_min {
            self.sampled_micros = lived;
            self.remember(gap);
        }
    }

    fn remember(&mut self, gap: u64) {
        let gap = gap.min(GAP_MICROS_MAX);
        if self.gaps.len() == GAPS_MAX
            && let Some(oldest) = self.gaps.pop_front()
        {
            self.gaps_sum -= oldest;
            self.gaps_squares_sum -= oldest.pow(2);
        }
        self.gaps.push_back(gap);
        self.gaps_sum += gap;
        self.gaps_squares_sum += gap.pow(2);
    }

    fn patience_micros(&self, config: &LivenessConfig) -> u64 {
        let (floor, ceiling) = (micros(config.silence_min), micros(config.silence_max));
        let learned = self.learned_micros().clamp(floor, ceiling);
        if self.link == Link::Broken {
            (learned / BROKEN_DIVISOR).max(micros(config.silence_min_broken))
        } else {
            learned
        }
    }

    /// Mean and deviations of the gaps.
    fn learned_micros(&self) -> u64 {
        let count = self.gaps.len() as u64;
        if count == 0 {
            return u64::MAX;
        }
        let mean = self.gaps_sum / count;
        let variance = (self.gaps_squares_sum / count).saturating_sub(mean * mean);
        mean + DEVIATIONS * variance.isqrt()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
