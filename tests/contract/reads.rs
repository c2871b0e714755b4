//! Ranges: which keys, in what order, how many, as of when.

use std::collections::BTreeSet;

use tenure::store::{Failure, Order, Range, Store, prefix_end};

use super::*;

/// Puts keys of these names, each at a revision of its own.
async fn put_all<S: Store>(store: &S, space: &Space, names: &[&str]) -> Revision {
    let mut revision = 0;
    for name in names {
        revision = put(store, &space.key(name), name).await;
    }
    revision
}

async fn failure<S: Store>(store: &S, range: Range) -> Failure {
    store.range(range, TIMEOUT).await.unwrap_err().failure
}

pub(crate) async fn a_range_without_end_is_one_key<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    put_all(store, &space, &["a", "aa", "b"]).await;
    let found = read(store, one(&space.key("a"))).await;
    assert_eq!(space.names(&found), ["a"]);
    assert!(!found.more);
    assert!(read(store, one(&space.key("c"))).await.kvs.is_empty());
}

pub(crate) async fn a_prefix_is_read_without_its_neighbours<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    put_all(store, &space, &["a", "b", "b/", "b/1", "b/2", "b0", "c"]).await;
    let range = Range { key: space.key("b/"), end: prefix_end(&space.key("b/")), ..Range::default() };
    assert_eq!(space.names(&read(store, range).await), ["b/", "b/1", "b/2"]);
}

pub(crate) async fn prefix_end_covers_exactly_the_prefix<S: Store>(store: &S, _: &impl Admin) {
    let keys: [&[u8]; 8] =
        [b"c", b"c\xfe\xff", b"c\xff", b"c\xff\0", b"c\xff\xff\xff", b"d", b"\xff\xff", b"\xff\xff\xff"];
    run(store, always(keys.iter().map(|key| put_op(key, "1")).collect())).await;
    for prefix in [b"".as_slice(), b"c", b"c\xff", b"c\xff\xff", b"d", b"\xff", b"\xff\xff", b"\xff\xff\xff"] {
        let key = if prefix.is_empty() { vec![0] } else { prefix.to_vec() };
        let found = read(store, Range { key, end: prefix_end(prefix), ..Range::default() }).await.kvs;
        let found: Vec<&[u8]> = found.iter().map(|kv| &kv.key[..]).filter(|key| keys.contains(key)).collect();
        let expected: Vec<&[u8]> = keys.into_iter().filter(|key| key.starts_with(prefix)).collect();
        assert_eq!(found, expected, "{prefix:?}");
    }
    run(store, always(keys.iter().map(|key| delete_op(key)).collect())).await;
}

pub(crate) async fn an_end_of_zero_means_to_the_end<S: Store>(store: &S, _: &impl Admin) {
    let (low, high) = (b"\xfe\x01".as_slice(), b"\xff\xff".as_slice());
    run(store, always(vec![put_op(b"\xfe", "1"), put_op(low, "1"), put_op(high, "1")])).await;
    let found = read(store, Range { key: low.to_vec(), end: vec![0], ..Range::default() }).await;
    assert_eq!(found.kvs.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), [low, high]);
    run(store, always(vec![delete_op(b"\xfe"), delete_op(low), delete_op(high)])).await;
}

pub(crate) async fn an_end_before_the_key_means_nothing<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    put_all(store, &space, &["a", "b", "c"]).await;
    for end in ["b", "a"] {
        let range = Range { key: space.key("b"), end: space.key(end), ..Range::default() };
        assert!(read(store, range).await.kvs.is_empty());
    }
}

pub(crate) async fn keys_come_in_order<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    put_all(store, &space, &["b", "c", "aa", "a"]).await;
    assert_eq!(space.names(&read(store, space.range()).await), ["a", "aa", "b", "c"]);
}

pub(crate) async fn create_revisions_come_in_order<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    put_all(store, &space, &["c", "a", "d", "b", "a", "c"]).await;
    let range = Range { order: Order::CreateRevision, ..space.range() };
    assert_eq!(space.names(&read(store, range).await), ["c", "a", "d", "b"]);
}

pub(crate) async fn keys_of_one_revision_come_in_order_of_key<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let mut expected = Vec::new();
    for group in 0..4 {
        let names: Vec<String> = (0..30).map(|number| format!("{:02}{group}", number * 17 % 30)).collect();
        run(store, always(names.iter().map(|name| put_op(&space.key(name), "1")).collect())).await;
        expected.extend(BTreeSet::from_iter(names));
    }
    let range = Range { order: Order::CreateRevision, ..space.range() };
    assert_eq!(space.names(&read(store, range).await), expected);
}

