//! What leadership alone can't prevent, and what the fencing token is for.
//!
//! ```text
//! fencing http://127.0.0.1:2379 /tmp/ledger
//! ```
//!
//! A leader asks whether it leads, and is stopped before it acts: by the scheduler, a debugger, a suspended machine.
//! When it goes on, another has led and written, and the check of before is worth nothing. Only the ledger can tell:
//! it keeps the highest token that it was written with, and refuses lower ones.
//!
//! Two processes play this: `first` leads and is stopped (SIGSTOP) between its check and its write, `second` is elected
//! when the lease of the first is over and writes, then `first` goes on. Ends with 0 if its late write was refused.
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_parent_process_death_signal, waitpid,
};
use tenure::{Campaign, CampaignOptions, Service, ServiceOptions};

type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "usage: fencing ENDPOINTS LEDGER-FILE   (two processes take part, so it needs an etcd)";

/// The resource: a file of lines, the first of which is the highest token seen. Locked while the object lives: that
/// makes the check and the write one; a token checked by the caller would not do.
struct Ledger {
    file: File,
    highest: i64,
}

impl Ledger {
    /// 20 digits and the end of the line.
    const TOKEN_BYTES: usize = 21;

    fn open(path: &str) -> Result<Ledger, Failure> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        let highest = if file.metadata()?.len() == 0 {
            0
        } else {
            let mut line = [0; Self::TOKEN_BYTES];
            file.read_exact_at(&mut line, 0)?;
            std::str::from_utf8(&line)?.trim_end().parse()?
        };
        Ok(Ledger { file, highest })
    }

    /// False: refused, somebody with a higher token was here.
    fn append(&mut self, token: i64, text: &str) -> Result<bool, Failure> {
        if token < self.highest {
            return Ok(false);
        }
        // The token first, and safe on the disk: a line without it would let an older leader write behind it.
        if token > self.highest {
            self.file.write_all_at(format!("{token:020}\n").as_bytes(), 0)?;
            self.file.sync_data()?;
            self.highest = token;
        }
        let end = self.file.metadata()?.len();
        let written =
            self.file.write_all_at(format!("{token} {text}\n").as_bytes(), end).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            self.file.set_len(end)?; // no half lines
            return Err(error.into());
        }
        Ok(true)
    }
}

fn write_line(who: &str, path: &str, token: i64, text: &str) -> Result<bool, Failure> {
    let mut ledger = Ledger::open(path)?;
    let is_written = ledger.append(token, text)?;
    if is_written {
        println!("{who}: wrote with token {token}");
    } else {
        println!("{who}: refused, token {token} is older than {}", ledger.highest);
    }
    Ok(is_written)
}

fn expect(is_so: bool, else_what: &str) -> Result<(), Failure> {
    if is_so { Ok(()) } else { Err(else_what.into()) }
}

/// Leads, looks, and is stopped before it can do what the look allowed.
fn be_first(who: &str, campaign: &Campaign, path: &str) -> Result<(), Failure> {
    let token = campaign.token();
    expect(write_line(who, path, token, "the first leader was here")?, "the ledger refuses its first leader")?;
    expect(campaign.is_leader(), "lost leadership too early for this example")?;
    println!("{who}: is the leader; falls asleep before it acts");
    kill_process(getpid(), Signal::STOP)?;
    println!("{who}: awake, and acts on what it knew");
    expect(!write_line(who, path, token, "the first leader is late")?, "the ledger takes a leader of the past")?;
    expect(!campaign.is_leader(), "claims to lead although another does")
}

fn be_second(who: &str, campaign: &Campaign, path: &str) -> Result<(), Failure> {
    expect(write_line(who, path, campaign.token(), "the second leader was here")?, "the ledger refuses its leader")
}

fn lead(who: &str, endpoints: &str, path: &str) -> Result<(), Failure> {
    // Nobody is to be left behind asleep.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut options = ServiceOptions::new();
    options.set("endpoints", endpoints)?.set("service", "fencing-example")?.set("ttl", "2s")?.set("value", who)?;
    let service = Service::open(&options)?;
    let campaign = service.campaign("ledger", &CampaignOptions::new(), None)?;
    campaign.wait_leader(Duration::from_secs(30))?;
    match who {
        "first" => be_first(who, &campaign, path)?,
        _ => be_second(who, &campaign, path)?,
    }
    service.close(service.call_timeout())?;
    Ok(())
}

/// Each leader is a process of its own: this program, with its part as a third argument.
fn start(who: &str, endpoints: &str, path: &str) -> Result<Child, Failure> {
    Ok(Command::new(std::env::current_exe()?).args([endpoints, path, who]).spawn()?)
}

/// Waits until the process is asleep or has ended.
fn wait(child: &Child, options: WaitOptions) -> Result<WaitStatus, Failure> {
    let (_, status) = waitpid(Some(Pid::from_child(child)), options)?.ok_or("no such process")?;
    Ok(status)
}

fn play(endpoints: &str, path: &str) -> Result<(), Failure> {
    let first = start("first", endpoints, path)?;
    expect(wait(&first, WaitOptions::UNTRACED)?.stopped(), "the first leader did not fall asleep")?;
    let second = start("second", endpoints, path)?;
    let second_status = wait(&second, WaitOptions::empty())?;
    kill_process(Pid::from_child(&first), Signal::CONT)?;
    expect(wait(&first, WaitOptions::empty())?.exit_status() == Some(0), "the first leader failed")?;
    expect(second_status.exit_status() == Some(0), "the second leader failed")
}

fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [endpoints, path] if !endpoints.starts_with("memory:") => play(endpoints, path),
        [endpoints, path, who @ ("first" | "second")] => lead(who, endpoints, path),
        _ => Err(USAGE.into()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("fencing: {failure}");
            ExitCode::FAILURE
        }
    }
}
