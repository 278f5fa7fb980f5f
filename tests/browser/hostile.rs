//! Names, other pages and other names of the host that are up to no good.

use crate::process::noise;
use crate::stage::{HOST, PORT, Stage, may_browse, open};
use serde_json::{Value, json};
use std::fs;

#[test]
fn hostile_names_run_nothing_and_are_shown_for_what_they_are() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let source = stage.ground.dir("source");
    let long = format!("{}.txt", "long ".repeat(50));
    let names = [
        "<img src=x onerror=alert(1)>.txt",
        "\"><script>alert(1)<\u{2215}script>.txt",
        "<svg onload=alert(1)>",
        "' autofocus onfocus=alert(1) x='.txt",
        "javascript:alert(1)",
        "{{constructor.constructor('alert(1)')()}}",
        "a&lt;b&amp;c.txt",
        "${alert(1)}`.txt",
        "%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "a;filename=\"b.html",
        "__proto__",
        "constructor",
        "e\u{301}\u{301}\u{301}\u{301}\u{301}.txt",
        &long,
    ];
    for (seed, name) in names.iter().enumerate() {
        fs::write(source.join(name), noise(300, seed as u64)).unwrap();
    }
    let host = stage.send(&[source.to_str().unwrap(), "--keep"]);
    let browser = stage.browser();
    let tab = open(&browser, &host.link);
    tab.wait_for(&format!("document.querySelectorAll('#files .row').length === {}", names.len()));
    tab.press("document.querySelector('#ways summary')");
    tab.press("document.querySelector('#repair summary')");
    tab.press("document.querySelector('#fetch-all')");
    tab.wait_for("[...document.querySelectorAll('#files .row')].every(row => row.dataset.kind === 'good')");
    let shown = tab.evaluate("[...document.querySelectorAll('#files .name')].map(name => name.textContent)");
    let mut shown: Vec<&str> = shown.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let mut wanted = names.to_vec();
    shown.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(shown, wanted);
    assert_eq!(tab.evaluate("document.querySelectorAll('main img, main script, main svg, [onfocus]').length"), 0);
    assert_eq!(tab.evaluate("document.title"), "haul");
    assert_eq!(tab.said(), Vec::<String>::new(), "no dialog, no refusal by the policy, no error");
}

#[test]
fn hostile_names_of_files_that_are_picked_are_refused_or_stored_as_they_are() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let (into, phone) = (stage.ground.dir("into"), stage.ground.dir("phone"));
    let host = stage.listen(&["--yes", "--keep", "--into", into.to_str().unwrap()]);
    let browser = stage.browser();
    let tab = open(&browser, &host.link);
    let row = "document.querySelector('#uploads .row')";
    let give = |name: &str, kind: &str| {
        let file = phone.join(name);
        fs::write(&file, noise(300, 1)).unwrap();
        tab.pick("#files-in", &[&file]);
        tab.wait_for(&format!("{row}?.dataset.kind === '{kind}'"));
        let shown = tab.evaluate(&format!("{row}.innerText"));
        tab.press(&format!("[...{row}.querySelectorAll('button')].find(button => button.textContent === 'Clear')"));
        tab.wait_for(&format!("!{row}"));
        shown.as_str().unwrap().to_owned()
    };
    for name in ["<img src=x onerror=alert(1)>.txt", "\"><svg onload=alert(1)>", "$(reboot)`reboot`;.sh", "-rf"] {
        give(name, "good");
        assert!(into.join(name).is_file(), "{name}");
    }
    for name in ["red \u{1b}[31m.txt", "a\r\nSet-Cookie: b.txt", "txt.\u{202e}gpj.exe", "back\\slash", "c1 \u{9b}2J"] {
        let shown = give(name, "bad");
        assert!(shown.contains("a name is refused"), "{name:?}: {shown}");
        assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{name:?}: {shown}");
    }
    assert_eq!(fs::read_dir(&into).unwrap().count(), 4, "nothing else was written");
    assert_eq!(tab.said(), Vec::<String>::new(), "no dialog, no refusal by the policy, no error");
}

#[test]
fn another_name_that_leads_to_the_host_and_pages_from_elsewhere_get_nothing() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let file = stage.ground.file("film.bin", 1000, 3);
    let mut host = stage.send(&[file.to_str().unwrap(), "--keep"]);
    let room = host.link.split('/').nth(3).unwrap().split('#').next().unwrap().to_owned();
    let key = host.link.split_once('#').unwrap().1.to_owned();
    let browser = stage.browser();

    // Somebody's name was made to lead here, and their page knows the room.
    let rebound = browser.open(&format!("http://evil.example:{PORT}/{room}#{key}"));
    rebound.wait_for("document.body.innerText.startsWith('403')");
    let status = |url: &str, options: Value| {
        rebound.evaluate(&format!("fetch({}, {options}).then(answer => answer.status, () => 'nothing')", json!(url)))
    };
    let post = json!({ "method": "POST", "body": "x" });
    assert_eq!(status(&format!("/v1/{room}"), post.clone()), 403);
    assert_eq!(status(&format!("/{room}"), json!({})), 403);
    // From that page to the host's own address.
    let own = format!("http://{HOST}:{PORT}");
    assert_eq!(status(&format!("{own}/v1/{room}"), post), "nothing");
    assert_eq!(status(&format!("{own}/{room}"), json!({})), "nothing");
    let opaque = json!({ "mode": "no-cors" });
    assert_eq!(status(&format!("{own}/{room}"), opaque), "nothing", "not even what a page may not read");
    // In a frame it would be drawn below somebody else's buttons.
    let frame = format!(
        "new Promise(done => {{ const frame = document.createElement('iframe'); frame.onload = done; \
         frame.src = '{own}/{room}'; document.body.append(frame); }}).then(() => true)"
    );
    rebound.evaluate(&frame);
    let frames = rebound.call("Page.getFrameTree", &json!({}))["frameTree"]["childFrames"].clone();
    assert_eq!(frames[0]["frame"]["url"], "chrome-error://chromewebdata/", "the page stands in no frame: {frames}");

    // A form that somebody else's page sends.
    let forged = browser.open("about:blank");
    let form = format!(
        "const form = document.createElement('form'); form.method = 'POST'; form.enctype = 'text/plain'; \
         form.action = '{own}/v1/{room}'; document.body.append(form); form.submit()"
    );
    forged.evaluate(&format!("(() => {{ {form} }})()"));
    forged.wait_for("document.body.innerText.startsWith('403')");

    let tab = open(&browser, &host.link);
    tab.wait_for("document.querySelectorAll('#files .row').length === 1");
    let first = host.wait_until(|event| event["event"] == "peer");
    assert_eq!(first["session"], 1, "nobody was let in before: {first}");
}
