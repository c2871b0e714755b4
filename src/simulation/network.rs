//! What is between a process and the in-process store: a [`Store`] that loses, delays and refuses.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::dice::Dice;
use super::{now, sleep, sleep_until};
use crate::seeds::Counts;
use crate::store::memory::Memory;
use crate::store::{
    Failure, Header, LeaseId, LeaseState, Range, RangeResult, Store, StoreError, Txn, TxnResult, WatchMessage,
    WatchRequest,
};

/// How the network of one process is.
#[derive(Clone, Copy, Default)]
pub(super) struct Weather {
    /// One way, and at most so much more at random.
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
    /// The watch takes so much longer.
    pub(super) watch_lag: Duration,
    /// So many requests of a hundred meet these fates.
    pub(super) lost: u64,
    pub(super) unanswered: u64,
    pub(super) refused: u64,
    pub(super) late: u64,
    /// No request arrives.
    pub(super) mute: bool,
    /// No answer arrives.
    pub(super) deaf: bool,
    /// Every request fails.
    pub(super) away: bool,
}

/// The network of one process.
pub(super) struct Network {
    state: Mutex<State>,
    /// Grows when all streams break.
    broken: watch::Sender<u64>,
    /// Grows when all streams become mute.
    muted: AtomicU64,
    /// A grant was served whose caller had given up: its lease may be left for its time to live.
    pub(super) late_grant: AtomicBool,
}

struct State {
    weather: Weather,
    dice: Dice,
    counts: Counts,
}

/// What becomes of one request.
struct Fate {
    to: Duration,
    back: Duration,
    lost: bool,
    unanswered: bool,
    refused: Option<Failure>,
}

impl Network {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let weather = Weather { latency: Duration::from_millis(1), ..Weather::default() };
        Arc::new(Network {
            state: Mutex::new(State { weather, dice: Dice::new(seed), counts: Counts::new() }),
            broken: watch::Sender::new(0),
            muted: AtomicU64::new(0),
            late_grant: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn weather(&self) -> Weather {
        self.lock().weather
    }

    pub(super) fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
        if weather.mute || weather.deaf {
            self.mute_streams();
        }
        if weather.away {
            self.break_streams();
        }
    }

    pub(super) fn break_streams(&self) {
        self.broken.send_modify(|broken| *broken += 1);
    }

    pub(super) fn mute_streams(&self) {
        self.muted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.lock().counts)
    }

    fn fate(&self) -> Fate {
        let mut state = self.lock();
        let State { weather, dice, counts } = &mut *state;
        let mut delay = || weather.latency + dice.up_to(weather.jitter);
        let (to, back) = (delay(), delay());
        let mut meets = |percent, what| {
            let meets = dice.chance(percent);
            if meets {
                *counts.entry(what).or_default() += 1;
            }
            meets
        };
        let lost = meets(weather.lost, "request lost");
        let unanswered = meets(weather.unanswered, "request served, answer lost");
        let late = meets(weather.late, "request late");
        let refused = meets(weather.refused, "request refused");
        let to = if late { to + dice.up_to(Duration::from_secs(8)) } else { to };
        let failures = [Failure::NotSent, Failure::NoLeader, Failure::Unknown, Failure::Unauthenticated];
        let refused = match weather.away {
            true => Some(Failure::NotSent),
            false => refused.then(|| failures[dice.below(4) as usize]),
        };
        Fate { to, back, lost, unanswered, refused }
    }
}

/// The store as one process reaches it.
pub(super) struct Distant {
    pub(super) store: Memory,
    pub(super) network: Arc<Network>,
}

impl Distant {
    /// What is under way goes on when its caller has given up.
    async fn call<T: Send + 'static>(&self, timeout: Duration, act: impl AsyncServe<T>) -> Result<T, StoreError> {
        let (network, store, fate) = (self.network.clone(), self.store.clone(), self.network.fate());
        let (answer, answered) = oneshot::channel();
        #[allow(clippy::disallowed_methods, reason = "the network, which no process can stop")]
        tokio::spawn(async move {
            sleep(fate.to).await;
            if fate.lost || network.weather().mute {
                return sleep(FOREVER).await;
            }
            let result = match fate.refused {
                Some(failure) => Err(StoreError::new(failure, format!("{failure:?} by order"))),
                None => act.serve(store).await,
            };
            if act.is_grant() && result.is_ok() && answer.is_closed() {
                network.late_grant.store(true, Ordering::Relaxed);
            }
            sleep(fate.back).await;
            if fate.unanswered || network.weather().deaf {
                return sleep(FOREVER).await;
            }
            // Who asked may have given up.
            let _ = answer.send(result);
        });
        match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(result)) => result,
            _ => Err(StoreError::new(Failure::Unknown, "no answer in time")),
        }
    }
}

