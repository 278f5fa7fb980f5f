//! The house rules, held: which module may use which, how long things get, where effects and packages live.
//!
//! Every message says what to do. A rule changes in a commit of its own.
#![allow(clippy::unwrap_used)]

mod support {
    pub(crate) mod rust_scan;
}

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use support::rust_scan::{Declared, Scan};

/// Words of one row: what every later layer may speak.
const VOCABULARY: &[&str] =
    &["limits", "chunk", "digest", "outline", "chunk_set", "rel_path", "printable", "manifest", "secret"];

/// The library's modules in data-flow order, each with what it may use. A row uses only rows above it.
///
/// A row whose module does not exist yet waits for it.
const LAYERS: &[(&str, &[&[&str]])] = &[
    ("limits", &[]),
    ("chunk", &[&["limits"]]),
    ("digest", &[&["chunk"]]),
    ("outline", &[&["limits", "chunk", "digest"]]),
    ("chunk_set", &[&["limits", "chunk"]]),
    ("rel_path", &[&["limits"]]),
    ("printable", &[]),
    ("manifest", &[&["limits", "chunk", "digest", "chunk_set", "rel_path", "printable"]]),
    ("secret", &[&["limits"]]),
    ("sealing", &[&["digest"]]),
    ("wire", &[VOCABULARY]),
    ("session", &[VOCABULARY, &["wire"]]),
    ("mmap", &[]),
    ("codec", &[&["limits"]]),
    ("source", &[VOCABULARY]),
    ("store", &[VOCABULARY, &["mmap"]]),
    ("transport", &[&["limits", "digest", "secret", "wire"]]),
    ("transfer", &[VOCABULARY, &["wire", "session", "mmap", "codec", "source", "store", "transport"]]),
    ("room", &[VOCABULARY]),
    ("qr", &[]),
    (
        "web",
        &[VOCABULARY, &["sealing", "wire", "mmap", "codec", "source", "store", "transport", "transfer", "room", "qr"]],
    ),
];

/// Modules that compute and do nothing else.
const PURE: &[&str] = &[
    "limits",
    "chunk",
    "digest",
    "outline",
    "chunk_set",
    "rel_path",
    "printable",
    "manifest",
    "secret",
    "sealing",
    "wire",
    "session",
    "codec",
    "qr",
];

/// Paths that reach a clock, a disk, a network, another thread or a random source. Addresses are plain values.
const EFFECTS: &[&str] = &[
    "cap_std",
    "fastrand",
    "getrandom",
    "memmap2",
    "rand",
    "rayon",
    "rustix",
    "socket2",
    "std::env",
    "std::fs",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
    "File::create",
    "File::open",
    "Instant::now",
    "SystemTime::now",
];

/// Macros that print.
const PRINTING: &[&str] = &["dbg", "eprint", "eprintln", "print", "println"];

/// Packages with the only modules that may name them outside of tests.
const HOMES: &[(&str, &[&str])] = &[
    ("anyhow", &["cli"]),
    ("aws_lc_rs", &["transport"]),
    ("blake3", &["digest"]),
    ("cap_fs_ext", &["store", "source"]),
    ("cap_std", &["store", "source"]),
    ("chacha20poly1305", &["sealing"]),
    ("clap", &["cli"]),
    ("crc32fast", &["web"]),
    ("curve25519_dalek", &["transport"]),
    ("getrandom", &["transport"]),
    ("http_body_util", &["web"]),
    ("hyper", &["web"]),
    ("hyper_util", &["web"]),
    ("httpdate", &["web"]),
    ("if_addrs", &["transfer", "transport"]),
    ("ignore", &["source"]),
    ("indicatif", &["cli"]),
    ("mdns_sd", &["transport"]),
    ("memmap2", &["mmap"]),
    ("png", &["qr"]),
    ("postcard", &["wire", "manifest", "store", "transfer"]),
    ("qrcode", &["qr"]),
    ("rayon", &["source", "store", "transfer"]),
    ("rcgen", &["web"]),
    ("rustix::fs", &["store", "source"]),
    ("rustix::mm", &["mmap"]),
    ("rustls", &["transport", "web"]),
    ("serde_json", &["cli", "web"]),
    ("signal_hook", &["cli"]),
    ("socket2", &["transport"]),
    ("spake2", &["transport"]),
    ("tokio", &["web"]),
    ("tokio_rustls", &["web"]),
    ("zstd", &["codec"]),
];

