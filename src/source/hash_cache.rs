//! Chunk digests of files of several chunks, kept between runs under the user's cache folder.
//!
//! One file for each (device, inode), named by a digest of the two. A header holds the identity of the state that was
//! hashed; rows behind it hold digests of chunks that follow each other, each row with a check over the identity and
//! itself. All numbers are little-endian.
//!
//! ```text
//! header: magic "haulhash" · version u32 · device u64 · inode u64 · length u64
//!         · mtime i64 s, u32 ns · ctime i64 s, u32 ns
//! row:    first chunk u32 · count u32 · read since i64 s, u32 ns · count × 32 bytes · check 16 bytes
//! ```
//!
//! A row is one append; what a crash tears, or anything garbles, fails its check and is cut off by the next writer.
//! One process writes a file at a time, under flock(2); others read.
//!
//! **A write that leaves no trace.** A file written twice within one tick of its file system's clock has the same
//! times after both writes, so a digest taken in between would look valid for ever. Each row therefore holds the time
//! at which its reading began, taken from the file system's own stamp on the cache file, and is believed only if the
//! source's times were settled by then: 100 ms old on local file systems that stamp in nanoseconds, two seconds old
//! elsewhere. Rows of a file that was just made are still written; of them only those read too early are read again
//! by the next run, which is never more than what that time sufficed to hash. And what comes from here is never sent
//! unseen: see [`Provenance::Cache`](super::Provenance).

use super::HashedChunk;
use super::place::{Identity, Moment, read_at};
use crate::chunk::{Geometry, Length};
use crate::digest::{ChunkDigest, DIGEST_BYTES, PurposeHasher};
use crate::limits::{HASH_CACHE_BYTES_MAX, HASH_PAGE_CHUNKS_MAX, STATE_FILE_BYTES_MAX};
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{DirBuilder, File};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

const MAGIC: [u8; 8] = *b"haulhash";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 8 + 4 + 3 * 8 + 2 * 12;
const ROW_HEAD_BYTES: usize = 4 + 4 + 12;
const CHECK_BYTES: usize = 16;
/// What a file counts for at least: bounds their number, so that looking through them all stays quick.
const FILE_BYTES_COUNTED_MIN: u64 = 16 * 1024;
/// Age at which the times of a file are settled, where stamps are local and fine.
const SETTLED_NANOSECONDS_FINE: i128 = 100_000_000;
/// The same for file systems that stamp in whole or double seconds, or on another machine.
const SETTLED_NANOSECONDS_COARSE: i128 = 2_000_000_000;

/// The cache folder.
#[derive(Debug)]
pub(super) struct HashCache {
    bytes_max: u64,
    folder: OwnedFd,
    /// Bytes that the folder's files count for, once they have been counted.
    used: Mutex<Option<u64>>,
}

/// What the cache holds about one state of one file.
#[derive(Debug)]
pub(super) struct CachedHashes {
    chunks: u32,
    /// Where the last good row ends.
    end: u64,
    file: File,
    header: [u8; HEADER_BYTES],
    /// Whether this process may write: no other one does, and nothing went wrong.
    is_writer: bool,
    /// Believed rows by their first chunk.
    rows: BTreeMap<u32, Row>,
    /// Time after which what was read is believed, in nanoseconds since 1970.
    settled: i128,
}

/// When reading began, by the clock that stamps the cache file.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadSince(Moment);

#[derive(Clone, Copy, Debug)]
struct Row {
    at: u64,
    count: u32,
}

impl HashCache {
    /// The cache in `folder`, made if need be; `None` where that cannot be used. A cache is never worth an error.
    pub(super) fn open(folder: &Path) -> Option<Self> {
        Self::open_bounded(folder, HASH_CACHE_BYTES_MAX)
    }

