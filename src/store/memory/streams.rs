//! The open watch streams.

use std::collections::{BTreeMap, btree_map};
use std::mem;
use std::ops::RangeBounds;

use tokio::sync::{mpsc, oneshot};

use super::history::span;
use crate::store::{Failure, Header, KeyValue, StoreError, WatchEvent, WatchMessage, WatchRequest};

#[derive(Default)]
pub(super) struct Streams {
    /// The id of the next stream.
    next: u64,
    open: BTreeMap<u64, Stream>,
}

struct Stream {
    client: u64,
    watches: BTreeMap<i64, Watch>,
    messages: mpsc::UnboundedSender<WatchMessage>,
    broken: oneshot::Sender<StoreError>,
}

struct Watch {
    key: Vec<u8>,
    end: Vec<u8>,
}

impl Streams {
    /// Opens a stream; `broken` is told when it breaks.
    pub(super) fn open(
        &mut self,
        client: u64,
        messages: mpsc::UnboundedSender<WatchMessage>,
        broken: oneshot::Sender<StoreError>,
    ) -> u64 {
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Stream { client, watches: BTreeMap::new(), messages, broken });
        id
    }

    pub(super) fn close(&mut self, id: u64) {
        self.open.remove(&id);
    }

    /// Breaks the streams of those clients for which `of` is true.
    pub(super) fn break_all(&mut self, of: impl Fn(u64) -> bool, error: &StoreError) {
        let (broken, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
            mem::take(&mut self.open).into_iter().partition(|(_, stream): &(u64, Stream)| of(stream.client));
        self.open = kept;
        for stream in broken.into_values() {
            // A stream whose future is gone needs no reason.
            let _ = stream.broken.send(error.clone());
        }
    }

    /// Acts on a request; one for a stream that broke in the meantime comes to nothing.
    pub(super) fn serve(
        &mut self,
        id: u64,
        request: WatchRequest,
        header: Header,
        error: impl Fn(Failure, &str) -> StoreError,
    ) {
        let Some(stream) = self.open.get_mut(&id) else { return };
        match request {
            WatchRequest::Create { id, key, end } => match stream.create(id, key, end) {
                Ok(()) => stream.tell(WatchMessage::Created { id, header }),
                Err(reason) => stream.tell(WatchMessage::Canceled { id, error: error(Failure::Refused, reason) }),
            },
            WatchRequest::Cancel(id) => {
                if stream.watches.remove(&id).is_some() {
                    let error = error(Failure::Canceled, "the watch was cancelled");
                    stream.tell(WatchMessage::Canceled { id, error });
                }
            }
            // etcd 3.6 and later answer on a watch's behalf: without one there is no answer.
            WatchRequest::Progress if stream.watches.is_empty() => {}
            WatchRequest::Progress => stream.tell(WatchMessage::Progress(header)),
        }
    }

    /// Tells every watch what it wants to know of one revision's changes.
    pub(super) fn publish(&self, header: Header, events: &[WatchEvent]) {
        for stream in self.open.values() {
            for (&id, watch) in &stream.watches {
                let events: Vec<WatchEvent> = events.iter().filter(|event| watch.wants(event)).cloned().collect();
                if !events.is_empty() {
                    stream.tell(WatchMessage::Events { id, header, events });
                }
            }
        }
    }
}

impl Stream {
    fn create(&mut self, id: i64, key: Vec<u8>, end: Vec<u8>) -> Result<(), &'static str> {
        // No key is empty; as the start of a range etcd takes it for the first one.
        let key = if key.is_empty() { vec![0] } else { key };
        if !matches!(end[..], [] | [0]) && end <= key {
            return Err("the range to watch is empty");
        }
        match self.watches.entry(id) {
            btree_map::Entry::Occupied(_) => Err("the watch id is in use"),
            btree_map::Entry::Vacant(entry) => {
                entry.insert(Watch { key, end });
                Ok(())
            }
        }
    }

    fn tell(&self, message: WatchMessage) {
        // Without a listener the stream's future ends, and closes it.
        let _ = self.messages.send(message);
    }
}

impl Watch {
    fn wants(&self, event: &WatchEvent) -> bool {
        let (WatchEvent::Put(KeyValue { key, .. }) | WatchEvent::Delete { key, .. }) = event;
        RangeBounds::<[u8]>::contains(&span(&self.key, &self.end), key.as_slice())
    }
}
