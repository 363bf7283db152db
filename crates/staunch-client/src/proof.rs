//! Proves that a broker keeps what it confirms: a workload, a history of what was seen, a check.
//!
//! * [`history`]: records publishes, confirms and deliveries, and says what is wrong with them.
//! * [`payload`]: bodies that name their message and show damage.
//! * [`workload`]: producers, consumers and an unread backlog queue on a broker that comes and
//!   goes, writing into a history.
//! * [`node`]: a server process that can be killed and started again.
//! * [`cluster`]: several such processes that form a cluster, and what they say about it.
//! * [`guard`]: cleans up after a proof whatever way it ends.

pub mod cluster;
pub mod guard;
pub mod history;
pub mod node;
pub mod payload;
pub mod workload;
