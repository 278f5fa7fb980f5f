//! What is said of a push that is over.

use super::Pusher;
use crate::transfer::offer::do_here;
use crate::transfer::{Progress, Summary};
use std::time::Instant;

impl Pusher<'_> {
    pub(super) fn summary(&self, began: Instant) -> Summary {
        let totals = self.offer.listing.totals();
        let mut files = self.offer.listing.files();
        let root = if let Some(entry) = files.next().filter(|_| files.next().is_none()) {
            let Ok(root) = self.offer.root(entry, &mut |chore| do_here(&self.offer, chore));
            root.ok().map(|root| root.to_string())
        } else {
            let Ok(id) = self.offer.seal(&[], &mut |chore| do_here(&self.offer, chore));
            id.ok().map(|id| id.to_string())
        };
        let Progress { bytes_fetched, wire_bytes, .. } = self.progress();
        Summary {
            files: u64::from(totals.files),
            bytes: totals.bytes,
            bytes_fetched,
            wire_bytes,
            seconds: began.elapsed().as_secs_f64(),
            root,
            ..Summary::default()
        }
    }
}
