//! Real model files, and requests in a line.

use std::fs::File;
use std::path::{Path, PathBuf};

use engine::{LoadedModel, ModelLoader};
use link::{FileRole, Finish, Generate, Load, Prompt, Ready, Sampling, Usage};
use worker::port::{Engine, Loader, Made, ModelFile};

/// The folder with the real models.
#[allow(dead_code, reason = "not every test file needs it")]
pub(crate) fn models() -> PathBuf {
    let folder = std::env::var_os("INNKEEPER_TEST_MODELS").expect(
        "INNKEEPER_TEST_MODELS is not set: `cargo xtask test` fetches the two default models and sets it, \
         or set it to a folder that holds smollm2.gguf and minilm/",
    );
    PathBuf::from(folder)
}

#[allow(dead_code, reason = "not every test file needs it")]
fn open(path: &Path, role: FileRole) -> ModelFile {
    let file = File::open(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    ModelFile { role, file }
}

#[allow(dead_code, reason = "not every test file needs it")]
pub(crate) fn smollm2() -> Vec<ModelFile> {
    vec![open(&models().join("smollm2.gguf"), FileRole::Gguf { part: 0 })]
}

#[allow(dead_code, reason = "not every test file needs it")]
pub(crate) fn minilm() -> Vec<ModelFile> {
    let folder = models().join("minilm");
    vec![
        open(&folder.join("model.safetensors"), FileRole::Safetensors),
        open(&folder.join("config.json"), FileRole::Config),
        open(&folder.join("tokenizer.json"), FileRole::Tokenizer),
    ]
}

pub(crate) fn load(files: Vec<ModelFile>, context: Option<u32>, threads: u32) -> (LoadedModel, Ready) {
    let order =
        Load { model: String::new(), files: files.iter().map(|file| file.role).collect(), context, threads };
    ModelLoader.load(files, &order, &mut |_, _, _| {}).expect("the model loads")
}

pub(crate) fn greedy(max_tokens: u32) -> Sampling {
    Sampling { max_tokens: Some(max_tokens), ..Sampling::greedy() }
}

pub(crate) fn request(id: u64, session: &str, prompt: &str, sampling: Sampling) -> Generate {
    Generate {
        id,
        session: session.to_owned(),
        prompt: Prompt::Text(prompt.to_owned()),
        sampling,
        credits: 64,
    }
}

/// What came of one request.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) text: String,
    pub(crate) pieces: Vec<String>,
    pub(crate) finish: Option<Finish>,
    pub(crate) usage: Usage,
}

/// Steps until nothing is left to do; the outcome of each request in the order of `ids`.
#[allow(dead_code, reason = "not every test file needs it")]
pub(crate) fn run(model: &mut LoadedModel, ids: &[u64]) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = ids.iter().map(|_| Outcome::default()).collect();
    let mut most = 100_000;
    loop {
        let more = model.step(&mut |made| match made {
            Made::Token { id, text } => {
                if let Some(at) = ids.iter().position(|known| *known == id) {
                    outcomes[at].text.push_str(&text);
                    outcomes[at].pieces.push(text);
                }
            }
            Made::Done { id, text, finish, usage, .. } => {
                if let Some(at) = ids.iter().position(|known| *known == id) {
                    assert_eq!(outcomes[at].finish, None, "one end a request");
                    outcomes[at].text.push_str(&text);
                    outcomes[at].finish = Some(finish);
                    outcomes[at].usage = usage;
                }
            }
            Made::Failed { id, refusal } => panic!("request {id} failed: {}", refusal.message),
            Made::Held { .. } => {}
        });
        most -= 1;
        assert!(most > 0, "the engine never came to an end");
        if !more {
            return outcomes;
        }
    }
}
