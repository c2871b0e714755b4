//! The one timer of a service.

use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

use crate::clock::{Clock, Nanos};
use crate::error::{Code, Error};
use crate::ffi::sys;

/// Fires at an instant of its clock. On CLOCK_BOOTTIME by a timer descriptor, since the runtime's own timers stand
/// still while the machine is suspended.
pub(crate) enum Timer {
    Boottime { timer: AsyncFd<OwnedFd>, set_to: Option<Nanos> },
    Runtime { clock: Clock },
}

impl Timer {
    pub(crate) fn new(clock: Clock) -> Result<Self, Error> {
        let system = |error: std::io::Error| Error::new(Code::System, format!("no timer: {error}"));
        match clock {
            Clock::Boottime => {
                let timer = sys::boottime_timer().map_err(system)?;
                Ok(Timer::Boottime { timer, set_to: None })
            }
            Clock::Runtime(_) => Ok(Timer::Runtime { clock }),
        }
    }

    /// Waits for the instant, or for ever. Can be dropped and called again with another one.
    pub(super) async fn wait(&mut self, at: Option<Nanos>) -> Result<(), Error> {
        let Some(at) = at else { return std::future::pending().await };
        let system = |error: std::io::Error| Error::new(Code::System, format!("the timer failed: {error}"));
        match self {
            Timer::Boottime { timer, set_to } => {
                if set_to.replace(at) != Some(at) {
                    sys::set_timer(timer.get_ref(), at).map_err(system)?;
                }
                timer.readable().await.map_err(system)?.clear_ready();
                *set_to = None;
            }
            Timer::Runtime { clock } => {
                let pause = std::time::Duration::from_nanos(u64::try_from(at - clock.now()).unwrap_or(0));
                #[allow(clippy::disallowed_methods, reason = "the driver's timer")]
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }
}
