//! A raft leader that waits for its disk, as disk.c makes it: it answers, but leads no more and doesn't know.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use tenure::State;

use crate::candidate::{Candidate, LIMIT, eventually, queue, renewed};
use crate::members::Way;
use crate::stage::{Stage, compile};
use crate::support::{Cluster, Folder, Server, Version};

/// While it lives, the server's log of changes can't be written.
struct Stall {
    tracer: Child,
    said: BufReader<ChildStdout>,
    _folder: Folder,
}

impl Stall {
    fn of(server: &Server) -> Stall {
        let folder = Folder::new();
        let program = folder.path().join("disk");
        compile("disk.c", &[], &program);
        let mut tracer = Command::new(program);
        tracer.args([&server.pid().to_string(), ".wal"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut tracer = tracer.spawn().unwrap();
        let said = BufReader::new(tracer.stdout.take().unwrap());
        let mut stall = Stall { tracer, said, _folder: folder };
        assert_eq!(stall.next(), "attached\n", "NOT RUN: it needs root or a kernel that lets everybody trace programs");
        stall
    }

    fn next(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.tracer.kill();
        self.tracer.wait().unwrap();
    }
}

fn moves_away_from_a_raft_leader_whose_disk_stalls(version: Version) {
    let cluster = Stage::new(Cluster::start(version));
    let (first, way) = (cluster.leader(), Way::to(&cluster));
    let other = &cluster.members[(first + 1) % 3];
    way.only(first);
    // Longer than the stall: a former raft leader that goes on may end leases that it has not seen renewed (etcd 15247).
    let leader = Candidate::lead(&way.endpoints(), 30);
    let follower = Candidate::stand(&other.endpoint(), 30);
    eventually("two candidates", || queue(other).len() == 2);
    way.all();
    let token = leader.campaign.token();
    let mut stall = Stall::of(&cluster.members[first]);
    // Something to write; it is done when the others have chosen a leader, or not at all.
    other.try_etcdctl(&["put", "x", "y"]);
    assert_eq!(stall.next(), "held\n");
    way.wait_for_another_than(first);
    renewed(&leader);
    assert_eq!(leader.campaign.token(), token);
    leader.assert_silent();
    follower.assert_silent();
    drop(stall);
    leader.campaign.resign(LIMIT).unwrap();
    follower.next(State::Leader);
}

/// Fault 39: this version goes on renewing leases on such a member.
#[test]
fn a_leader_moves_away_from_a_raft_leader_of_3_4_whose_disk_stalls() {
    moves_away_from_a_raft_leader_whose_disk_stalls(Version::V34);
}

/// Fault 39.
#[test]
fn a_leader_moves_away_from_a_raft_leader_whose_disk_stalls() {
    moves_away_from_a_raft_leader_whose_disk_stalls(Version::default());
}
