//! Frames: a fixed header, then a message or a piece.

use super::message::{Message, MessageFault};
use crate::limits::{MESSAGE_BYTES_MAX, PIECE_BYTES_MAX};

/// Bytes of the header that every frame starts with.
pub const FRAME_HEADER_BYTES: usize = 8;
/// Bytes that follow the header of a piece and say where it belongs.
pub const PIECE_ADDRESS_BYTES: usize = 24;
const PIECE_ADDRESS_BYTES_U32: u32 = 24;

const KIND_MESSAGE: u8 = 1;
const KIND_PIECE: u8 = 2;

/// What a frame's header announces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameHeader {
    /// A message body of so many bytes follows.
    Message {
        /// 1 to 64 KiB.
        body_bytes: usize,
    },
    /// A piece follows: its address, then its payload.
    Piece {
        /// How the payload stands for the bytes.
        encoding: Encoding,
        /// Bytes of the payload alone.
        payload_bytes: u32,
    },
}

/// How a piece's payload stands for its bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// The payload is the bytes.
    Raw,
    /// There is no payload: all bytes are zero.
    Zero,
    /// The payload is one frame of zstd, shorter than the bytes. Sent only where both ends have the feature.
    Zstd,
}

/// Part of one chunk, at most 256 KiB.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece {
    /// Number of the chunk in the listing.
    pub chunk: u64,
    /// Where the piece starts within the chunk, in bytes.
    pub offset: u64,
    /// How many bytes of the file it stands for.
    pub length: u32,
}

/// The rule that a frame breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameFault {
    /// The encoding is not known.
    #[error("a piece has an unknown encoding")]
    Encoding,
    /// The kind is not known.
    #[error("a frame is of an unknown kind")]
    Kind,
    /// The length is out of range, or does not fit the encoding.
    #[error("a frame's length is out of range")]
    Length,
    /// The body is not a message.
    #[error("{0}")]
    Message(#[from] MessageFault),
    /// A field that must be zero is not.
    #[error("a reserved field is not zero")]
    Reserved,
    /// The bytes end within the frame.
    #[error("a frame is cut short")]
    Short,
}

impl FrameHeader {
    /// Reads a header. Lengths are checked here, before anything is allocated for them.
    pub fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<Self, FrameFault> {
        let [kind, encoding, reserved_0, reserved_1, length @ ..] = *bytes;
        let length = u32::from_le_bytes(length);
        if reserved_0 != 0 || reserved_1 != 0 {
            return Err(FrameFault::Reserved);
        }
        match kind {
            KIND_MESSAGE if encoding != 0 => Err(FrameFault::Reserved),
            KIND_MESSAGE => match length as usize {
                0 => Err(FrameFault::Length),
                body_bytes if body_bytes > MESSAGE_BYTES_MAX => Err(FrameFault::Length),
                body_bytes => Ok(Self::Message { body_bytes }),
            },
            KIND_PIECE => {
                let encoding = Encoding::from_byte(encoding)?;
                let payload_bytes = length.checked_sub(PIECE_ADDRESS_BYTES_U32).ok_or(FrameFault::Length)?;
                let fits = match encoding {
                    Encoding::Raw => (1..=PIECE_BYTES_MAX).contains(&payload_bytes),
                    Encoding::Zero => payload_bytes == 0,
                    Encoding::Zstd => (1..PIECE_BYTES_MAX).contains(&payload_bytes),
                };
                if fits { Ok(Self::Piece { encoding, payload_bytes }) } else { Err(FrameFault::Length) }
            }
            _ => Err(FrameFault::Kind),
        }
    }

