//! Links and extended attributes in the store: on a simulated disk with every call failed and every point crashed at, and
//! on a real one.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)] // Test code, on 64-bit machines.

#[path = "support/sim_disk.rs"]
mod sim_disk;
#[path = "support/store_kit.rs"]
mod store_kit;

use haul::manifest::{Attribute, Attributes, LinkTarget, Mode};
use haul::store::{Link, LinkWish, Linked, LinkedHow, OnConflict, Publication, RealDisk, Store, StoreError};
use sim_disk::{Failure, Seeded, SimDisk};
use std::collections::BTreeMap;
use store_kit::{Offer, path, when, wish};

const OLD: &[u8] = b"the file that was there before";
/// What each link of [`links`] is, where it was made.
const TARGETS: [(&str, &str); 2] = [("d/s", "../d/one"), ("old", "d/one")];

/// Files that links are made to.
fn offer() -> Offer {
    let mut random = Seeded(11);
    Offer::of(&[("d", None), ("d/one", Some(random.bytes(700))), ("d/zero", Some(Vec::new()))])
}

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.put("old", OLD);
    disk
}

/// Two hard links, one of them to an empty file, and two symbolic ones, one of which takes the place of a file.
fn links(offer: &Offer) -> Vec<LinkWish> {
    let hard = |at: &str, first: &str, entry: u32| LinkWish {
        publication: wish(at, OnConflict::Overwrite),
        link: Link::Hard { first: path(first), root: offer.root(entry), geometry: offer.geometry(entry) },
    };
    let symbolic = |&(at, target): &(&str, &str)| LinkWish {
        publication: wish(at, OnConflict::Overwrite),
        link: Link::Symbolic(LinkTarget::parse(target).unwrap()),
    };
    let mut links = vec![hard("d/x", "d/one", 1), hard("top", "d/zero", 2)];
    links.extend(TARGETS.iter().map(symbolic));
    links
}

fn run(disk: &SimDisk, offer: &Offer) -> Result<Vec<Linked>, StoreError> {
    let store = Store::open(disk.clone())?;
    offer.receive(&store, OnConflict::Overwrite)?;
    let made = store.publish_links(&links(offer)).into_iter().collect::<Result<Vec<_>, _>>()?;
    for (_, finished) in store.finish_folders(vec![(path("d"), Mode::masked(0o750), when())]) {
        finished?;
    }
    Ok(made)
}

/// I1, I2 and I5 for links: each is there as it is to be, or what was there before is.
fn assert_nothing_torn(disk: &SimDisk, offer: &Offer, context: &str) {
    for (name, entry) in [("d/one", 1), ("d/x", 1), ("d/zero", 2), ("top", 2)] {
        if let Some(found) = disk.read(name) {
            assert!(found == offer.bytes(entry), "{context}: `{name}` is torn");
        }
    }
    for (name, target) in TARGETS {
        let is_old = name == "old" && disk.read(name).as_deref() == Some(OLD);
        let found = disk.target(name);
        assert!(is_old || found.is_none() || found.as_deref() == Some(target), "{context}: `{name}` is {found:?}");
    }
    let known = ["d/", "d/one", "d/x", "d/zero", "d/s", "top", "old"];
    for found in disk.paths() {
        let is_known = known.contains(&found.as_str()) || found.starts_with(".haul/");
        assert!(is_known, "{context}: `{found}` was left behind");
    }
    assert!(disk.target("old").is_some() || disk.read("old").is_some(), "{context}: the old file is gone");
}

fn assert_complete(disk: &SimDisk, offer: &Offer, context: &str) {
    for (name, first, entry) in [("d/x", "d/one", 1), ("top", "d/zero", 2)] {
        assert_eq!(disk.read(name).as_deref(), Some(offer.bytes(entry)), "{context}: `{name}`");
        assert_eq!(disk.inode(name), disk.inode(first), "{context}: `{name}` is another file");
    }
    for (name, target) in TARGETS {
        assert_eq!(disk.target(name).as_deref(), Some(target), "{context}");
    }
}

