//! The store on a real etcd.
//!
//! One connection to one member at a time. It is made when first needed and kept until a failure speaks against the
//! member; then the next member's turn comes. Balancing requests over all members, as etcd's clients do by default,
//! would lose a share of them to a dead one for as long as it is dead.

mod connection;
mod convert;
mod endpoint;
mod failure;
mod lease;
mod names;
mod tls;
mod watch;

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::LeaseGrantOptions;
use rustls::pki_types::TrustAnchor;
use tokio::sync::mpsc;
use tokio::time;

use self::connection::Connection;
use self::endpoint::Endpoint;
use self::failure::{Advice, Problem};
use super::{
    Failure, Header, LeaseId, LeaseState, Range, RangeResult, Store, StoreError, Txn, TxnResult, WatchMessage,
    WatchRequest,
};

const DEFAULT_DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Where a cluster is and how to be let in.
#[derive(Clone, Default)]
pub struct EtcdConfig {
    /// The members: `http://HOST:PORT`, `https://HOST:PORT`, `unix:///PATH`, or `HOST:PORT`, which is https if any of the
    /// TLS options below is set. At least one.
    pub endpoints: Vec<String>,
    /// The user to authenticate as; `None`: nobody.
    pub username: Option<String>,
    /// The user's password; `None`: empty.
    pub password: Option<String>,
    /// PEM file of the authorities that sign the servers' certificates; `None`: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client's certificate and those between it and its authority; goes with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file of the client certificate's key, not encrypted.
    pub key_file: Option<PathBuf>,
    /// The name to expect in the servers' certificates; `None`: the endpoint's host.
    pub server_name: Option<String>,
    /// How long connecting to one member may take, TLS and authentication included; zero: 2 s.
    pub dial_timeout: Duration,
}

impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdConfig")
            .field("endpoints", &self.endpoints)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("ca_file", &self.ca_file)
            .field("cert_file", &self.cert_file)
            .field("key_file", &self.key_file)
            .field("server_name", &self.server_name)
            .field("dial_timeout", &self.dial_timeout)
            .finish()
    }
}

/// A cluster, reached through one of its members.
pub struct Etcd {
    config: Arc<EtcdConfig>,
    /// The authorities that the system trusts, as they were at first, if they matter.
    system: Arc<[TrustAnchor<'static>]>,
    endpoints: Vec<Endpoint>,
    current: Mutex<Current>,
    /// Held by the one call that connects; the others wait for what comes of it. If that call gives up, the next goes
    /// on where it was: else no call would ever succeed whose timeout is too short for a whole connect.
    connecting: tokio::sync::Mutex<Option<Attempt>>,
}

struct Current {
    /// Which endpoint's turn it is.
    index: usize,
    /// Grows with every change of endpoint, so that of several failures on one connection only the first counts.
    generation: u64,
    connection: Option<Arc<Connection>>,
    /// The last attempt to connect that failed, for the calls that waited for it.
    failed: Option<(u64, StoreError)>,
    /// Endpoints left since the last connection only because a call had no more time to wait for them.
    hurried: usize,
}

/// Connecting to an endpoint, within the dial timeout.
struct Attempt {
    generation: u64,
    outcome: Pin<Box<dyn Future<Output = Result<Connection, StoreError>> + Send>>,
}

/// How far a call has come; tells what its timeout means.
enum Phase {
    /// Another call is connecting.
    Waiting,
    Connecting {
        generation: u64,
        endpoint: usize,
    },
    Sent(Arc<Connection>),
    /// The server refused the token, so it did nothing yet.
    Renewing(Arc<Connection>),
}

impl Etcd {
    /// Checks the configuration; connects to nothing. Needs no runtime. For the system's authorities it reads the
    /// environment (SSL_CERT_FILE, SSL_CERT_DIR).
    ///
    /// # Errors
    /// [`Failure::Refused`] for an endpoint that is no address, options that contradict each other, and files that
    /// cannot be read or hold no usable certificate or key.
    pub fn new(config: EtcdConfig) -> Result<Etcd, StoreError> {
        let tls = config.ca_file.is_some()
            || config.cert_file.is_some()
            || config.key_file.is_some()
            || config.server_name.is_some();
        let endpoints = endpoint::parse_all(&config.endpoints, tls)?;
        if config.password.is_some() && config.username.is_none() {
            return Err(StoreError::new(Failure::Refused, "password is set, but username is not"));
        }
        let by_system = config.ca_file.is_none() && endpoints.iter().any(|endpoint| endpoint.tls);
        let system = if by_system { tls::system_authorities()? } else { Vec::new() };
        for endpoint in &endpoints {
            connection::transport(&config, &system, endpoint)?;
        }
        // Each process starts elsewhere, which spreads their load over the members.
        let start = RandomState::new().hash_one(&config.endpoints) as usize % endpoints.len();
        let current = Current { index: start, generation: 0, connection: None, failed: None, hurried: 0 };
        Ok(Etcd {
            config: Arc::new(config),
            system: system.into(),
            endpoints,
            current: Mutex::new(current),
            connecting: tokio::sync::Mutex::new(None),
        })
    }