    /// The header's bytes.
    pub fn encode(self) -> [u8; FRAME_HEADER_BYTES] {
        let (kind, encoding, length) = match self {
            Self::Message { body_bytes } => (KIND_MESSAGE, 0, u32::try_from(body_bytes).unwrap_or(u32::MAX)),
            Self::Piece { encoding, payload_bytes } => {
                (KIND_PIECE, encoding as u8, payload_bytes.saturating_add(PIECE_ADDRESS_BYTES_U32))
            }
        };
        let mut bytes = [kind, encoding, 0, 0, 0, 0, 0, 0];
        bytes[4..].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    /// Reads the frame that `bytes` starts with: its header, its message or piece, and how many bytes it takes.
    ///
    /// A lane reads header and body one by one instead, so that a payload goes straight to its place.
    pub fn decode_frame(bytes: &[u8]) -> Result<(Frame<'_>, usize), FrameFault> {
        let header = bytes.first_chunk::<FRAME_HEADER_BYTES>().ok_or(FrameFault::Short)?;
        let body = &bytes[FRAME_HEADER_BYTES..];
        match Self::decode(header)? {
            Self::Message { body_bytes } => {
                let body = body.get(..body_bytes).ok_or(FrameFault::Short)?;
                Ok((Frame::Message(Message::decode(body)?), FRAME_HEADER_BYTES + body_bytes))
            }
            Self::Piece { encoding, payload_bytes } => {
                let address = body.first_chunk::<PIECE_ADDRESS_BYTES>().ok_or(FrameFault::Short)?;
                let piece = Piece::decode(address, encoding, payload_bytes)?;
                let end = PIECE_ADDRESS_BYTES + payload_bytes as usize;
                let payload = body.get(PIECE_ADDRESS_BYTES..end).ok_or(FrameFault::Short)?;
                Ok((Frame::Piece { piece, encoding, payload }, FRAME_HEADER_BYTES + end))
            }
        }
    }
}

/// A whole frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame<'a> {
    /// A message.
    Message(Message),
    /// A piece and its payload.
    Piece {
        /// Where it belongs.
        piece: Piece,
        /// How the payload stands for the bytes.
        encoding: Encoding,
        /// The payload.
        payload: &'a [u8],
    },
}

impl Frame<'_> {
    /// The frame's bytes.
    pub fn encode(&self) -> Result<Vec<u8>, MessageFault> {
        match self {
            Self::Message(message) => message.to_frame(),
            Self::Piece { piece, encoding, payload } => {
                let mut bytes = piece_head(*piece, *encoding, payload.len()).to_vec();
                bytes.extend_from_slice(payload);
                Ok(bytes)
            }
        }
    }
}

impl Encoding {
    fn from_byte(byte: u8) -> Result<Self, FrameFault> {
        match byte {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zero),
            2 => Ok(Self::Zstd),
            _ => Err(FrameFault::Encoding),
        }
    }
}

impl Piece {
    /// Reads a piece's address, and checks that its length fits the payload that the header announced.
    pub fn decode(
        bytes: &[u8; PIECE_ADDRESS_BYTES],
        encoding: Encoding,
        payload_bytes: u32,
    ) -> Result<Self, FrameFault> {
        let field = |range: std::ops::Range<usize>| {
            let mut value = [0; 8];
            value[..range.len()].copy_from_slice(&bytes[range]);
            u64::from_le_bytes(value)
        };
        let length = u32::try_from(field(16..20)).map_err(|_| FrameFault::Length)?;
        let fits = match encoding {
            Encoding::Raw => length == payload_bytes,
            Encoding::Zero => (1..=PIECE_BYTES_MAX).contains(&length),
            Encoding::Zstd => (payload_bytes.saturating_add(1)..=PIECE_BYTES_MAX).contains(&length),
        };
        if field(20..24) != 0 {
            return Err(FrameFault::Reserved);
        }
        if !fits {
            return Err(FrameFault::Length);
        }
        Ok(Self { chunk: field(0..8), offset: field(8..16), length })
    }
}

