//! Spans of time as people read them.

use super::fixed;

/// A measured duration: `12 ms`, `0.21 s`, `4.2 s`, `1 min 48 s`.
pub fn took(ms: u64) -> String {
    match ms {
        0..100 => format!("{ms} ms"),
        100..995 => format!("{} s", fixed(ms as f64 / 1000.0, 2)),
        995..59_950 => format!("{} s", fixed(ms as f64 / 1000.0, 1)),
        _ => span(ms),
    }
}

/// A countdown or an age in whole seconds, two units at most: `48 s`, `1 min 48 s`, `2 h 5 min`, `3 d 4 h`.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| {
        if small == 0 {
            format!("{big} {big_unit}")
        } else {
            format!("{big} {big_unit} {small} {small_unit}")
        }
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// A span whose milliseconds matter, as a setting may have them: `250 ms`, else as [`span`].
pub fn setting(ms: u64) -> String {
    if !ms.is_multiple_of(1000) && ms < 10_000 { format!("{ms} ms") } else { span(ms) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_precise_as_they_are_short() {
        for (ms, text) in [
            (0, "0 ms"),
            (12, "12 ms"),
            (210, "0.21 s"),
            (994, "0.99 s"),
            (995, "1.0 s"),
            (4_210, "4.2 s"),
            (59_949, "59.9 s"),
            (108_000, "1 min 48 s"),
        ] {
            assert_eq!(took(ms), text);
        }
    }

    #[test]
    fn countdowns_have_two_units_at_most() {
        for (seconds, text) in [
            (0, "0 s"),
            (48, "48 s"),
            (60, "1 min"),
            (108, "1 min 48 s"),
            (7_500, "2 h 5 min"),
            (7_230, "2 h"),
            (273_600, "3 d 4 h"),
        ] {
            assert_eq!(span(seconds * 1000), text);
        }
    }

    #[test]
    fn a_setting_below_ten_seconds_keeps_its_milliseconds() {
        assert_eq!(setting(250), "250 ms");
        assert_eq!(setting(1500), "1500 ms");
        assert_eq!(setting(600_000), "10 min");
    }
}
