//! Publishers of a queue that is to hold out for a time (`horizon-slo`) are slowed when they must
//! be, and nobody else is.

use std::time::Duration;

use staunch_broker::{ApplyTo, CatalogCommand, Policy, PolicyCommand, PolicyScope};
use staunch_node::Input;
use staunch_types::{
    ChannelNumber, ConnectionId, Event, Message, Request, field_table::TableBuilder,
    request::Publish,
};

use crate::{
    login::apply,
    script::{Script, name},
    world::roomy,
};

const CAPACITY: u64 = 60_000;
const STEP: Duration = Duration::from_millis(50);
const STEPS_PER_SECOND: u64 = 20;

/// Somebody who publishes as fast as he likes, and waits when he has to.
struct Publisher {
    connection: ConnectionId,
    queue: &'static str,
    per_second: u64,
    wanted: u64,
    sent: u64,
    is_held: bool,
    /// What he was told: why he is slowed, or that he is not any more.
    told: Vec<Option<String>>,
}

struct Bench {
    script: Script,
    /// Of `q`, heavy and light, and of `other`.
    publishers: [Publisher; 3],
}

impl Bench {
    fn new(slo: &str) -> Self {
        let mut script = Script::new(roomy());
        for line in [
            "a connect",
            "b connect",
            "c connect",
            "a open 1",
            "b open 1",
            "c open 1",
        ] {
            script.line(line);
        }
        script.line("a/1 queue q durable");
        script.line("a/1 queue other durable");
        let definition = TableBuilder::new()
            .longstr("horizon-slo", slo)
            .long("max-length", i64::try_from(CAPACITY).unwrap())
            .longstr("overflow", "reject-publish")
            .build();
        let set = PolicyCommand::Set {
            scope: PolicyScope::User,
            vhost: name("/"),
            name: name("p"),
            policy: Policy {
                pattern: "^q$".to_owned(),
                apply_to: ApplyTo::Queues,
                priority: 0,
                definition,
            },
        };
        apply(&mut script, vec![CatalogCommand::Policy(set)]);
        let publisher = |who: &str, queue, per_second| Publisher {
            connection: ConnectionId(script.id_of(who)),
            queue,
            per_second,
            wanted: 0,
            sent: 0,
            is_held: false,
            told: Vec::new(),
        };
        let publishers = [
            publisher("a", "q", 800),
            publisher("b", "q", 20),
            publisher("c", "other", 1_000),
        ];
        Self { script, publishers }
    }

    fn step(&mut self) {
        let world = &mut self.script.world;
        for publisher in &mut self.publishers {
            let count = publisher.per_second / STEPS_PER_SECOND;
            publisher.wanted += count;
            if publisher.is_held {
                continue;
            }
            publisher.sent += count;
            let key = publisher.queue.as_bytes();
            let one = || {
                Request::Publish(Publish {
                    channel: ChannelNumber(1),
                    seq: None,
                    mandatory: false,
                    message: Message::copied(b"", key, b"\x10\x00\x02", b"12345"),
                })
            };
            let batch = (0..count).map(|_| one()).collect();
            world.requests(publisher.connection.0, batch);
        }
        world.run_jobs();
        world.now = world.now + STEP;
        world.give(Input::Tick);
        world.run_jobs();
        world.proceeds.clear();
        self.listen();
    }

    /// What publishers were told, by steps or by lines of the script.
    fn listen(&mut self) {
        let by_lines = std::mem::take(&mut self.script.heard).into_iter();
        let by_lines = by_lines.map(|(id, event)| (ConnectionId(id), event));
        for (id, event) in by_lines.chain(self.script.world.take_events()) {
            let heard = self.publishers.iter_mut().find(|it| it.connection == id);
            match (heard, event) {
                (Some(heard), Event::PublishesHeld { is_held }) => heard.is_held = is_held,
                (Some(heard), Event::Slowed { reason }) => {
                    heard.told.push(reason.map(String::from));
                }
                (Some(_) | None, _) => {}
            }
        }
    }

    /// So many seconds; with a consumer nothing stays in the queue.
    fn seconds(&mut self, count: u64, is_consumed: bool) {
        for _ in 0..count {
            for _ in 0..STEPS_PER_SECOND {
                self.step();
            }
            if is_consumed {
                self.script.line("a/1 purge q");
                self.listen();
            }
        }
    }

