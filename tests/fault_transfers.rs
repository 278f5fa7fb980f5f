//! Cells of the fault matrix that one whole transfer shows: network, killed ends, lost power, changed sources.
//!
//! A test is named `fault_<fault>_<moment>`. The moments: *handshake*, up to the sender's welcome; *manifest*, while the
//! listing travels and while the user is asked; *chunks*, once some chunks are claimed; *verify*, between the last claim
//! and the file's name; *rename*, from the name up to the sync of its folder; *after*, while the sender is told and
//! after that. Sender and receiver are the real sessions, the destination is the real store on a disk in memory, and
//! the network is one that does what the test says, in virtual time. `fault_matrix.rs` knows which test shows which
//! cell, and which cells are yet to be shown.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used)]

#[allow(dead_code, reason = "a seeded run uses the rest")]
mod support {
    pub(crate) mod fault_play;
    pub(crate) mod sim_core;
    #[allow(clippy::verbose_bit_mask)] // Permission bits are written in octal.
    pub(crate) mod sim_disk;
    pub(crate) mod sim_net;
    pub(crate) mod sim_receiver;
    mod sim_receiver_disk;
    mod sim_receiver_lanes;
    pub(crate) mod sim_rng;
    pub(crate) mod sim_older;
    mod sim_push;
    pub(crate) mod sim_sender;
    pub(crate) mod sim_shelf;
    pub(crate) mod sim_source;
    pub(crate) mod sim_store;
    pub(crate) mod sim_watch;
}

use haul::chunk::{ChunkIndex, Geometry, Length};
use haul::digest::chunk_digest;
use haul::limits::{LANE_SILENCE_MAX, PROOF_DEADLINE, STALLED_AFTER};
use haul::session::{End, FileFault, LaneRole, PeerFault};
use haul::store::{Disk, DiskFolder};
use haul::wire::{Change, Encoding, Frame, Message, Piece};
use std::time::Duration;
use support::fault_play::{At, CHUNK, CHUNKS, Play, content};
use support::sim_disk::SimDisk;
use support::sim_net::SimNet;
use support::sim_rng::Rng;

/// Images of a disk that lost power, for each moment of it.
const IMAGES: u64 = 4;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

// TCP reset.

#[test]
fn fault_tcp_reset_handshake() {
    // Tries are counted for short codes alone, which there are not yet; a link's proof costs nothing.
    let mut play = Play::new();
    play.until(At::Handshake);
    play.reset();
    play.finish();
    assert_eq!((play.receiver_runs, play.asked()), (1, CHUNKS));
}

#[test]
fn fault_tcp_reset_manifest() {
    for moment in [At::Listing, At::Deciding] {
        let mut play = Play::new();
        play.until(moment);
        play.reset();
        play.until(At::Deciding);
        assert_eq!(play.disk().paths(), [] as [&str; 0], "{moment:?}: the disk is as it was");
        play.finish();
        assert_eq!((play.receiver_runs, play.asked()), (1, CHUNKS), "{moment:?}");
    }
}

#[test]
fn fault_tcp_reset_chunks() {
    for stored in 1..CHUNKS {
        let mut play = Play::new();
        play.until(At::Chunks(stored));
        play.reset();
        play.finish();
        play.assert_none_lost();
        assert_eq!(play.receiver_runs, 1);
    }
}

#[test]
fn fault_tcp_reset_verify() {
    loses_the_network_when_all_is_fetched(At::Verify);
}

#[test]
fn fault_tcp_reset_rename() {
    loses_the_network_when_all_is_fetched(At::Rename);
}

/// What is left is local: the file appears while no connection is there.
fn loses_the_network_when_all_is_fetched(moment: At) {
    let mut play = Play::new();
    play.until(moment);
    play.reset();
    play.net.part(play.core.now() + seconds(5));
    let is_back = play.core.now() + seconds(5);
    play.go_on_until("the file", Play::has_arrived);
    assert!(play.core.now() < is_back, "nobody is needed to publish it");
    play.finish();
    assert_eq!((play.receiver_runs, play.asked()), (1, CHUNKS));
}

