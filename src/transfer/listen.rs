//! Listening: senders connect, each in a session of its own, and what they offer arrives in one folder.

use super::beacon::Beacon;
use super::door::{self, Wanted};
use super::front::Front;
use super::inbox::Inbox;
use super::pages::Premises;
use super::panics::caught;
use super::parcel::Parcel;
use super::receive::{Received, receive_visit};
use super::reception::{Reception, ReceptionEvent};
use super::route::Visit;
use super::send::{browser_came, code_changed, open_pages, stranger_text, tell_certificate};
use super::state::{OfferState, folder_id};
use super::{
    Cancel, Decision, Event, HostedSession, Hosting, ListenSettings, Observer, OfferSummary, Phase, ReceiveSettings,
    Summary, TransferError,
};
use crate::printable::printable_path;
use crate::transport::Gatekeeper;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How often a request to stop is noticed.
const TURN: Duration = Duration::from_millis(100);

/// Listens for senders and receives what they push, until one transfer is complete; with `keep`, until it is cancelled.
///
/// Several may push at the same time; each has its own observer, record and partial files.
pub fn listen(settings: &ListenSettings, hosting: &dyn Hosting, cancel: &Cancel) -> Result<Summary, TransferError> {
    caught(|| take_pushes(settings, hosting, cancel))
}

/// What came of all sessions so far.
#[derive(Default)]
pub(super) struct Outcomes {
    pub(super) summary: Summary,
    /// Complete transfers.
    complete: u64,
    /// Sessions that were accepted and stopped before their end.
    pub(super) unfinished: u64,
}

fn take_pushes(settings: &ListenSettings, hosting: &dyn Hosting, cancel: &Cancel) -> Result<Summary, TransferError> {
    let began = Instant::now();
    let unusable = |error: std::io::Error| TransferError::Io {
        what: format!("the folder `{}` cannot be used", printable_path(&settings.into)),
        cause: error.into(),
    };
    let id = folder_id(&settings.into).map_err(unusable)?;
    let state = OfferState::load(settings.state_dir.as_deref(), &id)?;
    let front = Arc::new(Front::new(state, settings.no_code)?);
    let (events, inbox) = mpsc::channel();
    let reception = Arc::new(Reception::new(Arc::clone(&front), events));
    let gatekeeper: Arc<dyn Gatekeeper> = Arc::clone(&reception) as _;
    let tell = |event: &Event| hosting.event(event);
    let wanted = Wanted { bind: settings.bind, address: settings.address, tls: settings.tls };
    let (listener, link) = door::open_front(&front, &wanted, &gatekeeper, &tell)?;
    let (address, text) = (listener.address(), link.to_text());
    let of_session = session_settings(settings, &text);
    let taken = Inbox::new(Arc::clone(&reception), &link, address);
    let tls = door::identity(&link, settings.state_dir.as_deref());
    let premises = Premises { link: link.clone(), bound: address, tls, shelf: None, inbox: taken, gatekeeper };
    open_pages(&front.lodge, settings.pages, premises, &tell);
    reception.open(link);
    let beacon = Beacon::open(settings.announce, address, front.codes.number());
    let code = front.codes.code().map(|code| code.to_text());
    hosting.event(&Event::Listening { link: text, code });
    tell_certificate(&front.lodge, &tell);
    hosting.event(&Event::Phase(Phase::Waiting));
    let ending = cancel.for_a_part();
    let (ended, endings) = mpsc::channel();
    let run = Run { reception: &reception, settings: &of_session, keep: settings.keep, hosting, ending: &ending };
    let outcome = thread::scope(|scope| {
        let outcome = caught(|| run.go_on(scope, &inbox, &beacon, (&ended, &endings)));
        ending.cancel();
        // It knows the reception, which would not end before it. Its pages may have to connect to learn of the end.
        front.lodge.close();
        drop((beacon, listener));
        outcome
    });
    let mut outcomes = outcome?;
    // Those that came to their end with the run, or were cut short by it.
    for received in endings.try_iter() {
        outcomes.add(received);
    }
    if outcomes.complete == 0 && !settings.keep || cancel.is_cancelled() && outcomes.unfinished > 0 {
        return Err(TransferError::Interrupted);
    }
    Ok(Summary { seconds: began.elapsed().as_secs_f64(), ..outcomes.summary })
}

/// What all sessions share.
pub(super) struct Run<'r> {
    pub(super) reception: &'r Arc<Reception>,
    pub(super) settings: &'r ReceiveSettings,
    pub(super) keep: bool,
    pub(super) hosting: &'r dyn Hosting,
    pub(super) ending: &'r Cancel,
}

