//! The catalog of a cluster: what is declared on one node is there on all, and nobody hears of it
//! before a majority has it (contract C5).

use std::{collections::BTreeSet, time::Duration};

use staunch_broker::{ApplyTo, CatalogCommand, Policy, PolicyCommand, PolicyScope, UserCommand};
use staunch_log::{OnDamage, StreamId};
use staunch_node::{AdminAnswer, AdminRequest, Input, OnRefusal};
use staunch_raft::HardState;
use staunch_replica::Record;
use staunch_types::{Event, QueueOptions, Refusal, Reply, Request, field_table::TableBuilder};

use crate::{
    client::{
        CHANNEL, Client, bind, declare_exchange, declare_queue, delete_queue, look_for_queue, name,
        queue,
    },
    edges::{classic, consume, quorum, server},
    machine,
    world::World,
};

#[track_caller]
pub(crate) fn assert_declared(event: &Event) {
    let is_declared = matches!(
        event,
        Event::Reply {
            reply: Reply::QueueDeclared { .. },
            ..
        }
    );
    assert!(is_declared, "{event:?}");
}

#[track_caller]
fn assert_missing(event: &Event) {
    let is_missing = matches!(event, Event::Refused { refusal, .. }
        if matches!(**refusal, Refusal::NotFound { .. }));
    assert!(is_missing, "{event:?}");
}

/// Waits until all nodes that run have applied the same, and compares what that has made.
#[track_caller]
pub(crate) fn assert_agreed(world: &mut World) {
    world.run_until("all nodes apply the same", |world| {
        let running = world.running().into_iter();
        let applied = running.map(|number| world.node(number).catalog_image().unwrap().0);
        let applied: Vec<_> = applied.collect();
        applied.windows(2).all(|pair| pair[0] == pair[1])
    });
    let images: Vec<_> = (world.running().into_iter())
        .map(|number| world.node(number).catalog_image().unwrap().1)
        .collect();
    if images.windows(2).any(|pair| pair[0] != pair[1]) {
        let names = world.running().into_iter();
        let names: Vec<_> = names.map(|number| world.queue_names(number)).collect();
        panic!("the catalogs differ; queues of each node: {names:#?}");
    }
    world.check_invariants();
}

#[test]
fn what_is_declared_on_one_node_is_there_on_all() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    assert_declared(&a.ask(&mut world, declare_queue("q", queue(&["durable"]))));
    let bound = a.ask(&mut world, bind("amq.topic", "q", "k"));
    assert!(matches!(
        bound,
        Event::Reply {
            reply: Reply::Bound,
            ..
        }
    ));
    assert_agreed(&mut world);
    for node in [2, 3] {
        let client = Client::connect(&mut world, node);
        assert_declared(&client.ask(&mut world, look_for_queue("q")));
        let event = client.ask(&mut world, declare_exchange("x", "fanout", true));
        assert!(matches!(
            event,
            Event::Reply {
                reply: Reply::ExchangeDeclared,
                ..
            }
        ));
    }
    let c = Client::connect(&mut world, 3);
    drop(c.ask(&mut world, delete_queue("q")));
    assert_agreed(&mut world);
    assert_missing(&a.ask(&mut world, look_for_queue("q")));
}

/// Has a client declare quorum queues without waiting for answers.
fn declare_at_once(world: &mut World, client: Client, names: &[&str], options: &QueueOptions) {
    let requests = names
        .iter()
        .map(|name| declare_queue(name, options.clone()));
    let requests = Input::Requests(client.id, requests.collect());
    world.give(client.node, requests);
}

