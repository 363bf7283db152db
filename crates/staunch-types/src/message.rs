//! A message: where it was published, its properties as they came, and its body.
//!
//! The bytes live in one shared buffer and are never copied while a message is passed on. Two
//! layouts of that buffer exist: the frames of a publish as the socket delivered them, and the
//! stored form below, which the log keeps and delivery slices from.
//!
//! Stored form, version 1 (all integers big-endian):
//!
//! ```text
//! 0      1        2      4                8          8+e    8+e+r  8+e+r+p
//! ┌──────┬────────┬──────┬────────────────┬──────────┬──────┬──────┬──────┬────────────┐
//! │ e u8 │  r u8  │ flags│ p u32          │ exchange │ r.key│ prop.│ body │ blind keys │
//! └──────┴────────┴──────┴────────────────┴──────────┴──────┴──────┴──────┴────────────┘
//! ```
//!
//! Flags (u16): bit 0 says that the broker itself wrote the header `x-death`, so that what it
//! says is true; a client's own is not believed. Bit 1 says that blind keys follow the body, which
//! few messages have: the routing keys of the header `BCC`, which nobody is shown and dead letters
//! follow, each as its length (u8) and its bytes, and behind them their size together (u32). All
//! other bits are 0.

use bytes::{BufMut, Bytes};

/// Size of the fixed part of the stored form, in bytes.
pub const STORED_HEADER_SIZE_BYTES: usize = 8;

/// Largest body accepted by default, in bytes (RabbitMQ `max_message_size`).
pub const BODY_SIZE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Flag of the stored form: the header `x-death` is the broker's.
const FLAG_HAS_DIED: u16 = 1;

/// Flag of the stored form: blind keys follow the body.
const FLAG_HAS_BLIND_KEYS: u16 = 2;

/// Size of the size of the blind keys, in bytes.
const BLIND_KEYS_SIZE_SIZE_BYTES: u32 = 4;

/// A published message. A clone costs a counter.
#[derive(Clone, Debug)]
pub struct Message {
    buffer: Bytes,
    exchange_start: u32,
    routing_key_start: u32,
    properties: Span,
    body: Span,
    /// Of the blind keys behind the body, with the size behind them; 0 if there are none.
    blind_keys_size: u32,
    exchange_size: u8,
    routing_key_size: u8,
    has_died: bool,
}

// A message is moved several times on its road: it is one line of the processor's cache.
const _: () = assert!(size_of::<Message>() <= 64);

/// A slice of the buffer.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    size: u32,
}

/// Bytes that should hold a stored message do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredMessageError {
    /// They end too early.
    #[error("stored message of {size_bytes} bytes is shorter than its header says")]
    TooShort {
        /// Bytes that were there.
        size_bytes: usize,
    },
    /// A flag is set that this version does not know.
    #[error("stored message has unknown flags {flags:#06x}")]
    UnknownFlags {
        /// All the flags.
        flags: u16,
    },
}

impl Message {
    /// A message whose parts are slices of `buffer`: the zero-copy way in from the socket.
    ///
    /// # Panics
    /// If a part is no slice of `buffer`, or a name is longer than 255 bytes.
    pub fn from_parts(
        buffer: Bytes,
        exchange: &[u8],
        routing_key: &[u8],
        properties: &[u8],
        body: &[u8],
    ) -> Self {
        let span = |part: &[u8]| Span::within(&buffer, part);
        let (exchange, routing_key) = (span(exchange), span(routing_key));
        let short = |span: Span| u8::try_from(span.size).expect("names are short strings");
        Self {
            exchange_start: exchange.start,
            routing_key_start: routing_key.start,
            properties: span(properties),
            body: span(body),
            blind_keys_size: 0,
            exchange_size: short(exchange),
            routing_key_size: short(routing_key),
            has_died: false,
            buffer,
        }
    }

    /// A message with a buffer of its own, copied from its parts.
    ///
    /// # Panics
    /// If a name is longer than 255 bytes or the whole is 4 GiB or more.
    pub fn copied(exchange: &[u8], routing_key: &[u8], properties: &[u8], body: &[u8]) -> Self {
        copied([exchange, routing_key, properties, body], &[], 0)
    }

