//! Watch streams: what is told, to whom, in what order, and how they end.

use tenure::store::{Failure, KeyValue, Store, WatchEvent, WatchMessage, WatchRequest};

use super::*;

fn create(id: i64, space: &Space) -> WatchRequest {
    WatchRequest::Create { id, key: space.prefix(), end: space.end() }
}

pub(crate) async fn a_watch_begins_now<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let before = put(store, &space.key("before"), "1").await;
    watching(store, async |stream| {
        assert_eq!(stream.create_on(1, &space).await.revision, before);
        put(store, &space.key("after"), "1").await;
        assert_eq!(event_key(&stream.event(1).await), space.key("after"));
    })
    .await;
}

pub(crate) async fn requests_queued_before_the_stream_are_served<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    watching(store, async |stream| {
        stream.ask(create(1, &space));
        stream.ask(create(2, &space));
        for expected in [1, 2] {
            let message = stream.next().await;
            assert!(matches!(message, WatchMessage::Created { id, .. } if id == expected), "{message:?}");
        }
    })
    .await;
}

pub(crate) async fn a_put_tells_the_whole_key<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    let lease = grant(store, LONG_S).await;
    let create_revision = put(store, &key, "1").await;
    watching(store, async |stream| {
        stream.create_on(1, &space).await;
        let mod_revision = leased_put(store, &key, lease).await;
        let kv = KeyValue { key: key.clone(), value: b"leased".to_vec(), create_revision, mod_revision, lease };
        assert_eq!(stream.event(1).await, WatchEvent::Put(kv));
        let revision = delete(store, &key).await;
        assert_eq!(stream.event(1).await, WatchEvent::Delete { key: key.clone(), revision });
    })
    .await;
}

pub(crate) async fn every_put_is_an_event<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let key = space.key("a");
    watching(store, async |stream| {
        stream.create_on(1, &space).await;
        for _ in 0..3 {
            let revision = put(store, &key, "same").await;
            assert_eq!(event_revision(&stream.event(1).await), revision);
        }
    })
    .await;
}

pub(crate) async fn what_changes_nothing_is_no_event<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    watching(store, async |stream| {
        stream.create_on(1, &space).await;
        run(store, always(vec![delete_op(&space.key("a")), get_op(&space.key("a"))])).await;
        put(store, &space.key("b"), "1").await;
        assert_eq!(event_key(&stream.event(1).await), space.key("b"));
    })
    .await;
}

pub(crate) async fn a_watch_of_one_key_hears_of_no_other<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    watching(store, async |stream| {
        stream.create(1, space.key("b"), vec![]).await;
        for name in ["a", "b0", "c", "b"] {
            put(store, &space.key(name), "1").await;
        }
        assert_eq!(event_key(&stream.event(1).await), space.key("b"));
    })
    .await;
}

pub(crate) async fn a_watch_of_a_prefix_hears_of_no_neighbour<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let prefix = space.key("b/");
    watching(store, async |stream| {
        stream.create(1, prefix.clone(), prefix_end(&prefix)).await;
        for name in ["b", "b/1", "b0", "b/2", "c", "b/"] {
            put(store, &space.key(name), "1").await;
        }
        for name in ["b/1", "b/2", "b/"] {
            assert_eq!(event_key(&stream.event(1).await), space.key(name));
        }
    })
    .await;
}

pub(crate) async fn a_watch_to_the_end_hears_of_everything_behind<S: Store>(store: &S, _: &impl Admin) {
    watching(store, async |stream| {
        stream.create(1, b"\xfe\x01".to_vec(), vec![0]).await;
        stream.create(2, vec![], vec![0]).await;
        for (key, watches) in [(b"\xfe".as_slice(), vec![2]), (b"\xfe\x01", vec![1, 2]), (b"\xff\xff", vec![1, 2])] {
            put(store, key, "1").await;
            let mut told = Vec::new();
            for _ in &watches {
                match stream.next().await {
                    WatchMessage::Events { id, events, .. } if event_key(&events[0]) == key => told.push(id),
                    other => panic!("not an event of {key:?}: {other:?}"),
                }
            }
            told.sort_unstable();
            assert_eq!(told, watches);
        }
    })
    .await;
    run(store, always(vec![delete_op(b"\xfe"), delete_op(b"\xfe\x01"), delete_op(b"\xff\xff")])).await;
}

