//! Queues of several partitions.
//!
//! Such a queue is one entry for clients to name, with no messages of its own, and an entry for
//! each partition. They come and go together, in one command, and their ids follow each other, so
//! that neither needs a list of the others. A partition is a queue like any other: clients may
//! consume from it, and bind and publish to it, by its name. That is the queue's name, `#` and its
//! number, so that patterns of permissions and names in listings that fit the queue fit it too;
//! only the queue itself can be declared and deleted. Settings come from the queue's arguments and
//! from the policies that match the queue's name, and hold for each partition.
//!
//! A message goes to the partition that the hash of its routing key says. The hash is part of the
//! format: another one would take the messages of a key past those that wait.

use staunch_types::{Name, QueueId, QueueOptions, Refusal};

use super::arguments::Subject;
use super::{Catalog, Placement, QueueEntry, QueueKind, arguments};
use crate::exchange::{Envelope, stable_hash};
use crate::settings::PartitionPlace;

/// Argument that asks for partitions.
pub const PARTITIONS: &str = "x-partitions";

/// Fewest partitions of a queue that has some.
pub const PARTITIONS_MIN: u8 = 2;

/// Most partitions of a queue.
pub const PARTITIONS_MAX: u8 = 64;

/// What a queue has to do with partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioning {
    /// Nothing.
    #[default]
    Whole,
    /// It has so many, and no messages of its own. Their ids are those behind its own.
    Split {
        /// How many.
        count: u8,
    },
    /// It is one.
    Part {
        /// Of this queue.
        of: QueueId,
        /// Which one, from 0.
        number: u8,
    },
}

impl QueueEntry {
    /// The partitions of this queue, by number; nothing if it has none.
    pub fn partitions(&self) -> impl Iterator<Item = QueueId> + use<> {
        let count = match self.partitioning {
            Partitioning::Split { count } => count,
            Partitioning::Whole | Partitioning::Part { .. } => 0,
        };
        let first = self.id.0 + 1;
        (first..first + u64::from(count)).map(QueueId)
    }

    /// Whether its messages are in partitions.
    pub fn is_split(&self) -> bool {
        matches!(self.partitioning, Partitioning::Split { .. })
    }

    /// Whether it is a partition of another.
    pub fn is_partition(&self) -> bool {
        matches!(self.partitioning, Partitioning::Part { .. })
    }
}

/// How many partitions a queue with these options is to have; 0 if it is to have none.
pub fn partition_count(options: &QueueOptions) -> u8 {
    let value = options.arguments.get(PARTITIONS);
    let count = value.and_then(|value| u8::try_from(value.as_i64()?).ok());
    count
        .filter(|count| (PARTITIONS_MIN..=PARTITIONS_MAX).contains(count))
        .unwrap_or(0)
}

/// The partition of `count` for messages with this routing key; 0 if there are none.
#[expect(clippy::cast_possible_truncation, reason = "it is below `count`")]
pub fn partition_of(routing_key: &[u8], count: u8) -> u8 {
    (stable_hash(b"partition", routing_key) % u64::from(count.max(1))) as u8
}

/// The name of a partition; none if it would be too long.
pub(super) fn partition_name(queue: &Name, number: u8) -> Option<Name> {
    let mut name = queue.to_vec();
    name.extend_from_slice(format!("#{number}").as_bytes());
    Name::new(&name).ok()
}

