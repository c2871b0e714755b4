//! A worker that acts only while it leads: of all workers of one election, one at a time.
//!
//! ```text
//! worker --endpoints http://127.0.0.1:2379 --service shop --election billing --value alpha
//! worker --endpoints memory://trial --service shop --for 3      (no server; it elects itself)
//! ```
//!
//! Its arguments, its commands on stdin and the lines it prints are those of examples/c/worker.c, which explains them.
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::os::unix::fs::FileExt;
use std::process::{ExitCode, exit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tenure::{Campaign, CampaignOptions, Code, Error, Event, Service, ServiceOptions, State};

type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "usage: worker [--endpoints URLS] [--service NAME] [--election NAME] [--value TEXT] [--ttl 10s]
              [--option NAME=VALUE]... [--claims FILE] [--poll-us N] [--for SECONDS]
--option sets any other option of the service, see docs/options.md.";

/// Now, on the clock that deadlines are on.
fn now_ns() -> i64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// Prints a line by one write, so that none is lost in a buffer. A worker that can't tell what it does ends.
fn say(line: &str) {
    const LONGEST: usize = 4096; // PIPE_BUF: so much is written to a pipe in one piece
    // A value may hold anything; a line is a line.
    let mut line: Vec<u8> = line.bytes().take(LONGEST - 1).map(|byte| byte.max(b' ')).collect();
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(&line).and_then(|()| stdout.flush()) {
        eprintln!("worker: stdout: {error}");
        exit(1);
    }
}

/// Runs on the library's callback thread.
fn on_event(event: &Event) {
    let time_ns = now_ns();
    let Event::Status(_, status) = event else { return };
    let state = match status.state {
        State::Follower => "FOLLOWER",
        State::Leader => "LEADER",
        State::Error => "ERROR",
        State::Closed => "CLOSED",
    };
    say(&format!(
        "event time_ns={time_ns} sequence={} state={state} reason={} token={} at_risk={} deadline_ns={} message={}",
        status.sequence,
        status.reason.name(),
        status.token,
        i32::from(status.at_risk),
        status.deadline_ns,
        status.message
    ));
}

/// The time for which the worker has been leading, as far as it is proved: from after the first look that said so to
/// before the latest one.
#[derive(Default)]
struct Claim {
    /// 0: none.
    token: i64,
    start_ns: i64,
    end_ns: i64,
}

impl Claim {
    fn say(&self) {
        say(&format!("claim start_ns={} end_ns={} token={}", self.start_ns, self.end_ns, self.token));
    }

    /// Keeps the claim where it outlives this process, however it ends.
    fn store(&self, file: Option<&File>, number: u64) -> io::Result<()> {
        let Some(file) = file else { return Ok(()) };
        let line = format!("{:20} {:20} {:21}\n", self.start_ns, self.end_ns, self.token);
        // Its length is a power of two, so that no line crosses a page: kill -9 can't tear one.
        file.write_all_at(line.as_bytes(), number * 64)
    }
}

struct Settings {
    options: ServiceOptions,
    election: String,
    claims: Option<File>,
    poll: Duration,
    /// Until told to end if there is none.
    length: Option<Duration>,
}

struct Worker<'a> {
    service: &'a Service,
    settings: &'a Settings,
    campaign: Mutex<Arc<Campaign>>,
    stop: AtomicBool,
}

impl<'a> Worker<'a> {
    fn new(service: &'a Service, settings: &'a Settings) -> Result<Self, Error> {
        let campaign = Mutex::new(campaign(service, settings)?);
        Ok(Worker { service, settings, campaign, stop: AtomicBool::new(false) })
    }

