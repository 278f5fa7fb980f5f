//! Messages: requests of the side that receives file data, and the answers to them.

use super::entry::{WireEntry, WireTotals};
use super::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::digest::{ChunkDigest, DIGEST_BYTES, ListingDigest};
use crate::limits::{
    HASH_PAGE_CHUNKS_MAX, LISTING_PAGE_ENTRIES_MAX, MESSAGE_BYTES_MAX, OUTLINE_PAGE_SEGMENTS_MAX, REQUEST_RANGES_MAX,
    SEAL_WITHOUT_MAX,
};
use crate::outline::Segment;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// What an entry of a listing takes beside its path, as a rule.
const ENTRY_BYTES_HINT: usize = 24;
/// What a segment of an outline takes.
const SEGMENT_BYTES_HINT: usize = 20;

/// A message. The order of the variants is their number on the wire: variants are only ever appended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Message {
    /// First message of the receiver on the control lane.
    Hello {
        /// Highest version that it speaks.
        version: u16,
        /// Bits of optional features.
        features: u32,
    },
    /// Answer to `Hello`.
    Welcome {
        /// Version that this session speaks.
        version: u16,
        /// Bits of optional features that both ends have.
        features: u32,
        /// What further lanes of this session prove themselves with.
        grant: SessionGrant,
        /// Data lanes that the host lets this session have.
        lanes: u16,
        /// Digest of the listing that the sender is about to send, or sent before.
        #[serde(with = "listing_digest")]
        listing: ListingDigest,
    },
    /// Asks for page `page` of the listing, from 0.
    ListingRequest {
        /// Which.
        page: u32,
    },
    /// Answer to `ListingRequest`.
    ListingPage {
        /// The page that was asked for.
        page: u32,
        /// The next entries in listing order.
        #[serde(deserialize_with = "at_most::<_, _, LISTING_PAGE_ENTRIES_MAX>")]
        entries: Vec<WireEntry>,
        /// On the last page: what all entries add up to.
        totals: Option<WireTotals>,
    },
    /// Asks for the hashes of `count` chunks from number `first` on.
    HashesRequest {
        /// Number of the first chunk.
        first: u64,
        /// How many, at most 1024.
        count: u16,
    },
    /// Answer to `HashesRequest`: at least one hash, at most what was asked for.
    HashPage {
        /// Number of the first chunk.
        first: u64,
        /// The hashes, in chunk order.
        #[serde(with = "digests")]
        digests: Vec<ChunkDigest>,
    },
    /// Asks for chunks. The answer is their pieces in order, without a frame at the end.
    ChunksRequest {
        /// Ranges of chunk numbers: the gap since the range before, and the length.
        #[serde(deserialize_with = "at_most::<_, _, REQUEST_RANGES_MAX>")]
        gaps: Vec<(u64, u64)>,
        /// Length of a piece, a power of two from 16 KiB to 256 KiB; the last one of a chunk may be shorter.
        piece_bytes: u32,
        /// Bytes of the first chunk that the receiver holds already, whole pieces.
        held: u64,
        /// Whether an earlier answer did not have its hash, so that the source must be hashed again.
        reread: bool,
    },
    /// Takes the place of an answer's rest as far as it belongs to this entry: its source is no longer what was listed.
    SourceChanged {
        /// Index of the entry.
        entry: u32,
        /// What happened to it.
        change: Change,
    },
    /// Asks for the seal, once every hash page was had.
    SealRequest {
        /// Indices of the files that the receiver has no root of, since they changed or failed.
        #[serde(deserialize_with = "at_most::<_, _, SEAL_WITHOUT_MAX>")]
        without: Vec<u32>,
        /// Whether the next request on the lane continues the list. Only the last one is answered.
        more: bool,
    },
    /// Answer to `SealRequest`.
    Seal {
        /// The manifest's id.
        manifest: [u8; DIGEST_BYTES],
    },
    /// The receiver has all that it wanted, on disk.
    Done {
        /// Files published, skipped as identical or kept as they were.
        files: u32,
        /// Files that failed.
        failed: u32,
    },
    /// Answer to `Done`.
    DoneAck,
    /// Asks for a `Pong`.
    Ping {
        /// Returned as it is.
        token: u64,
    },
    /// Answer to `Ping`.
    Pong {
        /// The token of the `Ping`.
        token: u64,
    },
    /// The answer that is owed is being prepared.
    Working,
    /// The session ends here.
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// Where the sender connected: what further lanes of this session prove themselves with.
    Grant {
        /// It.
        grant: SessionGrant,
    },
    /// Where the sender connected: asks it to open further data lanes, whatever it has left to open of an earlier request.
    LanesWanted {
        /// How many.
        lanes: u16,
    },
    /// Asks the sender to send no more than so much over all data lanes of the session together, until a later one says
    /// otherwise. It has no answer.
    RateWanted {
        /// Bytes a second; 0 is no limit.
        bytes_per_second: u64,
    },
    /// Asks for the outline of a file from `offset` on, where a segment starts.
    OutlineRequest {
        /// Index of the file's entry.
        entry: u32,
        /// Where the first segment starts.
        offset: u64,
    },
    /// Answer to `OutlineRequest`: segments that follow each other. None where the outline cannot be had.
    OutlinePage {
        /// The entry that was asked for.
        entry: u32,
        /// The offset that was asked for.
        offset: u64,
        /// The segments from there on.
        #[serde(deserialize_with = "at_most::<_, _, OUTLINE_PAGE_SEGMENTS_MAX>")]
        segments: Vec<Segment>,
    },
}

