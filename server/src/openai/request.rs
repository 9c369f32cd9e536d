//! OpenAI's JSON -> a checked request. Lenient about what it does not know, exact about what it does: every refusal
//! names the field, what was given and what would do.

use link::{Prompt, Role, Sampling, Turn};
use protocol::{Code, IdleTimeout, ModelId, Problem};
use serde::Deserialize;

/// A text or several, as OpenAI allows in many places.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A number or a text, as clients write spans of time.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Span {
    Number(f64),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    content: Option<Content>,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

/// What chat and plain completions have in common.
#[derive(Debug, Deserialize)]
struct Raw {
    model: Option<String>,
    messages: Option<Vec<Message>>,
    prompt: Option<OneOrMany>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<i64>,
    min_p: Option<f64>,
    repeat_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    stop: Option<OneOrMany>,
    seed: Option<i64>,
    n: Option<i64>,
    best_of: Option<i64>,
    ignore_eos: Option<bool>,
    user: Option<String>,
    prompt_cache_key: Option<String>,
    keep_alive: Option<Span>,
    idle_timeout: Option<Span>,
    logprobs: Option<serde_json::Value>,
    tools: Option<Vec<serde_json::Value>>,
    response_format: Option<serde_json::Value>,
}

/// A request that makes sense.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) model: ModelId,
    pub(crate) prompt: Prompt,
    pub(crate) sampling: Sampling,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    /// `prompt_cache_key`, else `user`: who this is, for the session.
    pub(crate) user: Option<String>,
    pub(crate) idle_timeout: Option<IdleTimeout>,
}

/// Reads a chat completion.
pub(crate) fn chat(body: &[u8]) -> Result<Checked, Problem> {
    let mut raw = read(body)?;
    let messages = raw.messages.take().ok_or_else(|| missing("messages"))?;
    if messages.is_empty() {
        return Err(bad(
            "`messages` is empty.",
            "Send at least one message, such as {\"role\":\"user\",\"content\":\"Hello\"}.",
        ));
    }
    let turns =
        messages.into_iter().enumerate().map(|(i, message)| turn(i, message)).collect::<Result<_, _>>()?;
    check(raw, Prompt::Chat(turns))
}

/// Reads a plain completion.
pub(crate) fn completion(body: &[u8]) -> Result<Checked, Problem> {
    let mut raw = read(body)?;
    let text = match raw.prompt.take().ok_or_else(|| missing("prompt"))? {
        OneOrMany::One(text) => text,
        OneOrMany::Many(mut texts) if texts.len() == 1 => texts.remove(0),
        OneOrMany::Many(texts) => {
            return Err(bad(
                format!("`prompt` has {} texts; this server answers one at a time.", texts.len()),
                "Send one request for each text.",
            ));
        }
    };
    // The old endpoint's own default: 16 tokens.
    raw.max_tokens = raw.max_tokens.or(raw.max_completion_tokens).or(Some(16));
    check(raw, Prompt::Text(text))
}

/// The model's name, or why it is none.
pub(crate) fn model_id(name: Option<String>) -> Result<ModelId, Problem> {
    let name = name.ok_or_else(|| missing("model"))?;
    name.parse().map_err(|e: protocol::BadModelId| {
        Problem::new(Code::UnknownModel, format!("{e}."), "`innkeeper ls` lists the models.")
    })
}

/// A span as JSON has it: seconds, or a text such as `10m`.
pub(crate) fn span(field: &str, span: Option<Span>) -> Result<Option<IdleTimeout>, Problem> {
    let read = |span| match span {
        Span::Number(seconds) => IdleTimeout::from_seconds(seconds),
        Span::Text(text) => text.parse(),
    };
    span.map(read).transpose().map_err(|e| bad(format!("`{field}`: {e}."), "Write 10m, 300, 0 or never."))
}

/// Reads a body as JSON of a shape, or says where it departs from it.
pub(crate) fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    if std::str::from_utf8(body).is_err() {
        return Err(bad("The body is not UTF-8.", "Send JSON in UTF-8."));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let hint = "Compare it with the reference for this path.";
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        // The path is `.` where the body as a whole has the wrong shape; where it is not JSON, a path tells nothing.
        let place = e.path().to_string();
        let cause = e.inner();
        if place == "." || !cause.is_data() {
            bad(format!("The body is not the JSON that is expected: {cause}."), hint)
        } else {
            bad(format!("`{place}` is not what is expected: {cause}."), hint)
        }
    })?;
    reader.end().map_err(|e| bad(format!("The body goes on after the JSON: {e}."), hint))?;
    Ok(read)
}

/// A refusal of an argument.
pub(crate) fn bad(message: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem::new(Code::BadArgument, message, hint)
}

/// A refusal for want of a field.
pub(crate) fn missing(field: &str) -> Problem {
    bad(format!("`{field}` is missing."), format!("Add `{field}` to the body."))
}

/// An empty name names nobody.
pub(crate) fn named(name: Option<String>) -> Option<String> {
    name.filter(|name| !name.is_empty())
}

