//! The receiving process of a simulation: drives a `Receiver`, owns its lanes, carries its outputs to the disk.

use super::sim_core::{Core, Event};
use super::sim_net::{Arrival, ConnId, Side};
use super::sim_sender::Around;
use super::sim_shelf::Shelf;
use super::sim_source::Source;
use super::sim_watch::Watch;
use haul::chunk::ChunkIndex;
use haul::chunk_set::ChunkSet;
use haul::digest::{ChunkDigest, FileDigest};
use haul::manifest::{ChunkPlace, Entry, EntryIndex, EntryKind, Timestamp, VerifiedChunk};
use haul::outline::{Moved, Segment};
use haul::rel_path::RelPath;
use haul::session::{End, Input, LaneId, LaneRole, Output, Plan, Receiver, ReceiverSettings};
use haul::wire::{Encoding, FEATURE_OUTLINES, FEATURE_ZSTD, Message, Piece};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The process, and what of it outlives it.
#[derive(Debug)]
pub(crate) struct ReceiverHost<S> {
    pub(crate) run: u32,
    pub(crate) shelf: S,
    pub(crate) watch: Watch,
    pub(crate) end: Option<End>,
    pub(crate) grant: Option<[u8; 16]>,
    pub(crate) session: Receiver,
    pub(super) lanes: BTreeMap<LaneId, HostLane>,
    pub(super) connecting: BTreeMap<ConnId, LaneRole>,
    pub(super) dialling: [u16; 2],
    pub(super) lanes_granted: u16,
    pub(super) plans: Vec<Plan>,
    /// What moved in files that are open, by their outlines.
    pub(super) moved: BTreeMap<EntryIndex, Moved>,
    /// Whether this process told a sender that it is done.
    pub(crate) has_told_done: bool,
    pub(super) on_conflict: OnConflict,
    /// Whether it waits for the sender to connect, from when on, and which session that has.
    pub(crate) is_visited: bool,
    pub(super) listens_from: Duration,
    pub(super) visit: Option<[u8; 16]>,
    /// Since when the sender has no control lane.
    pub(super) gone_since: Option<Duration>,
    /// What `Place` is for.
    pub(super) arriving: Option<(Encoding, Vec<u8>)>,
}

/// What is done where a name is taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OnConflict {
    Keep,
    Overwrite,
    Skip,
}

#[derive(Debug)]
pub(super) struct HostLane {
    pub(super) role: LaneRole,
    pub(super) inbox: VecDeque<Arrival>,
    pub(super) thread: LaneThread,
    pub(super) is_closing: bool,
    /// The chunk under way and how many of its bytes lie in their place.
    pub(super) landing: Option<(u64, u64)>,
}

/// What a lane's thread does; it reads on when it is done.
#[derive(Debug)]
pub(super) enum LaneThread {
    Reading,
    /// It waits for another lane to let go of the chunk.
    AwaitingLease {
        place: ChunkPlace,
        piece: Piece,
        last: bool,
        payload: (Encoding, Vec<u8>),
        since: Duration,
    },
    /// It hashes a chunk or writes its claim.
    Storing,
}

/// Work that takes time.
#[derive(Clone, Debug)]
pub(crate) enum ReceiverEvent {
    AskForLanes,
    Watch,
    ChunkClaimed { lane: LaneId, chunk: u64, proof: VerifiedChunk },
    ChunkHashed { lane: LaneId, chunk: u64 },
    ClaimsChecked { entry: EntryIndex, chunks: Vec<(ChunkIndex, ChunkDigest)> },
    Compared { entry: EntryIndex, root: FileDigest },
    Connect { role: LaneRole },
    Connected { conn: ConnId },
    Decided,
    FileOpened { entry: EntryIndex },
    FoldersFinished,
    LaneEnds { lane: LaneId },
    MakeLink { entry: EntryIndex },
    Match { entry: EntryIndex, outline: Vec<Segment> },
    LinkMade { entry: EntryIndex },
    Publish { entry: EntryIndex, root: FileDigest },
    Published { entry: EntryIndex, root: FileDigest },
    RetryLease { lane: LaneId },
}

