//! What a dry run says, and what filters left out, for people and for programs.

use crate::cli::units;
use haul::printable::{printable, printable_path};
use haul::source::LeftOut;
use haul::transfer::{Fate, Forecast, Foreseen};
use serde_json::{Value, json};

/// One entry: its size, its path, and what would become of it.
pub(crate) fn entry(foreseen: &Foreseen) -> String {
    let Foreseen { path, folder, bytes, fate, reused } = foreseen;
    let size = if *folder { "folder".to_owned() } else { units::size(*bytes) };
    let slash = if *folder { "/" } else { "" };
    let word = match fate {
        Fate::Conflict => "conflict: its name is taken",
        Fate::Fail => "fails",
        Fate::Fetch => "fetched",
        Fate::Folder => "is here",
        Fate::Make => "made",
        Fate::Offer => "",
        Fate::Refuse => "refused for its name",
        Fate::Rename => "fetched, saved under another name",
        Fate::Replace => "fetched, replaces what is here",
        Fate::Reuse => "reused: the same is here",
        Fate::Skip => "skipped: its name is taken",
    };
    let mut line = format!("{size:>12}  {}{slash}", printable(path));
    if !word.is_empty() {
        line.push_str(&format!("  ({word}"));
        if *reused > 0 && *fate != Fate::Reuse {
            line.push_str(&format!("; {} of it reused", units::size(*reused)));
        }
        line.push(')');
    }
    line
}

/// All entries together.
pub(crate) fn total(forecast: &Forecast) -> String {
    let Forecast { files, folders, bytes, bytes_to_fetch, bytes_reused, .. } = forecast;
    let mut text = format!(
        "{}: {} to fetch, {} reused",
        units::contents(*files, *folders, *bytes),
        units::size(*bytes_to_fetch),
        units::size(*bytes_reused)
    );
    let remarks = [
        (forecast.files_skipped, "file", "skipped"),
        (forecast.conflicts, "name", "in conflict"),
        (forecast.refused, "name", "refused"),
    ];
    for (number, noun, what) in remarks.into_iter().filter(|(number, ..)| *number > 0) {
        text.push_str(&format!("; {} {what}", units::count(number, noun)));
    }
    if let Some(free) = forecast.free_bytes {
        text.push_str(&format!("; {} free here", units::size(free)));
    }
    text
}

/// What filters left out; each path as well where that is wanted.
pub(crate) fn left_out(left_out: &LeftOut, with_paths: bool) -> String {
    let LeftOut { files, folders, paths } = left_out;
    let parts = [(*files, "file"), (*folders, "folder")];
    let parts: Vec<_> =
        parts.into_iter().filter(|(number, _)| *number > 0).map(|(number, noun)| units::count(number, noun)).collect();
    let mut text = format!("{} left out by filters", parts.join(" and "));
    if with_paths {
        for path in paths {
            text.push_str(&format!("\n  left out: {}", printable_path(path)));
        }
        if left_out.untold() > 0 {
            text.push_str(&format!("\n  … and {} more", units::grouped(left_out.untold())));
        }
    }
    text
}

pub(crate) fn entry_value(foreseen: &Foreseen) -> Value {
    let Foreseen { path, folder, bytes, fate, reused } = foreseen;
    let reused = if *fate == Fate::Reuse { bytes } else { reused };
    let fate = match fate {
        Fate::Conflict => "conflict",
        Fate::Fail => "fail",
        Fate::Fetch => "fetch",
        Fate::Folder => "here",
        Fate::Make => "make",
        Fate::Offer => "offer",
        Fate::Refuse => "refuse",
        Fate::Rename => "rename",
        Fate::Replace => "replace",
        Fate::Reuse => "reuse",
        Fate::Skip => "skip",
    };
    json!({"event": "entry", "path": path, "folder": folder, "bytes": bytes, "fate": fate, "bytes_reused": reused})
}

pub(crate) fn total_value(forecast: &Forecast) -> Value {
    json!({
        "event": "forecast", "files": forecast.files, "folders": forecast.folders, "bytes": forecast.bytes,
        "bytes_to_fetch": forecast.bytes_to_fetch, "bytes_reused": forecast.bytes_reused,
        "files_to_fetch": forecast.files_to_fetch, "files_reused": forecast.files_reused,
        "files_skipped": forecast.files_skipped, "conflicts": forecast.conflicts, "refused": forecast.refused,
        "free_bytes": forecast.free_bytes,
    })
}

pub(crate) fn left_out_value(left_out: &LeftOut) -> Value {
    let paths: Vec<_> = left_out.paths.iter().map(|path| path.to_string_lossy()).collect();
    json!({
        "event": "left_out", "files": left_out.files, "folders": left_out.folders, "paths": paths,
        "untold": left_out.untold(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_what_becomes_of_it() {
        let foreseen = |fate, reused| Foreseen { path: "a\x1b".into(), folder: false, bytes: 2048, fate, reused };
        assert_eq!(entry(&foreseen(Fate::Offer, 0)), "    2.00 KiB  a\\u{1b}");
        assert_eq!(entry(&foreseen(Fate::Fetch, 1024)), "    2.00 KiB  a\\u{1b}  (fetched; 1.00 KiB of it reused)");
        let folder = Foreseen { folder: true, ..foreseen(Fate::Make, 0) };
        assert_eq!(entry(&folder), "      folder  a\\u{1b}/  (made)");
        assert_eq!(entry_value(&foreseen(Fate::Reuse, 0))["bytes_reused"], 2048);
    }

    #[test]
    fn the_total_leaves_out_what_there_is_none_of() {
        let forecast = Forecast { files: 3, bytes: 30, bytes_to_fetch: 20, bytes_reused: 10, ..Forecast::default() };
        assert_eq!(total(&forecast), "3 files, 30 B: 20 B to fetch, 10 B reused");
        let forecast = Forecast { conflicts: 1, refused: 2, files_skipped: 1, free_bytes: Some(1024), ..forecast };
        assert_eq!(
            total(&forecast),
            "3 files, 30 B: 20 B to fetch, 10 B reused; 1 file skipped; 1 name in conflict; 2 names refused; 1.00 KiB \
             free here"
        );
    }

    #[test]
    fn what_was_left_out_is_counted_and_named_on_demand() {
        let out = LeftOut { files: 12, folders: 1, paths: vec!["t/a.log".into(), "t/\x1b/".into()] };
        assert_eq!(left_out(&out, false), "12 files and 1 folder left out by filters");
        let named = left_out(&out, true);
        assert!(named.ends_with("\n  left out: t/a.log\n  left out: t/\\u{1b}/\n  … and 11 more"), "{named}");
        assert_eq!(left_out(&LeftOut { files: 1, ..LeftOut::default() }, false), "1 file left out by filters");
    }
}
