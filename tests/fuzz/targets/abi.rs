//! The C ABI as sequences of calls with hostile arguments, on in-process stores: handles that were freed, of another type,
//! or made up; NULL for every pointer; texts that are no UTF-8, too long, or empty; lengths that nothing has; callbacks
//! that call back; two threads at once. Never a crash, never a caught panic, every failure with an error that says the
//! same, every user_data ended once, nothing alive at the end.
#![no_main]

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tenure::ffi::error::tenure_error;
use tenure::ffi::events::{tenure_candidate, tenure_candidates, tenure_event};

/// Any handle: the library must look before it believes.
type Handle = *mut c_void;
type Err = *mut *mut tenure_error;
type OnEvent = Option<unsafe extern "C" fn(*mut c_void, *const tenure_event)>;
type OnDrop = Option<unsafe extern "C" fn(*mut c_void)>;

// As a C program sees them: handles are opaque, and only handed on.
#[allow(improper_ctypes)]
unsafe extern "C" {
    fn tenure_options_new(out: *mut Handle, err: Err) -> i32;
    fn tenure_options_set(options: Handle, name: *const c_char, value: *const c_char, err: Err) -> i32;
    fn tenure_options_free(options: Handle);
    fn tenure_campaign_options_new(out: *mut Handle, err: Err) -> i32;
    fn tenure_campaign_options_set(options: Handle, name: *const c_char, value: *const c_char, err: Err) -> i32;
    fn tenure_campaign_options_set_value(options: Handle, value: *const c_void, len: usize, err: Err) -> i32;
    fn tenure_campaign_options_free(options: Handle);
    fn tenure_service_open(options: Handle, out: *mut Handle, err: Err) -> i32;
    fn tenure_service_set_log_callback(s: Handle, f: OnEvent, user_data: *mut c_void, drop: OnDrop, err: Err) -> i32;
    fn tenure_service_campaign(
        service: Handle,
        election: *const c_char,
        options: Handle,
        on_event: OnEvent,
        user_data: *mut c_void,
        drop: OnDrop,
        out: *mut Handle,
        err: Err,
    ) -> i32;
    fn tenure_service_observe(
        service: Handle,
        election: *const c_char,
        on_event: OnEvent,
        user_data: *mut c_void,
        drop: OnDrop,
        out: *mut Handle,
        err: Err,
    ) -> i32;
    fn tenure_service_leader(
        s: Handle,
        election: *const c_char,
        ms: i32,
        out: *mut *mut tenure_candidate,
        err: Err,
    ) -> i32;
    fn tenure_service_candidates(
        service: Handle,
        election: *const c_char,
        timeout_ms: i32,
        out: *mut *mut tenure_candidates,
        err: Err,
    ) -> i32;
    fn tenure_service_next_event(service: Handle, timeout_ms: i32, out: *mut *mut tenure_event, err: Err) -> i32;
    fn tenure_service_event_fd(service: Handle, out: *mut c_int, err: Err) -> i32;
    fn tenure_service_close(service: Handle, timeout_ms: i32, err: Err) -> i32;
    fn tenure_service_free(service: Handle);
    fn tenure_campaign_is_leader(campaign: Handle) -> bool;
    fn tenure_campaign_remaining_ms(campaign: Handle) -> i64;
    fn tenure_campaign_token(campaign: Handle) -> i64;
    fn tenure_campaign_state(campaign: Handle) -> i32;
    fn tenure_campaign_wait_leader(campaign: Handle, timeout_ms: i32, err: Err) -> i32;
    fn tenure_campaign_proclaim(campaign: Handle, value: *const c_void, len: usize, timeout_ms: i32, err: Err) -> i32;
    fn tenure_campaign_resign(campaign: Handle, timeout_ms: i32, err: Err) -> i32;
    fn tenure_campaign_resign_leader(campaign: Handle, timeout_ms: i32, err: Err) -> i32;
    fn tenure_campaign_free(campaign: Handle);
    fn tenure_observer_close(observer: Handle, err: Err) -> i32;
    fn tenure_observer_free(observer: Handle);
    fn tenure_event_free(event: *mut tenure_event);
    fn tenure_candidate_free(candidate: *mut tenure_candidate);
    fn tenure_candidates_free(candidates: *mut tenure_candidates);
    fn tenure_error_free(error: *mut tenure_error);
    fn tenure_code_name(code: i32) -> *const c_char;
    fn tenure_code_text(code: i32) -> *const c_char;
    fn tenure_code_is_retriable(code: i32) -> bool;
}

