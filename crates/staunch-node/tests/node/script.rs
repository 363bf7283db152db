//! Connections as text. A script is a transcript: each line is an input, and the lines under it
//! that begin with `>` are all that the clients are told because of it.
//!
//! After each line the disk's jobs run until there are none, unless `manual` came before. A
//! connection reports its deliveries drained at once, unless it is `stuck`.
//!
//! ```text
//! a connect                      a open 1                       a close
//! a arrive                       a login u p remote             a vhost /
//! a/1 queue q durable x-expires=5  a/1 delete-queue q if-empty  a/1 purge q
//! a/1 exchange x fanout durable  a/1 delete-exchange x          a/1 bind x q key
//! a/1 publish q m1..m3 #1        a/1 publish x/key m mandatory  a/1 get q no-ack
//! a/1 publish q m expiration=50 priority=3 delay=100
//! a/1 consume q as c prefetch=2  a/1 cancel c                   a/1 limit 5
//! a/1 ack m1                     a/1 requeue m1 m2              a/1 close
//! a/1 tx                         a/1 commit m1 m2               a/1 rollback
//! a/1 sync                       a/1 publish q m1 + cancel c    (in one drain)
//! a/1 replies as r               a/1 publish q m1 asks          a/1 answer m1 r1
//! a/1 publish q m1 CC=r,s BCC=t  a/1 publish q m1 by=guest      a/1 queue q dlx=x
//! write · background · fetch     manual · auto · disk · tick 3  crash 5 · kill · stop
//! ```

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use staunch_node::{Input, NodeConfig};
use staunch_types::{
    ChannelNumber, ConnectionId, ConsumerKey, Delivery, Event, ExchangeOptions, FieldTable,
    Message, MessageIndex, Name, Outcome, Proof, PublishSeq, QueueId, QueueOptions, Reply, Request,
    Secret,
    field_table::{ArrayBuilder, TableBuilder, Value},
    properties::{Properties, PropertiesBuilder},
    request::{
        Binding, Consume, DeclareExchange, DeclareQueue, Destination, Login, Publish, Settle,
    },
};

use crate::world::World;

/// Runs a transcript in a world with this configuration, which is given back.
#[track_caller]
pub(crate) fn check_with(config: NodeConfig, transcript: &str) -> Script {
    let mut script = Script::new(config);
    script.check(transcript);
    script
}

