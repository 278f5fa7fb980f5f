//! The QR code that `haul send` shows on a real terminal of 80 columns and 24 rows decodes to its link.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "support/screen.rs"]
mod screen;

use haul::secret::Link;
use screen::{DARK, LIGHT, photograph};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const SIZE: (usize, usize) = (80, 24);
/// Far longer than anything here takes: reached only where it would never happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal with one program on it, which ends with its value.
struct Tmux {
    folder: tempfile::TempDir,
}

impl Tmux {
    /// Runs the binary with `arguments` and the variables `environment`. `None` where this machine has no tmux.
    fn run(arguments: &str, environment: &str) -> Option<Self> {
        let has_tmux = Command::new("tmux").arg("-V").stdout(Stdio::null()).status().is_ok();
        if !has_tmux {
            eprintln!("tmux is not installed, so what a real terminal shows is not looked at");
            return None;
        }
        let tmux = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(tmux.path("data"), b"data").unwrap();
        let line = format!(
            "cd '{}' && exec env -u NO_COLOR -u LC_ALL -u LC_CTYPE LANG=C.UTF-8 HAUL_NO_ANNOUNCE=1 XDG_STATE_HOME=state \
             XDG_CACHE_HOME=cache {environment} {} {arguments}",
            tmux.folder.path().display(),
            env!("CARGO_BIN_EXE_haul")
        );
        let (columns, rows) = (SIZE.0.to_string(), SIZE.1.to_string());
        let started = tmux.tell(&["new-session", "-d", "-x", &columns, "-y", &rows, &line]);
        assert!(started.status.success(), "{started:?}");
        Some(tmux)
    }

    /// What it shows once that contains `wanted`, with its colour codes and the spaces at the ends of its lines.
    fn screen(&self, wanted: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let shown = String::from_utf8(self.tell(&["capture-pane", "-e", "-p", "-N"]).stdout).unwrap();
            if shown.contains(wanted) {
                return shown;
            }
            assert!(Instant::now() < until, "`{wanted}` is not on the screen:\n{shown}");
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn tell(&self, arguments: &[&str]) -> Output {
        let socket = self.path("socket");
        Command::new("tmux").args(["-u", "-f", "/dev/null", "-S"]).arg(&socket).args(arguments).output().unwrap()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.tell(&["kill-server"]);
    }
}

/// The link on a screen, where it has a row of its own.
fn link_on(shown: &str) -> &str {
    // Behind the codes that end the colours of the code above it.
    let line = |line| {
        str::rsplit_once(line, "\u{1b}[").map_or(Some(line), |(_, rest)| rest.split_once('m').map(|(_, text)| text))
    };
    let mut lines = shown.lines().filter_map(line);
    lines.find(|line| line.starts_with("HTTP://")).unwrap_or_else(|| panic!("no link on\n{shown}"))
}

#[test]
fn the_code_on_a_terminal_of_80_by_24_is_the_link_in_dark_and_light() {
    let arguments = "send data --bind 127.0.0.1:0 --address 192.168.1.23";
    let Some(tmux) = Tmux::run(arguments, "") else { return };
    let shown = tmux.screen("Waiting for a receiver");
    let link = link_on(&shown);
    Link::parse(link).unwrap();
    for theme in [DARK, LIGHT] {
        assert_eq!(photograph(&shown, SIZE, theme).read(), [link], "{theme:?}\n{shown}");
    }
}

#[test]
fn nobody_gets_a_code_who_wants_none_or_could_not_read_it() {
    let send = "send data --bind 127.0.0.1:0 --address 192.168.1.23";
    for (arguments, environment) in [
        (format!("{send} --no-qr"), ""),
        (send.to_owned(), "HAUL_NO_QR=1"),
        (send.to_owned(), "NO_COLOR=1"),
        ("send data --bind 127.0.0.1:0".to_owned(), ""),
    ] {
        let Some(tmux) = Tmux::run(&arguments, environment) else { return };
        let shown = tmux.screen("Waiting for a receiver");
        assert!(!shown.contains('\u{2584}') && !shown.contains("\u{1b}[30m"), "{arguments} {environment}\n{shown}");
        link_on(&shown);
    }
}

#[test]
fn pictures_are_written_for_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), b"data").unwrap();
    for name in ["code.svg", "code.png"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_haul"))
            .args(["send", "data", "--bind", "127.0.0.1:0", "--address", "192.168.1.23", "--qr-file", name])
            .current_dir(folder.path())
            .env("HAUL_NO_ANNOUNCE", "1")
            .env("XDG_STATE_HOME", folder.path().join("state"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let path = folder.path().join(name);
        let until = Instant::now() + PATIENCE;
        while !has_end(&path) && Instant::now() < until {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(has_end(&path), "{name} was not written");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

/// Whether a picture is there to its end.
fn has_end(path: &Path) -> bool {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.ends_with(b"</svg>\n") || bytes.ends_with(b"IEND\xae\x42\x60\x82")
}
