//! What `Memory` promises beyond the contract of stores: names, clients, exact times, test hooks.

use super::*;
use crate::store::{KeyValue, Op, OpResult};

const TIMEOUT: Duration = Duration::from_secs(10);
const TTL_S: i64 = 5;
const TTL: Duration = Duration::from_secs(TTL_S.unsigned_abs());
const MOMENT: Duration = Duration::from_millis(1);

type Messages = mpsc::UnboundedReceiver<WatchMessage>;

async fn change(store: &Memory, op: Op) -> Header {
    store.txn(Txn { then: vec![op], ..Txn::default() }, TIMEOUT).await.unwrap().0
}

async fn put(store: &Memory, key: &str, lease: LeaseId) -> Header {
    change(store, Op::Put { key: key.into(), value: b"value".to_vec(), lease }).await
}

async fn keys(store: &Memory) -> Vec<String> {
    let all = Range { key: vec![0], end: vec![0], ..Range::default() };
    let name = |kv: KeyValue| String::from_utf8(kv.key).unwrap();
    store.range(all, TIMEOUT).await.unwrap().1.kvs.into_iter().map(name).collect()
}

async fn header(store: &Memory) -> Header {
    let nothing = Range { key: b"?".to_vec(), ..Range::default() };
    store.range(nothing, TIMEOUT).await.unwrap().0
}

async fn grant(store: &Memory, id: LeaseId, ttl_s: i64) {
    store.grant(id, ttl_s, TIMEOUT).await.unwrap();
}

async fn next(messages: &mut Messages) -> WatchMessage {
    let message = tokio::time::timeout(TIMEOUT, messages.recv()).await;
    message.expect("no message").expect("the stream ended")
}

/// A stream that watches everything while `story` goes on; answers how it ended, if it did.
async fn watching(store: &Memory, story: impl AsyncFnOnce(&mut Messages)) -> Option<StoreError> {
    let (requests, queue) = mpsc::unbounded_channel();
    let (sink, mut messages) = mpsc::unbounded_channel();
    requests.send(WatchRequest::Create { id: 1, key: vec![0], end: vec![0] }).unwrap();
    let story = async {
        assert!(matches!(next(&mut messages).await, WatchMessage::Created { id: 1, .. }));
        story(&mut messages).await;
    };
    let mut stream = std::pin::pin!(store.watch(queue, sink));
    tokio::select! {
        biased;
        () = story => {}
        error = &mut stream => panic!("the stream ended early: {error}"),
    }
    tokio::select! {
        biased;
        error = stream => Some(error),
        () = std::future::ready(()) => None,
    }
}

#[tokio::test]
async fn stores_of_one_name_are_one_while_somebody_has_it() {
    let first = Memory::named("shared");
    let created = put(&first, "a", 0).await;
    let second = Memory::named("shared");
    drop(first);
    assert_eq!(header(&second).await, created);
    assert_eq!(keys(&second).await, ["a"]);
    drop(second);
    let third = Memory::named("shared");
    assert_ne!(header(&third).await.cluster_id, created.cluster_id);
    assert!(keys(&third).await.is_empty());
}

#[tokio::test]
async fn stores_of_different_names_share_nothing() {
    let stores = [Memory::named("one"), Memory::named("two"), Memory::new(), Memory::default()];
    for store in &stores {
        assert!(keys(store).await.is_empty());
        put(store, "a", 0).await;
    }
}

#[tokio::test]
async fn a_store_that_nobody_has_is_forgotten_by_name() {
    drop(Memory::named("left"));
    let _other = Memory::named("another");
    assert!(!registry().contains_key("left"));
}

#[tokio::test]
async fn errors_name_the_store() {
    let error = Memory::named("orders").revoke(1, TIMEOUT).await.unwrap_err();
    assert_eq!(error.message, "memory://orders: lease 1 does not exist");
}

#[tokio::test]
async fn leaving_the_endpoint_ends_the_streams_of_one_client_only() {
    let store = Memory::new();
    let other = store.clone();
    let end = watching(&store, async |_| {
        let end = watching(&other, async |messages| {
            store.rotate("it is mute");
            put(&store, "a", 0).await;
            assert!(matches!(next(messages).await, WatchMessage::Events { .. }));
        })
        .await;
        assert_eq!(end, None);
    })
    .await;
    assert_eq!(end, Some(StoreError::new(Failure::Unknown, "memory://: it is mute")));
}

