//! Most of everything: what a node asks before it makes something new. These limits are its own
//! configuration; where several nodes apply the same command, only the one that proposes it asks.

use staunch_types::{Name, Refusal};

use super::parameters::ParameterCommand;
use super::policies::PolicyCommand;
use super::users::UserCommand;
use super::{Binding, Catalog, CatalogCommand, PolicyScope};

impl Catalog {
    /// Checks that a command makes nothing that this catalog's limits forbid. Whatever else may
    /// speak against it is left to [`Catalog::apply`].
    ///
    /// # Errors
    /// [`Refusal::LimitReached`].
    pub fn check_limits(&self, command: &CatalogCommand) -> Result<(), Refusal> {
        match command {
            CatalogCommand::CreateVhost { vhost } => self.check_vhost_limit(vhost),
            CatalogCommand::DeclareExchange { vhost, name, .. } => {
                self.check_exchange_limit(vhost, name)
            }
            CatalogCommand::DeclareQueue {
                vhost,
                name,
                partitions,
                ..
            } => self.check_queue_limit(vhost, name, 1 + partitions.len()),
            CatalogCommand::Bind { vhost, binding } => self.check_binding_limit(vhost, binding),
            CatalogCommand::User(UserCommand::Put { name, .. }) => self.check_user_limit(name),
            CatalogCommand::Policy(PolicyCommand::Set {
                scope, vhost, name, ..
            }) => self.check_policy_limit(*scope, vhost, name),
            CatalogCommand::Parameter(command) => self.check_parameter_limit(command),
            _ => Ok(()),
        }
    }

    pub(super) fn check_vhost_limit(&self, vhost: &Name) -> Result<(), Refusal> {
        let limit = self.limits.vhosts_max;
        if self.vhosts.len() < limit || self.vhosts.contains_key(vhost) {
            return Ok(());
        }
        Err(Refusal::LimitReached(format!(
            "cannot create vhost '{vhost}': vhost limit of {limit} is reached"
        )))
    }

    pub(super) fn check_exchange_limit(&self, vhost: &Name, name: &Name) -> Result<(), Refusal> {
        let inside = self.vhosts.get(vhost);
        if inside.is_some_and(|inside| inside.exchanges.contains_key(name)) {
            return Ok(());
        }
        let count: usize = self.vhosts.values().map(|v| v.exchanges.len()).sum();
        let limit = self.limits.exchanges_max;
        if count < limit {
            return Ok(());
        }
        Err(Refusal::LimitReached(format!(
            "cannot declare exchange '{name}' in vhost '{vhost}': exchange limit of {limit} is \
             reached"
        )))
    }

    /// Checks that there may be `count` more, if there is none with that name.
    pub(super) fn check_queue_limit(
        &self,
        vhost: &Name,
        name: &Name,
        count: usize,
    ) -> Result<(), Refusal> {
        let limit = self.limits.queues_max;
        if self.queues.len() + count <= limit || self.queues.by_name(vhost, name).is_some() {
            return Ok(());
        }
        Err(Refusal::LimitReached(format!(
            "cannot declare queue '{name}': queue limit in cluster ({limit}) is reached"
        )))
    }

    pub(super) fn check_binding_limit(
        &self,
        vhost: &Name,
        binding: &Binding,
    ) -> Result<(), Refusal> {
        let limit = self.limits.bindings_max;
        let inside = self.vhosts.get(vhost);
        let is_full = inside.is_some_and(|inside| {
            inside.bindings.len() >= limit && !inside.bindings.contains(binding)
        });
        if !is_full {
            return Ok(());
        }
        Err(Refusal::LimitReached(format!(
            "cannot bind in vhost '{vhost}': binding limit of {limit} is reached"
        )))
    }

    pub(super) fn check_user_limit(&self, name: &Name) -> Result<(), Refusal> {
        let limit = self.limits.users_max;
        if self.users.len() < limit || self.users.contains_key(name) {
            return Ok(());
        }
        Err(Refusal::LimitReached(format!(
            "cannot add user '{name}': user limit of {limit} is reached"
        )))
    }

    pub(super) fn check_policy_limit(
        &self,
        scope: PolicyScope,
        vhost: &Name,
        name: &Name,
    ) -> Result<(), Refusal> {
        let limit = self.limits.policies_max;
        let inside = self.vhosts.get(vhost);
        let is_full = inside.is_some_and(|inside| {
            let policies = inside.policies.of(scope);
            policies.len() >= limit && !policies.contains_key(name)
        });
        if !is_full {
            return Ok(());
        }
        Err(Refusal::LimitReached(format!(
            "cannot set policy '{name}' in vhost '{vhost}': limit of {limit} is reached"
        )))
    }

    pub(super) fn check_parameter_limit(&self, command: &ParameterCommand) -> Result<(), Refusal> {
        let limit = self.limits.parameters_max;
        let (name, is_full) = match command {
            ParameterCommand::Set {
                vhost,
                component,
                name,
                ..
            } => {
                let key = (component.clone(), name.clone());
                let inside = self.vhosts.get(vhost);
                let is_full = inside.is_some_and(|inside| {
                    inside.parameters.len() >= limit && !inside.parameters.contains_key(&key)
                });
                (name, is_full)
            }
            ParameterCommand::SetGlobal { name, .. } => {
                let all = &self.global_parameters;
                (name, all.len() >= limit && !all.contains_key(name))
            }
            ParameterCommand::Clear { .. } | ParameterCommand::ClearGlobal { .. } => return Ok(()),
        };
        if !is_full {
            return Ok(());
        }
        Err(Refusal::LimitReached(format!(
            "cannot set parameter '{name}': limit of {limit} is reached"
        )))
    }
}
