//! An evil peer cannot make a session hold much memory, nor do more work than its bytes are worth.
//!
//! Memory is counted for the whole process, so that each promise stands in one test, and the tests take turns.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used)]

#[path = "support/hostile.rs"]
mod hostile;

use haul::chunk::Length;
use haul::digest::ChunkDigest;
use haul::limits::{FILE_BYTES_MAX, MIB};
use haul::manifest::{Attributes, Entry, EntryKind, ListingBuilder, Mode, Timestamp};
use haul::rel_path::RelPath;
use haul::session::{Input, LaneId, LaneRole, Output, Plan};
use haul::wire::Message;
use hostile::{CONTROL, DATA, HandEntry, ReceiverVictim, SenderVictim, chunks_request, hash_page, header, listing};
use hostile::{hashes_request, listing_page, piece, welcome};
use peak_alloc::PeakAlloc;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;
static TURN: Mutex<()> = Mutex::new(());

const SAME: ChunkDigest = ChunkDigest([9; 32]);
/// What a session may hold, from the promise to users.
const SESSION_BYTES_MAX: usize = 64 * MIB as usize;

#[test]
fn a_claim_of_a_terabyte_or_of_petabytes_costs_no_memory() {
    let peak = peak_of(|| {
        let huge = [("a", Some(FILE_BYTES_MAX)), ("b", Some(FILE_BYTES_MAX)), ("c", Some(1 << 40))];
        for plan in [Plan::Fetch, Plan::Compare] {
            let mut victim = ReceiverVictim::deciding(&listing(&huge));
            victim.tell(Input::Accepted(vec![plan; 3]));
            victim.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
            while answer_first_hash_request(&mut victim) {}
            assert_eq!(victim.fault(), None);
        }
    });
    assert!(peak < SESSION_BYTES_MAX, "{peak} bytes");
}

#[test]
fn announced_lengths_cost_no_memory() {
    let peak = peak_of(|| {
        for kind in [1, 2] {
            let mut victim = ReceiverVictim::new();
            victim.feed(CONTROL, &[&header(kind, 0, 0, u32::MAX)[..], &[1, 2, 3]].concat());
            let mut victim = SenderVictim::greeted(listing(&[("a", Some(1))]));
            victim.feed(CONTROL, &[&header(kind, 0, 0, u32::MAX)[..], &[1, 2, 3]].concat());
        }
    });
    assert!(peak <= 64 * 1024, "{peak} bytes");
}

#[test]
fn row_55_a_million_requests_cost_no_memory() {
    let peak = peak_of(|| {
        let mut victim = SenderVictim::greeted(listing(&[("a", Some(1 << 40))]));
        for _ in 0..1_000_000 {
            victim.feed(CONTROL, &hashes_request(0, 1024));
            victim.feed(DATA, &chunks_request(&[(0, 1)], 65536, 0));
        }
    });
    assert!(peak <= 256 * 1024, "{peak} bytes");
}

/// A million names with a common prefix in one folder, and a million equal hashes: every frame leads to one request at
/// most, and the whole is done with as many steps as there are pages and chunks. Work that grew with what is there
/// already would not end in the time that anybody gives a test.
#[test]
fn s18_work_and_memory_follow_the_bytes_that_came() {
    const FILES: u32 = 999_999;
    let peak = peak_of(|| {
        let digest = million_files(FILES).digest();
        let mut victim = ReceiverVictim::new();
        victim.feed(CONTROL, &welcome(digest));
        let mut frames = 0;
        let mut page = vec![HandEntry::folder("d")];
        for number in 0..FILES {
            page.push(HandEntry::file(million_name(number), 1));
            if page.len() == 1500 || number + 1 == FILES {
                let totals = [FILES.into(), 1, FILES.into(), FILES.into()];
                let is_last = number + 1 == FILES;
                victim.feed(CONTROL, &listing_page(frames, &page, is_last.then_some(totals)));
                assert_eq!((victim.fault(), victim.outputs.len() <= 4), (None, true));
                page.clear();
                frames += 1;
                if !is_last {
                    victim.outputs.clear();
                }
            }
        }
        assert_eq!(victim.outputs, [Output::Offered]);
        let plans = vec![Plan::Fetch; FILES as usize + 1];
        victim.tell(Input::Accepted(plans));
        victim.tell(Input::LaneOpened { lane: DATA, role: LaneRole::Data });
        let published = fetch_all(&mut victim, DATA);
        assert_eq!(published, u64::from(FILES));
    });
    // The listing itself takes more than the promise for a session, and it is bounded: 64 MiB of names and a fixed part
    // for each entry, however long the transfer.
    assert!(peak < 3 * SESSION_BYTES_MAX, "{peak} bytes");
}

