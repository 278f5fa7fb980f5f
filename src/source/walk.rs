//! The walk: given paths to a listing in order, one folder handle per level open.

use super::fault::{SourceError, Trouble};
use super::filter::Sieve;
use super::links::FirstNames;
use super::notice::{Notice, NoticeReason};
use super::place::{self, Anchors, Identity};
use super::{
    Above, EntryKind, LeftOut, Place, Source, SourceEntry, Walk, WalkOptions, attributes, permission_bits, top,
};
use crate::chunk::Length;
use crate::limits::{ENTRIES_MAX, FILE_BYTES_MAX, TOTAL_BYTES_MAX};
use crate::manifest::Attributes;
use crate::rel_path::{PathFault, RelPath};
use rustix::fs::{FileType, Stat};
use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

/// Notices that are told; further ones are counted, so that a tree of a million links costs no memory.
const NOTICES_MAX: usize = 1000;

/// A walk under way.
#[derive(Default)]
pub(super) struct Walker {
    entries: Vec<SourceEntry>,
    failures: u64,
    first_names: FirstNames,
    identities: Vec<Identity>,
    pub(super) lists_symlinks: bool,
    /// Path of what is looked at, as the user would write it.
    local_path: PathBuf,
    names: Vec<u8>,
    notices: Vec<Notice>,
    notices_untold: u64,
    places: Vec<Place>,
    reads_attributes: bool,
    sieve: Sieve,
    stop: Option<Arc<AtomicBool>>,
    total: u64,
}

/// A name in a folder that is being read.
struct Found {
    local: CString,
    /// Its name in the listing, where that is another.
    renamed: Option<String>,
}

pub(super) fn walk(paths: &[PathBuf], options: &WalkOptions) -> Result<Walk, SourceError> {
    let walk = walk_tops(top::resolve(paths)?, options)?;
    let LeftOut { files, folders, .. } = walk.left_out;
    if files + folders > 0 && walk.entries.iter().all(|entry| entry.kind == EntryKind::Folder) {
        return Err(SourceError::AllLeftOut { files, folders });
    }
    if walk.entries.is_empty() {
        return Err(SourceError::Nothing { notices: walk.notices });
    }
    Ok(walk)
}

/// Walks what may turn out to be nothing. A top that is a link is left out.
pub(super) fn walk_tops(tops: Vec<top::Top>, options: &WalkOptions) -> Result<Walk, SourceError> {
    let mut walker = Walker {
        lists_symlinks: options.symlinks,
        reads_attributes: options.attributes,
        sieve: Sieve::new(options.filter.clone()),
        stop: options.stop.clone(),
        ..Walker::default()
    };
    let mut anchors = Anchors::default();
    for top in tops {
        walker.local_path.clone_from(&top.given);
        walker.sieve.begin(&top.given);
        let anchor = match anchors.add(&top.folder) {
            Ok(anchor) => anchor,
            Err(source) => return Err(SourceError::Unreadable { path: top.given, source }),
        };
        let above = Above::Anchor(u32::try_from(anchor).map_err(|_| SourceError::TooManyEntries)?);
        let name = top.local_name.as_os_str();
        let is_renamed = top.given.file_name().unwrap_or(name).to_str().is_none();
        let walked =
            anchors.with(anchor, |folder| Ok(walker.visit(folder, name, RelPath::parse(&top.name), is_renamed, above)));
        match walked {
            Ok(result) => result?,
            Err(trouble) => walker.leave_out(trouble),
        }
    }
    Ok(walker.finish(anchors, options))
}

