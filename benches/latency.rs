//! Latencies next to the bare requests they can't beat, interleaved on one etcd, then take-overs and what a connected
//! process costs: `make bench`.
//!
//! Every round does each thing once, so that a noisy second hurts all alike; what counts is the ratio of the medians.
#![allow(clippy::disallowed_methods, reason = "a benchmark is there to look at the clock")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use etcd_client::{Client, Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp, WatchOptions};
use tenure::{Campaign, CampaignOptions, Event, Handler, Service, ServiceOptions, State};
use tokio::runtime::{Builder, Runtime};

const ROUNDS: usize = 300;
const WARM_UP: usize = 30;
const TAKE_OVERS: usize = 5;
const WAIT: Duration = Duration::from_secs(10);

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let endpoint = std::env::var("ETCD_ENDPOINTS").unwrap_or_else(|_| "http://127.0.0.1:2379".into());
    // Cargo passes arguments of its own.
    if let Some(ttl) = std::env::args().find_map(|argument| argument.strip_prefix("--lead=").map(str::to_owned)) {
        return lead(&endpoint, &ttl);
    }
    latencies(&endpoint)?;
    for ttl in ["2s", "5s"] {
        take_overs(&endpoint, ttl)?;
    }
    Ok(())
}

fn latencies(endpoint: &str) -> Result<(), Failure> {
    let mut bare = Bare::connect(endpoint)?;
    let (a, b) = (open(endpoint, "60s")?, open(endpoint, "60s")?);
    let mut times: [(&str, Vec<Duration>); 7] = [
        ("bare transaction", vec![]),
        ("uncontended campaign", vec![]),
        ("bare delete", vec![]),
        ("resign", vec![]),
        ("bare delete to watch event", vec![]),
        ("hand-over, follower waiting 10 ms", vec![]),
        ("is_leader, 1000 calls", vec![]),
    ];
    for round in 0..ROUNDS + WARM_UP {
        let (txn, delete) = bare.txn_and_delete()?;
        let (campaign, polls, resign) = campaign_and_resign(&a)?;
        let watch = bare.delete_to_event()?;
        let hand_over = hand_over(&a, &b)?;
        if round >= WARM_UP {
            for (row, time) in times.iter_mut().zip([txn, campaign, delete, resign, watch, hand_over, polls]) {
                row.1.push(time);
            }
        }
    }
    for (name, times) in &mut times {
        times.sort_unstable();
        let p = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1000.0;
        println!("{name:36} p50 {:7.3} ms  p99 {:7.3} ms  n {}", p(50), p(99), times.len());
    }
    let median = |row: usize| times[row].1[times[row].1.len() / 2].as_secs_f64();
    println!("campaign / bare transaction  {:.2}", median(1) / median(0));
    println!("resign / bare delete         {:.2}", median(3) / median(2));
    println!("hand-over / bare watch event {:.2}", median(5) / median(4));
    a.close(WAIT)?;
    b.close(WAIT)?;
    Ok(())
}

/// Each measurement begins when what went before, such as a watch that is being opened, is done.
fn settle() {
    std::thread::park_timeout(Duration::from_millis(10));
}

/// A process that leads until it is killed, and says what it costs.
fn lead(endpoint: &str, ttl: &str) -> Result<(), Failure> {
    let service = open(endpoint, ttl)?;
    let campaign = service.campaign("killed", &CampaignOptions::new(), None)?;
    campaign.wait_leader(WAIT)?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim().to_owned();
    println!("threads {} (the main one included), resident {}", field("Threads:"), field("VmRSS:"));
    loop {
        std::thread::park();
    }
}

/// From kill -9 of the leader's process to LEADER here.
fn take_overs(endpoint: &str, ttl: &str) -> Result<(), Failure> {
    let mut times = Vec::new();
    let mut cost = String::new();
    for _ in 0..TAKE_OVERS {
        let mut leader = Leader::start(ttl)?;
        cost = leader.cost()?;
        let service = open(endpoint, "60s")?;
        let (campaign, elected) = stand(&service, "killed")?;
        // Somewhere between two renewals.
        std::thread::park_timeout(Duration::from_millis(300));
        let start = Instant::now();
        leader.0.kill()?;
        times.push((elected.recv_timeout(2 * WAIT)? - start).as_secs_f64());
        campaign.resign(WAIT)?;
        service.close(WAIT)?;
    }
    times.sort_unstable_by(f64::total_cmp);
    let (first, last) = (times[0], times[TAKE_OVERS - 1]);
    println!("take-over after kill, ttl {ttl}: {first:.2} to {last:.2} s, median {:.2} s", times[TAKE_OVERS / 2]);
    println!("  its process: {cost}");
    Ok(())
}

