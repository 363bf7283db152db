//! An operator who gives queues a policy and takes it away, while messages are there.

use staunch_broker::{ApplyTo, CatalogCommand, Policy, PolicyCommand, PolicyScope};
use staunch_node::{AdminAnswer, AdminId, AdminRequest, Input, OnRefusal};
use staunch_types::{FieldTable, Name, field_table::TableBuilder};

use crate::{
    history::{Fact, Rules},
    planted::Planted,
    random::Random,
    register::Operation,
    schedule::MILLIS,
    topology::{DEFAULT_EXCHANGE, GRAVE, RULED_QUEUE},
    world::{Happening, Stage, World},
};

/// Mean time between two policies, in nanoseconds.
const RULE_STEP: u64 = 300 * MILLIS;

/// The operator.
#[derive(Debug)]
pub(super) struct Operator {
    /// What was last asked, until the answer comes or the node goes.
    pending: Option<(Operation, Rules)>,
    /// Who was asked.
    asked: usize,
    /// What is certainly in force.
    in_force: Option<Rules>,
    last: u64,
    random: Random,
}

impl Operator {
    pub(super) fn new(random: Random) -> Self {
        Self {
            pending: None,
            asked: 0,
            in_force: None,
            last: 0,
            random,
        }
    }

    /// The node is gone: an answer will not come.
    pub(super) fn forget(&mut self, node: usize) {
        if self.asked == node && self.pending.take().is_some() {
            self.in_force = None;
        }
    }
}

impl World {
    /// The operator's turn: a look at the queue, and perhaps another policy.
    pub(super) fn operate(&mut self) {
        let topology = self.witness.definitions.topology();
        if self.stage != Stage::Safety
            || self.is_cluster()
            || topology.queue_named(RULED_QUEUE).is_none()
        {
            return;
        }
        let delay = self.operator.random.latency(RULE_STEP);
        self.schedule.after(delay, Happening::Operate);
        if self.operator.pending.is_some() {
            return;
        }
        let node = self.pick_node();
        let Some(process) = &mut self.machines[node].process else {
            return;
        };
        self.operator.asked = node;
        self.operator.last += 1;
        let operation = Operation(self.operator.last);
        let id = AdminId(operation.0);
        if self.operator.random.chance(500) {
            // Before anything that the node has not come to: it has just put its queues right.
            let look = AdminRequest::ListQueues { vhost: None };
            process.inbox.push_front(Input::Admin(id, look));
            return self.plan_drain(node);
        }
        let rules = *self.operator.random.pick(&Rules::ALL);
        self.witness.line(format_args!("operator sets {rules:?}"));
        self.witness.history.push(Fact::Ruling { rules, operation });
        self.operator.pending = Some((operation, rules));
        self.operator.in_force = None;
        if self.planted == Some(Planted::GhostPolicy) && self.operator.random.chance(300) {
            self.witness.coverage.hit("planted bug struck");
            return self.ruled();
        }
        let request = AdminRequest::Apply {
            commands: vec![command(rules)],
            on_refusal: OnRefusal::Stop,
        };
        process.inbox.push_back(Input::Admin(id, request));
        self.plan_drain(node);
    }

    /// The node has answered.
    pub(super) fn operator_answered(&mut self, answer: AdminAnswer) {
        match answer {
            AdminAnswer::Applied(results) if results.iter().all(Result::is_ok) => self.ruled(),
            AdminAnswer::Queues(queues) => {
                let has_limit = self.operator.in_force.is_some_and(Rules::limits_length);
                let is_ruled = |name: &Name| **name == *RULED_QUEUE.as_bytes();
                let queue = queues.iter().find(|queue| is_ruled(&queue.name));
                let is_too_long = queue.is_some_and(|queue| {
                    queue.consumer_count == 0 && queue.ready_count > u64::from(Rules::LENGTH_MAX)
                });
                if has_limit && is_too_long {
                    let what = "a queue is longer than its policy allows".to_owned();
                    self.witness.history.push(Fact::DefinitionWrong { what });
                }
            }
            other => self.stuck(format!("an operator was answered {other:?}")),
        }
    }

    fn ruled(&mut self) {
        if let Some((operation, rules)) = self.operator.pending.take() {
            self.witness.coverage.hit("policy set");
            self.witness.history.push(Fact::Ruled { operation });
            self.operator.in_force = Some(rules);
        }
    }
}

fn command(rules: Rules) -> CatalogCommand {
    let (scope, vhost) = (PolicyScope::User, Name::from_static("/"));
    let name = Name::from_static("ruler");
    CatalogCommand::Policy(if rules == Rules::Nothing {
        PolicyCommand::Delete { scope, vhost, name }
    } else {
        let policy = Policy {
            pattern: format!("^{}$", RULED_QUEUE.replace('.', "\\.")),
            apply_to: ApplyTo::Queues,
            priority: 0,
            definition: definition(rules),
        };
        PolicyCommand::Set {
            scope,
            vhost,
            name,
            policy,
        }
    })
}

fn definition(rules: Rules) -> FieldTable {
    let mut table = TableBuilder::new();
    if rules.makes_dead_letters() {
        table = table
            .longstr("dead-letter-exchange", DEFAULT_EXCHANGE)
            .longstr("dead-letter-routing-key", GRAVE);
    }
    if rules.limits_length() {
        table = table.long("max-length", i64::from(Rules::LENGTH_MAX));
    }
    if rules == Rules::TimeToLive {
        table = table.int("message-ttl", i32::from(Rules::TTL_MILLIS));
    }
    table.build()
}
