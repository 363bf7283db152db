//! How exchanges choose where a message goes (AMQP 0-9-1, section 3.1.3).
//!
//! A [`Router`] holds the bindings of one exchange in the form its kind is asked in: a table for
//! direct, a plain set for fanout, a trie for topic, a list for headers, a list to choose from for
//! the rest. It yields queues by id and exchanges by name; following exchanges is the catalog's
//! business.

mod choice;
mod delay;
mod headers;
mod targets;
mod topic;

use std::hash::BuildHasher;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use hashbrown::HashMap;
use staunch_types::{ExchangeKind, FieldTable, Message, Name};

use crate::catalog::{Binding, QueueKind};
use choice::Members;
use headers::Headers;
use targets::Targets;
use topic::Topic;

pub(crate) use choice::{ConsistentHash, mixed, stable_hash};
pub(crate) use delay::delay_millis;
pub use delay::{DELAY_MILLIS_MAX, properties_after_delay};
pub(crate) use targets::{Matches, Target};

/// What routing sees of a message.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The exchange it was published to.
    pub exchange: &'a [u8],
    /// Its routing key.
    pub routing_key: &'a [u8],
    /// Further routing keys: its headers `CC` and `BCC` (RabbitMQ, sender-selected distribution).
    pub more_keys: &'a [&'a [u8]],
    /// Its properties, encoded.
    pub properties: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Of a message without further routing keys.
    #[inline]
    pub fn of(message: &'a Message) -> Self {
        Self {
            exchange: message.exchange(),
            routing_key: message.routing_key(),
            more_keys: &[],
            properties: message.properties(),
        }
    }
}

/// Hashes names, by a seed that its owner chose. Tables with it are never iterated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeded(pub(crate) u64);

impl BuildHasher for Seeded {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> FoldHasher<'static> {
        FoldHasher::with_seed(self.0, SharedSeed::global_fixed())
    }
}

/// The bindings of one exchange, ready to be asked.
#[derive(Debug)]
pub(crate) enum Router {
    Direct(HashMap<Name, Targets, Seeded>),
    Fanout(Targets),
    Topic(Topic),
    Headers(Headers),
    ConsistentHash(Box<ConsistentHash>),
    ModulusHash(Members),
    Random(Members),
    LocalRandom(Members),
}

impl Router {
    /// `arguments` are the exchange's.
    pub(crate) fn new(kind: ExchangeKind, arguments: &FieldTable, hasher: Seeded) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(HashMap::with_hasher(hasher)),
            ExchangeKind::Fanout => Self::Fanout(Targets::default()),
            ExchangeKind::Topic => Self::Topic(Topic::new(hasher)),
            ExchangeKind::Headers => Self::Headers(Headers::default()),
            ExchangeKind::ConsistentHash => {
                Self::ConsistentHash(Box::new(ConsistentHash::new(arguments)))
            }
            ExchangeKind::ModulusHash => Self::ModulusHash(Members::default()),
            ExchangeKind::Random => Self::Random(Members::default()),
            ExchangeKind::LocalRandom => Self::LocalRandom(Members::default()),
        }
    }

    /// Checks a binding to be made; `queue` is the kind of its destination, none if that is an
    /// exchange.
    ///
    /// # Errors
    /// RabbitMQ's text.
    pub(crate) fn check(&self, binding: &Binding, queue: Option<QueueKind>) -> Result<(), String> {
        match self {
            Self::Direct(_)
            | Self::Fanout(_)
            | Self::Topic(_)
            | Self::ModulusHash(_)
            | Self::Random(_) => Ok(()),
            Self::Headers(_) => headers::check_arguments(&binding.arguments),
            Self::ConsistentHash(_) => choice::weight_of(&binding.routing_key).map(drop),
            Self::LocalRandom(_) if !binding.routing_key.is_empty() => {
                let key = &binding.routing_key;
                Err(format!("Non empty binding '{key}' key not permitted"))
            }
            Self::LocalRandom(_) => match queue {
                Some(QueueKind::Classic) => Ok(()),
                Some(kind @ QueueKind::Quorum) => {
                    let module = kind.module();
                    Err(format!(
                        "Queue type {module} not valid for this exchange type"
                    ))
                }
                None => Err("Destination not found".to_owned()),
            },
        }
    }

    pub(crate) fn add(&mut self, binding: &Binding, target: Target) {
        let Binding {
            destination,
            routing_key,
            ..
        } = binding;
        match self {
            Self::Direct(table) => {
                table.entry(routing_key.clone()).or_default().add(target);
            }
            Self::Fanout(targets) => targets.add(target),
            Self::Topic(topic) => topic.add(routing_key, target),
            Self::Headers(headers) => headers.add(&binding.arguments, target),
            Self::ConsistentHash(hash) => hash.add(target, destination, routing_key),
            Self::ModulusHash(members) | Self::Random(members) | Self::LocalRandom(members) => {
                members.add(target, destination, 1);
            }
        }
    }

    /// Removes what [`Router::add`] added for the same binding.
    pub(crate) fn remove(&mut self, binding: &Binding, target: &Target) {
        match self {
            Self::Direct(table) => {
                let targets = table
                    .get_mut(&binding.routing_key)
                    .expect("the binding was added");
                targets.remove(target);
                if targets.is_empty() {
                    table.remove(&binding.routing_key);
                }
            }
            Self::Fanout(targets) => targets.remove(target),
            Self::Topic(topic) => topic.remove(&binding.routing_key, target),
            Self::Headers(headers) => headers.remove(&binding.arguments, target),
            Self::ConsistentHash(hash) => hash.remove(target, &binding.routing_key),
            Self::ModulusHash(members) | Self::Random(members) | Self::LocalRandom(members) => {
                members.remove(target, 1);
            }
        }
    }

    /// Appends where the message goes; one target may come several times.
    pub(crate) fn route(&self, envelope: &Envelope<'_>, matches: &mut Matches<'_>) {
        match self {
            Self::Direct(table) => {
                let mut route = |key: &[u8]| {
                    if let Some(targets) = table.get(key) {
                        targets.collect(matches);
                    }
                };
                route(envelope.routing_key);
                envelope.more_keys.iter().copied().for_each(route);
            }
            Self::Fanout(targets) => targets.collect(matches),
            Self::Topic(topic) => {
                topic.route(envelope.routing_key, matches);
                for key in envelope.more_keys {
                    topic.route(key, matches);
                }
            }
            Self::Headers(headers) => headers.route(envelope.properties, matches),
            Self::ConsistentHash(hash) => hash.route(envelope, matches),
            Self::ModulusHash(members) => {
                let hash = choice::stable_hash(b"text", envelope.routing_key);
                if let Some(chosen) = members.choose_by_modulus(hash) {
                    matches.push(chosen);
                }
            }
            Self::Random(members) | Self::LocalRandom(members) => {
                matches.is_cacheable = false;
                let number = choice::draw(matches.draws);
                if let Some(chosen) = members.choose_by_modulus(number) {
                    matches.push(chosen);
                }
            }
        }
    }
}
