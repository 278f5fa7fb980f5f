//! Where a manifest is written: a file that is there as a whole or not at all, or a stream.

use crate::store::{Disk, DiskFolder, RealDisk, RealFolder, Replace};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process;

/// Names that are tried for a file under way.
const NAMES_TRIED: u32 = 1000;

/// A file of our own beside its final name, which it gets when it is complete. Dropped before, it is removed.
pub(super) struct WholeFile {
    disk: RealDisk,
    file: File,
    name: String,
    is_placed: bool,
}

/// The folder that holds `path`.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A file without a name in `folder`, for what is too much for the memory.
pub(super) fn nameless_file(folder: &Path) -> io::Result<File> {
    let (file, name) = new_file(folder)?;
    std::fs::remove_file(folder.join(name))?;
    Ok(file)
}

/// A file that was not there before, by a name of its own.
fn new_file(folder: &Path) -> io::Result<(File, String)> {
    for number in 0..NAMES_TRIED {
        let name = format!(".haul-manifest-{}-{number}.new", process::id());
        match OpenOptions::new().read(true).write(true).create_new(true).open(folder.join(&name)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            opened => return Ok((opened?, name)),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

impl WholeFile {
    /// A file that is to become `path`.
    pub(super) fn beside(path: &Path) -> io::Result<Self> {
        let folder = folder_of(path);
        let disk = RealDisk::open(&folder)?;
        let (file, name) = new_file(&folder)?;
        Ok(Self { disk, file, name, is_placed: false })
    }

    /// Makes it durable and gives it its name. Without `overwrite` a name that is taken is
    /// [`ErrorKind::AlreadyExists`], and what has it stays as it is.
    pub(super) fn place(mut self, path: &Path, overwrite: bool) -> io::Result<()> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(ErrorKind::InvalidInput)?;
        self.file.sync_all()?;
        let folder = self.folder();
        folder.rename(&self.name, folder, name, if overwrite { Replace::File } else { Replace::Never })?;
        self.is_placed = true;
        self.folder().sync().map(|_| ())
    }

    fn folder(&self) -> &RealFolder {
        self.disk.destination()
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if !self.is_placed {
            // What cannot be removed only takes room.
            let _ = self.folder().remove_file(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it");
        let mut file = WholeFile::beside(&path).unwrap();
        file.write_all(b"one").unwrap();
        assert!(!path.exists());
        file.place(&path, false).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        let mut other = WholeFile::beside(&path).unwrap();
        other.write_all(b"two").unwrap();
        assert_eq!(other.place(&path, false).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        let mut other = WholeFile::beside(&path).unwrap();
        other.write_all(b"three").unwrap();
        drop(nameless_file(folder.path()).unwrap());
        other.place(&path, true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        drop(WholeFile::beside(&path).unwrap());
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, ["it"], "nothing is left behind");
    }
}
