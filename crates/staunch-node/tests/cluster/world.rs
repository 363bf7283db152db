//! A cluster in memory. Time advances by hand, a millisecond at a step; a write, a fetch or a
//! frame takes one step. Nodes have numbers from 1, which are their ids.

use std::{collections::BTreeSet, time::Duration};

use staunch_log::MemoryDisk;
use staunch_node::{
    AdminAnswer, AdminId, AdminRequest, CatalogRead, Input, Node, NodeConfig, PeerInput, StartError,
};
use staunch_types::Timestamp;

use crate::{
    links::Links,
    machine::{self, Machine, node_name},
};

const STEP: Duration = Duration::from_millis(1);

/// How long a test waits for something before it has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// Nodes, their disks and their links.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    places: Vec<Place>,
    links: Links,
    /// A node that stands still, with what has come for it.
    stopped: Option<(usize, Vec<PeerInput>)>,
    incarnation_count: u64,
    pub(crate) connection_count: u64,
    admin_count: u64,
}

/// Where a node runs, or may run again.
struct Place {
    config: NodeConfig,
    disk: MemoryDisk,
    machine: Option<Machine>,
}

impl World {
    /// A cluster of `count` nodes that were just started.
    pub(crate) fn new(count: usize) -> Self {
        Self::with(count, |_| {})
    }

    /// As [`World::new`], with other configurations.
    pub(crate) fn with(count: usize, change: impl Fn(&mut NodeConfig)) -> Self {
        let place = |number| {
            let mut config = machine::config(number, count);
            change(&mut config);
            Place {
                config,
                disk: MemoryDisk::new(),
                machine: None,
            }
        };
        let mut world = Self {
            now: Timestamp(0),
            places: (1..=count).map(place).collect(),
            links: Links::default(),
            stopped: None,
            incarnation_count: 0,
            connection_count: 0,
            admin_count: 0,
        };
        for number in world.numbers() {
            world.start(number);
        }
        world
    }

    /// The nodes' numbers.
    pub(crate) fn numbers(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.places.len()
    }

    /// A node's process, if it runs.
    pub(crate) fn machine(&self, number: usize) -> Option<&Machine> {
        self.places[number - 1].machine.as_ref()
    }

    pub(crate) fn machine_mut(&mut self, number: usize) -> Option<&mut Machine> {
        self.places[number - 1].machine.as_mut()
    }

    /// A node that runs.
    #[track_caller]
    pub(crate) fn node(&self, number: usize) -> &Node {
        &self.machine(number).expect("it runs").node
    }

