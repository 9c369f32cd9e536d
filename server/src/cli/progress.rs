//! Bars and spinners: only on a terminal, on standard error, gone when the work is done.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output::Output;

/// How far something is; shows nothing where nobody watches.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Work whose length is not known.
    pub(crate) fn spinner(out: &Output, what: &str) -> Self {
        let bar = bar(out, ProgressBar::new_spinner());
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Bytes of a whole.
    pub(crate) fn bytes(out: &Output, what: &str) -> Self {
        let bar = bar(out, ProgressBar::new(0));
        // A template that this version does not know leaves the plain bar.
        if let Ok(style) = ProgressStyle::with_template(
            "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {eta} left",
        ) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// So far.
    pub(crate) fn at(&self, what: &str, done_bytes: u64, total_bytes: Option<u64>) {
        if self.0.message() != what {
            self.0.set_message(what.to_owned());
            self.0.reset_eta();
        }
        if let Some(total) = total_bytes {
            self.0.set_length(total);
        }
        self.0.set_position(done_bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn bar(out: &Output, bar: ProgressBar) -> ProgressBar {
    if out.err_is_terminal && !out.json { bar } else { ProgressBar::hidden() }
}

/// A pause between two looks at something that changes.
#[expect(
    clippy::disallowed_methods,
    reason = "a terminal command looks again now and then; nothing hangs on the moment"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
