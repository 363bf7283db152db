//! What is damaged on the disk of one node is repaired from the others, while clients go on: what
//! was confirmed is there in the end, in order and unharmed, also on that node.

use std::{collections::VecDeque, fmt::Write, time::Duration};

use staunch_log::{Disk, MemoryDisk, Note};
use staunch_node::{AdminAnswer, AdminRequest};

use crate::{
    client::{Client, publish, queue},
    definitions::assert_agreed,
    edges::{declare, got, quorum, server, wait_for_answers},
    leaders::set_drained,
    world::World,
};

/// Bytes of a message's body, so that a few hundred fill files.
const SIZE_BYTES: usize = 4096;

/// What befalls a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// A bit of its header is turned around.
    Header,
    /// A bit somewhere inside.
    Inside,
    /// A page of zeros inside.
    ZeroPage,
    /// It ends in its middle.
    Truncate,
    /// It is gone.
    Remove,
    /// It is what another file of its kind, or it itself, was before.
    Stale,
}

const HARMS: [Harm; 6] = [
    Harm::Header,
    Harm::Inside,
    Harm::ZeroPage,
    Harm::Truncate,
    Harm::Remove,
    Harm::Stale,
];

/// The first file whose name begins so.
fn file(disk: &MemoryDisk, prefix: &str) -> Option<String> {
    let names = disk.list().unwrap();
    let is_one = |name: &String| name.starts_with(prefix) && !name.ends_with(".damaged");
    names.into_iter().find(is_one)
}

fn do_harm(disk: &MemoryDisk, name: &str, harm: Harm, stale: &[u8]) {
    let mut content = disk.file(name);
    let middle = content.len() / 2;
    match harm {
        Harm::Header => content[10] ^= 1,
        Harm::Inside if name.starts_with("segment") => {
            // In its footer: bodies are looked at when they are read.
            let at = content.len() - 100;
            content[at] ^= 4;
        }
        Harm::Inside => content[700] ^= 4,
        Harm::ZeroPage => {
            let end = content.len();
            let from = if name.starts_with("young") {
                4096
            } else {
                end.saturating_sub(4096)
            };
            content[from..end.min(from + 4096)].fill(0);
        }
        Harm::Truncate => content.truncate(middle),
        Harm::Remove => return disk.remove(name).unwrap(),
        Harm::Stale => content = stale.to_vec(),
    }
    disk.put_file(name, &content);
}

/// A cluster with one queue on all nodes, and what must be in it.
struct Scene {
    world: World,
    expected: VecDeque<u64>,
    published: u64,
}

impl Scene {
    fn new() -> Self {
        let mut world = World::with(3, |config| {
            config.log.young_files_max = 1;
            config.log.retired_files_max = 1;
            config.log.cache_size_bytes = 0;
            config.memory_limit_size_bytes = 16 * 1024 * 1024;
        });
        let client = Client::connect(&mut world, 1);
        declare(&mut world, client, "q", quorum());
        Self {
            world,
            expected: VecDeque::new(),
            published: 0,
        }
    }

    /// A client of a node publishes, and waits until all is confirmed.
    fn publish(&mut self, node: usize, count: u64) {
        let client = Client::connect(&mut self.world, node);
        let mut open = 0;
        for seq in 1..=count {
            self.published += 1;
            let body = format!("{:0SIZE_BYTES$}", self.published);
            client.send(&mut self.world, publish("", "q", &body, Some(seq)));
            self.expected.push_back(self.published);
            open += 1;
            if open == 50 || seq == count {
                let refused = wait_for_answers(&mut self.world, client, open);
                assert_eq!(refused, [0_u64; 0]);
                open = 0;
            }
        }
    }

    /// A client of a node gets the first messages.
    fn consume(&mut self, node: usize, count: usize) {
        let client = Client::connect(&mut self.world, node);
        for _ in 0..count {
            let wanted = self.expected.pop_front().unwrap();
            let (body, _) = got(&mut self.world, client, "q").expect("it was confirmed");
            assert_eq!(body.len(), SIZE_BYTES);
            assert_eq!(body.trim_start_matches('0'), wanted.to_string());
        }
    }

    /// Replicas that are repaired, as each node counts its own.
    fn repairing_count(&mut self) -> usize {
        let mut sum = 0;
        for number in self.world.running() {
            let answer = self.world.ask(number, AdminRequest::ClusterStatus);
            let AdminAnswer::Cluster(Some(status)) = answer else {
                panic!("{answer:?}");
            };
            let own = status.nodes.iter().find(|it| it.name == status.me);
            // One that has forgotten who it was is not among them before it is told.
            sum += own.map_or(1, |own| own.repairing_count);
        }
        sum
    }

