//! Receiving: connect, show the offer, fetch, publish.

use super::desk::run_desk;
use super::engine::Engine;
use super::frames::LaneFault;
use super::lane_thread::run_lane;
use super::memory::Accepted;
use super::publisher::run_publisher;
use super::queue::Popped;
use super::unfinished;
use super::work::MainEvent;
use super::{
    Cancel, Decision, Event, FailureClass, Observer, Phase, ReceiveSettings, Summary, TransferError, failed, plan,
};
use crate::limits::{CHUNK_BYTES_MIN, DATA_LANES_MAX, PROOF_DEADLINE};
use crate::secret::{Link, SessionId, SessionSecret};
use crate::session::{End, Input, LaneId, LaneRole, Receiver, ReceiverSettings};
use crate::store::{RealDisk, Record, RecordId, Store};
use crate::transport::{DeviceKey, Lane, Proof, Purpose, connect};
use crate::wire::SessionGrant;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

/// How often progress is told and a request to stop is noticed.
const TURN: Duration = Duration::from_millis(100);
/// Data lanes, unless the user says otherwise: what one loses to a lost packet another one makes up for, and each end
/// has the work of one for each of two cores.
const LANES_DEFAULT: u16 = 2;
/// Average length from which files count as large: within one machine a second lane measured 10 % faster for those, and
/// 30 % slower for small ones, since both make them in one folder, which takes one at a time.
const LARGE_FILE_BYTES: u64 = CHUNK_BYTES_MIN;
/// Times that a lost data lane is opened again while the control lane lives.
const LANE_REOPENINGS_MAX: u32 = 8;
/// Threads that open files and check claims.
const DESK_THREADS: usize = 2;

/// Fetches the offer behind a link into a folder.
pub fn receive(settings: &ReceiveSettings, observer: &dyn Observer, cancel: &Cancel) -> Result<Summary, TransferError> {
    let began = Instant::now();
    let link = Link::parse(&settings.link).map_err(|fault| TransferError::BadLink(fault.into()))?;
    let unusable = |error: std::io::Error| TransferError::Io {
        what: format!("the folder `{}` cannot be used", crate::printable::printable_path(&settings.into)),
        cause: error.into(),
    };
    let disk = RealDisk::open(&settings.into).map_err(unusable)?;
    let store = Store::open(disk).map_err(|fault| failed::store("the destination cannot be used", fault))?;
    let held = unfinished::hold(&store, settings)?;
    observer.event(&Event::Phase(Phase::Connecting));
    let device = DeviceKey::generate().map_err(|error| TransferError::Network(error.into()))?;
    let dial = Dial { device, link };
    let control = dial.control()?;
    let lanes = settings.lanes.unwrap_or(LANES_DEFAULT).min(DATA_LANES_MAX);
    let may_spare_lanes = settings.lanes.is_none() && control.stays_on_this_machine();
    let receiver = Receiver::new(ReceiverSettings { lanes });
    let mut engine = Engine::new(&store, settings, observer, receiver, began);
    if let Some(record) = held {
        // Nothing is there to be replaced: the engine is new.
        let _ = engine.record.set(record);
    }
    let outcome = thread::scope(|scope| {
        let mut conduct = Conduct {
            engine: &engine,
            dial: &dial,
            cancel,
            scope,
            next_lane: 0,
            control: LaneId(0),
            grant: None,
            may_spare_lanes,
            lanes_spared: 0,
            reopened: 0,
        };
        conduct.start_lane(control, LaneRole::Control);
        let outcome = conduct.run();
        if outcome.is_err() {
            engine.abort_lanes();
        }
        engine.close();
        outcome
    });
    // The last word about what was done, also where it is not everything.
    observer.event(&Event::Progress(engine.progress()));
    outcome?;
    finish(&mut engine, began)
}

/// What it takes to open a lane.
struct Dial {
    device: DeviceKey,
    link: Link,
}

/// The main thread of a receiving transfer: starts the others, and decides when it is over.
struct Conduct<'scope, 'env, 'e> {
    engine: &'scope Engine<'e>,
    dial: &'scope Dial,
    cancel: &'e Cancel,
    scope: &'scope Scope<'scope, 'env>,
    next_lane: u32,
    control: LaneId,
    grant: Option<SessionGrant>,
    /// Whether one data lane is enough until the listing shows large files.
    may_spare_lanes: bool,
    lanes_spared: u16,
    reopened: u32,
}

