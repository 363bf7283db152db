//! What is done with messages goes the road that clients' requests go: a session of the caller,
//! with one channel. So permissions, limits and refusals are those of AMQP.

use staunch_types::{
    ChannelNumber, Event, Name, Refusal, Reply, Request,
    request::{Login, Peer, Proof},
};

use crate::{Api, auth::Caller, error::ApiError, node::Line};

/// The session's only channel.
pub(crate) const CHANNEL: ChannelNumber = ChannelNumber(1);

/// A session in a virtual host.
pub(crate) struct Session {
    line: Line,
    /// A resource has run low: publishes must wait.
    pub(crate) is_alarmed: bool,
}

impl Session {
    /// Logs the caller, who has shown who it is, in to a virtual host.
    pub(crate) async fn open(api: &Api, caller: &Caller, vhost: Name) -> Result<Self, ApiError> {
        let mut session = Self {
            line: api.node.dial(),
            is_alarmed: false,
        };
        let login = Login {
            user: caller.name.clone(),
            proof: Proof::Certificate,
            // Whether it may come from where it does was asked before.
            loopback: true,
            peer: Box::new(Peer::default()),
        };
        session.say(vec![Request::Login(login)]).await?;
        while !matches!(session.hear().await?, Event::LoginAccepted { .. }) {}
        session.say(vec![Request::OpenVhost { vhost }]).await?;
        while !matches!(session.hear().await?, Event::VhostOpened) {}
        let channel = CHANNEL;
        session.say(vec![Request::OpenChannel { channel }]).await?;
        while !matches!(session.hear().await?, Event::ChannelOpened { .. }) {}
        Ok(session)
    }

    pub(crate) async fn say(&self, requests: Vec<Request>) -> Result<(), ApiError> {
        let said = self.line.requests.send(requests).await;
        said.map_err(|_| ApiError::Unavailable)
    }

    /// What the node says next.
    ///
    /// # Errors
    /// What it refuses; 503 if it ends the session.
    pub(crate) async fn hear(&mut self) -> Result<Event, ApiError> {
        loop {
            if let Some(event) = self.next().await? {
                return Ok(event);
            }
        }
    }

    /// Waits until no resource runs low.
    pub(crate) async fn calm(&mut self) -> Result<(), ApiError> {
        while self.is_alarmed {
            // Nothing that was asked for comes meanwhile.
            self.next().await?;
        }
        Ok(())
    }

    /// The next event; none if it was for the session itself.
    async fn next(&mut self) -> Result<Option<Event>, ApiError> {
        match self.line.events.recv().await {
            Some(Event::Alarm { memory, disk }) => {
                self.is_alarmed = memory || disk;
                Ok(None)
            }
            // It publishes little at a time, and waits for the confirms.
            Some(Event::PublishesHeld { .. } | Event::Slowed { .. }) => Ok(None),
            Some(Event::LoginRefused) => Err(ApiError::LoginFailed),
            Some(Event::VhostRefused(refusal)) => Err(match *refusal {
                Refusal::NotAllowed(reason) => ApiError::NotAuthorized(reason),
                other => other.into(),
            }),
            Some(Event::ConnectionRefused { refusal, .. } | Event::Refused { refusal, .. }) => {
                Err((*refusal).into())
            }
            Some(Event::Shutdown | Event::Forced { .. }) | None => Err(ApiError::Unavailable),
            Some(event) => Ok(Some(event)),
        }
    }

    /// The answer to the one request that was made.
    pub(crate) async fn ask(&mut self, request: Request) -> Result<Reply, ApiError> {
        self.say(vec![request]).await?;
        loop {
            if let Event::Reply { reply, .. } = self.hear().await? {
                return Ok(reply);
            }
        }
    }

    /// Ends the session; when this resolves, what it held is back in its queues.
    pub(crate) async fn close(self) {
        let Line {
            requests,
            mut events,
        } = self.line;
        drop(requests);
        while events.recv().await.is_some() {}
    }
}
