//! What a browser fetches from `haul send`: the page, verified chunks, files by themselves, zips.

#![allow(clippy::unwrap_used)]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/fault_proxy.rs"]
mod fault_proxy;
#[path = "support/many.rs"]
mod many;
#[path = "support/process.rs"]
mod process;

use browser::{Browser, Reply};
use fault_proxy::{Fault, FaultProxy, Way, Whom};
use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::digest::{ChunkDigest, RootMerger, chunk_digest};
use haul::limits::WEB_CAPABILITIES_PER_PAGE_MAX;
use haul::transfer::{Event, PeerState, SendSettings};
use many::Crowd;
use process::noise;
use serde_json::json;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::process::Command;

const CHUNK: usize = 256 << 10;
/// Several chunks, and a part of one.
const LENGTH: usize = 5 * CHUNK + 12_345;

fn crowd() -> Crowd {
    Crowd::new(LENGTH, SendSettings { pages: Some(haul::web::open), ..SendSettings::default() })
}

fn guest(crowd: &Crowd) -> Browser {
    let mut browser = Browser::new(&crowd.link);
    browser.hello();
    browser
}

#[test]
fn the_page_and_its_files_are_there_for_whoever_knows_the_room() {
    let crowd = crowd();
    let browser = Browser::new(&crowd.link);
    for path in [browser.page(), browser.page().to_lowercase()] {
        let page = browser.get(&path, &[]);
        assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self' 'wasm-unsafe-eval';"), "{policy}");
        assert!(policy.contains(&format!("connect-src 'self' http://{}", browser.address())), "{policy}");
        assert_eq!(page.header("cache-control"), Some("no-store"));
        let text = String::from_utf8(page.body).unwrap();
        assert!(!text.contains("<script>") && !text.contains("style="), "nothing inline");
        let (_, rest) = text.split_once("src=\"/_a/").unwrap();
        let name = rest.split('"').next().unwrap();
        let script = browser.get(&format!("/_a/{name}"), &[]);
        assert_eq!((script.status, script.header("content-type")), (200, Some("text/javascript; charset=utf-8")));
        assert_eq!(script.header("cache-control"), Some("public, max-age=31536000, immutable"));
        let tag = script.header("etag").unwrap();
        assert_eq!(browser.get(&format!("/_a/{name}"), &[("If-None-Match", tag)]).status, 304);
        for reply in [&script, &browser.get(&path, &[])] {
            assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
            assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(reply.header("cross-origin-resource-policy"), Some("same-origin"));
        }
    }
    let head = browser.request("HEAD", &browser.page(), &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 0);
    crowd.stop();
}

#[test]
fn without_pages_a_browser_is_a_stranger() {
    let crowd = Crowd::new(1, SendSettings::default());
    let browser = Browser::new(&crowd.link);
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", browser.page(), browser.address());
    assert!(browser.raw(request.as_bytes()).is_none(), "the connection ends without a word");
    crowd.stop();
}

#[test]
fn a_file_is_fetched_by_chunks_and_is_what_its_digests_say() {
    let crowd = crowd();
    let mut browser = Browser::new(&crowd.link);
    let hello = browser.hello();
    assert_eq!((&hello["title"], &hello["download"], &hello["upload"]), (&json!("data"), &json!(true), &json!(false)));
    assert_eq!(hello["candidates"], json!([format!("http://{}", browser.address())]));
    crowd.wait_until(|event| matches!(event, Event::Notice { text } if text.contains("whoever alters")));
    crowd.wait_until(|event| matches!(event, Event::PeerConnected { session: 1, .. }));
    let (list, _) = browser.ask(json!({ "op": "list", "from": 0 }));
    assert_eq!((&list["next"], &list["files"], &list["bytes"]), (&json!(null), &json!(1), &json!(LENGTH)));
    let entry = &list["entries"][0];
    assert_eq!((&entry["kind"], &entry["path"], &entry["size"]), (&json!("file"), &json!("data"), &json!(LENGTH)));
    let geometry = Geometry::of(Length(LENGTH as u64)).unwrap();
    let (header, digests) = browser.ask(json!({ "op": "digests", "file": 0, "first": 0, "count": 6 }));
    assert_eq!((&header["count"], digests.len()), (&json!(6), 6 * 32));
    let mut file = Vec::new();
    for (first, count) in [(0, 1), (1, 4), (5, 1)] {
        let (header, bytes) = browser.ask(json!({ "op": "chunks", "file": 0, "first": first, "count": count }));
        assert_eq!((&header["first"], &header["count"]), (&json!(first), &json!(count)));
        file.extend(bytes);
    }
    assert!(file == noise(LENGTH, 1));
    let mut merger = RootMerger::new(geometry);
    let mut root = None;
    for (index, (chunk, digest)) in (0..).zip(file.chunks(CHUNK).zip(digests.chunks(32))) {
        assert_eq!(chunk_digest(geometry, ChunkIndex(index), chunk).0, digest);
        root = merger.push(ChunkDigest(digest.try_into().unwrap()));
    }
    let (known, _) = browser.ask(json!({ "op": "root", "file": 0 }));
    assert_eq!(known["root"], root.unwrap().to_string());
    browser.ask(json!({ "op": "fetched", "files": [0] }));
    crowd.wait_until(
        |event| matches!(event, Event::PeerFinished { session: 1, ok: true, bytes } if *bytes == LENGTH as u64),
    );
    crowd.stop();
}

