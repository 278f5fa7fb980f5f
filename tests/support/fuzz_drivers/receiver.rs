//! The receiver against any sender, any disk and any loss of lanes; then, faults off, it must come to an end.

use super::world::{World, grant};
use super::{peak_of, trace};
use arbitrary::{Result, Unstructured};
use haul::chunk_set::ChunkSet;
use haul::digest::ChunkDigest;
use haul::limits::{OPEN_PARTIALS_MAX, REQUEST_BYTES_MAX, REQUEST_CHUNKS_MAX, REQUESTS_QUEUED_MAX};
use haul::manifest::{Entry, EntryIndex, EntryKind, VerifiedChunk};
use haul::session::{End, FileFault, Input, LaneId, LaneRole, Output, Plan, Receiver, ReceiverSettings, Verdict};
use haul::wire::{Change, FEATURE_OUTLINES, FEATURE_RATES, Message, Piece};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU64;
use std::time::Duration;

const STEPS_MAX: usize = 1000;
const CALM_STEPS_MAX: usize = 5000;

pub(super) fn receiver_sm(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let world = World::new(&mut input, super::is_pushed(bytes));
    let ((), peak) = peak_of(|| {
        let mut model = Model::new(world);
        for _ in 0..STEPS_MAX {
            if input.is_empty() || model.step(&mut input).is_err() {
                break;
            }
        }
        model.calm_down();
    });
    assert!(peak <= 1 << 20, "{peak} bytes for a session of a dozen files");
}

struct Model {
    world: World,
    receiver: Receiver,
    now: Duration,
    lanes: BTreeMap<LaneId, ModelLane>,
    next_lane: u32,
    /// What the driver was told to do and has not done.
    tasks: VecDeque<Output>,
    /// Every hash that was ever promised for a chunk.
    promised: BTreeMap<u64, BTreeSet<ChunkDigest>>,
    /// What the last hashing of a chunk that a lane brought led to.
    hashed: BTreeMap<(LaneId, u64), ChunkDigest>,
    stored: ChunkSet,
    /// How far the chunks came that were landing when their lanes were lost.
    held: BTreeMap<u64, u64>,
    published: BTreeSet<EntryIndex>,
    failed: BTreeSet<EntryIndex>,
    /// Whether a hash was promised that no chunk has.
    lied: bool,
    /// Whether peer and disk did nothing but what they were asked for.
    faultless: bool,
    end: Option<End>,
}

struct ModelLane {
    role: LaneRole,
    /// What was asked on a control lane.
    questions: VecDeque<Message>,
    /// What was asked on a data lane: chunk, bytes brought, piece length, number of its request.
    asked: VecDeque<(u64, u64, u32, usize)>,
    requests: usize,
    /// Given up by the session; its thread is not gone yet.
    closing: bool,
    granted: bool,
}

impl Model {
    fn new(world: World) -> Self {
        let own = world.is_pushed.then(grant);
        Self {
            world,
            receiver: Receiver::new(ReceiverSettings {
                lanes: 4,
                grant: own,
                features: FEATURE_OUTLINES | FEATURE_RATES,
            }),
            now: Duration::ZERO,
            lanes: BTreeMap::new(),
            next_lane: 0,
            tasks: VecDeque::new(),
            promised: BTreeMap::new(),
            hashed: BTreeMap::new(),
            stored: ChunkSet::new(),
            held: BTreeMap::new(),
            published: BTreeSet::new(),
            failed: BTreeSet::new(),
            lied: false,
            faultless: true,
            end: None,
        }
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let op = input.int_in_range(0..=19u8)?;
        let nth = input.arbitrary::<u8>()?;
        let lane = self.lanes.keys().nth(usize::from(nth) % self.lanes.len().max(1)).copied();
        match (op, lane) {
            (0 | 1, _) | (_, None) => self.open_lane(if op == 0 { LaneRole::Data } else { LaneRole::Control }),
            (2, Some(lane)) => self.lose_lane(lane),
            (3, _) => {
                self.now += Duration::from_millis(u64::from(nth) * 64);
                self.handle(Input::Tick);
                if self.world.is_pushed {
                    self.handle(Input::LanesLacking { lanes: u16::from(nth % 5) });
                }
                if nth % 8 == 7 {
                    self.handle(Input::Limit { rate: NonZeroU64::new(u64::from(nth / 64)) });
                }
            }
            (4..=8, Some(lane)) => self.answer(lane),
            (9, Some(lane)) => self.answer_oddly(lane, input)?,
            (10, Some(lane)) => {
                self.faultless = false;
                let message = self.world.any_message(input)?;
                self.message(lane, message);
            }
            (11, Some(lane)) => self.odd_piece(lane, input)?,
            (12, Some(lane)) => self.source_changed(lane),
            (13, _) => self.do_task_badly(input)?,
            (14, _) => self.accept(input)?,
            _ => self.do_task(),
        }
        Ok(())
    }