    /// As [`Message::copied`], for a message that has died in a queue and whose header `x-death`
    /// the broker has written.
    ///
    /// # Panics
    /// As [`Message::copied`].
    pub fn copied_with_deaths(
        exchange: &[u8],
        routing_key: &[u8],
        properties: &[u8],
        body: &[u8],
    ) -> Self {
        let parts = [exchange, routing_key, properties, body];
        copied(parts, &[], FLAG_HAS_DIED)
    }

    /// A message read back in its stored form.
    ///
    /// # Errors
    /// [`StoredMessageError`] when the lengths in the header exceed the buffer, or its flags are
    /// of another version.
    pub fn from_stored(buffer: Bytes) -> Result<Self, StoredMessageError> {
        let too_short = StoredMessageError::TooShort {
            size_bytes: buffer.len(),
        };
        let Some(header) = buffer.first_chunk::<STORED_HEADER_SIZE_BYTES>() else {
            return Err(too_short);
        };
        let flags = u16::from_be_bytes([header[2], header[3]]);
        if flags & !(FLAG_HAS_DIED | FLAG_HAS_BLIND_KEYS) != 0 {
            return Err(StoredMessageError::UnknownFlags { flags });
        }
        let properties_size = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let (exchange_size, routing_key_size) = (header[0], header[1]);
        let exchange_start = 8;
        let routing_key_start = exchange_start + u32::from(exchange_size);
        let properties = Span {
            start: routing_key_start + u32::from(routing_key_size),
            size: properties_size,
        };
        let end = u64::from(properties.start) + u64::from(properties_size);
        let total = u32::try_from(buffer.len()).map_err(|_| too_short)?;
        if end > u64::from(total) {
            return Err(too_short);
        }
        let mut body = Span {
            start: properties.end(),
            size: total - properties.end(),
        };
        let mut blind_keys_size = 0;
        if flags & FLAG_HAS_BLIND_KEYS != 0 {
            blind_keys_size = size_of_blind_keys(body.of(&buffer)).ok_or(too_short)?;
            body.size -= blind_keys_size;
        }
        Ok(Self {
            buffer,
            exchange_start,
            routing_key_start,
            properties,
            body,
            blind_keys_size,
            exchange_size,
            routing_key_size,
            has_died: flags & FLAG_HAS_DIED != 0,
        })
    }

    /// Name of the exchange it was published to.
    #[inline]
    pub fn exchange(&self) -> &[u8] {
        &self.buffer[self.exchange_start as usize..][..usize::from(self.exchange_size)]
    }

    /// Routing key it was published with.
    #[inline]
    pub fn routing_key(&self) -> &[u8] {
        &self.buffer[self.routing_key_start as usize..][..usize::from(self.routing_key_size)]
    }

    /// Property flags and property list exactly as the publisher sent them (AMQP 0-9-1, section
    /// 4.2.6.1); read through [`crate::properties`].
    #[inline]
    pub fn properties(&self) -> &[u8] {
        self.properties.of(&self.buffer)
    }

    /// The body.
    #[inline]
    pub fn body(&self) -> &[u8] {
        self.body.of(&self.buffer)
    }

    /// A copy with other properties.
    ///
    /// # Panics
    /// If the whole is 4 GiB or more.
    #[must_use]
    pub fn with_properties(&self, properties: &[u8]) -> Self {
        let parts = [self.exchange(), self.routing_key(), properties, self.body()];
        copied(parts, self.stored_blind_keys(), self.flags())
    }

