//! Exchanges that give a message to one of their targets: at random or by a hash.
//!
//! Consistent hashing is weighted rendezvous hashing: each target draws a score for the message
//! from the hash of both and its weight, and the best score wins. A target that comes or goes
//! changes the winner only of the messages that it wins, whatever the weights; RabbitMQ's jump
//! hash moves more when a target in the middle goes, and a ring of points costs memory in
//! proportion to the weights. The price is a score per target and message, some ten nanoseconds.

use staunch_types::field_table::Value;
use staunch_types::properties::Properties;
use staunch_types::request::Destination;
use staunch_types::{FieldTable, Name};

use super::Envelope;
use super::targets::{Matches, Target};

/// Argument of a consistent-hash exchange: the header that is hashed.
const HASH_HEADER: &str = "hash-header";

/// Argument of a consistent-hash exchange: the property that is hashed.
const HASH_PROPERTY: &str = "hash-property";

/// A target, and what its bindings say together.
#[derive(Debug)]
struct Member {
    target: Target,
    /// Of its name, which stays when a queue is declared again and gets another id.
    name_hash: u64,
    binding_count: u32,
    /// Sum over its bindings.
    weight: u64,
}

/// Targets of which one is chosen, in order.
#[derive(Debug, Default)]
pub(crate) struct Members(Vec<Member>);

impl Members {
    pub(super) fn add(&mut self, target: Target, destination: &Destination, weight: u64) {
        match self.place_of(&target) {
            Ok(at) => {
                self.0[at].binding_count += 1;
                self.0[at].weight = self.0[at].weight.saturating_add(weight);
            }
            Err(at) => {
                let name_hash = match destination {
                    Destination::Queue(name) => stable_hash(b"queue", name),
                    Destination::Exchange(name) => stable_hash(b"exchange", name),
                };
                let member = Member {
                    target,
                    name_hash,
                    binding_count: 1,
                    weight,
                };
                self.0.insert(at, member);
            }
        }
    }

    pub(super) fn remove(&mut self, target: &Target, weight: u64) {
        let at = self
            .place_of(target)
            .expect("only what was added is removed");
        self.0[at].binding_count -= 1;
        self.0[at].weight = self.0[at].weight.saturating_sub(weight);
        if self.0[at].binding_count == 0 {
            self.0.remove(at);
        }
    }

    /// The target at `hash` modulo their number.
    pub(super) fn choose_by_modulus(&self, hash: u64) -> Option<&Target> {
        let place = hash.checked_rem(self.0.len() as u64)?;
        let place = usize::try_from(place).expect("below the number of targets");
        Some(&self.0[place].target)
    }

    /// The target with the best score.
    pub(super) fn choose_by_weight(&self, hash: u64) -> Option<&Target> {
        let best = self
            .0
            .iter()
            .max_by(|a, b| a.score(hash).total_cmp(&b.score(hash)));
        best.map(|member| &member.target)
    }

    fn place_of(&self, target: &Target) -> Result<usize, usize> {
        self.0.binary_search_by(|member| member.target.cmp(target))
    }
}

impl Member {
    /// Minus the time until the first of events that come with rate `weight`: the first of all
    /// is this member's with a probability in proportion to its weight.
    #[expect(
        clippy::cast_precision_loss,
        reason = "53 bits of a hash are enough, and so are those of a weight"
    )]
    fn score(&self, hash: u64) -> f64 {
        let bits = mixed(hash ^ self.name_hash) >> 11;
        let uniform = (bits as f64 + 0.5) / (1u64 << 53) as f64;
        uniform.ln() / self.weight.max(1) as f64
    }
}

/// What a consistent-hash exchange takes its hash from.
#[derive(Debug, PartialEq, Eq)]
enum HashOf {
    RoutingKey,
    Header(Box<str>),
    CorrelationId,
    MessageId,
    Timestamp,
}

#[derive(Debug)]
pub(crate) struct ConsistentHash {
    hash_of: HashOf,
    members: Members,
}

impl ConsistentHash {
    /// Of arguments that [`ConsistentHash::check_arguments`] refuses it takes none.
    pub(super) fn new(arguments: &FieldTable) -> Self {
        Self {
            hash_of: HashOf::of(arguments).unwrap_or(HashOf::RoutingKey),
            members: Members::default(),
        }
    }

    /// Checks the arguments of an exchange to be made.
    ///
    /// # Errors
    /// RabbitMQ's text.
    pub(crate) fn check_arguments(arguments: &FieldTable) -> Result<(), String> {
        HashOf::of(arguments).map(drop)
    }

