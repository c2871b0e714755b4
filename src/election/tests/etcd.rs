//! The store of the test world: the memory store's history, with leases in virtual time and everything an
//! administrator may do.

use std::collections::{BTreeMap, HashSet};

use crate::clock::{Nanos, SECOND};
use crate::election::{Answer, Request};
use crate::store::memory::check;
use crate::store::memory::history::{self, History};
use crate::store::{
    Failure, Header, KeyValue, LeaseId, LeaseState, Op, Range, Revision, StoreError, Txn, TxnResult, WatchEvent,
};

/// What etcd with its default timing makes of a shorter time to live.
const MIN_TTL: Nanos = 2 * SECOND;

#[derive(Clone, Copy)]
struct Lease {
    ttl: Nanos,
    ends: Nanos,
    /// When it would end if nothing but its owner had made it last longer.
    due: Nanos,
    /// The store's revision when it was granted.
    since: Revision,
}

/// One cluster behind one address.
pub(super) struct Etcd {
    pub(super) cluster_id: u64,
    history: History,
    leases: BTreeMap<LeaseId, Lease>,
    /// Those that are no more, with the revision before their end.
    ended: Vec<(Revision, LeaseId, Lease)>,
    /// Every change since the cluster began.
    log: Vec<(Revision, Vec<WatchEvent>)>,
    published: usize,
    /// How much later than promised a lease's end is noticed.
    pub(super) expiry_lag: Nanos,
    /// Watches begin, and renewals are answered, at a member that is so many revisions behind.
    pub(super) behind: Revision,
    /// `--max-txn-ops`.
    pub(super) max_ops: usize,
    /// Nobody may touch or watch what starts with one of these.
    pub(super) forbidden: Vec<Vec<u8>>,
    /// Created by hand, not by a service.
    foreign: HashSet<LeaseId>,
}

impl Etcd {
    pub(super) fn new(cluster_id: u64) -> Self {
        Etcd {
            cluster_id,
            history: History::new(),
            leases: BTreeMap::new(),
            ended: Vec::new(),
            log: Vec::new(),
            published: 0,
            expiry_lag: 0,
            behind: 0,
            max_ops: 128,
            forbidden: Vec::new(),
            foreign: HashSet::new(),
        }
    }

    pub(super) fn header(&self) -> Header {
        Header { cluster_id: self.cluster_id, revision: self.history.revision() }
    }

    /// What a member says that is behind.
    pub(super) fn lagging_header(&self) -> Header {
        let Header { cluster_id, revision } = self.header();
        Header { cluster_id, revision: (revision - self.behind).max(1) }
    }

    /// Changes since a revision that the watches have been told of.
    pub(super) fn changes_since(&self, revision: Revision) -> Vec<(Revision, Vec<WatchEvent>)> {
        self.log[..self.published].iter().filter(|(at, _)| *at > revision).cloned().collect()
    }

    pub(super) fn serve(&mut self, now: Nanos, request: Request) -> Result<Answer, StoreError> {
        match request {
            Request::Grant { lease, ttl_s } => self.grant(now, lease, ttl_s * SECOND).map(Answer::Lease),
            Request::KeepAlive(lease) => {
                let header = self.lagging_header();
                let held = self.leases.get_mut(&lease).ok_or_else(|| not_found(lease))?;
                held.due = now + held.ttl;
                held.ends = held.due;
                Ok(Answer::Lease(LeaseState { header, ttl_s: held.ttl / SECOND }))
            }
            Request::Revoke(lease) => {
                if !self.revoke(lease) {
                    return Err(not_found(lease));
                }
                Ok(Answer::Revoked(self.header()))
            }
            Request::Txn(txn) => {
                // One without an operation waits for nobody's word.
                let is_local = txn.then.is_empty() && txn.otherwise.is_empty();
                let result = self.txn(txn)?;
                Ok(Answer::Txn(if is_local { self.lagging_header() } else { self.header() }, result))
            }
            Request::Range(range) => {
                self.permit(&range.key, &range.end)?;
                Ok(Answer::Range(self.header(), self.history.range(&range)?))
            }
        }
    }

    fn grant(&mut self, now: Nanos, lease: LeaseId, ttl: Nanos) -> Result<LeaseState, StoreError> {
        if self.leases.contains_key(&lease) {
            return Err(StoreError::new(Failure::LeaseExists, format!("lease {lease:x} exists already")));
        }
        let ttl = ttl.max(MIN_TTL);
        self.leases.insert(lease, Lease { ttl, ends: now + ttl, due: now + ttl, since: self.history.revision() });
        Ok(LeaseState { header: self.header(), ttl_s: ttl / SECOND })
    }

