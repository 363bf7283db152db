//! Queues of several partitions, on a node that stands alone. What clusters do with them is in
//! `tests/cluster/partitions.rs`.

use crate::script::check;

#[test]
fn a_queue_with_partitions_survives_a_restart() {
    check(
        "a connect
         a open 1
         a/1 queue orders durable x-queue-type=quorum x-partitions=3
         > a/1 queue: 0 ready, 0 consumers
         a/1 bind amq.topic orders #
         > a/1 bound
         a/1 publish amq.topic/a m1 #1
         > a/1 confirmed 1..1
         a/1 publish amq.topic/b m2 #2
         > a/1 confirmed 2..2
         a/1 publish amq.topic/c m3 #3
         > a/1 confirmed 3..3
         crash 5
         a connect
         a open 1
         a/1 queue orders durable x-queue-type=quorum x-partitions=3
         > a/1 queue: 3 ready, 0 consumers
         a/1 consume orders as c1
         > a/1 c1 consumes 3 partitions
         > a/1 c1 gets m1
         > a/1 c1 gets m3
         > a/1 c1 gets m2
         a/1 ack m2
         a/1 cancel c1
         > a/1 c1 cancelled
         a/1 requeue m1 m3
         a/1 get orders
         > a/1 got m3 again 1x, 0 more
         a/1 purge orders
         > a/1 purged 1
         a/1 delete-queue orders
         > a/1 queue deleted with 0
         a/1 get orders#0
         > a/1 Get refused: no queue 'orders#0' in vhost '/'",
    );
}
