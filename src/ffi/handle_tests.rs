//! Only a live handle of the right type and process means something.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::ffi::options::{OptionsEntry, tenure_options_new};

fn entry() -> Arc<OptionsEntry> {
    Arc::default()
}

fn insert(registry: &Registry) -> *mut tenure_options {
    registry.insert(entry()).unwrap()
}

fn handle(address: usize) -> *const tenure_options {
    std::ptr::without_provenance(address)
}

const GONE: Bad = Bad::Invalid { really: None };

fn bad(registry: &Registry, handle: *const tenure_options) -> Bad {
    let error = registry.get(handle).err().unwrap();
    assert_eq!(registry.peek(handle, |_| ()).unwrap_err(), error);
    assert_eq!(registry.remove(handle).err().unwrap(), error);
    error
}

#[test]
fn a_handle_means_its_object_until_it_is_freed() {
    let registry = Registry::new(0);
    let made = entry();
    let handle = registry.insert::<tenure_options>(made.clone()).unwrap();
    assert!(Arc::ptr_eq(&registry.get(handle).unwrap(), &made));
    assert!(registry.peek(handle, |found| std::ptr::eq(found, &*made)).unwrap());
    assert!(registry.find(handle.addr()).is_some());
    assert!(Arc::ptr_eq(&registry.remove(handle).unwrap(), &made));
    assert_eq!(bad(&registry, handle), GONE);
    assert!(registry.find(handle.addr()).is_none());
    assert_eq!(Arc::strong_count(&made), 1);
}

#[test]
fn a_stale_handle_never_means_the_next_object_of_its_slot() {
    let registry = Registry::new(0);
    let mut seen = HashSet::new();
    for _ in 0..1000 {
        let handle = insert(&registry);
        assert!(seen.insert(handle.addr()));
        registry.remove(handle).unwrap();
    }
    let live: Vec<_> = (0..200).map(|_| insert(&registry)).collect();
    for address in seen {
        assert_eq!(bad(&registry, handle(address)), GONE);
    }
    assert!(live.iter().all(|handle| registry.get(*handle).is_ok()));
}

#[test]
fn whoever_frees_a_stale_handle_again_holds_up_no_look_at_the_next_object_of_its_slot() {
    let registry = Registry::new(0);
    let used: Vec<usize> = (0..2 * FIRST_CHUNK)
        .map(|_| {
            let handle = insert(&registry);
            registry.remove(handle).unwrap();
            handle.addr()
        })
        .collect();
    let live = insert(&registry).addr();
    let stale = used.into_iter().find(|stale| Id(*stale).place() == Id(live).place()).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                assert!(registry.remove(handle(stale)).is_err());
            }
        });
        let in_vain = (0..200_000).filter(|_| registry.peek(handle(live), |_| ()).is_err()).count();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(in_vain, 0);
    });
}

#[test]
fn foreign_pointers_mean_nothing() {
    let registry = Registry::new(0);
    let live = insert(&registry).addr();
    let local = 0u8;
    for address in [1, 8, usize::MAX, usize::MAX >> 1, std::ptr::from_ref(&local).addr(), TAG << 56] {
        assert_eq!(bad(&registry, handle(address)), GONE, "{address:#x}");
    }
    for bit in 0..64 {
        let address = live ^ (1 << bit);
        let error = bad(&registry, handle(address));
        match bit {
            44..53 => assert_eq!(error, Bad::Forked),
            _ => assert!(matches!(error, Bad::Invalid { .. }), "bit {bit}"),
        }
    }
    assert!(registry.get(handle(live)).is_ok());
}

#[test]
fn a_handle_of_another_type_is_named() {
    let registry = Registry::new(0);
    let campaign: *const tenure_campaign = insert(&registry).cast();
    let error = registry.get(campaign).err().unwrap();
    assert_eq!(error, Bad::Invalid { really: Some("tenure_options") });
    let error = error.error::<tenure_campaign>("campaign");
    assert_eq!(error.code(), Code::InvalidHandle);
    assert_eq!(error.message(), "argument `campaign`: is a tenure_options, not a tenure_campaign");
}

#[test]
fn a_handle_of_another_depth_is_forked() {
    let (parent, child) = (Registry::new(0), Registry::new(1));
    let inherited = insert(&parent);
    let own = insert(&child);
    assert_ne!(inherited.addr(), own.addr());
    assert_eq!(bad(&child, inherited), Bad::Forked);
    assert_eq!(bad(&parent, own), Bad::Forked);
    assert!(parent.get(inherited).is_ok() && child.get(own).is_ok());
}

#[test]
fn looking_never_waits_for_a_free_in_progress() {
    let registry = Registry::new(0);
    let handle = insert(&registry);
    let slot = registry.slot(handle).unwrap();
    let freeing = slot.content.write().unwrap();
    assert_eq!(registry.peek(handle, |_| ()).unwrap_err(), GONE);
    drop(freeing);
    assert!(registry.peek(handle, |_| ()).is_ok());
}

#[test]
fn a_worn_out_slot_is_never_used_again() {
    let registry = Registry::new(0);
    let first = insert(&registry);
    registry.slot(first).unwrap().content.write().unwrap().counter = COUNTER_MASK - 1;
    registry.remove(first).unwrap();
    let slot = Id(first.addr()).place();
    let mut uses = 0;
    for _ in 0..1000 {
        let handle = insert(&registry);
        uses += usize::from(Id(handle.addr()).place() == slot);
        registry.remove(handle).unwrap();
    }
    assert_eq!(uses, 1);
}

#[test]
fn slots_lie_in_chunks_without_gap_or_overlap() {
    let mut expected = (0..CHUNKS).flat_map(|chunk| (0..FIRST_CHUNK << chunk).map(move |place| (chunk, place)));
    let all = (FIRST_CHUNK << CHUNKS) - FIRST_CHUNK;
    for index in 0..all {
        let place = place_of(index);
        assert_eq!(Some(place), expected.next());
        assert_eq!(Id::new(1, 511, COUNTER_MASK, place).place(), place);
    }
    assert_eq!(expected.next(), None);
    assert_eq!(place_of(all), (CHUNKS, 0));
}

#[test]
fn room_that_is_not_filled_is_free_again() {
    let registry = Registry::new(0);
    for _ in 0..100 {
        drop(registry.reserve().unwrap());
    }
    assert!(registry.free().unused <= FIRST_CHUNK);
    insert(&registry);
}

#[test]
fn when_all_slots_are_taken_a_handle_is_refused() {
    let registry = Registry::new(0);
    registry.free().unused = (FIRST_CHUNK << CHUNKS) - FIRST_CHUNK;
    assert_eq!(registry.insert::<tenure_options>(entry()).unwrap_err().code(), Code::System);
    registry.free().places.push_back((0, 7));
    registry.remove(insert(&registry)).unwrap();
}

#[test]
fn threads_that_free_the_same_handle_free_it_once() {
    let registry = Registry::new(0);
    for _ in 0..200 {
        let address = insert(&registry).addr();
        let freed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| usize::from(registry.remove(handle(address)).is_ok()))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(freed, 1);
    }
}

#[test]
fn handles_of_the_c_functions_live_in_the_process_table() {
    let mut out = std::mem::MaybeUninit::uninit();
    assert_eq!(tenure_options_new(Some(&mut out), None), 0);
    // SAFETY: the call succeeded, and writes in any case.
    let handle = unsafe { out.assume_init() };
    assert!(crate::process::level().handles.remove(handle).is_ok());
}
