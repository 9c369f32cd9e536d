//! Ollama's JSON -> a checked request. As with OpenAI's: what is not known is passed over, what would change the answer
//! and is not done here is refused.

use link::{Prompt, Role, Sampling, Turn};
use protocol::{IdleTimeout, ModelId, Problem};
use serde::Deserialize;
use serde_json::Value;

use crate::openai::{Span, bad, json, missing, model_id, span, within};

/// What stands under `options`. Ollama's own defaults hold for what is left out; as in its newer engine nothing is done about
/// repetitions unless somebody asks for it.
#[derive(Debug, Default, Deserialize)]
struct Options {
    temperature: Option<f64>,
    top_k: Option<i64>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    repeat_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    seed: Option<i64>,
    num_predict: Option<i64>,
    num_ctx: Option<i64>,
    stop: Option<Vec<String>>,
    mirostat: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Option<String>,
    images: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
struct Raw {
    model: Option<String>,
    prompt: Option<String>,
    system: Option<String>,
    messages: Option<Vec<Message>>,
    stream: Option<bool>,
    raw: Option<bool>,
    keep_alive: Option<Span>,
    options: Option<Options>,
    suffix: Option<String>,
    template: Option<String>,
    images: Option<Vec<Value>>,
    tools: Option<Vec<Value>>,
    format: Option<Value>,
    think: Option<Value>,
}

/// A request that makes sense.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) model: ModelId,
    /// `None`: nothing to answer.
    pub(super) prompt: Option<Prompt>,
    pub(super) sampling: Sampling,
    pub(super) stream: bool,
    pub(super) idle_timeout: Option<IdleTimeout>,
    pub(super) context: Option<u32>,
}

/// Reads `/api/generate`.
pub(super) fn generate(body: &[u8]) -> Result<Checked, Problem> {
    let mut raw: Raw = json(body)?;
    let text = raw.prompt.take().filter(|text| !text.is_empty());
    let system = raw.system.take().filter(|text| !text.is_empty());
    let prompt = text.map(|content| match raw.raw {
        Some(true) => Prompt::Text(content),
        _ => {
            let system = system.map(|content| Turn { role: Role::System, content });
            Prompt::Chat(system.into_iter().chain([Turn { role: Role::User, content }]).collect())
        }
    });
    check(raw, prompt)
}

/// Reads `/api/chat`.
pub(super) fn chat(body: &[u8]) -> Result<Checked, Problem> {
    let mut raw: Raw = json(body)?;
    let messages = raw.messages.take().ok_or_else(|| missing("messages"))?;
    let turns = messages.into_iter().enumerate().map(|(at, message)| turn(at, message));
    let turns = turns.collect::<Result<Vec<_>, _>>()?;
    check(raw, Some(turns).filter(|turns| !turns.is_empty()).map(Prompt::Chat))
}

/// Reads the context that `options` ask for.
pub(super) fn context(num_ctx: Option<i64>) -> Result<Option<u32>, Problem> {
    let sound = |n: i64| u32::try_from(n).ok().filter(|n| (16..=1 << 24).contains(n));
    let Some(given) = num_ctx else { return Ok(None) };
    let refused = || {
        bad(format!("`options.num_ctx` is {given}."), format!("Send a whole number from 16 to {}.", 1 << 24))
    };
    sound(given).map(Some).ok_or_else(refused)
}

fn turn(at: usize, message: Message) -> Result<Turn, Problem> {
    let role = match message.role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => {
            let given: String = other.chars().take(40).collect();
            let message = format!("`messages[{at}].role` is `{given}`.");
            return Err(bad(message, "Use system, user, assistant or tool."));
        }
    };
    if message.images.is_some_and(|images| !images.is_empty()) {
        return Err(bad(format!("`messages[{at}]` has images; only text is understood."), "Leave them out."));
    }
    Ok(Turn { role, content: message.content.unwrap_or_default() })
}

fn check(raw: Raw, prompt: Option<Prompt>) -> Result<Checked, Problem> {
    refuse_what_is_not_done(&raw)?;
    let options = raw.options.unwrap_or_default();
    let stop = options.stop.unwrap_or_default();
    if stop.len() > 16 || stop.iter().any(|text| text.is_empty() || text.len() > 1024) {
        let message = "`options.stop` has an empty or overlong text, or more than 16.";
        return Err(bad(message, "Send up to 16 short texts."));
    }
    let sampling = Sampling {
        temperature: within("options.temperature", options.temperature, 0.8, 0.0, 2.0)?,
        top_k: u32::try_from(options.top_k.unwrap_or(40).max(0)).unwrap_or(u32::MAX),
        top_p: within("options.top_p", options.top_p, 0.9, 0.0, 1.0)?,
        min_p: within("options.min_p", options.min_p, 0.0, 0.0, 1.0)?,
        repeat_penalty: within("options.repeat_penalty", options.repeat_penalty, 1.0, 0.1, 10.0)?,
        frequency_penalty: within("options.frequency_penalty", options.frequency_penalty, 0.0, -2.0, 2.0)?,
        presence_penalty: within("options.presence_penalty", options.presence_penalty, 0.0, -2.0, 2.0)?,
        // As with Ollama, -1 asks for another answer each time.
        seed: options.seed.filter(|seed| *seed != -1).map_or_else(crate::random::word, i64::cast_unsigned),
        // Nothing, 0 and less than 0 all mean: to the end.
        max_tokens: options.num_predict.filter(|n| *n > 0).map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
        stop,
        ignore_eos: false,
    };
    Ok(Checked {
        model: model_id(raw.model)?,
        prompt,
        sampling,
        stream: raw.stream.unwrap_or(true),
        idle_timeout: span("keep_alive", raw.keep_alive)?,
        context: context(options.num_ctx)?,
    })
}

