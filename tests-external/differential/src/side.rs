//! One of the two brokers, and everything that a program has seen of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use amq_protocol::protocol::{AMQPClass, basic, channel, exchange, queue, tx};

use crate::encode::{Names, inspect_exchange, print_properties};
use crate::program::{
    CHANNELS, EXCHANGES, LAST_DECLARED, Operation, QUEUES, SERVER_NAMED, Step, TAGS, Value,
};
use crate::versions::same_form;
use crate::wire::{Connection, Incoming};

/// Connection and number of each channel of a program.
const PLACES: [(usize, u16); CHANNELS] = [(0, 1), (0, 2), (1, 1)];

/// Number of the channel on which the program's queues are looked at.
const INSPECTION: u16 = 9;

/// How long a broker may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Most messages taken from a queue at the end.
const DRAIN_MAX: usize = 500;

/// A delivery that is not settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Outstanding {
    /// Consumer or `get`, and the body: the same on both sides.
    pub what: String,
    tag: u64,
}

#[derive(Default)]
struct Channel {
    is_open: bool,
    /// How often it was opened.
    generation: u32,
    /// Answers of `exchange.declare` still to come.
    declares_due: u32,
    /// The answer of `tx.commit` is still to come.
    is_committing: bool,
    outstanding: Vec<Outstanding>,
    no_ack_consumers: BTreeSet<String>,
    /// The last `get` settles what it gets.
    is_no_ack_get: bool,
    is_confirming: bool,
    published: u64,
    /// The number of each publish, by its body.
    numbers: BTreeMap<String, u64>,
    confirmed: BTreeMap<u64, &'static str>,
}

/// A settlement, resolved to what it settles on each side.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Place in the list of outstanding deliveries, sorted by what they are.
    pub place: usize,
    /// Everything up to it.
    pub multiple: bool,
}

/// One broker.
pub struct Side {
    port: u16,
    pub names: Names,
    connections: [Option<Connection>; 2],
    is_inspecting: [bool; 2],
    channels: [Channel; CHANNELS],
    /// Queues that were declared, and on which connection.
    queues: BTreeMap<usize, usize>,
    /// Those of them that were last asked to be quorum queues.
    quorum: BTreeSet<usize>,
    /// Those of which RabbitMQ's count of consumers may be another: it counts an unsettled `get`
    /// from a quorum queue as one, a cancelled consumer until it has settled, and of consumers one
    /// of which is active only that.
    uncounted: BTreeSet<usize>,
    /// A broker has closed a connection.
    pub is_broken_off: bool,
    /// What was seen, by where it was seen, in order.
    pub streams: BTreeMap<String, Vec<String>>,
    /// What is in each queue.
    pub counts: BTreeMap<usize, String>,
}

