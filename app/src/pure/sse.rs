//! Server-sent events out of the pieces of a byte stream, wherever it was cut.

/// Gathers pieces and hands whole events out. Only `data` matters here; comments and ids are skipped.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    data: Option<String>,
}

impl Events {
    /// Takes a piece and returns the data of every event that it completes.
    pub fn feed(&mut self, piece: &[u8]) -> Vec<String> {
        let mut done = Vec::new();
        for &byte in piece {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if line.is_empty() {
                done.extend(self.data.take());
            } else if let Some(value) = line.strip_prefix(b"data:") {
                // Decoded by whole lines, so a cut inside a character does no harm.
                let text = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value));
                match &mut self.data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(&text);
                    }
                    None => self.data = Some(text.into_owned()),
                }
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str =
        ": keep-alive\n\ndata: {\"a\":\"\u{e9}\"}\n\nid: 7\r\ndata:one\r\ndata: two\r\n\r\ndata: [DONE]\n\n";

    #[test]
    fn comments_are_skipped_and_lines_of_one_event_are_joined() {
        let events = Events::default().feed(STREAM.as_bytes());
        assert_eq!(events, ["{\"a\":\"\u{e9}\"}", "one\ntwo", "[DONE]"]);
    }

    #[test]
    fn an_event_that_is_not_whole_yet_is_kept_back() {
        let mut events = Events::default();
        assert!(events.feed(b"data: hal").is_empty());
        assert!(events.feed(b"f\n").is_empty());
        assert_eq!(events.feed(b"\n"), ["half"]);
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(cuts in prop::collection::vec(0_usize..STREAM.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut events = Events::default();
            let (mut got, mut from) = (Vec::new(), 0);
            for cut in cuts.into_iter().chain([STREAM.len()]) {
                got.extend(events.feed(&STREAM.as_bytes()[from..cut]));
                from = cut;
            }
            prop_assert_eq!(got, Events::default().feed(STREAM.as_bytes()));
        }
    }
}
