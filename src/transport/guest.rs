//! Connections that speak HTTP, over TLS or not, which are somebody else's to serve.

use super::listener::Place;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

/// A connection that begins with a request of HTTP, or with a handshake of TLS that does not ask for haul's protocol.
///
/// It counts as one that has not proven itself, with the cap and the deadline of those, until its place is given up.
#[derive(Debug)]
pub struct Guest {
    /// The connection.
    pub socket: TcpStream,
    /// The start of its handshake, which was read from it, where it speaks TLS. Otherwise nothing was read.
    pub hello: Option<Vec<u8>>,
    /// Where it came from.
    pub peer: SocketAddr,
    /// When it is to be gone, unless it has proven that it knows the room.
    pub deadline: Instant,
    /// To be dropped once it has, or is gone.
    pub place: GuestPlace,
}

/// A place among the connections that have not proven themselves, given back when dropped.
#[derive(Debug)]
pub struct GuestPlace {
    _place: Place,
}

impl Guest {
    /// The connection of `place`, or nothing where this machine has no descriptor for it.
    pub(super) fn new(place: Place, peer: SocketAddr, deadline: Instant, hello: Option<Vec<u8>>) -> Option<Self> {
        let socket = place.socket().try_clone().ok()?;
        Some(Self { socket, hello, peer, deadline, place: GuestPlace { _place: place } })
    }
}
