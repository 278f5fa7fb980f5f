//! Finding hosts on the local network by mDNS: a hint for where to connect, never an identity.
//!
//! An [`Announcement`] says that something listens here; a [`Finder`](super::Finder) collects what others say. What travels is a random
//! name, a port and the display number of a code: no name of a machine, a person or a file. Anybody may claim anything
//! here, so whoever is found proves itself over its lane like everybody else.

use super::TransportError;
use super::fresh::random_bytes;
use super::multicast;
use mdns_sd::{DaemonStatus, IfKind, IfPredicate, Receiver, ServiceDaemon, ServiceInfo};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What haul's hosts are called on the network.
pub(super) const SERVICE: &str = "_haul._tcp.local.";
/// The only key of an announcement's text: the display number of a code, in decimal.
pub(super) const NUMBER_KEY: &str = "n";
/// Records of others that the library may hold before it is started afresh: it has no bound of its own, and anybody on
/// the network can fill it. One has at most 9 kB, an honest host has five.
pub(super) const RECORDS_MAX: i64 = 4096;
/// Seconds between two looks at this machine's addresses.
const ADDRESS_CHECK_SECONDS: u32 = 1;
/// Time between two looks at what the library holds.
const GUARD_EVERY: Duration = Duration::from_millis(250);
/// Longest wait for an answer of the library, which is late while it is flooded.
const ANSWER_WAIT: Duration = Duration::from_millis(500);

