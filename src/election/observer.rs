//! Observers: who leads an election, as a state whose newest takes the place of the older.

use std::sync::Arc;

use super::mirror::Entry;
use super::watch::{Election, one_range};
use super::{CallId, Core, Output, PartPurpose};
use crate::clock::Nanos;
use crate::error::Code;
use crate::events::{Candidate, Observation, SubscriptionId};
use crate::store::{Header, Op, Range, Revision, StoreError, Txn, TxnResult};

/// A subscription, with what it was told last.
#[derive(Debug)]
pub(super) struct Observer {
    election: Arc<str>,
    sequence: u64,
    leader: Option<Candidate>,
    revision: Revision,
    /// `None`: nothing was told yet.
    connected: Option<bool>,
    reason: Code,
}

/// Whose value is being read.
#[derive(Debug)]
pub(super) struct Reading {
    call: CallId,
    name: Box<[u8]>,
    token: Revision,
}

impl Core {
    pub(super) fn observe(&mut self, id: SubscriptionId, election: Arc<str>) {
        let observer = Observer {
            election: election.clone(),
            sequence: 0,
            leader: None,
            revision: 0,
            connected: None,
            reason: Code::Ok,
        };
        self.observers.insert(id, observer);
        if self.closing {
            return self.close_observer(id, Code::Closed, "the service is closed");
        }
        self.want(&election).observers.push(id);
        self.come_near(&election);
        self.tell_observers(&election);
        self.ensure_list(&election);
    }

    pub(super) fn unobserve(&mut self, id: SubscriptionId) {
        self.close_observer(id, Code::Ok, "");
    }

    pub(super) fn close_observer(&mut self, id: SubscriptionId, reason: Code, message: &str) {
        let Some(mut observer) = self.observers.remove(&id) else { return };
        let connected = observer.connected == Some(true);
        let observation = observer.tell(self.now, self.cluster_id, connected, reason, message);
        self.emit(Output::Observation(id, Observation { closed: true, ..observation }));
        if let Some(election) = self.elections.get_mut(&observer.election) {
            election.observers.retain(|&other| other != id);
        }
        self.unwant(&observer.election);
    }

    /// Tells an election's observers what the mirror knows, if it is whole and differs from what they know.
    pub(super) fn tell_observers(&mut self, name: &str) {
        let Some((name, election)) = self.elections.get_key_value(name) else { return };
        if election.observers.is_empty() || !election.mirror.is_synced() {
            return;
        }
        // A list may be of the time before our own join; the watch is about to tell of that.
        let own = election.campaign.and_then(|id| self.campaigns.get(&id));
        if own.is_some_and(|campaign| election.mirror.revision() < campaign.token()) {
            return;
        }
        let name = name.clone();
        let prefix = self.keys.election(&name);
        let leader = match election.mirror.leader() {
            None => None,
            Some(entry) => match (&entry.value, entry.lease) {
                (Some(value), Some(lease)) => Some(Candidate {
                    value: value.clone(),
                    token: entry.token,
                    key: [prefix.as_slice(), &entry.name].concat().into(),
                    lease,
                }),
                _ => return self.read_leader(&name),
            },
        };
        let (revision, observers) = (election.mirror.revision(), election.observers.clone());
        let nested = election.mirror.nested().is_some();
        let (reason, message) = match nested {
            true => (Code::NameCollision, "keys of another election are nested inside this one"),
            false => (Code::Ok, ""),
        };
        for id in observers {
            let Some(observer) = self.observers.get_mut(&id) else { continue };
            if observer.connected != Some(true) || observer.leader != leader || observer.reason != reason {
                observer.leader = leader.clone();
                observer.revision = revision;
                let observation = observer.tell(self.now, self.cluster_id, true, reason, message);
                self.emit(Output::Observation(id, observation));
            }
        }
    }

    /// What observers were told is of another cluster.
    pub(super) fn forget_leaders(&mut self) {
        for observer in self.observers.values_mut() {
            observer.leader = None;
            observer.revision = 0;
            observer.connected = None;
        }
    }

    /// What observers (of this election only, or all) know is only the last state known from now on.
    pub(super) fn tell_disconnected(&mut self, only: Option<&str>, reason: Code, message: &str) {
        let concerned = |observer: &Observer| {
            observer.connected != Some(false) && only.is_none_or(|name| *observer.election == *name)
        };
        let mut ids: Vec<SubscriptionId> =
            self.observers.iter().filter(|(_, observer)| concerned(observer)).map(|(&id, _)| id).collect();
        ids.sort_unstable();
        for id in ids {
            let Some(observer) = self.observers.get_mut(&id) else { continue };
            if self.elections.get(&observer.election).is_some_and(|election| election.mirror.is_complete()) {
                continue;
            }
            let observation = observer.tell(self.now, self.cluster_id, false, reason, message);
            self.emit(Output::Observation(id, observation));
        }
    }

    /// Reads the leader's value and lease where the mirror doesn't hold them.
    pub(super) fn read_leader(&mut self, name: &Arc<str>) {
        let Some(election) = self.elections.get(name) else { return };
        let Some(leader) = election.mirror.leader().filter(|leader| !election.is_reading(leader)) else { return };
        let (below, token) = (leader.name.clone(), leader.token);
        let key = [self.keys.election(name).as_slice(), &below].concat();
        let range = Op::Range(Range { key, ..Range::default() });
        let call = self.submit(PartPurpose::LeaderValue(name.clone()), Txn { then: vec![range], ..Txn::default() });
        if let Some(election) = self.elections.get_mut(name) {
            election.reading_value = Some(Box::new(Reading { call, name: below, token }));
        }
    }

    pub(super) fn leader_value(
        &mut self,
        name: &Arc<str>,
        call: CallId,
        result: Result<(Header, TxnResult), StoreError>,
    ) {
        let Some(election) = self.elections.get_mut(name) else { return };
        let leads = election.mirror.leader().is_some_and(|leader| election.is_reading(leader));
        let Some(asked) = election.reading_value.take_if(|reading| reading.call == call).filter(|_| leads) else {
            return;
        };
        match result.and_then(|(_, result)| one_range(result)) {
            Ok(range) => {
                self.watch.list_backoff.reset();
                let read = range.kvs.into_iter().next().filter(|kv| kv.create_revision == asked.token);
                // Else it is gone, or created anew, and the watch will say so.
                if let Some(kv) = read {
                    let (lease, value) = (Some(kv.lease), Some(kv.value.into()));
                    let (token, changed) = (asked.token, kv.mod_revision);
                    election.mirror.complete(Entry { name: asked.name, token, changed, lease, value });
                    self.election_changed(name);
                }
            }
            Err(error) => self.look_again(name, &error),
        }
    }
}

impl Election {
    fn is_reading(&self, entry: &Entry) -> bool {
        let same = |reading: &Reading| reading.token == entry.token && reading.name == entry.name;
        self.reading_value.as_deref().is_some_and(same)
    }
}

impl Observer {
    fn tell(&mut self, now: Nanos, cluster_id: u64, connected: bool, reason: Code, message: &str) -> Observation {
        self.sequence += 1;
        self.connected = Some(connected);
        self.reason = reason;
        Observation {
            sequence: self.sequence,
            time_ns: now,
            election: self.election.clone(),
            leader: self.leader.clone(),
            revision: self.revision,
            cluster_id,
            connected,
            closed: false,
            reason,
            message: message.to_owned(),
        }
    }
}
