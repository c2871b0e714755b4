//! One connection to one member: the transport, the clients on it, and the token of the user.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions, GetOptions, KvClient, LeaseClient, WatchClient};
use rustls::pki_types::TrustAnchor;
use tokio::sync::{Mutex, watch};
use tonic::transport::Endpoint as Transport;

use super::endpoint::Endpoint;
use super::failure::{Advice, Problem, is_answer, is_io};
use super::lease::KeepAlives;
use super::{EtcdConfig, names, tls};
use crate::store::{Failure, Header, StoreError};

/// etcd closes connections that ping more often than its `--grpc-keepalive-min-time` (5 s by default) or that ping
/// without having a request open.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
const TCP_KEEPALIVE: Duration = Duration::from_secs(10);
/// The server limits requests to 1.5 MiB, but the answer to a group of reads, or a page of a list, holds many keys:
/// 100 of the largest, at most. What is larger is a neighbour's doing, and not worth our memory.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// One transaction's changes are no larger than a request. Only a watch that lags gets more at once (a thousand
/// revisions, whatever their size); another one, from now on, and a list are cheaper than that.
const MAX_EVENTS_BYTES: usize = 32 * 1024 * 1024;
/// Fresh tokens that may be refused in a row when a watch is created. More than one, because every change of users
/// or roles makes a token old.
const MAX_WATCH_RENEWALS: u32 = 3;

pub(super) struct Connection {
    pub(super) endpoint: String,
    /// Which connection of the store this is, counted from 0.
    pub(super) generation: u64,
    pub(super) kv: KvClient,
    pub(super) lease: LeaseClient,
    pub(super) watch: WatchClient,
    pub(super) keep_alives: KeepAlives,
    client: Client,
    user: Option<(String, String)>,
    tokens: AtomicU64,
    renewing: Mutex<()>,
    watch_renewals: AtomicU32,
    left: watch::Sender<Option<String>>,
}

