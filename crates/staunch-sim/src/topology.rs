//! The exchanges, queues and bindings of a seed: what clients declare and publish to.
//!
//! The universe is fixed when the seed begins; clients only make parts of it come and go. Every
//! name always has the same properties, so a declaration is refused only where a client means
//! to be refused.

use staunch_types::{FieldTable, field_table::TableBuilder};

use crate::{
    history::{QueueFacts, QueueRef},
    random::Random,
};

/// What kind of life a queue leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// Durable, and only messages go.
    Steady,
    /// Durable, purged, unbound and deleted.
    Churned,
    /// Not durable.
    Transient,
    /// Durable, consumed without acks.
    Leaky,
    /// Goes with its last consumer.
    AutoDelete,
    /// Durable; its messages expire, are too many or come back too often, and go on to another
    /// queue.
    Mortal,
    /// Durable; gets the dead letters of the mortal ones.
    Grave,
    /// Durable; goes when nobody has used it for a while.
    Expiring,
    /// Durable, without arguments: policies, which come and go, say what becomes of its messages.
    Ruled,
}

/// A queue.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its life.
    pub kind: QueueKind,
    /// Its arguments.
    pub arguments: FieldTable,
    /// Where its dead letters go.
    pub dead_letters_to: Option<QueueRef>,
    /// Dead letters come to it.
    pub gets_dead_letters: bool,
    /// It knows priorities, or is of a type that does.
    pub has_priorities: bool,
    /// It refuses publishes when it is full: not a place for dead letters that must arrive.
    pub refuses: bool,
    /// It is a quorum queue, for which a channel must not have a limit of its own.
    pub is_quorum: bool,
    /// Several nodes keep it.
    pub is_replicated: bool,
    /// Its messages are in so many partitions; 0: it is an ordinary queue.
    pub partitions: u8,
    /// How long messages live in it, in milliseconds.
    pub ttl_millis: Option<u64>,
    /// How long it lives without use, in milliseconds.
    pub expires_millis: Option<u64>,
}

impl Queue {
    /// A queue without arguments.
    pub fn plain(name: String, kind: QueueKind) -> Self {
        Self {
            name,
            kind,
            arguments: FieldTable::default(),
            dead_letters_to: None,
            gets_dead_letters: kind == QueueKind::Grave,
            has_priorities: false,
            refuses: false,
            is_quorum: false,
            is_replicated: false,
            partitions: 0,
            ttl_millis: None,
            expires_millis: None,
        }
    }

    /// Whether it survives a crash.
    pub fn durable(&self) -> bool {
        match self.kind {
            QueueKind::Steady
            | QueueKind::Churned
            | QueueKind::Leaky
            | QueueKind::Mortal
            | QueueKind::Grave
            | QueueKind::Expiring
            | QueueKind::Ruled => true,
            QueueKind::Transient | QueueKind::AutoDelete => false,
        }
    }

    /// Whether it goes only when a client deletes it or, if not durable, with a crash.
    pub fn certain(&self) -> bool {
        !matches!(self.kind, QueueKind::AutoDelete | QueueKind::Expiring)
    }

    fn facts(&self) -> QueueFacts {
        let lossless = self.certain() && self.kind != QueueKind::Leaky;
        QueueFacts {
            name: self.name.clone(),
            durable: self.durable(),
            lossless,
            ordered: !self.has_priorities && !self.gets_dead_letters,
            dead_letters_to: self.dead_letters_to,
            gets_dead_letters: self.gets_dead_letters,
            is_ruled: self.kind == QueueKind::Ruled,
            refuses: self.refuses,
            is_replicated: self.is_replicated,
            is_partitioned: self.partitions > 0,
            ttl_millis: self.ttl_millis,
        }
    }
}

/// An exchange.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Its name.
    pub name: &'static str,
    /// How it routes, as AMQP names it.
    pub kind: &'static str,
    /// It delays messages that ask for it, and then routes them.
    pub delays: bool,
    /// Whether it survives a crash.
    pub durable: bool,
    /// Whether clients delete it now and then.
    pub churned: bool,
}

/// Place of an exchange in [`Topology::exchanges`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExchangeRef(pub usize);

/// Place of a binding in [`Topology::bindings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BindingRef(pub usize);

/// Where a binding leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a queue.
    Queue(QueueRef),
    /// To an exchange.
    Exchange(ExchangeRef),
}

/// A binding that may exist.
#[derive(Clone, Debug)]
pub struct Binding {
    /// From this exchange.
    pub source: ExchangeRef,
    /// To this.
    pub target: Target,
    /// Its key; unused words for a fanout exchange.
    pub key: String,
    /// Whether clients unbind it now and then.
    pub churned: bool,
}

