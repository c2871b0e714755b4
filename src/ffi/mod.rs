//! The C ABI, and the only place with `unsafe`. `include/tenure.h` is generated from the files of this folder; the
//! docs of the exports are written for its readers, and the conventions are at its head (`cbindgen.toml`).
#![allow(unsafe_code)]
#![allow(non_camel_case_types, reason = "types are named as in the header")]
#![allow(clippy::missing_safety_doc, reason = "what C programs must keep to is at the head of the header")]

pub mod campaign;
pub mod constants;
mod convert;
pub mod error;
pub mod events;
mod guard;
pub(crate) mod handle;
pub mod observer;
pub mod options;
mod pull;
pub(crate) mod results;
pub mod service;
mod subscriber;
pub(crate) mod sys;
pub mod version;

#[cfg(test)]
mod tests;

#[cfg(test)]
#[cfg(model)]
mod models;
