//! Connecting by name. A lookup blocks, so it has a thread of its own for as long as it takes. Not one of the runtime's
//! pool: that panics where the system has no thread to give, which here is a reason like any other not to be connected.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::oneshot;
use tower_service::Service;

use crate::ffi::sys;

/// What makes a member's TCP connections.
pub(super) fn connector() -> HttpConnector<Names> {
    let mut connector = HttpConnector::new_with_resolver(Names);
    // TLS comes on top.
    connector.enforce_http(false);
    connector
}

/// Looks names up as the system does.
#[derive(Clone)]
pub(super) struct Names;

type Addresses = std::vec::IntoIter<SocketAddr>;

impl Service<Name> for Names {
    type Response = Addresses;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Addresses>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (found, receiver) = oneshot::channel();
        let look = move || {
            // Who asked may have given up.
            let _ = found.send((name.as_str(), 0).to_socket_addrs());
        };
        let started = sys::thread("tenure-names").spawn(look);
        Box::pin(async move {
            started.map_err(|error| io::Error::new(error.kind(), format!("no thread to look the name up: {error}")))?;
            receiver.await.map_err(io::Error::other)?
        })
    }
}
