//! Requests and events in few words, for verbose replays: a message prints as its id, not as the
//! buffer it lies in.

use std::fmt;

use staunch_types::{Delivery, Event, Message, Reply, Request};

use crate::payload;

/// Prints a request or event in few words.
pub struct Brief<'a, T>(pub &'a T);

impl fmt::Display for Brief<'_, Request> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Request::Publish(publish) => {
                write!(f, "Publish channel {} {:?}", publish.channel, publish.seq)?;
                print_message(&publish.message, f)
            }
            other => write!(f, "{other:?}"),
        }
    }
}

impl fmt::Display for Brief<'_, Event> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Event::Delivery(delivery) => print_delivery("Delivery", delivery, f),
            Event::Reply {
                reply: Reply::Got { delivery, .. },
                ..
            } => print_delivery("Got", delivery, f),
            Event::Returned {
                channel, message, ..
            } => {
                write!(f, "Returned channel {channel}")?;
                print_message(message, f)
            }
            other => write!(f, "{other:?}"),
        }
    }
}

fn print_delivery(word: &str, delivery: &Delivery, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "{word} channel {} consumer {} queue {} index {} redelivered {}",
        delivery.channel, delivery.consumer, delivery.queue, delivery.index, delivery.redelivered
    )?;
    print_message(&delivery.message, f)
}

fn print_message(message: &Message, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let key = String::from_utf8_lossy(message.routing_key());
    let exchange = String::from_utf8_lossy(message.exchange());
    let size = message.body().len();
    let id = payload::id_of(message.properties()).map(|id| id.0);
    write!(
        f,
        " message {id:?} of {size} bytes by '{exchange}' to '{key}'"
    )
}
