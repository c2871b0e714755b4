//! Others who may write below our prefix, and mean no good. They can keep us from leading, since they may stand, too;
//! but nothing crashes, nobody leads beside another, memory stays bounded, and when they are gone all is as before.

use std::fs;
use std::time::{Duration, Instant};

use tenure::store::etcd::{Etcd, EtcdConfig};
use tenure::store::{Compare, Op, Range, Store, Txn, prefix_end};
use tenure::{Code, State};
use tokio::runtime::{Builder, Runtime};

use crate::stage::{BASE, Candidate, LIMIT, Onlooker};
use crate::stage::{follow, lead, log, on_each_version, open, wait_for_candidates, wait_for_line};
use crate::support::{Program, Server, Version};

const FLOOD: usize = 10_000;
/// Close to what etcd takes, which is 1.5 MiB for a request.
const HUGE: usize = 1_400_000;
const YEAR_S: i64 = 365 * 24 * 3600;

/// Somebody with etcd's own client.
struct Neighbour {
    runtime: Runtime,
    store: Etcd,
}

impl Neighbour {
    fn of(server: &Server) -> Neighbour {
        let config = EtcdConfig { endpoints: vec![server.endpoint()], ..EtcdConfig::default() };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Neighbour { runtime, store: Etcd::new(config).unwrap() }
    }

    /// Repeated where a busy machine has let it time out: done twice, all of this is as if done once.
    fn run(&self, then: Vec<Op>) -> i64 {
        self.run_if(vec![], then)
    }

    /// The revision after it.
    fn run_if(&self, compares: Vec<Compare>, then: Vec<Op>) -> i64 {
        let deadline = Instant::now() + LIMIT;
        loop {
            let txn = Txn { compares: compares.clone(), then: then.clone(), ..Txn::default() };
            match self.runtime.block_on(self.store.txn(txn, LIMIT)) {
                Err(error) if error.failure.is_unknown() && Instant::now() < deadline => {}
                outcome => break outcome.unwrap().0.revision,
            }
        }
    }

    fn put(&self, key: &[u8], value: &[u8], lease: i64) -> i64 {
        self.run(vec![Op::Put { key: key.to_vec(), value: value.to_vec(), lease }])
    }

    /// Deletes what was put at a revision, and nothing that came after it.
    fn take_back(&self, key: &[u8], put: i64) {
        self.run_if(vec![Compare::ModRevision(key.to_vec(), put)], vec![Op::Delete(key.to_vec())]);
    }

    fn delete(&self, key: &[u8]) {
        self.run(vec![Op::Delete(key.to_vec())]);
    }

    fn all(&self, keys: &[Vec<u8>], op: impl Fn(&Vec<u8>) -> Op) {
        for some in keys.chunks(100) {
            self.run(some.iter().map(&op).collect());
        }
    }

    /// A lease for a year that nobody renews.
    fn lease(&self) -> i64 {
        static NEXT: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(1);
        let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.runtime.block_on(self.store.grant(id, YEAR_S, LIMIT)).unwrap();
        id
    }

    fn revoke(&self, lease: i64) {
        self.runtime.block_on(self.store.revoke(lease, LIMIT)).unwrap();
    }

    /// The key, token and lease of who leads.
    fn leader(&self, election: &str) -> (Vec<u8>, i64, i64) {
        let key = format!("{BASE}{election}/").into_bytes();
        let range = Range { end: prefix_end(&key), key, ..Range::default() };
        let mut found = self.runtime.block_on(self.store.range(range, LIMIT)).unwrap().1.kvs;
        found.sort_by_key(|kv| kv.create_revision);
        let first = found.swap_remove(0);
        (first.key, first.create_revision, first.lease)
    }
}

fn key(election: &str, name: impl AsRef<[u8]>) -> Vec<u8> {
    [BASE.as_bytes(), election.as_bytes(), b"/", name.as_ref()].concat()
}

