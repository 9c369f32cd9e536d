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
    /// Only of this kind: load, unload, evict, refuse, crash, reclaim, settings, disk, session, server.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Not older than this: a span (1h) or a time.
    #[arg(long, value_name = "SINCE")]
    since: Option<String>,
    /// Not newer than this: a span (1h) or a time.
    #[arg(long, value_name = "UNTIL", conflicts_with = "follow")]
    until: Option<String>,
    /// The newest so many.
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
    let found = look_back(arguments, &client)?;
    if out.json && !arguments.follow {
        return out.value(&serde_json::to_value(&found).unwrap_or_default());
    }
    let mut last = 0;
    for event in found.events.iter().rev() {
        last = last.max(event.id);
        say(event, out)?;
    }
    match stream {
        Some(stream) => {
            let wanted = |event: &LedgerEvent| {
                let (model, kind) = (arguments.model.as_ref(), arguments.kind.as_deref());
                model.is_none_or(|model| event.model.as_ref() == Some(model))
                    && kind.is_none_or(|kind| event.kind.word() == kind)
            };
            follow(stream, wanted, last, out)
        }
        None => Ok(()),
    }
}

/// As many pages as it takes.
fn look_back(arguments: &Arguments, client: &Client) -> Result<History, Trouble> {
    let mut found = History { events: Vec::new(), next: None };
    loop {
        let left = usize::try_from(arguments.limit).unwrap_or(usize::MAX).saturating_sub(found.events.len());
        let (limit, after) = (left.min(1000).to_string(), found.next.map(|after| after.to_string()));
        let mut query = vec![("limit", limit.as_str())];
        query.extend(arguments.model.as_ref().map(|model| ("model", model.as_str())));
        query.extend(arguments.kind.as_deref().map(|kind| ("kind", kind)));
        query.extend(arguments.since.as_deref().map(|since| ("since", since)));
        query.extend(arguments.until.as_deref().map(|until| ("until", until)));
        query.extend(after.as_deref().map(|after| ("after", after)));
        let page: History = read(&client.get("/manage/history", &query)?)?;
        found.events.extend(page.events);
        found.next = page.next;
        if page.next.is_none() || found.events.len() >= usize::try_from(arguments.limit).unwrap_or(usize::MAX)
        {
            return Ok(found);
        }
    }
}

fn say(event: &LedgerEvent, out: &mut Output) -> Result<(), Trouble> {
    if out.json { out.value_line(event) } else { out.line(&line(event)) }
}

/// Until the server stops, or whoever reads us.
fn follow(
    mut stream: impl Read,
    wanted: impl Fn(&LedgerEvent) -> bool,
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
            if event.id > last && wanted(&event) {
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
        let of_a = |event: &LedgerEvent| event.model == "a".parse().ok();
        follow(stream.as_bytes(), of_a, 3, &mut out).unwrap();
        let seen: Vec<LedgerEvent> =
            page.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(seen.iter().map(|event| event.id).collect::<Vec<_>>(), [5]);
    }
}
