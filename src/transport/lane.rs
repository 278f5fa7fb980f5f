//! A proven, encrypted, ordered pipe of bytes between two ends.

use super::TransportError;
use super::pipe::Pipe;
use crate::limits;
use std::fmt;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// A pipe to an end that has proven itself. One thread at a time uses it; what it reads was sent by that end, whole and
/// in order, or there is an error.
///
/// Dropping a lane without [`Lane::close`] looks like a lost connection to the other end.
pub struct Lane {
    pipe: Pipe,
    peer_address: SocketAddr,
}

/// Watches one lane from any thread, and breaks it.
#[derive(Clone, Debug)]
pub struct AbortHandle {
    socket: Weak<TcpStream>,
    bytes_received: Arc<AtomicU64>,
}

impl Lane {
    pub(super) fn new(mut pipe: Pipe, peer_address: SocketAddr) -> Self {
        pipe.proven();
        pipe.set_silence_limit(Some(limits::LANE_SILENCE_MAX));
        Self { pipe, peer_address }
    }

    /// Encrypts `parts`, one after the other, and hands all of it to the kernel.
    ///
    /// Both ends must not send more than the sockets hold at the same time without reading.
    pub fn send(&mut self, parts: &[&[u8]]) -> Result<(), TransportError> {
        self.pipe.send(parts)
    }

    /// Fills `into` with the next bytes that the other end sent. After an error, how much of it is filled is unknown.
    pub fn read_exact(&mut self, into: &mut [u8]) -> Result<(), TransportError> {
        self.pipe.read_exact(into)
    }

    /// Whether a byte can be read, waiting for one at most `limit`; zero asks without waiting.
    pub fn ready_within(&mut self, limit: Duration) -> Result<bool, TransportError> {
        self.pipe.ready_within(limit)
    }

    /// How long a read or a write waits for any progress before it fails as [`TransportError::Silent`]; `None` is for
    /// ever. At first it is [`limits::LANE_SILENCE_MAX`].
    pub fn set_silence_limit(&mut self, limit: impl Into<Option<Duration>>) {
        self.pipe.set_silence_limit(limit.into());
    }

    /// From `deadline` on every call fails, however much moves: for a lane that is to end. It fails as
    /// [`TransportError::ProofTimeout`].
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.pipe.set_deadline(deadline);
    }

    /// Announces the end of what this end sends, so that the other end sees [`TransportError::Closed`], not a loss.
    pub fn close(&mut self) -> Result<(), TransportError> {
        self.pipe.close()
    }

    /// A handle that makes every waiting and later call on this lane fail. It does not keep the lane open.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle {
            socket: Arc::downgrade(self.pipe.socket()),
            bytes_received: Arc::clone(self.pipe.bytes_received()),
        }
    }

    /// Address of the other end.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// Whether the connection ends on this machine: at the other end itself, or at something that passes its bytes on,
    /// such as a tunnel. Between here and there nothing is slow or lost.
    pub fn stays_on_this_machine(&self) -> bool {
        super::socket::stays_on_this_machine(self.pipe.socket())
    }

    /// Bytes of TLS sent over this connection, its handshake included.
    pub fn bytes_sent(&self) -> u64 {
        self.pipe.bytes_sent()
    }

    /// Bytes of TLS received over this connection, its handshake included.
    pub fn bytes_received(&self) -> u64 {
        self.pipe.bytes_received().load(Ordering::Relaxed)
    }
}

impl AbortHandle {
    /// Bytes of TLS received so far, its handshake included.
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received.load(Ordering::Relaxed)
    }

    /// Ends what this end reads: once it has what came before, a call that waits to read returns with
    /// [`TransportError::Lost`]. What it sends still arrives.
    pub fn stop_reading(&self) {
        if let Some(socket) = self.socket.upgrade() {
            // It fails only where the connection is broken already.
            let _ = socket.shutdown(Shutdown::Read);
        }
    }

    /// Breaks the connection in both directions: a call that waits returns with [`TransportError::Lost`].
    pub fn abort(&self) {
        if let Some(socket) = self.socket.upgrade() {
            // It fails only where the connection is broken already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lane").field("peer_address", &self.peer_address).finish_non_exhaustive()
    }
}