/// Of the codes, those that are defects.
const DEFECTS: [i32; 2] = [6, 31];

/// Every handle of this run, alive or not, as addresses.
static HANDLES: Mutex<Vec<(usize, Kind)>> = Mutex::new(Vec::new());
/// What callbacks do: bytes, taken one after the other.
static INSIDE: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// No more calls from callbacks.
static ENDING: AtomicBool = AtomicBool::new(false);
/// user_data that the library has.
static LENT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// How deep in callbacks this thread is.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Options,
    CampaignOptions,
    Service,
    Campaign,
    Observer,
}

/// Freed by the library's last word on it, so that a second one, or a look after it, is seen by the sanitizer.
struct UserData(u64);

const SOUND: u64 = 0x7e9e_0123_4567_89ab;

fn lend() -> *mut c_void {
    LENT.fetch_add(1, Ordering::SeqCst);
    Box::into_raw(Box::new(UserData(SOUND))).cast()
}

unsafe extern "C" fn on_drop(user_data: *mut c_void) {
    // SAFETY: made by `lend`; the library calls this once.
    let data = unsafe { Box::from_raw(user_data.cast::<UserData>()) };
    assert_eq!(data.0, SOUND);
    LENT.fetch_sub(1, Ordering::SeqCst);
}

unsafe extern "C" fn on_event(user_data: *mut c_void, event: *const tenure_event) {
    // SAFETY: lent, and not dropped before the last event; the event is valid during the call.
    unsafe {
        assert_eq!((*user_data.cast::<UserData>()).0, SOUND);
        look_at(&*event);
        // That of a callback is left alone.
        tenure_event_free(event.cast_mut());
        look_at(&*event);
    }
    if ENDING.load(Ordering::SeqCst) || DEPTH.get() > 0 {
        return;
    }
    DEPTH.set(DEPTH.get() + 1);
    let taken = {
        let mut inside = INSIDE.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = inside.len().saturating_sub(12);
        inside.split_off(rest)
    };
    let mut choices = Choices(&taken);
    while !choices.0.is_empty() && !ENDING.load(Ordering::SeqCst) {
        step(&mut choices);
    }
    DEPTH.set(DEPTH.get() - 1);
}

/// Every field is what the header says.
unsafe fn look_at(event: &tenure_event) {
    assert!(event.struct_size as usize == size_of::<tenure_event>() && (1..=3).contains(&event.kind));
    for text in [event.election, event.reason_name, event.message] {
        // SAFETY: never NULL, ends with NUL.
        unsafe { CStr::from_ptr(text) }.to_str().expect("UTF-8");
    }
    for (bytes, len) in [(event.value, event.value_len), (event.key, event.key_len)] {
        // SAFETY: so many bytes, and a NUL.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), len + 1) };
        assert_eq!(bytes[len], 0);
    }
    assert!(!DEFECTS.contains(&event.reason), "a defect is told");
}

struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }
    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken.to_vec()
    }
}

/// Mostly one of the right kind, alive or not.
fn handle(choices: &mut Choices, kind: Kind) -> Handle {
    let handles = HANDLES.lock().unwrap_or_else(PoisonError::into_inner);
    let address = match choices.below(16) {
        0 => 0,
        1 => choices.pick(&[1, 8, usize::MAX, 0x7e00_0000_0000_0000, 0x7e20_0000_0080_0000, 0xdead_beef]),
        // One bit off.
        2 if !handles.is_empty() => {
            let at = choices.below(handles.len());
            handles[at].0 ^ (1 << choices.below(64))
        }
        3 if !handles.is_empty() => {
            let at = choices.below(handles.len());
            handles[at].0
        }
        _ => {
            let fitting: Vec<usize> =
                handles.iter().filter(|(_, of)| *of == kind).map(|(address, _)| *address).collect();
            match fitting.len() {
                0 => 0,
                // The newest first: most of the old ones are freed.
                count => fitting[count - 1 - choices.below(count.min(8))],
            }
        }
    };
    std::ptr::without_provenance_mut(address)
}

