//! Changes of the catalog, and their bytes: the one owner of this layout.
//!
//! Version 5. Integers are big-endian; a name is its length (u8) and its bytes; arguments are
//! their size (u32) and an AMQP field table. Commands of a noun of their own have a second kind byte.
//!
//! ```text
//! 0         1      2
//! ┌─────────┬──────┬───────────────────────────────────────────────┐
//! │ version │ kind │ fields of the kind, in the order of the enum  │
//! └─────────┴──────┴───────────────────────────────────────────────┘
//! ```

use staunch_types::request::Destination;
use staunch_types::{ConnectionId, ExchangeOptions, Name, QueueId, QueueOptions};

use super::binding::Binding;
use super::placement::Placement;
use super::{
    NodeCommand, PARTITIONS_MAX, ParameterCommand, PermissionCommand, PolicyCommand, UserCommand,
    VhostCommand,
};
use crate::encoding::{DecodeError, Reader, Writer};

/// Version of the layout that [`CatalogCommand::encode`] writes.
const COMMAND_VERSION: u8 = 5;

/// A change of the catalog.
#[derive(Clone, Debug, PartialEq)]
pub enum CatalogCommand {
    /// Create a virtual host with its predeclared exchanges, unless it is there.
    CreateVhost {
        /// Its name.
        vhost: Name,
    },
    /// Delete a virtual host and everything in it; a missing one is no error.
    DeleteVhost {
        /// Its name.
        vhost: Name,
    },
    /// `exchange.declare`.
    DeclareExchange {
        /// Virtual host.
        vhost: Name,
        /// Its name.
        name: Name,
        /// What it shall be.
        options: ExchangeOptions,
        /// The id that the queue of its delayed messages gets if it delays:
        /// [`Catalog::next_queue_id`](super::Catalog::next_queue_id).
        delay_queue: QueueId,
        /// Where that queue is kept.
        placement: Placement,
    },
    /// `exchange.delete`; a missing one is no error.
    DeleteExchange {
        /// Virtual host.
        vhost: Name,
        /// Its name.
        name: Name,
        /// Refuse while something is bound to it as its source.
        if_unused: bool,
    },
    /// `queue.bind`, `exchange.bind`.
    Bind {
        /// Virtual host.
        vhost: Name,
        /// What to bind.
        binding: Binding,
    },
    /// `queue.unbind`, `exchange.unbind`; a missing binding, or end of it, is no error.
    Unbind {
        /// Virtual host.
        vhost: Name,
        /// What to unbind.
        binding: Binding,
    },
    /// `queue.declare`.
    DeclareQueue {
        /// Virtual host.
        vhost: Name,
        /// Its name.
        name: Name,
        /// The id it gets if it is created: [`Catalog::next_queue_id`](super::Catalog::next_queue_id).
        id: QueueId,
        /// The server made the name up, so the reserved prefix is allowed.
        server_named: bool,
        /// What it shall be.
        options: QueueOptions,
        /// The declaring connection if `options.exclusive`, else none.
        owner: Option<ConnectionId>,
        /// Where it is kept; [`Placement::HERE`] if it is to have partitions.
        placement: Placement,
        /// Where each of the partitions is kept that `options` ask for.
        partitions: Vec<Placement>,
    },
    /// `queue.delete`; a missing one is no error. Who may delete it, and whether it is unused
    /// or empty, is checked before.
    DeleteQueue {
        /// Virtual host.
        vhost: Name,
        /// Its name.
        name: Name,
    },
    /// Metadata and limits of a virtual host.
    Vhost(VhostCommand),
    /// Users.
    User(UserCommand),
    /// What users may do.
    Permission(PermissionCommand),
    /// Policies and operator policies.
    Policy(PolicyCommand),
    /// Runtime parameters.
    Parameter(ParameterCommand),
    /// Nodes of the cluster, and what they decide.
    Node(NodeCommand),
}

