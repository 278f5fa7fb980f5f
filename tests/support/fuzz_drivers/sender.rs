//! The sender against any receiver: requests in any order, and work that ends well or badly.

use super::world::{World, grant};
use super::{peak_of, trace};
use arbitrary::{Result, Unstructured};
use haul::digest::ManifestId;
use haul::limits::{REQUEST_BYTES_MAX, REQUEST_CHUNKS_MAX, REQUESTS_QUEUED_MAX};
use haul::manifest::EntryIndex;
use haul::outline::Segment;
use haul::session::{
    ChunksToServe, LaneId, LaneRole, Sender, SenderInput as Input, SenderOutput as Output, SenderSettings,
};
use haul::wire::{Change, FEATURES, Message, SessionGrant};
use std::collections::BTreeMap;
use std::time::Duration;

const LANES_MAX: usize = 5;
const STEPS_MAX: usize = 1000;

pub(super) fn sender_sm(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let world = World::new(&mut input, super::is_pushed(bytes));
    let ((), peak) = peak_of(|| {
        let mut model = Model::new(world);
        for _ in 0..STEPS_MAX {
            if input.is_empty() || model.step(&mut input).is_err() {
                break;
            }
        }
    });
    assert!(peak <= 1 << 20, "{peak} bytes for a session of a dozen files");
}

struct Model {
    world: World,
    sender: Sender,
    lanes: BTreeMap<LaneId, ModelLane>,
    next_lane: u32,
    granted: bool,
    ended: bool,
}

struct ModelLane {
    /// Requests that are not answered; the session never holds more than its limit.
    unanswered: usize,
    /// The one piece of work that the lane may have under way.
    work: Option<Output>,
}

impl Model {
    fn new(world: World) -> Self {
        let sender = Sender::new(SenderSettings {
            listing: world.listing.clone(),
            page_starts: world.page_starts.clone(),
            grant: (!world.is_pushed).then(grant),
            lanes: 4,
        });
        Self { world, sender, lanes: BTreeMap::new(), next_lane: 0, granted: false, ended: false }
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let lane = self.lanes.keys().nth(input.choose_index(self.lanes.len().max(1))?).copied();
        match (input.int_in_range(0..=15u8)?, lane) {
            (0, _) | (_, None) if self.lanes.len() < LANES_MAX => self.open_lane(input)?,
            (1, Some(lane)) => {
                self.lanes.remove(&lane);
                self.handle(Input::LaneLost { lane });
            }
            (2..=5, Some(lane)) => self.finish_work(lane, input)?,
            (6, Some(lane)) => self.message(lane, Message::Hello { version: 1, features: FEATURES }),
            (7, Some(lane)) => self.message(lane, Message::ListingRequest { page: 0 }),
            (8, Some(lane)) => {
                // As many as a lane may have, and one more.
                for _ in 0..=REQUESTS_QUEUED_MAX {
                    self.message(
                        lane,
                        Message::ChunksRequest { gaps: vec![(0, 1)], piece_bytes: 16 * 1024, held: 0, reread: false },
                    );
                }
            }
            (9, _) if input.ratio(1, 16)? => self.handle(Input::Stop),
            (_, Some(lane)) => {
                let message = self.world.any_message(input)?;
                self.message(lane, message);
            }
            _ => {}
        }
        Ok(())
    }

    fn open_lane(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let lane = LaneId(self.next_lane);
        self.next_lane += 1;
        let role = if input.arbitrary()? { LaneRole::Control } else { LaneRole::Data };
        self.lanes.insert(lane, ModelLane { unanswered: 0, work: None });
        self.handle(Input::LaneOpened { lane, role });
        Ok(())
    }

