//! A cluster of three etcd servers.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::etcd::{Builder, START_LIMIT, Server};
use super::version::Version;

/// Three members, each a [`Server`] that can be stopped, killed and restarted.
pub struct Cluster {
    pub members: Vec<Server>,
    /// Their ids, in the order of `members`.
    ids: Vec<u64>,
}

impl Builder {
    /// Starts three servers as one cluster, and waits until each of them answers and knows the raft leader.
    pub fn start_cluster(self) -> Cluster {
        Cluster::of([self.clone(), self.clone(), self])
    }
}

impl Cluster {
    /// As [`Builder::start_cluster`], each member by a builder of its own.
    pub fn of(builders: [Builder; 3]) -> Cluster {
        loop {
            let named = builders.iter().zip(["one", "two", "three"]);
            let members: Vec<Server> = named.map(|(builder, name)| Server::prepare(builder.clone(), name)).collect();
            let all = members.iter().map(Server::member).collect::<Vec<_>>().join(",");
            members.iter().for_each(|member| member.spawn(&all));
            if members.iter().all(Server::wait_ready) {
                let ids = members.iter().map(|member| status(member).expect("a ready member answers").own).collect();
                return Cluster { members, ids };
            }
        }
    }

    pub fn start(version: Version) -> Cluster {
        Server::builder().version(version).start_cluster()
    }

    /// All members' URLs, as the option `endpoints` takes them.
    pub fn endpoints(&self) -> String {
        self.members.iter().map(Server::endpoint).collect::<Vec<_>>().join(",")
    }

    /// Which member is the raft leader, as `witness` sees it; waits until it sees one.
    pub fn leader_seen_by(&self, witness: usize) -> usize {
        let start = Instant::now();
        loop {
            let leader = status(&self.members[witness]).map(|status| status.leader);
            if let Some(position) = self.ids.iter().position(|id| Some(*id) == leader) {
                return position;
            }
            assert!(start.elapsed() < START_LIMIT, "member {witness} sees no raft leader");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Which member is the raft leader; the first one must be able to answer.
    pub fn leader(&self) -> usize {
        self.leader_seen_by(0)
    }

    /// Makes this member the raft leader; all must be able to answer.
    pub fn move_leader(&self, to: usize) {
        let leader = self.leader();
        if leader != to {
            self.members[leader].etcdctl(&["move-leader", &format!("{:x}", self.ids[to])]);
        }
        assert_eq!(self.leader_seen_by(to), to);
    }
}

struct Status {
    own: u64,
    leader: u64,
}

/// `None` where the member doesn't answer.
fn status(member: &Server) -> Option<Status> {
    let output = member.try_etcdctl(&["endpoint", "status", "--write-out=json", "--command-timeout=2s"]);
    let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
    let status = &answer[0]["Status"];
    Some(Status { own: status["header"]["member_id"].as_u64()?, leader: status["leader"].as_u64()? })
}
