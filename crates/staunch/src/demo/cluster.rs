//! A cluster whose leader is killed, and another paused, while it is loaded.
//!
//! Producers and consumers are connected to nodes that live: before a node is struck its clients
//! move to others, which is what clients of a dead node have to do. What is shown are the times
//! from the strike to the moment when a survivor suspects the node, when all its queues have another
//! leader, and when every producer of those queues has the next confirm.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use staunch_client::{
    ConnectOptions,
    proof::{
        cluster::{ClusterProcess, Site, wait},
        guard::Guard,
        history::{Verdict, Violation},
        workload::{Workload, WorkloadSpec},
    },
};

use super::{DRAIN_IDLE_MAX, DemoArgs, Mode, described, exit, per_second, show::Show};

/// Time for nodes to meet, and for clients to move.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for a confirm.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(30);
/// Entries that a replica may lack and be called up to date while the load goes on.
const BEHIND_MAX: u64 = 1_000;

/// Messages a second of each of the four producers. A demo shows pauses, and what waits in front of
/// a broker at its limit would make them look longer.
const RATE_PER_PRODUCER: u32 = 2_000;

/// What happens to the node that leads.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum How {
    Kill,
    Pause,
}

/// What happened to a node and how the others went on, in milliseconds since the strike.
#[derive(Serialize)]
struct Failover {
    /// Seconds since the load began.
    at_seconds: f64,
    node: String,
    how: How,
    /// Queues of this demo that it led.
    queues: usize,
    suspected_ms: Option<f64>,
    elected_ms: Option<f64>,
    confirmed_ms: Option<f64>,
    /// What the cluster itself says of it (`staunch failovers`).
    explained: Option<String>,
    /// When it was back and up to date, in seconds since the load began.
    back_seconds: f64,
    /// When the primary led everything again.
    given_back_seconds: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    mode: &'static str,
    nodes: usize,
    failovers: Vec<Failover>,
    published: u64,
    confirmed: u64,
    consumed: u64,
    lost: u64,
    redelivered: u64,
    duplicates: u64,
    confirmed_per_second: f64,
    problems: Vec<String>,
}

/// What a demo works with.
struct Stage<'a> {
    nodes: ClusterProcess,
    workload: Workload,
    queues: Vec<String>,
    started: Instant,
    guard: &'a Guard,
    show: &'a Show,
    /// The first node is to lead everything.
    is_standby: bool,
}

pub(super) fn run(args: &DemoArgs, node_count: usize) -> anyhow::Result<ExitCode> {
    // Whatever happens from here on, Ctrl-C included, the guard ends the nodes and removes the
    // directory.
    let guard = Guard::new("demo").context("cannot make a temporary directory")?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut site = Site::loopback(node_count);
    site.arguments = ["--log-level", "warn"].map(str::to_owned).to_vec();
    let is_standby = args.mode == Mode::Standby;
    if is_standby {
        site.arguments
            .extend(["--primary-node", "n1"].map(str::to_owned));
    }
    site.has_witness = args.witness;
    let mut nodes = ClusterProcess::new(&program, guard.directory(), &site)?;
    let show = Show::new();
    show.say(&if args.witness {
        "starting two nodes and a witness".to_owned()
    } else {
        format!("starting {node_count} nodes")
    });
    nodes.start()?;
    guard.watch(&nodes.pids())?;
    ensure!(nodes.view().wait_whole(PATIENCE), "the nodes do not meet");
    show.pages(nodes.http_addresses());
    let spec = WorkloadSpec {
        body_size_bytes: args.size,
        rate_per_producer: Some(RATE_PER_PRODUCER),
        queue_type: Some("quorum".to_owned()),
        ..WorkloadSpec::default()
    };
    let queue_count = spec.consumed_producers + spec.backlog_producers;
    let mut stage = Stage {
        workload: Workload::start_on(&clients_nodes(&nodes, args.witness), &spec)?,
        nodes,
        queues: (0..queue_count).map(Workload::queue_name).collect(),
        started: Instant::now(),
        guard: &guard,
        show: &show,
        is_standby,
    };
    let strikes = (0..args.kills).flat_map(|_| [How::Kill, How::Pause]);
    let share = args.duration / f64::from(2 * args.kills + 1);
    let share = Duration::try_from_secs_f64(share)?;
    let mut failovers = Vec::new();
    stage.load(share);
    for how in strikes {
        failovers.push(stage.strike(how, share / 2)?);
        stage.load(share / 2);
    }
    let report = stage.end(failovers);
    show.finish();
    report.print(args.json)?;
    Ok(exit(&report.problems, report.confirmed))
}