/// Runs a transcript in a world of the usual size.
#[track_caller]
pub(crate) fn check(transcript: &str) {
    drop(check_with(crate::world::roomy(), transcript));
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// A world whose clients speak text.
pub(crate) struct Script {
    pub(crate) world: World,
    is_manual: bool,
    connections: BTreeMap<String, Client>,
    connection_next: u64,
    /// What every client heard, with its id.
    pub(crate) heard: Vec<(u64, Event)>,
    /// Size of the body, behind the text, of messages published from here on.
    pub(crate) padding: usize,
}

#[derive(Default)]
struct Client {
    id: u64,
    is_stuck: bool,
    /// It came in as everybody does, which is not worth a line.
    is_silent: bool,
    undrained_size_bytes: u64,
    consumers: BTreeMap<(u16, ConsumerKey), String>,
    naming: Option<String>,
    /// The `reply_to` of each request it got, by its body.
    reply_names: BTreeMap<String, Vec<u8>>,
    held: BTreeMap<(u16, String), (ConsumerKey, QueueId, MessageIndex)>,
}

impl Script {
    pub(crate) fn new(config: NodeConfig) -> Self {
        let mut world = World::new(config);
        world.run_jobs();
        Self {
            world,
            is_manual: false,
            connections: BTreeMap::new(),
            connection_next: 1,
            heard: Vec::new(),
            padding: 0,
        }
    }

    /// Runs the lines of a transcript and compares what comes out.
    #[track_caller]
    pub(crate) fn check(&mut self, transcript: &str) {
        let lines = || {
            transcript
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
        };
        let wanted = lines().collect::<Vec<_>>().join("\n");
        let mut actual = Vec::new();
        for line in lines().filter(|line| !line.starts_with('>')) {
            actual.push(line.to_owned());
            actual.extend(self.line(line).iter().map(|told| format!("> {told}")));
            self.world.node.check_invariants();
        }
        let actual = actual.join("\n");
        assert!(actual == wanted, "wanted:\n{wanted}\n\nactual:\n{actual}\n");
    }

    /// Runs one line; what the clients are told.
    pub(crate) fn line(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut told = Vec::new();
        match words.as_slice() {
            ["manual"] => self.is_manual = true,
            ["auto"] => self.is_manual = false,
            ["disk"] => self.world.run_jobs(),
            ["write"] => assert!(self.world.write(), "a write is under way"),
            ["background"] => assert!(self.world.background(), "a background job is under way"),
            ["fetch"] => assert!(self.world.fetch(), "a fetch is under way"),
            ["tick", count] => self.world.rest(count.parse().unwrap()),
            ["tick-only"] => self.world.tick(),
            ["wait-ms", count] => {
                self.world.now = self.world.now + Duration::from_millis(count.parse().unwrap());
                self.world.drain();
            }
            ["stop"] => self.world.give(Input::Stop),
            ["free", size_bytes] => {
                let disk_free_size_bytes = size_bytes.parse().unwrap();
                self.world.give(Input::Resources {
                    disk_free_size_bytes,
                });
            }
            ["crash", seed] => self.restart(|world| world.crash(seed.parse().unwrap())),
            ["kill"] => self.restart(World::kill),
            [who, rest @ ..] => self.speak(who, rest),
            [] => {}
        }
        self.settle_down(&mut told);
        told
    }

    /// The id of a client's connection.
    pub(crate) fn id_of(&self, who: &str) -> u64 {
        self.connections[who].id
    }

    /// Where the reply to the request with that body goes.
    pub(crate) fn reply_name(&self, who: &str, body: &str) -> String {
        String::from_utf8(self.connections[who].reply_names[body].clone()).unwrap()
    }

    /// Bodies a client holds on a channel, in order of their text.
    pub(crate) fn held(&self, who: &str, channel: u16) -> Vec<String> {
        let held = self.connections[who].held.keys();
        held.filter(|(number, _)| *number == channel)
            .map(|(_, body)| body.clone())
            .collect()
    }

    /// Names of the consumers a client has on a channel.
    pub(crate) fn consumers(&self, who: &str, channel: u16) -> Vec<String> {
        let consumers = self.connections[who].consumers.iter();
        consumers
            .filter(|((number, _), _)| *number == channel)
            .map(|(_, it)| it.clone())
            .collect()
    }

    fn restart(&mut self, how: impl FnOnce(World) -> World) {
        let config = self.world.config.clone();
        let world = std::mem::replace(&mut self.world, World::new(config));
        self.world = how(world);
        self.connections.clear();
    }

    /// Runs jobs and reports drained bytes until nothing happens any more.
    fn settle_down(&mut self, told: &mut Vec<String>) {
        loop {
            if !self.is_manual {
                self.world.run_jobs();
            }
            self.collect(told);
            let drained: Vec<_> = self
                .connections
                .values_mut()
                .filter(|client| !client.is_stuck && client.undrained_size_bytes > 0)
                .map(|client| (client.id, std::mem::take(&mut client.undrained_size_bytes)))
                .collect();
            if drained.is_empty() {
                return;
            }
            for (id, size_bytes) in drained {
                self.world
                    .requests(id, vec![Request::Drained { size_bytes }]);
            }
        }
    }

    fn collect(&mut self, told: &mut Vec<String>) {
        for (id, event) in self.world.take_events() {
            let found = self
                .connections
                .iter_mut()
                .find(|(_, client)| client.id == id.0);
            let (who, client) = found.expect("only clients are told things");
            if let Some(text) = client.hear(&event) {
                told.push(format!("{who}{text}"));
            }
            self.heard.push((id.0, event.clone()));
            if matches!(event, Event::ConnectionClosed) {
                let who = who.clone();
                self.connections.remove(&who);
            }
        }
        for id in std::mem::take(&mut self.world.proceeds) {
            if let Some((who, _)) = self
                .connections
                .iter()
                .find(|(_, client)| client.id == id.0)
            {
                told.push(format!("{who} proceeds"));
            }
        }
        if std::mem::take(&mut self.world.is_stopped) {
            told.push("stopped".to_owned());
        }
    }

    fn speak(&mut self, who: &str, words: &[&str]) {
        let Some((who, channel)) = who.split_once('/') else {
            return self.speak_connection(who, words);
        };
        let channel = ChannelNumber(channel.parse().unwrap());
        let client = self
            .connections
            .get_mut(who)
            .expect("the client is connected");
        let id = client.id;
        let parts = words.split(|word| *word == "+");
        let requests = parts.flat_map(|words| client.requests(channel, words, self.padding));
        let requests = requests.collect();
        self.world.requests(id, requests);
    }

    fn speak_connection(&mut self, who: &str, words: &[&str]) {
        if let ["connect" | "arrive"] = words {
            let id = self.connection_next;
            self.connection_next += 1;
            self.connections.insert(
                who.to_owned(),
                Client {
                    id,
                    is_silent: words == ["connect"],
                    ..Client::default()
                },
            );
            self.world.give(Input::Connected(ConnectionId(id)));
            if words == ["connect"] {
                let requests = vec![
                    login("guest", "guest", "loopback"),
                    Request::OpenVhost { vhost: name("/") },
                ];
                self.world.requests(id, requests);
            }
            return;
        }
        let client = self
            .connections
            .get_mut(who)
            .expect("the client is connected");
        let request = match words {
            ["open", channel] => Request::OpenChannel {
                channel: ChannelNumber(channel.parse().unwrap()),
            },
            ["close"] => Request::CloseConnection,
            ["stuck"] => {
                client.is_stuck = true;
                return;
            }
            ["unstuck"] => {
                client.is_stuck = false;
                return;
            }
            ["login", user, password, from] => login(user, password, from),
            ["certificate", user] => Request::Login(Login {
                user: name(user),
                proof: Proof::Certificate,
                loopback: false,
                peer: Box::default(),
            }),
            ["anonymous"] => Request::Login(Login {
                user: name(""),
                proof: Proof::Anonymous,
                loopback: false,
                peer: Box::default(),
            }),
            ["update-secret"] => Request::UpdateSecret {
                secret: Secret(b"new".to_vec()),
            },
            ["vhost", vhost] => Request::OpenVhost { vhost: name(vhost) },
            other => panic!("unknown words {other:?}"),
        };
        let id = client.id;
        self.world.requests(id, vec![request]);
    }
}

impl Client {
    fn requests(&mut self, channel: ChannelNumber, words: &[&str], padding: usize) -> Vec<Request> {
        let has = |flag: &str| words.contains(&flag);
        match words {
            ["publish", way, bodies, rest @ ..] => publishes(channel, (way, bodies), rest, padding),
            ["ack", bodies @ ..] => self.settles(channel, Outcome::Ack, bodies),
            ["discard", bodies @ ..] => self.settles(channel, Outcome::Discard, bodies),
            ["requeue", bodies @ ..] => self.settles(channel, Outcome::Requeue, bodies),
            ["close"] => {
                self.held.retain(|(number, _), _| *number != channel.0);
                vec![Request::CloseChannel { channel }]
            }
            ["limit", prefetch] => {
                vec![Request::LimitChannel {
                    channel,
                    prefetch: prefetch.parse().unwrap(),
                }]
            }
            ["limit-consumers", prefetch] => {
                vec![Request::LimitConsumers {
                    channel,
                    prefetch: prefetch.parse().unwrap(),
                }]
            }
            ["get", queue, ..] => {
                vec![Request::Get {
                    channel,
                    queue: name(queue),
                    no_ack: has("no-ack"),
                }]
            }
            ["consume", queue, "as", called, ..] => {
                self.naming = Some((*called).to_owned());
                let number = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
                let arguments = number("priority=").map_or_else(FieldTable::default, |priority| {
                    let table = TableBuilder::new();
                    table.int("x-priority", priority.parse().unwrap()).build()
                });
                vec![Request::Consume(Consume {
                    channel,
                    queue: name(queue),
                    tag: name(called),
                    no_ack: has("no-ack"),
                    exclusive: has("exclusive"),
                    prefetch: number("prefetch=").map_or(0, |count| count.parse().unwrap()),
                    arguments,
                })]
            }
            ["cancel", called] => {
                let found = self.consumers.iter().find(|(_, known)| known == called);
                let consumer = found.expect("the consumer was named").0.1;
                vec![Request::Cancel { channel, consumer }]
            }
            other => self.rare_requests(channel, other, padding),
        }
    }

    /// Transactions and direct replies.
    fn rare_requests(
        &mut self,
        channel: ChannelNumber,
        words: &[&str],
        padding: usize,
    ) -> Vec<Request> {
        match words {
            ["tx"] => vec![Request::SelectTx { channel }],
            ["sync"] => vec![Request::Sync { channel }],
            ["rollback"] => vec![Request::Rollback { channel }],
            ["commit", bodies @ ..] => {
                let settles = self.settles(channel, Outcome::Ack, bodies);
                let settles = settles.into_iter().map(|request| match request {
                    Request::Settle(settle) => settle,
                    other => panic!("{other:?} settles nothing"),
                });
                vec![Request::Commit {
                    channel,
                    settles: settles.collect(),
                }]
            }
            ["replies", "as", called] => {
                self.naming = Some((*called).to_owned());
                vec![Request::ConsumeReplies { channel }]
            }
            ["answer", request, bodies, rest @ ..] => {
                let name = &self.reply_names[*request];
                let way = String::from_utf8(name.clone()).unwrap();
                publishes(channel, (&way, bodies), rest, padding)
            }
            other => definitions(channel, other),
        }
    }

    /// One settlement per body, in the order given.
    fn settles(
        &mut self,
        channel: ChannelNumber,
        outcome: Outcome,
        bodies: &[&str],
    ) -> Vec<Request> {
        let bodies = bodies.iter().flat_map(|body| range(body));
        let settle = |body: String| {
            let held = self.held.remove(&(channel.0, body.clone()));
            let (consumer, queue, first) = held.unwrap_or_else(|| panic!("{body} is not held"));
            Request::Settle(Settle {
                channel,
                consumer,
                queue,
                first,
                count: 1,
                outcome,
            })
        };
        bodies.map(settle).collect()
    }

    /// Takes an event, and says what a reader of the transcript should see of it.
    fn hear(&mut self, event: &Event) -> Option<String> {
        Some(match event {
            Event::ChannelOpened { .. } => return None,
            Event::VhostOpened | Event::LoginAccepted { .. } if self.is_silent => return None,
            Event::VhostOpened => " vhost opened".to_owned(),
            Event::SecretUpdated => " secret updated".to_owned(),
            Event::SecretRefused => " secret refused".to_owned(),
            Event::ConnectionRefused { operation, refusal } => {
                format!(" {operation:?} refused: {refusal}")
            }
            Event::Forced { reason } => format!(" forced: {reason}"),
            Event::Delivery(delivery) => {
                self.take(delivery);
                let called = &self.consumers[&(delivery.channel.0, delivery.consumer)];
                format!("/{} {called} gets {}", delivery.channel, said(delivery))
            }
            Event::Reply { channel, reply } => {
                format!("/{channel} {}", self.answer(*channel, reply))
            }
            Event::Refused {
                channel,
                operation,
                refusal,
            } => {
                format!("/{channel} {operation:?} refused: {refusal}")
            }
            Event::Confirmed {
                channel,
                first,
                last,
            } => {
                format!("/{channel} confirmed {first}..{last}")
            }
            Event::Nacked {
                channel,
                first,
                last,
            } => format!("/{channel} nacked {first}..{last}"),
            Event::Returned {
                channel, message, ..
            } => {
                format!("/{channel} returned {}", body_of(message))
            }
            Event::ConsumerCancelled { channel, consumer } => {
                let called = self.consumers.remove(&(channel.0, *consumer)).unwrap();
                format!("/{channel} {called} cancelled by the node")
            }
            Event::ChannelClosed { channel } => {
                self.consumers.retain(|(number, _), _| *number != channel.0);
                format!("/{channel} closed")
            }
            Event::ConnectionClosed => " closed".to_owned(),
            Event::Alarm { memory, disk } => match (memory, disk) {
                (true, true) => " alarm: memory, disk".to_owned(),
                (true, false) => " alarm: memory".to_owned(),
                (false, true) => " alarm: disk".to_owned(),
                (false, false) => " alarm: none".to_owned(),
            },
            Event::PublishesHeld { is_held } => format!(" publishes held: {is_held}"),
            Event::Slowed { reason } => match reason {
                Some(reason) => format!(" {reason}"),
                None => " not slowed any more".to_owned(),
            },
            Event::Shutdown => " shutdown".to_owned(),
            Event::LoginAccepted { user } => format!(" login accepted: {user}"),
            Event::LoginRefused => " login refused".to_owned(),
            Event::VhostRefused(refusal) => format!(" vhost refused: {refusal}"),
        })
    }

    fn answer(&mut self, channel: ChannelNumber, reply: &Reply) -> String {
        match reply {
            Reply::QueueDeclared {
                ready_count,
                consumer_count,
            } => {
                format!("queue: {ready_count} ready, {consumer_count} consumers")
            }
            Reply::QueuePurged { count } => format!("purged {count}"),
            Reply::QueueDeleted { count } => format!("queue deleted with {count}"),
            Reply::Consuming { consumer, .. } => {
                let called = self.naming.take().expect("a consumer was asked for");
                self.consumers
                    .insert((channel.0, *consumer), called.clone());
                format!("{called} consumes")
            }
            Reply::ConsumingSplit { consumers, .. } => {
                let called = self.naming.take().expect("a consumer was asked for");
                let keys = consumers.iter().map(|consumer| (channel.0, *consumer));
                self.consumers.extend(keys.map(|key| (key, called.clone())));
                format!("{called} consumes {} partitions", consumers.len())
            }
            Reply::Cancelled { consumer } => {
                let called = self.consumers.remove(&(channel.0, *consumer)).unwrap();
                format!("{called} cancelled")
            }
            Reply::Got {
                delivery,
                ready_count,
            } => {
                self.take(delivery);
                format!("got {}, {ready_count} more", said(delivery))
            }
            Reply::GotNothing => "got nothing".to_owned(),
            Reply::Committed => "committed".to_owned(),
            Reply::ExchangeDeclared => "exchange declared".to_owned(),
            Reply::ExchangeDeleted => "exchange deleted".to_owned(),
            Reply::Bound => "bound".to_owned(),
            Reply::Unbound => "unbound".to_owned(),
            Reply::Synced => "synced".to_owned(),
        }
    }

    fn take(&mut self, delivery: &Delivery) {
        self.undrained_size_bytes += delivery.outbound_size_bytes();
        let body = body_of(&delivery.message);
        let properties = Properties::from_validated(delivery.message.properties());
        if let Some(reply_to) = properties.reply_to() {
            self.reply_names.insert(body.clone(), reply_to.to_vec());
        }
        if !delivery.settled {
            let held = (delivery.consumer, delivery.queue, delivery.index);
            self.held.insert((delivery.channel.0, body), held);
        }
    }
}

/// The body, then `again` if it is redelivered, how often it came back, and the deaths it died:
/// `m again 2x died expired/q*1`.
fn said(delivery: &Delivery) -> String {
    let mut said = body_of(&delivery.message);
    if delivery.redelivered {
        said += " again";
    }
    let properties = Properties::parse(delivery.message.properties()).unwrap();
    let headers = properties.headers().unwrap_or_default();
    if let Some(count) = headers.get("x-delivery-count") {
        write!(said, " {}x", count.as_i64().unwrap()).unwrap();
    }
    let Some(deaths) = headers.get("x-death").and_then(Value::as_array) else {
        return said;
    };
    said += " died";
    for death in deaths {
        let death = death.as_table().unwrap();
        let text = |key: &str| death.get(key).and_then(Value::as_str).unwrap();
        let count = death.get("count").and_then(Value::as_i64).unwrap();
        write!(said, " {}/{}*{count}", text("reason"), text("queue")).unwrap();
    }
    said
}

/// The text at the beginning of the body.
pub(crate) fn body_of(message: &Message) -> String {
    let body = String::from_utf8(message.body().to_vec()).unwrap();
    body.trim_end().to_owned()
}

fn publishes(
    channel: ChannelNumber,
    (way, bodies): (&str, &str),
    rest: &[&str],
    padding: usize,
) -> Vec<Request> {
    let (exchange, key) = way.split_once('/').unwrap_or(("", way));
    let mut seq = rest
        .iter()
        .find_map(|word| word.strip_prefix('#')?.parse().ok().map(PublishSeq));
    let mandatory = rest.contains(&"mandatory");
    let headers = headers(rest);
    let mut properties = PropertiesBuilder::new();
    if !headers.is_empty() {
        properties = properties.headers(headers.as_table_ref());
    }
    if rest.contains(&"asks") {
        properties = properties.reply_to("amq.rabbitmq.reply-to");
    }
    if let Some(user) = rest.iter().find_map(|word| word.strip_prefix("by=")) {
        properties = properties.user_id(user);
    }
    if let Some(expiration) = rest
        .iter()
        .find_map(|word| word.strip_prefix("expiration="))
    {
        properties = properties.expiration(expiration);
    }
    if let Some(priority) = rest.iter().find_map(|word| word.strip_prefix("priority=")) {
        properties = properties.priority(priority.parse().unwrap());
    }
    let properties = properties.build().unwrap();
    let publish = |body: String| {
        let body = format!("{body}{}", " ".repeat(padding));
        let message = Message::copied(
            exchange.as_bytes(),
            key.as_bytes(),
            properties.as_bytes(),
            body.as_bytes(),
        );
        let request = Request::Publish(Publish {
            channel,
            seq,
            mandatory,
            message,
        });
        seq = seq.map(|seq| PublishSeq(seq.0 + 1));
        request
    };
    range(bodies).into_iter().map(publish).collect()
}

/// `delay=5 CC=a,b BCC=c odd-CC`: the last is a header of that name that is no list.
fn headers(words: &[&str]) -> FieldTable {
    let pairs = words.iter().filter_map(|word| word.split_once('='));
    let mut table = pairs.fold(TableBuilder::new(), |table, (key, value)| match key {
        "delay" => table.long("x-delay", value.parse().unwrap()),
        "CC" | "BCC" => {
            let keys = value.split(',');
            table.array(key, &keys.fold(ArrayBuilder::new(), ArrayBuilder::longstr))
        }
        _ => table,
    });
    if let Some(odd) = words.iter().find_map(|word| word.strip_prefix("odd-")) {
        table = table.longstr(odd, "no list");
    }
    table.build()
}

/// Requests about queues and exchanges.
fn definitions(channel: ChannelNumber, words: &[&str]) -> Vec<Request> {
    let has = |flag: &str| words.contains(&flag);
    match words {
        ["purge", queue] => vec![Request::PurgeQueue {
            channel,
            queue: name(queue),
        }],
        ["delete-queue", queue, ..] => vec![Request::DeleteQueue {
            channel,
            queue: name(queue),
            if_unused: has("if-unused"),
            if_empty: has("if-empty"),
        }],
        ["delete-exchange", exchange] => {
            vec![Request::DeleteExchange {
                channel,
                exchange: name(exchange),
                if_unused: false,
            }]
        }
        ["bind", source, queue, key @ ..] => {
            vec![Request::Bind(binding(channel, source, queue, key).into())]
        }
        ["unbind", source, queue, key @ ..] => {
            vec![Request::Unbind(binding(channel, source, queue, key).into())]
        }
        ["queue", queue, ..] => vec![Request::DeclareQueue(DeclareQueue {
            channel,
            queue: name(queue),
            server_named: false,
            passive: has("passive"),
            options: QueueOptions {
                durable: has("durable"),
                exclusive: has("exclusive"),
                auto_delete: has("auto-delete"),
                arguments: arguments(words),
            },
        })],
        ["exchange", exchange, kind, ..] => vec![Request::DeclareExchange(DeclareExchange {
            channel,
            exchange: name(exchange),
            passive: has("passive"),
            options: ExchangeOptions {
                kind: name(kind),
                durable: has("durable"),
                auto_delete: has("auto-delete"),
                internal: false,
                arguments: arguments(words),
            },
        })],
        other => panic!("unknown words {other:?}"),
    }
}

/// `x-max-length=5 x-overflow=reject-publish x-single-active-consumer=true`, numbers as such.
fn arguments(words: &[&str]) -> FieldTable {
    let pairs = words.iter().filter_map(|word| word.split_once('='));
    let table = pairs.fold(TableBuilder::new(), |table, (key, value)| {
        match (value.parse(), value) {
            (Ok(number), _) => table.long(key, number),
            (Err(_), "true") => table.bool(key, true),
            (Err(_), text) => table.longstr(key, text),
        }
    });
    table.build()
}

fn login(user: &str, password: &str, from: &str) -> Request {
    Request::Login(Login {
        user: name(user),
        proof: Proof::Password(Secret(password.as_bytes().to_vec())),
        loopback: from == "loopback",
        peer: Box::default(),
    })
}

/// A publish that asks for no confirm.
pub(crate) fn publish(channel: ChannelNumber, exchange: &str, key: &str, body: &str) -> Request {
    let message = Message::copied(
        exchange.as_bytes(),
        key.as_bytes(),
        b"\0\0",
        body.as_bytes(),
    );
    Request::Publish(Publish {
        channel,
        seq: None,
        mandatory: false,
        message,
    })
}

fn binding(channel: ChannelNumber, source: &str, queue: &str, key: &[&str]) -> Binding {
    Binding {
        channel,
        source: name(source),
        destination: Destination::Queue(name(queue)),
        routing_key: name(key.first().copied().unwrap_or_default()),
        arguments: FieldTable::default(),
    }
}

/// `m1..m3` is `m1`, `m2`, `m3`; anything else is itself.
fn range(text: &str) -> Vec<String> {
    let Some((first, last)) = text.split_once("..") else {
        return vec![text.to_owned()];
    };
    let digits = first
        .find(|c: char| c.is_ascii_digit())
        .expect("a range ends in numbers");
    let (prefix, first) = first.split_at(digits);
    let number = |text: &str| text.parse::<u32>().unwrap();
    (number(first)..=number(&last[digits..]))
        .map(|n| format!("{prefix}{n}"))
        .collect()
}
