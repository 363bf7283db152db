//! The basic properties of a message: the byte layout after the body size in a content header.
//!
//! Most messages carry `delivery_mode` and nothing else, and the broker reads two or three
//! properties at most. So the bytes stay as they arrived; [`Properties`] is a view that checks
//! them once and finds a property by walking over those before it.
//!
//! Layout (AMQP 0-9-1, 4.2.6.1): `flags: u16`, then each present property in the order of its
//! flag, the highest bit first.

use std::fmt;

use bytes::Bytes;

use crate::field_table::{TableError, TableRef};

/// The flags of a message with a delivery mode and nothing else.
const FLAGS_DELIVERY_MODE_ONLY: u16 = Property::DeliveryMode.flag();

/// Bit 1 is not assigned and bit 0 announces a second word of flags, which basic never has.
const FLAGS_UNASSIGNED: u16 = 0b11;

/// The encoded form of no properties at all.
pub const NO_PROPERTIES: &[u8] = &[0, 0];

/// Why bytes are not a list of basic properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    /// The bytes end inside a property or before the flags.
    #[error("property list is truncated")]
    Truncated,
    /// A flag is set that the basic class does not define.
    #[error("property flags {flags:#06x} have unassigned bits")]
    UnassignedFlags {
        /// All the flags.
        flags: u16,
    },
    /// Bytes follow the last property.
    #[error("{count} bytes follow the property list")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// The headers are not a field table.
    #[error("headers: {0}")]
    Headers(#[from] TableError),
    /// A string given to a builder is longer than 255 bytes.
    #[error("property {name} is longer than 255 bytes")]
    TooLong {
        /// The property.
        name: &'static str,
    },
}

/// The encoded form of a property's value.
#[derive(Clone, Copy)]
enum Form {
    ShortStr,
    Octet,
    Timestamp,
    Table,
}

/// The basic properties in the order of their flags; the discriminant is the position.
#[derive(Clone, Copy)]
enum Property {
    ContentType,
    ContentEncoding,
    Headers,
    DeliveryMode,
    Priority,
    CorrelationId,
    ReplyTo,
    Expiration,
    MessageId,
    Timestamp,
    Type,
    UserId,
    AppId,
    ClusterId,
}

const PROPERTY_COUNT: usize = 14;

const FORMS: [Form; PROPERTY_COUNT] = [
    Form::ShortStr,
    Form::ShortStr,
    Form::Table,
    Form::Octet,
    Form::Octet,
    Form::ShortStr,
    Form::ShortStr,
    Form::ShortStr,
    Form::ShortStr,
    Form::Timestamp,
    Form::ShortStr,
    Form::ShortStr,
    Form::ShortStr,
    Form::ShortStr,
];

impl Property {
    const fn flag(self) -> u16 {
        0x8000 >> self as u16
    }
}

/// An owned property list that has been checked. Cheap to clone; equal when its bytes are.
#[derive(Clone, PartialEq, Eq)]
pub struct PropertyList(Bytes);

impl PropertyList {
    /// Checks `encoded` (flags and properties) and wraps it; nothing is copied.
    ///
    /// # Errors
    /// As [`Properties::parse`].
    pub fn parse(encoded: Bytes) -> Result<Self, PropertiesError> {
        Properties::parse(&encoded)?;
        Ok(Self(encoded))
    }

    /// Wraps bytes that [`PropertyList::parse`] or [`Properties::parse`] accepted earlier.
    #[must_use]
    pub fn from_validated(encoded: Bytes) -> Self {
        Self(encoded)
    }

    /// The properties, borrowed.
    #[must_use]
    pub fn view(&self) -> Properties<'_> {
        Properties::from_validated(&self.0)
    }

    /// The flags and the properties, as in a content header after the body size.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Default for PropertyList {
    fn default() -> Self {
        Self(Bytes::from_static(NO_PROPERTIES))
    }
}

impl fmt::Debug for PropertyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

/// A borrowed property list. Strings are bytes: neither AMQP nor `RabbitMQ` insists on UTF-8.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Properties<'a> {
    flags: u16,
    encoded: &'a [u8],
}

