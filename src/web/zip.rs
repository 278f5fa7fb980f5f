//! Several files as one zip that is never made: stored, the same bytes every time, of known length, read from anywhere.

use super::native::read_file;
use crate::digest::PurposeHasher;
use crate::limits::MIB;
use crate::manifest::{Entry, EntryIndex, EntryKind};
use crate::transfer::{Shelf, SourceChanged};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A zip of some entries of what is offered. Links are left out.
#[derive(Debug)]
pub(super) struct Zip {
    shelf: Shelf,
    members: Vec<Member>,
    /// Where the directory begins, and where it ends.
    directory: (u64, u64),
    stamp: [u8; 32],
    modified: i64,
    /// Of files that were read. Reading one for it ahead of sending it lets the header before it be complete, which more
    /// programs can read than a checksum behind it.
    checksums: Mutex<HashMap<u32, u32>>,
    /// Held by whoever reads a file for that: others that need the same one wait for it instead of reading it, too.
    reading: Mutex<()>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    entry: EntryIndex,
    /// Where its header begins.
    at: u64,
    /// Where its record begins in the directory, from the start of the zip.
    record_at: u64,
}

impl Zip {
    /// A zip of these entries, or of all. Nothing where one is not there or is no file.
    pub(super) fn of(shelf: &Shelf, files: Option<&[u32]>) -> Option<Self> {
        let listing = shelf.listing();
        let mut chosen: Vec<u32> = match files {
            Some(files) => files.to_vec(),
            None => (0..u32::try_from(listing.entries().len()).ok()?).collect(),
        };
        chosen.sort_unstable();
        chosen.dedup();
        let mut stamp = PurposeHasher::new("haul 2026 web 1: state of a zip");
        let (mut members, mut at, mut modified) = (Vec::new(), 0_u64, 0);
        for entry in chosen.into_iter().map(EntryIndex) {
            let listed = listing.entry(entry)?;
            if listed.is_link() && files.is_none() {
                continue;
            }
            let length = match listed.kind {
                EntryKind::File { length } => length.0,
                EntryKind::Folder if files.is_none() => 0,
                _ => return None,
            };
            if listed.file_length().is_some() {
                stamp.field(&shelf.stamp(entry));
            }
            stamp.field(listed.path.as_str().as_bytes()).field(&listed.modified.seconds().to_le_bytes());
            modified = modified.max(listed.modified.seconds());
            members.push(Member { entry, at, record_at: 0 });
            at += header(listed, 0).len() as u64 + length;
        }
        let directory_at = at;
        for member in &mut members {
            member.record_at = at;
            at += record(listing.entry(member.entry)?, 0, member.at).len() as u64;
        }
        let (stamp, shelf) = (stamp.finish(), shelf.clone());
        Some(Self {
            shelf,
            members,
            directory: (directory_at, at),
            stamp,
            modified,
            checksums: Mutex::default(),
            reading: Mutex::default(),
        })
    }

    pub(super) fn length(&self) -> u64 {
        self.directory.1 + self.end().len() as u64
    }

    /// Names the state of everything in it.
    pub(super) fn stamp(&self) -> &[u8; 32] {
        &self.stamp
    }

    /// When the youngest file in it last changed.
    pub(super) fn modified(&self) -> i64 {
        self.modified
    }

    /// Fills `out` with the bytes from `at` on.
    pub(super) fn read(&self, mut at: u64, mut out: &mut [u8]) -> Result<(), SourceChanged> {
        while !out.is_empty() {
            let filled = if at < self.directory.0 {
                self.read_member(at, out)?
            } else if at < self.directory.1 {
                self.read_directory(at, out)?
            } else {
                copy_from(&self.end(), at - self.directory.1, out)
            };
            if filled == 0 {
                return Err(SourceChanged);
            }
            at += filled as u64;
            out = &mut out[filled..];
        }
        Ok(())
    }

    fn read_member(&self, at: u64, out: &mut [u8]) -> Result<usize, SourceChanged> {
        let member = self.members[self.members.partition_point(|member| member.at <= at) - 1];
        let listed = self.listed(member)?;
        let within = at - member.at;
        // The header is as long with any checksum.
        let header_bytes = header(listed, 0).len() as u64;
        if within < header_bytes {
            return Ok(copy_from(&header(listed, self.checksum(member.entry)?), within, out));
        }
        let from = within - header_bytes;
        let left = listed.file_length().map_or(0, |length| length.0).saturating_sub(from);
        let filled = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        read_file(&self.shelf, member.entry, from, &mut out[..filled])?;
        Ok(filled)
    }

