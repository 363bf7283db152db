//! Clients on all nodes publish to two queues, one on all nodes and one on the first, and consume
//! from them, while nodes die and links break.
//! What they are promised holds: what is confirmed is delivered (contract C1), nothing enters twice
//! (C10), what was never delivered is not called new twice (C8), and what was settled before a
//! channel closed does not come back (C9).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use staunch_log::Disk;
use staunch_node::{AdminAnswer, AdminRequest};
use staunch_types::{
    Event, FieldTable, MessageIndex, Outcome, QueueId, Reply, Request,
    field_table::TableBuilder,
    request::{Consume, Settle},
};

use crate::{
    client::{CHANNEL, Client, bind, declare_queue, name, publish, queue},
    definitions::{assert_agreed, assert_declared},
    world::World,
};

const NODES: usize = 3;
const STEPS: usize = 300;

/// Numbers that look random (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn is(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A delivery that is not settled.
#[derive(Clone)]
struct Held {
    body: String,
    settle: Settle,
}

#[derive(Default)]
struct Consumer {
    client: Option<Client>,
    held: Vec<Held>,
    /// Acked on the channel that is open.
    acked: Vec<(QueueId, String)>,
    is_closing: bool,
}

#[derive(Default)]
struct Publisher {
    client: Option<Client>,
    /// Bodies by their numbers on the channel, not confirmed.
    open: BTreeMap<u64, String>,
    next: u64,
}

struct Turmoil {
    world: World,
    dice: Dice,
    publishers: Vec<Publisher>,
    consumers: Vec<Consumer>,
    published: u64,
    confirmed: BTreeSet<String>,
    /// The index of each body that was delivered, by queue.
    delivered: BTreeMap<(QueueId, String), MessageIndex>,
    /// What was delivered and not called redelivered.
    new: BTreeSet<(QueueId, String)>,
    /// Never to come again.
    settled: BTreeSet<(QueueId, String)>,
    /// Whether disks are damaged.
    is_harmful: bool,
    /// The node whose disk was damaged last, as long as it may not be repaired.
    harmed: Option<usize>,
    harm_count: u64,
}

fn consume(queue: &str) -> Request {
    Request::Consume(Consume {
        channel: CHANNEL,
        queue: name(queue),
        tag: name(queue),
        no_ack: false,
        exclusive: false,
        prefetch: 5,
        arguments: FieldTable::default(),
    })
}

impl Turmoil {
    fn new(seed: u64) -> Self {
        let mut world = World::new(NODES);
        let client = Client::connect(&mut world, 1);
        let mut classic = queue(&["durable"]);
        classic.arguments = TableBuilder::new()
            .longstr("x-queue-type", "classic")
            .build();
        for (name, options) in [("all", queue(&["durable"])), ("first", classic)] {
            assert_declared(&client.ask(&mut world, declare_queue(name, options)));
            drop(client.ask(&mut world, bind("amq.fanout", name, "")));
        }
        assert_agreed(&mut world);
        Self {
            world,
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            publishers: (0..NODES).map(|_| Publisher::default()).collect(),
            consumers: (0..NODES).map(|_| Consumer::default()).collect(),
            published: 0,
            confirmed: BTreeSet::new(),
            delivered: BTreeMap::new(),
            new: BTreeSet::new(),
            settled: BTreeSet::new(),
            is_harmful: false,
            harmed: None,
            harm_count: 0,
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            let millis = 1 + self.dice.below(15);
            self.world.run(Duration::from_millis(millis));
            if self.dice.is(4) {
                self.fail();
            }
            for at in 0..NODES {
                self.step_publisher(at);
                self.step_consumer(at);
            }
        }
    }

    /// Something breaks, or is mended.
    fn fail(&mut self) {
        let node = 1 + usize::try_from(self.dice.below(NODES as u64)).unwrap();
        let other = 1 + node % NODES;
        let stopped: Vec<_> = (self.world.numbers())
            .filter(|number| self.world.machine(*number).is_none())
            .collect();
        match self.dice.below(5) {
            0 if stopped.is_empty() => {
                self.world.kill(node);
                self.forget(node);
            }
            1 if stopped.is_empty() => {
                let seed = self.dice.below(1000);
                self.world.crash(node, seed);
                self.forget(node);
            }
            2 => self.world.cut(node, other),
            3 => self.world.mend(),
            _ => {
                for number in stopped {
                    self.harm(number);
                    self.world.start(number);
                }
                self.world.mend();
            }
        }
    }

