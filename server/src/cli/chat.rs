//! `innkeeper chat`: one answer, or a conversation.

use std::io::{BufRead, IsTerminal, Read};

use app::pure::{completion::Answer, sse};
use protocol::ModelId;
use serde_json::{Value, json};

use super::{Remote, client::Client, output::Output, trouble::Trouble};

/// Asks a chat model and shows its answer as it comes. The model is loaded for it if it is not loaded. Without PROMPT
/// it is a conversation that ends with an empty line or Ctrl-D; or the prompt is read from a pipe.
///
/// Example: innkeeper chat smollm2 "Why is the sky blue?"
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which model.
    model: ModelId,
    /// What to ask.
    prompt: Option<String>,
    /// The frame of the conversation.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// An end for the answer.
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// 0: always the likeliest word.
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    #[command(flatten)]
    remote: Remote,
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Trouble> {
    let mut talk = Talk::new(arguments);
    if let Some(prompt) = &arguments.prompt {
        return talk.ask(prompt, out);
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let mut prompt = String::new();
        stdin.lock().read_to_string(&mut prompt).map_err(unread)?;
        return talk.ask(prompt.trim_end(), out);
    }
    loop {
        out.piece(&out.strong("> "))?;
        let mut line = String::new();
        let read = stdin.lock().read_line(&mut line).map_err(unread)?;
        if read == 0 || line.trim().is_empty() {
            return Ok(());
        }
        match talk.ask(line.trim_end(), out) {
            // A question that was refused can be asked otherwise.
            Err(trouble @ (Trouble::Refused(_) | Trouble::Failed(_))) => out.trouble(&trouble),
            other => other?,
        }
    }
}

fn unread(error: std::io::Error) -> Trouble {
    Trouble::Failed(format!("The prompt cannot be read: {error}."))
}

/// A conversation and how it is led.
struct Talk<'a> {
    arguments: &'a Arguments,
    client: Client,
    session: String,
    turns: Vec<Value>,
}

impl<'a> Talk<'a> {
    fn new(arguments: &'a Arguments) -> Self {
        let system = arguments.system.as_ref().map(|text| json!({ "role": "system", "content": text }));
        Self {
            arguments,
            client: Client::new(&arguments.remote),
            session: format!("cli-{}", std::process::id()),
            turns: system.into_iter().collect(),
        }
    }

    fn ask(&mut self, prompt: &str, out: &mut Output) -> Result<(), Trouble> {
        if prompt.is_empty() {
            return Err(Trouble::Usage("The prompt is empty.".to_owned()));
        }
        self.turns.push(json!({ "role": "user", "content": prompt }));
        let body = body(self.arguments, &self.turns);
        let heard = self
            .client
            .ask_streaming("/v1/chat/completions", &body, &self.session)
            .and_then(|stream| hear(stream, out));
        match heard {
            Ok((text, answer)) => {
                self.turns.push(json!({ "role": "assistant", "content": text }));
                if out.err_is_terminal && !out.json {
                    out.remark(&answer.footnote(self.arguments.model.as_str()));
                }
                Ok(())
            }
            Err(trouble) => {
                // Asked in vain, so not part of the conversation.
                self.turns.pop();
                Err(trouble)
            }
        }
    }
}

fn body(arguments: &Arguments, turns: &[Value]) -> Value {
    let mut body = json!({
        "model": arguments.model, "messages": turns, "stream": true, "stream_options": { "include_usage": true },
    });
    if let Some(most) = arguments.max_tokens {
        body["max_tokens"] = json!(most);
    }
    if let Some(temperature) = arguments.temperature {
        body["temperature"] = json!(temperature);
    }
    body
}

/// Shows a stream as it comes; with `--json`, each of its events on a line.
fn hear(mut stream: impl Read, out: &mut Output) -> Result<(String, Answer), Trouble> {
    let (mut events, mut answer, mut text) = (sse::Events::default(), Answer::default(), String::new());
    let mut piece = [0; 4096];
    let mut whole = false;
    loop {
        let read = match stream.read(&mut piece) {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Trouble::Failed(format!("The answer broke off: {error}."))),
        };
        if read == 0 {
            break;
        }
        for data in events.feed(&piece[..read]) {
            whole |= data == "[DONE]";
            let more = answer.take(&data);
            if out.json {
                if data != "[DONE]" {
                    out.line(&data)?;
                }
            } else if !more.is_empty() {
                out.piece(&more)?;
            }
            text.push_str(&more);
        }
    }
    if !out.json && !text.ends_with('\n') {
        out.line("")?;
    }
    match answer.fault.take() {
        Some(fault) => Err(Trouble::Failed(fault.message)),
        None if !whole => Err(Trouble::Failed("The answer broke off: the server ended it.".to_owned())),
        None => Ok((text, answer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::tests::pages;

    const WHOLE: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n: keep-alive\n\n\
                         data: {\"choices\":[{\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}\n\n\
                         data: [DONE]\n\n";

    #[test]
    fn an_answer_is_shown_as_it_comes() {
        let (mut out, page, _) = pages(false);
        let (text, answer) = hear(WHOLE.as_bytes(), &mut out).unwrap();
        assert_eq!((text.as_str(), answer.finish.as_deref()), ("Hello", Some("stop")));
        assert_eq!(page.text(), "Hello\n");
    }

    #[test]
    fn for_programs_each_event_is_a_line_of_json() {
        let (mut out, page, _) = pages(true);
        hear(WHOLE.as_bytes(), &mut out).unwrap();
        let lines: Vec<Value> = page.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn an_answer_that_breaks_off_is_no_success() {
        let (mut out, _, _) = pages(false);
        let cut = &WHOLE[..60];
        assert_eq!(hear(cut.as_bytes(), &mut out).unwrap_err().exit_code(), 1);
        let fault = "data: {\"error\":{\"message\":\"The worker was killed.\",\"code\":\"worker_died\"}}\n\n";
        let trouble = hear(fault.as_bytes(), &mut out).unwrap_err();
        assert_eq!(trouble.to_string(), "The worker was killed.");
    }

    #[test]
    fn only_what_was_said_is_asked_for() {
        let mut arguments = Arguments {
            model: "m".parse().unwrap(),
            prompt: None,
            system: Some("Be brief.".to_owned()),
            max_tokens: None,
            temperature: None,
            remote: Remote::default(),
        };
        assert_eq!(Talk::new(&arguments).turns.len(), 1);
        assert!(body(&arguments, &[]).get("max_tokens").is_none());
        arguments.max_tokens = Some(5);
        assert_eq!(body(&arguments, &[])["max_tokens"], 5);
    }
}
