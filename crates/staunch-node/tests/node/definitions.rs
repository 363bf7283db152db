//! What survives of declarations (contract C5), and who may do what.

use crate::script::check;

#[test]
fn durable_definitions_survive_a_crash_and_nothing_else_does() {
    check(
        "a connect
         a open 1
         a/1 exchange x fanout durable
         > a/1 exchange declared
         a/1 exchange y fanout
         > a/1 exchange declared
         a/1 queue d durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue t
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue e durable exclusive
         > a/1 queue: 0 ready, 0 consumers
         a/1 bind x d
         > a/1 bound
         a/1 bind x t
         > a/1 bound
         a/1 publish x/ m1 #1
         > a/1 confirmed 1..1
         crash 2
         b connect
         b open 1
         b/1 publish x/ m2 #1
         > b/1 confirmed 1..1
         b/1 queue d passive
         > b/1 queue: 2 ready, 0 consumers
         b/1 queue t passive
         > b/1 DeclareQueue refused: no queue 't' in vhost '/'
         b/1 close
         > b/1 closed
         b open 1
         b/1 queue e passive
         > b/1 DeclareQueue refused: no queue 'e' in vhost '/'
         b/1 close
         > b/1 closed
         b open 1
         b/1 exchange y fanout passive
         > b/1 DeclareExchange refused: no exchange 'y' in vhost '/'",
    );
}

#[test]
fn deleted_things_stay_deleted() {
    check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1
         a/1 delete-queue q
         > a/1 queue deleted with 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         crash 4
         b connect
         b open 1
         b/1 get q
         > b/1 got nothing
         b/1 queue q
         > b/1 DeclareQueue refused: inequivalent arg 'durable' for queue 'q' in vhost '/': \
           received 'false' but current is 'true'",
    );
}

#[test]
fn a_declaration_counts_what_is_left_when_all_is_handed_out() {
    check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m5
         a/1 queue q passive
         > a/1 queue: 5 ready, 0 consumers
         a/1 consume q as c prefetch=2
         > a/1 c consumes
         > a/1 c gets m1
         > a/1 c gets m2
         a/1 queue q durable
         > a/1 queue: 3 ready, 1 consumers",
    );
}

#[test]
fn a_missing_exchange_is_noticed_before_somebody_else_s_queue() {
    check(
        "a connect
         a open 1
         a/1 queue e exclusive
         > a/1 queue: 0 ready, 0 consumers
         b connect
         b open 1
         b/1 unbind nowhere e k
         > b/1 unbound
         b/1 bind nowhere e k
         > b/1 BindQueue refused: no exchange 'nowhere' in vhost '/'",
    );
}

#[test]
fn whose_queue_it_is_counts_only_where_there_is_a_binding() {
    check(
        "a connect
         a open 1
         a/1 queue e exclusive
         > a/1 queue: 0 ready, 0 consumers
         b connect
         b open 1
         b/1 unbind amq.direct e k
         > b/1 unbound
         a/1 bind amq.direct e k
         > a/1 bound
         b/1 unbind amq.direct e k
         > b/1 UnbindQueue refused: cannot obtain exclusive access to locked queue 'e' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.",
    );
}
