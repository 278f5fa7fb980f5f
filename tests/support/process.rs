//! Real `haul` processes on loopback, with state and cache folders of their own.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::cast_possible_wrap,
    clippy::unwrap_used,
    reason = "each test file uses the part that it needs"
)]

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread;

/// A folder for one test: sources, destinations, state. Removed at the end.
pub struct Playground {
    folder: tempfile::TempDir,
}

/// A sender whose offer can be reached.
pub struct Sending {
    pub link: String,
    /// The code of its offer, where it shows one.
    pub code: Option<String>,
    child: Child,
    printed: Printed,
    stderr: PathBuf,
}

/// The lines that a process prints, taken in as they come: one that prints into a full pipe stands still.
struct Printed(Mutex<mpsc::Receiver<String>>);

/// A receiver that runs.
pub struct Receiving {
    child: Child,
    printed: Printed,
    events: Vec<Value>,
}

/// How a command ended that prints what it likes.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// How a receiver ended.
#[derive(Debug)]
pub struct Received {
    pub status: ExitStatus,
    pub events: Vec<Value>,
    pub stderr: String,
}

impl Playground {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder that exists.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A file of bytes that do not compress and differ from seed to seed.
    pub fn file(&self, name: &str, length: usize, seed: u64) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, noise(length, seed)).unwrap();
        path
    }

    pub fn send(&self, paths: &[&Path], args: &[&str]) -> Sending {
        let mut command = self.command("send");
        command.args(paths).args(["--bind", "127.0.0.1:0", "--json"]).args(args);
        self.start_send(command)
    }

    /// Starts a prepared `send --json`, and waits until its offer can be reached.
    pub fn start_send(&self, mut command: Command) -> Sending {
        let stderr = self.fresh("stderr");
        let mut child = command.stderr(fs::File::create(&stderr).unwrap()).spawn().unwrap();
        let printed = Printed::of(child.stdout.take().unwrap());
        let is_spooled = |event: &Value| event["phase"] == "reading standard input" || event["event"] == "progress";
        let mut offer = printed.next().expect("a sender tells its offer first");
        // What it reads has to be read before.
        let reads_first = is_spooled(&offer);
        while reads_first && offer["event"] != "offer" {
            offer = printed.next().expect("it tells its offer once it has read everything");
        }
        assert_eq!(offer["event"], "offer");
        let link = offer["link"].as_str().unwrap().to_owned();
        let code = offer["code"].as_str().map(str::to_owned);
        Sending { link, code, child, printed, stderr }
    }

    /// Receives by a code from the sender at `at`.
    pub fn receive_code(&self, code: &str, at: &str, into: &Path, args: &[&str]) -> Receiving {
        self.receive(code, into, &[&["--at", at], args].concat())
    }

    pub fn receive(&self, link: &str, into: &Path, args: &[&str]) -> Receiving {
        let mut command = self.command("receive");
        command.arg(link).arg("--into").arg(into).args(["--yes", "--json"]).args(args);
        Self::start_receive(command)
    }

    /// Starts a prepared `receive --json`.
    pub fn start_receive(mut command: Command) -> Receiving {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let printed = Printed::of(child.stdout.take().unwrap());
        Receiving { child, printed, events: Vec::new() }
    }

    /// A path that nothing has yet.
    fn fresh(&self, name: &str) -> PathBuf {
        (0..u32::MAX).map(|turn| self.path(&format!("{name}.{turn}"))).find(|path| !path.exists()).unwrap()
    }

    /// A command with this playground's state and cache.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_haul"));
        command.arg(verb).stdin(Stdio::null()).stdout(Stdio::piped());
        command.env("XDG_STATE_HOME", self.path("state")).env("XDG_CACHE_HOME", self.path("cache"));
        // What is offered in a test is nobody else's business.
        command.env("HAUL_NO_ANNOUNCE", "1");
        for variable in [
            "HAUL_LINK",
            "HAUL_AT",
            "HAUL_BIND",
            "HAUL_ADDRESS",
            "HAUL_INTO",
            "HAUL_LANES",
            "HAUL_LIMIT",
            "HAUL_COLOR",
            "HAUL_COMPRESS",
            "HAUL_NO_QR",
            "HAUL_NO_WEB",
        ] {
            command.env_remove(variable);
        }
        command
    }
}

