//! Options: what they mean, their ranges and defaults, and the checks between them.
//!
//! Every option has a row in [`SERVICE`] or [`CAMPAIGN`]; the docs page is made from these tables. Each value is
//! checked when it is set; contradictions between options are found when the service opens.

mod parse;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Code, Error};
use crate::events::Level;

pub(crate) use parse::name as check_name;

/// The largest value of a candidate, in bytes: below etcd's default request limit of 1.5 MiB with room for the rest.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// The longest name of an election, service or environment, or prefix, in bytes.
pub const MAX_NAME_BYTES: usize = 1024;

const DEFAULT_ROOT: &str = "_ld";

/// The scheme of the in-process store: `memory://NAME`.
pub const MEMORY_SCHEME: &str = "memory://";

/// etcd raises shorter times to live to its minimum, 1.5 election timeouts: 2 s by default
/// (`minLeaseTTL` in server/etcdserver/server.go).
const MIN_TTL: Duration = Duration::from_secs(2);
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

/// One row of an option table.
pub struct OptionRow<T> {
    /// The key.
    pub name: &'static str,
    /// What values look like and their range.
    pub range: &'static str,
    /// What it is without being set.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
    set: fn(&mut T, &str) -> Result<(), String>,
}

/// How a service's events reach the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Handlers are called on one thread of the service's own.
    #[default]
    Callback,
    /// The program calls `next_event`, with or without waiting on the file descriptor.
    Pull,
}

/// Where a service's elections lie in etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// `<root>/[<environment>/]<service>/<election>/`, the layout of M3's leader package.
    Layout {
        /// First part; `_ld` by default.
        root: String,
        /// Second part; left out when empty.
        environment: String,
        /// Third part.
        service: String,
    },
    /// `<prefix><election>/`: any election of etcd's `concurrency` package.
    Prefix(String),
}

/// The options of a service.
#[derive(Clone)]
pub struct ServiceOptions {
    pub(crate) endpoints: Vec<String>,
    root: String,
    environment: String,
    service: String,
    prefix: Option<String>,
    pub(crate) ttl: Duration,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) cert_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) server_name: Option<String>,
    pub(crate) dial_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) open_offline: bool,
    pub(crate) value: Option<Arc<[u8]>>,
    pub(crate) delivery: Delivery,
    pub(crate) log_level: Level,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        ServiceOptions {
            endpoints: vec!["http://127.0.0.1:2379".into()],
            root: DEFAULT_ROOT.into(),
            environment: String::new(),
            service: String::new(),
            prefix: None,
            ttl: Duration::from_secs(10),
            username: None,
            password: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            server_name: None,
            dial_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(5),
            open_offline: false,
            value: None,
            delivery: Delivery::Callback,
            log_level: Level::Off,
        }
    }
}

impl std::fmt::Debug for ServiceOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceOptions")
            .field("endpoints", &self.endpoints)
            .field("ttl", &self.ttl)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .finish_non_exhaustive()
    }
}