fn assert_finishes(disk: &SimDisk, offer: &Offer, context: &str) {
    run(disk, offer).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_complete(disk, offer, context);
    let left: Vec<_> = disk.paths().into_iter().filter(|found| found.starts_with(".haul")).collect();
    assert!(left.is_empty(), "{context}: {left:?} left");
}

fn calls_of_a_run(offer: &Offer) -> u64 {
    let disk = disk();
    disk.fail(u64::MAX, Failure::Eio, false);
    run(&disk, offer).unwrap();
    let calls = disk.calls();
    assert_complete(&disk, offer, "no fault");
    assert!((50..1000).contains(&calls), "{calls} calls");
    calls
}

#[test]
fn any_failed_call_is_an_error_or_has_no_effect_and_the_next_run_makes_the_links() {
    let offer = offer();
    for failure in [Failure::Eio, Failure::Enospc] {
        for lasts in [false, true] {
            for at in 0..calls_of_a_run(&offer) {
                let context = format!("{failure:?} at call {at}, lasting: {lasts}");
                let disk = disk();
                disk.fail(at, failure, lasts);
                let result = run(&disk, &offer);
                disk.heal();
                if result.is_ok() {
                    assert_complete(&disk, &offer, &context);
                }
                assert_nothing_torn(&disk, &offer, &context);
                assert_finishes(&disk, &offer, &context);
            }
        }
    }
}

#[test]
fn power_cut_at_any_call_leaves_links_whole_or_not_made_and_the_next_run_makes_them() {
    let offer = offer();
    for fresh in [1, u64::from(std::process::id()) << 32] {
        for at in 0..=calls_of_a_run(&offer) {
            let disk = disk();
            disk.stop(at);
            let first = run(&disk, &offer);
            for round in 0..4 {
                let seed = fresh ^ (at * 64 + round);
                let context = format!("power cut at call {at}, image from seed {seed}");
                let image = disk.crash(seed);
                assert_nothing_torn(&image, &offer, &context);
                if first.is_ok() {
                    assert_complete(&image, &offer, &context);
                }
                assert_finishes(&image, &offer, &context);
            }
        }
    }
}

#[test]
fn where_files_have_one_name_a_hard_link_is_a_synced_copy_with_all_that_belongs_to_the_file() {
    let offer = offer();
    let disk = SimDisk::new().without_links();
    let store = Store::open(disk.clone()).unwrap();
    offer.receive(&store, OnConflict::Fail).unwrap();
    let attribute = Attribute { name: "user.a".into(), value: b"1".as_slice().into() };
    let attributes = Attributes::of(vec![attribute]).unwrap();
    let mut wishes = links(&offer);
    wishes[0].publication = Publication { mode: Mode::masked(0o440), attributes, ..wish("d/x", OnConflict::Fail) };
    let made = store.publish_links(&wishes);
    assert_eq!(made[0].as_ref().unwrap().how, LinkedHow::Copied);
    assert_eq!(made[2].as_ref().unwrap().how, LinkedHow::Made);
    for seed in 0..32 {
        let image = disk.crash(seed);
        assert_eq!(image.read("d/x").unwrap(), offer.bytes(1), "image from seed {seed}");
        assert_eq!(image.meta("d/x"), Some((0o440, Some(when()))));
        assert_eq!(image.attributes("d/x"), BTreeMap::from([("user.a".to_owned(), b"1".to_vec())]));
        assert_ne!(image.inode("d/x"), image.inode("d/one"));
    }
    // Again: a file of that content is left as it is.
    assert_eq!(store.publish_links(&wishes)[0].as_ref().unwrap().how, LinkedHow::Identical);
}

