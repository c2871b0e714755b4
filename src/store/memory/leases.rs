//! The leases and when they end. Which keys a lease has is written in the keys.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::{Failure, LeaseId, StoreError};

/// What etcd with its default timing makes of a shorter time to live.
const MIN_TTL_S: i64 = 2;
/// The longest that etcd takes.
const MAX_TTL_S: i64 = 9_000_000_000;

#[derive(Default)]
pub(super) struct Leases {
    leases: HashMap<LeaseId, Lease>,
    /// Every lease once, the first one to end first.
    by_expiry: BTreeSet<(Instant, LeaseId)>,
}

struct Lease {
    ttl_s: i64,
    expiry: Instant,
}

impl Leases {
    /// Answers the time to live that was given, in seconds.
    pub(super) fn grant(&mut self, id: LeaseId, ttl_s: i64, now: Instant) -> Result<i64, StoreError> {
        if id <= 0 {
            return Err(StoreError::new(Failure::Refused, format!("{id} is no lease id")));
        }
        if ttl_s > MAX_TTL_S {
            return Err(StoreError::new(Failure::Refused, format!("a time to live of {ttl_s} s is too long")));
        }
        if self.leases.contains_key(&id) {
            return Err(StoreError::new(Failure::LeaseExists, format!("lease {id:x} exists already")));
        }
        let ttl_s = ttl_s.max(MIN_TTL_S);
        let expiry = now + Duration::from_secs(ttl_s.unsigned_abs());
        self.leases.insert(id, Lease { ttl_s, expiry });
        self.by_expiry.insert((expiry, id));
        Ok(ttl_s)
    }

    /// Lets the time to live begin anew and answers it, in seconds.
    pub(super) fn renew(&mut self, id: LeaseId, now: Instant) -> Result<i64, StoreError> {
        let lease = self.leases.get_mut(&id).ok_or_else(|| not_found(id))?;
        self.by_expiry.remove(&(lease.expiry, id));
        lease.expiry = now + Duration::from_secs(lease.ttl_s.unsigned_abs());
        self.by_expiry.insert((lease.expiry, id));
        Ok(lease.ttl_s)
    }

    pub(super) fn remove(&mut self, id: LeaseId) -> Result<(), StoreError> {
        let lease = self.leases.remove(&id).ok_or_else(|| not_found(id))?;
        self.by_expiry.remove(&(lease.expiry, id));
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn ids(&self) -> Vec<LeaseId> {
        self.by_expiry.iter().map(|&(_, id)| id).collect()
    }

    pub(super) fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// Removes a lease that has ended, the one that ended first.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<LeaseId> {
        let &(expiry, id) = self.by_expiry.first()?;
        if expiry > now {
            return None;
        }
        self.by_expiry.pop_first();
        self.leases.remove(&id);
        Some(id)
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.by_expiry.first().map(|&(expiry, _)| expiry)
    }
}

pub(super) fn not_found(id: LeaseId) -> StoreError {
    StoreError::new(Failure::LeaseNotFound, format!("lease {id:x} does not exist"))
}
