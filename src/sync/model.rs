//! loom's primitives, and on top of them, with the same faces as those of std and tokio, what loom lacks.
//!
//! Time doesn't pass in a model: whoever waits with a timeout waits for ever, so a wake-up that is missing shows as a
//! deadlock, whatever the timeout would have covered up.

use std::sync::LockResult;
use std::time::Duration;

pub(crate) use loom::sync::{Mutex, MutexGuard, RwLock, atomic};

#[derive(Debug, Default)]
pub(crate) struct Condvar(loom::sync::Condvar);

/// What a wait with a timeout says next to the guard.
pub(crate) struct Waited;

impl Condvar {
    pub(crate) fn new() -> Self {
        Condvar::default()
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.0.wait(guard)
    }

    pub(crate) fn wait_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, Waited)> {
        self.wait_timeout_while(guard, timeout, once())
    }

    pub(crate) fn wait_timeout_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, Waited)> {
        let waited = if timeout.is_zero() { Ok(guard) } else { self.wait_while(guard, condition) };
        Ok((waited.unwrap_or_else(std::sync::PoisonError::into_inner), Waited))
    }
}

/// True the first time.
fn once<T>() -> impl FnMut(&mut T) -> bool {
    let mut is_first = true;
    move |_| std::mem::take(&mut is_first)
}

/// std's, as far as it is used.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    is_set: Mutex<bool>,
    set: Condvar,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        OnceLock { value: std::sync::OnceLock::new(), is_set: Mutex::new(false), set: Condvar::new() }
    }

    pub(crate) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        let mut is_set = self.lock();
        let value = self.value.get_or_init(init);
        *is_set = true;
        self.set.notify_all();
        value
    }

    pub(crate) fn wait(&self) -> &T {
        drop(self.set.wait_while(self.lock(), |is_set| !*is_set));
        self.value.wait()
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_set.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A queue that knows whether its other end is there.
#[derive(Debug)]
struct Pipe<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    queue: std::collections::VecDeque<T>,
    senders: usize,
    /// Rooms taken: by what is queued, and by who is about to queue something.
    taken: usize,
    is_closed: bool,
}

impl<T> Pipe<T> {
    fn new() -> std::sync::Arc<Self> {
        let state = State { queue: Default::default(), senders: 1, taken: 0, is_closed: false };
        std::sync::Arc::new(Pipe { state: Mutex::new(state), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn push(&self, value: T) {
        self.lock().queue.push_back(value);
        self.changed.notify_all();
    }

    fn hang_up(&self) {
        self.lock().senders -= 1;
        self.changed.notify_all();
    }
}

/// std's channel, as far as it is used.
pub(crate) mod replies {
    use std::sync::Arc;
    use std::time::Duration;

    pub(crate) use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError};

    use super::{Pipe, PoisonError};

    #[derive(Debug)]
    pub(crate) struct Sender<T>(Arc<Pipe<T>>);

    #[derive(Debug)]
    pub(crate) struct Receiver<T>(Arc<Pipe<T>>);

    pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let pipe = Pipe::new();
        (Sender(pipe.clone()), Receiver(pipe))
    }

    impl<T> Sender<T> {
        pub(crate) fn send(&self, value: T) -> Result<(), SendError<T>> {
            if self.0.lock().is_closed {
                return Err(SendError(value));
            }
            self.0.push(value);
            Ok(())
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.hang_up();
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn recv(&self) -> Result<T, RecvError> {
            let waited = self.0.changed.wait_while(self.0.lock(), |pipe| pipe.queue.is_empty() && pipe.senders > 0);
            waited.unwrap_or_else(PoisonError::into_inner).queue.pop_front().ok_or(RecvError)
        }

        pub(crate) fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
            let mut pipe = self.0.lock();
            if timeout.is_zero() && pipe.queue.is_empty() && pipe.senders > 0 {
                return Err(RecvTimeoutError::Timeout);
            }
            match pipe.queue.pop_front() {
                Some(value) => Ok(value),
                None => {
                    drop(pipe);
                    self.recv().map_err(RecvTimeoutError::from)
                }
            }
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            let mut pipe = self.0.lock();
            pipe.is_closed = true;
            let unread = std::mem::take(&mut pipe.queue);
            drop(pipe);
            drop(unread);
        }
    }
}

/// tokio's bounded channel, as far as it is used. Like there, who sends takes room first and queues then, and the two
/// are not one step; the receiver's end drops what is queued at that time; what is queued later stays until the last
/// sender is gone. (`Receiver::recv` answers `None` only when nobody has room any more.)
pub(crate) mod commands {
    use std::sync::Arc;

    pub(crate) use tokio::sync::mpsc::error;

    use super::{Pipe, PoisonError};

    #[derive(Debug)]
    pub(crate) struct Sender<T>(Arc<Pipe<T>>, usize);

    #[derive(Debug)]
    pub(crate) struct Receiver<T>(Arc<Pipe<T>>);

    pub(crate) fn channel<T>(room: usize) -> (Sender<T>, Receiver<T>) {
        let pipe = Pipe::new();
        (Sender(pipe.clone(), room), Receiver(pipe))
    }

    impl<T> Sender<T> {
        pub(crate) fn try_send(&self, value: T) -> Result<(), error::TrySendError<T>> {
            let mut pipe = self.0.lock();
            if pipe.is_closed {
                return Err(error::TrySendError::Closed(value));
            }
            if pipe.taken == self.1 {
                return Err(error::TrySendError::Full(value));
            }
            pipe.taken += 1;
            drop(pipe);
            self.0.push(value);
            Ok(())
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.hang_up();
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn close(&mut self) {
            self.0.lock().is_closed = true;
            self.0.changed.notify_all();
        }

        /// Blocks the thread, as a model has no runtime.
        #[allow(clippy::unused_async, reason = "the face of tokio's")]
        pub(crate) async fn recv(&mut self) -> Option<T> {
            let is_open = |pipe: &mut super::State<T>| {
                pipe.queue.is_empty() && pipe.senders > 0 && !(pipe.is_closed && pipe.taken == 0)
            };
            let waited = self.0.changed.wait_while(self.0.lock(), is_open);
            let mut pipe = waited.unwrap_or_else(PoisonError::into_inner);
            let value = pipe.queue.pop_front()?;
            pipe.taken -= 1;
            Some(value)
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            let mut pipe = self.0.lock();
            pipe.is_closed = true;
            let unread = std::mem::take(&mut pipe.queue);
            pipe.taken -= unread.len();
            drop(pipe);
            drop(unread);
        }
    }
}

use std::sync::PoisonError;

/// Runs a model in every order of its threads' steps with at most so many preemptions, or LOOM_MAX_PREEMPTIONS.
#[cfg(test)]
pub(crate) fn check(name: &str, preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let runs = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 20_000;
    let bound = builder.preemption_bound;
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{name}: {} orders with at most {bound:?} preemptions", runs.load(Ordering::Relaxed));
}

/// Runs to its end a future that waits by blocking, if at all.
#[cfg(test)]
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => unreachable!("it waits for a runtime"),
    }
}
