//! The driver and the in-process store together, on paused time: seconds pass in microseconds.

use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::{AbortHandle, JoinSet};

use super::commands::{self, Command, Commands};
use super::{Engine, Flag, Mailbox, Term, Timer};
use crate::clock::{Clock, MS, SECOND};
use crate::config::Namespace;
use crate::election::{Candidacy, Input, Reply, Settings};
use crate::error::Code;
use crate::events::{Event, Level, State};
use crate::store::memory::Memory;
use crate::store::{
    Failure, Header, LeaseId, LeaseState, Range, RangeResult, Store, StoreError, Txn, TxnResult, WatchMessage,
    WatchRequest,
};

const TTL: Duration = Duration::from_secs(5);

struct Process {
    commands: Commands,
    mailbox: Arc<Mailbox>,
    term: Arc<Term>,
    finished: Arc<Flag>,
    task: AbortHandle,
}

struct World {
    clock: Clock,
    store: Memory,
    tasks: JoinSet<()>,
}

impl World {
    fn new() -> Self {
        #[allow(clippy::disallowed_methods, reason = "the runtime's paused clock")]
        let clock = Clock::Runtime(tokio::time::Instant::now());
        World { clock, store: Memory::new(), tasks: JoinSet::new() }
    }

    /// A process that stands in the one election.
    fn stand(&mut self) -> Process {
        self.stand_at(self.store.clone())
    }

    fn stand_at(&mut self, store: impl Store) -> Process {
        let (commands, received) = commands::channel();
        let mailbox = Arc::new(Mailbox::new(true).unwrap());
        let finished = Arc::new(Flag::default());
        let engine = Engine {
            settings: Settings {
                namespace: Namespace::Prefix("paused/".into()),
                ttl: TTL,
                call_timeout: Duration::from_secs(1),
            },
            clock: self.clock,
            seed: 1,
            mailbox: mailbox.clone(),
            log_level: Level::Off,
            commands: received,
            timer: Timer::new(self.clock).unwrap(),
            finished: finished.clone(),
        };
        let task = self.tasks.spawn(engine.run(store));
        let term = Arc::new(Term::new(self.clock));
        mailbox.add(1, "e".into(), None, Some(term.clone())).unwrap();
        let candidacy = Candidacy {
            election: "e".into(),
            value: b"v"[..].into(),
            rejoin: false,
            at_risk: false,
            step_down_margin: Duration::ZERO,
            wait_limit: None,
        };
        let (sender, _) = channel();
        let begin = Input::Campaign { id: 1, candidacy, reply: 1 };
        assert!(commands.send(Command::Ask(1, sender, begin)).is_ok());
        Process { commands, mailbox, term, finished, task }
    }

    async fn pass(&self, nanos: i64) {
        #[allow(clippy::disallowed_methods, reason = "paused time")]
        tokio::time::sleep(Duration::from_nanos(nanos.unsigned_abs())).await;
    }
}

/// A store with a defect: renewing panics. It grants more time to live than is asked for.
struct Defective(Memory);

const GRANTED: i64 = 3;

impl Store for Defective {
    async fn grant(&self, id: LeaseId, ttl_s: i64, timeout: Duration) -> Result<LeaseState, StoreError> {
        self.0.grant(id, ttl_s * GRANTED, timeout).await
    }
    async fn keep_alive(&self, _: LeaseId, _: Duration) -> Result<LeaseState, StoreError> {
        panic!("planted")
    }
    async fn revoke(&self, id: LeaseId, timeout: Duration) -> Result<Header, StoreError> {
        self.0.revoke(id, timeout).await
    }
    async fn txn(&self, txn: Txn, timeout: Duration) -> Result<(Header, TxnResult), StoreError> {
        self.0.txn(txn, timeout).await
    }
    async fn range(&self, range: Range, timeout: Duration) -> Result<(Header, RangeResult), StoreError> {
        self.0.range(range, timeout).await
    }
    async fn watch(
        &self,
        requests: UnboundedReceiver<WatchRequest>,
        messages: UnboundedSender<WatchMessage>,
    ) -> StoreError {
        self.0.watch(requests, messages).await
    }
    fn rotate(&self, reason: &str) {
        self.0.rotate(reason);
    }
}

