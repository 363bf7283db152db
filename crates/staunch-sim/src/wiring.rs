//! The waist as the simulator wires it: it watches what crosses, and plants bugs there.

use std::collections::BTreeMap;

use staunch_types::{
    ChannelNumber, ConnectionId, Delivery, Event, FieldTable, Message, Outcome, PublishSeq, Reply,
    Request,
    field_table::TableBuilder,
    request::{Publish, Settle},
};

use crate::{
    disk::SimDisk,
    history::{Fact, MessageId},
    payload,
    planted::Planted,
    random::Random,
    witness::Witness,
};

/// Copies that make a majority of a queue's nodes, which are three where nobody says otherwise.
const GROUP_MAJORITY: usize = 2;

/// What watches and plants.
#[derive(Debug)]
pub struct Wiring {
    planted: Option<Planted>,
    disks: Vec<SimDisk>,
    random: Random,
    /// Publishes that wait for their confirm.
    unconfirmed: BTreeMap<(ConnectionId, ChannelNumber, PublishSeq), MessageId>,
    /// What channels in transaction mode have published and are committing.
    transactions: BTreeMap<(ConnectionId, ChannelNumber), Transaction>,
}

#[derive(Debug, Default)]
struct Transaction {
    published: Vec<MessageId>,
    committing: Vec<MessageId>,
}

impl Wiring {
    /// The wiring of a new process.
    pub fn new(planted: Option<Planted>, disks: Vec<SimDisk>, random: Random) -> Self {
        Self {
            planted,
            disks,
            random,
            unconfirmed: BTreeMap::new(),
            transactions: BTreeMap::new(),
        }
    }

    /// Requests on their way to the node; what reaches it, and what is answered instead of it.
    pub fn requests(
        &mut self,
        id: ConnectionId,
        requests: Vec<Request>,
        out: &mut Witness,
    ) -> (Vec<Request>, Vec<Event>) {
        let (mut passed, mut answers) = (Vec::with_capacity(requests.len()), Vec::new());
        for request in requests {
            if let Request::Publish(publish) = &request
                && let (Some(seq), Some(message)) =
                    (publish.seq, payload::id_of(publish.message.properties()))
            {
                self.unconfirmed.insert((id, publish.channel, seq), message);
            }
            self.follow_tx(id, &request);
            if let Request::OpenChannel { channel } = &request {
                self.transactions.remove(&(id, *channel));
                self.unconfirmed
                    .retain(|key, _| (key.0, key.1) != (id, *channel));
            }
            match self.plant_in_request(id, request, out) {
                Passed::On(request) => passed.push(request),
                Passed::Twice(first, second) => passed.extend([*first, *second]),
                Passed::Answered(event) => answers.push(event),
                Passed::Dropped => {}
            }
        }
        (passed, answers)
    }

    fn follow_tx(&mut self, id: ConnectionId, request: &Request) {
        match request {
            Request::SelectTx { channel } => {
                self.transactions.entry((id, *channel)).or_default();
            }
            Request::Publish(publish) => {
                let tx = self.transactions.get_mut(&(id, publish.channel));
                let message = payload::id_of(publish.message.properties());
                if let (Some(tx), Some(message)) = (tx, message) {
                    tx.published.push(message);
                }
            }
            Request::Commit { channel, .. } => {
                if let Some(tx) = self.transactions.get_mut(&(id, *channel)) {
                    tx.committing = std::mem::take(&mut tx.published);
                }
            }
            Request::Rollback { channel } => {
                if let Some(tx) = self.transactions.get_mut(&(id, *channel)) {
                    tx.published.clear();
                }
            }
            _ => {}
        }
    }

    /// Events on their way to a connection.
    pub fn events(
        &mut self,
        id: ConnectionId,
        mut events: Vec<Event>,
        out: &mut Witness,
    ) -> Vec<Event> {
        match self.planted {
            Some(Planted::CorruptBody) => {
                for event in &mut events {
                    if let Event::Delivery(delivery) = event {
                        self.corrupt(delivery, out);
                    }
                }
            }
            Some(Planted::DropRedelivered) => {
                for event in &mut events {
                    if let Event::Delivery(delivery) = event
                        && delivery.redelivered
                        && self.strikes(100, out)
                    {
                        delivery.redelivered = false;
                    }
                }
            }
            Some(Planted::SwapDeliveries) => {
                for at in 1..events.len() {
                    if are_swappable(&events[at - 1], &events[at]) && self.strikes(100, out) {
                        events.swap(at - 1, at);
                    }
                }
            }
            Some(Planted::DropConfirm) => {
                let is_confirm = |event: &Event| matches!(event, Event::Confirmed { .. });
                events.retain(|event| !is_confirm(event) || !self.strikes(20, out));
            }
            Some(Planted::DropReturn) => {
                let is_return = |event: &Event| matches!(event, Event::Returned { .. });
                events.retain(|event| !is_return(event) || !self.strikes(200, out));
            }
            Some(Planted::RushDelay | Planted::StretchDelay) => {
                for event in &mut events {
                    tell_published_delay(event, out);
                }
            }
            _ => {}
        }
        let _: ConnectionId = id;
        events
    }

