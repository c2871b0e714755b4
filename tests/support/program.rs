//! A candidate in a process of its own, which can be stopped and killed; it is asked all the time whether it leads.
//!
//! The process is the test binary itself, told by a variable to be a candidate when it comes to the test that calls
//! [`Program::run`]. It tells on stderr, which the test harness leaves alone, times on CLOCK_BOOTTIME:
//!
//!     event TIME STATE TOKEN REASON
//!     look BEFORE AFTER TOKEN         the answer to one look, 0: not leading
//!
//! and withdraws and ends when its stdin ends.

use std::env;
use std::io::{BufRead, BufReader, Read, Write, stderr, stdin};
use std::process::{ChildStderr, Stdio};
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

/// See the module; killed on drop.
pub struct Program {
    process: Process,
    events: Receiver<Told>,
    looks: Arc<Mutex<Vec<Look>>>,
}

/// An event that the candidate had.
#[derive(Clone, Debug)]
pub struct Told {
    pub at: i64,
    pub state: String,
    pub token: i64,
    pub reason: String,
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
        Program { process, events, looks }
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

    pub fn pid(&self) -> i32 {
        self.process.pid().as_raw_nonzero().get()
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Lets it withdraw, and waits for its end.
    pub fn end(mut self) {
        drop(self.process.child.stdin.take());
        assert!(self.process.child.wait().unwrap().success());
    }

    pub fn looks(&self) -> Vec<Look> {
        self.looks.lock().unwrap().clone()
    }

    pub fn last_look(&self) -> Option<Look> {
        self.looks.lock().unwrap().last().copied()
    }

    /// When and with which tokens it led.
    pub fn claims(&self) -> Vec<Claim> {
        let mut claims: Vec<Claim> = Vec::new();
        let mut led = 0;
        for look in self.looks() {
            match claims.last_mut() {
                Some(claim) if look.token != 0 && look.token == led => claim.end = claim.end.max(look.before),
                _ if look.token != 0 => claims.push(Claim { token: look.token, start: look.after, end: look.after }),
                _ => {}
            }
            led = look.token;
        }
        claims
    }
}

/// No two of these programs led at the same time.
pub fn assert_no_overlap(programs: &[&Program]) {
    let mut claims: Vec<Claim> = programs.iter().flat_map(|program| program.claims()).collect();
    claims.sort_by_key(|claim| claim.start);
    for pair in claims.windows(2) {
        assert!(pair[0].end < pair[1].start, "two led at once: {pair:?}");
        assert!(pair[0].token < pair[1].token, "tokens grow: {pair:?}");
    }
}

fn stand(service: &ServiceOptions, campaign: &CampaignOptions) {
    let service = Service::open(service).unwrap();
    let tell = |event: &Event| {
        if let Event::Status(_, status) = event {
            let state = format!("{:?}", status.state).to_uppercase();
            say(&format!("event {} {state} {} {}\n", boottime_ns(), status.token, status.reason.name()));
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
    stdin().read_to_end(&mut Vec::new()).unwrap();
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
            ["event", _, state, _, reason] => {
                let told = Told { at: number(1), state: state.into(), token: number(3), reason: reason.into() };
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
