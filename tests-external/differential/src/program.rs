//! Programs: what the two brokers are asked to do, made from a seed.
//!
//! Operations name queues, exchanges, channels and outstanding deliveries by small numbers, so that
//! a program from which operations were dropped is a program still.

use crate::random::Random;

/// Queues that a program may use by names of its own.
pub const QUEUES: usize = 4;
/// The queue that the broker has named last.
pub const SERVER_NAMED: usize = QUEUES;
/// The queue that the channel has declared last, which is meant by no name.
pub const LAST_DECLARED: usize = QUEUES + 1;
/// Exchanges it may use.
pub const EXCHANGES: usize = 5;
/// Channels: the first two on one connection, the third on another.
pub const CHANNELS: usize = 3;
/// Consumer tags of a channel.
pub const TAGS: usize = 3;
/// A time to live that passes while a program runs, in milliseconds.
pub const PASSING_MILLIS: u64 = 40;
/// The same as a property.
const PASSING_TEXT: &str = "40";
/// Fewest operations of a program.
const OPERATIONS_MIN: u64 = 5;
/// Most operations of a program.
const OPERATIONS_MAX: u64 = 40;

/// A value in a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(i32),
    Long(i64),
    Text(&'static str),
    /// The name of a queue.
    Queue(usize),
    /// The name of an exchange.
    Exchange(usize),
    /// Names of queues and routing keys.
    Keys(Vec<Key>),
    Truth(bool),
    Float(f64),
    Void,
}

/// A routing key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Key {
    Text(&'static str),
    /// The name of a queue.
    Queue(usize),
}

/// Arguments or headers.
pub type Table = Vec<(&'static str, Value)>;

/// Where a message is published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Exchange {
    Default,
    Named(usize),
}

/// Basic properties.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    pub texts: Vec<(&'static str, &'static str)>,
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    pub timestamp: Option<u64>,
    pub headers: Option<Table>,
}

/// Whether messages expire while the program runs.
pub fn has_passing_times(program: &[Step]) -> bool {
    program.iter().any(|step| match &step.what {
        Operation::DeclareQueue { arguments, .. } => {
            arguments.contains(&("x-message-ttl", passing_ttl()))
        }
        Operation::Publish { properties, .. } => {
            properties.texts.contains(&("expiration", PASSING_TEXT))
        }
        _ => false,
    })
}

fn passing_ttl() -> Value {
    Value::Int(i32::try_from(PASSING_MILLIS).expect("it is short"))
}

/// One operation; `channel` is below [`CHANNELS`].
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub channel: usize,
    pub what: Operation,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    DeclareQueue {
        queue: usize,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: Table,
    },
    InspectQueue(usize),
    DeclareExchange {
        exchange: usize,
        kind: &'static str,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: Table,
    },
    InspectExchange(usize),
    DeleteExchange {
        exchange: usize,
        if_unused: bool,
    },
    Bind {
        queue: usize,
        exchange: usize,
        key: Key,
        arguments: Table,
    },
    Unbind {
        queue: usize,
        exchange: usize,
        key: Key,
        arguments: Table,
    },
    BindExchange {
        to: usize,
        from: usize,
        key: Key,
        arguments: Table,
    },
    UnbindExchange {
        to: usize,
        from: usize,
        key: Key,
        arguments: Table,
    },
    Publish {
        exchange: Exchange,
        key: Key,
        mandatory: bool,
        properties: Box<Properties>,
        size: usize,
    },
    SelectConfirms,
    Get {
        queue: usize,
        no_ack: bool,
    },
    /// `which` counts outstanding deliveries of the channel, modulo their number.
    Ack {
        which: usize,
        multiple: bool,
    },
    Nack {
        which: usize,
        multiple: bool,
        requeue: bool,
    },
    Reject {
        which: usize,
        requeue: bool,
    },
    /// A delivery tag that was never given.
    AckUnknown(u64),
    Consume {
        queue: usize,
        tag: usize,
        no_ack: bool,
        exclusive: bool,
        arguments: Table,
    },
    Cancel(usize),
    Purge(usize),
    DeleteQueue {
        queue: usize,
        if_unused: bool,
        if_empty: bool,
    },
    LimitPrefetch {
        count: u16,
        global: bool,
    },
    Recover {
        requeue: bool,
    },
    SelectTx,
    Commit,
    Rollback,
    CloseChannel,
    CloseConnection,
}

