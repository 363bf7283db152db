//! What is counted, and samples of it.

use std::collections::BTreeMap;

use staunch_node::{
    AdminAnswer, AdminId, AdminRequest, ChannelCounts, Input, QUEUES_PER_SAMPLE_MAX, QueueCounts,
    Sample,
};

use crate::{
    script::{Script, name},
    world::roomy,
};

fn ask(script: &mut Script, request: AdminRequest) -> AdminAnswer {
    script.world.give(Input::Admin(AdminId(1), request));
    let answered = script.world.answers.pop().expect("an answer came");
    answered.1
}

fn sample(script: &mut Script) -> Sample {
    // Queues that were used are noticed with a tick.
    script.world.tick();
    match ask(script, AdminRequest::Sample) {
        AdminAnswer::Sample(sample) => *sample,
        other => panic!("a sample was asked for: {other:?}"),
    }
}

fn only_queue(sample: &Sample) -> QueueCounts {
    let [queue] = &sample.queues[..] else {
        panic!("one queue has changed: {:?}", sample.queues);
    };
    queue.counts
}

fn only_channel(sample: &Sample) -> ChannelCounts {
    let [connection] = &sample.connections[..] else {
        panic!("one connection did something: {:?}", sample.connections);
    };
    connection.channels[0].2
}

#[test]
fn every_way_of_a_message_is_counted_in_its_queue_and_its_channel() {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 get q
         > a/1 got nothing
         a/1 publish q m1..m5 #1
         > a/1 confirmed 1..5
         a/1 get q
         > a/1 got m1, 4 more
         a/1 requeue m1
         a/1 get q no-ack
         > a/1 got m1 again, 4 more
         a/1 consume q as c
         > a/1 c consumes
         > a/1 c gets m2
         > a/1 c gets m3
         > a/1 c gets m4
         > a/1 c gets m5
         a/1 ack m2 m3
         a/1 discard m4",
    );
    let first = sample(&mut script);
    assert!(first.is_anew && !first.has_more);
    let queue = QueueCounts {
        publish: 5,
        publish_body_bytes: 10,
        deliver: 4,
        get: 1,
        get_no_ack: 1,
        get_empty: 1,
        redeliver: 1,
        ack: 2,
        rejected: 1,
        ..QueueCounts::default()
    };
    assert_eq!(only_queue(&first), queue);
    let held = first.queues[0].held;
    assert_eq!((held.ready_count, held.unacked_count), (0, 1));
    assert_eq!((held.unacked_body_bytes, held.consumer_count), (2, 1));
    let channel = ChannelCounts {
        publish: 5,
        numbered: 5,
        confirm: 5,
        deliver: 4,
        get: 1,
        get_no_ack: 1,
        get_empty: 1,
        redeliver: 1,
        ack: 2,
        ..ChannelCounts::default()
    };
    assert_eq!(only_channel(&first), channel);
    let exchange = first.exchanges[&(name("/"), name(""))];
    assert_eq!((exchange.publish_in, exchange.publish_out), (5, 5));
}

#[test]
fn a_sample_has_what_changed_since_the_one_before_it() {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue r
         > a/1 queue: 0 ready, 0 consumers",
    );
    let first = sample(&mut script);
    assert_eq!((first.queues.len(), first.connections.len()), (2, 1));
    assert_eq!(first.churn.queue_created, 2);
    let quiet = sample(&mut script);
    assert!(!quiet.is_anew && quiet.queues.is_empty() && quiet.connections.is_empty());
    script.check("a/1 publish q m1..m3");
    let busy = sample(&mut script);
    assert_eq!(only_queue(&busy).publish, 3);
    assert_eq!(only_channel(&busy).publish, 3);
    script.check(
        "a/1 delete-queue q
         > a/1 queue deleted with 3
         a/1 close
         > a/1 closed",
    );
    let after = sample(&mut script);
    let [(_, _, last)] = after.queues_gone[..] else {
        panic!("one queue is gone: {:?}", after.queues_gone);
    };
    assert_eq!(last.publish, 3);
    assert_eq!(after.closed_channels.publish, 3);
    assert!(after.connections[0].channels.is_empty());
    assert_eq!(
        (after.churn.queue_deleted, after.churn.channel_closed),
        (1, 1)
    );
}

#[test]
fn a_sample_is_bounded_and_the_next_goes_on() {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1",
    );
    let count = QUEUES_PER_SAMPLE_MAX + 10;
    for number in 0..count {
        script.line(&format!("a/1 queue q{number}"));
    }
    let first = sample(&mut script);
    assert_eq!(first.queues.len(), QUEUES_PER_SAMPLE_MAX);
    assert!(first.is_anew && first.has_more);
    let second = sample(&mut script);
    assert!(!second.is_anew && !second.has_more);
    let queues = first.queues.iter().chain(&second.queues);
    let seen: BTreeMap<_, _> = queues.map(|queue| (queue.id, &queue.name)).collect();
    assert_eq!(seen.len(), count);
}

#[test]
fn lists_tell_channels_and_consumers() {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m2
         a/1 consume q as c
         > a/1 c consumes
         > a/1 c gets m1
         > a/1 c gets m2",
    );
    let AdminAnswer::Channels(channels) = ask(&mut script, AdminRequest::ListChannels) else {
        panic!("channels were asked for");
    };
    assert_eq!(channels.len(), 1);
    assert_eq!(
        (channels[0].consumer_count, channels[0].unacked_count),
        (1, 2)
    );
    assert_eq!(channels[0].counts.deliver, 2);
    let AdminAnswer::Consumers(consumers) = ask(&mut script, AdminRequest::ListConsumers) else {
        panic!("consumers were asked for");
    };
    assert_eq!(consumers.len(), 1);
    assert_eq!(
        (&consumers[0].tag, &consumers[0].queue),
        (&name("c"), &name("q"))
    );
    assert!(consumers[0].is_acking && consumers[0].is_active);
}
