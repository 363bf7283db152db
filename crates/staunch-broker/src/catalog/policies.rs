//! Policies: settings for queues and exchanges by the pattern of their names.
//!
//! Of the policies of a virtual host that fit a queue or exchange one applies: that with the
//! highest priority, then the first by name. So does one operator policy. Where both say
//! something about a key, the stricter number counts, and of other values the operator's
//! (RabbitMQ, `rabbit_policy`).

use std::collections::BTreeMap;

use staunch_types::field_table::{TableBuilder, Value};
use staunch_types::{FieldTable, Name, Refusal};

use super::parameters::check_table;
use super::policy_keys::{self, Merge};
use super::users::check_name;
use super::{Applied, Catalog, CatalogCommand, Change, Mode, QueueEntry, QueueKind};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::pattern::Pattern;

/// Whose policy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyScope {
    /// A policy as users set them.
    User,
    /// An operator policy: it limits what the others may say.
    Operator,
}

/// To what a policy applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApplyTo {
    /// Queues and exchanges.
    #[default]
    All,
    /// Queues of all kinds.
    Queues,
    /// Exchanges.
    Exchanges,
    /// Classic queues.
    ClassicQueues,
    /// Quorum queues.
    QuorumQueues,
    /// Streams.
    Streams,
}

impl ApplyTo {
    const ALL: [Self; 6] = [
        Self::All,
        Self::Queues,
        Self::Exchanges,
        Self::ClassicQueues,
        Self::QuorumQueues,
        Self::Streams,
    ];

    /// The word in definitions files and the HTTP API.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Queues => "queues",
            Self::Exchanges => "exchanges",
            Self::ClassicQueues => "classic_queues",
            Self::QuorumQueues => "quorum_queues",
            Self::Streams => "streams",
        }
    }

    /// What that word means.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|other| other.name() == name)
    }

    fn covers(self, subject: PolicySubject) -> bool {
        match (self, subject) {
            (Self::All, _)
            | (Self::Exchanges, PolicySubject::Exchange)
            | (Self::Queues, PolicySubject::Queue(_))
            | (Self::ClassicQueues, PolicySubject::Queue(QueueKind::Classic))
            | (Self::QuorumQueues, PolicySubject::Queue(QueueKind::Quorum)) => true,
            (
                Self::Exchanges
                | Self::Queues
                | Self::ClassicQueues
                | Self::QuorumQueues
                | Self::Streams,
                PolicySubject::Exchange | PolicySubject::Queue(_),
            ) => false,
        }
    }
}

/// What a policy may apply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PolicySubject {
    Exchange,
    Queue(QueueKind),
}

/// A policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Names that it applies to (PCRE, found anywhere in the name).
    pub pattern: String,
    /// To what it applies.
    pub apply_to: ApplyTo,
    /// The highest one wins.
    pub priority: i64,
    /// What it says, by key.
    pub definition: FieldTable,
}

/// A change of a policy.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyCommand {
    /// Set a policy.
    Set {
        /// Whose.
        scope: PolicyScope,
        /// Virtual host.
        vhost: Name,
        /// Its name.
        name: Name,
        /// What it shall be.
        policy: Policy,
    },
    /// Delete one; a missing one is no error.
    Delete {
        /// Whose.
        scope: PolicyScope,
        /// Virtual host.
        vhost: Name,
        /// Its name.
        name: Name,
    },
}

/// The policies of a virtual host.
#[derive(Debug, Default)]
pub(super) struct Policies {
    user: BTreeMap<Name, CompiledPolicy>,
    operator: BTreeMap<Name, CompiledPolicy>,
}

#[derive(Debug)]
pub(super) struct CompiledPolicy {
    policy: Policy,
    pattern: Pattern,
}

impl Policies {
    pub(super) fn of(&self, scope: PolicyScope) -> &BTreeMap<Name, CompiledPolicy> {
        match scope {
            PolicyScope::User => &self.user,
            PolicyScope::Operator => &self.operator,
        }
    }

    fn of_mut(&mut self, scope: PolicyScope) -> &mut BTreeMap<Name, CompiledPolicy> {
        match scope {
            PolicyScope::User => &mut self.user,
            PolicyScope::Operator => &mut self.operator,
        }
    }

