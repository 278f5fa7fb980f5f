//! One lane of a receiver: sends what the session asks for, and puts what comes where it belongs.

use super::engine::{Engine, OpenPartial, lock};
use super::frames::{Incoming, LaneFault, read_frame};
use super::mailbox::Mail;
use super::publisher::publication;
use super::work::LaneWork;
use crate::chunk::ChunkIndex;
use crate::chunk_set::ChunkSet;
use crate::codec::Decoder;
use crate::digest::ChunkDigest;
use crate::limits::CHUNK_BYTES_MIN;
use crate::manifest::{ChunkPlace, EntryIndex, VerifiedChunk};
use crate::session::{Input, LaneId, LaneRole};
use crate::store::{Disk, Lease, SingleFile, StoreError};
use crate::transport::{Lane, TransportError};
use crate::wire::{Encoding, FrameFault, Message, Piece, Refusal};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Longest file that is one chunk.
#[allow(clippy::cast_possible_truncation, reason = "256 KiB fits wherever this builds")]
const SINGLE_BYTES_MAX: usize = CHUNK_BYTES_MIN as usize;

/// A lane and the chunk that is landing on it.
struct LaneThread<'e, 'a, D: Disk> {
    engine: &'e Engine<'a, D>,
    id: LaneId,
    lane: Lane,
    /// What the session wants done, first to last.
    due: VecDeque<LaneWork>,
    /// Frames to send before anything is read.
    unsent: Vec<u8>,
    /// How the payload that is next on the lane is encoded, and its length.
    encoding: (Encoding, u32),
    /// What makes compressed pieces whole; there once one came.
    decoding: Option<Decoding>,
    landing: Option<Landing<D>>,
    /// Bytes of a chunk that is its whole file, until all are there.
    single: Vec<u8>,
    wire_counted: u64,
}

/// A decoder, and the payload that it is about to decode.
struct Decoding {
    decoder: Decoder,
    payload: Vec<u8>,
}

/// Where a chunk's bytes go.
struct Landing<D: Disk> {
    chunk: u64,
    place: ChunkPlace,
    target: Target<D>,
    /// Bytes of it, from the first one on, that lie there.
    filled: u64,
}

enum Target<D: Disk> {
    /// The lane's buffer: a lane that the session gave up stored the chunk after that, under this hash.
    Claimed(ChunkDigest),
    /// Its range of a partial file.
    Lease(Lease<D>),
    /// Nowhere: its file has failed.
    Nowhere,
    /// The lane's buffer.
    Single,
    /// A whole small file, stored and hashed.
    Stored(SingleFile<D>),
}

/// Runs a lane to its end, and takes it out of the session.
pub(super) fn run_lane<D: Disk>(engine: &Engine<'_, D>, id: LaneId, lane: Lane, role: LaneRole) -> Option<LaneFault> {
    engine.add_lane(id, lane.abort_handle());
    let mut thread = LaneThread {
        engine,
        id,
        lane,
        due: VecDeque::new(),
        unsent: Vec::new(),
        encoding: (Encoding::Raw, 0),
        decoding: None,
        landing: None,
        single: Vec::new(),
        wire_counted: 0,
    };
    engine.step(Input::LaneOpened { lane: id, role });
    let outcome = thread.run();
    thread.count_wire();
    thread.settle();
    let held = thread.put_landing_aside();
    engine.remove_lane(id, held);
    if outcome.is_ok() {
        // The other side learns that nothing was cut off; if it is gone, it does not matter.
        let _ = thread.lane.close();
    }
    outcome.err()
}

impl<D: Disk> LaneThread<'_, '_, D> {
    fn run(&mut self) -> Result<(), LaneFault> {
        loop {
            match self.engine.mail(self.id) {
                Mail::Closed => return self.flush(),
                Mail::Owed => {
                    self.flush()?;
                    match read_frame(&mut self.lane)? {
                        // No end of the session: there is room again once another receiver is done.
                        Incoming::Message(Message::Refused { refusal: Refusal::Busy }) => {
                            return Err(LaneFault::Transport(TransportError::Busy));
                        }
                        Incoming::Message(message) if !self.engine.is_expected(&message) => {}
                        Incoming::Message(message) => self.step(Input::Message { lane: self.id, message }),
                        Incoming::Piece { encoding: Encoding::Zstd, .. } if !self.engine.settings.takes_zstd() => {
                            return Err(LaneFault::Frame(FrameFault::Encoding));
                        }
                        Incoming::Piece { piece, encoding, payload_bytes } => {
                            self.encoding = (encoding, payload_bytes);
                            self.step(Input::PieceArrived { lane: self.id, piece });
                        }
                    }
                }
                Mail::Work(work) => {
                    self.due = work;
                    while let Some(work) = self.due.pop_front() {
                        if matches!(work, LaneWork::Close) {
                            return self.flush();
                        }
                        self.carry_out(work)?;
                    }
                    // What a session sends last goes out although nothing is owed for it.
                    self.flush()?;
                }
            }
        }
    }