/// Why one side ends a session. In wire order.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Refusal {
    /// It serves as many sessions as it can.
    Busy,
    /// The user declined the offer.
    Declined,
    /// The other side broke the protocol.
    Protocol,
    /// It is being ended by its user.
    Stopped,
    /// It speaks no common version.
    Version,
    /// It receives, as the side does that connected to it.
    Receives,
    /// It sends, as the side does that connected to it.
    Sends,
    /// It is receiving the same files from another sender.
    Taken,
}

/// What happened to a source file. In wire order.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Change {
    /// Its content is no longer what was listed.
    Content,
    /// It is gone.
    Gone,
    /// It cannot be read.
    Unreadable,
}

/// A session's name and the secret that its further lanes prove.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct SessionGrant {
    /// Public name of the session.
    pub id: [u8; 16],
    /// Shared only by the two ends.
    pub secret: [u8; 32],
}

/// The rule that a message's bytes break.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MessageFault {
    /// The bytes are not a message: too short, out of range, or of an unknown variant.
    #[error("a message cannot be read; the other side may run a newer version")]
    Malformed,
    /// The bytes are a message, but not the only form of it.
    #[error("a message is not in its canonical form")]
    NotCanonical,
    /// The message does not fit a frame.
    #[error("a message is longer than a frame may be")]
    TooLong,
}

impl SessionGrant {
    /// What stands in the place of a grant where the other side has it to give.
    pub const NONE: Self = Self { id: [0; 16], secret: [0; 32] };
}

impl Message {
    /// Reads a message from the whole body of a frame. Every message has one form; any other is refused, trailing
    /// bytes included.
    pub fn decode(body: &[u8]) -> Result<Self, MessageFault> {
        if body.len() > MESSAGE_BYTES_MAX {
            return Err(MessageFault::TooLong);
        }
        let message: Self = postcard::from_bytes(body).map_err(|_| MessageFault::Malformed)?;
        // Room for all of it from the start: a page that grows is copied time and again.
        let canonical = Vec::with_capacity(body.len());
        let canonical = postcard::to_extend(&message, canonical).map_err(|_| MessageFault::Malformed)?;
        if canonical == body { Ok(message) } else { Err(MessageFault::NotCanonical) }
    }

    /// The message as a whole frame.
    pub fn to_frame(&self) -> Result<Vec<u8>, MessageFault> {
        let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + self.bytes_hint());
        frame.resize(FRAME_HEADER_BYTES, 0);
        let mut frame = postcard::to_extend(self, frame).map_err(|_| MessageFault::Malformed)?;
        let body_bytes = frame.len() - FRAME_HEADER_BYTES;
        if body_bytes > MESSAGE_BYTES_MAX {
            return Err(MessageFault::TooLong);
        }
        frame[..FRAME_HEADER_BYTES].copy_from_slice(&FrameHeader::Message { body_bytes }.encode());
        Ok(frame)
    }
}

impl Message {
    /// About how many bytes its body has, of those messages that have many.
    fn bytes_hint(&self) -> usize {
        match self {
            Self::ListingPage { entries, .. } => entries.iter().map(|entry| entry.path.len() + ENTRY_BYTES_HINT).sum(),
            Self::HashPage { digests, .. } => (digests.len() + 1) * DIGEST_BYTES,
            Self::OutlinePage { segments, .. } => segments.len() * SEGMENT_BYTES_HINT,
            _ => 0,
        }
    }
}

impl fmt::Debug for SessionGrant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SessionGrant([redacted])")
    }
}

/// Reads a sequence of at most `MOST` items. Memory follows the items that are there, not the announced number.
pub(super) fn at_most<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MOST: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct Bounded<T, const MOST: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Bounded<T, MOST> {
        type Value = Vec<T>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "at most {MOST} items")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut taken = Vec::new();
            while let Some(item) = items.next_element()? {
                if taken.len() == MOST {
                    return Err(A::Error::custom("too many items"));
                }
                taken.push(item);
            }
            Ok(taken)
        }
    }

    deserializer.deserialize_seq(Bounded::<T, MOST>(PhantomData))
}