/// Every fuzz target, with the public decoders that it drives.
const FUZZ_TARGETS: &[(&str, &[(&str, &str)])] = &[
    ("canary", &[]),
    ("code_parse", &[("src/secret/code.rs", "parse"), ("src/secret/invitation.rs", "parse")]),
    (
        "frame_decode",
        &[("src/wire/frame.rs", "decode"), ("src/wire/frame.rs", "decode_frame"), ("src/wire/message.rs", "decode")],
    ),
    ("http_range", &[]),
    ("link_parse", &[("src/secret/link.rs", "parse")]),
    ("manifest_decode", &[("src/manifest/link_target.rs", "parse")]),
    ("manifest_file", &[("src/wire/manifest_file.rs", "decode"), ("src/manifest/b3sum.rs", "parse_line")]),
    ("pair_sim", &[]),
    ("partial_open", &[("src/store/record.rs", "parse")]),
    ("piece_decode", &[("src/codec/mod.rs", "decode")]),
    ("printable", &[]),
    ("receiver_sm", &[]),
    (
        "safe_rel_path",
        &[("src/rel_path.rs", "parse"), ("src/rel_path.rs", "parse_bytes"), ("src/rel_path.rs", "parse_listed")],
    ),
    ("sender_sm", &[]),
    ("tree_hash", &[]),
];

/// How the name of a function starts that turns foreign bytes into a value, or cannot.
const DECODER_NAMES: &[&str] = &["decode", "from_bytes", "from_slice", "from_text", "parse"];

/// What may lie at the top beside dotfiles and the build folder.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "fuzz",
    "src",
    "target",
    "tests",
];

/// Names under which things gather that belong elsewhere.
const GATHERING_PLACES: &[&str] = &["common", "config", "error", "errors", "helper", "helpers", "util", "utils"];

/// Packages of their own, for another target; what they share with this one they include by its path.
const OTHER_TARGETS: &[&str] = &["src/web/wasm"];

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn modules_use_only_what_their_row_allows() {
    report(&tree().iter().flat_map(layer_findings).collect::<Vec<_>>());
}

#[test]
fn the_table_allows_no_cycle() {
    report(&table_findings(LAYERS));
}

#[test]
fn files_and_functions_stay_short_and_say_what_they_are_for() {
    let mut findings: Vec<Finding> = tree().iter().flat_map(length_findings).collect();
    for file in files_below(&["src", "tests", "benches", "fuzz/fuzz_targets", "fuzz/src"]) {
        findings.extend(opening_finding(&file, &read(&file)));
        if !file.starts_with("src") {
            findings.extend(function_findings(&file, &scan(&file)));
        }
    }
    report(&findings);
}

#[test]
fn every_file_is_declared_by_a_module() {
    let declared: BTreeSet<PathBuf> = tree().into_iter().map(|file| file.path).collect();
    let all = files_below(&["src"]);
    let is_ours = |file: &Path| !OTHER_TARGETS.iter().any(|package| file.starts_with(package));
    let orphans = all.iter().filter(|file| is_ours(file) && !declared.contains(*file));
    let fix = "no module declares this file; declare it or delete it";
    report(&orphans.map(|file| Finding::new(file, 1, fix.to_owned())).collect::<Vec<_>>());
}

#[test]
fn pure_modules_have_no_effects() {
    report(&tree().iter().flat_map(effect_findings).collect::<Vec<_>>());
}

#[test]
fn packages_stay_in_their_homes() {
    report(&tree().iter().flat_map(home_findings).collect::<Vec<_>>());
}

#[test]
fn unsafe_and_async_stay_where_they_belong() {
    report(&tree().iter().flat_map(keyword_findings).collect::<Vec<_>>());
}

