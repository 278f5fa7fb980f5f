//! Sending: offer, listen, serve until somebody has everything.

use super::beacon::Beacon;
use super::codes::CodeNews;
use super::crowd::{Answer, Crowd};
use super::door::{self, Wanted};
use super::front::Front;
use super::host::{Host, HostEvent};
use super::offer::{Offer, do_here};
use super::pages::{Lodge, OpenPages, Premises};
use super::panics::caught;
use super::serve::Served;
use super::shelf::Shelf;
use super::state::OfferState;
use super::{Cancel, Event, Observer, Phase, Progress, SendSettings, Summary, TransferError};
use crate::limits::{DATA_LANES_MAX, KEPT_BYTES_MAX};
use crate::printable::printable;
use crate::secret::{Code, Link};
use crate::session::End;
use crate::source::{Source, SourceError, Walk, WalkOptions, offer_id};
use crate::transport::{Gatekeeper, ListenerEvent};
use crate::wire::Refusal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often progress is told and a request to stop is noticed.
const TURN: Duration = Duration::from_millis(100);

/// Offers files and folders until one receiver has everything; with `keep`, until it is cancelled.
pub fn send(settings: &SendSettings, observer: &dyn Observer, cancel: &Cancel) -> Result<Summary, TransferError> {
    caught(|| offer(settings, observer, cancel))
}

fn offer(settings: &SendSettings, observer: &dyn Observer, cancel: &Cancel) -> Result<Summary, TransferError> {
    let began = Instant::now();
    let Found { offer, left_out, id } = Found::look(settings, observer, cancel)?;
    let state = OfferState::load(settings.state_dir.as_deref(), &id)?;
    let (events, inbox) = mpsc::channel();
    let front = Arc::new(Front::new(state, settings.no_code)?);
    let host = open_host(settings, &offer, &front, events);
    let gatekeeper: Arc<dyn Gatekeeper> = Arc::clone(&host) as _;
    let tell = |event: &Event| observer.event(event);
    let (listener, link) = door::open_front(&front, &Wanted::of_offer(settings), &gatekeeper, &tell)?;
    let shelf = Some(Shelf::new(Arc::clone(&host)));
    let (tls, bound) = (door::identity(&link, settings.state_dir.as_deref()), listener.address());
    let premises = Premises { link: link.clone(), bound, tls, shelf, inbox: None, gatekeeper };
    open_pages(&front.lodge, settings.pages, premises, &tell);
    let beacon = Beacon::open(settings.announce, listener.address(), front.codes.number());
    tell(&ready(&front, &offer, &link));
    tell_certificate(&front.lodge, &tell);
    tell(&Event::Phase(Phase::Waiting));
    let outcome = caught(|| run(&host, settings, &beacon, &inbox, observer, cancel));
    drop((beacon, listener));
    // It knows the host, which would not end before it.
    front.lodge.close();
    host.abort_all();
    let Ended { failed, receivers } = outcome?;
    let mut summary = summary(&host, began, cancel);
    summary.receivers = settings.keep.then_some(receivers);
    summary.ok = failed == 0 && left_out == 0;
    let files = u64::from(offer.listing.totals().files);
    if summary.ok {
        Ok(summary)
    } else {
        Err(TransferError::Partial { failed: u64::from(failed) + left_out, total: files + left_out })
    }
}

/// What there is to offer.
pub(super) struct Found {
    pub(super) offer: Arc<Offer>,
    /// Entries that cannot be offered.
    pub(super) left_out: u64,
    /// Names the paths and what is chosen of them, the same in every run.
    pub(super) id: [u8; 32],
}

impl Found {
    /// Walks over what the settings name.
    pub(super) fn look(
        settings: &SendSettings,
        observer: &dyn Observer,
        cancel: &Cancel,
    ) -> Result<Self, TransferError> {
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
        let id = offer_id(&settings.paths, &settings.filter).map_err(source_failure)?;
        Ok(Self { offer: Arc::new(Offer::new(walk)?), left_out, id })
    }
}

/// The host of `offer`, by the settings' rules.
pub(super) fn open_host(
    settings: &SendSettings,
    offer: &Arc<Offer>,
    front: &Arc<Front>,
    events: mpsc::Sender<HostEvent>,
) -> Arc<Host> {
    let lanes = settings.lanes.unwrap_or(DATA_LANES_MAX);
    let host = Host::new(Arc::clone(offer), Arc::clone(front), lanes, events);
    let host = host.asking_each(settings.ask_each).compressing(settings.compress);
    host.company.limit.set(settings.limit);
    Arc::new(host)
}

/// Tells that the offer can be reached.
pub(super) fn ready(front: &Front, offer: &Offer, link: &Link) -> Event {
    let totals = offer.listing.totals();
    let (files, folders) = (u64::from(totals.files), u64::from(totals.folders));
    let code = front.codes.code().map(|code| code.to_text());
    Event::OfferReady { link: link.to_text(), code, files, folders, bytes: totals.bytes }
}

