//! The versions of etcd and where their programs are.

use std::env;
use std::path::{Path, PathBuf};

/// A version of etcd that `make tools` provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 3.7.3, or the program that the variable `ETCD` names.
    V37,
    /// 3.6.16.
    V36,
    /// 3.4.23, the oldest that is supported.
    V34,
}

impl Version {
    pub const ALL: [Version; 3] = [Version::V37, Version::V36, Version::V34];

    /// The program `etcd`.
    pub fn etcd(self) -> PathBuf {
        match (self, env::var_os("ETCD")) {
            (Version::V37, Some(etcd)) => etcd.into(),
            _ => self.tool("etcd"),
        }
    }

    /// The program `etcdctl`: the one beside `etcd`, where there is one.
    pub fn etcdctl(self) -> PathBuf {
        let beside = self.etcd().with_file_name("etcdctl");
        if beside.exists() { beside } else { self.tool("etcdctl") }
    }

    fn tool(self, program: &str) -> PathBuf {
        let folder = match self {
            Version::V37 => "etcd-3.7.3",
            Version::V36 => "etcd-3.6.16",
            Version::V34 => "etcd-3.4.23",
        };
        tool(&format!("{folder}/{program}"))
    }
}

impl Default for Version {
    /// The version that the variable `ETCD_VERSION` names (3.7, 3.6 or 3.4), so that a whole run can be repeated
    /// against another one.
    fn default() -> Self {
        match env::var("ETCD_VERSION").as_deref() {
            Err(_) | Ok("" | "3.7") => Version::V37,
            Ok("3.6") => Version::V36,
            Ok("3.4") => Version::V34,
            Ok(other) => panic!("ETCD_VERSION={other}: not one of 3.7, 3.6, 3.4"),
        }
    }
}

/// A program made by `make tools`.
pub fn tool(name: &str) -> PathBuf {
    let folder = env::var_os("TENURE_TOOLS")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools"), PathBuf::from);
    let program = folder.join(name);
    assert!(program.exists(), "{} is missing: run `make tools` first", program.display());
    program
}