/// Digests travel as one byte string, whose length is checked against what is there before it is read.
mod digests {
    use super::{ChunkDigest, DIGEST_BYTES, Deserialize, Deserializer, HASH_PAGE_CHUNKS_MAX, Serializer};
    use serde::de::Error as _;

    pub(super) fn serialize<S: Serializer>(digests: &[ChunkDigest], serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(digests.len() * DIGEST_BYTES);
        for digest in digests {
            bytes.extend_from_slice(&digest.0);
        }
        serializer.serialize_bytes(&bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ChunkDigest>, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        let (rows, rest) = bytes.as_chunks::<DIGEST_BYTES>();
        if !rest.is_empty() || rows.len() > usize::from(HASH_PAGE_CHUNKS_MAX) {
            return Err(D::Error::custom("not a page of digests"));
        }
        Ok(rows.iter().copied().map(ChunkDigest).collect())
    }
}

mod listing_digest {
    use super::{DIGEST_BYTES, Deserialize, Deserializer, ListingDigest, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(digest: &ListingDigest, serializer: S) -> Result<S::Ok, S::Error> {
        digest.0.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ListingDigest, D::Error> {
        <[u8; DIGEST_BYTES]>::deserialize(deserializer).map(ListingDigest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::WireKind;

    #[test]
    fn row_40_an_announced_length_costs_nothing_until_its_bytes_are_there() {
        // ListingPage, page 0, 2^32 - 1 entries, three bytes.
        assert_eq!(Message::decode(&[3, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3]), Err(MessageFault::Malformed));
        // HashPage, first 0, 2^32 - 1 bytes of digests, three bytes.
        assert_eq!(Message::decode(&[5, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3]), Err(MessageFault::Malformed));
    }

    #[test]
    fn row_41_overlong_varints_are_refused() {
        let ping = Message::Ping { token: 5 };
        assert_eq!(Message::decode(&[12, 5]), Ok(ping));
        assert_eq!(Message::decode(&[12, 0x85, 0]), Err(MessageFault::NotCanonical));
        assert_eq!(
            Message::decode(&[12, 0x85, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]),
            Err(MessageFault::Malformed)
        );
    }

    #[test]
    fn row_57_trailing_bytes_and_unknown_variants_are_refused() {
        assert_eq!(Message::decode(&[11, 0]).unwrap_err(), MessageFault::NotCanonical);
        assert_eq!(Message::decode(&[200]).unwrap_err(), MessageFault::Malformed);
        assert_eq!(Message::decode(&[]).unwrap_err(), MessageFault::Malformed);
    }

    #[test]
    fn row_9_text_that_is_not_utf_8_is_refused() {
        let kind = WireKind::Folder;
        let entry = WireEntry {
            path: "ab".into(),
            kind,
            mode: 0,
            seconds: 0,
            nanoseconds: 0,
            attributes: crate::manifest::Attributes::NONE,
        };
        let page = Message::ListingPage { page: 0, entries: vec![entry], totals: None };
        let mut body = page.to_frame().unwrap()[FRAME_HEADER_BYTES..].to_vec();
        let path = body.windows(2).position(|pair| pair == b"ab").unwrap();
        body[path..path + 2].copy_from_slice(&[0xed, 0xa0]);
        assert_eq!(Message::decode(&body), Err(MessageFault::Malformed));
    }

    #[test]
    fn too_many_ranges_are_refused() {
        let request = |ranges: usize| Message::ChunksRequest {
            gaps: vec![(1, 1); ranges],
            piece_bytes: 0,
            held: 0,
            reread: false,
        };
        for (ranges, fits) in [(REQUEST_RANGES_MAX, true), (REQUEST_RANGES_MAX + 1, false)] {
            let frame = request(ranges).to_frame().unwrap();
            assert_eq!(Message::decode(&frame[FRAME_HEADER_BYTES..]).is_ok(), fits, "{ranges} ranges");
        }
    }

    #[test]
    fn too_many_segments_are_refused() {
        let page = |segments: usize| {
            let segment = Segment { length: u32::MAX, hash: [7; 16] };
            Message::OutlinePage { entry: u32::MAX, offset: u64::MAX, segments: vec![segment; segments] }
        };
        for (segments, fits) in [(OUTLINE_PAGE_SEGMENTS_MAX, true), (OUTLINE_PAGE_SEGMENTS_MAX + 1, false)] {
            let frame = page(segments).to_frame().unwrap();
            assert_eq!(Message::decode(&frame[FRAME_HEADER_BYTES..]).is_ok(), fits, "{segments} segments");
        }
    }

    #[test]
    fn grants_are_not_shown() {
        let grant = SessionGrant { id: [7; 16], secret: [9; 32] };
        assert_eq!(format!("{grant:?}"), "SessionGrant([redacted])");
    }
}
