//! The world: one thread, one heap of events, virtual time.
//!
//! A run has two phases. In the *safety* phase clients work while faults strike, and only the
//! history is watched. Then faults stop, and in the *liveness* phase everything that was left
//! hanging must come to its end within sixty simulated seconds: every connection gets its
//! answers, every queue drains, nothing stays unsettled. A bug that loses a wake-up shows there
//! and nowhere else.

mod cluster_faults;
mod faults;
mod liveness;
mod members;
mod network;
mod node;
mod operator;
mod peers;
mod place;
mod scenes;
mod storm;
mod wellness;

use std::collections::BTreeMap;

use staunch_log::{BackgroundJob, FetchJob, WriteJob};
use staunch_node::Input;
use staunch_types::{ConnectionId, QueueId};

use crate::{
    client::{Client, Role, drain::Progress},
    consensus::Consensus,
    disk::SimDisk,
    history::Fact,
    knobs::{ClusterKnobs, Knobs, Mode},
    link::Link,
    machine::{Clock, Life, Machine},
    mesh::Mesh,
    planted::Planted,
    random::{Purpose, Random},
    scenario::Scenario,
    schedule::{MILLIS, SECONDS, Schedule},
    topology::Topology,
    trace::Trace,
    witness::Witness,
    world::{members::Wounds, operator::Operator, storm::Storm},
};

/// Events after which a run is called endless.
const EVENTS_MAX: u64 = 3_000_000;
/// Events at one virtual time after which it is called an endless loop.
const EVENTS_AT_ONE_TIME_MAX: u64 = 100_000;
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
    Drain(Life),
    /// The node's tick.
    Tick(Life),
    /// A worker begins a job.
    JobStart(Life, Job),
    /// A worker is done with one.
    JobEnd(Life, Box<Input>, bool),
    /// A node starts again.
    Restart(usize),
    /// A chance for a fault.
    Fault,
    /// The operator's turn.
    Operate,
    /// Another look at the members of the cluster and its queues.
    ChangeMembers,
    /// What is on its way from one node to another may have arrived.
    PeerArrival(usize, usize),
    /// The lower of two nodes tries to connect.
    PeerDial(usize, usize),
    /// A kernel has waited long enough for the other of two nodes, on this connection.
    PeerGivenUp(usize, usize, u64),
    /// A node that stood still goes on.
    Resume(usize),
    /// A scene of a scenario, and which.
    Scene(u32),
    /// A scene has a machine lose power.
    PowerLoss(usize),
    /// A scene cuts a node off.
    Isolation(usize),
    /// A disk has room again.
    RoomAgain(usize),
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

/// How large the world is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// A node that stands alone.
    #[default]
    Single,
    /// Three or five nodes.
    Cluster,
}

impl Scale {
    /// What a command line needs for it.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Single => "",
            Self::Cluster => " --cluster",
        }
    }
}

/// What is run besides the seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// How large the world is.
    pub scale: Scale,
    /// A planted bug.
    pub planted: Option<Planted>,
    /// What strikes, if that is not left to chance; for a cluster.
    pub scenario: Option<Scenario>,
}

impl Setup {
    /// A cluster left to chance.
    pub const CLUSTER: Self = Self {
        scale: Scale::Cluster,
        planted: None,
        scenario: None,
    };

    /// What a command line needs for it.
    pub fn arguments(self) -> String {
        let planted = self.planted.map(|bug| format!(" --planted {}", bug.name()));
        let scenario = self
            .scenario
            .map(|one| format!(" --scenario {}", one.name()));
        let cluster = self.scale.argument().to_owned();
        cluster + &planted.unwrap_or_default() + &scenario.unwrap_or_default()
    }
}

/// The world of one seed.
pub struct World {
    /// What happened.
    pub witness: Witness,
    /// Events handled.
    pub event_count: u64,
    /// The virtual time, and how many events there had been when it came.
    stands_since: (u64, u64),
    schedule: Schedule<Happening>,
    knobs: Knobs,
    machines: Vec<Machine>,
    mesh: Mesh,
    consensus: Consensus,
    cluster_knobs: ClusterKnobs,
    wounds: Wounds,
    clients: Vec<Client>,
    /// Where each client was connected last.
    homes: Vec<usize>,
    lines: BTreeMap<ConnectionId, Line>,
    drain: Progress,
    /// Since when nobody has used the node, in virtual nanoseconds.
    unused_since: Option<u64>,
    stage: Stage,
    planted: Option<Planted>,
    scenario: Option<Scenario>,
    /// How many nodes have had their turn in a scenario.
    turns: usize,
    storm: Storm,
    operator: Operator,
    operations: u64,
    next_connection: u64,
    /// A bit was flipped: a refusal is the right answer.
    is_damaged: bool,
    /// The node rightly refused to go on with damaged data.
    is_refused: bool,
    network: Random,
    faults: Random,
    members_random: Random,
    disk_random: Random,
    node_random: Random,
}

