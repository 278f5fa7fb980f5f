//! Sending: offer, listen, serve until somebody has everything.

use super::beacon::Beacon;
use super::codes::{CodeKeeper, CodeNews};
use super::crowd::{Answer, Crowd};
use super::door;
use super::host::{Host, HostEvent};
use super::offer::{Offer, do_here};
use super::pages::{Lodge, OpenPages, Premises};
use super::panics::caught;
use super::serve::Served;
use super::shelf::Shelf;
use super::state::OfferState;
use super::{Cancel, Event, Observer, Phase, Progress, SendSettings, Summary, TransferError};
use crate::limits::DATA_LANES_MAX;
use crate::printable::printable;
use crate::secret::Code;
use crate::session::End;
use crate::source::{Source, SourceError, Walk, WalkOptions, offer_id};
use crate::transport::ListenerEvent;
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
    observer.event(&Event::Phase(Phase::Scanning));
    let options = WalkOptions {
        filter: settings.filter.clone(),
        hash_cache: settings.cache_dir.clone(),
        stop: Some(cancel.flag()),
        symlinks: settings.symlinks,
        attributes: settings.attributes,
        ..WalkOptions::default()
    };
    let walk = Source::walk(&settings.paths, &options).map_err(source_failure)?;
    let left_out = tell_notices(&walk, observer);
    let id = offer_id(&settings.paths, &settings.filter).map_err(source_failure)?;
    let state = OfferState::load(settings.state_dir.as_deref(), &id)?;
    let offer = Arc::new(Offer::new(walk)?);
    let (events, inbox) = mpsc::channel();
    let sockets = door::sockets(settings.bind, state.port);
    let codes = if settings.no_code { Ok(CodeKeeper::without()) } else { CodeKeeper::new(None) };
    let codes = codes.map_err(|error| TransferError::Network(error.into()))?;
    let host = Host::new(Arc::clone(&offer), state, codes, settings.lanes.unwrap_or(DATA_LANES_MAX), events);
    let host = Arc::new(host.asking_each(settings.ask_each).compressing(settings.compress));
    host.company.limit.set(settings.limit);
    let listener = door::open(&sockets, &(Arc::clone(&host) as _))?;
    let port = listener.address().port();
    if let Err(error) = host.state.save(port) {
        let text = format!("the link cannot be kept for a later run: {error}");
        observer.event(&Event::Notice { text });
    }
    let link = door::link(listener.address(), settings.address, &host.state)?;
    let premises = Premises {
        link: link.clone(),
        bound: listener.address(),
        shelf: Some(Shelf::new(Arc::clone(&host))),
        inbox: None,
        gatekeeper: Arc::clone(&host) as _,
    };
    open_pages(&host.lodge, settings.pages, premises, &|event| observer.event(event));
    let mut beacon = Beacon::open(settings.announce, listener.address(), host.codes.number());
    let totals = offer.listing.totals();
    let (files, folders) = (u64::from(totals.files), u64::from(totals.folders));
    let code = host.codes.code().map(|code| code.to_text());
    observer.event(&Event::OfferReady { link: link.to_text(), code, files, folders, bytes: totals.bytes });
    observer.event(&Event::Phase(Phase::Waiting));
    let outcome = caught(|| run(&host, settings, &mut beacon, &inbox, observer, cancel));
    drop((beacon, listener));
    // It knows the host, which would not end before it.
    host.lodge.close();
    host.abort_all();
    let failed = outcome?;
    let mut summary = summary(&host, began, cancel);
    summary.ok = failed == 0 && left_out == 0;
    if summary.ok {
        Ok(summary)
    } else {
        Err(TransferError::Partial { failed: u64::from(failed) + left_out, total: files + left_out })
    }
}

/// Lets browsers in, where they are wanted and can be served.
pub(super) fn open_pages(lodge: &Lodge, open: Option<OpenPages>, premises: Premises, tell: &dyn Fn(&Event)) {
    match open.map(|open| open(premises)) {
        None => {}
        Some(Ok(pages)) => lodge.open(pages),
        Some(Err(error)) => tell(&Event::Notice { text: format!("browsers are not served: {error}") }),
    }
}

/// Waits until a receiver has everything, and returns how many files failed there.
fn run(
    host: &Host,
    settings: &SendSettings,
    beacon: &mut Beacon,
    inbox: &mpsc::Receiver<HostEvent>,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<u32, TransferError> {
    let mut crowd = Crowd::new(host, observer);
    let mut told = Instant::now();
    loop {
        if cancel.is_cancelled() {
            return if settings.keep { Ok(0) } else { Err(TransferError::Interrupted) };
        }
        for order in settings.controls.take() {
            let may_need_code = match crowd.obey(order) {
                Some(Answer::LetIn) => settings.keep,
                Some(Answer::TurnedAway) => true,
                None => false,
            };
            if may_need_code && let Some(news) = host.codes.renew() {
                tell_code(news, beacon, observer);
            }
        }
        // By the clock, not where nothing else happens: receivers may come and go all the time.
        if told.elapsed() >= TURN {
            told = Instant::now();
            observer.event(&Event::Progress(progress(host)));
            crowd.tell(told);
            if host.codes.code().is_none() {
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
        if let Some(failed) = take(host, event, &mut crowd, beacon, observer)
            && !settings.keep
        {
            return Ok(failed);
        }
        if may_need_code && let Some(news) = host.codes.renew() {
            tell_code(news, beacon, observer);
        }
    }
}

/// Tells what happened at the host. Where a receiver has everything, returns how many files failed there.
fn take(
    host: &Host,
    event: HostEvent,
    crowd: &mut Crowd<'_>,
    beacon: &mut Beacon,
    observer: &dyn Observer,
) -> Option<u32> {
    match event {
        HostEvent::Browser => observer.event(&Event::Notice { text: BROWSER_TEXT.into() }),
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

/// What the page's encryption is worth.
pub(super) const BROWSER_TEXT: &str = "a browser opened the link: its page is encrypted against whoever listens on this network, \
                                       not against whoever alters its traffic; what the browser downloads outside of the \
                                       page is not encrypted";

fn tell_code(news: CodeNews, beacon: &mut Beacon, observer: &dyn Observer) {
    observer.event(&code_changed(news, beacon));
}

/// Announces the number of the code that is shown from here on, and says which one that is.
pub(super) fn code_changed(CodeNews { code, why }: CodeNews, beacon: &mut Beacon) -> Event {
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
    let class = match &error {
        SourceError::Stopped => return TransferError::Interrupted,
        SourceError::AllLeftOut { .. } => return TransferError::NothingToSend(error.into()),
        SourceError::Changed { .. } | SourceError::Vanished { .. } => return TransferError::SourceChanged { files: 1 },
        _ => "cannot offer what was asked for",
    };
    TransferError::Io { what: class.into(), cause: error.into() }
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
            Some(format!("{peer} tried a wrong code ({count} wrong tries so far)"))
        }
        ListenerEvent::NotHaul { peer } => Some(format!("{peer} connected without speaking haul's protocol")),
        ListenerEvent::OutOfResources => Some("this machine is out of descriptors or threads; waiting for some".into()),
        _ => None,
    }
}
