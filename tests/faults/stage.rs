//! Where a scenario plays: the servers, and a record of everybody who stands there. When it ends, three things are
//! checked that hold whatever the scenario was about: nobody led beside another on CLOCK_BOOTTIME, in whatever process
//! or make; no candidate's key is left; no lease is left, once all have closed. Only who was killed may leave key and
//! lease behind, for its time to live.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tenure::{Campaign, Service};

use crate::candidate::LIMIT;
use crate::support::program::{Claim, Claims, Look, Witness, boottime_ns};
use crate::support::{Cluster, Program, Proxy, Server, Version};

/// Between two looks at a campaign of this process.
const PAUSE: Duration = Duration::from_millis(1);
/// How long the keys and leases of the killed may stay: longer than every time to live here, on a busy machine.
const LEFTOVERS: Duration = Duration::from_secs(30);

/// One server or a cluster of them.
pub(crate) trait Host {
    fn servers(&self) -> Vec<&Server>;
}

impl Host for Server {
    fn servers(&self) -> Vec<&Server> {
        vec![self]
    }
}

impl Host for Cluster {
    fn servers(&self) -> Vec<&Server> {
        self.members.iter().collect()
    }
}

/// See the module. A test has one stage, rarely two, as its first value: so it ends last.
pub(crate) struct Stage<T: Host> {
    host: T,
    record: Arc<Record>,
    is_judged: bool,
}

impl Stage<Server> {
    pub(crate) fn solo() -> Stage<Server> {
        Stage::new(Server::start(Version::default()))
    }
}

impl Stage<Cluster> {
    pub(crate) fn cluster() -> Stage<Cluster> {
        Stage::new(Cluster::start(Version::default()))
    }
}

impl<T: Host> Deref for Stage<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.host
    }
}

impl<T: Host> Stage<T> {
    pub(crate) fn new(host: T) -> Stage<T> {
        Stage { host, record: record(), is_judged: false }
    }

    /// What is wrong at the end. All that fails is healed before, and all candidates of this process are closed.
    pub(crate) fn problems(&mut self) -> Vec<String> {
        self.is_judged = true;
        for server in self.host.servers() {
            if server.is_running() { server.cont() } else { server.respawn() }
        }
        self.record.lock().proxies.iter().for_each(|proxy| {
            proxy.heal();
            proxy.cut();
        });
        let mut problems = self.record.close();
        problems.extend(self.record.overlaps());
        problems.extend(self.leftovers());
        problems
    }

    /// Candidates' keys and leases; those of the killed are waited for.
    fn leftovers(&self) -> Vec<String> {
        let limit = if self.record.allows_leftovers() { LEFTOVERS } else { Duration::ZERO };
        let start = Instant::now();
        loop {
            let left = left_on(self.host.servers()[0]);
            if left.is_empty() || start.elapsed() > limit {
                return left;
            }
            thread::park_timeout(Duration::from_millis(100));
        }
    }
}

impl<T: Host> Drop for Stage<T> {
    fn drop(&mut self) {
        if !thread::panicking() && !self.is_judged {
            let problems = self.problems();
            assert!(problems.is_empty(), "at the end of the scenario: {problems:#?}");
        }
    }
}

/// Keys that are on a lease, and leases. Waits for a server that has only just been started again.
fn left_on(server: &Server) -> Vec<String> {
    let start = Instant::now();
    let ask = |arguments: &[&str]| loop {
        let output = server.try_etcdctl(arguments);
        if output.status.success() {
            return serde_json::from_slice::<Value>(&output.stdout).unwrap();
        }
        assert!(start.elapsed() < LIMIT, "{}", String::from_utf8_lossy(&output.stderr));
    };
    let found = ask(&["get", "--prefix", "", "--write-out=json"]);
    let keys = found["kvs"].as_array().cloned().unwrap_or_default().into_iter();
    let keys = keys.filter(|key| key["lease"].as_i64().is_some()).map(|key| format!("a key is left: {key}"));
    let leases = ask(&["lease", "list", "--write-out=json"])["leases"].as_array().cloned().unwrap_or_default();
    keys.chain(leases.into_iter().map(|lease| format!("a lease is left: {lease}"))).collect()
}

thread_local! {
    /// That of the test that runs on this thread.
    static RECORD: Arc<Record> = Record::start();
}

