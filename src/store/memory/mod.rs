//! The store in this process, for `memory://NAME`.
//!
//! It keeps etcd's rules (revisions, transactions, leases, watches), so that what works here works there. Nothing is
//! written to disk and no thread is started: every call does its work at once, on whichever runtime makes it, and
//! leases run on that runtime's clock. Services on different runtimes may share a store, unless one of them has paused
//! its clock: then they disagree on when a lease ends.
//!
//! An expired lease ends at the next access to the store, which no caller can tell from "at once"; where somebody
//! watches, the watch stream itself wakes up for it.

pub(crate) mod check;
pub(crate) mod history;
mod leases;
mod streams;

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::{
    Failure, Header, LeaseId, LeaseState, Range, RangeResult, Revision, Store, StoreError, Txn, TxnResult, WatchEvent,
    WatchMessage, WatchRequest,
};
use crate::process;
use history::History;
use leases::Leases;
use streams::Streams;

/// A store in this process. Every value is one client of it; [`Clone`] gives a further client of the same store.
///
/// It has one client's powers beside the [`Store`] trait's, for tests: [`compact`](Memory::compact),
/// [`break_watches`](Memory::break_watches) and [`rebuild`](Memory::rebuild).
pub struct Memory {
    shared: Arc<Shared>,
    /// Tells the watch streams of this client from those of others.
    client: u64,
}

struct Shared {
    /// How errors name the store.
    address: String,
    state: Mutex<State>,
    /// When the first lease ends. Announced (as a change) only when that is earlier than it was.
    next_expiry: watch::Sender<Option<Instant>>,
}

struct State {
    cluster_id: u64,
    history: History,
    leases: Leases,
    streams: Streams,
}

impl Memory {
    /// A store of its own, empty, reached only by clones of this value.
    pub fn new() -> Self {
        Memory::client(Shared::new("memory://"))
    }

    /// The store of this name in this process. It begins empty and lasts for as long as somebody has it: services
    /// opened one after another share one history if at least one of them is open at any time, else the next one
    /// finds a new cluster.
    pub fn named(name: &str) -> Self {
        let mut stores = registry();
        if let Some(shared) = stores.get(name).and_then(Weak::upgrade) {
            return Memory::client(shared);
        }
        stores.retain(|_, shared| shared.strong_count() > 0);
        let shared = Shared::new(&format!("memory://{name}"));
        stores.insert(name.to_owned(), Arc::downgrade(&shared));
        Memory::client(shared)
    }

    /// Forgets all revisions before this one: reading at them fails with [`Failure::Compacted`] from now on.
    ///
    /// # Errors
    /// [`Failure::Compacted`] if that has happened already, [`Failure::Refused`] if the revision is in the future.
    pub fn compact(&self, revision: Revision) -> Result<Header, StoreError> {
        self.act(|state| {
            state.history.compact(revision)?;
            Ok(state.header())
        })
    }

    /// Breaks every watch stream of every client, as a lost connection does. Nothing is delivered on them any more.
    pub fn break_watches(&self, failure: Failure) {
        let mut state = self.shared.lock();
        state.streams.break_all(|_| true, &self.shared.error(failure, "the watch streams were broken"));
    }

    /// Puts a new and empty cluster in the place of this one, as an administrator might do behind an address: another
    /// cluster id, first revision, no keys, no leases. Every watch stream breaks with [`Failure::Unknown`].
    pub fn rebuild(&self) {
        let mut state = self.shared.lock();
        state.streams.break_all(|_| true, &self.shared.error(Failure::Unknown, "the cluster was rebuilt"));
        *state = State { streams: mem::take(&mut state.streams), ..State::new() };
    }

    /// Leases that are there.
    #[cfg(test)]
    pub(crate) fn leases(&self) -> Vec<LeaseId> {
        let mut state = self.shared.lock();
        state.expire(now());
        state.leases.ids()
    }

    /// The keys that start with a prefix, in the order in which they were created.
    #[cfg(test)]
    pub(crate) fn keys(&self, prefix: &[u8]) -> Vec<super::KeyValue> {
        let mut state = self.shared.lock();
        state.expire(now());
        let range = Range {
            key: prefix.to_vec(),
            end: super::prefix_end(prefix),
            order: super::Order::CreateRevision,
            ..Range::default()
        };
        state.history.range(&range).map(|found| found.kvs).unwrap_or_default()
    }

    fn client(shared: Arc<Shared>) -> Self {
        static CLIENTS: AtomicU64 = AtomicU64::new(0);
        Memory { shared, client: CLIENTS.fetch_add(1, Ordering::Relaxed) }
    }

    fn act<T>(&self, act: impl FnOnce(&mut State) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut state = self.shared.lock();
        state.expire(now());
        let outcome = act(&mut state);
        self.shared.announce(state.leases.next_expiry());
        drop(state);
        outcome.map_err(|error| self.shared.error(error.failure, &error.message))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Memory::new()
    }
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        Memory::client(self.shared.clone())
    }
}

impl Store for Memory {
    async fn grant(&self, id: LeaseId, ttl_s: i64, _timeout: Duration) -> Result<LeaseState, StoreError> {
        self.act(|state| {
            let ttl_s = state.leases.grant(id, ttl_s, now())?;
            Ok(LeaseState { header: state.header(), ttl_s })
        })
    }

    async fn keep_alive(&self, id: LeaseId, _timeout: Duration) -> Result<LeaseState, StoreError> {
        self.act(|state| {
            let ttl_s = state.leases.renew(id, now())?;
            Ok(LeaseState { header: state.header(), ttl_s })
        })
    }