    /// A copy with these blind keys in place of its own: routing keys that nobody is shown.
    ///
    /// # Panics
    /// If a key is longer than 255 bytes or the whole is 4 GiB or more.
    #[must_use]
    pub fn with_blind_keys<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) -> Self {
        let mut encoded = Vec::new();
        for key in keys {
            encoded.push(u8::try_from(key.len()).expect("a routing key is a short string"));
            encoded.extend_from_slice(key);
        }
        let mut flags = self.flags() & !FLAG_HAS_BLIND_KEYS;
        if !encoded.is_empty() {
            flags |= FLAG_HAS_BLIND_KEYS;
            let size = u32::try_from(encoded.len()).expect("a message is below 4 GiB");
            encoded.put_u32(size);
        }
        let properties = self.properties();
        let parts = [self.exchange(), self.routing_key(), properties, self.body()];
        copied(parts, &encoded, flags)
    }

    /// Further routing keys that nobody is shown (RabbitMQ, header `BCC`).
    pub fn blind_keys(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = self.stored_blind_keys();
        let keys_size = bytes
            .len()
            .saturating_sub(BLIND_KEYS_SIZE_SIZE_BYTES as usize);
        let mut rest = &bytes[..keys_size];
        std::iter::from_fn(move || {
            let (size, after) = rest.split_first()?;
            let (key, after) = after.split_at_checked(usize::from(*size))?;
            rest = after;
            Some(key)
        })
    }

    /// Whether its header `x-death` was written by the broker.
    pub fn has_died(&self) -> bool {
        self.has_died
    }

    /// Size of the stored form, in bytes.
    #[inline]
    pub fn stored_size_bytes(&self) -> usize {
        let names_size = usize::from(self.exchange_size) + usize::from(self.routing_key_size);
        let sizes = [self.properties.size, self.body.size, self.blind_keys_size];
        let parts_size: usize = sizes.iter().map(|size| *size as usize).sum();
        STORED_HEADER_SIZE_BYTES + names_size + parts_size
    }

    /// Appends the stored form to `out`.
    pub fn put_stored(&self, out: &mut impl BufMut) {
        let parts = [self.exchange(), self.routing_key(), self.properties()];
        put_stored_header(out, parts, self.flags());
        out.put_slice(self.body());
        if self.blind_keys_size > 0 {
            out.put_slice(self.stored_blind_keys());
        }
    }

    fn stored_blind_keys(&self) -> &[u8] {
        &self.buffer[self.body.end() as usize..][..self.blind_keys_size as usize]
    }

    fn flags(&self) -> u16 {
        let blind = if self.blind_keys_size > 0 {
            FLAG_HAS_BLIND_KEYS
        } else {
            0
        };
        (u16::from(self.has_died) * FLAG_HAS_DIED) | blind
    }
}

impl Span {
    fn within(buffer: &[u8], part: &[u8]) -> Self {
        if part.is_empty() {
            return Self::default();
        }
        let start = (part.as_ptr() as usize).wrapping_sub(buffer.as_ptr() as usize);
        let end = start.checked_add(part.len());
        assert!(
            end.is_some_and(|end| end <= buffer.len()),
            "a part must be a slice of the buffer"
        );
        let narrow = |n: usize| u32::try_from(n).expect("a message buffer is below 4 GiB");
        Self {
            start: narrow(start),
            size: narrow(part.len()),
        }
    }

    fn of(self, buffer: &Bytes) -> &[u8] {
        &buffer[self.start as usize..][..self.size as usize]
    }

    fn end(self) -> u32 {
        self.start + self.size
    }
}

/// Bytes that the blind keys at the end of `bytes` take, with the size behind them; none if they
/// are not there.
fn size_of_blind_keys(bytes: &[u8]) -> Option<u32> {
    let keys_size = u32::from_be_bytes(*bytes.last_chunk()?);
    let size = keys_size.checked_add(BLIND_KEYS_SIZE_SIZE_BYTES)?;
    (size as usize <= bytes.len()).then_some(size)
}

/// The message of these parts: exchange, routing key, properties, body; and its blind keys as
/// they are stored.
fn copied(parts: [&[u8]; 4], blind_keys: &[u8], flags: u16) -> Message {
    let [exchange, routing_key, properties, body] = parts;
    let size = exchange.len() + routing_key.len() + properties.len() + body.len();
    let mut stored = Vec::with_capacity(STORED_HEADER_SIZE_BYTES + size + blind_keys.len());
    put_stored_header(&mut stored, [exchange, routing_key, properties], flags);
    stored.extend_from_slice(body);
    stored.extend_from_slice(blind_keys);
    Message::from_stored(Bytes::from(stored)).expect("the header was written from the parts")
}

