use super::*;

const PEER: NodeId = NodeId(2);

/// A watcher, its peer and a clock.
struct Pair {
    liveness: Liveness,
    now: Timestamp,
}

impl Pair {
    fn new() -> Self {
        let now = Timestamp(1_000_000_000);
        Self {
            liveness: Liveness::new([PEER], LivenessConfig::default(), now),
            now,
        }
    }

    /// Ticks every 10 ms for so long; the peer speaks at the gaps that are given, over and over.
    fn run(&mut self, millis: u64, gaps_millis: &[u64]) -> Vec<LivenessEvent> {
        let mut events = Vec::new();
        let mut gaps = gaps_millis.iter().cycle();
        let mut next = gaps.next().copied();
        for millisecond in 1..=millis {
            self.now = self.now + Duration::from_millis(1);
            if next == Some(millisecond) {
                self.liveness.heard(PEER, self.now);
                next = gaps.next().map(|gap| millisecond + gap);
            }
            if millisecond % 10 == 0 {
                events.extend(self.tick());
            }
        }
        events
    }

    /// What it found out; heartbeats left out.
    fn tick(&mut self) -> Vec<LivenessEvent> {
        let events = self.liveness.tick(self.now).into_iter();
        events
            .filter(|event| !matches!(event, LivenessEvent::SendHeartbeat(_)))
            .collect()
    }

    /// Milliseconds of silence until the peer is suspected.
    fn silence(&mut self) -> u64 {
        for millis in (10..5_000).step_by(10) {
            if self.run(10, &[]) == [LivenessEvent::Suspected(PEER)] {
                return millis;
            }
        }
        panic!("never suspected");
    }
}

#[test]
fn a_regular_peer_is_suspected_after_the_floor() {
    let mut pair = Pair::new();
    assert_eq!(pair.run(3_000, &[50]), []);
    let silence = pair.silence();
    assert!((150..=170).contains(&silence), "{silence}");
    assert!(!pair.liveness.is_alive(PEER));
}

#[test]
fn an_irregular_peer_is_given_more_time() {
    let mut pair = Pair::new();
    assert_eq!(pair.run(6_000, &[20, 140, 50, 30, 120]), []);
    pair.liveness.heard(PEER, pair.now);
    let silence = pair.silence();
    assert!((200..=600).contains(&silence), "{silence}");
    // And nobody more than the ceiling.
    let mut pair = Pair::new();
    pair.run(20_000, &[10, 550]);
    pair.liveness.heard(PEER, pair.now);
    let silence = pair.silence();
    assert!((590..=620).contains(&silence), "{silence}");
}

#[test]
fn a_flood_of_messages_does_not_make_impatient() {
    let mut pair = Pair::new();
    pair.run(2_000, &[1]);
    assert_eq!(pair.run(2_000, &[60]), []);
}

#[test]
fn a_broken_connection_leaves_little_patience() {
    let mut pair = Pair::new();
    pair.run(3_000, &[50]);
    pair.liveness.link_broken(PEER);
    let floor = LivenessConfig::default().silence_min_broken;
    assert_eq!(pair.liveness.patience(PEER), Some(floor));
    let silence = pair.silence();
    assert!((10..=50).contains(&silence), "{silence}");
}

#[test]
fn a_broken_connection_of_a_peer_that_speaks_irregularly_leaves_an_eighth() {
    let mut pair = Pair::new();
    pair.run(6_000, &[20, 180]);
    let patience = pair.liveness.patience(PEER).unwrap();
    pair.liveness.link_broken(PEER);
    assert_eq!(pair.liveness.patience(PEER), Some(patience / 8));
}

#[test]
fn a_goodbye_counts_at_once_and_until_there_is_a_connection() {
    let mut pair = Pair::new();
    pair.run(1_000, &[50]);
    pair.liveness.said_goodbye(PEER);
    assert_eq!(pair.tick(), [LivenessEvent::Suspected(PEER)]);
    // What was under way when it left.
    assert_eq!(pair.run(200, &[20]), []);
    pair.liveness.link_up(PEER, pair.now);
    assert_eq!(pair.tick(), [LivenessEvent::Alive(PEER)]);
}

#[test]
fn who_speaks_again_is_alive() {
    let mut pair = Pair::new();
    pair.run(1_000, &[50]);
    pair.silence();
    assert_eq!(pair.run(100, &[50]), [LivenessEvent::Alive(PEER)]);
    assert!(pair.liveness.is_alive(PEER));
    // The long silence is not taken for its way of speaking.
    pair.run(3_000, &[50]);
    assert!(pair.silence() <= 170);
}

#[test]
fn a_pause_of_ones_own_is_not_held_against_others() {
    let mut pair = Pair::new();
    pair.run(1_000, &[50]);
    pair.now = pair.now + Duration::from_secs(30);
    assert_eq!(pair.tick(), []);
    assert_eq!(pair.run(1_000, &[20, 50]), []);
    // Many short ones neither, while the peer speaks at every chance.
    for _ in 0..100 {
        pair.now = pair.now + Duration::from_millis(300);
        assert_eq!(pair.tick(), []);
        pair.liveness.heard(PEER, pair.now);
    }
}

#[test]
fn a_stalling_observer_still_finds_out() {
    let mut pair = Pair::new();
    pair.run(1_000, &[50]);
    let found = (0..10).any(|_| {
        pair.now = pair.now + Duration::from_millis(300);
        !pair.tick().is_empty()
    });
    assert!(found);
}

#[test]
fn a_node_that_never_speaks_is_suspected() {
    let mut pair = Pair::new();
    let silence = pair.silence();
    assert!((600..=620).contains(&silence), "{silence}");
}

#[test]
fn heartbeats_are_sent_in_time() {
    let mut pair = Pair::new();
    let mut beats = 0;
    for _ in 0..100 {
        pair.now = pair.now + Duration::from_millis(10);
        let events = pair.liveness.tick(pair.now);
        beats += events.len();
        pair.liveness.heard(PEER, pair.now);
    }
    assert_eq!(beats, 20);
}