    /// The numbers of the nodes that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        let numbers = self.numbers();
        numbers.filter(|it| self.machine(*it).is_some()).collect()
    }

    /// Starts a node on what its disk holds.
    #[track_caller]
    pub(crate) fn start(&mut self, number: usize) {
        self.incarnation_count += 1;
        let incarnation = self.incarnation_count;
        let place = &mut self.places[number - 1];
        assert!(place.machine.is_none(), "it runs already");
        place.config.cluster.as_mut().unwrap().incarnation = incarnation;
        let machine = Machine::start(place.disk.clone(), place.config.clone());
        place.machine = Some(machine);
        self.connect_all();
    }

    /// A machine for one more node, which knows the first one; it is not started.
    pub(crate) fn add(&mut self) -> usize {
        let number = self.places.len() + 1;
        let mut config = machine::config(number, number);
        let cluster = config.cluster.as_mut().unwrap();
        let known = [node_name(1), node_name(number)];
        cluster.seeds.retain(|(name, _)| known.contains(name));
        self.places.push(Place {
            config,
            disk: MemoryDisk::new(),
            machine: None,
        });
        number
    }

    /// A node that does not run gets an empty disk.
    pub(crate) fn replace_disk(&mut self, number: usize) {
        let place = &mut self.places[number - 1];
        assert!(place.machine.is_none(), "it runs");
        place.disk = MemoryDisk::new();
    }

    /// A node that does not run is told something else at its next start.
    pub(crate) fn change(&mut self, number: usize, change: impl Fn(&mut NodeConfig)) {
        change(&mut self.places[number - 1].config);
    }

    /// Why a node does not start on what its disk holds.
    #[track_caller]
    pub(crate) fn refusal(&self, number: usize) -> StartError {
        let place = &self.places[number - 1];
        assert!(place.machine.is_none(), "it runs");
        let refused = staunch_node::recover(place.disk.clone(), place.config.clone());
        refused.err().expect("it is refused")
    }

    /// A node's process ends; what it had handed to its disk is there.
    pub(crate) fn kill(&mut self, number: usize) {
        self.places[number - 1].machine = None;
        for other in self.running() {
            self.end_link(number, other);
        }
    }

    /// A node's power fails: of what was not synced its disk keeps what `seed` says.
    pub(crate) fn crash(&mut self, number: usize, seed: u64) {
        self.kill(number);
        self.places[number - 1].disk.crash(seed);
    }

    /// A node's disk.
    pub(crate) fn disk(&self, number: usize) -> &MemoryDisk {
        &self.places[number - 1].disk
    }

    /// Cuts the link between two nodes; both notice.
    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        if self.links.set_cut(a, b, true) {
            self.tell_down(a, b);
            self.tell_down(b, a);
        }
    }

    /// Cuts a node off all others.
    pub(crate) fn isolate(&mut self, number: usize) {
        for other in self.numbers().filter(|other| *other != number) {
            self.cut(number, other);
        }
    }

    /// What a node says gets lost, and it hears only that the others live. Its connections stay.
    pub(crate) fn mute(&mut self, number: usize) {
        self.links.muted = Some(number);
    }

    /// The connections of the node that was muted end; new ones are good.
    pub(crate) fn unmute(&mut self) {
        let muted = self.links.muted.take().expect("a node is muted");
        self.isolate(muted);
        self.mend();
    }

    /// Makes a node stand still (SIGSTOP): its time goes on, and what is sent to it waits.
    pub(crate) fn stop(&mut self, number: usize) {
        self.stopped = Some((number, Vec::new()));
    }

    /// The node that stands still goes on. What is given to it before time passes comes first.
    pub(crate) fn go_on(&mut self) -> Vec<PeerInput> {
        let stopped = self.stopped.take();
        stopped.expect("a node stands still").1
    }

    /// Mends all links.
    pub(crate) fn mend(&mut self) {
        for a in self.numbers() {
            for b in a + 1..=self.places.len() {
                self.links.set_cut(a, b, false);
            }
        }
        self.connect_all();
    }

    /// Tells a node something.
    #[track_caller]
    pub(crate) fn give(&mut self, number: usize, input: Input) {
        let now = self.now;
        let machine = self.machine_mut(number);
        machine.expect("it runs").handle(input, now);
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.now < until {
            self.step();
        }
    }

    /// Lets time pass until `is_so`.
    #[track_caller]
    pub(crate) fn run_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let until = self.now + PATIENCE;
        while !is_so(self) {
            assert!(self.now < until, "waited in vain: {what}");
            self.step();
        }
    }

    /// Asks a node as its operator does, and waits for the answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, number: usize, request: AdminRequest) -> AdminAnswer {
        let id = self.begin_to_ask(number, request);
        self.run_until("an answer for an operator", |world| {
            let machine = world.machine(number);
            machine.is_some_and(|it| it.answers.iter().any(|(of, _)| *of == id))
        });
        let answers = &mut self.machine_mut(number).unwrap().answers;
        let at = answers.iter().position(|(of, _)| *of == id);
        answers.remove(at.unwrap()).1
    }

    /// Asks and does not wait.
    #[track_caller]
    pub(crate) fn begin_to_ask(&mut self, number: usize, request: AdminRequest) -> AdminId {
        self.admin_count += 1;
        let id = AdminId(self.admin_count);
        self.give(number, Input::Admin(id, request));
        id
    }

    /// Frames of the catalog that a node has got: proposals, if it leads, or all of the catalog.
    pub(crate) fn catalog_frames_to(&self, number: usize) -> usize {
        let frames = self.links.catalog_frames.get(&number);
        frames.copied().unwrap_or(0)
    }

    /// Heartbeats that have arrived anywhere since this was last asked, and all other frames.
    pub(crate) fn take_frame_counts(&mut self) -> (usize, usize) {
        std::mem::take(&mut self.links.arrived)
    }

    /// Names of all queues, as a node's catalog has them.
    #[track_caller]
    pub(crate) fn queue_names(&mut self, number: usize) -> BTreeSet<String> {
        let read = CatalogRead::new(|catalog| {
            let queues = catalog.queues();
            queues
                .map(|queue| queue.name.to_string())
                .collect::<BTreeSet<String>>()
        });
        let answer = self.ask(number, AdminRequest::Read(read));
        let AdminAnswer::Read(found) = answer else {
            panic!("another answer: {answer:?}");
        };
        *found.downcast().unwrap()
    }

    /// Has every node that runs check itself.
    pub(crate) fn check_invariants(&self) {
        for number in self.running() {
            self.node(number).check_invariants();
        }
    }

    fn step(&mut self) {
        self.now = self.now + STEP;
        let now = self.now;
        while let Some(frame) = self.links.arrived(now) {
            let input = PeerInput::Received {
                peer: node_name(frame.from),
                kind: frame.kind,
                payload: frame.payload,
            };
            if let Some((_, waiting)) = self.stopped.as_mut().filter(|it| it.0 == frame.to) {
                waiting.push(input);
            } else if let Some(machine) = self.machine_mut(frame.to) {
                machine.handle(Input::Peer(input), now);
            }
        }
        for number in self.numbers() {
            if self.stopped.as_ref().is_some_and(|it| it.0 == number) {
                continue;
            }
            let Some(machine) = self.machine_mut(number) else {
                continue;
            };
            machine.step(now);
            for peer in std::mem::take(&mut machine.ended) {
                let other = self.numbers().find(|other| node_name(*other) == peer);
                self.reset_link(number, other.unwrap());
            }
            let Some(machine) = self.machine_mut(number) else {
                continue;
            };
            for frame in std::mem::take(&mut machine.sent) {
                let to = self.numbers().find(|to| node_name(*to) == frame.peer);
                self.links.send(number, to.unwrap(), frame, now);
            }
        }
    }

    fn connect_all(&mut self) {
        let running = self.running();
        for &a in &running {
            for &b in running.iter().filter(|b| a < **b) {
                if self.links.begin(a, b) {
                    self.tell_up(a, b);
                    self.tell_up(b, a);
                }
            }
        }
    }

    /// Ends a connection, which is made anew at once.
    fn reset_link(&mut self, a: usize, b: usize) {
        if self.links.end(a, b) {
            self.tell_down(a, b);
            self.tell_down(b, a);
        }
        self.connect_all();
    }

    fn end_link(&mut self, gone: usize, left: usize) {
        if self.links.end(gone, left) {
            self.tell_down(left, gone);
        }
    }

    fn tell_up(&mut self, number: usize, other: usize) {
        let incarnation = self.machine(other).unwrap().incarnation;
        let peer = node_name(other);
        let input = PeerInput::Up { peer, incarnation };
        self.give(number, Input::Peer(input));
    }

    fn tell_down(&mut self, number: usize, other: usize) {
        let input = PeerInput::Down {
            peer: node_name(other),
            goodbye: false,
        };
        self.give(number, Input::Peer(input));
    }
}

#[test]
fn nodes_hear_each_other_and_notice_when_one_is_gone() {
    let mut world = World::new(3);
    world.run(Duration::from_secs(1));
    world.kill(2);
    world.run(Duration::from_secs(1));
    world.start(2);
    world.isolate(3);
    world.run(Duration::from_secs(1));
    world.mend();
    world.run(Duration::from_secs(1));
    world.crash(1, 5);
    world.start(1);
    world.run(Duration::from_secs(1));
    world.check_invariants();
    assert_eq!(world.running(), [1, 2, 3]);
}
