//! Candidates in C, Python and Go, each in a process of its own, in queues with each other and with candidates of other
//! makes. Every language has its turn as the one that is hit and as its heir.

use std::sync::Arc;
use std::time::Duration;

use crate::candidate::{eventually, queue_of};
use crate::stage::{Host, Stage, record};
use crate::support::program::boottime_ns;
use crate::support::rival::{Make, Rival};
use crate::support::{Direction, Language, Proxy, Server, Worker};

/// Who is hit, who comes next, and a candidate of another make behind both.
const QUEUES: [(Language, Language, Make); 3] = [
    (Language::C, Language::Python, Make::Go),
    (Language::Python, Language::Go, Make::Rpc),
    (Language::Go, Language::C, Make::Etcdctl),
];

/// An election in which the three stand in this order.
struct Queue {
    service: String,
    leader: Worker,
    /// The token that it leads with.
    token: i64,
    heir: Worker,
    rival: Rival,
}

impl Queue {
    /// `endpoints` are the leader's and the heir's.
    fn form(number: usize, server: &Server, endpoints: [&str; 2], ttl_s: u32) -> Queue {
        Queue::form_with(QUEUES[number].2, number, server, endpoints, ttl_s)
    }

    fn form_with(make: Make, number: usize, server: &Server, endpoints: [&str; 2], ttl_s: u32) -> Queue {
        let (hit, next, _) = QUEUES[number];
        let service = format!("queue-{number}");
        let leader = start(hit, endpoints[0], &service, ttl_s);
        leader.next("FOLLOWER");
        let token = leader.next("LEADER").token;
        let heir = start(next, endpoints[1], &service, ttl_s);
        heir.next("FOLLOWER");
        let election = format!("{service}/default");
        let stands = |count| eventually("it stands", || queue_of(server, &format!("_ld/{election}/")).len() == count);
        stands(2);
        let rival = Rival::stand(server, make, &format!("_ld/{election}"), "rival");
        record().add_witness(&election, rival.witness());
        stands(3);
        Queue { service, leader, token, heir, rival }
    }

    /// Nobody has noticed anything.
    fn assert_unchanged(&self) {
        self.leader.assert_unchanged();
        self.heir.assert_unchanged();
    }

    /// Heir and rival lead when those before them leave; then the last one does, who stands behind them: the leader of
    /// before, or the one given.
    fn assert_order(mut self, server: &Server, last: Option<Worker>) {
        self.heir.resign();
        end(self.rival, server);
        last.unwrap_or(self.leader).next("LEADER");
    }

    /// The leader leaves, then the heir: each time the next one leads.
    fn assert_hand_over(mut self, server: &Server) {
        self.leader.resign();
        assert!(self.heir.next("LEADER").token > self.token);
        self.heir.resign();
        end(self.rival, server);
    }

    /// The leader is lost for this reason, the heir leads, and the leader stands again, behind the rival.
    fn assert_lost(&self, server: &Server, reason: &str) {
        assert_eq!(self.leader.next("ERROR").reason, reason);
        self.leader.next("FOLLOWER");
        assert!(self.heir.next("LEADER").token > self.token);
        let prefix = format!("_ld/{}/default/", self.service);
        eventually("it stands again", || queue_of(server, &prefix).len() == 3);
    }
}

/// A rival is elected, and leaves nothing behind.
fn end(rival: Rival, server: &Server) {
    let key = rival.wait_elected();
    let is_etcdctl = rival.make() == Make::Etcdctl;
    rival.end();
    // etcdctl deletes its key, and lets its lease of a minute run out.
    if is_etcdctl {
        server.etcdctl(&["lease", "revoke", key.rsplit('/').next().unwrap()]);
    }
}

fn start(language: Language, endpoints: &str, service: &str, ttl_s: u32) -> Worker {
    let ttl = format!("{ttl_s}s");
    let options = [("endpoints", endpoints), ("service", service), ("ttl", ttl.as_str())];
    let worker = Worker::start(language, &options);
    record().add_witness(&format!("{service}/default"), worker.witness());
    worker
}

/// Three queues at once.
fn queues(stage: &Server, ttl_s: u32) -> Vec<Queue> {
    let endpoint = stage.endpoint();
    (0..QUEUES.len()).map(|number| Queue::form(number, stage, [&endpoint, &endpoint], ttl_s)).collect()
}

/// Three queues at once, in which everybody uses all servers, and everybody outlives a server's end: in those that the
/// server's election RPC makes and in etcdctl a candidacy dies with its connection.
fn hardy_queues<T: Host>(stage: &Stage<T>, ttl_s: u32) -> Vec<Queue> {
    let servers = stage.servers();
    let all = servers.iter().map(|server| server.endpoint()).collect::<Vec<_>>().join(",");
    (0..QUEUES.len()).map(|number| Queue::form_with(Make::Go, number, servers[0], [&all, &all], ttl_s)).collect()
}

fn pass(time: Duration) {
    let end = boottime_ns() + i64::try_from(time.as_nanos()).unwrap();
    eventually("the time", || boottime_ns() > end);
}

