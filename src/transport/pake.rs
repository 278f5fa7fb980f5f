//! Proving a short secret over one TLS connection: every guess at it has to be put to the other end.
//!
//! Both ends send a share that hides the secret, and agree on a key only if they hold the same one. Whoever listens, or
//! plays one of the ends, learns whether one guess was right and nothing else.

use super::proof::Binding;
use aws_lc_rs::{hkdf, hmac};
use curve25519_dalek::edwards::CompressedEdwardsY;
use spake2::{Ed25519Group, Identity, Password, Spake2};
use zeroize::Zeroizing;

/// Which end of a connection it is. The two are told apart in everything, so that nothing sent back is taken for an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// The end that connected. It proves first.
    Joiner,
    /// The end that accepted.
    Host,
}

/// One end of a password-authenticated key exchange that has chosen its share.
pub(super) trait PasswordExchange: Sized {
    /// Names the exchange and its parameters on the wire.
    const VERSION: u8;

    /// Chooses a fresh share that hides `password`.
    fn start(role: Role, password: &[u8]) -> Self;

    /// What this end sends.
    fn share(&self) -> &[u8];

    /// Whether `share` is one that an honest end in `role` sends, whatever its password.
    fn is_sound(role: Role, share: &[u8]) -> bool;

    /// The key, which the other end has too if its password is the same. `None` where `theirs` is not sound.
    fn agree(self, theirs: &[u8]) -> Option<Zeroizing<Vec<u8>>>;
}

/// SPAKE2 over edwards25519, with the constants of the `spake2` package.
pub(super) struct Spake2Exchange {
    role: Role,
    state: Spake2<Ed25519Group>,
    share: Vec<u8>,
}

impl PasswordExchange for Spake2Exchange {
    const VERSION: u8 = 1;

    fn start(role: Role, password: &[u8]) -> Self {
        let password = Password::new(password);
        let (joiner, host) = (Identity::new(JOINER_IDENTITY), Identity::new(HOST_IDENTITY));
        let (state, share) = match role {
            Role::Joiner => Spake2::start_a(&password, &joiner, &host),
            Role::Host => Spake2::start_b(&password, &joiner, &host),
        };
        Self { role, state, share }
    }

    fn share(&self) -> &[u8] {
        &self.share
    }

    fn is_sound(role: Role, share: &[u8]) -> bool {
        let side = match role {
            Role::Joiner => JOINER_SIDE,
            Role::Host => HOST_SIDE,
        };
        let Ok(&[first, ref element @ ..]) = <&[u8; SHARE_BYTES]>::try_from(share) else { return false };
        let element = CompressedEdwardsY(*element);
        first == side
            && element.decompress().is_some_and(|point| {
                // An honest share is a point of the large group, in its one encoding. A point of small order would make
                // the key known without the password; the package only decompresses.
                !point.is_small_order() && point.is_torsion_free() && point.compress() == element
            })
    }

    fn agree(self, theirs: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let peer = match self.role {
            Role::Joiner => Role::Host,
            Role::Host => Role::Joiner,
        };
        if !Self::is_sound(peer, theirs) {
            return None;
        }
        self.state.finish(theirs).ok().map(Zeroizing::new)
    }
}

/// What both ends show each other to prove that they agreed on one key, over one connection.
pub(super) struct Confirmation {
    joiner: hmac::Key,
    host: hmac::Key,
    transcript: Zeroizing<Vec<u8>>,
}

impl Confirmation {
    /// `opening` and `answer` are the whole messages that carried the two shares.
    pub(super) fn new(key: &[u8], opening: &[u8], answer: &[u8], binding: &Binding) -> Self {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &*binding.channel).extract(key);
        let derive = |info: &[u8]| {
            let info = [info];
            let key = extracted.expand(&info, hmac::HMAC_SHA256).expect("one block is never too long for HKDF");
            hmac::Key::from(key)
        };
        let mut transcript = Zeroizing::new(Vec::new());
        for field in [opening, answer, &*binding.channel, &binding.joiner_spki, &binding.host_spki] {
            transcript.extend_from_slice(&(field.len() as u64).to_le_bytes());
            transcript.extend_from_slice(field);
        }
        Self { joiner: derive(CONFIRM_JOINER), host: derive(CONFIRM_HOST), transcript }
    }

    /// What the end in `role` sends.
    pub(super) fn tag(&self, role: Role) -> [u8; TAG_BYTES] {
        let tag = hmac::sign(self.key(role), &self.transcript);
        tag.as_ref().try_into().expect("an HMAC-SHA256 has 32 bytes")
    }

    /// Whether `tag` is what the end in `role` sends. Takes the same time whether it is.
    pub(super) fn is_tag(&self, role: Role, tag: &[u8; TAG_BYTES]) -> bool {
        hmac::verify(self.key(role), &self.transcript, tag).is_ok()
    }

    fn key(&self, role: Role) -> &hmac::Key {
        match role {
            Role::Joiner => &self.joiner,
            Role::Host => &self.host,
        }
    }
}

/// Bytes of a tag.
pub(super) const TAG_BYTES: usize = 32;

