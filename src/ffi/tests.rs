//! What the tests of this folder share.

use crate::error::Code;
use crate::events::{State, Status};

/// A campaign's status with something in every field.
pub(super) fn status(state: State) -> Status {
    Status {
        sequence: 3,
        time_ns: 45,
        state,
        at_risk: true,
        reason: Code::SessionExpired,
        message: "no renewal\0 for 10 s".into(),
        election: "shard-7".into(),
        value: b"a\0b".as_slice().into(),
        token: 42,
        cluster_id: u64::MAX,
        revision: 43,
        deadline_ns: 44,
    }
}
