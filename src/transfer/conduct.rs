//! The main thread of a receiving transfer: starts the others, opens lost lanes again, and decides when it is over.

use super::dial::{Dial, Outage};
use super::engine::Engine;
use super::frames::LaneFault;
use super::lane_thread::run_lane;
use super::panics::watched;
use super::queue::Popped;
use super::retry::Backoff;
use super::work::MainEvent;
use super::{Cancel, Event, Phase, TransferError, failed};
use crate::limits::{PROOF_DEADLINE, STALLED_AFTER};
use crate::secret::{SessionId, SessionSecret};
use crate::session::{End, LaneId, LaneRole};
use crate::transport::{Lane, Proof, Purpose, TransportError};
use crate::wire::SessionGrant;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

/// How often progress is told and a request to stop is noticed.
const TURN: Duration = Duration::from_millis(100);
/// A turn that took so long did so because this machine slept, or the process was stopped: what the other end made of
/// the silence is not known, and finding out takes longer than connecting again.
const SLEPT: Duration = Duration::from_secs(5);
/// Longest wait before a lost data lane is tried again while the control lane lives.
const DATA_LANE_WAIT_MAX: Duration = Duration::from_secs(1);
/// Tries to tell a sender that everything is there, where it cannot be reached any more.
const LAST_WORD_TRIES: u32 = 4;
/// Proofs that the host may turn down: it may have been stopping when it did.
const WRONG_PROOFS_MAX: u32 = 3;

/// Starts threads, answers what they tell, and tries again what was lost.
pub(super) struct Conduct<'scope, 'env, 'e> {
    pub(super) engine: &'scope Engine<'e>,
    pub(super) dial: Arc<Dial>,
    cancel: &'e Cancel,
    pub(super) scope: &'scope Scope<'scope, 'env>,
    next_lane: u32,
    control: Control,
    /// What is remembered from the loss of the control lane until the host greets again; the start counts as a loss.
    outage: Option<Outage>,
    pub(super) grant: Option<SessionGrant>,
    pub(super) data: DataLanes,
    probe: Probe,
    /// When the main thread was last awake.
    awake: Instant,
}

/// The lane without which nothing goes on.
enum Control {
    Up(LaneId),
    Dialling,
    Waiting { until: Instant },
}

/// Whether a new connection fares better than lanes that have all fallen silent: the host's address or this machine's
/// may have changed, or something on the way forgot the old ones.
enum Probe {
    /// Not before this.
    Later(Instant),
    Dialling,
    /// It does: this one takes the control lane's place.
    Proven(Box<Lane>),
}

