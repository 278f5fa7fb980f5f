//! Keys, session secrets, links and codes: their text form, redacted `Debug`, wiped on drop.

mod code;
mod invitation;
mod link;
mod words;

pub use code::{CODE_NUMBER_MAX, CODE_WORDS, Code, CodeFault, code_words, complete_word};
pub use invitation::{Invitation, InvitationFault};
pub use link::{LINK_ADDRESSES_MAX, Link, LinkFault};
pub use words::fingerprint_words;

use data_encoding::BASE32_NOPAD;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of a room and of a key.
pub const KEY_BYTES: usize = 16;

/// Names an offer or a room on its host. Public: it travels in the clear part of a link and of a proof.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Room([u8; KEY_BYTES]);

/// The secret half of a link. Both ends prove it; it never travels.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; KEY_BYTES]);

/// Names a session on its host. Public.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId([u8; 16]);

/// What the host issues for a session, so that its later lanes prove themselves without the link.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SessionSecret([u8; 32]);

impl Room {
    /// The room that `bytes` name; random ones make a room of its own.
    pub const fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes that name this room.
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl Key {
    /// The key that `bytes` are. They must be random; the caller wipes its own copy.
    pub const fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The secret bytes, to be stored or to key a MAC.
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl SessionId {
    /// The session that `bytes` name.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes that name this session.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl SessionSecret {
    /// The secret that `bytes` are. They must be random; the caller wipes its own copy.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes, to be stored or to key a MAC.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Room {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&BASE32_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Room({self})")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key([redacted])")
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SessionId(")?;
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))?;
        formatter.write_str(")")
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SessionSecret([redacted])")
    }
}
