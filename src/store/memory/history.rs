//! The keys at every revision that is still remembered, and transactions on them.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::leases;
use crate::store::{
    Compare, Failure, KeyValue, LeaseId, Op, OpResult, Order, Range, RangeResult, Revision, StoreError, Txn, TxnResult,
    WatchEvent,
};

/// An empty store is at this revision, as etcd's is.
const FIRST_REVISION: Revision = 1;
/// At least this many past revisions can be read, at most twice as many are kept: a process may run for months.
const KEPT_REVISIONS: Revision = 10_000;

pub(crate) struct History {
    revision: Revision,
    /// The oldest revision that can be read.
    oldest: Revision,
    /// For each key, oldest first, every version that a readable revision shows.
    keys: BTreeMap<Vec<u8>, Vec<Version>>,
}

struct Version {
    revision: Revision,
    /// `None`: the key was deleted.
    kv: Option<KeyValue>,
}

/// A transaction whose conditions have been judged. All of them are judged before anything is done, those of inner
/// transactions too, so that no condition sees a change of its own transaction.
pub(crate) struct Plan {
    succeeded: bool,
    steps: Vec<Step>,
}

enum Step {
    Put { key: Vec<u8>, value: Vec<u8>, lease: LeaseId },
    Delete(Vec<u8>),
    Range(Range),
    Txn(Plan),
}

