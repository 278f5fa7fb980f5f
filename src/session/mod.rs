//! The protocol as two pure state machines: what to ask, what to believe, when it is over.
//!
//! **The contract.** Whoever drives a session calls `handle(now, input)` for everything that happens, and after every
//! call drains `poll()` until it returns `None`, carrying out each output. Nothing else changes a session. `now` is the
//! time since the session began, and never runs backwards; [`Receiver::wake`](crate::session::Receiver::wake)
//! and [`Sender::wake`](crate::session::Sender::wake) say when a `Tick` is
//! due if nothing else happens before.
//!
//! No clock, file, socket, thread or random number is used here: time and what they gave are inputs.

mod fault;
mod listing_pages;
mod receiver;
mod sender;

pub use fault::{End, FileFault, PeerFault};
pub use listing_pages::listing_page_starts;
pub use receiver::{Input, Output, Plan, Receiver, ReceiverSettings, Verdict};
pub use sender::{ChunksToServe, Sender, SenderInput, SenderOutput, SenderSettings};

/// Names one lane of a session. Never reused within it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LaneId(pub u32);

/// What a lane carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LaneRole {
    /// Everything but chunks.
    Control,
    /// Chunks.
    Data,
}
