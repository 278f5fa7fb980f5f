//! What travels over a lane: the specification below is complete, and this module is its only implementation.
//!
#![doc = include_str!("SPEC.md")]
// The names of messages in the specification's table are not code of this crate.
#![allow(clippy::doc_markdown)]

mod frame;
mod message;
mod version;

pub use frame::{Encoding, FRAME_HEADER_BYTES, Frame, FrameFault, FrameHeader, PIECE_ADDRESS_BYTES, Piece, piece_head};
pub use message::{Change, Message, MessageFault, Refusal, SessionGrant, WireEntry, WireTotals};
pub use version::{ALPN, FEATURE_ZSTD, FEATURES, VERSION};
