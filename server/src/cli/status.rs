//! `innkeeper status`: everything at one moment, on one screen.

use app::words::{bytes, clock, count, part_of, signed};
use protocol::{Books, ModelState, ServerState, Snapshot};

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
    format!("Models use {}. {} is free.", bytes(ram.models_bytes), bytes(ram.free_bytes))
}

fn capital(text: &str) -> String {
    app::words::sentence(text).trim_end_matches('.').to_owned()
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
        lines.push(format!("No GPU: {}. {}", absent.reason, absent.hint));
    }
    let loaded = snapshot.models.iter().filter(|model| model.state == ModelState::Ready).count();
    let requests = count(snapshot.requests.len() as u64, "request");
    let sessions = count(snapshot.sessions.len() as u64, "session");
    lines.push(format!(
        "{loaded} of {} ready, {requests} in flight, {sessions}.",
        count(snapshot.models.len() as u64, "model")
    ));
    for model in &snapshot.models {
        if let Some(failure) = &model.failure {
            lines.push(format!("{}: {} {}", model.id, failure.message, failure.hint).trim_end().to_owned());
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

/// Every byte of each device in its column.
fn books(books: &[Books]) -> String {
    let rows: Vec<_> = books
        .iter()
        .map(|book| {
            vec![
                book.device.clone(),
                bytes(book.total_bytes),
                bytes(book.models_bytes),
                bytes(book.server_bytes),
                signed(book.other_bytes),
                bytes(book.free_bytes),
                signed(book.unaccounted_bytes),
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
    use serde_json::json;

    use super::*;
    use crate::cli::ps::tests::ready;

    fn snapshot(measured: bool) -> Snapshot {
        let at = "2026-11-23T14:02:31+00:00";
        let book = json!({ "device": "ram", "total_bytes": 24_u64 << 30, "models_bytes": 33 << 20,
            "server_bytes": 12 << 20, "other_bytes": 3_i64 << 30, "free_bytes": 19_u64 << 30,
            "unaccounted_bytes": -(9_i64 << 20) });
        serde_json::from_value(json!({
            "sequence": 1, "at": at,
            "server": { "version": "0.1.0", "pid": 77, "started_at": at, "private_bytes": null, "state": "ready" },
            "host": null, "gpu_absent": { "reason": "NVIDIA driver not loaded", "hint": "Models run on the CPU." },
            "gpus": [], "budget": { "ram_limit_bytes": 8_u64 << 30, "ram_reserved_bytes": 1 << 30, "gpus": [] },
            "books": if measured { vec![book] } else { vec![] },
            "yield_until": null, "models": [ready("smollm2")], "sessions": [], "requests": [],
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
    fn every_byte_and_what_is_under_way_is_shown() {
        let text = details(&snapshot(true));
        for words in [
            "Innkeeper 0.1.0 is ready (process 77, since 14:02:31 UTC).",
            "ram     24.0 GiB  33.0 MiB   12.0 MiB  3.00 GiB  19.0 GiB    \u{2212}9.00 MiB",
            "Reserved for models: 1.00 of 8.00 GiB",
            "No GPU: NVIDIA driver not loaded. Models run on the CPU.",
            "1 of 1 model ready, no requests in flight, no sessions.",
            "Fetching minilm: 41.0 of 80.0 MiB",
            "Warning: The disk is full. Make room.",
        ] {
            assert!(text.contains(words), "{words:?} is missing in\n{text}");
        }
    }
}
