//! Snapshots of the catalog: what survives a restart, or all of it, and their bytes.
//!
//! A snapshot is the shortest list of commands that makes the same things again, in an order that
//! never refers to what is not there yet. So there is one layout for both. A node that stands alone
//! keeps what is durable; one of several keeps everything, for all of them must hold the same.
//! The nodes are part of a whole snapshot only.
//!
//! ```text
//! 0         1                9
//! ┌─────────┬────────────────┬──────────────────────────────────────┐
//! │ version │ next queue id  │ per command: size u32, command       │
//! └─────────┴────────────────┴──────────────────────────────────────┘
//! 0         1                9                   26         30          30+n
//! ┌─────────┬────────────────┬───────────────────┬──────────┬───────────┬────────────────────────────┐
//! │ version │ next queue id  │ cluster, next     │ count    │ n: nodes  │ per command: size, command │
//! │         │                │ node id, flags    │          │           │                            │
//! └─────────┴────────────────┴───────────────────┴──────────┴───────────┴────────────────────────────┘
//! ```

use staunch_types::request::Destination;
use staunch_types::{Name, QueueId};

use super::exchange::is_reserved;
use super::{Catalog, CatalogCommand, ParameterCommand, Placement, QueueEntry, Vhost};
use crate::encoding::{DecodeError, Reader, Writer};

/// Version of the layout that [`Catalog::encode_snapshot`] writes.
const SNAPSHOT_VERSION: u8 = 4;

/// Version of the layout that [`Catalog::encode_whole`] writes. The two share the numbers.
const WHOLE_VERSION: u8 = 0x84;

/// Which things a snapshot holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Durable,
    Whole,
}

impl Catalog {
    /// Appends everything durable to `out`: equal catalogs give equal bytes.
    pub fn encode_snapshot(&self, out: &mut Vec<u8>) {
        out.put_u8(SNAPSHOT_VERSION);
        out.put_u64(self.next_queue_id.0);
        self.encode_things(Extent::Durable, out);
    }

    /// Appends everything there is to `out`: equal catalogs give equal bytes.
    pub fn encode_whole(&self, out: &mut Vec<u8>) {
        out.put_u8(WHOLE_VERSION);
        out.put_u64(self.next_queue_id.0);
        self.encode_nodes(out);
        self.encode_things(Extent::Whole, out);
    }

    fn encode_things(&self, extent: Extent, out: &mut Vec<u8>) {
        for vhost in self.vhosts.keys() {
            let vhost = vhost.clone();
            put_sized(&CatalogCommand::CreateVhost { vhost }, out);
        }
        self.configuration(&mut |command| put_sized(&command, out));
        self.encode_exchanges(extent, out);
        self.encode_queues(extent, out);
        self.encode_bindings(extent, out);
    }

    fn encode_exchanges(&self, extent: Extent, out: &mut Vec<u8>) {
        for (vhost, inside) in &self.vhosts {
            for name in &inside.exchange_names {
                let exchange = &inside.exchanges[name];
                let options = &exchange.options;
                let is_kept = extent == Extent::Whole || options.durable;
                if is_kept && !name.is_empty() && !is_reserved(name) {
                    put_sized(
                        &CatalogCommand::DeclareExchange {
                            vhost: vhost.clone(),
                            name: name.clone(),
                            options: options.clone(),
                            delay_queue: exchange.delay_queue.unwrap_or_default(),
                            placement: self.placement_of(exchange.delay_queue),
                        },
                        out,
                    );
                }
            }
        }
    }

    fn placement_of(&self, queue: Option<QueueId>) -> Placement {
        let entry = queue.and_then(|queue| self.queues.by_id(queue));
        entry
            .map(|entry| entry.placement.clone())
            .unwrap_or_default()
    }

    fn encode_queues(&self, extent: Extent, out: &mut Vec<u8>) {
        let is_kept = |queue: &&QueueEntry| {
            (extent == Extent::Whole || queue.is_durable()) && !queue.is_partition()
        };
        for queue in self.queues().filter(is_kept) {
            put_sized(
                &CatalogCommand::DeclareQueue {
                    vhost: queue.vhost.clone(),
                    name: queue.name.clone(),
                    id: queue.id,
                    server_named: is_reserved(&queue.name),
                    options: queue.options.clone(),
                    owner: queue.owner,
                    placement: queue.placement.clone(),
                    partitions: self.places_of_partitions(queue),
                },
                out,
            );
        }
    }

