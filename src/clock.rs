//! Time: nanoseconds on CLOCK_BOOTTIME, or on the runtime's own clock where a test pauses it.

use crate::ffi::sys;

/// An instant in nanoseconds on the service's [`Clock`].
pub(crate) type Nanos = i64;

/// Nanoseconds in a millisecond.
pub(crate) const MS: Nanos = 1_000_000;
/// Nanoseconds in a second.
pub(crate) const SECOND: Nanos = 1000 * MS;

/// Where a service's time comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// CLOCK_BOOTTIME: it goes on in a suspended machine, as the server's does.
    Boottime,
    /// The runtime's clock, counted from this instant; for simulation on paused time.
    #[cfg_attr(any(not(test), model), expect(dead_code, reason = "only tests pause time"))]
    Runtime(tokio::time::Instant),
}

impl Clock {
    /// Now.
    #[inline]
    pub(crate) fn now(self) -> Nanos {
        match self {
            Clock::Boottime => sys::boottime_ns(),
            Clock::Runtime(start) => nanos(start.elapsed()),
        }
    }
}

/// A duration in nanoseconds; 292 years at most.
pub(crate) fn nanos(duration: std::time::Duration) -> Nanos {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
