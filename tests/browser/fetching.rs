//! From the host to the page: listing, fetching through faults, saving, repairing.

use crate::chromium::Tab;
use crate::fault_proxy::{Fault, Way, Whom};
use crate::process::Sending;
use crate::stage::{Stage, assert_same, may_browse, open};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// The row of a file, as an expression.
pub(crate) fn row(name: &str) -> String {
    format!(
        "[...document.querySelectorAll('#files .row')].find(row => row.querySelector('.name').title === {})",
        json!(name)
    )
}

/// Presses a button in the row of a file.
pub(crate) fn press(tab: &Tab, name: &str, label: &str) {
    tab.press(&format!(
        "[...{}.querySelectorAll('button')].find(button => button.textContent === {})",
        row(name),
        json!(label)
    ));
}

/// Waits until a file was saved, and returns the root that the page shows.
pub(crate) fn wait_until_verified(tab: &Tab, name: &str) -> String {
    tab.wait_for(&format!("{}.dataset.kind === 'good'", row(name)));
    tab.evaluate(&format!("{}.querySelector('.root p').textContent", row(name))).as_str().unwrap().to_owned()
}

/// Waits until the page shows that so much of all is here.
pub(crate) fn wait_until_part(tab: &Tab, part: f64) {
    tab.wait_for(&format!(
        "!document.querySelector('#bar').hidden && document.querySelector('#bar-progress').value > {part}"
    ));
}

/// A stage whose host offers one file, slowly enough that faults meet it on its way.
///
/// The rate bounds what is in flight: a call moves about a second's worth, and four are under way.
struct Slow {
    stage: Stage,
    file: std::path::PathBuf,
    host: Sending,
}

/// What one connection may move in a second, and what is lost at most when everything under way is.
const RATE: u64 = MIB / 4;
const IN_FLIGHT: u64 = 4 * (RATE + MIB / 4);
/// The page itself, the module, the listing, digests and headers, each time that the page is loaded.
const LOAD: u64 = 256 * 1024;

impl Slow {
    fn new(bytes: u64) -> Self {
        let stage = Stage::new();
        let file = stage.ground.file("source/film.bin", bytes as usize, 7);
        let host = Self::start(&stage, &file);
        stage.proxy.inject(Whom::All, Fault::Throttle(Way::ToReceiver, Some(RATE)));
        Self { stage, file, host }
    }

    fn start(stage: &Stage, file: &Path) -> Sending {
        stage.send(&[file.to_str().unwrap(), "--keep"])
    }

    /// The file arrives, whole, and of what had arrived before `losses` losses only what was under way came again.
    #[track_caller]
    fn assert_arrives(&self, tab: &Tab, losses: u64, loads: u64) {
        let root = wait_until_verified(tab, "film.bin");
        assert_eq!(root, blake3::hash(&fs::read(&self.file).unwrap()).to_hex().as_str());
        let (size, moved) = (fs::metadata(&self.file).unwrap().len(), self.stage.proxy.passed(Way::ToReceiver));
        let most = size + size / 100 + losses * IN_FLIGHT + loads * LOAD;
        assert!(moved <= most, "{moved} bytes for a file of {size} after {losses} losses; at most {most} were needed");
    }
}

#[test]
fn what_is_offered_is_listed_and_arrives_verified_and_the_key_is_taken_out_of_the_address() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let source = stage.ground.dir("source");
    let large = stage.ground.file("source/sub/large.bin", 5_000_001, 1);
    let empty = stage.ground.file("source/empty.txt", 0, 0);
    let host = stage.send(&[source.to_str().unwrap(), "--keep"]);
    let browser = stage.browser();
    let tab = open(&browser, &host.link);
    assert_eq!(tab.evaluate("location.hash + location.search"), "");
    tab.wait_for("document.querySelector('#fetch-sum').textContent.startsWith('2 files, 4.77 MiB')");
    let listing = stage.proxy.passed(Way::ToReceiver);
    assert!(listing < LOAD, "{listing} bytes before anything was asked for");
    press(&tab, "sub/large.bin", "Get");
    let root = wait_until_verified(&tab, "sub/large.bin");
    assert_eq!(root, blake3::hash(&fs::read(&large).unwrap()).to_hex().as_str());
    browser.wait_for_downloads(1);
    assert_same(&large, &stage.saved("large.bin"));
    press(&tab, "empty.txt", "Get");
    wait_until_verified(&tab, "empty.txt");
    browser.wait_for_downloads(2);
    assert_same(&empty, &stage.saved("empty.txt"));
    assert_eq!(tab.said(), Vec::<String>::new(), "nothing is held against the page");
}

