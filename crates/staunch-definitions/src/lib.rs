//! RabbitMQ definitions files: JSON in, catalog commands out, and back.
//!
//! A definitions file says what exists and who may do what, without messages. [`import`] reads
//! one of RabbitMQ 3.8 to 4.3, of a cluster or of a single virtual host, into [`CatalogCommand`]s
//! in an order in which each finds what it needs. It merges: nothing is ever deleted, what is
//! there already and equal is fine. [`export`] writes one that RabbitMQ imports.

mod entries;
mod export;
mod import;
mod value;

pub use export::{export, parameters};
pub use import::{Import, ImportError, Planned, Verdict, import};
pub use value::{InvalidValue, from_json, to_json, value_to_json};

#[cfg(doc)]
use staunch_broker::CatalogCommand;
