//! Two sessions, wired together without a network: the protocol from `Hello` to `DoneAck`.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used)]

use haul::chunk::{ChunkIndex, Length};
use haul::chunk_set::ChunkSet;
use haul::digest::{ChunkDigest, RootMerger, chunk_digest, empty_file_digest};
use haul::limits::CHUNK_BYTES_MIN;
use haul::manifest::{Entry, EntryIndex, EntryKind, LinkTarget, Listing, ListingBuilder, Mode, SealHasher, Timestamp};
use haul::outline::{Segment, Shape};
use haul::rel_path::RelPath;
use haul::session::{
    End, FileFault, Input, LaneId, LaneRole, Output, PeerFault, Plan, Receiver, ReceiverSettings, Sender, SenderInput,
    SenderOutput, SenderSettings, listing_page_starts,
};
use haul::wire::{FEATURES, Piece, SessionGrant};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const CONTROL: LaneId = LaneId(0);
const DATA: LaneId = LaneId(1);

#[test]
fn every_file_arrives_whole() {
    let mut pair = Pair::new(&[
        ("empty", Some(0)),
        ("folder", None),
        ("folder/one", Some(1)),
        ("folder/three", Some(3 * CHUNK_BYTES_MIN + 5)),
        ("last", Some(CHUNK_BYTES_MIN)),
    ]);
    pair.run();
    assert_eq!(pair.receiver_end, Some(End::Complete));
    assert_eq!(pair.sender_end, Some(End::Complete));
    pair.assert_all_published();
}

#[test]
fn claimed_chunks_are_not_asked_for_again() {
    let mut pair = Pair::new(&[("big", Some(40 * CHUNK_BYTES_MIN))]);
    pair.claims.insert(EntryIndex(0), ChunkSet::of(3..37));
    pair.run();
    assert_eq!(pair.receiver_end, Some(End::Complete));
    assert_eq!(pair.pieces_sent, 6 * CHUNK_BYTES_MIN);
    pair.assert_all_published();
}

#[test]
fn a_chunk_with_wrong_bytes_is_asked_for_once_more_over_another_lane() {
    let mut pair = Pair::new(&[("big", Some(4 * CHUNK_BYTES_MIN))]);
    pair.damage = vec![2];
    pair.run();
    assert_eq!(pair.receiver_end, Some(End::Complete));
    assert_eq!(pair.lanes_closed, 1);
    pair.assert_all_published();
}

#[test]
fn a_chunk_that_stays_wrong_fails_its_file_alone() {
    let mut pair = Pair::new(&[("bad", Some(4 * CHUNK_BYTES_MIN)), ("good", Some(9))]);
    pair.damage = vec![2, 2];
    pair.run();
    assert_eq!(pair.receiver_end, Some(End::Complete));
    assert_eq!(pair.failed, vec![EntryIndex(0)]);
    assert_eq!(pair.published.keys().copied().collect::<Vec<_>>(), vec![EntryIndex(1)]);
}

/// `d`, a file in it, a hard link to that and a symbolic one, and a file of its own.
fn tree_with_links() -> Pair {
    let folder = EntryKind::Folder;
    let file = |bytes| EntryKind::File { length: Length(bytes) };
    let symlink = EntryKind::Symlink { target: LinkTarget::parse("a").unwrap() };
    Pair::of(&[
        ("d", folder),
        ("d/a", file(2 * CHUNK_BYTES_MIN + 1)),
        ("d/b", EntryKind::HardLink { to: EntryIndex(1) }),
        ("d/c", symlink),
        ("e", file(5)),
    ])
}

#[test]
fn links_are_made_once_every_file_is_there_and_before_folders_are_finished() {
    let mut pair = tree_with_links();
    pair.run();
    assert_eq!((&pair.receiver_end, &pair.sender_end), (&Some(End::Complete), &Some(End::Complete)));
    assert_eq!(pair.links_made, [EntryIndex(2), EntryIndex(3)]);
    let order = pair.order.iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(order[order.len() - 2..], ["links", "folders"]);
    pair.assert_all_published();
}