fn keep(handle: Handle, kind: Kind) {
    HANDLES.lock().unwrap_or_else(PoisonError::into_inner).push((handle.addr(), kind));
}

/// NULL, or a text that ends with NUL.
struct Text(Option<CString>);

impl Text {
    fn pointer(&self) -> *const c_char {
        self.0.as_ref().map_or(null(), |text| text.as_ptr())
    }
}

fn text(choices: &mut Choices, known: &[&str]) -> Text {
    let bytes = match choices.below(16) {
        0 => return Text(None),
        1 => choices.bytes(40),
        2 => vec![b'a'; choices.pick(&[64, 65, 1024, 1025])],
        3 => b"a\xff\xfe/".to_vec(),
        4 => Vec::new(),
        5 if choices.below(8) == 0 => vec![b'v'; choices.pick(&[1 << 20, (1 << 20) + 1])],
        _ => choices.pick(known).as_bytes().to_vec(),
    };
    Text(CString::new(bytes.into_iter().filter(|byte| *byte != 0).collect::<Vec<u8>>()).ok())
}

const ELECTIONS: [&str; 6] = ["e", "e/f", "f", "a//b", "", "default"];
const OPTIONS: [&str; 14] = [
    "service",
    "prefix",
    "root",
    "environment",
    "ttl",
    "value",
    "events",
    "log_level",
    "open_offline",
    "username",
    "password",
    "dial_timeout",
    "nothing",
    "server_name",
];
const CAMPAIGN_OPTIONS: [&str; 6] = ["value", "rejoin", "at_risk", "step_down_margin", "wait_limit", "nothing"];
const VALUES: [&str; 14] =
    ["true", "false", "pull", "callback", "debug", "info", "2s", "10s", "0", "24h", "s", "p/", "1ms", "9999999999999h"];

fn timeout(choices: &mut Choices) -> i32 {
    choices.pick(&[0, 0, 1, 2, -2, i32::MIN])
}

/// As `timeout`, also what means the service's `call_timeout`.
fn call_timeout(choices: &mut Choices) -> i32 {
    choices.pick(&[0, -1, 1, 20, -2, i32::MIN])
}

/// Calls with an error to fill, or without, and looks at what it says.
fn call(choices: &mut Choices, call: impl FnOnce(Err) -> i32) -> i32 {
    let mut error: *mut tenure_error = std::ptr::without_provenance_mut(0xdead);
    let wants = choices.below(4) > 0;
    let code = call(if wants { &mut error } else { null_mut() });
    assert!(!DEFECTS.contains(&code), "a defect was caught: {code}");
    if wants {
        assert_eq!(error.is_null(), code == 0, "code {code}");
    }
    if wants && code != 0 {
        // SAFETY: filled, and not freed yet.
        unsafe {
            assert_eq!((*error).code, code);
            assert!(!CStr::from_ptr((*error).message).to_str().expect("UTF-8").is_empty());
            assert_eq!(CStr::from_ptr((*error).name), CStr::from_ptr(tenure_code_name(code)));
            tenure_error_free(error);
            if choices.below(4) == 0 {
                tenure_error_free(error);
            }
        }
    }
    code
}

/// A call with an output that may be NULL; the output of a success.
fn call_out<T>(choices: &mut Choices, body: impl FnOnce(*mut *mut T, Err) -> i32) -> Option<*mut T> {
    let mut out: *mut T = std::ptr::without_provenance_mut(0xdead);
    let wants = choices.below(16) > 0;
    let code = call(choices, |err| body(if wants { &mut out } else { null_mut() }, err));
    assert!(wants || code != 0, "nowhere to put the output");
    assert!(!wants || out.is_null() == (code != 0), "code {code} with an output of {out:?}");
    (code == 0).then_some(out)
}

