//! Candidates in processes of their own that are killed and stopped.

use crate::candidate::{eventually, queue_of};
use crate::figures;
use crate::guard::{self, Ledger};
use crate::stage::{Stage, start_program};
use crate::support::Program;
use crate::support::electorate::keys;
use crate::support::program::boottime_ns;

const SECOND: i64 = 1_000_000_000;

/// The test at which programs begin.
pub(crate) const BEGIN: &str = "programs::a_program_tells_what_becomes_of_its_candidacy";

fn candidate(endpoint: &str, service: &str, ttl_s: i64) -> Program {
    let ttl = format!("{ttl_s}s");
    let options = [("endpoints", endpoint), ("service", service), ("ttl", &ttl), ("campaign.at_risk", "true")];
    start_program(&options)
}

/// A leader, and a follower that waits.
fn pair(endpoint: &str, service: &str, ttl_s: i64) -> (Program, Program) {
    let leader = candidate(endpoint, service, ttl_s);
    leader.next("FOLLOWER");
    leader.next("LEADER");
    let follower = candidate(endpoint, service, ttl_s);
    follower.next("FOLLOWER");
    (leader, follower)
}

/// The token with which it says that it leads.
fn eventually_leads(program: &Program) -> i64 {
    eventually("a look at its leadership", || program.last_look().is_some_and(|look| look.token != 0));
    program.last_look().unwrap().token
}

/// This is where the programs of all tests here begin, too.
#[test]
fn a_program_tells_what_becomes_of_its_candidacy() {
    if Program::run(guard::append) {
        return;
    }
    let program = candidate("memory://programs", "alone", 2);
    program.next("FOLLOWER");
    let led = program.next("LEADER");
    eventually("looks", || program.claims().iter().any(|claim| claim.end > claim.start));
    assert_eq!(program.claims()[0].token, led.token);
    program.end();
}

/// Fault 32: the leader is killed (SIGKILL), several times at once: the follower leads when the lease is over.
fn takes_over_after_a_crash(ttl_s: i64) {
    let server = Stage::solo();
    let services: Vec<String> = (0..figures::times()).map(|number| format!("killed-{number}")).collect();
    let mut pairs: Vec<(Program, Program)> =
        services.iter().map(|service| pair(&server.endpoint(), service, ttl_s)).collect();
    for service in &services {
        let prefix = format!("_ld/{service}/default/");
        eventually("two candidates", || queue_of(&server, &prefix).len() == 2);
    }
    let killed: Vec<i64> = pairs
        .iter_mut()
        .map(|(leader, _)| {
            leader.kill();
            boottime_ns()
        })
        .collect();
    let taken_after = |((_, follower), killed): (&(Program, Program), i64)| follower.next("LEADER").at - killed;
    let taken: Vec<i64> = pairs.iter().zip(killed).map(taken_after).collect();
    // On an idle machine at most the time to live and 0.6 s.
    assert!(taken.iter().all(|taken| *taken < (ttl_s + 10) * SECOND), "{taken:?}");
    figures::report("taken over after kill -9", ttl_s, taken);
}

/// Fault 32.
#[test]
fn a_follower_takes_over_from_a_killed_leader_after_the_lease_of_2_s() {
    takes_over_after_a_crash(2);
}

/// Fault 32.
#[test]
fn a_follower_takes_over_from_a_killed_leader_after_the_lease_of_5_s() {
    takes_over_after_a_crash(5);
}

/// Fault 32.
#[test]
fn a_follower_takes_over_from_a_killed_leader_after_the_lease_of_10_s() {
    takes_over_after_a_crash(10);
}

