//! Just enough of HTTP to ask two servers the same question and to see when each word of the answer arrives.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::processes::now;

const JSON: &str = "application/json";
/// Longer than any answer that is asked for.
const PATIENCE: Duration = Duration::from_secs(300);

/// One answer, as its reader saw it.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// From the question to the first word.
    pub(super) first: Duration,
    /// From the first word to the end.
    pub(super) rest: Duration,
    pub(super) text: String,
    pub(super) prompt_tokens: u64,
    /// Of these, those that were not read; where a server says so.
    pub(super) cached_tokens: Option<u64>,
    pub(super) completion_tokens: u64,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) model: &'a str,
    pub(super) prompt: &'a str,
    pub(super) tokens: u32,
    /// Who asks; servers that know no sessions ignore it.
    pub(super) session: &'a str,
}

fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    session: &str,
    kind: &str,
    body: &str,
) -> Result<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: {kind}\r\n\
         X-Innkeeper-Session: {session}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    Ok(BufReader::new(stream))
}

/// Asks, and returns the status and the whole answer.
pub(super) fn call(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut whole = String::new();
    send(address, method, path, "bench", JSON, body)?.read_to_string(&mut whole)?;
    Ok((status(&whole)?, whole))
}

/// Posts a form, as the management verbs take it.
pub(super) fn form(address: SocketAddr, path: &str, body: &str) -> Result<(u16, String)> {
    let mut whole = String::new();
    send(address, "POST", path, "bench", "application/x-www-form-urlencoded", body)?
        .read_to_string(&mut whole)?;
    Ok((status(&whole)?, whole))
}

fn status(head: &str) -> Result<u16> {
    let word = head.split(' ').nth(1).context("the server sent no status line")?;
    word.parse().context("the server sent no status")
}

/// Asks for a completion, greedily and past every end token, and reads the stream.
pub(super) fn complete(address: SocketAddr, question: Question<'_>) -> Result<Answer> {
    let body = json!({ "model": question.model, "prompt": question.prompt, "max_tokens": question.tokens,
        "temperature": 0, "ignore_eos": true, "stream": true, "stream_options": { "include_usage": true } });
    let began = now();
    let reader = send(address, "POST", "/v1/completions", question.session, JSON, &body.to_string())?;
    let mut head = String::new();
    let mut answer = Answer {
        first: Duration::ZERO,
        rest: Duration::ZERO,
        text: String::new(),
        prompt_tokens: 0,
        cached_tokens: None,
        completion_tokens: 0,
    };
    let mut first = None;
    for line in reader.lines() {
        let line = line?;
        if head.is_empty() {
            head.clone_from(&line);
        }
        // The lines between are lengths of chunks, headers and comments.
        let Some(data) = line.strip_prefix("data: ").filter(|data| data.starts_with('{')) else { continue };
        let event: Value = serde_json::from_str(data)?;
        if let Some(error) = event.get("error") {
            bail!("the server answers {error}");
        }
        let text = event["choices"][0]["text"].as_str().unwrap_or_default();
        if !text.is_empty() {
            first.get_or_insert_with(|| began.elapsed());
            answer.rest = began.elapsed();
            answer.text.push_str(text);
        }
        let usage = &event["usage"];
        if usage.is_object() {
            answer.prompt_tokens = usage["prompt_tokens"].as_u64().unwrap_or(0);
            answer.completion_tokens = usage["completion_tokens"].as_u64().unwrap_or(0);
            answer.cached_tokens = usage["prompt_tokens_details"]["cached_tokens"].as_u64();
        }
    }
    if status(&head)? != 200 {
        bail!("the server answers {head}");
    }
    answer.first = first.context("the answer has no word")?;
    answer.rest -= answer.first;
    Ok(answer)
}
