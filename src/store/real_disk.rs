//! A folder of this machine as a [`Disk`].

use super::disk::{BootId, Disk, DiskFile, DiskFolder, Durability, Facts, FileKind, Lock, OpenHow, Replace, Space};
use super::platform;
use crate::manifest::{Mode, Timestamp};
use crate::mmap::View;
use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt};
use cap_std::fs::{Dir, OpenOptions};
use std::io;
use std::path::Path;

/// A folder of this machine, held open: renaming or replacing it later changes nothing about where files go.
#[derive(Debug)]
pub struct RealDisk {
    destination: RealFolder,
    boot: Option<BootId>,
}

/// An open folder.
#[derive(Debug)]
pub struct RealFolder(Dir);

/// An open file.
#[derive(Debug)]
pub struct RealFile(std::fs::File);

impl RealDisk {
    /// Opens the folder at `path`; a link to a folder is followed, for the user chose it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let folder = platform::opened_for_reading(&Dir::open_ambient_dir(path, cap_std::ambient_authority())?)?;
        let boot = platform::boot(&folder);
        Ok(Self { destination: RealFolder(folder), boot })
    }

    /// The same disk as if seen under another start of the system.
    #[must_use]
    pub fn with_boot(self, boot: Option<BootId>) -> Self {
        Self { boot, ..self }
    }
}

impl Disk for RealDisk {
    type Folder = RealFolder;

    fn destination(&self) -> &RealFolder {
        &self.destination
    }

    fn held_open_max(&self) -> usize {
        // Others in this process have files open too, other stores among them.
        platform::handles_max() / 8
    }

    fn boot(&self) -> Option<BootId> {
        self.boot
    }
}

impl DiskFolder for RealFolder {
    type File = RealFile;

