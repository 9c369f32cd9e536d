//! The text of an answer as it grows: bytes of tokens in, whole characters out. A character is never split, and a stop
//! text is held back from its first letter on, so that no part of it is ever seen. Knows no model.

/// One answer in the making.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Bytes that do not yet make a character.
    bytes: Vec<u8>,
    /// Characters that may be the beginning of a stop text.
    held: String,
    stops: Vec<String>,
}

/// What came of a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Grown {
    /// This may be shown, perhaps nothing yet.
    Text(String),
    /// A stop text is complete; this came before it and may be shown.
    Stopped(String),
}

impl Answer {
    /// An answer that ends at any of `stops`; empty ones are left out.
    pub(crate) fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { bytes: Vec::new(), held: String::new(), stops }
    }

    /// Takes the bytes of one token.
    pub(crate) fn push(&mut self, token: &[u8]) -> Grown {
        self.bytes.extend_from_slice(token);
        let whole = whole_characters(&self.bytes);
        let fresh = String::from_utf8_lossy(&self.bytes[..whole]).into_owned();
        self.bytes.drain(..whole);
        self.held.push_str(&fresh);
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = first {
            self.held.truncate(at);
            self.bytes.clear();
            return Grown::Stopped(std::mem::take(&mut self.held));
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Grown::Text(std::mem::replace(&mut self.held, rest))
    }

    /// The end: what was held back, with a sign for a character that never became whole.
    pub(crate) fn finish(&mut self) -> String {
        let mut text = std::mem::take(&mut self.held);
        text.push_str(&String::from_utf8_lossy(&self.bytes));
        self.bytes.clear();
        text
    }
}

/// How many leading bytes are decided: whole characters, and bytes that no further ones can mend.
fn whole_characters(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match std::str::from_utf8(&bytes[at..]) {
            Ok(_) => return bytes.len(),
            Err(error) => match error.error_len() {
                Some(bad) => at += error.valid_up_to() + bad,
                None => return at + error.valid_up_to(),
            },
        }
    }
}

/// The longest end of `text` that is a beginning of `stop`, in bytes.
fn overlap(text: &str, stop: &str) -> usize {
    (1..stop.len().min(text.len() + 1))
        .rev()
        .find(|n| stop.is_char_boundary(*n) && text.as_bytes().ends_with(&stop.as_bytes()[..*n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `bytes` in tokens of the given sizes; gives the texts and whether a stop ended it.
    fn feed(bytes: &[u8], sizes: &[usize], stops: &[String]) -> (Vec<String>, bool) {
        let mut answer = Answer::new(stops);
        let mut out = Vec::new();
        let mut rest = bytes;
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let (token, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            rest = after;
            match answer.push(token) {
                Grown::Text(text) => out.push(text),
                Grown::Stopped(text) => {
                    out.push(text);
                    return (out, true);
                }
            }
        }
        out.push(answer.finish());
        (out, false)
    }

    fn sizes() -> impl Strategy<Value = Vec<usize>> {
        proptest::collection::vec(1usize..6, 1..10)
    }

    proptest! {
        #[test]
        fn characters_survive_every_way_of_cutting(text in "\\PC{0,40}", sizes in sizes()) {
            let (parts, stopped) = feed(text.as_bytes(), &sizes, &[]);
            prop_assert!(!stopped);
            prop_assert_eq!(parts.concat(), text);
        }

        #[test]
        fn random_bytes_come_out_as_the_standard_library_reads_them(bytes in proptest::collection::vec(any::<u8>(), 0..60), sizes in sizes()) {
            prop_assert_eq!(feed(&bytes, &sizes, &[]).0.concat(), String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn a_stop_text_ends_the_answer_and_is_never_seen(
            text in "[abé]{0,30}",
            stops in proptest::collection::vec("[abé]{1,4}", 0..3),
            sizes in sizes(),
        ) {
            let (parts, stopped) = feed(text.as_bytes(), &sizes, &stops);
            let shown = parts.concat();
            // What a reader of the whole text would do, token by token.
            let first = stops.iter().filter_map(|stop| text.find(stop.as_str())).min();
            prop_assert_eq!(stopped, first.is_some());
            match first {
                // A longer stop may begin earlier but end later than a shorter one: the first that is complete counts.
                Some(_) => {
                    prop_assert!(text.starts_with(&shown));
                    prop_assert!(stops.iter().any(|stop| text[shown.len()..].starts_with(stop.as_str())));
                    prop_assert!(!stops.iter().any(|stop| shown.contains(stop.as_str())));
                }
                None => prop_assert_eq!(shown, text),
            }
        }
    }

    #[test]
    fn a_stop_text_that_does_not_come_is_released() {
        let mut answer = Answer::new(&["###".to_owned()]);
        assert_eq!(answer.push(b"a#"), Grown::Text("a".to_owned()));
        assert_eq!(answer.push(b"#"), Grown::Text(String::new()));
        assert_eq!(answer.push(b"b"), Grown::Text("##b".to_owned()));
        assert_eq!(answer.push(b"#"), Grown::Text(String::new()));
        assert_eq!(answer.finish(), "#");
    }
}
