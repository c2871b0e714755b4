//! What is between the services and the store: requests, answers and watch streams on their way.

use std::collections::{BTreeMap, BTreeSet};

use super::etcd;
use super::faults::{Fate, What, asks_who_answers, keys_put};
use super::world::{Candidate, Process, Service, World};
use crate::clock::{Nanos, nanos};
use crate::election::{Answer, CallId, Input, Output, Request, lease_over_after};
use crate::store::{Failure, Header, Revision, StoreError, WatchEvent, WatchMessage, WatchRequest};

/// What is under way.
#[derive(Debug)]
pub(super) enum Event {
    Request(Service, CallId, Request, Fate),
    Answer(Service, CallId, Result<Answer, StoreError>),
    /// The same once more.
    Echo(Service, CallId, Result<Answer, StoreError>),
    GiveUp(Service, CallId),
    StreamRequest(Service, u64, WatchRequest),
    StreamMessage(Service, u64, WatchMessage),
    StreamEnd(Service, u64, StoreError),
    Wake(Service),
    Expiry,
}

pub(super) struct Stream {
    pub(super) id: u64,
    watches: BTreeMap<i64, (Vec<u8>, Vec<u8>)>,
    /// Watches that the store refused or ended.
    ended: BTreeSet<i64>,
    /// Swallows everything from now on, as a partition does.
    pub(super) stalled: bool,
    /// Nothing overtakes anything on a stream.
    last_request: Nanos,
    last_message: Nanos,
    /// Nor on a watch.
    last_events: BTreeMap<i64, Nanos>,
    /// Watches that the service has no use for any more.
    cancelled: BTreeSet<i64>,
}

impl Process {
    fn is_cancelled(&self, watch: i64) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.cancelled.contains(&watch))
    }
}

impl World {
    /// Something reaches a process.
    pub(super) fn arrive(&mut self, service: Service, event: Event) {
        let now = self.now;
        let process = self.process(service);
        if !process.is_up() {
            return;
        }
        if let Some(held) = &mut process.stopped {
            return held.push(event);
        }
        match event {
            Event::Answer(_, call, result) if !process.deaf && process.calls.remove(&call) => {
                self.feed(service, Input::Answer { call, result });
            }
            Event::Echo(_, call, result) if !process.deaf => self.feed(service, Input::Answer { call, result }),
            Event::GiveUp(_, call) if process.calls.remove(&call) => {
                process.late_grants.extend(process.grants.remove(&call));
                let result = Err(StoreError::new(Failure::Unknown, "no answer in time"));
                self.feed(service, Input::Answer { call, result });
            }
            Event::StreamMessage(_, id, message)
                if process.stream.as_ref().is_some_and(|stream| stream.id == id && !stream.stalled) =>
            {
                let told = match &message {
                    WatchMessage::Events { id, events, .. } if !process.is_cancelled(*id) => events.clone(),
                    _ => Vec::new(),
                };
                if let (WatchMessage::Canceled { id, .. }, Some(stream)) = (&message, &mut process.stream) {
                    stream.cancelled.insert(*id);
                }
                self.feed(service, Input::Watch { stream: id, message });
                self.check_told(service, told);
            }
            Event::StreamEnd(_, id, error) if process.stream.take_if(|stream| stream.id == id).is_some() => {
                self.feed(service, Input::WatchEnded { stream: id, error });
            }
            Event::Wake(_) if process.wake == Some(now) => {
                process.wake = None;
                self.feed(service, Input::Wake);
            }
            _ => {}
        }
    }

    pub(super) fn feed(&mut self, service: Service, input: Input) {
        let local = self.processes[service.0].local(self.now);
        if self.traced {
            self.tell(&format!("{} <- {input:?}", service.0));
        }
        let mut outputs = Vec::new();
        self.process(service).core.handle(local, input, &mut outputs);
        for output in outputs {
            if self.traced {
                self.tell(&format!("{} -> {output:?}", service.0));
            }
            assert!(!self.process(service).finished, "after Finished: {output:?}");
            self.carry_out(service, output);
        }
        self.check_service(service);
        self.schedule_wake(service);
    }

