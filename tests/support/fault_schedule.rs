//! Lists of faults made from a seed: the same seed gives the same list, on every machine.

#[path = "sim_rng.rs"]
mod sim_rng;

use super::{Fault, Way};
use sim_rng::Rng;
use std::time::Duration;

/// A fault with its moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Step {
    pub when: When,
    pub fault: Fault,
    /// After which time it ends, where it lasts.
    pub lasts: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// After so much time.
    Elapsed(Duration),
    /// After so many bytes in one direction, in all connections together.
    Passed(Way, u64),
}

/// `count` faults with up to `apart` bytes towards the receiver between one and the next. Those that last end within a
/// second; none changes bytes.
pub fn by_bytes(seed: u64, count: usize, apart: u64) -> Vec<Step> {
    let mut rng = Rng::new(seed);
    let mut at = 0;
    let steps = (0..count).map(|_| {
        at += rng.between(1, apart);
        step(&mut rng, When::Passed(Way::ToReceiver, at))
    });
    steps.collect()
}

/// `count` faults with up to `apart` between one and the next, otherwise as in [`by_bytes`].
pub fn by_time(seed: u64, count: usize, apart: Duration) -> Vec<Step> {
    let mut rng = Rng::new(seed);
    let mut at = Duration::ZERO;
    let steps = (0..count).map(|_| {
        at += Duration::from_micros(rng.between(1, apart.as_micros() as u64));
        step(&mut rng, When::Elapsed(at))
    });
    steps.collect()
}

fn step(rng: &mut Rng, when: When) -> Step {
    let way = *rng.pick(&[Way::ToReceiver, Way::ToSender]);
    let fault = match rng.below(7) {
        0 => Fault::Close,
        1 => Fault::Delay(way, rng.millis(1, 200)),
        2 => Fault::HalfClose(way),
        3 => Fault::Hold(way),
        4 => Fault::Refuse,
        5 => Fault::Reset,
        _ => Fault::Throttle(way, Some(rng.scale(16 << 10, 16 << 20))),
    };
    let lasts = fault.end().is_some().then(|| rng.millis(10, 1000));
    Step { when, fault, lasts }
}
