//! Dead letters: why they die, where they go, and that none is lost on the way.

use crate::script::{Script, check};
use crate::world::{roomy, tiny};

#[test]
fn a_rejected_message_goes_to_the_dead_letter_exchange() {
    check(
        "a connect
         a open 1
         a/1 exchange dlx fanout durable
         > a/1 exchange declared
         a/1 queue dead durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 bind dlx dead
         > a/1 bound
         a/1 queue q durable x-dead-letter-exchange=dlx
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m2 #1
         > a/1 confirmed 1..2
         a/1 consume dead as d
         > a/1 d consumes
         a/1 consume q as c
         > a/1 c consumes
         > a/1 c gets m1
         > a/1 c gets m2
         a/1 discard m1
         > a/1 d gets m1 died rejected/q*1
         a/1 ack m2
         crash 1
         b connect
         b open 1
         b/1 queue q passive durable
         > b/1 queue: 0 ready, 0 consumers
         b/1 get dead
         > b/1 got m1 again died rejected/q*1, 0 more",
    );
}

/// The copy is in the log before the original is settled there.
#[test]
fn a_crash_never_loses_a_dead_letter() {
    for seed in 0..40 {
        let mut script = Script::new(roomy());
        for line in [
            "a connect",
            "a open 1",
            "a/1 queue dead durable",
            "a/1 queue q durable x-dead-letter-exchange= x-dead-letter-routing-key=dead",
            "a/1 publish q m1..m50 #1",
            "a/1 consume q as c",
            "manual",
            "a/1 discard m1..m25",
        ] {
            script.line(line);
        }
        for _ in 0..seed % 4 {
            if !script.world.writes.is_empty() {
                script.line("write");
            }
        }
        script.line("a/1 discard m26..m50");
        script.line(&format!("crash {seed}"));
        script.line("auto");
        for line in [
            "b connect",
            "b open 1",
            "b/1 consume q as q",
            "b/1 consume dead as d",
        ] {
            script.line(line);
        }
        let held = script.held("b", 1);
        for n in 1..=50 {
            assert!(held.contains(&format!("m{n}")), "m{n} is lost, seed {seed}");
        }
    }
}

#[test]
fn without_an_exchange_or_a_route_it_is_dropped() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-dead-letter-exchange=nowhere
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue r durable x-dead-letter-exchange= x-dead-letter-routing-key=nobody
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1
         a/1 publish r m2
         a/1 consume q as c
         > a/1 c consumes
         > a/1 c gets m1
         a/1 consume r as d
         > a/1 d consumes
         > a/1 d gets m2
         a/1 discard m1 m2
         crash 3
         b connect
         b open 1
         b/1 get q
         > b/1 got nothing
         b/1 get r
         > b/1 got nothing",
    );
}

#[test]
fn a_cycle_that_nobody_rejects_ends() {
    check(
        "a connect
         a open 1
         a/1 queue p x-message-ttl=50 x-dead-letter-exchange= x-dead-letter-routing-key=q
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue q x-message-ttl=50 x-dead-letter-exchange= x-dead-letter-routing-key=p
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish p m
         wait-ms 50
         a/1 queue q passive
         > a/1 queue: 1 ready, 0 consumers
         wait-ms 50
         a/1 queue q passive
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue p passive
         > a/1 queue: 0 ready, 0 consumers",
    );
}

#[test]
fn a_retry_ladder_goes_round_as_often_as_it_is_rejected() {
    check(
        "a connect
         a open 1
         a/1 queue work durable x-dead-letter-exchange= x-dead-letter-routing-key=wait
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue wait durable x-message-ttl=100 x-dead-letter-exchange= x-dead-letter-routing-key=work
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish work m
         a/1 consume work as c
         > a/1 c consumes
         > a/1 c gets m
         a/1 discard m
         wait-ms 100
         > a/1 c gets m died expired/wait*1 rejected/work*1
         a/1 discard m
         wait-ms 100
         > a/1 c gets m died expired/wait*2 rejected/work*2
         a/1 ack m
         wait-ms 100",
    );
}

#[test]
fn a_queue_may_be_its_own_dead_letter_queue() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-dead-letter-exchange= x-dead-letter-routing-key=q
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m
         a/1 consume q as c
         > a/1 c consumes
         > a/1 c gets m
         a/1 discard m
         > a/1 c gets m died rejected/q*1
         a/1 ack m",
    );
}

#[test]
fn a_dead_letter_may_go_from_a_durable_queue_to_a_transient_one_and_back() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-message-ttl=50 x-dead-letter-exchange= x-dead-letter-routing-key=t
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue t x-message-ttl=50 x-dead-letter-exchange= x-dead-letter-routing-key=end
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue end durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m
         wait-ms 50
         wait-ms 50
         a/1 get end
         > a/1 got m died expired/t*1 expired/q*1, 0 more",
    );
}