impl CatalogCommand {
    /// Appends the command's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(COMMAND_VERSION);
        match self {
            Self::CreateVhost { .. }
            | Self::DeleteVhost { .. }
            | Self::DeclareExchange { .. }
            | Self::DeleteExchange { .. }
            | Self::Bind { .. }
            | Self::Unbind { .. }
            | Self::DeclareQueue { .. }
            | Self::DeleteQueue { .. } => self.encode_topology(out),
            Self::Vhost(command) => {
                out.put_u8(9);
                command.encode(out);
            }
            Self::User(command) => {
                out.put_u8(10);
                command.encode(out);
            }
            Self::Permission(command) => {
                out.put_u8(11);
                command.encode(out);
            }
            Self::Policy(command) => {
                out.put_u8(12);
                command.encode(out);
            }
            Self::Parameter(command) => {
                out.put_u8(13);
                command.encode(out);
            }
            Self::Node(command) => {
                out.put_u8(14);
                command.encode(out);
            }
        }
    }

    fn encode_topology(&self, out: &mut Vec<u8>) {
        match self {
            Self::CreateVhost { vhost } => {
                out.put_u8(1);
                out.put_name(vhost);
            }
            Self::DeleteVhost { vhost } => {
                out.put_u8(2);
                out.put_name(vhost);
            }
            Self::DeclareExchange {
                vhost,
                name,
                options,
                delay_queue,
                placement,
            } => {
                out.put_u8(3);
                out.put_name(vhost);
                out.put_name(name);
                put_exchange_options(options, out);
                out.put_u64(delay_queue.0);
                placement.encode(out);
            }
            Self::DeleteExchange {
                vhost,
                name,
                if_unused,
            } => {
                out.put_u8(4);
                out.put_name(vhost);
                out.put_name(name);
                out.put_bool(*if_unused);
            }
            Self::Bind { vhost, binding } => {
                out.put_u8(5);
                out.put_name(vhost);
                put_binding(binding, out);
            }
            Self::Unbind { vhost, binding } => {
                out.put_u8(6);
                out.put_name(vhost);
                put_binding(binding, out);
            }
            Self::DeclareQueue {
                vhost,
                name,
                id,
                server_named,
                options,
                owner,
                placement,
                partitions,
            } => {
                out.put_u8(7);
                out.put_name(vhost);
                out.put_name(name);
                out.put_u64(id.0);
                out.put_bool(*server_named);
                put_queue_options(options, out);
                out.put_bool(owner.is_some());
                out.put_u64(owner.map_or(0, |owner| owner.0));
                put_placements(placement, partitions, out);
            }
            Self::DeleteQueue { vhost, name } => {
                out.put_u8(8);
                out.put_name(vhost);
                out.put_name(name);
            }
            _ => unreachable!("encoded by the caller"),
        }
    }

    /// Reads what [`CatalogCommand::encode`] wrote; `bytes` hold exactly one command.
    ///
    /// # Errors
    /// [`DecodeError`] on any other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version(COMMAND_VERSION)?;
        let command = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(command)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8()? {
            kind @ 1..=8 => Self::read_topology(kind, reader),
            9 => VhostCommand::read(reader).map(Self::Vhost),
            10 => UserCommand::read(reader).map(Self::User),
            11 => PermissionCommand::read(reader).map(Self::Permission),
            12 => PolicyCommand::read(reader).map(Self::Policy),
            13 => ParameterCommand::read(reader).map(Self::Parameter),
            14 => NodeCommand::read(reader).map(Self::Node),
            kind => Err(DecodeError::UnknownKind { kind }),
        }
    }

    fn read_topology(kind: u8, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let vhost = reader.name()?;
        Ok(match kind {
            1 => Self::CreateVhost { vhost },
            2 => Self::DeleteVhost { vhost },
            3 => Self::DeclareExchange {
                vhost,
                name: reader.name()?,
                options: read_exchange_options(reader)?,
                delay_queue: QueueId(reader.u64()?),
                placement: Placement::read(reader)?,
            },
            4 => Self::DeleteExchange {
                vhost,
                name: reader.name()?,
                if_unused: reader.bool()?,
            },
            5 => Self::Bind {
                vhost,
                binding: read_binding(reader)?,
            },
            6 => Self::Unbind {
                vhost,
                binding: read_binding(reader)?,
            },
            7 => {
                let name = reader.name()?;
                let id = QueueId(reader.u64()?);
                let server_named = reader.bool()?;
                let options = read_queue_options(reader)?;
                let is_owned = reader.bool()?;
                let connection = ConnectionId(reader.u64()?);
                let owner = is_owned.then_some(connection);
                let placement = Placement::read(reader)?;
                let partitions = read_placements(reader)?;
                Self::DeclareQueue {
                    vhost,
                    name,
                    id,
                    server_named,
                    options,
                    owner,
                    placement,
                    partitions,
                }
            }
            8 => Self::DeleteQueue {
                vhost,
                name: reader.name()?,
            },
            kind => return Err(DecodeError::UnknownKind { kind }),
        })
    }
}