impl Walker {
    /// Takes what lies at `name` directly in `folder`, with everything below it.
    fn visit(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        path: Result<RelPath, PathFault>,
        is_renamed: bool,
        above: Above,
    ) -> Result<(), SourceError> {
        if self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            return Err(SourceError::Stopped);
        }
        if self.sieve.leaves_out(folder, name, &self.local_path) {
            return Ok(());
        }
        let path = match path {
            Ok(path) => path,
            Err(PathFault::WorkFolder) => {
                self.notice(NoticeReason::WorkFolder);
                return Ok(());
            }
            Err(fault) => {
                self.notice(NoticeReason::UnsafeName(fault));
                return Ok(());
            }
        };
        let stat = match place::status(folder, name) {
            Ok(stat) => stat,
            Err(trouble) => {
                self.leave_out(trouble);
                return Ok(());
            }
        };
        if is_renamed {
            self.notice(NoticeReason::Renamed(path.clone()));
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return self.take_folder(folder, name, &path, above),
            FileType::RegularFile => return self.take_file(folder, name, path, above, &stat),
            FileType::Symlink => return self.take_symlink(folder, name, path, above, &stat),
            FileType::Fifo => self.notice(NoticeReason::Fifo),
            FileType::Socket => self.notice(NoticeReason::Socket),
            _ => self.notice(NoticeReason::Device),
        }
        Ok(())
    }

    fn take_file(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        path: RelPath,
        above: Above,
        stat: &Stat,
    ) -> Result<(), SourceError> {
        if let Err(trouble) = place::check_readable(folder, name) {
            self.leave_out(trouble);
            return Ok(());
        }
        if let Some(to) = self.first_names.find(stat) {
            let kind = EntryKind::HardLink { to };
            return self.list(name, path, above, kind, stat, Attributes::NONE).map(|_| ());
        }
        let length = Identity::of(stat).bytes;
        if length > FILE_BYTES_MAX {
            self.notice(NoticeReason::TooLong);
            return Ok(());
        }
        // Both are far below the edge of u64, by the limits' own assertions.
        self.total += length;
        if self.total > TOTAL_BYTES_MAX {
            return Err(SourceError::TooManyBytes);
        }
        let attributes =
            if self.reads_attributes { self.attributes_of(folder, name, stat) } else { Ok(Attributes::NONE) };
        match attributes {
            Ok(attributes) => {
                let kind = EntryKind::File { length: Length(length) };
                let entry = self.list(name, path, above, kind, stat, attributes)?;
                self.first_names.keep(stat, entry);
            }
            Err(trouble) => self.leave_out(trouble),
        }
        Ok(())
    }

    /// The extended attributes of the file that `stat` is of.
    fn attributes_of(&mut self, folder: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> Result<Attributes, Trouble> {
        let (file, opened) = place::open_file(folder, Path::new(name))?;
        if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
            return Err(Trouble::Changed);
        }
        Ok(self.attributes(file.as_fd()))
    }

    /// The extended attributes of an open file or folder. What cannot be read of them is told, and not sent.
    fn attributes(&mut self, handle: BorrowedFd<'_>) -> Attributes {
        let unread = attributes::Found { attributes: Attributes::NONE, left_out: 1 };
        let attributes::Found { attributes, left_out } = attributes::read(handle).unwrap_or(unread);
        if left_out > 0 {
            self.notice(NoticeReason::Attributes(left_out));
        }
        attributes
    }

    fn take_folder(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        path: &RelPath,
        above: Above,
    ) -> Result<(), SourceError> {
        let room = ENTRIES_MAX as usize - self.entries.len().min(ENTRIES_MAX as usize);
        let opened = place::open_listable_folder(folder, name).and_then(|(opened, stat)| {
            let names = place::names(&opened, room)?;
            Ok((opened, stat, names))
        });
        match opened {
            Ok((_, _, names)) if names.len() > room => Err(SourceError::TooManyEntries),
            Ok((opened, stat, names)) => {
                let attributes = if self.reads_attributes { self.attributes(opened.as_fd()) } else { Attributes::NONE };
                let entry = self.list(name, path.clone(), above, EntryKind::Folder, &stat, attributes)?;
                self.walk_folder(&opened, names, path, entry)
            }
            Err(trouble) => {
                self.leave_out(trouble);
                Ok(())
            }
        }
    }

    fn walk_folder(
        &mut self,
        folder: &OwnedFd,
        names: Vec<CString>,
        path: &RelPath,
        entry: u32,
    ) -> Result<(), SourceError> {
        for found in listed_names(names) {
            let local = OsStr::from_bytes(found.local.to_bytes());
            self.local_path.push(local);
            // A name that is no text always has one to be listed under.
            let listed = found.renamed.as_deref().or(local.to_str()).unwrap_or_default();
            let child = RelPath::parse(&format!("{}/{listed}", path.as_str()));
            self.visit(folder.as_fd(), local, child, found.renamed.is_some(), Above::Folder(entry))?;
            self.local_path.pop();
        }
        Ok(())
    }

    /// Adds an entry and returns its place.
    pub(super) fn list(
        &mut self,
        name: &OsStr,
        path: RelPath,
        above: Above,
        kind: EntryKind,
        stat: &Stat,
        attributes: Attributes,
    ) -> Result<u32, SourceError> {
        let entry = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        if entry >= ENTRIES_MAX {
            return Err(SourceError::TooManyEntries);
        }
        let identity = Identity::of(stat);
        let (Ok(name_at), Ok(name_bytes)) = (u32::try_from(self.names.len()), u16::try_from(name.len())) else {
            return Err(SourceError::TooManyEntries);
        };
        self.names.extend_from_slice(name.as_bytes());
        self.places.push(Place { above, is_file: matches!(kind, EntryKind::File { .. }), name_at, name_bytes });
        self.identities.push(identity);
        self.entries.push(SourceEntry {
            path,
            kind,
            mode: permission_bits(stat.st_mode),
            mtime_seconds: identity.modified.seconds,
            mtime_nanoseconds: identity.modified.nanoseconds,
            attributes,
        });
        Ok(entry)
    }

    pub(super) fn leave_out(&mut self, trouble: Trouble) {
        self.notice(match trouble {
            Trouble::Changed | Trouble::Vanished => NoticeReason::Vanished,
            Trouble::Unreadable(error) => NoticeReason::Unreadable(error),
        });
    }

    pub(super) fn notice(&mut self, reason: NoticeReason) {
        let notice = Notice { path: self.local_path.clone(), reason };
        self.failures += u64::from(notice.is_failure());
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(notice);
        } else {
            self.notices_untold += 1;
        }
    }

    fn finish(mut self, anchors: Anchors, options: &WalkOptions) -> Walk {
        self.names.shrink_to_fit();
        self.places.shrink_to_fit();
        self.identities.shrink_to_fit();
        let source = Source {
            anchors,
            buffers: super::Buffers::default(),
            cache: options.hash_cache.as_deref().and_then(super::HashCache::open),
            hashed: AtomicU64::new(0),
            identities: RwLock::new(self.identities),
            kept: super::Kept::new(options.kept_bytes_max),
            names: self.names,
            open_files: super::OpenFiles::new(options.open_files_max),
            places: self.places,
        };
        Walk {
            entries: self.entries,
            notices: self.notices,
            notices_untold: self.notices_untold,
            failures: self.failures,
            left_out: self.sieve.left_out,
            source,
            total: Length(self.total),
        }
    }
}

