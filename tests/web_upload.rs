//! What a browser sends to `haul receive`: asked for piece by piece, stored and published like any sender's files.

#![allow(clippy::unwrap_used)]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/listening.rs"]
mod listening;
#[path = "support/process.rs"]
mod process;

use browser::Browser;
use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::digest::chunk_digest;
use haul::limits::SESSIONS_MAX;
use haul::secret::Link;
use listening::{Listening, endings};
use process::{Playground, noise};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

const CHUNK: usize = 256 << 10;

/// A page with files, which does what it is asked.
struct Page {
    browser: Browser,
    batch: String,
    files: Vec<(String, Vec<u8>)>,
    /// Chunks that were sent.
    sent: usize,
    /// Sends no more chunks than so many.
    most: usize,
}

impl Page {
    fn new(listening: &Listening, batch: &str, files: Vec<(&str, Vec<u8>)>) -> Self {
        let mut browser = Browser::new(&Link::parse(&listening.link).unwrap());
        let hello = browser.hello();
        assert_eq!((&hello["download"], &hello["upload"]), (&json!(false), &json!(true)));
        let files = files.into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect();
        Self { browser, batch: batch.to_owned(), files, sent: 0, most: usize::MAX }
    }

    fn ask(&self, mut header: Value, payload: &[u8]) -> Value {
        header["batch"] = json!(self.batch);
        self.browser.call(&header, payload).unwrap().0
    }

    fn offer(&self) -> Value {
        let list =
            |(path, bytes): &(String, Vec<u8>)| json!({ "path": path, "size": bytes.len(), "mtime": 1_700_000_000 });
        let files: Vec<Value> = self.files.iter().map(list).collect();
        self.ask(json!({ "op": "offer", "from": 0, "files": files, "more": false }), &[])
    }

    /// Does what is wanted until the batch is over, or as many chunks were sent as are to be.
    fn work(&mut self) -> Value {
        loop {
            let wants = self.ask(json!({ "op": "wants" }), &[]);
            assert_eq!(wants["ok"], true, "{wants}");
            if ["complete", "refused", "failed"].contains(&wants["state"].as_str().unwrap()) {
                return wants;
            }
            for wanted in wants["digests"].as_array().unwrap() {
                let [file, first, count] = [0, 1, 2].map(|at| wanted[at].as_u64().unwrap());
                let digests: Vec<u8> = (first..first + count).flat_map(|index| self.digest(file, index)).collect();
                let header = json!({ "op": "hashed", "digests": [[file, first, count]] });
                assert_eq!(self.ask(header, &digests)["ok"], true);
            }
            for wanted in wants["chunks"].as_array().unwrap() {
                if self.sent == self.most {
                    return wants;
                }
                let [file, index] = [0, 1].map(|at| wanted[at].as_u64().unwrap());
                let answer = self.ask(json!({ "op": "put", "chunks": [[file, index]] }), self.chunk(file, index));
                assert_eq!((&answer["ok"], &answer["differ"]), (&json!(true), &json!([])), "{answer}");
                self.sent += 1;
            }
        }
    }

    fn chunk(&self, file: u64, index: u64) -> &[u8] {
        self.files[file as usize].1.chunks(CHUNK).nth(index as usize).unwrap()
    }

    fn digest(&self, file: u64, index: u64) -> [u8; 32] {
        let geometry = Geometry::of(Length(self.files[file as usize].1.len() as u64)).unwrap();
        chunk_digest(geometry, ChunkIndex(u32::try_from(index).unwrap()), self.chunk(file, index)).0
    }
}

const FIRST: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAA";
const SECOND: &str = "AEAAAAAAAAAAAAAAAAAAAAAAAA";

#[test]
fn files_and_folders_of_a_page_arrive_and_end_the_run() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let listening = playground.listen(&into, &[]);
    let files = vec![
        ("DCIM/b.mp4", noise(9 * CHUNK + 17, 1)),
        ("DCIM/a.jpg", noise(1000, 2)),
        ("empty", Vec::new()),
        ("DCIM/sub/c", noise(CHUNK, 3)),
    ];
    let mut page = Page::new(&listening, FIRST, files.clone());
    assert_eq!(page.offer()["files"], 4);
    assert_eq!(page.offer()["files"], 4, "saying it twice is no harm");
    let end = page.work();
    assert_eq!((&end["state"], &end["text"]), (&json!("complete"), &json!("")));
    assert_eq!(page.sent, 10 + 1 + 1);
    let received = listening.wait();
    received.assert_ok();
    for (path, bytes) in files {
        assert!(fs::read(into.join(path)).unwrap() == bytes, "{path}");
    }
    let modified = fs::metadata(into.join("DCIM/b.mp4")).unwrap().modified().unwrap();
    assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 1_700_000_000);
    assert!(!into.join(".haul").exists(), "nothing is left behind");
}

