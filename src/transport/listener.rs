//! The accepting end: caps and deadlines first, then TLS, then the proof.

use super::device_key::DeviceKey;
use super::fresh::random_bytes;
use super::lane::Lane;
use super::pipe::Pipe;
use super::proof::{self, JOINER_MESSAGE_BYTES, LaneIntro, Who};
use super::{TransportError, socket};
use crate::limits;
use crate::secret::{Key, Room, SessionId, SessionSecret};
use socket2::{Domain, SockRef, Socket, Type};
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Who a listener asks for secrets, and who takes the lanes that are proven. Called from several threads at once.
pub trait Gatekeeper: Send + Sync {
    /// The key of the link to `room`, if that link is still good.
    fn link_key(&self, room: Room) -> Option<Key>;

    /// The secret of session `id`, if there is one.
    fn session_secret(&self, id: SessionId) -> Option<SessionSecret>;

    /// Takes a proven lane. The thread it is called on belongs to the connection: it may serve the lane to its end.
    fn admit(&self, lane: Lane, intro: LaneIntro);

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
}

/// A bound port that turns connections into proven lanes until it is dropped.
pub struct Listener {
    door: Arc<Door>,
    accepting: Option<JoinHandle<()>>,
}

/// How long and how many strangers may take. Only tests have others than the limits.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub(super) proof_deadline: Duration,
    pub(super) unproven_max: usize,
    pub(super) unproven_per_address_max: usize,
}

struct Door {
    socket: TcpListener,
    address: SocketAddr,
    device: DeviceKey,
    gatekeeper: Arc<dyn Gatekeeper>,
    patience: Patience,
    /// Stands in for a secret that does not exist, so that a proof of it takes the same path.
    decoy: Zeroizing<[u8; 32]>,
    state: Mutex<DoorState>,
    changed: Condvar,
}

#[derive(Default)]
struct DoorState {
    closed: bool,
    bad_proofs: u64,
    next_id: u64,
    unproven: HashMap<u64, (IpAddr, Arc<TcpStream>)>,
}

/// A connection's place among those that have not proven themselves; given back when dropped.
struct Place {
    door: Arc<Door>,
    id: u64,
    socket: Arc<TcpStream>,
}

impl Listener {
    /// Listens at `address` (port 0: one that is free) and gives proven lanes to `gatekeeper`.
    pub fn bind(
        address: SocketAddr,
        device: DeviceKey,
        gatekeeper: Arc<dyn Gatekeeper>,
    ) -> Result<Self, TransportError> {
        Self::bind_with(address, device, gatekeeper, Patience::default())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.door.address
    }

    /// How many proofs it did not accept.
    pub fn bad_proofs(&self) -> u64 {
        self.door.lock().bad_proofs
    }

