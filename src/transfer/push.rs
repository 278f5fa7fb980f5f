//! Pushing: connect to somebody who listens, offer, and serve until everything is there.

use super::dial::{Dial, Outage, Way, by_session};
use super::hope::Hope;
use super::offer::Offer;
use super::panics::caught;
use super::pushed_lanes::PushedLanes;
use super::reach::dials_max;
use super::receive::invitation_of;
use super::send::{source_failure, tell_notices};
use super::serve::{Served, ServedCounters, ServedSession};
use super::standstill::Standstill;
use super::wish::{Terms, Wish};
use super::{Cancel, Event, Observer, Phase, Progress, PushSettings, Summary, TransferError, failed};
use crate::limits::{DATA_LANES_MAX, KEPT_BYTES_MAX};
use crate::secret::Invitation;
use crate::session::{End, LaneRole};
use crate::source::{Source, WalkOptions};
use crate::transport::{Lane, Proof, Purpose, TransportError};
use crate::wire::SessionGrant;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How often progress is told and a request to stop is noticed.
const TURN: Duration = Duration::from_millis(100);

/// Offers files and folders to somebody who listens, and serves them until everything is there.
pub fn push(settings: &PushSettings, observer: &dyn Observer, cancel: &Cancel) -> Result<Summary, TransferError> {
    caught(|| offer(settings, observer, cancel))
}

/// What the threads of a push tell the one that called [`push`].
#[derive(Debug)]
pub(super) enum News {
    /// A lane was opened, or could not be. Data lanes say which control lane there was when they were dialled.
    Dialled { purpose: Purpose, outcome: Result<Box<Lane>, TransportError>, generation: u32 },
    /// A lane ended.
    Served { role: LaneRole, served: Result<Option<Served>, TransferError> },
    /// The other end wants something.
    Wish(Wish),
}

/// Opens lanes, serves them on threads of their own, and opens lost ones again.
struct Pusher<'a> {
    settings: &'a PushSettings,
    observer: &'a dyn Observer,
    cancel: &'a Cancel,
    offer: Arc<Offer>,
    dial: Arc<Dial>,
    session: Arc<ServedSession>,
    news: mpsc::Sender<News>,
    inbox: mpsc::Receiver<News>,
    has_control: bool,
    /// Control lanes that are being dialled since this process last stood still.
    dialling: u32,
    /// What is remembered from the loss of the control lane until the other end greets again; the start counts as a loss.
    outage: Option<Outage>,
    /// The outage before, and what had been gained at its end: where nothing was gained since, it goes on.
    last_outage: Option<(Outage, u64)>,
    grant: Option<SessionGrant>,
    lanes: PushedLanes,
    /// Requests for hashes or the seal: while there are none, the other end has not accepted.
    asked: u64,
    /// What the user was told last, unless it was of tries.
    phase: Option<Phase>,
    ticked: Instant,
    standstill: Standstill,
}

fn offer(settings: &PushSettings, observer: &dyn Observer, cancel: &Cancel) -> Result<Summary, TransferError> {
    let began = Instant::now();
    let way = match invitation_of(&settings.to)? {
        Invitation::Code(code) => Way::Code(code),
        Invitation::Link(link) => Way::Link(link),
    };
    let dial = Dial::new(way, &settings.at).map_err(|error| TransferError::Network(error.into()))?;
    observer.event(&Event::Phase(Phase::Scanning));
    let options = WalkOptions {
        filter: settings.filter.clone(),
        hash_cache: settings.cache_dir.clone(),
        kept_bytes_max: KEPT_BYTES_MAX,
        stop: Some(cancel.flag()),
        symlinks: settings.symlinks,
        attributes: settings.attributes,
        ..WalkOptions::default()
    };
    let walk = Source::walk(&settings.paths, &options).map_err(source_failure)?;
    let left_out = tell_notices(&walk, observer);
    let offer = Arc::new(Offer::new(walk)?);
    let totals = offer.listing.totals();
    let (files, folders) = (u64::from(totals.files), u64::from(totals.folders));
    observer.event(&Event::Pushing { files, folders, bytes: totals.bytes });
    let (mut summary, failed) = carry(settings, (dial, None), &offer, observer, cancel, began)?;
    summary.ok = failed == 0 && left_out == 0;
    if summary.ok {
        Ok(summary)
    } else {
        Err(TransferError::Partial { failed: u64::from(failed) + left_out, total: files + left_out })
    }
}

/// Serves `offer` until everything is there, and says how many files failed there. Where there is a grant, the other end
/// expects that session.
pub(super) fn carry(
    settings: &PushSettings,
    (dial, grant): (Dial, Option<SessionGrant>),
    offer: &Arc<Offer>,
    observer: &dyn Observer,
    cancel: &Cancel,
    began: Instant,
) -> Result<(Summary, u32), TransferError> {
    observer.event(&Event::Phase(Phase::Connecting));
    let mut pusher = Pusher::new(settings, observer, cancel, Arc::clone(offer), dial);
    pusher.grant = grant;
    let outcome = caught(|| pusher.run());
    pusher.session.abort();
    observer.event(&Event::Progress(pusher.progress()));
    let failed = outcome?;
    Ok((pusher.summary(began), failed))
}

