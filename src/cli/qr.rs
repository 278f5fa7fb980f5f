//! The QR code of a link: on the terminal where it fits, and in a file.

use crate::cli::terminal::Terminal;
use haul::printable::printable_path;
use haul::qr::{Blocks, Correction, QUIET_MODULES, Qr, QrFault};
use haul::secret::Link;
use haul::transfer::is_public;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Rows that stay free below a code and its link: one for a short code, one for the progress.
const ROWS_BELOW: usize = 2;
/// Rows of light above a code, which may leave a small window for a link of several rows.
const ROWS_SPARED: usize = QUIET_MODULES / 2;

/// What is wanted of a link's QR code.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// On the terminal, where one can be shown.
    pub(crate) on_terminal: bool,
    pub(crate) file: Option<QrFile>,
    /// The user chose the link's address: it is encoded whatever it is.
    pub(crate) address_chosen: bool,
}

/// Where a picture of a code is written, and as what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct QrFile {
    pub(crate) path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Png,
    Svg,
}

/// Reads the name of a picture; its ending says what it becomes.
pub(crate) fn parse_file(text: &str) -> Result<QrFile, String> {
    let path = PathBuf::from(text);
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
    let kind = match ending.as_deref() {
        Some("png") => Kind::Png,
        Some("svg") => Kind::Svg,
        _ => return Err("its name ends in neither .svg nor .png".into()),
    };
    Ok(QrFile { path, kind })
}

/// The code of `link` as it is shown on `terminal`. `None` where none is wanted, can be shown, fits, or would lead
/// anybody here.
///
/// It is drawn in black on white by colour codes, so a terminal without colours shows none. Where it does not fit, the
/// correction is lowered, then the last address is left out, and so on.
pub(crate) fn on_terminal(link: &str, wish: &Wish, terminal: &Terminal) -> Option<Zeroizing<String>> {
    if !wish.on_terminal || !terminal.redraws || !terminal.colors {
        return None;
    }
    let blocks = if terminal.utf8 { Blocks::Half } else { Blocks::Spaces };
    let below = ROWS_BELOW + link.len().div_ceil(terminal.columns.max(1)).saturating_sub(ROWS_SPARED);
    let room = (terminal.columns, terminal.rows.saturating_sub(below));
    let (link, addresses) = encodable(link, wish.address_chosen)?;
    let fits = |qr: &Qr| {
        let (columns, rows) = qr.cells(blocks);
        columns <= room.0 && rows <= room.1
    };
    let shorter_and_shorter = (1..=addresses.len()).rev().map(|count| text(&link, &addresses[..count]));
    let codes = shorter_and_shorter.flat_map(|text| {
        [Correction::Medium, Correction::Low].map(|correction| Qr::of(text.as_ref()?, correction).ok())
    });
    codes.flatten().find(fits).map(|qr| qr.to_terminal(blocks))
}

/// Writes the picture that is wanted, for its owner's eyes only. What went wrong is a printable sentence.
pub(crate) fn write_file(link: &str, wish: &Wish) -> Result<(), String> {
    let Some(QrFile { path, kind }) = &wish.file else { return Ok(()) };
    let failed = |why: &str| format!("the QR code was not written to `{}`: {why}", printable_path(path));
    let (link, addresses) = encodable(link, wish.address_chosen)
        .ok_or_else(|| failed("no address of the link is one of this network; --address chooses one all the same"))?;
    let text = text(&link, &addresses).ok_or_else(|| failed("the link cannot be encoded"))?;
    let picture = picture(&text, *kind).map_err(|fault| failed(&fault.to_string()))?;
    write_new(path, &picture).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => failed("the file exists and holds something else"),
        _ => failed(&error.to_string()),
    })
}

/// The link with those of its addresses that a code may carry. `None` where there is none.
///
/// A public address is none: a phone's browser does not let a page from there reach this network. Nor is this machine's
/// own loopback, which leads whoever scans it to themselves.
fn encodable(link: &str, address_chosen: bool) -> Option<(Link, Vec<SocketAddr>)> {
    let link = Link::parse(link).ok()?;
    let may = |address: &&SocketAddr| address_chosen || !(is_public(address.ip()) || address.ip().is_loopback());
    let addresses: Vec<SocketAddr> = link.addresses().iter().filter(may).copied().collect();
    (!addresses.is_empty()).then_some((link, addresses))
}

fn text(link: &Link, addresses: &[SocketAddr]) -> Option<Zeroizing<String>> {
    Some(Link::new(addresses, link.room(), link.key().clone()).ok()?.to_text())
}

fn picture(text: &str, kind: Kind) -> Result<Zeroizing<Vec<u8>>, QrFault> {
    let qr = Qr::of(text, Correction::Medium)?;
    match kind {
        Kind::Png => qr.to_png(),
        Kind::Svg => Ok(Zeroizing::new(qr.to_svg().as_bytes().to_vec())),
    }
}