#[test]
fn garbage_keys_are_waited_for_and_gone_when_they_are_gone() {
    on_each_version(|version| {
        let server = Server::start(version);
        let (service, neighbour) =
            (open(&[("endpoints", &server.endpoint()), ("ttl", "120s")]), Neighbour::of(&server));
        let long = vec![b'a'; 100_000];
        let names: [&[u8]; 12] = [
            b"",
            b"\xff\xfe\x00",
            b"\0",
            b"\n\r\t",
            b"0",
            b"-1",
            b"ffffffffffffffffffffffffffffffff",
            b"0000000000000000000000000000000000000000000000000000000000000000",
            b"not a number",
            b"..",
            "\u{202e}\u{1f4a9}".as_bytes(),
            &long,
        ];
        for (number, name) in names.into_iter().enumerate() {
            let election = format!("garbage-{number}");
            let garbage = key(&election, name);
            neighbour.put(&garbage, b"\xff\0", 0);
            let candidate = Candidate::stand(&service, &election, &[]);
            candidate.expect(State::Follower);
            let onlooker = Onlooker::observe(&service, &election);
            let seen = onlooker.until(|seen| seen.leader.is_some());
            assert_eq!(&*seen.leader.unwrap().key, garbage);
            let leader = service.leader(&election, LIMIT).unwrap();
            assert_eq!((&*leader.key, &*leader.value, leader.lease), (&*garbage, &b"\xff\0"[..], 0));
            wait_for_candidates(&service, &election, 2);
            candidate.expect_silence();
            neighbour.delete(&garbage);
            let token = candidate.expect(State::Leader).token;
            onlooker.until(|seen| seen.leader.as_ref().is_some_and(|leader| leader.token == token));
            candidate.campaign.resign(LIMIT).unwrap();
        }
    });
}

#[test]
fn keys_beside_an_election_are_not_in_it() {
    let server = Server::start(Version::default());
    let (service, neighbour) = (open(&[("endpoints", &server.endpoint()), ("ttl", "120s")]), Neighbour::of(&server));
    for beside in ["_ld", "_ld/", "_ld/shop", "_ld/shop/", "_ld/shop/one", "_ld/shop/one0", "_ld/shop/on/e", "_le", "0"]
    {
        neighbour.put(beside.as_bytes(), b"mine", 0);
    }
    neighbour.put(b"_ld/shop/\xff/1", b"mine", 0);
    lead(&service, "one", &[]).campaign.resign(LIMIT).unwrap();
}

/// Where one election lies inside another, candidates of other makes would wait for it: so nobody can be elected.
#[test]
fn a_nested_key_keeps_all_from_leading_but_who_leads_and_is_named() {
    let server = Server::start(Version::default());
    let (service, neighbour) = (open(&[("endpoints", &server.endpoint()), ("ttl", "120s")]), Neighbour::of(&server));
    let other = open(&[("endpoints", &server.endpoint()), ("ttl", "120s")]);
    let leader = lead(&service, "nest", &[]);
    neighbour.put(&key("nest", "egg/1"), b"mine", 0);
    let candidate = Candidate::stand(&other, "nest", &[("rejoin", "true")]);
    candidate.expect(State::Follower);
    let loss = candidate.expect_loss(Code::NameCollision);
    assert!(loss.message.contains("_ld/shop/nest/egg/1"), "{loss:?}");
    assert!(leader.campaign.is_leader());
    leader.expect_silence();
    neighbour.delete(&key("nest", "egg/1"));
    leader.campaign.resign(LIMIT).unwrap();
    candidate.until(State::Leader);
}

#[test]
fn a_key_that_nobody_owns_blocks_until_it_is_removed_and_waiting_can_be_limited() {
    let server = Server::start(Version::default());
    let (service, neighbour) = (open(&[("endpoints", &server.endpoint()), ("ttl", "120s")]), Neighbour::of(&server));
    neighbour.put(&key("blocked", "1"), b"mine", neighbour.lease());
    let impatient = Candidate::stand(&service, "blocked", &[("wait_limit", "1s")]);
    impatient.expect(State::Follower);
    let loss = impatient.expect_loss(Code::WaitLimit);
    assert!(loss.message.contains("blocked"), "{loss:?}");
    impatient.expect(State::Closed);
    let patient = Candidate::stand(&service, "blocked", &[]);
    patient.expect(State::Follower);
    wait_for_candidates(&service, "blocked", 2);
    assert_eq!(&*service.leader("blocked", LIMIT).unwrap().key, key("blocked", "1"));
    patient.expect_silence();
    neighbour.delete(&key("blocked", "1"));
    patient.expect(State::Leader);
}

