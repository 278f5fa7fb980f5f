//! Decides whether compressing pays, from what was measured; the caller has the clock.
//!
//! Data that shrinks is worth compressing where the link is slower than the compressor, and not where the cores have enough
//! to do. Which of the two limits a session cannot be told from how long a send blocks: sockets hold as much as a receiver
//! asks for ahead, and on one machine a slow receiver blocks a send as a slow link does. What can be told is how many bytes
//! of files go out in a second. So that is compared: for a tenth of a second the session does the other thing, and stays with
//! what was faster. A trial costs time itself, and is left out where the outcome is known:
//!
//! * Compressing at the present rate would take most of the cores: the link is no slower than the compressor.
//! * It would take next to none of them: whatever limits the session, it is not that.

use super::Level;
use std::time::Duration;

/// What the user wants of compression.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Compression {
    /// What is faster.
    #[default]
    Auto,
    /// Every piece that shrinks, at this level.
    Level(Level),
    /// None.
    Off,
}

/// What a session does with the pieces of its lanes, all of them together.
#[derive(Debug)]
pub struct Decider {
    compression: Compression,
    /// Whether the other end shares this machine: then its cores are these, and what the link carries is no limit as a rule.
    is_near: bool,
    /// Cores that the session may use.
    cores: f64,
    compresses: bool,
    level: Level,
    /// Seconds that one core takes to compress a byte that shrinks; nothing where none was compressed yet.
    cost: Option<f64>,
    slot: Slot,
    /// Bytes of files in a second, in the last slot.
    plain_pace: f64,
    /// While the other thing is tried: the pace before.
    tried_against: Option<Pace>,
    /// Trials in a row that changed nothing.
    failures: u32,
    /// When a trial is due, where one is in doubt.
    trial_due: Duration,
    /// What the link carried in a second when something was tried last, and when that was.
    tried: Option<(f64, Duration)>,
    /// When one is due although nothing speaks for it.
    check_due: Duration,
    /// When the next piece is compressed although it need not be, to learn what that costs.
    probe_due: Duration,
}

/// Bytes in a second.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Of files.
    plain: f64,
    /// Over the link.
    wire: f64,
}

/// A span of time in which bytes are counted.
#[derive(Debug)]
struct Slot {
    began: Duration,
    last: Duration,
    /// Whether what was on its way when it began has arrived; until then it is not counted.
    is_settled: bool,
    bytes: u64,
    /// Of these, pieces that shrank.
    shrunk: u64,
    wire_bytes: u64,
    compressing: Duration,
}

impl Decider {
    /// A session that begins at `now`. Near, it starts without compression, which a link between two machines mostly repays.
    pub fn new(now: Duration, compression: Compression, is_near: bool) -> Self {
        Self {
            compression,
            is_near,
            cores: 1.0,
            compresses: !is_near,
            level: Level::BEST_CHEAP,
            cost: None,
            slot: Slot::new(now),
            plain_pace: 0.0,
            tried_against: None,
            failures: 0,
            trial_due: now,
            tried: None,
            check_due: now + CHECK_FIRST,
            probe_due: now,
        }
    }

    /// Sets the cores that the session may use: fewer where others share them.
    pub fn set_cores(&mut self, cores: usize) {
        self.cores = f64::from(u16::try_from(cores.max(1)).unwrap_or(u16::MAX));
    }

    /// The level to compress the piece with that is next at `now`, if it looks as if it shrinks; `None` sends it as it is.
    pub fn level(&mut self, now: Duration) -> Option<Level> {
        match self.compression {
            Compression::Off => None,
            Compression::Level(level) => Some(level),
            Compression::Auto if self.compresses => Some(self.level),
            Compression::Auto => {
                let is_due = now >= self.probe_due;
                if is_due {
                    // Other lanes ask before this one has its answer.
                    self.probe_due = now + PROBE_EVERY;
                }
                is_due.then_some(self.level)
            }
        }
    }

    /// Whether pieces that do not look as if they shrink are left alone.
    pub fn looks_first(&self) -> bool {
        self.compression == Compression::Auto
    }

    /// Whether looking at each of them would cost too much.
    pub fn may_skip(&self) -> bool {
        self.looks_first() && self.plain_pace > SKIPPED_FROM
    }

    /// A piece of `bytes` was compressed, or shown not to shrink.
    pub fn compressed(&mut self, bytes: u64, took: Duration, has_shrunk: bool) {
        self.slot.compressing += took;
        self.slot.shrunk += if has_shrunk { bytes } else { 0 };
        if has_shrunk && bytes >= COSTED_BYTES_MIN {
            let cost = took.as_secs_f64() / float(bytes);
            self.cost = Some(self.cost.map_or(cost, |before| before * 0.9 + cost * 0.1));
        }
    }