/// Everything that may exist.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Exchanges; the default one is not among them.
    pub exchanges: Vec<Exchange>,
    /// Queues.
    pub queues: Vec<Queue>,
    /// Bindings.
    pub bindings: Vec<Binding>,
}

/// The queue in which dead letters end.
pub const GRAVE: &str = "q.grave";

/// The queue that policies rule.
pub const RULED_QUEUE: &str = "q.ruled";

/// The default exchange's name.
pub const DEFAULT_EXCHANGE: &str = "";

/// Routing keys publishers use besides queue names; the last one matches no direct binding.
pub const ROUTING_KEYS: [&str; 5] = ["a", "b", "a.b", "a.b.c", "nowhere"];

impl Topology {
    /// Draws a topology.
    pub fn draw(random: &mut Random) -> Self {
        let mut topology = Self {
            exchanges: draw_exchanges(random),
            queues: draw_queues(random),
            bindings: vec![],
        };
        topology.draw_bindings(random);
        topology
    }

    /// As a cluster has it: most durable queues are replicated, or all of them.
    pub fn spread(&mut self, random: &mut Random, all: bool) {
        for queue in &mut self.queues {
            if !queue.durable() {
                continue;
            }
            let knows = |name| queue.arguments.get(name).is_some();
            let is_chosen = random.chance(750) && !knows("x-max-priority");
            if queue.is_quorum {
                queue.is_replicated = true;
            } else if all || is_chosen {
                queue.is_quorum = true;
                queue.is_replicated = true;
                let arguments = queue.arguments.as_table_ref();
                let table = TableBuilder::new().copy_except(arguments, &["x-max-priority"]);
                queue.arguments = table.longstr("x-queue-type", "quorum").build();
            }
        }
    }

    /// Adds a queue of several partitions, to which most exchanges lead.
    pub fn add_partitioned(&mut self, random: &mut Random) {
        let target = QueueRef(self.queues.len());
        let mut queue = Queue::plain("q.parted".into(), QueueKind::Steady);
        queue.is_quorum = true;
        queue.is_replicated = true;
        queue.partitions = *random.pick(&[2, 3, 5]);
        queue.arguments = TableBuilder::new()
            .longstr("x-queue-type", "quorum")
            .int("x-partitions", i32::from(queue.partitions))
            .build();
        self.queues.push(queue);
        for source in 0..self.exchanges.len() {
            if random.chance(700) {
                let key = if self.exchanges[source].kind == "topic" {
                    "#".to_owned()
                } else {
                    draw_key(self.exchanges[source].kind, random)
                };
                self.bindings.push(Binding {
                    source: ExchangeRef(source),
                    target: Target::Queue(target),
                    key,
                    churned: false,
                });
            }
        }
    }

    /// Whether there is an exchange that delays.
    pub fn delays(&self) -> bool {
        self.exchanges.iter().any(|exchange| exchange.delays)
    }

    /// What the checkers must know of the queues.
    pub fn queue_facts(&self) -> Vec<QueueFacts> {
        self.queues.iter().map(Queue::facts).collect()
    }

    /// The queue of that name.
    pub fn queue_named(&self, name: &str) -> Option<QueueRef> {
        self.queues
            .iter()
            .position(|queue| queue.name == name)
            .map(QueueRef)
    }

    /// The exchange of that name.
    pub fn exchange_named(&self, name: &str) -> Option<ExchangeRef> {
        self.exchanges
            .iter()
            .position(|exchange| exchange.name == name)
            .map(ExchangeRef)
    }

    /// Whether the binding survives a crash.
    pub fn binding_durable(&self, binding: &Binding) -> bool {
        self.exchanges[binding.source.0].durable
            && match binding.target {
                Target::Queue(queue) => self.queues[queue.0].durable(),
                Target::Exchange(exchange) => self.exchanges[exchange.0].durable,
            }
    }

    fn draw_bindings(&mut self, random: &mut Random) {
        for queue in 0..self.queues.len() {
            for source in 0..self.exchanges.len() {
                if random.chance(450) {
                    let key = draw_key(self.exchanges[source].kind, random);
                    let churned =
                        self.queues[queue].kind == QueueKind::Churned && random.chance(500);
                    let (source, target) = (ExchangeRef(source), Target::Queue(QueueRef(queue)));
                    self.bindings.push(Binding {
                        source,
                        target,
                        key,
                        churned,
                    });
                }
            }
        }
        // Edges only lead to later exchanges, so that no walk ends where it began.
        for source in 0..self.exchanges.len() {
            for target in source + 1..self.exchanges.len() {
                if random.chance(150) {
                    let key = draw_key(self.exchanges[source].kind, random);
                    let churned = random.chance(200);
                    let target = Target::Exchange(ExchangeRef(target));
                    self.bindings.push(Binding {
                        source: ExchangeRef(source),
                        target,
                        key,
                        churned,
                    });
                }
            }
        }
    }
}

