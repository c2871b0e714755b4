//! Who stands far behind in a queue keeps its distance: it watches two keys, its own and that of a candidate some
//! places before it, instead of the whole election. Else each hand-over among P processes would be told to all P, of
//! which most have no use for it. The first few watch everything, so that the next one learns of its turn without a
//! question; the far ones come near long before it is theirs.
//!
//! The change is lossless: the watch on everything ends only when both keys were still there after the two watches
//! had been set. While the other key is there it can't be the own one's turn, as tokens only grow.

use std::sync::Arc;

use super::watch::{Election, below};
use super::{CallId, Core, Output, PartPurpose, keys};
use crate::store::{Compare, Header, Op, Range, Revision, StoreError, Txn, TxnResult, WatchEvent, WatchRequest};

/// Who has more than so many candidates before it keeps its distance, and comes near when about half as many are left.
/// A hand-over costs as many messages as there are near ones; coming near takes two round trips, in which others hand over.
pub(super) const FAR: usize = 8;

/// Watching from afar, or about to.
#[derive(Debug)]
pub(super) struct Distance {
    /// The candidate some places before, by its key below the election's prefix.
    ahead: Box<[u8]>,
    /// The watches on that key and on the own one, and whether they are set.
    watches: [(i64, bool); 2],
    /// The latest revision from which on one of them tells.
    from: Revision,
    /// Looks whether both keys are still there; taken when it goes out, as `check`.
    look: Txn,
    check: Option<CallId>,
}

impl Distance {
    pub(super) fn ids(&self) -> impl Iterator<Item = i64> + use<> {
        self.watches.map(|(id, _)| id).into_iter()
    }
}

impl Election {
    fn has_at_distance(&self, watch: i64) -> bool {
        self.distance.as_ref().is_some_and(|distance| distance.ids().any(|id| id == watch))
    }
}

impl Core {
    /// Asks for the two watches if that is enough for the own candidate.
    pub(super) fn keep_distance(&mut self, name: &str) {
        let Some((name, election)) = self.elections.get_key_value(name) else { return };
        let (Some(stream), Some(campaign)) = (self.watch.stream, election.campaign) else { return };
        let possible = election.watched.is_some() && election.mirror.is_synced() && !self.watch.is_wide();
        if !possible || !election.observers.is_empty() || election.distance.is_some() {
            return;
        }
        let Some(campaign) = self.campaigns.get(&campaign).filter(|campaign| campaign.needs_list()) else { return };
        let Some(session) = campaign.session().and_then(|id| self.sessions.get(&id)) else { return };
        let (own, token, lease) = (keys::candidate(b"", session.lease), campaign.token(), session.lease);
        let Some(ahead) = election.mirror.far_ahead(&own, token, self.watch.far) else { return };
        let prefix = self.keys.election(name);
        let [ahead_key, own_key] = [&ahead.name, own.as_slice()].map(|below| [prefix.as_slice(), below].concat());
        let compares = vec![
            Compare::CreateRevision(ahead_key.clone(), ahead.token),
            Compare::CreateRevision(own_key.clone(), token),
            Compare::Lease(own_key.clone(), lease),
        ];
        let (name, ahead) = (name.clone(), ahead.name.clone());
        let watches = [ahead_key, own_key.clone()].map(|key| {
            let id = self.next_id() as i64;
            self.watch.ids.insert(id, name.clone());
            self.emit(Output::Watch { stream, request: WatchRequest::Create { id, key, end: Vec::new() } });
            (id, false)
        });
        if let Some(election) = self.elections.get_mut(&name) {
            // A transaction without an operation is answered by whichever member has it, from what that one knows so far
            // (`IsTxnSerializable` in etcd); with a read it waits for the raft leader's word.
            let range = Range { key: own_key, keys_only: true, ..Range::default() };
            let look = Txn { compares, then: vec![Op::Range(range)], ..Txn::default() };
            election.distance = Some(Box::new(Distance { ahead, watches, from: 0, look, check: None }));
        }
    }

    /// One of the watches is set. False if it was another.
    pub(super) fn distance_created(&mut self, name: &Arc<str>, watch: i64, revision: Revision) -> bool {
        let election = self.elections.get_mut(name);
        let Some(distance) = election.and_then(|election| election.distance.as_mut()) else { return false };
        let Some((_, set)) = distance.watches.iter_mut().find(|(id, _)| *id == watch) else { return false };
        *set = true;
        distance.from = distance.from.max(revision);
        if distance.check.is_none() && distance.watches.iter().all(|(_, set)| *set) {
            let look = std::mem::take(&mut distance.look);
            let check = self.submit(PartPurpose::Distance(name.clone()), look);
            if let Some(distance) = self.elections.get_mut(name).and_then(|election| election.distance.as_mut()) {
                distance.check = Some(check);
            }
        }
        true
    }

    pub(super) fn distance_checked(
        &mut self,
        name: &Arc<str>,
        call: CallId,
        result: Result<(Header, TxnResult), StoreError>,
    ) {
        let Some(election) = self.elections.get_mut(name) else { return };
        let Some(distance) = election.distance.as_ref().filter(|distance| distance.check == Some(call)) else { return };
        if !result.is_ok_and(|(header, result)| result.succeeded && header.revision >= distance.from) {
            // Whatever the reason, the watch on everything is still there, and tells what has changed.
            return self.come_near(name);
        }
        let whole = election.watch.take();
        election.unwatch_whole();
        election.mirror.forget();
        if let Some(whole) = whole {
            self.cancel_watch(whole);
        }
    }

    /// What one of the two watches tells. False if it was another's.
    pub(super) fn distance_events(&mut self, name: &Arc<str>, watch: i64, events: &[WatchEvent]) -> bool {
        if !self.elections.get(name).is_some_and(|election| election.has_at_distance(watch)) {
            return false;
        }
        let prefix = self.keys.election(name);
        for event in events {
            let (key, on, revision) = event.outcome();
            let below = below(key, &prefix);
            self.key_changed(name, &below, on, revision);
            let distance = self.elections.get(name).and_then(|election| election.distance.as_ref());
            if matches!(event, WatchEvent::Delete { .. }) && distance.is_some_and(|distance| distance.ahead == below) {
                self.come_near(name);
            }
        }
        true
    }

    /// Watches everything again.
    pub(super) fn come_near(&mut self, name: &Arc<str>) {
        let Some(election) = self.elections.get_mut(name) else { return };
        let Some(distance) = election.distance.take() else { return };
        if election.watch.is_none() {
            self.watch.pending.push(name.clone());
        }
        distance.ids().for_each(|id| self.cancel_watch(id));
    }
}