    /// Stops accepting and breaks every connection that has not proven itself. Lanes go on. Dropping does the same.
    pub fn close(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        {
            let mut state = self.door.lock();
            state.closed = true;
            for (_, socket) in state.unproven.values() {
                // It fails only where the connection is broken already.
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
        self.door.changed.notify_all();
        // On Linux this ends a waiting accept(2). A connection to the own port does elsewhere.
        let _ = SockRef::from(&self.door.socket).shutdown(Shutdown::Both);
        if cfg!(not(target_os = "linux")) {
            let _ = TcpStream::connect_timeout(&reachable(self.door.address), Duration::from_secs(1));
        }
        // A panic there was reported when it happened; there is nothing left to stop.
        let _ = accepting.join();
    }

    pub(super) fn bind_with(
        address: SocketAddr,
        device: DeviceKey,
        gatekeeper: Arc<dyn Gatekeeper>,
        patience: Patience,
    ) -> Result<Self, TransportError> {
        let socket = bind_socket(address).map_err(TransportError::Local)?;
        let address = socket.local_addr().map_err(TransportError::Local)?;
        let decoy = random_bytes()?;
        let (state, changed) = (Mutex::default(), Condvar::new());
        let door = Arc::new(Door { socket, address, device, gatekeeper, patience, decoy, state, changed });
        let accepting = {
            let door = Arc::clone(&door);
            let builder = thread::Builder::new().name("haul accept".into());
            builder.spawn(move || accept_all(&door)).map_err(TransportError::Local)?
        };
        Ok(Self { door, accepting: Some(accepting) })
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            proof_deadline: limits::PROOF_DEADLINE,
            unproven_max: limits::UNPROVEN_CONNECTIONS_MAX,
            unproven_per_address_max: limits::UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Listener").field("address", &self.door.address).finish_non_exhaustive()
    }
}

fn accept_all(door: &Arc<Door>) {
    loop {
        let accepted = door.socket.accept();
        // From here on: waiting in a queue of ours counts as the peer's time.
        let deadline = Instant::now() + door.patience.proof_deadline;
        if door.lock().closed {
            return;
        }
        match accepted {
            Ok((socket, peer)) => {
                let Some(place) = door.place(socket, peer) else { continue };
                let builder = thread::Builder::new().name("haul lane".into());
                if builder.spawn(move || welcome(place, peer, deadline)).is_err() {
                    door.back_off();
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(_) => door.back_off(),
        }
    }
}

/// Takes one connection from its first byte to its end.
fn welcome(place: Place, peer: SocketAddr, deadline: Instant) {
    let door = Arc::clone(&place.door);
    let proven = first_byte(&place.socket, deadline).and_then(|first| {
        if first == TLS_HANDSHAKE {
            return door.prove_joiner(&place.socket, peer, deadline);
        }
        dismiss(&place.socket);
        Err(TransportError::PeerNotHaul)
    });
    let closed = door.lock().closed;
    drop(place);
    match proven {
        _ if closed => {}
        Ok((lane, intro)) => door.gatekeeper.admit(lane, intro),
        // Port scans, and joiners that another address of ours answered first.
        Err(TransportError::Closed) => {}
        Err(TransportError::WrongProof) => door.count_bad_proof(peer),
        Err(TransportError::PeerNotHaul) => door.gatekeeper.observe(ListenerEvent::NotHaul { peer }),
        Err(TransportError::ProofTimeout) => door.gatekeeper.observe(ListenerEvent::TooSlow { peer }),
        Err(_) => door.gatekeeper.observe(ListenerEvent::HandshakeFailed { peer }),
    }
}

impl Door {
    /// Takes `socket` in, or resets it when there are too many.
    fn place(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr) -> Option<Place> {
        let ip = peer.ip().to_canonical();
        let mut state = self.lock();
        let of_peer = state.unproven.values().filter(|(other, _)| *other == ip).count();
        if state.closed {
            return None;
        }
        if state.unproven.len() >= self.patience.unproven_max || of_peer >= self.patience.unproven_per_address_max {
            drop(state);
            socket::reset(socket);
            self.gatekeeper.observe(ListenerEvent::Refused { peer });
            return None;
        }
        let socket = Arc::new(socket);
        let id = state.next_id;
        state.next_id += 1;
        state.unproven.insert(id, (ip, Arc::clone(&socket)));
        Some(Place { door: Arc::clone(self), id, socket })
    }

    fn prove_joiner(
        &self,
        socket: &Arc<TcpStream>,
        peer_address: SocketAddr,
        deadline: Instant,
    ) -> Result<(Lane, LaneIntro), TransportError> {
        socket::prepare(socket).map_err(|_| TransportError::Lost)?;
        let mut pipe = Pipe::host(Arc::clone(socket), &self.device, deadline)?;
        let binding = pipe.binding(self.device.spki())?;
        let mut message = [0; JOINER_MESSAGE_BYTES];
        pipe.read_exact(&mut message)?;
        // One path for every wrong proof, so that a stranger cannot tell what exists here.
        let claim = proof::claim(&message);
        let secret = claim.as_ref().and_then(|claim| self.secret_of(claim.who));
        let secret_or_decoy = secret.as_deref().map_or(&self.decoy[..], Vec::as_slice);
        let answer = proof::answer(&message, secret_or_decoy, &binding);
        let (Some(claim), Some(_), Some(answer)) = (claim, secret, answer) else {
            // The refusal is the close itself; whether it arrives is the peer's business.
            let _ = pipe.close();
            return Err(TransportError::WrongProof);
        };
        pipe.send(&[&answer])?;
        let intro = LaneIntro { purpose: claim.purpose, who: claim.who, peer_address };
        Ok((Lane::new(pipe, peer_address), intro))
    }

    fn secret_of(&self, who: Who) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = match who {
            Who::Link(room) => self.gatekeeper.link_key(room)?.as_bytes().to_vec(),
            Who::Session(id) => self.gatekeeper.session_secret(id)?.as_bytes().to_vec(),
        };
        Some(Zeroizing::new(bytes))
    }

    fn count_bad_proof(&self, peer: SocketAddr) {
        let count = {
            let mut state = self.lock();
            state.bad_proofs += 1;
            state.bad_proofs
        };
        self.gatekeeper.observe(ListenerEvent::BadProof { peer, count });
    }

    /// Waits a little for this machine to have room again, or for the end.
    fn back_off(&self) {
        self.gatekeeper.observe(ListenerEvent::OutOfResources);
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, BACK_OFF, |state| !state.closed);
        drop(waited);
    }

    fn lock(&self) -> MutexGuard<'_, DoorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.lock().unproven.remove(&self.id);
    }
}

fn bind_socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Elsewhere than on Unix the option lets another program take the port over.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The first byte that a peer sends, which tells what it speaks.
fn first_byte(socket: &TcpStream, deadline: Instant) -> Result<u8, TransportError> {
    let mut byte = [0];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(TransportError::ProofTimeout);
        }
        socket.set_read_timeout(Some(left)).map_err(|_| TransportError::Lost)?;
        match socket.peek(&mut byte) {
            Ok(0) => return Err(TransportError::Closed),
            Ok(_) => return Ok(byte[0]),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {}
                _ => return Err(TransportError::Lost),
            },
        }
    }
}

/// Ends a connection that speaks something else in order. What it sent is taken first: closing over unread bytes is a reset.
fn dismiss(mut socket: &TcpStream) {
    let _ = socket.shutdown(Shutdown::Write);
    let mut unread = [0; 4096];
    // The byte that was looked at is there, so this does not wait.
    let _ = socket.read(&mut unread);
}

/// Whether a failed accept(2) says something about that connection only.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// An address at which this machine reaches its own port.
#[cfg_attr(target_os = "linux", allow(dead_code))]
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Connections that the kernel completes ahead of accept(2).
const BACKLOG: i32 = 128;
/// Wait after this machine had no room for a connection.
const BACK_OFF: Duration = Duration::from_millis(100);
/// First byte of a TLS record that begins a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
