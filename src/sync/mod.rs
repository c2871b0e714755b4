//! What threads meet at: locks, channels, atomics. The program's are those of std and tokio. Under `--cfg model` they are
//! loom's, which tries every order in which threads may run and every value that a load may see: `make test-model`.
//!
//! Only what is model-checked takes them from here: the table of handles, the mailbox, terms, commands, pulled events.

#[cfg(model)]
mod model;

#[cfg(model)]
pub(crate) use model::*;

#[cfg(not(model))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, RwLock, atomic};

/// The way of commands to the engine's task.
#[cfg(not(model))]
pub(crate) use tokio::sync::mpsc as commands;

/// The way of a reply back.
#[cfg(not(model))]
pub(crate) use std::sync::mpsc as replies;
