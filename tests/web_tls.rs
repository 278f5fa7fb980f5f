//! Pages over TLS: which protocol a connection gets, what the certificate is, and what is said to whoever comes without it.

#![allow(clippy::unwrap_used)]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/listening.rs"]
mod listening;
#[path = "support/process.rs"]
mod process;
#[path = "support/tls.rs"]
mod tls;

use browser::Browser;
use haul::secret::{Link, fingerprint_words};
use haul::transport::fingerprint;
use process::{Playground, Sending, noise, run, signal};
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, ProtocolVersion};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const HTTP: &[&[u8]] = &[b"http/1.1"];
const NO_PROTOCOL: AlertDescription = AlertDescription::NoApplicationProtocol;

/// Shares a file over TLS, and takes everything into `into`.
fn share(playground: &Playground, file: &Path, args: &[&str]) -> Sending {
    let mut command = playground.command("share");
    command.arg(file).arg("--into").arg(playground.dir("into"));
    command.args(["--tls", "--yes", "--bind", "127.0.0.1:0", "--json"]).args(args);
    playground.start_send(command)
}

fn stop(sending: Sending) {
    signal(sending.id(), Signal::INT);
    let (code, _, told) = sending.wait_for_all();
    assert_eq!(code, Some(0), "{told}");
}

fn address(sending: &Sending) -> SocketAddr {
    sending.at().parse().unwrap()
}

/// A browser that comes over TLS.
fn browser(link: &str) -> Browser {
    Browser { send: tls::exchange, ..Browser::new(&Link::parse(link).unwrap()) }
}

fn certificate_file(playground: &Playground) -> PathBuf {
    playground.path("state").join("haul/certificate.json")
}

/// The fingerprint that a run tells.
fn told(sending: &mut Sending) -> Value {
    sending.wait_until(|event| event["event"] == "certificate")
}

#[test]
fn a_page_over_tls_gives_and_takes_and_says_what_it_is() {
    let playground = Playground::new();
    let file = playground.file("offered", 100_000, 1);
    let mut share = share(&playground, &file, &[]);
    assert!(share.link.starts_with("HTTPS://127.0.0.1:"), "the link says how to come");
    let told = told(&mut share);
    let at = address(&share);
    let joined = tls::join(at, HTTP).unwrap();
    assert_eq!(joined.conn.alpn_protocol(), Some(HTTP[0]));
    assert_eq!(joined.conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let seen = fingerprint(tls::certificate(&joined));
    assert_eq!(told["sha256"], data_encoding::HEXLOWER.encode(&seen));
    assert_eq!(told["words"], fingerprint_words(&seen));
    let mut browser = browser(&share.link);
    let page = browser.get(&browser.page(), &[]);
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains(&format!("connect-src 'self' https://{at};")), "{policy}");
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let hello = browser.hello();
    assert_eq!((&hello["tls"], &hello["download"], &hello["upload"]), (&json!(true), &json!(true), &json!(true)));
    assert_eq!(hello["candidates"], json!([format!("https://{at}")]));
    assert_eq!((&hello["certificate"]["sha256"], &hello["certificate"]["words"]), (&told["sha256"], &told["words"]));
    let (_, bytes) = browser.ask(json!({ "op": "chunks", "file": 0, "first": 0, "count": 1 }));
    assert!(bytes == noise(100_000, 1));
    let (native, _) = browser.ask(json!({ "op": "native", "file": 0 }));
    let download = browser.get(native["url"].as_str().unwrap(), &[("Range", "bytes=5-9")]);
    assert_eq!((download.status, &download.body[..]), (206, &noise(100_000, 1)[5..10]));
    let files = json!([{ "path": "brought", "size": 0, "mtime": 1_700_000_000 }]);
    let batch = "A".repeat(26);
    browser.ask(json!({ "op": "offer", "batch": batch, "from": 0, "files": files, "more": false }));
    while browser.ask(json!({ "op": "wants", "batch": batch })).0["state"] != "complete" {}
    assert!(playground.path("into").join("brought").exists());
    stop(share);
}

