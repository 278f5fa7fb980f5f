//! What a dry run says, and what filters left out, for people and for programs.

use crate::cli::{listing, units};
use haul::printable::{printable, printable_path};
use haul::source::LeftOut;
use haul::transfer::{Fate, Forecast, Foreseen, OfferLink};
use serde_json::{Value, json};

/// One entry: its size, its path, and what would become of it.
pub(crate) fn entry(foreseen: &Foreseen) -> String {
    let Foreseen { path, folder, bytes, link, fate, reused } = foreseen;
    let (size, tail) = (listing::size(*folder, *bytes, link.as_ref()), listing::tail(*folder, link.as_ref()));
    let is_link = link.is_some();
    let word = match fate {
        Fate::Conflict => "conflict: its name is taken",
        Fate::Fail => "fails",
        Fate::FailWithFirst => "fails: the file that it is another name of would not be here",
        Fate::Fetch => "fetched",
        Fate::Folder => "is here",
        Fate::Make => "made",
        Fate::Offer => "",
        Fate::Refuse => "refused for its name",
        Fate::Rename if is_link => "made under another name",
        Fate::Rename => "fetched, saved under another name",
        Fate::Replace if is_link => "made, replaces what is here",
        Fate::Replace => "fetched, replaces what is here",
        Fate::Reuse if is_link => "the same is here",
        Fate::Reuse => "reused: the same is here",
        Fate::Skip => "skipped: its name is taken",
        Fate::Unasked => "left out: symbolic links are made with --symlinks alone",
    };
    let mut line = format!("{size:>12}  {}{tail}", printable(path));
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
        (forecast.links_to_make, "link", "to make"),
        (forecast.links_reused, "link", "here"),
        (forecast.files_skipped, "name", "skipped"),
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
    let Foreseen { path, folder, bytes, link, fate, reused } = foreseen;
    let (to, symbolic) = match link {
        None => (None, None),
        Some(OfferLink::Hard(first)) => (Some(first), Some(false)),
        Some(OfferLink::Symbolic(target)) => (Some(target), Some(true)),
    };
    let reused = if *fate == Fate::Reuse { bytes } else { reused };
    let fate = match fate {
        Fate::Conflict => "conflict",
        Fate::Fail | Fate::FailWithFirst => "fail",
        Fate::Fetch => "fetch",
        Fate::Folder => "here",
        Fate::Make => "make",
        Fate::Offer => "offer",
        Fate::Refuse => "refuse",
        Fate::Rename => "rename",
        Fate::Replace => "replace",
        Fate::Reuse => "reuse",
        Fate::Skip => "skip",
        Fate::Unasked => "unasked",
    };
    json!({
        "event": "entry", "path": path, "folder": folder, "bytes": bytes, "to": to, "symbolic": symbolic, "fate": fate,
        "bytes_reused": reused,
    })
}

pub(crate) fn total_value(forecast: &Forecast) -> Value {
    json!({
        "event": "forecast", "files": forecast.files, "folders": forecast.folders, "bytes": forecast.bytes,
        "bytes_to_fetch": forecast.bytes_to_fetch, "bytes_reused": forecast.bytes_reused,
        "files_to_fetch": forecast.files_to_fetch, "files_reused": forecast.files_reused,
        "files_skipped": forecast.files_skipped, "links_to_make": forecast.links_to_make,
        "links_reused": forecast.links_reused, "conflicts": forecast.conflicts, "refused": forecast.refused,
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
        let foreseen = |fate, reused| {
            let path = "a\x1b".into();
            Foreseen { path, folder: false, bytes: 2048, link: None, fate, reused }
        };
        assert_eq!(entry(&foreseen(Fate::Offer, 0)), "    2.00 KiB  a\\u{1b}");
        assert_eq!(entry(&foreseen(Fate::Fetch, 1024)), "    2.00 KiB  a\\u{1b}  (fetched; 1.00 KiB of it reused)");
        let folder = Foreseen { folder: true, ..foreseen(Fate::Make, 0) };
        assert_eq!(entry(&folder), "      folder  a\\u{1b}/  (made)");
        assert_eq!(entry_value(&foreseen(Fate::Reuse, 0))["bytes_reused"], 2048);
        let link = |link, fate| Foreseen { bytes: 0, link: Some(link), ..foreseen(fate, 0) };
        let (hard, symbolic) = (OfferLink::Hard("t/\x1b".into()), OfferLink::Symbolic("../\x1b".into()));
        assert_eq!(entry(&link(hard.clone(), Fate::Make)), "   hard link  a\\u{1b} = t/\\u{1b}  (made)");
        assert_eq!(entry(&link(symbolic, Fate::Reuse)), "        link  a\\u{1b} -> ../\\u{1b}  (the same is here)");
        let value = entry_value(&link(hard, Fate::FailWithFirst));
        assert_eq!(
            (&value["to"], &value["symbolic"], &value["fate"]),
            (&"t/\x1b".into(), &false.into(), &"fail".into())
        );
    }

    #[test]
    fn the_total_leaves_out_what_there_is_none_of() {
        let forecast = Forecast { files: 3, bytes: 30, bytes_to_fetch: 20, bytes_reused: 10, ..Forecast::default() };
        assert_eq!(total(&forecast), "3 files, 30 B: 20 B to fetch, 10 B reused");
        let forecast = Forecast { conflicts: 1, refused: 2, files_skipped: 1, free_bytes: Some(1024), ..forecast };
        let forecast = Forecast { links_to_make: 3, links_reused: 1, ..forecast };
        assert_eq!(
            total(&forecast),
            "3 files, 30 B: 20 B to fetch, 10 B reused; 3 links to make; 1 link here; 1 name skipped; 1 name in \
             conflict; 2 names refused; 1.00 KiB free here"
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
