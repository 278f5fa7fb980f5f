//! Networks made for one test: two machines, as far as the network is concerned, joined by a cable. They go with their
//! value.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses the part that it needs")]

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Two network namespaces joined by a pair of virtual interfaces, each called `cable` on its side.
pub struct Cable {
    ends: [String; 2],
}

/// Whether this machine lets tests make networks. Where it does not, they fail; `HAUL_NO_NETNS=1` leaves them out.
pub fn may_make_networks() -> bool {
    std::env::var_os("HAUL_NO_NETNS").is_none_or(|value| value != "1")
}

impl Cable {
    /// Two machines; `addresses` are those of their ends, like `10.0.0.1/24`.
    pub fn new(addresses: [&str; 2]) -> Self {
        static TURN: AtomicU32 = AtomicU32::new(0);
        let name = format!("haul-{}-{}", std::process::id(), TURN.fetch_add(1, Ordering::Relaxed));
        let cable = Self { ends: [format!("{name}-a"), format!("{name}-b")] };
        for end in &cable.ends {
            ip(&["netns", "add", end]);
        }
        let [one, other] = &cable.ends;
        ip(&["-n", one, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", other]);
        for (end, address) in addresses.into_iter().enumerate() {
            cable.configure(end, &["link", "set", "lo", "up"]);
            cable.configure(end, &["link", "set", "cable", "up"]);
            cable.configure(end, &["address", "add", address, "dev", "cable"]);
        }
        cable
    }

    /// Runs ip(8) on the machine at `end`.
    pub fn configure(&self, end: usize, arguments: &[&str]) {
        let name = &self.ends[end];
        ip(&[&["-n", name], arguments].concat());
    }

    /// A command that runs on the machine at `end`.
    pub fn command(&self, end: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ends[end], program]);
        command
    }

    /// Runs `act` on the machine at `end`. Threads that it starts stay there.
    pub fn on<T: Send>(&self, end: usize, act: impl FnOnce() -> T + Send) -> T {
        let space = File::open(format!("/run/netns/{}", self.ends[end])).unwrap();
        let enter = move || {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            act()
        };
        std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for end in &self.ends {
            let _ = Command::new("ip").args(["netns", "delete", end]).stderr(Stdio::null()).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status();
    let hint = "root may make networks with ip(8); HAUL_NO_NETNS=1 leaves these tests out";
    assert!(status.is_ok_and(|status| status.success()), "ip {}: {hint}", arguments.join(" "));
}
