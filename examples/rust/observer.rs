//! Tells who leads an election, without taking part.
//!
//! ```text
//! observer http://127.0.0.1:2379 worker billing       until SIGINT or SIGTERM
//! observer http://127.0.0.1:2379 worker billing 3     for 3 seconds
//! ```
//!
//! It prints a line whenever that changes:
//!
//! ```text
//! nobody leads
//! alpha leads, token 12
//! alpha leads, token 12, as far as known: REASON      etcd is out of reach; it may be another by now
//! closed
//! ```
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tenure::{Event, Observation, Service, ServiceOptions};

type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "usage: observer ENDPOINTS SERVICE ELECTION [SECONDS]";

/// Runs on the library's callback thread. Each event is the whole state, so one that was missed is no loss.
fn print(event: &Event) {
    let Event::Observation(_, seen) = event else { return };
    if seen.closed {
        println!("closed");
        return;
    }
    let doubt = if seen.connected { String::new() } else { format!(", as far as known: {}", seen.message) };
    println!("{}{doubt}", leader_of(seen));
}

fn leader_of(seen: &Observation) -> String {
    match &seen.leader {
        Some(leader) => {
            // A value is bytes; on the screen it is text, and on one line.
            let value = String::from_utf8_lossy(&leader.value).replace(char::is_control, " ");
            format!("{value} leads, token {}", leader.token)
        }
        None => "nobody leads".to_owned(),
    }
}

/// Until a signal comes, or the time is over.
fn wait_for_the_end(length: Option<Duration>) -> Result<(), Failure> {
    let (tell, told) = mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        // The receiver is gone when the time was over first.
        signals.forever().next().map(|signal| tell.send(signal))
    });
    match length {
        Some(length) => drop(told.recv_timeout(length)),
        None => drop(told.recv()?),
    }
    Ok(())
}

fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (endpoints, service, election, length) = match arguments.as_slice() {
        [endpoints, service, election] => (endpoints, service, election, None),
        [endpoints, service, election, seconds] => (endpoints, service, election, Some(seconds.parse()?)),
        _ => return Err(USAGE.into()),
    };
    let mut options = ServiceOptions::new();
    // open_offline: it has time until etcd comes.
    options.set("endpoints", endpoints)?.set("service", service)?.set("open_offline", "true")?;
    let service = Service::open(&options)?;
    let _observer = service.observe(election, Some(Box::new(print)))?;
    wait_for_the_end(length.map(Duration::from_secs))?;
    service.close(service.call_timeout())?; // after this no handler is called any more
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("observer: {failure}");
            ExitCode::FAILURE
        }
    }
}