    fn carry_out(&mut self, service: Service, output: Output) {
        match output {
            Output::Call { id, request, timeout } => self.send(service, id, request, timeout),
            Output::OpenWatch { stream } => self.open_stream(service, stream),
            Output::Watch { stream, request } => {
                let at = self.now + self.delay();
                let Some(open) = self.process(service).stream.as_mut().filter(|open| open.id == stream) else { return };
                open.last_request = open.last_request.max(at);
                if let WatchRequest::Cancel(id) = request {
                    open.cancelled.insert(id);
                }
                let at = open.last_request;
                self.push(at, Event::StreamRequest(service, stream, request));
            }
            Output::CloseWatch { stream } => {
                self.process(service).stream.take_if(|open| open.id == stream);
            }
            Output::Rotate { .. } => self.process(service).rotations += 1,
            Output::Lead { id, token, until } => self.check_lead(Candidate { service, id }, token, until),
            Output::Status(id, status) => self.check_status(Candidate { service, id }, status),
            Output::Observation(id, observation) => {
                self.check_observation(service, id, &observation);
                let process = self.process(service);
                process.observed.insert(id, observation.clone());
                process.unread.get_mut(&id).unwrap().push(observation);
            }
            Output::Reply(id, result) => {
                let (_, reply) = self.replies.get_mut(&id).unwrap();
                assert!(reply.is_none(), "{id} was answered twice");
                *reply = Some(result);
            }
            Output::Log(..) => {}
            Output::Finished => {
                self.process(service).finished = true;
                self.check_finished(service);
            }
        }
    }

    fn send(&mut self, service: Service, call: CallId, request: Request, timeout: Nanos) {
        for what in What::of(&request) {
            *self.sent.entry(what).or_default() += 1;
        }
        if let Request::Grant { lease, .. } | Request::KeepAlive(lease) = request {
            let now = self.now;
            let process = self.process(service);
            let over = process.local(now) + lease_over_after(nanos(process.core.ttl));
            process.leases.insert(lease, over);
            if let Request::Grant { .. } = request {
                process.grants.insert(call, lease);
            }
        }
        let fate = match self.rules.iter_mut().position(|rule| rule.applies(service, &request)) {
            Some(at) => {
                let fate = self.rules[at].fate;
                self.rules[at].times -= 1;
                self.rules.retain(|rule| rule.times > 0);
                fate
            }
            None => Fate::Served,
        };
        if let Some(name) = fate.name() {
            self.note(name);
        }
        assert!(timeout > 0, "{request:?} has no time");
        let now = self.now;
        let process = self.process(service);
        process.calls.insert(call);
        let give_up = process.when(process.local(now) + timeout);
        self.push(give_up, Event::GiveUp(service, call));
        let delay = self.delay() + if let Fate::Late(late) = fate { late } else { 0 };
        self.push(self.now + delay, Event::Request(service, call, request, fate));
    }