    /// Finds a member that answers: connects, authenticates and reads one key linearizably. Tries every endpoint
    /// once; each has the same share of `timeout`.
    ///
    /// # Errors
    /// Names each endpoint and its reason. Wrong credentials are reported at once, as [`Failure::Unauthenticated`].
    pub async fn probe(&self, timeout: Duration) -> Result<Header, StoreError> {
        let share = timeout / u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX);
        let mut errors: Vec<StoreError> = Vec::new();
        for _ in &self.endpoints {
            let generation = lock(&self.current).generation;
            match self.probe_one(share).await {
                Ok(header) => return Ok(header),
                Err(error) if error.failure == Failure::Unauthenticated => return Err(error),
                Err(error) => {
                    self.leave(generation, &error.message, None);
                    errors.push(error);
                }
            }
        }
        let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
        Err(StoreError::new(most_telling(&errors), messages.join("; ")))
    }

    async fn probe_one(&self, timeout: Duration) -> Result<Header, StoreError> {
        let key = Range { key: vec![0], limit: 1, keys_only: true, ..Range::default() };
        match self.range(key, timeout).await {
            Ok((header, _)) => Ok(header),
            // Refused after the read was found to be up to date, so the cluster works.
            Err(error) if error.failure == Failure::PermissionDenied => {
                self.call(timeout, (), |connection, ()| {
                    let connection = connection.clone();
                    async move { connection.status().await }
                })
                .await
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a request and waits for its answer. `send` makes the future anew if the token had to be renewed.
    async fn call<R, T, F>(
        &self,
        timeout: Duration,
        request: R,
        send: impl Fn(&Arc<Connection>, R) -> F,
    ) -> Result<T, StoreError>
    where
        R: Clone,
        F: Future<Output = Result<T, Problem>>,
    {
        let mut phase = Phase::Waiting;
        match time::timeout(timeout, self.attempt(&mut phase, request, send)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.timed_out(phase, timeout)),
        }
    }

    async fn attempt<R, T, F>(
        &self,
        phase: &mut Phase,
        request: R,
        send: impl Fn(&Arc<Connection>, R) -> F,
    ) -> Result<T, StoreError>
    where
        R: Clone,
        F: Future<Output = Result<T, Problem>>,
    {
        let connection = self.connection(phase).await?;
        *phase = Phase::Sent(connection.clone());
        let settle = |problem| self.settle(&problem, &connection);
        // Only where a second try is possible at all is the request worth a copy.
        if connection.has_user() {
            let token = connection.token();
            match send(&connection, request.clone()).await {
                Err(problem) if problem.advice == Advice::RenewToken => {
                    *phase = Phase::Renewing(connection.clone());
                    connection.renew_token(token).await.map_err(settle)?;
                    *phase = Phase::Sent(connection.clone());
                }
                outcome => return outcome.map_err(settle),
            }
        }
        send(&connection, request).await.map_err(settle)
    }

    fn timed_out(&self, phase: Phase, timeout: Duration) -> StoreError {
        let (connection, failure, what) = match phase {
            Phase::Waiting => return StoreError::new(Failure::NotSent, format!("not connected within {timeout:?}")),
            Phase::Connecting { generation, endpoint } => return self.hurry(generation, endpoint, timeout),
            Phase::Renewing(connection) => (connection, Failure::NotSent, "fresh token"),
            Phase::Sent(connection) => (connection, Failure::Unknown, "answer"),
        };
        let reason = format!("no {what} within {timeout:?}");
        self.settle(&Problem::new(failure, Advice::Leave, reason), &connection)
    }

    /// The connection, made if there is none. A failed attempt moves on to the next endpoint.
    async fn connection(&self, phase: &mut Phase) -> Result<Arc<Connection>, StoreError> {
        let seen = {
            let current = lock(&self.current);
            if let Some(connection) = &current.connection {
                return Ok(connection.clone());
            }
            current.generation
        };
        let mut slot = self.connecting.lock().await;
        let (endpoint, generation) = {
            let current = lock(&self.current);
            if let Some(connection) = &current.connection {
                return Ok(connection.clone());
            }
            if let Some((generation, error)) = &current.failed
                && *generation == seen
            {
                return Err(error.clone());
            }
            (current.index, current.generation)
        };
        *phase = Phase::Connecting { generation, endpoint };
        let begun = slot.take().filter(|attempt| attempt.generation == generation);
        let attempt = slot.insert(begun.unwrap_or_else(|| self.begin(generation, endpoint)));
        let outcome = attempt.outcome.as_mut().await;
        *slot = None;
        match outcome {
            Ok(connection) => self.adopt(Arc::new(connection)),
            Err(error) => {
                self.leave(generation, &error.message, Some(error.clone()));
                Err(error)
            }
        }
    }

    fn begin(&self, generation: u64, endpoint: usize) -> Attempt {
        let (config, system) = (self.config.clone(), self.system.clone());
        let endpoint = self.endpoints[endpoint].clone();
        let dial_timeout = self.dial_timeout();
        let outcome = Box::pin(async move {
            match time::timeout(dial_timeout, Connection::open(&config, &system, &endpoint, generation)).await {
                Ok(outcome) => outcome.map_err(|problem| problem.at(&endpoint.url)),
                Err(_) => Err(not_connected(&endpoint, dial_timeout)),
            }
        });
        Attempt { generation, outcome }
    }

    fn adopt(&self, connection: Arc<Connection>) -> Result<Arc<Connection>, StoreError> {
        let mut current = lock(&self.current);
        if current.generation != connection.generation {
            let message = format!("{}: left while connecting", connection.endpoint);
            return Err(StoreError::new(Failure::NotSent, message));
        }
        current.hurried = 0;
        current.connection = Some(connection.clone());
        Ok(connection)
    }

    /// A call had no time left for connecting. The first round of endpoints is left at once, as one of them may be
    /// faster; if none is, each gets the whole dial timeout.
    fn hurry(&self, generation: u64, endpoint: usize, timeout: Duration) -> StoreError {
        let error = not_connected(&self.endpoints[endpoint], timeout);
        let patient = {
            let mut current = lock(&self.current);
            let patient = current.hurried >= self.endpoints.len();
            if current.generation == generation && !patient {
                current.hurried += 1;
            }
            patient
        };
        if !patient {
            // Calls that wait for the same attempt may have more time: they go on with the next endpoint.
            self.leave(generation, &error.message, None);
        }
        error
    }

    /// Acts on a failure of a request or stream.
    fn settle(&self, problem: &Problem, connection: &Connection) -> StoreError {
        let mut error = problem.at(&connection.endpoint);
        if problem.advice == Advice::RenewToken && !connection.has_user() {
            error.message.push_str(": set username and password");
        }
        if problem.advice == Advice::Leave {
            self.leave(connection.generation, &problem.reason, None);
        }
        error
    }

    /// Moves on to the next endpoint, unless that has happened since `generation`.
    fn leave(&self, generation: u64, reason: &str, failed: Option<StoreError>) {
        let left = {
            let mut current = lock(&self.current);
            if current.generation != generation {
                return;
            }
            current.generation += 1;
            current.index = (current.index + 1) % self.endpoints.len();
            current.failed = failed.map(|error| (generation, error));
            current.connection.take()
        };
        if let Some(connection) = left {
            connection.leave(reason);
        }
    }

    fn dial_timeout(&self) -> Duration {
        if self.config.dial_timeout.is_zero() { DEFAULT_DIAL_TIMEOUT } else { self.config.dial_timeout }
    }
}

fn not_connected(endpoint: &Endpoint, timeout: Duration) -> StoreError {
    StoreError::new(Failure::NotSent, format!("{}: not connected within {timeout:?}", endpoint.url))
}

/// Of several endpoints' failures, the one that tells most about what is wrong.
fn most_telling(errors: &[StoreError]) -> Failure {
    let rank = |failure: &Failure| match failure {
        Failure::NotSent => 0,
        Failure::Unknown => 1,
        Failure::NoLeader => 2,
        Failure::Tls => 3,
        _ => 4,
    };
    errors.iter().map(|error| error.failure).max_by_key(rank).unwrap_or(Failure::NotSent)
}

impl Store for Etcd {
    async fn grant(&self, id: LeaseId, ttl_s: i64, timeout: Duration) -> Result<LeaseState, StoreError> {
        self.call(timeout, (), |connection, ()| {
            let mut lease = connection.lease.clone();
            async move {
                let granted = lease.grant(ttl_s, Some(LeaseGrantOptions::new().with_id(id))).await?.0;
                if !granted.error.is_empty() {
                    return Err(Problem::new(Failure::Refused, Advice::Stay, granted.error));
                }
                Ok(LeaseState { header: convert::header(granted.header)?, ttl_s: granted.ttl })
            }
        })
        .await
    }

    async fn keep_alive(&self, id: LeaseId, timeout: Duration) -> Result<LeaseState, StoreError> {
        self.call(timeout, (), |connection, ()| {
            let connection = connection.clone();
            async move {
                let answer = lease::ping(&connection, id).await?.0;
                Ok(LeaseState { header: convert::header(answer.header)?, ttl_s: answer.ttl })
            }
        })
        .await
    }

    async fn revoke(&self, id: LeaseId, timeout: Duration) -> Result<Header, StoreError> {
        self.call(timeout, (), |connection, ()| {
            connection.keep_alives.forget(id);
            let mut lease = connection.lease.clone();
            async move { convert::header(lease.revoke(id).await?.0.header) }
        })
        .await
    }

    async fn txn(&self, txn: Txn, timeout: Duration) -> Result<(Header, TxnResult), StoreError> {
        self.call(timeout, convert::txn(txn), |connection, txn| {
            let mut kv = connection.kv.clone();
            async move {
                let mut response = kv.txn(txn).await?.0;
                Ok((convert::header(response.header.take())?, convert::txn_result(response)?))
            }
        })
        .await
    }

    async fn range(&self, range: Range, timeout: Duration) -> Result<(Header, RangeResult), StoreError> {
        self.call(timeout, convert::get(range), |connection, (key, options)| {
            let mut kv = connection.kv.clone();
            async move {
                let mut response = kv.get(key, Some(options)).await?.0;
                Ok((convert::header(response.header.take())?, convert::range_result(response)))
            }
        })
        .await
    }

    async fn watch(
        &self,
        requests: mpsc::UnboundedReceiver<WatchRequest>,
        messages: mpsc::UnboundedSender<WatchMessage>,
    ) -> StoreError {
        match self.connection(&mut Phase::Waiting).await {
            Ok(connection) => {
                let problem = watch::run(&connection, requests, messages, self.dial_timeout()).await;
                self.settle(&problem, &connection)
            }
            Err(error) => error,
        }
    }

    fn rotate(&self, reason: &str) {
        let generation = lock(&self.current).generation;
        self.leave(generation, reason, None);
    }
}

/// No code panics while it holds one of these locks, and what they guard is whole after every line.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
