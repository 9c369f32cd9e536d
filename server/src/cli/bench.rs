//! `innkeeper bench`: how fast a running server answers, by what it says of each answer itself.

use app::words::{count, took};
use manager::ports::Clock;
use protocol::{Model, ModelId, ModelKind};
use serde::Serialize;
use serde_json::json;
use telemetry::SystemClock;

use super::{
    Remote,
    client::{Client, read},
    output::Output,
    progress::Progress,
    table::{Side, table},
    trouble::Trouble,
};

/// Texts in one request for embeddings.
const TEXTS: usize = 64;

/// Measures a model on a running server: load, time to first token, prompt and answer in tokens a second; of an embedding model texts
/// and tokens a second. What others ask meanwhile shows in the figures.
///
/// Example: innkeeper bench smollm2 --runs 5
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which model; it is loaded if need be, and stays.
    #[arg(default_value = "smollm2")]
    model: ModelId,
    /// How often; the middle one counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Words of each prompt; no two prompts begin alike.
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    words: u32,
    /// Tokens of each answer.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    tokens: u32,
    #[command(flatten)]
    remote: Remote,
}

/// One quantity over all runs.
#[derive(Debug, Serialize)]
struct Measured {
    what: &'static str,
    unit: &'static str,
    median: f64,
    least: f64,
    most: f64,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Report {
    model: ModelId,
    runs: u32,
    /// Threads of the instance that answered.
    threads: Option<u32>,
    /// How long its load took, whoever asked for it.
    load_ms: Option<u64>,
    measured: Vec<Measured>,
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Trouble> {
    let client = Client::new(&arguments.remote);
    let spinner = Progress::spinner(out, &format!("measuring {}", arguments.model));
    let model: Model = read(&client.post("/manage/load", &[("model", arguments.model.as_str())])?)?;
    let once = |n| match model.kind {
        ModelKind::Chat => chat(arguments, &client, n),
        ModelKind::Embedding => embed(arguments, &client, n),
    };
    // The first answer finds everything cold and does not count.
    once(0)?;
    let all = (1..=arguments.runs).map(once).collect::<Result<Vec<_>, _>>()?;
    drop(spinner);
    let instance = model.instances.first();
    let report = Report {
        model: model.id.clone(),
        runs: arguments.runs,
        threads: instance.map(|one| one.threads),
        load_ms: instance.and_then(|one| one.load_ms),
        measured: summed_up(&all),
    };
    if out.json { out.value(&report) } else { out.line(&page(&report)) }
}

/// What one run has measured: quantity, unit, value.
type Run = Vec<(&'static str, &'static str, f64)>;

fn chat(arguments: &Arguments, client: &Client, n: u32) -> Result<Run, Trouble> {
    let body = json!({
        "model": arguments.model, "max_tokens": arguments.tokens, "ignore_eos": true, "temperature": 0,
        "messages": [{ "role": "user", "content": words(arguments.words, n) }],
    });
    let answer = client.ask("/v1/chat/completions", &body)?;
    let number = |name: &str| answer["timings"][name].as_f64();
    let told = [
        ("time to first token", "ms", number("ttft_ms")),
        ("prompt", "tokens/s", number("prompt_tokens_per_second")),
        ("answer", "tokens/s", number("tokens_per_second")),
    ];
    Ok(told.into_iter().filter_map(|(what, unit, value)| Some((what, unit, value?))).collect())
}

fn embed(arguments: &Arguments, client: &Client, n: u32) -> Result<Run, Trouble> {
    let texts: Vec<_> = (0..TEXTS).map(|text| words(32, n * TEXTS as u32 + text as u32)).collect();
    let begun = SystemClock.now().mono;
    let body = json!({ "model": arguments.model, "input": texts, "encoding_format": "base64" });
    let answer = client.ask("/v1/embeddings", &body)?;
    let seconds = (SystemClock.now().mono.saturating_sub(begun)).as_secs_f64().max(1e-6);
    let tokens = answer["usage"]["prompt_tokens"].as_f64().unwrap_or(0.0);
    Ok(vec![
        ("texts of 32 words", "texts/s", TEXTS as f64 / seconds),
        ("prompt", "tokens/s", tokens / seconds),
    ])
}

/// A text whose beginning no other has, so that nothing of it is known from before.
fn words(count: u32, n: u32) -> String {
    const WORDS: [&str; 12] =
        ["the", "inn", "keeps", "a", "room", "for", "every", "guest", "who", "comes", "and", "goes"];
    let nonce = crate::random::name("run");
    let text: Vec<_> =
        WORDS.iter().cycle().skip(n as usize % WORDS.len()).take(count as usize).copied().collect();
    format!("{nonce} {}", text.join(" "))
}

/// The quantities of all runs, in their order.
fn summed_up(runs: &[Run]) -> Vec<Measured> {
    let Some(first) = runs.first() else { return Vec::new() };
    let one = |(what, unit, _): &(&'static str, &'static str, f64)| {
        let of_run = |run: &Run| run.iter().find(|(other, ..)| other == what).map(|(.., value)| *value);
        let mut values: Vec<f64> = runs.iter().filter_map(of_run).collect();
        values.sort_by(f64::total_cmp);
        let [least, .., most] = values.as_slice() else {
            let only = values.first().copied().unwrap_or_default();
            return Measured { what, unit, median: only, least: only, most: only };
        };
        Measured { what, unit, median: values[values.len() / 2], least: *least, most: *most }
    };
    first.iter().map(one).collect()
}

fn page(report: &Report) -> String {
    let rows: Vec<_> = report
        .measured
        .iter()
        .map(|one| {
            let figure = |value: f64| app::words::fixed(value, if value < 100.0 { 1 } else { 0 });
            vec![
                one.what.to_owned(),
                figure(one.median),
                format!("{} to {}", figure(one.least), figure(one.most)),
                one.unit.to_owned(),
            ]
        })
        .collect();
    let head = [("WHAT", Side::Left), ("MIDDLE", Side::Right), ("RANGE", Side::Right), ("UNIT", Side::Left)];
    let load = report.load_ms.map_or_else(String::new, |ms| format!(", its load took {}", took(ms)));
    let threads = report.threads.map_or_else(String::new, |n| format!(" on {}", count(n.into(), "thread")));
    format!("{}{threads}, {}{load}.\n{}", report.model, count(report.runs.into(), "run"), table(&head, &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_run_counts_and_the_range_is_told() {
        let run = |value| vec![("answer", "tokens/s", value), ("prompt", "tokens/s", 2000.0 * value)];
        let report = Report {
            model: "smollm2".parse().unwrap(),
            runs: 3,
            threads: Some(2),
            load_ms: Some(420),
            measured: summed_up(&[run(3.0), run(1.0), run(2.5)]),
        };
        assert_eq!(
            page(&report),
            "smollm2 on 2 threads, 3 runs, its load took 0.42 s.\n\
             WHAT    MIDDLE         RANGE  UNIT\n\
             answer     2.5    1.0 to 3.0  tokens/s\n\
             prompt    5000  2000 to 6000  tokens/s"
        );
        assert_eq!(summed_up(&[run(7.0)])[0].most, 7.0);
        assert!(summed_up(&[]).is_empty());
    }

    #[test]
    fn no_two_prompts_begin_alike() {
        assert_ne!(words(9, 1).split(' ').next(), words(9, 1).split(' ').next());
        assert_eq!(words(9, 5).split(' ').count(), 10);
    }
}
