//! Values: from none to the largest, any bytes, and what candidates and observers see of them.

use tenure::{CampaignOptions, Code, State};

use crate::support::Server;
use crate::support::electorate::{Contender, Electorate, LIMIT, Watcher, keys, open, wait_until};

on_each_version! {
    without_a_value_the_host_name_is_announced
    a_campaign_s_value_comes_before_its_service_s
    an_empty_value_is_a_value
    any_bytes_are_a_value
    the_largest_value_is_announced_proclaimed_and_read
    a_value_too_large_is_refused_and_changes_nothing
    a_value_too_large_for_the_server_is_told_and_costs_nobody_else
    an_observer_sees_values_of_every_size
    a_queue_of_large_values_is_read_whole
    many_large_values_join_together
}

const LARGEST: usize = 1024 * 1024;

fn with_value(value: &[u8]) -> CampaignOptions {
    let mut options = CampaignOptions::new();
    options.set_value(value).unwrap();
    options
}

fn without_a_value_the_host_name_is_announced(e: &Electorate) {
    let service = e.open();
    let _leader = Contender::lead(&service, "host");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(&*service.leader("host", LIMIT).unwrap().value, host.trim_end().as_bytes());
}

fn a_campaign_s_value_comes_before_its_service_s(e: &Electorate) {
    let service = e.open_with(&[("value", "of the service")]);
    let mut plain = Contender::lead(&service, "plain");
    let mut own = Contender::stand_with(&service, "own", &[("value", "its own")]);
    own.wait_elected();
    assert_eq!(&*service.leader("plain", LIMIT).unwrap().value, b"of the service");
    assert_eq!(&*service.leader("own", LIMIT).unwrap().value, b"its own");
    plain.resign();
    own.resign();
}

fn an_empty_value_is_a_value(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::stand_with(&service, "empty", &[("value", "")]);
    leader.wait_elected();
    let mut watcher = Watcher::observe(&service, "empty");
    watcher.wait_leader(Some(""));
    assert_eq!(&*service.leader("empty", LIMIT).unwrap().value, b"");
    leader.campaign.proclaim(b"x", LIMIT).unwrap();
    leader.campaign.proclaim(b"", LIMIT).unwrap();
    watcher.wait_leader(Some(""));
    assert!(leader.campaign.is_leader());
}

fn any_bytes_are_a_value(e: &Electorate) {
    let service = e.open();
    let bytes: Vec<u8> = (0..=255).collect();
    let mut leader = Contender::try_stand(&service, "bytes", &with_value(&bytes)).unwrap();
    assert_eq!(*leader.wait_elected().value, *bytes);
    let mut watcher = Watcher::observe(&service, "bytes");
    assert_eq!(*watcher.next().leader.unwrap().value, *bytes);
    assert_eq!(*service.leader("bytes", LIMIT).unwrap().value, *bytes);
    assert_eq!(*service.candidates("bytes", LIMIT).unwrap()[0].value, *bytes);
}

fn the_largest_value_is_announced_proclaimed_and_read(e: &Electorate) {
    let service = e.open();
    let value = vec![7; LARGEST];
    let mut leader = Contender::try_stand(&service, "largest", &with_value(&value)).unwrap();
    leader.wait_elected();
    assert!(*service.leader("largest", LIMIT).unwrap().value == *value);
    let value = vec![8; LARGEST];
    leader.campaign.proclaim(&value, LIMIT).unwrap();
    assert!(*service.leader("largest", LIMIT).unwrap().value == *value);
    leader.resign();
    e.assert_no_keys();
}

fn a_value_too_large_is_refused_and_changes_nothing(e: &Electorate) {
    let service = e.open();
    let value = vec![7; LARGEST + 1];
    assert_eq!(CampaignOptions::new().set_value(&value).unwrap_err().code(), Code::ValueTooLarge);
    let mut leader = Contender::stand_with(&service, "large", &[("value", "small")]);
    leader.wait_elected();
    assert_eq!(leader.campaign.proclaim(&value, LIMIT).unwrap_err().code(), Code::ValueTooLarge);
    assert_eq!(&*service.leader("large", LIMIT).unwrap().value, b"small");
    assert!(leader.campaign.is_leader());
}

