//! User names and passwords: right, wrong, changed, missing; and that no password is ever shown.

use std::time::{Duration, Instant};

use tenure::{Code, State};

use crate::stage::{BASE, Candidate, LIMIT, Onlooker, Rival, Settings, log, wait_for_line, wait_for_no_keys};
use crate::stage::{assert_says, follow, hold_elections, lead, on_each_version, open, options, refused};
use crate::support::{Server, Version};

const PASSWORD: &str = "open-sesame-71";

/// A server that asks for a user; "ann" may use all elections here.
fn server(version: Version) -> Server {
    let server = Server::builder().version(version).argument("--bcrypt-cost=4").start();
    server.add_user("ann", PASSWORD);
    server.allow("ann", "readwrite", BASE);
    server.enable_auth();
    server
}

fn ann<'a>(endpoint: &'a str, password: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("endpoints", endpoint), ("username", "ann"), ("password", password)]
}

#[test]
fn elections_are_held_with_a_user_on_each_version() {
    on_each_version(|version| {
        let server = server(version);
        hold_elections(&server, &ann(&server.endpoint(), PASSWORD));
    });
}

#[test]
fn a_user_that_the_server_does_not_ask_for_is_no_error() {
    let server = Server::builder().start();
    hold_elections(&server, &ann(&server.endpoint(), PASSWORD));
}

/// Fault 24.
#[test]
fn wrong_credentials_are_refused_at_once_and_once() {
    on_each_version(|version| {
        let server = server(version);
        let endpoint = server.endpoint();
        for (user, password) in [("ann", "wrong-guess"), ("nobody", PASSWORD)] {
            for offline in ["true", "false"] {
                let started = Instant::now();
                let settings: Settings = &[
                    ("endpoints", &endpoint),
                    ("username", user),
                    ("password", password),
                    ("open_offline", offline),
                    ("dial_timeout", "60s"),
                ];
                let error = refused(settings);
                assert_says(&error, Code::AuthenticationFailed, &[&endpoint, "invalid user ID or password"]);
                assert!(!error.message().contains(password), "{error}");
                assert!(!error.is_retriable());
                assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
            }
        }
    });
}

#[test]
fn a_missing_user_is_asked_for() {
    on_each_version(|version| {
        let server = server(version);
        for offline in ["true", "false"] {
            let error = refused(&[("endpoints", &server.endpoint()), ("open_offline", offline)]);
            assert_says(&error, Code::AuthenticationFailed, &[&server.endpoint(), "set username and password"]);
        }
    });
}

#[test]
fn a_follower_wins_although_its_password_was_changed_and_others_are_told() {
    on_each_version(|version| {
        let server = server(version);
        let service = open(&[&ann(&server.endpoint(), PASSWORD)[..], &[("ttl", "60s")]].concat());
        let rival = Rival::stand(&server, "changed", 600);
        let follower = follow(&service, "changed");
        // It has read the queue, which it couldn't any more.
        Onlooker::observe(&service, "changed").until(|seen| seen.connected && seen.leader.is_some());
        server.change_password("ann", "another-99");
        rival.die();
        follower.expect(State::Leader);
        let error = service.leader("changed", LIMIT).unwrap_err();
        assert_says(&error, Code::AuthenticationFailed, &[&server.endpoint()]);
        let late = Candidate::stand(&service, "late", &[]);
        late.expect(State::Follower);
        late.expect_loss(Code::AuthenticationFailed);
        late.expect(State::Closed);
        server.change_password("ann", PASSWORD);
        service.leader("changed", LIMIT).unwrap();
        follower.campaign.resign(LIMIT).unwrap();
    });
}

/// Since 3.6 renewing a lease needs a token that is accepted.
#[test]
fn a_leader_whose_password_was_changed_says_why_it_ended_and_leads_with_the_right_one() {
    let server = server(Version::V37);
    let service = open(&[&ann(&server.endpoint(), PASSWORD)[..], &[("ttl", "5s")]].concat());
    let leader = lead(&service, "changed", &[("rejoin", "true")]);
    server.change_password("ann", "another-99");
    let loss = leader.expect_loss(Code::SessionExpired);
    assert!(loss.message.contains("invalid user ID or password"), "{loss:?}");
    leader.expect(State::Follower);
    leader.expect_loss(Code::AuthenticationFailed);
    server.change_password("ann", PASSWORD);
    assert!(leader.until(State::Leader).token > loss.token);
}

