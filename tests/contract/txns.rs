//! Transactions: conditions, changes, revisions.

use tenure::store::{Compare, Failure, LeaseId, Op, OpResult, Order, Range, RangeResult, Store, Txn, TxnResult};

use super::*;

/// The transaction that joins an election: put the own key if it is missing, read who is first.
fn join(space: &Space, name: &str, lease: LeaseId) -> Txn {
    let own = space.key(name);
    let first = Range { limit: 1, order: Order::CreateRevision, ..space.range() };
    Txn {
        compares: vec![missing(&own)],
        then: vec![leased_put_op(&own, lease), Op::Range(first.clone())],
        otherwise: vec![get_op(&own), Op::Range(first)],
    }
}

fn range_result(result: &OpResult) -> &RangeResult {
    match result {
        OpResult::Range(range) => range,
        other => panic!("not a read: {other:?}"),
    }
}

fn txn_result(result: &OpResult) -> &TxnResult {
    match result {
        OpResult::Txn(txn) => txn,
        other => panic!("not a transaction: {other:?}"),
    }
}

pub(crate) async fn joining_alone_wins_in_one_transaction<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let lease = grant(store, LONG_S).await;
    let before = revision(store).await;
    let (header, result) = run(store, join(&space, "a", lease)).await;
    assert_eq!(header.revision, before + 1);
    assert!(result.succeeded);
    assert_eq!(result.results[0], OpResult::Put);
    let first = &range_result(&result.results[1]).kvs[0];
    assert_eq!(first.key, space.key("a"));
    assert_eq!((first.create_revision, first.mod_revision), (header.revision, header.revision));
    assert_eq!(first.lease, lease);
}

pub(crate) async fn joining_behind_another_shows_the_first<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let lease = grant(store, LONG_S).await;
    run(store, join(&space, "b", lease)).await;
    let (_, result) = run(store, join(&space, "a", lease)).await;
    let first = range_result(&result.results[1]);
    assert_eq!(space.names(first), ["b"]);
    assert!(first.more);
}

pub(crate) async fn joining_again_changes_nothing<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let lease = grant(store, LONG_S).await;
    let (joined, _) = run(store, join(&space, "a", lease)).await;
    let (header, result) = run(store, join(&space, "a", lease)).await;
    assert_eq!(header.revision, joined.revision);
    assert!(!result.succeeded);
    assert_eq!(range_result(&result.results[0]).kvs[0].create_revision, joined.revision);
    assert_eq!(space.names(range_result(&result.results[1])), ["a"]);
}

pub(crate) async fn conditions_must_all_hold<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let (a, b) = (space.key("a"), space.key("b"));
    let created = put(store, &a, "1").await;
    let holds = Compare::CreateRevision(a.clone(), created);
    let fails = Compare::CreateRevision(b.clone(), created);
    let attempt = |compares: Vec<Compare>| Txn { compares, then: vec![], otherwise: vec![get_op(&a)] };
    assert!(run(store, attempt(vec![])).await.1.succeeded);
    assert!(run(store, attempt(vec![holds.clone(), missing(&b)])).await.1.succeeded);
    let (_, result) = run(store, attempt(vec![holds, fails])).await;
    assert!(!result.succeeded);
    assert_eq!(result.results.len(), 1);
}

pub(crate) async fn a_missing_key_has_create_revision_zero<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    let attempt = || Txn { compares: vec![missing(&key)], ..Txn::default() };
    assert!(run(store, attempt()).await.1.succeeded);
    put(store, &key, "1").await;
    assert!(!run(store, attempt()).await.1.succeeded);
    delete(store, &key).await;
    assert!(run(store, attempt()).await.1.succeeded);
}

pub(crate) async fn the_lease_of_a_key_can_be_a_condition<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    let lease = grant(store, LONG_S).await;
    let attached = async |lease| {
        let compares = vec![Compare::Lease(key.clone(), lease)];
        run(store, Txn { compares, ..Txn::default() }).await.1.succeeded
    };
    assert!(attached(0).await, "a missing key has no lease");
    assert!(!attached(lease).await);
    leased_put(store, &key, lease).await;
    assert!(attached(lease).await);
    assert!(!attached(lease + 1).await);
    assert!(!attached(0).await);
}

pub(crate) async fn the_last_change_of_a_key_can_be_a_condition<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    let unchanged = async |since| {
        let compares = vec![Compare::ModRevision(key.clone(), since)];
        run(store, Txn { compares, ..Txn::default() }).await.1.succeeded
    };
    assert!(unchanged(0).await, "a missing key");
    let created = put(store, &key, "1").await;
    assert!(unchanged(created).await);
    let changed = put(store, &key, "2").await;
    assert!(!unchanged(created).await && unchanged(changed).await);
}

pub(crate) async fn a_change_keeps_the_create_revision<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    let created = put(store, &key, "1").await;
    let changed = put(store, &key, "2").await;
    assert_eq!(changed, created + 1);
    let kv = get(store, &key).await.unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision), (created, changed));
    assert_eq!(kv.value, b"2");
}

