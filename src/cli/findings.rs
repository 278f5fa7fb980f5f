//! What a person and a program read about what a check finds.

use crate::cli::terminal::{Role, Terminal};
use crate::cli::units;
use haul::manifest::Timestamp;
use haul::printable::printable;
use haul::transfer::{BadRange, Difference, Finding, Found, Kind};
use serde_json::{Value, json};

/// Ranges of a file that are shown one by one.
const RANGES_SHOWN: usize = 8;

/// One line about a finding.
pub(crate) fn line(finding: &Finding, terminal: &Terminal) -> String {
    let Finding { path, what } = finding;
    let (label, more) = match what {
        Difference::Different(found) => ("different:", difference(found)),
        Difference::Extra(Kind::File) => ("extra:", String::new()),
        Difference::Extra(kind) => ("extra:", format!(": {kind}")),
        Difference::Metadata { mode, modified } => {
            let mode = mode.map(|(here, there)| format!("mode {:04o} instead of {:04o}", here.bits(), there.bits()));
            let modified =
                modified.map(|(here, there)| format!("changed at {} instead of {}", time(here), time(there)));
            let parts: Vec<String> = mode.into_iter().chain(modified).collect();
            ("metadata:", format!(": {}", parts.join(", ")))
        }
        Difference::Missing(Kind::File) => ("missing:", String::new()),
        Difference::Missing(kind) => ("missing:", format!(": {kind}")),
        Difference::OtherKind { found, expected } => ("other kind:", format!(": {found} instead of {expected}")),
        Difference::Target { found, expected } => {
            let found = found.as_deref().map_or("a place that no link may name".into(), printable);
            ("different:", format!(": leads to {found} instead of {}", printable(expected)))
        }
        Difference::Unreadable(why) => ("unreadable:", format!(": {}", printable(why))),
    };
    format!("{} {}{more}", terminal.paint(Role::Error, label), printable(path))
}

/// The fields of an event about a finding.
pub(crate) fn value(finding: &Finding) -> Value {
    let Finding { path, what } = finding;
    let mut value = json!({"event": "finding", "path": path});
    match what {
        Difference::Different(Found { bad, lengths }) => {
            value["what"] = "different".into();
            let range = |BadRange { chunks, bytes }: &BadRange| json!({"chunks": [chunks.start, chunks.end], "bytes": [bytes.start, bytes.end]});
            value["ranges"] = bad.iter().map(range).collect();
            if let Some((found, expected)) = lengths {
                value["length"] = (*found).into();
                value["length_expected"] = (*expected).into();
            }
        }
        Difference::Extra(kind) => {
            value["what"] = "extra".into();
            value["kind"] = kind_name(*kind).into();
        }
        Difference::Metadata { mode, modified } => {
            value["what"] = "metadata".into();
            if let Some((here, there)) = mode {
                value["mode"] = here.bits().into();
                value["mode_expected"] = there.bits().into();
            }
            if let Some((here, there)) = modified {
                value["modified"] = time(*here).into();
                value["modified_expected"] = time(*there).into();
            }
        }
        Difference::Missing(kind) => {
            value["what"] = "missing".into();
            value["kind"] = kind_name(*kind).into();
        }
        Difference::OtherKind { found, expected } => {
            value["what"] = "other_kind".into();
            value["kind"] = kind_name(*found).into();
            value["kind_expected"] = kind_name(*expected).into();
        }
        Difference::Target { found, expected } => {
            value["what"] = "target".into();
            value["target"] = found.clone().into();
            value["target_expected"] = expected.as_str().into();
        }
        Difference::Unreadable(why) => {
            value["what"] = "unreadable".into();
            value["error"] = why.as_str().into();
        }
    }
    value
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Folder => "folder",
        Kind::Special => "special",
        Kind::Symlink => "symlink",
    }
}

/// Where a file differs: chunks are counted from 0, and bytes up to the last one that belongs to the range.
fn difference(Found { bad, lengths }: &Found) -> String {
    let mut parts: Vec<String> = bad.iter().take(RANGES_SHOWN).map(range).collect();
    if bad.len() > RANGES_SHOWN {
        let more = units::grouped((bad.len() - RANGES_SHOWN) as u64);
        parts.push(format!("and {more} more {}", if bad.len() == RANGES_SHOWN + 1 { "range" } else { "ranges" }));
    }
    if let Some((found, expected)) = lengths {
        parts.push(format!("{} bytes long instead of {}", units::grouped(*found), units::grouped(*expected)));
    }
    if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }
}