#[test]
fn connections_that_are_cut_stall_or_flip_bits_cost_only_what_was_under_way() {
    if !may_browse() {
        return;
    }
    let slow = Slow::new(8 * MIB);
    let (stage, browser) = (&slow.stage, slow.stage.browser());
    let tab = open(&browser, &slow.host.link);
    press(&tab, "film.bin", "Get");
    wait_until_part(&tab, 0.2);
    stage.proxy.inject(Whom::All, Fault::Reset);
    wait_until_part(&tab, 0.4);
    stage.proxy.inject(Whom::All, Fault::Flip(Way::ToReceiver, 0x10));
    wait_until_part(&tab, 0.6);
    // Nothing arrives and nothing is closed, until the page has noticed.
    stage.proxy.inject(Whom::All, Fault::Hold(Way::ToReceiver));
    tab.wait_for("document.querySelector('#status').textContent.startsWith('Reconnecting')");
    stage.proxy.inject(Whom::All, Fault::Release(Way::ToReceiver));
    tab.wait_for("document.querySelector('#status').textContent.startsWith('Connected')");
    slow.assert_arrives(&tab, 3, 1);
    browser.wait_for_downloads(1);
    assert_same(&slow.file, &stage.saved("film.bin"));
}

#[test]
fn a_host_that_refuses_for_a_while_is_tried_until_it_is_back() {
    if !may_browse() {
        return;
    }
    let slow = Slow::new(6 * MIB);
    let (stage, browser) = (&slow.stage, slow.stage.browser());
    let tab = open(&browser, &slow.host.link);
    press(&tab, "film.bin", "Get");
    wait_until_part(&tab, 0.2);
    stage.proxy.inject(Whom::All, Fault::Refuse);
    stage.proxy.inject(Whom::All, Fault::Reset);
    tab.wait_for("/^Reconnecting · next try in \\d+ s$/.test(document.querySelector('#status').textContent)");
    stage.proxy.inject(Whom::All, Fault::Accept);
    // What a phone tells a page when its network is back.
    tab.evaluate("dispatchEvent(new Event('online'))");
    slow.assert_arrives(&tab, 1, 1);
}

#[test]
fn a_page_that_was_frozen_goes_on() {
    if !may_browse() {
        return;
    }
    let slow = Slow::new(8 * MIB);
    let (stage, browser) = (&slow.stage, slow.stage.browser());
    let tab = open(&browser, &slow.host.link);
    press(&tab, "film.bin", "Get");
    wait_until_part(&tab, 0.2);
    tab.set_lifecycle("frozen");
    // The connections die while nobody looks, as they do in a phone that sleeps.
    stage.proxy.inject(Whom::All, Fault::Reset);
    tab.set_lifecycle("active");
    slow.assert_arrives(&tab, 1, 1);
}

#[test]
fn a_reloaded_page_goes_on_with_what_it_has() {
    if !may_browse() {
        return;
    }
    let slow = Slow::new(8 * MIB);
    let (stage, browser) = (&slow.stage, slow.stage.browser());
    let tab = open(&browser, &slow.host.link);
    press(&tab, "film.bin", "Get");
    wait_until_part(&tab, 0.6);
    tab.reload();
    slow.assert_arrives(&tab, 1, 2);
    browser.wait_for_downloads(1);
    assert_same(&slow.file, &stage.saved("film.bin"));
}

#[test]
fn a_browser_that_was_killed_goes_on_with_what_it_kept() {
    if !may_browse() {
        return;
    }
    let slow = Slow::new(8 * MIB);
    let (stage, browser) = (&slow.stage, slow.stage.browser());
    let tab = open(&browser, &slow.host.link);
    press(&tab, "film.bin", "Get");
    wait_until_part(&tab, 0.6);
    browser.kill();
    let browser = stage.browser();
    let tab = open(&browser, &slow.host.link);
    slow.assert_arrives(&tab, 1, 2);
    browser.wait_for_downloads(1);
    assert_same(&slow.file, &stage.saved("film.bin"));
}

