//! Candidates of other makes, each a process of its own: etcd's Go package `concurrency` and the server's election RPC
//! (both by the program tests/peer), and `etcdctl elect`.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::etcd::Server;
use super::process::{self, Process};
use super::program::{Claim, Witness, boottime_ns};
use super::version::tool;

/// How long a rival may take for anything that must happen.
const LIMIT: Duration = Duration::from_secs(60);

/// Another make of candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// etcd's Go package `concurrency`.
    Go,
    /// The server's election RPC.
    Rpc,
    /// `etcdctl elect`, whose TTL is 60 s; it stands as soon as it is started.
    Etcdctl,
}

impl Make {
    pub const ALL: [Make; 3] = [Make::Go, Make::Rpc, Make::Etcdctl];
}

/// A candidate that isn't ours.
pub struct Rival {
    make: Make,
    process: Process,
    input: Option<ChildStdin>,
    lines: Mutex<Receiver<String>>,
    terms: Arc<Mutex<Terms>>,
}

/// What it has certainly led.
#[derive(Default)]
struct Terms {
    claims: Vec<Claim>,
    is_leading: bool,
    is_killed: bool,
}

impl Terms {
    /// Until now.
    fn end(&mut self) {
        if let Some(claim) = self.claims.last_mut().filter(|_| self.is_leading) {
            claim.end = boottime_ns();
        }
        self.is_leading = false;
    }
}

impl Rival {
    /// Starts a candidate that stands at once. `election` is the prefix of the keys without the last slash.
    pub fn stand(server: &Server, make: Make, election: &str, value: &str) -> Rival {
        let mut rival = Rival::start(server, make, election, value, 10);
        if make != Make::Etcdctl {
            rival.say("campaign");
        }
        rival
    }

    /// Starts one that stands when told to `campaign` (etcdctl: at once), with a lease of `ttl_s` seconds.
    pub fn start(server: &Server, make: Make, election: &str, value: &str, ttl_s: u32) -> Rival {
        let mut command = match make {
            Make::Etcdctl => {
                let mut command = process::command(server.version().etcdctl());
                server.prepare_etcdctl(&mut command);
                // Some versions warn of the variables that others need.
                command.args(["elect", election, value]).stderr(Stdio::null());
                command
            }
            Make::Go | Make::Rpc => {
                let mode = if make == Make::Go { "concurrency" } else { "v3election" };
                let mut command = process::command(tool("peer"));
                command.args([mode, &server.endpoint(), election, value, &ttl_s.to_string()]);
                command
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(command);
        let lines = Mutex::new(follow(process.child.stdout.take().unwrap()));
        let input = process.child.stdin.take();
        let rival = Rival { make, process, input, lines, terms: Arc::default() };
        if make != Make::Etcdctl {
            rival.wait_line("ready ");
        }
        rival
    }

    pub fn make(&self) -> Make {
        self.make
    }

    /// Sends a command to the program tests/peer.
    pub fn say(&mut self, command: &str) {
        writeln!(self.input.as_mut().unwrap(), "{command}").unwrap();
    }

    /// Waits until it leads; gives its key.
    pub fn wait_elected(&self) -> String {
        let (key, token) = match self.make {
            // etcdctl prints the key and the value.
            Make::Etcdctl => {
                let key = self.wait_line("");
                self.wait_line("");
                (key, 0)
            }
            Make::Go | Make::Rpc => {
                let line = self.wait_line("elected ");
                (unquoted(&line), line.rsplit(' ').next().unwrap().parse().unwrap())
            }
        };
        let now = boottime_ns();
        let mut terms = self.terms.lock().unwrap();
        terms.claims.push(Claim { token, start: now, end: now });
        terms.is_leading = true;
        key
    }

    /// When it has been leading: from when it said so to before it was told to end.
    pub fn witness(&self) -> Witness {
        let (terms, others) = (self.terms.clone(), self.terms.clone());
        Witness {
            claims: Box::new(move || terms.lock().unwrap().claims.clone()),
            is_killed: Box::new(move || others.lock().unwrap().is_killed),
        }
    }

    /// The value of the leader as it sees it; not for etcdctl.
    pub fn leader(&mut self) -> String {
        self.say("leader");
        last(&self.wait_line("leader "))
    }

    /// The value of the next leader that it sees after the command `observe`.
    pub fn wait_observed(&self) -> String {
        last(&self.wait_line("observed "))
    }

    /// Withdraws, and waits until that is done.
    pub fn resign(&mut self) {
        self.terms.lock().unwrap().end();
        match self.make {
            Make::Etcdctl => {
                self.process.interrupt();
                self.process.child.wait().unwrap();
            }
            Make::Go | Make::Rpc => {
                self.say("resign");
                self.wait_line("resigned");
            }
        }
    }

    /// Ends it without a word (SIGKILL): its lease stays for its TTL.
    pub fn kill(&mut self) {
        let mut terms = self.terms.lock().unwrap();
        terms.end();
        terms.is_killed = true;
        self.process.kill();
    }

    /// Withdraws and ends.
    pub fn end(mut self) {
        self.terms.lock().unwrap().end();
        if self.make == Make::Etcdctl {
            self.process.interrupt();
        }
        drop(self.input.take());
        self.process.child.wait().unwrap();
    }

    /// The rest of its next line, which has to begin like this.
    fn wait_line(&self, beginning: &str) -> String {
        let line = self.lines.lock().unwrap().recv_timeout(LIMIT);
        let line = line.unwrap_or_else(|error| panic!("{:?}: no line `{beginning}…`: {error}", self.make));
        let rest = line.strip_prefix(beginning);
        rest.unwrap_or_else(|| panic!("{:?}: `{line}` instead of `{beginning}…`", self.make)).to_owned()
    }
}

fn follow(output: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// The first word of a line, a string in quotes without escapes.
fn unquoted(line: &str) -> String {
    line.split('"').nth(1).unwrap_or_default().to_owned()
}

/// The last word of a line, likewise.
fn last(line: &str) -> String {
    line.rsplit('"').nth(1).unwrap_or_default().to_owned()
}
