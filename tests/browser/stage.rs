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
pub(crate) const HOST: &str = "10.88.0.1";
pub(crate) const PORT: u16 = 4285;
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
        let proxy = proxy(&cable, PORT);
        Self { ground: Playground::new(), proxy, cable }
    }

    /// Starts `haul send … --json` for the browser. The same again after an end has the same link.
    pub(crate) fn send(&self, arguments: &[&str]) -> Sending {
        self.ground.start_send(self.command("send", arguments, PORT))
    }

    /// The same, with every address of its machine in the link, of which [`HOST`] is one.
    pub(crate) fn send_at_each_address(&self, arguments: &[&str]) -> Sending {
        self.cable.configure(HOST_END, &["address", "add", &format!("{HOST}/32"), "dev", "cable"]);
        let command = self.command("send", arguments, PORT);
        let mut of_all = Command::new(command.get_program());
        of_all.args(command.get_args().take_while(|argument| *argument != "--address"));
        of_all.args(["--bind", &format!("0.0.0.0:{PORT}")]);
        carry_over(&command, &mut of_all);
        self.ground.start_send(of_all)
    }

    /// Takes [`HOST`] away from the network of the browser: nothing leads there any more.
    pub(crate) fn take_host_away(&self) {
        self.cable.configure(BROWSER_END, &["address", "delete", &format!("{HOST}/32"), "dev", "lo"]);
    }

    /// Runs `act` on the browser's machine. Threads that it starts stay there.
    pub(crate) fn beside_browser<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        self.cable.on(BROWSER_END, act)
    }

    /// Starts `haul receive … --json` for the browser.
    pub(crate) fn listen(&self, arguments: &[&str]) -> Listening {
        Listening::start(self.command("receive", arguments, PORT))
    }

    /// Starts `haul share … --json` for the browser.
    pub(crate) fn share(&self, arguments: &[&str]) -> Sending {
        self.ground.start_send(self.command("share", arguments, PORT))
    }

    /// The same beside another host, at the next port, with a proxy of its own.
    pub(crate) fn listen_beside(&self, arguments: &[&str]) -> (Listening, FaultProxy) {
        let proxy = proxy(&self.cable, PORT + 1);
        (Listening::start(self.command("receive", arguments, PORT + 1)), proxy)
    }

    fn command(&self, verb: &str, arguments: &[&str], port: u16) -> Command {
        let prepared = self.ground.command(verb);
        let mut command = self.cable.command(HOST_END, env!("CARGO_BIN_EXE_haul"));
        command.arg(verb).args(arguments).args(["--json", "--address", HOST]);
        command.args(["--bind", &format!("0.0.0.0:{port}")]);
        carry_over(&prepared, &mut command);
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

fn proxy(cable: &Cable, port: u16) -> FaultProxy {
    let (here, there) = (format!("{HOST}:{port}"), format!("{BEHIND}:{port}"));
    cable.on(BROWSER_END, || FaultProxy::at(here.parse().unwrap(), there.parse().unwrap()))
}

/// Gives a command the variables of another one, and pipes.
fn carry_over(from: &Command, to: &mut Command) {
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
    to.stdin(Stdio::null()).stdout(Stdio::piped());
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