#[test]
fn a_host_that_was_killed_and_started_again_is_gone_on_with() {
    if !may_browse() {
        return;
    }
    let slow = Slow::new(8 * MIB);
    let browser = slow.stage.browser();
    let tab = open(&browser, &slow.host.link);
    press(&tab, "film.bin", "Get");
    wait_until_part(&tab, 0.6);
    let Slow { stage, file, host } = slow;
    let link = host.link.clone();
    host.kill();
    tab.wait_for("document.querySelector('#status').textContent.startsWith('Reconnecting')");
    let host = Slow::start(&stage, &file);
    assert_eq!(host.link, link, "the same offer has the same link");
    let slow = Slow { stage, file, host };
    slow.assert_arrives(&tab, 1, 1);
    browser.wait_for_downloads(1);
    assert_same(&slow.file, &slow.stage.saved("film.bin"));
}

#[test]
fn what_is_paused_moves_nothing_and_goes_on_when_it_is_told_to() {
    if !may_browse() {
        return;
    }
    let slow = Slow::new(6 * MIB);
    let browser = slow.stage.browser();
    let tab = open(&browser, &slow.host.link);
    press(&tab, "film.bin", "Get");
    wait_until_part(&tab, 0.3);
    press(&tab, "film.bin", "Pause");
    tab.wait_for(&format!("{}.textContent.includes('Paused')", row("film.bin")));
    tab.reload();
    tab.wait_for(&format!("{}.textContent.includes('Paused')", row("film.bin")));
    assert_eq!(tab.evaluate("document.querySelector('#bar').hidden"), true, "nothing goes on by itself");
    press(&tab, "film.bin", "Continue");
    slow.assert_arrives(&tab, 1, 2);
}

#[test]
fn a_full_browser_keeps_what_it_has_and_goes_on_once_there_is_room() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let file = stage.ground.file("film.bin", 8 << 20, 3);
    let host = stage.send(&[file.to_str().unwrap(), "--keep"]);
    let browser = stage.browser();
    let tab = open(&browser, &host.link);
    let quota = |bytes: Option<u64>| {
        let origin = tab.evaluate("location.origin");
        let mut parameters = json!({"origin": origin});
        if let Some(bytes) = bytes {
            parameters["quotaSize"] = json!(bytes);
        }
        tab.call("Storage.overrideQuotaForOrigin", &parameters);
    };
    quota(Some(3 << 20));
    press(&tab, "film.bin", "Get");
    tab.wait_for(&format!("{}.textContent.includes('No space left for this page')", row("film.bin")));
    quota(None);
    press(&tab, "film.bin", "Continue");
    wait_until_verified(&tab, "film.bin");
    browser.wait_for_downloads(1);
    assert_same(&file, &stage.saved("film.bin"));
}

#[test]
fn a_file_that_is_already_here_is_checked_and_only_what_differs_is_fetched() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let file = stage.ground.file("film.bin", 8 << 20, 3);
    let mut damaged = fs::read(&file).unwrap();
    damaged[3_000_000] ^= 1;
    damaged.truncate(7_500_000);
    let copy = stage.ground.path("copy.bin");
    fs::write(&copy, &damaged).unwrap();
    let host = stage.send(&[file.to_str().unwrap(), "--keep"]);
    let browser = stage.browser();
    let tab = open(&browser, &host.link);
    tab.wait_for("!document.querySelector('#repair').hidden");
    let before = stage.proxy.passed(Way::ToReceiver);
    tab.pick("#repair-file", &[&copy]);
    wait_until_verified(&tab, "film.bin");
    browser.wait_for_downloads(1);
    assert_same(&file, &stage.saved("film.bin"));
    let moved = stage.proxy.passed(Way::ToReceiver) - before;
    // One chunk was damaged, and four are missing.
    assert!(moved < (5 * 256 + 64) * 1024, "{moved} bytes were fetched");
    tab.pick("#repair-file", &[&file]);
    tab.wait_for(&format!("{}.textContent.includes('the same as the original')", row("film.bin")));
}

