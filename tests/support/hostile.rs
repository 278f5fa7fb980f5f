//! A peer that writes its frames by hand and keeps to no rule, and the sessions that it is let loose on.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, dead_code, missing_docs, unreachable_pub)]

use haul::chunk::Length;
use haul::chunk_set::ChunkSet;
use haul::digest::{ChunkDigest, ListingDigest};
use haul::manifest::{Attributes, Entry, EntryKind, Listing, ListingBuilder, Mode, Timestamp};
use haul::rel_path::RelPath;
use haul::session::{
    End, Input, LaneId, LaneRole, Output, PeerFault, Plan, Receiver, ReceiverSettings, Sender, SenderInput,
    SenderOutput, SenderSettings, listing_page_starts,
};
use haul::wire::{FEATURES, Frame, FrameFault, FrameHeader, Message, SessionGrant};
use std::sync::Arc;
use std::time::Duration;

pub const CONTROL: LaneId = LaneId(0);
pub const DATA: LaneId = LaneId(1);

/// Most outputs of one input: whatever a frame says, it cannot make a session pour.
const OUTPUTS_PER_INPUT_MAX: usize = 512;

/// Why a session does not go on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A frame was refused before any session saw it.
    Frame(FrameFault),
    /// The session found a rule broken.
    Peer(PeerFault),
}

/// A receiver that an evil sender writes to.
pub struct ReceiverVictim {
    pub receiver: Receiver,
    pub now: Duration,
    /// All outputs so far, but for those that a test has cleared.
    pub outputs: Vec<Output>,
    pub end: Option<End>,
    pub frame_fault: Option<FrameFault>,
}

/// A sender that an evil receiver writes to.
pub struct SenderVictim {
    pub sender: Sender,
    /// All outputs so far, but for those that a test has cleared.
    pub outputs: Vec<SenderOutput>,
    pub end: Option<End>,
    pub frame_fault: Option<FrameFault>,
}

impl ReceiverVictim {
    /// A receiver whose control lane is open and which said `Hello`.
    pub fn new() -> Self {
        let receiver = Receiver::new(ReceiverSettings { lanes: 4, grant: None, features: FEATURES });
        let mut victim = Self { receiver, now: Duration::ZERO, outputs: Vec::new(), end: None, frame_fault: None };
        victim.tell(Input::LaneOpened { lane: CONTROL, role: LaneRole::Control });
        victim
    }

    /// A receiver whose sender connected, and which said `Hello` and granted the session.
    pub fn visited() -> Self {
        let grant = Some(SessionGrant { id: [1; 16], secret: [2; 32] });
        let receiver = Receiver::new(ReceiverSettings { lanes: 4, grant, features: FEATURES });
        let mut victim = Self { receiver, now: Duration::ZERO, outputs: Vec::new(), end: None, frame_fault: None };
        victim.tell(Input::LaneOpened { lane: CONTROL, role: LaneRole::Control });
        victim
    }

    /// A receiver that accepted `listing`, wants all of it, and has a data lane.
    pub fn fetching(listing: &Listing) -> Self {
        let plan = |entry: &Entry| entry.file_length().map_or(Plan::Folder, |_| Plan::Fetch);
        let mut victim = Self::deciding(listing);
        victim.tell(Input::Accepted(listing.entries().iter().map(plan).collect()));
        victim.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
        victim
    }

    /// A receiver that was offered `listing`.
    pub fn deciding(listing: &Listing) -> Self {
        let mut victim = Self::new();
        victim.feed(CONTROL, &welcome(listing.digest()));
        let starts = listing_page_starts(listing);
        let ends = starts.iter().skip(1).map(|&end| end as usize).chain([listing.entries().len()]);
        for ((page, &start), end) in (0..).zip(&starts).zip(ends) {
            let entries: Vec<_> = listing.entries()[start as usize..end].iter().map(HandEntry::of).collect();
            let totals = listing.totals();
            let totals = [u64::from(totals.files), u64::from(totals.folders), totals.bytes, totals.chunks];
            let is_last = end == listing.entries().len();
            victim.feed(CONTROL, &listing_page(page, &entries, is_last.then_some(totals)));
        }
        assert_eq!(victim.fault(), None);
        victim
    }

    /// Takes frames as a lane reads them, up to the first that is refused.
    pub fn feed(&mut self, lane: LaneId, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && self.fault().is_none() {
            match FrameHeader::decode_frame(rest) {
                Ok((Frame::Message(message), used)) => {
                    rest = &rest[used..];
                    self.tell(Input::Message { lane, message });
                }
                Ok((Frame::Piece { piece, .. }, used)) => {
                    rest = &rest[used..];
                    self.tell(Input::PieceArrived { lane, piece });
                }
                Err(fault) => self.frame_fault = Some(fault),
            }
        }
    }

