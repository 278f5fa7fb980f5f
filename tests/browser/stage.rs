//! A host and a browser in networks of their own, with a proxy between them that fails when it is told to.
//!
//! The link names an address of the host that leads to the proxy where the browser is: what the browser asks for is what
//! it would ask the host for, and the proxy is nowhere to be seen.

use crate::chromium::{Browser, Tab};
use crate::fault_proxy::FaultProxy;
use crate::listening::Listening;
use crate::netns::{Cable, may_make_networks};
use crate::process::{Playground, Sending};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the host listens, and where the browser finds it.
const HOST: &str = "10.88.0.1";
const PORT: u16 = 4285;
/// The other address of the host, by which the proxy reaches it.
const BEHIND: &str = "10.88.1.1";

const HOST_END: usize = 0;
const BROWSER_END: usize = 1;

/// Everything of one test.
pub(crate) struct Stage {
    pub(crate) ground: Playground,
    pub(crate) proxy: FaultProxy,
    cable: Cable,
}

/// Whether a browser can be had and networks can be made. Where they cannot, tests fail; `HAUL_NO_BROWSER=1` and
/// `HAUL_NO_NETNS=1` leave them out.
pub(crate) fn may_browse() -> bool {
    may_make_networks() && std::env::var_os("HAUL_NO_BROWSER").is_none_or(|value| value != "1")
}

impl Stage {
    pub(crate) fn new() -> Self {
        let cable = Cable::new([&format!("{BEHIND}/24"), "10.88.1.2/24"]);
        for end in [HOST_END, BROWSER_END] {
            cable.configure(end, &["address", "add", &format!("{HOST}/32"), "dev", "lo"]);
            // Chromium drops what it is loading when an address comes up, as these do a second or two after their cable.
            cable.configure(end, &["-6", "address", "flush", "scope", "link"]);
        }
        let (here, there) = (format!("{HOST}:{PORT}"), format!("{BEHIND}:{PORT}"));
        let proxy = cable.on(BROWSER_END, || FaultProxy::at(here.parse().unwrap(), there.parse().unwrap()));
        Self { ground: Playground::new(), proxy, cable }
    }

    /// Starts `haul send … --json` for the browser. The same again after an end has the same link.
    pub(crate) fn send(&self, arguments: &[&str]) -> Sending {
        self.ground.start_send(self.command("send", arguments))
    }

    /// Starts `haul receive … --json` for the browser.
    pub(crate) fn listen(&self, arguments: &[&str]) -> Listening {
        Listening::start(self.command("receive", arguments))
    }

    /// Starts `haul share … --json` for the browser.
    pub(crate) fn share(&self, arguments: &[&str]) -> Sending {
        self.ground.start_send(self.command("share", arguments))
    }

    fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        let prepared = self.ground.command(verb);
        let mut command = self.cable.command(HOST_END, env!("CARGO_BIN_EXE_haul"));
        command.arg(verb).args(arguments).args(["--json", "--address", HOST]);
        command.args(["--bind", &format!("0.0.0.0:{PORT}")]);
        for (name, value) in prepared.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// A browser. The same again after an end has what the earlier one kept.
    pub(crate) fn browser(&self) -> Browser {
        self.browser_of("somebody")
    }

    /// The browser of one of several people.
    pub(crate) fn browser_of(&self, person: &str) -> Browser {
        let mut command = self.cable.command(BROWSER_END, "sh");
        command.env("HOME", self.ground.dir("home"));
        Browser::start(command, &self.ground.dir(&format!("profiles/{person}")), &self.ground.dir("downloads"))
    }

    /// A file that the browser saved.
    pub(crate) fn saved(&self, name: &str) -> PathBuf {
        self.ground.path("downloads").join(name)
    }
}

/// The page of a host, in a tab of its own.
pub(crate) fn open(browser: &Browser, link: &str) -> Tab {
    let tab = browser.open(link);
    tab.wait_for("document.querySelector('#status').textContent.startsWith('Connected')");
    assert_eq!(tab.evaluate("isSecureContext"), false, "a page over plain HTTP");
    tab
}

/// Fails unless two files have the same bytes.
#[track_caller]
pub(crate) fn assert_same(one: &Path, other: &Path) {
    assert!(
        std::fs::read(one).unwrap() == std::fs::read(other).unwrap(),
        "{} and {} differ",
        one.display(),
        other.display()
    );
}
