//! Who plays in these tests: services, candidates and observers of ours, and rivals that `etcdctl` plants.
//! Whoever waits here waits for an event, and fails when it has not come by `LIMIT`.

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use tenure::{Campaign, CampaignOptions, Code, Error, Event, Observation, Observer, Service, ServiceOptions};
use tenure::{State, Status};

use crate::support::{Server, Version};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The keys of every election here start with this.
pub(crate) const BASE: &str = "_ld/shop/";

pub(crate) type Settings<'a> = &'a [(&'a str, &'a str)];

/// These settings, on top of a service name.
pub(crate) fn options(settings: Settings) -> ServiceOptions {
    let mut options = ServiceOptions::new();
    options.set("service", "shop").unwrap();
    for (name, value) in settings {
        options.set(name, value).unwrap();
    }
    options
}

pub(crate) fn open(settings: Settings) -> Service {
    Service::open(&options(settings)).unwrap_or_else(|error| panic!("{:?}: {error}", error.code()))
}

/// Opening has to fail.
pub(crate) fn refused(settings: Settings) -> Error {
    match Service::open(&options(settings)) {
        Err(error) => error,
        Ok(_) => panic!("opened with {settings:?}"),
    }
}

/// An error must have this code and say all of this.
#[track_caller]
pub(crate) fn assert_says(error: &Error, code: Code, words: &[&str]) {
    assert_eq!(error.code(), code, "{error}");
    for word in words {
        assert!(error.message().contains(word), "no {word:?} in: {error}");
    }
}

/// The lines that a service logs from now on, at its `log_level`; they end when it is closed.
pub(crate) fn log(service: &Service) -> Receiver<String> {
    let (sender, lines) = channel();
    service.set_log_handler(Box::new(move |line| sender.send(format!("{line:?}")).unwrap_or_default())).unwrap();
    lines
}

/// Waits until this is logged.
pub(crate) fn wait_for_line(lines: &Receiver<String>, words: &str) {
    while !lines.recv_timeout(LIMIT).unwrap().contains(words) {}
}

/// Runs a test against all versions of etcd at once.
pub(crate) fn on_each_version(test: impl Fn(Version) + Sync) {
    let test = &test;
    thread::scope(|scope| {
        for version in Version::ALL {
            thread::Builder::new().name(format!("{version:?}")).spawn_scoped(scope, move || test(version)).unwrap();
        }
    });
}

/// One candidacy of ours with its events.
pub(crate) struct Candidate {
    pub(crate) campaign: Campaign,
    statuses: Receiver<Status>,
}

impl Candidate {
    pub(crate) fn stand(service: &Service, election: &str, settings: Settings) -> Candidate {
        let mut options = CampaignOptions::new();
        for (name, value) in settings {
            options.set(name, value).unwrap();
        }
        let (sender, statuses) = channel();
        let tell = move |event: &Event| {
            if let Event::Status(_, status) = event {
                let _ = sender.send(status.clone());
            }
        };
        let campaign = service.campaign(election, &options, Some(Box::new(tell))).unwrap();
        Candidate { campaign, statuses }
    }

    pub(crate) fn next(&self) -> Status {
        self.statuses.recv_timeout(LIMIT).expect("an event")
    }

    /// The next event has to be this one.
    #[track_caller]
    pub(crate) fn expect(&self, state: State) -> Status {
        let status = self.next();
        assert_eq!(status.state, state, "{status:?}");
        status
    }

    /// The next event has to be the loss for this reason.
    #[track_caller]
    pub(crate) fn expect_loss(&self, reason: Code) -> Status {
        let status = self.expect(State::Error);
        assert_eq!(status.reason, reason, "{status:?}");
        assert!(!self.campaign.is_leader());
        status
    }

    /// Skips events up to this one.
    pub(crate) fn until(&self, state: State) -> Status {
        let deadline = Instant::now() + LIMIT;
        loop {
            let status = self.next();
            if status.state == state {
                return status;
            }
            assert!(Instant::now() < deadline, "no {state:?} in time");
        }
    }

