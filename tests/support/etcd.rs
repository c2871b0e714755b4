//! One etcd server.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{ChildStderr, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::process::{self, Process};
use super::resources::{Folder, Port};
use super::tls::{Identity, Pki};
use super::version::Version;

/// How long a server may take to start; much longer than it does on a busy machine.
pub const START_LIMIT: Duration = Duration::from_secs(60);

/// How a server is to be started.
#[derive(Clone, Default)]
pub struct Builder {
    version: Version,
    arguments: Vec<String>,
    tls: Option<ServerTls>,
    /// Its addresses for clients and for other members, where it isn't 127.0.0.1.
    hosts: Option<[String; 2]>,
    /// What the command begins with: it may run on another machine.
    within: Vec<String>,
    /// Where its data is, if not in a folder of its own.
    data: Option<PathBuf>,
}

#[derive(Clone)]
struct ServerTls {
    authority: PathBuf,
    server: Identity,
    /// For etcdctl, and demanded of every client if the server is to know its clients.
    client: Identity,
    is_mutual: bool,
}

impl Builder {
    pub fn version(mut self, version: Version) -> Builder {
        self.version = version;
        self
    }

    /// Any argument of etcd, `--name=value`.
    pub fn argument(mut self, argument: impl Into<String>) -> Builder {
        self.arguments.push(argument.into());
        self
    }

    /// How long a token lives after its last use (simple tokens; etcd takes whole seconds).
    pub fn token_ttl_s(self, seconds: u32) -> Builder {
        self.argument(format!("--auth-token-ttl={seconds}"))
    }

    /// The space quota, after which the server answers NOSPACE.
    pub fn quota_bytes(self, bytes: u64) -> Builder {
        self.argument(format!("--quota-backend-bytes={bytes}"))
    }

    /// Raft's timing. etcd's default is 100 and 1000. The lease TTL that a server grants at least follows from it:
    /// 1.5 times the election timeout.
    pub fn raft_ms(self, heartbeat: u32, election: u32) -> Builder {
        self.argument(format!("--heartbeat-interval={heartbeat}")).argument(format!("--election-timeout={election}"))
    }

    /// A snapshot after so many changes.
    pub fn snapshot_count(self, changes: u32) -> Builder {
        self.argument(format!("--snapshot-count={changes}"))
    }

    /// Its addresses for clients and for other members.
    pub fn at(mut self, clients: &str, members: &str) -> Builder {
        self.hosts = Some([clients, members].map(str::to_owned));
        self
    }

    /// Runs it by another program, such as `nsenter`.
    pub fn within(mut self, command: Vec<String>) -> Builder {
        self.within = command;
        self
    }

    /// Keeps its data in this folder, which it makes.
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Builder {
        self.data = Some(folder.into());
        self
    }

    /// TLS with a server certificate; clients need none.
    pub fn tls(self, pki: &Pki, server: &Identity) -> Builder {
        self.with_tls(pki, server, false)
    }

    /// TLS where clients need a certificate as well.
    pub fn mutual_tls(self, pki: &Pki, server: &Identity) -> Builder {
        self.with_tls(pki, server, true)
    }

    fn with_tls(mut self, pki: &Pki, server: &Identity, is_mutual: bool) -> Builder {
        let authority = pki.authority.certificate.clone();
        self.tls = Some(ServerTls { authority, server: server.clone(), client: pki.client.clone(), is_mutual });
        self
    }

    /// Starts a server that is a cluster of its own.
    pub fn start(self) -> Server {
        loop {
            let server = Server::prepare(self.clone(), "solo");
            server.spawn(&server.member());
            if server.wait_ready() {
                return server;
            }
        }
    }
}

/// A running etcd; killed, and its data removed, on drop.
pub struct Server {
    builder: Builder,
    name: String,
    client: Port,
    peer: Port,
    folder: Folder,
    cluster: Mutex<String>,
    running: Mutex<Option<Running>>,
    /// User and password that `etcdctl` uses, once the server asks for them.
    pub(super) user: Mutex<Option<String>>,
}

struct Running {
    process: Process,
    signs: Receiver<Sign>,
}

/// What a server's log tells about its start.
enum Sign {
    Ready,
    PortTaken,
}

impl Drop for Server {
    /// What a test that fails has to tell of its servers.
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(400)..].join("\n");
            println!("the end of the log of etcd {}, {}:\n{end}", self.name, self.endpoint());
        }
    }
}

impl Server {
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub fn start(version: Version) -> Server {
        Server::builder().version(version).start()
    }

    pub(super) fn prepare(builder: Builder, name: &str) -> Server {
        Server {
            builder,
            name: name.into(),
            client: Port::take(),
            peer: Port::take(),
            folder: Folder::new(),
            cluster: Mutex::default(),
            running: Mutex::default(),
            user: Mutex::default(),
        }
    }

    /// `name=peer-url`, as `--initial-cluster` wants it.
    pub(super) fn member(&self) -> String {
        format!("{}=http://{}", self.name, self.peer_address())
    }

