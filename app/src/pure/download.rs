//! How far a download is and how long it will still take.

use protocol::Download;

use crate::words::{about, span};

/// When a download was first seen, and with how much of it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstSeen {
    /// In Unix milliseconds, by the server's clock.
    pub at_ms: i64,
    /// Bytes that were there.
    pub done_bytes: u64,
}

/// `41 of 94 MiB · 12 s left`; the time only once there is a speed to tell it by.
pub fn progress(download: &Download, first: Option<FirstSeen>, now_ms: i64) -> String {
    let done = download.done_bytes;
    let Some(total) = download.total_bytes else { return about(done) };
    let amount = crate::words::part_of(done, total);
    match first.and_then(|first| left_ms(done, total, first, now_ms)) {
        Some(ms) => format!("{amount} \u{b7} {} left", span(ms)),
        None => amount,
    }
}

fn left_ms(done: u64, total: u64, first: FirstSeen, now_ms: i64) -> Option<u64> {
    let passed = now_ms - first.at_ms;
    let fetched = done.checked_sub(first.done_bytes)?;
    // Before a second has passed the speed is a guess.
    if passed < 1000 || fetched == 0 {
        return None;
    }
    let left = total.saturating_sub(done) as f64 * passed as f64 / fetched as f64;
    Some((left / 1000.0).ceil() as u64 * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_speed_so_far() {
        let download = Download {
            reference: "smollm2".to_owned(),
            done_bytes: 41 << 20,
            total_bytes: Some(94 << 20),
            error: None,
        };
        let first = FirstSeen { at_ms: 0, done_bytes: 0 };
        assert_eq!(progress(&download, Some(first), 9_000), "41.0 of 94.0 MiB \u{b7} 12 s left");
        assert_eq!(progress(&download, Some(first), 500), "41.0 of 94.0 MiB");
        assert_eq!(progress(&download, None, 0), "41.0 of 94.0 MiB");
        let unknown = Download { total_bytes: None, ..download };
        assert_eq!(progress(&unknown, None, 0), "41 MiB");
    }
}