/// Fault 32: kill -9. The next in the queue leads when the lease is over, whatever language each is in.
#[test]
fn killed_leaders_of_every_language_are_succeeded_in_order() {
    let stage = Stage::solo();
    let mut queues = queues(&stage, 4);
    queues.iter_mut().for_each(|queue| queue.leader.kill());
    for (queue, (hit, ..)) in queues.into_iter().zip(QUEUES) {
        assert!(queue.heir.next("LEADER").token > queue.token);
        // A new process in the killed one's place goes to the end.
        let again = start(hit, &stage.endpoint(), &queue.service, 4);
        again.next("FOLLOWER");
        let prefix = format!("_ld/{}/default/", queue.service);
        eventually("it stands", || queue_of(&stage, &prefix).len() == 3);
        queue.assert_order(&stage, Some(again));
    }
}

/// Fault 14: stopped for two times the lease, in every language.
#[test]
fn leaders_of_every_language_stopped_for_longer_than_their_lease_do_not_lead_when_they_go_on() {
    let stage = Stage::solo();
    let queues = queues(&stage, 4);
    queues.iter().for_each(|queue| queue.leader.stop());
    pass(Duration::from_secs(8));
    for queue in queues {
        let resumed = boottime_ns();
        queue.leader.cont();
        queue.assert_lost(&stage, "SESSION_EXPIRED");
        let claims = queue.leader.claims();
        assert!(claims.iter().all(|claim| claim.end < resumed), "{claims:?}, resumed at {resumed}");
        queue.assert_order(&stage, None);
    }
}

/// Fault 15: stopped for half of the lease, in every language.
#[test]
fn leaders_of_every_language_stopped_for_half_their_lease_lead_on() {
    let stage = Stage::solo();
    let queues = queues(&stage, 6);
    queues.iter().for_each(|queue| queue.leader.stop());
    pass(Duration::from_secs(3));
    queues.iter().for_each(|queue| queue.leader.cont());
    for queue in queues {
        // Doubt, which is over when etcd has been asked.
        while queue.leader.next_told().at_risk {}
        queue.assert_unchanged();
        assert_eq!(queue.leader.claims().last().map(|claim| claim.token), Some(queue.token));
        queue.assert_hand_over(stage.servers()[0]);
    }
}

fn cut_off(direction: Direction) {
    let stage = Stage::solo();
    let ways: Vec<Arc<Proxy>> = QUEUES.iter().map(|_| record().proxy(&stage)).collect();
    let form =
        |(number, way): (usize, &Arc<Proxy>)| Queue::form(number, &stage, [&way.endpoint(), &stage.endpoint()], 4);
    let queues: Vec<Queue> = ways.iter().enumerate().map(form).collect();
    ways.iter().for_each(|way| way.swallow(direction));
    queues.iter().for_each(|queue| assert!(queue.heir.next("LEADER").token > queue.token));
    for way in &ways {
        way.heal();
        way.cut();
    }
    for queue in queues {
        assert_eq!(queue.leader.next("ERROR").reason, "SESSION_EXPIRED");
        queue.leader.next("FOLLOWER");
        let prefix = format!("_ld/{}/default/", queue.service);
        eventually("it stands again", || queue_of(&stage, &prefix).len() == 3);
        queue.assert_order(&stage, None);
    }
}

/// Fault 10: requests vanish, in every language.
#[test]
fn leaders_of_every_language_whose_requests_vanish_are_lost_and_succeeded() {
    cut_off(Direction::ToServer);
}

/// Fault 11: answers vanish, in every language.
#[test]
fn leaders_of_every_language_whose_answers_vanish_are_lost_and_succeeded() {
    cut_off(Direction::ToClient);
}

/// Faults 18 and 19: a member stops, and the raft leader is killed.
#[test]
fn leaders_of_every_language_lead_on_while_members_stop_and_are_killed() {
    let stage = Stage::cluster();
    // A renewal falls into each of the two pauses of 4 s, and what then is left of the lease outlasts an election.
    let queues = hardy_queues(&stage, 10);
    let first = stage.leader();
    stage.members[(first + 1) % 3].stop();
    pass(Duration::from_secs(4));
    stage.members[(first + 1) % 3].cont();
    stage.members[first].kill();
    pass(Duration::from_secs(4));
    stage.members[first].restart();
    for queue in queues {
        queue.assert_unchanged();
        assert_eq!(queue.leader.claims().last().map(|claim| claim.token), Some(queue.token));
        queue.assert_hand_over(stage.servers()[0]);
    }
}

/// Fault 22: the only server is restarted.
#[test]
fn leaders_of_every_language_lead_on_when_etcd_is_restarted_within_their_lease() {
    let stage = Stage::solo();
    let queues = hardy_queues(&stage, 10);
    stage.kill();
    stage.restart();
    for queue in queues {
        queue.assert_unchanged();
        queue.assert_hand_over(stage.servers()[0]);
    }
}
