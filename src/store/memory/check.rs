//! What etcd refuses at the door, whatever the store holds.

use std::collections::HashSet;

use crate::store::{Compare, Failure, Op, StoreError, Txn};

/// `--max-txn-ops` by default.
const MAX_OPS: usize = 128;
/// `--max-request-bytes` by default. etcd counts the encoded request, which has some bytes more than counted here.
const MAX_REQUEST_BYTES: usize = 1536 * 1024;

pub(crate) fn txn(txn: &Txn) -> Result<(), StoreError> {
    check_ops(txn, MAX_OPS)?;
    Writes::of(&txn.then)?;
    Writes::of(&txn.otherwise)?;
    let bytes = size(txn);
    if bytes > MAX_REQUEST_BYTES {
        return Err(StoreError::new(Failure::TooLarge, format!("a request of {bytes} bytes is too large")));
    }
    Ok(())
}

pub(crate) fn key(key: &[u8]) -> Result<(), StoreError> {
    if key.is_empty() {
        return Err(StoreError::new(Failure::Refused, "the key is empty"));
    }
    Ok(())
}

/// A transaction counts as its longest list; what is inside it may have as many operations as are left then, each
/// inner transaction for itself.
fn check_ops(txn: &Txn, max: usize) -> Result<(), StoreError> {
    let ops = txn.compares.len().max(txn.then.len()).max(txn.otherwise.len());
    if ops > max {
        return Err(StoreError::new(Failure::TooManyOps, format!("{ops} operations where {max} are allowed")));
    }
    txn.compares.iter().try_for_each(|compare| key(compared(compare)))?;
    for op in txn.then.iter().chain(&txn.otherwise) {
        match op {
            Op::Put { key: changed, .. } | Op::Delete(changed) => key(changed)?,
            Op::Range(range) => key(&range.key)?,
            Op::Txn(inner) => check_ops(inner, max - ops)?,
        }
    }
    Ok(())
}

/// The keys that a list of operations may change.
#[derive(Default)]
struct Writes<'a> {
    puts: HashSet<&'a [u8]>,
    deletes: HashSet<&'a [u8]>,
}

impl<'a> Writes<'a> {
    /// Refuses two changes of one key. As in etcd, the exception is a delete in an inner transaction behind the inner
    /// transaction that puts the key.
    fn of(ops: &'a [Op]) -> Result<Self, StoreError> {
        let mut writes = Writes::default();
        for op in ops {
            if let Op::Delete(key) = op {
                writes.deletes.insert(key);
            }
        }
        for op in ops {
            if let Op::Txn(inner) = op {
                writes.add_inner(Writes::of(&inner.then)?, Writes::of(&inner.otherwise)?)?;
            }
        }
        for op in ops {
            if let Op::Put { key, .. } = op {
                writes.put(key)?;
            }
        }
        Ok(writes)
    }

    /// Of the two branches only one is taken, so both may put the same key.
    fn add_inner(&mut self, then: Writes<'a>, otherwise: Writes<'a>) -> Result<(), StoreError> {
        for key in then.puts.union(&otherwise.puts) {
            self.put(key)?;
        }
        self.deletes.extend(then.deletes);
        self.deletes.extend(otherwise.deletes);
        Ok(())
    }

    fn put(&mut self, key: &'a [u8]) -> Result<(), StoreError> {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            let key = String::from_utf8_lossy(key);
            return Err(StoreError::new(Failure::Refused, format!("{key} is changed twice in one transaction")));
        }
        Ok(())
    }
}

fn compared(compare: &Compare) -> &[u8] {
    match compare {
        Compare::CreateRevision(key, _) | Compare::ModRevision(key, _) | Compare::Lease(key, _) => key,
    }
}

fn size(txn: &Txn) -> usize {
    let compares = txn.compares.iter().map(|compare| compared(compare).len());
    let ops = txn.then.iter().chain(&txn.otherwise).map(|op| match op {
        Op::Put { key, value, .. } => key.len() + value.len(),
        Op::Delete(key) => key.len(),
        Op::Range(range) => range.key.len() + range.end.len(),
        Op::Txn(inner) => size(inner),
    });
    compares.chain(ops).sum()
}
