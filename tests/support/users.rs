//! Users of a server, and what they may do.

use std::io::Write;
use std::process::{Command, Stdio};

use super::etcd::Server;

const ROOT: &str = "root:root-password";

impl Server {
    /// Turns authentication on. From now on `etcdctl` acts as the administrator, and everybody needs a user.
    pub fn enable_auth(&self) {
        self.etcdctl(&["user", "add", ROOT]);
        self.etcdctl(&["user", "grant-role", "root", "root"]);
        self.etcdctl(&["auth", "enable"]);
        *self.user.lock().unwrap() = Some(ROOT.into());
    }

    /// Adds a user that may do nothing yet, with a role of the same name.
    pub fn add_user(&self, name: &str, password: &str) {
        self.etcdctl(&["user", "add", &format!("{name}:{password}")]);
        self.etcdctl(&["role", "add", name]);
        self.etcdctl(&["user", "grant-role", name, name]);
    }

    /// Lets a user do something, `read`, `write` or `readwrite`, with all keys that start with `prefix`.
    pub fn allow(&self, name: &str, what: &str, prefix: &str) {
        self.etcdctl(&["role", "grant-permission", "--prefix=true", name, what, prefix]);
    }

    /// Takes back what [`Server::allow`] gave.
    pub fn forbid(&self, name: &str, prefix: &str) {
        self.etcdctl(&["role", "revoke-permission", "--prefix=true", name, prefix]);
    }

    /// Gives a user another password; etcd forgets the user's tokens.
    pub fn change_password(&self, name: &str, password: &str) {
        let mut command = Command::new(self.version().etcdctl());
        self.prepare_etcdctl(&mut command);
        command.args(["user", "passwd", "--interactive=false", name]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
        assert!(child.wait().unwrap().success(), "the password of {name} was not changed");
    }
}
