//! Between the store's words and etcd's.

use etcd_client::proto::{
    PbEvent, PbKeyValue, PbRangeResponse, PbResponseHeader, PbResponseOp, PbTxnOpResponse, PbTxnResponse,
};
use etcd_client::{
    Compare as EtcdCompare, CompareOp, GetOptions, PutOptions, SortOrder, SortTarget, Txn as EtcdTxn, TxnOp,
};

use super::failure::Problem;
use crate::store::{Compare, Header, KeyValue, Op, OpResult, Order, Range, RangeResult, Txn, TxnResult, WatchEvent};

const PUT: i32 = 0;
const DELETE: i32 = 1;

pub(super) fn txn(txn: Txn) -> EtcdTxn {
    let compares: Vec<EtcdCompare> = txn.compares.into_iter().map(compare).collect();
    let then: Vec<TxnOp> = txn.then.into_iter().map(op).collect();
    let otherwise: Vec<TxnOp> = txn.otherwise.into_iter().map(op).collect();
    EtcdTxn::new().when(compares).and_then(then).or_else(otherwise)
}

fn compare(compare: Compare) -> EtcdCompare {
    match compare {
        Compare::CreateRevision(key, revision) => EtcdCompare::create_revision(key, CompareOp::Equal, revision),
        Compare::ModRevision(key, revision) => EtcdCompare::mod_revision(key, CompareOp::Equal, revision),
        Compare::Lease(key, lease) => EtcdCompare::lease(key, CompareOp::Equal, lease),
    }
}

fn op(op: Op) -> TxnOp {
    match op {
        Op::Put { key, value, lease } => TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease))),
        Op::Delete(key) => TxnOp::delete(key, None),
        Op::Range(range) => {
            let (key, options) = get(range);
            TxnOp::get(key, Some(options))
        }
        Op::Txn(inner) => TxnOp::txn(txn(inner)),
    }
}

/// The key and the options of a get.
pub(super) fn get(range: Range) -> (Vec<u8>, GetOptions) {
    let mut options = GetOptions::new().with_limit(range.limit).with_revision(range.revision);
    if !range.end.is_empty() {
        options = options.with_range(range.end);
    }
    if range.order == Order::CreateRevision {
        options = options.with_sort(SortTarget::Create, SortOrder::Ascend);
    }
    if range.keys_only {
        options = options.with_keys_only();
    }
    (range.key, options)
}

/// An answer without a header tells neither cluster nor revision, so nothing can be concluded from it.
pub(super) fn header(header: Option<PbResponseHeader>) -> Result<Header, Problem> {
    let header = header.ok_or_else(|| Problem::nonsense("the answer has no header"))?;
    Ok(Header { cluster_id: header.cluster_id, revision: header.revision })
}

pub(super) fn txn_result(response: PbTxnResponse) -> Result<TxnResult, Problem> {
    let results = response.responses.into_iter().map(op_result).collect::<Result<_, _>>()?;
    Ok(TxnResult { succeeded: response.succeeded, results })
}

fn op_result(response: PbResponseOp) -> Result<OpResult, Problem> {
    match response.response {
        Some(PbTxnOpResponse::ResponsePut(_)) => Ok(OpResult::Put),
        Some(PbTxnOpResponse::ResponseDeleteRange(response)) => Ok(OpResult::Delete(response.deleted)),
        Some(PbTxnOpResponse::ResponseRange(response)) => Ok(OpResult::Range(range_result(response))),
        Some(PbTxnOpResponse::ResponseTxn(response)) => Ok(OpResult::Txn(txn_result(response)?)),
        None => Err(Problem::nonsense("the answer to a transaction lacks a part")),
    }
}

pub(super) fn range_result(response: PbRangeResponse) -> RangeResult {
    let mut kvs: Vec<KeyValue> = response.kvs.into_iter().map(key_value).collect();
    // etcd's sort leaves keys of one create revision in any order.
    for run in kvs.chunk_by_mut(|a, b| a.create_revision == b.create_revision) {
        run.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    }
    RangeResult { kvs, more: response.more }
}

fn key_value(kv: PbKeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        lease: kv.lease,
    }
}

/// `None`: an event of a kind that this version doesn't know, or without a key.
pub(super) fn event(event: PbEvent) -> Option<WatchEvent> {
    let kv = event.kv?;
    match event.r#type {
        PUT => Some(WatchEvent::Put(key_value(kv))),
        DELETE => Some(WatchEvent::Delete { key: kv.key, revision: kv.mod_revision }),
        _ => None,
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
