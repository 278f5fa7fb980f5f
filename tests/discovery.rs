//! Hosts that announce themselves on one machine are found on another one, with real multicast between two networks.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "support/netns.rs"]
mod netns;

use haul::secret::Link;
use haul::transport::{Announcement, Finder, FoundHost};
use netns::{Cable, may_make_networks};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Far longer than anything here takes: reached only where it would never happen.
const PATIENCE: Duration = Duration::from_secs(60);

const SENDER: usize = 0;
const RECEIVER: usize = 1;

fn cable() -> Cable {
    Cable::new(["10.77.0.1/24", "10.77.0.2/24"])
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The first host for which `is_wanted` holds, however long it takes.
fn wait_for(finder: &Finder, is_wanted: impl Fn(&FoundHost) -> bool) -> FoundHost {
    let hosts = finder.wait(Instant::now() + PATIENCE, &is_wanted);
    hosts.iter().find(|host| is_wanted(host)).unwrap_or_else(|| panic!("not found among {hosts:?}")).clone()
}

#[test]
fn a_host_is_found_by_its_number_and_again_when_its_address_changes() {
    if !may_make_networks() {
        return;
    }
    let cable = cable();
    let announcement = cable.on(SENDER, || Announcement::new(4285, Some(7)).unwrap());
    let finder = cable.on(RECEIVER, || Finder::new().unwrap());
    let host = wait_for(&finder, |host| host.number == Some(7));
    assert_eq!((host.port, host.addresses.as_slice()), (4285, &[address("10.77.0.1:4285")][..]));

    cable.configure(SENDER, &["address", "delete", "10.77.0.1/24", "dev", "cable"]);
    cable.configure(SENDER, &["address", "add", "10.77.0.9/24", "dev", "cable"]);
    let moved = Instant::now();
    let host = wait_for(&finder, |host| host.addresses.contains(&address("10.77.0.9:4285")));
    let took = moved.elapsed();
    assert!(took < Duration::from_secs(10), "a moved host was found only after {took:?}");
    assert_eq!(host.number, Some(7));
    eprintln!("found again after {took:?}");
    drop(announcement);
}

#[test]
fn an_announcement_names_a_port_and_a_number_and_no_machine_or_person() {
    if !may_make_networks() {
        return;
    }
    let cable = cable();
    let listener = cable.on(RECEIVER, || listener([10, 77, 0, 2].into()));
    let mut packets = Vec::new();
    for number in [7, 8] {
        let announcement = cable.on(SENDER, || Announcement::new(4285, Some(number)).unwrap());
        let told = hear(&listener, |packet| contains(packet, format!("\x03n={number}").as_bytes()));
        announcement.set_number(None);
        let untold = hear(&listener, |packet| contains(packet, b"_haul") && !contains(packet, b"n="));
        drop(announcement);
        // The records of a goodbye live for no time at all.
        let bye = hear(&listener, |packet| contains(packet, b"_haul") && contains(packet, b"\0\x0c\0\x01\0\0\0\0"));
        packets.extend([told, untold, bye]);
    }
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let person = std::env::var("USER").unwrap_or("root".into());
    for packet in packets.iter().flatten() {
        for name in [machine.trim(), &person, "/root", "linux"] {
            assert!(
                !contains(&packet.to_ascii_lowercase(), name.to_ascii_lowercase().as_bytes()),
                "{name}: {packet:?}"
            );
        }
    }
    let names: std::collections::BTreeSet<Vec<u8>> =
        packets.iter().flatten().flat_map(|packet| labels(packet)).collect();
    assert!(names.len() >= 8, "each announcement has an instance and a host of its own: {names:?}");
}

#[test]
fn a_machine_that_cannot_be_heard_says_why() {
    if !may_make_networks() {
        return;
    }
    let cable = cable();
    // One after the other: a machine that can hear itself alone is one that found somebody.
    let trouble = |end: usize| {
        let until = Instant::now() + PATIENCE;
        let announcement = cable.on(end, || Announcement::new(4285, Some(7)).unwrap());
        while announcement.trouble().is_none() && Instant::now() < until {
            thread::yield_now();
        }
        let of_announcement = announcement.trouble().unwrap_or_default();
        drop(announcement);
        let finder = cable.on(end, || Finder::new().unwrap());
        while finder.trouble().is_none() && Instant::now() < until {
            finder.wait(Instant::now() + Duration::from_millis(50), |_| false);
        }
        (of_announcement, finder.trouble().unwrap_or_default())
    };
    cable.configure(SENDER, &["link", "set", "cable", "down"]);
    let text = "this machine is on no network";
    assert_eq!(trouble(SENDER), (text.into(), text.into()));
    cable.configure(SENDER, &["link", "set", "cable", "up"]);
    let selfish = cable.on(RECEIVER, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5353)).unwrap());
    let (of_announcement, of_finder) = trouble(RECEIVER);
    assert!(of_announcement.contains("UDP port 5353") && of_finder.contains("UDP port 5353"), "{of_announcement}");
    drop(selfish);
}

