//! What a sender that connected is told its receiver wants.

use super::push::News;
use crate::wire::SessionGrant;
use std::sync::mpsc;

/// Who connected, and so who says what further lanes prove.
#[derive(Debug)]
pub(super) enum Terms {
    /// The receiver did: this is what it is granted.
    Granting(SessionGrant),
    /// This side did: here it is told what the receiver wants of it.
    Pushing(mpsc::Sender<News>),
}

/// What a receiver wants that this side connected to.
#[derive(Debug)]
pub(super) enum Wish {
    /// Hashes or the seal: it took the offer.
    Contents,
    /// That further lanes prove this.
    Grant(SessionGrant),
    /// So many further data lanes.
    Lanes(u16),
}