#[test]
fn queues_that_are_declared_at_once_are_few_changes() {
    let mut world = World::new(3);
    let leader = leader(&mut world);
    let client = Client::connect(&mut world, 1 + leader % 3);
    let before = world.catalog_frames_to(leader);
    declare_at_once(&mut world, client, &["a", "b", "c", "d"], &quorum());
    for _ in 0..4 {
        assert_declared(&client.wait_for(&mut world, |_| true));
    }
    // The first, and what came while that was under way.
    assert_eq!(world.catalog_frames_to(leader), before + 2);
    assert_agreed(&mut world);
    let servers: BTreeSet<usize> = ["a", "b", "c"].map(|it| server(&mut world, it)).into();
    assert_eq!(servers.len(), 3, "their leaders are spread");
}

#[test]
fn what_is_declared_behind_a_refusal_is_not_made() {
    let mut world = World::new(3);
    let client = Client::connect(&mut world, 2);
    assert_declared(&client.ask(&mut world, declare_queue("old", quorum())));
    let names = ["a", "b", "old", "b", "c", "d"];
    declare_at_once(&mut world, client, &names[..5], &quorum());
    let conflict = declare_queue("old", queue(&[]));
    let more = vec![conflict, declare_queue("e", quorum())];
    world.give(2, Input::Requests(client.id, more));
    for name in &names[..5] {
        let event = client.wait_for(&mut world, |_| true);
        assert_declared(&event);
        assert!(world.queue_names(2).contains(*name));
    }
    let refused = client.wait_for(&mut world, |_| true);
    assert!(matches!(refused, Event::Refused { .. }), "{refused:?}");
    assert_agreed(&mut world);
    let made: Vec<_> = world.queue_names(1).into_iter().collect();
    assert_eq!(made, ["a", "b", "c", "old"]);
}

#[test]
fn a_batch_that_one_of_them_does_not_fit_ends_there() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    let b = Client::connect(&mut world, 2);
    // Both propose `x`; one of them finds it there and different.
    declare_at_once(&mut world, a, &["a1", "x", "a2"], &quorum());
    declare_at_once(&mut world, b, &["b1", "x", "b2"], &classic(&["durable"]));
    world.run(Duration::from_secs(1));
    assert_agreed(&mut world);
    let is_refused = |event: &Event| matches!(event, Event::Refused { .. });
    let heard = [a.heard(&mut world), b.heard(&mut world)];
    let refused = heard.iter().filter(|events| events.iter().any(is_refused));
    assert_eq!(refused.count(), 1, "{heard:?}");
    let loser = usize::from(heard[1].iter().any(is_refused));
    assert_eq!(heard[loser].len(), 2, "one made, one refused: {heard:?}");
    assert_eq!(heard[1 - loser].len(), 3);
    let unmade = ["a2", "b2"][loser];
    assert!(!world.queue_names(1).contains(unmade));
}

#[test]
fn the_leader_dies_on_the_way() {
    let mut world = World::new(3);
    let leader = leader(&mut world);
    let other = 1 + leader % 3;
    let client = Client::connect(&mut world, other);
    client.send(&mut world, declare_queue("q", queue(&["durable"])));
    world.run(Duration::from_millis(2));
    world.kill(leader);
    let declared = client.wait_for(&mut world, |_| true);
    assert_declared(&declared);
    world.start(leader);
    assert_agreed(&mut world);
    let client = Client::connect(&mut world, leader);
    assert_declared(&client.ask(&mut world, look_for_queue("q")));
}

#[test]
fn a_minority_refuses_after_a_while_and_goes_on_afterwards() {
    let mut world = World::new(3);
    let client = Client::connect(&mut world, 3);
    assert_declared(&client.ask(
        &mut world,
        declare_queue("there", queue(&["durable", "auto-delete"])),
    ));
    world.isolate(3);
    let began = world.now;
    client.send(&mut world, declare_queue("q", queue(&["durable"])));
    let event = client.wait_for(&mut world, |_| true);
    assert!(world.now.since(began) >= Duration::from_secs(5));
    let Event::Refused { refusal, .. } = &event else {
        panic!("{event:?}");
    };
    assert!(refusal.to_string().starts_with("no majority"), "{refusal}");
    // What is there needs nobody's consent, where nobody else has to be asked for its counts.
    let second = Client::connect(&mut world, 3);
    assert_declared(&second.ask(
        &mut world,
        declare_queue("there", queue(&["durable", "auto-delete"])),
    ));
    world.mend();
    assert_declared(&second.ask(&mut world, declare_queue("q", queue(&["durable"]))));
    assert_agreed(&mut world);
}

