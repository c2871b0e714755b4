//! The candidates of one election as a copy in revision order, fed by a list and a watch.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::queue::Queue;
use crate::store::{LeaseId, Revision};

/// Values up to this size, in bytes, are kept; a larger one is read when it is needed. So a neighbour's flood of
/// huge values can't fill our memory.
pub(crate) const KEPT_VALUE_BYTES: usize = 16 * 1024;

/// All values of a mirror together, in bytes: nor can a flood of small ones.
const KEPT_VALUES_BYTES: usize = 64 * KEPT_VALUE_BYTES;

/// Changes that wait for a list keep their values up to this number.
const KEPT_CHANGES: usize = 64;

/// A candidate's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The key below the election's prefix.
    pub(crate) name: Box<[u8]>,
    pub(crate) token: Revision,
    /// Revision of its last change: tells which of two reports is the newer one.
    pub(crate) changed: Revision,
    /// `None`: not known here; etcd since 3.7 lists keys alone without it.
    pub(crate) lease: Option<LeaseId>,
    /// `None`: not known here, read it.
    pub(crate) value: Option<Arc<[u8]>>,
}

/// A change below the election's prefix.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put { entry: Entry, revision: Revision },
    Delete { name: Box<[u8]>, revision: Revision },
}

impl Change {
    fn revision(&self) -> Revision {
        match self {
            Change::Put { revision, .. } | Change::Delete { revision, .. } => *revision,
        }
    }

    /// Puts it behind those that wait.
    pub(crate) fn wait_in(mut self, waiting: &mut Vec<Change>) {
        if let Change::Put { entry, .. } = &mut self
            && waiting.len() >= KEPT_CHANGES
        {
            entry.value = None;
        }
        waiting.push(self);
    }
}

/// The copy. It is whole ("synced") after a list that was read while the watch was open, until the watch breaks.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    queue: Queue,
    /// Bytes of all values.
    kept: usize,
    nested: BTreeSet<Box<[u8]>>,
    /// All changes up to here are in; never falls while synced.
    revision: Revision,
    synced: bool,
    /// Changes that came before the list's answer.
    early: Vec<Change>,
}

impl Mirror {
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// Whole, and all is known of the leader, if there is one.
    pub(crate) fn is_complete(&self) -> bool {
        self.synced && self.leader().is_none_or(|leader| leader.value.is_some() && leader.lease.is_some())
    }

    /// The lowest candidate.
    pub(crate) fn leader(&self) -> Option<&Entry> {
        self.queue.first()
    }

    /// A key of another election below this one.
    pub(crate) fn nested(&self) -> Option<&[u8]> {
        self.nested.first().map(|name| &**name)
    }

    /// Whether the candidate of this name, token and lease is the lowest; `None` if it isn't there, or not on that
    /// lease any more.
    pub(crate) fn is_lowest(&self, name: &[u8], token: Revision, lease: LeaseId) -> Option<bool> {
        let entry = self.queue.get(name).filter(|entry| entry.token == token)?;
        let lowest = self.leader().is_some_and(|leader| *leader.name == *name);
        entry.lease.is_none_or(|held| held == lease).then_some(lowest)
    }

    /// A candidate about `far / 2` places before this one, if that has more than `far` before it.
    pub(crate) fn far_ahead(&self, name: &[u8], token: Revision, far: usize) -> Option<&Entry> {
        self.queue.far_ahead(name, token, far)
    }

    /// Sets what was read apart of a candidate, unless the watch has told something newer meanwhile.
    pub(crate) fn complete(&mut self, read: Entry) {
        let older = |known: &Entry| known.token == read.token && known.changed <= read.changed;
        if self.queue.get(&read.name).is_some_and(older) {
            self.remove(&read.name.clone());
            self.insert(read);
        }
    }

    /// The watch broke: the copy is only the last state known.
    pub(crate) fn unsync(&mut self) {
        self.synced = false;
        self.early.clear();
    }