    pub(super) fn spawn(&self, cluster: &str) {
        *self.cluster.lock().unwrap() = cluster.into();
        let peer = format!("http://{}", self.peer_address());
        let within: Vec<&str> = self.builder.within.iter().map(String::as_str).collect();
        let mut command = process::command_within(&within, self.builder.version.etcd());
        command
            .arg(format!("--name={}", self.name))
            .arg(format!("--data-dir={}", self.data().display()))
            .args(["--logger=zap", "--log-outputs=stderr"])
            .arg(format!("--listen-client-urls={}", self.endpoint()))
            .arg(format!("--advertise-client-urls={}", self.endpoint()))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster={cluster}"))
            .args(&self.builder.arguments)
            // etcd takes any variable ETCD_… for an option; this one is ours.
            .env_remove("ETCD_VERSION")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(tls) = &self.builder.tls {
            command.arg("--cert-file").arg(&tls.server.certificate).arg("--key-file").arg(&tls.server.key);
            if tls.is_mutual {
                command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&tls.authority);
            }
        }
        let mut process = Process::spawn(command);
        let signs = follow_log(process.child.stderr.take().unwrap(), self.log_path());
        *self.running.lock().unwrap() = Some(Running { process, signs });
    }

    /// Waits until the server answers. False: another program has taken one of its ports meanwhile.
    pub(super) fn wait_ready(&self) -> bool {
        let running = self.running.lock().unwrap();
        match running.as_ref().unwrap().signs.recv_timeout(START_LIMIT) {
            Ok(Sign::Ready) => true,
            Ok(Sign::PortTaken) => false,
            Err(error) => panic!("etcd {} did not start: {error}", self.name),
        }
    }

    pub fn version(&self) -> Version {
        self.builder.version
    }

    /// `127.0.0.1:port` for clients.
    pub fn address(&self) -> String {
        let host = self.builder.hosts.as_ref().map_or("127.0.0.1", |[clients, _]| clients);
        format!("{host}:{}", self.client.number)
    }

    fn peer_address(&self) -> String {
        let host = self.builder.hosts.as_ref().map_or("127.0.0.1", |[_, members]| members);
        format!("{host}:{}", self.peer.number)
    }

    /// The URL for clients, `http://…`, or `https://…` with TLS.
    pub fn endpoint(&self) -> String {
        let scheme = if self.builder.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    pub fn pid(&self) -> i32 {
        self.with_process(|process| process.pid().as_raw_nonzero().get())
    }

    /// Stops the server (SIGSTOP): connections stay, answers don't come.
    pub fn stop(&self) {
        self.with_process(|process| process.stop());
    }

    /// Lets a stopped server go on.
    pub fn cont(&self) {
        self.with_process(|process| process.cont());
    }

    /// Kills the server; data and ports are kept for [`Server::restart`].
    pub fn kill(&self) {
        self.running.lock().unwrap().take();
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        let mut running = self.running.lock().unwrap();
        running.as_mut().expect("nobody has killed it").process.child.try_wait().unwrap().is_some()
    }

    pub fn is_running(&self) -> bool {
        self.running.lock().unwrap().is_some()
    }

    /// Starts the server on its data and ports again, after killing it if it runs, and waits until it answers.
    pub fn restart(&self) {
        self.respawn();
        assert!(self.wait_ready(), "the port of {} is taken", self.name);
    }

    /// As [`Server::restart`], with all data lost: the same cluster by its id, as after restoring an older backup.
    pub fn restart_empty(&self) {
        self.kill();
        fs::remove_dir_all(self.data()).unwrap();
        self.restart();
    }

    /// As [`Server::restart`], but doesn't wait: a member that has no quorum yet would not get ready.
    pub fn respawn(&self) {
        self.kill();
        let cluster = self.cluster.lock().unwrap().clone();
        self.spawn(&cluster);
    }

    fn with_process<T>(&self, act: impl FnOnce(&Process) -> T) -> T {
        act(&self.running.lock().unwrap().as_ref().expect("the server runs").process)
    }

    /// Everything that the server has logged since its first start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.builder.data.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Runs `etcdctl` against this server as its administrator and gives what it printed; it has to succeed.
    pub fn etcdctl(&self, arguments: &[&str]) -> String {
        // Its own limits are 2 and 5 s, which is too little on a busy machine.
        let output = self.try_etcdctl(&[arguments, &["--dial-timeout=30s", "--command-timeout=30s"]].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// As [`Server::etcdctl`], but may fail.
    pub fn try_etcdctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.builder.version.etcdctl());
        self.prepare_etcdctl(&mut command);
        command.args(arguments).output().unwrap()
    }

    /// Endpoint, certificates and user, as variables, so that arguments may name other ones.
    pub(super) fn prepare_etcdctl(&self, command: &mut Command) {
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", self.endpoint());
        if let Some(tls) = &self.builder.tls {
            command
                .env("ETCDCTL_CACERT", &tls.authority)
                .env("ETCDCTL_CERT", &tls.client.certificate)
                .env("ETCDCTL_KEY", &tls.client.key);
        }
        if let Some(user) = &*self.user.lock().unwrap() {
            command.env("ETCDCTL_USER", user);
        }
    }
}

/// Copies the log to a file and reports what it says about the start, as it happens.
fn follow_log(log: ChildStderr, path: PathBuf) -> Receiver<Sign> {
    let (signs, receiver) = mpsc::channel();
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    thread::spawn(move || {
        for line in BufReader::new(log).lines() {
            let Ok(line) = line else { return };
            // The folder may be gone already, and a test that has ended doesn't wait for signs.
            let _ = writeln!(file, "{line}");
            if line.contains("\"serving client traffic") {
                let _ = signs.send(Sign::Ready);
            } else if line.contains("address already in use") {
                let _ = signs.send(Sign::PortTaken);
            }
        }
    });
    receiver
}