#[test]
fn nothing_gathers_at_the_root() {
    let mut findings = Vec::new();
    for entry in entries(&root().join("src")) {
        findings.extend(gathering_finding(&entry));
    }
    for entry in entries(&root()) {
        findings.extend(top_level_finding(&entry));
    }
    report(&findings);
}

#[test]
fn every_public_decoder_has_a_fuzz_target() {
    let targets: BTreeSet<String> = files_below(&["fuzz/fuzz_targets"])
        .iter()
        .filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()))
        .collect();
    let found = tree().iter().flat_map(decoders).collect();
    report(&decoder_findings(&found, root().join("fuzz").exists().then_some(&targets)));
}

/// A broken rule, with its fix.
#[derive(Debug)]
struct Finding {
    path: PathBuf,
    line: usize,
    fix: String,
}

/// One file of the package's own code, at its place in the module tree.
struct SourceFile {
    path: PathBuf,
    /// `["wire", "frame"]`; empty for the two roots.
    module: Vec<String>,
    /// Declared under `cfg(test)`.
    is_test: bool,
    is_library: bool,
    text: String,
    scan: Scan,
}

impl Finding {
    fn new(path: impl Into<PathBuf>, line: usize, fix: String) -> Self {
        Self { path: path.into(), line, fix }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.path.display(), self.line, self.fix)
    }
}

#[track_caller]
fn report(findings: &[Finding]) {
    let text: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} finding(s):\n{}", text.len(), text.join("\n"));
}

fn layer_findings(file: &SourceFile) -> Vec<Finding> {
    let Some(own) = file.module.first().filter(|_| file.is_library) else { return Vec::new() };
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| name == own) else {
        let fix = format!("`{own}` has no row in LAYERS; put it where its data flows, with what it may use");
        return vec![Finding::new(&file.path, 1, fix)];
    };
    let mut findings = Vec::new();
    for path in &file.scan.paths {
        let above_file = path.segments.iter().take_while(|segment| *segment == "super").count();
        let used = match path.segments[0].as_str() {
            "crate" => path.segments.get(1),
            "super" if above_file == file.module.len() + path.depth => path.segments.get(above_file),
            _ => None,
        };
        let Some(used) = used else { continue };
        if used != own && !allowed.iter().any(|group| group.contains(&used.as_str())) {
            let fix = format!(
                "`{own}` may not use `{used}` (LAYERS in tests/tidy.rs); move what both need down into a module that \
                 both may use"
            );
            findings.push(Finding::new(&file.path, path.line, fix));
        }
    }
    findings
}

fn table_findings(layers: &[(&str, &[&[&str]])]) -> Vec<Finding> {
    let mut above: Vec<&str> = Vec::new();
    let mut findings = Vec::new();
    for (name, allowed) in layers {
        for used in allowed.iter().flat_map(|group| group.iter()) {
            if !above.contains(used) {
                let fix = format!("`{name}` may use `{used}`, which has no row above it; only rows above may be used");
                findings.push(Finding::new("tests/tidy.rs", 1, fix));
            }
        }
        above.push(name);
    }
    findings
}

fn length_findings(file: &SourceFile) -> Vec<Finding> {
    let mut findings = function_findings(&file.path, &file.scan);
    let lines = file.scan.tests_line.map_or(file.text.lines().count(), |line| line - 1);
    if lines > FILE_LINES_MAX && !file.is_test {
        let fix = format!("{lines} lines before the tests, {FILE_LINES_MAX} are allowed; split the file by subject");
        findings.push(Finding::new(&file.path, lines, fix));
    }
    findings
}

fn function_findings(path: &Path, scan: &Scan) -> Vec<Finding> {
    let long = scan.functions.iter().filter(|function| function.lines > FUNCTION_LINES_MAX);
    long.map(|function| {
        let fix = format!(
            "`{}` has {} lines, {FUNCTION_LINES_MAX} are allowed; keep the branches and move straight-line work out",
            function.name, function.lines
        );
        Finding::new(path, function.line, fix)
    })
    .collect()
}