#[test]
fn what_a_handshake_asks_for_decides_and_both_protocols_share_the_port() {
    let playground = Playground::new();
    let file = playground.file("offered", 100_000, 1);
    let share = share(&playground, &file, &[]);
    let at = address(&share);
    for protocols in [HTTP, &[b"h2", b"http/1.1"], &[]] {
        let mut joined = tls::join(at, protocols).unwrap();
        let reply = tls::ask(&mut joined, &browser(&share.link), "/nothing").unwrap();
        assert_eq!(reply.status, 404, "{protocols:?}");
    }
    for protocols in [&[&b"h2"[..]][..], &[b"haul/2"], &[b"http/1.1", b"haul/2"]] {
        assert_eq!(tls::join(at, protocols).unwrap_err(), Some(NO_PROTOCOL), "{protocols:?}");
    }
    playground.receive(&share.link, &playground.dir("fetched"), &[]).wait().assert_ok();
    assert!(fs::read(playground.path("fetched").join("offered")).unwrap() == noise(100_000, 1));
    // Haul's own peers take either way of writing the link.
    let plain = share.link.replacen("HTTPS", "HTTP", 1);
    playground.receive(&plain, &playground.dir("plain"), &[]).wait().assert_ok();
    playground.push(&[&playground.file("brought", 1000, 2)], &share.link, &[]).wait().assert_ok();
    assert!(fs::read(playground.path("into").join("brought")).unwrap() == noise(1000, 2));
    stop(share);
}

#[test]
fn a_listening_receiver_and_a_sender_serve_it_as_well() {
    let playground = Playground::new();
    let file = playground.file("offered", 1000, 1);
    let sending = playground.send(&[&file], &["--tls", "--keep"]);
    assert_eq!(browser(&sending.link).hello()["tls"], true);
    stop(sending);
    let listening = playground.listen(&playground.dir("into"), &["--tls"]);
    assert!(listening.link.starts_with("HTTPS://"));
    let hello = browser(&listening.link).hello();
    assert_eq!((&hello["tls"], &hello["upload"]), (&json!(true), &json!(true)));
    playground.push(&[&file], &listening.link, &[]).wait().assert_ok();
    listening.wait().assert_ok();
}

#[test]
fn without_tls_everybody_but_haul_is_told_that_it_is_not_spoken() {
    let playground = Playground::new();
    let file = playground.file("offered", 1000, 1);
    let sending = playground.send(&[&file], &["--keep"]);
    assert_eq!(tls::join(address(&sending), HTTP).unwrap_err(), Some(NO_PROTOCOL));
    assert!(tls::join(address(&sending), &[]).is_err());
    let hello = Browser::new(&Link::parse(&sending.link).unwrap()).hello();
    assert_eq!((&hello["tls"], &hello["certificate"]), (&json!(false), &json!(null)));
    assert!(!certificate_file(&playground).exists(), "none is made");
    stop(sending);
}