/// Together more than any default of gRPC's lets through in one answer, and more than a mirror keeps.
#[test]
fn huge_values_are_waited_for_and_read() {
    const COUNT: usize = 20;
    let server = Server::start(Version::default());
    let (service, neighbour) = (open(&[("endpoints", &server.endpoint()), ("ttl", "120s")]), Neighbour::of(&server));
    let keys: Vec<Vec<u8>> = (0..COUNT).map(|number| key("huge", format!("{number:x}"))).collect();
    for key in &keys {
        neighbour.put(key, &vec![b'x'; HUGE], 0);
    }
    let onlooker = Onlooker::observe(&service, "huge");
    let candidate = Candidate::stand(&service, "huge", &[]);
    candidate.expect(State::Follower);
    wait_for_candidates(&service, "huge", COUNT + 1);
    for key in &keys {
        let seen = onlooker.until(|seen| seen.leader.as_ref().is_some_and(|leader| *leader.key == **key));
        assert_eq!(seen.leader.unwrap().value.len(), HUGE);
        assert_eq!(service.leader("huge", LIMIT).unwrap().value.len(), HUGE);
        candidate.expect_silence();
        neighbour.delete(key);
    }
    candidate.expect(State::Leader);
    // And while it leads, and others wait.
    let follower = open(&[("endpoints", &server.endpoint()), ("ttl", "120s")]);
    let follower = follow(&follower, "huge");
    for key in &keys {
        neighbour.put(key, &vec![b'x'; HUGE], 0);
    }
    keys.iter().for_each(|key| neighbour.delete(key));
    assert!(candidate.campaign.is_leader());
    candidate.campaign.resign(LIMIT).unwrap();
    follower.expect(State::Leader);
}

#[test]
fn a_flood_of_candidates_is_a_queue_like_any_other() {
    let server = Server::start(Version::default());
    let endpoint = server.endpoint();
    let (service, neighbour) = (open(&[("endpoints", &endpoint), ("ttl", "120s")]), Neighbour::of(&server));
    let bystander = lead(&service, "bystander", &[]);
    let keys: Vec<Vec<u8>> = (0..FLOOD).map(|number| key("flood", format!("{number:x}"))).collect();
    let lease = neighbour.lease();
    // Before it stands, and while it waits.
    let (early, late) = keys.split_at(FLOOD / 2);
    let put = |key: &Vec<u8>| Op::Put { key: key.clone(), value: b"mine".to_vec(), lease };
    neighbour.all(early, put);
    let candidate = Candidate::stand(&service, "flood", &[]);
    candidate.expect(State::Follower);
    let onlooker = Onlooker::observe(&service, "flood");
    onlooker.until(|seen| seen.leader.as_ref().is_some_and(|leader| leader.lease == lease));
    wait_for_candidates(&service, "flood", early.len() + 1);
    neighbour.all(late, put);
    let queue = service.candidates("flood", LIMIT).unwrap();
    assert_eq!((queue.len(), queue.is_sorted_by_key(|candidate| candidate.token)), (FLOOD + 1, true));
    candidate.expect_silence();
    neighbour.all(early, |key| Op::Delete(key.clone()));
    let token = candidate.expect(State::Leader).token;
    onlooker.until(|seen| seen.leader.as_ref().is_some_and(|leader| leader.token == token));
    neighbour.revoke(lease);
    bystander.expect_silence();
    candidate.expect_silence();
    assert!(bystander.campaign.is_leader() && candidate.campaign.is_leader());
    assert_eq!(service.candidates("flood", LIMIT).unwrap().len(), 1);
}

/// Somebody puts our key on a lease of theirs, or on none, or deletes it and makes it anew.
#[test]
fn a_key_that_is_taken_over_ends_the_term_and_the_next_one_comes() {
    on_each_version(|version| {
        let server = Server::start(version);
        let (service, neighbour) =
            (open(&[("endpoints", &server.endpoint()), ("ttl", "120s")]), Neighbour::of(&server));
        let candidate = Candidate::stand(&service, "taken", &[("rejoin", "true")]);
        let mut former = 0;
        for turn in 0..6 {
            let status = candidate.until(State::Leader);
            assert!(status.token > former, "{status:?}");
            let (key, token, lease) = neighbour.leader("taken");
            assert_eq!((token, status.token), (status.token, token));
            let put = match turn % 3 {
                0 => neighbour.put(&key, b"mine", neighbour.lease()),
                1 => neighbour.put(&key, b"mine", 0),
                _ => {
                    neighbour.delete(&key);
                    neighbour.put(&key, b"mine", 0)
                }
            };
            let loss = candidate.until(State::Error);
            assert_eq!(loss.reason, Code::KeyDeleted, "{loss:?}");
            assert!(!candidate.campaign.is_leader() && candidate.campaign.token() == 0);
            assert_ne!(lease, 0);
            // Whatever is left of it now isn't ours, and has to go before we lead again.
            candidate.until(State::Follower);
            neighbour.take_back(&key, put);
            former = status.token;
        }
        candidate.until(State::Leader);
        candidate.campaign.resign(LIMIT).unwrap();
        assert_eq!(service.candidates("taken", LIMIT).unwrap(), []);
    });
}

