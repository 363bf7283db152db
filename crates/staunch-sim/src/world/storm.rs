//! Thousands of groups lose their leaders at once: all nodes stand still and wake, or the network
//! is gone for long and comes back. All groups have a leader again soon, after few elections.

use std::collections::BTreeMap;

use staunch_broker::{CatalogCommand, Placement};
use staunch_node::{AdminRequest, OnRefusal};
use staunch_types::{GroupId, Name, QueueId, QueueOptions, Term, field_table::TableBuilder};

use crate::{
    history::Fact,
    schedule::{MILLIS, SECONDS},
    world::World,
};

/// Queues, each with a group of its own.
const QUEUE_COUNT: usize = 2_000;
/// Queues that are declared at once.
const BATCH: usize = 200;
/// Storms in a run.
const STORMS_MAX: u64 = 2;
/// How long a storm takes at the least and at most, in nanoseconds.
const STORM_NANOS: (u64, u64) = (2 * SECONDS, 15 * SECONDS);
/// How far apart nodes wake that stood still, at most, in nanoseconds.
const WAKE_WITHIN: u64 = 300 * MILLIS;
/// How long groups may be without a leader when a storm is over, in nanoseconds.
const CALM_AFTER_MAX: u64 = 10 * SECONDS;
/// Terms that the storm may cost a group, and all of them on average. Of two thousand groups that elect
/// at once, with full sockets and slow disks, a few split their votes time and again (8 terms, and 2.5 on
/// average, are the most that was seen); a storm that feeds itself costs hundreds.
const TERMS_MAX: u64 = 12;
const TERMS_MEAN_MAX: u64 = 3;

/// How far it has come.
#[derive(Debug, Default)]
pub(super) struct Storm {
    declared: usize,
    count: u64,
    /// The terms of all groups before it, and when it is over.
    blows: Option<(BTreeMap<GroupId, Term>, u64)>,
}

impl World {
    /// A look at the weather.
    pub(super) fn storm(&mut self) {
        if self.storm.declared < QUEUE_COUNT {
            return self.declare_some();
        }
        let now = self.schedule.now_nanos();
        let is_calm = self.are_all_led();
        match self.storm.blows.take() {
            None if is_calm && self.storm.count == STORMS_MAX => self.begin_liveness(),
            None if is_calm => self.begin_storm(),
            None => {}
            Some((before, over)) if now > over && is_calm => {
                self.storm_is_over(&before, now - over);
            }
            Some((_, over)) if now > over + CALM_AFTER_MAX => {
                let what = format!(
                    "groups have no leader {} s after a storm",
                    CALM_AFTER_MAX / SECONDS
                );
                self.stuck(what);
            }
            blows => self.storm.blows = blows,
        }
    }

    fn declare_some(&mut self) {
        let is_ready = |node: &usize| {
            let process = self.machines[*node].process.as_ref();
            process.is_some_and(|process| process.node.is_ready())
        };
        let Some(asked) = (0..self.machines.len()).find(is_ready) else {
            return;
        };
        let begin = self.storm.declared;
        let commands = (begin..begin + BATCH).map(declaration).collect();
        self.storm.declared += BATCH;
        let request = AdminRequest::Apply {
            commands,
            on_refusal: OnRefusal::Stop,
        };
        self.ask_operator(asked, request);
    }

    fn begin_storm(&mut self) {
        let (least, most) = STORM_NANOS;
        let nanos = self.faults.between(least, most);
        let nodes = 0..self.machines.len();
        self.storm.count += 1;
        if self.storm.count.is_multiple_of(2) {
            self.witness.coverage.hit("storm: nobody hears anybody");
            for from in nodes.clone() {
                for to in nodes.clone().filter(|to| *to != from) {
                    self.cut(from, to, nanos);
                }
            }
        } else {
            self.witness.coverage.hit("storm: all stand still");
            for node in nodes {
                let later = self.faults.below(WAKE_WITHIN);
                self.pause(node, nanos + later);
            }
        }
        let over = self.schedule.now_nanos() + nanos + WAKE_WITHIN;
        self.storm.blows = Some((self.terms(), over));
    }

    fn storm_is_over(&mut self, before: &BTreeMap<GroupId, Term>, took: u64) {
        let after = self.terms();
        let rise = |(group, term): (&GroupId, &Term)| {
            let before = before.get(group).copied().unwrap_or_default();
            term.0 - before.0
        };
        let all: u64 = after.iter().map(rise).sum();
        let most = after.iter().map(rise).max().unwrap_or_default();
        let count = after.len() as u64;
        self.witness.line(format_args!(
            "{count} groups have leaders {} ms after a storm, {all} terms later, {most} at most",
            took / MILLIS
        ));
        self.witness.coverage.hit("storm over");
        self.witness.coverage.add("storm: terms", all);
        if all > TERMS_MEAN_MAX * count || most > TERMS_MAX {
            let what = format!("{all} terms in {count} groups, {most} in one of them, for a storm");
            self.witness.history.push(Fact::ConsensusBroken { what });
        }
    }

    /// The highest term of each group that a node knows.
    fn terms(&self) -> BTreeMap<GroupId, Term> {
        let mut terms = BTreeMap::new();
        let processes = self.machines.iter().filter_map(|it| it.process.as_ref());
        for group in processes.flat_map(|process| process.node.groups()) {
            let term = terms.entry(group.id()).or_default();
            *term = group.role_now().term.max(*term);
        }
        terms
    }

    /// Whether every group has a leader of its highest term that is in service.
    fn are_all_led(&self) -> bool {
        let mut terms = self.terms();
        let processes = self.machines.iter().filter_map(|it| it.process.as_ref());
        for group in processes.flat_map(|process| process.node.groups()) {
            if group.is_serving() && terms.get(&group.id()) == Some(&group.role_now().term) {
                terms.remove(&group.id());
            }
        }
        terms.is_empty()
    }
}

fn declaration(number: usize) -> CatalogCommand {
    let name = format!("storm.{number}");
    CatalogCommand::DeclareQueue {
        vhost: Name::from_static("/"),
        name: Name::new(name.as_bytes()).expect("a short name"),
        id: QueueId(0),
        server_named: false,
        options: QueueOptions {
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: TableBuilder::new()
                .longstr("x-queue-type", "quorum")
                .build(),
        },
        owner: None,
        placement: Placement::HERE,
        partitions: Vec::new(),
    }
}
