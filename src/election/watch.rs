//! Keeps the mirrors true: one watch stream, on it one watch per election, or a single one on all of the service's
//! keys when it stands in many elections, or two on single keys where it stands far behind (`distance`). Whatever breaks is opened again and read anew; no campaign fails for it,
//! unless permission is refused.
//!
//! A mirror is whole after a list that was read once its watch was set. A leader that won by its join's answer needs
//! no list if the watch was set before: the word of its own key's deletion is enough.

use std::collections::HashMap;
use std::sync::Arc;

use super::backoff::Backoff;
use super::distance::{Distance, FAR};
use super::mirror::{Change, Entry, KEPT_VALUE_BYTES, Mirror};
use super::observer::Reading;
use super::timers::Timer;
use super::{CallId, Core, Output, PartPurpose};
use crate::clock::{MS, Nanos, SECOND};
use crate::error::{Code, Error};
use crate::events::{Level, SubscriptionId};
use crate::store::{
    Failure, Header, KeyValue, Op, OpResult, Order, Range, RangeResult, Revision, StoreError, Txn, TxnResult,
    WatchEvent, WatchMessage, WatchRequest, prefix_end,
};

/// More elections than this share one watch on the service's whole prefix: ten thousand watches take seconds to open.
const NARROW: usize = 32;

/// Signs of life asked for in vain before a stream counts as dead: etcd leaves one unanswered while a watch of the
/// stream catches up, or its buffer is full.
const PATIENCE: u32 = 2;

/// Keys of one page of a list; without values that is about 1 MB. Few in tests, so that they have pages.
const PAGE: i64 = if cfg!(test) { 20 } else { 10_000 };

/// An election that somebody here stands in or observes.
#[derive(Debug, Default)]
pub(super) struct Election {
    pub(super) mirror: Mirror,
    pub(super) campaign: Option<SubscriptionId>,
    pub(super) observers: Vec<SubscriptionId>,
    /// Its own watch on all of it, when it has one.
    pub(super) watch: Option<i64>,
    /// Its own watch is set, and tells of what comes after this revision.
    pub(super) watched: Option<Revision>,
    /// Two keys are watched instead of all, or will be.
    pub(super) distance: Option<Box<Distance>>,
    listing: Option<Box<Listing>>,
    /// The leader's value is being read.
    pub(super) reading_value: Option<Box<Reading>>,
    /// What a list of the whole prefix has found for it so far; `None` where that list began without it.
    found: Option<Box<Found>>,
}

impl Election {
    /// Nothing is watched any more.
    fn unwatch(&mut self) {
        self.distance = None;
        self.unwatch_whole();
    }

    /// What its mirror says is only the last state known from now on.
    pub(super) fn unwatch_whole(&mut self) {
        self.mirror.unsync();
        self.watch = None;
        self.watched = None;
        self.listing = None;
        self.reading_value = None;
        self.found = None;
    }

    fn is_unwatched(&self) -> bool {
        self.watch.is_none() && self.distance.is_none()
    }

    /// All watches of its own.
    fn watches(&self) -> impl Iterator<Item = i64> + use<> {
        self.watch.into_iter().chain(self.distance.as_ref().map(|distance| distance.ids()).into_iter().flatten())
    }
}

/// What the list and the watch of the whole prefix know of an election that still has a watch of its own. The one may
/// be ahead of the other, so they are brought together only when the list is in.
#[derive(Debug, Default)]
struct Found {
    entries: Vec<Entry>,
    changes: Vec<Change>,
}

/// A list in pages of one revision.
#[derive(Debug)]
struct Listing {
    call: CallId,
    revision: Revision,
    entries: Vec<Entry>,
}

/// A page of the list of the service's whole prefix.
#[derive(Clone, Debug)]
pub(super) struct WidePage {
    listing: u64,
    from: Vec<u8>,
    revision: Revision,
}

/// The single watch on everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wide {
    /// Not used: few elections.
    No,
    /// Refused, for lack of permission on the whole prefix: never again.
    Refused,
    /// Asked for under this id.
    Asked(i64),
    /// Set, under this id.
    Open(i64),
}

