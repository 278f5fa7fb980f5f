#![doc = include_str!("SPEC.md")]
//! What travels over a lane. The specification above is complete; this module is its only implementation.

mod frame;
mod message;
mod version;

pub use frame::{Encoding, FRAME_HEADER_BYTES, Frame, FrameFault, FrameHeader, PIECE_ADDRESS_BYTES, Piece, piece_head};
pub use message::{Change, Message, MessageFault, Refusal, SessionGrant, WireEntry, WireTotals};
pub use version::{ALPN, FEATURES, VERSION};
