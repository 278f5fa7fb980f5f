//! Lanes: encrypted pipes over TCP whose ends have proven the same secret to each other.
//!
//! A `Listener` accepts and `connect` dials. Both speak TLS 1.3 with raw public keys, then prove over the exporter of
//! this very connection that they hold a link's key, a code's words or a session's secret, and only then is there a
//! `Lane`. Above a lane nobody needs to ask who is at the other end.

mod code_proof;
mod connect;
mod device_key;
mod discovery;
mod exporter;
mod finder;
mod fingerprint;
mod fresh;
mod gatekeeper;
mod greeting;
mod guest;
mod lane;
mod listener;
mod machine;
mod multicast;
mod pake;
mod pipe;
mod proof;
mod socket;

#[cfg(test)]
mod deadline_tests;
#[cfg(all(test, target_os = "linux"))]
#[path = "../../tests/support/netns.rs"]
pub(crate) mod netns;

pub use code_proof::CodeTries;
pub use connect::{NoLane, connect, connect_with_hints, connect_within};
pub use device_key::DeviceKey;
pub use discovery::{Announcement, DiscoveryFault};
pub use finder::{Finder, FoundHost};
pub use fingerprint::fingerprint;
pub use fresh::{fresh_code, fresh_key, fresh_room, fresh_session_id, fresh_session_secret, random_bytes};
pub use gatekeeper::{Gatekeeper, ListenerEvent};
pub use guest::{Guest, GuestPlace};
pub use lane::{AbortHandle, Lane};
pub use listener::Listener;
pub use proof::{LaneIntro, Proof, Purpose, Who};
pub(crate) use socket::household;

use std::io;

/// Why there is no lane, or no longer one.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The other end serves as many as it can, and may have room later.
    #[error("the other end serves as many receivers as it can")]
    Busy,
    /// The other end ended the lane in order: nothing was cut off.
    #[error("the other end closed the connection")]
    Closed,
    /// Nothing answered at any address in time.
    #[error("no answer to the attempt to connect")]
    ConnectTimeout,
    /// This machine failed: no descriptor, no random bytes, an address that cannot be bound.
    #[error("this machine's network stack failed: {0}")]
    Local(#[source] io::Error),
    /// The connection broke: a reset, or an end that the other side did not announce.
    #[error("the connection was lost")]
    Lost,
    /// Nobody who is looked for was found, so there is no address to connect to.
    #[error("nobody who is looked for was found on this network")]
    NotFound,
    /// Something else than haul answers there.
    #[error("what answers at that address is not haul")]
    PeerNotHaul,
    /// The other end connected but did not prove itself in time.
    #[error("the other end did not complete the handshake in time")]
    ProofTimeout,
    /// The address is reachable but nothing listens there.
    #[error("nothing listens at that address")]
    Refused,
    /// Nothing came from the other end, or nothing could be sent to it, for longer than the lane's silence limit.
    #[error("the other end is silent")]
    Silent,
    /// The other end broke a rule of TLS, or somebody changed bytes on the way.
    #[error("the connection is not intact: {0}")]
    Tls(#[source] rustls::Error),
    /// There is no way to the address.
    #[error("the address cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
    /// The other end speaks TLS, and not the version of haul that this one does.
    #[error("it does not speak the protocol {}", String::from_utf8_lossy(ALPN))]
    VersionMismatch,
    /// The other end does not hold the secret, or does not accept ours.
    #[error("the other end is not the one that the link names, or the link is no longer valid")]
    WrongProof,
}

/// What both ends name in ALPN: the protocol and the version of everything below the proof.
const ALPN: &[u8] = b"haul/1";
