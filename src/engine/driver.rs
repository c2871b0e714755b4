//! The one task of a service: it owns the election engine's state, carries out what that decides, and brings back
//! what comes of it. It decides nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::{AbortHandle, JoinSet};

use super::commands::{Command, Received};
use super::mailbox::Mailbox;
use super::timer::Timer;
use crate::clock::{Clock, Nanos, SECOND};
use crate::election::{Answer, CallId, Core, Input, Output, Reply, ReplyId, Request};
use crate::error::Error;
use crate::events::{Level, LogRecord};
use crate::ffi::sys;
use crate::store::{Store, StoreError, WatchMessage, WatchRequest};
use crate::sync::replies::Sender;

/// The wall clock going forward by more than this against CLOCK_BOOTTIME is a jump: a clock being set, or a
/// hypervisor that stopped both and corrected one.
const JUMP: Nanos = SECOND;

/// What a task of the store came to.
enum Done {
    Call(CallId, Result<Answer, StoreError>),
    Watch(u64, StoreError),
}

struct Stream {
    id: u64,
    requests: UnboundedSender<WatchRequest>,
    messages: UnboundedReceiver<WatchMessage>,
    task: AbortHandle,
}

/// See the module.
pub(super) struct Driver<'a, S> {
    pub(super) store: Arc<S>,
    pub(super) core: Core,
    pub(super) clock: Clock,
    pub(super) timer: Timer,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) log_level: Level,
    pub(super) commands: &'a mut Received,
    /// The longest time to live, in s, that the store has given.
    pub(super) longest_ttl_s: Arc<AtomicI64>,
    replies: HashMap<ReplyId, Sender<Result<Reply, Error>>>,
    tasks: JoinSet<Done>,
    stream: Option<Stream>,
    /// Nobody can send a command any more.
    hung_up: bool,
    wall_offset: Nanos,
}

impl<'a, S: Store> Driver<'a, S> {
    pub(super) fn new(
        store: S,
        core: Core,
        clock: Clock,
        mailbox: Arc<Mailbox>,
        log_level: Level,
        commands: &'a mut Received,
        timer: Timer,
    ) -> Self {
        Driver {
            store: Arc::new(store),
            core,
            clock,
            timer,
            mailbox,
            log_level,
            commands,
            longest_ttl_s: Arc::default(),
            replies: HashMap::new(),
            tasks: JoinSet::new(),
            stream: None,
            hung_up: false,
            wall_offset: sys::realtime_ns() - sys::boottime_ns(),
        }
    }

