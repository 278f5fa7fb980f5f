//! What the page looks like in every state, on a narrow phone, in both colour schemes, and to those who do not see it.
//!
//! `HAUL_BROWSER_PICTURES=DIR` keeps a picture of each state there.

use crate::chromium::{Browser, Tab};
use crate::fault_proxy::{Fault, Way, Whom};
use crate::stage::{self, Stage, may_browse};
use serde_json::{Value, json};
use std::path::PathBuf;

const WIDTHS: [u32; 2] = [320, 360];
const HEIGHT: u32 = 740;

/// What is wrong with how the page is drawn: what is wider than the screen, and text with too little contrast (WCAG 2.2,
/// 1.4.3), touch targets smaller than 24 pixels (2.5.8).
const FINDINGS: &str = r#"(() => {
    const found = [];
    if (document.documentElement.scrollWidth > innerWidth) {
        found.push(`the page is ${document.documentElement.scrollWidth} wide on ${innerWidth}`);
    }
    const parse = text => (text.match(/[\d.]+/g) ?? []).map(Number);
    const light = ([red, green, blue]) => [red, green, blue]
        .map(part => part / 255)
        .map(part => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
    const behind = element => {
        for (let one = element; one; one = one.parentElement) {
            const colour = parse(getComputedStyle(one).backgroundColor);
            if (colour.length === 3) return colour;
        }
        return [255, 255, 255];
    };
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
        const box = element.getBoundingClientRect();
        if (!own || box.width <= 1 || element.closest(":disabled, template")) continue;
        const [one, other] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (contrast < 4.5) found.push(`${element.textContent.trim()}: contrast ${contrast.toFixed(2)}`);
    }
    for (const element of document.querySelectorAll("button, select, summary, a")) {
        const box = element.getBoundingClientRect();
        if (box.width > 1 && (box.width < 24 || box.height < 24) && !element.closest(".root")) {
            found.push(`${element.textContent.trim()}: ${box.width} by ${box.height}`);
        }
    }
    return found;
})()"#;

/// Looks at what is shown in each width and colour scheme.
fn look(tab: &Tab, state: &str) {
    for is_dark in [false, true] {
        for width in WIDTHS {
            let picture = tab.picture(width, HEIGHT, is_dark);
            let findings = tab.evaluate(FINDINGS);
            assert_eq!(findings, json!([]), "{state}, {width} pixels wide, dark: {is_dark}");
            if let Some(folder) = std::env::var_os("HAUL_BROWSER_PICTURES") {
                let scheme = if is_dark { "dark" } else { "light" };
                let path = PathBuf::from(folder).join(format!("{state}-{width}-{scheme}.png"));
                std::fs::write(path, data_encoding::BASE64.decode(picture.as_bytes()).unwrap()).unwrap();
            }
        }
    }
    assert_eq!(nameless(tab), Vec::<String>::new(), "{state}");
}

/// What can be used and has no name that a screen reader could say.
fn nameless(tab: &Tab) -> Vec<String> {
    let tree = tab.call("Accessibility.getFullAXTree", &json!({}));
    let used = ["button", "link", "checkbox", "switch", "combobox", "progressbar", "textbox", "DisclosureTriangle"];
    let is_nameless = |node: &&Value| {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        node["ignored"] != true && used.contains(&role) && node["name"]["value"].as_str().unwrap_or_default().is_empty()
    };
    tree["nodes"].as_array().unwrap().iter().filter(is_nameless).map(ToString::to_string).collect()
}

fn wait_for_text(tab: &Tab, text: &str) {
    tab.wait_for(&format!("document.body.innerText.includes({})", json!(text)));
}

fn open(browser: &Browser, link: &str) -> Tab {
    let tab = stage::open(browser, link);
    tab.wait_for("!document.querySelector('#fetch').hidden || !document.querySelector('#give').hidden");
    tab
}