#[test]
fn a_file_that_was_changed_since_is_not_linked_and_not_copied() {
    for disk in [SimDisk::new(), SimDisk::new().without_links()] {
        let offer = offer();
        let store = Store::open(disk.clone()).unwrap();
        offer.receive(&store, OnConflict::Fail).unwrap();
        let mut wishes = links(&offer);
        wishes[0].link = Link::Hard { first: path("other"), root: offer.root(1), geometry: offer.geometry(1) };
        disk.put("other", b"another length");
        let refused = store.publish_links(&wishes[..1]).remove(0);
        assert!(matches!(refused, Err(StoreError::Tampered { .. })), "{refused:?}");
        assert_eq!(disk.read("d/x"), None);
        drop(store);
        assert!(disk.paths().iter().all(|found| !found.starts_with(".haul")), "{:?}", disk.paths());
    }
    // A copy is hashed, since it was read.
    let offer = offer();
    let disk = SimDisk::new().without_links();
    let store = Store::open(disk.clone()).unwrap();
    disk.put("other", &vec![7; offer.bytes(1).len()]);
    let link = Link::Hard { first: path("other"), root: offer.root(1), geometry: offer.geometry(1) };
    let refused = store.publish_links(&[LinkWish { publication: wish("x", OnConflict::Fail), link }]).remove(0);
    assert!(matches!(refused, Err(StoreError::Tampered { .. })), "{refused:?}");
    assert_eq!(disk.read("x"), None);
}

#[test]
fn names_that_are_taken_are_treated_by_the_rule_that_was_chosen() {
    let offer = offer();
    for kind in ["hard", "symbolic"] {
        let link = if kind == "hard" { links(&offer).remove(0) } else { links(&offer).remove(2) };
        let make = |disk: &SimDisk, at: &str, conflict| {
            let store = Store::open(disk.clone()).unwrap();
            offer.receive(&store, OnConflict::Overwrite).unwrap();
            let publication = wish(at, conflict);
            store.publish_links(&[LinkWish { publication, link: link.link.clone() }]).remove(0)
        };
        let failed = make(&disk(), "old", OnConflict::Fail);
        assert!(matches!(failed, Err(StoreError::Exists { .. })), "{kind}: {failed:?}");
        let disk_of_both = disk();
        let renamed = make(&disk_of_both, "old", OnConflict::Rename).unwrap();
        assert_eq!(renamed.path, path("old (1)"), "{kind}");
        assert_eq!(disk_of_both.read("old").as_deref(), Some(OLD), "{kind}");
        let replaced = disk();
        assert_eq!(make(&replaced, "old", OnConflict::Overwrite).unwrap().how, LinkedHow::Made, "{kind}");
        assert_ne!(replaced.read("old").as_deref(), Some(OLD), "{kind}");
        assert_eq!(make(&replaced, "old", OnConflict::Fail).unwrap().how, LinkedHow::Identical, "{kind}");
        let folder = make(&disk(), "d", OnConflict::Overwrite);
        assert!(matches!(folder, Err(StoreError::Exists { .. })), "{kind}: a folder is not replaced: {folder:?}");
    }
}

#[test]
fn attributes_are_durable_with_the_file_and_one_that_cannot_be_held_is_told() {
    let attribute = |name: &str| Attribute { name: name.into(), value: b"value".as_slice().into() };
    let attributes = Attributes::of(vec![attribute("user.a"), attribute("user.b")]).unwrap();
    let offer = Offer::of(&[("big", Some(Seeded(3).bytes(300_000)))]);
    for holds in [true, false] {
        let disk = if holds { SimDisk::new() } else { SimDisk::new().without_attributes() };
        let store = Store::open(disk.clone()).unwrap();
        // A file that nobody may write takes attributes all the same: they come first.
        let wish = |name| Publication {
            mode: Mode::masked(0o444),
            attributes: attributes.clone(),
            ..wish(name, OnConflict::Fail)
        };
        let sealed = offer.complete(&store, 0, &mut store_kit::Receipt::default()).unwrap();
        let big = store.publish(sealed, &wish("big")).unwrap();
        let (small, _) = store.write_single(wish("small"), b"").unwrap();
        let small = store.publish_batch(vec![(small, None)]).remove(0).unwrap();
        store.make_folder(&path("d")).unwrap();
        let folder = store.set_folder_attributes(&path("d"), &attributes).unwrap();
        for (_, finished) in store.finish_folders(vec![(path("d"), Mode::masked(0o555), when())]) {
            finished.unwrap();
        }
        for lost in [big.attributes_lost, small.attributes_lost, folder] {
            let names: Vec<&str> = lost.iter().map(|lost| &*lost.name).collect();
            assert_eq!(names, if holds { vec![] } else { vec!["user.a", "user.b"] });
        }
        for name in ["big", "small", "d"] {
            let found = disk.crash(5).attributes(name);
            assert_eq!(found.len(), if holds { 2 } else { 0 }, "{name}");
            assert_eq!(found.get("user.a").map(Vec::as_slice), holds.then_some(&b"value"[..]), "{name}");
        }
    }
}