/// Serves and stores whatever is asked for, with one hash for all, until nothing more is asked. Says how many files
/// were published.
fn fetch_all(victim: &mut ReceiverVictim, data: LaneId) -> u64 {
    let mut published = 0;
    let (mut inputs, mut outputs) = (0u64, 0u64);
    let mut todo: VecDeque<Output> = victim.outputs.drain(..).collect();
    while let Some(output) = todo.pop_front() {
        outputs += 1;
        match output {
            Output::Send { message: Message::HashesRequest { first, count }, .. } => {
                victim.feed(CONTROL, &hash_page(first, &vec![SAME; count.into()]));
                inputs += 1;
            }
            Output::Send { message: Message::ChunksRequest { gaps, .. }, .. } => {
                for chunk in hostile::chunks_of(&gaps) {
                    victim.feed(data, &piece(chunk, 0, 1));
                    victim.tell(Input::ChunkHashed { lane: data, chunk, digest: SAME });
                    victim.tell(Input::ChunkStored { lane: data, chunk });
                    inputs += 3;
                }
            }
            Output::Publish { entry, .. } => {
                published += 1;
                inputs += 1;
                victim.tell(Input::FilePublished { entry });
            }
            _ => {}
        }
        todo.extend(victim.outputs.drain(..));
    }
    assert_eq!(victim.fault(), None);
    assert!(outputs <= 2 * inputs, "{outputs} outputs for {inputs} inputs");
    published
}

fn answer_first_hash_request(victim: &mut ReceiverVictim) -> bool {
    let mut requests = victim.outputs.drain(..).filter_map(|output| match output {
        Output::Send { message: Message::HashesRequest { first, count }, .. } => Some((first, count)),
        _ => None,
    });
    let open: Vec<_> = requests.by_ref().collect();
    drop(requests);
    for &(first, count) in &open {
        victim.feed(CONTROL, &hash_page(first, &vec![SAME; count.into()]));
    }
    !open.is_empty()
}

fn million_files(files: u32) -> haul::manifest::Listing {
    let mut builder = ListingBuilder::new();
    let (mode, modified) = (Mode::masked(0o644), Timestamp::clamped(0, 0));
    builder
        .push(Entry {
            path: RelPath::parse("d").unwrap(),
            kind: EntryKind::Folder,
            mode,
            modified,
            attributes: Attributes::NONE,
        })
        .unwrap();
    for number in 0..files {
        let path = RelPath::parse(&million_name(number)).unwrap();
        builder
            .push(Entry {
                path,
                kind: EntryKind::File { length: Length(1) },
                mode,
                modified,
                attributes: Attributes::NONE,
            })
            .unwrap();
    }
    let totals = builder.totals();
    builder.finish(totals).unwrap()
}

fn million_name(number: u32) -> String {
    format!("d/common-prefix-of-all-{number:07}")
}

/// The most bytes that `act` held at once, alone in the process.
fn peak_of(act: impl FnOnce()) -> usize {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    act();
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    println!("{peak} bytes at most");
    peak
}