    /// Calls `each` with the commands that make the policies again.
    pub(super) fn configuration(&self, vhost: &Name, each: &mut impl FnMut(CatalogCommand)) {
        for scope in [PolicyScope::User, PolicyScope::Operator] {
            for (name, compiled) in self.of(scope) {
                each(CatalogCommand::Policy(PolicyCommand::Set {
                    scope,
                    vhost: vhost.clone(),
                    name: name.clone(),
                    policy: compiled.policy.clone(),
                }));
            }
        }
    }

    /// The policy that applies.
    fn applying(
        &self,
        scope: PolicyScope,
        subject: PolicySubject,
        name: &[u8],
    ) -> Option<(&Name, &Policy)> {
        let mut best: Option<(&Name, &Policy)> = None;
        for (policy_name, CompiledPolicy { policy, pattern }) in self.of(scope) {
            let is_better = best.is_none_or(|(_, best)| policy.priority > best.priority);
            if is_better
                && policy.apply_to.covers(subject)
                && pattern.matches(name)
                && policy_keys::are_applicable(&policy.definition, subject)
            {
                best = Some((policy_name, policy));
            }
        }
        best
    }

    /// What the applying policies say together; none if none applies.
    pub(super) fn effective(&self, subject: PolicySubject, name: &[u8]) -> Option<FieldTable> {
        let of = |scope| {
            self.applying(scope, subject, name)
                .map(|(_, policy)| policy)
        };
        match (of(PolicyScope::User), of(PolicyScope::Operator)) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => Some(one.definition.clone()),
            (Some(user), Some(operator)) => Some(merge(&user.definition, &operator.definition)),
        }
    }
}

fn merge(user: &FieldTable, operator: &FieldTable) -> FieldTable {
    let mut merged: BTreeMap<&[u8], Value<'_>> = BTreeMap::new();
    for (key, value) in user {
        merged.entry(key).or_insert(value);
    }
    for (key, value) in operator {
        let merged = merged.entry(key).or_insert(value);
        *merged = merge_value(key, *merged, value);
    }
    let mut table = TableBuilder::new();
    for (key, value) in merged {
        table
            .try_value(key, value)
            .expect("a key of a table is short");
    }
    table.build()
}

fn merge_value<'a>(key: &[u8], user: Value<'a>, operator: Value<'a>) -> Value<'a> {
    let (Some(user_number), Some(operator_number)) = (user.as_i64(), operator.as_i64()) else {
        return operator;
    };
    let is_user_stricter = match policy_keys::merge_of(key) {
        Merge::Smaller => user_number < operator_number,
        Merge::SmallerNonNegative => {
            operator_number < 0 || (0..operator_number).contains(&user_number)
        }
        Merge::Operator => false,
    };
    if is_user_stricter { user } else { operator }
}

impl Catalog {
    /// The policies of a virtual host by name.
    pub fn policies(
        &self,
        vhost: &[u8],
        scope: PolicyScope,
    ) -> impl Iterator<Item = (&Name, &Policy)> {
        let inside = self.vhosts.get(vhost).into_iter();
        inside.flat_map(move |inside| {
            let policies = inside.policies.of(scope).iter();
            policies.map(|(name, compiled)| (name, &compiled.policy))
        })
    }

    /// A policy.
    pub fn policy(&self, vhost: &[u8], scope: PolicyScope, name: &[u8]) -> Option<&Policy> {
        let compiled = self.vhosts.get(vhost)?.policies.of(scope).get(name)?;
        Some(&compiled.policy)
    }

    /// Name of the policy that applies to a queue.
    pub fn policy_of_queue(&self, queue: &QueueEntry, scope: PolicyScope) -> Option<&Name> {
        let inside = self.vhosts.get(&queue.vhost)?;
        let subject = PolicySubject::Queue(queue.kind());
        let whole = self.whole_of(queue).0;
        let applying = inside.policies.applying(scope, subject, &whole.name);
        applying.map(|(name, _)| name)
    }

    /// Name of the policy that applies to an exchange.
    pub fn policy_of_exchange(
        &self,
        vhost: &[u8],
        exchange: &[u8],
        scope: PolicyScope,
    ) -> Option<&Name> {
        let inside = self.vhosts.get(vhost)?;
        let subject = PolicySubject::Exchange;
        let applying = inside.policies.applying(scope, subject, exchange);
        applying.map(|(name, _)| name)
    }

    /// What policy and operator policy say about a queue together (`effective_policy_definition`).
    pub fn effective_policy_of_queue(&self, queue: &QueueEntry) -> FieldTable {
        let inside = self.vhosts.get(&queue.vhost);
        let subject = PolicySubject::Queue(queue.kind());
        inside
            .and_then(|inside| {
                let whole = self.whole_of(queue).0;
                inside.policies.effective(subject, &whole.name)
            })
            .unwrap_or_default()
    }