impl<'a> Properties<'a> {
    /// Checks `encoded`: flags and properties, as in a content header after the body size.
    ///
    /// # Errors
    /// [`PropertiesError`], all but `TooLong`.
    #[inline]
    pub fn parse(encoded: &'a [u8]) -> Result<Self, PropertiesError> {
        let properties = Self::from_validated(encoded);
        if properties.flags == FLAGS_DELIVERY_MODE_ONLY && encoded.len() == 3 {
            return Ok(properties);
        }
        properties.validate()?;
        Ok(properties)
    }

    /// Views bytes that [`Properties::parse`] accepted earlier. On any other bytes nothing
    /// panics, but properties may be missing.
    #[inline]
    #[must_use]
    pub fn from_validated(encoded: &'a [u8]) -> Self {
        let flags = encoded
            .first_chunk()
            .map_or(0, |flags| u16::from_be_bytes(*flags));
        Self { flags, encoded }
    }

    /// The flags and the properties.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.encoded
    }

    /// Whether none of the properties is set that decide where a message may go or what becomes of
    /// it: headers, `reply_to`, `expiration`, `user_id`.
    #[inline]
    #[must_use]
    pub fn is_plain(self) -> bool {
        const DECISIVE: u16 = Property::Headers.flag()
            | Property::ReplyTo.flag()
            | Property::Expiration.flag()
            | Property::UserId.flag();
        self.flags & DECISIVE == 0
    }

    /// Whether no property is set.
    pub fn is_empty(self) -> bool {
        self.flags == 0
    }

    /// MIME type of the body.
    pub fn content_type(self) -> Option<&'a [u8]> {
        self.short_string(Property::ContentType)
    }

    /// MIME encoding of the body.
    pub fn content_encoding(self) -> Option<&'a [u8]> {
        self.short_string(Property::ContentEncoding)
    }

    /// Whether a queue has to know of it: a priority or an expiration is set.
    #[inline]
    #[must_use]
    pub fn concerns_queues(self) -> bool {
        const QUEUED: u16 = Property::Priority.flag() | Property::Expiration.flag();
        self.flags & QUEUED != 0
    }

    /// Whether there are headers.
    #[inline]
    #[must_use]
    pub fn has_headers(self) -> bool {
        self.flags & Property::Headers.flag() != 0
    }

    /// The headers; checked already, so reading them cannot fail.
    pub fn headers(self) -> Option<TableRef<'a>> {
        let (size, rest) = self.find(Property::Headers)?.split_first_chunk()?;
        let size = usize::try_from(u32::from_be_bytes(*size)).ok()?;
        Some(TableRef::from_validated(rest.get(..size)?))
    }

    /// 1 transient, 2 persistent; other values pass unchanged.
    #[inline]
    pub fn delivery_mode(self) -> Option<u8> {
        if self.flags == FLAGS_DELIVERY_MODE_ONLY {
            return self.encoded.get(2).copied();
        }
        self.find(Property::DeliveryMode)?.first().copied()
    }

    /// Priority as sent; a queue caps it at its own maximum.
    pub fn priority(self) -> Option<u8> {
        self.find(Property::Priority)?.first().copied()
    }

    /// What a reply refers to.
    pub fn correlation_id(self) -> Option<&'a [u8]> {
        self.short_string(Property::CorrelationId)
    }

    /// The queue for replies.
    pub fn reply_to(self) -> Option<&'a [u8]> {
        self.short_string(Property::ReplyTo)
    }

    /// Time to live: milliseconds in decimal digits, not checked here.
    pub fn expiration(self) -> Option<&'a [u8]> {
        self.short_string(Property::Expiration)
    }

    /// The application's own id.
    pub fn message_id(self) -> Option<&'a [u8]> {
        self.short_string(Property::MessageId)
    }

    /// Seconds since 1970, as the publisher set it.
    pub fn timestamp(self) -> Option<u64> {
        let bytes = self.find(Property::Timestamp)?.first_chunk()?;
        Some(u64::from_be_bytes(*bytes))
    }

    /// The application's own message type (`type`).
    pub fn message_type(self) -> Option<&'a [u8]> {
        self.short_string(Property::Type)
    }

    /// The publishing user, which `RabbitMQ` compares with the authenticated one.
    pub fn user_id(self) -> Option<&'a [u8]> {
        self.short_string(Property::UserId)
    }

    /// The publishing application.
    pub fn app_id(self) -> Option<&'a [u8]> {
        self.short_string(Property::AppId)
    }

    /// Deprecated by AMQP; carried through.
    pub fn cluster_id(self) -> Option<&'a [u8]> {
        self.short_string(Property::ClusterId)
    }

    fn validate(self) -> Result<(), PropertiesError> {
        if self.encoded.len() < 2 {
            return Err(PropertiesError::Truncated);
        }
        if self.flags & FLAGS_UNASSIGNED != 0 {
            return Err(PropertiesError::UnassignedFlags { flags: self.flags });
        }
        let end = self
            .offset_after(PROPERTY_COUNT)
            .ok_or(PropertiesError::Truncated)?;
        let count = self
            .encoded
            .len()
            .checked_sub(end)
            .ok_or(PropertiesError::Truncated)?;
        if count > 0 {
            return Err(PropertiesError::TrailingBytes { count });
        }
        if let Some(headers) = self.headers() {
            TableRef::parse(headers.as_bytes())?;
        }
        Ok(())
    }

    /// The bytes from the value of `property` on, if it is present.
    fn find(self, property: Property) -> Option<&'a [u8]> {
        if self.flags & property.flag() == 0 {
            return None;
        }
        self.encoded.get(self.offset_after(property as usize)?..)
    }

    fn short_string(self, property: Property) -> Option<&'a [u8]> {
        let (&size, rest) = self.find(property)?.split_first()?;
        rest.get(..usize::from(size))
    }

    /// Where the first `count` properties end. The last of them may reach past the end of the
    /// bytes; `None` when even its length does.
    fn offset_after(self, count: usize) -> Option<usize> {
        let mut offset = 2_usize;
        // Only the bits of the first `count` properties, the first as the highest bit.
        let mut flags = self.flags & !(0xffff_u16 >> count);
        while flags != 0 {
            let position = flags.leading_zeros();
            flags &= !(0x8000 >> position);
            let size = match FORMS.get(position as usize)? {
                Form::Octet => 1,
                Form::Timestamp => 8,
                Form::ShortStr => 1 + usize::from(*self.encoded.get(offset)?),
                Form::Table => {
                    let size = self.encoded.get(offset..)?.first_chunk()?;
                    usize::try_from(u32::from_be_bytes(*size))
                        .ok()?
                        .checked_add(4)?
                }
            };
            offset = offset.checked_add(size)?;
        }
        Some(offset)
    }
}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        let strings = [
            ("content_type", self.content_type()),
            ("content_encoding", self.content_encoding()),
            ("correlation_id", self.correlation_id()),
            ("reply_to", self.reply_to()),
            ("expiration", self.expiration()),
            ("message_id", self.message_id()),
            ("type", self.message_type()),
            ("user_id", self.user_id()),
            ("app_id", self.app_id()),
            ("cluster_id", self.cluster_id()),
        ];
        for (name, value) in strings {
            if let Some(value) = value {
                map.entry(&name, &format_args!("\"{}\"", value.escape_ascii()));
            }
        }
        if let Some(headers) = self.headers() {
            map.entry(&"headers", &headers);
        }
        if let Some(mode) = self.delivery_mode() {
            map.entry(&"delivery_mode", &mode);
        }
        if let Some(priority) = self.priority() {
            map.entry(&"priority", &priority);
        }
        if let Some(timestamp) = self.timestamp() {
            map.entry(&"timestamp", &timestamp);
        }
        map.finish()
    }
}