/// The stream.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) stream: Option<u64>,
    /// [`NARROW`], but in tests.
    pub(super) narrow: usize,
    /// [`FAR`], but in tests.
    pub(super) far: usize,
    pub(super) ids: HashMap<i64, Arc<str>>,
    wide: Wide,
    /// Elections that need a watch of their own.
    pub(super) pending: Vec<Arc<str>>,
    /// Elections whose watch or list failed.
    unlisted: Vec<Arc<str>>,
    wide_unlisted: bool,
    /// The list of the whole prefix under way; pages of an earlier one are dropped.
    wide_listing: Option<u64>,
    /// Anything was heard since the last sign of life was asked for.
    heard: bool,
    /// So many times in a row, each unanswered.
    asked: u32,
    interval: Nanos,
    backoff: Backoff,
    pub(super) list_backoff: Backoff,
}

impl Watch {
    pub(super) fn new(ttl: Nanos) -> Self {
        Watch {
            stream: None,
            narrow: NARROW,
            far: FAR,
            ids: HashMap::new(),
            wide: Wide::No,
            pending: Vec::new(),
            unlisted: Vec::new(),
            wide_unlisted: false,
            wide_listing: None,
            heard: false,
            asked: 0,
            interval: (ttl / 4).clamp(SECOND, 5 * SECOND),
            backoff: Backoff::new(20 * MS, (ttl / 4).min(2 * SECOND)),
            list_backoff: Backoff::new(20 * MS, (ttl / 4).min(2 * SECOND)),
        }
    }

    pub(super) fn is_wide(&self) -> bool {
        matches!(self.wide, Wide::Asked(_) | Wide::Open(_))
    }
}

impl Core {
    /// Somebody here stands in this election or observes it.
    pub(super) fn want(&mut self, name: &Arc<str>) -> &mut Election {
        if !self.elections.contains_key(name) {
            self.watch.pending.push(name.clone());
        }
        self.elections.entry(name.clone()).or_default()
    }

    /// Forgets the election if nobody here needs it any more.
    pub(super) fn unwant(&mut self, name: &str) {
        let unused = self.elections.get(name).is_some_and(|e| e.campaign.is_none() && e.observers.is_empty());
        if let Some(election) = unused.then(|| self.elections.remove(name)).flatten() {
            election.watches().for_each(|id| self.cancel_watch(id));
        }
    }

    pub(super) fn cancel_watch(&mut self, id: i64) {
        self.watch.ids.remove(&id);
        if let Some(stream) = self.watch.stream {
            self.emit(Output::Watch { stream, request: WatchRequest::Cancel(id) });
        }
    }

    /// Asks for the watches that are missing. After the transactions, so that a join goes out first.
    pub(super) fn send_watches(&mut self) {
        if self.watch.pending.is_empty() || self.closing {
            return;
        }
        let Some(stream) = self.watch.stream else {
            if !self.timers.is_set(Timer::WatchOpen) {
                self.open_watch();
            }
            return;
        };
        let many = self.elections.len() > self.watch.narrow;
        if many && self.watch.wide == Wide::No && self.keys.base().ends_with(b"/") {
            let id = self.next_id() as i64;
            self.watch.wide = Wide::Asked(id);
            let key = self.keys.base().to_vec();
            self.emit(Output::Watch { stream, request: WatchRequest::Create { id, end: prefix_end(&key), key } });
        }
        for name in std::mem::take(&mut self.watch.pending) {
            if self.watch.is_wide() {
                self.ensure_list(&name);
            } else {
                self.send_watch(stream, name);
            }
        }
    }

    fn send_watch(&mut self, stream: u64, name: Arc<str>) {
        let id = self.next_id() as i64;
        // Entered, left and entered again before there was a stream, it is pending twice.
        let Some(election) = self.elections.get_mut(&name).filter(|election| election.is_unwatched()) else { return };
        election.watch = Some(id);
        let key = self.keys.election(&name);
        self.watch.ids.insert(id, name);
        self.emit(Output::Watch { stream, request: WatchRequest::Create { id, end: prefix_end(&key), key } });
    }

