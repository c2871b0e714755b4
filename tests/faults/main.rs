//! Elections on real etcd while the network, the servers or the candidates fail: what may be lost, when it is told, and
//! that nobody leads beside another. One server behind a proxy, three members, candidates in processes of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests look at the clock")]

mod candidate;
mod chaos;
mod clocks;
mod crowds;
mod disk;
mod figures;
mod guard;
mod isolated;
mod members;
mod network;
mod onlookers;
mod opening;
mod partition;
mod programs;
mod server;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod workers;