/// Builds a [`PropertyList`]; the last value set for a property counts.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct PropertiesBuilder<'a> {
    content_type: Option<&'a [u8]>,
    content_encoding: Option<&'a [u8]>,
    headers: Option<TableRef<'a>>,
    delivery_mode: Option<u8>,
    priority: Option<u8>,
    correlation_id: Option<&'a [u8]>,
    reply_to: Option<&'a [u8]>,
    expiration: Option<&'a [u8]>,
    message_id: Option<&'a [u8]>,
    timestamp: Option<u64>,
    message_type: Option<&'a [u8]>,
    user_id: Option<&'a [u8]>,
    app_id: Option<&'a [u8]>,
    cluster_id: Option<&'a [u8]>,
}

/// A setter of a string property.
macro_rules! string_setters {
    ($($name:ident),*) => {$(
        #[doc = concat!("Sets `", stringify!($name), "`; see [`Properties::", stringify!($name), "`].")]
        pub fn $name(mut self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
            self.$name = Some(value.as_ref());
            self
        }
    )*};
}

impl<'a> PropertiesBuilder<'a> {
    /// No properties.
    pub fn new() -> Self {
        Self::default()
    }

    /// All the properties of an existing message, to change some of them.
    pub fn from_properties(source: Properties<'a>) -> Self {
        Self {
            content_type: source.content_type(),
            content_encoding: source.content_encoding(),
            headers: source.headers(),
            delivery_mode: source.delivery_mode(),
            priority: source.priority(),
            correlation_id: source.correlation_id(),
            reply_to: source.reply_to(),
            expiration: source.expiration(),
            message_id: source.message_id(),
            timestamp: source.timestamp(),
            message_type: source.message_type(),
            user_id: source.user_id(),
            app_id: source.app_id(),
            cluster_id: source.cluster_id(),
        }
    }