/// `parts` are exchange, routing key and properties.
fn put_stored_header(out: &mut impl BufMut, parts: [&[u8]; 3], flags: u16) {
    let [exchange, routing_key, props] = parts;
    let mut header = [0; STORED_HEADER_SIZE_BYTES];
    header[0] = u8::try_from(exchange.len()).expect("an exchange name is a short string");
    header[1] = u8::try_from(routing_key.len()).expect("a routing key is a short string");
    header[2..4].copy_from_slice(&flags.to_be_bytes());
    let props_size = u32::try_from(props.len()).expect("properties fit in a frame");
    header[4..].copy_from_slice(&props_size.to_be_bytes());
    out.put_slice(&header);
    out.put_slice(exchange);
    out.put_slice(routing_key);
    out.put_slice(props);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_form_gives_back_every_part() {
        let message = Message::copied(b"logs", b"a.b", b"\x10\x00\x02", b"hello");
        let mut stored = Vec::new();
        message.put_stored(&mut stored);
        assert_eq!(stored.len(), message.stored_size_bytes());
        let read = Message::from_stored(stored.into()).unwrap();
        assert_eq!(read.exchange(), b"logs");
        assert_eq!(read.routing_key(), b"a.b");
        assert_eq!(read.properties(), b"\x10\x00\x02");
        assert_eq!(read.body(), b"hello");
    }

    #[test]
    fn parts_are_slices_of_the_socket_buffer() {
        let buffer = Bytes::from_static(b"..ex.key..props..body");
        let message = Message::from_parts(
            buffer.clone(),
            &buffer[2..4],
            &buffer[5..8],
            &buffer[10..15],
            &buffer[17..],
        );
        assert_eq!(message.exchange(), b"ex");
        assert_eq!(message.body(), b"body");
        assert_eq!(message.body().as_ptr(), buffer[17..].as_ptr());
    }

    #[test]
    fn short_bytes_are_refused_never_a_panic() {
        let message = Message::copied(b"x", b"y", b"\0\0", b"");
        let mut stored = Vec::new();
        message.put_stored(&mut stored);
        for size in 0..stored.len() {
            let cut = Bytes::copy_from_slice(&stored[..size]);
            assert!(Message::from_stored(cut).is_err(), "cut at {size}");
        }
        assert!(Message::from_stored(Bytes::from_static(&[255; 64])).is_err());
    }

    #[test]
    fn only_the_broker_marks_a_message_as_dead_before() {
        let published = Message::copied(b"x", b"y", b"\0\0", b"b");
        assert!(!published.has_died());
        let dead = Message::copied_with_deaths(b"x", b"y", b"\0\0", b"b");
        let mut stored = Vec::new();
        dead.put_stored(&mut stored);
        assert!(Message::from_stored(stored.into()).unwrap().has_died());
    }

    #[test]
    fn blind_keys_are_kept_beside_the_body() {
        let published = Message::copied_with_deaths(b"x", b"y", b"\0\0", b"body");
        let keys = [&b"one"[..], b"", b"three"];
        let message = published.with_blind_keys(keys);
        let mut stored = Vec::new();
        message.put_stored(&mut stored);
        assert_eq!(stored.len(), message.stored_size_bytes());
        let read = Message::from_stored(stored.clone().into()).unwrap();
        assert_eq!((read.body(), read.has_died()), (&b"body"[..], true));
        assert!(read.blind_keys().eq(keys));
        let other = read.with_properties(b"\x10\x00\x02");
        assert_eq!(
            (other.body(), other.properties()),
            (&b"body"[..], &b"\x10\x00\x02"[..])
        );
        assert!(other.blind_keys().eq(keys));
        let none: [&[u8]; 0] = [];
        let without = other.with_blind_keys(none);
        assert_eq!(
            (without.blind_keys().count(), without.body()),
            (0, &b"body"[..])
        );
        // Where they end is said at the end.
        stored.pop();
        assert!(Message::from_stored(stored.into()).is_err());
    }

    #[test]
    fn unknown_flags_are_refused() {
        let mut stored = Vec::new();
        Message::copied(b"x", b"y", b"\0\0", b"b").put_stored(&mut stored);
        stored[2..4].copy_from_slice(&5_u16.to_be_bytes());
        let error = Message::from_stored(stored.into()).unwrap_err();
        assert_eq!(error, StoredMessageError::UnknownFlags { flags: 5 });
    }
}
