//! Durations as people type and read them: `500ms`, `10s`, `5m`, `1h`.

use std::time::Duration;

/// Reads a duration: a whole number and one of `ms`, `s`, `m`, `h`.
///
/// # Errors
/// What is expected instead, for the command line's error message.
pub fn parse(text: &str) -> Result<Duration, String> {
    let expected = || format!("`{text}` is no duration: write a number and a unit, as in 500ms, 10s, 5m");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        _ => return Err(expected()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(|| format!("`{text}` is too long"))
}

/// Reads a duration that is not zero.
///
/// # Errors
/// As [`parse`].
pub fn parse_some(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("it must be longer than zero".to_owned()),
        duration => Ok(duration),
    }
}

/// Writes a duration for people, with about three figures: `1.25 ms`, `3.4 s`, `2 min 5 s`, `3 h 20 min`.
pub fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration < Duration::from_millis(1) => format!("{} µs", duration.as_micros()),
        0 => format!("{:.1} ms", duration.as_secs_f64() * 1000.0),
        1..=59 => format!("{:.2} s", duration.as_secs_f64()),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..=86399 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// The same for one that is known to the millisecond only: `0 ms`, `12 ms`, `3.40 s`.
pub fn show_ms(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { show(Duration::from_millis(ms)) }
}

/// Writes a duration for tables, in one unit, cut off: `3s`, `12m`, `14d`.
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3599 => format!("{}m", seconds / 60),
        3600..=86399 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_forms_are_read() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(parse_some("0s"), Err("it must be longer than zero".to_owned()));
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in ["", "10", "s", "1.5s", "-1s", " 1s", "1 s", "10 seconds", "99999999999999999999s"] {
            assert!(parse(text).unwrap_err().contains("500ms"), "{text}");
        }
        assert!(parse("18446744073709551615h").unwrap_err().contains("too long"));
    }

    #[test]
    fn durations_are_shown_in_a_fitting_unit() {
        assert_eq!(show(Duration::from_micros(250)), "250 µs");
        assert_eq!(show(Duration::from_micros(1250)), "1.2 ms");
        assert_eq!(show(Duration::from_millis(3400)), "3.40 s");
        assert_eq!(show(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(show(Duration::from_secs(12000)), "3 h 20 min");
        assert_eq!(show(Duration::from_secs(200000)), "2 d 7 h");
    }

    #[test]
    fn what_is_known_to_the_millisecond_is_shown_no_more_exactly() {
        assert_eq!([0, 1, 999, 3400].map(show_ms), ["0 ms", "1 ms", "999 ms", "3.40 s"]);
    }

    #[test]
    fn in_tables_durations_have_one_unit() {
        let short = |seconds| short(Duration::from_secs(seconds));
        assert_eq!([59, 60, 3599, 3600, 86399, 86400].map(short), ["59s", "1m", "59m", "1h", "23h", "1d"]);
        assert_eq!(short(0), "0s");
    }
}
