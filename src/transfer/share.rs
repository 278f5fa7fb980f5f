//! Sharing: one link at which the same offer is fetched and files are taken, by any number of people at once.
//!
//! Every lane says what it is for, so both stand behind one door: whoever asks for the offer is served by its host, and
//! whoever pushes is let in by the reception, each as in a run of its own.

use super::beacon::Beacon;
use super::door::{self, Wanted};
use super::front::Front;
use super::host::{Host, HostEvent};
use super::inbox::Inbox;
use super::listen::{Outcomes, Run, session_settings};
use super::pages::Premises;
use super::panics::caught;
use super::reception::{Reception, ReceptionEvent};
use super::send::{Ended, Found, open_host, open_pages, ready, run as serve_all, tell_certificate};
use super::shelf::Shelf;
use super::state::{OfferState, folder_id, share_id};
use super::{
    Cancel, Decision, Event, Hosting, Observer, OfferSummary, Phase, ReceiveSettings, SendSettings, ShareSettings,
    Shared, Summary, TransferError,
};
use crate::printable::printable_path;
use crate::secret::{Code, Key, Room, SessionId, SessionSecret};
use crate::transport::{Gatekeeper, Guest, Lane, LaneIntro, Listener, ListenerEvent, Purpose, Who};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

/// Offers files and folders, and takes what senders push, both at one link, until it is cancelled.
pub fn share(settings: &ShareSettings, hosting: &dyn Hosting, cancel: &Cancel) -> Result<Shared, TransferError> {
    caught(|| open(settings, hosting, cancel))
}

fn open(settings: &ShareSettings, hosting: &dyn Hosting, cancel: &Cancel) -> Result<Shared, TransferError> {
    let began = Instant::now();
    let ShareSettings { offer: offered, take } = settings;
    // An offer that ended with its first receiver would take the other half with it.
    let offered = SendSettings { keep: true, ..offered.clone() };
    let watching = Watching(hosting);
    let unusable = |error: std::io::Error| TransferError::Io {
        what: format!("the folder `{}` cannot be used", printable_path(&take.into)),
        cause: error.into(),
    };
    let folder = folder_id(&take.into).map_err(unusable)?;
    let Found { offer, left_out, id } = Found::look(&offered, &watching, cancel)?;
    let state = OfferState::load(offered.state_dir.as_deref(), &share_id(&id, &folder))?;
    let front = Arc::new(Front::new(state, offered.no_code)?);
    let (to_host, from_host) = mpsc::channel();
    let (to_reception, from_reception) = mpsc::channel();
    let host = open_host(&offered, &offer, &front, to_host);
    let reception = Arc::new(Reception::new(Arc::clone(&front), to_reception));
    let doors = Doors { host: Arc::clone(&host), reception: Arc::clone(&reception) };
    let gatekeeper: Arc<dyn Gatekeeper> = Arc::new(doors);
    let tell = |event: &Event| hosting.event(event);
    let (listener, link) = door::open_front(&front, &Wanted::of_offer(&offered), &gatekeeper, &tell)?;
    let address = listener.address();
    let shelf = Some(Shelf::new(Arc::clone(&host)));
    let inbox = Inbox::new(Arc::clone(&reception), &link, address);
    let tls = door::identity(&link, offered.state_dir.as_deref());
    let premises = Premises { link: link.clone(), bound: address, tls, shelf, inbox, gatekeeper };
    open_pages(&front.lodge, offered.pages, premises, &tell);
    let beacon = Beacon::open(offered.announce, address, front.codes.number());
    let of_session = session_settings(take, &link.to_text());
    tell(&ready(&front, &offer, &link));
    reception.open(link);
    tell_certificate(&front.lodge, &tell);
    tell(&Event::Phase(Phase::Waiting));
    let both = Both { offered: &offered, host: &host, reception: &reception, beacon: &beacon, hosting };
    let (served, taken) = both.run(&of_session, (from_host, from_reception), listener, cancel);
    let (Ended { receivers, .. }, taken) = (served?, taken?);
    if taken.unfinished > 0 {
        return Err(TransferError::Interrupted);
    }
    if left_out > 0 {
        let files = u64::from(offer.listing.totals().files);
        return Err(TransferError::Partial { failed: left_out, total: left_out + files });
    }
    let bytes_sent = host.counters.piece_bytes.load(Ordering::Relaxed);
    let taken = Summary { ok: true, seconds: began.elapsed().as_secs_f64(), root: None, ..taken.summary };
    Ok(Shared { receivers, bytes_sent, taken })
}

