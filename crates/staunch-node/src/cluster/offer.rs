//! From messages and decisions to entries: what is offered to a leader, what its queue has decided,
//! and what waits until that is committed.

use staunch_broker::{Arrival, Origin, Overflow, QueueCommand};
use staunch_replica::EntryMessage;
use staunch_types::{BodyRef, Message, QueueId, Request, Term};

use super::{Place, asked::channel_of, proposal::Proposal};
use crate::{
    node::Node,
    pending::{Again, Pending},
    queues::QueueSlot,
    session::SessionSlot,
};

/// Messages of one origin for a queue, in order.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) origin: Origin,
    /// Everything below it has been answered.
    pub(crate) base: u64,
    /// The number offered before the first of these since this node began to serve the queue, or
    /// since the link was made; `base - 1` if they are the first.
    pub(crate) follows: u64,
    /// Numbers ascend; those between that are missing were answered.
    pub(crate) messages: Vec<(u64, EntryMessage)>,
}

/// What became of an [`Offer`].
#[derive(Debug, Default)]
pub(crate) struct Offered {
    /// Numbers that a full queue refuses: they will be heard and have not entered.
    pub(crate) refused: Vec<u64>,
    /// Everything up to here was committed before.
    pub(crate) heard: u64,
}

impl Node {
    /// Takes messages for a replicated queue that is served here. They are safe when
    /// [`Node::heard`] says so. What does not follow on what was offered before is passed over:
    /// it will be offered again.
    pub(crate) fn offer(&mut self, id: QueueId, offer: Offer) -> Offered {
        let mut offered = Offered::default();
        let Some(slot) = self.queues.get_mut(id).filter(|slot| slot.is_served_here()) else {
            return offered;
        };
        let QueueSlot {
            place,
            queue,
            settings,
            ..
        } = slot;
        let Place::Replicated(member) = place else {
            return offered;
        };
        offered.heard = queue.number_of(offer.origin);
        let known = member.offered.get(&offer.origin).copied();
        let mut seen = known.unwrap_or(0).max(offered.heard).max(offer.base - 1);
        if offer.follows > seen {
            return offered;
        }
        let turned_away = member.refused.entry(offer.origin).or_default();
        *turned_away = turned_away.split_off(&offer.base);
        let mut refused = None;
        for (number, message) in offer.messages {
            if number <= seen {
                // The answer to that may have been lost.
                offered.refused.extend(turned_away.get(&number));
                continue;
            }
            seen = number;
            let arrival = Arrival::from_meta(BodyRef(0), 0, message.meta);
            let body_size_bytes = arrival.map_or(0, |arrival| arrival.body_size_bytes);
            let is_full = settings.overflow != Overflow::DropHead
                && queue.is_full_with(member.proposal.coming(), body_size_bytes);
            if is_full {
                offered.refused.push(number);
                turned_away.insert(number);
                refused = Some(message);
                member.proposal.push_refused(offer.origin, number);
            } else {
                member
                    .proposal
                    .push(offer.origin, number, message, body_size_bytes);
            }
            if let Some(message) = refused.take()
                && settings.overflow == Overflow::RejectPublishDlx
            {
                let message = Message::from_stored(message.stored).ok();
                if let Some(message) = message {
                    self.dead_letters.refuse(id, &message, false);
                }
            }
        }
        if turned_away.is_empty() {
            member.refused.remove(&offer.origin);
        }
        member.offered.insert(offer.origin, seen);
        self.mark_proposing(id);
        if self.dead_letters.has_refused() {
            self.publish_refused();
        }
        offered
    }

    /// Has something of the queue proposed when the drain ends.
    pub(crate) fn mark_proposing(&mut self, id: QueueId) {
        let Some(slot) = self.queues.get_mut(id) else {
            return;
        };
        if let Place::Replicated(member) = &mut slot.place
            && let Some(cluster) = &mut self.cluster
        {
            cluster.groups.mark_proposing(id, member);
        }
    }

    /// Makes entries of what this drain has gathered, and lets the groups have them.
    pub(crate) fn propose_all(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for id in std::mem::take(&mut cluster.groups.proposing) {
            self.propose(id);
        }
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let groups = &mut cluster.groups;
        // What a group has put back has no number yet.
        if groups.proposing.is_empty() {
            for (upto, _) in groups.waiting.iter_mut().filter(|(upto, _)| upto.is_none()) {
                *upto = Some(groups.last_proposal);
            }
        }
        self.advance_groups();
    }

