//! The handles that C programs hold: ids made to look like pointers, never dereferenced.
//!
//! An id says which slot of the table it means and which of the slot's successive objects, so an id of a freed object
//! never means the next one. Its top byte is not that of any address of a program. Slots never move and are never
//! freed; each has a lock of its own, held for a look only, never while a call waits.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, TryLockError};

use once_cell::race::OnceBox;

use super::campaign::{CampaignEntry, tenure_campaign};
use super::observer::{ObserverEntry, tenure_observer};
use super::options::{CampaignOptionsEntry, OptionsEntry, tenure_campaign_options, tenure_options};
use super::service::{ServiceEntry, tenure_service};
use crate::error::{Code, Error};
use crate::sync::{Mutex, MutexGuard, RwLock};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("handles are 64-bit ids; a 32-bit target needs a layout of its own");

/// An opaque type of the header, and what stands behind it.
pub(crate) trait Handle {
    /// What the handle is an id of.
    type Entry;
    /// Distinguishes the types within ids.
    const KIND: usize;
    /// The C type's name, for messages.
    const NAME: &'static str;
    fn object(entry: Arc<Self::Entry>) -> Object;
    fn entry(object: &Object) -> Option<&Arc<Self::Entry>>;
}

macro_rules! handles {
    ($($c_type:ident = $kind:literal, $variant:ident($entry:ident);)+) => {
        /// What a handle can stand for.
        #[derive(Clone)]
        pub(crate) enum Object {
            $($variant(Arc<$entry>),)+
        }

        /// The C types' names, for messages.
        fn name_of(kind: usize) -> Option<&'static str> {
            match kind {
                $($kind => Some(stringify!($c_type)),)+
                _ => None,
            }
        }

        $(impl Handle for $c_type {
            type Entry = $entry;
            const KIND: usize = $kind;
            const NAME: &'static str = stringify!($c_type);
            fn object(entry: Arc<$entry>) -> Object {
                Object::$variant(entry)
            }
            #[inline]
            fn entry(object: &Object) -> Option<&Arc<$entry>> {
                match object {
                    Object::$variant(entry) => Some(entry),
                    _ => None,
                }
            }
        })+
    };
}

handles! {
    tenure_options = 1, Options(OptionsEntry);
    tenure_campaign_options = 2, CampaignOptions(CampaignOptionsEntry);
    tenure_service = 3, Service(ServiceEntry);
    tenure_campaign = 4, Campaign(CampaignEntry);
    tenure_observer = 5, Observer(ObserverEntry);
}

/// An id, from the highest bit: 8 bits tag, 3 kind, 9 fork depth, 21 counter, 4 chunk, 19 place in the chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Id(usize);

const TAG: usize = 0x7E;
const DEPTH_MASK: usize = (1 << 9) - 1;
const COUNTER_MASK: usize = (1 << 21) - 1;
const CHUNK_MASK: usize = (1 << 4) - 1;
const PLACE_MASK: usize = (1 << 19) - 1;

impl Id {
    fn new(kind: usize, depth: u32, counter: usize, (chunk, place): (usize, usize)) -> Self {
        Id(Self::head(kind, depth) << 44 | counter << 23 | chunk << 19 | place)
    }
    /// What all ids of a type and a process have in common.
    #[inline]
    fn head(kind: usize, depth: u32) -> usize {
        TAG << 12 | kind << 9 | depth as usize & DEPTH_MASK
    }
    #[inline]
    fn is_of<H: Handle>(self, depth: u32) -> bool {
        self.0 >> 44 == Self::head(H::KIND, depth)
    }
    fn is_tagged(self) -> bool {
        self.0 >> 56 == TAG
    }
    fn kind(self) -> usize {
        self.0 >> 53 & 0b111
    }
    fn depth(self) -> usize {
        self.0 >> 44 & DEPTH_MASK
    }
    #[inline]
    fn place(self) -> (usize, usize) {
        (self.0 >> 19 & CHUNK_MASK, self.0 & PLACE_MASK)
    }
}

/// A place for one object after another.
#[derive(Default)]
struct Slot {
    content: RwLock<Content>,
}

