//! How two ends prove the same secret over one TLS connection.
//!
//! The joiner proves first: `version, mode, purpose, 0, id (16), MAC (32)`. The host checks it, and only then sends
//! `version, MAC (32)`. Each MAC is keyed by the secret and covers the connection's exporter, both public keys and what the
//! joiner asked for. A relay in the middle has two connections with two exporters, so no MAC fits both.
//!
//! A secret that could be guessed offline is not proven so: a code has its own messages, in `code_proof`.

use crate::digest::{DIGEST_BYTES, PurposeHasher, equal_in_constant_time};
use crate::secret::{Code, Key, Room, SessionId, SessionSecret};
use std::net::SocketAddr;
use zeroize::Zeroizing;

/// What the joiner proves.
#[derive(Clone, Debug)]
pub enum Proof {
    /// The code that a host shows. It works once.
    Code(Code),
    /// The key of a link.
    Link {
        /// Which offer.
        room: Room,
        /// Its key.
        key: Key,
    },
    /// The secret of a session that the host issued earlier.
    Session {
        /// Which session.
        id: SessionId,
        /// Its secret.
        secret: SessionSecret,
    },
}

/// What a lane is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// The one lane of a session that carries its control messages.
    Control,
    /// A lane that carries chunks.
    Data,
    /// A control lane whose joiner has the files, and wants them received.
    Push,
}

/// What the joiner of a lane has proven to hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// The code that the host showed.
    Code,
    /// The key of the link to this room.
    Link(Room),
    /// The secret of this session.
    Session(SessionId),
}

/// A proven lane, as the host sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LaneIntro {
    /// What the joiner wants it for.
    pub purpose: Purpose,
    /// What the joiner has proven.
    pub who: Who,
    /// Where the joiner is.
    pub peer_address: SocketAddr,
}

/// What ties a proof to one connection: nobody who is not an end of it shares all of it.
pub(super) struct Binding {
    /// What the MACs of keys and session secrets cover.
    pub(super) exporter: Zeroizing<[u8; 32]>,
    /// What the proof of a code covers (RFC 9266).
    pub(super) channel: Zeroizing<[u8; 32]>,
    pub(super) joiner_spki: Vec<u8>,
    pub(super) host_spki: Vec<u8>,
}

/// A proof by a MAC: of a secret that nobody can guess.
pub(super) struct MacProof<'a> {
    who: Who,
    secret: &'a [u8],
}

/// What a joiner asks for, before anybody knows whether it may.
pub(super) struct Claim {
    pub(super) purpose: Purpose,
    pub(super) who: Who,
}

impl Proof {
    /// The MAC that proves it, or the code that is proven otherwise.
    pub(super) fn mac(&self) -> Result<MacProof<'_>, &Code> {
        match self {
            Self::Code(code) => Err(code),
            Self::Link { room, key } => Ok(MacProof { who: Who::Link(*room), secret: key.as_bytes() }),
            Self::Session { id, secret } => Ok(MacProof { who: Who::Session(*id), secret: secret.as_bytes() }),
        }
    }
}

impl MacProof<'_> {
    /// The joiner's message.
    pub(super) fn message(&self, purpose: Purpose, binding: &Binding) -> [u8; JOINER_MESSAGE_BYTES] {
        let mut message = [0; JOINER_MESSAGE_BYTES];
        let header = header(self.who, purpose);
        message[..HEADER_BYTES].copy_from_slice(&header);
        message[HEADER_BYTES..].copy_from_slice(&mac(JOINER, self.secret, &header, binding));
        message
    }

    /// Whether `message` is the host's answer to the joiner's message.
    pub(super) fn accepts(&self, message: &[u8; HOST_MESSAGE_BYTES], purpose: Purpose, binding: &Binding) -> bool {
        let expected = mac(HOST, self.secret, &header(self.who, purpose), binding);
        let (version, theirs) = split_mac(message);
        version == [VERSION] && equal_in_constant_time(theirs, &expected)
    }
}

/// What the joiner's message asks for, where it is one of this version.
pub(super) fn claim(message: &[u8; JOINER_MESSAGE_BYTES]) -> Option<Claim> {
    let (header, _) = split_mac(message);
    let (&[version, mode, purpose, reserved], id) = header.split_first_chunk()?;
    let id = id.try_into().ok()?;
    if version != VERSION || reserved != 0 {
        return None;
    }
    let who = match mode {
        MODE_LINK => Who::Link(Room::from_bytes(id)),
        MODE_SESSION => Who::Session(SessionId::from_bytes(id)),
        _ => return None,
    };
    Some(Claim { purpose: purpose_of(purpose)?, who })
}