    /// Records what an event means.
    pub fn observe(&mut self, id: ConnectionId, event: &Event, out: &mut Witness) {
        match event {
            Event::Delivery(delivery) => out.emit(id, delivery),
            Event::Reply {
                reply: Reply::Got { delivery, .. },
                ..
            } => out.emit(id, delivery),
            Event::Confirmed {
                channel,
                first,
                last,
            } => {
                for seq in first.0..=last.0 {
                    if let Some(message) = self.unconfirmed.remove(&(id, *channel, PublishSeq(seq)))
                    {
                        self.confirm_sent(message, out);
                    }
                }
            }
            Event::Reply {
                channel,
                reply: Reply::Committed,
            } => {
                let tx = self.transactions.get_mut(&(id, *channel));
                for message in tx.map_or_else(Vec::new, |tx| std::mem::take(&mut tx.committing)) {
                    self.confirm_sent(message, out);
                }
            }
            Event::Alarm { memory, disk } => {
                if *memory {
                    out.coverage.hit("memory alarm");
                }
                if *disk {
                    out.coverage.hit("disk alarm");
                }
            }
            _ => {}
        }
    }

    /// A message that certainly went to a durable queue must be durable when it is confirmed.
    fn confirm_sent(&mut self, id: MessageId, out: &mut Witness) {
        let Some(published) = out.published(id) else {
            return;
        };
        let payload = &published.payload;
        let now = out.history.next_stamp();
        let route =
            out.definitions
                .route(&payload.exchange, &payload.key, published.known, Some(now));
        let queues = &out.history.queues;
        let is_kept = payload.delay_millis.is_some()
            || route.must.iter().any(|queue| queues[queue.0].durable);
        let must_sync = payload.persistent && is_kept;
        let is_replicated = route.must.iter().any(|queue| queues[queue.0].is_replicated);
        let copies_min = if is_replicated { GROUP_MAJORITY } else { 1 };
        let copies = self.disks.iter().filter(|disk| disk.is_durable(id)).count();
        let synced = !(must_sync || is_replicated) || copies >= copies_min;
        out.history.push(Fact::ConfirmSent { id, synced });
    }

    fn plant_in_request(
        &mut self,
        id: ConnectionId,
        request: Request,
        out: &mut Witness,
    ) -> Passed {
        match (self.planted, request) {
            (Some(Planted::DropSettle), Request::Settle(_)) if self.strikes(30, out) => {
                Passed::Dropped
            }
            (Some(Planted::RepeatPublish), Request::Publish(publish)) if self.strikes(20, out) => {
                let mut again = publish.clone();
                again.seq = None;
                let (first, second) = (Request::Publish(publish), Request::Publish(again));
                Passed::Twice(Box::new(first), Box::new(second))
            }
            (Some(Planted::EarlyConfirm), Request::Publish(publish))
                if publish.seq.is_some() && self.strikes(20, out) =>
            {
                let seq = publish.seq.unwrap_or_default();
                let channel = publish.channel;
                Passed::Answered(Event::Confirmed {
                    channel,
                    first: seq,
                    last: seq,
                })
            }
            (Some(Planted::GhostBind), Request::Bind(binding)) if self.strikes(150, out) => {
                let (channel, reply) = (binding.channel, Reply::Bound);
                Passed::Answered(Event::Reply { channel, reply })
            }
            (Some(Planted::GhostPurge), Request::PurgeQueue { channel, .. })
                if self.strikes(700, out) =>
            {
                let reply = Reply::QueuePurged { count: 0 };
                Passed::Answered(Event::Reply { channel, reply })
            }
            (Some(Planted::StaleGet), Request::Get { channel, .. }) if self.strikes(300, out) => {
                let reply = Reply::GotNothing;
                Passed::Answered(Event::Reply { channel, reply })
            }
            (Some(Planted::ForgetDeadLetter), Request::Settle(settle))
                if settle.outcome == Outcome::Discard && self.strikes(200, out) =>
            {
                let outcome = Outcome::Ack;
                Passed::On(Request::Settle(Settle { outcome, ..settle }))
            }
            (Some(Planted::RushDelay), Request::Publish(publish)) => {
                self.change_delay(publish, |delay| delay / 2, out)
            }
            (Some(Planted::StretchDelay), Request::Publish(publish)) => {
                self.change_delay(publish, |delay| delay * 2, out)
            }
            (Some(Planted::TearCommit), Request::Publish(publish))
                if self.transactions.contains_key(&(id, publish.channel))
                    && self.strikes(50, out) =>
            {
                Passed::Dropped
            }
            (Some(Planted::ForgetRollback), Request::Rollback { .. }) if self.strikes(300, out) => {
                Passed::Dropped
            }
            (Some(planted), Request::DeclareQueue(mut declare)) => {
                declare.options.arguments = plant_in_arguments(planted, declare.options.arguments);
                Passed::On(Request::DeclareQueue(declare))
            }
            (_, request) => Passed::On(request),
        }
    }

