//! What to ask for next, and of which lane.

use super::Output;
use super::fetch::{Closing, Fetch};
use super::files::FileState;
use super::lane::{Answer, Lane};
use crate::chunk_set::ChunkSet;
use crate::digest::empty_file_digest;
use crate::limits::{
    HASH_AHEAD_BYTES, HASH_AHEAD_CHUNKS, HASH_PAGE_CHUNKS_MAX, HASH_PAGE_DATA_BYTES, HASH_REQUESTS_MAX,
    PUBLISH_QUEUE_MAX, REQUEST_BYTES_MAX, REQUEST_CHUNKS_MAX, REQUEST_RANGES_MAX, SEAL_WITHOUT_MAX,
};
use crate::manifest::EntryKind;
use crate::session::{FileFault, LaneId, LaneRole};
use crate::wire::Message;
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::ops::Range;
use std::time::Duration;

/// Chunks for one request.
struct Batch {
    ranges: Vec<Range<u64>>,
    bytes: u64,
    chunks: u64,
}

impl Fetch {
    /// Asks for whatever is useful and allowed at this moment.
    pub(super) fn pump(
        &mut self,
        now: Duration,
        limit: Option<NonZeroU64>,
        lanes: &mut BTreeMap<LaneId, Lane>,
        outputs: &mut VecDeque<Output>,
    ) {
        self.publish_empty_files(outputs);
        let mut room = limit.map_or(u64::MAX, |limit| room_under(limit, lanes));
        let data_lanes = lanes.iter_mut().filter(|(_, lane)| lane.role() == LaneRole::Data && lane.is_ready());
        for (&id, lane) in data_lanes {
            while lane.has_room() && room > 0 {
                let owed = lane.bytes_owed();
                if !self.ask_for_chunks(now, id, lane, outputs) {
                    break;
                }
                room = room.saturating_sub(lane.bytes_owed() - owed);
            }
        }
        let control = lanes.iter_mut().find(|(_, lane)| lane.role() == LaneRole::Control && lane.is_ready());
        if let Some((&id, lane)) = control {
            while self.ask_for_hashes(now, id, lane, outputs) {}
            self.ask_for_outline(now, id, lane, outputs);
            self.close(now, id, lane, outputs);
        }
        // For that nobody has to be there.
        if self.closing == Closing::Files && self.files.only_links_left() {
            self.closing = Closing::Links;
            self.make_links(outputs);
        }
        if self.closing == Closing::Links && self.files.all_final() {
            self.closing = Closing::Folders;
            outputs.push_back(Output::FinishFolders);
        }
    }

    /// Has links made, but for those to a file that failed.
    fn make_links(&mut self, outputs: &mut VecDeque<Output>) {
        let mut entries = self.files.links();
        entries.retain(|&entry| match self.listing.entry(entry).map(|listed| &listed.kind) {
            Some(EntryKind::HardLink { to }) if self.files.state(*to) == FileState::Failed => {
                self.fail(entry, FileFault::FirstFailed, outputs);
                false
            }
            _ => true,
        });
        if !entries.is_empty() {
            outputs.push_back(Output::MakeLinks { entries });
        }
    }

