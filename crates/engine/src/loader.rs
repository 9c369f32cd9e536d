//! The worker's port, implemented: files in, a loaded model out.

use std::fs::File;
use std::sync::Arc;

use link::{Embed, Facts, FileRole, Generate, Load, Ready, Stage};
use worker::port::{Admitted, Engine, Loader, Made, ModelFile, Refusal, Vectors};

use crate::bert::{self, Bert, BertFiles};
use crate::chat::Chat;
use crate::error::Error;
use crate::facts::{self, DEFAULT_CONTEXT};
use crate::models::llama::Llama;
use crate::models::{Decoder, Design, stock};
use crate::template::Template;
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

/// Makes chat models from GGUF files and embedding models from safetensors, on the CPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModelLoader;

/// A loaded model.
#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
enum Loaded {
    Chat(Chat),
    Embedding { bert: Bert, steps: u64 },
}

/// What [`ModelLoader`] makes; with it the most tokens that one order made it read.
pub struct LoadedModel(Loaded, u32);

impl std::fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match &self.0 {
            Loaded::Chat(_) => "chat",
            Loaded::Embedding { .. } => "embedding",
        };
        f.debug_tuple("LoadedModel").field(&what).finish()
    }
}

/// The files, by what they are.
enum Files {
    Gguf(Vec<File>),
    Bert(BertFiles),
}

fn sort(files: Vec<ModelFile>) -> Result<Files, Error> {
    let (mut parts, mut weights, mut config, mut tokenizer) = (Vec::new(), None, None, None);
    for ModelFile { role, file } in files {
        match role {
            FileRole::Gguf { part } => parts.push((part, file)),
            FileRole::Safetensors => weights = Some(file),
            FileRole::Config => config = Some(file),
            FileRole::Tokenizer => tokenizer = Some(file),
        }
    }
    if !parts.is_empty() {
        parts.sort_by_key(|(part, _)| *part);
        return Ok(Files::Gguf(parts.into_iter().map(|(_, file)| file).collect()));
    }
    Ok(Files::Bert(BertFiles {
        weights: weights.ok_or(Error::NoFile("its weights (a GGUF file or model.safetensors)"))?,
        config: config.ok_or(Error::NoFile("config.json"))?,
        tokenizer: tokenizer.ok_or(Error::NoFile("tokenizer.json"))?,
    }))
}

impl Loader for ModelLoader {
    type Engine = LoadedModel;

    fn inspect(&self, files: Vec<ModelFile>) -> Result<Facts, Refusal> {
        Ok(match sort(files)? {
            Files::Gguf(parts) => facts::of_gguf(&Weights::open(&parts)?)?.0,
            Files::Bert(files) => crate::bert::Opened::new(files)?.facts(),
        })
    }

    fn load(
        &self,
        files: Vec<ModelFile>,
        order: &Load,
        progress: &mut dyn FnMut(Stage, u64, u64),
    ) -> Result<(LoadedModel, Ready), Refusal> {
        Ok(match sort(files)? {
            Files::Gguf(parts) => chat(&parts, order, progress)?,
            Files::Bert(files) => embedding(files, order, progress)?,
        })
    }
}

fn chat(
    parts: &[File],
    order: &Load,
    progress: &mut dyn FnMut(Stage, u64, u64),
) -> Result<(LoadedModel, Ready), Error> {
    progress(Stage::Header, 0, 1);
    let weights = Arc::new(Weights::open(parts)?);
    weights.will_need();
    let (facts, design) = facts::of_gguf(&weights)?;
    progress(Stage::Header, 1, 1);
    progress(Stage::Tokenizer, 0, 1);
    let tokenizer = Tokenizer::new(Arc::clone(&weights))?;
    let template = weights
        .text("tokenizer.chat_template")?
        .map(|source| Template::new(source, tokenizer.bos_text(), tokenizer.eos_text()))
        .transpose()?;
    progress(Stage::Tokenizer, 1, 1);
    let context = order.context.unwrap_or(DEFAULT_CONTEXT).clamp(1, facts.context);
    let mut steps = 0;
    let mut weighed = |done, total| {
        steps += 1;
        progress(Stage::Weights, done, total);
    };
    let (decoder, served_by): (Box<dyn Decoder>, String) = match design {
        Design::Own(config) => {
            let llama = Llama::load(weights, config, context, order.threads, &mut weighed)?;
            let served_by = llama.served_by();
            (Box::new(llama), served_by)
        }
        Design::Stock(config) => {
            let served_by = config.family.served_by().to_owned();
            (stock::load(weights, config, context, &mut weighed)?, served_by)
        }
    };
    let ready = ready(facts, decoder.context(), order.threads, &served_by);
    let chat = Chat::new(tokenizer, template, decoder, steps);
    Ok((LoadedModel(Loaded::Chat(chat), 0), ready))
}

