//! `cargo xtask bench`: our server and a peer that takes llama-server's arguments, in turn, with the same file, prompts
//! and threads. Ratios count, not seconds: on a shared machine compare processor time.

mod http;
mod report;
mod side;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::json;

use self::{
    http::{Answer, Question},
    report::{Report, Whose},
    side::{Kind, Setting, Side},
};
use crate::{models, places::Places, processes::now, product, steps::Steps, tool::Tool};

/// What to measure against, and how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A program that takes llama-server's arguments (-m, --host, --port, -t, -c, -np)
    #[arg(long)]
    peer: Option<PathBuf>,
    /// Measure stock candle's own model too (compiles an example of the engine, some minutes the first time)
    #[arg(long)]
    stock: bool,
    /// One short round
    #[arg(long)]
    quick: bool,
    /// Rounds; each asks ours, then the peer
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Write the table into docs/performance.md
    #[arg(long)]
    write: bool,
    /// Another chat model than the default one: a GGUF file
    #[arg(long, conflicts_with = "write")]
    model: Option<PathBuf>,
}

const MODEL: &str = "smollm2";
const CONTEXT: u32 = 6144;
const ANSWER: u32 = 64;
const LOAD: &str = "load to ready";

/// What is measured.
struct Plan {
    prompts: &'static [usize],
    contexts: &'static [usize],
    sessions: &'static [usize],
    rounds: u32,
}

/// Builds what is not up to date, so that no older program is measured; then measures and prints.
pub(crate) fn all(places: &Places, steps: &mut Steps, options: &Options) -> Result<()> {
    let program = product::build(places, steps)?;
    let models = match &options.model {
        Some(file) => shelf_of_one(places, file)?,
        None => models::for_tests(places, &program, steps)?,
    };
    let data_dir = models.parent().context("the models lie in no folder")?.to_owned();
    let threads = thread::available_parallelism()?.get();
    let plan = if options.quick {
        Plan { prompts: &[128, 512], contexts: &[0, 1000], sessions: &[1, 4], rounds: 1 }
    } else {
        Plan {
            prompts: &[128, 512, 2048],
            contexts: &[0, 1000, 4000],
            sessions: &[1, 2, 4, 8],
            rounds: options.rounds,
        }
    };
    let stock = options.stock.then(|| stock(places, steps)).transpose()?;
    let mut sides = vec![(Whose::Ours, Kind::Ours { program, data_dir })];
    sides.extend(options.peer.clone().map(|program| (Whose::Peer, Kind::Peer { program })));
    let mut report = Report::default();
    for round in 0..plan.rounds {
        let file = models.join(format!("{MODEL}.gguf"));
        for (whose, kind) in &sides {
            let name =
                format!("round {}, {}", round + 1, if *whose == Whose::Ours { "ours" } else { "the peer" });
            steps.step(&name, "some minutes", || {
                let (whose, unique) = (*whose, round * 1000);
                let embeddings = whose == Whose::Ours && options.model.is_none();
                Round { kind, whose, plan: &plan, report: &mut report, unique, embeddings }
                    .all(&file, threads)
            })?;
        }
        if let Some(stock) = &stock {
            let name = format!("round {}, stock candle", round + 1);
            steps.step(&name, "a minute", || measure_stock(stock, &file, threads, &mut report))?;
        }
    }
    let table = report.table();
    eprint!("\n{table}");
    if options.write {
        let made = format!(
            "{MODEL}, {threads} threads, {} rounds, ours and the peer in turn. Load of the machine when it ended: {}.",
            plan.rounds,
            fs::read_to_string("/proc/loadavg")?.split(' ').take(3).collect::<Vec<_>>().join(", ")
        );
        report.write(&places.root.join("docs/performance.md"), &made)?;
    }
    Ok(())
}

/// A models folder that has this file alone, under the name of the default model.
fn shelf_of_one(places: &Places, file: &Path) -> Result<PathBuf> {
    let models = places.target.join("bench-of-one").join("models");
    fs::create_dir_all(&models)?;
    let to = models.join(format!("{MODEL}.gguf"));
    if to.exists() {
        fs::remove_file(&to)?;
    }
    // A link costs nothing; across file systems there is none.
    fs::hard_link(file, &to)
        .or_else(|_| fs::copy(file, &to).map(drop))
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(models)
}