/// The names of a folder in the order of the listing. One that is no text never takes the name of another.
fn listed_names(names: Vec<CString>) -> Vec<Found> {
    let mut found: Vec<Found> = names
        .into_iter()
        .map(|local| match top::listed_name(OsStr::from_bytes(local.to_bytes())) {
            Cow::Borrowed(_) => Found { local, renamed: None },
            Cow::Owned(renamed) => Found { local, renamed: Some(renamed) },
        })
        .collect();
    found.sort_unstable_by(|one, other| one.local.cmp(&other.local));
    if found.iter().any(|found| found.renamed.is_some()) {
        part_equal_names(&mut found);
        found.sort_unstable_by(|one, other| one.listed().cmp(other.listed()));
    }
    found
}

fn part_equal_names(found: &mut [Found]) {
    let mut taken: HashSet<Vec<u8>> =
        found.iter().filter(|found| found.renamed.is_none()).map(|found| found.local.to_bytes().to_vec()).collect();
    for renamed in found.iter_mut().filter_map(|found| found.renamed.as_mut()) {
        let wanted = renamed.clone();
        let mut number = 1;
        while !taken.insert(renamed.clone().into_bytes()) {
            *renamed = format!("{wanted}~{number}");
            number += 1;
        }
    }
}

impl Found {
    fn listed(&self) -> &[u8] {
        self.renamed.as_ref().map_or(self.local.to_bytes(), |name| name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_names_never_take_the_name_of_another() {
        let names = [&b"b\xff"[..], b"b%FF~1", b"b%FF", b"a", b"c"].map(|name| CString::new(name).unwrap());
        let found = listed_names(names.to_vec());
        let listed: Vec<&[u8]> = found.iter().map(Found::listed).collect();
        assert_eq!(listed, [&b"a"[..], b"b%FF", b"b%FF~1", b"b%FF~2", b"c"]);
        assert_eq!(found[3].local.to_bytes(), b"b\xff");
    }
}
