//! Publishers that wait: for alarms of other nodes, and for queues that take nothing.

use std::time::Duration;

use staunch_node::Input;
use staunch_types::Event;

use crate::{
    client::{Client, publish},
    edges::{classic, declare, publish_all, quorum, server, wait_for_answers},
    world::World,
};

const DISK_LIMIT: u64 = 1_000;

fn set_free(world: &mut World, node: usize, disk_free_size_bytes: u64) {
    let resources = Input::Resources {
        disk_free_size_bytes,
    };
    world.give(node, resources);
    world.run(Duration::from_millis(5));
}

fn with_alarms(count: usize) -> World {
    World::with(count, |config| {
        config.disk_free_limit_size_bytes = DISK_LIMIT;
    })
}

/// What a client was told of alarms: disk.
fn alarms(world: &mut World, client: Client) -> Vec<bool> {
    let heard = client.heard(world).into_iter();
    let alarms = heard.filter_map(|event| match event {
        Event::Alarm { memory, disk } => {
            assert!(!memory, "nobody is short of memory");
            Some(disk)
        }
        _ => None,
    });
    alarms.collect()
}

#[test]
fn an_alarm_elsewhere_blocks_who_publishes_there() {
    let mut world = with_alarms(3);
    let a = Client::connect(&mut world, 1);
    let b = Client::connect(&mut world, 1);
    declare(&mut world, a, "everywhere", quorum());
    declare(&mut world, a, "here", classic(&["durable"]));
    set_free(&mut world, 3, DISK_LIMIT - 1);
    let own = Client::connect(&mut world, 3);
    assert_eq!(alarms(&mut world, a), [], "it has not published");
    publish_all(&mut world, a, "everywhere", 1, 1);
    publish_all(&mut world, b, "here", 1, 1);
    world.run(Duration::from_millis(50));
    assert_eq!(alarms(&mut world, a), [true]);
    assert_eq!(alarms(&mut world, b), [], "nothing of it goes to node 3");
    publish_all(&mut world, a, "here", 2, 1);
    world.run(Duration::from_millis(50));
    assert_eq!(alarms(&mut world, a), [], "it is told once");
    set_free(&mut world, 3, 2 * DISK_LIMIT);
    assert_eq!(alarms(&mut world, a), [false]);
    assert_eq!(alarms(&mut world, b), []);
    assert_eq!(alarms(&mut world, own), [false]);
}

#[test]
fn an_alarm_ends_with_its_node_and_is_told_to_who_comes() {
    let mut world = with_alarms(3);
    let a = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", quorum());
    set_free(&mut world, 3, DISK_LIMIT - 1);
    world.kill(1);
    world.start(1);
    let a = Client::connect(&mut world, 1);
    publish_all(&mut world, a, "q", 1, 1);
    world.run(Duration::from_secs(1));
    assert_eq!(alarms(&mut world, a), [true], "node 1 has heard of it anew");
    world.kill(3);
    world.run(Duration::from_millis(10));
    assert_eq!(alarms(&mut world, a), [false]);
}

#[test]
fn a_queue_without_a_leader_holds_up_its_own_publishers_only() {
    const SIZE_BYTES: usize = 256 * 1024;
    const COUNT: u64 = 60;
    let mut world = World::new(3);
    let a = Client::connect(&mut world, 1);
    let b = Client::connect(&mut world, 1);
    declare(&mut world, a, "q", quorum());
    declare(&mut world, a, "here", classic(&["durable"]));
    server(&mut world, "q");
    world.kill(2);
    world.kill(3);
    world.run(Duration::from_secs(2));
    let is_held = |wanted: bool| move |event: &Event| matches!(event, Event::PublishesHeld { is_held } if *is_held == wanted);
    let body = "x".repeat(SIZE_BYTES);
    for seq in 1..=COUNT {
        a.send(&mut world, publish("", "q", &body, Some(seq)));
    }
    world.run(Duration::from_millis(10));
    let heard = a.heard(&mut world);
    assert_eq!(heard.iter().filter(|event| is_held(true)(event)).count(), 1);
    assert!(!world.node(1).is_saturated(), "others are heard");
    publish_all(&mut world, b, "here", 1, 100);
    assert!(wait_for_answers(&mut world, b, 100).is_empty());
    assert!(!b.heard(&mut world).iter().any(is_held(true)));
    world.start(2);
    world.start(3);
    a.wait_for(&mut world, is_held(false));
    world.check_invariants();
}