/// Makes a program of a source in this folder.
pub(crate) fn compile(source: &str, options: &[&str], program: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults").join(source);
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c11", "-Wall", "-Wextra", "-Werror"]).args(options).arg("-o").arg(program).arg(source);
    assert!(compiler.status().unwrap().success());
}

/// That of this test.
pub(crate) fn record() -> Arc<Record> {
    RECORD.with(Arc::clone)
}

/// Who took part in a scenario.
#[derive(Default)]
pub(crate) struct Record {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    services: Vec<Arc<Service>>,
    proxies: Vec<Arc<Proxy>>,
    campaigns: Vec<Watched>,
    kept: Vec<Arc<Campaign>>,
    /// Each with its election.
    witnesses: Vec<(String, Witness)>,
    tokens_start_anew: bool,
    /// For how long two may lead at once.
    round_trip_ns: i64,
}

/// A campaign of this process, looked at all the time.
struct Watched {
    election: String,
    campaign: Weak<Campaign>,
    claims: Claims,
}

impl Record {
    fn start() -> Arc<Record> {
        let record = Arc::new(Record::default());
        let watched = Arc::downgrade(&record);
        thread::spawn(move || {
            while let Some(record) = watched.upgrade() {
                let start = Instant::now();
                record.look();
                drop(record);
                // A crowd of campaigns must not cost all of a processor.
                thread::park_timeout(PAUSE.max(start.elapsed() * 10));
            }
        });
        record
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn look(&self) {
        for watched in &mut self.lock().campaigns {
            if let Some(campaign) = watched.campaign.upgrade() {
                let before = boottime_ns();
                let token = campaign.token();
                watched.claims.add(Look { before, after: boottime_ns(), token });
            }
        }
    }

    pub(crate) fn add_service(&self, service: &Arc<Service>) {
        self.lock().services.push(service.clone());
    }

    pub(crate) fn add_campaign(&self, election: &str, campaign: &Arc<Campaign>) {
        let (election, campaign) = (election.to_owned(), Arc::downgrade(campaign));
        self.lock().campaigns.push(Watched { election, campaign, claims: Claims::default() });
    }

    /// Keeps a campaign that nobody else does; let go, it would withdraw.
    pub(crate) fn keep(&self, campaign: Arc<Campaign>) {
        self.lock().kept.push(campaign);
    }

    /// A candidate that is not of this process.
    pub(crate) fn add_witness(&self, election: &str, witness: Witness) {
        self.lock().witnesses.push((election.to_owned(), witness));
    }

    /// A proxy that lives until all candidates have closed.
    pub(crate) fn proxy(&self, server: &Server) -> Arc<Proxy> {
        let proxy = Arc::new(Proxy::to(server));
        self.lock().proxies.push(proxy.clone());
        proxy
    }

    /// In another cluster, or one that has lost its data, they do.
    pub(crate) fn tokens_start_anew(&self) {
        self.lock().tokens_start_anew = true;
    }

    /// An administrator removes the leader's key, of which it can hear only afterwards, and the next one may be told first:
    /// both lead for a round trip. Here it is that of a busy machine.
    pub(crate) fn allow_a_round_trip(&self) {
        self.lock().round_trip_ns = 2_000_000_000;
    }

    fn allows_leftovers(&self) -> bool {
        self.lock().witnesses.iter().any(|(_, witness)| (witness.is_killed)())
    }

    /// Closes all services, all at once.
    fn close(&self) -> Vec<String> {
        let services = self.lock().services.clone();
        // Ok, or Pending.
        services.iter().for_each(|service| drop(service.close(Duration::ZERO)));
        let closed = services.iter().map(|service| service.close(LIMIT));
        closed.filter_map(Result::err).map(|error| format!("a service does not close: {error}")).collect()
    }

    /// Who led beside another, or with a token that is not greater than the last.
    fn overlaps(&self) -> Vec<String> {
        let inner = self.lock();
        let mut elections: BTreeMap<&str, Vec<Claim>> = BTreeMap::new();
        for watched in &inner.campaigns {
            elections.entry(&watched.election).or_default().extend(&watched.claims.all);
        }
        for (election, witness) in &inner.witnesses {
            elections.entry(election).or_default().extend((witness.claims)());
        }
        let mut problems = Vec::new();
        for (election, mut claims) in elections {
            claims.sort_by_key(|claim| claim.start);
            let mut last: Option<Claim> = None;
            for claim in claims {
                if let Some(last) = last {
                    let shared = last.end.min(claim.end) - claim.start;
                    if shared >= inner.round_trip_ns {
                        problems.push(format!("{election}: two led at once: {last:?} {claim:?}"));
                    }
                    // etcdctl doesn't tell its token.
                    let both_known = last.token != 0 && claim.token != 0;
                    if both_known && claim.token <= last.token && !inner.tokens_start_anew {
                        problems.push(format!("{election}: the token doesn't grow: {last:?} {claim:?}"));
                    }
                }
                last = last.filter(|last| last.end > claim.end).or(Some(claim));
            }
        }
        problems
    }
}

/// A candidate in a process of its own, on the record.
pub(crate) fn start_program(options: &[(&str, &str)]) -> Program {
    let program = Program::start(crate::programs::BEGIN, options);
    let service = options.iter().find(|(name, _)| *name == "service").expect("a program's service").1;
    record().add_witness(&format!("{service}/default"), program.witness());
    program
}

/// Until then everybody who leads at all has been looked at.
pub(crate) fn looked_at() {
    let end = boottime_ns() + 20_000_000;
    crate::candidate::eventually("some looks", || boottime_ns() > end);
}

mod bad_cases {
    //! Each of the three checks fails where it should.

