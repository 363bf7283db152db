//! What the other nodes of the cluster say: all are asked at once, and none is waited for without end.

use std::{future::Future, pin::Pin, sync::Arc};

use axum::{http::HeaderValue, response::Response};
use serde::de::DeserializeOwned;
use serde_json::Value;
use staunch_types::Name;
use tokio::task::{self, JoinSet};

use crate::{
    Api,
    body::Answer,
    error::ApiError,
    listing::{Head, Listing},
    question::Question,
};

/// Names the nodes of which nothing is known.
pub(crate) const UNKNOWN_NODES: &str = "staunch-unknown-nodes";

/// Larger answers are read on a thread that may take its time, in bytes.
const READ_AT_ONCE_SIZE_BYTES_MAX: usize = 64 << 10;

/// An answer on its way; none if there is none.
pub type Answering = Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send>>;

/// The way to the other nodes.
#[derive(Clone)]
pub struct PeerPort(Arc<dyn Fn(Name, Vec<u8>) -> Answering + Send + Sync>);

/// What the others have said.
#[derive(Debug)]
pub(crate) struct Heard<T> {
    /// By node.
    pub(crate) answers: Vec<(Name, T)>,
    pub(crate) unknown: Unknown,
}

/// Nodes of which nothing is known: they are not there, or have not answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unknown(Vec<Name>);

impl PeerPort {
    /// A port by which `ask` asks the node of that name.
    pub fn new(ask: impl Fn(Name, Vec<u8>) -> Answering + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

impl Api {
    /// Asks all other nodes.
    pub(crate) async fn ask_others<T>(&self, question: &Question) -> Result<Heard<T>, ApiError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let mut heard = Heard {
            answers: Vec::new(),
            unknown: Unknown::default(),
        };
        let mut asking = JoinSet::new();
        let others = self.node.others().await?;
        let question = question.encode();
        for node in others {
            if !node.is_there {
                heard.unknown.0.push(node.name);
                continue;
            }
            let answering = (self.peers.0)(node.name.clone(), question.clone());
            asking.spawn(async move { (node.name, read(answering).await) });
        }
        for (node, answer) in asking.join_all().await {
            match answer {
                Some(answer) => heard.answers.push((node, answer)),
                None => heard.unknown.0.push(node),
            }
        }
        heard.answers.sort_by(|(one, _), (other, _)| one.cmp(other));
        heard.unknown.0.sort();
        Ok(heard)
    }

    /// Answers with a list of which the others have a part each.
    pub(crate) async fn list(
        &self,
        listing: &Listing,
        own: Vec<Value>,
        question: &Question,
    ) -> Answer {
        let heard = self.ask_others::<Head>(question).await?;
        let others = heard.answers.into_iter().map(|(_, head)| head);
        let heads = std::iter::once(listing.head(own)).chain(others);
        Ok(heard.unknown.mark(listing.answer_heads(heads)?))
    }

    /// Asks one node; none if it does not answer.
    pub(crate) async fn ask_node<T>(&self, node: Name, question: &Question) -> Option<T>
    where
        T: DeserializeOwned + Send + 'static,
    {
        read((self.peers.0)(node, question.encode())).await
    }
}

impl Unknown {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, node: &str) -> bool {
        self.0.iter().any(|name| **name == *node.as_bytes())
    }

    /// Their names.
    pub(crate) fn shown(&self) -> Value {
        self.0.iter().map(Name::to_string).collect()
    }

    /// Has an answer say so.
    pub(crate) fn mark(&self, mut answer: Response) -> Response {
        let names: Vec<_> = self.0.iter().map(Name::to_string).collect();
        if !names.is_empty()
            && let Ok(names) = HeaderValue::from_str(&names.join(", "))
        {
            answer.headers_mut().insert(UNKNOWN_NODES, names);
        }
        answer
    }
}

async fn read<T>(answering: Answering) -> Option<T>
where
    T: DeserializeOwned + Send + 'static,
{
    let answer = answering.await?;
    let is_large = answer.len() > READ_AT_ONCE_SIZE_BYTES_MAX;
    let read = move || serde_json::from_slice(&answer).ok();
    if is_large {
        return task::spawn_blocking(read).await.ok()?;
    }
    read()
}