/// Fault 14.
#[test]
fn a_leader_stopped_for_longer_than_its_lease_does_not_lead_when_it_goes_on() {
    let server = Stage::solo();
    let (stopped, other) = pair(&server.endpoint(), "stopped", 2);
    eventually("two candidates", || queue_of(&server, "_ld/stopped/default/").len() == 2);
    let mut ledger = Ledger::at(&server.endpoint());
    let key = keys(&server, "_ld/stopped/default/").remove(0);
    let token = eventually_leads(&stopped);
    assert!(ledger.write("by the first", Some((&key, token))));
    stopped.stop();
    let until = boottime_ns() + 4 * SECOND;
    let led = other.next("LEADER");
    eventually("two times the lease", || boottime_ns() > until);
    let resumed = boottime_ns();
    stopped.cont();
    let loss = stopped.next("ERROR");
    assert_eq!(loss.reason, "SESSION_EXPIRED");
    stopped.next("CLOSED");
    eventually("looks", || stopped.last_look().is_some_and(|look| look.before > loss.at));
    // Also the very first look, before the engine has had a chance to notice anything.
    let wrong = stopped.looks().into_iter().find(|look| look.before > resumed && look.token != 0);
    assert!(wrong.is_none(), "{wrong:?}, resumed at {resumed}");
    assert!(!ledger.write("too late", Some((&key, token))));
    assert_eq!(ledger.read(), "by the first");
    assert_eq!(other.claims().last().map(|claim| claim.token), Some(led.token));
    assert!(other.told().is_none());
    other.end();
}

/// Fault 15.
#[test]
fn a_leader_stopped_for_half_its_lease_leads_on() {
    let server = Stage::solo();
    let (stopped, other) = pair(&server.endpoint(), "stopped", 6);
    let token = eventually_leads(&stopped);
    eventually("two candidates", || queue_of(&server, "_ld/stopped/default/").len() == 2);
    stopped.stop();
    let until = boottime_ns() + 3 * SECOND;
    eventually("half the lease", || boottime_ns() > until);
    let resumed = boottime_ns();
    stopped.cont();
    // In doubt, and then no more; who is slow to read is told only that it isn't.
    let told = std::iter::from_fn(|| Some(stopped.next_told()));
    let sure = told.into_iter().find(|told| told.at > resumed && !told.at_risk).unwrap();
    assert_eq!((sure.token, sure.state.as_str()), (token, "LEADER"));
    eventually("looks", || stopped.last_look().is_some_and(|look| look.before > sure.at));
    let wrong = stopped.looks().into_iter().find(|look| look.before > resumed && look.token != sure.token);
    assert!(wrong.is_none(), "{wrong:?}, resumed at {resumed}");
    assert!(other.told().is_none() && other.claims().is_empty());
    stopped.end();
    other.next("LEADER");
}

/// Fault 32: the leader's process ends in some way, with nothing closed, and the follower leads when the lease is over.
fn ends_without_closing(way: &str) {
    let server = Stage::solo();
    let (mut leader, follower) = pair(&server.endpoint(), way, 2);
    eventually("two candidates", || queue_of(&server, &format!("_ld/{way}/default/")).len() == 2);
    leader.crash(way);
    assert_eq!(queue_of(&server, &format!("_ld/{way}/default/")).len(), 2, "nothing is withdrawn");
    follower.next("LEADER");
}

/// Fault 32.
#[test]
fn a_follower_takes_over_from_a_leader_that_just_exits() {
    ends_without_closing("exit");
}

/// Fault 32.
#[test]
fn a_follower_takes_over_from_a_leader_that_aborts() {
    ends_without_closing("abort");
}

/// Fault 35: nothing is taken over from before, neither lease nor token, and nobody can pretend to.
#[test]
fn a_program_that_starts_anew_within_its_lease_waits_for_its_former_self() {
    let server = Stage::solo();
    let mut killed = candidate(&server.endpoint(), "anew", 3);
    killed.next("FOLLOWER");
    let led = killed.next("LEADER");
    eventually_leads(&killed);
    killed.kill();
    let last = killed.claims().last().unwrap().end;
    let anew = candidate(&server.endpoint(), "anew", 3);
    anew.next("FOLLOWER");
    let leads = anew.next("LEADER");
    assert!(leads.token > led.token && leads.at > last);
    let key = keys(&server, "_ld/anew/default/");
    assert_eq!(key.len(), 1, "its own key, on a lease of its own: {key:?}");
}