    fn wait_until_well(&mut self) {
        let mut left = 600;
        while self.repairing_count() > 0 || !self.is_level() {
            left -= 1;
            assert!(left > 0, "not repaired: {}", self.describe());
            self.world.run(Duration::from_millis(100));
        }
        assert_agreed(&mut self.world);
        self.world.check_invariants();
    }

    fn describe(&mut self) -> String {
        let mut text = String::new();
        for number in self.world.running() {
            let status = self.world.ask(number, AdminRequest::ClusterStatus);
            let request = AdminRequest::QueueReplicas {
                vhost: crate::client::name("/"),
                name: crate::client::name("q"),
            };
            let replicas = self.world.ask(number, request);
            writeln!(text, "{number}: {status:?} {replicas:?}").unwrap();
        }
        text
    }

    fn is_level(&mut self) -> bool {
        let leader = server(&mut self.world, "q");
        let request = AdminRequest::QueueReplicas {
            vhost: crate::client::name("/"),
            name: crate::client::name("q"),
        };
        let AdminAnswer::Replicas(Some(replicas)) = self.world.ask(leader, request) else {
            return false;
        };
        let replicas = replicas.replicas;
        replicas.len() == 3 && replicas.iter().all(|it| it.is_up && it.behind == Some(0))
    }

    /// Has a node lead the queue.
    fn make_leader(&mut self, node: usize) {
        for other in self.world.numbers() {
            set_drained(&mut self.world, other, other != node);
        }
        let mut left = 200;
        while server(&mut self.world, "q") != node {
            left -= 1;
            assert!(left > 0, "node {node} does not lead");
            self.world.run(Duration::from_millis(100));
        }
    }
}

/// One file of this kind is harmed in each way, on one node after the other.
fn all_harms(prefix: &str) {
    let mut scene = Scene::new();
    scene.publish(1, 600);
    let mut given_up = 0;
    for (round, harm) in HARMS.into_iter().enumerate() {
        let node = 1 + round % 3;
        let other = 1 + (round + 1) % 3;
        scene.publish(other, 100);
        scene.wait_until_well();
        let disk = scene.world.disk(node).clone();
        let stale = file(&disk, prefix).map(|name| disk.file(&name));
        let stale = stale.expect("there is such a file");
        scene.publish(other, 400);
        scene.consume(other, 350);
        scene.world.run(Duration::from_secs(5));
        scene.world.crash(node, round as u64);
        let name = file(&disk, prefix).expect("there is such a file");
        do_harm(&disk, &name, harm, &stale);
        // The others go on.
        scene.publish(other, 30);
        scene.world.start(node);
        let notes = &scene.world.machine(node).unwrap().notes;
        let is_note = |note: &Note| matches!(note, Note::LogGivenUp(_) | Note::SegmentLost(_));
        let repairs = scene.world.machine(node).unwrap().repairs;
        let is_noticed = notes.iter().any(is_note) || repairs > 0;
        given_up += usize::from(is_noticed);
        scene.publish(other, 30);
        scene.consume(other, 20);
        scene.wait_until_well();
        let left: Vec<_> = disk.list().unwrap();
        assert!(is_noticed || !left.iter().any(|it| it.ends_with(".damaged")));
    }
    assert!(given_up >= HARMS.len() - 1, "harm is noticed: {given_up}");
    for node in 1..=3 {
        scene.make_leader(node);
        let count = scene.expected.len() / 2;
        scene.consume(node, count);
    }
    let rest = scene.expected.len();
    scene.consume(1, rest);
    let client = Client::connect(&mut scene.world, 1);
    assert_eq!(got(&mut scene.world, client, "q"), None);
    for number in 1..=3 {
        let left = scene.world.disk(number).list().unwrap();
        assert!(
            !left.iter().any(|name| name.ends_with(".damaged")),
            "{left:?}"
        );
    }
}

#[test]
fn a_damaged_young_file_is_repaired() {
    all_harms("young");
}

#[test]
fn a_damaged_checkpoint_is_repaired() {
    all_harms("checkpoint");
}

#[test]
fn a_damaged_segment_is_repaired() {
    all_harms("segment");
}

/// The offset of the first body in a segment.
const FIRST_BODY: u64 = 64 + 40 + 64;

