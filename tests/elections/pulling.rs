//! Events that the program fetches itself: `next_event` and its descriptor.

use std::os::fd::RawFd;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use tenure::{Campaign, CampaignOptions, Code, Event, Observation, Service, State, Status};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::support::electorate::{Contender, Electorate, LIMIT, campaign_options, wait_until};

on_each_version! {
    events_are_pulled_in_order
    pulling_nothing_takes_its_time_and_no_longer
    a_pull_without_limit_wakes_up_for_an_event
    the_descriptor_is_readable_while_there_are_events
    the_descriptor_wakes_a_poll
    after_close_the_last_events_can_be_read_and_then_closed
    pulling_and_callbacks_exclude_each_other
    who_reads_late_is_told_the_loss_and_no_ended_term
    whoever_never_reads_loses_no_loss_in_ten_thousand_changes
    observations_not_read_make_room_for_the_newest
    several_threads_may_pull
    handlers_with_events_unread_end_with_the_service_and_in_the_programs_thread
}

fn pulled(e: &Electorate) -> Service {
    e.open_with(&[("events", "pull")])
}

fn next(service: &Service) -> Event {
    service.next_event(Some(LIMIT)).unwrap().expect("an event")
}

fn next_status(service: &Service) -> Status {
    match next(service) {
        Event::Status(_, status) => status,
        other => panic!("{other:?}"),
    }
}

fn next_observation(service: &Service) -> Observation {
    match next(service) {
        Event::Observation(_, observation) => observation,
        other => panic!("{other:?}"),
    }
}

fn states(service: &Service, count: usize) -> Vec<State> {
    (0..count).map(|_| next_status(service).state).collect()
}

fn stand(service: &Service, election: &str) -> Campaign {
    service.campaign(election, &CampaignOptions::new(), None).unwrap()
}

/// Whether epoll finds it readable within `limit`.
#[allow(deprecated, reason = "borrowing a descriptor by its number is unsafe, and there is no unsafe in tests")]
fn is_readable(descriptor: RawFd, limit: Duration) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE).unwrap();
        tokio::time::timeout(limit, descriptor.readable()).await.is_ok()
    })
}

/// Long enough for what is there already, short enough for what isn't.
const NOW: Duration = Duration::from_millis(50);

fn events_are_pulled_in_order(e: &Electorate) {
    let service = pulled(e);
    let campaign = stand(&service, "order");
    assert_eq!(states(&service, 2), [State::Follower, State::Leader]);
    campaign.resign(LIMIT).unwrap();
    assert_eq!(states(&service, 2), [State::Follower, State::Closed]);
    assert_eq!(service.next_event(Some(Duration::ZERO)).unwrap(), None);
}

fn pulling_nothing_takes_its_time_and_no_longer(e: &Electorate) {
    let service = pulled(e);
    let start = Instant::now();
    assert_eq!(service.next_event(Some(Duration::ZERO)).unwrap(), None);
    assert_eq!(service.next_event(Some(Duration::from_millis(200))).unwrap(), None);
    let spent = start.elapsed();
    assert!(spent >= Duration::from_millis(200) && spent < LIMIT, "{spent:?}");
}

fn a_pull_without_limit_wakes_up_for_an_event(e: &Electorate) {
    let service = pulled(e);
    thread::scope(|scope| {
        let pulling = scope.spawn(|| service.next_event(None));
        let campaign = stand(&service, "wake");
        let event = pulling.join().unwrap().unwrap().unwrap();
        assert!(matches!(event, Event::Status(id, Status { state: State::Follower, .. }) if id == campaign.id()));
    });
}

fn the_descriptor_is_readable_while_there_are_events(e: &Electorate) {
    let service = pulled(e);
    let descriptor = service.event_fd().unwrap();
    assert_eq!(service.event_fd().unwrap(), descriptor);
    assert!(!is_readable(descriptor, NOW), "nothing yet");
    let campaign = stand(&service, "fd");
    assert!(is_readable(descriptor, LIMIT));
    campaign.wait_leader(LIMIT).unwrap();
    next_status(&service);
    // LEADER: wait_leader may come back before it is in the mailbox.
    assert!(is_readable(descriptor, LIMIT));
    next_status(&service);
    assert!(!is_readable(descriptor, NOW), "all were read");
    // One reading silences it, whatever the number of events was.
    campaign.resign(LIMIT).unwrap();
    while service.next_event(Some(Duration::ZERO)).unwrap().is_some() {}
    assert!(!is_readable(descriptor, NOW), "all were read");
}

fn the_descriptor_wakes_a_poll(e: &Electorate) {
    let service = pulled(e);
    let descriptor = service.event_fd().unwrap();
    thread::scope(|scope| {
        let polling = scope.spawn(|| is_readable(descriptor, LIMIT));
        let campaign = stand(&service, "poll");
        assert!(polling.join().unwrap());
        drop(campaign);
    });
    service.close(LIMIT).unwrap();
    assert!(is_readable(descriptor, LIMIT), "closed is something to read as well");
}

fn after_close_the_last_events_can_be_read_and_then_closed(e: &Electorate) {
    let service = pulled(e);
    let _campaign = stand(&service, "close");
    let _observer = service.observe("close", None).unwrap();
    service.close(LIMIT).unwrap();
    let mut last = Vec::new();
    let end = loop {
        match service.next_event(None) {
            Ok(event) => last.push(event.unwrap()),
            Err(end) => break end,
        }
    };
    assert_eq!(end.code(), Code::Closed);
    assert!(last.iter().any(|event| matches!(event, Event::Status(_, s) if s.state == State::Closed)), "{last:?}");
    assert!(last.iter().any(|event| matches!(event, Event::Observation(_, o) if o.closed)), "{last:?}");
    assert!(!last.iter().any(|event| matches!(event, Event::Status(_, s) if s.state == State::Leader)), "{last:?}");
    assert_eq!(service.next_event(Some(Duration::ZERO)).unwrap_err().code(), Code::Closed);
}

