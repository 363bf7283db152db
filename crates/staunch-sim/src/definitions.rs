//! The reference model of the definitions: what may and what must exist at any time, and so
//! where a message may and must go (contract C5).

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    history::{QueueRef, Stamp},
    register::{Operation, Possible, Register},
    topology::{BindingRef, DEFAULT_EXCHANGE, ExchangeRef, Target, Topology, matches},
};

/// A change of the topology a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// `queue.declare`
    DeclareQueue(QueueRef),
    /// `queue.delete`
    DeleteQueue(QueueRef),
    /// `exchange.declare`
    DeclareExchange(ExchangeRef),
    /// `exchange.delete`
    DeleteExchange(ExchangeRef),
    /// `queue.bind`, `exchange.bind`
    Bind(BindingRef),
    /// `queue.unbind`, `exchange.unbind`
    Unbind(BindingRef),
}

/// The model.
#[derive(Debug)]
pub struct Definitions {
    topology: Topology,
    queues: Vec<Register>,
    exchanges: Vec<Register>,
    bindings: Vec<Register>,
    pending: BTreeMap<Operation, Change>,
    next_operation: u64,
}

/// Where a message had to go, and where else it may have gone.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// Certain.
    pub must: BTreeSet<QueueRef>,
    /// Possible.
    pub may: BTreeSet<QueueRef>,
}

impl Definitions {
    /// Nothing exists yet.
    pub fn new(topology: Topology) -> Self {
        Self {
            queues: vec![Register::default(); topology.queues.len()],
            exchanges: vec![Register::default(); topology.exchanges.len()],
            bindings: vec![Register::default(); topology.bindings.len()],
            topology,
            pending: BTreeMap::new(),
            next_operation: 0,
        }
    }

    /// The universe.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// A client sends a change.
    pub fn begin(&mut self, change: Change, at: Stamp) -> Operation {
        self.next_operation += 1;
        let operation = Operation(self.next_operation);
        self.pending.insert(operation, change);
        let value = match change {
            Change::DeclareQueue(_) | Change::DeclareExchange(_) | Change::Bind(_) => true,
            Change::DeleteQueue(_) | Change::DeleteExchange(_) | Change::Unbind(_) => false,
        };
        self.each_register(change, |register| register.begin(operation, value, at));
        operation
    }

    /// The change was answered.
    pub fn finish(&mut self, operation: Operation, success: bool, at: Stamp) {
        if let Some(change) = self.pending.remove(&operation) {
            self.each_register(change, |register| register.finish(operation, success, at));
        }
    }

    /// The change will never be answered, and can have no effect from now on.
    pub fn abandon(&mut self, operation: Operation, at: Stamp) {
        if let Some(change) = self.pending.remove(&operation) {
            self.each_register(change, |register| register.abandon(operation, at));
        }
    }

    /// The node is down: what is not durable is gone.
    pub fn crash(&mut self, at: Stamp) {
        self.each_transient(|register| register.clear(at));
    }

    /// A node of several is down: what is not durable may be gone, now or later.
    pub fn doubt(&mut self, at: Stamp) {
        self.each_transient(|register| register.doubt(at));
    }

    fn each_transient(&mut self, mut write: impl FnMut(&mut Register)) {
        let topology = &self.topology;
        for (register, queue) in self.queues.iter_mut().zip(&topology.queues) {
            if !queue.durable() {
                write(register);
            }
        }
        for (register, exchange) in self.exchanges.iter_mut().zip(&topology.exchanges) {
            if !exchange.durable {
                write(register);
            }
        }
        for (register, binding) in self.bindings.iter_mut().zip(&topology.bindings) {
            if !topology.binding_durable(binding) {
                write(register);
            }
        }
    }

    /// Whether a queue may or must have been there in an interval.
    pub fn queue(&self, queue: QueueRef, from: Stamp, to: Option<Stamp>) -> Possible {
        let mut possible = self.queues[queue.0].read(from, to);
        possible.absent |= !self.topology.queues[queue.0].certain();
        possible
    }

    /// Where a publish went that was under way in an interval.
    pub fn route(&self, exchange: &str, key: &str, from: Stamp, to: Option<Stamp>) -> Route {
        let mut route = Route::default();
        if exchange == DEFAULT_EXCHANGE {
            if let Some(queue) = self.topology.queue_named(key) {
                let possible = self.queue(queue, from, to);
                add(&mut route, queue, possible, true);
            }
        } else if let Some(exchange) = self.topology.exchange_named(exchange) {
            let certain = !self.exchanges[exchange.0].read(from, to).absent;
            self.walk(exchange, key, (from, to), certain, &mut route);
        }
        route
    }