/// How to reach a member. Reads the certificate files, so that each connection takes up renewed ones.
pub(super) fn transport(
    config: &EtcdConfig,
    system: &[TrustAnchor<'static>],
    endpoint: &Endpoint,
) -> Result<Transport, StoreError> {
    let refused =
        |error: &dyn std::error::Error| StoreError::new(Failure::Refused, format!("{}: {error}", endpoint.url));
    let mut transport = Transport::from_shared(endpoint.url.clone()).map_err(|error| refused(&error))?;
    if endpoint.tls {
        let tls = tls::client_config(config, system)?;
        transport = transport.tls_config(tls).map_err(|error| {
            let reason = tls::misfit(config, &error);
            StoreError::new(Failure::Refused, format!("{}: TLS options do not fit: {reason}", endpoint.url))
        })?;
    }
    transport
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(false)
        .user_agent(concat!("tenure/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| refused(&error))
}

async fn connect(
    transport: &Transport,
    endpoint: &Endpoint,
) -> Result<tonic::transport::Channel, tonic::transport::Error> {
    if endpoint.url.starts_with("unix:") {
        return transport.connect().await;
    }
    let mut tcp = names::connector();
    tcp.set_keepalive(Some(TCP_KEEPALIVE));
    tcp.set_nodelay(true);
    transport.connect_with_connector(tcp).await
}

impl Connection {
    /// Connects, and has one answer from the server: only that tells that it is alive and takes our certificate.
    /// Whatever fails here, no request was sent.
    pub(super) async fn open(
        config: &EtcdConfig,
        system: &[TrustAnchor<'static>],
        endpoint: &Endpoint,
        generation: u64,
    ) -> Result<Self, Problem> {
        let transport = transport(config, system, endpoint)
            .map_err(|error| Problem::new(Failure::Tls, Advice::Leave, error.message))?;
        let channel = connect(&transport, endpoint).await.map_err(|error| {
            let mut problem = Problem::not_connected(&error);
            // Or a server that ended just now: not certain enough to call it a failure of TLS.
            if endpoint.tls && is_io(&error, ErrorKind::ConnectionReset) {
                problem.reason.push_str(", it may be an http endpoint");
            }
            problem
        })?;
        let options = ConnectOptions::new().with_require_leader(true);
        let client = Client::from_channel(Channel::Tonic(channel), Some(options)).await?;
        let user = config.username.clone().map(|name| (name, config.password.clone().unwrap_or_default()));
        let connection = Connection {
            endpoint: endpoint.url.clone(),
            generation,
            kv: client.kv_client().max_decoding_message_size(MAX_ANSWER_BYTES),
            lease: client.lease_client(),
            watch: client.watch_client().max_decoding_message_size(MAX_EVENTS_BYTES),
            keep_alives: KeepAlives::default(),
            client,
            user,
            tokens: AtomicU64::new(0),
            renewing: Mutex::new(()),
            watch_renewals: AtomicU32::new(0),
            left: watch::Sender::new(None),
        };
        connection.first_answer(config, endpoint.tls).await?;
        Ok(connection)
    }

    async fn first_answer(&self, config: &EtcdConfig, tls: bool) -> Result<(), Problem> {
        let outcome = match self.user {
            Some(_) => self.authenticate().await,
            None => self.client.maintenance_client().status().await.map(drop),
        };
        let Err(error) = outcome else { return Ok(()) };
        let answered = is_answer(&error);
        let problem = Problem::from(error).before_request();
        match problem.advice {
            // Whoever refuses this is alive; a request that needs a user will be told so itself.
            Advice::Stay | Advice::RenewToken if answered && self.user.is_none() => Ok(()),
            Advice::Leave if !answered => Err(Self::closed_at_once(problem, config, tls)),
            _ => Err(problem),
        }
    }

    /// A refused client certificate shows only now in TLS 1.3, and by nothing but the end of the connection.
    fn closed_at_once(problem: Problem, config: &EtcdConfig, tls: bool) -> Problem {
        let (failure, hint) = match (tls, &config.cert_file) {
            (true, Some(_)) => (Failure::Tls, "it may not accept the client certificate (cert_file, key_file)"),
            (true, None) => (Failure::Tls, "it may want a client certificate (cert_file, key_file)"),
            (false, _) => (problem.failure, "it may be an https endpoint"),
        };
        let reason = format!("closed by the server at once, {hint}: {}", problem.reason);
        Problem { failure, reason, ..problem }
    }

    async fn authenticate(&self) -> Result<(), etcd_client::Error> {
        let mut client = self.client.clone();
        match client.update_user(self.user.clone()).await {
            // As Go's client: a user is not needed (yet), which is no reason to fail.
            Err(etcd_client::Error::GRpcStatus(status))
                if status.message().contains("authentication is not enabled") =>
            {
                client.update_user(None).await
            }
            outcome => outcome,
        }
    }

    pub(super) fn has_user(&self) -> bool {
        self.user.is_some()
    }

    /// Counts the tokens; a request notes it to say later which token was refused.
    pub(super) fn token(&self) -> u64 {
        self.tokens.load(Ordering::Acquire)
    }

    /// Gets a fresh token, unless `refused` is not the current one any more.
    pub(super) async fn renew_token(&self, refused: u64) -> Result<(), Problem> {
        let _turn = self.renewing.lock().await;
        if self.token() != refused {
            return Ok(());
        }
        self.authenticate().await.map_err(|error| Problem::from(error).before_request())?;
        self.tokens.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// As `renew_token`, for a watch that could not be created. False: so many fresh tokens were refused in a row that
    /// it is worth an error. Even then the token is renewed: the next watch, some time later, may find it accepted.
    pub(super) async fn renew_watch_token(&self, refused: u64) -> Result<bool, Problem> {
        let renewals = self.watch_renewals.fetch_add(1, Ordering::AcqRel);
        self.renew_token(refused).await.map(|()| renewals < MAX_WATCH_RENEWALS)
    }

    pub(super) fn watch_created(&self) {
        self.watch_renewals.store(0, Ordering::Release);
    }

    /// The member's own header, without asking the others.
    pub(super) async fn status(&self) -> Result<Header, Problem> {
        let status = self.client.maintenance_client().status().await?;
        super::convert::header(status.0.header)
    }

    /// Waits for an answer that the member gives only while its raft leader has a majority behind it.
    pub(super) async fn confirm_leader(&self) -> Result<(), Problem> {
        let options = GetOptions::new().with_keys_only().with_limit(1);
        match self.kv.clone().get(vec![0], Some(options)).await.map_err(Problem::from) {
            // Who asks, and whether it may, is looked at afterwards.
            Err(problem) if problem.advice == Advice::RenewToken || problem.failure == Failure::PermissionDenied => {
                Ok(())
            }
            outcome => outcome.map(drop),
        }
    }

    /// Ends the watch streams of this connection.
    pub(super) fn leave(&self, reason: &str) {
        self.left.send_replace(Some(reason.to_owned()));
    }

    /// Waits until the store has left this connection; the answer is the reason.
    pub(super) async fn left(&self) -> String {
        let mut left = self.left.subscribe();
        match left.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }
}
