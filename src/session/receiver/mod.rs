//! The side that wants file data: asks, checks, and decides what is done.

mod changed;
mod claims;
mod event;
mod fetch;
mod files;
mod lane;
mod liveness;
mod older;
mod schedule;
mod seal;
mod wishes;

pub use event::{Input, Output, Plan, Verdict};

use super::{End, LaneId, LaneRole, PeerFault};
use crate::digest::{ListingDigest, ManifestId};
use crate::manifest::{EntryIndex, Listing, ListingBuilder};
use crate::wire::{FEATURE_OUTLINES, Message, Piece, SessionGrant, VERSION};
use fetch::Fetch;
use lane::{Answer, Lane};
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// What a receiver is told when it is made.
#[derive(Clone, Debug)]
pub struct ReceiverSettings {
    /// Data lanes that this side wants.
    pub lanes: u16,
    /// What further lanes of the session prove, where the sender connected. Nothing where this side did: then the sender
    /// says it.
    pub grant: Option<SessionGrant>,
    /// Optional features that this side offers, of [`FEATURES`](crate::wire::FEATURES).
    pub features: u32,
}

/// The receiving state machine. See the [module](super) for its contract.
#[derive(Debug)]
pub struct Receiver {
    settings: ReceiverSettings,
    state: State,
    lanes: BTreeMap<LaneId, Lane>,
    outputs: VecDeque<Output>,
    /// Bytes a second that all data lanes together are to bring at most.
    limit: Option<NonZeroU64>,
    /// Whether there ever was one, which the sender may know.
    was_limited: bool,
    /// Optional features that both ends have, as the sender said last.
    features: u32,
}

/// What the session waits for; each variant owns what is valid then.
#[derive(Debug)]
enum State {
    /// `Welcome`, before anything is known.
    Greeting,
    /// The next listing pages.
    Listing { builder: Box<ListingBuilder>, announced: ListingDigest, next_page: u32 },
    /// The user's word.
    Deciding { listing: Arc<Listing> },
    /// Hashes, chunks and the disk.
    Fetching(Box<Fetch>),
    /// Nothing more.
    Ended { listing: Option<Arc<Listing>>, manifest: Option<ManifestId> },
}

impl Receiver {
    /// A session that has no lane.
    pub fn new(settings: ReceiverSettings) -> Self {
        Self {
            settings,
            state: State::Greeting,
            lanes: BTreeMap::new(),
            outputs: VecDeque::new(),
            limit: None,
            was_limited: false,
            features: 0,
        }
    }

    /// The listing, once it is complete.
    pub fn listing(&self) -> Option<&Arc<Listing>> {
        match &self.state {
            State::Deciding { listing } => Some(listing),
            State::Fetching(fetch) => Some(fetch.listing()),
            State::Ended { listing, .. } => listing.as_ref(),
            State::Greeting | State::Listing { .. } => None,
        }
    }

    /// The manifest's id, once both sides agree on it.
    pub fn manifest(&self) -> Option<ManifestId> {
        match &self.state {
            State::Fetching(fetch) => fetch.manifest(),
            State::Ended { manifest, .. } => *manifest,
            _ => None,
        }
    }

    /// Whether the root of every file is known, so that the seal leaves none out.
    pub fn seals_everything(&self) -> bool {
        matches!(&self.state, State::Fetching(fetch) if fetch.without_root().is_empty())
    }

    /// Chunks from the first one on whose hashes came, or are not needed.
    pub fn hashes_known(&self) -> u64 {
        if let State::Fetching(fetch) = &self.state { fetch.pages.next() } else { 0 }
    }

    /// Whether every file is published or given up, so that all that is left is to tell the sender.
    pub fn has_everything(&self) -> bool {
        matches!(&self.state, State::Fetching(fetch) if fetch.is_done())
    }

    /// Whether further bytes of the entry are of use.
    pub fn wants(&self, entry: EntryIndex) -> bool {
        matches!(&self.state, State::Fetching(fetch) if fetch.files.takes_chunks(entry))
    }

    /// Takes what happened at `now`. After the end, nothing has an effect.
    pub fn handle(&mut self, now: Duration, input: Input) {
        if matches!(self.state, State::Ended { .. }) {
            return;
        }
        if let Err(fault) = self.take(now, input) {
            self.refuse(fault);
        }
    }

    /// The next thing to do, or `None` until more happens.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether the lane owes a frame, so that reading from it does not wait in vain.
    pub fn is_owed(&self, lane: LaneId) -> bool {
        self.lanes.get(&lane).is_some_and(Lane::owes)
    }

    /// When a `Tick` is due, if nothing else happens before: the first moment at which a silent lane is dead, an idle one
    /// is asked for a sign of life, or a stalled one's work is given to an idle one.
    pub fn wake(&self) -> Option<Duration> {
        let due = self.lanes.values().filter_map(|lane| lane.dead_at().or(self.ping_at(lane)));
        due.chain(self.stalled_at()).min()
    }