/// Creates a file that nobody else can read. One that holds the same already is left as it is.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(mut file) => file.write_all(bytes).inspect_err(|_| {
            // Half a picture is none, and would be in the way of the next one.
            let _ = std::fs::remove_file(path);
        }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && holds(path, bytes) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether a file that can be read holds exactly `bytes`.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    // A pipe or a terminal of that name would keep its reader waiting.
    let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    let read = || {
        let mut found = Zeroizing::new(Vec::with_capacity(bytes.len() + 1));
        std::fs::File::open(path)?.take(bytes.len() as u64 + 1).read_to_end(&mut found)?;
        io::Result::Ok(*found == bytes)
    };
    is_file && read().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use haul::secret::{Key, Room};

    const TERMINAL: Terminal =
        Terminal { redraws: true, answers: true, colors: true, utf8: true, columns: 80, rows: 24 };

    fn link(addresses: &[&str]) -> Zeroizing<String> {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Link::new(&addresses, Room::from_bytes([3; 16]), Key::from_bytes([7; 16])).unwrap().to_text()
    }

    fn wish() -> Wish {
        Wish { on_terminal: true, ..Wish::default() }
    }

    /// The code of a link with exactly these addresses.
    fn code(addresses: &[&str], correction: Correction) -> String {
        Qr::of(&link(addresses), correction).unwrap().to_terminal(Blocks::Half).to_string()
    }

    fn shown(addresses: &[&str], wish: &Wish, terminal: Terminal) -> Option<String> {
        on_terminal(&link(addresses), wish, &terminal).map(|text| text.to_string())
    }

    #[test]
    fn what_does_not_fit_loses_correction_first_and_then_addresses_from_the_end() {
        let all = ["192.168.1.23:4285", "10.0.0.5:4285", "10.0.0.6:4285"];
        assert_eq!(shown(&all[..1], &wish(), TERMINAL), Some(code(&all[..1], Correction::Medium)));
        assert_eq!(shown(&all[..2], &wish(), TERMINAL), Some(code(&all[..2], Correction::Low)));
        assert_eq!(shown(&all, &wish(), TERMINAL), Some(code(&all[..2], Correction::Low)));
        let tall = Terminal { rows: 50, ..TERMINAL };
        assert_eq!(shown(&all, &wish(), tall), Some(code(&all, Correction::Medium)));
        for small in [Terminal { rows: 22, ..TERMINAL }, Terminal { columns: 40, ..tall }] {
            assert_eq!(shown(&all, &wish(), small), None);
        }
    }

    #[test]
    fn a_link_of_several_rows_leaves_the_code_its_modules() {
        let all: Vec<_> = (1..8).map(|number| format!("[fd00::1234:5678:9abc:{number}]:4285")).collect();
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        for count in 1..all.len() {
            let rows = link(&all[..count]).len().div_ceil(80);
            for height in 20..40 {
                let text = shown(&all[..count], &wish(), Terminal { rows: height, ..TERMINAL });
                let taken = text.map_or(0, |text| text.lines().count()) + rows + ROWS_BELOW;
                assert!(
                    taken <= height.max(rows + ROWS_BELOW) + ROWS_SPARED,
                    "{count} addresses, {height} rows: {taken}"
                );
            }
        }
    }

    #[test]
    fn a_public_address_is_in_no_code_unless_it_was_chosen() {
        let (private, public) = ("192.168.1.23:4285", "203.0.113.9:4285");
        let tall = Terminal { rows: 50, ..TERMINAL };
        let of_private = code(&[private], Correction::Medium);
        for public in [public, "[2a00:1450::1]:4285", "127.0.0.1:4285", "[::1]:4285"] {
            assert_eq!(shown(&[public, private], &wish(), tall).as_ref(), Some(&of_private), "{public}");
            assert_eq!(shown(&[public], &wish(), tall), None, "{public}");
        }
        let chosen = Wish { address_chosen: true, ..wish() };
        assert_eq!(shown(&[public], &chosen, tall), Some(code(&[public], Correction::Medium)));
    }

    #[test]
    fn a_terminal_that_cannot_show_one_shows_none() {
        let addresses = ["192.168.1.23:4285"];
        for terminal in [Terminal { colors: false, ..TERMINAL }, Terminal { redraws: false, ..TERMINAL }] {
            assert_eq!(shown(&addresses, &wish(), terminal), None);
        }
        assert_eq!(shown(&addresses, &Wish::default(), TERMINAL), None);
        let ascii = Terminal { utf8: false, ..TERMINAL };
        assert_eq!(shown(&addresses, &wish(), ascii), None, "spaces take twice the room");
        let large = Terminal { columns: 100, rows: 50, ..ascii };
        assert!(shown(&addresses, &wish(), large).is_some_and(|text| text.is_ascii()));
    }

    #[test]
    fn a_picture_is_named_by_its_ending() {
        assert_eq!(parse_file("a/b.svg").map(|file| file.kind), Ok(Kind::Svg));
        assert_eq!(parse_file("B.PNG").map(|file| file.kind), Ok(Kind::Png));
        for other in ["", "svg", "a.jpg", ".png", "a.svg/"] {
            assert!(parse_file(other).is_err() || other == "a.svg/", "{other}");
        }
    }

    #[test]
    fn a_picture_is_its_owners_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let link = link(&["192.168.1.23:4285"]);
        for name in ["code.svg", "code.png"] {
            let path = folder.path().join(name);
            let wish = Wish { file: Some(parse_file(path.to_str().unwrap()).unwrap()), ..Wish::default() };
            write_file(&link, &wish).unwrap();
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            }
            let bytes = std::fs::read(&path).unwrap();
            assert!(bytes.len() > 100);
            write_file(&link, &wish).expect("the same code again");
            std::fs::write(&path, b"somebody's work").unwrap();
            let fault = write_file(&link, &wish).unwrap_err();
            assert!(fault.ends_with("the file exists and holds something else"), "{fault}");
            assert_eq!(std::fs::read(&path).unwrap(), b"somebody's work");
        }
        let missing = folder.path().join("missing/code.svg");
        let wish = Wish { file: Some(parse_file(missing.to_str().unwrap()).unwrap()), ..Wish::default() };
        let fault = write_file(&link, &wish).unwrap_err();
        assert!(fault.starts_with("the QR code was not written to `") && !fault.contains("HTTP"), "{fault}");
    }
}
