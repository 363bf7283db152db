//! How exchanges choose where a message goes (AMQP 0-9-1, section 3.1.3).
//!
//! A [`Router`] holds the bindings of one exchange in the form its kind is asked in: a table for
//! direct, a plain set for fanout, a trie for topic, a list for headers. It yields queues by id
//! and exchanges by name; following exchanges is the catalog's business.

mod headers;
mod targets;
mod topic;

use std::hash::BuildHasher;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use hashbrown::HashMap;
use staunch_types::{ExchangeKind, Name};

use crate::catalog::Binding;
use headers::Headers;
use targets::Targets;
use topic::Topic;

pub(crate) use headers::MatchKind;
pub(crate) use targets::{Matches, Target};

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
}

impl Router {
    pub(crate) fn new(kind: ExchangeKind, hasher: Seeded) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(HashMap::with_hasher(hasher)),
            ExchangeKind::Fanout => Self::Fanout(Targets::default()),
            ExchangeKind::Topic => Self::Topic(Topic::new(hasher)),
            ExchangeKind::Headers => Self::Headers(Headers::default()),
        }
    }

    pub(crate) fn add(&mut self, binding: &Binding, target: Target) {
        match self {
            Self::Direct(table) => {
                table
                    .entry(binding.routing_key.clone())
                    .or_default()
                    .add(target);
            }
            Self::Fanout(targets) => targets.add(target),
            Self::Topic(topic) => topic.add(&binding.routing_key, target),
            Self::Headers(headers) => headers.add(&binding.arguments, target),
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
        }
    }

    /// Appends where the message goes; one target may come several times.
    pub(crate) fn route(&self, routing_key: &[u8], properties: &[u8], matches: &mut Matches<'_>) {
        match self {
            Self::Direct(table) => {
                if let Some(targets) = table.get(routing_key) {
                    targets.collect(matches);
                }
            }
            Self::Fanout(targets) => targets.collect(matches),
            Self::Topic(topic) => topic.route(routing_key, matches),
            Self::Headers(headers) => headers.route(properties, matches),
        }
    }
}
