//! What the interface speaks of, one file each.

mod bindings;
pub(crate) mod channels;
mod cluster;
pub(crate) mod connections;
mod definitions;
pub(crate) mod exchanges;
mod health;
pub(crate) mod horizon;
mod limits;
mod membership;
mod messages;
pub(crate) mod nodes;
pub(crate) mod overview;
mod parameters;
mod permissions;
mod policies;
pub(crate) mod queues;
mod table;
mod topic_permissions;
mod users;
pub(crate) mod vhosts;

pub(crate) use table::routes;
