//! Text as a QR code: for a terminal, as SVG or as PNG.

use png::{BitDepth, ColorType, Encoder, EncodingError};
use qrcode::bits::Bits;
use qrcode::optimize::Segment;
use qrcode::types::{Color, Mode, QrError, Version};
use qrcode::{EcLevel, QrCode};
use std::fmt::{self, Write as _};
use zeroize::Zeroizing;

/// Light modules around the code, without which many scanners do not see where it ends.
pub const QUIET_MODULES: usize = 4;
/// Pixels of a module's side in an image.
const PNG_SCALE: usize = 8;
/// Black on bright white, whatever colours the terminal has of its own.
const BLACK_ON_WHITE: &str = "\x1b[0;30;107m";
const ON_WHITE: &str = "\x1b[0;107m";
const ON_BLACK: &str = "\x1b[0;40m";
const RESET: &str = "\x1b[0m";

/// How much of a code may be covered or dirty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Correction {
    /// About 7 %: enough on a screen.
    Low,
    /// About 15 %.
    Medium,
}

/// What a terminal can draw a module with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blocks {
    /// Half a character cell, by a Unicode block element.
    Half,
    /// Two whole character cells, by their background alone: for terminals that show no Unicode.
    Spaces,
}

/// Why a text has no QR code.
#[derive(Debug, thiserror::Error)]
pub enum QrFault {
    /// The text is longer than any QR code.
    #[error("the text is too long for a QR code")]
    TooLong(#[source] QrError),
    /// The image could not be written.
    #[error("the QR code cannot be drawn")]
    Image(#[source] EncodingError),
}

/// A QR code. It holds what its text holds, so it is kept from debug output, and its modules are wiped when it is dropped.
pub struct Qr {
    /// Modules of a side, without the quiet zone.
    side: usize,
    /// 1 where a module is dark, row by row.
    dark: Zeroizing<Vec<u8>>,
}

impl Qr {
    /// The smallest QR code of `text`. Upper-case letters, digits and most of `$%*+-./:` take the least room.
    pub fn of(text: &str, correction: Correction) -> Result<Self, QrFault> {
        let level = match correction {
            Correction::Low => EcLevel::L,
            Correction::Medium => EcLevel::M,
        };
        let code = smallest(text.as_bytes(), level).map_err(QrFault::TooLong)?;
        let colors = Zeroizing::new(code.to_colors().into_iter().map(|color| u8::from(color == Color::Dark)).collect());
        Ok(Self { side: code.width(), dark: colors })
    }

    /// Modules of a side with the quiet zone.
    pub fn side(&self) -> usize {
        self.side + 2 * QUIET_MODULES
    }

    /// Columns and rows that it takes on a terminal.
    pub fn cells(&self, blocks: Blocks) -> (usize, usize) {
        match blocks {
            Blocks::Half => (self.side(), self.side().div_ceil(2)),
            Blocks::Spaces => (2 * self.side(), self.side()),
        }
    }

    /// The code for a terminal, with its quiet zone; each line ends with a line feed and with the colours set back.
    pub fn to_terminal(&self, blocks: Blocks) -> Zeroizing<String> {
        let (columns, rows) = self.cells(blocks);
        // Room for all of it from the start: a string that grows leaves copies behind.
        let per_cell = ON_WHITE.len() + "\u{2580}".len();
        let mut text = Zeroizing::new(String::with_capacity(rows * (columns * per_cell + 32)));
        for row in 0..rows {
            match blocks {
                Blocks::Half => self.push_half_blocks(row, &mut text),
                Blocks::Spaces => self.push_spaces(row, &mut text),
            }
            text.push_str(RESET);
            text.push('\n');
        }
        text
    }

    /// The code as a picture of its own, one unit to a module.
    pub fn to_svg(&self) -> Zeroizing<String> {
        let side = self.side();
        let mut text = Zeroizing::new(String::with_capacity(512 + 24 * self.dark.len()));
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\
             <rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/><path fill=\"#000\" d=\""
        );
        for y in 0..side {
            for x in (0..side).filter(|&x| self.is_dark(x, y)) {
                let _ = write!(text, "M{x} {y}h1v1h-1z");
            }
        }
        text.push_str("\"/></svg>\n");
        text
    }

    /// The code as a PNG image of one bit a pixel.
    pub fn to_png(&self) -> Result<Zeroizing<Vec<u8>>, QrFault> {
        let pixels = self.side() * PNG_SCALE;
        // The scale is that of a byte, so that a module is a whole byte in every row.
        let row_of = |y: usize| (0..self.side()).map(move |x| if self.is_dark(x, y) { 0 } else { 0xff });
        let image: Zeroizing<Vec<u8>> = Zeroizing::new((0..pixels).flat_map(|row| row_of(row / PNG_SCALE)).collect());
        let mut file = Zeroizing::new(Vec::with_capacity(image.len() + 1024));
        let pixels = u32::try_from(pixels).unwrap_or(u32::MAX);
        let mut encoder = Encoder::new(&mut *file, pixels, pixels);
        encoder.set_color(ColorType::Grayscale);
        encoder.set_depth(BitDepth::One);
        let mut writer = encoder.write_header().map_err(QrFault::Image)?;
        writer.write_image_data(&image).map_err(QrFault::Image)?;
        writer.finish().map_err(QrFault::Image)?;
        Ok(file)
    }

    /// Whether the module at this place of the whole square is dark; none of the quiet zone or beyond it is.
    fn is_dark(&self, x: usize, y: usize) -> bool {
        let inside = |at: usize| at.checked_sub(QUIET_MODULES).filter(|&at| at < self.side);
        match (inside(x), inside(y)) {
            (Some(x), Some(y)) => self.dark[y * self.side + x] == 1,
            _ => false,
        }
    }

    fn push_half_blocks(&self, row: usize, text: &mut String) {
        text.push_str(BLACK_ON_WHITE);
        text.extend((0..self.side()).map(|x| match (self.is_dark(x, 2 * row), self.is_dark(x, 2 * row + 1)) {
            (false, false) => ' ',
            (true, false) => '\u{2580}',
            (false, true) => '\u{2584}',
            (true, true) => '\u{2588}',
        }));
    }

    fn push_spaces(&self, row: usize, text: &mut String) {
        let mut last = None;
        for x in 0..self.side() {
            let is_dark = self.is_dark(x, row);
            if last.replace(is_dark) != Some(is_dark) {
                text.push_str(if is_dark { ON_BLACK } else { ON_WHITE });
            }
            text.push_str("  ");
        }
    }
}

impl fmt::Debug for Qr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Qr([redacted], {} modules)", self.side)
    }
}