    /// Turns a bit around in the header of one of a stopped node's files, if no other node has to
    /// be repaired. The first node keeps a queue that nobody else has.
    fn harm(&mut self, number: usize) {
        if !self.is_harmful || number == 1 || !self.dice.is(60) {
            return;
        }
        if let Some(harmed) = self.harmed {
            let is_well =
                self.world.machine(harmed).is_some() && is_repaired(&mut self.world, harmed);
            if harmed != number && !is_well {
                return;
            }
        }
        let disk = self.world.disk(number);
        let mut names = disk.list().unwrap();
        let kinds = ["young", "segment", "checkpoint"];
        names.retain(|name| kinds.iter().any(|kind| name.starts_with(kind)) && !name.contains('.'));
        if names.is_empty() {
            return;
        }
        let at = usize::try_from(self.dice.below(names.len() as u64)).unwrap();
        disk.flip_bit(&names[at], self.dice.below(64 * 8));
        self.harmed = Some(number);
        self.harm_count += 1;
    }

    /// The clients of a node that has died are gone.
    fn forget(&mut self, node: usize) {
        self.publishers[node - 1] = Publisher::default();
        self.consumers[node - 1] = Consumer::default();
    }

    fn step_publisher(&mut self, at: usize) {
        if self.world.machine(at + 1).is_none() {
            return;
        }
        let publisher = &mut self.publishers[at];
        let Some(client) = publisher.client else {
            publisher.client = Some(Client::begin_to_connect(&mut self.world, at + 1));
            publisher.next = 1;
            return;
        };
        self.hear_publisher(at, client);
        if self.dice.is(60) {
            let body = format!("m{}", self.published);
            self.published += 1;
            let publisher = &mut self.publishers[at];
            let request = publish("amq.fanout", "", &body, Some(publisher.next));
            publisher.open.insert(publisher.next, body);
            publisher.next += 1;
            client.send(&mut self.world, request);
        }
    }

    fn hear_publisher(&mut self, at: usize, client: Client) {
        let publisher = &mut self.publishers[at];
        for event in client.heard(&mut self.world) {
            match event {
                Event::Confirmed { first, last, .. } => {
                    for number in first.0..=last.0 {
                        let body = publisher.open.remove(&number);
                        self.confirmed.insert(body.expect("it is answered once"));
                    }
                }
                Event::Nacked { first, last, .. } => {
                    for number in first.0..=last.0 {
                        publisher.open.remove(&number).expect("it is answered once");
                    }
                }
                _ => {}
            }
        }
    }

    fn step_consumer(&mut self, at: usize) {
        if self.world.machine(at + 1).is_none() {
            return;
        }
        let Some(client) = self.consumers[at].client else {
            let client = Client::begin_to_connect(&mut self.world, at + 1);
            self.consume_all(client);
            self.consumers[at].client = Some(client);
            return;
        };
        for event in client.heard(&mut self.world) {
            self.hear(at, client, event);
        }
        self.settle_some(at, client);
        if self.dice.is(3) && self.consumers[at].client.is_some() {
            self.close_channel(at, client);
        }
    }

    fn close_channel(&mut self, at: usize, client: Client) {
        let channel = CHANNEL;
        if !std::mem::replace(&mut self.consumers[at].is_closing, true) {
            client.send(&mut self.world, Request::CloseChannel { channel });
        }
    }

    /// A connection has one request at a time: what is asked last is heard of first in a test that
    /// does not wait, so it waits a little.
    fn consume_all(&mut self, client: Client) {
        for queue in ["all", "first"] {
            client.send(&mut self.world, consume(queue));
            self.world.run(Duration::from_millis(20));
        }
    }

    fn hear(&mut self, at: usize, client: Client, event: Event) {
        match event {
            Event::Delivery(delivery) => {
                let body = String::from_utf8(delivery.message.body().to_vec()).unwrap();
                let key = (delivery.queue, body.clone());
                let is_final = self.settled.contains(&key);
                assert!(!is_final, "{body} was settled before a channel closed");
                // Who is heard first here was not told first.
                if !delivery.redelivered {
                    assert!(self.new.insert(key.clone()), "{key:?} is new twice");
                }
                let before = self.delivered.insert(key, delivery.index);
                let is_same = before.is_none_or(|before| before == delivery.index);
                assert!(is_same, "{body} is in the queue twice");
                let (channel, consumer) = (delivery.channel, delivery.consumer);
                let settle = Settle {
                    channel,
                    consumer,
                    queue: delivery.queue,
                    first: delivery.index,
                    count: 1,
                    outcome: Outcome::Ack,
                };
                self.consumers[at].held.push(Held { body, settle });
            }
            Event::ChannelClosed { .. } => {
                let consumer = &mut self.consumers[at];
                self.settled.extend(consumer.acked.drain(..));
                consumer.held.clear();
                consumer.is_closing = false;
                let channel = CHANNEL;
                client.send(&mut self.world, Request::OpenChannel { channel });
                self.consume_all(client);
            }
            Event::Forced { .. } => {
                client.send(&mut self.world, Request::CloseConnection);
                self.consumers[at] = Consumer::default();
            }
            Event::Reply {
                reply: Reply::Consuming { .. },
                ..
            }
            | Event::ChannelOpened { .. } => {}
            // A queue's node is away: it consumes again on another channel.
            Event::Refused { .. } | Event::ConsumerCancelled { .. } => {
                self.close_channel(at, client);
            }
            event => assert!(
                matches!(event, Event::LoginAccepted { .. } | Event::VhostOpened),
                "{event:?}"
            ),
        }
    }

