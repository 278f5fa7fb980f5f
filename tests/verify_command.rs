//! `haul verify`: whatever is not as the manifest says is named, with the chunks that differ, and nothing else is.

#![allow(clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;

use process::{Playground, Ran, noise, run};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const CHUNK: u64 = 256 * 1024;
const BIG: u64 = 10 * CHUNK + 100;
const NOBODY_ID: &str = "65534";

/// A folder `here` with a tree, and a manifest of that.
struct Checked {
    playground: Playground,
    here: PathBuf,
    manifest: PathBuf,
}

#[test]
fn an_unchanged_folder_is_as_its_manifest_says() {
    let checked = Checked::new();
    symlink("big", checked.at("link")).unwrap();
    let ran = checked.verify(&[]);
    assert_eq!((ran.code, findings(&ran)), (Some(0), vec![]), "{ran:?}");
    let events = ran.events();
    let done = events.last().unwrap();
    assert_eq!((&done["ok"], &done["exit"], &done["files"]), (&true.into(), &0.into(), &5.into()));
    let phases: Vec<_> = events.iter().filter(|event| event["event"] == "phase").map(|it| &it["phase"]).collect();
    assert_eq!(phases, ["scanning", "verifying"]);
    assert!(!checked.here.join(".haul").exists());
}

#[test]
fn one_flipped_bit_names_its_chunk() {
    let checked = Checked::new();
    for (offset, chunk) in [(0, 0), (CHUNK - 1, 0), (CHUNK, 1), (7 * CHUNK + 5, 7), (BIG - 1, 10)] {
        let bytes = flip(&checked.at("big"), offset);
        let ran = checked.verify(&[]);
        let end = ((chunk + 1) * CHUNK).min(BIG);
        let range = json!({"chunks": [chunk, chunk + 1], "bytes": [chunk * CHUNK, end]});
        let expected = json!({"path": "tree/big", "what": "different", "ranges": [range]});
        assert_eq!((ran.code, findings(&ran)), (Some(40), vec![expected]), "byte {offset}");
        put_back(&checked.at("big"), offset, bytes);
    }
    flip(&checked.at("big"), 2 * CHUNK);
    flip(&checked.at("big"), 3 * CHUNK);
    flip(&checked.at("big"), 6 * CHUNK);
    let found = findings(&checked.verify(&[]));
    let ranges =
        [(2, 4), (6, 7)].map(|(start, end)| json!({"chunks": [start, end], "bytes": [start * CHUNK, end * CHUNK]}));
    assert_eq!(found, [json!({"path": "tree/big", "what": "different", "ranges": ranges})], "those that touch are one");
}

#[test]
fn what_is_cut_off_or_appended_to_differs_only_where_it_does() {
    let checked = Checked::new();
    let whole = fs::read(checked.at("big")).unwrap();
    let change = |bytes: &[u8]| {
        fs::write(checked.at("big"), bytes).unwrap();
        let ran = checked.verify(&[]);
        assert_eq!(ran.code, Some(40));
        findings(&ran)
    };
    let different = |length: u64, ranges: Value| {
        [json!({
            "path": "tree/big", "what": "different", "length": length, "length_expected": BIG, "ranges": ranges,
        })]
    };
    let longer = [&whole[..], b"more"].concat();
    assert_eq!(change(&longer), different(BIG + 4, json!([])));
    let length = 4 * CHUNK + 7;
    let cut = json!([{"chunks": [4, 11], "bytes": [4 * CHUNK, BIG]}]);
    assert_eq!(change(&whole[..4 * CHUNK as usize + 7]), different(length, cut));
    let all = json!([{"chunks": [0, 11], "bytes": [0, BIG]}]);
    assert_eq!(change(b""), different(0, all));
    // So long that the file by itself would be split in longer chunks.
    let file = OpenOptions::new().write(true).open(checked.at("big")).unwrap();
    file.write_all_at(&whole, 0).unwrap();
    file.set_len(5 << 30).unwrap();
    assert_eq!(findings(&checked.verify(&[])), different(5 << 30, json!([])));
}

