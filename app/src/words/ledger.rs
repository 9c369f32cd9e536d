//! What happened: in one sentence for the ear, and in columns for the eye.

use protocol::{EventKind, LedgerEvent, Reason};

use super::{bytes, receipt, sentence, took, why_it_went};

/// A ledger event as a sentence; empty for events that nobody needs to hear.
pub fn told(event: &LedgerEvent) -> String {
    let Some(model) = &event.model else { return String::new() };
    match event.kind {
        EventKind::Load => {
            let time = event.duration_ms.map_or_else(String::new, |ms| format!(" after {}", took(ms)));
            let holds = event.bytes_after.map_or_else(String::new, |b| format!(", holding {}", bytes(b)));
            format!("{model} is ready{time}{holds}.")
        }
        EventKind::Unload | EventKind::Evict => match &event.receipt {
            Some(one) => receipt(one).text(),
            None => format!("{model} was unloaded."),
        },
        EventKind::Crash => format!("{model} failed: {}", sentence(&event.reason)),
        EventKind::Refuse => format!("{model} was refused: {}", sentence(&event.reason)),
        _ => String::new(),
    }
}

/// A kind of event, as a table and a filter have it.
pub fn happened(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Load => "loaded",
        EventKind::Unload => "unloaded",
        EventKind::Evict => "evicted",
        EventKind::Refuse => "refused",
        EventKind::Crash => "failed",
        EventKind::Reclaim => "reclaimed",
        EventKind::Settings => "setting",
        EventKind::Disk => "files",
        EventKind::Session => "session",
        EventKind::Server => "server",
    }
}

/// Why it happened, in a sentence.
pub fn cause(event: &LedgerEvent) -> String {
    match &event.receipt {
        // A failure that ended an instance says more than that it failed.
        Some(one) if one.reason.word() == event.reason => match one.reason {
            // By whom stands beside it.
            Reason::Asked => "Asked.".to_owned(),
            Reason::Reload => "Reinitialised.".to_owned(),
            _ => sentence(&why_it_went(one)),
        },
        // What was set stands there as it was written.
        _ if event.kind == EventKind::Settings => event.reason.clone(),
        _ if event.reason == "request" => "For a request.".to_owned(),
        _ => sentence(&event.reason),
    }
}

/// What it did to memory: `33.1 MiB -> 0 MiB`; a single amount where there is no other; empty: nothing is known.
pub fn moved(event: &LedgerEvent) -> String {
    match (event.bytes_before, event.bytes_after) {
        (Some(before), Some(after)) => format!("{} \u{2192} {}", bytes(before), bytes(after)),
        (Some(one), None) | (None, Some(one)) => bytes(one),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use protocol::Time;

    #[test]
    fn loads_unloads_and_crashes_are_told_and_the_rest_is_not() {
        let mut event = LedgerEvent {
            id: 1,
            at: Time::from_unix_ms(0),
            kind: EventKind::Load,
            model: Some("smollm2".parse().unwrap()),
            reason: "asked".to_owned(),
            asked_by: "the page".to_owned(),
            duration_ms: Some(420),
            bytes_before: None,
            bytes_after: Some(33 << 20),
            receipt: None,
            detail: String::new(),
        };
        assert_eq!(told(&event), "smollm2 is ready after 0.42 s, holding 33.0 MiB.");
        event.kind = EventKind::Evict;
        event.receipt = Some(example::receipt("smollm2", 33 << 20, 33 << 20));
        assert_eq!(told(&event), "smollm2 gave back 33.0 of 33.0 MiB in 12 ms, measured.");
        event.kind = EventKind::Crash;
        event.reason = "the worker was killed by the kernel".to_owned();
        assert_eq!(told(&event), "smollm2 failed: The worker was killed by the kernel.");
        event.kind = EventKind::Settings;
        assert_eq!(told(&event), "");
    }

    #[test]
    fn a_row_tells_the_cause_of_an_unload_and_the_bytes_it_moved() {
        let mut event = example::event(7, EventKind::Unload, "smollm2");
        event.receipt = Some(example::receipt("smollm2", 33 << 20, 33 << 20));
        event.reason = "asked".to_owned();
        (event.bytes_before, event.bytes_after) = (Some(33 << 20), Some(0));
        assert_eq!(cause(&event), "Asked.");
        assert_eq!(moved(&event), "33.0 MiB \u{2192} 0 MiB");
        event.reason = "the worker was killed by the kernel".to_owned();
        assert_eq!(cause(&event), "The worker was killed by the kernel.");
        (event.bytes_before, event.bytes_after) = (None, None);
        assert_eq!(moved(&event), "");
    }
}
