//! Secrets and public names fresh from the operating system's random source.

use super::TransportError;
use crate::secret::{Key, Room, SessionId, SessionSecret};
use zeroize::Zeroizing;

/// A key that nobody can guess.
pub fn fresh_key() -> Result<Key, TransportError> {
    Ok(Key::from_bytes(*random_bytes()?))
}

/// A room that no other offer has.
pub fn fresh_room() -> Result<Room, TransportError> {
    Ok(Room::from_bytes(*random_bytes()?))
}

/// A session's name that no other session has.
pub fn fresh_session_id() -> Result<SessionId, TransportError> {
    Ok(SessionId::from_bytes(*random_bytes()?))
}

/// A session's secret that nobody can guess.
pub fn fresh_session_secret() -> Result<SessionSecret, TransportError> {
    Ok(SessionSecret::from_bytes(*random_bytes()?))
}

pub(super) fn random_bytes<const N: usize>() -> Result<Zeroizing<[u8; N]>, TransportError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(|error| TransportError::Local(std::io::Error::other(error.to_string())))?;
    Ok(bytes)
}
