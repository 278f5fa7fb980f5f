//! What travels over a lane: the specification below is complete, and this module is its only implementation.
//!
#![doc = include_str!("SPEC.md")]
// The names of messages in the specification's table are not code of this crate.
#![allow(clippy::doc_markdown)]

mod entry;
mod frame;
mod manifest_file;
mod message;
mod version;

pub use entry::{EntryFault, WireEntry, WireKind, WireTotals};
pub use frame::{Encoding, FRAME_HEADER_BYTES, Frame, FrameFault, FrameHeader, PIECE_ADDRESS_BYTES, Piece, piece_head};
pub use manifest_file::{
    MANIFEST_FILE_MAGIC, MANIFEST_FILE_VERSION, ManifestDecoder, ManifestFault, ManifestHead, ManifestWriter,
};
pub use message::{Change, Message, MessageFault, Refusal, SessionGrant};
pub use version::{ALPN, FEATURE_OUTLINES, FEATURE_RATES, FEATURE_ZSTD, FEATURES, VERSION};
