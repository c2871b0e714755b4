//! Names, prefixes and where they lie in the store.

use tenure::{CampaignOptions, Code, Service, State};

use crate::support::electorate::{Contender, Electorate, LIMIT, Watcher, keys, open, service_options};

on_each_version! {
    an_empty_name_is_the_default_election
    unusual_names_are_elections_like_any_other
    names_of_the_longest_kind_work_and_longer_ones_are_refused
    impossible_names_are_refused_everywhere
    names_that_begin_alike_are_different_elections
    an_environment_is_a_part_of_the_key
    the_root_can_be_another
    a_prefix_takes_the_place_of_the_layout
    an_empty_prefix_reaches_elections_at_the_top
    a_prefix_without_a_slash_is_used_as_it_is
    who_waits_behind_a_nested_election_hears_of_the_collision
    who_waits_while_an_election_is_nested_hears_of_the_collision
    a_leader_stays_when_an_election_is_nested_below_it
    an_observer_is_told_of_a_nested_election
    a_key_of_our_name_on_another_lease_is_a_collision_with_its_owner_untouched
}

/// Fault 27.
fn an_empty_name_is_the_default_election(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::stand(&service, "");
    assert_eq!(&*leader.wait_elected().election, "default");
    assert_eq!(e.keys("default").len(), 1);
    assert!(service.leader("", LIMIT).is_ok());
    let options = CampaignOptions::new();
    let refused = Contender::try_stand(&service, "default", &options).err().unwrap();
    assert_eq!(refused.code(), Code::CampaignInProgress);
    leader.resign();
}

/// Fault 27.
fn unusual_names_are_elections_like_any_other(e: &Electorate) {
    let service = e.open();
    let names =
        ["a/b/c", "x/y", "Zürich 🚲", "\u{202e}right to left", "e\u{301}", "é", " ", "%s%n", "\n", "..", "\u{1}"];
    for name in names {
        let mut leader = Contender::lead(&service, name);
        let seen = service.leader(name, LIMIT).unwrap();
        assert_eq!(seen.token, leader.campaign.token(), "{name:?}");
        let key = String::from_utf8(seen.key.to_vec()).unwrap();
        assert_eq!(key, format!("{}{:x}", e.prefix(name), seen.lease));
        leader.resign();
    }
    e.assert_no_keys();
}

/// Fault 27.
fn names_of_the_longest_kind_work_and_longer_ones_are_refused(e: &Electorate) {
    let service = e.open();
    let longest = "n".repeat(1024);
    let mut leader = Contender::lead(&service, &longest);
    assert_eq!(e.keys(&longest).len(), 1);
    leader.resign();
    let options = CampaignOptions::new();
    let refused = Contender::try_stand(&service, &"n".repeat(1025), &options).err().unwrap();
    assert_eq!(refused.code(), Code::InvalidName);
}

/// Fault 27.
fn impossible_names_are_refused_everywhere(e: &Electorate) {
    let service = e.open();
    for name in ["/", "/a", "a/", "a//b", "a\0b", "\0"] {
        let options = CampaignOptions::new();
        assert_eq!(Contender::try_stand(&service, name, &options).err().unwrap().code(), Code::InvalidName, "{name:?}");
        assert_eq!(service.observe(name, None).err().unwrap().code(), Code::InvalidName, "{name:?}");
        assert_eq!(service.leader(name, LIMIT).unwrap_err().code(), Code::InvalidName, "{name:?}");
        assert_eq!(service.candidates(name, LIMIT).unwrap_err().code(), Code::InvalidName, "{name:?}");
    }
    e.assert_no_keys();
}

fn names_that_begin_alike_are_different_elections(e: &Electorate) {
    let service = e.open();
    let mut leaders: Vec<_> = ["a", "ab", "a-b", "a.b/c"].map(|name| Contender::lead(&service, name)).into();
    assert!(leaders.iter().all(|leader| leader.campaign.is_leader()));
    leaders.iter_mut().for_each(Contender::resign);
}

fn an_environment_is_a_part_of_the_key(e: &Electorate) {
    let service = e.open_with(&[("environment", "prod")]);
    let mut leader = Contender::lead(&service, "env");
    let elsewhere = e.open();
    let mut plain = Contender::lead(&elsewhere, "env");
    assert_eq!(keys(e.server, &format!("_ld/prod/{}/env/", e.service)).len(), 1);
    assert_eq!(e.keys("env").len(), 1);
    leader.resign();
    plain.resign();
}

