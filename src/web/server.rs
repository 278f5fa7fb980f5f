//! What a run calls with each connection that speaks HTTP, and ends with the run.

use super::connection::attend;
use super::site::Site;
use crate::transfer::{Pages, Premises};
use crate::transport::Guest;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Serves browsers at a run's port until it is dropped.
pub fn open(premises: Premises) -> io::Result<Arc<dyn Pages>> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_MAX)
        .thread_name("haul web")
        .enable_io()
        .enable_time()
        .build()?;
    let site = Arc::new(Site::new(premises)?);
    runtime.spawn(watch_guests(Arc::clone(&site)));
    let (closing, _) = watch::channel(false);
    Ok(Arc::new(Server { site, closing, runtime: Some(runtime) }))
}

#[derive(Debug)]
struct Server {
    site: Arc<Site>,
    /// Each connection listens to it, and is counted by that.
    closing: watch::Sender<bool>,
    runtime: Option<Runtime>,
}

impl Pages for Server {
    fn welcome(&self, guest: Guest) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(attend(guest, Arc::clone(&self.site), self.closing.subscribe()));
        }
    }

    fn fingerprint(&self) -> Option<[u8; 32]> {
        Some(self.site.certificate.as_ref()?.fingerprint)
    }

    fn farewell(&self) {
        if let Some(inbox) = &self.site.inbox {
            inbox.wait_until_told(Instant::now() + FAREWELL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.send_replace(true);
        let Some(runtime) = self.runtime.take() else { return };
        // The last page is being told that all is well. Whoever takes longer to hear it does not hold up the run.
        let _ = runtime.block_on(async { timeout(FAREWELL, self.closing.closed()).await });
        if let Some(inbox) = &self.site.inbox {
            inbox.close();
        }
        runtime.shutdown_background();
    }
}

/// Notices pages that went away.
async fn watch_guests(site: Arc<Site>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        site.guests.look();
        if let Some(inbox) = &site.inbox {
            inbox.look();
        }
    }
}

/// Threads that move bytes between sockets and memory; reading, hashing and sealing happen on others.
const WORKERS: usize = 2;
/// Those others: one for each call that is answered, and for each download.
const BLOCKING_MAX: usize = 128;
/// Longest wait at the end of a run for answers that are on their way.
const FAREWELL: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_secs(1);
