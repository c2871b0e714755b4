//! What tests against a real etcd need: servers and clusters of three versions that can be stopped and killed,
//! certificates, users, a proxy that makes the network fail, and other programs as rivals in an election.
//!
//! `mod support;` in an integration test brings it in. Everything ends with the value that started it, or at the latest
//! with the test process. Waiting is always for an event, with a deadline after which the test fails.

// Each test uses a part of this; and helpers fail by panicking, as tests do.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod cluster;
pub mod electorate;
mod etcd;
pub mod process;
pub mod program;
mod proxy;
mod resources;
pub mod rival;
mod tls;
mod users;
mod version;
pub mod worker;

pub use cluster::Cluster;
pub use etcd::{Builder, Server};
pub use program::Program;
pub use proxy::{Direction, Proxy};
pub use resources::{Folder, Port};
pub use tls::{Identity, Pki};
pub use version::Version;
pub use worker::{Language, Worker};