    use tenure::State;

    use super::*;
    use crate::candidate::Candidate;

    #[track_caller]
    fn assert_says(problems: &[String], words: &str) {
        assert!(problems.iter().any(|problem| problem.contains(words)), "{problems:?}: not a word of `{words}`");
    }

    #[test]
    fn two_that_lead_at_once_are_noticed() {
        let (mut one, mut other) = (Stage::solo(), Stage::solo());
        let first = Candidate::lead(&one.endpoint(), 10);
        let second = Candidate::lead(&other.endpoint(), 10);
        looked_at();
        assert!(first.campaign.is_leader() && second.campaign.is_leader());
        let problems = one.problems();
        assert_says(&problems, "two led at once");
        assert!(problems.iter().all(|problem| problem.starts_with("faults/default")), "nothing else: {problems:?}");
        other.problems();
    }

    #[test]
    fn a_program_that_leads_beside_another_is_noticed() {
        let (mut one, mut other) = (Stage::solo(), Stage::solo());
        let programs = [&one, &other].map(|stage| {
            let endpoint = stage.endpoint();
            start_program(&[("endpoints", endpoint.as_str()), ("service", "faults"), ("ttl", "5s")])
        });
        for program in &programs {
            program.next("FOLLOWER");
            program.next("LEADER");
        }
        let end = boottime_ns() + 100_000_000;
        crate::candidate::eventually("looks of both", || {
            programs.iter().all(|program| program.claims().iter().any(|claim| claim.end > end))
        });
        drop(programs);
        assert_says(&one.problems(), "two led at once");
        other.problems();
    }

    #[test]
    fn a_token_that_does_not_grow_is_noticed() {
        let (mut first, mut second) = (Stage::solo(), Stage::solo());
        first.etcdctl(&["put", "elsewhere", "so that tokens are greater here"]);
        for stage in [&first, &second] {
            let candidate = Candidate::lead(&stage.endpoint(), 10);
            looked_at();
            candidate.campaign.resign(LIMIT).unwrap();
            candidate.next(State::Follower);
        }
        assert_says(&first.problems(), "the token doesn't grow");
        second.problems();
    }

    #[test]
    fn a_ghost_and_its_lease_are_noticed() {
        let mut stage = Stage::solo();
        let granted = stage.etcdctl(&["lease", "grant", "600"]);
        let lease = granted.split(' ').nth(1).unwrap();
        stage.etcdctl(&["put", &format!("--lease={lease}"), "_ld/faults/default/1", "a ghost"]);
        let problems = stage.problems();
        assert_says(&problems, "a key is left");
        assert_says(&problems, "a lease is left");
    }

    #[test]
    fn a_lease_without_a_key_is_noticed() {
        let mut stage = Stage::solo();
        stage.etcdctl(&["lease", "grant", "600"]);
        assert_says(&stage.problems(), "a lease is left");
    }
}