#[test]
fn missing_extra_and_other_kinds_are_named_and_siblings_are_not() {
    let checked = Checked::new();
    fs::remove_file(checked.at("sub/small")).unwrap();
    fs::remove_dir(checked.at("empty")).unwrap();
    fs::write(checked.at("sub/more"), b"more").unwrap();
    fs::create_dir(checked.at("sub/new")).unwrap();
    fs::write(checked.at("sub/new/file"), b"more").unwrap();
    fs::remove_file(checked.at("sub/zero")).unwrap();
    symlink(checked.at("big"), checked.at("sub/zero")).unwrap();
    fs::write(checked.here.join("sibling"), b"beside").unwrap();
    let ran = checked.verify(&[]);
    assert_eq!(ran.code, Some(40));
    let expected = [
        json!({"path": "tree/empty", "what": "missing", "kind": "folder"}),
        json!({"path": "tree/sub/more", "what": "extra", "kind": "file"}),
        json!({"path": "tree/sub/new", "what": "extra", "kind": "folder"}),
        json!({"path": "tree/sub/new/file", "what": "extra", "kind": "file"}),
        json!({"path": "tree/sub/small", "what": "missing", "kind": "file"}),
        json!({"path": "tree/sub/zero", "what": "other_kind", "kind": "symlink", "kind_expected": "file"}),
    ];
    assert_eq!(findings(&ran), expected);
    let error = ran.events().last().unwrap()["error"].clone();
    assert_eq!(error, "not everything is as the manifest says: 2 missing, 3 extra, 1 of another kind");
    let text = run(checked.command(&[]).arg(&checked.manifest).arg(&checked.here));
    assert_eq!(
        text.stdout,
        "missing: tree/empty: a folder\nextra: tree/sub/more\nextra: tree/sub/new: a folder\nextra: tree/sub/new/file\n\
         missing: tree/sub/small\nother kind: tree/sub/zero: a symbolic link instead of a file\n"
    );
    assert!(text.stderr.ends_with(
        "error: not everything is as the manifest says: 2 missing, 3 extra, 1 of another kind\n  kept:  nothing was \
         changed\n  next:  run the same command with --repair LINK to fetch what is wrong from a sender that has it\n"
    ));
}

