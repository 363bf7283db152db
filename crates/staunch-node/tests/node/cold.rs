//! Bodies that have left memory.

use crate::{
    script::Script,
    world::{roomy, tiny},
};

/// Kept by an empty node with a few queues, in bytes.
const KEPT_AT_REST_MAX: u64 = 64 * 1024;

/// A node that has just started on `count` messages in each of the queues; none is in memory.
fn backlog(queues: &[&str], count: usize, padding: usize, is_tiny: bool) -> Script {
    let mut script = Script::new(if is_tiny { tiny() } else { roomy() });
    script.padding = padding;
    script.line("a connect");
    script.line("a open 1");
    for queue in queues {
        script.line(&format!("a/1 queue {queue} durable"));
    }
    // In turns, so that no queue has a file to itself.
    for first in (1..=count).step_by(50) {
        let last = count.min(first + 49);
        for queue in queues {
            script.line(&format!(
                "a/1 publish {queue} {queue}{first}..{queue}{last}"
            ));
        }
    }
    script.line("crash 1");
    script.line("a connect");
    script.line("a open 1");
    script
}

/// The bodies of the deliveries among `told`, in order.
fn bodies(told: &[String]) -> Vec<&str> {
    told.iter()
        .filter_map(|line| Some(line.split_once(" gets ")?.1))
        .collect()
}

fn numbered(queue: &str, range: std::ops::RangeInclusive<usize>) -> Vec<String> {
    range.map(|n| format!("{queue}{n}")).collect()
}

#[test]
fn a_cold_backlog_is_delivered_in_order() {
    for is_tiny in [false, true] {
        let mut script = backlog(&["q"], 3000, 1000, is_tiny);
        let told = script.line("a/1 consume q as c no-ack");
        assert_eq!(bodies(&told), numbered("q", 1..=3000));
        script.world.rest(2);
        assert!(script.world.node.kept_size_bytes() < KEPT_AT_REST_MAX);
        assert_eq!(script.world.node.message_count(), 0);
    }
}

#[test]
fn backlog_and_new_messages_keep_their_order() {
    let mut script = backlog(&["q"], 1500, 1000, true);
    script.line("a/1 publish q q1501..q1510");
    let mut told = script.line("a/1 consume q as c prefetch=1");
    for n in 1..=1510 {
        assert_eq!(bodies(&told), [format!("q{n}")]);
        if n % 100 == 0 {
            script.line(&format!("a/1 publish q q{}", 1510 + n / 100));
        }
        told = script.line(&format!("a/1 ack q{n}"));
    }
    assert_eq!(bodies(&told), ["q1511"]);
}

#[test]
fn several_queues_are_read_at_once() {
    let mut script = backlog(&["q", "r", "s"], 600, 2000, true);
    for queue in ["q", "r", "s"] {
        let told = script.line(&format!("a/1 consume {queue} as c{queue} no-ack"));
        assert_eq!(bodies(&told), numbered(queue, 1..=600));
    }
}

#[test]
fn what_is_requeued_is_read_again() {
    let mut script = backlog(&["q"], 1000, 3000, false);
    let told = script.line("a/1 consume q as c prefetch=20");
    assert_eq!(bodies(&told), numbered("q", 1..=20));
    let told = script.line("a/1 requeue q3 q7 q1");
    assert_eq!(bodies(&told), ["q1 again", "q3 again", "q7 again"]);
    script.line("a/1 limit 1");
    assert_eq!(bodies(&script.line("a/1 requeue q1..q20")), ["q1 again"]);
    script.line("a/1 limit 0");
    script.line("a/1 close");
    script.line("a open 1");
    let told = script.line("a/1 consume q as c");
    let again = |n| if n <= 20 { " again" } else { "" };
    let wanted = (1..=1000).map(|n| format!("q{n}{}", again(n)));
    assert_eq!(bodies(&told), wanted.collect::<Vec<_>>());
    // Everything is held now: reading ahead has nothing to read for.
    let told = script.line("a/1 requeue q1");
    assert_eq!(bodies(&told), ["q1 again"]);
    script.line("a/1 ack q1..q1000");
    script.world.rest(2);
    assert!(
        script.world.node.kept_size_bytes() < KEPT_AT_REST_MAX,
        "nothing is read ahead"
    );
}