    /// The last moment at which the host was heard, where a lane owes a frame; nothing where none does.
    pub fn heard_last(&self) -> Option<Duration> {
        self.lanes.values().find(|lane| lane.owes())?;
        let telling = self.lanes.values().filter(|lane| lane.owes() || lane.role() == LaneRole::Control);
        telling.map(Lane::last_heard).max()
    }

    fn take(&mut self, now: Duration, input: Input) -> Result<(), PeerFault> {
        match input {
            Input::LaneOpened { lane, role } => self.open_lane(now, lane, role),
            Input::LaneLost { lane, held } => self.lose_lane(lane, held),
            Input::Heard { lane } => {
                if let Some(lane) = self.lanes.get_mut(&lane) {
                    lane.heard(now);
                }
            }
            Input::Doubted => self.ping_idle_lanes(Duration::MAX, now),
            Input::Message { lane, message } => self.take_message(now, lane, message)?,
            Input::PieceArrived { lane, piece } => self.take_piece(now, lane, piece)?,
            Input::Accepted(plans) => self.accept(&plans),
            Input::Declined => self.end_with(crate::wire::Refusal::Declined, End::Declined),
            Input::Taken => self.end_with(crate::wire::Refusal::Taken, End::Declined),
            Input::LanesLacking { lanes } => self.ask_for_lanes(lanes),
            Input::Limit { rate } => self.set_limit(rate),
            Input::Tick => {
                self.close_silent_lanes(now);
                self.ping_idle_lanes(now, now);
            }
            disk => {
                if let State::Fetching(fetch) = &mut self.state {
                    fetch.take_disk(disk, &mut self.lanes, &mut self.outputs);
                }
            }
        }
        if let State::Fetching(fetch) = &mut self.state {
            fetch.pump(now, self.limit, &mut self.lanes, &mut self.outputs);
            self.take_over(now);
        }
        Ok(())
    }

    fn open_lane(&mut self, now: Duration, lane: LaneId, role: LaneRole) {
        let rate = if let State::Fetching(fetch) = &self.state { fetch.rate } else { 0.0 };
        self.lanes.insert(lane, Lane::new(role, rate));
        if role == LaneRole::Control {
            let features = self.settings.features;
            self.ask(now, lane, Answer::Welcome, Message::Hello { version: VERSION, features });
            if let Some(grant) = self.settings.grant.clone() {
                self.outputs.push_back(Output::Send { lane, message: Message::Grant { grant } });
            }
        }
    }

    fn lose_lane(&mut self, lane: LaneId, held: Option<(u64, u64)>) {
        let Some(lost) = self.lanes.remove(&lane) else { return };
        match &mut self.state {
            State::Fetching(fetch) => fetch.lose_lane(&lost, held),
            // A listing under way starts again: the sender may have listed anew.
            State::Listing { .. } if lost.role() == LaneRole::Control => self.state = State::Greeting,
            _ => {}
        }
    }

