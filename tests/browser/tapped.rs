//! What somebody sees who records every packet of a page's transfer: lengths and times, and nothing that it is about.

use crate::fetching::{press, wait_until_verified};
use crate::giving;
use crate::stage::{Stage, may_browse, open};
use data_encoding::{BASE64, BASE64URL, HEXLOWER};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const NAME: &str = "annual report.txt";
const LINE: &str = "what the file says, again and again; ";
/// Repeated, so that it is in many packets as a whole.
const LINES: usize = 4000;
/// `ETH_P_ALL` of Linux.
const EVERY_PROTOCOL: u16 = 3;

/// Every packet that passes the browser's machine: those of its cable, and those within it.
struct Tape {
    is_over: Arc<AtomicBool>,
    packets: JoinHandle<Vec<u8>>,
}

impl Tape {
    fn start(stage: &Stage) -> Self {
        let of_every_protocol = Protocol::from(i32::from(EVERY_PROTOCOL.to_be()));
        let mut socket =
            stage.beside_browser(|| Socket::new(Domain::PACKET, Type::RAW, Some(of_every_protocol)).unwrap());
        socket.set_recv_buffer_size(64 << 20).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let is_over = Arc::<AtomicBool>::default();
        let until = Arc::clone(&is_over);
        let packets = thread::spawn(move || {
            let (mut packets, mut packet) = (Vec::new(), vec![0; 1 << 17]);
            // What came before the end is taken before it is looked for.
            loop {
                let is_last = until.load(Ordering::Acquire);
                while let Ok(length) = socket.read(&mut packet) {
                    packets.extend_from_slice(&packet[..length]);
                }
                if is_last {
                    return packets;
                }
            }
        });
        Self { is_over, packets }
    }

    fn end(self) -> Vec<u8> {
        self.is_over.store(true, Ordering::Release);
        self.packets.join().unwrap()
    }
}

/// A text in every form in which programs write text, as bytes in lower case.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let utf16 = |to: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(to).collect::<Vec<u8>>();
    let each = |write: &dyn Fn(u8) -> String| text.bytes().map(write).collect::<String>().into_bytes();
    let mut forms = vec![
        text.as_bytes().to_vec(),
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
        text.replace(' ', "%20").into_bytes(),
        text.replace(' ', "+").into_bytes(),
        each(&|byte| format!("%{byte:02x}")),
        each(&|byte| format!("\\u{byte:04x}")),
        each(&|byte| format!("\\x{byte:02x}")),
        HEXLOWER.encode(text.as_bytes()).into_bytes(),
    ];
    // Base64 of a text that lies anywhere: what its neighbours have no part in.
    for encoding in [BASE64, BASE64URL] {
        for before in 0..3 {
            let encoded = encoding.encode(&[&vec![0; before][..], text.as_bytes()].concat());
            let (from, to) = ((before * 8).div_ceil(6), (before + text.len()) * 8 / 6);
            forms.push(encoded.as_bytes()[from..to].to_vec());
        }
    }
    for form in &mut forms {
        form.make_ascii_lowercase();
    }
    forms
}

/// Which of the texts can be found in what was recorded, in any form.
fn found(tape: &[u8], texts: &[&str]) -> Vec<String> {
    let tape = tape.to_ascii_lowercase();
    let is_in = |form: &Vec<u8>| contains(&tape, form);
    let forms = texts.iter().flat_map(|text| forms(text).into_iter().map(move |form| (text, form)));
    let found: HashSet<String> = forms.filter(|(_, form)| is_in(form)).map(|(text, _)| (*text).to_owned()).collect();
    found.into_iter().collect()
}

fn contains(tape: &[u8], form: &[u8]) -> bool {
    let first = form[0];
    let starts = tape.iter().enumerate().filter(|(_, byte)| **byte == first);
    starts.map(|(at, _)| at).any(|at| tape[at..].starts_with(form))
}

#[test]
fn a_recorded_page_names_no_file_and_shows_nothing_of_its_content_either_way() {
    if !may_browse() {
        return;
    }
    let stage = Stage::new();
    let file = stage.ground.path(NAME);
    let content = LINE.repeat(LINES);
    fs::write(&file, &content).unwrap();
    let host = stage.send(&[file.to_str().unwrap(), "--keep"]);
    let secret = host.link.split(['#', ',']).nth(1).unwrap().to_owned();
    let texts = [NAME, "annual", LINE.trim_end_matches([' ', ';']), "again and again", &secret];
    let browser = stage.browser();

    let tape = Tape::start(&stage);
    let tab = open(&browser, &host.link);
    press(&tab, NAME, "Get");
    wait_until_verified(&tab, NAME);
    let tape = tape.end();
    assert!(tape.len() > content.len(), "the tape has all of it");
    assert!(found(&tape, &["http/1.1", "content-length"]).len() == 2, "what is not hidden is found");
    assert_eq!(found(&tape, &texts), Vec::<String>::new(), "these are on the wire of a page that fetches");

    // The same search finds what goes outside of the page, of which it says that it is not encrypted.
    let tape = Tape::start(&stage);
    tab.press("document.querySelector('#ways summary')");
    tab.press("document.querySelector('#natives a')");
    browser.wait_for_downloads(2);
    let mut open_ones = found(&tape.end(), &texts);
    open_ones.sort_unstable();
    let mut wanted = texts[..4].to_vec();
    wanted.sort_unstable();
    assert_eq!(open_ones, wanted, "all but the key, which goes nowhere");
    host.kill();

    let into = stage.ground.dir("into");
    let host = stage.listen(&["--yes", "--keep", "--into", into.to_str().unwrap()]);
    let tape = Tape::start(&stage);
    let tab = open(&browser, &host.link);
    tab.pick("#files-in", &[&file]);
    giving::wait_until_verified(&tab);
    let tape = tape.end();
    assert!(tape.len() > content.len(), "the tape has all of it");
    assert_eq!(found(&tape, &texts), Vec::<String>::new(), "these are on the wire of a page that sends");
}