#[test]
fn gets_read_from_disk_too() {
    let mut script = backlog(&["q"], 100, 1000, false);
    script.check(
        "a/1 get q
         > a/1 got q1, 99 more
         a/1 get q no-ack
         > a/1 got q2, 98 more",
    );
    script.world.rest(3);
    let index_size_bytes = 16 * 1024;
    assert!(
        script.world.node.kept_size_bytes() < index_size_bytes,
        "nobody consumes: what was read ahead goes"
    );
    script.check(
        "a/1 get q
         > a/1 got q3, 97 more",
    );
}

/// A consumer of one message at a time, with bodies read ahead and more being read.
fn reading_ahead() -> Script {
    let mut script = backlog(&["q"], 1000, 3000, false);
    script.line("a/1 consume q as c prefetch=1");
    script.line("manual");
    for n in 1.. {
        script.line(&format!("a/1 ack q{n}"));
        if !script.world.fetches.is_empty() {
            break;
        }
    }
    script
}

#[test]
fn a_queue_deleted_while_it_is_read_leaves_nothing_behind() {
    let mut script = reading_ahead();
    script.line("auto");
    script.line("b connect");
    script.line("b open 1");
    script.line("manual");
    script.line("a/1 delete-queue q");
    script.line("disk");
    script.world.rest(2);
    assert!(script.world.node.kept_size_bytes() < KEPT_AT_REST_MAX);
}

#[test]
fn a_queue_deleted_during_a_fetch_leaves_nothing_behind() {
    let mut script = reading_ahead();
    script.line("b connect");
    script.line("b open 1");
    script.line("b/1 delete-queue q");
    assert!(script.world.fetch(), "the fetch ends after the queue");
    script.line("auto");
    script.world.rest(2);
    assert!(script.world.node.kept_size_bytes() < KEPT_AT_REST_MAX);
}

#[test]
fn a_queue_purged_during_a_fetch_leaves_nothing_behind() {
    let mut script = reading_ahead();
    script.line("a/1 purge q");
    script.line("auto");
    script.world.rest(3);
    assert!(script.world.node.kept_size_bytes() < KEPT_AT_REST_MAX);
}

#[test]
fn what_was_read_for_a_consumer_goes_with_it() {
    let mut script = reading_ahead();
    script.line("auto");
    script.line("a close");
    script.world.rest(3);
    let kept_size_bytes = script.world.node.kept_size_bytes();
    assert!(kept_size_bytes < KEPT_AT_REST_MAX, "{kept_size_bytes}");
}

#[test]
fn what_is_being_read_counts_as_kept() {
    let mut script = backlog(&["q"], 1000, 3000, false);
    script.line("manual");
    let before = script.world.node.kept_size_bytes();
    script.line("a/1 consume q as c prefetch=1");
    script.line("write");
    assert_eq!(script.world.fetches.len(), 1);
    assert!(script.world.node.kept_size_bytes() > before + 900_000);
}

#[test]
fn files_move_while_they_are_read() {
    let mut script = Script::new(tiny());
    script.padding = 500;
    script.line("a connect");
    script.line("a open 1");
    script.line("a/1 queue q durable");
    script.line("a/1 queue r durable");
    script.line("a/1 publish q q1..q100");
    script.line("crash 1");
    script.line("a connect");
    script.line("a open 1");
    script.line("manual");
    script.line("a/1 consume q as c no-ack");
    script.line("write");
    assert_eq!(
        script.world.fetches.len(),
        1,
        "the young file is being read"
    );
    // Enough for the file under the reader to be emptied, checkpointed away and used again.
    for round in 0..20 {
        script.line(&format!(
            "a/1 publish r r{}..r{}",
            round * 50 + 1,
            round * 50 + 50
        ));
        while script.world.write() || script.world.background() {}
        script.world.node.check_invariants();
    }
    for _ in 0..30 {
        script.world.tick();
        while script.world.write() || script.world.background() {}
    }
    let told = script.line("auto");
    assert_eq!(bodies(&told), numbered("q", 1..=100));
    let told = script.line("a/1 consume r as d no-ack");
    assert_eq!(bodies(&told), numbered("r", 1..=1000));
}