    fn ready(&mut self, queue: &str) -> u64 {
        let told = self
            .script
            .line(&format!("a/1 queue {queue} passive durable"));
        let text = told[0].strip_prefix("a/1 queue: ").expect("it is there");
        text.split(' ').next().unwrap().parse().unwrap()
    }
}

#[test]
fn a_burst_without_consumers_is_slowed_so_that_the_queue_holds_out() {
    let mut bench = Bench::new("60s");
    bench.seconds(5, true);
    let told = |bench: &Bench| bench.publishers.each_ref().map(|it| it.told.len());
    assert_eq!(told(&bench), [0, 0, 0]);
    // Ten times as much, and the consumer is gone: seven seconds, if nothing is done.
    bench.publishers[0].per_second *= 10;
    let before: u64 = bench.publishers[..2].iter().map(|it| it.sent).sum();
    bench.seconds(60, false);
    let ready = bench.ready("q");
    assert!(ready < CAPACITY, "{ready}");
    let sent: u64 = bench.publishers[..2].iter().map(|it| it.sent).sum();
    assert_eq!(ready, sent - before, "nothing is lost");
    let [heavy, light, other] = &bench.publishers;
    // Close to what the objective leaves: 1 - 1/e of it, and what came before it was noticed.
    assert!(ready > CAPACITY / 2, "{ready}");
    let [Some(reason)] = &heavy.told[..] else {
        panic!("told once: {:?}", heavy.told);
    };
    assert!(
        reason.contains("queue 'q'") && reason.contains("60 s"),
        "{reason}"
    );
    for free in [light, other] {
        assert_eq!((free.sent, free.told.len()), (free.wanted, 0));
    }
    assert_eq!(bench.ready("other"), bench.publishers[2].sent);
    // The consumer is back and the burst is over: everything as before, and that is told.
    bench.publishers[0].per_second = 800;
    bench.seconds(60, true);
    assert_eq!(bench.publishers[0].told.len(), 2);
    assert_eq!(bench.publishers[0].told[1], None);
    let before = [bench.publishers[0].wanted, bench.publishers[0].sent];
    bench.seconds(5, true);
    let after = [bench.publishers[0].wanted, bench.publishers[0].sent];
    assert_eq!(after[0] - before[0], after[1] - before[1]);
}

#[test]
fn without_an_objective_nobody_is_slowed_and_who_loses_it_is_let_go() {
    let mut bench = Bench::new("0s");
    bench.publishers[0].per_second = 8_000;
    bench.seconds(4, false);
    assert_eq!(bench.publishers[0].sent, bench.publishers[0].wanted);
    let mut bench = Bench::new("60s");
    bench.publishers[0].per_second = 8_000;
    bench.seconds(4, false);
    assert_eq!(bench.publishers[0].told.len(), 1);
    let delete = PolicyCommand::Delete {
        scope: PolicyScope::User,
        vhost: name("/"),
        name: name("p"),
    };
    apply(&mut bench.script, vec![CatalogCommand::Policy(delete)]);
    bench.publishers[0].told.clear();
    bench.seconds(1, false);
    let before = bench.publishers[0].sent;
    bench.seconds(1, false);
    assert_eq!(bench.publishers[0].sent - before, 8_000);
    assert_eq!(bench.publishers[0].told, [None]);
}

#[test]
fn a_publisher_that_goes_while_it_waits_leaves_nothing_behind() {
    let mut bench = Bench::new("60s");
    bench.publishers[0].per_second = 8_000;
    bench.seconds(3, false);
    while !bench.publishers[0].is_held {
        bench.step();
    }
    bench.publishers[0].per_second = 0;
    bench.script.line("a close");
    bench.script.line("d connect");
    bench.script.line("d open 1");
    bench.publishers[0].connection = ConnectionId(bench.script.id_of("d"));
    bench.publishers[0].is_held = false;
    bench.publishers[0].per_second = 100;
    bench.seconds(3, false);
    assert!(!bench.publishers[0].is_held);
    let timeout = bench.script.world.node.poll_timeout();
    let soon = bench.script.world.now + STEP * 2;
    assert!(timeout.is_none_or(|at| at > soon), "nobody waits");
}
