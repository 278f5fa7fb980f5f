//! What the link does to packets: a rate with a bounded queue, a delay that wavers, losses in bursts, outages.
//!
//! One seed and one sequence of packets give one result; the clock is the caller's.

use std::time::Duration;

/// How a link is. Both directions are alike.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) bytes_per_second: u64,
    /// What waits at most; a packet that finds no room is dropped.
    pub(crate) queue_bytes: u64,
    pub(crate) delay: Duration,
    /// How far the delay wavers, up and down.
    pub(crate) jitter: Duration,
    /// Share of packets that are lost, in millionths.
    pub(crate) loss: u64,
    /// How long a bad spell is on average, in full packets at the link's rate.
    pub(crate) burst: u64,
    /// Share of packets that others overtake, in millionths.
    pub(crate) reorder: u64,
    pub(crate) outages: Outages,
    /// Whether connections do not survive an outage.
    pub(crate) cuts: bool,
}

/// When the link is down.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Outages {
    Cycle {
        up: Duration,
        down: Duration,
    },
    #[default]
    Never,
    Once {
        from: Duration,
        to: Duration,
    },
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    Arrives(Duration),
    Lost,
    NoRoom,
    WhileDown,
}

/// One direction of the link.
pub(crate) struct Direction {
    plan: Plan,
    rng: Rng,
    /// When the last byte that was taken in is sent.
    busy_until: Duration,
    last_arrival: Duration,
    /// Whether the last packet met a bad spell (the second state of Gilbert and Elliott), and when.
    is_bad: bool,
    last_sent: Duration,
    /// The wave of the delay: from one value to another, in this span of time.
    wave: (Duration, f64, f64),
}

/// A full packet.
const PACKET_BYTES: u64 = 1500;
/// How many packets of a bad spell are lost.
const BAD_LOSS: f64 = 0.8;
/// How long the delay takes from one value to the next.
const WAVE: Duration = Duration::from_millis(100);
/// By how much a packet is late that others overtake.
const OVERTAKEN: Duration = Duration::from_millis(10);

impl Direction {
    pub(crate) fn new(plan: &Plan, number: u64) -> Self {
        let rng = Rng(plan.seed.wrapping_mul(2).wrapping_add(number));
        let start = Duration::ZERO;
        Self {
            plan: plan.clone(),
            rng,
            busy_until: start,
            last_arrival: start,
            is_bad: false,
            last_sent: start,
            wave: (start, 0.0, 0.0),
        }
    }

    /// What becomes of a packet of `length` bytes that comes at `now`.
    pub(crate) fn offer(&mut self, now: Duration, length: u64) -> Fate {
        if self.plan.outages.is_down(now) {
            return Fate::WhileDown;
        }
        let begins = self.busy_until.max(now);
        let waiting = begins.saturating_sub(now).as_nanos() * u128::from(self.plan.bytes_per_second) / 1_000_000_000;
        if waiting + u128::from(length) > u128::from(self.plan.queue_bytes) {
            return Fate::NoRoom;
        }
        self.busy_until = begins + Duration::from_nanos(length * 1_000_000_000 / self.plan.bytes_per_second);
        if self.plan.outages.is_down(self.busy_until) {
            return Fate::WhileDown;
        }
        if self.is_lost() {
            return Fate::Lost;
        }
        let arrival = self.busy_until + self.delay(self.busy_until);
        if self.rng.share() * 1e6 < self.plan.reorder as f64 {
            return Fate::Arrives(arrival + OVERTAKEN);
        }
        self.last_arrival = arrival.max(self.last_arrival);
        Fate::Arrives(self.last_arrival)
    }

    fn is_lost(&mut self) -> bool {
        if self.plan.loss == 0 {
            return false;
        }
        let bad_share = self.plan.loss as f64 / 1e6 / BAD_LOSS;
        // Spells begin and end with time, not with packets: one that is sent again later may find the link good.
        let spell = (self.plan.burst * PACKET_BYTES) as f64 / self.plan.bytes_per_second as f64;
        let passed = self.busy_until.saturating_sub(self.last_sent).as_secs_f64();
        let memory = (-passed / (spell * (1.0 - bad_share))).exp();
        let state = if self.is_bad { 1.0 } else { 0.0 };
        self.is_bad = self.rng.share() < bad_share + (state - bad_share) * memory;
        self.last_sent = self.busy_until;
        self.is_bad && self.rng.share() < BAD_LOSS
    }

    fn delay(&mut self, now: Duration) -> Duration {
        while now >= self.wave.0 + WAVE {
            self.wave = (self.wave.0 + WAVE, self.wave.2, self.rng.share() * 2.0 - 1.0);
        }
        let (began, from, to) = self.wave;
        let height = from + (to - from) * (now.saturating_sub(began).as_secs_f64() / WAVE.as_secs_f64());
        let seconds = self.plan.delay.as_secs_f64() + self.plan.jitter.as_secs_f64() * height;
        Duration::from_secs_f64(seconds.max(0.0))
    }
}

impl Outages {
    pub(crate) fn is_down(self, now: Duration) -> bool {
        match self {
            Self::Cycle { up, down } => now.as_nanos() % (up + down).as_nanos() >= up.as_nanos(),
            Self::Never => false,
            Self::Once { from, to } => from <= now && now < to,
        }
    }

    /// How many outages have begun.
    pub(crate) fn begun(self, now: Duration) -> u128 {
        match self {
            Self::Cycle { up, down } => (now + down).as_nanos() / (up + down).as_nanos(),
            Self::Never => 0,
            Self::Once { from, .. } => u128::from(from <= now),
        }
    }