    pub(super) fn serve(&mut self, service: Service, call: CallId, request: Request, fate: Fate) {
        // What was sent before a partition or crash has left the process.
        let lost = matches!(fate, Fate::LoseRequest) || self.process(service).mute;
        if lost {
            return;
        }
        let refused = |failure| StoreError::new(failure, format!("{failure:?} by order"));
        let keys = if let Request::Txn(txn) = &request { keys_put(txn) } else { Vec::new() };
        if fate == Fate::Taken {
            keys.iter().for_each(|key| self.take(key.clone()));
        }
        let granted = if let Request::Grant { lease, .. } = request { Some(lease) } else { None };
        let outage = self.outage.filter(|(until, _)| self.now < *until);
        let asks_who = asks_who_answers(&request);
        let result = match (fate, outage) {
            (_, Some((_, failure))) | (Fate::Refuse(failure), _) => Err(refused(failure)),
            _ => self.etcd.serve(self.now, request),
        };
        if let Some(lease) = granted.filter(|_| result.is_ok()) {
            self.end_bereavement(service, lease);
        }
        if matches!(fate, Fate::Undone(_)) {
            self.publish();
            keys.iter().for_each(|key| self.delete(key));
        }
        self.publish();
        self.schedule_expiry();
        let is_refused = result.as_ref().is_err_and(|error| !error.failure.is_transient())
            || matches!(fate, Fate::FailAfter(failure) if !failure.is_transient());
        if asks_who && is_refused {
            // Then the word that a lease is gone has to do, whoever said so.
            self.process(service).lives.values_mut().for_each(|life| life.bereaved = false);
        }
        let at = self.now + self.delay();
        match fate {
            Fate::LoseAnswer => {}
            Fate::FailAfter(failure) => self.push(at, Event::Answer(service, call, Err(refused(failure)))),
            Fate::Slow(more) | Fate::Undone(more) => self.push(at + more, Event::Answer(service, call, result)),
            Fate::Twice(later) => {
                self.push(at, Event::Answer(service, call, result.clone()));
                self.push(at + later, Event::Echo(service, call, result));
            }
            _ => self.push(at, Event::Answer(service, call, result)),
        }
    }

    fn open_stream(&mut self, service: Service, id: u64) {
        let now = self.now;
        let process = self.process(service);
        assert!(process.stream.is_none(), "a second stream");
        process.streams += 1;
        process.bygone = false;
        process.stream = Some(Stream {
            id,
            watches: BTreeMap::new(),
            ended: BTreeSet::new(),
            stalled: process.is_cut(),
            last_request: now,
            last_message: now,
            last_events: BTreeMap::new(),
            cancelled: BTreeSet::new(),
        });
    }

    pub(super) fn serve_stream(&mut self, service: Service, id: u64, request: WatchRequest) {
        if let Some((_, failure)) = self.outage.filter(|(until, _)| self.now < *until) {
            // Over for the server, however late the service hears of it.
            if let Some(stream) = self.process(service).stream.as_mut().filter(|open| open.id == id) {
                stream.stalled = true;
            }
            return self.push(self.now, Event::StreamEnd(service, id, StoreError::new(failure, "no stream by order")));
        }
        let header = self.etcd.header();
        let permitted = match &request {
            WatchRequest::Create { key, end, .. } => self.etcd.permit(key, end),
            _ => Ok(()),
        };
        let Some(stream) = self.process(service).stream.as_mut().filter(|open| open.id == id && !open.stalled) else {
            return;
        };
        let message = match (request, permitted) {
            (WatchRequest::Create { id, key, end }, Ok(())) => {
                assert!(stream.watches.insert(id, (key, end)).is_none(), "watch {id} twice");
                let header = self.etcd.lagging_header();
                self.say(service, WatchMessage::Created { id, header });
                for (revision, events) in self.etcd.changes_since(header.revision) {
                    self.tell_watch(service, id, revision, &events);
                }
                return;
            }
            (WatchRequest::Create { id, .. }, Err(error)) => {
                stream.ended.insert(id);
                WatchMessage::Canceled { id, error }
            }
            (WatchRequest::Cancel(id), _) if stream.ended.remove(&id) => return,
            (WatchRequest::Cancel(id), _) => {
                assert!(stream.watches.remove(&id).is_some(), "watch {id} was cancelled, but isn't there");
                WatchMessage::Canceled { id, error: StoreError::new(Failure::Canceled, "cancelled") }
            }
            // As etcd does it: without a watch there is no answer.
            (WatchRequest::Progress, _) if stream.watches.is_empty() => return,
            (WatchRequest::Progress, _) => WatchMessage::Progress(header),
        };
        self.say(service, message);
    }