/// The options of a service, by name.
pub const SERVICE: &[OptionRow<ServiceOptions>] = &[
    OptionRow {
        name: "endpoints",
        range: "`http://host:port`, `https://host:port`, `host:port` or `unix:///path`, several with commas; or `memory://NAME` alone",
        default: "http://127.0.0.1:2379",
        doc: "The members of one etcd cluster. One is used at a time; when it fails, the next. `host:port` is https when a TLS option is set, else http. `memory://NAME` needs no server: services of this process that name the same NAME share an in-process store.",
        set: |o, v| parse::endpoints(v).map(|v| o.endpoints = v),
    },
    OptionRow {
        name: "root",
        range: "a name",
        default: DEFAULT_ROOT,
        doc: "First part of every key, as in M3's leader package.",
        set: |o, v| parse::name(v).map(|()| o.root = v.into()),
    },
    OptionRow {
        name: "environment",
        range: "a name, or empty",
        default: "",
        doc: "Second part of every key; left out when empty.",
        set: |o, v| parse::name_or_empty(v).map(|()| o.environment = v.into()),
    },
    OptionRow {
        name: "service",
        range: "a name",
        default: "none: either `service` or `prefix` must be set",
        doc: "Third part of every key: the program whose processes elect a leader.",
        set: |o, v| parse::name(v).map(|()| o.service = v.into()),
    },
    OptionRow {
        name: "prefix",
        range: "UTF-8 text without NUL, at most 1024 bytes; may be empty",
        default: "none",
        doc: "Takes the place of root, environment and service: an election's keys start with this text, then the election's name, then `/`. It is used as it is, so end it with `/` where that is meant. Reaches any election of etcd's Go package `concurrency`: NewElection(session, \"/jobs\") is prefix `/` and election `jobs`.",
        set: |o, v| parse::prefix(v).map(|()| o.prefix = Some(v.into())),
    },
    OptionRow {
        name: "ttl",
        range: "`2s` to `24h`, whole seconds",
        default: "10s",
        doc: "The session's time to live: how long after a crash etcd keeps the leader's key, and how long a leader that is cut off from etcd may go on. The server may grant more.",
        set: |o, v| parse::ttl(v).map(|v| o.ttl = v),
    },
    OptionRow {
        name: "username",
        range: "text; with `password`",
        default: "none",
        doc: "User name for etcd's own authentication.",
        set: |o, v| parse::text(v).map(|()| o.username = Some(v.into())),
    },
    OptionRow {
        name: "password",
        range: "text; with `username`",
        default: "none",
        doc: "Password for etcd's own authentication. It never appears in a message.",
        set: |o, v| parse::text(v).map(|()| o.password = Some(v.into())),
    },
    OptionRow {
        name: "ca_file",
        range: "path of a PEM file",
        default: "the authorities that the system trusts",
        doc: "Certificates of the authorities that may sign the server's certificate. Read again at every new connection; without it, the system's are read when the service is opened.",
        set: |o, v| parse::path(v).map(|v| o.ca_file = Some(v)),
    },
    OptionRow {
        name: "cert_file",
        range: "path of a PEM file; with `key_file`",
        default: "none",
        doc: "The client's certificate, for mutual TLS. Read again at every new connection.",
        set: |o, v| parse::path(v).map(|v| o.cert_file = Some(v)),
    },
    OptionRow {
        name: "key_file",
        range: "path of a PEM file; with `cert_file`",
        default: "none",
        doc: "The client's private key.",
        set: |o, v| parse::path(v).map(|v| o.key_file = Some(v)),
    },
    OptionRow {
        name: "server_name",
        range: "a host name",
        default: "the endpoint's host",
        doc: "The name that the server's certificate must hold.",
        set: |o, v| parse::text(v).map(|()| o.server_name = Some(v.into())),
    },
    OptionRow {
        name: "dial_timeout",
        range: "`10ms` to `5m`",
        default: "5s",
        doc: "The longest time that one connection, and opening the service, may take.",
        set: |o, v| parse::timeout(v).map(|v| o.dial_timeout = v),
    },
    OptionRow {
        name: "call_timeout",
        range: "`10ms` to `5m`",
        default: "5s",
        doc: "The longest time that one request to etcd may take before it is given up, and the default of calls that wait.",
        set: |o, v| parse::timeout(v).map(|v| o.call_timeout = v),
    },
    OptionRow {
        name: "open_offline",
        range: "`true` or `false`",
        default: "false",
        doc: "Whether opening succeeds while no endpoint answers. Campaigns and observers then join when etcd comes. Wrong credentials and certificates are errors in both cases, if they show before `dial_timeout`.",
        set: |o, v| parse::boolean(v).map(|v| o.open_offline = v),
    },
    OptionRow {
        name: "value",
        range: "UTF-8 text, at most 1 MiB; may be empty",
        default: "the host name",
        doc: "What campaigns announce that set no value of their own.",
        set: |o, v| parse::value(v.as_bytes()).map(|v| o.value = Some(v)),
    },
    OptionRow {
        name: "events",
        range: "`callback` or `pull`",
        default: "callback",
        doc: "How events arrive: by callback on one thread of the service's own, or by `next_event`, with or without its file descriptor.",
        set: |o, v| parse::delivery(v).map(|v| o.delivery = v),
    },
    OptionRow {
        name: "log_level",
        range: "`off`, `error`, `warn`, `info` or `debug`",
        default: "off",
        doc: "Which log lines are delivered, to the log callback or as events of their own.",
        set: |o, v| parse::level(v).map(|v| o.log_level = v),
    },
];

impl ServiceOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one option by name. On an error nothing is changed.
    ///
    /// # Errors
    /// [`Code::UnknownOption`], [`Code::InvalidValue`].
    pub fn set(&mut self, name: &str, value: &str) -> Result<&mut Self, Error> {
        set(SERVICE, self, name, value)?;
        Ok(self)
    }

    /// How events are delivered.
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// The namespace, once [`check`](Self::check) has passed.
    pub(crate) fn namespace(&self) -> Namespace {
        match &self.prefix {
            Some(prefix) => Namespace::Prefix(prefix.clone()),
            None => Namespace::Layout {
                root: self.root.clone(),
                environment: self.environment.clone(),
                service: self.service.clone(),
            },
        }
    }

    /// The NAME of `memory://NAME`.
    pub(crate) fn memory_name(&self) -> Option<&str> {
        self.endpoints.first()?.strip_prefix(MEMORY_SCHEME)
    }

    /// Finds contradictions between options.
    ///
    /// # Errors
    /// [`Code::InvalidValue`], naming the options.
    pub fn check(&self) -> Result<(), Error> {
        let fail = |message: &str| Err(Error::new(Code::InvalidValue, message));
        let layout = !self.service.is_empty() || !self.environment.is_empty() || self.root != DEFAULT_ROOT;
        if self.prefix.is_some() && layout {
            return fail("option `prefix`: it takes the place of `root`, `environment` and `service`; leave those out");
        }
        if self.prefix.is_none() && self.service.is_empty() {
            return fail("option `service`: must be set (or `prefix`, to reach elections outside M3's layout)");
        }
        if self.username.is_some() != self.password.is_some() {
            return fail("options `username` and `password`: set both or neither");
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return fail("options `cert_file` and `key_file`: set both or neither");
        }
        let tls = self.ca_file.is_some() || self.cert_file.is_some() || self.server_name.is_some();
        if self.memory_name().is_some() {
            if tls || self.username.is_some() {
                return fail("option `endpoints`: memory:// knows no TLS and no user; leave those options out");
            }
            return Ok(());
        }
        if tls && self.endpoints.iter().any(|e| e.starts_with("http://")) {
            return fail("option `endpoints`: http:// would go unencrypted although TLS options are set; say https://");
        }
        Ok(())
    }
}

