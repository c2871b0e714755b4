//! The Rust API: [`Service`], [`Campaign`], [`Observer`]. The C ABI is made of it.
//!
//! Calls may come from any thread, also from inside a handler. Those that wait block their thread; in async code run
//! them where blocking is allowed.

use std::ops::Deref;
use std::os::fd::RawFd;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::ThreadId;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{self, CampaignOptions, ServiceOptions};
use crate::election::{Candidacy, Input, ReadKind, Reply, Settings};
use crate::engine::commands::{self, Command, Commands, Waiting, closed};
use crate::engine::{Engine, Flag, Mailbox, Term, Timer, seed};
use crate::error::{Code, Error};
use crate::events::{Candidate, Event, State, SubscriptionId};
use crate::ffi::sys;
use crate::process;
use crate::store::etcd::{Etcd, EtcdConfig};
use crate::store::memory::Memory;
use crate::store::{Failure, Revision, Store, StoreError};

/// The name of the election that an empty name stands for.
const DEFAULT_ELECTION: &str = "default";

/// A read's answer that is due comes at once; this is for the way from thread to thread.
const REPLY_GRACE: Duration = Duration::from_millis(250);

/// Takes a campaign's or an observer's events, one at a time and in order, on the service's callback thread. It is
/// dropped exactly once, after its last event. With [`Delivery::Pull`](config::Delivery::Pull) it is never called,
/// only dropped after its last event was pulled, or with the service.
pub type Handler = Box<dyn FnMut(&Event) + Send>;

/// A connection to one etcd cluster with a namespace and a session. Dropping it closes it in the background.
pub struct Service {
    shared: Share,
}

/// What a service, its campaigns and its observers have in common.
struct Shared {
    options: ServiceOptions,
    clock: Clock,
    depth: u32,
    commands: Commands,
    mailbox: Arc<Mailbox>,
    closing: AtomicBool,
    /// Nothing is left at the store.
    finished: Arc<Flag>,
    /// No handler will be called any more.
    delivered: Arc<Flag>,
    callback_thread: OnceLock<ThreadId>,
    /// To end every term at once when the service closes.
    terms: Mutex<Vec<Weak<Term>>>,
}

/// An owner's share. A forked child never gives it back: the last one's end would take locks that a thread of the parent may
/// have held, and wake the parent's.
#[derive(Clone)]
struct Share(Arc<Shared>);

impl Deref for Share {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.check_process().is_err() {
            std::mem::forget(self.0.clone());
        }
    }
}

impl Service {
    /// Opens a service: checks the options, connects, and waits for etcd for at most the option `dial_timeout`.
    ///
    /// # Errors
    /// [`Code::InvalidValue`], [`Code::Unavailable`] (not with `open_offline`), [`Code::Tls`],
    /// [`Code::AuthenticationFailed`], [`Code::System`].
    pub fn open(options: &ServiceOptions) -> Result<Service, Error> {
        options.check()?;
        let runtime = process::level().runtime.handle()?;
        match options.memory_name() {
            Some(name) => Service::on(Memory::named(name), options, runtime),
            None => Service::on(connect(runtime, options)?, options, runtime),
        }
    }

    fn on<S: Store>(store: S, options: &ServiceOptions, runtime: &tokio::runtime::Handle) -> Result<Service, Error> {
        Service::start(options, runtime, Clock::Boottime, seed(), |engine| drop(runtime.spawn(engine.run(store))))
    }

