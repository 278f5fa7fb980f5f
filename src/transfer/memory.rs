//! The record of an unfinished transfer: versioned, bounded, and a secret.

use super::{Conflict, Expectation, ReceiveSettings};
use crate::chunk::Length;
use crate::digest::PurposeHasher;
use crate::limits::{DATA_LANES_MAX, PATH_BYTES_MAX, RECORD_ADDRESSES_MAX, RECORD_BYTES_MAX, RECORD_NAMES_BYTES_MAX};
use crate::manifest::Listing;
use crate::rel_path::RelPath;
use crate::secret::{Code, Link, Room};
use crate::wire::SessionGrant;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// How every record begins that this version writes.
const MAGIC: &[u8; 8] = b"haulrec2";
/// How the records of an earlier version begin, which knew no codes.
const MAGIC_OF_LINKS: &[u8; 8] = b"haulrec1";
/// What follows in a record where the sender connected to its link.
const PUSHED: &[u8] = b"p";
/// What follows at the end, with one byte behind it, where any of these was chosen.
const CHOICES: &[u8] = b"c";
const SYMLINKS: u8 = 1;
const ATTRIBUTES: u8 = 2;
const CHECKSUM_BYTES: usize = 32;
/// What follows after that where nothing but the files of a manifest is taken.
const EXPECTING: &[u8] = b"e";
/// Longest path of such a manifest that a record holds.
const MANIFEST_PATH_BYTES_MAX: usize = PATH_BYTES_MAX;
/// What a name takes in a record beyond its bytes.
const NAME_OVERHEAD: usize = 2;

/// What was accepted, to be remembered.
pub(super) struct Accepted<'a> {
    pub(super) origin: Origin,
    /// Where the host may be, best first.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) grant: Option<&'a SessionGrant>,
    pub(super) conflict: Conflict,
    pub(super) listing: &'a Listing,
}

/// What a transfer began with.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// A code, which is used up: the session's secret is what goes on.
    Code(CodeMark),
    /// A link, which works again.
    Link(Link),
    /// This side's own link: the sender connected here, and has to do so again.
    Pushed(Link),
}

/// What tells a code that was used from any other one. Whoever reads it can try all codes, and gains nothing by it: the
/// code is worthless, and the session's secret lies beside it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct CodeMark {
    salt: [u8; 16],
    digest: [u8; 32],
}

/// A manifest that the offer has to be the content of.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Expected {
    /// Where it is, as the system has the name.
    pub(super) path: Vec<u8>,
    /// Its id.
    pub(super) id: [u8; 32],
}

/// What a record holds.
#[allow(clippy::struct_excessive_bools, reason = "independent rules")]
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub(super) origin: Origin,
    /// What the host knew the session by.
    grant: Option<Grant>,
    /// Where the host may be, best first.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) conflict: Conflict,
    pub(super) read_back: bool,
    pub(super) lanes: Option<u16>,
    pub(super) allow_hidden: bool,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Names of the entries that lie in no folder, as many as a record holds.
    pub(super) tops: Vec<String>,
    /// How many there are.
    pub(super) tops_total: u64,
    pub(super) began: u64,
    /// What the offer has to be, if that was said.
    pub(super) expected: Option<Expected>,
    pub(super) symlinks: bool,
    pub(super) attributes: bool,
}

/// A session as a record holds it.
#[derive(Clone, Deserialize, Serialize, Zeroize, ZeroizeOnDrop)]
struct Grant {
    id: [u8; 16],
    secret: [u8; 32],
}

/// A [`Memory`] between [`MAGIC`] and checksum, before the [`CodeMark`] that follows where the link is empty, or
/// [`PUSHED`] where it is this side's own.
#[derive(Deserialize, Serialize)]
struct Written<'a> {
    link: &'a str,
    grant: Option<Grant>,
    addresses: Vec<SocketAddr>,
    conflict: u8,
    read_back: bool,
    lanes: Option<u16>,
    allow_hidden: bool,
    files: u64,
    bytes: u64,
    #[serde(borrow)]
    tops: Vec<&'a str>,
    tops_total: u64,
    began: u64,
}

impl Origin {
    /// Whether both are the same offer. What was pushed is none that is made again: whoever listens has one link for all.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Code(one), Self::Code(other)) => one == other,
            (Self::Link(one), Self::Link(other)) => one.room() == other.room(),
            _ => false,
        }
    }

    /// Whether it is the offer of this room.
    pub(super) fn is_room(&self, room: Room) -> bool {
        matches!(self, Self::Link(link) if link.room() == room)
    }

    /// Whether it is what `code` began.
    pub(super) fn is_code(&self, code: &Code) -> bool {
        matches!(self, Self::Code(mark) if CodeMark::of(code, mark.salt) == *mark)
    }
}

