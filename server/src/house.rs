//! What the pages need beyond the manager's desk: fetching and removing models, settings, and the conversations of
//! browsers without JavaScript.

use std::sync::Arc;

use app::{
    chat::{Turn, Who},
    manage::{About, ModelFile},
    ports::{Answer, Own},
    pure::{completion, series::Point},
};
use link::{Finish, Prompt, Role, Sampling};
use manager::{HistoryPage, HistoryQuery, Note};
use protocol::{
    Code, Download, EventKind, Measurements, Model, ModelId, Performance, Problem, Settings, Snapshot,
};

use crate::{
    client,
    compose::House,
    relay::{self, Finished, Word},
};

impl app::ports::House for House {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.desk().snapshot()
    }

    fn pull(&self, reference: String, by: String) -> Answer<'_, Download> {
        Box::pin(async move { self.fetches().begin(&reference, by).await })
    }

    fn cancel_pull(&self, reference: String) -> Answer<'_, bool> {
        Box::pin(async move { Ok(self.fetches().cancel(&reference)) })
    }

    fn remove(&self, model: ModelId, by: String) -> Answer<'_, u64> {
        Box::pin(self.remove_files(model, by))
    }

    fn about(&self, model: ModelId) -> Answer<'_, About> {
        Box::pin(self.about_model(model))
    }

    fn log(&self, model: &ModelId) -> Vec<String> {
        self.worker_log(model)
    }

    fn find(&self, model: ModelId) -> Answer<'_, Model> {
        Box::pin(async move { self.wanted(&model).await })
    }

    fn rescan(&self) -> Answer<'_, u32> {
        Box::pin(async move {
            self.librarian().look().await;
            Ok(u32::try_from(self.desk().snapshot().models.len()).unwrap_or(u32::MAX))
        })
    }

    fn settings(&self) -> Settings {
        House::settings(self).settings()
    }

    fn set(&self, values: Vec<(String, String)>, by: String) -> Answer<'_, Settings> {
        Box::pin(self.change(values, by))
    }

    fn set_of_model(&self, model: ModelId, own: Own, value: String, by: String) -> Answer<'_, Model> {
        Box::pin(self.change_of_model(model, vec![(own, value)], by))
    }

    fn history(&self, wanted: HistoryQuery) -> Answer<'_, HistoryPage> {
        Box::pin(self.past(wanted))
    }

    fn measurements(&self, series: String, since_ms: i64, step_s: u64) -> Answer<'_, Measurements> {
        Box::pin(self.measured(series, since_ms, step_s))
    }

    fn held(&self) -> Answer<'_, Vec<Point>> {
        Box::pin(async move { Ok(self.held_lately().await) })
    }

    fn performance(&self) -> Answer<'_, Performance> {
        Box::pin(self.performed())
    }

    fn conversation(&self, key: &str) -> Vec<Turn> {
        self.conversations().of(key)
    }

    fn say(&self, key: String, model: ModelId, prompt: String, system: Option<String>) -> Answer<'_, Turn> {
        Box::pin(self.converse(key, model, prompt, system))
    }

    fn forget(&self, key: &str) {
        self.conversations().forget(key);
    }
}

impl House {
    /// A model for somebody who wants to use it: what is not known of its files is found out first.
    pub(crate) async fn wanted(&self, id: &ModelId) -> Result<Model, Problem> {
        self.librarian().make_sure(id).await;
        self.find(id).await
    }

    async fn about_model(&self, model: ModelId) -> Result<About, Problem> {
        let model = self.find(&model).await?.id;
        let (store, id) = (self.store().clone(), model.clone());
        let found = tokio::task::spawn_blocking(move || store.find(&id).map_err(|e| e.problem()))
            .await
            .unwrap_or_else(|_| Err(relay::lost()))?;
        let facts = self.facts().get(&found.key.text()).and_then(Result::ok);
        let of = |pick: fn(&link::Facts) -> u32| facts.as_ref().map(pick);
        Ok(About {
            model,
            files: found
                .files
                .iter()
                .map(|file| ModelFile {
                    path: file.path.display().to_string(),
                    size_bytes: file.key.size,
                    is_link: file.is_link,
                })
                .collect(),
            name: facts.as_ref().and_then(|facts| facts.name.clone()),
            parameters: facts.as_ref().map(|facts| facts.parameters),
            context: of(|facts| facts.context),
            layers: of(|facts| facts.layers),
            width: of(|facts| facts.width),
            vocabulary: of(|facts| facts.vocabulary),
            has_template: facts.as_ref().map(|facts| facts.has_template),
            kv_bytes_per_token: facts.as_ref().map(|facts| facts.footprint.kv_bytes_per_token),
        })
    }

