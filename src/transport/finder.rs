//! Who announces itself on the local network: a short list that nobody can make long.

use super::discovery::{DiscoveryFault, NUMBER_KEY, RECORDS_MAX, SERVICE, records, start_daemon, stop_daemon};
use super::multicast;
use crate::limits::{FOUND_ADDRESSES_MAX, FOUND_HOSTS_MAX};
use mdns_sd::{Receiver, RecvTimeoutError, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Instances that one search may meet before it is started afresh: four times the longest list.
const MET_MAX: usize = 4 * FOUND_HOSTS_MAX;
/// Questions in a row that the library leaves unanswered before it counts as flooded.
const UNANSWERED_MAX: u32 = 4;
/// How often orders are looked for while nothing comes in, and what the library holds.
const TURN: Duration = Duration::from_millis(100);
/// Shortest time between two fresh searches: an answer takes a tenth of it.
const SEARCH_TIME_MIN: Duration = Duration::from_secs(1);
/// Rest after a search that was flooded, so that whoever floods gets only a part of this machine's time.
const FLOOD_REST: Duration = Duration::from_secs(2);
/// A search that nobody asks about for so long rests until somebody does.
const UNUSED_AFTER: Duration = Duration::from_secs(60);
/// A search that meets nobody for so long looks into why.
const CHECK_AFTER: Duration = Duration::from_secs(1);

/// A host that announced itself, or somebody who claims to be one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FoundHost {
    /// The display number of its code, if it has one.
    pub number: Option<u16>,
    /// Where it says that it listens.
    pub port: u16,
    /// Its addresses with that port, those that a peer could connect to; never empty.
    pub addresses: Vec<SocketAddr>,
}

/// Searches the local network for hosts until it is dropped.
///
/// At most [`FOUND_HOSTS_MAX`] hosts are kept, with [`FOUND_ADDRESSES_MAX`] addresses each; older ones make way. Nothing
/// is sent while nobody asks for a minute.
#[derive(Debug)]
pub struct Finder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    unused_after: Duration,
}

#[derive(Debug)]
struct State {
    hosts: Hosts,
    trouble: Option<String>,
    last_used: Instant,
    is_asked_again: bool,
    is_resting: bool,
    is_dropped: bool,
}

/// The list itself, newest first.
#[derive(Debug, Default)]
struct Hosts {
    listed: VecDeque<Listed>,
    /// Searches so far.
    search: u64,
}

#[derive(Debug)]
struct Listed {
    name: String,
    host: FoundHost,
    /// The search in which it was heard of last.
    search: u64,
}

impl Finder {
    /// Starts to search.
    pub fn new() -> Result<Self, DiscoveryFault> {
        Self::start(UNUSED_AFTER)
    }

    fn start(unused_after: Duration) -> Result<Self, DiscoveryFault> {
        let search = Search::start()?;
        let state = State {
            hosts: Hosts::default(),
            trouble: None,
            last_used: Instant::now(),
            is_asked_again: false,
            is_resting: false,
            is_dropped: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), unused_after });
        let (own, worker) = (Arc::clone(&shared), shared);
        let run = move || worker.run(search);
        thread::Builder::new().name("haul finder".into()).spawn(run).map_err(DiscoveryFault::Thread)?;
        Ok(Self { shared: own })
    }

    /// The hosts that announced themselves, newest first.
    pub fn hosts(&self) -> Vec<FoundHost> {
        self.shared.used().hosts.to_vec()
    }

    /// Waits until `is_wanted` holds for a host, at most until `deadline`, and returns every host then.
    pub fn wait(&self, deadline: Instant, is_wanted: impl Fn(&FoundHost) -> bool) -> Vec<FoundHost> {
        let mut state = self.shared.used();
        if state.is_resting {
            state.is_asked_again = true;
            self.shared.changed.notify_all();
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.hosts.listed.iter().any(|listed| is_wanted(&listed.host)) {
                return state.hosts.to_vec();
            }
            // Waking now and then keeps the search from being taken for unused.
            let waited = self.shared.changed.wait_timeout(state, left.min(self.shared.unused_after / 2));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.last_used = Instant::now();
        }
    }

    /// Asks the network once more, as if nothing were known: a host whose address changed unheard is found again.
    pub fn ask_again(&self) {
        self.shared.used().is_asked_again = true;
        self.shared.changed.notify_all();
    }

    /// Why nobody can be found, where that is known: a printable sentence without a full stop.
    pub fn trouble(&self) -> Option<String> {
        self.shared.lock().trouble.clone()
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        self.shared.lock().is_dropped = true;
        self.shared.changed.notify_all();
    }
}