/// Runs a prepared command to its end.
pub fn run(command: &mut Command) -> Ran {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ran {
    /// Every line of standard output as an event.
    pub fn events(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Printed {
    fn of(stdout: ChildStdout) -> Self {
        let (lines, printed) = mpsc::channel();
        thread::spawn(move || {
            // Nobody listens any more once the test is over.
            BufReader::new(stdout).lines().try_for_each(|line| lines.send(line.unwrap()))
        });
        Self(Mutex::new(printed))
    }

    /// The next event; none after the last.
    fn next(&self) -> Option<Value> {
        let line = self.0.lock().unwrap().recv().ok()?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("`{line}` is no event: {error}")))
    }
}

impl Sending {
    /// The code of its offer.
    pub fn code(&self) -> &str {
        self.code.as_deref().expect("it shows a code")
    }

    /// Where it listens.
    pub fn at(&self) -> &str {
        self.link.split('/').nth(2).unwrap()
    }

    /// The code that it shows next, and what became of the one before.
    pub fn next_code(&mut self) -> (Option<String>, String) {
        let event = self.wait_until(|event| event["event"] == "code");
        (event["code"].as_str().map(str::to_owned), event["why"].as_str().unwrap().to_owned())
    }

    /// Waits for the end and returns the exit code and the last event.
    pub fn wait(self) -> (Option<i32>, Value) {
        let (code, events, _) = self.wait_for_all();
        (code, events.into_iter().last().unwrap_or_default())
    }

    /// Waits for the end and returns the exit code, every event after the offer, and what it said to people.
    pub fn wait_for_all(mut self) -> (Option<i32>, Vec<Value>, String) {
        let events = std::iter::from_fn(|| self.printed.next()).collect();
        let code = self.child.wait().unwrap().code();
        (code, events, fs::read_to_string(&self.stderr).unwrap())
    }

    /// Reads events until one is `wanted`, which is returned.
    pub fn wait_until(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        std::iter::from_fn(|| self.printed.next()).find(|event| wanted(event)).expect("the event comes")
    }

    /// What it said to people so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// Ends it as a power switch would, and returns once it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Receiving {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Reads events until one is `wanted`. False once there is none any more.
    pub fn wait_until(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> bool {
        while let Some(event) = self.printed.next() {
            let found = wanted(&event);
            self.events.push(event);
            if found {
                return true;
            }
        }
        false
    }

    /// Ends it as a power switch would, and returns once it is gone.
    pub fn kill(mut self) -> Vec<Value> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::take(&mut self.events)
    }

    pub fn wait(mut self) -> Received {
        self.wait_until(|_| false);
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        Received { status: self.child.wait().unwrap(), events: std::mem::take(&mut self.events), stderr }
    }
}

/// Sends a signal to a process that this test started and has not waited for.
pub fn signal(id: u32, signal: Signal) {
    kill_process(Pid::from_raw(id as i32).unwrap(), signal).unwrap();
}

/// A test that fails leaves no process behind.
impl Drop for Sending {
    fn drop(&mut self) {
        // It fails where the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // It fails where the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Received {
    /// The terminal event, of which there is exactly one.
    pub fn done(&self) -> &Value {
        let done: Vec<_> = self.events.iter().filter(|event| event["event"] == "done").collect();
        assert_eq!(done.len(), 1, "exactly one `done` in {self:?}");
        assert_eq!(self.events.last().unwrap()["event"], "done", "nothing follows `done`");
        done[0]
    }

    pub fn assert_ok(&self) -> &Value {
        let done = self.done();
        assert_eq!(self.status.code(), Some(0), "{self:#?}");
        assert_eq!(done["ok"], true);
        assert_eq!(done["exit"], 0);
        done
    }

    pub fn assert_exit(&self, code: i32) -> &Value {
        let done = self.done();
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        assert_eq!(done["ok"], false);
        assert_eq!(done["exit"], code);
        assert!(done["error"].is_string());
        done
    }
}

/// Bytes that do not compress, from a linear congruential generator.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
