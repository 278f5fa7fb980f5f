//! Chunks on their way to a receiver: read, held back by the limits, and sent piece by piece.

use super::frames::{LaneFault, send_message};
use super::limit::{Limit, Taken};
use super::offer::{Changed, Chore, Filled};
use super::outlet::{Outlet, Press};
use super::serve::ServedSession;
use crate::limits::{PIECE_BYTES_MAX, WORKING_EVERY};
use crate::manifest::{ChunkPlace, EntryIndex};
use crate::outline::Segment;
use crate::session::ChunksToServe;
use crate::transport::{Lane, TransportError};
use crate::wire::{Message, Piece};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Lanes of a session by what they do, for whoever watches.
#[derive(Debug, Default)]
pub(super) struct Doing {
    /// They answer a request for chunks.
    pub(super) serving: AtomicU32,
    /// They wait until a limit lets them go on.
    pub(super) limited: AtomicU32,
}

/// One of those that were counted, until it is dropped.
pub(super) struct Counted<'a>(&'a AtomicU32);

impl ServedSession {
    /// Does a chore of the offer, and says `Working` as long as it takes.
    pub(super) fn act(&self, lane: &mut Lane, chore: Chore) -> Result<Filled, LaneFault> {
        let offer = Arc::clone(&self.offer);
        match chore {
            Chore::Fill(claim) => {
                let Some(parcel) = offer.contents.parcel() else { return work(lane, move || offer.fill(&claim)) };
                // It waits here, and not on the pool, which others need.
                while !parcel.wait_for_digests(&claim.chunks(), WORKING_EVERY) {
                    send_message(lane, &Message::Working)?;
                }
                Ok(offer.fill(&claim))
            }
            Chore::Recheck(recheck) => work(lane, move || recheck.run()),
            Chore::Wait => send_message(lane, &Message::Working).map(Ok),
        }
    }

    /// The segments of a file from `offset` on; says `Working` while it is cut.
    pub(super) fn outline(&self, lane: &mut Lane, entry: EntryIndex, offset: u64) -> Result<Vec<Segment>, LaneFault> {
        let offer = Arc::clone(&self.offer);
        work(lane, move || offer.outline(entry, offset))
    }

    /// Sends the pieces that a request asks for.
    pub(super) fn send_chunks(
        &self,
        lane: &mut Lane,
        request: &ChunksToServe,
        outlet: &mut Outlet,
    ) -> Result<(), LaneFault> {
        let press = Some(&self.press).filter(|press| request.zstd && press.is_on());
        if let Some(press) = press {
            press.set_cores(lane, self.company.cores_each());
        }
        let mut expected = self.offer.contents.parcel().map(|parcel| parcel.expect_chunks(&request.ranges));
        let mut held = request.held;
        let mut given_up = None;
        for number in request.ranges.iter().cloned().flatten() {
            let Some(place) = self.offer.listing.place(number) else { continue };
            if given_up == Some(place.entry) {
                continue;
            }
            let offset = std::mem::take(&mut held);
            self.wait_for_chunk(lane, number)?;
            if let Err((entry, change)) = self.send_chunk(lane, number, place, offset, request, (outlet, press))? {
                send_message(lane, &Message::SourceChanged { entry: entry.0, change })?;
                given_up = Some(entry);
            }
            if let Some(expected) = &mut expected {
                expected.sent(number);
            }
        }
        Ok(())
    }

    fn send_chunk(
        &self,
        lane: &mut Lane,
        number: u64,
        place: ChunkPlace,
        mut offset: u64,
        request: &ChunksToServe,
        (outlet, press): (&mut Outlet, Option<&Press>),
    ) -> Result<Result<(), Changed>, LaneFault> {
        let is_as_given = if request.reread {
            let offer = Arc::clone(&self.offer);
            work(lane, move || offer.recheck(number))?.map_err(|(_, changed)| changed)
        } else {
            self.offer.settle(number, &mut |chore| self.act(lane, chore))?
        };
        if let Err(changed) = is_as_given {
            return Ok(Err(changed));
        }
        let chunk_bytes = place.length().0;
        while offset < chunk_bytes {
            let length = u64::from(request.piece_bytes).min(chunk_bytes - offset);
            let bytes = outlet.room(length);
            let limits = self.wait_for_limits(lane, length)?;
            let turn = self.turns.take(self.company.lanes_at_work());
            let chunk = (place.entry, place.index, number);
            if let Err(change) = self.offer.contents.read_chunk_into(chunk, offset..offset + length, bytes) {
                return Ok(Err((place.entry, change)));
            }
            let piece = Piece { chunk: number, offset, length: u32::try_from(length).unwrap_or(PIECE_BYTES_MAX) };
            let before = lane.bytes_sent();
            outlet.send(lane, place.entry, piece, press)?;
            for limit in limits.into_iter().flatten() {
                limit.settle(self.number, length, lane.bytes_sent() - before);
            }
            drop(turn);
            for counters in [&self.own, &self.counters] {
                counters.piece_bytes.fetch_add(length, Ordering::Relaxed);
            }
            self.count_wire(lane, outlet);
            offset += length;
        }
        Ok(Ok(()))
    }

    /// Counts what the lane sent since it was counted last: a run may be over before its lanes are.
    pub(super) fn count_wire(&self, lane: &Lane, outlet: &mut Outlet) {
        let bytes = outlet.wire_bytes(lane);
        for counters in [&self.own, &self.counters] {
            counters.wire_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Waits until a page has handed a chunk over, where one does.
    fn wait_for_chunk(&self, lane: &mut Lane, number: u64) -> Result<(), LaneFault> {
        if let Some(parcel) = self.offer.contents.parcel() {
            while !parcel.wait_for_chunk(number, WORKING_EVERY) {
                send_message(lane, &Message::Working)?;
            }
        }
        Ok(())
    }

    /// Waits until the limits let `bytes` go, and returns those that took them: what really is sent may be less.
    fn wait_for_limits(&self, lane: &mut Lane, bytes: u64) -> Result<[Option<&Limit>; 3], LaneFault> {
        let mut limits = [&self.limit, &self.wanted, &self.company.limit].map(Some);
        for limit in &mut limits {
            let Some(of) = *limit else { continue };
            let mut taken = of.take(self.number, bytes, Duration::ZERO);
            if taken == Taken::Late {
                let _limited = counted(&self.doing.limited);
                while taken == Taken::Late {
                    taken = of.take(self.number, bytes, WORKING_EVERY);
                    if taken == Taken::Late {
                        send_message(lane, &Message::Working)?;
                    }
                }
            }
            if taken == Taken::Free {
                *limit = None;
            }
        }
        Ok(limits)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one more in `number`.
pub(super) fn counted(number: &AtomicU32) -> Counted<'_> {
    number.fetch_add(1, Ordering::Relaxed);
    Counted(number)
}

/// Does `job` on the pool, and says `Working` as long as it takes.
fn work<T: Send + 'static>(lane: &mut Lane, job: impl FnOnce() -> T + Send + 'static) -> Result<T, LaneFault> {
    let (done, outcome) = mpsc::channel();
    rayon::spawn(move || drop(done.send(job())));
    loop {
        match outcome.recv_timeout(WORKING_EVERY) {
            Ok(outcome) => return Ok(outcome),
            Err(RecvTimeoutError::Timeout) => send_message(lane, &Message::Working)?,
            // The job panicked: a bug of ours, which ends this lane and no other.
            Err(RecvTimeoutError::Disconnected) => return Err(LaneFault::Transport(TransportError::Lost)),
        }
    }
}
