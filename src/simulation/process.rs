//! A process: a service, and what its program does and hears.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::dice::Dice;
use super::network::{Distant, Network};
use super::{Gate, PREFIX};
use crate::clock::Clock;
use crate::config::{CampaignOptions, Delivery, ServiceOptions};
use crate::error::Code;
use crate::events::{Event, Level, Observation, State, Status, SubscriptionId};
use crate::service::{Campaign, Observer, Service};
use crate::store::Revision;
use crate::store::memory::Memory;

/// No call waits: time stands still for who would.
const NOW: Duration = Duration::ZERO;

pub(super) struct Process {
    service: Arc<Service>,
    task: AbortHandle,
    pub(super) gate: Arc<Gate>,
    pub(super) network: Arc<Network>,
    killed: bool,
    closing: bool,
    /// Its program reads its events.
    pub(super) reads: bool,
    campaigns: BTreeMap<SubscriptionId, Standing>,
    observers: BTreeMap<SubscriptionId, Watching>,
}

/// A campaign as its program knows it.
struct Standing {
    election: &'static str,
    campaign: Campaign,
    resigned: bool,
    last: Option<Status>,
}

struct Watching {
    election: &'static str,
    /// `None` once it was closed.
    observer: Option<Observer>,
    last: Option<Observation>,
}

impl Process {
    pub(super) fn open(store: &Memory, clock: Clock, dice: &mut Dice, ttl: Duration, log_level: Level) -> Self {
        let mut options = ServiceOptions::default();
        (options.delivery, options.ttl, options.log_level) = (Delivery::Pull, ttl, log_level);
        options.set("prefix", PREFIX).unwrap();
        let (gate, network) = (Arc::new(Gate::default()), Network::new(dice.next()));
        let distant = Distant { store: store.clone(), network: network.clone() };
        let runtime = tokio::runtime::Handle::current();
        let mut task = None;
        let service = Service::start(&options, &runtime, clock, dice.next(), |engine| {
            task = Some(runtime.spawn(gate.clone().guard(engine.run(distant))).abort_handle());
        });
        Process {
            service: Arc::new(service.unwrap()),
            task: task.unwrap(),
            gate,
            network,
            killed: false,
            closing: false,
            reads: dice.chance(70),
            campaigns: BTreeMap::new(),
            observers: BTreeMap::new(),
        }
    }

    /// Not killed.
    pub(super) fn is_alive(&self) -> bool {
        !self.killed
    }

    /// Its program can do something.
    pub(super) fn is_running(&self) -> bool {
        self.is_alive() && !self.closing && !self.gate.is_stopped()
    }

    /// On another thread, since it waits for the engine; the clock stands still meanwhile.
    pub(super) async fn campaign(&mut self, election: &'static str, options: CampaignOptions) -> String {
        let service = self.service.clone();
        let begun = tokio::task::spawn_blocking(move || service.campaign(election, &options, None)).await.unwrap();
        let stands = self.campaigns.values().any(|s| s.election == election && !s.is_closed());
        match begun {
            Ok(campaign) => {
                let id = campaign.id();
                let standing = Standing { election, campaign, resigned: false, last: None };
                self.campaigns.insert(id, standing);
                format!("as {id}")
            }
            Err(error) => {
                assert!(stands && error.code() == Code::CampaignInProgress, "{error}");
                error.code().name().to_owned()
            }
        }
    }

    fn chosen(&mut self, chosen: u64) -> Option<(&SubscriptionId, &mut Standing)> {
        let count = self.campaigns.len() as u64;
        self.campaigns.iter_mut().nth((chosen % count.max(1)) as usize)
    }

    pub(super) fn resign(&mut self, chosen: u64) -> String {
        let Some((id, standing)) = self.chosen(chosen) else { return "has nothing to resign".into() };
        standing.resigned = true;
        if chosen.is_multiple_of(3) {
            standing.campaign.abandon();
        } else if let Err(error) = standing.campaign.resign(NOW) {
            assert_eq!(error.code(), Code::Pending, "{error}");
        }
        assert!(!standing.campaign.is_leader());
        format!("resigns {id}")
    }

    pub(super) fn proclaim(&mut self, chosen: u64, value: &[u8]) -> String {
        let Some((id, standing)) = self.chosen(chosen) else { return "has nothing to proclaim".into() };
        let leads = standing.campaign.is_leader();
        let answer = standing.campaign.proclaim(value, NOW).map_err(|error| error.code());
        assert_eq!(answer, Err(if leads { Code::Pending } else { Code::NotLeader }));
        format!("proclaims {id}, leader: {leads}")
    }

    pub(super) fn observe(&mut self, election: &'static str) {
        let observer = self.service.observe(election, None).unwrap();
        self.observers.insert(observer.id(), Watching { election, observer: Some(observer), last: None });
    }

    pub(super) fn unobserve(&mut self, chosen: u64) {
        let count = self.observers.len() as u64;
        if let Some(watching) = self.observers.values_mut().nth((chosen % count.max(1)) as usize) {
            watching.observer = None;
        }
    }