fn step(choices: &mut Choices) {
    // SAFETY: every pointer is NULL, a handle's bits, or what the header asks for.
    unsafe {
        match choices.below(32) {
            0 => options(choices),
            1 => {
                let (options, name) = (handle(choices, Kind::Options), text(choices, &OPTIONS));
                let value = text(choices, &VALUES);
                // Those two are set to what needs no network and keeps nobody waiting.
                if name.0.as_deref().is_some_and(|name| name == c"endpoints" || name == c"call_timeout") {
                    return;
                }
                call(choices, |err| tenure_options_set(options, name.pointer(), value.pointer(), err));
            }
            2 => tenure_options_free(handle(choices, Kind::Options)),
            3 => {
                if let Some(made) = call_out(choices, |out, err| tenure_campaign_options_new(out, err)) {
                    keep(made, Kind::CampaignOptions);
                }
            }
            4 => {
                let (options, name) = (handle(choices, Kind::CampaignOptions), text(choices, &CAMPAIGN_OPTIONS));
                let value = text(choices, &VALUES);
                call(choices, |err| tenure_campaign_options_set(options, name.pointer(), value.pointer(), err));
            }
            5 => {
                let (options, value) = (handle(choices, Kind::CampaignOptions), choices.bytes(8));
                let (pointer, len) = hostile_bytes(choices, &value);
                call(choices, |err| tenure_campaign_options_set_value(options, pointer, len, err));
            }
            6 => tenure_campaign_options_free(handle(choices, Kind::CampaignOptions)),
            7 | 8 => open(choices),
            9..13 => campaign(choices),
            13 => observe(choices),
            14 => {
                let service = handle(choices, Kind::Service);
                let on_log: OnEvent = if choices.below(4) > 0 { Some(on_event) } else { None };
                let data = lend();
                call(choices, |err| tenure_service_set_log_callback(service, on_log, data, Some(on_drop), err));
            }
            15 => {
                let (service, election, ms) =
                    (handle(choices, Kind::Service), text(choices, &ELECTIONS), call_timeout(choices));
                let found =
                    call_out(choices, |out, err| tenure_service_leader(service, election.pointer(), ms, out, err));
                if let Some(candidate) = found {
                    tenure_event_free(candidate.cast());
                    assert!((*candidate).token > 0);
                    tenure_candidate_free(candidate);
                    tenure_candidate_free(candidate);
                }
            }
            16 => {
                let (service, election, ms) =
                    (handle(choices, Kind::Service), text(choices, &ELECTIONS), call_timeout(choices));
                let found =
                    call_out(choices, |out, err| tenure_service_candidates(service, election.pointer(), ms, out, err));
                if let Some(candidates) = found {
                    for at in 0..(*candidates).count {
                        let candidate = *(*candidates).items.add(at);
                        assert!((*candidate).token > 0 && *(*candidate).key.add((*candidate).key_len) == 0);
                        tenure_candidate_free(candidate.cast_mut());
                    }
                    tenure_candidates_free(candidates);
                }
            }
            17..20 => {
                let (service, ms) = (handle(choices, Kind::Service), timeout(choices));
                if let Some(event) = call_out(choices, |out, err| tenure_service_next_event(service, ms, out, err)) {
                    look_at(&*event);
                    tenure_candidate_free(event.cast());
                    tenure_event_free(event);
                    if choices.below(4) == 0 {
                        tenure_event_free(event);
                    }
                }
            }
            20 => {
                let service = handle(choices, Kind::Service);
                let mut fd = 7;
                let code = call(choices, |err| tenure_service_event_fd(service, &mut fd, err));
                assert_eq!(fd < 0, code != 0);
            }
            21 => {
                let (service, ms) = (handle(choices, Kind::Service), call_timeout(choices));
                call(choices, |err| tenure_service_close(service, ms, err));
            }
            22 => tenure_service_free(handle(choices, Kind::Service)),
            23 | 24 => {
                let campaign = handle(choices, Kind::Campaign);
                assert!(tenure_campaign_remaining_ms(campaign) >= 0 && tenure_campaign_token(campaign) >= 0);
                tenure_campaign_is_leader(campaign);
                assert!((0..=4).contains(&tenure_campaign_state(campaign)));
                let ms = timeout(choices);
                call(choices, |err| tenure_campaign_wait_leader(campaign, ms, err));
            }
            25 => {
                let (campaign, value, ms) = (handle(choices, Kind::Campaign), choices.bytes(8), call_timeout(choices));
                let (pointer, len) = hostile_bytes(choices, &value);
                call(choices, |err| tenure_campaign_proclaim(campaign, pointer, len, ms, err));
            }
            26 => {
                let (campaign, ms) = (handle(choices, Kind::Campaign), call_timeout(choices));
                call(choices, |err| tenure_campaign_resign(campaign, ms, err));
            }
            27 => {
                let (campaign, ms) = (handle(choices, Kind::Campaign), call_timeout(choices));
                call(choices, |err| tenure_campaign_resign_leader(campaign, ms, err));
            }
            28 => tenure_campaign_free(handle(choices, Kind::Campaign)),
            29 => {
                let observer = handle(choices, Kind::Observer);
                call(choices, |err| tenure_observer_close(observer, err));
            }
            30 => tenure_observer_free(handle(choices, Kind::Observer)),
            _ => {
                let code = choices.pick(&[0, 1, 31, 32, -1, i32::MIN, i32::MAX]);
                tenure_code_is_retriable(code);
                for text in [tenure_code_name(code), tenure_code_text(code)] {
                    assert!(!CStr::from_ptr(text).to_bytes().is_empty());
                }
                tenure_error_free(null_mut());
                tenure_event_free(null_mut());
                tenure_error_free(std::ptr::without_provenance_mut(8));
                tenure_candidates_free(std::ptr::without_provenance_mut(usize::MAX));
            }
        }
    }
}