impl Side {
    pub fn new(port: u16, prefix: &str) -> Self {
        Self {
            port,
            names: Names {
                prefix: prefix.to_owned(),
                given: Vec::new(),
            },
            connections: [None, None],
            is_inspecting: [false; 2],
            channels: std::array::from_fn(|_| Channel::default()),
            queues: BTreeMap::new(),
            quorum: BTreeSet::new(),
            uncounted: BTreeSet::new(),
            is_broken_off: false,
            streams: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Deliveries that a channel has not settled, sorted by what they are.
    pub fn outstanding(&self, channel: usize) -> Vec<String> {
        let mut all = self.in_order(channel);
        all.sort();
        all
    }

    /// The same in the order of their tags.
    pub fn in_order(&self, channel: usize) -> Vec<String> {
        let all = self.channels[channel].outstanding.iter();
        all.map(|delivery| delivery.what.clone()).collect()
    }

    /// Sends an operation, and a question behind it whose answer says that it was handled.
    pub fn begin(
        &mut self,
        number: usize,
        step: &Step,
        choice: Option<&Choice>,
    ) -> Result<(), String> {
        let index = step.channel;
        let (place, channel) = PLACES[index];
        self.open(index)?;
        let connection = self.connections[place].as_mut().expect("just opened");
        match &step.what {
            Operation::CloseChannel => {
                let close = channel::Close {
                    reply_code: 200,
                    reply_text: "bye".into(),
                    class_id: 0,
                    method_id: 0,
                };
                let close = AMQPClass::Channel(channel::AMQPMethod::Close(close));
                connection.send(channel, close);
                connection.flush();
                return Ok(());
            }
            Operation::CloseConnection => {
                self.cancel_consumers();
                let connection = self.connections[place].take().expect("just opened");
                connection.close();
                self.lose_connection(place);
                return Ok(());
            }
            Operation::Publish {
                exchange,
                key,
                mandatory,
                properties,
                size,
            } => {
                let body = format!("m{number}{}", "-".repeat(*size));
                let (publish, properties) =
                    self.names
                        .publish((*exchange, *key), *mandatory, properties);
                connection.publish(channel, publish, properties, body.as_bytes());
                let channel = &mut self.channels[index];
                channel.published += 1;
                channel.numbers.insert(body, channel.published);
            }
            Operation::Ack { .. } | Operation::Nack { .. } | Operation::Reject { .. } => {
                if let Some(choice) = choice {
                    let settle = self.settle(index, &step.what, choice);
                    let connection = self.connections[place].as_mut().expect("just opened");
                    connection.send(channel, AMQPClass::Basic(settle));
                }
            }
            other => {
                let method = self.names.method(other).expect("the rest is above");
                connection.send(channel, method);
                self.note_sent(index, other);
            }
        }
        let connection = self.connections[place].as_mut().expect("just opened");
        if step.what == Operation::Commit {
            // RabbitMQ takes no other method before it has answered.
            self.channels[index].is_committing = true;
            connection.flush();
            return Ok(());
        }
        connection.send(channel, inspect_exchange("amq.direct".to_owned()));
        connection.flush();
        self.channels[index].declares_due += 1;
        Ok(())
    }

    /// Waits until the operation was handled.
    pub fn finish(&mut self, step: &Step) {
        let index = step.channel;
        let (place, _) = PLACES[index];
        let end = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let channel = &self.channels[index];
            let is_due = channel.declares_due > 0 || channel.is_committing || is_close(step);
            if !channel.is_open || !is_due {
                return;
            }
            if Instant::now() > end {
                self.note(&format!("c{index}"), "no answer".to_owned());
                self.channels[index].declares_due = 0;
                self.channels[index].is_committing = false;
                return;
            }
            self.receive(place, Duration::from_millis(200));
        }
    }

    /// Takes what has arrived and looks at the queues.
    pub fn observe(&mut self) {
        for place in 0..self.connections.len() {
            self.receive(place, Duration::ZERO);
        }
        self.inspect();
        for place in 0..self.connections.len() {
            self.receive(place, Duration::ZERO);
        }
    }

    /// Confirms of every channel so far, as text; whether none is missing.
    pub fn confirms(&self) -> (Vec<String>, bool) {
        let channels = self.channels.iter().enumerate();
        let text =
            |(index, channel): (usize, &Channel)| format!("c{index} {:?}", channel.confirmed);
        let is_complete = self.channels.iter().all(|channel| {
            !channel.is_open
                || !channel.is_confirming
                || channel.confirmed.len() as u64 == channel.published
        });
        (channels.map(text).collect(), is_complete)
    }

    /// Ends the program's connections; its queues can then be seen as it left them.
    pub fn leave(&mut self) {
        self.cancel_consumers();
        for place in 0..self.connections.len() {
            if let Some(connection) = self.connections[place].take() {
                connection.close();
                self.lose_connection(place);
            }
        }
    }

    /// Cancels every consumer: what the channels of a closing connection return could else go to
    /// one that closes later, or not, as it happens.
    fn cancel_consumers(&mut self) {
        for channel in 0..CHANNELS {
            for tag in 0..TAGS {
                if self.channels[channel].is_open {
                    let what = Operation::Cancel(tag);
                    let step = Step { channel, what };
                    if self.begin(0, &step, None).is_ok() {
                        self.finish(&step);
                    }
                }
            }
        }
    }

    /// Takes everything out of the queues.
    pub fn drain(&mut self) {
        let queues: Vec<usize> = self.queues.keys().copied().collect();
        for queue in queues {
            for _ in 0..DRAIN_MAX {
                let what = Operation::Get {
                    queue,
                    no_ack: true,
                };
                let step = Step { channel: 0, what };
                let key = self.key(0);
                let before = self.streams.get(&key).map_or(0, Vec::len);
                if self.begin(0, &step, None).is_err() {
                    return;
                }
                self.finish(&step);
                let seen = self.streams.get(&key).map_or(0, Vec::len);
                let is_message = seen > before && self.streams[&key][seen - 1].starts_with("got ");
                if !is_message {
                    break;
                }
            }
        }
    }

    /// Deletes what a program may have left, and forgets it.
    pub fn clean(&mut self) -> Result<(), String> {
        self.leave();
        let mut steps = Vec::new();
        for queue in 0..QUEUES {
            let (if_unused, if_empty) = (false, false);
            steps.push(Operation::DeleteQueue {
                queue,
                if_unused,
                if_empty,
            });
        }
        for exchange in 0..EXCHANGES {
            let if_unused = false;
            steps.push(Operation::DeleteExchange {
                exchange,
                if_unused,
            });
        }
        for what in steps {
            let step = Step { channel: 0, what };
            self.begin(0, &step, None)?;
            self.finish(&step);
            if !self.channels[0].is_open {
                // An exclusive queue whose connection is not quite gone.
                std::thread::sleep(Duration::from_millis(50));
                self.begin(0, &step, None)?;
                self.finish(&step);
            }
        }
        self.leave();
        while !self.names.given.is_empty() {
            let what = Operation::DeleteQueue {
                queue: SERVER_NAMED,
                if_unused: false,
                if_empty: false,
            };
            let step = Step { channel: 0, what };
            self.begin(0, &step, None)?;
            self.finish(&step);
            self.names.given.pop();
        }
        self.leave();
        let (port, prefix) = (self.port, self.names.prefix.clone());
        *self = Self::new(port, &prefix);
        Ok(())
    }

    fn open(&mut self, index: usize) -> Result<(), String> {
        let (place, number) = PLACES[index];
        if self.connections[place].is_none() {
            self.connections[place] = Some(Connection::open(self.port)?);
        }
        if !self.channels[index].is_open {
            let generation = self.channels[index].generation + 1;
            self.channels[index] = Channel {
                is_open: true,
                generation,
                ..Channel::default()
            };
            self.send_open(place, number);
        }
        Ok(())
    }

    fn send_open(&mut self, place: usize, number: u16) {
        let open = AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}));
        if let Some(connection) = self.connections[place].as_mut() {
            connection.send(number, open);
        }
    }

    fn note_sent(&mut self, index: usize, operation: &Operation) {
        let channel = &mut self.channels[index];
        match operation {
            Operation::DeclareExchange { .. } | Operation::InspectExchange(_) => {
                channel.declares_due += 1;
            }
            Operation::Consume {
                tag, no_ack: true, ..
            } => {
                channel.no_ack_consumers.insert(format!("t{tag}"));
            }
            Operation::Consume { tag, .. } => {
                channel.no_ack_consumers.remove(&format!("t{tag}"));
            }
            Operation::Cancel(_) => self.uncounted.extend(&self.quorum),
            Operation::Get { no_ack, queue } => {
                channel.is_no_ack_get = *no_ack;
                if !no_ack && self.quorum.contains(queue) {
                    self.uncounted.insert(*queue);
                }
                if !no_ack && *queue == LAST_DECLARED {
                    self.uncounted.extend(&self.quorum);
                }
            }
            Operation::DeclareQueue {
                queue, arguments, ..
            } => {
                let kind = ("x-queue-type", Value::Text("quorum"));
                if arguments.contains(&kind) {
                    self.quorum.insert(*queue);
                    let single = ("x-single-active-consumer", Value::Truth(true));
                    if arguments.contains(&single) {
                        self.uncounted.insert(*queue);
                    }
                }
                if *queue < QUEUES {
                    self.queues.insert(*queue, PLACES[index].0);
                }
            }
            _ => {}
        }
    }

    fn settle(&mut self, index: usize, what: &Operation, choice: &Choice) -> basic::AMQPMethod {
        let mut sorted = self.channels[index].outstanding.clone();
        sorted.sort_by(|a, b| (&a.what, a.tag).cmp(&(&b.what, b.tag)));
        let delivery_tag = sorted[choice.place].tag;
        let multiple = choice.multiple;
        self.channels[index].outstanding.retain(|delivery| {
            delivery.tag != delivery_tag && !(multiple && delivery.tag < delivery_tag)
        });
        match what {
            Operation::Nack { requeue, .. } => basic::AMQPMethod::Nack(basic::Nack {
                delivery_tag,
                multiple,
                requeue: *requeue,
            }),
            Operation::Reject { requeue, .. } => basic::AMQPMethod::Reject(basic::Reject {
                delivery_tag,
                requeue: *requeue,
            }),
            _ => basic::AMQPMethod::Ack(basic::Ack {
                delivery_tag,
                multiple,
            }),
        }
    }

    fn inspect(&mut self) {
        let queues: Vec<(usize, usize)> = self.queues.iter().map(|(q, p)| (*q, *p)).collect();
        for (queue, place) in queues {
            let place = if self.connections[place].is_some() {
                place
            } else {
                self.connections
                    .iter()
                    .position(Option::is_some)
                    .unwrap_or(0)
            };
            if self.connections[place].is_none() {
                match Connection::open(self.port) {
                    Ok(connection) => self.connections[place] = Some(connection),
                    Err(_) => continue,
                }
            }
            if !self.is_inspecting[place] {
                self.is_inspecting[place] = true;
                self.send_open(place, INSPECTION);
            }
            let method = AMQPClass::Queue(self.names.inspect(queue));
            let connection = self.connections[place].as_mut().expect("just opened");
            connection.send(INSPECTION, method);
            connection.flush();
            self.counts.insert(queue, "?".to_owned());
            let end = Instant::now() + ANSWER_TIMEOUT;
            while self.counts[&queue] == "?"
                && self.connections[place].is_some()
                && Instant::now() < end
            {
                self.receive_for(place, Duration::from_millis(200), Some(queue));
            }
            if self.counts[&queue].starts_with("404") {
                self.queues.remove(&queue);
            }
        }
    }

    fn receive(&mut self, place: usize, timeout: Duration) {
        self.receive_for(place, timeout, None);
    }

    fn receive_for(&mut self, place: usize, timeout: Duration, inspected: Option<usize>) {
        let Some(connection) = self.connections[place].as_mut() else {
            return;
        };
        let arrived = connection.receive(timeout);
        let is_over = connection.is_over();
        for incoming in arrived {
            self.take(place, incoming, inspected);
        }
        if is_over {
            self.connections[place] = None;
            self.lose_connection(place);
        }
    }

    fn lose_connection(&mut self, place: usize) {
        self.is_inspecting[place] = false;
        for (index, (its_place, _)) in PLACES.iter().enumerate() {
            if *its_place == place {
                self.channels[index].is_open = false;
                self.channels[index].outstanding.clear();
            }
        }
    }

    fn take(&mut self, place: usize, incoming: Incoming, inspected: Option<usize>) {
        let number = match &incoming {
            Incoming::Method(number, _) | Incoming::Content(number, ..) => *number,
        };
        let index = PLACES.iter().position(|at| *at == (place, number));
        match (incoming, index) {
            (Incoming::Method(0, method), _) => {
                self.is_broken_off = true;
                self.note(&format!("connection {place}"), format!("{method:?}"));
            }
            (Incoming::Method(INSPECTION, method), _) => {
                self.take_inspection(place, &method, inspected);
            }
            (Incoming::Method(_, method), Some(index)) => self.take_method(index, &method),
            (Incoming::Content(_, method, properties, body), Some(index)) => {
                let body = String::from_utf8_lossy(&body);
                let content = same_form(&format!("{body}{}", print_properties(&properties)));
                self.take_content(index, &method, &content);
            }
            (Incoming::Method(..) | Incoming::Content(..), None) => {
                self.note("elsewhere", format!("channel {number}"));
            }
        }
    }

    fn take_inspection(&mut self, place: usize, method: &AMQPClass, inspected: Option<usize>) {
        let text = match method {
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok))
                if inspected.is_some_and(|queue| self.uncounted.contains(&queue)) =>
            {
                format!("{} ready", ok.message_count)
            }
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) => {
                format!(
                    "{} ready, {} consumers",
                    ok.message_count, ok.consumer_count
                )
            }
            AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
                self.is_inspecting[place] = false;
                format!(
                    "{} {}",
                    close.reply_code,
                    self.cut(close.reply_text.as_str())
                )
            }
            _ => return,
        };
        if let Some(queue) = inspected {
            self.counts.insert(queue, text);
        }
    }

    fn take_method(&mut self, index: usize, method: &AMQPClass) {
        let text = format!("{method:?}");
        if let AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) = method {
            self.learn_name(ok.queue.as_str(), PLACES[index].0);
            if self.is_uncounted(ok) {
                let text = format!("declared, {} ready", ok.message_count);
                return self.note(&self.key(index), text);
            }
        }
        let channel = &mut self.channels[index];
        match method {
            AMQPClass::Channel(channel::AMQPMethod::OpenOk(_)) => return,
            AMQPClass::Channel(channel::AMQPMethod::CloseOk(_) | channel::AMQPMethod::Close(_)) => {
                channel.is_open = false;
                channel.outstanding.clear();
            }
            AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(_)) => {
                channel.declares_due = channel.declares_due.saturating_sub(1);
                return;
            }
            AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => {
                return confirm(channel, ack.delivery_tag, ack.multiple, "ack");
            }
            AMQPClass::Basic(basic::AMQPMethod::Nack(nack)) => {
                return confirm(channel, nack.delivery_tag, nack.multiple, "nack");
            }
            AMQPClass::Basic(basic::AMQPMethod::RecoverOk(_)) => channel.outstanding.clear(),
            AMQPClass::Tx(tx::AMQPMethod::CommitOk(_)) => channel.is_committing = false,
            AMQPClass::Confirm(_) if !channel.is_confirming => {
                channel.is_confirming = true;
                channel.published = 0;
            }
            // In any order, when a queue goes that several consume from.
            AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)) => {
                let key = format!("{} cancelled {}", self.key(index), cancel.consumer_tag);
                return self.note(&key, text);
            }
            _ => {}
        }
        self.note(&self.key(index), text);
    }

    fn take_content(&mut self, index: usize, method: &AMQPClass, content: &str) {
        let key = self.key(index);
        let channel = &mut self.channels[index];
        match method {
            AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)) => {
                let tag = deliver.consumer_tag.as_str().to_owned();
                if !channel.no_ack_consumers.contains(&tag) {
                    let what = format!("{tag} {content}");
                    let tag = deliver.delivery_tag;
                    channel.outstanding.push(Outstanding { what, tag });
                }
                let (exchange, routing_key) = (&deliver.exchange, &deliver.routing_key);
                let again = if deliver.redelivered { " again" } else { "" };
                let text = format!("'{exchange}' '{routing_key}'{again} {content}");
                self.note(&format!("{key} consumer {tag}"), text);
            }
            AMQPClass::Basic(basic::AMQPMethod::GetOk(got)) => {
                let what = format!("get {content}");
                let tag = got.delivery_tag;
                if !channel.is_no_ack_get {
                    channel.outstanding.push(Outstanding { what, tag });
                }
                let (exchange, routing_key) = (&got.exchange, &got.routing_key);
                let again = if got.redelivered { " again" } else { "" };
                let count = got.message_count;
                let text =
                    format!("got '{exchange}' '{routing_key}'{again} {content}, {count} left");
                self.note(&key, text);
            }
            AMQPClass::Basic(basic::AMQPMethod::Return(returned)) => {
                let (code, text) = (returned.reply_code, &returned.reply_text);
                let (exchange, routing_key) = (&returned.exchange, &returned.routing_key);
                let body = content.split(' ').next().unwrap_or_default();
                let number = channel.numbers.get(body).copied().unwrap_or_default();
                // A return comes before the confirm of what it returns.
                let is_late = channel.confirmed.contains_key(&number);
                let late = if is_late { " after its confirm" } else { "" };
                let text = format!("{code} {text} '{exchange}' '{routing_key}' {content}{late}");
                self.note(&format!("{key} returned"), text);
            }
            other => self.note(&key, format!("{other:?} with {content}")),
        }
    }

    fn is_uncounted(&self, declared: &queue::DeclareOk) -> bool {
        let mut uncounted = self.uncounted.iter();
        uncounted.any(|queue| self.names.queue(*queue) == declared.queue.as_str())
    }

    /// Remembers a queue that the broker has named.
    fn learn_name(&mut self, name: &str, place: usize) {
        let is_own = name.starts_with(&self.names.prefix);
        if !is_own && !self.names.given.iter().any(|given| given == name) {
            self.names.given.push(name.to_owned());
            self.queues.insert(SERVER_NAMED, place);
        }
    }

    fn key(&self, index: usize) -> String {
        format!("c{index}.{}", self.channels[index].generation)
    }

    fn note(&mut self, key: &str, text: String) {
        let text = self.cut(&text);
        self.streams.entry(key.to_owned()).or_default().push(text);
    }

    fn cut(&self, text: &str) -> String {
        self.names.cut(text)
    }
}

fn confirm(channel: &mut Channel, tag: u64, multiple: bool, kind: &'static str) {
    if multiple {
        for number in 1..=tag {
            channel.confirmed.entry(number).or_insert(kind);
        }
    } else {
        channel.confirmed.insert(tag, kind);
    }
}

fn is_close(step: &Step) -> bool {
    matches!(step.what, Operation::CloseChannel)
}
