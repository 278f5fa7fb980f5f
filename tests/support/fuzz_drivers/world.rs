//! A small offer without bytes: what it lists, what its chunks hash to, and messages that anybody could send.

use arbitrary::{Result, Unstructured};
use haul::chunk::Length;
use haul::digest::{ChunkDigest, FileDigest, ListingDigest, RootMerger, empty_file_digest};
use haul::limits::CHUNK_BYTES_MIN;
use haul::manifest::{
    Attributes, Entry, EntryIndex, EntryKind, LinkTarget, Listing, ListingBuilder, Mode, SealHasher, Timestamp,
};
use haul::outline::{Segment, Shape};
use haul::rel_path::RelPath;
use haul::session::listing_page_starts;
use haul::wire::{Change, FEATURE_OUTLINES, FEATURE_RATES, Message, Refusal, SessionGrant, WireEntry};
use std::sync::Arc;

/// What is on offer.
pub(super) struct World {
    pub(super) listing: Arc<Listing>,
    pub(super) page_starts: Arc<[u32]>,
    /// Whether the sender connected.
    pub(super) is_pushed: bool,
}

impl World {
    /// One to twelve entries; some files have several chunks, and some none; some are links.
    pub(super) fn new(input: &mut Unstructured<'_>, is_pushed: bool) -> Self {
        let mut builder = ListingBuilder::new();
        let (mut last_file, mut open_folder) = (None, None::<String>);
        for number in 0..input.int_in_range(1..=12u8).unwrap_or(1) {
            let symlink = || EntryKind::Symlink { target: LinkTarget::parse("none").expect("a plain name") };
            let kind = match input.int_in_range(0..=6u64).unwrap_or(2) {
                0 => EntryKind::Folder,
                5 => last_file.map_or(EntryKind::Folder, |to| EntryKind::HardLink { to }),
                6 => open_folder.as_ref().map_or(EntryKind::Folder, |_| symlink()),
                1 => EntryKind::File { length: Length(0) },
                2 => EntryKind::File { length: Length(1) },
                chunks => EntryKind::File { length: Length((2 * chunks - 4) * CHUNK_BYTES_MIN + 1) },
            };
            let path = match &kind {
                EntryKind::Symlink { .. } => format!("{}/{number:02}", open_folder.clone().unwrap_or_default()),
                _ => format!("{number:02}"),
            };
            match kind {
                EntryKind::Folder => open_folder = Some(path.clone()),
                EntryKind::Symlink { .. } => {}
                EntryKind::File { .. } | EntryKind::HardLink { .. } => open_folder = None,
            }
            if matches!(kind, EntryKind::File { .. }) {
                last_file = Some(EntryIndex(builder.len()));
            }
            let path = RelPath::parse(&path).unwrap();
            let (mode, modified) = (Mode::masked(0o600), Timestamp::clamped(0, 0));
            builder.push(Entry { path, kind, mode, modified, attributes: Attributes::NONE }).unwrap();
        }
        let totals = builder.totals();
        let listing = Arc::new(builder.finish(totals).unwrap());
        let page_starts = listing_page_starts(&listing).into();
        Self { listing, page_starts, is_pushed }
    }

    /// The hash of a chunk: any value does, as long as both ends agree.
    pub(super) fn digest(chunk: u64) -> ChunkDigest {
        ChunkDigest(*blake3::hash(&chunk.to_le_bytes()).as_bytes())
    }

    pub(super) fn root(&self, entry: EntryIndex) -> FileDigest {
        let mut merger = RootMerger::new(self.listing.geometry(entry).unwrap());
        let roots = self.listing.chunks_of(entry).filter_map(|chunk| merger.push(Self::digest(chunk)));
        roots.last().unwrap_or(empty_file_digest())
    }

    pub(super) fn seal(&self, without: &[EntryIndex]) -> [u8; 32] {
        let mut seal = SealHasher::new(self.listing.digest());
        for entry in self.listing.files() {
            seal.push((!without.contains(&entry)).then(|| self.root(entry)));
        }
        seal.finish().0
    }

    /// A page of a file's outline: some of the longest segments that there may be.
    pub(super) fn outline(&self, entry: u32, offset: u64, most: usize) -> Message {
        let length = self.listing.geometry(EntryIndex(entry)).unwrap().file_length();
        let longest = u64::from(Shape::of(length).unwrap().longest());
        let starts = (offset..length.0).step_by(longest as usize).take(most);
        let segments = starts.map(|at| Segment { length: longest.min(length.0 - at) as u32, hash: [at as u8; 16] });
        Message::OutlinePage { entry, offset, segments: segments.collect() }
    }

