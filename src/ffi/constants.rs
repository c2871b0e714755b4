//! The numbers of the header beside the error codes.

use super::events::{EVENT_CAMPAIGN, EVENT_LOG, EVENT_OBSERVER};
use crate::events::{Level, State};

/// One number of the header.
pub struct Constant {
    /// Its name, with prefix.
    pub name: &'static str,
    /// Its value.
    pub value: i32,
    /// What it means.
    pub doc: &'static str,
}

/// Numbers that belong together.
pub struct Group {
    /// What they are.
    pub doc: &'static str,
    /// The numbers.
    pub constants: &'static [Constant],
}

const fn constant(name: &'static str, value: i32, doc: &'static str) -> Constant {
    Constant { name, value, doc }
}

/// All groups, in the header's order.
pub const GROUPS: &[Group] = &[
    Group {
        doc: "States of a campaign, see tenure_state.",
        constants: &[
            constant("TENURE_STATE_NONE", 0, "No state: the handle isn't live."),
            constant(
                "TENURE_STATE_FOLLOWER",
                State::Follower as i32,
                "Standing for election, or withdrawn from it: not the leader.",
            ),
            constant("TENURE_STATE_LEADER", State::Leader as i32, "The leader, until the deadline unless renewed."),
            constant(
                "TENURE_STATE_ERROR",
                State::Error as i32,
                "The candidacy was lost; the reason says why. FOLLOWER follows with `rejoin`, else CLOSED.",
            ),
            constant("TENURE_STATE_CLOSED", State::Closed as i32, "The campaign is over; its last event."),
        ],
    },
    Group {
        doc: "Kinds of events, see tenure_event_kind.",
        constants: &[
            constant("TENURE_EVENT_CAMPAIGN", EVENT_CAMPAIGN, "A campaign changed its state."),
            constant("TENURE_EVENT_OBSERVER", EVENT_OBSERVER, "An observed election changed its leader."),
            constant("TENURE_EVENT_LOG", EVENT_LOG, "A line for the log."),
        ],
    },
    Group {
        doc: "Weights of log lines, see tenure_level.",
        constants: &[
            constant("TENURE_LEVEL_ERROR", Level::Error as i32, "What ends a candidacy or needs an operator."),
            constant("TENURE_LEVEL_WARN", Level::Warn as i32, "What may: lost connections, late renewals."),
            constant("TENURE_LEVEL_INFO", Level::Info as i32, "Changes of state."),
            constant("TENURE_LEVEL_DEBUG", Level::Debug as i32, "Every request."),
        ],
    },
];
