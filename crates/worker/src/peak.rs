//! The most private memory that this process ever held, counted after each step: what lasts for milliseconds is seen by
//! nobody else, and the system's own high-water mark counts the pages of the model's file too.

use std::{fs::File, os::unix::fs::FileExt};

use link::FromWorker;

/// What grows by less than one part in so many is not worth a word.
const NOTEWORTHY: u64 = 64;

/// What was said last.
#[derive(Debug)]
pub(crate) struct Peak {
    /// `/proc/self/statm`, opened before the sandbox closed that way. `None`: there is none here, and nothing is told.
    own: Option<File>,
    page_bytes: u64,
    /// The most so far.
    most: u64,
    /// Private bytes when the model was ready.
    at_ready: u64,
    /// Private bytes when there was last nothing to do, of that kept, and whether the largest step had been taken.
    at_rest: (u64, u64, bool),
}

impl Peak {
    /// Must be made before the sandbox.
    pub(crate) fn new() -> Self {
        Self::of(File::open("/proc/self/statm").ok())
    }

    fn of(own: Option<File>) -> Self {
        Self {
            own,
            page_bytes: rustix::param::page_size() as u64,
            most: 0,
            at_ready: 0,
            at_rest: (0, 0, false),
        }
    }

    /// The model is loaded, and nothing was asked of it yet.
    pub(crate) fn ready(&mut self) {
        self.at_ready = self.private_bytes().unwrap_or(0);
        self.at_rest.0 = self.at_ready;
    }

    /// Looks, and says so if there is news. `at_rest`, if there is nothing to do: what is kept for sessions, and whether the
    /// largest step has been taken.
    pub(crate) fn look(&mut self, at_rest: Option<(u64, bool)>, say: &mut dyn FnMut(FromWorker)) {
        let Some(bytes) = self.private_bytes() else { return };
        if bytes > self.most + self.most / NOTEWORTHY {
            self.most = bytes;
            say(FromWorker::Peak { bytes });
        }
        let Some((kept_bytes, full)) = at_rest else { return };
        let (before, kept_before, full_before) = self.at_rest;
        if bytes.abs_diff(before) > before / NOTEWORTHY || (kept_bytes, full) != (kept_before, full_before) {
            self.at_rest = (bytes, kept_bytes, full);
            let grown_bytes = bytes.saturating_sub(self.at_ready);
            say(FromWorker::AtRest { grown_bytes, kept_bytes, full });
        }
    }

    /// Resident pages that are of no file and shared with nobody.
    fn private_bytes(&self) -> Option<u64> {
        let mut text = [0; 128];
        let length = self.own.as_ref()?.read_at(&mut text, 0).ok()?;
        let mut numbers = std::str::from_utf8(&text[..length]).ok()?.split_ascii_whitespace().skip(1);
        let mut pages = || numbers.next()?.parse::<u64>().ok();
        let (resident, shared) = (pages()?, pages()?);
        resident.saturating_sub(shared).checked_mul(self.page_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_grows_is_told_once_and_what_is_held_at_rest_whenever_it_changes_and_what_it_was_at_ready_is_taken_off()
     {
        let (mut file, mut told) = (tempfile(), Vec::new());
        let mut peak = Peak::of(Some(file.try_clone().unwrap()));
        let page = peak.page_bytes;
        let mut look = |text: &str, at_rest: Option<(u64, bool)>| {
            file.set_len(0).unwrap();
            file.write_all_at(text.as_bytes(), 0).unwrap();
            file.flush().unwrap();
            if peak.most == 0 {
                peak.ready();
            }
            told.clear();
            peak.look(at_rest, &mut |message| told.push(message));
            told.clone()
        };
        let most = |pages: u64| FromWorker::Peak { bytes: pages * page };
        let rest =
            |grown: u64, kept_bytes, full| FromWorker::AtRest { grown_bytes: grown * page, kept_bytes, full };
        assert_eq!(look("9000 1000 200 5 0 700 0\n", None), [most(800)]);
        assert_eq!(look("9000 1005 200 5 0 700 0\n", Some((0, false))), [], "nothing to speak of");
        assert_eq!(look("9000 1100 200 5 0 700 0\n", None), [most(900)], "busy");
        assert_eq!(look("9000 1100 200 5 0 700 0\n", Some((7, false))), [rest(100, 7, false)]);
        assert_eq!(look("9000 1100 200 5 0 700 0\n", Some((7, false))), []);
        assert_eq!(
            look("9000 1050 200 5 0 700 0\n", Some((7, true))),
            [rest(50, 7, true)],
            "the largest step"
        );
        assert_eq!(
            look("9000 900 200 5 0 700 0\n", Some((0, true))),
            [rest(0, 0, true)],
            "less than at ready"
        );
        assert_eq!(look("nonsense\n", Some((1, true))), []);
    }

    #[test]
    fn this_process_holds_what_it_touches() {
        let peak = Peak::new();
        let before = peak.private_bytes().unwrap();
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        let grown = peak.private_bytes().unwrap().saturating_sub(before);
        assert!(grown >= 60 << 20, "{grown} of {}", std::hint::black_box(&touched).len());
    }

    fn tempfile() -> File {
        let memory = rustix::fs::memfd_create("statm", rustix::fs::MemfdFlags::empty()).unwrap();
        File::from(memory)
    }
}
