//! Where a host may be found that no known address leads to: asked on the local network, and only when there is need.

use crate::limits::RECORD_ADDRESSES_MAX;
use crate::transport::{Finder, FoundHost};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long others may answer after the first one that is looked for: an answer takes a tenth of a second.
const SETTLING: Duration = Duration::from_millis(500);

/// Looks for one host. What it finds is a hint: whoever answers there has to prove itself.
///
/// Nothing is sent before the first [`Seek::wait`] or [`Seek::ask_again`], and nothing after a minute without a call.
#[derive(Debug)]
pub(super) struct Seek {
    wanted: Wanted,
    started: Mutex<Started>,
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    Number(u16),
    Port(u16),
}

#[derive(Debug, Default)]
struct Started {
    finder: Option<Arc<Finder>>,
    /// Why there is none.
    trouble: Option<String>,
}

impl Seek {
    /// Looks for the host whose code has this display number.
    pub(super) fn by_number(number: u16) -> Self {
        Self { wanted: Wanted::Number(number), started: Mutex::default() }
    }

    /// Looks for a host that listens at this port, as one does that came back with another address.
    pub(super) fn by_port(port: u16) -> Self {
        Self { wanted: Wanted::Port(port), started: Mutex::default() }
    }

    /// Where such hosts are as far as is known, newest first, one place of each before the second of any. Does not wait.
    pub(super) fn found(&self) -> Vec<SocketAddr> {
        let finder = self.lock().finder.clone();
        finder.map(|finder| self.matching(&finder.hosts())).unwrap_or_default()
    }

    /// Waits until such a host is found at a place that is not among `tried`, at most until `deadline`, and a moment more for
    /// others that say the same of themselves. Returns the places that are left then: one of each host before the second of
    /// any.
    pub(super) fn wait(&self, tried: &[SocketAddr], deadline: Instant) -> Vec<SocketAddr> {
        let Some((finder, _)) = self.start() else { return Vec::new() };
        let is_left = |place: &SocketAddr| !tried.contains(place);
        finder.wait(deadline, |host| self.matches(host) && host.addresses.iter().any(is_left));
        let mut left = self.found();
        left.retain(is_left);
        if !left.is_empty() {
            left = self.matching(&finder.wait(deadline.min(Instant::now() + SETTLING), |_| false));
            left.retain(is_left);
        }
        left
    }

    /// Asks the network once more, since what was known leads nowhere. Does not wait.
    pub(super) fn ask_again(&self) {
        // One that has just been started asks anyway.
        if let Some((finder, false)) = self.start() {
            finder.ask_again();
        }
    }

    /// Why nothing can be found, once that is known: a printable sentence without a full stop.
    pub(super) fn trouble(&self) -> Option<String> {
        let started = self.lock();
        match &started.finder {
            Some(finder) => finder.trouble(),
            None => started.trouble.clone(),
        }
    }

    /// The search, and whether it was started by this call.
    fn start(&self) -> Option<(Arc<Finder>, bool)> {
        let mut started = self.lock();
        if let Some(finder) = &started.finder {
            return Some((Arc::clone(finder), false));
        }
        match Finder::new() {
            Ok(finder) => {
                let finder = Arc::new(finder);
                *started = Started { finder: Some(Arc::clone(&finder)), trouble: None };
                Some((finder, true))
            }
            Err(fault) => {
                started.trouble = Some(fault.to_string());
                None
            }
        }
    }

    fn matches(&self, host: &FoundHost) -> bool {
        match self.wanted {
            Wanted::Number(number) => host.number == Some(number),
            Wanted::Port(port) => host.port == port,
        }
    }