#[test]
fn fault_tcp_reset_after() {
    // The receiver's last word is lost.
    let mut told = Play::new();
    told.until(At::Told);
    told.reset();
    assert_eq!(told.sender.as_ref().unwrap().ends(), [None], "the sender cannot know");
    told.finish();
    // The sender's answer to it is lost: the sender knows, the receiver asks once more.
    let mut heard = Play::new();
    heard.go_on_until("the sender's end", |play| {
        play.sender.as_ref().unwrap().ends() != [None] && play.receiver.has_told_done
    });
    assert_eq!(heard.receiver.end, None);
    heard.reset();
    heard.finish();
    let mut over = Play::new();
    over.until(At::After);
    over.reset();
    over.finish();
    for play in [told, heard, over] {
        assert_eq!((play.receiver_runs, play.asked()), (1, CHUNKS));
    }
}

// Nothing gets through.

#[test]
fn fault_blackhole_manifest() {
    for (moment, length) in [(At::Listing, 10), (At::Listing, 60), (At::Deciding, 10), (At::Deciding, 60)] {
        let mut play = Play::new();
        play.until(moment);
        play.blackhole(seconds(length));
        play.finish();
        assert_eq!((play.receiver_runs, play.asked()), (1, CHUNKS), "{moment:?}, {length} s");
    }
}

#[test]
fn fault_blackhole_chunks() {
    for length in [10, 60] {
        let mut play = Play::new();
        play.until(At::Chunks(2));
        let (began, lost) = (play.core.now(), play.core.counts.of("lane closes"));
        play.blackhole(seconds(length));
        play.go_on_until("a lane's end", |play| play.core.counts.of("lane closes") > lost);
        let noticed = play.core.now().saturating_sub(began);
        // The last frame before may have come a little earlier.
        assert!(noticed <= LANE_SILENCE_MAX + seconds(1), "noticed after {noticed:?}");
        // A lane next to one that has nothing to do is given up earlier than one that all others wait for.
        assert!(noticed + seconds(1) >= STALLED_AFTER, "given up after {noticed:?}");
        play.finish();
        play.assert_none_lost();
        assert_eq!(play.receiver_runs, 1);
    }
}

// Loss that TCP makes good: nothing is missing or out of order, it comes late.

#[test]
fn fault_lossy_network_handshake() {
    is_lossy(At::Handshake, At::Listing);
}

#[test]
fn fault_lossy_network_manifest() {
    is_lossy(At::Listing, At::Chunks(1));
}

#[test]
fn fault_lossy_network_chunks() {
    is_lossy(At::Chunks(1), At::After);
}

/// From one moment to another, a share of all stretches of a tenth of a second is lost, in bursts that TCP gets over
/// in two seconds at most.
fn is_lossy(from: At, until: At) {
    let mut undisturbed = Play::new();
    undisturbed.finish();
    for per_cent in [1, 10, 40] {
        let mut play = Play::new();
        play.until(from);
        let mut luck = Rng::new(per_cent);
        let mut next = play.core.now();
        let mut bursts = 0;
        while !play.has_reached(until) {
            if play.core.now() >= next {
                next = play.core.now() + Duration::from_millis(100);
                // The first stretch is lost for sure: a short moment would else see none.
                if bursts == 0 || luck.chance(per_cent * 10) {
                    bursts += 1;
                    let over = play.core.now() + luck.millis(200, 2000);
                    play.net.open_conns().into_iter().for_each(|conn| play.stall(conn, over));
                    next = over + Duration::from_millis(100);
                }
            }
            assert!(play.step());
        }
        let lost = play.core.counts.of("lane closes");
        assert!(lost == 0 || until == At::After, "{per_cent} %: no connection is given up");
        play.finish();
        let conns = undisturbed.net.conns_made();
        assert_eq!((play.receiver_runs, play.asked(), play.net.conns_made()), (1, CHUNKS, conns), "{per_cent} %");
        assert!(per_cent < 40 || play.core.now() > undisturbed.core.now(), "it takes longer, and no more than that");
    }
}

// Another address: what was open is dead, and only the receiver's own system knows.

#[test]
fn fault_address_change_handshake() {
    let mut play = Play::new();
    play.until(At::Handshake);
    changes_address(&mut play);
    play.finish();
    assert_eq!((play.receiver_runs, play.asked()), (1, CHUNKS));
}