fn refuse_what_is_not_done(raw: &Raw) -> Result<(), Problem> {
    let text = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let list = |list: &Option<Vec<Value>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let asks = |value: &Option<Value>| {
        let none =
            |value: &Value| value.is_null() || *value == Value::Bool(false) || value.as_str() == Some("");
        value.as_ref().is_some_and(|value| !none(value))
    };
    let mirostat = raw.options.as_ref().and_then(|options| options.mirostat).is_some_and(|kind| kind != 0);
    let given = [
        ("suffix", text(&raw.suffix)),
        ("template", text(&raw.template)),
        ("images", list(&raw.images)),
        ("tools", list(&raw.tools)),
        ("format", asks(&raw.format)),
        ("think", asks(&raw.think)),
        ("options.mirostat", mirostat),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((field, _)) => Err(bad(format!("`{field}` is not done here."), format!("Leave `{field}` out."))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_as_ollamas_clients_send_it_is_understood() {
        let asked = generate(
            br#"{"model":"smollm2:latest","prompt":"Hi","system":"Be brief.","keep_alive":-1,"think":false,"format":"",
                "options":{"num_predict":-1,"num_ctx":2048,"temperature":0,"top_k":1,"seed":7,"num_gpu":99,"stop":["END"]}}"#,
        )
        .unwrap();
        assert_eq!((asked.model.as_str(), asked.stream, asked.context), ("smollm2", true, Some(2048)));
        assert_eq!(asked.idle_timeout, Some(IdleTimeout::Never));
        assert_eq!((asked.sampling.max_tokens, asked.sampling.seed), (None, 7));
        let Some(Prompt::Chat(turns)) = asked.prompt else { panic!("no conversation") };
        assert!(matches!(turns.as_slice(), [Turn { role: Role::System, .. }, Turn { role: Role::User, .. }]));
        let raw = generate(br#"{"model":"m","prompt":"Once","raw":true}"#).unwrap();
        assert_eq!(raw.prompt, Some(Prompt::Text("Once".to_owned())));
        assert_eq!((raw.sampling.temperature, raw.sampling.top_k), (0.8, 40), "as Ollama has it");
    }

    #[test]
    fn a_seed_of_minus_one_is_another_one_each_time() {
        let seed = |n: i64| {
            let body = format!(r#"{{"model":"m","prompt":"Hi","options":{{"seed":{n}}}}}"#);
            generate(body.as_bytes()).unwrap().sampling.seed
        };
        assert_ne!(seed(-1), seed(-1));
        assert_eq!((seed(0), seed(-2)), (0, u64::MAX - 1));
    }

    #[test]
    fn nothing_to_answer_is_no_mistake() {
        assert_eq!(generate(br#"{"model":"m"}"#).unwrap().prompt, None);
        let asked = chat(br#"{"model":"m","messages":[],"keep_alive":0}"#).unwrap();
        assert_eq!((asked.prompt, asked.idle_timeout), (None, Some(IdleTimeout::After { ms: 0 })));
    }

    #[test]
    fn what_is_not_done_is_refused_by_its_name() {
        for (more, word) in [
            (r#""tools":[{"type":"function"}]"#, "tools"),
            (r#""format":"json""#, "format"),
            (r#""think":true"#, "think"),
            (r#""options":{"mirostat":2}"#, "mirostat"),
            (r#""options":{"num_ctx":3}"#, "num_ctx"),
            (r#""options":{"temperature":9}"#, "temperature"),
            (r#""messages":[{"role":"user","content":"x","images":["aGk="]}]"#, "images"),
            (r#""messages":[{"role":"wizard","content":"x"}]"#, "wizard"),
        ] {
            let before = if more.contains("messages") { "" } else { r#","messages":[]"# };
            let problem = chat(format!(r#"{{"model":"m"{before},{more}}}"#).as_bytes()).unwrap_err();
            assert!(problem.message.contains(word), "{problem}");
        }
    }
}