    fn message(&mut self, lane: LaneId, message: Message) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            // Only the last part of a list for the seal is answered, and nothing that is said about lanes and rates.
            let is_unanswered = matches!(
                message,
                Message::SealRequest { more: true, .. }
                    | Message::Grant { .. }
                    | Message::LanesWanted { .. }
                    | Message::RateWanted { .. }
            );
            lane.unanswered += usize::from(!is_unanswered);
        }
        self.handle(Input::Message { lane, message });
    }

    fn finish_work(&mut self, lane: LaneId, input: &mut Unstructured<'_>) -> Result<()> {
        let Some(model) = self.lanes.get_mut(&lane) else { return Ok(()) };
        let work = model.work.take();
        let fails = input.ratio(1, 6)?;
        match work {
            Some(Output::Serve { .. }) => {
                model.unanswered -= 1;
                self.handle(Input::ChunksServed { lane });
            }
            Some(Output::Hash { chunks, .. }) => {
                let entry = self.world.listing.place(chunks.start).unwrap().entry;
                let some = chunks.start..input.int_in_range(chunks.start + 1..=chunks.end)?;
                let outcome = if fails { Err((entry, Change::Gone)) } else { Ok(some.map(World::digest).collect()) };
                self.handle(Input::Hashed { lane, outcome });
            }
            Some(Output::Outline { .. }) => {
                let segments = if fails { Vec::new() } else { vec![Segment { length: 1, hash: [7; 16] }] };
                self.handle(Input::Outlined { lane, segments });
            }
            Some(Output::Seal { without, .. }) => {
                let seal = ManifestId(self.world.seal(&without));
                let outcome = if fails { Err((EntryIndex(0), Change::Gone)) } else { Ok(seal) };
                self.handle(Input::Sealed { lane, outcome });
            }
            _ => {}
        }
        Ok(())
    }

    fn handle(&mut self, input: Input) {
        trace(&input);
        self.sender.handle(Duration::ZERO, input);
        let mut outputs = 0;
        while let Some(output) = self.sender.poll() {
            assert!(!self.ended, "{output:?} after the end");
            trace(&output);
            outputs += 1;
            self.check(output);
        }
        assert!(outputs <= REQUESTS_QUEUED_MAX + 3, "one input has {outputs} outputs");
        assert_eq!(self.sender.is_ended(), self.ended);
        for lane in self.lanes.values().filter(|_| !self.ended) {
            assert!(lane.unanswered <= REQUESTS_QUEUED_MAX, "{} requests queued", lane.unanswered);
        }
    }

    fn check(&mut self, output: Output) {
        match output {
            Output::Send { lane, message } => {
                assert!(message.to_frame().is_ok(), "what is sent fits a frame");
                let lane = self.lanes.get_mut(&lane).expect("nothing is sent over a lost lane");
                if !matches!(message, Message::Refused { .. }) {
                    lane.unanswered = lane.unanswered.checked_sub(1).expect("every answer has its request");
                }
            }
            Output::Granted { grant } => {
                assert!(self.world.is_pushed && grant != SessionGrant::NONE);
                self.granted = true;
            }
            Output::OpenLanes { lanes } => assert!(self.granted && (1..=4).contains(&lanes)),
            // Whatever is wanted is kept, and costs nothing.
            Output::Limit { .. } => {}
            Output::End { .. } => self.ended = true,
            Output::CloseLane { lane } => drop(self.lanes.remove(&lane)),
            Output::Hash { lane, ref chunks } => {
                assert!(!chunks.is_empty() && chunks.end <= self.world.listing.totals().chunks);
                assert!(chunks.end - chunks.start <= 1024);
                self.start(lane, output);
            }
            Output::Outline { lane, entry, offset } => {
                let geometry = self.world.listing.geometry(entry).expect("a file is outlined");
                assert!(offset < geometry.file_length().0, "there is something to outline");
                self.start(lane, output);
            }
            Output::Seal { lane, ref without } => {
                assert!(without.iter().all(|&entry| self.world.listing.geometry(entry).is_some()));
                self.start(lane, output);
            }
            Output::Serve { lane, ref request } => {
                self.check_request(request);
                self.start(lane, output);
            }
        }
    }

    fn check_request(&self, request: &ChunksToServe) {
        let listing = &self.world.listing;
        let chunks: Vec<u64> = request.ranges.iter().cloned().flatten().collect();
        let lengths = chunks.iter().map(|&chunk| listing.place(chunk).expect("it is on offer").length().0);
        let bytes: u64 = lengths.sum();
        assert!(!chunks.is_empty() && chunks.len() as u64 <= REQUEST_CHUNKS_MAX);
        assert!(chunks.is_sorted_by(|one, next| one < next), "no chunk is asked for twice in one request");
        assert!(chunks.len() == 1 || bytes <= REQUEST_BYTES_MAX);
        assert!(request.held < listing.place(chunks[0]).unwrap().length().0);
        assert!((16 * 1024..=256 * 1024).contains(&request.piece_bytes));
        assert_eq!(request.held % u64::from(request.piece_bytes), 0);
    }

    fn start(&mut self, lane: LaneId, work: Output) {
        let lane = self.lanes.get_mut(&lane).expect("no work is done for a lost lane");
        let under_way = lane.work.replace(work);
        assert_eq!(under_way, None, "a lane answers one request at a time");
    }
}