impl<S: Shelf> ReceiverHost<S> {
    pub(crate) fn new(shelf: S, core: &mut Core) -> Self {
        let features = features(core);
        let settings = ReceiverSettings { lanes: core.rng.between(1, 4) as u16, grant: None, features };
        Self {
            run: 0,
            shelf,
            watch: Watch::default(),
            end: None,
            grant: None,
            session: Receiver::new(settings),
            lanes: BTreeMap::new(),
            connecting: BTreeMap::new(),
            dialling: [0, 0],
            lanes_granted: 0,
            plans: Vec::new(),
            moved: BTreeMap::new(),
            has_told_done: false,
            on_conflict: *core.rng.pick(&[
                OnConflict::Overwrite,
                OnConflict::Overwrite,
                OnConflict::Keep,
                OnConflict::Skip,
            ]),
            is_visited: false,
            listens_from: Duration::ZERO,
            visit: None,
            gone_since: None,
            arriving: None,
        }
    }

    pub(crate) fn on_conflict(&self) -> OnConflict {
        self.on_conflict
    }

    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn decide_conflicts(&mut self, how: OnConflict) {
        self.on_conflict = how;
    }

    /// Whether the listing is there, and whether the user's word is.
    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn offer(&self) -> (bool, bool) {
        (self.session.listing().is_some(), !self.plans.is_empty())
    }

    /// Open connections of a role.
    #[allow(dead_code, reason = "for the fault matrix alone")]
    pub(crate) fn conns(&self, role: LaneRole) -> Vec<ConnId> {
        self.lanes.iter().filter(|(_, lane)| lane.role == role).map(|(lane, _)| ConnId(lane.0)).collect()
    }

    /// A process starts, with nothing but what is on the disk.
    pub(crate) fn start(&mut self, around: &mut Around, after: Duration) {
        let features = features(around.core);
        let settings = ReceiverSettings { lanes: around.core.rng.between(1, 4) as u16, grant: None, features };
        self.run += 1;
        self.session = Receiver::new(settings);
        self.end = None;
        self.grant = None;
        self.lanes.clear();
        self.connecting.clear();
        self.dialling = [0, 0];
        self.lanes_granted = 0;
        self.plans.clear();
        self.moved.clear();
        self.has_told_done = false;
        self.watch.run_starts();
        self.visit = None;
        if self.is_visited {
            self.listens_from = around.core.now() + after;
        } else {
            self.dial(around.core, LaneRole::Control, after);
        }
    }

    /// The process is gone, and its connections with it.
    pub(crate) fn die(&mut self, around: &mut Around) {
        self.run += 1;
        let conns = self.lanes.keys().map(|lane| ConnId(lane.0)).chain(self.connecting.keys().copied());
        for conn in conns.collect::<Vec<_>>() {
            let told = around.core.rng.chance(700).then(|| around.core.rng.millis(0, 1000));
            around.net.cut(&mut around.core.agenda, conn, [None, told]);
        }
        self.lanes.clear();
        self.connecting.clear();
    }

    /// After `Complete`: every file is there, or is known to have failed.
    pub(crate) fn check_complete(&mut self, source: &Source) -> Result<(), String> {
        self.watch.check_finals(&self.shelf);
        let listing = self.session.listing().unwrap();
        self.check_links(source)?;
        for (entry, plan) in listing.files().map(|file| (file, self.plans[file.as_usize()])) {
            let Entry { path, modified, .. } = listing.entry(entry).unwrap();
            let found = self.shelf.bytes_of(path);
            let is_there = match plan {
                Plan::Skip => found.is_some(),
                _ if self.watch.has_failed(entry) => true,
                _ => found.is_some_and(|bytes| bytes == source.listed_bytes(path, *modified)),
            };
            if !is_there {
                return Err(format!("{path:?} is said to be complete and is not"));
            }
            if !self.watch.has_failed(entry) && plan != Plan::Skip {
                self.watch.must_stay(path, &self.shelf);
            }
        }
        Ok(())
    }

    fn check_links(&self, source: &Source) -> Result<(), String> {
        let listing = self.session.listing().unwrap();
        let entries = (0..).map(EntryIndex).zip(listing.entries());
        for (entry, listed) in entries.filter(|(_, listed)| listed.is_link()) {
            let is_there = match &listed.kind {
                _ if self.watch.has_failed(entry) || self.plans[entry.as_usize()] == Plan::Skip => true,
                EntryKind::HardLink { to } => {
                    let (first, modified) = self.file(*to);
                    self.shelf.bytes_of(&listed.path).is_some_and(|it| it == source.listed_bytes(&first, modified))
                }
                EntryKind::Symlink { target } => self.shelf.target_of(&listed.path).as_deref() == Some(target.as_str()),
                EntryKind::File { .. } | EntryKind::Folder => unreachable!("no link"),
            };
            if !is_there {
                return Err(format!("the link {:?} is said to be complete and is not", listed.path));
            }
        }
        Ok(())
    }

