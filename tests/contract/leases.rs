//! Leases: their time, their keys, their end.

use std::time::Duration;

use tenure::store::{Failure, LeaseState, Store, WatchEvent};
use tokio::time::Instant;

use super::*;

/// The shortest time to live of a server with default timing.
const MIN_TTL_S: i64 = 2;
const MIN_TTL: Duration = Duration::from_secs(MIN_TTL_S.unsigned_abs());

#[allow(clippy::disallowed_methods, reason = "the paused clock of the test's runtime, or the real one")]
fn now() -> Instant {
    Instant::now()
}

async fn grant_failure<S: Store>(store: &S, id: LeaseId, ttl_s: i64) -> Failure {
    store.grant(id, ttl_s, TIMEOUT).await.unwrap_err().failure
}

async fn revoke<S: Store>(store: &S, id: LeaseId) -> Header {
    store.revoke(id, TIMEOUT).await.unwrap()
}

pub(crate) async fn a_grant_gives_the_time_that_was_asked_for<S: Store>(store: &S, _: &impl Admin) {
    let LeaseState { header, ttl_s } = store.grant(unique(), 17, TIMEOUT).await.unwrap();
    assert_eq!(ttl_s, 17);
    assert_eq!(header.revision, revision(store).await);
}

pub(crate) async fn a_short_time_to_live_is_raised<S: Store>(store: &S, _: &impl Admin) {
    for ttl_s in [1, 0, -1] {
        assert_eq!(store.grant(unique(), ttl_s, TIMEOUT).await.unwrap().ttl_s, MIN_TTL_S, "{ttl_s} s");
    }
}

pub(crate) async fn an_absurd_time_to_live_is_refused<S: Store>(store: &S, _: &impl Admin) {
    assert_eq!(grant_failure(store, unique(), 9_000_000_001).await, Failure::Refused);
    let longest = grant(store, 9_000_000_000).await;
    assert_eq!(store.keep_alive(longest, TIMEOUT).await.unwrap().ttl_s, 9_000_000_000);
}

pub(crate) async fn a_granted_id_exists<S: Store>(store: &S, _: &impl Admin) {
    let id = grant(store, LONG_S).await;
    assert_eq!(grant_failure(store, id, LONG_S).await, Failure::LeaseExists);
    assert_eq!(grant_failure(store, id, LONG_S + 1).await, Failure::LeaseExists);
    assert_eq!(store.keep_alive(id, TIMEOUT).await.unwrap().ttl_s, LONG_S);
}

pub(crate) async fn a_revoked_id_can_be_granted_again<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let id = grant(store, LONG_S).await;
    leased_put(store, &space.key("a"), id).await;
    revoke(store, id).await;
    assert_eq!(store.grant(id, 30, TIMEOUT).await.unwrap().ttl_s, 30);
    assert_eq!(get(store, &space.key("a")).await, None);
}

pub(crate) async fn renewing_answers_the_time_to_live<S: Store>(store: &S, _: &impl Admin) {
    let id = grant(store, 23).await;
    let renewed = store.keep_alive(id, TIMEOUT).await.unwrap();
    assert_eq!(renewed.ttl_s, 23);
    assert_eq!(renewed.header.revision, revision(store).await);
}

pub(crate) async fn an_unknown_lease_is_not_found<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let revoked = grant(store, LONG_S).await;
    revoke(store, revoked).await;
    for id in [unique(), revoked] {
        assert_eq!(store.keep_alive(id, TIMEOUT).await.unwrap_err().failure, Failure::LeaseNotFound);
        assert_eq!(store.revoke(id, TIMEOUT).await.unwrap_err().failure, Failure::LeaseNotFound);
        let txn = always(vec![leased_put_op(&space.key("a"), id)]);
        assert_eq!(refused(store, txn).await, Failure::LeaseNotFound);
    }
}

