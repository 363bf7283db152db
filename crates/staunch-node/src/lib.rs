//! One node as a machine: router, queues, effects, recovery.
//!
//! A [`Node`] is told things ([`Input`]) and asks for things to be done ([`Output`]); it owns no
//! thread, socket, file or clock. The runtime feeds it whatever has gathered, lets it finish the
//! drain, and performs what it asks for; the simulator does the same with time and failure of its
//! own making.
//!
//! A drain is the unit of everything that costs: one pass over the dirty queues, one sealed chunk,
//! one write, one list of events per connection.
//!
//! Where to look: `requests` for what a request leads to, `publish` → `deliver` → `settle` for the
//! road of a message, `definitions` and `consume` for what is declared, `pending` for what waits
//! for the disk, `retire` for giving space back, `recover` for the start, `stop` for the end,
//! `expiry`, `length` and `dead_letter` for messages that die, `delay` for those that come later,
//! `cluster` for what several nodes do together, `login` for who is there, `admin` for what operators ask, `notices` and `changes` for events that
//! the broker publishes about itself, `counts` and `sample` for what is counted and who asks for it.

mod access;
mod admin;
mod alarm;
mod changes;
mod cluster;
mod config;
mod consume;
mod consumers;
mod counts;
mod dead_letter;
mod declaring;
mod definitions;
mod delay;
mod deliver;
mod expiry;
mod get;
mod input;
mod invariants;
mod length;
mod limits;
mod lists;
mod login;
mod node;
mod notices;
mod pace;
mod partitions;
mod pending;
mod publish;
mod queues;
mod recover;
mod replies;
mod requests;
mod restraint;
mod retire;
mod room;
mod sample;
mod session;
mod settle;
mod state;
mod stop;
mod trace;
mod transient;
mod tx;

pub use admin::{
    AdminAnswer, AdminId, AdminRequest, CatalogRead, ConnectionInfo, Found, OnRefusal, QueueInfo,
};
pub use alarm::Condition;
pub use cluster::{
    Cause, ClusterStatus, FAILOVERS_MAX, Failover, GroupFacts, NodeStatus, OtherNode, PeerInput,
    PeerOutput, PeerPayload, PlacementFacts, QueueReplicas, ReplicaStatus, SendClass, StopCheck,
    deliveries_in,
};
pub use config::{ClusterConfig, FirstUser, NodeConfig};
pub use counts::{ChannelCounts, Churn, ExchangeCounts, QueueCounts};
pub use input::{Input, MembershipNews, News, Output};
pub use limits::NodeLimits;
pub use lists::{ChannelInfo, ConsumerInfo};
pub use login::{VERIFICATIONS_WAITING_MAX, VerifyJob};
pub use node::Node;
pub use pace::is_paced;
pub use recover::{Recovered, StartError, recover};
pub use sample::{
    CONNECTIONS_PER_SAMPLE_MAX, ConnectionSample, Held, QUEUES_PER_SAMPLE_MAX, QueueSample, Sample,
};
pub use session::OUTBOUND_SIZE_BYTES_MAX;
pub use state::StateError;
pub use staunch_raft::LivenessConfig;
