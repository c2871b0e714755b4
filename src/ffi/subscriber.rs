//! Who gets events: the program's function and user_data behind a campaign, an observer or the log.

use std::ffi::c_void;
use std::sync::Arc;

use super::events::{Seen, tenure_drop_fn, tenure_event_fn};
use super::guard;
use crate::events::Event;
use crate::service::Handler;
use crate::sync::OnceLock;

/// The program's pointer, and what it wants called with it when the library needs it no more.
pub(super) struct UserData {
    pointer: *mut c_void,
    drop: tenure_drop_fn,
}

// SAFETY: the library never looks behind the pointer. The header tells the program that its functions run on the
// service's own thread.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

impl UserData {
    /// Takes the pointer over: from here on, `drop` is called exactly once, whatever becomes of the call.
    pub(super) fn new(pointer: *mut c_void, drop: tenure_drop_fn) -> Self {
        UserData { pointer, drop }
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: the program passed both for this call, which is made once.
            unsafe { drop(self.pointer) };
        }
    }
}

/// Function, user_data and handle of one subscription. Shared by the engine's handler and, where events are pulled,
/// by every event that shows the user_data; so user_data lives until the last of them is freed.
pub(super) struct Subscriber {
    on_event: tenure_event_fn,
    user_data: UserData,
    /// The handle's address. Events may come before the call that makes the handle has it; they wait for it here.
    handle: OnceLock<usize>,
}

impl Subscriber {
    pub(super) fn new(on_event: tenure_event_fn, user_data: UserData) -> Arc<Self> {
        Arc::new(Subscriber { on_event, user_data, handle: OnceLock::new() })
    }

    /// For the engine; nothing where the program wants nothing called.
    pub(super) fn handler(self: &Arc<Self>) -> Option<Handler> {
        if self.on_event.is_none() && self.user_data.drop.is_none() {
            return None;
        }
        let subscriber = self.clone();
        Some(Box::new(move |event| subscriber.deliver(event)))
    }

    /// The handle's address; 0 if there never was one.
    pub(super) fn handle(&self) -> usize {
        *self.handle.wait()
    }

    pub(super) fn pointer(&self) -> *mut c_void {
        self.user_data.pointer
    }

    /// Calls the program's function, on the service's own thread.
    fn deliver(&self, event: &Event) {
        let Some(on_event) = self.on_event else { return };
        let handle = self.handle();
        guard::quiet(handle, || {
            let seen = Seen::new(event, Some(self));
            // SAFETY: the program passed function and user_data for each other; the event lives through the call.
            unsafe { on_event(self.user_data.pointer, seen.event()) };
        });
    }
}

/// Tells the subscriber its handle; when dropped without, that there will be none.
pub(super) struct Announcement(Arc<Subscriber>);

impl Announcement {
    pub(super) fn new(subscriber: &Arc<Subscriber>) -> Self {
        Announcement(subscriber.clone())
    }

    pub(super) fn handle<T>(&self, handle: *mut T) {
        self.set(handle.addr());
    }

    fn set(&self, address: usize) {
        // The first one counts; nobody sets a second but the drop below.
        self.0.handle.get_or_init(|| address);
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc;

    use super::*;
    use crate::events::State;
    use crate::ffi::events::tenure_event;
    use crate::ffi::tests::status;

    /// What the program was told, in order; its address is the user_data.
    #[derive(Default)]
    struct Told(Mutex<Vec<&'static str>>);

    impl Told {
        fn user_data(&self) -> UserData {
            UserData::new(self.pointer(), Some(on_drop))
        }
        fn pointer(&self) -> *mut c_void {
            std::ptr::from_ref(self).cast_mut().cast()
        }
        fn add(user_data: *mut c_void, what: &'static str) {
            // SAFETY: each test's `Told` outlives its subscriber.
            unsafe { &*user_data.cast::<Told>() }.0.lock().unwrap().push(what);
        }
        fn all(&self) -> Vec<&'static str> {
            self.0.lock().unwrap().clone()
        }
    }

    unsafe extern "C" fn on_drop(user_data: *mut c_void) {
        Told::add(user_data, "drop");
    }

    unsafe extern "C" fn on_event(user_data: *mut c_void, event: *const tenure_event) {
        // SAFETY: valid during the call.
        let event = unsafe { &*event };
        assert_eq!(event.user_data, user_data);
        assert!(event.campaign.is_null());
        Told::add(user_data, if event.closed { "closed" } else { "event" });
    }

    #[test]
    fn user_data_is_dropped_once_after_the_last_event() {
        let told = Told::default();
        let subscriber = Subscriber::new(Some(on_event), told.user_data());
        drop(Announcement::new(&subscriber));
        let mut handler = subscriber.handler().unwrap();
        drop(subscriber);
        handler(&Event::Status(1, status(State::Leader)));
        handler(&Event::Status(1, status(State::Closed)));
        drop(handler);
        assert_eq!(told.all(), ["event", "closed", "drop"]);
    }

    #[test]
    fn user_data_without_a_function_is_dropped_as_well() {
        let told = Told::default();
        let subscriber = Subscriber::new(None, told.user_data());
        let mut handler = subscriber.handler().unwrap();
        drop(subscriber);
        handler(&Event::Status(1, status(State::Closed)));
        assert!(told.all().is_empty());
        drop(handler);
        assert_eq!(told.all(), ["drop"]);
        assert!(Subscriber::new(None, UserData::new(told.pointer(), None)).handler().is_none());
    }

    #[test]
    fn an_event_waits_until_the_handle_is_known() {
        let told = Told::default();
        let subscriber = Subscriber::new(Some(on_event), told.user_data());
        let announcement = Announcement::new(&subscriber);
        let mut handler = subscriber.handler().unwrap();
        let (started, wait_started) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                started.send(()).unwrap();
                handler(&Event::Status(1, status(State::Follower)));
            });
            wait_started.recv().unwrap();
            assert!(told.all().is_empty());
            announcement.handle(std::ptr::without_provenance_mut::<u8>(16));
        });
        assert_eq!(told.all(), ["event"]);
        assert_eq!(subscriber.handle(), 16);
    }
}
