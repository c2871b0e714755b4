//! A candidate in a process of its own, which can be stopped and killed; it is asked all the time whether it leads.
//!
//! The process is the test binary itself, told by a variable to be a candidate when it comes to the test that calls
//! [`Program::run`]. It tells on stderr, which the test harness leaves alone, times on CLOCK_BOOTTIME:
//!
//!     event TIME STATE TOKEN REASON RISK
//!     look BEFORE AFTER TOKEN         the answer to one look, 0: not leading
//!     work WORDS                      what its work says, where the test gives it some
//!
//! It withdraws and ends when its stdin ends; a line `exit` or `abort` there ends it at once.

use std::env;
use std::io::{BufRead, BufReader, Write, stderr, stdin};
use std::process::{ChildStderr, Command, Stdio, abort, exit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tenure::{Campaign, CampaignOptions, Event, Service, ServiceOptions};

use super::process::{self, Process};

const VARIABLE: &str = "TENURE_TEST_PROGRAM";
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

pub fn boottime_ns() -> i64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// See the module; withdraws and ends on drop, unless it was killed.
pub struct Program {
    process: Process,
    events: Story,
    work: Receiver<String>,
    looks: Arc<Mutex<Vec<Look>>>,
    /// Its CLOCK_BOOTTIME is ahead of ours by this.
    ahead_ns: i64,
    is_killed: Arc<AtomicBool>,
}

/// An event that the candidate had.
#[derive(Clone, Debug)]
pub struct Told {
    pub at: i64,
    pub state: String,
    pub token: i64,
    pub reason: String,
    /// Of a leader: a renewal is overdue.
    pub at_risk: bool,
}

/// The events of another process, one by one.
pub struct Story {
    /// Whose they are, for messages.
    who: String,
    events: Receiver<Told>,
    /// The token that it leads with.
    led: Mutex<i64>,
}

impl Story {
    pub fn new(who: &str, events: Receiver<Told>) -> Story {
        Story { who: who.to_owned(), events, led: Mutex::default() }
    }

    pub fn next_told(&self) -> Told {
        self.events.recv_timeout(LIMIT).unwrap_or_else(|error| panic!("{}: no event: {error}", self.who))
    }

    /// The next event that changes anything, which must be of this state. Others tell of a risk, or that it is over.
    pub fn next(&self, state: &str) -> Told {
        let mut led = self.led.lock().unwrap();
        loop {
            let told = self.next_told();
            if told.state == "LEADER" && told.token == *led {
                continue;
            }
            assert_eq!(told.state, state, "{}: {told:?}", self.who);
            *led = if told.state == "LEADER" { told.token } else { 0 };
            return told;
        }
    }

    /// One that came already.
    pub fn told(&self) -> Option<Told> {
        self.events.try_recv().ok()
    }

    /// Nothing has changed since the last event.
    pub fn assert_unchanged(&self) {
        let led = *self.led.lock().unwrap();
        for told in self.events.try_iter() {
            assert!(told.state == "LEADER" && told.token == led, "{}: {told:?}", self.who);
        }
    }
}

/// One look at leadership; the truth is from between the two times.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub before: i64,
    pub after: i64,
    /// 0: it did not lead.
    pub token: i64,
}

impl Look {
    fn earlier_by(&self, ns: i64) -> Look {
        Look { before: self.before - ns, after: self.after - ns, token: self.token }
    }
}

/// A time for which a candidate has certainly been leading: every look in it said so.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub token: i64,
    pub start: i64,
    pub end: i64,
}

impl Program {
    /// Starts a candidate. `test` is the full name of the test that calls [`Program::run`]; the options are the
    /// service's, and those that begin with `campaign.` the campaign's.
    pub fn start(test: &str, options: &[(&str, &str)]) -> Program {
        Program::start_with(test, options, &[], |_| {})
    }

