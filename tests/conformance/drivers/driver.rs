//! The conformance driver for Rust: requests come as JSON lines on standard input, answers and events go as JSON lines
//! to standard output. tests/conformance/README.md describes both. No logic beyond naming what the crate has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a driver fails by panicking")]

use std::collections::HashMap;
use std::io::{Write, stdin, stdout};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tenure::{Campaign, CampaignOptions, Candidate, Error, Event, Handler, Observer, Service, ServiceOptions, State};

/// What a name stands for.
#[derive(Clone)]
enum Object {
    Service(Arc<Service>),
    Campaign(Arc<Campaign>),
    Observer(Arc<Observer>),
}

/// Held while an object is made, so that a handler finds the one that it is called for.
static OBJECTS: Mutex<Option<HashMap<String, Object>>> = Mutex::new(None);

type Objects = MutexGuard<'static, Option<HashMap<String, Object>>>;

fn main() {
    *objects() = Some(HashMap::new());
    // A str is UTF-8, a Duration isn't negative, and what was dropped can't be named any more.
    write_line(&json!({
        "hello": "Rust",
        "lacks": ["texts that are no UTF-8", "negative timeouts", "freed handles"],
    }));
    for line in stdin().lines() {
        let request: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if request["beside"] == true {
            thread::spawn(move || perform(&request));
        } else {
            perform(&request);
        }
    }
    let ended = objects().take();
    drop(ended);
}

fn perform(request: &Value) {
    let result = match request["call"].as_str().unwrap() {
        "open" => open(request),
        "campaign" => campaign(request),
        "observe" => observe(request),
        "leader" => leader(request),
        "candidates" => candidates(request),
        "wait_leader" => the_campaign(request).wait_leader(timeout(request).unwrap_or(Duration::MAX)).map(none),
        "proclaim" => {
            let value = bytes(&request["value"]).unwrap();
            the_campaign(request).proclaim(&value, timeout_or_default(request)).map(none)
        }
        "resign" => the_campaign(request).resign(timeout_or_default(request)).map(none),
        "resign_leader" => the_campaign(request).resign_leader(timeout_or_default(request)).map(none),
        "is_leader" => Ok(json!(the_campaign(request).is_leader())),
        "remaining" => Ok(json!(u64::try_from(the_campaign(request).remaining().as_millis()).unwrap())),
        "token" => Ok(json!(the_campaign(request).token())),
        "state" => Ok(json!(state_name(the_campaign(request).state()))),
        "close" => close(request),
        "free" => {
            let object = objects().as_mut().unwrap().remove(name(request, "handle"));
            drop(object);
            Ok(Value::Null)
        }
        "fork" => fork(request),
        other => panic!("unknown call {other}"),
    };
    let id = &request["id"];
    write_line(&match result {
        Ok(value) => json!({"id": id, "value": value}),
        Err(error) => json!({
            "id": id,
            "error": error.code().name(),
            "retriable": error.is_retriable(),
            "message": error.message(),
        }),
    });
}

fn open(request: &Value) -> Result<Value, Error> {
    let mut options = ServiceOptions::new();
    for (name, value) in options_of(request) {
        options.set(&name, &value)?;
    }
    let service = Service::open(&options)?;
    keep(&mut objects(), request, Object::Service(Arc::new(service)));
    Ok(Value::Null)
}

fn campaign(request: &Value) -> Result<Value, Error> {
    let service = the_service(request, "service");
    let mut options = CampaignOptions::new();
    for (name, value) in options_of(request) {
        options.set(&name, &value)?;
    }
    if let Some(value) = bytes(&request["value"]) {
        options.set_value(&value)?;
    }
    let mut objects = objects();
    let campaign = service.campaign(&election(request), &options, Some(handler(request)))?;
    keep(&mut objects, request, Object::Campaign(Arc::new(campaign)));
    Ok(Value::Null)
}

fn observe(request: &Value) -> Result<Value, Error> {
    let service = the_service(request, "service");
    let mut objects = objects();
    let observer = service.observe(&election(request), Some(handler(request)))?;
    keep(&mut objects, request, Object::Observer(Arc::new(observer)));
    Ok(Value::Null)
}

fn leader(request: &Value) -> Result<Value, Error> {
    let service = the_service(request, "service");
    let timeout = timeout(request).unwrap_or(service.call_timeout());
    service.leader(&election(request), timeout).map(|leader| candidate(&leader))
}

fn candidates(request: &Value) -> Result<Value, Error> {
    let service = the_service(request, "service");
    let timeout = timeout(request).unwrap_or(service.call_timeout());
    let found = service.candidates(&election(request), timeout)?;
    Ok(found.iter().map(candidate).collect())
}

