//! An exchange as the catalog knows it, and those that are always there.

use staunch_types::{ExchangeKind, ExchangeOptions, FieldTable, Name};

use crate::exchange::{Router, Seeded};

/// Argument that names where unroutable messages go.
pub(super) const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// Exchanges of every virtual host besides the default one: name, kind, internal.
pub(super) const PREDECLARED: [(&str, ExchangeKind, bool); 7] = [
    ("", ExchangeKind::Direct, false),
    ("amq.direct", ExchangeKind::Direct, false),
    ("amq.fanout", ExchangeKind::Fanout, false),
    ("amq.headers", ExchangeKind::Headers, false),
    ("amq.match", ExchangeKind::Headers, false),
    ("amq.rabbitmq.trace", ExchangeKind::Topic, true),
    ("amq.topic", ExchangeKind::Topic, false),
];

/// An exchange.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) options: ExchangeOptions,
    /// Where messages go that no binding matches.
    pub(super) alternate: Option<Name>,
    pub(super) router: Router,
}

impl Exchange {
    pub(super) fn new(kind: ExchangeKind, options: &ExchangeOptions, hasher: Seeded) -> Self {
        let alternate = options.arguments.get(ALTERNATE_EXCHANGE);
        let alternate = alternate.and_then(|value| Name::new(value.as_str()?.as_bytes()).ok());
        let options = ExchangeOptions {
            arguments: options.arguments.as_table_ref().to_field_table(),
            ..options.clone()
        };
        Self {
            options,
            alternate,
            router: Router::new(kind, hasher),
        }
    }

    pub(super) fn predeclared(kind: ExchangeKind, internal: bool, hasher: Seeded) -> Self {
        let options = ExchangeOptions {
            kind: Name::from_static(kind.name()),
            durable: true,
            auto_delete: false,
            internal,
            arguments: FieldTable::default(),
        };
        Self::new(kind, &options, hasher)
    }
}

/// Names that only the broker may make or delete.
pub(super) fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(b"amq.")
}
