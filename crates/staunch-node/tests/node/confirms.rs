//! What waits for the disk, and what does not (contract C1, C2, C3, C5, C9).

use crate::{
    script::{Script, check},
    world::roomy,
};

#[test]
fn fdatasync_between_publish_and_confirm() {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         manual",
    );
    let syncs_before = script.world.disk.counts().syncs;
    script.check(
        "a/1 publish q m1..m3 #1
         a/1 publish q m4 #4",
    );
    assert_eq!(
        script.world.disk.counts().syncs,
        syncs_before,
        "the writer has not run"
    );
    // The first write carries what the first drain sealed, the second what came meanwhile.
    script.check(
        "write
         > a/1 confirmed 1..3
         write
         > a/1 confirmed 4..4",
    );
    assert_eq!(script.world.disk.counts().syncs, syncs_before + 2);
}

#[test]
fn answers_about_durable_things_wait_for_the_disk() {
    check(
        "a connect
         a open 1
         manual
         a/1 queue q durable
         write
         > a/1 queue: 0 ready, 0 consumers
         a/1 exchange x fanout durable
         write
         > a/1 exchange declared
         a/1 bind x q
         write
         > a/1 bound
         a/1 publish q m1
         a/1 purge q
         write
         > a/1 purged 1
         a/1 unbind x q
         write
         > a/1 unbound
         a/1 delete-exchange x
         write
         > a/1 exchange deleted
         a/1 delete-queue q
         write
         > a/1 queue deleted with 0",
    );
}

#[test]
fn transient_things_are_answered_at_once() {
    check(
        "a connect
         a open 1
         manual
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1 #1
         > a/1 confirmed 1..1
         a/1 purge q
         > a/1 purged 1
         a/1 delete-queue q
         > a/1 queue deleted with 0",
    );
}

#[test]
fn declaring_again_does_not_overtake_the_first_declaration() {
    check(
        "a connect
         a open 1
         b connect
         b open 1
         manual
         a/1 queue q durable
         b/1 queue q durable
         b/1 queue q passive
         write
         > a/1 queue: 0 ready, 0 consumers
         > b/1 queue: 0 ready, 0 consumers
         > b/1 queue: 0 ready, 0 consumers",
    );
}

#[test]
fn a_channel_closes_when_its_acks_are_on_disk() {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c
         > a/1 c consumes
         a/1 publish q m1..m2
         > a/1 c gets m1
         > a/1 c gets m2
         manual
         a/1 ack m1
         a/1 close
         write
         > a/1 closed
         crash 3
         auto
         b connect
         b open 1
         b/1 consume q as d
         > b/1 d consumes
         > b/1 d gets m2 again",
    );
}

#[test]
fn a_connection_closes_when_its_acks_are_on_disk() {
    check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c
         > a/1 c consumes
         a/1 publish q m1
         > a/1 c gets m1
         manual
         a/1 ack m1
         a close
         write
         > a closed",
    );
}

#[test]
fn a_fan_out_is_confirmed_once_when_all_queues_have_it() {
    check(
        "a connect
         a open 1
         a/1 exchange x fanout
         > a/1 exchange declared
         a/1 queue d durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue e durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue t
         > a/1 queue: 0 ready, 0 consumers
         a/1 bind x d
         > a/1 bound
         a/1 bind x e
         > a/1 bound
         a/1 bind x t
         > a/1 bound
         a/1 consume t as c no-ack
         > a/1 c consumes
         manual
         a/1 publish x/ m1..m2 #1
         > a/1 c gets m1
         > a/1 c gets m2
         write
         > a/1 confirmed 1..2
         a/1 get d
         write
         > a/1 got m1, 1 more
         a/1 get e
         write
         > a/1 got m1, 1 more",
    );
}

#[test]
fn an_unroutable_publish_is_returned_before_its_confirm() {
    check(
        "a connect
         a open 1
         manual
         a/1 publish nowhere m1 #1
         > a/1 confirmed 1..1
         a/1 publish nowhere m2 #2 mandatory
         > a/1 returned m2
         > a/1 confirmed 2..2
         a/1 publish nowhere m3 mandatory
         > a/1 returned m3",
    );
}

#[test]
fn a_refused_publish_silences_its_channel() {
    check(
        "a connect
         a open 1
         a open 2
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish missing/k m1 #1
         > a/1 Publish refused: no exchange 'missing' in vhost '/'
         a/1 publish q m2 #2
         a/1 get q
         a/1 queue q
         a/2 get q
         > a/2 got nothing
         a/1 close
         > a/1 closed
         a open 1
         a/1 publish q m3 #1
         > a/1 confirmed 1..1",
    );
}

#[test]
fn confirms_of_a_channel_and_connection_that_went_go_nowhere() {
    check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         manual
         a/1 publish q m1 #1
         a/1 close
         write
         > a/1 confirmed 1..1
         > a/1 closed
         a open 1
         a/1 publish q m2 #1
         a close
         write
         > a/1 confirmed 1..1
         > a closed",
    );
}

#[test]
fn what_nobody_waits_for_is_written_soon_all_the_same() {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         manual
         a/1 publish q m1
         wait-ms 4",
    );
    assert!(script.world.writes.is_empty(), "it may gather for a moment");
    script.check(
        "wait-ms 1
         write
         auto
         crash 1
         b connect
         b open 1
         b/1 get q
         > b/1 got m1, 0 more",
    );
}