#[test]
fn plain_http_is_told_how_to_come_whatever_it_asks_for_and_nothing_else() {
    let playground = Playground::new();
    let file = playground.file("offered", 1000, 1);
    let share = share(&playground, &file, &[]);
    let plain = Browser::new(&Link::parse(&share.link).unwrap());
    let call = plain.post(&plain.sealed(&browser::text(&json!({ "v": 1, "op": "hello" }), &[])));
    let post = plain.raw(&call).unwrap();
    let mut answers = vec![post];
    for path in [plain.page(), "/".into(), "/nothing".into(), "/_a/x.js".into(), "/d/x/y".into()] {
        answers.push(plain.get(&path, &[]));
    }
    answers.push(plain.raw(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").unwrap());
    for answer in answers {
        assert_eq!(answer.status, 400, "{}", answer.head);
        let text = "400: this is served over https; open the whole link, as it is shown\n";
        assert_eq!(String::from_utf8(answer.body.clone()).unwrap(), text);
        assert_eq!((answer.header("location"), answer.header("connection")), (None, Some("close")));
        assert!(answer.header("content-security-policy").is_some());
        let room = plain.link.room().to_string();
        assert!(!answer.head.to_uppercase().contains(&room));
    }
    stop(share);
}

#[test]
fn hosts_and_origins_are_checked_over_tls_too() {
    let playground = Playground::new();
    let file = playground.file("offered", 1000, 1);
    let share = share(&playground, &file, &[]);
    let (browser, at) = (browser(&share.link), address(&share));
    let from = |origin: &str| browser.get(&browser.page(), &[("Origin", origin)]).status;
    assert_eq!(from(&format!("https://{at}")), 200);
    for other in [&format!("http://{at}"), "https://evil.example", "null", "https://127.0.0.1:1"] {
        assert_eq!(from(other), 403, "{other}");
    }
    let request = format!("GET {} HTTP/1.1\r\nHost: evil.example\r\n\r\n", browser.page());
    assert_eq!(browser.raw(request.as_bytes()).unwrap().status, 403);
    assert_eq!(browser.get(&format!("/{}", "A".repeat(26)), &[]).status, 404);
    stop(share);
}

#[test]
fn the_certificate_is_this_users_own_stays_and_is_made_anew_for_another_address() {
    let playground = Playground::new();
    let file = playground.file("offered", 1000, 1);
    let mut first = share(&playground, &file, &[]);
    let first_told = told(&mut first);
    let kept = certificate_file(&playground);
    assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o777, 0o600);
    let at = address(&first);
    let root = CertificateDer::from(tls::certificate(&tls::join(at, HTTP).unwrap()).to_vec());
    for name in ["127.0.0.1", "::1", "localhost"] {
        tls::trust(at, &root, name).unwrap();
    }
    assert!(tls::trust(at, &root, "192.0.2.7").is_err());
    assert!(tls::trust(at, &root, "example.org").is_err());
    stop(first);
    let mut second = share(&playground, &file, &[]);
    assert_eq!(told(&mut second)["sha256"], first_told["sha256"]);
    tls::trust(address(&second), &root, "127.0.0.1").unwrap();
    stop(second);
    let mut third = share(&playground, &file, &["--address", "192.0.2.7"]);
    assert_ne!(told(&mut third)["sha256"], first_told["sha256"]);
    let port = third.at().rsplit_once(':').unwrap().1.to_owned();
    let at = format!("127.0.0.1:{port}").parse().unwrap();
    let root = CertificateDer::from(tls::certificate(&tls::join(at, HTTP).unwrap()).to_vec());
    tls::trust(at, &root, "192.0.2.7").unwrap();
    assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o777, 0o600);
    stop(third);
}

#[test]
fn a_certificate_that_cannot_be_kept_is_said_and_haul_is_served() {
    let playground = Playground::new();
    let file = playground.file("offered", 1000, 1);
    // A folder in its place.
    fs::create_dir_all(certificate_file(&playground)).unwrap();
    let mut sending = playground.send(&[&file], &["--tls", "--keep"]);
    let event = sending.wait_until(|event| event["event"] == "warning");
    assert!(event["text"].as_str().unwrap().starts_with("browsers are not served: "), "{event}");
    playground.receive(&sending.link, &playground.dir("fetched"), &[]).wait().assert_ok();
    stop(sending);
}

#[test]
fn a_handshake_that_stops_half_way_holds_up_nobody() {
    let playground = Playground::new();
    let file = playground.file("offered", 1000, 1);
    let share = share(&playground, &file, &[]);
    let hello = tls::hello(HTTP);
    let held: Vec<_> = [1, 5, 100, hello.len() - 1, hello.len()]
        .map(|end| {
            let mut stream = std::net::TcpStream::connect(address(&share)).unwrap();
            std::io::Write::write_all(&mut stream, &hello[..end]).unwrap();
            stream
        })
        .into();
    assert_eq!(browser(&share.link).hello()["tls"], true);
    drop(held);
    stop(share);
}

#[test]
fn flags_that_do_not_fit_are_wrong_usage() {
    let playground = Playground::new();
    let refused = |verb: &str, args: &[&str]| {
        let ran = run(playground.command(verb).args(args));
        assert_eq!(ran.code, Some(2), "{verb} {args:?}: {}", ran.stderr);
        ran.stderr
    };
    for (verb, args) in [("send", &["x", "--tls", "--no-web"][..]), ("receive", &["--yes", "--tls", "--no-web"])] {
        assert!(refused(verb, args).starts_with("error: --tls is about the page, and with --no-web there is none\n"));
    }
    refused("share", &["x", "--yes", "--tls", "--no-web"]);
    refused("send", &["x", "--to", "LINK", "--tls"]);
    let told = refused("receive", &["LINK", "--yes", "--tls"]);
    assert!(told.starts_with("error: --tls is for listening, and there is a link to fetch from\n"), "{told}");
}