    pub(super) fn txn(&mut self, txn: Txn) -> Result<TxnResult, StoreError> {
        if txn.then.len().max(txn.otherwise.len()) > self.max_ops {
            return Err(StoreError::new(Failure::TooManyOps, "too many operations"));
        }
        check::txn(&txn)?;
        self.permit_txn(&txn)?;
        let plan = self.history.plan(txn, &|lease| self.leases.contains_key(&lease))?;
        let (result, events) = self.history.run(plan);
        self.changed(events);
        Ok(result)
    }

    fn permit_txn(&self, txn: &Txn) -> Result<(), StoreError> {
        txn.then.iter().chain(&txn.otherwise).try_for_each(|op| match op {
            Op::Put { key, .. } | Op::Delete(key) => self.permit(key, b""),
            Op::Range(range) => self.permit(&range.key, &range.end),
            Op::Txn(inner) => self.permit_txn(inner),
        })
    }

    /// A range is permitted only as a whole.
    pub(super) fn permit(&self, key: &[u8], end: &[u8]) -> Result<(), StoreError> {
        let touches = |prefix: &Vec<u8>| key.starts_with(prefix) || (key < &prefix[..] && end > &prefix[..]);
        match self.forbidden.iter().any(touches) {
            true => Err(StoreError::new(Failure::PermissionDenied, "permission denied")),
            false => Ok(()),
        }
    }

    fn changed(&mut self, events: Vec<WatchEvent>) {
        if !events.is_empty() {
            self.log.push((self.history.revision(), events));
        }
    }

    /// When the first lease is noticed to be over.
    pub(super) fn next_expiry(&self) -> Option<Nanos> {
        self.leases.values().map(|lease| lease.ends).min().map(|ends| ends + self.expiry_lag)
    }

    /// A new raft leader, or a member that starts again: every lease begins anew.
    pub(super) fn promote(&mut self, now: Nanos) {
        for lease in self.leases.values_mut() {
            lease.ends = lease.ends.max(now + lease.ttl);
        }
    }

    /// Ends the leases that are over.
    pub(super) fn expire(&mut self, now: Nanos) {
        let over = |lease: &Lease| lease.ends + self.expiry_lag <= now;
        let ids: Vec<LeaseId> = self.leases.iter().filter(|(_, lease)| over(lease)).map(|(&id, _)| id).collect();
        for id in ids {
            self.revoke(id);
        }
    }

    /// Changes that the watches have not been told of.
    pub(super) fn unpublished(&mut self) -> Vec<(Revision, Vec<WatchEvent>)> {
        let news = self.log[self.published..].to_vec();
        self.published = self.log.len();
        news
    }

    pub(super) fn keys(&self, prefix: &[u8]) -> Vec<KeyValue> {
        let range = Range { key: vec![0], end: vec![0], ..Range::default() };
        let all = self.history.range(&range).unwrap().kvs;
        all.into_iter().filter(|kv| kv.key.starts_with(prefix)).collect()
    }

    /// The lowest key below the prefix, nested ones included.
    pub(super) fn lowest(&self, prefix: &[u8]) -> Option<KeyValue> {
        self.keys(prefix).into_iter().min_by_key(|kv| (kv.create_revision, kv.key.clone()))
    }

    /// The lowest key below the prefix at a past revision, nested ones included, as create revision and key.
    pub(super) fn lowest_at(&self, prefix: &[u8], revision: Revision) -> Option<(Revision, Vec<u8>)> {
        self.queue_at(prefix, revision).into_iter().next()
    }

    /// All keys below the prefix at a past revision, compacted or not, in the order of their create revisions.
    pub(super) fn queue_at(&self, prefix: &[u8], revision: Revision) -> Vec<(Revision, Vec<u8>)> {
        let mut live: BTreeMap<&[u8], Revision> = BTreeMap::new();
        for (_, events) in self.log.iter().take_while(|(at, _)| *at <= revision) {
            for event in events {
                match event {
                    WatchEvent::Put(kv) if kv.key.starts_with(prefix) => live.insert(&kv.key, kv.create_revision),
                    WatchEvent::Put(_) => None,
                    WatchEvent::Delete { key, .. } => live.remove(&key[..]),
                };
            }
        }
        let mut queue: Vec<_> = live.into_iter().map(|(key, token)| (token, key.to_vec())).collect();
        queue.sort_unstable();
        queue
    }

    /// The lease that the key of this term was on at a revision.
    pub(super) fn lease_at(&self, key: &[u8], token: Revision, revision: Revision) -> Option<LeaseId> {
        let puts = self.log.iter().take_while(|(at, _)| *at <= revision).flat_map(|(_, events)| events);
        let of_key = puts.filter_map(|event| match event {
            WatchEvent::Put(kv) if kv.key == key && kv.create_revision == token => Some(kv.lease),
            _ => None,
        });
        of_key.last()
    }