    fn walk(
        &self,
        source: ExchangeRef,
        key: &str,
        interval: (Stamp, Option<Stamp>),
        certain: bool,
        route: &mut Route,
    ) {
        let kind = self.topology.exchanges[source.0].kind;
        for (index, binding) in self.topology.bindings.iter().enumerate() {
            if binding.source != source || !matches(kind, &binding.key, key) {
                continue;
            }
            let possible = self.bindings[index].read(interval.0, interval.1);
            match binding.target {
                Target::Queue(queue) => {
                    let certain_queue = !self.queue(queue, interval.0, interval.1).absent;
                    add(route, queue, possible, certain && certain_queue);
                }
                Target::Exchange(next) if possible.present => {
                    self.walk(next, key, interval, certain && !possible.absent, route);
                }
                Target::Exchange(_) => {}
            }
        }
    }

    /// Every register a change writes: a deletion takes the bindings along.
    fn each_register(&mut self, change: Change, mut write: impl FnMut(&mut Register)) {
        let bindings = self.bindings.iter_mut().zip(&self.topology.bindings);
        match change {
            Change::DeclareQueue(queue) => write(&mut self.queues[queue.0]),
            Change::DeclareExchange(exchange) => write(&mut self.exchanges[exchange.0]),
            Change::Bind(binding) | Change::Unbind(binding) => write(&mut self.bindings[binding.0]),
            Change::DeleteQueue(queue) => {
                write(&mut self.queues[queue.0]);
                bindings
                    .filter(|(_, binding)| binding.target == Target::Queue(queue))
                    .for_each(|(register, _)| write(register));
            }
            Change::DeleteExchange(exchange) => {
                write(&mut self.exchanges[exchange.0]);
                bindings
                    .filter(|(_, binding)| {
                        binding.source == exchange || binding.target == Target::Exchange(exchange)
                    })
                    .for_each(|(register, _)| write(register));
            }
        }
    }
}

fn add(route: &mut Route, queue: QueueRef, possible: Possible, certain: bool) {
    if possible.present {
        route.may.insert(queue);
        if certain && !possible.absent {
            route.must.insert(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Binding, Exchange, Queue, QueueKind};

    fn definitions() -> Definitions {
        let exchange = Exchange {
            name: "x",
            kind: "topic",
            delays: false,
            durable: true,
            churned: false,
        };
        let target = Target::Queue(QueueRef(0));
        let key = "a.*".to_owned();
        Definitions::new(Topology {
            exchanges: vec![exchange],
            queues: vec![Queue::plain("q".into(), QueueKind::Transient)],
            bindings: vec![Binding {
                source: ExchangeRef(0),
                target,
                key,
                churned: true,
            }],
        })
    }

    fn done(definitions: &mut Definitions, change: Change, at: usize) {
        let operation = definitions.begin(change, Stamp(at));
        definitions.finish(operation, true, Stamp(at + 1));
    }

    #[test]
    fn a_route_must_be_taken_only_while_all_of_it_is_certain() {
        let mut definitions = definitions();
        done(&mut definitions, Change::DeclareQueue(QueueRef(0)), 1);
        done(&mut definitions, Change::DeclareExchange(ExchangeRef(0)), 3);
        done(&mut definitions, Change::Bind(BindingRef(0)), 5);
        let route = definitions.route("x", "a.b", Stamp(10), Some(Stamp(11)));
        assert_eq!((route.must.len(), route.may.len()), (1, 1));
        let route = definitions.route("x", "a.b", Stamp(4), Some(Stamp(11)));
        assert_eq!((route.must.len(), route.may.len()), (0, 1));
        assert_eq!(definitions.route("x", "b", Stamp(10), None).may.len(), 0);
        definitions.crash(Stamp(20));
        let route = definitions.route("x", "a.b", Stamp(21), None);
        assert_eq!((route.must.len(), route.may.len()), (0, 0));
        let route = definitions.route("", "q", Stamp(15), Some(Stamp(30)));
        assert_eq!((route.must.len(), route.may.len()), (0, 1));
    }
}
