//! What campaigns and observers tell.

use std::sync::Arc;

use crate::error::Code;
use crate::store::{LeaseId, Revision};

/// The state of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum State {
    /// Standing for election, or withdrawn from it: not the leader.
    Follower = 1,
    /// The leader, until [`Status::deadline_ns`] unless renewed.
    Leader = 2,
    /// The candidacy was lost; [`Status::reason`] says why. FOLLOWER follows with `rejoin`, else CLOSED.
    Error = 3,
    /// The campaign is over; its last event.
    Closed = 4,
}

/// One event of a campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Counts the campaign's events from 1; a gap means that newer events took the place of unread ones.
    pub sequence: u64,
    /// When it was told, in nanoseconds on CLOCK_BOOTTIME: the reader of it can see how late it is.
    pub time_ns: i64,
    /// The state entered.
    pub state: State,
    /// LEADER only: a renewal is overdue, so leadership may end at the deadline.
    pub at_risk: bool,
    /// Why: [`Code::Ok`] where nothing went wrong.
    pub reason: Code,
    /// The reason as a sentence; empty where nothing went wrong.
    pub message: String,
    /// The election.
    pub election: Arc<str>,
    /// The candidate's own value.
    pub value: Arc<[u8]>,
    /// The fencing token: create revision of the own key; 0 while there is no key.
    pub token: Revision,
    /// The cluster whose token it is; 0 while unknown.
    pub cluster_id: u64,
    /// The store's revision that this event is based on; 0 where it isn't based on one.
    pub revision: Revision,
    /// LEADER only: CLOCK_BOOTTIME in nanoseconds until which leadership is certain unless renewed; else 0.
    pub deadline_ns: i64,
}

/// A leader, or another candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The value it announces.
    pub value: Arc<[u8]>,
    /// Its fencing token: the create revision of its key.
    pub token: Revision,
    /// Its key in etcd.
    pub key: Arc<[u8]>,
    /// The lease that its key is attached to; 0 for none.
    pub lease: LeaseId,
}

/// Who leads an election: a state, not a log. The newest takes the place of unread ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Counts the observer's events from 1; a gap means that newer ones took the place of unread ones.
    pub sequence: u64,
    /// When it was told, in nanoseconds on CLOCK_BOOTTIME: the reader of it can see how late it is.
    pub time_ns: i64,
    /// The election.
    pub election: Arc<str>,
    /// The leader, or nobody.
    pub leader: Option<Candidate>,
    /// The store's revision at which this was so; never falls, until [`Code::ClusterChanged`] is told and all begins
    /// anew from 0.
    pub revision: Revision,
    /// The cluster; 0 while unknown.
    pub cluster_id: u64,
    /// False while etcd is out of reach: the leader named is the last one known.
    pub connected: bool,
    /// The observer's last event.
    pub closed: bool,
    /// Why it isn't connected or was closed; [`Code::Ok`] where nothing went wrong.
    pub reason: Code,
    /// The reason as a sentence.
    pub message: String,
}

impl Observation {
    /// The last event of an observer that the engine will tell, or has told, nothing more: nobody is known to lead.
    pub(crate) fn last(sequence: u64, time_ns: i64, election: Arc<str>, reason: Code, message: &str) -> Self {
        Observation {
            sequence,
            time_ns,
            election,
            leader: None,
            revision: 0,
            cluster_id: 0,
            connected: false,
            closed: true,
            reason,
            message: message.to_owned(),
        }
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Level {
    /// Nothing.
    #[default]
    Off = 0,
    /// What ends a candidacy or needs an operator.
    Error = 1,
    /// What may: lost connections, late renewals.
    Warn = 2,
    /// Changes of state.
    Info = 3,
    /// Every request.
    Debug = 4,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// When it was told, in nanoseconds on CLOCK_BOOTTIME.
    pub time_ns: i64,
    /// Its weight.
    pub level: Level,
    /// One line; never holds a password or key.
    pub message: String,
}

/// Identifies a campaign or observer within its service.
pub type SubscriptionId = u64;

/// Anything that a service delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A campaign changed its state.
    Status(SubscriptionId, Status),
    /// An observer's election changed its leader.
    Observation(SubscriptionId, Observation),
    /// A line for the log.
    Log(LogRecord),
}
