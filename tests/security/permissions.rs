//! What a user may not do: told at once and by name, and never a reason for a ghost leader.

use tenure::{Code, Service, State};

use crate::stage::{BASE, Candidate, LIMIT, Onlooker, Rival};
use crate::stage::{assert_says, follow, lead, on_each_version, open, wait_for_candidates, wait_for_no_keys};
use crate::support::{Server, Version};

fn server(version: Version) -> Server {
    let server = Server::builder().version(version).argument("--bcrypt-cost=4").start();
    server.add_user("ann", "open-sesame");
    server.enable_auth();
    server
}

fn open_as_ann(server: &Server, ttl: &str) -> Service {
    open(&[("endpoints", &server.endpoint()), ("username", "ann"), ("password", "open-sesame"), ("ttl", ttl)])
}

#[test]
fn a_user_without_permission_is_told_so_everywhere() {
    on_each_version(|version| {
        let server = server(version);
        server.allow("ann", "readwrite", "_ld/other/");
        let service = open_as_ann(&server, "10s");
        let candidate = Candidate::stand(&service, "closed", &[]);
        candidate.expect(State::Follower);
        let loss = candidate.expect_loss(Code::PermissionDenied);
        assert!(loss.message.contains(&server.endpoint()), "{loss:?}");
        assert_eq!(candidate.expect(State::Closed).reason, Code::PermissionDenied);
        let onlooker = Onlooker::observe(&service, "closed");
        let seen = onlooker.until(|seen| seen.reason == Code::PermissionDenied);
        assert!(!seen.connected && !seen.closed, "{seen:?}");
        assert_says(&service.leader("closed", LIMIT).unwrap_err(), Code::PermissionDenied, &[&server.endpoint()]);
        assert_says(&service.candidates("closed", LIMIT).unwrap_err(), Code::PermissionDenied, &[&server.endpoint()]);
        service.close(LIMIT).unwrap();
    });
}

#[test]
fn a_user_that_may_only_read_looks_on_and_cannot_stand() {
    let server = server(Version::default());
    server.allow("ann", "read", BASE);
    let service = open_as_ann(&server, "10s");
    let onlooker = Onlooker::observe(&service, "open");
    onlooker.until(|seen| seen.connected && seen.leader.is_none());
    let _rival = Rival::stand(&server, "open", 60);
    onlooker.until(|seen| seen.leader.as_ref().is_some_and(|leader| *leader.value == *b"rival"));
    let candidate = Candidate::stand(&service, "open", &[]);
    candidate.expect(State::Follower);
    candidate.expect_loss(Code::PermissionDenied);
    candidate.expect(State::Closed);
    wait_for_candidates(&service, "open", 1);
}

#[test]
fn an_observer_is_told_when_it_may_not_look_and_when_it_may_again() {
    let server = server(Version::default());
    let service = open_as_ann(&server, "10s");
    let onlooker = Onlooker::observe(&service, "veiled");
    onlooker.until(|seen| !seen.connected && seen.reason == Code::PermissionDenied);
    server.allow("ann", "read", BASE);
    onlooker.until(|seen| seen.connected && seen.reason == Code::Ok);
}

#[test]
fn a_leader_whose_permission_is_taken_away_leaves_no_ghost() {
    on_each_version(|version| {
        let server = server(version);
        server.allow("ann", "readwrite", BASE);
        let service = open_as_ann(&server, "5s");
        let (leader, other) = (lead(&service, "taken", &[]), lead(&service, "other", &[]));
        server.forbid("ann", BASE);
        let error = leader.campaign.proclaim(b"mine", LIMIT).unwrap_err();
        assert_says(&error, Code::PermissionDenied, &[&server.endpoint()]);
        // It may neither delete its key nor end its lease: it waits until etcd has ended that.
        leader.campaign.resign(LIMIT).unwrap();
        assert!(!leader.campaign.is_leader());
        leader.expect(State::Follower);
        leader.expect(State::Closed);
        // Their lease was the same.
        other.expect_loss(Code::PermissionDenied);
        other.expect(State::Closed);
        wait_for_no_keys(&server);
    });
}

