//! What just happened, in one sentence for the ear.

use protocol::{EventKind, LedgerEvent};

use super::{bytes, receipt, sentence, took};

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
}