    /// Starts one by the program and the arguments that `within` holds, if any, and after `prepare`.
    pub fn start_with(
        test: &str,
        options: &[(&str, &str)],
        within: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Program {
        let options: Vec<String> = options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut command = process::command_within(within, env::current_exe().unwrap());
        prepare(&mut command);
        command.args([test, "--exact", "--nocapture"]).env(VARIABLE, options.join("\n"));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::spawn(command);
        let (sender, events) = mpsc::channel();
        let (worker, work) = mpsc::channel();
        let looks = Arc::new(Mutex::default());
        let (lines, seen) = (process.child.stderr.take().unwrap(), looks.clone());
        thread::spawn(move || read(lines, &sender, &worker, &seen));
        Program { process, events: Story::new(test, events), work, looks, ahead_ns: 0, is_killed: Arc::default() }
    }

    /// Says that its CLOCK_BOOTTIME is ahead of ours by this; its looks are told in our time.
    pub fn of_time(mut self, ahead_ns: i64) -> Program {
        self.ahead_ns = ahead_ns;
        self
    }

    /// To be called by a test: true if this process was started as a candidate, which is over now. Where an option
    /// `work` was given, `work` is called with its value, on a thread of its own that ends with the process.
    pub fn run(work: fn(&str, &Candidacy)) -> bool {
        let Ok(options) = env::var(VARIABLE) else { return false };
        let (mut service, mut campaign) = (ServiceOptions::new(), CampaignOptions::new());
        let mut way = None;
        for (name, value) in options.lines().filter_map(|line| line.split_once('=')) {
            if name == "work" {
                way = Some(value.to_owned());
                continue;
            }
            match name.strip_prefix("campaign.") {
                Some(name) => campaign.set(name, value).map(drop),
                None => service.set(name, value).map(drop),
            }
            .unwrap();
        }
        stand(&service, &campaign, |candidacy| {
            if let Some(way) = way {
                thread::spawn(move || work(&way, &candidacy));
            }
        });
        true
    }

    /// The next event.
    pub fn next_told(&self) -> Told {
        self.events.next_told()
    }

    /// The next event that changes anything, which must be of this state. On a busy machine a leader may be at risk for a
    /// moment at any time.
    pub fn next(&self, state: &str) -> Told {
        self.events.next(state)
    }

    /// An event that came already.
    pub fn told(&self) -> Option<Told> {
        self.events.told()
    }

    /// The next words of its work.
    pub fn next_work(&self) -> String {
        self.work.recv_timeout(LIMIT).unwrap_or_else(|error| panic!("waiting for its work: {error}"))
    }

    /// All that its work has said and nobody has read.
    pub fn work(&self) -> Vec<String> {
        self.work.try_iter().collect()
    }

    pub fn stop(&self) {
        self.process.stop();
    }

    pub fn cont(&self) {
        self.process.cont();
    }

    pub fn pid(&self) -> i32 {
        self.process.pid().as_raw_nonzero().get()
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        self.is_killed.store(true, Ordering::Release);
        self.process.kill();
    }

    /// Gives it a line to obey, after which it is gone, and nothing was withdrawn: `exit` or `abort`.
    pub fn crash(&mut self, way: &str) {
        self.is_killed.store(true, Ordering::Release);
        writeln!(self.process.child.stdin.as_mut().unwrap(), "{way}").unwrap();
        self.process.child.wait().unwrap();
    }

    /// Lets it withdraw, and waits for its end.
    pub fn end(self) {
        drop(self);
    }

    /// When and with which tokens it led, also once it has ended.
    pub fn witness(&self) -> Witness {
        let (looks, is_killed, ahead_ns) = (self.looks.clone(), self.is_killed.clone(), self.ahead_ns);
        Witness {
            claims: Box::new(move || claims(&in_our_time(&looks, ahead_ns))),
            is_killed: Box::new(move || is_killed.load(Ordering::Acquire)),
        }
    }

    pub fn looks(&self) -> Vec<Look> {
        in_our_time(&self.looks, self.ahead_ns)
    }

    pub fn last_look(&self) -> Option<Look> {
        self.looks.lock().unwrap().last().map(|look| look.earlier_by(self.ahead_ns))
    }

    /// When and with which tokens it led.
    pub fn claims(&self) -> Vec<Claim> {
        claims(&self.looks())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A test that has failed, or a process that is gone.
        if thread::panicking() || self.is_killed.load(Ordering::Acquire) {
            return;
        }
        self.process.cont();
        drop(self.process.child.stdin.take());
        assert!(self.process.child.wait().unwrap().success(), "a candidate withdraws and ends well");
    }
}

/// What another process can prove, whatever has become of it.
pub struct Witness {
    pub claims: Box<dyn Fn() -> Vec<Claim> + Send>,
    /// It has left key and lease behind.
    pub is_killed: Box<dyn Fn() -> bool + Send>,
}

fn in_our_time(looks: &Mutex<Vec<Look>>, ahead_ns: i64) -> Vec<Look> {
    looks.lock().unwrap().iter().map(|look| look.earlier_by(ahead_ns)).collect()
}

fn claims(looks: &[Look]) -> Vec<Claim> {
    let mut claims = Claims::default();
    looks.iter().for_each(|look| claims.add(*look));
    claims.all
}

/// The claims that looks prove, one look after the other.
#[derive(Default)]
pub struct Claims {
    pub all: Vec<Claim>,
    led: i64,
}

impl Claims {
    pub fn add(&mut self, look: Look) {
        match self.all.last_mut() {
            Some(claim) if look.token != 0 && look.token == self.led => claim.end = claim.end.max(look.before),
            _ if look.token != 0 => self.all.push(Claim { token: look.token, start: look.after, end: look.after }),
            _ => {}
        }
        self.led = look.token;
    }
}

/// What a program's work has at hand.
pub struct Candidacy {
    pub service: Arc<Service>,
    pub campaign: Arc<Campaign>,
}

fn stand(service: &ServiceOptions, campaign: &CampaignOptions, begin_work: impl FnOnce(Candidacy)) {
    let service = Arc::new(Service::open(service).unwrap());
    let tell = |event: &Event| {
        if let Event::Status(_, status) = event {
            let state = format!("{:?}", status.state).to_uppercase();
            let (token, reason, at_risk) = (status.token, status.reason.name(), u8::from(status.at_risk));
            say(&format!("event {} {state} {token} {reason} {at_risk}\n", boottime_ns()));
        }
    };
    let campaign = Arc::new(service.campaign("", campaign, Some(Box::new(tell))).unwrap());
    begin_work(Candidacy { service: service.clone(), campaign: campaign.clone() });
    let looking = Arc::downgrade(&campaign);
    thread::spawn(move || {
        while let Some(campaign) = looking.upgrade() {
            let before = boottime_ns();
            let token = campaign.token();
            say(&format!("look {before} {} {token}\n", boottime_ns()));
            drop(campaign);
            thread::park_timeout(PAUSE);
        }
    });
    match stdin().lines().next().transpose().unwrap().as_deref() {
        None => {}
        Some("exit") => exit(0),
        Some("abort") => abort(),
        Some(other) => panic!("`{other}` is neither exit nor abort"),
    }
    service.close(LIMIT).unwrap();
}

/// By one write, so that lines of several threads don't mix.
pub fn say(line: &str) {
    stderr().write_all(line.as_bytes()).unwrap();
}

fn read(lines: ChildStderr, events: &Sender<Told>, work: &Sender<String>, looks: &Mutex<Vec<Look>>) {
    for line in BufReader::new(lines).lines() {
        let Ok(line) = line else { return };
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: usize| words[word].parse::<i64>().unwrap();
        match words[..] {
            ["event", _, state, _, reason, at_risk] => {
                let (state, reason, at_risk) = (state.into(), reason.into(), at_risk == "1");
                let told = Told { at: number(1), state, token: number(3), reason, at_risk };
                // The test may be over.
                let _ = events.send(told);
            }
            ["look", _, _, _] => {
                looks.lock().unwrap().push(Look { before: number(1), after: number(2), token: number(3) });
            }
            ["work", ..] => {
                let _ = work.send(line["work ".len()..].into());
            }
            // What else it says matters to who reads the output of a failed test.
            _ => eprintln!("{line}"),
        }
    }
}
