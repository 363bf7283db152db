//! What follows from policies: settings of queues and alternate exchanges of exchanges, brought in
//! line when a policy or a thing of that name comes or goes.

use std::sync::Arc;

use staunch_types::field_table::Value;
use staunch_types::{FieldTable, Name, QueueId};

use super::exchange::ALTERNATE_EXCHANGE;
use super::policies::PolicySubject;
use super::policy_keys::REPLICATE;
use super::{Catalog, QueueEntry, QueueKind, Vhost};
use crate::settings::QueueSettings;

/// Settings that most queues have, so that these share them.
#[derive(Debug)]
pub(super) struct SharedSettings {
    classic: Arc<QueueSettings>,
    quorum: Arc<QueueSettings>,
}

impl Default for SharedSettings {
    fn default() -> Self {
        let arguments = FieldTable::default();
        let of = |kind| Arc::new(QueueSettings::effective(kind, &arguments, None));
        Self {
            classic: of(QueueKind::Classic),
            quorum: of(QueueKind::Quorum),
        }
    }
}

impl SharedSettings {
    pub(super) fn share(&self, settings: QueueSettings) -> Arc<QueueSettings> {
        [&self.classic, &self.quorum]
            .into_iter()
            .find(|shared| ***shared == settings)
            .map_or_else(|| Arc::new(settings), Arc::clone)
    }
}

impl Catalog {
    /// What a queue's settings have to be.
    pub(super) fn settings_of(&self, queue: &QueueEntry) -> QueueSettings {
        let kind = queue.kind();
        let inside = self.vhosts.get(&queue.vhost);
        let (whole, partition) = self.whole_of(queue);
        let policy = inside.and_then(|inside| {
            let subject = PolicySubject::Queue(kind);
            inside.policies.effective(subject, &whole.name)
        });
        let settings = QueueSettings::effective(kind, &queue.options.arguments, policy.as_ref());
        if !whole.is_split() {
            return settings;
        }
        settings.of_partition(partition)
    }

    /// Whether a policy has the queue replicated, which is asked when it is declared.
    pub fn is_replicated_by_policy(&self, vhost: &Name, name: &Name, kind: QueueKind) -> bool {
        let policy = self.vhosts.get(vhost).and_then(|inside| {
            let subject = PolicySubject::Queue(kind);
            inside.policies.effective(subject, name)
        });
        policy.is_some_and(|policy| policy.get(REPLICATE) == Some(Value::Bool(true)))
    }

    /// Brings what a change of policies in a virtual host `may_concern`, by its name, in line with
    /// them; queues whose settings are others now. Of many policies only those that have changed
    /// are searched for in every name.
    pub(super) fn follow_policies(
        &mut self,
        vhost: &Name,
        may_concern: impl Fn(&[u8]) -> bool,
    ) -> Vec<QueueId> {
        if let Some(inside) = self.vhosts.get_mut(vhost) {
            let names = inside.exchange_names.iter();
            let names: Vec<Name> = names.filter(|name| may_concern(name)).cloned().collect();
            for name in names {
                inside.follow_policies(&name);
            }
        }
        let changed: Vec<(QueueId, QueueSettings)> = self
            .queues()
            .filter(|queue| queue.vhost == *vhost && may_concern(&self.whole_of(queue).0.name))
            .map(|queue| (queue, self.settings_of(queue)))
            .filter(|(queue, settings)| *queue.settings != *settings)
            .map(|(queue, settings)| (queue.id, settings))
            .collect();
        for (id, settings) in &changed {
            let settings = self.settings.share(settings.clone());
            self.queues.configure(*id, settings);
        }
        changed.into_iter().map(|(id, _)| id).collect()
    }
}

impl Vhost {
    /// Brings the alternate exchange of an exchange in line with arguments and policies: the
    /// argument wins.
    pub(super) fn follow_policies(&mut self, exchange: &Name) {
        let policy = self.policies.effective(PolicySubject::Exchange, exchange);
        let Some(found) = self.exchanges.get_mut(exchange) else {
            return;
        };
        let argument = found.options.arguments.get(ALTERNATE_EXCHANGE);
        let by_policy = policy.as_ref();
        let named = argument.or_else(|| by_policy?.get(ALTERNATE_EXCHANGE));
        found.alternate = named.and_then(|value| Name::new(value.as_str()?.as_bytes()).ok());
    }
}
