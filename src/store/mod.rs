//! What the engine needs of etcd, as one trait with two implementations: [`Etcd`](etcd::Etcd) and
//! [`Memory`](memory::Memory). Both pass the same contract tests.
//!
//! The trait is a thin cut through etcd's KV, Lease and Watch services. It knows nothing of elections.

pub mod etcd;
pub mod memory;

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;

/// A lease's id; positive, chosen by the client so that a grant whose answer was lost can be asked again.
pub type LeaseId = i64;

/// A revision of the store; grows by one with every change.
pub type Revision = i64;

/// What every answer says about the cluster that gave it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The cluster's id; another id means another history.
    pub cluster_id: u64,
    /// The store's revision when the answer was made.
    pub revision: Revision,
}

/// A key with its value and history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Vec<u8>,
    /// The value; empty when only keys were asked for.
    pub value: Vec<u8>,
    /// Revision at which the key was last created.
    pub create_revision: Revision,
    /// Revision of the last change.
    pub mod_revision: Revision,
    /// The lease that the key is attached to, 0 for none.
    pub lease: LeaseId,
}

/// The order of a range's answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By key, ascending.
    #[default]
    Key,
    /// By create revision, ascending; keys of one revision by key.
    CreateRevision,
}

/// A linearizable read of one key or of the keys in `key..end`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First key.
    pub key: Vec<u8>,
    /// First key behind the range; empty: `key` alone; a single zero byte: to the end of the store.
    pub end: Vec<u8>,
    /// At most this many keys; 0: all.
    pub limit: i64,
    /// The order of the answer (applied before `limit`).
    pub order: Order,
    /// Leave the values out; etcd leaves the leases out with them since 3.7.
    pub keys_only: bool,
    /// Read at this past revision; 0: now.
    pub revision: Revision,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key's create revision equals this (0: the key does not exist).
    CreateRevision(Vec<u8>, Revision),
    /// The revision of the key's last change equals this.
    ModRevision(Vec<u8>, Revision),
    /// The key is attached to this lease.
    Lease(Vec<u8>, LeaseId),
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Set a key and attach it to a lease.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its new value.
        value: Vec<u8>,
        /// The lease to attach it to; 0: none.
        lease: LeaseId,
    },
    /// Delete one key.
    Delete(Vec<u8>),
    /// Read.
    Range(Range),
    /// A transaction inside the transaction.
    Txn(Txn),
}

/// An atomic transaction: if all `compares` hold then `then`, else `otherwise`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The conditions, all of which must hold.
    pub compares: Vec<Compare>,
    /// What to do if they hold.
    pub then: Vec<Op>,
    /// What to do if not.
    pub otherwise: Vec<Op>,
}

/// The answer to an [`Op`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// A put was done.
    Put,
    /// So many keys were deleted.
    Delete(i64),
    /// The keys read.
    Range(RangeResult),
    /// The inner transaction's result.
    Txn(TxnResult),
}

/// The answer to a [`Range`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResult {
    /// The keys.
    pub kvs: Vec<KeyValue>,
    /// There are more than `limit`.
    pub more: bool,
}

/// The answer to a [`Txn`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResult {
    /// Whether the conditions held.
    pub succeeded: bool,
    /// An answer for each operation of the branch that was taken, in order.
    pub results: Vec<OpResult>,
}

/// What the engine asks of a watch stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchRequest {
    /// Watch a range from now on. "Now" and never a past revision: a watch that starts in the past is served by
    /// etcd only every 100 ms (`watchResyncPeriod` in server/storage/mvcc/watchable_store.go).
    Create {
        /// Chosen by the engine, positive, never used twice on one stream.
        id: i64,
        /// First key.
        key: Vec<u8>,
        /// First key behind the range, as in [`Range::end`].
        end: Vec<u8>,
    },
    /// End a watch.
    Cancel(i64),
    /// Ask for a sign of life, answered by [`WatchMessage::Progress`]. A store may leave it unanswered while the
    /// stream has no watch, or one that is catching up: ask again before calling the stream dead.
    Progress,
}

/// What a watch stream tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchMessage {
    /// The watch is set: it will deliver every event after `header.revision`.
    Created {
        /// The watch.
        id: i64,
        /// When it was created.
        header: Header,
    },
    /// Changes, in order of revision; all changes of one revision are in one message.
    Events {
        /// The watch.
        id: i64,
        /// `header.revision` is at least the last event's.
        header: Header,
        /// The changes.
        events: Vec<WatchEvent>,
    },
    /// The store ended this watch: no permission, compacted, or cancelled by the engine.
    Canceled {
        /// The watch.
        id: i64,
        /// Why.
        error: StoreError,
    },
    /// The stream is alive.
    Progress(Header),
}

