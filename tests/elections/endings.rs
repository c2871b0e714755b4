//! The ways out that the program itself chooses: resigning, closing, dropping. Nothing is left behind.

use std::thread;

use tenure::{Code, State};

use crate::support::electorate::{Contender, Electorate, LIMIT, Watcher, wait_until};

on_each_version! {
    who_resigns_while_waiting_leaves_the_queue
    who_resigns_before_it_has_joined_leaves_nothing
    resigning_again_is_fine
    resigning_from_many_threads_deletes_once_and_succeeds_in_each
    a_strict_resignation_needs_a_leader
    closing_withdraws_leaders_and_followers
    closing_ends_the_lease
    closing_again_and_from_many_threads_is_fine
    a_closed_service_takes_nothing_new
    a_dropped_campaign_withdraws
    a_dropped_service_withdraws_everything
    closing_while_joining_leaves_nothing
    waiting_for_leadership_ends_with_the_campaign
}

fn who_resigns_while_waiting_leaves_the_queue(e: &Electorate) {
    let services = [e.open(), e.open(), e.open()];
    let mut first = Contender::lead(&services[0], "queue");
    let mut second = Contender::queue(&services[1], "queue");
    let mut third = Contender::queue(&services[2], "queue");
    second.resign();
    assert_eq!(e.keys("queue").len(), 2);
    third.expect_nothing();
    first.resign();
    third.expect(State::Leader);
    second.expect_end();
}

/// Fault 8.
fn who_resigns_before_it_has_joined_leaves_nothing(e: &Electorate) {
    let service = e.open();
    for round in 0..20 {
        let mut hasty = Contender::stand(&service, "hasty");
        hasty.campaign.resign(LIMIT).unwrap();
        assert_eq!(service.candidates("hasty", LIMIT).unwrap(), [], "round {round}");
        let mut last = hasty.next();
        while last.state != State::Closed {
            last = hasty.next();
        }
        hasty.expect_end();
    }
}

/// Fault 8.
fn resigning_again_is_fine(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::lead(&service, "again");
    leader.resign();
    leader.campaign.resign(LIMIT).unwrap();
    leader.campaign.resign(LIMIT).unwrap();
    service.close(LIMIT).unwrap();
    leader.campaign.resign(LIMIT).unwrap();
    leader.expect_end();
}

/// Fault 8.
fn resigning_from_many_threads_deletes_once_and_succeeds_in_each(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::lead(&service, "at-once");
    let token = leader.campaign.token();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| leader.campaign.resign(LIMIT).unwrap());
        }
    });
    leader.expect(State::Follower);
    leader.expect_closed();
    e.assert_no_keys();
    let mut next = Contender::lead(&service, "at-once");
    assert!(next.campaign.token() > token);
    next.resign();
}

fn a_strict_resignation_needs_a_leader(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let mut leader = Contender::lead(&one, "strict");
    let mut follower = Contender::queue(&other, "strict");
    assert_eq!(follower.campaign.resign_leader(LIMIT).unwrap_err().code(), Code::NotLeader);
    assert_eq!(e.keys("strict").len(), 2, "it still stands");
    leader.campaign.resign_leader(LIMIT).unwrap();
    leader.expect(State::Follower);
    leader.expect_closed();
    assert_eq!(leader.campaign.resign_leader(LIMIT).unwrap_err().code(), Code::NotLeader);
    follower.expect(State::Leader);
}

fn closing_withdraws_leaders_and_followers(e: &Electorate) {
    let (ours, theirs) = (e.open(), e.open());
    let mut leading = Contender::lead(&ours, "ours");
    let mut theirs_leading = Contender::lead(&theirs, "theirs");
    let mut waiting = Contender::queue(&ours, "theirs");
    let mut heir = Contender::queue(&theirs, "ours");
    let mut watcher = Watcher::observe(&ours, "theirs");
    watcher.next();
    ours.close(LIMIT).unwrap();
    for contender in [&mut leading, &mut waiting] {
        let closed = contender.expect_closed();
        assert_eq!(closed.reason, Code::Ok);
    }
    watcher.expect_closed();
    assert_eq!((e.keys("ours").len(), e.keys("theirs").len()), (1, 1));
    heir.expect(State::Leader);
    theirs_leading.expect_nothing();
    assert!(theirs_leading.campaign.is_leader());
    theirs_leading.resign();
}

fn closing_ends_the_lease(e: &Electorate) {
    let service = e.open();
    let _leader = Contender::lead(&service, "lease");
    let lease = e.leases("lease").remove(0);
    assert!(e.server.etcdctl(&["lease", "list"]).contains(&lease));
    service.close(LIMIT).unwrap();
    assert!(!e.server.etcdctl(&["lease", "list"]).contains(&lease));
    e.assert_no_keys();
}

/// Fault 34.
fn closing_again_and_from_many_threads_is_fine(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::lead(&service, "close");
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| service.close(LIMIT).unwrap());
        }
    });
    leader.expect_closed();
    service.close(LIMIT).unwrap();
    e.assert_no_keys();
}

fn a_closed_service_takes_nothing_new(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::lead(&service, "closed");
    service.close(LIMIT).unwrap();
    leader.expect_closed();
    let options = tenure::CampaignOptions::new();
    assert_eq!(Contender::try_stand(&service, "closed", &options).err().unwrap().code(), Code::Closed);
    assert_eq!(service.observe("closed", None).err().unwrap().code(), Code::Closed);
    assert_eq!(service.leader("closed", LIMIT).unwrap_err().code(), Code::Closed);
    assert_eq!(service.candidates("closed", LIMIT).unwrap_err().code(), Code::Closed);
    assert_eq!(leader.campaign.proclaim(b"late", LIMIT).unwrap_err().code(), Code::NotLeader);
}

fn a_dropped_campaign_withdraws(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let leader = Contender::lead(&one, "dropped");
    let mut heir = Contender::queue(&other, "dropped");
    drop(leader);
    heir.expect(State::Leader);
    assert_eq!(e.keys("dropped").len(), 1);
}

fn a_dropped_service_withdraws_everything(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let mut leader = Contender::lead(&one, "dropped");
    let mut watcher = Watcher::observe(&one, "dropped");
    watcher.next();
    let mut heir = Contender::queue(&other, "dropped");
    drop(one);
    assert!(!leader.campaign.is_leader());
    leader.expect_closed();
    watcher.expect_closed();
    heir.expect(State::Leader);
}

/// Fault 34.
fn closing_while_joining_leaves_nothing(e: &Electorate) {
    for _ in 0..10 {
        let service = e.open();
        let mut hasty: Vec<_> = (0..10).map(|i| Contender::stand(&service, &format!("hasty-{i}"))).collect();
        service.close(LIMIT).unwrap();
        for contender in &mut hasty {
            let mut last = contender.next();
            while last.state != State::Closed {
                last = contender.next();
            }
            contender.expect_end();
        }
    }
    e.assert_no_keys();
}

fn waiting_for_leadership_ends_with_the_campaign(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let _leader = Contender::lead(&one, "wait");
    let follower = Contender::queue(&other, "wait");
    let short = std::time::Duration::from_millis(50);
    assert_eq!(follower.campaign.wait_leader(short).unwrap_err().code(), Code::Timeout);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| follower.campaign.wait_leader(LIMIT));
        follower.campaign.resign(LIMIT).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap_err().code(), Code::Closed);
    });
    wait_until("one key is left", || e.keys("wait").len() == 1);
}
