//! A moment in wall time, on the wire as RFC 3339 in UTC.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A moment: milliseconds since 1970-01-01T00:00:00Z, written as `2026-11-23T14:02:31.120+00:00`.
///
/// Wall time is only ever shown; no deadline is computed from it. The calendar arithmetic is Howard Hinnant's
/// `civil_from_days` (public domain, "chrono-Compatible Low-Level Date Algorithms"), written here because the
/// smallest date library costs the browser 11 kB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time {
    unix_ms: i64,
}

/// A text that is no RFC 3339 moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadTime;

impl Time {
    /// A moment from milliseconds since the Unix epoch, held within the years 1 to 9999 so that it can be written.
    pub fn from_unix_ms(unix_ms: i64) -> Self {
        Self { unix_ms: unix_ms.clamp(-62_135_596_800_000, 253_402_300_799_999) }
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_ms(self) -> i64 {
        self.unix_ms
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.unix_ms.div_euclid(86_400_000), self.unix_ms.rem_euclid(86_400_000));
        let (year, month, day) = civil_from_days(days);
        let (h, m, s, milli) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{milli:03}+00:00")
    }
}

impl FromStr for Time {
    type Err = BadTime;

    /// Reads `YYYY-MM-DDTHH:MM:SS[.fraction](Z|+HH:MM|-HH:MM)`; a fraction is cut to milliseconds.
    fn from_str(text: &str) -> Result<Self, BadTime> {
        let number = |from: usize, to: usize| -> Result<i64, BadTime> {
            let part = text.get(from..to).ok_or(BadTime)?;
            if part.bytes().all(|b| b.is_ascii_digit()) {
                part.parse().map_err(|_| BadTime)
            } else {
                Err(BadTime)
            }
        };
        let mark = |at: usize, any: &[u8]| text.as_bytes().get(at).is_some_and(|b| any.contains(b));
        if !(mark(4, b"-") && mark(7, b"-") && mark(10, b"Tt ") && mark(13, b":") && mark(16, b":")) {
            return Err(BadTime);
        }
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (h, m, s) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if year < 1 || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
            return Err(BadTime);
        }
        if h > 23 || m > 59 || s > 60 {
            return Err(BadTime);
        }
        let rest = text.get(19..).ok_or(BadTime)?;
        let (milli, zone) = match rest.strip_prefix('.') {
            Some(rest) => {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                if digits == 0 {
                    return Err(BadTime);
                }
                let milli = rest.bytes().take(digits.min(3)).fold(0, |sum, b| sum * 10 + i64::from(b - b'0'));
                (milli * [0, 100, 10, 1][digits.min(3)], &rest[digits..])
            }
            None => (0, rest),
        };
        let offset = match zone.as_bytes() {
            [b'Z' | b'z'] => 0,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2]
                if [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) =>
            {
                let two = |a: &u8, b: &u8| i64::from(a - b'0') * 10 + i64::from(b - b'0');
                let minutes = two(h1, h2) * 60 + two(m1, m2);
                if *sign == b'+' { minutes } else { -minutes }
            }
            _ => return Err(BadTime),
        };
        let seconds = days_from_civil(year, month, day) * 86_400 + h * 3600 + m * 60 + s - offset * 60;
        Ok(Self::from_unix_ms(seconds * 1000 + milli))
    }
}

impl TryFrom<String> for Time {
    type Error = BadTime;

    fn try_from(text: String) -> Result<Self, BadTime> {
        text.parse()
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

impl fmt::Display for BadTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a time: write it as 2026-11-23T14:02:31+00:00")
    }
}

impl std::error::Error for BadTime {}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments_are_written_as_everybody_writes_them() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000+00:00"),
            (951_782_400_000, "2000-02-29T00:00:00.000+00:00"),
            (1_795_442_551_120, "2026-11-23T14:02:31.120+00:00"),
            (-1, "1969-12-31T23:59:59.999+00:00"),
        ] {
            assert_eq!(Time::from_unix_ms(unix_ms).to_string(), text);
            assert_eq!(text.parse(), Ok(Time::from_unix_ms(unix_ms)));
        }
    }

    #[test]
    fn zones_and_fractions_of_others_are_understood() {
        let time = Time::from_unix_ms(1_795_442_551_100);
        for text in
            ["2026-11-23T14:02:31.1Z", "2026-11-23T15:32:31.100999+01:30", "2026-11-23t13:02:31.10-01:00"]
        {
            assert_eq!(text.parse(), Ok(time), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2026-11-23",
            "2026-02-30T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T14:02:31",
            "2026-11-23T14:02:31.Z",
            "+026-11-23T14:02:31Z",
            "2026-11-23T14:02:31+1:00",
            "2026\u{1F600}1-23T14:02:31Z",
        ] {
            assert_eq!(text.parse::<Time>(), Err(BadTime), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_survives_the_wire(unix_ms in -62_135_596_800_000_i64..253_402_300_799_999) {
            let time = Time::from_unix_ms(unix_ms);
            prop_assert_eq!(time.to_string().parse::<Time>(), Ok(time));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC*") {
            let _ = text.parse::<Time>();
        }
    }
}
