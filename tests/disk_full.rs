//! Disks that are too small, that fill under way, and that come back from a power cut: on ext4, xfs, btrfs and tmpfs.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "support/mount.rs"]
mod mount;
#[path = "support/process.rs"]
mod process;
#[path = "support/proxy.rs"]
mod proxy;

use haul::limits::FREE_SPACE_MARGIN_BYTES;
use mount::{Mount, may_mount};
use process::{Playground, Received, Receiving, Sending, noise};
use proxy::{Proxy, Then};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: u64 = 1 << 20;
const LENGTH: u64 = 64 * MIB;
const CHUNK: u64 = 256 * 1024;

#[test]
fn ext4_that_is_full_or_fills_is_an_error_or_none() {
    survives("ext4", 220 * MIB);
}

#[test]
fn xfs_that_is_full_or_fills_is_an_error_or_none() {
    survives("xfs", 320 * MIB);
}

#[test]
fn btrfs_that_is_full_or_fills_is_an_error_or_none() {
    survives("btrfs", 300 * MIB);
}

#[test]
fn tmpfs_that_is_full_or_fills_is_an_error_or_none() {
    survives("tmpfs", 140 * MIB);
}

fn survives(kind: &str, bytes: u64) {
    if !may_mount() {
        return;
    }
    let playground = Playground::new();
    let source = playground.file("data", LENGTH as usize, 1);
    let disk = playground.dir("disk");
    let mount = if kind == "tmpfs" {
        Mount::tmpfs(&disk, &format!("size={bytes}"))
    } else {
        Mount::image(kind, &playground.path("image"), bytes, &disk)
    };
    let into = disk.join("into");
    fs::create_dir(&into).unwrap();
    let sending = playground.send(&[&source], &["--keep"]);

    // Too small from the start: an error before any data, and nothing left behind.
    fill(&disk, LENGTH / 2);
    let refused = playground.receive(&sending.link, &into, &[]).wait();
    assert_eq!(refused.assert_exit(43)["bytes_fetched"], 0, "{kind}");
    assert_eq!(fs::read_dir(&into).unwrap().count(), 0, "{kind}");
    make_room(&disk);
    // Of a removed file, xfs gives back what it had in a thread of its own.
    while free(&disk) < LENGTH + FREE_SPACE_MARGIN_BYTES {
        rustix::fs::syncfs(File::open(&disk).unwrap()).unwrap();
    }

    // Filled under way by somebody else.
    let proxy = Proxy::new(&sending.link, LENGTH / 2, Then::Stall);
    let mut receiving = playground.receive(&proxy.link(&sending.link), &into, &[]);
    proxy.wait_until_reached();
    fill(&disk, 0);
    proxy.release();
    // Where the room was truly reserved, nobody can take it.
    let is_paused = receiving.wait_until(is_pause);
    assert!(kind == "btrfs" || !is_paused, "{kind}");
    if is_paused {
        assert!(!into.join("data").exists(), "{kind}");
        make_room(&disk);
    }
    let received = receiving.wait();
    let code = received.status.code();
    assert!(matches!(code, Some(0 | 43)), "{kind}: never a signal, never another error: {received:#?}");
    // A sync that finds no room is not tried again in the same run.
    assert!(kind == "btrfs" || code == Some(0), "{kind}: {received:#?}");
    if code == Some(43) {
        received.assert_exit(43);
        let again = playground.receive(&sending.link, &into, &[]).wait();
        again.assert_ok();
    }
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&source).unwrap(), "{kind}");
    assert!(!into.join(".haul").exists(), "{kind}");
    sending.kill();
    drop(mount);
}

#[test]
fn row_45_more_files_than_the_file_system_can_hold_are_refused_before_any_data() {
    if !may_mount() {
        return;
    }
    let playground = Playground::new();
    let source = playground.dir("tree");
    for file in 0..100 {
        fs::write(source.join(format!("{file:03}")), b"").unwrap();
    }
    let disk = playground.dir("disk");
    let mount = Mount::tmpfs(&disk, "size=64m,nr_inodes=80");
    let sending = playground.send(&[&source], &["--keep"]);
    let refused = playground.receive(&sending.link, &disk, &[]).wait();
    let error = refused.assert_exit(43)["error"].as_str().unwrap();
    assert!(error.contains("too few inodes left: 101 needed, 7"), "{error}");
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 0, "nothing was made");
    let foreseen = playground.receive(&sending.link, &disk, &["--dry-run"]).wait();
    assert_eq!(foreseen.assert_exit(43)["error"], error);

    let bigger = Command::new("mount").args(["-o", "remount,nr_inodes=200"]).arg(&disk).status().unwrap();
    assert!(bigger.success());
    assert_eq!(playground.receive(&sending.link, &disk, &[]).wait().assert_ok()["files"], 100);
    sending.kill();
    drop(mount);
}

/// A tree under way to a small tmpfs that somebody else fills, up to the moment at which the receiver says that it waits.
struct Filled {
    playground: Playground,
    source: PathBuf,
    disk: PathBuf,
    into: PathBuf,
    sending: Sending,
    /// What the receiver reaches the sender through.
    _proxy: Proxy,
    _mount: Mount,
}

