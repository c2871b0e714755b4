//! The only server fails: it is restarted, loses its data, is replaced by another one, or has no more room.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use tenure::{Code, State};

use crate::candidate::{Candidate, LIMIT, NOBODY, PREFIX, eventually, options, queue, renewed, revision};
use crate::guard::Ledger;
use crate::isolated::{is_within, run};
use crate::stage::{Stage, record};
use crate::support::electorate::keys;
use crate::support::program::boottime_ns;
use crate::support::{Folder, Server};

const REJOIN: &[(&str, &str)] = &[("rejoin", "true")];

/// Fault 22.
#[test]
fn a_leader_leads_on_when_etcd_is_killed_and_restarted_within_its_lease() {
    let server = Stage::solo();
    let leader = Candidate::lead(&server.endpoint(), 10);
    let follower = Candidate::stand(&server.endpoint(), 10);
    eventually("two candidates", || queue(&server).len() == 2);
    let token = leader.campaign.token();
    server.kill();
    server.restart();
    renewed(&leader);
    assert_eq!(leader.campaign.token(), token);
    leader.assert_silent();
    follower.assert_silent();
    leader.campaign.resign(LIMIT).unwrap();
    assert!(follower.next(State::Leader).status.token > token);
}

/// Fault 3: somebody deletes the leader's key and puts it anew, on a lease of their own.
#[test]
fn a_key_that_is_somebody_elses_now_guards_nothing_any_more() {
    let server = Stage::solo();
    record().allow_a_round_trip();
    let leader = Candidate::lead(&server.endpoint(), 10);
    let heir = Candidate::stand(&server.endpoint(), 10);
    eventually("two candidates", || queue(&server).len() == 2);
    let (key, token) = (keys(&server, PREFIX).remove(0), leader.campaign.token());
    let mut ledger = Ledger::at(&server.endpoint());
    assert!(ledger.write("by the leader", Some((&key, token))));
    let granted = server.etcdctl(&["lease", "grant", "600"]);
    let lease = granted.split(' ').nth(1).unwrap();
    server.etcdctl(&["del", &key]);
    server.etcdctl(&["put", &format!("--lease={lease}"), &key, "mine"]);
    assert!(!ledger.write("too late", Some((&key, token))));
    leader.next_loss(Code::KeyDeleted);
    assert_eq!((leader.campaign.is_leader(), leader.campaign.token()), (false, 0));
    leader.assert_closed();
    let led = heir.next(State::Leader).status.token;
    assert!(led > token);
    assert_eq!(ledger.read(), "by the leader");
    server.etcdctl(&["lease", "revoke", lease]);
}

/// All candidates are lost while the server fails, and one leads when it is back.
fn all_are_lost_and_one_leads_again(server: &Server, fail: impl FnOnce(&Server), back: impl FnOnce(&Server)) {
    let one = Candidate::stand_with(&options(&server.endpoint(), 2), REJOIN);
    let token = one.next(State::Leader).status.token;
    let other = Candidate::stand_with(&options(&server.endpoint(), 2), REJOIN);
    eventually("two candidates", || queue(server).len() == 2);
    fail(server);
    for candidate in [&one, &other] {
        candidate.next_loss(Code::SessionExpired);
        candidate.next(State::Follower);
    }
    back(server);
    eventually("a leader", || one.campaign.is_leader() || other.campaign.is_leader());
    let (first, second) = if one.campaign.is_leader() { (one, other) } else { (other, one) };
    let led = first.next(State::Leader);
    assert!(led.status.token > token);
    second.assert_silent();
    first.campaign.resign(LIMIT).unwrap();
    assert!(second.next(State::Leader).status.token > led.status.token);
}

/// Fault 22.
#[test]
fn all_are_lost_when_etcd_is_away_for_longer_than_the_lease_and_one_leads_when_it_is_back() {
    all_are_lost_and_one_leads_again(&Stage::solo(), Server::kill, Server::restart);
}

#[test]
fn all_are_lost_when_etcd_is_mute_for_longer_than_the_lease_and_one_leads_when_it_is_back() {
    all_are_lost_and_one_leads_again(&Stage::solo(), Server::stop, Server::cont);
}

/// Two clusters, of which the second one has the higher revision.
fn two_clusters() -> (Stage<Server>, Stage<Server>) {
    record().tokens_start_anew();
    let (old, new) = (Stage::solo(), Stage::solo());
    for value in ["a", "b", "c", "d", "e"] {
        new.etcdctl(&["put", "elsewhere", value]);
    }
    (old, new)
}

/// Fault 23.
#[test]
fn another_cluster_at_the_same_address_ends_every_candidacy() {
    let (old, new) = two_clusters();
    let proxy = record().proxy(&old);
    let candidate = Candidate::stand_with(&options(&proxy.endpoint(), 10), REJOIN);
    let led = candidate.next(State::Leader);
    proxy.redirect(&new);
    proxy.cut();
    candidate.next_loss(Code::ClusterChanged);
    candidate.next(State::Follower);
    let again = candidate.next(State::Leader);
    assert_ne!(again.status.cluster_id, led.status.cluster_id);
    assert_eq!(queue(&new), [again.status.token]);
}

