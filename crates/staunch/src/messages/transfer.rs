//! Takes messages out of a queue, and gives each a new place before it lets go of the old one.
//!
//! A batch is got, published with confirms and `mandatory`, and only what is confirmed and was not
//! returned is acked. So nothing is lost whenever this ends; what was confirmed and not yet acked is
//! then in both places. What is passed over or refused is held and returns to its place at the end,
//! so that it is not met twice.

use std::{
    collections::BTreeMap,
    mem, thread,
    time::{Duration, Instant},
};

use staunch_client::{ClientError, GotMessage, Incoming, QueueSpec};
use staunch_types::properties::PropertyList;

use crate::{
    cli::{failure::Failure, target::Target},
    messages::door::{Door, failed},
};

/// Messages that are published before their confirms are awaited.
const BATCH_COUNT_MAX: usize = 100;
/// Bytes of their bodies after which a batch is full.
const BATCH_SIZE_BYTES_MAX: usize = 4 << 20;
/// Messages that are held at most: beyond them it ends.
const HELD_MAX: usize = 20_000;

/// Where a message goes, or what else becomes of it.
pub(crate) enum Fate {
    /// It is published there.
    To {
        exchange: String,
        routing_key: String,
        properties: PropertyList,
    },
    /// It is gone.
    Drop,
    /// It stays.
    Stay,
}

/// How much is moved, and how quickly.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    /// At most so many messages.
    pub(crate) limit: Option<u64>,
    /// At most so many a second.
    pub(crate) rate: Option<u32>,
    /// Nothing is moved, everything is only looked at.
    pub(crate) is_dry: bool,
}

/// What has become of the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Looked at.
    pub(crate) seen: u64,
    /// Moved or dropped, or what would be.
    pub(crate) done: u64,
    /// Passed over.
    pub(crate) stayed: u64,
    /// Refused or led to no queue: they stay.
    pub(crate) refused: u64,
}

/// A message of a batch that is to be published.
struct Leaving {
    tag: u64,
    exchange: String,
    routing_key: String,
    properties: PropertyList,
    body: Vec<u8>,
}

/// Moves messages out of `queue` to where `fate` says; `progress` hears of each batch.
pub(crate) fn transfer(
    target: &Target,
    queue: &str,
    bounds: Bounds,
    mut fate: impl FnMut(&GotMessage) -> Result<Fate, Failure>,
    mut progress: impl FnMut(Moved),
) -> Result<Moved, Failure> {
    let mut door = Door::open(target, "move")?;
    let asked = QueueSpec {
        name: queue.to_owned(),
        passive: true,
        ..QueueSpec::default()
    };
    let declared = door.connection.queue_declare(door.channel, &asked);
    let there_count = declared.map_err(failed)?.message_count;
    let selected = door.connection.confirm_select(door.channel);
    selected.map_err(failed)?;
    let mut run = Run {
        queue,
        bounds,
        there_count: u64::from(there_count),
        moved: Moved::default(),
        held_count: 0,
    };
    let started = Instant::now();
    loop {
        let (batch, is_over) = run.take(&mut door, &mut fate)?;
        let refused_count = publish(target, &mut door, &batch)?;
        run.held_count += refused_count;
        run.moved.refused += refused_count as u64;
        run.moved.done += (batch.len() - refused_count) as u64;
        progress(run.moved);
        if is_over {
            break;
        }
        if let Some(rate) = bounds.rate {
            pause(started, run.moved.done, rate);
        }
    }
    // What is held returns when the connection ends.
    door.close();
    Ok(run.moved)
}

/// A transfer on its way.
struct Run<'a> {
    queue: &'a str,
    bounds: Bounds,
    /// Ready when it began. What comes in meanwhile is not meant: a message may come back.
    there_count: u64,
    moved: Moved,
    held_count: usize,
}