impl Dial {
    fn control(&self) -> Result<Lane, TransferError> {
        let proof = Proof::Link { room: self.link.room(), key: self.link.key().clone() };
        self.connect(&proof, Purpose::Control)
    }

    fn data(&self, grant: &SessionGrant) -> Result<Lane, TransferError> {
        let id = SessionId::from_bytes(grant.id);
        let proof = Proof::Session { id, secret: SessionSecret::from_bytes(grant.secret) };
        self.connect(&proof, Purpose::Data)
    }

    fn connect(&self, proof: &Proof, purpose: Purpose) -> Result<Lane, TransferError> {
        connect(&self.device, self.link.addresses(), proof, purpose, Instant::now() + PROOF_DEADLINE)
            .map_err(|error| failed::transport(error, PROOF_DEADLINE))
    }
}

impl Conduct<'_, '_, '_> {
    fn run(&mut self) -> Result<(), TransferError> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(TransferError::Interrupted);
            }
            match self.engine.main.pop_within(TURN) {
                Popped::TimedOut => {
                    self.engine.observer.event(&Event::Progress(self.engine.progress()));
                    self.engine.tick();
                }
                Popped::Item(MainEvent::End(End::Complete)) => return Ok(()),
                Popped::Item(MainEvent::End(end)) => return Err(failed::end(end)),
                Popped::Item(MainEvent::Granted { grant, lanes }) => {
                    let at_first = if self.may_spare_lanes { lanes.min(1) } else { lanes };
                    self.lanes_spared = lanes - at_first;
                    self.grant = Some(grant);
                    self.open_data_lanes(at_first);
                }
                Popped::Item(MainEvent::LaneEnded { lane, fault }) => self.lane_ended(lane, fault)?,
                Popped::Item(MainEvent::Offered) => self.decide()?,
                Popped::Closed => return Err(TransferError::Bug("the main queue is closed".into())),
            }
        }
    }

    fn start_lane(&mut self, lane: Lane, role: LaneRole) {
        self.next_lane += 1;
        let id = LaneId(self.next_lane);
        if role == LaneRole::Control {
            self.control = id;
        }
        let engine = self.engine;
        self.scope.spawn(move || {
            let fault = run_lane(engine, id, lane, role);
            engine.main.push(MainEvent::LaneEnded { lane: id, fault });
        });
    }

    fn open_data_lanes(&mut self, count: u16) {
        if let Some(grant) = self.grant.clone() {
            (0..count).for_each(|_| self.open_data_lane(&grant));
        }
    }

    /// Dials on a thread of its own, so that a slow handshake holds up nothing.
    fn open_data_lane(&mut self, grant: &SessionGrant) {
        self.next_lane += 1;
        let id = LaneId(self.next_lane);
        let (engine, dial, grant) = (self.engine, self.dial, grant.clone());
        self.scope.spawn(move || {
            let fault = match dial.data(&grant) {
                Ok(lane) => run_lane(engine, id, lane, LaneRole::Data),
                Err(_) => Some(LaneFault::Transport(crate::transport::TransportError::Lost)),
            };
            engine.main.push(MainEvent::LaneEnded { lane: id, fault });
        });
    }

    fn lane_ended(&mut self, lane: LaneId, fault: Option<LaneFault>) -> Result<(), TransferError> {
        if lane == self.control {
            // What the session said last may still be in the queue; it knows better than the broken connection.
            while let Popped::Item(event) = self.engine.main.pop_within(Duration::ZERO) {
                match event {
                    MainEvent::End(End::Complete) => {
                        self.engine.main.push(MainEvent::End(End::Complete));
                        return Ok(());
                    }
                    MainEvent::End(end) => return Err(failed::end(end)),
                    _ => {}
                }
            }
            return Err(
                fault.map_or_else(|| TransferError::Network("the control connection ended".into()), failed::lane)
            );
        }
        if let Some(LaneFault::Frame(fault)) = fault {
            return Err(TransferError::Protocol(fault.into()));
        }
        self.reopened += 1;
        if self.reopened > LANE_REOPENINGS_MAX {
            return Err(TransferError::Network("data connections keep breaking".into()));
        }
        self.open_data_lanes(1);
        Ok(())
    }

    /// Surveys the destination, asks the user, and starts.
    fn decide(&mut self) -> Result<(), TransferError> {
        let engine = self.engine;
        let listing = engine.listing();
        let declined = |error: TransferError| {
            engine.step(Input::Declined);
            error
        };
        let id = record_id(listing);
        if engine.settings.resuming.is_some_and(|resuming| resuming != id) {
            return Err(declined(TransferError::OfferChanged));
        }
        let survey = plan::survey(engine.store, listing).map_err(declined)?;
        plan::refuse_hidden(engine, is_home(&engine.settings.into)).map_err(declined)?;
        let conflict = match engine.observer.accept(&plan::summary(listing, &survey)) {
            Decision::Accept => engine.settings.conflict,
            Decision::AcceptWith(conflict) => conflict,
            Decision::Refuse => return Err(declined(TransferError::Declined)),
        };
        // It is asked once, so nothing is there to be replaced.
        let _ = engine.conflict.set(conflict);
        engine.observer.event(&Event::Phase(Phase::Transferring));
        let unusable = |fault| failed::store("the transfer's record cannot be kept", fault);
        if engine.record.get().is_none() {
            let record = engine.store.open_record(id).map_err(unusable).map_err(declined)?;
            // It is asked once, so nothing is there to be replaced.
            let _ = engine.record.set(record);
        }
        let Some(record) = engine.record.get() else { return Err(TransferError::Bug("there is no record".into())) };
        let accepted = Accepted { link: &self.dial.link, grant: self.grant.as_ref(), conflict, listing };
        unfinished::remember(engine, record, &accepted).map_err(unusable).map_err(declined)?;
        let published: HashMap<_, _> = record.published().map_err(unusable).map_err(declined)?.into_iter().collect();
        let plans = plan::plans(engine, &survey, &published);
        self.start_desks();
        engine.step(Input::Accepted(plans));
        let totals = listing.totals();
        if totals.bytes / u64::from(totals.files.max(1)) >= LARGE_FILE_BYTES {
            let spared = std::mem::take(&mut self.lanes_spared);
            self.open_data_lanes(spared);
        }
        Ok(())
    }

    fn start_desks(&self) {
        let engine = self.engine;
        for _ in 0..DESK_THREADS {
            self.scope.spawn(move || run_desk(engine));
        }
        self.scope.spawn(move || run_publisher(engine));
    }
}

