//! What the engine relies on in a store, one behaviour after another. What holds on a real etcd holds on `Memory`, so
//! that tests of the engine on `Memory` tell something about etcd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod contract;
mod support;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use contract::Admin;
use support::{Server, Version};
use tenure::store::etcd::{Etcd, EtcdConfig};
use tenure::store::memory::Memory;
use tenure::store::{Header, Revision};

impl Admin for Memory {
    async fn compact(&self, revision: Revision) {
        let compacted: Result<Header, _> = Memory::compact(self, revision);
        compacted.unwrap();
    }
}

impl Admin for Server {
    async fn compact(&self, revision: Revision) {
        self.etcdctl(&["compaction", &revision.to_string()]);
    }
}

/// Each behaviour as a test of its own, on a store of its own, with time that passes at once.
macro_rules! on_memory {
    ($($module:ident: $($name:ident)*;)*) => {
        mod memory {
            $(mod $module {
                $(#[tokio::test(start_paused = true)]
                async fn $name() {
                    let store = super::super::Memory::new();
                    crate::contract::$module::$name(&store, &store).await;
                })*
            })*
        }
    };
}

contract::for_each_behaviour!(on_memory);

/// All behaviours one after another on one server: each counts the store's revisions, so no two can run at once, and
/// a server for each would take long to start.
macro_rules! on_etcd {
    ($($module:ident: $($name:ident)*;)*) => {
        async fn failures(store: &Etcd, server: &Server) -> Vec<&'static str> {
            let mut failures = Vec::new();
            $($(
                if !succeeds(|| contract::$module::$name(store, server)).await {
                    failures.push(concat!(stringify!($module), "::", stringify!($name)));
                }
            )*)*
            failures
        }
    };
}

contract::for_each_behaviour!(on_etcd);

/// Boxes the behaviour, so that the caller's frame does not hold all of them at once, and survives its panic.
fn succeeds<F: Future<Output = ()>>(behaviour: impl FnOnce() -> F) -> impl Future<Output = bool> {
    let mut behaviour = Box::pin(behaviour());
    poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| behaviour.as_mut().poll(context))) {
        Ok(poll) => poll.map(|()| true),
        Err(_) => Poll::Ready(false),
    })
}

fn etcd_store(server: &Server) -> Etcd {
    Etcd::new(EtcdConfig { endpoints: vec![server.endpoint()], ..EtcdConfig::default() }).unwrap()
}

async fn etcd_meets_the_contract(version: Version) {
    let server = Server::start(version);
    assert_eq!(failures(&etcd_store(&server), &server).await, [""; 0]);
}

#[tokio::test]
async fn etcd_3_4() {
    etcd_meets_the_contract(Version::V34).await;
}

#[tokio::test]
async fn etcd_3_6() {
    etcd_meets_the_contract(Version::V36).await;
}

#[tokio::test]
async fn etcd_3_7() {
    etcd_meets_the_contract(Version::V37).await;
}
