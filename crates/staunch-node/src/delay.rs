//! Exchanges that delay (RabbitMQ's plugin of `x-delayed-message`).
//!
//! What such an exchange delays waits in a queue of the exchange's own, which no client can name:
//! an ordinary queue in which every message expires when its delay is over, and in which dying
//! means to be routed by the exchange as if it had just come. So delays survive a restart as
//! messages do, there may be as many as there may be messages in a queue, and they take turns
//! with the traffic like dead letters.

use staunch_broker::{
    Envelope, Route,
    dead_letter::{self, more_keys},
    properties_after_delay,
};
use staunch_types::{Message, QueueId};

use crate::{
    node::Node,
    publish::{Arriving, Enqueued},
};

/// A queue that a message goes to, and for how many milliseconds that one holds it back.
pub(crate) type Target = (QueueId, Option<u64>);

/// The queues of a route.
pub(crate) fn targets(route: &Route) -> Vec<Target> {
    let queues = route.queues.iter().map(|queue| (*queue, None));
    let delayed = route
        .delayed
        .iter()
        .map(|(holder, millis)| (*holder, Some(*millis)));
    queues.chain(delayed).collect()
}

impl Node {
    /// Puts a message into the queue that holds it back for so long.
    pub(crate) fn hold_back(
        &mut self,
        holder: QueueId,
        millis: u64,
        arriving: &mut Arriving<'_>,
    ) -> Enqueued {
        arriving.delay_millis = Some(millis);
        let enqueued = self.enqueue(holder, arriving);
        arriving.delay_millis = None;
        enqueued
    }

    /// A message whose delay is over, and the queues that its exchange routes it to now. As with
    /// the plugin it goes nowhere if there is no route.
    pub(crate) fn let_through(
        &mut self,
        holder: QueueId,
        message: &Message,
    ) -> (Message, Vec<Target>) {
        let after = properties_after_delay(message.properties());
        let message = after.map_or_else(
            || message.clone(),
            |properties| message.with_properties(properties.as_bytes()),
        );
        if message.stored_size_bytes() > self.payload_size_bytes_max() {
            return (message, Vec::new());
        }
        let route = &mut self.routes.onward;
        let envelope = Envelope {
            more_keys: &more_keys(&message),
            ..Envelope::of(&message)
        };
        let routed = self.catalog.route_delayed(holder, &envelope, route);
        let targets = routed.map_or_else(|_| Vec::new(), |()| targets(&self.routes.onward));
        (message, targets)
    }

    /// Puts a message into a queue, after a delay or at once.
    pub(crate) fn enqueue_at(
        &mut self,
        (queue, delay_millis): Target,
        arriving: &mut Arriving<'_>,
    ) -> Enqueued {
        match delay_millis {
            Some(millis) => self.hold_back(queue, millis, arriving),
            None => self.enqueue(queue, arriving),
        }
    }

    /// Largest message that fits in the log, in its stored form.
    pub(crate) fn payload_size_bytes_max(&self) -> usize {
        self.store.config().payload_size_bytes_max()
    }

    /// Largest message that may come in, in its stored form: its dead letters fit as well.
    pub(crate) fn message_size_bytes_max(&self) -> usize {
        self.payload_size_bytes_max()
            .saturating_sub(dead_letter::ROOM_SIZE_BYTES)
    }
}