#[test]
fn no_link_is_followed_out_of_the_folder() {
    let checked = Checked::new();
    let twin = checked.playground.dir("twin");
    assert!(Command::new("cp").args(["-a", "."]).arg(&twin).current_dir(&checked.here).status().unwrap().success());
    fs::remove_dir_all(checked.at("sub")).unwrap();
    symlink(twin.join("tree/sub"), checked.at("sub")).unwrap();
    let found = findings(&checked.verify(&[]));
    let what: Vec<_> = found.iter().map(|it| (it["path"].as_str().unwrap(), it["what"].as_str().unwrap())).collect();
    assert_eq!(
        what,
        [
            ("tree/sub", "other_kind"),
            ("tree/sub/caf%E9", "missing"),
            ("tree/sub/small", "missing"),
            ("tree/sub/zero", "missing"),
        ]
    );
    fs::remove_dir_all(checked.here.join("tree")).unwrap();
    symlink(twin.join("tree"), checked.here.join("tree")).unwrap();
    let found = findings(&checked.verify(&[]));
    assert_eq!(found[0], json!({"path": "tree", "what": "other_kind", "kind": "symlink", "kind_expected": "folder"}));
    assert!(found[1..].iter().all(|finding| finding["what"] == "missing") && found.len() == 8, "{found:?}");
    let sums = checked.playground.path("sums");
    fs::write(&sums, format!("{}  tree/big\n", blake3::hash(&noise(BIG as usize, 1)).to_hex())).unwrap();
    let ran = run(checked.command(&["--json"]).arg(&sums).arg(&checked.here));
    assert_eq!(findings(&ran), [json!({"path": "tree/big", "what": "missing", "kind": "file"})]);
    // The folder itself is the user's own word.
    symlink(&twin, checked.playground.path("chosen")).unwrap();
    let ran = run(checked.command(&["--json"]).arg(&checked.manifest).arg(checked.playground.path("chosen")));
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn other_modes_and_times_are_findings_on_demand_alone() {
    let checked = Checked::new();
    fs::set_permissions(checked.at("sub/small"), mode(0o640)).unwrap();
    assert_eq!(checked.verify(&[]).code, Some(0));
    let ran = checked.verify(&["--metadata"]);
    let expected = json!({"path": "tree/sub/small", "what": "metadata", "mode": 0o640, "mode_expected": 0o644});
    assert_eq!((ran.code, findings(&ran)), (Some(40), vec![expected]));
}

#[test]
fn what_cannot_be_read_is_told_from_what_is_not_there() {
    let checked = Checked::new();
    fs::set_permissions(checked.playground.path("."), mode(0o755)).unwrap();
    fs::set_permissions(checked.at("big"), mode(0o600)).unwrap();
    let program = checked.playground.path("haul");
    fs::copy(env!("CARGO_BIN_EXE_haul"), &program).unwrap();
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY_ID, "--regid", NOBODY_ID, "--clear-groups"]).arg(&program);
        command.args(["verify", "--json"]).arg(&checked.manifest).arg(&checked.here);
        run(command.stdin(Stdio::null()).stdout(Stdio::piped()))
    };
    let ran = as_nobody();
    assert_eq!(ran.code, Some(23), "{ran:?}");
    let found = findings(&ran);
    assert_eq!((found.len(), &found[0]["path"], &found[0]["what"]), (1, &"tree/big".into(), &"unreadable".into()));
    assert!(found[0]["error"].as_str().unwrap().contains("ermission"), "{found:?}");
    fs::set_permissions(checked.at("sub"), mode(0o700)).unwrap();
    let ran = as_nobody();
    let what: Vec<_> = findings(&ran).iter().map(|it| it["what"].as_str().unwrap().to_owned()).collect();
    assert_eq!((ran.code, what), (Some(23), vec!["unreadable".to_owned(); 5]), "nothing counts as missing");
    fs::remove_dir(checked.at("empty")).unwrap();
    assert_eq!(as_nobody().code, Some(40));
}

#[test]
fn a_list_of_b3sum_checks_whole_files_and_finds_nothing_extra() {
    let checked = Checked::new();
    let sums = checked.playground.path("sums");
    let line = |path: &str| format!("{}  {path}\n", blake3::hash(&fs::read(checked.here.join(path)).unwrap()).to_hex());
    fs::write(&sums, [line("tree/big"), line("tree/sub/zero"), line("tree/sub/small")].concat()).unwrap();
    let verify = || run(checked.command(&["--json"]).arg(&sums).arg(&checked.here));
    assert_eq!(verify().code, Some(0));
    flip(&checked.at("big"), 5);
    fs::remove_file(checked.at("sub/small")).unwrap();
    fs::remove_file(checked.at("sub/zero")).unwrap();
    fs::create_dir(checked.at("sub/zero")).unwrap();
    let ran = verify();
    assert_eq!(ran.code, Some(40));
    assert_eq!(
        findings(&ran),
        [
            json!({"path": "tree/sub/small", "what": "missing", "kind": "file"}),
            json!({"path": "tree/sub/zero", "what": "other_kind", "kind": "folder", "kind_expected": "file"}),
            json!({"path": "tree/big", "what": "different", "ranges": []}),
        ]
    );
    let repair = run(checked.command(&["--repair", "7-amber-canoe-lentil"]).arg(&sums).arg(&checked.here));
    assert_eq!(repair.code, Some(11), "{repair:?}");
    assert!(repair.stderr.contains("a repair needs a manifest"), "{repair:?}");
}