fn close(request: &Value) -> Result<Value, Error> {
    match object(request, "handle") {
        Object::Service(service) => service.close(timeout(request).unwrap_or(service.call_timeout())).map(none),
        Object::Observer(observer) => {
            observer.close();
            Ok(Value::Null)
        }
        Object::Campaign(_) => panic!("a campaign is resigned, not closed"),
    }
}

/// The requests are answered by a child process; then this one is, by how the child ended.
fn fork(request: &Value) -> Result<Value, Error> {
    // SAFETY: the child calls what is to work after a fork, allocates like any child of glibc's, and ends by _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    if child == 0 {
        request["requests"].as_array().unwrap().iter().for_each(perform);
        // SAFETY: nothing of the parent's is run at the end.
        unsafe { libc::_exit(0) };
    }
    let mut ended = 0;
    // SAFETY: `ended` is there to be written.
    let waited = unsafe { libc::waitpid(child, &mut ended, 0) };
    assert_eq!(waited, child, "waitpid");
    Ok(json!(ended))
}

/// Writes the events, and performs what is to be called inside: at the first event of a state, or at an observer's
/// first.
fn handler(request: &Value) -> Handler {
    let handle = name(request, "handle").to_owned();
    let mut inside = request["inside"].as_object().cloned().unwrap_or_default();
    Box::new(move |event| {
        let (line, state) = match event {
            Event::Status(_, status) => {
                let state = state_name(status.state);
                let line = json!({
                    "event": "status", "handle": handle, "sequence": status.sequence,
                    "time_ns": status.time_ns, "election": &*status.election,
                    "state": state, "reason": status.reason.name(), "message": status.message,
                    "at_risk": status.at_risk, "value": from_bytes(&status.value), "token": status.token,
                    "revision": status.revision, "deadline_ns": status.deadline_ns,
                    "cluster": status.cluster_id != 0,
                });
                (line, state)
            }
            Event::Observation(_, observation) => {
                let line = json!({
                    "event": "observation", "handle": handle, "sequence": observation.sequence,
                    "time_ns": observation.time_ns,
                    "election": &*observation.election, "leader": observation.leader.as_ref().map(candidate),
                    "connected": observation.connected, "closed": observation.closed,
                    "reason": observation.reason.name(), "message": observation.message,
                    "revision": observation.revision, "cluster": observation.cluster_id != 0,
                });
                (line, "OBSERVED")
            }
            Event::Log(_) => return,
        };
        write_line(&line);
        let requests = inside.remove(state);
        requests.iter().filter_map(Value::as_array).flatten().for_each(perform);
    })
}

fn candidate(from: &Candidate) -> Value {
    json!({
        "value": from_bytes(&from.value), "token": from.token, "key": from_bytes(&from.key), "lease": from.lease,
    })
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Follower => "FOLLOWER",
        State::Leader => "LEADER",
        State::Error => "ERROR",
        State::Closed => "CLOSED",
    }
}

fn none((): ()) -> Value {
    Value::Null
}

fn objects() -> Objects {
    OBJECTS.lock().unwrap()
}

fn keep(objects: &mut Objects, request: &Value, object: Object) {
    objects.as_mut().unwrap().insert(name(request, "handle").to_owned(), object);
}

fn object(request: &Value, key: &str) -> Object {
    objects().as_ref().unwrap()[name(request, key)].clone()
}

fn the_service(request: &Value, key: &str) -> Arc<Service> {
    let Object::Service(service) = object(request, key) else { panic!("{key} names no service") };
    service
}

fn the_campaign(request: &Value) -> Arc<Campaign> {
    let Object::Campaign(campaign) = object(request, "handle") else { panic!("the handle is no campaign's") };
    campaign
}

fn name<'a>(request: &'a Value, key: &str) -> &'a str {
    request[key].as_str().unwrap()
}

fn options_of(request: &Value) -> Vec<(String, String)> {
    let pairs = request["options"].as_array().unwrap();
    pairs.iter().map(|pair| (text(&pair[0]).unwrap(), text(&pair[1]).unwrap())).collect()
}

/// An empty name is the default election's, as is none.
fn election(request: &Value) -> String {
    text(&request["election"]).unwrap_or_default()
}

fn timeout(request: &Value) -> Option<Duration> {
    request["timeout_ms"].as_u64().map(Duration::from_millis)
}

/// A campaign doesn't tell its service's `call_timeout`; this is the option's default.
fn timeout_or_default(request: &Value) -> Duration {
    timeout(request).unwrap_or(Duration::from_secs(5))
}

fn text(string: &Value) -> Option<String> {
    bytes(string).map(|bytes| String::from_utf8(bytes).unwrap())
}

/// Bytes travel as text: each byte is the character of that number.
fn bytes(string: &Value) -> Option<Vec<u8>> {
    Some(string.as_str()?.chars().map(|character| u8::try_from(character).unwrap()).collect())
}

fn from_bytes(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn write_line(line: &Value) {
    let mut output = stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).unwrap();
}