/// A kind of exchange that a plugin of RabbitMQ's brings.
const CONSISTENT_HASH: &str = "x-consistent-hash";
/// What kind each exchange mostly is.
const KINDS: [&str; EXCHANGES] = ["direct", "fanout", "topic", "headers", CONSISTENT_HASH];

const TEXTS: [&str; 5] = ["a", "a.b", "b", "c.d.e", ""];
const PATTERNS: [&str; 8] = ["a", "a.b", "b", "#", "*", "a.*", "a.#", "*.*.e"];

/// What passes in a program: all its messages live for the same time, dead letters too, since
/// RabbitMQ lets an expired message stay behind one that is not, and Staunch does not.
#[derive(Clone, Copy, PartialEq)]
enum Passing {
    Nothing,
    /// Every queue has an `x-message-ttl`.
    Queues,
    /// And every message that is published has an `expiration`.
    Messages,
}

struct Maker {
    random: Random,
    /// More quorum queues in some programs, none in most.
    quorum: bool,
    passing: Passing,
}

/// The program of a seed.
pub fn make(seed: u64) -> Vec<Step> {
    let mut random = Random::new(seed);
    let quorum = random.one_in(4);
    let passing = match random.below(16) {
        0 => Passing::Messages,
        1 => Passing::Queues,
        _ => Passing::Nothing,
    };
    let mut maker = Maker {
        random,
        quorum,
        passing,
    };
    let count = OPERATIONS_MIN + maker.random.below(OPERATIONS_MAX - OPERATIONS_MIN + 1);
    let channels = 1 + maker.random.below(CHANNELS as u64) as usize;
    let mut steps = Vec::new();
    // Something to work with first; else most programs would only see that nothing is there.
    for queue in 0..1 + maker.random.below(3) as usize {
        let what = maker.declare_queue(queue);
        steps.push(Step { channel: 0, what });
        if maker.random.one_in(2) {
            let exchange = maker.exchange();
            let what = maker.declare_exchange(exchange);
            steps.push(Step { channel: 0, what });
            let what = maker.bind(queue, exchange);
            steps.push(Step { channel: 0, what });
        }
    }
    if maker.random.one_in(2) {
        let what = Operation::SelectConfirms;
        steps.push(Step { channel: 0, what });
    }
    while (steps.len() as u64) < count {
        let channel = maker.random.below(channels as u64) as usize;
        let what = maker.operation();
        steps.push(Step { channel, what });
    }
    steps
}

impl Maker {
    fn queue(&mut self) -> usize {
        match self.random.below(60) {
            0..2 => return SERVER_NAMED,
            2 => return LAST_DECLARED,
            _ => {}
        }
        // The first ones are more likely, so that operations meet.
        self.random
            .below(QUEUES as u64)
            .min(self.random.below(QUEUES as u64)) as usize
    }

