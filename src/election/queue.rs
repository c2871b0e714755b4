//! The candidates of one election in the order of etcd's queue: by token, then name. Each name is there once.

use std::collections::{BTreeSet, HashMap};

use super::mirror::Entry;
use crate::store::Revision;

/// Up to so many are a small list: most elections have no more, and a process may stand in ten thousand of them.
const FEW: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) enum Queue {
    /// In order.
    Few(Vec<Entry>),
    /// Whatever is done for one change takes no time that grows with their number: a neighbour may have put a hundred
    /// thousand of them.
    Many(Box<Many>),
}

#[derive(Debug, Default)]
pub(super) struct Many {
    entries: HashMap<Box<[u8]>, Entry>,
    order: BTreeSet<(Revision, Box<[u8]>)>,
}

impl Default for Queue {
    fn default() -> Self {
        Queue::Few(Vec::new())
    }
}

impl Queue {
    pub(super) fn first(&self) -> Option<&Entry> {
        match self {
            Queue::Few(entries) => entries.first(),
            Queue::Many(many) => many.order.first().and_then(|(_, name)| many.entries.get(name)),
        }
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Entry> {
        match self {
            Queue::Few(entries) => entries.iter().find(|entry| *entry.name == *name),
            Queue::Many(many) => many.entries.get(name),
        }
    }

    /// The entry `far / 2 + 1` places before this one, if there are more than `far` before it.
    pub(super) fn far_ahead(&self, name: &[u8], token: Revision, far: usize) -> Option<&Entry> {
        let (places, more) = (far / 2, far - far / 2);
        match self {
            Queue::Few(entries) => {
                let before = entries.partition_point(|other| (other.token, &*other.name) < (token, name));
                (before > far).then(|| &entries[before - 1 - places])
            }
            Queue::Many(many) => {
                let mut before = many.order.range(..(token, name.into())).rev();
                let (_, ahead) = before.nth(places)?;
                (before.take(more).count() == more).then(|| many.entries.get(ahead))?
            }
        }
    }

    /// The caller has removed an earlier one of this name.
    pub(super) fn insert(&mut self, entry: Entry) {
        match self {
            Queue::Few(entries) if entries.len() < FEW => {
                let at = entries.partition_point(|other| (other.token, &other.name) < (entry.token, &entry.name));
                // Not twice as much as is needed: most will stay alone.
                entries.reserve_exact(1);
                entries.insert(at, entry);
            }
            Queue::Few(entries) => {
                let mut many = Box::<Many>::default();
                entries.drain(..).for_each(|entry| many.insert(entry));
                many.insert(entry);
                *self = Queue::Many(many);
            }
            Queue::Many(many) => many.insert(entry),
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Entry> {
        match self {
            Queue::Few(entries) => {
                let at = entries.iter().position(|entry| *entry.name == *name)?;
                Some(entries.remove(at))
            }
            Queue::Many(many) => {
                let entry = many.entries.remove(name)?;
                many.order.remove(&(entry.token, entry.name.clone()));
                Some(entry)
            }
        }
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = &Entry> + '_> {
        match self {
            Queue::Few(entries) => Box::new(entries.iter()),
            Queue::Many(many) => Box::new(many.order.iter().filter_map(|(_, name)| many.entries.get(name))),
        }
    }
}

impl Many {
    fn insert(&mut self, entry: Entry) {
        self.order.insert((entry.token, entry.name.clone()));
        self.entries.insert(entry.name.clone(), entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, token: Revision) -> Entry {
        Entry { name: name.as_bytes().into(), token, changed: token, lease: None, value: None }
    }

    fn names(queue: &Queue) -> String {
        queue.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn few_and_many_are_in_the_same_order() {
        let mut queue = Queue::default();
        assert!(queue.first().is_none() && queue.get(b"a").is_none() && queue.remove(b"a").is_none());
        // Every number below the prime 29, all mixed.
        let numbers = (1..29).map(|k| k * 11 % 29);
        for (count, number) in numbers.clone().enumerate() {
            queue.insert(entry(&format!("{number:02}"), number));
            let mut expected: Vec<_> = numbers.clone().take(count + 1).map(|number| format!("{number:02}")).collect();
            expected.sort();
            assert_eq!(names(&queue), expected.join(" "));
            assert_eq!(queue.first().map(|first| &*first.name), Some(expected[0].as_bytes()));
            assert_eq!(matches!(queue, Queue::Many(_)), count >= FEW);
            for (far, place) in (0..30).flat_map(|far| (0..=count).map(move |place| (far, place))) {
                let ahead = queue.far_ahead(expected[place].as_bytes(), expected[place].parse().unwrap(), far);
                let right = (place > far).then(|| expected[place - 1 - far / 2].as_bytes());
                assert_eq!(ahead.map(|entry| &*entry.name), right, "{place} of {count}, far {far}");
            }
        }
        for number in numbers {
            let name = format!("{number:02}");
            assert_eq!(queue.get(name.as_bytes()).map(|known| known.token), Some(number));
            assert_eq!(queue.remove(name.as_bytes()).map(|gone| gone.token), Some(number));
            assert!(queue.get(name.as_bytes()).is_none());
        }
        assert_eq!(names(&queue), "");
    }

    #[test]
    fn of_equal_tokens_the_name_decides() {
        let mut queue = Queue::default();
        for name in ["b", "c", "a"] {
            queue.insert(entry(name, 5));
        }
        queue.insert(entry("d", 4));
        assert_eq!(names(&queue), "d a b c");
    }
}
