//! The listing of an offer, and the questions that are asked about it.

use crate::cli::answers::Answers;
use crate::cli::units;
use haul::printable::printable;
use haul::transfer::{Cancel, Conflict, Decision, OfferLink, OfferSummary};

/// Entries shown where nobody is asked.
pub(crate) const LINES_UNASKED: usize = 20;
/// Rows of a terminal that the total and the question need.
const ROWS_RESERVED: usize = 6;

/// The offer as text: at most `lines_max` entries, and how many were left out.
pub(crate) fn text(offer: &OfferSummary, lines_max: usize, can_list_all: bool) -> String {
    let mut text = String::new();
    for entry in offer.entries.iter().take(lines_max) {
        let (size, tail) =
            (size(entry.folder, entry.bytes, entry.link.as_ref()), tail(entry.folder, entry.link.as_ref()));
        let is_symbolic = matches!(entry.link, Some(OfferLink::Symbolic(_)));
        let remarks = [
            (entry.exists, "exists here"),
            (entry.hidden, "hidden"),
            (entry.refused && !is_symbolic, "left out for its name"),
            (entry.refused && is_symbolic, "a link that is left out"),
        ];
        let remarks: Vec<_> = remarks.into_iter().filter(|(holds, _)| *holds).map(|(_, remark)| remark).collect();
        let remarks = if remarks.is_empty() { String::new() } else { format!("  ({})", remarks.join(", ")) };
        text.push_str(&format!("{size:>12}  {}{tail}{remarks}\n", printable(&entry.path)));
    }
    let cut = offer.entries.len().saturating_sub(lines_max) as u64;
    let left_out = units::grouped(cut + offer.truncated);
    if cut > 0 && can_list_all {
        text.push_str(&format!("  … and {left_out} more, `l` lists all\n"));
    } else if cut + offer.truncated > 0 {
        text.push_str(&format!("  … and {left_out} more that are not shown\n"));
    }
    text + &total(offer)
}

/// What an entry is, or how long.
pub(crate) fn size(is_folder: bool, bytes: u64, link: Option<&OfferLink>) -> String {
    match link {
        Some(OfferLink::Hard(_)) => "hard link".to_owned(),
        Some(OfferLink::Symbolic(_)) => "link".to_owned(),
        None if is_folder => "folder".to_owned(),
        None => units::size(bytes),
    }
}

/// What stands after an entry's path.
pub(crate) fn tail(is_folder: bool, link: Option<&OfferLink>) -> String {
    match link {
        Some(OfferLink::Hard(first)) => format!(" = {}", printable(first)),
        Some(OfferLink::Symbolic(target)) => format!(" -> {}", printable(target)),
        None if is_folder => "/".to_owned(),
        None => String::new(),
    }
}

/// Asks whether to accept the offer, and what to do about names that are taken.
///
/// `settled` says that a conflict rule was chosen before. `show` puts text before the user.
pub(crate) fn ask(
    offer: &OfferSummary,
    settled: bool,
    rows: usize,
    answers: &mut dyn Answers,
    cancel: &Cancel,
    show: &mut dyn FnMut(&str),
) -> Decision {
    let fits = rows.saturating_sub(ROWS_RESERVED).max(3);
    // A cut that saves a line or two would only cost a key.
    let lines_max = if offer.entries.len() <= fits { offer.entries.len() } else { fits };
    show(&text(offer, lines_max, true));
    loop {
        let question = if lines_max < offer.entries.len() { "Accept? [y/N/l] " } else { "Accept? [y/N] " };
        match answers.ask(question, cancel).as_deref().map(str::trim) {
            Some("y" | "Y" | "yes") => break,
            Some("l" | "L") => show(&text(offer, usize::MAX, true)),
            _ => return Decision::Refuse,
        }
    }
    let existing = existing(offer);
    if existing == 0 || settled {
        return Decision::Accept;
    }
    show("Files that have the same content are left as they are. What about the others?\n");
    match answers.ask("[o]verwrite, [r]ename the received ones, [s]kip them, or [C]ancel? ", cancel).as_deref() {
        Some("o" | "O") => Decision::AcceptWith(Conflict::Overwrite),
        Some("r" | "R") => Decision::AcceptWith(Conflict::Rename),
        Some("s" | "S") => Decision::AcceptWith(Conflict::Skip),
        _ => Decision::Refuse,
    }
}

fn total(offer: &OfferSummary) -> String {
    let mut text = units::contents(offer.files, offer.folders, offer.bytes);
    if let Some(free) = offer.free_bytes {
        text.push_str(&format!("; {} free here", units::size(free)));
        if free < offer.bytes {
            text.push_str(", which is too little unless much of it is here already");
        }
    }
    text.push('\n');
    let existing = existing(offer);
    if existing > 0 {
        text.push_str(&format!(
            "{} here already\n",
            if existing == 1 { "1 name is".into() } else { format!("{existing} names are") }
        ));
    }
    text
}