impl CodeMark {
    /// The mark of `code`; `salt` makes it another one for each transfer.
    pub(super) fn of(code: &Code, salt: [u8; 16]) -> Self {
        let mut hasher = PurposeHasher::keyed("haul 1 code of a transfer", &salt);
        Self { salt, digest: hasher.field(code.to_text().as_bytes()).finish() }
    }
}

impl Expected {
    /// What finds the manifest of an expectation again. A path that is longer than any is kept empty: nothing is found then.
    fn of(expectation: &Expectation) -> Self {
        let manifest = expectation.manifest();
        let path = manifest.path().canonicalize().unwrap_or_else(|_| manifest.path().to_owned());
        let mut path = path.into_os_string().into_vec();
        if path.len() > MANIFEST_PATH_BYTES_MAX {
            path.clear();
        }
        Self { path, id: manifest.id().0 }
    }
}

impl Memory {
    /// The session that the host knew the receiver by, if it came to that.
    pub(super) fn grant(&self) -> Option<SessionGrant> {
        self.grant.as_ref().map(|grant| SessionGrant { id: grant.id, secret: grant.secret })
    }

    /// What is kept of a transfer that began `began` seconds after the start of 1970.
    pub(super) fn of(accepted: &Accepted<'_>, settings: &ReceiveSettings, began: u64) -> Self {
        let Accepted { origin, addresses, grant, conflict, listing } = accepted;
        let (tops, tops_total) = tops(listing);
        let totals = listing.totals();
        Self {
            origin: origin.clone(),
            grant: grant.map(|grant| Grant { id: grant.id, secret: grant.secret }),
            addresses: addresses.iter().copied().take(RECORD_ADDRESSES_MAX).collect(),
            conflict: *conflict,
            read_back: settings.read_back,
            lanes: settings.lanes,
            allow_hidden: settings.allow_hidden,
            files: u64::from(totals.files),
            bytes: totals.bytes,
            tops,
            tops_total,
            began,
            expected: settings.expect.as_ref().map(Expected::of),
            symlinks: settings.symlinks,
            attributes: settings.attributes,
        }
    }

    /// Whether a file of `length` bytes at `path` is, or may be, one of the transfer's.
    pub(super) fn may_have(&self, path: &RelPath, length: Length) -> bool {
        let fits = if self.files == 1 { length.0 == self.bytes } else { length.0 <= self.bytes };
        let is_told = self.tops.len() as u64 == self.tops_total;
        fits && (!is_told || path.components().next().is_some_and(|top| self.tops.iter().any(|name| name == top)))
    }

