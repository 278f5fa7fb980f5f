//! The right to hold a chunk in memory: so many at a time, and fewer for those who share an address.

use crate::limits::{WEB_HEAVY_CALLS_MAX, WEB_HEAVY_CALLS_PER_ADDRESS_MAX};
use crate::transport::household;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Calls that may carry files.
#[derive(Debug)]
pub(super) struct Heavy {
    all: Arc<Semaphore>,
    by_household: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// One such call; given back when dropped.
#[derive(Debug)]
pub(super) struct HeavyCall {
    _of_household: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Default for Heavy {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(WEB_HEAVY_CALLS_MAX)), by_household: Mutex::default() }
    }
}

impl Heavy {
    /// Waits for its turn, for so long at the most.
    pub(super) async fn enter(&self, from: IpAddr, patience: Duration) -> Option<HeavyCall> {
        let own = self.of_household(household(from));
        let both = async {
            let of_household = own.acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(HeavyCall { _of_household: of_household, _of_all: of_all })
        };
        timeout(patience, both).await.ok().flatten()
    }

    fn of_household(&self, from: IpAddr) -> Arc<Semaphore> {
        let mut households = self.by_household.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has or awaits a permit holds it as well.
        households.retain(|_, own| Arc::strong_count(own) > 1);
        let own = households.entry(from).or_insert_with(|| Arc::new(Semaphore::new(WEB_HEAVY_CALLS_PER_ADDRESS_MAX)));
        Arc::clone(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::Builder;

    #[test]
    fn one_household_leaves_room_for_others_and_all_together_have_an_end() {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let heavy = Heavy::default();
        let enter = |from: &str| runtime.block_on(heavy.enter(from.parse().unwrap(), Duration::ZERO));
        let mut first: Vec<HeavyCall> = (0..WEB_HEAVY_CALLS_PER_ADDRESS_MAX).map(|_| enter("::1").unwrap()).collect();
        assert!(enter("::1").is_none() && enter("::2").is_none(), "an address, and its network");
        let second: Vec<HeavyCall> =
            (0..WEB_HEAVY_CALLS_MAX - first.len()).map(|_| enter("10.0.0.1").unwrap()).collect();
        assert!(enter("10.0.0.2").is_none(), "as many as there may be");
        first.pop();
        assert!(enter("10.0.0.2").is_some() && enter("::2").is_some());
        drop((first, second));
        assert!(enter("10.0.0.1").is_some());
        assert_eq!(heavy.by_household.lock().unwrap().len(), 1, "who has none is forgotten");
    }
}
