//! What happens, told to the archive and to whoever follows. The archive keeps it; nothing is kept here.

use std::sync::Arc;

use protocol::LedgerEvent;
use tokio::sync::broadcast;

use crate::ports::Archive;

/// Events that a follower may lag behind.
const FOLLOWED: usize = 256;

/// The ledger's way out. The actor writes, everybody may follow.
pub(crate) struct Ledger {
    archive: Arc<dyn Archive>,
    followers: broadcast::Sender<Arc<LedgerEvent>>,
}

impl Ledger {
    pub(crate) fn new(archive: Arc<dyn Archive>) -> Self {
        Self { archive, followers: broadcast::channel(FOLLOWED).0 }
    }

    pub(crate) fn follow(&self) -> broadcast::Receiver<Arc<LedgerEvent>> {
        self.followers.subscribe()
    }

    pub(crate) fn write(&self, event: LedgerEvent) {
        let event = Arc::new(event);
        // First kept, then told: whoever hears of it finds it in the history.
        self.archive.keep(&event);
        // Nobody follows: that is no failure.
        let _ = self.followers.send(event);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use protocol::{EventKind, Time};

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<u64>>);

    impl Archive for Kept {
        fn keep(&self, event: &Arc<LedgerEvent>) {
            self.0.lock().unwrap().push(event.id);
        }
    }

    fn event(id: u64) -> LedgerEvent {
        LedgerEvent {
            id,
            at: Time::from_unix_ms(0),
            kind: EventKind::Load,
            model: None,
            reason: String::new(),
            asked_by: String::new(),
            duration_ms: None,
            bytes_before: None,
            bytes_after: None,
            receipt: None,
            detail: String::new(),
        }
    }

    #[test]
    fn every_event_is_kept_and_a_follower_gets_what_comes_from_now_on() {
        let kept = Arc::new(Kept::default());
        let ledger = Ledger::new(kept.clone());
        ledger.write(event(1));
        let mut follower = ledger.follow();
        ledger.write(event(2));
        assert_eq!(follower.try_recv().unwrap().id, 2);
        assert!(follower.try_recv().is_err());
        assert_eq!(*kept.0.lock().unwrap(), [1, 2]);
    }
}
