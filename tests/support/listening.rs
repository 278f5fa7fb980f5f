//! Real `haul receive` processes that listen, and `haul send --to` processes that push to them.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses the part that it needs")]

use crate::process::{Playground, Received, Receiving};
use std::path::Path;
use std::process::Command;

/// A receiver that listens.
pub struct Listening {
    pub link: String,
    code: Option<String>,
    pub run: Receiving,
}

impl Playground {
    /// Listens on loopback and accepts everything.
    pub fn listen(&self, into: &Path, args: &[&str]) -> Listening {
        let mut command = self.command("receive");
        command.args(["--yes", "--json", "--bind", "127.0.0.1:0", "--into"]).arg(into).args(args);
        Listening::start(command)
    }

    /// Pushes to whoever has `link`.
    pub fn push(&self, paths: &[&Path], link: &str, args: &[&str]) -> Receiving {
        Self::start_receive(self.push_command(paths, link, args))
    }

    pub fn push_command(&self, paths: &[&Path], link: &str, args: &[&str]) -> Command {
        let mut command = self.command("send");
        command.args(paths).args(["--to", link, "--json"]).args(args);
        command
    }
}

impl Listening {
    /// Starts a prepared `receive --json` without a link, and waits until it can be reached.
    pub fn start(command: Command) -> Self {
        let mut run = Playground::start_receive(command);
        let (mut link, mut code) = (String::new(), None);
        let is_there = run.wait_until(|event| {
            event["link"].as_str().unwrap_or_default().clone_into(&mut link);
            code = event["code"].as_str().map(str::to_owned);
            event["event"] == "listening"
        });
        assert!(is_there, "it listens: {:?}", run.wait());
        Self { link, code, run }
    }

    pub fn code(&self) -> &str {
        self.code.as_deref().unwrap()
    }

    pub fn wait(self) -> Received {
        self.run.wait()
    }

    /// Waits until so many bytes of a session's files are there.
    pub fn wait_for_bytes(&mut self, bytes: u64) {
        let is_far = |event: &serde_json::Value| event["bytes_done"].as_u64().is_some_and(|done| done >= bytes);
        assert!(self.run.wait_until(|event| event["event"] == "progress" && is_far(event)), "it gets so far");
    }
}

/// The events of one session.
pub fn of_session(received: &Received, session: u64) -> Vec<&serde_json::Value> {
    received.events.iter().filter(|event| event["session"] == session).collect()
}

/// How sessions ended, in the order of their ends.
pub fn endings(received: &Received) -> Vec<&serde_json::Value> {
    received.events.iter().filter(|event| event["event"] == "ended").collect()
}