fn fill_under_way(options: &[&str]) -> (Filled, Receiving) {
    let playground = Playground::new();
    let source = playground.dir("source");
    for file in 0..100 {
        fs::write(source.join(format!("{file:03}")), noise(700_000, file)).unwrap();
        fs::write(source.join(format!("{file:03}.small")), noise(30_000, file)).unwrap();
    }
    let disk = playground.dir("disk");
    let mount = Mount::tmpfs(&disk, "size=120m");
    let into = disk.join("into");
    fs::create_dir(&into).unwrap();
    let sending = playground.send(&[&source], &["--keep"]);
    let proxy = Proxy::new(&sending.link, 20 * MIB, Then::Stall);
    let mut receiving = playground.receive(&proxy.link(&sending.link), &into, options);
    proxy.wait_until_reached();
    fill(&disk, 0);
    proxy.release();
    // What a try that failed had taken is free again by the time that is looked: a pause for less than that is over at once.
    let amount = |event: &Value, field: &str| event[field].as_u64().unwrap();
    let is_paused = receiving.wait_until(|event| is_pause(event) && amount(event, "needed") > amount(event, "free"));
    assert!(is_paused, "it says that it waits for room");
    (Filled { playground, source, disk, into, sending, _proxy: proxy, _mount: mount }, receiving)
}

impl Filled {
    /// Runs the command again, which fetches what is missing and no more.
    fn complete(self) {
        let Self { playground, source, into, sending, .. } = &self;
        let done = playground.receive(&sending.link, into, &[]).wait();
        assert!(done.assert_ok()["bytes_reused"].as_u64().unwrap() > 0);
        Self::assert_whole(source, into);
    }

    fn assert_whole(source: &Path, into: &Path) {
        for entry in fs::read_dir(source).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(fs::read(into.join("source").join(&name)).unwrap() == fs::read(source.join(&name)).unwrap());
        }
        assert!(!into.join(".haul").exists());
    }
}

#[test]
fn a_disk_that_fills_under_way_is_waited_for_and_the_transfer_goes_on_by_itself() {
    if !may_mount() {
        return;
    }
    let (filled, receiving) = fill_under_way(&[]);
    make_room(&filled.disk);
    let received = receiving.wait();
    let done = received.assert_ok();
    let [total, fetched] = ["bytes", "bytes_fetched"].map(|field| done[field].as_u64().unwrap());
    // A lane that waited for too long is lost, with the chunk that was landing on it.
    assert!(fetched < total + 16 * CHUNK, "nothing verified is fetched again: {fetched} of {total}");
    assert_eq!(done["bytes_reused"], 0);
    assert_no_file_failed(&received);
    Filled::assert_whole(&filled.source, &filled.into);
}

#[test]
fn a_sender_that_is_lost_while_the_disk_is_full_is_found_again() {
    if !may_mount() {
        return;
    }
    let (mut filled, mut receiving) = fill_under_way(&[]);
    kill_process(pid(filled.sending.id()), Signal::KILL).unwrap();
    assert!(receiving.wait_until(|event| event["phase"] == "reconnecting"));
    assert!(receiving.wait_until(is_pause), "it is still said that there is no room");
    make_room(&filled.disk);
    filled.sending = filled.playground.send(&[&filled.source], &["--keep"]);
    receiving.wait().assert_ok();
    Filled::assert_whole(&filled.source, &filled.into);
}

#[test]
fn ctrl_c_while_the_disk_is_full_keeps_everything() {
    if !may_mount() {
        return;
    }
    let (filled, receiving) = fill_under_way(&[]);
    kill_process(pid(receiving.id()), Signal::INT).unwrap();
    let received = receiving.wait();
    received.assert_exit(130);
    assert_no_file_failed(&received);
    make_room(&filled.disk);
    filled.complete();
}

#[test]
fn a_disk_that_stays_full_for_longer_than_the_user_waits_ends_the_transfer_and_keeps_everything() {
    if !may_mount() {
        return;
    }
    let (filled, receiving) = fill_under_way(&["--retry-for", "1s"]);
    let received = receiving.wait();
    received.assert_exit(43);
    assert_no_file_failed(&received);
    make_room(&filled.disk);
    filled.complete();
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(i32::try_from(process).unwrap()).unwrap()
}

fn assert_no_file_failed(received: &Received) {
    let is_failed = |event: &&Value| event["event"] == "file" && event["ok"] == false;
    assert_eq!(received.events.iter().find(is_failed), None);
}

fn is_pause(event: &Value) -> bool {
    event["phase"] == "waiting_for_room"
}

/// Takes room until `left` bytes are free, or until there is none.
fn fill(disk: &Path, left: u64) {
    let mut file = File::create(disk.join("filling")).unwrap();
    for length in [MIB as usize, 4096] {
        let block = noise(length, 7);
        while free(disk) > left + length as u64 / 2 {
            // Synced each time: file systems count what they owe a file only once it is on its way to the disk.
            if file.write_all(&block).and_then(|()| file.sync_data()).is_err() {
                break;
            }
        }
    }
}