    async fn remove_files(&self, model: ModelId, by: String) -> Result<u64, Problem> {
        let found = self.find(&model).await?;
        if !found.state.is_at_rest() {
            return Err(Problem::new(
                Code::Conflict,
                format!("`{model}` is {} and its files are in use.", found.state.word()),
                "Unload it first.",
            ));
        }
        let store = self.store().clone();
        let id = model.clone();
        let removed = tokio::task::spawn_blocking(move || store.remove(&id).map_err(|e| e.problem()))
            .await
            .unwrap_or_else(|_| Err(relay::lost()))?;
        self.librarian().look().await;
        self.desk()
            .note(Note {
                kind: EventKind::Disk,
                model: Some(model),
                reason: "removed".to_owned(),
                by,
                bytes_before: Some(removed),
                bytes_after: Some(0),
                detail: String::new(),
            })
            .await;
        Ok(removed)
    }

    async fn converse(
        &self,
        key: String,
        model: ModelId,
        prompt: String,
        system: Option<String>,
    ) -> Result<Turn, Problem> {
        let mut turns: Vec<link::Turn> =
            system.into_iter().map(|content| link::Turn { role: Role::System, content }).collect();
        turns.extend(self.conversations().of(&key).into_iter().filter(|turn| !turn.failed).map(spoken));
        turns.push(link::Turn { role: Role::User, content: prompt.clone() });
        let name = model.to_string();
        let ask = relay::Ask {
            id: crate::random::name("req"),
            model,
            prompt: Prompt::Chat(turns),
            sampling: sampling(),
            idle_timeout: None,
            context: None,
            session: client::of_browser(&key),
        };
        let answer = match self.heard(ask).await {
            Ok((text, finished)) => {
                Turn { who: Who::Assistant, text, note: note(&finished, &name), failed: false }
            }
            Err(problem) => {
                Turn { who: Who::Assistant, text: String::new(), note: problem.to_string(), failed: true }
            }
        };
        let question = Turn { who: Who::User, text: prompt, note: String::new(), failed: answer.failed };
        self.conversations().add(&key, [question, answer.clone()]);
        Ok(answer)
    }

    async fn heard(&self, ask: relay::Ask) -> Result<(String, Finished), Problem> {
        let mut words = relay::begin(self, ask).await?;
        let mut text = String::new();
        loop {
            match words.next().await.unwrap_or_else(|| Word::Failed(relay::lost())) {
                Word::Started => {}
                Word::Text(more) => text.push_str(&more),
                Word::Done(finished) => return Ok((text, finished)),
                Word::Failed(problem) => return Err(problem),
            }
        }
    }
}

fn spoken(turn: Turn) -> link::Turn {
    let role = match turn.who {
        Who::User => Role::User,
        Who::Assistant => Role::Assistant,
    };
    link::Turn { role, content: turn.text }
}

/// How the page without JavaScript asks: a little freedom, and an end within a minute or so.
fn sampling() -> Sampling {
    Sampling {
        temperature: 0.7,
        top_k: 40,
        top_p: 0.95,
        seed: crate::random::word(),
        max_tokens: Some(256),
        ..Sampling::greedy()
    }
}

/// The line below an answer, in the words of the page with JavaScript.
fn note(finished: &Finished, model: &str) -> String {
    let (usage, decode) = (finished.usage, finished.timings.decode_us);
    let speed = if decode > 0 { f64::from(usage.completion_tokens) * 1e6 / decode as f64 } else { 0.0 };
    let timings = completion::Timings {
        queue_ms: finished.queue_ms as f64,
        load_ms: finished.load_ms.map(|ms| ms as f64),
        ttft_ms: finished.ttft_ms.unwrap_or(0) as f64,
        tokens_per_second: speed,
        cached_tokens: u64::from(usage.cached_tokens),
    };
    let counted = completion::Usage {
        prompt_tokens: u64::from(usage.prompt_tokens),
        completion_tokens: u64::from(usage.completion_tokens),
    };
    let finish = if finished.finish == Finish::Length { "length" } else { "stop" };
    completion::Answer {
        usage: Some(counted),
        timings: Some(timings),
        finish: Some(finish.to_owned()),
        fault: None,
    }
    .footnote(model)
}