/// Who withdraws leaves its name to whoever wants it.
#[test]
fn a_key_of_our_name_that_somebody_makes_again_and_again_holds_up_no_resignation() {
    let server = Server::start(Version::default());
    let (service, neighbour) = (open(&[("endpoints", &server.endpoint()), ("ttl", "5s")]), Neighbour::of(&server));
    for _ in 0..5 {
        let leader = lead(&service, "again", &[]);
        let (key, ..) = neighbour.leader("again");
        let resigning = std::thread::scope(|scope| {
            let resigning = scope.spawn(|| leader.campaign.resign(LIMIT));
            while !resigning.is_finished() {
                neighbour.put(&key, b"mine", 0);
            }
            resigning.join().unwrap()
        });
        resigning.unwrap();
        neighbour.delete(&key);
    }
}

#[test]
fn leases_that_are_revoked_again_and_again_are_lost_terms_and_nothing_else() {
    on_each_version(|version| {
        let server = Server::start(version);
        let service = open(&[("endpoints", &server.endpoint()), ("log_level", "warn"), ("ttl", "120s")]);
        let (neighbour, lines) = (Neighbour::of(&server), log(&service));
        let candidate = Candidate::stand(&service, "revoked", &[("rejoin", "true")]);
        for _ in 0..5 {
            candidate.until(State::Leader);
            neighbour.revoke(neighbour.leader("revoked").2);
            let loss = candidate.until(State::Error);
            assert_eq!(loss.reason, Code::LeaseRevoked, "{loss:?}");
            assert!(!candidate.campaign.is_leader());
        }
        candidate.until(State::Leader);
        wait_for_line(&lines, "revoked");
        service.close(LIMIT).unwrap();
    });
}

const FLOODED: &str = "neighbours::the_memory_of_who_waits_is_bounded_whatever_is_put_before_it";

/// Resident memory of a process in MiB: now, and at most so far.
fn memory_mib(pid: i32) -> [usize; 2] {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    ["VmRSS:", "VmHWM:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
    })
}

/// Values together ten times as large as what it may take, told while it looks and, in one piece, after it was stopped.
#[test]
fn the_memory_of_who_waits_is_bounded_whatever_is_put_before_it() {
    if Program::run(|way, _| panic!("no work {way}")) {
        return;
    }
    const MAY_TAKE_MIB: usize = 64;
    let server = Server::builder().quota_bytes(4 << 30).start();
    let neighbour = Neighbour::of(&server);
    let blocker = format!("{BASE}default/0").into_bytes();
    neighbour.put(&blocker, b"mine", 0);
    let endpoint = server.endpoint();
    let program = Program::start(FLOODED, &[("endpoints", &endpoint), ("service", "shop"), ("ttl", "60s")]);
    program.next("FOLLOWER");
    let [before, _] = memory_mib(program.pid());
    let keys: Vec<Vec<u8>> = (0..FLOOD).map(|number| format!("{BASE}default/f{number:x}").into_bytes()).collect();
    // Small enough each to be kept, and many.
    let value = vec![b'x'; 16 * 1024];
    for some in keys.chunks(60) {
        neighbour.run(some.iter().map(|key| Op::Put { key: key.clone(), value: value.clone(), lease: 0 }).collect());
    }
    // Large, and told all at once.
    program.stop();
    for number in 0..300 {
        neighbour.put(&keys[number % 10], &vec![b'x'; HUGE], 0);
    }
    program.cont();
    let looked = |program: &Program| program.last_look().map_or(0, |look| look.after);
    let (awake, start) = (looked(&program), Instant::now());
    while looked(&program) == awake || start.elapsed() < Duration::from_secs(2) {
        assert!(start.elapsed() < LIMIT, "it doesn't go on");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    neighbour.all(&keys, |key| Op::Delete(key.clone()));
    neighbour.delete(&blocker);
    program.next("LEADER");
    let [_, most] = memory_mib(program.pid());
    println!("{before} MiB before, {most} MiB at most");
    assert!(most <= before + MAY_TAKE_MIB, "{before} MiB before, {most} MiB at most");
    program.end();
}
