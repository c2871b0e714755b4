//! Group commit: small transactions that arrive while others are under way travel together, nested in one.

use std::collections::VecDeque;

use super::CallId;
use crate::store::{Failure, Op, OpResult, Txn, TxnResult};

/// Transactions under way at once before others wait to be joined.
const IN_FLIGHT: usize = 4;

/// Parts of one transaction: with two operations each they stay below etcd's default `--max-txn-ops` of 128, which
/// counts the outer operations and the largest inner transaction together (`checkTxnRequest` in api/v3rpc/key.go).
const PARTS: usize = 100;

/// Bytes of one transaction, well below etcd's default request limit of 1.5 MiB.
const BYTES: usize = 512 * 1024;

/// Room for so many is kept when the queue has run empty: one for ten thousand would stay for good.
pub(super) const SPARE: usize = 64;

/// A transaction of one campaign or list.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) id: CallId,
    pub(crate) txn: Txn,
    /// It was refused in company, maybe for another's sake: now it goes by itself.
    pub(crate) alone: bool,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Batch {
    queue: VecDeque<Part>,
    in_flight: usize,
    parts: usize,
    bytes: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Batch { queue: VecDeque::new(), in_flight: 0, parts: PARTS, bytes: BYTES }
    }

    pub(crate) fn push(&mut self, part: Part) {
        self.queue.push_back(part);
    }

    /// Takes back a part that waits to be sent, or to be sent again singly; what its group did is the caller's to know.
    pub(crate) fn cancel(&mut self, id: CallId) -> bool {
        let before = self.queue.len();
        self.queue.retain(|part| part.id != id);
        self.queue.len() < before
    }

    /// Takes back all that has not been sent.
    pub(crate) fn drain(&mut self) -> VecDeque<Part> {
        std::mem::take(&mut self.queue)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The parts to send now as one transaction, if there is a free slot; `late`: slot or no slot, since those in
    /// the slots take long.
    pub(crate) fn take(&mut self, late: bool) -> Option<Vec<Part>> {
        if self.queue.is_empty() || (self.in_flight >= IN_FLIGHT && !late) {
            return None;
        }
        self.in_flight += 1;
        let mut group = Vec::new();
        let mut bytes = 0;
        while let Some(part) = self.queue.front() {
            bytes += size(&part.txn);
            let fits = group.is_empty() || (!part.alone && group.len() < self.parts && bytes <= self.bytes);
            if !fits {
                break;
            }
            let alone = part.alone;
            group.extend(self.queue.pop_front());
            if alone {
                break;
            }
        }
        if self.queue.is_empty() {
            self.queue.shrink_to(SPARE);
        }
        // A list is taken for true at the transaction's revision, so it has to see all of its changes.
        group.sort_by_key(|part| only_reads(&part.txn));
        Some(group)
    }

    /// A transaction of so many parts was answered.
    pub(crate) fn answered(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// A group was refused: if for its size, the next ones are smaller.
    pub(crate) fn refused(&mut self, group: &[Part], failure: Failure) {
        match failure {
            Failure::TooManyOps => self.parts = self.parts.min((group.len() / 2).max(1)),
            Failure::TooLarge => {
                let bytes: usize = group.iter().map(|part| size(&part.txn)).sum();
                self.bytes = self.bytes.min(bytes / 2);
            }
            _ => {}
        }
    }
}

/// The one transaction that a group is sent as.
pub(crate) fn join(group: &[Part]) -> Txn {
    match group {
        [part] => part.txn.clone(),
        parts => Txn { then: parts.iter().map(|part| Op::Txn(part.txn.clone())).collect(), ..Txn::default() },
    }
}

/// Each part's own result. `None` if the store broke its contract.
pub(crate) fn split(parts: usize, result: TxnResult) -> Option<Vec<TxnResult>> {
    if parts == 1 {
        return Some(vec![result]);
    }
    let results: Option<Vec<TxnResult>> = result
        .results
        .into_iter()
        .map(|result| if let OpResult::Txn(inner) = result { Some(inner) } else { None })
        .collect();
    results.filter(|results| results.len() == parts)
}

fn only_reads(txn: &Txn) -> bool {
    txn.then.iter().all(|op| matches!(op, Op::Range(_)))
}

fn size(txn: &Txn) -> usize {
    txn.then.iter().chain(&txn.otherwise).map(op_size).sum()
}

fn op_size(op: &Op) -> usize {
    match op {
        Op::Put { key, value, .. } => key.len() + value.len() + 64,
        Op::Txn(txn) => size(txn),
        Op::Delete(_) | Op::Range(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(id: CallId, bytes: usize) -> Part {
        let put = Op::Put { key: vec![b'k'], value: vec![0; bytes], lease: 0 };
        Part { id, txn: Txn { then: vec![put], ..Txn::default() }, alone: false }
    }

    fn ids(group: Option<Vec<Part>>) -> Vec<CallId> {
        group.unwrap_or_default().iter().map(|part| part.id).collect()
    }

    #[test]
    fn a_lone_call_goes_at_once_and_by_itself() {
        let mut batch = Batch::new();
        batch.push(part(1, 10));
        let group = batch.take(false).unwrap();
        assert_eq!(join(&group), group[0].txn);
        assert!(batch.take(false).is_none());
    }

    #[test]
    fn calls_that_arrive_while_the_slots_are_busy_go_together() {
        let mut batch = Batch::new();
        for id in 0..IN_FLIGHT as CallId {
            batch.push(part(id, 1));
            assert_eq!(ids(batch.take(false)), [id]);
        }
        for id in 10..13 {
            batch.push(part(id, 1));
        }
        assert!(batch.take(false).is_none());
        batch.answered();
        assert_eq!(ids(batch.take(false)), [10, 11, 12]);
        batch.push(part(20, 1));
        assert_eq!(ids(batch.take(true)), [20], "late parts don't wait for a slot");
    }

    #[test]
    fn groups_keep_to_the_limits_of_parts_and_bytes() {
        let mut batch = Batch::new();
        (0..150).for_each(|id| batch.push(part(id, 1)));
        assert_eq!(batch.take(false).unwrap().len(), PARTS);
        batch.take(false);
        (0..3).for_each(|id| batch.push(part(id, BYTES / 2)));
        assert_eq!(ids(batch.take(false)), [0]);
    }

    #[test]
    fn a_group_refused_for_its_size_makes_the_next_ones_smaller_in_just_that() {
        let (mut batch, mut sent) = (Batch::new(), Vec::new());
        for count in [20, 100] {
            (0..count).for_each(|id| batch.push(part(id, 1)));
            sent.push(batch.take(false).unwrap());
        }
        sent.iter().for_each(|group| batch.refused(group, Failure::TooManyOps));
        (0..30).for_each(|id| batch.push(part(id, 1)));
        let group = batch.take(false).unwrap();
        assert_eq!(group.len(), 10, "the smaller refusal counts, in whatever order they come");
        batch.refused(&group, Failure::TooLarge);
        assert_eq!(batch.take(true).unwrap().len(), 5);
    }

    #[test]
    fn what_was_refused_in_company_goes_alone() {
        let mut batch = Batch::new();
        batch.push(Part { alone: true, ..part(1, 1) });
        batch.push(part(2, 1));
        batch.push(Part { alone: true, ..part(3, 1) });
        assert_eq!(ids(batch.take(false)), [1]);
        assert_eq!(ids(batch.take(false)), [2]);
        assert_eq!(ids(batch.take(false)), [3]);
    }

    #[test]
    fn a_part_can_be_taken_back_until_it_is_sent() {
        let mut batch = Batch::new();
        batch.push(part(1, 1));
        assert!(batch.cancel(1) && !batch.cancel(1) && batch.is_empty());
    }

    #[test]
    fn an_answer_of_the_wrong_shape_is_noticed() {
        assert!(split(2, TxnResult::default()).is_none());
        let two = TxnResult { succeeded: true, results: vec![OpResult::Put, OpResult::Put] };
        assert!(split(2, two).is_none());
    }
}