#[test]
fn what_is_no_manifest_is_refused_in_words() {
    let checked = Checked::new();
    let bad = checked.playground.path("bad");
    let whole = fs::read(&checked.manifest).unwrap();
    let mut damaged = whole.clone();
    let place = damaged.len() - 100;
    damaged[place] ^= 1;
    let hash = "0".repeat(64);
    let climbs = format!("{hash}  a\n{hash}  ../a\n");
    let absolute = format!("{hash}  /etc/passwd\n");
    let longer = [&whole[..], b"\n"].concat();
    let cases: [(&[u8], &str); 8] = [
        (b"", "it is empty"),
        (b"some text\n", "it is neither a manifest nor a list of hashes: in line 1"),
        (&damaged, "it is damaged: its checksum is wrong"),
        (&whole[..whole.len() - 1], "it is cut off"),
        (&longer, "something follows its end"),
        (b"haulmani\x02\0\0\0\0\0\0\0", "it was written by a newer version of haul"),
        (climbs.as_bytes(), "in line 2, its path is refused: the path holds a `.` or `..`"),
        (absolute.as_bytes(), "its path is refused: the path is absolute"),
    ];
    for (bytes, words) in cases {
        fs::write(&bad, bytes).unwrap();
        let ran = run(checked.command(&["--json"]).arg(&bad).arg(&checked.here));
        assert_eq!(ran.code, Some(11), "{ran:?}");
        assert!(ran.events().last().unwrap()["error"].as_str().unwrap().contains(words), "{words}: {ran:?}");
    }
    for (manifest, folder) in [(&checked.playground.path("none"), &checked.here), (&checked.manifest, &bad)] {
        let ran = run(checked.command(&["--json"]).arg(manifest).arg(folder));
        assert_eq!(ran.code, Some(11), "{ran:?}");
    }
    let ran = run(checked.command(&[]).arg("/dev/zero").arg(&checked.here));
    assert_eq!(ran.code, Some(11), "an endless line is read no further than one can be: {ran:?}");
}

#[test]
fn a_manifest_comes_through_a_pipe_as_well_and_the_current_folder_is_checked() {
    let checked = Checked::new();
    let mut command = checked.command(&["/dev/stdin"]);
    let mut child = command.current_dir(&checked.here).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(&checked.manifest).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn names_drive_no_terminal() {
    let checked = Checked::new();
    fs::write(checked.at("sub/x\u{200d}y"), b"x").unwrap();
    let ran = run(checked.command(&[]).arg(&checked.manifest).arg(&checked.here));
    assert_eq!(ran.stdout, "extra: tree/sub/x\\u{200d}y\n");
}

impl Checked {
    fn new() -> Self {
        let playground = Playground::new();
        let here = playground.dir("here");
        let tree = playground.dir("here/tree");
        fs::create_dir(tree.join("sub")).unwrap();
        fs::create_dir(tree.join("empty")).unwrap();
        fs::write(tree.join("big"), noise(BIG as usize, 1)).unwrap();
        fs::write(tree.join("more"), noise(5000, 3)).unwrap();
        fs::write(tree.join("sub/small"), noise(1000, 2)).unwrap();
        fs::write(tree.join("sub/zero"), b"").unwrap();
        fs::write(tree.join("sub").join(OsStr::from_bytes(b"caf\xe9")), b"no text").unwrap();
        for path in [tree.join("sub/small"), tree.join("sub/zero")] {
            fs::set_permissions(path, mode(0o644)).unwrap();
        }
        let manifest = playground.path("m");
        let mut command = playground.command("manifest");
        let made = run(command.arg(&tree).arg("-o").arg(&manifest));
        assert_eq!(made.code, Some(0), "{made:?}");
        Self { playground, here, manifest }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.here.join("tree").join(path)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.playground.command("verify");
        command.args(arguments);
        command
    }

    fn verify(&self, arguments: &[&str]) -> Ran {
        run(self.command(arguments).arg("--json").arg(&self.manifest).arg(&self.here))
    }
}

/// What was found, without what every event has.
fn findings(ran: &Ran) -> Vec<Value> {
    let mut findings: Vec<_> = ran.events().into_iter().filter(|event| event["event"] == "finding").collect();
    for finding in &mut findings {
        let fields = finding.as_object_mut().unwrap();
        fields.remove("v");
        fields.remove("event");
    }
    findings
}

/// Flips one bit, and returns the byte as it was.
fn flip(path: &Path, offset: u64) -> u8 {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    byte[0]
}

fn put_back(path: &Path, offset: u64, byte: u8) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(&[byte], offset).unwrap();
}

fn mode(bits: u32) -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(bits)
}
