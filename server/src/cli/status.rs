//! `innkeeper status`: everything at one moment, on one screen.

use app::words::{bytes, clock, count, no_gpu, part_of, signed, span};
use protocol::{Books, ModelState, ServerState, Session, Snapshot, Time, capital};

use super::{
    Remote,
    client::{Client, read},
    output::Output,
    table::{Side, table},
    trouble::Trouble,
};

/// Shows where the memory is: the machine, the server, the models, and what is under way.
///
/// Example: innkeeper status
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    remote: Remote,
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Trouble> {
    let answer = Client::new(&arguments.remote).get("/manage/snapshot", &[])?;
    if out.json {
        return out.value(&answer);
    }
    let snapshot: Snapshot = read(&answer)?;
    let headline = out.strong(&headline(&snapshot));
    out.line(&headline)?;
    out.line(&details(&snapshot))
}

/// `Models use 33 MiB. 19.0 GiB is free.`
fn headline(snapshot: &Snapshot) -> String {
    let loaded = snapshot.models.iter().filter(|model| model.state.holds_memory()).count() as u64;
    let Some(ram) = snapshot.books.first() else {
        return format!("{} loaded. Memory has not been measured yet.", capital(&count(loaded, "model")));
    };
    format!("Models use {}. {} is free.", known(ram.models_bytes.map(bytes)), bytes(ram.free_bytes))
}

fn details(snapshot: &Snapshot) -> String {
    let server = &snapshot.server;
    let state = match server.state {
        ServerState::Ready => "ready",
        ServerState::Draining => "stopping",
    };
    let mut lines = vec![format!(
        "Innkeeper {} is {state} (process {}, since {} UTC).",
        server.version,
        server.pid,
        clock(server.started_at, 0)
    )];
    if let Some(spare) = server.spare {
        let held = bytes(spare.private_bytes);
        lines.push(format!(
            "A worker waits for the next model (process {}, {held}, counted as Innkeeper's).",
            spare.pid
        ));
    }
    if !snapshot.books.is_empty() {
        lines.push(books(&snapshot.books));
    }
    let budget = &snapshot.budget;
    lines.push(format!(
        "Reserved for models: {}.",
        part_of(budget.ram_reserved_bytes, budget.ram_limit_bytes)
    ));
    for gpu in &snapshot.gpus {
        let used = part_of(gpu.memory_used_bytes, gpu.memory_total_bytes);
        lines.push(format!("GPU {} ({}): {used} in use.", gpu.index, gpu.name));
        lines.extend(gpu.note.clone());
    }
    if let Some(absent) = &snapshot.gpu_absent {
        // The hint of a missing driver begins with what this has said.
        let hint = absent.hint.trim_start_matches("Models run on the CPU.");
        lines.push(format!("{} {}", no_gpu(absent), hint.trim_start()).trim_end().to_owned());
    }
    let loaded = snapshot.models.iter().filter(|model| model.state == ModelState::Ready).count();
    let requests = count(snapshot.requests.len() as u64, "request");
    let known = count(snapshot.sessions.len() as u64, "session");
    let models = match snapshot.models.len() as u64 {
        0 => "No models yet".to_owned(),
        all => format!("{loaded} of {} ready", count(all, "model")),
    };
    lines.push(format!("{models}, {requests} in flight, {known}."));
    if !snapshot.sessions.is_empty() {
        lines.push(sessions(&snapshot.sessions, snapshot.at));
    }
    for model in &snapshot.models {
        if let Some(failure) = &model.failure {
            lines.push(format!("{}: {} {}", model.id, failure.message, failure.hint).trim_end().to_owned());
        }
        if model.reloads_per_hour > 0 {
            let times = count(model.reloads_per_hour.into(), "time");
            lines.push(format!("{}: loaded again {times} within the last hour.", model.id));
        }
    }
    for download in &snapshot.downloads {
        let how_far = match &download.error {
            Some(error) => error.clone(),
            None => app::pure::download::progress(download, None, 0),
        };
        lines.push(format!("Fetching {}: {how_far}", download.reference));
    }
    if let Some(until) = snapshot.yield_until {
        lines.push(format!("Loads are refused until {} UTC.", clock(until, 0)));
    }
    for warning in &snapshot.warnings {
        lines.push(format!("Warning: {} {}", warning.message, warning.hint));
    }
    lines.join("\n")
}

/// Who uses models: what is kept for each, what reset its time last, and when it ends.
fn sessions(sessions: &[Session], now: Time) -> String {
    let row = |one: &Session| {
        let ends = one.ends_at.map(|at| u64::try_from(at.unix_ms() - now.unix_ms()).unwrap_or(0));
        vec![
            one.label.clone(),
            one.model.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            bytes(one.held_bytes),
            one.last_reset_by.clone(),
            ends.map_or_else(|| one.kept_by.clone(), |ms| format!("in {}", span(ms))),
        ]
    };
    let head = [
        ("SESSION", Side::Left),
        ("MODEL", Side::Left),
        ("HOLDS", Side::Right),
        ("LAST RESET BY", Side::Left),
        ("ENDS", Side::Left),
    ];
    table(&head, &sessions.iter().map(row).collect::<Vec<_>>())
}