impl Stage<'_> {
    fn load(&self, duration: Duration) {
        let what = "publishing with confirms, consuming with acks";
        self.show.load(&self.workload, duration, what);
    }

    /// Strikes the node that leads most queues, lets it be gone for a while, and brings it back.
    fn strike(&mut self, how: How, away: Duration) -> anyhow::Result<Failover> {
        let leaders: Vec<_> = self
            .queues
            .iter()
            .map(|queue| self.nodes.view().leader(queue, &[]))
            .collect();
        let victim = most_frequent(&leaders).context("no queue has a leader")?;
        let led: Vec<_> = (0..leaders.len())
            .filter(|it| leaders[*it] == Some(victim))
            .collect();
        self.workload.leave(victim);
        ensure!(self.workload.wait_home(PATIENCE), "clients did not move");
        let name = format!("n{}", victim + 1);
        self.show.say(&match how {
            How::Kill => format!("kill -9 {name}"),
            How::Pause => format!("SIGSTOP {name}"),
        });
        let at_seconds = self.started.elapsed().as_secs_f64();
        let struck = Instant::now();
        match how {
            How::Kill => self.nodes.node(victim).kill(),
            How::Pause => self.nodes.node(victim).pause()?,
        }
        self.workload.probe();
        let (suspected, elected) = self.watch(victim, &led);
        let confirmed = self.workload.probed();
        let confirmed = led
            .iter()
            .map(|it| confirmed[*it])
            .collect::<Option<Vec<_>>>();
        let confirmed = confirmed.and_then(|all| all.into_iter().max());
        let explained = self.explained(victim);
        self.show.load(&self.workload, away, "going on without it");
        match how {
            How::Kill => drop(self.nodes.node(victim).start()?),
            How::Pause => self.nodes.node(victim).resume()?,
        }
        self.guard.watch(&self.nodes.pids())?;
        self.show.say(&format!("{name} is back and catches up"));
        ensure!(
            self.nodes.view().wait_whole(PATIENCE),
            "{name} does not come back"
        );
        for queue in &self.queues {
            let has_all = self
                .nodes
                .view()
                .wait_caught_up(queue, BEHIND_MAX, PATIENCE);
            ensure!(has_all, "{name} does not catch up");
        }
        let back_seconds = self.started.elapsed().as_secs_f64();
        let given_back_seconds = self.wait_given_back(victim)?;
        self.workload.spread();
        let millis = |at: Instant| at.duration_since(struck).as_secs_f64() * 1_000.0;
        Ok(Failover {
            at_seconds,
            node: name,
            how,
            queues: led.len(),
            suspected_ms: suspected.map(millis),
            elected_ms: elected.map(millis),
            confirmed_ms: confirmed.map(millis),
            explained,
            back_seconds,
            given_back_seconds,
        })
    }

    /// What a survivor says about what took so long.
    fn explained(&self, victim: usize) -> Option<String> {
        let survivor = (0..self.nodes.len()).find(|at| *at != victim)?;
        let failovers = self.nodes.view().failovers(survivor).ok()?;
        let name = format!("n{}", victim + 1);
        let last = failovers.iter().find(|it| it["node"] == name)?;
        last["explained"].as_str().map(str::to_owned)
    }

    /// Waits until the primary leads all queues again.
    fn wait_given_back(&self, primary: usize) -> anyhow::Result<Option<f64>> {
        if !self.is_standby {
            return Ok(None);
        }
        self.show.say("the primary gets its queues back");
        let leads_all = || {
            let leads = |queue: &String| self.nodes.view().leader(queue, &[]) == Some(primary);
            self.queues.iter().all(leads)
        };
        ensure!(wait(PATIENCE, leads_all), "the primary does not lead again");
        Ok(Some(self.started.elapsed().as_secs_f64()))
    }

    /// Waits for the next confirm of every producer whose queue the victim led; meanwhile asks a
    /// survivor when it suspects the victim and when those queues have another leader.
    fn watch(&self, victim: usize, led: &[usize]) -> (Option<Instant>, Option<Instant>) {
        let is_over = AtomicBool::new(false);
        let (view, queues, workload) = (self.nodes.view(), &self.queues, &self.workload);
        let survivor = (0..self.nodes.len()).find(|at| *at != victim).unwrap_or(0);
        let suspects = || {
            let status = view.status(survivor).ok()?;
            (status["nodes"][victim]["suspected"] == true).then(Instant::now)
        };
        let has_leader = |queue: usize| view.leader(&queues[queue], &[victim]).is_some();
        thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let (mut suspected, mut elected) = (None, None);
                while suspected.is_none() || elected.is_none() {
                    suspected = suspected.or_else(suspects);
                    if elected.is_none() && led.iter().all(|queue| has_leader(*queue)) {
                        elected = Some(Instant::now());
                    }
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                }
                (suspected, elected)
            });
            wait(CONFIRM_PATIENCE, || {
                let confirmed = workload.probed();
                led.iter().all(|producer| confirmed[*producer].is_some())
            });
            is_over.store(true, Ordering::SeqCst);
            watching.join().unwrap_or_default()
        })
    }

    fn end(mut self, failovers: Vec<Failover>) -> Report {
        self.workload.stop_producers();
        let elapsed = self.started.elapsed();
        let confirmed = self.workload.progress().confirmed;
        self.show.say("draining every queue");
        let mut problems = self.workload.refusals();
        let interruptions = self.workload.interruptions();
        if interruptions > 0 {
            problems.push(format!("{interruptions} connections to living nodes broke"));
        }
        let unconfirmed = failovers.iter().filter(|it| it.confirmed_ms.is_none());
        problems.extend(unconfirmed.map(|it| format!("no confirms after {} was struck", it.node)));
        let show = self.show;
        let verdict: Verdict = self
            .workload
            .settle(DRAIN_IDLE_MAX, |progress| show.progress(progress));
        problems.extend(described(&verdict));
        Report {
            mode: if self.is_standby {
                "standby"
            } else {
                "cluster"
            },
            nodes: self.nodes.len(),
            failovers,
            published: verdict.published,
            confirmed: verdict.confirmed,
            consumed: verdict.consumed,
            lost: verdict.count(Violation::Lost),
            redelivered: verdict.redelivered,
            duplicates: verdict.repeated,
            confirmed_per_second: per_second(confirmed, elapsed),
            problems,
        }
    }
}

