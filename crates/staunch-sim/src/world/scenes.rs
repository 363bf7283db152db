//! Plays a scenario: at each scene it does to the leader, or to others, what it is about.

use staunch_node::Input;
use staunch_raft::Role;

use crate::{
    machine::NextDisk,
    scenario::Scenario,
    schedule::MILLIS,
    world::{Happening, Stage, World},
};

impl World {
    /// The next scene.
    pub(super) fn scene(&mut self, number: u32) {
        let Some(scenario) = self.scenario.filter(|_| self.stage == Stage::Safety) else {
            return;
        };
        let (least, most) = scenario.pause_nanos();
        let next = self.faults.between(least, most);
        self.schedule.after(next, Happening::Scene(number + 1));
        let Some(leader) = self.busiest_leader() else {
            return;
        };
        self.witness.coverage.hit("scene");
        match scenario {
            Scenario::KillEach => {
                let node = number as usize % self.machines.len();
                self.crash_if_up(node, "killed");
            }
            Scenario::PowerLossOfAll => {
                for node in 0..self.machines.len() {
                    self.crash_if_up(node, "power lost everywhere");
                }
            }
            Scenario::PowerLossAndPause => self.lose_power_and_pause(leader),
            Scenario::LastReplica => {
                let nanos = self.between_millis(500, 2_500);
                self.isolate(leader, nanos);
                self.schedule.after(nanos, Happening::PowerLoss(leader));
            }
            Scenario::StaleLeader => {
                let nanos = self.between_millis(200, 4_000);
                self.isolate(leader, nanos);
            }
            Scenario::OneWay => self.cut_one_way(leader, number.is_multiple_of(2)),
            Scenario::Bridge => {
                let nanos = self.between_millis(300, 5_000);
                let others = self.others(leader);
                let other = *self.faults.pick(&others);
                self.cut(leader, other, nanos);
                self.cut(other, leader, nanos);
            }
            Scenario::Flapping => {
                let nanos = self.between_millis(20, 500);
                self.isolate(leader, nanos);
                let others = self.others(leader);
                let other = *self.faults.pick(&others);
                self.break_link(leader, other);
            }
            Scenario::SlowDisk => {
                let until = self.schedule.now_nanos() + self.between_millis(500, 4_000);
                if let Some(process) = &mut self.machines[leader].process {
                    process.writer_free_at = process.writer_free_at.max(until);
                    process.background_free_at = process.background_free_at.max(until);
                }
            }
            Scenario::Pause => {
                let nanos = self.between_millis(50, 4_000);
                self.pause(leader, nanos);
            }
            Scenario::BitFlipMinority => self.damage_and_change_leader(leader),
            Scenario::ClockJump => self.jump_all_clocks(number),
            Scenario::RollingRestart => self.restart_next(),
            Scenario::LostDisks => self.lose_next_disk(),
            Scenario::ElectionStorm => self.storm(),
        }
    }

    /// Nobody hears the leader, or it hears nobody.
    fn cut_one_way(&mut self, leader: usize, is_silent: bool) {
        let nanos = self.between_millis(300, 4_000);
        for other in self.others(leader) {
            if is_silent {
                self.cut(leader, other, nanos);
            } else {
                self.cut(other, leader, nanos);
            }
        }
    }

    /// One stands still, another loses power, and then the leader is cut off.
    fn lose_power_and_pause(&mut self, leader: usize) {
        let mut others = self.others(leader);
        let lagging = others.remove(self.faults.index(others.len()));
        let torn = *self.faults.pick(&others);
        let pause = self.between_millis(800, 2_000);
        self.pause(lagging, pause);
        let power = self.between_millis(200, 700);
        self.schedule.after(power, Happening::PowerLoss(torn));
        self.schedule.after(pause, Happening::Isolation(leader));
    }

    /// One that follows is off, comes back damaged, and then the leader is gone.
    fn damage_and_change_leader(&mut self, leader: usize) {
        let others = self.others(leader);
        let victim = *self.faults.pick(&others);
        if self.wounds.machine.is_some() || !self.may_wound(victim) {
            return;
        }
        self.machines[victim].next_disk = NextDisk::Damaged;
        self.crash_if_up(victim, "power lost");
        let power = self.between_millis(100, 1_500);
        self.schedule.after(power, Happening::PowerLoss(leader));
    }

    /// Clocks jump, and a process reads its own when it starts again.
    fn jump_all_clocks(&mut self, number: u32) {
        for node in 0..self.machines.len() {
            self.jump_clock(node);
        }
        let node = number as usize % self.machines.len();
        self.crash_if_up(node, "killed");
    }

    /// The next node is stopped, if the one before is back and has everything.
    fn restart_next(&mut self) {
        if self.not_whole().is_some() {
            return;
        }
        let node = self.take_turn();
        self.witness.coverage.hit("scene: node restarted in turn");
        if let Some(process) = &mut self.machines[node].process {
            process.inbox.push_back(Input::Stop);
            self.plan_drain(node);
        }
    }

    /// The next machine comes back with an empty disk, if the one before is well.
    fn lose_next_disk(&mut self) {
        if let Some(why) = self.not_whole() {
            self.witness
                .line(format_args!("no disk is lost yet: {why}"));
            return;
        }
        if self.wounds.machine.is_some() || !self.may_wound(0) {
            return;
        }
        let node = self.take_turn();
        self.machines[node].next_disk = NextDisk::Another;
        self.crash_if_up(node, "power lost");
    }

    fn take_turn(&mut self) -> usize {
        self.turns += 1;
        (self.turns - 1) % self.machines.len()
    }

    /// What a scene has planned: a leader is cut off.
    pub(super) fn isolation(&mut self, node: usize) {
        if self.stage == Stage::Safety {
            let nanos = self.between_millis(1_000, 3_000);
            self.isolate(node, nanos);
        }
    }

    /// What a scene has planned: power goes.
    pub(super) fn power_loss(&mut self, node: usize) {
        if self.stage == Stage::Safety {
            self.crash_if_up(node, "power lost");
        }
    }

    fn crash_if_up(&mut self, node: usize, why: &str) {
        if self.machines[node].process.is_some() {
            self.crash(node, why);
        }
    }

    /// Nothing goes from a node to the others or back, and nobody is told.
    fn isolate(&mut self, node: usize, nanos: u64) {
        self.witness.line(format_args!(
            "node {node} is alone for {} ms",
            nanos / MILLIS
        ));
        for other in self.others(node) {
            self.cut(node, other, nanos);
            self.cut(other, node, nanos);
        }
    }

    fn others(&self, node: usize) -> Vec<usize> {
        let nodes = 0..self.machines.len();
        nodes.filter(|other| *other != node).collect()
    }

    fn between_millis(&mut self, least: u64, most: u64) -> u64 {
        self.faults.between(least, most) * MILLIS
    }

    /// The node that leads most groups.
    fn busiest_leader(&self) -> Option<usize> {
        let led = |node: &usize| {
            let process = self.machines[*node].process.as_ref();
            let groups = process.into_iter().flat_map(|it| it.node.groups());
            groups
                .filter(|group| group.role_now().role == Role::Leader)
                .count()
        };
        let nodes = 0..self.machines.len();
        nodes.filter(|node| led(node) > 0).max_by_key(led)
    }
}
