//! Words and numbers for people: the one place that turns protocol's shapes into sentences.
//!
//! Pure; knows no page and no HTTP. Server and browser say the same because both say it through here.

mod bytes;
mod clock;
mod connect;
mod ledger;
mod model;
#[cfg(feature = "ssr")]
mod notice;
#[cfg(feature = "ssr")]
mod performance;
#[cfg(feature = "ssr")]
mod plan;
mod receipt;
mod setting;
mod span;

use protocol::{GpuAbsence, GpuAbsent};

pub use bytes::{about, bytes, part_of, round, signed};
pub use clock::{clock, day, short_clock};
pub use connect::{curl, python};
pub use ledger::{cause, happened, moved, told};
pub use model::{
    Unloads, about_file, goes_first, idle_timeout, in_use, loaded_count, standing, state, state_more,
    unloads, would_take,
};
#[cfg(feature = "ssr")]
pub use notice::{notice, refused};
#[cfg(feature = "ssr")]
pub use performance::performance;
#[cfg(feature = "ssr")]
pub use plan::{no_plan, plan};
pub use receipt::{ReceiptWords, method, receipt, why_it_went};
pub use setting::{Group, SettingWords, locked, setting_words, source};
pub use span::{setting, span, took};

/// `1 request`, `2 requests`, `no requests`: a count with its noun.
pub fn count(number: u64, noun: &str) -> String {
    match number {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// How much of a whole is done, 0 to 100; 100 only when all of it is.
pub fn percent(done: u64, total: u64) -> u64 {
    if total == 0 { 0 } else { (done.min(total) as f64 / total as f64 * 100.0).floor() as u64 }
}

/// A number that is not negative with so many decimals. Rust's own way to print a float is 20 kB of tables.
pub fn fixed(value: f64, decimals: u32) -> String {
    let scale = 10_u64.pow(decimals);
    let scaled = (value.max(0.0) * scale as f64).round() as u64;
    match decimals {
        0 => scaled.to_string(),
        _ => format!("{}.{:0width$}", scaled / scale, scaled % scale, width = decimals as usize),
    }
}

/// `134,515,008`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `a, b and c`.
pub fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// Why there is no GPU to show. One whose driver hangs is there all the same.
pub fn no_gpu(absent: &GpuAbsent) -> String {
    let how = if absent.kind == GpuAbsence::Absent { "found" } else { "can be used" };
    format!("No GPU {how}: {}. Models run on the CPU.", absent.reason.trim_end_matches('.'))
}

/// A sentence for display after a colon or on its own: its first letter is a capital one, it ends with a stop.
pub fn sentence(text: &str) -> String {
    let text = text.trim();
    let stop = if text.is_empty() || text.ends_with(['.', '!', '?']) { "" } else { "." };
    protocol::capital(text) + stop
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_lists_read_like_english() {
        assert_eq!([0, 999, 1000, 134_515_008].map(thousands), ["0", "999", "1,000", "134,515,008"]);
        assert_eq!(count(0, "request"), "no requests");
        assert_eq!(count(1, "request"), "1 request");
        assert_eq!(count(2, "request"), "2 requests");
        let items = ["a", "b", "c"].map(String::from);
        assert_eq!(list(&items), "a, b and c");
        assert_eq!(list(&items[..2]), "a and b");
        assert_eq!(list(&[]), "");
    }

    #[test]
    fn numbers_are_printed_as_rust_prints_them() {
        for (value, decimals) in
            [(0.0, 0), (0.0, 2), (33.14, 1), (0.05, 2), (9.999, 2), (41.7, 0), (123_456.75, 1)]
        {
            assert_eq!(fixed(value, decimals), format!("{value:.*}", decimals as usize));
        }
        assert_eq!(fixed(-1.0, 1), "0.0");
    }

    #[test]
    fn a_gpu_whose_driver_hangs_is_not_said_to_be_missing() {
        let said =
            |kind, reason: &str| no_gpu(&GpuAbsent { kind, reason: reason.to_owned(), hint: String::new() });
        assert_eq!(said(GpuAbsence::Absent, "no driver."), "No GPU found: no driver. Models run on the CPU.");
        for kind in [GpuAbsence::Unreadable, GpuAbsence::Stuck] {
            let words = said(kind, "NVIDIA driver does not answer");
            assert_eq!(words, "No GPU can be used: NVIDIA driver does not answer. Models run on the CPU.");
        }
    }

    #[test]
    fn a_sentence_begins_large_and_ends_with_one_stop() {
        assert_eq!(sentence(" held by process 4121"), "Held by process 4121.");
        assert_eq!(sentence("What now?"), "What now?");
        assert_eq!(sentence(""), "");
    }
}