fn opening_finding(path: &Path, text: &str) -> Option<Finding> {
    let is_said = text.lines().next().is_some_and(|line| line.starts_with("//! ") && line.len() > 8);
    (!is_said).then(|| Finding::new(path, 1, "open the file with a `//!` line that says what it is for".to_owned()))
}

fn effect_findings(file: &SourceFile) -> Vec<Finding> {
    let is_pure = file.is_library && file.module.first().is_some_and(|module| PURE.contains(&module.as_str()));
    if !is_pure || file.is_test {
        return Vec::new();
    }
    let paths = file.scan.paths.iter().filter(|path| !path.in_test).filter_map(|path| {
        let effect = EFFECTS.iter().find(|effect| reaches(&path.segments, effect))?;
        Some((path.line, (*effect).to_owned()))
    });
    let macros = file.scan.macros.iter().filter(|word| !word.in_test && PRINTING.contains(&word.text.as_str()));
    paths
        .chain(macros.map(|word| (word.line, format!("{}!", word.text))))
        .map(|(line, effect)| {
            let fix =
                format!("`{effect}` in a pure module; take its result as an argument, or move the act to the caller");
            Finding::new(&file.path, line, fix)
        })
        .collect()
}

fn home_findings(file: &SourceFile) -> Vec<Finding> {
    let module = file.module.first().map_or("", String::as_str);
    let uses = file.scan.paths.iter().filter(|path| !path.in_test && !file.is_test);
    uses.filter_map(|path| {
        let (package, homes) = HOMES.iter().find(|(package, _)| starts_with(&path.segments, package))?;
        let fix = format!("`{package}` lives in {}; ask there for what is needed here", homes.join(", "));
        (!homes.contains(&module)).then(|| Finding::new(&file.path, path.line, fix))
    })
    .collect()
}

fn keyword_findings(file: &SourceFile) -> Vec<Finding> {
    let module = file.module.first().map_or("", String::as_str);
    let words = file.scan.words.iter().filter_map(|word| {
        let fix = match word.text.as_str() {
            "unsafe" if module != "mmap" => {
                "`unsafe` lives in src/mmap.rs only; find a safe way, or a package that has one"
            }
            "async" | "await" if module != "web" => "`async` lives in src/web only; block a thread here",
            _ => return None,
        };
        Some(Finding::new(&file.path, word.line, fix.to_owned()))
    });
    words.collect()
}

fn gathering_finding(entry: &str) -> Option<Finding> {
    let stem = entry.strip_suffix(".rs").unwrap_or(entry);
    GATHERING_PLACES.contains(&stem).then(|| {
        let fix = "a place like this collects what has a better home; put each thing into the module that it is about";
        Finding::new(format!("src/{entry}"), 1, fix.to_owned())
    })
}

fn top_level_finding(entry: &str) -> Option<Finding> {
    let is_allowed = entry.starts_with('.') || TOP_LEVEL.contains(&entry);
    (!is_allowed).then(|| {
        let fix = "the top level holds the package and nothing else; move it below src, tests, benches or a dotfolder";
        Finding::new(entry, 1, fix.to_owned())
    })
}

/// A decoder, as file and function name, with its line.
type Decoders = BTreeMap<(String, String), usize>;

fn decoders(file: &SourceFile) -> Decoders {
    let path = file.path.to_string_lossy().into_owned();
    let functions = file.scan.functions.iter().filter(|function| {
        let name = function.name.as_str();
        let is_decoder = DECODER_NAMES.iter().any(|start| name.starts_with(start));
        file.is_library && function.is_public && function.is_fallible && !function.in_test && is_decoder
    });
    functions.map(|function| ((path.clone(), function.name.clone()), function.line)).collect()
}