    fn open_bounded(folder: &Path, bytes_max: u64) -> Option<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).ok()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty()).ok()?;
        Some(Self { bytes_max, folder, used: Mutex::default() })
    }

    /// What is known about `source` in the state of `identity`.
    pub(super) fn load(&self, source: &File, identity: &Identity) -> Option<CachedHashes> {
        let chunks = Geometry::of(Length(identity.bytes))?.count().0;
        let settled =
            identity.changed.max(identity.modified).nanoseconds_since_1970() + settling_time(source, identity);
        let file = self.open_file(&file_name(identity))?;
        let is_writer = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        let header = header_of(identity);
        let mut cached = CachedHashes { chunks, end: 0, file, header, is_writer, rows: BTreeMap::new(), settled };
        cached.read_rows();
        Some(cached)
    }

    /// Drops what is known about a file.
    pub(super) fn forget(&self, identity: &Identity) {
        // Where nothing is known there is nothing to drop.
        let _ = rustix::fs::unlinkat(&self.folder, file_name(identity), AtFlags::empty());
    }

    fn open_file(&self, name: &str) -> Option<File> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |flags| rustix::fs::openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR);
        let opened = match open(flags) {
            Err(rustix::io::Errno::NOENT) if self.reserve(FILE_BYTES_COUNTED_MIN) => open(flags | OFlags::CREATE),
            opened => opened,
        };
        opened.ok().map(File::from)
    }

    /// Whether there is room for `bytes` more, dropping the files that were not used for longest to make some.
    fn reserve(&self, bytes: u64) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let before = used.unwrap_or_else(|| self.files().iter().map(|(_, _, bytes)| bytes).sum());
        let mut after = before.saturating_add(bytes);
        if after > self.bytes_max {
            after = self.drop_oldest(bytes);
        }
        let fits = after <= self.bytes_max;
        *used = Some(if fits { after } else { after.saturating_sub(bytes) });
        fits
    }

    /// Makes room down to three quarters, so that this is not done for every further row.
    fn drop_oldest(&self, bytes: u64) -> u64 {
        let mut files = self.files();
        files.sort_unstable();
        let mut used = files.iter().map(|(_, _, bytes)| bytes).sum::<u64>().saturating_add(bytes);
        for (_, name, bytes) in files {
            if used <= self.bytes_max / 4 * 3 {
                break;
            }
            if rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()).is_ok() {
                used = used.saturating_sub(bytes);
            }
        }
        used
    }

    /// The cache's files: time of last use, name, and what each counts for. Anything else in the folder is not ours.
    fn files(&self) -> Vec<(Moment, String, u64)> {
        let Ok(entries) = Dir::read_from(&self.folder) else { return Vec::new() };
        let name = |entry: rustix::fs::DirEntry| entry.file_name().to_str().ok().map(str::to_owned);
        let names = entries.flatten().filter_map(name).filter(|name| is_file_name(name));
        let status = |name: String| {
            let stat = rustix::fs::statat(&self.folder, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let identity = Identity::of(&stat);
            Some((identity.modified, name, identity.bytes.max(FILE_BYTES_COUNTED_MIN)))
        };
        names.filter_map(status).collect()
    }
}

impl CachedHashes {
    /// Fills in the digests that are known of the chunks from `first` on.
    pub(super) fn find(&self, first: u32, digests: &mut [Option<ChunkDigest>]) {
        let end = u64::from(first) + digests.len() as u64;
        let end = u32::try_from(end).unwrap_or(u32::MAX);
        // No row is longer than a page, so none that starts further ahead reaches the range.
        let from = first.saturating_sub(u32::from(HASH_PAGE_CHUNKS_MAX));
        for (&row_first, row) in self.rows.range(from..end) {
            let overlap = row_first.max(first)..(row_first + row.count).min(end);
            if overlap.is_empty() {
                continue;
            }
            let Some((_, known)) = self.read_row(row.at) else { continue };
            for chunk in overlap {
                digests[(chunk - first) as usize] = Some(known[(chunk - row_first) as usize]);
            }
        }
    }

    /// The time by the clock that stamps files, for what is read from here on; `None` if nothing is to be kept. It
    /// also marks the file as used.
    pub(super) fn read_since(&self) -> Option<ReadSince> {
        if !self.is_writer {
            return None;
        }
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        rustix::fs::futimens(&self.file, &Timestamps { last_access: now, last_modification: now }).ok()?;
        rustix::fs::fstat(&self.file).ok().map(|stat| ReadSince(Identity::of(&stat).modified))
    }

