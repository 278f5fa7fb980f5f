//! The side that has file data: checks requests, and says what answers them.

mod event;

pub use event::{ChunksToServe, SenderInput, SenderOutput, SenderSettings};

use super::{End, LaneId, LaneRole, PeerFault};
use crate::chunk_set::ChunkSet;
use crate::digest::ChunkDigest;
use crate::limits::{
    HASH_PAGE_CHUNKS_MAX, PIECE_BYTES_MAX, PIECE_BYTES_MIN, REQUEST_BYTES_MAX, REQUEST_CHUNKS_MAX, REQUESTS_QUEUED_MAX,
};
use crate::manifest::EntryIndex;
use crate::outline::{Segment, Shape};
use crate::wire::{
    Change, FEATURE_OUTLINES, FEATURE_ZSTD, FEATURES, Message, Refusal, SessionGrant, VERSION, WireEntry,
};
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::ops::Range;
use std::time::Duration;

/// The sending state machine. See the [module](super) for its contract.
#[derive(Debug)]
pub struct Sender {
    settings: SenderSettings,
    lanes: BTreeMap<LaneId, Lane>,
    outputs: VecDeque<SenderOutput>,
    /// Optional features that both ends have, by the last `Hello`.
    features: u32,
    ended: bool,
}

/// A lane, and the work that it waits for.
#[derive(Debug)]
struct Lane {
    role: LaneRole,
    greeted: bool,
    /// Whether the receiver said over it what further lanes prove.
    granted: bool,
    /// Requests not answered yet, in order; the first is being worked on.
    queue: VecDeque<Work>,
    /// Files to leave out of a seal, as far as the list has come.
    without: Vec<EntryIndex>,
}

/// A checked request.
#[derive(Debug)]
enum Work {
    Answer(Message),
    Chunks(ChunksToServe),
    Hashes(Range<u64>),
    Outline(EntryIndex, u64),
    Seal(Vec<EntryIndex>),
}

impl Sender {
    /// A session that has no lane.
    pub fn new(settings: SenderSettings) -> Self {
        Self { settings, lanes: BTreeMap::new(), outputs: VecDeque::new(), features: 0, ended: false }
    }

    /// Takes what happened at `now`. After the end, nothing has an effect.
    pub fn handle(&mut self, _now: Duration, input: SenderInput) {
        if self.ended {
            return;
        }
        if let Err(fault) = self.take(input) {
            self.end_with(Refusal::Protocol, End::PeerFault(fault));
        }
    }

    /// The next thing to do, or `None` until more happens.
    pub fn poll(&mut self) -> Option<SenderOutput> {
        self.outputs.pop_front()
    }

    /// When a `Tick` is due: never, since a sender only answers.
    pub fn wake(&self) -> Option<Duration> {
        None
    }