    string_setters!(
        content_type,
        content_encoding,
        correlation_id,
        reply_to,
        expiration,
        message_id,
        message_type,
        user_id,
        app_id,
        cluster_id
    );

    /// Sets the headers.
    pub fn headers(mut self, headers: TableRef<'a>) -> Self {
        self.headers = Some(headers);
        self
    }

    /// Removes the headers.
    pub fn without_headers(mut self) -> Self {
        self.headers = None;
        self
    }

    /// Sets the delivery mode: 1 transient, 2 persistent.
    pub fn delivery_mode(mut self, mode: u8) -> Self {
        self.delivery_mode = Some(mode);
        self
    }

    /// Sets the priority.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Sets the time in seconds since 1970.
    pub fn timestamp(mut self, seconds: u64) -> Self {
        self.timestamp = Some(seconds);
        self
    }

    /// Removes the expiration, as dead-lettering does.
    pub fn without_expiration(mut self) -> Self {
        self.expiration = None;
        self
    }

    /// The encoded properties.
    ///
    /// # Errors
    /// [`PropertiesError::TooLong`].
    pub fn build(self) -> Result<PropertyList, PropertiesError> {
        let mut out = Vec::with_capacity(64);
        self.encode(&mut out)?;
        Ok(PropertyList(Bytes::from(out)))
    }

    /// Appends the encoded properties to `out`.
    ///
    /// # Errors
    /// [`PropertiesError::TooLong`]; `out` then ends with a partial list.
    pub fn encode(self, out: &mut Vec<u8>) -> Result<(), PropertiesError> {
        let mut list = Encoder {
            start: out.len(),
            flags: 0,
            out,
        };
        list.out.extend_from_slice(NO_PROPERTIES);
        list.string(Property::ContentType, "content_type", self.content_type)?;
        list.string(
            Property::ContentEncoding,
            "content_encoding",
            self.content_encoding,
        )?;
        if let Some(headers) = self.headers {
            list.headers(headers);
        }
        list.fixed(Property::DeliveryMode, self.delivery_mode.map(|v| [v]));
        list.fixed(Property::Priority, self.priority.map(|v| [v]));
        list.string(
            Property::CorrelationId,
            "correlation_id",
            self.correlation_id,
        )?;
        list.string(Property::ReplyTo, "reply_to", self.reply_to)?;
        list.string(Property::Expiration, "expiration", self.expiration)?;
        list.string(Property::MessageId, "message_id", self.message_id)?;
        list.fixed(Property::Timestamp, self.timestamp.map(u64::to_be_bytes));
        list.string(Property::Type, "type", self.message_type)?;
        list.string(Property::UserId, "user_id", self.user_id)?;
        list.string(Property::AppId, "app_id", self.app_id)?;
        list.string(Property::ClusterId, "cluster_id", self.cluster_id)?;
        list.finish();
        Ok(())
    }
}

/// Appends properties in order and writes the flags last.
struct Encoder<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    flags: u16,
}