/// Gives back what `fill` took. File systems may count it as free only once they have committed.
fn make_room(disk: &Path) {
    fs::remove_file(disk.join("filling")).unwrap();
    rustix::fs::syncfs(File::open(disk).unwrap()).unwrap();
}

fn free(disk: &Path) -> u64 {
    let found = rustix::fs::statvfs(disk).unwrap();
    found.f_bavail * found.f_frsize
}

#[test]
fn after_a_power_cut_only_garbled_chunks_are_fetched_again() {
    let playground = Playground::new();
    let source = playground.file("data", LENGTH as usize, 1);
    let into = playground.dir("into");
    let sending = playground.send(&[&source], &["--keep"]);
    let proxy = Proxy::new(&sending.link, LENGTH / 2, Then::Stall);
    let mut receiving = playground.receive(&proxy.link(&sending.link), &into, &[]);
    until_claimed(&mut receiving, LENGTH / 2 - 8 * MIB);
    receiving.kill();
    let part = part_of(&into);
    let claimed = claims(&part);
    let garbled: Vec<u64> = claimed.iter().copied().step_by(claimed.len() / 5).take(5).collect();
    assert_eq!(garbled.len(), 5);
    let file = File::options().write(true).open(&part).unwrap();
    for chunk in &garbled {
        file.write_all_at(b"not what was there", chunk * CHUNK + 12_345).unwrap();
    }
    forget_boot(&part);
    let again = playground.receive(&sending.link, &into, &[]).wait();
    let done = again.assert_ok();
    let kept = (claimed.len() - garbled.len()) as u64 * CHUNK;
    assert_eq!((&done["bytes_reused"], &done["bytes_fetched"]), (&kept.into(), &(LENGTH - kept).into()));
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&source).unwrap());
    sending.kill();
}

#[test]
fn row_87_a_damaged_table_or_footer_or_a_cut_file_costs_a_fetch_and_never_a_wrong_byte() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("footer", |part| flip(part, footer(LENGTH) + 3)),
        ("row", |part| flip(part, LENGTH + 5)),
        ("cut", |part| File::options().write(true).open(part).unwrap().set_len(LENGTH / 3).unwrap()),
        ("emptied", |part| File::options().write(true).open(part).unwrap().set_len(0).unwrap()),
    ];
    for (name, damage) in damages {
        let playground = Playground::new();
        let source = playground.file("data", LENGTH as usize, 1);
        let into = playground.dir("into");
        let sending = playground.send(&[&source], &["--keep"]);
        let proxy = Proxy::new(&sending.link, LENGTH / 2, Then::Stall);
        let mut receiving = playground.receive(&proxy.link(&sending.link), &into, &[]);
        until_claimed(&mut receiving, LENGTH / 4);
        receiving.kill();
        damage(&part_of(&into));
        let again: Received = playground.receive(&sending.link, &into, &[]).wait();
        again.assert_ok();
        assert!(fs::read(into.join("data")).unwrap() == fs::read(&source).unwrap(), "{name}");
        sending.kill();
    }
}

fn until_claimed(receiving: &mut Receiving, bytes: u64) {
    let reached = receiving.wait_until(|event| {
        event["event"] == "progress" && event["bytes_done"].as_u64().is_some_and(|done| done >= bytes)
    });
    assert!(reached, "the transfer was over before it could be cut");
}

fn part_of(into: &Path) -> PathBuf {
    let parts: Vec<_> = fs::read_dir(into.join(".haul"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "part"))
        .collect();
    assert_eq!(parts.len(), 1);
    parts[0].clone()
}

/// Numbers of the chunks whose row in the table is not zero. The table follows the bytes, which fill whole pages.
fn claims(part: &Path) -> Vec<u64> {
    let file = File::open(part).unwrap();
    (0..LENGTH / CHUNK)
        .filter(|chunk| {
            let mut row = [0; 32];
            file.read_exact_at(&mut row, LENGTH + chunk * 32).unwrap();
            row != [0; 32]
        })
        .collect()
}

/// Where the footer of a file of `length` bytes starts.
fn footer(length: u64) -> u64 {
    (length + length / CHUNK * 32).next_multiple_of(4096)
}

/// Makes the footer that of another start of the system. Its checksum covers the boot id.
fn forget_boot(part: &Path) {
    let file = File::options().read(true).write(true).open(part).unwrap();
    let mut bytes = vec![0; 8192];
    file.read_exact_at(&mut bytes, footer(LENGTH)).unwrap();
    assert_eq!(&bytes[..8], b"haulpart");
    bytes[64..80].copy_from_slice(&[0x5a; 16]);
    let path_bytes = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let mut hasher = haul::digest::PurposeHasher::new("haul 1 partial footer");
    let checksum = hasher.field(&bytes[..80]).field(&bytes[512..512 + path_bytes]).finish();
    bytes[80..112].copy_from_slice(&checksum);
    file.write_all_at(&bytes, footer(LENGTH)).unwrap();
}

fn flip(part: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(part).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}
