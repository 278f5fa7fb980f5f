//! The engine of `haul`: resumable, chunked, integrity-checked file transfer.
//!
//! Modules stand in data-flow order. A module uses only modules above it; `tests/tidy.rs` holds the table.
#![warn(clippy::cast_possible_truncation, clippy::unwrap_used)]

/// Sizes, counts and times that nothing may exceed.
pub mod limits;
/// The split of a file into chunks.
pub mod chunk;
/// Digests of chunks, files, listings and manifests.
pub mod digest;
/// Files cut by their content.
pub mod outline;
/// Sets of chunks.
pub mod chunk_set;
/// Paths that stay below the folder they are joined to.
pub mod rel_path;
/// Peers' text, safe to show.
pub mod printable;
/// Listing, hash pages and seal.
pub mod manifest;
/// Keys, session secrets and links.
pub mod secret;
/// Bodies between a page and its host, sealed.
pub mod sealing;
/// Frames and messages.
pub mod wire;
/// The protocol as pure state machines.
pub mod session;
/// Files mapped into memory.
pub mod mmap;
/// Pieces made shorter on their way.
pub mod codec;
/// What is sent: walked, read and hashed.
pub mod source;
/// Where what is received lies until it is complete, and how it appears.
pub mod store;
/// Encrypted, proven connections.
pub mod transport;
/// Sending and receiving, and what they tell their caller.
pub mod transfer;
/// Text as a QR code, for a terminal or as a picture.
pub mod qr;
/// Browsers, served at the port of a run.
pub mod web;