#[cfg(unix)]
#[test]
fn on_a_real_disk_links_have_their_inode_their_text_and_their_time() {
    use std::os::unix::fs::{MetadataExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    symlink("elsewhere", at("old")).unwrap();
    let offer = offer();
    let store = Store::open(RealDisk::open(folder.path()).unwrap()).unwrap();
    offer.receive(&store, OnConflict::Fail).unwrap();
    for made in store.publish_links(&links(&offer)) {
        assert_eq!(made.unwrap().how, LinkedHow::Made);
    }
    for (name, first) in [("d/x", "d/one"), ("top", "d/zero")] {
        let (one, other) = (std::fs::metadata(at(name)).unwrap(), std::fs::metadata(at(first)).unwrap());
        assert_eq!((one.ino(), one.nlink()), (other.ino(), 2));
    }
    for (name, target) in TARGETS {
        assert_eq!(std::fs::read_link(at(name)).unwrap().to_str(), Some(target), "the link itself was replaced");
        let found = std::fs::symlink_metadata(at(name)).unwrap();
        assert_eq!((found.mtime(), found.mtime_nsec()), (when().seconds(), i64::from(when().nanoseconds())));
    }
    for made in store.publish_links(&links(&offer)) {
        assert_eq!(made.unwrap().how, LinkedHow::Identical);
    }
    assert_eq!(store.read_symlink(&path("d/s")).unwrap().as_deref(), Some("../d/one"));
    assert_eq!(store.read_symlink(&path("d/one")).unwrap(), None);
    assert_eq!(store.read_symlink(&path("none/at/all")).unwrap(), None);
    drop(store);
    assert!(!at(".haul").exists());
}

#[test]
fn a_name_too_long_for_the_file_system_is_an_error_of_its_own_at_each_place() {
    const MOST: usize = 60;
    let disk = SimDisk::new().with_names_up_to(MOST);
    let store = Store::open(disk.clone()).unwrap();
    let first = offer();
    first.receive(&store, OnConflict::Fail).unwrap();
    let long = "n".repeat(MOST + 1);
    let big = Offer::one(&long, Seeded(3).bytes(300_000));
    let single = || {
        let (file, _) = store.write_single(wish(&long, OnConflict::Fail), b"").unwrap();
        store.publish_batch(vec![(file, None)]).remove(0).map(drop)
    };
    let partial = |conflict| {
        let sealed = big.complete(&store, 0, &mut store_kit::Receipt::default()).unwrap();
        store.publish(sealed, &wish(&long, conflict)).map(drop)
    };
    let link = |number: usize| {
        let link = links(&first).remove(number).link;
        store.publish_links(&[LinkWish { publication: wish(&long, OnConflict::Overwrite), link }]).remove(0).map(drop)
    };
    let below = path(&format!("{long}/file"));
    let outcomes = [
        ("look", store.look(&path(&long)).map(drop)),
        ("look below", store.look(&below).map(drop)),
        ("folder", store.make_folder(&path(&long))),
        ("single", single()),
        ("partial", partial(OnConflict::Fail)),
        ("partial over another", partial(OnConflict::Overwrite)),
        ("hard link", link(0)),
        ("symbolic link", link(2)),
        ("finish", store.finish_folders(vec![(path(&long), Mode::masked(0o700), when())]).remove(0).1.map(drop)),
    ];
    for (what, outcome) in outcomes {
        assert!(matches!(outcome, Err(StoreError::Name { .. })), "{what}: {outcome:?}");
    }
    let fits = "n".repeat(MOST);
    store.make_folder(&path(&fits)).unwrap();
    drop(store);
    let left = disk.paths().into_iter().filter(|found| found.starts_with(".haul")).collect::<Vec<_>>();
    assert!(left.iter().all(|found| !found.ends_with(".new")), "{left:?}");
}
