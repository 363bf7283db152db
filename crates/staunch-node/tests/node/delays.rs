//! Exchanges that delay.

use crate::script::{Script, check};
use crate::world::tiny;

#[test]
fn a_delayed_message_is_routed_when_its_delay_is_over() {
    check(
        "a connect
         a open 1
         a/1 exchange later x-delayed-message durable x-delayed-type=topic
         > a/1 exchange declared
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 bind later q a.*
         > a/1 bound
         a/1 consume q as c
         > a/1 c consumes
         a/1 publish later/a.b long delay=300 #1
         > a/1 confirmed 1..1
         a/1 publish later/a.b short delay=100 #2
         > a/1 confirmed 2..2
         a/1 publish later/a.b now #3
         > a/1 c gets now
         > a/1 confirmed 3..3
         a/1 publish later/b.b nowhere delay=100
         wait-ms 80
         wait-ms 20
         > a/1 c gets short
         wait-ms 200
         > a/1 c gets long",
    );
}

#[test]
fn delays_go_on_while_the_node_is_down() {
    check(
        "a connect
         a open 1
         a/1 exchange later x-delayed-message durable x-delayed-type=fanout
         > a/1 exchange declared
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 bind later q
         > a/1 bound
         a/1 publish later/k m1 delay=500 #1
         > a/1 confirmed 1..1
         a/1 publish later/k m2 delay=5000 #2
         > a/1 confirmed 2..2
         crash 1
         b connect
         b open 1
         wait-ms 480
         b/1 get q no-ack
         > b/1 got nothing
         wait-ms 20
         b/1 get q no-ack
         > b/1 got m1 again, 0 more
         wait-ms 4000
         kill
         c connect
         c open 1
         wait-ms 500
         c/1 get q no-ack
         > c/1 got m2 again, 0 more
         tick 1
         crash 2
         d connect
         d open 1
         wait-ms 1000
         d/1 get q
         > d/1 got nothing",
    );
}

#[test]
fn what_was_due_while_the_node_was_down_comes_in_the_order_it_was_due() {
    check(
        "a connect
         a open 1
         a/1 exchange later x-delayed-message durable x-delayed-type=fanout
         > a/1 exchange declared
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 bind later q
         > a/1 bound
         a/1 publish later/k last delay=900 #1
         > a/1 confirmed 1..1
         a/1 publish later/k first delay=300 #2
         > a/1 confirmed 2..2
         a/1 publish later/k second delay=600 #3
         > a/1 confirmed 3..3
         kill
         wait-ms 2000
         b connect
         b open 1
         b/1 get q no-ack
         > b/1 got first again, 2 more
         b/1 get q no-ack
         > b/1 got second again, 1 more
         b/1 get q no-ack
         > b/1 got last again, 0 more",
    );
}

#[test]
fn bindings_count_as_they_are_when_the_delay_is_over() {
    check(
        "a connect
         a open 1
         a/1 exchange later x-delayed-message durable x-delayed-type=direct
         > a/1 exchange declared
         a/1 publish later/k m1 delay=100
         a/1 queue q durable x-message-ttl=50
         > a/1 queue: 0 ready, 0 consumers
         a/1 bind later q k
         > a/1 bound
         wait-ms 100
         a/1 get q no-ack
         > a/1 got m1, 0 more
         a/1 publish later/k m2 delay=100
         a/1 delete-exchange later
         > a/1 exchange deleted
         wait-ms 200
         a/1 get q
         > a/1 got nothing",
    );
}

#[test]
fn a_cold_backlog_of_delays_is_let_through() {
    let mut script = Script::new(tiny());
    for line in [
        "a connect",
        "a open 1",
        "a/1 exchange later x-delayed-message durable x-delayed-type=fanout",
        "a/1 queue q durable",
        "a/1 bind later q",
    ] {
        script.line(line);
    }
    script.padding = 400;
    for n in 1..=2000 {
        let delay = 10_000 + (n * 7919) % 5000;
        script.line(&format!("a/1 publish later/k m{n} delay={delay}"));
    }
    script.line("crash 3");
    script.line("wait-ms 9000");
    script.world.rest(40);
    for line in ["b connect", "b open 1"] {
        script.line(line);
    }
    assert_eq!(
        script.line("b/1 queue q durable passive"),
        ["b/1 queue: 2000 ready, 0 consumers"]
    );
}
