//! Where a message goes.
//!
//! From the exchange it was published to, along bindings between exchanges, each exchange once.
//! An exchange none of whose bindings matches hands on to its alternate exchange, if it has one.

use std::collections::BTreeSet;

use staunch_types::{Message, QueueId, Refusal, Resource};

use super::arguments::Subject;
use super::exchange::Exchange;
use super::{Catalog, Vhost, short_name};
use crate::exchange::Matches;

/// Whether a message found queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// At least one.
    Queues,
    /// None: unroutable.
    Nowhere,
}

impl Catalog {
    /// Appends the queues that a client's message goes to: each once, sorted by id.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for its exchange, [`Refusal::InternalExchange`].
    pub fn route(
        &self,
        vhost: &[u8],
        message: &Message,
        out: &mut Vec<QueueId>,
    ) -> Result<Routed, Refusal> {
        if message.exchange().is_empty() {
            return self.route_by_name(vhost, message.routing_key(), out);
        }
        let (inside, exchange) = self.find_exchange(vhost, message.exchange())?;
        if exchange.options.internal {
            let (vhost, exchange) = (short_name(vhost), short_name(message.exchange()));
            return Err(Refusal::InternalExchange { exchange, vhost });
        }
        let (key, properties) = (message.routing_key(), message.properties());
        let at = Hop {
            vhost,
            inside,
            exchange: message.exchange(),
            key,
            properties,
        };
        Ok(self.follow(&at, exchange, out))
    }

    /// As [`Catalog::route`] for the broker itself, which may publish to internal exchanges
    /// (dead-lettering).
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for the exchange.
    pub fn route_onward(
        &self,
        vhost: &[u8],
        exchange: &[u8],
        routing_key: &[u8],
        properties: &[u8],
        out: &mut Vec<QueueId>,
    ) -> Result<Routed, Refusal> {
        if exchange.is_empty() {
            return self.route_by_name(vhost, routing_key, out);
        }
        let (inside, found) = self.find_exchange(vhost, exchange)?;
        let at = Hop {
            vhost,
            inside,
            exchange,
            key: routing_key,
            properties,
        };
        Ok(self.follow(&at, found, out))
    }

    /// The default exchange: every queue is bound to it by its name.
    fn route_by_name(
        &self,
        vhost: &[u8],
        routing_key: &[u8],
        out: &mut Vec<QueueId>,
    ) -> Result<Routed, Refusal> {
        if let Some(entry) = self.queues.by_name(vhost, routing_key) {
            out.push(entry.id);
            return Ok(Routed::Queues);
        }
        self.vhost(vhost)?;
        Ok(Routed::Nowhere)
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

    fn follow(&self, start: &Hop<'_>, exchange: &Exchange, out: &mut Vec<QueueId>) -> Routed {
        let before = out.len();
        let mut matches = Matches {
            queues: out,
            exchanges: Vec::new(),
        };
        start.ask(exchange, &mut matches);
        if !matches.exchanges.is_empty() {
            self.follow_exchanges(start, &mut matches);
        }
        sort_tail(out, before);
        if out.len() > before {
            Routed::Queues
        } else {
            Routed::Nowhere
        }
    }

    /// Asks every exchange that can be reached, each once, so that cycles end.
    fn follow_exchanges(&self, start: &Hop<'_>, matches: &mut Matches<'_>) {
        let mut asked = BTreeSet::from([short_name(start.exchange)]);
        while let Some(name) = matches.exchanges.pop() {
            if !asked.insert(name.clone()) {
                continue;
            }
            if name.is_empty() {
                // An alternate exchange may be the default one.
                let queue = self.queues.by_name(start.vhost, start.key);
                matches.queues.extend(queue.map(|entry| entry.id));
            } else if let Some(exchange) = start.inside.exchanges.get(&name) {
                start.ask(exchange, matches);
            }
        }
    }
}

/// A message on its way.
struct Hop<'a> {
    vhost: &'a [u8],
    inside: &'a Vhost,
    exchange: &'a [u8],
    key: &'a [u8],
    properties: &'a [u8],
}

impl Hop<'_> {
    fn ask(&self, exchange: &Exchange, matches: &mut Matches<'_>) {
        let before = matches.len();
        exchange.router.route(self.key, self.properties, matches);
        if matches.len() == before
            && let Some(alternate) = &exchange.alternate
        {
            matches.exchanges.push(alternate.clone());
        }
    }
}

/// Sorts what lies behind `start` and drops repetitions.
fn sort_tail(out: &mut Vec<QueueId>, start: usize) {
    let tail = &mut out[start..];
    if tail.len() < 2 {
        return;
    }
    tail.sort_unstable();
    let mut kept = 1;
    for at in 1..tail.len() {
        if tail[at] != tail[kept - 1] {
            tail[kept] = tail[at];
            kept += 1;
        }
    }
    out.truncate(start + kept);
}