    fn facts(&self, name: &str) -> io::Result<Option<Facts>> {
        match platform::facts_at(&self.0, name) {
            Ok(facts) => Ok(Some(facts)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn own_facts(&self) -> io::Result<Facts> {
        platform::facts_of(&self.0)
    }

    fn open_folder(&self, name: &str) -> io::Result<Self> {
        match self.0.open_dir_nofollow(name) {
            Ok(folder) => Ok(Self(platform::opened_for_reading(&folder)?)),
            // A link is refused as a loop by some systems and as no folder by others.
            Err(error) => match self.facts(name) {
                Ok(Some(facts)) if facts.kind != FileKind::Folder => Err(io::ErrorKind::NotADirectory.into()),
                _ => Err(error),
            },
        }
    }

    fn make_folder(&self, name: &str, private: bool) -> io::Result<()> {
        platform::make_folder(&self.0, name, private)
    }

    fn remove_folder(&self, name: &str) -> io::Result<()> {
        self.0.remove_dir(name)
    }

    fn open_file(&self, name: &str, how: OpenHow) -> io::Result<RealFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(how != OpenHow::Read).create_new(how == OpenHow::Create);
        options.follow(FollowSymlinks::No);
        platform::harden(&mut options);
        Ok(RealFile(self.0.open_with(name, &options)?.into_std()))
    }

    fn open_unnamed(&self) -> io::Result<Option<RealFile>> {
        Ok(platform::open_unnamed(&self.0)?.map(RealFile))
    }

    fn give_name(&self, file: &RealFile, name: &str) -> io::Result<()> {
        platform::give_name(&file.0, &self.0, name)
    }

    fn remove_file(&self, name: &str) -> io::Result<()> {
        self.0.remove_file(name)
    }

    fn rename(&self, name: &str, to: &Self, to_name: &str, replace: Replace) -> io::Result<()> {
        match replace {
            Replace::File => self.0.rename(name, &to.0, to_name),
            Replace::Never => platform::rename_to_free_name(&self.0, name, &to.0, to_name),
        }
    }

    fn make_symlink(&self, target: &str, name: &str) -> io::Result<()> {
        platform::make_symlink(&self.0, target, name)
    }

    fn set_symlink_time(&self, name: &str, modified: Timestamp) -> io::Result<()> {
        platform::set_symlink_time(&self.0, name, modified)
    }

    fn read_symlink(&self, name: &str) -> io::Result<String> {
        platform::read_symlink(&self.0, name)
    }

    fn link(&self, name: &str, to: &Self, to_name: &str) -> io::Result<bool> {
        platform::link(&self.0, name, &to.0, to_name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.0.entries()? {
            // A name that is not Unicode is none that the store makes or looks for.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn sync(&self) -> io::Result<Durability> {
        platform::sync_folder(&self.0)
    }

    fn sync_file_system(&self) -> io::Result<bool> {
        platform::sync_file_system(&self.0)
    }

    fn set_attribute(&self, name: &str, value: &[u8]) -> io::Result<()> {
        platform::set_attribute(&self.0, name, value)
    }

    fn set_meta(&self, mode: Mode, modified: Option<Timestamp>) -> io::Result<()> {
        platform::set_folder_meta(&self.0, mode, modified)
    }

    fn space(&self) -> io::Result<Space> {
        platform::space(&self.0)
    }

    fn check_writable(&self) -> io::Result<()> {
        platform::check_writable(&self.0)
    }
}

impl DiskFile for RealFile {
    fn facts(&self) -> io::Result<Facts> {
        platform::facts_of(&self.0)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        platform::read_at(&self.0, into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        platform::write_at(&self.0, bytes, offset)
    }

    fn reserve(&self, length: u64) -> io::Result<bool> {
        platform::reserve(&self.0, length)
    }

    fn may_share(&self) -> bool {
        platform::may_share(&self.0)
    }

    fn share(&self, other: &Self, from: u64, at: u64, length: u64) -> io::Result<bool> {
        platform::share(&self.0, &other.0, from, at, length)
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<bool> {
        platform::punch(&self.0, offset, length)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn set_attribute(&self, name: &str, value: &[u8]) -> io::Result<()> {
        platform::set_attribute(&self.0, name, value)
    }

    fn set_meta(&self, mode: Mode, modified: Option<Timestamp>) -> io::Result<()> {
        platform::set_file_meta(&self.0, mode, modified)
    }

    fn has_meta(&self, mode: Mode, modified: Timestamp) -> io::Result<bool> {
        platform::has_meta(&self.0, mode, modified)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn lock(&self, lock: Lock) -> io::Result<bool> {
        platform::lock(&self.0, lock)
    }

    fn drop_cache(&self) {
        platform::drop_cache(&self.0);
    }

    fn view(&self, length: u64) -> Option<View> {
        if platform::hashes_best_in_a_view(&self.0) { View::of(&self.0, length).ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (tempfile::TempDir, RealDisk) {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        (folder, disk)
    }

    #[test]
    fn a_rename_to_a_taken_name_fails_and_changes_nothing() {
        let (folder, disk) = disk();
        std::fs::write(folder.path().join("one"), "1").unwrap();
        std::fs::write(folder.path().join("two"), "2").unwrap();
        let root = disk.destination();
        let error = root.rename("one", root, "two", Replace::Never).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(folder.path().join("two")).unwrap(), b"2");
        root.rename("one", root, "three", Replace::Never).unwrap();
        root.rename("three", root, "two", Replace::File).unwrap();
        assert_eq!(std::fs::read(folder.path().join("two")).unwrap(), b"1");
    }

    #[cfg(unix)]
    #[test]
    fn links_and_pipes_are_named_and_not_followed() {
        let (folder, disk) = disk();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        std::fs::write(folder.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("folder", folder.path().join("to_folder")).unwrap();
        std::os::unix::fs::symlink("file", folder.path().join("to_file")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("pipe"), rustix::fs::Mode::RUSR).unwrap();
        let root = disk.destination();
        for (name, kind) in [("folder", FileKind::Folder), ("file", FileKind::File), ("pipe", FileKind::Other)] {
            assert_eq!(root.facts(name).unwrap().unwrap().kind, kind);
        }
        for name in ["to_folder", "to_file"] {
            assert_eq!(root.facts(name).unwrap().unwrap().kind, FileKind::Link);
            assert_eq!(root.open_folder(name).unwrap_err().kind(), io::ErrorKind::NotADirectory);
            assert!(root.open_file(name, OpenHow::Read).is_err() && root.open_file(name, OpenHow::Write).is_err());
            assert!(root.open_file(name, OpenHow::Create).is_err());
        }
        assert_eq!(root.facts("nothing").unwrap(), None);
        let pipe = root.open_file("pipe", OpenHow::Read).unwrap();
        assert_eq!(pipe.facts().unwrap().kind, FileKind::Other);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_start_of_the_system_has_a_name() {
        let (folder, disk) = disk();
        assert!(disk.boot().is_some());
        assert_eq!(disk.boot(), RealDisk::open(folder.path()).unwrap().boot());
    }
}