fn the_root_can_be_another(e: &Electorate) {
    let service = e.open_with(&[("root", "other/root")]);
    let mut leader = Contender::lead(&service, "root");
    assert_eq!(keys(e.server, &format!("other/root/{}/root/", e.service)).len(), 1);
    e.assert_no_keys();
    leader.resign();
}

fn open_prefix(e: &Electorate, prefix: &str) -> Service {
    open(e.server, &[("prefix", prefix)])
}

fn a_prefix_takes_the_place_of_the_layout(e: &Electorate) {
    let prefix = e.prefix("p");
    let by_prefix = open_prefix(e, &prefix[..prefix.len() - 2]);
    let mut leader = Contender::lead(&by_prefix, "p");
    let by_layout = e.open();
    let mut heir = Contender::queue(&by_layout, "p");
    leader.resign();
    heir.expect(State::Leader);
}

fn an_empty_prefix_reaches_elections_at_the_top(e: &Electorate) {
    let service = open_prefix(e, "");
    let top = format!("top-{}", e.service);
    let mut leader = Contender::lead(&service, &top);
    let mut watcher = Watcher::observe(&service, &top);
    watcher.next();
    assert_eq!(keys(e.server, &format!("{top}/")).len(), 1);
    leader.resign();
    watcher.wait_leader(None);
}

fn a_prefix_without_a_slash_is_used_as_it_is(e: &Electorate) {
    let service = open_prefix(e, &format!("{}-", e.service));
    let mut leader = Contender::lead(&service, "jobs");
    assert_eq!(keys(e.server, &format!("{}-jobs/", e.service)).len(), 1);
    leader.resign();
    let both = service_options(e.server, &[("prefix", ""), ("service", "s")]);
    assert_eq!(Service::open(&both).err().unwrap().code(), Code::InvalidValue);
}

/// Fault 27.
fn who_waits_behind_a_nested_election_hears_of_the_collision(e: &Electorate) {
    let (inner, outer) = (e.open(), e.open());
    let mut nested = Contender::lead(&inner, "a/b");
    let mut waiting = Contender::stand(&outer, "a");
    waiting.expect(State::Follower);
    let lost = waiting.expect_loss(Code::NameCollision);
    assert!(lost.message.contains(&e.keys("a/b")[0]), "{}", lost.message);
    waiting.expect_closed();
    assert_eq!(outer.leader("a", LIMIT).unwrap_err().code(), Code::NameCollision);
    assert_eq!(outer.candidates("a", LIMIT).unwrap_err().code(), Code::NameCollision);
    assert_eq!(e.keys("a").len(), 1, "the nested one");
    assert!(nested.campaign.is_leader());
    nested.resign();
    Contender::lead(&outer, "a").resign();
}

/// Fault 27.
fn who_waits_while_an_election_is_nested_hears_of_the_collision(e: &Electorate) {
    let services = [e.open(), e.open(), e.open()];
    let mut leader = Contender::lead(&services[0], "a");
    let mut waiting = Contender::queue(&services[1], "a");
    let _nested = Contender::lead(&services[2], "a/b");
    waiting.expect_loss(Code::NameCollision);
    waiting.expect_closed();
    leader.expect_nothing();
    assert!(leader.campaign.is_leader());
    leader.resign();
}

fn a_leader_stays_when_an_election_is_nested_below_it(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::lead(&service, "a");
    let mut watcher = Watcher::observe(&service, "a");
    watcher.next();
    let mut nested = Contender::lead(&service, "a/b");
    assert_eq!(watcher.next().reason, Code::NameCollision);
    leader.expect_nothing();
    assert!(leader.campaign.is_leader());
    nested.resign();
    leader.resign();
}

fn an_observer_is_told_of_a_nested_election(e: &Electorate) {
    let service = e.open();
    let mut watcher = Watcher::observe(&service, "a");
    watcher.wait_leader(None);
    let mut nested = Contender::lead(&service, "a/b");
    let told = watcher.next();
    assert_eq!((told.reason, told.connected, told.leader), (Code::NameCollision, true, None));
    nested.resign();
    let told = watcher.next();
    assert_eq!((told.reason, told.message.as_str()), (Code::Ok, ""));
}

fn a_key_of_our_name_on_another_lease_is_a_collision_with_its_owner_untouched(e: &Electorate) {
    let service = e.open();
    let mut first = Contender::lead(&service, "first");
    let foreign = format!("{}{}", e.prefix("second"), e.leases("first")[0]);
    e.put(&foreign, "not ours");
    let mut second = Contender::stand(&service, "second");
    second.expect(State::Follower);
    second.expect_loss(Code::NameCollision);
    second.expect_closed();
    assert_eq!(e.keys("second"), [foreign]);
    first.expect_nothing();
    first.resign();
}
