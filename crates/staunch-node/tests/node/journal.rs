//! Clients that remember what they were promised, and hold the node to it.
//!
//! Every message has a text of its own, `m1`, `m2`, … in the order of publishing, so that order,
//! loss, duplicates and resurrection can be read off what is delivered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use staunch_node::NodeConfig;
use staunch_types::{Delivery, Event, Reply};

use crate::script::{Script, body_of};

/// Queues that clients use; all but the last are durable.
const QUEUES: [&str; 4] = ["d", "e", "f", "t"];
/// Connections that clients use.
const CLIENTS: [&str; 3] = ["a", "b", "c"];

/// One step of a client or of the world: which, and three numbers that say how.
pub(crate) type Step = (u8, u8, u8, u8);

/// Clients, their world, and what they know.
pub(crate) struct Journal {
    pub(crate) script: Script,
    channels: BTreeMap<&'static str, Channel>,
    /// The connection each client uses: a new one while the last is closing.
    connections: BTreeMap<&'static str, String>,
    channel_next: u16,
    connection_next: u32,
    consumer_next: u32,
    message_next: u32,
    messages: BTreeMap<String, Published>,
    /// By connection and number.
    unconfirmed: BTreeMap<(u64, u16, u64), String>,
    /// Settled on a channel that has been told to close, by connection and channel.
    settling: BTreeMap<(u64, u16), Vec<String>>,
    /// Purged or deleted, by the requests on a channel; certain when their answers come.
    removing: BTreeMap<(u64, u16), VecDeque<Vec<String>>>,
    /// Events of the script that have been read.
    heard: usize,
    /// Everything so far, for a test that fails.
    transcript: Vec<String>,
    pub(crate) jobs: usize,
}

struct Channel {
    number: u16,
    seq: u64,
    is_refused: bool,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Published {
    queue: &'static str,
    is_confirmed: bool,
    is_returned: bool,
    was_delivered: bool,
    /// A client has done something that makes it go, sooner or later.
    may_be_gone: bool,
    /// The node has promised that it is gone.
    is_gone: bool,
}

impl Journal {
    pub(crate) fn new(config: NodeConfig) -> Self {
        let mut journal = Self {
            script: Script::new(config),
            channels: BTreeMap::new(),
            connections: BTreeMap::new(),
            channel_next: 1,
            connection_next: 1,
            consumer_next: 1,
            message_next: 1,
            messages: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            settling: BTreeMap::new(),
            removing: BTreeMap::new(),
            heard: 0,
            transcript: Vec::new(),
            jobs: 0,
        };
        journal.line("manual");
        journal
    }

    /// Runs a line of script, and reads what the clients were told.
    fn line(&mut self, line: &str) {
        self.transcript.push(line.to_owned());
        let told = self.script.line(line);
        self.transcript
            .extend(told.iter().map(|told| format!("> {told}")));
        for at in self.heard..self.script.heard.len() {
            let (id, event) = self.script.heard[at].clone();
            self.hear(id, &event);
        }
        self.heard = self.script.heard.len();
        self.script.world.node.check_invariants();
    }

