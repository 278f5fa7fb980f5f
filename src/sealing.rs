//! Bodies between a page and its host, sealed under keys that come from a link; the only home of the cipher.
//!
//! `web/SPEC.md` says what is sealed and what it is bound to. The page runs this very file, compiled to WebAssembly.

use crate::digest::PurposeHasher;
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{Key, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use std::fmt;
use std::ops::Range;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of the nonce that a sealed body starts with.
pub const NONCE_BYTES: usize = 24;
/// Bytes of the tag that it ends with.
pub const TAG_BYTES: usize = 16;
/// Bytes of a sealed body beyond those of its text.
pub const SEAL_BYTES: usize = NONCE_BYTES + TAG_BYTES;
/// Bytes of [`SealingKeys::to_bytes`].
pub const SEALING_KEYS_BYTES: usize = 2 * KEY_BYTES + ROOM_BYTES;

/// The random number that a body was sealed with.
pub type Nonce = [u8; NONCE_BYTES];

/// What the bodies of one room are sealed with, one key for each direction.
///
/// A body is a buffer that holds nonce, text and tag. Sealing and opening happen in it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SealingKeys {
    calls: [u8; KEY_BYTES],
    answers: [u8; KEY_BYTES],
    room: [u8; ROOM_BYTES],
}

impl SealingKeys {
    /// The keys that a link's key gives for its room.
    pub fn derive(key: &[u8; 16], room: &[u8; ROOM_BYTES]) -> Self {
        let derived = |context| PurposeHasher::new(context).field(key).field(room).finish();
        Self { calls: derived(CALLS), answers: derived(ANSWERS), room: *room }
    }

    /// The keys as bytes that mean nothing to whoever keeps them.
    pub fn to_bytes(&self) -> [u8; SEALING_KEYS_BYTES] {
        let mut bytes = [0; SEALING_KEYS_BYTES];
        bytes[..KEY_BYTES].copy_from_slice(&self.calls);
        bytes[KEY_BYTES..2 * KEY_BYTES].copy_from_slice(&self.answers);
        bytes[2 * KEY_BYTES..].copy_from_slice(&self.room);
        bytes
    }

    /// The keys that [`SealingKeys::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8; SEALING_KEYS_BYTES]) -> Self {
        let (mut calls, mut answers, mut room) = ([0; KEY_BYTES], [0; KEY_BYTES], [0; ROOM_BYTES]);
        calls.copy_from_slice(&bytes[..KEY_BYTES]);
        answers.copy_from_slice(&bytes[KEY_BYTES..2 * KEY_BYTES]);
        room.copy_from_slice(&bytes[2 * KEY_BYTES..]);
        Self { calls, answers, room }
    }

    /// Seals a call, for the host to open. The nonce stands there already and was never used before; room for the tag is
    /// there. False where the buffer is too short or too long for a body.
    #[must_use]
    pub fn seal_call(&self, body: &mut [u8]) -> bool {
        seal(&self.calls, &self.bound(Direction::Call, &NO_CALL), body)
    }

    /// Opens a call in place, and says where its text lies. `None` where it is not genuine.
    pub fn open_call(&self, body: &mut [u8]) -> Option<Range<usize>> {
        open(&self.calls, &self.bound(Direction::Call, &NO_CALL), body)
    }

    /// Seals the answer to the call of nonce `call`, as [`SealingKeys::seal_call`] does a call.
    #[must_use]
    pub fn seal_answer(&self, call: &Nonce, body: &mut [u8]) -> bool {
        seal(&self.answers, &self.bound(Direction::Answer, call), body)
    }

    /// Opens the answer to the call of nonce `call` in place, and says where its text lies. `None` where it is not genuine.
    pub fn open_answer(&self, call: &Nonce, body: &mut [u8]) -> Option<Range<usize>> {
        open(&self.answers, &self.bound(Direction::Answer, call), body)
    }

    /// What a body is bound to, but for its length.
    fn bound(&self, direction: Direction, call: &Nonce) -> [u8; BOUND_BYTES] {
        let mut bound = [0; BOUND_BYTES];
        bound[..10].copy_from_slice(b"haul/web/1");
        bound[10] = direction as u8;
        bound[11..27].copy_from_slice(&self.room);
        bound[27..51].copy_from_slice(call);
        bound
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SealingKeys([redacted])")
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Call = 1,
    Answer = 2,
}