impl World {
    /// The world of `seed`.
    pub fn new(seed: u64, setup: Setup, verbose: bool) -> Self {
        let (scale, planted, scenario) = (setup.scale, setup.planted, setup.scenario);
        let mut swarm = Random::new(seed, Purpose::Swarm);
        let mut knobs = Knobs::draw(&mut swarm);
        let mut topology = Topology::draw(&mut swarm);
        let mut workload = Random::new(seed, Purpose::Workload);
        let mut disk_random = Random::new(seed, Purpose::Disk);
        let mut cluster_random = Random::new(seed, Purpose::Cluster);
        let mut cluster_knobs = match scale {
            Scale::Single => ClusterKnobs::alone(),
            Scale::Cluster => ClusterKnobs::draw(&mut cluster_random),
        };
        if let Some(scenario) = scenario {
            scenario.prepare(&mut knobs, &mut cluster_knobs);
        }
        let clients = draw_clients(&knobs, &mut workload);
        if scale == Scale::Cluster {
            spread(&mut topology, &cluster_knobs, &mut cluster_random);
        }
        let machines: Vec<Machine> = (0..cluster_knobs.machines())
            .map(|number| {
                let planted = planted.and_then(|planted| planted.on_machine(number));
                let disk = SimDisk::new(disk_random.split(), planted);
                let drift = cluster_knobs.draw_drift(&mut cluster_random);
                Machine::new(disk, Clock::new(drift))
            })
            .collect();
        let mut world = Self {
            witness: Witness::new(topology, Trace::new(verbose), machines.len()),
            event_count: 0,
            stands_since: (0, 0),
            schedule: Schedule::new(),
            mesh: Mesh::new(machines.len()),
            consensus: Consensus::default(),
            machines,
            cluster_knobs,
            wounds: Wounds::default(),
            homes: vec![0; clients.len()],
            clients,
            operator: Operator::new(workload.split()),
            lines: BTreeMap::new(),
            drain: Progress::default(),
            unused_since: None,
            stage: Stage::Safety,
            planted,
            scenario,
            turns: 0,
            storm: Storm::default(),
            operations: 0,
            next_connection: 0,
            is_damaged: false,
            is_refused: false,
            network: Random::new(seed, Purpose::Network),
            faults: Random::new(seed, Purpose::Faults),
            members_random: Random::new(seed, Purpose::Members),
            disk_random,
            node_random: Random::new(seed, Purpose::Node),
            knobs,
        };
        world.witness.history.clock_slack_nanos = world.cluster_knobs.clock_slack_nanos();
        world.witness.history.refuses_nothing = scenario == Some(Scenario::RollingRestart);
        world.witness.line(format_args!("{:?}", world.knobs));
        if world.is_cluster() {
            world
                .witness
                .line(format_args!("{:?}", world.cluster_knobs));
        }
        world
    }

    /// Runs to the end.
    pub fn run(&mut self) {
        for node in 0..self.cluster_knobs.founders {
            self.schedule.after(0, Happening::Restart(node));
        }
        self.plan_members();
        self.schedule.after(0, Happening::Fault);
        self.schedule.after(0, Happening::Operate);
        self.schedule.after(SECONDS, Happening::Scene(0));
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
            self.check_endless();
        }
        self.witness.settle_routes();
    }

    /// Whether this comes to no end, or time stands still.
    fn check_endless(&mut self) {
        let now = self.schedule.now_nanos();
        if self.stands_since.0 != now {
            self.stands_since = (now, self.event_count);
        }
        if self.event_count > EVENTS_MAX {
            self.stuck(format!("{EVENTS_MAX} events and no end"));
        } else if self.event_count - self.stands_since.1 > EVENTS_AT_ONE_TIME_MAX {
            self.stuck(format!("{EVENTS_AT_ONE_TIME_MAX} events at one time"));
        }
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
        let paused_until = self.paused_until(&happening);
        if paused_until > self.schedule.now_nanos() {
            return self.schedule.at(paused_until, happening);
        }
        match happening {
            Happening::Act(client) => self.act(client),
            Happening::Connect(client) => self.connect(client),
            Happening::Heartbeat(client, connection) => self.heartbeat(client, connection),
            Happening::ToServer(connection) => self.bytes_to_server(connection),
            Happening::ToClient(connection) => self.bytes_to_client(connection),
            Happening::ClosedByServer(connection) => self.closed_by_server(connection),
            Happening::ClosedByClient(connection) => self.closed_by_client(connection),
            Happening::PeerTimer(connection) => self.peer_timer(connection),
            Happening::Drain(life) => self.drain(life),
            Happening::Tick(life) => self.tick(life),
            Happening::JobStart(life, job) => self.start_job(life, job),
            Happening::JobEnd(life, input, is_write) => self.end_job(life, *input, is_write),
            Happening::Restart(node) => self.restart(node),
            Happening::PeerArrival(from, to) => self.peer_arrival(from, to),
            Happening::PeerDial(low, high) => self.dial(low, high),
            Happening::PeerGivenUp(from, to, session) => self.give_up_peer(from, to, session),
            Happening::Resume(node) => self.resume(node),
            Happening::Fault => self.fault(),
            Happening::Operate => self.operate(),
            Happening::ChangeMembers => self.change_members(),
            Happening::Scene(number) => self.scene(number),
            Happening::PowerLoss(node) => self.power_loss(node),
            Happening::Isolation(node) => self.isolation(node),
            Happening::RoomAgain(node) => {
                self.witness.line(format_args!("disk has room again"));
                self.machines[node].disk.state().capacity_bytes = u64::MAX;
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

/// The queues as a cluster has them.
fn spread(topology: &mut Topology, knobs: &ClusterKnobs, random: &mut Random) {
    topology.spread(random, knobs.keeps_all);
    if knobs.mode == Mode::Partitioned {
        topology.add_partitioned(random);
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