#[test]
fn a_dead_letter_that_a_full_queue_refuses_is_dropped() {
    check(
        "a connect
         a open 1
         a/1 queue full durable x-max-length=1 x-overflow=reject-publish
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish full m0 #1
         > a/1 confirmed 1..1
         a/1 queue q durable x-message-ttl=50 x-dead-letter-exchange= x-dead-letter-routing-key=full
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1
         wait-ms 50
         a/1 queue q passive durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 get full no-ack
         > a/1 got m0, 0 more
         tick 10
         a/1 get full
         > a/1 got nothing",
    );
}

const AT_LEAST_ONCE: &str = "a/1 queue q durable x-queue-type=quorum x-overflow=reject-publish \
     x-dead-letter-strategy=at-least-once x-dead-letter-exchange=dlx x-message-ttl=50";

#[test]
fn at_least_once_waits_for_a_route() {
    let mut script = Script::new(roomy());
    for line in ["a connect", "a open 1", AT_LEAST_ONCE, "a/1 publish q m #1"] {
        script.line(line);
    }
    script.check(
        "wait-ms 50
         wait-ms 5000
         crash 7
         a connect
         a open 1
         wait-ms 1
         a/1 exchange dlx fanout durable
         > a/1 exchange declared
         a/1 queue dead durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 bind dlx dead k
         > a/1 bound
         tick 6
         a/1 get dead
         > a/1 got m again died expired/q*1, 0 more
         a/1 queue q durable passive
         > a/1 queue: 0 ready, 0 consumers",
    );
}

#[test]
fn at_least_once_waits_for_each_target_and_goes_to_none_twice() {
    let mut script = Script::new(roomy());
    for line in ["a connect", "a open 1", AT_LEAST_ONCE] {
        script.line(line);
    }
    script.check(
        "a/1 exchange dlx fanout durable
         > a/1 exchange declared
         a/1 queue d1 durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 bind dlx d1
         > a/1 bound
         a/1 queue d2 durable x-max-length=1 x-overflow=reject-publish
         > a/1 queue: 0 ready, 0 consumers
         a/1 bind dlx d2
         > a/1 bound
         a/1 publish d2 m0
         a/1 publish q m
         wait-ms 50
         a/1 get d1 no-ack
         > a/1 got m died expired/q*1, 0 more
         tick 6
         a/1 get d1 no-ack
         > a/1 got nothing
         a/1 get d2 no-ack
         > a/1 got m0, 0 more
         tick 6
         a/1 get d2 no-ack
         > a/1 got m died expired/q*1, 0 more
         a/1 get d1 no-ack
         > a/1 got nothing",
    );
}

/// Many more than one drain moves on, none of them in memory.
#[test]
fn a_cold_backlog_that_expires_at_once_is_moved_on_bit_by_bit() {
    let mut script = Script::new(tiny());
    for line in [
        "a connect",
        "a open 1",
        "a/1 queue dead durable",
        "a/1 queue q durable x-message-ttl=60000 x-dead-letter-exchange= x-dead-letter-routing-key=dead",
    ] {
        script.line(line);
    }
    script.padding = 400;
    for n in 0..60 {
        script.line(&format!(
            "a/1 publish q m{}..m{}",
            n * 100 + 1,
            n * 100 + 100
        ));
    }
    script.line("kill");
    script.line("wait-ms 60000");
    script.world.rest(20);
    for line in ["b connect", "b open 1"] {
        script.line(line);
    }
    assert_eq!(
        script.line("b/1 queue q durable passive"),
        ["b/1 queue: 0 ready, 0 consumers"]
    );
    assert_eq!(
        script.line("b/1 queue dead durable passive"),
        ["b/1 queue: 6000 ready, 0 consumers"]
    );
    let told = script.line("b/1 get dead");
    assert_eq!(told, ["b/1 got m1 again died expired/q*1, 5999 more"]);
}

/// What nobody waits for leaves room for what clients ask.
#[test]
fn dead_letters_wait_while_the_disk_is_behind() {
    let mut script = Script::new(roomy());
    script.padding = 500_000;
    for line in [
        "a connect",
        "a open 1",
        "a/1 queue dead durable",
        "a/1 queue q durable x-dead-letter-exchange= x-dead-letter-routing-key=dead \
         x-message-ttl=1000",
        "a/1 publish q m1..m60",
        "manual",
        "wait-ms 2000",
    ] {
        script.line(line);
    }
    for _ in 0..100 {
        script.world.fetch();
        script.line("wait-ms 1");
        assert!(!script.world.node.is_saturated(), "requests must not wait");
    }
    script.line("auto");
    script.check(
        "a/1 queue dead passive
         > a/1 queue: 60 ready, 0 consumers",
    );
}