/// An amount, where somebody says it.
fn known(amount: Option<String>) -> String {
    amount.unwrap_or_else(|| "unknown".to_owned())
}

/// Every byte of each device in its column.
fn books(books: &[Books]) -> String {
    let rows: Vec<_> = books
        .iter()
        .map(|book| {
            vec![
                book.device.clone(),
                bytes(book.total_bytes),
                known(book.models_bytes.map(bytes)),
                bytes(book.server_bytes),
                known(book.other_bytes.map(signed)),
                bytes(book.free_bytes),
                known(book.unaccounted_bytes.map(signed)),
            ]
        })
        .collect();
    let head = [
        ("DEVICE", Side::Left),
        ("TOTAL", Side::Right),
        ("MODELS", Side::Right),
        ("INNKEEPER", Side::Right),
        ("OTHERS", Side::Right),
        ("FREE", Side::Right),
        ("UNACCOUNTED", Side::Right),
    ];
    table(&head, &rows)
}

#[cfg(test)]
mod tests {
    use protocol::Model;
    use serde_json::json;

    use super::*;
    use crate::cli::ps::tests::ready;

    fn snapshot(measured: bool) -> Snapshot {
        let at = "2026-11-23T14:02:31+00:00";
        let book = json!({ "device": "ram", "total_bytes": 24_u64 << 30, "models_bytes": 33 << 20,
            "server_bytes": 12 << 20, "other_bytes": 3_i64 << 30, "free_bytes": 19_u64 << 30,
            "unaccounted_bytes": -(9_i64 << 20), "quality": "exact" });
        serde_json::from_value(json!({
            "sequence": 1, "at": at,
            "server": { "version": "0.1.0", "pid": 77, "started_at": at, "private_bytes": null, "state": "ready" },
            "host": null, "gpu_absent": { "reason": "NVIDIA driver not loaded", "hint": "Models run on the CPU." },
            "gpus": [], "budget": { "ram_limit_bytes": 8_u64 << 30, "ram_reserved_bytes": 1 << 30, "gpus": [] },
            "books": if measured { vec![book] } else { vec![] },
            "yield_until": null, "models": [Model { reloads_per_hour: 3, ..ready("smollm2") }], "requests": [],
            "sessions": [
                { "id": "a", "kind": "browser", "label": "browser", "model": "smollm2", "held_bytes": 3 << 20, "requests": 4,
                  "started_at": at, "last_used_at": at, "last_reset_by": "request to smollm2",
                  "ends_at": "2026-11-23T14:06:43+00:00" },
                { "id": "b", "kind": "api", "label": "api:notebook", "model": null, "held_bytes": 0, "requests": 1,
                  "started_at": at, "last_used_at": at, "last_reset_by": "first seen", "ends_at": null, "kept_by": "in use" },
            ],
            "warnings": [{ "code": "history_not_written", "message": "The disk is full.", "hint": "Make room.", "since": at }],
            "downloads": [{ "ref": "minilm", "done_bytes": 41 << 20, "total_bytes": 80 << 20, "error": null }],
        }))
        .unwrap()
    }

    #[test]
    fn the_first_sentence_is_the_answer() {
        assert_eq!(headline(&snapshot(true)), "Models use 33.0 MiB. 19.0 GiB is free.");
        assert_eq!(headline(&snapshot(false)), "1 model loaded. Memory has not been measured yet.");
    }

    #[test]
    fn an_empty_house_says_that_it_is_empty() {
        let empty = Snapshot { models: Vec::new(), ..snapshot(true) };
        assert!(details(&empty).contains("No models yet, no requests in flight, 2 sessions."));
    }

    #[test]
    fn every_byte_and_what_is_under_way_is_shown() {
        let text = details(&snapshot(true));
        for words in [
            "Innkeeper 0.1.0 is ready (process 77, since 14:02:31 UTC).",
            "ram     24.0 GiB  33.0 MiB   12.0 MiB  3.00 GiB  19.0 GiB    \u{2212}9.00 MiB",
            "Reserved for models: 1.00 of 8.00 GiB",
            "No GPU found: NVIDIA driver not loaded. Models run on the CPU.",
            "1 of 1 model ready, no requests in flight, 2 sessions.",
            "browser       smollm2  3.00 MiB  request to smollm2  in 4 min 12 s",
            "api:notebook  -           0 MiB  first seen          in use",
            "Fetching minilm: 41.0 of 80.0 MiB",
            "smollm2: loaded again 3 times within the last hour.",
            "Warning: The disk is full. Make room.",
        ] {
            assert!(text.contains(words), "{words:?} is missing in\n{text}");
        }
    }
}
