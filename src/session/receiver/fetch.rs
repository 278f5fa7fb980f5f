//! After the offer is accepted: hashes come in, files open, chunks are verified, files are published, the seal agrees.

use super::files::{FileState, Files};
use super::lane::Lane;
use super::older::Older;
use super::{Input, Output, Plan, Verdict};
use crate::chunk_set::ChunkSet;
use crate::digest::{ChunkDigest, FileDigest, ManifestId, empty_file_digest};
use crate::limits::{CHUNK_RETRIES_MAX, HELD_CHUNKS_MAX, PIECE_BYTES_MIN};
use crate::manifest::{EntryIndex, HashPages, Listing};
use crate::session::{End, FileFault, LaneId, PeerFault};
use crate::wire::Message;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The state of an accepted transfer.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) listing: Arc<Listing>,
    pub(super) pages: HashPages,
    /// Hash requests under way, in order, as first chunk and count; nothing where the answer is of no use any more.
    pub(super) hash_requests: VecDeque<Option<(u64, u16)>>,
    /// Where the next hash request starts.
    pub(super) hash_cursor: u64,
    /// Chunks of the next hash request, which doubles from one.
    pub(super) hash_ramp: u16,
    /// Chunks to fetch that no lane was asked for.
    pub(super) wanted: ChunkSet,
    /// Chunks that open files claim and that were not compared with their hash.
    pub(super) claimed: ChunkSet,
    /// Those of them that are being looked at.
    pub(super) checking: ChunkSet,
    /// Chunks that lanes were asked for and that are not known to be stored.
    pub(super) in_flight: ChunkSet,
    /// Chunks from here on are not asked for yet.
    pub(super) reach: u64,
    /// Files whose chunks may yet be wanted, after a comparison.
    pub(super) undecided: BTreeSet<EntryIndex>,
    /// Those of them whose chunks' hashes are told.
    pub(super) weighed: BTreeSet<EntryIndex>,
    /// Bytes of wanted chunks, from the first one on, that lie in their place already.
    pub(super) held: BTreeMap<u64, u64>,
    /// Open files whose older versions may hold more of them.
    pub(super) older: BTreeMap<EntryIndex, Older>,
    /// The page of an outline that was asked for: of which file, and where it starts.
    pub(super) outline_asked: Option<(EntryIndex, u64)>,
    /// Whether the sender gives outlines.
    pub(super) takes_outlines: bool,
    /// Bytes a second that the data lane lost last carried: what the next one starts from.
    pub(super) rate: f64,
    /// How often each chunk came without its hash.
    pub(super) retries: BTreeMap<u64, u8>,
    pub(super) files: Files,
    roots: Vec<Option<FileDigest>>,
    /// What both sides agree on.
    pub(super) manifest: Option<ManifestId>,
    /// Files whose root the sender can no longer confirm: the seal leaves them out.
    pub(super) unconfirmed: BTreeSet<EntryIndex>,
    pub(super) closing: Closing,
}

/// How far the end is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Closing {
    /// Hashes are still wanted.
    Hashes,
    /// The seal was asked for.
    Seal,
    /// The seal agrees; files are still under way.
    Files,
    /// Every file is final; links are being made.
    Links,
    /// Folders are being finished.
    Folders,
    /// Everything is done and said so once a control lane is there.
    Done,
    /// The sender was told.
    Told,
}