#[test]
fn every_state_of_fetching_fits_a_narrow_phone_and_can_be_read_and_heard() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let source = stage.ground.dir("Holiday");
    stage.ground.file("Holiday/Beach.mp4", 6 << 20, 1);
    stage.ground.file("Holiday/Photos/IMG_20261201_112233 a rather long name of a photograph.jpg", 2 << 20, 2);
    stage.ground.file("Holiday/List.txt", 1200, 3);
    let host = stage.send(&[source.to_str().unwrap(), "--keep"]);
    let browser = stage.browser();
    let tab = browser.open(host.link.split('#').next().unwrap());
    wait_for_text(&tab, "The link is not complete");
    look(&tab, "no-key");
    let tab = open(&browser, &host.link);
    look(&tab, "listing");
    for part in ["#ways", "#repair", "footer details"] {
        tab.press(&format!("document.querySelector('{part} summary')"));
    }
    look(&tab, "everything-open");
    for part in ["#ways", "#repair", "footer details"] {
        tab.press(&format!("document.querySelector('{part} summary')"));
    }
    let origin = tab.evaluate("location.origin");
    tab.call("Storage.overrideQuotaForOrigin", &json!({"origin": origin, "quotaSize": 1 << 20}));
    tab.press("document.querySelector('#fetch-all')");
    wait_for_text(&tab, "No space left");
    look(&tab, "no-space");
    tab.call("Storage.overrideQuotaForOrigin", &json!({"origin": origin}));
    stage.proxy.inject(Whom::All, Fault::Throttle(Way::ToReceiver, Some(100_000)));
    tab.press("document.querySelector('#fetch-all')");
    tab.wait_for("document.querySelector('#bar-progress').value > 0.1");
    look(&tab, "fetching");
    stage.proxy.inject(Whom::All, Fault::Refuse);
    stage.proxy.inject(Whom::All, Fault::Reset);
    wait_for_text(&tab, "Reconnecting");
    look(&tab, "reconnecting");
    tab.press("document.querySelector('#bar-pause')");
    wait_for_text(&tab, "Paused");
    look(&tab, "paused");
    stage.proxy.inject(Whom::All, Fault::Accept);
    stage.proxy.inject(Whom::All, Fault::Throttle(Way::ToReceiver, None));
    tab.press("document.querySelector('#fetch-all')");
    wait_for_text(&tab, "All saved and verified");
    look(&tab, "verified");
}

#[test]
fn every_state_of_sending_fits_a_narrow_phone_and_can_be_read_and_heard() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let into = stage.ground.dir("into");
    let files = [stage.ground.file("Beach.mp4", 4 << 20, 1), stage.ground.file("List.txt", 1200, 3)];
    let host = stage.listen(&["--yes", "--keep", "--into", into.to_str().unwrap()]);
    let browser = stage.browser();
    let tab = open(&browser, &host.link);
    look(&tab, "ready-to-send");
    stage.proxy.inject(Whom::All, Fault::Throttle(Way::ToSender, Some(400_000)));
    tab.pick("#files-in", &[&files[0], &files[1]]);
    tab.wait_for("document.querySelector('#bar-progress').value > 0.2");
    look(&tab, "sending");
    tab.reload();
    wait_for_text(&tab, "are safe at the computer");
    look(&tab, "pick-again");
    stage.proxy.inject(Whom::All, Fault::Throttle(Way::ToSender, None));
    tab.pick("#files-in", &[&files[0], &files[1]]);
    tab.wait_for("document.querySelector('#uploads .row').dataset.kind === 'good'");
    look(&tab, "sent");
}

#[test]
fn everything_can_be_reached_and_done_with_a_keyboard() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let file = stage.ground.file("List.txt", 1200, 3);
    let host = stage.send(&[file.to_str().unwrap(), "--keep"]);
    let browser = stage.browser();
    let tab = open(&browser, &host.link);
    let press = |key: &str, code: u32| {
        let text = if key == "Enter" { "\r" } else { "" };
        let down = json!({"type": "keyDown", "key": key, "windowsVirtualKeyCode": code, "text": text});
        tab.call("Input.dispatchKeyEvent", &down);
        tab.call("Input.dispatchKeyEvent", &json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code}));
        tab.evaluate("document.activeElement.textContent.trim()").as_str().unwrap().to_owned()
    };
    assert_eq!(press("Tab", 9), "Get", "it is what comes first");
    press("Enter", 13);
    wait_for_text(&tab, "All saved and verified");
    // The focus stays where it was.
    tab.wait_for("document.activeElement.textContent === 'Save again'");
    tab.wait_for("document.querySelector('#spoken').textContent === 'List.txt: saved and verified'");
    press("Enter", 13);
    browser.wait_for_downloads(2);
    let reached: Vec<String> = (0..4).map(|_| press("Tab", 9)).collect();
    assert_eq!(reached[0], "Clear");
    assert!(reached[1].starts_with("BLAKE3"), "{reached:?}");
    assert_eq!(reached[2], "Other ways to get them");
    assert_eq!(reached[3], "Check or repair a file that is already here");
}
