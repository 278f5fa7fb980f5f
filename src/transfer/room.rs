//! The disk is full under way: the transfer says so, looks again every second, and goes on once there is room.

use super::engine::Engine;
use super::{Event, Phase, TransferError};
use crate::store::Disk;
use std::time::{Duration, Instant};

/// How often those who wait for room try again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the main thread knows of the wait for room. The calls that wait do so within the store.
#[derive(Debug, Default)]
pub(super) struct RoomWatch {
    pause: Option<Pause>,
}

#[derive(Debug)]
struct Pause {
    since: Instant,
    looked: Option<Instant>,
}

impl RoomWatch {
    /// Says that the disk is full, or has room again, and has those who wait try again when it is time. The end of the
    /// user's patience is an error; what waits then ends with the transfer, and everything is kept.
    pub(super) fn look<D: Disk>(&mut self, engine: &Engine<'_, D>) -> Result<(), TransferError> {
        let Some(needed) = engine.store.room_wanted() else {
            if self.pause.take().is_some() {
                engine.observer.event(&Event::Phase(Phase::Transferring));
            }
            return Ok(());
        };
        let pause = self.pause.get_or_insert_with(|| Pause { since: Instant::now(), looked: None });
        let is_over = engine.settings.retry_for.is_some_and(|patience| pause.since.elapsed() >= patience);
        if !is_over && pause.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        let free = engine.store.space().map_or(0, |space| space.bytes);
        engine.observer.event(&Event::Phase(Phase::WaitingForRoom { needed, free }));
        if is_over {
            return Err(TransferError::NoSpace { needed, free });
        }
        pause.looked = Some(Instant::now());
        engine.store.try_for_room();
        Ok(())
    }
}