pub(crate) async fn leases_without_keys_make_no_revision<S: Store>(store: &S, _: &impl Admin) {
    let before = revision(store).await;
    let id = grant(store, LONG_S).await;
    store.keep_alive(id, TIMEOUT).await.unwrap();
    assert_eq!(revoke(store, id).await.revision, before);
    assert_eq!(revision(store).await, before);
}

pub(crate) async fn revoking_deletes_the_keys_at_one_revision<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let (id, other) = (grant(store, LONG_S).await, grant(store, LONG_S).await);
    leased_put(store, &space.key("a"), id).await;
    leased_put(store, &space.key("b"), other).await;
    leased_put(store, &space.key("c"), id).await;
    let before = put(store, &space.key("d"), "1").await;
    let header = revoke(store, id).await;
    assert_eq!(header.revision, before + 1);
    assert_eq!(space.names(&read(store, space.range()).await), ["b", "d"]);
    assert_eq!(revision(store).await, header.revision);
}

pub(crate) async fn putting_without_a_lease_detaches_the_key<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    let id = grant(store, LONG_S).await;
    leased_put(store, &key, id).await;
    assert_eq!(get(store, &key).await.unwrap().lease, id);
    put(store, &key, "1").await;
    assert_eq!(get(store, &key).await.unwrap().lease, 0);
    revoke(store, id).await;
    assert!(get(store, &key).await.is_some());
}

pub(crate) async fn putting_with_another_lease_moves_the_key<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    let (old, new) = (grant(store, LONG_S).await, grant(store, LONG_S).await);
    let created = leased_put(store, &key, old).await;
    leased_put(store, &key, new).await;
    revoke(store, old).await;
    let kv = get(store, &key).await.unwrap();
    assert_eq!((kv.lease, kv.create_revision), (new, created));
    revoke(store, new).await;
    assert_eq!(get(store, &key).await, None);
}

pub(crate) async fn deleting_a_key_leaves_its_lease<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    let id = grant(store, LONG_S).await;
    leased_put(store, &key, id).await;
    delete(store, &key).await;
    store.keep_alive(id, TIMEOUT).await.unwrap();
    let before = put(store, &key, "1").await;
    assert_eq!(revoke(store, id).await.revision, before, "the key is not the lease's any more");
}

pub(crate) async fn expiry_deletes_the_keys_and_watchers_see_it<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    watching(store, async |stream| {
        stream.create_on(1, &space).await;
        let granted = now();
        let id = grant(store, MIN_TTL_S).await;
        let both = vec![leased_put_op(&space.key("b"), id), leased_put_op(&space.key("a"), id)];
        let (header, _) = run(store, always(both)).await;
        assert_eq!(stream.events(1).await.len(), 2);
        let revision = header.revision + 1;
        let events = stream.events(1).await;
        let deleted = |name| WatchEvent::Delete { key: space.key(name), revision };
        assert_eq!(events, [deleted("a"), deleted("b")]);
        let passed = now() - granted;
        assert!(passed >= MIN_TTL, "{passed:?}");
        assert!(read(store, space.range()).await.kvs.is_empty());
        assert_eq!(store.keep_alive(id, TIMEOUT).await.unwrap_err().failure, Failure::LeaseNotFound);
    })
    .await;
}

pub(crate) async fn renewing_postpones_expiry<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let ttl = 2 * MIN_TTL;
    watching(store, async |stream| {
        stream.create_on(1, &space).await;
        let id = grant(store, 2 * MIN_TTL_S).await;
        leased_put(store, &space.key("a"), id).await;
        stream.event(1).await;
        let mut renewed = now();
        for _ in 0..2 {
            let event = tokio::time::timeout(ttl * 6 / 10, stream.messages.recv()).await;
            assert!(event.is_err(), "{event:?}");
            renewed = now();
            store.keep_alive(id, TIMEOUT).await.unwrap();
        }
        let event = stream.event(1).await;
        assert_eq!(event_key(&event), space.key("a"));
        let passed = now() - renewed;
        assert!(passed >= ttl, "{passed:?}");
    })
    .await;
}