/// A child of this program that runs [`lead`].
struct Leader(Child);

impl Leader {
    fn start(ttl: &str) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        Ok(Leader(command.arg(format!("--lead={ttl}")).stdout(Stdio::piped()).spawn()?))
    }

    /// What it says once it leads.
    fn cost(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().ok_or("its output was read")?).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        // Killed already, if all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn open(endpoint: &str, ttl: &str) -> Result<Service, Failure> {
    let mut options = ServiceOptions::new();
    options.set("endpoints", endpoint)?.set("service", "bench")?.set("ttl", ttl)?;
    Ok(Service::open(&options)?)
}

/// A campaign whose LEADER events come through the channel.
fn stand(service: &Service, election: &str) -> Result<(Campaign, Receiver<Instant>), Failure> {
    let (sender, receiver) = channel();
    let handler: Handler = Box::new(move |event| {
        if let Event::Status(_, status) = event
            && status.state == State::Leader
        {
            let _ = sender.send(Instant::now());
        }
    });
    Ok((service.campaign(election, &CampaignOptions::new(), Some(handler))?, receiver))
}

fn campaign_and_resign(service: &Service) -> Result<(Duration, Duration, Duration), Failure> {
    settle();
    let start = Instant::now();
    let (campaign, elected) = stand(service, "bench")?;
    let won = elected.recv_timeout(WAIT)? - start;
    let start = Instant::now();
    for _ in 0..1000 {
        std::hint::black_box(campaign.is_leader());
    }
    let polls = start.elapsed();
    settle();
    let start = Instant::now();
    campaign.resign(WAIT)?;
    Ok((won, polls, start.elapsed()))
}

fn hand_over(a: &Service, b: &Service) -> Result<Duration, Failure> {
    let (leader, elected) = stand(a, "bench")?;
    elected.recv_timeout(WAIT)?;
    let (follower, elected) = stand(b, "bench")?;
    settle();
    let start = Instant::now();
    leader.resign(WAIT)?;
    let taken = elected.recv_timeout(WAIT)? - start;
    follower.resign(WAIT)?;
    Ok(taken)
}

/// etcd-client and nothing else, on this thread.
struct Bare {
    runtime: Runtime,
    client: Client,
    lease: i64,
}

impl Bare {
    fn connect(endpoint: &str) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut client = runtime.block_on(Client::connect([endpoint], None))?;
        let lease = runtime.block_on(client.lease_grant(600, None))?.id();
        Ok(Bare { runtime, client, lease })
    }

    fn txn_and_delete(&mut self) -> Result<(Duration, Duration), Failure> {
        let Bare { runtime, client, lease } = self;
        runtime.block_on(async {
            let first = TxnOp::get("bare/", Some(GetOptions::new().with_prefix().with_limit(1).with_keys_only()));
            let put = TxnOp::put("bare/key", "value", Some(PutOptions::new().with_lease(*lease)));
            let absent = Compare::create_revision("bare/key", CompareOp::Equal, 0);
            settle();
            let start = Instant::now();
            client.txn(Txn::new().when([absent]).and_then([put, first])).await?;
            let txn = start.elapsed();
            settle();
            let start = Instant::now();
            client.delete("bare/key", None).await?;
            Ok((txn, start.elapsed()))
        })
    }

    fn delete_to_event(&mut self) -> Result<Duration, Failure> {
        let Bare { runtime, client, .. } = self;
        runtime.block_on(async {
            client.put("bare/key", "value", None).await?;
            let mut stream = client.watch("bare/", Some(WatchOptions::new().with_prefix())).await?;
            stream.message().await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
            let start = Instant::now();
            let mut deleter = client.clone();
            let delete = async {
                deleter.delete("bare/key", None).await?;
                Ok::<_, Failure>(())
            };
            let event = async {
                stream.message().await?;
                Ok::<_, Failure>(start.elapsed())
            };
            let (deleted, seen) = tokio::join!(delete, event);
            deleted?;
            seen
        })
    }
}
