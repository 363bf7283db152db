//! Failovers as this node sees them: what it knew when, from the last that it heard of a node until
//! the queues which that node led are led and used again.
//!
//! Only what happens anyway is written down (a suspicion, a change of a group's role, an answer to a
//! message on its way), so nothing is slower for it while no failover is going on.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use staunch_raft::{Role, RoleChange};
use staunch_types::{Name, NodeId, QueueId, Timestamp, UnixMillis};

use crate::{
    input::{News, Output},
    node::Node,
    queues::QueueSlot,
};

/// Failovers that are remembered.
pub const FAILOVERS_MAX: usize = 256;
/// How long the first confirm is waited for: nobody may publish.
const WATCHED_FOR: Duration = Duration::from_mins(1);
/// Queues that are named where their leader changes; all are counted.
const QUEUES_NAMED_MAX: usize = 10;

/// A node was given up, and others did what it had done. Times are since it was last heard; none is
/// what has not happened, or not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// The node.
    pub node: Name,
    /// When it was given up.
    pub suspected_at: UnixMillis,
    /// Why.
    pub cause: Cause,
    /// It was given up.
    pub suspected: Duration,
    /// The silence that was enough for that.
    pub patience: Duration,
    /// The connection with it ended.
    pub disconnected: Option<Duration>,
    /// Queues that it led, of those that this node keeps.
    pub queue_count: usize,
    /// It led the catalog.
    pub led_catalog: bool,
    /// This node asked for votes for the first time.
    pub campaigned: Option<Duration>,
    /// The first of its queues had another leader.
    pub first_led: Option<Duration>,
    /// So many of them have one.
    pub led_count: usize,
    /// All of them had one, and the catalog.
    pub all_led: Option<Duration>,
    /// Who leads them now, and how many.
    pub led_by: Vec<(Name, usize)>,
    /// A client of this node had a message confirmed by one of them again.
    pub confirmed: Option<Duration>,
    /// Messages of this node's clients that were on their way, and were sent to other leaders.
    pub resent_count: usize,
    /// It was heard again.
    pub back: Option<Duration>,
}

/// Why a node was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It said that it stops.
    Goodbye,
    /// The connection broke, and it did not come back.
    Broken,
    /// It was silent.
    Silence,
    /// It came back as another process before it was missed.
    Restarted,
}

/// What is remembered of failovers, and of leaders.
#[derive(Debug, Default)]
pub(crate) struct Failovers {
    over: VecDeque<Failover>,
    /// At most one of each node.
    open: Vec<Open>,
    /// How the connection with a node ended, until it is connected again.
    ended: BTreeMap<NodeId, (Timestamp, Cause)>,
    /// Queues that this node has come to lead since this was last told: who leads, who did, which.
    changes: BTreeMap<(NodeId, NodeId), Vec<QueueId>>,
}

#[derive(Debug)]
struct Open {
    node: NodeId,
    heard_at: Timestamp,
    seen: Failover,
    /// Queues that the node led and nobody leads yet.
    waiting: BTreeSet<QueueId>,
    catalog_waits: bool,
    /// Queues that somebody else leads, until one of them has confirmed a message.
    unused: BTreeSet<QueueId>,
    led_by: BTreeMap<NodeId, usize>,
}

impl Failovers {
    /// What is known of all, the oldest first.
    fn list(&self, name: impl Fn(NodeId) -> Name) -> Vec<Failover> {
        let open = self.open.iter().map(|open| Failover {
            led_by: open.led_by(&name),
            ..open.seen.clone()
        });
        self.over.iter().cloned().chain(open).collect()
    }

    /// What has been written down of a node's last failover is all that will be.
    fn close(&mut self, is_over: impl Fn(&Open) -> bool, name: impl Fn(NodeId) -> Name) {
        for open in self.open.extract_if(.., |open| is_over(open)) {
            if self.over.len() == FAILOVERS_MAX {
                self.over.pop_front();
            }
            self.over.push_back(Failover {
                led_by: open.led_by(&name),
                ..open.seen
            });
        }
    }

    fn of(&mut self, node: NodeId) -> Option<&mut Open> {
        self.open.iter_mut().find(|open| open.node == node)
    }

