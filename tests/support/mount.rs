//! File systems made for one test: tmpfs, and images of others on loop devices. They go with their value.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses the part that it needs")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mounted file system, unmounted when dropped.
pub struct Mount {
    place: PathBuf,
}

/// Whether this machine lets tests mount file systems. Where it does not, they fail; `HAUL_NO_LOOP=1` leaves them out.
pub fn may_mount() -> bool {
    std::env::var_os("HAUL_NO_LOOP").is_none_or(|value| value != "1")
}

/// Whether this machine lets tests mount file systems of FUSE. Where it does not, they fail; `HAUL_NO_FUSE=1` leaves them
/// out.
pub fn may_fuse() -> bool {
    let may = std::env::var_os("HAUL_NO_FUSE").is_none_or(|value| value != "1");
    if !may {
        println!("NTFS is left out: HAUL_NO_FUSE=1");
    }
    may
}

impl Mount {
    /// A new NTFS that takes names for one that differ in case, and has no names that Windows has not.
    pub fn ntfs(image: &Path, place: &Path) -> Self {
        let advice = "needs root, /dev/fuse and lowntfs-3g (or HAUL_NO_FUSE=1 to leave it out)";
        File::create(image).unwrap().set_len(32 << 20).unwrap();
        let make = Command::new("mkntfs").args(["-Q", "-F", "-q"]).arg(image).stdout(Stdio::null()).status();
        assert!(make.is_ok_and(|made| made.success()), "mkntfs: {advice}");
        let mounted =
            Command::new("lowntfs-3g").args(["-o", "ignore_case,windows_names"]).arg(image).arg(place).status();
        assert!(mounted.is_ok_and(|mounted| mounted.success()), "lowntfs-3g: {advice}");
        Self { place: place.to_owned() }
    }

    /// A tmpfs with the mount options `options`.
    pub fn tmpfs(place: &Path, options: &str) -> Self {
        Self::mount(place, &["-t", "tmpfs", "-o", options, "tmpfs"])
    }

    /// A new file system of `kind` and `bytes` in a fresh image file.
    pub fn image(kind: &str, image: &Path, bytes: u64, place: &Path) -> Self {
        File::create(image).unwrap().set_len(bytes).unwrap();
        let make = Command::new(format!("mkfs.{kind}")).arg("-q").arg(image).stdout(Stdio::null()).status();
        assert!(make.unwrap().success(), "mkfs.{kind} makes a file system; HAUL_NO_LOOP=1 leaves these tests out");
        Self::mount(place, &["-o", "loop", image.to_str().unwrap()])
    }

    fn mount(place: &Path, arguments: &[&str]) -> Self {
        let mounted = Command::new("mount").args(arguments).arg(place).status().unwrap();
        assert!(mounted.success(), "root may mount file systems; HAUL_NO_LOOP=1 leaves these tests out");
        Self { place: place.to_owned() }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.place).status();
        // A second panic would hide the first one's text.
        if !std::thread::panicking() {
            assert!(unmounted.unwrap().success());
        }
    }
}