impl<'a> Pusher<'a> {
    fn new(
        settings: &'a PushSettings,
        observer: &'a dyn Observer,
        cancel: &'a Cancel,
        offer: Arc<Offer>,
        dial: Dial,
    ) -> Self {
        let now = Instant::now();
        let (news, inbox) = mpsc::channel();
        // Nobody is told of it: there is one session, and its user named whom it is with.
        let peer = SocketAddr::from(([0, 0, 0, 0], 0));
        let lanes = settings.lanes.unwrap_or(DATA_LANES_MAX);
        let counters = Arc::<ServedCounters>::default();
        let session = ServedSession::new(1, peer, Arc::clone(&offer), counters, Terms::Pushing(news.clone()), lanes);
        let session = session.compressing(settings.compress);
        session.limit.set(settings.limit);
        Self {
            settings,
            observer,
            cancel,
            offer,
            dial: Arc::new(dial),
            session: Arc::new(session),
            news,
            inbox,
            has_control: false,
            dialling: 0,
            outage: Some(Outage::new(now)),
            last_outage: None,
            grant: None,
            lanes: PushedLanes::new(now),
            asked: 0,
            phase: None,
            ticked: now,
            standstill: Standstill::new(),
        }
    }

    /// Serves until everything is there, and returns how many files failed on the other side.
    fn run(&mut self) -> Result<u32, TransferError> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(TransferError::Interrupted);
            }
            self.try_again();
            self.settings.controls.set_only(&self.session.limit);
            if self.ticked.elapsed() >= TURN {
                self.ticked = Instant::now();
                self.observer.event(&Event::Progress(self.progress()));
            }
            match self.inbox.recv_timeout(self.next_turn()) {
                Ok(news) => {
                    if let Some(failed) = self.take(news)? {
                        return Ok(failed);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(TransferError::Bug("nobody is left to tell news".into()));
                }
            }
            if self.standstill.is_over() {
                self.wake();
            }
        }
    }

    /// This process stood still: no connection is worth waiting for that is older, nor is the rest of a wait between tries.
    fn wake(&mut self) {
        self.session.abort();
        self.dialling = 0;
        if let Some(outage) = &mut self.outage {
            outage.retry.begin_anew(Instant::now());
        }
    }

    fn take(&mut self, news: News) -> Result<Option<u32>, TransferError> {
        match news {
            News::Dialled { purpose: Purpose::Data, outcome, generation } => {
                self.data_dialled(outcome.ok(), generation);
            }
            News::Dialled { outcome, .. } => self.control_dialled(outcome)?,
            News::Served { served: Err(error), .. } => return Err(error),
            News::Served { served: Ok(Some(Served::Ended(End::Complete, failed))), .. } => return Ok(Some(failed)),
            News::Served { served: Ok(Some(Served::Ended(end, _))), .. } => return Err(failed::end(end)),
            News::Served { role: LaneRole::Control, .. } => self.control_lost()?,
            News::Served { role: LaneRole::Data, .. } => self.lanes.lost(self.sent(), Instant::now()),
            News::Wish(wish) => self.wish(wish),
        }
        Ok(None)
    }

    fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Contents => {
                self.asked += 1;
                self.tell(Phase::Transferring);
            }
            Wish::Grant(grant) => {
                let is_first = self.grant.replace(grant).is_none();
                let gained = self.gained();
                self.last_outage = self.outage.take().filter(|_| !is_first).map(|outage| (outage, gained));
                self.tell(if self.asked > 0 { Phase::Transferring } else { Phase::WaitingForAnswer });
            }
            Wish::Lanes(lanes) => self.lanes.wanted(lanes),
        }
    }

    /// Tells the phase, where it is another one.
    fn tell(&mut self, phase: Phase) {
        if self.phase.replace(phase) != Some(phase) {
            self.observer.event(&Event::Phase(phase));
        }
    }

    // What was lost.

    fn control_lost(&mut self) -> Result<(), TransferError> {
        self.has_control = false;
        self.lanes.begin_anew();
        if self.outage.is_none() {
            let (now, gained) = (Instant::now(), self.gained());
            let before = self.last_outage.take().filter(|&(_, then)| then == gained);
            self.outage = Some(before.map_or_else(|| Outage::new(now), |(outage, _)| outage.go_on(now)));
        }
        self.consider(TransportError::Lost)
    }

    fn control_dialled(&mut self, outcome: Result<Box<Lane>, TransportError>) -> Result<(), TransferError> {
        self.dialling = self.dialling.saturating_sub(1);
        match outcome {
            _ if self.has_control => {}
            Ok(lane) => {
                self.has_control = true;
                self.serve(lane, LaneRole::Control);
            }
            Err(error) => {
                if let Some(outage) = &mut self.outage {
                    outage.retry.failed(Instant::now());
                }
                return self.consider(error);
            }
        }
        Ok(())
    }

    fn data_dialled(&mut self, lane: Option<Box<Lane>>, generation: u32) {
        if self.lanes.dialled(lane.is_some(), generation, Instant::now())
            && let Some(lane) = lane
        {
            self.serve(lane, LaneRole::Data);
        }
    }

    fn consider(&mut self, error: TransportError) -> Result<(), TransferError> {
        let Some(outage) = &mut self.outage else { return Ok(()) };
        let hope = Hope {
            has_been_reached: self.dial.has_been_reached(),
            // Whoever says how long to try has somebody in mind who is not there yet.
            waits_for_host: self.settings.retry_for.is_some_and(|patience| !patience.is_zero()),
            is_sure: false,
            is_by_code: self.dial.is_by_code(self.grant.as_ref()),
            patience: self.settings.retry_for,
        };
        if hope.is_lost(&error, outage, Instant::now()) {
            return Err(self.dial.failure(error, self.grant.as_ref()));
        }
        Ok(())
    }

    // What is tried.

    fn try_again(&mut self) {
        let now = Instant::now();
        let dials_max = dials_max(&self.dial, self.grant.as_ref());
        match (self.has_control, &mut self.outage) {
            (false, Some(outage)) => {
                if let Some((attempt, retry_in)) = outage.tell(now) {
                    self.phase = None;
                    self.observer.event(&Event::Phase(Phase::Reconnecting { attempt, retry_in }));
                }
                if outage.retry.due() <= now && self.dialling < dials_max {
                    match &self.grant {
                        Some(_) => outage.retry.tried(now),
                        None => outage.retry.tried_to_begin(now),
                    }
                    let is_known = self.grant.is_some() && outage.wrong_proofs == 0;
                    let opening = self.dial.opening(self.grant.as_ref(), outage.wrong_proofs);
                    self.dialling += 1;
                    self.dial(opening, Purpose::Push);
                    if is_known {
                        // Beside it: a connection may not live long enough for one lane after the other.
                        self.lanes.want_as_before();
                        self.dial_data_lanes(now);
                    }
                }
            }
            (true, _) if self.lanes.due() <= now => self.dial_data_lanes(now),
            _ => {}
        }
    }

    fn dial_data_lanes(&mut self, now: Instant) {
        let Some(proof) = self.grant.as_ref().map(by_session) else { return };
        while self.lanes.lacking() > 0 {
            self.lanes.tried(now);
            self.dial(proof.clone(), Purpose::Data);
        }
    }

    /// Dials on a thread of its own that nobody waits for: a host that does not answer holds up nothing.
    fn dial(&self, proof: Proof, purpose: Purpose) {
        let (dial, news, generation) = (Arc::clone(&self.dial), self.news.clone(), self.lanes.generation());
        let dialling = thread::Builder::new().name("haul dial".into()).spawn(move || {
            let outcome = dial.connect(&proof, purpose).map(Box::new);
            // Where nobody listens any more, the push is over.
            let _ = news.send(News::Dialled { purpose, outcome, generation });
        });
        if let Err(error) = dialling {
            let outcome = Err(TransportError::Local(error));
            let _ = self.news.send(News::Dialled { purpose, outcome, generation });
        }
    }

    fn serve(&self, lane: Box<Lane>, role: LaneRole) {
        let (session, news) = (Arc::clone(&self.session), self.news.clone());
        let serving = thread::Builder::new().name("haul lane".into()).spawn(move || {
            let served = caught(|| Ok(session.serve(*lane, role)));
            let _ = news.send(News::Served { role, served });
        });
        if serving.is_err() {
            // The lane is closed with the thread that did not start; it is lost like any other.
            let _ = self.news.send(News::Served { role, served: Ok(None) });
        }
    }

    fn next_turn(&self) -> Duration {
        let due = match (self.has_control, &self.outage) {
            (false, Some(outage)) if self.dialling < dials_max(&self.dial, self.grant.as_ref()) => {
                Some(outage.retry.due())
            }
            (true, _) if self.lanes.lacking() > 0 => Some(self.lanes.due()),
            _ => None,
        };
        let tick = self.ticked + TURN;
        due.map_or(tick, |due| due.min(tick)).saturating_duration_since(Instant::now())
    }

    // What is told.

    fn sent(&self) -> u64 {
        self.session.counters.piece_bytes.load(Ordering::Relaxed)
    }

    /// A count that rises with everything that the other end got.
    fn gained(&self) -> u64 {
        self.sent() + self.asked
    }

    fn progress(&self) -> Progress {
        let totals = self.offer.listing.totals();
        let sent = self.sent();
        Progress {
            bytes_total: totals.bytes,
            bytes_done: sent.min(totals.bytes),
            bytes_fetched: sent,
            wire_bytes: self.session.counters.wire_bytes.load(Ordering::Relaxed),
            files_total: u64::from(totals.files),
            ..Progress::default()
        }
    }
}

mod report;
