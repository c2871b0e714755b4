//! A candidate in this process, and its events one by one.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tenure::{Campaign, CampaignOptions, Code, Event, Service, ServiceOptions, State, Status};

use crate::stage::record;
use crate::support::Server;
use crate::support::program::boottime_ns;

/// For what must happen, on a machine however busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// An empty queue.
pub(crate) const NOBODY: [i64; 0] = [];

pub(crate) const PREFIX: &str = "_ld/faults/default/";

pub(crate) fn options(endpoints: &str, ttl_s: u32) -> ServiceOptions {
    let mut options = ServiceOptions::new();
    options.set("endpoints", endpoints).unwrap();
    options.set("service", "faults").unwrap();
    options.set("ttl", &format!("{ttl_s}s")).unwrap();
    options
}

/// See the module. On the record of its test, which closes it; let go, it begins to close.
pub(crate) struct Candidate {
    pub(crate) service: Arc<Service>,
    pub(crate) campaign: Arc<Campaign>,
    events: Receiver<Seen>,
}

/// An event and when it came, on CLOCK_BOOTTIME.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) at: i64,
    pub(crate) status: Status,
}

impl Candidate {
    /// Stands on a service of its own; has told its first FOLLOWER when this returns.
    pub(crate) fn stand(endpoints: &str, ttl_s: u32) -> Candidate {
        Candidate::stand_with(&options(endpoints, ttl_s), &[])
    }

    pub(crate) fn stand_with(service: &ServiceOptions, campaign: &[(&str, &str)]) -> Candidate {
        let service = Arc::new(Service::open(service).unwrap());
        record().add_service(&service);
        let mut options = CampaignOptions::new();
        for (name, value) in campaign {
            options.set(name, value).unwrap();
        }
        let (campaign, events) = enter(&service, "", &options);
        let candidate = Candidate { service, campaign, events };
        candidate.next(State::Follower);
        candidate
    }

    /// Stands and is elected.
    pub(crate) fn lead(endpoints: &str, ttl_s: u32) -> Candidate {
        let candidate = Candidate::stand(endpoints, ttl_s);
        candidate.next(State::Leader);
        candidate
    }

    /// The next event, which must be of this state.
    pub(crate) fn next(&self, state: State) -> Seen {
        next(&self.events, state)
    }

    /// The next event, which must be a loss for this reason.
    pub(crate) fn next_loss(&self, reason: Code) -> Seen {
        let seen = self.next(State::Error);
        assert_eq!(seen.status.reason, reason, "{seen:?}");
        seen
    }

    /// Still leads, and is at risk, or not any more, as asked for.
    pub(crate) fn next_risk(&self, is_at_risk: bool) -> Seen {
        loop {
            let seen = self.next(State::Leader);
            if seen.status.at_risk == is_at_risk {
                return seen;
            }
        }
    }

    /// No event has come since the last one.
    pub(crate) fn assert_silent(&self) {
        let seen = self.events.try_recv();
        assert!(seen.is_err(), "{seen:?}");
    }

    /// The last event has come: nothing else ever does.
    pub(crate) fn assert_closed(&self) {
        self.next(State::Closed);
        // The handler is dropped after the last event.
        assert!(self.events.recv_timeout(LIMIT).is_err());
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        // Pending.
        let _ = self.service.close(Duration::ZERO);
    }
}

/// A campaign and its events.
pub(crate) fn enter(service: &Service, election: &str, options: &CampaignOptions) -> (Arc<Campaign>, Receiver<Seen>) {
    let (sender, events) = channel();
    let tell = move |event: &Event| {
        if let Event::Status(_, status) = event {
            // The test may be over.
            let _ = sender.send(Seen { at: boottime_ns(), status: status.clone() });
        }
    };
    let campaign = Arc::new(service.campaign(election, options, Some(Box::new(tell))).unwrap());
    record().add_campaign(&format!("faults/{}", campaign.election()), &campaign);
    (campaign, events)
}

pub(crate) fn next(events: &Receiver<Seen>, state: State) -> Seen {
    let seen = events.recv_timeout(LIMIT).unwrap_or_else(|error| panic!("waiting for {state:?}: {error}"));
    assert_eq!(seen.status.state, state, "{seen:?}");
    seen
}

/// The next event that isn't about a leader's risk, which must be of this state.
pub(crate) fn next_change(events: &Receiver<Seen>, state: State) -> Seen {
    let seen = std::iter::from_fn(|| events.recv_timeout(LIMIT).ok()).find(|seen| seen.status.state != State::Leader);
    let seen = seen.unwrap_or_else(|| panic!("waiting for {state:?}"));
    assert_eq!(seen.status.state, state, "{seen:?}");
    seen
}

/// Waits for something that no event tells.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// Until a renewal is acknowledged that was sent after now.
pub(crate) fn renewed(candidate: &Candidate) {
    let end = || boottime_ns() + i64::try_from(candidate.campaign.remaining().as_nanos()).unwrap();
    // The two clock readings are not quite the same instant; renewals are further apart.
    let before = end() + 100_000_000;
    eventually("a renewal", || end() > before);
}

/// Until the next renewal is about to be sent, a third of the time to live after the last one.
pub(crate) fn renewal_is_near(candidate: &Candidate, ttl_s: u32) {
    renewed(candidate);
    let due = candidate.campaign.remaining().saturating_sub(Duration::from_secs(ttl_s.into()) / 3);
    eventually("the next renewal is near", || candidate.campaign.remaining() < due + Duration::from_millis(100));
}

/// Create revisions of the candidates' keys at the server, in the order of the queue.
pub(crate) fn queue(server: &Server) -> Vec<i64> {
    queue_of(server, PREFIX)
}

/// The store's revision, which grows by one with every change.
pub(crate) fn revision(server: &Server) -> i64 {
    let answer: Value = serde_json::from_str(&server.etcdctl(&["get", "elsewhere", "--write-out=json"])).unwrap();
    answer["header"]["revision"].as_i64().unwrap()
}

pub(crate) fn queue_of(server: &Server, prefix: &str) -> Vec<i64> {
    let listed = server.etcdctl(&["get", "--prefix", prefix, "--sort-by=CREATE", "--write-out=json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let keys = listed["kvs"].as_array().cloned().unwrap_or_default();
    keys.iter().map(|key| key["create_revision"].as_i64().unwrap()).collect()
}
