//! A client whose answers are known beforehand.

use std::io::BufRead;

use fixtures::Counting;
use serde_json::{Value, json};

use super::http;

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// `[DONE]`, with the reason that the last piece gave.
    Done(String),
    /// An error in the stream, or instead of it: its code.
    Error(String),
    /// The connection broke without a word: only the server's own death excuses it.
    Cut,
}

/// An answer as it came.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) text: String,
    pub(crate) end: End,
}

/// Asks for so many tokens of a chain, and reads to the end. `each`: called after every piece.
pub(crate) fn chat(
    port: u16,
    name: &str,
    model: Counting,
    chain: usize,
    tokens: usize,
    mut each: impl FnMut(usize),
) -> Heard {
    let body = json!({ "model": name, "stream": true, "temperature": 0, "max_tokens": tokens, "ignore_eos": true,
        "messages": [{ "role": "user", "content": model.prompt(chain) }] });
    let mut heard = Heard { text: String::new(), end: End::Cut };
    let Ok(answer) =
        http::send(port, "POST", "/v1/chat/completions", Some(("application/json", &body.to_string())))
    else {
        return heard;
    };
    let (status, mut finish, mut pieces) = (answer.status, String::new(), 0);
    for line in answer.body.lines() {
        let Ok(line) = line else { return heard };
        let data = if status == 200 { line.strip_prefix("data: ") } else { Some(line.as_str()) };
        let Some(data) = data else { continue };
        if data == "[DONE]" {
            heard.end = End::Done(finish);
            return heard;
        }
        let Ok(piece) = serde_json::from_str::<Value>(data) else { continue };
        if let Some(code) = piece["error"]["code"].as_str() {
            heard.end = End::Error(code.to_owned());
            return heard;
        }
        let choice = &piece["choices"][0];
        if let Some(text) = choice["delta"]["content"].as_str().filter(|text| !text.is_empty()) {
            heard.text += text;
            pieces += 1;
            each(pieces);
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            reason.clone_into(&mut finish);
        }
    }
    heard
}

impl Heard {
    /// What is wrong with it, if anything is: it must be the beginning of the true answer, and all of it if it is done.
    pub(crate) fn fault(&self, model: Counting, chain: usize, tokens: usize) -> Option<String> {
        let truth = model.answer(chain, tokens);
        if !truth.starts_with(&self.text) {
            let same = truth.bytes().zip(self.text.bytes()).take_while(|(a, b)| a == b).count();
            return Some(format!(
                "after {same} bytes of {} it says {:?}",
                truth.len(),
                self.text.chars().skip(same.saturating_sub(20)).take(60).collect::<String>()
            ));
        }
        match &self.end {
            End::Done(_) if self.text.len() != truth.len() => {
                Some(format!("it is done after {} bytes of {}", self.text.len(), truth.len()))
            }
            End::Done(finish) if finish != "length" => Some(format!("it ended with {finish:?}")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_lost_doubled_or_anothers_is_found() {
        let (model, other) = (Counting::new(0), Counting::new(1));
        let said = |text: String, end: End| Heard { text, end }.fault(model, 2, 50);
        let (whole, done) = (model.answer(2, 50), End::Done("length".to_owned()));
        assert_eq!(said(whole.clone(), done.clone()), None);
        assert_eq!(said(model.answer(2, 20), End::Error("worker_died".to_owned())), None);
        assert!(said(model.answer(2, 20), done.clone()).is_some(), "it ends too early");
        assert!(said(whole.replace("c7;", ""), done.clone()).is_some(), "one is lost");
        assert!(said(whole.replace("c7;", "c7;c7;"), done.clone()).is_some(), "one is doubled");
        assert!(said(model.answer(3, 50), done.clone()).is_some(), "another request's");
        assert!(said(other.answer(2, 50), done).is_some(), "another model's");
    }
}
