//! Takes messages out of a queue, and gives each a new place before it lets go of the old one.
//!
//! A batch is got, published with confirms and `mandatory`, and only what is confirmed and was not
//! returned is acked. So nothing is lost whenever this ends. If the node ends in between, what was
//! confirmed and not yet acked is in both places: one batch at most. What is passed over or refused is
//! held and returns to its place at the end, so that it is not met twice; what comes in after the
//! beginning is not meant.

use std::time::Duration;

use staunch_types::{
    Delivery, Event, FieldTable, Message, Outcome, PublishSeq, QueueOptions, Reply, Request,
    request::{DeclareQueue, Publish, Settle},
};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::{Filter, Kind, Moved, Report, State, Task};
use crate::{
    Api,
    auth::Caller,
    deaths::{Origin, replayed},
    error::ApiError,
    json::name,
    session::{CHANNEL, Session},
};

/// Messages that are published before their confirms are awaited.
const BATCH_COUNT_MAX: u64 = 100;
/// Bytes of their bodies after which a batch is full.
const BATCH_SIZE_BYTES_MAX: usize = 4 << 20;
/// Messages that are held at most: beyond them it ends.
const HELD_MAX: u64 = 20_000;
/// How long the confirms of a batch are waited for.
const CONFIRM_TIMEOUT: Duration = Duration::from_mins(1);

/// What becomes of a message.
enum Fate {
    /// It is published.
    To(Message),
    /// It is gone.
    Drop,
    /// It stays.
    Stay,
}

/// A message of a batch that is to be published.
struct Leaving {
    delivery: Delivery,
    message: Message,
    stays: bool,
}

/// A transfer on its way.
struct Run<'a> {
    session: Session,
    task: &'a Task,
    moved: Moved,
    held_count: u64,
    seq_next: u64,
}

/// Does what the task says, and tells after every batch how far it is.
pub(super) async fn run(
    api: &Api,
    caller: &Caller,
    task: &Task,
    report: &Report,
    mut cancelled: watch::Receiver<bool>,
) -> Result<State, ApiError> {
    let mut session = Session::open(api, caller, task.vhost()?).await?;
    let total = ready_count(&mut session, &task.queue).await?;
    if let Some(to) = &task.to {
        ready_count(&mut session, to).await?;
    }
    let mut run = Run {
        session,
        task,
        moved: Moved {
            total,
            ..Moved::default()
        },
        held_count: 0,
        seq_next: 1,
    };
    report.tell(run.moved);
    let started = Instant::now();
    let mut state = State::Done;
    loop {
        let (batch, is_over) = run.take().await?;
        // Nothing can be published while a resource runs low.
        if !batch.is_empty() {
            tokio::select! {
                biased;
                calm = run.session.calm() => calm?,
                _ = cancelled.wait_for(|is_cancelled| *is_cancelled) => {
                    state = State::Cancelled;
                    break;
                }
            }
        }
        time::timeout(CONFIRM_TIMEOUT, run.publish(batch))
            .await
            .map_err(|_| ApiError::Precondition("a queue confirms nothing".to_owned()))??;
        report.tell(run.moved);
        if is_over {
            break;
        }
        let due = started + due_after(run.moved.done, task.rate);
        tokio::select! {
            biased;
            _ = cancelled.wait_for(|is_cancelled| *is_cancelled) => {
                state = State::Cancelled;
                break;
            }
            () = time::sleep_until(due) => {}
        }
    }
    run.session.close().await;
    Ok(state)
}

/// Messages that are ready in a queue, which must be there.
async fn ready_count(session: &mut Session, queue: &str) -> Result<u64, ApiError> {
    let asked = Request::DeclareQueue(DeclareQueue {
        channel: CHANNEL,
        queue: name(queue)?,
        server_named: false,
        passive: true,
        options: QueueOptions {
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::default(),
        },
    });
    match session.ask(asked).await? {
        Reply::QueueDeclared { ready_count, .. } => Ok(ready_count),
        _ => Err(ApiError::Unavailable),
    }
}