    fn read_directory(&self, at: u64, out: &mut [u8]) -> Result<usize, SourceChanged> {
        let member = self.members[self.members.partition_point(|member| member.record_at <= at) - 1];
        let record = record(self.listed(member)?, self.checksum(member.entry)?, member.at);
        Ok(copy_from(&record, at - member.record_at, out))
    }

    fn listed(&self, member: Member) -> Result<&Entry, SourceChanged> {
        self.shelf.listing().entry(member.entry).ok_or(SourceChanged)
    }

    /// The CRC-32 of a file; reads all of it the first time.
    fn checksum(&self, entry: EntryIndex) -> Result<u32, SourceChanged> {
        let length = self.shelf.listing().entry(entry).and_then(Entry::file_length).map_or(0, |length| length.0);
        let known = || self.checksums.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&checksum) = known().get(&entry.0) {
            return Ok(checksum);
        }
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&checksum) = known().get(&entry.0) {
            return Ok(checksum);
        }
        let (mut hasher, mut at) = (crc32fast::Hasher::new(), 0);
        let mut buffer = vec![0; usize::try_from(length.min(MIB)).map_err(|_| SourceChanged)?];
        while at < length {
            let filled = usize::try_from(length - at).unwrap_or(usize::MAX).min(buffer.len());
            read_file(&self.shelf, entry, at, &mut buffer[..filled])?;
            hasher.update(&buffer[..filled]);
            at += filled as u64;
        }
        let checksum = hasher.finalize();
        known().insert(entry.0, checksum);
        Ok(checksum)
    }

    fn end(&self) -> Vec<u8> {
        end(self.members.len() as u64, self.directory)
    }
}

/// What stands behind a directory of so many members, which begins and ends there.
fn end(count: u64, (at, end): (u64, u64)) -> Vec<u8> {
    let mut bytes = Vec::new();
    if count >= u64::from(u16::MAX) || end >= U32_MAX {
        // Zip64 end of the directory, and where that is.
        put(&mut bytes, &[0x0606_4b50_u32.to_le_bytes().as_slice(), &44_u64.to_le_bytes(), &[45, 3, 45, 0]]);
        put(&mut bytes, &[[0; 8].as_slice(), &count.to_le_bytes(), &count.to_le_bytes()]);
        put(&mut bytes, &[&(end - at).to_le_bytes(), &at.to_le_bytes()]);
        put(&mut bytes, &[0x0706_4b50_u32.to_le_bytes().as_slice(), &[0; 4], &end.to_le_bytes(), &1_u32.to_le_bytes()]);
    }
    let short = u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes();
    put(&mut bytes, &[0x0605_4b50_u32.to_le_bytes().as_slice(), &[0; 4], &short, &short]);
    put(&mut bytes, &[&clipped(end - at), &clipped(at), [0; 2].as_slice()]);
    bytes
}

/// What stands before a member's bytes.
fn header(entry: &Entry, checksum: u32) -> Vec<u8> {
    let (name, length) = (name(entry), entry.file_length().map_or(0, |length| length.0));
    let is_long = length >= U32_MAX;
    let mut bytes = Vec::with_capacity(30 + name.len() + 20);
    put(&mut bytes, &[0x0403_4b50_u32.to_le_bytes().as_slice(), &version(is_long), &shape(entry, checksum)]);
    let extra = if is_long { 20_u16 } else { 0 };
    put(&mut bytes, &[&clipped(length), &clipped(length), &short(name.len()), extra.to_le_bytes().as_slice()]);
    bytes.extend_from_slice(name.as_bytes());
    if is_long {
        put(&mut bytes, &[&[1, 0, 16, 0], length.to_le_bytes().as_slice(), &length.to_le_bytes()]);
    }
    bytes
}

