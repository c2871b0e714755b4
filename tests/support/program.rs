//! A candidate in a process of its own, which can be stopped and killed; it is asked all the time whether it leads.
//!
//! The process is the test binary itself, told by a variable to be a candidate when it comes to the test that calls
//! [`Program::run`]. It tells on stderr, which the test harness leaves alone, times on CLOCK_BOOTTIME:
//!
//!     event TIME STATE TOKEN REASON RISK
//!     look BEFORE AFTER TOKEN         the answer to one look, 0: not leading
//!
//! It withdraws and ends when its stdin ends; a line `exit` or `abort` there ends it at once.

use std::env;
use std::io::{BufRead, BufReader, Write, stderr, stdin};
use std::process::{ChildStderr, Stdio, abort, exit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tenure::{CampaignOptions, Event, Service, ServiceOptions};

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
    events: Receiver<Told>,
    looks: Arc<Mutex<Vec<Look>>>,
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

/// One look at leadership; the truth is from between the two times.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub before: i64,
    pub after: i64,
    /// 0: it did not lead.
    pub token: i64,
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
        let options: Vec<String> = options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut command = process::command(env::current_exe().unwrap());
        command.args([test, "--exact", "--nocapture"]).env(VARIABLE, options.join("\n"));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::spawn(command);
        let (sender, events) = mpsc::channel();
        let looks = Arc::new(Mutex::default());
        let (lines, seen) = (process.child.stderr.take().unwrap(), looks.clone());
        thread::spawn(move || read(lines, &sender, &seen));
        Program { process, events, looks, is_killed: Arc::default() }
    }

    /// To be called by a test: true if this process was started as a candidate, which is over now.
    pub fn run() -> bool {
        let Ok(options) = env::var(VARIABLE) else { return false };
        let (mut service, mut campaign) = (ServiceOptions::new(), CampaignOptions::new());
        for (name, value) in options.lines().filter_map(|line| line.split_once('=')) {
            match name.strip_prefix("campaign.") {
                Some(name) => campaign.set(name, value).map(drop),
                None => service.set(name, value).map(drop),
            }
            .unwrap();
        }
        stand(&service, &campaign);
        true
    }

    /// The next event, which must be of this state.
    pub fn next(&self, state: &str) -> Told {
        let told = self.events.recv_timeout(LIMIT).unwrap_or_else(|error| panic!("waiting for {state}: {error}"));
        assert_eq!(told.state, state, "{told:?}");
        told
    }

    /// An event that came already.
    pub fn told(&self) -> Option<Told> {
        self.events.try_recv().ok()
    }

    pub fn stop(&self) {
        self.process.stop();
    }

    pub fn cont(&self) {
        self.process.cont();
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
        let (looks, is_killed) = (self.looks.clone(), self.is_killed.clone());
        Witness {
            claims: Box::new(move || claims(&looks.lock().unwrap())),
            is_killed: Box::new(move || is_killed.load(Ordering::Acquire)),
        }
    }

    pub fn looks(&self) -> Vec<Look> {
        self.looks.lock().unwrap().clone()
    }

    pub fn last_look(&self) -> Option<Look> {
        self.looks.lock().unwrap().last().copied()
    }

    /// When and with which tokens it led.
    pub fn claims(&self) -> Vec<Claim> {
        claims(&self.looks.lock().unwrap())
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

fn stand(service: &ServiceOptions, campaign: &CampaignOptions) {
    let service = Service::open(service).unwrap();
    let tell = |event: &Event| {
        if let Event::Status(_, status) = event {
            let state = format!("{:?}", status.state).to_uppercase();
            let (token, reason, at_risk) = (status.token, status.reason.name(), u8::from(status.at_risk));
            say(&format!("event {} {state} {token} {reason} {at_risk}\n", boottime_ns()));
        }
    };
    let campaign = Arc::new(service.campaign("", campaign, Some(Box::new(tell))).unwrap());
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
    for line in stdin().lines().map_while(Result::ok) {
        match line.as_str() {
            "exit" => exit(0),
            "abort" => abort(),
            other => panic!("`{other}` is neither exit nor abort"),
        }
    }
    service.close(LIMIT).unwrap();
}

/// By one write, so that lines of several threads don't mix.
fn say(line: &str) {
    stderr().write_all(line.as_bytes()).unwrap();
}

fn read(lines: ChildStderr, events: &Sender<Told>, looks: &Mutex<Vec<Look>>) {
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
            // What else it says matters to who reads the output of a failed test.
            _ => eprintln!("{line}"),
        }
    }
}