    fn carry_out(&mut self, work: LaneWork) -> Result<(), LaneFault> {
        match work {
            LaneWork::Send(message) => {
                let frame = message.to_frame().map_err(FrameFault::Message)?;
                self.unsent.extend_from_slice(&frame);
            }
            LaneWork::Place { place, piece, last } => {
                self.flush()?;
                self.take_payload(place, piece)?;
                if last {
                    self.hash_landed();
                }
            }
            LaneWork::Claim { chunk, proof } => self.claim(chunk, proof),
            LaneWork::Discard { chunk } => self.discard(chunk),
            LaneWork::Close => {}
        }
        Ok(())
    }

    fn take_payload(&mut self, place: ChunkPlace, piece: Piece) -> Result<(), LaneFault> {
        if piece.offset == 0 || self.landing.as_ref().is_none_or(|landing| landing.chunk != piece.chunk) {
            self.land(place, piece);
        }
        let length = piece.length as usize;
        let (lane, zero) = (&mut self.lane, self.encoding.0 == Encoding::Zero);
        let (encoding, decoding) = (self.encoding, &mut self.decoding);
        let mut lane_fault = None;
        let mut fill = |into: &mut [u8]| -> Result<(), StoreError> {
            let filled = match encoding {
                (Encoding::Raw, _) => lane.read_exact(into).map_err(LaneFault::Transport),
                (Encoding::Zero, _) => {
                    into.fill(0);
                    Ok(())
                }
                (Encoding::Zstd, payload_bytes) => {
                    decoding.get_or_insert_with(Decoding::new).take(lane, payload_bytes as usize, into)
                }
            };
            filled.map_err(|fault| {
                lane_fault = Some(fault);
                StoreError::Misuse("the lane broke while it filled a chunk")
            })
        };
        let target = self.landing.as_mut().map(|landing| &mut landing.target);
        let stored = match target {
            Some(Target::Lease(lease)) if zero => lease.zeros(piece.offset, u64::from(piece.length)),
            Some(Target::Lease(lease)) => lease.fill(piece.offset, length, fill),
            _ => {
                let start = self.single.len();
                // One chunk at most: further pieces of a chunk that goes nowhere overwrite the ones before.
                let start = if start + length > SINGLE_BYTES_MAX { 0 } else { start };
                self.single.resize(start + length, 0);
                fill(&mut self.single[start..])
            }
        };
        if let Some(fault) = lane_fault {
            return Err(fault);
        }
        self.engine.note_first_byte();
        self.engine.counters.fetched.fetch_add(u64::from(piece.length), Ordering::Relaxed);
        self.count_wire();
        match (stored, &mut self.landing) {
            (Err(fault), _) => self.give_up(place.entry, fault)?,
            (Ok(()), Some(landing)) => landing.filled = piece.offset + u64::from(piece.length),
            (Ok(()), None) => {}
        }
        Ok(())
    }

    /// Makes the chunk at `place` the one that lands. Its first pieces may have come over a lane that is gone.
    fn land(&mut self, place: ChunkPlace, piece: Piece) {
        self.landing = None;
        let target = self.target(place);
        if matches!(target, Target::Single) {
            self.single = lock(&self.engine.set_aside).remove(&piece.chunk).unwrap_or_default();
            // Were less set aside than is held, the chunk would fail its hash and be asked for anew.
            self.single.resize(usize::try_from(piece.offset).unwrap_or(0), 0);
        }
        self.landing = Some(Landing { chunk: piece.chunk, place, target, filled: piece.offset });
    }

    /// Does what is left to do for a chunk that came whole: that the lane broke since takes nothing from it.
    fn settle(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        due.extend(self.engine.take_work(self.id));
        for work in due {
            match work {
                LaneWork::Claim { chunk, proof } => self.claim(chunk, proof),
                LaneWork::Discard { chunk } => self.discard(chunk),
                LaneWork::Close | LaneWork::Place { .. } | LaneWork::Send(_) => {}
            }
        }
    }

    fn discard(&mut self, chunk: u64) {
        drop(self.landing.take_if(|landing| landing.chunk == chunk));
    }

    /// Lets go of the chunk that was landing, before another lane may ask for it, and says how much of it lies in its
    /// place: for a chunk that is its whole file that is a buffer, which the next lane takes up.
    fn put_landing_aside(&mut self) -> Option<(u64, u64)> {
        let landing = self.landing.take()?;
        match landing.target {
            Target::Lease(_) => {}
            Target::Single => {
                self.single.truncate(usize::try_from(landing.filled).unwrap_or(0));
                let is_kept =
                    self.engine.set_aside(landing.place.entry, landing.chunk, std::mem::take(&mut self.single));
                if !is_kept {
                    return None;
                }
            }
            Target::Claimed(_) | Target::Nowhere | Target::Stored(_) => return None,
        }
        Some((landing.chunk, landing.filled))
    }

