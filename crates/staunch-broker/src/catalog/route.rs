//! Where a message goes.
//!
//! From the exchange it was published to, along bindings between exchanges, each exchange once.
//! An exchange none of whose bindings matches hands on to its alternate exchange, if it has one.
//! An exchange that delays puts a message with a delay into a queue of its own, and routes it
//! when the delay is over.

use std::collections::BTreeSet;

use staunch_types::{Name, QueueId, Refusal, Resource};

use super::arguments::Subject;
use super::exchange::Exchange;
use super::{Catalog, Vhost, short_name};
use crate::exchange::{Envelope, Matches, delay_millis};

/// Where a message goes. Its owner keeps it and has it filled anew for each message.
#[derive(Debug)]
pub struct Route {
    /// Queues it goes to: each once, sorted by id.
    pub queues: Vec<QueueId>,
    /// Queues that hold it back before it goes on ([`Catalog::route_delayed`]), and for how many
    /// milliseconds.
    pub delayed: Vec<(QueueId, u64)>,
    /// Every message with the same exchange and routing key, and without further keys, goes the
    /// same way until the catalog changes.
    pub is_cacheable: bool,
    /// State of the sequence that random choices are drawn from.
    draws: u64,
}

impl Route {
    /// An empty one. `seed` decides random choices (`x-random`, `x-local-random`).
    pub fn new(seed: u64) -> Self {
        Self {
            queues: Vec::new(),
            delayed: Vec::new(),
            is_cacheable: false,
            draws: seed,
        }
    }

    /// Whether the message is unroutable.
    pub fn is_nowhere(&self) -> bool {
        self.queues.is_empty() && self.delayed.is_empty()
    }

    /// Forgets the last message.
    pub fn clear(&mut self) {
        self.queues.clear();
        self.delayed.clear();
        self.is_cacheable = false;
    }
}

impl Catalog {
    /// Finds where a client's message goes.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for its exchange, [`Refusal::InternalExchange`]; `out` is empty then.
    pub fn route(
        &self,
        vhost: &[u8],
        envelope: &Envelope<'_>,
        out: &mut Route,
    ) -> Result<(), Refusal> {
        out.clear();
        if envelope.exchange.is_empty() {
            return self.route_by_name(vhost, envelope, out);
        }
        let (inside, exchange) = self.find_public_exchange(vhost, envelope.exchange)?;
        self.follow(inside, exchange, envelope, out);
        Ok(())
    }

    /// Checks that clients may publish to an exchange, as [`Catalog::route`] does: what is wrong
    /// with the message itself is said only if this holds.
    ///
    /// # Errors
    /// As [`Catalog::route`].
    pub fn check_publishable(&self, vhost: &[u8], exchange: &[u8]) -> Result<(), Refusal> {
        if exchange.is_empty() {
            return Ok(());
        }
        self.find_public_exchange(vhost, exchange).map(drop)
    }

    /// As [`Catalog::route`] for the broker itself, which may publish to internal exchanges
    /// (dead letters, events).
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for the exchange.
    pub fn route_onward(
        &self,
        vhost: &[u8],
        envelope: &Envelope<'_>,
        out: &mut Route,
    ) -> Result<(), Refusal> {
        out.clear();
        if envelope.exchange.is_empty() {
            return self.route_by_name(vhost, envelope, out);
        }
        let (inside, exchange) = self.find_exchange(vhost, envelope.exchange)?;
        self.follow(inside, exchange, envelope, out);
        Ok(())
    }

