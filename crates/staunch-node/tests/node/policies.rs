//! Policies change queues that are in use.

use staunch_broker::{ApplyTo, CatalogCommand, Policy, PolicyCommand, PolicyScope};
use staunch_types::{FieldTable, field_table::TableBuilder};

use crate::{
    login::apply,
    script::{Script, name},
    world::roomy,
};

fn set(script: &mut Script, definition: FieldTable) {
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
    apply(script, vec![CatalogCommand::Policy(set)]);
}

fn delete(script: &mut Script) {
    let delete = PolicyCommand::Delete {
        scope: PolicyScope::User,
        vhost: name("/"),
        name: name("p"),
    };
    apply(script, vec![CatalogCommand::Policy(delete)]);
}

/// A queue `q` that a policy can apply to, with five messages.
fn begun() -> Script {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue dead durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m5 #1
         > a/1 confirmed 1..5",
    );
    script
}

#[test]
fn a_limit_takes_effect_at_once_outlives_a_crash_and_ends_with_its_policy() {
    let mut script = begun();
    set(
        &mut script,
        TableBuilder::new().long("max-length", 2).build(),
    );
    script.check(
        "a/1 queue q passive durable
         > a/1 queue: 2 ready, 0 consumers
         a/1 publish q m6 #6
         > a/1 confirmed 6..6
         crash 3
         b connect
         b open 1
         b/1 publish q m7 #1
         > b/1 confirmed 1..1
         b/1 queue q passive durable
         > b/1 queue: 2 ready, 0 consumers",
    );
    delete(&mut script);
    script.check(
        "b/1 publish q m8 #2
         > b/1 confirmed 2..2
         b/1 get q no-ack
         > b/1 got m6, 2 more",
    );
}

#[test]
fn dead_letters_go_where_the_policy_of_the_moment_says() {
    let mut script = begun();
    script.check(
        "a/1 consume q as c prefetch=1
         > a/1 c consumes
         > a/1 c gets m1
         a/1 discard m1
         > a/1 c gets m2",
    );
    let to_dead = TableBuilder::new()
        .longstr("dead-letter-exchange", "")
        .longstr("dead-letter-routing-key", "dead");
    set(&mut script, to_dead.build());
    script.check(
        "a/1 discard m2
         > a/1 c gets m3
         a/1 get dead no-ack
         > a/1 got m2 died rejected/q*1, 0 more",
    );
    delete(&mut script);
    script.check(
        "a/1 discard m3
         > a/1 c gets m4
         a/1 get dead no-ack
         > a/1 got nothing",
    );
}

#[test]
fn a_time_to_live_is_for_messages_to_come_and_an_expiry_for_the_queue_as_it_is() {
    let mut script = begun();
    set(
        &mut script,
        TableBuilder::new().long("message-ttl", 50).build(),
    );
    script.check(
        "a/1 publish q m6
         wait-ms 60
         a/1 queue q passive durable
         > a/1 queue: 5 ready, 0 consumers",
    );
    set(&mut script, TableBuilder::new().long("expires", 50).build());
    script.check(
        "wait-ms 60
         a/1 queue q passive durable
         > a/1 DeclareQueue refused: no queue 'q' in vhost '/'",
    );
}

/// As with RabbitMQ's `rabbit_fifo_dlx`: what waits for a way is given up when nothing says any
/// more that it must not be lost.
#[test]
fn dead_letters_that_wait_go_when_their_policy_does() {
    for is_replaced in [false, true] {
        let mut script = Script::new(roomy());
        let with_overflow = |overflow: &str| {
            TableBuilder::new()
                .longstr("dead-letter-exchange", "")
                .longstr("dead-letter-routing-key", "dead")
                .longstr("dead-letter-strategy", "at-least-once")
                .longstr("overflow", overflow)
                .build()
        };
        for line in [
            "a connect",
            "a open 1",
            "a/1 queue q durable x-queue-type=quorum x-message-ttl=50",
        ] {
            script.line(line);
        }
        set(&mut script, with_overflow("reject-publish"));
        script.check(
            "a/1 publish q m1
             wait-ms 50
             tick 10",
        );
        if is_replaced {
            set(&mut script, with_overflow("drop-head"));
        } else {
            delete(&mut script);
        }
        script.check(
            "tick 10
             a/1 queue dead durable
             > a/1 queue: 0 ready, 0 consumers
             tick 10
             a/1 get dead
             > a/1 got nothing",
        );
        set(&mut script, with_overflow("reject-publish"));
        script.check(
            "tick 10
             a/1 get dead
             > a/1 got nothing
             crash 3
             b connect
             b open 1
             tick 10
             b/1 get dead
             > b/1 got nothing",
        );
    }
}