/// One start of the library with what it finds.
struct Search {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
    began: Instant,
    met: usize,
    guarded: Instant,
    unanswered: u32,
}

/// Why a search ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum SearchEnd {
    AskedAgain,
    Dropped,
    Flooded,
    Unused,
}

impl Search {
    fn start() -> Result<Self, DiscoveryFault> {
        let daemon = start_daemon()?;
        let events = daemon.browse(SERVICE)?;
        let now = Instant::now();
        Ok(Self { daemon, events, began: now, met: 0, guarded: now, unanswered: 0 })
    }

    fn is_flooded(&mut self, now: Instant) -> bool {
        if self.met > MET_MAX {
            return true;
        }
        if now.saturating_duration_since(self.guarded) < TURN {
            return false;
        }
        self.guarded = now;
        if let Some(records) = records(&self.daemon) {
            self.unanswered = 0;
            records > RECORDS_MAX
        } else {
            // A busy machine may be late; a library that stays silent cannot keep up with what comes in.
            self.unanswered += 1;
            self.unanswered >= UNANSWERED_MAX
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.last_used = Instant::now();
        state
    }

    fn run(&self, search: Search) {
        let mut search = Some(search);
        loop {
            let Some(running) = search.take() else {
                let fresh = Search::start();
                match fresh {
                    Ok(fresh) => search = Some(fresh),
                    Err(fault) => {
                        self.lock().trouble = Some(fault.to_string());
                        self.rest(FLOOD_REST);
                    }
                }
                if self.lock().is_dropped {
                    return;
                }
                continue;
            };
            let end = self.follow(running);
            match end {
                SearchEnd::Dropped => return,
                SearchEnd::AskedAgain => {}
                SearchEnd::Flooded => self.rest(FLOOD_REST),
                SearchEnd::Unused => self.rest_until_used(),
            }
            let mut state = self.lock();
            if state.is_dropped {
                return;
            }
            state.is_asked_again = false;
            state.hosts.begin_search();
        }
    }

    /// Lists whom a search finds, until it has to end.
    fn follow(&self, mut search: Search) -> SearchEnd {
        let mut is_checked = false;
        let end = loop {
            match search.events.recv_timeout(TURN) {
                Ok(event) => {
                    search.met += usize::from(matches!(event, ServiceEvent::ServiceFound(..)));
                    self.take(event);
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The library gives up a listener that does not keep up.
                Err(RecvTimeoutError::Disconnected) => break SearchEnd::Flooded,
            }
            let now = Instant::now();
            let age = now.saturating_duration_since(search.began);
            {
                let state = self.lock();
                if state.is_dropped {
                    break SearchEnd::Dropped;
                }
                if state.is_asked_again && age >= SEARCH_TIME_MIN {
                    break SearchEnd::AskedAgain;
                }
                if now.saturating_duration_since(state.last_used) >= self.unused_after {
                    break SearchEnd::Unused;
                }
            }
            if search.is_flooded(now) {
                break SearchEnd::Flooded;
            }
            if age >= CHECK_AFTER && search.met == 0 && !std::mem::replace(&mut is_checked, true) {
                let trouble = multicast::trouble();
                self.lock().trouble = trouble;
            }
        };
        // There are never two: one that is flooded ends when it comes to read its orders.
        while !stop_daemon(&search.daemon) && !self.lock().is_dropped {}
        end
    }

    fn take(&self, event: ServiceEvent) {
        let mut state = self.lock();
        match event {
            ServiceEvent::ServiceResolved(service) => {
                if let Some(host) = believable(&service) {
                    state.hosts.list(&service.fullname, host);
                    state.trouble = None;
                    self.changed.notify_all();
                }
            }
            ServiceEvent::ServiceRemoved(_, name) => state.hosts.strike(&name),
            _ => {}
        }
    }

    fn rest(&self, time: Duration) {
        let is_resting = |state: &mut State| !state.is_dropped;
        let rested = self.changed.wait_timeout_while(self.lock(), time, is_resting);
        drop(rested.unwrap_or_else(PoisonError::into_inner));
    }

    fn rest_until_used(&self) {
        let mut state = self.lock();
        state.is_resting = true;
        let is_resting = |state: &mut State| !state.is_dropped && !state.is_asked_again;
        let mut state = self.changed.wait_while(state, is_resting).unwrap_or_else(PoisonError::into_inner);
        state.is_resting = false;
    }
}

impl Hosts {
    fn to_vec(&self) -> Vec<FoundHost> {
        self.listed.iter().map(|listed| listed.host.clone()).collect()
    }

    /// Puts a host first, and lets the oldest fall out where there are too many.
    fn list(&mut self, name: &str, host: FoundHost) {
        self.strike(name);
        self.listed.truncate(FOUND_HOSTS_MAX - 1);
        self.listed.push_front(Listed { name: name.to_owned(), host, search: self.search });
    }

    fn strike(&mut self, name: &str) {
        self.listed.retain(|listed| listed.name != name);
    }

    /// Forgets whom neither of the last two searches heard of.
    fn begin_search(&mut self) {
        self.listed.retain(|listed| listed.search + 1 >= self.search);
        self.search += 1;
    }
}

/// What a claim says, where haul could have made it.
fn believable(service: &ResolvedService) -> Option<FoundHost> {
    if service.ty_domain != SERVICE || service.port == 0 {
        return None;
    }
    let text = &service.txt_properties;
    let number = match (text.len(), text.get(NUMBER_KEY)) {
        (0, None) => None,
        (1, Some(property)) if property.key() == NUMBER_KEY => Some(number(property.val()?)?),
        _ => return None,
    };
    let mut ips: Vec<IpAddr> =
        service.addresses.iter().filter(|ip| can_be_dialled(ip)).map(ScopedIp::to_ip_addr).collect();
    ips.sort_unstable();
    ips.dedup();
    ips.truncate(FOUND_ADDRESSES_MAX);
    let addresses: Vec<SocketAddr> = ips.into_iter().map(|ip| SocketAddr::new(ip, service.port)).collect();
    (!addresses.is_empty()).then_some(FoundHost { number, port: service.port, addresses })
}

/// A display number as haul writes it: decimal, without sign or leading zeros.
fn number(text: &[u8]) -> Option<u16> {
    let number: u16 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

/// Whether an address is one that somebody else could listen at.
///
/// This machine's own loopback is only believed where the claim came over it: nobody else can send this machine to
/// itself. A link-local IPv6 address is left out, since it leads nowhere without a scope.
fn can_be_dialled(ip: &ScopedIp) -> bool {
    let is_own = match ip {
        ScopedIp::V4(ip) => ip.interface_ids().iter().any(|interface| is_loopback(&interface.name)),
        ScopedIp::V6(ip) => is_loopback(&ip.scope_id().name),
        _ => false,
    };
    match ip.to_ip_addr() {
        ip if ip.is_loopback() => is_own,
        IpAddr::V4(ip) => ip.octets()[0] != 0 && !ip.is_multicast() && ip != Ipv4Addr::BROADCAST,
        IpAddr::V6(ip) => {
            let is_mapped = ip.to_ipv4_mapped().is_some();
            !ip.is_unspecified() && !ip.is_multicast() && !ip.is_unicast_link_local() && !is_mapped
        }
    }
}

/// Whether an interface's name is one that systems give to their loopback.
fn is_loopback(interface: &str) -> bool {
    let number = interface.strip_prefix("lo");
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit())) || interface.starts_with("Loopback")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mdns_sd::ServiceInfo;

    fn host(number: u16) -> FoundHost {
        FoundHost { number: Some(number), port: 1, addresses: vec![SocketAddr::from(([10, 0, 0, 1], 1))] }
    }

    fn claim(text: &[(&str, &str)], addresses: &str) -> Option<FoundHost> {
        let service = ServiceInfo::new(SERVICE, "instance", "host.local.", addresses, 4285, text).unwrap();
        believable(&service.as_resolved_service())
    }

    #[test]
    fn a_claim_is_a_port_addresses_and_a_number_or_none() {
        let found = claim(&[("n", "7")], "10.0.0.1,fd00::1").unwrap();
        assert_eq!((found.number, found.port), (Some(7), 4285));
        assert_eq!(found.addresses, ["10.0.0.1:4285".parse().unwrap(), "[fd00::1]:4285".parse().unwrap()]);
        assert_eq!(claim(&[], "10.0.0.1").unwrap().number, None);
        assert_eq!(claim(&[("n", "65535")], "10.0.0.1").unwrap().number, Some(u16::MAX));
    }

    #[test]
    fn row_75_text_that_haul_does_not_write_is_not_believed() {
        let long = "x".repeat(250);
        let much: Vec<(String, &str)> = (0..30).map(|turn| (format!("n{turn}"), long.as_str())).collect();
        let much: Vec<(&str, &str)> = much.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        let cases: &[&[(&str, &str)]] = &[
            &[("name", "7")],
            &[("n", "7"), ("host", "laptop")],
            &[("n", "")],
            &[("n", "07")],
            &[("n", "+7")],
            &[("n", "65536")],
            &[("n", "seven")],
            &[("n", long.as_str())],
            &[("N", "7")],
            &much,
        ];
        for text in cases {
            assert_eq!(claim(text, "10.0.0.1"), None, "{text:?}");
        }
    }

    #[test]
    fn row_75_addresses_that_nobody_listens_at_are_left_out() {
        let lies = "0.0.0.0,0.1.2.3,255.255.255.255,224.0.0.251,127.0.0.1,::,::1,ff02::fb,fe80::1,::ffff:127.0.0.1";
        assert_eq!(claim(&[("n", "7")], lies), None);
        let found = claim(&[("n", "7")], &format!("{lies},192.168.1.2")).unwrap();
        assert_eq!(found.addresses, ["192.168.1.2:4285".parse().unwrap()]);
        let many: Vec<String> = (1..=200).map(|last| format!("10.0.0.{last}")).collect();
        assert_eq!(claim(&[], &many.join(",")).unwrap().addresses.len(), FOUND_ADDRESSES_MAX);
    }

    #[test]
    fn this_machine_is_believed_about_its_loopback() {
        for (name, is_own) in [("lo", true), ("lo0", true), ("Loopback Pseudo-Interface 1", true), ("lowpan0", false)] {
            assert_eq!(is_loopback(name), is_own, "{name}");
        }
    }

    #[test]
    fn row_76_the_list_stays_short_and_the_newest_come_first() {
        let mut hosts = Hosts::default();
        for number in 0..10_000 {
            hosts.list(&format!("host {number}"), host(number));
        }
        let listed = hosts.to_vec();
        assert_eq!(listed.len(), FOUND_HOSTS_MAX);
        assert_eq!((listed[0].number, listed[1].number), (Some(9_999), Some(9_998)));
        hosts.list("host 9990", host(1));
        assert_eq!((hosts.to_vec().len(), hosts.to_vec()[0].number), (FOUND_HOSTS_MAX, Some(1)));
        hosts.strike("host 9990");
        assert_eq!(hosts.to_vec().len(), FOUND_HOSTS_MAX - 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_search_that_nobody_asks_about_rests_and_wakes_when_somebody_waits() {
        use crate::transport::Announcement;
        use crate::transport::netns::{Cable, may_make_networks};
        if !may_make_networks() {
            return;
        }
        let cable = Cable::new(["10.79.0.1/24", "10.79.0.2/24"]);
        let finder = cable.on(1, || Finder::start(Duration::from_millis(300)).unwrap());
        while !finder.shared.lock().is_resting {
            thread::yield_now();
        }
        let _announcement = cable.on(0, || Announcement::new(4285, Some(7)).unwrap());
        let until = Instant::now() + Duration::from_secs(60);
        let hosts = cable.on(1, || finder.wait(until, |host| host.number == Some(7)));
        assert_eq!(hosts.len(), 1);
    }

    #[test]
    fn a_host_that_two_searches_do_not_hear_of_is_forgotten() {
        let mut hosts = Hosts::default();
        hosts.list("gone", host(1));
        hosts.begin_search();
        hosts.list("there", host(2));
        assert_eq!(hosts.to_vec().len(), 2);
        hosts.begin_search();
        hosts.list("there", host(2));
        hosts.begin_search();
        assert_eq!(hosts.to_vec(), [host(2)]);
    }
}
