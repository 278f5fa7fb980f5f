//! Waiting for room on a full disk: the call that met it is tried again, so that nothing in hand is lost.

use super::disk::Disk;
use super::fault::StoreError;
use super::{Inner, Store};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The calls that found the disk full, and whether such calls wait.
#[derive(Debug, Default)]
pub(super) struct Room {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waits: bool,
    /// Grows whenever those who wait are to try again.
    round: u64,
    next_ticket: u64,
    /// What each of them needs, and for which file.
    waiting: BTreeMap<u64, (String, u64)>,
}

/// The place of a call among those that wait. It keeps it while it tries, so that a try is no end of the wait.
struct Ticket<'a> {
    room: &'a Room,
    number: u64,
}

impl<D: Disk> Store<D> {
    /// From here on, a call that finds the disk full waits for room, or fails, those that wait already included.
    ///
    /// Those that wait do not look by themselves: somebody has to call [`Store::try_for_room`] now and then. A sync that
    /// fails for want of room is never tried again (R10), and neither is a call that would be refused on an empty disk.
    pub fn wait_for_room(&self, waits: bool) {
        self.inner.room.lock().waits = waits;
        self.inner.room.changed.notify_all();
    }

    /// How many bytes the calls that wait for room need together; `None` where none waits.
    pub fn room_wanted(&self) -> Option<u64> {
        let state = self.inner.room.lock();
        // Several may wait for the same file, each with all that it needs.
        let mut by_file: BTreeMap<&str, u64> = BTreeMap::new();
        for (path, needed) in state.waiting.values() {
            let most = by_file.entry(path).or_default();
            *most = (*most).max(*needed);
        }
        (!by_file.is_empty()).then(|| by_file.into_values().fold(0, u64::saturating_add))
    }

    /// Has the calls that wait for room try again.
    pub fn try_for_room(&self) {
        let mut state = self.inner.room.lock();
        state.round = state.round.wrapping_add(1);
        self.inner.room.changed.notify_all();
    }
}

impl<D: Disk> Inner<D> {
    /// Takes a step, as often as it finds the disk full and that is waited for. It must be one that can be taken again.
    pub(super) fn with_room<T>(&self, mut step: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut ticket = None;
        loop {
            match step() {
                Err(StoreError::NoSpace { path, needed, free }) => {
                    if !self.room.wait(&mut ticket, &path, needed) {
                        return Err(StoreError::NoSpace { path, needed, free });
                    }
                }
                result => return result,
            }
        }
    }
}

impl Room {
    /// Waits until it is time to try again. False where that is not wanted.
    fn wait<'a>(&'a self, ticket: &mut Option<Ticket<'a>>, path: &str, needed: u64) -> bool {
        let mut state = self.lock();
        if !state.waits {
            return false;
        }
        let ticket = ticket.get_or_insert_with(|| {
            state.next_ticket += 1;
            Ticket { room: self, number: state.next_ticket }
        });
        state.waiting.insert(ticket.number, (path.to_owned(), needed));
        let round = state.round;
        while state.waits && state.round == round {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waits
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change to the state is one call: a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.room.lock().waiting.remove(&self.number);
    }
}
