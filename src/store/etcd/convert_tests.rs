use super::*;
use crate::store::Failure;

fn pb_key(key: &str, create_revision: i64) -> PbKeyValue {
    PbKeyValue {
        key: key.into(),
        value: b"v".to_vec(),
        create_revision,
        mod_revision: create_revision + 1,
        version: 2,
        lease: 7,
    }
}

#[test]
fn keys_of_one_create_revision_come_in_order() {
    let kvs = vec![pb_key("z", 1), pb_key("c", 5), pb_key("b", 5), pb_key("a", 9)];
    let result = range_result(PbRangeResponse { kvs, more: true, count: 9, header: None });
    let keys: Vec<&[u8]> = result.kvs.iter().map(|kv| kv.key.as_slice()).collect();
    assert_eq!(keys, [b"z", b"b", b"c", b"a"]);
    assert!(result.more);
    assert_eq!((result.kvs[3].mod_revision, result.kvs[3].lease), (10, 7));
}

#[test]
fn events_of_unknown_kind_or_without_a_key_are_left_out() {
    let put = PbEvent { r#type: PUT, kv: Some(pb_key("a", 3)), prev_kv: None };
    let deleted = PbKeyValue { key: b"a".to_vec(), mod_revision: 8, ..Default::default() };
    let delete = PbEvent { r#type: DELETE, kv: Some(deleted), prev_kv: None };
    let unknown = PbEvent { r#type: 7, kv: Some(pb_key("a", 3)), prev_kv: None };
    let empty = PbEvent { r#type: PUT, kv: None, prev_kv: None };
    assert!(matches!(event(put), Some(WatchEvent::Put(kv)) if kv.create_revision == 3 && kv.value == b"v"));
    assert_eq!(event(delete), Some(WatchEvent::Delete { key: b"a".to_vec(), revision: 8 }));
    assert_eq!(event(unknown), None);
    assert_eq!(event(empty), None);
}

#[test]
fn an_answer_without_header_or_with_a_hole_is_an_unknown_outcome() {
    assert_eq!(header(None).unwrap_err().failure, Failure::Unknown);
    let response = PbTxnResponse { responses: vec![PbResponseOp { response: None }], ..Default::default() };
    assert_eq!(txn_result(response).unwrap_err().failure, Failure::Unknown);
}

#[test]
fn a_nested_answer_keeps_its_shape() {
    let put = || PbResponseOp { response: Some(PbTxnOpResponse::ResponsePut(Default::default())) };
    let inner = PbTxnResponse { succeeded: true, responses: vec![put()], header: None };
    let deleted = etcd_client::proto::PbDeleteResponse { deleted: 2, ..Default::default() };
    let responses = vec![
        PbResponseOp { response: Some(PbTxnOpResponse::ResponseTxn(inner)) },
        PbResponseOp { response: Some(PbTxnOpResponse::ResponseDeleteRange(deleted)) },
    ];
    let result = txn_result(PbTxnResponse { succeeded: false, responses, header: None });
    let inner = TxnResult { succeeded: true, results: vec![OpResult::Put] };
    let expected = TxnResult { succeeded: false, results: vec![OpResult::Txn(inner), OpResult::Delete(2)] };
    assert_eq!(result, Ok(expected));
}
