//! The tests' own tools: each is used once, so that a failure elsewhere is not theirs.

mod support;

use support::{Server, Version};

#[test]
fn a_server_of_each_version_starts_and_keeps_its_data_over_a_restart() {
    for version in Version::ALL {
        let server = Server::start(version);
        server.etcdctl(&["put", "key", "value"]);
        server.kill();
        server.restart();
        assert_eq!(server.etcdctl(&["get", "--print-value-only", "key"]), "value\n", "{version:?}");
    }
}

#[test]
fn a_stopped_server_is_mute_until_it_goes_on() {
    let server = Server::start(Version::default());
    server.stop();
    let mute = server.try_etcdctl(&["get", "key", "--command-timeout=300ms"]);
    assert!(!mute.status.success());
    server.cont();
    server.etcdctl(&["get", "key"]);
}

#[test]
fn two_servers_run_side_by_side() {
    let (one, other) = (Server::start(Version::default()), Server::start(Version::default()));
    one.etcdctl(&["put", "key", "one"]);
    assert_eq!(other.etcdctl(&["get", "key"]), "");
}
