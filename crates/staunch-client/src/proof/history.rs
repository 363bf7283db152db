//! What was published, confirmed and delivered, and what is wrong with it.
//!
//! Every producer numbers its publishes from 0, sends them to one queue in that order on one
//! channel at a time, and never sends a number again. So a few bits for each number hold
//! everything: a history of millions of messages takes a few megabytes, and each delivery is
//! judged when it is recorded.
//!
//! A *session* is one consumer on one channel, from consume to the loss of its connection.
//! Within a session, deliveries of one producer with `redelivered` 0 must come in the order of
//! publishing (AMQP 0-9-1, section 4.7); between sessions nothing is promised.

use std::{collections::BTreeMap, fmt};

/// How many examples of each violation are kept.
const EXAMPLES_MAX: usize = 10;

/// A message of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// The producer.
    pub producer: u32,
    /// Its number there, from 0.
    pub seq: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.producer, self.seq)
    }
}

/// A delivery as a consumer saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The message; `None` when its body was damaged.
    pub id: Option<MessageId>,
    /// The queue it came from.
    pub queue: usize,
    /// The consumer, see the module's text.
    pub session: u64,
    /// The flag that came with it.
    pub redelivered: bool,
}

/// Everything that happened.
#[derive(Debug, Default)]
pub struct History {
    producers: Vec<Producer>,
    /// By (session, producer) the number after the last fresh delivery.
    next_fresh: BTreeMap<(u64, u32), u64>,
    deliveries: u64,
    published: u64,
    confirmed: u64,
    consumed: u64,
    /// Confirmed and not seen.
    missing: u64,
    redelivered: u64,
    repeated: u64,
    violations: BTreeMap<Violation, Found>,
}

#[derive(Debug)]
struct Producer {
    queue: usize,
    messages: Vec<u8>,
    refused: u64,
}

/// Bits of a message.
const CONFIRMED: u8 = 1;
const SEEN: u8 = 2;

/// What a broker must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Violation {
    /// A confirmed message never came.
    Lost,
    /// A message came that nobody published, or from the wrong queue.
    Phantom,
    /// A body was damaged.
    Corrupt,
    /// A message came twice without the flag.
    UnflaggedRepeat,
    /// Fresh messages of one producer came out of order within a session.
    Reordered,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Phantom => "phantom",
            Self::Corrupt => "corrupt",
            Self::UnflaggedRepeat => "repeated without the redelivered flag",
            Self::Reordered => "reordered",
        })
    }
}

/// How often something was found, and where first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How often.
    pub count: u64,
    /// The first messages; damaged ones have no name.
    pub examples: Vec<MessageId>,
}

impl Found {
    fn add(&mut self, id: Option<MessageId>) {
        self.count += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.extend(id);
        }
    }
}

/// The sum of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Sent.
    pub published: u64,
    /// Taken by the broker.
    pub confirmed: u64,
    /// Refused by the broker.
    pub refused: u64,
    /// Different messages that were delivered.
    pub consumed: u64,
    /// Deliveries with the flag.
    pub redelivered: u64,
    /// Deliveries of messages that had been delivered before.
    pub repeated: u64,
    /// What must not be.
    pub violations: BTreeMap<Violation, Found>,
}

impl Verdict {
    /// How often the broker did this.
    pub fn count(&self, violation: Violation) -> u64 {
        self.violations
            .get(&violation)
            .map_or(0, |found| found.count)
    }

    /// Whether nothing at all is wrong.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

impl History {
    /// Adds a producer that publishes to `queue`; gives its number.
    ///
    /// # Panics
    /// After 2^32 producers.
    pub fn add_producer(&mut self, queue: usize) -> u32 {
        self.producers.push(Producer {
            queue,
            messages: Vec::new(),
            refused: 0,
        });
        u32::try_from(self.producers.len() - 1).expect("producers are few")
    }

    /// Records that a producer is about to send its next message; gives the message's name.
    ///
    /// # Panics
    /// If there is no such producer, as in every method that takes one.
    pub fn publish(&mut self, producer: u32) -> MessageId {
        let messages = &mut self.producers[producer as usize].messages;
        messages.push(0);
        self.published += 1;
        MessageId {
            producer,
            seq: messages.len() as u64 - 1,
        }
    }

