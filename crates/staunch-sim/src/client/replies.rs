//! What a channel does with the methods it receives.

use staunch_amqp_codec::methods::{ChannelClose, ChannelCloseOk, Method};

use crate::{
    client::{
        Wire,
        channel::{Asked, Channel, Phase},
        content::{Assembling, Carrier},
    },
    history::{Fact, MessageId, QueueRef, Settlement, Stamp},
    topology::QueueKind,
    witness::Orphan,
};

/// What a node says of a queue on another one that it cannot reach.
const HOME_DOWN: &str = "is down or inaccessible";
/// What it says of a change on which no majority has agreed yet.
const STILL_POSSIBLE: &str = "the change may still be made";

impl Channel {
    /// Takes a method; true if the channel is over.
    pub fn receive_method(&mut self, method: Method<'_>, wire: &mut Wire<'_>) -> bool {
        match method {
            Method::ChannelCloseOk(_) => return self.receive_close_ok(wire),
            Method::ChannelClose(close) => return self.receive_close(close, wire),
            _ if self.phase == Phase::Closing => {}
            Method::BasicDeliver(deliver) => {
                let consumer = String::from_utf8_lossy(&deliver.consumer_tag).into_owned();
                let carrier = Carrier::Deliver {
                    consumer,
                    redelivered: deliver.redelivered,
                    tag: deliver.delivery_tag,
                };
                self.assembling = Some(Assembling::new(
                    carrier,
                    &deliver.exchange,
                    &deliver.routing_key,
                ));
            }
            Method::BasicReturn(back) => {
                wire.witness.coverage.hit("basic.return");
                self.assembling = Some(Assembling::new(
                    Carrier::Return,
                    &back.exchange,
                    &back.routing_key,
                ));
            }
            Method::BasicGetOk(got) => {
                let Some(Asked::Get(queue, no_ack, asked)) = self.asked.pop_front() else {
                    wire.witness.protocol_broken("get-ok without a get".into());
                    return false;
                };
                let (tag, redelivered) = (got.delivery_tag, got.redelivered);
                let carrier = Carrier::Get {
                    queue,
                    asked,
                    no_ack,
                    redelivered,
                    tag,
                };
                self.assembling = Some(Assembling::new(carrier, &got.exchange, &got.routing_key));
            }
            Method::BasicAck(ack) => self.confirmed(ack.delivery_tag, ack.multiple, true, wire),
            Method::BasicNack(nack) => {
                wire.witness.coverage.hit("publish nacked");
                self.confirmed(nack.delivery_tag, nack.multiple, false, wire);
            }
            Method::BasicCancel(cancel) => {
                wire.witness.coverage.hit("consumer cancelled by server");
                let tag = String::from_utf8_lossy(&cancel.consumer_tag).into_owned();
                let Some(consumer) = self.consumers.remove(&tag) else {
                    let what = format!("unknown consumer {tag} was cancelled by the server");
                    wire.witness.protocol_broken(what);
                    return false;
                };
                let topology = wire.witness.definitions.topology();
                // A node that cannot hear the consumer's does not know of it.
                let is_alone = !wire.witness.history.is_cluster;
                if is_alone && topology.queues[consumer.queue.0].kind == QueueKind::Expiring {
                    let what = "a queue with a consumer has expired".to_owned();
                    wire.witness.history.push(Fact::DefinitionWrong { what });
                }
            }
            other => self.receive_answer(other, wire),
        }
        false
    }

    fn receive_close_ok(&mut self, wire: &mut Wire<'_>) -> bool {
        if self.phase != Phase::Closing {
            wire.witness
                .protocol_broken("channel.close-ok without a close".into());
        }
        wire.witness.coverage.hit("channel close-ok");
        if !self.provoked {
            wire.witness
                .history
                .push(Fact::Barrier { channel: self.key });
        }
        true
    }

