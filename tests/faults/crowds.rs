//! Two hundred candidates in one queue, and a thousand elections on one lease.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use tenure::{CampaignOptions, Code, Service, State};

use crate::candidate::{Candidate, LIMIT, enter, eventually, next, options, queue};
use crate::isolated::is_alone;
use crate::stage::{Stage, record};
use crate::support::electorate::keys;
use crate::support::{Direction, Server};

/// Counters of a server: transactions, reads beside those that each renewal makes, and events told.
fn counted(server: &Server) -> [i64; 3] {
    let names = [
        "grpc_server_started_total{grpc_method=\"Txn\"",
        "grpc_server_started_total{grpc_method=\"Range\"",
        "grpc_server_msg_received_total{grpc_method=\"LeaseKeepAlive\"",
        "etcd_debugging_mvcc_events_total",
    ];
    let mut connection = TcpStream::connect(server.address()).unwrap();
    connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let [transactions, reads, renewals, told] = names.map(|name| {
        let line = answer.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name}")).rsplit(' ').next().unwrap().parse::<f64>().unwrap() as i64
    });
    [transactions, reads - renewals, told]
}

/// Fault 29: a chain of 200 resignations. Each hand-over costs one request, and tells everybody who still waits once;
/// nobody asks anything of the server because another one has left.
#[test]
fn two_hundred_in_a_queue_lead_in_its_order_and_ask_nothing_of_the_server() {
    if !is_alone("crowds::two_hundred_in_a_queue_lead_in_its_order_and_ask_nothing_of_the_server") {
        return;
    }
    const CROWD: usize = 200;
    let server = Stage::solo();
    let crowd: Vec<Candidate> = (0..CROWD).map(|_| Candidate::stand(&server.endpoint(), 60)).collect();
    eventually("all stand", || queue(&server).len() == CROWD);
    let tokens = queue(&server);
    // Not before all know that they stand: on a busy machine some ask twice.
    let mut before = counted(&server);
    eventually("all have joined", || {
        std::thread::park_timeout(Duration::from_secs(1));
        let last = std::mem::replace(&mut before, counted(&server));
        last == before
    });
    for token in tokens {
        let leads = || crowd.iter().find(|candidate| candidate.campaign.token() == token);
        eventually("the next one leads", || leads().is_some());
        let leader = leads().unwrap();
        leader.next(State::Leader);
        leader.campaign.resign(LIMIT).unwrap();
    }
    let after = counted(&server);
    let [requests, reads, told] = [0, 1, 2].map(|kind| after[kind] - before[kind]);
    println!("{CROWD} hand-overs: {requests} transactions, {reads} reads, {told} watch events");
    // One request each. An answer that is late on a busy machine is asked for again, and whoever was not woken in time lists
    // the candidates; a herd would ask 20,000 times.
    assert!(requests >= CROWD as i64 && requests + reads < 4 * CROWD as i64, "{requests} transactions, {reads} reads");
    // To those who wait, to the one who leaves, and now and then to one that has just left.
    let waited = (CROWD * (CROWD + 1) / 2 + CROWD) as i64;
    assert!(told <= waited, "{told} events, at most {waited} were to be told");
    for candidate in &crowd {
        candidate.next(State::Follower);
        candidate.assert_closed();
    }
}

/// Fault 30: the lease of a thousand elections is lost. All end in one burst, all are won by the followers, and go back
/// when these leave.
#[test]
fn a_thousand_elections_on_one_lease_are_lost_and_won_together() {
    if !is_alone("crowds::a_thousand_elections_on_one_lease_are_lost_and_won_together") {
        return;
    }
    const CROWD: usize = 1000;
    let server = Stage::solo();
    let proxy = record().proxy(&server);
    let open = |endpoint: &str| {
        let service = Arc::new(Service::open(&options(endpoint, 10)).unwrap());
        record().add_service(&service);
        service
    };
    let (cut_off, other) = (open(&proxy.endpoint()), open(&server.endpoint()));
    let mut rejoin = CampaignOptions::new();
    rejoin.set("rejoin", "true").unwrap();
    let stand = |service: &Service| {
        (0..CROWD).map(|number| enter(service, &format!("crowd-{number}"), &rejoin)).collect::<Vec<_>>()
    };
    let leaders = stand(&cut_off);
    for (_, events) in &leaders {
        next(events, State::Follower);
        next(events, State::Leader);
    }
    let heirs = stand(&other);
    eventually("all stand", || keys(&server, "_ld/faults/").len() == 2 * CROWD);
    proxy.swallow(Direction::ToServer);
    let losses: Vec<i64> = leaders
        .iter()
        .map(|(_, events)| {
            let loss = next(events, State::Error);
            assert_eq!(loss.status.reason, Code::SessionExpired);
            loss.at
        })
        .collect();
    let burst = losses.iter().max().unwrap() - losses.iter().min().unwrap();
    let elected: Vec<i64> = heirs
        .iter()
        .map(|(_, events)| {
            next(events, State::Follower);
            next(events, State::Leader).at
        })
        .collect();
    let taken = elected.iter().max().unwrap() - elected.iter().min().unwrap();
    println!(
        "{CROWD} losses told within {} ms, {CROWD} elections won within {} ms",
        burst / 1_000_000,
        taken / 1_000_000
    );
    // One burst: much less than another lease's time, on a busy machine.
    assert!(burst < 2_000_000_000, "{burst} ns");
    proxy.heal();
    proxy.cut();
    eventually("all stand again", || keys(&server, "_ld/faults/").len() == 2 * CROWD);
    other.close(LIMIT).unwrap();
    for (_, events) in &leaders {
        next(events, State::Follower);
        next(events, State::Leader);
    }
}
