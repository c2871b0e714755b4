//! Bare requests by etcd-client, in the form of benches/tenure.c: the same commands as `peer bare` in benches/go.
#![allow(clippy::disallowed_methods, reason = "a benchmark is there to look at the clock")]

use std::io::BufRead;
use std::time::{Duration, Instant};

use etcd_client::{Client, Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp, WatchOptions};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Transactions nested in one, and how many of those are under way at once: as many as Tenure's.
const NESTED: usize = 100;
const IN_FLIGHT: usize = 4;
const PAUSE: Duration = Duration::from_millis(10);

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let endpoints = std::env::args().nth(1).ok_or("usage: bare ENDPOINTS")?;
    let mut bare = Bare::connect(&endpoints).await?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (command, argument) = line.split_once(' ').unwrap_or((&line, "0"));
        match bare.run(command, argument.parse()?).await {
            Ok(times) => {
                let numbers: String = times.iter().map(|time| format!(" {}", time.as_nanos())).collect();
                println!("ok{numbers}");
            }
            Err(error) => println!("error {error}"),
        }
    }
    Ok(())
}

struct Bare {
    client: Client,
    watcher: Client,
    lease: i64,
    keys: usize,
}

impl Bare {
    async fn connect(endpoints: &str) -> Result<Self, Failure> {
        let endpoints: Vec<&str> = endpoints.split(',').collect();
        let mut client = Client::connect(&endpoints, None).await?;
        let watcher = Client::connect(&endpoints, None).await?;
        let lease = client.lease_grant(600, None).await?.id();
        Ok(Bare { client, watcher, lease, keys: 0 })
    }

    async fn run(&mut self, command: &str, number: u64) -> Result<Vec<Duration>, Failure> {
        match command {
            "txn" => self.txn().await,
            "handover" => Ok(vec![self.watched(Duration::from_millis(number)).await?]),
            "join" => {
                self.keys = usize::try_from(number)?;
                let lease = self.lease;
                Ok(vec![self.grouped(move |key| put(&key, lease)).await?])
            }
            "resign" => Ok(vec![self.grouped(|key| Txn::new().and_then([TxnOp::delete(key, None)])).await?]),
            _ => Err("no such command".into()),
        }
    }

    async fn txn(&mut self) -> Result<Vec<Duration>, Failure> {
        sleep(PAUSE).await;
        let start = Instant::now();
        self.client.txn(put("_bare/key", self.lease)).await?;
        let made = start.elapsed();
        sleep(PAUSE).await;
        let start = Instant::now();
        self.client.delete("_bare/key", None).await?;
        Ok(vec![made, start.elapsed()])
    }

    async fn watched(&mut self, wait: Duration) -> Result<Duration, Failure> {
        let made = self.client.put("_bare/watched", "value", Some(PutOptions::new().with_lease(self.lease))).await?;
        let revision = made.header().ok_or("an answer without a header")?.revision();
        // From the next revision on: a watch from the present one waits up to 100 ms for its first event.
        let options = WatchOptions::new().with_start_revision(revision + 1);
        let mut stream = self.watcher.watch("_bare/watched", Some(options)).await?;
        stream.message().await?;
        sleep(wait).await;
        let start = Instant::now();
        let event = async {
            stream.message().await?;
            Ok::<_, Failure>(start.elapsed())
        };
        let (deleted, seen) = tokio::join!(self.client.delete("_bare/watched", None), event);
        deleted?;
        seen
    }

    /// One small transaction for each key, many of them in one.
    async fn grouped(&mut self, of: impl Fn(String) -> Txn) -> Result<Duration, Failure> {
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for first in (0..self.keys).step_by(NESTED) {
            let keys = (first..self.keys.min(first + NESTED)).map(|key| format!("_bare/shard-{key:05}/key"));
            let txn = Txn::new().and_then(keys.map(|key| TxnOp::txn(of(key))).collect::<Vec<_>>());
            if tasks.len() == IN_FLIGHT {
                tasks.join_next().await.ok_or("no task")???;
            }
            let mut client = self.client.clone();
            tasks.spawn(async move { client.txn(txn).await.map(drop).map_err(Failure::from) });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(start.elapsed())
    }
}

/// What a candidate needs: its key made, and who is first.
fn put(key: &str, lease: i64) -> Txn {
    // Each in an election of its own: etcd counts what else is below the prefix, whatever the limit.
    let election = &key[..key.rfind('/').map_or(0, |slash| slash + 1)];
    let first = TxnOp::get(election, Some(GetOptions::new().with_prefix().with_limit(1).with_keys_only()));
    let put = TxnOp::put(key, "value", Some(PutOptions::new().with_lease(lease)));
    Txn::new().when([Compare::create_revision(key, CompareOp::Equal, 0)]).and_then([put, first])
}