pub(crate) async fn a_key_created_anew_has_a_new_create_revision<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    put(store, &key, "1").await;
    delete(store, &key).await;
    let created = put(store, &key, "1").await;
    assert_eq!(get(store, &key).await.unwrap().create_revision, created);
}

pub(crate) async fn changes_of_one_transaction_share_its_revision<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    put(store, &space.key("gone"), "1").await;
    let before = revision(store).await;
    let ops = vec![put_op(&space.key("b"), "1"), delete_op(&space.key("gone")), put_op(&space.key("a"), "1")];
    let (header, result) = run(store, always(ops)).await;
    assert_eq!(header.revision, before + 1);
    assert_eq!(result.results, [OpResult::Put, OpResult::Delete(1), OpResult::Put]);
    let kvs = read(store, space.range()).await.kvs;
    assert!(kvs.iter().all(|kv| kv.create_revision == header.revision && kv.mod_revision == header.revision));
    assert_eq!(kvs.len(), 2);
}

pub(crate) async fn inner_transactions_share_the_revision<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let before = revision(store).await;
    let deepest = inner(vec![put_op(&space.key("c"), "1")]);
    let ops = vec![
        inner(vec![put_op(&space.key("a"), "1")]),
        inner(vec![put_op(&space.key("b"), "1"), deepest]),
        put_op(&space.key("d"), "1"),
    ];
    let (header, result) = run(store, always(ops)).await;
    assert_eq!(header.revision, before + 1);
    assert_eq!(txn_result(&result.results[1]).results.len(), 2);
    let kvs = read(store, space.range()).await.kvs;
    assert_eq!(kvs.len(), 4);
    assert!(kvs.iter().all(|kv| kv.create_revision == header.revision));
}

pub(crate) async fn inner_conditions_are_judged_before_anything_is_done<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let (a, b) = (space.key("a"), space.key("b"));
    let if_missing = |key: &[u8], op| Op::Txn(Txn { compares: vec![missing(key)], then: vec![op], otherwise: vec![] });
    let ops = vec![if_missing(&a, put_op(&a, "1")), if_missing(&a, put_op(&b, "1"))];
    let (_, result) = run(store, always(ops)).await;
    assert!(txn_result(&result.results[0]).succeeded);
    assert!(txn_result(&result.results[1]).succeeded, "the first inner put is not seen by the second's condition");
    assert_eq!(read(store, space.range()).await.kvs.len(), 2);
}

pub(crate) async fn an_inner_condition_that_fails_undoes_nothing<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let (a, b) = (space.key("a"), space.key("b"));
    put(store, &a, "1").await;
    let fails = Op::Txn(Txn { compares: vec![missing(&a)], then: vec![delete_op(&a)], otherwise: vec![get_op(&a)] });
    let (_, result) = run(store, always(vec![inner(vec![put_op(&b, "1")]), fails])).await;
    assert!(result.succeeded);
    let failed = txn_result(&result.results[1]);
    assert!(!failed.succeeded);
    assert_eq!(range_result(&failed.results[0]).kvs[0].value, b"1");
    assert_eq!(space.names(&read(store, space.range()).await), ["a", "b"]);
}

pub(crate) async fn a_read_sees_what_its_transaction_did_so_far<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let (a, b) = (space.key("a"), space.key("b"));
    put(store, &b, "old").await;
    let ops = vec![get_op(&a), put_op(&a, "new"), inner(vec![get_op(&a)]), delete_op(&b), get_op(&b)];
    let (header, result) = run(store, always(ops)).await;
    assert!(range_result(&result.results[0]).kvs.is_empty());
    let seen = &range_result(&txn_result(&result.results[2]).results[0]).kvs[0];
    assert_eq!((seen.value.as_slice(), seen.mod_revision), (b"new".as_slice(), header.revision));
    assert!(range_result(&result.results[4]).kvs.is_empty());
}

pub(crate) async fn a_past_read_sees_nothing_of_its_transaction<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    let before = put(store, &key, "old").await;
    let past = Op::Range(Range { revision: before, ..one(&key) });
    let (_, result) = run(store, always(vec![put_op(&key, "new"), past])).await;
    assert_eq!(range_result(&result.results[1]).kvs[0].value, b"old");
    let future = Op::Range(Range { revision: before + 2, ..one(&key) });
    assert_eq!(refused(store, always(vec![put_op(&key, "newer"), future])).await, Failure::Refused);
    assert_eq!(get(store, &key).await.unwrap().value, b"new");
}

pub(crate) async fn what_changes_nothing_keeps_the_revision<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let before = revision(store).await;
    let (header, result) = run(store, always(vec![delete_op(&space.key("a")), get_op(&space.key("a"))])).await;
    assert_eq!(header.revision, before);
    assert_eq!(result.results[0], OpResult::Delete(0));
    let (header, result) = run(store, Txn::default()).await;
    assert_eq!(header.revision, before);
    assert_eq!(result, TxnResult { succeeded: true, results: vec![] });
}

