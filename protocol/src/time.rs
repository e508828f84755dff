//! The only notion of time that takes part in safety: one kernel's `CLOCK_BOOTTIME`, named by its boot id.
//!
//! Every process on the host reads the same clock. It never steps, NTP and a wrong RTC don't touch it, and it goes on
//! through suspend. A time of another boot is past: whatever was on its way then died with that boot's sockets.
//! Wall time is only ever shown to people.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::BootId;

/// How far ahead a participant lets a deadline lie. Until its deadline has passed an operation record can't be
/// forgotten, so this bounds how long a daemon keeps what a runner asked it to remember.
pub const DEADLINE_AHEAD_MAX: Duration = Duration::from_secs(3600);

/// One reading of the boot clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Now {
    /// The boot whose clock was read.
    pub boot: BootId,
    /// Milliseconds since that boot, suspend included.
    pub at_ms: u64,
}

impl Now {
    /// The deadline that lies `ahead` of this moment.
    pub fn deadline_in(&self, ahead: Duration) -> Deadline {
        let ahead_ms = u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX);
        Deadline { boot: self.boot, at_ms: self.at_ms.saturating_add(ahead_ms) }
    }
}

/// The moment from which a participant refuses a step's action if it has not run it before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Deadline {
    /// The boot by whose clock the deadline counts; in any other boot it has passed.
    pub boot: BootId,
    /// Milliseconds since that boot.
    pub at_ms: u64,
}

impl Deadline {
    /// Whether the deadline lies at or before `now`. Once true in a boot it stays true, in every later boot too.
    pub fn passed(&self, now: &Now) -> bool {
        self.boot != now.boot || self.at_ms <= now.at_ms
    }

    /// How long until the deadline; zero once it has passed.
    pub fn remaining(&self, now: &Now) -> Duration {
        if self.passed(now) { Duration::ZERO } else { Duration::from_millis(self.at_ms - now.at_ms) }
    }

    /// Whether the deadline lies further ahead than [`DEADLINE_AHEAD_MAX`].
    pub fn too_far_ahead(&self, now: &Now) -> bool {
        self.remaining(now) > DEADLINE_AHEAD_MAX
    }

    /// The later one of two deadlines, as seen at `now`: one of another boot is before any of this boot.
    pub fn later(self, other: Self, now: &Now) -> Self {
        match (self.boot == now.boot, other.boot == now.boot) {
            (true, true) if other.at_ms > self.at_ms => other,
            (false, true) => other,
            _ => self,
        }
    }
}

/// Where the time comes from; tests and simulations bring their own.
pub trait Clock: Send + Sync {
    /// Reads the clock. Successive readings never go back.
    fn now(&self) -> Now;
}

/// This host's boot clock.
#[derive(Clone, Copy, Debug)]
pub struct BootClock {
    boot: BootId,
}

/// Where the kernel shows the id of the running boot.
const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";

impl BootClock {
    /// Reads the boot id. Nothing that decides by deadlines may start without it.
    ///
    /// # Errors
    /// The boot id can't be read (no `/proc`, or a sandbox that hides it: systemd's `ProcSubset=pid` does) or is
    /// no UUID.
    pub fn open() -> io::Result<Self> {
        Self::of(BOOT_ID_PATH)
    }

    fn of(path: &str) -> io::Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| io::Error::new(e.kind(), format!("can't read {path}: {e}")))?;
        let boot =
            text.parse().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{path}: {e}")))?;
        Ok(Self { boot })
    }
}

impl Clock for BootClock {
    fn now(&self) -> Now {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let millis = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000;
        Now { boot: self.boot, at_ms: seconds * 1000 + millis }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIS: BootId = BootId::from_bytes([1; 16]);
    const LAST: BootId = BootId::from_bytes([2; 16]);

    fn at(boot: BootId, at_ms: u64) -> Deadline {
        Deadline { boot, at_ms }
    }

    #[test]
    fn a_deadline_passes_at_its_own_millisecond() {
        let now = Now { boot: THIS, at_ms: 100 };
        assert!(!at(THIS, 101).passed(&now));
        assert!(at(THIS, 100).passed(&now));
        assert_eq!(at(THIS, 130).remaining(&now), Duration::from_millis(30));
    }

    #[test]
    fn a_deadline_of_another_boot_is_past() {
        let now = Now { boot: THIS, at_ms: 100 };
        assert!(at(LAST, u64::MAX).passed(&now));
        assert_eq!(at(LAST, u64::MAX).remaining(&now), Duration::ZERO);
    }

    #[test]
    fn the_later_deadline_is_the_one_of_this_boot() {
        let now = Now { boot: THIS, at_ms: 100 };
        assert_eq!(at(LAST, 900).later(at(THIS, 1), &now), at(THIS, 1));
        assert_eq!(at(THIS, 1).later(at(LAST, 900), &now), at(THIS, 1));
        assert_eq!(at(THIS, 1).later(at(THIS, 2), &now), at(THIS, 2));
        assert_eq!(at(THIS, 2).later(at(THIS, 1), &now), at(THIS, 2));
    }

    #[test]
    fn no_deadline_may_lie_more_than_an_hour_ahead() {
        let now = Now { boot: THIS, at_ms: 5 };
        assert!(!now.deadline_in(DEADLINE_AHEAD_MAX).too_far_ahead(&now));
        assert!(now.deadline_in(DEADLINE_AHEAD_MAX + Duration::from_millis(1)).too_far_ahead(&now));
    }

    #[test]
    fn without_a_boot_id_there_is_no_clock() {
        let id = std::fs::read_to_string(BOOT_ID_PATH).unwrap();
        assert_eq!(BootClock::open().unwrap().now().boot, id.parse().unwrap());
        // None of these says which boot this is.
        for (path, kind) in [
            ("/proc/sys/kernel/random/no_boot_id", io::ErrorKind::NotFound),
            ("/dev/null", io::ErrorKind::InvalidData),
            ("/proc/sys/kernel/ostype", io::ErrorKind::InvalidData),
        ] {
            let refused = BootClock::of(path).unwrap_err();
            assert_eq!(refused.kind(), kind);
            assert!(refused.to_string().contains(path), "{refused}");
        }
    }

    #[test]
    fn the_boot_clock_tells_the_milliseconds_since_the_boot() {
        let kernel_ms = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
            Duration::new(time.tv_sec as u64, time.tv_nsec as u32).as_millis() as u64
        };
        let (before, now, after) = (kernel_ms(), BootClock::open().unwrap().now(), kernel_ms());
        assert!((before..=after).contains(&now.at_ms), "{before} {} {after}", now.at_ms);
    }

    #[test]
    fn the_boot_clock_never_goes_back() {
        let clock = BootClock::open().unwrap();
        let readings: Vec<_> = (0..1000).map(|_| clock.now()).collect();
        assert!(readings.windows(2).all(|w| w[0].boot == w[1].boot && w[0].at_ms <= w[1].at_ms));
    }
}
