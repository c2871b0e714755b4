//! Every order in which threads may use and free one handle; see `crate::sync`.

use loom::thread;

use super::*;
use crate::ffi::options::OptionsEntry;
use crate::sync::check;

fn new() -> (Arc<Registry>, Arc<OptionsEntry>, usize) {
    let registry = Arc::new(Registry::new(0));
    let entry: Arc<OptionsEntry> = Arc::default();
    let handle = registry.insert::<tenure_options>(entry.clone()).unwrap();
    (registry, entry, handle.addr())
}

fn handle(address: usize) -> *const tenure_options {
    std::ptr::without_provenance(address)
}

#[test]
fn a_handle_freed_while_others_use_it_means_its_object_or_nothing() {
    check("free and use", 3, || {
        let (registry, entry, address) = new();
        let users: Vec<_> = (0..2)
            .map(|user| {
                let (registry, entry) = (registry.clone(), entry.clone());
                thread::spawn(move || {
                    if user == 0 {
                        match registry.get(handle(address)) {
                            Ok(found) => assert!(Arc::ptr_eq(&found, &entry)),
                            Err(bad) => assert_eq!(bad, Bad::Invalid { really: None }),
                        }
                    } else if let Ok(found) = registry.peek(handle(address), |found| std::ptr::eq(found, &*entry)) {
                        assert!(found);
                    }
                })
            })
            .collect();
        assert!(Arc::ptr_eq(&registry.remove(handle(address)).unwrap(), &entry));
        assert!(registry.get(handle(address)).is_err());
        for user in users {
            user.join().unwrap();
        }
        assert_eq!(Arc::strong_count(&entry), 1, "nothing keeps the object");
    });
}

#[test]
fn a_handle_freed_by_two_threads_is_freed_by_one() {
    check("two frees", 3, || {
        let (registry, _entry, address) = new();
        let other = {
            let registry = registry.clone();
            thread::spawn(move || registry.remove(handle(address)).is_ok())
        };
        let here = registry.remove(handle(address)).is_ok();
        assert!(here != other.join().unwrap());
    });
}

#[test]
fn a_handle_that_was_freed_never_means_the_next_object_of_its_slot() {
    check("next object", 3, || {
        let (registry, entry, address) = new();
        let user = {
            let (registry, entry) = (registry.clone(), entry.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    if let Ok(found) = registry.get(handle(address)) {
                        assert!(Arc::ptr_eq(&found, &entry));
                    }
                }
                registry.remove(handle(address)).is_ok()
            })
        };
        let freed = registry.remove(handle(address)).is_ok();
        let next: Arc<OptionsEntry> = Arc::default();
        let made = registry.insert::<tenure_options>(next.clone()).unwrap();
        assert!(freed != user.join().unwrap());
        assert!(Arc::ptr_eq(&registry.get(made).ok().unwrap(), &next), "another's free must not end it");
    });
}

#[test]
fn two_threads_that_make_handles_get_two() {
    check("two handles", 2, || {
        let (registry, _entry, address) = new();
        let freer = {
            let registry = registry.clone();
            thread::spawn(move || registry.remove(handle(address)).is_ok())
        };
        let maker = {
            let registry = registry.clone();
            thread::spawn(move || {
                let entry: Arc<OptionsEntry> = Arc::default();
                let made = registry.insert::<tenure_options>(entry.clone()).unwrap();
                assert!(Arc::ptr_eq(&registry.get(made).ok().unwrap(), &entry));
                made.addr()
            })
        };
        let entry: Arc<OptionsEntry> = Arc::default();
        let made = registry.insert::<tenure_options>(entry.clone()).unwrap();
        assert!(freer.join().unwrap());
        let other = maker.join().unwrap();
        assert!(made.addr() != other && made.addr() != address && other != address);
        assert!(Arc::ptr_eq(&registry.get(made).ok().unwrap(), &entry));
    });
}