#[test]
fn fault_address_change_manifest() {
    for moment in [At::Listing, At::Deciding] {
        let mut play = Play::new();
        play.until(moment);
        changes_address(&mut play);
        play.finish();
        assert_eq!((play.receiver_runs, play.asked()), (1, CHUNKS), "{moment:?}");
        assert_eq!(play.sender.as_ref().unwrap().ends().len(), 1, "{moment:?}: it is the same session");
    }
}

#[test]
fn fault_address_change_chunks() {
    let mut play = Play::new();
    play.until(At::Chunks(2));
    let grant = play.receiver.grant;
    changes_address(&mut play);
    play.finish();
    play.assert_none_lost();
    assert_eq!(play.receiver_runs, 1);
    assert_eq!(play.receiver.grant, grant, "it is the same session");
    assert_eq!(play.sender.as_ref().unwrap().ends(), [Some((End::Complete, 0))], "and the sender's only one");
}

fn changes_address(play: &mut Play) {
    play.cut([Some(Duration::from_millis(100)), None]);
    play.net.part(play.core.now() + seconds(2));
}

// A slow other end.

#[test]
fn fault_slow_peer_manifest() {
    // There is no deadline for the whole of a listing: what counts is that something comes every eight seconds. At 1 KB/s
    // a listing of this size is far below a minute.
    let names: Vec<String> = (0..60).map(|number| format!("{number:040}")).collect();
    let items = names.iter().map(|name| (name.as_str(), Some(vec![1; 10]))).collect();
    let mut play = Play::of(items, SimNet::of(1000, 20));
    play.until(At::Deciding);
    assert!(play.core.now() < seconds(60), "{:?}", play.core.now());
    assert!(play.core.now() > seconds(3), "it was slow: {:?}", play.core.now());
    assert_eq!((play.core.counts.of("lane closes"), play.net.conns_made() > 1), (0, true));
}

#[test]
fn fault_slow_peer_chunks() {
    // The least rate is that of the first piece, 64 KiB, within the eight seconds of silence that a lane may have.
    let mut play = Play::of(vec![("f", Some(content()))], SimNet::of(12 << 10, 20));
    play.until(At::Chunks(CHUNKS - 1));
    assert!(play.core.now() > seconds(60), "it was slow: {:?}", play.core.now());
    assert_eq!(play.core.counts.of("lane closes"), 0, "no lane is given up");
    play.finish();
    assert_eq!((play.receiver_runs, play.asked()), (1, CHUNKS));
}

// Flipped bits that reach the session: TLS lets none through, a broken machine might.

#[test]
fn fault_bit_flip_chunks() {
    let mut play = Play::new();
    play.until(At::Chunks(2));
    play.core.faults.damaged_piece = 1000;
    play.core.faults.is_on = true;
    play.go_on_until("a flipped bit", |play| play.core.counts.of("damaged piece") > 0);
    play.core.faults.is_on = false;
    play.finish();
    play.assert_none_lost();
    assert_eq!((play.receiver_runs, play.core.counts.of("damaged piece")), (1, 1));
    assert_eq!(play.core.counts.of("discard"), 1, "the damaged chunk is not kept");
    assert!(play.asked() > CHUNKS, "it is fetched again");
}

// Killed ends.

#[test]
fn fault_kill_receiver_handshake() {
    leaves_nothing(At::Handshake, Play::kill_receiver);
}

#[test]
fn fault_kill_receiver_manifest() {
    leaves_nothing(At::Listing, Play::kill_receiver);
    leaves_nothing(At::Deciding, Play::kill_receiver);
    // Before the user is asked, the store tries out which names the disk takes for one: what that leaves is no more than
    // an empty folder of its own, which the next run removes.
    let disk = SimDisk::new();
    let store = haul::store::Store::open(disk.clone()).unwrap();
    store.folding().unwrap();
    let left = disk.after_kill();
    assert_eq!(left.paths(), [".haul/", ".haul/lock"]);
    haul::store::Store::open(left.clone()).unwrap().folding().unwrap();
    assert_eq!(left.paths(), [] as [&str; 0]);
}

/// Nothing is on the disk when the fault comes, and the next run is like a first one.
fn leaves_nothing(moment: At, fault: impl Fn(&mut Play)) {
    let mut play = Play::new();
    play.until(moment);
    fault(&mut play);
    assert_eq!(play.disk().paths(), [] as [&str; 0], "{moment:?}");
    play.finish();
    assert_eq!((play.receiver_runs, play.asked()), (2, CHUNKS), "{moment:?}");
}

