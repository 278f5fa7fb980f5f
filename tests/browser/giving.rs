//! From the page to the host: picked files, folders, faults, and the same files picked again.

use crate::chromium::Tab;
use crate::fault_proxy::{Fault, Way, Whom};
use crate::listening::Listening;
use crate::stage::{Stage, assert_same, may_browse, open};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

const MIB: u64 = 1 << 20;
/// What one connection may move in a second.
const RATE: u64 = MIB / 4;
/// What is lost at most when everything under way is: four chunks, each with its digest and its seal.
const IN_FLIGHT: u64 = 4 * (MIB / 4 + 1024);

/// A stage whose host takes what the page sends.
struct Receiving {
    stage: Stage,
    into: PathBuf,
    host: Listening,
}

impl Receiving {
    fn new() -> Self {
        let stage = Stage::new();
        let into = stage.ground.dir("into");
        let host = Self::start(&stage, &into);
        Self { stage, into, host }
    }

    fn start(stage: &Stage, into: &Path) -> Listening {
        stage.listen(&["--yes", "--keep", "--into", into.to_str().unwrap()])
    }

    fn slow(self) -> Self {
        self.stage.proxy.inject(Whom::All, Fault::Throttle(Way::ToSender, Some(RATE)));
        self
    }

    /// The file arrives, whole, and of what had arrived before `losses` losses only what was under way came again.
    #[track_caller]
    fn assert_arrives(&self, tab: &Tab, file: &Path, losses: u64) {
        let root = wait_until_verified(tab);
        let bytes = fs::read(file).unwrap();
        assert_eq!(root, blake3::hash(&bytes).to_hex().as_str());
        assert_same(file, &self.into.join(file.file_name().unwrap()));
        let (size, moved) = (bytes.len() as u64, self.stage.proxy.passed(Way::ToSender));
        let most = size + size / 50 + losses * IN_FLIGHT + MIB / 4;
        assert!(moved <= most, "{moved} bytes for a file of {size} after {losses} losses; at most {most} were needed");
        let left: Vec<_> = fs::read_dir(&self.into).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [file.file_name().unwrap()], "nothing else is left there");
    }
}

/// Waits until the first batch has arrived, and returns the root that the page shows of a batch of one file.
pub(crate) fn wait_until_verified(tab: &Tab) -> String {
    tab.wait_for("document.querySelector('#uploads .row').dataset.kind === 'good'");
    tab.evaluate("document.querySelector('#uploads .root p').textContent").as_str().unwrap().to_owned()
}

fn wait_until_part(tab: &Tab, part: f64) {
    tab.wait_for(&format!(
        "!document.querySelector('#bar').hidden && document.querySelector('#bar-progress').value > {part}"
    ));
}

#[test]
fn picked_files_and_folders_arrive_whole_with_a_receipt() {
    if !may_browse() {
        return;
    }
    let receiving = Receiving::new();
    let ground = &receiving.stage.ground;
    let photo = ground.file("phone/photo.jpg", 3_000_001, 1);
    let empty = ground.file("phone/empty.txt", 0, 0);
    let folder = ground.dir("phone/trip");
    for number in 0..60 {
        ground.file(&format!("phone/trip/{}/{number}.bin", number % 4), 1000 + number, number as u64);
    }
    let browser = receiving.stage.browser();
    let tab = open(&browser, &receiving.host.link);
    assert_eq!(tab.evaluate("document.querySelector('#fetch').hidden"), true, "there is nothing to fetch");
    tab.pick("#files-in", &[&photo]);
    assert_eq!(wait_until_verified(&tab), blake3::hash(&fs::read(&photo).unwrap()).to_hex().as_str());
    tab.pick("#files-in", &[&empty]);
    tab.pick("#folder-in", &[&folder]);
    let all = "[...document.querySelectorAll('#uploads .row')]";
    tab.wait_for(&format!("{all}.length === 23 && {all}.every(row => row.dataset.kind === 'good')"));
    assert_same(&photo, &receiving.into.join("photo.jpg"));
    assert_same(&empty, &receiving.into.join("empty.txt"));
    for number in 0..60 {
        let name = format!("trip/{}/{number}.bin", number % 4);
        assert_same(&ground.path("phone").join(&name), &receiving.into.join(&name));
    }
    assert_eq!(tab.said(), Vec::<String>::new(), "nothing is held against the page");
}

#[test]
fn a_file_whose_name_is_taken_is_not_shown_as_arrived() {
    if !may_browse() {
        return;
    }
    let receiving = Receiving::new();
    let ground = &receiving.stage.ground;
    let (taken, free) = (ground.file("phone/taken.bin", 300_000, 1), ground.file("phone/free.bin", 200_000, 2));
    let there = ground.file("into/taken.bin", 1000, 3);
    let before = fs::read(&there).unwrap();
    let browser = receiving.stage.browser();
    let tab = open(&browser, &receiving.host.link);
    tab.pick("#files-in", &[&taken, &free]);
    tab.wait_for("document.querySelector('#uploads .row').dataset.kind === 'bad'");
    let text = tab.evaluate("document.querySelector('#uploads .row .note').textContent");
    assert_eq!(text, "1 of the files failed there; the others are verified");
    let good = "[...document.querySelectorAll('#uploads .row')].filter(row => row.dataset.kind === 'good').length";
    assert_eq!(tab.evaluate(good), 0, "the page does not know which one failed");
    assert_eq!(fs::read(&there).unwrap(), before);
    assert_same(&free, &receiving.into.join("free.bin"));
}