    async fn revoke(&self, id: LeaseId, _timeout: Duration) -> Result<Header, StoreError> {
        self.act(|state| {
            state.leases.remove(id)?;
            state.delete_keys_of(id);
            Ok(state.header())
        })
    }

    async fn txn(&self, txn: Txn, _timeout: Duration) -> Result<(Header, TxnResult), StoreError> {
        self.act(|state| {
            check::txn(&txn)?;
            let plan = state.history.plan(txn, &|lease| state.leases.contains(lease))?;
            let (result, events) = state.history.run(plan);
            state.publish(&events);
            Ok((state.header(), result))
        })
    }

    async fn range(&self, range: Range, _timeout: Duration) -> Result<(Header, RangeResult), StoreError> {
        self.act(|state| {
            check::key(&range.key)?;
            Ok((state.header(), state.history.range(&range)?))
        })
    }

    async fn watch(
        &self,
        mut requests: mpsc::UnboundedReceiver<WatchRequest>,
        messages: mpsc::UnboundedSender<WatchMessage>,
    ) -> StoreError {
        let unwanted = || self.shared.error(Failure::Canceled, "the watch stream is not wanted any more");
        let (stream, mut broken) = self.open_stream(messages.clone());
        let mut next_expiry = self.shared.next_expiry.subscribe();
        loop {
            let expiry = *next_expiry.borrow_and_update();
            tokio::select! {
                biased;
                end = &mut broken => {
                    return end.unwrap_or_else(|_| self.shared.error(Failure::Unknown, "the watch stream ended"));
                }
                request = requests.recv() => match request {
                    Some(request) => self.shared.serve(stream.id, request),
                    None => return unwanted(),
                },
                () = messages.closed() => return unwanted(),
                // Another lease is the first one to end now.
                _ = next_expiry.changed() => {}
                () = until(expiry) => self.shared.expire(),
            }
        }
    }

    fn rotate(&self, reason: &str) {
        let error = self.shared.error(Failure::Unknown, reason);
        self.shared.lock().streams.break_all(|client| client == self.client, &error);
    }
}

impl Memory {
    fn open_stream(
        &self,
        messages: mpsc::UnboundedSender<WatchMessage>,
    ) -> (OpenStream<'_>, oneshot::Receiver<StoreError>) {
        let (broken, on_broken) = oneshot::channel();
        let id = self.shared.lock().streams.open(self.client, messages, broken);
        (OpenStream { shared: &self.shared, id }, on_broken)
    }
}

/// A watch stream whose future lives.
struct OpenStream<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for OpenStream<'_> {
    fn drop(&mut self) {
        self.shared.lock().streams.close(self.id);
    }
}

impl Shared {
    fn new(address: &str) -> Arc<Self> {
        Arc::new(Shared {
            address: address.to_owned(),
            state: Mutex::new(State::new()),
            next_expiry: watch::Sender::new(None),
        })
    }

    /// Nothing panics while it holds the lock, unless memory runs out.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, failure: Failure, message: &str) -> StoreError {
        StoreError::new(failure, format!("{}: {message}", self.address))
    }

    /// Acts on a request of a watch stream.
    fn serve(&self, stream: u64, request: WatchRequest) {
        let mut state = self.lock();
        state.expire(now());
        let header = state.header();
        state.streams.serve(stream, request, header, |failure, message| self.error(failure, message));
        self.announce(state.leases.next_expiry());
    }

    fn expire(&self) {
        let mut state = self.lock();
        state.expire(now());
        self.announce(state.leases.next_expiry());
    }

    /// Wakes the watch streams if they would sleep too long. Called with the state locked, so that an older time
    /// cannot overtake a newer one.
    fn announce(&self, next_expiry: Option<Instant>) {
        self.next_expiry.send_if_modified(|known| {
            let earlier = match (next_expiry, *known) {
                (Some(next), Some(known)) => next < known,
                (Some(_), None) => true,
                (None, _) => false,
            };
            *known = next_expiry;
            earlier
        });
    }
}

impl State {
    fn new() -> Self {
        static CLUSTERS: AtomicU64 = AtomicU64::new(1);
        State {
            cluster_id: CLUSTERS.fetch_add(1, Ordering::Relaxed),
            history: History::new(),
            leases: Leases::default(),
            streams: Streams::default(),
        }
    }

    fn header(&self) -> Header {
        Header { cluster_id: self.cluster_id, revision: self.history.revision() }
    }

    /// Ends the leases that are due, each at a revision of its own.
    fn expire(&mut self, now: Instant) {
        while let Some(id) = self.leases.take_expired(now) {
            self.delete_keys_of(id);
        }
    }

    fn delete_keys_of(&mut self, lease: LeaseId) {
        let events = self.history.delete_keys_of(lease);
        self.publish(&events);
    }

    fn publish(&mut self, events: &[WatchEvent]) {
        let header = self.header();
        self.streams.publish(header, events);
    }
}

/// The stores of one process, by name.
pub(crate) struct Registry(Mutex<BTreeMap<String, Weak<Shared>>>);

impl Registry {
    pub(crate) const fn new() -> Self {
        Registry(Mutex::new(BTreeMap::new()))
    }
}

fn registry() -> MutexGuard<'static, BTreeMap<String, Weak<Shared>>> {
    process::level().stores.0.lock().unwrap_or_else(PoisonError::into_inner)
}

#[allow(clippy::disallowed_methods, reason = "this store's leases run on the runtime's clock, as etcd's on etcd's")]
fn now() -> Instant {
    Instant::now()
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