/// `targets` are the files in `fuzz/fuzz_targets`, where that folder exists.
fn decoder_findings(found: &Decoders, targets: Option<&BTreeSet<String>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let driven: BTreeSet<(&str, &str)> = FUZZ_TARGETS.iter().flat_map(|(_, driven)| driven.iter().copied()).collect();
    for ((path, name), line) in found {
        if !driven.contains(&(path.as_str(), name.as_str())) {
            let fix = format!("`{name}` decodes foreign bytes and no fuzz target drives it; add both to FUZZ_TARGETS");
            findings.push(Finding::new(path, *line, fix));
        }
    }
    for (path, name) in driven {
        if !found.contains_key(&(path.to_owned(), name.to_owned())) {
            let fix = format!("FUZZ_TARGETS names `{name}`, which is not here; take it out, or follow where it went");
            findings.push(Finding::new(path, 1, fix));
        }
    }
    let Some(targets) = targets else { return findings };
    let listed: BTreeSet<String> = FUZZ_TARGETS.iter().map(|(target, _)| (*target).to_owned()).collect();
    for target in listed.symmetric_difference(targets) {
        let fix = "fuzz/fuzz_targets and FUZZ_TARGETS in tests/tidy.rs differ here; add or remove it on the other side";
        findings.push(Finding::new(format!("fuzz/fuzz_targets/{target}.rs"), 1, fix.to_owned()));
    }
    findings
}

/// Whether a path names `effect`: at its start, or, where an imported type is used by its own name, at its end.
fn reaches(segments: &[String], effect: &str) -> bool {
    let is_short = effect.chars().next().is_some_and(char::is_uppercase);
    let wanted: Vec<&str> = effect.split("::").collect();
    if is_short {
        segments.ends_with(&wanted.iter().map(ToString::to_string).collect::<Vec<_>>())
    } else {
        starts_with(segments, effect)
    }
}

fn starts_with(segments: &[String], prefix: &str) -> bool {
    prefix.split("::").count() <= segments.len() && prefix.split("::").zip(segments).all(|(one, other)| one == other)
}

/// Every file that the library and the binary declare, from their roots down.
fn tree() -> Vec<SourceFile> {
    let mut files = Vec::new();
    for (name, is_library) in [("src/lib.rs", true), ("src/main.rs", false)] {
        descend(Path::new(name), Vec::new(), false, is_library, &mut files);
    }
    files
}

fn descend(path: &Path, module: Vec<String>, is_test: bool, is_library: bool, files: &mut Vec<SourceFile>) {
    let text = read(path);
    let scan = scan(path);
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new("src"));
    let is_folder_root = module.is_empty() || stem == "mod";
    let children = if is_folder_root { folder.to_owned() } else { folder.join(stem) };
    for declared in &scan.declared {
        let module: Vec<String> = module.iter().chain([&declared.name]).cloned().collect();
        for child in files_of(declared, folder, &children) {
            assert!(root().join(&child).exists(), "{}: `mod {};` has no file", path.display(), declared.name);
            descend(&child, module.clone(), is_test || declared.in_test, is_library, files);
        }
    }
    files.push(SourceFile { path: path.to_owned(), module, is_test, is_library, text, scan });
}

/// Where a declared module may lie: at its named paths, else at the one of its two usual places that exists.
fn files_of(declared: &Declared, folder: &Path, children: &Path) -> Vec<PathBuf> {
    if !declared.files.is_empty() {
        return declared.files.iter().map(|file| folder.join(file)).collect();
    }
    let flat = children.join(format!("{}.rs", declared.name));
    if root().join(&flat).exists() { vec![flat] } else { vec![children.join(&declared.name).join("mod.rs")] }
}

