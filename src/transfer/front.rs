//! What a run shows to whoever comes: its secrets, its code, its page, and the numbers that it tells them apart by.

use super::TransferError;
use super::codes::CodeKeeper;
use super::pages::Lodge;
use super::state::OfferState;
use crate::secret::{Key, Room, SessionId, SessionSecret};
use std::sync::atomic::{AtomicU64, Ordering};

/// The front of a run. Where it both offers and takes, both stand behind the same one.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) state: OfferState,
    pub(super) codes: CodeKeeper,
    /// Where browsers go.
    pub(super) lodge: Lodge,
    next_number: AtomicU64,
}

impl Front {
    /// The front of a run that keeps `state`, and shows a code unless that is not wanted.
    pub(super) fn new(state: OfferState, no_code: bool) -> Result<Self, TransferError> {
        let codes = if no_code { Ok(CodeKeeper::without()) } else { CodeKeeper::new(None) };
        let codes = codes.map_err(|error| TransferError::Network(error.into()))?;
        Ok(Self { state, codes, lodge: Lodge::default(), next_number: AtomicU64::new(1) })
    }

    /// A number that no session of this run has.
    pub(super) fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// The key of the link, where it is the one to `room`.
    pub(super) fn link_key(&self, room: Room) -> Option<Key> {
        (room == self.state.room).then(|| self.state.key.clone())
    }

    /// The secret of a session, one that this run has never seen included: an earlier run of it may have.
    pub(super) fn session_secret(&self, id: SessionId) -> SessionSecret {
        self.state.session_secret(id)
    }
}
