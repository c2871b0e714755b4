//! Results that the library allocates and the C program reads and frees: errors, events, candidates.
//!
//! The program gets a real pointer, but freeing goes through a table of those alive, so that freeing twice, freeing
//! what a callback was shown, or freeing by the wrong function does nothing instead of corrupting the heap. A result
//! freed a second time when a newer one has its address ends that one; that is what real pointers cost.

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::c_char;
use std::sync::{Arc, Mutex, PoisonError};

/// Something that is handed to C as a pointer to its public part.
pub(crate) trait Shared: Any + Send + Sync {
    /// The struct that the header declares.
    type Public;
    /// The part that C sees.
    fn public(&self) -> &Self::Public;
}

/// The results alive, by address.
pub(crate) struct Results {
    live: Mutex<BTreeMap<usize, Arc<dyn Any + Send + Sync>>>,
}

impl Results {
    pub(crate) const fn new() -> Self {
        Results { live: Mutex::new(BTreeMap::new()) }
    }

    /// How many are out.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn len(&self) -> usize {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Hands `result` to the C program.
    pub(crate) fn give<S: Shared>(&self, result: S) -> *mut S::Public {
        let result = Arc::new(result);
        let public = std::ptr::from_ref(result.public()).cast_mut();
        self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(public.addr(), result);
        public
    }

    /// Takes a result back; nothing where `public` is none that was given as an `S` and is still out.
    pub(crate) fn take<S: Shared>(&self, public: *const S::Public) -> Option<Arc<S>> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if !live.get(&public.addr())?.is::<S>() {
            return None;
        }
        live.remove(&public.addr())?.downcast().ok()
    }
}

/// The texts of one result in one allocation, each followed by a NUL.
#[derive(Default)]
pub(crate) struct Texts {
    /// A `Vec`, whose contents stay where they are when it moves.
    bytes: Vec<u8>,
}

/// Where a text lies in its [`Texts`].
#[derive(Clone, Copy)]
pub(crate) struct Place(usize);

impl Texts {
    /// With room for this many bytes beside the NULs.
    pub(crate) fn with_room(bytes: usize) -> Self {
        Texts { bytes: Vec::with_capacity(bytes + 8) }
    }

    /// Adds bytes as they are.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Place {
        let place = Place(self.bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.bytes.push(0);
        place
    }

    /// Adds a text for readers of NUL-terminated strings, so a NUL inside becomes a replacement character.
    pub(crate) fn add_text(&mut self, text: &str) -> Place {
        if text.contains('\0') {
            self.add(text.replace('\0', "\u{FFFD}").as_bytes())
        } else {
            self.add(text.as_bytes())
        }
    }

    /// The address of a text. To be asked for when all texts are in.
    pub(crate) fn at(&self, place: Place) -> *const c_char {
        self.bytes[place.0..].as_ptr().cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Number(u32);
    impl Shared for Number {
        type Public = u32;
        fn public(&self) -> &u32 {
            &self.0
        }
    }
    struct Other(u32);
    impl Shared for Other {
        type Public = u32;
        fn public(&self) -> &u32 {
            &self.0
        }
    }

    #[test]
    fn a_result_is_taken_back_once_and_by_its_own_type() {
        let results = Results::new();
        let public = results.give(Number(7));
        assert!(results.take::<Other>(public).is_none());
        assert!(results.take::<Number>(std::ptr::null()).is_none());
        assert_eq!(results.take::<Number>(public).unwrap().0, 7);
        assert!(results.take::<Number>(public).is_none());
        assert!(results.take::<Other>(results.give(Other(8))).is_some());
    }

    #[test]
    fn texts_end_with_nul_and_hold_none() {
        let mut texts = Texts::with_room(0);
        let (first, second) = (texts.add(b"a\0b"), texts.add_text("c\0d"));
        assert_eq!(texts.bytes, "a\0b\0c\u{FFFD}d\0".as_bytes());
        assert_eq!(texts.at(second).addr() - texts.at(first).addr(), 4);
    }
}
