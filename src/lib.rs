//! Leader election on etcd: of several processes, at most one may act.
//!
//! A [`Service`] is a connection to one etcd cluster with a namespace; a [`Campaign`] is one candidacy in one of its
//! elections; an [`Observer`] looks on. Events say what was; [`Campaign::is_leader`] says what is.
//!
//! ```
//! use std::time::Duration;
//! use tenure::{CampaignOptions, Event, Service, ServiceOptions};
//!
//! let mut options = ServiceOptions::new();
//! options.set("endpoints", "memory://docs")?.set("service", "billing")?;
//! let service = Service::open(&options)?;
//! let told = |event: &Event| println!("{event:?}");
//! let campaign = service.campaign("shard-7", &CampaignOptions::new(), Some(Box::new(told)))?;
//! campaign.wait_leader(Duration::from_secs(30))?;
//! println!("leading with token {} for {:?} at least", campaign.token(), campaign.remaining());
//! campaign.resign(Duration::from_secs(5))?;
//! # Ok::<(), tenure::Error>(())
//! ```
#![deny(unsafe_code)]

mod clock;
pub mod config;
mod election;
mod engine;
pub mod error;
pub mod events;
#[doc(hidden)]
pub mod ffi;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod process;
#[cfg(test)]
mod seeds;
mod service;
#[cfg(test)]
mod simulation;
pub mod store;
mod sync;

/// The README's Rust example, compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

/// The same for the page on Rust.
#[cfg(doctest)]
#[doc = include_str!("../docs/rust.md")]
mod page {}

pub use config::{CampaignOptions, Delivery, ServiceOptions};
pub use error::{Code, Error};
pub use events::{Candidate, Event, Level, LogRecord, Observation, State, Status, SubscriptionId};
pub use service::{Campaign, Handler, Observer, Service};