/// Header and address of a piece: what precedes its payload of `payload_bytes`.
pub fn piece_head(
    piece: Piece,
    encoding: Encoding,
    payload_bytes: usize,
) -> [u8; FRAME_HEADER_BYTES + PIECE_ADDRESS_BYTES] {
    let payload_bytes = u32::try_from(payload_bytes).unwrap_or(u32::MAX);
    let mut bytes = [0; FRAME_HEADER_BYTES + PIECE_ADDRESS_BYTES];
    bytes[..8].copy_from_slice(&FrameHeader::Piece { encoding, payload_bytes }.encode());
    bytes[8..16].copy_from_slice(&piece.chunk.to_le_bytes());
    bytes[16..24].copy_from_slice(&piece.offset.to_le_bytes());
    bytes[24..28].copy_from_slice(&piece.length.to_le_bytes());
    bytes
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(bytes: [u8; 4], length: u32) -> Result<FrameHeader, FrameFault> {
        let mut header = [0; 8];
        header[..4].copy_from_slice(&bytes);
        header[4..].copy_from_slice(&length.to_le_bytes());
        FrameHeader::decode(&header)
    }

    #[test]
    fn row_57_unknown_kinds_and_reserved_fields_are_refused() {
        assert_eq!(header([0, 0, 0, 0], 1), Err(FrameFault::Kind));
        assert_eq!(header([3, 0, 0, 0], 1), Err(FrameFault::Kind));
        assert_eq!(header([1, 1, 0, 0], 1), Err(FrameFault::Reserved));
        assert_eq!(header([1, 0, 1, 0], 1), Err(FrameFault::Reserved));
        assert_eq!(header([2, 0, 0, 1], 25), Err(FrameFault::Reserved));
        assert_eq!(header([2, 3, 0, 0], 25), Err(FrameFault::Encoding));
    }

    #[test]
    fn row_58_lengths_just_inside_pass_and_just_outside_do_not() {
        let longest = MESSAGE_BYTES_MAX as u32;
        assert_eq!(header([1, 0, 0, 0], longest), Ok(FrameHeader::Message { body_bytes: MESSAGE_BYTES_MAX }));
        assert_eq!(header([1, 0, 0, 0], longest + 1), Err(FrameFault::Length));
        assert_eq!(header([1, 0, 0, 0], 0), Err(FrameFault::Length));
        assert_eq!(header([1, 0, 0, 0], u32::MAX), Err(FrameFault::Length));
        let payload_bytes = PIECE_BYTES_MAX;
        let piece = FrameHeader::Piece { encoding: Encoding::Raw, payload_bytes };
        assert_eq!(header([2, 0, 0, 0], payload_bytes + 24), Ok(piece));
        assert_eq!(header([2, 0, 0, 0], payload_bytes + 25), Err(FrameFault::Length));
        assert_eq!(header([2, 0, 0, 0], 24), Err(FrameFault::Length));
        assert_eq!(header([2, 1, 0, 0], 25), Err(FrameFault::Length));
        assert_eq!(header([2, 0, 0, 0], 23), Err(FrameFault::Length));
        let payload_bytes = PIECE_BYTES_MAX - 1;
        let piece = FrameHeader::Piece { encoding: Encoding::Zstd, payload_bytes };
        assert_eq!(header([2, 2, 0, 0], payload_bytes + 24), Ok(piece));
        assert_eq!(header([2, 2, 0, 0], payload_bytes + 25), Err(FrameFault::Length));
        assert_eq!(header([2, 2, 0, 0], 24), Err(FrameFault::Length));
    }

    #[test]
    fn row_50_a_compressed_piece_that_is_no_shorter_than_its_bytes_is_refused() {
        for (payload, length, fits) in
            [(3, 4, true), (3, PIECE_BYTES_MAX, true), (3, 3, false), (3, 2, false), (3, PIECE_BYTES_MAX + 1, false)]
        {
            let piece = Piece { chunk: 1, offset: 2, length };
            let head = piece_head(piece, Encoding::Zstd, payload as usize);
            let decoded = Piece::decode(head[8..].try_into().unwrap(), Encoding::Zstd, payload);
            assert_eq!(decoded, if fits { Ok(piece) } else { Err(FrameFault::Length) }, "{payload} for {length}");
        }
    }

    #[test]
    fn row_50_a_piece_whose_length_is_not_its_payload_is_refused() {
        let piece = Piece { chunk: 1, offset: 2, length: 3 };
        let mut frame = piece_head(piece, Encoding::Raw, 3).to_vec();
        frame.extend_from_slice(b"abc");
        let (decoded, used) = FrameHeader::decode_frame(&frame).unwrap();
        assert_eq!((decoded, used), (Frame::Piece { piece, encoding: Encoding::Raw, payload: b"abc" }, frame.len()));
        for length in [0, 2, 4, u32::MAX] {
            frame[24..28].copy_from_slice(&length.to_le_bytes());
            assert_eq!(FrameHeader::decode_frame(&frame), Err(FrameFault::Length), "length {length}");
        }
    }

    proptest! {
        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64), kind in 0..4u8) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            if let Ok((frame, used)) = FrameHeader::decode_frame(&bytes) {
                prop_assert_eq!(frame.encode().unwrap(), &bytes[..used]);
            }
        }
    }
}