#[test]
fn all_nodes_lose_power_and_know_everything_again() {
    let mut world = World::new(3);
    let client = Client::connect(&mut world, 2);
    for number in 0..20 {
        let wanted = declare_queue(&format!("q{number}"), queue(&["durable"]));
        assert_declared(&client.ask(&mut world, wanted));
    }
    for number in 1..=3 {
        world.crash(number, number as u64);
    }
    for number in 1..=3 {
        world.start(number);
    }
    let client = Client::connect(&mut world, 1);
    for number in 0..20 {
        let wanted = look_for_queue(&format!("q{number}"));
        assert_declared(&client.ask(&mut world, wanted));
    }
    assert_agreed(&mut world);
}

#[test]
fn exclusive_and_transient_queues_go_with_their_node() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    assert_declared(&a.ask(&mut world, declare_queue("kept", queue(&["durable"]))));
    assert_declared(&a.ask(&mut world, declare_queue("mine", queue(&["exclusive"]))));
    assert_declared(&a.ask(&mut world, declare_queue("passing", queue(&[]))));
    assert_agreed(&mut world);
    world.kill(1);
    world.start(1);
    let again = Client::connect(&mut world, 1);
    assert_missing(&again.ask(&mut world, look_for_queue("mine")));
    assert_agreed(&mut world);
    let b = Client::connect(&mut world, 2);
    assert_declared(&b.ask(&mut world, look_for_queue("kept")));
    assert_missing(&b.ask(&mut world, look_for_queue("passing")));
}

#[test]
fn queues_of_a_node_that_is_away_for_long_go() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 3);
    assert_declared(&a.ask(&mut world, declare_queue("mine", queue(&["exclusive"]))));
    world.isolate(3);
    world.run(Duration::from_secs(20));
    let b = Client::connect(&mut world, 2);
    let event = b.ask(&mut world, look_for_queue("mine"));
    let is_locked = matches!(&event, Event::Refused { refusal, .. }
        if matches!(**refusal, Refusal::QueueLocked { .. }));
    assert!(is_locked, "{event:?}");
    world.run(Duration::from_secs(15));
    let b = Client::connect(&mut world, 1);
    assert_missing(&b.ask(&mut world, look_for_queue("mine")));
    world.mend();
    assert_agreed(&mut world);
    // It makes itself known again, and may declare again.
    assert_declared(&a.ask(&mut world, declare_queue("mine", queue(&["exclusive"]))));
}

#[test]
fn an_exclusive_queue_is_gone_when_its_connection_has_closed() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 2);
    assert_declared(&a.ask(&mut world, declare_queue("mine", queue(&["exclusive"]))));
    let event = a.ask(&mut world, Request::CloseConnection);
    assert!(matches!(event, Event::ConnectionClosed), "{event:?}");
    let b = Client::connect(&mut world, 2);
    assert_declared(&b.ask(&mut world, declare_queue("mine", queue(&["exclusive"]))));
    assert_agreed(&mut world);
}

#[test]
fn a_queue_whose_connection_closed_before_it_was_there_goes_too() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 2);
    a.send(&mut world, declare_queue("mine", queue(&["exclusive"])));
    a.send(&mut world, Request::CloseConnection);
    world.run(Duration::from_secs(1));
    let b = Client::connect(&mut world, 3);
    assert_missing(&b.ask(&mut world, look_for_queue("mine")));
    assert_agreed(&mut world);
}

