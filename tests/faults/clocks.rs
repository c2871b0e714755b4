//! Clocks that jump, and that disagree: the wall clock is set, a machine is suspended, time namespaces.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::candidate::{eventually, queue_of};
use crate::guard;
use crate::isolated::assert_possible;
use crate::stage::{Stage, compile, record};
use crate::support::program::{Told, boottime_ns};
use crate::support::{Folder, Program};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;

/// This is where the programs of this file begin.
#[test]
fn a_program_in_another_time() {
    if Program::run(guard::append) {
        return;
    }
    // Clocks that nobody sets are the true ones.
    let clocks = Clocks::new();
    let program = clocks.candidate("memory://clocks", "alone", 2);
    program.next("FOLLOWER");
    program.next("LEADER");
}

/// The clocks of one program, see clocks.c.
struct Clocks {
    folder: Folder,
    file: fs::File,
}

impl Clocks {
    fn new() -> Clocks {
        let folder = Folder::new();
        compile("clocks.c", &["-shared", "-fPIC"], &folder.path().join("clocks.so"));
        let file = fs::File::create(folder.path().join("clocks")).unwrap();
        let clocks = Clocks { folder, file };
        clocks.set(0, 0);
        clocks
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// From now on the clocks are ahead of the true ones by so much.
    fn set(&self, realtime_ns: i64, boottime_ns: i64) {
        self.file.write_all_at(&[realtime_ns.to_ne_bytes(), boottime_ns.to_ne_bytes()].concat(), 0).unwrap();
    }

    fn candidate(&self, endpoint: &str, service: &str, ttl_s: i64) -> Program {
        let variables = [("LD_PRELOAD", self.path("clocks.so")), ("TENURE_TEST_CLOCKS", self.path("clocks"))];
        start(&options(endpoint, service, ttl_s), |options| {
            Program::start_with("clocks::a_program_in_another_time", options, &[], |command| {
                command.envs(variables);
            })
        })
    }
}

fn options(endpoint: &str, service: &str, ttl_s: i64) -> [(String, String); 5] {
    [
        ("endpoints", endpoint.to_owned()),
        ("service", service.to_owned()),
        ("ttl", format!("{ttl_s}s")),
        ("campaign.rejoin", "true".to_owned()),
        ("campaign.at_risk", "true".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

fn start(options: &[(String, String)], start: impl FnOnce(&[(&str, &str)]) -> Program) -> Program {
    let options: Vec<(&str, &str)> = options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let program = start(&options);
    record().add_witness(&format!("{}/default", options[1].1), program.witness());
    program
}

fn pass(ns: i64) {
    let end = boottime_ns() + ns;
    eventually("the time", || boottime_ns() > end);
}

/// Fault 16: the wall clock is set forward and back by an hour. Nothing changes for leader and follower; set forward, it
/// may have been a suspended machine, so the leader asks etcd whether all is well.
#[test]
fn a_wall_clock_that_is_set_changes_nothing() {
    let server = Stage::solo();
    let clocks = Clocks::new();
    let leader = clocks.candidate(&server.endpoint(), "wall", 3);
    leader.next("FOLLOWER");
    let token = leader.next("LEADER").token;
    let follower = clocks.candidate(&server.endpoint(), "wall", 3);
    follower.next("FOLLOWER");
    eventually("two candidates", || queue_of(&server, "_ld/wall/default/").len() == 2);
    let start = boottime_ns();
    for ahead in [HOUR, 0, -HOUR, 0] {
        clocks.set(ahead, 0);
        // Half of the lease, so that its renewals are seen as well.
        pass(3 * SECOND / 2);
    }
    let looks = leader.looks().into_iter().filter(|look| look.before > start);
    assert!(looks.clone().count() > 100 && looks.clone().all(|look| look.token == token));
    let told: Vec<Told> = std::iter::from_fn(|| leader.told()).collect();
    assert!(told.iter().all(|told| told.state == "LEADER" && told.token == token), "{told:?}");
    // Their ends, because a doubt that is over before the program reads of it is told as its end alone.
    let doubts_over = told.iter().filter(|told| !told.at_risk).count();
    assert!(doubts_over >= 2 && !told.last().unwrap().at_risk, "the doubts of two jumps forward are over: {told:?}");
    assert!(follower.told().is_none());
}

/// Fault 17: CLOCK_BOOTTIME jumps forward by the lease, as when the machine was suspended: at once, at the very first
/// look, nobody leads there, and the program stands again.
#[test]
fn a_leader_whose_machine_was_suspended_for_its_lease_does_not_lead_when_it_wakes_up() {
    let server = Stage::solo();
    let clocks = Clocks::new();
    let leader = clocks.candidate(&server.endpoint(), "suspended", 3);
    leader.next("FOLLOWER");
    let token = leader.next("LEADER").token;
    leader.stop();
    clocks.set(0, 3 * SECOND);
    let resumed = boottime_ns();
    leader.cont();
    let loss = leader.next("ERROR");
    assert_eq!(loss.reason, "SESSION_EXPIRED");
    leader.next("FOLLOWER");
    let wrong = leader.looks().into_iter().find(|look| look.before > resumed && look.token == token);
    assert!(wrong.is_none(), "{wrong:?}, resumed at {resumed}");
    assert!(leader.next("LEADER").token > token);
}

/// A candidate in a time namespace of its own, where the machine was booted at another time.
fn elsewhere(endpoint: &str, service: &str, ttl_s: i64, boottime_s: i64, monotonic_s: i64) -> Program {
    let offsets = [format!("--boottime={boottime_s}"), format!("--monotonic={monotonic_s}")];
    let mut within = vec!["unshare", "--user", "--map-root-user", "--time"];
    within.extend(offsets.iter().map(String::as_str));
    assert_possible(&within);
    start(&options(endpoint, service, ttl_s), |options| {
        Program::start_with("clocks::a_program_in_another_time", options, &within, |_| {}).of_time(boottime_s * SECOND)
    })
}

/// Fault 17: a day between the clocks of two machines, and between the two clocks of each. A leader that is stopped for
/// longer than its lease doesn't lead when it goes on, in either.
#[test]
fn machines_that_were_booted_at_other_times_agree_on_who_leads() {
    let server = Stage::solo();
    let first = elsewhere(&server.endpoint(), "booted", 2, 90_000, 7);
    first.next("FOLLOWER");
    let led = first.next("LEADER");
    eventually("a look", || first.last_look().is_some_and(|look| look.token == led.token));
    let now = boottime_ns();
    let told = first.last_look().unwrap().after;
    assert!((now - told).abs() < 60 * SECOND, "its looks are told in our time: {told}, now {now}");
    let second = elsewhere(&server.endpoint(), "booted", 2, -10, 100_000);
    second.next("FOLLOWER");
    eventually("two candidates", || queue_of(&server, "_ld/booted/default/").len() == 2);
    let mut pair = [first, second];
    for _ in 0..2 {
        let [leader, follower] = &pair;
        leader.stop();
        follower.next("LEADER");
        pass(2 * SECOND);
        let resumed = boottime_ns();
        leader.cont();
        assert_eq!(leader.next("ERROR").reason, "SESSION_EXPIRED");
        leader.next("FOLLOWER");
        let token = leader.claims().last().unwrap().token;
        let wrong = leader.looks().into_iter().find(|look| look.before > resumed && look.token == token);
        assert!(wrong.is_none(), "{wrong:?}, resumed at {resumed}");
        eventually("it stands again", || queue_of(&server, "_ld/booted/default/").len() == 2);
        pair.swap(0, 1);
    }
}
