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

/// Counters of a server: transactions, reads beside those that each renewal makes, and events told. A renewal is one
/// read and one message, and the first of a stream one message more.
fn counted(server: &Server) -> [i64; 3] {
    let names = [
        "grpc_server_started_total{grpc_method=\"Txn\"",
        "grpc_server_started_total{grpc_method=\"Range\"",
        "grpc_server_msg_received_total{grpc_method=\"LeaseKeepAlive\"",
        "grpc_server_started_total{grpc_method=\"LeaseKeepAlive\"",
        "etcd_debugging_mvcc_events_total",
    ];
    let mut connection = TcpStream::connect(server.address()).unwrap();
    connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let [transactions, reads, messages, streams, told] = names.map(|name| {
        let line = answer.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name}")).rsplit(' ').next().unwrap().parse::<f64>().unwrap() as i64
    });
    [transactions, reads - (messages - streams), told]
}

/// Fault 29: a chain of 200 resignations. Each hand-over costs one request of the one who leaves and one of another that
/// comes near, and is told to the near ones only.
#[test]
fn two_hundred_in_a_queue_lead_in_its_order_and_few_are_told_of_each() {
    if !is_alone("crowds::two_hundred_in_a_queue_lead_in_its_order_and_few_are_told_of_each") {
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
    // One request of each who leaves, and one of each who comes near. An answer that is late on a busy machine is asked for
    // again, and whoever was not woken in time lists the candidates; a herd would ask 20,000 times.
    assert!(requests >= CROWD as i64 && requests + reads < 4 * CROWD as i64, "{requests} transactions, {reads} reads");
    // To at most eight who are near, to the one who comes near and to the one who leaves. To everybody it would be 20,100.
    assert!(told <= 10 * CROWD as i64, "{told} events");
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
