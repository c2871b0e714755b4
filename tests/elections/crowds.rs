//! A thousand campaigns of one service: joining, handing over, leaving, and the leases that they share.

use std::collections::BTreeMap;

use tenure::{Code, Service, State};

use crate::support::electorate::{Contender, Electorate, LIMIT, keys, wait_until};

on_each_version! {
    a_thousand_candidates_lead_on_one_lease_and_leave
    a_thousand_followers_take_over_when_their_leaders_close
    the_thousand_and_first_candidate_takes_a_second_lease
    a_thousand_terms_end_with_their_lease
    a_crowd_that_resigns_one_by_one_leaves_nothing
}

const CROWD: usize = 1000;

fn stand(service: &Service, count: usize) -> Vec<Contender> {
    (0..count).map(|i| Contender::stand(service, &format!("crowd-{i}"))).collect()
}

/// How many keys each lease holds.
fn keys_by_lease(e: &Electorate) -> BTreeMap<String, usize> {
    let mut leases = BTreeMap::new();
    for key in keys(e.server, &format!("_ld/{}/", e.service)) {
        *leases.entry(key.rsplit('/').next().unwrap().to_owned()).or_default() += 1;
    }
    leases
}

fn a_thousand_candidates_lead_on_one_lease_and_leave(e: &Electorate) {
    let service = e.open();
    let mut crowd = stand(&service, CROWD);
    for leader in &mut crowd {
        assert_eq!(leader.wait_elected().sequence, 2);
    }
    assert_eq!(keys_by_lease(e).values().copied().collect::<Vec<_>>(), [CROWD]);
    // Word of a deleted key comes by the watch that they share.
    e.delete(&e.keys("crowd-777")[0]);
    crowd[777].expect_loss(Code::KeyDeleted);
    crowd[777].expect_closed();
    assert_eq!(crowd.iter().filter(|leader| leader.campaign.is_leader()).count(), CROWD - 1);
    let lease = keys_by_lease(e).keys().next().unwrap().clone();
    service.close(LIMIT).unwrap();
    e.assert_no_keys();
    assert!(!e.server.etcdctl(&["lease", "list"]).contains(&lease));
    crowd.remove(777);
    for leader in &mut crowd {
        assert_eq!(leader.expect_closed().sequence, 3);
    }
}

fn a_thousand_followers_take_over_when_their_leaders_close(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let mut leaders = stand(&one, CROWD);
    leaders.iter_mut().for_each(|leader| drop(leader.wait_elected()));
    let mut heirs = stand(&other, CROWD);
    wait_until("all stand", || keys(e.server, &format!("_ld/{}/", e.service)).len() == 2 * CROWD);
    for heir in &mut heirs {
        heir.expect(State::Follower);
        heir.expect_nothing();
    }
    one.close(LIMIT).unwrap();
    for heir in &mut heirs {
        assert_eq!(heir.expect(State::Leader).sequence, 2);
    }
    leaders.iter_mut().for_each(|leader| drop(leader.expect_closed()));
    assert!(heirs.iter().all(|heir| heir.campaign.is_leader()));
    other.close(LIMIT).unwrap();
    e.assert_no_keys();
}

fn the_thousand_and_first_candidate_takes_a_second_lease(e: &Electorate) {
    let service = e.open();
    let mut crowd = stand(&service, CROWD + 5);
    crowd.iter_mut().for_each(|leader| drop(leader.wait_elected()));
    let mut counts: Vec<_> = keys_by_lease(e).into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [5, CROWD]);
    service.close(LIMIT).unwrap();
    e.assert_no_keys();
}

fn a_thousand_terms_end_with_their_lease(e: &Electorate) {
    let service = e.open();
    let mut crowd = stand(&service, CROWD);
    crowd.iter_mut().for_each(|leader| drop(leader.wait_elected()));
    e.revoke(keys_by_lease(e).keys().next().unwrap());
    for leader in &mut crowd {
        leader.expect_loss(Code::LeaseRevoked);
        leader.expect_closed();
    }
    Contender::lead(&service, "crowd-0").resign();
}

fn a_crowd_that_resigns_one_by_one_leaves_nothing(e: &Electorate) {
    let service = e.open();
    let mut crowd = stand(&service, 200);
    crowd.iter_mut().for_each(|leader| drop(leader.wait_elected()));
    for leader in &mut crowd {
        leader.resign();
    }
    e.assert_no_keys();
}
