//! Declarations of queues, one after the other on each channel.
//!
//! A client that makes many queues may send their declarations without waiting for each answer. They
//! are answered in order, and none counts behind one that is refused, as if it had waited. In a
//! cluster those of new queues that are declared alike become one change of the catalog: nodes
//! agree, and disks write, once for all of them.

use std::collections::VecDeque;

use staunch_broker::CatalogCommand;
use staunch_types::{ChannelNumber, Event, Name, Reply, Request, request::DeclareQueue};

use crate::{
    cluster::BATCH_FILL_SIZE_BYTES,
    node::Node,
    replies::is_reply_name,
    session::{Channel, SessionSlot},
};

/// Declarations that become one change of the catalog.
const TOGETHER_MAX: usize = 64;

/// What a channel is declaring; there while something is.
#[derive(Debug, Default)]
pub(crate) struct Declaring {
    /// Behind the one that is under way.
    waiting: VecDeque<DeclareQueue>,
    /// How many of those are under way with it.
    joined_count: usize,
}

impl Channel {
    /// Takes a declaration if it is its turn, else keeps it.
    fn begin_to_declare(&mut self, declare: DeclareQueue) -> Option<DeclareQueue> {
        if let Some(declaring) = &mut self.declaring {
            declaring.waiting.push_back(declare);
            return None;
        }
        self.declaring = Some(Box::default());
        Some(declare)
    }

    /// What is next when one has been answered, if that is not under way already.
    fn next_to_declare(&mut self) -> Option<DeclareQueue> {
        let declaring = self.declaring.as_mut()?;
        let next = declaring.waiting.pop_front();
        if declaring.joined_count > 0 {
            declaring.joined_count -= 1;
            return None;
        }
        if next.is_none() {
            self.declaring = None;
        }
        next
    }
}

/// Whether an event answers a declaration, and on which channel.
pub(crate) fn declared_on(event: &Event) -> Option<ChannelNumber> {
    match event {
        Event::Reply {
            channel,
            reply: Reply::QueueDeclared { .. },
        } => Some(*channel),
        _ => None,
    }
}

impl Node {
    /// A client declares a queue.
    pub(crate) fn declare_in_turn(&mut self, session: SessionSlot, declare: DeclareQueue) {
        let channel = self.sessions.channel_mut(session, declare.channel);
        let Some(channel) = channel else { return };
        if let Some(declare) = channel.begin_to_declare(declare) {
            self.handle_permitted(session, Request::DeclareQueue(declare));
        }
    }

    /// Goes on where a declaration has been answered.
    pub(crate) fn go_on_declaring(&mut self) {
        for (session, number) in self.sessions.take_declared() {
            let channel = self.sessions.channel_mut(session, number);
            if let Some(declare) = channel.and_then(Channel::next_to_declare) {
                self.handle_permitted(session, Request::DeclareQueue(declare));
            }
        }
    }

    /// The declarations of new queues that wait behind `asked` and are like it: commands for the
    /// batch that `first`, the command for `asked`, is in.
    pub(crate) fn join_declarations(
        &mut self,
        session: SessionSlot,
        asked: &DeclareQueue,
        first: &CatalogCommand,
        size_bytes: &mut usize,
    ) -> Vec<CatalogCommand> {
        let CatalogCommand::DeclareQueue {
            vhost,
            owner,
            placement: place_of_first,
            partitions,
            ..
        } = first
        else {
            return Vec::new();
        };
        if !partitions.is_empty() {
            return Vec::new();
        }
        let names = self.names_alike(session, vhost, asked);
        let mut places = self.place_more(place_of_first, names.len());
        let mut commands = Vec::new();
        for (name, server_named) in names {
            let queue = (vhost.clone(), name);
            let mut command = self.declaration(queue, *owner, server_named, asked.options.clone());
            if let CatalogCommand::DeclareQueue { placement, .. } = &mut command {
                // A policy may want this one replicated, or not.
                if placement.is_replicated != place_of_first.is_replicated {
                    break;
                }
                *placement = places.next().unwrap_or_default();
            }
            let is_good = self.check_proposal(&command, size_bytes).is_ok();
            if !is_good || *size_bytes > BATCH_FILL_SIZE_BYTES {
                break;
            }
            commands.push(command);
        }
        if let Some(open) = self.sessions.channel_mut(session, asked.channel)
            && let Some(declaring) = &mut open.declaring
        {
            declaring.joined_count = commands.len();
        }
        commands
    }

    /// Names of new queues that are declared next on a channel, like the one before them.
    fn names_alike(
        &mut self,
        session: SessionSlot,
        vhost: &Name,
        asked: &DeclareQueue,
    ) -> Vec<(Name, bool)> {
        let open = self.sessions.channel_mut(session, asked.channel);
        let Some(declaring) = open.and_then(|open| open.declaring.as_deref()) else {
            return Vec::new();
        };
        let waiting: Vec<_> = declaring
            .waiting
            .iter()
            .take(TOGETHER_MAX)
            .cloned()
            .collect();
        let mut names: Vec<(Name, bool)> = Vec::new();
        for next in waiting {
            let is_alike =
                !next.passive && next.options == asked.options && !is_reply_name(&next.queue);
            let is_new = self.catalog.queue(vhost, &next.queue).is_none()
                && next.queue != asked.queue
                && names.iter().all(|(name, _)| *name != next.queue);
            let name = (next.queue.clone(), next.server_named);
            let request = Request::DeclareQueue(next);
            if !is_alike || !is_new || self.check_request(session, &request).is_err() {
                break;
            }
            names.push(name);
        }
        names
    }

    /// A declaration has turned out otherwise than those it was proposed with expect: they are
    /// looked at one by one.
    pub(crate) fn part_declarations(&mut self, session: SessionSlot, channel: ChannelNumber) {
        if let Some(open) = self.sessions.channel_mut(session, channel)
            && let Some(declaring) = &mut open.declaring
        {
            declaring.joined_count = 0;
        }
    }
}