/// The data lanes.
#[derive(Default)]
pub(super) struct DataLanes {
    /// How many there are to be.
    pub(super) wanted: u16,
    /// How many more, once the listing shows large files.
    pub(super) spared: u16,
    /// How many there are, those being dialled included.
    open: u16,
    backoff: Backoff,
    next_try: Option<Instant>,
    /// Bytes that had come when a lane was lost last: where more come between two losses, the link is alive.
    fetched: u64,
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
            control: Control::Waiting { until: Instant::now() },
            outage: Some(Outage::new()),
            grant: None,
            data: DataLanes::default(),
            probe: Probe::Later(Instant::now()),
            awake: Instant::now(),
        }
    }

    /// Carries the transfer to its end, over whatever lanes there are.
    pub(super) fn run(&mut self) -> Result<Outcome, TransferError> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(TransferError::Interrupted);
            }
            self.try_again();
            let flow = match self.engine.main.pop_within(self.next_turn()) {
                Popped::TimedOut => {
                    self.engine.observer.event(&Event::Progress(self.engine.progress()));
                    self.engine.tick();
                    Flow::On
                }
                Popped::Item(event) => self.take(event)?,
                Popped::Closed => return Err(TransferError::Bug("the main queue is closed".into())),
            };
            if let Flow::Over(outcome) = flow {
                return Ok(outcome);
            }
            if self.awake.elapsed() > SLEPT {
                self.engine.abort_lanes();
            }
            self.awake = Instant::now();
        }
    }

    fn take(&mut self, event: MainEvent) -> Result<Flow, TransferError> {
        match event {
            MainEvent::Dialled { purpose: Purpose::Control, outcome } if matches!(self.control, Control::Up(_)) => {
                self.probed(outcome.ok());
                Ok(Flow::On)
            }
            MainEvent::Dialled { purpose: Purpose::Control, outcome } => match outcome {
                Ok(lane) => {
                    self.control = Control::Up(self.start_lane(*lane, LaneRole::Control));
                    Ok(Flow::On)
                }
                Err(error) => self.control_lost(error),
            },
            MainEvent::Dialled { purpose: Purpose::Data, outcome } => {
                match outcome {
                    Ok(lane) => drop(self.start_lane(*lane, LaneRole::Data)),
                    Err(_) => self.data_lost(),
                }
                Ok(Flow::On)
            }
            MainEvent::End(end) => ended(end),
            MainEvent::Granted { grant, lanes } => {
                self.granted(grant, lanes);
                Ok(Flow::On)
            }
            MainEvent::LaneEnded { lane, fault } => self.lane_ended(lane, fault),
            MainEvent::Offered => {
                self.decide()?;
                // The user's thinking is no sleep.
                self.awake = Instant::now();
                Ok(Flow::On)
            }
            MainEvent::Panicked(error) => Err(error),
        }
    }

    fn granted(&mut self, grant: SessionGrant, lanes: u16) {
        let is_first = self.grant.replace(grant).is_none();
        self.outage = None;
        if is_first {
            let may_spare = self.engine.settings.lanes.is_none() && self.dial.stays_on_this_machine();
            self.data.wanted = if may_spare { lanes.min(1) } else { lanes };
            self.data.spared = lanes - self.data.wanted;
        } else if self.engine.record.get().is_some() {
            self.engine.observer.event(&Event::Phase(Phase::Transferring));
        }
        self.data.next_try = None;
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
        let dialling = thread::Builder::new().name("haul dial".into()).spawn(move || {
            let outcome = dial.connect(&proof, purpose).map(Box::new);
            main.push(MainEvent::Dialled { purpose, outcome });
        });
        if let Err(error) = dialling {
            let outcome = Err(TransportError::Local(error));
            self.engine.main.push(MainEvent::Dialled { purpose, outcome });
        }
    }

    // What was lost.

    fn lane_ended(&mut self, lane: LaneId, fault: Option<LaneFault>) -> Result<Flow, TransferError> {
        let is_control = matches!(self.control, Control::Up(control) if control == lane);
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
                self.data_lost();
                Ok(Flow::On)
            }
        }
    }

    /// A connection beside the silent ones is there, or none could be had. Where they came back to life meanwhile, they
    /// stay.
    fn probed(&mut self, lane: Option<Box<Lane>>) {
        self.probe = match lane.filter(|_| self.engine.silence() >= STALLED_AFTER) {
            Some(lane) => {
                self.engine.abort_lanes();
                Probe::Proven(lane)
            }
            None => Probe::Later(Instant::now() + STALLED_AFTER),
        };
    }

    /// Plans the next try, unless the user's patience is at its end or trying is of no use.
    fn control_lost(&mut self, error: TransportError) -> Result<Flow, TransferError> {
        if let Probe::Proven(lane) = std::mem::replace(&mut self.probe, Probe::Later(Instant::now())) {
            self.control = Control::Up(self.start_lane(*lane, LaneRole::Control));
            return Ok(Flow::On);
        }
        let outage = self.outage.get_or_insert_with(Outage::new);
        if self.engine.has_everything() && outage.backoff.tries() >= LAST_WORD_TRIES {
            return Ok(Flow::Over(Outcome::Complete));
        }
        let is_hopeless = match error {
            TransportError::VersionMismatch => true,
            TransportError::WrongProof => {
                outage.wrong_proofs += 1;
                outage.wrong_proofs >= WRONG_PROOFS_MAX || self.grant.is_none()
            }
            _ => false,
        };
        let settings = self.engine.settings;
        let was_never_there = self.grant.is_none() && !settings.wait_for_host;
        let left = settings.retry_for.map(|patience| patience.saturating_sub(outage.since.elapsed()));
        if is_hopeless || was_never_there || left.is_some_and(|left| left.is_zero()) {
            return Err(failed::transport(error, PROOF_DEADLINE));
        }
        let wait = outage.backoff.next_wait().min(left.unwrap_or(Duration::MAX));
        self.control = Control::Waiting { until: Instant::now() + wait };
        Ok(Flow::On)
    }

    fn data_lost(&mut self) {
        let fetched = self.engine.counters.fetched.load(Ordering::Relaxed);
        if fetched > self.data.fetched {
            self.data.backoff = Backoff::default();
        }
        self.data.fetched = fetched;
        self.data.open = self.data.open.saturating_sub(1);
        // The control lane has its own waits; while it lives, there is somebody to come back to.
        self.data.next_try = Some(Instant::now() + self.data.backoff.next_wait().min(DATA_LANE_WAIT_MAX));
    }

    /// Starts the tries that are due.
    fn try_again(&mut self) {
        let now = Instant::now();
        match (&self.control, &mut self.outage) {
            (Control::Waiting { until }, Some(outage)) => {
                let retry_in = until.saturating_duration_since(now);
                if let Some(attempt) = outage.tell(retry_in) {
                    self.engine.observer.event(&Event::Phase(Phase::Reconnecting { attempt, retry_in }));
                }
                if retry_in.is_zero() {
                    let by_session = self.grant.as_ref().filter(|_| outage.wrong_proofs == 0).map(by_session);
                    self.control = Control::Dialling;
                    self.dial(by_session.unwrap_or_else(|| self.dial.by_link()), Purpose::Control);
                }
            }
            (Control::Up(_), None) => {
                let Some(grant) = &self.grant else { return };
                if matches!(self.probe, Probe::Later(at) if at <= now) && self.engine.silence() >= STALLED_AFTER {
                    self.probe = Probe::Dialling;
                    self.dial(by_session(grant), Purpose::Control);
                }
                while self.data.is_due(now) {
                    self.data.open += 1;
                    self.dial(by_session(grant), Purpose::Data);
                }
            }
            _ => {}
        }
    }

    /// How long the main thread may sleep.
    fn next_turn(&self) -> Duration {
        let due = match &self.control {
            Control::Waiting { until } => Some(*until),
            _ => self.data.next_try.filter(|_| self.data.open < self.data.wanted),
        };
        due.map_or(TURN, |due| due.saturating_duration_since(Instant::now()).min(TURN))
    }
}

impl DataLanes {
    /// Whether further lanes are to be dialled now.
    fn is_due(&self, now: Instant) -> bool {
        self.open < self.wanted && self.next_try.is_none_or(|at| at <= now)
    }
}

fn by_session(grant: &SessionGrant) -> Proof {
    Proof::Session { id: SessionId::from_bytes(grant.id), secret: SessionSecret::from_bytes(grant.secret) }
}
