//! The roles that SECURITY.md recommends: its commands are run as they are, are enough, and less isn't.

use tenure::{Code, Service, State};

use crate::stage::{BASE, Candidate, LIMIT, Onlooker};
use crate::stage::{assert_says, follow, lead, on_each_version, open, wait_for_candidates};
use crate::support::{Server, Version};

const PAGE: &str = include_str!("../../SECURITY.md");

const PASSWORD: &str = "open-sesame";

/// A server with the users and roles of the page.
fn server(version: Version) -> Server {
    let server = Server::builder().version(version).argument("--bcrypt-cost=4").start();
    for user in ["shop-worker", "shop-monitor"] {
        server.etcdctl(&["user", "add", &format!("{user}:{PASSWORD}")]);
    }
    let commands = PAGE.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(commands.lines().count() >= 6, "{commands}");
    for command in commands.lines() {
        let words: Vec<&str> = command.strip_prefix("etcdctl ").unwrap().split(' ').collect();
        server.etcdctl(&words);
    }
    server.enable_auth();
    server
}

fn open_as(server: &Server, user: &str, service: &str) -> Service {
    let endpoint = server.endpoint();
    open(&[("endpoints", &endpoint), ("username", user), ("password", PASSWORD), ("service", service), ("ttl", "10s")])
}

#[test]
fn the_recommended_roles_are_enough_and_no_more() {
    on_each_version(|version| {
        let server = server(version);
        let (worker, other) = (open_as(&server, "shop-worker", "shop"), open_as(&server, "shop-worker", "shop"));
        let monitor = open_as(&server, "shop-monitor", "shop");
        // Everything that there is to do, with more elections than have a watch each.
        let leader = lead(&worker, "one", &[]);
        let follower = follow(&other, "one");
        let onlooker = Onlooker::observe(&monitor, "one");
        onlooker.until(|seen| seen.leader.is_some());
        leader.campaign.proclaim(b"new", LIMIT).unwrap();
        assert_eq!(&*monitor.leader("one", LIMIT).unwrap().value, b"new");
        assert_eq!(monitor.candidates("one", LIMIT).unwrap().len(), 2);
        let many: Vec<Candidate> = (0..40).map(|number| lead(&worker, &format!("many-{number}"), &[])).collect();
        leader.campaign.resign(LIMIT).unwrap();
        let token = follower.expect(State::Leader).token;
        onlooker.until(|seen| seen.leader.as_ref().is_some_and(|leader| leader.token == token));
        drop(many);
        worker.close(LIMIT).unwrap();
        other.close(LIMIT).unwrap();

        // Who looks on can't stand, and nobody gets into the elections of others.
        for (user, service) in [("shop-monitor", "shop"), ("shop-worker", "shop2"), ("shop-monitor", "shop2")] {
            let service = open_as(&server, user, service);
            let candidate = Candidate::stand(&service, "two", &[]);
            candidate.expect(State::Follower);
            candidate.expect_loss(Code::PermissionDenied);
        }
        let elsewhere = open_as(&server, "shop-monitor", "shop2");
        assert_says(&elsewhere.leader("two", LIMIT).unwrap_err(), Code::PermissionDenied, &[]);
    });
}

/// Reading alone, writing alone, and a prefix that is too short of the service's.
#[test]
fn less_than_the_recommended_role_is_not_enough_to_stand() {
    on_each_version(|version| {
        let server = server(version);
        for (number, less) in
            [("read", BASE), ("write", BASE), ("readwrite", "_ld/shop/another/")].into_iter().enumerate()
        {
            let user = format!("user-{number}");
            server.add_user(&user, PASSWORD);
            server.allow(&user, less.0, less.1);
            let service = open_as(&server, &user, "shop");
            let candidate = Candidate::stand(&service, "one", &[]);
            candidate.expect(State::Follower);
            let loss = candidate.expect_loss(Code::PermissionDenied);
            assert!(loss.message.contains(&server.endpoint()), "{loss:?}");
            candidate.expect(State::Closed);
            drop(service);
        }
        let worker = open_as(&server, "shop-worker", "shop");
        wait_for_candidates(&worker, "one", 0);
    });
}
