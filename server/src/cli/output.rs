//! Where a verb's words go: answers to standard output, everything else to standard error.

use std::io::{IsTerminal, Write};

use protocol::ProblemBody;
use serde::Serialize;

use super::trouble::Trouble;

/// The two streams, and what they can show.
pub(crate) struct Output {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    /// Whether the answer shall be JSON.
    pub(crate) json: bool,
    /// Whether a person watches the answer.
    pub(crate) out_is_terminal: bool,
    /// Whether a person watches the progress.
    pub(crate) err_is_terminal: bool,
    /// Whether colours may be used (NO_COLOR forbids them).
    pub(crate) colour: bool,
}

impl Output {
    /// The process's own.
    pub(crate) fn of_terminal(json: bool) -> Self {
        let (out, err) = (std::io::stdout(), std::io::stderr());
        let (out_is_terminal, err_is_terminal) = (out.is_terminal(), err.is_terminal());
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            out: Box::new(out),
            err: Box::new(err),
            json,
            out_is_terminal,
            err_is_terminal,
            colour: out_is_terminal && !plain,
        }
    }

    /// A line of the answer.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Trouble> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// A piece of the answer, shown at once.
    pub(crate) fn piece(&mut self, text: &str) -> Result<(), Trouble> {
        write!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }

    /// The answer as JSON.
    pub(crate) fn value(&mut self, value: &impl Serialize) -> Result<(), Trouble> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Trouble::Failed(error.to_string()))?;
        self.line(&text)
    }

    /// One of many answers as JSON, on a line of its own.
    pub(crate) fn value_line(&mut self, value: &impl Serialize) -> Result<(), Trouble> {
        let text = serde_json::to_string(value).map_err(|error| Trouble::Failed(error.to_string()))?;
        self.line(&text)
    }

    /// A remark that is not part of the answer. Nobody is harmed when it cannot be written.
    pub(crate) fn remark(&mut self, text: &str) {
        let _ = writeln!(self.err, "{text}");
    }

    /// Why a verb ended: the cause, then what to do. With `--json` it is part of the answer.
    pub(crate) fn trouble(&mut self, trouble: &Trouble) {
        match trouble {
            // Said already, or nobody there to hear it.
            Trouble::NotReturned | Trouble::Partly | Trouble::ReaderGone | Trouble::Command(_) => {}
            _ if self.json => {
                let _ = self.value(&ProblemBody { error: trouble.problem() });
            }
            _ => {
                let _ = writeln!(self.err, "innkeeper: {trouble}");
                let hint = trouble.hint();
                if !hint.is_empty() {
                    let _ = writeln!(self.err, "{hint}");
                }
            }
        }
    }

    /// Text in bold where that can be shown.
    pub(crate) fn strong(&self, text: &str) -> String {
        if self.colour { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Remembers what was written.
    #[derive(Clone, Default)]
    pub(crate) struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Output that a test can read: answers, remarks.
    pub(crate) fn pages(json: bool) -> (Output, Page, Page) {
        let (out, err) = (Page::default(), Page::default());
        let output = Output {
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
            json,
            out_is_terminal: false,
            err_is_terminal: false,
            colour: false,
        };
        (output, out, err)
    }

    #[test]
    fn people_get_cause_and_advice_and_programs_get_json() {
        let trouble = Trouble::Unreachable { server: "http://x".to_owned(), why: "refused".to_owned() };
        let (mut output, out, err) = pages(false);
        output.trouble(&trouble);
        assert_eq!(out.text(), "");
        assert!(
            err.text().starts_with("innkeeper: No server answers at http://x (refused).\nStart one"),
            "{}",
            err.text()
        );
        let (mut output, out, err) = pages(true);
        output.trouble(&trouble);
        assert_eq!(err.text(), "");
        let body: ProblemBody = serde_json::from_str(&out.text()).unwrap();
        assert!(body.error.message.contains("http://x"));
    }

    #[test]
    fn without_colour_nothing_is_bold() {
        let (mut output, _, _) = pages(false);
        assert_eq!(output.strong("x"), "x");
        output.colour = true;
        assert_eq!(output.strong("x"), "\u{1b}[1mx\u{1b}[0m");
    }
}