    fn hear(&mut self, id: u64, event: &Event) {
        match event {
            Event::Confirmed {
                channel,
                first,
                last,
            } => {
                for seq in first.0..=last.0 {
                    let body = self.unconfirmed.remove(&(id, channel.0, seq));
                    let body = body.expect("a publish is confirmed once");
                    self.messages.get_mut(&body).unwrap().is_confirmed = true;
                }
            }
            Event::Returned { message, .. } => {
                let body = body_of(message);
                self.messages.get_mut(&body).unwrap().is_returned = true;
            }
            Event::Delivery(delivery) => self.take(delivery),
            Event::Reply {
                reply: Reply::Got { delivery, .. },
                ..
            } => self.take(delivery),
            Event::ChannelClosed { channel } => {
                let settled = self.settling.remove(&(id, channel.0)).unwrap_or_default();
                self.bury(&settled);
            }
            Event::ConnectionClosed => {
                let all = self
                    .settling
                    .extract_if((id, 0)..=(id, u16::MAX), |_, _| true);
                let settled: Vec<_> = all.flat_map(|(_, settled)| settled).collect();
                self.bury(&settled);
            }
            Event::Reply {
                channel,
                reply: Reply::QueuePurged { .. } | Reply::QueueDeleted { .. },
            } => {
                let asked = self.removing.get_mut(&(id, channel.0));
                let removed = asked
                    .and_then(VecDeque::pop_front)
                    .expect("it was asked for");
                self.bury(&removed);
            }
            Event::Refused { channel, .. } => {
                if let Some(open) = self.channels.values_mut().find(|it| it.number == channel.0) {
                    open.is_refused = true;
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, delivery: &Delivery) {
        let body = body_of(&delivery.message);
        let message = self
            .messages
            .get_mut(&body)
            .expect("only what was published is delivered");
        assert!(!message.is_gone, "{body} was promised to be gone");
        assert!(
            delivery.redelivered || !message.was_delivered,
            "{body} was delivered before"
        );
        message.was_delivered = true;
        message.may_be_gone |= delivery.settled;
    }

    fn bury(&mut self, bodies: &[String]) {
        for body in bodies {
            self.messages.get_mut(body).unwrap().is_gone = true;
        }
    }

    /// A client's open channel, opened if need be.
    fn channel(&mut self, who: &'static str) -> u16 {
        if self
            .channels
            .get(who)
            .is_some_and(|channel| channel.is_refused)
        {
            self.close_channel(who);
        }
        if let Some(open) = self.channels.get(who) {
            return open.number;
        }
        if !self.connections.contains_key(who) {
            let connection = format!("{who}{}", self.connection_next);
            self.connection_next += 1;
            self.line(&format!("{connection} connect"));
            self.connections.insert(who, connection);
        }
        let number = self.channel_next;
        self.channel_next += 1;
        self.channels.insert(
            who,
            Channel {
                number,
                seq: 1,
                is_refused: false,
            },
        );
        self.line(&format!("{} open {number}", self.connections[who]));
        number
    }

    fn close_channel(&mut self, who: &'static str) {
        if let Some(open) = self.channels.remove(who) {
            self.say(who, open.number, "close");
        }
    }

    pub(crate) fn step(&mut self, (kind, a, b, c): Step) {
        let who = CLIENTS[usize::from(a) % CLIENTS.len()];
        let queue = QUEUES[usize::from(b) % QUEUES.len()];
        match kind % 32 {
            0..=7 => self.publish(who, queue, u32::from(c % 24) + 1),
            8 | 9 => self.consume(who, queue, c),
            10..=15 => self.settle(who, b, c),
            16 => {
                let no_ack = if c.is_multiple_of(2) { " no-ack" } else { "" };
                self.ask(who, &format!("get {queue}{no_ack}"));
            }
            17 if c < 128 => self.cancel(who, b),
            17 => self.remove(who, queue, "purge"),
            18 if c < 64 => self.remove(who, queue, "delete-queue"),
            18 | 19 => {
                let durable = if queue == "t" { "" } else { " durable" };
                self.ask(who, &format!("queue {queue}{durable}"));
            }
            20 if c < 128 => self.close_channel(who),
            20 => {
                if let Some(connection) = self.connections.remove(who) {
                    self.channels.remove(who);
                    self.line(&format!("{connection} close"));
                }
            }
            21 if c < 128 => self.ask(who, &format!("limit {}", b % 8)),
            21 => self.line(if c.is_multiple_of(2) {
                "tick-only"
            } else {
                "wait-ms 5"
            }),
            22 if c < 16 => self.crash(u64::from(a) * 256 + u64::from(b)),
            22 if c < 24 => self.restart("kill"),
            22..=26 => self.job("write"),
            27..=29 => self.job("background"),
            _ => self.job("fetch"),
        }
    }

    pub(crate) fn crash(&mut self, seed: u64) {
        self.restart(&format!("crash {seed}"));
    }

    fn restart(&mut self, line: &str) {
        self.channels.clear();
        self.connections.clear();
        self.unconfirmed.clear();
        self.settling.clear();
        self.removing.clear();
        self.line(line);
    }

    /// Runs a job of the kind, if one waits.
    pub(crate) fn job(&mut self, kind: &str) {
        let world = &self.script.world;
        let waits = match kind {
            "write" => !world.writes.is_empty(),
            "background" => !world.backgrounds.is_empty(),
            _ => !world.fetches.is_empty(),
        };
        if waits {
            self.jobs += 1;
            self.line(kind);
        }
    }

    fn ask(&mut self, who: &'static str, words: &str) {
        let channel = self.channel(who);
        self.say(who, channel, words);
    }

    fn say(&mut self, who: &'static str, channel: u16, words: &str) {
        self.line(&format!("{}/{channel} {words}", self.connections[who]));
    }

    fn publish(&mut self, who: &'static str, queue: &'static str, count: u32) {
        let channel = self.channel(who);
        let open = self.channels.get_mut(who).unwrap();
        let (first, seq) = (self.message_next, open.seq);
        let last = first + count - 1;
        self.message_next += count;
        open.seq += u64::from(count);
        let id = self.script.id_of(&self.connections[who]);
        for (n, seq) in (first..=last).zip(seq..) {
            let published = Published {
                queue,
                ..Published::default()
            };
            self.messages.insert(format!("m{n}"), published);
            self.unconfirmed.insert((id, channel, seq), format!("m{n}"));
        }
        let words = format!("publish {queue} m{first}..m{last} #{seq} mandatory");
        self.say(who, channel, &words);
    }

    fn consume(&mut self, who: &'static str, queue: &str, how: u8) {
        let called = format!("c{}", self.consumer_next);
        self.consumer_next += 1;
        let no_ack = if how.is_multiple_of(4) { " no-ack" } else { "" };
        self.ask(
            who,
            &format!("consume {queue} as {called} prefetch={}{no_ack}", how % 32),
        );
    }

    fn cancel(&mut self, who: &'static str, which: u8) {
        let channel = self.channel(who);
        let consumers = self.script.consumers(&self.connections[who], channel);
        if !consumers.is_empty() {
            let called = &consumers[usize::from(which) % consumers.len()];
            self.say(who, channel, &format!("cancel {called}"));
        }
    }

    fn settle(&mut self, who: &'static str, which: u8, how: u8) {
        let Some(open) = self.channels.get(who) else {
            return;
        };
        let channel = open.number;
        let held = self.script.held(&self.connections[who], channel);
        let some: Vec<_> = held
            .into_iter()
            .skip(usize::from(which % 4))
            .step_by(2)
            .collect();
        if some.is_empty() {
            return;
        }
        let bodies = some.join(" ");
        match how % 4 {
            0 => return self.say(who, channel, &format!("requeue {bodies}")),
            1 => self.say(who, channel, &format!("discard {bodies}")),
            _ => self.say(who, channel, &format!("ack {bodies}")),
        }
        for body in &some {
            self.messages.get_mut(body).unwrap().may_be_gone = true;
        }
        let id = self.script.id_of(&self.connections[who]);
        self.settling.entry((id, channel)).or_default().extend(some);
    }

    /// Purges or deletes a queue with everything that is in it.
    fn remove(&mut self, who: &'static str, queue: &str, how: &str) {
        let channel = self.channel(who);
        let id = self.script.id_of(&self.connections[who]);
        // A purge leaves what somebody holds, so nothing of it is certain.
        let is_certain = how == "delete-queue";
        let mut removed = Vec::new();
        for (body, message) in self.messages.iter_mut().filter(|(_, it)| it.queue == queue) {
            message.may_be_gone = true;
            removed.extend(is_certain.then(|| body.clone()));
        }
        self.removing
            .entry((id, channel))
            .or_default()
            .push_back(removed);
        self.say(who, channel, &format!("{how} {queue}"));
    }

    /// After a crash: takes everything out of every durable queue, and judges it.
    pub(crate) fn check_after_crash(&mut self, seed: u64) {
        self.crash(seed);
        self.line("auto");
        let mut found = BTreeSet::new();
        for queue in &QUEUES[..3] {
            let before = self.script.heard.len();
            let channel = self.channel("a");
            let called = format!("c{}", self.consumer_next);
            self.consumer_next += 1;
            self.say("a", channel, &format!("consume {queue} as {called} no-ack"));
            let mut last = 0;
            for (_, event) in &self.script.heard[before..] {
                let Event::Delivery(delivery) = event else {
                    continue;
                };
                let body = body_of(&delivery.message);
                let number: u32 = body[1..].parse().unwrap();
                assert!(number > last, "{body} comes in the order of publishing");
                assert_eq!(self.messages[&body].queue, *queue);
                last = number;
                found.insert(body);
            }
        }
        for (body, message) in &self.messages {
            let is_kept = message.is_confirmed && !message.is_returned && message.queue != "t";
            let must_be_there = is_kept && !message.may_be_gone;
            assert!(
                !must_be_there || found.contains(body),
                "{body} was confirmed and is lost"
            );
            assert!(!message.is_gone || !found.contains(body), "{body} is back");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.transcript.join("\n"));
        }
    }
}
