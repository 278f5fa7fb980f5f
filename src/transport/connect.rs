//! The dialling end: to whichever of several addresses answers and proves itself.

use super::code_proof::{self, CodeTries};
use super::device_key::DeviceKey;
use super::lane::Lane;
use super::pipe::Pipe;
use super::proof::{HOST_MESSAGE_BYTES, Proof, Purpose};
use super::{TransportError, socket};
use crate::limits;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Opens a lane to the first of `addresses` that answers and proves what `proof` names.
///
/// The addresses are tried almost at once, each a little after the one before it, so that a dead one costs no wait. An end
/// that answers but is the wrong one (the same private address in another network) does not stop the others. All of it is over by `deadline`.
pub fn connect(
    device: &DeviceKey,
    addresses: &[SocketAddr],
    proof: &Proof,
    purpose: Purpose,
    deadline: Instant,
) -> Result<Lane, TransportError> {
    connect_within(device, addresses, proof, &mut CodeTries::default(), purpose, deadline)
}

/// Why no end proved itself at any of several addresses.
#[derive(Debug)]
pub struct NoLane {
    /// The most telling failure at an address that is known to be the host's.
    pub fault: TransportError,
    /// Hints where somebody answered who did not accept the proof.
    pub refused: Vec<SocketAddr>,
}

/// Like [`connect`], and to `hints` as well, which anybody on the network may have named: who answers there may be right, but
/// what is wrong there says nothing about the host.
pub fn connect_with_hints(
    device: &DeviceKey,
    known: &[SocketAddr],
    hints: &[SocketAddr],
    proof: &Proof,
    purpose: Purpose,
    deadline: Instant,
) -> Result<Lane, NoLane> {
    let addresses = [known, hints].concat();
    connect_to(device, &addresses, known.len(), proof, &mut CodeTries::default(), purpose, deadline)
}

/// Like [`connect`], but a proof of a code, which opens a control lane of either direction and no data lane, counts in
/// `tries`, which are as many as [`limits::CODE_TRIES_MAX`] whatever the number of addresses and calls. An end that has turned the code down is not asked again.
pub fn connect_within(
    device: &DeviceKey,
    addresses: &[SocketAddr],
    proof: &Proof,
    tries: &mut CodeTries,
    purpose: Purpose,
    deadline: Instant,
) -> Result<Lane, TransportError> {
    let lane = connect_to(device, addresses, addresses.len(), proof, tries, purpose, deadline);
    lane.map_err(|none| none.fault)
}

/// The first `known` of `addresses` are those whose failures count.
fn connect_to(
    device: &DeviceKey,
    addresses: &[SocketAddr],
    known: usize,
    proof: &Proof,
    tries: &mut CodeTries,
    purpose: Purpose,
    deadline: Instant,
) -> Result<Lane, NoLane> {
    let mut none = NoLane { fault: TransportError::ConnectTimeout, refused: Vec::new() };
    let (dialled, _turns) = dial_all(addresses, deadline).map_err(|fault| NoLane { fault, refused: Vec::new() })?;
    for (left, (turn, dialled)) in (0..addresses.len()).rev().zip(dialled) {
        // While other addresses may answer, one that says nothing does not get all the time there is.
        let patience = if left > 0 { PROOF_TURN } else { limits::PROOF_DEADLINE };
        let proof_deadline = deadline.min(Instant::now() + patience);
        match dialled.and_then(|socket| prove(socket, device, proof, tries, purpose, proof_deadline)) {
            Ok(lane) => return Ok(lane),
            Err(error) if turn < known && rank(&error) >= rank(&none.fault) => none.fault = error,
            Err(TransportError::WrongProof) if turn >= known => none.refused.push(addresses[turn]),
            Err(_) => {}
        }
    }
    Err(none)
}

/// Every address's place in the list with its connection or failure, in the order in which they come about. Addresses whose turn has not come when
/// the turns are dropped are left alone.
fn dial_all(addresses: &[SocketAddr], deadline: Instant) -> Result<(Dialled, Vec<mpsc::Sender<()>>), TransportError> {
    let (results, dialled) = mpsc::channel();
    let mut turns = Vec::new();
    for (turn, (head_starts, &address)) in (0u32..).zip(addresses).enumerate() {
        let results = results.clone();
        let (dropped, waiting) = mpsc::channel();
        turns.push(dropped);
        let wait = (HEAD_START * head_starts).min(deadline.saturating_duration_since(Instant::now()));
        let dial_one = move || {
            if waiting.recv_timeout(wait) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Nobody listens any more once another address has proven itself.
                let _ = results.send((turn, dial(address, deadline)));
            }
        };
        thread::Builder::new().name("haul dial".into()).spawn(dial_one).map_err(TransportError::Local)?;
    }
    Ok((dialled.into_iter(), turns))
}

fn dial(address: SocketAddr, deadline: Instant) -> Result<TcpStream, TransportError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(TransportError::ConnectTimeout);
    }
    TcpStream::connect_timeout(&address, left).map_err(dial_fault)
}

fn prove(
    socket: TcpStream,
    device: &DeviceKey,
    proof: &Proof,
    tries: &mut CodeTries,
    purpose: Purpose,
    deadline: Instant,
) -> Result<Lane, TransportError> {
    socket::prepare(&socket).map_err(TransportError::Local)?;
    let peer_address = socket.peer_addr().map_err(|_| TransportError::Lost)?;
    let mut pipe = Pipe::join(socket, device, deadline)?;
    let binding = pipe.binding(device.spki())?;
    let proof = match proof.mac() {
        Ok(proof) => proof,
        Err(code) => {
            code_proof::join(&mut pipe, code, tries, purpose, &binding)?;
            return Ok(Lane::new(pipe, peer_address));
        }
    };
    pipe.send(&[&proof.message(purpose, &binding)])?;
    let mut answer = [0; HOST_MESSAGE_BYTES];
    match pipe.read_exact(&mut answer) {
        // The host closes in order, without a word, when it does not accept a proof.
        Err(TransportError::Closed) => return Err(TransportError::WrongProof),
        read => read?,
    }
    if !proof.accepts(&answer, purpose, &binding) {
        return Err(TransportError::WrongProof);
    }
    Ok(Lane::new(pipe, peer_address))
}

/// How much a failure says about the end that the link names: where several addresses fail, the most telling one is reported.
fn rank(error: &TransportError) -> u8 {
    match error {
        TransportError::WrongProof => 6,
        TransportError::VersionMismatch => 5,
        TransportError::ProofTimeout | TransportError::Tls(_) => 4,
        TransportError::Busy
        | TransportError::PeerNotHaul
        | TransportError::Closed
        | TransportError::Lost
        | TransportError::Silent => 3,
        TransportError::Refused | TransportError::Local(_) => 2,
        TransportError::Unreachable(_) => 1,
        TransportError::ConnectTimeout | TransportError::NotFound => 0,
    }
}

fn dial_fault(error: io::Error) -> TransportError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => TransportError::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => TransportError::Lost,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => TransportError::ConnectTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            TransportError::Unreachable(error)
        }
        _ => TransportError::Local(error),
    }
}

type Dialled = mpsc::IntoIter<(usize, Result<TcpStream, TransportError>)>;

/// How long an address has for itself before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(200);
/// How long an end may take for its proof while other addresses have not answered.
const PROOF_TURN: Duration = Duration::from_secs(3);