fn read(body: &[u8]) -> Result<Raw, Problem> {
    json(body)
}

fn turn(index: usize, message: Message) -> Result<Turn, Problem> {
    let role = match message.role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        other => {
            return Err(bad(
                format!("`messages[{index}].role` is `{}`.", other.chars().take(40).collect::<String>()),
                "Use system, user, assistant or tool.",
            ));
        }
    };
    let content = match message.content {
        None => String::new(),
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => {
            let mut whole = String::new();
            for part in parts {
                match (part.kind.as_str(), part.text) {
                    ("text" | "input_text", Some(text)) => whole.push_str(&text),
                    (kind, _) => {
                        return Err(bad(
                            format!(
                                "`messages[{index}].content` has a part of type `{kind}`; only text is understood."
                            ),
                            "Leave out images, audio and files.",
                        ));
                    }
                }
            }
            whole
        }
    };
    Ok(Turn { role, content })
}

/// What a request that leaves them out gets: llama.cpp's server's own. The API's 1.0 without a cut is for models a thousand
/// times as large; a small one drifts off into rare words with it.
mod usual {
    pub(super) const TEMPERATURE: f32 = 0.8;
    pub(super) const TOP_K: i64 = 40;
    pub(super) const TOP_P: f32 = 0.95;
    pub(super) const MIN_P: f32 = 0.05;
}

fn check(raw: Raw, prompt: Prompt) -> Result<Checked, Problem> {
    refuse_what_is_not_done(&raw)?;
    let stop = match raw.stop {
        None => Vec::new(),
        Some(OneOrMany::One(text)) => vec![text],
        Some(OneOrMany::Many(texts)) => texts,
    };
    if stop.len() > 16 || stop.iter().any(|text| text.is_empty() || text.len() > 1024) {
        return Err(bad(
            "`stop` has an empty or overlong text, or more than 16.",
            "Send up to 16 short texts.",
        ));
    }
    let sampling = Sampling {
        temperature: within("temperature", raw.temperature, usual::TEMPERATURE, 0.0, 2.0)?,
        top_k: whole("top_k", raw.top_k, usual::TOP_K, 0, i64::from(i32::MAX))?.try_into().unwrap_or(0),
        top_p: within("top_p", raw.top_p, usual::TOP_P, 0.0, 1.0)?,
        min_p: within("min_p", raw.min_p, usual::MIN_P, 0.0, 1.0)?,
        repeat_penalty: within("repeat_penalty", raw.repeat_penalty, 1.0, 0.1, 10.0)?,
        frequency_penalty: within("frequency_penalty", raw.frequency_penalty, 0.0, -2.0, 2.0)?,
        presence_penalty: within("presence_penalty", raw.presence_penalty, 0.0, -2.0, 2.0)?,
        // A negative seed is as good as any other: its bits are taken as they are.
        seed: raw.seed.map_or_else(crate::random::word, i64::cast_unsigned),
        max_tokens: match raw.max_completion_tokens.or(raw.max_tokens) {
            None | Some(-1) => None,
            given => {
                Some(whole("max_tokens", given, 1, 1, i64::from(u32::MAX))?.try_into().unwrap_or(u32::MAX))
            }
        },
        stop,
        ignore_eos: raw.ignore_eos.unwrap_or(false),
    };
    Ok(Checked {
        model: model_id(raw.model)?,
        prompt,
        sampling,
        stream: raw.stream.unwrap_or(false),
        include_usage: raw.stream_options.and_then(|o| o.include_usage).unwrap_or(false),
        user: named(raw.prompt_cache_key).or(named(raw.user)),
        idle_timeout: span("keep_alive", raw.keep_alive.or(raw.idle_timeout))?,
    })
}

/// What would change the answer and is not done here is refused, not ignored: silence would be a wrong answer.
fn refuse_what_is_not_done(raw: &Raw) -> Result<(), Problem> {
    if raw.n.is_some_and(|n| n != 1) || raw.best_of.is_some_and(|n| n > 1) {
        return Err(bad(
            "`n` other than 1 is not done here.",
            "Send the request as often as you want answers.",
        ));
    }
    if raw.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
        return Err(bad("Tools are not done here.", "Leave `tools` out."));
    }
    let asks = |value: &Option<serde_json::Value>| {
        value
            .as_ref()
            .is_some_and(|v| !v.is_null() && *v != serde_json::json!(false) && *v != serde_json::json!(0))
    };
    if asks(&raw.logprobs) {
        return Err(bad("Log probabilities are not given here.", "Leave `logprobs` out."));
    }
    match raw.response_format.as_ref().and_then(|f| f.get("type")).and_then(|t| t.as_str()) {
        None | Some("text") => Ok(()),
        Some(other) => Err(bad(
            format!("`response_format` {other} is not done here."),
            "Leave it out, or send {\"type\":\"text\"}.",
        )),
    }
}

