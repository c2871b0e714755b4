//! What a service costs the process and the store is bounded, and given back when it closes. A process of its own, and
//! one test at a time, since threads, descriptors and memory are counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod support;

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tenure::Code;

use support::Server;
use support::electorate::{Contender, LIMIT, Watcher, keys, lease_list, open, wait_until};

static ALONE: Mutex<()> = Mutex::new(());

/// Threads and descriptors of this process.
fn held() -> (usize, usize) {
    ["task", "fd"].map(|what| fs::read_dir(format!("/proc/self/{what}")).unwrap().count()).into()
}

/// Resident memory in KiB.
fn memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Opens, uses and closes a service of each kind; every second one is dropped instead of closed.
fn use_one(server: &Server, round: usize) {
    let service = open(server, &[("service", "leaks")]);
    let mut leader = Contender::lead(&service, "election");
    let mut watcher = Watcher::observe(&service, "election");
    // The list that it begins with may have been read just before the join.
    while watcher.next().leader.is_none() {}
    service.leader("election", LIMIT).unwrap();
    let pulled = open(server, &[("service", "leaks"), ("events", "pull")]);
    let campaign = pulled.campaign("pulled", &tenure::CampaignOptions::new(), None).unwrap();
    campaign.wait_leader(LIMIT).unwrap();
    if round.is_multiple_of(2) {
        service.close(LIMIT).unwrap();
        pulled.close(LIMIT).unwrap();
    }
    drop((service, pulled));
    leader.expect_closed();
    watcher.expect_closed();
}

/// Fault 33.
#[test]
fn two_hundred_services_leave_no_thread_descriptor_lease_or_key() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::builder().start();
    (0..10).for_each(|round| use_one(&server, round));
    wait_until("all leases of the first have ended", || lease_list(&server).is_empty());
    let (before, memory_before) = (held(), memory());
    (10..110).for_each(|round| use_one(&server, round));
    wait_until("all leases have ended", || lease_list(&server).is_empty());
    assert!(keys(&server, "").is_empty());
    // Its own thread ends a little after the last event.
    wait_until("threads and descriptors are given back", || {
        let (threads, descriptors) = held();
        threads <= before.0 && descriptors <= before.1
    });
    let grown = memory().saturating_sub(memory_before);
    assert!(grown < 2 * 1024, "{grown} KiB more after 200 services");
}

#[test]
fn a_flood_of_calls_that_nobody_waits_for_does_not_fill_the_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut options = tenure::ServiceOptions::new();
    options.set("endpoints", "memory://flood").unwrap().set("service", "leaks").unwrap();
    let service = tenure::Service::open(&options).unwrap();
    let campaign = service.campaign("election", &tenure::CampaignOptions::new(), None).unwrap();
    let before = memory();
    let mut grown = 0;
    for _ in 0..50 {
        for _ in 0..4000 {
            // Ok or Pending, as fast as the engine is.
            let _ = campaign.resign(Duration::ZERO);
        }
        grown = grown.max(memory().saturating_sub(before));
    }
    assert!(grown < 16 * 1024, "{grown} KiB more after 200,000 calls");
    service.close(LIMIT).unwrap();
}

/// Fault 30: a thousand elections on one lease are lost, and led again on the next one, time and again; memory stays flat.
#[test]
fn a_thousand_elections_lost_and_won_again_leave_memory_flat() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::builder().start();
    let service = open(&server, &[("service", "crowd")]);
    let rejoin: &[(&str, &str)] = &[("rejoin", "true")];
    let stand = |number| Contender::stand_with(&service, &format!("election-{number}"), rejoin);
    let mut crowd: Vec<Contender> = (0..1000).map(stand).collect();
    crowd.iter_mut().for_each(|contender| drop(contender.wait_elected()));
    let mut memories = Vec::new();
    for _ in 0..6 {
        let key = keys(&server, "_ld/crowd/").remove(0);
        server.etcdctl(&["lease", "revoke", key.rsplit('/').next().unwrap()]);
        for contender in &mut crowd {
            contender.expect_loss(Code::LeaseRevoked);
            contender.wait_elected();
        }
        memories.push(memory());
    }
    let grown = memories[5].saturating_sub(memories[2]);
    assert!(grown < 1024, "{grown} KiB more after three more times: {memories:?}");
    service.close(LIMIT).unwrap();
    assert!(keys(&server, "").is_empty() && lease_list(&server).is_empty());
}
