//! Writes to etcd on the condition that the writer's key is still that of its term, and what is lost without it.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, Txn, TxnOp};
use tokio::runtime::{Builder, Runtime};

use crate::candidate::eventually;
use crate::stage::{Stage, start_program};
use crate::support::program::{Candidacy, boottime_ns, say};
use crate::support::{Program, Server};

const KEY: &str = "ledger";

/// A text in etcd to which leaders append words.
pub(crate) struct Ledger {
    runtime: Runtime,
    client: Client,
}

impl Ledger {
    pub(crate) fn at(endpoint: &str) -> Ledger {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(Client::connect([endpoint], None)).unwrap();
        Ledger { runtime, client }
    }

    pub(crate) fn read(&mut self) -> String {
        let found = self.runtime.block_on(self.client.get(KEY, None)).unwrap();
        found.kvs().first().map_or_else(String::new, |pair| pair.value_str().unwrap().into())
    }

    /// Whether it was written: with a guard, only while the leader's key is that of its term.
    pub(crate) fn write(&mut self, text: &str, guard: Option<(&str, i64)>) -> bool {
        let compare = guard.map(|(key, token)| Compare::create_revision(key, CompareOp::Equal, token));
        let write = Txn::new().when(compare.into_iter().collect::<Vec<_>>()).and_then([TxnOp::put(KEY, text, None)]);
        self.runtime.block_on(self.client.txn(write)).unwrap().succeeded()
    }
}

/// The work of a program, ADDRESS and `guarded` or `plain`: while it leads it reads the text, and after a while writes it
/// with a word more.
pub(crate) fn append(way: &str, candidacy: &Candidacy) {
    let (endpoint, way) = way.split_once(' ').unwrap();
    let mut ledger = Ledger::at(endpoint);
    for number in 0.. {
        let token = candidacy.campaign.token();
        let leader = candidacy.service.leader("", Duration::from_secs(60));
        let Some(key) = leader.ok().filter(|leader| leader.token == token).map(|leader| leader.key) else {
            thread::park_timeout(Duration::from_millis(5));
            continue;
        };
        let text = ledger.read();
        say("work reads\n");
        thread::park_timeout(Duration::from_millis(50));
        let word = format!("{token}-{number}");
        let key = String::from_utf8(key.to_vec()).unwrap();
        let guard = (way == "guarded").then_some((key.as_str(), token));
        let done = if ledger.write(&format!("{text} {word}"), guard) { "appended" } else { "refused" };
        say(&format!("work {done} {word}\n"));
    }
}

/// Three programs append; the one that leads is stopped again and again between its reading and its writing, for longer
/// than its lease. Ends when `is_enough` says so of what was refused and what was lost: appended and not there.
fn append_with_pauses(way: &str, is_enough: fn(&[String], &[String]) -> bool) -> (Vec<String>, Vec<String>) {
    let server = Stage::solo();
    let (endpoint, work) = (server.endpoint(), format!("{} {way}", server.endpoint()));
    let options = [("endpoints", endpoint.as_str()), ("service", "ledger"), ("ttl", "2s"), ("campaign.rejoin", "true")];
    let options = [&options[..], &[("work", work.as_str())]].concat();
    let programs: Vec<Program> = (0..3).map(|_| start_program(&options)).collect();
    let (mut appended, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        stop_the_writer(&programs, &mut appended, &mut refused);
        let lost = lost(&server, &programs, &mut appended, &mut refused);
        if is_enough(&refused, &lost) {
            return (refused, lost);
        }
    }
    panic!("{way}: not seen in ten pauses; {} appended, {} refused", appended.len(), refused.len());
}

/// Stops the program that has just read, until another one has written.
fn stop_the_writer(programs: &[Program], appended: &mut Vec<String>, refused: &mut Vec<String>) {
    let mut writer = None;
    eventually("a writer", || {
        writer = programs.iter().position(|program| sort(program, appended, refused) == Some("reads".into()));
        writer.is_some()
    });
    let writer = writer.unwrap();
    programs[writer].stop();
    let until = boottime_ns() + 3_000_000_000;
    eventually("another writer", || {
        let others = programs.iter().enumerate().filter(|(number, _)| *number != writer);
        let wrote = others.map(|(_, program)| sort(program, appended, refused)).any(|last| last.is_some());
        wrote && boottime_ns() > until
    });
    programs[writer].cont();
}

/// Notes what the program has said, and gives the last of it.
fn sort(program: &Program, appended: &mut Vec<String>, refused: &mut Vec<String>) -> Option<String> {
    let said = program.work();
    for words in &said {
        match words.split_once(' ') {
            Some(("appended", word)) => appended.push(word.into()),
            Some(("refused", word)) => refused.push(word.into()),
            _ => {}
        }
    }
    said.last().cloned()
}

/// What was appended and isn't there, once everybody goes on and has written again.
fn lost(server: &Server, programs: &[Program], appended: &mut Vec<String>, refused: &mut Vec<String>) -> Vec<String> {
    let before = appended.len();
    let until = boottime_ns() + 500_000_000;
    eventually("more writing", || {
        programs.iter().for_each(|program| drop(sort(program, appended, refused)));
        appended.len() > before + 2 && boottime_ns() > until
    });
    let text = Ledger::at(&server.endpoint()).read();
    let there: BTreeSet<&str> = text.split(' ').collect();
    appended.iter().filter(|word| !there.contains(word.as_str())).cloned().collect()
}

/// Fault 38: three processes append under the guard while the leader is stopped again and again.
#[test]
fn no_update_is_lost_under_the_guard() {
    let (refused, lost) = append_with_pauses("guarded", |refused, lost| refused.len() >= 2 || !lost.is_empty());
    assert!(lost.is_empty(), "{lost:?}");
    println!("refused: {refused:?}");
}

/// Fault 38: and what becomes of that without it, so that the test above is known to be able to fail.
#[test]
fn updates_are_lost_without_the_guard() {
    let (_, lost) = append_with_pauses("plain", |_, lost| !lost.is_empty());
    println!("lost: {lost:?}");
}