    /// Takes an input, and keeps what it leads to.
    pub fn tell(&mut self, input: Input) {
        let before = self.outputs.len();
        self.receiver.handle(self.now, input);
        while let Some(output) = self.receiver.poll() {
            assert_eq!(self.end, None, "{output:?} after the end");
            if let Output::End(end) = &output {
                self.end = Some(end.clone());
            }
            self.outputs.push(output);
        }
        assert!(self.outputs.len() - before <= OUTPUTS_PER_INPUT_MAX, "one input made the session pour");
    }

    /// Messages that the session wants sent, in order.
    pub fn sent(&self) -> impl Iterator<Item = &Message> {
        self.outputs.iter().filter_map(|output| match output {
            Output::Send { message, .. } => Some(message),
            _ => None,
        })
    }

    pub fn fault(&self) -> Option<Fault> {
        fault(self.frame_fault, self.end.as_ref())
    }

    /// The attack ended in `fault`, and nothing that it brought counts as stored.
    #[track_caller]
    pub fn assert_refused(&self, fault: PeerFault) {
        assert_eq!(self.fault(), Some(Fault::Peer(fault)));
        self.assert_nothing_stored();
    }

    /// The attack ended in `fault` before the session saw it.
    #[track_caller]
    pub fn assert_frame_refused(&self, fault: FrameFault) {
        assert_eq!(self.fault(), Some(Fault::Frame(fault)));
        self.assert_nothing_stored();
    }

    #[track_caller]
    pub fn assert_nothing_stored(&self) {
        let stores =
            |output: &&Output| matches!(output, Output::Claim { .. } | Output::Publish { .. } | Output::FinishFolders);
        assert_eq!(self.outputs.iter().find(stores), None);
    }
}

impl SenderVictim {
    /// A sender of `listing` that was greeted on its control lane and has a data lane.
    pub fn greeted(listing: Listing) -> Self {
        let mut victim = Self::new(listing);
        victim.feed(CONTROL, &hello(1, 0));
        victim
    }

    /// A sender of `listing` that connected, and was greeted on its control lane.
    pub fn pushing(listing: Listing) -> Self {
        let mut victim = Self::with(listing, None);
        victim.feed(CONTROL, &hello(1, 0));
        victim
    }

    /// A sender of `listing` with a control lane and a data lane, neither of which carried anything.
    pub fn new(listing: Listing) -> Self {
        Self::with(listing, Some(SessionGrant { id: [1; 16], secret: [2; 32] }))
    }

    fn with(listing: Listing, grant: Option<SessionGrant>) -> Self {
        let sender = Sender::new(SenderSettings {
            page_starts: listing_page_starts(&listing).into(),
            listing: Arc::new(listing),
            grant,
            lanes: 4,
        });
        let mut victim = Self { sender, outputs: Vec::new(), end: None, frame_fault: None };
        victim.tell(SenderInput::LaneOpened { lane: CONTROL, role: LaneRole::Control });
        victim.tell(SenderInput::LaneOpened { lane: DATA, role: LaneRole::Data });
        victim
    }

    /// Takes frames as a lane reads them, up to the first that is refused.
    pub fn feed(&mut self, lane: LaneId, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && self.fault().is_none() {
            match FrameHeader::decode_frame(rest) {
                Ok((Frame::Message(message), used)) => {
                    rest = &rest[used..];
                    self.tell(SenderInput::Message { lane, message });
                }
                // Only the receiving side has a use for pieces; a lane of the sender refuses their kind.
                Ok((Frame::Piece { .. }, _)) => self.frame_fault = Some(FrameFault::Kind),
                Err(fault) => self.frame_fault = Some(fault),
            }
        }
    }

    /// Takes an input, and keeps what it leads to.
    pub fn tell(&mut self, input: SenderInput) {
        let before = self.outputs.len();
        self.sender.handle(Duration::ZERO, input);
        while let Some(output) = self.sender.poll() {
            assert_eq!(self.end, None, "{output:?} after the end");
            if let SenderOutput::End { end, .. } = &output {
                self.end = Some(end.clone());
            }
            self.outputs.push(output);
        }
        assert!(self.outputs.len() - before <= OUTPUTS_PER_INPUT_MAX, "one input made the session pour");
    }

