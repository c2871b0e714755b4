//! The behaviours, and the words to write them in. Each works in a key space of its own and may share the store with
//! others that ran before it, but not with any that runs at the same time.

pub(crate) mod leases;
pub(crate) mod limits;
pub(crate) mod reads;
pub(crate) mod txns;
pub(crate) mod watches;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tenure::store::{
    Compare, Failure, Header, KeyValue, LeaseId, Op, OpResult, Range, RangeResult, Revision, Store, StoreError, Txn,
    TxnResult, WatchEvent, WatchMessage, WatchRequest, prefix_end,
};
use tokio::sync::mpsc;

/// Calls `$run!` with all behaviours.
macro_rules! for_each_behaviour {
    ($run:ident) => {
        $run! {
            txns:
                joining_alone_wins_in_one_transaction
                joining_behind_another_shows_the_first
                joining_again_changes_nothing
                conditions_must_all_hold
                a_missing_key_has_create_revision_zero
                the_lease_of_a_key_can_be_a_condition
                the_last_change_of_a_key_can_be_a_condition
                a_change_keeps_the_create_revision
                a_key_created_anew_has_a_new_create_revision
                changes_of_one_transaction_share_its_revision
                inner_transactions_share_the_revision
                inner_conditions_are_judged_before_anything_is_done
                an_inner_condition_that_fails_undoes_nothing
                a_read_sees_what_its_transaction_did_so_far
                a_past_read_sees_nothing_of_its_transaction
                what_changes_nothing_keeps_the_revision
                deleting_twice_deletes_once
                a_key_is_not_changed_twice
                branches_of_an_inner_transaction_may_put_the_same_key
                a_later_inner_transaction_may_delete_what_an_earlier_one_put
                a_refused_transaction_does_nothing
                an_unknown_lease_matters_only_in_the_branch_taken
                a_transaction_may_only_compare
                every_answer_names_the_cluster;
            reads:
                a_range_without_end_is_one_key
                a_prefix_is_read_without_its_neighbours
                prefix_end_covers_exactly_the_prefix
                an_end_of_zero_means_to_the_end
                an_end_before_the_key_means_nothing
                keys_come_in_order
                create_revisions_come_in_order
                keys_of_one_revision_come_in_order_of_key
                a_limit_says_whether_there_is_more
                a_limit_counts_after_ordering
                pages_at_one_revision_fit_together
                keys_alone_come_without_values
                the_past_can_be_read
                the_future_cannot_be_read
                what_was_compacted_cannot_be_read
                compaction_keeps_what_is_there;
            limits:
                too_many_operations_are_refused
                inner_transactions_share_the_limit_with_the_outer_one
                a_large_value_passes_and_a_larger_one_is_refused
                empty_keys_are_refused;
            leases:
                a_grant_gives_the_time_that_was_asked_for
                a_short_time_to_live_is_raised
                an_absurd_time_to_live_is_refused
                a_granted_id_exists
                a_revoked_id_can_be_granted_again
                renewing_answers_the_time_to_live
                an_unknown_lease_is_not_found
                leases_without_keys_make_no_revision
                revoking_deletes_the_keys_at_one_revision
                putting_without_a_lease_detaches_the_key
                putting_with_another_lease_moves_the_key
                deleting_a_key_leaves_its_lease
                expiry_deletes_the_keys_and_watchers_see_it
                renewing_postpones_expiry;
            watches:
                a_watch_begins_now
                requests_queued_before_the_stream_are_served
                a_put_tells_the_whole_key
                every_put_is_an_event
                what_changes_nothing_is_no_event
                a_watch_of_one_key_hears_of_no_other
                a_watch_of_a_prefix_hears_of_no_neighbour
                a_watch_to_the_end_hears_of_everything_behind
                watches_of_one_stream_hear_each_their_own
                overlapping_watches_both_hear
                streams_are_independent
                changes_of_one_revision_come_together
                the_keys_of_a_lease_go_together
                revisions_come_in_order
                a_cancelled_watch_falls_silent
                cancelling_an_unknown_watch_is_no_matter
                a_watch_of_nothing_is_refused
                progress_is_answered
                a_dropped_stream_lets_go
                a_stream_without_requests_ends
                a_stream_without_listener_ends
                leaving_the_endpoint_ends_the_stream;
        }
    };
}
pub(crate) use for_each_behaviour;

