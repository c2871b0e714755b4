//! The engine in a world of virtual time, with a check of all invariants after every step.
//!
//! - `story`: the states and events that programs see, the plain story first
//! - `exits`: every way out, with lost requests and answers
//! - `session`: leases, deadlines, doubt
//! - `batching`: small transactions that travel together
//! - `watching`: the watch stream and the lists; `distance`: candidates far behind
//! - `observing`, `reading`: those who only look
//! - `go_bugs`, `m3_bugs`: what went wrong in etcd's `concurrency` and M3's `leader`, and must not here
//! - `simulation`: random faults, a seed each; `regressions`: what it has found
//!
//! `world`, `wire`, `etcd`, `faults` and `check` are what they stand on.

mod batching;
mod check;
mod distance;
mod etcd;
mod exits;
mod faults;
mod go_bugs;
mod m3_bugs;
mod observing;
mod reading;
mod regressions;
mod session;
mod simulation;
mod story;
mod watching;
mod wire;
mod world;
