//! How the main thread of a receiving transfer comes by its lanes: dials them, or asks the sender and waits.

use super::conduct::{Conduct, Flow, Outcome};
use super::data_lanes::DataLanes;
use super::dial::{Dial, by_session};
use super::hope::Hope;
use super::panics::watched;
use super::retry::Retry;
use super::route::Route;
use super::work::MainEvent;
use super::{Event, Phase, TransferError, failed};
use crate::limits::{PROOF_DEADLINE, STALLED_AFTER};
use crate::session::{Input, LaneRole};
use crate::transport::{Lane, Proof, Purpose, TransportError};
use crate::wire::SessionGrant;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Control lanes that are dialled at the same time: where nothing answers, a try takes seconds to fail.
const DIALS_MAX: u32 = 4;
/// How long a sender is tried that has only to be told that everything is there.
const LAST_WORD_PATIENCE: Duration = Duration::from_secs(1);
/// How long such a sender is waited for that connects by itself: it has to notice first that it was lost.
const LAST_VISIT_PATIENCE: Duration = Duration::from_secs(12);
/// How long a sender is waited for whose offer was not accepted.
const UNDECIDED_PATIENCE: Duration = Duration::from_secs(15);
/// How long a sender may be away without a word about it: one that lost its connections comes back at once.
const ABSENCE: Duration = Duration::from_millis(500);