#[test]
fn a_hard_link_to_a_file_that_failed_fails_with_it_and_the_sender_is_told() {
    let mut pair = tree_with_links();
    pair.damage = vec![0, 0];
    pair.run();
    assert_eq!(pair.receiver_end, Some(End::Complete));
    assert_eq!(pair.failed, [EntryIndex(1), EntryIndex(2)]);
    assert_eq!(pair.faults[1], FileFault::FirstFailed);
    assert_eq!(pair.links_made, [EntryIndex(3)], "a symbolic link leads where it does, whatever is there");
    assert_eq!(pair.sender_failed, Some(2));
}

#[test]
fn a_link_that_cannot_be_made_fails_alone() {
    let mut pair = tree_with_links();
    pair.refused_links = vec![EntryIndex(2)];
    pair.run();
    assert_eq!((pair.receiver_end.clone(), pair.failed.clone()), (Some(End::Complete), vec![EntryIndex(2)]));
    assert_eq!((pair.sender_failed, pair.order.last().map(String::as_str)), (Some(1), Some("folders")));
}

/// A file of 40 chunks, of which an older version has these in their places.
fn with_older(there: &[std::ops::Range<u64>]) -> Pair {
    let mut pair = Pair::new(&[("big", Some(40 * CHUNK_BYTES_MIN))]);
    pair.has_older = true;
    pair.claims.insert(EntryIndex(0), there.iter().cloned().collect());
    pair
}

#[test]
fn what_moved_is_looked_for_in_an_outline_and_not_fetched() {
    let mut pair = with_older(&[]);
    pair.moved.insert(EntryIndex(0), ChunkSet::of(1..40));
    pair.run();
    assert_eq!(pair.receiver_end, Some(End::Complete));
    assert_eq!(pair.order[..2], ["cut 0".to_owned(), format!("match 0: {} bytes", 40 * CHUNK_BYTES_MIN)]);
    assert_eq!(pair.pieces_sent, CHUNK_BYTES_MIN);
    pair.assert_all_published();
}

#[test]
fn what_moved_from_the_middle_on_is_looked_for_as_well() {
    let mut pair = with_older(&[0..20]);
    pair.moved.insert(EntryIndex(0), ChunkSet::of(21..40));
    pair.run();
    assert_eq!(pair.pieces_sent, CHUNK_BYTES_MIN);
    pair.assert_all_published();
}

#[test]
fn what_is_still_being_compared_is_not_given_out_again_once_an_outline_was_matched() {
    let mut pair = Pair::new(&[("big", Some(100 * CHUNK_BYTES_MIN))]);
    pair.has_older = true;
    pair.compares_slowly = true;
    pair.run();
    assert_eq!(pair.order[0], "cut 0");
    pair.given_out.sort_unstable();
    assert!(pair.given_out.iter().map(|given| given.1.0).eq(0..100), "each chunk once: {:?}", pair.given_out);
    assert_eq!(pair.pieces_sent, 100 * CHUNK_BYTES_MIN);
    pair.assert_all_published();
}

#[test]
fn where_little_changed_no_outline_is_asked_for() {
    for (there, fetched) in [(vec![0..7, 8..40], 1), (vec![0..7, 8..20, 22..35, 36..40], 4), (vec![0..40], 0)] {
        let mut pair = with_older(&there);
        pair.run();
        assert_eq!(pair.receiver_end, Some(End::Complete));
        assert_eq!(pair.order, ["file 0", "folders"]);
        assert_eq!(pair.pieces_sent, fetched * CHUNK_BYTES_MIN);
        pair.assert_all_published();
    }
}

#[test]
fn a_sender_is_told_of_what_could_not_be_made_durable_at_the_end() {
    let mut pair = Pair::new(&[("a", None), ("a/b", Some(1)), ("c", Some(1))]);
    pair.failed_at_the_end = 2;
    pair.run();
    assert_eq!((pair.receiver_end.clone(), pair.sender_end.clone()), (Some(End::Complete), Some(End::Complete)));
    assert_eq!(pair.sender_failed, Some(2));
    pair.assert_all_published();
}