#[test]
fn a_candidate_that_rejoins_leads_when_permission_is_given_back() {
    let server = server(Version::default());
    server.allow("ann", "readwrite", BASE);
    let service = open_as_ann(&server, "10s");
    let leader = lead(&service, "given", &[("rejoin", "true")]);
    let token = leader.campaign.token();
    server.forbid("ann", BASE);
    server.etcdctl(&["del", "--prefix", BASE]);
    leader.expect_loss(Code::KeyDeleted);
    for _ in 0..2 {
        leader.expect(State::Follower);
        leader.expect_loss(Code::PermissionDenied);
    }
    server.allow("ann", "readwrite", BASE);
    assert!(leader.until(State::Leader).token > token);
}

/// A candidate that can't see the queue would never learn that it is its turn, and hold up all behind it.
#[test]
fn a_follower_that_may_not_look_any_more_leaves_the_queue() {
    on_each_version(|version| {
        let server = server(version);
        server.allow("ann", "readwrite", BASE);
        let service = open_as_ann(&server, "60s");
        let rival = Rival::stand(&server, "blind", 600);
        let follower = Candidate::stand(&service, "blind", &[("rejoin", "true")]);
        follower.expect(State::Follower);
        wait_for_candidates(&service, "blind", 2);
        server.forbid("ann", BASE);
        server.restart();
        follower.expect_loss(Code::PermissionDenied);
        rival.die();
        // Now its key can be deleted, and it stands anew.
        server.allow("ann", "readwrite", BASE);
        follower.until(State::Leader);
    });
}

/// So many elections share one watch on the service's prefix, where that is allowed.
const MANY: usize = 40;

#[test]
fn permission_on_some_elections_is_enough_for_these() {
    on_each_version(|version| {
        let server = server(version);
        server.allow("ann", "readwrite", &format!("{BASE}mine-"));
        server.allow("ann", "readwrite", &format!("{BASE}exact/"));
        let service = open_as_ann(&server, "10s");
        let rival = Rival::stand(&server, "exact", 60);
        let follower = follow(&service, "exact");
        let stand = |number: usize| Candidate::stand(&service, &format!("mine-{number}"), &[]);
        let leaders: Vec<Candidate> = (0..MANY).map(stand).collect();
        for leader in &leaders {
            leader.expect(State::Follower);
            leader.expect(State::Leader);
        }
        rival.die();
        follower.expect(State::Leader);
        // The last ones could only be watched by the shared watch, and that was refused.
        let (last, others) = leaders.split_last().unwrap();
        server.etcdctl(&["del", "--prefix", &format!("{BASE}{}/", last.campaign.election())]);
        last.expect_loss(Code::KeyDeleted);
        for other in others {
            other.expect_silence();
            assert!(other.campaign.is_leader());
        }
        service.close(LIMIT).unwrap();
    });
}

/// Up to 3.5 etcd doesn't look at permissions inside nested transactions.
#[test]
fn what_is_forbidden_spoils_nothing_that_travels_with_it() {
    for version in [Version::V36, Version::V37] {
        let server = server(version);
        server.allow("ann", "readwrite", &format!("{BASE}mine-"));
        let service = open_as_ann(&server, "10s");
        let stand = |number: usize| {
            let name = if number % 10 == 5 { "theirs" } else { "mine" };
            Candidate::stand(&service, &format!("{name}-{number}"), &[])
        };
        for (number, candidate) in (0..MANY).map(stand).collect::<Vec<_>>().iter().enumerate() {
            candidate.expect(State::Follower);
            if number % 10 == 5 {
                candidate.expect_loss(Code::PermissionDenied);
            } else {
                candidate.expect(State::Leader);
            }
        }
    }
}