    /// Everything was of another cluster.
    pub(crate) fn forget(&mut self) {
        *self = Mirror::default();
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.early.len()
    }

    /// A list is asked for now, which will know what was told before.
    pub(crate) fn list_begins(&mut self) {
        self.early.clear();
    }

    /// A list of all keys below the prefix at a revision, read after the watch was opened.
    pub(crate) fn list(&mut self, entries: Vec<Entry>, revision: Revision) {
        self.take_over(entries, revision, Vec::new());
    }

    /// The same, read under another watch, with what that one has told: from now on it feeds this copy.
    pub(crate) fn take_over(&mut self, entries: Vec<Entry>, revision: Revision, told: Vec<Change>) {
        if !self.synced || revision >= self.revision {
            self.replace(entries, revision);
        }
        let mut changes = std::mem::take(&mut self.early);
        changes.extend(told);
        changes.sort_by_key(Change::revision);
        changes.into_iter().for_each(|change| self.apply(change));
    }

    fn replace(&mut self, entries: Vec<Entry>, revision: Revision) {
        let former = std::mem::take(&mut self.queue);
        self.kept = 0;
        self.nested.clear();
        for mut entry in entries {
            let same = |known: &&Entry| known.token == entry.token && known.changed == entry.changed;
            if let Some(known) = former.get(&entry.name).filter(same) {
                entry.value = entry.value.or_else(|| known.value.clone());
                entry.lease = entry.lease.or(known.lease);
            }
            self.put(entry);
        }
        self.revision = revision;
        self.synced = true;
    }

    /// A change told by the watch. While a list is being read it waits for it; before, the list will know it.
    pub(crate) fn change(&mut self, change: Change, listing: bool) {
        if self.synced {
            self.apply(change);
        } else if listing {
            change.wait_in(&mut self.early);
        }
    }

    /// All changes of one revision come in one message, so this may be called several times for one revision.
    fn apply(&mut self, change: Change) {
        let revision = change.revision();
        if revision < self.revision {
            return;
        }
        match change {
            Change::Put { entry, .. } => self.put(entry),
            Change::Delete { name, .. } => self.delete(&name, revision),
        }
        self.revision = revision;
    }

    fn put(&mut self, mut entry: Entry) {
        if entry.name.contains(&b'/') {
            self.nested.insert(entry.name);
            return;
        }
        // What was read apart may be ahead of the watch.
        if self.queue.get(&entry.name).is_some_and(|known| known.token == entry.token && known.changed > entry.changed)
        {
            return;
        }
        self.remove(&entry.name);
        // The leader's is what somebody may ask for; any other can be read when it leads.
        let leads = self.leader().is_none_or(|leader| (entry.token, &entry.name) < (leader.token, &leader.name));
        let size = entry.value.as_ref().map_or(0, |value| value.len());
        if !leads && self.kept + size > KEPT_VALUES_BYTES {
            entry.value = None;
        }
        self.insert(entry);
    }

    fn insert(&mut self, entry: Entry) {
        self.kept += entry.value.as_ref().map_or(0, |value| value.len());
        self.queue.insert(entry);
    }

    fn remove(&mut self, name: &[u8]) {
        if let Some(entry) = self.queue.remove(name) {
            self.kept -= entry.value.map_or(0, |value| value.len());
        }
    }

