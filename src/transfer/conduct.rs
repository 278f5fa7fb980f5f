//! The main thread of a receiving transfer: starts the others, minds the loss of lanes, and decides when it is over.

use super::data_lanes::DataLanes;
use super::dial::Outage;
use super::engine::Engine;
use super::frames::LaneFault;
use super::lane_thread::run_lane;
use super::panics::watched;
use super::queue::Popped;
use super::retry::Retry;
use super::room::RoomWatch;
use super::route::Route;
use super::standstill::Standstill;
use super::throttle::Part;
use super::work::MainEvent;
use super::{Cancel, Event, Phase, TransferError, failed};
use crate::session::{End, Input, LaneId, LaneRole};
use crate::transport::{Lane, Purpose, TransportError};
use crate::wire::SessionGrant;
use std::sync::atomic::Ordering;
use std::thread::Scope;
use std::time::{Duration, Instant};

/// How often progress is told and a request to stop is noticed.
const TURN: Duration = Duration::from_millis(100);
/// How long a refusal may take to reach the other end.
const REFUSAL_PATIENCE: Duration = Duration::from_millis(500);

/// Starts threads, answers what they tell, and tries again what was lost.
pub(super) struct Conduct<'scope, 'env, 'e> {
    pub(super) engine: &'scope Engine<'e>,
    pub(super) route: Route,
    cancel: &'e Cancel,
    pub(super) scope: &'scope Scope<'scope, 'env>,
    next_lane: u32,
    /// The lane without which nothing goes on, while there is one.
    pub(super) control: Option<LaneId>,
    /// Control lanes that are being dialled since this process last stood still.
    pub(super) dialling: u32,
    /// What is remembered from the loss of the control lane until the host greets again; the start counts as a loss.
    pub(super) outage: Option<Outage>,
    /// The outage before, and what had been gained at its end: where nothing was gained since, it goes on.
    last_outage: Option<(Outage, u64)>,
    /// Whether a new connection fares better than lanes that have all fallen silent: an address may have changed, or
    /// something on the way forgot the old ones.
    pub(super) probing: Option<Retry>,
    /// It does: this one takes the control lane's place.
    pub(super) proven: Option<Box<Lane>>,
    pub(super) grant: Option<SessionGrant>,
    pub(super) data: DataLanes,
    room: RoomWatch,
    /// What this transfer has of the limit, while it fetches.
    part: Option<Part>,
    /// When progress was last told and the session was last told of the time.
    ticked: Instant,
    standstill: Standstill,
    /// The user is being asked about the offer.
    is_asking: bool,
}

/// Whether the session goes on.
pub(super) enum Flow {
    On,
    Over(Outcome),
}