#[test]
fn a_sender_without_outlines_is_asked_for_none() {
    let mut pair = with_older(&[0..20]);
    pair.receiver = Receiver::new(ReceiverSettings { lanes: 1, grant: None, features: 0 });
    pair.moved.insert(EntryIndex(0), ChunkSet::of(21..40));
    pair.run();
    assert_eq!(pair.order, ["file 0", "folders"]);
    assert_eq!(pair.pieces_sent, 20 * CHUNK_BYTES_MIN);
    pair.assert_all_published();
}

#[test]
fn an_outline_that_cannot_be_had_costs_a_fetch() {
    let mut pair = with_older(&[0..20]);
    pair.moved.insert(EntryIndex(0), ChunkSet::of(21..40));
    pair.page = Vec::clear;
    pair.run();
    assert_eq!((pair.receiver_end.clone(), pair.pieces_sent), (Some(End::Complete), 20 * CHUNK_BYTES_MIN));
    pair.assert_all_published();
}

#[test]
fn an_outline_that_is_wrong_costs_a_fetch() {
    let mut pair = with_older(&[]);
    pair.run();
    assert_eq!((pair.receiver_end.clone(), pair.pieces_sent), (Some(End::Complete), 40 * CHUNK_BYTES_MIN));
    pair.assert_all_published();
}

#[test]
fn an_outline_that_breaks_a_rule_ends_the_session() {
    let broken: [fn(&mut Vec<Segment>); 4] = [
        |page| page[0].length = 0,
        |page| page[0].length = 8 * 1024 - 1,
        |page| page[0].length = 128 * 1024 + 1,
        |page| page.push(page[0]),
    ];
    for page in broken {
        let mut pair = with_older(&[]);
        pair.page = page;
        pair.run();
        assert_eq!(pair.receiver_end, Some(End::PeerFault(PeerFault::Outline)));
        assert_eq!(pair.published, BTreeMap::new());
    }
}

struct Pair {
    links_made: Vec<EntryIndex>,
    refused_links: Vec<EntryIndex>,
    faults: Vec<FileFault>,
    sender_failed: Option<u32>,
    /// Entries that cannot be made durable.
    failed_at_the_end: u32,
    /// What was done to the disk.
    order: Vec<String>,
    files: Vec<Vec<u8>>,
    listing: Arc<Listing>,
    receiver: Receiver,
    sender: Sender,
    stored: BTreeMap<EntryIndex, Vec<u8>>,
    claims: BTreeMap<EntryIndex, ChunkSet>,
    /// Whether every chunk may lie in an older version, of which the claims are true.
    has_older: bool,
    /// Whether the last chunk of each comparison is compared when an outline was matched.
    compares_slowly: bool,
    /// All that was to be compared, in that order.
    given_out: Vec<(EntryIndex, ChunkIndex)>,
    /// Chunks whose comparison waits for the outline.
    comparing: Vec<(EntryIndex, (ChunkIndex, ChunkDigest))>,
    /// Chunks that are elsewhere in the older version.
    moved: BTreeMap<EntryIndex, ChunkSet>,
    /// What the sender makes of the rest of an outline.
    page: fn(&mut Vec<Segment>),
    published: BTreeMap<EntryIndex, [u8; 32]>,
    failed: Vec<EntryIndex>,
    damage: Vec<u64>,
    pieces_sent: u64,
    lanes_closed: u32,
    receiver_end: Option<End>,
    sender_end: Option<End>,
    next_lane: LaneId,
}

impl Pair {
    fn new(entries: &[(&str, Option<u64>)]) -> Self {
        let kind = |length: Option<u64>| match length {
            Some(length) => EntryKind::File { length: Length(length) },
            None => EntryKind::Folder,
        };
        Self::of(&entries.iter().map(|&(path, length)| (path, kind(length))).collect::<Vec<_>>())
    }

