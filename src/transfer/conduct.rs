//! The main thread of a receiving transfer: starts the others, opens lost lanes again, and decides when it is over.

use super::data_lanes::DataLanes;
use super::dial::{Dial, Outage, by_session};
use super::engine::Engine;
use super::frames::LaneFault;
use super::lane_thread::run_lane;
use super::panics::watched;
use super::queue::Popped;
use super::retry::Retry;
use super::room::RoomWatch;
use super::standstill::Standstill;
use super::work::MainEvent;
use super::{Cancel, Event, Phase, TransferError, failed};
use crate::limits::STALLED_AFTER;
use crate::session::{End, Input, LaneId, LaneRole};
use crate::transport::{Lane, Proof, Purpose, TransportError};
use crate::wire::SessionGrant;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

/// How often progress is told and a request to stop is noticed.
const TURN: Duration = Duration::from_millis(100);
/// Control lanes that are dialled at the same time: where nothing answers, a try takes seconds to fail.
const DIALS_MAX: u32 = 4;
/// How long a sender is tried that has only to be told that everything is there.
const LAST_WORD_PATIENCE: Duration = Duration::from_secs(1);
/// How long a host is tried that breaks off the very first connection.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
/// Proofs that a host may turn down, and the time that it has for it: it may have been stopping, or this machine may be
/// in another network for a moment, where somebody else has that address. What is resumed may be so for days.
const WRONG_PROOFS_MAX: u32 = 3;
const WRONG_PROOF_PATIENCE: Duration = Duration::from_secs(5);

/// Starts threads, answers what they tell, and tries again what was lost.
pub(super) struct Conduct<'scope, 'env, 'e> {
    pub(super) engine: &'scope Engine<'e>,
    pub(super) dial: Arc<Dial>,
    cancel: &'e Cancel,
    pub(super) scope: &'scope Scope<'scope, 'env>,
    next_lane: u32,
    /// The lane without which nothing goes on, while there is one.
    control: Option<LaneId>,
    /// Control lanes that are being dialled.
    dialling: u32,
    /// What is remembered from the loss of the control lane until the host greets again; the start counts as a loss.
    outage: Option<Outage>,
    /// The outage before, and what had been gained at its end: where nothing was gained since, it goes on.
    last_outage: Option<(Outage, u64)>,
    /// Whether a new connection fares better than lanes that have all fallen silent: an address may have changed, or
    /// something on the way forgot the old ones.
    probing: Option<Retry>,
    /// It does: this one takes the control lane's place.
    proven: Option<Box<Lane>>,
    pub(super) grant: Option<SessionGrant>,
    pub(super) data: DataLanes,
    room: RoomWatch,
    /// When progress was last told and the session was last told of the time.
    ticked: Instant,
    standstill: Standstill,
}

/// Whether the session goes on.
enum Flow {
    On,
    Over(Outcome),
}

/// How a session ended that did not fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    Complete,
    /// The host offers something else now, which the user has not seen.
    OfferChanged,
}

fn ended(end: End) -> Result<Flow, TransferError> {
    match end {
        End::Complete => Ok(Flow::Over(Outcome::Complete)),
        End::OfferChanged => Ok(Flow::Over(Outcome::OfferChanged)),
        end => Err(failed::end(end)),
    }
}

impl<'scope, 'env, 'e> Conduct<'scope, 'env, 'e> {
    pub(super) fn new(
        engine: &'scope Engine<'e>,
        dial: Arc<Dial>,
        cancel: &'e Cancel,
        scope: &'scope Scope<'scope, 'env>,
    ) -> Self {
        Self {
            engine,
            dial,
            cancel,
            scope,
            next_lane: 0,
            control: None,
            dialling: 0,
            outage: Some(Outage::new(Instant::now())),
            last_outage: None,
            probing: None,
            proven: None,
            grant: None,
            data: DataLanes::new(),
            room: RoomWatch::default(),
            ticked: Instant::now(),
            standstill: Standstill::new(),
        }
    }