    /// Whether the session is over.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    fn take(&mut self, input: SenderInput) -> Result<(), PeerFault> {
        match input {
            SenderInput::LaneOpened { lane, role } => {
                let greeted = role == LaneRole::Data;
                let (queue, without) = (VecDeque::new(), Vec::new());
                self.lanes.insert(lane, Lane { role, greeted, granted: false, queue, without });
            }
            SenderInput::LaneLost { lane } => {
                self.lanes.remove(&lane);
            }
            SenderInput::Message { lane, message } => return self.take_message(lane, message),
            SenderInput::ChunksServed { lane } => self.finish(lane, None),
            SenderInput::Hashed { lane, outcome } => self.hashed(lane, outcome),
            SenderInput::Outlined { lane, segments } => self.outlined(lane, segments),
            SenderInput::Sealed { lane, outcome } => {
                let answer = match outcome {
                    Ok(manifest) => Message::Seal { manifest: manifest.0 },
                    Err((entry, change)) => Message::SourceChanged { entry: entry.0, change },
                };
                self.finish(lane, Some(answer));
            }
            SenderInput::Stop => self.end_with(Refusal::Stopped, End::Refused(Refusal::Stopped)),
        }
        Ok(())
    }

    fn take_message(&mut self, id: LaneId, message: Message) -> Result<(), PeerFault> {
        let Some(lane) = self.lanes.get(&id) else { return Ok(()) };
        if lane.queue.len() >= REQUESTS_QUEUED_MAX {
            return Err(PeerFault::RequestsQueued);
        }
        let work = match (message, lane.role, lane.greeted) {
            (Message::Refused { refusal }, ..) => {
                self.end(End::Refused(refusal), 0);
                return Ok(());
            }
            (Message::Hello { version, features }, LaneRole::Control, false) => {
                Work::Answer(self.welcome(id, version, features)?)
            }
            (_, _, false) => return Err(PeerFault::OutOfTurn("a request before Hello")),
            (Message::Ping { token }, ..) => Work::Answer(Message::Pong { token }),
            (Message::ChunksRequest { gaps, piece_bytes, held, reread }, LaneRole::Data, _) => {
                Work::Chunks(self.check_chunks(&gaps, piece_bytes, held, reread)?)
            }
            (_, LaneRole::Data, _) => return Err(PeerFault::OutOfTurn("a control request on a data lane")),
            (Message::ListingRequest { page }, ..) => Work::Answer(self.listing_page(page)?),
            (Message::HashesRequest { first, count }, ..) => Work::Hashes(self.check_hashes(first, count)?),
            (Message::OutlineRequest { entry, offset }, ..) => self.check_outline(EntryIndex(entry), offset)?,
            (Message::Grant { grant }, ..) => return self.take_grant(id, grant),
            (Message::LanesWanted { lanes }, ..) => return self.take_lanes_wanted(id, lanes),
            (Message::RateWanted { bytes_per_second }, ..) => {
                self.outputs.push_back(SenderOutput::Limit { rate: NonZeroU64::new(bytes_per_second) });
                return Ok(());
            }
            (Message::SealRequest { without, more }, ..) => match self.check_seal(id, &without, more)? {
                Some(without) => Work::Seal(without),
                None => return Ok(()),
            },
            (Message::Done { failed, .. }, ..) => {
                self.outputs.push_back(SenderOutput::Send { lane: id, message: Message::DoneAck });
                self.end(End::Complete, failed);
                return Ok(());
            }
            _ => return Err(PeerFault::OutOfTurn("an answer")),
        };
        self.enqueue(id, work);
        Ok(())
    }

    fn welcome(&mut self, id: LaneId, version: u16, features: u32) -> Result<Message, PeerFault> {
        if version == 0 {
            return Err(PeerFault::Version);
        }
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.greeted = true;
        }
        self.features = features & FEATURES;
        Ok(Message::Welcome {
            version: version.min(VERSION),
            features: self.features,
            grant: self.settings.grant.clone().unwrap_or(SessionGrant::NONE),
            lanes: self.settings.lanes,
            listing: self.settings.listing.digest(),
        })
    }

    /// Where this side connected, the receiver grants the session, once over each control lane.
    fn take_grant(&mut self, id: LaneId, grant: SessionGrant) -> Result<(), PeerFault> {
        let Some(lane) = self.lanes.get_mut(&id) else { return Ok(()) };
        if self.settings.grant.is_some() || grant == SessionGrant::NONE || std::mem::replace(&mut lane.granted, true) {
            return Err(PeerFault::Grant);
        }
        self.outputs.push_back(SenderOutput::Granted { grant });
        Ok(())
    }

    fn take_lanes_wanted(&mut self, id: LaneId, lanes: u16) -> Result<(), PeerFault> {
        if !self.lanes.get(&id).is_some_and(|lane| lane.granted) {
            return Err(PeerFault::OutOfTurn("LanesWanted"));
        }
        if !(1..=self.settings.lanes).contains(&lanes) {
            return Err(PeerFault::Request);
        }
        self.outputs.push_back(SenderOutput::OpenLanes { lanes });
        Ok(())
    }

    fn listing_page(&self, page: u32) -> Result<Message, PeerFault> {
        let starts = &self.settings.page_starts;
        let start = *starts.get(page as usize).ok_or(PeerFault::Request)? as usize;
        let entries = self.settings.listing.entries();
        let end = starts.get(page as usize + 1).map_or(entries.len(), |&end| end as usize);
        let is_last = end == entries.len();
        Ok(Message::ListingPage {
            page,
            entries: entries[start..end].iter().map(WireEntry::from).collect(),
            totals: is_last.then(|| self.settings.listing.totals().into()),
        })
    }

    fn check_hashes(&self, first: u64, count: u16) -> Result<Range<u64>, PeerFault> {
        if !(1..=HASH_PAGE_CHUNKS_MAX).contains(&count) {
            return Err(PeerFault::Request);
        }
        let end = first.checked_add(u64::from(count)).filter(|&end| end <= self.settings.listing.totals().chunks);
        Ok(first..end.ok_or(PeerFault::ChunkNotOffered)?)
    }

    fn check_outline(&self, entry: EntryIndex, offset: u64) -> Result<Work, PeerFault> {
        if self.features & FEATURE_OUTLINES == 0 {
            return Err(PeerFault::OutOfTurn("OutlineRequest"));
        }
        let length = self.settings.listing.geometry(entry).ok_or(PeerFault::UnknownEntry)?.file_length();
        let is_offered = Shape::of(length).is_some() && offset < length.0;
        is_offered.then_some(Work::Outline(entry, offset)).ok_or(PeerFault::Request)
    }

    /// The files to leave out of a seal, in strictly rising order, once the list is complete.
    fn check_seal(&mut self, id: LaneId, part: &[u32], more: bool) -> Result<Option<Vec<EntryIndex>>, PeerFault> {
        let Some(lane) = self.lanes.get_mut(&id) else { return Ok(None) };
        // A part of nothing could be repeated for ever; any other makes the list longer, up to all files.
        if more && part.is_empty() {
            return Err(PeerFault::Request);
        }
        for entry in part.iter().copied().map(EntryIndex) {
            let is_file = self.settings.listing.geometry(entry).is_some();
            if !is_file || lane.without.last().is_some_and(|&before| before >= entry) {
                return Err(PeerFault::UnknownEntry);
            }
            lane.without.push(entry);
        }
        Ok((!more).then(|| std::mem::take(&mut lane.without)))
    }

    fn check_chunks(
        &self,
        gaps: &[(u64, u64)],
        piece_bytes: u32,
        held: u64,
        reread: bool,
    ) -> Result<ChunksToServe, PeerFault> {
        if !(PIECE_BYTES_MIN..=PIECE_BYTES_MAX).contains(&piece_bytes) || !piece_bytes.is_power_of_two() {
            return Err(PeerFault::Request);
        }
        let chunks = ChunkSet::from_gaps(gaps).filter(|set| !set.is_empty()).ok_or(PeerFault::Request)?;
        if chunks.len() > REQUEST_CHUNKS_MAX {
            return Err(PeerFault::Request);
        }
        let listing = &self.settings.listing;
        let mut bytes = 0;
        for chunk in chunks.ranges().flatten() {
            bytes += listing.place(chunk).ok_or(PeerFault::ChunkNotOffered)?.length().0;
        }
        let first = chunks.first().and_then(|chunk| listing.place(chunk)).ok_or(PeerFault::Request)?;
        let is_too_long = chunks.len() > 1 && bytes > REQUEST_BYTES_MAX;
        if is_too_long || held >= first.length().0 || !held.is_multiple_of(u64::from(piece_bytes)) {
            return Err(PeerFault::Request);
        }
        let zstd = self.features & FEATURE_ZSTD != 0;
        Ok(ChunksToServe { ranges: chunks.ranges().collect(), piece_bytes, held, reread, zstd })
    }

    fn enqueue(&mut self, id: LaneId, work: Work) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.queue.push_back(work);
        if lane.queue.len() == 1 {
            self.start(id);
        }
    }

    /// Starts the work at the head of a lane's queue; work that is an answer already is done at once.
    fn start(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        while let Some(work) = lane.queue.front_mut() {
            let output = match work {
                Work::Answer(_) => {
                    if let Some(Work::Answer(message)) = lane.queue.pop_front() {
                        self.outputs.push_back(SenderOutput::Send { lane: id, message });
                    }
                    continue;
                }
                Work::Chunks(request) => SenderOutput::Serve { lane: id, request: request.clone() },
                Work::Hashes(chunks) => SenderOutput::Hash { lane: id, chunks: chunks.clone() },
                &mut Work::Outline(entry, offset) => SenderOutput::Outline { lane: id, entry, offset },
                Work::Seal(without) => SenderOutput::Seal { lane: id, without: std::mem::take(without) },
            };
            self.outputs.push_back(output);
            return;
        }
    }

    fn finish(&mut self, id: LaneId, answer: Option<Message>) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.queue.pop_front().is_none() {
            return;
        }
        self.outputs.extend(answer.map(|message| SenderOutput::Send { lane: id, message }));
        self.start(id);
    }

    fn hashed(&mut self, id: LaneId, outcome: Result<Vec<ChunkDigest>, (EntryIndex, Change)>) {
        let Some(lane) = self.lanes.get(&id) else { return };
        let Some(Work::Hashes(chunks)) = lane.queue.front() else { return };
        let first = chunks.start;
        let answer = match outcome {
            Ok(digests) => Message::HashPage { first, digests },
            Err((entry, change)) => Message::SourceChanged { entry: entry.0, change },
        };
        self.finish(id, Some(answer));
    }

    fn outlined(&mut self, id: LaneId, segments: Vec<Segment>) {
        let Some(&Work::Outline(EntryIndex(entry), offset)) = self.lanes.get(&id).and_then(|lane| lane.queue.front())
        else {
            return;
        };
        self.finish(id, Some(Message::OutlinePage { entry, offset, segments }));
    }

    fn end_with(&mut self, refusal: Refusal, end: End) {
        let control = self.lanes.iter().find(|(_, lane)| lane.role == LaneRole::Control);
        if let Some((&lane, _)) = control {
            self.outputs.push_back(SenderOutput::Send { lane, message: Message::Refused { refusal } });
        }
        self.end(end, 0);
    }

    fn end(&mut self, end: End, failed: u32) {
        self.ended = true;
        self.outputs.push_back(SenderOutput::End { end, failed });
    }
}