    fn campaign(&self) -> Arc<Campaign> {
        self.campaign.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The work: asks before every step whether it leads, and takes that step, which is to note that it may, only then.
    fn work(&self) -> io::Result<()> {
        let file = self.settings.claims.as_ref();
        let mut claim = Claim::default();
        let mut count = 0;
        loop {
            let campaign = self.campaign();
            let stop = self.stop.load(Ordering::Relaxed);

            let before_ns = now_ns();
            let token = if campaign.is_leader() { campaign.token() } else { 0 };
            let after_ns = now_ns();

            if token != claim.token {
                if claim.token != 0 {
                    claim.say();
                }
                claim = Claim { token, start_ns: after_ns, end_ns: after_ns };
                if token != 0 {
                    claim.say();
                    count += 1;
                    claim.store(file, count - 1)?;
                }
            } else if token != 0 && before_ns > claim.end_ns {
                claim.end_ns = before_ns;
                claim.store(file, count - 1)?;
            }
            if stop {
                return Ok(());
            }
            #[allow(clippy::disallowed_methods, reason = "a program that has nothing to wait for")]
            thread::sleep(self.settings.poll);
        }
    }

    /// False: to quit.
    fn obey(&self, command: &str) -> bool {
        match command {
            "resign" => {
                let start_ns = now_ns();
                let code = attempt("resign", || self.campaign().resign(self.service.call_timeout()));
                say(&format!("resign start_ns={start_ns} time_ns={} code={}", now_ns(), code.name()));
            }
            "campaign" => {
                let code = attempt("campaign", || {
                    let made = campaign(self.service, self.settings)?;
                    *self.campaign.lock().unwrap_or_else(PoisonError::into_inner) = made;
                    Ok(())
                });
                say(&format!("campaign time_ns={} code={}", now_ns(), code.name()));
            }
            "candidates" => self.print_candidates(),
            "quit" => return false,
            "" => {}
            _ => eprintln!("worker: unknown command `{command}`; there are resign, campaign, candidates and quit"),
        }
        true
    }

    fn print_candidates(&self) {
        let mut all = Vec::new();
        let code = attempt("candidates", || {
            all = self.service.candidates(&self.settings.election, self.service.call_timeout())?;
            Ok(())
        });
        for (place, candidate) in (1..).zip(&all) {
            let value = String::from_utf8_lossy(&candidate.value);
            say(&format!("candidate place={place} token={} value={value}", candidate.token));
        }
        say(&format!("candidates time_ns={} code={} count={}", now_ns(), code.name(), all.len()));
    }

    /// Until a command, a signal or the time says that it is enough.
    fn run(&self, orders: &mpsc::Receiver<Order>) {
        let end_ns = self.settings.length.map(|length| now_ns() + length.as_nanos() as i64);
        loop {
            let order = match end_ns {
                None => orders.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some(end_ns) => {
                    orders.recv_timeout(Duration::from_nanos(end_ns.saturating_sub(now_ns()).max(0) as u64))
                }
            };
            match order {
                Ok(Order::Command(command)) if self.obey(&command) => {}
                _ => return,
            }
        }
    }
}

fn campaign(service: &Service, settings: &Settings) -> Result<Arc<Campaign>, Error> {
    let mut options = CampaignOptions::new();
    options.set("rejoin", "true")?.set("at_risk", "true")?;
    service.campaign(&settings.election, &options, Some(Box::new(on_event))).map(Arc::new)
}

fn attempt(what: &str, call: impl FnOnce() -> Result<(), Error>) -> Code {
    match call() {
        Ok(()) => Code::Ok,
        Err(error) => {
            eprintln!("worker: {what}: {}: {error}", error.code().name());
            error.code()
        }
    }
}

enum Order {
    Command(String),
    Quit,
}

/// Commands and signals. A worker without commands goes on working, and so does one whose stdin can't be read.
fn orders() -> io::Result<mpsc::Receiver<Order>> {
    let (sender, orders) = mpsc::channel();
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let quit = sender.clone();
    thread::spawn(move || signals.forever().try_for_each(|_| quit.send(Order::Quit)));
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let sent = line.map(|line| sender.send(Order::Command(line)));
            match sent {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return, // the end
                Err(error) => return eprintln!("worker: stdin: {error}"),
            }
        }
    });
    Ok(orders)
}

fn number(text: &str) -> Result<u64, Failure> {
    const HIGHEST: u64 = 1_000_000_000;
    match text.parse() {
        Ok(number) if (1..=HIGHEST).contains(&number) => Ok(number),
        _ => Err(format!("`{text}` is not a number from 1 to {HIGHEST}").into()),
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Settings, Failure> {
    let mut settings = Settings {
        options: ServiceOptions::new(),
        election: String::new(),
        claims: None,
        poll: Duration::from_micros(200),
        length: None,
    };
    settings.options.set("service", "worker")?;
    while let Some(argument) = arguments.next() {
        let name = argument.strip_prefix("--").ok_or(USAGE)?;
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (name, arguments.next().ok_or(USAGE)?),
        };
        match name {
            "endpoints" | "service" | "value" | "ttl" => drop(settings.options.set(name, &value)?),
            "option" => {
                let (name, value) = value.split_once('=').ok_or(USAGE)?;
                settings.options.set(name, value)?;
            }
            "election" => settings.election = value,
            "claims" => settings.claims = Some(OpenOptions::new().write(true).create_new(true).open(value)?),
            "poll-us" => settings.poll = Duration::from_micros(number(&value)?),
            "for" => settings.length = Some(Duration::from_secs(number(&value)?)),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(settings)
}

fn run() -> Result<(), Failure> {
    let settings = parse(std::env::args().skip(1))?;
    let orders = orders()?;
    let service = Service::open(&settings.options)?;
    let worker = Worker::new(&service, &settings)?;
    thread::scope(|scope| {
        let work = scope.spawn(|| {
            worker.work().unwrap_or_else(|error| {
                eprintln!("worker: claims file: {error}");
                exit(1);
            });
        });
        worker.run(&orders);
        // Withdraws, so that the others don't have to wait until the lease is over.
        let closed = service.close(service.call_timeout());
        worker.stop.store(true, Ordering::Relaxed);
        work.join().map_err(|_| "the work panicked")?;
        Ok(closed?)
    })
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("worker: {failure}");
            ExitCode::FAILURE
        }
    }
}