pub(crate) fn within(
    field: &str,
    given: Option<f64>,
    default: f32,
    least: f32,
    most: f32,
) -> Result<f32, Problem> {
    let Some(value) = given else { return Ok(default) };
    // Sampling is done in f32; what matters of a double is kept.
    let value = value as f32;
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(bad(format!("`{field}` is {value}."), format!("Send a number from {least} to {most}.")))
    }
}

fn whole(field: &str, given: Option<i64>, default: i64, least: i64, most: i64) -> Result<i64, Problem> {
    match given.unwrap_or(default) {
        value if (least..=most).contains(&value) => Ok(value),
        value => {
            Err(bad(format!("`{field}` is {value}."), format!("Send a whole number from {least} to {most}.")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(extra: &str) -> Result<Checked, Problem> {
        chat(
            format!(r#"{{"model":"smollm2:latest","messages":[{{"role":"user","content":"Hi"}}]{extra}}}"#)
                .as_bytes(),
        )
    }

    #[test]
    fn a_request_as_the_sdks_send_it_is_understood() {
        let checked = asked(
            r#","temperature":0,"top_p":0.9,"stop":"END","max_completion_tokens":7,"stream":true,
               "stream_options":{"include_usage":true},"seed":-1,"keep_alive":"10m","user":"me","unknown":{"a":[1]}"#,
        )
        .unwrap();
        assert_eq!(checked.model.as_str(), "smollm2");
        assert_eq!(checked.sampling.max_tokens, Some(7));
        assert_eq!(checked.sampling.stop, ["END"]);
        assert!(checked.stream && checked.include_usage);
        assert_eq!(checked.idle_timeout, Some(IdleTimeout::After { ms: 600_000 }));
        assert_eq!(checked.user.as_deref(), Some("me"));
        let checked = asked(r#","prompt_cache_key":"","user":"me""#).unwrap();
        assert_eq!(checked.user.as_deref(), Some("me"), "an empty name names nobody");
    }

    #[test]
    fn values_of_sampling_that_are_left_out_are_those_for_small_models_and_those_that_are_sent_are_kept() {
        let values = |extra: &str| {
            let Sampling { temperature, top_k, top_p, min_p, .. } = asked(extra).unwrap().sampling;
            (temperature, top_k, top_p, min_p)
        };
        assert_eq!(values(""), (0.8, 40, 0.95, 0.05));
        assert_eq!(values(r#","temperature":1,"top_k":0,"top_p":1,"min_p":0"#), (1.0, 0, 1.0, 0.0));
    }

    #[test]
    fn content_may_be_text_parts_or_nothing() {
        let body = r#"{"model":"m","messages":[{"role":"system","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"assistant","content":null}]}"#;
        let Prompt::Chat(turns) = chat(body.as_bytes()).unwrap().prompt else { panic!("no chat") };
        assert_eq!(turns[0].content, "ab");
        assert_eq!(turns[1].content, "");
    }

    #[test]
    fn each_bad_argument_is_named() {
        for (extra, word) in [
            (r#","temperature":-1"#, "temperature"),
            (r#","temperature":1e300"#, "temperature"),
            (r#","top_p":1.5"#, "top_p"),
            (r#","max_tokens":0"#, "max_tokens"),
            (r#","max_tokens":-7"#, "max_tokens"),
            (r#","max_tokens":99999999999"#, "max_tokens"),
            (r#","n":2"#, "`n`"),
            (r#","stop":[""]"#, "stop"),
            (r#","tools":[{}]"#, "Tools"),
            (r#","keep_alive":"soon""#, "keep_alive"),
            (r#","temperature":"hot""#, "`temperature`"),
            (r#","stream_options":{"include_usage":3}"#, "`stream_options.include_usage`"),
            (r#","response_format":{"type":"json_object"}"#, "response_format"),
        ] {
            let problem = asked(extra).unwrap_err();
            assert!(problem.message.contains(word), "{extra}: {problem}");
            assert!(!problem.hint.is_empty());
        }
    }

    #[test]
    fn a_body_that_is_no_request_is_refused_with_the_reason() {
        for (body, word) in [
            (&b"{"[..], "JSON"),
            (b"[]", "JSON"),
            (b"\xff\xfe", "UTF-8"),
            (br#"{"model":"m"}"#, "messages"),
            (br#"{"model":"m","messages":"x"}"#, "`messages`"),
            (br#"{"model":"m","messages":[{"role":"user","content":"x"}]} tail"#, "goes on"),
            (br#"{"model":"m","messages":[]}"#, "messages"),
            (br#"{"messages":[{"role":"user","content":"x"}]}"#, "model"),
            (br#"{"model":"a/b","messages":[{"role":"user","content":"x"}]}"#, "a/b"),
            (br#"{"model":"m","messages":[{"role":"wizard","content":"x"}]}"#, "wizard"),
            (br#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#, "image_url"),
        ] {
            let problem = chat(body).unwrap_err();
            assert!(problem.message.contains(word), "{problem}");
        }
    }
}
