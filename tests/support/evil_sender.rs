//! A sender that speaks over real sockets and keeps to no rule, for real `haul receive` processes to meet.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::cast_possible_truncation, reason = "test support")]

use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::digest::{ChunkDigest, ListingDigest, RootMerger, chunk_digest, empty_file_digest};
use haul::manifest::{Attributes, EntryIndex, Listing, ListingBuilder, SealHasher};
use haul::secret::{Key, Link, Room, SessionId, SessionSecret};
use haul::transport::{DeviceKey, Gatekeeper, Lane, LaneIntro, Listener, ListenerEvent, TransportError};
use haul::wire::{
    Encoding, FRAME_HEADER_BYTES, FrameHeader, Message, Piece, SessionGrant, WireEntry, WireKind, WireTotals,
    piece_head,
};
use std::sync::Arc;

const ROOM: Room = Room::from_bytes(*b"room of the evil");
const KEY: [u8; 16] = *b"key of the evil.";
const SESSION: [u8; 16] = [5; 16];
const SECRET: [u8; 32] = [6; 32];

/// Serves receivers by a script until it is dropped.
pub struct EvilSender {
    listener: Listener,
}

/// What an evil sender does where an honest one would do the right thing. Every method does that by default.
pub trait Script: Send + Sync + 'static {
    /// The files and their bytes.
    fn files(&self) -> Vec<(WireEntry, Vec<u8>)>;

    /// Answers a request on a lane by hand. True: it did, and the honest answer is left out.
    fn instead(&self, _lane: &mut Lane, _request: &Message) -> Result<bool, TransportError> {
        Ok(false)
    }

    /// The bytes of a chunk as they are sent.
    fn chunk(&self, _number: u64, bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }

    /// The totals, from the right ones.
    fn totals(&self, totals: WireTotals) -> WireTotals {
        totals
    }

    /// The digest that `Welcome` announces, from the right one where the listing has one.
    fn announced(&self, right: Option<ListingDigest>) -> ListingDigest {
        right.unwrap_or(ListingDigest([0; 32]))
    }
}

struct Gate<S> {
    script: S,
    files: Vec<(WireEntry, Vec<u8>)>,
    listing: Option<Listing>,
}

impl EvilSender {
    pub fn start(script: impl Script) -> Self {
        let files = script.files();
        let listing = listing(&files);
        let gate = Gate { script, files, listing };
        let address = "127.0.0.1:0".parse().unwrap();
        Self { listener: Listener::bind(address, DeviceKey::generate().unwrap(), Arc::new(gate)).unwrap() }
    }

    pub fn link(&self) -> String {
        Link::new(&[self.listener.address()], ROOM, Key::from_bytes(KEY)).unwrap().to_text().to_string()
    }
}

/// A plain file's entry.
pub fn file(path: &str, length: u64) -> WireEntry {
    let kind = WireKind::File(length);
    WireEntry { path: path.into(), kind, mode: 0o644, seconds: 1, nanoseconds: 0, attributes: Attributes::NONE }
}

/// A folder's entry.
pub fn folder(path: &str) -> WireEntry {
    WireEntry { kind: WireKind::Folder, mode: 0o755, ..file(path, 0) }
}

/// Reads one message; a receiver sends nothing else.
pub fn read_message(lane: &mut Lane) -> Result<Message, TransportError> {
    let mut header = [0; FRAME_HEADER_BYTES];
    lane.read_exact(&mut header)?;
    let FrameHeader::Message { body_bytes } = FrameHeader::decode(&header).unwrap() else { panic!("a piece") };
    let mut body = vec![0; body_bytes];
    lane.read_exact(&mut body)?;
    Ok(Message::decode(&body).unwrap())
}

pub fn send_message(lane: &mut Lane, message: &Message) -> Result<(), TransportError> {
    lane.send(&[&message.to_frame().unwrap()])
}

/// A message frame with this body, which need not be one.
pub fn raw_frame(body: &[u8]) -> Vec<u8> {
    let mut frame = FrameHeader::Message { body_bytes: body.len() }.encode().to_vec();
    frame.extend_from_slice(body);
    frame
}

pub fn send_piece(lane: &mut Lane, chunk: u64, offset: u64, bytes: &[u8]) -> Result<(), TransportError> {
    let piece = Piece { chunk, offset, length: bytes.len() as u32 };
    lane.send(&[&piece_head(piece, Encoding::Raw, bytes.len()), bytes])
}

/// What the files' lengths add up to, without a check.
pub fn totals(files: &[(WireEntry, Vec<u8>)]) -> WireTotals {
    let lengths = files.iter().filter_map(|(entry, _)| match entry.kind {
        WireKind::File(length) => Some(length),
        _ => None,
    });
    let folders = files.iter().filter(|(entry, _)| entry.kind == WireKind::Folder).count();
    WireTotals {
        files: (files.len() - folders) as u32,
        folders: folders as u32,
        bytes: lengths.clone().fold(0, u64::wrapping_add),
        chunks: lengths.filter_map(|length| Geometry::of(Length(length))).map(|it| u64::from(it.count().0)).sum(),
    }
}