pub(crate) async fn watches_of_one_stream_hear_each_their_own<S: Store>(store: &S, _: &impl Admin) {
    let (one, two) = (Space::new(), Space::new());
    watching(store, async |stream| {
        stream.create_on(1, &one).await;
        put(store, &one.key("a"), "1").await;
        stream.event(1).await;
        stream.create_on(2, &two).await;
        put(store, &two.key("a"), "1").await;
        assert_eq!(event_key(&stream.event(2).await), two.key("a"));
        put(store, &one.key("b"), "1").await;
        assert_eq!(event_key(&stream.event(1).await), one.key("b"));
    })
    .await;
}

pub(crate) async fn overlapping_watches_both_hear<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    watching(store, async |stream| {
        stream.create_on(1, &space).await;
        stream.create(2, space.key("a"), vec![]).await;
        let revision = put(store, &space.key("a"), "1").await;
        let mut told = Vec::new();
        for _ in 0..2 {
            match stream.next().await {
                WatchMessage::Events { id, events, .. } => {
                    assert_eq!(event_revision(&events[0]), revision);
                    told.push(id);
                }
                other => panic!("no event: {other:?}"),
            }
        }
        told.sort_unstable();
        assert_eq!(told, [1, 2]);
    })
    .await;
}

pub(crate) async fn streams_are_independent<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    watching(store, async |outer| {
        outer.create_on(1, &space).await;
        watching(store, async |inner| {
            inner.create_on(1, &space).await;
            put(store, &space.key("a"), "1").await;
            assert_eq!(event_key(&inner.event(1).await), space.key("a"));
        })
        .await;
        assert_eq!(event_key(&outer.event(1).await), space.key("a"));
        put(store, &space.key("b"), "1").await;
        assert_eq!(event_key(&outer.event(1).await), space.key("b"));
    })
    .await;
}

pub(crate) async fn changes_of_one_revision_come_together<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    put(store, &space.key("gone"), "1").await;
    watching(store, async |stream| {
        stream.create_on(1, &space).await;
        let nested = vec![put_op(&space.key("a"), "1"), delete_op(&space.key("gone"))];
        let ops = vec![put_op(&space.key("b"), "1"), inner(nested), put_op(&space.key("c"), "1")];
        let (header, _) = run(store, always(ops)).await;
        let events = stream.events(1).await;
        let keys: Vec<&[u8]> = events.iter().map(event_key).collect();
        assert_eq!(keys, ["b", "a", "gone", "c"].map(|name| space.key(name)), "in the order of the operations");
        assert!(events.iter().all(|event| event_revision(event) == header.revision));
    })
    .await;
}

pub(crate) async fn the_keys_of_a_lease_go_together<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let lease = grant(store, LONG_S).await;
    for name in ["b", "c", "a"] {
        leased_put(store, &space.key(name), lease).await;
    }
    watching(store, async |stream| {
        stream.create_on(1, &space).await;
        let revision = store.revoke(lease, TIMEOUT).await.unwrap().revision;
        let deleted = |name: &str| WatchEvent::Delete { key: space.key(name), revision };
        assert_eq!(stream.events(1).await, ["a", "b", "c"].map(deleted));
    })
    .await;
}

pub(crate) async fn revisions_come_in_order<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    watching(store, async |stream| {
        stream.create_on(1, &space).await;
        let mut revisions = Vec::new();
        for number in 0..100 {
            revisions.push(put(store, &space.key(&format!("{}", number % 7)), "1").await);
        }
        let mut told = Vec::new();
        while told.len() < revisions.len() {
            told.extend(stream.events(1).await.iter().map(event_revision));
        }
        assert_eq!(told, revisions);
    })
    .await;
}