    /// Where the chunk at `place` goes. A file that has failed has no partial any more.
    fn target(&self, place: ChunkPlace) -> Target<D> {
        if place.geometry.is_single() {
            return Target::Single;
        }
        let partial = lock(&self.engine.partials).get(&place.entry).map(|open: &OpenPartial<D>| Arc::clone(&open.file));
        let Some(partial) = partial else { return Target::Nowhere };
        loop {
            let taken = match partial.lease(place.index) {
                Ok(Some(lease)) => Ok(Some(Target::Lease(lease))),
                // A lane that the session gave up may still hold the chunk, or have claimed it.
                Ok(None) => partial.claim_of(place.index).map(|claim| claim.map(Target::Claimed)),
                Err(fault) => Err(fault),
            };
            match taken {
                Ok(Some(target)) => return target,
                Ok(None) => {}
                Err(fault) => {
                    self.engine.disk_failed(place.entry, fault);
                    return Target::Nowhere;
                }
            }
        }
    }

    fn hash_landed(&mut self) {
        let Some(landing) = &mut self.landing else { return };
        let (chunk, place) = (landing.chunk, landing.place);
        let outcome = match &mut landing.target {
            Target::Claimed(digest) => Ok(*digest),
            Target::Lease(lease) => lease.digest(),
            Target::Single => match self.store_single(place.entry) {
                Ok((file, digest)) => {
                    if let Some(landing) = &mut self.landing {
                        landing.target = Target::Stored(file);
                    }
                    Ok(digest)
                }
                Err(fault) => Err(fault),
            },
            Target::Nowhere | Target::Stored(_) => return,
        };
        match outcome {
            Ok(digest) => self.step(Input::ChunkHashed { lane: self.id, chunk, digest }),
            Err(fault) => {
                self.landing = None;
                self.engine.disk_failed(place.entry, fault);
            }
        }
    }

    fn store_single(&self, entry: EntryIndex) -> Result<(SingleFile<D>, ChunkDigest), StoreError> {
        let entry = self.engine.listing().entry(entry).ok_or(StoreError::Misuse("a chunk of no entry"))?;
        self.engine.store.write_single(publication(self.engine, entry), &self.single)
    }

    fn claim(&mut self, chunk: u64, proof: VerifiedChunk) {
        let Some(landing) = self.landing.take_if(|landing| landing.chunk == chunk) else { return };
        let claimed = match landing.target {
            // It was counted when it was claimed.
            Target::Claimed(_) => return self.step(Input::ChunkStored { lane: self.id, chunk }),
            Target::Lease(lease) => lease.claim(proof),
            Target::Stored(file) => {
                lock(&self.engine.singles).insert(landing.place.entry, (file, proof));
                Ok(())
            }
            Target::Nowhere | Target::Single => return,
        };
        match claimed {
            Ok(()) => {
                self.engine.chunks_ready(&ChunkSet::of(chunk..chunk + 1));
                self.engine.counters.done.fetch_add(landing.place.length().0, Ordering::Relaxed);
                self.step(Input::ChunkStored { lane: self.id, chunk });
            }
            Err(fault) => self.engine.disk_failed(landing.place.entry, fault),
        }
    }

    /// A piece could not be stored: the file fails, and its further bytes on this lane go nowhere.
    fn give_up(&mut self, entry: EntryIndex, fault: StoreError) -> Result<(), LaneFault> {
        if let Some(landing) = &mut self.landing {
            landing.target = Target::Nowhere;
        }
        self.engine.disk_failed(entry, fault);
        // Where the store failed before it read, the payload is still on the lane, and what follows cannot be told from it.
        Err(LaneFault::Transport(TransportError::Closed))
    }

    fn step(&self, input: Input) {
        self.engine.step(input);
    }

    fn flush(&mut self) -> Result<(), LaneFault> {
        if !self.unsent.is_empty() {
            self.lane.send(&[&self.unsent])?;
            self.unsent.clear();
        }
        Ok(())
    }

    fn count_wire(&mut self) {
        let total = self.lane.bytes_received() + self.lane.bytes_sent();
        self.engine.counters.wire.fetch_add(total - self.wire_counted, Ordering::Relaxed);
        self.wire_counted = total;
    }
}

impl Decoding {
    fn new() -> Self {
        Self { decoder: Decoder::new(), payload: Vec::new() }
    }

    /// Reads a payload of that length, less than a piece, and fills `into` with what it stands for.
    fn take(&mut self, lane: &mut Lane, payload_bytes: usize, into: &mut [u8]) -> Result<(), LaneFault> {
        if self.payload.len() < payload_bytes {
            self.payload.resize(payload_bytes, 0);
        }
        let payload = &mut self.payload[..payload_bytes];
        lane.read_exact(payload)?;
        Ok(self.decoder.decode(payload, into)?)
    }
}

/// Number of chunk `index` of the file at `entry`, in the listing.
pub(super) fn number_of<D: Disk>(engine: &Engine<'_, D>, entry: EntryIndex, index: ChunkIndex) -> u64 {
    engine.listing().chunks_of(entry).start + u64::from(index.0)
}