    /// A piece of `bytes` that are not all zero was handed over by `now`, as `wire_bytes`.
    pub fn sent(&mut self, now: Duration, bytes: u64, wire_bytes: u64) {
        if self.compression != Compression::Auto {
            return;
        }
        if now.saturating_sub(self.slot.last) > PAUSE {
            // Nobody asked for anything: that time says nothing about either way.
            self.slot = Slot::new(now);
        }
        self.slot.last = now;
        self.slot.bytes += bytes;
        self.slot.wire_bytes += wire_bytes;
        let (elapsed, bytes) = (now.saturating_sub(self.slot.began), self.slot.bytes);
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let pace = Pace { plain: float(bytes) / seconds, wire: float(self.slot.wire_bytes) / seconds };
        let is_lost = |before: Pace| elapsed >= TRIAL_TIME_MIN && pace.plain * CLEARLY_BETTER < before.plain;
        if self.tried_against.is_some_and(is_lost) {
            self.judge(now, pace, 0.0);
        } else if !self.slot.is_settled {
            if elapsed >= SETTLE_TIME_MAX || (bytes >= SETTLE_BYTES && elapsed >= SETTLE_TIME_MIN) {
                self.slot = Slot { is_settled: true, ..Slot::new(now) };
            }
        } else if elapsed >= MEASURE_TIME_MAX || (bytes >= MEASURE_BYTES && elapsed >= MEASURE_TIME) {
            let compressing = self.slot.compressing.as_secs_f64() / seconds;
            self.judge(now, pace, compressing / self.cores);
        }
    }

    /// Takes the pace of a slot, and the share of the cores that compressed in it.
    fn judge(&mut self, now: Duration, pace: Pace, share: f64) {
        self.plain_pace = pace.plain;
        if let Some((before, at)) = self.tried
            && (pace.wire > before * OTHER_RATE || pace.wire * OTHER_RATE < before)
        {
            // What was found was found with another link.
            self.trial_due = self.trial_due.min(at + TRIAL_EVERY);
        }
        match self.tried_against.take() {
            Some(before) if pace.plain > before.plain * BETTER => {
                self.failures = 0;
                let is_clear = pace.plain > before.plain * CLEARLY_BETTER;
                self.stays(now, pace, if is_clear { TRIAL_EVERY_MAX } else { TRIAL_EVERY });
            }
            Some(_) if self.compresses && !self.slot.is_telling() => {
                // It was not tried: there was too little that shrinks.
                self.trial_due = now + TRIAL_AGAIN;
                self.compresses = false;
                self.slot = Slot::new(now);
                return;
            }
            Some(before) => {
                self.failures += 1;
                self.stays(now, before, (TRIAL_EVERY * 2_u32.pow(self.failures.min(8))).min(TRIAL_EVERY_MAX));
                self.compresses = !self.compresses;
                self.slot = Slot::new(now);
                return;
            }
            None if self.compresses => {
                self.level = if share > SHARE_FOR_LESS_WORK { Level::MIN } else { Level::BEST_CHEAP };
                let is_in_doubt = share >= SHARE_IN_DOUBT && now >= self.trial_due;
                if self.slot.is_telling() && (is_in_doubt || now >= self.check_due) {
                    return self.try_other(now, pace);
                }
            }
            None => {
                let share = self.cost.map_or(f64::INFINITY, |cost| cost * pace.plain / self.cores);
                let share_harmless = if self.is_near { SHARE_HARMLESS_NEAR } else { SHARE_HARMLESS };
                if share <= share_harmless {
                    self.compresses = true;
                    self.slot = Slot::new(now);
                    return;
                } else if share < SHARE_HOPELESS && now >= self.trial_due {
                    return self.try_other(now, pace);
                }
            }
        }
        self.slot = Slot { is_settled: true, ..Slot::new(now) };
    }

    fn try_other(&mut self, now: Duration, pace: Pace) {
        self.tried_against = Some(pace);
        self.compresses = !self.compresses;
        self.slot = Slot::new(now);
    }

    fn stays(&mut self, now: Duration, pace: Pace, wait: Duration) {
        self.tried = Some((pace.wire, now));
        self.trial_due = now + wait;
        self.check_due = now + TRIAL_EVERY_MAX;
    }
}

impl Slot {
    fn new(now: Duration) -> Self {
        Self {
            began: now,
            last: now,
            is_settled: false,
            bytes: 0,
            shrunk: 0,
            wire_bytes: 0,
            compressing: Duration::ZERO,
        }
    }

    /// Whether enough of it shrank to tell what compressing is worth.
    fn is_telling(&self) -> bool {
        self.shrunk >= self.bytes / 4
    }
}

/// Precision is lost above 2^52 bytes, which nothing carries in the time that is looked at.
#[allow(clippy::cast_precision_loss)]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