#[test]
fn a_batch_goes_on_after_the_host_was_killed_with_the_chunks_that_are_missing() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let mut listening = playground.listen(&into, &[]);
    let files = vec![("video", noise(40 * CHUNK, 1))];
    let mut page = Page::new(&listening, FIRST, files.clone());
    page.most = 30;
    page.offer();
    page.work();
    listening.wait_for_bytes(20 * CHUNK as u64);
    listening.run.kill();
    assert!(!into.join("video").exists(), "nothing has its name before it is complete");
    let listening = playground.listen(&into, &[]);
    let mut again = Page::new(&listening, SECOND, files);
    again.offer();
    assert_eq!(again.work()["state"], "complete");
    assert!(again.sent <= 20, "{} of 40 chunks were sent again", again.sent);
    listening.wait().assert_ok();
    assert!(fs::read(into.join("video")).unwrap() == noise(40 * CHUNK, 1));
}

#[test]
fn several_pages_send_at_once() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let mut listening = playground.listen(&into, &["--keep"]);
    std::thread::scope(|scope| {
        for (batch, name, seed) in [(FIRST, "one", 1), (SECOND, "two", 2)] {
            let listening = &listening;
            scope.spawn(move || {
                let mut page = Page::new(listening, batch, vec![(name, noise(6 * CHUNK, seed))]);
                page.offer();
                assert_eq!(page.work()["state"], "complete");
            });
        }
    });
    for (name, seed) in [("one", 1), ("two", 2)] {
        assert!(fs::read(into.join(name)).unwrap() == noise(6 * CHUNK, seed));
    }
    let mut ended = 0;
    assert!(listening.run.wait_until(|event| {
        ended += usize::from(event["event"] == "ended");
        ended == 2
    }));
    let events = listening.run.kill();
    assert_eq!(events.iter().filter(|event| event["event"] == "peer").count(), 2, "{events:?}");
}

#[test]
fn a_batch_that_is_one_too_many_can_be_offered_again_from_where_it_was() {
    let playground = Playground::new();
    let listening = playground.listen(&playground.dir("into"), &["--keep"]);
    let mut browser = Browser::new(&Link::parse(&listening.link).unwrap());
    browser.hello();
    let offer = |name: &str, batch: &str, from: u32, more: bool| {
        let files = json!([{ "path": format!("{name}{from}"), "size": 1 }]);
        let header = json!({ "op": "offer", "batch": batch, "from": from, "files": files, "more": more });
        // The batches before it connect from this very address, and have all its places for a moment.
        browser.call_until_heard(&header).unwrap().0
    };
    let letters: Vec<char> = ('A'..='Z').chain('2'..='7').collect();
    for letter in &letters[..SESSIONS_MAX] {
        let answer = offer(&letter.to_string(), &format!("{letter}{}", &FIRST[1..]), 0, false);
        assert_eq!(answer["ok"], true, "{answer}");
    }
    assert_eq!(offer("more", SECOND, 0, true)["files"], 1);
    for _ in 0..2 {
        let answer = offer("more", SECOND, 1, false);
        assert!(answer["error"] == "busy" || answer["files"] == 2, "{answer}");
    }
    listening.run.kill();
}

#[test]
fn a_name_that_is_taken_and_one_that_leads_out_are_refused() {
    let playground = Playground::new();
    let into = playground.dir("into");
    fs::write(into.join("here"), b"mine").unwrap();
    let listening = playground.listen(&into, &[]);
    for bad in ["../out", "/etc/passwd", "a/../../b", "", "a//b", "con\u{0}", "a\nb", ".haul/x", "\u{1b}[2J"] {
        let page = Page::new(&listening, FIRST, vec![(bad, noise(10, 1))]);
        let answer = page.offer();
        assert_eq!((&answer["ok"], &answer["error"]), (&json!(false), &json!("request")), "{bad:?}: {answer}");
    }
    for both in [["a", "a"], ["a", "a/b"], ["a/b", "a"]] {
        let page = Page::new(&listening, FIRST, both.iter().map(|path| (*path, noise(10, 1))).collect());
        assert_eq!(page.offer()["error"], "request", "{both:?}");
    }
    let mut page = Page::new(&listening, FIRST, vec![("here", noise(10, 1))]);
    page.offer();
    let end = page.work();
    assert_eq!((&end["state"], &end["text"]), (&json!("complete"), &json!("1 of the files failed there")));
    let received = listening.wait();
    received.assert_exit(44);
    assert_eq!(endings(&received).len(), 1);
    assert_eq!(fs::read(into.join("here")).unwrap(), b"mine", "it is as it was");
}