/// What the directory says of a member whose header begins at `at`.
fn record(entry: &Entry, checksum: u32, at: u64) -> Vec<u8> {
    let (name, length) = (name(entry), entry.file_length().map_or(0, |length| length.0));
    let mut long = Vec::new();
    if length >= U32_MAX {
        put(&mut long, &[&length.to_le_bytes(), length.to_le_bytes().as_slice()]);
    }
    if at >= U32_MAX {
        long.extend_from_slice(&at.to_le_bytes());
    }
    let is_long = !long.is_empty();
    let extra = if is_long { long.len() + 4 } else { 0 };
    let kind: u32 = if entry.file_length().is_some() { 0o100_000 } else { 0o040_000 };
    let attributes = ((kind | u32::from(entry.mode.bits())) << 16) | if kind == 0o040_000 { 0x10 } else { 0 };
    let mut bytes = Vec::with_capacity(46 + name.len() + extra);
    // Made on Unix, so that its mode bits mean something.
    put(&mut bytes, &[0x0201_4b50_u32.to_le_bytes().as_slice(), &[45, 3], &version(is_long), &shape(entry, checksum)]);
    put(&mut bytes, &[&clipped(length), &clipped(length), &short(name.len()), short(extra).as_slice()]);
    put(&mut bytes, &[[0; 6].as_slice(), &attributes.to_le_bytes(), &clipped(at)]);
    bytes.extend_from_slice(name.as_bytes());
    if is_long {
        put(&mut bytes, &[&[1, 0], short(long.len()).as_slice(), &long]);
    }
    bytes
}

/// Flags (names are UTF-8), method (stored), time and checksum.
fn shape(entry: &Entry, checksum: u32) -> [u8; 12] {
    let (date, time) = dos_time(entry.modified.seconds());
    let mut shape = [0; 12];
    shape[..2].copy_from_slice(&0x0800_u16.to_le_bytes());
    shape[4..6].copy_from_slice(&time.to_le_bytes());
    shape[6..8].copy_from_slice(&date.to_le_bytes());
    shape[8..].copy_from_slice(&checksum.to_le_bytes());
    shape
}

/// A time as zip has it: date and time of day in UTC, from 1980 on, in steps of two seconds.
fn dos_time(seconds: i64) -> (u16, u16) {
    let seconds = seconds.clamp(FIRST_DOS_SECOND, LAST_DOS_SECOND);
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since the first of March of the year 0, in which a leap day is the last of its year.
    let from_march = day + 719_468;
    let era = from_march.div_euclid(146_097);
    let of_era = from_march.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let date = ((year - 1980) << 9) | (month << 5) | day_of_month;
    let time = ((second / 3600) << 11) | ((second / 60 % 60) << 5) | ((second % 60) / 2);
    // Both fit, by the years that are let through.
    (u16::try_from(date).unwrap_or(u16::MAX), u16::try_from(time).unwrap_or(u16::MAX))
}

fn name(entry: &Entry) -> String {
    let slash = if entry.file_length().is_some() { "" } else { "/" };
    format!("{}{slash}", entry.path.as_str())
}

/// What a reader has to know: 2.0, or 4.5 for lengths of 64 bits.
fn version(is_long: bool) -> [u8; 2] {
    [if is_long { 45 } else { 20 }, 0]
}

/// A number in 32 bits; all ones where the real one stands elsewhere.
fn clipped(number: u64) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes()
}

/// A length that is below 64 KiB: a path is, and so is what stands beside it.
fn short(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes()
}

fn put(bytes: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        bytes.extend_from_slice(part);
    }
}

/// Copies what fits of `bytes` from `from` on, and says how much.
fn copy_from(bytes: &[u8], from: u64, out: &mut [u8]) -> usize {
    let rest = usize::try_from(from).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
    let filled = rest.len().min(out.len());
    out[..filled].copy_from_slice(&rest[..filled]);
    filled
}