#[test]
fn fault_kill_receiver_chunks() {
    for stored in 1..CHUNKS {
        let mut play = Play::new();
        play.until(At::Chunks(stored));
        let claimed = play.receiver.watch.stored_chunks().len();
        play.kill_receiver();
        play.finish();
        play.assert_none_lost();
        assert_eq!(play.receiver.watch.asked_chunks().len(), CHUNKS - claimed, "the claims stand as they are");
        assert_eq!(play.receiver_runs, 2);
    }
}

#[test]
fn fault_kill_receiver_verify() {
    let killed = stopped_while_publishing(false, |play| {
        play.kill_receiver();
        play.finish();
        assert_eq!(play.receiver.watch.asked_chunks().len(), 0, "the partial file is kept");
    });
    assert!(killed > 2, "{killed} calls come before the name");
}

#[test]
fn fault_kill_receiver_rename() {
    let killed = stopped_while_publishing(true, |play| {
        play.kill_receiver();
        assert!(play.has_arrived(), "the new file is whole");
        play.finish();
        assert_eq!(play.receiver.watch.asked_chunks().len(), 0, "it is found to be there");
    });
    assert!(killed > 0, "the folder's sync comes after the name");
}

/// Stops the disk at every call of a publication in turn, on which the process or the machine goes. What has happened to
/// the name by then decides whether that is before the rename or after it. Returns how many calls were.
fn stopped_while_publishing(is_renamed: bool, then: impl Fn(&mut Play)) -> u64 {
    let mut met = 0;
    for has_old in [false, true] {
        for at in 0.. {
            let mut play = if has_old { Play::new().with_old_file() } else { Play::new() };
            play.until(At::Verify);
            play.disk().stop(at);
            play.go_on_until("the call", |play| play.disk().hits() > 0 || play.has_arrived());
            if play.disk().hits() == 0 {
                break;
            }
            let found = play.disk().read("f");
            let expected = has_old.then(|| b"old".to_vec());
            assert!(play.has_arrived() || found == expected, "call {at}: old or new, and never mixed");
            if play.has_arrived() == is_renamed {
                met += 1;
                then(&mut play);
                assert_eq!(play.receiver_runs, 2, "call {at}");
            }
        }
    }
    met
}

#[test]
fn fault_kill_receiver_after() {
    let mut play = Play::new();
    play.until(At::After);
    play.kill_receiver();
    assert!(play.has_arrived());
    play.finish();
    assert_eq!(play.asked(), CHUNKS);
}

#[test]
fn fault_kill_sender_handshake() {
    sender_is_away(At::Handshake, 20);
}

#[test]
fn fault_kill_sender_manifest() {
    sender_is_away(At::Listing, 20);
    sender_is_away(At::Deciding, 20);
}

#[test]
fn fault_kill_sender_chunks() {
    for stored in 1..CHUNKS {
        sender_is_away(At::Chunks(stored), 20);
    }
}

/// The sender is killed and started again after a while; the receiver goes on by itself.
fn sender_is_away(moment: At, length: u64) {
    let mut play = Play::new();
    play.until(moment);
    let before = play.disk().paths();
    play.kill_sender();
    let back = play.core.now() + seconds(length);
    play.core.agenda.at(back, support::sim_core::Event::StartSender);
    while play.sender.is_none() {
        assert!(play.step(), "the receiver tries on");
    }
    if !matches!(moment, At::Chunks(_)) {
        assert!(!play.disk().paths().iter().any(|path| path.ends_with(".part")), "{moment:?}: {before:?}");
    }
    play.finish();
    play.assert_none_lost();
    assert_eq!(play.receiver_runs, 1, "{moment:?}");
}

#[test]
fn fault_kill_sender_verify() {
    finishes_alone(At::Verify);
}

#[test]
fn fault_kill_sender_rename() {
    finishes_alone(At::Rename);
}

fn finishes_alone(moment: At) {
    let mut play = Play::new();
    play.until(moment);
    play.kill_sender();
    play.go_on_until("the file", Play::has_arrived);
    play.go_on_until("its folders", |play| play.receiver.session.has_everything());
    assert!(play.sender.is_none(), "all of it is done while there is no sender");
    play.start_sender();
    play.finish();
    assert_eq!((play.receiver_runs, play.asked()), (1, CHUNKS));
}

