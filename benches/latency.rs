//! Latencies next to the bare requests they can't beat, interleaved on one etcd: `ENDPOINT=http://… cargo bench`.
//!
//! Every round does each thing once, so that a noisy second hurts all alike; what counts is the ratio of the medians.

#![allow(clippy::disallowed_methods, reason = "a benchmark is there to look at the clock")]

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use etcd_client::{Client, Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp, WatchOptions};
use tenure::{Campaign, CampaignOptions, Event, Handler, Service, ServiceOptions, State};
use tokio::runtime::{Builder, Runtime};

const ROUNDS: usize = 300;
const WARM_UP: usize = 30;
const WAIT: Duration = Duration::from_secs(10);

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let endpoint = std::env::var("ENDPOINT").unwrap_or_else(|_| "http://127.0.0.1:2379".into());
    let mut bare = Bare::connect(&endpoint)?;
    let (a, b) = (open(&endpoint)?, open(&endpoint)?);
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
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    println!("threads {threads} (bench included)");
    a.close(WAIT)?;
    b.close(WAIT)?;
    Ok(())
}

fn open(endpoint: &str) -> Result<Service, Failure> {
    let mut options = ServiceOptions::new();
    options.set("endpoints", endpoint)?.set("service", "bench")?.set("ttl", "60s")?;
    Ok(Service::open(&options)?)
}

/// A campaign whose LEADER events come through the channel.
fn stand(service: &Service) -> Result<(Campaign, Receiver<Instant>), Failure> {
    let (sender, receiver) = channel();
    let handler: Handler = Box::new(move |event| {
        if let Event::Status(_, status) = event
            && status.state == State::Leader
        {
            let _ = sender.send(Instant::now());
        }
    });
    Ok((service.campaign("bench", &CampaignOptions::new(), Some(handler))?, receiver))
}

fn campaign_and_resign(service: &Service) -> Result<(Duration, Duration, Duration), Failure> {
    let start = Instant::now();
    let (campaign, elected) = stand(service)?;
    let won = elected.recv_timeout(WAIT)? - start;
    let start = Instant::now();
    for _ in 0..1000 {
        std::hint::black_box(campaign.is_leader());
    }
    let polls = start.elapsed();
    let start = Instant::now();
    campaign.resign(WAIT)?;
    Ok((won, polls, start.elapsed()))
}

fn hand_over(a: &Service, b: &Service) -> Result<Duration, Failure> {
    let (leader, elected) = stand(a)?;
    elected.recv_timeout(WAIT)?;
    let (follower, elected) = stand(b)?;
    std::thread::park_timeout(Duration::from_millis(10));
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
            let start = Instant::now();
            client.txn(Txn::new().when([absent]).and_then([put, first])).await?;
            let txn = start.elapsed();
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
