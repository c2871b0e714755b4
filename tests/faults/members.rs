//! A cluster of three members of which some are stopped or killed, or which loses its quorum.

use std::sync::Arc;

use tenure::{Code, State};

use crate::candidate::{Candidate, LIMIT, eventually, options, queue, renewal_is_near, renewed};
use crate::stage::{Stage, record};
use crate::support::{Cluster, Proxy};

const REJOIN: &[(&str, &str)] = &[("rejoin", "true")];

/// A candidate's own way to the members, which shows the one that it talks to.
pub(crate) struct Way(Vec<Arc<Proxy>>);

impl Way {
    pub(crate) fn to(cluster: &Cluster) -> Way {
        Way(cluster.members.iter().map(|member| record().proxy(member)).collect())
    }

    pub(crate) fn endpoints(&self) -> String {
        self.0.iter().map(|proxy| proxy.endpoint()).collect::<Vec<_>>().join(",")
    }

    /// Leads to this member only.
    pub(crate) fn only(&self, member: usize) {
        let others = self.0.iter().enumerate().filter(|(number, _)| *number != member);
        others.for_each(|(_, proxy)| proxy.refuse());
    }

    /// Leads to all members.
    pub(crate) fn all(&self) {
        self.0.iter().for_each(|proxy| proxy.heal());
    }

    /// Until the candidate has left this member for another one.
    pub(crate) fn wait_for_another_than(&self, member: usize) {
        eventually("it talks to another member", || {
            let others = self.0.iter().enumerate().filter(|(number, _)| *number != member);
            self.0[member].connections() == 0 && others.map(|(_, proxy)| proxy.connections()).sum::<usize>() > 0
        });
    }

    pub(crate) fn member(&self) -> usize {
        self.0.iter().position(|proxy| proxy.connections() > 0).expect("the candidate talks to a member")
    }
}

/// Seconds. The members may take more than one round of 1 to 2 s to elect another raft leader, a member looks for it
/// once a second, and a third of the lease may have passed before.
const ELECTION_TTL_S: u32 = 15;

fn leads_on_when_its_member_stops(is_raft_leader: bool) {
    let cluster = Stage::cluster();
    let way = Way::to(&cluster);
    let leader = Candidate::lead(&way.endpoints(), ELECTION_TTL_S);
    let follower = Candidate::stand(&cluster.endpoints(), ELECTION_TTL_S);
    eventually("two candidates", || queue(&cluster.members[0]).len() == 2);
    let (token, member) = (leader.campaign.token(), way.member());
    cluster.move_leader(if is_raft_leader { member } else { (member + 1) % 3 });
    cluster.members[member].stop();
    way.wait_for_another_than(member);
    renewed(&leader);
    cluster.members[member].cont();
    renewed(&leader);
    assert_eq!(leader.campaign.token(), token);
    leader.assert_silent();
    follower.assert_silent();
    leader.campaign.resign(LIMIT).unwrap();
    follower.next(State::Leader);
}

/// Fault 18.
#[test]
fn a_leader_leads_on_when_the_member_that_it_talks_to_stops() {
    leads_on_when_its_member_stops(false);
}

/// Fault 19.
#[test]
fn a_leader_leads_on_when_the_raft_leader_that_it_talks_to_stops() {
    leads_on_when_its_member_stops(true);
}

/// Fault 18.
#[test]
fn a_follower_takes_over_when_the_member_that_it_watches_stops() {
    let cluster = Stage::cluster();
    let way = Way::to(&cluster);
    let leader = Candidate::lead(&cluster.endpoints(), 5);
    let follower = Candidate::stand(&way.endpoints(), 5);
    eventually("two candidates", || queue(&cluster.members[0]).len() == 2);
    let member = way.member();
    cluster.move_leader((member + 1) % 3);
    cluster.members[member].stop();
    leader.campaign.resign(LIMIT).unwrap();
    follower.next(State::Leader);
    way.wait_for_another_than(member);
}

