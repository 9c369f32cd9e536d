//! `innkeeper ps`: loaded models.

use app::words::{about, bytes, idle_timeout, in_use, state, unloads};
use protocol::{Memory, Model, ModelState, Quality, Snapshot, Time};

use super::{
    Remote,
    client::{Client, read},
    output::Output,
    table::{Side, table},
    trouble::Trouble,
};

/// Lists the loaded models: what each holds, who uses it, and when it goes by itself.
///
/// Example: innkeeper ps
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    remote: Remote,
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Trouble> {
    let mut snapshot: Snapshot = read(&Client::new(&arguments.remote).get("/manage/snapshot", &[])?)?;
    snapshot.models.retain(|model| model.state != ModelState::Unloaded);
    if out.json {
        return out.value(&snapshot.models);
    }
    out.line(&listed(&snapshot.models, snapshot.at))
}

fn listed(models: &[Model], now: Time) -> String {
    if models.is_empty() {
        return "No model is loaded.".to_owned();
    }
    let rows: Vec<_> = models.iter().map(|model| row(model, now)).collect();
    let head = [
        ("MODEL", Side::Left),
        ("STATE", Side::Left),
        ("MEMORY", Side::Right),
        ("FILE CACHE", Side::Right),
        ("IN USE", Side::Left),
        ("IDLE TIMEOUT", Side::Left),
        ("UNLOADS", Side::Left),
        ("PROCESS", Side::Right),
    ];
    table(&head, &rows)
}

fn row(model: &Model, now: Time) -> Vec<String> {
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let instance = model.instances.first();
    let held = instance.and_then(|one| one.memory.as_ref());
    vec![
        model.id.to_string(),
        state(model),
        held.map_or_else(|| "-".to_owned(), memory),
        held.map_or_else(|| "-".to_owned(), |held| about(held.mapped_bytes)),
        dash(in_use(model)),
        idle_timeout(model.idle_timeout_seconds),
        dash(unloads(model, now).when),
        instance.map_or_else(|| "-".to_owned(), |one| one.pid.to_string()),
    ]
}

/// What a model holds; a number that is not exact says so.
pub(crate) fn memory(held: &Memory) -> String {
    let about = if held.quality == Quality::Estimated { "about " } else { "" };
    match held.gpu_bytes {
        Some(gpu) if gpu > 0 => format!("{about}{} + {} GPU", bytes(held.private_bytes), bytes(gpu)),
        _ => format!("{about}{}", bytes(held.private_bytes)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use protocol::{IdleTimeout, Instance, ModelKind};

    use super::*;

    pub(crate) fn ready(id: &str) -> Model {
        let at = Time::from_unix_ms(1_795_442_551_000);
        let held = Memory {
            private_bytes: 34_708_000,
            mapped_bytes: 98_362_432,
            gpu_bytes: None,
            quality: Quality::Exact,
            measured_at: at,
        };
        // By way of JSON, so that a field that is added elsewhere does not have to be named here.
        serde_json::from_value(serde_json::json!({
            "id": id, "kind": ModelKind::Chat, "family": "llama", "quantization": "Q4_1", "size_bytes": 98_362_432,
            "state": ModelState::Ready, "pinned": false, "idle_timeout_seconds": IdleTimeout::After { ms: 900_000 },
            "in_flight": 0, "queued": 0, "idle_since": at, "unload_at": Time::from_unix_ms(at.unix_ms() + 108_000),
            "last_reset_by": "the page", "progress": null, "failure": null,
            "instances": [Instance {
                pid: 4121, epoch: 3, loaded_at: Some(at), load_ms: Some(420), device: "cpu".to_owned(), threads: 2,
                context: 8192, sandbox: String::new(), served_by: String::new(), memory: Some(held), predicted_bytes: None,
                tokens_per_second: None,
            }],
        }))
        .unwrap()
    }

    #[test]
    fn a_loaded_model_is_a_line_with_all_that_one_asks_for() {
        let model = ready("smollm2");
        let text = listed(std::slice::from_ref(&model), model.idle_since.unwrap());
        let row: Vec<_> =
            text.lines().nth(1).unwrap().split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
        assert_eq!(row, ["smollm2", "ready", "33.1 MiB", "94 MiB", "-", "15 min", "in 1 min 48 s", "4121"]);
    }

    #[test]
    fn nothing_loaded_is_a_sentence() {
        assert_eq!(listed(&[], Time::from_unix_ms(0)), "No model is loaded.");
    }

    #[test]
    fn a_guess_is_called_one() {
        let mut model = ready("m");
        let held = model.instances[0].memory.as_mut().unwrap();
        held.quality = Quality::Estimated;
        held.gpu_bytes = Some(1 << 30);
        assert_eq!(memory(held), "about 33.1 MiB + 1.00 GiB GPU");
    }
}
