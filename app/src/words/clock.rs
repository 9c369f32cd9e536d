//! Moments as people read them.

use protocol::Time;

/// `14:02:31` in a zone that is so many minutes ahead of UTC.
pub fn clock(at: Time, minutes_ahead: i32) -> String {
    let seconds = (at.unix_ms() + i64::from(minutes_ahead) * 60_000).rem_euclid(86_400_000) / 1000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `14:02`, likewise.
pub fn short_clock(at: Time, minutes_ahead: i32) -> String {
    let mut text = clock(at, minutes_ahead);
    text.truncate(5);
    text
}

/// `2026-11-23` in a zone that is so many minutes ahead of UTC.
pub fn day(at: Time, minutes_ahead: i32) -> String {
    let mut text = Time::from_unix_ms(at.unix_ms() + i64::from(minutes_ahead) * 60_000).to_string();
    text.truncate(10);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_moves_the_clock_both_ways_over_midnight() {
        let at = Time::from_unix_ms(1_795_442_551_120); // 14:02:31 UTC
        assert_eq!(clock(at, 0), "14:02:31");
        assert_eq!(clock(at, 90), "15:32:31");
        assert_eq!(clock(at, -900), "23:02:31");
        assert_eq!(short_clock(at, 660), "01:02");
        assert_eq!((day(at, 0), day(at, 660)), ("2026-11-23".to_owned(), "2026-11-24".to_owned()));
    }
}