    fn receive_close(&mut self, close: ChannelClose<'_>, wire: &mut Wire<'_>) -> bool {
        ChannelCloseOk.encode_frame(self.number, wire.out);
        let text = String::from_utf8_lossy(close.reply_text.as_bytes()).into_owned();
        let (connection, number, code) = (wire.connection, self.number, close.reply_code);
        wire.witness.line(format_args!(
            "connection {connection} channel {number}: {code} {text}"
        ));
        if self.phase == Phase::Closing {
            // Both sides closed at once: the answer to ours still comes, but what was settled
            // after the error was ignored.
            self.provoked = true;
            return false;
        }
        let expected = match code {
            404 => "channel error 404",
            405 => "channel error 405",
            406 => "channel error 406",
            403 => "channel error 403",
            _ => "channel error, other",
        };
        wire.witness.coverage.hit(expected);
        self.blame(close, wire);
        let is_tx_too_large = code == 406 && self.tx.is_some();
        let due = self.provoked || !self.asked.is_empty() || code == 404 || is_tx_too_large;
        if !due {
            wire.witness
                .protocol_broken(format!("channel closed for nothing: {code} {text}"));
        }
        self.orphan_requests(wire.connection, wire.witness);
        true
    }

    /// If the error names the oldest request, that one was refused.
    fn blame(&mut self, close: ChannelClose<'_>, wire: &mut Wire<'_>) {
        let class_method = (close.class_id, close.method_id);
        let names = |asked: &Asked| match asked {
            Asked::Probe(..) | Asked::Inequivalent => class_method == (50, 10),
            Asked::Purge(_) => class_method == (50, 30),
            Asked::Change(change, ..) => crate::client::setup::is_named(*change, class_method),
            _ => false,
        };
        if !self.asked.front().is_some_and(names) {
            return;
        }
        match self.asked.pop_front() {
            Some(Asked::Probe(..)) if says(&close, HOME_DOWN) => {
                wire.witness.coverage.hit("home of a queue is down");
            }
            Some(Asked::Change(_, operation, removal)) if says(&close, STILL_POSSIBLE) => {
                wire.witness.coverage.hit("no majority for a definition");
                let (witness, connection) = (&mut *wire.witness, wire.connection);
                witness.orphan(connection, Orphan::Operation(operation));
                if let Some(removal) = removal {
                    witness.orphan(connection, Orphan::Removal(removal));
                }
            }
            Some(Asked::Probe(queue, from)) if close.reply_code == 404 => {
                probe_answered(queue, from, false, wire);
            }
            Some(Asked::Inequivalent) => wire.witness.coverage.hit("inequivalent declare refused"),
            Some(Asked::Purge(removal)) => {
                wire.witness.history.push(Fact::RemovalOver {
                    removal,
                    done: false,
                });
            }
            Some(Asked::Change(_, operation, removal)) => {
                wire.witness.finish_change(operation, false);
                if let Some(removal) = removal {
                    wire.witness.history.push(Fact::RemovalOver {
                        removal,
                        done: false,
                    });
                }
            }
            _ => {}
        }
        self.provoked = true;
    }

    fn confirmed(&mut self, tag: u64, multiple: bool, positive: bool, wire: &mut Wire<'_>) {
        let channel = self.key;
        wire.witness.history.push(if positive {
            Fact::Confirmed {
                channel,
                tag,
                multiple,
            }
        } else {
            Fact::Nacked {
                channel,
                tag,
                multiple,
            }
        });
        let first = if multiple { 0 } else { tag };
        let covered: Vec<(u64, MessageId)> = self
            .unconfirmed
            .range(first..=tag)
            .map(|(seq, id)| (*seq, *id))
            .collect();
        if multiple && covered.len() > 1 {
            wire.witness.coverage.hit("confirm of several");
        }
        wire.witness
            .coverage
            .add("publish confirmed", covered.len() as u64);
        for (seq, id) in covered {
            self.unconfirmed.remove(&seq);
            wire.witness.publish_over(id);
        }
    }