/// Lets browsers in, where they are wanted and can be served.
pub(super) fn open_pages(lodge: &Lodge, open: Option<OpenPages>, premises: Premises, tell: &dyn Fn(&Event)) {
    match open.map(|open| open(premises)) {
        None => {}
        Some(Ok(pages)) => lodge.open(pages),
        Some(Err(error)) => tell(&Event::Notice { text: format!("browsers are not served: {error}") }),
    }
}

/// Tells what browsers see of this run, where they are served over TLS.
pub(super) fn tell_certificate(lodge: &Lodge, tell: &dyn Fn(&Event)) {
    if let Some(fingerprint) = lodge.fingerprint() {
        tell(&Event::Certificate { fingerprint });
    }
}

/// How an offer ended.
pub(super) struct Ended {
    /// Files that failed at its only receiver.
    failed: u32,
    /// Receivers that have everything that did not fail.
    pub(super) receivers: u64,
}

/// Waits until a receiver has everything, or until an offer that is kept is stopped.
pub(super) fn run(
    host: &Host,
    settings: &SendSettings,
    beacon: &Beacon,
    inbox: &mpsc::Receiver<HostEvent>,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Ended, TransferError> {
    let mut crowd = Crowd::new(host, observer);
    let mut receivers = 0;
    let mut told = Instant::now();
    loop {
        if cancel.is_cancelled() {
            return if settings.keep { Ok(Ended { failed: 0, receivers }) } else { Err(TransferError::Interrupted) };
        }
        for order in settings.controls.take() {
            let may_need_code = match crowd.obey(order) {
                Some(Answer::LetIn) => settings.keep,
                Some(Answer::TurnedAway) => true,
                None => false,
            };
            if may_need_code && let Some(news) = host.front.codes.renew() {
                tell_code(news, beacon, observer);
            }
        }
        // By the clock, not where nothing else happens: receivers may come and go all the time.
        if told.elapsed() >= TURN {
            told = Instant::now();
            observer.event(&Event::Progress(progress(host)));
            crowd.tell(told);
            if host.front.codes.code().is_none() {
                beacon.hide_number();
            }
            if let Some(text) = beacon.news() {
                observer.event(&Event::Notice { text });
            }
        }
        let event = match inbox.recv_timeout(TURN.saturating_sub(told.elapsed())) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Err(TransferError::Interrupted),
        };
        let may_need_code = match &event {
            // For the next one.
            HostEvent::Connected { .. } => settings.keep,
            HostEvent::Served { .. } | HostEvent::Panicked { .. } => true,
            _ => false,
        };
        if let Some(failed) = take(host, event, &mut crowd, beacon, observer) {
            receivers += 1;
            if !settings.keep {
                return Ok(Ended { failed, receivers });
            }
        }
        if may_need_code && let Some(news) = host.front.codes.renew() {
            tell_code(news, beacon, observer);
        }
    }
}

/// Tells what happened at the host. Where a receiver has everything, returns how many files failed there.
fn take(host: &Host, event: HostEvent, crowd: &mut Crowd<'_>, beacon: &Beacon, observer: &dyn Observer) -> Option<u32> {
    match event {
        HostEvent::Browser => observer.event(&browser_came(&host.front.lodge)),
        HostEvent::Code(news) => tell_code(news, beacon, observer),
        HostEvent::Asks { session, peer } => observer.event(&Event::PeerAsks { peer, session }),
        HostEvent::Connected { session, peer } => {
            observer.event(&Event::PeerConnected { peer, session });
            crowd.connected(session);
        }
        HostEvent::Served { session: served, served: Served::Ended(End::Complete, failed) } => {
            let (session, bytes) = (served.number, served.own.piece_bytes.load(Ordering::Relaxed));
            observer.event(&Event::Progress(progress(host)));
            crowd.tell_last(session, &served.own);
            observer.event(&Event::PeerFinished { session, ok: failed == 0, bytes });
            crowd.disconnected(session);
            return Some(failed);
        }
        HostEvent::Served { session, served } => {
            let session = session.number;
            if let Served::Ended(end, _) = &served {
                observer.event(&Event::Notice { text: ended_text(end) });
            }
            observer.event(&Event::PeerLost { session });
            crowd.disconnected(session);
        }
        HostEvent::Panicked { session, error } => {
            observer.event(&Event::Notice { text: panicked_text(&error) });
            observer.event(&Event::PeerLost { session });
            crowd.disconnected(session);
        }
        HostEvent::Stranger(event) => {
            if let Some(text) = stranger_text(event) {
                observer.event(&Event::Notice { text });
            }
        }
        HostEvent::TurnedAway { peer } => {
            let ip = peer.ip().to_canonical();
            let text = format!("somebody came from {ip}, whose receiver you disconnected, and was refused");
            observer.event(&Event::Notice { text });
        }
    }
    None
}

