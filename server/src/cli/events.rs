//! `innkeeper events`: what happened, and what happens.

use std::io::Read;

use app::{manage::History, pure::sse};
use protocol::{LedgerEvent, ModelId};

use super::{
    Remote,
    client::{Client, read},
    output::Output,
    trouble::Trouble,
};

/// Shows what happened, oldest first: loads, unloads with their receipts, evictions, refusals, crashes. Times are UTC.
///
/// Example: innkeeper events --follow --model smollm2 --since 1h
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Go on with what happens.
    #[arg(short, long)]
    follow: bool,
    /// Only of this model.
    #[arg(long, value_name = "MODEL")]
    model: Option<ModelId>,
    /// Not older than this: a span (1h) or a time.
    #[arg(long, value_name = "SINCE")]
    since: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Trouble> {
    let client = Client::new(&arguments.remote);
    // Listens before it looks back, so that nothing falls in between.
    let stream = if arguments.follow { Some(client.listen("/events")?) } else { None };
    let limit = arguments.limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(arguments.model.as_ref().map(|model| ("model", model.as_str())));
    query.extend(arguments.since.as_deref().map(|since| ("since", since)));
    let answer = client.get("/manage/history", &query)?;
    if out.json && !arguments.follow {
        return out.value(&answer);
    }
    let mut last = 0;
    for event in read::<History>(&answer)?.events.iter().rev() {
        last = last.max(event.id);
        say(event, out)?;
    }
    match stream {
        Some(stream) => follow(stream, arguments.model.as_ref(), last, out),
        None => Ok(()),
    }
}

fn say(event: &LedgerEvent, out: &mut Output) -> Result<(), Trouble> {
    if out.json { out.value_line(event) } else { out.line(&line(event)) }
}

/// Until the server stops, or whoever reads us.
fn follow(
    mut stream: impl Read,
    model: Option<&ModelId>,
    mut last: u64,
    out: &mut Output,
) -> Result<(), Trouble> {
    let (mut events, mut piece) = (sse::Events::default(), [0; 4096]);
    loop {
        let read = match stream.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Trouble::Failed(format!("The connection broke: {error}."))),
        };
        for data in events.feed(&piece[..read]) {
            // Snapshots and samples come by the same way; only an event of the ledger reads as one.
            let Ok(event) = serde_json::from_str::<LedgerEvent>(&data) else { continue };
            if event.id > last && (model.is_none() || event.model.as_ref() == model) {
                last = event.id;
                say(&event, out)?;
            }
        }
    }
}

/// `2026-11-23 14:02:31  unload    smollm2 gave back ...`.
fn line(event: &LedgerEvent) -> String {
    let at = event.at.to_string();
    let (day, time) = (at.get(..10).unwrap_or_default(), at.get(11..19).unwrap_or_default());
    let mut told = app::words::told(event);
    if told.is_empty() {
        let model = event.model.as_ref().map_or_else(String::new, |model| format!("{model}: "));
        let detail = if event.detail.is_empty() { String::new() } else { format!(" ({})", event.detail) };
        told = format!("{model}{}{detail}", event.reason);
    }
    let by = if event.asked_by.is_empty() { String::new() } else { format!("  [{}]", event.asked_by) };
    format!("{day} {time}  {:<8}  {told}{by}", event.kind.word())
}

#[cfg(test)]
mod tests {
    use protocol::{EventKind, Time, Verdict};

    use super::*;
    use crate::cli::{output::tests::pages, receipts::tests::receipt_of};

    fn event(id: u64, model: &str) -> LedgerEvent {
        LedgerEvent {
            id,
            at: Time::from_unix_ms(1_795_442_551_120),
            kind: EventKind::Unload,
            model: model.parse().ok(),
            reason: "asked".to_owned(),
            asked_by: "api curl".to_owned(),
            duration_ms: Some(12),
            bytes_before: None,
            bytes_after: None,
            receipt: Some(receipt_of(Verdict::Returned, 33 << 20, 33 << 20)),
            detail: String::new(),
        }
    }

    #[test]
    fn an_event_is_a_line_with_time_kind_and_proof() {
        assert_eq!(
            line(&event(1, "smollm2")),
            "2026-11-23 14:02:31  unload    smollm2 gave back 33.0 of 33.0 MiB in 12 ms, measured.  [api curl]"
        );
        let disk = LedgerEvent {
            kind: EventKind::Disk,
            reason: "fetched".to_owned(),
            detail: "pypi:x".to_owned(),
            receipt: None,
            ..event(2, "m")
        };
        assert_eq!(line(&disk), "2026-11-23 14:02:31  disk      m: fetched (pypi:x)  [api curl]");
    }

    #[test]
    fn following_shows_each_new_event_once_and_nothing_else() {
        let one = |event: &LedgerEvent| {
            format!("event: ledger\ndata: {}\n\n", serde_json::to_string(event).unwrap())
        };
        let stream = [
            "retry: 1000\n\n".to_owned(),
            "event: sample\ndata: {\"sequence\":1}\n\n".to_owned(),
            one(&event(3, "a")),
            one(&event(4, "b")),
            one(&event(5, "a")),
        ]
        .concat();
        let (mut out, page, _) = pages(true);
        follow(stream.as_bytes(), "a".parse().ok().as_ref(), 3, &mut out).unwrap();
        let seen: Vec<LedgerEvent> =
            page.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(seen.iter().map(|event| event.id).collect::<Vec<_>>(), [5]);
    }
}