/// Why nothing can be announced or searched.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryFault {
    /// The library that speaks mDNS could not be started.
    #[error("mDNS could not be started: {0}")]
    Mdns(#[from] mdns_sd::Error),
    /// This machine has no random bytes.
    #[error("mDNS could not be started: {0}")]
    Random(#[source] TransportError),
    /// This machine has no thread to spare.
    #[error("mDNS could not be started: {0}")]
    Thread(#[source] std::io::Error),
}

/// Says on the local network that this machine listens at a port, until it is dropped.
///
/// It follows this machine's addresses: a new one is announced within about a second.
#[derive(Debug)]
pub struct Announcement {
    orders: Option<mpsc::Sender<Option<u16>>>,
    thread: Option<JoinHandle<()>>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Announcement {
    /// Announces `port` of every address of this machine, with the display number of the code that is valid there, if
    /// there is one.
    pub fn new(port: u16, number: Option<u16>) -> Result<Self, DiscoveryFault> {
        Self::bound_to((Ipv6Addr::UNSPECIFIED, port).into(), number)
    }

    /// Announces a listener that is bound to `bound`: what it does not hear is not announced.
    pub fn bound_to(bound: SocketAddr, number: Option<u16>) -> Result<Self, DiscoveryFault> {
        let (orders, inbox) = mpsc::channel();
        let trouble = Arc::default();
        let announced = Announced::start(bound, number)?;
        let guard = Guard { bound, number, inbox, trouble: Arc::clone(&trouble) };
        let thread = thread::Builder::new().name("haul announce".into()).spawn(move || guard.run(announced));
        Ok(Self { orders: Some(orders), thread: Some(thread.map_err(DiscoveryFault::Thread)?), trouble })
    }

    /// From now on another code is valid, or none.
    pub fn set_number(&self, number: Option<u16>) {
        // The thread lives as long as this value; without it nothing is announced any more.
        let _ = self.orders.as_ref().map(|orders| orders.send(number));
    }

    /// Why nobody hears the announcement, once that is known: a printable sentence without a full stop.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Announcement {
    /// Says goodbye, so that nobody goes on looking here. Takes a few milliseconds, and no more than a second.
    fn drop(&mut self) {
        drop(self.orders.take());
        // A thread that panicked has said so already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// One start of the library with what it announces.
struct Announced {
    daemon: ServiceDaemon,
    name: String,
}

impl Announced {
    fn start(bound: SocketAddr, number: Option<u16>) -> Result<Self, DiscoveryFault> {
        let daemon = start_daemon()?;
        let mut announced = Self { daemon, name: String::new() };
        announced.register(bound, number)?;
        Ok(announced)
    }

    /// Announces under a fresh name, so that nobody can tell which offer this was before.
    fn register(&mut self, bound: SocketAddr, number: Option<u16>) -> Result<(), DiscoveryFault> {
        let number = number.map(|number| number.to_string());
        let properties: Vec<(&str, &str)> = number.iter().map(|number| (NUMBER_KEY, number.as_str())).collect();
        let (instance, host) = (random_name()?, format!("{}.local.", random_name()?));
        let service = ServiceInfo::new(SERVICE, &instance, &host, "", bound.port(), &properties[..])?;
        let mut service = service.enable_addr_auto();
        // Nobody else has a name of 64 random bits, and asking for it would take most of a second.
        service.set_requires_probe(false);
        service.set_interfaces(vec![IfKind::Predicate(IfPredicate::new(move |interface| {
            hears(bound.ip(), interface.ip())
        }))]);
        let name = service.get_fullname().to_owned();
        self.daemon.register(service)?;
        if !self.name.is_empty() {
            self.daemon.unregister(&self.name)?;
        }
        self.name = name;
        Ok(())
    }
}

/// Carries out orders, and starts the library afresh before others fill its memory.
struct Guard {
    bound: SocketAddr,
    number: Option<u16>,
    inbox: mpsc::Receiver<Option<u16>>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Guard {
    fn run(mut self, announced: Announced) {
        let mut announced = Some(announced);
        let mut is_checked = false;
        loop {
            match self.inbox.recv_timeout(GUARD_EVERY) {
                Ok(number) => {
                    self.number = number;
                    let changed = announced.as_mut().map(|announced| announced.register(self.bound, number));
                    if !matches!(changed, Some(Ok(()))) {
                        stop(&mut announced);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if announced.as_ref().is_some_and(|announced| records(&announced.daemon) > Some(RECORDS_MAX)) {
                        stop(&mut announced);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if announced.is_none() {
                match Announced::start(self.bound, self.number) {
                    Ok(fresh) => announced = Some(fresh),
                    Err(fault) => self.tell(Some(fault.to_string())),
                }
            }
            if !std::mem::replace(&mut is_checked, true) {
                self.tell(multicast::trouble());
            }
        }
        stop(&mut announced);
    }

    fn tell(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// Says goodbye. A library that does not end keeps its place, so that there are never two.
fn stop(announced: &mut Option<Announced>) {
    if announced.as_ref().is_some_and(|announced| stop_daemon(&announced.daemon)) {
        *announced = None;
    }
}

/// Starts the library, which opens its sockets on a thread of its own.
pub(super) fn start_daemon() -> Result<ServiceDaemon, DiscoveryFault> {
    let daemon = ServiceDaemon::new()?;
    daemon.set_ip_check_interval(ADDRESS_CHECK_SECONDS)?;
    Ok(daemon)
}

/// Ends the library; false where it does not say that it did, since it is flooded.
pub(super) fn stop_daemon(daemon: &ServiceDaemon) -> bool {
    match daemon.shutdown() {
        Ok(answer) => matches!(recv(&answer), Some(DaemonStatus::Shutdown)),
        Err(mdns_sd::Error::DaemonShutdown) => true,
        Err(_) => {
            // Its orders pile up.
            thread::sleep(ANSWER_WAIT);
            false
        }
    }
}

/// How many records of others the library holds; `None` where it does not say.
pub(super) fn records(daemon: &ServiceDaemon) -> Option<i64> {
    let metrics = recv(&daemon.get_metrics().ok()?)?;
    Some(metrics.iter().filter(|(name, _)| name.starts_with("cached-")).map(|(_, count)| count).sum())
}

fn recv<T>(answer: &Receiver<T>) -> Option<T> {
    answer.recv_timeout(ANSWER_WAIT).ok()
}

/// Whether a listener bound to `bound` is to be announced at `own`, an address of this machine.
///
/// A link-local IPv6 address is not: it leads nowhere without a scope, and many name the network card for good.
fn hears(bound: IpAddr, own: IpAddr) -> bool {
    match (bound, own) {
        (_, IpAddr::V6(own)) if own.is_unicast_link_local() => false,
        (IpAddr::V6(bound), _) if bound.is_unspecified() => true,
        (IpAddr::V4(bound), IpAddr::V4(_)) if bound.is_unspecified() => true,
        _ => bound == own,
    }
}

/// 64 random bits as hex.
fn random_name() -> Result<String, DiscoveryFault> {
    let bytes = random_bytes::<8>().map_err(DiscoveryFault::Random)?;
    let mut name = String::with_capacity(16);
    for byte in bytes.iter() {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_the_listener_hears_are_announced() {
        let hears = |bound: &str, own: &str| hears(bound.parse().unwrap(), own.parse().unwrap());
        assert!(hears("::", "10.0.0.1") && hears("::", "fd00::1"));
        assert!(hears("0.0.0.0", "10.0.0.1") && !hears("0.0.0.0", "fd00::1"));
        assert!(hears("10.0.0.1", "10.0.0.1") && !hears("10.0.0.1", "10.0.0.2"));
        assert!(hears("fd00::1", "fd00::1") && !hears("fd00::1", "10.0.0.1"));
        assert!(!hears("::", "fe80::1") && !hears("fe80::1", "fe80::1"));
    }

    #[test]
    fn names_are_random_and_say_nothing() {
        let (one, other) = (random_name().unwrap(), random_name().unwrap());
        assert!(one.len() == 16 && one.bytes().all(|byte| byte.is_ascii_hexdigit()) && one != other, "{one} {other}");
    }
}
