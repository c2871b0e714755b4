//! Who looks on, and who hangs.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use tenure::{CampaignOptions, Event, Service, State};

use crate::candidate::{Candidate, LIMIT, eventually, options, queue, revision};
use crate::stage::{Stage, record};
use crate::support::electorate::Watcher;

/// Fault 33: an observer through everything. What it is told never goes back, which the watcher checks at each event.
#[test]
fn an_observer_is_told_the_truth_through_everything() {
    let server = Stage::solo();
    let proxy = record().proxy(&server);
    let service = Arc::new(Service::open(&options(&proxy.endpoint(), 5)).unwrap());
    record().add_service(&service);
    let candidate = |value| {
        let mut options = options(&server.endpoint(), 10);
        options.set("value", value).unwrap();
        Candidate::stand_with(&options, &[])
    };
    let mut watcher = Watcher::observe(&service, "");
    watcher.wait_leader(None);
    // One leader after another, and nobody.
    let (first, second) = (candidate("first"), candidate("second"));
    watcher.wait_leader(Some("first"));
    eventually("two candidates", || queue(&server).len() == 2);
    first.campaign.resign(LIMIT).unwrap();
    watcher.wait_leader(Some("second"));
    second.campaign.resign(LIMIT).unwrap();
    watcher.wait_leader(None);
    // Out of reach: it says so, and meanwhile the leader changes and the past is compacted.
    let third = candidate("third");
    let led = watcher.wait_leader(Some("third"));
    proxy.refuse();
    proxy.cut();
    let lost = loop {
        let told = watcher.next();
        if !told.connected {
            break told;
        }
    };
    assert_eq!(lost.leader.map(|leader| leader.token), led.leader.map(|leader| leader.token), "what was known last");
    third.campaign.resign(LIMIT).unwrap();
    let _fourth = candidate("fourth");
    eventually("the fourth stands", || queue(&server).len() == 1);
    server.etcdctl(&["compaction", "--physical", &revision(&server).to_string()]);
    proxy.heal();
    watcher.wait_leader(Some("fourth"));
    watcher.observer.close();
    watcher.expect_closed();
}

/// Fault 36: a program that hangs goes on leading, since renewals are the library's own. What it has for that case is a
/// thread of its own that watches over it: resigning works from there while the program hangs inside of its callback.
#[test]
fn a_watchdog_resigns_for_a_program_that_hangs() {
    let server = Stage::solo();
    let service = Arc::new(Service::open(&options(&server.endpoint(), 3)).unwrap());
    record().add_service(&service);
    let (hangs, hung) = channel();
    let (release, released) = channel::<()>();
    let hang = move |event: &Event| {
        if matches!(event, Event::Status(_, status) if status.state == State::Leader) {
            hangs.send(()).unwrap();
            // The test is over.
            let _ = released.recv();
        }
    };
    let campaign = Arc::new(service.campaign("", &CampaignOptions::new(), Some(Box::new(hang))).unwrap());
    record().add_campaign("faults/default", &campaign);
    hung.recv_timeout(LIMIT).unwrap();
    let heir = Candidate::stand(&server.endpoint(), 60);
    eventually("two candidates", || queue(&server).len() == 2);
    // It hangs for longer than its lease lives.
    assert!(heir.campaign.wait_leader(Duration::from_secs(4)).is_err());
    assert!(campaign.is_leader());
    let watchdog = campaign.clone();
    std::thread::spawn(move || watchdog.resign(LIMIT)).join().unwrap().unwrap();
    heir.next(State::Leader);
    drop(release);
}