    /// Keeps digests of chunks from `first` on, which were read after `since`.
    pub(super) fn keep(&mut self, cache: Option<&HashCache>, first: u32, hashed: &[HashedChunk], since: ReadSince) {
        let mut first = first;
        for page in hashed.chunks(usize::from(HASH_PAGE_CHUNKS_MAX)) {
            let count = u32::try_from(page.len()).expect("a page's chunks are counted by a u16");
            let row = self.row_bytes(first, page, since);
            if !self.is_writer || !cache.is_some_and(|cache| cache.reserve(row.len() as u64)) {
                return;
            }
            if self.end + row.len() as u64 > file_bytes_max(self.chunks) {
                self.start_over();
            }
            // Where a write fails the tail is not known, so nothing is written behind it.
            self.is_writer &= self.file.write(&row).is_ok_and(|written| written == row.len());
            if self.is_writer {
                self.add(first, Row { at: self.end, count }, since);
                self.end += row.len() as u64;
            }
            first += count;
        }
    }

    fn read_rows(&mut self) {
        let mut header = [0; HEADER_BYTES];
        let is_ours = read_at(&self.file, 0, &mut header).is_ok_and(|count| count == header.len());
        let length = self.file.metadata().map_or(0, |metadata| metadata.len());
        if !is_ours || header != self.header || length > STATE_FILE_BYTES_MAX {
            self.start_over();
            return;
        }
        self.end = HEADER_BYTES as u64;
        while let Some(((first, count, since), digests)) = self.read_row(self.end) {
            self.add(first, Row { at: self.end, count }, since);
            self.end += row_bytes_of(digests.len()) as u64;
        }
        // A torn tail is cut off, because no row behind it would ever be found.
        if self.is_writer && length > self.end {
            self.is_writer = self.file.set_len(self.end).is_ok();
        }
    }

    fn start_over(&mut self) {
        self.rows.clear();
        self.end = HEADER_BYTES as u64;
        if self.is_writer {
            let header = self.header;
            self.is_writer =
                self.file.set_len(0).is_ok() && self.file.write(&header).is_ok_and(|written| written == header.len());
        }
    }

    fn add(&mut self, first: u32, row: Row, since: ReadSince) {
        if since.0.nanoseconds_since_1970() <= self.settled {
            return;
        }
        let longest = self.rows.entry(first).or_insert(row);
        if longest.count <= row.count {
            *longest = row;
        }
    }

    /// The row at `at`, if it is a good one. It is checked every time: another process may be rewriting the file.
    fn read_row(&self, at: u64) -> Option<((u32, u32, ReadSince), Vec<ChunkDigest>)> {
        let mut head = [0; ROW_HEAD_BYTES];
        read_at(&self.file, at, &mut head).ok().filter(|count| *count == head.len())?;
        let mut fields = Fields(&head);
        let (first, count) = (u32::from_le_bytes(fields.take()), u32::from_le_bytes(fields.take()));
        let since = ReadSince(Moment {
            seconds: i64::from_le_bytes(fields.take()),
            nanoseconds: u32::from_le_bytes(fields.take()),
        });
        let is_possible = (1..=u32::from(HASH_PAGE_CHUNKS_MAX)).contains(&count)
            && first.checked_add(count).is_some_and(|end| end <= self.chunks);
        if !is_possible {
            return None;
        }
        let mut row = vec![0; row_bytes_of(count as usize)];
        read_at(&self.file, at, &mut row).ok().filter(|read| *read == row.len())?;
        let (body, check) = row.split_at(row.len() - CHECK_BYTES);
        if self.check(body) != *check || body[..ROW_HEAD_BYTES] != head {
            return None;
        }
        let digests = body[ROW_HEAD_BYTES..].as_chunks::<DIGEST_BYTES>().0.iter().copied().map(ChunkDigest);
        Some(((first, count, since), digests.collect()))
    }

    fn row_bytes(&self, first: u32, page: &[HashedChunk], since: ReadSince) -> Vec<u8> {
        let mut row = Vec::with_capacity(row_bytes_of(page.len()));
        row.extend_from_slice(&first.to_le_bytes());
        row.extend_from_slice(&u32::try_from(page.len()).expect("a page's chunks are counted by a u16").to_le_bytes());
        row.extend_from_slice(&since.0.seconds.to_le_bytes());
        row.extend_from_slice(&since.0.nanoseconds.to_le_bytes());
        row.extend(page.iter().flat_map(|hashed| hashed.digest.0));
        let check = self.check(&row);
        row.extend_from_slice(&check);
        row
    }