fn embedding(
    files: BertFiles,
    order: &Load,
    progress: &mut dyn FnMut(Stage, u64, u64),
) -> Result<(LoadedModel, Ready), Error> {
    progress(Stage::Header, 0, 1);
    let opened = crate::bert::Opened::new(files)?;
    let facts = opened.facts();
    let bytes = facts.footprint.mapped_bytes;
    progress(Stage::Weights, 0, bytes);
    let bert = Bert::load(opened, order.threads)?;
    progress(Stage::Weights, bytes, bytes);
    let ready = ready(facts, bert.longest(), order.threads, &bert.served_by());
    Ok((LoadedModel(Loaded::Embedding { bert, steps: 1 }, 0), ready))
}

fn ready(facts: Facts, context: u32, threads: u32, served_by: &str) -> Ready {
    Ready {
        facts,
        context,
        threads: threads.max(1),
        device: "cpu".to_owned(),
        served_by: served_by.to_owned(),
    }
}

impl Engine for LoadedModel {
    fn admit(&mut self, request: Generate) -> Result<Admitted, Refusal> {
        match &mut self.0 {
            Loaded::Chat(chat) => {
                let admitted = chat.admit(request)?;
                self.1 = self.1.max(admitted.prompt_tokens - admitted.cached_tokens);
                Ok(admitted)
            }
            Loaded::Embedding { .. } => Err(Error::NotChat.into()),
        }
    }

    fn cancel(&mut self, id: u64) {
        if let Loaded::Chat(chat) = &mut self.0 {
            chat.cancel(id);
        }
    }

    fn pause(&mut self, id: u64, paused: bool) {
        if let Loaded::Chat(chat) = &mut self.0 {
            chat.pause(id, paused);
        }
    }

    fn step(&mut self, out: &mut dyn FnMut(Made)) -> bool {
        match &mut self.0 {
            Loaded::Chat(chat) => chat.step(out),
            Loaded::Embedding { .. } => false,
        }
    }

    fn embed(&mut self, order: &Embed) -> Result<Vectors, Refusal> {
        match &mut self.0 {
            Loaded::Chat(_) => Err(Error::NotEmbedding.into()),
            Loaded::Embedding { bert, steps } => {
                let go_on = || !worker::port::is_cancelled(order.id);
                let vectors = bert.embed(&order.texts, &go_on, &mut || *steps += 1)?;
                self.1 = self.1.max(vectors.prompt_tokens);
                Ok(vectors)
            }
        }
    }

    fn end_session(&mut self, session: &str) -> u64 {
        match &mut self.0 {
            Loaded::Chat(chat) => chat.end_session(session),
            Loaded::Embedding { .. } => 0,
        }
    }

    fn set_threads(&mut self, n: u32) {
        match &mut self.0 {
            Loaded::Chat(chat) => chat.set_threads(n),
            Loaded::Embedding { bert, .. } => bert.set_threads(n),
        }
    }

    fn steps(&self) -> u64 {
        match &self.0 {
            Loaded::Chat(chat) => chat.steps(),
            Loaded::Embedding { steps, .. } => *steps,
        }
    }

    fn kept_bytes(&self) -> u64 {
        match &self.0 {
            Loaded::Chat(chat) => chat.kept_bytes(),
            Loaded::Embedding { .. } => 0,
        }
    }

    fn is_full(&self) -> bool {
        let most = match &self.0 {
            Loaded::Chat(_) => crate::chat::PAGE,
            Loaded::Embedding { .. } => bert::BATCH_TOKENS,
        };
        self.1 as usize >= most
    }
}