fn draw_exchanges(random: &mut Random) -> Vec<Exchange> {
    let all = [
        Exchange {
            name: "x.source",
            kind: "fanout",
            delays: false,
            durable: true,
            churned: false,
        },
        Exchange {
            name: "x.direct",
            kind: "direct",
            delays: false,
            durable: true,
            churned: false,
        },
        Exchange {
            name: "x.fanout",
            kind: "fanout",
            delays: false,
            durable: true,
            churned: false,
        },
        Exchange {
            name: "x.topic",
            kind: "topic",
            delays: false,
            durable: true,
            churned: false,
        },
        Exchange {
            name: "x.volatile",
            kind: "topic",
            delays: false,
            durable: false,
            churned: false,
        },
        Exchange {
            name: "x.churned",
            kind: "direct",
            delays: false,
            durable: true,
            churned: true,
        },
    ];
    let mut chosen = Vec::new();
    if random.chance(350) {
        // First, so that no other exchange leads to it: whether a message is delayed is decided
        // where it is published.
        chosen.push(Exchange {
            name: "x.delayed",
            kind: ["fanout", "direct", "topic"][random.index(3)],
            delays: true,
            durable: true,
            churned: false,
        });
    }
    chosen.extend(all.into_iter().filter(|_| random.chance(600)));
    if chosen.is_empty() {
        chosen.push(Exchange {
            name: "x.fanout",
            kind: "fanout",
            delays: false,
            durable: true,
            churned: false,
        });
    }
    chosen
}

fn draw_queues(random: &mut Random) -> Vec<Queue> {
    let mut queues = vec![Queue::plain("q.steady.0".into(), QueueKind::Steady)];
    let kinds = [
        (QueueKind::Steady, "steady"),
        (QueueKind::Churned, "churned"),
        (QueueKind::Transient, "transient"),
        (QueueKind::Leaky, "leaky"),
        (QueueKind::AutoDelete, "auto"),
    ];
    for number in 1..=random.below(7) {
        let (kind, word) = kinds[random.weighted(&[4, 3, 2, 1, 1])];
        queues.push(Queue::plain(format!("q.{word}.{number}"), kind));
    }
    if random.chance(600) {
        draw_mortals(&mut queues, random);
        if random.chance(500) {
            let mut ruled = Queue::plain(RULED_QUEUE.into(), QueueKind::Ruled);
            ruled.dead_letters_to = queues
                .iter()
                .position(|queue| queue.name == GRAVE)
                .map(QueueRef);
            queues.push(ruled);
        }
    }
    if random.chance(250) {
        draw_kept(&mut queues, random);
    }
    if random.chance(250) {
        queues.push(draw_expiring(random));
    }
    queues
}

/// Adds queues in which messages die, after the queue in which their dead letters end: who
/// declares them in this order loses none on the way.
fn draw_mortals(queues: &mut Vec<Queue>, random: &mut Random) {
    let grave = QueueRef(queues.len());
    queues.push(Queue::plain(GRAVE.into(), QueueKind::Grave));
    for number in 1..=random.between(1, 3) {
        let last = QueueRef(queues.len() - 1);
        let is_chained = random.chance(300) && !queues[last.0].refuses;
        let target = if is_chained { last } else { grave };
        queues[target.0].gets_dead_letters = true;
        let key = queues[target.0].name.clone();
        let mut mortal = Queue::plain(format!("q.mortal.{number}"), QueueKind::Mortal);
        mortal.dead_letters_to = Some(target);
        draw_death(&mut mortal, &key, random);
        queues.push(mortal);
    }
}

/// Adds queues whose dead letters must not be lost, after the queue that takes them, which is
/// soon full.
fn draw_kept(queues: &mut Vec<Queue>, random: &mut Random) {
    let vault_at = QueueRef(queues.len());
    let mut vault = Queue::plain("q.vault".into(), QueueKind::Grave);
    vault.refuses = true;
    vault.arguments = TableBuilder::new()
        .int("x-max-length", *random.pick(&[1, 5, 50]))
        .longstr("x-overflow", "reject-publish")
        .build();
    let key = vault.name.clone();
    queues.push(vault);
    for number in 1..=random.between(1, 2) {
        let mut kept = Queue::plain(format!("q.kept.{number}"), QueueKind::Mortal);
        kept.dead_letters_to = Some(vault_at);
        kept.has_priorities = true;
        kept.is_quorum = true;
        kept.refuses = true;
        let mut table = TableBuilder::new()
            .longstr("x-dead-letter-exchange", DEFAULT_EXCHANGE)
            .longstr("x-dead-letter-routing-key", &key)
            .longstr("x-queue-type", "quorum")
            .longstr("x-overflow", "reject-publish")
            .longstr("x-dead-letter-strategy", "at-least-once")
            .int("x-delivery-limit", *random.pick(&[0, 3]));
        if random.chance(600) {
            let millis: i32 = *random.pick(&[0, 50, 500]);
            kept.ttl_millis = u64::try_from(millis).ok();
            table = table.int("x-message-ttl", millis);
        }
        if random.chance(400) {
            table = table.int("x-max-length", *random.pick(&[1, 20]));
        }
        kept.arguments = table.build();
        queues.push(kept);
    }
}