    /// Ends the campaign's watches, or the service's own, as etcd does for lack of permission or after compaction.
    pub(super) fn cancel_watches(&mut self, service: Service, failure: Failure) {
        let stream = self.process(service).stream.as_mut().unwrap();
        let ids: Vec<i64> = std::mem::take(&mut stream.watches).into_keys().collect();
        stream.ended.extend(&ids);
        for id in ids {
            self.say(service, WatchMessage::Canceled { id, error: StoreError::new(failure, "cancelled by order") });
        }
    }

    pub(super) fn watches(&mut self, service: Service) -> usize {
        self.process(service).stream.as_ref().map_or(0, |stream| stream.watches.len())
    }

    fn say(&mut self, service: Service, message: WatchMessage) {
        let at = self.now + self.delay() + self.stream_lag;
        let Some(stream) = &mut self.process(service).stream else { return };
        stream.last_message = stream.last_message.max(at);
        let (at, id) = (stream.last_message, stream.id);
        self.push(at, Event::StreamMessage(service, id, message));
    }

    /// Tells a watch what it wants to know of a revision: out of the stream's order, but not of its own, where it lags,
    /// as etcd does it when the reader of a watch was too slow.
    fn tell_watch(&mut self, service: Service, id: i64, revision: Revision, events: &[WatchEvent]) {
        let Some(stream) = self.processes[service.0].stream.as_ref() else { return };
        let (key, end) = stream.watches[&id].clone();
        let events: Vec<_> = events.iter().filter(|e| etcd::wants(&key, &end, e)).cloned().collect();
        if events.is_empty() {
            return;
        }
        let message = WatchMessage::Events { id, header: Header { revision, ..self.etcd.header() }, events };
        let lag = self.slow_watches.iter().find(|(slow, _)| *slow == key).map(|(_, lag)| *lag);
        let at = match lag {
            Some(lag) => self.now + self.latency + lag,
            None => self.now + self.delay() + self.stream_lag,
        };
        let Some(stream) = &mut self.process(service).stream else { return };
        let last = stream.last_events.entry(id).or_default();
        *last = at.max(*last).max(stream.last_message * i64::from(lag.is_none()));
        let (at, stream_id) = (*last, stream.id);
        if lag.is_none() {
            stream.last_message = at;
        }
        self.push(at, Event::StreamMessage(service, stream_id, message));
    }

    /// Tells the watches what has changed, a message per revision and watch.
    pub(super) fn publish(&mut self) {
        let news = self.etcd.unpublished();
        if !news.is_empty() {
            self.check_claims();
        }
        for (revision, events) in news {
            for at in 0..self.processes.len() {
                let stream = self.processes[at].stream.as_ref().filter(|stream| !stream.stalled);
                let watches: Vec<i64> = stream.map(|s| s.watches.keys().copied().collect()).unwrap_or_default();
                for id in watches {
                    self.tell_watch(Service(at), id, revision, &events);
                }
            }
        }
    }

    pub(super) fn schedule_expiry(&mut self) {
        let next = self.etcd.next_expiry().filter(|&at| self.expiry.is_none_or(|set| at < set));
        if let Some(at) = next {
            self.expiry = Some(at);
            self.push(at, Event::Expiry);
        }
    }

    pub(super) fn schedule_wake(&mut self, service: Service) {
        let (now, late) = (self.now, self.late_wakes);
        let process = self.process(service);
        if !process.is_up() {
            return;
        }
        let wake = process.core.wake_at().map(|local| process.when(local).max(now) + late);
        if let Some(at) = wake.filter(|_| process.wake != wake) {
            process.wake = wake;
            self.push(at, Event::Wake(service));
        }
    }

    fn delay(&mut self) -> Nanos {
        match self.jitter {
            0 => self.latency,
            jitter => self.latency + (self.random.next() % jitter as u64) as Nanos,
        }
    }

    pub(super) fn push(&mut self, at: Nanos, event: Event) {
        let id = self.next_id();
        self.queue.insert((at, id), event);
    }
}