/// The options of a campaign.
#[derive(Clone, Debug, Default)]
pub struct CampaignOptions {
    /// What the candidate announces; `None`: the service's value.
    pub(crate) value: Option<Arc<[u8]>>,
    pub(crate) rejoin: bool,
    pub(crate) at_risk: bool,
    pub(crate) step_down_margin: Duration,
    pub(crate) wait_limit: Option<Duration>,
}

/// The options of a campaign, by name.
pub const CAMPAIGN: &[OptionRow<CampaignOptions>] = &[
    OptionRow {
        name: "value",
        range: "UTF-8 text, at most 1 MiB; may be empty (bytes: set_value)",
        default: "the service's `value`",
        doc: "What the candidate announces.",
        set: |o, v| parse::value(v.as_bytes()).map(|v| o.value = Some(v)),
    },
    OptionRow {
        name: "rejoin",
        range: "`true` or `false`",
        default: "false",
        doc: "After a loss, stand again with a new session instead of closing, after a pause that grows with jitter, for ever until resigned.",
        set: |o, v| parse::boolean(v).map(|v| o.rejoin = v),
    },
    OptionRow {
        name: "at_risk",
        range: "`true` or `false`",
        default: "false",
        doc: "While leading, tell with LEADER events that a renewal is overdue and when that has passed.",
        set: |o, v| parse::boolean(v).map(|v| o.at_risk = v),
    },
    OptionRow {
        name: "step_down_margin",
        range: "`0` to a third of `ttl`",
        default: "0",
        doc: "Leadership ends this much before it must, so that the work can stop before another can be elected.",
        set: |o, v| parse::duration(v).map(|v| o.step_down_margin = v),
    },
    OptionRow {
        name: "wait_limit",
        range: "`0` (no limit) to `24h`",
        default: "0",
        doc: "Withdraw, with ERROR and reason WAIT_LIMIT, when not elected within this time after standing.",
        set: |o, v| parse::wait_limit(v).map(|v| o.wait_limit = v),
    },
];

impl CampaignOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one option by name. On an error nothing is changed.
    ///
    /// # Errors
    /// [`Code::UnknownOption`], [`Code::InvalidValue`].
    pub fn set(&mut self, name: &str, value: &str) -> Result<&mut Self, Error> {
        set(CAMPAIGN, self, name, value)?;
        Ok(self)
    }

    /// What the candidate announces, as bytes.
    ///
    /// # Errors
    /// [`Code::ValueTooLarge`] above [`MAX_VALUE_BYTES`].
    pub fn set_value(&mut self, value: &[u8]) -> Result<&mut Self, Error> {
        self.value = Some(check_value(value)?);
        Ok(self)
    }

    /// Finds contradictions with the service's options.
    pub(crate) fn check(&self, ttl: Duration) -> Result<(), Error> {
        if self.step_down_margin > ttl / 3 {
            let message = format!(
                "option `step_down_margin`: {:?} is above a third of the ttl, {:?}; the rest would be too short to renew in",
                self.step_down_margin,
                ttl / 3
            );
            return Err(Error::new(Code::InvalidValue, message));
        }
        Ok(())
    }
}

/// A candidate's value, if it isn't too large.
///
/// # Errors
/// [`Code::ValueTooLarge`] above [`MAX_VALUE_BYTES`].
pub fn check_value(value: &[u8]) -> Result<Arc<[u8]>, Error> {
    parse::value(value).map_err(|message| Error::new(Code::ValueTooLarge, message))
}

fn set<T>(table: &[OptionRow<T>], options: &mut T, name: &str, value: &str) -> Result<(), Error> {
    let Some(row) = table.iter().find(|row| row.name == name) else {
        let known: Vec<_> = table.iter().map(|row| row.name).collect();
        let message = format!("option `{}`: unknown; the options are {}", parse::shown(name), known.join(", "));
        return Err(Error::new(Code::UnknownOption, message));
    };
    (row.set)(options, value).map_err(|reason| Error::new(Code::InvalidValue, format!("option `{name}`: {reason}")))
}
