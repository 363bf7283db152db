//! Consumers, settlements and dead letters while their queue changes hands.

use std::time::Duration;

use staunch_node::Input;
use staunch_raft::Role;
use staunch_types::{Event, GroupId, Outcome, Reply, Request, field_table::TableBuilder};

use crate::{
    client::{CHANNEL, Client, declare_queue, queue as options},
    edges::{
        arguments, begin_to_consume, body, classic, counts, declare, get, got, next_delivery,
        publish_all, quorum, quorum_with, server, settle, wait_for_answers,
    },
    leaders::set_drained,
    world::World,
};

/// How many steps around a moment are tried.
const MOMENTS: u64 = 8;

/// A queue `q` with `count` messages, all with a client of a node that does not lead it.
struct Held {
    world: World,
    leader: usize,
    client: Client,
    deliveries: Vec<staunch_types::Delivery>,
}

impl Held {
    /// The client is one of the node `distance` behind the leader.
    fn new(distance: usize, count: u64) -> Self {
        let mut held = Self::published(distance, count);
        let (world, client) = (&mut held.world, held.client);
        begin_to_consume(world, client, "q", 0);
        let deliveries = (0..count).map(|_| next_delivery(world, client));
        held.deliveries = deliveries.collect();
        held
    }

    /// As [`Held::new`], but the client has no consumer.
    fn got(distance: usize, count: u64) -> Self {
        let mut held = Self::published(distance, count);
        let (world, client) = (&mut held.world, held.client);
        let deliveries = (0..count).map(|_| match client.ask(world, get("q")) {
            Event::Reply {
                reply: Reply::Got { delivery, .. },
                ..
            } => *delivery,
            event => panic!("{event:?}"),
        });
        held.deliveries = deliveries.collect();
        held
    }

    fn published(distance: usize, count: u64) -> Self {
        let mut world = World::new(3);
        let a = Client::connect(&mut world, 1);
        declare(&mut world, a, "q", quorum());
        let leader = server(&mut world, "q");
        let client = Client::connect(&mut world, (leader + distance - 1) % 3 + 1);
        let publisher = Client::connect(&mut world, client.node);
        publish_all(&mut world, publisher, "q", 1, count);
        wait_for_answers(&mut world, publisher, count);
        Self {
            world,
            leader,
            client,
            deliveries: Vec::new(),
        }
    }

    fn ack_all(&mut self) {
        for delivery in &self.deliveries {
            self.client
                .send(&mut self.world, settle(delivery, Outcome::Ack));
        }
    }

    fn close(&mut self) {
        let channel = CHANNEL;
        self.client
            .send(&mut self.world, Request::CloseChannel { channel });
    }

    /// Nobody has them any more, and nothing is left of them.
    #[track_caller]
    fn assert_gone(&mut self, when: &str) {
        let closed =
            |event: &Event| matches!(event, Event::ChannelClosed { .. } | Event::Forced { .. });
        let event = self.client.wait_for(&mut self.world, closed);
        assert!(
            matches!(event, Event::ChannelClosed { .. }),
            "{when}: {event:?}"
        );
        let node = self.world.running()[0];
        let reader = Client::connect(&mut self.world, node);
        assert_eq!(got(&mut self.world, reader, "q"), None, "{when}");
        self.world.check_invariants();
    }
}

/// The node whose replica of `q` calls itself the leader.
fn leads(world: &World, node: usize) -> bool {
    let is_leader = |facts: staunch_node::GroupFacts| {
        facts.group != GroupId::CATALOG && facts.role.role == Role::Leader
    };
    world
        .machine(node)
        .is_some_and(|it| it.node.group_facts().into_iter().any(is_leader))
}

fn wait_until_leads(world: &mut World, node: usize) {
    world.run_until("it leads", |world| leads(world, node));
}