    /// Until the service is closed and nothing of it is left at the store.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let mut outputs = Vec::new();
        loop {
            let input = self.next_input().await?;
            if self.clock_jumped() {
                self.core.handle(self.clock.now(), Input::ClockJumped, &mut outputs);
            }
            let closes = matches!(input, Input::Close);
            self.core.handle(self.clock.now(), input, &mut outputs);
            let mut finished = false;
            for output in outputs.drain(..) {
                finished |= matches!(output, Output::Finished);
                self.carry_out(output);
            }
            // After the replies: a caller that is woken first is not held up by the events' thread.
            self.mailbox.announce();
            if closes {
                self.mailbox.end(self.clock.now());
            }
            if finished {
                return Ok(());
            }
        }
    }

    /// Answers before timers before new commands: what is known comes before what is wanted.
    async fn next_input(&mut self) -> Result<Input, Error> {
        loop {
            let messages = async {
                match &mut self.stream {
                    Some(stream) => (stream.id, stream.messages.recv().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => match done {
                    Ok(Done::Call(call, result)) => return Ok(Input::Answer { call, result }),
                    Ok(Done::Watch(stream, error)) => return Ok(Input::WatchEnded { stream, error }),
                    // A dropped watch.
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                (stream, message) = messages => match message {
                    Some(message) => return Ok(Input::Watch { stream, message }),
                    // Its task says why it ended.
                    None => self.stream = None,
                },
                fired = self.timer.wait(self.core.wake_at()) => {
                    fired?;
                    return Ok(Input::Wake);
                }
                command = self.commands.recv(), if !self.hung_up => match command {
                    Some(Command::Input(input)) => return Ok(input),
                    Some(Command::Ask(reply, sender, input)) => {
                        self.replies.insert(reply, sender);
                        return Ok(input);
                    }
                    Some(Command::Forget(id, reply)) => {
                        // One that was answered meanwhile, the engine has forgotten already.
                        if self.replies.remove(&reply).is_some() {
                            return Ok(Input::Forget { id, reply });
                        }
                    }
                    // All handles are gone. The service has said so before; closing twice does nothing.
                    None => {
                        self.hung_up = true;
                        return Ok(Input::Close);
                    }
                },
            }
        }
    }

    fn clock_jumped(&mut self) -> bool {
        if !matches!(self.clock, Clock::Boottime) {
            return false;
        }
        let offset = sys::realtime_ns() - sys::boottime_ns();
        let jumped = offset - self.wall_offset > JUMP;
        self.wall_offset = offset;
        jumped
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Call { id, request, timeout } => self.call(id, request, timeout),
            Output::OpenWatch { stream } => self.open_watch(stream),
            Output::Watch { stream, request } => {
                if let Some(open) = self.stream.as_ref().filter(|open| open.id == stream) {
                    // A stream that has ended says so by its task.
                    let _ = open.requests.send(request);
                }
            }
            Output::CloseWatch { stream } => {
                if let Some(open) = self.stream.take_if(|open| open.id == stream) {
                    open.task.abort();
                }
            }
            Output::Rotate { reason } => self.store.rotate(&reason),
            Output::Lead { id, token, until } => self.mailbox.lead(id, token, until),
            Output::Status(id, status) => self.mailbox.push_status(id, status),
            Output::Observation(id, observation) => self.mailbox.push_observation(id, observation),
            Output::Reply(id, result) => {
                if let Some(sender) = self.replies.remove(&id) {
                    // Who asked may have stopped waiting.
                    let _ = sender.send(result);
                }
            }
            Output::Log(level, message) => {
                if level <= self.log_level {
                    self.mailbox.push_log(LogRecord { time_ns: self.clock.now(), level, message });
                }
            }
            Output::Finished => {}
        }
    }

    fn call(&mut self, id: CallId, request: Request, timeout: Nanos) {
        let (store, longest_ttl_s) = (self.store.clone(), self.longest_ttl_s.clone());
        let timeout = Duration::from_nanos(u64::try_from(timeout).unwrap_or(0));
        self.tasks.spawn(async move {
            let result = match request {
                Request::Grant { lease, ttl_s } => store.grant(lease, ttl_s, timeout).await.map(Answer::Lease),
                Request::KeepAlive(lease) => store.keep_alive(lease, timeout).await.map(Answer::Lease),
                Request::Revoke(lease) => store.revoke(lease, timeout).await.map(Answer::Revoked),
                Request::Txn(txn) => store.txn(txn, timeout).await.map(|(header, result)| Answer::Txn(header, result)),
                Request::Range(range) => {
                    store.range(range, timeout).await.map(|(header, result)| Answer::Range(header, result))
                }
            };
            if let Ok(Answer::Lease(state)) = &result {
                longest_ttl_s.fetch_max(state.ttl_s, Ordering::Relaxed);
            }
            Done::Call(id, result)
        });
    }

    fn open_watch(&mut self, id: u64) {
        let (requests, asked) = mpsc::unbounded_channel();
        let (told, messages) = mpsc::unbounded_channel();
        let store = self.store.clone();
        let task = self.tasks.spawn(async move { Done::Watch(id, store.watch(asked, told).await) });
        self.stream = Some(Stream { id, requests, messages, task });
    }
}

#[cfg(test)]
#[cfg(not(model))]
mod tests {
    use super::*;
    use crate::config::Namespace;
    use crate::election::Settings;
    use crate::engine::commands;
    use crate::store::memory::Memory;

    #[tokio::test]
    async fn only_a_wall_clock_that_goes_forward_against_the_other_has_jumped_and_only_once() {
        let second = Duration::from_secs(1);
        let settings = Settings { namespace: Namespace::Prefix("".into()), ttl: 5 * second, call_timeout: second };
        let core = Core::new(settings, 1, Clock::Boottime.now());
        let mailbox = Arc::new(Mailbox::new(false).unwrap());
        let (_commands, mut received) = commands::channel();
        let timer = Timer::new(Clock::Boottime).unwrap();
        let mut driver = Driver::new(Memory::new(), core, Clock::Boottime, mailbox, Level::Off, &mut received, timer);
        assert!(!driver.clock_jumped());
        for (ahead, jumped) in [(3 * SECOND, true), (SECOND / 2, false), (-3 * SECOND, false)] {
            driver.wall_offset -= ahead;
            assert_eq!((driver.clock_jumped(), driver.clock_jumped()), (jumped, false), "{ahead}");
        }
    }
}