fn put_exchange_options(options: &ExchangeOptions, out: &mut Vec<u8>) {
    out.put_name(&options.kind);
    out.put_bool(options.durable);
    out.put_bool(options.auto_delete);
    out.put_bool(options.internal);
    out.put_table(&options.arguments);
}

fn read_exchange_options(reader: &mut Reader<'_>) -> Result<ExchangeOptions, DecodeError> {
    Ok(ExchangeOptions {
        kind: reader.name()?,
        durable: reader.bool()?,
        auto_delete: reader.bool()?,
        internal: reader.bool()?,
        arguments: reader.table()?,
    })
}

fn put_placements(whole: &Placement, partitions: &[Placement], out: &mut Vec<u8>) {
    whole.encode(out);
    out.put_u8(u8::try_from(partitions.len()).expect("partitions are few"));
    for placement in partitions {
        placement.encode(out);
    }
}

fn read_placements(reader: &mut Reader<'_>) -> Result<Vec<Placement>, DecodeError> {
    let count = reader.u8()?;
    if count > PARTITIONS_MAX {
        return Err(DecodeError::OutOfRange);
    }
    (0..count).map(|_| Placement::read(reader)).collect()
}

fn put_queue_options(options: &QueueOptions, out: &mut Vec<u8>) {
    out.put_bool(options.durable);
    out.put_bool(options.exclusive);
    out.put_bool(options.auto_delete);
    out.put_table(&options.arguments);
}

fn read_queue_options(reader: &mut Reader<'_>) -> Result<QueueOptions, DecodeError> {
    Ok(QueueOptions {
        durable: reader.bool()?,
        exclusive: reader.bool()?,
        auto_delete: reader.bool()?,
        arguments: reader.table()?,
    })
}

fn put_binding(binding: &Binding, out: &mut Vec<u8>) {
    out.put_name(&binding.source);
    match &binding.destination {
        Destination::Queue(name) => {
            out.put_u8(0);
            out.put_name(name);
        }
        Destination::Exchange(name) => {
            out.put_u8(1);
            out.put_name(name);
        }
    }
    out.put_name(&binding.routing_key);
    out.put_table(&binding.arguments);
}

fn read_binding(reader: &mut Reader<'_>) -> Result<Binding, DecodeError> {
    let source = reader.name()?;
    let destination = match reader.u8()? {
        0 => Destination::Queue(reader.name()?),
        1 => Destination::Exchange(reader.name()?),
        kind => return Err(DecodeError::UnknownKind { kind }),
    };
    let routing_key = reader.name()?;
    let arguments = reader.table()?;
    Ok(Binding {
        source,
        destination,
        routing_key,
        arguments,
    })
}
