//! The settings that a person may change while the server runs: checked by the rules of the configuration, applied at
//! once, kept in settings.toml. What a file, the environment or a flag decides stays as it is.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use protocol::{Code, ModelId, ModelSettings, Problem, Setting, Settings};
use tokio::sync::watch;

use crate::config::{Config, ConfigError, Layers, Source};

/// Keys of the configuration by their short names in the API.
const SHORT: [(&str, &str); 6] = [
    ("ram_limit", "memory.ram_limit"),
    ("reserve", "memory.reserve"),
    ("gpu_limit", "memory.gpu_limit"),
    ("idle_timeout", "idle.idle_timeout"),
    ("session_timeout", "idle.session_timeout"),
    ("after_last_session", "idle.after_last_session"),
];

/// The owner of what was saved.
pub(crate) struct Shelf {
    file: PathBuf,
    held: Mutex<Held>,
    shown: watch::Sender<Arc<Settings>>,
    turn: tokio::sync::Mutex<()>,
}

/// What holds now, as it was written and as it was checked.
struct Held {
    layers: Layers,
    config: Config,
}

impl Shelf {
    /// Lays what was saved under the other layers. A file that cannot be used is set aside, never overwritten.
    pub(crate) fn open(layers: Layers, data_dir: &Path) -> Result<Self, ConfigError> {
        let file = data_dir.join("settings.toml");
        let mut whole = layers;
        if file.exists() {
            let mut saved = Layers::empty();
            let checked = saved.add_file(Source::Saved, &file).and_then(|()| {
                let under = whole.over(&saved);
                Config::check(&under).map(|_| under)
            });
            match checked {
                Ok(under) => whole = under,
                Err(error) => set_aside(&file, &error),
            }
        }
        let config = Config::check(&whole)?;
        let shown = watch::Sender::new(Arc::new(settings(&whole)));
        let held = Mutex::new(Held { layers: whole, config });
        Ok(Self { file, held, shown, turn: tokio::sync::Mutex::default() })
    }

    /// What holds now, checked.
    pub(crate) fn config(&self) -> Config {
        self.lock().config.clone()
    }

    /// One changes at a time: what is kept last is also what is applied last.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Changes values and keeps them, all or none. A key is a full one, or a short one of the API. The value `default` forgets
    /// what was saved for its key.
    pub(crate) fn save(&self, values: &[(String, String)]) -> Result<Config, Problem> {
        let mut held = self.lock();
        let mut next = held.layers.clone();
        for (given, text) in values {
            let key =
                SHORT.iter().find(|(short, _)| short == given).map_or(given.as_str(), |(_, full)| *full);
            if let Some(entry) = held.layers.entry(key).filter(|entry| entry.source.locks()) {
                return Err(Problem::new(
                    Code::Conflict,
                    format!("`{key}` is decided by {entry} and cannot be changed here."),
                    "Change it there and start the server again.",
                )
                .about(given));
            }
            let changed = match app::manage::is_default(text) {
                true => next.forget_saved(key),
                false => next.set(Source::Saved, key, text),
            };
            changed.map_err(|e| unusable(&e))?;
        }
        let checked = Config::check(&next).map_err(|e| unusable(&e))?;
        self.write(&next).map_err(|e| {
            Problem::new(
                Code::Internal,
                format!("The settings could not be written to {}: {e}.", self.file.display()),
                "Check the disk and the rights of the data folder. Nothing was changed.",
            )
        })?;
        self.shown.send_replace(Arc::new(settings(&next)));
        *held = Held { layers: next, config: checked.clone() };
        Ok(checked)
    }

    /// Everything, with where it came from.
    pub(crate) fn settings(&self) -> Settings {
        (**self.shown.borrow()).clone()
    }

    /// The same, and every change of it.
    pub(crate) fn follow(&self) -> watch::Receiver<Arc<Settings>> {
        self.shown.subscribe()
    }

