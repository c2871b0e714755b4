//! What is between the services and the store: requests, answers and watch streams on their way.

use std::collections::{BTreeMap, BTreeSet};

use super::etcd;
use super::faults::{Fate, What};
use super::world::{Candidate, Service, World};
use crate::clock::Nanos;
use crate::election::{Answer, CallId, Input, Output, Request};
use crate::store::{Failure, StoreError, WatchMessage, WatchRequest};

/// What is under way.
#[derive(Debug)]
pub(super) enum Event {
    Request(Service, CallId, Request, Fate),
    Answer(Service, CallId, Result<Answer, StoreError>),
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
            Event::Answer(_, call, result) if !process.partitioned && process.calls.remove(&call) => {
                self.feed(service, Input::Answer { call, result });
            }
            Event::GiveUp(_, call) if process.calls.remove(&call) => {
                let result = Err(StoreError::new(Failure::Unknown, "no answer in time"));
                self.feed(service, Input::Answer { call, result });
            }
            Event::StreamMessage(_, id, message)
                if process.stream.as_ref().is_some_and(|stream| stream.id == id && !stream.stalled) =>
            {
                self.feed(service, Input::Watch { stream: id, message });
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
            eprintln!("{:>12} {} <- {input:?}", self.now / 1000, service.0);
        }
        let mut outputs = Vec::new();
        self.process(service).core.handle(local, input, &mut outputs);
        for output in outputs {
            if self.traced {
                eprintln!("{:>12} {} -> {output:?}", self.now / 1000, service.0);
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
            Output::Finished => self.process(service).finished = true,
        }
    }

    fn send(&mut self, service: Service, call: CallId, request: Request, timeout: Nanos) {
        for what in What::of(&request) {
            *self.sent.entry(what).or_default() += 1;
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
        let lost = matches!(fate, Fate::LoseRequest) || self.process(service).partitioned;
        if lost {
            return;
        }
        let refused = |failure| StoreError::new(failure, format!("{failure:?} by order"));
        let result = match fate {
            Fate::Refuse(failure) => Err(refused(failure)),
            _ => self.etcd.serve(self.now, request),
        };
        self.publish();
        self.schedule_expiry();
        let at = self.now + self.delay();
        match fate {
            Fate::LoseAnswer => {}
            Fate::FailAfter(failure) => self.push(at, Event::Answer(service, call, Err(refused(failure)))),
            Fate::Slow(more) => self.push(at + more, Event::Answer(service, call, result)),
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
            stalled: process.partitioned,
            last_request: now,
            last_message: now,
        });
    }

    pub(super) fn serve_stream(&mut self, service: Service, id: u64, request: WatchRequest) {
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
                WatchMessage::Created { id, header }
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
        self.tell(service, message);
    }

    /// Ends the campaign's watches, or the service's own, as etcd does for lack of permission or after compaction.
    pub(super) fn cancel_watches(&mut self, service: Service, failure: Failure) {
        let stream = self.process(service).stream.as_mut().unwrap();
        let ids: Vec<i64> = std::mem::take(&mut stream.watches).into_keys().collect();
        stream.ended.extend(&ids);
        for id in ids {
            self.tell(service, WatchMessage::Canceled { id, error: StoreError::new(failure, "cancelled by order") });
        }
    }

    pub(super) fn watches(&mut self, service: Service) -> usize {
        self.process(service).stream.as_ref().map_or(0, |stream| stream.watches.len())
    }

    fn tell(&mut self, service: Service, message: WatchMessage) {
        let at = self.now + self.delay() + self.stream_lag;
        let Some(stream) = &mut self.process(service).stream else { return };
        stream.last_message = stream.last_message.max(at);
        let (at, id) = (stream.last_message, stream.id);
        self.push(at, Event::StreamMessage(service, id, message));
    }

    /// Out of the stream's order, as etcd does it when the reader of a watch was too slow.
    fn tell_late(&mut self, service: Service, message: WatchMessage, lag: Nanos) {
        let at = self.now + self.latency + lag;
        if let Some(id) = self.process(service).stream.as_ref().map(|stream| stream.id) {
            self.push(at, Event::StreamMessage(service, id, message));
        }
    }

    /// Tells the watches what has changed, a message per revision and watch.
    pub(super) fn publish(&mut self) {
        let news = self.etcd.unpublished();
        if !news.is_empty() {
            self.check_claims();
        }
        for (revision, events) in news {
            let header = crate::store::Header { revision, ..self.etcd.header() };
            for at in 0..self.processes.len() {
                let watches = self.processes[at].stream.as_ref().map(|stream| stream.watches.clone());
                for (id, (key, end)) in watches.unwrap_or_default() {
                    let events: Vec<_> = events.iter().filter(|e| etcd::wants(&key, &end, e)).cloned().collect();
                    let lag = self.slow_watches.iter().find(|(slow, _)| *slow == key).map(|(_, lag)| *lag);
                    let message = WatchMessage::Events { id, header, events };
                    match (&message, lag) {
                        (WatchMessage::Events { events, .. }, _) if events.is_empty() => {}
                        (_, None) => self.tell(Service(at), message),
                        (_, Some(lag)) => self.tell_late(Service(at), message, lag),
                    }
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