/// Bytes and their length; NULL with one, and lengths of which the library must read nothing.
fn hostile_bytes(choices: &mut Choices, value: &[u8]) -> (*const c_void, usize) {
    match choices.below(8) {
        0 => (null(), choices.pick(&[0, 1, 1 << 20, usize::MAX])),
        1 => (std::ptr::without_provenance(16), choices.pick(&[0, (1 << 20) + 1, usize::MAX, usize::MAX >> 1])),
        _ => (value.as_ptr().cast(), value.len()),
    }
}

/// Options that can be opened with, on one of two stores.
unsafe fn options(choices: &mut Choices) {
    let Some(made) = call_out(choices, |out, err| {
        // SAFETY: as the header asks for.
        unsafe { tenure_options_new(out, err) }
    }) else {
        return;
    };
    keep(made, Kind::Options);
    // Short: two services that free each other in their callbacks wait for that long.
    let fixed =
        [(c"endpoints", choices.pick(&[c"memory://a", c"memory://b"])), (c"service", c"s"), (c"call_timeout", c"50ms")];
    for (name, value) in fixed {
        // SAFETY: as the header asks for.
        call(choices, |err| unsafe { tenure_options_set(made, name.as_ptr(), value.as_ptr(), err) });
    }
    if choices.below(2) == 0 {
        // SAFETY: as the header asks for.
        call(choices, |err| unsafe { tenure_options_set(made, c"events".as_ptr(), c"pull".as_ptr(), err) });
    }
    // What would speak to the network is refused here, and so never set.
    let refused = choices.pick(&[c"memory://", c"http://", c"memory://a,b:1", c"ftp://a:1", c"@", c"a:0"]);
    // SAFETY: as the header asks for.
    let code = call(choices, |err| unsafe { tenure_options_set(made, c"endpoints".as_ptr(), refused.as_ptr(), err) });
    assert!(code != 0, "{refused:?} was taken");
}

