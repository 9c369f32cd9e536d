//! Asks a model over the public API and streams its answer into the page. In browsers only.

use std::cell::RefCell;

use leptos::{prelude::*, task::spawn_local};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, AbortSignal, Headers, ReadableStreamDefaultReader, RequestInit, Response};

use super::{Conversation, Line, Standing, Who};
use crate::{
    Live,
    json::quote,
    pure::{
        completion::{Answer, Fault, refusal},
        sse::Events,
    },
    words::sentence,
};

thread_local! {
    /// Ends the answer that is under way.
    static RUNNING: RefCell<Option<AbortController>> = const { RefCell::new(None) };
}

/// How a stream ended.
enum End {
    Whole,
    Stopped,
    Lost,
    Refused(Fault),
}

/// Says `prompt` in the conversation and lets the answer come.
pub fn ask(conversation: Conversation, live: Live, model: String, system: &str, prompt: String) {
    let Ok(controller) = AbortController::new() else { return };
    conversation.add(Who::User, &model, prompt, Standing::Done);
    let line = conversation.add(Who::Assistant, &model, String::new(), Standing::Waiting);
    let body = request(&model, system.trim(), conversation.turns());
    let signal = controller.signal();
    RUNNING.set(Some(controller));
    conversation.running.set(true);
    spawn_local(async move {
        let mut answer = Answer::default();
        let end =
            stream(&body, &signal, &line, &mut answer).await.unwrap_or_else(|_| match signal.aborted() {
                true => End::Stopped,
                false => End::Lost,
            });
        finish(&line, &answer, end);
        RUNNING.set(None);
        conversation.running.set(false);
        conversation.keep();
        live.told.set(format!("{model} has answered."));
    });
}

/// The body of a request: the system text, if there is one, then the turns.
fn request(model: &str, system: &str, turns: Vec<(Who, String)>) -> String {
    let system = (!system.is_empty()).then(|| ("system", system.to_owned()));
    let turns = turns.into_iter().map(|(who, text)| (who.word(), text));
    let message =
        |(role, text): (&str, String)| format!("{{\"role\":\"{role}\",\"content\":{}}}", quote(&text));
    let messages: Vec<_> = system.into_iter().chain(turns).map(message).collect();
    format!(
        "{{\"model\":{},\"messages\":[{}],\"stream\":true,\"stream_options\":{{\"include_usage\":true}}}}",
        quote(model),
        messages.join(",")
    )
}

/// Stops the answer that is under way; what has come stays.
pub fn stop() {
    if let Some(controller) = RUNNING.take() {
        controller.abort();
    }
}

async fn stream(body: &str, signal: &AbortSignal, line: &Line, answer: &mut Answer) -> Result<End, JsValue> {
    let headers = Headers::new()?;
    headers.set("content-type", "application/json")?;
    let request = RequestInit::new();
    request.set_method("POST");
    request.set_headers(&headers);
    request.set_body(&JsValue::from_str(body));
    request.set_signal(Some(signal));
    let fetched = JsFuture::from(window().fetch_with_str_and_init("/v1/chat/completions", &request)).await?;
    let response: Response = fetched.unchecked_into();
    if !response.ok() {
        let text = JsFuture::from(response.text()?).await?.as_string().unwrap_or_default();
        return Ok(End::Refused(refusal(response.status(), &text)));
    }
    let Some(body) = response.body() else { return Ok(End::Lost) };
    let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
    let mut events = Events::default();
    loop {
        let piece = JsFuture::from(reader.read()).await?;
        if js_sys::Reflect::get(&piece, &"done".into())?.is_truthy() {
            // A stream that is whole has said why it ended.
            return Ok(if answer.finish.is_some() || answer.fault.is_some() {
                End::Whole
            } else {
                End::Lost
            });
        }
        let bytes = js_sys::Uint8Array::new(&js_sys::Reflect::get(&piece, &"value".into())?).to_vec();
        for data in events.feed(&bytes) {
            line.append(&answer.take(&data));
        }
    }
}

fn finish(line: &Line, answer: &Answer, end: End) {
    let stopped = if matches!(end, End::Stopped) { "stopped" } else { "" };
    let fault = match end {
        End::Refused(fault) => Some(fault),
        End::Lost => Some(Fault {
            message: "The connection to the server was lost.".to_owned(),
            hint: Some("Check that it still runs, then ask again.".to_owned()),
        }),
        End::Whole | End::Stopped => answer.fault.clone(),
    };
    match fault {
        Some(fault) => {
            let hint = fault.hint.filter(|hint| !fault.message.contains(hint.as_str())).unwrap_or_default();
            line.note.set(format!("{} {}", sentence(&fault.message), sentence(&hint)).trim().to_owned());
            line.standing.set(Standing::Failed);
        }
        None => {
            let note = answer.footnote(&line.model);
            let parts = [stopped, &note].into_iter().filter(|part| !part.is_empty());
            line.note.set(parts.collect::<Vec<_>>().join(" \u{b7} "));
            line.standing.set(Standing::Done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_json_that_the_api_reads() {
        let turns = vec![(Who::User, "say \"hi\"\n".to_owned()), (Who::Assistant, "hi".to_owned())];
        let body: serde_json::Value = serde_json::from_str(&request("m", "be brief", turns)).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "model": "m",
                "messages": [
                    { "role": "system", "content": "be brief" },
                    { "role": "user", "content": "say \"hi\"\n" },
                    { "role": "assistant", "content": "hi" },
                ],
                "stream": true,
                "stream_options": { "include_usage": true },
            })
        );
        assert!(!request("m", "", Vec::new()).contains("system"));
    }
}
