//! All queues in the order of their names, kept for as long as the catalog does not change: whoever
//! leafs through 100,000 of them has the node look them up once, and not for every page.

use std::sync::{Arc, Mutex, PoisonError};

use staunch_broker::Catalog;
use staunch_types::{Name, QueueId};

use crate::{NodePort, error::ApiError};

/// Virtual host, name and id of a queue.
pub(crate) type Entry = (Name, Name, QueueId);

/// The queues of the catalog as it was last asked for.
#[derive(Clone, Default)]
pub(crate) struct Directory(Arc<Mutex<Option<Known>>>);

#[derive(Clone)]
struct Known {
    version: u64,
    entries: Arc<[Entry]>,
}

impl Directory {
    /// All queues, by virtual host and name.
    pub(crate) async fn queues(&self, node: &NodePort) -> Result<Arc<[Entry]>, ApiError> {
        let known = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let version = known.as_ref().map(|known| known.version);
        let changed = node.read(move |catalog| changed(catalog, version)).await?;
        let known = match (changed, known) {
            (None, Some(known)) => return Ok(known.entries),
            (None, None) => return Err(ApiError::Unavailable),
            (Some((version, mut entries)), _) => {
                // Here, in our own time.
                entries.sort_unstable();
                Known {
                    version,
                    entries: entries.into(),
                }
            }
        };
        let entries = known.entries.clone();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(entries)
    }
}

/// What there is, unless it is the same as in that version.
fn changed(catalog: &Catalog, version: Option<u64>) -> Option<(u64, Vec<Entry>)> {
    (version != Some(catalog.version())).then(|| {
        let queues = catalog.queues();
        let entries = queues.map(|entry| (entry.vhost.clone(), entry.name.clone(), entry.id));
        (catalog.version(), entries.collect())
    })
}
