//! A cluster whose third member is on another machine, which the other two can't reach any more while clients can.

use tenure::State;

use crate::candidate::{Candidate, LIMIT, eventually, queue, renewed};
use crate::isolated::{Machine, is_within};
use crate::members::Way;
use crate::stage::Stage;
use crate::support::program::boottime_ns;
use crate::support::{Cluster, Server};

/// A cluster and its third member's machine.
fn cluster() -> (Stage<Cluster>, Machine) {
    let machine = Machine::new();
    let here = Server::builder().at("127.0.0.1", Machine::MEMBERS[0]);
    let there = Server::builder().at(Machine::CLIENTS[1], Machine::MEMBERS[1]).within(machine.enter());
    let stage = Stage::new(Cluster::of([here.clone(), here, there]));
    stage.move_leader(0);
    (stage, machine)
}

/// Until the third member knows that it is alone.
fn wait_for_no_raft_leader(stage: &Cluster) {
    let ask = ["get", "x", "--command-timeout=1s"];
    eventually("the third member has no raft leader", || !stage.members[2].try_etcdctl(&ask).status.success());
}

/// Fault 21: a follower watches by the member that is cut off from the others. The connection stays, and nothing comes by
/// it. It moves to another member, and leads when the leader leaves; its lease, a minute long, has nothing to do with it.
#[test]
fn a_follower_moves_away_from_a_member_that_is_cut_off_from_the_others() {
    if !is_within("partition::a_follower_moves_away_from_a_member_that_is_cut_off_from_the_others") {
        return;
    }
    let (stage, machine) = cluster();
    let way = Way::to(&stage);
    let leader = Candidate::lead(&stage.members[0].endpoint(), 60);
    way.only(2);
    let follower = Candidate::stand(&way.endpoints(), 60);
    eventually("two candidates", || queue(&stage.members[0]).len() == 2);
    way.all();
    assert_eq!(way.member(), 2);
    machine.partition(true);
    let cut = boottime_ns();
    leader.campaign.resign(LIMIT).unwrap();
    let led = follower.next(State::Leader);
    println!("leads {} ms after the partition", (led.at - cut) / 1_000_000);
    way.wait_for_another_than(2);
    // The cut-off member knows nothing of it: its own queue is still that of before.
    wait_for_no_raft_leader(&stage);
    machine.partition(false);
    eventually("the third member is back", || queue_at_the_third(&stage) == vec![led.status.token]);
}

fn queue_at_the_third(stage: &Cluster) -> Vec<i64> {
    let answers = stage.members[2].try_etcdctl(&["get", "x", "--command-timeout=2s"]).status.success();
    if answers { queue(&stage.members[2]) } else { Vec::new() }
}

/// Faults 21 and 18: a leader that talks to the member that is cut off leads on by another one.
#[test]
fn a_leader_moves_away_from_a_member_that_is_cut_off_from_the_others() {
    if !is_within("partition::a_leader_moves_away_from_a_member_that_is_cut_off_from_the_others") {
        return;
    }
    let (stage, machine) = cluster();
    let way = Way::to(&stage);
    way.only(2);
    let leader = Candidate::lead(&way.endpoints(), 15);
    let follower = Candidate::stand(&stage.members[0].endpoint(), 15);
    eventually("two candidates", || queue(&stage.members[0]).len() == 2);
    way.all();
    let token = leader.campaign.token();
    machine.partition(true);
    way.wait_for_another_than(2);
    renewed(&leader);
    assert_eq!(leader.campaign.token(), token);
    leader.assert_silent();
    follower.assert_silent();
    machine.partition(false);
    leader.campaign.resign(LIMIT).unwrap();
    follower.next(State::Leader);
}

/// Fault 20: the raft leader is the one that is cut off, and both candidates talk to it; the majority goes on without it.
#[test]
fn candidates_move_away_from_a_raft_leader_that_is_cut_off() {
    if !is_within("partition::candidates_move_away_from_a_raft_leader_that_is_cut_off") {
        return;
    }
    let (stage, machine) = cluster();
    stage.move_leader(2);
    let ways = [Way::to(&stage), Way::to(&stage)];
    ways.iter().for_each(|way| way.only(2));
    let leader = Candidate::lead(&ways[0].endpoints(), 15);
    let follower = Candidate::stand(&ways[1].endpoints(), 15);
    eventually("two candidates", || queue(&stage.members[0]).len() == 2);
    ways.iter().for_each(Way::all);
    let token = leader.campaign.token();
    machine.partition(true);
    renewed(&leader);
    assert_eq!(leader.campaign.token(), token);
    leader.assert_silent();
    leader.campaign.resign(LIMIT).unwrap();
    assert!(follower.next(State::Leader).status.token > token);
    ways.iter().for_each(|way| way.wait_for_another_than(2));
    machine.partition(false);
}