    fn matching(&self, hosts: &[FoundHost]) -> Vec<SocketAddr> {
        // In turn, so that no host fills the list with addresses of its own.
        let hosts: Vec<_> = hosts.iter().filter(|host| self.matches(host)).collect();
        let turns = hosts.iter().map(|host| host.addresses.len()).max().unwrap_or(0);
        let mut found = Vec::new();
        for address in (0..turns).flat_map(|turn| hosts.iter().filter_map(move |host| host.addresses.get(turn))) {
            if found.len() == RECORD_ADDRESSES_MAX {
                break;
            }
            if !found.contains(address) {
                found.push(*address);
            }
        }
        found
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Started> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: Option<u16>, port: u16, addresses: &[&str]) -> FoundHost {
        let addresses = addresses.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect();
        FoundHost { number, port, addresses }
    }

    #[test]
    fn only_the_host_that_is_looked_for_counts_and_each_address_once() {
        let hosts = [
            host(Some(7), 4285, &["10.0.0.2", "fd00::2"]),
            host(Some(8), 4285, &["10.0.0.3"]),
            host(None, 99, &["10.0.0.4"]),
            host(Some(7), 4285, &["10.0.0.2", "10.0.0.1"]),
        ];
        let text = |seek: Seek| -> Vec<String> { seek.matching(&hosts).iter().map(ToString::to_string).collect() };
        assert_eq!(text(Seek::by_number(7)), ["10.0.0.2:4285", "[fd00::2]:4285", "10.0.0.1:4285"]);
        assert_eq!(text(Seek::by_port(4285)), ["10.0.0.2:4285", "10.0.0.3:4285", "[fd00::2]:4285", "10.0.0.1:4285"]);
        assert_eq!(text(Seek::by_port(1)), Vec::<String>::new());
    }

    #[test]
    fn a_host_with_many_addresses_leaves_room_for_the_others() {
        let crowd: Vec<_> = (0..100).map(|last| format!("10.0.1.{last}")).collect();
        let crowd: Vec<_> = crowd.iter().map(String::as_str).collect();
        let hosts = [host(Some(7), 1, &crowd), host(Some(7), 1, &crowd[50..]), host(Some(7), 4285, &["10.0.0.2"])];
        let found = Seek::by_number(7).matching(&hosts);
        assert_eq!(found[2], "10.0.0.2:4285".parse().unwrap());
        assert_eq!(found.len(), RECORD_ADDRESSES_MAX, "{found:?}");
    }

    #[test]
    fn looking_at_what_is_known_starts_nothing() {
        let seek = Seek::by_port(1);
        assert_eq!((seek.found(), seek.trouble()), (Vec::new(), None));
        assert!(seek.lock().finder.is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_host_is_found_by_its_number_and_by_its_port_and_again_at_another_address() {
        use crate::transport::Announcement;
        use crate::transport::netns::{Cable, may_make_networks};
        use std::time::Duration;
        if !may_make_networks() {
            return;
        }
        let (sender, receiver, patience) = (0, 1, Duration::from_secs(60));
        let cable = Cable::new(["10.76.0.1/24", "10.76.0.2/24"]);
        let _announcement = cable.on(sender, || Announcement::new(4285, Some(7)).unwrap());
        let (by_number, by_port) = (Seek::by_number(7), Seek::by_port(4285));
        for seek in [&by_number, &by_port] {
            let found = cable.on(receiver, || seek.wait(&[], Instant::now() + patience));
            assert_eq!(found, ["10.76.0.1:4285".parse().unwrap()]);
            assert_eq!((seek.found(), seek.trouble()), (found, None));
        }
        cable.configure(sender, &["address", "delete", "10.76.0.1/24", "dev", "cable"]);
        cable.configure(sender, &["address", "add", "10.76.0.9/24", "dev", "cable"]);
        let (moved, new) = (Instant::now(), "10.76.0.9:4285".parse().unwrap());
        cable.on(receiver, || by_port.ask_again());
        while by_port.found().first() != Some(&new) {
            assert!(moved.elapsed() < patience, "{:?}", by_port.found());
            std::thread::yield_now();
        }
        assert!(moved.elapsed() < Duration::from_secs(10), "found again only after {:?}", moved.elapsed());
    }
}
