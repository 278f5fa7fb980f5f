//! Links among what is received. A link is made under a name in `.haul` and moved to its own, like a file: what its path
//! stands for changes in one step, nothing is replaced unless that was chosen, and no link is ever followed.

use super::attributes::set_on;
use super::disk::{self, Disk, DiskFile, DiskFolder, Durability, Facts, FileKind, OpenHow};
use super::fault::{Halted, StoreError};
use super::publish::{Finished, OnConflict, Publication};
use super::work::Work;
use super::{FileOf, Inner, Store};
use crate::chunk::Geometry;
use crate::digest::FileDigest;
use crate::manifest::LinkTarget;
use crate::rel_path::RelPath;
use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;

/// A link that is to appear.
#[derive(Clone, Debug)]
pub struct LinkWish {
    /// Its path, and what happens if it is taken. Bits, time and attributes are those of the file, where a hard link has to
    /// become a copy; of a symbolic link, the time is its own.
    pub publication: Publication,
    /// What it is.
    pub link: Link,
}

/// What a link is.
#[derive(Clone, Debug)]
pub enum Link {
    /// Another name of a file that is published.
    Hard {
        /// The path that it has.
        first: RelPath,
        /// What it hashes to.
        root: FileDigest,
        /// Its split.
        geometry: Geometry,
    },
    /// Text that leads elsewhere.
    Symbolic(LinkTarget),
}

/// A link that is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Linked {
    /// The path that it has.
    pub path: RelPath,
    /// Whether it is known to outlast a power cut.
    pub durability: Durability,
    /// How it came to be there.
    pub how: LinkedHow,
}

/// How a link came to be there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkedHow {
    /// The file system cannot link the file: this is a copy of it.
    Copied,
    /// The same was there before.
    Identical,
    /// It was made.
    Made,
}

/// What a link may take the place of.
const REPLACEABLE: [FileKind; 2] = [FileKind::File, FileKind::Link];

impl<D: Disk> Store<D> {
    /// Whether a link may take the place of what `path` stands for, where that is chosen.
    pub fn gives_way_to_link(&self, path: &RelPath) -> Result<bool, StoreError> {
        Ok(self.inner.facts_of(path)?.is_none_or(|found| REPLACEABLE.contains(&found.kind)))
    }

    /// What the symbolic link at `path` holds; `None` where there is none, or its text is no UTF-8.
    pub fn read_symlink(&self, path: &RelPath) -> Result<Option<String>, StoreError> {
        self.inner.read_symlink(path)
    }

    /// Makes many links, hard ones to files that are published. Each folder is synced once, after all of them; every other
    /// failure fails its link alone.
    pub fn publish_links(&self, wishes: &[LinkWish]) -> Vec<Result<Linked, StoreError>> {
        let placed: Vec<_> = wishes.iter().map(|wish| self.inner.make_link(wish)).collect();
        let folders = self.inner.sync_folders(placed.iter().flatten().map(|(path, _)| path.parent()));
        placed
            .into_iter()
            .map(|placed| {
                let (path, how) = placed?;
                let durability = folders.of(path.parent().as_ref())?;
                Ok(Linked { path, durability, how })
            })
            .collect()
    }
}

impl<D: Disk> Inner<D> {
    fn make_link(&self, wish: &LinkWish) -> Result<(RelPath, LinkedHow), StoreError> {
        let path = &wish.publication.path;
        if self.is_there(wish)? {
            // Whoever made it may have died before it synced the folder.
            self.mark_unsynced(path.parent());
            return Ok((path.clone(), LinkedHow::Identical));
        }
        let work = self.work()?;
        let (name, how) = match &wish.link {
            Link::Symbolic(target) => (self.symlink_in_work(&work, wish, target)?, LinkedHow::Made),
            Link::Hard { first, root, geometry } => match self.hard_link_in_work(&work, first, *geometry)? {
                Some(name) => (name, LinkedHow::Made),
                None => (self.copy_in_work(&work, &wish.publication, first, *root, *geometry)?, LinkedHow::Copied),
            },
        };
        let placed = self.place_over(&Finished::Named(&work, &name), &wish.publication, &REPLACEABLE);
        // Left behind, it is swept away by the next process. Of two names of one file a move leaves both.
        let _ = work.remove(&name);
        placed.map(|path| (path, how))
    }

    /// Whether the path stands for what is wished already.
    fn is_there(&self, wish: &LinkWish) -> Result<bool, StoreError> {
        let path = &wish.publication.path;
        let found = self.facts_of(path)?;
        match (&wish.link, found) {
            (Link::Symbolic(target), Some(Facts { kind: FileKind::Link, .. })) => {
                let is_same = self.read_symlink(path)?.as_deref() == Some(target.as_str());
                if is_same && wish.publication.conflict == OnConflict::Update {
                    // As of one that is made: it leads where it should in any case.
                    let _ = self.folder_of(path)?.set_symlink_time(path.name(), wish.publication.modified);
                }
                Ok(is_same)
            }
            (Link::Hard { first, root, geometry }, Some(found)) if is_file_of(&found, *geometry) => {
                if self.facts_of(first)?.is_some_and(|first| first.identity == found.identity) {
                    return Ok(true);
                }
                if wish.publication.conflict == OnConflict::Update {
                    return Ok(false);
                }
                let refused = |error| self.fault("reading", path.as_str(), 0, error);
                let file = self.folder_of(path)?.open_file(path.name(), OpenHow::Read).map_err(refused)?;
                let is_same = self.hash_file(&file, *geometry, |_, _| {}).map_err(refused)? == *root;
                if is_same {
                    file.sync().map_err(|source| StoreError::FsyncFailed { path: path.as_str().to_owned(), source })?;
                }
                Ok(is_same)
            }
            _ => Ok(false),
        }
    }

