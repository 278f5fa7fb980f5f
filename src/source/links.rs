//! Links in a walked tree: symbolic ones as what they hold, further names of a file as links to its first.

use super::fault::{SourceError, Trouble};
use super::notice::NoticeReason;
use super::walk::Walker;
use super::{Above, EntryKind, place};
use crate::manifest::{Attributes, LinkTarget};
use crate::rel_path::RelPath;
use rustix::fs::Stat;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;

/// The entries of files that have several names, by device and inode.
#[derive(Debug, Default)]
pub(super) struct FirstNames(HashMap<(u64, u64), u32>);

impl FirstNames {
    /// The entry that the file was listed under before.
    pub(super) fn find(&self, stat: &Stat) -> Option<u32> {
        // Most files have one name, and are not looked for.
        (stat.st_nlink > 1).then(|| self.0.get(&(stat.st_dev, stat.st_ino)).copied()).flatten()
    }

    /// Remembers the entry that a file is listed under.
    pub(super) fn keep(&mut self, stat: &Stat, entry: u32) {
        if stat.st_nlink > 1 {
            self.0.insert((stat.st_dev, stat.st_ino), entry);
        }
    }
}

impl Walker {
    /// Takes the symbolic link `name` directly in `folder`, if it leads nowhere else than to what is sent.
    pub(super) fn take_symlink(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        path: RelPath,
        above: Above,
        stat: &Stat,
    ) -> Result<(), SourceError> {
        if !self.lists_symlinks {
            self.notice(NoticeReason::Symlink);
            return Ok(());
        }
        let text = match rustix::fs::readlinkat(folder, name, Vec::new()) {
            Ok(text) => text,
            Err(errno) => {
                self.leave_out(match place::lookup_trouble(errno) {
                    // It is no link any more.
                    Trouble::Unreadable(_) if errno == rustix::io::Errno::INVAL => Trouble::Changed,
                    trouble => trouble,
                });
                return Ok(());
            }
        };
        let Ok(text) = text.to_str() else {
            self.notice(NoticeReason::TargetNotUtf8);
            return Ok(());
        };
        let target = LinkTarget::parse(text).and_then(|target| target.check_from(&path).map(|()| target));
        match target {
            Ok(target) => match target.refusal() {
                None => self.list(name, path, above, EntryKind::Symlink { target }, stat, Attributes::NONE).map(|_| ()),
                Some(fault) => {
                    self.notice(NoticeReason::UnsafeName(fault));
                    Ok(())
                }
            },
            Err(fault) => {
                self.notice(NoticeReason::UnsafeTarget(fault));
                Ok(())
            }
        }
    }
}