/// Longer than anybody waits.
const FOREVER: Duration = Duration::from_secs(20);

/// A request, to be served when it has arrived.
trait AsyncServe<T>: Send + 'static {
    fn serve(&self, store: Memory) -> impl Future<Output = Result<T, StoreError>> + Send;
    fn is_grant(&self) -> bool {
        false
    }
}

struct Grant(LeaseId, i64);
struct KeepAlive(LeaseId);
struct Revoke(LeaseId);

impl AsyncServe<LeaseState> for Grant {
    async fn serve(&self, store: Memory) -> Result<LeaseState, StoreError> {
        store.grant(self.0, self.1, FOREVER).await
    }
    fn is_grant(&self) -> bool {
        true
    }
}

impl AsyncServe<LeaseState> for KeepAlive {
    async fn serve(&self, store: Memory) -> Result<LeaseState, StoreError> {
        store.keep_alive(self.0, FOREVER).await
    }
}

impl AsyncServe<Header> for Revoke {
    async fn serve(&self, store: Memory) -> Result<Header, StoreError> {
        store.revoke(self.0, FOREVER).await
    }
}

impl AsyncServe<(Header, TxnResult)> for Txn {
    async fn serve(&self, store: Memory) -> Result<(Header, TxnResult), StoreError> {
        store.txn(self.clone(), FOREVER).await
    }
}

impl AsyncServe<(Header, RangeResult)> for Range {
    async fn serve(&self, store: Memory) -> Result<(Header, RangeResult), StoreError> {
        store.range(self.clone(), FOREVER).await
    }
}

impl Store for Distant {
    async fn grant(&self, id: LeaseId, ttl_s: i64, timeout: Duration) -> Result<LeaseState, StoreError> {
        self.call(timeout, Grant(id, ttl_s)).await
    }

    async fn keep_alive(&self, id: LeaseId, timeout: Duration) -> Result<LeaseState, StoreError> {
        self.call(timeout, KeepAlive(id)).await
    }

    async fn revoke(&self, id: LeaseId, timeout: Duration) -> Result<Header, StoreError> {
        self.call(timeout, Revoke(id)).await
    }

    async fn txn(&self, txn: Txn, timeout: Duration) -> Result<(Header, TxnResult), StoreError> {
        self.call(timeout, txn).await
    }

    async fn range(&self, range: Range, timeout: Duration) -> Result<(Header, RangeResult), StoreError> {
        self.call(timeout, range).await
    }

    /// Messages are as late as the network is; what a stream that is mute would carry is lost.
    async fn watch(
        &self,
        mut requests: mpsc::UnboundedReceiver<WatchRequest>,
        messages: mpsc::UnboundedSender<WatchMessage>,
    ) -> StoreError {
        let mut broken = self.network.broken.subscribe();
        let born = self.network.muted.load(Ordering::Relaxed);
        let mut was_mute = false;
        // Once and for ever: a stream has no gaps.
        let mut is_mute = || {
            let weather = self.network.weather();
            was_mute |= weather.mute || weather.deaf || self.network.muted.load(Ordering::Relaxed) > born;
            was_mute
        };
        if self.network.weather().away {
            sleep(Duration::from_millis(1)).await;
            return StoreError::new(Failure::NotSent, "no stream by order");
        }
        let (ask, asked) = mpsc::unbounded_channel();
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut stream = std::pin::pin!(self.store.watch(asked, tell));
        let mut late: VecDeque<(Instant, WatchMessage)> = VecDeque::new();
        loop {
            let next = late.front().map(|(at, _)| *at);
            tokio::select! {
                biased;
                end = &mut stream => return end,
                _ = broken.changed() => return StoreError::new(Failure::Unknown, "the stream broke"),
                request = requests.recv() => match request {
                    // A stream that has ended says so itself.
                    Some(request) => if !is_mute() { let _ = ask.send(request); },
                    None => return StoreError::new(Failure::Canceled, "not wanted any more"),
                },
                Some(message) = told.recv() => {
                    let lag = self.network.weather().latency + self.network.weather().watch_lag;
                    let at = (now() + lag).max(late.back().map_or(now(), |(at, _)| *at));
                    late.push_back((at, message));
                }
                () = sleep_until(next.unwrap_or_else(now)), if next.is_some() => {
                    let message = late.pop_front().map(|(_, message)| message);
                    // Without a listener the stream is dropped.
                    message.filter(|_| !is_mute()).into_iter().for_each(|message| drop(messages.send(message)));
                }
            }
        }
    }

    fn rotate(&self, reason: &str) {
        self.store.rotate(reason);
    }
}