    pub(super) fn open_watch(&mut self) {
        if self.watch.stream.is_some() || self.closing || self.elections.is_empty() {
            return;
        }
        self.timers.clear(Timer::WatchOpen);
        let stream = self.next_id();
        self.watch.stream = Some(stream);
        self.watch.asked = 0;
        self.emit(Output::OpenWatch { stream });
        self.timers.set(Timer::Heartbeat, self.now + self.watch.interval);
        self.send_watches();
    }

    pub(super) fn watch_message(&mut self, stream: u64, message: WatchMessage) {
        if self.watch.stream != Some(stream) {
            return;
        }
        self.watch.heard = true;
        match message {
            WatchMessage::Created { id, header } => {
                if !self.notice_cluster(header, 0) {
                    self.watch_created(id, header.revision);
                }
            }
            WatchMessage::Events { id, header, events } => {
                if !self.notice_cluster(header, 0) {
                    self.watch_events(id, events);
                }
            }
            WatchMessage::Canceled { id, error } => self.watch_canceled(id, &error),
            WatchMessage::Progress(header) => {
                self.notice_cluster(header, 0);
            }
        }
    }

    fn watch_created(&mut self, id: i64, revision: Revision) {
        self.watch.backoff.reset();
        if self.watch.wide == Wide::Asked(id) {
            self.watch.wide = Wide::Open(id);
            self.list_wide();
        } else if let Some(name) = self.watch.ids.get(&id).cloned() {
            if self.distance_created(&name, id, revision) {
                return;
            }
            let Some(election) = self.elections.get_mut(&name) else { return };
            election.watched = Some(revision);
            // A join under way will show what it needs to know.
            let campaign = election.campaign.and_then(|id| self.campaigns.get(&id));
            if campaign.is_some_and(|campaign| campaign.is_joining()) && election.observers.is_empty() {
                return;
            }
            self.list(&name);
        }
    }

    /// Only an election's own watch feeds its mirror, or the wide one: each is in order, but one that covers the same
    /// keys may be ahead of the other.
    fn watch_events(&mut self, id: i64, events: Vec<WatchEvent>) {
        let source = self.watch.ids.get(&id).cloned();
        if source.is_none() && self.watch.wide != Wide::Open(id) {
            return;
        }
        if source.as_ref().is_some_and(|name| self.distance_events(name, id, &events)) {
            return;
        }
        let mut changed: Vec<Arc<str>> = Vec::new();
        for event in events {
            let (key, on, revision) = event.outcome();
            for (name, rest) in self.locate(key) {
                if source.as_ref().is_some_and(|only| *only != name) {
                    continue;
                }
                let change = match &event {
                    WatchEvent::Put(kv) => Change::Put { entry: entry(rest.clone(), kv, true), revision },
                    WatchEvent::Delete { .. } => Change::Delete { name: rest.clone(), revision },
                };
                self.mirror_change(&name, change, source.is_some());
                self.key_changed(&name, &rest, on, revision);
                if changed.last() != Some(&name) {
                    changed.push(name);
                }
            }
        }
        // Only after the whole message: all changes of a revision are in it, and only together they are true.
        for name in changed {
            self.election_changed(&name);
        }
    }

    fn mirror_change(&mut self, name: &str, change: Change, own: bool) {
        let Some(election) = self.elections.get_mut(name) else { return };
        let listing = self.watch.wide_listing.is_some() || election.listing.is_some();
        match &mut election.found {
            Some(found) if election.watched.is_some() && !own => change.wait_in(&mut found.changes),
            _ if election.watched.is_some() && !own => {}
            _ => election.mirror.change(change, listing),
        }
    }

    /// The elections that matter here and hold this key, with the rest of it.
    fn locate(&self, key: &[u8]) -> Vec<(Arc<str>, Box<[u8]>)> {
        let known = |(name, rest): (&str, &[u8])| Some((self.elections.get_key_value(name)?.0.clone(), rest.into()));
        self.keys.locate(key).filter_map(known).collect()
    }

    pub(super) fn election_changed(&mut self, name: &str) {
        self.check_candidate(name);
        self.tell_observers(name);
        self.keep_distance(name);
    }