    pub(super) fn add(&mut self, target: Target, destination: &Destination, key: &Name) {
        self.members.add(target, destination, weight_or_one(key));
    }

    pub(super) fn remove(&mut self, target: &Target, key: &Name) {
        self.members.remove(target, weight_or_one(key));
    }

    pub(super) fn route(&self, envelope: &Envelope<'_>, matches: &mut Matches<'_>) {
        matches.is_cacheable &= self.hash_of == HashOf::RoutingKey;
        if let Some(chosen) = self.members.choose_by_weight(self.hash_of.hash(envelope)) {
            matches.push(chosen);
        }
    }
}

impl HashOf {
    fn of(arguments: &FieldTable) -> Result<Self, String> {
        match (arguments.get(HASH_HEADER), arguments.get(HASH_PROPERTY)) {
            (None, None) => Ok(Self::RoutingKey),
            (Some(_), Some(_)) => {
                Err("hash-header and hash-property are mutually exclusive".to_owned())
            }
            (Some(header), None) => {
                let header = header.as_str().ok_or_else(|| {
                    let found = header.amqp_type_name();
                    format!("invalid type '{found}' for arg '{HASH_HEADER}'")
                })?;
                Ok(Self::Header(header.into()))
            }
            (None, Some(property)) => match property.as_str() {
                Some("correlation_id") => Ok(Self::CorrelationId),
                Some("message_id") => Ok(Self::MessageId),
                Some("timestamp") => Ok(Self::Timestamp),
                Some(other) => Err(format!("Unsupported property: {other}")),
                None => {
                    let found = property.amqp_type_name();
                    Err(format!("invalid type '{found}' for arg '{HASH_PROPERTY}'"))
                }
            },
        }
    }

    /// Of a message without the header or property the hash is that of nothing.
    fn hash(&self, envelope: &Envelope<'_>) -> u64 {
        let properties = Properties::from_validated(envelope.properties);
        let of_bytes = |bytes: Option<&[u8]>| bytes.map_or(0, |bytes| stable_hash(b"text", bytes));
        match self {
            Self::RoutingKey => of_bytes(Some(envelope.routing_key)),
            Self::Header(name) => {
                let value = properties.headers().and_then(|headers| headers.get(name));
                value.map_or(0, hash_of_value)
            }
            Self::CorrelationId => of_bytes(properties.correlation_id()),
            Self::MessageId => of_bytes(properties.message_id()),
            Self::Timestamp => {
                let seconds = properties.timestamp();
                seconds.map_or(0, |seconds| stable_hash(b"time", &seconds.to_be_bytes()))
            }
        }
    }
}

fn hash_of_value(value: Value<'_>) -> u64 {
    if let Some(number) = value.as_i64() {
        return stable_hash(b"number", &number.to_be_bytes());
    }
    if let Value::LongStr(bytes) | Value::Binary(bytes) = value {
        return stable_hash(b"text", bytes);
    }
    stable_hash(b"other", format!("{value:?}").as_bytes())
}

/// The weight that a binding key gives.
///
/// # Errors
/// RabbitMQ's text.
pub(super) fn weight_of(key: &Name) -> Result<u64, String> {
    let number = std::str::from_utf8(key)
        .ok()
        .and_then(|text| text.parse::<i64>().ok());
    match number.map(u64::try_from) {
        None => {
            let term = if key.is_empty() {
                "<<>>".to_owned()
            } else {
                format!("<<\"{key}\">>")
            };
            Err(format!("The binding key must be an integer: {term}"))
        }
        Some(Err(_) | Ok(0)) => Err("The binding key must be greater than 0".to_owned()),
        Some(Ok(weight)) => Ok(weight),
    }
}

/// A bad weight is refused where the binding is made; replay is total.
fn weight_or_one(key: &Name) -> u64 {
    weight_of(key).unwrap_or(1)
}

/// FNV-1a and the mixer of `MurmurHash3`: the same in every version and on every machine, so that
/// a message finds the same queue after an upgrade.
pub(crate) fn stable_hash(domain: &[u8], bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let all = domain.iter().chain([&0]).chain(bytes);
    mixed(all.fold(OFFSET_BASIS, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
    }))
}

/// The mixer of `MurmurHash3`.
pub(crate) fn mixed(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The next of a sequence of numbers that look random (`SplitMix64`).
pub(super) fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed(*state)
}
