//! What handlers may do: block, panic, call back into their service; and what that does to nobody else.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tenure::{Campaign, CampaignOptions, Code, Error, Event, Handler, Service, State, Status};

use crate::support::Version;
use crate::support::electorate::{Contender, Electorate, LIMIT, Watcher, open, statuses, wait_until};

on_each_version! {
    a_handler_that_blocks_delays_no_renewal_and_no_other_service
    a_handler_that_blocks_hears_of_no_ended_term
    a_panic_in_a_handler_loses_its_event_only
    a_handler_may_resign_its_own_campaign
    a_handler_may_stand_and_read
    a_handler_may_not_close_its_service
    a_handler_may_close_another_service
    a_handler_may_drop_its_campaign_and_service
    events_come_one_at_a_time_on_one_thread
    log_lines_come_to_their_handler
    closing_waits_for_a_handler_as_long_as_it_may
}

/// A handler that passes on what it is told, and at `state` waits until the gate is opened.
fn gated(state: State) -> (Handler, Receiver<Status>, Sender<()>) {
    let (sender, events) = channel();
    let (gate, closed_gate) = channel::<()>();
    let handler = move |event: &Event| {
        let Event::Status(_, status) = event else { return };
        let _ = sender.send(status.clone());
        if status.state == state {
            // Opened, or the test has ended.
            let _ = closed_gate.recv();
        }
    };
    (Box::new(handler), events, gate)
}

fn next(events: &Receiver<Status>) -> Status {
    events.recv_timeout(LIMIT).expect("an event")
}

/// A handler that makes `act` of the campaign when it is elected, and passes its result on.
fn acting<T: Send + 'static>(
    service: &Arc<Service>,
    act: impl Fn(&Service, &Campaign) -> T + Send + 'static,
) -> (Arc<OnceLock<Campaign>>, Handler, Receiver<T>) {
    let own = Arc::new(OnceLock::new());
    let (sender, results) = channel();
    let (service, slot) = (service.clone(), own.clone());
    let handler = move |event: &Event| {
        if matches!(event, Event::Status(_, status) if status.state == State::Leader) {
            let _ = sender.send(act(&service, slot.wait()));
        }
    };
    (own, Box::new(handler), results)
}

/// Stands with a handler made by [`acting`], and gives the result.
fn act_when_elected<T: Send + 'static>(
    service: &Arc<Service>,
    act: impl Fn(&Service, &Campaign) -> T + Send + 'static,
) -> (Arc<OnceLock<Campaign>>, T) {
    let (own, handler, results) = acting(service, act);
    let campaign = service.campaign("act", &CampaignOptions::new(), Some(handler)).unwrap();
    assert!(own.set(campaign).is_ok());
    let result = results.recv_timeout(LIMIT).expect("the handler's result");
    (own, result)
}

/// Fault 9.
fn a_handler_that_blocks_delays_no_renewal_and_no_other_service(e: &Electorate) {
    // Longer than the TTL, and on one version much longer.
    let blocked = Duration::from_secs(if e.server.version() == Version::V37 { 12 } else { 6 });
    let (stuck, other) = (e.open_with(&[("ttl", "4s")]), e.open());
    let (handler, events, gate) = gated(State::Leader);
    let leader = stuck.campaign("stuck", &CampaignOptions::new(), Some(handler)).unwrap();
    assert_eq!((next(&events).state, next(&events).state), (State::Follower, State::Leader));
    let token = leader.token();
    let mut heir = Contender::queue(&other, "stuck");
    Contender::lead(&other, "elsewhere").resign();
    std::thread::sleep(blocked);
    assert!(leader.is_leader() && leader.token() == token);
    heir.expect_nothing();
    Contender::lead(&other, "elsewhere").resign();
    assert_eq!(stuck.leader("stuck", LIMIT).unwrap().token, token);
    leader.resign(LIMIT).unwrap();
    heir.expect(State::Leader);
    drop(gate);
    assert_eq!((next(&events).state, next(&events).state), (State::Follower, State::Closed));
}

/// Fault 9.
fn a_handler_that_blocks_hears_of_no_ended_term(e: &Electorate) {
    let service = e.open();
    let (handler, events, gate) = gated(State::Follower);
    let options = crate::support::electorate::campaign_options(&[("rejoin", "true")]);
    let campaign = service.campaign("ended", &options, Some(handler)).unwrap();
    next(&events);
    // Two terms begin and end while the handler sits on the first event.
    for _ in 0..2 {
        campaign.wait_leader(LIMIT).unwrap();
        let token = campaign.token();
        e.revoke(&e.leases("ended")[0]);
        wait_until("it leads in another term", || campaign.token() > token);
    }
    campaign.resign(LIMIT).unwrap();
    drop(gate);
    let mut told = Vec::new();
    while told.last() != Some(&State::Closed) {
        told.push(next(&events).state);
    }
    assert!(!told.contains(&State::Leader), "{told:?}");
}

fn a_panic_in_a_handler_loses_its_event_only(e: &Electorate) {
    let service = e.open();
    let (sender, events) = channel();
    let handler = move |event: &Event| {
        let Event::Status(_, status) = event else { return };
        sender.send(status.state).unwrap();
        assert!(status.state != State::Leader, "the panic that this test is about");
    };
    let campaign = service.campaign("panic", &CampaignOptions::new(), Some(Box::new(handler))).unwrap();
    campaign.wait_leader(LIMIT).unwrap();
    let mut other = Contender::lead(&service, "other");
    assert!(campaign.is_leader());
    campaign.resign(LIMIT).unwrap();
    let told: Vec<_> = events.iter().collect();
    assert_eq!(told.last(), Some(&State::Closed), "{told:?}");
    other.resign();
    service.close(LIMIT).unwrap();
}

