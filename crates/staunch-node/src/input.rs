//! The two closed enums at the node's rim: all it can be told, all it can ask to be done.

use std::time::Duration;

use staunch_log::{
    BackgroundDone, BackgroundJob, Damage, FetchDone, FetchError, FetchFailed, FetchJob, WriteDone,
    WriteJob,
};
use staunch_types::{ConnectionId, Event, Name, NodeId, QueueId, Request};

use crate::{
    admin::{AdminAnswer, AdminId, AdminRequest},
    cluster::{Cause, PeerInput, PeerOutput},
    login::VerifyJob,
};

/// What the runtime (or the simulator) tells the node.
#[derive(Debug)]
pub enum Input {
    /// A client connected; requests of this id follow.
    Connected(ConnectionId),
    /// Requests of one connection, in its order.
    Requests(ConnectionId, Vec<Request>),
    /// A write job is on disk, synced.
    Written(WriteDone),
    /// A background job ended.
    Background(BackgroundDone),
    /// Bodies came back from disk for a queue, or did not.
    Fetched(QueueId, Result<FetchDone, FetchFailed>),
    /// Whether the password of [`Output::Verify`] is the user's.
    Verified(ConnectionId, bool),
    /// An operator asks for something; answered by [`Output::Admin`] with the same id.
    Admin(AdminId, AdminRequest),
    /// Facts about the machine, about once a second.
    Resources {
        /// Bytes the file system of the data directory has left.
        disk_free_size_bytes: u64,
    },
    /// Something happened on the link with another node.
    Peer(PeerInput),
    /// Time passes; at least every 200 ms.
    Tick,
    /// Stop cleanly: tell the clients, write what is there, then [`Output::Stopped`].
    Stop,
}

/// What the node asks the runtime to do.
#[derive(Debug)]
pub enum Output {
    /// Hand these to the connection, in order.
    Events(ConnectionId, Vec<Event>),
    /// The connection's last paced batch has been taken ([`crate::is_paced`]): read on.
    Proceed(ConnectionId),
    /// Write and sync, then answer [`Input::Written`]. A failure is fatal to the process.
    Write(WriteJob),
    /// Run off the hot path, then answer [`Input::Background`].
    Background(BackgroundJob),
    /// Read, then answer [`Input::Fetched`].
    Fetch(QueueId, FetchJob),
    /// Something is to be sent to another node.
    Peer(PeerOutput),
    /// The connection with a peer is to be ended: too much of what it has sent has to wait.
    EndLink(Name),
    /// Who belongs to the cluster has changed, or what this node is to it.
    Membership(MembershipNews),
    /// Something has happened that operators want to know of.
    News(News),
    /// The answer to an operator's request.
    Admin(AdminId, AdminAnswer),
    /// Check a password off the hot path, few at a time, then answer [`Input::Verified`].
    Verify(ConnectionId, VerifyJob),
    /// Everything is on disk: the process may exit.
    Stopped,
    /// Stored bytes cannot be read back: the process must stop and say where.
    Unreadable(FetchError),
    /// Stored bytes of a replicated queue are damaged; what they were is got from another node.
    Damaged(QueueId, Damage),
    /// A queue, of this virtual host and name, that was kept by this node alone is lost with what
    /// was damaged, and nobody has accepted that ([`crate::NodeConfig::accept_loss`]): the process
    /// must stop and say so.
    Lost(Name, Name),
}

/// What a node finds out about its cluster, for the log and for the links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipNews {
    /// This node has founded a cluster.
    Founded,
    /// This node has joined one.
    Joined {
        /// What it is there.
        node: NodeId,
    },
    /// This node was removed: it serves nobody and is to be stopped.
    Removed,
    /// A peer belongs to another cluster, or says to be somebody who it is not.
    Foreign {
        /// Its name.
        peer: Name,
    },
    /// These are the other nodes and their addresses: links are to be kept with them, beside those
    /// of the configuration. An address may be empty.
    Links(Vec<(Name, Name)>),
}

/// What operators want to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A node was given up.
    Suspected {
        /// The node.
        node: Name,
        /// Since it was last heard.
        silence: Duration,
        /// Why.
        cause: Cause,
    },
    /// It speaks again.
    Trusted {
        /// The node.
        node: Name,
    },
    /// This node leads queues that another has led; each tells of its own.
    Led {
        /// Who leads them now.
        by: Name,
        /// Who did before.
        before: Name,
        /// How many.
        count: usize,
        /// The first of them, as (virtual host, queue).
        first: Vec<(Name, Name)>,
    },
    /// Some node leads the catalog.
    CatalogLed {
        /// Which.
        by: Name,
    },
    /// An alarm of this node has changed.
    Alarm {
        /// What there is too little of.
        resource: &'static str,
        /// It has gone on, otherwise off.
        is_on: bool,
    },
}
