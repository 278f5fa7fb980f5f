//! Chunks that lanes wait for, and those that came and lie ready.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What is held is bounded. A lane that can do nothing without its next chunk gets that one all the same: what is held may
/// be for lanes that wait for it.
#[derive(Debug)]
pub(super) struct Awaited {
    bytes_max: usize,
    /// By how many requests each is waited for.
    wanted: BTreeMap<u64, u32>,
    /// Those of them that lanes can do nothing without, and how many lanes.
    urgent: BTreeMap<u64, u32>,
    ready: HashMap<u64, Arc<Vec<u8>>>,
    ready_bytes: usize,
}

impl Awaited {
    /// Nothing. At most `bytes_max` bytes are held for lanes which have not come to them.
    pub(super) fn new(bytes_max: usize) -> Self {
        let (wanted, urgent, ready) = (BTreeMap::new(), BTreeMap::new(), HashMap::new());
        Self { bytes_max, wanted, urgent, ready, ready_bytes: 0 }
    }

    /// A request waits for chunks.
    pub(super) fn expect(&mut self, chunks: &BTreeSet<u64>) {
        for &chunk in chunks {
            *self.wanted.entry(chunk).or_default() += 1;
        }
    }

    /// One request less waits for a chunk. With the last of them it is dropped.
    pub(super) fn release(&mut self, chunk: u64) {
        if take_one(&mut self.wanted, chunk) {
            self.ready_bytes -= self.ready.remove(&chunk).map_or(0, |bytes| bytes.len());
        }
    }

    /// A lane can do nothing until a chunk is there.
    pub(super) fn urge(&mut self, chunk: u64) {
        *self.urgent.entry(chunk).or_default() += 1;
    }

    /// It does not wait any more.
    pub(super) fn calm(&mut self, chunk: u64) {
        take_one(&mut self.urgent, chunk);
    }

    /// A chunk came. What nobody waits for, and what there is no room for, is dropped.
    pub(super) fn put(&mut self, chunk: u64, bytes: &[u8]) {
        let has_room = self.ready_bytes + bytes.len() <= self.bytes_max || self.urgent.contains_key(&chunk);
        if has_room && self.wanted.contains_key(&chunk) && !self.has(chunk) {
            self.ready_bytes += bytes.len();
            self.ready.insert(chunk, Arc::new(bytes.to_vec()));
        }
    }

    /// Whether a chunk lies ready.
    pub(super) fn has(&self, chunk: u64) -> bool {
        self.ready.contains_key(&chunk)
    }

    /// A chunk that lies ready.
    pub(super) fn ready(&self, chunk: u64) -> Option<Arc<Vec<u8>>> {
        self.ready.get(&chunk).cloned()
    }

    /// What is lacking: what is urgent, then as much as there is room for. What is asked for beyond that would come for
    /// nothing.
    pub(super) fn lacking(&self, length_of: impl Fn(u64) -> u64) -> impl Iterator<Item = u64> {
        let is_lacking = |&chunk: &u64| !self.has(chunk);
        let urgent: Vec<u64> = self.urgent.keys().copied().filter(is_lacking).collect();
        let coming: u64 = urgent.iter().map(|&chunk| length_of(chunk)).sum();
        let mut room = (self.bytes_max.saturating_sub(self.ready_bytes) as u64).saturating_sub(coming);
        let fits = move |&chunk: &u64| {
            let left = room.checked_sub(length_of(chunk));
            room = left.unwrap_or(0);
            left.is_some()
        };
        let others = self.wanted.keys().copied().filter(|chunk| !self.urgent.contains_key(chunk));
        urgent.into_iter().chain(others.filter(is_lacking).take_while(fits))
    }
}

/// Counts one less. Whether that was the last.
fn take_one(counts: &mut BTreeMap<u64, u32>, chunk: u64) -> bool {
    let Some(count) = counts.get_mut(&chunk) else { return false };
    *count -= 1;
    let is_last = *count == 0;
    if is_last {
        counts.remove(&chunk);
    }
    is_last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacking(awaited: &Awaited) -> Vec<u64> {
        awaited.lacking(|_| 10).collect()
    }

    #[test]
    fn no_more_is_asked_for_than_there_is_room_for_and_what_was_sent_makes_room() {
        let mut awaited = Awaited::new(30);
        awaited.expect(&(0..6).collect());
        assert_eq!(lacking(&awaited), [0, 1, 2]);
        for chunk in 0..3 {
            awaited.put(chunk, &[0; 10]);
        }
        assert_eq!(lacking(&awaited), [0; 0]);
        awaited.put(3, &[0; 10]);
        assert!(!awaited.has(3), "there is no room");
        awaited.release(0);
        assert_eq!(lacking(&awaited), [3]);
        awaited.put(0, &[0; 10]);
        assert!(!awaited.has(0), "nobody waits for it any more");
    }

    #[test]
    fn what_a_lane_can_do_nothing_without_comes_first_and_into_a_full_room() {
        let mut awaited = Awaited::new(20);
        awaited.expect(&(0..2).collect());
        awaited.put(0, &[0; 10]);
        awaited.put(1, &[0; 10]);
        awaited.expect(&(7..9).collect());
        assert_eq!(lacking(&awaited), [0; 0]);
        awaited.urge(7);
        assert_eq!(lacking(&awaited), [7]);
        awaited.put(7, &[0; 10]);
        awaited.calm(7);
        assert_eq!(awaited.ready(7).unwrap().len(), 10);
        awaited.release(7);
        awaited.release(0);
        assert_eq!(lacking(&awaited), [8]);
    }

    #[test]
    fn a_chunk_stays_until_the_last_request_for_it_is_over() {
        let mut awaited = Awaited::new(20);
        awaited.expect(&BTreeSet::from([4]));
        awaited.expect(&BTreeSet::from([4]));
        awaited.put(4, &[0; 10]);
        awaited.release(4);
        assert!(awaited.has(4));
        awaited.release(4);
        assert!(!awaited.has(4));
        assert_eq!(awaited.ready_bytes, 0);
    }
}
