//! What somebody sees who records every packet of a transfer: lengths and times, and nothing that it is about.

#![allow(clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;

use process::Playground;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Passes connections on to `target`, and keeps every byte of both directions.
fn recorder(target: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let tape = Arc::<Mutex<Vec<u8>>>::default();
    let kept = Arc::clone(&tape);
    thread::spawn(move || {
        for inbound in listener.incoming() {
            let (inbound, outbound) = (inbound.unwrap(), TcpStream::connect(target).unwrap());
            for (from, to) in [(&inbound, &outbound), (&outbound, &inbound)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let tape = Arc::clone(&kept);
                thread::spawn(move || {
                    let mut bytes = [0; 1 << 12];
                    while let Ok(count @ 1..) = from.read(&mut bytes) {
                        tape.lock().unwrap().extend_from_slice(&bytes[..count]);
                        if to.write_all(&bytes[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    (address, tape)
}

#[test]
fn a_recorded_transfer_names_no_file_path_machine_user_or_secret() {
    let playground = Playground::new();
    let source = playground.dir("confidential folder");
    let content = b"what the file says, again and again; ".repeat(2000);
    fs::write(source.join("annual report.txt"), &content).unwrap();
    for by_code in [false, true] {
        let sending = playground.send(&[&source], &[]);
        let link = sending.link.clone();
        let (address, tape) = recorder(sending.at().parse().unwrap());
        let into = playground.dir(&format!("into {by_code}"));
        let receiving = if by_code {
            playground.receive_code(sending.code(), &address.to_string(), &into, &["--compress=off"])
        } else {
            playground.receive(&link.replace(sending.at(), &address.to_string()), &into, &["--compress=off"])
        };
        receiving.wait().assert_ok();
        assert!(fs::read(into.join("confidential folder/annual report.txt")).unwrap() == content);

        let mut hidden: Vec<String> = ["confidential", "annual report", "what the file says"].map(str::to_owned).into();
        hidden.push(source.to_str().unwrap().to_owned());
        hidden.push(fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned());
        hidden.extend(["USER", "LOGNAME", "HOME"].iter().filter_map(|variable| std::env::var(variable).ok()));
        hidden.extend(sending.code().split('-').skip(1).map(str::to_owned));
        hidden.extend(link.rsplit('/').next().unwrap().split('#').map(str::to_owned));
        let tape = tape.lock().unwrap();
        assert!(tape.len() > content.len(), "the tape has all of it");
        // One to four bytes turn up in that much randomness.
        for hidden in hidden.iter().filter(|hidden| hidden.len() > 4) {
            let found = tape.windows(hidden.len()).any(|window| window.eq_ignore_ascii_case(hidden.as_bytes()));
            assert!(!found, "`{hidden}` is on the wire");
        }
        assert_eq!(sending.wait().0, Some(0));
    }
}
