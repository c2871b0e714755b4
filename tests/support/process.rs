//! A child process that can be stopped, continued and killed, and that never outlives the test process.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::thread;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// A command for [`Process::spawn`]. Its process is killed when this one ends, in whatever way, and is in a group of its
/// own: a group with a stopped member that loses its parent is sent SIGHUP, which would hit the tests as well.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    command_within(&[], program)
}

/// As [`command`], run by another program that becomes it, such as `unshare`.
pub fn command_within(within: &[&str], program: impl AsRef<OsStr>) -> Command {
    let setpriv = ["setpriv", "--pdeathsig", "KILL", "--"];
    let mut words = within.iter().chain(&setpriv);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).arg(program).process_group(0);
    command
}

/// A running child; killed on drop.
pub struct Process {
    pub child: Child,
}

impl Process {
    pub fn spawn(command: Command) -> Process {
        type Request = (Command, Sender<std::io::Result<Child>>);
        // "The parent ended" means the *thread* that started the child, and a test's thread ends with the test, while
        // a server may be shared. So one thread that lives as long as the process starts all children.
        static STARTER: OnceLock<Sender<Request>> = OnceLock::new();
        let starter = STARTER.get_or_init(|| {
            let (sender, requests) = mpsc::channel::<Request>();
            thread::spawn(move || {
                for (mut command, answer) in requests {
                    answer.send(command.spawn()).unwrap();
                }
            });
            sender
        });
        let shown = format!("{command:?}");
        let (answer, child) = mpsc::channel();
        starter.send((command, answer)).unwrap();
        let child = child.recv().unwrap().unwrap_or_else(|error| panic!("{shown}: {error}"));
        Process { child }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Stops the process (SIGSTOP), and returns when it has stopped.
    pub fn stop(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
        // NOWAIT and EXITED: a process that has died meanwhile must not hang this, and stays to be waited for.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.pid()), options).unwrap();
    }

    pub fn cont(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    pub fn interrupt(&self) {
        kill_process(self.pid(), Signal::INT).unwrap();
    }

    /// Kills the process (SIGKILL), and returns when it is gone, its sockets and files with it.
    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