#[test]
fn a_call_that_asks_for_what_is_not_there_is_refused() {
    let crowd = crowd();
    let browser = guest(&crowd);
    let refused = |header| browser.refused(header);
    assert_eq!(refused(json!({ "op": "list", "from": 2 })), "unknown");
    for op in ["digests", "chunks"] {
        assert_eq!(refused(json!({ "op": op, "file": 1, "first": 0, "count": 1 })), "unknown");
        assert_eq!(refused(json!({ "op": op, "file": 0, "first": 6, "count": 1 })), "request");
        assert_eq!(refused(json!({ "op": op, "file": 0, "first": 0, "count": 0 })), "request");
        assert_eq!(
            refused(json!({ "op": op, "file": 0, "first": 4_294_967_295u32, "count": 4_294_967_295u32 })),
            "request"
        );
        assert_eq!(refused(json!({ "op": op, "file": 0, "first": -1, "count": 1 })), "request");
    }
    assert_eq!(refused(json!({ "op": "chunks", "file": 0, "first": 0, "count": 5 })), "limit");
    assert_eq!(refused(json!({ "op": "fetched", "files": [0, 1] })), "unknown");
    assert_eq!(refused(json!({ "op": "native", "file": 7 })), "unknown");
    assert_eq!(refused(json!({ "op": "native", "zip": [0, 7] })), "unknown");
    assert_eq!(refused(json!({ "op": "delete", "file": 0 })), "request");
    assert_eq!(refused(json!({ "op": "list", "from": 0, "v": 2 })), "version");
    assert_eq!(refused(json!({ "op": "list", "from": 0, "session": "AAAAAAAAAAAAAAAAAAAAAAAAAA" })), "session");
    assert_eq!(refused(json!({ "op": "list", "from": 0, "session": "A" })), "session");
    // Sealed, and no call at all.
    for text in [&b""[..], b"\0", b"\0\0\0\0", b"\xff\xff\xff\xff{}", b"\x02\0\0\0[]", b"\x02\0\0\0{}"] {
        let reply = browser.raw(&browser.post(&browser.sealed(text))).unwrap();
        assert_eq!(reply.status, 200, "it is authentic");
    }
    crowd.stop();
}

#[test]
fn a_page_has_so_many_addresses_for_downloads_and_the_oldest_goes_first() {
    let crowd = crowd();
    let (browser, other) = (guest(&crowd), guest(&crowd));
    let native =
        |browser: &Browser| browser.ask(json!({ "op": "native", "zip": null })).0["url"].as_str().unwrap().to_owned();
    let of_other = native(&other);
    let urls: Vec<String> = (0..=WEB_CAPABILITIES_PER_PAGE_MAX).map(|_| native(&browser)).collect();
    assert_eq!(browser.get(&urls[0], &[]).status, 404);
    for url in [&urls[1], &urls[WEB_CAPABILITIES_PER_PAGE_MAX], &of_other] {
        assert_eq!(browser.get(url, &[]).status, 200);
    }
    crowd.stop();
}