    pub fn fault(&self) -> Option<Fault> {
        fault(self.frame_fault, self.end.as_ref())
    }

    /// Outputs that make the driver read or hash a file.
    pub fn work(&self) -> usize {
        let is_work = |output: &&SenderOutput| {
            matches!(output, SenderOutput::Hash { .. } | SenderOutput::Seal { .. } | SenderOutput::Serve { .. })
        };
        self.outputs.iter().filter(is_work).count()
    }

    /// The attack ended in `fault`, and nothing was read for it.
    #[track_caller]
    pub fn assert_refused_unread(&self, fault: PeerFault) {
        assert_eq!(self.fault(), Some(Fault::Peer(fault)));
        assert_eq!(self.work(), 0, "nothing is read");
    }
}

fn fault(by_frame: Option<FrameFault>, end: Option<&End>) -> Option<Fault> {
    let by_session = match end {
        Some(End::PeerFault(fault)) => Some(Fault::Peer(fault.clone())),
        Some(end) => panic!("it ended without a fault: {end:?}"),
        None => None,
    };
    by_frame.map(Fault::Frame).or(by_session)
}

/// A listing of files and folders (`None`), with lengths.
pub fn listing(entries: &[(&str, Option<u64>)]) -> Listing {
    let mut builder = ListingBuilder::new();
    for &(path, length) in entries {
        let kind = length.map_or(EntryKind::Folder, |length| EntryKind::File { length: Length(length) });
        let path = RelPath::parse_listed(path).unwrap();
        let (mode, modified) = (Mode::masked(0o644), Timestamp::clamped(0, 0));
        builder.push(Entry { path, kind, mode, modified, attributes: Attributes::NONE }).unwrap();
    }
    let totals = builder.totals();
    builder.finish(totals).unwrap()
}

/// An entry as its bytes say it, whatever the rules say.
#[derive(Clone, Debug)]
pub struct HandEntry {
    pub path: Vec<u8>,
    /// The kind's number and what belongs to it.
    pub kind: Vec<u8>,
    pub mode: u16,
    pub seconds: i64,
    pub nanoseconds: u32,
    /// The list of attributes, with its count.
    pub attributes: Vec<u8>,
}

impl HandEntry {
    pub fn file(path: impl AsRef<[u8]>, length: u64) -> Self {
        let mut kind = vec![1];
        varint(&mut kind, length);
        Self { path: path.as_ref().to_vec(), kind, mode: 0o644, seconds: 0, nanoseconds: 0, attributes: vec![0] }
    }

    pub fn symlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let mut kind = vec![2];
        varint(&mut kind, target.as_ref().len() as u64);
        kind.extend_from_slice(target.as_ref());
        Self { kind, ..Self::file(path, 0) }
    }

    pub fn hard_link(path: impl AsRef<[u8]>, to: u32) -> Self {
        let mut kind = vec![3];
        varint(&mut kind, to.into());
        Self { kind, ..Self::file(path, 0) }
    }

    pub fn folder(path: impl AsRef<[u8]>) -> Self {
        Self { kind: vec![0], ..Self::file(path, 0) }
    }

    pub fn of(entry: &Entry) -> Self {
        Self {
            mode: entry.mode.bits(),
            seconds: entry.modified.seconds(),
            nanoseconds: entry.modified.nanoseconds(),
            ..match &entry.kind {
                EntryKind::Folder => Self::folder(entry.path.as_str()),
                EntryKind::File { length } => Self::file(entry.path.as_str(), length.0),
                EntryKind::Symlink { target } => Self::symlink(entry.path.as_str(), target.as_str()),
                EntryKind::HardLink { to } => Self::hard_link(entry.path.as_str(), to.0),
            }
        }
    }

    fn push_to(&self, body: &mut Vec<u8>) {
        varint(body, self.path.len() as u64);
        body.extend_from_slice(&self.path);
        body.extend_from_slice(&self.kind);
        varint(body, u64::from(self.mode));
        varint(body, (self.seconds << 1 ^ self.seconds >> 63).cast_unsigned());
        varint(body, u64::from(self.nanoseconds));
        body.extend_from_slice(&self.attributes);
    }
}

pub fn hello(version: u64, features: u64) -> Vec<u8> {
    message(0, &[version, features])
}

pub fn welcome(digest: ListingDigest) -> Vec<u8> {
    welcome_with(1, 0, 4, digest)
}