    /// Writes what was saved under a temporary name, then renames, so that a crash leaves the old or the new file.
    fn write(&self, layers: &Layers) -> std::io::Result<()> {
        let temporary = self.file.with_extension("toml.new");
        let mut file = fs::File::create(&temporary)?;
        file.write_all(layers.saved_toml().as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &self.file)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Every writer replaces the value whole, so a poisoned one is still sound.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unusable(error: &ConfigError) -> Problem {
    let refused = |message: String| Problem::new(Code::BadArgument, message, "Nothing was changed.");
    let ConfigError::BadValue { key, value, cause, .. } = error else { return refused(error.to_string()) };
    let short = SHORT.iter().find(|(_, full)| full == key).map_or(key.as_str(), |(short, _)| *short);
    let named = cause.contains(value.as_str()) && !value.is_empty();
    let message = if named { cause.clone() } else { format!("`{value}` cannot be used: {cause}") };
    refused(message).about(short)
}

/// Every setting, with where it came from.
fn settings(layers: &Layers) -> Settings {
    let one = |key: &str| setting(layers, key);
    let known = |key: &str| one(key).unwrap_or_default();
    let of_model = |model: ModelId| ModelSettings {
        idle_timeout: one(&format!("models.{model}.idle_timeout")),
        pinned: one(&format!("models.{model}.pinned")),
        context: one(&format!("models.{model}.context")),
        weight: one(&format!("models.{model}.weight")),
        model,
    };
    Settings {
        ram_limit: known("memory.ram_limit"),
        reserve: known("memory.reserve"),
        gpu_limit: known("memory.gpu_limit"),
        idle_timeout: known("idle.idle_timeout"),
        session_timeout: known("idle.session_timeout"),
        after_last_session: known("idle.after_last_session"),
        models: layers.models().unwrap_or_default().into_iter().map(of_model).collect(),
    }
}

fn setting(layers: &Layers, key: &str) -> Option<Setting> {
    layers.entry(key).map(|entry| Setting {
        value: entry.text.clone(),
        source: entry.source.word().to_owned(),
        locked: entry.source.locks(),
        place: entry.place.clone(),
    })
}

fn set_aside(file: &Path, error: &ConfigError) {
    let aside = file.with_extension("toml.unusable");
    match fs::rename(file, &aside) {
        Ok(()) => tracing::warn!("{error}; the saved settings were set aside as {}", aside.display()),
        Err(cause) => tracing::error!("{error}; and the file cannot be set aside: {cause}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(dir: &Path, flags: &[(&str, &str)]) -> Shelf {
        let mut layers = Layers::defaults();
        for (key, value) in flags {
            layers.set(Source::Flag, key, value).unwrap();
        }
        Shelf::open(layers, dir).unwrap()
    }

    fn save(shelf: &Shelf, values: &[(&str, &str)]) -> Result<Config, Problem> {
        let values: Vec<_> = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        shelf.save(&values)
    }

    #[test]
    fn what_was_saved_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let before = shelf(dir.path(), &[]);
        save(&before, &[("idle_timeout", "7m"), ("models.a.b-1.pinned", "true")]).unwrap();
        let after = shelf(dir.path(), &[]);
        assert_eq!(after.settings().idle_timeout.value, "7m");
        assert_eq!(after.settings().idle_timeout.source, "saved");
        let config = after.config();
        assert!(config.models[&"a.b-1".parse().unwrap()].pinned);
    }

    #[test]
    fn a_flag_locks_its_value_and_beats_what_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        save(&shelf(dir.path(), &[]), &[("session_timeout", "1m")]).unwrap();
        let locked = shelf(dir.path(), &[("idle.session_timeout", "9m")]);
        assert_eq!(locked.settings().session_timeout.value, "9m");
        let problem = save(&locked, &[("session_timeout", "2m")]).unwrap_err();
        assert_eq!(problem.code, Code::Conflict);
        assert!(problem.message.contains("flag"), "{problem}");
    }

    #[test]
    fn the_way_back_to_the_default_is_the_word_default() {
        let dir = tempfile::tempdir().unwrap();
        let before = shelf(dir.path(), &[]);
        let all = ["idle_timeout", "models.a.idle_timeout", "models.a.weight"];
        save(&before, &all.map(|key| (key, "3"))).unwrap();
        assert_eq!(before.settings().of_model("a").unwrap().weight.as_ref().unwrap().value, "3");
        save(&before, &all.map(|key| (key, " Default"))).unwrap();
        for shelf in [&before, &self::shelf(dir.path(), &[])] {
            let settings = shelf.settings();
            assert_eq!(
                (settings.idle_timeout.value.as_str(), settings.idle_timeout.source.as_str()),
                ("15m", "default")
            );
            assert_eq!(settings.of_model("a"), None, "it has nothing of its own any more");
        }
        save(&before, &[("models.a.weight", "default")]).unwrap();
        assert_eq!(save(&before, &[("models.a.wait", "default")]).unwrap_err().code, Code::BadArgument);
        let locked = self::shelf(dir.path(), &[("idle.idle_timeout", "9m")]);
        assert_eq!(save(&locked, &[("idle_timeout", "default")]).unwrap_err().code, Code::Conflict);
    }

    #[test]
    fn a_bad_value_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = shelf(dir.path(), &[]);
        for (key, value) in
            [("idle_timeout", "soon"), ("ram_limit", "lots"), ("models.x.context", "-1"), ("nonsense", "1")]
        {
            let problem = save(&shelf, &[("reserve", "2GiB"), (key, value)]).unwrap_err();
            assert_eq!(problem.code, Code::BadArgument, "{key}");
        }
        assert!(!dir.path().join("settings.toml").exists());
    }

    #[test]
    fn saved_settings_that_cannot_be_used_are_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("settings.toml"), "[idle]\nidle_timeout = \"soon\"").unwrap();
        assert_eq!(shelf(dir.path(), &[]).settings().idle_timeout.value, "15m");
        assert!(dir.path().join("settings.toml.unusable").exists());
    }
}
