//! Definitions on nodes that are killed, lose power and are cut off, as a seed decides: what was
//! answered is there in the end, on all nodes, and nothing else is anywhere.

use std::{collections::BTreeSet, time::Duration};

use staunch_types::{ConnectionId, Event, Refusal, Reply};

use crate::{
    client::{Client, declare_queue, delete_queue, queue},
    definitions::assert_agreed,
    world::World,
};

/// Runs in `cargo test`; more with `DEFINITION_SEEDS`.
const SEEDS: u64 = 12;
const STEPS: usize = 150;

/// `SplitMix64`.
struct Random(u64);

impl Random {
    /// At least 0, less than `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % end as u64).unwrap()
    }
}

/// What a client waits for.
struct Asked {
    client: Client,
    queue: String,
    is_deletion: bool,
}

struct Chaos {
    world: World,
    random: Random,
    asked: Vec<Asked>,
    queue_count: usize,
    /// Declared and answered; deletions were not answered, if there were any.
    there: BTreeSet<String>,
    /// Deleted and answered.
    gone: BTreeSet<String>,
    /// Of these nobody knows: their deletion was asked for.
    in_doubt: BTreeSet<String>,
    answered: usize,
}

impl Chaos {
    fn step(&mut self) {
        let running = self.world.running();
        let pick = self.random.below(running.len());
        let node = running[pick];
        match self.random.below(20) {
            0..10 if self.world.node(node).is_ready() => self.ask(node),
            10 if running.len() > 1 => {
                if self.random.below(2) == 0 {
                    self.world.kill(node);
                } else {
                    let seed = self.random.below(1 << 20) as u64;
                    self.world.crash(node, seed);
                }
                self.asked.retain(|asked| asked.client.node != node);
            }
            11..14 => {
                let down = self.world.numbers().find(|it| !running.contains(it));
                if let Some(down) = down {
                    self.world.start(down);
                }
            }
            14 => {
                let other = 1 + self.random.below(3);
                if other != node {
                    self.world.cut(node, other);
                }
            }
            15 => self.world.isolate(node),
            16..18 => self.world.mend(),
            _ => {}
        }
        let pause = self.random.below(300) as u64;
        self.world.run(Duration::from_millis(pause));
        self.look();
    }

    fn ask(&mut self, node: usize) {
        let client = Client::begin_to_connect(&mut self.world, node);
        let is_deletion = self.random.below(3) == 0 && !self.there.is_empty();
        let queue_name = if is_deletion {
            let pick = self.random.below(self.there.len());
            let victim = self.there.iter().nth(pick).unwrap().clone();
            self.there.remove(&victim);
            self.in_doubt.insert(victim.clone());
            client.send(&mut self.world, delete_queue(&victim));
            victim
        } else {
            self.queue_count += 1;
            let wanted = format!("q{}", self.queue_count);
            let options = queue(&["durable"]);
            client.send(&mut self.world, declare_queue(&wanted, options));
            wanted
        };
        self.asked.push(Asked {
            client,
            queue: queue_name,
            is_deletion,
        });
    }

    /// Notes what was answered.
    fn look(&mut self) {
        let mut answers: Vec<(ConnectionId, bool)> = Vec::new();
        for node in self.world.running() {
            for (id, event) in &self.world.machine(node).unwrap().events {
                match event {
                    Event::Reply {
                        reply: Reply::QueueDeclared { .. } | Reply::QueueDeleted { .. },
                        ..
                    } => answers.push((*id, true)),
                    Event::Refused { refusal, .. } => {
                        let is_no_majority = matches!(&**refusal, Refusal::Precondition(text)
                            if text.starts_with("no majority"));
                        assert!(is_no_majority, "{refusal}");
                        answers.push((*id, false));
                    }
                    _ => {}
                }
            }
            self.world.machine_mut(node).unwrap().events.clear();
        }
        for (id, is_good) in answers {
            let at = self.asked.iter().position(|asked| asked.client.id == id);
            let asked = self.asked.swap_remove(at.expect("it was asked"));
            if !is_good {
                continue;
            }
            self.answered += 1;
            if asked.is_deletion {
                self.in_doubt.remove(&asked.queue);
                self.gone.insert(asked.queue);
            } else {
                self.there.insert(asked.queue);
            }
        }
    }

    fn finish(&mut self) {
        for number in self.world.numbers() {
            if self.world.machine(number).is_none() {
                self.world.start(number);
            }
        }
        self.world.mend();
        self.world.run(Duration::from_secs(10));
        self.look();
        assert_agreed(&mut self.world);
        for node in 1..=3 {
            let names = self.world.queue_names(node);
            for queue in &self.there {
                assert!(names.contains(queue), "{queue} was declared and is gone");
            }
            for queue in &self.gone {
                assert!(!names.contains(queue), "{queue} was deleted and is back");
            }
        }
    }
}

#[test]
fn what_was_answered_is_there_in_the_end() {
    let seeds = std::env::var("DEFINITION_SEEDS").map_or(SEEDS, |text| {
        text.parse().expect("DEFINITION_SEEDS is a number")
    });
    let mut answered = 0;
    for seed in 0..seeds {
        println!("seed {seed}");
        let mut chaos = Chaos {
            world: World::new(3),
            random: Random(seed),
            asked: Vec::new(),
            queue_count: 0,
            there: BTreeSet::new(),
            gone: BTreeSet::new(),
            in_doubt: BTreeSet::new(),
            answered: 0,
        };
        for _ in 0..STEPS {
            chaos.step();
        }
        chaos.finish();
        answered += chaos.answered;
    }
    assert!(answered as u64 > 10 * seeds, "{answered}");
}