    fn watch_canceled(&mut self, id: i64, error: &StoreError) {
        if error.failure == Failure::Canceled {
            return;
        }
        let refused = !error.failure.is_transient() && error.failure != Failure::Compacted;
        if self.watch.wide == Wide::Asked(id) || self.watch.wide == Wide::Open(id) {
            if refused {
                self.refuse_wide(error);
            } else {
                self.restart_watch(Error::from(error).code(), &error.message);
            }
        } else if let Some(name) = self.watch.ids.remove(&id) {
            if error.failure.is_transient() {
                return self.restart_watch(Error::from(error).code(), &error.message);
            }
            // Its own trouble: the others' watches go on.
            if let Some(election) = self.elections.get_mut(&name) {
                let others: Vec<i64> = election.watches().filter(|other| *other != id).collect();
                election.unwatch();
                others.into_iter().for_each(|other| self.cancel_watch(other));
            }
            self.look_again(&name, error);
        }
    }

    /// Everything can't be watched or listed as a whole.
    fn refuse_wide(&mut self, error: &StoreError) {
        self.log(Level::Info, format!("no watch on the whole service, one per election instead: {error}"));
        match std::mem::replace(&mut self.watch.wide, Wide::Refused) {
            Wide::Asked(_) => self.watch.pending = self.unwatched(),
            _ => self.restart_watch(Error::from(error).code(), &error.message),
        }
    }

    fn unwatched(&self) -> Vec<Arc<str>> {
        let unwatched = self.elections.iter().filter(|(_, election)| election.is_unwatched());
        let mut names: Vec<Arc<str>> = unwatched.map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }

    pub(super) fn watch_ended(&mut self, stream: u64, error: &StoreError) {
        if self.watch.stream == Some(stream) {
            self.watch.stream = None;
            self.restart_watch(Error::from(error).code(), &error.message);
        }
    }

    /// What the mirrors say is only the last state known until the stream is open and lists are read again.
    pub(super) fn restart_watch(&mut self, code: Code, reason: &str) {
        self.close_watch();
        self.watch.pending = self.unwatched();
        if self.elections.is_empty() {
            return;
        }
        self.log(Level::Warn, format!("the watch is opened again: {reason}"));
        self.tell_disconnected(None, code, reason);
        let pause = self.watch.backoff.pause(&mut self.random);
        self.timers.set(Timer::WatchOpen, self.now + pause);
    }

    /// Nothing that is still under way for the watch and the lists counts any more.
    pub(super) fn close_watch(&mut self) {
        if let Some(stream) = self.watch.stream.take() {
            self.emit(Output::CloseWatch { stream });
        }
        for timer in [Timer::Heartbeat, Timer::WatchOpen, Timer::Lists] {
            self.timers.clear(timer);
        }
        self.watch.ids.clear();
        if self.watch.is_wide() {
            self.watch.wide = Wide::No;
        }
        self.elections.values_mut().for_each(|election| election.unwatch());
        self.watch.pending.clear();
        self.watch.unlisted.clear();
        self.watch.wide_unlisted = false;
        self.watch.wide_listing = None;
    }

    /// A stream that is silent although it was asked is dead, whatever TCP says.
    pub(super) fn heartbeat(&mut self) {
        let Some(stream) = self.watch.stream else { return };
        if self.watch.heard {
            self.watch.asked = 0;
        }
        if self.watch.asked >= PATIENCE {
            let reason = "the watch stream does not answer";
            self.emit(Output::Rotate { reason: reason.into() });
            self.restart_watch(Code::Unavailable, reason);
            return;
        }
        self.watch.heard = false;
        // A stream without watches need not answer.
        if !self.watch.ids.is_empty() || self.watch.is_wide() {
            self.watch.asked += 1;
            self.emit(Output::Watch { stream, request: WatchRequest::Progress });
        }
        self.timers.set(Timer::Heartbeat, self.now + self.watch.interval);
    }

    /// Reads the whole queue if somebody needs it and it isn't known or being read.
    pub(super) fn ensure_list(&mut self, name: &Arc<str>) {
        let Some(election) = self.elections.get(name) else { return };
        let waiting = election.campaign.and_then(|id| self.campaigns.get(&id)).is_some_and(|c| c.needs_list());
        let needed = (waiting || !election.observers.is_empty()) && !election.mirror.is_synced();
        if needed && self.is_watched(election) && election.listing.is_none() {
            self.list(name);
        }
    }