pub fn welcome_with(version: u64, features: u64, lanes: u64, digest: ListingDigest) -> Vec<u8> {
    let mut body = vec![1];
    varint(&mut body, version);
    varint(&mut body, features);
    body.extend_from_slice(&[7; 16 + 32]);
    varint(&mut body, lanes);
    body.extend_from_slice(&digest.0);
    frame(1, &body)
}

/// A `Welcome` whose session id and secret are made of this byte.
pub fn welcome_granting(byte: u8, digest: ListingDigest) -> Vec<u8> {
    let mut body = vec![1, 1, 0];
    body.extend_from_slice(&[byte; 16 + 32]);
    body.push(4);
    body.extend_from_slice(&digest.0);
    frame(1, &body)
}

/// A `Grant` whose session id and secret are made of this byte.
pub fn grant(byte: u8) -> Vec<u8> {
    frame(1, &[&[16][..], &[byte; 16 + 32]].concat())
}

pub fn lanes_wanted(lanes: u64) -> Vec<u8> {
    message(17, &[lanes])
}

pub fn listing_request(page: u64) -> Vec<u8> {
    message(2, &[page])
}

pub fn listing_page(page: u64, entries: &[HandEntry], totals: Option<[u64; 4]>) -> Vec<u8> {
    let mut body = vec![3];
    varint(&mut body, page);
    varint(&mut body, entries.len() as u64);
    for entry in entries {
        entry.push_to(&mut body);
    }
    body.push(u8::from(totals.is_some()));
    for &number in totals.iter().flatten() {
        varint(&mut body, number);
    }
    frame(1, &body)
}

pub fn hashes_request(first: u64, count: u64) -> Vec<u8> {
    message(4, &[first, count])
}

pub fn hash_page(first: u64, digests: &[ChunkDigest]) -> Vec<u8> {
    let mut body = vec![5];
    varint(&mut body, first);
    varint(&mut body, digests.len() as u64 * 32);
    for digest in digests {
        body.extend_from_slice(&digest.0);
    }
    frame(1, &body)
}

pub fn chunks_request(gaps: &[(u64, u64)], piece_bytes: u64, held: u64) -> Vec<u8> {
    let mut body = vec![6];
    varint(&mut body, gaps.len() as u64);
    for &(gap, length) in gaps {
        varint(&mut body, gap);
        varint(&mut body, length);
    }
    varint(&mut body, piece_bytes);
    varint(&mut body, held);
    body.push(0);
    frame(1, &body)
}

pub fn source_changed(entry: u64) -> Vec<u8> {
    message(7, &[entry, 0])
}

pub fn seal_request(without: &[u64], more: bool) -> Vec<u8> {
    let numbers: Vec<u64> = [without.len() as u64].iter().chain(without).copied().chain([u64::from(more)]).collect();
    message(8, &numbers)
}

pub fn seal(manifest: [u8; 32]) -> Vec<u8> {
    let mut body = vec![9];
    body.extend_from_slice(&manifest);
    frame(1, &body)
}

pub fn done(files: u64, failed: u64) -> Vec<u8> {
    message(10, &[files, failed])
}

pub fn done_ack() -> Vec<u8> {
    message(11, &[])
}

pub fn ping(token: u64) -> Vec<u8> {
    message(12, &[token])
}

pub fn pong(token: u64) -> Vec<u8> {
    message(13, &[token])
}

pub fn working() -> Vec<u8> {
    message(14, &[])
}

/// A raw piece of `length` bytes of 7.
pub fn piece(chunk: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&chunk.to_le_bytes());
    body.extend_from_slice(&offset.to_le_bytes());
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(&[0; 4]);
    body.resize(24 + length as usize, 7);
    frame(2, &body)
}

/// A message of a variant and numbers.
pub fn message(variant: u8, numbers: &[u64]) -> Vec<u8> {
    let mut body = vec![variant];
    for &number in numbers {
        varint(&mut body, number);
    }
    frame(1, &body)
}

/// A frame around any body.
pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind, 0, 0, body.len() as u32).to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// Any header.
pub fn header(kind: u8, encoding: u8, reserved: u16, length: u32) -> [u8; 8] {
    let [reserved_0, reserved_1] = reserved.to_le_bytes();
    let [a, b, c, d] = length.to_le_bytes();
    [kind, encoding, reserved_0, reserved_1, a, b, c, d]
}

pub fn varint(body: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        body.push(number as u8 | 0x80);
        number >>= 7;
    }
    body.push(number as u8);
}

/// The chunks that a request asks for.
pub fn chunks_of(gaps: &[(u64, u64)]) -> Vec<u64> {
    ChunkSet::from_gaps(gaps).unwrap().ranges().flatten().collect()
}
