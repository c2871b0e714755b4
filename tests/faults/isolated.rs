//! Tests that need a process of their own, as they keep the library's one thread busy, or a machine of their own: a
//! network that can be cut, a disk that can be full. Each runs once more in another process; for a machine, with namespaces
//! in which it is root. What it does there is gone with it.

use std::env;
use std::fs;
use std::process::{Command, Stdio};

use crate::candidate::eventually;
use crate::support::process::{self, Process};

const VARIABLE: &str = "TENURE_TEST_ISOLATED";

/// Whether the test, whose full name is `test`, is to be played now. False: it was played in a process of its own, and
/// all was well there.
pub(crate) fn is_alone(test: &str) -> bool {
    let is_alone = env::var_os(VARIABLE).is_some();
    if !is_alone {
        play(test, &[]);
    }
    is_alone
}

/// As [`is_alone`], on a machine of its own.
pub(crate) fn is_within(test: &str) -> bool {
    if env::var_os(VARIABLE).is_some() {
        run(&["ip", "link", "set", "lo", "up"]);
        return true;
    }
    let within = ["unshare", "--user", "--map-root-user", "--net", "--mount"];
    assert_possible(&within);
    play(test, &within);
    false
}

/// Fails, and says that it is the machine, where this program with these arguments can't give namespaces.
pub(crate) fn assert_possible(within: &[&str]) {
    let possible = Command::new(within[0]).args(&within[1..]).arg("true").output().unwrap();
    let why = String::from_utf8_lossy(&possible.stderr);
    assert!(possible.status.success(), "NOT RUN: it needs root or a kernel that gives namespaces to all: {why}");
}

/// Plays the test in a process of its own, started by the program and the arguments that `within` holds, if any.
fn play(test: &str, within: &[&str]) {
    let mut command = process::command_within(within, env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(VARIABLE, "1").stdin(Stdio::null());
    let played = command.output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&played.stdout), String::from_utf8_lossy(&played.stderr));
    println!("{said}{told}");
    assert!(played.status.success() && said.contains("1 passed"), "{test} failed, see above");
}

/// Runs a program that must succeed.
pub(crate) fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Another machine, with two cables between it and this one: for the members of a cluster among themselves, and for
/// clients.
pub(crate) struct Machine {
    holder: Process,
}

impl Machine {
    /// The addresses of this machine and the other one on the members' cable.
    pub(crate) const MEMBERS: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
    /// Likewise on the clients'.
    pub(crate) const CLIENTS: [&str; 2] = ["10.78.0.1", "10.78.0.2"];

    pub(crate) fn new() -> Machine {
        let mut command = process::command("unshare");
        command.args(["--net", "sleep", "infinity"]);
        let machine = Machine { holder: Process::spawn(command) };
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        eventually("the other machine", || {
            fs::read_link(format!("/proc/{}/ns/net", machine.pid())).is_ok_and(|other| other != own)
        });
        machine.cable("members", Machine::MEMBERS);
        machine.cable("clients", Machine::CLIENTS);
        machine
    }

    fn pid(&self) -> String {
        self.holder.child.id().to_string()
    }

    fn cable(&self, name: &str, [here, there]: [&str; 2]) {
        let far = format!("{name}-far");
        run(&["ip", "link", "add", name, "type", "veth", "peer", "name", &far]);
        run(&["ip", "link", "set", &far, "netns", &self.pid()]);
        let (enter, here, there) = (self.enter(), format!("{here}/24"), format!("{there}/24"));
        let within = |words: &[&str]| run(&[&enter.iter().map(String::as_str).collect::<Vec<_>>(), words].concat());
        run(&["ip", "address", "add", &here, "dev", name]);
        run(&["ip", "link", "set", name, "up"]);
        within(&["ip", "address", "add", &there, "dev", &far]);
        within(&["ip", "link", "set", &far, "up"]);
        within(&["ip", "link", "set", "lo", "up"]);
    }

    /// What a command has to begin with to run there.
    pub(crate) fn enter(&self) -> Vec<String> {
        vec!["nsenter".into(), format!("--net=/proc/{}/ns/net", self.pid()), "--".into()]
    }

    /// The members' cable is pulled out, or put in again.
    pub(crate) fn partition(&self, is_cut: bool) {
        run(&["ip", "link", "set", "members", if is_cut { "down" } else { "up" }]);
    }
}