#[derive(Default)]
struct Content {
    /// The whole id of the object; 0 while there is none.
    id: usize,
    /// How many objects there have been.
    counter: usize,
    object: Option<Object>,
}

/// Chunk k holds 64 << k slots: a million together. (In a model the slots are few, so that they are used again.)
const CHUNKS: usize = 14;
const FIRST_CHUNK: usize = if cfg!(model) { 1 } else { 64 };

/// Chunk, and place in it, of the slot with this index.
fn place_of(index: usize) -> (usize, usize) {
    let chunk = (index / FIRST_CHUNK + 1).ilog2() as usize;
    (chunk, index - FIRST_CHUNK * ((1 << chunk) - 1))
}

/// Which slots are free: first in, first out, so that counters grow evenly.
struct Free {
    places: VecDeque<(usize, usize)>,
    /// The index of the first slot that was never used.
    unused: usize,
}

/// The table of live handles of one process.
pub(crate) struct Registry {
    depth: u32,
    chunks: [OnceBox<Vec<Slot>>; CHUNKS],
    free: Mutex<Free>,
}

/// Why a handle isn't good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    /// Its bits are no id of this type, or its object is gone.
    Invalid {
        /// The type that it is a handle of, if it can be told and is another one.
        really: Option<&'static str>,
    },
    /// It was made before a fork.
    Forked,
}

impl Bad {
    /// As an error that names the argument.
    pub(crate) fn error<H: Handle>(self, argument: &str) -> Error {
        match self {
            Bad::Forked => Error::new(
                Code::Forked,
                format!("argument `{argument}`: this {} belongs to the parent process; open one in the child", H::NAME),
            ),
            Bad::Invalid { really: Some(really) } => {
                Error::new(Code::InvalidHandle, format!("argument `{argument}`: is a {really}, not a {}", H::NAME))
            }
            Bad::Invalid { really: None } => Error::new(
                Code::InvalidHandle,
                format!("argument `{argument}`: not a live {}: freed, or never one", H::NAME),
            ),
        }
    }
}

impl Registry {
    pub(crate) fn new(depth: u32) -> Self {
        Registry {
            depth,
            chunks: [const { OnceBox::new() }; CHUNKS],
            free: Mutex::new(Free { places: VecDeque::new(), unused: 0 }),
        }
    }

