//! The conversation on an open page: turns whose text grows while it streams.

use std::sync::Arc;

use leptos::prelude::*;

use super::{Turn, Who};
use crate::json;

/// Under this name the tab keeps the conversation over a reload.
const KEPT_AS: &str = "innkeeper.conversation";
/// Text is drawn in pieces of about this many bytes, so that a long answer is not written anew with every token.
const PIECE: usize = 2000;

/// How an answer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing of it has come yet.
    Waiting,
    /// It comes.
    Streaming,
    /// It is whole, or was stopped by the reader.
    Done,
    /// It ended with an error, which is its note.
    Failed,
}

/// A turn on the page.
#[derive(Clone)]
pub struct Line {
    /// Its place, counted from the page's start: the key of its element.
    pub id: u32,
    /// Whose words.
    pub who: Who,
    /// For whose answer it waits.
    pub model: String,
    /// Text that no longer changes, in pieces.
    pub pieces: ArcRwSignal<Vec<Arc<str>>>,
    /// The piece that still grows.
    pub tail: ArcRwSignal<String>,
    /// The line below.
    pub note: ArcRwSignal<String>,
    /// How it stands.
    pub standing: ArcRwSignal<Standing>,
}

impl Line {
    fn new(id: u32, who: Who, model: &str, text: String, standing: Standing) -> Self {
        Self {
            id,
            who,
            model: model.to_owned(),
            pieces: ArcRwSignal::default(),
            tail: ArcRwSignal::new(text),
            note: ArcRwSignal::default(),
            standing: ArcRwSignal::new(standing),
        }
    }

    /// Adds text at the end.
    pub(super) fn append(&self, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.standing.get_untracked() == Standing::Waiting {
            self.standing.set(Standing::Streaming);
        }
        self.tail.update(|tail| tail.push_str(text));
        if self.tail.with_untracked(String::len) >= PIECE {
            let full = self.tail.with_untracked(|tail| Arc::from(tail.as_str()));
            self.pieces.update(|pieces| pieces.push(full));
            self.tail.set(String::new());
        }
    }

    /// The whole text.
    pub fn text(&self) -> String {
        let mut text = self.pieces.with_untracked(|pieces| pieces.concat());
        self.tail.with_untracked(|tail| text.push_str(tail));
        text
    }

    fn failed(&self) -> bool {
        self.standing.get_untracked() == Standing::Failed
    }
}

/// The conversation of this page, kept while one goes from page to page.
#[derive(Clone, Copy)]
pub struct Conversation {
    /// Oldest first.
    pub lines: RwSignal<Vec<Line>>,
    /// Whether an answer is under way.
    pub running: RwSignal<bool>,
    next: StoredValue<u32>,
}

impl Conversation {
    /// Begins with what the server keeps for this browser.
    pub fn new(turns: Vec<Turn>) -> Self {
        let conversation = Self {
            lines: RwSignal::new(Vec::new()),
            running: RwSignal::new(false),
            next: StoredValue::new(0),
        };
        conversation.show(turns);
        Effect::new(move |_| conversation.restore());
        conversation
    }

    fn show(self, turns: Vec<Turn>) {
        for turn in turns {
            let standing = if turn.failed { Standing::Failed } else { Standing::Done };
            self.add(turn.who, "", turn.text, standing).note.set(turn.note);
        }
    }

    pub(super) fn add(self, who: Who, model: &str, text: String, standing: Standing) -> Line {
        let id = self.next.get_value();
        self.next.set_value(id + 1);
        let line = Line::new(id, who, model, text, standing);
        self.lines.update(|lines| lines.push(line.clone()));
        line
    }

    /// What a model is told: every turn but those that failed, with the question that failed.
    pub(super) fn turns(self) -> Vec<(Who, String)> {
        let lines = self.lines.get_untracked();
        let answered =
            |at: usize| lines.get(at + 1).is_none_or(|next| next.who == Who::User || !next.failed());
        lines
            .iter()
            .enumerate()
            .filter(|(at, line)| !line.failed() && (line.who == Who::Assistant || answered(*at)))
            .map(|(_, line)| (line.who, line.text()))
            .filter(|(_, text)| !text.is_empty())
            .collect()
    }

    /// Begins anew.
    pub fn clear(self) {
        super::stop();
        self.lines.set(Vec::new());
        self.keep();
    }

    /// Keeps the conversation in this tab.
    pub(super) fn keep(self) {
        let turns: Vec<Turn> = self.lines.with_untracked(|lines| {
            let turn = |line: &Line| Turn {
                who: line.who,
                text: line.text(),
                note: line.note.get_untracked(),
                failed: line.failed(),
            };
            lines.iter().map(turn).collect()
        });
        if let Ok(Some(storage)) = window().session_storage() {
            let turns: Vec<_> = turns.iter().map(Turn::to_json).collect();
            // A tab that keeps nothing loses the conversation with a reload, and nothing else.
            let _ = storage.set_item(KEPT_AS, &format!("[{}]", turns.join(",")));
        }
    }

    fn restore(self) {
        if !self.lines.with_untracked(Vec::is_empty) {
            return;
        }
        let kept = window().session_storage().ok().flatten().and_then(|s| s.get_item(KEPT_AS).ok().flatten());
        if let Some(turns) = kept.and_then(|text| json::read(&text)) {
            self.show(turns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(turns: &[(Who, &str, Standing)]) -> Vec<String> {
        Owner::new().with(|| {
            let conversation = Conversation::new(Vec::new());
            for (who, text, standing) in turns {
                conversation.add(*who, "m", (*text).to_owned(), *standing);
            }
            conversation.turns().into_iter().map(|(_, text)| text).collect()
        })
    }

    #[test]
    fn a_question_whose_answer_failed_is_not_told_again() {
        use Standing::{Done, Failed, Waiting};
        use Who::{Assistant, User};
        let told = spoken(&[
            (User, "one", Done),
            (Assistant, "first", Done),
            (User, "two", Done),
            (Assistant, "", Failed),
            (User, "three", Done),
            (Assistant, "", Waiting),
        ]);
        assert_eq!(told, ["one", "first", "three"]);
    }

    #[test]
    fn a_long_answer_is_cut_into_pieces_that_add_up() {
        let line = Line::new(0, Who::Assistant, "m", String::new(), Standing::Waiting);
        let word = "word ".repeat(100);
        for _ in 0..10 {
            line.append(&word);
        }
        assert!(line.pieces.with_untracked(Vec::len) >= 2);
        assert!(line.tail.with_untracked(String::len) < PIECE);
        assert_eq!(line.text(), word.repeat(10));
        assert_eq!(line.standing.get_untracked(), Standing::Streaming);
    }
}