/// A server that takes less than etcd's default.
fn a_value_too_large_for_the_server_is_told_and_costs_nobody_else(e: &Electorate) {
    let server = Server::builder().version(e.server.version()).argument("--max-request-bytes=65536").start();
    let service = open(&server, &[("service", "s")]);
    let mut leader = Contender::lead(&service, "proclaims");
    let value = vec![7; 200_000];
    assert_eq!(leader.campaign.proclaim(&value, LIMIT).unwrap_err().code(), Code::ValueTooLarge);
    let mut refused = Contender::try_stand(&service, "stands", &with_value(&value)).unwrap();
    refused.expect(State::Follower);
    refused.expect_loss(Code::ValueTooLarge);
    refused.expect_closed();
    leader.campaign.proclaim(b"small", LIMIT).unwrap();
    assert_eq!(keys(&server, "").len(), 1);
    leader.resign();
}

fn an_observer_sees_values_of_every_size(e: &Electorate) {
    let (service, onlooker) = (e.open(), e.open());
    let mut leader = Contender::stand_with(&service, "sizes", &[("value", "")]);
    leader.wait_elected();
    let mut watcher = Watcher::observe(&onlooker, "sizes");
    watcher.wait_leader(Some(""));
    // Around the size up to which mirrors keep values, there and back.
    for size in [1, 16 * 1024, 16 * 1024 + 1, LARGEST, 16 * 1024 + 1, 16 * 1024, 5] {
        let value = "v".repeat(size);
        leader.campaign.proclaim(value.as_bytes(), LIMIT).unwrap();
        let seen = watcher.wait_leader(Some(&value));
        assert_eq!(seen.leader.unwrap().token, leader.campaign.token());
    }
    // One that comes later reads it from a list.
    leader.campaign.proclaim(&vec![b'w'; LARGEST], LIMIT).unwrap();
    let mut late = Watcher::observe(&service, "sizes");
    late.wait_leader(Some(&"w".repeat(LARGEST)));
}

fn a_queue_of_large_values_is_read_whole(e: &Electorate) {
    let services: Vec<_> = (0..6).map(|_| e.open()).collect();
    let mut queue: Vec<Contender> = Vec::new();
    for (place, service) in (0..).zip(&services) {
        let mut contender = Contender::try_stand(service, "large", &with_value(&vec![place; LARGEST])).unwrap();
        wait_until("it stands", || e.keys("large").len() == queue.len() + 1);
        contender.expect(State::Follower);
        queue.push(contender);
    }
    // 6 MiB: more than a client takes in one message by default.
    let candidates = services[0].candidates("large", LIMIT).unwrap();
    let first_bytes: Vec<u8> = candidates.iter().map(|candidate| candidate.value[0]).collect();
    assert_eq!(first_bytes, [0, 1, 2, 3, 4, 5]);
    assert!(candidates.iter().all(|candidate| candidate.value.len() == LARGEST));
    let mut watcher = Watcher::observe(&services[5], "large");
    assert_eq!(watcher.next().leader.unwrap().value[0], 0);
    queue[0].expect(State::Leader);
    queue[0].resign();
    assert_eq!(watcher.next().leader.unwrap().value[0], 1);
}

fn many_large_values_join_together(e: &Electorate) {
    let service = e.open();
    let options = with_value(&vec![1; 300 * 1024]);
    let mut leaders: Vec<_> =
        (0..20).map(|i| Contender::try_stand(&service, &format!("large-{i}"), &options).unwrap()).collect();
    for leader in &mut leaders {
        leader.wait_elected();
    }
    service.close(LIMIT).unwrap();
    e.assert_no_keys();
}