    fn settle_some(&mut self, at: usize, client: Client) {
        let consumer = &mut self.consumers[at];
        if consumer.is_closing || consumer.client.is_none() {
            return;
        }
        for held in std::mem::take(&mut consumer.held) {
            if self.dice.is(50) {
                consumer.held.push(held);
                continue;
            }
            let mut settle = held.settle;
            if self.dice.is(15) {
                settle.outcome = Outcome::Requeue;
            } else {
                consumer.acked.push((held.settle.queue, held.body));
            }
            client.send(&mut self.world, Request::Settle(settle));
        }
    }

    /// All is mended; what is left is consumed.
    fn finish(&mut self) {
        for number in self.world.numbers() {
            if self.world.machine(number).is_none() {
                self.world.start(number);
            }
        }
        self.world.mend();
        self.world.run(Duration::from_secs(40));
        for at in 0..NODES {
            if let Some(client) = self.publishers[at].client {
                self.hear_publisher(at, client);
            }
        }
        for at in 0..NODES {
            if let Some(client) = self.consumers[at].client.take() {
                for event in client.heard(&mut self.world) {
                    self.hear(at, client, event);
                }
                client.send(&mut self.world, Request::CloseConnection);
            }
            let client = Client::connect(&mut self.world, at + 1);
            self.consumers[at] = Consumer::default();
            self.consumers[at].client = Some(client);
            self.consume_all(client);
        }
        let mut quiet = 0;
        while quiet < 20 {
            self.world.run(Duration::from_millis(100));
            let before = self.delivered.len();
            for at in 0..NODES {
                let Some(client) = self.consumers[at].client else {
                    self.step_consumer(at);
                    continue;
                };
                for event in client.heard(&mut self.world) {
                    self.hear(at, client, event);
                }
                let consumer = &mut self.consumers[at];
                for held in std::mem::take(&mut consumer.held) {
                    if !consumer.is_closing {
                        client.send(&mut self.world, Request::Settle(held.settle));
                    }
                }
            }
            quiet = if self.delivered.len() == before {
                quiet + 1
            } else {
                0
            };
        }
        let mut open = self.publishers.iter().flat_map(|publisher| &publisher.open);
        let unanswered = open.next();
        assert_eq!(unanswered, None, "all is answered in the end");
        let queues: BTreeSet<_> = self.delivered.keys().map(|(queue, _)| *queue).collect();
        assert_eq!(queues.len(), 2);
        for queue in queues {
            for body in &self.confirmed {
                let key = (queue, body.clone());
                let is_there = self.delivered.contains_key(&key);
                assert!(is_there, "confirmed and lost: {key:?}");
            }
        }
        assert!(self.confirmed.len() > 20, "something was confirmed");
        self.world.check_invariants();
    }
}

/// Whether a node has all that it had lost.
fn is_repaired(world: &mut World, number: usize) -> bool {
    let answer = world.ask(number, AdminRequest::ClusterStatus);
    let AdminAnswer::Cluster(Some(status)) = answer else {
        panic!("{answer:?}");
    };
    let own = status.nodes.iter().find(|node| node.name == status.me);
    own.is_some_and(|own| own.repairing_count == 0)
}

#[test]
fn promises_hold_if_disks_are_damaged_as_well() {
    let seeds: u64 = std::env::var("TURMOIL_SEEDS").map_or(12, |it| it.parse().unwrap());
    let from: u64 = std::env::var("TURMOIL_FROM").map_or(1, |it| it.parse().unwrap());
    let mut harm_count = 0;
    for seed in from..from + seeds {
        println!("seed {seed}");
        let mut turmoil = Turmoil::new(seed);
        turmoil.is_harmful = true;
        turmoil.run();
        turmoil.finish();
        for number in turmoil.world.numbers() {
            assert!(is_repaired(&mut turmoil.world, number), "node {number}");
        }
        harm_count += turmoil.harm_count;
    }
    assert!(harm_count > seeds / 2, "{harm_count}");
}

#[test]
fn promises_hold_whatever_fails() {
    let seeds: u64 = std::env::var("TURMOIL_SEEDS").map_or(12, |it| it.parse().unwrap());
    let from: u64 = std::env::var("TURMOIL_FROM").map_or(1, |it| it.parse().unwrap());
    for seed in from..from + seeds {
        println!("seed {seed}");
        let mut turmoil = Turmoil::new(seed);
        turmoil.run();
        turmoil.finish();
    }
}
