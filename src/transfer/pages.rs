//! What a run offers to whoever serves browsers at its port: its link, and what they may do there.

use super::inbox::Inbox;
use super::shelf::Shelf;
use crate::secret::Link;
use crate::transport::{Gatekeeper, Guest};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Serves browsers. Made once a run can be reached, and told of each connection; ends when it is dropped.
pub trait Pages: fmt::Debug + Send + Sync {
    /// Takes a connection that speaks HTTP. Called on a thread of its own, which it should not keep.
    fn welcome(&self, guest: Guest);

    /// The fingerprint of the certificate that browsers see, where they are served over TLS.
    fn fingerprint(&self) -> Option<[u8; 32]> {
        None
    }

    /// The run is over: waits a moment for browsers to learn how it ended. They can still connect.
    fn farewell(&self);
}

/// Makes what serves browsers.
pub type OpenPages = fn(Premises) -> io::Result<Arc<dyn Pages>>;

/// Where a run can be reached, and what browsers may do there.
#[derive(Clone)]
pub struct Premises {
    /// Names the room, and holds the key of everything that is said there.
    pub link: Link,
    /// Where the run listens.
    pub bound: SocketAddr,
    /// How browsers are served over TLS. `None`: they are served without it.
    pub tls: Option<Identity>,
    /// What browsers may fetch.
    pub shelf: Option<Shelf>,
    /// What takes what they send.
    pub inbox: Option<Inbox>,
    /// Who is told of strangers.
    pub gatekeeper: Arc<dyn Gatekeeper>,
}

/// What a run shows of itself over TLS.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Where the certificate of this user is kept. `None`: nowhere, so that it is another one in each run.
    pub state_dir: Option<PathBuf>,
    /// The addresses that it has to name.
    pub addresses: Vec<IpAddr>,
}

impl fmt::Debug for Premises {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { link, bound, tls, shelf, inbox, gatekeeper: _ } = self;
        let mut debug = formatter.debug_struct("Premises");
        debug
            .field("link", link)
            .field("bound", bound)
            .field("tls", tls)
            .field("shelf", shelf)
            .field("inbox", inbox)
            .finish_non_exhaustive()
    }
}

/// The pages of a run, while there are any.
#[derive(Debug, Default)]
pub(super) struct Lodge {
    pages: Mutex<Option<Arc<dyn Pages>>>,
    had_visitors: AtomicBool,
}

impl Lodge {
    pub(super) fn open(&self, pages: Arc<dyn Pages>) {
        *self.lock() = Some(pages);
    }

    /// Whether browsers are served, over TLS or not.
    pub(super) fn is_open(&self) -> bool {
        self.lock().is_some()
    }

    /// Whether browsers are served over TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.fingerprint().is_some()
    }

    /// The fingerprint of the certificate that they see.
    pub(super) fn fingerprint(&self) -> Option<[u8; 32]> {
        self.lock().as_ref()?.fingerprint()
    }

    /// Ends what serves browsers: they are told what is being told them, and no more.
    pub(super) fn close(&self) {
        let pages = self.lock().clone();
        if let Some(pages) = pages {
            pages.farewell();
        }
        drop(self.lock().take());
    }

    /// Whether somebody was there before this one.
    pub(super) fn has_had_visitors(&self) -> bool {
        self.had_visitors.swap(true, Ordering::Relaxed)
    }

    /// Hands a connection on; it is closed where nobody takes it.
    pub(super) fn visit(&self, guest: Guest) {
        let pages = self.lock().clone();
        if let Some(pages) = pages {
            pages.welcome(guest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<dyn Pages>>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
