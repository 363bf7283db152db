//! Content on its way in: deliveries, gets and returns, frame by frame.

use staunch_amqp_codec::{
    content::ContentHeader,
    frame::{Frame, FrameKind},
};

use staunch_types::{field_table::Value, properties::Properties};

use crate::{
    client::{
        Wire,
        channel::{Channel, Held, Phase},
    },
    history::{Fact, MessageId, QueueRef, Stamp},
    payload,
    witness::Witness,
};

/// Header that tells how often a message came back, in queues that count it.
const DELIVERY_COUNT: &[u8] = b"x-delivery-count";

/// What announced the content.
#[derive(Clone, Debug)]
pub enum Carrier {
    /// `basic.deliver`
    Deliver {
        /// Consumer tag.
        consumer: String,
        /// As flagged.
        redelivered: bool,
        /// Delivery tag.
        tag: u64,
    },
    /// `basic.get-ok`
    Get {
        /// Asked of this queue.
        queue: QueueRef,
        /// At this time.
        asked: Stamp,
        /// Without ack.
        no_ack: bool,
        /// As flagged.
        redelivered: bool,
        /// Delivery tag.
        tag: u64,
    },
    /// `basic.return`
    Return,
}

/// Content of which frames are still due.
#[derive(Debug)]
pub struct Assembling {
    carrier: Carrier,
    exchange: Vec<u8>,
    key: Vec<u8>,
    header: Option<(u64, Vec<u8>)>,
    body: Vec<u8>,
}

impl Assembling {
    /// Content announced by a method.
    pub fn new(carrier: Carrier, exchange: &[u8], key: &[u8]) -> Self {
        let (exchange, key) = (exchange.to_vec(), key.to_vec());
        Self {
            carrier,
            exchange,
            key,
            header: None,
            body: Vec::new(),
        }
    }

    /// Whether the message is byte for byte what was published under `id`, but for what a broker
    /// adds on the way.
    fn is_intact(&self, id: MessageId, queue: Option<QueueRef>, witness: &mut Witness) -> bool {
        let Some(published) = witness.published(id) else {
            return true;
        };
        let payload = &published.payload;
        let Some((_, raw)) = &self.header else {
            return false;
        };
        let at_once =
            self.exchange == payload.exchange.as_bytes() && self.key == payload.key.as_bytes();
        if matches!(self.carrier, Carrier::Return) {
            return at_once && *raw == payload.properties() && self.body == payload.body();
        }
        let headers = Properties::parse(raw).ok();
        let headers = headers.and_then(Properties::headers).unwrap_or_default();
        let is_same_as = |sent: Vec<u8>| {
            payload::without_headers(raw) == Some(sent)
                && self.body == payload.body()
                && payload::delay_over(headers) == payload.delay_millis.map(i64::from)
        };
        let Some(death) = headers.get("x-death").and_then(Value::as_array) else {
            let same = is_same_as(payload.properties_without_headers());
            let is_known = |key: &[u8]| key == DELIVERY_COUNT || payload::is_own_header(key);
            return same && at_once && headers.iter().all(|(key, _)| is_known(key));
        };
        let topology = witness.definitions.topology();
        let queue = queue.map(|queue| &topology.queues[queue.0]);
        let may_be = queue.is_some_and(|queue| {
            queue.gets_dead_letters && self.exchange.is_empty() && self.key == queue.name.as_bytes()
        });
        let newest = death.iter().next().and_then(Value::as_table);
        let text = |key: &str| newest.and_then(|death| death.get(key)?.as_str());
        let from = text("queue").and_then(|name| topology.queue_named(name));
        let came_from = from.and_then(|from| topology.queues[from.0].dead_letters_to);
        let is_told = queue.is_some()
            && came_from.map(|to| &topology.queues[to.0].name) == queue.map(|queue| &queue.name);
        let seen = match text("reason") {
            Some("expired") => "dead letter: expired",
            Some("maxlen") => "dead letter: maxlen",
            Some("rejected") => "dead letter: rejected",
            Some("delivery_limit") => "dead letter: delivery_limit",
            _ => return false,
        };
        let same = is_same_as(payload.properties_of_dead_letter());
        witness.coverage.hit(seen);
        same && may_be && is_told
    }
}

