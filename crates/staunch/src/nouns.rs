//! What the commands speak of, one file each.

pub(crate) mod bindings;
pub(crate) mod channels;
pub(crate) mod connections;
pub(crate) mod consumers;
pub(crate) mod contexts;
pub(crate) mod definitions;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod exchanges;
pub(crate) mod failovers;
pub(crate) mod horizon;
pub(crate) mod limits;
pub(crate) mod nodes;
pub(crate) mod permissions;
pub(crate) mod plan;
pub(crate) mod policies;
pub(crate) mod queues;
pub(crate) mod replicas;
pub(crate) mod route;
pub(crate) mod status;
pub(crate) mod top;
pub(crate) mod users;
pub(crate) mod vhosts;