fn listing(files: &[(WireEntry, Vec<u8>)]) -> Option<Listing> {
    let mut builder = ListingBuilder::new();
    for (entry, _) in files {
        builder.push(entry.check().ok()?).ok()?;
    }
    let totals = builder.totals();
    builder.finish(totals).ok()
}

impl<S: Script> Gate<S> {
    fn serve(&self, lane: &mut Lane) -> Result<(), TransportError> {
        loop {
            let request = read_message(lane)?;
            if self.script.instead(lane, &request)? {
                continue;
            }
            match request {
                Message::Hello { version, features } => {
                    let announced = self.script.announced(self.listing.as_ref().map(Listing::digest));
                    let grant = SessionGrant { id: SESSION, secret: SECRET };
                    send_message(lane, &Message::Welcome { version, features, grant, lanes: 2, listing: announced })?;
                }
                Message::ListingRequest { page } => {
                    let entries = self.files.iter().map(|(entry, _)| entry.clone()).collect();
                    let totals = Some(self.script.totals(totals(&self.files)));
                    send_message(lane, &Message::ListingPage { page, entries, totals })?;
                }
                Message::HashesRequest { first, count } => {
                    let digests = (first..first + u64::from(count)).map(|number| self.digest(number)).collect();
                    send_message(lane, &Message::HashPage { first, digests })?;
                }
                Message::ChunksRequest { gaps, piece_bytes, held, .. } => {
                    self.send_chunks(lane, &gaps, piece_bytes, held)?;
                }
                Message::SealRequest { without, .. } => {
                    send_message(lane, &Message::Seal { manifest: self.manifest(&without) })?;
                }
                Message::Done { .. } => send_message(lane, &Message::DoneAck)?,
                Message::Ping { token } => send_message(lane, &Message::Pong { token })?,
                _ => return Ok(()),
            }
        }
    }

    fn send_chunks(
        &self,
        lane: &mut Lane,
        gaps: &[(u64, u64)],
        piece_bytes: u32,
        held: u64,
    ) -> Result<(), TransportError> {
        let mut at = 0;
        let mut offset = held;
        for (gap, count) in gaps {
            at += gap;
            for number in at..at + count {
                let bytes = self.script.chunk(number, self.bytes(number));
                while offset < bytes.len() as u64 {
                    let end = bytes.len().min((offset + u64::from(piece_bytes)) as usize);
                    send_piece(lane, number, offset, &bytes[offset as usize..end])?;
                    offset = end as u64;
                }
                offset = 0;
            }
            at += count;
        }
        Ok(())
    }

    fn listing(&self) -> &Listing {
        self.listing.as_ref().unwrap()
    }

    fn bytes(&self, number: u64) -> &[u8] {
        let place = self.listing().place(number).unwrap();
        let span = place.geometry.span(place.index).unwrap();
        &self.files[place.entry.0 as usize].1[span.offset.0 as usize..][..span.length.0 as usize]
    }

    fn digest(&self, number: u64) -> ChunkDigest {
        let place = self.listing().place(number).unwrap();
        chunk_digest(place.geometry, place.index, self.bytes(number))
    }

    fn manifest(&self, without: &[u32]) -> [u8; 32] {
        let mut seal = SealHasher::new(self.listing().digest());
        for entry in self.listing().files() {
            seal.push((!without.contains(&entry.0)).then(|| self.root(entry)));
        }
        seal.finish().0
    }

    fn root(&self, entry: EntryIndex) -> haul::digest::FileDigest {
        let geometry = self.listing().geometry(entry).unwrap();
        let mut merger = RootMerger::new(geometry);
        let mut root = empty_file_digest();
        for (index, number) in (0..).zip(self.listing().chunks_of(entry)) {
            debug_assert_eq!(merger.next_chunk(), ChunkIndex(index));
            root = merger.push(self.digest(number)).unwrap_or(root);
        }
        root
    }
}

impl<S: Script> Gatekeeper for Gate<S> {
    fn link_key(&self, room: Room) -> Option<Key> {
        (room == ROOM).then(|| Key::from_bytes(KEY))
    }

    fn session_secret(&self, id: SessionId) -> Option<SessionSecret> {
        (id == SessionId::from_bytes(SESSION)).then(|| SessionSecret::from_bytes(SECRET))
    }

    fn admit(&self, mut lane: Lane, _intro: LaneIntro) {
        // It ends when the receiver has enough of it.
        let _ = self.serve(&mut lane);
    }

    fn observe(&self, _event: ListenerEvent) {}
}