/// Fault 8.
fn a_handler_may_resign_its_own_campaign(e: &Electorate) {
    let service = Arc::new(e.open());
    let (own, result) = act_when_elected(&service, |_, campaign| (campaign.resign(LIMIT), campaign.is_leader()));
    assert_eq!(result, (Ok(()), false));
    e.assert_no_keys();
    wait_until("closed", || own.wait().state() == State::Closed);
}

fn a_handler_may_stand_and_read(e: &Electorate) {
    let service = Arc::new(e.open());
    let (_own, (leader, queue, proclaimed, second)) = act_when_elected(&service, |service, campaign| {
        let second = service.campaign("second", &CampaignOptions::new(), None).unwrap();
        second.wait_leader(LIMIT).unwrap();
        let proclaimed = campaign.proclaim(b"from inside", LIMIT);
        (service.leader("act", LIMIT).unwrap(), service.candidates("act", LIMIT).unwrap(), proclaimed, second)
    });
    assert_eq!((&*leader.value, queue.len(), proclaimed), (&b"from inside"[..], 1, Ok(())));
    assert!(second.is_leader());
}

fn a_handler_may_not_close_its_service(e: &Electorate) {
    let service = Arc::new(e.open());
    let (own, result) = act_when_elected(&service, |service, _| service.close(LIMIT).map_err(|error| error.code()));
    assert_eq!(result, Err(Code::WrongThread));
    assert!(own.wait().is_leader(), "nothing has changed");
    service.close(LIMIT).unwrap();
}

fn a_handler_may_close_another_service(e: &Electorate) {
    let (service, other) = (Arc::new(e.open()), e.open());
    let mut leader = Contender::lead(&other, "other");
    let other = Mutex::new(other);
    let close = move |_: &Service, _: &Campaign| other.lock().unwrap().close(LIMIT);
    let (_own, result): (_, Result<(), Error>) = act_when_elected(&service, close);
    assert_eq!(result, Ok(()));
    leader.expect_closed();
}

fn a_handler_may_drop_its_campaign_and_service(e: &Electorate) {
    let theirs = e.open();
    let owned = Arc::new(Mutex::new(None));
    let (sender, dropped) = channel();
    let slot = owned.clone();
    let handler = move |event: &Event| {
        if matches!(event, Event::Status(_, status) if status.state == State::Leader) {
            drop(slot.lock().unwrap().take());
            sender.send(()).unwrap();
        }
    };
    {
        let mut owned = owned.lock().unwrap();
        let service = e.open();
        let campaign = service.campaign("drop", &CampaignOptions::new(), Some(Box::new(handler))).unwrap();
        *owned = Some((campaign, service));
    }
    dropped.recv_timeout(LIMIT).unwrap();
    let mut heir = Contender::stand(&theirs, "drop");
    heir.wait_elected();
}

fn events_come_one_at_a_time_on_one_thread(e: &Electorate) {
    let service = e.open();
    let threads = Arc::new(Mutex::new(Vec::new()));
    let campaigns: Vec<_> = (0..20)
        .map(|i| {
            let threads = threads.clone();
            let handler = move |_: &Event| {
                // Held while told: a second event at the same time would not get it.
                threads.try_lock().expect("one event at a time").push(std::thread::current().id());
            };
            service.campaign(&format!("serial-{i}"), &CampaignOptions::new(), Some(Box::new(handler))).unwrap()
        })
        .collect();
    campaigns.iter().for_each(|campaign| campaign.wait_leader(LIMIT).unwrap());
    service.close(LIMIT).unwrap();
    let threads = threads.lock().unwrap();
    assert!(threads.len() >= 40 && threads.iter().all(|thread| *thread == threads[0]), "{}", threads.len());
    assert_ne!(threads[0], std::thread::current().id());
}

fn log_lines_come_to_their_handler(e: &Electorate) {
    let service = e.open_with(&[("log_level", "debug")]);
    let (sender, lines) = channel();
    let log = move |event: &Event| {
        if let Event::Log(record) = event {
            let _ = sender.send(record.clone());
        }
    };
    service.set_log_handler(Box::new(log)).unwrap();
    Contender::lead(&service, "logged").resign();
    service.close(LIMIT).unwrap();
    let lines: Vec<_> = lines.iter().collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| !line.message.contains('\n')), "{lines:?}");
}

fn closing_waits_for_a_handler_as_long_as_it_may(e: &Electorate) {
    let service = open(e.server, &[("service", e.service.as_str())]);
    let mut watcher = Watcher::observe(&service, "wait");
    watcher.next();
    let (handler, events, gate) = gated(State::Closed);
    let _campaign = service.campaign("wait", &CampaignOptions::new(), Some(handler)).unwrap();
    wait_until("it leads", || service.leader("wait", LIMIT).is_ok());
    assert_eq!(service.close(Duration::from_millis(500)).unwrap_err().code(), Code::Pending);
    wait_until("its key is gone all the same", || e.keys("wait").is_empty());
    drop(gate);
    service.close(LIMIT).unwrap();
    assert_eq!(events.iter().last().unwrap().state, State::Closed);
    let (handler, _events) = statuses();
    assert!(service.campaign("wait", &CampaignOptions::new(), Some(handler)).is_err());
}
