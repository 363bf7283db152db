//! A client of one node, as its connection machine would drive it: one request at a time.

use staunch_node::Input;
use staunch_types::{
    ChannelNumber, ConnectionId, Event, ExchangeOptions, FieldTable, Message, Name, Proof,
    PublishSeq, QueueOptions, Request, Secret,
    request::{Binding, DeclareExchange, DeclareQueue, Destination, Login, Publish},
};

use crate::world::World;

/// The channel that a client has.
pub(crate) const CHANNEL: ChannelNumber = ChannelNumber(1);

/// A connection that has logged in, with one channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    /// The node it is connected to.
    pub(crate) node: usize,
    pub(crate) id: ConnectionId,
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// Options of a queue; `words` are some of `durable`, `exclusive`, `auto-delete`.
pub(crate) fn queue(words: &[&str]) -> QueueOptions {
    QueueOptions {
        durable: words.contains(&"durable"),
        exclusive: words.contains(&"exclusive"),
        auto_delete: words.contains(&"auto-delete"),
        arguments: FieldTable::default(),
    }
}

impl Client {
    /// Connects to a node as `guest`, and waits until a channel is open.
    #[track_caller]
    pub(crate) fn connect(world: &mut World, node: usize) -> Self {
        let client = Self::begin_to_connect(world, node);
        client.wait_for(world, |event| matches!(event, Event::ChannelOpened { .. }));
        client
    }

    /// As [`Client::connect`], without waiting.
    #[track_caller]
    pub(crate) fn begin_to_connect(world: &mut World, node: usize) -> Self {
        world.connection_count += 1;
        let id = ConnectionId(world.connection_count);
        let client = Self { node, id };
        world.give(node, Input::Connected(id));
        let login = Login {
            user: name("guest"),
            proof: Proof::Password(Secret(b"guest".to_vec())),
            loopback: true,
            peer: Box::default(),
        };
        client.send(world, Request::Login(login));
        client.send(world, Request::OpenVhost { vhost: name("/") });
        client.send(world, Request::OpenChannel { channel: CHANNEL });
        client
    }

    /// Sends a request and does not wait.
    #[track_caller]
    pub(crate) fn send(self, world: &mut World, request: Request) {
        world.give(self.node, Input::Requests(self.id, vec![request]));
    }

    /// Sends a request and waits for the next thing the client is told.
    #[track_caller]
    pub(crate) fn ask(self, world: &mut World, request: Request) -> Event {
        self.send(world, request);
        self.wait_for(world, |_| true)
    }

    /// Waits for an event; those before it are forgotten.
    #[track_caller]
    pub(crate) fn wait_for(self, world: &mut World, wanted: impl Fn(&Event) -> bool) -> Event {
        let mut found = None;
        world.run_until("an event for a client", |world| {
            let Some(machine) = world.machine_mut(self.node) else {
                return false;
            };
            let mine = |(id, event): &(ConnectionId, Event)| *id == self.id && wanted(event);
            let Some(at) = machine.events.iter().position(mine) else {
                return false;
            };
            let mut index = 0;
            machine.events.retain(|(id, event)| {
                index += 1;
                if index == at + 1 {
                    found = Some(event.clone());
                }
                *id != self.id || index > at + 1
            });
            true
        });
        found.unwrap()
    }

    /// What the client was told and nobody has looked at.
    pub(crate) fn heard(self, world: &mut World) -> Vec<Event> {
        let Some(machine) = world.machine_mut(self.node) else {
            return Vec::new();
        };
        let events = std::mem::take(&mut machine.events);
        let (mine, others) = events.into_iter().partition(|(id, _)| *id == self.id);
        machine.events = others;
        let mine: Vec<(ConnectionId, Event)> = mine;
        mine.into_iter().map(|(_, event)| event).collect()
    }
}

pub(crate) fn declare_queue(queue: &str, options: QueueOptions) -> Request {
    Request::DeclareQueue(DeclareQueue {
        channel: CHANNEL,
        queue: name(queue),
        server_named: false,
        passive: false,
        options,
    })
}

pub(crate) fn look_for_queue(queue: &str) -> Request {
    Request::DeclareQueue(DeclareQueue {
        channel: CHANNEL,
        queue: name(queue),
        server_named: false,
        passive: true,
        options: self::queue(&[]),
    })
}

pub(crate) fn delete_queue(queue: &str) -> Request {
    Request::DeleteQueue {
        channel: CHANNEL,
        queue: name(queue),
        if_unused: false,
        if_empty: false,
    }
}

pub(crate) fn declare_exchange(exchange: &str, kind: &str, durable: bool) -> Request {
    Request::DeclareExchange(DeclareExchange {
        channel: CHANNEL,
        exchange: name(exchange),
        passive: false,
        options: ExchangeOptions {
            kind: name(kind),
            durable,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::default(),
        },
    })
}

pub(crate) fn bind(source: &str, queue: &str, key: &str) -> Request {
    Request::Bind(Box::new(Binding {
        channel: CHANNEL,
        source: name(source),
        destination: Destination::Queue(name(queue)),
        routing_key: name(key),
        arguments: FieldTable::default(),
    }))
}

/// A publish with a number asks for a confirm.
pub(crate) fn publish(exchange: &str, key: &str, body: &str, seq: Option<u64>) -> Request {
    let properties = b"\0\0";
    let message = Message::copied(
        exchange.as_bytes(),
        key.as_bytes(),
        properties,
        body.as_bytes(),
    );
    Request::Publish(Publish {
        channel: CHANNEL,
        seq: seq.map(PublishSeq),
        mandatory: false,
        message,
    })
}