    /// A service whose task `spawn` starts on this runtime.
    pub(crate) fn start(
        options: &ServiceOptions,
        runtime: &tokio::runtime::Handle,
        clock: Clock,
        seed: u64,
        spawn: impl FnOnce(Engine),
    ) -> Result<Service, Error> {
        let pulled = options.delivery() == config::Delivery::Pull;
        let mailbox = Arc::new(Mailbox::new(pulled)?);
        let (commands, received) = commands::channel();
        let finished = Arc::new(Flag::default());
        let timer = {
            let _entered = runtime.enter();
            Timer::new(clock)?
        };
        let engine = Engine {
            settings: Settings { namespace: options.namespace(), ttl: options.ttl, call_timeout: options.call_timeout },
            clock,
            seed,
            mailbox: mailbox.clone(),
            log_level: options.log_level,
            commands: received,
            timer,
            finished: finished.clone(),
        };
        spawn(engine);
        let shared = Share(Arc::new(Shared {
            options: options.clone(),
            clock,
            depth: sys::fork_depth(),
            commands,
            mailbox,
            closing: AtomicBool::new(false),
            finished,
            delivered: Arc::new(Flag::default()),
            callback_thread: OnceLock::new(),
            terms: Mutex::default(),
        }));
        let service = Service { shared };
        if pulled {
            service.shared.delivered.set();
        } else {
            service.start_callbacks()?;
        }
        Ok(service)
    }

    /// Starts the one thread that calls handlers.
    fn start_callbacks(&self) -> Result<(), Error> {
        let (mailbox, delivered) = (self.shared.mailbox.clone(), self.shared.delivered.clone());
        let deliver = move |at_work: Sender<()>| {
            // Who starts it may have stopped waiting.
            let _ = at_work.send(());
            while let Ok(Some(mut delivery)) = mailbox.take(None) {
                if let Some(handler) = &mut delivery.handler {
                    // A handler that panics loses its own event, nobody else's.
                    let _ = std::panic::catch_unwind(AssertUnwindSafe(|| handler(&delivery.event)));
                }
                mailbox.give_back(delivery);
            }
            drop(mailbox.take_log_handler());
            delivered.set();
        };
        let thread = sys::start_thread("tenure-events", deliver)
            .map_err(|error| Error::new(Code::System, format!("the callback thread can't start: {error}")))?;
        // Set once, here.
        let _ = self.shared.callback_thread.set(thread);
        Ok(())
    }

    /// Sets the handler of log lines, called on the callback thread; for `events=callback`, with `log_level` above
    /// `off`.
    ///
    /// # Errors
    /// [`Code::WrongMode`], [`Code::Closed`], [`Code::Forked`].
    pub fn set_log_handler(&self, handler: Handler) -> Result<(), Error> {
        self.shared.check_open()?;
        if self.shared.options.delivery() == config::Delivery::Pull {
            return Err(Error::new(Code::WrongMode, "option `events` is `pull`: log lines come as events"));
        }
        drop(self.shared.mailbox.set_log_handler(handler)?);
        Ok(())
    }

    /// Stands for election. Returns at once; the first event is FOLLOWER. An empty name is `default`.
    ///
    /// # Errors
    /// [`Code::InvalidName`], [`Code::InvalidValue`], [`Code::CampaignInProgress`], [`Code::Closed`],
    /// [`Code::Forked`].
    pub fn campaign(
        &self,
        election: &str,
        options: &CampaignOptions,
        handler: Option<Handler>,
    ) -> Result<Campaign, Error> {
        let shared = &self.shared;
        shared.check_open()?;
        let election = election_name(election)?;
        options.check(shared.options.ttl)?;
        let value = match options.value.as_ref().or(shared.options.value.as_ref()) {
            Some(value) => value.clone(),
            None => sys::host_name().into_bytes().into(),
        };
        let candidacy = Candidacy {
            election: election.clone(),
            value,
            rejoin: options.rejoin,
            at_risk: options.at_risk,
            step_down_margin: options.step_down_margin,
            wait_limit: options.wait_limit,
        };
        let id = shared.commands.next_id();
        let term = Arc::new(Term::new(shared.clock));
        shared.mailbox.add(id, election.clone(), handler, Some(term.clone()))?;
        shared.keep(&term);
        let begun =
            shared.commands.ask(|reply| Input::Campaign { id, candidacy, reply }).and_then(|answer| answer.wait(None));
        if let Err(error) = begun
            && shared.mailbox.remove(id)
        {
            return Err(error);
        }
        Ok(Campaign { shared: shared.clone(), id, election, term })
    }

