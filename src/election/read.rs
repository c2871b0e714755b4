//! Linearizable reads for callers: the leader, or all candidates. Repeated until answered or their time is over.

use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::timers::Timer;
use super::{Answer, Core, Purpose, ReadId, Reply, ReplyId, Request, unexpected};
use crate::clock::{MS, Nanos, SECOND, nanos};
use crate::error::{Code, Error};
use crate::events::Candidate;
use crate::store::{Failure, KeyValue, Order, Range, Revision, StoreError, prefix_end};

/// Candidates of one page: their values may be 1 MiB each.
const PAGE: i64 = 64;

/// What all candidates of an answer may hold, keys and values. A neighbour may put more than this process has room for.
const MAX_BYTES: usize = if cfg!(test) { 64 * 1024 } else { 256 * 1024 * 1024 };

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadKind {
    /// The lowest candidate.
    Leader,
    /// All of them in order.
    Candidates,
}

/// A read under way.
#[derive(Debug)]
pub(super) struct Read {
    kind: ReadKind,
    election: Arc<str>,
    reply: ReplyId,
    until: Nanos,
    backoff: Backoff,
    /// The last failure.
    trouble: Option<Error>,
    /// What earlier pages held, all of this revision.
    found: Vec<KeyValue>,
    bytes: usize,
    revision: Revision,
}

impl Read {
    /// What was found so far is of no use.
    fn restart(&mut self) {
        self.found.clear();
        self.bytes = 0;
        self.revision = 0;
    }
}

impl Core {
    pub(super) fn read(&mut self, kind: ReadKind, election: Arc<str>, timeout: Duration, reply: ReplyId) {
        if self.closing {
            return self.reply(reply, Err(Error::new(Code::Closed, "the service is closed")));
        }
        let id = self.next_id();
        let until = self.now.saturating_add(nanos(timeout));
        let backoff = Backoff::new(20 * MS, SECOND);
        let read =
            Read { kind, election, reply, until, backoff, trouble: None, found: Vec::new(), bytes: 0, revision: 0 };
        self.reads.insert(id, read);
        self.timers.set(Timer::ReadLimit(id), until);
        self.send_read(id);
    }

    pub(super) fn send_read(&mut self, id: ReadId) {
        let Some(read) = self.reads.get(&id) else { return };
        let prefix = self.keys.election(&read.election);
        let end = prefix_end(&prefix);
        let range = match read.kind {
            ReadKind::Leader => Range { key: prefix, end, limit: 1, order: Order::CreateRevision, ..Range::default() },
            ReadKind::Candidates => {
                let key = read.found.last().map_or(prefix, |last| [&last.key, &b"\0"[..]].concat());
                Range { key, end, limit: PAGE, revision: read.revision, ..Range::default() }
            }
        };
        let timeout = (read.until - self.now).clamp(MS, self.call_timeout);
        self.call(Purpose::Read(id), Request::Range(range), timeout);
    }

    pub(super) fn read_answer(&mut self, id: ReadId, result: Result<Answer, StoreError>) {
        let Some(read) = self.reads.get_mut(&id) else { return };
        let result = match result {
            Ok(Answer::Range(header, range)) => Ok((header, range)),
            Ok(_) => Err(unexpected()),
            Err(error) => Err(error),
        };
        match result {
            Ok((header, range)) => {
                if read.revision == 0 {
                    read.revision = header.revision;
                }
                let more = range.more && read.kind == ReadKind::Candidates;
                read.bytes += range.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum::<usize>();
                if read.bytes > MAX_BYTES {
                    let (election, limit) = (&read.election, MAX_BYTES / 1024);
                    let message = format!("election `{election}`: its candidates hold more than {limit} KiB together");
                    return self.end_read(id, Err(Error::new(Code::ValueTooLarge, message)));
                }
                read.found.extend(range.kvs);
                if more { self.send_read(id) } else { self.read_done(id) }
            }
            Err(error) if error.failure == Failure::Compacted => {
                read.restart();
                self.send_read(id);
            }
            Err(error) if error.failure.is_transient() => {
                read.trouble = Some(Error::from(&error));
                let pause = read.backoff.pause(&mut self.random);
                self.timers.set(Timer::Read(id), self.now + pause);
            }
            Err(error) => self.end_read(id, Err(Error::from(&error))),
        }
    }

    fn read_done(&mut self, id: ReadId) {
        let Some(read) = self.reads.get_mut(&id) else { return };
        let prefix = self.keys.election(&read.election);
        let mut found = std::mem::take(&mut read.found);
        found.sort_by(|a, b| (a.create_revision, &a.key).cmp(&(b.create_revision, &b.key)));
        let nested = found.iter().find(|kv| kv.key.get(prefix.len()..).is_some_and(|name| name.contains(&b'/')));
        let result = match (nested, read.kind) {
            (Some(kv), _) => {
                let key = String::from_utf8_lossy(&kv.key);
                let message =
                    format!("election `{}`: the key `{key}` belongs to another election nested inside", read.election);
                Err(Error::new(Code::NameCollision, message))
            }
            (None, ReadKind::Candidates) => Ok(Reply::Candidates(found.into_iter().map(candidate).collect())),
            (None, ReadKind::Leader) => match found.into_iter().next() {
                Some(first) => Ok(Reply::Leader(candidate(first))),
                None => Err(Error::new(Code::NoLeader, format!("election `{}` has no leader", read.election))),
            },
        };
        self.end_read(id, result);
    }

    pub(super) fn read_limit(&mut self, id: ReadId) {
        let Some(read) = self.reads.get_mut(&id) else { return };
        let error = read.trouble.take().unwrap_or_else(|| {
            Error::new(Code::Timeout, format!("election `{}`: no answer from etcd in time", read.election))
        });
        self.end_read(id, Err(error));
    }

    fn end_read(&mut self, id: ReadId, result: Result<Reply, Error>) {
        self.timers.clear(Timer::Read(id));
        self.timers.clear(Timer::ReadLimit(id));
        if let Some(read) = self.reads.remove(&id) {
            self.reply(read.reply, result);
        }
    }

    /// Pages of a former cluster are of no use; what is under way fails, and is asked for again.
    pub(super) fn restart_reads(&mut self) {
        for read in self.reads.values_mut() {
            read.restart();
        }
    }

    pub(super) fn close_reads(&mut self) {
        let mut ids: Vec<ReadId> = self.reads.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.end_read(id, Err(Error::new(Code::Closed, "the service was closed")));
        }
    }
}

fn candidate(kv: KeyValue) -> Candidate {
    Candidate { value: kv.value.into(), token: kv.create_revision, key: kv.key.into(), lease: kv.lease }
}
