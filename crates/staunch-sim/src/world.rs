//! The world: one thread, one heap of events, virtual time.
//!
//! A run has two phases. In the *safety* phase clients work while faults strike, and only the
//! history is watched. Then faults stop, and in the *liveness* phase everything that was left
//! hanging must come to its end within sixty simulated seconds: every connection gets its
//! answers, every queue drains, nothing stays unsettled. A bug that loses a wake-up shows there
//! and nowhere else.

mod faults;
mod liveness;
mod network;
mod node;
mod operator;

use std::collections::BTreeMap;

use staunch_log::{BackgroundJob, FetchJob, WriteJob};
use staunch_node::Input;
use staunch_types::{ConnectionId, QueueId};

use crate::{
    client::{Client, Role, drain::Progress},
    disk::SimDisk,
    history::Fact,
    knobs::Knobs,
    link::Link,
    planted::Planted,
    process::Process,
    random::{Purpose, Random},
    schedule::{MILLIS, SECONDS, Schedule},
    topology::Topology,
    trace::Trace,
    witness::Witness,
    world::operator::Operator,
};

/// Events after which a run is called endless.
const EVENTS_MAX: u64 = 3_000_000;
/// How often progress is looked at in the liveness phase, in nanoseconds.
const LIVENESS_STEP: u64 = 50 * MILLIS;
/// How long the liveness phase may take, in nanoseconds.
const LIVENESS_MAX: u64 = 60 * SECONDS;

/// Work for a worker of the node.
#[derive(Debug)]
enum Job {
    Write(WriteJob),
    Background(BackgroundJob),
    Fetch(QueueId, FetchJob),
}

/// What can happen.
#[derive(Debug)]
enum Happening {
    /// A client's turn.
    Act(usize),
    /// A client connects.
    Connect(usize),
    /// A client sends a heartbeat.
    Heartbeat(usize, ConnectionId),
    /// Bytes reach the node.
    ToServer(ConnectionId),
    /// Bytes reach a client.
    ToClient(ConnectionId),
    /// The node's end of a connection has closed.
    ClosedByServer(ConnectionId),
    /// A client's end of a connection has closed.
    ClosedByClient(ConnectionId),
    /// A connection's timer at the node.
    PeerTimer(ConnectionId),
    /// The node's next drain.
    Drain(u64),
    /// The node's tick.
    Tick(u64),
    /// A worker begins a job.
    JobStart(u64, Job),
    /// A worker is done with one.
    JobEnd(u64, Box<Input>, bool),
    /// The node starts again.
    Restart,
    /// A chance for a fault.
    Fault,
    /// The operator's turn.
    Operate,
    /// The disk has room again.
    RoomAgain,
    /// A look at the progress of the liveness phase.
    Progress,
}

/// Where the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Faults and workload.
    Safety,
    /// Faults are over, since this time.
    Liveness(u64),
    /// Over.
    Done,
}

/// A link and who is at its end.
#[derive(Debug)]
struct Line {
    link: Link,
    client: Option<usize>,
}

/// The world of one seed.
pub struct World {
    /// What happened.
    pub witness: Witness,
    /// Events handled.
    pub event_count: u64,
    schedule: Schedule<Happening>,
    knobs: Knobs,
    disk: SimDisk,
    process: Option<Process>,
    clients: Vec<Client>,
    lines: BTreeMap<ConnectionId, Line>,
    drain: Progress,
    /// Since when nobody has used the node, in virtual nanoseconds.
    unused_since: Option<u64>,
    stage: Stage,
    planted: Option<Planted>,
    operator: Operator,
    operations: u64,
    incarnation: u64,
    next_connection: u64,
    /// Power goes after so many events.
    crash_in: Option<u64>,
    /// A bit was flipped: a refusal is the right answer.
    is_damaged: bool,
    /// The node rightly refused to go on with damaged data.
    is_refused: bool,
    network: Random,
    faults: Random,
    disk_random: Random,
    node_random: Random,
}

impl World {
    /// The world of `seed`.
    pub fn new(seed: u64, planted: Option<Planted>, verbose: bool) -> Self {
        let mut swarm = Random::new(seed, Purpose::Swarm);
        let knobs = Knobs::draw(&mut swarm);
        let topology = Topology::draw(&mut swarm);
        let mut workload = Random::new(seed, Purpose::Workload);
        let mut disk_random = Random::new(seed, Purpose::Disk);
        let disk = SimDisk::new(disk_random.split(), planted);
        let mut world = Self {
            witness: Witness::new(topology, Trace::new(verbose)),
            event_count: 0,
            schedule: Schedule::new(),
            disk,
            process: None,
            clients: draw_clients(&knobs, &mut workload),
            operator: Operator::new(workload.split()),
            lines: BTreeMap::new(),
            drain: Progress::default(),
            unused_since: None,
            stage: Stage::Safety,
            planted,
            operations: 0,
            incarnation: 0,
            next_connection: 0,
            crash_in: None,
            is_damaged: false,
            is_refused: false,
            network: Random::new(seed, Purpose::Network),
            faults: Random::new(seed, Purpose::Faults),
            disk_random,
            node_random: Random::new(seed, Purpose::Node),
            knobs,
        };
        world.witness.line(format_args!("{:?}", world.knobs));
        world
    }