    /// The connection with a node has ended.
    fn disconnected(&mut self, node: NodeId, is_goodbye: bool, now: Timestamp) {
        let cause = if is_goodbye {
            Cause::Goodbye
        } else {
            Cause::Broken
        };
        self.ended.insert(node, (now, cause));
        if let Some(open) = self.of(node) {
            let after = now.since(open.heard_at);
            open.seen.disconnected.get_or_insert(after);
        }
    }

    /// Another member than before leads a queue, or nobody does.
    pub(super) fn role_changed(
        &mut self,
        (me, queue): (NodeId, QueueId),
        before: Option<NodeId>,
        role: RoleChange,
        now: Timestamp,
    ) {
        for open in &mut self.open {
            open.role_changed(queue, role, now);
        }
        let by = role.leader;
        if let (Some(by), Some(before)) = (by, before)
            && by == me
            && by != before
        {
            self.changes.entry((by, before)).or_default().push(queue);
        }
    }

    fn catalog_led(&mut self, by: NodeId, now: Timestamp) {
        for open in self.open.iter_mut().filter(|open| open.node != by) {
            open.catalog_waits = false;
            open.look_whether_led(now);
        }
    }

    /// Messages on their way to a queue are sent again, because another node serves it.
    pub(super) fn resent(&mut self, queue: QueueId, count: usize) {
        let concerned =
            |open: &&mut Open| open.waiting.contains(&queue) || open.unused.contains(&queue);
        for open in self.open.iter_mut().filter(concerned) {
            open.seen.resent_count += count;
        }
    }

    /// A queue's leader has answered for messages on their way.
    pub(super) fn confirmed(&mut self, queue: QueueId, now: Timestamp) {
        for open in &mut self.open {
            if open.seen.confirmed.is_none() && open.unused.contains(&queue) {
                open.seen.confirmed = Some(now.since(open.heard_at));
                open.unused.clear();
            }
        }
    }
}

impl Open {
    fn led_by(&self, name: impl Fn(NodeId) -> Name) -> Vec<(Name, usize)> {
        let led_by = self.led_by.iter();
        led_by.map(|(node, count)| (name(*node), *count)).collect()
    }

    fn role_changed(&mut self, queue: QueueId, role: RoleChange, now: Timestamp) {
        let after = now.since(self.heard_at);
        if role.role == Role::Candidate && self.waiting.contains(&queue) {
            self.seen.campaigned.get_or_insert(after);
        }
        let Some(leader) = role.leader.filter(|leader| *leader != self.node) else {
            return;
        };
        if !self.waiting.remove(&queue) {
            return;
        }
        self.seen.first_led.get_or_insert(after);
        self.seen.led_count += 1;
        *self.led_by.entry(leader).or_default() += 1;
        if self.seen.confirmed.is_none() {
            self.unused.insert(queue);
        }
        self.look_whether_led(now);
    }

    fn look_whether_led(&mut self, now: Timestamp) {
        let led_anything = self.seen.led_catalog || self.seen.queue_count > 0;
        if led_anything && self.waiting.is_empty() && !self.catalog_waits {
            let after = now.since(self.heard_at);
            self.seen.all_led.get_or_insert(after);
        }
    }
}

impl Node {
    /// The failovers that are remembered, the oldest first.
    pub(crate) fn failovers(&self) -> Vec<Failover> {
        let Some(cluster) = &self.cluster else {
            return Vec::new();
        };
        cluster.failovers.list(|node| cluster.name_of(node))
    }

    /// The connection with a node has ended.
    pub(super) fn note_disconnected(&mut self, node: NodeId, is_goodbye: bool) {
        let now = self.now;
        if let Some(cluster) = &mut self.cluster {
            cluster.failovers.disconnected(node, is_goodbye, now);
        }
    }