fn files_below(folders: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    while let Some(folder) = open.pop() {
        for name in entries(&root().join(&folder)) {
            let path = folder.join(&name);
            if root().join(&path).is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Names in a folder, in order; none where there is no folder.
fn entries(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn scan(path: &Path) -> Scan {
    Scan::of(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rules are tried on planted violations: a rule that cannot fail holds nothing.
mod planted {
    use super::*;

    fn file(module: &str, text: &str) -> SourceFile {
        SourceFile {
            path: format!("src/{module}.rs").into(),
            module: module.split('/').map(str::to_owned).collect(),
            is_test: false,
            is_library: true,
            text: text.to_owned(),
            scan: Scan::of(text).unwrap(),
        }
    }

    fn lines(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn an_import_that_leaves_its_layer_is_found_however_it_is_written() {
        for text in [
            "use crate::store::Store;",
            "use crate::{limits::MIB, store};",
            "use crate::{limits::{KIB, MIB}, store::{Store}};",
            "pub(crate) use crate::store as s;",
            "fn f() -> crate::store::Store { todo() }",
            "fn f() { let x = <crate::store::Store as Default>::default(); }",
            "fn f() { vec![crate::store::new()] }",
            "impl From<crate::store::Store> for X {}",
            "use super::store::Store;",
            "mod inner { use super::super::store::Store; }",
            "#[cfg(test)] mod tests { use crate::store::Store; }",
            "#[derive(crate::store::Derive)] struct X;",
        ] {
            let findings = layer_findings(&file("chunk", text));
            assert_eq!(findings.len(), 1, "{text}: {findings:?}");
            assert!(findings[0].fix.starts_with("`chunk` may not use `store`"), "{text}");
        }
        let nested = layer_findings(&file("wire/frame", "use super::super::store::Store;"));
        assert_eq!(nested.len(), 1);
    }

    #[test]
    fn an_import_within_its_layer_is_none() {
        for text in [
            "use crate::limits::{KIB, MIB};",
            "use crate::chunk::ChunkIndex;",
            "/// Like [`crate::store::Store`].\nfn f() {}",
            "// crate::store\nconst X: &str = \"crate::store\";",
            "fn f<'a>(c: char) -> bool { c == '\"' && \"crate::store\".is_empty() }",
            "mod inner { use super::Span; }",
            "use other::store::Store;",
        ] {
            assert!(layer_findings(&file("chunk", text)).is_empty(), "{text}");
        }
        assert!(layer_findings(&file("wire/frame", "use super::store::Store;")).is_empty(), "a neighbour");
    }

    #[test]
    fn a_module_without_a_row_is_found() {
        assert!(layer_findings(&file("elsewhere", "")).first().is_some_and(|finding| finding.fix.contains("no row")));
    }

    #[test]
    fn a_cycle_in_the_table_is_found() {
        assert_eq!(table_findings(&[("a", &[&["b"]]), ("b", &[&["a"]])]).len(), 1);
        assert_eq!(table_findings(&[("a", &[&["a"]])]).len(), 1);
    }

    #[test]
    fn long_files_and_functions_are_found_and_tests_do_not_count() {
        let lines_of = |count: usize| "const X: u8 = 0;\n".repeat(count);
        let tests = "#[cfg(test)]\nmod tests {}\n";
        assert!(length_findings(&file("chunk", &(lines_of(400) + tests + &lines_of(100)))).is_empty());
        assert_eq!(length_findings(&file("chunk", &(lines_of(401) + tests))).len(), 1);
        assert_eq!(length_findings(&file("chunk", &(format!("#[cfg(test)]\nuse a::b;\n{}", lines_of(400))))).len(), 1);
        let function =
            |lines: usize| format!("impl X {{\n    pub fn f() {{\n{}    }}\n}}\n", "        g();\n".repeat(lines - 2));
        assert!(length_findings(&file("chunk", &function(70))).is_empty());
        assert_eq!(lines(&length_findings(&file("chunk", &function(71)))), [2]);
    }

    #[test]
    fn a_file_that_does_not_say_what_it_is_for_is_found() {
        let opening = |text| opening_finding(Path::new("src/x.rs"), text).is_some();
        assert!(opening("") && opening("use std::fmt;\n//! Late.\n") && opening("//!\n") && opening("// What.\n"));
        assert!(!opening("//! What it is for.\n"));
    }

    #[test]
    fn an_effect_in_a_pure_module_is_found_outside_of_tests() {
        for text in [
            "use std::fs::File;",
            "use std::{fmt, fs};",
            "use std::net::TcpStream;",
            "fn f() { std::thread::spawn(g); }",
            "fn f() { let now = Instant::now(); }",
            "fn f() { let now = std::time::Instant::now(); }",
            "use std::time::{Duration, SystemTime};",
            "fn f() { getrandom::fill(&mut x); }",
            "fn f() { println!(\"x\"); }",
            "#[cfg(test)] mod tests { fn t() {} }\nfn f() { std::process::exit(1); }",
        ] {
            assert_eq!(effect_findings(&file("session", text)).len(), 1, "{text}");
            assert!(effect_findings(&file("store", text)).is_empty(), "{text}");
        }
        for text in [
            "use std::net::SocketAddr;",
            "use std::time::{Duration, Instant};",
            "fn f(now: Instant) { print(now != Kind::File); }",
            "#[cfg(test)] mod tests { fn t() { std::fs::read(p); println!(); } }",
            "#[cfg(test)] use std::fs;",
        ] {
            assert!(effect_findings(&file("session", text)).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_package_away_from_home_is_found() {
        for text in [
            "use blake3::Hasher;",
            "fn f() { blake3::hash(b); }",
            "fn f(h: ::blake3::Hasher) {}",
            "use {blake3::Hasher, std::fmt};",
            "use rustix::{fs, io};",
        ] {
            assert_eq!(home_findings(&file("session", text)).len(), 1, "{text}");
        }
        assert!(home_findings(&file("digest", "use blake3::Hasher;")).is_empty());
        assert!(home_findings(&file("cli/link", "use rustix::process::getuid;")).is_empty());
        assert!(home_findings(&file("session", "#[cfg(test)] mod t { use blake3::Hasher; }")).is_empty());
        assert!(home_findings(&file("session", "fn f() { self.blake3::<u8>(); }")).is_empty());
    }

    #[test]
    fn unsafe_and_async_away_from_home_are_found() {
        let count = |module, text| keyword_findings(&file(module, text)).len();
        assert_eq!(count("store", "fn f() { unsafe { g() } }"), 1);
        assert_eq!(count("mmap", "fn f() { unsafe { g() } }"), 0);
        assert_eq!(count("transport", "async fn f() {}"), 1);
        assert_eq!(count("web/page", "async fn f() {}"), 0);
        assert_eq!(count("store", "// unsafe\nconst X: &str = \"async\";\n#![deny(unsafe_code)]"), 0);
    }

    #[test]
    fn gathering_places_and_strangers_at_the_top_are_found() {
        assert!(gathering_finding("error.rs").is_some() && gathering_finding("util").is_some());
        assert!(gathering_finding("errors_seen.rs").is_none());
        assert!(top_level_finding("scripts").is_some() && top_level_finding("build.rs").is_some());
        assert!(top_level_finding(".ci").is_none() && top_level_finding("src").is_none());
    }

    #[test]
    fn a_decoder_without_a_fuzz_target_is_found() {
        let text = "impl X { pub fn decode_all(b: &[u8]) -> Option<Self> {} pub(super) fn decode() -> Option<Self> {} \
                    fn parse() -> Option<Self> {} pub fn from_bytes(b: [u8; 4]) -> Self {} }";
        let found = decoders(&file("codec", text));
        assert_eq!(found.keys().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["decode_all"]);
        let findings = decoder_findings(&found, None);
        assert!(findings.iter().any(|finding| finding.fix.starts_with("`decode_all` decodes foreign bytes")));
        assert!(findings.iter().any(|finding| finding.fix.starts_with("FUZZ_TARGETS names `decode_frame`")));
    }

    #[test]
    fn a_fuzz_target_that_is_missing_or_unlisted_is_found() {
        let mut targets: BTreeSet<String> = FUZZ_TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let differing = |targets: &BTreeSet<String>| {
            let findings = decoder_findings(&Decoders::new(), Some(targets));
            findings.iter().filter(|finding| finding.fix.starts_with("fuzz/fuzz_targets and")).count()
        };
        assert_eq!(differing(&targets), 0);
        targets.remove("canary");
        targets.insert("unlisted".to_owned());
        assert_eq!(differing(&targets), 2);
    }
}
