//! Losses that somebody else brings about: the lease revoked, the key deleted or put anew, while leading and waiting.

use tenure::{Code, State};

use crate::support::electorate::{Contender, Electorate, LIMIT};

on_each_version! {
    a_leader_whose_lease_is_revoked_hears_of_it
    a_candidate_whose_lease_is_revoked_while_waiting_hears_of_it
    a_leader_that_rejoins_after_a_revocation_stands_with_a_new_lease
    a_candidate_that_rejoins_after_a_revocation_waits_again
    a_revocation_ends_all_candidacies_of_the_lease
    a_leader_whose_key_is_deleted_hears_of_it
    a_leader_that_rejoins_after_a_deletion_goes_to_the_end_of_the_queue
    a_candidate_whose_key_is_deleted_while_waiting_hears_of_it
    a_deleted_key_does_not_touch_the_other_elections_of_its_lease
    a_key_put_anew_on_another_lease_ends_the_term
    a_key_put_over_without_a_lease_ends_the_term
    a_key_deleted_and_put_anew_on_its_own_lease_ends_the_term
    a_value_changed_by_somebody_else_ends_nothing
    a_resignation_after_a_loss_is_fine
    whoever_rejoins_can_be_resigned_for_good
}

/// Fault 2.
fn a_leader_whose_lease_is_revoked_hears_of_it(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let mut leader = Contender::lead(&one, "revoked");
    let mut heir = Contender::queue(&other, "revoked");
    e.revoke(&e.leases("revoked")[0]);
    let lost = leader.expect_loss(Code::LeaseRevoked);
    assert!(!leader.campaign.is_leader());
    assert_eq!(lost.sequence, 3);
    assert_eq!(leader.expect_closed().reason, Code::LeaseRevoked);
    heir.expect(State::Leader);
    // The service is as good as new.
    let mut again = Contender::queue(&one, "revoked");
    heir.resign();
    again.expect(State::Leader);
}

/// Fault 1.
fn a_candidate_whose_lease_is_revoked_while_waiting_hears_of_it(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let mut leader = Contender::lead(&one, "revoked");
    let mut waiting = Contender::queue(&other, "revoked");
    e.revoke(&e.leases("revoked")[1]);
    waiting.expect_loss(Code::LeaseRevoked);
    waiting.expect_closed();
    leader.expect_nothing();
    leader.resign();
    waiting.expect_end();
    e.assert_no_keys();
}

fn a_leader_that_rejoins_after_a_revocation_stands_with_a_new_lease(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::stand_with(&service, "rejoin", &[("rejoin", "true")]);
    let first = leader.wait_elected();
    let lease = e.leases("rejoin").remove(0);
    e.revoke(&lease);
    leader.expect_loss(Code::LeaseRevoked);
    let second = leader.wait_elected();
    assert!(second.token > first.token);
    assert_ne!(e.leases("rejoin"), [lease]);
    leader.resign();
}

/// Fault 1.
fn a_candidate_that_rejoins_after_a_revocation_waits_again(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let mut leader = Contender::lead(&one, "rejoin");
    let mut waiting = Contender::queue_with(&other, "rejoin", &[("rejoin", "true")]);
    let lease = e.leases("rejoin").remove(1);
    e.revoke(&lease);
    waiting.expect_loss(Code::LeaseRevoked);
    waiting.expect(State::Follower);
    leader.resign();
    waiting.expect(State::Leader);
    assert_ne!(e.leases("rejoin"), [lease]);
}

/// Fault 26.
fn a_revocation_ends_all_candidacies_of_the_lease(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let _theirs = Contender::lead(&other, "b");
    let mut leading = Contender::lead(&one, "a");
    let mut waiting = Contender::queue(&one, "b");
    e.revoke(&e.leases("a")[0]);
    for contender in [&mut leading, &mut waiting] {
        contender.expect_loss(Code::LeaseRevoked);
        contender.expect_closed();
    }
    assert_eq!(e.keys("b").len(), 1);
}

/// Fault 2.
fn a_leader_whose_key_is_deleted_hears_of_it(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let mut leader = Contender::lead(&one, "deleted");
    let mut heir = Contender::queue(&other, "deleted");
    e.delete(&e.keys("deleted")[0]);
    leader.expect_loss(Code::KeyDeleted);
    assert!(!leader.campaign.is_leader());
    assert_eq!(leader.expect_closed().reason, Code::KeyDeleted);
    heir.expect(State::Leader);
    assert_eq!(e.keys("deleted").len(), 1);
}