    /// The bytes of a record.
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let link = match &self.origin {
            Origin::Code(_) => Zeroizing::default(),
            Origin::Link(link) | Origin::Pushed(link) => link.to_text(),
        };
        let written = Written {
            link: &link,
            grant: self.grant.clone(),
            addresses: self.addresses.clone(),
            conflict: number(self.conflict),
            read_back: self.read_back,
            lanes: self.lanes,
            allow_hidden: self.allow_hidden,
            files: self.files,
            bytes: self.bytes,
            tops: self.tops.iter().map(String::as_str).collect(),
            tops_total: self.tops_total,
            began: self.began,
        };
        // All of its room from the start: one that grows leaves copies of secrets behind.
        let mut bytes = Zeroizing::new(vec![0; RECORD_BYTES_MAX]);
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        let body = &mut bytes[MAGIC.len()..RECORD_BYTES_MAX - CHECKSUM_BYTES];
        let bounded = "every part of a record is bounded";
        let mut used = postcard::to_slice(&written, body).expect(bounded).len();
        match &self.origin {
            Origin::Code(mark) => used += postcard::to_slice(mark, &mut body[used..]).expect(bounded).len(),
            Origin::Link(_) => {}
            Origin::Pushed(_) => {
                body[used..used + PUSHED.len()].copy_from_slice(PUSHED);
                used += PUSHED.len();
            }
        }
        if let Some(expected) = &self.expected {
            body[used..used + EXPECTING.len()].copy_from_slice(EXPECTING);
            used += EXPECTING.len();
            used += postcard::to_slice(expected, &mut body[used..]).expect(bounded).len();
        }
        let choices = if self.symlinks { SYMLINKS } else { 0 } | if self.attributes { ATTRIBUTES } else { 0 };
        if choices != 0 {
            body[used..used + CHOICES.len()].copy_from_slice(CHOICES);
            body[used + CHOICES.len()] = choices;
            used += CHOICES.len() + 1;
        }
        bytes.truncate(MAGIC.len() + used);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// What `bytes` say. `None` where they are not what [`Memory::encode`] of this version leaves.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > RECORD_BYTES_MAX {
            return None;
        }
        let (checked, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        let knows_codes = checked.starts_with(MAGIC);
        let body = checked.strip_prefix(if knows_codes { MAGIC } else { MAGIC_OF_LINKS })?;
        if checksum(checked) != *sum {
            return None;
        }
        let (written, rest) = postcard::take_from_bytes::<Written<'_>>(body).ok()?;
        let is_bounded = written.addresses.len() <= RECORD_ADDRESSES_MAX
            && written.lanes.is_none_or(|lanes| (1..=DATA_LANES_MAX).contains(&lanes));
        if !is_bounded {
            return None;
        }
        let (origin, rest) = if knows_codes && written.link.is_empty() {
            let (mark, rest) = postcard::take_from_bytes(rest).ok()?;
            // Nothing else leads on.
            written.grant.as_ref().filter(|_| !written.addresses.is_empty())?;
            (Origin::Code(mark), rest)
        } else {
            let link = Link::parse(written.link).ok()?;
            match rest.strip_prefix(PUSHED).filter(|_| knows_codes) {
                Some(rest) => (Origin::Pushed(link), rest),
                None => (Origin::Link(link), rest),
            }
        };
        let (expected, rest) = match rest.strip_prefix(EXPECTING).filter(|_| knows_codes) {
            Some(rest) => {
                let (expected, rest) = postcard::take_from_bytes::<Expected>(rest).ok()?;
                if expected.path.len() > MANIFEST_PATH_BYTES_MAX {
                    return None;
                }
                (Some(expected), rest)
            }
            None => (None, rest),
        };
        let choices = match rest.strip_prefix(CHOICES) {
            Some(&[choices]) if choices & !(SYMLINKS | ATTRIBUTES) == 0 && choices != 0 => choices,
            None if rest.is_empty() => 0,
            _ => return None,
        };
        Some(Self {
            origin,
            grant: written.grant,
            addresses: written.addresses,
            conflict: rule(written.conflict)?,
            read_back: written.read_back,
            lanes: written.lanes,
            allow_hidden: written.allow_hidden,
            files: written.files,
            bytes: written.bytes,
            tops: written.tops.into_iter().map(str::to_owned).collect(),
            tops_total: written.tops_total,
            began: written.began,
            expected,
            symlinks: choices & SYMLINKS != 0,
            attributes: choices & ATTRIBUTES != 0,
        })
    }
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Grant([redacted])")
    }
}

/// Names of the entries that lie in no folder, as many as a record holds, and how many there are.
fn tops(listing: &Listing) -> (Vec<String>, u64) {
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    let mut room = RECORD_NAMES_BYTES_MAX;
    for top in listing.entries().iter().filter_map(|entry| entry.path.components().next()) {
        if !seen.insert(top) {
            continue;
        }
        if let Some(left) = room.checked_sub(top.len() + NAME_OVERHEAD) {
            room = left;
            names.push(top.to_owned());
        }
    }
    (names, seen.len() as u64)
}

fn number(conflict: Conflict) -> u8 {
    match conflict {
        Conflict::Fail => 0,
        Conflict::Overwrite => 1,
        Conflict::Rename => 2,
        Conflict::Skip => 3,
        Conflict::Update => 4,
    }
}

fn rule(number: u8) -> Option<Conflict> {
    let rules = [Conflict::Fail, Conflict::Overwrite, Conflict::Rename, Conflict::Skip, Conflict::Update];
    rules.into_iter().find(|&conflict| self::number(conflict) == number)
}