pub(crate) async fn a_limit_says_whether_there_is_more<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    put_all(store, &space, &["a", "b", "c"]).await;
    for (limit, count, more) in [(0, 3, false), (1, 1, true), (2, 2, true), (3, 3, false), (4, 3, false)] {
        for order in [Order::Key, Order::CreateRevision] {
            let found = read(store, Range { limit, order, ..space.range() }).await;
            assert_eq!((found.kvs.len(), found.more), (count, more), "limit {limit}");
        }
    }
}

pub(crate) async fn a_limit_counts_after_ordering<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    put_all(store, &space, &["c", "b", "a"]).await;
    let range = Range { limit: 2, order: Order::CreateRevision, ..space.range() };
    assert_eq!(space.names(&read(store, range).await), ["c", "b"]);
}

pub(crate) async fn pages_at_one_revision_fit_together<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let revision = put_all(store, &space, &["a", "c", "e", "g", "i"]).await;
    let mut names = Vec::new();
    let mut key = space.prefix();
    loop {
        let page = read(store, Range { key, limit: 2, revision, ..space.range() }).await;
        names.extend(space.names(&page));
        if !page.more {
            break;
        }
        key = [&page.kvs[1].key[..], b"\0"].concat();
        put(store, &space.key("d"), "new").await;
        run(store, always(vec![delete_op(&space.key("i"))])).await;
    }
    assert_eq!(names, ["a", "c", "e", "g", "i"]);
}

pub(crate) async fn keys_alone_come_without_values<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let lease = grant(store, LONG_S).await;
    let created = leased_put(store, &space.key("a"), lease).await;
    let found = read(store, Range { keys_only: true, ..space.range() }).await;
    // The lease is not looked at: etcd since 3.7 leaves it out, too.
    assert!(found.kvs[0].value.is_empty());
    assert_eq!((&found.kvs[0].key, found.kvs[0].create_revision), (&space.key("a"), created));
    assert_eq!(found.kvs[0].mod_revision, created);
}

pub(crate) async fn the_past_can_be_read<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    let created = put(store, &key, "1").await;
    put(store, &key, "2").await;
    let deleted = delete(store, &key).await;
    let last = put(store, &key, "3").await;
    let value_at = async |revision| {
        let (header, found) = store.range(Range { revision, ..one(&key) }, TIMEOUT).await.unwrap();
        assert_eq!(header.revision, last, "the header tells of now");
        found.kvs.first().map(|kv| (kv.value.clone(), kv.create_revision, kv.mod_revision))
    };
    assert_eq!(value_at(created - 1).await, None);
    assert_eq!(value_at(created).await, Some((b"1".to_vec(), created, created)));
    assert_eq!(value_at(created + 1).await, Some((b"2".to_vec(), created, created + 1)));
    assert_eq!(value_at(deleted).await, None);
    assert_eq!(value_at(last).await, Some((b"3".to_vec(), last, last)));
}

pub(crate) async fn the_future_cannot_be_read<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let last = put(store, &space.key("a"), "1").await;
    assert_eq!(failure(store, Range { revision: last + 1, ..space.range() }).await, Failure::Refused);
}

pub(crate) async fn what_was_compacted_cannot_be_read<S: Store>(store: &S, admin: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    let first = put(store, &key, "1").await;
    let second = put(store, &key, "2").await;
    put(store, &key, "3").await;
    admin.compact(second).await;
    let at = |revision| Range { revision, ..one(&key) };
    assert_eq!(failure(store, at(first)).await, Failure::Compacted);
    assert_eq!(refused(store, always(vec![Op::Range(at(first))])).await, Failure::Compacted);
    assert_eq!(read(store, at(second)).await.kvs[0].value, b"2");
    assert_eq!(read(store, at(0)).await.kvs[0].value, b"3");
}

pub(crate) async fn compaction_keeps_what_is_there<S: Store>(store: &S, admin: &impl Admin) {
    let space = Space::new();
    let (kept, gone) = (space.key("kept"), space.key("gone"));
    let created = put(store, &kept, "1").await;
    put(store, &gone, "1").await;
    let deleted = delete(store, &gone).await;
    admin.compact(deleted).await;
    let found = read(store, Range { revision: deleted, ..space.range() }).await;
    assert_eq!(space.names(&found), ["kept"]);
    assert_eq!(found.kvs[0].create_revision, created);
    let created_anew = put(store, &gone, "2").await;
    assert_eq!(get(store, &gone).await.unwrap().create_revision, created_anew);
}