/// What waits for a way is counted as memory, and trying again does not mean to read all of it.
#[test]
fn many_dead_letters_without_a_way_cost_little() {
    let mut script = Script::new(tiny());
    let declare = "a/1 queue q durable x-queue-type=quorum x-overflow=reject-publish \
         x-dead-letter-strategy=at-least-once x-dead-letter-exchange=dlx x-message-ttl=60000";
    for line in ["a connect", "a open 1", declare] {
        script.line(line);
    }
    script.padding = 400;
    for n in 0..60 {
        let (first, last) = (n * 100 + 1, n * 100 + 100);
        script.line(&format!("a/1 publish q m{first}..m{last}"));
    }
    script.line("kill");
    script.world.rest(1);
    let before = script.world.node.kept_size_bytes();
    script.line("wait-ms 60000");
    script.world.rest(10);
    let more = script.world.node.kept_size_bytes().saturating_sub(before);
    assert!(more >= 6_000 * 40, "{more} bytes for 6000 dead letters");
    script.line("manual");
    let mut fetch_count = 0;
    for _ in 0..5 {
        script.world.tick();
        while script.world.fetch() {
            fetch_count += 1;
        }
    }
    assert!(fetch_count <= 2, "{fetch_count} fetches in a second");
    for line in [
        "auto",
        "a connect",
        "a open 1",
        "a/1 exchange dlx fanout durable",
        "a/1 queue dead durable",
        "a/1 bind dlx dead k",
    ] {
        script.line(line);
    }
    script.world.rest(20);
    let told = script.line("a/1 queue dead durable passive");
    assert_eq!(told, ["a/1 queue: 6000 ready, 0 consumers"]);
}

/// A message as large as any that is taken has dead letters that fit, however often it dies.
#[test]
fn the_largest_message_can_die_in_many_queues() {
    let mut script = Script::new(tiny());
    let long = "q".repeat(200);
    for line in ["a connect", "a open 1"] {
        script.line(line);
    }
    for n in 0..20 {
        let next = n + 1;
        script.line(&format!(
            "a/1 queue {n}{long} durable x-queue-type=quorum x-overflow=reject-publish \
             x-dead-letter-strategy=at-least-once x-message-ttl=10 \
             x-dead-letter-exchange= x-dead-letter-routing-key={next}{long}"
        ));
    }
    script.line(&format!("a/1 queue 20{long} durable"));
    let mut padding = 64 * 1024;
    let taken = loop {
        script.padding = padding;
        let told = script.line(&format!("a/1 publish 0{long} m #1"));
        if told[0] == "a/1 confirmed 1..1" {
            break padding;
        }
        assert!(told[0].contains("does not fit"), "{told:?}");
        script.line("a/1 close");
        script.line("a open 1");
        padding -= 8;
    };
    assert!(taken > 32 * 1024, "{taken}");
    for _ in 0..20 {
        script.line("wait-ms 10");
    }
    let told = script.line(&format!("a/1 get 20{long} no-ack"));
    assert!(
        told[0].starts_with("a/1 got m died expired/19qqq"),
        "{told:?}"
    );
}

/// Every durable queue gets a copy of its own in the log: more than may be made at once.
#[test]
fn a_dead_letter_that_goes_to_many_queues_takes_turns() {
    let mut script = Script::new(roomy());
    for line in [
        "a connect",
        "a open 1",
        "a/1 exchange dlx fanout durable",
        "a/1 queue q durable x-message-ttl=50 x-dead-letter-exchange=dlx",
    ] {
        script.line(line);
    }
    for n in 0..24 {
        script.line(&format!("a/1 queue d{n} durable"));
        script.line(&format!("a/1 bind dlx d{n} k"));
    }
    script.padding = 2 * 1024 * 1024;
    script.line("a/1 publish q m");
    script.line("manual");
    script.line("wait-ms 60");
    let kept = script.world.node.kept_size_bytes();
    assert!(kept < 20 * 1024 * 1024, "{kept} bytes at once");
    script.line("auto");
    script.world.rest(20);
    for n in 0..24 {
        let told = script.line(&format!("a/1 get d{n} no-ack"));
        assert_eq!(told, ["a/1 got m died expired/q*1, 0 more"]);
    }
    let told = script.line("a/1 queue q passive durable");
    assert_eq!(told, ["a/1 queue: 0 ready, 0 consumers"]);
}