    /// Runs to the end.
    pub fn run(&mut self) {
        self.schedule.after(0, Happening::Restart);
        self.schedule.after(0, Happening::Fault);
        self.schedule.after(0, Happening::Operate);
        for client in 0..self.clients.len() - 1 {
            let delay = self.network.below(200 * MILLIS);
            self.schedule.after(delay, Happening::Connect(client));
            self.schedule.after(delay, Happening::Act(client));
        }
        while self.stage != Stage::Done {
            let Some(happening) = self.schedule.advance() else {
                break;
            };
            self.event_count += 1;
            self.witness.history.now_nanos = self.schedule.now_nanos();
            self.count_down_to_crash();
            self.handle(happening);
            self.advance_stage();
            if self.event_count > EVENTS_MAX {
                self.stuck(format!("{EVENTS_MAX} events and no end"));
            }
        }
        self.witness.settle_routes();
    }

    /// Virtual time that passed, in nanoseconds.
    pub fn elapsed_nanos(&self) -> u64 {
        self.schedule.now_nanos() - SECONDS
    }

    /// A summary of the seed's knobs.
    pub fn knobs(&self) -> &Knobs {
        &self.knobs
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Act(client) => self.act(client),
            Happening::Connect(client) => self.connect(client),
            Happening::Heartbeat(client, connection) => self.heartbeat(client, connection),
            Happening::ToServer(connection) => self.bytes_to_server(connection),
            Happening::ToClient(connection) => self.bytes_to_client(connection),
            Happening::ClosedByServer(connection) => self.closed_by_server(connection),
            Happening::ClosedByClient(connection) => self.closed_by_client(connection),
            Happening::PeerTimer(connection) => self.peer_timer(connection),
            Happening::Drain(incarnation) => self.drain(incarnation),
            Happening::Tick(incarnation) => self.tick(incarnation),
            Happening::JobStart(incarnation, job) => self.start_job(incarnation, job),
            Happening::JobEnd(incarnation, input, is_write) => {
                self.end_job(incarnation, *input, is_write);
            }
            Happening::Restart => self.restart(),
            Happening::Fault => self.fault(),
            Happening::Operate => self.operate(),
            Happening::RoomAgain => {
                self.witness.line(format_args!("disk has room again"));
                self.disk.state().capacity_bytes = u64::MAX;
            }
            Happening::Progress => self.progress(),
        }
    }

    fn act(&mut self, client: usize) {
        if self.stage != Stage::Safety {
            return;
        }
        let delay = self.network.latency(self.knobs.action_nanos);
        self.schedule.after(delay, Happening::Act(client));
        if self.operations < self.knobs.operations_max {
            self.operations += self.clients[client].act(&mut self.witness);
            self.flush_client(client);
        }
    }

    fn advance_stage(&mut self) {
        if self.stage != Stage::Safety {
            return;
        }
        let over = self.elapsed_nanos() > self.knobs.safety_nanos
            || self.operations >= self.knobs.operations_max;
        if self.is_refused {
            self.witness.coverage.hit("refused damaged data");
            self.stage = Stage::Done;
        } else if over {
            self.begin_liveness();
        }
    }

    fn stuck(&mut self, what: String) {
        self.witness.line(format_args!("STUCK {what}"));
        self.witness.history.push(Fact::Stuck { what });
        self.stage = Stage::Done;
    }
}

/// The workload's clients; the last one drains at the end.
fn draw_clients(knobs: &Knobs, random: &mut Random) -> Vec<Client> {
    let mut roles = vec![Role::Publisher, Role::Consumer];
    for _ in 2..knobs.client_count {
        roles.push(*random.pick(&[Role::Publisher, Role::Consumer, Role::Churner]));
    }
    roles.push(Role::Drainer);
    let mut clients: Vec<Client> = Vec::new();
    for (id, role) in roles.into_iter().enumerate() {
        clients.push(Client::new(id, role, knobs, random.split()));
    }
    if let Some(drainer) = clients.last_mut() {
        drainer.habits.channels = 2;
    }
    clients
}
