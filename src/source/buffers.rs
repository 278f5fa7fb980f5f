//! Buffers that files are read into for hashing: a few for all threads, however many and however long the chunks are.

use std::sync::{Condvar, Mutex, PoisonError};

/// Length of a buffer: a whole chunk of all but very large files, and it stays in a core's own cache while it is hashed.
const BUFFER_BYTES: usize = 256 * 1024;
/// Most buffers; with their length this bounds the memory at 8 MiB.
const BUFFERS_MAX: usize = 32;

/// The buffers that nobody uses right now.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    shelf: Mutex<Shelf>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Shelf {
    free: Vec<Box<[u8]>>,
    made: usize,
    /// Threads that wait for one.
    waiting: usize,
}

impl Buffers {
    /// Runs `act` with a buffer, which holds whatever its last user left. Waits while all are in use.
    ///
    /// `act` must not wait for another thread that may wait here.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut [u8]) -> T) -> T {
        let mut buffer = self.take();
        let result = act(&mut buffer);
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.free.push(buffer);
        let is_awaited = shelf.waiting > 0;
        drop(shelf);
        // Each notice costs a call to the system, whether anybody hears it or not.
        if is_awaited {
            self.returned.notify_one();
        }
        result
    }

    fn take(&self) -> Box<[u8]> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(buffer) = shelf.free.pop() {
                return buffer;
            }
            if shelf.made < BUFFERS_MAX {
                shelf.made += 1;
                drop(shelf);
                return vec![0; BUFFER_BYTES].into_boxed_slice();
            }
            shelf.waiting += 1;
            shelf = self.returned.wait(shelf).unwrap_or_else(PoisonError::into_inner);
            shelf.waiting -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_threads_than_buffers_share_them() {
        let buffers = Buffers::default();
        std::thread::scope(|scope| {
            for thread in 0..BUFFERS_MAX * 2 {
                let buffers = &buffers;
                scope.spawn(move || {
                    for round in 0..50 {
                        let mark = u8::try_from((thread + round) % 251).unwrap();
                        buffers.with(|buffer| {
                            buffer[..64].fill(mark);
                            assert!(buffer[..64].iter().all(|byte| *byte == mark));
                        });
                    }
                });
            }
        });
        let shelf = buffers.shelf.lock().unwrap();
        assert!(shelf.made <= BUFFERS_MAX);
        assert_eq!(shelf.free.len(), shelf.made);
    }
}
