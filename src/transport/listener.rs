//! The accepting end: caps and deadlines first, then TLS, then the proof.

use super::code_proof::{self, NoProof};
use super::device_key::DeviceKey;
use super::fresh::random_bytes;
use super::gatekeeper::{Gatekeeper, ListenerEvent};
use super::greeting::{self, Greeting};
use super::guest::Guest;
use super::lane::Lane;
use super::pipe::Pipe;
use super::proof::{self, Binding, HEAD_BYTES, JOINER_MESSAGE_BYTES, LaneIntro, Purpose, Who};
use super::{TransportError, socket};
use crate::limits;
use socket2::SockRef;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// A bound port that turns connections into proven lanes until it is dropped.
pub struct Listener {
    door: Arc<Door>,
    accepting: Option<JoinHandle<()>>,
}

/// How long and how many strangers may take. Only tests have others than the limits.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub(super) proof_deadline: Duration,
    pub(super) wrong_code_wait: Duration,
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
    /// By whose they are, see [`socket::household`].
    unproven: HashMap<u64, (IpAddr, Arc<TcpStream>)>,
}

/// How a connection begins.
enum Opening {
    /// With a handshake of haul's own, of which so much was read.
    Joiner(Vec<u8>),
    /// With HTTP, or with a handshake of TLS for HTTP, which was read.
    Guest(Option<Vec<u8>>),
    /// With something that nobody here speaks.
    Other,
}

/// A connection's place among those that have not proven themselves; given back when dropped.
pub(super) struct Place {
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
            let _ = TcpStream::connect_timeout(&socket::reachable(self.door.address), Duration::from_secs(1));
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
        let socket = socket::listen(address).map_err(TransportError::Local)?;
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
            wrong_code_wait: limits::WRONG_CODE_WAIT,
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
                // One that listens on both families is told IPv4 addresses in the clothes of the other.
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
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
    let opening = door.opening(&place.socket, deadline);
    let proven = match opening {
        Ok(Opening::Guest(said)) => return door.see_in(place, peer, deadline, said),
        Ok(Opening::Joiner(said)) => door.prove_joiner(&place.socket, &said, peer, deadline),
        Ok(Opening::Other) => {
            dismiss(&place.socket);
            Err(TransportError::PeerNotHaul.into())
        }
        Err(fault) => Err(fault.into()),
    };
    let closed = door.lock().closed;
    drop(place);
    match proven {
        _ if closed => {}
        Ok((lane, intro)) => door.gatekeeper.admit(lane, intro),
        // What was told before its joiner was; port scans, and joiners that another address of ours answered first.
        Err(NoProof::WrongCode | NoProof::Fault(TransportError::Closed)) => {}
        Err(NoProof::Fault(TransportError::WrongProof)) => {
            let count = door.count_bad_proof();
            door.gatekeeper.observe(ListenerEvent::BadProof { peer, count });
        }
        Err(NoProof::Fault(TransportError::PeerNotHaul)) => door.gatekeeper.observe(ListenerEvent::NotHaul { peer }),
        Err(NoProof::Fault(TransportError::ProofTimeout)) => door.gatekeeper.observe(ListenerEvent::TooSlow { peer }),
        Err(NoProof::Fault(_)) => door.gatekeeper.observe(ListenerEvent::HandshakeFailed { peer }),
    }
}

impl Door {
    /// Takes `socket` in, or resets it when there are too many.
    fn place(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr) -> Option<Place> {
        let from = socket::household(peer.ip());
        let mut state = self.lock();
        let of_peer = state.unproven.values().filter(|(other, _)| *other == from).count();
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
        state.unproven.insert(id, (from, Arc::clone(&socket)));
        Some(Place { door: Arc::clone(self), id, socket })
    }

    /// What a connection begins with, as far as that has to be known.
    fn opening(&self, socket: &TcpStream, deadline: Instant) -> Result<Opening, TransportError> {
        match greeting::first_byte(socket, deadline)? {
            TLS_HANDSHAKE if self.gatekeeper.takes_tls_guests() => {
                let Greeting { said, asks_for_haul } = greeting::read(socket, deadline)?;
                Ok(if asks_for_haul { Opening::Joiner(said) } else { Opening::Guest(Some(said)) })
            }
            TLS_HANDSHAKE => Ok(Opening::Joiner(Vec::new())),
            first if HTTP_METHODS.contains(&first) && self.gatekeeper.takes_guests() => Ok(Opening::Guest(None)),
            _ => Ok(Opening::Other),
        }
    }

    /// Hands a connection on that is a browser's.
    fn see_in(&self, place: Place, peer: SocketAddr, deadline: Instant, said: Option<Vec<u8>>) {
        match Guest::new(place, peer, deadline, said) {
            Some(guest) => self.gatekeeper.visit(guest),
            None => self.back_off(),
        }
    }