fn existing(offer: &OfferSummary) -> usize {
    offer.entries.iter().filter(|entry| entry.exists).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::answers::Script;
    use haul::transfer::OfferLine;

    fn line(path: &str, bytes: u64) -> OfferLine {
        let link = None;
        OfferLine { path: path.into(), folder: false, bytes, exists: false, hidden: false, refused: false, link }
    }

    fn offer() -> OfferSummary {
        OfferSummary {
            entries: vec![
                OfferLine { folder: true, ..line("films", 0) },
                line("films/a.mkv", 3 << 29),
                OfferLine { exists: true, ..line("notes.txt", 3) },
                OfferLine { exists: true, hidden: true, ..line("x/.env\x1b[2J", 900) },
            ],
            truncated: 0,
            files: 3,
            folders: 1,
            bytes: (3 << 29) + 903,
            free_bytes: Some(5 << 30),
        }
    }

    fn asked(offer: &OfferSummary, settled: bool, rows: usize, answers: &[&str]) -> (Decision, String, Vec<String>) {
        let mut script = Script::of(answers);
        let mut shown = String::new();
        let mut show = |text: &str| shown.push_str(text);
        let decision = ask(offer, settled, rows, &mut script, &Cancel::new(), &mut show);
        (decision, shown, script.asked)
    }

    #[test]
    fn a_short_listing_is_shown_whole() {
        let expected = "      folder  films/\n    1.50 GiB  films/a.mkv\n         3 B  notes.txt  (exists here)\n       \
                        900 B  x/.env\\u{1b}[2J  (exists here, hidden)\n3 files, 1 folder, 1.50 GiB; 5.00 GiB free here\n2 \
                        names are here already\n";
        assert_eq!(text(&offer(), 20, false), expected);
    }

    #[test]
    fn links_show_where_they_lead_and_cannot_drive_a_terminal() {
        let symbolic = |target: &str| Some(OfferLink::Symbolic(target.into()));
        let entries = vec![
            OfferLine { link: symbolic("../a"), ..line("t/l", 0) },
            OfferLine { link: symbolic("b\x1b[2J\u{202e}"), refused: true, ..line("t/m", 0) },
            OfferLine { link: Some(OfferLink::Hard("t/a\u{9b}".into())), ..line("t/n", 0) },
        ];
        let shown = text(&OfferSummary { entries, ..offer() }, 20, false);
        assert!(
            shown.starts_with(
                "        link  t/l -> ../a\n        link  t/m -> b\\u{1b}[2J\\u{202e}  (a link that is left out)\n   \
             hard link  t/n = t/a\\u{9b}\n"
            ),
            "{shown}"
        );
    }

    #[test]
    fn a_cut_is_always_visible() {
        let mut offer = offer();
        assert!(text(&offer, 3, true).contains("  … and 1 more, `l` lists all\n"));
        assert!(text(&offer, 1, false).contains("  … and 3 more that are not shown\n"));
        offer.truncated = 9000;
        assert!(text(&offer, 3, true).contains("  … and 9,001 more, `l` lists all\n"));
        assert!(text(&offer, 4, true).contains("  … and 9,000 more that are not shown\n"));
    }

    #[test]
    fn too_little_room_is_pointed_out() {
        let offer = OfferSummary { free_bytes: Some(1), ..offer() };
        assert!(text(&offer, 9, true).contains("; 1 B free here, which is too little unless"));
    }

    #[test]
    fn only_a_clear_yes_accepts() {
        for yes in ["y", "Y", "yes", " y "] {
            assert_eq!(asked(&offer(), true, 24, &[yes]).0, Decision::Accept, "{yes}");
        }
        for no in ["", "n", "N", "no", "q", "yy"] {
            assert_eq!(asked(&offer(), true, 24, &[no]).0, Decision::Refuse, "{no}");
        }
        assert_eq!(asked(&offer(), true, 24, &[]).0, Decision::Refuse, "end of input");
    }

    #[test]
    fn a_long_listing_is_cut_and_listed_on_demand() {
        let offer = OfferSummary { entries: (0..50).map(|n| line(&format!("f{n}"), n)).collect(), ..offer() };
        let (decision, shown, asked) = asked(&offer, true, 24, &["l", "y"]);
        assert_eq!(decision, Decision::Accept);
        assert_eq!(asked, ["Accept? [y/N/l] ", "Accept? [y/N/l] "]);
        assert!(shown.contains("… and 32 more, `l` lists all") && shown.contains("  f49\n"), "{shown}");
    }

    #[test]
    fn names_that_are_taken_are_asked_about_unless_a_rule_is_given() {
        for (answer, decision) in [
            ("o", Decision::AcceptWith(Conflict::Overwrite)),
            ("r", Decision::AcceptWith(Conflict::Rename)),
            ("s", Decision::AcceptWith(Conflict::Skip)),
            ("", Decision::Refuse),
        ] {
            assert_eq!(asked(&offer(), false, 24, &["y", answer]).0, decision);
        }
        assert_eq!(asked(&offer(), true, 24, &["y"]).2, ["Accept? [y/N] "]);
    }
}
