//! An answer as Server-Sent Events. The head is held until the worker has started or two seconds have passed, so
//! that early failures have their own status; later ones come in the stream as `data: {"error": ...}`.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Envelope, timings, usage};
use crate::{
    answer::{Answer, openai_error},
    relay::{self, Word, Words},
};

/// The head waits so long for the first word.
const HEAD: Duration = Duration::from_secs(2);

/// The answer to a streamed request.
pub(super) async fn answer(envelope: Envelope, mut words: Words, include_usage: bool) -> Response {
    let first = match timeout(HEAD, words.next()).await {
        Ok(Some(Word::Failed(problem))) => return Answer::OpenAi.problem(&problem),
        Ok(None) => return Answer::OpenAi.problem(&relay::lost()),
        Ok(word) => word,
        Err(_) => None,
    };
    let mut writer =
        Writer { envelope, words, include_usage, begun: false, ready: VecDeque::new(), ended: false };
    if let Some(word) = first {
        writer.write(word);
    }
    let events = stream::unfold(writer, |mut writer| async move {
        let event = writer.next().await?;
        Some((Ok::<_, Infallible>(event), writer))
    });
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(10)).text("keep-alive");
    ([("cache-control", "no-cache"), ("x-accel-buffering", "no")], Sse::new(events).keep_alive(keep_alive))
        .into_response()
}

struct Writer {
    envelope: Envelope,
    words: Words,
    include_usage: bool,
    begun: bool,
    ready: VecDeque<String>,
    ended: bool,
}

impl Writer {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(data) = self.ready.pop_front() {
                return Some(Event::default().data(data));
            }
            if self.ended {
                return None;
            }
            let word = self.words.next().await.unwrap_or_else(|| Word::Failed(relay::lost()));
            self.write(word);
        }
    }

    fn write(&mut self, word: Word) {
        match word {
            Word::Started => self.begin(),
            Word::Text(text) => {
                self.begin();
                let piece = self.envelope.piece(Some(&text), false, None);
                self.data(&piece);
            }
            Word::Done(finished) => {
                self.begin();
                let mut last = self.envelope.piece(None, false, Some(finished.finish));
                // The times stand in the last piece, and once more beside the usage when that was asked for.
                last["timings"] = timings(&finished);
                self.data(&last);
                if self.include_usage {
                    let mut counted = self.envelope.chunk(json!([]));
                    counted["usage"] = usage(&finished);
                    counted["timings"] = timings(&finished);
                    self.data(&counted);
                }
                self.ready.push_back("[DONE]".to_owned());
                self.ended = true;
            }
            Word::Failed(problem) => {
                self.data(&openai_error(&problem));
                self.ended = true;
            }
        }
    }

    fn begin(&mut self) {
        if !self.begun {
            self.begun = true;
            let piece = self.envelope.piece(Some(""), true, None);
            self.data(&piece);
        }
    }

    fn data(&mut self, value: &Value) {
        self.ready.push_back(value.to_string());
    }
}
