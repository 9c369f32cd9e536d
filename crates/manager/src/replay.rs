//! What the ledger alone says about the models: the house, read back from what was written down.

use std::collections::BTreeMap;

use protocol::{EventKind, LedgerEvent, ModelId, Time, Verdict};

/// The reason of the event with which a server begins; whatever was loaded before it is gone with its server.
pub const STARTED: &str = "started";
/// And of the one with which it ends in order.
pub const STOPPED: &str = "stopped";

/// How the ledger leaves a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has an instance that came ready and has not been released.
    Loaded {
        /// Since when.
        since: Time,
        /// Private bytes at ready, if they were measured.
        bytes: Option<u64>,
    },
    /// Its worker could not be ended.
    Stuck,
}

/// Replays events, oldest first. Models that hold nothing are left out.
pub fn replay<'a>(events: impl IntoIterator<Item = &'a LedgerEvent>) -> BTreeMap<ModelId, Standing> {
    let mut standing = BTreeMap::new();
    for event in events {
        if event.kind == EventKind::Server && event.reason == STARTED {
            standing.clear();
        }
        let Some(model) = &event.model else { continue };
        match event.kind {
            EventKind::Load => {
                let loaded = Standing::Loaded { since: event.at, bytes: event.bytes_after };
                standing.insert(model.clone(), loaded);
            }
            EventKind::Unload | EventKind::Evict => {
                let stuck = event.receipt.as_ref().is_some_and(|proof| proof.verdict == Verdict::Stuck);
                if stuck {
                    standing.insert(model.clone(), Standing::Stuck);
                } else {
                    standing.remove(model);
                }
            }
            _ => {}
        }
    }
    standing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, model: Option<&str>, reason: &str) -> LedgerEvent {
        LedgerEvent {
            id: 1,
            at: Time::from_unix_ms(5),
            kind,
            model: model.map(|model| model.parse().unwrap()),
            reason: reason.to_owned(),
            asked_by: String::new(),
            duration_ms: None,
            bytes_before: None,
            bytes_after: Some(7),
            receipt: None,
            detail: String::new(),
        }
    }

    #[test]
    fn what_was_loaded_before_a_start_is_gone() {
        let mut events = vec![event(EventKind::Load, Some("a"), "request")];
        let loaded = Standing::Loaded { since: Time::from_unix_ms(5), bytes: Some(7) };
        assert_eq!(replay(&events).into_values().collect::<Vec<_>>(), [loaded]);
        events.push(event(EventKind::Server, None, STOPPED));
        assert_eq!(replay(&events).len(), 1, "only a start or an unload ends an instance");
        events.push(event(EventKind::Server, None, STARTED));
        assert!(replay(&events).is_empty());
    }
}
