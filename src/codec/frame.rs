//! The one form of frame header that a compressed piece has, as RFC 8878 lays it out.

use super::CodecFault;

const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// Descriptor bit: the window is the whole content, whose length is in the header.
const SINGLE_SEGMENT: u8 = 1 << 5;
/// Descriptor bits that say how long the field with the content's length is.
const LENGTH_FIELD_SHIFT: u8 = 6;
/// The shorter of two forms of that field counts from here on.
const TWO_BYTES_FROM: u32 = 256;

/// Checks that `frame` is one of a single segment of `length` bytes, without dictionary and checksum.
pub(super) fn check(frame: &[u8], length: usize) -> Result<(), CodecFault> {
    let (magic, rest) = frame.split_first_chunk::<4>().ok_or(CodecFault::Damaged)?;
    let (&descriptor, rest) = rest.split_first().ok_or(CodecFault::Damaged)?;
    if *magic != MAGIC || descriptor & !(0b11 << LENGTH_FIELD_SHIFT) != SINGLE_SEGMENT {
        return Err(CodecFault::Header);
    }
    let claimed = match descriptor >> LENGTH_FIELD_SHIFT {
        0 => rest.first().map(|&byte| u32::from(byte)),
        1 => rest.first_chunk().map(|&bytes| TWO_BYTES_FROM + u32::from(u16::from_le_bytes(bytes))),
        2 => rest.first_chunk().map(|&bytes| u32::from_le_bytes(bytes)),
        _ => return Err(CodecFault::Header),
    };
    let claimed = claimed.ok_or(CodecFault::Damaged)?;
    if usize::try_from(claimed) == Ok(length) { Ok(()) } else { Err(CodecFault::Length) }
}