/// `HAUL_BROWSER_MIB=2048` tries it with a file for which the host asks far ahead.
#[test]
fn a_large_file_arrives_whole_and_stays_out_of_the_memory_of_the_page() {
    if !may_browse() {
        return;
    }
    let mebibytes = std::env::var("HAUL_BROWSER_MIB").map_or(48, |text| text.parse::<u64>().unwrap());
    let receiving = Receiving::new();
    let file = receiving.stage.ground.file("film.bin", (mebibytes * MIB) as usize, 9);
    let browser = receiving.stage.browser();
    let tab = open(&browser, &receiving.host.link);
    tab.pick("#files-in", &[&file]);
    receiving.assert_arrives(&tab, &file, 0);
    let (peak, process) = browser.largest_peak();
    assert!(peak < 600 * MIB, "the {process} process of the browser had {peak} bytes");
    eprintln!("{mebibytes} MiB with at most {} MiB in any process of the browser ({process})", peak / MIB);
}

/// `HAUL_BROWSER_MIB=10240` tries it with a longer one; it is sparse here, and takes its room at the host.
#[test]
fn a_long_file_is_on_its_way_as_soon_as_it_is_picked() {
    if !may_browse() {
        return;
    }
    let mebibytes = std::env::var("HAUL_BROWSER_MIB").map_or(512, |text| text.parse::<u64>().unwrap());
    let mut receiving = Receiving::new();
    let file = receiving.stage.ground.path("long.bin");
    fs::File::create(&file).unwrap().set_len(mebibytes * MIB).unwrap();
    let browser = receiving.stage.browser();
    let tab = open(&browser, &receiving.host.link);
    let picked = Instant::now();
    tab.pick("#files-in", &[&file]);
    receiving.host.wait_for_bytes(1);
    let (waited, moved) = (picked.elapsed(), receiving.stage.proxy.passed(Way::ToSender));
    assert!(moved < mebibytes * MIB / 4, "{moved} bytes had gone before the host had any");
    eprintln!("the host has the first bytes of {mebibytes} MiB after {} ms", waited.as_millis());
}

/// `HAUL_BROWSER_FILES=1000` tries it with more of them.
#[test]
fn a_folder_of_small_files_arrives_whole() {
    if !may_browse() {
        return;
    }
    let files = std::env::var("HAUL_BROWSER_FILES").map_or(200, |text| text.parse::<usize>().unwrap());
    let receiving = Receiving::new();
    let ground = &receiving.stage.ground;
    let folder = ground.dir("phone/many");
    let name = |number: usize| format!("many/{}/{number}.bin", number % 7);
    for number in 0..files {
        ground.file(&format!("phone/{}", name(number)), 1000 + number, number as u64);
    }
    let browser = receiving.stage.browser();
    let tab = open(&browser, &receiving.host.link);
    tab.pick("#folder-in", &[&folder]);
    tab.wait_for("document.querySelector('#uploads .row')?.dataset.kind === 'good'");
    tab.wait_for("[...document.querySelectorAll('#uploads .row')].every(row => row.dataset.kind === 'good')");
    let mut bytes = 0;
    for number in 0..files {
        assert_same(&ground.path("phone").join(name(number)), &receiving.into.join(name(number)));
        bytes += fs::metadata(receiving.into.join(name(number))).unwrap().len();
    }
    // Names, digests and their listing take some 250 bytes a file. A call takes 500 and more before it says anything.
    let (moved, most) = (receiving.stage.proxy.passed(Way::ToSender), bytes + 300 * files as u64 + 64 * 1024);
    assert!(moved < most, "{moved} bytes for {files} files of {bytes}; small ones go together in at most {most}");
}

#[test]
fn connections_that_are_cut_stall_or_flip_bits_cost_only_what_was_under_way() {
    if !may_browse() {
        return;
    }
    let receiving = Receiving::new().slow();
    let (stage, browser) = (&receiving.stage, receiving.stage.browser());
    let file = stage.ground.file("film.bin", (8 * MIB) as usize, 5);
    let tab = open(&browser, &receiving.host.link);
    tab.pick("#files-in", &[&file]);
    wait_until_part(&tab, 0.2);
    stage.proxy.inject(Whom::All, Fault::Reset);
    wait_until_part(&tab, 0.4);
    stage.proxy.inject(Whom::All, Fault::Flip(Way::ToSender, 0x10));
    wait_until_part(&tab, 0.6);
    stage.proxy.inject(Whom::All, Fault::Hold(Way::ToReceiver));
    tab.wait_for("document.querySelector('#status').textContent.startsWith('Reconnecting')");
    assert!(!receiving.into.join("film.bin").exists(), "nothing unfinished has its name");
    stage.proxy.inject(Whom::All, Fault::Release(Way::ToReceiver));
    receiving.assert_arrives(&tab, &file, 3);
}

