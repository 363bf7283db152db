//! What becomes of a message that dies in a queue: the message that goes to the dead-letter
//! exchange, and the history it carries with it (RabbitMQ, dead letter exchanges).
//!
//! The history is the header `x-death`, an array of tables, the newest death first, one for each
//! pair of queue and reason. RabbitMQ 4.0 and later believe only what a broker wrote: a header of
//! that name that came with a publish is replaced at the first death. Which one it is the
//! message's stored form says ([`Message::has_died`]).

use staunch_types::field_table::{ArrayBuilder, TableBuilder, TableRef, Value};
use staunch_types::properties::{Properties, PropertiesBuilder};
use staunch_types::{FieldTable, Message, Name, UnixMillis};

use crate::queue::Death;

const DEATHS: &str = "x-death";
const FIRST_REASON: &str = "x-first-death-reason";
const FIRST_QUEUE: &str = "x-first-death-queue";
const FIRST_EXCHANGE: &str = "x-first-death-exchange";
const LAST_REASON: &str = "x-last-death-reason";
const LAST_QUEUE: &str = "x-last-death-queue";
const LAST_EXCHANGE: &str = "x-last-death-exchange";

/// Key of a death under which its routing keys stand.
const ROUTING_KEYS: &str = "routing-keys";

/// Header that names more routing keys, as the blind keys of a message do; a dead-letter routing
/// key replaces them all.
const MORE_KEYS: &str = "CC";

/// What dying may add to a stored message, in bytes. Who takes messages in leaves so much room
/// below the largest that can be kept, so that every dead letter fits: its history is shortened
/// where it would not, but names the last deaths and the first one. In this there is room for two
/// new names (510), `x-first-death-*` and `x-last-death-*` (1,800), and four deaths with the
/// longest names there are (1,200 each).
pub const ROOM_SIZE_BYTES: usize = 8 * 1024;

/// What an array takes for an element that is a table, beside the table's bytes: its type and
/// its length, the latter at most twice.
const ELEMENT_SIZE_BYTES: usize = 1 + 4 + 4;

/// Where, why and when a message died.
#[derive(Clone, Copy, Debug)]
pub struct Departure<'a> {
    /// The queue it was in.
    pub queue: &'a Name,
    /// Why it left.
    pub reason: Death,
    /// When.
    pub at: UnixMillis,
}

/// The message to publish to `exchange` in place of `message`, which has died: under
/// `routing_key`, or else under its own. If its stored form would be larger than `size_bytes_max`
/// its history is shortened: further routing keys are left out of it, and then the oldest deaths.
///
/// # Panics
/// If a string of the message's properties is longer than 255 bytes, which none can be.
pub fn dead_letter(
    message: &Message,
    departure: &Departure<'_>,
    exchange: &Name,
    routing_key: Option<&Name>,
    size_bytes_max: usize,
) -> Message {
    let with =
        |deaths: &ArrayBuilder| with_deaths(message, departure, exchange, routing_key, deaths);
    let letter = with(&next_deaths(message, departure));
    if letter.stored_size_bytes() <= size_bytes_max {
        return letter;
    }
    let bare_size_bytes = with(&ArrayBuilder::new()).stored_size_bytes();
    let room_size_bytes = size_bytes_max.saturating_sub(bare_size_bytes);
    with(&last_deaths(message, departure, room_size_bytes))
}

fn with_deaths(
    message: &Message,
    departure: &Departure<'_>,
    exchange: &Name,
    routing_key: Option<&Name>,
    deaths: &ArrayBuilder,
) -> Message {
    let properties = Properties::from_validated(message.properties());
    let headers = headers(message, departure, routing_key.is_some(), deaths);
    let mut encoded = Vec::with_capacity(properties.as_bytes().len() + headers.as_bytes().len());
    PropertiesBuilder::from_properties(properties)
        .headers(headers.as_table_ref())
        .without_expiration()
        .encode(&mut encoded)
        .expect("strings of a message are short");
    let key = routing_key.map_or(message.routing_key(), |key| key.as_bytes());
    let letter = Message::copied_with_deaths(exchange, key, &encoded, message.body());
    if routing_key.is_some() || message.blind_keys().next().is_none() {
        return letter;
    }
    letter.with_blind_keys(message.blind_keys())
}

/// The routing keys of a message beside its own, where the broker itself sends it on: those of
/// its header `CC` and its blind ones.
pub fn more_keys(message: &Message) -> Vec<&[u8]> {
    open_keys(message).chain(message.blind_keys()).collect()
}

/// Whether a dead letter has been in `queue` before and died there, and nobody has rejected it
/// since: it would go round for ever.
pub fn is_cycle(dead_letter: &Message, queue: &[u8]) -> bool {
    let mut deaths = deaths(dead_letter);
    // The newest come first: those up to the last death in this queue are the cycle.
    let mut is_automatic = true;
    deaths.any(|death| {
        is_automatic &= string(death, "reason") != Some(Death::Rejected.reason().as_bytes());
        string(death, "queue") == Some(queue)
    }) && is_automatic
}