impl History {
    pub(crate) fn new() -> Self {
        History { revision: FIRST_REVISION, oldest: FIRST_REVISION, keys: BTreeMap::new() }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn range(&self, range: &Range) -> Result<RangeResult, StoreError> {
        self.check_revision(range.revision)?;
        Ok(self.read(range))
    }

    /// Judges the conditions, and whether what follows from them can be done: [`run`](History::run) cannot fail.
    pub(crate) fn plan(&self, txn: Txn, has_lease: &dyn Fn(LeaseId) -> bool) -> Result<Plan, StoreError> {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { txn.then } else { txn.otherwise };
        let steps = ops.into_iter().map(|op| self.plan_step(op, has_lease)).collect::<Result<_, _>>()?;
        Ok(Plan { succeeded, steps })
    }

    /// Does what was planned. The changes, if there are any, make one revision.
    pub(crate) fn run(&mut self, plan: Plan) -> (TxnResult, Vec<WatchEvent>) {
        let mut events = Vec::new();
        let result = self.run_steps(plan, &mut events);
        self.close_revision(&events);
        (result, events)
    }

    /// Deletes all keys that are attached to the lease, at one revision, in the order of the keys.
    pub(crate) fn delete_keys_of(&mut self, lease: LeaseId) -> Vec<WatchEvent> {
        let attached = self.keys.values().filter_map(|versions| newest(versions)).filter(|kv| kv.lease == lease);
        let keys: Vec<Vec<u8>> = attached.map(|kv| kv.key.clone()).collect();
        let mut events = Vec::new();
        for key in keys {
            self.delete(key, &mut events);
        }
        self.close_revision(&events);
        events
    }

    pub(crate) fn compact(&mut self, revision: Revision) -> Result<(), StoreError> {
        if revision <= self.oldest {
            return Err(compacted(revision));
        }
        self.check_revision(revision)?;
        self.forget_before(revision);
        Ok(())
    }

    fn check_revision(&self, revision: Revision) -> Result<(), StoreError> {
        if revision > self.revision {
            let message = format!("revision {revision} is in the future");
            return Err(StoreError::new(Failure::Refused, message));
        }
        if revision > 0 && revision < self.oldest {
            return Err(compacted(revision));
        }
        Ok(())
    }

    fn holds(&self, compare: &Compare) -> bool {
        let newest = |key: &Vec<u8>| self.keys.get(key).and_then(|versions| newest(versions));
        match compare {
            Compare::CreateRevision(key, revision) => newest(key).map_or(0, |kv| kv.create_revision) == *revision,
            Compare::ModRevision(key, revision) => newest(key).map_or(0, |kv| kv.mod_revision) == *revision,
            Compare::Lease(key, lease) => newest(key).map_or(0, |kv| kv.lease) == *lease,
        }
    }

    fn plan_step(&self, op: Op, has_lease: &dyn Fn(LeaseId) -> bool) -> Result<Step, StoreError> {
        match op {
            Op::Put { lease, .. } if lease != 0 && !has_lease(lease) => Err(leases::not_found(lease)),
            Op::Put { key, value, lease } => Ok(Step::Put { key, value, lease }),
            Op::Delete(key) => Ok(Step::Delete(key)),
            Op::Range(range) => {
                self.check_revision(range.revision)?;
                Ok(Step::Range(range))
            }
            Op::Txn(txn) => Ok(Step::Txn(self.plan(txn, has_lease)?)),
        }
    }

    fn run_steps(&mut self, plan: Plan, events: &mut Vec<WatchEvent>) -> TxnResult {
        let mut results = Vec::with_capacity(plan.steps.len());
        for step in plan.steps {
            results.push(match step {
                Step::Put { key, value, lease } => {
                    self.put(key, value, lease, events);
                    OpResult::Put
                }
                Step::Delete(key) => OpResult::Delete(self.delete(key, events)),
                Step::Range(range) => OpResult::Range(self.read(&range)),
                Step::Txn(inner) => OpResult::Txn(self.run_steps(inner, events)),
            });
        }
        TxnResult { succeeded: plan.succeeded, results }
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>, lease: LeaseId, events: &mut Vec<WatchEvent>) {
        let revision = self.revision + 1;
        let versions = self.keys.entry(key.clone()).or_default();
        let create_revision = newest(versions).map_or(revision, |kv| kv.create_revision);
        let kv = KeyValue { key, value, create_revision, mod_revision: revision, lease };
        events.push(WatchEvent::Put(kv.clone()));
        versions.push(Version { revision, kv: Some(kv) });
    }

    /// Answers how many keys were deleted: one or none.
    fn delete(&mut self, key: Vec<u8>, events: &mut Vec<WatchEvent>) -> i64 {
        let revision = self.revision + 1;
        let Some(versions) = self.keys.get_mut(&key) else { return 0 };
        if newest(versions).is_none() {
            return 0;
        }
        versions.push(Version { revision, kv: None });
        events.push(WatchEvent::Delete { key, revision });
        1
    }

    /// Reads at a revision that is known to be readable. Inside a transaction, "now" has what it did so far.
    fn read(&self, range: &Range) -> RangeResult {
        let at = if range.revision > 0 { range.revision } else { Revision::MAX };
        let keys = self.keys.range::<[u8], _>(span(&range.key, &range.end));
        let mut found: Vec<&KeyValue> = keys.filter_map(|(_, versions)| version_at(versions, at)).collect();
        if range.order == Order::CreateRevision {
            found.sort_by_key(|kv| kv.create_revision);
        }
        let limit = usize::try_from(range.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let more = found.len() > limit;
        found.truncate(limit);
        let copy = if range.keys_only { without_value } else { KeyValue::clone };
        RangeResult { kvs: found.into_iter().map(copy).collect(), more }
    }

    /// Makes the changes visible as the next revision.
    fn close_revision(&mut self, events: &[WatchEvent]) {
        if events.is_empty() {
            return;
        }
        self.revision += 1;
        if self.revision - self.oldest >= 2 * KEPT_REVISIONS {
            self.forget_before(self.revision - KEPT_REVISIONS);
        }
    }

    fn forget_before(&mut self, revision: Revision) {
        self.oldest = revision;
        self.keys.retain(|_, versions| {
            let later = versions.partition_point(|version| version.revision <= revision);
            let shown = versions[..later].last().is_some_and(|version| version.kv.is_some());
            versions.drain(..if shown { later - 1 } else { later });
            !versions.is_empty()
        });
    }
}

/// The keys that a request with this `key` and `end` means.
pub(crate) fn span<'a>(key: &'a [u8], end: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    let end = match end {
        [] => Bound::Included(key),
        [0] => Bound::Unbounded,
        // An end before the key means no key, and must not be handed to `BTreeMap::range`.
        _ => Bound::Excluded(end.max(key)),
    };
    (Bound::Included(key), end)
}

/// As etcd since 3.7 gives it: without the lease, too.
fn without_value(kv: &KeyValue) -> KeyValue {
    KeyValue { key: kv.key.clone(), value: Vec::new(), lease: 0, ..*kv }
}

fn newest(versions: &[Version]) -> Option<&KeyValue> {
    versions.last().and_then(|version| version.kv.as_ref())
}

fn version_at(versions: &[Version], revision: Revision) -> Option<&KeyValue> {
    let later = versions.partition_point(|version| version.revision <= revision);
    newest(&versions[..later])
}

fn compacted(revision: Revision) -> StoreError {
    StoreError::new(Failure::Compacted, format!("revision {revision} has been compacted"))
}
