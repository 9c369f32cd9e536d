//! The conversations of browsers without JavaScript, kept in memory alone and bounded: a page that is plain HTML has
//! nowhere else to keep what was said.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use app::chat::Turn;

/// Browsers whose conversations are kept; the one that was silent longest goes first.
const BROWSERS: usize = 64;
/// Turns of one conversation.
const TURNS: usize = 40;

/// All of them, the one spoken in last at the back.
#[derive(Default)]
pub(crate) struct Conversations(Mutex<VecDeque<(String, Vec<Turn>)>>);

impl Conversations {
    /// What was said, oldest first.
    pub(crate) fn of(&self, key: &str) -> Vec<Turn> {
        self.lock().iter().find(|(k, _)| k == key).map(|(_, turns)| turns.clone()).unwrap_or_default()
    }

    /// Adds turns to the end.
    pub(crate) fn add(&self, key: &str, new: impl IntoIterator<Item = Turn>) {
        let mut all = self.lock();
        let at = all.iter().position(|(k, _)| k == key);
        let (key, mut turns) =
            at.and_then(|at| all.remove(at)).unwrap_or_else(|| (key.to_owned(), Vec::new()));
        turns.extend(new);
        let surplus = turns.len().saturating_sub(TURNS);
        turns.drain(..surplus);
        all.push_back((key, turns));
        if all.len() > BROWSERS {
            all.pop_front();
        }
    }

    /// Forgets one.
    pub(crate) fn forget(&self, key: &str) {
        self.lock().retain(|(k, _)| k != key);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(String, Vec<Turn>)>> {
        // No code that can panic runs under this lock between two sound states.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use app::chat::Who;

    fn turn(text: &str) -> Turn {
        Turn { who: Who::User, text: text.to_owned(), note: String::new(), failed: false }
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_silent_go_first() {
        let all = Conversations::default();
        for n in 0..BROWSERS + 1 {
            all.add(&n.to_string(), [turn("hello")]);
        }
        assert!(all.of("0").is_empty());
        assert_eq!(all.of("1").len(), 1);
        all.add("1", (0..TURNS).map(|n| turn(&n.to_string())));
        assert_eq!(all.of("1").len(), TURNS);
        assert_eq!(all.of("1")[0].text, "0");
        all.forget("1");
        assert!(all.of("1").is_empty());
    }
}
