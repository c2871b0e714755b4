//! Keepalive streams: one per lease, opened when first needed and kept for the next time.
//!
//! A stream is taken out while a ping is on its way and given back only with the answer in hand. So a stream that
//! is here owes nothing, and a late answer can never be taken for that to a later ping: its stream is gone.

use std::collections::HashMap;
use std::sync::Mutex;

use etcd_client::{LeaseKeepAliveResponse, LeaseKeepAliveStream, LeaseKeeper};

use super::connection::Connection;
use super::failure::Problem;
use super::lock;
use crate::store::LeaseId;

struct Stream {
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

/// The streams of a connection. `None` stands for one that is taken out.
#[derive(Default)]
pub(super) struct KeepAlives(Mutex<HashMap<LeaseId, Option<Stream>>>);

impl KeepAlives {
    /// The lease is to end: its stream isn't needed any more, nor one that is given back later.
    pub(super) fn forget(&self, id: LeaseId) {
        let stream = lock(&self.0).remove(&id);
        drop(stream);
    }

    fn take(&self, id: LeaseId) -> Taken<'_> {
        let stream = lock(&self.0).entry(id).or_default().take();
        Taken { home: self, id, stream, intact: false }
    }
}

struct Taken<'a> {
    home: &'a KeepAlives,
    id: LeaseId,
    stream: Option<Stream>,
    /// Every ping is answered.
    intact: bool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut streams = lock(&self.home.0);
        match streams.get_mut(&self.id) {
            Some(slot) if self.intact => *slot = self.stream.take(),
            Some(None) => {
                streams.remove(&self.id);
            }
            _ => {}
        }
    }
}

/// Sends one ping and waits for its answer.
///
/// Before it, it is confirmed that the member's raft leader leads: older versions of etcd (3.4.23 does) renew leases on
/// one that was replaced while it waited for its disk, although its successor may end them (etcd issue 15247). Confirmed
/// after the ping was asked for, a successor is elected later than that, and gives each lease its whole time to live.
pub(super) async fn ping(connection: &Connection, id: LeaseId) -> Result<LeaseKeepAliveResponse, Problem> {
    let mut taken = connection.keep_alives.take(id);
    let open = async {
        if taken.stream.is_none() {
            // This is a ping of its own, whose answer the client checks but does not show.
            let (keeper, answers) = connection.lease.clone().keep_alive(id).await.map_err(opening)?;
            taken.stream = Some(Stream { keeper, answers });
        }
        Ok(())
    };
    tokio::try_join!(open, connection.confirm_leader())?;
    let Some(stream) = &mut taken.stream else { return Err(Problem::stream_ended()) };
    // If this fails then the stream has ended, and the next line says why.
    let _ = stream.keeper.keep_alive().await;
    let answer = stream.answers.message().await?.ok_or_else(Problem::stream_ended)?;
    if answer.ttl() <= 0 {
        return Err(Problem::lease_gone());
    }
    taken.intact = true;
    Ok(answer)
}

/// The client says by text alone that the lease is gone.
fn opening(error: etcd_client::Error) -> Problem {
    match error {
        etcd_client::Error::LeaseKeepAliveError(text) if text == "lease not found" => Problem::lease_gone(),
        error => Problem::from(error),
    }
}
