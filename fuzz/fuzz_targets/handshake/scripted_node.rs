//! A node that answers everything at once and keeps the contract of `Request` and `Event`.

use std::collections::BTreeMap;
use std::time::Duration;

use staunch_types::{
    ChannelNumber, ConsumerKey, Delivery, Event, Message, MessageIndex, Operation, PublishSeq,
    QueueId, Refusal, Reply, Request,
};

/// What the node knows of one connection.
#[derive(Default)]
pub(crate) struct ScriptedNode {
    /// The virtual host is open.
    pub(crate) is_open: bool,
    /// The next request that may be refused is.
    pub(crate) refuses_next: bool,
    is_over: bool,
    channels: BTreeMap<ChannelNumber, Channel>,
    key_next: u32,
    index_next: u64,
}

#[derive(Default)]
struct Channel {
    /// Something was refused: it takes nothing more.
    is_refused: bool,
    /// Key, and whether its deliveries are settled.
    consumers: Vec<(ConsumerKey, bool)>,
    unresolved: Vec<PublishSeq>,
}

impl ScriptedNode {
    pub(crate) fn take(&mut self, request: Request, events: &mut Vec<Event>) {
        assert!(!self.is_over, "nothing follows CloseConnection");
        match request {
            Request::Login(login) => {
                let user = login.user;
                events.push(if self.refuses() {
                    Event::LoginRefused
                } else {
                    Event::LoginAccepted { user }
                });
            }
            Request::OpenVhost { vhost } => {
                if self.refuses() {
                    events.push(Event::VhostRefused(Refusal::VhostNotFound { vhost }.into()));
                } else {
                    self.is_open = true;
                    events.push(Event::VhostOpened);
                }
            }
            Request::UpdateSecret { .. } => events.push(if self.refuses() {
                Event::SecretRefused
            } else {
                Event::SecretUpdated
            }),
            Request::OpenChannel { channel } => self.open_channel(channel, events),
            Request::CloseChannel { channel } => {
                let closed = self.channels.remove(&channel);
                assert!(closed.is_some(), "only open channels are closed");
                events.push(Event::ChannelClosed { channel });
            }
            Request::CloseConnection => {
                self.is_over = true;
                self.channels.clear();
                events.push(Event::ConnectionClosed);
            }
            Request::Drained { size_bytes } => assert!(size_bytes > 0),
            on_channel => self.take_on_channel(on_channel, events),
        }
    }

    /// Up to `count` messages for the consumers there are.
    pub(crate) fn deliver(&mut self, count: u8) -> Vec<Event> {
        let consumers: Vec<_> = self
            .channels
            .iter()
            .flat_map(|(number, channel)| channel.consumers.iter().map(|c| (*number, *c)))
            .collect();
        let places = consumers.iter().cycle().take(if consumers.is_empty() {
            0
        } else {
            usize::from(count)
        });
        let places: Vec<_> = places.copied().collect();
        let delivery = |(channel, (consumer, settled))| {
            Event::Delivery(self.delivery(channel, consumer, settled))
        };
        places.into_iter().map(delivery).collect()
    }

    /// The verdict on everything published so far.
    pub(crate) fn resolve(&mut self, is_good: bool) -> Vec<Event> {
        let mut events = Vec::new();
        for (&channel, open) in &mut self.channels {
            let Some((&first, &last)) = open.unresolved.first().zip(open.unresolved.last()) else {
                continue;
            };
            open.unresolved.clear();
            events.push(if is_good {
                Event::Confirmed {
                    channel,
                    first,
                    last,
                }
            } else {
                Event::Nacked {
                    channel,
                    first,
                    last,
                }
            });
        }
        events
    }

    /// The queue of the first consumer goes.
    pub(crate) fn cancel_consumer(&mut self) -> Option<Event> {
        let (channel, open) = self
            .channels
            .iter_mut()
            .find(|(_, open)| !open.consumers.is_empty())?;
        let (consumer, _) = open.consumers.remove(0);
        let channel = *channel;
        Some(Event::ConsumerCancelled { channel, consumer })
    }

    fn refuses(&mut self) -> bool {
        std::mem::take(&mut self.refuses_next)
    }

    fn open_channel(&mut self, channel: ChannelNumber, events: &mut Vec<Event>) {
        if self.refuses() {
            events.push(Event::ConnectionRefused {
                operation: Operation::OpenChannel,
                refusal: Refusal::NotAllowed("too many channels".to_owned()).into(),
            });
            return;
        }
        let replaced = self.channels.insert(channel, Channel::default());
        assert!(replaced.is_none(), "a number is used again once it is free");
        events.push(Event::ChannelOpened { channel });
    }