    pub(crate) fn wake(&self) -> Option<Duration> {
        self.session.wake().filter(|_| self.end.is_none() && (!self.is_visited || self.visit.is_some()))
    }

    pub(crate) fn tick(&mut self, around: &mut Around) {
        around.core.note("tick", 0, 0);
        self.tell(around, Input::Tick);
    }

    pub(crate) fn arrived(&mut self, around: &mut Around, conn: ConnId, arrival: Arrival) {
        if let Some(role) = self.connecting.get(&conn).copied() {
            if matches!(arrival, Arrival::Lost) {
                self.connecting.remove(&conn);
                self.dial(around.core, role, Duration::from_millis(200));
            }
            return;
        }
        let lane = LaneId(conn.0);
        let Some(host_lane) = self.lanes.get_mut(&lane) else { return };
        host_lane.inbox.push_back(arrival);
        self.read_lane(around, lane);
    }

    pub(crate) fn happens(&mut self, around: &mut Around, event: ReceiverEvent) {
        match event {
            ReceiverEvent::AskForLanes => self.ask_for_lanes(around),
            ReceiverEvent::Watch => self.watch_visit(around),
            ReceiverEvent::Connect { role } => self.connect(around, role),
            ReceiverEvent::Connected { conn } => self.connected(around, conn),
            ReceiverEvent::Decided => self.decide(around),
            ReceiverEvent::ChunkHashed { lane, chunk } => self.chunk_hashed(around, lane, chunk),
            ReceiverEvent::ChunkClaimed { lane, chunk, proof } => self.chunk_claimed(around, lane, chunk, proof),
            ReceiverEvent::LaneEnds { lane } => self.lane_ends(around, lane),
            ReceiverEvent::RetryLease { lane } => self.retry_lease(around, lane),
            ReceiverEvent::FileOpened { entry } => self.file_opened(around, entry),
            ReceiverEvent::ClaimsChecked { entry, chunks } => self.claims_checked(around, entry, &chunks),
            ReceiverEvent::Compared { entry, root } => self.compared(around, entry, root),
            ReceiverEvent::Publish { entry, root } => self.publish(around, entry, root),
            ReceiverEvent::Published { entry, root } => {
                let (path, _) = self.file(entry);
                self.watch.done(entry);
                self.watch.recorded(path, self.session.listing().unwrap().digest(), root);
                self.tell(around, Input::FilePublished { entry });
            }
            ReceiverEvent::Match { entry, outline } => self.match_older(around, entry, &outline),
            ReceiverEvent::MakeLink { entry } => self.make_link(around, entry),
            ReceiverEvent::LinkMade { entry } => self.tell(around, Input::FilePublished { entry }),
            ReceiverEvent::FoldersFinished => {
                let finished = self.shelf.finish_folders(&self.folders());
                self.watch.check(finished.is_ok() || around.core.has_bad_disk(), || format!("{finished:?}"));
                self.tell(around, Input::FoldersFinished { failed: u32::from(finished.is_err()) });
            }
        }
    }

    pub(super) fn tell(&mut self, around: &mut Around, input: Input) {
        self.session.handle(around.core.now(), input);
        while let Some(output) = self.session.poll() {
            self.carry_out(around, output);
        }
    }