/// Whether a joiner whose message starts with `head` proves a code, in which case the message goes on in another way.
pub(super) fn is_by_code(head: [u8; HEAD_BYTES]) -> bool {
    let [version, mode, ..] = head;
    (version, mode) == (VERSION, MODE_CODE)
}

/// What the opening of a joiner starts with that proves a code by the exchange of this version. A code begins a session, and
/// a session begins with its control lane.
pub(super) fn code_head(purpose: Purpose, exchange: u8) -> [u8; HEAD_BYTES] {
    let purpose = if purpose == Purpose::Push { PURPOSE_PUSH } else { PURPOSE_CONTROL };
    [VERSION, MODE_CODE, purpose, exchange]
}

/// What the joiner wants the lane for whose opening starts with `head`, where it is one of this version.
pub(super) fn code_purpose(head: [u8; HEAD_BYTES], exchange: u8) -> Option<Purpose> {
    [Purpose::Control, Purpose::Push].into_iter().find(|&purpose| head == code_head(purpose, exchange))
}

/// The host's answer to `message`, if that proves `secret`. Takes the same time whether it does.
pub(super) fn answer(
    message: &[u8; JOINER_MESSAGE_BYTES],
    secret: &[u8],
    binding: &Binding,
) -> Option<[u8; HOST_MESSAGE_BYTES]> {
    let (header, theirs) = split_mac(message);
    let expected = mac(JOINER, secret, header, binding);
    let mut answer = [VERSION; HOST_MESSAGE_BYTES];
    answer[1..].copy_from_slice(&mac(HOST, secret, header, binding));
    equal_in_constant_time(theirs, &expected).then_some(answer)
}

fn header(who: Who, purpose: Purpose) -> [u8; HEADER_BYTES] {
    let (mode, id) = match who {
        // It has no name on its host: a joiner knows nothing but the code.
        Who::Code => (MODE_CODE, [0; 16]),
        Who::Link(room) => (MODE_LINK, *room.as_bytes()),
        Who::Session(id) => (MODE_SESSION, *id.as_bytes()),
    };
    let mut header = [0; HEADER_BYTES];
    header[..HEAD_BYTES].copy_from_slice(&[VERSION, mode, purpose_byte(purpose), 0]);
    header[HEAD_BYTES..].copy_from_slice(&id);
    header
}

fn purpose_byte(purpose: Purpose) -> u8 {
    match purpose {
        Purpose::Control => PURPOSE_CONTROL,
        Purpose::Data => PURPOSE_DATA,
        Purpose::Push => PURPOSE_PUSH,
    }
}

fn purpose_of(byte: u8) -> Option<Purpose> {
    [Purpose::Control, Purpose::Data, Purpose::Push].into_iter().find(|&purpose| purpose_byte(purpose) == byte)
}

fn mac(role: &'static str, secret: &[u8], header: &[u8], binding: &Binding) -> [u8; DIGEST_BYTES] {
    let mut hasher = PurposeHasher::keyed(role, secret);
    hasher.field(&*binding.exporter).field(&binding.joiner_spki).field(&binding.host_spki).field(header);
    hasher.finish()
}

fn split_mac(message: &[u8]) -> (&[u8], &[u8; DIGEST_BYTES]) {
    message.split_last_chunk().expect("both messages are longer than their MAC")
}

/// Labels of the exporters that proofs cover: that of a MAC, and that of a code.
pub(super) const EXPORTER_LABELS: [&[u8]; 2] = [b"EXPORTER-haul-proof", b"EXPORTER-Channel-Binding"];

/// Bytes with which every message of a joiner starts: version, mode, purpose, and one that depends on the mode.
pub(super) const HEAD_BYTES: usize = 4;
/// The version of every message of a proof.
pub(super) const VERSION: u8 = 1;

/// Bytes of the joiner's message.
pub(super) const JOINER_MESSAGE_BYTES: usize = HEADER_BYTES + DIGEST_BYTES;
/// Bytes of the host's message.
pub(super) const HOST_MESSAGE_BYTES: usize = 1 + DIGEST_BYTES;