/// The headers of the dead letter.
fn headers(
    message: &Message,
    departure: &Departure<'_>,
    replaces_keys: bool,
    deaths: &ArrayBuilder,
) -> FieldTable {
    let own = Properties::from_validated(message.properties()).headers();
    let own = own.unwrap_or_default();
    let written = [
        DEATHS,
        LAST_REASON,
        LAST_QUEUE,
        LAST_EXCHANGE,
        FIRST_REASON,
        FIRST_QUEUE,
        FIRST_EXCHANGE,
        MORE_KEYS,
    ];
    let kept_names = usize::from(!replaces_keys);
    let reason = departure.reason.reason().as_bytes();
    let (queue, exchange) = (departure.queue.as_bytes(), message.exchange());
    let first = |key: &str, now| {
        let before = own.get(key).filter(|_| message.has_died());
        before.unwrap_or(Value::LongStr(now))
    };
    TableBuilder::new()
        .copy_except(own, &written[..written.len() - kept_names])
        .array(DEATHS, deaths)
        .value(FIRST_REASON, first(FIRST_REASON, reason))
        .value(FIRST_QUEUE, first(FIRST_QUEUE, queue))
        .value(FIRST_EXCHANGE, first(FIRST_EXCHANGE, exchange))
        .longstr(LAST_REASON, reason)
        .longstr(LAST_QUEUE, queue)
        .longstr(LAST_EXCHANGE, exchange)
        .build()
}

/// The history with this death at its head.
fn next_deaths(message: &Message, departure: &Departure<'_>) -> ArrayBuilder {
    let newest = newest_death(message, departure);
    let others = other_deaths(message, departure);
    others.fold(ArrayBuilder::new().table(&newest), |all, death| {
        all.value(Value::Table(death))
    })
}

/// As much of the history, this death at its head, as there is room for.
#[cold]
fn last_deaths(
    message: &Message,
    departure: &Departure<'_>,
    room_size_bytes: usize,
) -> ArrayBuilder {
    let newest = newest_death(message, departure);
    let others = other_deaths(message, departure);
    let all = std::iter::once(newest.as_table_ref()).chain(others);
    let mut left = room_size_bytes;
    all.map(without_further_keys)
        .take_while(|death| {
            let size_bytes = death.as_bytes().len() + ELEMENT_SIZE_BYTES;
            let fits = size_bytes <= left;
            left = left.saturating_sub(size_bytes);
            fits
        })
        .fold(ArrayBuilder::new(), |all, death| all.table(&death))
}

fn newest_death(message: &Message, departure: &Departure<'_>) -> FieldTable {
    match deaths(message).find(|death| is_of(*death, departure)) {
        Some(before) => counted_again(before),
        None => first_death(message, departure),
    }
}

/// The deaths in other queues or of other reasons.
fn other_deaths<'a>(
    message: &'a Message,
    departure: &Departure<'_>,
) -> impl Iterator<Item = TableRef<'a>> {
    deaths(message).filter(|death| !is_of(*death, departure))
}

fn is_of(death: TableRef<'_>, departure: &Departure<'_>) -> bool {
    string(death, "queue") == Some(departure.queue.as_bytes())
        && string(death, "reason") == Some(departure.reason.reason().as_bytes())
}

/// The death without the routing keys of `CC`.
fn without_further_keys(death: TableRef<'_>) -> FieldTable {
    let own = death.get(ROUTING_KEYS).and_then(Value::as_array);
    let own = own.and_then(|keys| keys.into_iter().find_map(bytes));
    let keys = own.map_or_else(ArrayBuilder::new, |own| ArrayBuilder::new().longstr(own));
    TableBuilder::new()
        .copy_except(death, &[ROUTING_KEYS])
        .array(ROUTING_KEYS, &keys)
        .build()
}

/// A repeated death: the count rises, everything else stays as it was at the first.
fn counted_again(before: TableRef<'_>) -> FieldTable {
    let mut again = TableBuilder::new();
    for (key, value) in before {
        let value = match (key, value) {
            (b"count", Value::I64(count)) => Value::I64(count.saturating_add(1)),
            (_, value) => value,
        };
        again
            .try_value(key, value)
            .expect("a key of a table is short");
    }
    again.build()
}

fn first_death(message: &Message, departure: &Departure<'_>) -> FieldTable {
    let properties = Properties::from_validated(message.properties());
    let mut death = TableBuilder::new();
    if let Some(expiration) = properties.expiration() {
        death = death.longstr("original-expiration", expiration);
    }
    death
        .long("count", 1)
        .longstr("reason", departure.reason.reason())
        .longstr("queue", departure.queue.as_bytes())
        .timestamp("time", departure.at.seconds())
        .longstr("exchange", message.exchange())
        .array(ROUTING_KEYS, &routing_keys(message))
        .build()
}

/// The keys it was published with: its own and those of `CC`, which the receiver may know.
fn routing_keys(message: &Message) -> ArrayBuilder {
    open_keys(message).fold(
        ArrayBuilder::new().longstr(message.routing_key()),
        ArrayBuilder::longstr,
    )
}

/// The keys of `CC`.
fn open_keys(message: &Message) -> impl Iterator<Item = &[u8]> {
    let headers = Properties::from_validated(message.properties()).headers();
    let keys = headers.and_then(|headers| headers.get(MORE_KEYS)?.as_array());
    keys.into_iter().flatten().filter_map(bytes)
}

/// The deaths that the broker recorded, newest first.
fn deaths(message: &Message) -> impl Iterator<Item = TableRef<'_>> {
    let headers = Properties::from_validated(message.properties()).headers();
    let headers = headers.filter(|_| message.has_died());
    let deaths = headers.and_then(|headers| headers.get(DEATHS)?.as_array());
    deaths.into_iter().flatten().filter_map(Value::as_table)
}

fn string<'a>(table: TableRef<'a>, key: &str) -> Option<&'a [u8]> {
    table.get(key).and_then(bytes)
}

fn bytes(value: Value<'_>) -> Option<&[u8]> {
    if let Value::LongStr(bytes) = value {
        Some(bytes)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