fn pulling_and_callbacks_exclude_each_other(e: &Electorate) {
    let service = e.open();
    assert_eq!(service.next_event(Some(Duration::ZERO)).unwrap_err().code(), Code::WrongMode);
    assert_eq!(service.event_fd().unwrap_err().code(), Code::WrongMode);
    let service = pulled(e);
    assert_eq!(service.set_log_handler(Box::new(|_| {})).unwrap_err().code(), Code::WrongMode);
    // A handler is dropped after the last event, but not called.
    let (handler, events) = crate::support::electorate::statuses();
    let campaign = service.campaign("mode", &CampaignOptions::new(), Some(handler)).unwrap();
    campaign.resign(LIMIT).unwrap();
    assert!(events.try_recv().is_err());
    while next_status(&service).state != State::Closed {}
    assert_eq!(events.recv_timeout(LIMIT).err(), Some(std::sync::mpsc::RecvTimeoutError::Disconnected));
}

fn who_reads_late_is_told_the_loss_and_no_ended_term(e: &Electorate) {
    let service = pulled(e);
    let campaign = stand(&service, "late");
    campaign.wait_leader(LIMIT).unwrap();
    e.revoke(&e.leases("late")[0]);
    wait_until("the campaign is closed", || campaign.state() == State::Closed);
    let mut told = vec![next_status(&service)];
    while told.last().unwrap().state != State::Closed {
        told.push(next_status(&service));
    }
    assert!(told.iter().all(|status| status.state != State::Leader), "{told:?}");
    assert!(told.iter().any(|status| status.reason == Code::LeaseRevoked), "{told:?}");
}

/// Fault 9: ten thousand: each of 500 values is told to twenty observers.
fn whoever_never_reads_loses_no_loss_in_ten_thousand_changes(e: &Electorate) {
    let service = pulled(e);
    let campaign = service.campaign("flood", &campaign_options(&[("rejoin", "true")]), None).unwrap();
    assert_eq!(states(&service, 2), [State::Follower, State::Leader]);
    let observers: Vec<_> = (0..20).map(|_| service.observe("flood", None).unwrap()).collect();
    for _ in 0..5 {
        campaign.wait_leader(LIMIT).unwrap();
        let token = campaign.token();
        e.revoke(&e.leases("flood")[0]);
        wait_until("it leads in another term", || campaign.token() > token);
        for value in 0..100 {
            campaign.proclaim(&[value; 4096], LIMIT).unwrap();
        }
    }
    service.close(LIMIT).unwrap();
    let (mut told, mut seen) = (Vec::new(), Vec::new());
    while let Ok(event) = service.next_event(None) {
        match event.unwrap() {
            Event::Status(_, status) => told.push(status),
            Event::Observation(_, observation) => seen.push(observation),
            Event::Log(record) => panic!("{record:?}"),
        }
    }
    assert!(told.len() <= 4 && seen.len() == observers.len(), "{told:?} and {} observations", seen.len());
    assert!(seen.iter().all(|observation| observation.closed && observation.sequence > 400), "{seen:?}");
    assert_eq!((told[0].sequence, told[0].reason), (3, Code::LeaseRevoked), "the loss of the term that was read");
    let last = told.last().unwrap();
    assert!(last.state == State::Closed && last.sequence > 15, "{last:?}");
}

fn observations_not_read_make_room_for_the_newest(e: &Electorate) {
    let (service, theirs) = (pulled(e), e.open());
    let _observer = service.observe("newest", None).unwrap();
    assert_eq!(next_observation(&service).sequence, 1);
    let mut leader = Contender::lead(&theirs, "newest");
    for value in 0..200 {
        leader.campaign.proclaim(format!("{value}").as_bytes(), LIMIT).unwrap();
    }
    let mut told = next_observation(&service);
    let first = told.sequence;
    while &*told.leader.as_ref().unwrap().value != b"199" {
        told = next_observation(&service);
    }
    assert!(first > 1, "{first}");
    leader.resign();
}

fn several_threads_may_pull(e: &Electorate) {
    let service = pulled(e);
    let total = thread::scope(|scope| {
        let pullers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while service.next_event(None).is_ok() {
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let campaigns: Vec<_> = (0..20).map(|i| stand(&service, &format!("pull-{i}"))).collect();
        campaigns.iter().for_each(|campaign| campaign.wait_leader(LIMIT).unwrap());
        service.close(LIMIT).unwrap();
        pullers.into_iter().map(|puller| puller.join().unwrap()).sum::<usize>()
    });
    assert!((40..=60).contains(&total), "at least FOLLOWER and CLOSED of each: {total}");
}

struct Ends(Sender<ThreadId>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.send(thread::current().id()).unwrap();
    }
}

fn handlers_with_events_unread_end_with_the_service_and_in_the_programs_thread(e: &Electorate) {
    let service = pulled(e);
    let (sender, ended) = channel();
    let handler = || {
        let ends = Ends(sender.clone());
        Some(Box::new(move |_: &Event| drop(ends.0.clone())) as tenure::Handler)
    };
    let campaign = service.campaign("unread", &CampaignOptions::new(), handler()).unwrap();
    let observer = service.observe("unread", handler()).unwrap();
    campaign.wait_leader(LIMIT).unwrap();
    drop((campaign, observer, service));
    for _ in 0..2 {
        assert_eq!(ended.recv_timeout(LIMIT).unwrap(), thread::current().id());
    }
}