#[test]
fn a_machine_without_any_network_finds_itself() {
    if !may_make_networks() {
        return;
    }
    let cable = cable();
    cable.configure(SENDER, &["link", "delete", "cable"]);
    let (_announcement, finder) =
        cable.on(SENDER, || (Announcement::new(4285, Some(7)).unwrap(), Finder::new().unwrap()));
    let host = wait_for(&finder, |host| host.number == Some(7));
    assert!(host.addresses.contains(&address("127.0.0.1:4285")), "{host:?}");
}

#[test]
fn an_offer_is_announced_until_it_ends_unless_nobody_wants_it() {
    if !may_make_networks() {
        return;
    }
    let cable = cable();
    let finder = cable.on(RECEIVER, || Finder::new().unwrap());
    let offer = Offer::start(&cable, &[]);
    let host = wait_for(&finder, |host| host.port == offer.port);
    assert_eq!(host.addresses, [SocketAddr::from(([10, 77, 0, 1], offer.port))]);
    offer.interrupt();
    let until = Instant::now() + PATIENCE;
    while !finder.hosts().is_empty() {
        assert!(Instant::now() < until, "an offer that ended says goodbye");
        std::thread::yield_now();
    }
    let silent = Offer::start(&cable, &["--no-announce"]);
    let local = Offer::start(&cable, &["--bind", "127.0.0.1:0"]);
    let last = cable.on(SENDER, || Announcement::new(1, None).unwrap());
    // Both would have spoken before this one.
    wait_for(&finder, |host| host.port == 1);
    let ports: Vec<u16> = finder.hosts().iter().map(|host| host.port).collect();
    assert_eq!(ports, [1], "{} and {} are announced", silent.port, local.port);
    drop(last);
}

/// A `haul send` on the sending machine, killed when dropped.
struct Offer {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Offer {
    fn start(cable: &Cable, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("data"), b"data").unwrap();
        let mut command = cable.command(SENDER, env!("CARGO_BIN_EXE_haul"));
        command.args(["send", "data"]).args(arguments).current_dir(folder.path());
        command.env("XDG_STATE_HOME", folder.path()).env("XDG_CACHE_HOME", folder.path());
        for variable in ["HAUL_BIND", "HAUL_ADDRESS", "HAUL_NO_ANNOUNCE"] {
            command.env_remove(variable);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = Link::parse(&line).unwrap().addresses()[0].port();
        Self { child, port, _folder: folder }
    }

    /// Ends it as Ctrl-C does, and waits for that.
    fn interrupt(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        // A process that has ended cannot be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A member of the group that mDNS speaks to.
fn listener(address: Ipv4Addr) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5353)).into()).unwrap();
    socket.join_multicast_v4(&[224, 0, 0, 251].into(), &address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

/// Every packet up to the first one that is `wanted`.
fn hear(listener: &UdpSocket, wanted: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    let (mut heard, mut buffer) = (Vec::new(), [0; 9000]);
    loop {
        let length = listener.recv(&mut buffer).unwrap();
        heard.push(buffer[..length].to_vec());
        if wanted(&buffer[..length]) {
            return heard;
        }
    }
}

fn contains(packet: &[u8], wanted: &[u8]) -> bool {
    packet.windows(wanted.len()).any(|window| window == wanted)
}

/// The random labels in a packet: sixteen characters, none of which a hexadecimal number lacks.
fn labels(packet: &[u8]) -> Vec<Vec<u8>> {
    let random = packet.windows(17).filter(|window| window[0] == 16 && window[1..].iter().all(u8::is_ascii_hexdigit));
    random.map(<[u8]>::to_vec).collect()
}

#[test]
fn a_neighbour_that_stays_silent_is_said_to_be_behind_a_firewall_and_no_other() {
    if !may_make_networks() {
        return;
    }
    let cable = cable();
    // What is sent to either of them arrives at the other end of the cable, where nobody takes it.
    cable.configure(RECEIVER, &["neighbour", "add", "10.77.0.99", "lladdr", "02:00:00:00:00:99", "dev", "cable"]);
    cable.configure(RECEIVER, &["route", "add", "192.0.2.0/24", "via", "10.77.0.99"]);
    let folder = tempfile::tempdir().unwrap();
    let begin = |address: &str| {
        let link = format!("HTTP://{address}:4285/GGRYVRGYP6CMWFOYMSTYSKNUWY#DYERHJA2KBWFMTAL35VLNB6JPI");
        let mut command = cable.command(RECEIVER, env!("CARGO_BIN_EXE_haul"));
        command.args(["receive", &link, "--yes", "--into"]).arg(folder.path());
        command.env("XDG_STATE_HOME", folder.path()).env("XDG_CACHE_HOME", folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = ["10.77.0.99", "192.0.2.1"].map(begin);
    let [neighbour, far] = both.map(|child| child.wait_with_output().unwrap());
    let said = [&neighbour, &far].map(|ran| String::from_utf8_lossy(&ran.stderr).into_owned());
    assert_eq!([neighbour.status.code(), far.status.code()], [Some(35), Some(35)], "{said:?}");
    let suspicion = "so a firewall may keep it closed";
    assert_eq!(said.clone().map(|text| text.contains(suspicion)), [true, false], "{said:?}");
}