    /// Finds where a message goes whose delay in `held_in` is over. The exchange of the envelope
    /// plays no part, since the message may have come to the one that delays through others; its
    /// properties shall be those of [`properties_after_delay`](crate::properties_after_delay).
    ///
    /// # Errors
    /// [`Refusal::NotFound`] when the exchange has gone.
    pub fn route_delayed(
        &self,
        held_in: QueueId,
        envelope: &Envelope<'_>,
        out: &mut Route,
    ) -> Result<(), Refusal> {
        out.clear();
        let holder = self
            .queues
            .by_id(held_in)
            .filter(|queue| queue.holds_delayed);
        let (vhost, name): (&[u8], &[u8]) = match holder {
            Some(holder) => (&holder.vhost, &holder.name),
            None => (b"", envelope.exchange),
        };
        let (inside, exchange) = self.find_exchange(vhost, name)?;
        let envelope = Envelope {
            exchange: name,
            ..*envelope
        };
        let ask = |envelope: &Envelope<'_>, out: &mut Route| {
            let mut journey = Journey::new(inside, envelope, out);
            journey.ask_router(exchange);
            journey.finish();
        };
        ask(&envelope, out);
        self.split(&envelope, out, ask);
        Ok(())
    }

    fn follow(
        &self,
        inside: &Vhost,
        exchange: &Exchange,
        envelope: &Envelope<'_>,
        out: &mut Route,
    ) {
        let ask = |envelope: &Envelope<'_>, out: &mut Route| {
            let mut journey = Journey::new(inside, envelope, out);
            journey.ask(exchange);
            journey.finish();
        };
        ask(envelope, out);
        self.split(envelope, out, ask);
    }

    /// Takes partitions in place of queues that have some. `ask` finds the queues of a message.
    fn split(
        &self,
        envelope: &Envelope<'_>,
        out: &mut Route,
        ask: impl Fn(&Envelope<'_>, &mut Route),
    ) {
        if self.queues.split_count() == 0 {
            return;
        }
        let draws = out.draws;
        self.choose_partitions(envelope, &mut out.queues, |alone, queue| {
            let mut route = Route::new(draws);
            ask(alone, &mut route);
            route.queues.contains(&queue)
        });
        sort_once(&mut out.queues);
    }

    /// The default exchange: every queue is bound to it by its name.
    fn route_by_name(
        &self,
        vhost: &[u8],
        envelope: &Envelope<'_>,
        out: &mut Route,
    ) -> Result<(), Refusal> {
        out.is_cacheable = true;
        if let Some(entry) = self.queues.by_name(vhost, envelope.routing_key) {
            out.queues.push(entry.id);
        }
        if !envelope.more_keys.is_empty() {
            let by_name = |key: &&[u8]| self.queues.by_name(vhost, key).map(|entry| entry.id);
            out.queues
                .extend(envelope.more_keys.iter().filter_map(by_name));
            sort_once(&mut out.queues);
        }
        if out.queues.is_empty() {
            self.vhost(vhost)?;
        }
        self.split(envelope, out, |alone, route| {
            let entry = self.queues.by_name(vhost, alone.routing_key);
            route.queues.extend(entry.map(|entry| entry.id));
        });
        Ok(())
    }

    fn find_public_exchange(
        &self,
        vhost: &[u8],
        name: &[u8],
    ) -> Result<(&Vhost, &Exchange), Refusal> {
        let (inside, exchange) = self.find_exchange(vhost, name)?;
        if exchange.options.internal {
            let (vhost, exchange) = (short_name(vhost), short_name(name));
            return Err(Refusal::InternalExchange { exchange, vhost });
        }
        Ok((inside, exchange))
    }

    fn find_exchange(&self, vhost: &[u8], name: &[u8]) -> Result<(&Vhost, &Exchange), Refusal> {
        let inside = self.vhost(vhost)?;
        let exchange = inside.exchanges.get(name).ok_or_else(|| {
            let (vhost, name) = (&short_name(vhost), &short_name(name));
            Subject {
                resource: Resource::Exchange,
                vhost,
                name,
            }
            .not_found()
        })?;
        Ok((inside, exchange))
    }
}

/// A message on its way.
struct Journey<'a> {
    inside: &'a Vhost,
    envelope: &'a Envelope<'a>,
    matches: Matches<'a>,
    delayed: &'a mut Vec<(QueueId, u64)>,
    is_cacheable: &'a mut bool,
}

impl<'a> Journey<'a> {
    fn new(inside: &'a Vhost, envelope: &'a Envelope<'a>, out: &'a mut Route) -> Self {
        let Route {
            queues,
            delayed,
            is_cacheable,
            draws,
        } = out;
        Self {
            inside,
            envelope,
            matches: Matches {
                queues,
                exchanges: Vec::new(),
                is_cacheable: true,
                draws,
            },
            delayed,
            is_cacheable,
        }
    }

    /// Asks the exchanges that the first one led to.
    fn finish(&mut self) {
        if !self.matches.exchanges.is_empty() {
            follow_exchanges(self);
        }
        *self.is_cacheable = self.matches.is_cacheable;
        sort_once(self.matches.queues);
    }

    fn ask(&mut self, exchange: &Exchange) {
        if let Some(queue) = exchange.delay_queue {
            self.matches.is_cacheable = false;
            if let Some(millis) = delay_millis(self.envelope.properties) {
                self.delayed.push((queue, millis));
                return;
            }
        }
        self.ask_router(exchange);
    }

    fn ask_router(&mut self, exchange: &Exchange) {
        let before = self.matches.len();
        exchange.router.route(self.envelope, &mut self.matches);
        if self.matches.len() == before
            && let Some(alternate) = &exchange.alternate
        {
            self.matches.exchanges.push(alternate.clone());
        }
    }
}

/// Asks every exchange that can be reached, each once, so that cycles end.
fn follow_exchanges(journey: &mut Journey<'_>) {
    let mut asked = BTreeSet::from([short_name(journey.envelope.exchange)]);
    while let Some(name) = journey.matches.exchanges.pop() {
        if !asked.insert(Name::clone(&name)) {
            continue;
        }
        // The default exchange as an alternate leads nowhere, as in RabbitMQ: there are no
        // bindings in it, only what is published to it finds queues by their names.
        if let Some(exchange) = journey.inside.exchanges.get(&name) {
            journey.ask(exchange);
        }
    }
}

/// Sorts and drops repetitions.
fn sort_once(queues: &mut Vec<QueueId>) {
    if queues.len() > 1 {
        queues.sort_unstable();
        queues.dedup();
    }
}
