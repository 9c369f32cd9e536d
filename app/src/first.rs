//! What the first paint needs. It travels inside the HTML, so the browser's first render agrees with the server's.

use leptos::prelude::*;
use protocol::{Budget, Server, ServerState, Settings, Snapshot, Time};
use serde::{Deserialize, Serialize};

use crate::{Notice, Prepared, Theme, chat::Turn};

/// Everything a page is first drawn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct First {
    /// The house.
    pub snapshot: Snapshot,
    /// What can be set.
    pub settings: Settings,
    /// Where this server is reached, as this browser wrote it: `http://127.0.0.1:7878`.
    pub base_url: String,
    /// What the verb before this page said, once.
    pub notice: Option<Notice>,
    /// How it looks.
    pub theme: Theme,
    /// This browser's conversation, as the server keeps it for the page without JavaScript; empty on other pages.
    pub conversation: Vec<Turn>,
    /// What else the page needs.
    #[serde(default)]
    pub prepared: Prepared,
}

impl Default for First {
    fn default() -> Self {
        Self {
            snapshot: nothing_yet(),
            settings: Settings::default(),
            base_url: String::new(),
            notice: None,
            theme: Theme::System,
            conversation: Vec::new(),
            prepared: Prepared::default(),
        }
    }
}

/// The first paint's data: taken from the contexts on the server, read from the HTML in the browser. Where nothing
/// can be read the page begins empty, and the event stream mends it within a second.
pub fn take() -> First {
    crate::json::read(&SharedValue::new_str(gather).into_inner()).unwrap_or_default()
}

#[cfg(feature = "ssr")]
fn gather() -> String {
    serde_json::to_string(&crate::request::gather()).unwrap_or_default()
}

/// Only reached when the HTML carries no such value.
#[cfg(not(feature = "ssr"))]
fn gather() -> String {
    String::new()
}

/// The house before anything is known about it.
pub fn nothing_yet() -> Snapshot {
    let never = Time::from_unix_ms(0);
    Snapshot {
        sequence: 0,
        at: never,
        measured_at: None,
        server: Server {
            version: String::new(),
            pid: 0,
            started_at: never,
            private_bytes: None,
            spare: None,
            state: ServerState::Ready,
            models_dir: String::new(),
        },
        host: None,
        gpu_absent: None,
        gpus: Vec::new(),
        budget: Budget { ram_limit_bytes: 0, ram_reserved_bytes: 0, gpus: Vec::new() },
        books: Vec::new(),
        yield_until: None,
        downloads: Vec::new(),
        models: Vec::new(),
        sessions: Vec::new(),
        requests: Vec::new(),
        receipts: Vec::new(),
        warnings: Vec::new(),
    }
}
