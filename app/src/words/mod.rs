//! Words and numbers for people: the one place that turns protocol's shapes into sentences.
//!
//! Pure; knows no page and no HTTP. Server and browser say the same because both say it through here.

mod bytes;
mod clock;
mod ledger;
mod model;
mod notice;
mod receipt;
mod span;

pub use bytes::{about, bytes, part_of, round, signed};
pub use clock::{clock, short_clock};
pub use ledger::told;
pub use model::{Unloads, about_file, idle_timeout, in_use, state, state_more, unloads};
pub use notice::{notice, refused};
pub use receipt::{ReceiptWords, receipt};
pub use span::{setting, span, took};

/// `1 request`, `2 requests`, `no requests`: a count with its noun.
pub fn count(number: u64, noun: &str) -> String {
    match number {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// `a, b and c`.
pub fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// A sentence for display after a colon or on its own: its first letter is a capital one, it ends with a stop.
pub fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut letters = text.chars();
    let Some(first) = letters.next() else { return String::new() };
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{}{}{stop}", first.to_uppercase(), letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_lists_read_like_english() {
        assert_eq!(count(0, "request"), "no requests");
        assert_eq!(count(1, "request"), "1 request");
        assert_eq!(count(2, "request"), "2 requests");
        let items = ["a", "b", "c"].map(String::from);
        assert_eq!(list(&items), "a, b and c");
        assert_eq!(list(&items[..2]), "a and b");
        assert_eq!(list(&[]), "");
    }

    #[test]
    fn a_sentence_begins_large_and_ends_with_one_stop() {
        assert_eq!(sentence(" held by process 4121"), "Held by process 4121.");
        assert_eq!(sentence("What now?"), "What now?");
        assert_eq!(sentence(""), "");
    }
}