/// Compiles what measures stock candle; returns where it lies. By the selection that the tests are compiled by, since
/// another one would compile candle again.
fn stock(places: &Places, steps: &mut Steps) -> Result<PathBuf> {
    steps.step("stock candle", "cargo build of the example, some minutes the first time", || {
        places
            .cargo()
            .args(["build", "--release", "--workspace", "--exclude", "frontend", "--exclude", "xtask"])
            .args(["--example", "stock"])
            .run()
    })?;
    Ok(places.target.join("release/examples/stock"))
}

fn measure_stock(program: &Path, file: &Path, threads: usize, report: &mut Report) -> Result<()> {
    let said = Tool::new(program).args([file]).env("RAYON_NUM_THREADS", threads.to_string()).capture()?;
    for line in said.lines() {
        let (name, value) = line.split_once('\t').with_context(|| format!("`{line}` is no figure"))?;
        report.add_stock(name, value.parse()?)?;
    }
    Ok(())
}

/// One round with one side.
struct Round<'a> {
    kind: &'a Kind,
    whose: Whose,
    plan: &'a Plan,
    report: &'a mut Report,
    /// Makes every prompt a new one, so that no cache helps.
    unique: u32,
    /// Whether there is an embedding model to measure.
    embeddings: bool,
}

impl Round<'_> {
    fn all(mut self, file: &Path, threads: usize) -> Result<()> {
        let slots = self.plan.sessions.iter().max().copied().unwrap_or(1) as u32;
        let setting = |slots| Setting { model: file.to_owned(), threads, context: CONTEXT, slots };
        let side = self.cold(&setting(1))?;
        self.prefill(&side)?;
        self.decode(&side)?;
        self.follow_up(&side)?;
        drop(side);
        let side = self.kind.start(&setting(slots))?;
        self.load(&side)?;
        self.ask(side.address, 8, 1)?;
        self.sessions(&side)?;
        if self.embeddings {
            self.embeddings(side.address)?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, unit: &'static str, more: bool, value: f64) {
        self.report.add(name, unit, more, self.whose, value);
    }

    fn prompt(&mut self, tokens: usize) -> String {
        self.unique += 1;
        format!("{}{}", self.unique, " the".repeat(tokens.saturating_sub(4)))
    }

    fn ask(&mut self, address: SocketAddr, prompt: usize, tokens: u32) -> Result<Answer> {
        let prompt = self.prompt(prompt);
        let session = self.unique.to_string();
        http::complete(address, Question { model: MODEL, prompt: &prompt, tokens, session: &session })
    }

    /// From no process to the first word; then what the loaded model takes.
    fn cold(&mut self, setting: &Setting) -> Result<Side> {
        let began = now();
        let side = self.kind.start(setting)?;
        self.ask(side.address, 16, 2)?;
        self.add("no process to first words", "ms", false, ms(began.elapsed()));
        self.add("no process to serving (ours loads at the first request)", "ms", false, ms(side.ready));
        if self.whose == Whose::Peer {
            self.add(LOAD, "ms", false, ms(side.ready));
        }
        let taken = side.taken();
        self.add("private memory, loaded", "MB", false, taken.private_bytes as f64 / 1e6);
        self.add("mapped memory, loaded", "MB", false, taken.mapped_bytes as f64 / 1e6);
        Ok(side)
    }

    /// Ours, as a client of the server waits for it. The peer loads when it starts.
    fn load(&mut self, side: &Side) -> Result<()> {
        if self.whose == Whose::Ours {
            let began = now();
            let (status, answer) = http::form(side.address, "/manage/load", &format!("model={MODEL}"))?;
            anyhow::ensure!(status == 200, "a load answers {status}: {answer}");
            self.add(LOAD, "ms", false, ms(began.elapsed()));
        }
        Ok(())
    }

    fn prefill(&mut self, side: &Side) -> Result<()> {
        for tokens in self.plan.prompts {
            let before = side.taken().processor;
            let answer = self.ask(side.address, *tokens, 1)?;
            let spent = side.taken().processor.saturating_sub(before);
            let read = answer.prompt_tokens as f64;
            self.add(&format!("prompt of {tokens}"), "tok/s", true, read / answer.first.as_secs_f64());
            self.add(&format!("prompt of {tokens}, processor"), "ms/tok", false, ms(spent) / read);
        }
        if self.plan.prompts.contains(&2048) {
            let bytes = side.taken().private_bytes;
            self.add("private memory, after a prompt of 2,048", "MB", false, bytes as f64 / 1e6);
        }
        Ok(())
    }

    fn decode(&mut self, side: &Side) -> Result<()> {
        for context in self.plan.contexts {
            // The same prompt once to fill the cache, so that the second time is nearly all decoding.
            let prompt = self.prompt((*context).max(8));
            let session = self.unique.to_string();
            let question = Question { model: MODEL, prompt: &prompt, tokens: 1, session: &session };
            http::complete(side.address, question)?;
            let before = side.taken().processor;
            let answer = http::complete(side.address, Question { tokens: ANSWER, ..question })?;
            let spent = side.taken().processor.saturating_sub(before);
            let made = answer.completion_tokens as f64;
            self.add(
                &format!("decode at {context}"),
                "tok/s",
                true,
                (made - 1.0) / answer.rest.as_secs_f64(),
            );
            self.add(&format!("decode at {context}, processor"), "ms/tok", false, ms(spent) / made);
        }
        Ok(())
    }

    /// The second turn of a conversation: its beginning is in the cache.
    fn follow_up(&mut self, side: &Side) -> Result<()> {
        let prompt = self.prompt(512);
        let session = self.unique.to_string();
        let question = Question { model: MODEL, prompt: &prompt, tokens: 32, session: &session };
        let first = http::complete(side.address, question)?;
        let prompt = format!("{prompt}{} and what came after that", first.text);
        let second = http::complete(side.address, Question { prompt: &prompt, tokens: 1, ..question })?;
        self.add("second turn, to the first word", "ms", false, ms(second.first));
        // Each answers in its own words, and how many tokens of these are read again depends on them: with random weights,
        // which say nonsense, on chance.
        if let Some(cached) = second.cached_tokens {
            let read = second.prompt_tokens.saturating_sub(cached).max(1) as f64;
            self.add("second turn, for each token that is read", "ms/tok", false, ms(second.first) / read);
        }
        Ok(())
    }

    fn sessions(&mut self, side: &Side) -> Result<()> {
        for count in self.plan.sessions {
            let prompts: Vec<String> = (0..*count).map(|_| self.prompt(16)).collect();
            let (before, began) = (side.taken().processor, now());
            let made: u64 = thread::scope(|scope| {
                let ask = |prompt| {
                    let question = Question { model: MODEL, prompt, tokens: ANSWER, session: prompt };
                    scope.spawn(move || http::complete(side.address, question))
                };
                let all: Vec<_> = prompts.iter().map(|prompt| ask(&prompt[..])).collect();
                let mut made = 0;
                for one in all {
                    let answer = one.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
                    made += answer.completion_tokens;
                }
                anyhow::Ok(made)
            })?;
            let (took, spent) = (began.elapsed(), side.taken().processor.saturating_sub(before));
            self.add(&format!("{count} at once"), "tok/s in all", true, made as f64 / took.as_secs_f64());
            self.add(&format!("{count} at once, processor"), "ms/tok", false, ms(spent) / made as f64);
        }
        Ok(())
    }

    fn embeddings(&mut self, address: SocketAddr) -> Result<()> {
        let text = |n: usize| format!("{n}{}", " a sentence of some length".repeat(1 + n % 7));
        let texts: Vec<String> = (0..64).map(text).collect();
        let body = json!({ "model": "minilm", "input": texts }).to_string();
        http::call(address, "POST", "/v1/embeddings", &body)?;
        let began = now();
        let (status, _) = http::call(address, "POST", "/v1/embeddings", &body)?;
        anyhow::ensure!(status == 200, "embeddings answer {status}");
        self.add("embeddings, texts of 6 to 42 words", "texts/s", true, 64.0 / began.elapsed().as_secs_f64());
        Ok(())
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
