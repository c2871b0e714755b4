//! Tokens that end while their user waits: by time, and (signed ones) by any change of users.

use std::thread;

use rcgen::KeyPair;
use tenure::{Service, State};

use crate::stage::{BASE, Candidate, LIMIT, Rival, follow, lead, log, on_each_version, open};
use crate::support::{Builder, Folder, Server, Version};

const TOKEN_SECONDS: u32 = 3;
/// Long enough for the token to end several times over.
const RIVAL_SECONDS: u32 = 10;
/// So many elections share one watch.
const MANY: usize = 40;

fn start(builder: Builder) -> Server {
    let server = builder.argument("--bcrypt-cost=4").start();
    server.add_user("ann", "open-sesame");
    server.allow("ann", "readwrite", BASE);
    server.enable_auth();
    server
}

fn open_as_ann(server: &Server) -> Service {
    open(&[
        ("endpoints", &server.endpoint()),
        ("username", "ann"),
        ("password", "open-sesame"),
        ("ttl", "5s"),
        ("log_level", "info"),
    ])
}

/// A server with signed tokens, and the folder that its keys are in.
fn start_signed(version: Version) -> (Server, Folder) {
    let (folder, key) = (Folder::new(), KeyPair::generate().unwrap());
    let (public, private) = (folder.path().join("public.pem"), folder.path().join("private.pem"));
    std::fs::write(&public, key.public_key_pem()).unwrap();
    std::fs::write(&private, key.serialize_pem()).unwrap();
    let (public, private) = (public.display(), private.display());
    let argument =
        format!("--auth-token=jwt,pub-key={public},priv-key={private},sign-method=ES256,ttl={TOKEN_SECONDS}s");
    (start(Server::builder().version(version).argument(argument)), folder)
}

/// The follower's token ends while it waits. It wins when the leader dies; then every kind of request still works, and
/// so do watches, one of its own and the shared one of many elections, on the stream that the old token opened.
fn a_follower_outlives_its_token(server: &Server) {
    let service = open_as_ann(server);
    let _rival = Rival::stand(server, "waiting", RIVAL_SECONDS);
    let follower = follow(&service, "waiting");
    follower.expect(State::Leader);
    let lines = log(&service);
    let stand = |number| Candidate::stand(&service, &format!("many-{number}"), &[]);
    for candidate in (0..MANY).map(stand).collect::<Vec<_>>() {
        candidate.expect(State::Follower);
        candidate.expect(State::Leader);
    }
    follower.campaign.proclaim(b"mine", LIMIT).unwrap();
    let rival = Rival::stand(server, "second", 60);
    let second = follow(&service, "second");
    rival.die();
    second.expect(State::Leader);
    second.campaign.resign(LIMIT).unwrap();
    follower.campaign.resign(LIMIT).unwrap();
    service.close(LIMIT).unwrap();
    // A token that is refused must not be taken for a lack of permission on the service's prefix.
    assert!(!lines.iter().any(|line| line.contains("one per election instead")));
}

/// Fault 24.
#[test]
fn a_follower_that_waits_longer_than_its_token_lives_wins_without_an_error() {
    on_each_version(|version| {
        thread::scope(|scope| {
            scope.spawn(|| a_follower_outlives_its_token(&start_signed(version).0));
            let server = Server::builder().version(version).token_ttl_s(TOKEN_SECONDS);
            scope.spawn(|| a_follower_outlives_its_token(&start(server)));
        });
    });
}

#[test]
fn a_change_of_users_makes_signed_tokens_old_but_ends_no_campaign() {
    on_each_version(|version| {
        let (server, _folder) = start_signed(version);
        let service = open_as_ann(&server);
        let leader = lead(&service, "leading", &[]);
        for number in 0..4 {
            let election = format!("following-{number}");
            let rival = Rival::stand(&server, &election, 60);
            server.add_user(&format!("user-{number}"), "x");
            let follower = follow(&service, &election);
            server.etcdctl(&["user", "delete", &format!("user-{number}")]);
            leader.campaign.proclaim(election.as_bytes(), LIMIT).unwrap();
            rival.die();
            follower.expect(State::Leader);
        }
        leader.expect_silence();
        assert!(leader.campaign.is_leader());
        service.close(LIMIT).unwrap();
    });
}