#[test]
fn a_campaign_without_user_ends_loudly_when_users_are_asked_for() {
    on_each_version(|version| {
        let server = Server::builder().version(version).argument("--bcrypt-cost=4").start();
        let service = open(&[("endpoints", &server.endpoint()), ("ttl", "5s")]);
        let leader = lead(&service, "early", &[("rejoin", "true")]);
        server.enable_auth();
        let error = leader.campaign.proclaim(b"mine", LIMIT).unwrap_err();
        assert!(matches!(error.code(), Code::AuthenticationFailed | Code::NotLeader), "{error}");
        assert_says(&service.leader("early", LIMIT).unwrap_err(), Code::AuthenticationFailed, &["set username"]);
        // The key can't be deleted any more, but it ends with its lease.
        leader.campaign.resign(LIMIT).unwrap();
        assert!(!leader.campaign.is_leader());
        leader.until(State::Closed);
        wait_for_no_keys(&server);
    });
}

#[test]
fn an_observer_sees_again_when_its_password_is_right_again() {
    on_each_version(|version| {
        let server = server(version);
        let service = open(&[&ann(&server.endpoint(), PASSWORD)[..], &[("log_level", "warn")]].concat());
        let lines = log(&service);
        Onlooker::observe(&service, "one").until(|seen| seen.connected);
        server.change_password("ann", "another-99");
        let onlooker = Onlooker::observe(&service, "other");
        onlooker.until(|seen| !seen.connected && seen.reason == Code::AuthenticationFailed);
        // More often than a watch is tried with fresh tokens before that counts as a failure.
        for _ in 0..6 {
            wait_for_line(&lines, "the watch is opened again");
        }
        server.change_password("ann", PASSWORD);
        onlooker.until(|seen| seen.connected);
    });
}

#[test]
fn a_leader_is_not_disturbed_when_authentication_is_switched_off_and_on() {
    on_each_version(|version| {
        let server = server(version);
        let service = open(&ann(&server.endpoint(), PASSWORD));
        let leader = lead(&service, "switched", &[]);
        for _ in 0..2 {
            server.etcdctl(&["auth", "disable"]);
            leader.campaign.proclaim(b"without", LIMIT).unwrap();
            lead(&service, "switched-too", &[]).campaign.resign(LIMIT).unwrap();
            server.etcdctl(&["auth", "enable"]);
            leader.campaign.proclaim(b"with", LIMIT).unwrap();
        }
        leader.expect_silence();
        leader.campaign.resign(LIMIT).unwrap();
    });
}

#[test]
fn an_offline_service_learns_of_its_wrong_password_when_etcd_comes() {
    let server = server(Version::default());
    let endpoint = server.endpoint();
    server.kill();
    let mut settings = ann(&endpoint, "wrong-guess");
    settings.extend([("open_offline", "true"), ("dial_timeout", "500ms")]);
    let service = open(&settings);
    let candidate = Candidate::stand(&service, "late", &[]);
    candidate.expect(State::Follower);
    server.restart();
    candidate.expect_loss(Code::AuthenticationFailed);
    candidate.expect(State::Closed);
}

#[test]
fn a_password_is_never_shown() {
    let server = server(Version::default());
    let endpoint = server.endpoint();
    let mut settings = ann(&endpoint, PASSWORD);
    settings.extend([("log_level", "debug"), ("ttl", "10s")]);
    let mut shown = vec![format!("{:?}", options(&settings))];
    let service = open(&settings);
    let lines = log(&service);
    let leader = lead(&service, "secret", &[("rejoin", "true")]);
    server.change_password("ann", "another-99");
    shown.push(format!("{:?}", service.leader("secret", LIMIT).unwrap_err()));
    shown.push(format!("{:?}", refused(&settings)));
    server.etcdctl(&["del", "--prefix", BASE]);
    shown.push(format!("{:?}", leader.expect_loss(Code::KeyDeleted)));
    leader.expect(State::Follower);
    shown.push(format!("{:?}", leader.expect_loss(Code::AuthenticationFailed)));
    drop(leader);
    service.close(LIMIT).unwrap();
    let others = shown.len();
    shown.extend(lines);
    assert!(shown.len() > others, "nothing was logged");
    for text in shown {
        assert!(!text.contains("sesame"), "{text}");
    }
}
