//! Inference: readers of model files, tokenizer, chat template, sampler, model families and their scheduler.
//!
//! This room turns files and requests into tokens and vectors. It knows no channel, no process and no life cycle: the
//! worker drives it through the two traits of its port, on one thread. Nothing in a model file is believed.

#[cfg(test)]
mod allocations;
mod answer;
mod bert;
mod chat;
mod clock;
mod error;
mod facts;
mod gguf;
mod loader;
mod models;
mod sampler;
mod template;
mod tokenizer;
mod weights;

pub use error::Error;
pub use gguf::{GgufError, TensorType};
pub use loader::{LoadedModel, ModelLoader};