    /// Nothing was told meanwhile.
    #[track_caller]
    pub(crate) fn expect_silence(&self) {
        let told = self.statuses.try_recv();
        assert!(told.is_err(), "{told:?}");
    }
}

/// Stands as the second in the queue, and returns when it is there.
pub(crate) fn follow(service: &Service, election: &str) -> Candidate {
    let follower = Candidate::stand(service, election, &[]);
    follower.expect(State::Follower);
    wait_for_candidates(service, election, 2);
    follower
}

/// Stands alone, and returns when it leads.
pub(crate) fn lead(service: &Service, election: &str, settings: Settings) -> Candidate {
    let leader = Candidate::stand(service, election, settings);
    leader.expect(State::Follower);
    leader.expect(State::Leader);
    leader
}

pub(crate) fn wait_for_candidates(service: &Service, election: &str, count: usize) {
    let deadline = Instant::now() + LIMIT;
    while service.candidates(election, LIMIT).unwrap().len() != count {
        assert!(Instant::now() < deadline, "not {count} candidates in time");
    }
}

/// Nothing is left of any election.
pub(crate) fn wait_for_no_keys(server: &Server) {
    let deadline = Instant::now() + LIMIT;
    while !server.etcdctl(&["get", "--prefix", BASE]).is_empty() {
        assert!(Instant::now() < deadline, "a key was left behind");
    }
}

/// An observer of ours with what it saw.
pub(crate) struct Onlooker {
    _observer: Observer,
    seen: Receiver<Observation>,
}

impl Onlooker {
    pub(crate) fn observe(service: &Service, election: &str) -> Onlooker {
        let (sender, seen) = channel();
        let tell = move |event: &Event| {
            if let Event::Observation(_, observation) = event {
                let _ = sender.send(observation.clone());
            }
        };
        Onlooker { _observer: service.observe(election, Some(Box::new(tell))).unwrap(), seen }
    }

    /// Skips what was seen up to what is wanted.
    pub(crate) fn until(&self, wanted: impl Fn(&Observation) -> bool) -> Observation {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let observation = self.seen.recv_timeout(left).expect("the observation");
            if wanted(&observation) {
                return observation;
            }
        }
    }
}

/// Somebody else's candidate, on a lease that nobody renews.
pub(crate) struct Rival<'a> {
    server: &'a Server,
    lease: String,
}

impl<'a> Rival<'a> {
    /// It dies by itself after so many seconds.
    pub(crate) fn stand(server: &'a Server, election: &str, seconds: u32) -> Rival<'a> {
        let granted = server.etcdctl(&["lease", "grant", &seconds.to_string()]);
        let lease = granted.split(' ').nth(1).unwrap().to_owned();
        server.etcdctl(&["put", &format!("{BASE}{election}/{lease}"), "rival", "--lease", &lease]);
        Rival { server, lease }
    }

    /// Dies now.
    pub(crate) fn die(self) {
        self.server.etcdctl(&["lease", "revoke", &self.lease]);
    }
}

/// A leader hands over to a follower, and that one takes over from a rival that dies: no error, and growing tokens.
pub(crate) fn hold_elections(server: &Server, settings: Settings) {
    let (first, second) = (open(settings), open(settings));
    let leader = lead(&first, "hand-over", &[]);
    let follower = follow(&second, "hand-over");
    let token = leader.campaign.token();
    leader.campaign.resign(LIMIT).unwrap();
    assert!(follower.expect(State::Leader).token > token);

    let rival = Rival::stand(server, "take-over", 60);
    let follower = follow(&first, "take-over");
    assert_eq!(&*second.leader("take-over", LIMIT).unwrap().value, b"rival");
    rival.die();
    follower.expect(State::Leader);
    first.close(LIMIT).unwrap();
    second.close(LIMIT).unwrap();
}
