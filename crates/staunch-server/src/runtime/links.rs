//! Links with other nodes, as the driver of the node sees them.
//!
//! What arrives goes through an inbox of its own, batch by batch as it was read from a socket;
//! when that is full, nothing is read. What the node sends is put into the queues of the links
//! while the node is locked, so it never waits: what may get lost is dropped when there is no room,
//! and for anything else a full queue ends the session. The node hears that the peer is down, then
//! up again, and both sides begin anew, as after a connection that broke.

use std::collections::HashMap;

use staunch_node::{PeerInput, PeerOutput, PeerPayload, SendClass};
use staunch_peer::{
    DownReason, Frame, FrameKind, Inbox, InboxClosed, PeerEvent, PeerHandle, Peers, SendError,
    Session,
};
use staunch_types::Name;

use crate::runtime::NodeHandle;

/// Kinds of frames between nodes: a frame's is its place here after [`FrameKind::OWNERS_FIRST`].
const KINDS: [PeerPayload; 5] = [
    PeerPayload::Heartbeat,
    PeerPayload::Raft,
    PeerPayload::Catalog,
    PeerPayload::Queue,
    PeerPayload::Transfer,
];

/// Takes the events of all links to the node.
#[derive(Clone)]
pub(crate) struct PeerInbox(pub(crate) NodeHandle);

/// All links, and those that are up.
pub(crate) struct Links {
    peers: Peers<PeerInbox>,
    up: HashMap<Name, (PeerHandle, Session)>,
}

impl Inbox for PeerInbox {
    async fn deliver(&self, events: Vec<PeerEvent>) -> Result<(), InboxClosed> {
        if self.0.hear(events).await {
            Ok(())
        } else {
            Err(InboxClosed)
        }
    }
}

impl Links {
    pub(crate) fn new(peers: Peers<PeerInbox>) -> Self {
        let up = HashMap::new();
        Self { peers, up }
    }

    /// What the node is told of an event.
    pub(crate) fn hear(&mut self, event: PeerEvent) -> Option<PeerInput> {
        match event {
            PeerEvent::Up {
                peer,
                session,
                incarnation,
                features: _,
            } => {
                if let Some(handle) = self.peers.peer(&peer) {
                    self.up.insert(peer.clone(), (handle, session));
                }
                Some(PeerInput::Up { peer, incarnation })
            }
            PeerEvent::Down { peer, reason, .. } => {
                self.up.remove(&peer);
                let goodbye = reason == DownReason::Goodbye;
                Some(PeerInput::Down { peer, goodbye })
            }
            PeerEvent::Frame {
                peer,
                kind,
                payload,
                ..
            } => {
                let Some(kind) = payload_kind(kind) else {
                    self.give_up(&peer, &format!("it sends frames of kind {}", kind.0));
                    return None;
                };
                Some(PeerInput::Received {
                    peer,
                    kind,
                    payload,
                })
            }
            // A session whose queue was full has been ended.
            PeerEvent::Room { .. } => None,
        }
    }

    /// Sends a frame, or ends the session.
    pub(crate) fn send(&mut self, output: PeerOutput) {
        let PeerOutput {
            peer,
            kind,
            payload,
        } = output;
        // The node will hear that the peer is down.
        let Some((handle, session)) = self.up.get(&peer) else {
            return;
        };
        let frame = match Frame::new(frame_kind(kind), payload) {
            Ok(frame) => frame,
            Err(error) => return self.give_up(&peer, &error.to_string()),
        };
        match kind.class() {
            // Dropped frames are counted by the link.
            SendClass::Lossy => drop(handle.send_lossy(frame)),
            SendClass::Reliable => match handle.send(*session, frame) {
                Ok(()) | Err(SendError::Down) => {}
                Err(SendError::Full(_)) => self.give_up(&peer, "too much waits for it"),
            },
        }
    }

    /// Ends the session with a peer; the node will hear that it is down.
    pub(crate) fn give_up(&mut self, peer: &Name, why: &str) {
        let Some((handle, session)) = self.up.remove(peer) else {
            return;
        };
        if handle.end(session) {
            tracing::warn!(event = "peer.given_up", %peer, why, "the session with a peer is ended");
        }
    }
}

fn frame_kind(kind: PeerPayload) -> FrameKind {
    let place = KINDS.iter().position(|known| *known == kind);
    let place = place.and_then(|place| u8::try_from(place).ok());
    FrameKind(FrameKind::OWNERS_FIRST.0 + place.expect("all kinds are listed"))
}

fn payload_kind(kind: FrameKind) -> Option<PeerPayload> {
    let place = kind.0.checked_sub(FrameKind::OWNERS_FIRST.0)?;
    KINDS.get(usize::from(place)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_on_the_wire_stay_what_they_are() {
        let expected = [
            (PeerPayload::Heartbeat, 16),
            (PeerPayload::Raft, 17),
            (PeerPayload::Catalog, 18),
            (PeerPayload::Queue, 19),
            (PeerPayload::Transfer, 20),
        ];
        for (kind, number) in expected {
            assert_eq!(frame_kind(kind), FrameKind(number));
            assert_eq!(payload_kind(FrameKind(number)), Some(kind));
        }
        assert_eq!(payload_kind(FrameKind(15)), None);
        assert_eq!(payload_kind(FrameKind(21)), None);
    }
}