    /// Makes a handle.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub(crate) fn insert<H: Handle>(&self, entry: Arc<H::Entry>) -> Result<*mut H, Error> {
        Ok(self.reserve()?.fill(entry))
    }

    /// Room for a handle, so that making what it stands for is not in vain.
    ///
    /// # Errors
    /// System, when a million handles are alive.
    pub(crate) fn reserve(&self) -> Result<Room<'_>, Error> {
        let mut free = self.free();
        // Sixty-four slots or more take turns, so that none wears out soon.
        let place = if free.places.len() < FIRST_CHUNK && place_of(free.unused).0 < CHUNKS {
            free.unused += 1;
            Some(place_of(free.unused - 1))
        } else {
            free.places.pop_front()
        };
        let place = place.ok_or_else(|| Error::new(Code::System, "too many handles are alive: more than a million"))?;
        Ok(Room { registry: self, place: Some(place) })
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn slot<H: Handle>(&self, handle: *const H) -> Result<&Slot, Bad> {
        let id = Id(handle.addr());
        if !id.is_of::<H>(self.depth) {
            return Err(self.why_not::<H>(id));
        }
        let (chunk, place) = id.place();
        let slots = self.chunks.get(chunk).and_then(OnceBox::get);
        slots.and_then(|slots| slots.get(place)).ok_or(Bad::Invalid { really: None })
    }

    #[cold]
    fn why_not<H: Handle>(&self, id: Id) -> Bad {
        if !id.is_tagged() {
            return Bad::Invalid { really: None };
        }
        if id.depth() != self.depth as usize & DEPTH_MASK {
            return Bad::Forked;
        }
        Bad::Invalid { really: name_of(id.kind()) }
    }

    /// What the handle stands for.
    ///
    /// # Errors
    /// When it stands for nothing.
    pub(crate) fn get<H: Handle>(&self, handle: *const H) -> Result<Arc<H::Entry>, Bad> {
        let content = self.slot(handle)?.content.read().unwrap_or_else(PoisonError::into_inner);
        content.entry_of(handle).cloned()
    }

    /// Looks at what the handle stands for without waiting for anybody: while another thread frees the handle, it
    /// stands for nothing already. `look` must not wait either.
    ///
    /// # Errors
    /// When it stands for nothing.
    #[inline]
    pub(crate) fn peek<H: Handle, T>(&self, handle: *const H, look: impl FnOnce(&H::Entry) -> T) -> Result<T, Bad> {
        let content = match self.slot(handle)?.content.try_read() {
            Ok(content) => content,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Bad::Invalid { really: None }),
        };
        content.entry_of(handle).map(|entry| look(entry))
    }

    /// Ends a handle; its object is the caller's.
    ///
    /// # Errors
    /// When it stands for nothing.
    pub(crate) fn remove<H: Handle>(&self, handle: *const H) -> Result<Arc<H::Entry>, Bad> {
        let slot = self.slot(handle)?;
        // Nobody else locks others out: the slot of a stale handle may be that of a live one, which would mean nothing.
        slot.content.read().unwrap_or_else(PoisonError::into_inner).entry_of(handle)?;
        let mut content = slot.content.write().unwrap_or_else(PoisonError::into_inner);
        let entry = content.entry_of(handle)?.clone();
        // Ours is another reference, so nothing is destroyed under the lock.
        content.object = None;
        content.id = 0;
        let is_worn_out = content.counter == COUNTER_MASK;
        drop(content);
        if !is_worn_out {
            self.free().places.push_back(Id(handle.addr()).place());
        }
        Ok(entry)
    }

    /// The object of any handle, whatever its type; for the way out of a panic.
    pub(crate) fn find(&self, address: usize) -> Option<Object> {
        self.objects().find(|(id, _)| *id == address).map(|(_, object)| object)
    }

    /// All campaigns; for the way out of a panic.
    pub(crate) fn campaigns(&self) -> Vec<Arc<CampaignEntry>> {
        let campaigns = self.objects().filter_map(|(_, object)| match object {
            Object::Campaign(campaign) => Some(campaign),
            _ => None,
        });
        campaigns.collect()
    }

    /// How many are alive.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn len(&self) -> usize {
        self.objects().count()
    }

    fn objects(&self) -> impl Iterator<Item = (usize, Object)> {
        let slots = self.chunks.iter().filter_map(OnceBox::get).flatten();
        slots.filter_map(|slot| {
            let content = slot.content.read().unwrap_or_else(PoisonError::into_inner);
            content.object.clone().map(|object| (content.id, object))
        })
    }
}

/// A slot kept for a handle that is being made; free again when dropped.
pub(crate) struct Room<'a> {
    registry: &'a Registry,
    place: Option<(usize, usize)>,
}

impl Room<'_> {
    /// Makes the handle.
    pub(crate) fn fill<H: Handle>(mut self, entry: Arc<H::Entry>) -> *mut H {
        let Some(whole @ (chunk, place)) = self.place.take() else { return std::ptr::null_mut() };
        let slots = self.registry.chunks[chunk]
            .get_or_init(|| Box::new((0..FIRST_CHUNK << chunk).map(|_| Slot::default()).collect()));
        let mut content = slots[place].content.write().unwrap_or_else(PoisonError::into_inner);
        content.counter += 1;
        content.id = Id::new(H::KIND, self.registry.depth, content.counter, whole).0;
        content.object = Some(H::object(entry));
        std::ptr::without_provenance_mut(content.id)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.registry.free().places.push_back(place);
        }
    }
}

impl Content {
    #[inline]
    fn entry_of<H: Handle>(&self, handle: *const H) -> Result<&Arc<H::Entry>, Bad> {
        if self.id != handle.addr() {
            return Err(Bad::Invalid { really: None });
        }
        self.object.as_ref().and_then(H::entry).ok_or(Bad::Invalid { really: None })
    }
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;

#[cfg(test)]
#[cfg(model)]
#[path = "handle_models.rs"]
mod models;