#[test]
fn fault_kill_sender_after() {
    let mut play = Play::new();
    play.until(At::After);
    play.kill_sender();
    assert_eq!(play.receiver.end, Some(End::Complete));
    assert!(play.has_arrived());
    // Another run, with a sender that knows of nothing, finds it done.
    play.start_sender();
    play.again();
    play.finish();
    assert_eq!(play.asked(), CHUNKS);
}

// Lost power.

#[test]
fn fault_power_loss_receiver_handshake() {
    for seed in 0..IMAGES {
        leaves_nothing(At::Handshake, |play| play.power_loss(seed));
    }
}

#[test]
fn fault_power_loss_receiver_manifest() {
    for seed in 0..IMAGES {
        leaves_nothing(At::Listing, |play| play.power_loss(seed));
        leaves_nothing(At::Deciding, |play| play.power_loss(seed));
    }
}

#[test]
fn fault_power_loss_receiver_chunks() {
    for stored in 1..CHUNKS {
        for seed in 0..IMAGES {
            let mut play = Play::new();
            play.until(At::Chunks(stored));
            play.power_loss(stored * 100 + seed);
            fetches_only_what_is_bad(&mut play);
        }
    }
    // Chunks that the system wrote to the device in time are hashed there and kept, unless the sector of the table that
    // holds their rows was being written again.
    let mut kept_all = 0;
    for seed in 0..IMAGES {
        let mut play = Play::new();
        play.until(At::Chunks(3));
        let written = play.receiver.watch.stored_chunks().len();
        assert!(play.disk().destination().sync_file_system().unwrap());
        play.until(At::Chunks(written + 1));
        play.power_loss(seed);
        kept_all += u64::from(fetches_only_what_is_bad(&mut play) >= written);
    }
    assert!(kept_all > 0);
}

/// Goes on after a power loss. Chunks that are asked for have bytes or a row in the table that are not right. Returns
/// how many were found right.
fn fetches_only_what_is_bad(play: &mut Play) -> u64 {
    let image = play.disk().part().and_then(|part| play.disk().read(&part)).unwrap_or_default();
    let good_before = play.core.counts.of("claims found good");
    let (all, arrived) = (content(), play.has_arrived());
    play.finish();
    assert_eq!(play.receiver_runs, 2);
    let asked = play.receiver.watch.asked_chunks();
    assert!(!arrived || asked.is_empty(), "a file that is there is not fetched");
    let geometry = Geometry::of(Length(all.len() as u64)).unwrap();
    let table = all.len().next_multiple_of(4096);
    for number in asked.ranges().flatten() {
        let at = number as usize * CHUNK;
        let end = all.len().min(at + CHUNK);
        let digest = chunk_digest(geometry, ChunkIndex(number as u32), &all[at..end]).0;
        let row = image.get(table + number as usize * 32..).and_then(|rows| rows.get(..32));
        let is_right = image.get(at..end) == Some(&all[at..end]) && row == Some(&digest[..]);
        assert!(!is_right, "chunk {number} is claimed rightly and fetched again");
    }
    let good = play.core.counts.of("claims found good") - good_before;
    assert!(arrived || good + asked.len() == CHUNKS, "what is hashed and holds is not fetched");
    good
}

#[test]
fn fault_power_loss_receiver_verify() {
    for seed in 0..IMAGES {
        let cut = stopped_while_publishing(false, |play| {
            play.power_loss(seed);
            fetches_only_what_is_bad(play);
        });
        assert!(cut > 2, "{cut} calls come before the name");
    }
}

#[test]
fn fault_power_loss_receiver_rename() {
    for seed in 0..IMAGES {
        let cut = stopped_while_publishing(true, |play| {
            play.power_loss(seed);
            let found = play.disk().read("f");
            assert!(play.has_arrived() || found.is_none_or(|bytes| bytes == b"old"), "old or new, and never mixed");
            // Its bytes were synced before it got its name, under either name that the power cut left it.
            let is_there = play.has_arrived() || play.disk().part().is_some();
            fetches_only_what_is_bad(play);
            assert!(!is_there || play.receiver.watch.asked_chunks().is_empty());
        });
        assert!(cut > 0);
    }
}

