//! What may become of a request, and how tests say which one they mean.

use super::world::Service;
use crate::clock::Nanos;
use crate::election::Request;
use crate::store::{Compare, Failure, Op, Range, Txn};

/// A kind of request. A transaction of many parts is of all their kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Any,
    Grant,
    KeepAlive,
    Revoke,
    /// Creates a candidate's key.
    Join,
    /// Changes its value.
    Proclaim,
    /// Deletes it.
    Withdraw,
    /// Reads all candidates for a mirror.
    List,
    /// Looks whether the two keys that are watched from afar are there.
    Distance,
    /// Reads a leader's value for a mirror.
    Value,
    /// A program's own question.
    Read,
    /// A transaction of several parts.
    Group,
}

impl What {
    pub(super) fn of(request: &Request) -> Vec<What> {
        match request {
            Request::Grant { .. } => vec![What::Grant],
            Request::KeepAlive(_) => vec![What::KeepAlive],
            Request::Revoke(_) => vec![What::Revoke],
            Request::Range(_) => vec![What::Read],
            Request::Txn(txn) => What::of_txn(txn),
        }
    }

    fn of_txn(txn: &Txn) -> Vec<What> {
        if let Some(Op::Txn(_)) = txn.then.first() {
            let parts = txn.then.iter().filter_map(|op| if let Op::Txn(inner) = op { Some(inner) } else { None });
            return parts.flat_map(What::of_txn).chain([What::Group]).collect();
        }
        vec![match (&txn.compares[..], txn.then.first()) {
            ([Compare::CreateRevision(_, 0)], _) => What::Join,
            (_, Some(Op::Put { .. })) => What::Proclaim,
            (_, Some(Op::Delete(_))) => What::Withdraw,
            ([_, _, ..], Some(Op::Range(range))) if range.end.is_empty() => What::Distance,
            (_, Some(Op::Range(range))) if range.end.is_empty() => What::Value,
            _ => What::List,
        }]
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Served,
    /// It never arrives; who asked hears nothing until its time is over.
    LoseRequest,
    /// It is served; who asked hears nothing until its time is over.
    LoseAnswer,
    /// It is served; who asked hears of a failure.
    FailAfter(Failure),
    /// It arrives so much later.
    Late(Nanos),
    /// It is served, and its answer comes again so much later.
    Twice(Nanos),
    /// Before a join is served, somebody puts a key of that name on a lease of their own.
    Taken,
    /// It is served, somebody deletes the key that it made, and the answer takes so much longer.
    Undone(Nanos),
    /// It is served; the answer takes so much longer.
    Slow(Nanos),
    /// It is not served; who asked hears so.
    Refuse(Failure),
}

impl Fate {
    pub(super) fn name(self) -> Option<&'static str> {
        Some(match self {
            Fate::Served => return None,
            Fate::LoseRequest => "request lost",
            Fate::LoseAnswer => "request served, answer lost",
            Fate::FailAfter(_) => "request served, failure answered",
            Fate::Late(_) => "request late",
            Fate::Twice(_) => "answer doubled",
            Fate::Taken => "key taken before its join",
            Fate::Undone(_) => "key deleted before its join's answer",
            Fate::Slow(_) => "answer late",
            Fate::Refuse(_) => "request refused",
        })
    }
}

/// The keys that a transaction makes.
pub(super) fn keys_put(txn: &Txn) -> Vec<Vec<u8>> {
    let keys = txn.then.iter().flat_map(|op| match op {
        Op::Put { key, .. } => vec![key.clone()],
        Op::Txn(inner) => keys_put(inner),
        _ => Vec::new(),
    });
    keys.collect()
}

/// Reads nothing: it is asked only for who answers.
pub(super) fn asks_who_answers(request: &Request) -> bool {
    let Request::Txn(Txn { compares, then, otherwise }) = request else { return false };
    let only = |range: &Range| range.key.ends_with(b"\0") && range.end.is_empty();
    compares.is_empty() && otherwise.is_empty() && matches!(then.as_slice(), [Op::Range(range)] if only(range))
}

/// Which requests meet a fate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) service: Option<Service>,
    pub(super) what: What,
    pub(super) fate: Fate,
    pub(super) times: usize,
    /// A test is wrong in which no request meets it.
    pub(super) expected: bool,
}

impl Rule {
    pub(super) fn applies(&self, service: Service, request: &Request) -> bool {
        self.service.is_none_or(|only| only == service)
            && (self.what == What::Any || What::of(request).contains(&self.what))
    }
}