#[test]
fn a_source_that_changed_is_told_and_breaks_a_download() {
    let crowd = crowd();
    let browser = guest(&crowd);
    let (native, _) = browser.ask(json!({ "op": "native", "file": 0 }));
    let url = native["url"].as_str().unwrap().to_owned();
    assert_eq!(browser.get(&url, &[]).body.len(), LENGTH);
    let mut file = fs::File::options().append(true).open(crowd.playground.path("data")).unwrap();
    file.write_all(b"more").unwrap();
    drop(file);
    assert_eq!(browser.refused(json!({ "op": "chunks", "file": 0, "first": 0, "count": 1 })), "changed");
    // It may break before the head of the answer has left.
    let cut = browser.raw(format!("GET {url} HTTP/1.1\r\nHost: {}\r\n\r\n", browser.address()).as_bytes());
    let is_short = |cut: browser::Reply| cut.is_cut && cut.body.len() < LENGTH;
    assert!(cut.is_none_or(is_short), "never a short answer that passes for a whole one");
    crowd.stop();
}

#[test]
fn a_browser_is_limited_and_disconnected_like_any_receiver() {
    let crowd = crowd();
    let browser = guest(&crowd);
    crowd.wait_until(|event| matches!(event, Event::PeerConnected { session: 1, .. }));
    browser.ask(json!({ "op": "chunks", "file": 0, "first": 0, "count": 1 }));
    let sent = |event: &Event| {
        matches!(event, Event::PeerProgress { session: 1, progress, state: PeerState::Sending | PeerState::Idle, .. }
            if progress.bytes_done == CHUNK as u64)
    };
    crowd.wait_until(sent);
    crowd.controls.disconnect(1);
    crowd.wait_until(|event| matches!(event, Event::PeerRefused { session: 1 }));
    assert_eq!(browser.refused(json!({ "op": "list", "from": 0 })), "declined");
    let mut again = Browser::new(&crowd.link);
    assert_eq!(again.refused(json!({ "op": "hello" })), "declined", "its address is turned away");
    again.session = browser.session.clone();
    assert_eq!(again.refused(json!({ "op": "list", "from": 0 })), "declined");
    crowd.stop();
}

#[test]
fn a_browser_whose_turn_is_far_off_by_the_limit_is_told_so() {
    let crowd = crowd();
    let browser = guest(&crowd);
    crowd.controls.limit_all(NonZeroU64::new(1));
    let chunk = json!({ "op": "chunks", "file": 0, "first": 0, "count": 1 });
    // The limit holds from some moment on, and the first chunk under it is let go ahead of its time.
    let refused = loop {
        let (header, _) = browser.call(&chunk, &[]).unwrap();
        if header["ok"] == false {
            break header;
        }
    };
    assert_eq!(refused["error"], "busy");
    crowd.controls.limit_all(None);
    while browser.call(&chunk, &[]).unwrap().0["ok"] == false {}
    crowd.stop();
}

#[test]
fn a_browser_that_is_asked_about_learns_nothing_before_the_answer() {
    let settings = SendSettings { pages: Some(haul::web::open), ask_each: true, ..SendSettings::default() };
    let crowd = Crowd::new(LENGTH, settings);
    let browser = guest(&crowd);
    crowd.wait_until(|event| matches!(event, Event::PeerAsks { session: 1, .. }));
    assert_eq!(browser.refused(json!({ "op": "list", "from": 0 })), "asked");
    crowd.controls.accept(1);
    crowd.wait_until(|event| matches!(event, Event::PeerConnected { session: 1, .. }));
    browser.ask(json!({ "op": "list", "from": 0 }));
    crowd.stop();
}

#[test]
fn a_send_ends_once_a_browser_has_everything_and_the_browser_learns_that() {
    let playground = process::Playground::new();
    let sending = playground.send(&[&playground.file("data", 1000, 1)], &[]);
    let link = haul::secret::Link::parse(&sending.link).unwrap();
    let mut browser = Browser::new(&link);
    browser.hello();
    browser.ask(json!({ "op": "chunks", "file": 0, "first": 0, "count": 1 }));
    browser.ask(json!({ "op": "fetched", "files": [0] }));
    assert_eq!(sending.wait().0, Some(0));
}

fn native(browser: &Browser, header: serde_json::Value) -> (String, usize) {
    let (header, _) = browser.ask(header);
    let size = usize::try_from(header["size"].as_u64().unwrap()).unwrap();
    (header["url"].as_str().unwrap().to_owned(), size)
}