fn another_leads(world: &mut World, than: usize) -> usize {
    let mut found = None;
    world.run_until("another leads", |world| {
        let mut others = world.running().into_iter().filter(|node| *node != than);
        found = others.find(|node| leads(world, *node));
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn a_consumer_is_cancelled_while_its_queue_moves_to_its_node() {
    for moment in 0..MOMENTS {
        for distance in [1, 2] {
            let mut held = Held::new(distance, 0);
            let (leader, client) = (held.leader, held.client);
            let world = &mut held.world;
            let consumer = begin_to_consume(world, client, "q", 1);
            set_drained(world, leader, true);
            world.run_until("the leader steps down", |world| !leads(world, leader));
            world.run(Duration::from_millis(moment));
            let channel = CHANNEL;
            client.send(world, Request::Cancel { channel, consumer });
            client.wait_for(world, |event| {
                matches!(
                    event,
                    Event::Reply {
                        reply: Reply::Cancelled { .. },
                        ..
                    }
                )
            });
            world.check_invariants();
            // The first consumer is still there.
            let other = Client::connect(world, client.node);
            assert_eq!(counts(world, other, "q"), (0, 1));
        }
    }
}

#[test]
fn a_consumer_is_cancelled_while_its_claim_is_not_answered() {
    for moment in 0..MOMENTS {
        let mut held = Held::new(1, 1);
        let client = held.client;
        let consumer = held.deliveries[0].consumer;
        let world = &mut held.world;
        // The node that is neither the leader nor the client's is to lead next.
        let next = 6 - held.leader - client.node;
        set_drained(world, client.node, true);
        set_drained(world, held.leader, true);
        wait_until_leads(world, next);
        world.run(Duration::from_millis(moment));
        let channel = CHANNEL;
        client.send(world, Request::Cancel { channel, consumer });
        client.wait_for(world, |event| {
            matches!(
                event,
                Event::Reply {
                    reply: Reply::Cancelled { .. },
                    ..
                }
            )
        });
        world.isolate(next);
        set_drained(world, client.node, false);
        wait_until_leads(world, client.node);
        server(world, "q");
        held.ack_all();
        held.world.run(Duration::from_millis(50));
        held.world.check_invariants();
        held.close();
        held.assert_gone(&format!("cancelled at moment {moment}"));
    }
}

#[test]
fn what_is_acked_while_its_claim_is_not_answered_stays_acked() {
    for moment in 0..MOMENTS {
        for pause in [0, 1, 3] {
            for mut held in [Held::new(1, 3), Held::got(1, 3)] {
                let leader = held.leader;
                held.world.kill(leader);
                another_leads(&mut held.world, leader);
                held.world.run(Duration::from_millis(moment));
                held.ack_all();
                held.world.run(Duration::from_millis(pause));
                held.close();
                held.assert_gone(&format!(
                    "acked at moment {moment}, closed after {pause} ms"
                ));
            }
        }
    }
}

/// A leader that hands over proposes nothing more, and must not say that it has.
#[test]
fn what_is_acked_while_its_queue_is_handed_over_stays_acked() {
    for moment in 0..MOMENTS {
        let mut held = Held::new(1, 1);
        let (leader, client) = (held.leader, held.client);
        held.ack_all();
        held.close();
        held.world.run(Duration::from_millis(moment));
        held.world.give(leader, Input::Stop);
        let closed = |event: &Event| matches!(event, Event::ChannelClosed { .. });
        client.wait_for(&mut held.world, closed);
        let reader = Client::connect(&mut held.world, client.node);
        let got = got(&mut held.world, reader, "q");
        assert_eq!(got, None, "handed over at moment {moment}");
    }
}

#[test]
fn a_leader_that_leads_again_is_told_of_settlements_once_more() {
    let mut held = Held::new(1, 2);
    let (leader, client) = (held.leader, held.client);
    let world = &mut held.world;
    let third = 6 - leader - client.node;
    for (drained, revived) in [(leader, None), (third, Some(leader)), (leader, Some(third))] {
        set_drained(world, client.node, true);
        if let Some(revived) = revived {
            set_drained(world, revived, false);
        }
        set_drained(world, drained, true);
        another_leads(world, drained);
        world.run(Duration::from_secs(2));
    }
    held.ack_all();
    let began = held.world.now;
    held.close();
    held.assert_gone("acked with a leader that had led before");
    assert!(
        held.world.now.since(began) < Duration::from_secs(2),
        "nobody waits for nothing"
    );
}

#[test]
fn who_holds_what_another_was_given_gets_no_more_than_its_prefetch() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", quorum());
    let leader = server(&mut world, "q");
    let own = Client::connect(&mut world, leader);
    let other = Client::connect(&mut world, 1 + leader % 3);
    begin_to_consume(&mut world, own, "q", 2);
    publish_all(&mut world, other, "q", 1, 4);
    wait_for_answers(&mut world, other, 4);
    let held: Vec<_> = (0..2).map(|_| next_delivery(&mut world, own)).collect();
    world.isolate(leader);
    world.run(Duration::from_secs(4));
    assert_eq!(got(&mut world, other, "q"), Some(("m1".to_owned(), 3)));
    world.mend();
    crate::edges::no_deliveries(&mut world, own);
    own.send(&mut world, settle(&held[0], Outcome::Ack));
    assert_eq!(body(&next_delivery(&mut world, own)), "m3");
    crate::edges::no_deliveries(&mut world, own);
    own.send(&mut world, settle(&held[1], Outcome::Ack));
    assert_eq!(body(&next_delivery(&mut world, own)), "m4");
    world.check_invariants();
}

#[test]
fn a_dead_letter_is_not_lost_with_the_node_that_was_to_take_it() {
    for moment in 0..MOMENTS {
        let mut world = World::new(3);
        let (a, b) = (
            Client::connect(&mut world, 1),
            Client::connect(&mut world, 2),
        );
        declare(&mut world, b, "grave", classic(&["durable"]));
        let mut mortal = options(&["durable"]);
        mortal.arguments = arguments(|table: TableBuilder| {
            table
                .longstr("x-queue-type", "classic")
                .longstr("x-dead-letter-exchange", "")
                .longstr("x-dead-letter-routing-key", "grave")
        });
        declare(&mut world, a, "q", mortal);
        begin_to_consume(&mut world, a, "q", 0);
        publish_all(&mut world, a, "q", 1, 3);
        for _ in 0..3 {
            let delivery = next_delivery(&mut world, a);
            a.send(&mut world, settle(&delivery, Outcome::Discard));
        }
        world.run(Duration::from_millis(moment));
        world.crash(2, moment);
        world.run(Duration::from_secs(1));
        world.start(2);
        world.run(Duration::from_secs(2));
        let reader = Client::connect(&mut world, 3);
        let count = counts(&mut world, reader, "grave").0;
        assert!(count >= 3, "{count} after a crash at moment {moment}");
        world.check_invariants();
    }
}

#[test]
fn dead_letters_that_wait_for_room_on_another_node_go_on_when_there_is_some() {
    const COUNT: u64 = 6;
    let limits = |table: TableBuilder| {
        table
            .long("x-max-length", 1)
            .longstr("x-overflow", "reject-publish")
    };
    let mut alone = options(&["durable"]);
    alone.arguments = arguments(|table| limits(table.longstr("x-queue-type", "classic")));
    for vault in [alone, quorum_with(limits)] {
        let mut world = World::new(3);
        let a = Client::connect(&mut world, 1);
        declare(&mut world, a, "vault", vault);
        let kept = quorum_with(|table| {
            table
                .longstr("x-overflow", "reject-publish")
                .longstr("x-dead-letter-strategy", "at-least-once")
                .longstr("x-dead-letter-exchange", "")
                .longstr("x-dead-letter-routing-key", "vault")
        });
        let b = Client::connect(&mut world, 2);
        declare(&mut world, b, "q", kept);
        publish_all(&mut world, b, "q", 1, COUNT);
        wait_for_answers(&mut world, b, COUNT);
        begin_to_consume(&mut world, b, "q", 0);
        for _ in 0..COUNT {
            let delivery = next_delivery(&mut world, b);
            b.send(&mut world, settle(&delivery, Outcome::Discard));
        }
        world.run(Duration::from_secs(1));
        let (began, mut count) = (world.now, 0);
        while count < COUNT {
            count += u64::from(got(&mut world, a, "vault").is_some());
        }
        let taken = world.now.since(began);
        assert!(taken < Duration::from_secs(1), "{taken:?} for {COUNT}");
        assert_eq!(got(&mut world, a, "vault"), None);
        world.check_invariants();
    }
}

#[test]
fn a_transaction_is_answered_when_its_settlements_hold() {
    let mut held = Held::new(1, 2);
    let (leader, client) = (held.leader, held.client);
    let reader = 6 - leader - client.node;
    let world = &mut held.world;
    let channel = CHANNEL;
    client.send(world, Request::SelectTx { channel });
    world.isolate(leader);
    let acks = held.deliveries.iter().map(|delivery| {
        let Request::Settle(settle) = settle(delivery, Outcome::Ack) else {
            unreachable!("it settles");
        };
        settle
    });
    let settles = acks.collect();
    client.send(world, Request::Commit { channel, settles });
    client.wait_for(world, |event| {
        matches!(
            event,
            Event::Reply {
                reply: Reply::Committed,
                ..
            }
        )
    });
    // Nobody who knows of it is left but those who keep the queue.
    world.kill(client.node);
    world.mend();
    let reader = Client::connect(world, reader);
    assert_eq!(got(world, reader, "q"), None);
    held.world.check_invariants();
}

#[test]
fn what_comes_for_a_consumer_that_is_cancelled_goes_to_others() {
    for moment in 0..MOMENTS {
        let mut world = World::new(3);
        let a = Client::connect(&mut world, 1);
        declare(&mut world, a, "q", quorum());
        let leader = server(&mut world, "q");
        let client = Client::connect(&mut world, leader % 3 + 1);
        let next = 6 - leader - client.node;
        let other = Client::connect(&mut world, next);
        let consumer = begin_to_consume(&mut world, client, "q", 0);
        let publisher = Client::connect(&mut world, next);
        publish_all(&mut world, publisher, "q", 1, 1);
        next_delivery(&mut world, client);
        begin_to_consume(&mut world, other, "q", 1);
        publish_all(&mut world, publisher, "q", 2, 3);
        wait_for_answers(&mut world, publisher, 4);
        next_delivery(&mut world, other);
        set_drained(&mut world, client.node, true);
        set_drained(&mut world, leader, true);
        wait_until_leads(&mut world, next);
        world.run(Duration::from_millis(moment));
        let channel = CHANNEL;
        client.send(&mut world, Request::Cancel { channel, consumer });
        other.send(&mut world, Request::CloseChannel { channel });
        client.wait_for(&mut world, |event| {
            matches!(
                event,
                Event::Reply {
                    reply: Reply::Cancelled { .. },
                    ..
                }
            )
        });
        crate::edges::no_deliveries(&mut world, client);
        world.check_invariants();
        client.send(&mut world, Request::CloseChannel { channel });
        world.run(Duration::from_millis(50));
        let mut bodies = Vec::new();
        while let Some((body, _)) = got(&mut world, publisher, "q") {
            bodies.push(body);
        }
        bodies.sort_unstable();
        assert_eq!(bodies, ["m1", "m2", "m3", "m4"], "moment {moment}");
    }
}

#[test]
fn nobody_uses_a_queue_whose_end_is_decided() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    let mut expiring = classic(&["durable"]);
    expiring.arguments = arguments(|table: TableBuilder| {
        table
            .longstr("x-queue-type", "classic")
            .long("x-expires", 1000)
    });
    declare(&mut world, a, "q", expiring.clone());
    world.run(Duration::from_millis(500));
    world.isolate(1);
    world.run(Duration::from_secs(1));
    a.send(&mut world, declare_queue("q", expiring));
    world.run(Duration::from_secs(1));
    assert!(a.heard(&mut world).is_empty(), "it cannot be kept");
    world.mend();
    let declared = |event: &Event| {
        matches!(
            event,
            Event::Reply {
                reply: Reply::QueueDeclared { .. },
                ..
            }
        )
    };
    a.wait_for(&mut world, declared);
    assert_eq!(got(&mut world, a, "q"), None, "it is there, and new");
    world.check_invariants();
}
