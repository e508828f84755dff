//! Wall time for people and scripts: RFC 3339 in UTC, to the millisecond.

use std::time::{Duration, SystemTime};

/// A moment as RFC 3339 in UTC.
pub fn show(moment: SystemTime) -> String {
    match jiff::Timestamp::try_from(moment) {
        Ok(timestamp) => format!("{timestamp:.3}"),
        // Only a clock beyond the year 9999 gets here.
        Err(_) => "9999-12-31T23:59:59.999Z".to_owned(),
    }
}

/// A moment in UTC to the second, for tables: `2025-11-22 10:00:00`.
pub fn short(moment: SystemTime) -> String {
    show(moment).replace('T', " ").chars().take("2025-11-22 10:00:00".len()).collect()
}

/// The moment of a log record.
pub fn of_ms(since_epoch_ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(since_epoch_ms)
}

/// Now, in milliseconds since the epoch, as log records carry it.
pub fn now_ms() -> u64 {
    crate::log::wall_ms()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_rfc_3339_in_utc() {
        assert_eq!(show(of_ms(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(show(of_ms(1_763_805_600_250)), "2025-11-22T10:00:00.250Z");
        assert_eq!(short(of_ms(1_763_805_600_250)), "2025-11-22 10:00:00");
    }
}