#[test]
fn a_member_that_lags_too_far_gets_the_whole_catalog() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    assert_declared(&a.ask(&mut world, declare_queue("before", queue(&["durable"]))));
    assert_agreed(&mut world);
    world.kill(3);
    // More than entries are kept for.
    let long = "x".repeat(200);
    for number in 0..20_000 {
        let command = CatalogCommand::User(UserCommand::Put {
            name: name(&format!("{long}{number}")),
            password: None,
            tags: Vec::new(),
        });
        let ask = AdminRequest::Apply {
            commands: vec![command],
            on_refusal: OnRefusal::Stop,
        };
        world.begin_to_ask(1, ask);
        if number % 1000 == 0 {
            world.run(Duration::from_millis(50));
        }
    }
    drop(a.ask(&mut world, delete_queue("before")));
    assert_declared(&a.ask(&mut world, declare_queue("after", queue(&["durable"]))));
    world.run(Duration::from_secs(5));
    let frames = world.catalog_frames_to(3);
    world.start(3);
    let c = Client::connect(&mut world, 3);
    assert_declared(&c.ask(&mut world, look_for_queue("after")));
    let frames = world.catalog_frames_to(3) - frames;
    assert!(frames > 2, "it came in pieces: {frames}");
    assert_agreed(&mut world);
    assert_missing(&c.ask(&mut world, look_for_queue("before")));
    // What it got is on its disk.
    world.run(Duration::from_secs(1));
    world.crash(3, 9);
    world.start(3);
    let c = Client::connect(&mut world, 3);
    assert_declared(&c.ask(&mut world, look_for_queue("after")));
    assert_agreed(&mut world);
}

#[test]
fn operators_commands_are_answered_one_by_one() {
    let mut world = World::new(3);
    leader(&mut world);
    let commands = (0..1_000).map(|number| CatalogCommand::CreateVhost {
        vhost: name(&if number == 700 {
            String::new()
        } else {
            format!("v{number}")
        }),
    });
    let ask = AdminRequest::Apply {
        commands: commands.collect(),
        on_refusal: OnRefusal::Stop,
    };
    let AdminAnswer::Applied(results) = world.ask(2, ask) else {
        panic!("another answer");
    };
    assert_eq!(results.len(), 701);
    assert!(results[700].is_err() && results[..700].iter().all(Result::is_ok));
    assert_agreed(&mut world);
    assert!(world.node(3).catalog_image().is_some());
}

#[test]
fn a_policy_has_queues_replicated_that_would_not_be() {
    let mut world = World::new(3);
    leader(&mut world);
    let policy = CatalogCommand::Policy(PolicyCommand::Set {
        scope: PolicyScope::User,
        vhost: name("/"),
        name: name("p"),
        policy: Policy {
            pattern: "^r".to_owned(),
            apply_to: ApplyTo::Queues,
            priority: 0,
            definition: TableBuilder::new().bool("replicate", true).build(),
        },
    });
    let ask = AdminRequest::Apply {
        commands: vec![policy],
        on_refusal: OnRefusal::Stop,
    };
    let answer = world.ask(1, ask);
    let AdminAnswer::Applied(results) = &answer else {
        panic!("{answer:?}");
    };
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let a = Client::connect(&mut world, 1);
    for wanted in ["r", "other"] {
        assert_declared(&a.ask(&mut world, declare_queue(wanted, queue(&[]))));
    }
    assert_declared(&a.ask(&mut world, declare_queue("r2", queue(&["exclusive"]))));
    // On its own node's new life, what that alone had kept is gone.
    world.kill(1);
    world.start(1);
    let a = Client::connect(&mut world, 1);
    assert_declared(&a.ask(&mut world, look_for_queue("r")));
    assert_missing(&a.ask(&mut world, look_for_queue("other")));
    let a = Client::connect(&mut world, 2);
    assert_missing(&a.ask(&mut world, look_for_queue("r2")));
    assert_agreed(&mut world);
}

