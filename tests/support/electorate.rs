//! The people of an election test: services, candidates and observers of ours with their events in channels, and what
//! etcd itself holds, as `etcdctl` tells it.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use tenure::{
    Campaign, CampaignOptions, Code, Error, Event, Handler, Observation, Observer, Service, ServiceOptions, State,
    Status,
};

use super::etcd::Server;
use super::version::Version;

/// How long anything may take that must happen.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The elections of one test: a key space of its own on a server that the tests of this process share.
pub struct Electorate {
    pub server: &'static Server,
    /// The name of the service, as in keys.
    pub service: String,
}

impl Electorate {
    pub fn on(version: Version) -> Electorate {
        static SERVERS: [OnceLock<Server>; 3] = [const { OnceLock::new() }; 3];
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let place = Version::ALL.iter().position(|&other| other == version).unwrap();
        let server = SERVERS[place].get_or_init(|| Server::start(version));
        Electorate { server, service: format!("service-{}", NEXT.fetch_add(1, Ordering::Relaxed)) }
    }

    /// A service whose TTL is 10 s.
    pub fn open(&self) -> Service {
        self.open_with(&[])
    }

    pub fn open_with(&self, options: &[(&str, &str)]) -> Service {
        open(self.server, &[&[("service", self.service.as_str())], options].concat())
    }

    /// What the keys of an election start with.
    pub fn prefix(&self, election: &str) -> String {
        format!("_ld/{}/{election}/", self.service)
    }

    /// The keys of an election, in their order in the queue.
    pub fn keys(&self, election: &str) -> Vec<String> {
        keys(self.server, &self.prefix(election))
    }

    /// The leases of an election's candidates in their order in the queue, as hexadecimal numbers.
    pub fn leases(&self, election: &str) -> Vec<String> {
        self.keys(election).iter().map(|key| key.rsplit('/').next().unwrap().to_owned()).collect()
    }

    pub fn revoke(&self, lease: &str) {
        self.server.etcdctl(&["lease", "revoke", lease]);
    }

    pub fn delete(&self, key: &str) {
        assert_eq!(self.server.etcdctl(&["del", key]), "1\n");
    }

    pub fn put(&self, key: &str, value: &str) {
        self.server.etcdctl(&["put", key, value]);
    }