    /// How long the link was up until `now`.
    pub(crate) fn up_time(self, now: Duration) -> Duration {
        match self {
            Self::Cycle { up, down } => {
                let rounds = u32::try_from(now.as_nanos() / (up + down).as_nanos()).expect("a run is short");
                up * rounds + up.min(now.saturating_sub((up + down) * rounds))
            }
            Self::Never => now,
            Self::Once { from, to } => now.min(from) + now.saturating_sub(to),
        }
    }
}

/// `SplitMix64`.
struct Rng(u64);

impl Rng {
    /// A number from 0 to 1, which is not included.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let delay = Duration::from_millis(50);
        Plan { seed: 1, bytes_per_second: 1_500_000, queue_bytes: 15_000, delay, burst: 4, ..Plan::default() }
    }

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// The fates of a packet every millisecond, which is the rate of the link.
    fn fates(plan: &Plan, count: u64) -> Vec<Fate> {
        let mut direction = Direction::new(plan, 0);
        (0..count).map(|at| direction.offer(millis(at), PACKET_BYTES)).collect()
    }

    #[test]
    fn packets_take_their_turn_and_the_queue_is_bounded() {
        let mut direction = Direction::new(&plan(), 0);
        for place in 1..=10 {
            assert_eq!(direction.offer(Duration::ZERO, PACKET_BYTES), Fate::Arrives(millis(place + 50)));
        }
        assert_eq!(direction.offer(Duration::ZERO, PACKET_BYTES), Fate::NoRoom);
        assert_eq!(direction.offer(millis(1), PACKET_BYTES), Fate::Arrives(millis(61)));
        assert_eq!(direction.offer(millis(100), PACKET_BYTES), Fate::Arrives(millis(151)));
    }

    #[test]
    fn losses_have_their_share_and_come_in_bursts() {
        let lossy = Plan { loss: 50_000, ..plan() };
        let lost: Vec<bool> = fates(&lossy, 200_000).iter().map(|fate| *fate == Fate::Lost).collect();
        let count = lost.iter().filter(|lost| **lost).count();
        assert!((8_000..12_000).contains(&count), "{count} of 200000 lost, 10000 expected");
        let runs = lost.windows(2).filter(|pair| pair[0] && !pair[1]).count();
        // Independent losses of this share would make runs of 1.05.
        assert!(2 * count > 3 * runs, "{count} losses in {runs} runs");
    }

    #[test]
    fn a_bad_spell_ends_while_nothing_is_sent() {
        let lossy = Plan { loss: 200_000, burst: 100, ..plan() };
        let mut direction = Direction::new(&lossy, 0);
        let lost: Vec<bool> = (0..20_000)
            .map(|pair| {
                let at = millis(pair / 2 * 10_000 + pair % 2);
                direction.offer(at, PACKET_BYTES) == Fate::Lost
            })
            .collect();
        let both = |pairs: &mut dyn Iterator<Item = (bool, bool)>| pairs.filter(|pair| pair.0 && pair.1).count();
        let near = both(&mut lost.chunks(2).map(|pair| (pair[0], pair[1])));
        let far = both(&mut lost[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])));
        // A fifth of a fifth of 10000 pairs, where packets know nothing of each other.
        assert!(near > 1200 && (300..500).contains(&far), "{near} pairs close together lost, {far} far apart");
    }

    #[test]
    fn delays_waver_within_bounds_and_keep_the_order() {
        let wavering = Plan { jitter: millis(30), ..plan() };
        let arrivals: Vec<Duration> = fates(&wavering, 20_000)
            .into_iter()
            .map(|fate| if let Fate::Arrives(at) = fate { at } else { panic!("{fate:?}") })
            .collect();
        assert!(arrivals.is_sorted());
        let delays: Vec<Duration> =
            (1..).map(millis).zip(&arrivals).map(|(sent, at)| at.saturating_sub(sent)).collect();
        let (least, most) = (*delays.iter().min().unwrap(), *delays.iter().max().unwrap());
        assert!(least >= millis(20) && least < millis(30), "{least:?}");
        assert!(most <= millis(80) && most > millis(70), "{most:?}");
        let swapped = Plan { reorder: 10_000, ..plan() };
        let overtaken = fates(&swapped, 20_000)
            .windows(2)
            .filter(|pair| matches!(pair, [Fate::Arrives(one), Fate::Arrives(next)] if one > next))
            .count();
        assert!((100..400).contains(&overtaken), "{overtaken} of 20000 overtaken, 200 expected");
    }

    #[test]
    fn nothing_passes_an_outage() {
        let cycle = Outages::Cycle { up: millis(20), down: millis(10) };
        let fates = fates(&Plan { outages: cycle, ..plan() }, 90);
        // The packet that is being sent when the link goes down is lost too.
        let down = fates.iter().filter(|fate| **fate == Fate::WhileDown).count();
        assert_eq!(down, 3 * 11);
        assert_eq!(
            (cycle.up_time(millis(15)), cycle.up_time(millis(25)), cycle.up_time(millis(65))),
            (millis(15), millis(20), millis(45))
        );
        assert_eq!((cycle.begun(millis(19)), cycle.begun(millis(20)), cycle.begun(millis(50))), (0, 1, 2));
        let once = Outages::Once { from: millis(10), to: millis(30) };
        assert_eq!((once.up_time(millis(20)), once.up_time(millis(35))), (millis(10), millis(15)));
        assert!(!once.is_down(millis(9)) && once.is_down(millis(10)) && !once.is_down(millis(30)));
    }

    #[test]
    fn a_seed_gives_one_course() {
        let wild = Plan { loss: 100_000, jitter: millis(20), reorder: 10_000, ..plan() };
        assert_eq!(fates(&wild, 5000), fates(&wild, 5000));
        assert_ne!(fates(&wild, 5000), fates(&Plan { seed: 2, ..wild }, 5000));
    }
}