/// Tells that a browser came, and what its page's encryption is worth.
pub(super) fn browser_came(lodge: &Lodge) -> Event {
    Event::Notice { text: if lodge.is_tls() { BROWSER_TEXT_TLS } else { BROWSER_TEXT }.into() }
}

const BROWSER_TEXT_TLS: &str = "a browser opened the link over HTTPS: whoever alters this network's traffic is kept out only \
                                if its user compared the certificate's fingerprint with the one that is shown here";
const BROWSER_TEXT: &str = "a browser opened the link: its page is encrypted against whoever listens on this network, \
                                       not against whoever alters its traffic; what the browser downloads outside of the \
                                       page is not encrypted";

fn tell_code(news: CodeNews, beacon: &Beacon, observer: &dyn Observer) {
    observer.event(&code_changed(news, beacon));
}

/// Announces the number of the code that is shown from here on, and says which one that is.
pub(super) fn code_changed(CodeNews { code, why }: CodeNews, beacon: &Beacon) -> Event {
    beacon.set_number(code.as_ref().map(Code::number));
    Event::CodeChanged { code: code.map(|code| code.to_text()), why }
}

fn progress(host: &Host) -> Progress {
    let totals = host.offer.listing.totals();
    let sent = host.counters.piece_bytes.load(Ordering::Relaxed);
    Progress {
        bytes_total: totals.bytes,
        bytes_done: sent.min(totals.bytes),
        bytes_fetched: sent,
        wire_bytes: host.counters.wire_bytes.load(Ordering::Relaxed),
        files_total: u64::from(totals.files),
        ..Progress::default()
    }
}

fn summary(host: &Host, began: Instant, cancel: &Cancel) -> Summary {
    let totals = host.offer.listing.totals();
    let mut files = host.offer.listing.files();
    let only = files.next().filter(|_| files.next().is_none());
    let root = match only {
        // Whoever stops an offer does not wait until all of it is hashed.
        _ if cancel.is_cancelled() && !host.offer.is_hashed() => None,
        Some(entry) => {
            let Ok(root) = host.offer.root(entry, &mut |chore| do_here(&host.offer, chore));
            root.ok().map(|root| root.to_string())
        }
        None => {
            let Ok(id) = host.offer.seal(&[], &mut |chore| do_here(&host.offer, chore));
            id.ok().map(|id| id.to_string())
        }
    };
    Summary {
        files: u64::from(totals.files),
        bytes: totals.bytes,
        bytes_fetched: host.counters.piece_bytes.load(Ordering::Relaxed),
        wire_bytes: host.counters.wire_bytes.load(Ordering::Relaxed),
        seconds: began.elapsed().as_secs_f64(),
        root,
        ..Summary::default()
    }
}

pub(super) fn tell_notices(walk: &Walk, observer: &dyn Observer) -> u64 {
    for notice in &walk.notices {
        observer.event(&Event::Notice { text: notice.to_string() });
    }
    if walk.notices_untold > 0 {
        observer.event(&Event::Notice { text: format!("and {} more like these", walk.notices_untold) });
    }
    if !walk.left_out.is_empty() {
        observer.event(&Event::LeftOut(walk.left_out.clone()));
    }
    walk.failures
}

pub(super) fn source_failure(error: SourceError) -> TransferError {
    match &error {
        SourceError::Stopped => TransferError::Interrupted,
        SourceError::AllLeftOut { .. } => TransferError::NothingToSend(error.into()),
        SourceError::Changed { .. } | SourceError::Vanished { .. } => TransferError::SourceChanged { files: 1 },
        _ => TransferError::NotOffered(error.into()),
    }
}

/// What it said is printable: this program wrote it, but it may quote a name.
pub(super) fn panicked_text(error: &TransferError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("a receiver's session ended, the others go on: {error}: {}", printable(&cause))
}

fn ended_text(end: &End) -> String {
    match end {
        End::PeerFault(fault) => format!("a receiver broke the protocol: {fault}"),
        End::Refused(Refusal::Declined) => "a receiver declined the offer".into(),
        End::Refused(_) | End::Declined | End::OfferChanged => "a receiver stopped before the end".into(),
        End::Complete => "a receiver has everything".into(),
    }
}

pub(super) fn stranger_text(event: ListenerEvent) -> Option<String> {
    match event {
        ListenerEvent::BadProof { peer, count } => Some(format!("{peer} tried a wrong link ({count} so far)")),
        ListenerEvent::WrongCode { peer, count } => {
            let tries = if count == 1 { "try" } else { "tries" };
            Some(format!("{peer} tried a wrong code ({count} wrong {tries} so far)"))
        }
        ListenerEvent::NotHaul { peer } => Some(format!("{peer} connected without speaking haul's protocol")),
        ListenerEvent::OutOfResources => Some("this machine is out of descriptors or threads; waiting for some".into()),
        _ => None,
    }
}
