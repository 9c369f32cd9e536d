//! The most private memory that this process ever held, counted after each step: what lasts for milliseconds is seen by
//! nobody else, and the system's own high-water mark counts the pages of the model's file too.

use std::{fs::File, os::unix::fs::FileExt};

use link::FromWorker;

/// What grows by less than one part in so many is not worth a word.
const NOTEWORTHY: u64 = 64;

/// The most so far.
#[derive(Debug)]
pub(crate) struct Peak {
    /// `/proc/self/statm`, opened before the sandbox closed that way. `None`: there is none here, and nothing is told.
    own: Option<File>,
    page_bytes: u64,
    most: u64,
    full: bool,
}

impl Peak {
    /// Must be made before the sandbox.
    pub(crate) fn new() -> Self {
        Self::of(File::open("/proc/self/statm").ok())
    }

    fn of(own: Option<File>) -> Self {
        Self { own, page_bytes: rustix::param::page_size() as u64, most: 0, full: false }
    }

    /// Looks, and says so if there is news.
    pub(crate) fn look(&mut self, full: bool, say: &mut dyn FnMut(FromWorker)) {
        let Some(bytes) = self.private_bytes() else { return };
        let grew = bytes > self.most + self.most / NOTEWORTHY;
        if grew || full != self.full {
            (self.most, self.full) = (self.most.max(bytes), full);
            say(FromWorker::Peak { bytes: self.most, full });
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
    fn what_grows_is_told_once_and_what_was_given_back_is_not_forgotten() {
        let (mut file, mut told) = (tempfile(), Vec::new());
        let mut peak = Peak::of(Some(file.try_clone().unwrap()));
        let page = peak.page_bytes;
        let mut look = |text: &str, full: bool| {
            file.set_len(0).unwrap();
            file.write_all_at(text.as_bytes(), 0).unwrap();
            file.flush().unwrap();
            told.clear();
            peak.look(full, &mut |message| told.push(message));
            told.clone()
        };
        let say = |pages: u64, full| vec![FromWorker::Peak { bytes: pages * page, full }];
        assert_eq!(look("9000 1000 200 5 0 700 0\n", false), say(800, false));
        assert_eq!(look("9000 1005 200 5 0 700 0\n", false), [], "nothing to speak of");
        assert_eq!(look("9000 1100 200 5 0 700 0\n", false), say(900, false));
        assert_eq!(look("9000 500 200 5 0 700 0\n", true), say(900, true), "the largest step");
        assert_eq!(look("nonsense\n", true), []);
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