#[test]
fn fault_power_loss_receiver_after() {
    let mut play = Play::new();
    play.until(At::After);
    for seed in 0..64 {
        assert_eq!(play.disk().crash(seed).read("f").unwrap(), content(), "image from seed {seed}");
    }
    play.power_loss(1);
    play.finish();
    assert_eq!(play.asked(), CHUNKS);
}

#[test]
fn fault_power_loss_sender_chunks() {
    // A sender keeps nothing that a transfer needs; its machine is away for longer than its process would be.
    sender_is_away(At::Chunks(2), 120);
}

// Changed sources.

/// `f` between two files that stay as they are.
fn tree() -> Play {
    let others = vec![7; CHUNK + 5];
    Play::of(vec![("e", Some(vec![1; 500])), ("f", Some(content())), ("g", Some(others))], SimNet::of(1 << 20, 20))
}

/// The source changes: `f` fails alone, the others arrive, and `now` arrives once it is offered.
fn fails_alone(moment: At, change: impl Fn(&mut Play), now: Option<&[u8]>) -> Play {
    let mut play = tree();
    play.until(moment);
    change(&mut play);
    let faults = play.end_with_failures();
    assert!(matches!(faults[..], [FileFault::SourceChanged(_)]), "{faults:?}");
    assert_eq!(play.disk().read("f"), None, "nothing half new appears");
    assert!(play.disk().read("e").is_some() && play.disk().read("g").is_some(), "the others arrive");
    play.restart_sender();
    play.again();
    assert_eq!(play.end_with_failures(), []);
    assert_eq!(play.disk().read("f").as_deref(), now);
    play
}

fn truncated() -> Vec<u8> {
    content()[..2 * CHUNK + 9].to_vec()
}

fn modified() -> Vec<u8> {
    let mut bytes = content();
    bytes[100] ^= 1;
    bytes
}

#[test]
fn fault_source_truncated_manifest() {
    fails_alone(At::Deciding, |play| play.source.rewrite("f", truncated()), Some(&truncated()));
}

#[test]
fn fault_source_truncated_chunks() {
    fails_alone(At::Chunks(3), |play| play.source.rewrite("f", truncated()), Some(&truncated()));
}

#[test]
fn fault_source_modified_manifest() {
    fails_alone(At::Deciding, |play| play.source.rewrite("f", modified()), Some(&modified()));
}

#[test]
fn fault_source_modified_chunks() {
    let play = fails_alone(At::Chunks(3), |play| play.source.rewrite("f", modified()), Some(&modified()));
    // `e` is chunk 0, so `f` starts with chunk 1, which is the one that differs.
    assert!(play.receiver.watch.asked_chunks().contains(1));
    assert_eq!(play.receiver.watch.asked_again(), 1, "chunks whose hash is the same are kept");
}

#[test]
fn fault_source_deleted_manifest() {
    fails_alone(At::Deciding, |play| play.source.lose("f", Change::Gone), None);
}

// An evil sender.

#[test]
fn fault_evil_peer_chunks() {
    let piece = |chunk, length| Piece { chunk, offset: 0, length };
    let frame = |piece: Piece| {
        let payload = vec![6; piece.length as usize];
        Frame::Piece { piece, encoding: Encoding::Raw, payload: &payload }.encode().unwrap()
    };
    let attacks = [
        (LaneRole::Data, frame(piece(1 << 40, 1000)), PeerFault::Piece),
        (LaneRole::Control, frame(piece(0, 1000)), PeerFault::Piece),
        (LaneRole::Data, Message::DoneAck.to_frame().unwrap(), PeerFault::OutOfTurn("a message on a data lane")),
    ];
    for (role, frame, fault) in attacks {
        let mut play = Play::new();
        play.until(At::Chunks(2));
        play.inject(role, frame);
        assert_eq!(play.end_of_run(), End::PeerFault(fault));
        play.assert_nothing_else(&[".haul/"]);
        play.again();
        play.finish();
        play.assert_none_lost();
    }
}

#[test]
fn the_handshake_and_a_silent_lane_have_the_deadlines_of_the_matrix() {
    assert_eq!((PROOF_DEADLINE, LANE_SILENCE_MAX), (seconds(10), seconds(8)));
}