impl Report {
    fn print(&self, as_json: bool) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        if as_json {
            serde_json::to_writer_pretty(&mut out, self)?;
            writeln!(out)?;
            return Ok(());
        }
        for failover in &self.failovers {
            failover.tell(&mut out)?;
        }
        writeln!(out)?;
        let lines = [
            ("published", self.published.to_string()),
            ("confirmed", self.confirmed.to_string()),
            ("consumed", self.consumed.to_string()),
            ("lost", self.lost.to_string()),
            ("redelivered", self.redelivered.to_string()),
            (
                "duplicates",
                format!("{} (all flagged unless named below)", self.duplicates),
            ),
            (
                "throughput",
                format!("{:.0} confirmed msg/s", self.confirmed_per_second),
            ),
        ];
        for (name, value) in lines {
            writeln!(out, "{name:<12} {value:>12}")?;
        }
        for problem in &self.problems {
            writeln!(out, "PROBLEM      {problem}")?;
        }
        Ok(())
    }
}

impl Failover {
    /// The story as a timeline.
    fn tell(&self, out: &mut impl io::Write) -> io::Result<()> {
        let (at, node, queues) = (self.at_seconds, &self.node, self.queues);
        let (done, undone) = match self.how {
            How::Kill => ("kill -9", "was started again"),
            How::Pause => ("SIGSTOP", "went on"),
        };
        writeln!(
            out,
            "{at:>8.3} s  {done} of {node}, which leads {queues} of the queues"
        )?;
        let moments = [
            (self.suspected_ms, "the others know that it is gone"),
            (self.elected_ms, "its queues have another leader"),
            (self.confirmed_ms, "all producers have their next confirm"),
        ];
        for (after, what) in moments {
            match after {
                Some(after) => writeln!(out, "     +{after:>7.1} ms  {what}")?,
                None => writeln!(out, "              -  not seen: {what}")?,
            }
        }
        if let Some(explained) = &self.explained {
            writeln!(out, "                  {explained}")?;
        }
        let back = self.back_seconds;
        writeln!(
            out,
            "{back:>8.3} s  {node} {undone}, and has all that it missed"
        )?;
        if let Some(again) = self.given_back_seconds {
            writeln!(out, "{again:>8.3} s  {node} leads everything again")?;
        }
        Ok(())
    }
}

/// Nodes that clients may connect to.
fn clients_nodes(nodes: &ClusterProcess, has_witness: bool) -> Vec<ConnectOptions> {
    let mut options = nodes.connect_options();
    options.truncate(nodes.len() - usize::from(has_witness));
    options
}

fn most_frequent(leaders: &[Option<usize>]) -> Option<usize> {
    let count = |node: usize| leaders.iter().filter(|it| **it == Some(node)).count();
    let known = leaders.iter().flatten().copied();
    known.max_by_key(|node| (count(*node), *node))
}