    /// What policy and operator policy say about an exchange together.
    pub fn effective_policy_of_exchange(&self, vhost: &[u8], exchange: &[u8]) -> FieldTable {
        let inside = self.vhosts.get(vhost);
        inside
            .and_then(|inside| inside.policies.effective(PolicySubject::Exchange, exchange))
            .unwrap_or_default()
    }

    pub(super) fn apply_policy(
        &mut self,
        command: &PolicyCommand,
        mode: Mode,
    ) -> Result<Applied, Refusal> {
        let (vhost, change, patterns) = match command {
            PolicyCommand::Set {
                scope,
                vhost,
                name,
                policy,
            } => {
                let (change, patterns) = self.set_policy(*scope, (vhost, name), policy, mode)?;
                (vhost, change, patterns)
            }
            PolicyCommand::Delete { scope, vhost, name } => {
                let policies = self.vhost_mut(vhost)?.policies.of_mut(*scope);
                let old = policies.remove(name).map(|old| old.pattern);
                let change = Change::of_removal(old.as_ref());
                (vhost, change, Vec::from_iter(old))
            }
        };
        let mut applied = Applied::new(change, true);
        if change != Change::Unchanged {
            let may_concern = |name: &[u8]| {
                patterns
                    .iter()
                    .any(|pattern: &Pattern| pattern.matches(name))
            };
            applied.queues_changed = self.follow_policies(vhost, may_concern);
        }
        Ok(applied)
    }

    /// Sets a policy; also the patterns that it has and had.
    fn set_policy(
        &mut self,
        scope: PolicyScope,
        (vhost, name): (&Name, &Name),
        policy: &Policy,
        mode: Mode,
    ) -> Result<(Change, Vec<Pattern>), Refusal> {
        self.vhost_mut(vhost)?;
        if mode.is_new() {
            check_name("policy", name)?;
            check_table("definition of policy", name, &policy.definition)?;
            policy_keys::check(scope, &policy.definition).map_err(|error| invalid(&error))?;
        }
        if mode == Mode::Decide {
            self.check_policy_limit(scope, vhost, name)?;
        }
        let pattern = Pattern::new(&policy.pattern).map_err(|error| {
            invalid(&format!(
                "pattern should be regular expression but is invalid: {error}"
            ))
        })?;
        let compiled = CompiledPolicy {
            policy: policy.clone(),
            pattern: pattern.clone(),
        };
        let policies = self.vhost_mut(vhost)?.policies.of_mut(scope);
        let old = policies.insert(name.clone(), compiled);
        let change = Change::of_set(old.as_ref().map(|old| &old.policy), policy);
        let mut patterns = vec![pattern];
        patterns.extend(old.map(|old| old.pattern).filter(|old| *old != patterns[0]));
        Ok((change, patterns))
    }
}

fn invalid(error: &str) -> Refusal {
    Refusal::Precondition(format!("Validation failed\n\n{error}\n"))
}

impl PolicyCommand {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Set {
                scope,
                vhost,
                name,
                policy,
            } => {
                put_subject(1, *scope, vhost, name, out);
                out.put_text(&policy.pattern);
                out.put_text(policy.apply_to.name());
                out.put_u64(policy.priority.cast_unsigned());
                out.put_table(&policy.definition);
            }
            Self::Delete { scope, vhost, name } => put_subject(2, *scope, vhost, name, out),
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = reader.u8()?;
        let scope = if reader.bool()? {
            PolicyScope::Operator
        } else {
            PolicyScope::User
        };
        let vhost = reader.name()?;
        let name = reader.name()?;
        Ok(match kind {
            1 => Self::Set {
                scope,
                vhost,
                name,
                policy: Policy {
                    pattern: reader.text()?,
                    apply_to: ApplyTo::from_name(&reader.text()?).ok_or(DecodeError::OutOfRange)?,
                    priority: reader.u64()?.cast_signed(),
                    definition: reader.table()?,
                },
            },
            2 => Self::Delete { scope, vhost, name },
            kind => return Err(DecodeError::UnknownKind { kind }),
        })
    }
}

fn put_subject(kind: u8, scope: PolicyScope, vhost: &Name, name: &Name, out: &mut Vec<u8>) {
    out.put_u8(kind);
    out.put_bool(scope == PolicyScope::Operator);
    out.put_name(vhost);
    out.put_name(name);
}
