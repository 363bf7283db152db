//! What operators change, for the log and the list of events: who may do what, policies and settings,
//! virtual hosts, nodes. Queues, exchanges and bindings come and go with clients, and are left out.

use staunch_broker::{
    CatalogCommand, NodeCommand, ParameterCommand, PermissionCommand, PolicyCommand, UserCommand,
    VhostCommand,
};
use staunch_types::Name;

/// Changes of one request that are told one by one; of more only their number is.
const TOLD_MAX: usize = 16;

/// A change: what has happened, in which virtual host, to whom or what.
pub(crate) struct Told {
    event: &'static str,
    vhost: Option<String>,
    name: Option<String>,
}

impl Told {
    /// What is to be told of a command when it has been done.
    pub(crate) fn of(command: &CatalogCommand) -> Option<Self> {
        let (event, vhost, name) = match command {
            CatalogCommand::CreateVhost { vhost } => ("vhost.created", Some(vhost), None),
            CatalogCommand::DeleteVhost { vhost } => ("vhost.deleted", Some(vhost), None),
            CatalogCommand::Vhost(command) => of_vhost(command),
            CatalogCommand::User(command) => of_user(command),
            CatalogCommand::Permission(command) => of_permission(command),
            CatalogCommand::Policy(command) => of_policy(command),
            CatalogCommand::Parameter(command) => of_parameter(command),
            CatalogCommand::Node(NodeCommand::Drain { node, is_drained }) => {
                let event = if *is_drained {
                    "node.drained"
                } else {
                    "node.revived"
                };
                return Some(Self {
                    event,
                    vhost: None,
                    name: Some(node.0.to_string()),
                });
            }
            CatalogCommand::Node(_)
            | CatalogCommand::DeclareExchange { .. }
            | CatalogCommand::DeleteExchange { .. }
            | CatalogCommand::Bind { .. }
            | CatalogCommand::Unbind { .. }
            | CatalogCommand::DeclareQueue { .. }
            | CatalogCommand::DeleteQueue { .. } => return None,
        };
        Some(Self {
            event,
            vhost: vhost.map(Name::to_string),
            name: name.map(Name::to_string),
        })
    }
}

/// Tells what has been done.
pub(crate) fn tell(done: &[Told]) {
    if done.len() > TOLD_MAX {
        let count = done.len();
        tracing::info!(event = "admin.changed", count, "many settings have changed");
        return;
    }
    for Told { event, vhost, name } in done {
        tracing::info!(event, vhost, name, "an operator has changed something");
    }
}

type Named<'a> = (&'static str, Option<&'a Name>, Option<&'a Name>);

fn of_vhost(command: &VhostCommand) -> Named<'_> {
    match command {
        VhostCommand::SetMetadata { vhost, .. } => ("vhost.changed", Some(vhost), None),
        VhostCommand::SetLimits { vhost, .. } => ("vhost.limited", Some(vhost), None),
    }
}

fn of_user(command: &UserCommand) -> Named<'_> {
    match command {
        UserCommand::Put { name, .. } => ("user.set", None, Some(name)),
        UserCommand::SetLimits { name, .. } => ("user.limited", None, Some(name)),
        UserCommand::Delete { name } => ("user.deleted", None, Some(name)),
    }
}

fn of_permission(command: &PermissionCommand) -> Named<'_> {
    match command {
        PermissionCommand::Set { user, vhost, .. }
        | PermissionCommand::SetTopic { user, vhost, .. } => {
            ("permission.set", Some(vhost), Some(user))
        }
        PermissionCommand::Clear { user, vhost }
        | PermissionCommand::ClearTopic { user, vhost, .. } => {
            ("permission.cleared", Some(vhost), Some(user))
        }
    }
}

fn of_policy(command: &PolicyCommand) -> Named<'_> {
    match command {
        PolicyCommand::Set { vhost, name, .. } => ("policy.set", Some(vhost), Some(name)),
        PolicyCommand::Delete { vhost, name, .. } => ("policy.deleted", Some(vhost), Some(name)),
    }
}

fn of_parameter(command: &ParameterCommand) -> Named<'_> {
    match command {
        ParameterCommand::Set { vhost, name, .. } => ("parameter.set", Some(vhost), Some(name)),
        ParameterCommand::Clear { vhost, name, .. } => {
            ("parameter.cleared", Some(vhost), Some(name))
        }
        ParameterCommand::SetGlobal { name, .. } => ("parameter.set", None, Some(name)),
        ParameterCommand::ClearGlobal { name } => ("parameter.cleared", None, Some(name)),
    }
}
