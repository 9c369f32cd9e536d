//! `innkeeper ls`: models on disk.

use app::words::{about, state};
use protocol::{Model, ModelKind, Snapshot};
use serde_json::json;
use store::{CATALOGUE, OnShelf, Store};

use super::{
    Global, Remote,
    client::read,
    output::Output,
    table::{Side, table},
    trouble::Trouble,
    whereto::{WhereTo, whereto},
};

/// Lists the models on disk, with a running server or without.
///
/// Example: innkeeper ls
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    remote: Remote,
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, global: &Global, out: &mut Output) -> Result<(), Trouble> {
    match whereto(&arguments.remote, global) {
        WhereTo::Server(client) => {
            let snapshot: Snapshot = read(&client.get("/manage/snapshot", &[])?)?;
            if out.json {
                return out.value(&snapshot.models);
            }
            out.line(&served(&snapshot.models))
        }
        WhereTo::Folder(data_dir) => {
            let models = Store::open(&data_dir)?.scan()?.models;
            if out.json {
                return out.value(&models.iter().map(as_json).collect::<Vec<_>>());
            }
            out.line(&on_shelf(&models))
        }
    }
}

fn as_json(model: &OnShelf) -> serde_json::Value {
    json!({ "id": model.id, "kind": model.kind, "size_bytes": model.size_bytes, "trouble": model.trouble })
}

fn kind(kind: ModelKind) -> &'static str {
    match kind {
        ModelKind::Chat => "chat",
        ModelKind::Embedding => "embeddings",
    }
}

/// What to do when there is nothing.
fn none() -> String {
    let names: Vec<_> =
        CATALOGUE.iter().map(|entry| format!("  innkeeper pull {}   {}", entry.id, entry.about)).collect();
    format!("No models yet. Fetch one:\n{}", names.join("\n"))
}

fn served(models: &[Model]) -> String {
    if models.is_empty() {
        return none();
    }
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let rows: Vec<_> = models
        .iter()
        .map(|model| {
            vec![
                model.id.to_string(),
                kind(model.kind).to_owned(),
                dash(&model.family),
                dash(&model.quantization),
                about(model.size_bytes),
                state(model),
            ]
        })
        .collect();
    let head = [
        ("MODEL", Side::Left),
        ("KIND", Side::Left),
        ("FAMILY", Side::Left),
        ("QUANTISATION", Side::Left),
        ("ON DISK", Side::Right),
        ("STATE", Side::Left),
    ];
    table(&head, &rows)
}

fn on_shelf(models: &[OnShelf]) -> String {
    if models.is_empty() {
        return none();
    }
    let rows: Vec<_> = models
        .iter()
        .map(|model| {
            let note = model.trouble.as_ref().map(|trouble| trouble.message.clone()).unwrap_or_default();
            vec![model.id.to_string(), kind(model.kind).to_owned(), about(model.size_bytes), note]
        })
        .collect();
    table(&[("MODEL", Side::Left), ("KIND", Side::Left), ("ON DISK", Side::Right), ("", Side::Left)], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::tests::pages;

    #[test]
    fn an_empty_folder_says_what_to_fetch() {
        let root = tempfile::tempdir().unwrap();
        let global = Global { data_dir: Some(root.path().to_owned()), json: false };
        let (mut out, page, _) = pages(false);
        run(&Arguments { remote: Remote::default() }, &global, &mut out).unwrap();
        assert!(page.text().contains("innkeeper pull smollm2"), "{}", page.text());
    }

    #[test]
    fn what_stands_in_the_folder_is_listed_and_what_is_wrong_is_said() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        for (name, text) in [("good.gguf", "GGUF"), ("bad.gguf", "PK")] {
            let path = store.models_dir().join(name);
            std::fs::write(&path, text).unwrap();
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }
        let global = Global { data_dir: Some(root.path().to_owned()), json: false };
        let (mut out, page, _) = pages(false);
        run(&Arguments { remote: Remote::default() }, &global, &mut out).unwrap();
        let text = page.text();
        assert!(text.contains("good   chat"), "{text}");
        assert!(text.contains("is no GGUF file"), "{text}");
        let (mut out, page, _) = pages(true);
        run(&Arguments { remote: Remote::default() }, &global, &mut out).unwrap();
        let models: serde_json::Value = serde_json::from_str(&page.text()).unwrap();
        assert_eq!(models[1]["id"], "good");
        assert_eq!(models[0]["trouble"]["code"], "unsupported_model");
    }
}