impl Encoder<'_> {
    fn string(
        &mut self,
        property: Property,
        name: &'static str,
        value: Option<&[u8]>,
    ) -> Result<(), PropertiesError> {
        let Some(value) = value else { return Ok(()) };
        let size = u8::try_from(value.len()).map_err(|_| PropertiesError::TooLong { name })?;
        self.flags |= property.flag();
        self.out.push(size);
        self.out.extend_from_slice(value);
        Ok(())
    }

    fn fixed<const N: usize>(&mut self, property: Property, value: Option<[u8; N]>) {
        if let Some(bytes) = value {
            self.flags |= property.flag();
            self.out.extend_from_slice(&bytes);
        }
    }

    fn headers(&mut self, headers: TableRef<'_>) {
        let size = u32::try_from(headers.as_bytes().len()).expect("no header reaches 4 GiB");
        self.flags |= Property::Headers.flag();
        self.out.extend_from_slice(&size.to_be_bytes());
        self.out.extend_from_slice(headers.as_bytes());
    }

    fn finish(self) {
        self.out[self.start..self.start + 2].copy_from_slice(&self.flags.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field_table::TableBuilder;

    #[test]
    fn delivery_mode_only() {
        let list = PropertiesBuilder::new().delivery_mode(2).build().unwrap();
        assert_eq!(list.as_bytes()[..], [0x10, 0, 2]);
        let view = Properties::parse(list.as_bytes()).unwrap();
        assert_eq!(view.delivery_mode(), Some(2));
        assert_eq!(view.priority(), None);
        assert!(view.is_plain() && !view.concerns_queues() && !view.has_headers());
    }

    #[test]
    fn everything_reads_back() {
        let headers = TableBuilder::new().longstr("k", "v").build();
        let list = PropertiesBuilder::new()
            .content_type("text/plain")
            .content_encoding("gzip")
            .headers(headers.as_table_ref())
            .delivery_mode(1)
            .priority(9)
            .correlation_id("c")
            .reply_to("r")
            .expiration("60000")
            .message_id("m")
            .timestamp(1_700_000_000)
            .message_type("t")
            .user_id("guest")
            .app_id("a")
            .cluster_id("cl")
            .build()
            .unwrap();
        let list = PropertyList::parse(list.as_bytes().clone()).unwrap();
        assert_eq!(list.as_bytes()[..2], [0xff, 0xfc]);
        assert!(!list.view().is_plain() && list.view().has_headers());
        let priority = PropertiesBuilder::new().priority(0).build().unwrap();
        let expiration = PropertiesBuilder::new().expiration("").build().unwrap();
        assert!(priority.view().concerns_queues() && expiration.view().concerns_queues());
        let view = list.view();
        assert_eq!(view.expiration(), Some(&b"60000"[..]));
        assert_eq!(view.timestamp(), Some(1_700_000_000));
        assert_eq!(view.cluster_id(), Some(&b"cl"[..]));
        assert_eq!(view.headers().unwrap(), headers.as_table_ref());
        assert_eq!(
            PropertiesBuilder::from_properties(view).build().unwrap(),
            list
        );
        let without = PropertiesBuilder::from_properties(view)
            .without_expiration()
            .build();
        assert_eq!(without.unwrap().view().expiration(), None);
    }

    #[test]
    fn malformed_lists_are_refused() {
        for (bytes, error) in [
            (&b""[..], PropertiesError::Truncated),
            (b"\x10", PropertiesError::Truncated),
            (b"\x10\0", PropertiesError::Truncated),
            (b"\x10\0\x02x", PropertiesError::TrailingBytes { count: 1 }),
            (b"\0\x01", PropertiesError::UnassignedFlags { flags: 1 }),
            (b"\0\x02", PropertiesError::UnassignedFlags { flags: 2 }),
            (b"\x80\0\x05abc", PropertiesError::Truncated),
            (b"\0\x40\0\0\0", PropertiesError::Truncated),
            (
                b"\x20\0\0\0\0\x03\x01aU",
                PropertiesError::Headers(TableError::UnknownType(b'U')),
            ),
            (b"\x20\0\xff\xff\xff\xff", PropertiesError::Truncated),
        ] {
            assert_eq!(
                Properties::parse(bytes),
                Err(error),
                "{}",
                bytes.escape_ascii()
            );
        }
        let long = PropertiesBuilder::new().message_id(&[b'm'; 256]).build();
        assert_eq!(long, Err(PropertiesError::TooLong { name: "message_id" }));
    }
}