    /// Carries the transfer to its end, over whatever lanes there are.
    pub(super) fn run(&mut self) -> Result<Outcome, TransferError> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(TransferError::Interrupted);
            }
            self.try_again();
            self.room.look(self.engine)?;
            // By the clock, not where nothing else happens: lanes may come and go all the time.
            if self.ticked.elapsed() >= TURN {
                self.ticked = Instant::now();
                self.engine.observer.event(&Event::Progress(self.engine.progress()));
                self.engine.tick();
                self.data.look(self.engine.counters.fetched.load(Ordering::Relaxed), self.ticked);
            }
            let flow = match self.engine.main.pop_within(self.next_turn()) {
                Popped::TimedOut => Flow::On,
                Popped::Item(event) => self.take(event)?,
                Popped::Closed => return Err(TransferError::Bug("the main queue is closed".into())),
            };
            if let Flow::Over(outcome) = flow {
                return Ok(outcome);
            }
            if self.standstill.is_over() {
                self.engine.abort_lanes();
            }
        }
    }

    fn take(&mut self, event: MainEvent) -> Result<Flow, TransferError> {
        match event {
            MainEvent::Dialled { purpose: Purpose::Control, outcome, .. } => return self.control_dialled(outcome),
            MainEvent::Dialled { purpose: Purpose::Data, outcome, generation } => {
                self.data_dialled(outcome.ok(), generation);
            }
            MainEvent::End(end) => return ended(end),
            MainEvent::Granted { grant, lanes } => self.granted(grant, lanes),
            MainEvent::LaneEnded { lane, fault } => return self.lane_ended(lane, fault),
            MainEvent::Offered => {
                self.decide()?;
                // The user's thinking is no sleep.
                self.standstill = Standstill::new();
            }
            MainEvent::Panicked(error) => return Err(error),
        }
        Ok(Flow::On)
    }

    fn granted(&mut self, grant: SessionGrant, lanes: u16) {
        let is_first = self.grant.replace(grant).is_none();
        self.last_outage = self.outage.take().filter(|_| !is_first).map(|outage| (outage, self.engine.gained()));
        if is_first {
            self.data.granted(lanes, self.engine.settings.lanes.is_some(), self.dial.stays_on_this_machine());
        } else if self.engine.record.get().is_some() {
            self.engine.observer.event(&Event::Phase(Phase::Transferring));
        }
    }

    fn start_lane(&mut self, lane: Lane, role: LaneRole) -> LaneId {
        self.next_lane += 1;
        let id = LaneId(self.next_lane);
        let engine = self.engine;
        self.scope.spawn(move || {
            watched(&engine.main, || {
                let fault = run_lane(engine, id, lane, role);
                engine.main.push(MainEvent::LaneEnded { lane: id, fault });
            });
        });
        id
    }

    /// Dials on a thread of its own that nobody waits for: a host that does not answer holds up nothing.
    fn dial(&self, proof: Proof, purpose: Purpose) {
        let (dial, main) = (Arc::clone(&self.dial), Arc::clone(&self.engine.main));
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

    // What was lost.

    fn lane_ended(&mut self, lane: LaneId, fault: Option<LaneFault>) -> Result<Flow, TransferError> {
        let is_control = self.control == Some(lane);
        if is_control {
            // What the session said last may still be in the queue; it knows better than the broken connection.
            let mut waiting = Vec::new();
            while let Popped::Item(event) = self.engine.main.pop_within(Duration::ZERO) {
                match event {
                    MainEvent::End(end) => return ended(end),
                    other => waiting.push(other),
                }
            }
            for event in waiting {
                self.engine.main.push(event);
            }
        }
        match fault {
            Some(LaneFault::Frame(fault)) => Err(TransferError::Protocol(fault.into())),
            Some(LaneFault::Transport(error)) if is_control => self.control_lost(error),
            None if is_control => self.control_lost(TransportError::Silent),
            _ => {
                let fetched = self.engine.counters.fetched.load(Ordering::Relaxed);
                self.data.lost(fetched, Instant::now());
                self.engine.step(Input::Doubted);
                Ok(Flow::On)
            }
        }
    }

    fn control_lost(&mut self, error: TransportError) -> Result<Flow, TransferError> {
        self.control = None;
        if let Some(lane) = self.proven.take() {
            self.adopt(*lane);
            return Ok(Flow::On);
        }
        if self.outage.is_none() {
            let now = Instant::now();
            let gained = self.engine.gained();
            let before = self.last_outage.take().filter(|&(_, then)| then == gained);
            self.outage = Some(before.map_or_else(|| Outage::new(now), |(outage, _)| outage.go_on(now)));
        }
        self.consider(error)
    }

    fn control_dialled(&mut self, outcome: Result<Box<Lane>, TransportError>) -> Result<Flow, TransferError> {
        self.dialling -= 1;
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

    fn adopt(&mut self, lane: Lane) {
        self.control = Some(self.start_lane(lane, LaneRole::Control));
        self.data.begin_anew(Instant::now());
    }

    fn data_dialled(&mut self, lane: Option<Box<Lane>>, generation: u32) {
        if generation == self.data.generation {
            self.data.dialling = self.data.dialling.saturating_sub(1);
        }
        match lane {
            Some(lane) if self.data.open < self.data.wanted => {
                self.data.open += 1;
                self.start_lane(*lane, LaneRole::Data);
            }
            Some(_) => {}
            None => {
                self.data.retry.failed(Instant::now());
                self.engine.step(Input::Doubted);
            }
        }
    }

    /// Whether there is any use in further tries, and the user has the patience.
    fn consider(&mut self, error: TransportError) -> Result<Flow, TransferError> {
        let Some(outage) = &mut self.outage else { return Ok(Flow::On) };
        outage.news(&error).into_iter().for_each(|news| self.engine.observer.event(&news));
        let elapsed = outage.retry.elapsed(Instant::now());
        if self.engine.has_everything() && elapsed >= LAST_WORD_PATIENCE {
            return Ok(Flow::Over(Outcome::Complete));
        }
        let settings = self.engine.settings;
        let is_hopeless = match error {
            TransportError::VersionMismatch => true,
            TransportError::WrongProof if self.dial.is_by_code(self.grant.as_ref()) => true,
            TransportError::WrongProof => {
                outage.wrong_proofs += 1;
                let may_be_another = self.dial.has_been_reached() || settings.wait_for_host;
                let is_enough = outage.wrong_proofs >= WRONG_PROOFS_MAX && elapsed >= WRONG_PROOF_PATIENCE;
                settings.resuming.is_none() && (is_enough || !may_be_another)
            }
            _ => false,
        };
        // A host that broke the connection off is there, and may have had too many at that moment.
        let patience = if matches!(error, TransportError::Lost) { FIRST_PATIENCE } else { Duration::ZERO };
        let was_never_there = !self.dial.has_been_reached() && !settings.wait_for_host && elapsed >= patience;
        let is_over = settings.retry_for.is_some_and(|patience| elapsed >= patience);
        if is_hopeless || was_never_there || is_over {
            return Err(self.dial.failure(error, self.grant.as_ref()));
        }
        Ok(Flow::On)
    }

    // What is tried.

    /// Starts the tries that are due.
    fn try_again(&mut self) {
        let now = Instant::now();
        let dials_max = self.dials_max();
        match (self.control, &mut self.outage) {
            (None, Some(outage)) => {
                if let Some((attempt, retry_in)) = outage.tell(now) {
                    self.engine.observer.event(&Event::Phase(Phase::Reconnecting { attempt, retry_in }));
                }
                if outage.retry.due() <= now && self.dialling < dials_max {
                    outage.retry.tried(now);
                    let is_known = self.grant.is_some() && outage.wrong_proofs == 0;
                    let opening = self.dial.opening(self.grant.as_ref(), outage.wrong_proofs);
                    self.dialling += 1;
                    self.dial(opening, Purpose::Control);
                    if is_known {
                        // Beside it: a connection may not live long enough for one lane after the other.
                        self.dial_data_lanes(now);
                    }
                }
            }
            (Some(_), None) => {
                self.probe(now);
                if self.data.retry.due() <= now {
                    self.dial_data_lanes(now);
                }
            }
            _ => {}
        }
    }

    /// Tries a connection beside lanes that are silent.
    fn probe(&mut self, now: Instant) {
        if self.engine.silence() < STALLED_AFTER || self.proven.is_some() {
            self.probing = None;
            return;
        }
        let probing = self.probing.get_or_insert_with(|| Retry::new(now));
        if let Some(grant) = self.grant.as_ref().filter(|_| probing.due() <= now && self.dialling < DIALS_MAX) {
            probing.tried(now);
            let proof = by_session(grant);
            self.dialling += 1;
            self.dial(proof, Purpose::Control);
        }
    }

    fn dial_data_lanes(&mut self, now: Instant) {
        let Some(grant) = &self.grant else { return };
        let proof = by_session(grant);
        while self.data.lacking() > 0 {
            self.data.dialling += 1;
            self.data.retry.tried(now);
            self.dial(proof.clone(), Purpose::Data);
        }
    }

    fn dials_max(&self) -> u32 {
        if self.dial.is_by_code(self.grant.as_ref()) { 1 } else { DIALS_MAX }
    }

    /// How long the main thread may sleep.
    fn next_turn(&self) -> Duration {
        let due = match (self.control, &self.outage) {
            (None, Some(outage)) if self.dialling < self.dials_max() => Some(outage.retry.due()),
            (Some(_), None) if self.data.lacking() > 0 => Some(self.data.retry.due()),
            _ => None,
        };
        let tick = self.ticked + TURN;
        due.map_or(tick, |due| due.min(tick)).saturating_duration_since(Instant::now())
    }
}