fn a_leader_that_rejoins_after_a_deletion_goes_to_the_end_of_the_queue(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let mut leader = Contender::stand_with(&one, "deleted", &[("rejoin", "true")]);
    let first = leader.wait_elected();
    let mut heir = Contender::queue(&other, "deleted");
    e.delete(&e.keys("deleted")[0]);
    leader.expect_loss(Code::KeyDeleted);
    leader.expect(State::Follower);
    heir.expect(State::Leader);
    heir.resign();
    assert!(leader.expect(State::Leader).token > first.token);
}

fn a_candidate_whose_key_is_deleted_while_waiting_hears_of_it(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let mut leader = Contender::lead(&one, "deleted");
    let mut waiting = Contender::queue(&other, "deleted");
    e.delete(&e.keys("deleted")[1]);
    waiting.expect_loss(Code::KeyDeleted);
    waiting.expect_closed();
    leader.resign();
    waiting.expect_end();
}

fn a_deleted_key_does_not_touch_the_other_elections_of_its_lease(e: &Electorate) {
    let service = e.open();
    let mut one = Contender::lead(&service, "one");
    let mut other = Contender::lead(&service, "other");
    e.delete(&e.keys("one")[0]);
    one.expect_loss(Code::KeyDeleted);
    one.expect_closed();
    assert!(other.campaign.is_leader());
    other.resign();
}

/// Fault 3.
fn a_key_put_anew_on_another_lease_ends_the_term(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::lead(&service, "taken");
    let key = e.keys("taken").remove(0);
    let granted = e.server.etcdctl(&["lease", "grant", "600"]);
    let lease = granted.split(' ').nth(1).unwrap();
    e.server.etcdctl(&["put", &format!("--lease={lease}"), &key, "mine"]);
    leader.expect_loss(Code::KeyDeleted);
    assert!(!leader.campaign.is_leader());
    e.revoke(lease);
    leader.expect_closed();
}

fn a_key_put_over_without_a_lease_ends_the_term(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::lead(&service, "taken");
    let key = e.keys("taken").remove(0);
    e.put(&key, "mine");
    leader.expect_loss(Code::KeyDeleted);
    leader.expect_closed();
    assert!(!leader.campaign.is_leader());
}

fn a_key_deleted_and_put_anew_on_its_own_lease_ends_the_term(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let mut leader = Contender::lead(&one, "anew");
    let mut heir = Contender::queue(&other, "anew");
    let (key, lease) = (e.keys("anew").remove(0), e.leases("anew").remove(0));
    e.delete(&key);
    e.server.etcdctl(&["put", &format!("--lease={lease}"), &key, "mine"]);
    leader.expect_loss(Code::KeyDeleted);
    leader.expect_closed();
    heir.expect(State::Leader);
}

fn a_value_changed_by_somebody_else_ends_nothing(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::lead(&service, "value");
    let token = leader.campaign.token();
    e.server.etcdctl(&["put", "--ignore-lease", &e.keys("value")[0], "changed"]);
    assert_eq!(&*service.leader("value", LIMIT).unwrap().value, b"changed");
    leader.expect_nothing();
    assert!(leader.campaign.is_leader() && leader.campaign.token() == token);
    leader.resign();
    e.assert_no_keys();
}

fn a_resignation_after_a_loss_is_fine(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::lead(&service, "late");
    e.revoke(&e.leases("late")[0]);
    leader.expect_loss(Code::LeaseRevoked);
    leader.campaign.resign(LIMIT).unwrap();
    leader.expect_closed();
    e.assert_no_keys();
}

fn whoever_rejoins_can_be_resigned_for_good(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::stand_with(&service, "for-good", &[("rejoin", "true")]);
    leader.wait_elected();
    e.revoke(&e.leases("for-good")[0]);
    leader.expect_loss(Code::LeaseRevoked);
    leader.campaign.resign(LIMIT).unwrap();
    // It may have stood again by then, and even have led.
    let mut last = leader.next();
    while last.state != State::Closed {
        assert!(matches!(last.state, State::Follower | State::Leader), "{last:?}");
        last = leader.next();
    }
    leader.expect_end();
    e.assert_no_keys();
}