    /// Watches who leads. An empty name is `default`.
    ///
    /// # Errors
    /// [`Code::InvalidName`], [`Code::Closed`], [`Code::Forked`].
    pub fn observe(&self, election: &str, handler: Option<Handler>) -> Result<Observer, Error> {
        let shared = &self.shared;
        shared.check_open()?;
        let election = election_name(election)?;
        let id = shared.commands.next_id();
        shared.mailbox.add(id, election.clone(), handler, None)?;
        let begun = shared.commands.send(Command::Input(Input::Observe { id, election }));
        if let Err(error) = begun
            && shared.mailbox.remove(id)
        {
            return Err(error);
        }
        Ok(Observer { shared: shared.clone(), id })
    }

    /// The leader now, read linearizably. An empty name is `default`.
    ///
    /// # Errors
    /// [`Code::NoLeader`], [`Code::NameCollision`], [`Code::Timeout`], [`Code::Unavailable`], [`Code::Tls`],
    /// [`Code::AuthenticationFailed`], [`Code::PermissionDenied`], [`Code::InvalidName`], [`Code::Closed`],
    /// [`Code::Forked`].
    pub fn leader(&self, election: &str, timeout: Duration) -> Result<Candidate, Error> {
        match self.read(ReadKind::Leader, election, timeout)? {
            Reply::Leader(leader) => Ok(leader),
            Reply::Candidates(_) | Reply::Done => Err(Code::Internal.into()),
        }
    }

    /// All candidates in the order of the queue, the leader first; empty if there are none. An empty name is
    /// `default`.
    ///
    /// # Errors
    /// As [`leader`](Self::leader), but not NoLeader; [`Code::ValueTooLarge`] when keys and values are more than
    /// 256 MiB together.
    pub fn candidates(&self, election: &str, timeout: Duration) -> Result<Vec<Candidate>, Error> {
        match self.read(ReadKind::Candidates, election, timeout)? {
            Reply::Candidates(candidates) => Ok(candidates),
            Reply::Leader(_) | Reply::Done => Err(Code::Internal.into()),
        }
    }

    fn read(&self, kind: ReadKind, election: &str, timeout: Duration) -> Result<Reply, Error> {
        self.shared.check_open()?;
        let election = election_name(election)?;
        let answer = self.shared.commands.ask(|reply| Input::Read { kind, election, timeout, reply })?;
        answer.wait(Some(timeout.saturating_add(REPLY_GRACE)))
    }

    /// The next event, with `events=pull`; `None` when nothing came within `timeout` (`None`: wait for ever).
    ///
    /// # Errors
    /// [`Code::WrongMode`]; [`Code::Closed`] after the last event of a closed service; [`Code::Forked`].
    pub fn next_event(&self, timeout: Option<Duration>) -> Result<Option<Event>, Error> {
        self.shared.check_process()?;
        self.shared.check_pulled()?;
        Ok(self.shared.mailbox.take(timeout)?.map(|delivery| {
            let event = delivery.event.clone();
            self.shared.mailbox.give_back(delivery);
            event
        }))
    }

    /// A descriptor that is readable while [`next_event`](Self::next_event) has something to say, with
    /// `events=pull`. It belongs to the service and is closed with it.
    ///
    /// # Errors
    /// [`Code::WrongMode`], [`Code::Forked`].
    pub fn event_fd(&self) -> Result<RawFd, Error> {
        self.shared.check_process()?;
        self.shared.check_pulled()?;
        self.shared.mailbox.descriptor().ok_or_else(|| Code::WrongMode.into())
    }

