//! Several pages at once, and a host with several addresses.

use crate::chromium::Tab;
use crate::fault_proxy::{Fault, Way, Whom};
use crate::fetching::{press, wait_until_part, wait_until_verified};
use crate::giving;
use crate::process::noise;
use crate::stage::{HOST, PORT, Stage, assert_same, may_browse, open};
use std::fs;

const PAGES: usize = 8;
const LENGTH: usize = 2 << 20;

#[test]
fn eight_pages_fetch_and_send_at_once() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let file = stage.ground.file("film.bin", LENGTH, 3);
    let into = stage.ground.dir("into");
    let sending = stage.send(&[file.to_str().unwrap(), "--keep"]);
    let (receiving, proxy) = stage.listen_beside(&["--yes", "--keep", "--into", into.to_str().unwrap()]);
    for proxy in [&stage.proxy, &proxy] {
        // Slow enough that all of them are under way together.
        proxy.inject(Whom::All, Fault::Throttle(Way::ToReceiver, Some(1 << 20)));
        proxy.inject(Whom::All, Fault::Throttle(Way::ToSender, Some(1 << 20)));
    }
    // Tabs of one browser would share what they keep, and one of them is shown at a time.
    let browsers: Vec<_> = (0..PAGES).map(|number| stage.browser_of(&number.to_string())).collect();
    let link = |number: usize| if number.is_multiple_of(2) { &sending.link } else { &receiving.link };
    let tabs: Vec<Tab> = (0..).zip(&browsers).map(|(number, browser)| open(browser, link(number))).collect();
    let given = |number: usize| stage.ground.path("phones").join(format!("from {number}.bin"));
    for (number, tab) in tabs.iter().enumerate() {
        if number.is_multiple_of(2) {
            press(tab, "film.bin", "Get");
        } else {
            stage.ground.file(&format!("phones/from {number}.bin"), LENGTH, number as u64);
            tab.pick("#files-in", &[&given(number)]);
        }
    }
    for (number, tab) in tabs.iter().enumerate() {
        let (root, of) = if number.is_multiple_of(2) {
            (wait_until_verified(tab, "film.bin"), file.clone())
        } else {
            (giving::wait_until_verified(tab), given(number))
        };
        assert_eq!(root, blake3::hash(&fs::read(of).unwrap()).to_hex().as_str(), "page {number}");
        assert_eq!(tab.said(), Vec::<String>::new(), "page {number}");
    }
    for number in (1..PAGES).step_by(2) {
        assert_same(&given(number), &into.join(format!("from {number}.bin")));
    }
    assert_eq!(fs::read_dir(&into).unwrap().count(), PAGES / 2, "nothing else is left there");
}

#[test]
fn a_page_moves_over_to_another_address_of_the_host_when_one_is_gone() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let file = stage.ground.dir("source").join("film.bin");
    fs::write(&file, noise(8 << 20, 5)).unwrap();
    let host = stage.send_at_each_address(&[file.to_str().unwrap(), "--keep"]);
    assert!(host.link.matches("10.88.").count() >= 2, "the link names several addresses: {}", host.link);
    let (_, path) = host.link.split_once("://").unwrap().1.split_once('/').unwrap();
    let browser = stage.browser();
    let tab = open(&browser, &format!("http://{HOST}:{PORT}/{path}"));
    stage.proxy.inject(Whom::All, Fault::Throttle(Way::ToReceiver, Some(1 << 18)));
    press(&tab, "film.bin", "Get");
    wait_until_part(&tab, 0.3);
    stage.take_host_away();
    let root = wait_until_verified(&tab, "film.bin");
    assert_eq!(root, blake3::hash(&fs::read(&file).unwrap()).to_hex().as_str());
    assert!(stage.proxy.passed(Way::ToReceiver) < 8 << 20, "the rest came from elsewhere");
    browser.wait_for_downloads(1);
    assert_same(&file, &stage.saved("film.bin"));
    assert_eq!(tab.evaluate("location.host"), format!("{HOST}:{PORT}"), "it is the same page, with what it keeps");
}