    /// Binds a row to the state it was taken of, so that a reader never takes it for another one's.
    fn check(&self, body: &[u8]) -> [u8; CHECK_BYTES] {
        let digest = PurposeHasher::new("haul 2026 hash cache row v1").field(&self.header).field(body).finish();
        *digest.first_chunk().expect("a digest is longer than a check")
    }
}

impl Moment {
    fn nanoseconds_since_1970(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds)
    }
}

/// The fields of a row's head, one by one.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const BYTES: usize>(&mut self) -> [u8; BYTES] {
        let (field, rest) = self.0.split_first_chunk().expect("a head is as long as its fields");
        self.0 = rest;
        *field
    }
}

fn row_bytes_of(count: usize) -> usize {
    ROW_HEAD_BYTES + count * DIGEST_BYTES + CHECK_BYTES
}

/// Twice what all digests need: beyond that most rows were written for a state that would not settle.
fn file_bytes_max(chunks: u32) -> u64 {
    HEADER_BYTES as u64 + 2 * (u64::from(chunks) + 1024) * row_bytes_of(1) as u64
}

fn header_of(identity: &Identity) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let moments = [identity.modified, identity.changed];
    let mut rest = &mut header[..];
    let mut put = |bytes: &[u8]| rest.write_all(bytes).expect("a header is as long as its fields");
    put(&MAGIC);
    put(&VERSION.to_le_bytes());
    for number in [identity.device, identity.inode, identity.bytes] {
        put(&number.to_le_bytes());
    }
    for moment in moments {
        put(&moment.seconds.to_le_bytes());
        put(&moment.nanoseconds.to_le_bytes());
    }
    header
}

fn file_name(identity: &Identity) -> String {
    let mut hasher = PurposeHasher::new("haul 2026 hash cache file v1");
    let digest = hasher.field(&identity.device.to_le_bytes()).field(&identity.inode.to_le_bytes()).finish();
    digest[..16].iter().fold(String::with_capacity(32), |mut name, byte| {
        write!(name, "{byte:02x}").expect("a String takes all that is written to it");
        name
    })
}