    fn encode_bindings(&self, extent: Extent, out: &mut Vec<u8>) {
        for (vhost, inside) in &self.vhosts {
            for binding in inside.bindings.iter() {
                let (source, destination) = (&binding.source, &binding.destination);
                let is_durable = || self.is_binding_durable(vhost, inside, source, destination);
                if extent == Extent::Whole || is_durable() {
                    let binding = binding.as_ref().clone();
                    put_sized(
                        &CatalogCommand::Bind {
                            vhost: vhost.clone(),
                            binding,
                        },
                        out,
                    );
                }
            }
        }
    }

    /// Calls `each` with the commands that make users, permissions, policies, parameters, and
    /// metadata and limits of virtual hosts again.
    pub fn configuration(&self, each: &mut impl FnMut(CatalogCommand)) {
        for (vhost, inside) in &self.vhosts {
            inside.configuration(vhost, each);
        }
        for (name, entry) in &self.users {
            entry.configuration(name, each);
        }
        for (name, value) in &self.global_parameters {
            let (name, value) = (name.clone(), value.clone());
            let command = ParameterCommand::SetGlobal { name, value };
            each(CatalogCommand::Parameter(command));
        }
    }

    /// Reads what [`Catalog::encode_snapshot`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] when `bytes` are not exactly one snapshot.
    pub fn decode_snapshot(bytes: &[u8], seed: u64) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version(SNAPSHOT_VERSION)?;
        let next_queue_id = QueueId(reader.u64()?);
        Self::new(seed).with_things(next_queue_id, reader)
    }

    /// Reads what [`Catalog::encode_whole`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] when `bytes` are not exactly one such snapshot.
    pub fn decode_whole(bytes: &[u8], seed: u64) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version(WHOLE_VERSION)?;
        let next_queue_id = QueueId(reader.u64()?);
        let mut catalog = Self::new(seed);
        catalog.read_nodes(&mut reader)?;
        catalog.with_things(next_queue_id, reader)
    }

    fn with_things(
        mut self,
        next_queue_id: QueueId,
        mut reader: Reader<'_>,
    ) -> Result<Self, DecodeError> {
        // The default virtual host may have been deleted.
        self.vhosts.clear();
        while !reader.is_empty() {
            let size = usize::try_from(reader.u32()?).map_err(|_| DecodeError::OutOfRange)?;
            let command = CatalogCommand::decode(reader.bytes(size)?)?;
            self.replay(&command)
                .map_err(|_| DecodeError::Contradiction)?;
        }
        self.next_queue_id = self.next_queue_id.max(next_queue_id);
        Ok(self)
    }

    /// Takes the place of another catalog: limits are its, and whoever has remembered something of
    /// it finds that it has changed.
    pub fn succeed(&mut self, other: &Self) {
        self.limits = other.limits;
        self.version = other.version + 1;
        self.access_version = other.access_version + 1;
    }

    /// A binding survives a restart if both its ends do.
    pub(super) fn is_binding_durable(
        &self,
        vhost: &Name,
        inside: &Vhost,
        source: &Name,
        destination: &Destination,
    ) -> bool {
        let durable = |name: &Name| {
            inside
                .exchanges
                .get(name)
                .is_some_and(|exchange| exchange.options.durable)
        };
        durable(source)
            && match destination {
                Destination::Queue(name) => self
                    .queues
                    .by_name(vhost, name)
                    .is_some_and(super::QueueEntry::is_durable),
                Destination::Exchange(name) => durable(name),
            }
    }
}

fn put_sized(command: &CatalogCommand, out: &mut Vec<u8>) {
    let start = out.len();
    out.put_u32(0);
    command.encode(out);
    let size = u32::try_from(out.len() - start - 4).expect("a command is far below 4 GiB");
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}
