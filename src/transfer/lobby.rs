//! The senders of one listening run, told apart by what they send: one at a time for each listing.

use super::Conflict;
use super::route::Visit;
use super::work::MainEvent;
use crate::limits::{CONTROL_PING_AFTER, LANE_SILENCE_MAX};
use crate::store::RecordId;
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a sender waits for another one of the same files to be known as gone: it may be its own earlier run.
const PATIENCE: Duration = LANE_SILENCE_MAX.saturating_add(CONTROL_PING_AFTER).saturating_add(Duration::from_secs(3));

/// Who receives what, and what was accepted.
#[derive(Default)]
pub(super) struct Lobby {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    takers: HashMap<RecordId, Arc<Visit>>,
    /// What the user took in this run and is not complete. Whoever comes back with it need not be asked about.
    accepted: HashMap<RecordId, Conflict>,
}

impl Lobby {
    /// Makes `visit` the one session that receives `id`. One that has it gives way where its sender is gone, and is waited
    /// for a while otherwise. False where it stays.
    pub(super) fn take(&self, id: RecordId, visit: &Arc<Visit>) -> bool {
        let until = Instant::now() + PATIENCE;
        let mut state = self.lock();
        loop {
            match state.takers.get(&id) {
                Some(other) if other.number != visit.number => {
                    if other.away_since().is_some() {
                        other.main.push(MainEvent::Yield);
                    }
                }
                _ => {
                    state.takers.insert(id, Arc::clone(visit));
                    return true;
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // It is told when a session ends, not when a sender goes.
            state = self.changed.wait_timeout(state, left.min(LOOK_EVERY)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A session is over, and nothing is open of it any more.
    pub(super) fn leave(&self, number: u64, is_complete: bool) {
        let mut state = self.lock();
        let State { takers, accepted } = &mut *state;
        takers.retain(|id, taker| {
            if taker.number == number && is_complete {
                accepted.remove(id);
            }
            taker.number != number
        });
        self.changed.notify_all();
    }

    /// The user took `id` by this rule.
    pub(super) fn accept(&self, id: RecordId, conflict: Conflict) {
        self.lock().accepted.insert(id, conflict);
    }

    /// The rule by which the user took `id` before.
    pub(super) fn accepted(&self, id: RecordId) -> Option<Conflict> {
        self.lock().accepted.get(&id).copied()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often a session that waits for another one looks whether its sender is gone.
const LOOK_EVERY: Duration = Duration::from_millis(200);