    /// Whether everything is done, whether or not the sender was told.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.closing, Closing::Done | Closing::Told)
    }

    fn publish_empty_files(&mut self, outputs: &mut VecDeque<Output>) {
        while self.files.publishing() < PUBLISH_QUEUE_MAX
            && let Some(entry) = self.files.next_empty(&self.listing)
        {
            outputs.push_back(Output::Publish { entry, root: empty_file_digest() });
        }
    }

    fn ask_for_chunks(&mut self, now: Duration, id: LaneId, lane: &mut Lane, outputs: &mut VecDeque<Output>) -> bool {
        if self.files.publishing() >= PUBLISH_QUEUE_MAX {
            return false;
        }
        let batch = self.next_batch(outputs);
        if batch.ranges.is_empty() {
            return false;
        }
        for range in &batch.ranges {
            self.wanted.remove(range.clone());
            self.in_flight.insert(range.clone());
        }
        let reread = batch.chunks == 1 && self.retries.contains_key(&batch.ranges[0].start);
        let held = self.held.remove(&batch.ranges[0].start).unwrap_or(0);
        let mut piece_bytes = lane.piece_bytes();
        // What is held is left out in whole pieces.
        while !held.is_multiple_of(u64::from(piece_bytes)) {
            piece_bytes /= 2;
        }
        lane.asked_for(now, &batch.ranges, batch.bytes, piece_bytes, held);
        let gaps = batch.ranges.into_iter().collect::<ChunkSet>().to_gaps();
        outputs
            .push_back(Output::Send { lane: id, message: Message::ChunksRequest { gaps, piece_bytes, held, reread } });
        true
    }

    /// The lowest wanted chunks whose hashes are known and whose files can take them; opens further files on the way.
    fn next_batch(&mut self, outputs: &mut VecDeque<Output>) -> Batch {
        let mut batch = Batch { ranges: Vec::new(), bytes: 0, chunks: 0 };
        let mut cursor = 0;
        while let Some(range) = self.wanted.within(cursor..self.pages.next().min(self.reach)).next() {
            let Some(place) = self.listing.place(range.start) else { break };
            let of_file = self.listing.chunks_of(place.entry);
            cursor = range.end.min(of_file.end);
            match self.files.state(place.entry) {
                FileState::Wanted if !place.geometry.is_single() => {
                    if !self.files.may_open() {
                        break;
                    }
                    self.files.set(place.entry, FileState::Opening);
                    outputs.push_back(Output::OpenFile { entry: place.entry });
                    cursor = of_file.end;
                }
                FileState::Open | FileState::Wanted => {
                    if !self.add_to_batch(&mut batch, range.start..cursor) {
                        break;
                    }
                }
                _ => cursor = of_file.end,
            }
        }
        batch
    }

    /// Adds chunks of one file up to the limits of a request. False once it is full.
    fn add_to_batch(&self, batch: &mut Batch, range: Range<u64>) -> bool {
        for chunk in range {
            let length = self.listing.place(chunk).map_or(0, |place| place.length().0);
            // A request says for its first chunk alone what to leave out, and whether to read it again.
            let is_special = self.retries.contains_key(&chunk) || self.held.contains_key(&chunk);
            let full = batch.bytes + length > REQUEST_BYTES_MAX || batch.chunks == REQUEST_CHUNKS_MAX || is_special;
            if full && batch.chunks > 0 {
                return false;
            }
            if let Some(last) = batch.ranges.last_mut().filter(|last| last.end == chunk) {
                last.end = chunk + 1;
            } else if batch.ranges.len() == REQUEST_RANGES_MAX {
                return false;
            } else {
                batch.ranges.push(chunk..chunk + 1);
            }
            batch.bytes += length;
            batch.chunks += 1;
            if is_special {
                return false;
            }
        }
        true
    }

    fn ask_for_hashes(&mut self, now: Duration, id: LaneId, lane: &mut Lane, outputs: &mut VecDeque<Output>) -> bool {
        self.release_pages();
        if self.hash_requests.len() >= HASH_REQUESTS_MAX || self.closing != Closing::Hashes {
            return false;
        }
        let asked: u64 = self.hash_requests.iter().flatten().map(|&(_, count)| u64::from(count)).sum();
        let holds_enough = self.pages.held() + asked + u64::from(HASH_PAGE_CHUNKS_MAX) > HASH_AHEAD_CHUNKS;
        if (holds_enough && !self.is_within_first_undecided()) || self.is_far_ahead() {
            return false;
        }
        if !self.wants_hashes() {
            return false;
        }
        let range = self.next_hash_range();
        self.hash_cursor = range.end;
        self.hash_ramp = self.hash_ramp.saturating_mul(2).min(HASH_PAGE_CHUNKS_MAX);
        let count = u16::try_from(range.end - range.start).unwrap_or(HASH_PAGE_CHUNKS_MAX);
        self.hash_requests.push_back(Some((range.start, count)));
        lane.asked(now, Answer::HashPage);
        let message = Message::HashesRequest { first: range.start, count };
        outputs.push_back(Output::Send { lane: id, message });
        true
    }

    /// Whether the next hashes are for the rest of the file whose comparison all others wait for: its pages are held until
    /// then, all of them, which is at most 32 MiB.
    fn is_within_first_undecided(&self) -> bool {
        let chunks = self.undecided.first().map(|&entry| self.listing.chunks_of(entry));
        chunks.is_some_and(|chunks| chunks.start < self.hash_cursor && self.hash_cursor < chunks.end)
    }

    /// Whether enough data is known by its hashes that lanes stay busy while the next page is made.
    fn is_far_ahead(&self) -> bool {
        let mut bytes = 0u64;
        for range in self.wanted.within(0..self.hash_cursor) {
            let (Some(first), Some(last)) = (self.listing.place(range.start), self.listing.place(range.end - 1)) else {
                continue;
            };
            // The longest chunk of both files bounds the rest; whole files in between only add to it.
            let chunk_bytes = first.length().0.max(last.length().0);
            bytes = bytes.saturating_add(chunk_bytes.saturating_mul(range.end - range.start));
            if bytes >= HASH_AHEAD_BYTES {
                return true;
            }
        }
        false
    }

    /// Whether further hashes are of use; moves the cursor past files that are final already. Either their root is
    /// known, or the seal does without it.
    fn wants_hashes(&mut self) -> bool {
        while let Some(place) = self.listing.place(self.hash_cursor) {
            if !self.files.is_final(place.entry) {
                return true;
            }
            self.hash_cursor = self.listing.chunks_of(place.entry).end;
        }
        false
    }

    /// The chunks of the next hash request, from the cursor on.
    fn next_hash_range(&self) -> Range<u64> {
        let start = self.hash_cursor;
        let mut end = start;
        let mut bytes = 0u64;
        while end < start + u64::from(self.hash_ramp) {
            let Some(place) = self.listing.place(end) else { break };
            let length = place.length().0;
            if end > start && (self.files.is_final(place.entry) || bytes + length > HASH_PAGE_DATA_BYTES) {
                break;
            }
            bytes += length;
            end += 1;
        }
        start..end
    }

    /// Lets go of the pages before the first chunk that still needs its hash.
    fn release_pages(&mut self) {
        self.pages.release_before(self.first_needed());
    }

    fn close(&mut self, now: Duration, id: LaneId, lane: &mut Lane, outputs: &mut VecDeque<Output>) {
        let closing = self.closing;
        match closing {
            Closing::Hashes if self.hash_requests.is_empty() && !self.wants_hashes() => {
                self.closing = Closing::Seal;
                self.ask_for_seal(now, id, lane, outputs);
            }
            Closing::Done => {
                self.closing = Closing::Told;
                let failed = self.files.failed();
                let files = self.listing.totals().files.saturating_sub(failed);
                lane.asked(now, Answer::DoneAck);
                outputs.push_back(Output::Send { lane: id, message: Message::Done { files, failed } });
            }
            _ => {}
        }
    }

    fn ask_for_seal(&self, now: Duration, id: LaneId, lane: &mut Lane, outputs: &mut VecDeque<Output>) {
        let mut rest = self.without_root();
        lane.asked(now, Answer::Seal);
        loop {
            let further = rest.split_off(rest.len().min(SEAL_WITHOUT_MAX));
            let without = std::mem::replace(&mut rest, further);
            let more = !rest.is_empty();
            outputs.push_back(Output::Send { lane: id, message: Message::SealRequest { without, more } });
            if !more {
                return;
            }
        }
    }
}

/// Bytes that may be asked for under a limit. A chunk that is on its way is lost where this side is stopped: while the limit
/// is what holds the transfer back, no more lanes have any than it takes to come up to it.
fn room_under(limit: NonZeroU64, lanes: &BTreeMap<LaneId, Lane>) -> u64 {
    let owing = || lanes.values().filter(|lane| lane.role() == LaneRole::Data && lane.owes());
    let rate: f64 = owing().map(Lane::rate).sum();
    // Precision is lost above 2^52 bytes a second, which nothing carries.
    #[allow(clippy::cast_precision_loss)]
    let falls_short = rate > 0.0 && rate * 2.0 < limit.get() as f64;
    if falls_short {
        return u64::MAX;
    }
    let owed: u64 = owing().map(Lane::bytes_owed).sum();
    limit.get().saturating_mul(LIMITED_AHEAD_SECONDS).saturating_sub(owed)
}

/// What is asked for ahead under a limit.
const LIMITED_AHEAD_SECONDS: u64 = 2;