impl Conduct<'_, '_, '_> {
    /// Dials on a thread of its own that nobody waits for: a host that does not answer holds up nothing.
    fn dial(&self, dial: &Arc<Dial>, proof: Proof, purpose: Purpose) {
        let (dial, main) = (Arc::clone(dial), Arc::clone(&self.engine.main));
        let generation = self.data.generation;
        let dialling = thread::Builder::new().name("haul dial".into()).spawn(move || {
            watched(&main, || {
                let outcome = dial.connect(&proof, purpose).map(Box::new);
                main.push(MainEvent::Dialled { purpose, outcome, generation });
            });
        });
        if let Err(error) = dialling {
            let outcome = Err(TransportError::Local(error));
            self.engine.main.push(MainEvent::Dialled { purpose, outcome, generation });
        }
    }

    // What came.

    /// The sender opened a lane.
    pub(super) fn arrived(&mut self, lane: Box<Lane>, role: LaneRole) {
        if let Route::Visited(visit) = &self.route {
            visit.taken();
        }
        match (role, self.control) {
            (LaneRole::Data, _) => {
                self.data.dialling = self.data.dialling.saturating_sub(1);
                self.add_data_lane(lane);
            }
            (LaneRole::Control, None) => self.adopt(*lane),
            (LaneRole::Control, Some(control)) => {
                // A sender that opens another one has given up the one that is there.
                self.proven = Some(lane);
                self.engine.end_lane(control);
            }
        }
    }

    pub(super) fn control_dialled(
        &mut self,
        outcome: Result<Box<Lane>, TransportError>,
    ) -> Result<Flow, TransferError> {
        self.dialling = self.dialling.saturating_sub(1);
        let now = Instant::now();
        match (outcome, self.control) {
            (Ok(lane), None) => self.adopt(*lane),
            (Err(error), None) => {
                if let Some(outage) = &mut self.outage {
                    outage.retry.failed(now);
                }
                return self.consider(error);
            }
            (Ok(lane), Some(_)) => {
                let was_wanted = self.probing.take().is_some();
                // Where the silent ones came back to life meanwhile, they stay.
                if was_wanted && self.engine.silence() >= STALLED_AFTER {
                    self.proven = Some(lane);
                    self.engine.abort_lanes();
                }
            }
            (Err(_), Some(_)) => {
                if let Some(probing) = &mut self.probing {
                    probing.failed(now);
                }
            }
        }
        Ok(Flow::On)
    }

    pub(super) fn data_dialled(&mut self, lane: Option<Box<Lane>>, generation: u32) {
        if generation == self.data.generation {
            self.data.dialling = self.data.dialling.saturating_sub(1);
        }
        if let Some(lane) = lane {
            self.add_data_lane(lane);
        } else {
            self.data.retry.failed(Instant::now());
            self.engine.step(Input::Doubted);
        }
    }

    /// Takes a data lane in, unless there are as many as there are to be.
    fn add_data_lane(&mut self, lane: Box<Lane>) {
        if self.data.open < self.data.wanted {
            self.data.open += 1;
            self.start_lane(*lane, LaneRole::Data);
        }
    }

    /// Whether there is any use in further tries, and the user has the patience.
    pub(super) fn consider(&mut self, error: TransportError) -> Result<Flow, TransferError> {
        let Some(outage) = &mut self.outage else { return Ok(Flow::On) };
        outage.news(&error).into_iter().for_each(|news| self.engine.observer.event(&news));
        let now = Instant::now();
        let elapsed = outage.retry.elapsed(now);
        let settings = self.engine.settings;
        let is_dialled = matches!(self.route, Route::Dialled(_));
        let last_word = if is_dialled { LAST_WORD_PATIENCE } else { LAST_VISIT_PATIENCE };
        if self.engine.has_everything() && elapsed >= last_word {
            return Ok(Flow::Over(Outcome::Complete));
        }
        let is_lost = match &self.route {
            Route::Dialled(dial) => {
                let hope = Hope {
                    has_been_reached: dial.has_been_reached(),
                    waits_for_host: settings.wait_for_host,
                    is_sure: settings.resuming.is_some(),
                    is_by_code: dial.is_by_code(self.grant.as_ref()),
                    patience: settings.retry_for,
                };
                hope.is_lost(&error, outage, now)
            }
            Route::Visited(_) => {
                let patience = if self.engine.record.get().is_some() {
                    settings.retry_for
                } else {
                    Some(settings.retry_for.map_or(UNDECIDED_PATIENCE, |it| it.min(UNDECIDED_PATIENCE)))
                };
                patience.is_some_and(|patience| elapsed >= patience)
            }
        };
        match &self.route {
            _ if !is_lost => Ok(Flow::On),
            Route::Dialled(dial) => Err(dial.failure(error, self.grant.as_ref())),
            Route::Visited(_) => Err(failed::transport(error, PROOF_DEADLINE)),
        }
    }

    // What is tried.

    /// Starts the tries that are due, or asks for the lanes that are lacking.
    pub(super) fn try_again(&mut self) -> Result<Flow, TransferError> {
        let now = Instant::now();
        match (self.route.clone(), self.control.is_some(), self.outage.is_some()) {
            (Route::Dialled(dial), false, true) => self.dial_again(&dial, now),
            (Route::Dialled(dial), true, false) => {
                self.probe(&dial, now);
                if self.data.retry.due() <= now {
                    self.dial_data_lanes(&dial, now);
                }
            }
            (Route::Visited(_), true, false) => self.ask_for_data_lanes(now),
            (Route::Visited(_), false, true) => return self.wait_for_visit(now),
            _ => {}
        }
        Ok(Flow::On)
    }

    fn dial_again(&mut self, dial: &Arc<Dial>, now: Instant) {
        let dials_max = dials_max(dial, self.grant.as_ref());
        let Some(outage) = &mut self.outage else { return };
        // Before the first connection, one that takes its time is only connecting.
        let is_lost = dial.has_been_reached() || self.engine.settings.wait_for_host;
        if let Some((attempt, retry_in)) = outage.tell(now).filter(|_| is_lost) {
            self.engine.observer.event(&Event::Phase(Phase::Reconnecting { attempt, retry_in }));
        }
        if outage.retry.due() <= now && self.dialling < dials_max {
            match &self.grant {
                Some(_) => outage.retry.tried(now),
                None => outage.retry.tried_to_begin(now),
            }
            let is_known = self.grant.is_some() && outage.wrong_proofs == 0;
            let opening = dial.opening(self.grant.as_ref(), outage.wrong_proofs);
            self.dialling += 1;
            self.dial(dial, opening, Purpose::Control);
            if is_known {
                // Beside it: a connection may not live long enough for one lane after the other.
                self.dial_data_lanes(dial, now);
            }
        }
    }

    /// Tries a connection beside lanes that are silent.
    fn probe(&mut self, dial: &Arc<Dial>, now: Instant) {
        if self.engine.silence() < STALLED_AFTER || self.proven.is_some() {
            self.probing = None;
            return;
        }
        let probing = self.probing.get_or_insert_with(|| Retry::new(now));
        if let Some(grant) = self.grant.as_ref().filter(|_| probing.due() <= now && self.dialling < DIALS_MAX) {
            probing.tried(now);
            let proof = by_session(grant);
            self.dialling += 1;
            self.dial(dial, proof, Purpose::Control);
        }
    }

    fn dial_data_lanes(&mut self, dial: &Arc<Dial>, now: Instant) {
        let Some(grant) = &self.grant else { return };
        let proof = by_session(grant);
        while self.data.lacking() > 0 {
            self.data.dialling += 1;
            self.data.retry.tried(now);
            self.dial(dial, proof.clone(), Purpose::Data);
        }
    }

    /// Asks the sender for the data lanes that are neither there nor on their way.
    fn ask_for_data_lanes(&mut self, now: Instant) {
        let DataLanes { dialling, asked, .. } = &mut self.data;
        if *dialling > 0 && now.saturating_duration_since(*asked) >= PROOF_DEADLINE {
            // Whatever became of them, they are not on their way any more.
            *dialling = 0;
        }
        if self.data.lacking() > 0 && self.data.retry.due() <= now {
            self.data.dialling += self.data.lacking();
            self.data.asked = now;
            self.data.retry.tried(now);
            self.engine.step(Input::LanesLacking { lanes: self.data.dialling });
        }
    }

    /// Says that the sender is gone, and ends the session once it was waited for long enough.
    fn wait_for_visit(&mut self, now: Instant) -> Result<Flow, TransferError> {
        let Some(outage) = &mut self.outage else { return Ok(Flow::On) };
        if outage.retry.tries() == 0 && outage.retry.elapsed(now) >= ABSENCE {
            outage.retry.tried(now);
            self.engine.observer.event(&Event::Phase(Phase::WaitingForSender));
        }
        self.consider(TransportError::Lost)
    }

    /// How long the main thread may sleep.
    pub(super) fn next_turn(&self, tick: Instant) -> Duration {
        let dials_max = match &self.route {
            Route::Dialled(dial) => dials_max(dial, self.grant.as_ref()),
            Route::Visited(_) => 0,
        };
        let due = match (self.control, &self.outage) {
            (None, Some(outage)) if self.dialling < dials_max => Some(outage.retry.due()),
            (Some(_), None) if self.data.lacking() > 0 => Some(self.data.retry.due()),
            _ => None,
        };
        due.map_or(tick, |due| due.min(tick)).saturating_duration_since(Instant::now())
    }
}

/// Control lanes that may be dialled at the same time: a code is put to one host after the other.
pub(super) fn dials_max(dial: &Dial, grant: Option<&SessionGrant>) -> u32 {
    if dial.is_by_code(grant) { 1 } else { DIALS_MAX }
}