/// How a session ended that did not fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    Complete,
    /// A dry run knows what would become of everything.
    Foreseen,
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
        route: Route,
        cancel: &'e Cancel,
        scope: &'scope Scope<'scope, 'env>,
    ) -> Self {
        Self {
            engine,
            route,
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
            part: None,
            ticked: Instant::now(),
            standstill: Standstill::new(),
            is_asking: false,
        }
    }

    /// Carries the transfer to its end, over whatever lanes there are.
    pub(super) fn run(&mut self) -> Result<Outcome, TransferError> {
        let outcome = self.go_on();
        if self.is_asking {
            // Nobody waits for the answer any more, and the thread that does has to end.
            self.engine.observer.withdraw();
        }
        outcome
    }

    fn go_on(&mut self) -> Result<Outcome, TransferError> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(TransferError::Interrupted);
            }
            if let Flow::Over(outcome) = self.try_again()? {
                return Ok(outcome);
            }
            self.room.look(self.engine)?;
            // By the clock, not where nothing else happens: lanes may come and go all the time.
            if self.ticked.elapsed() >= TURN {
                self.ticked = Instant::now();
                self.engine.observer.event(&Event::Progress(self.engine.progress()));
                self.engine.tick();
                self.keep_limit();
                self.data.look(self.engine.counters.fetched.load(Ordering::Relaxed), self.ticked);
            }
            let flow = match self.engine.main.pop_within(self.next_turn(self.ticked + TURN)) {
                Popped::TimedOut => Flow::On,
                Popped::Item(event) => self.take(event)?,
                Popped::Closed => return Err(TransferError::Bug("the main queue is closed".into())),
            };
            if let Flow::Over(outcome) = flow {
                return Ok(outcome);
            }
            if self.standstill.is_over() {
                self.wake();
            }
        }
    }

    /// This process stood still: no connection is worth waiting for that is older, nor is the rest of a wait between tries.
    fn wake(&mut self) {
        self.engine.abort_lanes();
        self.dialling = 0;
        if let Some(outage) = &mut self.outage {
            outage.retry.begin_anew(Instant::now());
        }
    }

    /// Has the sender told what is this transfer's part of the limit. One that waits for its sender or its user leaves it to
    /// others.
    pub(super) fn keep_limit(&mut self) {
        if self.outage.is_some() || self.engine.record.get().is_none() {
            self.part = None;
            return;
        }
        let part = self.part.get_or_insert_with(|| self.engine.settings.throttle.take_part());
        self.engine.step(Input::Limit { rate: part.rate() });
    }

    fn take(&mut self, event: MainEvent) -> Result<Flow, TransferError> {
        match event {
            MainEvent::Arrived { lane, role } => self.arrived(lane, role),
            MainEvent::Decided(decided) => {
                self.is_asking = false;
                return self.decided(decided).inspect_err(|_| self.say_last());
            }
            MainEvent::Dialled { purpose: Purpose::Data, outcome, generation } => {
                self.data_dialled(outcome.ok(), generation);
            }
            MainEvent::Dialled { outcome, .. } => return self.control_dialled(outcome),
            MainEvent::End(end) => return ended(end),
            MainEvent::Foreseen => {
                // Its sender goes on offering: it must not take this for a receiver that has everything.
                self.engine.step(Input::Declined);
                self.say_last();
                return Ok(Flow::Over(Outcome::Foreseen));
            }
            MainEvent::Granted { grant, lanes } => self.granted(grant, lanes),
            MainEvent::LaneEnded { lane, fault } => return self.lane_ended(lane, fault),
            MainEvent::Offered => {
                self.is_asking = true;
                self.ask();
            }
            MainEvent::Failed(error) | MainEvent::Panicked(error) => return Err(error),
            MainEvent::Unexpected(error) => {
                self.say_last();
                return Err(error);
            }
            // Its sender came back under another session, which goes on with what this one has.
            MainEvent::Yield => return Err(TransferError::Interrupted),
        }
        Ok(Flow::On)
    }

    fn granted(&mut self, grant: SessionGrant, lanes: u16) {
        let is_first = self.grant.replace(grant).is_none();
        self.last_outage = self.outage.take().filter(|_| !is_first).map(|outage| (outage, self.engine.gained()));
        if self.engine.settings.dry_run {
            // Nothing comes over data lanes.
        } else if is_first {
            self.data.granted(lanes, self.engine.settings.lanes.is_some(), self.route.stays_on_this_machine());
        } else if self.engine.record.get().is_some() {
            self.engine.observer.event(&Event::Phase(Phase::Transferring));
        }
    }

    pub(super) fn start_lane(&mut self, lane: Lane, role: LaneRole) -> LaneId {
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
            Some(LaneFault::Payload(fault)) => Err(TransferError::Protocol(fault.into())),
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
        if let (TransportError::Busy, Route::Dialled(dial)) = (&error, &self.route) {
            dial.had_no_room();
        }
        self.route.note_control(self.proven.is_some());
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

    pub(super) fn adopt(&mut self, lane: Lane) {
        self.route.note_control(true);
        self.control = Some(self.start_lane(lane, LaneRole::Control));
        self.data.begin_anew(Instant::now());
    }

    /// Gives the other end a moment to hear why the session ends here.
    fn say_last(&mut self) {
        self.engine.close();
        let until = Instant::now() + REFUSAL_PATIENCE;
        while let Some(control) = self.control {
            match self.engine.main.pop_within(until.saturating_duration_since(Instant::now())) {
                Popped::Item(MainEvent::LaneEnded { lane, .. }) if lane == control => self.control = None,
                Popped::Item(_) => {}
                Popped::Closed | Popped::TimedOut => return,
            }
        }
    }
}