/// For requests that are expected to be answered at once.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any test runs, in seconds.
pub(crate) const LONG_S: i64 = 600;

/// What an administrator can do and a [`Store`] can't.
pub(crate) trait Admin {
    /// Makes the store forget the revisions before this one.
    async fn compact(&self, revision: Revision);
}

/// Keys that no other behaviour uses.
pub(crate) struct Space(Vec<u8>);

impl Space {
    pub(crate) fn new() -> Self {
        Space(format!("contract/{}/", unique()).into_bytes())
    }

    pub(crate) fn prefix(&self) -> Vec<u8> {
        self.0.clone()
    }

    pub(crate) fn end(&self) -> Vec<u8> {
        prefix_end(&self.0)
    }

    pub(crate) fn key(&self, name: &str) -> Vec<u8> {
        [&self.0, name.as_bytes()].concat()
    }

    /// All keys.
    pub(crate) fn range(&self) -> Range {
        Range { key: self.prefix(), end: self.end(), ..Range::default() }
    }

    /// The names of keys.
    pub(crate) fn names(&self, result: &RangeResult) -> Vec<String> {
        let name = |kv: &KeyValue| String::from_utf8(kv.key[self.0.len()..].to_vec()).unwrap();
        result.kvs.iter().map(name).collect()
    }
}

/// A number that was not used before, a lease id for instance.
pub(crate) fn unique() -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(0x7e57_0000);
    LAST.fetch_add(1, Ordering::Relaxed)
}

pub(crate) fn missing(key: &[u8]) -> Compare {
    Compare::CreateRevision(key.to_vec(), 0)
}

pub(crate) fn put_op(key: &[u8], value: &str) -> Op {
    Op::Put { key: key.to_vec(), value: value.into(), lease: 0 }
}

pub(crate) fn leased_put_op(key: &[u8], lease: LeaseId) -> Op {
    Op::Put { key: key.to_vec(), value: b"leased".to_vec(), lease }
}

pub(crate) fn delete_op(key: &[u8]) -> Op {
    Op::Delete(key.to_vec())
}

pub(crate) fn get_op(key: &[u8]) -> Op {
    Op::Range(one(key))
}

pub(crate) fn one(key: &[u8]) -> Range {
    Range { key: key.to_vec(), ..Range::default() }
}

/// A transaction without conditions.
pub(crate) fn always(then: Vec<Op>) -> Txn {
    Txn { then, ..Txn::default() }
}

pub(crate) fn inner(then: Vec<Op>) -> Op {
    Op::Txn(always(then))
}

pub(crate) async fn run<S: Store>(store: &S, txn: Txn) -> (Header, TxnResult) {
    store.txn(txn, TIMEOUT).await.unwrap()
}

pub(crate) async fn refused<S: Store>(store: &S, txn: Txn) -> Failure {
    store.txn(txn, TIMEOUT).await.unwrap_err().failure
}

/// Answers the revision of the change.
pub(crate) async fn put<S: Store>(store: &S, key: &[u8], value: &str) -> Revision {
    run(store, always(vec![put_op(key, value)])).await.0.revision
}

pub(crate) async fn leased_put<S: Store>(store: &S, key: &[u8], lease: LeaseId) -> Revision {
    run(store, always(vec![leased_put_op(key, lease)])).await.0.revision
}

/// Answers the revision of the change.
pub(crate) async fn delete<S: Store>(store: &S, key: &[u8]) -> Revision {
    let (header, result) = run(store, always(vec![delete_op(key)])).await;
    assert_eq!(result.results, [OpResult::Delete(1)]);
    header.revision
}