    fn exchange(&mut self) -> usize {
        self.random
            .below(EXCHANGES as u64)
            .min(self.random.below(EXCHANGES as u64)) as usize
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.random.below(from.len() as u64) as usize].clone()
    }

    fn key(&mut self) -> Key {
        match self.random.below(4) {
            0 => Key::Queue(self.queue()),
            1 => Key::Text(self.pick(&PATTERNS)),
            _ => Key::Text(self.pick(&TEXTS)),
        }
    }

    fn operation(&mut self) -> Operation {
        match self.random.below(100) {
            0..28 => self.publish(),
            28..38 => self.get(),
            38..53 => self.settle(),
            53..63 => self.consume(),
            63..69 => self.binding(),
            69..75 => {
                let queue = self.queue();
                self.declare_queue(queue)
            }
            75..78 => {
                let exchange = self.exchange();
                self.declare_exchange(exchange)
            }
            78..81 => Operation::Cancel(self.random.below(TAGS as u64) as usize),
            81..83 => Operation::LimitPrefetch {
                count: self.pick(&[0, 1, 2, 5]),
                global: self.random.one_in(5),
            },
            _ => self.rare(),
        }
    }

    fn rare(&mut self) -> Operation {
        match self.random.below(19) {
            0..2 => Operation::Purge(self.queue()),
            2..5 => Operation::DeleteQueue {
                queue: self.queue(),
                if_unused: self.random.one_in(3),
                if_empty: self.random.one_in(3),
            },
            5 => Operation::DeleteExchange {
                exchange: self.exchange(),
                if_unused: self.random.one_in(2),
            },
            6..8 => Operation::InspectQueue(self.queue()),
            8 => Operation::InspectExchange(self.exchange()),
            9..11 => Operation::Recover {
                requeue: !self.random.one_in(10),
            },
            11 => Operation::SelectConfirms,
            12..14 => Operation::SelectTx,
            14 => Operation::Commit,
            15 => Operation::Rollback,
            16 => Operation::AckUnknown(self.pick(&[0, 77, u64::MAX])),
            17 => Operation::CloseChannel,
            _ => Operation::CloseConnection,
        }
    }

    fn get(&mut self) -> Operation {
        Operation::Get {
            queue: self.queue(),
            no_ack: self.random.one_in(3),
        }
    }

    fn settle(&mut self) -> Operation {
        let which = self.random.below(8) as usize;
        let (multiple, requeue) = (self.random.one_in(4), self.random.one_in(2));
        match self.random.below(3) {
            0 => Operation::Ack { which, multiple },
            1 => Operation::Nack {
                which,
                multiple,
                requeue,
            },
            _ => Operation::Reject { which, requeue },
        }
    }

    fn consume(&mut self) -> Operation {
        let mut arguments = Vec::new();
        if self.random.one_in(4) {
            let value = self.pick(&[
                Value::Int(1),
                Value::Int(5),
                Value::Long(-3),
                Value::Text("high"),
            ]);
            arguments.push(("x-priority", value));
        }
        Operation::Consume {
            queue: self.queue(),
            tag: self.random.below(TAGS as u64) as usize,
            no_ack: self.random.one_in(4),
            exclusive: self.random.one_in(10),
            arguments,
        }
    }

    fn binding(&mut self) -> Operation {
        let (queue, exchange) = (self.queue(), self.exchange());
        match self.random.below(6) {
            0..3 => self.bind(queue, exchange),
            3 => Operation::Unbind {
                queue,
                exchange,
                key: self.key(),
                arguments: Vec::new(),
            },
            4 if KINDS[exchange] != CONSISTENT_HASH => Operation::BindExchange {
                to: self.exchange(),
                from: exchange,
                key: self.key(),
                arguments: self.match_arguments(),
            },
            4 => Operation::InspectExchange(exchange),
            _ => Operation::UnbindExchange {
                to: self.exchange(),
                from: exchange,
                key: self.key(),
                arguments: Vec::new(),
            },
        }
    }

    fn bind(&mut self, queue: usize, exchange: usize) -> Operation {
        if KINDS[exchange] == CONSISTENT_HASH {
            // One queue: which of several a message goes to each broker decides in its own way.
            let weights = ["1", "2", "0", "-1", "heavy", ""];
            return Operation::Bind {
                queue: 0,
                exchange,
                key: Key::Text(self.pick(&weights)),
                arguments: Vec::new(),
            };
        }
        Operation::Bind {
            queue,
            exchange,
            key: self.key(),
            arguments: self.match_arguments(),
        }
    }

    fn match_arguments(&mut self) -> Table {
        if !self.random.one_in(3) {
            return Vec::new();
        }
        let mut arguments = self.fields();
        if self.random.one_in(2) {
            let modes = ["all", "any", "all-with-x", "any-with-x", "some"];
            arguments.push(("x-match", Value::Text(self.pick(&modes))));
        }
        arguments
    }

    fn fields(&mut self) -> Table {
        let names = ["h", "k", "x-h"];
        let values = [
            Value::Int(1),
            Value::Long(1),
            Value::Text("1"),
            Value::Truth(true),
            Value::Float(0.5),
            Value::Void,
        ];
        let mut fields = Vec::new();
        for name in names {
            if self.random.one_in(2) {
                fields.push((name, self.pick(&values)));
            }
        }
        fields
    }

    fn declare_exchange(&mut self, exchange: usize) -> Operation {
        let mut kind = KINDS[exchange];
        if self.random.one_in(12) {
            kind = self.pick(&["direct", "fanout", "topic", "headers", "x-none"]);
        }
        let mut arguments = Vec::new();
        if self.random.one_in(5) {
            let alternate = Value::Exchange(self.exchange());
            let value = self.pick(&[alternate.clone(), alternate, Value::Text(""), Value::Int(1)]);
            arguments.push(("alternate-exchange", value));
        }
        if kind == CONSISTENT_HASH && self.random.one_in(3) {
            let names = ["hash-header", "hash-property"];
            let values = [
                Value::Text("message_id"),
                Value::Text("h"),
                Value::Text("odd"),
                Value::Int(1),
            ];
            arguments.push((self.pick(&names), self.pick(&values)));
        }
        Operation::DeclareExchange {
            exchange,
            kind,
            durable: !self.random.one_in(4),
            auto_delete: self.random.one_in(8),
            internal: self.random.one_in(12),
            arguments,
        }
    }

    fn declare_queue(&mut self, queue: usize) -> Operation {
        let mut arguments = Vec::new();
        let mut durable = !self.random.one_in(5);
        let (mut exclusive, mut auto_delete) = (self.random.one_in(12), self.random.one_in(10));
        if self.quorum && self.random.one_in(2) {
            arguments.push(("x-queue-type", Value::Text("quorum")));
            if !self.random.one_in(10) {
                (durable, exclusive, auto_delete) = (true, false, false);
            }
        } else if self.random.one_in(8) {
            let kind = self.pick(&[Value::Text("classic"), Value::Text("none"), Value::Int(1)]);
            arguments.push(("x-queue-type", kind));
        }
        if !self.random.one_in(3) {
            self.queue_arguments(&mut arguments);
        }
        if arguments.contains(&("x-queue-type", Value::Text("quorum")))
            && arguments.contains(&("x-overflow", Value::Text("reject-publish")))
        {
            // RabbitMQ takes one message too many, and then refuses until there is much room.
            let is_limit = |name: &str| name.starts_with("x-max-length");
            arguments.retain(|(name, _)| !is_limit(name));
        }
        if self.passing != Passing::Nothing {
            arguments.retain(|(name, _)| *name != "x-message-ttl");
            arguments.push(("x-message-ttl", passing_ttl()));
        }
        Operation::DeclareQueue {
            queue,
            durable,
            exclusive,
            auto_delete,
            arguments,
        }
    }

    fn queue_arguments(&mut self, arguments: &mut Table) {
        if self.random.one_in(4) {
            let values = [Value::Int(0), Value::Int(1), Value::Int(2), Value::Int(3)];
            arguments.push(("x-max-length", self.pick(&values)));
        }
        if self.random.one_in(8) {
            let values = [Value::Int(4), Value::Long(12), Value::Int(30)];
            arguments.push(("x-max-length-bytes", self.pick(&values)));
        }
        if self.random.one_in(5) {
            let values = ["drop-head", "reject-publish", "reject-publish-dlx"];
            arguments.push(("x-overflow", Value::Text(self.pick(&values))));
        }
        if self.random.one_in(2) {
            let exchange = Value::Exchange(self.exchange());
            let value = self.pick(&[exchange, Value::Text(""), Value::Text("")]);
            arguments.push(("x-dead-letter-exchange", value));
            if !self.random.one_in(3) {
                let value = Value::Queue(self.queue());
                arguments.push(("x-dead-letter-routing-key", value));
            }
        }
        if self.random.one_in(8) {
            let values = [Value::Int(0), Value::Long(3_600_000)];
            arguments.push(("x-message-ttl", self.pick(&values)));
        }
        if self.random.one_in(8) {
            let values = [
                Value::Int(1),
                Value::Int(5),
                Value::Int(10),
                // More take RabbitMQ seconds.
                Value::Int(40),
            ];
            arguments.push(("x-max-priority", self.pick(&values)));
        }
        if self.random.one_in(8) {
            let value = Value::Truth(!self.random.one_in(5));
            arguments.push(("x-single-active-consumer", value));
        }
        if self.quorum && self.random.one_in(5) {
            let values = [Value::Int(0), Value::Int(1), Value::Int(2)];
            arguments.push(("x-delivery-limit", self.pick(&values)));
        }
        if self.quorum && self.random.one_in(6) {
            let values = ["at-most-once", "at-least-once", "at-once"];
            let value = Value::Text(self.pick(&values));
            arguments.push(("x-dead-letter-strategy", value));
        }
        if self.random.one_in(14) {
            let odd = self.odd_argument();
            arguments.retain(|(name, _)| *name != odd.0);
            arguments.push(odd);
        }
    }

    /// An argument that is mostly refused.
    fn odd_argument(&mut self) -> (&'static str, Value) {
        let name = self.pick(&[
            "x-max-length",
            "x-max-length-bytes",
            "x-overflow",
            "x-dead-letter-exchange",
            "x-dead-letter-routing-key",
            "x-message-ttl",
            "x-expires",
            "x-max-priority",
            "x-single-active-consumer",
            "x-delivery-limit",
            "x-queue-mode",
            "x-other",
        ]);
        let value = self.pick(&[
            Value::Int(-1),
            Value::Int(0),
            Value::Int(3_600_000),
            Value::Text("lazy"),
            Value::Truth(true),
            Value::Float(1.5),
            Value::Void,
        ]);
        (name, value)
    }

    fn publish(&mut self) -> Operation {
        let exchange = if self.random.one_in(2) {
            Exchange::Default
        } else {
            Exchange::Named(self.exchange())
        };
        let key = match exchange {
            Exchange::Default if !self.random.one_in(10) => Key::Queue(self.queue()),
            Exchange::Default | Exchange::Named(_) => self.key(),
        };
        Operation::Publish {
            exchange,
            key,
            mandatory: self.random.one_in(3),
            properties: Box::new(self.properties()),
            size: self.pick(&[0, 0, 2, 10, 25]),
        }
    }

    fn properties(&mut self) -> Properties {
        let mut properties = Properties::default();
        if self.random.one_in(3) {
            properties.delivery_mode = Some(self.pick(&[1, 2]));
        }
        if self.random.one_in(4) {
            // 4.0 to 4.2 prefer 5 and above in quorum queues, 3.10 knows no priorities there.
            let values: &[u8] = match self.quorum {
                true => &[0, 1, 4],
                false => &[0, 1, 3, 4, 5, 9, 255],
            };
            properties.priority = Some(self.pick(values));
        }
        if self.passing == Passing::Messages {
            properties.texts.push(("expiration", PASSING_TEXT));
        } else if self.random.one_in(10) {
            let values = ["3600000", "soon", "-1", ""];
            properties.texts.push(("expiration", self.pick(&values)));
        }
        if self.random.one_in(8) {
            properties.timestamp = Some(1_700_000_000);
            for name in [
                "content_type",
                "correlation_id",
                "reply_to",
                "message_id",
                "app_id",
            ] {
                properties.texts.push((name, "text"));
            }
        }
        if self.random.one_in(25) {
            let user = self.pick(&["guest", "guest", "other"]);
            properties.texts.push(("user_id", user));
        }
        if self.random.one_in(3) {
            let mut headers = self.fields();
            for name in ["CC", "BCC"] {
                if self.random.one_in(6) {
                    let value = Value::Keys(vec![self.key(), self.key()]);
                    let value = self.pick(&[value.clone(), value.clone(), value, Value::Int(1)]);
                    headers.push((name, value));
                }
            }
            properties.headers = Some(headers);
        }
        properties
    }
}