    pub(super) fn close(&mut self) {
        self.closing = true;
        self.campaigns.values_mut().for_each(|standing| standing.resigned = true);
        if let Err(error) = self.service.close(NOW) {
            assert_eq!(error.code(), Code::Pending, "{error}");
        }
        assert_eq!(self.claims().count(), 0);
    }

    /// SIGKILL: nothing of it is heard any more.
    pub(super) fn kill(&mut self) {
        self.killed = true;
        self.gate.set(false);
        self.task.abort();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closing && self.service.close(NOW).is_ok()
    }

    /// Who says that it leads: election, campaign and token.
    pub(super) fn claims(&self) -> impl Iterator<Item = (&'static str, SubscriptionId, Revision)> {
        let campaigns = self.campaigns.iter().filter(|_| !self.killed);
        campaigns.filter(|(_, s)| s.campaign.is_leader()).map(|(&id, s)| (s.election, id, s.campaign.token()))
    }

    /// Campaigns that go on.
    pub(super) fn standing(&self, election: &str) -> usize {
        let campaigns = self.campaigns.values().filter(|_| self.is_running());
        campaigns.filter(|s| s.election == election && !s.resigned && !s.is_closed()).count()
    }

    /// What its observers say of an election: nothing if there are none, else the leader's token.
    pub(super) fn sees(&self, election: &str) -> Option<Option<Revision>> {
        let observers = self.observers.values().filter(|w| w.observer.is_some() && w.election == election);
        let mut seen = observers.map(|w| {
            let last = w.last.as_ref().filter(|last| last.connected)?;
            Some(last.leader.as_ref().map(|leader| leader.token))
        });
        // One that knows nothing yet sees a leader that nobody is.
        seen.next().map(|first| first.unwrap_or(Some(-1)))
    }

    /// What is not yet as it will be.
    pub(super) fn unfinished(&self) -> Option<String> {
        let leaving = |s: &&Standing| !s.is_closed() && (s.resigned || s.state() == Some(State::Error));
        let waits = self.campaigns.values().filter(|_| self.is_alive()).find(leaving);
        waits.map(|s| format!("{} in `{}` is on its way out", s.campaign.id(), s.election))
    }

    /// Reads what has come, if its program does.
    pub(super) fn read(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        if !self.reads || self.killed || self.gate.is_stopped() {
            return told;
        }
        while let Ok(Some(event)) = self.service.next_event(Some(NOW)) {
            match event {
                Event::Status(id, status) => {
                    told.push(format!("{id} {:?} {:?} {}", status.state, status.reason, status.token));
                    self.campaigns.get_mut(&id).unwrap().hear(status);
                }
                Event::Observation(id, observation) => {
                    let leader = observation.leader.as_ref().map(|leader| leader.token);
                    told.push(format!("{id} sees {leader:?} at {}", observation.revision));
                    self.observers.get_mut(&id).unwrap().hear(observation);
                }
                // A cluster's id, which it may name, is another one in each run.
                Event::Log(line) => eprintln!("{:?}: {}", line.level, line.message),
            }
        }
        told
    }

    /// All was said.
    pub(super) fn check_end(&mut self) {
        if self.killed {
            return;
        }
        assert_eq!(self.service.next_event(Some(NOW)).unwrap_err().code(), Code::Closed);
        for (id, standing) in &self.campaigns {
            assert!(standing.is_closed(), "{id} ended as {:?}", standing.state());
            assert!(standing.campaign.resign(NOW).is_ok(), "{id}");
        }
        let open = self.observers.iter().find(|(_, w)| !w.last.as_ref().is_some_and(|last| last.closed));
        assert!(open.is_none(), "an observer was not told of its end");
    }
}

impl Standing {
    fn state(&self) -> Option<State> {
        self.last.as_ref().map(|last| last.state)
    }

    fn is_closed(&self) -> bool {
        self.state() == Some(State::Closed)
    }

    fn hear(&mut self, status: Status) {
        let Some(last) = &self.last else {
            assert_eq!((status.state, status.sequence), (State::Follower, 1));
            self.last = Some(status);
            return;
        };
        assert!(status.sequence > last.sequence && !self.is_closed(), "{status:?} after {last:?}");
        if status.state == State::Leader {
            assert!(self.campaign.is_leader() && self.campaign.token() == status.token && !self.resigned, "{status:?}");
            // Every LEADER has a loss of its own; without one it is the same term, in doubt or out of it.
            assert!(last.state != State::Leader || last.token == status.token, "{status:?} after {last:?}");
        }
        self.last = Some(status);
    }
}

impl Watching {
    fn hear(&mut self, next: Observation) {
        if let Some(last) = &self.last {
            assert!(next.sequence > last.sequence && !last.closed, "{next:?} after {last:?}");
            let anew = next.cluster_id != last.cluster_id || next.reason == Code::ClusterChanged || next.closed;
            // Newer ones take the place of unread ones, also the word that another cluster answers.
            let gap = next.sequence > last.sequence + 1;
            assert!(anew || gap || next.revision >= last.revision, "{next:?} after {last:?}");
        }
        self.last = Some(next);
    }
}