#[test]
fn a_download_outside_of_the_page_does_as_http_says() {
    let crowd = crowd();
    let browser = guest(&crowd);
    let (url, size) = native(&browser, json!({ "op": "native", "file": 0 }));
    assert_eq!(size, LENGTH);
    let bytes = noise(LENGTH, 1);
    let all = browser.get(&url, &[]);
    assert!(all.status == 200 && all.body == bytes);
    assert_eq!(all.header("content-disposition"), Some("attachment; filename=\"data\"; filename*=UTF-8''data"));
    assert_eq!(all.header("content-type"), Some("application/octet-stream"));
    assert_eq!(all.header("accept-ranges"), Some("bytes"));
    let tag = all.header("etag").unwrap().to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "strong: {tag}");
    let head = browser.request("HEAD", &url, &[]);
    assert_eq!(
        (head.status, head.header("content-length"), head.header("etag")),
        (200, all.header("content-length"), Some(&*tag))
    );
    let head = browser.request("HEAD", &url, &[("Range", "bytes=1000-")]);
    assert_eq!(
        (head.status, head.header("content-length"), head.header("content-range")),
        (200, all.header("content-length"), None),
        "a range is for GET alone"
    );
    let part = |fields: &[(&str, &str)]| browser.get(&url, fields);
    let assert_part = |reply: &Reply, first: usize, last: usize| {
        assert_eq!(reply.status, 206);
        assert_eq!(reply.header("content-range"), Some(&*format!("bytes {first}-{last}/{LENGTH}")));
        assert!(reply.body == bytes[first..=last]);
    };
    assert_part(&part(&[("Range", "bytes=0-0")]), 0, 0);
    assert_part(&part(&[("Range", "bytes=262143-262144")]), CHUNK - 1, CHUNK);
    assert_part(&part(&[("Range", "bytes=1000-")]), 1000, LENGTH - 1);
    assert_part(&part(&[("Range", "bytes=-7")]), LENGTH - 7, LENGTH - 1);
    assert_part(&part(&[("Range", "bytes=5-99999999999999999999")]), 5, LENGTH - 1);
    assert_part(&part(&[("Range", "bytes=1000-"), ("If-Range", &tag)]), 1000, LENGTH - 1);
    for other in ["\"x\"", &format!("W/{tag}"), "Tue, 14 Nov 2023 22:13:20 GMT", ""] {
        let whole = part(&[("Range", "bytes=1000-"), ("If-Range", other)]);
        assert!(whole.status == 200 && whole.body == bytes, "never a part of another file: {other}");
    }
    for range in ["bytes=5-2", "bytes=-0", "bytes=99999999-", "bytes=x"] {
        let none = part(&[("Range", range)]);
        assert_eq!((none.status, none.header("content-range")), (416, Some(&*format!("bytes */{LENGTH}"))), "{range}");
    }
    let many: Vec<String> = (0..1000).map(|at| format!("{at}-{at}")).collect();
    assert_eq!(part(&[("Range", &format!("bytes={}", many.join(",")))]).status, 200);
    assert_eq!(part(&[("If-None-Match", &tag)]).status, 304);
    assert_eq!(part(&[("If-None-Match", "\"x\"")]).status, 200);
    assert_eq!(part(&[("If-Match", &tag)]).status, 200);
    assert_eq!(part(&[("If-Match", "\"x\"")]).status, 412);
    let modified = all.header("last-modified").unwrap().to_owned();
    let long_ago = "Tue, 14 Nov 2006 22:13:20 GMT";
    assert_part(&part(&[("Range", "bytes=7-"), ("If-Unmodified-Since", &modified)]), 7, LENGTH - 1);
    assert_eq!(part(&[("Range", "bytes=7-"), ("If-Unmodified-Since", long_ago)]).status, 412, "it is another file");
    assert_eq!(part(&[("If-Match", &tag), ("If-Unmodified-Since", long_ago)]).status, 200, "a tag is more exact");
    assert_eq!(part(&[("If-Unmodified-Since", "some day")]).status, 200, "no date is no condition");
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(browser.request(method, &url, &[("Content-Length", "0")]).status, 405, "{method}");
    }
    let cap = url.split('/').nth(2).unwrap();
    for wrong in ["/d/AAAAAAAAAAAAAAAAAAAAAAAAAA/data".to_owned(), format!("/d/{cap}"), format!("/d/{cap}/a/b")] {
        assert_eq!(browser.get(&wrong, &[]).status, 404, "{wrong}");
    }
    crowd.stop();
}