    /// Only what is listed under a watch makes a mirror whole.
    fn is_watched(&self, election: &Election) -> bool {
        election.watched.is_some() || matches!(self.watch.wide, Wide::Open(_))
    }

    fn list(&mut self, name: &Arc<str>) {
        let prefix = self.keys.election(name);
        // A list of the whole service that is under way may know less.
        if self.watch.wide_listing.is_none()
            && let Some(election) = self.elections.get_mut(name)
        {
            election.mirror.list_begins();
        }
        let listing = Listing { call: 0, revision: 0, entries: Vec::new() };
        self.send_list(name, listing, Range { end: prefix_end(&prefix), key: prefix, ..Range::default() });
    }

    fn send_list(&mut self, name: &Arc<str>, mut listing: Listing, range: Range) {
        let page = Range { limit: PAGE, keys_only: true, ..range };
        let txn = Txn { then: vec![Op::Range(page)], ..Txn::default() };
        listing.call = self.submit(PartPurpose::List(name.clone()), txn);
        if let Some(election) = self.elections.get_mut(name) {
            election.listing = Some(Box::new(listing));
        }
    }

    pub(super) fn listed(&mut self, name: &Arc<str>, call: CallId, result: Result<(Header, TxnResult), StoreError>) {
        let Some(election) = self.elections.get_mut(name) else { return };
        let Some(mut listing) = election.listing.take_if(|listing| listing.call == call) else { return };
        let (header, range) = match result.and_then(|(header, result)| Ok((header, one_range(result)?))) {
            Ok(page) => page,
            Err(error) => return self.look_again(name, &error),
        };
        if listing.revision == 0 {
            listing.revision = header.revision;
        }
        let prefix = self.keys.election(name);
        listing.entries.extend(range.kvs.iter().map(|kv| entry(below(&kv.key, &prefix), kv, false)));
        if let Some(last) = range.kvs.last().filter(|_| range.more) {
            let next = Range {
                key: [&last.key, &b"\0"[..]].concat(),
                end: prefix_end(&prefix),
                revision: listing.revision,
                ..Range::default()
            };
            return self.send_list(name, *listing, next);
        }
        election.mirror.list(listing.entries, listing.revision);
        // Where observers wait for the leader's value, only that is a success.
        if election.observers.is_empty() || election.mirror.is_complete() {
            self.watch.list_backoff.reset();
        }
        self.election_changed(name);
    }

    /// The election can't be watched or listed now.
    pub(super) fn look_again(&mut self, name: &Arc<str>, error: &StoreError) {
        if error.failure == Failure::PermissionDenied {
            self.may_not_look(name, error);
        }
        self.watch.unlisted.push(name.clone());
        self.list_failed(Some(name), error);
    }

    /// `only`: one election, else all.
    fn list_failed(&mut self, only: Option<&str>, error: &StoreError) {
        self.log(Level::Warn, format!("the candidates could not be watched and listed: {error}"));
        self.tell_disconnected(only, Error::from(error).code(), &error.message);
        let pause = self.watch.list_backoff.pause(&mut self.random);
        self.timers.set_earlier(Timer::Lists, self.now + pause);
    }

    /// Repeats the watches and lists that failed.
    pub(super) fn send_lists(&mut self) {
        for name in std::mem::take(&mut self.watch.unlisted) {
            let Some(election) = self.elections.get(&name) else { continue };
            if self.is_watched(election) {
                if election.listing.is_none() {
                    self.list(&name);
                }
            } else if election.is_unwatched() && !self.watch.is_wide() {
                self.watch.pending.push(name);
            }
        }
        if std::mem::take(&mut self.watch.wide_unlisted) && matches!(self.watch.wide, Wide::Open(_)) {
            self.list_wide();
        }
    }

