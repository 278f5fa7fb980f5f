//! One page with both ways: a file comes while another one goes.

use crate::fault_proxy::{Fault, Way, Whom};
use crate::stage::{Stage, assert_same, may_browse, open};
use std::fs;

const MIB: usize = 1 << 20;
/// What one connection may bring to the browser in a second: so little that the file, over the six that a browser has at
/// the most, takes half a minute.
const RATE: u64 = 128 << 10;

#[test]
fn a_page_fetches_what_is_offered_while_it_sends_something() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let offered = stage.ground.file("source/film.bin", 24 * MIB, 1);
    let photo = stage.ground.file("phone/photo.jpg", 300_000, 2);
    let into = stage.ground.dir("into");
    let host = stage.share(&[offered.to_str().unwrap(), "--yes", "--into", into.to_str().unwrap()]);
    stage.proxy.inject(Whom::All, Fault::Throttle(Way::ToReceiver, Some(RATE)));
    let browser = stage.browser();
    let tab = open(&browser, &host.link);
    for section in ["fetch", "give"] {
        tab.wait_for(&format!("!document.querySelector('#{section}').hidden"));
    }
    tab.press("document.querySelector('#files .row button')");
    tab.wait_for("document.querySelector('#bar-progress').value > 0.01");
    tab.pick("#files-in", &[&photo]);
    tab.wait_for("document.querySelector('#uploads .row').dataset.kind === 'good'");
    assert_ne!(tab.evaluate("document.querySelector('#files .row').dataset.kind"), "good", "it still comes");
    assert_same(&photo, &into.join("photo.jpg"));
    stage.proxy.inject(Whom::All, Fault::Throttle(Way::ToReceiver, None));
    tab.wait_for("document.querySelector('#files .row').dataset.kind === 'good'");
    browser.wait_for_downloads(1);
    assert_same(&offered, &stage.saved("film.bin"));
    let left: Vec<_> = fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["photo.jpg"], "nothing else is left there");
    assert_eq!(tab.said(), Vec::<String>::new(), "nothing is held against the page");
}