#[test]
fn a_host_that_refuses_for_a_while_is_tried_until_it_is_back() {
    if !may_browse() {
        return;
    }
    let receiving = Receiving::new().slow();
    let (stage, browser) = (&receiving.stage, receiving.stage.browser());
    let file = stage.ground.file("film.bin", (6 * MIB) as usize, 5);
    let tab = open(&browser, &receiving.host.link);
    tab.pick("#files-in", &[&file]);
    wait_until_part(&tab, 0.2);
    stage.proxy.inject(Whom::All, Fault::Refuse);
    stage.proxy.inject(Whom::All, Fault::Reset);
    tab.wait_for("/^Reconnecting · next try in \\d+ s$/.test(document.querySelector('#status').textContent)");
    stage.proxy.inject(Whom::All, Fault::Accept);
    // What a phone tells a page when its network is back.
    tab.evaluate("dispatchEvent(new Event('online'))");
    receiving.assert_arrives(&tab, &file, 1);
}

#[test]
fn a_page_that_was_frozen_goes_on() {
    if !may_browse() {
        return;
    }
    let receiving = Receiving::new().slow();
    let (stage, browser) = (&receiving.stage, receiving.stage.browser());
    let file = stage.ground.file("film.bin", (8 * MIB) as usize, 5);
    let tab = open(&browser, &receiving.host.link);
    tab.pick("#files-in", &[&file]);
    wait_until_part(&tab, 0.3);
    tab.set_lifecycle("frozen");
    stage.proxy.inject(Whom::All, Fault::Reset);
    tab.set_lifecycle("active");
    receiving.assert_arrives(&tab, &file, 1);
}

#[test]
fn the_same_file_picked_again_after_a_reload_goes_on_where_it_was() {
    if !may_browse() {
        return;
    }
    let receiving = Receiving::new().slow();
    let (stage, browser) = (&receiving.stage, receiving.stage.browser());
    let file = stage.ground.file("film.bin", (8 * MIB) as usize, 5);
    let tab = open(&browser, &receiving.host.link);
    tab.pick("#files-in", &[&file]);
    wait_until_part(&tab, 0.6);
    tab.reload();
    tab.wait_for(
        "/\\d+ % of film.bin .* are safe at the computer/.test(document.querySelector('#give-sum').textContent)",
    );
    tab.pick("#files-in", &[&file]);
    receiving.assert_arrives(&tab, &file, 1);
}

#[test]
fn the_same_file_picked_in_a_browser_that_was_killed_goes_on_where_it_was() {
    if !may_browse() {
        return;
    }
    let receiving = Receiving::new().slow();
    let (stage, browser) = (&receiving.stage, receiving.stage.browser());
    let file = stage.ground.file("film.bin", (8 * MIB) as usize, 5);
    let tab = open(&browser, &receiving.host.link);
    tab.pick("#files-in", &[&file]);
    wait_until_part(&tab, 0.6);
    browser.kill();
    let browser = stage.browser();
    let tab = open(&browser, &receiving.host.link);
    tab.pick("#files-in", &[&file]);
    receiving.assert_arrives(&tab, &file, 1);
}

#[test]
fn a_host_that_was_killed_and_started_again_is_gone_on_with() {
    if !may_browse() {
        return;
    }
    let receiving = Receiving::new().slow();
    let browser = receiving.stage.browser();
    let file = receiving.stage.ground.file("film.bin", (8 * MIB) as usize, 5);
    let tab = open(&browser, &receiving.host.link);
    tab.pick("#files-in", &[&file]);
    wait_until_part(&tab, 0.6);
    let Receiving { stage, into, host } = receiving;
    let link = host.link.clone();
    host.run.kill();
    assert!(!into.join("film.bin").exists(), "nothing unfinished has its name");
    tab.wait_for("document.querySelector('#status').textContent.startsWith('Reconnecting')");
    let host = Receiving::start(&stage, &into);
    assert_eq!(host.link, link, "a standing receiver has the same link again");
    Receiving { stage, into, host }.assert_arrives(&tab, &file, 1);
}

#[test]
fn what_is_paused_goes_on_when_it_is_told_to() {
    if !may_browse() {
        return;
    }
    let receiving = Receiving::new().slow();
    let (stage, browser) = (&receiving.stage, receiving.stage.browser());
    let file = stage.ground.file("film.bin", (6 * MIB) as usize, 5);
    let tab = open(&browser, &receiving.host.link);
    tab.pick("#files-in", &[&file]);
    wait_until_part(&tab, 0.3);
    tab.press("document.querySelector('#bar-pause')");
    tab.wait_for("document.querySelector('#uploads .row').textContent.includes('Paused')");
    tab.press("document.querySelector('#uploads .row button')");
    receiving.assert_arrives(&tab, &file, 1);
}