#[test]
fn a_queue_expires_by_the_word_of_who_serves_it() {
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 2);
    for wanted in ["used", "idle"] {
        assert_declared(&a.ask(&mut world, declare_queue(wanted, queue(&["durable"]))));
    }
    a.send(&mut world, consume("used", 10));
    world.run(Duration::from_secs(1));
    let policy = CatalogCommand::Policy(PolicyCommand::Set {
        scope: PolicyScope::User,
        vhost: name("/"),
        name: name("p"),
        policy: Policy {
            pattern: ".*".to_owned(),
            apply_to: ApplyTo::Queues,
            priority: 0,
            definition: TableBuilder::new().long("expires", 3_000).build(),
        },
    });
    let ask = AdminRequest::Apply {
        commands: vec![policy],
        on_refusal: OnRefusal::Stop,
    };
    drop(world.ask(1, ask));
    world.run(Duration::from_secs(10));
    assert_agreed(&mut world);
    let names = world.queue_names(3);
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["used"]);
}

#[test]
fn requests_wait_until_the_catalog_is_there() {
    let mut world = World::new(3);
    leader(&mut world);
    for number in 1..=3 {
        world.kill(number);
    }
    world.start(1);
    let client = Client::begin_to_connect(&mut world, 1);
    world.run(Duration::from_secs(8));
    assert!(!world.node(1).is_ready());
    assert!(client.heard(&mut world).is_empty());
    world.start(2);
    client.wait_for(&mut world, |event| {
        matches!(event, Event::ChannelOpened { .. })
    });
    client.send(&mut world, Request::CloseChannel { channel: CHANNEL });
    client.wait_for(&mut world, |event| {
        matches!(event, Event::ChannelClosed { .. })
    });
    assert_agreed(&mut world);
}

/// Waits until somebody leads the catalog; its number.
pub(crate) fn leader(world: &mut World) -> usize {
    world.run_until("a leader", |world| {
        world.running().iter().all(|it| world.node(*it).is_ready())
    });
    usize::try_from(world.node(world.running()[0]).catalog_leader().unwrap().0).unwrap()
}

#[test]
fn a_clean_stop_hands_the_catalog_over() {
    let mut world = World::new(3);
    let leader = leader(&mut world);
    world.give(leader, Input::Stop);
    world.run_until("it stops", |world| {
        world.machine(leader).unwrap().is_stopped
    });
    world.kill(leader);
    let other = 1 + leader % 3;
    let client = Client::connect(&mut world, other);
    assert_declared(&client.ask(&mut world, declare_queue("q", queue(&["durable"]))));
    world.start(leader);
    assert_agreed(&mut world);
}

/// A node hears that a deletion is committed before its disk has it. Until then its member of the
/// queue's group goes on, and what that writes is in the log behind the word that the queue is gone.
#[test]
fn a_restart_finds_what_a_replica_wrote_when_its_queue_was_as_good_as_deleted() {
    let mut world = World::new(3);
    let client = Client::connect(&mut world, 1);
    assert_declared(&client.ask(&mut world, declare_queue("q", quorum())));
    let queue = world.node(1).placements()[0].queue;
    client.ask(&mut world, delete_queue("q"));
    world.run(Duration::from_secs(1));
    world.kill(1);
    let log = machine::config(1, 3).log;
    let disk = world.disk(1).clone();
    let mut recovery = staunch_log::recover_with(disk, log, OnDamage::Refuse).unwrap();
    while recovery.next().unwrap().is_some() {}
    let mut opened = recovery.finish().unwrap();
    let record = Record::HardState(HardState::default()).encode();
    opened.store.append_control(StreamId(queue.0), &record);
    opened.store.seal();
    opened
        .writer
        .run(opened.store.poll_write().unwrap())
        .unwrap();
    world.start(1);
    assert_agreed(&mut world);
}
