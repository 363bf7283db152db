//! The bytes of a published message: a function of its id, so that every byte that comes back
//! can be checked, and every copy on disk recognised.
//!
//! The message-id property is `SM#` and sixteen hexadecimal digits, in every message, also one
//! with an empty body. The disk under the node looks for it in what is written and so knows which
//! messages are durable (`crate::disk`).

use staunch_types::{
    field_table::{TableBuilder, TableRef, Value},
    properties::{Properties, PropertiesBuilder},
};

use crate::history::MessageId;

/// How the message-id property begins.
pub const MARK: &[u8; 3] = b"SM#";

/// Size of the whole mark, in bytes.
pub const MARK_SIZE_BYTES: usize = 19;

/// One message in so many has a time to live of its own.
const EXPIRING_ONE_IN: u64 = 13;

/// The times to live there are, in milliseconds.
const EXPIRATIONS: [u32; 4] = [0, 30, 500, 60_000];

/// Header that asks for a delay.
const DELAY: &str = "x-delay";

/// A hash of a routing key: FNV-1a.
pub fn hash_of(key: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    key.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// What was published under an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The id.
    pub id: MessageId,
    /// Exchange.
    pub exchange: String,
    /// Routing key.
    pub key: String,
    /// Delivery mode 2.
    pub persistent: bool,
    /// Size of the body, in bytes.
    pub body_size: usize,
    /// For how long its exchange is to delay it, in milliseconds.
    pub delay_millis: Option<i32>,
}

impl Payload {
    /// The mark.
    pub fn mark(&self) -> String {
        format!("SM#{:016x}", self.id.0)
    }

    /// Its own time to live in milliseconds, which few messages have.
    pub fn ttl_millis(&self) -> Option<u32> {
        let which = self.id.0 / EXPIRING_ONE_IN % EXPIRATIONS.len() as u64;
        let expires = self.id.0.is_multiple_of(EXPIRING_ONE_IN);
        let at = usize::try_from(which).unwrap_or_default();
        expires.then_some(EXPIRATIONS[at])
    }

    /// Property flags and list as sent.
    pub fn properties(&self) -> Vec<u8> {
        self.properties_with(self.ttl_millis(), self.delay_millis)
    }

    /// The same without headers.
    pub fn properties_without_headers(&self) -> Vec<u8> {
        self.properties_with(self.ttl_millis(), None)
    }

    /// The same in a dead letter, which does not expire again.
    pub fn properties_of_dead_letter(&self) -> Vec<u8> {
        self.properties_with(None, None)
    }

    fn properties_with(&self, ttl_millis: Option<u32>, delay_millis: Option<i32>) -> Vec<u8> {
        let (mark, expiration) = (self.mark(), ttl_millis.unwrap_or_default().to_string());
        let delay = TableBuilder::new().int(DELAY, delay_millis.unwrap_or_default());
        let headers = delay.build();
        let mut builder = PropertiesBuilder::new().message_id(&mark);
        if delay_millis.is_some() {
            builder = builder.headers(headers.as_table_ref());
        }
        if ttl_millis.is_some() {
            builder = builder.expiration(&expiration);
        }
        if self.persistent {
            builder = builder.delivery_mode(2);
        }
        if self.id.0.is_multiple_of(3) {
            builder = builder.content_type("application/octet-stream");
        }
        if let Some(priority) = priority_of(self.id) {
            builder = builder.priority(priority);
        }
        let mut out = Vec::with_capacity(64);
        builder.encode(&mut out).expect("the properties are short");
        out
    }

    /// The body.
    pub fn body(&self) -> Vec<u8> {
        let mut state = self.id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut body = Vec::with_capacity(self.body_size + 8);
        while body.len() < self.body_size {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            body.extend_from_slice(&(state | 1).to_le_bytes());
        }
        body.truncate(self.body_size);
        body
    }
}

/// The id the properties name, if they are a message of the simulator.
pub fn id_of(properties: &[u8]) -> Option<MessageId> {
    read_mark(Properties::parse(properties).ok()?.message_id()?)
}

/// The delay that the headers of a delivered message tell, in milliseconds: it is negated once
/// it is over.
pub fn delay_over(headers: TableRef<'_>) -> Option<i64> {
    headers
        .get(DELAY)
        .and_then(Value::as_i64)
        .map(|delay| -delay)
}

/// The properties with another delay, in milliseconds, if they tell one at all.
///
/// # Panics
/// Never: properties that were read can be written.
pub fn with_delay(properties: &[u8], delay_millis: i32) -> Option<Vec<u8>> {
    let view = Properties::parse(properties).ok()?;
    let headers = view
        .headers()
        .filter(|headers| headers.get(DELAY).is_some())?;
    let changed = TableBuilder::new().copy_except(headers, &[DELAY]);
    let changed = changed.int(DELAY, delay_millis).build();
    let mut out = Vec::with_capacity(64);
    PropertiesBuilder::from_properties(view)
        .headers(changed.as_table_ref())
        .encode(&mut out)
        .expect("the properties were read");
    Some(out)
}

/// Whether a header is one that the simulator publishes.
pub fn is_own_header(key: &[u8]) -> bool {
    key == DELAY.as_bytes()
}

/// The properties without headers, which a broker adds to.
///
/// # Panics
/// Never: properties that were read can be written.
pub fn without_headers(properties: &[u8]) -> Option<Vec<u8>> {
    let view = Properties::parse(properties).ok()?;
    if view.headers().is_none() {
        return Some(properties.to_vec());
    }
    let mut out = Vec::with_capacity(64);
    PropertiesBuilder::from_properties(view)
        .without_headers()
        .encode(&mut out)
        .expect("the properties were read");
    Some(out)
}

/// Every id whose mark is in `bytes`.
pub fn ids_in(bytes: &[u8]) -> Vec<MessageId> {
    let mut ids = Vec::new();
    let mut start = 0;
    while let Some(offset) = bytes[start..].iter().position(|byte| *byte == MARK[0]) {
        start += offset;
        ids.extend(
            bytes
                .get(start..start + MARK_SIZE_BYTES)
                .and_then(read_mark),
        );
        start += 1;
    }
    ids
}

fn read_mark(mark: &[u8]) -> Option<MessageId> {
    let digits = mark.strip_prefix(MARK)?;
    let text = std::str::from_utf8(digits).ok()?;
    let plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain
        .then(|| u64::from_str_radix(text, 16).ok().map(MessageId))
        .flatten()
}

/// The priority with which a message is published.
fn priority_of(id: MessageId) -> Option<u8> {
    id.0.is_multiple_of(5)
        .then(|| u8::try_from(id.0 % 11).expect("it is below 11"))
}

/// Whether quorum queues hand the message out before others (RabbitMQ 4: priorities above 4).
pub fn is_urgent(id: MessageId) -> bool {
    priority_of(id).is_some_and(|priority| priority > 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_found_in_properties_and_in_any_bytes() {
        let id = MessageId(0xfeed);
        let payload = Payload {
            id,
            exchange: String::new(),
            key: "q".into(),
            persistent: true,
            body_size: 33,
            delay_millis: Some(5),
        };
        let properties = payload.properties();
        assert_eq!(id_of(&properties), Some(id));
        let bytes = [b"SSM#SM".as_slice(), &properties, &payload.body(), b"SM#12"].concat();
        assert_eq!(ids_in(&bytes), [id]);
    }
}
