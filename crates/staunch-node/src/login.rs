//! Who is at the other end of a connection.

use staunch_types::{
    Event, Name, Proof, Secret,
    request::{Login, Peer},
};

use crate::{node::Node, session::SessionSlot};

/// Who has logged in on a session.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) user: Name,
    /// The connection's name, as RabbitMQ makes it of both addresses.
    pub(crate) name: String,
    pub(crate) peer: Peer,
}

impl Client {
    fn new(user: Name, peer: Peer) -> Self {
        let name = connection_name(&peer);
        Self { user, name, peer }
    }
}

/// `127.0.0.1:40000 -> 127.0.0.1:5672`.
fn connection_name(peer: &Peer) -> String {
    let print = |address: Option<std::net::SocketAddr>| {
        address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
    };
    format!("{} -> {}", print(peer.address), print(peer.local_address))
}

impl Node {
    pub(crate) fn login(&mut self, slot: SessionSlot, login: Login) {
        let Login {
            user: name,
            proof,
            loopback,
            peer,
        } = login;
        let user = self.config.users.get(&name);
        let Proof::Password(Secret(password)) = &proof else {
            return self.sessions.push(slot, Event::LoginRefused);
        };
        let is_good = user
            .is_some_and(|user| user.has_password(password) && (loopback || !user.loopback_only));
        if !is_good {
            return self.sessions.push(slot, Event::LoginRefused);
        }
        if let Some(session) = self.sessions.get_mut(slot) {
            session.client = Some(Box::new(Client::new(name.clone(), *peer)));
        }
        self.sessions
            .push(slot, Event::LoginAccepted { user: name });
    }
}
