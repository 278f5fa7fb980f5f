//! What a listener asks of whoever it listens for, and what it tells.

use super::guest::Guest;
use super::lane::Lane;
use super::proof::LaneIntro;
use crate::secret::{Code, Key, Room, SessionId, SessionSecret};
use std::net::SocketAddr;

/// Who a listener asks for secrets, and who takes the lanes that are proven. Called from several threads at once.
pub trait Gatekeeper: Send + Sync {
    /// The key of the link to `room`, if that link is still good.
    fn link_key(&self, room: Room) -> Option<Key>;

    /// The secret of session `id`, if there is one.
    fn session_secret(&self, id: SessionId) -> Option<SessionSecret>;

    /// The code, if there is one that may still be tried. Takes one of its tries at once: whoever asks answers a guess.
    ///
    /// Each call that returns a code is followed by one of [`Gatekeeper::code_proven`] and [`Gatekeeper::code_failed`].
    fn take_code_try(&self) -> Option<Code> {
        None
    }

    /// A joiner has proven `code`. True for one joiner only, for whom it is used up; false also where it was burnt since.
    fn code_proven(&self, code: &Code) -> bool {
        let _ = code;
        false
    }

    /// A try at `code` came to nothing: the guess was wrong, or its joiner left with it. Whether another try proved the code
    /// meanwhile is the same to this one.
    fn code_failed(&self, code: &Code) {
        let _ = code;
    }

    /// The joiner that proved `code` was gone before it could be told, so nobody has the lane that the code was used for.
    fn code_untold(&self, code: &Code) {
        let _ = code;
    }

    /// Takes a proven lane. The thread it is called on belongs to the connection: it may serve the lane to its end.
    fn admit(&self, lane: Lane, intro: LaneIntro);

    /// Whether connections that speak HTTP are taken; without it they are strangers.
    fn takes_guests(&self) -> bool {
        false
    }

    /// Whether connections that speak TLS, and not haul's protocol over it, are taken as well; without it they are strangers.
    fn takes_tls_guests(&self) -> bool {
        false
    }

    /// Takes a connection that speaks HTTP. Asked where [`Gatekeeper::takes_guests`] or
    /// [`Gatekeeper::takes_tls_guests`] says so.
    fn visit(&self, guest: Guest) {
        drop(guest);
    }

    /// Learns what the listener did with a stranger.
    fn observe(&self, event: ListenerEvent);
}

/// What happened at a listener, apart from lanes. Nothing in it was written by a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ListenerEvent {
    /// Something proved what it does not hold, or asked for what does not exist.
    BadProof {
        /// Where it came from.
        peer: SocketAddr,
        /// How many there were at this listener, this one included.
        count: u64,
    },
    /// Something broke off, or broke a rule of TLS, before its proof.
    HandshakeFailed {
        /// Where it came from.
        peer: SocketAddr,
    },
    /// Something that does not speak TLS connected.
    NotHaul {
        /// Where it came from.
        peer: SocketAddr,
    },
    /// This machine has no descriptor, memory or thread for a further connection; the listener waits before it goes on.
    OutOfResources,
    /// A connection was reset because too many have not proven themselves.
    Refused {
        /// Where it came from.
        peer: SocketAddr,
    },
    /// Something connected and did not prove itself in time.
    TooSlow {
        /// Where it came from.
        peer: SocketAddr,
    },
    /// Something guessed at the code and was wrong, or left with its guess.
    WrongCode {
        /// Where it came from.
        peer: SocketAddr,
        /// How many bad proofs there were at this listener, this one included.
        count: u64,
    },
}