    pub(super) fn listing_page(&self) -> Message {
        let entries = self.listing.entries().iter().map(WireEntry::from).collect();
        Message::ListingPage { page: 0, entries, totals: Some(self.listing.totals().into()) }
    }

    fn welcomed_with(&self) -> SessionGrant {
        if self.is_pushed { SessionGrant::NONE } else { grant() }
    }

    pub(super) fn welcome(&self) -> Message {
        Message::Welcome {
            version: 1,
            features: FEATURE_OUTLINES | FEATURE_RATES,
            grant: self.welcomed_with(),
            lanes: 4,
            listing: self.listing.digest(),
        }
    }

    /// Any message, its numbers mostly small, so that some of them mean something.
    pub(super) fn any_message(&self, input: &mut Unstructured<'_>) -> Result<Message> {
        let number = |input: &mut Unstructured<'_>| -> Result<u64> {
            if input.ratio(1, 8)? { input.arbitrary() } else { input.int_in_range(0..=20) }
        };
        let small = |input: &mut Unstructured<'_>| number(input).map(|number| number as u32);
        Ok(match input.int_in_range(0..=17u8)? {
            0 => Message::Hello { version: small(input)? as u16, features: small(input)? },
            1 => Message::Welcome {
                version: small(input)? as u16,
                features: u32::from(input.ratio(1, 8)?),
                grant: self.welcomed_with(),
                lanes: small(input)? as u16,
                listing: if input.arbitrary()? { self.listing.digest() } else { ListingDigest([3; 32]) },
            },
            2 => Message::ListingRequest { page: small(input)? },
            3 => match self.listing_page() {
                Message::ListingPage { entries, totals, .. } => {
                    let entries = entries.into_iter().take(number(input)? as usize).collect();
                    Message::ListingPage {
                        page: small(input)?,
                        entries,
                        totals: totals.filter(|_| input.len().is_multiple_of(2)),
                    }
                }
                other => other,
            },
            4 => Message::HashesRequest { first: number(input)?, count: small(input)? as u16 },
            5 => {
                let first = number(input)?;
                let digests = (0..input.int_in_range(0..=9u64)?).map(|place| Self::digest(first.wrapping_add(place)));
                Message::HashPage { first, digests: digests.collect() }
            }
            6 => {
                let mut gaps = Vec::new();
                for _ in 0..input.int_in_range(0..=4u8)? {
                    gaps.push((number(input)?, number(input)?));
                }
                let piece_bytes =
                    if input.ratio(1, 8)? { small(input)? } else { 1 << input.int_in_range(13..=19u8)? };
                let held =
                    if input.arbitrary()? { 0 } else { number(input)?.wrapping_mul(u64::from(piece_bytes >> 1)) };
                Message::ChunksRequest { gaps, piece_bytes, held, reread: input.arbitrary()? }
            }
            7 => Message::SourceChanged { entry: small(input)?, change: Change::Content },
            8 => {
                let mut without = Vec::new();
                for _ in 0..input.int_in_range(0..=4u8)? {
                    without.push(small(input)?);
                }
                Message::SealRequest { without, more: input.arbitrary()? }
            }
            9 => Message::Seal { manifest: if input.arbitrary()? { self.seal(&[]) } else { [1; 32] } },
            10 => Message::Done { files: small(input)?, failed: small(input)? },
            11 => Message::DoneAck,
            12 => Message::Ping { token: number(input)? },
            13 => Message::Pong { token: number(input)? },
            14 => Message::Working,
            15 | 16 => any_outline(small(input)?, number(input)?, input)?,
            _ if self.is_pushed && input.arbitrary()? => {
                if input.arbitrary()? {
                    Message::LanesWanted { lanes: small(input)? as u16 }
                } else {
                    Message::Grant { grant: if input.ratio(1, 8)? { SessionGrant::NONE } else { grant() } }
                }
            }
            _ if input.ratio(1, 8)? => Message::Refused { refusal: Refusal::Stopped },
            _ if input.arbitrary()? => Message::RateWanted { bytes_per_second: number(input)? },
            _ => Message::Working,
        })
    }
}

/// A request for a page of an outline, or such a page.
fn any_outline(entry: u32, offset: u64, input: &mut Unstructured<'_>) -> Result<Message> {
    if input.arbitrary()? {
        return Ok(Message::OutlineRequest { entry, offset });
    }
    let mut segments = Vec::new();
    for _ in 0..input.int_in_range(0..=4u8)? {
        let length = if input.arbitrary()? { 65_536 } else { input.arbitrary()? };
        segments.push(Segment { length, hash: [7; 16] });
    }
    Ok(Message::OutlinePage { entry, offset, segments })
}

/// The grant of every session here.
pub(super) fn grant() -> SessionGrant {
    SessionGrant { id: [1; 16], secret: [2; 32] }
}