pub(crate) async fn a_cancelled_watch_falls_silent<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    watching(store, async |stream| {
        stream.create_on(1, &space).await;
        stream.create_on(2, &space).await;
        stream.ask(WatchRequest::Cancel(1));
        match stream.next().await {
            WatchMessage::Canceled { id: 1, error } => assert_eq!(error.failure, Failure::Canceled),
            other => panic!("not cancelled: {other:?}"),
        }
        for name in ["a", "b"] {
            put(store, &space.key(name), "1").await;
            assert_eq!(event_key(&stream.event(2).await), space.key(name));
        }
    })
    .await;
}

pub(crate) async fn cancelling_an_unknown_watch_is_no_matter<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    watching(store, async |stream| {
        stream.create_on(1, &space).await;
        stream.ask(WatchRequest::Cancel(2));
        stream.create_on(3, &space).await;
        stream.ask(WatchRequest::Cancel(1));
        let message = stream.next().await;
        assert!(matches!(message, WatchMessage::Canceled { id: 1, .. }), "{message:?}");
    })
    .await;
}

pub(crate) async fn a_watch_of_nothing_is_refused<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    watching(store, async |stream| {
        stream.create_on(1, &space).await;
        stream.ask(WatchRequest::Create { id: 2, key: space.key("b"), end: space.key("a") });
        match stream.next().await {
            WatchMessage::Canceled { id: 2, error } => assert_eq!(error.failure, Failure::Refused),
            other => panic!("not refused: {other:?}"),
        }
        put(store, &space.key("a"), "1").await;
        stream.event(1).await;
    })
    .await;
}

/// Only on a stream with a watch: without one, etcd 3.6 and later give no answer.
pub(crate) async fn progress_is_answered<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    watching(store, async |stream| {
        let created = stream.create_on(1, &space).await;
        stream.ask(WatchRequest::Progress);
        assert_eq!(stream.next().await, WatchMessage::Progress(created));
        let revision = put(store, &space.key("a"), "1").await;
        stream.event(1).await;
        stream.ask(WatchRequest::Progress);
        assert_eq!(stream.next().await, WatchMessage::Progress(Header { revision, ..created }));
    })
    .await;
}

pub(crate) async fn a_dropped_stream_lets_go<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let (requests, queue) = mpsc::unbounded_channel();
    let (sink, messages) = mpsc::unbounded_channel();
    let mut stream = Stream { requests, messages };
    tokio::select! {
        biased;
        error = store.watch(queue, sink) => panic!("the stream ended: {error}"),
        _ = stream.create_on(1, &space) => {}
    }
    put(store, &space.key("a"), "1").await;
    let message = tokio::time::timeout(TIMEOUT, stream.messages.recv()).await.unwrap();
    assert_eq!(message, None);
    assert!(stream.requests.is_closed());
}

pub(crate) async fn a_stream_without_requests_ends<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let error = watch_until_end(store, async |mut stream| {
        stream.create_on(1, &space).await;
        let (requests, _) = mpsc::unbounded_channel();
        Some(Stream { requests, ..stream })
    })
    .await;
    assert_eq!(error.failure, Failure::Canceled);
}

pub(crate) async fn a_stream_without_listener_ends<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let error = watch_until_end(store, async |mut stream| {
        stream.create_on(1, &space).await;
        let (_, messages) = mpsc::unbounded_channel();
        Some(Stream { messages, ..stream })
    })
    .await;
    assert_eq!(error.failure, Failure::Canceled);
}

pub(crate) async fn leaving_the_endpoint_ends_the_stream<S: Store>(store: &S, _: &impl Admin) {
    let space = Space::new();
    let error = watch_until_end(store, async |mut stream| {
        stream.create_on(1, &space).await;
        store.rotate("the test wants it");
        Some(stream)
    })
    .await;
    assert!(error.failure.is_transient(), "{error}");
    watching(store, async |stream| {
        stream.create_on(1, &space).await;
        put(store, &space.key("a"), "1").await;
        stream.event(1).await;
    })
    .await;
}