/// One change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// The key was created or changed.
    Put(KeyValue),
    /// The key was deleted, or its lease ended.
    Delete {
        /// The key.
        key: Vec<u8>,
        /// The revision of the deletion.
        revision: Revision,
    },
}

impl WatchEvent {
    /// The key, the lease that it is on now (0: deleted, or on none), and the revision of the change.
    pub(crate) fn outcome(&self) -> (&[u8], LeaseId, Revision) {
        match self {
            WatchEvent::Put(kv) => (&kv.key, kv.lease, kv.mod_revision),
            WatchEvent::Delete { key, revision } => (key, 0, *revision),
        }
    }
}

/// How a request failed. The engine decides by this alone what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It never left this process: nothing happened.
    NotSent,
    /// As `NotSent`, because TLS could not be agreed on: a certificate is wrong, expired or not trusted.
    Tls,
    /// It may have happened, may happen yet, or may never: no answer, or none that says.
    Unknown,
    /// The member has no raft leader, or the stream ended because of that.
    NoLeader,
    /// The lease does not exist (any more).
    LeaseNotFound,
    /// A lease of this id exists already.
    LeaseExists,
    /// The revision asked for has been compacted away.
    Compacted,
    /// User name or password are wrong, or a fresh token is refused too.
    Unauthenticated,
    /// The user may not do this.
    PermissionDenied,
    /// The store's space quota is used up (alarm NOSPACE). The request that hits the limit is applied all the same
    /// (`quotaApplierV3` in server/etcdserver/apply).
    NoSpace,
    /// More operations than the server takes in one transaction.
    TooManyOps,
    /// The request is larger than the server takes.
    TooLarge,
    /// The engine cancelled the watch itself.
    Canceled,
    /// Any other definite refusal: nothing happened, and asking again won't help.
    Refused,
}

impl Failure {
    /// The request may have taken effect, or may yet.
    pub fn is_unknown(self) -> bool {
        matches!(self, Failure::Unknown | Failure::NoLeader | Failure::NoSpace)
    }

    /// Worth asking again, here or at another endpoint.
    pub fn is_transient(self) -> bool {
        matches!(self, Failure::NotSent | Failure::Tls | Failure::Unknown | Failure::NoLeader)
    }
}

/// A failed request: its kind, and a sentence that names endpoint and reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// The kind.
    pub failure: Failure,
    /// What a person should read; never holds a password or key.
    pub message: String,
}

impl StoreError {
    /// An error of this kind.
    pub fn new(failure: Failure, message: impl Into<String>) -> Self {
        StoreError { failure, message: message.into() }
    }
}

/// The answer to a grant or keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseState {
    /// The header.
    pub header: Header,
    /// The time to live that the server gave, in seconds; more than was asked for if that was below its minimum.
    pub ttl_s: i64,
}

/// A store for elections. Every call ends within `timeout`: an answer that doesn't come in time is [`Failure::Unknown`]
/// (or [`Failure::NotSent`] where that is certain). Dropping a future gives up waiting and undoes nothing.
///
/// A store keeps to one endpoint and moves to the next when that one fails; it does not repeat a request, except
/// once after renewing an authentication token, where the server said that it did not act.
pub trait Store: Send + Sync + 'static {
    /// Grants a lease of this id and time to live.
    fn grant(
        &self,
        id: LeaseId,
        ttl_s: i64,
        timeout: Duration,
    ) -> impl Future<Output = Result<LeaseState, StoreError>> + Send;

    /// Renews a lease. A lease that is gone is [`Failure::LeaseNotFound`].
    fn keep_alive(&self, id: LeaseId, timeout: Duration)
    -> impl Future<Output = Result<LeaseState, StoreError>> + Send;

    /// Ends a lease and deletes its keys.
    fn revoke(&self, id: LeaseId, timeout: Duration) -> impl Future<Output = Result<Header, StoreError>> + Send;

    /// Runs a transaction.
    fn txn(&self, txn: Txn, timeout: Duration) -> impl Future<Output = Result<(Header, TxnResult), StoreError>> + Send;

    /// Reads, linearizably.
    fn range(
        &self,
        range: Range,
        timeout: Duration,
    ) -> impl Future<Output = Result<(Header, RangeResult), StoreError>> + Send;

    /// Runs one watch stream that carries any number of watches, until it breaks; the answer says why. Requests that
    /// are queued already are sent as soon as the stream is up. Dropping the future ends the stream. It ends, too,
    /// when the store leaves the endpoint that the stream is on.
    fn watch(
        &self,
        requests: mpsc::UnboundedReceiver<WatchRequest>,
        messages: mpsc::UnboundedSender<WatchMessage>,
    ) -> impl Future<Output = StoreError> + Send;

    /// Leaves the present endpoint for the next one: the engine has found it mute.
    fn rotate(&self, reason: &str);
}

/// The first key behind all keys that start with `prefix`, as [`Range::end`] wants it.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}