fn seal(key: &[u8; KEY_BYTES], bound: &[u8; BOUND_BYTES], body: &mut [u8]) -> bool {
    let Some((nonce, rest)) = body.split_first_chunk_mut::<NONCE_BYTES>() else { return false };
    let Some((text, tag_place)) = rest.split_last_chunk_mut::<TAG_BYTES>() else { return false };
    let bound = with_length(bound, text.len());
    let sealed = cipher(key).encrypt_inout_detached(&XNonce::from(*nonce), &bound, text.into());
    sealed.is_ok_and(|tag| {
        tag_place.copy_from_slice(&tag);
        true
    })
}

fn open(key: &[u8; KEY_BYTES], bound: &[u8; BOUND_BYTES], body: &mut [u8]) -> Option<Range<usize>> {
    let (nonce, rest) = body.split_first_chunk_mut::<NONCE_BYTES>()?;
    let (text, tag) = rest.split_last_chunk_mut::<TAG_BYTES>()?;
    let (bound, tag, length) = (with_length(bound, text.len()), Tag::from(*tag), text.len());
    let opened = cipher(key).decrypt_inout_detached(&XNonce::from(*nonce), &bound, text.into(), &tag);
    opened.is_ok().then_some(NONCE_BYTES..NONCE_BYTES + length)
}

fn cipher(key: &[u8; KEY_BYTES]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*key))
}

fn with_length(bound: &[u8; BOUND_BYTES], length: usize) -> [u8; BOUND_BYTES + 8] {
    let mut whole = [0; BOUND_BYTES + 8];
    whole[..BOUND_BYTES].copy_from_slice(bound);
    whole[BOUND_BYTES..].copy_from_slice(&(length as u64).to_le_bytes());
    whole
}