/// Both halves of a run.
struct Both<'a> {
    offered: &'a SendSettings,
    host: &'a Arc<Host>,
    reception: &'a Arc<Reception>,
    beacon: &'a Beacon,
    hosting: &'a dyn Hosting,
}

impl Both<'_> {
    /// Serves and takes until the end is asked for, or until one half cannot go on, with which the other one ends.
    fn run(
        &self,
        of_session: &ReceiveSettings,
        (from_host, from_reception): (mpsc::Receiver<HostEvent>, mpsc::Receiver<ReceptionEvent>),
        listener: Listener,
        cancel: &Cancel,
    ) -> (Result<Ended, TransferError>, Result<Outcomes, TransferError>) {
        let Self { offered, host, reception, beacon, hosting } = *self;
        let ending = cancel.for_a_part();
        let (ended, endings) = mpsc::channel();
        let taking = Run { reception, settings: of_session, keep: true, hosting, ending: &ending };
        let (served, taken) = thread::scope(|scope| {
            let ending = &ending;
            let serving = scope.spawn(move || {
                let served = caught(|| serve_all(host, offered, beacon, &from_host, &Watching(hosting), ending));
                ending.cancel();
                served
            });
            let taken = caught(|| taking.go_on(scope, &from_reception, beacon, (&ended, &endings)));
            ending.cancel();
            // It knows both halves, which would not end before it. Its pages may have to connect to learn of the end.
            reception.front.lodge.close();
            drop(listener);
            host.abort_all();
            let bug = || TransferError::Bug("the thread that serves the offer is gone".into());
            (serving.join().unwrap_or_else(|_| Err(bug())), taken)
        });
        let taken = taken.map(|mut taken| {
            // Those that came to their end with the run, or were cut short by it.
            for received in endings.try_iter() {
                taken.add(received);
            }
            taken
        });
        (served, taken)
    }
}

/// The one door of a run that offers and takes.
struct Doors {
    host: Arc<Host>,
    reception: Arc<Reception>,
}

impl Gatekeeper for Doors {
    fn link_key(&self, room: Room) -> Option<Key> {
        self.host.link_key(room)
    }

    fn session_secret(&self, id: SessionId) -> Option<SessionSecret> {
        self.host.session_secret(id)
    }

    fn take_code_try(&self) -> Option<Code> {
        self.host.take_code_try()
    }

    fn code_proven(&self, code: &Code) -> bool {
        self.host.code_proven(code)
    }

    fn code_failed(&self, code: &Code) {
        self.host.code_failed(code);
    }

    fn code_untold(&self, code: &Code) {
        self.host.code_untold(code);
    }

    fn admit(&self, lane: Lane, intro: LaneIntro) {
        match (intro.purpose, intro.who) {
            (Purpose::Push, _) => self.reception.admit(lane, intro),
            (Purpose::Data, Who::Session(id)) if self.reception.has(id) => self.reception.admit(lane, intro),
            (Purpose::Control, _) => self.host.admit(lane, intro),
            (Purpose::Data, Who::Session(id)) if self.host.has(id) => self.host.admit(lane, intro),
            // Of a session of an earlier run: only its control lane says which way its files go, and opens others.
            (Purpose::Data, _) => {}
        }
    }

    fn takes_guests(&self) -> bool {
        self.host.takes_guests()
    }

    fn takes_tls_guests(&self) -> bool {
        self.host.takes_tls_guests()
    }

    fn visit(&self, guest: Guest) {
        self.host.visit(guest);
    }

    fn observe(&self, event: ListenerEvent) {
        self.host.observe(event);
    }
}

/// Watches the half that offers for whoever watches the run.
struct Watching<'h>(&'h dyn Hosting);

impl Observer for Watching<'_> {
    fn event(&self, event: &Event) {
        self.0.event(event);
    }

    fn accept(&self, _: &OfferSummary) -> Decision {
        Decision::Refuse
    }
}