impl Channel {
    /// Takes a header or body frame.
    pub fn receive_content(&mut self, frame: Frame<'_>, wire: &mut Wire<'_>) {
        if self.phase == Phase::Closing {
            self.assembling = None;
            return;
        }
        let Some(assembling) = &mut self.assembling else {
            let what = format!(
                "{:?} frame out of place on channel {}",
                frame.kind, frame.channel
            );
            return wire.witness.protocol_broken(what);
        };
        match (frame.kind, &assembling.header) {
            (FrameKind::Header, None) => match ContentHeader::decode(frame.payload) {
                Ok(header) => {
                    assembling.header =
                        Some((header.body_size_bytes, header.properties_raw.to_vec()));
                }
                Err(error) => return wire.witness.protocol_broken(error.to_string()),
            },
            (FrameKind::Body, Some(_)) => assembling.body.extend_from_slice(frame.payload),
            _ => {
                let what = format!("{:?} frame out of place", frame.kind);
                return wire.witness.protocol_broken(what);
            }
        }
        let size = assembling
            .header
            .as_ref()
            .map_or(u64::MAX, |(size, _)| *size);
        if assembling.body.len() as u64 >= size
            && let Some(whole) = self.assembling.take()
        {
            self.receive_message(&whole, wire);
        }
    }

    fn receive_message(&mut self, message: &Assembling, wire: &mut Wire<'_>) {
        let properties = message.header.as_ref().map_or(&[][..], |(_, raw)| raw);
        let Some(id) = payload::id_of(properties) else {
            let what = format!("a message without a mark came as {:?}", message.carrier);
            return wire.witness.protocol_broken(what);
        };
        let queue = self.queue_of(&message.carrier);
        let intact = message.is_intact(id, queue, wire.witness);
        match &message.carrier {
            Carrier::Return => {
                if !intact {
                    wire.witness
                        .protocol_broken(format!("message {} came back altered", id.0));
                }
                wire.witness.history.push(Fact::Returned { id });
            }
            Carrier::Get {
                queue,
                asked,
                no_ack,
                redelivered,
                tag,
            } => {
                wire.witness.coverage.hit("got");
                self.check_tag(*tag, wire);
                let from = (*queue, *asked);
                let what = (id, *redelivered, intact);
                self.received(from, what, *tag, (None, *no_ack), wire);
            }
            Carrier::Deliver {
                consumer,
                redelivered,
                tag,
            } => {
                self.check_tag(*tag, wire);
                self.delivered(consumer, (id, *redelivered, intact), *tag, wire);
            }
        }
    }

    /// The queue a message came from, as far as the client knows.
    fn queue_of(&self, carrier: &Carrier) -> Option<QueueRef> {
        match carrier {
            Carrier::Deliver { consumer, .. } => {
                self.consumers.get(consumer).map(|state| state.queue)
            }
            Carrier::Get { queue, .. } => Some(*queue),
            Carrier::Return => None,
        }
    }

    fn delivered(
        &mut self,
        consumer: &str,
        (id, redelivered, intact): (MessageId, bool, bool),
        tag: u64,
        wire: &mut Wire<'_>,
    ) {
        wire.witness.coverage.hit("delivered");
        if redelivered {
            wire.witness.coverage.hit("redelivered");
        }
        let Some(state) = self.consumers.get_mut(consumer) else {
            let what = format!("delivery to unknown consumer '{consumer}'");
            return wire.witness.protocol_broken(what);
        };
        let (from, no_ack) = ((state.queue, state.asked), state.no_ack);
        if !no_ack {
            state.held += 1;
        }
        let over = state.held_max > 0 && state.held > state.held_max;
        if over {
            let what = format!("consumer '{consumer}' got more than its prefetch");
            wire.witness.protocol_broken(what);
        }
        let held: usize = self
            .unacked
            .values()
            .filter(|held| held.consumer.is_some())
            .count();
        let limit = usize::from(self.prefetch_global);
        if limit > 0 && !no_ack && held >= limit {
            let what = format!("channel {} got more than its prefetch", self.key.0);
            wire.witness.protocol_broken(what);
        }
        let name = Some(consumer.to_owned());
        let what = (id, redelivered, intact);
        self.received(from, what, tag, (name, no_ack), wire);
    }

    fn received(
        &mut self,
        (queue, asked): (QueueRef, Stamp),
        (id, redelivered, intact): (MessageId, bool, bool),
        tag: u64,
        (consumer, no_ack): (Option<String>, bool),
        wire: &mut Wire<'_>,
    ) {
        let Some(emission) = wire.witness.emission(wire.connection, self.number, tag) else {
            let what = format!("tag {tag} on channel {} was never emitted", self.number);
            return wire.witness.protocol_broken(what);
        };
        let channel = self.key;
        let fact = Fact::Received {
            emission,
            channel,
            queue,
            id,
            redelivered,
            intact,
            asked,
        };
        wire.witness.history.push(fact);
        if !no_ack {
            self.unacked.insert(tag, Held { emission, consumer });
        }
    }

    /// Tags of one channel count without gaps.
    fn check_tag(&mut self, tag: u64, wire: &mut Wire<'_>) {
        if tag != self.last_delivery_tag + 1 {
            let what = format!("delivery tag {tag} came after {}", self.last_delivery_tag);
            wire.witness.protocol_broken(what);
        }
        self.last_delivery_tag = tag;
    }
}