#[test]
fn everything_comes_as_one_zip_that_other_programs_read() {
    let playground = process::Playground::new();
    let tree = playground.dir("tree");
    fs::create_dir_all(tree.join("sub/empty")).unwrap();
    fs::write(tree.join("sub/one"), noise(300_000, 1)).unwrap();
    fs::write(tree.join("nothing"), b"").unwrap();
    fs::write(tree.join("caf\u{e9} \u{2603}.txt"), b"snow").unwrap();
    let sending = playground.send(&[&tree], &["--keep"]);
    let link = haul::secret::Link::parse(&sending.link).unwrap();
    let mut browser = Browser::new(&link);
    browser.hello();
    let (url, size) = native(&browser, json!({ "op": "native", "zip": null }));
    let (again, _) = native(&browser, json!({ "op": "native", "zip": null }));
    assert!(url.ends_with("/tree.zip"), "{url}");
    // From the end, where no file was read yet.
    let tail = browser.get(&url, &[("Range", "bytes=-500")]);
    let zip = browser.get(&url, &[]);
    assert_eq!((zip.status, zip.body.len(), zip.header("content-type")), (200, size, Some("application/zip")));
    assert!(tail.status == 206 && zip.body.ends_with(&tail.body) && tail.body.len() == 500);
    let second = browser.get(&again, &[]);
    assert!(second.body == zip.body && second.header("etag") == zip.header("etag"), "the same bytes every time");
    let file = playground.path("got.zip");
    fs::write(&file, &zip.body).unwrap();
    let into = playground.dir("unpacked");
    let script =
        "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\nassert z.testzip() is None\nz.extractall(sys.argv[2])";
    let unpacked = Command::new("python3").args(["-c", script]).arg(&file).arg(&into).status().unwrap();
    assert!(unpacked.success());
    assert!(fs::read(into.join("tree/sub/one")).unwrap() == noise(300_000, 1));
    assert_eq!(fs::read(into.join("tree/nothing")).unwrap(), b"");
    assert_eq!(fs::read(into.join("tree/caf\u{e9} \u{2603}.txt")).unwrap(), b"snow");
    assert!(into.join("tree/sub/empty").is_dir());
    sending.kill();
}

/// `HAUL_ZIP_GIB=5` puts a sparse file of that length before the last one.
#[test]
fn other_programs_read_a_zip_of_more_files_than_16_bits_can_count() {
    let gibibytes = std::env::var("HAUL_ZIP_GIB").map_or(0, |text| text.parse::<u64>().unwrap());
    let playground = process::Playground::new();
    let tree = playground.dir("tree");
    for folder in 0..66 {
        let folder = playground.dir(&format!("tree/{folder:02}"));
        (0..1000).for_each(|file| drop(fs::File::create(folder.join(format!("{file:03}"))).unwrap()));
    }
    if gibibytes > 0 {
        fs::File::create(tree.join("middle")).unwrap().set_len(gibibytes << 30).unwrap();
    }
    fs::write(tree.join("zlast"), b"the end").unwrap();
    let sending = playground.send(&[&tree], &["--keep"]);
    let mut browser = Browser::new(&haul::secret::Link::parse(&sending.link).unwrap());
    browser.hello();
    let (url, size) = native(&browser, json!({ "op": "native", "zip": null }));
    let zip = playground.path("got.zip");
    let url = format!("http://{}{url}", browser.address());
    let fetched = Command::new("curl").args(["--silent", "--fail", "--output"]).arg(&zip).arg(&url).status().unwrap();
    assert!(fetched.success());
    assert_eq!(fs::metadata(&zip).unwrap().len(), size as u64);
    let script = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\nassert z.testzip() is None\n\
        assert z.read('tree/zlast') == b'the end'\nprint(len([i for i in z.infolist() if not i.is_dir()]))";
    let read = Command::new("python3").args(["-c", script]).arg(&zip).output().unwrap();
    let files = 66_000 + 1 + usize::from(gibibytes > 0);
    assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), files.to_string(), "{read:?}");
    sending.kill();
}

#[test]
fn a_connection_that_was_let_in_serves_several_requests() {
    let crowd = crowd();
    let browser = Browser::new(&crowd.link);
    let mut stream = TcpStream::connect(browser.address()).unwrap();
    for _ in 0..3 {
        write!(stream, "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", browser.page(), browser.address()).unwrap();
        assert_eq!(browser::read_reply(&mut stream, false).unwrap().status, 200);
    }
    crowd.stop();
}