const HEADER_BYTES: usize = 20;
const MODE_LINK: u8 = 1;
const MODE_SESSION: u8 = 2;
const MODE_CODE: u8 = 3;
const PURPOSE_CONTROL: u8 = 1;
const PURPOSE_DATA: u8 = 2;
const PURPOSE_PUSH: u8 = 3;

/// One purpose each, so that no message of one role passes as one of the other.
const JOINER: &str = "haul/1 proof of the joiner";
const HOST: &str = "haul/1 proof of the host";

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(exporter: u8) -> Binding {
        let channel = Zeroizing::new([0; 32]);
        Binding { exporter: Zeroizing::new([exporter; 32]), channel, joiner_spki: vec![1, 2], host_spki: vec![3] }
    }

    fn link() -> Proof {
        Proof::Link { room: Room::from_bytes([7; 16]), key: Key::from_bytes([9; 16]) }
    }

    #[test]
    fn a_proof_is_accepted_by_whoever_holds_the_secret_on_the_same_connection() {
        let session = Proof::Session { id: SessionId::from_bytes([7; 16]), secret: SessionSecret::from_bytes([9; 32]) };
        for proof in [link(), session] {
            let proof = proof.mac().unwrap();
            let message = proof.message(Purpose::Data, &binding(0));
            let claim = claim(&message).unwrap();
            assert_eq!((claim.purpose, claim.who), (Purpose::Data, proof.who));
            let answer = answer(&message, proof.secret, &binding(0)).unwrap();
            assert!(proof.accepts(&answer, Purpose::Data, &binding(0)));
            assert!(!proof.accepts(&answer, Purpose::Control, &binding(0)));
            assert!(!proof.accepts(&answer, Purpose::Data, &binding(1)));
        }
    }

    #[test]
    fn every_bit_of_both_messages_counts() {
        let link = link();
        let proof = link.mac().unwrap();
        let message = proof.message(Purpose::Control, &binding(0));
        let reply = answer(&message, proof.secret, &binding(0)).unwrap();
        for bit in 0..JOINER_MESSAGE_BYTES * 8 {
            let mut damaged = message;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(answer(&damaged, proof.secret, &binding(0)).is_none(), "bit {bit}");
        }
        for bit in 0..HOST_MESSAGE_BYTES * 8 {
            let mut damaged = reply;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!proof.accepts(&damaged, Purpose::Control, &binding(0)), "bit {bit}");
        }
    }

    #[test]
    fn another_connection_key_or_secret_gives_another_proof() {
        let message = link().mac().unwrap().message(Purpose::Control, &binding(0));
        assert!(answer(&message, &[9; 16], &binding(0)).is_some());
        assert!(answer(&message, &[8; 16], &binding(0)).is_none());
        assert!(answer(&message, &[9; 16], &binding(1)).is_none());
        // Fields are told apart: a byte that moves from one key to the other changes the MAC.
        let moved = Binding { joiner_spki: vec![1], host_spki: vec![2, 3], ..binding(0) };
        assert!(answer(&message, &[9; 16], &moved).is_none());
    }

    #[test]
    fn the_hosts_answer_is_no_proof_of_a_joiner() {
        let link = link();
        let proof = link.mac().unwrap();
        let mut message = proof.message(Purpose::Control, &binding(0));
        let reply = answer(&message, proof.secret, &binding(0)).unwrap();
        message[HEADER_BYTES..].copy_from_slice(&reply[1..]);
        assert!(answer(&message, proof.secret, &binding(0)).is_none());
    }

    #[test]
    fn unknown_versions_modes_and_purposes_claim_nothing() {
        let message = link().mac().unwrap().message(Purpose::Control, &binding(0));
        assert!(claim(&message).is_some());
        for (at, value) in [(0, 2), (1, 0), (1, 3), (1, 4), (2, 0), (2, 4), (3, 1)] {
            let mut other = message;
            other[at] = value;
            assert!(claim(&other).is_none(), "byte {at} as {value}");
        }
        for (purpose, byte) in [(Purpose::Control, 1), (Purpose::Push, 3)] {
            assert_eq!(code_head(purpose, 7), [1, 3, byte, 7]);
            assert_eq!(code_purpose([1, 3, byte, 7], 7), Some(purpose));
        }
        assert!(is_by_code([1, 3, 1, 7]) && !is_by_code([2, 3, 1, 7]) && !is_by_code([1, 2, 1, 7]));
        assert_eq!(code_purpose([1, 3, 2, 7], 7), None, "a session does not begin with a data lane");
    }
}