const CALLS: &str = "haul 2026 web 1: sealing, from the page to the host";
const ANSWERS: &str = "haul 2026 web 1: sealing, from the host to the page";
const KEY_BYTES: usize = 32;
const ROOM_BYTES: usize = 16;
/// Label, direction, room and call.
const BOUND_BYTES: usize = 10 + 1 + ROOM_BYTES + NONCE_BYTES;
/// Stands where a call would name the call that it answers.
const NO_CALL: Nonce = [0; NONCE_BYTES];

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; 16] = [7; 16];
    const ROOM: [u8; 16] = [9; 16];

    fn keys() -> SealingKeys {
        SealingKeys::derive(&KEY, &ROOM)
    }

    fn body(nonce: Nonce, text: &[u8]) -> Vec<u8> {
        [&nonce[..], text, &[0; TAG_BYTES]].concat()
    }

    fn hex(bytes: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(bytes)
    }

    /// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
    #[test]
    fn the_cipher_is_the_published_one() {
        let key: [u8; 32] = std::array::from_fn(|at| 0x80 + at as u8);
        let nonce: [u8; 24] = std::array::from_fn(|at| 0x40 + at as u8);
        let bound = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
        let mut text = *b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                          sunscreen would be it.";
        let tag =
            cipher(&key).encrypt_inout_detached(&XNonce::from(nonce), &bound, text.as_mut_slice().into()).unwrap();
        assert_eq!(hex(&tag), "c0875924c1c7987947deafd8780acf49");
        assert!(hex(&text).starts_with("bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"));
    }

    /// For a second implementation: key 7 sixteen times, room 9 sixteen times, nonce 0 to 23, text `{}` in a header.
    #[test]
    fn the_bytes_of_a_body_are_as_specified() {
        let nonce: Nonce = std::array::from_fn(|at| at as u8);
        let mut call = body(nonce, b"\x02\0\0\0{}");
        assert!(keys().seal_call(&mut call));
        let mut answer = body(nonce, b"\x02\0\0\0{}");
        assert!(keys().seal_answer(&nonce, &mut answer));
        assert_eq!(hex(&keys().to_bytes()), VECTOR_KEYS);
        assert_eq!(hex(&call[NONCE_BYTES..]), VECTOR_CALL);
        assert_eq!(hex(&answer[NONCE_BYTES..]), VECTOR_ANSWER);
    }

    const VECTOR_KEYS: &str = "b76b3cef06f557af6b7eb50c05387024a24efdae145e5a23606ae8fe23a782ef\
                               df4a82de002180b9d8cdb6dd13d05f276c50cd62b35d3dc69a8c60070ddefa47\
                               09090909090909090909090909090909";
    const VECTOR_CALL: &str = "ad75b2800660731c98967dac4af96629b3baec69be45";
    const VECTOR_ANSWER: &str = "7b1c8ff313b5bc98e489178bad5a56651ce9428c1f24";

    #[test]
    fn a_body_opens_for_its_room_its_direction_and_its_call_alone() {
        let call = [3; NONCE_BYTES];
        let mut sealed = body([1; NONCE_BYTES], b"text");
        assert!(keys().seal_answer(&call, &mut sealed));
        let opened = |keys: &SealingKeys, call: &Nonce| {
            let mut body = sealed.clone();
            keys.open_answer(call, &mut body).map(|text| body[text].to_vec())
        };
        assert_eq!(opened(&keys(), &call).as_deref(), Some(&b"text"[..]));
        assert_eq!(opened(&keys(), &[4; NONCE_BYTES]), None);
        assert_eq!(opened(&SealingKeys::derive(&KEY, &[8; 16]), &call), None);
        assert_eq!(opened(&SealingKeys::derive(&[8; 16], &ROOM), &call), None);
        // The same keys for both directions would not let one pass for the other either.
        let mut same = keys();
        same.calls = same.answers;
        assert!(same.open_call(&mut sealed.clone()).is_none());
    }

    #[test]
    fn too_short_a_buffer_is_no_body() {
        for length in 0..SEAL_BYTES {
            let mut buffer = vec![0; length];
            assert!(!keys().seal_call(&mut buffer));
            assert!(keys().open_call(&mut buffer).is_none());
        }
        assert!(keys().seal_call(&mut [0; SEAL_BYTES]), "a text may be empty");
    }

    #[test]
    fn debug_output_holds_no_key() {
        assert_eq!(format!("{:?}", keys()), "SealingKeys([redacted])");
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_and_nothing_else_does(
            text in prop::collection::vec(any::<u8>(), 0..300),
            nonce in any::<Nonce>(),
            flip in any::<prop::sample::Index>(),
            bit in 0..8u8,
            cut in any::<prop::sample::Index>(),
        ) {
            let keys = SealingKeys::from_bytes(&keys().to_bytes());
            let mut sealed = body(nonce, &text);
            prop_assert!(keys.seal_call(&mut sealed));
            let mut flipped = sealed.clone();
            let at = flip.index(flipped.len());
            flipped[at] ^= 1 << bit;
            prop_assert!(keys.open_call(&mut flipped).is_none());
            let mut shorter = sealed[..cut.index(sealed.len())].to_vec();
            prop_assert!(keys.open_call(&mut shorter).is_none());
            let opened = keys.open_call(&mut sealed);
            prop_assert_eq!(opened.clone(), Some(NONCE_BYTES..NONCE_BYTES + text.len()));
            prop_assert_eq!(&sealed[opened.unwrap()], &text[..]);
        }
    }
}