pub(crate) async fn deleting_twice_deletes_once<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    put(store, &key, "1").await;
    let (_, result) = run(store, always(vec![delete_op(&key), delete_op(&key)])).await;
    assert_eq!(result.results, [OpResult::Delete(1), OpResult::Delete(0)]);
}

pub(crate) async fn a_key_is_not_changed_twice<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    let (put, delete) = (put_op(&key, "1"), delete_op(&key));
    let twice = [
        vec![put.clone(), put.clone()],
        vec![put.clone(), delete.clone()],
        vec![delete.clone(), put.clone()],
        vec![put.clone(), inner(vec![put.clone()])],
        vec![put.clone(), inner(vec![delete.clone()])],
        vec![delete.clone(), inner(vec![put.clone()])],
        vec![inner(vec![put.clone()]), delete.clone()],
        vec![inner(vec![put.clone()]), inner(vec![put.clone()])],
        vec![inner(vec![delete]), inner(vec![put.clone()])],
    ];
    for ops in twice {
        assert_eq!(refused(store, always(ops.clone())).await, Failure::Refused, "{ops:?}");
        let not_taken = Txn { otherwise: ops.clone(), ..Txn::default() };
        assert_eq!(refused(store, not_taken).await, Failure::Refused, "not taken: {ops:?}");
    }
    let either = Txn { compares: vec![], then: vec![put.clone()], otherwise: vec![put] };
    run(store, either).await;
}

pub(crate) async fn branches_of_an_inner_transaction_may_put_the_same_key<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    let both = Txn { compares: vec![missing(&key)], then: vec![put_op(&key, "1")], otherwise: vec![put_op(&key, "2")] };
    run(store, always(vec![Op::Txn(both.clone())])).await;
    assert_eq!(get(store, &key).await.unwrap().value, b"1");
    run(store, always(vec![Op::Txn(both.clone())])).await;
    assert_eq!(get(store, &key).await.unwrap().value, b"2");
    assert_eq!(refused(store, always(vec![Op::Txn(both.clone()), Op::Txn(both)])).await, Failure::Refused);
}

pub(crate) async fn a_later_inner_transaction_may_delete_what_an_earlier_one_put<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    let before = revision(store).await;
    let ops = vec![inner(vec![put_op(&key, "1")]), inner(vec![delete_op(&key)]), get_op(&key)];
    let (header, result) = run(store, always(ops)).await;
    assert_eq!(header.revision, before + 1);
    assert_eq!(txn_result(&result.results[1]).results, [OpResult::Delete(1)]);
    assert!(range_result(&result.results[2]).kvs.is_empty());
    assert_eq!(get(store, &key).await, None);
    assert!(read(store, Range { revision: header.revision, ..one(&key) }).await.kvs.is_empty());
}

pub(crate) async fn a_refused_transaction_does_nothing<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let before = revision(store).await;
    let ops = vec![put_op(&space.key("a"), "1"), inner(vec![leased_put_op(&space.key("b"), unique())])];
    assert_eq!(refused(store, always(ops)).await, Failure::LeaseNotFound);
    assert_eq!(revision(store).await, before);
    assert!(read(store, space.range()).await.kvs.is_empty());
}

pub(crate) async fn an_unknown_lease_matters_only_in_the_branch_taken<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    let unknown = leased_put_op(&key, unique());
    let txn = Txn { compares: vec![missing(&key)], then: vec![put_op(&key, "1")], otherwise: vec![unknown] };
    run(store, txn.clone()).await;
    assert_eq!(refused(store, txn).await, Failure::LeaseNotFound);
}

pub(crate) async fn a_transaction_may_only_compare<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    let lease = grant(store, LONG_S).await;
    let there = |lease| Txn { compares: vec![Compare::Lease(key.clone(), lease)], ..Txn::default() };
    let (header, result) = run(store, there(lease)).await;
    assert_eq!((result.succeeded, result.results.len()), (false, 0));
    run(store, always(vec![leased_put_op(&key, lease)])).await;
    assert!(run(store, there(lease)).await.1.succeeded);
    let (after, both) = run(store, always(vec![Op::Txn(there(lease)), Op::Txn(there(lease + 1))])).await;
    let inner = both.results.iter().map(txn_result).collect::<Vec<_>>();
    assert_eq!((inner[0].succeeded, inner[1].succeeded, inner.len()), (true, false, 2));
    assert_eq!(after.revision, header.revision + 1, "nothing was written but the key");
}

pub(crate) async fn every_answer_names_the_cluster<S: Store>(store: &S, _: &impl Admin) {
    let lease = unique();
    let cluster = store.range(one(b"contract"), TIMEOUT).await.unwrap().0.cluster_id;
    assert_ne!(cluster, 0);
    assert_eq!(run(store, Txn::default()).await.0.cluster_id, cluster);
    assert_eq!(store.grant(lease, LONG_S, TIMEOUT).await.unwrap().header.cluster_id, cluster);
    assert_eq!(store.keep_alive(lease, TIMEOUT).await.unwrap().header.cluster_id, cluster);
    assert_eq!(store.revoke(lease, TIMEOUT).await.unwrap().cluster_id, cluster);
}
