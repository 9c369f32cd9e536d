//! Fetches under way: begun and cancelled from the page or the API, shown in every snapshot. One fetch at a time for
//! each reference; a failed one stays to be read until it is cleared away or tried again.

use std::{
    collections::BTreeMap,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use manager::{Desk, Note};
use protocol::{Code, Download, EventKind, Problem};
use store::{Cancel, PullProgress, Pulled, Reference, Store, StoreError};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::librarian::Librarian;

/// Fetches at the same time.
const MOST: usize = 4;
/// Failed ones that stay to be read.
const FAILED: usize = 20;

/// The owner of all fetches.
pub(crate) struct Fetches(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    desk: Desk,
    librarian: Librarian,
    tasks: TaskTracker,
    shown: watch::Sender<Vec<Download>>,
    running: Mutex<BTreeMap<String, Cancel>>,
}

impl Fetches {
    /// `shown` is what the snapshot's downloads are made of.
    pub(crate) fn new(
        store: Arc<Store>,
        desk: Desk,
        librarian: Librarian,
        tasks: TaskTracker,
        shown: watch::Sender<Vec<Download>>,
    ) -> Self {
        Self(Arc::new(Inner { store, desk, librarian, tasks, shown, running: Mutex::default() }))
    }

    /// Begins a fetch, or joins the one that is under way.
    pub(crate) async fn begin(&self, text: &str, by: String) -> Result<Download, Problem> {
        let reference = Reference::from_str(text).map_err(|e| e.problem())?;
        let cancel = Cancel::default();
        {
            let mut running = self.0.running();
            if running.contains_key(text) {
                return Ok(self.0.show(text, |_| {}));
            }
            if running.len() >= MOST {
                return Err(Problem::new(
                    Code::QueueFull,
                    format!("{MOST} models are being fetched already."),
                    "Wait for one of them, or cancel one.",
                )
                .retry_after(10));
            }
            running.insert(text.to_owned(), cancel.clone());
        }
        let begun = self.0.show(text, |download| *download = nothing_yet(text));
        let (inner, text) = (Arc::clone(&self.0), text.to_owned());
        self.0.tasks.spawn(async move { inner.carry(text, reference, by, cancel).await });
        Ok(begun)
    }

    /// Stops a fetch, or clears a failed one away. Whether there was one.
    pub(crate) fn cancel(&self, text: &str) -> bool {
        if let Some(cancel) = self.0.running().get(text) {
            cancel.cancel();
            return true;
        }
        self.0.shown.borrow().iter().any(|d| d.reference == text) && {
            self.0.hide(text);
            true
        }
    }

    /// Stops them all.
    pub(crate) fn cancel_all(&self) {
        for cancel in self.0.running().values() {
            cancel.cancel();
        }
    }
}

impl Inner {
    async fn carry(self: Arc<Self>, text: String, reference: Reference, by: String, cancel: Cancel) {
        let (inner, name) = (Arc::clone(&self), text.clone());
        let pulled = tokio::task::spawn_blocking(move || {
            let mut told = |progress: PullProgress| {
                inner.show(&name, |download| {
                    download.done_bytes = progress.done_bytes;
                    download.total_bytes = progress.total_bytes;
                });
            };
            inner.store.pull(&reference, None, &mut told, &cancel)
        })
        .await;
        self.running().remove(&text);
        match pulled {
            Ok(Ok(pulled)) => {
                self.librarian.look().await;
                self.hide(&text);
                self.note(&text, &pulled, by).await;
            }
            Ok(Err(StoreError::Cancelled)) => self.hide(&text),
            Ok(Err(error)) => self.fail(&text, &error.problem()),
            Err(_) => self.fail(&text, &crate::relay::lost()),
        }
    }

    async fn note(&self, text: &str, pulled: &Pulled, by: String) {
        let reason = if pulled.was_there { "was there already" } else { "fetched" };
        let note = Note {
            kind: EventKind::Disk,
            model: Some(pulled.id.clone()),
            reason: reason.to_owned(),
            by,
            bytes_before: None,
            bytes_after: Some(pulled.size_bytes),
            detail: text.to_owned(),
        };
        self.desk.note(note).await;
    }

    fn fail(&self, text: &str, problem: &Problem) {
        tracing::warn!("fetching {text}: {problem}");
        self.shown.send_modify(|all| failed(all, text, problem.to_string()));
    }

    /// Changes what is shown of one fetch, which appears if it was not shown.
    fn show(&self, text: &str, change: impl FnOnce(&mut Download)) -> Download {
        let mut shown = nothing_yet(text);
        self.shown.send_modify(|all| {
            let at = all.iter().position(|d| d.reference == text).unwrap_or_else(|| {
                all.push(nothing_yet(text));
                all.len() - 1
            });
            if let Some(download) = all.get_mut(at) {
                change(download);
                shown = download.clone();
            }
        });
        shown
    }

    fn hide(&self, text: &str) {
        self.shown.send_modify(|all| all.retain(|d| d.reference != text));
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Cancel>> {
        // Inserting and removing cannot leave it unsound.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts a failure at the end. Whoever asks again and again for what cannot be had pushes out the oldest ones.
fn failed(all: &mut Vec<Download>, text: &str, error: String) {
    let before = all.iter().position(|one| one.reference == text).map(|at| all.remove(at));
    all.push(Download { error: Some(error), ..before.unwrap_or_else(|| nothing_yet(text)) });
    let mut surplus = all.iter().filter(|one| one.error.is_some()).count().saturating_sub(FAILED);
    all.retain(|one| {
        one.error.is_none() || surplus == 0 || {
            surplus -= 1;
            false
        }
    });
}

fn nothing_yet(text: &str) -> Download {
    Download { reference: text.to_owned(), done_bytes: 0, total_bytes: None, error: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_failed_fetches_the_newest_twenty_stay_and_none_that_is_under_way_goes() {
        let mut all = vec![nothing_yet("under way")];
        for n in 0..50 {
            failed(&mut all, &format!("{n}"), "gone".to_owned());
        }
        failed(&mut all, "40", "gone again".to_owned());
        assert_eq!(all.len(), 1 + FAILED);
        assert_eq!(all[0].reference, "under way");
        assert_eq!(all[1].reference, "30");
        assert_eq!((all[20].reference.as_str(), all[20].error.as_deref()), ("40", Some("gone again")));
    }
}
