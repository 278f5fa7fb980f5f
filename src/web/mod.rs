//! Browsers, served at the port of a run. The only code that waits without a thread of its own.
//!
#![doc = include_str!("SPEC.md")]
// The names of calls and files in the specification are not code of this crate.
#![allow(clippy::doc_markdown)]

mod access;
mod assets;
mod calls;
mod certificate;
mod connection;
mod downloads;
mod guests;
mod headers;
mod heavy;
mod native;
mod nonces;
pub mod range;
mod rewound;
mod routes;
mod server;
mod site;
mod steady;
mod uploads;
mod zip;

pub use server::open;