/// Each connection is cut after a while, by a proxy. What was there by then is not fetched again.
#[test]
fn other_programs_go_on_where_they_were_cut_off() {
    const FILE: usize = 8 << 20;
    const CUT_AFTER: u64 = 3 << 20;
    let programs: [(&str, &[&str]); 3] = [
        ("curl", &["--silent", "--fail", "--continue-at", "-", "--output", "curl"]),
        ("wget", &["--quiet", "--continue", "--tries=0", "--waitretry=0", "--output-document", "wget"]),
        (
            "aria2c",
            &[
                "--quiet",
                "--max-connection-per-server=4",
                "--split=4",
                "--min-split-size=1M",
                "--max-tries=0",
                "--continue",
                "--out=aria2c",
            ],
        ),
    ];
    let crowd = Crowd::new(FILE, SendSettings { pages: Some(haul::web::open), ..SendSettings::default() });
    let browser = guest(&crowd);
    let bytes = noise(FILE, 1);
    for (name, arguments) in programs {
        let (path, _) = native(&browser, json!({ "op": "native", "file": 0 }));
        let proxy = FaultProxy::new(browser.address());
        let mut command = Command::new(name);
        // The host knows the addresses of its link, and the proxy's is none of them.
        command.args(arguments).args(["--header", &format!("Host: {}", browser.address())]);
        command.arg(format!("http://{}{path}", proxy.address())).current_dir(crowd.playground.path(""));
        let cut_after = if name == "aria2c" { CUT_AFTER / 4 } else { CUT_AFTER };
        proxy.inject_after(Whom::All, Way::ToReceiver, cut_after, Fault::Close);
        // One of them ends with the connection, as its user sees it.
        let runs = (1..=5).find(|_| command.status().unwrap().success());
        assert_eq!(runs, Some(if name == "curl" { 3 } else { 1 }), "{name}");
        assert!(fs::read(crowd.playground.path(name)).unwrap() == bytes, "{name}");
        assert!(proxy.connections() >= 3, "{name} was cut off");
        let moved = proxy.passed(Way::ToReceiver);
        // What a cut loses is what lay in buffers. From the start each time it would be 14 MiB and more.
        assert!(moved < FILE as u64 + (4 << 20), "{name} had {moved} bytes sent");
    }
    crowd.stop();
}

#[test]
fn names_of_downloads_reach_no_other_header() {
    let playground = process::Playground::new();
    let source = playground.dir("source");
    let long = format!("{}.txt", "l".repeat(251));
    let names =
        ["a\"; filename=\"b.html", "<script>alert(1)<script>", "100%41.txt", "a;b=c.txt", "caf\u{e9}.txt", &long];
    for name in names {
        fs::write(source.join(name), b"content").unwrap();
    }
    let sending = playground.send(&[&source], &["--keep"]);
    let mut browser = Browser::new(&haul::secret::Link::parse(&sending.link).unwrap());
    browser.hello();
    let (list, _) = browser.ask(json!({ "op": "list", "from": 0 }));
    let listed = list["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "file");
    let mut seen = 0;
    for entry in listed {
        let name = entry["path"].as_str().unwrap().rsplit('/').next().unwrap();
        let (url, _) = native(&browser, json!({ "op": "native", "file": entry["id"] }));
        assert!(url.is_ascii() && !url.contains(['<', '"', ' ', ';']), "{url}");
        let reply = browser.get(&url, &[]);
        assert_eq!((reply.status, &reply.body[..]), (200, &b"content"[..]), "{name}");
        assert!(reply.head.is_ascii());
        let dispositions =
            reply.head.lines().filter(|line| line.to_ascii_lowercase().starts_with("content-disposition:"));
        assert_eq!(dispositions.count(), 1, "{name}");
        let disposition = reply.header("content-disposition").unwrap();
        let (plain, whole) = disposition.strip_prefix("attachment; filename=\"").unwrap().split_once('"').unwrap();
        assert!(!plain.contains([';', '%', '\\']), "{plain}");
        let whole = whole.strip_prefix("; filename*=UTF-8''").unwrap();
        assert!(whole.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)), "{whole}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
        seen += 1;
    }
    assert_eq!(seen, names.len());
    sending.kill();
}