#[test]
fn a_body_that_rots_while_its_node_runs_is_never_delivered() {
    for victim_leads in [true, false] {
        let mut scene = Scene::new();
        scene.publish(1, 800);
        scene.world.run(Duration::from_secs(5));
        scene.wait_until_well();
        let leader = server(&mut scene.world, "q");
        let victim = if victim_leads { leader } else { 1 + leader % 3 };
        let disk = scene.world.disk(victim).clone();
        let names = disk.list().unwrap();
        let mut harmed = 0;
        for name in names.iter().filter(|name| name.starts_with("segment")) {
            disk.flip_bit(name, 8 * FIRST_BODY + 3);
            harmed += 1;
        }
        assert!(harmed > 0);
        // Compaction on a follower reads some of it as well.
        scene.consume(1 + victim % 3, 500);
        scene.publish(1, 200);
        scene.world.run(Duration::from_secs(10));
        if victim_leads {
            let found = &scene.world.machine(victim).unwrap().damage;
            assert!(!found.is_empty(), "the leader has read it");
        }
        scene.wait_until_well();
        scene.make_leader(victim);
        let rest = scene.expected.len();
        scene.consume(victim, rest);
        scene.world.check_invariants();
    }
}

#[test]
fn a_node_that_forgot_everything_does_not_decide_anything() {
    let mut scene = Scene::new();
    scene.publish(1, 100);
    scene.wait_until_well();
    let disk = scene.world.disk(3).clone();
    scene.world.isolate(2);
    // These are on the first and the third node.
    let node = 1;
    scene.publish(node, 20);
    scene.world.kill(3);
    let name = file(&disk, "young").unwrap();
    do_harm(&disk, &name, Harm::Header, &[]);
    scene.world.kill(1);
    scene.world.mend();
    scene.world.start(3);
    scene.world.run(Duration::from_secs(30));
    for node in [2, 3] {
        let leader = scene.world.node(node).catalog_leader();
        assert_eq!(leader, None, "a majority is damaged or gone");
    }
    scene.world.start(1);
    scene.wait_until_well();
    let rest = scene.expected.len();
    scene.consume(3, rest);
}

#[test]
fn what_only_one_node_has_is_not_lost_in_silence() {
    use staunch_types::field_table::TableBuilder;
    let mut scene = Scene::new();
    let client = Client::connect(&mut scene.world, 2);
    let mut classic = queue(&["durable"]);
    classic.arguments = TableBuilder::new()
        .longstr("x-queue-type", "classic")
        .build();
    declare(&mut scene.world, client, "here", classic);
    scene.publish(1, 10);
    scene.world.run(Duration::from_secs(2));
    scene.world.kill(2);
    let disk = scene.world.disk(2).clone();
    let name = file(&disk, "young").unwrap();
    do_harm(&disk, &name, Harm::Header, &[]);
    scene.world.start(2);
    scene.world.run(Duration::from_secs(5));
    let machine = scene.world.machine(2).unwrap();
    assert_eq!(machine.lost, Some(crate::client::name("here")));
}

#[test]
fn two_of_three_go_on_if_one_of_them_lacks_the_whole_queue() {
    let mut scene = Scene::new();
    scene.publish(1, 20);
    scene.wait_until_well();
    scene.world.kill(3);
    scene.publish(1, 800);
    scene.consume(1, 400);
    scene.world.run(Duration::from_secs(5));
    scene.world.kill(2);
    scene.world.kill(1);
    // The one that has everything does not have the entries any more that the other lacks, and
    // nothing of its own term is agreed on without that one.
    scene.world.start(1);
    scene.world.start(3);
    scene.publish(1, 10);
    let rest = scene.expected.len();
    scene.consume(3, rest);
    scene.world.check_invariants();
}

#[test]
fn a_log_that_was_begun_anew_does_not_pass_for_a_new_one_without_its_checkpoint() {
    let mut scene = Scene::new();
    scene.publish(1, 100);
    scene.wait_until_well();
    let disk = scene.world.disk(3).clone();
    for prefix in ["young", "checkpoint"] {
        scene.world.kill(3);
        let name = file(&disk, prefix).unwrap();
        let harm = if prefix == "young" {
            Harm::Header
        } else {
            Harm::Remove
        };
        do_harm(&disk, &name, harm, &[]);
        scene.publish(1, 20);
        scene.world.start(3);
        let notes = &scene.world.machine(3).unwrap().notes;
        let is_noticed = |note: &Note| matches!(note, Note::LogGivenUp(_));
        assert!(notes.iter().any(is_noticed), "{prefix}: {notes:?}");
        scene.wait_until_well();
    }
    scene.make_leader(3);
    let rest = scene.expected.len();
    scene.consume(3, rest);
}