/// How a part of a text may be written, shortest first.
const MODES: [Mode; 3] = [Mode::Numeric, Mode::Alphanumeric, Mode::Byte];

/// The code of the lowest version that holds `text`. The library's own division into parts is not always the shortest,
/// and one bit too many costs four modules of a side.
fn smallest(text: &[u8], level: EcLevel) -> Result<QrCode, QrError> {
    let mut fault = QrError::DataTooLong;
    // The length of a part takes the same bits in all versions up to the one that is named.
    for class in [1..=9, 10..=26, 27..=40] {
        let parts = shortest(text, Version::Normal(*class.end()));
        for version in class {
            let mut bits = Bits::new(Version::Normal(version));
            match bits.push_segments(text, parts.iter().copied()).and_then(|()| bits.push_terminator(level)) {
                Ok(()) => return QrCode::with_bits(bits, level),
                Err(error) => fault = error,
            }
        }
    }
    Err(fault)
}

/// The division of `text` into parts that takes the fewest bits, by dynamic programming: after each character, the
/// fewest bits that lead there in each mode, and the mode of the character before it.
fn shortest(text: &[u8], version: Version) -> Vec<Segment> {
    // In sixths of a bit, as a digit takes ten thirds and a letter eleven halves.
    let header = MODES.map(|mode| 6 * (4 + mode.length_bits_count(version)));
    let mut costs = header.map(Some);
    let mut before = Vec::with_capacity(text.len());
    for &byte in text {
        let mut from = [0; MODES.len()];
        let mut after = [None; MODES.len()];
        for (mode, &cost_of_one) in [20, 33, 48].iter().enumerate() {
            let is_written = match MODES[mode] {
                Mode::Numeric => byte.is_ascii_digit(),
                Mode::Alphanumeric => {
                    byte.is_ascii_digit() || byte.is_ascii_uppercase() || b" $%*+-./:".contains(&byte)
                }
                _ => true,
            };
            let ways = costs.iter().enumerate().filter_map(|(other, &cost)| {
                let change = if other == mode { cost? } else { cost?.next_multiple_of(6) + header[mode] };
                Some((change + cost_of_one, other))
            });
            if let Some((cost, other)) = ways.min().filter(|_| is_written) {
                (after[mode], from[mode]) = (Some(cost), other);
            }
        }
        costs = after;
        before.push(from);
    }
    let ends = costs.iter().enumerate().filter_map(|(mode, &cost)| Some((cost?.next_multiple_of(6), mode)));
    let Some((_, mut mode)) = ends.min() else { return Vec::new() };
    let mut parts: Vec<Segment> = Vec::new();
    for (at, from) in before.iter().enumerate().rev() {
        match parts.last_mut() {
            Some(part) if part.mode == MODES[mode] => part.begin = at,
            _ => parts.push(Segment { mode: MODES[mode], begin: at, end: at + 1 }),
        }
        mode = from[mode];
    }
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits of the best division, found by trying every mode for every character.
    fn by_force(text: &[u8], version: Version) -> usize {
        let mut best = usize::MAX;
        for choice in 0..3usize.pow(u32::try_from(text.len()).unwrap()) {
            let mut parts: Vec<Segment> = Vec::new();
            for at in 0..text.len() {
                let mode = MODES[choice / 3usize.pow(u32::try_from(at).unwrap()) % 3];
                match parts.last_mut() {
                    Some(part) if part.mode == mode => part.end = at + 1,
                    _ => parts.push(Segment { mode, begin: at, end: at + 1 }),
                }
            }
            let is_written = |part: &Segment| {
                text[part.begin..part.end].iter().all(|byte| match part.mode {
                    Mode::Numeric => byte.is_ascii_digit(),
                    Mode::Alphanumeric => byte.is_ascii_digit() || byte.is_ascii_uppercase(),
                    _ => true,
                })
            };
            if parts.iter().all(is_written) {
                best = best.min(parts.iter().map(|part| part.encoded_len(version)).sum());
            }
        }
        best
    }

    #[test]
    fn no_division_into_parts_takes_fewer_bits() {
        for text in
            ["A", "#", "123456789", "AB#123456", "1234567AB", "#A1#A1#A1", "AAAAAAAA#", "#12345678", "A12345678"]
        {
            for version in [Version::Normal(9), Version::Normal(26)] {
                let parts = shortest(text.as_bytes(), version);
                let bits: usize = parts.iter().map(|part| part.encoded_len(version)).sum();
                assert_eq!(bits, by_force(text.as_bytes(), version), "{text}: {parts:?}");
            }
        }
    }

    #[test]
    fn the_parts_are_the_whole_text() {
        let parts = shortest(b"HTTP://192.168.1.23:4285/AAAA2222#KEY,[FD00::1]:1", Version::Normal(9));
        assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].begin) && parts[0].begin == 0, "{parts:?}");
        assert!(shortest(b"", Version::Normal(9)).is_empty());
    }
}