/// Fault 23.
#[test]
fn a_follower_hears_of_another_cluster_as_well() {
    let (old, new) = two_clusters();
    let proxy = record().proxy(&old);
    let leader = Candidate::lead(&old.endpoint(), 10);
    let follower = Candidate::stand(&proxy.endpoint(), 10);
    eventually("two candidates", || queue(&old).len() == 2);
    proxy.redirect(&new);
    proxy.cut();
    follower.next_loss(Code::ClusterChanged);
    follower.assert_closed();
    assert_eq!(queue(&new), NOBODY);
    leader.assert_silent();
}

/// Fault 23: with the short lease a renewal comes first, whose answer doesn't tell which cluster it is from.
#[test]
fn a_renewal_that_meets_another_cluster_tells_so() {
    for _ in 0..3 {
        let (old, new) = two_clusters();
        let proxy = record().proxy(&old);
        let candidate = Candidate::lead(&proxy.endpoint(), 2);
        proxy.redirect(&new);
        proxy.cut();
        candidate.next_loss(Code::ClusterChanged);
    }
}

#[test]
fn a_resignation_that_the_end_of_its_service_overtakes_is_confirmed() {
    let server = Stage::solo();
    for _ in 0..10 {
        let candidate = Candidate::lead(&server.endpoint(), 10);
        server.stop();
        assert_eq!(candidate.service.close(Duration::from_millis(10)).unwrap_err().code(), Code::Pending);
        std::thread::scope(|scope| {
            let resign = || scope.spawn(|| candidate.campaign.resign(LIMIT));
            let resigned: Vec<_> = (0..8).map(|_| resign()).collect();
            server.cont();
            for resigned in resigned {
                resigned.join().unwrap().unwrap();
            }
        });
        assert_eq!(queue(&server), NOBODY);
    }
}

/// Fault 23.
#[test]
fn a_store_that_has_lost_its_data_ends_every_candidacy() {
    let server = Stage::solo();
    for value in ["a", "b", "c"] {
        server.etcdctl(&["put", "elsewhere", value]);
    }
    let candidate = Candidate::lead(&server.endpoint(), 30);
    record().tokens_start_anew();
    server.restart_empty();
    candidate.next_loss(Code::ClusterChanged);
    assert!(!candidate.campaign.is_leader());
    candidate.assert_closed();
}

/// Fault 37.
#[test]
fn a_full_store_keeps_its_leader_and_takes_no_candidate_until_there_is_room() {
    let server = Stage::new(Server::builder().quota_bytes(4 << 20).start());
    let leader = Candidate::lead(&server.endpoint(), 5);
    let big = "x".repeat(100_000);
    eventually("the alarm", || !server.try_etcdctl(&["put", "elsewhere", &big]).status.success());
    assert!(server.etcdctl(&["alarm", "list"]).contains("NOSPACE"));
    let refused = Candidate::stand(&server.endpoint(), 2);
    refused.next_loss(Code::NoSpace);
    refused.assert_closed();
    let waiting = Candidate::stand_with(&options(&server.endpoint(), 2), REJOIN);
    waiting.next_loss(Code::NoSpace);
    let end = boottime_ns() + 5_000_000_000;
    eventually("a lease's time", || boottime_ns() > end);
    assert!(leader.campaign.is_leader());
    leader.assert_silent();
    leader.campaign.resign(LIMIT).unwrap();
    assert_eq!(queue(&server), NOBODY);
    make_room(&server);
    eventually("a leader", || waiting.campaign.is_leader());
}

/// Fault 37: the disk is full, which etcd does not survive. For candidates that is an etcd that is away.
#[test]
fn all_are_lost_when_etcd_dies_of_a_full_disk_and_one_leads_when_there_is_room_again() {
    if !is_within("server::all_are_lost_when_etcd_dies_of_a_full_disk_and_one_leads_when_there_is_room_again") {
        return;
    }
    let disk = Folder::new();
    let path = disk.path().to_str().unwrap();
    run(&["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", path]);
    let server = Stage::new(Server::builder().data(disk.path().join("data")).start());
    let filler = disk.path().join("filler");
    let fill = |server: &Server| {
        let mut file = File::create(&filler).unwrap();
        while file.write_all(&[1; 1 << 16]).is_ok() {}
        let big = "x".repeat(120_000);
        eventually("etcd is dead", || {
            server.try_etcdctl(&["put", "elsewhere", &big, "--command-timeout=1s"]);
            server.has_ended()
        });
        assert!(server.log().contains("no space left on device"));
    };
    all_are_lost_and_one_leads_again(&server, fill, |server| {
        std::fs::remove_file(&filler).unwrap();
        server.restart();
    });
}

fn make_room(server: &Server) {
    server.etcdctl(&["del", "elsewhere"]);
    server.etcdctl(&["compaction", "--physical", &revision(server).to_string()]);
    server.etcdctl(&["defrag"]);
    server.etcdctl(&["alarm", "disarm"]);
}
