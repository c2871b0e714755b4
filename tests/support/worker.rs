//! A candidate in C, Python or Go in a process of its own: the example `worker` of that language.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use super::process::{self, Process};
use super::program::{Claim, Story, Told, Witness};
use super::resources::Folder;

#[derive(Clone, Copy, Debug)]
pub enum Language {
    C,
    Python,
    Go,
}

/// See the module; withdraws and ends on drop, unless it was killed. It rejoins after a loss, and tells its risks.
pub struct Worker {
    language: Language,
    process: Process,
    events: Story,
    claims: Arc<ClaimsFile>,
    is_killed: Arc<AtomicBool>,
}

impl Worker {
    /// Starts one with these options of the service.
    pub fn start(language: Language, options: &[(&str, &str)]) -> Worker {
        let claims = Arc::new(ClaimsFile(Folder::new()));
        let mut command = process::command(program(language));
        if let Language::Python = language {
            let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
            command.arg(tree.join("examples/python/worker.py"));
            command.env("PYTHONPATH", tree.join("bindings/python/src")).env("PYTHONDONTWRITEBYTECODE", "1");
            command.env("TENURE_LIBRARY", made("../debug/libtenure.so"));
        }
        for (name, value) in options {
            command.args(["--option", &format!("{name}={value}")]);
        }
        command.args(["--poll-us", "2000", "--claims"]).arg(claims.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(command);
        let (sender, events) = mpsc::channel();
        let lines = process.child.stdout.take().unwrap();
        thread::spawn(move || read(lines, &sender));
        Worker {
            language,
            process,
            events: Story::new(&format!("{language:?}"), events),
            claims,
            is_killed: Arc::default(),
        }
    }

    /// The next event.
    pub fn next_told(&self) -> Told {
        self.events.next_told()
    }

    /// The next event that changes anything, which must be of this state.
    pub fn next(&self, state: &str) -> Told {
        self.events.next(state)
    }

    /// Nothing has changed since the last event.
    pub fn assert_unchanged(&self) {
        self.events.assert_unchanged();
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

    /// Lets it resign, and not stand again; it goes on.
    pub fn resign(&mut self) {
        self.say("resign");
        self.next("FOLLOWER");
        self.next("CLOSED");
    }

    fn say(&mut self, command: &str) {
        writeln!(self.process.child.stdin.as_mut().unwrap(), "{command}").unwrap();
    }

    /// When and with which tokens it led; whole once it has ended or is stopped.
    pub fn claims(&self) -> Vec<Claim> {
        self.claims.read()
    }

    /// As [`Worker::claims`], also once it has ended.
    pub fn witness(&self) -> Witness {
        let (claims, is_killed) = (self.claims.clone(), self.is_killed.clone());
        Witness {
            claims: Box::new(move || claims.read()),
            is_killed: Box::new(move || is_killed.load(Ordering::Acquire)),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A test that has failed, or a process that is gone.
        if thread::panicking() || self.is_killed.load(Ordering::Acquire) {
            return;
        }
        self.process.cont();
        self.say("quit");
        assert!(self.process.child.wait().unwrap().success(), "{:?}: withdraws and ends well", self.language);
    }
}

/// Where a worker notes when it led. It outlives the worker, however that ends.
struct ClaimsFile(Folder);

impl ClaimsFile {
    fn path(&self) -> PathBuf {
        self.0.path().join("claims")
    }

    /// A line is START END TOKEN.
    fn read(&self) -> Vec<Claim> {
        let text = fs::read_to_string(self.path()).unwrap_or_default();
        let claim = |line: &str| {
            let numbers: Vec<i64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
            Claim { start: numbers[0], end: numbers[1], token: numbers[2] }
        };
        text.lines().map(claim).collect()
    }
}

fn read(lines: ChildStdout, events: &Sender<Told>) {
    for line in BufReader::new(lines).lines() {
        let Ok(line) = line else { return };
        let Some(event) = line.strip_prefix("event ") else { continue };
        let value = |name: &str| {
            let mut pairs = event.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map_or_else(|| panic!("no {name} in {line}"), |(_, value)| value)
        };
        let told = Told {
            at: value("time_ns").parse().unwrap(),
            state: value("state").into(),
            token: value("token").parse().unwrap(),
            reason: value("reason").into(),
            at_risk: value("at_risk") == "1",
        };
        // The test may be over.
        let _ = events.send(told);
    }
}

fn program(language: Language) -> PathBuf {
    match language {
        Language::C => made("tested/c/worker"),
        Language::Python => "python3".into(),
        Language::Go => made("go/worker"),
    }
}

/// What `make workers` has made.
fn made(name: &str) -> PathBuf {
    let folder = env::var_os("TENURE_WORKERS")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("../examples"), PathBuf::from);
    let program = folder.join(name);
    assert!(program.exists(), "{} is missing: run `make workers` first", program.display());
    program
}