    fn change_delay(
        &mut self,
        mut publish: Publish,
        change: impl FnOnce(i32) -> i32,
        out: &mut Witness,
    ) -> Passed {
        if let Some(delay) = published_delay(&publish.message, out)
            && self.strikes(100, out)
            && let Some(changed) = payload::with_delay(publish.message.properties(), change(delay))
        {
            publish.message = publish.message.with_properties(&changed);
        }
        Passed::On(Request::Publish(publish))
    }

    fn corrupt(&mut self, delivery: &mut Delivery, out: &mut Witness) {
        let message = &delivery.message;
        if message.body().is_empty() || !self.strikes(10, out) {
            return;
        }
        let mut body = message.body().to_vec();
        let at = self.random.index(body.len());
        body[at] ^= 0x10;
        let (exchange, key) = (message.exchange(), message.routing_key());
        delivery.message = Message::copied(exchange, key, message.properties(), &body);
    }

    fn strikes(&mut self, per_mille: u32, out: &mut Witness) -> bool {
        let strikes = self.random.chance(per_mille);
        if strikes {
            out.coverage.hit("planted bug struck");
        }
        strikes
    }
}

/// The delay with which the message was published.
fn published_delay(message: &Message, out: &Witness) -> Option<i32> {
    let id = payload::id_of(message.properties())?;
    out.published(id)?.payload.delay_millis
}

/// Hides from a consumer that a planted bug has changed a delay.
fn tell_published_delay(event: &mut Event, out: &Witness) {
    let delivery = match event {
        Event::Delivery(delivery) => delivery,
        Event::Reply {
            reply: Reply::Got { delivery, .. },
            ..
        } => &mut **delivery,
        _ => return,
    };
    let message = &delivery.message;
    if let Some(delay) = published_delay(message, out)
        && let Some(told) = payload::with_delay(message.properties(), -delay)
    {
        delivery.message = message.with_properties(&told);
    }
}

/// The arguments of a declaration as a planted bug has them.
fn plant_in_arguments(planted: Planted, arguments: FieldTable) -> FieldTable {
    let (key, change): (&str, fn(i64) -> Option<i64>) = match planted {
        Planted::HastenExpiry => ("x-expires", |millis| Some(millis / 10)),
        Planted::StretchTtl => ("x-message-ttl", |millis| Some(millis * 10)),
        Planted::ForgetStrategy => ("x-dead-letter-strategy", |_| None),
        _ => return arguments,
    };
    let Some(value) = arguments.get(key) else {
        return arguments;
    };
    let changed = TableBuilder::new().copy_except(arguments.as_table_ref(), &[key]);
    match value.as_i64().and_then(change) {
        Some(value) => changed.long(key, value).build(),
        None => changed.build(),
    }
}

/// What became of a request.
enum Passed {
    On(Request),
    Twice(Box<Request>, Box<Request>),
    Answered(Event),
    Dropped,
}

fn are_swappable(one: &Event, other: &Event) -> bool {
    match (one, other) {
        (Event::Delivery(one), Event::Delivery(other)) => {
            (one.channel, one.consumer) == (other.channel, other.consumer)
                && !one.redelivered
                && !other.redelivered
        }
        _ => false,
    }
}