    /// Withdraws everything and ends the session. Leadership ends at once; every campaign and observer gets its last
    /// event. Ok: etcd has confirmed that nothing is left, and (with callbacks) every handler has had its last event.
    /// Closing a closed service is fine.
    ///
    /// # Errors
    /// [`Code::Pending`]: not all of this within `timeout`; it goes on in the background, and calling again waits on.
    /// [`Code::WrongThread`] inside a handler of this service, [`Code::Forked`].
    pub fn close(&self, timeout: Duration) -> Result<(), Error> {
        self.shared.check_process()?;
        if self.is_callback_thread() {
            return Err(Error::new(
                Code::WrongThread,
                "close: inside a callback of this service it would wait for itself",
            ));
        }
        self.shared.begin_close();
        let start = self.shared.clock.now();
        let finished = self.shared.finished.wait(timeout);
        let spent = Duration::from_nanos(u64::try_from(self.shared.clock.now() - start).unwrap_or(0));
        let delivered = self.shared.delivered.wait(timeout.saturating_sub(spent));
        match (finished, delivered) {
            (true, true) => Ok(()),
            (false, _) => {
                let message = "close: etcd has not confirmed that everything is gone; it goes on in the background until the lease is over";
                Err(Error::new(Code::Pending, message))
            }
            (true, false) => Err(Error::new(Code::Pending, "close: a callback has not returned yet")),
        }
    }

    /// The option `call_timeout`: the default of calls that wait.
    pub fn call_timeout(&self) -> Duration {
        self.shared.options.call_timeout
    }

    /// Whether the calling thread is this service's callback thread.
    pub fn is_callback_thread(&self) -> bool {
        self.shared.callback_thread.get() == Some(&std::thread::current().id())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.shared.check_process().is_ok() {
            self.shared.begin_close();
            if self.shared.options.delivery() == config::Delivery::Pull {
                drop(self.shared.mailbox.take_handlers());
            }
        }
    }
}

/// One candidacy. Dropping it withdraws it in the background.
pub struct Campaign {
    shared: Share,
    id: SubscriptionId,
    election: Arc<str>,
    term: Arc<Term>,
}

impl Campaign {
    /// Its id within the service, as in [`Event`].
    pub fn id(&self) -> SubscriptionId {
        self.id
    }

    /// The election's name.
    pub fn election(&self) -> &Arc<str> {
        &self.election
    }

    /// Whether this process leads right now. Compares CLOCK_BOOTTIME with the deadline; never waits.
    ///
    /// It is a look, not a lock: what follows it may happen later than the deadline. What must not happen twice needs
    /// the [`token`](Self::token) checked by the resource it happens to.
    #[inline]
    pub fn is_leader(&self) -> bool {
        self.term.is_leader()
    }

    /// How long leadership is certain from now on, even if etcd is out of reach; zero if not leading.
    pub fn remaining(&self) -> Duration {
        Duration::from_nanos(self.term.remaining().unsigned_abs())
    }

    /// The fencing token while leading, else 0.
    pub fn token(&self) -> Revision {
        self.term.token()
    }

    /// The state; LEADER only while [`is_leader`](Self::is_leader).
    pub fn state(&self) -> State {
        self.term.state()
    }

    /// Waits until this campaign leads.
    ///
    /// # Errors
    /// [`Code::Timeout`]; the reason of the loss, or [`Code::Closed`], once the campaign is closed or resigned;
    /// [`Code::Forked`].
    pub fn wait_leader(&self, timeout: Duration) -> Result<(), Error> {
        self.shared.check_process()?;
        self.term.wait_leader(timeout)
    }

    /// Changes the announced value during a term; the token stays.
    ///
    /// # Errors
    /// [`Code::NotLeader`], [`Code::ValueTooLarge`], [`Code::PermissionDenied`], [`Code::NoSpace`],
    /// [`Code::Pending`] (not confirmed within `timeout`; the library goes on trying), [`Code::Closed`],
    /// [`Code::Forked`].
    pub fn proclaim(&self, value: &[u8], timeout: Duration) -> Result<(), Error> {
        self.shared.check_process()?;
        let value = config::check_value(value)?;
        if !self.is_leader() {
            return Err(Error::new(Code::NotLeader, "proclaim: this campaign does not lead"));
        }
        let id = self.id;
        let answer = self.shared.commands.ask(|reply| Input::Proclaim { id, value, reply })?;
        self.wait(answer, timeout)
    }

