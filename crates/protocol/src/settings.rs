//! What can be set while the server runs, each value with where it came from.

use serde::{Deserialize, Serialize};

use crate::ModelId;

/// One value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// As a person writes it: `80%`, `1GiB`, `15m`, `never`.
    pub value: String,
    /// `default`, `saved`, `file`, `env` or `flag`.
    pub source: String,
    /// Whether the file, the environment or a flag decides, so that it cannot be changed here.
    pub locked: bool,
    /// Which file, or which variable; empty where there is only one.
    #[serde(default)]
    pub place: String,
}

/// What one model has of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSettings {
    /// Which.
    pub model: ModelId,
    /// Instead of the default.
    pub idle_timeout: Option<Setting>,
    /// Exempt from idle unload, eviction and clean-up.
    pub pinned: Option<Setting>,
    /// Positions that a sequence may have.
    pub context: Option<Setting>,
    /// How much it is worth keeping when room is made. No page shows it, and in the browser it would cost room.
    #[cfg_attr(target_family = "wasm", serde(skip))]
    #[serde(default)]
    pub weight: Option<Setting>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// RAM that models may take in all.
    pub ram_limit: Setting,
    /// RAM that stays free for others.
    pub reserve: Setting,
    /// Of each GPU, what models may take.
    pub gpu_limit: Setting,
    /// How long a model may be idle, unless it has a timeout of its own.
    pub idle_timeout: Setting,
    /// How long a session may be idle.
    pub session_timeout: Setting,
    /// How long a model stays after its last session has ended.
    pub after_last_session: Setting,
    /// What single models have of their own.
    pub models: Vec<ModelSettings>,
}

impl Settings {
    /// Every setting that is not one model's, by its key, in the order in which a page shows them.
    pub fn all(&self) -> Vec<(&'static str, &Setting)> {
        // In parts, so that a new one cannot be forgotten here.
        let Self {
            ram_limit,
            reserve,
            gpu_limit,
            idle_timeout,
            session_timeout,
            after_last_session,
            models: _,
        } = self;
        vec![
            ("idle_timeout", idle_timeout),
            ("session_timeout", session_timeout),
            ("after_last_session", after_last_session),
            ("ram_limit", ram_limit),
            ("reserve", reserve),
            ("gpu_limit", gpu_limit),
        ]
    }

    /// What a model has of its own. The environment may have named it in another case.
    pub fn of_model(&self, model: &str) -> Option<&ModelSettings> {
        let mut all = self.models.iter();
        let exact = all.clone().find(|one| one.model.as_str() == model);
        exact.or_else(|| all.find(|one| one.model.as_str().eq_ignore_ascii_case(model)))
    }
}