impl<'r> Run<'r> {
    /// Takes what comes, until it is enough or the end is asked for.
    pub(super) fn go_on<'scope>(
        &self,
        scope: &'scope thread::Scope<'scope, '_>,
        inbox: &mpsc::Receiver<ReceptionEvent>,
        beacon: &Beacon,
        (ended, endings): (&mpsc::Sender<Received>, &mpsc::Receiver<Received>),
    ) -> Result<Outcomes, TransferError>
    where
        'r: 'scope,
    {
        let mut outcomes = Outcomes::default();
        loop {
            if self.ending.is_cancelled() {
                return Ok(outcomes);
            }
            for received in endings.try_iter() {
                self.reception.renew_code();
                if received.is_complete && !self.keep {
                    outcomes.complete += 1;
                    outcomes.summary = received.outcome?;
                    return Ok(outcomes);
                }
                outcomes.add(received);
            }
            match inbox.recv_timeout(TURN) {
                Ok(ReceptionEvent::Came { visit, peer }) => {
                    if self.keep {
                        // For the next one.
                        self.reception.renew_code();
                    }
                    let session = self.hosting.session(visit.number, peer);
                    let Self { reception, settings, ending, .. } = *self;
                    let ended = ended.clone();
                    scope.spawn(move || {
                        let received = attend(reception, settings, &visit, &*session, ending);
                        // The run is over where nobody listens any more.
                        let _ = ended.send(received);
                    });
                }
                Ok(ReceptionEvent::Browser) => self.hosting.event(&browser_came(&self.reception.front.lodge)),
                Ok(ReceptionEvent::Code(news)) => self.hosting.event(&code_changed(news, beacon)),
                Ok(ReceptionEvent::Stranger(event)) => {
                    if let Some(text) = stranger_text(event) {
                        self.hosting.event(&Event::Notice { text });
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(text) = beacon.news() {
                        self.hosting.event(&Event::Notice { text });
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(TransferError::Bug("nobody is left to tell of senders".into()));
                }
            }
        }
    }
}

/// Carries one session to its end.
fn attend(
    reception: &Reception,
    settings: &ReceiveSettings,
    visit: &Arc<Visit>,
    session: &dyn HostedSession,
    ending: &Cancel,
) -> Received {
    let watched = Watched { session, parcel: visit.parcel.clone() };
    let received = receive_visit(visit, settings, &watched, ending);
    reception.forget(visit, received.is_complete);
    session.ended(&received.outcome);
    received
}

/// Watches a session for its user, and for the page whose files come, where they do.
struct Watched<'w> {
    session: &'w dyn HostedSession,
    parcel: Option<Arc<Parcel>>,
}

impl Observer for Watched<'_> {
    fn event(&self, event: &Event) {
        if let Some(parcel) = &self.parcel {
            parcel.note(event);
        }
        self.session.event(event);
    }

    fn accept(&self, offer: &OfferSummary) -> Decision {
        self.session.accept(offer)
    }

    fn withdraw(&self) {
        self.session.withdraw();
    }
}

pub(super) fn session_settings(settings: &ListenSettings, link: &zeroize::Zeroizing<String>) -> ReceiveSettings {
    ReceiveSettings {
        invitation: link.clone(),
        at: Vec::new(),
        into: settings.into.clone(),
        conflict: settings.conflict,
        read_back: settings.read_back,
        lanes: settings.lanes,
        retry_for: settings.retry_for,
        wait_for_host: true,
        allow_hidden: settings.allow_hidden,
        state_dir: None,
        resuming: None,
        expect: settings.expect.clone(),
        symlinks: settings.symlinks,
        attributes: settings.attributes,
        compress: settings.compress,
        dry_run: false,
        out: None,
        throttle: settings.throttle.clone(),
    }
}

impl Outcomes {
    pub(super) fn add(&mut self, received: Received) {
        self.complete += u64::from(received.is_complete);
        self.unfinished += u64::from(received.is_accepted && !received.is_complete);
        let Ok(one) = received.outcome else { return };
        let all = &mut self.summary;
        all.files += one.files;
        all.bytes += one.bytes;
        all.bytes_fetched += one.bytes_fetched;
        all.bytes_reused += one.bytes_reused;
        all.wire_bytes += one.wire_bytes;
        all.first_byte_ms = all.first_byte_ms.into_iter().chain(one.first_byte_ms).min();
        all.root = if self.complete == 1 { one.root } else { None };
    }
}
