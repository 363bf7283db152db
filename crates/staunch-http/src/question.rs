//! What nodes ask each other so that each can show the whole cluster (`docs/statistics.md`).
//!
//! Questions and answers are JSON; who does not know a question does not answer, so nodes of different
//! versions get along.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use staunch_types::{Name, QueueId};

use crate::{
    Api,
    auth::Caller,
    error::ApiError,
    listing::Listing,
    nouns::{
        channels, connections, events, exchanges, failovers, horizon, nodes, overview, queues,
        vhosts,
    },
};

/// A question to another node. Who asks has judged its caller before. `query` is that of the list that
/// is to be shown.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum Question {
    /// What is in the queues that the node serves, of these or of all.
    Queues {
        ids: Option<Vec<u64>>,
        depth: queues::Depth,
        query: String,
    },
    /// One column of the queues that the node serves: a list of [`queues::Cell`].
    QueueColumn { path: Vec<String> },
    /// Its clients' connections: a [`crate::listing::Head`].
    Connections { wanted: Wanted, query: String },
    /// Their channels: a [`crate::listing::Head`].
    Channels { wanted: Wanted, query: String },
    /// One of those with its consumers, if it is there.
    Channel { name: String, query: String },
    /// Its clients' consumers: a [`crate::listing::Head`].
    Consumers { wanted: Wanted, query: String },
    /// What adds up to the overview: an [`overview::Part`].
    Overview { wanted: Wanted, query: String },
    /// Rates of virtual hosts, by name.
    Vhosts { query: String },
    /// Rates of exchanges, by virtual host and name.
    Exchanges { vhosts: Vec<String>, query: String },
    /// The node's row.
    Node { query: String },
    /// Where its memory is.
    Memory,
    /// How long what the node keeps in these virtual hosts holds out: a [`horizon::Part`].
    Horizons { vhosts: Vec<String>, query: String },
    /// How long a queue holds out, if the node serves it.
    Horizon { id: u64 },
    /// What would come of it if something were different, if the node serves it.
    WhatIf {
        id: u64,
        question: horizon::what_if::Question,
    },
    /// What has happened there: the last events whose names begin so, or the first behind those that
    /// were read of each node's list.
    Events {
        name: String,
        count: usize,
        behind: Option<BTreeMap<String, u64>>,
    },
    /// What it has seen of failovers: a list of [`failovers::Seen`].
    Failovers,
    /// Its jobs, of a user or all.
    Jobs { of: Option<String> },
    /// Has a job end; whether there was one, of a user or of all.
    CancelJob { id: String, of: Option<String> },
    /// How many connections have that name and were told to close.
    Close { name: String, reason: String },
}

/// Which connections, channels or consumers.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Wanted {
    /// All that this user may see: its own.
    pub(crate) seen_by: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) vhosts: Option<Vec<String>>,
    pub(crate) connection: Option<String>,
    pub(crate) queue: Option<String>,
}

impl Question {
    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a question is numbers and texts")
    }
}

impl Wanted {
    /// As far as the caller may see it: monitors see everything, others their own.
    pub(crate) fn seen_by(self, caller: &Caller) -> Self {
        let seen_by = (!caller.is_monitor()).then(|| caller.name.to_string());
        Self { seen_by, ..self }
    }

    /// Whether it wants what this user has on this connection.
    pub(crate) fn takes(&self, user: &Name, vhost: &Name, connection: &str) -> bool {
        let is = |wanted: &String, name: &Name| **name == *wanted.as_bytes();
        self.is_seen(user)
            && self.is_inside(vhost)
            && self.user.as_ref().is_none_or(|wanted| is(wanted, user))
            && self.connection.as_ref().is_none_or(|it| it == connection)
    }

    /// Whether it wants what this user has.
    pub(crate) fn is_seen(&self, user: &Name) -> bool {
        (self.seen_by.as_ref()).is_none_or(|wanted| **user == *wanted.as_bytes())
    }

    /// Whether it wants what is in this virtual host.
    pub(crate) fn is_inside(&self, vhost: &Name) -> bool {
        let is = |wanted: &String| **vhost == *wanted.as_bytes();
        self.vhosts.as_ref().is_none_or(|them| them.iter().any(is))
    }

    pub(crate) fn takes_queue(&self, queue: &Name) -> bool {
        (self.queue.as_ref()).is_none_or(|wanted| **queue == *wanted.as_bytes())
    }
}

impl Api {
    /// Answers another node; none if it asks for what this one does not know.
    pub(crate) async fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let question = serde_json::from_slice(question).ok()?;
        let answer = self.answered(question).await.ok()?;
        serde_json::to_vec(&answer).ok()
    }

    async fn answered(&self, question: Question) -> Result<Value, ApiError> {
        match question {
            Question::Queues { ids, depth, query } => {
                queues::answer(self, ids, depth, &query).await
            }
            Question::QueueColumn { path } => value(&queues::answer_column(self, &path).await?),
            Question::Connections { wanted, query } => {
                let listing = Listing::of(&query)?;
                let rows = connections::own(self, &wanted, &listing).await?;
                value(&listing.head(rows))
            }
            Question::Channels { wanted, query } => {
                let listing = Listing::of(&query)?;
                let rows = channels::own(self, &wanted, &listing).await?;
                value(&listing.head(rows))
            }
            Question::Channel { name, query } => {
                let listing = Listing::of(&query)?;
                value(&channels::own_channel(self, &name, &listing).await?)
            }
            Question::Consumers { wanted, query } => {
                let rows = channels::own_consumers(self, &wanted).await?;
                value(&Listing::of(&query)?.head(rows))
            }
            Question::Overview { wanted, query } => {
                value(&overview::part(self, &wanted, &Listing::of(&query)?).await?)
            }
            Question::Vhosts { query } => {
                value(&vhosts::moved(self, &Listing::of(&query)?.windows))
            }
            Question::Exchanges { vhosts, query } => {
                let windows = Listing::of(&query)?.windows;
                value(&exchanges::moved(self, &vhosts, &windows))
            }
            Question::Node { query } => value(&nodes::own(self, &Listing::of(&query)?).await?),
            Question::Memory => value(&nodes::own_memory(self).await?),
            Question::Horizons { vhosts, query } => {
                value(&horizon::part_for(self, &vhosts, &query).await?)
            }
            Question::Horizon { id } => value(&horizon::row_for(self, QueueId(id)).await?),
            Question::WhatIf { id, question } => {
                value(&horizon::what_if::answer_for(self, QueueId(id), &question).await?)
            }
            Question::Events {
                name,
                count,
                behind,
            } => value(&events::own(self, &name, count, behind.as_ref())),
            Question::Failovers => value(&failovers::own(self).await?),
            Question::Jobs { of } => value(&self.jobs.list(of.as_deref())),
            Question::CancelJob { id, of } => value(&self.jobs.cancel(&id, of.as_deref())),
            Question::Close { name, reason } => {
                value(&self.node.close_connection(name, reason).await?)
            }
        }
    }
}

fn value(answer: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(answer).map_err(|_| ApiError::Unavailable)
}