impl Fetch {
    pub(super) fn new(listing: Arc<Listing>, plans: &[Plan], takes_outlines: bool) -> Self {
        let mut fetch = Self {
            manifest: None,
            roots: vec![None; listing.entries().len()],
            files: Files::new(&listing, plans),
            listing,
            pages: HashPages::new(),
            hash_requests: VecDeque::new(),
            hash_cursor: 0,
            hash_ramp: 1,
            wanted: ChunkSet::new(),
            claimed: ChunkSet::new(),
            checking: ChunkSet::new(),
            in_flight: ChunkSet::new(),
            reach: u64::MAX,
            undecided: BTreeSet::new(),
            weighed: BTreeSet::new(),
            unconfirmed: BTreeSet::new(),
            held: BTreeMap::new(),
            older: BTreeMap::new(),
            outline_asked: None,
            takes_outlines,
            rate: 0.0,
            retries: BTreeMap::new(),
            closing: Closing::Hashes,
        };
        for (index, plan) in (0..).map(EntryIndex).zip(plans) {
            match plan {
                Plan::Fetch => fetch.wanted.insert(fetch.listing.chunks_of(index)),
                Plan::Done { root } => fetch.roots[index.as_usize()] = Some(*root),
                // One of no chunk has no root to wait for.
                Plan::Compare | Plan::Weigh if !fetch.listing.chunks_of(index).is_empty() => {
                    fetch.undecided.insert(index);
                    if *plan == Plan::Weigh {
                        fetch.weighed.insert(index);
                    }
                }
                Plan::Compare | Plan::Failed | Plan::Folder | Plan::Link | Plan::Skip | Plan::Weigh => {}
            }
            if fetch.listing.entries()[index.as_usize()].file_length().is_some_and(|length| length.0 == 0) {
                fetch.roots[index.as_usize()] = Some(empty_file_digest());
            }
        }
        fetch
    }

    pub(super) fn listing(&self) -> &Arc<Listing> {
        &self.listing
    }

    pub(super) fn manifest(&self) -> Option<ManifestId> {
        self.manifest
    }

    /// The root of a file, where it is known.
    pub(super) fn root(&self, entry: EntryIndex) -> Option<FileDigest> {
        self.roots.get(entry.as_usize()).copied().flatten()
    }

