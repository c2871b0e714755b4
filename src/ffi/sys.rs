//! What the library asks of the operating system beyond std: the one clock, the fork counter, signal masks, and two
//! kinds of descriptor. Safe functions; the `unsafe` ends here.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, ThreadId};
use std::time::Duration;

use tokio::io::unix::AsyncFd;

/// Nanoseconds on CLOCK_BOOTTIME, which goes on while the machine is suspended.
#[inline]
pub(crate) fn boottime_ns() -> i64 {
    clock_ns(libc::CLOCK_BOOTTIME)
}

/// Nanoseconds on the wall clock, which may be set; only its jumps are of interest.
pub(crate) fn realtime_ns() -> i64 {
    clock_ns(libc::CLOCK_REALTIME)
}

#[inline]
fn clock_ns(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to. The call can't fail for the two clocks used (Linux 2.6.39).
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// 0 until forks are counted, then one more than the depth.
static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// How many fork() calls lie between the process that first called this and the one at hand, or a multiple thereof;
/// different for each generation in any case. Counted by an atfork handler, which costs a check 0.3 ns where getpid
/// costs 100. The library is never unmapped (`-z nodelete`), so the handler stays valid.
#[inline]
pub(crate) fn fork_depth() -> u32 {
    match FORKS.load(Ordering::Relaxed) {
        0 => count_forks(),
        forks => forks - 1,
    }
}

/// Starts counting. No `Once`: a child forked in its midst would wait for ever. Threads that meet here add a handler
/// each, and then a fork counts for several. A fork before anybody is through counts for nothing, as nobody can have
/// used what the depth tells apart.
#[cold]
fn count_forks() -> u32 {
    // SAFETY: the handler only touches an atomic, which is async-signal-safe. Failure means out of memory; the
    // library then works as if the process never forks.
    unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
    match FORKS.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => 0,
        Err(forks) => forks - 1,
    }
}

/// How long a thread may take to begin its work. Only one that can't at all takes longer.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Of every thread of the library's, in bytes: Rust's own default. Unless it is said, Rust looks for another one in the
/// environment, which a thread of the program may be changing, and in C that is a race.
const STACK_BYTES: usize = 2 << 20;

/// A thread of the library's, to be started.
pub(crate) fn thread(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES)
}

/// Starts a thread of the library's, and waits until it is at work, which `body` says by sending.
///
/// What a thread prepares for its own end takes a lock of the loader. A thread that had yet to do so could not begin
/// while the program closes a service inside dlclose, which holds that lock, and waits there for the thread.
///
/// # Errors
/// The system's; TimedOut, also inside dlopen, which holds the lock as well. The thread then begins later.
pub(crate) fn start_thread(name: &str, body: impl FnOnce(Sender<()>) + Send + 'static) -> io::Result<ThreadId> {
    let (at_work, begun) = channel();
    let builder = self::thread(name);
    let thread = with_signals_blocked(|| builder.spawn(move || body(at_work)))?;
    begun.recv_timeout(START_LIMIT).map_err(|_| {
        let reason = "it doesn't begin; don't open services in a constructor of what is just being loaded by dlopen";
        io::Error::new(io::ErrorKind::TimedOut, reason)
    })?;
    Ok(thread.thread().id())
}

/// Runs `start` with all signals blocked in this thread, so that a thread started inside inherits the mask: no
/// SIGPIPE from a socket kills a host that doesn't ignore it, and the host's signals go to the host's threads.
fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the set was filled by pthread_sigmask below.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
        }
    }
    // SAFETY: both sets are plain data that the calls fill before they are read.
    let _restore = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        Restore(before)
    };
    start()
}

unsafe extern "C" {
    // Not in the crate libc for Linux; the numbers are those of glibc and musl.
    safe fn pthread_setcancelstate(state: libc::c_int, before: Option<&mut libc::c_int>) -> libc::c_int;
}

const PTHREAD_CANCEL_DISABLE: libc::c_int = 1;

/// While it lives, the thread can't be cancelled: that waits until it is back in the program's code.
pub(crate) struct Uncancelled {
    before: libc::c_int,
}

impl Uncancelled {
    pub(crate) fn begin() -> Self {
        let mut before = PTHREAD_CANCEL_DISABLE;
        // Fails for other numbers only.
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, Some(&mut before));
        Uncancelled { before }
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        pthread_setcancelstate(self.before, None);
    }
}

/// A new descriptor from a system call's answer.
fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An eventfd: readable while it holds a count. Close-on-exec, non-blocking.
///
/// # Errors
/// The system's, when it is out of descriptors.
pub(crate) fn eventfd() -> io::Result<File> {
    // SAFETY: no pointers are involved.
    owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }).map(File::from)
}

/// A timer descriptor on CLOCK_BOOTTIME, known to the runtime that this is called on: unlike the runtime's own timers
/// it fires right after a suspend.
///
/// # Errors
/// The system's, when it is out of descriptors.
pub(crate) fn boottime_timer() -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: no pointers are involved.
    let timer = owned(unsafe { libc::timerfd_create(libc::CLOCK_BOOTTIME, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) })?;
    AsyncFd::new(timer)
}

/// Sets a timer of [`boottime_timer`] to an instant; one that has passed fires at once.
///
/// # Errors
/// The system's, if `timer` is no timer.
pub(crate) fn set_timer(timer: &OwnedFd, at_ns: i64) -> io::Result<()> {
    let at_ns = at_ns.max(1);
    let spec = libc::itimerspec {
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: libc::timespec { tv_sec: at_ns / 1_000_000_000, tv_nsec: at_ns % 1_000_000_000 },
    };
    // SAFETY: `spec` is valid for the call, the old value is not asked for.
    let result =
        unsafe { libc::timerfd_settime(timer.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &spec, std::ptr::null_mut()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// This machine's host name; lossy where it isn't UTF-8.
pub(crate) fn host_name() -> String {
    let mut buffer = [0u8; 256];
    // SAFETY: the buffer is writable for its length, of which the last byte stays zero.
    unsafe { libc::gethostname(buffer.as_mut_ptr().cast(), buffer.len() - 1) };
    let end = buffer.iter().position(|&b| b == 0).unwrap_or(0);
    String::from_utf8_lossy(&buffer[..end]).into_owned()
}

/// Whether a forked child finds this.
#[cfg(test)]
#[cfg(not(model))]
pub(crate) fn in_child(finds: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child has this thread alone, and ends without running what others have registered for its end.
    match unsafe { libc::fork() } {
        0 => {
            let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(finds));
            // SAFETY: as above.
            unsafe { libc::_exit(i32::from(!found.unwrap_or(false))) }
        }
        child => {
            let mut status = -1;
            // SAFETY: `status` is writable.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            status == 0
        }
    }
}

#[cfg(test)]
#[cfg(not(model))]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_named_as_the_kernel_names_it() {
        assert_eq!(host_name(), std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim_end());
    }

    #[tokio::test]
    async fn descriptors_end_with_exec_and_never_block() {
        let (timer, events) = (boottime_timer().unwrap(), eventfd().unwrap());
        for fd in [timer.as_raw_fd(), events.as_raw_fd()] {
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
            assert_eq!(flags & (libc::O_CLOEXEC | libc::O_NONBLOCK), libc::O_CLOEXEC | libc::O_NONBLOCK);
        }
    }
}