    fn carry_out(&mut self, around: &mut Around, output: Output) {
        match output {
            Output::Send { lane, message } => self.send(around, lane, &message),
            Output::CloseLane { lane } => self.close_lane(around, lane),
            Output::Granted { grant, lanes } => {
                self.grant = Some(grant.id);
                self.lanes_granted = lanes;
                if self.is_visited {
                    return self.soon(around.core, ReceiverEvent::AskForLanes);
                }
                while self.data_lanes() < lanes {
                    self.dial(around.core, LaneRole::Data, Duration::ZERO);
                }
            }
            Output::Offered => self.later(around.core, 50, ReceiverEvent::Decided),
            Output::Place { lane, place, piece, last } => self.place(around, lane, place, piece, last),
            Output::Claim { lane, chunk, proof } => {
                self.watch.claim_begins(around.source, lane, chunk, proof);
                self.soon(around.core, ReceiverEvent::ChunkClaimed { lane, chunk, proof });
            }
            Output::Discard { lane, chunk } => {
                around.core.note("discard", u64::from(lane.0), chunk);
            }
            Output::OpenFile { entry } => self.soon(around.core, ReceiverEvent::FileOpened { entry }),
            Output::CheckClaims { entry, chunks } => {
                self.soon(around.core, ReceiverEvent::ClaimsChecked { entry, chunks });
            }
            Output::CutOlder { entry } => around.core.note("cut older", u64::from(entry.0), 0),
            Output::Match { entry, outline } => self.match_soon(around, entry, outline),
            Output::Compare { entry, root } => self.soon(around.core, ReceiverEvent::Compared { entry, root }),
            Output::Weigh { entry, .. } => around.core.note("weigh", u64::from(entry.0), 0),
            Output::Publish { entry, root } => {
                self.watch.publish_begins(entry);
                self.soon(around.core, ReceiverEvent::Publish { entry, root });
            }
            Output::MakeLinks { entries } => {
                let are_final = self.session.listing().unwrap().files().all(|file| self.is_final(file));
                self.watch.check(are_final, || "links are made before every file is final".to_owned());
                for entry in entries {
                    self.soon(around.core, ReceiverEvent::MakeLink { entry });
                }
            }
            Output::FinishFolders => self.soon(around.core, ReceiverEvent::FoldersFinished),
            Output::FileFailed { entry, fault } => {
                around.core.note("file failed", u64::from(entry.0), 0);
                self.watch.file_failed(entry, fault);
                let (path, _) = self.file(entry);
                self.shelf.close(&path);
            }
            Output::End(end) => self.ended(around, end),
        }
    }

    fn send(&mut self, around: &mut Around, lane: LaneId, message: &Message) {
        self.has_told_done |= matches!(message, Message::Done { .. });
        if let Message::ChunksRequest { gaps, .. } = message {
            let chunks = ChunkSet::from_gaps(gaps).unwrap_or_default();
            around.core.note("chunks asked", u64::from(lane.0), chunks.len());
            for chunk in chunks.ranges().flatten() {
                let place = self.session.listing().unwrap().place(chunk).unwrap();
                let (path, _) = self.file(place.entry);
                self.watch.asked((around.core, around.source), &self.shelf, lane, chunk, (&path, place));
            }
        }
        match message.to_frame() {
            Ok(frame) => {
                let conn = ConnId(lane.0);
                around.net.send(&mut around.core.agenda, &mut around.core.rng, conn, Side::Receiver, frame);
            }
            Err(fault) => self.watch.fail(format!("a message of the receiver has no frame: {fault}")),
        }
    }

    fn ended(&mut self, around: &mut Around, end: End) {
        around.core.note("receiver ends", 0, u64::from(end == End::Complete));
        self.end = Some(end);
        for lane in self.lanes.keys().copied().collect::<Vec<_>>() {
            around.net.close(&mut around.core.agenda, &mut around.core.rng, ConnId(lane.0), Side::Receiver);
            self.lane_ends(around, lane);
        }
    }

    pub(super) fn soon(&self, core: &mut Core, event: ReceiverEvent) {
        let is_slow = core.strikes(core.faults.slow_disk);
        let delay = if is_slow { core.rng.millis(10, 12_000) } else { core.rng.millis(0, 3) };
        core.agenda.after(delay, Event::Receiver { run: self.run, event });
    }

    pub(super) fn later(&self, core: &mut Core, most: u64, event: ReceiverEvent) {
        let delay = core.rng.millis(1, most);
        core.agenda.after(delay, Event::Receiver { run: self.run, event });
    }

    pub(super) fn file(&self, entry: EntryIndex) -> (RelPath, Timestamp) {
        let entry = self.session.listing().unwrap().entry(entry).unwrap();
        (entry.path.clone(), entry.modified)
    }

    /// Whether a file is published, was there, or failed.
    fn is_final(&self, entry: EntryIndex) -> bool {
        let is_settled = matches!(self.plans[entry.as_usize()], Plan::Done { .. } | Plan::Skip);
        is_settled || self.watch.has_failed(entry) || self.watch.is_done(entry)
    }

    pub(super) fn entry_of(&self, chunk: u64) -> EntryIndex {
        self.session.listing().unwrap().place(chunk).unwrap().entry
    }

    pub(super) fn folders(&self) -> Vec<RelPath> {
        let entries = self.session.listing().unwrap().entries();
        entries.iter().filter(|entry| entry.kind == EntryKind::Folder).map(|entry| entry.path.clone()).collect()
    }
}

/// What a receiver says that it takes.
pub(super) fn features(core: &Core) -> u32 {
    let zstd = if core.rng.has_text { FEATURE_ZSTD } else { 0 };
    if core.rng.has_older { zstd | FEATURE_OUTLINES } else { zstd }
}