impl Run<'_> {
    /// The next batch, and whether it is the last.
    async fn take(&mut self) -> Result<(Vec<Leaving>, bool), ApiError> {
        let (mut batch, mut batch_size_bytes) = (Vec::new(), 0);
        let rate = self.task.rate.map_or(BATCH_COUNT_MAX, u64::from);
        for _ in 0..BATCH_COUNT_MAX.min(rate) {
            if batch_size_bytes >= BATCH_SIZE_BYTES_MAX {
                break;
            }
            let planned = self.moved.done + batch.len() as u64;
            let is_enough = self.task.count.is_some_and(|count| planned >= count);
            if is_enough || self.moved.seen >= self.moved.total || self.held_count >= HELD_MAX {
                return Ok((batch, true));
            }
            let get = Request::Get {
                channel: CHANNEL,
                queue: name(&self.task.queue)?,
                no_ack: false,
            };
            let Reply::Got { delivery, .. } = self.session.ask(get).await? else {
                return Ok((batch, true));
            };
            self.moved.seen += 1;
            batch_size_bytes += delivery.message.body().len();
            if let Some(leaving) = self.judge(*delivery).await? {
                batch.push(leaving);
            }
        }
        Ok((batch, false))
    }

    /// What is to be published, if that is a message's fate.
    async fn judge(&mut self, delivery: Delivery) -> Result<Option<Leaving>, ApiError> {
        match fate(self.task, &delivery.message)? {
            Fate::Stay => {
                self.moved.stayed += 1;
                self.held_count += 1;
            }
            Fate::To(_) | Fate::Drop if self.task.dry_run => {
                self.moved.done += 1;
                self.held_count += 1;
            }
            Fate::Drop => {
                self.session.say(vec![ack(&delivery)]).await?;
                self.moved.done += 1;
            }
            Fate::To(message) => {
                return Ok(Some(Leaving {
                    delivery,
                    message,
                    stays: false,
                }));
            }
        }
        Ok(None)
    }

    /// Publishes a batch and acks what has arrived.
    async fn publish(&mut self, mut batch: Vec<Leaving>) -> Result<(), ApiError> {
        if batch.is_empty() {
            return Ok(());
        }
        let first = self.seq_next;
        let publishes = batch.iter().zip(first..).map(|(leaving, seq)| {
            Request::Publish(Publish {
                channel: CHANNEL,
                seq: Some(PublishSeq(seq)),
                mandatory: true,
                message: leaving.message.clone(),
            })
        });
        self.session.say(publishes.collect()).await?;
        self.seq_next += batch.len() as u64;
        let mut open = batch.len();
        while open > 0 {
            match self.session.hear().await? {
                Event::Confirmed { first, last, .. } => {
                    open -= usize::try_from(last.0 - first.0 + 1)
                        .unwrap_or(open)
                        .min(open);
                }
                Event::Nacked {
                    first: from, last, ..
                } => {
                    for seq in from.0..=last.0 {
                        let at = usize::try_from(seq - first).unwrap_or(usize::MAX);
                        if let Some(leaving) = batch.get_mut(at) {
                            leaving.stays = true;
                        }
                        open = open.saturating_sub(1);
                    }
                }
                // It names no number; but the same message to the same exchange goes the same way.
                Event::Returned { message, .. } => {
                    let is_it = |leaving: &&mut Leaving| {
                        !leaving.stays && is_same(&leaving.message, &message)
                    };
                    if let Some(leaving) = batch.iter_mut().find(is_it) {
                        leaving.stays = true;
                    }
                }
                _ => {}
            }
        }
        let arrived = batch.iter().filter(|leaving| !leaving.stays);
        let acks: Vec<_> = arrived.map(|leaving| ack(&leaving.delivery)).collect();
        let arrived_count = acks.len() as u64;
        if !acks.is_empty() {
            self.session.say(acks).await?;
        }
        let stayed_count = batch.len() as u64 - arrived_count;
        self.moved.done += arrived_count;
        self.moved.refused += stayed_count;
        self.held_count += stayed_count;
        Ok(())
    }
}

/// What the task wants done with a message.
fn fate(task: &Task, message: &Message) -> Result<Fate, ApiError> {
    let origin = Origin::of(message.properties());
    if !wants(&task.filter, origin.as_ref()) {
        return Ok(Fate::Stay);
    }
    let (exchange, routing_key, properties) = match task.kind {
        Kind::Drop => return Ok(Fate::Drop),
        Kind::Move => {
            let properties = message.properties().to_vec();
            match (&task.to, &task.to_exchange) {
                (Some(queue), _) => (Vec::new(), queue.clone().into_bytes(), properties),
                (None, exchange) => {
                    let exchange = exchange.clone().unwrap_or_default().into_bytes();
                    (exchange, message.routing_key().to_vec(), properties)
                }
            }
        }
        Kind::Replay => {
            let Some(origin) = origin else {
                return Ok(Fate::Stay);
            };
            let properties = replayed(message.properties(), &origin, !task.republish)?;
            if task.republish {
                let (exchange, key) = (origin.exchange, origin.routing_key);
                (exchange.into_bytes(), key.into_bytes(), properties)
            } else if origin.queue == task.queue {
                return Ok(Fate::Stay);
            } else {
                (Vec::new(), origin.queue.into_bytes(), properties)
            }
        }
    };
    // What no frame could carry is no message.
    for text in [&exchange, &routing_key] {
        staunch_types::Name::new(text).map_err(|error| ApiError::BadRequest(error.to_string()))?;
    }
    let message = Message::copied(&exchange, &routing_key, &properties, message.body());
    Ok(Fate::To(message))
}

fn wants(filter: &Filter, origin: Option<&Origin>) -> bool {
    let Some(origin) = origin else {
        return !filter.is_of_deaths();
    };
    let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|it| it == found);
    is(&filter.reason, &origin.reason)
        && is(&filter.origin, &origin.queue)
        && filter
            .replays_below
            .is_none_or(|below| origin.replays < below)
}

fn ack(delivery: &Delivery) -> Request {
    Request::Settle(Settle {
        channel: CHANNEL,
        consumer: delivery.consumer,
        queue: delivery.queue,
        first: delivery.index,
        count: 1,
        outcome: Outcome::Ack,
    })
}

fn is_same(one: &Message, other: &Message) -> bool {
    one.exchange() == other.exchange()
        && one.routing_key() == other.routing_key()
        && one.properties() == other.properties()
        && one.body() == other.body()
}

/// When so many may have been moved, since the beginning.
fn due_after(done: u64, rate: Option<u32>) -> Duration {
    let rate = rate.map(|rate| u64::from(rate.max(1)));
    rate.map_or(Duration::ZERO, |rate| {
        Duration::from_millis(done.saturating_mul(1_000) / rate)
    })
}
