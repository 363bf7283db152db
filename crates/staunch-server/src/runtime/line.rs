//! A session with the node that is not a socket's: the administration interface speaks to queues
//! and exchanges the way clients do.

use std::sync::Arc;

use staunch_http::Line;
use staunch_types::{Event, Request};
use tokio::sync::mpsc;

use crate::runtime::{FromConnection, Mailbox, NodeHandle};

impl NodeHandle {
    /// Opens a session. It ends when the line's sender is dropped.
    pub(crate) fn dial(&self) -> Line {
        let (requests, said) = mpsc::channel(1);
        let (hear, events) = mpsc::unbounded_channel();
        tokio::spawn(carry(self.clone(), said, hear));
        Line { requests, events }
    }
}

/// Carries a session until the node has said the last word, whether or not anybody listens.
async fn carry(
    node: NodeHandle,
    mut said: mpsc::Receiver<Vec<Request>>,
    hear: mpsc::UnboundedSender<Event>,
) {
    let id = node.next_connection_id();
    let mailbox = Arc::new(Mailbox::default());
    let mut next = Some(FromConnection::Connected(id, mailbox.clone()));
    let mut is_over = false;
    loop {
        if let Some(message) = next.take()
            && !node.send(message).await
        {
            return;
        }
        for event in mailbox.take() {
            if matches!(event, Event::ConnectionClosed) {
                return;
            }
            // Who has hung up need not hear the rest.
            drop(hear.send(event));
        }
        tokio::select! {
            () = mailbox.arrived() => {}
            requests = said.recv(), if !is_over => {
                is_over = requests.is_none();
                let requests = requests.unwrap_or_else(|| vec![Request::CloseConnection]);
                next = Some(FromConnection::Requests(id, requests));
            }
        }
    }
}