impl Process {
    /// What is unread, with sequence numbers that grow.
    fn states(&self) -> Vec<(State, Code)> {
        let mut last = 0;
        std::iter::from_fn(|| {
            let delivery = self.mailbox.take(Some(Duration::ZERO)).ok()??;
            let Event::Status(_, status) = &delivery.event else { panic!("{:?}", delivery.event) };
            assert!(status.sequence > last, "{status:?} after {last}");
            last = status.sequence;
            let state = (status.state, status.reason);
            self.mailbox.give_back(delivery);
            Some(state)
        })
        .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_renews_leads_for_an_hour() {
    let mut world = World::new();
    let leader = world.stand();
    world.pass(3600 * SECOND).await;
    assert!(leader.term.is_leader());
    assert_eq!(leader.states(), [(State::Follower, Code::Ok), (State::Leader, Code::Ok)]);
}

#[tokio::test(start_paused = true)]
async fn a_crashed_leader_is_followed_when_its_lease_is_over_and_never_before() {
    let mut world = World::new();
    let leader = world.stand();
    world.pass(SECOND).await;
    let heir = world.stand();
    world.pass(SECOND).await;
    leader.task.abort();
    while !heir.term.is_leader() {
        world.pass(MS).await;
        assert!(!(leader.term.is_leader() && heir.term.is_leader()));
        assert!(world.clock.now() < 2 * SECOND + 5600 * MS, "later than the TTL and 0.6 s");
    }
    assert_eq!(heir.states(), [(State::Follower, Code::Ok), (State::Leader, Code::Ok)]);
}

#[tokio::test(start_paused = true)]
async fn a_resigned_leader_is_followed_at_once() {
    let mut world = World::new();
    let leader = world.stand();
    world.pass(SECOND).await;
    let heir = world.stand();
    world.pass(SECOND).await;
    assert!(leader.commands.send(Command::Input(Input::Resign { id: 1, reply: None })).is_ok());
    world.pass(MS).await;
    assert!(heir.term.is_leader() && !leader.term.is_leader());
    assert_eq!(leader.states().last(), Some(&(State::Closed, Code::Ok)));
}

#[tokio::test(start_paused = true)]
async fn broken_watches_cost_nobody_a_term_or_a_turn() {
    let mut world = World::new();
    let leader = world.stand();
    let heir = world.stand();
    for _ in 0..20 {
        world.store.break_watches(Failure::Unknown);
        world.pass(SECOND).await;
    }
    assert!(leader.term.is_leader());
    assert_eq!(leader.states().len(), 2);
    assert!(leader.commands.send(Command::Input(Input::Close)).is_ok());
    world.pass(MS).await;
    assert!(leader.finished.wait(Duration::ZERO) && heir.term.is_leader());
}

#[tokio::test(start_paused = true)]
async fn another_cluster_ends_the_term() {
    let mut world = World::new();
    let leader = world.stand();
    world.pass(SECOND).await;
    world.store.rebuild();
    world.pass(TTL.as_nanos() as i64).await;
    assert!(!leader.term.is_leader());
    let states = leader.states();
    assert!(states.contains(&(State::Error, Code::ClusterChanged)), "{states:?}");
    assert_eq!(states.last().map(|(state, _)| *state), Some(State::Closed));
}

/// M-1
#[tokio::test(start_paused = true)]
async fn a_campaign_resigned_before_its_events_are_read_tells_of_no_term() {
    for read_first in [false, true] {
        let mut world = World::new();
        let leader = world.stand();
        if read_first {
            world.pass(0).await;
            leader.states();
        }
        world.pass(SECOND).await;
        assert!(leader.term.is_leader());
        let (sender, answer) = channel();
        assert!(leader.commands.send(Command::Ask(2, sender, Input::Resign { id: 1, reply: Some(2) })).is_ok());
        world.pass(MS).await;
        assert_eq!(answer.try_recv(), Ok(Ok(Reply::Done)));
        let states = leader.states();
        assert!(states.iter().all(|(state, _)| *state != State::Leader), "{states:?}");
        assert_eq!(states.last(), Some(&(State::Closed, Code::Ok)));
        assert!(leader.states().is_empty(), "CLOSED is the last");
    }
}

/// M-14
#[tokio::test(start_paused = true)]
async fn a_leader_event_that_lay_unread_for_longer_than_its_term_is_not_told() {
    let mut world = World::new();
    let leader = world.stand();
    world.pass(SECOND).await;
    // Nobody is left to take the event back.
    leader.task.abort();
    world.pass(TTL.as_nanos() as i64).await;
    assert_eq!(leader.states(), [(State::Follower, Code::Ok)]);
}

/// M-15
#[tokio::test(start_paused = true)]
async fn a_program_that_reads_no_events_hears_of_the_loss_when_it_asks() {
    let mut world = World::new();
    let leader = world.stand();
    world.pass(SECOND).await;
    assert!(leader.term.is_leader() && leader.term.token() > 0);
    world.store.rebuild();
    world.pass(SECOND).await;
    assert_eq!((leader.term.is_leader(), leader.term.token(), leader.term.state()), (false, 0, State::Closed));
    assert_eq!(leader.term.wait_leader(Duration::ZERO).unwrap_err().code(), Code::ClusterChanged);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_a_defect_ended_is_not_finished_while_its_key_may_be_there() {
    let mut world = World::new();
    let leader = world.stand_at(Defective(world.store.clone()));
    world.pass(SECOND).await;
    assert!(leader.term.is_leader());
    let heir = world.stand();
    world.pass(GRANTED * 2 * SECOND).await;
    assert_eq!((leader.term.is_leader(), leader.term.state()), (false, State::Closed));
    let told = [(State::Follower, Code::Ok), (State::Error, Code::Panic), (State::Closed, Code::Panic)];
    assert_eq!(leader.states(), told, "and not of a term that is over");
    while !heir.term.is_leader() {
        assert!(!leader.finished.wait(Duration::ZERO), "its key is there");
        world.pass(10 * MS).await;
    }
    world.pass(GRANTED * TTL.as_nanos() as i64).await;
    assert!(leader.finished.wait(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_for_who_stopped_waiting() {
    let mut world = World::new();
    let leader = world.stand();
    world.pass(SECOND).await;
    let (sender, answer) = channel();
    assert!(leader.commands.send(Command::Ask(2, sender, Input::Resign { id: 1, reply: Some(2) })).is_ok());
    assert!(leader.commands.send(Command::Forget(1, 2)).is_ok());
    world.pass(MS).await;
    assert_eq!(answer.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(leader.states().last(), Some(&(State::Closed, Code::Ok)));
}

#[test]
fn no_two_services_choose_the_same_lease_ids() {
    assert_ne!(super::seed(), super::seed());
}