const U32_MAX: u64 = u32::MAX as u64;
/// 1980-01-01 and the last even second of 2107.
const FIRST_DOS_SECOND: i64 = 315_532_800;
const LAST_DOS_SECOND: i64 = 4_354_819_198;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Length;
    use crate::manifest::{Attributes, Mode, Timestamp};
    use crate::rel_path::RelPath;

    /// The number that lies there in so many bytes.
    fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
        bytes[at..at + length].iter().rev().fold(0, |number, &byte| (number << 8) | u64::from(byte))
    }

    fn file(length: u64) -> Entry {
        Entry {
            path: RelPath::parse("film").unwrap(),
            kind: EntryKind::File { length: Length(length) },
            mode: Mode::masked(0o644),
            modified: Timestamp::clamped(0, 0),
            attributes: Attributes::default(),
        }
    }

    const GIB: u64 = 1 << 30;

    #[test]
    fn lengths_and_places_above_32_bits_stand_where_readers_of_zip64_look_for_them() {
        for length in [0, U32_MAX - 1, U32_MAX, 5 * GIB] {
            let (bytes, is_long) = (header(&file(length), 7), length >= U32_MAX);
            let short = if is_long { U32_MAX } else { length };
            assert_eq!((number(&bytes, 18, 4), number(&bytes, 22, 4)), (short, short), "{length}");
            assert_eq!((number(&bytes, 4, 2), number(&bytes, 28, 2)), if is_long { (45, 20) } else { (20, 0) });
            assert_eq!(bytes.len(), if is_long { 54 } else { 34 });
            if is_long {
                assert_eq!((number(&bytes, 34, 2), number(&bytes, 36, 2)), (1, 16), "the field of zip64");
                assert_eq!((number(&bytes, 38, 8), number(&bytes, 46, 8)), (length, length));
            }
        }
        // Of length and place, only those that do not fit stand there, in this order.
        for (length, at, long) in [
            (5, 6, vec![]),
            (5 * GIB, 6, vec![5 * GIB, 5 * GIB]),
            (5, 6 * GIB, vec![6 * GIB]),
            (U32_MAX, U32_MAX, vec![U32_MAX; 3]),
        ] {
            let bytes = record(&file(length), 7, at);
            let short = (length.min(U32_MAX), length.min(U32_MAX), at.min(U32_MAX));
            assert_eq!((number(&bytes, 20, 4), number(&bytes, 24, 4), number(&bytes, 42, 4)), short);
            assert_eq!(number(&bytes, 6, 2), if long.is_empty() { 20 } else { 45 });
            let extra = if long.is_empty() { 0 } else { 4 + 8 * long.len() };
            assert_eq!((number(&bytes, 30, 2), bytes.len()), (extra as u64, 50 + extra));
            for (place, wanted) in long.iter().enumerate() {
                assert_eq!(number(&bytes, 54 + 8 * place, 8), *wanted);
            }
        }
    }

    #[test]
    fn more_members_than_16_bits_can_count_and_a_directory_beyond_4_gib_have_the_longer_end() {
        for (count, directory, is_long) in [
            (0, (0, 0), false),
            (65_534, (100, U32_MAX - 1), false),
            (65_535, (100, 200), true),
            (70_000, (100, 200), true),
            (3, (100, U32_MAX), true),
            (3, (5 * GIB, 5 * GIB + 150), true),
        ] {
            let bytes = end(count, directory);
            assert_eq!(bytes.len(), if is_long { 56 + 20 + 22 } else { 22 }, "{count} {directory:?}");
            let short = &bytes[bytes.len() - 22..];
            assert_eq!(number(short, 0, 4), 0x0605_4b50);
            assert_eq!(number(short, 10, 2), count.min(65_535));
            let size = directory.1 - directory.0;
            assert_eq!((number(short, 12, 4), number(short, 16, 4)), (size.min(U32_MAX), directory.0.min(U32_MAX)));
            if is_long {
                assert_eq!((number(&bytes, 0, 4), number(&bytes, 4, 8)), (0x0606_4b50, 44));
                assert_eq!((number(&bytes, 24, 8), number(&bytes, 32, 8)), (count, count));
                assert_eq!((number(&bytes, 40, 8), number(&bytes, 48, 8)), (size, directory.0));
                assert_eq!((number(&bytes, 56, 4), number(&bytes, 64, 8)), (0x0706_4b50, directory.1), "where it is");
            }
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let date = |year: u16, month: u16, day: u16| ((year - 1980) << 9) | (month << 5) | day;
        let time = |hour: u16, minute: u16, second: u16| (hour << 11) | (minute << 5) | (second / 2);
        for (seconds, expected) in [
            (0, (date(1980, 1, 1), 0)),
            (i64::MIN, (date(1980, 1, 1), 0)),
            (951_782_399, (date(2000, 2, 28), time(23, 59, 58))),
            (951_782_400, (date(2000, 2, 29), 0)),
            (1_700_000_000, (date(2023, 11, 14), time(22, 13, 20))),
            (i64::MAX, (date(2107, 12, 31), time(23, 59, 58))),
        ] {
            assert_eq!(dos_time(seconds), expected, "{seconds}");
        }
    }
}