/// Fault 19.
#[test]
fn a_leader_leads_on_when_the_raft_leader_moves_and_when_it_is_killed() {
    let cluster = Stage::cluster();
    let leader = Candidate::lead(&cluster.endpoints(), ELECTION_TTL_S);
    let follower = Candidate::stand(&cluster.endpoints(), ELECTION_TTL_S);
    eventually("two candidates", || queue(&cluster.members[0]).len() == 2);
    let token = leader.campaign.token();
    let first = cluster.leader();
    cluster.move_leader((first + 1) % 3);
    // The renewal, and with it the follower's, falls into the election.
    renewal_is_near(&leader, ELECTION_TTL_S);
    cluster.members[(first + 1) % 3].kill();
    renewed(&leader);
    assert_ne!(cluster.leader_seen_by(first), (first + 1) % 3);
    assert_eq!(leader.campaign.token(), token);
    leader.assert_silent();
    follower.assert_silent();
    leader.campaign.resign(LIMIT).unwrap();
    assert!(follower.next(State::Leader).status.token > token);
}

/// Fault 20.
#[test]
fn a_leader_leads_on_when_the_quorum_is_lost_for_less_than_its_lease() {
    let cluster = Stage::cluster();
    let at_risk: &[(&str, &str)] = &[("at_risk", "true")];
    let leader = Candidate::stand_with(&options(&cluster.endpoints(), 20), at_risk);
    let token = leader.next(State::Leader).status.token;
    let follower = Candidate::stand(&cluster.endpoints(), 20);
    eventually("two candidates", || queue(&cluster.members[0]).len() == 2);
    cluster.members[1].kill();
    cluster.members[2].kill();
    leader.next_risk(true);
    cluster.members[1].respawn();
    cluster.members[2].restart();
    leader.next_risk(false);
    assert_eq!(leader.campaign.token(), token);
    leader.campaign.resign(LIMIT).unwrap();
    assert!(follower.next(State::Leader).status.token > token);
}

/// Fault 20.
#[test]
fn all_are_lost_when_the_quorum_is_lost_for_longer_than_the_lease_and_one_leads_when_it_is_back() {
    let cluster = Stage::cluster();
    let one = Candidate::stand_with(&options(&cluster.endpoints(), 2), REJOIN);
    let token = one.next(State::Leader).status.token;
    let other = Candidate::stand_with(&options(&cluster.endpoints(), 2), REJOIN);
    eventually("two candidates", || queue(&cluster.members[0]).len() == 2);
    cluster.members[1].kill();
    cluster.members[2].kill();
    for candidate in [&one, &other] {
        candidate.next_loss(Code::SessionExpired);
        candidate.next(State::Follower);
    }
    cluster.members[1].respawn();
    cluster.members[2].restart();
    eventually("a leader", || one.campaign.is_leader() || other.campaign.is_leader());
    let (first, second) = if one.campaign.is_leader() { (one, other) } else { (other, one) };
    let led = first.next(State::Leader).status.token;
    assert!(led > token);
    eventually("two candidates", || queue(&cluster.members[0]).len() == 2);
    second.assert_silent();
    first.campaign.resign(LIMIT).unwrap();
    assert!(second.next(State::Leader).status.token > led);
}

#[test]
fn leadership_is_handed_over_in_order_while_one_member_after_another_is_killed_and_restarted() {
    let cluster = Stage::cluster();
    let mut options = options(&cluster.endpoints(), 20);
    // A request that is made while there is no raft leader is lost, and asked again only after this time.
    options.set("call_timeout", "2s").unwrap();
    let mut candidates: Vec<Candidate> = Vec::new();
    for position in 1..=4 {
        candidates.push(Candidate::stand_with(&options, &[]));
        eventually("one candidate more", || queue(&cluster.members[0]).len() == position);
    }
    let mut token = candidates[0].next(State::Leader).status.token;
    for (member, pair) in cluster.members.iter().zip(candidates.windows(2)) {
        member.kill();
        pair[0].campaign.resign(LIMIT).unwrap();
        let led = pair[1].next(State::Leader).status.token;
        assert!(led > token);
        token = led;
        member.restart();
    }
}