#[test]
fn wrong_bytes_and_wrong_answers_get_nowhere() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let listening = playground.listen(&into, &[]);
    let mut page = Page::new(&listening, FIRST, vec![("file", noise(3 * CHUNK, 1))]);
    let refused = |page: &Page, header: Value, payload: &[u8]| page.ask(header, payload)["error"].clone();
    assert_eq!(refused(&page, json!({ "op": "wants" }), &[]), "unknown");
    page.offer();
    while page.ask(json!({ "op": "wants" }), &[])["digests"].as_array().unwrap().is_empty() {}
    let put = |file: u32, index: u32| json!({ "op": "put", "chunks": [[file, index]] });
    let hashed = |file: u32, first: u32, count: u32| json!({ "op": "hashed", "digests": [[file, first, count]] });
    assert_eq!(refused(&page, put(1, 0), &noise(CHUNK, 1)), "request");
    assert_eq!(refused(&page, put(0, 3), &noise(CHUNK, 1)), "request");
    assert_eq!(refused(&page, put(0, 0), &noise(CHUNK - 1, 1)), "request");
    assert_eq!(refused(&page, put(0, 0), &noise(CHUNK + 1, 1)), "request");
    assert_eq!(refused(&page, hashed(0, 0, 2), &[0; 32]), "request");
    assert_eq!(refused(&page, hashed(0, 0, 1), &[0; 64]), "request");
    assert_eq!(refused(&page, hashed(0, 0, 1), &[0; 33]), "request");
    assert_eq!(refused(&page, hashed(0, 3, 1), &[0; 32]), "request");
    assert_eq!(refused(&page, hashed(0, u32::MAX, 1), &[0; 32]), "request");
    let digests: Vec<u8> = (0..3).flat_map(|index| page.digest(0, index)).collect();
    assert_eq!(page.ask(hashed(0, 0, 3), &digests)["ok"], true);
    while page.ask(json!({ "op": "wants" }), &[])["chunks"].as_array().unwrap().is_empty() {}
    let both = [&noise(CHUNK, 9)[..], page.chunk(0, 1)].concat();
    let answer = page.ask(json!({ "op": "put", "chunks": [[0, 0], [0, 1]] }), &both);
    assert_eq!((&answer["ok"], &answer["differ"]), (&json!(true), &json!([[0, 0]])), "the other one is taken");
    assert_eq!(page.work()["state"], "complete");
    assert_eq!(refused(&page, json!({ "op": "list", "from": 0 }), &[]), "mode");
    listening.wait().assert_ok();
    assert!(fs::read(into.join("file")).unwrap() == noise(3 * CHUNK, 1));
}

#[test]
fn a_file_that_cannot_be_read_any_more_fails_alone() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let listening = playground.listen(&into, &[]);
    let mut page = Page::new(&listening, FIRST, vec![("bad", noise(2 * CHUNK, 1)), ("good", noise(2 * CHUNK, 2))]);
    page.offer();
    assert_eq!(page.ask(json!({ "op": "unreadable", "file": 0 }), &[])["ok"], true);
    let end = page.work();
    assert_eq!((&end["state"], &end["text"]), (&json!("complete"), &json!("1 of the files failed there")));
    listening.wait();
    assert!(!into.join("bad").exists());
    assert!(fs::read(into.join("good")).unwrap() == noise(2 * CHUNK, 2));
}

#[test]
fn nothing_that_a_page_says_drives_the_terminal() {
    let playground = Playground::new();
    let into = playground.dir("into");
    let mut command = playground.command("receive");
    command.args(["--yes", "--keep", "--no-qr", "--bind", "127.0.0.1:0", "--into"]).arg(&into);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    let link = loop {
        let from = said.len();
        assert_ne!(stdout.read_line(&mut said).unwrap(), 0, "{said}");
        if said[from..].starts_with("HTTP://") {
            break said[from..].trim().to_owned();
        }
    };
    let mut browser = Browser::new(&Link::parse(&link).unwrap());
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}\r\nfake line";
    let (hello, _) = browser.call(&json!({ "op": "hello", "name": evil }), &[]).unwrap();
    browser.session = hello["session"].as_str().map(str::to_owned);
    browser.request("GET", &format!("/{}", "A".repeat(26)), &[("User-Agent", "\u{1b}[2J"), ("Referer", "\u{1b}[2J")]);
    let offer = |batch: &str, path: &str| {
        let header =
            json!({ "op": "offer", "batch": batch, "from": 0, "files": [{ "path": path, "size": 0 }], "more": false });
        browser.call(&header, &[]).unwrap().0
    };
    assert_eq!(offer(FIRST, evil)["error"], "request");
    assert_eq!(offer(SECOND, "$(reboot) <b>&amp; 100%.txt")["ok"], true);
    while browser.ask(json!({ "op": "wants", "batch": SECOND })).0["state"] != "complete" {}
    process::signal(child.id(), rustix::process::Signal::INT);
    stdout.read_to_string(&mut said).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    assert!(said.contains("$(reboot) <b>&amp; 100%.txt"), "it tells what came: {said}");
    let drives = |char: char| (char.is_control() && char != '\n') || ('\u{202a}'..='\u{202e}').contains(&char);
    assert!(!said.contains(drives), "{said:?}");
    assert!(into.join("$(reboot) <b>&amp; 100%.txt").is_file());
}
