//! What a server with default settings refuses.

use tenure::store::{Failure, Op, Range, Store, Txn};

use super::*;

/// etcd's `--max-txn-ops` by default.
const MAX_OPS: usize = 128;
/// etcd's `--max-request-bytes` by default.
const MAX_BYTES: usize = 1_572_864;

fn gets(space: &Space, count: usize) -> Vec<Op> {
    vec![get_op(&space.key("a")); count]
}

pub(crate) async fn too_many_operations_are_refused<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let compares = |count| vec![missing(&space.key("a")); count];
    let with = |compares, then, otherwise| Txn { compares, then, otherwise };
    run(store, with(compares(MAX_OPS), gets(&space, MAX_OPS), gets(&space, MAX_OPS))).await;
    for txn in [
        with(compares(MAX_OPS + 1), vec![], vec![]),
        with(vec![], gets(&space, MAX_OPS + 1), vec![]),
        with(vec![], vec![], gets(&space, MAX_OPS + 1)),
    ] {
        assert_eq!(refused(store, txn).await, Failure::TooManyOps);
    }
}

pub(crate) async fn inner_transactions_share_the_limit_with_the_outer_one<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let nested = |outer, inside| always(vec![inner(gets(&space, inside)); outer]);
    run(store, nested(64, 64)).await;
    run(store, nested(1, 127)).await;
    run(store, nested(128, 0)).await;
    assert_eq!(refused(store, nested(64, 65)).await, Failure::TooManyOps);
    assert_eq!(refused(store, nested(1, 128)).await, Failure::TooManyOps);
    assert_eq!(refused(store, nested(128, 1)).await, Failure::TooManyOps);
    let deep = |inside| always(vec![inner(vec![inner(gets(&space, inside)); 24]); 96]);
    run(store, deep(8)).await;
    assert_eq!(refused(store, deep(9)).await, Failure::TooManyOps);
}

pub(crate) async fn a_large_value_passes_and_a_larger_one_is_refused<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let (a, b) = (space.key("a"), space.key("b"));
    put(store, &a, &"x".repeat(MAX_BYTES - 1024)).await;
    assert_eq!(get(store, &a).await.unwrap().value.len(), MAX_BYTES - 1024);
    for size in [MAX_BYTES + 1, 2 * MAX_BYTES] {
        let txn = always(vec![put_op(&b, &"x".repeat(size))]);
        assert_eq!(refused(store, txn).await, Failure::TooLarge, "{size} bytes");
    }
    let half = "x".repeat(MAX_BYTES / 2 + 1);
    assert_eq!(refused(store, always(vec![put_op(&a, &half), put_op(&b, &half)])).await, Failure::TooLarge);
    assert_eq!(get(store, &b).await, None);
    delete(store, &a).await;
}

pub(crate) async fn empty_keys_are_refused<S: Store>(store: &S, _: &impl Admin) {
    for op in [put_op(b"", "1"), delete_op(b""), get_op(b""), inner(vec![get_op(b"")])] {
        assert_eq!(refused(store, always(vec![op])).await, Failure::Refused);
    }
    let compare = Txn { compares: vec![missing(b"")], ..Txn::default() };
    assert_eq!(refused(store, compare).await, Failure::Refused);
    let range = Range { end: vec![0], ..Range::default() };
    assert_eq!(store.range(range, TIMEOUT).await.unwrap_err().failure, Failure::Refused);
}