fn draw_expiring(random: &mut Random) -> Queue {
    let mut queue = Queue::plain("q.expiring".into(), QueueKind::Expiring);
    let millis: i32 = *random.pick(&[200, 1_000, 5_000]);
    queue.expires_millis = u64::try_from(millis).ok();
    queue.arguments = TableBuilder::new().int("x-expires", millis).build();
    queue
}

/// Draws what messages die of in a queue whose dead letters are published with `key`.
fn draw_death(queue: &mut Queue, key: &str, random: &mut Random) {
    let mut table = TableBuilder::new()
        .longstr("x-dead-letter-exchange", DEFAULT_EXCHANGE)
        .longstr("x-dead-letter-routing-key", key);
    if random.chance(500) {
        let millis: i32 = *random.pick(&[0, 50, 500, 5_000]);
        queue.ttl_millis = u64::try_from(millis).ok();
        table = table.int("x-message-ttl", millis);
    }
    let rejects = random.chance(400);
    if random.chance(600) {
        table = table.int("x-max-length", *random.pick(&[0, 1, 5, 50]));
        if rejects {
            queue.refuses = true;
            table = table.longstr("x-overflow", "reject-publish");
        }
    }
    if random.chance(300) {
        table = table.int("x-max-length-bytes", *random.pick(&[100, 2_000, 20_000]));
    }
    match random.below(4) {
        0 => {
            queue.has_priorities = true;
            table = table.int("x-max-priority", *random.pick(&[1, 4, 255]));
        }
        1 | 2 => {
            queue.is_quorum = true;
            queue.has_priorities = true;
            table = table.longstr("x-queue-type", "quorum");
            table = table.int("x-delivery-limit", *random.pick(&[0, 1, 3, -1]));
            if random.chance(500) {
                table = table.longstr("x-dead-letter-strategy", "at-least-once");
            }
            if random.chance(200) {
                table = table.bool("x-single-active-consumer", true);
            }
        }
        _ => {
            if random.chance(200) {
                table = table.bool("x-single-active-consumer", true);
            }
        }
    }
    queue.arguments = table.build();
}

fn draw_key(kind: &str, random: &mut Random) -> String {
    let patterns = ["a", "*", "#", "a.*", "a.#", "*.b.#", "#.c"];
    let choices: &[&str] = if kind == "topic" {
        &patterns
    } else {
        &ROUTING_KEYS[..4]
    };
    (*random.pick(choices)).to_owned()
}

/// Whether a binding with `binding_key` on an exchange of `kind` takes `routing_key`.
///
/// Naive on purpose: it is the reference the broker's trie is compared with.
pub fn matches(kind: &str, binding_key: &str, routing_key: &str) -> bool {
    match kind {
        "fanout" => true,
        "topic" => {
            let pattern: Vec<_> = binding_key.split('.').collect();
            let words: Vec<_> = routing_key.split('.').collect();
            topic_matches(&pattern, &words)
        }
        _ => binding_key == routing_key,
    }
}

fn topic_matches(pattern: &[&str], words: &[&str]) -> bool {
    match pattern.split_first() {
        None => words.is_empty(),
        Some((&"#", rest)) => (0..=words.len()).any(|skip| topic_matches(rest, &words[skip..])),
        Some((first, rest)) => words.split_first().is_some_and(|(word, words)| {
            (*first == "*" || first == word) && topic_matches(rest, words)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_patterns_match_as_amqp_says() {
        for (pattern, key, expected) in [
            ("#", "", true),
            ("#", "a.b", true),
            ("a.#", "a", true),
            ("a.*", "a", false),
            ("a.*", "a.b", true),
            ("*.b.#", "a.b", true),
            ("#.c", "a.b.c", true),
            ("#.c", "a.b", false),
        ] {
            assert_eq!(matches("topic", pattern, key), expected, "{pattern} {key}");
        }
    }
}