    /// The lowest chunk whose hash is still of use, among those whose hash came.
    pub(super) fn first_needed(&self) -> u64 {
        let undecided = self.undecided.first().map(|&entry| self.listing.chunks_of(entry).start);
        let sets =
            [self.wanted.first(), self.claimed.first(), self.in_flight.first(), undecided, self.first_held_back()];
        sets.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// Gives back what a lost lane was asked for, but for the bytes that are `held`.
    pub(super) fn lose_lane(&mut self, lost: &Lane, held: Option<(u64, u64)>) {
        for (chunk, bytes) in lost.held() {
            self.hold(chunk, bytes);
        }
        if let Some((chunk, bytes)) = held.filter(|&(chunk, _)| lost.unfinished().any(|range| range.contains(&chunk))) {
            self.hold(chunk, bytes);
        }
        if lost.role() == crate::session::LaneRole::Data {
            self.rate = lost.rate_for_next();
        }
        for range in lost.unfinished() {
            self.in_flight.remove(range.clone());
            for chunk in range {
                let alive = self.listing.place(chunk).is_some_and(|place| self.files.takes_chunks(place.entry));
                if alive {
                    self.wanted.insert(chunk..chunk + 1);
                }
            }
        }
        if lost.role() == crate::session::LaneRole::Control {
            self.hash_requests.clear();
            self.outline_asked = None;
            self.hash_cursor = self.pages.next();
            self.closing = match self.closing {
                Closing::Seal => Closing::Hashes,
                Closing::Told => Closing::Done,
                other => other,
            };
        }
    }

    /// Notes that the first bytes of a chunk need not come again. A request leaves out whole pieces, and never all. Of a
    /// chunk that once came without its hash, all bytes come again.
    fn hold(&mut self, chunk: u64, bytes: u64) {
        if self.retries.contains_key(&chunk) {
            return;
        }
        let Some(place) = self.listing.place(chunk).filter(|place| self.files.takes_chunks(place.entry)) else {
            return;
        };
        let bytes = bytes.min(place.length().0 - 1);
        let bytes = bytes - bytes % u64::from(PIECE_BYTES_MIN);
        if bytes > 0 && self.held.len() < HELD_CHUNKS_MAX {
            self.held.insert(chunk, bytes);
        }
    }

    /// Takes what the disk or a lane's thread found out.
    pub(super) fn take_disk(
        &mut self,
        input: Input,
        lanes: &mut BTreeMap<LaneId, Lane>,
        outputs: &mut VecDeque<Output>,
    ) {
        match input {
            Input::ChunkHashed { lane, chunk, digest } => self.chunk_hashed(lane, chunk, digest, lanes, outputs),
            Input::ChunkStored { lane, chunk } => self.chunk_stored(lane, chunk, lanes, outputs),
            Input::FileOpened { entry, claims, has_older } => self.file_opened(entry, &claims, has_older, outputs),
            Input::ClaimsChecked { entry, checked, good } => self.claims_checked(entry, &checked, &good, outputs),
            Input::Matched { entry, chunks } => self.matched(entry, &chunks, outputs),
            Input::Compared { entry, verdict } => self.compared(entry, verdict, outputs),
            Input::FilePublished { entry } => {
                self.older.remove(&entry);
                self.files.finish(entry, FileState::Done);
            }
            Input::FileFailed { entry, fault } => self.fail(entry, fault, outputs),
            Input::Reach { chunks } => self.reach = chunks,
            Input::FoldersFinished { failed } if self.closing == Closing::Folders => {
                self.files.failed_at_the_end(failed);
                self.closing = Closing::Done;
            }
            _ => {}
        }
    }

    /// Takes an answer on the control lane. Returns the end, if that is it.
    pub(super) fn take_control(
        &mut self,
        message: Message,
        outputs: &mut VecDeque<Output>,
    ) -> Result<Option<End>, PeerFault> {
        match message {
            Message::HashPage { first, digests } => self.take_page(first, digests, outputs).map(|()| None),
            Message::SourceChanged { entry, change } => {
                self.source_changed_in_hashes(EntryIndex(entry), change, outputs).map(|()| None)
            }
            Message::OutlinePage { entry, offset, segments } => {
                self.take_outline(EntryIndex(entry), offset, segments, outputs).map(|()| None)
            }
            Message::Seal { manifest } => self.check_seal(manifest).map(|()| None),
            Message::DoneAck if self.closing == Closing::Told => Ok(Some(End::Complete)),
            _ => Err(PeerFault::OutOfTurn("an answer to no request")),
        }
    }

    fn take_page(
        &mut self,
        first: u64,
        digests: Vec<ChunkDigest>,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), PeerFault> {
        let request = self.hash_requests.pop_front().ok_or(PeerFault::OutOfTurn("HashPage"))?;
        let Some((asked_first, asked_count)) = request else { return Ok(()) };
        if first != asked_first || digests.len() > usize::from(asked_count) {
            return Err(PeerFault::Page(crate::manifest::PageFault::Misplaced));
        }
        let is_short = digests.len() < usize::from(asked_count);
        // Where files are left out, the page starts after the gap that they leave.
        if first > self.pages.next() {
            self.pages.skip_to(first);
        }
        let window = first..first + digests.len() as u64;
        let complete = self.pages.push(&self.listing, first, digests).map_err(PeerFault::Page)?;
        self.weigh(window.clone(), outputs);
        for (entry, root) in complete {
            self.roots[entry.as_usize()] = Some(root);
            self.root_known(entry, root, outputs);
        }
        if is_short {
            self.restart_hash_requests();
        }
        self.check_claims(window, outputs);
        Ok(())
    }

    pub(super) fn restart_hash_requests(&mut self) {
        self.hash_requests.iter_mut().for_each(|request| *request = None);
        self.hash_cursor = self.pages.next();
    }

    fn root_known(&mut self, entry: EntryIndex, root: FileDigest, outputs: &mut VecDeque<Output>) {
        if self.files.state(entry) == FileState::AwaitingRoot {
            self.files.set(entry, FileState::Comparing);
            outputs.push_back(Output::Compare { entry, root });
        }
        self.publish_if_complete(entry, outputs);
    }

    fn chunk_hashed(
        &mut self,
        id: LaneId,
        chunk: u64,
        digest: ChunkDigest,
        lanes: &mut BTreeMap<LaneId, Lane>,
        outputs: &mut VecDeque<Output>,
    ) {
        // A lane that is gone returned its chunks; whoever brings one next may store it.
        let Some(lane) = lanes.get_mut(&id).filter(|lane| lane.has_landed(chunk)) else { return };
        let Some(place) = self.listing.place(chunk) else { return };
        if !self.files.takes_chunks(place.entry) {
            lane.settled(chunk);
            outputs.push_back(Output::Discard { lane: id, chunk });
        } else if let Some(proof) = self.pages.verify(&self.listing, chunk, digest) {
            self.retries.remove(&chunk);
            outputs.push_back(Output::Claim { lane: id, chunk, proof });
        } else {
            outputs.push_back(Output::Discard { lane: id, chunk });
            self.chunk_damaged(id, chunk, place.entry, lanes, outputs);
        }
    }

    fn chunk_damaged(
        &mut self,
        id: LaneId,
        chunk: u64,
        entry: EntryIndex,
        lanes: &mut BTreeMap<LaneId, Lane>,
        outputs: &mut VecDeque<Output>,
    ) {
        let tries = self.retries.entry(chunk).or_default();
        *tries += 1;
        if *tries > CHUNK_RETRIES_MAX {
            self.fail(entry, FileFault::Integrity, outputs);
        }
        // Whatever damages data on this connection is left behind with it.
        if let Some(lane) = lanes.get_mut(&id).filter(|lane| !lane.is_closing()) {
            lane.close();
            outputs.push_back(Output::CloseLane { lane: id });
        }
    }

    fn chunk_stored(
        &mut self,
        id: LaneId,
        chunk: u64,
        lanes: &mut BTreeMap<LaneId, Lane>,
        outputs: &mut VecDeque<Output>,
    ) {
        let Some(place) = self.listing.place(chunk) else { return };
        if lanes.get_mut(&id).is_some_and(|lane| lane.settled(chunk)) {
            self.in_flight.remove(chunk..chunk + 1);
            self.files.chunk_stored(place.entry);
            self.publish_if_complete(place.entry, outputs);
        }
    }

    fn compared(&mut self, entry: EntryIndex, verdict: Verdict, outputs: &mut VecDeque<Output>) {
        if self.files.state(entry) != FileState::Comparing {
            return;
        }
        self.undecided.remove(&entry);
        match verdict {
            Verdict::Identical => self.files.finish(entry, FileState::Done),
            Verdict::Keep => self.fail(entry, FileFault::Exists, outputs),
            Verdict::Fetch => {
                self.files.set(entry, FileState::Wanted);
                self.wanted.insert(self.listing.chunks_of(entry));
            }
        }
    }

    pub(super) fn publish_if_complete(&mut self, entry: EntryIndex, outputs: &mut VecDeque<Output>) {
        let Some(root) = self.root(entry) else { return };
        if self.files.begin_publish(entry) {
            outputs.push_back(Output::Publish { entry, root });
        }
    }

    /// Gives a file up. Its chunks on the way are discarded when they come.
    pub(super) fn fail(&mut self, entry: EntryIndex, fault: FileFault, outputs: &mut VecDeque<Output>) {
        if self.files.is_final(entry) {
            return;
        }
        self.files.finish(entry, FileState::Failed);
        let chunks = self.listing.chunks_of(entry);
        self.wanted.remove(chunks.clone());
        self.claimed.remove(chunks.clone());
        self.checking.remove(chunks.clone());
        self.in_flight.remove(chunks.clone());
        self.held.retain(|chunk, _| !chunks.contains(chunk));
        self.undecided.remove(&entry);
        self.older.remove(&entry);
        outputs.push_back(Output::FileFailed { entry, fault });
    }
}