    fn receive_answer(&mut self, method: Method<'_>, wire: &mut Wire<'_>) {
        let asked = self.asked.pop_front();
        match (method, asked) {
            (Method::ChannelOpenOk(_), Some(Asked::Open))
            | (Method::BasicQosOk(_), Some(Asked::Qos))
            | (Method::TxSelectOk(_), Some(Asked::TxSelect)) => {}
            (Method::ConfirmSelectOk(_), Some(Asked::ConfirmSelect)) => self.confirming = true,
            (Method::QueueDeclareOk(ok), Some(Asked::Probe(queue, from))) => {
                let ready = u64::from(ok.message_count);
                self.probed.insert(queue, ready);
                probe_answered(queue, from, true, wire);
                counted(queue, from, ready, wire);
            }
            (Method::QueueDeclareOk(_), Some(Asked::Inequivalent)) => {
                wire.witness
                    .protocol_broken("an inequivalent declaration was accepted".into());
            }
            (method, Some(Asked::Change(change, operation, removal)))
                if crate::client::setup::is_answer(&method, change) =>
            {
                wire.witness.finish_change(operation, true);
                if let Some(removal) = removal {
                    wire.witness.coverage.hit("queue deleted");
                    wire.witness.history.push(Fact::RemovalOver {
                        removal,
                        done: true,
                    });
                }
            }
            (Method::QueuePurgeOk(_), Some(Asked::Purge(removal))) => {
                wire.witness.coverage.hit("queue purged");
                wire.witness.history.push(Fact::RemovalOver {
                    removal,
                    done: true,
                });
            }
            (Method::BasicConsumeOk(ok), Some(Asked::Consume(tag)))
                if *ok.consumer_tag == *tag.as_bytes() => {}
            (Method::BasicCancelOk(_), Some(Asked::Cancel(tag))) => {
                self.consumers.remove(&tag);
            }
            (Method::BasicGetEmpty(_), Some(Asked::Get(queue, _, asked))) => {
                wire.witness.coverage.hit("get-empty");
                counted(queue, asked, 0, wire);
            }
            (Method::BasicRecoverOk(_), Some(Asked::Recover)) => self.recovered(wire),
            (Method::TxCommitOk(_), Some(Asked::Commit(commit, messages))) => {
                self.committed(commit, &messages, wire);
            }
            (Method::TxRollbackOk(_), Some(Asked::Rollback(messages))) => {
                wire.witness.coverage.hit("transaction rolled back");
                for id in messages {
                    wire.witness.publish_over(id);
                }
            }
            (method, asked) => {
                let what = format!("{} answers {asked:?}", method.name());
                wire.witness.protocol_broken(what);
            }
        }
    }

    fn recovered(&mut self, wire: &mut Wire<'_>) {
        let tags: Vec<u64> = self.unacked.keys().copied().collect();
        wire.witness
            .coverage
            .add("recovered deliveries", tags.len() as u64);
        self.settled(&tags, Settlement::Requeue, wire.witness);
        self.recovering = false;
    }
}

fn says(close: &ChannelClose<'_>, words: &str) -> bool {
    String::from_utf8_lossy(close.reply_text.as_bytes()).contains(words)
}

fn counted(queue: QueueRef, asked: Stamp, ready: u64, wire: &mut Wire<'_>) {
    let fact = Fact::Counted {
        queue,
        asked,
        ready,
    };
    wire.witness.history.push(fact);
}

fn probe_answered(queue: QueueRef, from: Stamp, there: bool, wire: &mut Wire<'_>) {
    let now = wire.witness.history.next_stamp();
    let possible = wire.witness.definitions.queue(queue, from, Some(now));
    wire.witness.coverage.hit("queue probed");
    let legal = if there {
        possible.present
    } else {
        possible.absent && !wire.witness.is_gone_early(queue, from)
    };
    if !legal {
        let name = &wire.witness.history.queues[queue.0].name;
        let word = if there { "there" } else { "gone" };
        let what = format!("queue '{name}' is {word} against all answers before");
        wire.witness.line(format_args!("DEFINITION WRONG {what}"));
        wire.witness.history.push(Fact::DefinitionWrong { what });
    }
}
