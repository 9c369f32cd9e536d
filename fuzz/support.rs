//! Bytes as the files that a worker is handed, and what it then does with them.

use std::{
    fs::File,
    io::{Seek, Write},
};

use link::{FileRole, Generate, Load, Prompt, Role, Sampling, Turn};
use worker::port::{Engine, Loader, ModelFile};

/// A file in memory.
fn file(role: FileRole, bytes: &[u8]) -> Option<ModelFile> {
    let memory = rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::empty()).ok()?;
    let mut file = File::from(memory);
    file.write_all(bytes).ok()?;
    file.rewind().ok()?;
    Some(ModelFile { role, file })
}

/// Looks into a model, loads it if that goes well, and asks it. Whatever is wrong with it is an answer.
pub fn look_and_load(files: &[(FileRole, &[u8])]) {
    let open = || files.iter().filter_map(|(role, bytes)| file(*role, bytes)).collect::<Vec<_>>();
    if engine::ModelLoader.inspect(open()).is_ok() {
        let order = Load {
            model: String::new(),
            files: files.iter().map(|(role, _)| *role).collect(),
            context: Some(64),
            threads: 1,
        };
        if let Ok((mut engine, _)) = engine::ModelLoader.load(open(), &order, &mut |_, _, _| {})
            && engine.admit(question()).is_ok()
        {
            while engine.step(&mut |_| {}) {}
        }
    }
}

/// The files of an embedding model.
pub fn bert(weights: &[u8], config: &[u8], tokenizer: &[u8]) {
    look_and_load(&[
        (FileRole::Safetensors, weights),
        (FileRole::Config, config),
        (FileRole::Tokenizer, tokenizer),
    ]);
}

fn question() -> Generate {
    let sampling = Sampling { max_tokens: Some(2), ignore_eos: true, ..Sampling::greedy() };
    let prompt = Prompt::Chat(vec![Turn { role: Role::User, content: "A".to_owned() }]);
    Generate { id: 1, session: String::new(), prompt, sampling, credits: 64 }
}