    fn read_symlink(&self, path: &RelPath) -> Result<Option<String>, StoreError> {
        let folder = match self.folder_of(path) {
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
            result => result?,
        };
        match folder.read_symlink(path.name()) {
            // Not there, no link, or no text.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput | ErrorKind::InvalidData) =>
            {
                Ok(None)
            }
            result => result.map(Some).map_err(|error| self.fault("looking at", path.as_str(), 0, error)),
        }
    }

    fn symlink_in_work(&self, work: &Work<D>, wish: &LinkWish, target: &LinkTarget) -> Result<String, StoreError> {
        let path = wish.publication.path.as_str();
        let refused = |error| self.fault("making the link", path, 0, error);
        let make = |name: &str| work.folder().make_symlink(target.as_str(), name);
        let (name, ()) = self.with_room(|| work.make_scratch(make).map_err(refused))?;
        // A link whose time cannot be set still leads where it should.
        let _ = work.folder().set_symlink_time(&name, wish.publication.modified);
        Ok(name)
    }

    /// Gives the published file another name in the work folder; `None` where the file system cannot.
    fn hard_link_in_work(
        &self,
        work: &Work<D>,
        first: &RelPath,
        geometry: Geometry,
    ) -> Result<Option<String>, StoreError> {
        let published = self.published(first, geometry)?;
        let folder = self.folder_of(first)?;
        let refused = |error| self.fault("linking", first.as_str(), 0, error);
        let make = |name: &str| folder.link(first.name(), work.folder(), name);
        let (name, is_made) = self.with_room(|| work.make_scratch(make).map_err(refused))?;
        if !is_made {
            return Ok(None);
        }
        let linked = work.folder().facts(&name).map_err(refused);
        if linked.as_ref().is_ok_and(|found| found.is_some_and(|found| found.identity == published.identity)) {
            return Ok(Some(name));
        }
        let _ = work.remove(&name);
        linked.and(Err(replaced(first)))
    }

    /// Copies the published file into the work folder, complete and synced, and makes sure that the copy has its root.
    fn copy_in_work(
        &self,
        work: &Work<D>,
        publication: &Publication,
        first: &RelPath,
        root: FileDigest,
        geometry: Geometry,
    ) -> Result<String, StoreError> {
        let path = publication.path.as_str();
        self.published(first, geometry)?;
        let refused = |error| self.fault("copying", first.as_str(), geometry.file_length().0, error);
        let from = self.folder_of(first)?.open_file(first.name(), OpenHow::Read).map_err(refused)?;
        let (name, file) = self.with_room(|| work.create_scratch().map_err(refused))?;
        let copied = self.with_room(|| self.copy(&from, &file).map_err(refused)).and_then(|()| {
            let found = self.hash_file(&file, geometry, |_, _| {}).map_err(refused)?;
            if found != root {
                return Err(replaced(first));
            }
            set_on(&file, &publication.attributes);
            let set = || file.set_meta(publication.mode, Some(publication.modified)).map_err(refused);
            self.with_room(set)?;
            file.sync().map_err(|source| StoreError::FsyncFailed { path: path.to_owned(), source })
        });
        if copied.is_err() {
            let _ = work.remove(&name);
        }
        copied.map(|()| name)
    }

    fn copy(&self, from: &FileOf<D>, to: &FileOf<D>) -> io::Result<()> {
        let mut buffer = self.buffers.take();
        let mut at = 0;
        loop {
            if self.is_halted.load(Ordering::Relaxed) {
                return Err(io::Error::other(Halted));
            }
            let count = disk::read_full(from, &mut buffer, at)?;
            disk::write_all(to, &buffer[..count], at)?;
            at += count as u64;
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// What is known of a file that was published. Somebody may have put something else there since.
    fn published(&self, first: &RelPath, geometry: Geometry) -> Result<Facts, StoreError> {
        self.facts_of(first)?.filter(|found| is_file_of(found, geometry)).ok_or_else(|| replaced(first))
    }

    fn facts_of(&self, path: &RelPath) -> Result<Option<Facts>, StoreError> {
        let found = self.folder_of(path)?.facts(path.name());
        found.map_err(|error| self.fault("looking at", path.as_str(), 0, error).of_name())
    }
}

fn is_file_of(found: &Facts, geometry: Geometry) -> bool {
    found.kind == FileKind::File && found.length == geometry.file_length().0
}

fn replaced(first: &RelPath) -> StoreError {
    StoreError::Tampered { path: first.as_str().to_owned(), what: "another program replaced or changed it" }
}
