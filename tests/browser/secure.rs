//! The page over HTTPS, in a browser whose user took the certificate: a secure context, and both ways.

use crate::chromium::{Browser, Tab};
use crate::stage::{Stage, assert_same, may_browse};
use serde_json::json;
use std::fs;

/// The page of a host, in a tab of its own that takes any certificate.
fn open(browser: &Browser, link: &str) -> Tab {
    let tab = browser.open("about:blank");
    tab.wait_for("document.readyState === 'complete'");
    tab.call("Security.setIgnoreCertificateErrors", &json!({"ignore": true}));
    tab.call("Page.navigate", &json!({"url": link}));
    tab.wait_for("document.querySelector('#status').textContent.startsWith('Connected')");
    tab
}

#[test]
fn over_https_the_context_is_secure_and_files_move_both_ways() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let offered = stage.ground.file("source/film.bin", 3_000_001, 1);
    let photo = stage.ground.file("phone/photo.jpg", 2_000_001, 2);
    let into = stage.ground.dir("into");
    let mut host = stage.share(&[offered.to_str().unwrap(), "--tls", "--yes", "--into", into.to_str().unwrap()]);
    assert!(host.link.starts_with("HTTPS://"));
    let certificate = host.wait_until(|event| event["event"] == "certificate");
    let browser = stage.browser();
    let tab = open(&browser, &host.link);
    assert_eq!(tab.evaluate("isSecureContext"), true);
    assert_eq!(tab.evaluate("location.protocol + location.hash"), "https:", "the key is taken out of the address");
    tab.press("document.querySelector('#files .row button')");
    tab.wait_for("document.querySelector('#files .row').dataset.kind === 'good'");
    browser.wait_for_downloads(1);
    assert_same(&offered, &stage.saved("film.bin"));
    tab.pick("#files-in", &[&photo]);
    tab.wait_for("document.querySelector('#uploads .row').dataset.kind === 'good'");
    assert_same(&photo, &into.join("photo.jpg"));
    let safety = tab.evaluate("document.querySelector('#safety').textContent");
    for text in [&certificate["words"], &certificate["sha256"]] {
        assert!(safety.as_str().unwrap().contains(text.as_str().unwrap()), "{safety}");
    }
    tab.evaluate("document.querySelectorAll('#foot details').forEach(details => { details.open = true; })");
    tab.picture(320, 740, false);
    let width = tab.evaluate("document.documentElement.scrollWidth");
    assert_eq!(width, 320, "a fingerprint is long, and a phone is narrow");
    // What the browser downloads by itself goes over HTTPS as well.
    fs::remove_file(stage.saved("film.bin")).unwrap();
    tab.evaluate("document.querySelector('#ways').open = true");
    tab.press("document.querySelector('#natives a')");
    browser.wait_for_downloads(2);
    assert_same(&offered, &stage.saved("film.bin"));
    assert_eq!(tab.said(), Vec::<String>::new(), "nothing is held against the page");
}
