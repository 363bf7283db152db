//! What the interface speaks of, one file each.

mod bindings;
pub(crate) mod channels;
mod cluster;
pub(crate) mod connections;
mod dead_letters;
mod definitions;
pub(crate) mod events;
pub(crate) mod exchanges;
pub(crate) mod failovers;
mod health;
pub(crate) mod horizon;
mod jobs;
mod limits;
mod membership;
mod messages;
pub(crate) mod nodes;
pub(crate) mod overview;
mod page_sessions;
mod parameters;
mod permissions;
mod policies;
pub(crate) mod queues;
pub(crate) mod stream;
mod table;
mod topic_permissions;
mod users;
pub(crate) mod vhosts;

pub(crate) use table::routes;