    fn of(entries: &[(&str, EntryKind)]) -> Self {
        let mut builder = ListingBuilder::new();
        let mut files = Vec::new();
        for (place, (path, kind)) in entries.iter().enumerate() {
            let kind = kind.clone();
            let length = if let EntryKind::File { length } = kind { length.0 as usize } else { 0 };
            let path = RelPath::parse(path).unwrap();
            let modified = Timestamp::clamped(0, 0);
            builder
                .push(Entry {
                    path,
                    kind,
                    mode: Mode::masked(0o644),
                    modified,
                    attributes: haul::manifest::Attributes::NONE,
                })
                .unwrap();
            files.push((0..length).map(|i| (i * 7 + i / 251 + place) as u8).collect());
        }
        let totals = builder.totals();
        let listing = Arc::new(builder.finish(totals).unwrap());
        let sender = Sender::new(SenderSettings {
            page_starts: listing_page_starts(&listing).into(),
            listing: listing.clone(),
            grant: Some(SessionGrant { id: [1; 16], secret: [2; 32] }),
            lanes: 4,
        });
        Self {
            links_made: Vec::new(),
            refused_links: Vec::new(),
            faults: Vec::new(),
            sender_failed: None,
            failed_at_the_end: 0,
            order: Vec::new(),
            stored: (0..).map(EntryIndex).zip(files.clone()).collect(),
            files,
            listing,
            receiver: Receiver::new(ReceiverSettings { lanes: 1, grant: None, features: FEATURES }),
            sender,
            claims: BTreeMap::new(),
            has_older: false,
            compares_slowly: false,
            given_out: Vec::new(),
            comparing: Vec::new(),
            moved: BTreeMap::new(),
            page: |segments| segments.truncate(7),
            published: BTreeMap::new(),
            failed: Vec::new(),
            damage: Vec::new(),
            pieces_sent: 0,
            lanes_closed: 0,
            receiver_end: None,
            sender_end: None,
            next_lane: DATA,
        }
    }

    fn run(&mut self) {
        for (entry, bytes) in &mut self.stored {
            let claims = self.claims.get(entry).cloned().unwrap_or_default();
            for (index, chunk) in bytes.chunks_mut(CHUNK_BYTES_MIN as usize).enumerate() {
                if !claims.contains(index as u64) {
                    chunk.fill(0);
                }
            }
        }
        self.open_lane(CONTROL, LaneRole::Control);
        for _ in 0..10_000 {
            let mut idle = true;
            while let Some(output) = self.receiver.poll() {
                idle = false;
                self.receiver_output(output);
            }
            while let Some(output) = self.sender.poll() {
                idle = false;
                self.sender_output(output);
            }
            if idle {
                return;
            }
        }
        panic!("the sessions never come to rest");
    }

    fn open_lane(&mut self, lane: LaneId, role: LaneRole) {
        self.sender.handle(Duration::ZERO, SenderInput::LaneOpened { lane, role });
        self.tell(Input::LaneOpened { lane, role });
    }

    fn tell(&mut self, input: Input) {
        self.receiver.handle(Duration::ZERO, input);
    }

    fn receiver_output(&mut self, output: Output) {
        match output {
            Output::Send { lane, message } => {
                self.sender.handle(Duration::ZERO, SenderInput::Message { lane, message });
            }
            Output::Granted { .. } => self.open_lane(DATA, LaneRole::Data),
            Output::Offered => {
                let plan = |entry: &Entry| match entry.kind {
                    EntryKind::File { .. } => Plan::Fetch,
                    EntryKind::Folder => Plan::Folder,
                    EntryKind::HardLink { .. } | EntryKind::Symlink { .. } => Plan::Link,
                };
                let plans = self.receiver.listing().unwrap().entries().iter().map(plan).collect();
                self.tell(Input::Accepted(plans));
            }
            Output::OpenFile { entry } => self.open_file(entry),
            Output::CheckClaims { entry, mut chunks } => {
                self.given_out.extend(chunks.iter().map(|&(index, _)| (entry, index)));
                if self.compares_slowly {
                    self.comparing.extend(chunks.pop().map(|last| (entry, last)));
                }
                self.compare(entry, &chunks);
            }
            Output::Publish { entry, root } => {
                assert_eq!(root.0, *blake3::hash(&self.stored[&entry]).as_bytes(), "what is published has its root");
                self.order.push(format!("file {}", entry.0));
                self.published.insert(entry, root.0);
                self.tell(Input::FilePublished { entry });
            }
            Output::MakeLinks { entries } => {
                self.order.push("links".into());
                for entry in entries {
                    if self.refused_links.contains(&entry) {
                        self.tell(Input::FileFailed { entry, fault: FileFault::Exists });
                        continue;
                    }
                    self.links_made.push(entry);
                    self.tell(Input::FilePublished { entry });
                }
            }
            Output::FinishFolders => {
                self.order.push("folders".into());
                self.tell(Input::FoldersFinished { failed: self.failed_at_the_end });
            }
            Output::FileFailed { entry, fault } => {
                self.failed.push(entry);
                self.faults.push(fault);
            }
            Output::CloseLane { lane } => {
                self.lanes_closed += 1;
                self.sender.handle(Duration::ZERO, SenderInput::LaneLost { lane });
                self.tell(Input::LaneLost { lane, held: None });
                self.next_lane = LaneId(self.next_lane.0 + 1);
                self.open_lane(self.next_lane, LaneRole::Data);
            }
            Output::End(end) => self.receiver_end = Some(end),
            Output::Claim { lane, chunk, .. } => self.tell(Input::ChunkStored { lane, chunk }),
            Output::Discard { .. } => {}
            Output::CutOlder { entry } => self.order.push(format!("cut {}", entry.0)),
            Output::Match { entry, outline } => self.match_older(entry, &outline),
            Output::Compare { .. } | Output::Place { .. } | Output::Weigh { .. } => {
                unreachable!("neither is caused by a message")
            }
        }
    }

