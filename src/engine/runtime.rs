//! The library's one thread: all services of a process share it.

use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, Handle};

use crate::error::{Code, Error};
use crate::ffi::sys;

/// A runtime that lives as long as the process: threads come and go with no service.
pub(crate) struct Runtime {
    handle: OnceCell<Handle>,
}

impl Runtime {
    pub(crate) const fn new() -> Self {
        Runtime { handle: OnceCell::new() }
    }

    /// Starts the thread, the first time.
    pub(crate) fn handle(&self) -> Result<&Handle, Error> {
        self.handle.get_or_try_init(start)
    }
}

fn start() -> Result<Handle, Error> {
    let system = |error: std::io::Error| Error::new(Code::System, format!("the library's thread can't start: {error}"));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(system)?;
    let handle = runtime.handle().clone();
    sys::start_thread("tenure", move |at_work| {
        runtime.block_on(async move {
            // Else who started it has stopped waiting.
            if at_work.send(()).is_ok() {
                std::future::pending::<()>().await;
            }
        });
    })
    .map_err(system)?;
    Ok(handle)
}