    fn take_on_channel(&mut self, request: Request, events: &mut Vec<Event>) {
        let number = channel_of(&request);
        let refuses = self.refuses();
        let channel = self.channels.get_mut(&number).expect("it is open");
        if channel.is_refused {
            return;
        }
        if refuses {
            channel.is_refused = true;
            events.push(Event::Refused {
                channel: number,
                operation: Operation::Consume,
                refusal: Refusal::AccessRefused("no".to_owned()).into(),
            });
            return;
        }
        if let Request::Publish(publish) = &request {
            channel.unresolved.extend(publish.seq);
        }
        if let Some(reply) = self.reply_to(request) {
            let channel = number;
            events.push(Event::Reply { channel, reply });
        }
    }

    fn reply_to(&mut self, request: Request) -> Option<Reply> {
        Some(match request {
            Request::DeclareExchange(_) => Reply::ExchangeDeclared,
            Request::DeleteExchange { .. } => Reply::ExchangeDeleted,
            Request::Bind(_) => Reply::Bound,
            Request::Unbind(_) => Reply::Unbound,
            Request::DeclareQueue(_) => Reply::QueueDeclared {
                ready_count: 1,
                consumer_count: 1,
            },
            Request::PurgeQueue { .. } => Reply::QueuePurged { count: 1 },
            Request::DeleteQueue { .. } => Reply::QueueDeleted { count: 1 },
            Request::Consume(consume) => self.consume(consume.channel, consume.no_ack),
            Request::ConsumeReplies { channel } => self.consume(channel, true),
            Request::Cancel { channel, consumer } => {
                let open = self.channels.get_mut(&channel).expect("it is open");
                open.consumers.retain(|(key, _)| *key != consumer);
                Reply::Cancelled { consumer }
            }
            Request::Get {
                channel, no_ack, ..
            } => {
                self.key_next += 1;
                let key = ConsumerKey(self.key_next);
                Reply::Got {
                    delivery: self.delivery(channel, key, no_ack).into(),
                    ready_count: 3,
                }
            }
            Request::Commit { .. } => Reply::Committed,
            Request::Sync { .. } => Reply::Synced,
            Request::Publish(_)
            | Request::Settle(_)
            | Request::SelectTx { .. }
            | Request::Rollback { .. }
            | Request::LimitChannel { .. }
            | Request::LimitConsumers { .. } => return None,
            other => unreachable!("{other:?} is on no channel"),
        })
    }

    fn consume(&mut self, channel: ChannelNumber, no_ack: bool) -> Reply {
        self.key_next += 1;
        let consumer = ConsumerKey(self.key_next);
        let open = self.channels.get_mut(&channel).expect("it is open");
        open.consumers.push((consumer, no_ack));
        let is_special = self.key_next.is_multiple_of(2);
        Reply::Consuming {
            consumer,
            consumer_timeout: is_special.then_some(Duration::from_secs(20)),
        }
    }

    fn delivery(
        &mut self,
        channel: ChannelNumber,
        consumer: ConsumerKey,
        settled: bool,
    ) -> Delivery {
        self.index_next += 1;
        Delivery {
            channel,
            consumer,
            queue: QueueId(1),
            index: MessageIndex(self.index_next),
            redelivered: false,
            settled,
            message: Message::copied(b"x", b"key", b"\0\0", b"body"),
        }
    }
}

/// The channel of a request that has one.
fn channel_of(request: &Request) -> ChannelNumber {
    match request {
        Request::Publish(publish) => publish.channel,
        Request::Settle(settle) => settle.channel,
        Request::DeclareExchange(declare) => declare.channel,
        Request::DeclareQueue(declare) => declare.channel,
        Request::Bind(binding) | Request::Unbind(binding) => binding.channel,
        Request::Consume(consume) => consume.channel,
        Request::DeleteExchange { channel, .. }
        | Request::PurgeQueue { channel, .. }
        | Request::DeleteQueue { channel, .. }
        | Request::ConsumeReplies { channel }
        | Request::SelectTx { channel }
        | Request::Commit { channel, .. }
        | Request::Rollback { channel }
        | Request::Sync { channel }
        | Request::Cancel { channel, .. }
        | Request::Get { channel, .. }
        | Request::LimitChannel { channel, .. }
        | Request::LimitConsumers { channel, .. } => *channel,
        other => unreachable!("{other:?} is on no channel"),
    }
}
