//! Both sessions without a network or a disk: what the protocol itself costs.

use haul::chunk_set::ChunkSet;
use haul::digest::{ChunkDigest, ManifestId, RootMerger, empty_file_digest};
use haul::manifest::{Entry, EntryIndex, Listing, SealHasher};
use haul::session::{
    ChunksToServe, End, Input, LaneId, LaneRole, Output, Plan, Receiver, ReceiverSettings, Sender, SenderInput,
    SenderOutput, SenderSettings, listing_page_starts,
};
use haul::wire::{FEATURES, Piece, SessionGrant};
use std::sync::Arc;
use std::time::Duration;

const CONTROL: LaneId = LaneId(0);
const DATA: LaneId = LaneId(1);
/// Virtual time from one piece to the next: a fast lane, so that pieces and windows grow as they do on one.
const PIECE_EVERY: Duration = Duration::from_micros(60);

/// A sender and a receiver that are fed each other's messages. Chunk hashes are made up from their numbers.
pub struct Pair {
    listing: Arc<Listing>,
    manifest: ManifestId,
    receiver: Receiver,
    sender: Sender,
    now: Duration,
    landed: u64,
    ends: Vec<End>,
}

impl Pair {
    pub fn new(entries: Vec<Entry>) -> Self {
        let listing = Arc::new(super::listing(entries));
        let sender = Sender::new(SenderSettings {
            page_starts: listing_page_starts(&listing).into(),
            listing: Arc::clone(&listing),
            grant: Some(SessionGrant { id: [1; 16], secret: [2; 32] }),
            lanes: 1,
        });
        Self {
            manifest: manifest(&listing),
            listing,
            receiver: Receiver::new(ReceiverSettings { lanes: 1, grant: None, features: FEATURES }),
            sender,
            now: Duration::ZERO,
            landed: 0,
            ends: Vec::new(),
        }
    }

    /// Runs from `Hello` to `DoneAck`, and returns the number of chunks that moved.
    pub fn run(&mut self) -> u64 {
        self.open_lane(CONTROL, LaneRole::Control);
        loop {
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
                break;
            }
        }
        assert_eq!(self.ends, [End::Complete, End::Complete], "a bench of a session that fails says nothing");
        self.landed
    }

    fn open_lane(&mut self, lane: LaneId, role: LaneRole) {
        self.sender.handle(self.now, SenderInput::LaneOpened { lane, role });
        self.receiver.handle(self.now, Input::LaneOpened { lane, role });
    }

    fn receiver_output(&mut self, output: Output) {
        let input = match output {
            Output::Send { lane, message } => {
                self.sender.handle(self.now, SenderInput::Message { lane, message });
                return;
            }
            Output::Granted { .. } => return self.open_lane(DATA, LaneRole::Data),
            Output::Offered => {
                let plan = |entry: &Entry| if entry.file_length().is_some() { Plan::Fetch } else { Plan::Folder };
                Input::Accepted(self.listing.entries().iter().map(plan).collect())
            }
            Output::OpenFile { entry } => Input::FileOpened { entry, claims: ChunkSet::new(), has_older: false },
            Output::Place { piece, last: true, .. } => {
                self.landed += 1;
                Input::ChunkHashed { lane: DATA, chunk: piece.chunk, digest: digest(piece.chunk) }
            }
            Output::Place { .. } => return,
            Output::Claim { lane, chunk, .. } => Input::ChunkStored { lane, chunk },
            Output::Publish { entry, .. } => Input::FilePublished { entry },
            Output::FinishFolders => Input::FoldersFinished { failed: 0 },
            Output::End(end) => return self.ends.push(end),
            other => unreachable!("nothing goes wrong here: {other:?}"),
        };
        self.receiver.handle(self.now, input);
    }

    fn sender_output(&mut self, output: SenderOutput) {
        let input = match output {
            SenderOutput::Send { lane, message } => {
                self.receiver.handle(self.now, Input::Message { lane, message });
                return;
            }
            SenderOutput::Outline { .. } => unreachable!("nobody has an older version"),
            SenderOutput::Hash { lane, chunks } => {
                SenderInput::Hashed { lane, outcome: Ok(chunks.map(digest).collect()) }
            }
            SenderOutput::Serve { lane, request } => {
                self.serve(lane, &request);
                SenderInput::ChunksServed { lane }
            }
            SenderOutput::Seal { lane, .. } => SenderInput::Sealed { lane, outcome: Ok(self.manifest) },
            SenderOutput::End { end, .. } => return self.ends.push(end),
            SenderOutput::CloseLane { .. }
            | SenderOutput::Granted { .. }
            | SenderOutput::Limit { .. }
            | SenderOutput::OpenLanes { .. } => return,
        };
        self.sender.handle(self.now, input);
    }

    fn serve(&mut self, lane: LaneId, request: &ChunksToServe) {
        for chunk in request.ranges.iter().cloned().flatten() {
            let Some(place) = self.listing.place(chunk) else { continue };
            let chunk_bytes = place.length().0;
            let mut offset = 0;
            while offset < chunk_bytes {
                let length = u64::from(request.piece_bytes).min(chunk_bytes - offset);
                let piece = Piece { chunk, offset, length: u32::try_from(length).unwrap_or(u32::MAX) };
                self.now += PIECE_EVERY;
                self.receiver.handle(self.now, Input::PieceArrived { lane, piece });
                while let Some(output) = self.receiver.poll() {
                    self.receiver_output(output);
                }
                offset += length;
            }
        }
    }
}

fn digest(number: u64) -> ChunkDigest {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    ChunkDigest(bytes)
}

fn manifest(listing: &Listing) -> ManifestId {
    let root = |entry: EntryIndex| {
        let mut merger = RootMerger::new(listing.geometry(entry)?);
        listing.chunks_of(entry).filter_map(|number| merger.push(digest(number))).last()
    };
    let mut seal = SealHasher::new(listing.digest());
    listing.files().for_each(|entry| seal.push(Some(root(entry).unwrap_or(empty_file_digest()))));
    seal.finish()
}
