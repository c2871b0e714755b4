//! Connecting to a real etcd safely: TLS, client certificates, users and their permissions, addresses.
//! All by the public API, as a program would: what it is told, how soon, and what an election makes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests measure and wait in real time")]

#[path = "../support/mod.rs"]
mod support;

mod endpoints;
mod files;
mod mutual_tls;
mod neighbours;
mod passwords;
mod permissions;
mod roles;
mod secrets;
mod stage;
mod tls;
mod tokens;