    /// Fails unless none of this test's keys is left.
    pub fn assert_no_keys(&self) {
        let left = keys(self.server, &format!("_ld/{}/", self.service));
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// A service on `server` with a TTL of 10 s, unless the options say otherwise.
pub fn open(server: &Server, options: &[(&str, &str)]) -> Service {
    Service::open(&service_options(server, options)).unwrap_or_else(|error| panic!("open {options:?}: {error}"))
}

pub fn service_options(server: &Server, options: &[(&str, &str)]) -> ServiceOptions {
    let mut set = ServiceOptions::new();
    set.set("endpoints", &server.endpoint()).unwrap();
    for (name, value) in options {
        set.set(name, value).unwrap();
    }
    set
}

pub fn campaign_options(options: &[(&str, &str)]) -> CampaignOptions {
    let mut set = CampaignOptions::new();
    for (name, value) in options {
        set.set(name, value).unwrap();
    }
    set
}

/// The keys below a prefix, by create revision.
pub fn keys(server: &Server, prefix: &str) -> Vec<String> {
    let found = server.etcdctl(&["get", "--prefix", "--keys-only", "--sort-by=CREATE", "--order=ASCEND", prefix]);
    found.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The server's leases, as hexadecimal numbers.
pub fn lease_list(server: &Server) -> BTreeSet<String> {
    let found = server.etcdctl(&["lease", "list"]);
    found.lines().filter(|line| !line.starts_with("found ")).map(str::to_owned).collect()
}

/// Waits until `holds`, for what no event tells.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "still not so after {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A candidacy, with its events.
pub struct Contender {
    pub campaign: Campaign,
    events: Receiver<Status>,
    last: u64,
}

impl Contender {
    pub fn stand(service: &Service, election: &str) -> Contender {
        Contender::stand_with(service, election, &[])
    }

    pub fn stand_with(service: &Service, election: &str, options: &[(&str, &str)]) -> Contender {
        Contender::try_stand(service, election, &campaign_options(options)).unwrap()
    }

    pub fn try_stand(service: &Service, election: &str, options: &CampaignOptions) -> Result<Contender, Error> {
        let (handler, events) = statuses();
        let campaign = service.campaign(election, options, Some(handler))?;
        Ok(Contender { campaign, events, last: 0 })
    }

    /// Stands and waits for LEADER.
    pub fn lead(service: &Service, election: &str) -> Contender {
        let mut contender = Contender::stand(service, election);
        contender.wait_elected();
        contender
    }

    /// Stands behind others, and waits until its key is there.
    pub fn queue(service: &Service, election: &str) -> Contender {
        Contender::queue_with(service, election, &[])
    }

    pub fn queue_with(service: &Service, election: &str, options: &[(&str, &str)]) -> Contender {
        let count = || service.candidates(election, LIMIT).unwrap().len();
        let before = count();
        let mut contender = Contender::stand_with(service, election, options);
        wait_until("the candidate's key is there", || count() > before);
        contender.expect(State::Follower);
        contender
    }

    /// FOLLOWER and LEADER.
    pub fn wait_elected(&mut self) -> Status {
        self.expect(State::Follower);
        self.expect(State::Leader)
    }

    /// The next event, which has to be this.
    pub fn expect(&mut self, state: State) -> Status {
        let status = self.next();
        assert_eq!(status.state, state, "{status:?}");
        status
    }

    /// ERROR with this reason.
    pub fn expect_loss(&mut self, reason: Code) -> Status {
        let status = self.expect(State::Error);
        assert_eq!(status.reason, reason, "{status:?}");
        assert!(!status.message.is_empty());
        status
    }

    /// The next event.
    pub fn next(&mut self) -> Status {
        let status = self.events.recv_timeout(LIMIT).expect("an event");
        assert!(status.sequence > self.last, "{status:?} after {}", self.last);
        self.last = status.sequence;
        let leads = status.state == State::Leader;
        assert_eq!((leads, leads), (status.deadline_ns > 0, status.token > 0 && leads), "{status:?}");
        status
    }

    /// Nothing has been told that was not read.
    pub fn expect_nothing(&self) {
        assert_eq!(self.events.try_recv().err(), Some(TryRecvError::Empty));
    }

    /// CLOSED, and then nothing: the handler is dropped.
    pub fn expect_closed(&mut self) -> Status {
        let closed = self.expect(State::Closed);
        self.expect_end();
        closed
    }

    /// The handler was dropped without a further event.
    pub fn expect_end(&self) {
        let end = self.events.recv_timeout(LIMIT);
        assert_eq!(end.err(), Some(std::sync::mpsc::RecvTimeoutError::Disconnected));
        assert!(!self.campaign.is_leader());
    }

    pub fn resign(&mut self) {
        self.campaign.resign(LIMIT).unwrap();
        assert!(!self.campaign.is_leader());
        self.expect(State::Follower);
        self.expect_closed();
    }
}

/// A handler that passes a campaign's events on.
pub fn statuses() -> (Handler, Receiver<Status>) {
    let (sender, events) = channel();
    let handler = move |event: &Event| {
        if let Event::Status(_, status) = event {
            // The test may have ended.
            let _ = sender.send(status.clone());
        }
    };
    (Box::new(handler), events)
}

/// An observer, with what it is told.
pub struct Watcher {
    pub observer: Observer,
    events: Receiver<Observation>,
    last: Option<Observation>,
}

impl Watcher {
    pub fn observe(service: &Service, election: &str) -> Watcher {
        let (sender, events) = channel();
        let handler = move |event: &Event| {
            if let Event::Observation(_, observation) = event {
                let _ = sender.send(observation.clone());
            }
        };
        let observer = service.observe(election, Some(Box::new(handler))).unwrap();
        Watcher { observer, events, last: None }
    }

    /// The next event, which is later than the last one in each way.
    pub fn next(&mut self) -> Observation {
        let observation = self.events.recv_timeout(LIMIT).expect("an observation");
        if let Some(last) = &self.last {
            assert!(observation.sequence > last.sequence && observation.revision >= last.revision, "{observation:?}");
        }
        self.last = Some(observation.clone());
        observation
    }

    /// Waits until it is told, connected, that this value leads (or nobody).
    pub fn wait_leader(&mut self, value: Option<&str>) -> Observation {
        loop {
            let observation = self.next();
            let leader = observation.leader.as_ref().map(|leader| leader.value.to_vec());
            if observation.connected && leader.as_deref() == value.map(str::as_bytes) {
                return observation;
            }
        }
    }

    /// The last event, and then nothing.
    pub fn expect_closed(&mut self) -> Observation {
        let observation = self.next();
        assert!(observation.closed, "{observation:?}");
        assert_eq!(self.events.recv_timeout(LIMIT).err(), Some(std::sync::mpsc::RecvTimeoutError::Disconnected));
        observation
    }
}