#[tokio::test]
async fn broken_watches_deliver_nothing_more() {
    let store = Memory::new();
    let end = watching(&store, async |messages| {
        store.clone().break_watches(Failure::NoLeader);
        put(&store, "a", 0).await;
        assert!(messages.is_empty());
    })
    .await;
    assert_eq!(end.unwrap().failure, Failure::NoLeader);
}

#[tokio::test(start_paused = true)]
async fn a_rebuilt_cluster_is_another_one() {
    let store = Memory::new();
    let before = put(&store, "a", 0).await;
    grant(&store, 1, TTL_S).await;
    let end = watching(&store, async |_| store.rebuild()).await;
    assert_eq!(end.unwrap().failure, Failure::Unknown);
    let after = header(&store).await;
    assert_ne!(after.cluster_id, before.cluster_id);
    assert_eq!(after.revision, header(&Memory::new()).await.revision);
    assert!(keys(&store).await.is_empty());
    assert_eq!(store.keep_alive(1, TIMEOUT).await.unwrap_err().failure, Failure::LeaseNotFound);
    grant(&store, 2, TTL_S).await;
    put(&store, "a", 2).await;
    watching(&store, async |messages| {
        assert!(matches!(next(messages).await, WatchMessage::Events { .. }), "the lease's end is told");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_exactly_when_its_time_is_over() {
    let store = Memory::new();
    grant(&store, 1, TTL_S).await;
    let put = put(&store, "a", 1).await;
    tokio::time::advance(TTL - MOMENT).await;
    assert_eq!(keys(&store).await, ["a"]);
    store.keep_alive(1, TIMEOUT).await.unwrap();
    tokio::time::advance(TTL - MOMENT).await;
    assert_eq!(keys(&store).await, ["a"]);
    tokio::time::advance(MOMENT).await;
    assert_eq!(header(&store).await.revision, put.revision + 1);
    assert!(keys(&store).await.is_empty());
    assert_eq!(store.keep_alive(1, TIMEOUT).await.unwrap_err().failure, Failure::LeaseNotFound);
}

#[tokio::test(start_paused = true)]
async fn leases_that_end_unseen_end_one_after_another() {
    let store = Memory::new();
    for (id, ttl_s) in [(1, 4), (2, 3), (3, 4)] {
        grant(&store, id, ttl_s).await;
        put(&store, &format!("a{id}"), id).await;
        put(&store, &format!("b{id}"), id).await;
    }
    let before = header(&store).await.revision;
    tokio::time::advance(TTL).await;
    assert_eq!(header(&store).await.revision, before + 3);
    let at = async |revision| {
        let range = Range { key: b"a".to_vec(), end: b"b".to_vec(), revision, ..Range::default() };
        store.range(range, TIMEOUT).await.unwrap().1.kvs.into_iter().map(|kv| kv.lease).collect::<Vec<_>>()
    };
    assert_eq!(at(before).await, [1, 2, 3]);
    assert_eq!(at(before + 1).await, [1, 3]);
    assert_eq!(at(before + 2).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_hears_of_a_lease_that_ends_before_the_one_it_waited_for() {
    let store = Memory::new();
    grant(&store, 1, 100).await;
    watching(&store, async |messages| {
        let granted = now();
        tokio::task::yield_now().await;
        grant(&store, 2, TTL_S).await;
        put(&store, "a", 2).await;
        next(messages).await;
        let WatchMessage::Events { events, .. } = next(messages).await else { panic!("no event") };
        assert!(matches!(events[..], [WatchEvent::Delete { .. }]));
        assert_eq!(now() - granted, TTL);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn every_stream_hears_of_a_lease_that_ends() {
    let store = Memory::new();
    grant(&store, 1, TTL_S).await;
    put(&store, "a", 1).await;
    watching(&store, async |outer| {
        watching(&store.clone(), async |inner| {
            let (outer, inner) = (next(outer).await, next(inner).await);
            assert!(matches!(outer, WatchMessage::Events { .. }));
            assert_eq!(outer, inner);
        })
        .await;
    })
    .await;
}

#[test]
fn runtimes_share_a_store() {
    let store = Memory::new();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (watching_now, is_watching) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            runtime().block_on(watching(&store, async |messages| {
                watching_now.send(()).unwrap();
                assert!(matches!(next(messages).await, WatchMessage::Events { .. }), "the put");
                assert!(matches!(next(messages).await, WatchMessage::Events { .. }), "the lease's end");
            }));
        });
        is_watching.recv().unwrap();
        runtime().block_on(async {
            grant(&store, 1, 2).await;
            put(&store, "a", 1).await;
        });
    });
}

#[tokio::test]
async fn compaction_goes_forward_only() {
    let store = Memory::new();
    let last = put(&store, "a", 0).await.revision;
    let failure = |revision| store.compact(revision).unwrap_err().failure;
    assert_eq!(failure(last + 1), Failure::Refused);
    assert_eq!(store.compact(last), Ok(header(&store).await));
    assert_eq!(failure(last), Failure::Compacted);
    assert_eq!(failure(0), Failure::Compacted);
}

#[tokio::test]
async fn old_revisions_are_forgotten_in_time() {
    let store = Memory::new();
    let first = put(&store, "a", 0).await.revision;
    let mut last = first;
    while last < first + 25_000 {
        last = put(&store, "a", 0).await.revision;
    }
    let read = async |revision| {
        let range = Range { key: b"a".to_vec(), revision, ..Range::default() };
        store.range(range, TIMEOUT).await.map(|(_, found)| found.kvs[0].mod_revision).map_err(|error| error.failure)
    };
    assert_eq!(read(first).await, Err(Failure::Compacted));
    assert_eq!(read(last - 10_000).await, Ok(last - 10_000));
}

#[tokio::test]
async fn a_watch_id_in_use_is_refused() {
    let store = Memory::new();
    let (requests, queue) = mpsc::unbounded_channel();
    let (sink, mut messages) = mpsc::unbounded_channel();
    for _ in 0..2 {
        requests.send(WatchRequest::Create { id: 1, key: b"a".to_vec(), end: vec![] }).unwrap();
    }
    requests.send(WatchRequest::Progress).unwrap();
    let story = async {
        assert!(matches!(next(&mut messages).await, WatchMessage::Created { id: 1, .. }));
        let refused = next(&mut messages).await;
        assert!(matches!(&refused, WatchMessage::Canceled { id: 1, error } if error.failure == Failure::Refused));
        assert!(matches!(next(&mut messages).await, WatchMessage::Progress(_)), "the first watch goes on");
    };
    tokio::select! {
        biased;
        () = story => {}
        error = store.watch(queue, sink) => panic!("the stream ended: {error}"),
    }
}

#[tokio::test]
async fn progress_without_a_watch_is_not_answered() {
    let store = Memory::new();
    let (requests, queue) = mpsc::unbounded_channel();
    let (sink, mut messages) = mpsc::unbounded_channel();
    requests.send(WatchRequest::Progress).unwrap();
    requests.send(WatchRequest::Create { id: 1, key: b"a".to_vec(), end: vec![] }).unwrap();
    let story = async {
        assert!(matches!(next(&mut messages).await, WatchMessage::Created { id: 1, .. }));
        assert!(messages.is_empty());
    };
    tokio::select! {
        biased;
        () = story => {}
        error = store.watch(queue, sink) => panic!("the stream ended: {error}"),
    }
}

#[tokio::test]
async fn a_request_that_is_never_polled_does_nothing() {
    let store = Memory::new();
    let op = Op::Put { key: b"a".to_vec(), value: vec![], lease: 0 };
    drop(store.txn(Txn { then: vec![op], ..Txn::default() }, TIMEOUT));
    assert!(keys(&store).await.is_empty());
}

#[tokio::test]
async fn large_requests_are_counted_with_what_is_inside() {
    let store = Memory::new();
    let large = Op::Put { key: b"a".to_vec(), value: vec![0; 1_572_863], lease: 0 };
    assert_eq!(change(&store, large.clone()).await.revision, 2);
    let more = Op::Txn(Txn { then: vec![large, Op::Delete(b"b".to_vec())], ..Txn::default() });
    let error = store.txn(Txn { then: vec![more], ..Txn::default() }, TIMEOUT).await.unwrap_err();
    assert_eq!(error.failure, Failure::TooLarge);
    let (_, result) =
        store.txn(Txn { then: vec![Op::Delete(b"a".to_vec())], ..Txn::default() }, TIMEOUT).await.unwrap();
    assert_eq!(result.results, [OpResult::Delete(1)]);
}
