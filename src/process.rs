//! What exists once per process, anew after each fork().
//!
//! A forked child inherits its parent's memory, with locks that threads of the parent held and that nobody will ever
//! release. So each depth of forking has a [`Level`] of its own: a process only touches the level of its own depth,
//! whose locks no other process can have held. The levels above stay in memory as they were, on purpose: what they
//! hold belongs to the parent.

use once_cell::race::OnceBox;

use crate::engine::Runtime;
use crate::ffi::handle::Registry as Handles;
use crate::ffi::results::Results;
use crate::ffi::sys;
use crate::store::memory::Registry;

/// The state of one process.
pub(crate) struct Level {
    /// The handles that C programs hold.
    pub(crate) handles: Handles,
    /// The results that C programs hold.
    pub(crate) results: Results,
    /// The library's thread, once a service was opened.
    pub(crate) runtime: Runtime,
    /// The in-process stores.
    pub(crate) stores: Registry,
    /// The child's; `race` because a `OnceLock` would be a lock that a parent's thread may hold.
    next: OnceBox<Level>,
}

impl Level {
    fn new(depth: u32) -> Self {
        Level {
            handles: Handles::new(depth),
            results: Results::new(),
            runtime: Runtime::new(),
            stores: Registry::new(),
            next: OnceBox::new(),
        }
    }
}

static ROOT: OnceBox<Level> = OnceBox::new();

/// This process's level.
#[inline]
pub(crate) fn level() -> &'static Level {
    at_depth(&ROOT, sys::fork_depth())
}

#[inline]
fn at_depth(root: &OnceBox<Level>, depth: u32) -> &Level {
    let mut level = root.get_or_init(|| Box::new(Level::new(0)));
    for below in 1..=depth {
        level = level.next.get_or_init(|| Box::new(Level::new(below)));
    }
    level
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_depth_has_a_level_of_its_own() {
        let levels = OnceBox::new();
        let [root, child, grandchild] = [0, 1, 2].map(|depth| at_depth(&levels, depth));
        assert!(!std::ptr::eq(root, child) && !std::ptr::eq(child, grandchild));
        assert!(std::ptr::eq(child, at_depth(&levels, 1)));
        assert!(std::ptr::eq(grandchild, at_depth(&levels, 2)));
    }
}