fn is_file_name(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// How long after its last change a file may be changed again without a trace.
fn settling_time(source: &File, identity: &Identity) -> i128 {
    // A stamp without a fraction tells of a file system, or an inode, that keeps none.
    if identity.changed.nanoseconds != 0 && stamps_finely(source) {
        SETTLED_NANOSECONDS_FINE
    } else {
        SETTLED_NANOSECONDS_COARSE
    }
}

/// Local file systems of Linux, whose stamps are as fine as the kernel's tick, 10 ms at most.
#[cfg(target_os = "linux")]
fn stamps_finely(source: &File) -> bool {
    const BTRFS: u64 = 0x9123_683e;
    const EXT4: u64 = 0xef53;
    const F2FS: u64 = 0xf2f5_2010;
    const TMPFS: u64 = 0x0102_1994;
    const XFS: u64 = 0x5846_5342;
    let kind = rustix::fs::fstatfs(source).ok().and_then(|status| u64::try_from(status.f_type).ok());
    kind.is_some_and(|kind| [BTRFS, EXT4, F2FS, TMPFS, XFS].contains(&kind))
}

#[cfg(not(target_os = "linux"))]
fn stamps_finely(_source: &File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Provenance;

    const CHUNKS: u32 = 3000;
    /// A time at which the file of these tests is long settled.
    const SETTLED: ReadSince = ReadSince(Moment { seconds: 2000, nanoseconds: 0 });

    struct Place {
        cache: HashCache,
        source: File,
        temp: tempfile::TempDir,
    }

    impl Place {
        fn bounded(bytes_max: u64) -> Self {
            let temp = tempfile::tempdir().unwrap();
            let cache = HashCache::open_bounded(&temp.path().join("a/hashes"), bytes_max).unwrap();
            Self { cache, source: tempfile::tempfile().unwrap(), temp }
        }

        fn load(&self, identity: &Identity) -> CachedHashes {
            self.cache.load(&self.source, identity).unwrap()
        }

        fn path(&self, identity: &Identity) -> std::path::PathBuf {
            self.temp.path().join("a/hashes").join(file_name(identity))
        }

        fn bytes(&self) -> u64 {
            self.cache.files().iter().map(|(_, _, bytes)| bytes).sum()
        }
    }

    fn identity(inode: u64) -> Identity {
        let moment = Moment { seconds: 1000, nanoseconds: 1 };
        Identity { device: 7, inode, bytes: u64::from(CHUNKS) * 256 * 1024, modified: moment, changed: moment }
    }

    fn digest(chunk: u32) -> ChunkDigest {
        let mut bytes = [0xd1; DIGEST_BYTES];
        bytes[..4].copy_from_slice(&chunk.to_le_bytes());
        ChunkDigest(bytes)
    }

    fn hashed(chunks: std::ops::Range<u32>) -> Vec<HashedChunk> {
        chunks.map(|chunk| HashedChunk { digest: digest(chunk), provenance: Provenance::Read }).collect()
    }

    /// Which chunks are known; each must be known by its own digest.
    fn known(cached: &CachedHashes) -> Vec<u32> {
        let mut digests = vec![None; CHUNKS as usize];
        cached.find(0, &mut digests);
        let known = (0..).zip(digests).filter_map(|(chunk, found)| found.map(|found| (chunk, found)));
        known.inspect(|(chunk, found)| assert_eq!(*found, digest(*chunk))).map(|(chunk, _)| chunk).collect()
    }

    #[test]
    fn kept_digests_are_found_again() {
        let place = Place::bounded(HASH_CACHE_BYTES_MAX);
        let mut cached = place.load(&identity(1));
        cached.keep(Some(&place.cache), 5, &hashed(5..20), SETTLED);
        cached.keep(Some(&place.cache), 100, &hashed(100..2500), SETTLED);
        let expected: Vec<u32> = (5..20).chain(100..2500).collect();
        assert_eq!(known(&cached), expected);
        drop(cached);
        let cached = place.load(&identity(1));
        assert_eq!(known(&cached), expected);
        let mut some = vec![None; 10];
        cached.find(15, &mut some);
        assert_eq!(some.iter().flatten().count(), 5);
        cached.find(1200, &mut some);
        assert_eq!(some.iter().flatten().count(), 10);
    }

    #[test]
    fn another_state_of_the_file_knows_nothing() {
        let base = identity(1);
        let later = Moment { seconds: 1000, nanoseconds: 2 };
        for other in [
            Identity { bytes: base.bytes - 1, ..base },
            Identity { changed: later, ..base },
            Identity { modified: later, ..base },
        ] {
            let place = Place::bounded(HASH_CACHE_BYTES_MAX);
            place.load(&base).keep(Some(&place.cache), 0, &hashed(0..10), SETTLED);
            assert_eq!(known(&place.load(&base)).len(), 10);
            assert_eq!(known(&place.load(&other)), [0u32; 0]);
            assert_eq!(known(&place.load(&base)), [0u32; 0], "the file was rewritten for the other state");
        }
        let place = Place::bounded(HASH_CACHE_BYTES_MAX);
        place.load(&base).keep(Some(&place.cache), 0, &hashed(0..10), SETTLED);
        assert_eq!(known(&place.load(&Identity { device: 8, ..base })), [0u32; 0]);
        assert_eq!(known(&place.load(&Identity { inode: 2, ..base })), [0u32; 0]);
        assert_eq!(known(&place.load(&base)).len(), 10);
    }

    #[test]
    fn every_torn_or_garbled_row_is_ignored() {
        let place = Place::bounded(HASH_CACHE_BYTES_MAX);
        let mut cached = place.load(&identity(1));
        cached.keep(Some(&place.cache), 0, &hashed(0..3), SETTLED);
        cached.keep(Some(&place.cache), 10, &hashed(10..12), SETTLED);
        drop(cached);
        let path = place.path(&identity(1));
        let good = std::fs::read(&path).unwrap();
        let first_end = HEADER_BYTES + row_bytes_of(3);
        assert_eq!(good.len(), first_end + row_bytes_of(2));
        for length in HEADER_BYTES..good.len() {
            std::fs::write(&path, &good[..length]).unwrap();
            let expected: &[u32] = if length < first_end { &[] } else { &[0, 1, 2] };
            let mut cached = place.load(&identity(1));
            assert_eq!(known(&cached), expected, "cut to {length}");
            cached.keep(Some(&place.cache), 20, &hashed(20..21), SETTLED);
            drop(cached);
            assert_eq!(known(&place.load(&identity(1))).last(), Some(&20), "appended behind a cut to {length}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            std::fs::write(&path, &bad).unwrap();
            let expected: &[u32] = if at < first_end { &[] } else { &[0, 1, 2] };
            assert_eq!(known(&place.load(&identity(1))), expected, "garbled at {at}");
        }
    }

    #[test]
    fn what_was_read_before_the_times_settled_is_not_believed_later() {
        let place = Place::bounded(HASH_CACHE_BYTES_MAX);
        // Stamps of a source without a fraction take two seconds to settle on any file system.
        let moment = Moment { seconds: 1000, nanoseconds: 0 };
        let identity = Identity { modified: moment, changed: moment, ..identity(1) };
        for (seconds, is_believed) in [(999, false), (1000, false), (1002, false), (1003, true)] {
            let since = ReadSince(Moment { seconds, nanoseconds: 0 });
            let mut cached = place.load(&identity);
            cached.keep(Some(&place.cache), 0, &hashed(0..4), since);
            assert_eq!(known(&cached).is_empty(), !is_believed, "read at {seconds}");
            drop(cached);
            assert_eq!(known(&place.load(&identity)).is_empty(), !is_believed, "read at {seconds}, later");
        }
    }

    #[test]
    fn a_state_that_never_settles_does_not_grow_the_cache() {
        let place = Place::bounded(HASH_CACHE_BYTES_MAX);
        let early = ReadSince(Moment { seconds: 1000, nanoseconds: 0 });
        let mut cached = place.load(&identity(1));
        for _ in 0..20 {
            cached.keep(Some(&place.cache), 0, &hashed(0..CHUNKS), early);
            assert!(std::fs::metadata(place.path(&identity(1))).unwrap().len() <= file_bytes_max(CHUNKS));
        }
    }

    #[test]
    fn the_oldest_files_make_room() {
        let bytes_max = 20 * FILE_BYTES_COUNTED_MIN;
        let place = Place::bounded(bytes_max);
        for inode in 0..100 {
            place.load(&identity(inode)).keep(Some(&place.cache), 0, &hashed(0..200), SETTLED);
            let path = place.path(&identity(inode));
            let age = std::time::UNIX_EPOCH + std::time::Duration::from_secs(inode);
            File::options().write(true).open(path).unwrap().set_modified(age).unwrap();
            assert!(place.bytes() <= bytes_max, "after file {inode}");
        }
        assert_eq!(known(&place.load(&identity(99))).len(), 200);
        assert!(!place.path(&identity(0)).exists());
    }

    #[test]
    fn a_second_writer_only_reads() {
        let place = Place::bounded(HASH_CACHE_BYTES_MAX);
        let mut one = place.load(&identity(1));
        one.keep(Some(&place.cache), 0, &hashed(0..4), SETTLED);
        let mut other = place.load(&identity(1));
        assert_eq!(known(&other), [0, 1, 2, 3]);
        assert!(other.read_since().is_none());
        other.keep(Some(&place.cache), 10, &hashed(10..14), SETTLED);
        drop((one, other));
        assert_eq!(known(&place.load(&identity(1))), [0, 1, 2, 3]);
    }

    #[test]
    fn only_the_user_can_read_the_cache() {
        use std::os::unix::fs::PermissionsExt;
        let place = Place::bounded(HASH_CACHE_BYTES_MAX);
        drop(place.load(&identity(1)));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&place.path(&identity(1))), 0o600);
        assert_eq!(mode(place.path(&identity(1)).parent().unwrap()), 0o700);
    }
}