    fn delete(&mut self, name: &[u8], revision: Revision) {
        self.nested.remove(name);
        // A key created at this very revision was created after the deletion, or is in the list already.
        if self.queue.get(name).is_some_and(|known| known.token < revision) {
            self.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, token: Revision) -> Entry {
        let value = Some(name.as_bytes().into());
        Entry { name: name.as_bytes().into(), token, changed: token, lease: Some(1), value }
    }

    fn put(name: &str, token: Revision, revision: Revision) -> Change {
        Change::Put { entry: entry(name, token), revision }
    }

    fn delete(name: &str, revision: Revision) -> Change {
        Change::Delete { name: name.as_bytes().into(), revision }
    }

    fn names(mirror: &Mirror) -> String {
        let names = mirror.queue.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned());
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_leader_is_the_lowest_and_the_rest_follow_in_order() {
        let mut mirror = Mirror::default();
        mirror.list(vec![entry("b", 5), entry("a", 7), entry("c", 3)], 9);
        assert_eq!(names(&mirror), "c b a");
        mirror.change(delete("c", 10), true);
        mirror.change(put("c", 11, 11), true);
        assert_eq!(names(&mirror), "b a c");
        assert_eq!(mirror.is_lowest(b"b", 5, 1), Some(true));
        assert_eq!(mirror.is_lowest(b"c", 11, 1), Some(false));
        assert_eq!(mirror.is_lowest(b"c", 11, 2), None, "the same key on another lease is another candidate");
        assert_eq!(mirror.is_lowest(b"c", 3, 1), None, "the same key of a former term, too");
        assert_eq!(mirror.revision(), 11);
    }

    #[test]
    fn changes_before_the_list_wait_for_it_and_old_ones_are_dropped() {
        let mut mirror = Mirror::default();
        mirror.change(delete("a", 4), true);
        mirror.change(put("d", 12, 12), true);
        assert!(!mirror.is_synced() && mirror.leader().is_none());
        mirror.list(vec![entry("a", 6), entry("b", 8)], 10);
        assert_eq!(names(&mirror), "a b d");
        mirror.change(delete("a", 11), true);
        assert_eq!(names(&mirror), "a b d", "revision 11 was seen when 12 was");
    }

    #[test]
    fn a_changed_value_keeps_the_place_in_the_queue() {
        let mut mirror = Mirror::default();
        mirror.list(vec![entry("a", 2), entry("b", 3)], 3);
        let new = Entry { value: Some(b"new"[..].into()), changed: 4, ..entry("a", 2) };
        mirror.change(Change::Put { entry: new, revision: 4 }, true);
        assert_eq!(mirror.leader().and_then(|e| e.value.as_deref()), Some(&b"new"[..]));
        assert_eq!(names(&mirror), "a b");
    }

    #[test]
    fn changes_before_a_list_is_asked_for_are_not_kept() {
        let mut mirror = Mirror::default();
        (0..1000).for_each(|i| mirror.change(put("a", i, i), false));
        assert!(mirror.early.is_empty());
    }

    #[test]
    fn an_older_list_changes_nothing() {
        let mut mirror = Mirror::default();
        mirror.list(vec![entry("a", 2)], 5);
        mirror.list(vec![], 4);
        assert_eq!(names(&mirror), "a");
    }

    #[test]
    fn a_value_is_trusted_while_its_revision_is_the_last() {
        let mut mirror = Mirror::default();
        mirror.list(vec![entry("a", 2)], 5);
        mirror.list(vec![Entry { value: None, ..entry("a", 2) }], 6);
        assert!(mirror.is_complete());
        // The change will be told later than the list that knows it.
        mirror.list(vec![Entry { value: None, changed: 7, ..entry("a", 2) }], 8);
        assert!(!mirror.is_complete());
        mirror.complete(entry("a", 2));
        assert!(!mirror.is_complete(), "read before it changed");
        mirror.complete(Entry { changed: 7, ..entry("a", 2) });
        assert!(mirror.is_complete());
    }

    #[test]
    fn another_watch_takes_over_without_a_gap() {
        for (early, told) in [(vec![4, 5, 6], vec![5, 6, 7]), (vec![6], vec![5, 7]), (vec![], vec![4, 5, 6, 7])] {
            let put = |at: &i64| put(&format!("c{at}"), *at, *at);
            let mut mirror = Mirror::default();
            early.iter().for_each(|at| mirror.change(put(at), true));
            mirror.take_over(vec![entry("c4", 4)], 4, told.iter().map(put).collect());
            assert_eq!((names(&mirror).as_str(), mirror.revision()), ("c4 c5 c6 c7", 7));
        }
        let mut ahead = Mirror::default();
        ahead.list(vec![entry("a", 1), entry("b", 6)], 6);
        ahead.take_over(vec![entry("a", 1)], 4, vec![put("b", 6, 6), delete("a", 7)]);
        assert_eq!(names(&ahead), "b", "an older list, but what was told is newer");
    }

    /// Neighbours put as many keys as they like. Times that grew with the square of their number took minutes here.
    #[test]
    fn a_flood_of_candidates_takes_little_time_and_memory() {
        const FLOOD: i64 = 50_000;
        let value: Arc<[u8]> = vec![0; KEPT_VALUE_BYTES].into();
        let big = |number: i64| Entry { value: Some(value.clone()), ..entry(&format!("{number:x}"), number) };
        let mut mirror = Mirror::default();
        (1..=FLOOD).for_each(|at| mirror.change(Change::Put { entry: big(at), revision: at }, true));
        let waiting =
            mirror.early.iter().filter(|change| matches!(change, Change::Put { entry, .. } if entry.value.is_some()));
        assert_eq!(waiting.count(), KEPT_CHANGES);
        mirror.list((1..=FLOOD).map(big).collect(), FLOOD);
        mirror.list((1..=FLOOD).map(big).collect(), FLOOD);
        for at in 1..=FLOOD {
            mirror.change(Change::Put { entry: Entry { changed: FLOOD + at, ..big(at) }, revision: FLOOD + at }, true);
            assert_eq!(mirror.is_lowest(format!("{at:x}").as_bytes(), at, 1), Some(at == 1));
        }
        let kept = || mirror.queue.iter().filter_map(|entry| entry.value.as_ref()).map(|value| value.len());
        assert!(kept().sum::<usize>() <= KEPT_VALUES_BYTES + KEPT_VALUE_BYTES);
        assert_eq!(kept().sum::<usize>(), mirror.kept);
        assert!(mirror.is_complete(), "the leader's is known");
        (1..FLOOD).for_each(|at| mirror.change(delete(&format!("{at:x}"), 2 * FLOOD + at), true));
        assert_eq!(names(&mirror), format!("{FLOOD:x}"));
        assert_eq!((mirror.queue.iter().count(), mirror.is_complete()), (1, false));
        mirror.complete(Entry { changed: 2 * FLOOD, ..big(FLOOD) });
        assert_eq!((mirror.is_complete(), mirror.kept), (true, KEPT_VALUE_BYTES));
    }

    #[test]
    fn after_a_broken_watch_a_list_is_needed() {
        let mut mirror = Mirror::default();
        mirror.list(vec![entry("a", 2)], 5);
        mirror.unsync();
        mirror.change(delete("a", 7), true);
        assert_eq!((names(&mirror).as_str(), mirror.is_complete()), ("a", false), "the last state known");
        mirror.list(vec![entry("a", 2)], 6);
        assert_eq!((names(&mirror).as_str(), mirror.is_complete()), ("", true));
    }

    #[test]
    fn nested_keys_are_no_candidates_but_known() {
        let mut mirror = Mirror::default();
        mirror.list(vec![entry("x/1", 1), entry("a", 2)], 2);
        assert_eq!((names(&mirror).as_str(), mirror.nested()), ("a", Some(&b"x/1"[..])));
        mirror.change(delete("x/1", 3), true);
        assert_eq!(mirror.nested(), None);
        (0..1000).for_each(|i| mirror.change(put(&format!("n/{i}"), 10 + i, 10 + i), true));
        (0..999).for_each(|i| mirror.change(delete(&format!("n/{i}"), 2000 + i), true));
        assert_eq!(mirror.nested(), Some(&b"n/999"[..]), "none of many is forgotten");
    }
}