    fn propose(&mut self, id: QueueId) {
        let Some(slot) = self.queues.get_mut(id) else {
            return;
        };
        let leads = slot.queue.leads();
        let Some(member) = slot.member_mut() else {
            return;
        };
        member.is_proposing = false;
        if !leads {
            member.proposal = Proposal::default();
            return;
        }
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        while let Some(data) = member.proposal.next_entry() {
            if member.replica.propose(&data).is_err() {
                // A leader that hands over, or whose majority lags: tried again in the next drain.
                member.proposal.put_back(data);
                member.is_proposing = true;
                cluster.groups.proposing.push(id);
                break;
            }
            cluster.groups.last_proposal += 1;
            let number = cluster.groups.last_proposal;
            cluster.groups.outstanding.insert(number);
            let index = member.replica.group().last_index();
            member.outstanding.push_back((index, number));
        }
        self.rouse(id);
    }

    /// Keeps something back until everything that was decided before it is committed, and then
    /// until it is on disk.
    pub(crate) fn push_pending(&mut self, pending: Pending) {
        match &mut self.cluster {
            Some(cluster) => cluster.groups.waiting.push_back((None, pending)),
            None => self.pending.push(pending),
        }
    }

    /// Whether a request about a replicated queue waits until all is committed that was published
    /// before: a client finds what it has published, and purges it. It waits once.
    pub(crate) fn waits_for_publishes(
        &mut self,
        session: SessionSlot,
        id: QueueId,
        request: Request,
    ) -> bool {
        let is_replicated = self.queues.get(id).is_some_and(QueueSlot::is_replicated);
        if !is_replicated || self.is_asked_again {
            return false;
        }
        self.flush_outbox(id);
        let is_settled = !self.asks_for_majority(id) && self.is_all_committed();
        let found = self.sessions.get(session);
        let Some(found) = found.filter(|_| !is_settled) else {
            return false;
        };
        let connection = found.id;
        let served = (id, self.term_served(id));
        self.push_pending(Pending::Again(Box::new(Again {
            session,
            connection,
            served,
            request,
        })));
        true
    }

    /// Proposes an entry that changes nothing, if the queue may have another server that this node
    /// does not know of: when it is committed there is none, and what this one says holds. True if
    /// so: the answer is to be kept back with [`Node::push_pending`].
    pub(crate) fn asks_for_majority(&mut self, id: QueueId) -> bool {
        let slot = self.queues.get(id);
        if !slot.is_some_and(|slot| self.may_have_successor(slot)) {
            return false;
        }
        let slot = self.queues.get_mut(id);
        let Some(member) = slot.and_then(QueueSlot::member_mut) else {
            return false;
        };
        let ranges = Vec::new();
        member.proposal.command(QueueCommand::Settled { ranges });
        self.mark_proposing(id);
        true
    }

    fn term_served(&self, id: QueueId) -> Term {
        let cluster = self.cluster.as_ref();
        cluster.map_or(Term(0), |cluster| cluster.edge.term_of(id))
    }

    /// A request has waited for what was published before.
    pub(crate) fn look_again(&mut self, again: Again) {
        let Again {
            session,
            connection,
            served: (queue, term),
            request,
        } = again;
        let Some(found) = self.sessions.get(session) else {
            return;
        };
        if found.id != connection {
            return;
        }
        let is_shadow = found.shadow_of.is_some();
        let is_over = |channel| !found.channels.contains_key(&channel);
        if is_shadow && channel_of(&request).is_some_and(is_over) {
            // It is not to be opened again for that.
            return;
        }
        if is_shadow && self.term_served(queue) != term {
            // Its own node asks again whoever serves the queue now.
            return;
        }
        self.is_asked_again = true;
        if is_shadow {
            self.take_request(session, request);
        } else {
            self.handle_rare_request(session, request);
        }
        self.is_asked_again = false;
    }

    /// Whether nothing waits for a commit.
    pub(crate) fn is_all_committed(&self) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_none_or(|cluster| cluster.groups.is_all_applied())
    }

    /// Has `change` look at everything that waits for commits, and takes out what it says so of.
    pub(super) fn take_waiting(
        &mut self,
        mut change: impl FnMut(&mut Pending) -> bool,
    ) -> Vec<Pending> {
        let Some(cluster) = &mut self.cluster else {
            return Vec::new();
        };
        let waiting = std::mem::take(&mut cluster.groups.waiting);
        let mut taken = Vec::new();
        for (upto, mut pending) in waiting {
            if change(&mut pending) {
                taken.push(pending);
            } else {
                cluster.groups.waiting.push_back((upto, pending));
            }
        }
        taken
    }

    pub(super) fn release_committed(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let groups = &mut cluster.groups;
        let first_open = groups.outstanding.first().copied().unwrap_or(u64::MAX);
        while let Some((_, pending)) = groups
            .waiting
            .pop_front_if(|(upto, _)| upto.is_some_and(|upto| upto < first_open))
        {
            self.pending.push(pending);
        }
    }
}