    /// Withdraws. Leadership ends at once. Ok: etcd has confirmed that the key is gone (also when there was none).
    ///
    /// # Errors
    /// [`Code::Pending`]: not confirmed within `timeout`; the library goes on, and calling again waits on.
    /// [`Code::Forked`].
    pub fn resign(&self, timeout: Duration) -> Result<(), Error> {
        self.shared.check_process()?;
        self.term.bar();
        self.term.wake();
        let id = self.id;
        let clock = Clock::Boottime;
        let begun = clock.now();
        let asked = self.shared.commands.ask(|reply| Input::Resign { id, reply: Some(reply) });
        match asked.and_then(|answer| self.wait(answer, timeout)) {
            // The service is closed, before or while we waited: its end is this campaign's.
            Err(error) if error.code() == Code::Closed => {
                let waited = Duration::from_nanos((clock.now() - begun).max(0) as u64);
                match self.shared.finished.wait(timeout.saturating_sub(waited)) {
                    true => Ok(()),
                    false => Err(pending(Code::Timeout.into())),
                }
            }
            answer => answer,
        }
    }

    /// Waits for the answer to what goes on also when nobody waits.
    fn wait(&self, answer: Waiting, timeout: Duration) -> Result<(), Error> {
        let reply = answer.reply;
        answer.wait(Some(timeout)).map(drop).map_err(|error| {
            if error.code() == Code::Timeout {
                // Where the task has gone, so has what it knew of this.
                let _ = self.shared.commands.send(Command::Forget(self.id, reply));
            }
            pending(error)
        })
    }

    /// As [`resign`](Self::resign), but strict: an error and nothing changed when not leading.
    ///
    /// # Errors
    /// [`Code::NotLeader`]; as [`resign`](Self::resign).
    pub fn resign_leader(&self, timeout: Duration) -> Result<(), Error> {
        self.shared.check_process()?;
        if !self.is_leader() {
            return Err(Error::new(Code::NotLeader, "resign: this campaign does not lead"));
        }
        self.resign(timeout)
    }

    /// Gives leadership up at once and withdraws in the background, without waiting.
    pub fn abandon(&self) {
        if self.shared.check_process().is_err() {
            return;
        }
        self.term.bar();
        self.term.wake();
        // A closed service has withdrawn it already.
        let _ = self.shared.commands.send(Command::Input(Input::Resign { id: self.id, reply: None }));
    }
}

impl Drop for Campaign {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// A subscription to who leads an election. Dropping it ends it.
pub struct Observer {
    shared: Share,
    id: SubscriptionId,
}

impl Observer {
    /// Its id within the service, as in [`Event`].
    pub fn id(&self) -> SubscriptionId {
        self.id
    }