impl Catalog {
    /// Checks that a new queue can have the partitions it asks for, for which there are so many
    /// places.
    pub(super) fn check_partitions(
        &self,
        subject: Subject<'_>,
        options: &QueueOptions,
        place_count: usize,
    ) -> Result<(), Refusal> {
        let Subject { vhost, name, .. } = subject;
        let count = partition_count(options);
        let refused = |text: String| Err(Refusal::Precondition(text));
        if usize::from(count) != place_count {
            return refused(format!(
                "queue '{name}' in vhost '{vhost}' is to have {count} partitions and has been \
                 given places for {place_count}"
            ));
        }
        if count == 0 {
            return Ok(());
        }
        if arguments::queue_kind(&options.arguments) == Some(QueueKind::Quorum)
            && options.arguments.get("x-expires").is_some()
        {
            return Err(subject.invalid("x-expires", "\"not supported by queues with partitions\""));
        }
        for number in 0..count {
            let Some(part) = partition_name(name, number) else {
                return refused(format!(
                    "the name of queue '{name}' in vhost '{vhost}' is too long for a queue with \
                     {count} partitions"
                ));
            };
            if self.queues.by_name(vhost, &part).is_some() {
                return refused(format!(
                    "cannot declare queue '{name}' in vhost '{vhost}' with {count} partitions: \
                     there is a queue '{part}'"
                ));
            }
        }
        Ok(())
    }

    /// Refuses to declare or delete a partition by its own name.
    pub(super) fn check_not_partition(&self, entry: &QueueEntry) -> Result<(), Refusal> {
        let Partitioning::Part { of, .. } = entry.partitioning else {
            return Ok(());
        };
        let whole = self.queues.by_id(of).expect("a partition has its queue");
        Err(Refusal::Precondition(format!(
            "queue '{}' in vhost '{}' is a partition of queue '{}', and comes and goes with it",
            entry.name, entry.vhost, whole.name
        )))
    }

    /// Adds the partitions of a queue that was just added.
    pub(super) fn insert_partitions(&mut self, whole: &QueueEntry, places: &[Placement]) {
        for (number, (id, placement)) in whole.partitions().zip(places).enumerate() {
            let number = u8::try_from(number).expect("partitions are few");
            let mut part = QueueEntry {
                id,
                name: partition_name(&whole.name, number).expect("checked before"),
                placement: placement.clone(),
                partitioning: Partitioning::Part {
                    of: whole.id,
                    number,
                },
                ..whole.clone()
            };
            part.settings = self.settings.share(self.settings_of(&part));
            self.queues.insert(part);
        }
    }

    /// Where each partition of a queue is kept.
    pub(super) fn places_of_partitions(&self, whole: &QueueEntry) -> Vec<Placement> {
        let parts = whole.partitions().filter_map(|id| self.queues.by_id(id));
        parts.map(|part| part.placement.clone()).collect()
    }

    /// The queue whose name policies are asked about, and which of its partitions this is.
    pub(super) fn whole_of<'a>(
        &'a self,
        queue: &'a QueueEntry,
    ) -> (&'a QueueEntry, Option<PartitionPlace>) {
        let Partitioning::Part { of, number } = queue.partitioning else {
            return (queue, None);
        };
        let whole = self.queues.by_id(of).expect("a partition has its queue");
        let Partitioning::Split { count } = whole.partitioning else {
            unreachable!("a queue with partitions is split");
        };
        (whole, Some(PartitionPlace { number, count }))
    }

    /// Takes partitions in place of the queues that are split. `through` finds whether a message
    /// that had only this routing key would come to a queue.
    pub(super) fn choose_partitions(
        &self,
        envelope: &Envelope<'_>,
        queues: &mut [QueueId],
        through: impl Fn(&Envelope<'_>, QueueId) -> bool,
    ) {
        for queue in queues {
            let Some(entry) = self.queues.by_id(*queue) else {
                continue;
            };
            let Partitioning::Split { count } = entry.partitioning else {
                continue;
            };
            let mut keys = std::iter::once(&envelope.routing_key).chain(envelope.more_keys);
            let has_led = |key: &&&[u8]| {
                let alone = Envelope {
                    routing_key: key,
                    more_keys: &[],
                    ..*envelope
                };
                through(&alone, entry.id)
            };
            let key = if envelope.more_keys.is_empty() {
                None
            } else {
                keys.find(has_led)
            };
            let number = partition_of(key.unwrap_or(&envelope.routing_key), count);
            *queue = QueueId(entry.id.0 + 1 + u64::from(number));
        }
    }
}