    fn digest_at(&self, number: u64) -> ChunkDigest {
        let place = self.listing.place(number).unwrap();
        let span = place.geometry.span(place.index).unwrap();
        let bytes = &self.stored[&place.entry][span.offset.0 as usize..][..span.length.0 as usize];
        chunk_digest(place.geometry, place.index, bytes)
    }

    fn sender_output(&mut self, output: SenderOutput) {
        match output {
            SenderOutput::Send { lane, message } => self.tell(Input::Message { lane, message }),
            SenderOutput::Hash { lane, chunks } => {
                let digests = chunks.map(|number| self.source_digest(number)).collect();
                self.sender.handle(Duration::ZERO, SenderInput::Hashed { lane, outcome: Ok(digests) });
            }
            SenderOutput::Serve { lane, request } => {
                for number in request.ranges.into_iter().flatten() {
                    self.serve(lane, number, request.piece_bytes);
                }
                self.sender.handle(Duration::ZERO, SenderInput::ChunksServed { lane });
            }
            SenderOutput::Outline { lane, entry, offset } => {
                let segments = self.outline(entry, offset);
                self.sender.handle(Duration::ZERO, SenderInput::Outlined { lane, segments });
            }
            SenderOutput::Seal { lane, without } => {
                let mut seal = SealHasher::new(self.listing.digest());
                for entry in self.listing.files() {
                    let root = self.source_root(entry);
                    seal.push((!without.contains(&entry)).then_some(root));
                }
                self.sender.handle(Duration::ZERO, SenderInput::Sealed { lane, outcome: Ok(seal.finish()) });
            }
            SenderOutput::End { end, failed } => {
                self.sender_end = Some(end);
                self.sender_failed = Some(failed);
            }
            SenderOutput::CloseLane { .. }
            | SenderOutput::Granted { .. }
            | SenderOutput::Limit { .. }
            | SenderOutput::OpenLanes { .. } => {}
        }
    }

    fn open_file(&mut self, entry: EntryIndex) {
        let has_older = self.has_older;
        let claims = self.claims.get(&entry).cloned().unwrap_or_default();
        let all = self.listing.chunks_of(entry);
        let claims = if has_older { ChunkSet::of(0..all.end - all.start) } else { claims };
        self.tell(Input::FileOpened { entry, claims, has_older });
    }

    fn compare(&mut self, entry: EntryIndex, chunks: &[(ChunkIndex, ChunkDigest)]) {
        let first = self.listing.chunks_of(entry).start;
        let number = |index: ChunkIndex| first + u64::from(index.0);
        let one = |index: ChunkIndex| number(index)..number(index) + 1;
        let checked: ChunkSet = chunks.iter().map(|&(index, _)| one(index)).collect();
        let holds = |&&(index, digest): &&(ChunkIndex, ChunkDigest)| self.digest_at(number(index)) == digest;
        let good: ChunkSet = chunks.iter().filter(holds).map(|&(index, _)| one(index)).collect();
        self.tell(Input::ClaimsChecked { entry, checked, good });
    }

