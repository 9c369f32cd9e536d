//! What `/v1/chat/completions` sends, and what a person is told about it.

use serde::Deserialize;

use crate::{
    json,
    words::{fixed, took},
};

/// One event of the stream, or its whole answer when it was refused. Absent parts stay empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Piece {
    choices: Vec<Choice>,
    usage: Option<Usage>,
    timings: Option<Timings>,
    error: Option<Fault>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice {
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta {
    content: Option<String>,
}

/// Tokens as the server counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of the answer.
    pub completion_tokens: u64,
}

/// Times as the server took them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Timings {
    /// Waited for the model or its turn.
    pub queue_ms: f64,
    /// Loaded the model for it; 0 or absent: it was loaded.
    pub load_ms: Option<f64>,
    /// From the request to the first token.
    pub ttft_ms: f64,
    /// Decode speed.
    pub tokens_per_second: f64,
    /// Tokens of the prompt that were still known.
    pub cached_tokens: u64,
}

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Fault {
    /// The cause.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// What a stream has brought so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Tokens, once the server told them.
    pub usage: Option<Usage>,
    /// Times, likewise.
    pub timings: Option<Timings>,
    /// Why it ended: `stop`, `length`.
    pub finish: Option<String>,
    /// What went wrong.
    pub fault: Option<Fault>,
}

impl Answer {
    /// Takes an event's data; returns the text that it adds to the answer.
    pub fn take(&mut self, data: &str) -> String {
        let Some(piece) = json::read::<Piece>(data) else { return String::new() };
        self.usage = piece.usage.or(self.usage);
        self.timings = piece.timings.or(self.timings);
        self.fault = piece.error.or(self.fault.take());
        let mut text = String::new();
        for choice in piece.choices {
            text.push_str(choice.delta.content.as_deref().unwrap_or_default());
            self.finish = choice.finish_reason.or(self.finish.take());
        }
        text
    }

    /// The line under an answer: `42 tok/s · first token after 0.31 s · 118 tokens · loaded for it in 0.42 s`.
    pub fn footnote(&self, model: &str) -> String {
        let mut parts = Vec::new();
        if let Some(t) = self.timings {
            if t.tokens_per_second > 0.0 {
                parts.push(format!("{} tok/s", fixed(t.tokens_per_second, 0)));
            }
            parts.push(format!("first token after {}", took(t.ttft_ms.max(0.0) as u64)));
        }
        if let Some(usage) = self.usage {
            parts.push(crate::words::count(usage.completion_tokens, "token"));
        }
        if let Some(t) = self.timings {
            match t.load_ms {
                Some(ms) if ms > 0.0 => {
                    parts.push(format!("{model} was loaded for it in {}", took(ms as u64)));
                }
                _ => parts.push("was already loaded".to_owned()),
            }
            if t.cached_tokens > 0 {
                parts.push(format!("{} known already", crate::words::count(t.cached_tokens, "prompt token")));
            }
        }
        if self.finish.as_deref() == Some("length") {
            parts.push("cut at the length limit".to_owned());
        }
        parts.join(" \u{b7} ")
    }
}

/// What a person is told about an answer that was refused: the body's own words, else the status.
pub fn refusal(status: u16, body: &str) -> Fault {
    let said = json::read::<Piece>(body).and_then(|piece| piece.error);
    said.filter(|fault| !fault.message.is_empty()).unwrap_or_else(|| Fault {
        message: format!("The server answered with status {status} and no explanation."),
        hint: Some("Look at the server's log.".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_adds_up_to_an_answer_with_its_numbers() {
        let mut answer = Answer::default();
        let mut text = String::new();
        for data in [
            r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"choices":[{"delta":{"content":"Hel"}}],"usage":null}"#,
            r#"{"choices":[{"delta":{"content":"lo"}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11},"timings":{"queue_ms":0,"load_ms":420,"ttft_ms":512,"prompt_tokens_per_second":80,"tokens_per_second":41.7,"cached_tokens":3}}"#,
            "[DONE]",
        ] {
            text.push_str(&answer.take(data));
        }
        assert_eq!(text, "Hello");
        assert_eq!(
            answer.footnote("smollm2"),
            "42 tok/s \u{b7} first token after 0.51 s \u{b7} 2 tokens \u{b7} smollm2 was loaded for it in 0.42 s \u{b7} 3 prompt tokens known already"
        );
    }

    #[test]
    fn an_error_in_the_stream_is_kept() {
        let mut answer = Answer::default();
        answer.take(r#"{"error":{"message":"The worker was killed.","code":"worker_died"}}"#);
        assert_eq!(answer.fault.unwrap().message, "The worker was killed.");
    }

    #[test]
    fn a_refusal_without_a_body_still_says_something() {
        assert!(refusal(502, "<html>").message.contains("502"));
        assert_eq!(refusal(503, r#"{"error":{"message":"Draining."}}"#).message, "Draining.");
    }
}
