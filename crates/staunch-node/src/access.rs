//! What a user may do, and what is asked of a publish before it is routed.

use staunch_types::{ChannelNumber, Message, Refusal, properties::Properties};

use crate::{expiry::message_ttl, node::Node, session::SessionSlot};

impl Node {
    /// Looks at the properties of a publish that bear on its way: the message as it goes on.
    ///
    /// # Errors
    /// 406 for a `user_id` that is not the publisher's, an `expiration` that is no time, or a
    /// `reply_to` that leads nowhere.
    pub(crate) fn examine(
        &mut self,
        slot: SessionSlot,
        channel: ChannelNumber,
        message: Message,
    ) -> Result<Message, Refusal> {
        let properties = Properties::from_validated(message.properties());
        if let Some(user_id) = properties.user_id() {
            self.check_user_id(slot, user_id)?;
        }
        message_ttl(properties)?;
        let rewritten = self.with_reply_name(slot, channel, &message)?;
        Ok(rewritten.unwrap_or(message))
    }

    /// `user_id` is a validated property: it says who publishes (RabbitMQ, validated user-id).
    fn check_user_id(&self, slot: SessionSlot, user_id: &[u8]) -> Result<(), Refusal> {
        let client = self
            .sessions
            .get(slot)
            .and_then(|session| session.client.as_deref());
        let user = client
            .map(|client| client.user.as_bytes())
            .unwrap_or_default();
        if user == user_id {
            return Ok(());
        }
        Err(Refusal::Precondition(format!(
            "user_id property set to '{}' but authenticated user was '{}'",
            String::from_utf8_lossy(user_id),
            String::from_utf8_lossy(user)
        )))
    }
}