    /// Ends it, without waiting; its last event says `closed`. Closing twice is fine.
    pub fn close(&self) {
        if self.shared.check_process().is_ok() {
            // A closed service has ended it already.
            let _ = self.shared.commands.send(Command::Input(Input::Unobserve { id: self.id }));
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn check_process(&self) -> Result<(), Error> {
        if self.depth == sys::fork_depth() {
            return Ok(());
        }
        let message = "this service belongs to the parent process of a fork; open one of your own in the child";
        Err(Error::new(Code::Forked, message))
    }

    fn check_open(&self) -> Result<(), Error> {
        self.check_process()?;
        match self.closing.load(Ordering::Acquire) {
            true => Err(closed()),
            false => Ok(()),
        }
    }

    fn check_pulled(&self) -> Result<(), Error> {
        match self.options.delivery() {
            config::Delivery::Pull => Ok(()),
            config::Delivery::Callback => {
                Err(Error::new(Code::WrongMode, "option `events` is `callback`: set it to `pull` to read events"))
            }
        }
    }

    /// Remembers a term for the closing of the service, and forgets those that are gone.
    fn keep(&self, term: &Arc<Term>) {
        let mut terms = self.terms.lock().unwrap_or_else(PoisonError::into_inner);
        if terms.len() == terms.capacity() {
            terms.retain(|term| term.strong_count() > 0);
        }
        terms.push(Arc::downgrade(term));
    }

    fn begin_close(&self) {
        if self.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        let terms = std::mem::take(&mut *self.terms.lock().unwrap_or_else(PoisonError::into_inner));
        for term in terms.iter().filter_map(Weak::upgrade) {
            term.bar();
            term.wake();
        }
        // Where the task has gone, it has closed everything.
        let _ = self.commands.send(Command::Input(Input::Close));
    }
}

/// Not confirmed in time is not failed.
fn pending(error: Error) -> Error {
    match error.code() {
        Code::Timeout => {
            Error::new(Code::Pending, "etcd has not confirmed it yet; the library goes on, call again to wait on")
        }
        _ => error,
    }
}

fn election_name(name: &str) -> Result<Arc<str>, Error> {
    if name.is_empty() {
        return Ok(DEFAULT_ELECTION.into());
    }
    match config::check_name(name) {
        Ok(()) => Ok(name.into()),
        Err(reason) => Err(Error::new(Code::InvalidName, format!("election name: {reason}"))),
    }
}

/// The store on etcd. Unless `open_offline`, one that answered; in any case one whose credentials were not refused.
fn connect(runtime: &tokio::runtime::Handle, options: &ServiceOptions) -> Result<Etcd, Error> {
    let config = EtcdConfig {
        endpoints: options.endpoints.clone(),
        username: options.username.clone(),
        password: options.password.clone(),
        ca_file: options.ca_file.clone(),
        cert_file: options.cert_file.clone(),
        key_file: options.key_file.clone(),
        server_name: options.server_name.clone(),
        dial_timeout: options.dial_timeout,
    };
    let store = Etcd::new(config).map_err(|error| Error::new(Code::InvalidValue, error.message))?;
    let (sender, receiver) = channel::<(Etcd, Result<(), StoreError>)>();
    let timeout = options.dial_timeout;
    // On the library's thread, whose runtime the connection lives on.
    runtime.spawn(async move {
        let probed = store.probe(timeout).await.map(drop);
        // Who opens waits for this.
        let _ = sender.send((store, probed));
    });
    let (store, probed) = receiver.recv().map_err(|_| Error::from(Code::Panic))?;
    match probed {
        Err(error) if error.failure.is_transient() && error.failure != Failure::Tls && options.open_offline => {
            Ok(store)
        }
        Err(error) => Err(Error::from(&error)),
        Ok(()) => Ok(store),
    }
}

#[cfg(test)]
#[cfg(not(model))]
mod tests {
    use super::*;

    #[test]
    fn a_forked_child_ends_nothing_that_is_its_parents() {
        let mut options = ServiceOptions::default();
        options.set("endpoints", "memory://forked").unwrap();
        options.set("service", "s").unwrap();
        let service = Service::open(&options).unwrap();
        let campaign = service.campaign("e", &CampaignOptions::default(), None).unwrap();
        let observer = service.observe("e", None).unwrap();
        campaign.wait_leader(Duration::from_secs(60)).unwrap();
        let shared = Arc::downgrade(&service.shared.0);
        let mut held = Some((observer, campaign, service));
        let is_kept = sys::in_child(|| {
            drop(held.take());
            shared.strong_count() > 0
        });
        let (_, campaign, service) = held.unwrap();
        assert!(is_kept && campaign.is_leader());
        service.close(Duration::from_secs(60)).unwrap();
    }
}
