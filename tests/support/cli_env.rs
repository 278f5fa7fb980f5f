//! The `haul` binary as a user meets it: folders of its own, no inherited settings, text in and out.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses the part that it needs")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Variables that would change what the binary does.
const VARIABLES: &[&str] = &[
    "CLICOLOR_FORCE",
    "COLUMNS",
    "HAUL_ADDRESS",
    "HAUL_BIND",
    "HAUL_COLOR",
    "HAUL_COMPRESS",
    "HAUL_INTO",
    "HAUL_LANES",
    "HAUL_LIMIT",
    "HAUL_LINK",
    "HAUL_NO_QR",
    "NO_COLOR",
    "TERM",
];

/// One test's world. Removed at the end.
pub struct CliEnv {
    folder: tempfile::TempDir,
}

/// What a finished process left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// A `haul send` that can be reached; killed when dropped.
pub struct Sender {
    /// First line of its standard output.
    pub first_line: String,
    child: Child,
}

impl CliEnv {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        fs::create_dir(folder.path().join("into")).unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and returns where.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The binary with `arguments`, with no input and both outputs caught.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_haul"));
        command.args(arguments);
        self.settle(&mut command);
        command
    }

    /// The binary on a terminal of its own, made by script(1).
    pub fn on_terminal(&self, arguments: &str) -> Command {
        self.in_shell(&format!("exec {} {arguments}", env!("CARGO_BIN_EXE_haul")))
    }

    /// A line for a shell on a terminal of its own.
    pub fn in_shell(&self, line: &str) -> Command {
        let mut command = Command::new("script");
        let line = format!("stty cols 100 rows 24; {line}");
        command.args(["-q", "-e", "-c", &line, "/dev/null"]).env("SHELL", "/bin/sh");
        self.settle(&mut command);
        command.env("TERM", "xterm").stdin(Stdio::piped());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// Starts `haul send` on loopback and waits for its first line.
    pub fn send(&self, arguments: &[&str]) -> Sender {
        let mut command = self.command(&["send", "--bind", "127.0.0.1:0", "--address", "127.0.0.1"]);
        let mut child = command.args(arguments).spawn().unwrap();
        let mut first_line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first_line).unwrap();
        Sender { first_line: first_line.trim_end().to_owned(), child }
    }

    fn settle(&self, command: &mut Command) {
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command
            .current_dir(self.folder.path())
            // What is offered in a test is nobody else's business.
            .env("HAUL_NO_ANNOUNCE", "1")
            .env("HOME", self.path("home"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    }
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The lines of standard output as events.
    pub fn events(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }
}

impl Sender {
    /// Sends a signal and waits for the end.
    #[cfg(unix)]
    pub fn signal(mut self, signal: rustix::process::Signal) -> (Option<i32>, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
        self.end()
    }

    /// Waits for the end; its exit code and what it wrote to standard error.
    pub fn end(&mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().code(), text)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // A process that has ended cannot be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads from a terminal until `wanted` shows, and returns what was read.
pub fn read_until(output: &mut impl Read, wanted: &str) -> String {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&bytes).contains(wanted) {
        assert_eq!(output.read(&mut byte).unwrap(), 1, "ended without `{wanted}`: {}", String::from_utf8_lossy(&bytes));
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}

/// Types into a terminal.
pub fn type_into(input: &mut impl Write, keys: &str) {
    input.write_all(keys.as_bytes()).unwrap();
    input.flush().unwrap();
}

/// Whether both files hold the same bytes.
pub fn same_bytes(one: &Path, other: &Path) -> bool {
    fs::read(one).unwrap() == fs::read(other).unwrap()
}