/// What lies in sockets and was asked for ahead, after a change, before its effect shows: a window of each of eight lanes.
const SETTLE_BYTES: u64 = 8 * 1024 * 1024;
const SETTLE_TIME_MIN: Duration = Duration::from_millis(30);
const SETTLE_TIME_MAX: Duration = Duration::from_millis(300);
const MEASURE_BYTES: u64 = 2 * 1024 * 1024;
const MEASURE_TIME: Duration = Duration::from_millis(100);
const MEASURE_TIME_MAX: Duration = Duration::from_millis(400);
/// A gap between two pieces after which counting starts anew.
const PAUSE: Duration = Duration::from_secs(2);
/// How often a piece is compressed, while none need be, to learn what that costs: a five-hundredth of one core.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// From so many bytes in a second on, looking at each piece takes more than a two-hundredth of one core.
const SKIPPED_FROM: f64 = 3e8;
/// A shorter piece says more about what a call costs than what a byte does.
const COSTED_BYTES_MIN: u64 = 1024;

/// What was tried is kept where it is so many times as fast: less is noise.
const BETTER: f64 = 1.03;
/// So many times as fast, it is not in doubt for a while.
const CLEARLY_BETTER: f64 = 1.3;
/// A link that carries so many times as much or little as when something was tried last is reason to try again. What it
/// carries says more than how fast files are: it stays where only what is in them changes.
const OTHER_RATE: f64 = 1.5;
/// From one trial that changed nothing to the next; twice as long after each.
const TRIAL_EVERY: Duration = Duration::from_secs(4);
/// To the next one where this one found nothing to compress.
const TRIAL_AGAIN: Duration = Duration::from_millis(500);
const TRIAL_EVERY_MAX: Duration = Duration::from_secs(60);
/// When a trial that does clearly worse ends early.
const TRIAL_TIME_MIN: Duration = Duration::from_millis(50);
/// When going without compression is tried first although cores are idle: what limits may be the other end's cores.
const CHECK_FIRST: Duration = Duration::from_secs(10);

/// Compressing at the present rate would take no more of the cores: it is done without a trial.
const SHARE_HARMLESS: f64 = 0.1;
/// The same where the other end needs these cores too.
const SHARE_HARMLESS_NEAR: f64 = 0.02;
/// It would take at least so much of them: it is not tried.
const SHARE_HOPELESS: f64 = 0.7;
/// While compressing, so much of them does: they may be what limits, and the lowest level is used.
const SHARE_FOR_LESS_WORK: f64 = 0.5;
/// And so much: sending pieces as they are may be faster.
const SHARE_IN_DOUBT: f64 = 0.45;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
mod tests {
    use super::*;

    const PIECE: u64 = 256 * 1024;
    /// What it may take to see that a link on this machine is slow, in seconds.
    const FINDING_OUT: f64 = 0.7;

    /// A link, and cores that both ends share or the sender has alone.
    #[derive(Clone, Copy, Debug)]
    struct World {
        link: f64,
        cores: f64,
        /// Seconds of a core for a byte of a piece: to compress it, to handle it, and what of that falls with its length.
        compress: f64,
        handle: f64,
        handle_wire: f64,
        ratio: f64,
        /// Of so many pieces, the last of each hundred, none shrinks.
        random_per_cent: u64,
    }

    impl World {
        const TEXT: Self = Self {
            link: f64::INFINITY,
            cores: 2.0,
            compress: 2.1e-9,
            handle: 0.7e-9,
            handle_wire: 0.6e-9,
            ratio: 0.2,
            random_per_cent: 0,
        };

        /// Seconds that `pieces` take, and the share of those that were compressed.
        fn carry(&self, decider: &mut Decider, pieces: u64) -> (f64, f64) {
            let (mut now, mut compressed) = (0.0, 0);
            decider.set_cores(self.cores as usize);
            for number in 0..pieces {
                let at = Duration::from_secs_f64(now);
                let (mut ratio, mut cpu) = (1.0, 0.0);
                if decider.level(at).is_some() {
                    let shrinks = number % 100 < 100 - self.random_per_cent;
                    let took = if shrinks { self.compress * PIECE as f64 } else { 4e-6 };
                    (ratio, cpu) = (if shrinks { self.ratio } else { 1.0 }, took);
                    compressed += u64::from(shrinks);
                    decider.compressed(PIECE, Duration::from_secs_f64(took), shrinks);
                }
                cpu += (self.handle + self.handle_wire * ratio) * PIECE as f64;
                now += (cpu / self.cores).max(PIECE as f64 * ratio / self.link);
                decider.sent(Duration::from_secs_f64(now), PIECE, (PIECE as f64 * ratio) as u64);
            }
            (now, compressed as f64 / pieces as f64)
        }