    /// From here on every lane is good, the sender honest and the disk whole.
    fn calm_down(&mut self) {
        for lane in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.lose_lane(lane);
        }
        for _ in 0..CALM_STEPS_MAX {
            if self.end.is_some() {
                break;
            }
            for role in [LaneRole::Control, LaneRole::Data] {
                if !self.lanes.values().any(|lane| lane.role == role) {
                    self.open_lane(role);
                }
            }
            for lane in self.lanes.keys().copied().collect::<Vec<_>>() {
                self.answer(lane);
            }
            self.do_task();
        }
        let end = self.end.take().expect("once faults stop, a session ends");
        assert!(!self.faultless || end == End::Complete, "{end:?} without a fault");
        assert!(end != End::Complete || self.all_final(), "complete, and a file is neither published nor failed");
    }

    fn all_final(&self) -> bool {
        self.files_final() && self.links().all(|entry| self.is_final(entry))
    }

    fn files_final(&self) -> bool {
        self.world.listing.files().all(|entry| self.is_final(entry))
    }

    fn is_final(&self, entry: EntryIndex) -> bool {
        self.published.contains(&entry) || self.failed.contains(&entry)
    }

    fn links(&self) -> impl Iterator<Item = EntryIndex> + '_ {
        let entries = (0..).map(EntryIndex).zip(self.world.listing.entries());
        entries.filter(|(_, entry)| entry.is_link()).map(|(index, _)| index)
    }

    fn open_lane(&mut self, role: LaneRole) {
        // A session has one control lane and at most four data lanes.
        let most = if role == LaneRole::Control { 1 } else { 4 };
        if self.lanes.values().filter(|lane| lane.role == role).count() < most {
            let lane = LaneId(self.next_lane);
            self.next_lane += 1;
            let (questions, asked) = (VecDeque::new(), VecDeque::new());
            self.lanes.insert(lane, ModelLane { role, questions, asked, requests: 0, closing: false, granted: false });
            self.handle(Input::LaneOpened { lane, role });
        }
    }

    fn lose_lane(&mut self, lane: LaneId) {
        if let Some(lost) = self.lanes.remove(&lane) {
            let landing = lost.asked.front().map(|&(chunk, brought, ..)| (chunk, brought));
            if let Some((chunk, brought)) = landing {
                let furthest = self.held.entry(chunk).or_default();
                *furthest = brought.max(*furthest);
            }
            self.handle(Input::LaneLost { lane, held: landing });
        }
    }

    fn message(&mut self, lane: LaneId, message: Message) {
        if let Message::HashPage { first, digests } = &message {
            for (place, &digest) in (0..).zip(digests) {
                let chunk = first.wrapping_add(place);
                self.promised.entry(chunk).or_default().insert(digest);
                self.lied |= digest != World::digest(chunk);
            }
        }
        self.handle(Input::Message { lane, message });
    }

    /// Answers the first question of a lane, or brings the next piece that it was asked for.
    fn answer(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.closing) else { return };
        let Some(question) = lane.questions.pop_front() else { return self.bring_piece(id) };
        let answer = match question {
            Message::Hello { .. } => self.world.welcome(),
            Message::ListingRequest { .. } => self.world.listing_page(),
            Message::HashesRequest { first, count } => {
                let digests = (first..first + u64::from(count)).map(World::digest).collect();
                Message::HashPage { first, digests }
            }
            Message::SealRequest { without, .. } => {
                let without: Vec<_> = without.into_iter().map(EntryIndex).collect();
                Message::Seal { manifest: self.world.seal(&without) }
            }
            Message::OutlineRequest { entry, offset } => self.world.outline(entry, offset, usize::MAX),
            Message::Done { .. } => Message::DoneAck,
            Message::Ping { token } => Message::Pong { token },
            _ => return,
        };
        self.message(id, answer);
    }

    fn bring_piece(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let Some(&mut (chunk, ref mut brought, piece_bytes, _)) = lane.asked.front_mut() else { return };
        let chunk_bytes = self.world.listing.place(chunk).unwrap().length().0;
        let (offset, length) = (*brought, u64::from(piece_bytes).min(chunk_bytes - *brought));
        *brought += length;
        if *brought == chunk_bytes {
            lane.asked.pop_front();
        }
        self.handle(Input::PieceArrived { lane: id, piece: Piece { chunk, offset, length: length as u32 } });
    }

    fn answer_oddly(&mut self, id: LaneId, input: &mut Unstructured<'_>) -> Result<()> {
        self.faultless = false;
        let Some(lane) = self.lanes.get_mut(&id) else { return Ok(()) };
        let Some(question) = lane.questions.pop_front() else { return Ok(()) };
        let answer = match question {
            Message::HashesRequest { first, count } => match input.int_in_range(0..=3u8)? {
                0 => {
                    let entry = self.world.listing.place(first).unwrap().entry.0;
                    Message::SourceChanged { entry, change: Change::Gone }
                }
                1 => Message::HashPage { first, digests: vec![ChunkDigest([9; 32]); usize::from(count)] },
                _ => {
                    let some = first..first + input.int_in_range(1..=u64::from(count))?;
                    Message::HashPage { first, digests: some.map(World::digest).collect() }
                }
            },
            Message::OutlineRequest { entry, offset } => {
                self.world.outline(entry, offset, usize::from(input.int_in_range(0..=2u8)?))
            }
            Message::SealRequest { .. } => {
                Message::SourceChanged { entry: input.int_in_range(0..=12u32)?, change: Change::Gone }
            }
            _ => self.world.any_message(input)?,
        };
        self.message(id, answer);
        Ok(())
    }

    fn odd_piece(&mut self, lane: LaneId, input: &mut Unstructured<'_>) -> Result<()> {
        self.faultless = false;
        let chunk = input.int_in_range(0..=20u64)?;
        let (offset, length) = (input.int_in_range(0..=2u64)? * 16 * 1024, input.int_in_range(0..=256 * 1024u32)?);
        self.handle(Input::PieceArrived { lane, piece: Piece { chunk, offset, length } });
        Ok(())
    }

    fn source_changed(&mut self, id: LaneId) {
        self.faultless = false;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let Some(&(chunk, _, _, request)) = lane.asked.front() else { return };
        let entry = self.world.listing.place(chunk).unwrap().entry;
        let mine = self.world.listing.chunks_of(entry);
        lane.asked.retain(|&(chunk, _, _, of)| of != request || !mine.contains(&chunk));
        self.message(id, Message::SourceChanged { entry: entry.0, change: Change::Content });
    }

    fn accept(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let Some(offered) = self.tasks.iter().position(|task| *task == Output::Offered) else { return Ok(()) };
        self.tasks.remove(offered);
        if input.ratio(1, 16)? {
            self.faultless = false;
            self.handle(Input::Declined);
            return Ok(());
        }
        let mut plans = Vec::new();
        for index in 0..self.world.listing.totals().files + self.world.listing.totals().folders {
            let entry = EntryIndex(index);
            let plan = match input.int_in_range(0..=8u8)? {
                _ if self.world.listing.entry(entry).is_some_and(|it| it.kind == EntryKind::Folder) => Plan::Folder,
                0 => Plan::Skip,
                1 => Plan::Failed,
                _ if self.world.listing.geometry(entry).is_none() => Plan::Link,
                2 => Plan::Done { root: self.world.root(entry) },
                3 | 4 => Plan::Compare,
                5 => Plan::Weigh,
                _ => Plan::Fetch,
            };
            match plan {
                Plan::Done { .. } | Plan::Skip => drop(self.published.insert(entry)),
                // Nothing of an empty file is weighed.
                Plan::Weigh if self.world.listing.chunks_of(entry).is_empty() => drop(self.published.insert(entry)),
                Plan::Failed => drop(self.failed.insert(entry)),
                _ => {}
            }
            plans.push(plan);
        }
        self.handle(Input::Accepted(plans));
        Ok(())
    }

    fn do_task(&mut self) {
        let Some(task) = self.tasks.pop_front() else { return };
        match task {
            Output::Offered => {
                let entries = self.world.listing.entries();
                let plan = |entry: &Entry| match entry.kind {
                    EntryKind::File { .. } => Plan::Fetch,
                    EntryKind::Folder => Plan::Folder,
                    EntryKind::HardLink { .. } | EntryKind::Symlink { .. } => Plan::Link,
                };
                self.handle(Input::Accepted(entries.iter().map(plan).collect()));
            }
            Output::OpenFile { entry } => {
                self.handle(Input::FileOpened { entry, claims: ChunkSet::new(), has_older: false });
            }
            Output::CheckClaims { entry, chunks } => {
                let first = self.world.listing.chunks_of(entry).start;
                let numbers = chunks.iter().map(|(index, _)| first + u64::from(index.0));
                let checked: ChunkSet = numbers.map(|number| number..number + 1).collect();
                self.claims_hold(entry, &checked);
                self.handle(Input::ClaimsChecked { entry, good: checked.clone(), checked });
            }
            Output::Claim { lane, chunk, .. } => {
                if self.lanes.contains_key(&lane) {
                    self.stored.insert(chunk..chunk + 1);
                }
                self.handle(Input::ChunkStored { lane, chunk });
            }
            Output::Place { lane, piece, .. } => self.chunk_hashed(lane, piece.chunk, World::digest(piece.chunk)),
            Output::Compare { entry, .. } => self.compared(entry, Verdict::Fetch),
            Output::Publish { entry, .. } => {
                self.published.insert(entry);
                self.handle(Input::FilePublished { entry });
            }
            Output::MakeLinks { entries } => {
                if let Some(entry) = self.next_link(entries) {
                    self.published.insert(entry);
                    self.handle(Input::FilePublished { entry });
                }
            }
            Output::FinishFolders => self.handle(Input::FoldersFinished { failed: 0 }),
            Output::Match { entry, .. } => self.handle(Input::Matched { entry, chunks: ChunkSet::new() }),
            Output::CloseLane { lane } => self.lose_lane(lane),
            _ => unreachable!("no other output is a task"),
        }
    }

    fn do_task_badly(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let fault = FileFault::Disk;
        let Some(task) = self.tasks.pop_front() else { return Ok(()) };
        match task {
            Output::OpenFile { entry } => {
                // Claims from an earlier run are no fault; whether they hold is another question.
                if input.arbitrary()? {
                    let from = input.int_in_range(0..=5u64)?;
                    let claims = ChunkSet::of(from..from + input.int_in_range(0..=5u64)?);
                    let has_older = input.arbitrary()?;
                    self.handle(Input::FileOpened { entry, claims, has_older });
                } else {
                    self.faultless = false;
                    self.handle(Input::FileFailed { entry, fault });
                }
            }
            Output::CheckClaims { entry, chunks } => {
                let first = self.world.listing.chunks_of(entry).start;
                let one = |index: u32| first + u64::from(index)..first + u64::from(index) + 1;
                let checked: ChunkSet = chunks.iter().map(|(index, _)| one(index.0)).collect();
                let good: ChunkSet = chunks.iter().map(|(index, _)| one(index.0)).step_by(2).collect();
                self.claims_hold(entry, &good);
                self.handle(Input::ClaimsChecked { entry, checked, good });
            }
            Output::Claim { lane, chunk, .. } => {
                self.faultless = false;
                let Some(place) = self.world.listing.place(chunk) else { return Ok(()) };
                self.handle(Input::FileFailed { entry: place.entry, fault });
                // The lane's thread gives its chunk up with the file.
                self.handle(Input::ChunkStored { lane, chunk });
            }
            Output::Place { lane, piece, .. } => {
                self.faultless = false;
                self.chunk_hashed(lane, piece.chunk, ChunkDigest([0; 32]));
            }
            Output::Compare { entry, .. } => {
                let identical = input.arbitrary()?;
                self.compared(entry, if identical { Verdict::Identical } else { Verdict::Keep });
            }
            Output::Publish { entry, .. } => {
                self.faultless = false;
                self.handle(Input::FileFailed { entry, fault });
            }
            Output::Match { entry, .. } => {
                let from = input.int_in_range(0..=9u64)?;
                let chunks = ChunkSet::of(from..from + input.int_in_range(0..=9u64)?);
                self.handle(Input::Matched { entry, chunks });
            }
            Output::MakeLinks { entries } => {
                self.faultless = false;
                if let Some(entry) = self.next_link(entries) {
                    self.handle(Input::FileFailed { entry, fault });
                }
            }
            other => self.tasks.push_back(other),
        }
        Ok(())
    }

    /// The first of these links; the others stay to be made.
    fn next_link(&mut self, mut entries: Vec<EntryIndex>) -> Option<EntryIndex> {
        let last = entries.pop();
        if !entries.is_empty() {
            self.tasks.push_front(Output::MakeLinks { entries });
        }
        last
    }

    fn compared(&mut self, entry: EntryIndex, verdict: Verdict) {
        if verdict == Verdict::Identical && !self.failed.contains(&entry) {
            self.published.insert(entry);
        }
        self.handle(Input::Compared { entry, verdict });
    }

    fn claims_hold(&mut self, entry: EntryIndex, good: &ChunkSet) {
        if !self.failed.contains(&entry) {
            self.stored.union(good);
        }
    }

    fn chunk_hashed(&mut self, lane: LaneId, chunk: u64, digest: ChunkDigest) {
        self.hashed.insert((lane, chunk), digest);
        self.handle(Input::ChunkHashed { lane, chunk, digest });
    }

    fn handle(&mut self, input: Input) {
        trace(&input);
        self.receiver.handle(self.now, input);
        let mut outputs = 0;
        while let Some(output) = self.receiver.poll() {
            assert_eq!(self.end, None, "{output:?} after the end");
            trace(&output);
            outputs += 1;
            self.check(output);
        }
        assert!(outputs <= 256, "one input has {outputs} outputs");
        let has = |role| self.lanes.values().any(|lane| lane.role == role && !lane.closing);
        let is_owed = self.lanes.keys().any(|&lane| self.receiver.is_owed(lane));
        let idle = self.end.is_none() && self.tasks.is_empty() && has(LaneRole::Control) && has(LaneRole::Data);
        assert!(!idle || is_owed, "it waits for nothing, for ever");
    }

    fn check(&mut self, output: Output) {
        match output {
            Output::Send { lane, message } => self.check_message(lane, message),
            Output::Claim { lane, chunk, proof } => {
                self.check_claim(lane, chunk, proof);
                self.tasks.push_back(output);
            }
            Output::CheckClaims { entry, ref chunks } => {
                let first = self.world.listing.chunks_of(entry).start;
                for (index, digest) in chunks {
                    assert!(self.promised[&(first + u64::from(index.0))].contains(digest), "a promised hash");
                }
                self.tasks.push_back(output);
            }
            Output::Match { entry, ref outline } => {
                let length = self.world.listing.geometry(entry).unwrap().file_length().0;
                assert_eq!(outline.iter().map(|segment| u64::from(segment.length)).sum::<u64>(), length);
                self.tasks.push_back(output);
            }
            Output::Weigh { entry, ref chunks } => {
                let first = self.world.listing.chunks_of(entry).start;
                for (index, digest) in chunks {
                    assert!(self.promised[&(first + u64::from(index.0))].contains(digest), "a promised hash");
                }
            }
            Output::Compare { entry, root } | Output::Publish { entry, root } => {
                assert!(self.lied || root == self.world.root(entry));
                if matches!(output, Output::Publish { .. }) {
                    assert!(!self.failed.contains(&entry) && !self.published.contains(&entry));
                    let mut chunks = self.world.listing.chunks_of(entry);
                    assert!(chunks.all(|chunk| self.stored.contains(chunk)), "published before all is stored");
                }
                self.tasks.push_back(output);
            }
            Output::FileFailed { entry, .. } => {
                assert!(!self.published.contains(&entry), "what is published cannot fail");
                assert!(self.failed.insert(entry), "a file fails once");
            }
            Output::CloseLane { lane } => {
                let lane = self.lanes.get_mut(&lane).expect("only a lane that is there is closed");
                assert!(!std::mem::replace(&mut lane.closing, true), "a lane is closed once");
                self.tasks.push_back(output);
            }
            Output::MakeLinks { ref entries } => {
                assert!(self.files_final(), "links are made after all files");
                assert!(entries.iter().all(|&entry| !self.is_final(entry)) && !entries.is_empty());
                let listing = &self.world.listing;
                let firsts = entries.iter().filter_map(|&entry| match listing.entry(entry)?.kind {
                    EntryKind::HardLink { to } => Some(to),
                    _ => None,
                });
                assert!(firsts.into_iter().all(|first| !self.failed.contains(&first)), "there is a file to link to");
                self.tasks.push_back(output);
            }
            Output::FinishFolders => {
                assert!(self.all_final(), "folders are finished last");
                self.tasks.push_back(output);
            }
            Output::End(end) => self.end = Some(end),
            Output::Place { last: true, .. } | Output::Offered => self.tasks.push_back(output),
            Output::OpenFile { .. } => {
                self.tasks.push_back(output);
                let opening = self.tasks.iter().filter(|task| matches!(task, Output::OpenFile { .. })).count();
                assert!(opening <= OPEN_PARTIALS_MAX);
            }
            Output::CutOlder { .. } | Output::Place { .. } | Output::Granted { .. } | Output::Discard { .. } => {}
        }
    }

    fn check_claim(&self, lane: LaneId, chunk: u64, proof: VerifiedChunk) {
        let place = self.world.listing.place(chunk).expect("only listed chunks are claimed");
        assert_eq!((proof.entry(), proof.index()), (place.entry, place.index));
        assert_eq!(self.hashed.get(&(lane, chunk)), Some(&proof.digest()), "what was hashed is what is claimed");
        assert!(self.promised[&chunk].contains(&proof.digest()), "what is claimed was promised");
        assert!(!self.stored.contains(chunk), "a chunk is claimed once");
    }

    fn check_message(&mut self, id: LaneId, message: Message) {
        assert!(message.to_frame().is_ok(), "what is sent fits a frame");
        let asked_elsewhere: BTreeSet<u64> =
            self.lanes.values().flat_map(|lane| lane.asked.iter().map(|&(chunk, ..)| chunk)).collect();
        let lane = self.lanes.get_mut(&id).expect("nothing is sent over a lost lane");
        assert!(!lane.closing || matches!(message, Message::Refused { .. }), "nothing is asked of a closing lane");
        match message {
            Message::ChunksRequest { gaps, piece_bytes, held, .. } => {
                let chunks: Vec<u64> = ChunkSet::from_gaps(&gaps).unwrap().ranges().flatten().collect();
                assert!(!chunks.is_empty() && chunks.len() as u64 <= REQUEST_CHUNKS_MAX);
                let lengths = chunks.iter().map(|&chunk| self.world.listing.place(chunk).unwrap().length().0);
                assert!(lengths.sum::<u64>() <= REQUEST_BYTES_MAX || chunks.len() == 1);
                for &chunk in &chunks {
                    assert!(self.promised.contains_key(&chunk), "chunk {chunk} is asked for before its hash came");
                    assert!(!self.stored.contains(chunk), "chunk {chunk} is stored and asked for");
                    assert!(!asked_elsewhere.contains(&chunk), "chunk {chunk} is asked for twice at a time");
                }
                lane.requests += 1;
                let request = lane.requests;
                let first = chunks[0];
                let lies = self.held.get(&first).copied().unwrap_or(0);
                assert!(held <= lies, "{held} bytes of chunk {first} are left out, of which {lies} came");
                let start = |chunk| if chunk == first { held } else { 0 };
                lane.asked.extend(chunks.iter().map(|&chunk| (chunk, start(chunk), piece_bytes, request)));
                let unanswered: BTreeSet<_> = lane.asked.iter().map(|&(.., request)| request).collect();
                assert!(unanswered.len() < REQUESTS_QUEUED_MAX, "an honest sender refuses {}", unanswered.len());
            }
            Message::Pong { .. } | Message::Refused { .. } => {}
            Message::Grant { grant: granted } => {
                assert!(self.world.is_pushed && granted == grant() && lane.role == LaneRole::Control);
                assert!(!std::mem::replace(&mut lane.granted, true), "a lane is granted once");
            }
            Message::RateWanted { .. } => assert_eq!(lane.role, LaneRole::Control),
            Message::LanesWanted { lanes } => assert!(lane.granted && (1..=4).contains(&lanes)),
            question => {
                assert_eq!(lane.role, LaneRole::Control);
                lane.questions.push_back(question);
                assert!(lane.questions.len() < REQUESTS_QUEUED_MAX);
            }
        }
    }
}