    fn take_message(&mut self, now: Duration, id: LaneId, message: Message) -> Result<(), PeerFault> {
        // A message may still come from a lane that was given up.
        let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.is_closing()) else { return Ok(()) };
        lane.heard(now);
        match message {
            Message::Working => return lane.owes().then_some(()).ok_or(PeerFault::OutOfTurn("Working")),
            // The host lost sight of this session: it is found again over a new control lane.
            Message::Refused { .. } if lane.role() == LaneRole::Data => {
                self.give_up_with_control(id);
                return Ok(());
            }
            Message::Refused { refusal } => {
                self.end(End::Refused(refusal));
                return Ok(());
            }
            Message::Ping { token } => {
                self.outputs.push_back(Output::Send { lane: id, message: Message::Pong { token } });
                return Ok(());
            }
            _ => {}
        }
        if let (Message::SourceChanged { entry, change }, LaneRole::Data, State::Fetching(fetch)) =
            (&message, lane.role(), &mut self.state)
        {
            return fetch.source_changed(lane, EntryIndex(*entry), *change, &mut self.outputs);
        }
        if lane.role() == LaneRole::Data {
            return Err(PeerFault::OutOfTurn("a message on a data lane"));
        }
        lane.answered(&message)?;
        match message {
            Message::Welcome { version, features, grant, lanes, listing } => {
                if version == 0 || version > VERSION || features & !self.settings.features != 0 {
                    return Err(PeerFault::Version);
                }
                if lanes == 0 {
                    return Err(PeerFault::NoLanes);
                }
                if self.settings.grant.is_some() != (grant == SessionGrant::NONE) {
                    return Err(PeerFault::Grant);
                }
                self.features = features;
                self.welcome(now, id, grant, lanes, listing)
            }
            Message::Pong { .. } => Ok(()),
            Message::ListingPage { page, entries, totals } => self.take_listing_page(now, id, page, &entries, totals),
            control => match &mut self.state {
                State::Fetching(fetch) => match fetch.take_control(control, &mut self.outputs)? {
                    Some(end) => {
                        self.end(end);
                        Ok(())
                    }
                    None => Ok(()),
                },
                _ => Err(PeerFault::OutOfTurn("an answer to no request")),
            },
        }
    }

    fn welcome(
        &mut self,
        now: Duration,
        lane: LaneId,
        grant: SessionGrant,
        lanes: u16,
        announced: ListingDigest,
    ) -> Result<(), PeerFault> {
        match &self.state {
            State::Greeting => {
                self.state = State::Listing { builder: Box::default(), announced, next_page: 0 };
                self.ask(now, lane, Answer::ListingPage, Message::ListingRequest { page: 0 });
            }
            State::Listing { .. } => return Err(PeerFault::OutOfTurn("Welcome")),
            State::Deciding { listing } if listing.digest() == announced => {}
            State::Fetching(_) if self.listing().is_some_and(|listing| listing.digest() == announced) => {
                self.note_outlines();
            }
            // What was accepted is frozen; another listing is another offer. Whoever made the first one is not to be told
            // any more.
            _ => {
                let is_done = self.has_everything();
                self.end(if is_done { End::Complete } else { End::OfferChanged });
                return Ok(());
            }
        }
        let lanes = lanes.min(self.settings.lanes);
        let grant = self.settings.grant.clone().unwrap_or(grant);
        self.outputs.push_back(Output::Granted { grant, lanes });
        if let Some(welcomed) = self.lanes.get_mut(&lane) {
            welcomed.welcome();
        }
        self.tell_limit(lane);
        Ok(())
    }

    fn take_listing_page(
        &mut self,
        now: Duration,
        lane: LaneId,
        page: u32,
        entries: &[crate::wire::WireEntry],
        last: Option<crate::wire::WireTotals>,
    ) -> Result<(), PeerFault> {
        let State::Listing { builder, announced, next_page } = &mut self.state else {
            return Err(PeerFault::OutOfTurn("ListingPage"));
        };
        if page != *next_page || (entries.is_empty() && last.is_none()) {
            return Err(PeerFault::ListingPage);
        }
        *next_page += 1;
        for entry in entries {
            builder.push(entry.check()?).map_err(PeerFault::Listing)?;
        }
        let Some(totals) = last else {
            let page = *next_page;
            self.ask(now, lane, Answer::ListingPage, Message::ListingRequest { page });
            return Ok(());
        };
        let listing = std::mem::take(builder).finish(totals.into()).map_err(PeerFault::Listing)?;
        if listing.digest() != *announced {
            return Err(PeerFault::ListingDigest);
        }
        self.state = State::Deciding { listing: Arc::new(listing) };
        self.outputs.push_back(Output::Offered);
        Ok(())
    }

    /// The sender that came back may be another program.
    fn note_outlines(&mut self) {
        if let State::Fetching(fetch) = &mut self.state {
            fetch.takes_outlines = self.features & FEATURE_OUTLINES != 0;
            if !fetch.takes_outlines {
                fetch.forgo_outlines(&mut self.outputs);
            }
        }
    }

    fn accept(&mut self, plans: &[Plan]) {
        let takes_outlines = self.features & FEATURE_OUTLINES != 0;
        self.state = match std::mem::replace(&mut self.state, State::Greeting) {
            State::Deciding { listing } => State::Fetching(Box::new(Fetch::new(listing, plans, takes_outlines))),
            other => other,
        };
    }

    fn take_piece(&mut self, now: Duration, id: LaneId, piece: Piece) -> Result<(), PeerFault> {
        let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.is_closing()) else { return Ok(()) };
        let State::Fetching(fetch) = &mut self.state else { return Err(PeerFault::Piece) };
        let (place, last) = lane.take_piece(now, piece, fetch.listing())?;
        self.outputs.push_back(Output::Place { lane: id, place, piece, last });
        Ok(())
    }

    fn ask(&mut self, now: Duration, id: LaneId, answer: Answer, message: Message) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.asked(now, answer);
            self.outputs.push_back(Output::Send { lane: id, message });
        }
    }

    fn refuse(&mut self, fault: PeerFault) {
        self.end_with(crate::wire::Refusal::Protocol, End::PeerFault(fault));
    }

    fn end_with(&mut self, refusal: crate::wire::Refusal, end: End) {
        let control = self.lanes.iter().find(|(_, lane)| lane.role() == LaneRole::Control);
        if let Some((&lane, _)) = control {
            self.outputs.push_back(Output::Send { lane, message: Message::Refused { refusal } });
        }
        self.end(end);
    }

    fn end(&mut self, end: End) {
        let manifest = match &self.state {
            State::Fetching(fetch) => fetch.manifest(),
            _ => None,
        };
        self.state = State::Ended { listing: self.listing().cloned(), manifest };
        self.outputs.push_back(Output::End(end));
    }
}