/// The side and a point.
const SHARE_BYTES: usize = 33;
const JOINER_SIDE: u8 = b'A';
const HOST_SIDE: u8 = b'B';
const JOINER_IDENTITY: &[u8] = b"haul/1 joiner";
const HOST_IDENTITY: &[u8] = b"haul/1 host";
const CONFIRM_JOINER: &[u8] = b"haul/1 confirm A";
const CONFIRM_HOST: &[u8] = b"haul/1 confirm B";

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
    use curve25519_dalek::edwards::EdwardsPoint;

    const PASSWORD: &[u8] = b"7-amber-canoe-lentil";

    fn start(role: Role) -> Spake2Exchange {
        Spake2Exchange::start(role, PASSWORD)
    }

    fn binding(channel: u8) -> Binding {
        Binding {
            exporter: Zeroizing::new([0; 32]),
            channel: Zeroizing::new([channel; 32]),
            joiner_spki: vec![1, 2],
            host_spki: vec![3],
        }
    }

    fn share(side: u8, point: EdwardsPoint) -> Vec<u8> {
        [&[side], point.compress().as_bytes().as_slice()].concat()
    }

    #[test]
    fn both_ends_agree_if_and_only_if_their_passwords_do() {
        for (other, is_same) in [(PASSWORD, true), (b"7-amber-canoe-zoom".as_slice(), false)] {
            let (joiner, host) = (start(Role::Joiner), Spake2Exchange::start(Role::Host, other));
            let (x, y) = (joiner.share().to_vec(), host.share().to_vec());
            let keys = (joiner.agree(&y).unwrap(), host.agree(&x).unwrap());
            assert_eq!(keys.0 == keys.1, is_same);
        }
    }

    #[test]
    fn shares_are_fresh() {
        assert_ne!(start(Role::Joiner).share(), start(Role::Joiner).share());
    }

    #[test]
    fn row_68_a_share_of_another_length_or_side_is_not_sound() {
        let good = start(Role::Joiner).share().to_vec();
        assert!(Spake2Exchange::is_sound(Role::Joiner, &good));
        let long = [&good[..], &[0]].concat();
        let sides = (0..=u8::MAX).filter(|&side| side != b'A').map(|side| [&[side], &good[1..]].concat());
        for bad in [vec![], good[..32].to_vec(), good[1..].to_vec(), long].into_iter().chain(sides) {
            assert!(!Spake2Exchange::is_sound(Role::Joiner, &bad), "{bad:?}");
            assert!(start(Role::Host).agree(&bad).is_none());
        }
    }

    #[test]
    fn row_68_what_is_no_point_or_one_of_small_order_is_not_sound() {
        for point in EIGHT_TORSION {
            assert!(!Spake2Exchange::is_sound(Role::Joiner, &share(b'A', point)));
            assert!(start(Role::Host).agree(&share(b'A', point)).is_none());
            // An honest point with one of small order added to it is not in the large group either.
            let mixed = ED25519_BASEPOINT_POINT + point;
            assert_eq!(Spake2Exchange::is_sound(Role::Joiner, &share(b'A', mixed)), point == EIGHT_TORSION[0]);
        }
        // The identity and the point of order two as y + p, which decompress as well.
        let p = [&[0xed][..], &[0xff; 30], &[0x7f]].concat();
        let mut one = p.clone();
        one[0] += 1;
        for element in [p, one, vec![0xff; 32], vec![2; 32]] {
            assert!(!Spake2Exchange::is_sound(Role::Joiner, &[&[b'A'][..], &element].concat()), "{element:?}");
        }
    }

    #[test]
    fn row_69_a_share_sent_back_is_not_sound() {
        let (joiner, host) = (start(Role::Joiner), start(Role::Host));
        let (x, y) = (joiner.share().to_vec(), host.share().to_vec());
        assert!(joiner.agree(&x).is_none());
        assert!(host.agree(&y).is_none());
        // Nor with the side put right: the hidden constants of the two roles differ.
        let joiner = start(Role::Joiner);
        let turned = [b"B", &joiner.share()[1..]].concat();
        let host = start(Role::Host);
        let (x, theirs) = (joiner.share().to_vec(), host.agree(joiner.share()));
        assert_ne!(joiner.agree(&turned), theirs);
        assert_ne!(x, turned);
    }

    #[test]
    fn a_tag_holds_for_one_role_one_connection_and_one_pair_of_messages() {
        let of = |key: &[u8], opening: &[u8], answer: &[u8], channel| {
            Confirmation::new(key, opening, answer, &binding(channel)).tag(Role::Joiner)
        };
        let confirmation = Confirmation::new(b"key", b"X", b"Y", &binding(0));
        let tag = confirmation.tag(Role::Joiner);
        assert_eq!(of(b"key", b"X", b"Y", 0), tag);
        assert!(confirmation.is_tag(Role::Joiner, &tag) && !confirmation.is_tag(Role::Host, &tag));
        for other in
            [of(b"kez", b"X", b"Y", 0), of(b"key", b"Z", b"Y", 0), of(b"key", b"XY", b"", 0), of(b"key", b"X", b"Y", 1)]
        {
            assert!(!confirmation.is_tag(Role::Joiner, &other));
        }
        for bit in 0..TAG_BYTES * 8 {
            let mut damaged = tag;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!confirmation.is_tag(Role::Joiner, &damaged), "bit {bit}");
        }
    }
}