    fn prove_joiner(
        &self,
        socket: &Arc<TcpStream>,
        said: &[u8],
        peer_address: SocketAddr,
        deadline: Instant,
    ) -> Result<(Lane, LaneIntro), NoProof> {
        socket::prepare(socket).map_err(|_| TransportError::Lost)?;
        let mut pipe = Pipe::host(Arc::clone(socket), &self.device, said, deadline)?;
        let binding = pipe.binding(self.device.spki())?;
        let mut head = [0; HEAD_BYTES];
        pipe.read_exact(&mut head)?;
        let (purpose, who) = if proof::is_by_code(head) {
            (self.prove_code(&mut pipe, head, &binding, peer_address, deadline)?, Who::Code)
        } else {
            self.prove_mac(&mut pipe, head, &binding)?
        };
        Ok((Lane::new(pipe, peer_address), LaneIntro { purpose, who, peer_address }))
    }

    fn prove_mac(
        &self,
        pipe: &mut Pipe,
        head: [u8; HEAD_BYTES],
        binding: &Binding,
    ) -> Result<(Purpose, Who), TransportError> {
        let mut message = [0; JOINER_MESSAGE_BYTES];
        message[..HEAD_BYTES].copy_from_slice(&head);
        pipe.read_exact(&mut message[HEAD_BYTES..])?;
        // One path for every wrong proof, so that a stranger cannot tell what exists here.
        let claim = proof::claim(&message);
        let secret = claim.as_ref().and_then(|claim| self.secret_of(claim.who));
        let secret_or_decoy = secret.as_deref().map_or(&self.decoy[..], Vec::as_slice);
        let answer = proof::answer(&message, secret_or_decoy, binding);
        let (Some(claim), Some(_), Some(answer)) = (claim, secret, answer) else {
            // The refusal is the close itself; whether it arrives is the peer's business.
            let _ = pipe.close();
            return Err(TransportError::WrongProof);
        };
        pipe.send(&[&answer])?;
        Ok((claim.purpose, claim.who))
    }

    fn prove_code(
        &self,
        pipe: &mut Pipe,
        head: [u8; HEAD_BYTES],
        binding: &Binding,
        peer: SocketAddr,
        deadline: Instant,
    ) -> Result<Purpose, NoProof> {
        let proven = code_proof::welcome(pipe, head, binding, &*self.gatekeeper);
        if let Err(NoProof::WrongCode) = proven {
            let count = self.count_bad_proof();
            self.gatekeeper.observe(ListenerEvent::WrongCode { peer, count });
            // Each guess costs its joiner a place and this time; what was wrong with it is not said.
            let left = deadline.saturating_duration_since(Instant::now());
            self.wait_open(self.patience.wrong_code_wait.min(left));
            let _ = pipe.close();
        }
        proven
    }

    fn secret_of(&self, who: Who) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = match who {
            Who::Code => return None,
            Who::Link(room) => self.gatekeeper.link_key(room)?.as_bytes().to_vec(),
            Who::Session(id) => self.gatekeeper.session_secret(id)?.as_bytes().to_vec(),
        };
        Some(Zeroizing::new(bytes))
    }

    /// Counts one more, and returns how many there were.
    fn count_bad_proof(&self) -> u64 {
        let mut state = self.lock();
        state.bad_proofs += 1;
        state.bad_proofs
    }

    /// Waits a little for this machine to have room again, or for the end.
    fn back_off(&self) {
        self.gatekeeper.observe(ListenerEvent::OutOfResources);
        self.wait_open(BACK_OFF);
    }

    /// Waits for so long, or until the listener closes. Nothing is locked meanwhile.
    fn wait_open(&self, time: Duration) {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.closed);
        drop(waited);
    }

    fn lock(&self) -> MutexGuard<'_, DoorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Place").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.lock().unproven.remove(&self.id);
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

/// Wait after this machine had no room for a connection.
const BACK_OFF: Duration = Duration::from_millis(100);
/// First byte of a TLS record that begins a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// First bytes of the methods of HTTP that a browser uses: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT.
const HTTP_METHODS: &[u8] = b"DGHOP";

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Gatekeeper for Nobody {
        fn link_key(&self, _: crate::secret::Room) -> Option<crate::secret::Key> {
            None
        }

        fn session_secret(&self, _: crate::secret::SessionId) -> Option<crate::secret::SessionSecret> {
            None
        }

        fn admit(&self, _: Lane, _: LaneIntro) {}

        fn observe(&self, _: ListenerEvent) {}
    }

    #[test]
    fn places_are_shared_by_an_ipv6_network() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(address, DeviceKey::generate().unwrap(), Arc::new(Nobody)).unwrap();
        let other_end = TcpListener::bind(address).unwrap();
        let place = |ip: String| {
            let socket = TcpStream::connect(other_end.local_addr().unwrap()).unwrap();
            listener.door.place(socket, SocketAddr::new(ip.parse().unwrap(), 1))
        };
        let most = limits::UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX;
        let places: Vec<_> = (0..=most).map(|n| place(format!("2001:db8:0:1::{n}"))).collect();
        assert_eq!(places.iter().flatten().count(), most);
        assert!(place("2001:db8:0:2::1".into()).is_some());
    }
}