    fn match_older(&mut self, entry: EntryIndex, outline: &[Segment]) {
        let bytes = outline.iter().map(|segment| u64::from(segment.length)).sum::<u64>();
        self.order.push(format!("match {}: {bytes} bytes", entry.0));
        let chunks = self.moved.get(&entry).cloned().unwrap_or_default();
        for number in chunks.ranges().flatten() {
            let place = self.listing.place(number).unwrap();
            let span = place.geometry.span(place.index).unwrap();
            let bytes = span.offset.0 as usize..(span.offset.0 + span.length.0) as usize;
            let source = &self.files[entry.as_usize()][bytes.clone()];
            self.stored.get_mut(&entry).unwrap()[bytes].copy_from_slice(source);
        }
        self.tell(Input::Matched { entry, chunks });
        self.compares_slowly = false;
        for (entry, chunk) in std::mem::take(&mut self.comparing) {
            self.compare(entry, &[chunk]);
        }
    }

    fn outline(&self, entry: EntryIndex, offset: u64) -> Vec<Segment> {
        let length = self.listing.geometry(entry).unwrap().file_length();
        let longest = u64::from(Shape::of(length).unwrap().longest());
        let starts = (offset..length.0).step_by(longest as usize);
        let segment = |at| Segment { length: longest.min(length.0 - at) as u32, hash: [7; 16] };
        let mut segments = starts.map(segment).collect();
        (self.page)(&mut segments);
        segments
    }

    fn serve(&mut self, lane: LaneId, number: u64, piece_bytes: u32) {
        let place = self.listing.place(number).unwrap();
        let span = place.geometry.span(place.index).unwrap();
        let mut offset = 0;
        while offset < span.length.0 {
            let length = u64::from(piece_bytes).min(span.length.0 - offset);
            let piece = Piece { chunk: number, offset, length: length as u32 };
            self.tell(Input::PieceArrived { lane, piece });
            let start = (span.offset.0 + offset) as usize;
            let mut last = false;
            for output in std::iter::from_fn(|| self.receiver.poll()).collect::<Vec<_>>() {
                match output {
                    Output::Place { last: completes, .. } => last = completes,
                    other => self.receiver_output(other),
                }
            }
            let source = &self.files[place.entry.as_usize()][start..start + length as usize];
            self.stored.get_mut(&place.entry).unwrap()[start..start + length as usize].copy_from_slice(source);
            self.pieces_sent += length;
            offset += length;
            if last {
                let mut digest = self.digest_at(number);
                if let Some(damaged) = self.damage.iter().position(|&chunk| chunk == number) {
                    self.damage.remove(damaged);
                    digest = ChunkDigest([0; 32]);
                }
                self.tell(Input::ChunkHashed { lane, chunk: number, digest });
            }
        }
    }

    fn source_digest(&self, number: u64) -> ChunkDigest {
        let place = self.listing.place(number).unwrap();
        let span = place.geometry.span(place.index).unwrap();
        let bytes = &self.files[place.entry.as_usize()][span.offset.0 as usize..][..span.length.0 as usize];
        chunk_digest(place.geometry, place.index, bytes)
    }

    fn source_root(&self, entry: EntryIndex) -> haul::digest::FileDigest {
        let mut merger = RootMerger::new(self.listing.geometry(entry).unwrap());
        let roots = self.listing.chunks_of(entry).filter_map(|number| merger.push(self.source_digest(number)));
        roots.last().unwrap_or(empty_file_digest())
    }

    fn assert_all_published(&self) {
        for entry in self.listing.files() {
            let expected = blake3::hash(&self.files[entry.as_usize()]);
            assert_eq!(self.published.get(&entry), Some(expected.as_bytes()), "{entry:?}");
        }
        assert!(!matches!(self.receiver_end, Some(End::PeerFault(_))));
    }
}