fn record_id(listing: &crate::manifest::Listing) -> RecordId {
    let mut id = [0; 16];
    id.copy_from_slice(&listing.digest().0[..16]);
    RecordId(id)
}

/// Whether `folder` is the home folder of whoever runs this.
fn is_home(folder: &Path) -> bool {
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from);
    home.and_then(|home| home.canonicalize().ok()).zip(folder.canonicalize().ok()).is_some_and(|(home, it)| home == it)
}

fn finish(engine: &mut Engine<'_>, began: Instant) -> Result<Summary, TransferError> {
    let totals = engine.listing().totals();
    let failures = engine.take_failures();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let summary = Summary {
        ok: failures.is_empty(),
        files: load(&engine.counters.files_done),
        bytes: totals.bytes,
        bytes_fetched: load(&engine.counters.fetched),
        bytes_reused: load(&engine.counters.reused),
        wire_bytes: load(&engine.counters.wire),
        first_byte_ms: load(&engine.counters.first_byte_ms).checked_sub(1),
        seconds: began.elapsed().as_secs_f64(),
        root: engine.root(),
        failed: failures,
    };
    let free = engine.store.space().map_or(0, |space| space.bytes);
    let needed = totals.bytes.saturating_sub(load(&engine.counters.done));
    let error = failed::files(&summary.failed, u64::from(totals.files), needed, free);
    let kept_nothing = summary.files == 0 && summary.failed.iter().all(|file| file.class == FailureClass::Exists);
    if error.is_none() || kept_nothing {
        // A later run has nothing to continue. Where the record stays, it only takes room.
        if let Some(Err(fault)) = engine.record.take().map(Record::remove) {
            engine.notice(format!("the record of this transfer could not be removed: {fault}"));
        }
    }
    error.map_or(Ok(summary), Err)
}
