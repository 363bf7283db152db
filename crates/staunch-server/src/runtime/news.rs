//! What the node tells operators, as lines of the log; the list of events is made of those.

use staunch_node::{Cause, News};

/// Logs something that has happened.
pub(super) fn tell(news: News) {
    match news {
        News::Suspected {
            node,
            silence,
            cause,
        } => {
            let silence_millis = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
            let (cause, why) = match cause {
                Cause::Goodbye => ("goodbye", "it has said that it stops"),
                Cause::Broken => ("broken", "its connection broke and nothing more came"),
                Cause::Silence => ("silence", "nothing has come from it for too long"),
                Cause::Restarted => ("restarted", "it is another process than before"),
            };
            tracing::warn!(
                event = "node.suspected",
                of = %node,
                silence_millis,
                cause,
                "a node is given up: {why}"
            );
        }
        News::Trusted { node } => {
            tracing::info!(event = "node.trusted", of = %node, "a node is heard again");
        }
        News::Led {
            by,
            before,
            count,
            first,
        } => {
            let names = first.iter();
            let names = names.map(|(vhost, queue)| format!("{vhost}: {queue}"));
            let queues = names.collect::<Vec<_>>().join(", ");
            tracing::info!(
                event = "queue.led",
                by = %by,
                before = %before,
                count,
                queues,
                "this node leads queues that another has led"
            );
        }
        News::CatalogLed { by } => {
            tracing::info!(event = "cluster.led", by = %by, "a node leads the catalog");
        }
        News::Alarm { resource, is_on } => {
            if is_on {
                tracing::warn!(
                    event = "alarm.on",
                    resource,
                    "a resource runs low: publishers are blocked"
                );
            } else {
                tracing::info!(
                    event = "alarm.off",
                    resource,
                    "there is enough of a resource again"
                );
            }
        }
    }
}