fn checksum(checked: &[u8]) -> [u8; CHECKSUM_BYTES] {
    PurposeHasher::new("haul 1 unfinished transfer").field(checked).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Length;
    use crate::manifest::{Entry, EntryKind, ListingBuilder, Mode, Timestamp};
    use crate::rel_path::RelPath;
    use proptest::prelude::*;

    const LINK: &str = "HTTP://192.0.2.1:4285/AAAQEAYEAUDAOCAJBIFQYDIOB4#74OR2HA3DIMRQFYWCUKBGEQRCA,[2001:DB8::1]:4285";

    /// Files of 3 bytes, and folders where a path ends so.
    fn listing(paths: &[String]) -> Listing {
        let mut builder = ListingBuilder::new();
        for path in paths {
            let (path, kind) = match path.strip_suffix('/') {
                Some(folder) => (folder, EntryKind::Folder),
                None => (path.as_str(), EntryKind::File { length: Length(3) }),
            };
            let path = RelPath::parse(path).unwrap();
            builder
                .push(Entry {
                    path,
                    kind,
                    mode: Mode::masked(0o644),
                    modified: Timestamp::clamped(0, 0),
                    attributes: crate::manifest::Attributes::NONE,
                })
                .unwrap();
        }
        let totals = builder.totals();
        builder.finish(totals).unwrap()
    }

    fn memory(paths: &[String], with_grant: bool) -> Memory {
        memory_of(Origin::Link(Link::parse(LINK).unwrap()), paths, with_grant)
    }

    fn code() -> Code {
        Code::parse("7-amber-canoe-lentil").unwrap()
    }

    fn memory_of(origin: Origin, paths: &[String], with_grant: bool) -> Memory {
        let settings = ReceiveSettings {
            invitation: Zeroizing::new(LINK.into()),
            at: Vec::new(),
            into: ".".into(),
            conflict: Conflict::Fail,
            read_back: true,
            lanes: Some(3),
            retry_for: None,
            wait_for_host: false,
            allow_hidden: false,
            state_dir: None,
            resuming: None,
            expect: None,
            symlinks: with_grant,
            attributes: paths.len() % 2 == 1,
            compress: crate::codec::Compression::Auto,
            dry_run: false,
            out: None,
            throttle: crate::transfer::Throttle::default(),
        };
        let grant = SessionGrant { id: [5; 16], secret: [0xa5; 32] };
        let addresses = Link::parse(LINK).unwrap().addresses().to_vec();
        let listing = listing(paths);
        let grant = with_grant.then_some(&grant);
        let accepted = Accepted { origin, addresses, grant, conflict: Conflict::Rename, listing: &listing };
        Memory::of(&accepted, &settings, 1_700_000_000)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_was_accepted_comes_back() {
        for with_grant in [false, true] {
            let kept = memory(&names(&["film.mkv", "photos/", "photos/1", "photos/2"]), with_grant);
            let back = Memory::decode(&kept.encode()).unwrap();
            let Origin::Link(link) = &back.origin else { panic!("it began with a link") };
            assert_eq!(*link.to_text(), LINK);
            assert_eq!(back.addresses, Link::parse(LINK).unwrap().addresses());
            assert_eq!(back.grant().map(|grant| grant.secret), with_grant.then_some([0xa5; 32]));
            assert_eq!((back.conflict, back.read_back, back.lanes), (Conflict::Rename, true, Some(3)));
            assert_eq!((back.files, back.bytes, back.began), (3, 9, 1_700_000_000));
            assert_eq!((back.tops, back.tops_total), (names(&["film.mkv", "photos"]), 2));
        }
    }

    #[test]
    fn what_a_code_began_is_known_by_that_code_alone() {
        let origin = Origin::Code(CodeMark::of(&code(), [9; 16]));
        let kept = memory_of(origin.clone(), &names(&["film.mkv"]), true);
        let bytes = kept.encode();
        let back = Memory::decode(&bytes).unwrap();
        assert!(back.origin.is_code(&code()) && back.origin.is_same(&origin));
        assert!(!back.origin.is_code(&Code::parse("7-amber-canoe-zoom").unwrap()));
        assert!(!back.origin.is_code(&Code::parse("8-amber-canoe-lentil").unwrap()));
        assert!(!back.origin.is_room(Link::parse(LINK).unwrap().room()));
        assert_eq!(back.grant().map(|grant| grant.secret), Some([0xa5; 32]));
        for word in ["amber", "canoe", "lentil"] {
            assert!(!bytes.windows(word.len()).any(|window| window == word.as_bytes()));
        }
        assert_ne!(CodeMark::of(&code(), [8; 16]), CodeMark::of(&code(), [9; 16]), "two transfers show nothing alike");
        let without_secret = memory_of(origin, &names(&["film.mkv"]), false);
        assert!(Memory::decode(&without_secret.encode()).is_none(), "nothing could continue it");
    }

    #[test]
    fn a_record_of_the_version_before_codes_is_read() {
        let bytes = memory(&names(&["film.mkv"]), true).encode();
        let body = &bytes[MAGIC.len()..bytes.len() - CHECKSUM_BYTES];
        let old = framed(MAGIC_OF_LINKS, body);
        assert!(Memory::decode(&old).is_some_and(|memory| *memory.encode() == *bytes));
        let of_code = memory_of(Origin::Code(CodeMark::of(&code(), [9; 16])), &names(&["film.mkv"]), true).encode();
        let body = &of_code[MAGIC.len()..of_code.len() - CHECKSUM_BYTES];
        assert!(Memory::decode(&framed(MAGIC_OF_LINKS, body)).is_none(), "that version wrote no such thing");
    }

    #[test]
    fn what_the_offer_has_to_be_comes_back_with_every_origin() {
        let mark = CodeMark::of(&code(), [7; 16]);
        let link = || Link::parse(LINK).unwrap();
        for origin in [Origin::Link(link()), Origin::Pushed(link()), Origin::Code(mark)] {
            let mut memory = memory_of(origin, &["a".to_owned()], true);
            assert_eq!(Memory::decode(&memory.encode()).unwrap().expected, None);
            let longest = Expected { path: vec![b'x'; MANIFEST_PATH_BYTES_MAX], id: [9; 32] };
            memory.expected = Some(longest.clone());
            let again = Memory::decode(&memory.encode()).unwrap();
            assert_eq!(again.expected, Some(longest));
            assert_eq!(matches!(again.origin, Origin::Pushed(_)), matches!(memory.origin, Origin::Pushed(_)));
        }
    }

    #[test]
    fn of_too_many_names_the_number_is_kept() {
        let many: Vec<_> = (0..20_000).map(|number| format!("a file with quite a long name {number:05}")).collect();
        let kept = memory(&many, true);
        let bytes = kept.encode();
        assert!(bytes.len() <= RECORD_BYTES_MAX);
        let back = Memory::decode(&bytes).unwrap();
        assert_eq!(back.tops_total, 20_000);
        assert!(!back.tops.is_empty() && back.tops.len() < 1000);
        let short: Vec<_> = (0..20_000u32).filter_map(char::from_u32).filter(|c| c.is_alphanumeric()).collect();
        let short: std::collections::BTreeSet<_> = short.into_iter().map(String::from).collect();
        assert!(memory(&short.into_iter().collect::<Vec<_>>(), true).encode().len() <= RECORD_BYTES_MAX);
    }

    #[test]
    fn row_86_a_damaged_record_counts_as_none() {
        let whole = memory(&names(&["film.mkv"]), true).encode();
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[place] ^= 1 << bit;
                assert!(Memory::decode(&damaged).is_none(), "bit {bit} of byte {place}");
            }
            assert!(Memory::decode(&whole[..place]).is_none(), "{place} bytes");
        }
        assert!(Memory::decode(&[&whole[..], b"x"].concat()).is_none());
        assert!(Memory::decode(LINK.as_bytes()).is_none(), "what the earliest version wrote");
        assert!(Memory::decode(&vec![0; RECORD_BYTES_MAX + 1]).is_none());
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let text = format!("{:?}", memory(&names(&["a"]), true));
        assert!(!text.contains("74OR2") && !text.contains("165") && text.contains("[redacted]"), "{text}");
    }

    /// A record with the right frame around any body: the checksum keeps accidents out, not somebody who can write it.
    fn framed(magic: &[u8], body: &[u8]) -> Vec<u8> {
        let mut bytes = [magic, body].concat();
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    proptest! {
        #[test]
        fn any_body_is_decoded_within_bounds_or_not_at_all(
            noise in prop::collection::vec(any::<u8>(), 0..600),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            by_code in any::<bool>(),
        ) {
            let origin = if by_code {
                Origin::Code(CodeMark::of(&code(), [9; 16]))
            } else {
                Origin::Link(Link::parse(LINK).unwrap())
            };
            let whole = memory_of(origin, &names(&["film.mkv", "photos/", "photos/1"]), true).encode();
            let mut body = whole[MAGIC.len()..whole.len() - CHECKSUM_BYTES].to_vec();
            for (place, byte) in damage {
                let place = place.index(body.len());
                body[place] = byte;
            }
            for bytes in [noise.clone(), framed(MAGIC, &noise), framed(MAGIC, &body), framed(MAGIC_OF_LINKS, &body)] {
                if let Some(memory) = Memory::decode(&bytes) {
                    prop_assert!(memory.addresses.len() <= RECORD_ADDRESSES_MAX);
                    // It is one that this version could have written.
                    let again = Memory::decode(&memory.encode());
                    prop_assert!(again.is_some_and(|again| again.encode() == memory.encode()));
                }
            }
        }
    }
}
