//! How many connections and channels there are, and how many there may be: of a user, in a
//! virtual host, on the node. Texts are RabbitMQ's.

use std::collections::BTreeMap;

use staunch_types::{Name, Refusal};

use crate::node::Node;

/// Most things on a node; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeLimits {
    /// Connections that are open to a virtual host.
    pub connections_max: Option<u64>,
    /// Channels of all connections.
    pub channels_max: Option<u64>,
}

/// What there is, counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    connections: u64,
    channels: u64,
    users: BTreeMap<Name, UserShare>,
    /// Connections by virtual host.
    vhosts: BTreeMap<Name, u64>,
}

/// What one user has.
#[derive(Debug, Default, PartialEq, Eq)]
struct UserShare {
    connections: u64,
    channels: u64,
}

impl Census {
    /// A connection has been opened to a virtual host.
    pub(crate) fn enter(&mut self, user: &Name, vhost: &Name) {
        self.connections += 1;
        self.users.entry(user.clone()).or_default().connections += 1;
        *self.vhosts.entry(vhost.clone()).or_default() += 1;
    }

    /// A connection that was open to a virtual host is over; its channels are closed.
    pub(crate) fn leave(&mut self, user: &Name, vhost: &Name) {
        self.connections -= 1;
        let share = self.users.get_mut(user).expect("it was counted");
        share.connections -= 1;
        if *share == UserShare::default() {
            self.users.remove(user);
        }
        let count = self.vhosts.get_mut(vhost).expect("it was counted");
        *count -= 1;
        if *count == 0 {
            self.vhosts.remove(vhost);
        }
    }

    pub(crate) fn open_channel(&mut self, user: &Name) {
        self.channels += 1;
        self.users.entry(user.clone()).or_default().channels += 1;
    }

    pub(crate) fn close_channel(&mut self, user: &Name) {
        self.channels -= 1;
        let share = self.users.get_mut(user).expect("it was counted");
        share.channels -= 1;
    }

    fn user_connections(&self, user: &Name) -> u64 {
        self.users.get(user).map_or(0, |share| share.connections)
    }

    fn user_channels(&self, user: &Name) -> u64 {
        self.users.get(user).map_or(0, |share| share.channels)
    }

    fn vhost_connections(&self, vhost: &Name) -> u64 {
        self.vhosts.get(vhost).copied().unwrap_or_default()
    }
}

impl Node {
    /// Whether one more connection would stay below the node's limit.
    pub(crate) fn has_room_for_connections(&self) -> bool {
        let limit = self.config.limits.connections_max;
        limit.is_none_or(|limit| self.census.connections < limit)
    }

    /// Whether one more connection of the user may open the virtual host.
    ///
    /// # Errors
    /// 530 with the text of the limit, or if there is no such virtual host.
    pub(crate) fn check_connection_count(&self, user: &Name, vhost: &Name) -> Result<(), Refusal> {
        let reached = |limit: Option<u64>, count| limit.filter(|limit| count >= *limit);
        let node_limit = self.config.limits.connections_max;
        if let Some(limit) = reached(node_limit, self.census.connections) {
            let text = format!("connection refused: node connection limit ({limit}) is reached");
            return Err(Refusal::NotAllowed(text));
        }
        self.catalog.check_vhost(vhost)?;
        let vhost_limit = self.catalog.vhost_limits(vhost).connections_max;
        if let Some(limit) = reached(vhost_limit, self.census.vhost_connections(vhost)) {
            return Err(Refusal::NotAllowed(format!(
                "access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) \
                 is reached"
            )));
        }
        let user_limit = self.user_limits(user).connections_max;
        if let Some(limit) = reached(user_limit, self.census.user_connections(user)) {
            return Err(Refusal::NotAllowed(format!(
                "connection refused for user '{user}': user connection limit ({limit}) is reached"
            )));
        }
        Ok(())
    }

    /// Whether the user may open one more channel.
    ///
    /// # Errors
    /// 530 with the text of the limit.
    pub(crate) fn check_channel_count(&self, user: &Name) -> Result<(), Refusal> {
        let reached = |limit: Option<u64>, count| limit.filter(|limit| count >= *limit);
        if let Some(limit) = reached(self.config.limits.channels_max, self.census.channels) {
            return Err(Refusal::NotAllowed(format!(
                "number of channels opened on node '{}' has reached the maximum allowed limit of \
                 ({limit})",
                self.config.node_name
            )));
        }
        let user_limit = self.user_limits(user).channels_max;
        if let Some(limit) = reached(user_limit, self.census.user_channels(user)) {
            return Err(Refusal::NotAllowed(format!(
                "number of channels opened for user '{user}' has reached the maximum allowed user \
                 limit of ({limit})"
            )));
        }
        Ok(())
    }

    fn user_limits(&self, user: &Name) -> staunch_broker::UserLimits {
        let user = self.catalog.user(user);
        user.map(|user| user.limits).unwrap_or_default()
    }

    /// The census as it has to be.
    pub(crate) fn recount(&self) -> Census {
        let mut census = Census::default();
        for session in self.sessions.iter() {
            let Some(client) = &session.client else {
                continue;
            };
            if !session.vhost.is_empty() {
                census.enter(&client.user, &session.vhost);
            }
            for _ in &session.channels {
                census.open_channel(&client.user);
            }
        }
        census
    }
}