unsafe fn open(choices: &mut Choices) {
    let options = handle(choices, Kind::Options);
    // SAFETY: as the header asks for.
    if let Some(made) = call_out(choices, |out, err| unsafe { tenure_service_open(options, out, err) }) {
        keep(made, Kind::Service);
    }
}

unsafe fn campaign(choices: &mut Choices) {
    let (service, election) = (handle(choices, Kind::Service), text(choices, &ELECTIONS));
    let options = if choices.below(2) == 0 { null_mut() } else { handle(choices, Kind::CampaignOptions) };
    let called: OnEvent = if choices.below(2) == 0 { Some(on_event) } else { None };
    let data = lend();
    // SAFETY: as the header asks for.
    let made = call_out(choices, |out, err| unsafe {
        tenure_service_campaign(service, election.pointer(), options, called, data, Some(on_drop), out, err)
    });
    if let Some(made) = made {
        keep(made, Kind::Campaign);
    }
}

unsafe fn observe(choices: &mut Choices) {
    let (service, election) = (handle(choices, Kind::Service), text(choices, &ELECTIONS));
    let called: OnEvent = if choices.below(2) == 0 { Some(on_event) } else { None };
    let data = lend();
    // SAFETY: as the header asks for.
    let made = call_out(choices, |out, err| unsafe {
        tenure_service_observe(service, election.pointer(), called, data, Some(on_drop), out, err)
    });
    if let Some(made) = made {
        keep(made, Kind::Observer);
    }
}

fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    for _ in 0..200 {
        if choices.0.is_empty() {
            break;
        }
        step(&mut choices);
    }
}

/// The threads of callbacks, of all services.
fn callback_threads() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux has it");
    // One that has just ended has no name.
    let names = threads.flatten().filter_map(|thread| std::fs::read(thread.path().join("comm")).ok());
    names.filter(|name| name == b"tenure-events\n").count()
}

/// Frees everything, and looks whether anything is left.
fn end() {
    ENDING.store(true, Ordering::SeqCst);
    let limit = Instant::now() + Duration::from_secs(15);
    loop {
        // A callback that is still under way may make some more.
        let handles = std::mem::take(&mut *HANDLES.lock().unwrap_or_else(PoisonError::into_inner));
        for (address, _) in handles {
            let handle: Handle = std::ptr::without_provenance_mut(address);
            // SAFETY: each frees its own type only.
            unsafe {
                tenure_options_free(handle);
                tenure_campaign_options_free(handle);
                tenure_campaign_free(handle);
                tenure_observer_free(handle);
                tenure_service_free(handle);
            }
        }
        let (lent, alive) = (LENT.load(Ordering::SeqCst), tenure::fuzzing::alive());
        // The leak sanitizer knows threads by the system's numbers, and takes a new one for the ended one that had its
        // number before: what it has then looks leaked. So none but the library's first may be left.
        let threads = callback_threads();
        if lent == 0 && alive == (0, 0) && threads == 0 {
            return;
        }
        assert!(
            Instant::now() < limit,
            "{lent} user_data are still lent, {alive:?} handles and results and {threads} threads alive"
        );
        // What a service does after it was freed, it does in the background.
        std::thread::sleep(Duration::from_micros(200));
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ENDING.store(false, Ordering::SeqCst);
    // Something to begin with; the rest is chosen.
    let mut choices = Choices(data);
    // SAFETY: it only calls as the header asks for.
    unsafe { options(&mut choices) };
    let inside = choices.bytes(120);
    *INSIDE.lock().unwrap_or_else(PoisonError::into_inner) = inside;
    let two = choices.below(4) == 0;
    let rest = choices.0;
    if two {
        let (here, there) = rest.split_at(rest.len() / 2);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| run(there));
            run(here);
            // The scope waits for its work only, not for its end.
            if let Err(panic) = other.join() {
                std::panic::resume_unwind(panic);
            }
        });
    } else {
        run(rest);
    }
    end();
});