#[test]
fn a_wrong_key_a_missing_one_and_an_offer_that_is_over_are_told_apart() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let file = stage.ground.file("film.bin", 1000, 3);
    let host = stage.send(&[file.to_str().unwrap(), "--keep"]);
    let browser = stage.browser();
    let (address, key) = host.link.split_once('#').unwrap();
    let turned = if key.starts_with('A') { 'B' } else { 'A' };
    for link in [address.to_owned(), format!("{address}#{}", &key[..25]), format!("{address}#{turned}{}", &key[1..])] {
        let tab = browser.open(&link);
        tab.wait_for("document.querySelector('#trouble h2').textContent === 'The link is not complete'");
    }
    let tab = open(&browser, &host.link);
    host.kill();
    let other = stage.ground.file("other.bin", 1000, 4);
    let _other = stage.send(&[other.to_str().unwrap(), "--keep"]);
    press(&tab, "film.bin", "Get");
    tab.wait_for("document.querySelector('#trouble h2').textContent === 'This offer is over'");
}

#[test]
fn the_browser_downloads_by_itself_where_it_is_asked_to() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let source = stage.ground.dir("source");
    let film = stage.ground.file("source/film.bin", 3_000_000, 1);
    stage.ground.file("source/list.txt", 1000, 2);
    let host = stage.send(&[source.to_str().unwrap(), "--keep"]);
    let browser = stage.browser();
    let tab = open(&browser, &host.link);
    tab.press("document.querySelector('#ways summary')");
    let link = |name: &str| {
        format!(
            "[...document.querySelectorAll('#natives a')].find(link => link.textContent.startsWith({}))",
            json!(name)
        )
    };
    tab.press(&link("film.bin"));
    browser.wait_for_downloads(1);
    assert_same(&film, &stage.saved("film.bin"));
    tab.press(&link("Everything as one zip"));
    browser.wait_for_downloads(2);
    let zip = fs::read_dir(stage.ground.path("downloads")).unwrap().map(|entry| entry.unwrap().path());
    let zip = zip.filter(|path| path.extension().is_some_and(|end| end == "zip")).last().unwrap();
    let bytes = fs::read(zip).unwrap();
    let stored = fs::read(&film).unwrap();
    assert!(bytes.starts_with(b"PK") && bytes.windows(64).any(|window| window == &stored[1000..1064]), "it is stored");
    assert_eq!(tab.said(), Vec::<String>::new(), "nothing is held against the page");
}

/// `HAUL_BROWSER_MIB=2048` tries it with a file that no page could hold.
#[test]
fn a_large_file_stays_out_of_the_memory_of_the_page() {
    if !may_browse() {
        return;
    }
    let mebibytes = std::env::var("HAUL_BROWSER_MIB").map_or(24, |text| text.parse::<u64>().unwrap());
    let stage = Stage::new();
    let file = stage.ground.file("film.bin", (mebibytes * MIB) as usize, 9);
    let host = stage.send(&[file.to_str().unwrap(), "--keep"]);
    let browser = stage.browser();
    let tab = open(&browser, &host.link);
    press(&tab, "film.bin", "Get");
    wait_until_verified(&tab, "film.bin");
    browser.wait_for_downloads(1);
    assert_same(&file, &stage.saved("film.bin"));
    let (peak, process) = browser.largest_peak();
    assert!(peak < 600 * MIB, "the {process} process of the browser had {peak} bytes");
    eprintln!("{mebibytes} MiB with at most {} MiB in any process of the browser ({process})", peak / MIB);
}

#[test]
fn a_throttled_link_gets_shorter_runs_and_finishes() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let file = stage.ground.file("film.bin", 1 << 20, 3);
    let host = stage.send(&[file.to_str().unwrap(), "--keep"]);
    let browser = stage.browser();
    let tab = open(&browser, &host.link);
    stage.proxy.inject(Whom::All, Fault::Throttle(Way::ToReceiver, Some(100_000)));
    stage.proxy.inject(Whom::All, Fault::Delay(Way::ToReceiver, Duration::from_millis(200)));
    press(&tab, "film.bin", "Get");
    wait_until_verified(&tab, "film.bin");
    browser.wait_for_downloads(1);
    assert_same(&file, &stage.saved("film.bin"));
}