impl Run<'_> {
    /// The next batch, and whether it is the last.
    fn take(
        &mut self,
        door: &mut Door,
        fate: &mut impl FnMut(&GotMessage) -> Result<Fate, Failure>,
    ) -> Result<(Vec<Leaving>, bool), Failure> {
        let (mut batch, mut batch_size_bytes) = (Vec::new(), 0);
        let rate = self.bounds.rate.and_then(|rate| usize::try_from(rate).ok());
        let count_max = rate.map_or(BATCH_COUNT_MAX, |rate| BATCH_COUNT_MAX.min(rate));
        for _ in 0..count_max {
            if batch_size_bytes >= BATCH_SIZE_BYTES_MAX {
                break;
            }
            let planned = self.moved.done + batch.len() as u64;
            let is_enough = self.bounds.limit.is_some_and(|limit| planned >= limit);
            if is_enough || self.moved.seen >= self.there_count || self.held_count >= HELD_MAX {
                return Ok((batch, true));
            }
            let got = door.connection.get(door.channel, self.queue, false);
            let Some(got) = got.map_err(failed)? else {
                return Ok((batch, true));
            };
            self.moved.seen += 1;
            batch_size_bytes += got.body.len();
            let fate = fate(&got)?;
            batch.extend(self.settle(door, got, fate)?);
        }
        Ok((batch, false))
    }

    /// What is to be published, if that is its fate.
    fn settle(
        &mut self,
        door: &mut Door,
        got: GotMessage,
        fate: Fate,
    ) -> Result<Option<Leaving>, Failure> {
        match fate {
            Fate::Stay => {
                self.moved.stayed += 1;
                self.held_count += 1;
            }
            Fate::To { .. } | Fate::Drop if self.bounds.is_dry => {
                self.moved.done += 1;
                self.held_count += 1;
            }
            Fate::Drop => {
                let acked = door.connection.ack(door.channel, got.delivery_tag, false);
                acked.map_err(failed)?;
                self.moved.done += 1;
            }
            Fate::To {
                exchange,
                routing_key,
                properties,
            } => {
                return Ok(Some(Leaving {
                    tag: got.delivery_tag,
                    exchange,
                    routing_key,
                    properties,
                    body: got.body,
                }));
            }
        }
        Ok(None)
    }
}

/// Publishes a batch and acks what has arrived; gives how many have not.
fn publish(target: &Target, door: &mut Door, batch: &[Leaving]) -> Result<usize, Failure> {
    let (connection, channel) = (&mut door.connection, door.channel);
    let mut open = BTreeMap::new();
    for (at, message) in batch.iter().enumerate() {
        let template = connection.publish_template(
            channel,
            &message.exchange,
            &message.routing_key,
            true,
            &message.properties,
        );
        let template = template.map_err(failed)?;
        let seq = connection.publish_with(&template, &message.body);
        open.insert(seq.map_err(failed)?, at);
    }
    let mut stays = vec![false; batch.len()];
    let timeout = target.resolved.timeout;
    while !open.is_empty() {
        let incoming = connection.next(Some(timeout)).map_err(failed)?;
        match incoming.ok_or_else(|| failed(ClientError::Timeout { waited: timeout }))? {
            Incoming::Confirm(confirm) => {
                let later = open.split_off(&(confirm.tag + 1));
                let settled = if confirm.multiple {
                    mem::replace(&mut open, later)
                } else {
                    let one = open.split_off(&confirm.tag);
                    open.extend(later);
                    one
                };
                for at in settled.into_values().filter(|_| !confirm.is_ack) {
                    stays[at] = true;
                }
            }
            Incoming::Returned(returned) => {
                // It names no number; but the same message to the same exchange goes the same way.
                let is_it = |(message, stays): &(&Leaving, &mut bool)| {
                    !**stays
                        && message.exchange.as_bytes() == returned.exchange
                        && message.routing_key.as_bytes() == returned.routing_key
                        && message.properties.as_bytes() == returned.properties
                        && message.body == returned.body
                };
                let mut all = batch.iter().zip(stays.iter_mut());
                if let Some((_, stays)) = all.find(is_it) {
                    *stays = true;
                }
            }
            _ => {}
        }
    }
    for (message, _) in batch.iter().zip(&stays).filter(|(_, stays)| !**stays) {
        let acked = connection.ack(channel, message.tag, false);
        acked.map_err(failed)?;
    }
    connection.flush().map_err(failed)?;
    Ok(stays.iter().filter(|stays| **stays).count())
}

/// Until so many may have been moved.
fn pause(started: Instant, done: u64, rate: u32) {
    let due = Duration::from_millis(done.saturating_mul(1_000) / u64::from(rate.max(1)));
    thread::sleep(due.saturating_sub(started.elapsed()));
}