    /// Records a confirm.
    ///
    /// # Panics
    /// If the message was never published: then the client is wrong, not the broker.
    pub fn confirm(&mut self, id: MessageId) {
        let bits = self
            .bits(id)
            .expect("only published messages are confirmed");
        let before = std::mem::replace(bits, *bits | CONFIRMED);
        self.confirmed += u64::from(before & CONFIRMED == 0);
        self.missing += u64::from(before & (CONFIRMED | SEEN) == 0);
    }

    /// Records that the broker refused a message (`basic.nack`).
    pub fn refuse(&mut self, id: MessageId) {
        self.producers[id.producer as usize].refused += 1;
    }

    /// Records a delivery.
    pub fn see(&mut self, seen: Seen) {
        self.deliveries += 1;
        self.redelivered += u64::from(seen.redelivered);
        let Some(id) = seen.id else {
            self.violate(Violation::Corrupt, None);
            return;
        };
        let queue = self
            .producers
            .get(id.producer as usize)
            .map(|producer| producer.queue);
        let is_fresh = !seen.redelivered;
        let Some(bits) = self.bits(id).filter(|_| queue == Some(seen.queue)) else {
            self.violate(Violation::Phantom, Some(id));
            return;
        };
        let before = *bits;
        *bits |= SEEN;
        if before & SEEN != 0 {
            self.repeated += 1;
        } else {
            self.consumed += 1;
            self.missing -= u64::from(before & CONFIRMED != 0);
        }
        if !is_fresh {
            return;
        }
        // The flag's 0 means "never delivered before", so any earlier delivery breaks it.
        if before & SEEN != 0 {
            self.violate(Violation::UnflaggedRepeat, Some(id));
        }
        let next = self
            .next_fresh
            .entry((seen.session, id.producer))
            .or_insert(0);
        let is_late = id.seq < *next;
        *next = (*next).max(id.seq + 1);
        if is_late && before & SEEN == 0 {
            self.violate(Violation::Reordered, Some(id));
        }
    }

    /// How many confirmed messages have not been seen.
    pub fn missing_count(&self) -> u64 {
        self.missing
    }

    /// Deliveries recorded so far.
    pub fn delivery_count(&self) -> u64 {
        self.deliveries
    }

    /// Messages confirmed so far.
    pub fn confirmed_count(&self) -> u64 {
        self.confirmed
    }

    /// Messages sent so far.
    pub fn published_count(&self) -> u64 {
        self.published
    }

    /// Messages sent so far, by producer.
    pub fn published_counts(&self) -> Vec<u64> {
        let sent = |producer: &Producer| producer.messages.len() as u64;
        self.producers.iter().map(sent).collect()
    }

    /// Every message that was not both confirmed and seen, one a line.
    #[must_use]
    pub fn unsettled(&self) -> String {
        let mut lines = String::new();
        for (number, producer) in (0..).zip(&self.producers) {
            for (seq, bits) in (0..).zip(&producer.messages) {
                let what = match bits & (CONFIRMED | SEEN) {
                    CONFIRMED => "confirmed, not seen",
                    SEEN => "seen, not confirmed",
                    0 => "neither confirmed nor seen",
                    _ => continue,
                };
                let id = MessageId {
                    producer: number,
                    seq,
                };
                lines.extend([id.to_string().as_str(), " ", what, "\n"]);
            }
        }
        lines
    }

    /// Judges the history: after everything that could come has come.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut violations = self.violations.clone();
        for (number, producer) in (0..).zip(&self.producers) {
            for (seq, bits) in (0..).zip(&producer.messages) {
                if bits & (CONFIRMED | SEEN) == CONFIRMED {
                    let id = MessageId {
                        producer: number,
                        seq,
                    };
                    violations.entry(Violation::Lost).or_default().add(Some(id));
                }
            }
        }
        Verdict {
            published: self.published,
            confirmed: self.confirmed,
            refused: self.producers.iter().map(|producer| producer.refused).sum(),
            consumed: self.consumed,
            redelivered: self.redelivered,
            repeated: self.repeated,
            violations,
        }
    }