pub(crate) async fn read<S: Store>(store: &S, range: Range) -> RangeResult {
    store.range(range, TIMEOUT).await.unwrap().1
}

pub(crate) async fn get<S: Store>(store: &S, key: &[u8]) -> Option<KeyValue> {
    read(store, one(key)).await.kvs.pop()
}

pub(crate) async fn revision<S: Store>(store: &S) -> Revision {
    store.range(one(b"contract"), TIMEOUT).await.unwrap().0.revision
}

/// A new lease.
pub(crate) async fn grant<S: Store>(store: &S, ttl_s: i64) -> LeaseId {
    let id = unique();
    store.grant(id, ttl_s, TIMEOUT).await.unwrap();
    id
}

/// The test's end of a watch stream.
pub(crate) struct Stream {
    pub(crate) requests: mpsc::UnboundedSender<WatchRequest>,
    pub(crate) messages: mpsc::UnboundedReceiver<WatchMessage>,
}

/// Runs a watch stream for as long as `story` goes on. The stream must not end before.
pub(crate) async fn watching<S: Store>(store: &S, story: impl AsyncFnOnce(&mut Stream)) {
    let (requests, queue) = mpsc::unbounded_channel();
    let (sink, messages) = mpsc::unbounded_channel();
    let mut stream = Stream { requests, messages };
    tokio::select! {
        biased;
        () = story(&mut stream) => {}
        error = store.watch(queue, sink) => panic!("the stream ended: {error}"),
    }
}

/// Runs a watch stream to its end, which `story` brings about; it must keep its end of the stream.
pub(crate) async fn watch_until_end<S: Store>(
    store: &S,
    story: impl AsyncFnOnce(Stream) -> Option<Stream>,
) -> StoreError {
    let (requests, queue) = mpsc::unbounded_channel();
    let (sink, messages) = mpsc::unbounded_channel();
    let both = async { tokio::join!(store.watch(queue, sink), story(Stream { requests, messages })) };
    tokio::time::timeout(TIMEOUT, both).await.expect("the stream goes on").0
}

impl Stream {
    pub(crate) fn ask(&self, request: WatchRequest) {
        self.requests.send(request).unwrap();
    }

    pub(crate) async fn next(&mut self) -> WatchMessage {
        let message = tokio::time::timeout(TIMEOUT, self.messages.recv()).await;
        message.expect("no message").expect("the stream ended")
    }

    /// Starts a watch and waits until it is set.
    pub(crate) async fn create(&mut self, id: i64, key: Vec<u8>, end: Vec<u8>) -> Header {
        self.ask(WatchRequest::Create { id, key, end });
        match self.next().await {
            WatchMessage::Created { id: created, header } if created == id => header,
            other => panic!("watch {id} was not created: {other:?}"),
        }
    }

    /// Watches the whole space.
    pub(crate) async fn create_on(&mut self, id: i64, space: &Space) -> Header {
        self.create(id, space.prefix(), space.end()).await
    }

    /// The next message, which has events for this watch.
    pub(crate) async fn events(&mut self, id: i64) -> Vec<WatchEvent> {
        match self.next().await {
            WatchMessage::Events { id: told, header, events } if told == id => {
                assert!(header.revision >= events.iter().map(event_revision).max().unwrap());
                events
            }
            other => panic!("no events for watch {id}: {other:?}"),
        }
    }

    /// The next message, which has one event for this watch.
    pub(crate) async fn event(&mut self, id: i64) -> WatchEvent {
        let mut events = self.events(id).await;
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }
}

pub(crate) fn event_key(event: &WatchEvent) -> &[u8] {
    match event {
        WatchEvent::Put(kv) => &kv.key,
        WatchEvent::Delete { key, .. } => key,
    }
}

pub(crate) fn event_revision(event: &WatchEvent) -> Revision {
    match event {
        WatchEvent::Put(kv) => kv.mod_revision,
        WatchEvent::Delete { revision, .. } => *revision,
    }
}
