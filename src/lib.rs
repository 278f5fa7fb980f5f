//! The engine of `haul`: resumable, chunked, integrity-checked file transfer.
//!
//! Modules stand in data-flow order. A module uses only modules above it; `tests/tidy.rs` holds the table.

/// Sizes, counts and times that nothing may exceed.
pub mod limits;
/// Listing, hash pages and seal.
pub mod manifest;
/// Reading views of files in memory.
pub mod mmap;
/// Paths that stay below the folder they are joined to.
pub mod rel_path;
/// Where received bytes go.
pub mod store;
