//! Whatever happens to three programs and three members, one program at most leads, and one does when all is well.

use std::time::Duration;

use crate::candidate::eventually;
use crate::stage::{Stage, start_program};
use crate::support::program::boottime_ns;
use crate::support::{Cluster, Program};

const LEASE: Duration = Duration::from_secs(2);

struct Chaos {
    programs: Vec<Program>,
    random: u64,
    cluster: Stage<Cluster>,
}

impl Chaos {
    /// A number below `limit`.
    fn random(&mut self, limit: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % limit
    }

    fn start_program(&mut self) {
        let endpoints = self.cluster.endpoints();
        let options = [
            ("endpoints", endpoints.as_str()),
            ("service", "faults"),
            ("ttl", "2s"),
            ("open_offline", "true"),
            ("campaign.rejoin", "true"),
        ];
        self.programs.push(start_program(&options));
    }

    /// The program that says now that it leads.
    fn leader(&self) -> Option<usize> {
        self.programs.iter().position(|program| program.last_look().is_some_and(|look| look.token != 0))
    }

    /// One fault and its repair.
    fn step(&mut self, fault: usize) {
        let (member, program) = (self.random(3), self.random(3));
        println!("fault {fault}, member {member}, program {program}, leader {:?}", self.leader());
        match fault {
            0 => {
                let leader = self.leader().unwrap_or(program);
                self.programs[leader].stop();
                pass(LEASE * 3 / 2);
                self.programs[leader].cont();
            }
            1 => {
                self.programs[program].stop();
                pass(LEASE / 2);
                self.programs[program].cont();
            }
            2 => {
                self.programs.remove(program).kill();
                self.start_program();
            }
            3 => {
                self.cluster.members[member].stop();
                pass(LEASE / 2);
                self.cluster.members[member].cont();
            }
            4 => {
                self.cluster.members[member].kill();
                pass(LEASE / 2);
                self.cluster.members[member].restart();
            }
            _ => {
                let others = [(member + 1) % 3, (member + 2) % 3];
                others.iter().for_each(|&other| self.cluster.members[other].stop());
                pass(LEASE * 3 / 2);
                others.iter().for_each(|&other| self.cluster.members[other].cont());
            }
        }
    }
}

fn pass(time: Duration) {
    let end = boottime_ns() + i64::try_from(time.as_nanos()).unwrap();
    eventually("the time", || boottime_ns() > end);
}

#[test]
fn at_most_one_program_leads_whatever_happens() {
    let seed = boottime_ns().unsigned_abs();
    println!("seed {seed}");
    let cluster = Stage::cluster();
    let mut chaos = Chaos { cluster, programs: Vec::new(), random: seed };
    (0..3).for_each(|_| chaos.start_program());
    let mut faults: Vec<usize> = (0..6).collect();
    while !faults.is_empty() {
        eventually("a leader", || chaos.leader().is_some());
        let next = chaos.random(faults.len());
        chaos.step(faults.remove(next));
    }
    eventually("a leader", || chaos.leader().is_some());
}
