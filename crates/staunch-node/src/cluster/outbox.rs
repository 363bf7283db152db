//! Messages on their way to queues that are replicated, or kept elsewhere: sent in order to whoever
//! serves the queue, kept until that one says that they are safe, sent again when another does.

/// The outboxes of this node, one for each queue that its clients have published to.
#[derive(Debug, Default)]
pub(crate) struct Outboxes {}