    fn bits(&mut self, id: MessageId) -> Option<&mut u8> {
        let seq = usize::try_from(id.seq).ok()?;
        self.producers
            .get_mut(id.producer as usize)?
            .messages
            .get_mut(seq)
    }

    fn violate(&mut self, violation: Violation, id: Option<MessageId>) {
        self.violations.entry(violation).or_default().add(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Producer 0 sends to queue 0, producer 1 to queue 1. Each letter is a step: `p` publish,
    /// `c` confirm, `d` fresh delivery, `r` flagged delivery, `w` from the wrong queue, `x`
    /// damaged; then producer and seq; `D` is a fresh delivery in another session.
    fn check(script: &str, expected: &[(Violation, u64)]) {
        let mut history = History::default();
        history.add_producer(0);
        history.add_producer(1);
        for step in script.split_whitespace() {
            let digit = |at: usize| step[at..=at].parse::<u32>().unwrap();
            let id = MessageId {
                producer: digit(1),
                seq: digit(2).into(),
            };
            let queue = id.producer as usize;
            let seen = Seen {
                id: Some(id),
                queue,
                session: 1,
                redelivered: false,
            };
            match &step[..1] {
                "p" => assert_eq!(history.publish(id.producer), id),
                "c" => history.confirm(id),
                "d" => history.see(seen),
                "D" => history.see(Seen { session: 2, ..seen }),
                "r" => history.see(Seen {
                    redelivered: true,
                    ..seen
                }),
                "w" => history.see(Seen {
                    queue: 1 - queue,
                    ..seen
                }),
                "x" => history.see(Seen { id: None, ..seen }),
                other => panic!("no step {other}"),
            }
        }
        let verdict = history.verdict();
        let found: Vec<_> = verdict
            .violations
            .iter()
            .map(|(v, found)| (*v, found.count))
            .collect();
        assert_eq!(found, expected, "{script}");
        assert_eq!(verdict.is_clean(), expected.is_empty());
    }

    #[test]
    fn what_is_allowed() {
        check("", &[]);
        check("p00 p01 c00 c01 d00 d01", &[]);
        check("p00", &[]);
        check("p00 d00", &[]);
        check("p00 c00 d00 r00 r00", &[]);
        check("p00 c00 r00", &[]);
        check("p00 p10 c10 c00 d10 d00", &[]);
        check("p00 p01 p02 d00 d02", &[]);
        check("p00 p01 p02 d02 r00 r01", &[]);
        check("p00 p01 d01 D00", &[]);
    }

    #[test]
    fn planted_violations_are_flagged() {
        check("p00 p01 c00 c01 d01", &[(Violation::Lost, 1)]);
        check("p00 d00 d01", &[(Violation::Phantom, 1)]);
        check("p00 c00 d00 w00", &[(Violation::Phantom, 1)]);
        check(
            "p00 c00 w00",
            &[(Violation::Lost, 1), (Violation::Phantom, 1)],
        );
        check("p00 d00 d99", &[(Violation::Phantom, 1)]);
        check("p00 c00 d00 x00", &[(Violation::Corrupt, 1)]);
        check(
            "p00 c00 x00",
            &[(Violation::Lost, 1), (Violation::Corrupt, 1)],
        );
        check("p00 c00 d00 d00", &[(Violation::UnflaggedRepeat, 1)]);
        check("p00 c00 d00 D00", &[(Violation::UnflaggedRepeat, 1)]);
        check("p00 c00 r00 d00", &[(Violation::UnflaggedRepeat, 1)]);
        check("p00 p01 c00 c01 d01 d00", &[(Violation::Reordered, 1)]);
    }

    #[test]
    fn examples_are_bounded_and_counts_are_not() {
        let mut history = History::default();
        let producer = history.add_producer(0);
        for _ in 0..1000 {
            let id = history.publish(producer);
            history.confirm(id);
        }
        let verdict = history.verdict();
        assert_eq!(verdict.count(Violation::Lost), 1000);
        assert_eq!(
            verdict.violations[&Violation::Lost].examples.len(),
            EXAMPLES_MAX
        );
        assert_eq!(history.missing_count(), 1000);
    }
}