    /// A node is about to be given up. What it leads is known until then.
    pub(super) fn note_suspected(&mut self, node: NodeId, is_restarted: bool) {
        let (now, suspected_at) = (self.now, self.wall_now());
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let leads = |slot: &&QueueSlot| {
            let member = slot.member();
            member.is_some_and(|it| it.replica.group().role_now().leader == Some(node))
        };
        let waiting = self.queues.iter().filter(leads).map(|slot| slot.id);
        let waiting: BTreeSet<_> = waiting.collect();
        let led_catalog = cluster.catalog.leader() == Some(node);
        let ended = cluster.failovers.ended.get(&node).copied();
        let (ended_at, cause) = match ended {
            _ if is_restarted => (ended.map(|(at, _)| at), Cause::Restarted),
            Some((at, cause)) => (Some(at), cause),
            None => (None, Cause::Silence),
        };
        let heard_at = cluster.nodes.heard_at(node).unwrap_or(now);
        // Who is back already was heard after its connection had ended.
        let heard_at = ended_at.map_or(heard_at, |at| heard_at.min(at));
        let seen = Failover {
            node: cluster.name_of(node),
            suspected_at,
            cause,
            suspected: now.since(heard_at),
            patience: cluster.liveness.patience(node).unwrap_or_default(),
            disconnected: ended_at.map(|at| at.since(heard_at)),
            queue_count: waiting.len(),
            led_catalog,
            campaigned: None,
            first_led: None,
            led_count: 0,
            all_led: None,
            led_by: Vec::new(),
            confirmed: None,
            resent_count: 0,
            back: None,
        };
        let news = News::Suspected {
            node: seen.node.clone(),
            silence: seen.suspected,
            cause,
        };
        let nodes = &cluster.nodes;
        let name = |node: NodeId| nodes.name(node).cloned().unwrap_or_default();
        cluster.failovers.close(|open| open.node == node, name);
        cluster.failovers.open.push(Open {
            node,
            heard_at,
            seen,
            waiting,
            catalog_waits: led_catalog,
            unused: BTreeSet::new(),
            led_by: BTreeMap::new(),
        });
        self.report(news);
    }

    /// A node that was given up speaks again.
    pub(super) fn note_trusted(&mut self, node: NodeId) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        cluster.failovers.ended.remove(&node);
        let Some(open) = cluster.failovers.of(node) else {
            return;
        };
        let after = now.since(open.heard_at);
        open.seen.back.get_or_insert(after);
        let node = open.seen.node.clone();
        self.report(News::Trusted { node });
    }

    /// The role of a queue's group on this node has changed, or its leader.
    pub(super) fn note_role(&mut self, id: QueueId, role: RoleChange) {
        let now = self.now;
        let member = self.queues.get_mut(id).and_then(QueueSlot::member_mut);
        let (Some(cluster), Some(member)) = (&mut self.cluster, member) else {
            return;
        };
        let before = member.leader;
        member.leader = role.leader.or(before);
        let me = cluster.me;
        cluster.failovers.role_changed((me, id), before, role, now);
    }

    /// The role of the catalog's group on this node has changed, or its leader.
    pub(super) fn note_catalog_role(&mut self, role: RoleChange) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(leader) = role.leader else { return };
        cluster.failovers.catalog_led(leader, now);
        let by = cluster.name_of(leader);
        self.report(News::CatalogLed { by });
    }

    /// Tells which leaders have changed, and ends what has been watched for long enough; part of every
    /// tick.
    pub(crate) fn tick_failovers(&mut self) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for open in &mut cluster.failovers.open {
            let queues = &self.queues;
            open.waiting.retain(|id| queues.get(*id).is_some());
            open.look_whether_led(now);
        }
        let nodes = &cluster.nodes;
        let name = |node: NodeId| nodes.name(node).cloned().unwrap_or_default();
        cluster
            .failovers
            .close(|open| now.since(open.heard_at) > WATCHED_FOR, name);
        for ((by, before), ids) in std::mem::take(&mut cluster.failovers.changes) {
            let Some(cluster) = &self.cluster else { return };
            let named = ids.iter().take(QUEUES_NAMED_MAX);
            let named = named.filter_map(|id| {
                let slot = self.queues.get(*id)?;
                Some((slot.vhost.clone(), slot.name.clone()))
            });
            let news = News::Led {
                by: cluster.name_of(by),
                before: cluster.name_of(before),
                count: ids.len(),
                first: named.collect(),
            };
            self.report(news);
        }
    }

    pub(crate) fn report(&mut self, news: News) {
        self.outputs.push_back(Output::News(news));
    }
}