    /// Whether the key of this term had this value at the revision or later.
    pub(super) fn had_value(&self, key: &[u8], token: Revision, value: &[u8], revision: Revision) -> bool {
        let puts = self.log.iter().flat_map(|(_, events)| events).filter_map(|event| match event {
            WatchEvent::Put(kv) if kv.key == key && kv.create_revision == token => Some(kv),
            _ => None,
        });
        let (before, after): (Vec<_>, Vec<_>) = puts.partition(|kv| kv.mod_revision <= revision);
        before.last().into_iter().chain(&after).any(|kv| kv.value == value)
    }

    pub(super) fn has_lease(&self, lease: LeaseId) -> bool {
        self.leases.contains_key(&lease)
    }

    /// Leases that services have left.
    pub(super) fn own_leases(&self) -> usize {
        self.leases_left().count()
    }

    /// The same by name.
    pub(super) fn leases_left(&self) -> impl Iterator<Item = LeaseId> {
        self.leases.keys().copied().filter(|lease| !self.foreign.contains(lease))
    }

    pub(super) fn is_foreign(&self, lease: LeaseId) -> bool {
        lease == 0 || self.foreign.contains(&lease)
    }

    /// Whether its time to live is over, as far as its owner can know.
    pub(super) fn is_over(&self, lease: LeaseId, now: Nanos) -> bool {
        self.leases.get(&lease).is_none_or(|lease| lease.due <= now)
    }

    /// By hand: a lease that lasts.
    pub(super) fn foreign_lease(&mut self, lease: LeaseId) {
        self.foreign.insert(lease);
        let since = self.history.revision();
        self.leases.entry(lease).or_insert(Lease { ttl: SECOND, ends: Nanos::MAX / 2, due: Nanos::MAX / 2, since });
    }

    /// By hand.
    pub(super) fn put(&mut self, key: Vec<u8>, value: &[u8], lease: LeaseId) {
        let put = Op::Put { key, value: value.to_vec(), lease };
        self.by_hand(vec![put]);
    }

    /// By hand.
    pub(super) fn delete(&mut self, key: &[u8]) {
        self.by_hand(vec![Op::Delete(key.to_vec())]);
    }

    /// Whatever is forbidden to others.
    fn by_hand(&mut self, then: Vec<Op>) {
        let plan = self.history.plan(Txn { then, ..Txn::default() }, &|_| true).unwrap();
        let (_, events) = self.history.run(plan);
        self.changed(events);
    }

    /// Ends a lease and deletes its keys. False if it isn't there.
    pub(super) fn revoke(&mut self, lease: LeaseId) -> bool {
        let Some(ended) = self.leases.remove(&lease) else { return false };
        self.ended.push((self.history.revision(), lease, ended));
        let events = self.history.delete_keys_of(lease);
        self.changed(events);
        true
    }

    /// Forgets all but the present.
    pub(super) fn compact(&mut self) {
        // Refused where nothing has changed since the last time.
        let _ = self.history.compact(self.history.revision());
    }

    /// Another, empty cluster answers at the same address.
    pub(super) fn rebuild(&mut self) {
        *self = Etcd { expiry_lag: self.expiry_lag, ..Etcd::new(self.cluster_id + 1) };
    }

    /// The same cluster, from a backup made at this revision; leases begin anew.
    pub(super) fn restore(&mut self, now: Nanos, revision: Revision) {
        let log = std::mem::take(&mut self.log);
        self.history = History::new();
        for (_, events) in log.into_iter().take_while(|(at, _)| *at <= revision) {
            let then = events.into_iter().map(|event| match event {
                WatchEvent::Put(kv) => Op::Put { key: kv.key, value: kv.value, lease: kv.lease },
                WatchEvent::Delete { key, .. } => Op::Delete(key),
            });
            self.by_hand(then.collect());
        }
        self.published = self.log.len();
        let ended = std::mem::take(&mut self.ended).into_iter().filter(|(until, ..)| *until >= revision);
        self.leases.extend(ended.map(|(_, id, lease)| (id, lease)));
        self.leases.retain(|_, lease| lease.since <= revision);
        for lease in self.leases.values_mut() {
            lease.ends = lease.ends.max(now + lease.ttl);
        }
    }
}

/// Whether a watch of `key..end` wants to hear of it.
pub(super) fn wants(key: &[u8], end: &[u8], event: &WatchEvent) -> bool {
    let (WatchEvent::Put(KeyValue { key: changed, .. }) | WatchEvent::Delete { key: changed, .. }) = event;
    std::ops::RangeBounds::<[u8]>::contains(&history::span(key, end), &changed[..])
}

fn not_found(lease: LeaseId) -> StoreError {
    StoreError::new(Failure::LeaseNotFound, format!("lease {lease:x} is not there"))
}