fn range(BadRange { chunks, bytes }: &BadRange) -> String {
    let bytes = format!("bytes {} to {}", units::grouped(bytes.start), units::grouped(bytes.end.saturating_sub(1)));
    if chunks.end - chunks.start == 1 {
        format!("chunk {} ({bytes})", chunks.start)
    } else {
        format!("chunks {} to {} ({bytes})", chunks.start, chunks.end - 1)
    }
}

/// Seconds since 1970, which is what tells two times apart.
fn time(time: Timestamp) -> String {
    format!("{}.{:09} s", time.seconds(), time.nanoseconds())
}

#[cfg(test)]
mod tests {
    use super::*;
    use haul::manifest::Mode;

    const PLAIN: Terminal =
        Terminal { redraws: false, answers: false, colors: false, utf8: false, columns: 80, rows: 24 };

    fn told(path: &str, what: Difference) -> String {
        line(&Finding { path: path.into(), what }, &PLAIN)
    }

    fn bad(chunks: std::ops::Range<u32>) -> BadRange {
        BadRange { bytes: u64::from(chunks.start) << 18..u64::from(chunks.end) << 18, chunks }
    }

    #[test]
    fn each_finding_is_one_line() {
        let different = |bad, lengths| Difference::Different(Found { bad, lengths });
        let cases = [
            (different(vec![bad(3..4)], None), "different: a: chunk 3 (bytes 786,432 to 1,048,575)"),
            (
                different(vec![bad(0..2), bad(5..6)], Some((5, 1000))),
                "different: a: chunks 0 to 1 (bytes 0 to 524,287), chunk 5 (bytes 1,310,720 to 1,572,863), 5 bytes long \
                 instead of 1,000",
            ),
            (different(Vec::new(), None), "different: a"),
            (
                different((0..10).map(|number| bad(2 * number..2 * number + 1)).collect(), None),
                "different: a: chunk 0 (bytes 0 to 262,143), chunk 2 (bytes 524,288 to 786,431), chunk 4 (bytes 1,048,576 \
                 to 1,310,719), chunk 6 (bytes 1,572,864 to 1,835,007), chunk 8 (bytes 2,097,152 to 2,359,295), chunk 10 \
                 (bytes 2,621,440 to 2,883,583), chunk 12 (bytes 3,145,728 to 3,407,871), chunk 14 (bytes 3,670,016 to \
                 3,932,159), and 2 more ranges",
            ),
            (Difference::Extra(Kind::File), "extra: a"),
            (Difference::Extra(Kind::Folder), "extra: a: a folder"),
            (Difference::Missing(Kind::File), "missing: a"),
            (Difference::Missing(Kind::Folder), "missing: a: a folder"),
            (
                Difference::OtherKind { found: Kind::Symlink, expected: Kind::File },
                "other kind: a: a symbolic link instead of a file",
            ),
            (
                Difference::Target { found: Some("b\x1b".into()), expected: "c".into() },
                "different: a: leads to b\\u{1b} instead of c",
            ),
            (
                Difference::Target { found: None, expected: "c".into() },
                "different: a: leads to a place that no link may name instead of c",
            ),
            (Difference::Unreadable("no\x1b".into()), "unreadable: a: no\\u{1b}"),
            (
                Difference::Metadata {
                    mode: Some((Mode::masked(0o644), Mode::masked(0o600))),
                    modified: Some((Timestamp::clamped(5, 7), Timestamp::clamped(6, 0))),
                },
                "metadata: a: mode 0644 instead of 0600, changed at 5.000000007 s instead of 6.000000000 s",
            ),
        ];
        for (what, expected) in cases {
            assert_eq!(told("a", what.clone()), expected);
            let value = value(&Finding { path: "a".into(), what });
            assert_eq!((&value["event"], &value["path"]), (&"finding".into(), &"a".into()));
            assert!(value["what"].is_string());
        }
        assert_eq!(told("a\x1b[2J", Difference::Extra(Kind::File)), "extra: a\\u{1b}[2J");
    }
}