    /// After doubt: reads everything anew while the watches go on.
    pub(super) fn relist_all(&mut self) {
        if matches!(self.watch.wide, Wide::Open(_)) {
            return self.list_wide();
        }
        let mut distant: Vec<Arc<str>> =
            self.elections.iter().filter(|(_, e)| e.distance.is_some()).map(|(name, _)| name.clone()).collect();
        distant.sort_unstable();
        distant.iter().for_each(|name| self.come_near(name));
        let mut watched: Vec<Arc<str>> = self
            .elections
            .iter()
            .filter(|(_, e)| e.watched.is_some() && e.listing.is_none())
            .map(|(name, _)| name.clone())
            .collect();
        watched.sort_unstable();
        for name in watched {
            self.list(&name);
        }
    }

    fn list_wide(&mut self) {
        for election in self.elections.values_mut() {
            election.found = Some(Box::default());
            if election.listing.is_none() {
                election.mirror.list_begins();
            }
        }
        let listing = self.next_id();
        self.watch.wide_listing = Some(listing);
        let page = WidePage { listing, from: self.keys.base().to_vec(), revision: 0 };
        self.send_wide_list(page);
    }

    fn send_wide_list(&mut self, page: WidePage) {
        let range = Range {
            key: page.from.clone(),
            end: prefix_end(self.keys.base()),
            limit: PAGE,
            order: Order::Key,
            keys_only: true,
            revision: page.revision,
        };
        self.submit(PartPurpose::WideList(page), Txn { then: vec![Op::Range(range)], ..Txn::default() });
    }

    pub(super) fn wide_listed(&mut self, mut page: WidePage, result: Result<(Header, TxnResult), StoreError>) {
        if self.watch.wide_listing != Some(page.listing) {
            return;
        }
        let (header, range) = match result.and_then(|(header, result)| Ok((header, one_range(result)?))) {
            Ok(page) => page,
            Err(error) if error.failure == Failure::PermissionDenied => return self.refuse_wide(&error),
            Err(error) => {
                self.watch.wide_unlisted = true;
                self.watch.wide_listing = None;
                return self.list_failed(None, &error);
            }
        };
        self.watch.list_backoff.reset();
        if page.revision == 0 {
            page.revision = header.revision;
        }
        for kv in &range.kvs {
            for (name, rest) in self.locate(&kv.key) {
                if let Some(found) = self.elections.get_mut(&name).and_then(|election| election.found.as_mut()) {
                    found.entries.push(entry(rest, kv, false));
                }
            }
        }
        if let Some(last) = range.kvs.last().filter(|_| range.more) {
            page.from = [&last.key, &b"\0"[..]].concat();
            return self.send_wide_list(page);
        }
        self.watch.wide_listing = None;
        let mut names: Vec<Arc<str>> = self.elections.keys().cloned().collect();
        names.sort_unstable();
        for name in names {
            let Some(election) = self.elections.get_mut(&name) else { continue };
            let Some(found) = election.found.take() else {
                // It was listed anew meanwhile, or took its distance.
                if let Some(distance) = election.distance.take() {
                    distance.ids().for_each(|id| self.cancel_watch(id));
                }
                self.ensure_list(&name);
                continue;
            };
            election.mirror.take_over(found.entries, page.revision, found.changes);
            election.listing = None;
            // The change is lossless: its own watches end only now that the wide one has taken over.
            election.watched = None;
            let own: Vec<i64> = election.watches().collect();
            (election.watch, election.distance) = (None, None);
            own.into_iter().for_each(|id| self.cancel_watch(id));
            self.election_changed(&name);
        }
    }
}

/// A key below its election's prefix.
pub(super) fn below(key: &[u8], prefix: &[u8]) -> Box<[u8]> {
    key.strip_prefix(prefix).unwrap_or(key).into()
}

/// `whole`: a watch's, not a list's of keys alone.
fn entry(name: Box<[u8]>, kv: &KeyValue, whole: bool) -> Entry {
    let value = (whole && kv.value.len() <= KEPT_VALUE_BYTES).then(|| kv.value.as_slice().into());
    Entry { name, token: kv.create_revision, changed: kv.mod_revision, lease: whole.then_some(kv.lease), value }
}

pub(super) fn one_range(result: TxnResult) -> Result<RangeResult, StoreError> {
    match result.results.into_iter().next() {
        Some(OpResult::Range(range)) => Ok(range),
        _ => Err(super::unexpected()),
    }
}