        /// Seconds of automatic compression over those of the better of none and all, once it had time to find out.
        fn loss(&self, is_near: bool, pieces: u64) -> f64 {
            let seconds = |compression| self.carry(&mut Decider::new(Duration::ZERO, compression, is_near), pieces).0;
            let best = seconds(Compression::Off).min(seconds(Compression::Level(Level::BEST_CHEAP)));
            (seconds(Compression::Auto) - FINDING_OUT) / best
        }
    }

    #[test]
    fn automatic_is_about_as_fast_as_the_better_of_none_and_all_over_links_of_all_rates() {
        for is_near in [true, false] {
            for link in [1e5, 1e6, 1e7, 5e7, 1.2e8, 3e8, 6e8, 1.2e9, f64::INFINITY] {
                for cores in [1.0, 2.0, 8.0, 64.0] {
                    for random_per_cent in [0, 50, 100] {
                        let world = World { link, cores, random_per_cent, ..World::TEXT };
                        // Some 30 seconds without compression, or as many gigabytes.
                        let pieces = ((30.0 * link) as u64).min(32 << 30) / PIECE;
                        let loss = world.loss(is_near, pieces.max(40));
                        assert!(loss < 1.03, "{loss} near {is_near} {world:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn where_cores_are_busy_with_other_work_compression_does_not_take_them() {
        // Many small files, which cost far more than their bytes.
        let world = World { handle: 10e-9, ..World::TEXT };
        let (_, share) = world.carry(&mut Decider::new(Duration::ZERO, Compression::Auto, true), 40_000);
        assert!(share < 0.05, "{share} of the pieces were compressed");
        assert!(world.loss(true, 40_000) < 1.03);
    }

    #[test]
    fn a_link_that_becomes_slow_is_noticed_and_so_is_one_that_becomes_fast() {
        let mut decider = Decider::new(Duration::ZERO, Compression::Auto, true);
        let (_, share) = World::TEXT.carry(&mut decider, 20_000);
        assert!(share < 0.01, "{share} over a fast link");
        let slow = World { link: 5e7, ..World::TEXT };
        let mut decider = Later::of(decider);
        let (_, share) = decider.carry(&slow, 20_000);
        assert!(share > 0.9, "{share} over a slow link");
        let (_, share) = decider.carry(&World::TEXT, 200_000);
        assert!(share < 0.3, "{share} over a fast link again");
    }

    #[test]
    fn what_the_user_says_is_done() {
        let level = Level::new(7).unwrap();
        let mut always = Decider::new(Duration::ZERO, Compression::Level(level), true);
        assert!((World::TEXT.carry(&mut always, 1000).1 - 1.0).abs() < 1e-9);
        assert_eq!((always.level(Duration::ZERO), always.looks_first()), (Some(level), false));
        let mut never = Decider::new(Duration::ZERO, Compression::Off, false);
        assert!(World { link: 1e6, ..World::TEXT }.carry(&mut never, 100).1 < 1e-9);
    }

    #[test]
    fn pieces_are_looked_at_one_by_one_unless_there_are_very_many() {
        for (link, may_skip) in [(5e7, false), (1e9, true)] {
            let world = World { link, random_per_cent: 100, cores: 8.0, ..World::TEXT };
            let mut decider = Decider::new(Duration::ZERO, Compression::Auto, false);
            assert!(!decider.may_skip(), "before anything is known");
            world.carry(&mut decider, 2000);
            assert_eq!(decider.may_skip(), may_skip, "{link} bytes a second");
        }
    }

    #[test]
    fn time_in_which_nobody_asks_counts_for_neither() {
        let mut decider = Decider::new(Duration::ZERO, Compression::Auto, false);
        let mut now = Duration::ZERO;
        for _ in 0..10 {
            now += PAUSE + Duration::from_secs(1);
            decider.sent(now, PIECE, PIECE);
        }
        assert!(!decider.slot.is_settled && decider.slot.bytes == PIECE, "{:?}", decider.slot);
    }

    /// A decider whose clock goes on from where it was left.
    struct Later {
        decider: Decider,
        now: f64,
    }

    impl Later {
        fn of(decider: Decider) -> Self {
            let now = decider.slot.last.as_secs_f64();
            Self { decider, now }
        }

        fn carry(&mut self, world: &World, pieces: u64) -> (f64, f64) {
            // The same steps, shifted: the decider only ever looks at differences.
            let offset = Duration::from_secs_f64(self.now);
            let Decider { slot, trial_due, tried, check_due, probe_due, .. } = &mut self.decider;
            let tried = tried.as_mut().map(|(_, at)| at);
            for moment in [&mut slot.began, &mut slot.last, trial_due, check_due, probe_due].into_iter().chain(tried) {
                *moment = moment.saturating_sub(offset);
            }
            let result = world.carry(&mut self.decider, pieces);
            self.now = result.0;
            result
        }
    }
}
